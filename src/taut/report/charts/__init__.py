"""One chart grammar: every picture of a result, as Vega-Lite in plain data.

The same specification serves the page, the notebook (`.chart()`), files (`.save("x.svg")`) and the
documentation. Specifications are written out, and need no package; only drawing them does. They
hold their data, fetch nothing, and use no expression that needs `eval`: Vega's interpreter
(`ast: true`) renders them under a strict Content-Security-Policy. No statistic is computed here.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from taut.report.charts.chart import Chart
from taut.report.charts.theme import sized, themed

if TYPE_CHECKING:
    from taut.draws.rollouts import Rollouts
    from taut.results import Document

__all__ = ["Chart", "charts", "sized", "themed"]


def charts(result: "Document | Rollouts") -> dict[str, Chart]:
    """Return the charts of a result, or of a log, by their names, the first to look at in front.

    Args:
        result: What a verb returned, or rollouts. One without a picture gives an empty dict.
    """
    from taut.draws.rollouts import Rollouts
    from taut.report.charts import forest, lines, log, paths, planning, waterfall

    makers: dict[str, tuple[Callable[[Any], Iterable[Chart]], ...]] = {
        "taut.certificate": (waterfall.certificate_charts,),
        "taut.certificates": (lines.step_charts, forest.group_charts),
        "taut.comparison": (forest.comparison_charts,),
        "taut.lab": (lines.lab_charts,),
        "taut.monitor": (paths.monitor_charts,),
        "taut.plan": (planning.plan_charts,),
        "taut.selection": (lines.selection_steps, forest.selection_charts),
        "taut.threshold": (planning.threshold_charts,),
        "taut.watch": (paths.watch_charts,),
    }
    if isinstance(result, Rollouts):
        return {item.name: item for item in log.rollout_charts(result)}
    schema = result.document["schema"].partition("/")[0]
    return {item.name: item for make in makers.get(schema, ()) for item in make(result)}

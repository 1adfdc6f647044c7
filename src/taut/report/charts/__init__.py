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
    from taut.results import Document

__all__ = ["Chart", "charts", "sized", "themed"]


def charts(result: "Document") -> dict[str, Chart]:
    """Return the charts of a result by their names, the one to look at first in front.

    Args:
        result: What a verb returned. A result without a picture gives an empty dict.
    """
    from taut.report.charts import waterfall

    makers: dict[str, Callable[[Any], Iterable[Chart]]] = {
        "taut.certificate": waterfall.certificate_charts,
    }
    schema = result.document["schema"].partition("/")[0]
    made = makers[schema](result) if schema in makers else ()
    return {item.name: item for item in made}

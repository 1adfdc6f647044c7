"""The door to the reports: from a result to its terminal report, its page and its notebook view."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taut.errors import UsageError
from taut.logs.write import whole_file

if TYPE_CHECKING:
    import altair
    from rich.console import RenderableType

    from taut.decisions.budget.what_if import WhatIf
    from taut.draws.rollouts import Rollouts
    from taut.report.charts import Chart
    from taut.report.page import Made
    from taut.report.page.rollouts import Shown
    from taut.results import Document


def terminal_report(result: "Document") -> "RenderableType":
    """Return the terminal report of a result, by its schema.

    Raises:
        KeyError: A schema that no report shows.
    """
    from taut.report.terminal import (
        budget,
        certificate,
        comparison,
        foundations,
        groups,
        lab,
        monitor,
        selection,
        threshold,
    )

    reports: dict[str, Callable[[Any], RenderableType]] = {
        "taut.certificate": certificate.certificate_report,
        "taut.certificates": groups.groups_report,
        "taut.comparison": comparison.comparison_report,
        "taut.health": foundations.health_report,
        "taut.lab": lab.lab_report,
        "taut.monitor": monitor.monitor_report,
        "taut.plan": budget.plan_report,
        "taut.selection": selection.selection_report,
        "taut.threshold": threshold.threshold_report,
        "taut.transport": certificate.transport_report,
        "taut.watch": monitor.watch_report,
    }
    return reports[result.document["schema"].partition("/")[0]](result)


def report_text(result: "Document", *, width: int = 100) -> str:
    """Return the report of a result as plain text, without colour.

    Args:
        result: What a verb returned.
        width: Cells in a line.
    """
    from taut.report.terminal.layout import plain_text

    return plain_text(terminal_report(result), width=width)


def report_html(result: "Document | Rollouts") -> str:
    """Return a result, or a log, as a fragment of HTML, for notebooks."""
    from taut.report.notebook import fragment

    return fragment(result)


def report_page(
    result: "Document",
    made: "Made | None" = None,
    rollouts: "Shown | None" = None,
    what_if: "WhatIf | None" = None,
) -> str:
    """Return a result as a page of HTML: one file that needs no network.

    Args:
        result: What a verb returned.
        made: How it was made: the command, the log, its hashes.
        rollouts: Of its log, where they are to be looked at.
        what_if: Forecasts for other counts of labels and prompts, where there are some.
    """
    from taut.report.page import build

    return build(result, made, rollouts, what_if)


def chart_named(result: "Document | Rollouts", name: str | None) -> "Chart":
    """Return a chart of a result, or of a log; the first one by default.

    Raises:
        UsageError: It has no such chart, or none.
    """
    from taut.report.charts import charts

    found = charts(result)
    if not found:
        raise UsageError(f"a {type(result).__name__} like this one has no chart.")
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        raise UsageError(f"no chart {name!r}; there are {', '.join(found)}.")
    return found[name]


def altair_chart(result: "Document | Rollouts", name: str | None) -> "altair.TopLevelMixin":
    """Return a chart as Altair's object; see `chart_named`."""
    from taut.report.charts.draw import altair_of

    return altair_of(chart_named(result, name))


def save_picture(
    result: "Document | Rollouts", path: str | os.PathLike, name: str | None = None
) -> None:
    """Write a chart of a result as .svg or .png; see `chart_named`."""
    from taut.report.charts.draw import save_chart

    save_chart(chart_named(result, name), path)


def save(result: "Document", path: str | os.PathLike, chart: str | None = None) -> None:
    """Write a result as JSON, as a page, or one of its charts, as the ending of the name says.

    Raises:
        UsageError: Another ending; no such chart.
        LogError: The file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending in (".svg", ".png"):
        save_picture(result, path, chart)
        return
    if ending == ".json":
        text = result.to_json()
    elif ending in (".html", ".htm"):
        text = report_page(result)
    else:
        raise UsageError(f"{path}: expected a name that ends in .json, .html, .svg or .png.")
    with whole_file(os.fspath(path)) as file:
        file.write(text.encode())

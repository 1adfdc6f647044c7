"""The door to the reports: from a result to its terminal text and its fragment of a notebook."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from taut.results import Document


def terminal_report(document: Mapping) -> RenderableType:
    """Return the terminal report of a document, by its schema.

    Raises:
        KeyError: A schema that no report shows.
    """
    from taut.report.terminal import budget, certificate, lab, monitor, selection, threshold

    reports: dict[str, Callable[[Mapping], RenderableType]] = {
        "taut.certificate": certificate.certificate_report,
        "taut.certificates": certificate.groups_report,
        "taut.transport": certificate.transport_report,
        "taut.selection": selection.selection_report,
        "taut.threshold": threshold.threshold_report,
        "taut.plan": budget.plan_report,
        "taut.watch": monitor.watch_report,
        "taut.monitor": monitor.monitor_report,
        "taut.lab": lab.lab_report,
        "taut.health": lambda found: certificate.health_report(found["health"], found["log"]),
    }
    return reports[str(document["schema"]).partition("/")[0]](document)


def report_text(result: "Document", *, width: int = 100) -> str:
    """Return the report of a result as plain text, without colour."""
    page = io.StringIO()
    console = Console(file=page, width=width, highlight=False, emoji=False, no_color=True)
    console.print(terminal_report(result.document))
    return page.getvalue().strip("\n")


def report_html(result: "Document") -> str:
    """Return a result as a fragment of HTML, for notebooks."""
    from html import escape

    from taut.report.notebook import certificate_html

    if result.document["schema"].startswith("taut.certificate/"):
        return certificate_html(result.document)
    return f"<pre>{escape(report_text(result))}</pre>"

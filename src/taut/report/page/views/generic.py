"""The page of a result that has no view of its own: its terminal report, and its charts."""

from taut.report.page.blocks import Block, Figure, Section, Text, View
from taut.results import Document


def generic_view(found: Document) -> View:
    """Return a page whose words are those of the terminal report."""
    from taut.report.charts import charts
    from taut.report.door import report_text

    text = report_text(found)
    first, _, _ = text.strip().partition("\n\n")
    figures: list[Block] = [Figure(name) for name in charts(found)]
    return View(
        verdict=" ".join(first.split()) or found.document["schema"],
        kind=found.document["schema"].partition("/")[0],
        sections=[Section("report", "Report", [*figures, Text(text, "report")])],
    )

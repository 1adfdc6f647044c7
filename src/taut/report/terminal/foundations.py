"""What a result rests on: assumptions, the δ ledger, settings, and the health of the log."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taut.auditing.certificate import Certificate
from taut.auditing.health import Health
from taut.draws.assumptions import Assumption, Standing
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.report import names, statements, wording
from taut.report.terminal.charts import STATUS_STYLES, Ink
from taut.report.terminal.layout import LABEL, PROSE, Report, flow, grid, heading, spaced

LONGEST_STANDING = 10  # cells of "in doubt" or "violated", and the gap after it

_STYLES = {Standing.VIOLATED: STATUS_STYLES[FAIL], Standing.IN_DOUBT: STATUS_STYLES[WARN]}


def foundation_lines(found: Certificate, ink: Ink) -> list[RenderableType]:
    """List the assumptions with how they stand, the δ ledger and the settings."""
    lines: list[RenderableType] = [heading(ink, "What it rests on")]
    lines += assumption_table(found.assumptions, ink)
    if declare := wording.to_declare(found):
        lines.append(ink.text(declare))
    lines += flow(statements.ledger_text(found.ledger, found.settings.delta), ink, " + ")
    return lines + flow(statements.settings_text(found), ink)


def assumption_table(assumptions: Iterable[Assumption], ink: Ink) -> list[Table]:
    """Return the assumptions, each with how it stands; nothing where there are none."""
    table = grid(LABEL, PROSE)
    for item in assumptions:
        shown = ink.text(item.text[:1].upper() + item.text[1:])
        if item.by:
            longer = shown.copy().append(" ").append_text(ink.text(f"– {item.by}", "dim"))
            # Who says so is worth the rest of the line, not a second one: JSON has it.
            fits = longer.cell_len <= ink.width - LONGEST_STANDING
            shown = longer if fits or item.doubted else shown
        table.add_row(ink.text(wording.standing(item), _STYLES.get(item.stands, "dim")), shown)
    return [table] if table.row_count else []


def health_lines(checks: Sequence[Check], ink: Ink) -> list[RenderableType]:
    """Show warnings and failures in full, the rest as counts."""
    if not checks:
        return []
    title = heading(ink, "Health of the log", statements.health_sentence(checks))
    troubles = _in_order(checks, (FAIL, WARN, NOTE))
    return [title, *([_check_table(troubles, ink)] if troubles else [])]


def health_report(found: Health) -> RenderableType:
    """Return the report of `taut check`."""
    return Report(lambda ink: _health_page(found, ink))


def _health_page(found: Health, ink: Ink) -> list[RenderableType]:
    sentence, log = statements.health_sentence(found.health), found.log
    lines: list[RenderableType] = [ink.text(f"{sentence[:1].upper()}{sentence[1:]}.", "bold")]
    counts = statements.counts_text(log.rollouts, log.prompts, rejected=log.rejected_rows)
    ordered = _in_order(found.health, (FAIL, WARN, NOTE, NOT_CHECKED, PASS))
    table = [_check_table(ordered, ink)] if ordered else []
    return spaced([lines + flow(counts, ink), _certifiable(found, ink), table])


def _certifiable(found: Health, ink: Ink) -> list[RenderableType]:
    """Say of each target what a certificate could be worth, and what keeps it from more."""
    table = grid(LABEL, LABEL, PROSE)
    for item in found.certifiable:
        worth = ink.text("not to be had", "dim") if item.status is None else ink.status(item.status)
        table.add_row(ink.text(names.TARGET_NAMES[item.target]), worth, ink.text(item.reason))
    return [heading(ink, "What it can certify"), table]


def _in_order(checks: Sequence[Check], statuses: Sequence[str]) -> list[Check]:
    return [check for status in statuses for check in checks if check.status == status]


def _check_table(checks: Sequence[Check], ink: Ink) -> Table:
    table = grid(LABEL, PROSE)
    for check in checks:
        strong = "bold" if check.status in (FAIL, WARN) else ""
        text = ink.text(statements.check_name(check), strong)
        if check.detail:
            text.append(" ").append_text(ink.text(f"– {check.detail}"))
        if check.remedy and check.status != PASS:
            arrow = "->" if ink.ascii else "→"
            text.append_text(Text(f"\n{arrow} ")).append_text(ink.text(check.remedy))
        table.add_row(ink.status(check.status), text)
    return table

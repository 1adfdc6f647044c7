"""Pictures of a certificate: its interval beside others, and its terms as bars about zero."""

from dataclasses import dataclass

from rich.console import RenderableType

from taut.auditing.certificate import Certificate, TermResult
from taut.report import statements, wording
from taut.report.digits import decimals_for, down, interval, near, up
from taut.report.names import TERM_NAMES
from taut.report.terminal.charts import STATUS_STYLES, Axis, Ink, Ruler, SignedBar, Span, axis_for
from taut.report.terminal.layout import LABEL, NUMBER, PICTURE, flow, grid, heading
from taut.report.wording import Ends, ends

THEORY = "theory: docs/theory.md of taut, with proofs"
LONGEST_NOTE = 28  # cells; longer notes stand below a picture instead of squeezing it


@dataclass(frozen=True, slots=True)
class _Row:
    """One interval of the picture; a heavy one is ours."""

    label: str
    bounds: Ends | None
    note: str
    heavy: bool


def interval_lines(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Draw the measured point, our interval, the paper's and the normal one on one axis."""
    rows, measured = _rows(found), wording.measured_of(found)
    drawn = [row for row in rows if row.bounds]
    if not drawn:
        return []
    ours = [row for row in drawn if row.heavy] or drawn
    axis = axis_for([*_ends_of(ours), *([] if measured is None else [measured])], _ends_of(drawn))
    digits = wording.table_decimals(found)
    table = grid(LABEL, PICTURE, NUMBER, LABEL, expand=True, gap=1 if ink.narrow else 2)
    if measured is not None:
        dot = Span(ink, axis, point=measured)
        table.add_row(ink.text("measured"), dot, ink.text(near(measured, digits)), "")
    for row in rows:
        table.add_row(*_cells(row, axis, measured, digits, ink))
    table.add_row("", Ruler(ink, axis, labels=False), "", "")
    table.add_row("", Ruler(ink, axis, labels=True), ink.text(wording.units_of(found), "dim"), "")
    return [table]


def _ends_of(rows: list[_Row]) -> list[float]:
    return [end for row in rows for end in row.bounds]


def _cells(
    row: _Row, axis: Axis, measured: float | None, digits: int, ink: Ink
) -> list[RenderableType]:
    quiet = "" if row.heavy else "dim"
    style = STATUS_STYLES.get(row.note, "") if row.heavy else "dim"
    span = Span(ink, axis, row.bounds, guide=measured, style=style, heavy=row.heavy)
    shown = ink.text(interval(*row.bounds, digits) if row.bounds else "–", quiet)
    note = ink.status(row.note) if row.heavy else ink.text(row.note, "dim")
    return [ink.text(row.label), span, shown, "" if ink.narrow else note]


def _rows(found: Certificate) -> list[_Row]:
    measured, rows = wording.measured_of(found), []
    if wording.learned_only(found):
        proxy = wording.proxy_of(found)
        rows.append(_Row("learned", ends(proxy), proxy.status, True))
    name = "true" if rows else "taut"
    rows.append(_Row(name, ends(found.certificate), wording.status_of(found), True))
    total = found.paper.total
    if total is not None and measured is not None:
        rows.append(_Row("paper", (measured - total, measured + total), "Theorem 1", False))
    normal = found.comparison
    if normal.normal_lower is not None and normal.normal_upper is not None:
        bounds = (normal.normal_lower, normal.normal_upper)
        rows.append(_Row("normal", bounds, "not a certificate", False))
    return rows


def term_lines(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Draw the three terms as signed bars about zero."""
    entries = found.terms.named()
    bounds = [both for _, entry in entries if (both := ends(entry))]
    reach = (
        max([0.0, *(-lower for lower, _ in bounds)]),
        max([0.0, *(upper for _, upper in bounds)]),
    )
    digits = decimals_for(sum(reach), steps=100)
    notes = {name: _note(entry) for name, entry in entries}
    beside = ink.wide and max(map(len, notes.values())) <= LONGEST_NOTE
    columns = [LABEL, NUMBER, PICTURE, NUMBER, LABEL] + ([LABEL] if beside else [])
    table = grid(*columns, expand=True, gap=1 if ink.narrow else 2)
    for name, entry in entries:
        row = _term_cells(name, entry, reach, digits, ink)
        table.add_row(*row, *([ink.text(notes[name], "dim")] if beside else []))
    title = heading(ink, "Between measured and true", "each error's share, reward units")
    lines: list[RenderableType] = [title, table]
    if not beside:
        said = [f"{TERM_NAMES[name]}: {note}" for name, note in notes.items() if note]
        lines += flow(" · ".join(said), ink)
    if any(entry.source for _, entry in entries):
        lines.append(ink.text(THEORY, "dim"))
    for line in statements.log_ratio_lines(found):
        lines += flow(line, ink)
    return lines


def _note(entry: TermResult) -> str:
    """Return how a term was bounded: its route and the section of the theory."""
    route = statements.route_name(entry.route)
    return ", ".join(part for part in (route, entry.source) if part)


def _term_cells(
    name: str, entry: TermResult, reach: tuple[float, float], digits: int, ink: Ink
) -> list[RenderableType]:
    both = ends(entry)
    bar = SignedBar(ink, both, reach, STATUS_STYLES.get(entry.status, ""))
    low = down(both[0], digits, signed=True) if both else "–"
    high = up(both[1], digits, signed=True) if both else "–"
    label = ink.text(TERM_NAMES[name])
    return [label, ink.text(low), bar, ink.text(high), ink.status(entry.status)]

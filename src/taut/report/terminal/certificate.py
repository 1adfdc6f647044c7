"""What a person sees of a certificate in the terminal.

The verdict comes first, then a picture, then what it is made of and what it rests on. Nothing is
computed here beyond differences and ratios of printed numbers.
"""

from rich.console import RenderableType
from rich.text import Text

from taut.auditing.certificate import Certificate, Target
from taut.decisions.transport.result import Transport, TransportState
from taut.report import statements, wording
from taut.report.digits import decimals_for, down, interval, level_text, near, plus_minus, up
from taut.report.names import PAPER_NEEDS, ROUTE_LABELS, TARGET_FORMULAS, TARGET_NAMES, TERM_NAMES
from taut.report.terminal.charts import Ink
from taut.report.terminal.foundations import assumption_table, foundation_lines, health_lines
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PROSE,
    Report,
    flow,
    grid,
    heading,
    spaced,
    titled,
)
from taut.report.terminal.pictures import interval_lines, term_lines
from taut.report.wording import ends
from taut.types import Status

LONGEST_TARGET_NOTE = 36  # cells; longer notes stand below the table

_STATE_STYLES = {TransportState.PASS: "green", TransportState.FAIL: "red"}


def certificate_report(found: Certificate) -> RenderableType:
    """Return the report of one certificate."""
    return Report(lambda ink: certificate_lines(found, ink))


def certificate_lines(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Return the certificate, section by section."""
    sections = (
        _verdict,
        interval_lines,
        term_lines,
        _targets,
        _routes,
        _transport,
        _paper,
        foundation_lines,
        lambda found, ink: health_lines(found.health, ink),
        _advice,
    )
    return spaced([section(found, ink) for section in sections])


def _verdict(found: Certificate, ink: Ink) -> list[RenderableType]:
    verdict = wording.verdict(found)
    lines: list[RenderableType] = [ink.text(verdict.sentence, "bold")]
    lines.append(_standing(found, verdict, ink))
    lines += [ink.text(detail) for detail in verdict.details]
    if found.log.cells > 1:
        lines.append(ink.text(statements.estimand_text(found.log)))
    return lines + flow(statements.log_text(found.log), ink)


def _standing(found: Certificate, verdict: wording.Verdict, ink: Ink) -> Text:
    """Say what the status belongs to, and the whole interval."""
    name = f"{TARGET_NAMES[found.target]} {TARGET_FORMULAS[found.target]}"
    if verdict.learned_only:
        return ink.status(Status.VACUOUS, f"for the true {name}")
    bounds, digits = ends(found.certificate), wording.table_decimals(found)
    text = ink.status(verdict.status).append("  ").append_text(ink.text(name))
    if bounds is None:
        return text
    low, high = down(bounds[0], digits), up(bounds[1], digits)
    units = wording.units_of(found)
    return text.append(" ").append_text(ink.text(f"is between {low} and {high} {units}"))


def _targets(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Show all three targets, each with its own status."""
    digits = wording.table_decimals(found)
    # The formulas give way to the intervals of the learned reward, which need the room.
    formulas = ink.wide and not wording.learned_only(found)
    columns = [LABEL, *([LABEL] if formulas else []), NUMBER, NUMBER, PROSE]
    table = grid(*columns, gap=1 if ink.narrow else 2)
    usual = found.terms.reward_shift.route
    notes = {name: _target_note(entry, usual, digits) for name, entry in found.targets.items()}
    beside = ink.wide and max(map(len, notes.values())) <= LONGEST_TARGET_NOTE
    for name, entry in found.targets.items():
        label = ink.text(TARGET_NAMES[name], "bold" if name == found.target else "")
        formula = [ink.text(TARGET_FORMULAS[name], "dim")] if formulas else []
        note = notes[name] if beside else ""
        table.add_row(label, *formula, *_target_cells(entry, digits, note, ink))
    each = f"each holds at {level_text(found.level)} on its own, not all at once"
    said = [f"{TARGET_NAMES[name]}: {note}" for name, note in notes.items() if note]
    below = [] if beside else flow(" · ".join(said), ink)
    return [heading(ink, "The three targets", each), table, *below]


def _target_note(entry: Target, usual: str | None, digits: int) -> str:
    """Return what is special about a target: the learned reward's interval, or its own route."""
    proxy = ends(entry.proxy)
    if entry.status == Status.VACUOUS and proxy:
        return f"learned {interval(*proxy, digits)}, {entry.proxy.status}"
    return "" if entry.route == usual else statements.route_name(entry.route)


def _target_cells(entry: Target, digits: int, note: str, ink: Ink) -> list[Text]:
    if entry.unavailable:
        why = ink.text(f"unavailable: {entry.unavailable}", "dim")
        return [ink.text("–"), ink.text("–"), why]
    bounds = ends(entry)
    return [
        ink.text("–" if entry.measured is None else near(entry.measured, digits)),
        ink.text(interval(*bounds, digits) if bounds else "–"),
        ink.status(entry.status or Status.VACUOUS, note),
    ]


def _routes(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Show every way to bound the reward shift beside the one taken, where there is a choice."""
    choice = any(item.route in ("paper", "centred") and ends(item) for item in found.routes)
    if found.coverage is None and not choice:
        return []
    digits = wording.table_decimals(found)
    table = grid(LABEL, NUMBER, LABEL, PROSE, gap=1 if ink.narrow else 2)
    for item in found.routes:
        bounds = ends(item)
        taken = bounds is not None and not item.reason
        table.add_row(
            ink.text(ROUTE_LABELS.get(item.route, item.route)),
            ink.text(interval(*bounds, digits) if bounds else "–"),
            ink.status(item.status) if bounds else ink.text("not open", "dim"),
            ink.text("taken" if taken else item.reason, "bold" if taken else "dim"),
        )
    lines = [heading(ink, "Ways to the true reward", "each would hold on its own"), table]
    if found.coverage is None:
        return lines
    lines += flow(statements.coverage_text(found.coverage), ink)
    return [*lines, *flow(statements.sensitivity_text(found), ink)]


def _transport(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Show the verdict on a reward that was calibrated on older data."""
    if found.transport is None:
        return []
    return _calibrated(Transport.model_validate(found.transport), ink)


def _calibrated(found: Transport, ink: Ink) -> list[RenderableType]:
    """Say how a calibrated reward did, and what it predicts."""
    title = heading(ink, "Calibrated reward", "fitted on the reward data, audited on the labels")
    state = ink.text(found.state, _STATE_STYLES.get(found.state, "yellow"))
    line = Text.assemble(state, "  ", ink.text(found.detail))
    return [title, line, *flow(statements.transport_text(found), ink)]


def transport_report(found: Transport) -> RenderableType:
    """Return the report of a reward that was calibrated on older data."""
    return Report(lambda ink: _transport_page(found, ink))


def _transport_page(found: Transport, ink: Ink) -> list[RenderableType]:
    rests = [heading(ink, "What it rests on"), *assumption_table(found.assumptions, ink)]
    return spaced([_calibrated(found, ink), rests, health_lines(found.health, ink)])


def _paper(found: Certificate, ink: Ink) -> list[RenderableType]:
    """Set the paper's half-widths beside ours, term by term."""
    ours = {name: half_width(term) for name, term in found.terms.named()}
    ours["total"] = half_width(found.certificate)
    known = [value for value in ours.values() if value]
    digits = decimals_for(max(known, default=None), steps=50)
    rows = [_paper_cells(name, half, found, digits, ink) for name, half in ours.items()]
    columns = (("", LABEL), ("taut", NUMBER), ("paper", NUMBER), ("paper / taut", PROSE))
    note = "Theorem 1 of arXiv 2602.21765 on the same log; half-widths, reward units"
    return [heading(ink, "Beside the paper", note), titled(ink, columns, rows, gap=3)]


def half_width(entry: wording.HasEnds) -> float | None:
    """Return half the width of an interval; None where an end is open."""
    both = ends(entry)
    return None if both is None else (both[1] - both[0]) / 2


def _paper_cells(
    name: str, ours: float | None, found: Certificate, digits: int, ink: Ink
) -> list[Text]:
    theirs = getattr(found.paper, name)
    label = ink.text(TERM_NAMES.get(name, name))
    left = ink.text("–" if ours is None else plus_minus(ours, digits))
    if theirs is None:
        return [label, left, ink.text("–"), ink.text(PAPER_NEEDS[name], "dim")]
    ratio = ink.text(ratio_text(ours, theirs), "bold" if name == "total" else "")
    return [label, left, ink.text(plus_minus(theirs, digits)), ratio]


def ratio_text(ours: float | None, theirs: float) -> str:
    """Return how many times wider the paper's half-width is, as text."""
    if not ours or not theirs:
        return ""
    ratio = theirs / ours
    if ratio >= 10_000:
        return ">9,999×"
    return f"{near(ratio, 2 if ratio < 1 else 1 if ratio < 10 else 0)}×"


def _advice(found: Certificate, ink: Ink) -> list[RenderableType]:
    text = wording.advice_text(found)
    return [heading(ink, "To tighten it most"), ink.text(text)] if text else []

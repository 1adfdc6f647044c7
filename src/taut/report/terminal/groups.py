"""What a person sees of certificates that hold together: one row a group, and which is best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from taut.auditing.certificates import Certificates, Group
from taut.auditing.worst import worst_assumptions, worst_checks
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.report import wording
from taut.report.digits import decimals_for, down, interval, level_text, near
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES
from taut.report.terminal.charts import STATUS_STYLES, Axis, Ink, Ruler, Span, axis_for
from taut.report.terminal.foundations import assumption_table, health_lines
from taut.report.terminal.gaps import gap_lines, gaps_report
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PICTURE,
    Report,
    heading,
    spaced,
    titled,
)
from taut.report.wording import Ends, ends
from taut.types import Status

_SOUND = (Status.CERTIFIED, Status.CONDITIONAL)


def groups_report(found: Certificates) -> RenderableType:
    """Return the report of `--by`: one row a group, and which group is best."""
    return Report(lambda ink: _groups(found, ink))


def _groups(found: Certificates, ink: Ink) -> list[RenderableType]:
    if not found.groups:
        return [ink.text("No groups to show.", "bold")]
    if found.gap:
        return gaps_report(found, ink)
    if found.of == "response":
        return _by_response(found, ink)
    told = [group for group in found.groups if group.certificate is not None]
    if not told:
        return [ink.text("No slice holds enough draws to say anything.", "bold")]
    rows = sorted_rows(found)
    first, learned = told[0].certificate, _all_learned(rows)
    name = f"{TARGET_NAMES[first.target]} {TARGET_FORMULAS[first.target]}"
    if learned:
        name = f"learned {TARGET_NAMES[first.target]}, not the true one,"
    level = level_text(1 - found.delta)
    together = f"All {len(rows)} rows hold together at {level}, so you may choose among them."
    lines = [ink.text(line, "bold") for line in group_lines(found)]
    if found.mix is not None and found.mix.lower is not None and found.mix.upper is not None:
        item = found.mix
        shown = interval(item.lower, item.upper, _decimals(rows))
        shares = ", ".join(f"{value} {share:.4g}" for value, share in item.weights.items())
        lines += [ink.text(f"At the mix {shares}: {shown}, {item.status}.", "bold")]
    lines += [ink.text(together)]
    lines += [ink.text(f"{name[:1].upper()}{name[1:]} of each {found.by}", "dim")]
    table = _table(rows, found.by, ink, wording.units_of(first))
    silent = len(found.groups) - len(told)
    if silent:
        fewest = next(group.cannot_tell for group in found.groups if group.certificate is None)
        lines += [ink.text(f"Of {silent:,} more slices nothing can be told: {fewest}, and so on.")]
    return spaced([lines, [table], _shared_foundations(told, ink)])


_AT_NAMES = {"pass_at": "pass@{}", "all_of": "all of {}", "best_of": "best of {}"}


def lead_lines(found: Certificates, rows: Sequence["_Row"]) -> list[str]:
    """Say first what the rows are about: which is best, or what the usual estimate would say."""
    learned = _all_learned(rows)
    if found.of == "draw":
        return _usual_lines(found, rows[-1], _decimals(rows))
    if found.of == "part":
        told = "Nothing is known about the true reward yet: these are learned rewards only."
        return [told] if learned else []
    return _best_lines(rows, found.by, learned)


def _usual_lines(found: Certificates, row: "_Row", digits: int) -> list[str]:
    """Of the largest k: what it is, and how far the usual plug-in is off."""
    *_, kind = found.by.split(", ")
    before, _, k = row.value.rpartition(" · ")
    name = _AT_NAMES[kind].format(k) + (f" of {before}" if before else "")
    bounds = row.learned if row.learned_only else row.bounds
    lines = []
    if bounds:
        what = " by learned reward, not the true one" if row.learned_only else ""
        shown = interval(*bounds, digits)
        lines.append(f"{name[:1].upper()}{name[1:]} is {shown}{what}.")
    if row.usual is not None and row.counted is not None:
        off = row.usual - row.counted
        way = "too low" if off < 0 else "too high"
        told = "as it should" if not near(abs(off), digits).strip("0.") else f"{way} by expectation"
        lines.append(
            f"The usual plug-in says {near(row.usual, digits)}, {told}; the unbiased estimate of "
            f"the same rows is {near(row.counted, digits)}."
        )
    return lines


def _by_response(found: Certificates, ink: Ink) -> list[RenderableType]:
    """Slices by what depends on the response: the one with the lowest lower end first."""
    told, rest = response_groups(found)
    what, level = response_subject(told), level_text(1 - found.delta)
    lines = [ink.text(line, "bold") for line in _worst_lines(told, found.by, what)]
    lines += [ink.text(f"All rows hold together at {level}, so you may pick the worst.")]
    lines += [ink.text(f"Mean {what} of responses in each slice by {found.by}", "dim")]
    widths = [group.slice.upper - group.slice.lower for group in told]
    digits = decimals_for(min(widths, default=None), steps=20)
    gaps = [group for group in told if group.slice.gap_lower is not None]
    columns = [
        (found.by, LABEL),
        ("share", NUMBER),
        ("measured", NUMBER),
        ("lower to upper", NUMBER),
        ("status", LABEL),
    ]
    if gaps:
        columns.insert(4, ("learned less true", NUMBER))
    cells = []
    for group in (*told, *rest):
        item = group.slice
        known = item is not None and item.lower is not None
        cells.append(
            [
                ink.text(str(group.value)),
                ink.text("–" if item is None else f"{100 * item.share:.1f}%"),
                ink.text(near(item.measured, digits) if known else "–"),
                ink.text(interval(item.lower, item.upper, digits) if known else "cannot tell"),
                *([_gap(group, digits, ink)] if gaps else []),
                ink.status(item.status) if known else ink.text(group.cannot_tell or "", "dim"),
            ]
        )
    table = titled(ink, tuple(columns), cells, spare=("share", "measured", "learned less true"))
    rests = assumption_table(found.assumptions, ink)
    under = [heading(ink, "What they rest on", "all of them"), *rests] if rests else []
    return spaced([lines, [table], under + health_lines([*found.health], ink)])


def _gap(group: Group, digits: int, ink: Ink) -> RenderableType:
    item = group.slice
    if item is None or item.gap_lower is None:
        return ink.text("–")
    return ink.text(interval(item.gap_lower, item.gap_upper, digits))


def _worst_lines(told: Sequence[Group], by: str, what: str) -> list[str]:
    if not told:
        return ["Of no slice can anything be told."]
    worst = told[0]
    digits = decimals_for(worst.slice.upper - worst.slice.lower, steps=20)
    shown = interval(worst.slice.lower, worst.slice.upper, digits)
    lines = [f"Lowest: {what} of {by} {worst.value} is between {shown.replace(' to ', ' and ')}."]
    high = [group for group in told if (group.slice.gap_lower or 0.0) > 0]
    if high:
        most = max(high, key=lambda group: group.slice.gap_lower)
        least = down(most.slice.gap_lower, digits)
        lines.append(f"The learned reward is too high by at least {least} at {by} {most.value}.")
    return lines


def _shared_foundations(groups: Sequence[Group], ink: Ink) -> list[RenderableType]:
    """Say what all groups rest on, each assumption as it stands worst, and their health."""
    assumptions, checks = worst_of(groups)
    table = assumption_table(assumptions, ink)
    lines: list[RenderableType] = []
    if table:
        lines += [heading(ink, "What they rest on", "as it stands in the worst of them"), *table]
        declare = filter(None, (wording.to_declare(group.certificate) for group in groups))
        lines += [ink.text(line) for line in [*declare][:1]]
    return lines + health_lines(checks, ink)


def worst_of(groups: Sequence[Group]) -> tuple[list[Assumption], list[Check]]:
    """Return the assumptions and the checks of all groups, each as it stands worst."""
    found = [group.certificate for group in groups]
    assumptions = worst_assumptions(item.assumptions for item in found)
    return [*assumptions], [*worst_checks(item.health for item in found)]


@dataclass(frozen=True, slots=True)
class _Row:
    """What one row shows: the group's name, counts, and its certificate.

    A group without labels says nothing of the true reward. Where some groups have labels, its
    learned reward has no place beside them; where none has, the table is about the learned reward.
    """

    value: str
    prompts: int
    gold: int
    measured: float | None
    bounds: Ends | None
    learned: Ends | None
    status: Status
    learned_only: bool
    cannot_tell: bool
    usual: float | None = None
    counted: float | None = None
    part: bool = False

    @property
    def worst(self) -> float:
        """What rows are ordered by: the lower end, of the learned reward where nothing else is."""
        shown = self.learned if self.learned_only else self.bounds
        return shown[0] if shown else 0.0

    @classmethod
    def of(cls, group: Group, *, part: bool = False) -> "_Row":
        found = group.certificate
        return cls(
            value=str(group.value),
            prompts=found.log.prompts,
            gold=found.log.gold_prompts,
            measured=wording.measured_of(found),
            bounds=ends(found.certificate),
            learned=ends(wording.proxy_of(found)),
            status=found.status,
            learned_only=wording.learned_only(found),
            cannot_tell=group.cannot_tell is not None,
            usual=group.usual,
            part=part,
            counted=found.measured.reward if found.measured.gold is None else found.measured.gold,
        )


def _all_learned(rows: Iterable[_Row]) -> bool:
    return all(row.learned_only for row in rows)


def group_lines(found: Certificates) -> list[str]:
    """Say which group is best, or worst, and which has the best lower end."""
    if found.gap:
        return gap_lines(found)
    if found.of == "response":
        told, _ = response_groups(found)
        return _worst_lines(told, found.by, response_subject(told))
    rows = sorted_rows(found)
    if not rows:
        return ["No slice holds enough draws to say anything."]
    lines = lead_lines(found, rows)
    if found.of == "prompt":
        lines.insert(0, _worst_line(rows[0], found.by, _decimals(rows)))
    return lines


def sorted_rows(found: Certificates) -> list["_Row"]:
    """Return the rows of groups that have a certificate, in the order of the report."""
    told = [group for group in found.groups if group.certificate is not None]
    rows = [_Row.of(group, part=found.of == "part") for group in told]
    if found.of == "prompt":  # the worst one first; steps and policies stay in their order
        rows.sort(key=lambda row: (row.cannot_tell, row.worst))
    return rows


def response_groups(found: Certificates) -> tuple[list[Group], list[Group]]:
    """Return slices by response, the lowest lower end first, and those that cannot tell."""
    told = [group for group in found.groups if group.slice and group.slice.lower is not None]
    rest = [group for group in found.groups if group not in told]
    return sorted(told, key=lambda group: group.slice.lower), rest


def response_subject(told: Sequence[Group]) -> str:
    """Return what the intervals of slices by response are about, in words."""
    about = told[0].slice.of if told else "r*"
    return "true reward" if about == "r*" else "learned reward, not the true one,"


def _best_lines(rows: Sequence[_Row], by: str, learned: bool) -> list[str]:
    """Say which group measures best and which has the best lower end."""
    digits, lines = _decimals(rows), []
    if learned:
        lines.append("For the learned reward only. Nothing is known about the true reward yet.")
    measured = [row for row in rows if row.measured is not None]
    highest = max(measured, key=lambda row: row.measured, default=None)
    best, name = _best_floor(rows), by.replace("_", " ").capitalize()
    if highest is not None:
        what = "measured learned reward" if learned else "measured value"
        shown = near(highest.measured, digits)
        lines.append(f"{name} {highest.value} has the best {what}, {shown}.")
    if best is not None and best.status != Status.VACUOUS:
        same = "It also" if best is highest else f"{name} {best.value}"
        lines.append(
            f"{same} has the best {best.status} lower end, {down(best.bounds[0], digits)}."
        )
    return lines


def _worst_line(row: _Row, by: str, digits: int) -> str:
    if row.cannot_tell or not row.bounds or row.learned_only:
        return f"Of no {by} can the true value be told yet."
    return f"{by.capitalize()} {row.value} may be worst: {interval(*row.bounds, digits)}."


def _best_floor(rows: Sequence[_Row]) -> _Row | None:
    """Return the row with the best lower end, among those with a guarantee where there are any."""
    floors = [row for row in rows if row.bounds and not row.learned_only]
    sound = [row for row in floors if row.status in _SOUND]
    return max(sound or floors, key=lambda row: row.bounds[0], default=None)


def _decimals(rows: Sequence[_Row]) -> int:
    learned = _all_learned(rows)
    widths = [bounds[1] - bounds[0] for row in rows if (bounds := _shown(row, learned))]
    return decimals_for(min((width for width in widths if width > 0), default=None), steps=20)


def _shown(row: _Row, learned: bool) -> Ends | None:
    """The interval that a row shows: the learned reward's only where the table is about it."""
    if learned:
        return row.learned
    return None if row.learned_only else row.bounds


def _axis(rows: Sequence[_Row]) -> Axis:
    learned = _all_learned(rows)
    numbers = [value for row in rows for value in (*(_shown(row, learned) or ()), row.measured)]
    return axis_for([value for value in numbers if value is not None] or [0.0, 1.0])


def _table(rows: Sequence[_Row], by: str, ink: Ink, units: str) -> Table:
    axis, best = _axis(rows), _best_floor(rows)
    counts = "gold" if ink.narrow else "prompts / gold"  # the labelled ones decide the width
    columns = (
        (by.replace("_", " "), NUMBER),
        (counts, NUMBER),
        ("measured", NUMBER),
        ("", PICTURE),
        ("lower to upper", NUMBER),
        ("status", LABEL),
    )
    learned, digits = _all_learned(rows), _decimals(rows)
    rulers = [
        ("", "", "", Ruler(ink, axis, labels=False), "", ""),
        ("", "", "", Ruler(ink, axis, labels=True), ink.text(units, "dim"), ""),
    ]
    cells = [_cells(row, axis, _shown(row, learned), digits, row is best, ink) for row in rows]
    if any(row.usual is not None for row in rows):
        columns = (*columns, ("usual plug-in", NUMBER))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(ink.text("–" if row.usual is None else near(row.usual, digits)))
        rulers = [(*ruler, "") for ruler in rulers]
    return titled(ink, columns, cells, spare=("", counts, "usual plug-in"), under=rulers)


def _cells(
    row: _Row, axis: Axis, bounds: Ends | None, digits: int, best: bool, ink: Ink
) -> list[RenderableType]:
    status, strong = Status.VACUOUS if row.learned_only else row.status, "bold" if best else ""
    return [
        ink.text(row.value, strong),
        ink.text(f"{row.gold:,}" if ink.narrow else f"{row.prompts:,} / {row.gold:,}"),
        ink.text("–" if row.measured is None else near(row.measured, digits)),
        Span(ink, axis, bounds, point=row.measured, style=STATUS_STYLES.get(status, "")),
        ink.text(_told(row, bounds, digits), strong),
        ink.status(status),
    ]


def _told(row: _Row, bounds: Ends | None, digits: int) -> str:
    if row.cannot_tell and row.gold:
        return "cannot tell"
    if not bounds and row.part and row.learned:
        return f"learned {interval(*row.learned, digits)}"
    return interval(*bounds, digits) if bounds else "no labels"

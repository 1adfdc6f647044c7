"""What a person sees of `--gap`: how far the learned reward is off in each slice."""

from collections.abc import Sequence

from rich.console import RenderableType

from taut.auditing.certificates import Certificates, Group
from taut.report.digits import decimals_for, interval, level_text, near
from taut.report.terminal.charts import Ink
from taut.report.terminal.foundations import assumption_table, health_lines
from taut.report.terminal.layout import LABEL, NUMBER, heading, spaced, titled
from taut.types import Status

_NONE = "–"
Cells = tuple[str, str, str, str, str, Status | None, str]


def gaps_report(found: Certificates, ink: Ink) -> list[RenderableType]:
    """Return the report of `--gap`: the slice where the learned reward is most too high first."""
    lines = [ink.text(line, "bold") for line in gap_lines(found)]
    lines += [ink.text(gap_together(found))]
    lines += [ink.text(f"Learned less true reward of each {found.by}, reward units", "dim")]
    name, share, labelled, learned, gap, status = gap_titles(found)
    columns = (
        (name, LABEL),
        (share, NUMBER),
        (labelled, NUMBER),
        (learned, NUMBER),
        (gap, NUMBER),
        (status, LABEL),
    )
    cells = [
        [*map(ink.text, numbers), ink.text(why, "dim") if worth is None else ink.status(worth)]
        for *numbers, worth, why in gap_rows(found)
    ]
    table = titled(ink, columns, cells, spare=(share, learned, labelled))
    rests = assumption_table(found.assumptions, ink)
    under = [heading(ink, "What they rest on", "as it stands in the worst of them"), *rests]
    return spaced([lines, [table], (under if rests else []) + health_lines([*found.health], ink)])


def gap_titles(found: Certificates) -> tuple[str, str, str, str, str, str]:
    """Return the titles of the columns of `gap_rows`."""
    return found.by, "share", "labelled", "learned", "learned less true", "status"


def gap_rows(found: Certificates) -> list[Cells]:
    """Return the cells of each slice, its status, and why nothing can be told where it has none."""
    told, rest = _told(found)
    digits = _digits(told)
    return [_cells(group, digits) for group in (*told, *rest)]


def gap_lines(found: Certificates) -> list[str]:
    """Say where the learned reward is most too high, and where most too low."""
    told, rest = _told(found)
    if not told:
        return ["Of no slice can be told how far the learned reward is off."]
    high = [group for group in told if group.slice.gap_lower > 0]
    low = [group for group in told if group.slice.gap_upper < 0]
    lines = []
    for way, off, most in (("high", high, told[0]), ("low", low, _lowest(told))):
        if off:
            item = most.slice
            shown = interval(item.gap_lower, item.gap_upper, _digits(told))
            lines.append(
                f"The learned reward is too {way} in {len(off)} of {len(found.groups)} slices, "
                f"most at {found.by} {most.value}: r̂ − r* is {shown}, {item.gap_status}."
            )
    if not lines:
        lines.append(f"In none of {len(told)} slices is the learned reward shown to be off.")
    if rest:
        lines.append(f"Of {len(rest)} more nothing can be told.")
    return lines


def gap_together(found: Certificates) -> str:
    """Say that all rows hold at once."""
    level = level_text(1 - found.delta)
    return f"All rows hold together at {level}, so you may pick the worst."


def _lowest(told: Sequence[Group]) -> Group:
    return min(told, key=lambda group: group.slice.gap_upper)


def _told(found: Certificates) -> tuple[list[Group], list[Group]]:
    """Return slices with an interval, the highest lower end first, and those without one."""
    told = [group for group in found.groups if group.slice and group.slice.gap_lower is not None]
    rest = [group for group in found.groups if not group.slice or group.slice.gap_lower is None]
    return sorted(told, key=lambda group: -group.slice.gap_lower), rest


def _digits(told: Sequence[Group]) -> int:
    widths = [group.slice.gap_upper - group.slice.gap_lower for group in told]
    return decimals_for(min(widths, default=None), steps=20)


def _cells(group: Group, digits: int) -> Cells:
    item, gap = group.slice, "cannot tell"
    if item is None:
        return str(group.value), _NONE, _NONE, _NONE, gap, None, group.cannot_tell or ""
    if item.gap_lower is not None and item.gap_upper is not None:
        gap = interval(item.gap_lower, item.gap_upper, digits)
    learned = _NONE if item.learned is None else near(item.learned, digits)
    counts = f"{100 * item.share:.1f}%", f"{item.labelled:,}", learned
    return str(group.value), *counts, gap, item.gap_status, group.cannot_tell or ""

"""The page of certificates that hold together: one row a group or slice."""

from collections.abc import Sequence
from typing import Any

from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates, Group
from taut.report import wording
from taut.report.digits import decimals_for, down, interval, level_text, near, percent, short
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES
from taut.report.page.blocks import Block, Card, Figure, Opens, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.certificate import sections
from taut.report.page.views.parts import NONE, number, span
from taut.report.terminal.gaps import gap_rows, gap_titles
from taut.report.terminal.groups import (
    group_lines,
    response_groups,
    response_subject,
    sorted_rows,
    worst_of,
)
from taut.report.wording import ends
from taut.types import Status as Worth

_MOST_OPEN = 100  # certificates that are shown term by term; the JSON has all


def groups_view(found: Certificates) -> View:
    """Return the page of certificates by one column, or several."""
    if not found.groups:
        return View(verdict="No groups to show.", kind="taut audit --by", sections=[])
    lines, level = group_lines(found), level_text(1 - found.delta)
    together = (
        f"All {len(found.groups)} rows hold together at {level}, so you may choose among them."
    )
    told = [group for group in found.groups if group.certificate is not None]
    if found.gap:
        return _gap_view(found, lines, together)
    if found.of == "response" or not told:
        return _response_view(found, lines, together)
    items = [group.certificate for group in told]
    learned = all(map(wording.learned_only, items))
    name = f"{TARGET_NAMES[items[0].target]} {TARGET_FORMULAS[items[0].target]}"
    worst = "vacuous" if learned else str(max(map(wording.status_of, items), key=_order))
    silent = [group.cannot_tell for group in found.groups if group.certificate is None]
    if silent:
        lines.append(f"Of {len(silent):,} more slices nothing can be told: {silent[0]}, and so on.")
    return View(
        verdict=" ".join(lines[:2]) or together,
        kind=f"taut audit, by {found.by}",
        status=Status(worst),
        about=_about(name, found.by, learned=learned),
        lead=[*lines[2:], together],
        cards=_cards(found) if found.of in ("law", "prompt") else (),
        plain=_plain([item.log for item in items], level),
        sections=_sections(found, told, learned),
    )


def _about(name: str, by: str, *, learned: bool) -> str:
    if learned:
        return f"for the true {name}; the rows are about the learned one"
    return f"true {name} of each {by}"


def _order(status: Worth) -> int:
    return list(Worth).index(status)


def _plain(logs: Sequence[Any], level: str) -> list[str]:
    return parts.plain_words(
        sum(log.rollouts for log in logs),
        None,  # steps may share prompts, or not
        sum(log.gold_rollouts for log in logs),
        level,
    )


def _cards(found: Certificates) -> list[Card]:
    """Say which group measures best, and which is best by guarantee."""
    rows = sorted_rows(found)
    measured = [row for row in rows if row.measured is not None]
    sound = [row for row in rows if row.bounds and not row.learned_only and not row.cannot_tell]
    cards = []
    if measured:
        best = max(measured, key=lambda row: row.measured)
        digits = _digits([best.bounds or best.learned])
        text = f"The best value measured: {found.by} {best.value}."
        cards.append(Card("Measured", near(best.measured, digits), text, "learned"))
    if sound:
        best = max(sound, key=lambda row: row.bounds[0])
        least = f"at least {down(best.bounds[0], _digits([best.bounds]))}"
        text = f"The best lower end: {found.by} {best.value}, {best.status}."
        cards.append(Card("Certified" if best.status == "certified" else "True value", least, text,
                          "certified"))  # fmt: skip
    else:
        cards.append(Card("Certified", "nothing", "Of no group is the true value known.", "doubt"))
    if sound and measured and found.of == "law":
        how = "guarantee" if best.status in ("certified", "conditional") else "estimate"
        text = f"The best by {how}; taut select says whether another may be as good."
        cards.append(Card("Do next", f"take {found.by} {best.value}", text))
    return cards


def _digits(spans: Sequence[wording.Ends | None]) -> int:
    widths = [high - low for low, high in filter(None, spans) if high > low]
    return decimals_for(min(widths, default=None), steps=20)


def _sections(found: Certificates, told: Sequence[Group], learned: bool) -> list[Section]:
    assumed, checks = worst_of(told)
    declare = (wording.to_declare(group.certificate) for group in told)
    each = [
        Opens(f"{found.by} {group.value}: {wording.verdict(group.certificate).sentence}", [block])
        for group in told[:_MOST_OPEN]
        for block in [_own(group.certificate)]
    ]
    rest = len(told) - _MOST_OPEN
    if rest > 0:
        each.append(Text(f"And {rest:,} more: the JSON has them."))
    budget = f"δ = {short(found.delta)} in all, shared among {len(found.groups):,} (§6.3)."
    return [
        Section(
            "groups",
            f"Each {found.by}",
            [Figure("steps"), Figure("groups"), _table(found, told, learned)],
            budget,
        ),
        parts.health(checks, note="As it stands in the worst of them."),
        parts.assumptions(assumed, [*filter(None, declare)][:1], "As it stands in the worst."),
        Section("each", f"The certificate of each {found.by}", each),
    ]


def _own(found: Certificate) -> Table:
    """Return the three errors of one group's certificate."""
    terms = next(item for item in sections(found) if item.key == "terms")
    return next(item for item in terms.blocks if isinstance(item, Table))


def _table(found: Certificates, told: Sequence[Group], learned: bool) -> Table:
    items = [group.certificate for group in told]
    # A part of the reward that nobody labelled is known as a learned one, and says so.
    bare = [learned or (found.of == "part" and wording.learned_only(item)) for item in items]
    shown = [
        ends(wording.proxy_of(item) if alone else item.certificate)
        for item, alone in zip(items, bare, strict=True)
    ]
    digits = _digits(shown)
    rows = [
        (
            str(group.value),
            f"{item.log.prompts:,}",
            f"{item.log.gold_prompts:,}",
            number(wording.measured_of(item), digits),
            _told(group, both, digits, named=alone and not learned),
            Status("vacuous" if learned else str(wording.status_of(item))),
        )
        for group, item, both, alone in zip(told, items, shown, bare, strict=True)
    ]
    titles = (found.by, "prompts", "with gold", "measured", "lower to upper", "status")
    if any(group.usual is not None for group in told):
        rows = [(*row, number(group.usual, digits)) for row, group in zip(rows, told, strict=True)]
        return Table((*titles, "usual plug-in"), rows, {1, 2, 3, 4, 6}, f"One row each {found.by}")
    return Table(titles, rows, {1, 2, 3, 4}, f"One row each {found.by}", steps=steps_of(told))


def _told(group: Group, both: wording.Ends | None, digits: int, *, named: bool) -> str:
    if group.cannot_tell:
        return "cannot tell"
    return f"learned {span(both, digits)}" if named else span(both, digits)


def steps_of(items: Sequence) -> list[float]:
    """Return the values of groups or candidates where all are numbers, for a brush."""
    values = [item.value for item in items]
    if not all(isinstance(value, int | float) for value in values):
        return []
    return [float(value) for value in values]


# --- slices by response ---------------------------------------------------------------------------


def _response_view(found: Certificates, lines: Sequence[str], together: str) -> View:
    """Return the page of slices by what depends on the response."""
    told, rest = response_groups(found)
    what = response_subject(told)
    return _slices_view(
        found,
        [*lines, together],
        worths=[item.slice.status for item in told if item.slice],
        about=f"{what} of each slice",
        plain="One number for a log hides where it fails. Here the answers are cut into slices by "
        "a property of the answer, such as its length; each row says what their true reward is.",
        title=f"Slices by {found.by}",
        blocks=[Figure("slices"), Figure("gaps"), _response_table(found, [*told, *rest])],
        note=f"Mean {what} of responses in each slice by {found.by} (§2.8).",
    )


def _gap_view(found: Certificates, lines: Sequence[str], together: str) -> View:
    """Return the page of how far the learned reward is off in each slice."""
    rows = [
        (*cells, worth if status is None else Status(str(status)))
        for *cells, status, worth in gap_rows(found)
    ]
    table = Table(gap_titles(found), rows, {1, 2, 3, 4}, f"One row each {found.by}")
    return _slices_view(
        found,
        [*lines, together],
        worths=[item.slice.gap_status for item in found.groups if item.slice],
        about=f"learned less true reward of each {found.by}",
        plain="Each row says how far the learned reward is off there: above 0 it is too high, "
        "which is what a policy that games it makes it.",
        title=f"Each {found.by}",
        blocks=[Figure("gaps"), table],
        note="Mean of learned less true reward, r̂ − r*, in reward units (§6.3).",
    )


def _slices_view(
    found: Certificates,
    lines: Sequence[str],
    *,
    worths: Sequence,
    about: str,
    plain: str,
    title: str,
    blocks: list[Block],
    note: str,
) -> View:
    """Return the page of slices that are bounded together, without certificates of their own."""
    worst = max(filter(None, worths), key=_order, default=None)
    return View(
        verdict=lines[0],
        kind=f"taut audit, by {found.by}",
        status=None if worst is None else Status(str(worst)),
        about=about,
        lead=list(lines[1:]),
        plain=[parts.PLAIN_LEARNED, plain],
        sections=[
            Section("groups", title, blocks, note),
            parts.health(found.health),
            parts.assumptions(found.assumptions),
        ],
    )


def _response_table(found: Certificates, groups: Sequence[Group]) -> Table:
    known = [(item.slice.lower, item.slice.upper) for item in groups if _known(item)]
    digits = _digits(known)
    rows = [_response_row(group, digits) for group in groups]
    titles = (found.by, "share", "measured", "lower to upper", "learned less true", "status")
    return Table(titles, rows, {1, 2, 3, 4}, f"Slices by {found.by}")


def _known(group: Group) -> bool:
    return group.slice is not None and group.slice.lower is not None


def _response_row(group: Group, digits: int) -> tuple:
    item, name = group.slice, str(group.value)
    if item is None or item.lower is None or item.upper is None:
        share = NONE if item is None else percent(item.share)
        return name, share, NONE, "cannot tell", NONE, group.cannot_tell or NONE
    gap = NONE
    if item.gap_lower is not None and item.gap_upper is not None:
        gap = interval(item.gap_lower, item.gap_upper, digits)
    where = interval(item.lower, item.upper, digits)
    status = Status(str(item.status))
    return name, percent(item.share), number(item.measured, digits), where, gap, status

"""The page of certificates that hold together: one row a group."""

from collections.abc import Sequence

from taut.auditing.certificate import Certificates, Group
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.report import wording
from taut.report.digits import decimals_for, level_text
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES
from taut.report.page.blocks import Card, Figure, Opens, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.certificate import sections
from taut.report.page.views.parts import number, span
from taut.report.terminal.groups import group_lines, worst_of
from taut.report.wording import ends
from taut.types import Status as Worth


def groups_view(found: Certificates) -> View:
    """Return the page of certificates by a column."""
    if not found.groups:
        return View(verdict="No groups to show.", kind="taut audit --by", sections=[])
    items = [group.certificate for group in found.groups]
    learned = all(map(wording.learned_only, items))
    lines = group_lines(found)
    name = f"{TARGET_NAMES[items[0].target]} {TARGET_FORMULAS[items[0].target]}"
    about = f"{'learned' if learned else 'true'} {name} of each {found.by}"
    level = level_text(1 - found.delta)
    together = f"All {len(items)} rows hold together at {level}, so you may choose among them."
    assumed, checks = worst_of(found.groups)
    logs = [item.log for item in items]
    plain = parts.plain_words(
        sum(log.rollouts for log in logs),
        max(log.prompts for log in logs),
        sum(log.gold_rollouts for log in logs),
        level,
    )
    return View(
        verdict=" ".join(lines[:2]) or together,
        kind=f"taut audit --by {found.by}",
        status=Status(
            "vacuous" if learned else str(max(map(_worth, items), key=list(Worth).index))
        ),
        about=about,
        lead=[*lines[2:], together],
        plain=plain,
        sections=_sections(found, learned, assumed, checks),
    )


def _worth(item) -> Worth:
    return wording.status_of(item)


def _sections(
    found: Certificates,
    learned: bool,
    assumed: Sequence[Assumption],
    checks: Sequence[Check],
) -> list[Section]:
    declare = (wording.to_declare(group.certificate) for group in found.groups)
    each = [
        Opens(f"{found.by} {group.value}: {wording.verdict(group.certificate).sentence}", [block])
        for group in found.groups
        for block in [_own(group)]
    ]
    return [
        Section("groups", f"Each {found.by}", [Figure("groups"), _table(found, learned)]),
        parts.health(checks, note="As it stands in the worst of them."),
        parts.assumptions(assumed, [*filter(None, declare)][:1], "As it stands in the worst."),
        Section("each", f"The certificate of each {found.by}", each),
    ]


def _own(group: Group) -> Table:
    """Return the three errors of one group's certificate."""
    terms = next(item for item in sections(group.certificate) if item.key == "terms")
    return next(item for item in terms.blocks if isinstance(item, Table))


def _table(found: Certificates, learned: bool) -> Table:
    items = [group.certificate for group in found.groups]
    shown = [ends(wording.proxy_of(item) if learned else item.certificate) for item in items]
    widths = [high - low for low, high in filter(None, shown) if high > low]
    digits = decimals_for(min(widths, default=None), steps=20)
    rows = [
        (
            str(group.value),
            f"{item.log.prompts:,}",
            f"{item.log.gold_prompts:,}",
            number(wording.measured_of(item), digits),
            span(both, digits),
            Status("vacuous" if learned else str(wording.status_of(item))),
        )
        for group, item, both in zip(found.groups, items, shown, strict=True)
    ]
    titles = (found.by, "prompts", "with gold", "measured", "lower to upper", "status")
    return Table(
        titles, rows, {1, 2, 3, 4}, f"One row each {found.by}", steps=steps_of(found.groups)
    )


def steps_of(items: Sequence) -> list[float]:
    """Return the values of groups or candidates where all are numbers, for a brush."""
    values = [item.value for item in items]
    if not all(isinstance(value, int | float) for value in values):
        return []
    return [float(value) for value in values]


__all__ = ["Card", "Text", "groups_view", "steps_of"]

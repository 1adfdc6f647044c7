"""What several statements rest on together: the worst of each."""

from collections.abc import Iterable

from taut.draws.assumptions import Assumption, Standing
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check


def worst_assumptions(several: Iterable[Iterable[Assumption]]) -> tuple[Assumption, ...]:
    """Return what any of several statements rests on, each assumption as it stands worst."""
    order, worst = list(Standing), {}
    for assumptions in several:
        for item in assumptions:
            known = worst.get((item.name, item.text))
            if known is None or order.index(item.stands) > order.index(known.stands):
                worst[item.name, item.text] = item
    return tuple(worst.values())


def worst_checks(several: Iterable[Iterable[Check]]) -> tuple[Check, ...]:
    """Return the health of several parts of a log: of each check the worst outcome."""
    order, worst = (PASS, NOT_CHECKED, NOTE, WARN, FAIL), {}
    for checks in several:
        for item in checks:
            known = worst.get(item.check)
            if known is None or order.index(item.status) > order.index(known.status):
                worst[item.check] = item
    return tuple(worst.values())

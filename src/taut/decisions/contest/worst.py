"""What several certificates rest on together: the worst of each."""

from collections.abc import Iterable

from taut.auditing.certificate import Certificate
from taut.draws.assumptions import Assumption, Standing
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check


def worst_assumptions(certificates: Iterable[Certificate]) -> tuple[Assumption, ...]:
    """Return what any of several certificates rests on, each as it stands worst."""
    order, worst = list(Standing), {}
    for certificate in certificates:
        for item in certificate.assumptions:
            known = worst.get((item.name, item.text))
            if known is None or order.index(item.stands) > order.index(known.stands):
                worst[item.name, item.text] = item
    return tuple(worst.values())


def worst_checks(certificates: Iterable[Certificate]) -> tuple[Check, ...]:
    """Return the health of several parts of a log: of each check the worst outcome."""
    order, worst = (PASS, NOT_CHECKED, NOTE, WARN, FAIL), {}
    for certificate in certificates:
        for item in certificate.health:
            known = worst.get(item.check)
            if known is None or order.index(item.status) > order.index(known.status):
                worst[item.check] = item
    return tuple(worst.values())

"""Every candidate against one: who is above whom (theory §6.3, `select`)."""

from dataclasses import dataclass

from taut.auditing.certificate import Certificate
from taut.decisions.contest.contest import (
    CERTIFICATES,
    SOUND,
    Contest,
    measured,
    moved,
    pair_status,
)
from taut.decisions.contest.pairs import GOLD, paired_difference
from taut.decisions.contest.result import Name
from taut.types import Interval, Status, weakest


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison of two candidates by name; see `result.Comparison`."""

    candidate: Name
    against: Name
    kind: str
    mean: float | None
    lower: float
    upper: float
    status: Status
    shared: int | None
    labelled: int | None


def compare_all(contest: Contest, against: Name) -> dict[tuple[Name, Name], Compared]:
    """Compare every other candidate with one; holds the draws of two candidates at a time."""
    theirs = contest.draws(against) if contest.paired else None
    out = {}
    for name in contest.certificates:
        if name != against:
            out[name, against] = _compare(contest, name, against, theirs)
    return out


def _compare(contest: Contest, name: Name, against: Name, theirs) -> Compared:
    pair = None
    if contest.paired:
        (one, mixed), (other, also_mixed) = contest.draws(name), theirs
        method = contest.options.method
        if (mixed or also_mixed) and method in ("betting", "bernstein"):
            method = "mixture"  # order-free, as draws differ in law (theory §2.5)
        pair = paired_difference(
            one,
            other,
            cost_range=(-contest.beta * contest.tau[1], contest.beta * contest.tau[0]),
            etas=(contest.eta(against, name), contest.eta(name, against)),
            method=method,
            calibration=contest.options.calibration,
        )
    mine, its = contest.certificates[name], contest.certificates[against]
    evidence = []
    if pair is not None and pair.kind == GOLD:
        status = pair_status(pair, contest, name, against)
        evidence.append((moved(pair.interval, contest, mine, its), status))
    if Status.VACUOUS not in (mine.status, its.status):
        ends = Interval(mine.lower - its.upper, mine.upper - its.lower)
        evidence.append((ends, weakest((mine.status, its.status))))
    ends, status = best_evidence(evidence) if evidence else (None, Status.VACUOUS)
    if ends is None:
        ends = moved(pair.interval, contest, mine, its) if pair else _open_ends(mine, its)
    kind = CERTIFICATES if pair is None or (evidence and pair.kind != GOLD) else pair.kind
    mean = measured(mine) - measured(its) if pair is None else contest.width * pair.mean
    counts = (pair.shared, pair.labelled) if pair else (0, 0) if contest.paired else (None, None)
    return Compared(name, against, kind, mean, ends.lower, ends.upper, status, *counts)


def _open_ends(mine: Certificate, its: Certificate) -> Interval:
    return Interval(mine.lower - its.upper, mine.upper - its.lower)


def best_evidence(evidence: list[tuple[Interval, Status]]) -> tuple[Interval, Status]:
    """Intersect what is guaranteed, or else what is estimated; the first wins a conflict."""
    sound = [item for item in evidence if item[1] in SOUND] or evidence
    lower = max(item.lower for item, _ in sound)
    upper = min(item.upper for item, _ in sound)
    if lower > upper:
        return sound[0]
    return Interval(lower, upper), weakest(status for _, status in sound)

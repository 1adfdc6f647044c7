"""What two candidates differ by: the true reward, and the learned one beside it (theory §6.3)."""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.certificate import Certificate
from taut.bounds.sampling import block_interval
from taut.decisions.contest.contest import (
    CERTIFICATES,
    SOUND,
    Contest,
    moved,
    pair_status,
)
from taut.decisions.contest.pairs import PROXY, Draws, Pair, paired_difference
from taut.decisions.contest.result import Difference, Name
from taut.types import Interval, Status, weakest

_CLOSE = 2  # shared draws are at least this part of one side's, or means are taken apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the statements on two candidates may spend.

    Attributes:
        true: Probability that each end of the paired true difference may miss; 0: none is made.
        learned: The same for the learned one.
        joint: The certificates hold together with these, so that theirs are an evidence too.
    """

    true: float
    learned: float
    joint: bool


class Opposed:
    """The draws of two candidates, and what is bound of f(one) - f(other)."""

    def __init__(self, contest: Contest, one: Name, other: Name, spent: Spent):
        self.contest, self.names, self.spent = contest, (one, other), spent
        (mine, mixed), (theirs, also_mixed) = contest.draws(one), contest.draws(other)
        self.sides = mine, theirs
        self.mixed = mixed or also_mixed
        self.method = contest.options.method
        if self.mixed and self.method in ("betting", "bernstein"):
            self.method = "mixture"  # order-free, as draws differ in law (theory §2.5)
        _, mine, theirs = np.intersect1d(*(side.key for side in self.sides), return_indices=True)
        known = [~np.isnan(side.gold) for side in self.sides]
        self.shared, self.labelled = len(mine), int((known[0][mine] & known[1][theirs]).sum())
        self.whole = self.shared == max(len(side.key) for side in self.sides)

    @property
    def certificates(self) -> tuple[Certificate, Certificate]:
        """Of both."""
        one, other = self.names
        return self.contest.certificates[one], self.contest.certificates[other]

    def true(self) -> Difference:
        """Bound f(one) - f(other) on the true reward.

        One evidence is taken by its standing, never by its ends; the others of the same standing
        are cut with it. Each was paid for.
        """
        pair = self._pair(self.spent.true) if self.spent.true else None
        evidence = [item for item in (self._paired(pair), self._apart()) if item is not None]
        if not evidence:
            return self._nothing(CERTIFICATES, Status.VACUOUS)
        first = min(evidence, key=lambda item: item[1].rank)
        ends, status, kind, mean = first
        for other, its, _, _ in evidence:
            low, high = max(ends.lower, other.lower), min(ends.upper, other.upper)
            ends = Interval(low, high) if its is status and low <= high else ends
        counted = pair.labelled if pair is not None and pair.kind == kind else self.labelled
        return self._told(ends, status, kind, mean, counted)

    def learned(self) -> Difference:
        """Bound the same of the learned reward, less its KL cost, in reward units."""
        parts = [self.contest.learned_statuses[name] for name in self.names]
        parts += [] if self.whole else [Status.CONDITIONAL]
        width = self.contest.units.width
        if not self._bounded:
            return self._nothing("unpaired", Status.VACUOUS)
        pair = self._pair(self.spent.learned, gold=False)
        if pair is not None and (self._matches or self._close):
            kind, found, mean = "matched" if pair.matched else "paired", pair.interval, pair.mean
        else:
            kind, (found, mean) = "unpaired", self._means()
        if self.contest.options.target == "objective":
            parts += [item.terms.kl_clipping.status for item in self.certificates]
        ends = moved(found, self.contest, *self.certificates, width=width)
        return self._told(ends, weakest(parts), kind, width * mean, self.labelled)

    @property
    def _bounded(self) -> bool:
        """Whether costs have a range."""
        return not self.contest.beta or all(map(math.isfinite, self.contest.tau))

    @property
    def _matches(self) -> bool:
        """Whether draws of different prompts may stand opposite each other."""
        return self.method == "betting" and not self.mixed

    @property
    def _close(self) -> bool:
        """So many draws are shared that leaving out the others pays, by their numbers alone."""
        return _CLOSE * self.shared >= min(len(side.key) for side in self.sides)

    def _pair(self, eta: float, *, gold: bool = True) -> Pair | None:
        sides = self.sides
        if not gold:
            sides = tuple(replace(side, gold=np.full(len(side.key), math.nan)) for side in sides)
        contest = self.contest
        return paired_difference(
            *sides,
            cost_range=(-contest.beta * contest.tau[1], contest.beta * contest.tau[0]),
            etas=(eta, eta),
            method=self.method,
            calibration=contest.options.calibration,
            match=self._matches,
        )

    def _paired(self, pair: Pair | None) -> "_Evidence | None":
        if pair is None or pair.kind == PROXY:
            return None
        status = pair_status(pair, self.contest, *self.names)
        ends = moved(pair.interval, self.contest, *self.certificates)
        return ends, status, pair.kind, self.contest.width * pair.mean

    def _apart(self) -> "_Evidence | None":
        """The difference of both certificates; one that says nothing still has its range."""
        mine, its = self.certificates
        known = [item for item in (mine, its) if item.status is not Status.VACUOUS]
        if not (
            self.spent.joint and known and all(item in known or wide(item) for item in (mine, its))
        ):
            return None
        ends = Interval(mine.lower - its.upper, mine.upper - its.lower)
        parts = [item.status for item in known] + ([] if self.whole else [Status.CONDITIONAL])
        mean = (ends.lower + ends.upper) / 2 if len(known) == 2 else None
        return ends, weakest(parts), CERTIFICATES, mean

    def _means(self) -> tuple[Interval, float]:
        """Two means apart; both sides' ends fail with the probability of one."""
        one, other = (self._alone(side) for side in self.sides)
        means = [float(np.mean(side.reward - side.cost)) for side in self.sides]
        return Interval(one.lower - other.upper, one.upper - other.lower), means[0] - means[1]

    def _alone(self, side: Draws) -> Interval:
        contest, eta = self.contest, self.spent.learned / 2
        low, high = -contest.beta * contest.tau[0], 1 + contest.beta * contest.tau[1]
        return block_interval(
            np.clip(side.reward - side.cost, low, high),
            low=low,
            high=high,
            delta_lower=eta,
            delta_upper=eta,
            method=self.method,
        )

    def _told(self, ends: Interval, status, kind: str, mean, labelled: int) -> Difference:
        return Difference(
            mean=mean if mean is not None and math.isfinite(mean) else None,
            lower=ends.lower if math.isfinite(ends.lower) else None,
            upper=ends.upper if math.isfinite(ends.upper) else None,
            status=status,
            kind=kind,
            shared=self.shared,
            labelled=labelled,
        )

    def _nothing(self, kind: str, status: Status) -> Difference:
        return self._told(Interval(-math.inf, math.inf), status, kind, None, self.labelled)


_Evidence = tuple[Interval, Status, str, float | None]


def wide(certificate: Certificate) -> bool:
    """Whether the ends hold though the certificate says nothing: rewards have a range."""
    terms = certificate.terms
    return (
        terms.reward_shift.source == "theory §3.9"
        and terms.sampling.status in SOUND
        and terms.kl_clipping.status in SOUND
    )

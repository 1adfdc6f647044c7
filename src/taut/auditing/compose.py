"""One target's certificate: spend delta, join the terms, keep the ledger (theory §5).

Everything here is on the unit scale (rewards in [0, 1], beta in unit reward per nat).
"""

import math
from dataclasses import dataclass, replace

from taut.auditing.calibration import Split, Thresholds
from taut.auditing.options import Options
from taut.auditing.routes.choice import Route, reward_routes
from taut.auditing.routes.declared import Joined
from taut.auditing.routes.reward_data import Shift
from taut.auditing.target import Budget, Design, Event, TargetMean, UnitData, exact_mean
from taut.bounds.kl_clipping import (
    TAIL_SHARE,
    Tail,
    declared_maximum_tail,
    estimated_tail,
    negative_tail,
    no_tail,
    second_moment_tail,
)
from taut.bounds.sampling import normal_interval
from taut.errors import AssumptionError
from taut.types import Interval, Status, Term, weakest

# An interval within this share of the trivial one at both ends is called vacuous.
_NOTHING = 0.005


@dataclass(frozen=True, slots=True)
class Terms:
    """The three errors as signed intervals; their sum moves the measured value to the truth."""

    sampling: Term
    reward_shift: Term
    kl_clipping: Term

    def __iter__(self):
        return iter((self.sampling, self.reward_shift, self.kl_clipping))


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One line of the table of routes: what a route would give, and why it was not taken.

    `lower` and `upper` are None where it is not open; `reason` is empty for the route taken.
    """

    route: str
    description: str
    status: Status | None
    lower: float | None
    upper: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class TargetCertificate:
    """The certificate of one target.

    Attributes:
        target: "reward", "clipped" or "objective".
        measured: The mean on the certifying draws that the terms are added to.
        lower, upper: The certificate.
        status: The weakest of its parts.
        terms: Sampling, reward shift, KL clipping.
        proxy: Interval for the same target with the learned reward in place of the true one.
        proxy_status: What that interval is worth.
        ledger: Random events used; their deltas sum to at most delta.
        routes: Every way to bound the reward shift, and why it was or was not taken. Each interval
            would hold on its own, had its route been taken.
        normal: Clustered normal interval of the same mean, for comparison only (theory §2.7).
    """

    target: str
    measured: float
    lower: float
    upper: float
    status: Status
    terms: Terms
    proxy: Interval
    proxy_status: Status
    ledger: tuple[Event, ...]
    normal: Interval
    routes: tuple[RouteEntry, ...]

    def rescaled(self, low: float, width: float) -> "TargetCertificate":
        """Return the certificate in reward units of the range [low, low + width]."""

        def term(item: Term) -> Term:
            return replace(item, lower=item.lower * width, upper=item.upper * width)

        return replace(
            self,
            measured=low + width * self.measured,
            lower=low + width * self.lower,
            upper=low + width * self.upper,
            terms=Terms(*map(term, self.terms)),
            proxy=Interval(low + width * self.proxy.lower, low + width * self.proxy.upper),
            normal=Interval(low + width * self.normal.lower, low + width * self.normal.upper),
            routes=tuple(
                item
                if item.lower is None
                else replace(item, lower=low + width * item.lower, upper=low + width * item.upper)
                for item in self.routes
            ),
        )


def certify(
    target: str,
    data: UnitData,
    split: Split,
    thresholds: Thresholds,
    design: Design,
    options: Options,
    delta: float,
    shift: Shift | None = None,
) -> TargetCertificate:
    """Compose the certificate of one target from the certifying draws, and from reward data.

    Raises:
        AssumptionError: The lower end lies above the upper end, so some assumption is false.

    Source: theory §5.
    """
    mean = TargetMean(target, data, split, thresholds, design, options)
    tail = _positive_tail(target, mean, options, delta)
    budget = _spend(delta, options.side, tail.delta)
    learned = mean.interval(mean.draws, mean.low, mean.high, budget)
    joined, listed = reward_routes(mean, learned, budget, options, delta, shift)
    clipping = _clipping(target, mean, tail)
    terms = Terms(
        Term(
            lower=joined.sampling.lower,
            upper=joined.sampling.upper,
            delta=math.fsum(item.delta for item in joined.events),
            status=mean.status,
            assumes=design.assumes,
            source=mean.source,
        ),
        Term(
            lower=joined.shift.lower,
            upper=joined.shift.upper,
            delta=math.fsum(item.delta for item in joined.shift_events),
            status=_worth(joined, listed),
            assumes=joined.assumes,
            source=joined.source,
            route=joined.route,
        ),
        clipping,
    )
    measured = exact_mean(mean.draws)
    trivial = _trivial_range(target, mean, options)
    lower, upper = _within(
        measured + math.fsum(term.lower for term in terms),
        measured + math.fsum(term.upper for term in terms),
        trivial,
    )
    status = weakest(term.status for term in terms)
    if lower > upper:
        raise AssumptionError(
            f"the lower end {lower:.6g} of the {target} certificate lies above its upper end "
            f"{upper:.6g} (unit scale): a declared constant or an assumption must be false, but "
            f"for a chance of at most {delta:g}. Check the declared ranges, C, L and the log-ratio "
            "maximum, and run `taut check`."
        )
    return TargetCertificate(
        target=target,
        measured=measured,
        lower=lower,
        upper=upper,
        status=status,
        terms=terms,
        proxy=_proxy(learned, clipping, trivial),
        proxy_status=weakest((mean.status, clipping.status)),
        ledger=_ledger(joined, clipping),
        normal=normal_interval(joined.values, delta / 2, delta / 2),
        routes=tuple(_entry(item, listed, clipping, trivial) for item in listed),
    )


def _worth(joined: Joined, listed: tuple[Route, ...]) -> Status:
    """Return a route's status; vacuous if it is at neither end narrower than the trivial one."""
    trivial, ours = listed[-1].joined.interval, joined.interval
    slack = _NOTHING * (trivial.upper - trivial.lower)
    says_nothing = ours.lower <= trivial.lower + slack and ours.upper >= trivial.upper - slack
    return Status.VACUOUS if says_nothing else joined.status


def _clipping(target: str, mean: TargetMean, tail: Tail) -> Term:
    """Return the KL-clipping term: a lower end needs T+, an upper end T- (theory §4.3)."""
    if mean.beta == 0:
        return Term(lower=0.0, upper=0.0, delta=0.0, status=Status.CERTIFIED, source="beta = 0")
    whole = target == "objective"
    free = _negative_tail(mean.thresholds, mean.design) if whole else no_tail()
    return Term(
        lower=-mean.beta * tail.bound,
        upper=mean.beta * free.bound,
        delta=tail.delta,
        status=weakest((tail.status, free.status)),
        assumes=tail.assumes + free.assumes,
        source=f"{tail.source}, {free.source}" if whole else tail.source,
    )


def _spend(delta: float, side: str, tail: float) -> Budget:
    """Split delta over the ends; `tail` comes out of the lower end's share (theory §5)."""
    if side == "upper":
        return Budget(0.0, 0.0, delta)
    if side == "lower":
        return Budget(delta - tail, tail, 0.0)
    return Budget(delta / 2 - tail, tail, delta / 2)


def _positive_tail(target: str, mean: TargetMean, options: Options, delta: float) -> Tail:
    """The bound on E(l - tau)_+ that the declarations allow, in the order of theory §4.4."""
    if target != "objective" or mean.beta == 0:
        return no_tail()
    if options.side == "upper":
        return Tail(math.inf, 0.0, Status.CERTIFIED, (), "no lower end was asked for")
    share = TAIL_SHARE * (delta if options.side == "lower" else delta / 2)
    log_ratio, tau = mean.data.log_ratio, mean.thresholds.tau
    if options.log_ratio_max is not None:
        tail = declared_maximum_tail(
            log_ratio,
            mean.blocks,
            tau=tau,
            maximum=options.log_ratio_max,
            delta=share,
            method=mean.method,
        )
        return tail
    if options.log_ratio_second_moment is not None and tau < math.inf:
        return second_moment_tail(tau, options.log_ratio_second_moment)
    return estimated_tail(log_ratio, mean.blocks, tau=tau, delta=share)


def _negative_tail(thresholds: Thresholds, design: Design) -> Tail:
    """The free bound, unless the data contradict E e^(-l) <= 1, which it rests on."""
    free = negative_tail(thresholds.tau_negative)
    if design.log_probs_sound:
        return free
    doubt = "log-probs are those of the policy that sampled, although E exp(-l) exceeds 1"
    return replace(free, status=Status.ESTIMATED, assumes=(doubt,))


def _trivial_range(target: str, mean: TargetMean, options: Options) -> tuple[float, float]:
    """What is true without any data: r* in [0, 1], the clip range, KL >= 0 (theory §3.9, §4.2)."""
    if target != "objective":
        return mean.low, mean.high
    maximum = options.log_ratio_max
    floor = -math.inf if maximum is None else -mean.beta * maximum
    return (0.0 if mean.beta == 0 else floor), 1.0


def _within(lower: float, upper: float, trivial: tuple[float, float]) -> tuple[float, float]:
    return max(lower, trivial[0]), min(upper, trivial[1])


def _entry(route: Route, listed, clipping: Term, trivial: tuple[float, float]) -> RouteEntry:
    if route.joined is None:
        return RouteEntry(route.name, "", None, None, None, route.reason)
    interval = route.joined.interval
    status = weakest((_worth(route.joined, listed), clipping.status))
    if interval.lower > interval.upper:
        crossed = "its ends cross: an assumption is false, or chance was against it"
        return RouteEntry(route.name, route.joined.route, None, None, None, crossed)
    ends = _within(interval.lower + clipping.lower, interval.upper + clipping.upper, trivial)
    return RouteEntry(route.name, route.joined.route, status, *ends, route.reason)


def _proxy(learned: Interval, clipping: Term, trivial: tuple[float, float]) -> Interval:
    return Interval(
        *_within(learned.lower + clipping.lower, learned.upper + clipping.upper, trivial)
    )


def _ledger(joined: Joined, clipping: Term) -> tuple[Event, ...]:
    tail = Event("positive tail of the log-ratio", clipping.delta)
    events = (*joined.events, *joined.shift_events, tail)
    return tuple(item for item in events if item.delta)

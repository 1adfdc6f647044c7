"""One target's certificate: spend delta, join the terms, keep the ledger (theory §5).

Bounds are on the unit scale (rewards in [0, 1], beta in unit reward per nat); the result is in
user units, rounded outward.
"""

import math
from dataclasses import dataclass

from taut.auditing.certificate import RouteEntry, TermResult, Terms
from taut.auditing.options import Options
from taut.auditing.prepare import Prepared
from taut.auditing.routes.choice import Route, reward_routes
from taut.auditing.routes.declared import Joined
from taut.auditing.routes.reward_data import Shift
from taut.auditing.target import Budget, Event, TargetMean
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
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.errors import AssumptionError
from taut.types import Interval, Status, weakest

# An interval within this share of the trivial one at both ends is called vacuous.
_NOTHING = 0.005


@dataclass(frozen=True, slots=True)
class TargetCertificate:
    """The certificate of one target, in user units.

    Attributes:
        target: "reward", "clipped" or "objective".
        units, range: "gold" or "reward", and what the target lies in without any data.
        measured: The mean on the certifying draws that the terms are added to; None where gold has
            a scale of its own.
        lower, upper: The certificate.
        status: The weakest of its parts.
        assumptions: What it rests on.
        terms: Sampling, reward shift, KL clipping.
        proxy: Interval for the same target with the learned reward in place of the true one, in
            reward units.
        proxy_status: What that interval is worth.
        ledger: Random events used; their deltas sum to at most delta.
        routes: Every way to bound the reward shift, and why it was or was not taken. Each interval
            would hold on its own, had its route been taken.
        normal: Clustered normal interval of the same mean, for comparison only (theory §2.7).
    """

    target: str
    units: str
    range: tuple[float, float]
    measured: float | None
    lower: float
    upper: float
    status: Status
    assumptions: tuple[Assumption, ...]
    terms: Terms
    proxy: Interval
    proxy_status: Status
    ledger: tuple[Event, ...]
    normal: Interval
    routes: tuple[RouteEntry, ...]


def certify(
    target: str, ready: Prepared, shift: Shift | None = None, mean: TargetMean | None = None
) -> TargetCertificate:
    """Compose the certificate of one target from the certifying draws, and from reward data.

    `mean` is `mean_of` the target, where it is known already.

    Raises:
        AssumptionError: The lower end lies above the upper end, so some assumption is false.

    Source: theory §5.
    """
    options, design, delta = ready.options, ready.design, ready.delta
    mean = mean_of(target, ready) if mean is None else mean
    tail = _positive_tail(target, mean, options, delta)
    budget = spend(delta, options.side, tail.delta)
    learned = mean.interval(mean.draws, mean.low, mean.high, budget)
    joined, listed = reward_routes(mean, learned, budget, options, delta, shift)
    clipping = _clipping(target, mean, tail)
    measured = mean.measured
    trivial = _trivial_range(target, mean, options)
    lower, upper = _within(
        measured + math.fsum((joined.sampling.lower, joined.shift.lower, clipping.lower)),
        measured + math.fsum((joined.sampling.upper, joined.shift.upper, clipping.upper)),
        trivial,
    )
    if lower > upper:
        raise AssumptionError(
            f"the lower end {lower:.6g} of the {target} certificate lies above its upper end "
            f"{upper:.6g} (unit scale): a declared constant or an assumption must be false, but "
            f"for a chance of at most {delta:g}. Check the declared ranges, C, L and the log-ratio "
            "maximum, and run `taut check`."
        )
    units = "gold" if target == "reward" else "reward"
    scale, own = design.units.target_scale(units), design.units.target_scale("reward")
    one_scale = units == "reward" or design.units.common is not None
    bounds = _range_of(design.units, units, scale, trivial)
    learned_bounds = _range_of(design.units, "reward", own, trivial)
    ends = _mapped(Interval(lower, upper), scale, bounds)
    status = weakest((mean.status, _worth(joined, listed), clipping.status))
    return TargetCertificate(
        target=target,
        units=units,
        range=bounds,
        measured=scale.at(measured) if one_scale else None,
        lower=ends.lower,
        upper=ends.upper,
        status=status,
        assumptions=_assumptions(mean, joined, clipping),
        terms=_terms(mean, joined, listed, clipping, scale if one_scale else None),
        proxy=_mapped(_proxy(learned, clipping, trivial), own, learned_bounds),
        proxy_status=weakest((mean.status, clipping.status)),
        ledger=_ledger(joined, clipping),
        normal=scale.outward(normal_interval(joined.values, delta / 2, delta / 2)),
        routes=tuple(_entry(item, listed, clipping, trivial, (scale, bounds)) for item in listed),
    )


def mean_of(target: str, ready: Prepared) -> TargetMean:
    """Return the mean that a target is made of: one for "reward", another for all with a KL."""
    return TargetMean(
        target, ready.data, ready.split, ready.thresholds, ready.design, ready.options
    )


def _range_of(units, name: str, scale, trivial: tuple[float, float]) -> tuple[float, float]:
    if name == "gold":
        return units.gold_range
    found, (low, high) = scale.outward(Interval(*trivial)), units.scale
    return low if trivial[0] == 0 else found.lower, high if trivial[1] == 1 else found.upper


def _mapped(interval: Interval, scale, bounds: tuple[float, float]) -> Interval:
    """Map to user units, rounded outward, but never out of what holds without any data."""
    found = scale.outward(interval)
    return Interval(max(found.lower, bounds[0]), min(found.upper, bounds[1]))


def _assumptions(mean: TargetMean, joined: Joined, clipping: "Clipping") -> tuple[Assumption, ...]:
    """Return what a target rests on, each once."""
    stated = (*mean.rests_on, *joined.assumes, *clipping.rests_on)
    return tuple({(item.name, item.text): item for item in stated}.values())


_OWN_SCALE = "gold has a scale of its own, so that r* has no difference from the learned reward"


def _terms(mean, joined: Joined, listed, clipping: "Clipping", scale) -> Terms:
    """Return the three errors in user units; without numbers where they have none."""

    def term(found: Interval | None, **named) -> TermResult:
        lower = upper = reason = None
        if scale is None:
            reason = _OWN_SCALE
        elif found is not None:
            lower, upper = scale.length(found.lower), scale.length(found.upper)
        return TermResult(lower=lower, upper=upper, reason=reason, **named)

    return Terms(
        sampling=term(
            joined.sampling,
            delta=math.fsum(item.delta for item in joined.events),
            status=mean.status,
            assumes=_beyond(mean.rests_on),
            source=mean.source,
        ),
        reward_shift=term(
            joined.shift,
            delta=math.fsum(item.delta for item in joined.shift_events),
            status=_worth(joined, listed),
            assumes=_beyond(joined.assumes),
            source=joined.source,
            route=joined.route,
        ),
        kl_clipping=term(
            Interval(clipping.lower, clipping.upper),
            delta=clipping.delta,
            status=clipping.status,
            assumes=_beyond(clipping.rests_on),
            source=clipping.source,
        ),
    )


def _beyond(stated: tuple[Assumption, ...]) -> tuple[str, ...]:
    """Return the texts of what keeps a term from being certified."""
    return tuple(item.text for item in stated if item.status is not Status.CERTIFIED)


def _worth(joined: Joined, listed: tuple[Route, ...]) -> Status:
    """Return a route's status; vacuous if it is at neither end narrower than the trivial one."""
    trivial, ours = listed[-1].joined.interval, joined.interval
    slack = _NOTHING * (trivial.upper - trivial.lower)
    says_nothing = ours.lower <= trivial.lower + slack and ours.upper >= trivial.upper - slack
    return Status.VACUOUS if says_nothing else joined.status


@dataclass(frozen=True, slots=True)
class Clipping:
    """The KL-clipping term on the unit scale."""

    lower: float
    upper: float
    delta: float
    status: Status
    rests_on: tuple[Assumption, ...]
    source: str


def _clipping(target: str, mean: TargetMean, tail: Tail) -> Clipping:
    """Return the KL-clipping term: a lower end needs T+, an upper end T- (theory §4.3).

    Declared noise of the log-ratios moves the clipped cost and its tail together by at most beta
    times as much, as clipping is 1-Lipschitz (theory §3.7).
    """
    if mean.beta == 0:
        return Clipping(0.0, 0.0, 0.0, Status.CERTIFIED, (), "beta = 0")
    whole = target == "objective"
    noise = mean.beta * (mean.design.declared.log_prob_noise or 0.0)
    free = negative_tail(mean.thresholds.tau_negative) if whole else no_tail()
    sound = mean.design.log_probs_sound or not whole
    return Clipping(
        lower=-mean.beta * tail.bound - noise,
        upper=mean.beta * free.bound + noise,
        delta=tail.delta,
        status=weakest((tail.status, free.status, Status.CERTIFIED if sound else Status.ESTIMATED)),
        rests_on=tuple(_quantity(text) for text in tail.assumes),
        source=f"{tail.source}, {free.source}" if whole else tail.source,
    )


def _quantity(text: str) -> Assumption:
    """An assumption about the tail: declared, or read off the sample."""
    said = text.removesuffix(" (declared)")
    declared = said != text
    return Assumption(
        name=about.QUANTITY,
        text=said,
        stands=Standing.DECLARED if declared else Standing.ASSUMED,
        by="declared" if declared else "read off the sample",
    )


def spend(delta: float, side: str, tail: float) -> Budget:
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


def _trivial_range(target: str, mean: TargetMean, options: Options) -> tuple[float, float]:
    """What is true without any data: r* in [0, 1], the clip range, KL >= 0 (theory §3.9, §4.2)."""
    if target != "objective":
        return mean.low, mean.high
    maximum = options.log_ratio_max
    floor = -math.inf if maximum is None else -mean.beta * maximum
    return (0.0 if mean.beta == 0 else floor), 1.0


def _within(lower: float, upper: float, trivial: tuple[float, float]) -> tuple[float, float]:
    return max(lower, trivial[0]), min(upper, trivial[1])


def _entry(
    route: Route, listed, clipping: Clipping, trivial: tuple[float, float], units
) -> RouteEntry:
    def entry(description: str, reason: str, status=None, ends=(None, None)) -> RouteEntry:
        return RouteEntry(
            route=route.name,
            description=description,
            status=status,
            lower=ends[0],
            upper=ends[1],
            reason=reason,
        )

    if route.joined is None:
        return entry("", route.reason)
    interval = route.joined.interval
    status = weakest((_worth(route.joined, listed), clipping.status))
    if interval.lower > interval.upper:
        crossed = "its ends cross: an assumption is false, or chance was against it"
        return entry(route.joined.route, crossed)
    ends = _within(interval.lower + clipping.lower, interval.upper + clipping.upper, trivial)
    found = _mapped(Interval(*ends), *units)
    return entry(route.joined.route, route.reason, status, (found.lower, found.upper))


def _proxy(learned: Interval, clipping: Clipping, trivial: tuple[float, float]) -> Interval:
    return Interval(
        *_within(learned.lower + clipping.lower, learned.upper + clipping.upper, trivial)
    )


def _ledger(joined: Joined, clipping: Clipping) -> tuple[Event, ...]:
    tail = Event("positive tail of the log-ratio", clipping.delta)
    events = (*joined.events, *joined.shift_events, tail)
    return tuple(item for item in events if item.delta)

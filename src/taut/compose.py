"""One target's certificate: spend delta, join the terms, keep the ledger (theory §5).

Everything here is on the unit scale (rewards in [0, 1], beta in unit reward per nat).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.bounds.kl_clipping import (
    Tail,
    clip_log_ratio,
    declared_maximum_tail,
    estimated_tail,
    negative_tail,
    no_tail,
    second_moment_tail,
)
from taut.bounds.reward_shift import (
    GoldPlan,
    choose_gold_plan,
    gold_blocks,
    label_counts,
    paper_shift,
)
from taut.bounds.sampling import block_interval, normal_interval
from taut.calibration import Split, Thresholds
from taut.errors import AssumptionError
from taut.options import Options
from taut.rollouts import Blocks
from taut.types import Interval, Status, Term, weakest

# Share of the lower side's budget given to the positive tail, where that tail is a random event.
_TAIL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class UnitData:
    """The log on the unit scale, shape (rollouts,); see `Rollouts` for meanings.

    `reward_mse` is the declared L, on the unit scale squared.
    """

    reward: np.ndarray
    gold: np.ndarray | None
    log_ratio: np.ndarray | None
    beta: float
    reward_mse: float | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """What the log's layout allows: one law for all draws or not, and what that costs.

    Attributes:
        identical: Draws are identically distributed (one policy); else order-free bounds are used.
        status: The best status that the layout allows.
        assumes: Why it is not better.
        labels_blind: No sign that labels depend on outcomes.
        log_probs_sound: No sign that log-probs are not the sampling policy's own.
    """

    identical: bool
    status: Status
    assumes: tuple[str, ...] = ()
    labels_blind: bool = True
    log_probs_sound: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """One random event of the delta ledger and the probability it may fail with."""

    event: str
    delta: float


@dataclass(frozen=True, slots=True)
class Terms:
    """The three errors as signed intervals; their sum moves the measured value to the truth."""

    sampling: Term
    reward_shift: Term
    kl_clipping: Term

    def __iter__(self):
        return iter((self.sampling, self.reward_shift, self.kl_clipping))


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
        )


@dataclass(frozen=True, slots=True)
class _Budget:
    lower: float
    tail: float
    upper: float


@dataclass(frozen=True, slots=True)
class _Joined:
    """Sampling and reward shift together: an interval and its two shares."""

    interval: Interval
    sampling: Interval
    shift: Interval
    delta: tuple[float, float]
    status: Status
    assumes: tuple[str, ...]
    route: str
    source: str
    values: np.ndarray


def certify(
    target: str,
    data: UnitData,
    split: Split,
    thresholds: Thresholds,
    design: Design,
    options: Options,
    delta: float,
) -> TargetCertificate:
    """Compose the certificate of one target from the certifying draws.

    Raises:
        AssumptionError: The lower end lies above the upper end, so some assumption is false.

    Source: theory §5.
    """
    mean = _Mean(target, data, split, thresholds, design, options)
    tail = _positive_tail(target, mean, options, delta)
    budget = _spend(delta, options.side, tail.delta)
    learned = mean.interval(mean.draws, mean.low, mean.high, budget)
    joined = _reward_route(mean, learned, budget, options, delta)
    free = _negative_tail(thresholds, design) if target == "objective" else no_tail()
    beta = mean.beta
    clipping = Term(
        lower=-beta * tail.bound,
        upper=beta * free.bound,
        delta=tail.delta,
        status=weakest((tail.status, free.status)),
        assumes=tail.assumes + free.assumes,
        source=f"{tail.source}, {free.source}" if target == "objective" else tail.source,
    )
    if beta == 0:
        clipping = Term(lower=0.0, upper=0.0, delta=0.0, status=Status.CERTIFIED, source="beta = 0")
    terms = Terms(
        Term(
            lower=joined.sampling.lower,
            upper=joined.sampling.upper,
            delta=sum(joined.delta),
            status=mean.status,
            assumes=design.assumes,
            source=mean.source,
        ),
        Term(
            lower=joined.shift.lower,
            upper=joined.shift.upper,
            delta=0.0,
            status=joined.status,
            assumes=joined.assumes,
            source=joined.source,
            route=joined.route,
        ),
        clipping,
    )
    measured = _mean(mean.draws)
    lower, upper = _within(
        measured + math.fsum(term.lower for term in terms),
        measured + math.fsum(term.upper for term in terms),
        _trivial_range(target, mean, options),
    )
    status = weakest(term.status for term in terms)
    if lower > upper:
        raise AssumptionError(
            f"the lower end {lower:.6g} of the {target} certificate lies above its upper end "
            f"{upper:.6g} (unit scale): a declared constant or an assumption must be false. "
            "Check the declared ranges, C, L and the log-ratio maximum, and `taut check`."
        )
    return TargetCertificate(
        target=target,
        measured=measured,
        lower=lower,
        upper=upper,
        status=status,
        terms=terms,
        proxy=_proxy(learned, clipping, _trivial_range(target, mean, options)),
        proxy_status=weakest((mean.status, clipping.status)),
        ledger=_ledger(joined, clipping),
        normal=normal_interval(joined.values, delta / 2, delta / 2),
    )


class _Mean:
    """The clipped objective of one target as block values with a known range."""

    def __init__(self, target, data, split, thresholds, design, options):
        self.data, self.split, self.thresholds, self.options = data, split, thresholds, options
        self.design = design
        self.beta = 0.0 if target == "reward" else data.beta
        self.blocks: Blocks = split.certifying
        if self.beta:
            clipped = clip_log_ratio(data.log_ratio, thresholds.tau, thresholds.tau_negative)
            self.cost = self.beta * clipped
            self.cost_range = (-self.beta * thresholds.tau_negative, self.beta * thresholds.tau)
        else:
            self.cost = np.zeros(len(data.reward))
            self.cost_range = (0.0, 0.0)
        self.low, self.high = -self.cost_range[1], 1 - self.cost_range[0]
        # Rounding of a block mean may leave the range by an ulp.
        self.draws = np.clip(self.blocks.means(data.reward - self.cost), self.low, self.high)
        unbounded = math.isinf(self.high - self.low)
        self.method = "normal" if unbounded else options.method
        if not design.identical and self.method in ("betting", "bernstein"):
            self.method = "mixture"
        self.status = weakest((design.status, Status.ESTIMATED if unbounded else Status.CERTIFIED))
        self.source = _SOURCES[self.method]

    def interval(self, values, low, high, budget, sizes=None) -> Interval:
        return block_interval(
            values,
            low=low,
            high=high,
            delta_lower=budget.lower,
            delta_upper=budget.upper,
            method=self.method,
            sizes=self.blocks.sizes if sizes is None else sizes,
        )


_SOURCES = {
    "betting": "theory §2.4",
    "mixture": "theory §2.5",
    "bernstein": "theory §2.3",
    "hoeffding": "theory §2.2",
    "paper": "theory §2.1",
    "normal": "theory §2.7",
}


def _spend(delta: float, side: str, tail: float) -> _Budget:
    """Split delta over the ends; `tail` comes out of the lower end's share (theory §5)."""
    if side == "upper":
        return _Budget(0.0, 0.0, delta)
    if side == "lower":
        return _Budget(delta - tail, tail, 0.0)
    return _Budget(delta / 2 - tail, tail, delta / 2)


def _positive_tail(target: str, mean: _Mean, options: Options, delta: float) -> Tail:
    """The bound on E(l - tau)_+ that the declarations allow, in the order of theory §4.4."""
    if target != "objective" or mean.beta == 0:
        return no_tail()
    if options.side == "upper":
        return Tail(math.inf, 0.0, Status.CERTIFIED, (), "no lower end was asked for")
    share = _TAIL_SHARE * (delta if options.side == "lower" else delta / 2)
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
    if options.log_ratio_second_moment is not None and 0 < tau < math.inf:
        return second_moment_tail(tau, options.log_ratio_second_moment)
    return estimated_tail(log_ratio, mean.blocks, tau=tau, delta=share)


def _negative_tail(thresholds: Thresholds, design: Design) -> Tail:
    """The free bound, unless the data contradict E e^(-l) <= 1, which it rests on."""
    free = negative_tail(thresholds.tau_negative)
    if design.log_probs_sound:
        return free
    doubt = "log-probs are those of the policy that sampled, although E exp(-l) exceeds 1"
    return replace(free, status=Status.ESTIMATED, assumes=(doubt,))


def _reward_route(mean, learned, budget, options, delta) -> _Joined:
    """Gold labels where there are any, else declared constants, else the trivial bound."""
    gold = mean.data.gold
    if gold is not None and (label_counts(gold, mean.blocks) > 0).any():
        return _gold(mean, budget, delta, mean.design.labels_blind)
    if options.coverage is not None:
        shift = paper_shift(options.coverage, mean.data.reward_mse)
        if shift < 1:
            return _declared(mean, learned, budget, shift, options)
    return _trivial(mean, learned, budget)


def _gold(mean: _Mean, budget: _Budget, delta: float, blind: bool) -> _Joined:
    data, blocks = mean.data, mean.blocks
    labelled = int((label_counts(data.gold, blocks) > 0).sum())
    parts = {
        "reward": data.reward,
        "gold": data.gold,
        "kl_cost": mean.cost,
        "kl_range": mean.cost_range,
    }
    plan = GoldPlan(0.0, 1.0)
    if labelled < len(blocks) or len(mean.split.calibration):
        plan = choose_gold_plan(
            **parts,
            calibration=mean.split.calibration,
            labelled=labelled,
            unlabelled=len(blocks) - labelled,
            delta=delta,
        )
    if math.isinf(mean.high - mean.low):
        plan = replace(plan, own=1.0)
    joint = gold_blocks(plan, **parts, blocks=blocks)
    interval = mean.interval(
        joint.values, joint.low, joint.high, budget, np.ones(len(joint.values), dtype=np.int64)
    )
    sampling, shift = _shares(mean, joint.values, interval)
    return _Joined(
        interval=interval,
        sampling=sampling,
        shift=shift,
        delta=(budget.lower, budget.upper),
        status=Status.CERTIFIED if joint.exact and blind else Status.ESTIMATED,
        assumes=_gold_assumes(joint.exact, blind),
        route=_gold_route(plan, labelled),
        source="theory §3.6",
        values=joint.values,
    )


def _gold_assumes(exact: bool, blind: bool) -> tuple[str, ...]:
    text = "which rows carry gold labels does not depend on outcomes"
    text += "" if blind else ", although labelled rows look different"
    if exact:
        return (text,)
    return (
        text,
        "rows were labelled one by one at a rate read off this log, and draws have unequal "
        "numbers of rollouts; label whole prompts for a certificate",
    )


def _gold_route(plan: GoldPlan, labelled: int) -> str:
    if plan.own == 1.0:
        return f"gold labels on {labelled} draws alone"
    return f"gold labels on {labelled} draws, rectified with weight {plan.weight:g}"


def _shares(mean: _Mean, values: np.ndarray, interval: Interval) -> tuple[Interval, Interval]:
    """Show one joint bound as two shares, in proportion to variance; a display, no second bound."""
    measured, centre = _mean(mean.draws), _mean(values)
    gold = mean.data.gold
    residual = gold_blocks(
        GoldPlan(0.0, 1.0),
        reward=mean.data.reward,
        gold=gold - mean.data.reward,
        kl_cost=np.zeros_like(mean.cost),
        kl_range=(-1.0, 1.0),
        blocks=mean.blocks,
    ).values
    drift = _mean(residual)
    ours = float(mean.draws.var()) / len(mean.draws)
    theirs = float(residual.var()) / len(residual)
    part = ours / (ours + theirs) if ours + theirs > 0 else 0.5
    below, above = interval.lower - centre, interval.upper - centre
    offset = centre - measured - drift
    return (
        Interval(offset + part * below, offset + part * above),
        Interval(drift + (1 - part) * below, drift + (1 - part) * above),
    )


def _declared(mean, learned, budget, shift, options) -> _Joined:
    measured = _mean(mean.draws)
    return _Joined(
        interval=Interval(learned.lower - shift, learned.upper + shift),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(-shift, shift),
        delta=(budget.lower, budget.upper),
        status=Status.CONDITIONAL,
        assumes=(
            f"coverage C is at most {options.coverage:g} (declared)",
            "the reward model's mean squared error on its data is at most the declared L",
        ),
        route="declared C and L",
        source="theory §3.1",
        values=mean.draws,
    )


def _trivial(mean: _Mean, learned: Interval, budget: _Budget) -> _Joined:
    """Rewards lie in [0, 1], so E r* does; only the KL cost is left to bound (theory §3.9)."""
    measured = _mean(mean.draws)
    cost = Interval(0.0, 0.0)
    if mean.beta:
        low, high = -mean.cost_range[1], -mean.cost_range[0]
        draws = np.clip(mean.blocks.means(-mean.cost), low, high)
        cost = mean.interval(draws, low, high, budget)
    return _Joined(
        interval=Interval(cost.lower, 1 + cost.upper),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(cost.lower - learned.lower, 1 + cost.upper - learned.upper),
        delta=(budget.lower, budget.upper),
        status=Status.VACUOUS,
        assumes=(),
        route="trivial",
        source="theory §3.9",
        values=mean.draws,
    )


def _trivial_range(target: str, mean: _Mean, options: Options) -> tuple[float, float]:
    """What is true without any data: r* in [0, 1], the clip range, KL >= 0 (theory §3.9, §4.2)."""
    if target != "objective":
        return mean.low, mean.high
    maximum = options.log_ratio_max
    floor = -math.inf if maximum is None else -mean.beta * maximum
    return (0.0 if mean.beta == 0 else floor), 1.0


def _within(lower: float, upper: float, trivial: tuple[float, float]) -> tuple[float, float]:
    return max(lower, trivial[0]), min(upper, trivial[1])


def _proxy(learned: Interval, clipping: Term, trivial: tuple[float, float]) -> Interval:
    return Interval(
        *_within(learned.lower + clipping.lower, learned.upper + clipping.upper, trivial)
    )


def _ledger(joined: _Joined, clipping: Term) -> tuple[Event, ...]:
    joint = "gold" if joined.route.startswith("gold") else "learned reward and KL cost"
    names = (f"lower end of the mean of {joint} blocks", f"upper end of the mean of {joint} blocks")
    events = [Event(name, spent) for name, spent in zip(names, joined.delta, strict=True) if spent]
    if clipping.delta:
        events.append(Event("positive tail of the log-ratio", clipping.delta))
    return tuple(events)


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values)

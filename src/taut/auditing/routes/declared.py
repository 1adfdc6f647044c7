"""Routes from the learned reward to the true one: gold labels, declared constants, or nothing.

Each route joins sampling and reward shift into one interval on the unit scale (theory §3, §5).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.options import Options
from taut.auditing.target import Budget, Event, TargetMean, exact_mean
from taut.bounds.reward_shift import (
    GoldPlan,
    choose_gold_plan,
    gold_blocks,
)
from taut.bounds.sampling import predicted_half_width
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing, status_of
from taut.draws.labels import LabelKind, label_counts, labelled_rows
from taut.errors import CoverageError
from taut.types import Interval, Status


@dataclass(frozen=True, slots=True)
class Joined:
    """Sampling and reward shift together: an interval and its two shares, unit scale.

    Attributes:
        interval: For E[r* - cost], before the tails of the KL cost.
        sampling, shift: The two shares of what moves the measured mean there.
        events, shift_events: Random events that the sampling term (or both terms, where they
            share one mean) and the reward-shift term spend delta on.
        guaranteed: Whether the route has a guarantee by its design, whatever the data look like.
        status, assumes, route, source: Of the reward-shift term.
        values: The blocks behind the interval, for comparison with a normal one.
    """

    interval: Interval
    sampling: Interval
    shift: Interval
    events: tuple[Event, ...]
    status: Status
    assumes: tuple[Assumption, ...]
    route: str
    source: str
    values: np.ndarray
    shift_events: tuple[Event, ...] = ()
    guaranteed: bool = True


def both_ends(what: str, budget: Budget) -> tuple[Event, ...]:
    """Return the events of the two ends of one mean."""
    return (
        Event(f"lower end of the mean of {what}", budget.lower),
        Event(f"upper end of the mean of {what}", budget.upper),
    )


def gold(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """Gold labels on audited rollouts, joined with the learned reward (theory §3.6).

    Returns:
        The route, and the width that it was forecast to have on the calibration split.
    """
    data, blocks = mean.data, mean.blocks
    if mean.design.labels.kind is LabelKind.CHANCES:
        if mean.missing is not None:
            raise CoverageError(
                "needs labels of one chance: recorded chances are not weighed together with "
                "missing='worst'"
            )
        return _by_chances(mean, budget, delta)
    if mean.missing is not None and mean.design.labels.uneven:
        raise CoverageError(
            "needs whole prompts labelled, or one number of rollouts of each: where rollouts are "
            "missing (missing='worst'), rows labelled one by one go with how many are there"
        )
    labelled = int((label_counts(data.gold, blocks) > 0).sum())
    parts = {
        "reward": data.reward,
        "gold": data.gold,
        "kl_cost": mean.cost,
        "kl_range": mean.cost_range,
    }
    plan, half_width = _gold_plan(mean, delta)
    joint = gold_blocks(plan, **parts, blocks=blocks)
    interval = mean.interval(
        joint.values,
        joint.low,
        joint.high,
        budget,
        np.ones(len(joint.values), dtype=np.int64),
        label_counts(data.gold, blocks) > 0,
    )
    sampling, shift = shares_of(mean, joint.values, interval)
    assumes = mean.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
    joined = Joined(
        interval=interval,
        sampling=sampling,
        shift=shift,
        events=both_ends("gold blocks", budget),
        status=status_of(assumes),
        assumes=assumes,
        route=_gold_route(plan, labelled),
        source="theory §3.6",
        values=joint.values,
        guaranteed=joint.exact,
    )
    return joined, 2 * half_width


def _by_chances(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """Rows labelled one by one with recorded chances: inverse weights (theory §3.6).

    Both ends are lower ends of means that no weight makes negative: of r* - cost, and of
    1 - r* + cost. So no largest weight enters a bound, only the scale of its bets.
    """
    blocks, data = mean.blocks, mean.data
    known = labelled_rows(data.gold)
    chance = np.where(known, mean.design.rollouts.label_probability, 1.0)
    weight = np.where(known, 1.0 / chance, 0.0)
    most = float((1.0 / chance[blocks.rows]).max())
    gold = np.where(known, data.gold, 0.0)
    ends, spent = [], (budget.lower, budget.upper)
    shown = None
    for upper in (False, True):
        part = (1 - gold if upper else gold) * weight
        cost = mean.cost if upper else -mean.cost
        low, high = mean.cost_range if upper else (-mean.cost_range[1], -mean.cost_range[0])
        values = np.clip(blocks.means(part + cost), low, most + high)
        shown = values if shown is None else shown
        found = mean.interval(values, low, most + high, Budget(spent[upper], 0.0, 0.0))
        ends.append(found.lower)
    interval = Interval(ends[0], 1 - ends[1])
    measured, centre = exact_mean(mean.draws), exact_mean(shown)
    assumes = mean.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
    joined = Joined(
        interval=interval,
        sampling=Interval(interval.lower - centre, interval.upper - centre),
        shift=Interval(centre - measured, centre - measured),
        events=both_ends("gold weighted by the chances of its labels", budget),
        status=status_of(assumes),
        assumes=assumes,
        route=f"gold labels on {int(known[blocks.rows].sum())} rollouts, by recorded chances",
        source="theory §3.6",
        values=shown,
    )
    width = predicted_half_width(
        shown, low=mean.low, high=most + mean.high, blocks=len(shown), delta=delta
    )
    return joined, 2 * width


def _gold_plan(mean: TargetMean, delta: float) -> tuple[GoldPlan, float]:
    labelled = int((label_counts(mean.data.gold, mean.blocks) > 0).sum())
    plan, half_width = choose_gold_plan(
        reward=mean.data.reward,
        gold=mean.data.gold,
        kl_cost=mean.cost,
        kl_range=mean.cost_range,
        calibration=mean.split.calibration,
        labelled=labelled,
        unlabelled=len(mean.blocks) - labelled,
        delta=delta,
    )
    if math.isinf(mean.high - mean.low):
        plan = replace(plan, own=1.0)
    if mean.missing is not None:
        plan = GoldPlan(0.0, 1.0)  # what is missing of other draws would enter a group
    return plan, half_width


def _gold_route(plan: GoldPlan, labelled: int) -> str:
    if plan.own == 1.0:
        return f"gold labels on {labelled} draws alone"
    return f"gold labels on {labelled} draws, rectified with weight {plan.weight:g}"


def shares_of(
    mean: TargetMean, values: np.ndarray, interval: Interval
) -> tuple[Interval, Interval]:
    """Show one joint bound as two shares; a display, no second bound.

    The shift takes what separates the joined mean from the measured one; the width is shared in
    proportion to the standard errors of the learned reward's mean and of the labelled residuals.
    """
    measured, centre = exact_mean(mean.draws), exact_mean(values)
    residual = gold_blocks(
        GoldPlan(0.0, 1.0),
        reward=mean.data.reward,
        gold=mean.data.gold - mean.data.reward,
        kl_cost=np.zeros_like(mean.cost),
        kl_range=(-math.inf, math.inf),
        blocks=mean.blocks,
    ).values
    ours = float(mean.draws.std()) / math.sqrt(len(mean.draws))
    theirs = float(residual.std()) / math.sqrt(len(residual))
    part = ours / (ours + theirs) if ours > 0 and theirs > 0 else 0.5
    below, above = interval.lower - centre, interval.upper - centre
    moved = centre - measured
    return (
        Interval(part * below, part * above),
        Interval(moved + (1 - part) * below, moved + (1 - part) * above),
    )


def what_is_left(end: float, taken: float) -> float:
    """Return end - taken; an infinite end stays infinite whatever was taken before."""
    return end if math.isinf(end) else end - taken


def declared(
    mean: TargetMean, learned: Interval, budget: Budget, shift: float, options: Options
) -> Joined:
    """The paper's C sqrt(L) from declared constants, unit scale (theory §3.1)."""
    measured = exact_mean(mean.draws)
    return Joined(
        interval=Interval(learned.lower - shift, learned.upper + shift),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(-shift, shift),
        events=both_ends("learned reward less KL cost", budget),
        status=Status.CONDITIONAL,
        assumes=(
            _declared(f"coverage C is at most {options.coverage:g}", "--coverage"),
            _declared(
                "the reward model's mean squared error on its data is at most the declared L",
                "--reward-mse",
            ),
        ),
        route="declared C and L",
        source="theory §3.1",
        values=mean.draws,
    )


def _declared(text: str, by: str) -> Assumption:
    return Assumption(name=about.QUANTITY, text=text, stands=Standing.DECLARED, by=by)


def trivial(mean: TargetMean, learned: Interval, budget: Budget) -> Joined:
    """Rewards lie in [0, 1], so E r* does; only the KL cost is left to bound (theory §3.9)."""
    measured = exact_mean(mean.draws)
    cost = Interval(0.0, 0.0)
    if mean.beta:
        low, high = -mean.cost_range[1], -mean.cost_range[0]
        draws = np.clip(mean.blocks.means(-mean.cost), low, high)
        cost = mean.interval(draws, low, high, budget)
    return Joined(
        interval=Interval(cost.lower, 1 + cost.upper),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(
            what_is_left(cost.lower, learned.lower), what_is_left(1 + cost.upper, learned.upper)
        ),
        events=both_ends("KL cost", budget) if mean.beta else (),
        status=Status.VACUOUS,
        assumes=(),
        route="trivial",
        source="theory §3.9",
        values=mean.draws,
    )

"""Gold labels on audited rollouts, joined with the learned reward (theory §3.6).

Under one law, bets learn from the judge as they go (`taut.inequalities.rectifier`): every label
certifies, and nothing is set aside to choose how much the judge is worth. Bounds that take nothing
learned from earlier draws (several laws, lists, missing rollouts, methods other than betting) use
a weight fixed beforehand. All values are on the unit scale.
"""

import math
from dataclasses import replace

import numpy as np

from taut.auditing.routes.declared import Joined, both_ends
from taut.auditing.target import Budget, TargetMean, exact_mean
from taut.bounds.reward_shift import GoldPlan, choose_gold_plan, gold_blocks
from taut.bounds.sampling import half_width_forecast, predicted_half_width
from taut.draws import assumptions as about
from taut.draws.assumptions import status_of
from taut.draws.labels import LabelKind, labelled_rows
from taut.draws.rollouts import Blocks
from taut.errors import CoverageError
from taut.inequalities.concentration import clopper_pearson
from taut.inequalities.label_designs import (
    LabelledDraws,
    exact_binomial_fits,
    labelled_blocks,
)
from taut.inequalities.rectifier import RectifierBlocks, rectified_interval
from taut.types import Interval


def gold(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """Gold labels on audited rollouts, joined with the learned reward (theory §3.6).

    Returns:
        The route, and the width that it was forecast to have on the calibration split.
    """
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
    if not learns(mean):
        return _by_fixed_weight(mean, budget, delta)
    _, half_width = _gold_plan(mean, delta)
    if is_exact_binomial(mean):
        return _binomial(mean, budget), 2 * half_width
    found = rectified_interval(
        certifying_blocks(mean), delta_lower=budget.lower, delta_upper=budget.upper
    )
    route = f"gold labels on {_labelled(mean)} draws, beside the learned reward as labels show it"
    if _labelled(mean) == len(mean.blocks) and mean.design.labels.kind is LabelKind.ALL:
        route = f"gold labels on {_labelled(mean)} draws alone"
    return joined(mean, budget, found.interval, found.blocks, route), 2 * half_width


def learns(mean: TargetMean) -> bool:
    """Whether bets may learn from earlier labels what the judge is worth."""
    return mean.method == "betting" and mean.design.labels.one_chance


def certifying_blocks(mean: TargetMean, blocks: Blocks | None = None) -> RectifierBlocks:
    """Return the rectifier blocks of the certifying draws, or of some of them, in draw order.

    The judge is the learned reward as it was logged: what it is worth is learned on its own scale.
    """
    blocks = mean.blocks if blocks is None else blocks
    rows = blocks.rows
    return labelled_blocks(
        LabelledDraws(
            gold=mean.data.gold[rows],
            starts=blocks.starts,
            judge=mean.design.rollouts.reward[rows],
            cost=mean.cost[rows] if mean.beta else None,
            cost_range=mean.cost_range,
        ),
        labelled_share=_labelled_share(mean),
    )


def _labelled_share(mean: TargetMean) -> float:
    """Least share of its rows that a labelled draw has labelled, by how labels lie in draws."""
    kind, most = mean.design.labels.kind, float(mean.design.blocks.sizes.max())
    if kind in (LabelKind.ALL, LabelKind.WHOLE):
        return 1.0
    if kind is LabelKind.FIXED:
        counts = mean.design.labels.counts
        return float(counts[counts > 0].min()) / most
    return 1.0 / most


def _labelled(mean: TargetMean) -> int:
    return int((mean.label_counts > 0).sum())


def is_exact_binomial(mean: TargetMean) -> bool:
    """Whether gold declared to be 0/1 has its exact interval: decided by counts and declarations.

    One label a draw makes labels Bernoulli draws of one chance; a KL cost would be lost.
    """
    if mean.gold_kind != "binary" or mean.beta:
        return False
    counts = mean.label_counts
    labelled = int((counts > 0).sum())
    return counts.max() == 1 and exact_binomial_fits(labelled, len(counts) - labelled)


def _binomial(mean: TargetMean, budget: Budget) -> Joined:
    """Clopper and Pearson on the labels alone (theory §2.4b)."""
    values = mean.data.gold[mean.blocks.rows]
    values = values[labelled_rows(values)]
    low, high = mean.gold_ends
    ends = [low, high]
    if budget.lower:
        ends[0] = clopper_pearson(
            values, low=low, high=high, delta=budget.lower, side="lower"
        ).lower
    if budget.upper:
        ends[1] = clopper_pearson(
            values, low=low, high=high, delta=budget.upper, side="upper"
        ).upper
    route = f"0/1 gold labels on {len(values)} draws alone, exact binomial"
    return joined(mean, budget, Interval(*ends), values, route, source="theory §2.4b")


def joined(
    mean: TargetMean,
    budget: Budget,
    interval: Interval,
    values: np.ndarray,
    route: str,
    *,
    what: str = "gold blocks",
    source: str = "theory §3.6",
    guaranteed: bool = True,
) -> Joined:
    """Return a route that rests on gold labels; `values` are the blocks that it shows."""
    sampling, shift = shares_of(mean, values, interval)
    assumes = mean.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
    return Joined(
        interval=interval,
        sampling=sampling,
        shift=shift,
        events=both_ends(what, budget),
        status=status_of(assumes),
        assumes=assumes,
        route=route,
        source=source,
        values=values,
        guaranteed=guaranteed,
    )


def _by_fixed_weight(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """A weight of the learned reward fixed before the certifying draws: for order-free bounds."""
    plan, half_width = _gold_plan(mean, delta)
    joint = mean.once(
        plan,
        lambda: gold_blocks(
            plan,
            reward=mean.data.reward,
            gold=mean.data.gold,
            kl_cost=mean.cost,
            kl_range=mean.cost_range,
            blocks=mean.blocks,
            counts=mean.label_counts,
        ),
    )
    interval = mean.interval(
        joint.values,
        joint.low,
        joint.high,
        budget,
        np.ones(len(joint.values), dtype=np.int64),
        mean.label_counts > 0,
    )
    route = _gold_route(plan, _labelled(mean))
    found = joined(mean, budget, interval, joint.values, route, guaranteed=joint.exact)
    return found, 2 * half_width


def _by_chances(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """Rows labelled one by one with recorded chances: inverse weights (theory §3.6).

    Both ends are lower ends of means that no weight makes negative: of r* - cost, and of
    1 - r* + cost. So no largest weight enters a bound, only the scale of its bets. Chances may
    differ between the rows of a draw, and least chances are not declared: no judge is used.
    """
    known = labelled_rows(mean.data.gold)
    chance = np.where(known, mean.design.rollouts.label_probability, 1.0)
    most = float((1.0 / chance[mean.blocks.rows]).max())
    ends = []
    for upper, spent in ((False, budget.lower), (True, budget.upper)):
        values, low, high = _weighted(mean, mean.blocks, chance, most, upper=upper)
        ends.append(mean.interval(values, low, high, Budget(spent, 0.0, 0.0)).lower)
    shown, low, high = _weighted(mean, mean.blocks, chance, most, upper=False)
    # The two ends are of two samples and may cross where one of them misses: what lies between
    # holds no less often than nothing at all.
    between = sorted((ends[0], math.nextafter(1 - ends[1], math.inf)))
    interval = Interval(*between)
    measured, centre = mean.measured, exact_mean(shown)
    assumes = mean.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
    joined = Joined(
        interval=interval,
        sampling=Interval(interval.lower - centre, interval.upper - centre),
        shift=Interval(centre - measured, centre - measured),
        events=both_ends("gold weighted by the chances of its labels", budget),
        status=status_of(assumes),
        assumes=assumes,
        route=f"gold labels on {int(known[mean.blocks.rows].sum())} rollouts, by recorded chances",
        source="theory §3.6",
        values=shown,
    )
    if len(mean.split.calibration) < 2:
        moments = 0.5, 0.25 * most  # 0/1 gold at the smallest chance
        half = half_width_forecast(*moments, low=low, high=high, blocks=len(shown), delta=delta)
        return joined, 2 * half
    aside, low, high = _weighted(mean, mean.split.calibration, chance, most, upper=False)
    half = predicted_half_width(aside, low=low, high=high, blocks=len(shown), delta=delta)
    return joined, 2 * half


def _weighted(
    mean: TargetMean, blocks: Blocks, chance: np.ndarray, most: float, *, upper: bool
) -> tuple[np.ndarray, float, float]:
    """Return r* - cost (or 1 - r* + cost) of each draw, weighted by chances, and its range."""
    known = labelled_rows(mean.data.gold)
    gold = np.where(known, mean.data.gold, 0.0)
    part = np.where(known, (1 - gold if upper else gold) / chance, 0.0)
    cost = mean.cost if upper else -mean.cost
    low, high = mean.cost_range if upper else (-mean.cost_range[1], -mean.cost_range[0])
    # Draws set aside may have smaller chances than those that certify.
    return np.clip(blocks.means(part + cost), low, most + high), low, most + high


def _gold_plan(mean: TargetMean, delta: float) -> tuple[GoldPlan, float]:
    labelled = int((mean.label_counts > 0).sum())
    plan, half_width = mean.once(
        ("plan", delta),
        lambda: choose_gold_plan(
            reward=mean.data.reward,
            gold=mean.data.gold,
            kl_cost=mean.cost,
            kl_range=mean.cost_range,
            calibration=mean.split.calibration,
            labelled=labelled,
            unlabelled=len(mean.blocks) - labelled,
            delta=delta,
        ),
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
    measured = mean.measured
    centre = min(max(exact_mean(values), interval.lower), interval.upper)
    ours = mean.once("error", lambda: float(mean.draws.std()) / math.sqrt(len(mean.draws)))
    theirs = mean.once("error of labels", lambda: _error_of_labels(mean))
    part = ours / (ours + theirs) if ours > 0 and theirs > 0 else 0.5
    below, above = interval.lower - centre, interval.upper - centre
    moved = centre - measured
    return (
        Interval(part * below, part * above),
        Interval(moved + (1 - part) * below, moved + (1 - part) * above),
    )


def _error_of_labels(mean: TargetMean) -> float:
    """Return the standard error of the labelled residuals r* - r."""
    residual = gold_blocks(
        GoldPlan(0.0, 1.0),
        reward=mean.data.reward,
        gold=mean.data.gold - mean.data.reward,
        kl_cost=None,
        kl_range=(-math.inf, math.inf),
        blocks=mean.blocks,
        counts=mean.label_counts,
    ).values
    return float(residual.std()) / math.sqrt(len(residual))

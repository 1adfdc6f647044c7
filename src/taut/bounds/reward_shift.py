"""The reward-shift term: how far the learned reward is from the target reward (theory §3).

Three routes. `gold`: labels on the audited rollouts, joined with the sampling term into one mean.
`declared`: the paper's C * sqrt(L) from declared constants. `trivial`: rewards lie in [0, 1].
All values here are on the unit scale: rewards in [0, 1].
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.bounds.sampling import half_width_forecast
from taut.draws.labels import inclusion_varies, label_counts, labelled_means
from taut.draws.rollouts import Blocks
from taut.errors import AssumptionError

# Fewer labelled draws than this are all kept for certifying: splitting them costs more than a
# weight chosen on the split can earn (theory §3.6: .30 against .26 at 50 labels).
FEW_LABELS = 100
# Weights of the learned reward offered to the calibration split; 0 is gold only.
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def paper_shift(coverage: float, reward_mse: float) -> float:
    """Return C * sqrt(L), the paper's bound on |E e|, at most 1 (theory §3.1, §3.9).

    Args:
        coverage: C = sqrt(1 + chi-square) of deployment against reward data, at least 1.
        reward_mse: L = E_train[e^2], unit scale; above 1 it says nothing, as e^2 <= 1.

    Raises:
        AssumptionError: A constant outside its range.
    """
    if not coverage >= 1:
        raise AssumptionError(
            f"coverage C = {coverage:g}, expected at least 1: C = sqrt(1 + chi-square)."
        )
    if not reward_mse >= 0:
        raise AssumptionError(f"reward MSE L = {reward_mse:g}, expected 0 or more.")
    return min(1.0, coverage * math.sqrt(reward_mse))


@dataclass(frozen=True, slots=True)
class GoldPlan:
    """How labels enter the mean; fixed before the certifying draws are seen.

    Attributes:
        weight: Lambda, the weight of the learned reward as a control variate, in [0, 1].
        own: Share of the control mean taken from the labelled draw itself; None spreads it evenly
            over the draw and the unlabelled draws attached to it; 1 uses labelled draws only.
    """

    weight: float
    own: float | None


@dataclass(frozen=True, slots=True)
class GoldBlocks:
    """Rectifier blocks: independent values whose mean is E[r* - beta l^tau] (theory §3.6).

    Attributes:
        values: Shape (labelled draws,) or, with unequal inclusion, (draws,); unit scale.
        low, high: Range known before the data.
        exact: False where the inclusion probability was read off the log.
    """

    values: np.ndarray
    low: float
    high: float
    exact: bool


def gold_blocks(
    plan: GoldPlan,
    *,
    reward: np.ndarray,
    gold: np.ndarray,
    kl_cost: np.ndarray | None,
    kl_range: tuple[float, float],
    blocks: Blocks,
    counts: np.ndarray | None = None,
) -> GoldBlocks:
    """Build the rectifier blocks B = mean_labelled(r* - lambda r) + mean_group(lambda r - cost).

    Args:
        plan: Lambda and grouping.
        reward, gold: Unit scale, shape (rollouts,); gold is NaN where there is no label.
        kl_cost: beta * l^tau per rollout, unit scale; None for none.
        kl_range: Lowest and highest possible kl_cost.
        blocks: The certifying draws, in draw order.
        counts: Their `label_counts`, where they are known already.

    Raises:
        AssumptionError: No draw carries a label.

    Source: theory §3.6, §5 (gold).
    """
    counts = label_counts(gold, blocks) if counts is None else counts
    if not (counts > 0).any():
        raise AssumptionError("no certifying draw carries a gold label; label some or drop gold.")
    control = np.zeros(len(blocks))
    if plan.weight or kl_cost is not None:
        control = blocks.means(plan.weight * reward - (0.0 if kl_cost is None else kl_cost))
    residual = gold - plan.weight * reward if plan.weight else gold
    residual = labelled_means(residual, gold, blocks, counts)
    if inclusion_varies(counts, blocks.sizes):
        return _weighted_blocks(plan.weight, residual, control, counts, blocks.sizes, kl_range)
    labelled = counts > 0
    low, high = _range(plan, kl_range, _same_rows(counts, blocks.sizes))
    group = control[labelled] if plan.own == 1.0 else _group_means(control, labelled, plan.own)
    values = np.clip(residual[labelled] + group, low, high)  # rounding only
    return GoldBlocks(values, low, high, True)


def _range(plan: GoldPlan, kl_range: tuple[float, float], whole: bool) -> tuple[float, float]:
    """Range of a rectifier block; on draws labelled whole, lambda cancels if no other enters."""
    weight = 0.0 if plan.own == 1.0 and whole else plan.weight
    return -weight - kl_range[1], 1 + weight - kl_range[0]


def _same_rows(counts: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether every labelled draw is labelled whole: then lambda cancels on labelled draws."""
    return bool((counts[counts > 0] == sizes[counts > 0]).all())


def _group_means(control: np.ndarray, labelled: np.ndarray, own: float | None) -> np.ndarray:
    """Mean of the control over each labelled draw and its fixed share of the unlabelled ones.

    Unlabelled draws are dealt out in draw order; group sizes differ by at most one, so that every
    draw is used once and blocks stay independent with one common mean.
    """
    mine, others = control[labelled], control[~labelled]
    edges = np.linspace(0, len(others), len(mine) + 1).round().astype(np.int64)
    sizes = np.diff(edges)
    totals = np.zeros(len(mine))
    filled = sizes > 0
    if filled.any():
        totals[filled] = np.add.reduceat(others, edges[:-1][filled])
    share = 1.0 / (1 + sizes) if own is None else np.where(sizes > 0, own, 1.0)
    return share * mine + (1 - share) * totals / np.maximum(sizes, 1)


def _weighted_blocks(weight, residual, control, counts, sizes, kl_range) -> GoldBlocks:
    """Weight labelled draws by the inverse share of labelled ones among draws of their size.

    This fits every blind way of labelling whose chance depends on K alone, rows labelled one by one
    with chance 1 - (1 - p)^K among them (theory §3.6).
    """
    labelled = counts > 0
    _, kind = np.unique(sizes, return_inverse=True)
    share = np.bincount(kind, weights=labelled) / np.bincount(kind)
    # Sizes without a label say nothing; they are taken to be labelled like the others.
    chance = np.where(share > 0, share, labelled.mean())[kind]
    most = 1 / chance.min()
    values = np.where(labelled, np.nan_to_num(residual) / chance, 0.0) + control
    low, high = -weight * most - kl_range[1], most + weight - kl_range[0]
    return GoldBlocks(np.clip(values, low, high), low, high, False)


def choose_gold_plan(
    *,
    reward: np.ndarray,
    gold: np.ndarray,
    kl_cost: np.ndarray,
    kl_range: tuple[float, float],
    calibration: Blocks,
    labelled: int,
    unlabelled: int,
    delta: float,
) -> tuple[GoldPlan, float]:
    """Choose lambda and grouping by predicted width on the calibration split (theory §3.6).

    Args:
        reward, gold, kl_cost, kl_range: As in `gold_blocks`.
        calibration: Draws that will not certify.
        labelled, unlabelled: Certifying draws with and without labels (counts only).
        delta: Error probability.

    Returns:
        The plan and the half-width that it is forecast to have.
    """
    cost, proxy = calibration.means(kl_cost), calibration.means(reward)
    counts = label_counts(gold, calibration)
    known = counts > 0
    # Without enough labels the learned reward stands in for gold, to place the KL cost.
    blind = known.sum() < FEW_LABELS // 5
    known = np.ones(len(calibration), dtype=bool) if blind else known
    weights = (0.0,) if blind else WEIGHTS

    def half_width(plan: GoldPlan) -> float:
        residual = proxy
        if not blind:
            values = gold - plan.weight * reward
            residual = labelled_means(values, gold, calibration, counts)
        residual = residual[known]
        moments = _moments(plan, residual, plan.weight * proxy - cost, known, unlabelled / labelled)
        low, high = _range(plan, kl_range, blind or _same_rows(counts, calibration.sizes))
        return half_width_forecast(*moments, low=low, high=high, blocks=labelled, delta=delta)

    plan = min((GoldPlan(w, own) for w in weights for own in (1.0, None)), key=half_width)
    return plan, half_width(plan)


def _moments(plan, residual, control, known, group) -> tuple[float, float]:
    """Mean and variance that rectifier blocks of this plan would have, from calibration draws."""
    if len(residual) < 2:
        return 0.5, 0.25
    share = 1.0 if plan.own == 1.0 else 1 / (1 + group)
    own = residual + share * control[known]
    mean = float(own.mean()) + (1 - share) * float(control.mean())
    rest = (1 - share) ** 2 * float(control.var(ddof=1)) / group if group > 0 else 0.0
    return mean, float(own.var(ddof=1)) + rest

"""Differences between two candidates, draw by draw (theory §6.3, appendix B).

What prompts have in common cancels in a difference: hard prompts are hard for both. Draws that only
one side has, or has labels of, may be matched with such of the other (`matching`).
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.auditing.calibration import FEWEST_DRAWS, split_draws
from taut.auditing.target import UnitData
from taut.bounds.kl_clipping import clip_log_ratio
from taut.bounds.reward_shift import (
    FEW_LABELS,
    choose_gold_plan,
    gold_blocks,
)
from taut.bounds.sampling import block_interval
from taut.decisions.contest.matching import Lined, Members, line_up
from taut.draws.labels import inclusion_varies, label_counts, labelled_means
from taut.draws.rollouts import Blocks, Rollouts, group_rows
from taut.inequalities.label_designs import LabelledDraws, difference_blocks, labelled_blocks
from taut.inequalities.rectifier import RectifierBlocks, rectified_interval
from taut.types import Interval

GOLD, MATCHED, PROXY = "gold", "matched", "proxy"
FEWEST_SHARED = 2


@dataclass(frozen=True, slots=True)
class Draws:
    """One candidate's draws on the unit scale, in draw order; each array has shape (draws,).

    Attributes:
        key: uint64; draws of two candidates with one key are answers to one draw of a prompt.
        reward: Mean learned reward of a draw.
        gold: Mean over its labelled rows; NaN without any.
        cost: Mean of beta l^tau; zeros for the target "reward".
        uneven: Draws had unequal chances of a label (rows labelled one by one, K unequal; or
            chances that the log records), so that pairs of them are an estimate.
    """

    key: np.ndarray
    reward: np.ndarray
    gold: np.ndarray
    cost: np.ndarray
    uneven: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """E f(one) - E f(other) on shared draws, unit scale.

    Attributes:
        kind: "gold"; "matched" where blocks of different prompts are among them; "proxy" where
            too few have labels on both sides.
        mean: Of the blocks behind the interval.
        interval: Each end misses with probability at most its own eta.
        shared, labelled: Draws that both have, and blocks with gold on both sides.
        partly: One of the two has draws that the other lacks.
        exact: False where the chance of a label was uneven.
        matched: Blocks of different prompts are among them.
    """

    kind: str
    mean: float
    interval: Interval
    shared: int
    labelled: int
    partly: bool
    exact: bool
    matched: bool


def candidate_draws(
    rollouts: Rollouts, key: np.ndarray, data: UnitData, *, tau: tuple[float, float], seed: int
) -> Draws:
    """Reduce one candidate's rows to one value per draw.

    Args:
        rollouts: The rows of the candidate.
        key: Of each row's draw (`taut.draws.layout.draw_keys`), shape (rollouts,).
        data: The same rows on the unit scale; beta is 0 for the target "reward".
        tau: Positive and negative clip threshold, nats.
        seed: Of the draw order.
    """
    blocks = group_rows(key, rollouts.value_columns(), seed)
    cost, gold, uneven = np.zeros(len(blocks)), np.full(len(blocks), math.nan), False
    if data.beta:
        cost = blocks.means(data.beta * clip_log_ratio(data.log_ratio, *tau))
    if data.gold is not None:
        gold = labelled_means(data.gold, data.gold, blocks)
        counts = label_counts(data.gold, blocks)
        chances = rollouts.label_probability  # recorded ones are not weighed here
        uneven = bool((counts > 0).any()) and (
            inclusion_varies(counts, blocks.sizes)
            or (chances is not None and bool((chances != chances[0]).any()))
        )
    return Draws(
        key[blocks.rows[blocks.starts[:-1]]], blocks.means(data.reward), gold, cost, uneven
    )


def paired_difference(
    one: Draws,
    other: Draws,
    *,
    cost_range: tuple[float, float],
    etas: tuple[float, float],
    method: str,
    calibration: float,
    match: bool = False,
) -> Pair | None:
    """Bound E f(one) - E f(other) by blocks of differences on shared draws.

    Bets learn from earlier shared draws what the learned reward is worth (theory §3.6). For
    order-free bounds its weight is chosen on a calibration share of them: there (1 + difference)/2
    takes the place of a reward, whose mean is then (1 + E difference) / 2.

    Args:
        one, other: Draws of two candidates.
        cost_range: Lowest and highest possible beta l^tau, finite.
        etas: Probability with which the lower and the upper end may miss.
        method: Sampling bound, as for `block_interval`.
        calibration: Share of the shared draws that choose, where there is a choice.
        match: Draws that one alone has, or has labels of, are matched with such of the other; for
            "betting" and draws of one law each (`matching.line_up`).

    Returns:
        The difference; None with fewer than two blocks.
    """
    lined = line_up(one, other, match=match and method == "betting")
    if len(lined) < FEWEST_SHARED:
        return None
    labelled = int(lined.labelled.sum())
    kind = PROXY if labelled < FEWEST_SHARED else MATCHED if lined.matched.any() else GOLD
    if kind != PROXY and method == "betting":
        found, centre = _by_bets(lined, (one, other), cost_range, etas)
    else:
        found, centre = _by_values(lined, one, other, cost_range, etas, method, calibration)
    return Pair(
        kind=kind,
        mean=centre,
        interval=found,
        shared=lined.shared,
        labelled=labelled,
        partly=lined.shared < max(len(one.key), len(other.key)),
        exact=not (one.uneven or other.uneven),
        matched=bool(lined.matched.any()),
    )


def _by_bets(lined: Lined, sides, cost_range, etas) -> tuple[Interval, float]:
    """Bound by rectifier blocks of both sides, one value a draw."""
    blocks = [
        _aligned(side, at, lined.labelled, cost_range)
        for side, at in zip(sides, (lined.one, lined.other), strict=True)
    ]
    found = rectified_interval(difference_blocks(*blocks), delta_lower=etas[0], delta_upper=etas[1])
    return found.interval, found.estimate


def _aligned(side: Draws, at: Members, labelled: np.ndarray, cost_range) -> RectifierBlocks:
    """Blocks of one candidate: what stands at one place is one draw with as many rows."""
    known = np.repeat(labelled, np.diff(at.starts))
    return labelled_blocks(
        LabelledDraws(
            gold=np.where(known, side.gold[at.rows], math.nan),
            starts=at.starts,
            judge=side.reward[at.rows],
            cost=side.cost[at.rows],
            cost_range=cost_range,
        ),
        labelled_share=1.0,
    )


def _by_values(
    lined: Lined, one: Draws, other: Draws, cost_range, etas, method: str, calibration: float
) -> tuple[Interval, float]:
    """Bound by one number a place: for order-free bounds, and for learned rewards."""
    reward, gold, cost = (
        lined.one.means(getattr(one, name)) - lined.other.means(getattr(other, name))
        for name in ("reward", "gold", "cost")
    )
    reward, gold, cost = (1 + reward) / 2, (1 + gold) / 2, cost / 2
    reach = (cost_range[1] - cost_range[0]) / 2
    if lined.labelled.sum() >= FEWEST_SHARED:
        values, low, high = _rectified(reward, gold, cost, reach, sum(etas), calibration)
    else:
        low, high = -reach, 1 + reach
        values = np.clip(reward - cost, low, high)
    half = block_interval(
        values, low=low, high=high, delta_lower=etas[0], delta_upper=etas[1], method=method
    )
    found = Interval(2 * half.lower - 1, 2 * half.upper - 1)
    return found, 2 * math.fsum(values) / len(values) - 1


def _rectified(reward, gold, cost, reach, delta, calibration) -> tuple[np.ndarray, float, float]:
    """Rectifier blocks of one value a draw, and their range."""
    rows = np.arange(len(reward) + 1)
    blocks = Blocks(rows=rows[:-1], starts=rows)
    labelled = int((~np.isnan(gold)).sum())
    chooses = labelled >= FEW_LABELS or reach > 0
    share = calibration if chooses and calibration * len(blocks) >= FEWEST_DRAWS else 0.0
    split = split_draws(blocks, gold, share)
    left = int((label_counts(gold, split.certifying) > 0).sum())
    if left < FEWEST_SHARED:
        split, left = split_draws(blocks, gold, 0.0), labelled
    parts = {"reward": reward, "gold": gold, "kl_cost": cost, "kl_range": (-reach, reach)}
    plan, _ = choose_gold_plan(
        **parts,
        calibration=split.calibration,
        labelled=left,
        unlabelled=len(split.certifying) - left,
        delta=delta,
    )
    found = gold_blocks(plan, **parts, blocks=split.certifying)
    return found.values, found.low, found.high

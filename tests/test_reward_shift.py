"""The reward-shift term: rectifier blocks are unbiased, declared constants are checked."""

import itertools
import math

import mpmath
import numpy as np
import pytest

from check import blocks_of
from taut.bounds.reward_shift import (
    GoldPlan,
    choose_gold_plan,
    gold_blocks,
    inclusion_varies,
    paper_shift,
)
from taut.bounds.sampling import block_interval
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import AssumptionError

NAN = math.nan


def blocks_in_order(sizes):
    starts = np.r_[0, np.cumsum(sizes)]
    return Blocks(rows=np.arange(starts[-1]), starts=starts)


@pytest.mark.parametrize("plan", [GoldPlan(0.0, 1.0), GoldPlan(0.5, None), GoldPlan(1.0, 0.25)])
@pytest.mark.parametrize("labelled", [1, 2, 4])
def test_rectifier_blocks_are_unbiased(plan, labelled):
    """Averaged over every choice of labelled prompts and order, B has the mean of gold - cost."""
    rng = np.random.default_rng(2)
    reward, gold, cost = rng.random(4), rng.random(4), 0.1 * rng.normal(size=4)
    blocks = blocks_in_order([1, 1, 1, 1])
    means = []
    for order in itertools.permutations(range(4)):
        for chosen in itertools.combinations(range(4), labelled):
            index = list(order)
            seen = np.array([gold[i] if i in chosen else NAN for i in index])
            found = gold_blocks(
                plan,
                reward=reward[index],
                gold=seen,
                kl_cost=cost[index],
                kl_range=(-0.5, 0.5),
                blocks=blocks,
            )
            means.append(found.values.mean())
    assert np.mean(means) == pytest.approx((gold - cost).mean(), abs=1e-12)


def test_each_unlabelled_draw_is_used_once():
    """Groups are disjoint: the blocks' total carries every unlabelled draw with equal care."""
    reward = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.5])
    gold = np.array([0.5, NAN, NAN, 0.5, NAN, NAN, NAN])
    found = gold_blocks(
        GoldPlan(1.0, 0.0),
        reward=reward,
        gold=gold,
        kl_cost=np.zeros(7),
        kl_range=(0.0, 0.0),
        blocks=blocks_in_order([1] * 7),
    )
    groups = found.values - (gold - reward)[[0, 3]]
    sizes = np.array([2, 3]) if groups[0] == pytest.approx(0.3) else np.array([3, 2])
    assert groups @ sizes == pytest.approx(0.2 + 0.4 + 0.8 + 1.0 + 0.5)


def test_row_labels_with_unequal_rollouts_are_weighted():
    """Draws with more rollouts are labelled more often; the weights undo it (theory §3.6)."""
    rng = np.random.default_rng(5)
    totals, naive = [], []
    for _ in range(400):
        sizes = np.where(rng.random(60) < 0.5, 1, 6)
        values = np.repeat((sizes == 6) * 0.8 + 0.1, sizes)  # many rollouts, high reward
        gold = np.where(rng.random(len(values)) < 0.3, values, NAN)
        if np.isnan(gold).all():
            continue
        blocks = blocks_in_order(sizes)
        found = gold_blocks(
            GoldPlan(0.0, 1.0),
            reward=np.zeros(len(values)),
            gold=gold,
            kl_cost=np.zeros(len(values)),
            kl_range=(0.0, 0.0),
            blocks=blocks,
        )
        assert not found.exact
        totals.append(found.values.mean())
        naive.append(np.nanmean(gold))
    assert np.mean(totals) == pytest.approx(0.5, abs=0.01)
    assert np.mean(naive) > 0.7


def test_whole_prompt_labels_need_no_weights():
    """Where every labelled draw is labelled whole, and not by chance, sizes do not matter."""
    assert not inclusion_varies(np.tile([3, 0, 2], 6), np.tile([3, 4, 2], 6))
    assert inclusion_varies(np.array([3, 0, 2]), np.array([3, 4, 2]))  # could be chance
    assert inclusion_varies(np.array([1, 0, 2]), np.array([3, 4, 2]))
    assert not inclusion_varies(np.array([1, 0, 2]), np.array([4, 4, 4]))
    assert inclusion_varies(np.array([1, 0, 0]), np.array([1, 4, 2]))
    assert not inclusion_varies(np.array([1, 1, 1]), np.array([1, 4, 2]))


def test_declared_constants_have_their_golden_value():
    """C sqrt(L) to 12 digits, never above 1."""
    assert math.isclose(
        paper_shift(1.7, 0.013), float(mpmath.mpf("1.7") * mpmath.sqrt("0.013")), rel_tol=1e-12
    )
    assert paper_shift(100.0, 0.5) == paper_shift(1.0, 7.0) == 1.0


@pytest.mark.parametrize(("coverage", "mse"), [(0.5, 0.1), (NAN, 0.1), (2.0, -0.1), (2.0, NAN)])
def test_impossible_constants_are_refused(coverage, mse):
    """C below 1 or L below 0 cannot be."""
    with pytest.raises(AssumptionError, match="expected"):
        paper_shift(coverage, mse)


def test_good_reward_models_are_used_and_poor_ones_are_not():
    """With many labels a close r̂ earns weight; an unrelated one gets none."""
    rng = np.random.default_rng(3)
    n = 1000
    gold = rng.random(n)
    seen = np.where(np.arange(n) % 5 == 0, gold, NAN)
    rollouts = Rollouts.from_arrays(prompt_id=np.arange(n), reward=gold)

    def plan(reward):
        return choose_gold_plan(
            reward=reward,
            gold=seen,
            kl_cost=np.zeros(n),
            kl_range=(0.0, 0.0),
            calibration=blocks_of(rollouts),
            labelled=800,
            unlabelled=8000,
            delta=0.05,
        )[0]

    assert plan(np.clip(gold + 0.02 * rng.normal(size=n), 0, 1)).weight > 0.5
    assert plan(rng.random(n)).weight == 0.0


def test_rectifier_is_narrower_than_gold_alone():
    """600 labels among 6000 prompts: a good r̂ narrows the interval by a quarter (§3.6)."""
    rng = np.random.default_rng(0)
    n, labels = 6000, 600
    gold = rng.beta(2, 2, n)
    reward = np.clip(gold + 0.08 * rng.normal(size=n), 0, 1)
    seen = np.where(rng.permutation(n) < labels, gold, NAN)
    widths = {}
    for plan in (GoldPlan(0.0, 1.0), GoldPlan(1.0, None)):
        found = gold_blocks(
            plan,
            reward=reward,
            gold=seen,
            kl_cost=np.zeros(n),
            kl_range=(0.0, 0.0),
            blocks=blocks_in_order(np.ones(n, dtype=int)),
        )
        widths[plan] = block_interval(
            found.values,
            low=found.low,
            high=found.high,
            delta_lower=0.025,
            delta_upper=0.025,
            method="betting",
        ).width
    assert widths[GoldPlan(1.0, None)] < 0.75 * widths[GoldPlan(0.0, 1.0)]

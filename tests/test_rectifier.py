"""Rectifier: everything chosen looks back only, intervals hold, and labels go far."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from tests.check import assert_misses_at_most, misses_more_than
from tests.rectifying import (
    ETA,
    SIDES,
    graded,
    head_of,
    interval_of,
    replaced,
    rows_of,
    single,
    stakes_of,
)

from taut.inequalities import aim, varying
from taut.inequalities.label_designs import (
    LabelledDraws,
    chance_blocks,
    difference_blocks,
    fixed_blocks,
    labelled_blocks,
)
from taut.inequalities.mean import mean_interval, ordered_mean_interval
from taut.inequalities.rectifier import joint_interval, rectified_interval

# --- Predictability --------------------------------------------------------------------------


def with_others_from(blocks, t, rng):
    """The same blocks up to t - 1, other values and judge values from t on."""
    value, judge = blocks.value.copy(), blocks.judge.copy()
    value[t:] = rng.uniform(blocks.floor[t:, 0], blocks.ceiling[t:, 0])
    start = blocks.starts[t]
    judge[start:] = rng.normal(0.4, 2.0, len(judge) - start)
    return replaced(blocks, value=value, judge=judge)


def looks_back_only(stakes_of, blocks, places):
    """Whether what block t is bet on and mapped by stays as it is when blocks t.. change."""
    rng = np.random.default_rng(5)
    before = stakes_of(blocks)
    for t in places:
        after = stakes_of(with_others_from(blocks, t, rng))
        same = np.array_equal(before.x[:t], after.x[:t]) and np.array_equal(
            before.z[:t], after.z[:t]
        )
        for name in ("below", "above", "z_below", "z_above", "mean", "variance", "guard"):
            same &= np.array_equal(getattr(before, name)[: t + 1], getattr(after, name)[: t + 1])
        if not same:
            return False
    return True


def active_draws(rng, blocks=60, group=5):
    quality = rng.beta(4, 4, (blocks, group))
    score = 0.2 + np.abs(quality - 0.5)
    chance = 0.5 / group + 0.5 * score / score.sum(axis=1, keepdims=True)
    pick = np.array([rng.choice(group, p=row) for row in chance])
    gold = np.full((blocks, group), np.nan)
    at = np.arange(blocks), pick
    gold[at] = rng.beta(quality[at] * 10, (1 - quality[at]) * 10)
    draws = LabelledDraws(
        gold=gold.ravel(), starts=np.arange(blocks * group + 1), judge=quality.ravel() ** 2
    )
    return chance_blocks(
        draws, block=np.repeat(np.arange(blocks), group), chance=chance.ravel(), least=0.5
    )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["labelled", "active"])
def test_share_recalibration_and_forecasts_look_back_only(side, kind):
    """Changing blocks t, t + 1, .. leaves every choice for block t as it was."""
    rng = np.random.default_rng(3)
    blocks = graded(rng, 300, group=3) if kind == "labelled" else active_draws(rng)
    places = [t for t in (0, 1, 4, 5, 6, 7, 30, 59, 128, 255, 257, 299) if t < len(blocks)]
    assert looks_back_only(lambda made: stakes_of(made, side)[0], blocks, places)


def test_the_lookback_check_rejects_what_is_fitted_on_all_labels():
    """A weight from all blocks, its own included, fails the same check."""

    def leaking(blocks):
        stakes, _ = stakes_of(blocks, "lower")
        return stakes._replace(x=stakes.x * (1 - 1e-6 * blocks.value.mean()))

    def own_range(blocks):
        stakes, _ = stakes_of(blocks, "lower")
        return stakes._replace(below=np.r_[stakes.below[1:], 0.0])

    blocks = graded(np.random.default_rng(3), 60)
    assert not looks_back_only(leaking, blocks, (5, 30))
    assert not looks_back_only(own_range, blocks, range(10, 59))


def test_each_block_uses_the_recalibration_of_the_blocks_before_it():
    """B_t is value_t + share_t * sum of coefficient * g(judge), g learned from blocks 0..t-1."""
    blocks = graded(np.random.default_rng(8), 70)
    stakes, learned = stakes_of(blocks, "lower")
    assert learned.shares[30:].min() > 0
    for t in (6, 10, 29, 30, 55, 69):
        before = stakes_of(head_of(blocks, t), "lower", horizon=70)[1]
        if len(before.knots) < 2:
            continue
        rows = rows_of(blocks, t)
        g = learned.shares[t] * np.interp(blocks.judge, before.knots, before.levels)
        control = blocks.coefficient * g
        total = blocks.value[t] + control[rows].sum()
        assert math.isclose(stakes.x[t] + stakes.z[t], total, abs_tol=1e-12)
        # One labelled row and six others a block: each part lies about the groups' mean so far.
        centre = control.reshape(70, 7)[:t, 1:].sum() / t
        highest = learned.shares[t] * before.levels[-1] * 6 / 7
        assert math.isclose(stakes.below[t], highest - centre, abs_tol=1e-12)
        assert math.isclose(stakes.z_below[t], centre, abs_tol=1e-12)


@pytest.mark.parametrize("n", [3, 60, 700])
def test_bets_look_back_only_and_keep_to_their_own_block(n):
    """Bets on blocks 0..t ignore x_t; none may lose more than 0.999 by its own block's range."""
    stakes, _ = stakes_of(graded(np.random.default_rng(n), n, group=3), "upper")
    for m in (0.05, 0.47, 0.5, 0.93):
        bets = varying.varying_bets(stakes, ETA, m)
        assert np.all(bets * (m + stakes.below) <= 0.999 * (1 + 1e-12))
        assert np.all(bets * stakes.z_below <= 0.999 * (1 + 1e-12))
        for t in sorted({0, 1, n // 40, n // 2, n - 1}):
            x = stakes.x.copy()
            x[t:] = 0.1
            again = varying.varying_bets(stakes._replace(x=x), ETA, m)
            assert np.array_equal(bets[: t + 1], again[: t + 1])


def test_the_fortune_at_the_end_is_real():
    """In 40-digit arithmetic the recorded bets reach 1/eta at the returned end."""
    for n in (12, 150, 900):
        stakes, _ = stakes_of(graded(np.random.default_rng(n), n, group=3), "lower")
        end = varying.varying_end(stakes, ETA)
        bets = varying.varying_bets(stakes, ETA, end)
        with mpmath.workdps(40):
            fortune = best = mpmath.mpf(1)
            for bet, x, z in zip(bets, stakes.x, stakes.z, strict=True):
                bet, z = mpmath.mpf(float(bet)), mpmath.mpf(float(z))
                fortune *= (1 + bet * (mpmath.mpf(float(x)) - mpmath.mpf(end))) * (1 + bet * z)
                best = max(best, fortune)
            assert best >= 1 / mpmath.mpf(ETA)


# --- Intervals hold --------------------------------------------------------------------------


def inverting(rng, n):
    quality = rng.beta(2, 2, (n, 5))
    gold = rng.beta(quality[:, 0] * 20, (1 - quality[:, 0]) * 20)
    quality[n // 2 :] = 1 - quality[n // 2 :]
    return single(gold, quality[:, 0], quality[:, 1:]), 0.5


def useless_from_half(rng, n):
    quality = rng.beta(2, 2, (n, 5))
    gold = rng.beta(quality[:, 0] * 20, (1 - quality[:, 0]) * 20)
    quality[n // 2 :] = rng.random((n - n // 2, 5))
    return single(gold, quality[:, 0], quality[:, 1:]), 0.5


def overfitted(rng, n):
    judge = rng.integers(0, 15, (n, 5)) / 15
    return single((rng.random(n) < 0.7).astype(float), judge[:, 0], judge[:, 1:]), 0.7


def all_equal(rng, n):
    judge = rng.random((n, 5))
    return single(np.full(n, 0.3), judge[:, 0], judge[:, 1:]), 0.3


def at_the_ends(rng, n):
    failed = rng.random((n, 5)) < 0.05
    judge = np.where(failed, 0.2, 0.8) + 0.1 * rng.random((n, 5))
    return single(1.0 - failed[:, 0], judge[:, 0], judge[:, 1:]), 0.95


def one_cell(rng, n):
    gold = (rng.random(n) < 0.1).astype(float)
    return single(gold, np.full(n, 0.4), np.full((n, 4), 0.4)), 0.1


def faithful(rng, n):
    judge = rng.random((n, 5)) < 0.5
    return single(judge[:, 0].astype(float), judge[:, 0], judge[:, 1:].astype(float)), 0.5


def three_labels(rng, n):
    blocks = graded(rng, 3)
    return blocks, 0.5


def active(rng, n):
    return active_draws(rng, blocks=n), 0.5


def paired(rng, n):
    quality = rng.beta(2, 2, (n, 5))
    other = np.clip(quality + rng.normal(0, 0.1, (n, 5)), 0, 1)
    blocks = [
        single((rng.random(n) < q[:, 0]).astype(float), q[:, 0], q[:, 1:])
        for q in (quality, 1 - other)
    ]
    # E quality = 1/2, and clipping a symmetric law at both ends keeps its middle.
    return difference_blocks(*blocks), 0.0


WORLDS = (
    inverting,
    useless_from_half,
    overfitted,
    all_equal,
    at_the_ends,
    one_cell,
    faithful,
    three_labels,
    active,
    paired,
)


def misses_of(world, n, trials, delta, seed=0):
    rng, misses = np.random.default_rng(seed), 0
    for _ in range(trials):
        blocks, truth = world(rng, n)
        found = interval_of(blocks, delta)
        misses += not found.lower - 1e-12 <= truth <= found.upper + 1e-12
    return misses


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_intervals_hold_where_the_judge_deceives(world):
    """In worlds built against the recalibration at most a share delta of intervals miss."""
    assert_misses_at_most(misses_of(world, 40, 250, 0.2), 250, 0.2, world.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 60, 600])
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_intervals_hold_where_the_judge_deceives_at_length(world, n):
    """As above, at small delta too and for more numbers of labels."""
    trials = 2000 if n < 100 else 300
    for delta in (0.05, 0.2):
        assert_misses_at_most(misses_of(world, n, trials, delta, n), trials, delta, world.__name__)


def by_hand(x, below, above=None, z=0.0):
    """Stakes of blocks whose ranges are given."""
    n = len(x)
    z = np.broadcast_to(z, n).astype(float)
    return varying.Stakes(
        x,
        np.broadcast_to(below, n).astype(float),
        np.broadcast_to(below if above is None else above, n).astype(float),
        z,
        np.full(n, np.abs(z).max()),
        np.full(n, np.abs(z).max()),
        *aim.running(x, 0.0, 1.0)[:2],
        np.arange(n, dtype=float),
        aim.running(x, 0.0, 1.0)[2],
        np.zeros(n, dtype=np.int64),
        np.full(n, n, dtype=np.int64),
    )


def planted_own_block(rng, n):
    """The weight that brings this very block nearest to the mean so far."""
    failed = rng.random((n, 3)) < 0.2
    judge = np.where(failed, 0.0, rng.random((n, 3)))
    gold = 1.0 - failed[:, 0]
    control = judge.mean(axis=1) - judge[:, 0]
    x = np.maximum(gold, gold + control)
    return by_hand(x, 1.0), 0.8


def planted_all_labels(rng, n):
    """g is the gold of the nearest label, among all of them, the block's own included."""
    judge, gold = rng.random((n, 30)), (rng.random(n) < 0.5).astype(float)
    order = np.argsort(judge[:, 0])
    at = np.searchsorted(judge[order, 0], judge).clip(0, n - 1)
    g = gold[order[at]]
    g[:, 0] = gold
    return by_hand(gold + (g.mean(axis=1) - gold), 1.0), 0.5


def planted_cap(rng, n):
    """Blocks of [-1, 2], bet on as if they had the range [0, 1] of others."""
    return by_hand(np.where(rng.random(8) < 0.49, -1.0, 1.0), 0.0), 0.02


def planted_groups(rng, n):
    """Unlabelled draws are dealt by value: the highest to the first labelled draws."""
    own = rng.beta(4, 4, n)
    others = np.sort(rng.beta(4, 4, 6 * n))[::-1].reshape(n, 6)
    gold = rng.beta(own * 60, (1 - own) * 60)
    return by_hand(gold + (own + others.sum(axis=1)) / 7 - own, 1.0), 0.5


def planted_parts(rng, n):
    """Two parts with caps of their own that are the same draw."""
    x = (rng.random(n) < 0.5).astype(float)
    return by_hand(x, 0.0, z=0.8 * (x - 0.5)), 0.5


@pytest.mark.parametrize(
    "mistake",
    [planted_own_block, planted_all_labels, planted_cap, planted_groups, planted_parts],
)
def test_the_miss_check_rejects_planted_mistakes(mistake):
    """What must not be done is caught by the same check, at eta = 0.1."""
    rng, trials, misses = np.random.default_rng(1), 200, 0
    for _ in range(trials):
        stakes, truth = mistake(rng, 60)
        misses += varying.varying_end(stakes, 0.1) > truth + 1e-12
    assert misses_more_than(misses, trials, 0.1), misses


# --- Coming back for more labels, several kinds, widths --------------------------------------


@pytest.mark.parametrize("horizon", [120, 700])
def test_looks_of_one_capital_are_nested(horizon):
    """With one horizon each look lies within the one before, and the last is the fixed-n one."""
    blocks = graded(np.random.default_rng(horizon), horizon, group=3)
    looks = [interval_of(head_of(blocks, t), horizon=horizon) for t in (10, 60, 119, horizon)]
    for earlier, later in itertools.pairwise(looks):
        assert earlier.lower <= later.lower < later.upper <= earlier.upper
    assert looks[-1] == interval_of(blocks)


def test_a_raised_horizon_goes_on_with_the_bets_made():
    """Beyond the first horizon bets made stay made: the looks stay nested."""
    blocks = graded(np.random.default_rng(2), 160, group=3)
    first = interval_of(head_of(blocks, 80), horizon=80)
    horizons = np.where(np.arange(160) < 80, 80, 160)
    later = interval_of(blocks, horizon=horizons)
    assert first.lower <= later.lower and later.upper <= first.upper
    assert later.width < 0.9 * first.width


@pytest.mark.slow
def test_looking_often_holds_with_one_horizon_only():
    """Looks of one capital miss rarely at any of 8 looks; fixed-n intervals at each do not."""
    rng, trials, one, anew = np.random.default_rng(4), 600, 0, 0
    for _ in range(trials):
        x = (rng.random(160) < 0.5).astype(float)
        blocks = labelled_blocks(LabelledDraws(gold=x, starts=np.arange(161)), labelled_share=1.0)
        heads = [head_of(blocks, t) for t in range(20, 161, 10)]
        for hits, options in (("one", {"horizon": 160}), ("anew", {})):
            found = [interval_of(head, 0.1, **options) for head in heads]
            missed = any(not at.lower <= 0.5 <= at.upper for at in found)
            one += missed and hits == "one"
            anew += missed and hits == "anew"
    assert_misses_at_most(one, trials, 0.1)
    assert misses_more_than(anew, trials, 0.1)


def test_gaps_of_a_sheet_are_imputed_in_place():
    """A gap counts as the least gold for a lower end, as the largest for an upper one."""
    blocks = graded(np.random.default_rng(9), 80)
    low, high = blocks.value.copy(), blocks.value.copy()
    low[[3, 40]], high[[3, 40]] = 0.0, 1.0
    gaps = interval_of(replaced(blocks, value=low, upper_value=high))
    whole = interval_of(blocks)
    assert gaps.lower < whole.lower and whole.upper < gaps.upper
    assert gaps.lower == interval_of(replaced(blocks, value=low)).lower


def reward_data(rng, n, gold_count):
    """0/1 gold of a policy, and weighted rows of another one: both have the mean 1/2."""
    gold = (rng.random(gold_count) < 0.5).astype(float)
    weight = rng.choice([0.5, 1.5], n)
    residual = weight * ((rng.random(n) < 0.5) - 0.5)
    values = residual + 0.5
    labelled = labelled_blocks(
        LabelledDraws(gold=gold, starts=np.arange(gold_count + 1)), labelled_share=1.0
    )
    weighted = fixed_blocks(values, values, low=0.0, high=1.0, least=-0.25, largest=1.25)
    return labelled, weighted


def test_one_fortune_on_two_kinds_is_narrower_than_either():
    """Gold and weighted blocks together hold, and are about as narrow as both say."""
    rng, trials, misses, widths = np.random.default_rng(3), 150, 0, []
    for _ in range(trials):
        parts = reward_data(rng, 200, 60)
        found = joint_interval(parts, delta_lower=0.1, delta_upper=0.1).interval
        misses += not found.lower <= 0.5 <= found.upper
        widths.append([found.width, *(interval_of(part, 0.2).width for part in parts)])
    assert_misses_at_most(misses, trials, 0.2)
    both, gold, weighted = np.mean(widths, axis=0)
    assert both < min(gold, weighted)
    assert both < 1.1 / math.hypot(1 / gold, 1 / weighted)


def test_all_gold_is_the_interval_of_the_labels():
    """With every draw labelled whole, the judge is nothing and nothing is paid for it."""
    for n in (7, 90, 1500):
        rng = np.random.default_rng(n)
        gold = rng.beta(2, 5, n)
        draws = LabelledDraws(gold=gold, starts=np.arange(n + 1), judge=rng.random(n))
        ours = interval_of(labelled_blocks(draws, labelled_share=1.0))
        plain = ordered_mean_interval(gold, low=0, high=1, delta_lower=ETA, delta_upper=ETA)
        assert math.isclose(ours.lower, plain.lower, abs_tol=1e-10)
        assert math.isclose(ours.upper, plain.upper, abs_tol=1e-10)


def mean_widths(make, trials=25, seed=0):
    """Mean width with the judge and of the labels alone, on the same data."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(trials):
        blocks = make(rng)
        none = replaced(blocks, judge=np.zeros_like(blocks.judge))
        found.append((interval_of(blocks).width, interval_of(none).width))
    return np.mean(found, axis=0)


def test_a_good_judge_halves_the_width_and_a_useless_one_is_free():
    """400 labels with a close judge do as well as many more; noise costs at most 3% at 50."""
    ours, alone = mean_widths(lambda rng: graded(rng, 400, group=20, strength=70.0), trials=6)
    assert ours < 0.7 * alone

    def noise(rng):
        judge = rng.random((50, 11))
        return single(rng.beta(4, 4, 50), judge[:, 0], judge[:, 1:])

    ours, alone = mean_widths(noise)
    assert ours < 1.03 * alone


def test_costs_enter_with_their_range():
    """E (r* - cost) is bounded, one-sided ends too, and the range of the mean has the cost's."""
    rng = np.random.default_rng(11)
    quality = rng.beta(4, 4, 900)
    gold = np.where(np.arange(900) % 3 == 0, rng.beta(quality * 9, (1 - quality) * 9), np.nan)
    cost = rng.uniform(-0.1, 0.3, 900)
    draws = LabelledDraws(
        gold=gold, starts=np.arange(901), judge=quality, cost=cost, cost_range=(-0.2, 0.4)
    )
    blocks = labelled_blocks(draws, labelled_share=1.0)
    assert (blocks.low, blocks.high) == (-0.4, 1.2)
    both = interval_of(blocks)
    assert both.lower < 0.4 < both.upper and both.width < 0.15
    lower = rectified_interval(blocks, delta_lower=2 * ETA, delta_upper=None)
    assert lower.interval.lower > both.lower and lower.interval.upper == 1.2
    assert lower.upper is None and len(lower.lower.shares) == 300
    assert both.lower < lower.estimate < both.upper


def test_affine_judges_are_the_same_judge():
    """The judge's own scale does not matter, up to rounding."""
    rng = np.random.default_rng(12)
    blocks = graded(rng, 150)
    scaled = replaced(blocks, judge=-300.0 + 4096.0 * blocks.judge)
    ours, theirs = interval_of(blocks), interval_of(scaled)
    assert math.isclose(ours.lower, theirs.lower, abs_tol=2e-3)
    assert math.isclose(ours.upper, theirs.upper, abs_tol=2e-3)


def test_declared_binary_gold_is_the_exact_binomial():
    """0/1 gold without a control: Clopper-Pearson, each end at its own level."""
    gold = np.r_[np.ones(58), np.zeros(2)]
    found = mean_interval(gold, low=0, high=1, delta=0.05, binary=True)
    with mpmath.workdps(30):
        tail = mpmath.betainc(58, 3, 0, found.lower, regularized=True)
        assert mpmath.mpf("0.025") * (1 - mpmath.mpf("1e-10")) < tail <= mpmath.mpf("0.025")
        tail = mpmath.betainc(59, 2, found.upper, 1, regularized=True)
        assert mpmath.mpf("0.025") * (1 - mpmath.mpf("1e-10")) < tail <= mpmath.mpf("0.025")

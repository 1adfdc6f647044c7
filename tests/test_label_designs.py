"""Every design of labels gives blocks of the wanted mean, within the range that they declare."""

import itertools
import math

import numpy as np
import pytest
from tests.rectifying import SIDES, graded, interval_of, replaced, rows_of, stakes_of

from taut.errors import AssumptionError
from taut.inequalities.label_designs import (
    LabelledDraws,
    chance_blocks,
    deal_draws,
    difference_blocks,
    exact_binomial_fits,
    fixed_blocks,
    labelled_blocks,
)
from taut.inequalities.rectifier import joint_interval

# A draw: (chance, outcomes with chances), an outcome being rows of (gold, judge, cost).
DRAWS = (
    (0.5, (((0.9, 0.8, 0.1),), 0.7), (((0.2, 0.3, -0.1),), 0.3)),
    (0.3, (((1.0, 0.9, 0.0), (0.1, 0.4, 0.2)), 0.6), (((0.0, 0.1, 0.0), (0.5, 0.5, 0.0)), 0.4)),
    (0.2, (((0.3, 0.2, 0.1), (0.6, 0.9, 0.1), (0.0, 0.0, -0.1)), 1.0)),
)
COSTS = (-0.1, 0.2)
OUTCOMES = [
    (chance * part, np.array(rows), stratum)
    for stratum, (chance, *outcomes) in enumerate(DRAWS)
    for rows, part in outcomes
]
MEAN = sum(p * (rows[:, 0] - rows[:, 2]).mean() for p, rows, _ in OUTCOMES)


def draws_of(rows_and_labels):
    """LabelledDraws from (rows, labelled rows) pairs."""
    rows = np.concatenate([rows for rows, _ in rows_and_labels])
    labelled = np.concatenate([np.isin(np.arange(len(r)), picked) for r, picked in rows_and_labels])
    sizes = [len(r) for r, _ in rows_and_labels]
    return LabelledDraws(
        gold=np.where(labelled, rows[:, 0], np.nan),
        starts=np.r_[0, np.cumsum(sizes)],
        judge=rows[:, 1],
        cost=rows[:, 2],
        cost_range=COSTS,
    )


def past_rows(rng, count, labels_of):
    """Random draws to learn from before the block that is enumerated."""
    chances = np.array([p for p, _, _ in OUTCOMES])
    picks = rng.choice(len(OUTCOMES), size=count, p=chances / chances.sum())
    return [(OUTCOMES[k][1], labels_of(i, OUTCOMES[k][1])) for i, k in enumerate(picks)]


def expected_last_block(make, cases, sides=SIDES):
    """Mean of the last block over (chance, rest) cases, within its range; per side."""
    found = {}
    for side in sides:
        total = weight = 0.0
        used = factor = 0.0
        for chance, case in cases:
            blocks = make(case)
            unit = (MEAN - blocks.low) / (blocks.high - blocks.low)
            stakes, learned = stakes_of(blocks, side, horizon=2000)  # range is cheap then
            assert -stakes.below[-1] - 1e-12 <= stakes.x[-1] <= 1 + stakes.above[-1] + 1e-12
            assert -stakes.z_below[-1] - 1e-12 <= stakes.z[-1] <= stakes.z_above[-1] + 1e-12
            factor += chance * largest_factor(stakes, unit if side == "lower" else 1 - unit)
            total += chance * learned.blocks[-1]
            weight += chance
            used = max(used, learned.shares[-1])
        assert math.isclose(weight, 1.0) and used > 0, (
            "the judge must be in use for the test to say"
        )
        assert factor <= 1 + 1e-12, "the largest bet against the mean must be fair"
        found[side] = total
    return found


def largest_factor(stakes, m):
    """What the last block makes of a fortune that bets as much as it may against m."""
    bet = 0.999 / max(m + stakes.below[-1], stakes.z_below[-1])
    return (1 + bet * (stakes.x[-1] - m)) * (1 + bet * stakes.z[-1])


def subsets(k, size):
    return list(itertools.combinations(range(k), size))


@pytest.mark.parametrize("rows_labelled", ["one", "whole"])
def test_labelled_blocks_have_the_wanted_mean(rows_labelled):
    """Given the past, E B = E (r* - cost), with unequal K and one or all rows labelled."""

    def choices(rows):
        return [(tuple(range(len(rows))))] if rows_labelled == "whole" else subsets(len(rows), 1)

    rng = np.random.default_rng(1)
    past = past_rows(
        rng, 120, lambda i, rows: choices(rows)[rng.integers(len(choices(rows)))] * (i % 3 == 0)
    )
    share = 1.0 if rows_labelled == "whole" else 0.0

    def make(case):
        made = draws_of([*past, *case])
        return labelled_blocks(made, block=np.arange(len(made.sizes)) // 3, labelled_share=share)

    cases = []
    for (p, a, _), (q, b, _), (r, c, _) in itertools.product(OUTCOMES, repeat=3):
        cases += [
            (p * q * r / len(choices(a)), [(a, picked), (b, ()), (c, ())]) for picked in choices(a)
        ]
    for side, found in expected_last_block(make, cases).items():
        assert math.isclose(found, MEAN, abs_tol=1e-10), side


def test_pooling_rows_of_unequal_draws_is_another_mean():
    """The check above has power: each row once in place of each draw once misses the mean."""
    pooled = sum(p * len(r) * (r[:, 0] - r[:, 2]).mean() for p, r, _ in OUTCOMES)
    assert abs(pooled / sum(p * len(r) for p, r, _ in OUTCOMES) - MEAN) > 0.01


def stratified_past(rng, known, by_stratum, shares):
    """Draws with one label of each stratum a block, and their strata; blocks of 6 or of 3."""

    def draw(h):
        part = by_stratum[h]
        return part[rng.choice(len(part), p=[p / shares[h] for p, _, _ in part])][1]

    past, strata = [], []
    for _ in range(36):
        here = [0, 0, 1, 1, 2, 2] if known else rng.choice(3, size=3, p=shares).tolist()
        past += [(draw(h), (0,) if h not in here[:i] else ()) for i, h in enumerate(here)]
        strata += here
    return past, strata


def stratified_cases(known, by_stratum, shares):
    """Every last block with its chance: members, the labelled member of each stratum, its row."""
    if known:
        pairs = [list(itertools.product(part, repeat=2)) for part in by_stratum]
        groups = [
            (math.prod(p / shares[h] for p, _, h in flat), flat, [0, 2, 4])
            for flat in (sum(trio, ()) for trio in itertools.product(*pairs))
        ]
    else:
        groups = []
        for trio in itertools.product(OUTCOMES, repeat=3):
            members = [[i for i in range(3) if trio[i][2] == h] for h in {o[2] for o in trio}]
            chance = math.prod(p for p, _, _ in trio) / math.prod(map(len, members))
            groups += [(chance, trio, list(picked)) for picked in itertools.product(*members)]
    for chance, members, picked in groups:
        ranges = [range(len(members[i][1])) for i in picked]
        for labels in itertools.product(*ranges):
            label = dict(zip(picked, labels, strict=True))
            rows = [(r, (label[i],) if i in label else ()) for i, (_, r, _) in enumerate(members)]
            yield chance / math.prod(map(len, ranges)), (rows, [h for _, _, h in members])


@pytest.mark.parametrize("known", [True, False])
def test_stratified_blocks_have_the_wanted_mean(known):
    """One label of each stratum a block: by known shares, or by the block's own counts."""
    by_stratum = [[o for o in OUTCOMES if o[2] == h] for h in range(3)]
    shares = np.array([sum(p for p, _, _ in part) for part in by_stratum])
    past, strata = stratified_past(np.random.default_rng(2), known, by_stratum, shares)

    def make(case):
        rows, last = case
        stratum = np.array(strata + last)
        block = np.arange(len(stratum)) // (6 if known else 3)
        return labelled_blocks(
            draws_of([*past, *rows]), block=block, stratum=stratum, shares=shares if known else None
        )

    cases = list(stratified_cases(known, by_stratum, shares))
    for side, found in expected_last_block(make, cases).items():
        assert math.isclose(found, MEAN, abs_tol=1e-10), side


def active_chances(rows):
    """Chances of the draws of one block, by their own judge values; they sum to 1."""
    score = np.array([0.3 + r[:, 1].mean() for r in rows])
    return score / score.sum()


def pick_one(rng, rows):
    """One draw labelled by its chance, one row of it."""
    at = rng.choice(len(rows), p=active_chances(rows))
    return [(r, (rng.integers(len(r)),) if i == at else ()) for i, r in enumerate(rows)]


def test_active_blocks_have_the_wanted_mean():
    """One label a block, by chances made of the block's own judge values, gives the mean."""
    rng = np.random.default_rng(4)
    pairs = [[r for r, _ in past_rows(rng, 2, lambda i, rows: ())] for _ in range(70)]
    past = list(itertools.chain.from_iterable(pick_one(rng, pair) for pair in pairs))

    def make(case):
        rows = [r for r, _ in (*past, *case)]
        chances = np.concatenate([active_chances(rows[i : i + 2]) for i in range(0, len(rows), 2)])
        block = np.arange(len(rows)) // 2
        return chance_blocks(draws_of([*past, *case]), block=block, chance=chances, least=0.4)

    cases = []
    for (p, a, _), (q, b, _) in itertools.product(OUTCOMES, repeat=2):
        first, second = active_chances([a, b])
        cases += [(p * q * first / len(a), [(a, (i,)), (b, ())]) for i in range(len(a))]
        cases += [(p * q * second / len(b), [(a, ()), (b, (i,))]) for i in range(len(b))]
    for side, found in expected_last_block(make, cases).items():
        assert math.isclose(found, MEAN, abs_tol=1e-10), side


def test_rows_labelled_one_by_one_have_the_wanted_mean():
    """Draws of unequal K, weighted by 1 - (1 - p)^K, give the mean over draws."""
    rng = np.random.default_rng(4)
    past = past_rows(rng, 140, lambda i, rows: tuple(np.flatnonzero(rng.random(len(rows)) < 0.4)))

    def make(case):
        draws = draws_of([*past, *case])
        chance = 1 - 0.6**draws.sizes
        return chance_blocks(draws, block=np.arange(len(chance)), chance=chance, least=0.4)

    cases = []
    for p, rows, _ in OUTCOMES:
        for mask in itertools.product((0, 1), repeat=len(rows)):
            chance = math.prod(0.4 if bit else 0.6 for bit in mask)
            cases.append((p * chance, [(rows, tuple(np.flatnonzero(mask)))]))
    for side, found in expected_last_block(make, cases).items():
        assert math.isclose(found, MEAN, abs_tol=1e-10), side


def test_active_labels_at_even_chances_are_the_rectifier():
    """q = 1/G gives the blocks of `labelled_blocks`: values, coefficients and ranges."""
    rng = np.random.default_rng(6)
    gold, judge = np.full((40, 5), np.nan), rng.random((40, 5))
    gold[:, 2] = rng.random(40)
    draws = LabelledDraws(gold=gold.ravel(), starts=np.arange(201), judge=judge.ravel())
    block = np.repeat(np.arange(40), 5)
    active = chance_blocks(draws, block=block, chance=np.full(200, 0.2), least=1.0)
    plain = labelled_blocks(draws, block=block, labelled_share=1.0)
    assert np.allclose(active.value, plain.value) and np.array_equal(active.judge, plain.judge)
    assert np.allclose(active.coefficient, plain.coefficient)
    for lowest, highest in ((0.0, 0.3), (0.2, 0.9)):
        for side in ("floor", "ceiling"):
            terms = getattr(plain, side) + getattr(plain, f"group_{side}")
            assert np.allclose(
                getattr(active, side) @ [1, lowest, highest], terms @ [1, lowest, highest]
            )


def test_a_difference_of_blocks_is_the_difference_of_their_means():
    """B1 - B2 under one g for both, and its range is what the two ranges leave."""
    rng = np.random.default_rng(7)
    first, second = graded(rng, 50, group=3), graded(rng, 50, group=2)
    joined = difference_blocks(first, second)
    assert np.array_equal(joined.value, first.value - second.value)
    cut = joined.stops[:, None] - joined.starts[:-1, None]
    assert np.all(cut == 2), "the labelled row of each comes first"
    knots, levels = np.array([0.1, 0.3, 0.6]), np.array([0.2, 0.5, 0.6])
    for t in (0, 17, 49):
        parts = []
        for made in (first, second, joined):
            rows = rows_of(made, t)
            g = np.interp(made.judge[rows], knots, levels)
            parts.append(made.value[t] + (made.coefficient[rows] * g).sum())
        assert math.isclose(parts[0] - parts[1], parts[2])
        low = (joined.floor + joined.group_floor)[t] @ [1, 0.2, 0.6]
        high = (joined.ceiling + joined.group_ceiling)[t] @ [1, 0.2, 0.6]
        assert low <= parts[2] <= high and low >= -1 - 0.8
    assert (joined.low, joined.high) == (-1.0, 1.0)


def test_unlabelled_draws_are_dealt_by_position():
    """Each labelled draw has its own block, others are spread evenly and all are used."""
    labelled = np.random.default_rng(0).random(50) < 0.2
    block = deal_draws(labelled)
    assert np.array_equal(block[labelled], np.arange(labelled.sum()))
    assert np.ptp(np.bincount(block)) <= 1


def test_refuses_what_no_design_gives():
    """Labels outside the range, blocks without labels and shrinking horizons are named."""
    gold = np.array([0.5, np.nan, 0.2, np.nan])
    good = LabelledDraws(gold=gold, starts=np.arange(5), judge=np.arange(4.0))
    with pytest.raises(AssumptionError, match="row 2: gold"):
        labelled_blocks(LabelledDraws(gold=gold * [1, 1, 6, 1], starts=np.arange(5)))
    with pytest.raises(AssumptionError, match="label some"):
        labelled_blocks(LabelledDraws(gold=gold * np.nan, starts=np.arange(5)))
    with pytest.raises(AssumptionError, match="block 0 has 2"):
        labelled_blocks(good, block=np.zeros(4, dtype=int))
    with pytest.raises(AssumptionError, match="less than 1"):
        labelled_blocks(LabelledDraws(gold=gold, starts=np.array([0, 2, 4])), labelled_share=1.0)
    with pytest.raises(AssumptionError, match="sum to 1"):
        labelled_blocks(good, shares=np.array([0.7]))
    with pytest.raises(AssumptionError, match="below"):
        chance_blocks(good, block=np.arange(4), chance=np.full(4, 0.1), least=0.5)
    with pytest.raises(AssumptionError, match="at most one"):
        chance_blocks(good, block=np.zeros(4, dtype=int), chance=np.full(4, 0.5), least=0.5)
    blocks = labelled_blocks(good)
    with pytest.raises(AssumptionError, match="horizon"):
        interval_of(blocks, horizon=1)
    with pytest.raises(AssumptionError, match="horizon"):
        interval_of(blocks, horizon=np.array([9, 8]))
    with pytest.raises(AssumptionError, match="one range"):
        other = fixed_blocks(np.ones(2), np.ones(2), low=0.0, high=2.0, least=0.0, largest=2.0)
        joint_interval((blocks, other), delta_lower=0.1, delta_upper=0.1)
    with pytest.raises(AssumptionError, match="block 1 is"):
        interval_of(replaced(blocks, value=np.array([0.5, 1.5])))
    with pytest.raises(AssumptionError, match="row 1: judge"):
        interval_of(replaced(blocks, judge=np.array([0.1, np.nan, 0.2, 0.3])))


def test_the_exact_binomial_is_chosen_by_counts():
    """Few labels, or fewer draws beside them than labels, leave 0/1 gold to Clopper-Pearson."""
    assert exact_binomial_fits(59, 10_000) and exact_binomial_fits(500, 400)
    assert not exact_binomial_fits(60, 60) and not exact_binomial_fits(500, 5000)

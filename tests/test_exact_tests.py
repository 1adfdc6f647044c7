"""Exact tests: not small for honest logs, whatever their rewards; small for labels by outcome."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from check import misses_more_than
from taut.errors import AssumptionError
from taut.inequalities import tails
from taut.inequalities.blind_labels import labels_blind_between, labels_blind_within
from taut.inequalities.e_values import log_average
from taut.inequalities.equal_rewards import equal_rewards_kept
from taut.inequalities.multiplicity import (
    DOUBT,
    SURE,
    Verdict,
    bonferroni,
    holm,
    verdicts,
)
from taut.inequalities.rank_sum import rank_p_value

LEVELS = (0.5, 0.2, 0.05, 0.01)


def assert_super_uniform(p_values):
    """No level is undercut more often than it allows, by the exact 99.9% binomial limit."""
    p = np.asarray(p_values)
    for level in LEVELS:
        assert not misses_more_than(int((p <= level).sum()), len(p), level), level


def even_starts(draws, size):
    return np.arange(draws + 1) * size


# Rewards that honest logs have: skewed, tied, graded, constant, heavy-tailed.
REWARDS = {
    "99% success": lambda rng, shape: (rng.random(shape) < 0.99).astype(float),
    "graded": lambda rng, shape: rng.integers(0, 4, shape) / 3,
    "hard and easy": lambda rng, shape: (
        rng.random(shape) < rng.choice([0.02, 0.95], (shape[0],) + (1,) * (len(shape) - 1))
    ).astype(float),
    "constant": lambda rng, shape: np.ones(shape),
    "heavy": lambda rng, shape: rng.standard_cauchy(shape),
}


@pytest.mark.parametrize("rewards", REWARDS)
def test_blind_labels_between_draws_are_not_accused(rewards):
    """Random labels, K by stratum: the p-value is super-uniform on skewed and tied rewards."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        score = REWARDS[rewards](rng, (90, 4)).mean(axis=1)
        strata = rng.integers(0, 3, 90)
        counts = rng.integers(1, 4, 90) * (rng.random(90) < rng.choice([0.1, 0.5]))
        found.append(labels_blind_between(score, counts, strata).p_value)
    assert_super_uniform(found)


@pytest.mark.parametrize("rewards", REWARDS)
def test_blind_labels_within_draws_are_not_accused(rewards):
    """Uniformly random labelled rows, their number unequal and tied to K: super-uniform."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        sizes = rng.integers(1, 7, 50)
        starts = np.append(0, np.cumsum(sizes))
        values = REWARDS[rewards](rng, (starts[-1],))
        labelled = np.concatenate(
            [rng.permutation(size) < rng.integers(0, size + 1) for size in sizes]
        )
        found.append(labels_blind_within(values, labelled, starts).p_value)
    assert_super_uniform(found)


def test_all_assignments_of_labels_give_a_valid_p_value():
    """Exact enumeration: of all ways to label 4 of 9 tied scores at most a share a has p <= a."""
    score = np.array([0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0])
    found = []
    for chosen in itertools.combinations(range(9), 4):
        labels = np.isin(np.arange(9), chosen)
        found.append(labels_blind_between(score, labels, np.zeros(9, int)).p_value)
    found = np.array(found)
    for p in np.unique(found):
        assert (found <= p).mean() <= p * (1 + 1e-12)
    assert found.min() < 0.5


def test_the_validity_check_rejects_an_unpooled_z():
    """On 99% success with 20 labels the normal test accuses honest logs, and the check sees it."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        reward = REWARDS["99% success"](rng, (3000,))
        labels = rng.permutation(3000) < 20
        groups = reward[labels], reward[~labels]
        error = math.sqrt(sum(g.var(ddof=1) / len(g) for g in groups)) or 1.0
        found.append(2 * stats.norm.sf(abs(groups[0].mean() - groups[1].mean()) / error))
    assert misses_more_than(sum(p <= DOUBT for p in found), 300, DOUBT)


def test_three_thousand_successes_with_twenty_labels_are_not_doubted():
    """The log that a z-test accused 138 times of 200: none of 200 is in doubt."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        reward = REWARDS["99% success"](rng, (3000,))
        labels = rng.permutation(3000) < 20
        assert labels_blind_between(reward, labels, np.zeros(3000, int)).p_value > DOUBT


def test_labels_by_outcome_are_seen_between_draws():
    """Labels above the median, on successes, by a stratum's own median: p < 1e-6 with few draws."""
    rng = np.random.default_rng(5)
    score = rng.random(100)
    best = np.argsort(score)[50:]
    labels = np.isin(np.arange(100), rng.choice(best, 30, replace=False))
    assert labels_blind_between(score, labels, np.zeros(100, int)).p_value < SURE
    # Half successes, 40 labels, on successes only.
    reward = (np.arange(200) % 2).astype(float)
    labels = (reward == 1) & (rng.permutation(200) < 80)
    assert labels_blind_between(reward, labels, np.zeros(200, int)).p_value < SURE
    # Strata with means far apart: only the place within the stratum tells.
    strata = np.arange(120) % 2
    score = rng.random(120) + 100 * strata
    labels = score % 100 > np.where(strata, 0.6, 0.55)
    assert labels_blind_between(score, labels, strata).p_value < SURE


def test_how_many_rows_are_labelled_is_looked_at_too():
    """One label on every draw, all rows of the better half: seen by the counts."""
    score = np.random.default_rng(6).random(60)
    counts = np.where(score > np.median(score), 4, 1)
    found = labels_blind_between(score, counts, np.zeros(60, int))
    assert found.p_value < SURE and "more labels" in found.statistic


def test_a_gentle_slope_is_seen_by_ranks():
    """Chances of a label that rise with the reward: doubted in most logs of 400 draws."""
    rng = np.random.default_rng(7)
    seen = 0
    for _ in range(40):
        score = rng.random(400)
        labels = rng.random(400) < 0.25 + 0.5 * score
        seen += labels_blind_between(score, labels, np.zeros(400, int)).p_value < DOUBT
    assert seen >= 32


@pytest.mark.parametrize("size", [2, 4, 8])
def test_gold_on_the_best_of_k_is_seen_within_draws(size):
    """100 draws, gold on the best row: p < 1e-20 within, nothing between."""
    rng = np.random.default_rng(8)
    values = rng.random((100, size))
    labelled = values == values.max(axis=1, keepdims=True)
    within = labels_blind_within(values.ravel(), labelled.ravel(), even_starts(100, size))
    assert within.p_value < 1e-20
    between = labels_blind_between(values.mean(1), labelled.sum(1), np.zeros(100, int))
    assert between.p_value == between.least == 1.0


def test_gold_on_failures_is_seen_within_draws():
    """0/1 rewards: gold on a failure where there is one."""
    rng = np.random.default_rng(9)
    values = (rng.random((60, 4)) < 0.5).astype(float)
    labelled = np.zeros((60, 4), bool)
    labelled[np.arange(60), values.argmin(axis=1)] = True
    found = labels_blind_within(values.ravel(), labelled.ravel(), even_starts(60, 4))
    assert found.p_value < SURE


def test_a_log_that_shows_nothing_says_so():
    """Constant rewards, all labelled, none labelled, no draws: p-value and its least are 1."""
    ones, codes = np.ones(40), np.zeros(40, int)
    for score, labels in (
        (ones, np.arange(40) < 7),
        (np.arange(40.0), np.ones(40, int)),
        (np.arange(40.0), np.zeros(40, int)),
    ):
        found = labels_blind_between(score, labels, codes)
        assert found.p_value == found.least == 1.0 and found.statistic == ""
    found = labels_blind_within(ones, np.arange(40) % 4 == 0, even_starts(10, 4))
    assert found.p_value == found.least == 1.0
    empty = np.zeros(0)
    assert labels_blind_between(empty, empty.astype(int), empty.astype(int)).p_value == 1.0
    assert labels_blind_within(empty, empty.astype(bool), np.zeros(1)).p_value == 1.0
    assert equal_rewards_kept(empty, np.zeros(1), keys=empty.astype(int)).p_value == 1.0


def test_extreme_and_missing_values_only_have_a_rank():
    """1e308, infinities and NaN (below all) neither fail nor change what order says."""
    score = np.array([np.nan, -np.inf, -1e308, 0.0, 5e-324, 1.0, 1e308, np.inf] * 8)
    labels = np.arange(64) % 8 > 3
    ranks = np.maximum(np.arange(64) % 8, 1)
    codes = np.zeros(64, int)
    found = labels_blind_between(score, labels, codes)
    assert found == labels_blind_between(ranks.astype(float), labels, codes)
    assert found.p_value < SURE
    within = labels_blind_within(score, labels, even_starts(8, 8))
    assert within == labels_blind_within(ranks.astype(float), labels, even_starts(8, 8))


def kept(values, **extra):
    draws, size = values.shape
    keys = np.random.default_rng(0).permutation(draws)
    return equal_rewards_kept(values.ravel(), even_starts(draws, size), keys=keys, **extra)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_log_convexity_bounds_the_chance_of_equal_rewards(size):
    """Exhaustive: for any two laws of the success rate, the chance given the sum is at least q."""
    rng = np.random.default_rng(size)
    counts = np.arange(size + 1)
    choose = stats.binom.pmf(counts, size, 0.5) * 2.0**size
    for trial in range(200):
        laws = []
        for _ in range(2):
            rates = rng.random(1 + trial % 3) ** rng.choice([0.1, 1.0, 5.0])
            weights = rng.dirichlet(np.ones(len(rates)))
            hits = rates ** counts[:, None] * (1 - rates) ** (size - counts[:, None])
            laws.append(choose * (hits @ weights))
        joint = np.outer(*laws)
        for total in range(1, 2 * size):
            j = min(total, 2 * size - total)
            pairs = [(a, total - a) for a in counts if 0 <= total - a <= size]
            mass = sum(joint[pair] for pair in pairs)
            equal = sum(joint[a, b] for a, b in pairs if {a, b} & {0, size})
            q = 2 * math.comb(size, j) / math.comb(2 * size, j)
            assert equal >= min(q, 1.0) * mass * (1 - 1e-9)


@pytest.mark.parametrize(
    ("rewards", "possible"),
    [("99% success", 2), ("graded", 4), ("hard and easy", None), ("heavy", None)],
)
def test_logs_with_all_their_draws_are_not_accused(rewards, possible):
    """Unequal K, several cells, few values or many: super-uniform."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(200):
        parts = [REWARDS[rewards](rng, (rng.integers(2, 20), k)) for k in (1, 2, 3, 6)]
        sizes = np.concatenate([np.full(len(part), part.shape[1]) for part in parts])
        draws = len(sizes)
        test = equal_rewards_kept(
            np.concatenate([part.ravel() for part in parts]),
            np.append(0, np.cumsum(sizes)),
            keys=rng.integers(0, 2**63, draws),
            cells=rng.integers(0, 2, draws),
            possible_values=possible,
        )
        found.append(test.p_value)
    assert_super_uniform(found)


def test_the_numbers_of_the_theory():
    """600 draws left of those with success .9: beyond doubt at K = 8, 16 and 32."""
    rng = np.random.default_rng(12)
    for size, most in ((8, 1e-40), (16, 1e-22), (32, 1e-6)):
        values = (rng.random((20_000, size)) < 0.9).astype(float)
        values = values[values.min(axis=1) < values.max(axis=1)][:600]
        assert kept(values).p_value < most
        assert kept(values).p_value == kept(values).least


def test_unlike_draws_are_seen_by_nearly_equal_pairs():
    """Success rates spread over (0, 1): random pairs say little, pairs of nearly equal ones do."""
    rng = np.random.default_rng(18)
    for size, most in ((8, 1e-9), (16, 1e-4)):
        values = (rng.random((4000, size)) < rng.beta(2, 1, (4000, 1))).astype(float)
        assert kept(values).p_value > DOUBT
        found = kept(values[values.min(axis=1) < values.max(axis=1)][:600])
        assert found.p_value < most and "nearly equal" in found.statistic


def test_the_worst_case_sees_small_k_without_pairs():
    """Pairs of unlike draws bound little; the worst case sees them at K = 4, given two values."""
    rng = np.random.default_rng(13)
    values = np.where(rng.random((400, 4)) < 0.5, 1.0, 0.0)
    values = values[values.min(axis=1) < values.max(axis=1)]
    starts = even_starts(len(values), 4)
    cells = np.arange(len(values))  # no two draws make a pair
    keys = rng.permutation(len(values))
    alone = equal_rewards_kept(values.ravel(), starts, keys=keys, cells=cells)
    assert alone.p_value == alone.least == 1.0
    found = equal_rewards_kept(values.ravel(), starts, keys=keys, cells=cells, possible_values=2)
    assert found.p_value < SURE and "worst case" in found.statistic


def test_graded_rewards_and_half_dropped_logs_are_seen():
    """Graded atoms; failures only dropped; 19 of 20 such draws dropped."""
    rng = np.random.default_rng(14)
    graded = rng.choice([0.0, 0.3, 0.6, 1.0], (3000, 6), p=[0.05, 0.05, 0.1, 0.8])
    equal = graded.min(axis=1) == graded.max(axis=1)
    assert kept(graded).p_value > DOUBT
    assert kept(graded[~equal][:600]).p_value < SURE
    assert kept(graded[~equal | (rng.random(3000) < 0.05)][:600]).p_value < SURE
    rate = rng.beta(0.5, 0.5, (1500, 1))
    values = (rng.random((1500, 8)) < rate).astype(float)
    found = kept(values[values.max(axis=1) > 0])
    assert found.p_value < SURE and "lowest" in found.statistic


def test_refuses_columns_that_do_not_fit():
    """Shapes, starts, counts and numbers of values are checked."""
    with pytest.raises(AssumptionError, match="one length"):
        labels_blind_between(np.ones(3), np.ones(2, int), np.ones(3, int))
    with pytest.raises(AssumptionError, match="count"):
        labels_blind_between(np.ones(2), np.array([-1, 1]), np.ones(2, int))
    for starts in ([0, 2], [0, 2, 2, 3], [1, 3], []):
        with pytest.raises(AssumptionError, match="starts"):
            labels_blind_within(np.ones(3), np.ones(3, bool), starts)
    with pytest.raises(AssumptionError, match="one length"):
        equal_rewards_kept(np.ones(4), [0, 2, 4], keys=np.arange(3))
    with pytest.raises(AssumptionError, match="possible_values"):
        equal_rewards_kept(np.ones(4), [0, 2, 4], keys=np.arange(2), possible_values=1)


# Tails.


def test_tails_are_exact_for_few_and_bounds_for_many():
    """Against scipy: equal to 1e-6 where convolved; beyond, never below and at most 3 x it."""
    law = tails.bernoulli_sum(np.full(800, 0.3))
    large = tails.bernoulli_sum(np.full(5000, 0.3))
    for z in (0.5, 2, 4, 8, 20):
        value = round(240 + z * math.sqrt(800 * 0.21))
        exact = stats.binom.sf(value - 1, 800, 0.3)
        assert tails.upper_tail(law, value) == pytest.approx(exact, rel=1e-6)
        mirror = stats.binom.cdf(480 - value, 800, 0.3)
        assert tails.lower_tail(law, 480 - value) == pytest.approx(mirror, rel=1e-6)
        value = round(1500 + z * math.sqrt(5000 * 0.21))
        exact = stats.binom.sf(value - 1, 5000, 0.3)
        assert exact <= tails.upper_tail(large, value) <= max(3 * exact, 1e-290)


def test_bounds_of_unequal_urns_are_never_below_the_exact_tail(monkeypatch):
    """Sums over urns of every shape: the bound is above the convolution and within 3 x of it."""
    rng = np.random.default_rng(15)
    total = rng.integers(1, 9, 300)
    marked, drawn = rng.integers(0, total + 1), rng.integers(0, total + 1)
    law = tails.hypergeometric_sum(total, marked, drawn)
    values = range(law.shift, law.most + 1, 3)
    exact = np.array([tails.upper_tail(law, value) for value in values])
    monkeypatch.setattr(tails, "_EXACT", 0)
    bound = np.array([tails.upper_tail(law, value) for value in values])
    seen = exact > 1e-280
    assert np.all(bound >= exact * (1 - 1e-6)) and np.all(bound[seen] <= 3 * exact[seen])


def test_one_urn_is_the_hypergeometric_law():
    """Both tails of one urn, also a large one, to 6 digits; impossible values are 1e-300."""
    for total, marked, drawn in ((10, 4, 5), (3000, 2970, 20), (10**5, 300, 40_000)):
        law = tails.hypergeometric_sum([total], [marked], [drawn])
        mean = marked * drawn / total
        for value in (math.floor(mean), math.ceil(mean) + 1, law.most):
            exact = stats.hypergeom.sf(value - 1, total, marked, drawn)
            assert tails.upper_tail(law, value) == pytest.approx(exact, rel=1e-6)
            exact = stats.hypergeom.cdf(value, total, marked, drawn)
            assert tails.lower_tail(law, value) == pytest.approx(exact, rel=1e-6)
        assert tails.upper_tail(law, law.most + 1) == 1e-300
        assert tails.lower_tail(law, law.shift - 1) == 1e-300


def test_rank_sums_of_all_subsets_are_bounded():
    """Every subset of two strata: at most a share a of them has p <= a; the best half is seen."""
    scores = np.array([-3.0, -2, -1, 0, 1, 2, 3, -1.5, -0.5, 0.5, 1.5])
    starts = np.array([0, 7, 11])
    found = []
    for first in itertools.combinations(range(7), 3):
        for second in itertools.combinations(range(7, 11), 2):
            labelled = np.isin(np.arange(11), first + second)
            found.append(rank_p_value(scores, labelled, starts))
    found = np.array(found)
    for p in np.unique(found):
        assert (found <= p).mean() <= p
    many = np.linspace(-1, 1, 400)
    tail = rank_p_value(many, np.arange(400) >= 200, np.array([0, 400]))
    assert tail < 1e-60


def test_rank_p_values_lose_little_beside_the_normal_law():
    """At 4 to 6 standard deviations the bound is below 30 times the normal tail."""
    n, m = 600, 300
    scores = np.linspace(-1, 1, n)
    spread = math.sqrt(m * (n - m) / (n - 1) * scores.var())
    rng = np.random.default_rng(16)
    for z in (4, 6):
        labelled = rng.permutation(n) < m
        while scores[labelled].sum() < z * spread:  # swap a low labelled one for a higher one
            low = rng.choice(np.flatnonzero(labelled))
            high = rng.choice(np.flatnonzero(~labelled))
            if scores[high] > scores[low]:
                labelled[low], labelled[high] = False, True
        reached = scores[labelled].sum() / spread
        normal = 2 * stats.norm.sf(reached)
        assert 0.5 * normal < rank_p_value(scores, labelled, np.array([0, n])) < 30 * normal


# Many checks of one log.


def test_verdicts_count_all_checks_of_a_log():
    """Of 10 checks one needs 1e-4 for a doubt and 1e-7 to be sure; Holm then asks 9 of the rest."""
    quiet = [0.5] * 9
    assert verdicts([*quiet, 1.01e-4]) == (Verdict.NOTHING_FOUND,) * 10
    assert verdicts([*quiet, 1e-4])[-1] is Verdict.IN_DOUBT
    assert verdicts([*quiet, 1e-7])[-1] is Verdict.VIOLATED
    assert verdicts([0.5, 1e-7], [0.5, 1e-3])[1] is Verdict.IN_DOUBT
    assert verdicts([0.5, 0.5], [0.5, 1e-9])[1] is Verdict.NOTHING_FOUND
    assert verdicts([]) == ()
    assert holm([0.02, 0.01, 0.9], 0.04).tolist() == [True, True, False]
    with pytest.raises(AssumptionError, match="p-values"):
        verdicts([math.nan])
    with pytest.raises(AssumptionError, match="p_sure"):
        verdicts([0.1], [0.1, 0.2])


def test_all_checks_together_rarely_accuse():
    """Any of 20 uniform p-values, independent or one and the same: at most the level."""
    rng = np.random.default_rng(17)
    for draw in (lambda: rng.random(20), lambda: np.full(20, rng.random())):
        accused = sum(holm(draw(), 0.05).any() for _ in range(2000))
        assert not misses_more_than(accused, 2000, 0.05)
    naive = sum((rng.random(20) <= 0.05).any() for _ in range(2000))
    assert misses_more_than(naive, 2000, 0.05)


def test_combinations_of_p_values_and_e_values():
    """Bonferroni, and the average of e-values by their logarithms, also of extreme ones."""
    assert bonferroni([0.01, 0.5]) == 0.02 and bonferroni([]) == 1.0 and bonferroni([0.9, 0.8]) == 1
    assert log_average([math.log(3), math.log(5)]) == pytest.approx(math.log(4))
    assert log_average([-math.inf, -math.inf]) == -math.inf
    assert log_average([math.inf, -1e308]) == math.inf
    assert log_average([1e308, -1e308]) == pytest.approx(1e308)

"""PAC-Bayes-kl: 40-digit golden values, and misses that stay rare although the choice is unfair."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from check import assert_misses_at_most, misses_more_than
from taut.errors import AssumptionError, UsageError
from taut.inequalities.concentration import hoeffding
from taut.inequalities.divergence import kl_lower, kl_upper
from taut.inequalities.pac_bayes import (
    log_xi,
    monte_carlo_price,
    pac_bayes_budget,
    pac_bayes_ends,
    pac_bayes_interval,
    paper_pac_bayes,
    union_ends,
)

mpmath.mp.dps = 40
TINY = mpmath.mpf(10) ** -30
POLICIES = 20


def defining_sum(n):
    """xi(n) as theory §6.1 writes it."""
    ratio = [mpmath.mpf(k) / n for k in range(n + 1)]
    return mpmath.fsum(
        mpmath.binomial(n, k) * ratio[k] ** k * (1 - ratio[k]) ** (n - k) for k in range(n + 1)
    )


def by_theta(n):
    """xi(n) by the incomplete gamma function, at any size: Abel's identity."""
    with mpmath.workdps(60):
        tail = mpmath.gammainc(n + 1, n, regularized=True)
        return +(tail * mpmath.exp(n + mpmath.loggamma(n + 1) - n * mpmath.log(n)))


def exact_end(p, budget, outer):
    """The q furthest towards `outer` with kl(p || q) <= budget."""
    p, inside, outside = mpmath.mpf(p), mpmath.mpf(p), mpmath.mpf(outer)
    for _ in range(120):
        q = (inside + outside) / 2
        first = p * mpmath.log(p / q) if p > 0 else mpmath.mpf(0)
        second = (1 - p) * mpmath.log((1 - p) / (1 - q)) if p < 1 else mpmath.mpf(0)
        inside, outside = (q, outside) if first + second <= budget else (inside, q)
    return inside


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 33, 100, 500])
def test_xi_is_its_defining_sum(n):
    """ln xi(n) has 12 digits of the defining sum and is never below it."""
    exact = mpmath.log(defining_sum(n))
    assert 0 <= mpmath.mpf(log_xi(n)) - exact <= mpmath.mpf(10) ** -12 * exact


@pytest.mark.parametrize("n", [1_000, 99_999, 100_000, 1_000_003, 10_000_000])
def test_xi_is_exact_up_to_ten_million(n):
    """On both sides of the change of formula ln xi(n) has 12 digits and is never below."""
    exact = mpmath.log(by_theta(n))
    assert 0 <= mpmath.mpf(log_xi(n)) - exact <= mpmath.mpf(10) ** -12 * exact


@given(st.integers(1, 10**9))
def test_xi_lies_between_sqrt_n_and_twice_that(n):
    """Maurer's bounds: sqrt(n) <= xi(n) <= 2 sqrt(n), with equality at n = 1 above."""
    assert 0.5 * math.log(n) <= log_xi(n) <= math.log(2.0) + 0.5 * math.log(n) + 1e-14


def test_xi_grows_across_the_change_of_formula():
    """ln xi increases with n, also where the sum hands over to the closed form."""
    values = [log_xi(n) for n in range(99_990, 100_010)]
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("empirical", [0.0, 0.03, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("n", [1, 10, 1000, 10**6])
@pytest.mark.parametrize("kl", [0.0, math.log(20), 300.0])
def test_interval_has_twelve_digits_and_rounds_outward(empirical, n, kl):
    """Both ends agree with 40-digit arithmetic to 1e-12 and are never inside."""
    found = pac_bayes_interval(empirical, kl=kl, blocks=n, delta=0.05)
    budget = (mpmath.mpf(kl) + mpmath.log(by_theta(n) / mpmath.mpf(0.05))) / n
    assert -TINY <= mpmath.mpf(found.upper) - exact_end(empirical, budget, 1) <= 1e-12
    assert -TINY <= exact_end(empirical, budget, 0) - mpmath.mpf(found.lower) <= 1e-12


def test_draws_cost_what_langford_and_caruana_say():
    """With draws the two kl inversions are nested, each to 1e-12 and outward."""
    found = pac_bayes_interval(0.3, kl=2.0, blocks=500, delta=0.04, draws=60, draws_delta=0.01)
    price = mpmath.log(2 / mpmath.mpf(0.01)) / 60
    budget = (2 + mpmath.log(by_theta(500) / mpmath.mpf(0.04))) / 500
    upper = exact_end(exact_end(0.3, price, 1), budget, 1)
    lower = exact_end(exact_end(0.3, price, 0), budget, 0)
    assert 0 <= mpmath.mpf(found.upper) - upper <= 1e-12
    assert 0 <= lower - mpmath.mpf(found.lower) <= 1e-12


def test_paper_form_has_twelve_digits():
    """Every term of the paper's form agrees with 40-digit arithmetic."""
    found = paper_pac_bayes(
        kl=3.0,
        prompts=700,
        rollouts_per_prompt=4,
        delta=0.05,
        width=1.4,
        mean_coverage=1.7,
        reward_mse=0.01,
        beta=0.05,
        mean_clipped_excess=0.3,
    )
    parts = [
        mpmath.sqrt((3 + mpmath.log(4 * mpmath.sqrt(m) / mpmath.mpf(0.05))) / (2 * m))
        for m in (700, 2800)
    ]
    sampling = mpmath.mpf(1.4) * sum(parts)
    assert abs(found.sampling - sampling) <= 1e-12 * sampling
    assert found.reward_shift == pytest.approx(0.17, rel=1e-12)
    assert found.kl_clipping == pytest.approx(0.015, rel=1e-12)
    assert found.total == pytest.approx(float(sampling) + 0.185, rel=1e-12)


@given(st.floats(0, 1), st.floats(0, 20), st.integers(1, 10**6), st.floats(0.001, 0.5))
def test_the_kl_form_is_never_wider_than_the_paper(empirical, kl, n, delta):
    """PAC-Bayes-kl on blocks lies within the paper's two terms, at any number of rollouts."""
    found = pac_bayes_interval(empirical, kl=kl, blocks=n, delta=delta)
    paper = paper_pac_bayes(kl=kl, prompts=n, rollouts_per_prompt=10**6, delta=delta)
    assert max(found.upper - empirical, empirical - found.lower) <= paper.sampling + 1e-12


def test_paper_form_says_what_is_missing():
    """Without C, L or the tail the term is None and so is the total; at beta = 0 no tail counts."""
    bare = paper_pac_bayes(kl=0.0, prompts=10, rollouts_per_prompt=1, delta=0.1, beta=0.1)
    assert (bare.reward_shift, bare.kl_clipping, bare.total) == (None, None, None)
    whole = paper_pac_bayes(
        kl=0.0, prompts=10, rollouts_per_prompt=1, delta=0.1, mean_coverage=1.0, reward_mse=0.0
    )
    assert whole.kl_clipping == 0.0
    assert whole.total == whole.sampling


def test_unequal_rollouts_cost_their_harmonic_mean():
    """Unequal K follow the sub-Gaussian proof: ln(2 sqrt(m)/delta) over 2(m - 1)."""
    sizes = np.array([1.0, 2.0, 4.0, 4.0])
    found = paper_pac_bayes(kl=1.0, prompts=4, rollouts_per_prompt=sizes, delta=0.05)
    m = 16 / float(np.sum(1 / sizes))
    prompts = math.sqrt((1 + math.log(4 * 2 / 0.05)) / 8)
    rollouts = math.sqrt((1 + math.log(2 * math.sqrt(m) / 0.05)) / (2 * (m - 1)))
    assert found.sampling == pytest.approx(prompts + rollouts, rel=1e-12)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_unequal_rollout_lemma_holds_on_its_worst_law(side):
    """E exp(s gap^2) <= sqrt(m) for weighted coin flips, summed exactly over all outcomes."""
    sizes = np.array([1, 1, 3, 3])
    weights = np.concatenate([np.full(k, 1.0 / (len(sizes) * k)) for k in sizes])
    m = len(sizes) ** 2 / np.sum(1.0 / sizes)
    outcomes = (np.arange(2 ** len(weights))[:, None] >> np.arange(len(weights))) & 1
    bias = 0.5 + side * 0.3
    chance = np.prod(np.where(outcomes == 1, bias, 1 - bias), axis=1)
    gap = (outcomes - bias) @ weights
    assert chance @ np.exp(2 * (m - 1) * gap**2) <= math.sqrt(m)


@given(
    st.floats(0, 1), st.floats(0, 50), st.integers(1, 10**6), st.floats(1e-6, 0.9), st.floats(0, 5)
)
def test_more_choice_never_helps_and_more_blocks_never_hurt(empirical, kl, n, delta, more):
    """Intervals contain the average, grow with KL and shrink with n and delta."""
    base = pac_bayes_interval(empirical, kl=kl, blocks=n, delta=delta)
    assert 0 <= base.lower <= empirical <= base.upper <= 1
    for narrower in (
        pac_bayes_interval(empirical, kl=kl, blocks=2 * n, delta=delta),
        pac_bayes_interval(empirical, kl=kl, blocks=n, delta=min(0.95, 1.05 * delta)),
    ):
        assert base.lower <= narrower.lower + 1e-12 and narrower.upper <= base.upper + 1e-12
    wider = pac_bayes_interval(empirical, kl=kl + more, blocks=n, delta=delta)
    assert wider.lower <= base.lower and base.upper <= wider.upper


@given(st.floats(-50, 50), st.floats(0.01, 100), st.floats(0, 1))
def test_ranges_only_change_units(low, width, share):
    """On [low, high] the interval is the unit interval's image, rounded outward."""
    high = low + width
    average = min(max(low + share * width, low), high)
    found = pac_bayes_interval(average, kl=1.0, blocks=50, delta=0.1, low=low, high=high)
    on_unit = min(1.0, (average - low) / width)  # width itself was rounded
    unit = pac_bayes_interval(on_unit, kl=1.0, blocks=50, delta=0.1)
    room = 1e-9 * (abs(low) + width)
    assert abs(found.lower - (low + width * unit.lower)) <= room
    assert abs(found.upper - (low + width * unit.upper)) <= room
    assert low <= found.lower <= average <= found.upper <= high


def test_many_choices_at_once_are_the_same_as_one_by_one():
    """The vectorised ends equal the scalar ones to the last byte."""
    averages, prices = np.linspace(0, 1, 7), np.linspace(0, 9, 7)
    lower, upper = pac_bayes_ends(averages, kl=prices, blocks=40, delta=0.1)
    for index, (average, kl) in enumerate(zip(averages, prices, strict=True)):
        one = pac_bayes_interval(average, kl=kl, blocks=40, delta=0.1)
        assert (one.lower, one.upper) == (lower[index], upper[index])


def test_a_union_over_candidates_is_slightly_tighter():
    """M candidates by a union lie inside PAC-Bayes with KL = ln M, which pays ln xi for ln 2."""
    averages = np.linspace(0.05, 0.95, POLICIES)
    lower, upper = pac_bayes_ends(averages, kl=math.log(POLICIES), blocks=1000, delta=0.05)
    inner, outer = union_ends(averages, prior=1 / POLICIES, blocks=1000, delta=0.05)
    assert np.all(inner > lower) and np.all(outer < upper)
    assert np.all((outer - inner) / (upper - lower) > 0.8)


def test_a_union_over_one_is_the_chernoff_interval():
    """With one candidate the union pays ln(2/delta) and lies within Hoeffding's interval."""
    blocks = np.random.default_rng(5).random(80)
    lower, upper = union_ends(blocks.mean(), prior=1.0, blocks=80, delta=0.1)
    wide = hoeffding(blocks, low=0, high=1, delta=0.1)
    assert wide.lower <= lower and upper <= wide.upper


def test_an_infinite_divergence_says_nothing():
    """At KL = infinity the interval is the whole range, and not a NaN."""
    found = pac_bayes_interval(0.4, kl=math.inf, blocks=1000, delta=0.05, low=-1, high=2)
    assert (found.lower, found.upper) == (-1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kl": -0.1}, "kl"),
        ({"kl": math.nan}, "kl"),
        ({"blocks": 0}, "blocks"),
        ({"blocks": 2.5}, "blocks"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"empirical": 1.2}, "empirical"),
        ({"empirical": math.nan}, "empirical"),
        ({"low": 1.0}, "range"),
        ({"draws": 0, "draws_delta": 0.1}, "draws"),
        ({"draws": 5, "draws_delta": 1.5}, "delta"),
    ],
)
def test_what_the_theorem_forbids_is_refused(change, message):
    """Values outside the theorem raise AssumptionError and name the argument."""
    given_ = {"empirical": 0.5, "kl": 1.0, "blocks": 10, "delta": 0.05} | change
    with pytest.raises(AssumptionError, match=message):
        pac_bayes_interval(given_.pop("empirical"), **given_)


def test_requests_that_make_no_sense_are_refused():
    """Draws without their delta, and prior shares that exceed one, are refused."""
    with pytest.raises(UsageError, match="go together"):
        pac_bayes_interval(0.5, kl=1.0, blocks=10, delta=0.05, draws=3)
    with pytest.raises(AssumptionError, match="sum to at most 1"):
        union_ends([0.5, 0.5], prior=0.7, blocks=10, delta=0.05)
    with pytest.raises(AssumptionError, match="rollouts_per_prompt"):
        paper_pac_bayes(kl=1.0, prompts=3, rollouts_per_prompt=[1, 2], delta=0.05)
    with pytest.raises(AssumptionError, match="mean_coverage"):
        paper_pac_bayes(
            kl=1.0,
            prompts=3,
            rollouts_per_prompt=1,
            delta=0.05,
            mean_coverage=0.5,
            reward_mse=0.1,
        )


# --- Misses. Fair coins, ten of them a policy; an adversary quotes whichever policy misses. ---

FLIPS, TRIALS = 10, 2000


def averages_of_coins(seed):
    """Averages of FLIPS fair coins for POLICIES policies, shape (TRIALS, POLICIES)."""
    rng = np.random.default_rng(seed)
    return rng.binomial(FLIPS, 0.5, size=(TRIALS, POLICIES)) / FLIPS


def luckiest_misses(averages, budget):
    """Trials in which the unluckiest choice of one policy misses the truth of one half."""
    lower, upper = kl_lower(averages, budget), kl_upper(averages, budget)
    return int(np.any((lower > 0.5) | (upper < 0.5), axis=1).sum())


@pytest.mark.parametrize("delta", [0.02, 0.12, 0.3])
def test_an_unfair_choice_among_twenty_rarely_misses(delta):
    """However unfair the choice, both forms miss at most a share delta of trials."""
    averages = averages_of_coins(1)
    budget = pac_bayes_budget(math.log(POLICIES), blocks=FLIPS, delta=delta)
    assert_misses_at_most(luckiest_misses(averages, budget), TRIALS, delta, "PAC-Bayes")
    lower, upper = union_ends(
        np.arange(FLIPS + 1) / FLIPS, prior=1 / POLICIES, blocks=FLIPS, delta=delta
    )
    outside = ((lower > 0.5) | (upper < 0.5))[np.rint(averages * FLIPS).astype(int)]
    assert_misses_at_most(int(outside.any(axis=1).sum()), TRIALS, delta, "union")


def test_the_check_rejects_a_choice_that_is_not_paid_for():
    """Planted mistake: no KL term. One in three trials misses, allowed is one in eight."""
    budget = pac_bayes_budget(0.0, blocks=FLIPS, delta=0.12)
    assert misses_more_than(luckiest_misses(averages_of_coins(2), budget), TRIALS, 0.12)


def test_the_check_rejects_a_dropped_ln_xi():
    """Planted mistake: ln(1/delta) for ln(xi(n)/delta). The two sides then miss twice too often."""
    delta = 0.0197  # just above 20 * 2^-10: ten heads, and ten tails, are then outside
    budget = (math.log(POLICIES) + math.log(1 / delta)) / FLIPS
    assert misses_more_than(luckiest_misses(averages_of_coins(3), budget), TRIALS, delta)
    sound = pac_bayes_budget(math.log(POLICIES), blocks=FLIPS, delta=delta)
    assert_misses_at_most(luckiest_misses(averages_of_coins(3), sound), TRIALS, delta)


@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5])
def test_a_gibbs_posterior_rarely_misses(temperature):
    """Weights that favour lucky policies, at their price in KL, miss at most delta = 0.2."""
    averages = averages_of_coins(4)
    weights = np.exp((averages - averages.max(axis=1, keepdims=True)) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    terms = np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300) * POLICIES), 0.0)
    lower, upper = pac_bayes_ends(
        np.sum(weights * averages, axis=1),
        kl=np.maximum(0.0, terms.sum(axis=1)),
        blocks=FLIPS,
        delta=0.2,
    )
    assert_misses_at_most(int(((lower > 0.5) | (upper < 0.5)).sum()), TRIALS, 0.2, "Gibbs")


def test_draws_from_the_posterior_are_paid_for():
    """Five draws of policies that are all good or all bad: unpaid they miss, paid they do not."""
    rng = np.random.default_rng(6)
    averages = rng.binomial(5, 0.5, size=TRIALS) / 5  # E_Q z = 1/2; each draw shows 0 or 1
    common = {"kl": 0.0, "blocks": 10**6, "delta": 0.01}
    lower, upper = pac_bayes_ends(averages, draws=5, draws_delta=0.1, **common)
    assert_misses_at_most(int(((lower > 0.5) | (upper < 0.5)).sum()), TRIALS, 0.11, "draws")
    lower, upper = pac_bayes_ends(averages, **common)
    assert misses_more_than(int(((lower > 0.5) | (upper < 0.5)).sum()), TRIALS, 0.11)
    assert monte_carlo_price(5, 0.1) >= math.log(20) / 5

"""Rounding is outward and no finite number is too large: every end against exact arithmetic."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from taut.errors import AssumptionError, UsageError
from taut.inequalities import anytime, betting
from taut.inequalities.concentration import (
    clopper_pearson,
    clustered_normal,
    exact_mean,
    hoeffding,
    paper_alpha,
)
from taut.inequalities.divergence import bernoulli_kl, kl_lower, kl_upper
from taut.inequalities.mean import anytime_path, draw_order, mean_interval
from taut.inequalities.pac_bayes import log_xi, pac_bayes_interval, paper_pac_bayes, union_ends
from taut.inequalities.rounding import from_unit, to_range

mpmath.mp.dps = 60

ENDS = st.floats(-8e307, 8e307)
UNIT = st.floats(0, 1)
METHODS = ("betting", "mixture", "anytime", "bernstein", "chernoff", "hoeffding", "normal")
# Pairs low < high with a finite width, of every size, near 0 and far from it.
RANGES = st.one_of(
    st.tuples(ENDS, ENDS),
    st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    st.floats(-1e300, 1e300).map(lambda low: (low, math.nextafter(low, math.inf))),
    st.sampled_from(
        [(0.0, 5e-324), (-5e-324, 5e-324), (0.0, 1e-310), (1e6, 1e6 + 1), (0.0, 1.7e308)]
    ),
).filter(lambda pair: pair[0] < pair[1] and math.isfinite(pair[1] - pair[0]))


@settings(max_examples=300)
@given(pair=RANGES, a=UNIT, b=UNIT)
def test_mapping_to_user_units_is_outward(pair, a, b):
    """low + width * end in exact fractions lies inside, by a few units in the last place."""
    low, high = pair
    lower, upper = sorted((a, b))
    found = from_unit(lower, upper, low=low, high=high)
    width = Fraction(high) - Fraction(low)
    exact = [Fraction(low) + width * Fraction(end) for end in (lower, upper)]
    assert low <= found.lower <= found.upper <= high
    assert Fraction(found.lower) <= exact[0] and exact[1] <= Fraction(found.upper)
    unit = Fraction(2) ** -49 * max(abs(Fraction(low)), abs(Fraction(high)), width)
    unit += 8 * Fraction(5e-324)
    assert exact[0] - Fraction(found.lower) <= unit and Fraction(found.upper) - exact[1] <= unit


@given(pair=RANGES, ends=st.lists(UNIT, min_size=2, max_size=2))
def test_an_upper_end_that_is_one_minus_a_lower_end_stays_outward(pair, ends):
    """1 - end is rounded too: high - width * end in exact fractions still lies inside."""
    low, high = pair
    below, above = to_range(np.array(ends), 1.0 - np.array(ends), low=low, high=high)
    width = Fraction(high) - Fraction(low)
    for end, lower, upper in zip(ends, below, above, strict=True):
        assert Fraction(float(lower)) <= Fraction(low) + width * Fraction(end)
        assert Fraction(float(upper)) >= Fraction(high) - width * Fraction(end)


@mpmath.workdps(720)  # 1 - 10^-300 takes 300 digits, and so does its logarithm
def exact_kl(p, q):
    p, q = mpmath.mpf(float(p)), mpmath.mpf(float(q))
    first = mpmath.mpf(0) if p == 0 else mpmath.inf if q == 0 else p * mpmath.log(p / q)
    rest = 1 - p
    second = (
        mpmath.mpf(0) if rest == 0 else rest * mpmath.log(rest / (1 - q)) if q < 1 else mpmath.inf
    )
    return first + second


PROBABILITIES = st.one_of(
    UNIT,
    st.floats(-300, 0).map(lambda power: 10.0**power),
    st.floats(-16, 0).map(lambda power: 1.0 - 10.0**power),
    st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1 - 2.0**-53]),
)
BUDGETS = st.one_of(st.floats(-300, 4).map(lambda power: 10.0**power), st.just(0.0))


@settings(max_examples=150, deadline=None)
@given(p=PROBABILITIES, budget=BUDGETS)
def test_inverses_of_kl_are_never_inward(p, budget):
    """kl at either end, to 60 digits, is at least the budget, or the end is that of [0, 1]."""
    upper, lower = float(kl_upper(p, budget)), float(kl_lower(p, budget))
    assert upper == 1 or exact_kl(p, upper) >= budget
    assert lower == 0 or exact_kl(p, lower) >= budget
    assert lower <= p <= upper
    assert kl_upper(p, math.inf) == 1 and kl_lower(p, math.inf) == 0


def test_planted_inward_rounding_is_rejected():
    """The same check fails for the inverse one part in 10^12 inside."""
    p, budget = 0.3, 0.01
    inside = float(kl_upper(p, budget)) - 1e-12
    assert exact_kl(p, inside) < budget


def binomial_tail(k, n, p):
    """P(Bin(n, p) >= k) for p below k/n, to 40 digits."""
    ratio, term, total, j = p / (1 - p), mpmath.mpf(1), mpmath.mpf(0), k
    while term > total * mpmath.mpf(10) ** -40:
        total += term
        term *= ratio * (n - j) / (j + 1)
        j += 1
    logs = mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)
    return total * mpmath.exp(logs + k * mpmath.log(p) + (n - k) * mpmath.log1p(-p))


@pytest.mark.parametrize("n", [1, 7, 50, 1000, 100_000])
@pytest.mark.parametrize("delta", [0.5, 0.025, 1e-6, 1e-200])
def test_clopper_pearson_is_never_inward(n, delta):
    """The tail at each end, to 40 digits, is at most delta; at most 1 part in 10^6 below it."""
    for k in sorted({1, min(2, n), max(n // 2, 1), max(n - 1, 1), n}):
        x = np.repeat([1.0, 0.0], [k, n - k])
        lower = clopper_pearson(x, delta=delta, side="lower").lower
        tail = binomial_tail(k, n, mpmath.mpf(lower))
        assert delta * (1 - 1e-6) <= tail <= delta
        upper = clopper_pearson(1 - x, delta=delta, side="upper").upper
        assert upper == 1 or binomial_tail(k, n, 1 - mpmath.mpf(upper)) <= delta


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=25)
@given(
    pair=RANGES, shares=st.lists(UNIT, min_size=2, max_size=12), delta=st.sampled_from([0.05, 1e-9])
)
def test_no_range_is_too_large_or_small(method, pair, shares, delta):
    """Ranges of 1e308, of one subnormal, far from 0: ends within them, no warning, no hang."""
    low, high = pair
    x = np.clip([low + (high - low) * share for share in shares], low, high)
    found = mean_interval(x, low=low, high=high, delta=delta, method=method)
    assert low <= found.lower <= found.upper <= high
    for side in ("lower", "upper"):
        one = mean_interval(x, low=low, high=high, delta=delta, method=method, side=side)
        assert low <= one.lower <= one.upper <= high


@pytest.mark.parametrize("method", [*METHODS, "clopper-pearson"])
def test_a_power_of_two_changes_nothing(method):
    """Values and range times 2^1000 or 2^-1000 give the same ends, to the last bit."""
    x = np.repeat([1.0, 0.0], [150, 50])
    plain = mean_interval(x, low=0, high=1, method=method)
    for power in (1000, -1000):
        scale = 2.0**power
        found = mean_interval(x * scale, low=0, high=scale, method=method)
        assert found.lower == pytest.approx(plain.lower * scale, rel=1e-12)
        assert found.upper == pytest.approx(plain.upper * scale, rel=1e-12)


def test_chernoff_holds_far_from_zero():
    """A mean of values near 1e6 is rounded by 1e-10; the interval must not shrink by that."""
    low = 1e6
    x = low + np.array([0.0, 0.25, 0.5, 1.0] * 50)
    found = mean_interval(x, low=low, high=low + 1, method="chernoff")
    plain = mean_interval(x - low, low=0, high=1, method="chernoff")
    assert Fraction(found.lower) <= Fraction(low) + Fraction(plain.lower)
    assert Fraction(found.upper) >= Fraction(low) + Fraction(plain.upper)


@pytest.mark.parametrize("end", [betting.star_end, betting.mixture_end])
@pytest.mark.parametrize(
    ("x", "origin", "scale"),
    [
        ([0.0, 0.0], 0.0, math.inf),
        ([0.0, 5e-324], 0.0, math.inf),
        ([0.0, math.nan], 0.0, 1.0),
        ([0.0, 1.0], math.inf, 1.0),
        ([-1e308, 1e308], -1e308, 1e-308),
        ([0.0, 2.0], 0.0, 1.0),
        ([], 0.0, 1.0),
    ],
)
def test_betting_refuses_what_would_never_end(end, x, origin, scale):
    """An infinite scale, NaN, blocks outside [0, 1]: an error, not an endless loop."""
    with pytest.raises(AssumptionError, match="expected blocks"):
        end(np.array(x), origin=origin, scale=scale, eta=0.05)


def test_anytime_refuses_what_is_no_number():
    """NaN blocks, infinite ranges, probabilities and candidates outside their range."""
    for x, low, high in (([math.nan], 0, 1), ([0.5], 0, math.inf), ([0.5], -1e308, 1e308)):
        with pytest.raises(AssumptionError, match="finite range"):
            anytime.to_units(np.array(x), low, high)
    assert anytime.to_units(np.array([-1e308, 1e308, math.inf]), -1, 1).tolist() == [
        0,
        anytime.CELLS * anytime.UNITS,
        anytime.CELLS * anytime.UNITS,
    ]
    weights = anytime.new_weights()
    for candidate in (0.0, 5e-324, 1.5, math.nan):
        with pytest.raises(AssumptionError, match="candidate"):
            anytime.log_fortune(weights, candidate, upper=False)
    for eta in (0.0, 1.0, math.nan):
        with pytest.raises(AssumptionError, match="eta"):
            anytime.can_pass(weights, 0.5, eta=eta, most=3, upper=False)
        with pytest.raises(AssumptionError, match="eta"):
            anytime.log_goal(eta, 3)
    with pytest.raises(AssumptionError, match="squares"):
        anytime.varying_distance(math.nan, 3, 0.05)
    assert anytime.can_pass(weights, 5e-324, eta=0.05, most=3, upper=False)
    for squares in (0.0, 1e308, math.inf):
        for n in (1, 10**18):
            assert 0 < anytime.varying_distance(squares, n, 1e-300) <= 1.1


@settings(deadline=None, max_examples=100)
@given(
    x=st.lists(st.floats(), min_size=1, max_size=6),
    low=st.floats(),
    high=st.floats(),
    delta=st.floats(),
    method=st.sampled_from([*METHODS, "clopper-pearson"]),
)
def test_any_floats_give_an_interval_or_a_clear_error(x, low, high, delta, method):
    """NaN, infinities, subnormals anywhere: our own errors, or ends within the range."""
    try:
        found = mean_interval(x, low=low, high=high, delta=delta, method=method)
    except AssumptionError:
        return
    assert low <= found.lower <= found.upper <= high


@given(
    empirical=st.floats(),
    kl=st.floats(),
    blocks=st.integers(0, 10**18),
    delta=st.floats(),
    low=st.floats(),
    high=st.floats(),
)
@settings(deadline=None, max_examples=150)
def test_pac_bayes_takes_any_floats(empirical, kl, blocks, delta, low, high):
    """As for the mean: ends within the range, or an error of ours."""
    try:
        found = pac_bayes_interval(empirical, kl=kl, blocks=blocks, delta=delta, low=low, high=high)
        assert low <= found.lower <= found.upper <= high
        below, above = union_ends(
            empirical, prior=0.5, blocks=blocks, delta=delta, low=low, high=high
        )
        assert low <= below <= above <= high
    except AssumptionError:
        pass


@example(p=0.0, q=1.7976931348623143e308)
@given(p=st.floats(), q=st.floats())
def test_divergences_take_any_floats(p, q):
    """kl and its inverses: a number that is no NaN, or an error of ours."""
    for form in (bernoulli_kl, kl_lower, kl_upper):
        try:
            assert not np.isnan(form(p, q))
        except AssumptionError:
            assert not (0 <= p <= 1 and 0 <= q <= 1)


@given(
    kl=st.floats(),
    prompts=st.integers(0, 10**19),
    rollouts=st.floats(),
    width=st.floats(),
    coverage=st.floats(),
    beta=st.floats(),
)
@example(kl=0.0, prompts=10**9, rollouts=1e300, width=1.0, coverage=1.0, beta=0.0)
def test_the_papers_bound_takes_any_floats(kl, prompts, rollouts, width, coverage, beta):
    """Infinite KL, zero width, huge terms: numbers that are no NaN, or an error of ours."""
    try:
        found = paper_pac_bayes(
            kl=kl,
            prompts=prompts,
            rollouts_per_prompt=rollouts,
            delta=0.05,
            width=width,
            mean_coverage=coverage,
            reward_mse=coverage,
            beta=beta,
            mean_clipped_excess=coverage,
        )
        assert not math.isnan(found.sampling) and not math.isnan(found.total)
    except AssumptionError:
        pass


def test_counts_that_are_no_counts_are_refused():
    """10^400 prompts, blocks or values, none, or a NaN."""
    for blocks in (0, 10**400, math.nan):
        with pytest.raises(AssumptionError, match="blocks"):
            log_xi(blocks)
        with pytest.raises(AssumptionError, match="n >= 1"):
            betting.mixture_bets(blocks, 0.05)
    for prompts in (0, 10**400, math.nan):
        with pytest.raises(AssumptionError, match="prompt"):
            paper_alpha(prompts, 4, 0.05)
    assert 0 < paper_alpha(10**18, 1, 0.05) < 1e-8


def test_sums_beyond_the_largest_float_have_a_mean():
    """A thousand values of 1.7e308 have that mean; the closed forms use it."""
    assert exact_mean(np.full(1000, 1.7e308)) == 1.7e308
    for form in (hoeffding, clustered_normal):
        found = form(np.full(1000, 1.5e308), low=0, high=1.6e308, delta=0.05)
        assert 0 <= found.lower <= 1.5e308 <= found.upper <= 1.6e308


# Keys: values of one draw.


@pytest.mark.parametrize("method", METHODS)
def test_values_of_one_draw_count_once(method):
    """Equal keys give the interval of the draws' means, in any order of rows within a draw."""
    rng = np.random.default_rng(1)
    keys = np.repeat(rng.integers(0, 2**63, 60).astype(np.uint64), rng.integers(1, 6, 60))
    x = rng.random(len(keys))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    means = np.array([exact_mean(x[inverse == draw]) for draw in order])
    found = mean_interval(x, low=0, high=1, keys=keys, method=method)
    assert found == mean_interval(means, low=0, high=1, keys=keys[np.sort(first)], method=method)
    if method != "anytime":
        rows = rng.permutation(len(x))
        assert mean_interval(x[rows], low=0, high=1, keys=keys[rows], method=method) == found


def test_copies_of_a_draw_do_not_narrow():
    """Each value written ten times under its key gives the interval of the values."""
    x, keys = np.random.default_rng(2).random(50), np.arange(50)
    once = mean_interval(x, low=0, high=1, keys=keys)
    assert mean_interval(np.repeat(x, 10), low=0, high=1, keys=np.repeat(keys, 10)) == once
    assert mean_interval(np.repeat(x, 10), low=0, high=1).width < 0.6 * once.width


def test_an_order_of_draws_needs_distinct_keys():
    """The order itself has no place for two values of one draw."""
    with pytest.raises(UsageError, match="equal"):
        draw_order(3, seed=0, keys=np.array([1, 2, 1]))
    with pytest.raises(AssumptionError, match="Clopper-Pearson"):
        mean_interval([0.0, 1.0, 1.0], low=0, high=1, keys=np.array([1, 1, 2]), binary=True)


@settings(deadline=None, max_examples=30)
@given(pair=RANGES, shares=st.lists(UNIT, min_size=1, max_size=8))
def test_paths_stay_in_the_range(pair, shares):
    """Anytime intervals of extreme ranges: finite, within it, never wider."""
    low, high = pair
    x = np.clip([low + (high - low) * share for share in shares], low, high)
    assume(len(x) > 0)
    _, lower, upper = anytime_path(x, low=low, high=high)
    assert np.all((low <= lower) & (lower <= upper) & (upper <= high))
    assert np.all(np.diff(lower) >= 0) and np.all(np.diff(upper) <= 0)

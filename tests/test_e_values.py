"""e-values: honest log-probs are rarely doubted, wrong ones are; ends hold; nothing overflows."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check import assert_misses_at_most, misses_more_than
from taut.errors import AssumptionError
from taut.inequalities.e_values import (
    STAKES,
    block_log_means,
    chi_square_lower,
    log_average,
    log_e_value,
    log_mean_lower,
    log_prob_test,
    p_of_log_e,
)
from taut.inequalities.multiplicity import DOUBT, SURE

LOGS = st.floats(allow_nan=False, allow_infinity=True)


def honest_log_ratios(rng, n, kind):
    """Return l = ln(pi/ref) under pi: E exp(-l) is 1, or less where pi lacks support."""
    if kind == "two answers":  # pi = (.998, .002), ref = (.5, .5)
        rare = rng.random(n) < 0.002
        return np.log(np.where(rare, 0.002, 0.998) / 0.5)
    if kind == "lost support":
        return np.full(n, math.log(2.0))
    spread = {"narrow": 0.3, "wide": 2.0}[kind]
    return rng.normal(spread**2 / 2, spread, n)


@pytest.mark.parametrize("kind", ["two answers", "lost support", "narrow", "wide"])
def test_honest_log_probs_are_rarely_doubted(kind):
    """At E X <= 1, with block means of 4: no level is undercut more often than it allows."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        rows = -honest_log_ratios(rng, 400, kind)
        means = block_log_means(rows, np.arange(0, 401, 4))
        found.append(p_of_log_e(log_e_value(means)))
        assert log_prob_test(means).p_sure > DOUBT
    for level in (0.5, 0.1, 0.02):
        assert not misses_more_than(sum(p <= level for p in found), 300, level)


def test_noise_of_honest_engines_is_no_doubt():
    """0.1 nats of noise a sequence on 200,000 rows: not in doubt at 1.05, though it is at 1."""
    rng = np.random.default_rng(2)
    rows = -honest_log_ratios(rng, 200_000, "narrow") + rng.normal(0, 0.1, 200_000)
    assert log_prob_test(rows).p_doubt > 0.1
    assert p_of_log_e(log_e_value(rows)) < DOUBT
    assert log_prob_test(rows + 0.3, noise=0.31).p_doubt > 0.1


@pytest.mark.parametrize("noise", [None, 0.1])
def test_wrong_log_probs_are_seen(noise):
    """Swapped policies, a mismatch of 1.3 on average, 3 on average: doubt, doubt, sure."""
    rng = np.random.default_rng(3)
    swapped = rng.normal(0.5, 1.0, 500)  # l of the other direction: E exp(-(-l)) = e
    assert log_prob_test(swapped, noise=noise).p_sure < SURE
    mild = np.log(rng.gamma(1.3**2, 1 / 1.3, 1000))
    assert log_prob_test(mild, noise=noise).p_doubt < DOUBT
    if noise is None:
        assert log_prob_test(mild).p_sure > DOUBT


def test_blocks_of_unequal_laws_are_allowed():
    """Half of the blocks at mean 1.8, half at 0.2: the average is 1, and that is what is tested."""
    rng = np.random.default_rng(4)
    scale = np.repeat([1.8, 0.2], 100)
    found = [p_of_log_e(log_e_value(np.log(scale * rng.exponential(size=200)))) for _ in range(400)]
    assert not misses_more_than(sum(p <= 0.1 for p in found), 400, 0.1)


@pytest.mark.parametrize("sigma", [0.5, 1.5])
@pytest.mark.parametrize("n", [1, 20, 300])
def test_lower_ends_of_unbounded_means_hold(sigma, n):
    """Log-normal X, at delta = .2: the end is above the mean at most that often, and is of use."""
    rng = np.random.default_rng(n)
    ends = np.array([log_mean_lower(rng.normal(0, sigma, n), 0.2) for _ in range(300)])
    assert_misses_at_most(int((ends > sigma**2 / 2).sum()), 300, 0.2)
    if n == 300:
        assert np.median(ends) > sigma**2 / 2 - 0.6 * sigma
        plug_in = np.array([rng.normal(0, sigma, n).mean() + sigma**2 / 2 for _ in range(300)])
        assert misses_more_than(int((plug_in > sigma**2 / 2).sum()), 300, 0.2)


def test_lower_ends_are_where_the_fortune_reaches_the_goal():
    """log e at the end is at least ln(1/delta), and just above the end it is not."""
    rng = np.random.default_rng(5)
    for n in (1, 7, 200, 3000):
        x = rng.normal(1, 1, n)
        end = log_mean_lower(x, 0.01)
        assert log_e_value(x, end) >= math.log(100) - 1e-12
        assert log_e_value(x, end + 0.01 * (log_average(x) - end)) < math.log(100)
        assert end < log_average(x)
        assert log_mean_lower(x + 5.0, 0.01) == pytest.approx(end + 5.0, abs=2e-3)
        assert log_mean_lower(x, 0.001) < end


def test_chi_square_is_bounded_from_below():
    """Sampler N(0,1), policy N(d,1): chi-square e^(d d) - 1; 0 where the two are one."""
    rng = np.random.default_rng(6)
    d = 0.6
    gap = d * d / 2 - d * rng.normal(0, 1, 4000)  # ln(b/p) on draws of b
    assert 0.2 < chi_square_lower(gap, 0.01) < math.expm1(d * d)
    assert chi_square_lower(np.zeros(4000), 0.01) == 0.0
    assert chi_square_lower(np.full(4000, 1e308), 0.01) > 1e300


def test_golden_value():
    """The mixture to 12 digits, never above the exact value."""
    mpmath.mp.dps = 40
    x = [0.3, -1.2, 2.0, -0.4, 15.0, -math.inf]
    exact = mpmath.log(
        mpmath.fsum(
            mpmath.fprod(
                1 - mpmath.mpf(s) + mpmath.mpf(s) * mpmath.exp(mpmath.mpf(v) - mpmath.mpf(0.25))
                for v in x
            )
            for s in STAKES
        )
        / len(STAKES)
    )
    found = log_e_value(np.array(x), 0.25)
    assert 0 <= float(exact - found) < 1e-8
    starts = np.array([0, 2, 6])
    means = block_log_means(np.array(x), starts)
    assert means[0] == pytest.approx(math.log((math.exp(0.3) + math.exp(-1.2)) / 2), rel=1e-14)
    assert log_average(np.log([1.0, 2.0, 6.0])) == pytest.approx(math.log(3.0), rel=1e-14)


@settings(deadline=None, max_examples=150)
@given(
    logs=st.lists(
        LOGS | st.sampled_from([1e308, -1e308, 5e-324, math.inf, -math.inf, 0.0, 700.0, -745.0]),
        min_size=1,
        max_size=30,
    ),
    bound=st.floats(allow_nan=False, allow_infinity=False),
    delta=st.sampled_from([0.5, 1e-3, 1e-6, 1e-300]),
)
def test_no_log_is_too_large(logs, bound, delta):
    """Any floats: an answer, no NaN, no warning, in finite time; p-values in (0, 1]."""
    x = np.array(logs)
    log_e = log_e_value(x, bound)
    assert not math.isnan(log_e) and 0 < p_of_log_e(log_e) <= 1
    end = log_mean_lower(x, delta)
    assert end <= log_average(x) and not math.isnan(end)
    assert 0 <= chi_square_lower(x, delta) < math.inf
    test = log_prob_test(x)
    assert 0 < test.p_doubt <= 1 and test.log_e_sure <= test.log_e_doubt + 1e-6
    assert not np.isnan(block_log_means(x, np.arange(len(x) + 1))).any()


def test_refuses_what_is_no_log():
    """NaN, no values, bad bounds, starts and noise are named."""
    for call in (log_e_value, log_average, log_prob_test):
        with pytest.raises(AssumptionError, match="value 1 is NaN"):
            call(np.array([0.0, math.nan]))
        with pytest.raises(AssumptionError, match="one or more"):
            call(np.array([]))
    with pytest.raises(AssumptionError, match="delta"):
        log_mean_lower(np.zeros(3), 0.0)
    with pytest.raises(AssumptionError, match="log_bound"):
        log_e_value(np.zeros(3), math.inf)
    with pytest.raises(AssumptionError, match="noise"):
        log_prob_test(np.zeros(3), noise=-1.0)
    for starts in ([0], [0, 2], [0, 1, 1, 3], [1, 3]):
        with pytest.raises(AssumptionError, match="starts"):
            block_log_means(np.zeros(3), starts)

"""Weights over finitely many policies: their price, and intervals that survive an unfair choice."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from check import assert_misses_at_most, misses_more_than
from taut.errors import AssumptionError
from taut.inequalities.pac_bayes import pac_bayes_interval
from taut.posterior.finite import finite_interval, finite_posterior, kl_categorical

mpmath.mp.dps = 40


def exact_kl(q, p):
    """Sum of q ln(q / p) in 40 digits, after the same normalisation."""
    q, p = [mpmath.mpf(x) for x in q], [mpmath.mpf(x) for x in p]
    whole_q, whole_p = sum(q), sum(p)
    return mpmath.fsum(
        a / whole_q * mpmath.log(a / whole_q / (b / whole_p))
        for a, b in zip(q, p, strict=True)
        if a > 0
    )


def masses(size):
    return st.lists(st.floats(1e-9, 1.0), min_size=size, max_size=size).map(
        lambda values: np.array(values) / np.sum(values)
    )


def test_kl_has_twelve_digits():
    """KL agrees with 40-digit arithmetic, also for masses of very different size."""
    q = np.array([0.7, 0.2999999, 1e-7, 0.0])
    p = np.array([1e-6, 0.5, 0.25, 0.249999])
    exact = exact_kl(q, p)
    assert 0 <= mpmath.mpf(kl_categorical(q, p)) - exact <= mpmath.mpf(10) ** -12 * exact


@given(st.integers(1, 8).flatmap(lambda m: st.tuples(masses(m), masses(m))))
def test_kl_is_never_rounded_down_nor_negative(pair):
    """Computed KL is at least the exact one, at least 0, and close to it."""
    q, p = pair
    found = kl_categorical(q, p)
    assert found >= 0
    assert -1e-25 <= mpmath.mpf(found) - exact_kl(q, p) <= 1e-12 or np.array_equal(q, p)


def test_a_point_mass_costs_the_log_of_its_prior():
    """Choosing one of M alike costs ln M; one with prior mass p costs -ln p."""
    assert finite_posterior(np.eye(50)[7]).kl == pytest.approx(math.log(50), rel=1e-14)
    chosen = finite_posterior(np.array([0.0, 1.0]), prior=np.array([0.9, 0.1]))
    assert chosen.kl == pytest.approx(math.log(10), rel=1e-14)


def test_zeros_are_exact():
    """No weight costs nothing whatever the prior; weight without prior costs everything."""
    half = np.array([0.5, 0.5, 0.0])
    assert kl_categorical(half, half) == 0.0
    assert kl_categorical(half, np.array([1.0, 0.0, 0.0])) == math.inf
    assert kl_categorical(np.array([1.0, 0.0, 0.0]), half) == pytest.approx(math.log(2))


def test_keeping_the_prior_is_free():
    """Uniform weights over M policies have no price at all."""
    assert finite_posterior(np.full(7, 1 / 7)).kl == 0.0


@pytest.mark.parametrize(
    ("weights", "prior", "message"),
    [
        ([0.5, 0.6], None, "sum to 1"),
        ([1.5, -0.5], None, "non-negative"),
        ([math.nan, 1.0], None, "non-negative"),
        ([], None, "one dimension"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], "one prior mass"),
        ([0.5, 0.5], [0.5, 0.4], "prior"),
    ],
)
def test_masses_that_are_none_are_refused(weights, prior, message):
    """Weights and priors that are not probabilities raise AssumptionError."""
    with pytest.raises(AssumptionError, match=message):
        finite_posterior(np.array(weights), prior=None if prior is None else np.array(prior))


def test_the_interval_is_pac_bayes_of_the_weighted_mean():
    """E_Q of the block means with KL(Q||P), in the units of the range."""
    rng = np.random.default_rng(1)
    blocks = rng.uniform(-1, 3, size=(3, 40))
    posterior = finite_posterior(np.array([0.2, 0.0, 0.8]))
    found = finite_interval(blocks, posterior, delta=0.1, low=-1, high=3)
    average = posterior.weights @ blocks.mean(axis=1)
    same = pac_bayes_interval(average, kl=posterior.kl, blocks=40, delta=0.1, low=-1, high=3)
    assert found.lower == pytest.approx(same.lower, abs=1e-12)
    assert found.upper == pytest.approx(same.upper, abs=1e-12)


def test_the_fewest_blocks_of_the_prior_count():
    """Policies with more blocks help nobody; a policy without prior mass may have none."""
    rng = np.random.default_rng(2)
    blocks = [rng.random(30), rng.random(90), np.zeros(0)]
    posterior = finite_posterior(np.array([0.0, 1.0, 0.0]), prior=np.array([0.5, 0.5, 0.0]))
    found = finite_interval(blocks, posterior, delta=0.1)
    same = pac_bayes_interval(blocks[1].mean(), kl=posterior.kl, blocks=30, delta=0.1)
    assert (found.lower, found.upper) == pytest.approx((same.lower, same.upper), abs=1e-12)


def test_missing_blocks_are_refused():
    """A policy with prior mass needs blocks, and each policy an entry."""
    posterior = finite_posterior(np.array([1.0, 0.0]))
    with pytest.raises(AssumptionError, match="at least 1 block"):
        finite_interval([np.ones(3), np.zeros(0)], posterior, delta=0.1)
    with pytest.raises(AssumptionError, match="each of 2 policies"):
        finite_interval([np.ones(3)], posterior, delta=0.1)


def unlucky_choices(rng, policies, sizes):
    """Fair coins for each policy; the choice is the policy furthest from one half."""
    blocks = [rng.integers(0, 2, size=size).astype(float) for size in sizes]
    furthest = int(np.argmax([abs(z.mean() - 0.5) for z in blocks]))
    return blocks, np.eye(policies)[furthest]


@pytest.mark.slow
def test_an_unfair_choice_rarely_misses_with_unequal_blocks():
    """The policy furthest from its truth, out of 20 with 10 or 20 blocks: misses at most delta.

    The same check rejects the interval that forgets the choice (the planted mistake).
    """
    rng, policies, delta, trials = np.random.default_rng(3), 20, 0.12, 600
    sizes = [10, 20] * (policies // 2)
    paid = free = 0
    for _ in range(trials):
        blocks, weights = unlucky_choices(rng, policies, sizes)
        posterior = finite_posterior(weights)
        found = finite_interval(blocks, posterior, delta=delta)
        paid += not found.lower <= 0.5 <= found.upper
        unpaid = finite_posterior(weights, prior=weights)
        found = finite_interval(blocks, unpaid, delta=delta)
        free += not found.lower <= 0.5 <= found.upper
    assert_misses_at_most(paid, trials, delta, "finite interval")
    assert misses_more_than(free, trials, delta)

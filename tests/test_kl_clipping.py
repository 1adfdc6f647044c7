"""The KL-clipping term: free negative side, declared maximum and moment, estimated tail."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check import blocks_of
from taut.bounds.kl_clipping import (
    clip_log_ratio,
    declared_maximum_tail,
    describe_log_ratio,
    estimated_tail,
    negative_tail,
    second_moment_tail,
    token_clipping,
)
from taut.draws.rollouts import Rollouts
from taut.types import Status


def one_rollout_each(log_ratio):
    log_ratio = np.asarray(log_ratio, dtype=float)
    rollouts = Rollouts.from_arrays(
        prompt_id=np.arange(len(log_ratio)), reward=np.zeros(len(log_ratio)), log_ratio=log_ratio
    )
    return log_ratio, blocks_of(rollouts)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 4.0, 10.0, 40.0])
def test_negative_tail_has_its_golden_value(tau):
    """The free bound is e^(-1-tau), to 12 digits."""
    expected = mpmath.exp(-1 - mpmath.mpf(tau))
    assert math.isclose(negative_tail(tau).bound, float(expected), rel_tol=1e-12)


@given(st.floats(0, 5), st.floats(1e-6, 1.0))
@settings(max_examples=200, deadline=None)
def test_negative_tail_holds_and_is_sharp(tau, mass):
    """With E e^(-l) <= 1 no law exceeds the bound, and one reaches it."""
    deep = -math.log(mass)  # l = -deep with probability `mass` has E e^(-l) = 1 from there alone
    assert mass * max(deep - tau, 0.0) <= negative_tail(tau).bound * (1 + 1e-12)
    best = math.exp(-1 - tau)
    assert math.isclose(best * (-math.log(best) - tau), negative_tail(tau).bound, rel_tol=1e-12)


@given(st.floats(0.01, 10), st.floats(0, 30), st.floats(0, 30), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_second_moment_tail_holds_for_two_point_laws(tau, first, second, share):
    """Every law with that second moment has a tail mean of at most the bound."""
    moment = share * first**2 + (1 - share) * second**2
    tail = share * max(first - tau, 0) + (1 - share) * max(second - tau, 0)
    assert tail <= second_moment_tail(tau, moment).bound * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("tau", "moment"), [(1.0, 2.0), (2.0, 16.0), (0.5, 9.0), (8.0, 1.0)])
def test_second_moment_tail_has_its_golden_value(tau, moment):
    """s^2/(4 tau) for s <= 2 tau, s - tau otherwise, to 12 digits."""
    root = mpmath.sqrt(moment)
    expected = mpmath.mpf(moment) / (4 * mpmath.mpf(tau)) if root <= 2 * tau else root - tau
    tail = second_moment_tail(tau, moment)
    assert math.isclose(tail.bound, float(expected), rel_tol=1e-12)
    assert tail.status is Status.CONDITIONAL


def test_declared_maximum_needs_no_event_when_nothing_is_cut():
    """Clipping at the declared maximum costs no probability and hides nothing."""
    log_ratio, blocks = one_rollout_each([0.1, 2.0])
    tail = declared_maximum_tail(
        log_ratio, blocks, tau=3.0, maximum=3.0, delta=0.01, method="betting"
    )
    assert (tail.bound, tail.delta, tail.status) == (0.0, 0.0, Status.CONDITIONAL)


def test_declared_maximum_bounds_the_tail_mean():
    """Below the maximum, the bound exceeds the sample's tail mean and spends its delta."""
    log_ratio, blocks = one_rollout_each(np.linspace(0, 5, 200))
    tail = declared_maximum_tail(
        log_ratio, blocks, tau=4.0, maximum=6.0, delta=0.01, method="betting"
    )
    assert np.maximum(log_ratio - 4, 0).mean() < tail.bound < 1.0
    assert tail.delta == 0.01


def test_estimated_tail_is_near_the_truth_of_an_exponential():
    """E(l - tau)_+ of a standard exponential is e^(-tau); the estimate's upper end covers it."""
    rng = np.random.default_rng(1)
    log_ratio, blocks = one_rollout_each(rng.exponential(size=4000))
    for tau in (1.0, 3.0, 6.0):
        tail = estimated_tail(log_ratio, blocks, tau=tau, delta=0.025)
        assert math.exp(-tau) < tail.bound < 4 * math.exp(-tau) + 0.02
        assert tail.status is Status.ESTIMATED


def test_estimated_tail_sees_beyond_the_largest_value():
    """Clipping at the sample's maximum does not make the tail look empty."""
    log_ratio, blocks = one_rollout_each(np.random.default_rng(0).pareto(2.5, size=500))
    tail = estimated_tail(log_ratio, blocks, tau=float(log_ratio.max()), delta=0.05)
    assert tail.bound > 0


@pytest.mark.parametrize("values", [[0.0], [0.0] * 50, [1.0, 1.0, 1.0], [0.0] * 40 + [3.0]])
def test_estimated_tail_bears_ties_and_single_values(values):
    """Degenerate samples give a finite bound."""
    log_ratio, blocks = one_rollout_each(values)
    assert 0 <= estimated_tail(log_ratio, blocks, tau=0.5, delta=0.05).bound < math.inf


def test_sides_are_clipped_apart():
    """Positive values stop at tau, negative ones at -tau_negative."""
    clipped = clip_log_ratio(np.array([-9.0, -1.0, 0.5, 9.0]), tau=2.0, tau_negative=3.0)
    assert clipped.tolist() == [-3.0, -1.0, 0.5, 2.0]


def test_kl_estimators_agree_with_their_definitions():
    """k1 = l, k2 = l^2/2, k3 = e^(-l) - 1 + l, prompts weighted equally."""
    log_ratio, blocks = one_rollout_each([0.5, -0.25, 2.0])
    found = describe_log_ratio(log_ratio, blocks, tau=1.0, tau_negative=0.1)
    assert found["k1"] == pytest.approx(0.75, abs=1e-12)
    assert found["k2"] == pytest.approx((0.125 + 0.03125 + 2.0) / 3, abs=1e-12)
    assert found["k3"] == pytest.approx(
        sum(math.exp(-x) - 1 + x for x in (0.5, -0.25, 2.0)) / 3, abs=1e-12
    )
    assert found["clipped_share_positive"] == pytest.approx(1 / 3)
    assert found["clipped_share_negative"] == pytest.approx(1 / 3)


def test_token_clipping_reports_bias_and_share():
    """The token level is described by its bias, the share changed and the free negative bound."""
    log_ratio, blocks = one_rollout_each([3.0, 1.0])
    found = token_clipping(log_ratio, np.array([2.0, 1.0]), np.array([10, 20]), blocks, clip=2.0)
    assert found["bias"] == pytest.approx(0.5)
    assert found["share_changed"] == pytest.approx(0.5)
    assert found["negative_bound"] == pytest.approx(15 * math.exp(-3))

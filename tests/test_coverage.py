"""Coverage diagnostics: weights, their tails, mixtures and mean features."""

import math

import numpy as np
import pytest

from taut.bounds.coverage import (
    coverage_floor,
    density_ratio,
    describe_weights,
    log_e_value_of_mean,
    mahalanobis_shift,
    mixture_logprob,
    noise_floor,
    pareto_shape,
)
from taut.errors import AssumptionError


def test_equal_weights_are_worth_every_row():
    """Weights of 1 give the full sample size, mean 1 and no tail to fit."""
    found = describe_weights(np.ones(200))
    assert found.effective_sample_size == pytest.approx(200)
    assert found.largest_share == pytest.approx(1 / 200)
    assert (found.mean, found.plug_in_coverage) == pytest.approx((1.0, 1.0))
    assert found.pareto_k is None


def test_one_large_weight_is_worth_one_row():
    """A dominating weight leaves an effective sample size near 1."""
    found = describe_weights(np.r_[np.full(99, 1e-6), 50.0])
    assert found.effective_sample_size == pytest.approx(1.0, abs=0.01)
    assert found.largest_share > 0.99


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.8, 1.2])
def test_pareto_shape_is_recovered(shape):
    """On a generalised Pareto sample the shape comes back within 0.15, on average of ten."""
    rng = np.random.default_rng(0)
    found = [pareto_shape(((1 - rng.random(4000)) ** -shape - 1) / shape) for _ in range(10)]
    assert np.mean(found) == pytest.approx(shape, abs=0.15)


def test_tied_weights_have_no_shape():
    """Ties are not taken for a light tail."""
    assert pareto_shape(np.repeat([0.1, 5.0], [900, 100])) is None
    assert pareto_shape(np.ones(3)) is None


def test_weights_of_mean_above_one_are_betrayed():
    """E w <= 1 always; a mean of 1.5 is bet against with success, an honest 1 is not."""
    rng = np.random.default_rng(1)
    honest = np.exp(rng.normal(-0.5, 1.0, 500))
    assert log_e_value_of_mean(honest) < math.log(20)
    assert log_e_value_of_mean(1.5 * honest) > math.log(1000)


def test_mixture_is_the_weighted_sum_of_densities():
    """log(0.25 e^a + 0.75 e^b), also where both densities underflow."""
    found = mixture_logprob([np.array([-1.0, -2000.0]), np.array([-2.0, -2001.0])], [0.25, 0.75])
    expected = math.log(0.25 * math.exp(-1) + 0.75 * math.exp(-2))
    assert found[0] == pytest.approx(expected, rel=1e-12)
    assert found[1] == pytest.approx(expected - 1999, rel=1e-12)


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [1.5, -0.5], []])
def test_shares_must_be_a_distribution(shares):
    """Shares that do not sum to 1, or are not one each, are refused."""
    with pytest.raises(AssumptionError, match="share"):
        mixture_logprob([np.zeros(2), np.zeros(2)], shares)


def test_density_ratio_does_not_overflow():
    """A response that the data never hold has an enormous, finite weight."""
    assert np.isfinite(density_ratio(np.array([0.0]), np.array([-5000.0]))).all()


def test_coverage_floor_is_a_lower_bound_on_c():
    """exp(KL/2) <= C for every pair of laws (Jensen)."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        policy, behaviour = rng.dirichlet(np.ones(5), size=2)
        log_weights = np.log(policy / behaviour)
        floor = coverage_floor(np.array([policy @ log_weights]))
        assert floor <= math.sqrt((policy**2 / behaviour).sum()) * (1 + 1e-12)


def test_mahalanobis_shift_never_exceeds_chi_square():
    """Hammersley-Chapman-Robbins: on exact laws Delta^2 <= chi^2, and equality is reached."""
    rng = np.random.default_rng(3)
    n = 200_000
    train = rng.normal(size=(n, 2))
    shifted = rng.normal(size=(n, 2)) + [0.3, 0.0]
    delta, outside = mahalanobis_shift(shifted, train)
    assert delta == pytest.approx(0.3, abs=0.02)
    assert delta**2 <= math.exp(0.09) - 1 + 0.02
    assert outside < 1e-9


def test_features_outside_the_data_are_seen():
    """A shift along a feature that never varies in the reward data lies outside its range."""
    train = np.c_[np.random.default_rng(0).normal(size=50), np.zeros(50)]
    deployment = train + [0.0, 1.0]
    assert mahalanobis_shift(deployment, train)[1] == pytest.approx(1.0)


def test_too_few_draws_for_the_features_are_refused():
    """More features than draws cannot be standardised."""
    with pytest.raises(AssumptionError, match="more draws than features"):
        mahalanobis_shift(np.zeros((5, 9)), np.zeros((5, 9)))


def test_noise_floor_is_that_of_identical_policies():
    """Weights of one policy scored twice are 1 but for noise; of two policies there is no floor."""
    weights = np.exp(np.r_[np.zeros(90), np.full(10, 0.2)])
    assert noise_floor(weights) == pytest.approx(0.2)
    assert noise_floor(np.exp(np.linspace(-1, 1, 100))) is None

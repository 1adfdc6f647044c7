"""What preference pairs can and cannot say about a linear reward head (theory §3.8)."""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from taut.bounds.preferences import (
    bootstrap_head_mse,
    fit_head,
    head_information,
    head_mse,
    pair_covariance,
    reward_mse_from_preferences,
    within_prompt_covariance,
)
from taut.errors import AssumptionError, UsageError
from taut.types import Status

# Features of two responses are independent with this covariance around a mean of the prompt's own.
_SHAPE = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.8]])
_ROOT = np.linalg.cholesky(_SHAPE)
_HEAD = np.array([1.0, -0.7, 0.4])


def _pairs(m, rng, reward=lambda phi: phi @ _HEAD):
    """Labelled differences (preferred minus other) from a known reward."""
    prompt = rng.normal(size=(m, 1, 3))
    phi = prompt + rng.normal(size=(m, 2, 3)) @ _ROOT.T
    gap = reward(phi[:, 0]) - reward(phi[:, 1])
    sign = np.where(rng.random(m) < 1 / (1 + np.exp(-gap)), 1.0, -1.0)
    return (phi[:, 0] - phi[:, 1]) * sign[:, None]


def _true_mse(weights):
    """E of the squared centred error of a head: the world is known, so this is exact."""
    error = weights - _HEAD
    return float(error @ _SHAPE @ error)


def test_information_agrees_with_fifty_digits():
    """The Fisher information of a small case matches mpmath to 14 digits."""
    d = np.array([[1.5, -0.25], [-0.5, 2.0], [0.125, 3.0]])
    w = np.array([0.75, -1.25])
    with mpmath.workdps(50):
        exact = mpmath.zeros(2)
        for row in d.tolist():
            p = 1 / (1 + mpmath.exp(-sum(mpmath.mpf(a) * b for a, b in zip(row, w, strict=True))))
            v = mpmath.matrix(row)
            exact += p * (1 - p) * (v * v.T)
        golden = np.array(exact.tolist(), dtype=float)
    np.testing.assert_allclose(head_information(d, w), golden, rtol=1e-14)


def test_fit_is_where_the_exact_score_vanishes():
    """In one dimension with k of n labels agreeing, w = logit(k/n) and its variance 1/(n p q)."""
    fit = fit_head(np.repeat([[1.0], [-1.0]], [70, 30], axis=0))
    with mpmath.workdps(50):
        golden = float(mpmath.log(mpmath.mpf(7) / 3))
    assert fit.weights[0] == pytest.approx(golden, rel=1e-12)
    assert fit.covariance[0, 0] == pytest.approx(1 / (100 * 0.7 * 0.3), rel=1e-12)


def test_ridge_fit_is_where_the_penalised_score_vanishes():
    """With a ridge the optimum solves n (k/n - sigmoid(w)) = ridge w, to mpmath's digits."""
    fit = fit_head(np.repeat([[1.0], [-1.0]], [9, 1], axis=0), ridge=2.0)
    with mpmath.workdps(40):
        golden = mpmath.findroot(lambda w: 9 - 10 / (1 + mpmath.exp(-w)) - 2 * w, 1)
    assert fit.weights[0] == pytest.approx(float(golden), rel=1e-12)
    assert fit.ridge == 2.0


@pytest.mark.parametrize(("m", "fits"), [(200, 1500), (1000, 1000), (5000, 500)])
def test_estimate_matches_the_error_of_many_fits(m, fits):
    """Mean estimated L is the mean of the true E(phi'(w^ - w))^2, but for chance and 1/m terms."""
    rng = np.random.default_rng(m)
    heads = [fit_head(_pairs(m, rng)) for _ in range(fits)]
    truth = np.array([_true_mse(head.weights) for head in heads])
    estimates = np.array([head_mse(head, _SHAPE).estimate for head in heads])
    chance = 4 * truth.std() / math.sqrt(fits) / truth.mean()
    assert chance < 0.16
    # tr(Sigma Cov) is the first term of a series in 1/m; the next is below 10/m here.
    assert abs(truth.mean() / estimates.mean() - 1) < chance + 10 / m


def test_upper_holds_about_as_often_as_it_says():
    """The error of a fitted head lies below its stated 95% quantile in about 95% of fits."""
    rng = np.random.default_rng(11)
    fits = 500
    below = 0
    for _ in range(fits):
        head = fit_head(_pairs(1000, rng))
        below += _true_mse(head.weights) <= head_mse(head, _SHAPE, delta=0.05).upper
    assert stats.binomtest(below, fits, 0.95).pvalue > 1e-3


def test_upper_is_the_chi_square_quantile_where_directions_are_alike():
    """With equal eigenvalues the matched law is exact: L chi^2_d / d."""
    d = np.vstack([np.eye(3), -np.eye(3)] * 50)
    found = head_mse(fit_head(d), np.eye(3), delta=0.1)
    assert found.upper == pytest.approx(found.estimate / 3 * stats.chi2(3).ppf(0.9), rel=1e-9)
    assert found.standard_error == pytest.approx(found.estimate * math.sqrt(2 / 3), rel=1e-9)


def test_bootstrap_agrees_with_the_formula_at_many_pairs():
    """Refits to simulated labels have the mean error that the Fisher information foretells."""
    d = _pairs(2000, np.random.default_rng(2))
    fit = fit_head(d)
    draws = bootstrap_head_mse(fit, d, _SHAPE, refits=300, rng=np.random.default_rng(3))
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - head_mse(fit, _SHAPE).estimate) < 4 * error


def test_pairs_alone_give_the_covariance_within_prompts():
    """Half the second moment of differences is the centred covariance, means of prompts out."""
    rng = np.random.default_rng(0)
    assert np.allclose(pair_covariance(_pairs(40_000, rng)), _SHAPE, atol=0.03)
    prompt = np.repeat(np.arange(5000), 4)
    phi = rng.normal(size=(5000, 3))[prompt] * 5
    phi = phi + rng.normal(size=phi.shape) @ _ROOT.T
    assert np.allclose(within_prompt_covariance(phi, prompt), _SHAPE, atol=0.03)


def test_prompts_with_one_row_do_not_count():
    """A prompt with a single response says nothing about spread within prompts."""
    phi, prompt = np.array([[0.0], [2.0], [9.0]]), np.array([1, 1, 2])
    assert within_prompt_covariance(phi, prompt) == pytest.approx(np.array([[2.0]]))
    with pytest.raises(AssumptionError, match="two or more responses"):
        within_prompt_covariance(phi, np.array([1, 2, 3]))


def test_declared_range_maps_to_the_unit_scale():
    """L on the unit scale is L in log-odds over the squared width of the declared range."""
    d = _pairs(500, np.random.default_rng(1))
    raw = reward_mse_from_preferences(d)
    unit = reward_mse_from_preferences(d, reward_range=(-5, 5))
    assert unit.estimate == pytest.approx(raw.estimate / 100)
    assert unit.upper == pytest.approx(raw.upper / 100)
    assert (raw.unit, unit.unit) == ("log-odds squared", "unit reward squared")


def test_result_is_never_more_than_estimated():
    """Whatever the sample size, the result says estimated and what it assumes."""
    found = reward_mse_from_preferences(_pairs(5000, np.random.default_rng(1)))
    assert found.status is Status.ESTIMATED
    assert any("linear in the features" in text for text in found.assumes)


def test_separated_pairs_are_refused_and_a_ridge_is_reported():
    """Pairs that one head orders perfectly have no finite optimum; with a ridge they have one."""
    d = np.abs(np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(AssumptionError, match="ridge"):
        fit_head(d)
    found = reward_mse_from_preferences(d, ridge=0.5)
    assert found.ridge == 0.5
    assert any("ridge" in text for text in found.assumes)


def test_pairs_separated_in_one_direction_only_are_refused():
    """A rare feature that always wins sends its own weight to infinity, whatever the others do."""
    rng = np.random.default_rng(4)
    d = np.c_[rng.normal(size=200), np.r_[np.ones(3), np.zeros(197)]]
    with pytest.raises(AssumptionError, match="no finite maximum"):
        fit_head(d)


def test_close_to_separated_is_still_fitted():
    """One pair against a strong head is enough for a finite optimum."""
    d = np.r_[np.ones((999, 1)), -np.ones((1, 1))]
    assert fit_head(d).weights[0] == pytest.approx(math.log(999), rel=1e-9)


def test_constant_feature_costs_nothing():
    """A feature that never differs within a prompt is not identified, and does not matter."""
    d = _pairs(800, np.random.default_rng(6))
    with_constant = np.c_[d, np.zeros(len(d))]
    found = reward_mse_from_preferences(with_constant)
    assert found.estimate == pytest.approx(reward_mse_from_preferences(d).estimate, rel=1e-9)


def test_unseen_direction_is_refused():
    """Reward data that vary where no pair differs cannot be given an L."""
    d = np.c_[_pairs(800, np.random.default_rng(6)), np.zeros(800)]
    phi = np.random.default_rng(7).normal(size=(100, 4))
    with pytest.raises(AssumptionError, match="directions"):
        reward_mse_from_preferences(d, features=phi, prompt=np.repeat(np.arange(50), 2))


def test_features_of_another_unit_leave_the_estimate_alone():
    """Any invertible linear map of the features gives the same L: it is in reward units."""
    d = _pairs(600, np.random.default_rng(8))
    mixed = d @ np.array([[2.0, 1.0, 0.0], [0.0, 100.0, 3.0], [0.5, 0.0, 0.01]])
    assert reward_mse_from_preferences(mixed).estimate == pytest.approx(
        reward_mse_from_preferences(d).estimate, rel=1e-6
    )


def test_what_it_cannot_see():
    """A target outside the features' span leaves an error that neither L nor its check sees.

    This is a limit, kept as a test so that no one claims otherwise: the true error is many times
    the estimate, and the sandwich ratio stays near 1.
    """
    rng = np.random.default_rng(9)

    def target(phi):
        return phi @ _HEAD + 0.3 * phi[..., 0] ** 2

    pairs = _pairs(5000, rng, target)
    found = reward_mse_from_preferences(pairs)
    phi = rng.normal(size=(5000, 1, 3)) + rng.normal(size=(5000, 2, 3)) @ _ROOT.T
    error = phi @ fit_head(pairs).weights - target(phi)
    truth = float(((error[:, 0] - error[:, 1]) ** 2).mean()) / 2
    assert truth > 50 * found.upper
    assert 0.8 < found.sandwich_ratio < 1.2


def test_sandwich_sees_labels_copied_from_one_another():
    """Four copies of each label claim a quarter of L; grouped, the ratio says four."""
    d = _pairs(1000, np.random.default_rng(10))
    once = reward_mse_from_preferences(d)
    copied = reward_mse_from_preferences(np.tile(d, (4, 1)), group=np.tile(np.arange(1000), 4))
    assert copied.estimate == pytest.approx(once.estimate / 4, rel=1e-6)
    assert copied.sandwich_ratio == pytest.approx(4 * once.sandwich_ratio, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: fit_head(np.zeros((4, 2))), AssumptionError),
        (lambda: fit_head(np.zeros(4)), AssumptionError),
        (lambda: fit_head(np.array([[1.0], [np.nan]])), AssumptionError),
        (lambda: fit_head(np.array([[1.0], [-1.0]]), ridge=-1), UsageError),
        (
            lambda: reward_mse_from_preferences(np.ones((2, 1)), features=np.ones((2, 1))),
            UsageError,
        ),
        (
            lambda: head_mse(fit_head(np.array([[1.0], [-1.0]])), np.eye(1), reward_range=(1, 1)),
            AssumptionError,
        ),
        (
            lambda: head_mse(fit_head(np.array([[1.0], [-1.0]])), np.eye(1), delta=1.0),
            AssumptionError,
        ),
    ],
)
def test_bad_input_is_refused(call, error):
    """Each misuse is one typed error."""
    with pytest.raises(error):
        call()

"""SGD's Gaussian: the equations it solves, simulations it must match, and its price in kl."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.special import ndtr

from check import assert_misses_at_most, misses_more_than
from taut.bounds.preferences import fit_head
from taut.errors import AssumptionError, UsageError
from taut.inequalities.pac_bayes import pac_bayes_ends, pac_bayes_interval
from taut.posterior.gaussian import GaussianPosterior, LowRank, kl_gaussian
from taut.posterior.gaussian_bound import choose_prior_width, gaussian_bound
from taut.posterior.sgd import head_posterior, ou_posterior, posterior_from_iterates
from taut.types import Status

mpmath.mp.dps = 40


def random_problem(seed, size, rank=None):
    """A Hessian with eigenvalues in [0.2, 3] and a gradient noise of the given rank."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = (axes * rng.uniform(0.2, 3.0, size)) @ axes.T
    root = rng.standard_normal((size, rank or size))
    return (hessian + hessian.T) / 2, root @ root.T


def residual(hessian, noise, covariance, rate, batch, discrete):
    """Relative size of A S + S A [- eta A S A] - (eta / batch) C."""
    left = hessian @ covariance + covariance @ hessian
    if discrete:
        left = left - rate * hessian @ covariance @ hessian
    return np.linalg.norm(left - rate / batch * noise) / np.linalg.norm(rate / batch * noise)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("size", [1, 4, 60])
def test_the_lyapunov_equation_is_solved(size, discrete):
    """The residual is below 1e-10 of the right-hand side, and the general solvers agree."""
    hessian, noise = random_problem(size, size)
    found = ou_posterior(hessian, noise, learning_rate=0.3, batch_size=16, discrete=discrete)
    covariance = found.covariance()
    assert residual(hessian, noise, covariance, 0.3, 16, discrete) <= 1e-10
    if discrete:
        step = np.eye(size) - 0.3 * hessian
        other = linalg.solve_discrete_lyapunov(step, 0.3**2 / 16 * noise)
    else:
        other = linalg.solve_continuous_lyapunov(hessian, 0.3 / 16 * noise)
    np.testing.assert_allclose(covariance, other, atol=1e-10 * np.abs(other).max(), rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(1e-4, 0.6), st.integers(1, 512))
def test_the_trace_identity(seed, size, rate, batch):
    """Tr Sigma = (eta / 2S) tr(A^-1 C) in continuous time; Sigma is at least that in SGD's own."""
    hessian, noise = random_problem(seed, size)
    rates = {"learning_rate": rate, "batch_size": batch}
    found = ou_posterior(hessian, noise, **rates)
    expected = rate / (2 * batch) * np.trace(np.linalg.solve(hessian, noise))
    assert found.trace == pytest.approx(expected, rel=1e-10)
    assert ou_posterior(hessian, noise, **rates, discrete=True).trace >= found.trace


@pytest.mark.parametrize("discrete", [False, True])
def test_a_diagonal_problem_is_the_dense_one(discrete):
    """Diagonal arrays give what the dense solver gives for their diagonal matrices."""
    curvature, noise = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, 3.0])
    rates = {"learning_rate": 0.4, "batch_size": 8, "discrete": discrete}
    diagonal = ou_posterior(curvature, noise, **rates)
    dense = ou_posterior(np.diag(curvature), np.diag(noise), **rates)
    np.testing.assert_allclose(diagonal.covariance(), dense.covariance(), atol=1e-16)
    assert diagonal.deficiency == dense.deficiency == 1


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 3), st.booleans(), st.floats(0.1, 2)
)
def test_low_rank_is_the_dense_solution(seed, first, second, discrete, bulk):
    """Bulk plus low-rank factors give the dense Sigma, its trace, log-determinant and KL."""
    rng, size = np.random.default_rng(seed), 7
    factors = [rng.standard_normal((size, r)) / 3 for r in (first, second)]
    forms = [LowRank(bulk=b, factor=f) for b, f in zip((bulk, 0.7), factors, strict=True)]
    dense = [m.bulk * np.eye(size) + m.factor @ m.factor.T for m in forms]
    rates = {"learning_rate": 0.2, "batch_size": 4, "discrete": discrete}
    centre = rng.standard_normal(size)
    low = ou_posterior(*forms, **rates, mean=centre)
    full = ou_posterior(*dense, **rates, mean=centre)
    np.testing.assert_allclose(low.covariance(), full.covariance(), atol=1e-13)
    assert low.trace == pytest.approx(full.trace, rel=1e-11)
    assert low.logdet == pytest.approx(full.logdet, rel=1e-10, abs=1e-10)
    assert kl_gaussian(low, 0.3, 0.5) == pytest.approx(kl_gaussian(full, 0.3, 0.5), rel=1e-10)


def test_factors_that_span_everything_need_no_bulk():
    """Without bulk, factors of full rank are the dense problem; nothing is left outside."""
    root = np.array([[1.0, 0.2], [0.0, 0.8]])
    rates = {"learning_rate": 0.2, "batch_size": 4}
    low = ou_posterior(LowRank(bulk=0.0, factor=root), LowRank(bulk=0.0, factor=root.T), **rates)
    full = ou_posterior(root @ root.T, root.T @ root, **rates)
    np.testing.assert_allclose(low.covariance(), full.covariance(), atol=1e-15)


def test_low_rank_handles_two_hundred_thousand_parameters():
    """Cost is linear in the number of parameters: nothing of size d by d is formed."""
    rng, size = np.random.default_rng(3), 200_000
    hessian = LowRank(bulk=0.01, factor=rng.standard_normal((size, 2)) / math.sqrt(size))
    noise = LowRank(bulk=0.1, factor=rng.standard_normal((size, 3)) / math.sqrt(size))
    found = ou_posterior(hessian, noise, learning_rate=0.1, batch_size=32)
    bulk = 0.1 / 32 * 0.1 / (2 * 0.01)
    assert found.rest == pytest.approx(bulk, rel=1e-12)
    assert found.parameters == size and len(found.variances) == 5
    assert math.isfinite(kl_gaussian(found, 0.0, 0.05))


def sgd_chain(rng, hessian, noise, rate, batch, chains, steps):
    """End points of independent SGD runs on a quadratic loss, shape (chains, parameters)."""
    root = np.linalg.cholesky(noise / batch)
    theta = np.zeros((chains, len(hessian)))
    for _ in range(steps):
        gradient = theta @ hessian + rng.standard_normal(theta.shape) @ root.T
        theta = theta - rate * gradient
    return theta


def test_simulated_sgd_scatters_as_the_discrete_law_says():
    """End points of 20,000 runs have the predicted covariance within Monte-Carlo error.

    The rate is large enough for the continuous-time law to be rejected by the same check.
    """
    hessian, noise = random_problem(8, 3)
    ends = sgd_chain(np.random.default_rng(9), hessian, noise, 0.5, 8, 20_000, 120)
    empirical = np.cov(ends.T)

    def worst(covariance):
        diagonal = np.diag(covariance)
        error = np.sqrt((covariance**2 + np.outer(diagonal, diagonal)) / len(ends))
        return np.max(np.abs(empirical - covariance) / error)

    rates = {"learning_rate": 0.5, "batch_size": 8}
    assert worst(ou_posterior(hessian, noise, **rates, discrete=True).covariance()) < 5
    assert worst(ou_posterior(hessian, noise, **rates).covariance()) > 5


def test_draws_have_the_mean_and_covariance_they_claim():
    """Samples of every form match their own mean and covariance within Monte-Carlo error."""
    rng, size, draws = np.random.default_rng(10), 5, 40_000
    factor = rng.standard_normal((size, 2))
    centre = np.arange(size) / 3.0
    rates = {"learning_rate": 0.3, "batch_size": 2, "mean": centre}
    hessian, noise = random_problem(11, size)
    for found in (
        ou_posterior(hessian, noise, **rates),
        ou_posterior(np.full(size, 0.5), np.arange(size) + 0.5, **rates),
        ou_posterior(LowRank(bulk=1.0, factor=factor), LowRank(bulk=2.0, factor=factor), **rates),
    ):
        sample, covariance = found.sample(rng, draws), found.covariance()
        diagonal = np.diag(covariance)
        assert np.all(np.abs(sample.mean(axis=0) - centre) <= 5 * np.sqrt(diagonal / draws))
        error = np.sqrt((covariance**2 + np.outer(diagonal, diagonal)) / draws)
        assert np.all(np.abs(np.cov(sample.T) - covariance) <= 5 * error)


# --- KL ---


def test_kl_has_twelve_digits():
    """KL to a Gaussian prior agrees with 40-digit arithmetic on a dense covariance."""
    found = ou_posterior(*random_problem(12, 4), learning_rate=0.1, batch_size=4)
    shift = np.array([0.3, -1.0, 0.0, 2.0])
    found = GaussianPosterior(mean=shift, variances=found.variances, basis=found.basis)
    variances = [mpmath.mpf(float(v)) for v in found.variances]
    s2 = mpmath.mpf(0.7)
    exact = (
        sum(variances) / s2
        + sum(mpmath.mpf(float(x)) ** 2 for x in shift) / s2
        - 4
        - sum(mpmath.log(v / s2) for v in variances)
    ) / 2
    assert abs(kl_gaussian(found, 0.0, 0.7) - exact) <= 1e-12 * exact


def test_kl_is_the_mean_log_density_ratio():
    """KL matches the average of ln q - ln p over draws, within Monte-Carlo error."""
    rng, size = np.random.default_rng(13), 4
    found = ou_posterior(
        *random_problem(14, size), learning_rate=0.5, batch_size=2, mean=rng.standard_normal(size)
    )
    draws = found.sample(rng, 100_000)
    covariance = found.covariance()
    away = draws - found.mean
    inner = np.einsum("ij,ij->i", away, np.linalg.solve(covariance, away.T).T)
    log_q = -0.5 * (inner + np.linalg.slogdet(covariance)[1])
    log_p = -0.5 * (np.sum(draws**2, axis=1) / 0.8 + size * math.log(0.8))
    ratio = log_q - log_p
    error = ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - kl_gaussian(found, 0.0, 0.8)) <= 4 * error


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_kl_is_the_closed_form(seed, size, variance):
    """KL = [tr/s2 + |shift|^2/s2 - d - ln det(Sigma/s2)] / 2 and never below 0."""
    rng = np.random.default_rng(seed)
    found = GaussianPosterior(mean=rng.standard_normal(size), variances=rng.uniform(0.1, 9, size))
    quadratic = (found.trace + found.mean @ found.mean) / variance
    closed = 0.5 * (quadratic - size - found.logdet + size * math.log(variance))
    assert kl_gaussian(found, 0.0, variance) == pytest.approx(closed, rel=1e-9, abs=1e-9)
    assert kl_gaussian(found, 0.0, variance) >= 0


def test_the_prior_itself_is_free():
    """Q = P has KL exactly 0."""
    same = GaussianPosterior(mean=np.ones(9), variances=np.full(9, 0.25))
    assert kl_gaussian(same, 1.0, 0.25) == 0.0


def test_rank_deficient_noise_costs_everything():
    """Noise of rank 2 in 5 dimensions under a round Hessian leaves 3 axes flat: KL is infinite."""
    _, noise = random_problem(15, 5, rank=2)
    found = ou_posterior(np.eye(5), noise, learning_rate=0.1, batch_size=1)
    assert found.deficiency == 3 and found.logdet == -math.inf
    assert kl_gaussian(found, 0.0, 1.0) == math.inf


# --- The grid of prior widths ---


def brute_force(posterior, largest, steps):
    return min(
        kl_gaussian(posterior, 0.0, largest * math.exp(-j / steps))
        + math.log(math.pi**2 * j**2 / 6)
        for j in range(1, 400)
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(-6, 3), st.sampled_from([1, 3, 10]))
def test_the_best_width_of_the_grid_is_chosen(seed, scale, steps):
    """No grid point has a lower KL plus price, and both are what is recorded."""
    rng = np.random.default_rng(seed)
    found = GaussianPosterior(
        mean=rng.standard_normal(5) * math.exp(scale / 2), variances=np.exp(scale + rng.random(5))
    )
    chosen = choose_prior_width(found, 0.0, largest=4.0, steps_per_fold=steps)
    assert chosen.kl + chosen.log_price == pytest.approx(brute_force(found, 4.0, steps), rel=1e-10)
    assert chosen.variance == pytest.approx(4.0 * math.exp(-chosen.index / steps), rel=1e-12)
    assert chosen.kl == kl_gaussian(found, 0.0, chosen.variance)
    assert chosen.log_price == pytest.approx(math.log(math.pi**2 * chosen.index**2 / 6))


def test_the_grid_spends_no_more_than_delta():
    """The shares e^-log_price of delta sum to one."""
    index = np.arange(1, 10**6)
    assert 1 - 1e-5 <= np.sum(6 / (np.pi**2 * index.astype(float) ** 2)) <= 1


SHELLS, SIZE, FLIPS = 20, 2000, 10


def test_the_check_rejects_a_width_that_is_not_paid_for():
    """Q takes whichever prior width holds the luckiest policies: unpaid, that misses too often.

    In 2000 dimensions N(0, s_j^2 I) is a thin shell, and each shell is its own policy with its own
    ten fair coins. Q = P_j has KL = 0 for every j, so only the price of the grid stands for choice.
    """
    rng, delta, trials = np.random.default_rng(16), 0.12, 2000
    shells = [
        GaussianPosterior(mean=np.zeros(SIZE), variances=np.full(SIZE, math.exp(-j)))
        for j in range(1, SHELLS + 1)
    ]
    chosen = [choose_prior_width(q, 0.0, largest=1.0, steps_per_fold=1) for q in shells]
    assert [c.index for c in chosen] == list(range(1, SHELLS + 1))
    radii = np.linalg.norm(shells[4].sample(rng, 500), axis=1) ** 2 / SIZE
    assert np.all(np.rint(-np.log(radii)) == 5)  # draws know their shell
    averages = rng.binomial(FLIPS, 0.5, size=(trials, SHELLS)) / FLIPS

    def misses(price):
        lower, upper = pac_bayes_ends(averages, kl=price, blocks=FLIPS, delta=delta)
        return int(np.any((lower > 0.5) | (upper < 0.5), axis=1).sum())

    kl = np.array([c.kl for c in chosen])
    assert_misses_at_most(misses(kl + [c.log_price for c in chosen]), trials, delta, "paid width")
    assert misses_more_than(misses(kl), trials, delta)


# --- The bound ---


def bound(size, blocks=2000, mean=0.1, **change):
    found = GaussianPosterior(mean=np.full(size, mean), variances=np.full(size, 1e-3))
    prior = choose_prior_width(found, 0.0, largest=1.0)
    spent = {"draws": 500, "delta": 0.04, "draws_delta": 0.01} | change
    return found, prior, gaussian_bound(found, prior, 0.7, blocks=blocks, **spent)


def test_the_bound_is_pac_bayes_with_all_prices():
    """Few parameters: conditional, and equal to PAC-Bayes-kl at KL + grid price with draws paid."""
    _, prior, found = bound(10)
    same = pac_bayes_interval(
        0.7, kl=prior.kl + prior.log_price, blocks=2000, delta=0.04, draws=500, draws_delta=0.01
    )
    assert (found.lower, found.upper) == (same.lower, same.upper)
    assert (found.status, found.vacuous_at) == (Status.CONDITIONAL, None)
    assert found.delta == pytest.approx(0.05)


def test_vacuous_is_said_with_the_number_of_parameters():
    """Many parameters: vacuous, and one direction fewer than `vacuous_at` would not be."""
    posterior, prior, found = bound(20_000)
    assert found.status is Status.VACUOUS and found.parameters == 20_000
    each = kl_gaussian(posterior, 0.0, prior.variance) / 20_000

    def width(free):
        kl = free * each + prior.log_price
        spent = {"delta": 0.04, "draws": 500, "draws_delta": 0.01}
        return pac_bayes_interval(0.7, kl=kl, blocks=2000, **spent).width

    assert width(found.vacuous_at) >= 0.99 > width(found.vacuous_at - 1)
    assert 0 < found.vacuous_at < 20_000


def test_too_few_draws_are_vacuous_at_no_parameter():
    """With one draw and two blocks not even zero free directions say anything."""
    assert bound(3, blocks=2, draws=1)[2].vacuous_at == 0


def test_a_singular_posterior_is_vacuous_at_one_direction():
    """A direction without variance makes KL infinite: a single one suffices."""
    found = GaussianPosterior(mean=np.zeros(4), variances=np.array([1.0, 1.0, 1.0, 0.0]))
    prior = choose_prior_width(found, 0.0, largest=4.0)
    result = gaussian_bound(
        found, prior, 0.5, blocks=10**6, draws=10**5, delta=0.04, draws_delta=0.01
    )
    assert (result.lower, result.upper, result.vacuous_at) == (0.0, 1.0, 1)


def test_a_mean_outside_the_low_rank_span_is_counted_once():
    """KL by direction sums to the dense KL when the mean leaves the basis."""
    basis = np.eye(6)[:, :2]
    found = GaussianPosterior(
        mean=np.arange(6.0), variances=np.array([0.5, 2.0]), basis=basis, rest=0.1
    )
    dense = GaussianPosterior(mean=np.arange(6.0), variances=np.array([0.5, 2, 0.1, 0.1, 0.1, 0.1]))
    assert kl_gaussian(found, 0.0, 0.7) == pytest.approx(kl_gaussian(dense, 0.0, 0.7), rel=1e-13)


def threshold_world(rng, blocks):
    """Policies theta on the line, Z_i(theta) = 1{g_i <= theta}: the mean is Phi(theta).

    The adversary knows the truth and centres Q where the blocks stray furthest from it.
    """
    g = np.sort(rng.standard_normal(blocks))
    stray = np.maximum(
        np.arange(1, blocks + 1) / blocks - ndtr(g), ndtr(g) - np.arange(blocks) / blocks
    )
    return g, float(g[np.argmax(stray)])


@pytest.mark.parametrize("variance", [0.01, 0.3])
def test_a_gaussian_placed_where_the_data_mislead_rarely_misses(variance):
    """End to end, prior width chosen and draws paid for: at most delta of unfair Qs miss."""
    rng, blocks, draws, trials, missed = np.random.default_rng(17), 25, 400, 60, 0
    for _ in range(trials):
        g, centre = threshold_world(rng, blocks)
        q = GaussianPosterior(mean=np.array([centre]), variances=np.array([variance]))
        theta = q.sample(rng, draws)[:, 0]
        empirical = float(np.mean(np.searchsorted(g, theta, side="right") / blocks))
        found = gaussian_bound(
            q,
            choose_prior_width(q, 0.0, largest=4.0, steps_per_fold=2),
            empirical,
            draws=draws,
            blocks=blocks,
            delta=0.15,
            draws_delta=0.05,
        )
        truth = float(ndtr(centre / math.sqrt(1.0 + variance)))
        missed += not found.lower <= truth <= found.upper
    assert_misses_at_most(missed, trials, 0.2, "gaussian bound")


# --- From a run, and from a reward head ---


def autoregressive(rng, covariance, decay, length):
    """A stationary AR(1) series with this covariance; its autocorrelation time is known."""
    root = np.linalg.cholesky(covariance)
    state = root @ rng.standard_normal(len(covariance))
    rows = np.empty((length, len(covariance)))
    for t in range(length):
        innovation = root @ rng.standard_normal(len(covariance))
        state = decay * state + math.sqrt(1 - decay**2) * innovation
        rows[t] = state
    return rows


def test_iterates_of_a_long_run_give_its_covariance():
    """20,000 iterates recover Sigma within 10% and the autocorrelation time (1+r)/(1-r)."""
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    rows = autoregressive(np.random.default_rng(20), covariance, 0.8, 20_000)
    found = posterior_from_iterates(rows + 3.0)
    assert found.status is Status.ESTIMATED and any("stationary" in a for a in found.assumes)
    assert found.autocorrelation_time == pytest.approx(9.0, rel=0.2)
    np.testing.assert_allclose(found.posterior.covariance(), covariance, atol=0.2)
    np.testing.assert_allclose(found.posterior.mean, 3.0, atol=0.2)


def test_few_iterates_are_shrunk_to_full_rank():
    """15 independent iterates in 40 dimensions: finite KL, and nearer the truth than unshrunk."""
    rng, size = np.random.default_rng(21), 40
    rows = rng.standard_normal((15, size)) * np.sqrt(np.linspace(0.5, 1.5, size))
    found = posterior_from_iterates(rows)
    truth = np.diag(np.linspace(0.5, 1.5, size))
    assert found.posterior.deficiency == 0 and 0 < found.shrinkage <= 1
    assert math.isfinite(kl_gaussian(found.posterior, 0.0, 1.0))
    shrunk = np.linalg.norm(found.posterior.covariance() - truth)
    assert shrunk < 0.5 * np.linalg.norm(np.cov(rows.T) - truth)


def test_correlated_iterates_count_for_less():
    """The same number of iterates is shrunk more where they repeat one another."""
    rng, covariance = np.random.default_rng(22), np.diag([1.0, 2.0, 4.0])
    fresh = posterior_from_iterates(autoregressive(rng, covariance, 0.0, 400))
    stale = posterior_from_iterates(autoregressive(rng, covariance, 0.9, 400))
    assert stale.effective_iterates < 0.3 * fresh.effective_iterates
    assert stale.shrinkage > fresh.shrinkage


def preference_pairs(rng, pairs, weights):
    differences = rng.standard_normal((pairs, len(weights)))
    chance = 1 / (1 + np.exp(-differences @ weights))
    return differences * np.where(rng.random(pairs) < chance, 1.0, -1.0)[:, None]


def test_minibatch_sgd_on_a_reward_head_scatters_as_predicted():
    """2,000 runs of minibatch SGD on the Bradley-Terry loss end with the predicted covariance."""
    rng, rate, batch, runs = np.random.default_rng(23), 0.1, 8, 2000
    pairs = preference_pairs(rng, 400, np.array([1.0, -0.5]))
    fit = fit_head(pairs)
    found = head_posterior(fit, pairs, learning_rate=rate, batch_size=batch, discrete=True)
    theta = np.tile(fit.basis.T @ fit.weights, (runs, 1))
    reduced = pairs @ fit.basis
    for _ in range(400):
        picked = reduced[rng.integers(0, len(pairs), size=(runs, batch))]
        margin = np.einsum("rbf,rf->rb", picked, theta)
        theta = theta + rate * np.mean(picked / (1 + np.exp(margin))[..., None], axis=1)
    predicted = found.covariance()
    assert np.linalg.norm(np.cov(theta.T) - predicted) <= 0.1 * np.linalg.norm(predicted)


def test_the_head_uses_the_exact_hessian_and_noise():
    """Hessian and gradient covariance agree with finite differences of the loss itself."""
    rng = np.random.default_rng(24)
    pairs = preference_pairs(rng, 60, np.array([0.7, 0.2, -0.4]))
    fit = fit_head(pairs, ridge=2.0)

    def gradients(w):
        return -pairs / (1 + np.exp(pairs @ w))[:, None] + 2.0 / 60 * w

    steps = 1e-5 * np.eye(3)
    columns = [
        (gradients(fit.weights + e) - gradients(fit.weights - e)).mean(axis=0) / 2e-5 for e in steps
    ]
    hessian, noise = np.array(columns), np.cov(gradients(fit.weights).T, bias=True)
    found = head_posterior(fit, pairs, learning_rate=0.2, batch_size=5)
    expected = ou_posterior((hessian + hessian.T) / 2, noise, learning_rate=0.2, batch_size=5)
    np.testing.assert_allclose(found.covariance(), expected.covariance(), rtol=1e-6, atol=1e-9)


def test_directions_that_no_pair_identifies_are_left_out():
    """A feature that never differs is no parameter: the law lives in the identified coordinates."""
    rng = np.random.default_rng(25)
    pairs = np.column_stack([preference_pairs(rng, 80, np.array([0.5, 0.5])), np.zeros(80)])
    fit = fit_head(pairs)
    found = head_posterior(fit, pairs, learning_rate=0.1, batch_size=4)
    assert found.parameters == 2 and found.deficiency == 0
    with pytest.raises(AssumptionError, match="80 pairs"):
        head_posterior(fit, pairs[:50], learning_rate=0.1, batch_size=4)


# --- Refusals ---


@pytest.mark.parametrize(
    ("hessian", "noise", "message"),
    [
        ([[1.0, 0.5], [0.0, 1.0]], np.eye(2), "symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], np.eye(2), "not positive"),
        ([[1.0, 1.0], [1.0, 1.0]], np.eye(2), "not positive"),
        ([0.0, 1.0], [1.0, 1.0], "not positive"),
        (np.eye(2), [[1.0, 2.0], [2.0, 1.0]], "below 0"),
        ([1.0, 1.0], [1.0, -1.0], "below 0"),
        (np.eye(2), np.eye(3), "same parameters"),
        (np.ones((2, 3)), np.eye(2), "square"),
        ([1.0, np.nan], [1.0, 1.0], "finite"),
        ([3.0, 25.0], [1.0, 1.0], "stable"),
        (np.zeros((0, 0)), np.zeros((0, 0)), "shape"),
        (LowRank(bulk=-1.0, factor=np.ones((2, 1))), np.eye(2), "bulk"),
        (
            LowRank(bulk=0.0, factor=np.ones((2, 1))),
            LowRank(bulk=1.0, factor=np.ones((2, 1))),
            "no",
        ),
    ],
)
def test_problems_without_a_stationary_law_are_refused(hessian, noise, message):
    """What has no stationary Gaussian raises AssumptionError and says why."""
    if not isinstance(hessian, LowRank):
        hessian = np.asarray(hessian, dtype=float)
    noise = noise if isinstance(noise, LowRank) else np.asarray(noise, dtype=float)
    with pytest.raises(AssumptionError, match=message):
        ou_posterior(hessian, noise, learning_rate=0.1, batch_size=1)


def test_requests_that_make_no_sense_are_refused():
    """Mixed forms and settings out of range raise UsageError or AssumptionError."""
    with pytest.raises(UsageError, match="same form"):
        ou_posterior(np.eye(2), np.ones(2), learning_rate=0.1, batch_size=1)
    for change in ({"learning_rate": 0.0}, {"batch_size": 0}, {"learning_rate": math.nan}):
        with pytest.raises(UsageError, match="learning_rate"):
            ou_posterior(np.eye(2), np.eye(2), **{"learning_rate": 0.1, "batch_size": 1} | change)
    found = GaussianPosterior(mean=np.zeros(2), variances=np.ones(2))
    with pytest.raises(UsageError, match="largest"):
        choose_prior_width(found, 0.0, largest=0.0)
    with pytest.raises(AssumptionError, match="prior_variance"):
        kl_gaussian(found, 0.0, 0.0)
    with pytest.raises(AssumptionError, match="prior_mean"):
        kl_gaussian(found, np.zeros(3), 1.0)


@pytest.mark.parametrize(
    ("iterates", "message"),
    [
        (np.zeros(5), "shape"),
        (np.zeros((3, 2)), "shape"),
        (np.ones((30, 2)), "do not move"),
        (np.full((9, 2), np.nan), "finite"),
        (np.linspace(0, 1, 3000)[:, None] * np.ones(3), "still moving"),
        (np.random.default_rng(26).standard_normal((500, 20)).cumsum(axis=0), "still moving"),
    ],
)
def test_iterates_that_show_no_law_are_refused(iterates, message):
    """Too few, frozen or drifting iterates raise AssumptionError."""
    with pytest.raises(AssumptionError, match=message):
        posterior_from_iterates(iterates)

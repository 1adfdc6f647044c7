"""The Gaussian that SGD leaves behind near an optimum, and what it costs in kl (theory §6.4).

Two claims are kept apart. That SGD's iterates follow this Gaussian is an approximation, never
certified. That PAC-Bayes holds for this Gaussian as a declared Q, whose draws are the policies that
were run, needs no such thing: it is a theorem, whatever the run did.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.bounds.preferences import HeadFit, head_information
from taut.errors import AssumptionError, UsageError
from taut.posterior.gaussian import (
    EPS,
    GaussianPosterior,
    LowRank,
    form_of,
    require_semidefinite,
    symmetric,
    vector,
    without_rounding,
)
from taut.types import Status

# A drifting straight line counts as 3 iterates and a random walk as about 5, however long.
_FEWEST_EFFECTIVE = 10.0
_WINDOW = 5.0  # autocorrelations are summed over this many autocorrelation times (Sokal 1997)


def ou_posterior(
    hessian: np.ndarray | LowRank,
    gradient_noise: np.ndarray | LowRank,
    *,
    learning_rate: float,
    batch_size: int,
    discrete: bool = False,
    mean: np.ndarray | None = None,
) -> GaussianPosterior:
    """Return SGD's stationary law near an optimum: A S + S A [- eta A S A] = (eta / batch) C.

    In the eigenbasis of A the equation is one division per entry, by l_i + l_j - eta l_i l_j (the
    last term for `discrete`). Low-rank forms are exact too: outside the joint span of both factors
    A and C are multiples of the identity.

    Args:
        hessian: A, symmetric and positive definite: dense (d, d), diagonal (d,), or LowRank.
        gradient_noise: C, covariance of one example's gradient at the optimum, same form; C >= 0.
        learning_rate: eta, above 0; eta times the largest eigenvalue of A below 2.
        batch_size: Examples per step, drawn independently.
        discrete: Solve for SGD's own steps rather than their continuous-time limit.
        mean: The optimum, shape (d,); default the origin.

    Raises:
        AssumptionError: Shapes, symmetry, definiteness or stability do not hold.
        UsageError: Two forms that differ, or a rate or batch size out of range.

    Source: theory §6.4; Mandt, Hoffman & Blei (2017); He, Liu & Tao (2019).
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0 and batch_size >= 1):
        raise UsageError(
            f"expected learning_rate > 0 and batch_size >= 1, found {learning_rate}, {batch_size}."
        )
    form, other = form_of("hessian", hessian), form_of("gradient_noise", gradient_noise)
    if form != other:
        raise UsageError(
            f"hessian is {form}, gradient_noise is {other}; give both in the same form "
            "(dense, diagonal or LowRank)."
        )
    rate = _Rate(step=learning_rate, scale=learning_rate / batch_size, discrete=discrete)
    solve = {"dense": _solve_dense, "diagonal": _solve_diagonal, "low-rank": _solve_low_rank}[form]
    variances, basis, rest, size = solve(hessian, gradient_noise, rate)
    centre = np.zeros(size) if mean is None else vector("mean", mean, size)
    return GaussianPosterior(mean=centre, variances=variances, basis=basis, rest=rest)


def head_posterior(
    fit: HeadFit,
    differences: np.ndarray,
    *,
    learning_rate: float,
    batch_size: int,
    discrete: bool = False,
) -> GaussianPosterior:
    """Return the law that SGD on a fitted Bradley-Terry head would leave, exact A and C at the fit.

    The loss is the mean over pairs of -ln sigmoid(w . d), plus ridge / (2 pairs) |w|^2. Parameters
    are the coordinates in `fit.basis`: weights = basis @ draw.

    Args:
        fit: The head, from `fit_head`.
        differences: The pairs it was fitted to, shape (pairs, features).
        learning_rate, batch_size, discrete: As in `ou_posterior`; the rate is for the mean loss.

    Raises:
        AssumptionError: Other pairs than the fit's, or as in `ou_posterior`.

    Source: theory §6.4, §3.8.
    """
    from scipy.special import expit

    pairs = np.asarray(differences, dtype=np.float64)
    if pairs.shape != (fit.pairs, len(fit.weights)):
        raise AssumptionError(
            f"expected the {fit.pairs} pairs with {len(fit.weights)} features that the head was "
            f"fitted to, found shape {pairs.shape}."
        )
    x, weights = pairs @ fit.basis, fit.basis.T @ fit.weights
    decay = fit.ridge / fit.pairs
    hessian = head_information(x, weights) / fit.pairs + decay * np.eye(len(weights))
    gradients = decay * weights - x * expit(-(x @ weights))[:, None]
    centred = gradients - gradients.mean(axis=0)
    noise = centred.T @ centred / fit.pairs
    return ou_posterior(
        hessian,
        noise,
        learning_rate=learning_rate,
        batch_size=batch_size,
        discrete=discrete,
        mean=weights,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IterateFit:
    """A Gaussian fitted to the late iterates of a run, and how much it leans on them.

    Attributes:
        posterior: Mean and shrunk covariance.
        autocorrelation_time: Steps per independent iterate, averaged over directions by variance.
        effective_iterates: Iterates / autocorrelation_time.
        shrinkage: Weight of the spherical target, in [0, 1] (Ledoit & Wolf 2004).
        status: Always estimated, as a description of the run.
        assumes: What must hold for it to describe the run.
    """

    posterior: GaussianPosterior
    autocorrelation_time: float
    effective_iterates: float
    shrinkage: float
    status: Status = Status.ESTIMATED
    assumes: tuple[str, ...] = (
        "the run is stationary over these iterates",
        "the run lasted many autocorrelation times (50 or more), slow directions included",
        "the iterates scatter like a Gaussian around one optimum",
    )


def posterior_from_iterates(iterates: np.ndarray) -> IterateFit:
    """Fit a Gaussian to late iterates of a run: their mean, and their covariance, shrunk.

    Iterates of one run repeat one another: their number is divided by the autocorrelation time, in
    the correction of the covariance and in the amount of shrinkage. Shrinking towards a sphere
    keeps the covariance of full rank where iterates are fewer than parameters.

    Args:
        iterates: Consecutive or evenly thinned, shape (iterates, parameters), ten or more.

    Raises:
        AssumptionError: Shape, values, iterates that do not move, or that count as
            fewer than ten independent ones: a run that still drifts always does.

    Source: theory §6.4; Ledoit & Wolf (2004); Sokal (1997) for the window.
    """
    x = np.asarray(iterates, dtype=np.float64)
    if x.ndim != 2 or len(x) < _FEWEST_EFFECTIVE or x.shape[1] == 0 or not np.isfinite(x).all():
        raise AssumptionError(
            f"iterates: expected finite values of shape (iterates >= 10, parameters), found "
            f"{x.shape}."
        )
    centre = x.mean(axis=0)
    centred = x - centre
    if not np.any(np.abs(centred) > 1e-14 * (1.0 + np.abs(centre))):
        raise AssumptionError("the iterates do not move; take them from a run still under noise.")
    time = _autocorrelation_time(centred)
    effective = len(x) / time
    if effective < _FEWEST_EFFECTIVE:
        raise AssumptionError(
            f"{len(x)} iterates with an autocorrelation time of {time:.0f} steps count as "
            f"{effective:.1f}; expected {_FEWEST_EFFECTIVE:.0f} or more. The run is still moving: "
            "take iterates from later on and over a longer stretch."
        )
    posterior, shrinkage = _shrunk(centre, centred, effective)
    return IterateFit(
        posterior=posterior,
        autocorrelation_time=time,
        effective_iterates=effective,
        shrinkage=shrinkage,
    )


@dataclass(frozen=True, slots=True)
class _Rate:
    step: float  # eta
    scale: float  # eta / batch size
    discrete: bool

    def denominator(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return what the noise is divided by; positive for eta * eigenvalue < 2."""
        return a + b - self.step * a * b if self.discrete else a + b


def _solve_dense(hessian, noise, rate: _Rate):
    a, c = symmetric("hessian", hessian), symmetric("gradient_noise", noise)
    if a.shape != c.shape:
        raise AssumptionError(f"hessian is {a.shape}, gradient_noise {c.shape}; same parameters?")
    curvature, axes = np.linalg.eigh(a)
    _require_stable(curvature, rate)
    require_semidefinite(np.linalg.eigvalsh(c))
    rotated = axes.T @ c @ axes
    solved = rate.scale * rotated / rate.denominator(curvature[:, None], curvature[None, :])
    variances, turn = np.linalg.eigh((solved + solved.T) / 2.0)
    return without_rounding(variances), axes @ turn, 0.0, len(a)


def _solve_diagonal(hessian, noise, rate: _Rate):
    a = vector("hessian", hessian, len(hessian))
    c = vector("gradient_noise", noise, len(a))
    _require_stable(a, rate)
    require_semidefinite(c)
    return rate.scale * np.maximum(c, 0.0) / rate.denominator(a, a), None, 0.0, len(a)


def _solve_low_rank(hessian: LowRank, noise: LowRank, rate: _Rate):
    factors = [np.asarray(m.factor, dtype=np.float64) for m in (hessian, noise)]
    if len(factors[0]) != len(factors[1]):
        raise AssumptionError(
            f"factors have {len(factors[0])} and {len(factors[1])} rows; same parameters?"
        )
    basis = _joint_span(factors)
    a, c = (
        m.bulk * np.eye(basis.shape[1]) + (basis.T @ f) @ (basis.T @ f).T
        for m, f in zip((hessian, noise), factors, strict=True)
    )
    bulk = np.array([hessian.bulk])
    outside, rest = basis.shape[0] - basis.shape[1], 0.0
    if outside:
        _require_stable(bulk, rate)
        rest = float(rate.scale * noise.bulk / rate.denominator(bulk, bulk)[0])
    if basis.shape[1] == 0:
        return np.zeros(0), basis, rest, len(basis)
    variances, turn, _, _ = _solve_dense(a, c, rate)
    return variances, basis @ turn, rest, len(basis)


def _joint_span(factors: list[np.ndarray]) -> np.ndarray:
    """Orthonormal basis of the columns of both factors, shape (parameters, rank)."""
    # Columns of unit length: a direction of tiny curvature is as real as one of large curvature.
    columns = np.concatenate(factors, axis=1)
    lengths = np.linalg.norm(columns, axis=0)
    left, sizes, _ = np.linalg.svd(columns[:, lengths > 0] / lengths[lengths > 0], False)
    return left[:, sizes > 1e-12 * sizes.max(initial=0.0)]


def _shrunk(centre, centred: np.ndarray, effective: float) -> tuple[GaussianPosterior, float]:
    """Ledoit & Wolf's covariance towards a sphere, with the effective number of iterates."""
    count, size = centred.shape
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    sample = singular**2 / count
    sphere = sample.sum() / size
    distance = float(np.sum(sample**2)) - size * sphere**2
    fourth = float(np.mean(np.sum(centred**2, axis=1) ** 2))
    noise = max(0.0, fourth - float(np.sum(sample**2))) / effective
    shrinkage = min(1.0, noise / distance) if distance > 0 else 1.0
    correction = 1.0 / (1.0 - 1.0 / effective)  # the mean was fitted to the same iterates
    posterior = GaussianPosterior(
        mean=centre,
        variances=correction * ((1.0 - shrinkage) * sample + shrinkage * sphere),
        basis=rows.T,
        rest=correction * shrinkage * sphere if count < size else 0.0,
    )
    return posterior, shrinkage


def _autocorrelation_time(centred: np.ndarray) -> float:
    """Return 1 + 2 sum of autocorrelations, cut at five times itself; at least 1."""
    power = float(np.einsum("ij,ij->", centred, centred))
    time = 1.0
    for lag in range(1, len(centred) // 2):
        time += 2.0 * float(np.einsum("ij,ij->", centred[:-lag], centred[lag:])) / power
        if lag >= _WINDOW * time:
            break
    return max(1.0, time)


def _require_stable(curvature: np.ndarray, rate: _Rate) -> None:
    least, largest = float(curvature.min()), float(curvature.max())
    if least <= len(curvature) * EPS * largest:
        flat = int(np.count_nonzero(curvature <= len(curvature) * EPS * largest))
        raise AssumptionError(
            f"hessian: smallest eigenvalue {least:.3g}, {flat} of {len(curvature)} not positive; "
            "SGD does not settle there. Leave those directions out, or add weight decay to the "
            "loss and to the Hessian."
        )
    if rate.step * largest >= 2.0:
        raise AssumptionError(
            f"learning_rate {rate.step} times the largest curvature {largest:.3g} is "
            f"{rate.step * largest:.3g}; expected below 2, where SGD is stable. Lower the rate."
        )

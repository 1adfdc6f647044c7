"""Gaussian posteriors: dense, diagonal or low-rank covariances, and their KL (theory §6)."""

import math
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError

EPS = float(np.finfo(np.float64).eps)
_SYMMETRY = 1e-10  # largest asymmetry, relative to the largest entry, that counts as rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LowRank:
    """The matrix bulk * I + factor factor', shape (parameters, parameters), never formed.

    Attributes:
        bulk: At least 0, in the unit of the matrix.
        factor: Shape (parameters, rank).
    """

    bulk: float
    factor: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianPosterior:
    """N(mean, Sigma) with Sigma by its eigenvectors: dense, diagonal or low-rank plus bulk.

    Attributes:
        mean: Shape (parameters,).
        variances: Variance along each basis direction, shape (rank,), squared parameter units.
        basis: Orthonormal columns, shape (parameters, rank); None for the coordinate axes.
        rest: Variance in every direction orthogonal to the basis.
    """

    mean: np.ndarray
    variances: np.ndarray
    basis: np.ndarray | None = None
    rest: float = 0.0

    @property
    def parameters(self) -> int:
        """Number of parameters d."""
        return len(self.mean)

    @property
    def trace(self) -> float:
        """tr Sigma, squared parameter units."""
        return math.fsum(self.variances) + self._outside * self.rest

    @property
    def logdet(self) -> float:
        """Log-determinant of Sigma; minus infinity where some direction has no variance."""
        if self.deficiency:
            return -math.inf
        outside = self._outside * math.log(self.rest) if self._outside else 0.0
        return math.fsum(np.log(self.variances)) + outside

    @property
    def deficiency(self) -> int:
        """Number of directions without any variance: above 0, every KL is infinite."""
        outside = self._outside if self.rest == 0.0 else 0
        return int(np.count_nonzero(self.variances == 0.0)) + outside

    def covariance(self) -> np.ndarray:
        """Return Sigma, shape (parameters, parameters); only for few parameters."""
        if self.basis is None:
            return np.diag(self.variances)
        extra = (self.basis * (self.variances - self.rest)) @ self.basis.T
        return self.rest * np.eye(self.parameters) + extra

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return independent draws, shape (size, parameters)."""
        normal = rng.standard_normal((size, self.parameters))
        if self.basis is None:
            return self.mean + normal * np.sqrt(self.variances)
        # One normal vector serves both parts: its projections on orthogonal spaces are independent.
        along = normal @ self.basis
        scaled = along * (np.sqrt(self.variances) - math.sqrt(self.rest))
        return self.mean + math.sqrt(self.rest) * normal + scaled @ self.basis.T

    @property
    def _outside(self) -> int:
        return self.parameters - len(self.variances)


def kl_gaussian(
    posterior: GaussianPosterior, prior_mean: np.ndarray | float, prior_variance: float
) -> float:
    """Return KL(Q || N(prior_mean, prior_variance I)), nats.

    Args:
        posterior: Q.
        prior_mean: Shape (parameters,), or one number for all.
        prior_variance: s^2, squared parameter units, above 0.

    Returns:
        Infinity where Q has no variance in some direction (a gradient noise that is rank
        deficient leaves Q singular, and no Gaussian prior covers it).

    Raises:
        AssumptionError: A variance that is not above 0, or a mean of another shape.

    Source: theory §6.4. Summed over directions, each part non-negative.
    """
    return math.fsum(costs(posterior, prior_mean, prior_variance))


def costs(
    posterior: GaussianPosterior, prior_mean: np.ndarray | float, variance: float
) -> np.ndarray:
    """Return KL per orthogonal direction, nats, shape (parameters,), each at least 0."""
    if not (math.isfinite(variance) and variance > 0):
        raise AssumptionError(f"prior_variance: expected a finite value above 0, found {variance}.")
    shift = posterior.mean - prior_mean_of(posterior, prior_mean)
    along = shift if posterior.basis is None else posterior.basis.T @ shift
    inside = _spread_cost(posterior.variances / variance) + along**2 / (2.0 * variance)
    outside = posterior.parameters - len(inside)
    if outside == 0:
        return inside
    across = shift - posterior.basis @ along
    costs = np.full(outside, _spread_cost(np.array(posterior.rest / variance)))
    costs[0] += float(across @ across) / (2.0 * variance)  # one direction carries all of it
    return np.concatenate([inside, costs])


def _spread_cost(ratio: np.ndarray) -> np.ndarray:
    """Return (u - ln(1 + u)) / 2 at u = ratio - 1; infinite at ratio = 0."""
    with np.errstate(divide="ignore"):
        return np.maximum(0.0, 0.5 * ((ratio - 1.0) - np.log(ratio)))


def prior_mean_of(posterior: GaussianPosterior, prior_mean: np.ndarray | float) -> np.ndarray:
    """Return the prior's mean as a vector, shape (parameters,).

    Raises:
        AssumptionError: Another shape, or a number that is not finite.
    """
    if np.ndim(prior_mean) == 0:
        prior_mean = np.full(posterior.parameters, float(prior_mean))
    return vector("prior_mean", prior_mean, posterior.parameters)


def form_of(name: str, matrix: np.ndarray | LowRank) -> str:
    """Return "dense", "diagonal" or "low-rank".

    Raises:
        AssumptionError: Neither of these.
    """
    if isinstance(matrix, LowRank):
        if np.ndim(matrix.factor) != 2 or not (
            np.isfinite(matrix.factor).all() and math.isfinite(matrix.bulk) and matrix.bulk >= 0
        ):
            raise AssumptionError(
                f"{name}: expected bulk >= 0 and a finite factor of shape (parameters, rank), "
                f"found bulk {matrix.bulk}, factor of shape {np.shape(matrix.factor)}."
            )
        return "low-rank"
    forms = {1: "diagonal", 2: "dense"}
    if np.ndim(matrix) not in forms or 0 in np.shape(matrix):
        raise AssumptionError(
            f"{name}: expected shape (d,), (d, d) or a LowRank, found {np.shape(matrix)}."
        )
    return forms[np.ndim(matrix)]


def symmetric(name: str, matrix: np.ndarray) -> np.ndarray:
    """Return a square matrix without the asymmetry of rounding.

    Raises:
        AssumptionError: It is not square, finite and symmetric.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.shape[0] != array.shape[1] or not np.isfinite(array).all():
        raise AssumptionError(f"{name}: expected a finite square matrix, found {array.shape}.")
    gap = np.abs(array - array.T)
    if gap.max() > _SYMMETRY * np.abs(array).max():
        row, column = np.unravel_index(int(np.argmax(gap)), gap.shape)
        raise AssumptionError(
            f"{name}: entries ({row}, {column}) and ({column}, {row}) differ by {gap.max():.3g}; "
            "expected a symmetric matrix. Symmetrise it if that is estimation noise."
        )
    return (array + array.T) / 2.0


def vector(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """Return finite values of shape (size,).

    Raises:
        AssumptionError: Anything else.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise AssumptionError(f"{name}: expected {size} finite values, found shape {array.shape}.")
    return array


def require_semidefinite(spectrum: np.ndarray) -> None:
    """Raise AssumptionError where an eigenvalue is below zero, beyond rounding."""
    if spectrum.min() < -_SYMMETRY * max(float(np.abs(spectrum).max()), 0.0):
        raise AssumptionError(
            f"gradient_noise: smallest eigenvalue {spectrum.min():.3g}; a covariance has none "
            "below 0. Compute it from centred gradients."
        )


def without_rounding(variances: np.ndarray) -> np.ndarray:
    """Return variances with those that are zero up to rounding set to zero."""
    floor = len(variances) * EPS * max(float(variances.max()), 0.0)
    return np.where(variances > 4.0 * floor, variances, 0.0)

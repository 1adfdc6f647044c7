"""The Gaussian that SGD leaves behind near an optimum, and what it costs in kl (theory §6.4).

Two claims are kept apart. That SGD's iterates follow this Gaussian is an approximation, never
certified. That PAC-Bayes holds for this Gaussian as a declared Q, whose draws are the policies that
were run, needs no such thing: it is a theorem, whatever the run did.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from taut.bounds.preferences import HeadFit, head_information
from taut.errors import AssumptionError, UsageError
from taut.inequalities.pac_bayes import pac_bayes_interval
from taut.types import Interval, Status

_EPS = float(np.finfo(np.float64).eps)
_SYMMETRY = 1e-10  # largest asymmetry, relative to the largest entry, that counts as rounding
_VACUOUS_WIDTH = 0.99  # an interval this share of the range, or wider, says nothing
# A drifting straight line counts as 3 iterates and a random walk as about 5, however long.
_FEWEST_EFFECTIVE = 10.0
_WINDOW = 5.0  # autocorrelations are summed over this many autocorrelation times (Sokal 1997)


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
    form, other = _form("hessian", hessian), _form("gradient_noise", gradient_noise)
    if form != other:
        raise UsageError(
            f"hessian is {form}, gradient_noise is {other}; give both in the same form "
            "(dense, diagonal or LowRank)."
        )
    rate = _Rate(step=learning_rate, scale=learning_rate / batch_size, discrete=discrete)
    solve = {"dense": _solve_dense, "diagonal": _solve_diagonal, "low-rank": _solve_low_rank}[form]
    variances, basis, rest, size = solve(hessian, gradient_noise, rate)
    centre = np.zeros(size) if mean is None else _vector("mean", mean, size)
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
    return math.fsum(_costs(posterior, prior_mean, prior_variance))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriorWidth:
    """A prior N(mean, variance I) picked from a grid of widths, and what picking costs.

    Attributes:
        mean: Shape (parameters,).
        variance: s_j^2 = largest e^(-j/steps_per_fold), squared parameter units.
        index: j, at least 1: the grid point paid for.
        kl: KL(Q || P_j), nats.
        log_price: ln(pi^2 j^2 / 6), nats: delta_j = 6 delta / (pi^2 j^2), and all j sum to delta.
    """

    mean: np.ndarray
    variance: float
    index: int
    kl: float
    log_price: float


def choose_prior_width(
    posterior: GaussianPosterior,
    prior_mean: np.ndarray | float,
    *,
    largest: float,
    steps_per_fold: int = 10,
) -> PriorWidth:
    """Return the width of least KL plus price on the grid s_j^2 = largest e^(-j/steps_per_fold).

    Args:
        posterior: Q.
        prior_mean: As in `kl_gaussian`; fixed before the data, as are the next two.
        largest: c, squared parameter units.
        steps_per_fold: b, grid points per factor e of the variance.

    Raises:
        AssumptionError: As in `kl_gaussian`.
        UsageError: largest or steps_per_fold out of range.

    Source: theory §6.4; Langford & Caruana (2001).
    """
    if not (math.isfinite(largest) and largest > 0 and steps_per_fold >= 1):
        raise UsageError(
            f"expected largest > 0 and steps_per_fold >= 1, found {largest}, {steps_per_fold}."
        )
    centre = _prior_mean(posterior, prior_mean)
    energy = posterior.trace + float(np.sum((posterior.mean - centre) ** 2))
    # KL is convex in ln s^2 with its minimum at energy / d, and the price grows with j.
    best = steps_per_fold * math.log(largest * posterior.parameters / energy) if energy else 1.0
    index = np.arange(1, max(1, math.ceil(best)) + 1)
    variance = largest * np.exp(-index / steps_per_fold)
    relative = 0.5 * (energy / variance + posterior.parameters * np.log(variance))
    chosen = int(np.argmin(relative + 2.0 * np.log(index)))
    return PriorWidth(
        mean=centre,
        variance=float(variance[chosen]),
        index=chosen + 1,
        kl=kl_gaussian(posterior, centre, float(variance[chosen])),
        log_price=math.log(math.pi**2 / 6.0) + 2.0 * math.log(chosen + 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianBound:
    """Interval for the mean of policies drawn from a Gaussian Q.

    Attributes:
        lower, upper: Units of [low, high].
        kl, log_price: What Q and the choice of the prior's width cost, nats.
        delta: All that was spent, draws included.
        status: Conditional, as that the policies are draws from Q and that prior and widths were
            fixed beforehand is beyond what a log records (theory §5); vacuous where the interval
            is 99% of the range or wider.
        parameters: d.
        vacuous_at: Fewest free directions that already make it vacuous, the costliest ones first
            and the others left to the prior; 0 if no direction is needed (too few blocks or
            draws), None if all d do not.
        assumes: What must hold beyond the data section.
        source: Where the bound comes from.
    """

    lower: float
    upper: float
    kl: float
    log_price: float
    delta: float
    status: Status
    parameters: int
    vacuous_at: int | None
    assumes: tuple[str, ...] = (
        "the policies that were run are independent draws from Q",
        "prior mean, grid of widths and range were fixed before these prompts were seen",
    )
    source: str = "theory §6.1, §6.4"


def gaussian_bound(
    posterior: GaussianPosterior,
    prior: PriorWidth,
    empirical: float,
    *,
    draws: int,
    blocks: int,
    delta: float,
    draws_delta: float,
    low: float = 0.0,
    high: float = 1.0,
) -> GaussianBound:
    """Bound E_Q of a policy's mean from policies drawn from Q, and say where it became vacuous.

    Args:
        posterior: Q.
        prior: From `choose_prior_width`.
        empirical: Average over draws of the average over blocks, units of [low, high].
        draws: Independent draws from Q that were run.
        blocks: Independent blocks under each draw.
        delta, draws_delta: Probabilities spent on prompts and on draws; together below 1.
        low, high: Range known before the data.

    Raises:
        AssumptionError: As in `pac_bayes_interval`.

    Source: theory §6.1, §6.4.
    """

    def interval(kl: float) -> Interval:
        return pac_bayes_interval(
            empirical,
            kl=kl + prior.log_price,
            blocks=blocks,
            delta=delta,
            low=low,
            high=high,
            draws=draws,
            draws_delta=draws_delta,
        )

    def vacuous(kl: float) -> bool:
        return interval(kl).width >= _VACUOUS_WIDTH * (high - low)

    kl = kl_gaussian(posterior, prior.mean, prior.variance)
    costs = np.sort(_costs(posterior, prior.mean, prior.variance))[::-1]
    totals = np.concatenate([[0.0], np.cumsum(costs)])
    fewest = bisect_left(totals, True, key=vacuous)
    found = interval(kl)
    return GaussianBound(
        lower=found.lower,
        upper=found.upper,
        kl=kl,
        log_price=prior.log_price,
        delta=delta + draws_delta,
        status=Status.CONDITIONAL if fewest == len(totals) else Status.VACUOUS,
        parameters=posterior.parameters,
        vacuous_at=None if fewest == len(totals) else fewest,
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
    a, c = _symmetric("hessian", hessian), _symmetric("gradient_noise", noise)
    if a.shape != c.shape:
        raise AssumptionError(f"hessian is {a.shape}, gradient_noise {c.shape}; same parameters?")
    curvature, axes = np.linalg.eigh(a)
    _require_stable(curvature, rate)
    _require_semidefinite(np.linalg.eigvalsh(c))
    rotated = axes.T @ c @ axes
    solved = rate.scale * rotated / rate.denominator(curvature[:, None], curvature[None, :])
    variances, turn = np.linalg.eigh((solved + solved.T) / 2.0)
    return _without_rounding(variances), axes @ turn, 0.0, len(a)


def _solve_diagonal(hessian, noise, rate: _Rate):
    a = _vector("hessian", hessian, len(hessian))
    c = _vector("gradient_noise", noise, len(a))
    _require_stable(a, rate)
    _require_semidefinite(c)
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


def _costs(
    posterior: GaussianPosterior, prior_mean: np.ndarray | float, variance: float
) -> np.ndarray:
    """Return KL per orthogonal direction, nats, shape (parameters,), each at least 0."""
    if not (math.isfinite(variance) and variance > 0):
        raise AssumptionError(f"prior_variance: expected a finite value above 0, found {variance}.")
    shift = posterior.mean - _prior_mean(posterior, prior_mean)
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


def _prior_mean(posterior: GaussianPosterior, prior_mean: np.ndarray | float) -> np.ndarray:
    if np.ndim(prior_mean) == 0:
        prior_mean = np.full(posterior.parameters, float(prior_mean))
    return _vector("prior_mean", prior_mean, posterior.parameters)


def _form(name: str, matrix: np.ndarray | LowRank) -> str:
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


def _symmetric(name: str, matrix: np.ndarray) -> np.ndarray:
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


def _vector(name: str, values: np.ndarray, size: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise AssumptionError(f"{name}: expected {size} finite values, found shape {array.shape}.")
    return array


def _require_stable(curvature: np.ndarray, rate: _Rate) -> None:
    least, largest = float(curvature.min()), float(curvature.max())
    if least <= len(curvature) * _EPS * largest:
        flat = int(np.count_nonzero(curvature <= len(curvature) * _EPS * largest))
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


def _require_semidefinite(spectrum: np.ndarray) -> None:
    if spectrum.min() < -_SYMMETRY * max(float(np.abs(spectrum).max()), 0.0):
        raise AssumptionError(
            f"gradient_noise: smallest eigenvalue {spectrum.min():.3g}; a covariance has none "
            "below 0. Compute it from centred gradients."
        )


def _without_rounding(variances: np.ndarray) -> np.ndarray:
    """Return variances with those that are zero up to rounding set to zero."""
    floor = len(variances) * _EPS * max(float(variances.max()), 0.0)
    return np.where(variances > 4.0 * floor, variances, 0.0)

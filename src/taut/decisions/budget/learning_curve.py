"""How the reward model's error falls with preference pairs: L(m) = L_inf + a m^(-gamma).

Fitted by Huber's loss, with L_inf >= 0, a >= 0 and gamma in (0, 2]. For one gamma the fit is linear
in (L_inf, a); gamma is found on a grid that zooms in, so that the same points give the same curve.
An estimate, and beyond the largest m an extrapolation.
"""

import math
import os
from dataclasses import dataclass, field

import numpy as np

from taut.errors import LogError, UsageError
from taut.logs.table import read_numbers

GAMMA_RANGE = (0.01, 2.0)
_HUBER = 1.345  # of a standard deviation: 95% as efficient as least squares on normal errors
_RESAMPLES = 100
_NAMES = {
    "pairs": ("m", "pairs", "preference_pairs"),
    "mse": ("L", "mse", "reward_mse"),
    "standard_error": ("standard_error", "stderr", "se"),
    "weight": ("weight", "w"),
}


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """A fitted curve L(m), squared reward units.

    Attributes:
        floor: L_inf, what no number of pairs removes.
        scale, rate: a and gamma.
        smallest, largest: Range of m that was seen.
        points: How many points it was fitted to.
        spread: Robust relative standard deviation of the points about the curve (in standard
            errors, where those were given).
        samples: Refits to bootstrap data, shape (resamples, 3), as (floor, scale, rate); empty
            where the points leave nothing over to judge the errors by.
    """

    floor: float
    scale: float
    rate: float
    smallest: float = 1.0
    largest: float = math.inf
    points: int = 0
    spread: float = 0.0
    samples: np.ndarray = field(default_factory=lambda: np.empty((0, 3)), compare=False, repr=False)

    def __call__(self, pairs):
        """L at some numbers of pairs; scalar or array, at least 1."""
        return self.floor + self.scale * np.maximum(pairs, 1.0) ** -self.rate

    def resampled(self, pairs: float) -> np.ndarray:
        """L at one number of pairs for each bootstrap refit, shape (resamples,)."""
        floor, scale, rate = self.samples.T
        return floor + scale * max(pairs, 1.0) ** -rate

    def rescaled(self, factor: float) -> "LearningCurve":
        """The curve with L in another unit: L times `factor`."""
        samples = self.samples * np.array([factor, factor, 1.0])
        return LearningCurve(
            self.floor * factor,
            self.scale * factor,
            self.rate,
            self.smallest,
            self.largest,
            self.points,
            self.spread,
            samples,
        )


def read_learning_curve(path: str | os.PathLike, *, seed: int = 0) -> LearningCurve:
    """Fit the curve in a table with columns m and L, and `standard_error` or `weight` if any.

    Args:
        path: CSV, JSONL or Parquet; m counts preference pairs, L is E[(r - r*)^2] on data that the
            reward model was not fitted to, squared reward units.
        seed: Of the bootstrap.

    Raises:
        LogError: The file or its values cannot be used, with the reason.
    """
    found = read_numbers(path, _NAMES, required=("pairs", "mse"))
    try:
        return fit_learning_curve(**found, seed=seed)
    except UsageError as error:
        raise LogError(f"{path}: {error}") from None


def fit_learning_curve(
    pairs: np.ndarray,
    mse: np.ndarray,
    *,
    standard_error: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Fit L(m) = L_inf + a m^(-gamma) to points, robustly.

    Args:
        pairs, mse: m and L, shape (points,); at least three different m, m >= 1, L >= 0.
        standard_error: Of each L, same unit, above 0; without any, errors are taken to be in
            proportion to L.
        weight: Of each point, above 0, times its precision.
        seed: Of the bootstrap.

    Raises:
        UsageError: Too few points, or values out of range.
    """
    pairs, mse = (np.asarray(values, dtype=np.float64) for values in (pairs, mse))
    _check(pairs, mse, standard_error, weight)
    order = np.lexsort((mse, pairs))
    pairs, mse = pairs[order], mse[order]
    known = standard_error is not None
    share = 1.0 if weight is None else np.sqrt(np.asarray(weight, float)[order])
    error = np.asarray(standard_error, float)[order] if known else mse
    for _ in range(1 if known else 3):
        precision = share / np.maximum(error, 1e-9 * mse.max())
        best = _robust(pairs, mse[None], precision, known)[0]
        # Errors in proportion to the curve, not to the points: a wild point must not set its own.
        error = fitted = best[0] + best[1] * pairs ** -best[2]
    residual = (mse - fitted) * precision
    samples = _bootstrap(pairs, fitted, residual, precision, known, seed)
    return LearningCurve(
        *map(float, best),
        smallest=float(pairs.min()),
        largest=float(pairs.max()),
        points=len(pairs),
        spread=_scale(residual[None])[0],
        samples=samples,
    )


def _check(pairs, mse, standard_error, weight) -> None:
    if len(pairs) != len(mse) or pairs.ndim != 1:
        raise UsageError(f"expected one L for each m, found {len(mse)} for {len(pairs)}.")
    if not (np.isfinite(pairs).all() and np.isfinite(mse).all()):
        raise UsageError("m and L must be finite numbers.")
    if len(np.unique(pairs)) < 3:
        raise UsageError(
            f"a curve with three parameters needs three different m, found "
            f"{len(np.unique(pairs))}; train the reward model on more subsets of its pairs."
        )
    if pairs.min() < 1:
        raise UsageError(f"m counts preference pairs: expected 1 or more, found {pairs.min():g}.")
    if mse.min() < 0 or mse.max() <= 0:
        raise UsageError(f"L is a mean squared error: expected above 0, found {mse.min():g}.")
    for name, values in (("standard_error", standard_error), ("weight", weight)):
        if values is not None and not (np.asarray(values, dtype=float) > 0).all():
            raise UsageError(f"{name}: expected numbers above 0; leave the column out otherwise.")


def _scale(residual: np.ndarray) -> np.ndarray:
    """Robust standard deviation of residuals about 0, three of them spent on the fit."""
    points = residual.shape[1]
    correction = math.sqrt(points / max(points - 3, 1))
    return 1.4826 * np.median(np.abs(residual), axis=1) * correction


def _robust(pairs, data, precision, known: bool, zooms: int = 5) -> np.ndarray:
    """Fit each row of data, shape (sets, points); return (floor, scale, rate) rows.

    With standard errors the scale of residuals is 1; without them it is found by turns.
    """
    limit = np.full(len(data), math.inf)
    for turn in range(4):
        found = _profile(pairs, data, precision, limit, zooms)
        if known:
            limit = np.full(len(data), _HUBER)
            if turn:
                break
        else:
            fitted = found[:, :1] + found[:, 1:2] * pairs ** -found[:, 2:]
            limit = _HUBER * np.maximum(_scale((data - fitted) * precision), 1e-9)
    return found


def _profile(pairs, data, precision, limit, zooms: int) -> np.ndarray:
    """Take the gamma of least loss, on a grid that zooms in around each row's best."""
    low, high = (np.full(len(data), value) for value in GAMMA_RANGE)
    for _ in range(zooms):
        share = np.linspace(0.0, 1.0, 41)
        grid = low[:, None] + (high - low)[:, None] * share
        loss, floor, scale = _linear(pairs, data, precision, limit, grid)
        best = loss.argmin(axis=1)
        rows = np.arange(len(data))
        low = grid[rows, np.maximum(best - 1, 0)]
        high = grid[rows, np.minimum(best + 1, 40)]
    return np.stack([floor[rows, best], scale[rows, best], grid[rows, best]], axis=1)


def _linear(pairs, data, precision, limit, grid):
    """Huber fits of (L_inf, a) >= 0 for each gamma of each row; shapes (sets, gammas)."""
    # In units of the smallest m, so that a m^-gamma is of order one for every gamma.
    basis = (pairs / pairs[0]) ** -grid[:, :, None]
    data, limit = data[:, None, :], limit[:, None, None]
    weight = np.broadcast_to(precision**2, basis.shape)
    for _ in range(12):
        floor, scale = _non_negative(basis, data, weight)
        residual = np.abs(data - floor[..., None] - scale[..., None] * basis) * precision
        ratio = np.divide(limit, residual, out=np.ones_like(residual), where=residual > limit)
        weight = precision**2 * ratio
        if np.isinf(limit).all():
            break
    quadratic = np.minimum(residual, limit)
    beyond = np.maximum(residual - limit, 0.0)
    linear = np.where(beyond > 0, np.where(np.isinf(limit), 0.0, limit) * beyond, 0.0)
    loss = (quadratic**2 / 2 + linear).sum(axis=2)
    return loss, floor, scale * pairs[0] ** grid


def _non_negative(basis, data, weight):
    """Weighted least squares for data = floor + scale * basis with both at least 0."""
    total, first = weight.sum(axis=2), (weight * basis).sum(axis=2)
    second = (weight * basis**2).sum(axis=2)
    ours, both = (weight * data).sum(axis=2), (weight * basis * data).sum(axis=2)
    determinant = total * second - first**2
    safe = np.maximum(determinant, 1e-300)
    floor, scale = (second * ours - first * both) / safe, (total * both - first * ours) / safe
    # Convex: where one of the two would be negative, the best point has it at 0.
    scale = np.where(floor < 0, both / second, scale)
    floor = np.where(floor < 0, 0.0, floor)
    floor = np.where(scale < 0, ours / total, floor)
    return np.maximum(floor, 0.0), np.maximum(scale, 0.0)


def _bootstrap(pairs, fitted, residual, precision, known: bool, seed: int) -> np.ndarray:
    """Refit to the curve with errors drawn anew: normal where given, else the residuals' own."""
    points = len(pairs)
    if not known and points <= 3:
        return np.empty((0, 3))
    rng = np.random.default_rng([seed, 1])
    if known:
        errors = rng.standard_normal((_RESAMPLES, points))
    else:
        inflate = math.sqrt(points / (points - 3))
        centred = (residual - np.median(residual)) * inflate
        errors = centred[rng.integers(points, size=(_RESAMPLES, points))]
    data = np.maximum(fitted + errors / precision, 0.0)
    # A gamma to the third decimal is finer than its own error.
    return _robust(pairs, data, precision, known, zooms=2)

"""A monotone curve from learned to target reward: isotonic regression by pooling neighbours."""

from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """A non-decreasing function: linear between knots, constant beyond the outer ones.

    Attributes:
        knots: Increasing arguments, shape (knots,).
        values: Non-decreasing values, shape (knots,).
    """

    knots: np.ndarray
    values: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the value at each of x, any shape."""
        return np.interp(x, self.knots, self.values)


def fit_isotonic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Isotonic:
    """Fit the non-decreasing function that is nearest to y in weighted least squares.

    Rows with one x are pooled first, so that ties get one value whatever their order; then
    adjacent violators are pooled. The weighted mean of the fit at x is that of y.

    Args:
        x, y: Shape (rows,).
        weights: Positive, shape (rows,); equal if absent.

    Raises:
        AssumptionError: No row, shapes that differ, a value that is not finite, or a weight that
            is not positive.

    Source: Barlow & Brunk (1972); SciPy's pool-adjacent-violators.
    """
    from scipy.optimize import isotonic_regression

    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (x.ndim == 1 and x.shape == y.shape == weights.shape and len(x)):
        raise AssumptionError(
            f"expected x, y and weights of one shape (rows,), not empty; found {x.shape}, "
            f"{y.shape} and {weights.shape}."
        )
    if not (np.isfinite([x, y, weights]).all() and weights.min() > 0):
        raise AssumptionError("x, y and weights must be finite, and weights positive; fix the row.")
    knots, index = np.unique(x, return_inverse=True)
    # Sorted within ties, so that sums do not depend on the order of rows.
    order = np.lexsort((weights, y, index))
    mass = np.bincount(index[order], weights[order])
    means = np.bincount(index[order], (weights * y)[order]) / mass
    return Isotonic(knots, isotonic_regression(means, weights=mass).x)

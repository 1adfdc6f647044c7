"""Outward rounding: ends on [0, 1] become ends in the user's units without losing a guarantee."""

import numpy as np

from taut.types import Interval

_EPS = float(np.finfo(np.float64).eps)
_ORDINARY = 256  # binary exponents up to this are left alone
_LEAST = float(np.finfo(np.float64).smallest_subnormal)


def from_unit(lower: float, upper: float, *, low: float, high: float) -> Interval:
    """Map an interval within [0, 1] to [low, high], rounding outward and clipping.

    Args:
        lower, upper: Ends on the unit scale; `upper` may itself be 1 - (a lower end), rounded.
        low, high: Range in user units, finite, low < high, of finite width.
    """
    below, above = to_range(np.float64(lower), np.float64(upper), low=low, high=high)
    return Interval(float(below), float(above))


def to_range(
    lower: np.ndarray, upper: np.ndarray, *, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Map ends within [0, 1] to [low, high], of any shape, rounding outward and clipping.

    The width, the product and the sum are rounded once each, and 1 - (a lower end) once before:
    together less than two units in the last place of the largest of low, high and width, and one
    subnormal. Four of each are allowed for.
    """
    width = high - low
    slack = 4.0 * (_EPS * max(abs(low), abs(high), width) + _LEAST)
    with np.errstate(over="ignore"):  # beyond the largest float is beyond the range
        below = np.where(lower <= 0.0, low, np.maximum(low, low + width * lower - slack))
        above = np.where(upper >= 1.0, high, np.minimum(high, low + width * upper + slack))
    return below, above


def binary_scale(low: float, high: float) -> int:
    """Return e such that low and high times 2^-e are ordinary numbers; 0 where they are already.

    Scaling by a power of two is exact, and neither squares nor inverses overflow afterwards.
    """
    exponent = int(np.frexp(max(abs(low), abs(high)))[1])
    return exponent if abs(exponent) > _ORDINARY else 0

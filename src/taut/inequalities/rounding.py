"""Outward rounding: ends on [0, 1] become ends in the user's units without losing a guarantee."""

import math
from fractions import Fraction

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

    The width and the product are rounded once each, the sum and what is added to it once each, and
    1 - (a lower end) once before. A rounding is off by at most half of _EPS, relatively, or by a
    subnormal; about twice their sum is allowed for. An end next to 0 stays precise if low is 0.
    """
    width = high - low
    with np.errstate(over="ignore"):  # beyond the largest float is beyond the range
        inner, outer = width * lower, width * upper
        down = 2.0 * _EPS * inner + 2.0 * _EPS * np.abs(low + inner) + 4.0 * _LEAST
        up = 2.0 * _EPS * outer + 2.0 * _EPS * np.abs(low + outer) + 4.0 * _LEAST
        up = up + 0.5 * _EPS * width
        below = np.where(lower <= 0.0, low, np.maximum(low, low + inner - down))
        above = np.where(upper >= 1.0, high, np.minimum(high, low + outer + up))
    return below, above


def binary_scale(low: float, high: float) -> int:
    """Return e such that low and high times 2^-e are ordinary numbers; 0 where they are already.

    Scaling by a power of two is exact, and neither squares nor inverses overflow afterwards.
    """
    exponent = int(np.frexp(max(abs(low), abs(high)))[1])
    return exponent if abs(exponent) > _ORDINARY else 0


def outward(interval: Interval, low: float, width: float) -> Interval:
    """Map an interval of the unit scale to [low, low + width], rounded outward.

    Unlike `from_unit` it does not clip: J* less its KL cost may leave the range. Allows for one
    rounding of the width.
    """
    return Interval(_moved(interval.lower, low, width, -1), _moved(interval.upper, low, width, 1))


def _moved(end: float, low: float, width: float, side: int) -> float:
    """Return low + width * end, rounded towards side: at least as far out as the exact value."""
    if math.isinf(end):
        return end
    value = low + width * end
    exact = Fraction(low) + Fraction(width) * Fraction(end)
    while (Fraction(value) - exact) * side < 0:
        value = math.nextafter(value, side * math.inf)
    return math.nextafter(value, side * math.inf)

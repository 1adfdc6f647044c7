"""Intervals for a ratio E a / E b of bounded means, 0 <= a <= b <= 1 (theory §2.8).

A candidate m is tried by bets on a/m - b, whose mean is at most 0 where the ratio is at most m. The
stakes do not depend on m, so that the fortune falls with m, and all m up to one point are refuted
at once: the end is exact, found by bisection.
"""

import math

import numpy as np

from taut.types import Interval

_STEPS = 60
_ROUNDING = 1e-12


def ratio_interval(
    a: np.ndarray,
    b: np.ndarray,
    *,
    delta_lower: float,
    delta_upper: float,
    one_law: bool = True,
) -> Interval:
    """Bound E a / E b; [0, 1] where nothing is known.

    Args:
        a, b: Of each draw, in an order that does not depend on them, shape (draws,); 0 <= a <= b
            <= 1.
        delta_lower, delta_upper: Probability that each end may miss; 0 leaves it at its limit.
        one_law: Draws are identically distributed, so that stakes may learn from earlier draws.
            Else they are constants, and the ratio is that of the average means.

    Source: theory §2.8; betting: Waudby-Smith and Ramdas, arXiv 2010.09686.
    """
    lower = _end(a, b, delta_lower, one_law)
    upper = 1.0 - _end(b - a, b, delta_upper, one_law)
    return Interval(max(0.0, lower - _ROUNDING), min(1.0, upper + _ROUNDING))


def _end(a: np.ndarray, b: np.ndarray, eta: float, one_law: bool) -> float:
    """Return the largest m that the bets refute, 0 where they refute none."""
    a = np.maximum(a, 0.0)
    if eta <= 0.0 or not (a > 0.0).any():
        return 0.0
    stakes = _learned(a, b, eta)[None, :] if one_law else _constants(len(a), eta)[:, None]
    touched = b > 0.0
    a, b = a[touched], b[touched]
    if stakes.shape[1] > 1:
        stakes = stakes[:, touched]
    goal = math.log(len(stakes) / eta)

    def refuted(m: float) -> bool:
        fortunes = np.log1p(stakes * (a / m - b)).sum(axis=1)
        top = float(fortunes.max())
        return top + math.log(float(np.exp(fortunes - top).sum())) >= goal

    low, high = 0.0, 1.0
    if refuted(high):
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _learned(a: np.ndarray, b: np.ndarray, eta: float) -> np.ndarray:
    """Return a stake in (0, 1) of each draw, from the draws before it, shape (draws,)."""
    draws = len(a)
    before_a, before_b = np.cumsum(a) - a, np.cumsum(b) - b
    ratio = (0.5 + before_a) / (1.0 + before_b)
    squares = (a / ratio - b) ** 2
    variance = (0.25 + np.cumsum(squares) - squares) / (1.0 + np.arange(draws))
    return np.minimum(0.9, np.sqrt(2.0 * math.log(1.0 / eta) / (draws * variance)))


def _constants(draws: int, eta: float) -> np.ndarray:
    """Return stakes from 0.9 down to the one that suits the largest variance, by halves."""
    least = math.sqrt(2.0 * math.log(1.0 / eta) / max(draws, 1)) / 2
    return 0.9 * 0.5 ** np.arange(max(1, math.ceil(math.log2(0.9 / min(least, 0.9))) + 1))

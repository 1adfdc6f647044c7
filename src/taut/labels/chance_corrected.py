"""Finite-sample intervals for agreement corrected for chance: theta = 1 - E[w] / E[b].

w is the disagreement within an item, b that of labels of two different items. E[b] is no mean of a
quantity of one item: for Cohen's kappa E[b] = E[x^2] + E[y^2] - 2 E[x] E[y], for Krippendorff's
alpha E[b] = 2 (E[s2] - E[s]^2), s and s2 an item's mean label and mean squared label. But with the
means m known,

    kappa:  b(m) = x^2 + y^2 - 2 (m_y x + m_x y - m_x m_y),     alpha:  b(m) = 2 (s2 - 2 m s + m^2)

have these expectations, so that Z = (1 - theta) b(m) - w of single items has mean 0 at the true
theta and m. Hence [ours]: m lies in a box with probability 1 - delta / 5, and theta is rejected if
bets against E Z = 0 win at *every* m of the box, at 4 delta / 5. As b(m) errs by a product of two
deviations only, the box costs little: the widths are those of an influence function.

Bets are fixed fractions, so a fortune depends on the counts of equal items alone. Boxes of (theta,
m) are cut until they are small; of each the least possible fortune is computed, so that the ends
are on the safe side of the exact ones.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.mean import mean_interval

_MEANS = 0.2  # share of delta for the means, measured at 40 to 1,000 items
_CELLS = 32  # pieces of the box of each mean
_FINEST = 1 / 512  # width of the last pieces of theta


class _Items(NamedTuple):
    """Distinct items with how often each occurs, and b over pieces of the box of means."""

    within: np.ndarray  # w, shape (items,)
    counts: np.ndarray  # shape (items,)
    least: np.ndarray  # of b over each piece, shape (pieces, items)
    most: np.ndarray
    floor: np.ndarray  # how far b of any item at all can fall below 0: ends over each piece
    top: np.ndarray  # how large it can be: ends over each piece, shape (pieces, 2)


def kappa_interval(x: np.ndarray, y: np.ndarray, *, delta: float) -> tuple[float, float]:
    """Interval for Cohen's kappa of two annotators' 0/1 labels, within [-1, 1].

    Args:
        x, y: Their labels of independent items, 0 or 1, shape (items,).
        delta: Allowed probability of a miss.

    Raises:
        AssumptionError: A label is neither 0 nor 1, or there is no item.
    """
    pairs = np.stack([x, y], axis=1).astype(np.float64)
    if not len(pairs) or not np.isin(pairs, (0.0, 1.0)).all():
        raise AssumptionError("kappa: expected labels 0 and 1, at least one item.")
    ends = [_pieces(column, _MEANS * delta / 2, "clopper-pearson") for column in (pairs.T)]
    low = np.stack(np.meshgrid(ends[0][:-1], ends[1][:-1], indexing="ij"), -1).reshape(-1, 2)
    high = np.stack(np.meshgrid(ends[0][1:], ends[1][1:], indexing="ij"), -1).reshape(-1, 2)
    cells, counts = np.unique(pairs, axis=0, return_counts=True)
    least, most = _kappa_between(cells, low, high)
    any_least, any_most = _kappa_between(np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), low, high)
    floor = np.stack([-any_most.min(axis=1), -any_least.min(axis=1)], axis=1)
    top = np.stack([any_least.max(axis=1), any_most.max(axis=1)], axis=1)
    within = (cells[:, 0] - cells[:, 1]) ** 2
    return _hull(_Items(within, counts, least, most, np.maximum(floor, 0.0), top), delta)


def _kappa_between(cells: np.ndarray, low: np.ndarray, high: np.ndarray):
    """Least and most of b over boxes of means: b is bilinear, so at their corners."""
    x, y = cells.T
    values = [
        x * x + y * y - 2 * (my[:, None] * x + mx[:, None] * y - (mx * my)[:, None])
        for mx in (low[:, 0], high[:, 0])
        for my in (low[:, 1], high[:, 1])
    ]
    return np.min(values, axis=0), np.max(values, axis=0)


def alpha_interval(
    mean: np.ndarray, square: np.ndarray, within: np.ndarray, *, delta: float
) -> tuple[float, float]:
    """Interval for Krippendorff's alpha by squared distance, within [-1, 1].

    Args:
        mean, square: Mean label and mean squared label of each independent item, in [0, 1].
        within: Mean squared distance of two of its annotators, in [0, 1]; each of shape (items,).
        delta: Allowed probability of a miss.

    Raises:
        AssumptionError: No item, or a value outside [0, 1].
    """
    items = np.stack([mean, square, within], axis=1).astype(np.float64)
    if not len(items) or items.min() < 0 or items.max() > 1:
        raise AssumptionError("alpha: expected values in [0, 1], at least one item.")
    ends = _pieces(items[:, 0], _MEANS * delta, "betting")
    cells, counts = np.unique(items, axis=0, return_counts=True)
    low, high = ends[:-1, None], ends[1:, None]
    s, spread = cells[:, 0], np.maximum(cells[:, 1] - cells[:, 0] ** 2, 0.0)
    least = 2 * (spread + (s - np.clip(s, low, high)) ** 2)
    most = 2 * (spread + np.maximum((s - low) ** 2, (s - high) ** 2))
    # An item's mean squared distance from m is largest where all its labels lie at one end.
    top = 2 * np.concatenate([np.maximum(low, 1 - high), np.maximum(high, 1 - low)], axis=1) ** 2
    return _hull(_Items(cells[:, 2], counts, least, most, np.zeros_like(top), top), delta)


def _pieces(values: np.ndarray, delta: float, method: str) -> np.ndarray:
    """Cut the interval of a mean into equal pieces; return their ends."""
    box = mean_interval(values, low=0.0, high=1.0, delta=delta, method=method)
    return np.linspace(box.lower, box.upper, _CELLS + 1)


def _hull(items: _Items, delta: float) -> tuple[float, float]:
    goal = math.log(2 / ((1 - _MEANS) * delta))
    bets = _bets(int(items.counts.sum()), goal)

    def rejected(low: float, high: float) -> bool:
        return _rejected(items, low, high, bets, goal)

    lower = _first_kept(rejected, left=True)
    if lower is None:  # no theta fits: an event of probability delta at most, or no independence
        return -1.0, 1.0
    return lower, _first_kept(rejected, left=False)


def _rejected(items: _Items, low: float, high: float, bets: np.ndarray, goal: float) -> bool:
    """Whether all theta of [low, high] lose at every m of the box."""
    factors = (1 - high, 1 - low)
    least = np.minimum(*(factor * items.least for factor in factors)) - items.within
    most = np.maximum(*(factor * items.most for factor in factors)) - items.within
    # Z lies in [-1 - (1 - theta) floor, (1 - theta) top], which bounds the stakes.
    below = 1 + np.array(factors) * items.floor
    above = np.array(factors) * items.top
    lost = _wins(least, below, items, bets, goal) | _wins(-most, above, items, bets, goal)
    return bool(np.all(lost))


def _wins(z, reach, items: _Items, bets: np.ndarray, goal: float) -> np.ndarray:
    """Whether fixed fractions of 1 / reach win on values of at least z, for each piece.

    At the true (theta, m) the stakes are functions of these alone. The piece knows its least and
    largest reach, and a value and a reach at which the fortune is smallest: the largest for gains,
    the least for losses. No value is below -reach.
    """
    least, most = np.maximum(reach[:, :1], 1e-9), np.maximum(reach[:, 1:], 1e-9)
    share = np.maximum(np.where(z >= 0, z / most, z / least), -1.0)
    with np.errstate(divide="ignore"):
        logs = np.stack([np.log1p(bet * share) @ items.counts for bet in bets])
    top = logs.max(axis=0)
    safe = np.where(np.isfinite(top), top, 0.0)
    return np.isfinite(top) & (safe + np.log(np.exp(logs - safe).mean(axis=0)) >= goal)


def _bets(items: int, goal: float) -> np.ndarray:
    """Fractions from the one that fits the largest variance up to 1, each half as large again."""
    least = min(1.0, math.sqrt(2 * goal / items) / 2)
    return 1.0 / 1.5 ** np.arange(math.ceil(math.log(1 / least, 1.5)) + 1)


def _first_kept(rejected: Callable[[float, float], bool], *, left: bool) -> float | None:
    """Outer end of the outermost piece of [-1, 1] that is not rejected."""
    stack = [(-1.0, 1.0)]
    while stack:
        low, high = stack.pop()
        if rejected(low, high):
            continue
        if high - low <= _FINEST:
            return low if left else high
        middle = (low + high) / 2
        halves = [(middle, high), (low, middle)]
        stack += halves if left else halves[::-1]
    return None

"""Which draw of a block to label: where the judge is in doubt, if that is worth its price.

Chances that follow the judge's doubt bring down the variance of a block, and widen its range by the
inverse of the smallest one. Where doubt is even, or labels are few, even chances are better: the
forecast can say so. Everything here chooses; `label_designs.chance_blocks` is valid for any choice
made of earlier labels and of the block's own judge values.

Source: theory §3.6; Zrnic & Candes (2024).
"""

import math

import numpy as np

from taut.bounds.sampling import end_forecast
from taut.errors import AssumptionError

_FLOORS = (1.0, 0.8, 0.6, 0.4, 0.25)  # of G times a chance; 1 is even chances
_BINS = 8
_FEWEST = 40  # labels before chances may differ
_GAIN = 0.97  # forecast width, of the even one's, that makes the difference worth while


def active_chances(doubt: np.ndarray, least: float) -> np.ndarray:
    """Return the chance of each draw of a block to be the labelled one; they sum to 1.

    Args:
        doubt: Spread of gold that is expected of each draw, 0 or more, shape (draws,): see
            `judge_doubt`.
        least: Smallest chance times the number of draws, in (0, 1]; see `choose_floor`.

    Raises:
        AssumptionError: A doubt below 0 or not finite, least outside (0, 1], or no draw.
    """
    doubt = np.asarray(doubt, dtype=np.float64)
    if len(doubt) == 0 or not np.isfinite(doubt.sum()) or doubt.min() < 0 or not 0 < least <= 1:
        raise AssumptionError(
            f"expected doubts of 0 or more and a floor in (0, 1], found {doubt} and {least}."
        )
    even = np.full(len(doubt), 1.0 / len(doubt))
    total = doubt.sum()
    return even if total == 0 else least * even + (1.0 - least) * doubt / total


def judge_doubt(gold: np.ndarray, judge: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the spread of gold to expect at judge values, from labels so far.

    The standard deviation of gold within bins of the judge, each mixed with two labels of the
    spread over all bins. How labels were chosen by the judge does not matter within a bin.

    Args:
        gold, judge: Of the labelled draws so far, shape (labels,).
        at: Judge values, shape (draws,).
    """
    if len(gold) < 2:
        return np.ones(len(at))
    edges = np.quantile(judge, np.linspace(0, 1, min(_BINS, max(1, len(gold) // 10)) + 1)[1:-1])
    bins, kinds = np.searchsorted(edges, judge, side="right"), len(edges) + 1
    counts = np.bincount(bins, minlength=kinds)
    means = np.bincount(bins, gold, kinds) / np.maximum(counts, 1)
    squares = np.bincount(bins, (gold - means[bins]) ** 2, kinds)
    within = squares.sum() / max(len(gold) - (counts > 0).sum(), 1)
    spread = np.sqrt((squares + 2.0 * within) / np.maximum(counts + 1.0, 1.0))
    return spread[np.searchsorted(edges, at, side="right")]


def choose_floor(
    gold: np.ndarray, judge: np.ndarray, population: np.ndarray, *, labels: int, delta: float
) -> float:
    """Return the floor of chances with the least forecast width: 1 says "label at random".

    A block's residual has the variance E[doubt^2 / (floor + (1 - floor) doubt / E doubt)], and a
    bet on it the range of 1/floor. Even chances have two caps (`varying`): half the span.

    Args:
        gold, judge: Of the labelled draws so far, shape (labels so far,).
        population: Judge values of draws, labelled or not, that came before, shape (draws,).
        labels: Number of labels that the interval will have.
        delta: Its error probability.
    """
    if len(gold) < _FEWEST:
        return 1.0
    doubt = judge_doubt(gold, judge, population)
    mean, relative = float(gold.mean()), doubt / max(doubt.mean(), 1e-12)
    widths = []
    for floor in _FLOORS:
        variance = float((doubt**2 / (floor + (1.0 - floor) * relative)).mean())
        reach = 0.5 if floor == 1.0 else 1.0 / floor
        ends = [
            end_forecast(side + reach, variance, blocks=labels, eta=delta / 2)
            for side in (mean, 1.0 - mean)
        ]
        widths.append(math.fsum(ends))
    best = int(np.argmin(widths))
    return _FLOORS[best] if widths[best] < _GAIN * widths[0] else 1.0

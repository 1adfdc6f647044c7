"""The sampling term: what finitely many prompts and rollouts say about a mean (theory §2)."""

import math

import numpy as np

from taut.inequalities.concentration import paper_alpha
from taut.inequalities.mean import ordered_mean_interval
from taut.types import Interval


def block_interval(
    values: np.ndarray,
    *,
    low: float,
    high: float,
    delta_lower: float,
    delta_upper: float,
    method: str,
    sizes: np.ndarray | None = None,
) -> Interval:
    """Interval for the mean of independent blocks, with its own budget for each end.

    Args:
        values: One value per block, in draw order, shape (blocks,), any unit.
        low, high: Range of a block, known before the data, same unit; infinite only with
            method "normal".
        delta_lower, delta_upper: Probability that each end may miss; 0 gives the end of the range.
        method: "betting", "bernstein", "hoeffding", "paper"; or "mixture" for blocks that are
            not identically distributed, "normal" for an estimate without a guarantee.
        sizes: Rollouts per block, shape (blocks,), used by "paper" only; one each if absent.

    Raises:
        AssumptionError: No block, or a value outside [low, high].

    Source: theory §2.1-2.7.
    """
    if low == high or (method == "bernstein" and len(values) == 1):
        return Interval(low, high)  # nothing varies, or no variance can be had
    if method == "normal":
        return normal_interval(values, delta_lower, delta_upper)
    if method == "paper":
        return _paper(values, low, high, delta_lower, delta_upper, sizes)
    return ordered_mean_interval(
        values,
        low=low,
        high=high,
        delta_lower=delta_lower,
        delta_upper=delta_upper,
        method=method,
    )


def normal_interval(values: np.ndarray, delta_lower: float, delta_upper: float) -> Interval:
    """Clustered normal interval, any unit: what most tools report, and no guarantee.

    An end with delta 0 is infinite, and so are both for a single block. Source: theory §2.7.
    """
    from scipy.special import ndtri

    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    mean = math.fsum(values) / len(values)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    ends = [
        max(0.0, float(ndtri(1 - eta))) * error if eta > 0 else math.inf
        for eta in (delta_lower, delta_upper)
    ]
    return Interval(mean - ends[0], mean + ends[1])


def _paper(values, low, high, delta_lower, delta_upper, sizes) -> Interval:
    """Theorem 1 of the paper; an end that may miss with eta is an end of the two-sided 2 eta."""
    sizes = np.ones(len(values), dtype=np.int64) if sizes is None else sizes
    mean = math.fsum(values) / len(values)
    ends = [low, high]
    for index, (eta, sign) in enumerate(((delta_lower, -1), (delta_upper, +1))):
        if eta > 0:
            alpha = paper_alpha(len(values), sizes, min(2 * eta, 1 - 1e-12))
            ends[index] = mean + sign * (high - low) * alpha
    return Interval(max(low, ends[0]), min(high, ends[1]))


def predicted_half_width(
    values: np.ndarray, *, low: float, high: float, blocks: int, delta: float
) -> float:
    """Half-width that the betting interval will have, for choosing on the calibration split.

    A choice only: validity does not rest on it. See `half_width_forecast`.

    Args:
        values: Blocks of the calibration split, shape (calibration blocks,).
        low, high: Range of a block.
        blocks: Number of certifying blocks.
        delta: Error probability of both ends together.
    """
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) if len(values) > 1 else (high - low) ** 2 / 4
    return half_width_forecast(mean, variance, low=low, high=high, blocks=blocks, delta=delta)


def half_width_forecast(
    mean: float, variance: float, *, low: float, high: float, blocks: int, delta: float
) -> float:
    """Forecast the half-width of a betting interval, both ends at delta / 2; see `end_forecast`."""
    ends = (
        end_forecast(distance, variance, blocks=blocks, eta=delta / 2)
        for distance in (mean - low, high - mean)
    )
    return sum(ends) / 2


def end_forecast(distance, variance, *, blocks, eta):
    """Forecast how far one end of a betting interval will lie from the mean.

    The bet aims at sqrt(2T/(nV)) but may not exceed 1/distance, lest one block ruin the bettor.
    Where that cap binds, the end lies T d/n + V/(2d) away; far below it, as far as a normal one;
    in between the square of how near the cap is joins the two. It falls in the number of blocks and
    grows in the variance and the distance. A forecast only: no bound uses it.

    Args:
        distance: From the mean to the far end of the range, on the side of the end.
        variance: Variance of a block.
        blocks: Number of blocks.
        eta: Probability that the end may miss.

    All may be arrays; they broadcast.
    """
    from scipy.special import ndtri

    log_term = math.log(1 / eta)
    z = float(ndtri(1 - eta))
    # Of an infinite range nothing is known; a huge one says so without making NaN.
    distance = np.clip(distance, 1e-12, 1e150)
    variance = np.maximum(variance, 1e-12 * distance**2)
    strain = np.sqrt(2 * log_term / (blocks * variance)) * distance
    capped = log_term * distance / blocks + variance / (2 * distance)
    factor = z + strain**2 * (math.sqrt(2 * log_term) - z)
    return np.where(strain > 1, capped, factor * np.sqrt(variance / blocks))[()]

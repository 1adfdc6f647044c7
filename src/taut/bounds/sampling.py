"""The sampling term: what finitely many prompts and rollouts say about a mean (theory §2)."""

import math

import numpy as np

from taut.inequalities.concentration import paper_alpha
from taut.inequalities.mean import ordered_mean_interval
from taut.types import Interval

METHODS = ("betting", "bernstein", "hoeffding", "paper")


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


def _paper(values, low, high, delta_lower, delta_upper, sizes) -> Interval:
    """Theorem 1 of the paper; an end that may miss with eta is an end of the two-sided 2 eta."""
    sizes = np.ones(len(values), dtype=np.int64) if sizes is None else sizes
    mean = math.fsum(values) / len(values)
    ends = [low, high]
    for index, (eta, sign) in enumerate(((delta_lower, -1), (delta_upper, +1))):
        if eta > 0:
            alpha = paper_alpha(sizes=sizes, delta=min(2 * eta, 1 - 1e-12))
            ends[index] = mean + sign * (high - low) * alpha
    return Interval(max(low, ends[0]), min(high, ends[1]))


def predicted_half_width(variance: float, width: float, blocks: float, delta: float) -> float:
    """Half-width that the betting interval will have, for choosing on the calibration split.

    A normal half-width plus the price of the range; the constant 0.2 is read off theory,
    appendix A (a choice only: validity does not rest on it).

    Args:
        variance: Variance of a block, unit squared.
        width: Width of the range of a block.
        blocks: Number of certifying blocks.
        delta: Error probability of both ends together.
    """
    log_term = math.log(2 / delta)
    z = math.sqrt(2) * _erf_inverse(1 - delta)
    return z * math.sqrt(variance / blocks) + 0.2 * width * log_term / blocks


def _erf_inverse(value: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(value))

"""Closed-form intervals for the mean of independent bounded blocks: one theorem, one function.

Each function takes `side`: "both" splits delta evenly over two one-sided bounds; "lower" and
"upper" spend all of it on one end, and the other end is then the end of the range (theory §2.6).
No interval leaves [low, high], and the last rounding is always outward.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.divergence import kl_lower, kl_upper
from taut.inequalities.rounding import binary_scale, from_unit
from taut.types import Interval

Side = Literal["both", "lower", "upper"]
_SIDES = ("both", "lower", "upper")
_LEAST_DELTA = 1e-305  # below, its inverse and its halves are no longer ordinary numbers


def _any_scale(form: Callable[..., Interval]) -> Callable[..., Interval]:
    """Let a form see ranges of 1e308 or 1e-308 as ordinary ones; exact, by a power of two."""

    @functools.wraps(form)
    def scaled_form(
        blocks: np.ndarray, *, low: float, high: float, delta: float, side: Side = "both"
    ) -> Interval:
        values = bounded_blocks(blocks, low=low, high=high)
        exponent = binary_scale(low, high)
        if exponent == 0:
            return form(values, low=low, high=high, delta=delta, side=side)
        values, small, large = (np.ldexp(part, -exponent) for part in (values, low, high))
        found = form(values, low=float(small), high=float(large), delta=delta, side=side)
        lower, upper = (float(np.ldexp(end, exponent)) for end in (found.lower, found.upper))
        return Interval(max(low, lower), min(high, upper))

    return scaled_form


def paper_alpha(prompts: int, rollouts_per_prompt: float | np.ndarray, delta: float) -> float:
    """Return alpha of the paper's Theorem 1: its sampling term is (range width) * alpha.

    Args:
        prompts: Number of prompts n.
        rollouts_per_prompt: K, or one K_i per prompt, shape (prompts,).
        delta: Allowed probability of a miss, in (0, 1).

    Raises:
        AssumptionError: A count below 1, a wrong shape, or delta outside (0, 1).

    Source: theory §2.1; arXiv 2602.21765, Theorem 1. For unequal K, nK becomes n^2 / sum(1/K_i).
    """
    require_delta(delta)
    sizes = np.asarray(rollouts_per_prompt, dtype=np.float64)
    if not 1 <= prompts <= 2**63 or sizes.shape not in ((), (prompts,)) or not np.all(sizes >= 1):
        raise AssumptionError(
            f"expected at least one prompt, and at least one rollout for each of {prompts} "
            f"prompts, found shape {sizes.shape}; count the rollouts of every prompt."
        )
    inverse_total = float(np.mean(1.0 / sizes)) / prompts
    log_term = math.log(4.0 / delta)
    alpha = math.sqrt(log_term / (2.0 * prompts)) + math.sqrt(log_term * inverse_total / 2.0)
    return alpha * (1.0 + 1e-14)  # outward: a few roundings, and those of a mean


@_any_scale
def hoeffding(
    blocks: np.ndarray, *, low: float, high: float, delta: float, side: Side = "both"
) -> Interval:
    """Interval for the mean of independent variables in [low, high], by their range alone.

    Holds with probability at least 1 - delta. The variables need not have one law: then the
    interval is for the average of their means.

    Args:
        blocks: One value per prompt, shape (prompts,), reward units.
        low, high: Range known before the data, reward units.
        delta: Allowed probability of a miss, in (0, 1).
        side: Which end is needed.

    Raises:
        AssumptionError: No block, a value outside [low, high], or delta outside (0, 1).

    Source: theory §2.2; Hoeffding (1963).
    """
    require_delta(delta)
    values = bounded_blocks(blocks, low=low, high=high)

    def radius(eta: float) -> float:
        return (high - low) * math.sqrt(-math.log(eta) / (2.0 * len(values)))

    return _around(exact_mean(values), radius, low=low, high=high, delta=delta, side=side)


@_any_scale
def chernoff(
    blocks: np.ndarray, *, low: float, high: float, delta: float, side: Side = "both"
) -> Interval:
    """Interval for the mean of independent variables in [low, high]: kl(mean || q) <= budget.

    Never wider than `hoeffding`, on the same terms: arguments and errors as there.

    Source: theory §2.2; Chernoff (1952), Hoeffding (1963, Theorem 1).
    """
    require_delta(delta)
    values = bounded_blocks(blocks, low=low, high=high)
    # Mapped first: beside a range far from 0 the rounding of a mean would be large.
    mean = exact_mean((values - low) / (high - low))
    eta = delta / 2.0 if known_side(side) == "both" else delta
    budget = -math.log(eta) / len(values) * (1.0 + 1e-15)
    # The mean itself is rounded: each end starts from the side that cannot help it.
    lower = 0.0 if side == "upper" else float(kl_lower(max(mean - 1e-15, 0.0), budget))
    upper = 1.0 if side == "lower" else float(kl_upper(min(mean + 1e-15, 1.0), budget))
    return from_unit(lower, upper, low=low, high=high)


@_any_scale
def empirical_bernstein(
    blocks: np.ndarray, *, low: float, high: float, delta: float, side: Side = "both"
) -> Interval:
    """Interval for the mean of independent variables in [low, high], by their sample variance.

    Holds with probability at least 1 - delta.

    Args:
        blocks: One value per prompt, shape (prompts,), reward units.
        low, high: Range known before the data, reward units.
        delta: Allowed probability of a miss, in (0, 1).
        side: Which end is needed.

    Raises:
        AssumptionError: A value leaves [low, high], fewer than two prompts, or delta outside
            (0, 1).

    Source: theory §2.3; Maurer & Pontil (2009), Theorem 4, both sides at delta / 2.
    """
    require_delta(delta)
    values = bounded_blocks(blocks, low=low, high=high, at_least=2)
    n, mean = len(values), exact_mean(values)
    variance = _variance(values, mean)

    def radius(eta: float) -> float:
        log_term = math.log(2.0 / eta)
        slow = 7.0 * (high - low) * log_term / (3.0 * (n - 1))
        return math.sqrt(2.0 * variance * log_term / n) + slow

    return _around(mean, radius, low=low, high=high, delta=delta, side=side)


def clopper_pearson(
    blocks: np.ndarray, *, low: float = 0.0, high: float = 1.0, delta: float, side: Side = "both"
) -> Interval:
    """Exact binomial interval for the mean of independent draws that are all `low` or `high`.

    Args:
        blocks: One value per prompt, shape (prompts,), each exactly `low` or `high`.
        low, high: The two values, reward units.
        delta: Allowed probability of a miss, in (0, 1).
        side: Which end is needed.

    Raises:
        AssumptionError: No block, another value than the two, or delta outside (0, 1).

    Source: theory §2.4; Clopper & Pearson (1934).
    """
    require_delta(delta)
    values = bounded_blocks(blocks, low=low, high=high)
    hits = values == high
    if not np.all(hits | (values == low)):
        index = int(np.flatnonzero(~(hits | (values == low)))[0])
        raise AssumptionError(
            f"block {index} is {values[index]!r}; Clopper-Pearson needs values that are exactly "
            f"{low} or {high}. Use method='betting' for values in between."
        )
    n, k = len(values), int(hits.sum())
    eta = delta / 2.0 if known_side(side) == "both" else delta
    lower = 0.0 if side == "upper" else _binomial_lower(k, n, eta)
    # The complement's lower end keeps full accuracy where the upper end is near one.
    rest = 0.0 if side == "lower" else _binomial_lower(n - k, n, eta)
    return from_unit(lower, 1.0 - rest, low=low, high=high)


@_any_scale
def clustered_normal(
    blocks: np.ndarray, *, low: float, high: float, delta: float, side: Side = "both"
) -> Interval:
    """Normal interval from block means, for comparison only: it has no finite-sample guarantee.

    Arguments as in `empirical_bernstein`; two blocks or more.

    Source: theory §2.7.
    """
    from scipy.special import ndtri

    require_delta(delta)
    values = bounded_blocks(blocks, low=low, high=high, at_least=2)
    mean = exact_mean(values)
    error = math.sqrt(_variance(values, mean) / len(values))

    def radius(eta: float) -> float:
        return max(-float(ndtri(eta)), 0.0) * error

    return _around(mean, radius, low=low, high=high, delta=delta, side=side)


def bounded_blocks(blocks: np.ndarray, *, low: float, high: float, at_least: int = 1) -> np.ndarray:
    """Return blocks as float64 of shape (n,), or say which assumption they break.

    Args:
        blocks: One value per prompt, reward units.
        low, high: Declared range, reward units.
        at_least: Fewest blocks that the theorem allows.

    Raises:
        AssumptionError: Wrong shape or count, a value that is not finite or leaves [low, high],
            or an empty or infinite range.
    """
    if not (low < high and math.isfinite(high - low)):
        raise AssumptionError(
            f"range: expected finite low < high, found [{low}, {high}]; declare the range that "
            "every value keeps to, known before the data."
        )
    values = np.asarray(blocks, dtype=np.float64)
    if values.ndim != 1 or len(values) < at_least:
        raise AssumptionError(
            f"expected at least {at_least} block(s) in one dimension, found shape {values.shape}; "
            "give one value per prompt."
        )
    # min and max carry NaN, so that two passes check everything without a copy.
    if not (values.min() >= low and values.max() <= high):
        index = int(np.flatnonzero(~((values >= low) & (values <= high)))[0])
        raise AssumptionError(
            f"block {index} is {values[index]}; expected a finite value in [{low}, {high}]. "
            "Declare a wider range, or clip the scores before averaging and say so."
        )
    return values


def require_delta(delta: float) -> None:
    """Raise AssumptionError unless delta is a probability in [1e-305, 1)."""
    if not _LEAST_DELTA <= delta < 1.0:
        raise AssumptionError(
            f"delta: expected a probability of a miss in (0, 1), at least {_LEAST_DELTA}, found "
            f"{delta}; 0.05 is usual."
        )


def _around(
    centre: float,
    radius: Callable[[float], float],
    *,
    low: float,
    high: float,
    delta: float,
    side: Side,
) -> Interval:
    eta = delta / 2.0 if known_side(side) == "both" else delta
    reach = radius(eta) * (1.0 + 1e-14)
    slack = 4.0 * np.finfo(np.float64).eps * max(abs(low), abs(high))
    lower = low if side == "upper" else max(low, centre - reach - slack)
    upper = high if side == "lower" else min(high, centre + reach + slack)
    return Interval(float(lower), float(upper))


def known_side(side: str) -> str:
    """Return side, or raise AssumptionError where it is none of "both", "lower", "upper"."""
    if side not in _SIDES:
        raise AssumptionError(f"side: expected one of {_SIDES}, found {side!r}.")
    return side


def _binomial_lower(hits: int, n: int, eta: float) -> float:
    """Return p with P(Binomial(n, p) >= hits) just below eta, never above."""
    from scipy.special import betaincinv

    from taut.inequalities.tails import log_choose

    if hits == 0:
        return 0.0
    found = float(betaincinv(hits, n - hits + 1, eta))
    if found > 0.0:
        return found * (1.0 - 1e-13)  # the inverse is accurate to about 1e-14
    # It fails for tiny eta. There C(n, hits) p^hits, the mean number of hitting sets, is as good.
    log_ways = float(log_choose(n, hits))
    return math.exp((math.log(eta) - log_ways) / hits) * (1.0 - 1e-8)


def exact_mean(values: np.ndarray) -> float:
    """Return the mean, of a sum rounded once: no order of the values changes a byte."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(np.ldexp(values, -64)) / len(values) * 2.0**64


def _variance(values: np.ndarray, mean: float) -> float:
    return math.fsum(np.square(values - mean)) / (len(values) - 1)

"""The public primitive: an interval for a mean of bounded values, by the method of your choice."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Literal

import numpy as np

from taut.errors import UsageError
from taut.inequalities import concentration
from taut.inequalities.concentration import Side, bounded_blocks, exact_mean, require_delta
from taut.inequalities.rounding import binary_scale, from_unit
from taut.types import Interval

Method = Literal[
    "betting",
    "mixture",
    "anytime",
    "bernstein",
    "chernoff",
    "hoeffding",
    "clopper-pearson",
    "normal",
]
_CLOSED_FORMS = {
    "bernstein": concentration.empirical_bernstein,
    "chernoff": concentration.chernoff,
    "hoeffding": concentration.hoeffding,
    "clopper-pearson": concentration.clopper_pearson,
    "normal": concentration.clustered_normal,
}
_BETTING = ("betting", "mixture", "anytime")
_MANY = 200_000  # values from which on a second thread is worth starting


def mean_interval(
    x: np.ndarray,
    *,
    low: float,
    high: float,
    delta: float = 0.05,
    method: Method = "betting",
    side: Side = "both",
    seed: int = 0,
    keys: np.ndarray | None = None,
    binary: bool = False,
) -> Interval:
    """Interval for the mean of independent values in [low, high], valid at every sample size.

    The mean lies in it with probability at least 1 - delta, except for method "normal", which is
    for comparison only. Values must be independent draws: average the rollouts of one prompt first.

    Args:
        x: Values, shape (n,), n >= 1 ("bernstein" and "normal": n >= 2).
        low, high: Range that every value keeps to, known before the data; units of x.
        delta: Allowed probability of a miss, in (0, 1); one-sided bounds spend all of it.
        method: "betting" (default, the tightest), "mixture" (does not depend on the order; also
            for independent values whose laws differ, then about the average mean), "anytime"
            (x in arrival order; may be looked at after every value), "bernstein", "chernoff",
            "hoeffding", "clopper-pearson" (values that are all low or high), "normal".
        side: "both", or the one end that is needed: the other is then the end of the range.
        seed: Of the pseudo-random order in which "betting" takes the values. Fix it before the
            data: the best of several seeds misses too often.
        keys: Integer key of the draw that each value belongs to, shape (n,). Values with one key
            are one draw: they may depend on each other in any way, so their mean is taken, and the
            interval is about the mean over draws, each counted once, however many values it has.
            The order of "betting" hashes keys, so that the order of x does not matter ("anytime"
            takes draws by their first value). Default: each value is a draw.
        binary: Declares values that are all `low` or `high`: "betting" is then Clopper-Pearson.

    Raises:
        AssumptionError: A value is not finite or leaves [low, high], too few values, or delta is
            outside (0, 1).
        UsageError: Unknown method, or keys of another shape.

    Example:
        >>> mean_interval([0.2, 0.4, 0.3, 0.6], low=0, high=1).lower > 0
        True

    Source: theory §2.2-2.7.
    """
    if binary and method == "betting":
        method = "clopper-pearson"
    require_delta(delta)
    values = bounded_blocks(x, low=low, high=high)
    if keys is not None:
        values, keys = _draw_means(values, _integer_keys(keys, len(values)))
    if method == "betting":
        values = values[draw_order(len(values), seed=seed, keys=keys)]
    eta = delta / 2.0 if concentration.known_side(side) == "both" else delta
    return ordered_mean_interval(
        values,
        low=low,
        high=high,
        delta_lower=None if side == "upper" else eta,
        delta_upper=None if side == "lower" else eta,
        method=method,
    )


def ordered_mean_interval(
    x: np.ndarray,
    *,
    low: float,
    high: float,
    delta_lower: float | None,
    delta_upper: float | None,
    method: Method = "betting",
) -> Interval:
    """Interval for a mean from values already in draw order, with its own delta for each end.

    Args:
        x: Values in an order that does not depend on them (theory §2.4), shape (n,).
        low, high: Declared range, units of x.
        delta_lower, delta_upper: Allowed probability of a miss at each end; None or 0 where an
            end is not needed: it is then the end of the range.
        method: As in `mean_interval`.

    Raises:
        AssumptionError, UsageError: As in `mean_interval`.

    Source: theory §2.4, §2.6.
    """
    lower_eta, upper_eta = delta_lower or None, delta_upper or None
    for eta in (lower_eta, upper_eta):
        if eta is not None:
            require_delta(eta)
    if method in _CLOSED_FORMS:
        closed = _CLOSED_FORMS[method]
        lower, upper = low, high
        if lower_eta is not None:
            lower = closed(x, low=low, high=high, delta=lower_eta, side="lower").lower
        if upper_eta is not None:
            upper = closed(x, low=low, high=high, delta=upper_eta, side="upper").upper
        return Interval(float(lower), float(upper))
    if method not in _BETTING:
        known = ", ".join((*_BETTING, *_CLOSED_FORMS))
        raise UsageError(f"method: expected one of {known}, found {method!r}.")
    values = np.ascontiguousarray(bounded_blocks(x, low=low, high=high))
    exponent = binary_scale(low, high)
    if exponent:  # an inverse of the width would overflow
        small, large = (float(np.ldexp(end, -exponent)) for end in (low, high))
        found = ordered_mean_interval(
            np.ldexp(values, -exponent),
            low=small,
            high=large,
            delta_lower=delta_lower,
            delta_upper=delta_upper,
            method=method,
        )
        lower, upper = (float(np.ldexp(end, exponent)) for end in (found.lower, found.upper))
        return Interval(max(low, lower), min(high, upper))
    if method == "anytime":
        etas = np.array([lower_eta or 0.0, upper_eta or 0.0])
        lower, upper = _anytime_ends(values, np.array([len(values)]), low, high, etas)[0]
        return from_unit(min(lower, upper), max(lower, upper), low=low, high=high)
    width = high - low
    sides = ((low, 1.0 / width, lower_eta), (high, -1.0 / width, upper_eta))
    lower, upper = _both(lambda side: _betting_end(values, *side, method), sides, len(values))
    # At a large delta both ends may pass each other; any interval around them is still valid.
    return from_unit(min(lower, 1.0 - upper), max(lower, 1.0 - upper), low=low, high=high)


def draw_order(n: int, *, seed: int, keys: np.ndarray | None = None) -> np.ndarray:
    """Return indices that put n draws in a pseudo-random order given by (seed, key) alone.

    Args:
        n: Number of draws.
        seed: Any integer, fixed before the data.
        keys: Distinct integer keys, shape (n,); default: positions.

    Raises:
        UsageError: keys has another shape, is not of an integer type, or is not distinct.

    Source: theory §2.4.
    """
    keys = _integer_keys(np.arange(n) if keys is None else keys, n)
    start = _splitmix(np.array([seed % 2**64], dtype=np.uint64))
    places = _splitmix(keys ^ start)
    order = np.argsort(places)
    if np.any(places[order[1:]] == places[order[:-1]]):
        raise UsageError(
            "keys: expected a different one for each draw, found equal ones; average the values "
            "of one draw first (mean_interval does)."
        )
    return order


def _integer_keys(keys: np.ndarray, n: int) -> np.ndarray:
    """Return keys as uint64, or say what is wrong with them."""
    keys = np.asarray(keys)
    if keys.shape != (n,) or not np.issubdtype(keys.dtype, np.integer):
        raise UsageError(
            f"keys: expected {n} integers, one for each value, found shape {keys.shape} of "
            f"{keys.dtype}; hash other ids to integers first."
        )
    return keys.astype(np.uint64)


def _draw_means(values: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each key's values, by first appearance, and the keys.

    A mean is rounded once, of the sum, so that no order of rows changes a byte.
    """
    order = np.argsort(keys, kind="stable")
    new = np.append(True, np.diff(keys[order]) != 0)[: len(keys)]
    if new.all():
        return values, keys
    starts = np.append(np.flatnonzero(new), len(keys))
    ordered = values[order]
    means = np.array([exact_mean(ordered[a:b]) for a, b in pairwise(starts)])
    # Rounding may leave the values' own range by a unit in the last place.
    lowest = np.minimum.reduceat(ordered, starts[:-1])
    highest = np.maximum.reduceat(ordered, starts[:-1])
    firsts = order[starts[:-1]]
    arrival = np.argsort(firsts)
    return np.clip(means, lowest, highest)[arrival], keys[firsts][arrival]


def anytime_path(
    x: np.ndarray,
    *,
    low: float,
    high: float,
    delta: float = 0.05,
    side: Side = "both",
    times: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intervals after growing numbers of values, all of which hold at once.

    With probability at least 1 - delta the mean lies in every one of them, so that one may stop
    as soon as the interval is narrow enough. They only ever shrink.

    Args:
        x: Values in arrival order, shape (n,); independent draws with one mean.
        low, high: Declared range, units of x.
        delta: Allowed probability that any interval misses, in (0, 1).
        side: Which end is needed.
        times: Increasing numbers of values, each in 1..n; default: about 20 a decade, and n.

    Returns:
        times, lower ends, upper ends: each of shape (times,).

    Raises:
        AssumptionError: As in `mean_interval`.
        UsageError: times do not increase within 1..n.

    Source: theory §2.5; `taut.inequalities.anytime`.
    """
    require_delta(delta)
    values = np.ascontiguousarray(bounded_blocks(x, low=low, high=high))
    looks = _looks(len(values), times)
    ends = _anytime_ends(values, looks, low, high, side_etas(delta, side))
    path = [from_unit(*pair, low=low, high=high) for pair in ends]
    return looks, np.array([at.lower for at in path]), np.array([at.upper for at in path])


def side_etas(delta: float, side: Side) -> np.ndarray:
    """Return what the lower and the upper end may spend of delta, shape (2,); 0 is not needed."""
    eta = delta / 2.0 if concentration.known_side(side) == "both" else delta
    return np.array([0.0 if side == "upper" else eta, 0.0 if side == "lower" else eta])


def _anytime_ends(
    x: np.ndarray, looks: np.ndarray, low: float, high: float, etas: np.ndarray
) -> list[tuple[float, float]]:
    from taut.inequalities import anytime  # brings in the compiler: only when it is needed

    units, weights, ends = anytime.to_units(x, low, high), anytime.new_weights(), anytime.new_ends()
    found, before = [], 0
    for n in looks:
        anytime.extend(units[before:n], weights, ends, before=before, etas=etas)
        found.append(anytime.unit_ends(ends))
        before = int(n)
    return found


def _looks(n: int, times: np.ndarray | None) -> np.ndarray:
    if times is None:
        grid = np.floor(10.0 ** np.arange(0.0, math.log10(n), 0.05)).astype(np.int64)
        return np.unique(np.append(grid, n))
    looks = np.asarray(times, dtype=np.int64)
    if looks.ndim != 1 or len(looks) == 0 or looks[0] < 1 or looks[-1] > n:
        raise UsageError(f"times: expected counts in 1..{n}, found {times}.")
    if np.any(np.diff(looks) <= 0):
        raise UsageError(f"times: expected increasing counts, found {times}.")
    return looks


def _both(end, sides: tuple, size: int) -> list[float]:
    """Return both ends; of many values side by side, as compiled code leaves the lock alone."""
    if size < _MANY:
        return [end(side) for side in sides]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(end, sides))


def _betting_end(
    x: np.ndarray, origin: float, scale: float, eta: float | None, method: str
) -> float:
    if eta is None:
        return 0.0
    from taut.inequalities import betting  # brings in the compiler: only when it is needed

    end = betting.star_end if method == "betting" else betting.mixture_end
    return float(end(x, origin=origin, scale=scale, eta=eta))


def _splitmix(keys: np.ndarray) -> np.ndarray:
    """Return a bijective, well-mixed image of uint64 keys (the splitmix64 step)."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64(0x9E3779B97F4A7C15)
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z

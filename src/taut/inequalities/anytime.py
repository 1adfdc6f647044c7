"""Anytime intervals, one block at a time: valid whenever you look, in constant work and memory.

*One mean.* Let every block lie in [0, 1] with mean mu given the past. Against a candidate m bet the
constant shares f_k of the largest bet that cannot ruin, and mix:

    K_t(m) = sum_k p_k prod_{s <= t} (1 + f_k (x_s / m - 1)),   0 < f_k < 1,  sum_k p_k = 1.

Each product is a nonnegative martingale at m = mu that starts at one, so by Ville K_t(mu) ever
reaches 1/eta with probability at most eta. Each factor falls with m, so {m : K_s(m) >= 1/eta for
some s <= t} is an interval that begins at 0, and its end L_t = max over s of the root of K_s never
falls. Any reported end with K_s(end) >= 1/eta at some s <= t is valid, however it was found: mu <=
end would mean K_s(mu) >= 1/eta. So ends are looked for lazily, on candidates that may depend on the
data, and found to 1/256 of their distance from the sample mean.

*Constant memory.* The logarithm is concave: a block between two points of a fixed grid may be
replaced by its share at each of them (the same mean, a spread at most h^2/4 larger). That lowers
every fortune on every path, so ends stay valid. K_t(m) is then a function of the weights on the
grid, for any m, whatever the number of blocks; and as weights are whole numbers, it does not depend
on the order of the blocks. Only which blocks had come at each time does (through the maximum).

*Varying means.* If the law of the blocks drifts, no K_t(m) above bounds their average at all times:
at one fixed t the inequality of the means does it, but the candidate m = average of the means so
far moves with t, and a maximum over t compares different candidates. What is true: with predictable
centres c_s, xi = x_s - c_s > -1 and psi(f) = -ln(1-f) - f, Fan's inequality exp(f xi - psi(f) xi^2)
<= 1 + f xi gives E[exp(f xi - psi(f) xi^2) | past] <= 1 + f (mu_s - c_s) <= exp(f (mu_s - c_s)), so

    N_t = sum_k p_k exp(f_k sum_s (x_s - mu_s) - psi(f_k) sum_s (x_s - c_s)^2)

is a nonnegative supermartingale whatever the conditional means mu_s are, and it depends on them
through their sum alone. Its root bounds the running average (mu_1 + ... + mu_t) / t at all t at
once. That average moves, so these ends must not be intersected over time.

Source: theory §2.5; Ville (1939); Waudby-Smith & Ramdas (2024), mixtures of constant bets; Fan,
Grama & Liu (2015) and Howard, Ramdas, McAuliffe & Sekhon (2021), empirical Bernstein. The grid of
blocks, the grid of bets and the lazy end are ours.
"""

import math

import numba
import numpy as np

from taut.errors import AssumptionError

CELLS = 2048  # of the grid that blocks are spread over; a power of two, so that ends are exact
UNITS = 1 << 20  # whole numbers that one block is worth
ROUNDING = 0.5 / (CELLS * UNITS)  # blocks are rounded to units; ends move outward by as much

_STAKE = 0.99  # largest share of the fortune that one bet may lose
_RATIO = 1.6  # of neighbouring bets
_OCTAVES = 14  # the smallest bet suits about 10^8 blocks
_FINE = 256  # parts of the distance from end to sample mean to which the end is found
_FIRST = 2.0**-12  # first candidate: lower ends than that are reported as 0
_LEAST_LOG = -1e300
_LEAST_END = 1e-300  # of a candidate whose inverse is an ordinary number
_LEAST_ETA = 5e-324  # the smallest float above 0
NO_STOPS = np.array([np.inf, 0.0, -np.inf])

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def _bets() -> tuple[np.ndarray, np.ndarray]:
    """Return the bets f_k and ln p_k: weights fall like the square of the octave of the bet.

    The bet that suits n blocks of variance v against m is about m sqrt(2 ln(1/eta) / (n v)), so
    octaves are times: early times get more weight, and late ones pay 2 ln of their octave.
    """
    octaves = np.arange(math.floor(_OCTAVES / math.log2(_RATIO)) + 1) * math.log2(_RATIO)
    weights = (octaves + 1.0) ** -2.0
    return _STAKE * 2.0**-octaves, np.log(weights / weights.sum())


BETS, _LOG_WEIGHTS = _bets()
_PSI = -np.log1p(-BETS) - BETS


def new_weights() -> np.ndarray:
    """Return the weights of no blocks on the grid, int64, shape (CELLS + 1,)."""
    return np.zeros(CELLS + 1, dtype=np.int64)


def new_ends() -> np.ndarray:
    """Return the records of both ends before any block: end, candidate, its log-fortunes.

    Row 0 is the lower end, row 1 the upper one, measured downwards from 1; shape (2, 2 + bets).
    """
    records = np.zeros((2, 2 + len(BETS)))
    records[:, 1] = _FIRST
    return records


def log_goal(eta: float, n: int) -> float:
    """Return ln(1/eta) and a little more than rounding can add in n blocks."""
    _require_etas(eta)
    return 1e-9 + 1e-12 * n - math.log(eta)


def extend(
    units: np.ndarray,
    weights: np.ndarray,
    ends: np.ndarray,
    *,
    before: int,
    etas: np.ndarray,
    stops: np.ndarray | None = None,
) -> int:
    """Add some blocks, one after the other, and move both ends.

    Args:
        units: Blocks in whole units (`to_units`), in arrival order, shape (new blocks,).
        weights: On the grid, of the blocks before these; changed in place.
        ends: Records of both ends (`new_ends`); changed in place.
        before: Number of blocks before these.
        etas: Allowed probability that the mean is ever beyond the lower and the upper end; 0 where
            an end is not needed. Shape (2,).
        stops: Stop after the first block with the lower end at least stops[0] and the width at
            most stops[1], or with the upper end below stops[2], or with the ends past each other;
            None never stops.

    Returns:
        How many blocks were added.

    Source: module docstring, one mean.
    """
    with np.errstate(divide="ignore"):
        goals = -np.log(_require_etas(etas, least=0.0))
    watched = stops is not None
    stops = NO_STOPS if stops is None else np.asarray(stops, dtype=np.float64)
    return _extend(units, weights, ends, before, goals, watched, stops, BETS, _LOG_WEIGHTS)


def unit_ends(ends: np.ndarray) -> tuple[float, float]:
    """Return the lower and the upper end in [0, 1], moved outward by the rounding of blocks."""
    lower, upper = (max(0.0, float(end) - 2.0 * ROUNDING) for end in ends[:, 0])
    return lower, 1.0 - upper


def to_units(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Round blocks to whole units of [low, high], int64, shape (blocks,); outside is cut.

    Raises:
        AssumptionError: A NaN, or no finite range.
    """
    blocks = np.asarray(values, dtype=np.float64)
    if np.isnan(blocks).any() or not (low < high and math.isfinite(high - low)):
        raise AssumptionError(
            f"expected numbers and a finite range low < high, found [{low}, {high}] and "
            f"{int(np.isnan(blocks).sum())} NaN."
        )
    unit = np.clip((np.clip(blocks, low, high) - low) / (high - low), 0.0, 1.0)
    return np.rint(unit * (CELLS * UNITS)).astype(np.int64)


def log_fortune(weights: np.ndarray, candidate: float, *, upper: bool, most: int = 0) -> float:
    """Return ln K(candidate) of blocks, and of `most` more that are all as high as can be.

    Args:
        weights: On the grid, shape (CELLS + 1,).
        candidate: Mean to bet against, in (0, 1]; with `upper` that of the mirrored blocks.
        upper: Mirror the blocks.
        most: Further blocks, each 1 (with `upper`: 0): the best that can still come.

    Raises:
        AssumptionError: A candidate outside [1e-300, 1], or no count.
    """
    if not (_LEAST_END <= candidate <= 1.0 and 0 <= most < 2**63):
        raise AssumptionError(
            f"candidate: expected a mean in (0, 1] and a count, found {candidate} and {most}."
        )
    logs = np.empty(len(BETS))
    _all_logs(*_used(weights, upper), candidate, BETS, logs)
    logs += most * np.log1p(BETS * (1.0 / candidate - 1.0))
    return float(_log_sum(logs, _LOG_WEIGHTS))


def can_pass(weights: np.ndarray, end: float, *, eta: float, most: int, upper: bool) -> bool:
    """Whether some continuation by at most `most` blocks brings the end there, or beyond.

    Each factor is largest at every candidate when a block is 1, and then at least 1: so the
    fortune after `most` blocks of 1 is the largest that any continuation can have at any time.

    Args:
        weights, upper, most: As in `log_fortune`; at least one block, so far or to come.
        end: In [0, 1], of the mirrored blocks with `upper`.
        eta: Of the end, in (0, 1).
    """
    _require_etas(eta)
    if end < _LEAST_END:
        return True
    return end < 1.0 and log_fortune(weights, end, upper=upper, most=most) >= -math.log(eta)


def best_end(weights: np.ndarray, *, eta: float, most: int, upper: bool) -> float:
    """Return an end that no continuation by at most `most` blocks can pass; see `can_pass`."""
    inner, outer = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (inner + outer)
        if can_pass(weights, middle, eta=eta, most=most, upper=upper):
            inner = middle
        else:
            outer = middle
    return outer


def extend_varying(
    units: np.ndarray, sums: np.ndarray, *, before: int, etas: np.ndarray, goals: np.ndarray
) -> tuple[int, float, float]:
    """Add blocks whose means may vary, one after the other, until goals are met.

    Args:
        units: Blocks in whole units, in arrival order, shape (new blocks,).
        sums: The sum of the blocks, and of their squared distances from the mean of those before
            each (and one block of 1/2), on [0, 1]; changed in place, shape (2,).
        before: Number of blocks before these.
        etas: Allowed probability that the running average of the means is ever beyond the lower
            and the upper end; 0 where an end is not needed. Shape (2,).
        goals: Stop at the first block after which the lower end is at least goals[0] and the width
            at most goals[1]; a lower end of infinity never stops. Shape (2,).

    Returns:
        How many blocks were added, and the ends after the last one, in [0, 1].

    Source: module docstring, varying means.
    """
    etas = _require_etas(etas, least=0.0)
    return _extend_varying(units, sums, before, etas, goals, BETS, _LOG_WEIGHTS, _PSI)


def varying_distance(squares: float, n: int, eta: float) -> float:
    """Return how far the running average of n means may be from the sample mean on one side.

    Args:
        squares: Sum of squared distances from predictable centres; more of it is never nearer.
        n: Number of blocks, at least 1.
        eta: Allowed probability that this side ever fails; 0 gives infinity.
    """
    _require_etas(eta, least=0.0)
    if not (squares >= 0.0 and 1 <= n < 2**63):
        raise AssumptionError(f"expected squares >= 0 and n >= 1, found {squares} and {n}.")
    return float(_varying_distance(squares, n, eta, BETS, _LOG_WEIGHTS, _PSI))


def _require_etas(etas: np.ndarray | float, least: float = _LEAST_ETA) -> np.ndarray:
    """Return probabilities of a miss as float64, or say that they are none."""
    array = np.asarray(etas, dtype=np.float64)
    if not np.all((array >= least) & (array < 1.0)):
        raise AssumptionError(f"eta: expected probabilities of a miss in (0, 1), found {etas}.")
    return array


@_compiled
def _varying_distance(squares, n, eta, bets, log_weights, psi):
    if eta <= 0.0:
        return np.inf
    goal = -math.log(eta) + 1e-9 + 1e-12 * n
    inner, outer = 0.0, 1.0
    logs = np.empty(bets.size)
    for _ in range(45):
        middle = 0.5 * (inner + outer)
        for k in range(bets.size):
            logs[k] = bets[k] * n * middle - psi[k] * squares
        if _log_sum(logs, log_weights) >= goal:
            outer = middle
        else:
            inner = middle
    return outer + 2.0 * ROUNDING + 1e-12


@_compiled
def _extend_varying(units, sums, before, etas, goals, bets, log_weights, psi):
    lower, upper, done = 0.0, 1.0, 0
    wanted = goals[0] < np.inf
    for i in range(units.size):
        value = units[i] / (np.float64(CELLS) * UNITS)
        n = before + i + 1
        gap = value - (0.5 + sums[0]) / n
        sums[1] += gap * gap
        sums[0] += value
        done = i + 1
        if wanted or done == units.size:
            mean = sums[0] / n
            below = _varying_distance(sums[1], n, etas[0], bets, log_weights, psi)
            above = below
            if etas[0] != etas[1]:
                above = _varying_distance(sums[1], n, etas[1], bets, log_weights, psi)
            lower, upper = max(0.0, mean - below), min(1.0, mean + above)
            if wanted and lower >= goals[0] and upper - lower <= goals[1]:
                break
    return done, lower, upper


@_compiled
def _log_sum(logs, log_weights):
    most = _LEAST_LOG
    for k in range(logs.size):
        most = max(most, logs[k] + log_weights[k])
    total = 0.0
    for k in range(logs.size):
        total += math.exp(logs[k] + log_weights[k] - most)
    return most + math.log(total)


@_compiled
def _used(weights, upper):
    """Return the places on the grid that have weight, and how many blocks lie at each."""
    count = 0
    for j in range(weights.size):
        count += weights[j] > 0
    places, shares, at = np.empty(count), np.empty(count), 0
    for j in range(weights.size):
        if weights[j] > 0:
            places[at] = (weights.size - 1 - j if upper else j) / (weights.size - 1.0)
            shares[at] = weights[j] / np.float64(UNITS)
            at += 1
    return places, shares


@_compiled
def _all_logs(places, shares, candidate, bets, logs):
    """Fill the log-fortunes of each bet against a candidate, from the blocks on the grid."""
    logs[:] = 0.0
    for j in range(places.size):
        gain = places[j] / candidate - 1.0
        for k in range(bets.size):
            logs[k] += shares[j] * math.log(1.0 + bets[k] * gain)


@_compiled
def _extend(units, weights, ends, before, goals, watched, stops, bets, log_weights):
    cells = weights.size - 1
    total = 0  # of the blocks, in units
    for j in range(weights.size):
        total += weights[j] * j
    for i in range(units.size):
        cell = min(units[i] // UNITS, cells - 1)
        right = units[i] - cell * UNITS
        weights[cell] += UNITS - right
        weights[cell + 1] += right
        total += units[i]
        n = before + i + 1
        moved = i == 0
        for side in range(2):
            goal, end = goals[side] + 1e-9 + 1e-12 * n, ends[side]
            if goal < np.inf and _bet(end, cell, right, cells, side, bets, log_weights, goal):
                mean = total / (np.float64(cells) * UNITS * n)
                mean = 1.0 - mean if side else mean
                _raise_end(weights, end, mean, goal, side == 1, bets, log_weights)
                moved = True
        if watched and moved and _stops(ends, stops):
            return i + 1
    return units.size


@_compiled
def _stops(ends, stops):
    lower = max(0.0, ends[0, 0] - 2.0 * ROUNDING)
    upper = 1.0 - max(0.0, ends[1, 0] - 2.0 * ROUNDING)
    reached = lower >= stops[0] and upper - lower <= stops[1]
    return reached or upper < stops[2] or lower > upper


@_compiled
def _bet(end, cell, right, cells, upper, bets, log_weights, goal):
    """Add one block to the log-fortunes of the candidate; return whether it reaches the goal."""
    share_right = right / np.float64(UNITS)
    share_left = 1.0 - share_right
    at_left = (cells - cell if upper else cell) / np.float64(cells)
    at_right = (cells - cell - 1 if upper else cell + 1) / np.float64(cells)
    gain_left, gain_right = at_left / end[1] - 1.0, at_right / end[1] - 1.0
    logs = end[2:]
    most = _LEAST_LOG
    for k in range(bets.size):
        if share_left > 0.0:
            logs[k] += share_left * math.log(1.0 + bets[k] * gain_left)
        if share_right > 0.0:
            logs[k] += share_right * math.log(1.0 + bets[k] * gain_right)
        most = max(most, logs[k] + log_weights[k])
    # The sum of 21 terms is at most e^4 times the largest.
    return most + 4.0 >= goal and _log_sum(logs, log_weights) >= goal


@_compiled
def _raise_end(weights, end, mean, goal, upper, bets, log_weights):
    """Move the end past its candidate, which has reached the goal, and choose the next one.

    Steps double while they succeed and halve where they fail, down to 1/_FINE of the distance
    from the end to the sample mean, which no fortune reaches.
    """
    places, shares = _used(weights, upper)
    logs = end[2:]
    end[0] = end[1]
    step = (mean - end[0]) / _FINE
    grow = True
    while True:
        # A step that rounding swallows would go on for ever.
        fine = max((mean - end[0]) / _FINE, 1e-15)
        step = max(step, fine)
        end[1] = end[0] + step
        _all_logs(places, shares, end[1], bets, logs)
        if _log_sum(logs, log_weights) >= goal:
            end[0] = end[1]
            step = 2.0 * step if grow else 0.5 * step
        elif step <= fine:
            break
        else:
            grow = False
            step *= 0.5

"""Betting intervals for the mean of bounded blocks: a fortune that grows only if the mean is wrong.

Against each candidate mean m one bets that the next block exceeds m. If m is at least the true mean
the fortune is a supermartingale that starts at one, so it ever reaches 1/eta with probability at
most eta (Ville). Every m whose fortune got there is excluded; the lower end is where that stops.

All functions here are for the *lower* end; the upper end is the lower end of the mirrored data.
Two one-sided ends at eta = delta/2 each give an interval (theory §2.4).
"""

import math

import numba
import numpy as np

from taut.errors import AssumptionError

_LANES = 16  # candidates that one pass over the data tries at once: two AVX-512 registers
_ROUNDS = 6  # 17^6 = 2e7 parts of a cell: far below any statistical error
_STAKE = 0.99  # largest share of the fortune that one bet may lose
_DEAD = 1e-250  # smaller fortunes count as lost: they could only return by rounding
_LEAD_SHARE = 16  # from `_LEARN` blocks on, the first n/16 blocks place the cells
_LEARN = 256
_CELL = 0.25  # width of the cells around the expected end, in standard errors


def star_lower(x: np.ndarray, eta: float) -> float:
    """Return a lower end for the mean of blocks in [0, 1], taken in draw order.

    The mean lies below it with probability at most eta. The bets are STaR bets (they re-aim at
    the goal 1/eta before each block) frozen within cells of candidate means: inside a cell the
    fortune falls with m, so that scanning the cells finds the exact end of the confidence set.

    Args:
        x: Blocks in [0, 1], shape (n,), n >= 1, in an order that does not depend on their values.
        eta: Allowed probability of a miss on this side, in (0, 1).

    Raises:
        AssumptionError: A block leaves [0, 1], there is none, or eta is outside (0, 1).

    Source: theory §2.4 and appendix A; Waudby-Smith & Ramdas (2024); Voráček & Orabona (2025).
    """
    blocks = _unit_blocks(x, eta)
    return star_end(blocks, origin=0.0, scale=1.0, eta=eta)


def star_end(x: np.ndarray, *, origin: float, scale: float, eta: float) -> float:
    """Return the lower end for z = (x - origin) * scale, which must lie in [0, 1] up to rounding.

    With origin = high and scale = -1/(high - low) this is the upper end, measured downwards from
    high. Blocks are mapped while they are read, so no second copy of the data is made.
    """
    lead = len(x) // _LEAD_SHARE if len(x) >= _LEARN else 0
    edges = _cells(len(x), (x[:lead] - origin) * scale)
    end = _scan(x, origin, scale, math.log(1.0 / eta) + _slack(len(x)), lead, edges)
    return max(0.0, end - 8.0 * np.finfo(np.float64).eps)


def _slack(n: int) -> float:
    """Return what rounding could add to a log-fortune: at most 1e-13 a factor, factors >= 0.01."""
    return 1e-9 + 1e-13 * n


def _unit_blocks(x: np.ndarray, eta: float) -> np.ndarray:
    blocks = np.ascontiguousarray(x, dtype=np.float64)
    if blocks.ndim != 1 or len(blocks) == 0:
        raise AssumptionError(f"expected one or more blocks in one dimension, found {blocks.shape}")
    if not (blocks.min() >= 0.0 and blocks.max() <= 1.0):
        index = int(np.flatnonzero(~((blocks >= 0.0) & (blocks <= 1.0)))[0])
        raise AssumptionError(
            f"block {index} is {blocks[index]}; expected a value in [0, 1]. Map the declared range "
            "to [0, 1] first, or call mean_interval."
        )
    if not 0.0 < eta < 1.0:
        raise AssumptionError(f"eta: expected a probability of a miss in (0, 1), found {eta}.")
    return blocks


def _cells(n: int, lead: np.ndarray) -> np.ndarray:
    """Return cell edges 0 = e_0 < ... < e_G = 1 for n blocks, from the leading blocks alone."""
    coarse = np.sin(np.linspace(0.0, np.pi / 2.0, 1025 if len(lead) == 0 else 129)) ** 2
    coarse[0], coarse[-1] = 0.0, 1.0
    if len(lead) == 0:
        return coarse
    centre = min(max(float(lead.mean()), 0.0), 1.0)
    variance = float(lead.var()) + 0.25 / len(lead)
    error = math.sqrt(variance / n)
    reach = 3.5 * math.sqrt(variance / len(lead)) + 3.0 * error
    fine = np.arange(-math.ceil(reach / (_CELL * error)), math.ceil(reach / (_CELL * error)) + 1)
    outward = reach * 1.25 ** np.arange(1.0, 64.0)
    near = centre + np.concatenate([-outward, fine * (_CELL * error), outward])
    return np.unique(np.concatenate([coarse, near[(near > 0.0) & (near < 1.0)]]))


@numba.njit(cache=True, nogil=True)
def _unit(value, origin, scale):
    return min(max((value - origin) * scale, 0.0), 1.0)


@numba.njit(cache=True, nogil=True)
def _lead_bet(t, n, log_goal, spread):
    """Bet of the leading blocks: the same for every candidate, from the running spread alone."""
    if t == 0:
        return 0.0
    moment = min(0.25, (spread + 0.3 * math.log(n)) / t)
    return min(math.sqrt(2.0 * log_goal / (n * moment)), _STAKE)


@numba.njit(cache=True, nogil=True)
def _cell_bet(t, n, log_missing, ref, squares):
    """Bet of one cell: reach the goal at block n, from what is missing and squares about `ref`."""
    moment = ref * (1.0 - ref)
    if t > 0:
        moment = min(moment, (squares + 0.2 * math.log(n) * ref) / t)
    moment = max(moment, 1e-12)
    bet = math.sqrt(2.0 * max(log_missing, 0.0) / ((n - t) * moment))
    return min(bet, _STAKE / ref)


@numba.njit(cache=True, nogil=True)
def _pass(x, origin, scale, log_goal, lead, ref, lanes, bets):
    """Return how many of the increasing candidates `lanes` (all <= ref) reach the goal.

    Bets are made for `ref`, the upper edge of the cell, and shared by all its candidates. They are
    written to `bets` where it has room (for tests); one pass needs no other memory.
    """
    n = x.size
    goal = math.exp(log_goal)
    fortune = np.ones(_LANES)
    reached = 0
    log_fortune = 0.0  # of the candidate m = ref
    squares = 0.0  # about ref
    mean = 0.5
    spread = 0.0  # about the running mean
    for t in range(n):
        if t < lead:
            bet = _lead_bet(t, n, log_goal, spread)
        else:
            bet = _cell_bet(t, n, log_goal - log_fortune, ref, squares)
        if t < bets.size:
            bets[t] = bet
        z = _unit(x[t], origin, scale)
        for j in range(_LANES):
            grown = fortune[j] * (1.0 + bet * (z - lanes[j]))
            fortune[j] = grown if grown > _DEAD else 0.0
        while reached < _LANES and fortune[reached] >= goal:
            reached += 1
        if reached == _LANES:
            break
        log_fortune += math.log(1.0 + bet * (z - ref))
        squares += (z - ref) ** 2
        if t < lead:
            step = z - mean
            mean += step / (t + 2.0)
            spread += step * (z - mean)
    return reached


@numba.njit(cache=True, nogil=True)
def _scan(x, origin, scale, log_goal, lead, edges):
    """Return the largest candidate below which every candidate of every cell reaches the goal."""
    lanes = np.empty(_LANES)
    none = np.empty(0)
    for g in range(1, edges.size):
        ref = edges[g]
        lanes[:] = ref
        if _pass(x, origin, scale, log_goal, lead, ref, lanes, none) == _LANES:
            continue
        inner, outer = edges[g - 1], ref
        for _ in range(_ROUNDS):
            step = (outer - inner) / (_LANES + 1)
            for j in range(_LANES):
                lanes[j] = inner + (j + 1) * step
            reached = _pass(x, origin, scale, log_goal, lead, ref, lanes, none)
            if reached < _LANES:
                outer = lanes[reached]
            if reached > 0:
                inner = lanes[reached - 1]
        return inner
    return edges[-2]


def mixture_lower(x: np.ndarray, eta: float) -> float:
    """Return a lower end for the average mean of independent blocks in [0, 1]; no order matters.

    The fortune sum_k p_k prod_t (1 + min(lambda_k, c/m) (x_t - m)) bets constants, so it does not
    depend on the order of the blocks; by the inequality of the means its expectation is at most
    one when m is the average of the blocks' means, whatever the single means are.

    Args:
        x: Blocks in [0, 1], shape (n,), n >= 1; independent, their laws may differ.
        eta: Allowed probability of a miss on this side, in (0, 1).

    Raises:
        AssumptionError: A block leaves [0, 1], there is none, or eta is outside (0, 1).

    Source: theory §2.5; Waudby-Smith & Ramdas (2024), diversified bets. The grid of bets is ours:
    it depends on n and eta only.
    """
    # Sorted, so that equal data in another order give equal bytes.
    return mixture_end(_unit_blocks(x, eta), origin=0.0, scale=1.0, eta=eta)


def mixture_end(x: np.ndarray, *, origin: float, scale: float, eta: float) -> float:
    """Return the `mixture_lower` end for z = (x - origin) * scale; see `star_end`."""
    ordered = np.sort(x)
    bets = mixture_bets(len(x), eta)
    goal = math.log(1.0 / eta) + math.log(len(bets)) + _slack(len(x))
    inner, outer = 0.0, 1.0
    while outer - inner > 1e-13:
        middle = 0.5 * (inner + outer)
        if _mixture_reaches(ordered, origin, scale, middle, bets, goal):
            inner = middle
        else:
            outer = middle
    return max(0.0, inner - 8.0 * np.finfo(np.float64).eps)


def mixture_bets(n: int, eta: float) -> np.ndarray:
    """Return the constant bets of the mixture: geometric, for variances from 1/4 down to 1/n."""
    widest = math.sqrt(8.0 * math.log(1.0 / eta) / n)  # aimed at variance 1/4, the largest
    steps = max(1, math.ceil(math.log(max(math.sqrt(n), 2.0), 2.0)))
    return widest * 2.0 ** np.arange(steps)


@numba.njit(cache=True, nogil=True)
def _mixture_reaches(x, origin, scale, m, bets, goal):
    """Say whether the summed fortunes at candidate m reach exp(goal)."""
    logs = np.zeros(bets.size)
    for k in range(bets.size):
        bet = min(bets[k], _STAKE / m)
        product = 1.0
        for t in range(x.size):
            product *= 1.0 + bet * (_unit(x[t], origin, scale) - m)
            if product < 1e-100 or product > 1e100:
                logs[k] += math.log(product)
                product = 1.0
        logs[k] += math.log(product)
    top = logs.max()
    return top + math.log(np.exp(logs - top).sum()) >= goal


def anytime_end(
    x: np.ndarray, times: np.ndarray, *, origin: float, scale: float, eta: float
) -> np.ndarray:
    """Return running lower ends for z = (x - origin) * scale, valid at all times at once.

    Args:
        x: Blocks in arrival order, shape (n,).
        times: Increasing counts of blocks, each in 1..n, at which the end is wanted.
        origin, scale: Map to [0, 1]; see `star_end`.
        eta: Allowed probability that the mean ever lies below an end.

    Returns:
        Ends, shape (times,), never falling.

    Source: theory §2.5; Waudby-Smith & Ramdas (2024), predictable plug-in bets.
    """
    log_goal = math.log(1.0 / eta) + _slack(len(x))
    ends = _anytime_scan(x, np.asarray(times, dtype=np.int64), origin, scale, log_goal)
    return np.maximum(0.0, ends - 8.0 * np.finfo(np.float64).eps)


@numba.njit(cache=True, nogil=True)
def _anytime_bet(t, log_goal, spread):
    """Bet on block t (from 0): it aims at no fixed end, so that it may be looked at for ever."""
    variance = (0.25 + spread) / (t + 1.0)
    return math.sqrt(2.0 * log_goal / (variance * (t + 1.0) * math.log(t + 2.0)))


@numba.njit(cache=True, nogil=True)
def _anytime_pass(x, stop, origin, scale, log_goal, lanes, bets):
    """Return how many of the increasing candidates `lanes` reach the goal within `stop` blocks."""
    goal = math.exp(log_goal)
    fortune = np.ones(_LANES)
    reached = 0
    mean = 0.5
    spread = 0.0
    for t in range(stop):
        bet = _anytime_bet(t, log_goal, spread)
        if t < bets.size:
            bets[t] = bet
        z = _unit(x[t], origin, scale)
        for j in range(_LANES):
            grown = fortune[j] * (1.0 + min(bet, _STAKE / lanes[j]) * (z - lanes[j]))
            fortune[j] = grown if grown > _DEAD else 0.0
        while reached < _LANES and fortune[reached] >= goal:
            reached += 1
        if reached == _LANES:
            break
        step = z - mean
        mean += step / (t + 2.0)
        spread += step * (z - mean)
    return reached


@numba.njit(cache=True, nogil=True)
def _anytime_scan(x, times, origin, scale, log_goal):
    """Return the largest candidate that reached the goal by each of the times."""
    ends = np.empty(times.size)
    lanes = np.empty(_LANES)
    none = np.empty(0)
    found = 0.0
    for i in range(times.size):
        inner, outer = found, 1.0
        for _ in range(_ROUNDS + 2):
            step = (outer - inner) / (_LANES + 1)
            for j in range(_LANES):
                lanes[j] = inner + (j + 1) * step
            reached = _anytime_pass(x, times[i], origin, scale, log_goal, lanes, none)
            if reached < _LANES:
                outer = lanes[reached]
            if reached > 0:
                inner = lanes[reached - 1]
        found = inner
        ends[i] = found
    return ends

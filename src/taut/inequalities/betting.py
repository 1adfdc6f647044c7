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

_LANES = 64  # candidates that one pass over a cell tries at once
_GROUP = 32  # cells that one pass of the scan tests at once
_ROUNDS = 2  # 65^2 = 4,225 parts of a cell: far below any statistical error
_STAKE = 0.99  # largest share of the fortune that one bet may lose
_DEAD = 1e-250  # smaller fortunes count as lost: they could only return by rounding
_LEAST_ETA = 1e-200  # below, a fortune of 1/eta leaves no room to compute: the end is trivial
_OFF = 1e-9  # how far rounding may bring a block outside [0, 1]
_LEAST_VARIANCE = 1e-12  # keeps the bets against m = 1 finite
_LEAD_SHARE = 32  # from `_LEARN` blocks on, the first n/32 blocks place the cells
_LEARN = 512
_CELL = 0.125  # width of the cells around the expected end, in standard errors
_ZERO, _ONE, _TWO, _FOUR, _TWELVE = np.float32([0.0, 1.0, 2.0, 4.0, 12.0])

# Division by zero cannot happen below; checking for it would keep loops from running abreast.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def star_lower(x: np.ndarray, eta: float) -> float:
    """Return a lower end for the mean of blocks in [0, 1], taken in draw order.

    The mean lies below it with probability at most eta. The bets are STaR bets (they re-aim at
    the goal 1/eta before each block; see `_aimed_bet` for what is ours), the same within a cell of
    candidate means. Inside a cell the fortune therefore falls with m, and scanning the cells from
    below finds the end of the confidence set, to 1/4,000 of a cell and never above it.

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
    _require_unit(x, origin, scale, eta)
    if eta < _LEAST_ETA:
        return 0.0
    end = _scan(x, origin, scale, _goal(len(x), eta), *_plan(x, origin, scale))
    return max(0.0, end - 8.0 * np.finfo(np.float64).eps)


def star_bets(x: np.ndarray, eta: float, m: float) -> np.ndarray:
    """Return the bets that `star_lower` makes against candidate mean m, for inspection.

    Args:
        x: Blocks in [0, 1] in draw order, shape (n,).
        eta: Allowed probability of a miss on this side, in (0, 1).
        m: Candidate mean, in (0, 1).

    Returns:
        Shares of the fortune per unit of (x - m), shape (n,); 0 from when the goal is reached.

    Raises:
        AssumptionError: As in `star_lower`.

    Source: theory §2.4.
    """
    blocks = _unit_blocks(x, eta)
    lead, edges = _plan(blocks, 0.0, 1.0)
    edge = edges[np.searchsorted(edges, m)]
    goal = _goal(len(blocks), eta)
    shared = np.empty(lead)
    _lead_bets(blocks, 0.0, 1.0, 1.0 / _target(len(blocks), goal), shared)
    record = np.zeros(len(blocks))
    _reached_in_cell(blocks, 0.0, 1.0, goal, shared, edge, np.array([m]), record)
    return record


def _plan(x: np.ndarray, origin: float, scale: float) -> tuple[int, np.ndarray]:
    """Return how many blocks lead, and the cell edges that they fix."""
    lead = len(x) // _LEAD_SHARE if len(x) >= _LEARN else 0
    return lead, _cells(len(x), (x[:lead] - origin) * scale)


def _goal(n: int, eta: float) -> float:
    return math.exp(_slack(n) - math.log(eta))


def _slack(n: int) -> float:
    """Return more than rounding can add to a log-fortune: factors are at least 0.01."""
    return 1e-9 + 1e-12 * n


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


def _require_unit(x: np.ndarray, origin: float, scale: float, eta: float) -> None:
    """Raise AssumptionError unless (x - origin) * scale lies in [0, 1] up to rounding."""
    ends = [(float(end) - origin) * scale for end in (x.min(), x.max())] if len(x) else [math.nan]
    if not all(-_OFF <= end <= 1.0 + _OFF for end in ends):
        raise AssumptionError(
            f"expected blocks with (x - {origin}) * {scale} in [0, 1], found {ends}; scale the "
            "range by a power of two where its inverse overflows."
        )
    if not 0.0 < eta < 1.0:
        raise AssumptionError(f"eta: expected a probability of a miss in (0, 1), found {eta}.")


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


@_compiled
def _unit(value, origin, scale):
    return min(max((value - origin) * scale, 0.0), 1.0)


@_compiled
def _target(n, goal):
    """Return the fortune that bets aim at: a little above the goal, or they would fade before."""
    return goal * math.exp(min(0.15, 1.5 * n ** (-1.0 / 3.0)))


@_compiled
def _caution(n):
    return min(1.0, math.sqrt(n) / 50.0)


@_compiled
def _aimed_bet(share, caution, rate, moments):
    """Return the bet that aims at the target from this share of it.

    The bet is sqrt(h * rate / moments), where rate / moments is 1 over (blocks left * second
    moment). With s = ln(1/share) missing, h = 2 s gives the STaR bet. For many blocks the fortune
    that wins most often replicates a binary option on a Brownian motion (Neyman & Pearson), and
    h = 2 s^2 / (s + 1) is close to it: caution goes from the first to the second as n grows.
    s itself is over / under, the Pade approximant of the logarithm in share^(1/4), within 1% down
    to 1e-3: any rule is valid, and without a library's logarithm the same data give the same
    bets to the last bit, one cell at a time or many abreast.
    """
    # Single precision: twice the cells abreast, and a bet need not be exact, only made in time.
    root = np.sqrt(np.float32(share))
    over = max(_TWELVE * (_ONE - root), _ZERO)  # zero for a cell that is done and rides along
    under = _ONE + root + _FOUR * np.sqrt(root)
    missing = np.float32(rate) * _TWO * over * over
    return np.sqrt(missing / (under * (over + np.float32(caution) * under) * np.float32(moments)))


@_compiled
def _prior(n, ref):
    """Return what the sum of squares starts from: a guard against what has not been seen yet."""
    return (0.1 + 0.2 * ref) * ref * math.log1p(n)


@_compiled
def _lead_bets(x, origin, scale, share, bets):
    """Fill the leading bets, the same for every candidate: from the running spread alone."""
    n = x.size
    caution = _caution(n)
    mean = 0.5
    spread = 0.0
    for t in range(bets.size):
        moments = min(0.25 * (t + 1.0), spread + _prior(n, 1.0))
        bets[t] = min(_aimed_bet(share, caution, (t + 1.0) / (n - t), moments), _STAKE)
        z = _unit(x[t], origin, scale)
        step = z - mean
        mean += step / (t + 2.0)
        spread += step * (z - mean)


@_compiled
def _reached_in_cell(x, origin, scale, goal, lead, ref, lanes, record):
    """Return how many of the increasing candidates `lanes` (all <= ref) reach the goal.

    Bets are made for `ref`, the upper edge of the cell, and shared by all its candidates. The
    bets are written to `record` where it has room (for tests).
    """
    n = x.size
    caution = _caution(n)
    per_target = 1.0 / _target(n, goal)
    prior = _prior(n, ref)
    variance = max(ref * (1.0 - ref), _LEAST_VARIANCE)
    cap = _STAKE / ref
    fortunes = np.ones(lanes.size)
    reached = 0
    fortune = 1.0  # of the candidate m = ref
    squares = 0.0  # about ref
    for t in range(n):
        if t < lead.size:
            bet = lead[t]
        else:
            rate = (t + 1.0) / (n - t)
            moments = min(variance * (t + 1.0), squares + prior)
            bet = min(np.float64(_aimed_bet(fortune * per_target, caution, rate, moments)), cap)
        if t < record.size:
            record[t] = bet
        z = _unit(x[t], origin, scale)
        for j in range(lanes.size):
            grown = fortunes[j] * (1.0 + bet * (z - lanes[j]))
            fortunes[j] = grown if grown > _DEAD else 0.0
        while reached < lanes.size and fortunes[reached] >= goal:
            reached += 1
        if reached == lanes.size:
            break
        gap = z - ref
        grown = fortune * (1.0 + bet * gap)
        fortune = grown if grown > _DEAD else 0.0
        squares += gap * gap
    return reached


@_compiled
def _reached_edges(x, origin, scale, goal, lead, refs):
    """Return how many leading cells, given by their upper edges `refs`, reach the goal there.

    The bets of `_reached_in_cell`, to the last bit, for several cells abreast.
    """
    n = x.size
    size = refs.size
    caution = _caution(n)
    per_target = 1.0 / _target(n, goal)
    priors = _prior(n, refs)
    variances = np.maximum(refs * (1.0 - refs), _LEAST_VARIANCE)
    caps = _STAKE / refs
    bets = np.empty(size)
    fortunes = np.ones(size)
    peaks = np.ones(size)
    squares = np.zeros(size)
    for t in range(n):
        if t < lead.size:
            bets[:] = lead[t]
        else:
            rate = (t + 1.0) / (n - t)
            for j in range(size):
                moments = min(variances[j] * (t + 1.0), squares[j] + priors[j])
                bet = _aimed_bet(fortunes[j] * per_target, caution, rate, moments)
                bets[j] = min(np.float64(bet), caps[j])
        z = _unit(x[t], origin, scale)
        for j in range(size):
            gap = z - refs[j]
            grown = fortunes[j] * (1.0 + bets[j] * gap)
            fortunes[j] = grown if grown > _DEAD else 0.0
            peaks[j] = max(peaks[j], fortunes[j])
            squares[j] += gap * gap
        if t % 16 == 15 and peaks.min() >= goal:
            break
    reached = 0
    while reached < size and peaks[reached] >= goal:
        reached += 1
    return reached


@_compiled
def _scan(x, origin, scale, goal, n_lead, edges):
    """Return the largest candidate below which every candidate of every cell reaches the goal."""
    lead = np.empty(n_lead)
    _lead_bets(x, origin, scale, 1.0 / _target(x.size, goal), lead)
    g = 1
    while g < edges.size - 1:
        refs = edges[g : min(g + _GROUP, edges.size - 1)]
        reached = _reached_edges(x, origin, scale, goal, lead, refs)
        g += reached
        if reached < refs.size:
            break
    inner, outer = edges[g - 1], edges[g]
    lanes = np.empty(_LANES)
    for _ in range(_ROUNDS):
        step = (outer - inner) / (_LANES + 1)
        for j in range(_LANES):
            lanes[j] = inner + (j + 1) * step
        reached = _reached_in_cell(x, origin, scale, goal, lead, edges[g], lanes, np.empty(0))
        if reached < _LANES:
            outer = lanes[reached]
        if reached > 0:
            inner = lanes[reached - 1]
    return inner


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
    _require_unit(x, origin, scale, eta)
    ordered = np.sort(x)
    bets, weights = mixture_bets(len(x), eta)
    goal = _slack(len(x)) - math.log(eta)
    # The fortune is at most its start of one at the sample mean, so the end lies below that.
    top = min(max(float(np.mean((ordered - origin) * scale)) + 1e-12, 0.0), 1.0)
    end = _mixture_root(ordered, origin, scale, top, bets, np.log(weights), goal)
    return max(0.0, end - 8.0 * np.finfo(np.float64).eps)


def mixture_bets(n: int, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the constant bets of the mixture and their weights, which sum to one.

    The bets double from one aimed at variance 1/4, the largest, to one aimed at about 1/n. They
    depend on n and eta alone; the weights fall slowly, as rewards rarely have a tiny variance.

    Raises:
        AssumptionError: n below 1, or eta outside (0, 1).
    """
    if not (1 <= n < 2**63 and 0.0 < eta < 1.0):
        raise AssumptionError(f"expected n >= 1 and eta in (0, 1), found {n} and {eta}.")
    steps = 1 + max(1, math.ceil(0.5 * math.log2(n)))
    widest = math.sqrt(8.0 * (1.0 - math.log(eta)) / n)
    weights = (np.arange(steps) + 3.0) ** -1.5
    return widest * 2.0 ** np.arange(steps), weights / weights.sum()


@_compiled
def _mixture_root(x, origin, scale, top, bets, log_weights, goal):
    """Return the largest tried candidate whose log-fortune reaches the goal."""
    outer, below = top, -goal
    gap = 0.25 / math.sqrt(x.size)
    while True:  # walk down from the top until a candidate reaches the goal
        inner = max(outer - gap, 0.25 * outer)
        if inner < 1e-12:
            return 0.0
        above = _mixture_log(x, origin, scale, inner, bets, log_weights) - goal
        if above >= 0.0:
            break
        outer, below = inner, above
        gap *= 2.0
    kept = 0  # which end stayed last time: +1 inner, -1 outer (the Illinois rule)
    for _ in range(100):
        if outer - inner <= 1e-15 + 1e-12 * outer:
            break
        share = min(max(above / (above - below), 1e-3), 1.0 - 1e-3)
        middle = inner + share * (outer - inner)
        value = _mixture_log(x, origin, scale, middle, bets, log_weights) - goal
        if value >= 0.0:
            inner, above = middle, value
            below *= 0.5 if kept == -1 else 1.0
            kept = -1
        else:
            outer, below = middle, value
            above *= 0.5 if kept == 1 else 1.0
            kept = 1
    return inner


@_compiled
def _mixture_log(x, origin, scale, m, bets, log_weights):
    """Return the logarithm of the weighted sum of fortunes at candidate m."""
    size = bets.size
    held = np.minimum(bets, _STAKE / m)
    logs = log_weights.copy()
    products = np.ones(size)
    for t in range(x.size):
        gap = _unit(x[t], origin, scale) - m
        for k in range(size):
            products[k] *= 1.0 + held[k] * gap
        if t % 32 == 31:  # one factor is at least 0.01: no product of 32 leaves the range
            logs += np.log(products)
            products[:] = 1.0
    logs += np.log(products)
    most = logs.max()
    return most + math.log(np.exp(logs - most).sum())

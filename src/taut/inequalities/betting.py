"""Betting intervals for the mean of bounded blocks: a fortune that grows only if the mean is wrong.

Against each candidate mean m one bets that the next block exceeds m. If m is at least the true mean
the fortune is a supermartingale that starts at one, so it ever reaches 1/eta with probability at
most eta (Ville). Every m whose fortune got there is excluded; the lower end is where that stops.

All functions here are for the *lower* end; the upper end is the lower end of the mirrored data.
Two one-sided ends at eta = delta/2 each give an interval (theory §2.4).
"""

import math

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities import aim

_OFF = 1e-9  # how far rounding may bring a block outside [0, 1]
_CONSTANT_STAKE = 0.99  # a constant bet loses the largest share again and again


def star_lower(x: np.ndarray, eta: float) -> float:
    """Return a lower end for the mean of blocks in [0, 1], taken in draw order.

    The mean lies below it with probability at most eta. The bets are STaR bets (they re-aim at
    the goal 1/eta before each block; see `aim` for what is ours), the same within a cell of
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
    if eta < aim.LEAST_ETA:
        return 0.0
    end = _scan(x, origin, scale, aim.goal(len(x), eta), *_plan(x, origin, scale))
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
    goal = aim.goal(len(blocks), eta)
    _, variances, guards = aim.running(blocks, 0.0, 1.0)
    shared = np.empty(lead)
    _lead_bets(variances, guards, 1.0 / aim.target(len(blocks), goal), shared)
    record = np.zeros(len(blocks))
    _reached_in_cell(blocks, 0.0, 1.0, goal, guards, shared, edge, np.array([m]), record)
    return record


def _plan(x: np.ndarray, origin: float, scale: float) -> tuple[int, np.ndarray]:
    """Return how many blocks lead, and the cell edges that they fix."""
    lead = aim.lead_size(len(x))
    return lead, aim.cells(len(x), (x[:lead] - origin) * scale)


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


@aim.compiled
def _lead_bets(variances, guards, share, bets):
    """Fill the leading bets, the same for every candidate: from the running spread alone."""
    n = guards.size
    caution = aim.caution(n)
    for t in range(bets.size):
        moments = min(0.25 * (t + 1.0), t * variances[t] + aim.prior(n, 1.0) * guards[t])
        bets[t] = min(aim.aimed_bet(share, caution, (t + 1.0) / (n - t), moments), aim.STAKE)


@aim.compiled
def _reached_in_cell(x, origin, scale, goal, guards, lead, ref, lanes, record):
    """Return how many of the increasing candidates `lanes` (all <= ref) reach the goal.

    Bets are made for `ref`, the upper edge of the cell, and shared by all its candidates. The
    bets are written to `record` where it has room (for tests).
    """
    n = x.size
    caution = aim.caution(n)
    per_target = 1.0 / aim.target(n, goal)
    prior = aim.prior(n, ref)
    variance = max(ref * (1.0 - ref), aim.LEAST_VARIANCE)
    cap = aim.STAKE / ref
    fortunes = np.ones(lanes.size)
    reached = 0
    fortune = 1.0  # of the candidate m = ref
    squares = 0.0  # about ref
    for t in range(n):
        if t < lead.size:
            bet = lead[t]
        else:
            rate = (t + 1.0) / (n - t)
            moments = min(variance * (t + 1.0), squares + prior * guards[t])
            bet = min(np.float64(aim.aimed_bet(fortune * per_target, caution, rate, moments)), cap)
        if t < record.size:
            record[t] = bet
        z = aim.unit(x[t], origin, scale)
        for j in range(lanes.size):
            grown = fortunes[j] * (1.0 + bet * (z - lanes[j]))
            fortunes[j] = grown if grown > aim.DEAD else 0.0
        while reached < lanes.size and fortunes[reached] >= goal:
            reached += 1
        if reached == lanes.size:
            break
        gap = z - ref
        grown = fortune * (1.0 + bet * gap)
        fortune = grown if grown > aim.DEAD else 0.0
        squares += gap * gap
    return reached


@aim.compiled
def _reached_edges(x, origin, scale, goal, guards, lead, refs):
    """Return how many leading cells, given by their upper edges `refs`, reach the goal there.

    The bets of `_reached_in_cell`, to the last bit, for several cells abreast.
    """
    n = x.size
    size = refs.size
    caution = aim.caution(n)
    per_target = 1.0 / aim.target(n, goal)
    priors = aim.prior(n, refs)
    variances = np.maximum(refs * (1.0 - refs), aim.LEAST_VARIANCE)
    caps = aim.STAKE / refs
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
                moments = min(variances[j] * (t + 1.0), squares[j] + priors[j] * guards[t])
                bet = aim.aimed_bet(fortunes[j] * per_target, caution, rate, moments)
                bets[j] = min(np.float64(bet), caps[j])
        z = aim.unit(x[t], origin, scale)
        for j in range(size):
            gap = z - refs[j]
            grown = fortunes[j] * (1.0 + bets[j] * gap)
            fortunes[j] = grown if grown > aim.DEAD else 0.0
            peaks[j] = max(peaks[j], fortunes[j])
            squares[j] += gap * gap
        if t % 16 == 15 and peaks.min() >= goal:
            break
    reached = 0
    while reached < size and peaks[reached] >= goal:
        reached += 1
    return reached


@aim.compiled
def _scan(x, origin, scale, goal, n_lead, edges):
    """Return the largest candidate below which every candidate of every cell reaches the goal."""
    _, variances, guards = aim.running(x, origin, scale)
    lead = np.empty(n_lead)
    _lead_bets(variances, guards, 1.0 / aim.target(x.size, goal), lead)
    g = 1
    while g < edges.size - 1:
        refs = edges[g : min(g + aim.GROUP, edges.size - 1)]
        reached = _reached_edges(x, origin, scale, goal, guards, lead, refs)
        g += reached
        if reached < refs.size:
            break
    inner, outer = edges[g - 1], edges[g]
    lanes = np.empty(aim.LANES)
    for _ in range(aim.ROUNDS):
        step = (outer - inner) / (aim.LANES + 1)
        for j in range(aim.LANES):
            lanes[j] = inner + (j + 1) * step
        reached = _reached_in_cell(
            x, origin, scale, goal, guards, lead, edges[g], lanes, np.empty(0)
        )
        if reached < aim.LANES:
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
    goal = aim.slack(len(x)) - math.log(eta)
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


@aim.compiled
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


_AT_ONCE = 32  # blocks; one factor is at least 0.01: no product of these leaves the range


@aim.compiled
def _mixture_log(x, origin, scale, m, bets, log_weights):
    """Return the logarithm of the weighted sum of fortunes at candidate m."""
    size = bets.size
    held = np.minimum(bets, _CONSTANT_STAKE / m)
    logs = log_weights.copy()
    gaps = np.empty(_AT_ONCE)
    for begin in range(0, x.size, _AT_ONCE):
        count = min(_AT_ONCE, x.size - begin)
        for t in range(count):
            gaps[t] = aim.unit(x[begin + t], origin, scale) - m
        for k in range(0, size - 3, 4):  # four products keep the processor busy
            a = b = c = d = 1.0
            for t in range(count):
                a *= 1.0 + held[k] * gaps[t]
                b *= 1.0 + held[k + 1] * gaps[t]
                c *= 1.0 + held[k + 2] * gaps[t]
                d *= 1.0 + held[k + 3] * gaps[t]
            logs[k] += math.log(a)
            logs[k + 1] += math.log(b)
            logs[k + 2] += math.log(c)
            logs[k + 3] += math.log(d)
        for k in range(size - size % 4, size):
            product = 1.0
            for t in range(count):
                product *= 1.0 + held[k] * gaps[t]
            logs[k] += math.log(product)
    most = logs.max()
    return most + math.log(np.exp(logs - most).sum())

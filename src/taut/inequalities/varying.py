"""Predictable bets on blocks that each have a range and a forecast of their own (theory §3.6).

What is known of block t before it is drawn, its range and how it will spread, may differ from block
to block, as long as it is a function of the blocks before t (or fixed). The bet against a mean m is
then capped by the range that *this* block has: it may lose at most `aim.STAKE` of the fortune. If
E[block | past] <= m the fortune is a nonnegative supermartingale, whatever the forecasts are.

A block may have two parts that are independent given the past, x_t and z_t: say of labelled draws
and of others. One bet b on both, (1 + b (x - m)) (1 + b z), wins as a bet on their sum would, but
its cap is that of each part alone. **Valid** [ours]: with E x = theta - c and E z = c given the
past, its expectation is (1 + b (theta - m) - b c) (1 + b c), which is 1 + b (theta - m) (1 + b c)
less (b c)^2: at most 1 where theta <= m, as 1 + b z >= 0 always and so 1 + b c >= 0. Nobody need
know c.

Blocks of several kinds may take turns. With L_k blocks of kind k left, each of second moment v_k
about the candidate, bets d / v_k with one d win soonest, and the information left is sum L_k / v_k.
"""

from typing import NamedTuple

import numpy as np

from taut.inequalities import aim

_ROUNDING = 1e-12  # more than a sum of a million rows is off by


class Stakes(NamedTuple):
    """Blocks of one side, on a scale where their common mean lies in [0, 1]; each shape (blocks,).

    Attributes:
        x: Blocks, in the order of the bets.
        below, above: How far this block may fall below 0 and rise above 1; at least 0.
        z: Second part of each block, independent of x given the past; 0 where there is none.
        z_below, z_above: How far this z may fall below 0 and rise above it; at least 0.
        mean, variance: Forecast of x + z of this block, from those before it.
        seen: How many blocks of its kind came before.
        guard: Part of the prior that stands; see `aim.guard`.
        kind: Which kind it is, int64, from 0.
        horizon: Number of blocks that the bet on this one reckons with, at least its place + 1.
    """

    x: np.ndarray
    below: np.ndarray
    above: np.ndarray
    z: np.ndarray
    z_below: np.ndarray
    z_above: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    seen: np.ndarray
    guard: np.ndarray
    kind: np.ndarray
    horizon: np.ndarray


def varying_end(stakes: Stakes, eta: float) -> float:
    """Return a lower end for the mean of blocks that share E[x_t + z_t | those before] = mean.

    The mean lies below it with probability at most eta. It is the end of the confidence set of one
    fortune, found by scanning cells as in `betting.star_lower`; the fortune may be looked at after
    any number of its blocks, given that horizons stay as they were (theory §3.6, coming back).

    Args:
        stakes: The blocks; x keeps to [-below, 1 + above] and z to [-z_below, z_above], and
            everything but x and z is a function of the blocks before.
        eta: Allowed probability of a miss on this side, in (0, 1).
    """
    if eta < aim.LEAST_ETA:
        return 0.0
    first, last = int(stakes.horizon[0]), int(stakes.horizon[-1])
    lead = aim.lead_size(first)
    edges = aim.cells(first, (stakes.x + stakes.z)[:lead])
    goal = aim.goal(last, eta)
    return max(0.0, _scan(stakes, _left(stakes), goal, lead, edges) - _ROUNDING)


def varying_bets(stakes: Stakes, eta: float, m: float) -> np.ndarray:
    """Return the bets that `varying_end` makes against candidate mean m, shape (blocks,)."""
    first, last = int(stakes.horizon[0]), int(stakes.horizon[-1])
    lead = aim.lead_size(first)
    edges = aim.cells(first, (stakes.x + stakes.z)[:lead])
    ref = np.array([edges[np.searchsorted(edges, m)]])
    record = np.zeros(len(stakes.x))
    _reached(stakes, _left(stakes), aim.goal(last, eta), lead, ref, np.array([m]), record)
    return record


def interleave(parts: list[Stakes]) -> Stakes:
    """Return the stakes of several kinds of blocks as one sequence, evenly mixed.

    Block i of n of its kind comes at (i + 1/2) / n: places depend on counts alone.
    """
    places = np.concatenate([(np.arange(len(part.x)) + 0.5) / len(part.x) for part in parts])
    order = np.argsort(places, kind="stable")
    joined = [np.concatenate(columns)[order] for columns in zip(*parts, strict=True)]
    kinds = np.repeat(np.arange(len(parts)), [len(part.x) for part in parts])[order]
    total = np.full(len(order), len(order), dtype=np.int64)
    return Stakes(*joined)._replace(kind=kinds, horizon=total)


def _left(stakes: Stakes) -> np.ndarray:
    """Return how many blocks of each kind are left at each block, shape (blocks, kinds)."""
    kinds = int(stakes.kind.max()) + 1
    if kinds == 1:
        return (stakes.horizon - np.arange(len(stakes.x)))[:, None].astype(np.float64)
    is_kind = stakes.kind[:, None] == np.arange(kinds)
    return np.ascontiguousarray(is_kind[::-1].cumsum(axis=0)[::-1], dtype=np.float64)


@aim.compiled
def _moment(s, t, ref, leads, prior):
    """Return the second moment of block t about the candidate `ref` that the bet reckons with."""
    below, above = s.below[t] + s.z_below[t], s.above[t] + s.z_above[t]
    if leads:  # before the cells are placed: one bet for all
        most, squares = 0.25 * (1.0 + below + above) ** 2, s.variance[t]
    else:
        gap = s.mean[t] - ref
        most, squares = (ref + below) * (1.0 + above - ref), s.variance[t] + gap * gap
    seen = s.seen[t]
    moment = (seen * squares + prior * s.guard[t]) / (seen + 1.0)
    return max(min(most, moment), aim.LEAST_VARIANCE)


@aim.compiled
def _reached(s, left, goal, lead, refs, candidates, record):
    """Return how many of the increasing `candidates` reach the goal, each by the bets of its ref.

    Bets are made for the upper edge of the cell, `refs`, and so shared by all candidates in it. The
    first one's bets are written to `record` where it has room (for tests).
    """
    size, kinds = refs.size, left.shape[1]
    priors, moments = np.empty(size), np.empty((kinds, size))
    fortunes, ours, peaks = np.ones(size), np.ones(size), np.ones(size)
    n = 0
    per_target, caution = 0.0, 0.0
    for t in range(s.x.size):
        leads, kind = t < lead, s.kind[t]
        if s.horizon[t] != n:
            new, n = n == 0, s.horizon[t]
            per_target, caution = 1.0 / aim.target(n, goal), aim.caution(n)
            for j in range(size):
                priors[j] = aim.prior(n, 1.0 if leads else refs[j])
                if new:
                    moments[:, j] = min(max(priors[j], aim.LEAST_VARIANCE), 0.25)
        elif t == lead:
            for j in range(size):
                priors[j] = aim.prior(n, refs[j])
        for j in range(size):
            ref = 1.0 if leads else refs[j]
            moment = _moment(s, t, ref, leads, priors[j])
            moments[kind, j] = moment
            information = 0.0
            for k in range(kinds):
                information += left[t, k] / moments[k, j]
            share = per_target if leads else fortunes[j] * per_target
            aimed = aim.aimed_bet(share, caution, 1.0, information * moment * moment)
            bet = min(np.float64(aimed), aim.STAKE / max(ref + s.below[t], s.z_below[t]))
            if j == 0 and t < record.size:
                record[t] = bet
            turn = 1.0 + bet * s.z[t]
            grown = fortunes[j] * turn * (1.0 + bet * (s.x[t] - refs[j]))
            fortunes[j] = grown if grown > aim.DEAD else 0.0
            grown = ours[j] * turn * (1.0 + bet * (s.x[t] - candidates[j]))
            ours[j] = grown if grown > aim.DEAD else 0.0
            peaks[j] = max(peaks[j], ours[j])
        if t % 16 == 15 and peaks.min() >= goal and record.size == 0:
            break
    reached = 0
    while reached < size and peaks[reached] >= goal:
        reached += 1
    return reached


@aim.compiled
def _scan(s, left, goal, lead, edges):
    """Return the largest candidate below which every candidate of every cell reaches the goal."""
    none = np.empty(0)
    g = 1
    while g < edges.size - 1:
        refs = edges[g : min(g + aim.GROUP, edges.size - 1)]
        reached = _reached(s, left, goal, lead, refs, refs, none)
        g += reached
        if reached < refs.size:
            break
    inner, outer = edges[g - 1], edges[g]
    refs, lanes = np.full(aim.LANES, edges[g]), np.empty(aim.LANES)
    for _ in range(aim.ROUNDS):
        step = (outer - inner) / (aim.LANES + 1)
        for j in range(aim.LANES):
            lanes[j] = inner + (j + 1) * step
        reached = _reached(s, left, goal, lead, refs, lanes, none)
        if reached < aim.LANES:
            outer = lanes[reached]
        if reached > 0:
            inner = lanes[reached - 1]
    return inner

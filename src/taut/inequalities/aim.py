"""How a fortune aims at its goal: what all predictable bets share (theory §2.4).

A fortune of 1 is to reach 1/eta within n blocks. Each bet is made for a *cell* of candidate means,
for the cell's upper edge `ref`, so that the fortune falls with the candidate inside a cell. Any
rule that looks back only is valid; these are the ones that win soonest.
"""

import math

import numba
import numpy as np

LANES = 64  # candidates that one pass over a cell tries at once
GROUP = 32  # cells that one pass of the scan tests at once
ROUNDS = 2  # 65^2 = 4,225 parts of a cell: far below any statistical error
STAKE = 0.999  # largest share of the fortune that one bet may lose
DEAD = 1e-250  # smaller fortunes count as lost: they could only return by rounding
LEAST_ETA = 1e-200  # below, a fortune of 1/eta leaves no room to compute: the end is trivial
LEAST_VARIANCE = 1e-12  # keeps the bets against m = 1 finite
_LEAD_SHARE = 32  # from `_LEARN` blocks on, the first n/32 blocks place the cells
_LEARN = 512
_CELL = 0.125  # width of the cells around the expected end, in standard errors
_LEAST_GUARD = 0.1
_ZERO, _ONE, _TWO, _FOUR, _TWELVE = np.float32([0.0, 1.0, 2.0, 4.0, 12.0])

# Division by zero cannot happen below; checking for it would keep loops from running abreast.
compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def lead_size(n: int) -> int:
    """Return how many of n blocks place the cells, before bets may differ between them."""
    return n // _LEAD_SHARE if n >= _LEARN else 0


def goal(n: int, eta: float) -> float:
    """Return the fortune to reach: 1/eta, and a little more than rounding can add in n blocks."""
    return math.exp(slack(n) - math.log(eta))


def slack(n: int) -> float:
    """Return more than rounding can add to a log-fortune: factors are at least 0.001."""
    return 1e-9 + 1e-12 * n


def cells(n: int, lead: np.ndarray) -> np.ndarray:
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


@compiled
def target(n, goal):
    """Return the fortune that bets aim at: a little above the goal, or they would fade before."""
    return goal * math.exp(min(0.15, 1.5 * n ** (-1.0 / 3.0)))


@compiled
def caution(n):
    """Return how far bets on n blocks replicate a binary option; see `aimed_bet`."""
    return min(1.0, math.sqrt(n) / 50.0)


@compiled
def aimed_bet(share, caution, rate, moments):
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


@compiled
def prior(n, ref):
    """Return what the sum of squares starts from, for values that fill [0, 1]; see `guard`."""
    return (0.1 + 0.2 * ref) * ref * math.log1p(n)


@compiled
def guard(repeats, seen, mean, variance):
    """Return the part of `prior` that the past leaves standing.

    The prior guards against what has not been seen yet. Where values repeat each other (0/1
    rewards, rare failures) a small spread says little about it; where they never do, the values
    to come will spread like those seen.

    Args:
        repeats: How many of the blocks seen equal the one before.
        seen: Number of blocks seen.
        mean, variance: Of the blocks seen.
    """
    ties = (repeats + 1.0) / (max(seen - 1.0, 0.0) + 2.0)
    most = max(mean * (1.0 - mean), LEAST_VARIANCE)
    spread = min(1.0, max(_LEAST_GUARD, math.sqrt(variance / most)))
    return ties + (1.0 - ties) * spread


@compiled
def unit(value, origin, scale):
    """Return (value - origin) * scale, kept to [0, 1] where rounding leaves it."""
    return min(max((value - origin) * scale, 0.0), 1.0)


@compiled
def running(x, origin, scale):
    """Return mean, variance and `guard` of the blocks before each, mapped by `unit`.

    The mean of no blocks is 1/2.
    """
    n = x.size
    means, variances, guards = np.empty(n), np.empty(n), np.empty(n)
    mean, spread, repeats, last = 0.5, 0.0, 0.0, -1.0
    for t in range(n):
        means[t], variances[t] = mean, spread / max(t, 1)
        guards[t] = guard(repeats, t, mean, variances[t])
        value = unit(x[t], origin, scale)
        repeats += value == last
        last = value
        step = value - mean
        mean += step / (t + 1.0)
        spread += step * (value - mean)
    return means, variances, guards

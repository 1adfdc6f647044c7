"""From reward data to deployment: bounds on E_theta[r* - r] without on-policy labels (theory §3).

Reward data are rows whose responses come from a behaviour policy, with weights
w = pi_theta/pi_b, the learned reward and, on some rows, gold labels. All values here are on the
unit scale; every bound on an ingredient is the bound of a bounded mean, never a plug-in.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.bounds.sampling import block_interval
from taut.draws.labels import labelled_means
from taut.draws.rollouts import Blocks
from taut.types import Interval

# Truncation levels offered to the calibration split.
TRUNCATIONS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True)
class RewardData:
    """Reward data on the unit scale, shape (rows,).

    Attributes:
        weight: w = pi_theta/pi_b; None without log-probs.
        reward: Learned reward.
        gold: Target reward, NaN where there is no label; None without labels.
        blocks: Draws that certify, in draw order.
        calibration: Draws that choose.
        prompt: uint64 key of each row's prompt.
    """

    weight: np.ndarray | None
    reward: np.ndarray
    gold: np.ndarray | None
    blocks: Blocks
    calibration: Blocks
    prompt: np.ndarray


@dataclass(frozen=True, slots=True)
class EndBlocks:
    """Independent values in [low, high] whose mean bounds a target from below."""

    values: np.ndarray
    low: float
    high: float


def join_means(first: np.ndarray, second: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Join two independent samples into blocks with mean E first + E second.

    Each value of the smaller sample gets a fixed share of the larger one, so that one event covers
    the sum of both means. Values of one prompt must meet in one block.

    Args:
        first, second: Values of the two samples, in draw order; both not empty.
        partner: For each of `first`, the index in `second` of the same prompt, or -1.

    Returns:
        Shape (min(len(first), len(second)),).

    Source: theory §3.6 (rectifier blocks), §5.
    """
    partner = _met_once(partner)
    if len(first) > len(second):
        back = np.full(len(second), -1)
        matched = np.flatnonzero(partner >= 0)
        back[partner[matched]] = matched
        return join_means(second, first, back)
    matched = partner >= 0
    totals = np.where(matched, second[partner], 0.0)
    counts = matched.astype(np.int64)
    free = np.delete(second, partner[matched])
    # Where too few are left for all, those without a partner come first.
    takers = np.arange(len(first)) if len(free) >= len(first) else np.flatnonzero(~matched)
    if len(takers) == 0:
        takers = np.arange(min(len(free), len(first)))
    if len(takers) and len(free):
        edges = np.linspace(0, len(free), len(takers) + 1).round().astype(np.int64)
        filled = np.diff(edges) > 0
        totals[takers[filled]] += np.add.reduceat(free, edges[:-1][filled])
        counts[takers] += np.diff(edges)
    return first + totals / np.maximum(counts, 1)


def _met_once(partner: np.ndarray) -> np.ndarray:
    """Keep the first of several values that would share a partner: no value enters two blocks."""
    once = np.full_like(partner, -1)
    found, first = np.unique(partner, return_index=True)
    once[first[found >= 0]] = found[found >= 0]
    return once


def importance_blocks(
    data: RewardData,
    blocks: Blocks,
    truncation: float,
    *,
    on_policy: tuple[np.ndarray, np.ndarray] | None,
    upper: bool,
) -> tuple[EndBlocks, np.ndarray]:
    """Values on reward data whose mean bounds E_theta r* (or 1 - E_theta r*) from below.

    E_tr[u r*] <= E_theta r* and E_tr[u (1 - r*)] <= 1 - E_theta r*, with u = min(w, M). With the
    weights of the audited rollouts, r enters as a control variate: u (r* - r) here and
    r min(1, M/w) there.

    Args:
        data: Reward data.
        blocks: The draws of it to use.
        truncation: M > 0.
        on_policy: Learned reward and weight of the audited rollouts; None for the pure form.
        upper: Bound 1 - E r* instead of E r*.

    Returns:
        Values of the labelled draws with their range, and the control r min(1, M/w) (or its
        mirror) per audited rollout; zeros for the pure form.

    Source: theory §3.4, §5.
    """
    truncated = np.minimum(data.weight, truncation)
    target, learned = (1 - data.gold, 1 - data.reward) if upper else (data.gold, data.reward)
    pure = on_policy is None
    values = truncated * (target if pure else target - learned)
    means = labelled_means(values, data.gold, blocks)
    low, high = (0.0 if pure else -truncation), truncation
    found = EndBlocks(means[~np.isnan(means)], low, high)
    if pure:
        return found, np.zeros(0)
    reward, weight = on_policy
    (kept, _), _ = truncated_weights(weight, truncation, on_policy=True)
    return found, (1 - reward if upper else reward) * kept


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Simultaneous bounds on the ingredients of the density routes, unit scale.

    Attributes:
        bias: Interval for E_train e, e = r - r*.
        mse: Upper bound on L = E_train e^2.
        mass: Interval for m_M = E_train min(w, M); None without weights.
        square: Upper bound on E_train min(w, M)^2; None without weights.
    """

    bias: Interval
    mse: float
    mass: Interval | None
    square: float | None


def error_bounds(data: RewardData, delta: float, method: str) -> tuple[Interval, float]:
    """Bound the reward model's error on its own data: E e at delta/2, E e^2 at delta/2.

    Source: theory §3.8, §2.4.
    """
    error = data.reward - data.gold
    means = labelled_means(error, data.gold, data.blocks)
    squares = labelled_means(error**2, data.gold, data.blocks)
    known = ~np.isnan(means)
    bias = block_interval(
        means[known],
        low=-1.0,
        high=1.0,
        delta_lower=delta / 4,
        delta_upper=delta / 4,
        method=method,
    )
    mse = block_interval(
        squares[known], low=0.0, high=1.0, delta_lower=0.0, delta_upper=delta / 2, method=method
    ).upper
    # E e^2 >= (E e)^2 whatever the data say.
    nearest = max(bias.lower, -bias.upper, 0.0)
    return bias, max(mse, nearest**2)


def truncated_weights(
    weight: np.ndarray, truncation: float, *, on_policy: bool
) -> tuple[tuple[np.ndarray, float], tuple[np.ndarray, float]]:
    """Return the rows whose means are m_M and E_train min(w, M)^2, each with the top of its range.

    Source: theory §3.4.
    """
    if not on_policy:
        cut = np.minimum(weight, truncation)
        return (cut, truncation), (cut**2, truncation**2)
    with np.errstate(divide="ignore", over="ignore"):
        kept = truncation / weight
        return (np.minimum(1.0, kept), 1.0), (np.minimum(weight, truncation * kept), truncation)


def weight_bounds(
    weight: np.ndarray,
    blocks: Blocks,
    truncation: float,
    *,
    on_policy: bool,
    delta: float,
    method: str,
) -> tuple[Interval, float]:
    """Bound m_M and E_train min(w, M)^2, on reward data or on the audited rollouts.

    On-policy the same means are E_theta min(1, M/w) and E_theta min(w, M^2/w): bounded, and they
    see what the reward data miss.

    Args:
        weight: w per row of the sample that is used, shape (rows,).
        blocks: Its certifying draws.
        truncation: M.
        on_policy: Whether the sample is the audited rollouts.
        delta: Probability that either bound fails: a quarter for each end of m_M, half for the
            square.
        method: As in `block_interval`.

    Source: theory §3.3, §3.4.
    """
    (mass, most), (square, top) = truncated_weights(weight, truncation, on_policy=on_policy)
    interval = block_interval(
        blocks.means(mass),
        low=0.0,
        high=most,
        delta_lower=delta / 4,
        delta_upper=delta / 4,
        method=method,
    )
    upper = block_interval(
        blocks.means(square),
        low=0.0,
        high=top,
        delta_lower=0.0,
        delta_upper=delta / 2,
        method=method,
    ).upper
    # m_M <= 1, and E min(w, M)^2 lies between m_M^2 and M m_M.
    mass_interval = Interval(min(interval.lower, 1.0), min(interval.upper, 1.0))
    square_bound = min(upper, truncation * mass_interval.upper)
    return mass_interval, max(square_bound, mass_interval.lower**2)


def centred_shift(bias: Interval, mse: float, chi_square: float) -> Interval:
    """Bound E_theta[r* - r] by |E e| and sqrt(chi^2) sd(e), over all E e and L that are left.

    Source: theory §3.2, §5 (paper): the maximum over E e is at clamp(sqrt(L/(1+chi^2))).
    """
    return Interval(
        -_worst_centred(bias.lower, bias.upper, mse, chi_square),
        _worst_centred(-bias.upper, -bias.lower, mse, chi_square),
    )


def _worst_centred(low: float, high: float, mse: float, chi_square: float) -> float:
    root = math.sqrt(mse)
    low, high = max(low, -root), min(high, root)
    centre = min(max(math.sqrt(mse / (1 + chi_square)), low), high)
    return centre + math.sqrt(chi_square * max(0.0, mse - centre**2))


def truncated_shift(parts: Ingredients) -> Interval:
    """Bound E_theta[r* - r] by m_M E e, s_M sd(e) and the mass that M cuts off.

    m E e + s sd(e) is sqrt(E u^2 E e^2) times the cosine of an angle between (m, s) and
    (E e, sd(e)), so that its maximum over the box of what is left is a closed form.

    Source: theory §3.3.
    """
    return Interval(
        -_worst_truncated(parts, parts.bias.lower, parts.bias.upper),
        _worst_truncated(parts, -parts.bias.upper, -parts.bias.lower),
    )


def _worst_truncated(parts: Ingredients, low: float, high: float) -> float:
    root, norm = math.sqrt(parts.mse), math.sqrt(parts.square)
    covered = 1 - parts.mass.lower
    if root == 0 or norm == 0:
        return covered
    low, high = max(low, -root), min(high, root)
    least, most = min(parts.mass.lower, norm), min(parts.mass.upper, norm)
    # Cosines of the two angles; where their ranges meet the angles can be equal.
    if high / root < least / norm:
        bias, mass = high, least
    elif low / root > most / norm:
        bias, mass = low, most
    else:
        return root * norm + covered
    rest = max(0.0, parts.mse - bias**2) * max(0.0, parts.square - mass**2)
    return bias * mass + math.sqrt(rest) + covered

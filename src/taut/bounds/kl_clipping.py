"""The KL-clipping term: what clipping the log-ratio hides (theory §4).

The two sides are clipped apart: l^tau = clip(l, -tau_negative, tau). A lower end of J* needs only
the positive tail T+ = E(l - tau)_+, an upper end only T- = E(-l - tau_negative)_+.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from taut.bounds.sampling import block_interval
from taut.draws.rollouts import Blocks
from taut.types import Status

_RESAMPLES = 200  # bootstrap resamples of the estimated tail
# Share of the lower side's budget given to the positive tail, where that tail is a random event.
TAIL_SHARE = 0.2
_FARTHEST = 0.4  # how far beyond the largest log-ratio the next record may be expected
_AT_A_TIME = 5_000_000  # blocks times resamples in memory
_FITTED_SHARE = 0.1  # share of log-ratios that the generalised-Pareto tail is fitted to


@dataclass(frozen=True, slots=True)
class Tail:
    """An upper bound on one tail mean, in nats.

    Attributes:
        bound: Upper bound on E(l - tau)_+ (or its negative mirror), nats.
        delta: Probability that the bound fails by chance; 0 where no random event is used.
        status: What the bound is worth.
        assumes: What must hold.
        source: Section of the theory.
    """

    bound: float
    delta: float
    status: Status
    assumes: tuple[str, ...]
    source: str


def clip_log_ratio(log_ratio: np.ndarray, tau: float, tau_negative: float) -> np.ndarray:
    """Return clip(l, -tau_negative, tau), nats, same shape (theory §1, §4.3)."""
    return np.clip(log_ratio, -tau_negative, tau)


def negative_tail(tau_negative: float) -> Tail:
    """Bound E(-l - tau_negative)_+ by e^(-1 - tau_negative), nats: free, as E e^(-l) <= 1.

    Source: theory §4.2.
    """
    bound = 0.0 if math.isinf(tau_negative) else math.exp(-1 - tau_negative)
    return Tail(bound, 0.0, Status.CERTIFIED, (), "theory §4.2")


def no_tail() -> Tail:
    """The tail of an objective that is clipped by definition: zero (theory §4.4 c)."""
    return Tail(0.0, 0.0, Status.CERTIFIED, (), "theory §4.4 (c)")


def declared_maximum_tail(
    log_ratio: np.ndarray,
    blocks: Blocks,
    *,
    tau: float,
    maximum: float,
    delta: float,
    method: str,
) -> Tail:
    """Bound E(l - tau)_+ for log-ratios that never exceed a declared maximum.

    Args:
        log_ratio: Nats, shape (rollouts,).
        blocks: The certifying blocks.
        tau: Positive clip threshold, nats.
        maximum: Declared upper bound on every log-ratio, nats.
        delta: Probability that the bound may fail; unused where tau >= maximum.
        method: As in `block_interval`.

    Raises:
        AssumptionError: A log-ratio exceeds the declared maximum (the range of the excess).

    Source: theory §4.4 (a).
    """
    assumes = (f"the log-ratio never exceeds {maximum:g} nats (declared)",)
    if tau >= maximum:
        return Tail(0.0, 0.0, Status.CONDITIONAL, assumes, "theory §4.4 (a)")
    excess = blocks.means(np.maximum(log_ratio - tau, 0.0))
    bound = block_interval(
        excess, low=0.0, high=maximum - tau, delta_lower=0.0, delta_upper=delta, method=method
    ).upper
    return Tail(bound, delta, Status.CONDITIONAL, assumes, "theory §4.4 (a)")


def second_moment_tail(tau: float, second_moment: float) -> Tail:
    """Bound E(l - tau)_+ given a declared E l^2 <= second_moment, nats squared.

    Source: theory §4.4 (b).
    """
    root = math.sqrt(second_moment)
    bound = root - tau if root > 2 * tau or tau == 0 else second_moment / (4 * tau)
    assumes = (f"the mean squared log-ratio is at most {second_moment:g} nats² (declared)",)
    return Tail(bound, 0.0, Status.CONDITIONAL, assumes, "theory §4.4 (b)")


def estimated_tail(log_ratio: np.ndarray, blocks: Blocks, *, tau: float, delta: float) -> Tail:
    """Estimate an upper end for E(l - tau)_+: no guarantee exists (Bahadur & Savage 1956).

    The larger of the empirical tail mean and a generalised-Pareto tail, at the 1 - delta quantile
    of a bootstrap over blocks with a fixed seed.

    Args:
        log_ratio: Nats, shape (rollouts,).
        blocks: The certifying blocks.
        tau: Positive clip threshold, nats; infinite gives 0.
        delta: Nominal error probability.

    Source: theory §4.4 (d).
    """
    assumes = ("the positive tail of the log-ratio is no heavier than the sample suggests",)
    if math.isinf(tau):
        return Tail(0.0, delta, Status.ESTIMATED, assumes, "theory §4.4 (d)")
    count = len(blocks)
    empirical = blocks.means(np.maximum(log_ratio - tau, 0.0))
    threshold, excess, owner = _tail_sample(log_ratio, blocks, tau)
    weights = 1.0 / (count * blocks.sizes[owner])  # blocks count equally
    bounds = np.concatenate(
        [
            np.maximum(
                times @ empirical / count,
                # Few bytes a count: they are looked up all over memory.
                _pareto_tail_means(
                    excess,
                    weights * times.astype(np.uint16).take(owner, axis=1),
                    tau - threshold,
                ),
            )
            for times in _multiplicities(count)
        ]
    )
    bound = max(float(bounds[0]), float(np.quantile(bounds[1:], 1 - delta)))
    return Tail(bound, delta, Status.ESTIMATED, assumes, "theory §4.4 (d)")


def forecast_tail(
    log_ratio: np.ndarray, draws: Blocks, *, tau: float, blocks: int, delta: float
) -> float:
    """Forecast from some draws what `estimated_tail` will say of `blocks` others, nats.

    The mean excess with one more draw at the next record, since what has not been seen yet would
    count as nothing, and its error as of a normal mean. A forecast: no bound uses it.

    Args:
        log_ratio: Nats, shape (rollouts,).
        draws: The draws to forecast from.
        tau: Positive clip threshold, nats.
        blocks: Number of blocks that will be bounded.
        delta: Nominal error probability of that bound.
    """
    from scipy.special import ndtri

    excess = draws.means(np.maximum(log_ratio - tau, 0.0))
    unseen = max(next_record(log_ratio, draws) - tau, 0.0)
    mean = (float(excess.sum()) + unseen) / (len(excess) + 1)
    return mean + max(0.0, float(ndtri(1 - delta))) * float(excess.std()) / math.sqrt(blocks)


def next_record(log_ratio: np.ndarray, draws: Blocks) -> float:
    """Return where the next largest log-ratio may lie, nats, at least 0.

    It is taken to exceed the largest by as much as that exceeds the mean of the square root of n
    largest, and by at most 0.4 of it: by nothing where the largest ones tie. A rule of thumb.
    """
    values = np.maximum(log_ratio[draws.rows], 0.0)
    most = min(math.ceil(math.sqrt(len(draws))), len(values))
    largest = np.partition(values, len(values) - most)[len(values) - most :]
    top = float(largest.max())
    return top + min(top - math.fsum(largest) / most, _FARTHEST * top)


def _multiplicities(count: int) -> Iterator[np.ndarray]:
    """Yield how often each block occurs in the sample itself, then in bootstrap resamples.

    Some samples at a time, shape (samples, blocks), all of them where blocks are few.
    """
    rng = np.random.default_rng(0)
    samples = 1 + min(_RESAMPLES, max(20, 4_000_000 // count))
    some = max(1, _AT_A_TIME // count)
    for first in range(0, samples, some):
        times = np.ones((min(some, samples - first), count))
        for row in times[first == 0 :]:
            row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
        yield times


def _tail_sample(log_ratio, blocks, tau):
    """Threshold, ascending excesses over it, and the block of each."""
    values = log_ratio[blocks.rows]
    threshold = min(tau, float(np.quantile(values, 1 - _FITTED_SHARE)))
    beyond = np.flatnonzero(values > threshold)
    excess = values[beyond] - threshold
    order = np.argsort(excess)
    owner = np.searchsorted(blocks.starts, beyond[order], side="right") - 1
    return threshold, excess[order], owner


def _pareto_tail_means(excess: np.ndarray, weights: np.ndarray, distance: float) -> np.ndarray:
    """E(X - distance)_+ of generalised Paretos fitted by weighted moments (Hosking & Wallis).

    `excess` ascends, shape (values,); `weights` has shape (samples, values). Each result includes
    the mass of the tail, which is the sum of the sample's weights. Shape (samples,).
    """
    mass = weights.sum(axis=1)
    safe = np.where(mass > 0, mass, 1.0)[:, None]
    share = weights / safe
    survival = 1.0 - np.cumsum(share, axis=1) + 0.5 * share
    first = share @ excess
    spread = first - 2 * ((share * survival) @ excess)
    fits = (mass > 0) & (first > 0) & (spread > 0)
    first, spread = np.where(fits, first, 1.0), np.where(fits, spread, 1.0)
    # Shapes of 1 and more have no mean; 0.95 keeps the estimate finite, and large.
    shape = np.minimum(2 - first / spread, 0.95)
    shape = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    scale = np.maximum(first * (1 - shape), 1e-300)
    # A negative shape ends the tail at -scale/shape; beyond it nothing is left.
    inside = np.maximum(1 + shape * distance / scale, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        beyond = np.where(inside > 0, inside ** (1 - 1 / shape), 0.0)
    return np.where(fits, mass * scale / (1 - shape) * beyond, 0.0)


def token_clipping(
    log_ratio: np.ndarray,
    token_clipped: np.ndarray,
    n_tokens: np.ndarray | None,
    blocks: Blocks,
    clip: float,
) -> dict[str, float | None]:
    """Describe what clipping token by token changed: estimates, no guarantee (theory §4.5).

    Returns:
        clip (nats), bias = mean of l - l^tok (nats), absolute = mean |l - l^tok| (nats), the share
        of rollouts that it changed, and the bound E[length] e^(-1-clip) on its negative side.
    """
    difference = log_ratio - token_clipped
    known = n_tokens is not None and bool((n_tokens[blocks.rows] >= 0).all())
    length = float(blocks.means(n_tokens.astype(np.float64)).mean()) if known else None
    return {
        "clip": clip,
        "bias": float(blocks.means(difference).mean()),
        "absolute": float(blocks.means(np.abs(difference)).mean()),
        # Below rounding of the two sums a difference is not a clipped token.
        "share_changed": float(blocks.means((np.abs(difference) > 1e-6).astype(float)).mean()),
        "negative_bound": None if length is None else length * math.exp(-1 - clip),
    }


def describe_log_ratio(
    log_ratio: np.ndarray, blocks: Blocks, tau: float, tau_negative: float
) -> dict[str, float]:
    """Diagnostics of the log-ratio itself: k1, k2, k3 (Schulman 2020), tails, shares clipped.

    Nats, prompts weighted equally. Source: theory §4.6.
    """
    with np.errstate(over="ignore"):
        inverse = np.exp(-log_ratio)

    def mean(values: np.ndarray) -> float:
        return float(blocks.means(values).mean())

    return {
        "k1": mean(log_ratio),
        "k2": mean(log_ratio**2 / 2),
        "k3": mean(inverse - 1 + log_ratio),
        "mean_exp_minus": mean(inverse),
        "max": float(log_ratio[blocks.rows].max()),
        "min": float(log_ratio[blocks.rows].min()),
        "clipped_share_positive": mean((log_ratio > tau).astype(float)),
        "clipped_share_negative": mean((log_ratio < -tau_negative).astype(float)),
    }

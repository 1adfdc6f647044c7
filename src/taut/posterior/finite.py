"""Weights over finitely many policies: checkpoints, settings, mixtures chosen with the data."""

import math
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.concentration import bounded_blocks
from taut.inequalities.pac_bayes import pac_bayes_interval
from taut.types import Interval

_EPS = float(np.finfo(np.float64).eps)
_SUM_TOLERANCE = 1e-9  # how far weights may be from a sum of one before they are refused


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinitePosterior:
    """A choice Q among M policies, and the prior P it is measured against.

    Attributes:
        weights: Q, shape (policies,), sums to 1; may be chosen with the data.
        prior: P, shape (policies,), sums to 1; fixed before the evaluation prompts were seen.
        kl: KL(Q || P), nats, never rounded down; infinite where Q > 0 and P = 0.
    """

    weights: np.ndarray
    prior: np.ndarray
    kl: float


def finite_posterior(weights: np.ndarray, *, prior: np.ndarray | None = None) -> FinitePosterior:
    """Return weights over policies with their price; a point mass costs -ln of its prior mass.

    Args:
        weights: Q, shape (policies,), non-negative, sum 1.
        prior: P, the same; default uniform, 1/M each.

    Raises:
        AssumptionError: Negative or non-finite entries, another sum than 1, or shapes that differ.

    Source: theory §6.3.
    """
    q = _distribution("weights", weights)
    p = np.full(len(q), 1.0 / len(q)) if prior is None else _distribution("prior", prior)
    return FinitePosterior(weights=q, prior=p, kl=kl_categorical(q, p))


def kl_categorical(weights: np.ndarray, prior: np.ndarray) -> float:
    """Return sum_m q_m ln(q_m / p_m), nats, never rounded down; 0 ln 0 = 0.

    Args:
        weights, prior: q and p, shape (policies,), each non-negative with sum 1.

    Returns:
        Infinity where some q_m > 0 has p_m = 0. Below about 1e-15 the value is rounding error.

    Raises:
        AssumptionError: As in `finite_posterior`.

    Source: theory §6.3.
    """
    q, p = _distribution("weights", weights), _distribution("prior", prior)
    if q.shape != p.shape:
        raise AssumptionError(
            f"expected one prior mass for each of {len(q)} policies, found {len(p)}; a policy "
            "that may be chosen needs a share of the prior."
        )
    held = q > 0
    if np.any(p[held] == 0):
        return math.inf
    # Logarithms apart, since the ratio of a tiny and a huge mass may overflow.
    logs, bases = np.log(q[held]), np.log(p[held])
    slack = 2.0 * _EPS * float(q[held] @ (np.abs(logs) + np.abs(bases) + 1.0))
    total = math.fsum(q[held] * (logs - bases))
    return 0.0 if np.array_equal(q, p) else max(0.0, total + slack)


def finite_interval(
    blocks: np.ndarray | list[np.ndarray],
    posterior: FinitePosterior,
    *,
    delta: float,
    low: float = 0.0,
    high: float = 1.0,
) -> Interval:
    """Interval for E_Q of the policies' means, Q chosen with these blocks.

    Args:
        blocks: One array of independent blocks per policy, each of shape (prompts,); or a matrix
            of shape (policies, prompts). Policies may share prompts or not, and differ in number:
            the smallest number counts, as the mean of more blocks is an average of means over
            subsets of that size and exp(n kl) is convex. Only policies with a prior mass are used.
        posterior: Q and P.
        delta: Allowed probability of a miss, in (0, 1).
        low, high: Range known before the data.

    Raises:
        AssumptionError: Another number of policies, a value out of range, or a policy that has a
            prior mass but no block.

    Source: theory §6.1, §6.3.
    """
    if len(blocks) != len(posterior.weights):
        raise AssumptionError(
            f"expected blocks for each of {len(posterior.weights)} policies, found {len(blocks)}."
        )
    used = [
        (bounded_blocks(z, low=low, high=high), float(q)) for z, q in _in_play(blocks, posterior)
    ]
    average = math.fsum(q * (math.fsum(z) / len(z)) for z, q in used)
    return pac_bayes_interval(
        min(max(average, low), high),
        kl=posterior.kl,
        blocks=min(len(z) for z, _ in used),
        delta=delta,
        low=low,
        high=high,
    )


def _in_play(blocks, posterior: FinitePosterior) -> list[tuple[np.ndarray, float]]:
    everything = zip(blocks, posterior.weights, posterior.prior, strict=True)
    # Whoever has neither weight nor prior mass takes no part in the event nor in the average.
    return [(z, q) for z, q, p in everything if p > 0 or q > 0]


def _distribution(name: str, values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.all(np.isfinite(array) & (array >= 0)):
        raise AssumptionError(
            f"{name}: expected non-negative finite masses in one dimension, found {array}."
        )
    total = math.fsum(array)
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise AssumptionError(f"{name}: expected masses that sum to 1, found {total}; normalise.")
    return array / total

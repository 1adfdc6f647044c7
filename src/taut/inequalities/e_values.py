"""e-values for means of nonnegative, unbounded variables: are log-probs what they claim to be?

Log-probs right means E exp(-l) <= 1 (and E exp(p - b) <= 1 for rows drawn by b), whatever the
policies are. The variables are as heavy-tailed as log-ratios make them, and logs may hold 1e308, so
everything goes in and comes out as a logarithm, and nothing can overflow.

*Bets.* For X_i >= 0 independent with average mean at most m, and constant stakes s_k in (0, 1),

    E = mean_k prod_i (1 - s_k + s_k X_i / m)

has expectation at most 1: that of a product is prod_i (1 + s_k (E X_i / m - 1)), at most the n-th
power of the average factor, by the inequality of the means. No order and no equal laws are needed.
By Markov 1/E is a p-value. Each factor falls with m: the m with E >= 1/eta are a lower confidence
bound, at level eta, for the average mean. (No upper one exists: Bahadur & Savage 1956.)

Source: theory §4.6; Waudby-Smith & Ramdas (2024). The stakes are ours.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.concentration import require_delta

STAKES = 0.9 * 2.0 ** -np.arange(12)  # the smallest suits an excess of one part in 2,000
NOISE_DOUBT = math.log(1.05)  # nats: E exp(-l) that the noise of honest engines may reach
NOISE_SURE = math.log(2.0)

_LARGE = 1e290  # logarithms are cut here: 10^8 of them still have a finite sum
_FACTOR = 1e6  # larger factors are multiplied as logarithms
_WALK = 25  # steps, each four times the last: to 10^9 nats below the sample mean, and no further
_LARGEST = float(np.finfo(np.float64).max)

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@dataclass(frozen=True, slots=True)
class LogProbTest:
    """Evidence against right log-probs, with room for the noise of honest engines.

    Attributes:
        log_mean: ln of the sample mean of X, nats; an estimate, dominated by few rows.
        log_e_doubt: ln of the e-value against ln E X <= the doubtful level.
        log_e_sure: ln of the e-value against ln E X <= the level that no noise explains.
    """

    log_mean: float
    log_e_doubt: float
    log_e_sure: float

    @property
    def p_doubt(self) -> float:
        """p-value against the doubtful level."""
        return p_of_log_e(self.log_e_doubt)

    @property
    def p_sure(self) -> float:
        """p-value against the level that no noise explains."""
        return p_of_log_e(self.log_e_sure)


def log_prob_test(log_means: np.ndarray, *, noise: float | None = None) -> LogProbTest:
    """Test that E X is not above what right log-probs and honest noise allow.

    Null hypotheses: the average over blocks of E X is at most 1.05 (doubt), at most 2 (sure); with
    declared noise at most e^noise (both). Blocks are independent; their laws may differ.

    Power: X = 1.3 on average with standard deviation 1 is in doubt (p < 1e-3) from about 400 blocks
    on. It cannot see errors that leave E X <= 1: temperature, top-p, a near reference.

    Args:
        log_means: ln of each block's mean of X = exp(-l), or of exp(p - b) where behaviour
            log-probs b are known (`block_log_means`), shape (blocks,).
        noise: Declared bound on the error of ln X, nats.

    Raises:
        AssumptionError: A NaN, no blocks, or noise that is negative or not finite.

    Source: theory §4.6.
    """
    if noise is not None and not 0.0 <= noise < math.inf:
        raise AssumptionError(f"noise: expected finite nats, at least 0, found {noise}.")
    logs = _checked(log_means)
    doubt, sure = (NOISE_DOUBT, NOISE_SURE) if noise is None else (noise, noise)
    return LogProbTest(log_average(logs), log_e_value(logs, doubt), log_e_value(logs, sure))


def log_e_value(log_x: np.ndarray, log_bound: float = 0.0) -> float:
    """Return ln of an e-value against: the average mean of X is at most exp(log_bound).

    Under that hypothesis it exceeds ln(1/p) with probability at most p.

    Args:
        log_x: ln X of independent X >= 0 (-inf for 0), shape (n,), n >= 1; +inf gives +inf.
        log_bound: nats, finite.

    Raises:
        AssumptionError: A NaN, no values, or a bound that is not finite.

    Source: module docstring; theory §4.6.
    """
    logs = _checked(log_x)
    if not math.isfinite(log_bound):
        raise AssumptionError(f"log_bound: expected finite nats, found {log_bound}.")
    if logs.max() == math.inf:
        return math.inf
    return float(_log_fortune(logs, log_bound, STAKES)) - 1e-9 - 1e-12 * len(logs)


def log_mean_lower(log_x: np.ndarray, delta: float) -> float:
    """Return a lower end for ln of the average mean of X: above the truth with chance <= delta.

    Args:
        log_x: ln X of independent X >= 0 of any laws, shape (n,), n >= 1. +inf gives +inf, which is
            right: then X is infinite with positive probability.
        delta: Allowed probability of a miss, in (0, 1).

    Returns:
        nats; -inf where nothing can be said. Within 1/1000 of its distance from the sample mean.

    Raises:
        AssumptionError: A NaN, no values, or delta outside (0, 1).

    Source: module docstring; theory §4.6.
    """
    require_delta(delta)
    logs = _checked(log_x)
    top = log_average(logs)
    if math.isinf(top):
        return top
    goal = -math.log(delta) + 1e-9 + 1e-12 * len(logs)
    # At the sample mean and above the fortune is at most 1, so the end lies below.
    outer, gap = top, max(1e-6, 4.0 * math.ulp(top))
    for _ in range(_WALK):
        inner = max(top - gap, -_LARGEST)
        if _log_fortune(logs, inner, STAKES) >= goal:
            break
        outer, gap = inner, 4.0 * gap
    else:
        return -math.inf
    while outer - inner > 1e-3 * (top - inner):
        middle = inner + 0.5 * (outer - inner)
        if not inner < middle < outer:
            break
        if _log_fortune(logs, middle, STAKES) >= goal:
            inner = middle
        else:
            outer = middle
    return inner


def chi_square_lower(log_means: np.ndarray, delta: float) -> float:
    """Return a lower end for the chi-square of the sampler b against the policy p.

    chi-square = E_b exp(b - p) - 1, at least 0; above the truth with probability at most delta.

    Args:
        log_means: ln of each block's mean of exp(b - p) on rows drawn by b, shape (blocks,).
        delta: Allowed probability of a miss, in (0, 1).

    Raises:
        AssumptionError: As in `log_mean_lower`.

    Source: theory §4.6.
    """
    end = log_mean_lower(log_means, delta)
    return math.expm1(min(max(end, 0.0), 709.0)) * (1.0 - 1e-15)


def p_of_log_e(log_e: float) -> float:
    """Return the p-value 1/e, at most 1, at least 1e-300 (Markov)."""
    return math.exp(-min(max(log_e, 0.0), 690.0))


def log_average(log_x: np.ndarray) -> float:
    """Return ln of the mean of X from ln X, shape (n,), n >= 1; without overflow."""
    logs = _checked(log_x)
    return float(_log_means(logs, np.array([0, len(logs)]))[0])


def block_log_means(log_x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return ln of each block's mean of X from ln X, without overflow.

    Args:
        log_x: nats, block by block, shape (rows,); -inf and +inf allowed.
        starts: First row of each block, and the number of rows, shape (blocks + 1,).

    Raises:
        AssumptionError: A NaN, or starts that do not increase from 0 to the number of rows.
    """
    logs = _checked(log_x)
    starts = np.asarray(starts, dtype=np.int64)
    whole = starts.ndim == 1 and len(starts) > 1 and starts[0] == 0 and starts[-1] == len(logs)
    if not (whole and np.all(np.diff(starts) > 0)):
        raise AssumptionError(
            f"starts: expected increasing first rows of blocks from 0 to {len(logs)}, the number "
            f"of rows, found {starts}."
        )
    return _log_means(logs, starts)


def _checked(log_x: np.ndarray) -> np.ndarray:
    logs = np.ascontiguousarray(log_x, dtype=np.float64)
    if logs.ndim != 1 or len(logs) == 0:
        raise AssumptionError(f"expected one or more logs in one dimension, found {logs.shape}.")
    if np.isnan(logs.min()):
        index = int(np.flatnonzero(np.isnan(logs))[0])
        raise AssumptionError(
            f"value {index} is NaN; expected nats. Leave rows without log-probs out only where "
            "that does not depend on them."
        )
    return logs


@_compiled
def _log_means(logs, starts):
    means = np.empty(starts.size - 1)
    for i in range(means.size):
        top = -np.inf
        for j in range(starts[i], starts[i + 1]):
            top = max(top, logs[j])
        if np.isinf(top):
            means[i] = top
            continue
        total = 0.0
        for j in range(starts[i], starts[i + 1]):
            total += math.exp(logs[j] - top)
        means[i] = top + math.log(total / (starts[i + 1] - starts[i]))
    return means


@_compiled
def _log_fortune(logs, log_bound, stakes):
    """Return ln of the mean over stakes of the product of factors, all ln X below infinity."""
    size = stakes.size
    totals = np.zeros(size)
    products = np.ones(size)
    count = 0
    for i in range(logs.size):
        gap = min(max(logs[i] - log_bound, -_LARGE), _LARGE)
        if gap > 13.0:  # a factor above _FACTOR
            for k in range(size):
                totals[k] += gap + math.log(stakes[k] + (1.0 - stakes[k]) * math.exp(-gap))
            continue
        ratio = math.exp(gap)
        for k in range(size):
            products[k] *= 1.0 + stakes[k] * (ratio - 1.0)
        count += 1
        if count == 32:  # between 0.1^32 and 10^182: no product leaves the range
            totals += np.log(products)
            products[:] = 1.0
            count = 0
    totals += np.log(products)
    top = totals.max()
    return top + math.log(np.exp(totals - top).sum() / size)

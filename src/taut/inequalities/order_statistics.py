"""Best and worst of k out of n observed values: U-statistics, unbiased for every n >= k.

The mean, over all subsets of k of the n values, of the largest (smallest) one. Of 0/1 values it is
pass@k (pass^k). Each value's weight depends on its rank alone (theory §2.9).
"""

import numpy as np

from taut.errors import AssumptionError


def subset_weights(n: int, k: int) -> np.ndarray:
    """Return the share of the k-subsets of n values whose largest is the i-th smallest, shape (n,).

    C(i - 1, k - 1) / C(n, k) for i = 1..n, by a product from the largest down: exact to rounding
    for any n, with no binomial coefficient that could overflow.

    Raises:
        AssumptionError: k outside 1..n.
    """
    if not 1 <= k <= n:
        raise AssumptionError(f"best of {k}: expected at least {k} values, found {n}.")
    ranks = np.arange(n - 1, k - 1, -1, dtype=np.float64)  # i of the next smaller one, downwards
    falling = np.concatenate([[k / n], (ranks - k + 1) / ranks])
    weights = np.zeros(n)
    weights[k - 1 :] = np.cumprod(falling)[::-1]
    return weights


def resampled_weights(n: int, k: int) -> np.ndarray:
    """The same for k draws with replacement, the usual plug-in: (i/n)^k - ((i-1)/n)^k."""
    steps = (np.arange(n + 1) / n) ** k
    return np.diff(steps)


def best_of(
    values: np.ndarray, starts: np.ndarray, k: int, *, worst: bool = False, plug_in: bool = False
) -> np.ndarray:
    """Return the statistic of each draw, shape (draws,).

    Args:
        values: Draw after draw, shape (rollouts,).
        starts: Where each draw begins, shape (draws + 1,).
        k: Size of the subsets.
        worst: The smallest in place of the largest.
        plug_in: The usual, biased estimate: as if the observed values were all there are.

    Raises:
        AssumptionError: A draw with fewer than k values.
    """
    sizes = np.diff(starts)
    draw = np.repeat(np.arange(len(sizes)), sizes)
    ordered = values[np.lexsort((-values if worst else values, draw))]
    weigh = resampled_weights if plug_in else subset_weights
    weights = np.empty(len(values))
    for n in np.unique(sizes).tolist():
        same = np.repeat(sizes == n, sizes)
        weights[same] = np.tile(weigh(n, k), int((sizes == n).sum()))
    found = np.add.reduceat(ordered * weights, starts[:-1])
    # Rounding may leave the range of the values by an ulp.
    low, high = (np.minimum.reduceat, np.maximum.reduceat)
    return np.clip(found, low(ordered, starts[:-1]), high(ordered, starts[:-1]))

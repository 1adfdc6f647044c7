"""Whether labels fall evenly on classes: sequential e-values for draws from urns.

Given how many draws are labelled, blind labels are drawn from an urn without replacement: the next
one is of class h with chance c_h / c, the share of h among what is left.
Betting on it with predictions made of the labels before,

    prod_t q_t(h_t) / p_t(h_t),  q_t(h) proportional to c_h (seen_h + 1) / (expected_h + 1),

is an e-value whatever the classes are: each factor has mean sum_h q_t(h) = 1 given the past. It
learns the rates of all classes at once, so that it also sees what no single class shows.

The rows of a draw have no order that is independent of their labels. Given that m of them are
labelled, the set S is bet on at once, with q(S) proportional to the product of the rates of its
rows, learned from the draws before:

    q(S) / p(S) = prod_{i in S} rate_i / (e_m(rates) / C(K, m)),

e_m the elementary symmetric polynomial, whose mean over all sets of m rows is 1.

Source: theory §2 (labels over different laws); Grünwald, de Heide & Koolen (2024).
"""

import numba
import numpy as np

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
MOST_CLASSES = 512


def log_e_value_between(classes: np.ndarray, labelled: np.ndarray, order: np.ndarray) -> float:
    """Return ln of an e-value against blind labels of draws of several classes.

    Null hypothesis: given their number, the labelled draws are a uniformly random subset.

    Args:
        classes: Code of each draw's class, from 0, shape (draws,).
        labelled: Whether it is labelled, shape (draws,).
        order: Any order of the draws that is independent of labels and classes, shape (draws,).
    """
    if len(classes) == 0:
        return 0.0
    codes = np.asarray(classes, dtype=np.int64) % MOST_CLASSES
    chosen = order[np.asarray(labelled, dtype=bool)[order]]
    left = np.bincount(codes, minlength=int(codes.max()) + 1).astype(np.float64)
    return float(_between(codes[chosen], left))


def log_e_value_within(classes: np.ndarray, labelled: np.ndarray, starts: np.ndarray) -> float:
    """Return ln of an e-value against blind labels of the rows of each draw.

    Null hypothesis: given how many rows of a draw are labelled, they are a uniformly random subset
    of its rows, independently between draws.

    Args:
        classes: Code of each row's class, from 0, draw by draw, shape (rows,).
        labelled: Whether it is labelled, shape (rows,).
        starts: First row of each draw, and the number of rows, shape (draws + 1,).
    """
    if len(classes) == 0:
        return 0.0
    codes = np.asarray(classes, dtype=np.int64) % MOST_CLASSES
    return float(_within(codes, np.asarray(labelled, dtype=np.bool_), starts, int(codes.max()) + 1))


@_compiled
def _between(chosen, left):
    kinds = left.size
    seen, expected = np.zeros(kinds), np.zeros(kinds)
    log_e, total = 0.0, left.sum()
    for at in range(chosen.size):
        h = chosen[at]
        mass = 0.0
        for k in range(kinds):
            mass += left[k] * (seen[k] + 1.0) / (expected[k] + 1.0)
        log_e += np.log((seen[h] + 1.0) / (expected[h] + 1.0) * total / mass)
        for k in range(kinds):
            expected[k] += left[k] / total
        seen[h] += 1.0
        left[h] -= 1.0
        total -= 1.0
    return log_e


@_compiled
def _within(codes, labelled, starts, kinds):
    """Bet on the set of labelled rows of a draw, as rows have no order that is chance."""
    seen, expected, rate = np.zeros(kinds), np.zeros(kinds), np.ones(kinds)
    means = np.zeros(codes.size + 1)  # e_j(rates) / C(n, j) of the first n rows
    log_e = 0.0
    for i in range(starts.size - 1):
        first, last = starts[i], starts[i + 1]
        count, log_chosen = 0, 0.0
        for row in range(first, last):
            if labelled[row]:
                count += 1
                log_chosen += np.log(rate[codes[row]])
        size = last - first
        if count == 0 or count == size:
            continue
        means[0] = 1.0
        means[1 : count + 1] = 0.0
        for n in range(1, size + 1):
            x = rate[codes[first + n - 1]]
            for j in range(min(n, count), 0, -1):
                means[j] = ((n - j) * means[j] + j * x * means[j - 1]) / n
        if means[count] > 0.0:  # no bet where it underflows, which the labels do not decide
            log_e += log_chosen - np.log(means[count])
        for row in range(first, last):
            expected[codes[row]] += count / size
            seen[codes[row]] += labelled[row]
        for row in range(first, last):
            h = codes[row]
            rate[h] = (seen[h] + 1.0) / (expected[h] + 1.0)
    return log_e

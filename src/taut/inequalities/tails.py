"""Tails of sums of hypergeometric and Bernoulli counts: exact where small, else a sharp bound.

Every count here is a sum of independent Bernoulli variables: a hypergeometric's generating function
has real roots only (Vatutin & Mikhailov 1982). So is the count tilted by exp(theta s). For a
Bernoulli of variance v, |E exp(itX)|^2 = 1 - 2v (1 - cos t) <= exp(-2v (1 - cos t)), hence for a
sum of variance V no single value has a probability above

    (1 / 2 pi) int exp(-V (1 - cos t)) dt = exp(-V) I_0(V).

Tilting by any theta > 0 therefore gives, with L(theta) = ln E exp(theta S) and V = L''(theta),

    P(S >= s) <= exp(L(theta) - theta s) min(1, exp(-V) I_0(V) / (1 - exp(-theta))),

Chernoff's bound with the factor of Bahadur & Rao (1960), valid at every sample size.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ive

from taut.errors import AssumptionError

_EXACT = 3000  # largest number of values of a sum whose law is convolved term by term
_ROUNDING = 1e-7  # relative: more than logarithms of factorials of 10^8 lose
_LEAST = 1e-300  # of a tail: smaller ones are not told apart
_STEEPEST = 60.0  # largest tilt: exp(-60) is nothing beside 1


@dataclass(frozen=True, slots=True)
class Counts:
    """The law of an independent sum: probabilities of each distinct part, and how often it occurs.

    Attributes:
        laws: Probabilities of 0, 1, ... of each part, arrays of shape (values,).
        times: How many independent copies of each part, shape (parts,).
        shift: What is added to the sum for certain.
    """

    laws: tuple[np.ndarray, ...]
    times: np.ndarray
    shift: int = 0

    @property
    def most(self) -> int:
        """Largest value of the sum."""
        steps = (int(n) * (len(law) - 1) for law, n in zip(self.laws, self.times, strict=True))
        return self.shift + sum(steps)

    def mirrored(self) -> "Counts":
        """Return the law of (least + most value - sum), so that lower tails become upper ones."""
        return Counts(tuple(law[::-1] for law in self.laws), self.times, self.shift)


def hypergeometric_sum(total: np.ndarray, marked: np.ndarray, drawn: np.ndarray) -> Counts:
    """Return the law of how many marked items are drawn, summed over independent urns.

    Args:
        total, marked, drawn: Of each urn, integers of shape (urns,); 0 <= marked, drawn <= total.

    Raises:
        AssumptionError: Counts outside these ranges.
    """
    total, marked, drawn = (np.asarray(a, dtype=np.int64) for a in (total, marked, drawn))
    if not np.all((marked >= 0) & (marked <= total) & (drawn >= 0) & (drawn <= total)):
        raise AssumptionError("urns: expected marked and drawn items in 0..total of each urn.")
    least = np.maximum(0, marked + drawn - total)
    free = np.minimum(marked, drawn) > least
    urns, times = _distinct(total[free], marked[free], drawn[free])
    laws = tuple(_hypergeometric(*(int(value) for value in urn)) for urn in urns)
    return Counts(laws, times, int(least.sum()))


def bernoulli_sum(chances: np.ndarray) -> Counts:
    """Return the law of a sum of independent Bernoulli variables, chances of shape (variables,).

    Raises:
        AssumptionError: A chance outside [0, 1].
    """
    distinct, times = np.unique(np.asarray(chances, dtype=np.float64), return_counts=True)
    if not np.all((distinct >= 0.0) & (distinct <= 1.0)):
        raise AssumptionError(f"chances: expected probabilities in [0, 1], found {distinct}.")
    return Counts(tuple(np.array([1.0 - q, q]) for q in distinct), times)


def upper_tail(counts: Counts, value: int) -> float:
    """Return P(sum >= value), never too small; in (0, 1]."""
    distance = int(value) - counts.shift
    width = counts.most - counts.shift
    if distance <= 0:
        return 1.0
    if distance > width:
        return _LEAST
    if len(counts.times) == 1 and counts.times[0] == 1:
        tail = float(counts.laws[0][distance:].sum())
    elif width <= _EXACT:
        tail = float(_convolved(counts)[distance:].sum())
    else:
        tail = _tilted_tail(counts, distance)
    return min(1.0, tail * (1.0 + _ROUNDING) + _LEAST)


def lower_tail(counts: Counts, value: int) -> float:
    """Return P(sum <= value), never too small; in (0, 1]."""
    return upper_tail(counts.mirrored(), counts.shift + counts.most - int(value))


def two_sided(counts: Counts, value: int) -> float:
    """Return twice the smaller tail at the value, at most 1: a valid p-value."""
    return min(1.0, 2.0 * min(upper_tail(counts, value), lower_tail(counts, value)))


def least_two_sided(counts: Counts) -> float:
    """Return the smallest p-value that `two_sided` gives for any value of the sum."""
    ends = (upper_tail(counts, counts.most), lower_tail(counts, counts.shift))
    return min(1.0, 2.0 * min(ends)) if counts.laws else 1.0


def _distinct(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct rows of some columns of counts, and how often each occurs."""
    size = max((int(column.max(initial=0)) for column in columns), default=0) + 1
    if float(size) ** len(columns) < 2.0**62:  # one number a row: faster than comparing rows
        code = np.zeros(len(columns[0]), dtype=np.int64)
        for column in columns:
            code = code * size + column
        if float(size) ** len(columns) <= 4.0 * len(code):
            times = np.bincount(code)  # faster than a sort, where most numbers occur
            found = np.flatnonzero(times)
            times = times[found]
        else:
            found, times = np.unique(code, return_counts=True)
        rows = np.stack(np.unravel_index(found, (size,) * len(columns)), axis=1)
        return rows, times
    return np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)


def log_choose(n: float | np.ndarray, k: float | np.ndarray) -> np.ndarray:
    """Return ln C(n, k), of any shapes that broadcast."""
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _hypergeometric(total: int, marked: int, drawn: int) -> np.ndarray:
    """Return the probabilities from the least to the largest number of marked items drawn."""
    x = np.arange(max(0, marked + drawn - total), min(marked, drawn) + 1, dtype=np.float64)
    logs = log_choose(marked, x) + log_choose(total - marked, drawn - x)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _convolved(counts: Counts) -> np.ndarray:
    """Return the exact law by multiplication of generating functions: positive terms only."""
    law = np.ones(1)
    for part, times in zip(counts.laws, counts.times, strict=True):
        power, left = part, int(times)
        while left:
            if left & 1:
                law = np.convolve(law, power)
            left >>= 1
            power = np.convolve(power, power) if left else power
    return law


def _tilted_tail(counts: Counts, distance: int) -> float:
    """Return the bound of the module docstring, at the tilt whose mean is the value."""
    starts = np.cumsum([0] + [len(law) for law in counts.laws[:-1]])
    steps = np.concatenate([np.arange(len(law), dtype=np.float64) for law in counts.laws])
    with np.errstate(divide="ignore"):
        logs = np.log(np.concatenate(counts.laws))
    sizes = np.diff(np.append(starts, len(steps)))
    times = counts.times.astype(np.float64)

    def moments(theta: float) -> tuple[float, float, float]:
        tilted = logs + theta * steps
        tops = np.maximum.reduceat(tilted, starts)
        weights = np.exp(tilted - np.repeat(tops, sizes))
        mass = np.add.reduceat(weights, starts)
        mean = np.add.reduceat(weights * steps, starts) / mass
        spread = np.add.reduceat(weights * (steps - np.repeat(mean, sizes)) ** 2, starts) / mass
        return float(times @ (tops + np.log(mass))), float(times @ mean), float(times @ spread)

    inner, outer = 0.0, _STEEPEST
    if moments(inner)[1] >= distance:
        return 1.0
    while outer - inner > 1e-9 * outer:  # any tilt is valid: this one is nearly the best
        theta = 0.5 * (inner + outer)
        if moments(theta)[1] < distance:
            inner = theta
        else:
            outer = theta
    log_mgf, _, variance = moments(outer)
    largest = float(ive(0, variance * (1.0 - _ROUNDING))) / -math.expm1(-outer)
    exponent = log_mgf - outer * distance
    slack = 1e-13 * (abs(log_mgf) + outer * distance) + 1e-9
    return min(1.0, largest) * math.exp(min(0.0, exponent) + slack)

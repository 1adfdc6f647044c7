"""The Bernoulli divergence kl(p || q) and its inverses: the exact currency of bounded means."""

import numpy as np

from taut.errors import AssumptionError

_ULPS = 4.0  # two-sided rounding of one evaluation of kl, in units of the last place


def bernoulli_kl(p: np.ndarray | float, q: np.ndarray | float) -> np.ndarray:
    """Return kl(p || q) = p ln(p/q) + (1-p) ln((1-p)/(1-q)), nats, with p and q broadcast.

    Evaluated as p phi(d/p) + (1-p) phi(-d/(1-p)), d = q - p, phi(u) = u - ln(1+u): a sum of two
    non-negative parts, so the value keeps its relative accuracy where p and q nearly agree.

    Args:
        p, q: Probabilities, any shapes that broadcast.

    Raises:
        AssumptionError: A value leaves [0, 1].

    Source: theory §2.2, §6.1.
    """
    p, q = _probabilities("p", p), _probabilities("q", q)
    return _kl_at(*np.broadcast_arrays(p, q - p))


def kl_upper(p: np.ndarray | float, budget: np.ndarray | float) -> np.ndarray:
    """Return the largest q with kl(p || q) <= budget, never rounded inward.

    Args:
        p: Probabilities, any shape that broadcasts with `budget`.
        budget: Allowed divergence, nats, at least 0.

    Raises:
        AssumptionError: p leaves [0, 1], or a budget is negative or NaN.

    Source: theory §2.2, §6.1 (Seeger 2002; Maurer 2004). Accurate to 1e-12.
    """
    p, budget = np.broadcast_arrays(_probabilities("p", p), _budgets(budget))
    shift = _largest_shift(p, budget)
    return np.minimum(np.nextafter(p + shift, 2.0), 1.0)


def kl_lower(p: np.ndarray | float, budget: np.ndarray | float) -> np.ndarray:
    """Return the smallest q with kl(p || q) <= budget, never rounded inward.

    Arguments, errors and source as in `kl_upper`.
    """
    p, budget = np.broadcast_arrays(_probabilities("p", p), _budgets(budget))
    shift = _largest_shift(p, budget, sign=-1.0)
    # The shift is known to a unit in the last place of p, which is more than one of a small q.
    return np.maximum(np.nextafter(p - shift - 2.0 * np.finfo(np.float64).eps * p, -1.0), 0.0)


def _largest_shift(p: np.ndarray, budget: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """Return the outer end of a bisection bracket for |q - p|; kl there exceeds the budget."""
    room = 1.0 - p if sign > 0 else p
    inner, outer = np.zeros_like(room), room.copy()
    with np.errstate(over="ignore"):  # the largest float becomes infinite: a budget for all
        budget = budget * (1.0 + _ULPS * np.finfo(np.float64).eps)
    for _ in range(60):  # halves the bracket each time: ends below one unit in the last place
        middle = inner + 0.5 * (outer - inner)
        inside = _kl_at(p, sign * middle) <= budget
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return outer


def _kl_at(p: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return _part(p, shift) + _part(1.0 - p, -shift)


def _part(mass: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return mass * phi(shift / mass), whose limit at mass = 0 is the shift itself."""
    # A mass this small adds less than 1e-197 to the shift, and the ratio would overflow.
    empty = (mass <= 0.0) | ((mass < 1e-200) & (shift > 0.0))
    ratio = np.maximum(shift / np.where(empty, 1.0, mass), -1.0)
    return np.where(empty, np.maximum(shift, 0.0), mass * _log_gap(ratio))


def _log_gap(u: np.ndarray) -> np.ndarray:
    """Return u - ln(1+u) for u >= -1 with full relative accuracy; infinite at -1."""
    small = np.abs(u) < 0.1
    # ln(1+u) = 2 artanh(r) with r = u/(2+u), hence u - ln(1+u) = u r - 2 (r^3/3 + r^5/5 + ...).
    near = np.where(small, u, 0.0)
    r = near / (2.0 + near)
    square = r * r
    tail = np.zeros_like(r)
    for power in range(19, 1, -2):
        tail = tail * square + 1.0 / power
    with np.errstate(divide="ignore"):
        return np.where(small, near * r - 2.0 * r * square * tail, u - np.log1p(u))


def _probabilities(name: str, values: np.ndarray | float) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not np.all((array >= 0.0) & (array <= 1.0)):
        raise AssumptionError(f"{name}: expected probabilities in [0, 1], found {array}.")
    return array


def _budgets(values: np.ndarray | float) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not np.all(array >= 0.0):
        raise AssumptionError(f"budget: expected nats, at least 0, found {array}.")
    return array

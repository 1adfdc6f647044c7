"""A tail bound for stratified rank sums under random labels, as sharp as the normal one.

Let draw j of stratum g be labelled by an independent coin of chance f_g = m_g / N_g. Given that m_g
are labelled in each stratum, the labelled draws are a uniformly random subset. So with T the sum of
the labelled draws' scores a_j and for any theta >= 0 and lambda_g,

    P(T >= t | counts) <= exp(L - theta t - sum_g lambda_g m_g) prod_g c_g / b_g,
    L = sum_j ln(1 - f_g + f_g exp(theta a_j + lambda_g)),

where b_g is the binomial probability of m_g and c_g = exp(-V_g) I_0(V_g) bounds that of m_g under
the tilted coins, whose number of heads has variance V_g (`taut.inequalities.tails`). c_g / b_g is
nearly 1: unlike Hoeffding's (1963) bound for samples without replacement, nothing is lost where
half of the draws are labelled. Any theta and lambda are valid; Newton's steps make them nearly the
best.
"""

import math

import numba
import numpy as np
from scipy.special import ive

from taut.errors import AssumptionError
from taut.inequalities.tails import log_choose

_PRICE = 2.0  # strata are used, largest first, while their 1 / variance sum to at most this
_STEPS = 40

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def rank_p_value(scores: np.ndarray, labelled: np.ndarray, starts: np.ndarray) -> float | None:
    """Return a two-sided p-value for the sum of labelled draws' scores, given counts per stratum.

    Args:
        scores: Of each draw, stratum by stratum, centred in it; finite. Shape (draws,).
        labelled: Which draws are labelled, shape (draws,).
        starts: First draw of each stratum, and the number of draws, shape (strata + 1,).

    Returns:
        At most 1; None where no stratum is large enough. Strata are chosen by their counts alone.

    Raises:
        AssumptionError: A score that is not finite.

    Source: module docstring.
    """
    if not np.all(np.isfinite(scores)):
        raise AssumptionError("scores: expected finite numbers; rank them first.")
    sizes = np.diff(starts).astype(np.float64)
    totals = np.append(0, np.cumsum(labelled))
    drawn = np.diff(totals[starts]).astype(np.float64)
    variance = drawn * (sizes - drawn) / np.maximum(sizes, 1.0)
    order = np.argsort(-variance, kind="stable")
    with np.errstate(divide="ignore"):
        order = order[np.cumsum(1.0 / variance[order]) <= _PRICE]
    used = np.zeros(len(sizes), dtype=bool)
    used[order] = True
    rows = np.repeat(used, np.diff(starts))
    a = scores[rows]
    if len(a) == 0 or not np.any(a):
        return None
    a = a / np.abs(a).max()
    group = np.repeat(np.arange(len(order)), sizes[used].astype(np.int64))
    t = float(a[labelled[rows]].sum())
    log_p = _log_tail(a if t >= 0 else -a, group, sizes[used], drawn[used], abs(t))
    return min(1.0, 2.0 * math.exp(min(log_p, 0.0)))


def _log_tail(
    a: np.ndarray, group: np.ndarray, sizes: np.ndarray, drawn: np.ndarray, t: float
) -> float:
    theta, shifts = 0.0, np.zeros(len(sizes))
    share = drawn / sizes
    best = _tilt(a, group, share, drawn, t, theta, shifts)
    for _ in range(_STEPS):
        value, slope, slopes, curve, cross, variances = best
        # Newton for the arrow-shaped Hessian: shifts are eliminated first.
        ratio = cross / variances
        rest = curve - float(cross @ ratio)
        if rest <= 1e-12 * curve:
            break
        step = -(slope - float(ratio @ slopes)) / rest
        moves = -(slopes + cross * step) / variances
        gain = -(slope * step + float(slopes @ moves))
        if not gain > 1e-3:
            break
        factor = 1.0
        while factor > 1e-4:
            tried = _tilt(
                a, group, share, drawn, t, max(theta + factor * step, 0.0), shifts + factor * moves
            )
            if tried[0] <= value - 1e-4 * factor * gain:
                break
            factor *= 0.5
        else:
            break
        theta, shifts, best = max(theta + factor * step, 0.0), shifts + factor * moves, tried
    logs = log_choose(sizes, drawn) + drawn * np.log(share) + (sizes - drawn) * np.log1p(-share)
    slack = 1e-9 + 1e-12 * len(a) + 1e-13 * (abs(theta * t) + float(np.abs(shifts) @ drawn))
    price = np.log(ive(0, best[5] * (1.0 - 1e-7))) - logs + 1e-7
    return best[0] + float(price.sum()) + slack


@_compiled
def _tilt(a, group, share, drawn, t, theta, shifts):
    """Return the exponent with its slopes and curvatures in theta and in the shifts."""
    strata = share.size
    heads, cross, variances = np.zeros(strata), np.zeros(strata), np.zeros(strata)
    value, mean, curve = -theta * t, 0.0, 0.0
    for g in range(strata):
        value -= shifts[g] * drawn[g]
    for j in range(a.size):
        g = group[j]
        tilt = theta * a[j] + shifts[g]
        f = share[g]
        if tilt > 0.0:  # neither branch can overflow
            small = (1.0 - f) * math.exp(-tilt)
            value += tilt + math.log(f + small)
            p = f / (f + small)
        else:
            big = f * math.exp(tilt)
            value += math.log(1.0 - f + big)
            p = big / (1.0 - f + big)
        v = p * (1.0 - p)
        heads[g] += p
        variances[g] += v
        cross[g] += v * a[j]
        curve += v * a[j] * a[j]
        mean += p * a[j]
    return value, mean - t, heads - drawn, curve, cross, variances

"""A judge's recalibration, learned block by block from the blocks before (theory §3.6).

Block t is B_t = value_t + sum_rows coefficient * g_t(judge), where the coefficients make the second
part a mean-zero control: g_t over the block's group less g_t over its labelled rows. g_t is
piecewise linear and nondecreasing between knots at quantiles of the judge values of the blocks
before t, constant outside, so that its span is known. It is least squares on those blocks, with

 * slopes shrunk towards one line through the origin of the slopes, that line itself towards 0;
 * a price for each segment's rise, since the range of a block grows with the span of g_t: where the
   judge is rare or says little, g_t is flat;
 * per side a share of it in {0, 1/4, .., 1}, by the width that the interval is forecast to have.

All of that is a function of the blocks before t: none of it is paid for. What is chosen is only
ever a matter of width; the interval holds for any of it.
"""

import math
from typing import NamedTuple

import numpy as np

from taut.inequalities import aim

_SEGMENTS = 12  # at most
_FIRST = 5  # blocks before the judge is used
_TAIL = 0.02  # share of the judge's values beyond either end knot
_SAMPLE = 2048  # judge values that place the knots
_GROWTH = 1.25  # knots move when there are so many times more blocks
_PRICE = 0.5  # of the span, in the units of `_solve`
_OPTIMISM = 1.5  # what a fit promises beyond what it keeps, per degree of freedom
_OFTEN = 256  # blocks up to which the fit is made anew for each
_SWEEPS = 30
_NONE = 1e-300


class Past(NamedTuple):
    """Sums over the blocks so far under the present knots; index 0 is the constant, then ramps.

    `value` holds the sum of the values, of their squares, and of the groups' parts; `feature` the
    sums of the features, `cross` of feature * value, `square` of feature * feature, `group` of the
    groups' features. `count` holds the number of segments, `middle` the mean of each ramp over the
    judge's values seen; `scratch` is room to work in.
    """

    knots: np.ndarray
    count: np.ndarray
    middle: np.ndarray
    value: np.ndarray
    feature: np.ndarray
    cross: np.ndarray
    square: np.ndarray
    group: np.ndarray
    scratch: np.ndarray


class Fit(NamedTuple):
    """g = constant + sum_j slope_j * (ramp_j - middle_j), and what it does to a block so far.

    `slopes` has shape (segments,). `numbers` holds: the constant; the span; what the share of g's
    rise takes off the variance, half the linear part and the quadratic one; what it adds to the
    mean; degrees of freedom; the middle of g over its lowest value; what the constant adds to
    variance and mean; the mean of the groups' parts: without g, by a unit of lowest g, and by the
    share of g's rise.
    """

    slopes: np.ndarray
    numbers: np.ndarray


class Rows(NamedTuple):
    """Rows block after block, of labelled draws first; arrays as in `RectifierBlocks`.

    `sign` (+1 or -1) multiplies the coefficients.
    """

    starts: np.ndarray
    stops: np.ndarray
    judge: np.ndarray
    coefficient: np.ndarray
    sign: float


class Room(NamedTuple):
    """How far each part may leave its place, as c0 + c1 * lowest g + c2 * highest g.

    `below` and `above` say how far the labelled draws' part may leave [0, 1], `group_below` and
    `group_above` how far the group's may leave 0; each of shape (blocks, 3).
    """

    below: np.ndarray
    above: np.ndarray
    group_below: np.ndarray
    group_above: np.ndarray


@aim.compiled
def learn(value, group_value, rows, room, horizon, eta_terms, top):
    """Learn g block by block for one side and return the stakes of that side.

    Args:
        value, group_value: Parts of each block without the judge, on the unit scale of the side
            (the group's less its origin), shape (blocks,).
        rows, room: The judge's rows, and the range of each block.
        horizon: Number of blocks that each bet reckons with, shape (blocks,).
        eta_terms: ln(1/eta) and the normal quantile of 1 - eta.
        top: Largest value that g may take where coefficients do not sum to 0 (g >= 0 then too); 0
            where they do: a constant in g is then nothing.

    Returns:
        x, below, above, z, z_below, z_above, mean, variance, guard and share, each of shape
        (blocks,); then the knots and the values there of the whole g that a next block would be
        offered a share of.
    """
    n = value.size
    out = np.zeros((10, n))
    past, fit = _new_past(), Fit(np.zeros(_SEGMENTS), np.zeros(12))
    features, group = np.empty(_SEGMENTS + 1), np.empty(_SEGMENTS + 1)
    moves, solves, repeats = _FIRST, _FIRST, 0.0
    for t in range(n + 1):
        if t >= moves:
            _place_knots(past, rows.judge[: rows.starts[t]], t)
            _resum(past, value, group_value, rows, t)
            moves = max(t + 1, int(t * _GROWTH))
            solves = t
        if t >= solves:
            _solve(past, fit, t, horizon[min(t, n - 1)], eta_terms[0], top)
            _value_of(past, fit, t, top)
            solves = t + max(1, t // (_OFTEN // 2)) if t >= _OFTEN else t + 1
        if t == n:
            break
        share = _share(past, fit, t, room, horizon[t], eta_terms, top)
        _features(rows, t, past, features, group)
        x, z = value[t], group_value[t]
        lowest = _lowest(fit, share, top)
        x += lowest * (features[0] - group[0])
        z += lowest * group[0]
        for j in range(past.count[0]):
            x += share * fit.slopes[j] * (features[1 + j] - group[1 + j])
            z += share * fit.slopes[j] * group[1 + j]
        low, high, group_low, group_high, centre = _room(past, fit, t, room, share, top)
        mean, variance = _forecast(past, fit, t, share)
        out[0, t] = min(max(x + centre, -low), 1.0 + high)  # rounding only
        out[1, t], out[2, t] = low, high
        out[3, t] = min(max(z - centre, -group_low), group_high)
        out[4, t], out[5, t], out[6, t], out[7, t] = group_low, group_high, mean, variance
        out[8, t] = aim.guard(repeats, t, min(max(mean, 0.0), 1.0), variance)
        out[9, t] = share
        if t > 0:
            repeats += value[t] == value[t - 1]
        _add(past, value[t], group_value[t], features, group)
    return out, past.knots[: past.count[0] + 1].copy(), _levels(past, fit, top)


@aim.compiled
def _room(past, fit, t, room, share, top):
    """Return how far block t may leave its place with this share of g, and the group's centre.

    The centre is the mean of the groups before: it moves from the group's part to the labelled
    draws', so that each part lies about its own middle. Any centre is valid.
    """
    lowest = _lowest(fit, share, top)
    highest = lowest + share * fit.numbers[1]
    group_low = _at(room.group_below, t, lowest, highest)
    group_high = _at(room.group_above, t, lowest, highest)
    centre = 0.5 * (group_high - group_low)
    if t >= _FIRST:
        centre = fit.numbers[9] + lowest * fit.numbers[10] + share * fit.numbers[11]
    centre = min(max(centre, -group_low), group_high)
    low = max(0.0, _at(room.below, t, lowest, highest) - centre)
    high = max(0.0, _at(room.above, t, lowest, highest) + centre)
    return low, high, max(0.0, group_low + centre), max(0.0, group_high - centre), centre


@aim.compiled
def _at(terms, t, lowest, highest):
    return terms[t, 0] + terms[t, 1] * lowest + terms[t, 2] * highest


@aim.compiled
def _new_past():
    size = _SEGMENTS + 1
    return Past(
        np.zeros(size),
        np.zeros(1, dtype=np.int64),
        np.zeros(_SEGMENTS),
        np.zeros(3),
        np.zeros(size),
        np.zeros(size),
        np.zeros((size, size)),
        np.zeros(size),
        np.zeros((2, size)),
    )


@aim.compiled
def _place_knots(past, judge, t):
    """Put the knots at quantiles of the judge's values in the blocks before t."""
    if judge.size == 0:
        past.count[0] = 0
        return
    stride = max(1, judge.size // _SAMPLE)
    values = np.sort(judge[::stride])
    wanted = max(1, min(_SEGMENTS, int(math.sqrt(t))))
    knots, found = past.knots, 0
    apart = 1e-9 * (values[-1] - values[0])
    for j in range(wanted + 1):
        level = _TAIL + (1.0 - 2.0 * _TAIL) * j / wanted
        knot = values[int(level * (values.size - 1) + 0.5)]
        if found == 0 or knot > knots[found - 1] + apart:
            knots[found] = knot
            found += 1
    past.count[0] = found - 1
    for j in range(found - 1):
        total = 0.0
        for value in values:
            total += min(max(value, knots[j]), knots[j + 1]) - knots[j]
        past.middle[j] = total / values.size


@aim.compiled
def _resum(past, value, group_value, rows, t):
    """Sum the blocks before t anew, under knots that have moved."""
    past.value.fill(0.0)
    past.feature.fill(0.0)
    past.cross.fill(0.0)
    past.square.fill(0.0)
    past.group.fill(0.0)
    features, group = np.empty(past.feature.size), np.empty(past.feature.size)
    for u in range(t):
        _features(rows, u, past, features, group)
        _add(past, value[u], group_value[u], features, group)


@aim.compiled
def _features(rows, t, past, features, group):
    """Fill the features of block t, of all its rows and of those of the group alone."""
    _sum_ramps(rows, rows.stops[t], rows.starts[t + 1], past, group)
    _sum_ramps(rows, rows.starts[t], rows.stops[t], past, features)
    for i in range(past.count[0] + 1):
        features[i] += group[i]


@aim.compiled
def _sum_ramps(rows, start, stop, past, features):
    """Fill the sums of coefficient, and of coefficient * ramp_j, over rows start..stop."""
    knots, count = past.knots, past.count[0]
    within, beyond = past.scratch[0], past.scratch[1]
    for j in range(count + 1):
        within[j], beyond[j], features[j] = 0.0, 0.0, 0.0
    if start == stop:
        return
    total = 0.0
    for i in range(start, stop):
        value, weight = rows.judge[i], rows.sign * rows.coefficient[i]
        total += weight
        if count == 0 or value <= knots[0]:
            continue
        j = 0
        while j < count and value > knots[j + 1]:
            j += 1
        if j < count:
            within[j] += weight * (value - knots[j])
        beyond[j] += weight
    features[0] = total
    above = beyond[count]
    for j in range(count - 1, -1, -1):
        features[1 + j] = within[j] + (knots[j + 1] - knots[j]) * above
        above += beyond[j]


@aim.compiled
def _add(past, own_value, group_value, features, group):
    value = own_value + group_value
    past.value[0] += value
    past.value[1] += value * value
    past.value[2] += group_value
    for i in range(past.count[0] + 1):
        past.feature[i] += features[i]
        past.group[i] += group[i]
        past.cross[i] += features[i] * value
        for k in range(past.count[0] + 1):
            past.square[i, k] += features[i] * features[k]


@aim.compiled
def _centred(past, t):
    """Return -cov(feature, value) * t and cov(feature, feature) * t, ramps taken off their middle.

    Taking c times the constant's feature off each ramp's is what ramp - c in place of ramp does.
    """
    size = past.count[0] + 1
    cross, square = np.empty(size), np.empty((size, size))
    for i in range(size):
        cross[i] = past.value[0] * past.feature[i] / t - past.cross[i]
        for k in range(size):
            square[i, k] = past.square[i, k] - past.feature[i] * past.feature[k] / t
    for i in range(1, size):
        cross[i] -= past.middle[i - 1] * cross[0]
        for k in range(size):
            square[i, k] -= past.middle[i - 1] * square[0, k]
    for k in range(1, size):
        for i in range(size):
            square[i, k] -= past.middle[k - 1] * square[i, 0]
    return cross, square


@aim.compiled
def _solve(past, fit, t, horizon, log_term, top):
    """Fit the constant and the slopes to the blocks before t."""
    fit.slopes.fill(0.0)
    count, constant = past.count[0], 0.0
    cross, square = _centred(past, t)
    if top > 0.0 and square[0, 0] > _NONE:
        constant = min(max(cross[0] / square[0, 0], 0.0), top)
    fit.numbers[0] = constant
    line, information = 0.0, 0.0
    for i in range(1, count + 1):
        cross[i] -= constant * square[i, 0]
        line += cross[i]
        for k in range(1, count + 1):
            information += square[i, k]
    if count == 0 or line <= 0.0 or information <= _NONE:
        return
    squares = past.value[1] - past.value[0] ** 2 / t
    squares += constant * (constant * square[0, 0] - 2.0 * cross[0])
    slope = line / information
    noise = max(squares - slope * line, 1e-12) / max(t - 2, 1)
    slope *= max(0.0, 1.0 - noise / (slope * line))
    if slope <= 0.0:
        return
    pull = noise / (slope * slope)
    price = _PRICE * t * math.sqrt(noise * log_term / horizon)
    _descend(fit.slopes, cross, square, past.knots, count, slope, pull, price)


@aim.compiled
def _descend(slopes, cross, square, knots, count, slope, pull, price):
    """Minimise b'Sb/2 - c'b + pull |b - slope|^2 / 2 + price * span over slopes b >= 0."""
    for j in range(count):
        slopes[j] = slope
    for _ in range(_SWEEPS):
        moved = 0.0
        for j in range(count):
            wanted = cross[1 + j] + pull * slope - price * (knots[j + 1] - knots[j])
            for k in range(count):
                if k != j:
                    wanted -= square[1 + j, 1 + k] * slopes[k]
            new = max(0.0, wanted / (square[1 + j, 1 + j] + pull))
            moved = max(moved, abs(new - slopes[j]))
            slopes[j] = new
        if moved < 1e-4 * slope:
            break


@aim.compiled
def _value_of(past, fit, t, top):
    """Fill what g does to a block before t; scale it first where its span exceeds `top`."""
    count, numbers = past.count[0], fit.numbers
    span = 0.0
    for j in range(count):
        span += fit.slopes[j] * (past.knots[j + 1] - past.knots[j])
    if top > 0.0 and span > top:
        for j in range(count):
            fit.slopes[j] *= top / span
        span = top
    for i in range(1, numbers.size):
        numbers[i] = 0.0
    numbers[1] = span
    cross, square = _centred(past, t)
    constant = numbers[0]
    numbers[7] = constant * (constant * square[0, 0] - 2.0 * cross[0]) / t
    numbers[8] = constant * past.feature[0] / t
    numbers[9], numbers[10] = past.value[2] / t, past.group[0] / t
    active = 0.0
    for j in range(count):
        slope = fit.slopes[j]
        numbers[2] += slope * (cross[1 + j] - constant * square[1 + j, 0]) / t
        numbers[4] += slope * (past.feature[1 + j] - past.middle[j] * past.feature[0]) / t
        numbers[6] += slope * past.middle[j]
        numbers[11] += slope * past.group[1 + j] / t
        active += slope > 0.0
        for k in range(count):
            numbers[3] += slope * square[1 + j, 1 + k] * fit.slopes[k] / t
    # Slopes are shrunk to one line: each beyond the first counts about half.
    numbers[5] = 1.5 + 0.5 * active


@aim.compiled
def _forecast(past, fit, t, share):
    """Return the mean and the variance to expect of a block with this share of g."""
    if t == 0:
        return 0.5, 0.0
    mean = past.value[0] / t
    variance = past.value[1] / t - mean * mean + fit.numbers[7]
    variance -= share * (2.0 * fit.numbers[2] - share * fit.numbers[3])
    optimism = 1.0 + _OPTIMISM * share * fit.numbers[5] / t
    mean += fit.numbers[8] + share * fit.numbers[4]
    return mean, max(variance, 0.0) * optimism


@aim.compiled
def _lowest(fit, share, top):
    """Return the lowest value of g with this share of its rise; kept within [0, top]."""
    if top == 0.0:
        return 0.0
    lowest = fit.numbers[0] - share * fit.numbers[6]
    return min(max(lowest, 0.0), top - share * fit.numbers[1])


@aim.compiled
def _share(past, fit, t, room, horizon, eta_terms, top):
    """Return the share of g in {0, 1/4, .., 1} with the least forecast width on this side."""
    best, share = np.inf, 0.0
    if fit.numbers[1] == 0.0:
        return share
    for k in range(5):
        tried = 0.25 * k
        mean, variance = _forecast(past, fit, t, tried)
        low, _, group_low, _, _ = _room(past, fit, t, room, tried, top)
        distance = max(min(max(mean, 0.0), 1.0) + low, group_low)
        width = _width(distance, variance, horizon, eta_terms)
        if width < best:
            best, share = width, tried
    return share


@aim.compiled
def _width(distance, variance, n, eta_terms):
    """Forecast how far the end will lie from the mean; as `bounds.sampling.end_forecast`."""
    log_term, quantile = eta_terms
    distance = max(distance, 1e-12)
    variance = max(variance, 1e-12 * distance * distance)
    strain = math.sqrt(2.0 * log_term / (n * variance)) * distance
    if strain > 1.0:
        return log_term * distance / n + variance / (2.0 * distance)
    factor = quantile + strain * strain * (math.sqrt(2.0 * log_term) - quantile)
    return factor * math.sqrt(variance / n)


@aim.compiled
def _levels(past, fit, top):
    """Return the values of the whole g at its knots."""
    count = past.count[0]
    levels = np.empty(count + 1)
    levels[0] = _lowest(fit, 1.0, top)
    for j in range(count):
        levels[j + 1] = levels[j] + fit.slopes[j] * (past.knots[j + 1] - past.knots[j])
    return levels

"""Gold labels beside a judge: every label certifies, and the judge is used as it is learned.

Blocks arrive in an order that does not depend on values. Block t is

    B_t = value_t + sum_rows coefficient * g_t(judge),

where value_t is what gold labels (and known costs) say alone, and the coefficients weigh g_t's mean
over the block's group against g_t over its labelled rows. **Unbiased**: g_t is a function of the
blocks before t, so given those it is one fixed function g. The labelled rows, and every draw of the
group, are draws of the law whose mean is wanted, so both parts have the mean E g and

    E[B_t | blocks before t] = E[value_t] + E g - E g = E[value_t].

The bet on block t, made of blocks before t too, is capped by the range that g_t leaves *this*
block, so its fortune against any mean at or above the true one is a nonnegative supermartingale.
The labelled draws' part of a block and its group's are independent: each then has a cap of its own,
about half of what the span costs their sum (`varying`). Nothing is set aside to choose g, and where
g_t = 0 nothing is paid for having a judge.

How labels were drawn decides what the blocks are: see `label_designs` for whole and partly labelled
draws, strata, known chances, active labels and paired differences.

Source: theory §3.6; Waudby-Smith & Ramdas (2024); Zrnic & Candes (2024). Predictable recalibration
and the caps by block are ours.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.concentration import from_unit, require_delta
from taut.types import Interval

_SLACK = 1e-9  # of a block against its range: rounding of sums of many rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RectifierBlocks:
    """Blocks in the order of the bets, with what a function g of the judge adds to each.

    Attributes:
        value: What block t is at g = 0, shape (blocks,).
        upper_value: The same for the upper end, where it differs (imputed gaps, double bounds).
        starts: Where each block's rows begin in `judge`, shape (blocks + 1,).
        judge: The judge's value of each row, any scale, shape (rows,).
        coefficient: What g of the row is multiplied by, shape (rows,).
        floor, ceiling: Least and largest possible block without its group's part, as
            c0 + c1 * lowest g + c2 * highest g, each of shape (blocks, 3); known before the block.
        low, high: Range of the mean.
        stops: Where the rows of the group begin in each block, shape (blocks,), if what they and
            `group_value` add is independent of the rest of the block; None: all is one part.
        group_value: What the group adds at g = 0, shape (blocks,); with `stops` alone.
        group_floor, group_ceiling: Least and largest possible part of the group, as `floor`.
        centred: Coefficients sum to 0 in each block, so that a constant in g is nothing. Where
            not, g keeps to [0, 1].
    """

    value: np.ndarray
    starts: np.ndarray
    judge: np.ndarray
    coefficient: np.ndarray
    floor: np.ndarray
    ceiling: np.ndarray
    low: float
    high: float
    stops: np.ndarray | None = None
    group_value: np.ndarray | None = None
    group_floor: np.ndarray | None = None
    group_ceiling: np.ndarray | None = None
    upper_value: np.ndarray | None = None
    centred: bool = True

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """What the judge was worth at one end.

    Attributes:
        knots: Judge values between which g is linear; constant beyond. Shape (knots,), or (0,).
        levels: Whole g at the knots, in the units of the blocks: as learned from all blocks, for
            display (each block used the g of those before it).
        shares: Share of g that each block used, in [0, 1], shape (blocks,).
        blocks: B_t as the end used them, units of the blocks, shape (blocks,).
    """

    knots: np.ndarray
    levels: np.ndarray
    shares: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectified:
    """An interval for the mean, and how it came about.

    Attributes:
        interval: Holds with the probabilities asked for.
        estimate: Mean of the blocks, within the range of the mean; for display.
        blocks: Blocks behind it, mean over the ends asked for, shape (blocks,); for display and
            for a normal interval beside.
        lower, upper: What the judge was worth at each end; None where that end was not asked for.
    """

    interval: Interval
    estimate: float
    blocks: np.ndarray
    lower: Recalibration | None
    upper: Recalibration | None


def rectified_interval(
    blocks: RectifierBlocks,
    *,
    delta_lower: float | None,
    delta_upper: float | None,
    horizon: int | np.ndarray | None = None,
) -> Rectified:
    """Interval for the mean of rectifier blocks, learning from the judge as it goes.

    Args:
        blocks: In the order of the bets: by a key that does not depend on values, or in the order
            of the sheet that asked for the labels.
        delta_lower, delta_upper: Allowed probability of a miss at each end; None or 0 where an end
            is not needed: it is then the end of the range.
        horizon: For coming back for more labels: the number of blocks that bets reckon with, the
            same at every look; the blocks are then those returned so far, in sheet order, and the
            interval holds at all looks at once, whatever made one look. To go on beyond it, give
            one number a block, shape (blocks,): that of its time, never less than before.
            Default: the number of blocks.

    Raises:
        AssumptionError: No block, values or ranges that do not fit together, a delta outside
            (0, 1), or a horizon below the number of blocks or falling.

    Source: theory §3.6.
    """
    horizons = _horizons(len(blocks), horizon)
    ends = _ends((blocks,), horizons, delta_lower, delta_upper)
    return _rectified(blocks, ends)


def joint_interval(
    parts: tuple[RectifierBlocks, ...],
    *,
    delta_lower: float | None,
    delta_upper: float | None,
) -> Rectified:
    """Interval for one mean from blocks of several kinds: one fortune that bets on all of them.

    Each kind (gold labels; weighted reward data) has its own judge, range and spread; blocks take
    turns, evenly mixed by their counts alone. Every block must have the wanted mean given those
    before it (or, for a lower end, at most that mean by `value`; for an upper end at least, by
    `upper_value`), and no draw may be in two blocks.

    Args:
        parts: Blocks of each kind, of one range of the mean.
        delta_lower, delta_upper: As in `rectified_interval`.

    Returns:
        The interval; `lower` and `upper` speak of the first part, `blocks` of all in betting order.

    Raises:
        AssumptionError: As in `rectified_interval`, or the parts' ranges of the mean differ.

    Source: theory §3.6, gold and reward data in one fortune.
    """
    if any((part.low, part.high) != (parts[0].low, parts[0].high) for part in parts):
        raise AssumptionError(
            "parts: expected one range of the mean, found "
            f"{[(part.low, part.high) for part in parts]}; give all blocks in the same units."
        )
    ends = _ends(parts, None, delta_lower, delta_upper)
    return _rectified(parts[0], ends)


def _horizons(n: int, horizon: int | np.ndarray | None) -> np.ndarray:
    horizons = np.full(n, n if horizon is None else horizon, dtype=np.int64)
    if np.any(np.diff(horizons) < 0) or np.any(horizons <= np.arange(n)):
        raise AssumptionError(
            f"horizon: expected at least {n} blocks, never falling, found {horizon}; "
            "keep the number that the sheet was drawn with."
        )
    return horizons


@dataclass(frozen=True, slots=True)
class _End:
    """One end on the unit scale of its side, its stakes and what was learned; user units aside."""

    unit: float
    blocks: np.ndarray
    learned: Recalibration


def _ends(parts, horizons, delta_lower, delta_upper) -> dict[str, _End]:
    for part in parts:
        _check(part)
    ends = {}
    for side, eta in (("lower", delta_lower or None), ("upper", delta_upper or None)):
        if eta is not None:
            require_delta(eta)
            ends[side] = _end(parts, side, eta, horizons)
    return ends


def _end(parts, side: Literal["lower", "upper"], eta: float, horizons) -> _End:
    from taut.inequalities import varying  # brings in the compiler: only when it is needed

    found = [_stakes(part, side, eta, horizons) for part in parts]
    stakes = found[0][0] if len(found) == 1 else varying.interleave([item[0] for item in found])
    end = varying.varying_end(stakes, eta)
    return _End(end, _from_side(parts[0], side, stakes.x + stakes.z), found[0][1])


def _from_side(part: RectifierBlocks, side: str, x: np.ndarray) -> np.ndarray:
    width = part.high - part.low
    return part.low + width * x if side == "lower" else part.high - width * x


def _stakes(part: RectifierBlocks, side: str, eta: float, horizons):
    """Map one part to the unit scale of a side and learn g; returns stakes and recalibration."""
    from scipy.special import ndtri

    from taut.inequalities import recalibration, varying

    n, width = len(part), part.high - part.low
    horizons = np.full(n, n, dtype=np.int64) if horizons is None else horizons
    lower = side == "lower"
    own = part.value if lower or part.upper_value is None else part.upper_value
    sign, end = (1.0, part.low) if lower else (-1.0, part.high)
    group_value = np.zeros(n) if part.group_value is None else sign * part.group_value / width
    stops = part.starts[1:] if part.stops is None else part.stops
    out, knots, levels = recalibration.learn(
        _plain(sign * (own - end) / width),
        _plain(group_value),
        recalibration.Rows(
            _plain(part.starts, np.int64),
            _plain(stops, np.int64),
            _plain(part.judge),
            _plain(part.coefficient),
            sign,
        ),
        _room(part, lower),
        horizons,
        (math.log(1.0 / eta), -float(ndtri(eta))),
        0.0 if part.centred else 1.0 / width,
    )
    x, below, above, z, z_below, z_above, mean, variance, guard, shares = out
    stakes = varying.Stakes(
        x=x,
        below=below,
        above=above,
        z=z,
        z_below=z_below,
        z_above=z_above,
        mean=mean,
        variance=variance,
        seen=np.arange(n, dtype=np.float64),
        guard=guard,
        kind=np.zeros(n, dtype=np.int64),
        horizon=horizons,
    )
    used = _from_side(part, side, x + z)
    return stakes, Recalibration(knots=knots, levels=levels * width, shares=shares, blocks=used)


def _room(part: RectifierBlocks, lower: bool):
    """Return how far the parts of each block may leave their place, on the scale of a side."""
    from taut.inequalities.recalibration import Room

    width = part.high - part.low
    none = np.zeros((len(part), 3))
    group_floor = none if part.group_floor is None else part.group_floor
    group_ceiling = none if part.group_ceiling is None else part.group_ceiling

    def scaled(terms: np.ndarray, origin: float, sign: float) -> np.ndarray:
        # g itself is on the unit scale there: only the constant term is divided.
        return _plain(sign * np.c_[(terms[:, 0] - origin) / width, terms[:, 1:]])

    sunk, risen = scaled(part.floor, part.low, -1.0), scaled(part.ceiling, part.high, 1.0)
    down, up = scaled(group_floor, 0.0, -1.0), scaled(group_ceiling, 0.0, 1.0)
    return Room(sunk, risen, down, up) if lower else Room(risen, sunk, up, down)


def _plain(values: np.ndarray, dtype=np.float64) -> np.ndarray:
    """Return values as the one kind of array that the loops are compiled for."""
    return np.require(values, dtype=dtype, requirements=["C", "W"])


def _rectified(part: RectifierBlocks, ends: dict[str, _End]) -> Rectified:
    lower = ends["lower"].unit if "lower" in ends else 0.0
    upper = 1.0 - ends["upper"].unit if "upper" in ends else 1.0
    shown = [end.blocks for end in ends.values()]
    blocks = np.mean(shown, axis=0) if shown else part.value
    learned = {side: end.learned for side, end in ends.items()}
    return Rectified(
        # At a large delta both ends may pass each other; any interval around them is still valid.
        interval=from_unit(min(lower, upper), max(lower, upper), low=part.low, high=part.high),
        estimate=min(max(math.fsum(blocks) / len(blocks), part.low), part.high),
        blocks=blocks,
        lower=learned.get("lower"),
        upper=learned.get("upper"),
    )


def _check(part: RectifierBlocks) -> None:
    """Raise AssumptionError where the arrays do not fit, or a value leaves its range."""
    n = len(part.value)
    if n == 0 or part.starts.shape != (n + 1,) or part.starts[-1] != len(part.judge):
        raise AssumptionError(
            f"expected one or more blocks, found {n} with starts of shape {part.starts.shape} "
            f"that end at {part.starts[-1:]} of {len(part.judge)} rows."
        )
    if not (part.low < part.high and math.isfinite(part.high - part.low)):
        raise AssumptionError(
            f"range: expected finite low < high, found [{part.low}, {part.high}]; declare the "
            "range that the mean keeps to, known before the data."
        )
    if len(part.judge) and not np.isfinite(part.judge.sum()):
        row = int(np.flatnonzero(~np.isfinite(part.judge))[0])
        raise AssumptionError(f"row {row}: judge is {part.judge[row]}; expected a finite number.")
    slack = _SLACK * (part.high - part.low)
    for value in (part.value, part.upper_value):
        if value is None:
            continue
        # At g = 0 the coefficients of g do not count.
        inside = (value >= part.floor[:, 0] - slack) & (value <= part.ceiling[:, 0] + slack)
        if not inside.all():
            index = int(np.flatnonzero(~inside)[0])
            raise AssumptionError(
                f"block {index} is {value[index]}; expected a value in [{part.floor[index, 0]}, "
                f"{part.ceiling[index, 0]}]. Declare the range that every label keeps to."
            )

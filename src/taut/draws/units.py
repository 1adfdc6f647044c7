"""The scales of reward and gold: where each lies, and whether they can be subtracted (theory §1).

Rewards are mapped to [0, 1] by a range that was fixed before the data. Gold has its own range;
where that differs, everything that needs e = r^ - r* needs a declared map from one to the other.
Nothing is stretched in silence.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, LogError
from taut.inequalities.rounding import outward
from taut.types import Interval

MOST_CLIPPED = 0.2  # a range that cuts more of the estimate off than this is refused
_MOST_UNLIKE = 1e9  # times: gold on a narrower part of the common range loses its digits
_BEYOND = 1e150  # squares and sums of larger numbers leave the doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The scales of a log.

    Attributes:
        reward_range: (low, high) of the learned reward, reward units.
        reward_declared: Whether it was declared, not read off the data.
        gold_range: (low, high) of gold, in units of gold.
        gold_declared: The same for it.
        gold_scale: (p, q) with gold * p + q in reward units; None where no map was declared.
        common: The range in reward units that holds both; None where they cannot be compared.
    """

    reward_range: tuple[float, float]
    reward_declared: bool
    gold_range: tuple[float, float]
    gold_declared: bool
    gold_scale: tuple[float, float] | None
    common: tuple[float, float] | None

    @property
    def width(self) -> float:
        """Reward units in one unit of the scale on which rewards and KL costs are added."""
        low, high = self.scale
        return high - low

    @property
    def scale(self) -> tuple[float, float]:
        """(low, high) of the unit scale of rewards: the common range, or the reward's own."""
        return self.reward_range if self.common is None else self.common

    def unit_reward(self, reward: np.ndarray) -> np.ndarray:
        """Map rewards to [0, 1]; what lies outside the range is clipped (theory §1)."""
        cut = np.clip(reward, *self.reward_range)
        return to_unit(cut, *self.scale)

    def unit_gold(self, gold: np.ndarray | None) -> np.ndarray | None:
        """Map gold to [0, 1]; None without any label.

        Raises:
            AssumptionError: A label outside the range: cutting it would change the target.
        """
        if gold is None or np.isnan(gold).all():
            return None
        if self.common is None:
            return gold_to_unit(gold, self.gold_range)
        refuse_outside(gold, self.gold_range)
        return to_unit(self.in_reward_units(gold), *self.common)

    @property
    def gold_ends(self) -> tuple[float, float]:
        """Ends of gold's range on the unit scale, as `unit_gold` maps labels that lie there."""
        low, high = self.unit_gold(np.array(self.gold_range))
        return float(low), float(high)

    def in_reward_units(self, gold: np.ndarray) -> np.ndarray:
        """Map gold by the declared map; the identity where both have one scale."""
        p, q = self.gold_scale or (1.0, 0.0)
        return gold * p + q

    def target_scale(self, units: str) -> "Scale":
        """Return how the unit scale maps to "gold" or "reward" units.

        E r* is in units of gold, always; J* and the clipped objective in reward units.
        """
        if units == "gold" and self.common is None:
            low, high = self.gold_range
            return Scale(low, high - low)
        low, high = self.scale
        if units == "reward" or self.gold_scale is None:
            return Scale(low, high - low)
        p, q = self.gold_scale
        return Scale((low - q) / p, (high - low) / p)


@dataclass(frozen=True, slots=True)
class Scale:
    """From the unit scale to user units: low + width * x."""

    low: float
    width: float

    def at(self, x: float) -> float:
        """Map a point."""
        return self.low + self.width * x

    def length(self, x: float) -> float:
        """Map a difference."""
        return self.width * x

    def outward(self, interval: Interval) -> Interval:
        """Map an interval, rounded outward."""
        return outward(interval, self.low, self.width)


def gold_to_unit(gold: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Map gold to [0, 1].

    Raises:
        AssumptionError: A label outside its range: cutting it would change the target.
    """
    refuse_outside(gold, bounds)
    return to_unit(gold, *bounds)


def to_unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map reward units to [0, 1], clipping what lies outside the range (theory §1)."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def measure_units(
    rollouts: Rollouts,
    *,
    reward_range: tuple[float, float] | None,
    gold_range: tuple[float, float] | None,
    gold_scale: tuple[float, float] | None,
) -> Units:
    """Return the scales of a log from what was declared, or read off the data where nothing was.

    Raises:
        AssumptionError: Gold that its range does not hold.
        LogError: Numbers beyond what can be averaged.
    """
    refuse_huge(rollouts)
    gold = None if rollouts.gold is None else rollouts.gold[~np.isnan(rollouts.gold)]
    gold = None if gold is None or len(gold) == 0 else gold
    scale = None if gold_scale is None else tuple(map(float, gold_scale))
    declared = reward_range is not None
    if declared:
        reward_range = tuple(map(float, reward_range))
    elif gold is not None and gold_range is None and scale is None:
        # One scale, nothing said of it: a range that holds both columns.
        reward_range = _seen(np.r_[rollouts.reward, gold])
    else:
        reward_range = _seen(rollouts.reward)
    own = reward_range if gold_range is None else tuple(map(float, gold_range))
    common = reward_range if own == reward_range and scale is None else None
    if scale is not None:
        p, q = scale
        common = min(reward_range[0], p * own[0] + q), max(reward_range[1], p * own[1] + q)
        _refuse_unlike(scale, own, common)
    return Units(
        reward_range=reward_range,
        reward_declared=declared,
        gold_range=own,
        gold_declared=gold_range is not None or declared,
        gold_scale=scale,
        common=common,
    )


def _refuse_unlike(
    scale: tuple[float, float], gold: tuple[float, float], common: tuple[float, float]
) -> None:
    """Stop where gold has no digits left on the scale that it shares with the reward.

    Raises:
        AssumptionError: The map puts gold on a sliver of it, or far beyond the reward.
    """
    p, q = scale
    width, reach = p * (gold[1] - gold[0]), max(map(abs, common))
    if math.isfinite(reach) and width >= reach / _MOST_UNLIKE:
        return
    raise AssumptionError(
        f"--gold-scale {p:g},{q:g} maps gold from [{gold[0]:g}, {gold[1]:g}] to "
        f"[{p * gold[0] + q:g}, {p * gold[1] + q:g}]; with the reward's range that makes "
        f"[{common[0]:g}, {common[1]:g}], on which gold has no digits left. Is it P,Q for "
        "gold * P + Q? Without it E r* can be had all the same."
    )


def refuse_huge(rollouts: Rollouts) -> None:
    """Stop where a number is so large that no mean of it can be had.

    Raises:
        LogError: With the column and the row.
    """
    for name in ("reward", "gold", "log_ratio", "policy_logprob", "behaviour_logprob"):
        column = getattr(rollouts, name)
        if column is None or len(column) == 0:
            continue
        with np.errstate(invalid="ignore"):
            bad = np.abs(column) > _BEYOND
        if name == "reward":
            bad |= ~np.isfinite(column)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise LogError(
                f"row {row}: '{name}' is {column[row]:g}; expected a number below {_BEYOND:g} in "
                "size: sums of larger ones overflow. Was a loss or a sentinel logged in its place?"
            )


def clipped_share(rollouts: Rollouts, units: Units) -> float:
    """Return the share of rewards outside the reward range, a probability."""
    low, high = units.reward_range
    return float(((rollouts.reward < low) | (rollouts.reward > high)).mean())


def _seen(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return low, high if high > low else low + max(1.0, abs(low))


def refuse_outside(gold: np.ndarray, bounds: tuple[float, float]) -> None:
    """Stop where a label lies outside the range of gold.

    Raises:
        AssumptionError: With how many do, and what to declare.
    """
    outside = gold[(gold < bounds[0]) | (gold > bounds[1])]
    if len(outside):
        raise AssumptionError(
            f"{len(outside)} gold labels lie outside [{bounds[0]:g}, {bounds[1]:g}], for example "
            f"{outside[0]:g}. If gold has a scale of its own, declare it with --gold-range LOW "
            "HIGH, a range that holds for every possible label: E r* is then in units of gold. "
            "For J* also declare how gold converts to rewards: --gold-scale P,Q for gold*P + Q."
        )

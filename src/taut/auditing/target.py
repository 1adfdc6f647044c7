"""One target's mean on the unit scale: block values with a known range, and how to bound it."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from taut.auditing.calibration import Split, Thresholds
from taut.auditing.missing import count_missing, worst_interval
from taut.auditing.options import Options
from taut.bounds.kl_clipping import clip_log_ratio
from taut.bounds.sampling import block_interval, predicted_half_width
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption
from taut.draws.design import Design
from taut.draws.labels import label_counts
from taut.draws.rollouts import Blocks
from taut.types import Interval, Status, weakest

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class UnitData:
    """The log on the unit scale, shape (rollouts,); see `Rollouts` for meanings.

    `reward_mse` is the declared L, on the unit scale squared.
    """

    reward: np.ndarray
    gold: np.ndarray | None
    log_ratio: np.ndarray | None
    beta: float
    reward_mse: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One random event of the delta ledger and the probability it may fail with."""

    event: str
    delta: float


@dataclass(frozen=True, slots=True)
class Budget:
    """Probability that each part may fail: lower end, positive tail, upper end."""

    lower: float
    tail: float
    upper: float


_SOURCES = {
    "betting": "theory §2.4",
    "mixture": "theory §2.5",
    "bernstein": "theory §2.3",
    "hoeffding": "theory §2.2",
    "paper": "theory §2.1",
    "normal": "theory §2.7",
}


class TargetMean:
    """The mean that a target is made of, r - beta l^tau, on the certifying draws.

    Attributes:
        beta: Unit reward per nat; 0 for the target "reward".
        blocks: The certifying draws.
        cost, cost_range: beta l^tau per rollout, and its lowest and highest possible value.
        draws: r - cost per draw, in draw order; `low` and `high` are its range.
        method, source: The sampling bound that fits: order-free where draws differ in law, and an
            estimate where nothing is clipped and the range is infinite.
        gold_kind, gold_ends: As declared, and the ends of gold's range.
        missing: What was launched and is not there, where that is to be counted at its worst.
        rests_on: What any interval of it rests on.
        status: What an interval by that method is worth.
    """

    def __init__(
        self,
        target: str,
        data: UnitData,
        split: Split,
        thresholds: Thresholds | None,
        design: Design,
        options: Options,
    ):
        self.data, self.split, self.thresholds, self.design = data, split, thresholds, design
        self.beta = 0.0 if target == "reward" else data.beta
        self.blocks: Blocks = split.certifying
        self.cost = np.zeros(len(data.reward))
        self.cost_range = (0.0, 0.0)
        if self.beta:
            tau, tau_negative = thresholds.tau, thresholds.tau_negative
            self.cost = self.beta * clip_log_ratio(data.log_ratio, tau, tau_negative)
            self.cost_range = (-self.beta * tau_negative, self.beta * tau)
        self.low, self.high = -self.cost_range[1], 1 - self.cost_range[0]
        # Rounding of a block mean may leave the range by an ulp.
        self.draws = np.clip(self.blocks.means(data.reward - self.cost), self.low, self.high)
        unbounded = math.isinf(self.high - self.low)
        self.gold_kind = options.gold_kind
        self.gold_ends: tuple[float, float] = design.units.gold_ends
        self.missing = None
        if options.missing is not None:
            self.missing = count_missing(self.blocks, options.launched)
        ordered = design.one_law and self.missing is None
        self.method = _fitting_method(options.method, unbounded, ordered)
        # A KL cost is made of log-probs, whose being right is an assumption (theory §4.6).
        names = (about.REWARD_RANGE, *((about.LOG_PROBS,) if self.beta else ()))
        self.rests_on: tuple[Assumption, ...] = design.resting_on(*names)
        self.status = weakest(
            (design.status(*names), Status.ESTIMATED if unbounded else Status.CERTIFIED)
        )
        self.source = _SOURCES[self.method]
        self._made: dict[Hashable, Any] = {}

    def once(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """Return what `make` gives; it is made once for all targets of this mean."""
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

    @cached_property
    def measured(self) -> float:
        """The mean of `draws`, summed without rounding."""
        return exact_mean(self.draws)

    @cached_property
    def label_counts(self) -> np.ndarray:
        """Labelled rows of each certifying draw, shape (draws,)."""
        return label_counts(self.data.gold, self.blocks)

    def interval(
        self,
        values: np.ndarray,
        low: float,
        high: float,
        budget: Budget,
        sizes: np.ndarray | None = None,
        labelled: np.ndarray | None = None,
    ) -> Interval:
        """Bound the mean of some block values in [low, high] by this target's method.

        Where launched rollouts are missing they count at their worst; `labelled` says which draws
        the values are of, if not of all.
        """
        if self.missing is not None:
            return worst_interval(
                values,
                self.missing,
                labelled,
                low=low,
                high=high,
                delta_lower=budget.lower,
                delta_upper=budget.upper,
                method=self.method,
            )
        return block_interval(
            values,
            low=low,
            high=high,
            delta_lower=budget.lower,
            delta_upper=budget.upper,
            method=self.method,
            sizes=self.blocks.sizes if sizes is None else sizes,
        )

    def forecast_width(self, delta: float) -> float:
        """Width that the learned reward's interval will have, judged on the calibration split."""
        calibration = self.split.calibration
        if len(calibration) < 2 or math.isinf(self.high - self.low):
            return self.high - self.low
        draws = calibration.means(self.data.reward - self.cost)
        return 2 * predicted_half_width(
            draws, low=self.low, high=self.high, blocks=len(self.blocks), delta=delta
        )


def _fitting_method(asked: str, unbounded: bool, ordered: bool) -> str:
    if unbounded:
        return "normal"
    # Predictable bets and empirical variances need draws of one law (theory §2.4, §2.5).
    return "mixture" if not ordered and asked in ("betting", "bernstein") else asked


def exact_mean(values: np.ndarray) -> float:
    """Return the mean, summed without rounding."""
    return math.fsum(values) / len(values)


def unit_data(design: Design, options: Options) -> UnitData:
    """Return a log on the unit scale."""
    units, rollouts = design.units, design.rollouts
    return UnitData(
        reward=units.unit_reward(rollouts.reward),
        gold=units.unit_gold(rollouts.gold),
        log_ratio=rollouts.log_ratio,
        beta=(options.beta or 0.0) / units.width,
        reward_mse=None if options.reward_mse is None else options.reward_mse / units.width**2,
    )

"""The on-policy probe: gold labels that judge a calibration, and how they join its prediction."""

from dataclasses import dataclass

import numpy as np

from taut.bounds.reward_shift import (
    GoldPlan,
    choose_gold_plan,
    gold_blocks,
)
from taut.bounds.sampling import block_interval
from taut.decisions.transport.roles import Lessons, control_of
from taut.decisions.transport.verdict import grade
from taut.draws.labels import label_counts
from taut.draws.layout import lay_out
from taut.draws.rollouts import Blocks
from taut.inequalities.rounding import outward
from taut.types import Interval


@dataclass(frozen=True, slots=True)
class Probe:
    """The audited rollouts on the unit scale of gold, and their certifying draws.

    `gold` is NaN without a label; `fitted` is g(r^). Both have shape (rollouts,).
    """

    gold: np.ndarray
    fitted: np.ndarray
    blocks: Blocks

    @property
    def labelled(self) -> int:
        """Draws with a label."""
        return int((label_counts(self.gold, self.blocks) > 0).sum())

    def residual(self, lessons: Lessons, delta: float) -> Interval:
        """Interval for E[r* - g(r^)]; residuals are at least -max g and at most 1 - min g."""
        least, width = -lessons.floor - lessons.span, 1 + lessons.span
        scaled = np.clip((self.gold - self.fitted - least) / width, 0.0, 1.0)  # rounding only
        found = _joined(GoldPlan(0.0, 1.0), np.zeros_like(scaled), scaled, self.blocks, delta)
        return outward(found, least, width)

    def judged(self, plan, lessons: Lessons, gold_range, margin, delta: float):
        """Return the verdict on g, and the intervals for E r* with g and without, user units."""
        low, width = gold_range[0], gold_range[1] - gold_range[0]
        verdict = grade(
            outward(self.residual(lessons, delta), 0.0, width),
            margin=margin,
            delta=delta,
            prompts=self.labelled,
            width=(1 + lessons.span) * width,
        )
        ends = outward(self.mean(plan, lessons, delta), low, width)
        return verdict, ends, outward(self.mean(GoldPlan(0.0, 1.0), lessons, delta), low, width)

    def mean(self, plan: GoldPlan, lessons: Lessons, delta: float) -> Interval:
        """Interval for E r*; g enters from its floor up, which keeps the blocks' range narrow."""
        return _joined(plan, control_of(self.fitted, lessons), self.gold, self.blocks, delta)


def _joined(plan, control, gold, blocks, delta: float) -> Interval:
    found = gold_blocks(
        plan,
        reward=control,
        gold=gold,
        kl_cost=np.zeros_like(control),
        kl_range=(0.0, 0.0),
        blocks=blocks,
    )
    return block_interval(
        found.values,
        low=found.low,
        high=found.high,
        delta_lower=delta / 2,
        delta_upper=delta / 2,
        method="betting",
    )


def choose_plan(lessons: Lessons, probe: Probe, seed: int, delta: float) -> GoldPlan:
    """Choose how much of g to use by forecast width on the teaching prompts, out of fold."""
    labelled = probe.labelled
    plan, _ = choose_gold_plan(
        reward=control_of(lessons.fitted, lessons),
        gold=lessons.gold,
        kl_cost=np.zeros(len(lessons.gold)),
        kl_range=(0.0, 0.0),
        calibration=lay_out(lessons.data, seed=seed).blocks,
        labelled=labelled,
        unlabelled=len(probe.blocks) - labelled,
        delta=delta,
    )
    return plan


def share_of(plan: GoldPlan, lessons: Lessons) -> float:
    """How much of g a plan uses; labelled draws alone use none, for it cancels there."""
    return 0.0 if plan.own == 1.0 or lessons.span == 0 else plan.weight / lessons.span

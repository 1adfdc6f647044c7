"""Does a calibration made on reward data still hold on the policy? (theory §3.6)

Gold labels on reward data teach g, the target reward to expect at a given learned reward. The mean
of g(r^) over the audited rollouts then predicts E_theta r*, if g holds there too: that it does is
an assumption, and here it is audited with a small on-policy probe of gold labels.

Why the audit is valid. A prompt either teaches g or certifies, never both, so g is a fixed function
to everything it is judged on; see `_roles` for the proof. The mean residual E_theta[r* - g(r^)]
then gets the interval of a bounded mean. Folds serve only to judge g on its own data.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from taut.auditing.certificate import Span, StatedSpan
from taut.bounds.reward_shift import (
    GoldPlan,
)
from taut.decisions.transport.probe import Probe, choose_plan, share_of
from taut.decisions.transport.result import (
    Calibration,
    Curve,
    Transport,
    TransportLog,
)
from taut.decisions.transport.roles import Lessons, assign_roles, learn, unit_gold
from taut.draws import assumptions as about
from taut.draws.declared import Declared, declared_words
from taut.draws.design import Design, design
from taut.draws.labels import LabelKind
from taut.draws.layout import prompt_keys
from taut.draws.rollouts import Rollouts
from taut.engines.tables import Data, as_rollouts
from taut.errors import AssumptionError, UsageError
from taut.types import Interval


def audit_transport(
    rollouts: Data,
    reward_data: Data,
    *,
    columns: Mapping[str, str] | None = None,
    gold_range: tuple[float, float],
    margin: float | None = None,
    delta: float = 0.05,
    seed: int = 0,
    folds: int = 5,
    weight: float | None = None,
    declare: tuple[str, ...] | str = (),
    held_out: bool = False,
) -> Transport:
    """Calibrate on reward data, predict E_theta r*, and audit the step with an on-policy probe.

    The reward-model score may lie on any scale: g takes it raw.

    Args:
        rollouts: The audited rollouts; gold on draws chosen blind to outcomes.
        reward_data: Rows of any policy with the same learned reward; gold on some or all of them.
            Both are anything that `taut.audit` takes.
        columns: Native column to column of both tables.
        gold_range: Declared (low, high) of gold, reward units, fixed before the data.
        margin: Largest |E_theta[r* - g(r^)]| that does no harm, in units of gold, declared before
            the probe was labelled; None leaves the audit ungraded.
        delta: Probability with which each of the two intervals may miss, in (0, 1).
        seed: Of the draw order, the roles and the folds; fixed before the data.
        folds: Folds by prompt in which g is judged on its own data, at least 2.
        weight: How much of g enters `certified`, in [0, 1]: 0 is gold only, 1 is mean g(r^) plus
            the mean residual. None takes the narrowest forecast on the teaching prompts.
        declare, held_out: What is declared of the audited rollouts, as for `taut.audit`.

    Returns:
        The prediction, its verdict, and a certified interval, all in units of gold.

    Raises:
        AssumptionError: No gold on one side, or rows labelled one by one where K varies.
        UsageError: A setting out of range, or rollouts of several policies.

    Source: theory §3.6 (rectifier blocks, g fitted elsewhere), §2.4.
    """
    _check_settings(gold_range, margin, delta, folds, weight)
    rollouts, reward_data = as_rollouts(rollouts, columns), as_rollouts(reward_data, columns)
    _check_one_policy(rollouts)
    words = declared_words(declare, held_out=held_out)
    plain = (rollouts.plainly_labelled(), reward_data.plainly_labelled())
    rollouts, reward_data, found = _settled(*plain, gold_range, words, seed)
    _check_labels(found, reward_data)
    blocks = found.blocks
    roles = assign_roles(rollouts, blocks, reward_data, seed)
    lessons = learn(reward_data.take(roles.teach), gold_range, seed, folds)
    probe = Probe(
        gold=unit_gold(rollouts.gold, gold_range),
        fitted=lessons.g(rollouts.reward),
        blocks=blocks.subset(roles.certify),
    )
    if weight is None:
        plan = choose_plan(lessons, probe, seed, delta)
    else:
        plan = GoldPlan(weight * lessons.span, None)
    verdict, ends, alone = probe.judged(plan, lessons, gold_range, margin, delta)
    low, width = gold_range[0], gold_range[1] - gold_range[0]
    names = (about.RANDOM_LABELS, about.GOLD_RANGE)
    return Transport(
        state=verdict.state,
        margin=margin,
        residual=_span(verdict.residual),
        level=1 - delta,
        probe_prompts=verdict.probe_prompts,
        fewest_prompts=verdict.fewest_prompts,
        detail=verdict.detail,
        predicted=low + width * _mean(probe.blocks.means(probe.fitted)),
        certificate=StatedSpan(lower=ends.lower, upper=ends.upper, status=found.status(*names)),
        gold_only=_span(alone),
        weight=share_of(plan, lessons),
        calibration=_in_calibration_units(lessons, gold_range, folds),
        certifying_draws=len(probe.blocks),
        shared=roles.shared,
        log=TransportLog(
            rollouts=len(rollouts),
            prompts=found.layout.prompts,
            draws=len(blocks),
            cells=found.layout.cell_count,
            reward_data_rollouts=len(reward_data),
        ),
        assumptions=found.resting_on(*names),
        health=found.checks,
    )


def _span(interval: Interval) -> Span:
    return Span(lower=interval.lower, upper=interval.upper)


def _settled(
    rollouts: Rollouts, reward_data: Rollouts, gold_range, words: frozenset[str], seed: int
) -> tuple[Rollouts, Rollouts, Design]:
    """Decide what both logs are worth: one key for a prompt of both; gold within its range."""
    (mine, theirs), _ = prompt_keys([rollouts, reward_data])
    rollouts, reward_data = replace(rollouts, prompt=mine), replace(reward_data, prompt=theirs)
    declared = Declared(gold_range=gold_range, words=words, seed=seed)
    found = design(rollouts, declared, sampler=False)
    teaching = design(reward_data, declared, sampler=False)
    for part in (found, teaching):
        part.units.unit_gold(part.rollouts.gold)
    return found.rollouts, teaching.rollouts, found


def _in_calibration_units(lessons: Lessons, gold_range, folds: int) -> Calibration:
    low, width = gold_range[0], gold_range[1] - gold_range[0]
    residual = lessons.gold - lessons.fitted
    return Calibration(
        g=Curve(
            knots=tuple(lessons.g.knots.tolist()),
            values=tuple((low + width * lessons.g.values).tolist()),
        ),
        prompts=len(np.unique(lessons.data.prompt)),
        bias=width * lessons.average(residual),
        mse=width**2 * lessons.average(residual**2),
        constant_mse=width**2 * lessons.average((lessons.gold - lessons.constant) ** 2),
        folds=folds,
    )


def _check_settings(gold_range, margin, delta, folds, weight) -> None:
    low, high = gold_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"gold_range is {tuple(gold_range)}; expected finite LOW < HIGH.")
    if margin is not None and not 0 < margin < high - low:
        raise UsageError(
            f"margin is {margin}; expected more than 0 and less than the width of the gold range, "
            f"{high - low:g}."
        )
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta}; expected a probability above 0 and below 1.")
    if folds < 2:
        raise UsageError(f"folds is {folds}; expected at least 2.")
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"weight is {weight}; expected a share in [0, 1], or None to choose.")


def _check_one_policy(rollouts: Rollouts) -> None:
    for name in ("step", "policy", "run"):
        part = getattr(rollouts, name)
        if part is not None and bool((part != part[0]).any()):
            raise UsageError(
                f"the audited rollouts hold several values of '{name}', so no single policy is "
                "audited; pick one with rollouts.take(mask)."
            )


def _check_labels(found: Design, reward_data: Rollouts) -> None:
    rollouts = found.rollouts
    if reward_data.gold is None or np.isnan(reward_data.gold).all():
        raise AssumptionError(
            "the reward data carry no gold label: nothing can teach the calibration. Label some."
        )
    if rollouts.gold is None or np.isnan(rollouts.gold).all():
        raise AssumptionError(
            "the audited rollouts carry no gold label: nothing could show that the calibration "
            "holds there. Label a random subset of their prompts."
        )
    if found.labels is not None and found.labels.uneven:
        raise AssumptionError(
            "rows were labelled one by one while K varies, so prompts had unequal chances of a "
            "label; label whole prompts, or keep K fixed."
        )
    if found.labels is not None and found.labels.kind is LabelKind.CHANCES:
        raise AssumptionError(
            "the audited rows had unequal, recorded chances of a label (`label_probability`), "
            "which this probe does not weigh: taut.audit does."
        )


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values)

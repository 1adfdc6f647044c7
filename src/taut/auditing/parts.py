"""The parts of a reward: a certificate for each and for the sum that was trained (theory §6.3)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from taut.auditing.audit import audit_part
from taut.auditing.certificates import Certificates, Group
from taut.auditing.options import Prompts, Range, options_of
from taut.auditing.words import Method, Route, Side, Target
from taut.draws.design import settled
from taut.draws.layout import Whole
from taut.draws.rollouts import Rollouts
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError

SUM = "sum"
_SAME = 1e-6  # of the largest reward: what sums may differ by where they were rounded


def audit_parts(
    rollouts: Data,
    *,
    reward_weights: Mapping[str, float] | None = None,
    gold_part: str | None = None,
    part_ranges: Mapping[str, Range] | None = None,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    delta: float = 0.05,
    target: Target = "auto",
    method: Method = "betting",
    side: Side = "both",
    route: Route = "auto",
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
) -> Certificates:
    """Certify each part `rewards.NAME` of a reward, and the sum that was trained, all at once.

    Args:
        rollouts: A log with columns `rewards.NAME`.
        reward_weights: Part to its weight in the sum; parts that are not named weigh 0. Without
            them the sum is the log's `reward`; with them it must agree with it.
        gold_part: The part that the gold labels are of; by default they are of the sum.
        part_ranges: Part to (low, high), fixed before the data. The range of the sum follows from
            weights and ranges, unless `reward_range` says it.
        target: Of the sum; parts have no KL cost of their own, and are certified as E r.

    The other arguments are those of `taut.audit`.

    Returns:
        A certificate for each part, its `value` the name, and for "sum".

    Raises:
        LogError: No parts; a part that is not known in every row; a sum that is not the reward.
        UsageError: Names that are no parts.

    Source: theory §6.3.
    """
    options = options_of(locals())
    log = as_rollouts(rollouts, columns, parts=True)
    _check_names(log, reward_weights, gold_part, part_ranges)
    log = settle_sum(log, reward_weights)
    whole, names = settled(log), log.part_names
    several = len(names) + 1
    ranges = dict(part_ranges or {})
    groups = []
    for at, name in enumerate(names):
        part = _part(whole, at, gold=name == gold_part)
        own = replace(
            options,
            target="reward",
            beta=None,
            reward_range=ranges.get(name),
            gold_range=options.gold_range if name == gold_part else None,
        )
        groups.append(_group(name, part, own, whole, several))
    total = replace(whole.rollouts, gold=None if gold_part else whole.rollouts.gold)
    total = replace(total, parts=None, part_names=())
    own = replace(options, reward_range=reward_range or _sum_range(reward_weights, ranges))
    if gold_part:
        own = replace(own, gold_range=None)
    groups.append(_group(SUM, total, own, whole, several))
    return Certificates(by="part", delta=delta, of="part", groups=tuple(groups))


def _group(name: str, part: Rollouts, options: Any, whole: Whole, several: int) -> Group:
    found = audit_part(part, options, whole=whole, simultaneous=several)
    return Group(value=name, certificate=found, delta=options.delta / several)


def _part(whole: Whole, at: int, *, gold: bool) -> Rollouts:
    log = whole.rollouts
    # What the log records of its range is of the sum, never of a part.
    facts = replace(log.facts, reward_range=None, recorded=log.facts.recorded - {"reward_range"})
    return replace(
        log,
        facts=facts,
        reward=np.ascontiguousarray(log.parts[:, at]),
        gold=log.gold if gold else None,
        log_ratio=None,
        parts=None,
        part_names=(),
    )


def _check_names(log: Rollouts, weights, gold_part, ranges) -> None:
    if log.parts is None or not log.part_names:
        raise LogError(
            "expected columns rewards.NAME, found none: log each reward function beside the sum "
            "(taut's recorder does), or map them with --map rewards.NAME=PATH."
        )
    named = (*(weights or ()), *((gold_part,) if gold_part else ()), *(ranges or ()))
    for name in named:
        if name not in log.part_names:
            raise UsageError(f"no part {name!r}; the log holds {', '.join(log.part_names)}.")
    for name, weight in (weights or {}).items():
        if not math.isfinite(weight):
            raise UsageError(f"the weight of {name!r} is {weight}; expected a finite number.")
    missing = np.isnan(log.parts)
    if missing.any():
        row, at = (int(places[0]) for places in np.nonzero(missing))
        raise LogError(
            f"row {row}: 'rewards.{log.part_names[at]}' has no value; a part is certified where it "
            f"is known of every rollout ({int(missing.any(axis=1).sum()):,} rows lack one)."
        )


def settle_sum(log: Rollouts, weights: Mapping[str, float] | None) -> Rollouts:
    """Return the log with its reward, checked against the weighted sum of its parts.

    Raises:
        LogError: The two differ: the weights are not those of the run.
    """
    if not weights:
        return log
    total = log.parts @ np.array([float(weights.get(name, 0.0)) for name in log.part_names])
    far = np.abs(total - log.reward)
    worst = int(far.argmax())
    if far[worst] > _SAME * max(1.0, float(np.abs(log.reward).max())):
        raise LogError(
            f"row {worst}: the weighted sum of the parts is {total[worst]:.6g}, the reward "
            f"{log.reward[worst]:.6g}: these are not the weights that were trained with."
        )
    return log


def _sum_range(
    weights: Mapping[str, float] | None, ranges: Mapping[str, Range]
) -> tuple[float, float] | None:
    """The range of the sum, where the range of every part with a weight is declared."""
    if not weights or any(name not in ranges for name, weight in weights.items() if weight):
        return None
    ends = [sorted(weight * end for end in ranges[name]) for name, weight in weights.items()]
    return math.fsum(low for low, _ in ends), math.fsum(high for _, high in ends)

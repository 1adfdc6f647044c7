"""Health of logs that a framework wrote itself: what only they can have wrong."""

import numpy as np

from taut.draws.check import NOT_CHECKED, PASS, WARN, Check
from taut.draws.rollouts import Blocks, Rollouts
from taut.logs.keys import combine
from taut.logs.origin import FRAMEWORKS, Origin


def framework_checks(rollouts: Rollouts) -> tuple[Check, ...]:
    """Check what only a framework's own log can have wrong; nothing for a native log."""
    if rollouts.origin is None:
        return ()
    checks = [_log_format(rollouts, rollouts.origin)]
    if rollouts.origin.format == "trl":
        checks.append(_kept_batches(rollouts))
    return tuple(checks)


BY_DEFAULT = (
    "no prompt has rewards that are all equal, and open-instruct drops such prompts by default "
    "(filter_zero_std_samples)"
)


def dropped_by_default(rollouts: Rollouts, blocks: Blocks) -> bool:
    """Say whether a framework that drops draws of equal rewards unless told otherwise left none.

    Rewards without any ties would have none anyway.
    """
    origin, several = rollouts.origin, blocks.sizes >= 2
    if origin is None or origin.format != "open-instruct" or not several.any():
        return False
    part = blocks.subset(several)
    rewards = rollouts.reward[part.rows]
    highest = np.maximum.reduceat(rewards, part.starts[:-1])
    lowest = np.minimum.reduceat(rewards, part.starts[:-1])
    return bool((highest > lowest).all()) and len(np.unique(rewards)) < len(rewards)


def _log_format(rollouts: Rollouts, origin: Origin) -> Check:
    known = FRAMEWORKS[origin.format]
    name = "log_format"
    if rollouts.log_ratio is not None:
        return Check(name, PASS, f"{known.title}, with log-probs of policy and reference")
    return Check(
        name,
        PASS,
        f"{known.title}; it lacks {known.lacks}. What it can certify: {known.certified}",
        f"For the rest: {known.remedy}.",
    )


def _kept_batches(rollouts: Rollouts) -> Check:
    """TRL keeps the last generation batch before each log, whatever it is."""
    name = "kept_batches"
    if rollouts.step is None:
        return Check(name, NOT_CHECKED, "no `step` column")
    found = [text for text in (_gaps(rollouts), _twice(rollouts), _mixed(rollouts)) if text]
    if not found:
        text = "no step is missing, and none repeats another; whether evaluation wrote over one "
        return Check(name, PASS, text + "cannot be seen")
    return Check(
        name,
        WARN,
        "; ".join(found),
        "Set logging_steps to num_iterations * steps_per_generation / gradient_accumulation_steps "
        "(1 by default) and evaluate in a run of its own; or log with "
        'taut.training.record(trainer, "log/").',
    )


def _gaps(rollouts: Rollouts) -> str:
    steps = np.unique(rollouts.step)
    if len(steps) < 2 or (np.diff(steps) == 1).all():
        return ""
    missing = int(steps[-1] - steps[0]) + 1 - len(steps)
    return (
        f"{missing} of the steps {steps[0]} to {steps[-1]} were not kept: a log holds one "
        "generation batch, and those in between are gone"
    )


def _twice(rollouts: Rollouts) -> str:
    """Steps that share a generation batch: the same prompts with the same rewards."""
    # Adding 0.0 turns -0.0 into 0.0.
    keys = combine(rollouts.prompt, (rollouts.reward + 0.0).view(np.uint64))
    steps, place = np.unique(rollouts.step, return_inverse=True)
    with np.errstate(over="ignore"):
        sums = np.zeros(len(steps), dtype=np.uint64)
        np.add.at(sums, place, keys)
    sizes = np.bincount(place)
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    np.minimum.at(low, place, rollouts.reward)
    np.maximum.at(high, place, rollouts.reward)
    # Rewards that are all equal say nothing of whether the rollouts are the same.
    same = (sums[1:] == sums[:-1]) & (sizes[1:] == sizes[:-1]) & (low < high)[1:]
    same = np.flatnonzero(same)
    if not len(same):
        return ""
    at = same[0]
    return (
        f"steps {steps[at]} and {steps[at + 1]} hold the same rollouts ({len(same)} such pairs): "
        "one generation batch was trained on and logged more than once"
    )


def _mixed(rollouts: Rollouts) -> str:
    """Files that hold something else than whole groups of one batch."""
    keys = combine(rollouts.prompt, rollouts.step.astype(np.uint64))
    _, first, sizes = np.unique(keys, return_index=True, return_counts=True)
    usual = np.bincount(sizes).argmax()
    odd = rollouts.step[first[sizes % usual != 0]]
    if not len(odd):
        return ""
    return (
        f"{len(odd)} prompts do not have {usual} rollouts each, first at step {odd.min()}: "
        "evaluation writes into the training file of its step"
    )

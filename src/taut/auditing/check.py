"""What a log can and cannot support, without certifying anything."""

from collections.abc import Mapping

from taut.auditing.health import Certifiable, Health, HealthLog
from taut.auditing.options import TARGETS, Range, options_of
from taut.auditing.prepare import Entered, enter
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, status_of
from taut.engines.tables import Data, as_rollouts
from taut.types import Status

_NO_LABELS = "needs gold labels on a random subset: nothing else ties the reward to the true one"
_NO_TAIL = "needs a declared --log-ratio-max: the mean of an unbounded log-ratio has no bound"


def check(
    rollouts: Data,
    *,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    declare: tuple[str, ...] | str = (),
    held_out: bool = False,
    seed: int = 0,
) -> Health:
    """Look at a log's health and say what can be certified from it.

    Args:
        rollouts: The log, as anything that `taut.audit` takes; so are the other arguments.


    Raises:
        LogError: No rollouts. AssumptionError: Gold outside its range.

    Source: theory §5.
    """
    options = options_of(locals())
    log = as_rollouts(rollouts, columns)
    entered = enter(log, options)
    found = entered.design
    labels = "none" if found.labels is None else str(found.labels.kind)
    return Health(
        log=HealthLog(
            rollouts=len(log),
            prompts=found.layout.prompts,
            draws=len(found.blocks),
            cells=found.layout.cell_count,
            labels=labels,
            rejected_rows=log.rejected_rows,
        ),
        certifiable=tuple(_certifiable(entered, target) for target in TARGETS),
        assumptions=tuple(found.assumptions.values()),
        health=found.checks,
    )


def _certifiable(entered: Entered, target: str) -> Certifiable:
    if target in entered.unavailable:
        return Certifiable(target=target, status=None, reason=entered.unavailable[target])
    found = entered.design
    if found.labels is None:
        return Certifiable(target=target, status=Status.VACUOUS, reason=_NO_LABELS)
    if target == "objective" and entered.options.beta:
        return Certifiable(target=target, status=Status.ESTIMATED, reason=_NO_TAIL)
    names = [about.REWARD_RANGE, about.GOLD_RANGE, about.RANDOM_LABELS]
    names += [about.LOG_PROBS] if target != "reward" else []
    rests_on = found.resting_on(*names)
    status = status_of(rests_on)
    return Certifiable(target=target, status=status, reason=_weakest(rests_on, status))


def _weakest(rests_on: tuple[Assumption, ...], status: Status) -> str:
    """Name what decides the status."""
    if status is Status.CERTIFIED:
        return "everything that it rests on is on record, checked or declared"
    held = [item for item in rests_on if item.status is status]
    return "; ".join(f"{item.text}: {item.by}" for item in held)

"""The route by importance weights: a double lower bound on each end (theory §3.4)."""

import math

import numpy as np

from taut.auditing.routes.declared import Joined, both_ends
from taut.auditing.routes.reward_data import (
    REACH,
    TRUSTED,
    UNSEEN,
    Shift,
    beside,
    check_labels,
    check_weights,
    method_of,
)
from taut.auditing.target import Budget, TargetMean
from taut.bounds.sampling import block_interval, end_forecast
from taut.bounds.transfer import (
    TRUNCATIONS,
    EndBlocks,
    importance_blocks,
    join_means,
)
from taut.draws.assumptions import Assumption
from taut.draws.labels import label_counts
from taut.draws.rollouts import Blocks
from taut.errors import CoverageError
from taut.types import Interval, Status

_ENOUGH = 200


def importance(mean: TargetMean, shift: Shift, learned: Interval, budget: Budget) -> Joined:
    """Truncated importance weighting with a double lower bound.

    Raises:
        CoverageError: Reward data without labels or weights, or weights that contradict themselves.

    Source: theory §3.4, §5.
    """
    check_weights(mean, shift)
    check_labels(shift)
    form = min(_forms(mean, shift), key=lambda form: _forecast(mean, shift, form, budget))
    ends, spent = [], (budget.lower, budget.upper)
    for upper in (False, True):
        joined = _end_blocks(mean, shift, form, upper, shift.data.blocks, mean.blocks)
        ends.append(_lower_end(joined, spent[upper], method_of(mean, shift)))
    truncation, controlled = form
    shown = _end_blocks(mean, shift, form, False, shift.data.blocks, mean.blocks).values
    return beside(
        mean,
        learned,
        Interval(ends[0], 1 - ends[1]),
        events=both_ends("truncated importance weights", budget),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(TRUSTED, REACH, UNSEEN),
        route=f"importance weights cut at {truncation:g}"
        + (", r as control variate" if controlled else ""),
        source="theory §3.4",
        values=shown,
    )


def weighted_ends(
    mean: TargetMean, shift: Shift, audited: Blocks, budget: Budget
) -> tuple[tuple[EndBlocks, EndBlocks], str, tuple[Assumption, ...]]:
    """Return blocks that bound E[r* - cost], and 1 - E[r* - cost], from below; their name; and
    what they rest on.

    Args:
        audited: The audited draws that no other bound of the same event uses.

    Raises:
        CoverageError: As for `importance`; or no audited draw where the form or a cost needs one.

    Source: theory §3.4.
    """
    check_weights(mean, shift)
    check_labels(shift)
    forms = [form for form in _forms(mean, shift) if len(audited) or not form[1]]
    if mean.beta and not len(audited):
        raise CoverageError("needs unlabelled draws in the audited log, for the KL cost")
    form = min(forms, key=lambda form: _forecast(mean, shift, form, budget))
    ends = tuple(
        _end_blocks(mean, shift, form, upper, shift.data.blocks, audited) for upper in (False, True)
    )
    assumes = (TRUSTED, REACH, UNSEEN, *shift.rests_on)
    return ends, f"reward data with weights cut at {form[0]:g}", assumes


def _forms(mean: TargetMean, shift: Shift) -> list[tuple[float, bool]]:
    """Truncations and forms (with the learned reward as control variate, or pure)."""
    largest = float(shift.data.weight[shift.data.calibration.rows].max(initial=1.0))
    # A level above every weight cuts nothing; one such level is enough.
    levels = [level for level in TRUNCATIONS if level / 2 <= largest]
    # The control form is wrong where both logs understate w; with this many draws in each, the
    # comparison in `check_weights` sees that. The pure form is right in any case.
    enough = min(len(shift.data.blocks), len(mean.blocks)) >= _ENOUGH
    noisy = bool(mean.design.declared.log_prob_noise)  # the control form is false under noise
    controls = (False, True) if shift.weight is not None and enough and not noisy else (False,)
    return [(level, control) for level in levels for control in controls]


def _end_blocks(mean, shift: Shift, form, upper: bool, train: Blocks, audited: Blocks) -> EndBlocks:
    """Blocks whose mean bounds E[r* - cost] (or 1 - E[r* - cost]) from below."""
    truncation, controlled = form
    on_policy = (mean.data.reward, shift.weight) if controlled else None
    first, control = importance_blocks(
        shift.data, train, truncation, on_policy=on_policy, upper=upper
    )
    cost = -mean.cost if not upper else mean.cost
    low, high = sorted((cost_end if upper else -cost_end) for cost_end in mean.cost_range)
    if not controlled and not mean.beta:
        return first
    second = np.clip(
        audited.means(control + cost if controlled else cost),
        low,
        high + (1.0 if controlled else 0),
    )
    partner = _partners(shift, train, audited)
    values = join_means(first.values, second, partner)
    return EndBlocks(values, first.low + low, first.high + high + (1.0 if controlled else 0.0))


def _partners(shift: Shift, train: Blocks, audited: Blocks) -> np.ndarray:
    """Index of the audited draw of the same prompt for each labelled draw of reward data, or -1."""
    counts = label_counts(shift.data.gold, train)
    chosen = np.flatnonzero(counts > 0)
    if not shift.paired:
        return np.full(len(chosen), -1)
    mine = shift.data.prompt[train.rows[train.starts[chosen]]]
    theirs = shift.prompt[audited.rows[audited.starts[:-1]]]
    order = np.argsort(theirs)
    place = np.searchsorted(theirs[order], mine)
    place = np.minimum(place, len(theirs) - 1)
    return np.where(theirs[order][place] == mine, order[place], -1)


def _lower_end(blocks: EndBlocks, eta: float, method: str) -> float:
    return block_interval(
        np.clip(blocks.values, blocks.low, blocks.high),
        low=blocks.low,
        high=blocks.high,
        delta_lower=eta,
        delta_upper=0.0,
        method=method,
    ).lower


def importance_forecast(
    mean: TargetMean, shift: Shift, budget: Budget, coverage: float | None
) -> float:
    """Width that the importance route will have, judged on both calibration splits.

    Where too few draws choose, what a declared C says of M = 1: it cuts off at most
    min(sqrt(chi^2)/2, 1 - 1/(1 + C^2)), and the rest is as wide as the learned reward's mean.
    """
    if coverage is not None and not _judged(mean, shift):
        lost = min(math.sqrt(coverage**2 - 1) / 2, 1 - 1 / (1 + coverage**2))
        return mean.forecast_width(budget.lower + budget.upper) + lost
    return min(_forecast(mean, shift, form, budget) for form in _forms(mean, shift))


def _judged(mean: TargetMean, shift: Shift) -> bool:
    """Whether both calibration splits hold draws to judge by."""
    labelled = label_counts(shift.data.gold, shift.data.calibration) > 0
    return bool(labelled.sum() >= 2) and len(mean.split.calibration) >= 2


def _forecast(mean: TargetMean, shift: Shift, form, budget: Budget) -> float:
    """Width that this form will have, judged on both calibration splits."""
    train, audited = shift.data.calibration, mean.split.calibration
    if not _judged(mean, shift):
        return form[0] + form[1]  # nothing to judge by: the smallest truncation, the pure form
    labelled = int((label_counts(shift.data.gold, shift.data.blocks) > 0).sum())
    width = 1.0
    for upper, eta in ((False, budget.lower), (True, budget.upper)):
        found = _end_blocks(mean, shift, form, upper, train, audited)
        centre = float(found.values.mean())
        variance = float(found.values.var(ddof=1)) if len(found.values) > 1 else 1.0
        far = centre - found.low
        width -= centre - end_forecast(far, variance, blocks=labelled, eta=eta or 0.5)
    return width

"""Gold labels and weighted reward data in one fortune (theory §3.6): conditional, on request."""

from dataclasses import replace

import numpy as np

from taut.auditing.routes.declared import Joined
from taut.auditing.routes.gold import certifying_blocks, joined, learns
from taut.auditing.routes.importance import weighted_ends
from taut.auditing.routes.reward_data import Shift
from taut.auditing.target import Budget, TargetMean
from taut.errors import CoverageError
from taut.inequalities.label_designs import fixed_blocks
from taut.inequalities.rectifier import joint_interval
from taut.types import Status, weakest


def joint(mean: TargetMean, shift: Shift, budget: Budget) -> Joined:
    """Bound E[r* - cost] by gold labels and by weighted reward data, in one fortune.

    Both have the wanted mean, or bound it on the side that is asked for. Labels keep their own
    draws and every other unlabelled one; the rest stand beside the reward data. A prompt in both
    logs would have to share a block, and is refused.

    Raises:
        CoverageError: Several laws, labels of several chances, missing rollouts, another method
            than betting, prompts in both logs, or what the importance route refuses.

    Source: theory §3.6.
    """
    if not learns(mean) or not shift.design.one_law:
        raise CoverageError("needs one law, one chance of a label, and the method betting")
    if np.isin(shift.data.prompt[shift.data.blocks.rows], shift.prompt[mean.blocks.rows]).any():
        raise CoverageError("needs reward data on prompts that the audited log does not hold")
    labelled = mean.label_counts > 0
    beside = ~labelled & (np.cumsum(~labelled) % 2 == 0)
    ends, what, assumes = weighted_ends(mean, shift, mean.blocks.subset(beside), budget)
    below, above = ends
    weighted = fixed_blocks(
        below.values,
        1 - above.values,
        low=mean.low,
        high=mean.high,
        least=min(below.low, 1 - above.high),
        largest=max(below.high, 1 - above.low),
    )
    gold = certifying_blocks(mean, mean.blocks.subset(~beside))
    found = joint_interval((gold, weighted), delta_lower=budget.lower, delta_upper=budget.upper)
    shown = joined(
        mean,
        budget,
        found.interval,
        found.blocks,
        f"gold labels on {int(labelled.sum())} draws and {what}, in one fortune",
        what="gold blocks and weighted reward data",
    )
    status = weakest((shown.status, Status.CONDITIONAL, *(item.status for item in assumes)))
    return replace(shown, assumes=(*shown.assumes, *assumes), status=status)

"""Gold labels that came on a sheet: every block of the sheet is a bet (theory §3.6).

The blocks, their order, chances and horizon follow from the design of the sheet and the ids of the
log, never from the labels. What has not come back counts in two ways at once, for both are the same
fortune at two times, and a fortune holds at all of them: the blocks before the first gap, whatever
made the annotator stop, and all blocks up to the last label with each gap at its worst. The second
needs that who left an answer out went by it and earlier ones, as bets on later blocks see the gap.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from taut.auditing.routes.declared import Joined, both_ends
from taut.auditing.routes.gold import shares_of
from taut.auditing.target import Budget, TargetMean
from taut.draws import assumptions as about
from taut.draws.assumptions import status_of
from taut.draws.labels import labelled_rows
from taut.draws.sheets import SheetLabels
from taut.errors import CoverageError
from taut.inequalities.label_designs import LabelledDraws, chance_blocks, labelled_blocks
from taut.inequalities.rectifier import RectifierBlocks, rectified_interval
from taut.types import Interval


def gold(
    mean: TargetMean,
    budget: Budget,
    delta: float,
    *,
    plain: Callable[[TargetMean, Budget, float], tuple[Joined, float]],
) -> tuple[Joined, float]:
    """Gold labels in the blocks of their sheet where there are any, else by the plain route.

    Raises:
        CoverageError: Labels have no blocks here and are no plain random sample.
    """
    return (by_sheet if has_blocks(mean) else plain)(mean, budget, delta)


def has_blocks(mean: TargetMean) -> bool:
    """Whether labels certify in the blocks of a sheet here, rather than as a plain random sample.

    Raises:
        CoverageError: They do not, and they are no plain random sample either.
    """
    sheet = mean.design.rollouts.sheet
    if sheet is None:
        return False
    dealt = mean.design.sheet is not None
    if dealt and mean.method == "betting":
        return True
    if not sheet.uniform:
        raise CoverageError(
            "needs the whole log of the sheet, of one policy, and --method betting: its rows were "
            "drawn by unequal chances (strata, or where the judge errs)"
        )
    if dealt and not sheet.complete:
        raise CoverageError(
            "needs all labels of the sheet: of one that came back in part only bets "
            "(--method betting, with a range of the KL cost) are valid"
        )
    return False


def by_sheet(mean: TargetMean, budget: Budget, delta: float) -> tuple[Joined, float]:
    """Gold labels of a sheet, beside the learned reward (theory §3.6).

    Returns:
        The route, and a width that follows from the number of blocks alone, for the choice among
        routes.
    """
    sheet = mean.design.sheet
    found = [
        rectified_interval(
            _blocks(mean, sheet, until),
            delta_lower=budget.lower,
            delta_upper=budget.upper,
            horizon=sheet.horizon[:until],
        )
        for until in _looks(sheet)
    ]
    interval = Interval(
        max(item.interval.lower for item in found), min(item.interval.upper for item in found)
    )
    values = found[-1].blocks
    sampling, shift = shares_of(mean, values, interval)
    assumes = mean.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
    labelled = int(labelled_rows(mean.data.gold[mean.blocks.rows]).sum())
    missing = int((sheet.missing & (sheet.unit < sheet.until)).sum())
    gaps = f", {missing} without an answer at their worst" if missing else ""
    joined = Joined(
        interval=interval,
        sampling=sampling,
        shift=shift,
        events=both_ends("blocks of the sheet", budget),
        status=status_of(assumes),
        assumes=assumes,
        route=f"gold labels on {labelled} rollouts of a sheet, beside the learned reward{gaps}",
        source="theory §3.6",
        values=values,
    )
    spread = math.sqrt(2 * math.log(4 / delta) / len(values))
    return joined, (mean.high - mean.low) * min(1.0, spread)


def _looks(sheet: SheetLabels) -> list[int]:
    """Blocks at each time that the fortune is read: the first gap, and the last label."""
    return sorted({until for until in (sheet.prefix, sheet.until) if until > 0})


def _blocks(mean: TargetMean, sheet: SheetLabels, until: int) -> RectifierBlocks:
    """The first so many blocks; gaps at their least for the lower end, at their most for the upper.

    The gaps' draws are the same for both ends, so that only the blocks' values differ.
    """
    gold, missing = mean.data.gold, sheet.missing & (sheet.unit < until)
    if not missing.any():
        return _filled(mean, sheet, until, gold)
    ends = mean.design.units.unit_gold(np.array(mean.design.units.gold_range))
    least, most = (_filled(mean, sheet, until, np.where(missing, end, gold)) for end in ends)
    return replace(least, upper_value=most.value)


def _filled(mean: TargetMean, sheet: SheetLabels, until: int, gold: np.ndarray) -> RectifierBlocks:
    heads = mean.blocks.rows[mean.blocks.starts[:-1]]
    unit = sheet.unit[heads]
    inside = np.flatnonzero((unit >= 0) & (unit < until))
    inside = inside[np.argsort(unit[inside], kind="stable")]
    blocks, heads, unit = mean.blocks.subset(inside), heads[inside], unit[inside]
    draws = LabelledDraws(
        gold=gold[blocks.rows],
        starts=blocks.starts,
        # What the judge is worth is learned on its own scale.
        judge=mean.design.rollouts.reward[blocks.rows],
        cost=mean.cost[blocks.rows] if mean.beta else None,
        cost_range=mean.cost_range,
    )
    if sheet.active:
        return chance_blocks(
            draws, block=unit, chance=sheet.chance[heads], least=sheet.least[:until]
        )
    return labelled_blocks(
        draws,
        block=unit,
        labelled_share=1.0 if sheet.whole else 1.0 / float(mean.design.blocks.sizes.max()),
        stratum=None if sheet.stratum is None else sheet.stratum[heads],
        shares=sheet.shares,
    )

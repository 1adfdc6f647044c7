"""Slices by what depends on the response: ratios by blocks of draws (theory §2.8)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from taut.auditing.certificates import Group, SliceMean
from taut.auditing.compose import spend
from taut.auditing.options import Options
from taut.auditing.prepare import Prepared, prepare
from taut.draws import assumptions as about
from taut.draws.design import Design
from taut.draws.labels import LabelKind, label_counts, labelled_means
from taut.draws.layout import Whole
from taut.draws.rollouts import Blocks
from taut.draws.slices import Cuts, Slices, slices_of
from taut.draws.units import clipped_share
from taut.errors import UsageError
from taut.inequalities.ratios import ratio_interval
from taut.types import Status

LABELLED = (about.RANDOM_LABELS, about.GOLD_RANGE, about.REWARD_RANGE)
_CHOOSING = 0.2  # of the draws, where numbers are cut into deciles


def response_groups(
    whole: Whole,
    columns: Sequence[str],
    cuts: Cuts | None,
    shares: np.ndarray,
    options: Options,
    *,
    gap_only: bool = False,
) -> tuple[Slices, list[Group], Design]:
    """Bound the mean reward of the responses in each slice, and how far the learned one is off.

    Args:
        whole: The log.
        columns, cuts: What to slice by.
        shares: Share of delta of each slice.
        options: The settings; the target is "reward", or "auto", which means that here.
        gap_only: Spend all of delta on how far the learned reward is off.

    Returns:
        The slices, a statement of each, and what they rest on.

    Raises:
        UsageError: Another target, method or route.

    Source: theory §2.8.
    """
    if options.target not in ("reward", "auto"):
        raise UsageError(
            f"target is {options.target!r}; slices by what depends on the response say what reward "
            "responses in them have: leave the target out, or say 'reward'."
        )
    if options.method != "betting" or options.route not in ("auto", "gold"):
        raise UsageError(
            "slices by what depends on the response are ratios, bounded by bets on labels: leave "
            "method and route out."
        )
    if options.missing is not None:
        raise UsageError(
            "missing='worst' counts what is not there, which no slice by response can hold: leave "
            "one of them out."
        )
    ready = prepare(
        whole.rollouts, replace(options, target="reward"), whole=whole, simultaneous=len(shares)
    )
    rollouts, blocks = ready.design.rollouts, ready.design.blocks
    slices = slices_of(rollouts, columns, cuts=cuts)
    if slices.cuts.keys() - set(cuts or {}):
        aside = math.floor(_CHOOSING * len(blocks))
        chosen = np.arange(len(blocks)) < aside
        choosing = blocks.subset(chosen).rows
        slices = slices_of(rollouts, columns, cuts=cuts, choosing=choosing)
        blocks = blocks.subset(~chosen)
    if len(slices.values) != len(shares):  # deciles of fewer draws may fall together
        shares = np.full(len(slices.values), 1.0 / len(slices.values))
    groups = [
        Group(
            value=value,
            delta=options.delta * share,
            **mean_in_slice(ready, blocks, inside, share, gap_only=gap_only),
        )
        for value, inside, share in _each(slices, shares)
    ]
    return slices, groups, ready.design


def _each(slices: Slices, shares: np.ndarray):
    for at, (value, share) in enumerate(zip(slices.values, shares, strict=True)):
        yield value, slices.code == at, float(share)


def mean_in_slice(
    ready: Prepared, blocks: Blocks, inside: np.ndarray, share: float, *, gap_only: bool = False
) -> dict:
    """Return the fields of a group: the mean of the rows inside, or why nothing can be said.

    Args:
        ready: The prepared log.
        blocks: Its draws that certify.
        inside: Which rows are in the slice, shape (rollouts,).
        share: Share of delta.
        gap_only: Say of r-hat - r* alone; else half of delta is spent on r*, half on that.
    """
    delta, data, design = ready.options.delta * share, ready.data, ready.design
    known = np.ones(len(inside), dtype=bool) if data.gold is None else ~np.isnan(data.gold)
    counted = blocks.sums((inside & known).astype(np.float64)) > 0
    labelled = data.gold is not None
    # Two statements where there are labels, of r* and of r-hat - r*: each gets half of delta.
    gaps = labelled and design.units.common is not None
    both = gaps and not gap_only  # also where the rewards forbid a gap: they do not share out delta
    each = delta / 2 if both else delta
    reason = _refused(ready) or too_small(int(counted.sum()), each, "labelled draws")
    rows = blocks.rows[inside[blocks.rows]]
    share_of = float(inside[blocks.rows].mean())
    draws = int((blocks.sums(inside.astype(np.float64)) > 0).sum())
    counts = {"share": share_of, "draws": draws, "rollouts": len(rows)}
    learned = float(np.mean(design.rollouts.reward[rows])) if len(rows) else None
    if reason is not None:
        return {"cannot_tell": reason, "slice": SliceMean(learned=learned, **counts)}
    names = (about.RANDOM_LABELS, about.GOLD_RANGE) if labelled else (about.REWARD_RANGE,)
    status = design.status(*names)
    values = data.gold if labelled else data.reward
    gap: dict = {}
    if gaps and not clipped_share(design.rollouts, design.units):
        shifted = (1.0 + data.reward - data.gold) / 2.0
        ends = _ratio(ready, blocks, shifted, inside, each)
        gap = {
            "gap_lower": (2.0 * ends.lower - 1.0) * design.units.width,
            "gap_upper": (2.0 * ends.upper - 1.0) * design.units.width,
            "gap_status": design.status(*names, about.REWARD_RANGE),
        }
    counts |= {"learned": learned, "labelled": int(counted.sum()) if labelled else 0}
    if gap_only:
        return {"cannot_tell": None, "slice": SliceMean(**gap, **counts)}
    mean = _ratio(ready, blocks, values, inside, each)
    scale = design.units.target_scale("gold" if labelled else "reward")
    return {
        "cannot_tell": None,
        "slice": SliceMean(
            lower=scale.at(mean.lower),
            upper=scale.at(mean.upper),
            measured=_plain_mean(design.rollouts.gold if labelled else None, rows, learned),
            status=status if labelled else Status.VACUOUS,
            of="r*" if labelled else "r-hat",
            **gap,
            **counts,
        ),
    }


def _ratio(ready: Prepared, blocks: Blocks, values: np.ndarray, inside: np.ndarray, delta: float):
    """Bound the mean of values on the unit scale over the rows inside."""
    marks = inside.astype(np.float64)
    if ready.data.gold is None:
        a, b = blocks.means(marks * values), blocks.means(marks)
    else:
        gold = ready.data.gold
        chosen = label_counts(gold, blocks) > 0
        full = np.where(np.isnan(values), 0.0, values)
        a = labelled_means(marks * full, gold, blocks)[chosen]
        b = labelled_means(marks, gold, blocks)[chosen]
    budget = spend(delta, ready.options.side, 0.0)
    return ratio_interval(
        np.minimum(a, b),
        b,
        delta_lower=budget.lower,
        delta_upper=budget.upper,
        one_law=ready.design.one_law,
    )


def _refused(ready: Prepared) -> str | None:
    labels = ready.design.labels
    if labels is None:
        return None
    sheet = ready.design.rollouts.sheet
    if sheet is not None and not sheet.complete:
        return "labels of a sheet that came back in part, which slices by response do not impute"
    if labels.kind is LabelKind.CHANCES or (sheet is not None and not sheet.uniform):
        return "labels of unequal chances, which slices by response do not weigh"
    if labels.uneven:
        return "rows labelled one by one, of prompts with unequal numbers of rollouts"
    return None


def too_small(draws: int, delta: float, what: str = "draws") -> str | None:
    """Say why so few draws can tell nothing, whatever they hold; None where they can.

    Draws that are all alike leave an interval of 1 - (delta/2)^(1/n) of the range at the least.

    Args:
        draws: How many there are.
        delta: Error probability of the interval.
        what: What they are.
    """
    fewest = math.ceil(math.log(2.0 / delta) / math.log(2.0))
    if draws >= fewest:
        return None
    return f"{draws} of at least {fewest} {what} that could halve the range"


def _plain_mean(gold: np.ndarray | None, rows: np.ndarray, learned: float | None) -> float | None:
    if gold is None:
        return learned
    known = gold[rows][~np.isnan(gold[rows])]
    return float(known.mean()) if len(known) else None

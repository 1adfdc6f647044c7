"""How far the learned reward is off in each slice of a log: r-hat - r* (theory §6.3, §3.6)."""

import math
from dataclasses import replace

import numpy as np

from taut.auditing.certificates import Group, SliceMean
from taut.auditing.compose import mean_of, spend
from taut.auditing.options import Options
from taut.auditing.prepare import Prepared, prepare
from taut.auditing.response_slices import too_small
from taut.auditing.routes.choice import reward_routes
from taut.auditing.worst import worst_assumptions, worst_checks
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.draws.design import Design
from taut.draws.layout import Whole
from taut.draws.slices import Slices
from taut.draws.units import clipped_share
from taut.errors import AssumptionError, LogError, UsageError
from taut.types import Interval, Status, weakest


def refuse_gap(whole: Whole, options: Options, *, mix: bool, reward_data: bool) -> None:
    """Refuse what does not go with a gap, and a log that has none.

    Raises:
        UsageError: A mix, reward data, imputed rollouts, another target than the reward, or a route
            that is not that of gold.
        LogError: The log has no gold labels.
    """
    for given, what in (
        (mix, "mix is of certificates"),
        (reward_data, "reward_data are for certificates"),
        (options.missing is not None, "missing='worst' is for certificates"),
    ):
        if given:
            raise UsageError(f"{what}, gap says how far rewards are off: leave one of them out.")
    if options.target not in ("reward", "auto"):
        raise UsageError(
            f"target is {options.target!r}; gap is of the rewards, r-hat - r*: leave the target "
            "out, or say 'reward'."
        )
    if options.route not in ("auto", "gold"):
        raise UsageError(f"route is {options.route!r}; gap goes by gold labels alone.")
    gold = whole.rollouts.gold
    if gold is None or np.isnan(gold).all():
        raise LogError("gap subtracts gold from the learned reward, and no row of the log has one.")


def gap_groups(
    whole: Whole, slices: Slices, shares: np.ndarray, options: Options
) -> tuple[list[Group], tuple[Assumption, ...], tuple[Check, ...]]:
    """Bound the mean of r-hat - r* in each slice by law or prompt, all at once.

    Args:
        whole: The log.
        slices: Its slices, whose draws are draws of the log.
        shares: Share of delta of each slice.
        options: The settings.

    Returns:
        A statement of each slice, in reward units, what they rest on and the health of their rows,
        each as it stands worst.

    Raises:
        UsageError, AssumptionError: As `refuse_rewards`.

    Source: theory §6.3, §3.6.
    """
    groups, assumptions, checks = [], [], []
    asked = replace(options, target="reward")
    for value, rows, share in zip(slices.values, slices.rows(), shares, strict=True):
        part, delta = whole.rollouts.take(rows), options.delta * float(share)
        group = Group(value=value, delta=delta, cannot_tell="no labels")
        known = np.zeros(len(rows), dtype=bool) if part.gold is None else ~np.isnan(part.gold)
        draws, labelled = len(np.unique(part.prompt)), len(np.unique(part.prompt[known]))
        found = {
            "slice": SliceMean(
                share=len(rows) / len(whole.rollouts),
                rollouts=len(rows),
                draws=draws,
                learned=math.fsum(part.reward) / len(rows),
            )
        }
        if labelled:
            # As many draws as prompts at the most: the rest need not be laid out to be refused.
            found["cannot_tell"] = too_small(labelled, delta, "labelled draws")
        if labelled and found["cannot_tell"] is None:
            ready = prepare(part, asked, whole=whole, simultaneous=len(shares), share=float(share))
            refuse_rewards(ready.design)
            ends, status, rests = gap_of(ready)
            assumptions.append(rests)
            checks.append(ready.design.checks)
            told = {"gap_lower": ends.lower, "gap_upper": ends.upper, "gap_status": status}
            counted = {"labelled": int(ready.design.labels.counts.astype(bool).sum())}
            found["slice"] = found["slice"].model_copy(update=told | counted)
        groups.append(group.model_copy(update=found))
    return groups, worst_assumptions(assumptions), worst_checks(checks)


def gap_of(ready: Prepared) -> tuple[Interval, Status, tuple[Assumption, ...]]:
    """Bound the mean of r-hat - r* of a prepared log, in reward units, by all of its delta.

    It is E r* of the log whose gold is r-hat - r*, put on the unit scale, by the route of gold
    labels; what labels are and are worth was decided on the log as it is.

    Returns:
        The interval, its status and what it rests on.

    Raises:
        AssumptionError: The labels cannot be taken.
    """
    data, units = ready.data, ready.design.units
    shifted = (1.0 + data.reward - data.gold) / 2.0
    # Declarations about gold or the reward's error are not about their difference.
    options = replace(ready.options, route="gold", gold_kind=None, reward_mse=None, coverage=None)
    mean = mean_of(
        "reward",
        replace(ready, data=replace(data, gold=shifted, reward_mse=None), options=options),
    )
    budget = spend(ready.delta, options.side, 0.0)
    learned = mean.interval(mean.draws, mean.low, mean.high, budget)
    joined, _ = reward_routes(mean, learned, budget, options, ready.delta, None)
    ends = joined.interval
    low = math.nextafter((2.0 * max(ends.lower, 0.0) - 1.0) * units.width, -math.inf)
    high = math.nextafter((2.0 * min(ends.upper, 1.0) - 1.0) * units.width, math.inf)
    rests = tuple(
        {(item.name, item.text): item for item in (*mean.rests_on, *joined.assumes)}.values()
    )
    status = weakest((mean.status, joined.status))
    return Interval(max(low, -units.width), min(high, units.width)), status, rests


def refuse_rewards(design: Design) -> None:
    """Refuse what has no gap: it is of what was measured, not of what a range leaves of it.

    Raises:
        UsageError: Gold has a scale of its own.
        AssumptionError: Some reward lies outside the range.
    """
    if design.units.common is None:
        raise UsageError(
            "gap subtracts gold from the learned reward, and gold has a range of its own: say how "
            "it is put on the reward's scale, gold_scale=(p, q)."
        )
    share = clipped_share(design.rollouts, design.units)
    if share:
        low, high = design.units.reward_range
        seen = design.rollouts.reward
        raise AssumptionError(
            f"gap is of the learned reward itself, and {100 * share:.3g}% of the rewards lie "
            f"outside the declared range [{low:g}, {high:g}] (they reach from {seen.min():.6g} to "
            f"{seen.max():.6g}): declare a range that holds for every possible response."
        )

"""How to spend a budget: prompts, rollouts a prompt, preference pairs, gold labels (theory §8).

Everything here is a forecast from a pilot log. No guarantee rests on it: the audit of the log that
is then made is valid whatever was forecast.
"""

import math
import os
from collections.abc import Mapping

from taut.auditing.options import Options, Prompts, Range, Threshold, options_of
from taut.auditing.words import Target
from taut.decisions.budget.costs import Costs, measured_costs
from taut.decisions.budget.describe import describe
from taut.decisions.budget.learning_curve import LearningCurve, read_learning_curve
from taut.decisions.budget.pilot import Pilot
from taut.decisions.budget.planner import MOST_ROLLOUTS, Planner
from taut.decisions.budget.result import Plan
from taut.engines.tables import Data, as_rollouts
from taut.errors import UsageError


def plan(
    rollouts: Data,
    *,
    columns: Mapping[str, str] | None = None,
    budget: float | None = None,
    width: float | None = None,
    costs: Costs | None = None,
    beta: float | None = None,
    rm_curve: LearningCurve | str | os.PathLike | None = None,
    pairs_at_hand: int = 0,
    most_rollouts: int = MOST_ROLLOUTS,
    step: float | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    tau: Threshold = "auto",
    tau_negative: float | None = None,
    delta: float = 0.05,
    target: Target = "auto",
    reward_mse: float | None = None,
    coverage: float | None = None,
    log_ratio_max: float | None = None,
    log_ratio_second_moment: float | None = None,
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
    log_prob_noise: float | None = None,
) -> Plan:
    """Plan a new log from a pilot: the narrowest certificate that a budget is forecast to buy.

    Args:
        rollouts: The pilot: a log of the policy with some gold labels, and two rollouts or more on
            some prompts, so that their spread is seen. About 100 prompts will do.
        budget: Money for the new log, in the unit of the costs.
        width: Also (or, without a budget, only) find the cheapest plan of this width, reward units.
        costs: Prices; measured in response tokens if absent, and then no labels are planned.
        rm_curve: How the reward model's error falls with preference pairs, or the file of a table
            of m and L; needs a declared `coverage`.
        pairs_at_hand: Preference pairs that need not be paid for.
        most_rollouts: Largest number of rollouts of a prompt to look at.
        step: Money for the table of marginal values; about a twentieth of the budget if absent.

    The other arguments are what the coming audit will be told, as for `taut.audit`.

    Raises:
        UsageError: Settings contradict each other, or the budget buys not one prompt.
        LogError: The pilot lacks what the target needs.

    Source: theory §8.
    """
    if budget is None and width is None:
        raise UsageError("neither a budget nor a width: say what there is, or what is wanted.")
    for name, value in (("budget", budget), ("width", width), ("step", step)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}; expected a finite number above 0.")
    if pairs_at_hand < 0 or most_rollouts < 1:
        raise UsageError(
            f"pairs_at_hand {pairs_at_hand} and most_rollouts {most_rollouts}: expected at least "
            "0 and 1."
        )
    options = options_of(locals())
    rollouts = as_rollouts(rollouts, columns)
    costs = costs or measured_costs(rollouts, prefill=None, label=None, pair=None)
    pilot = Pilot(rollouts, options)
    planner = Planner(pilot, costs, _curve(rm_curve, options), pairs_at_hand, most_rollouts)
    found = planner.find(budget, width)
    return describe(planner, found, _round(found.chosen.budget / 20) if step is None else step)


def _curve(given, options: Options) -> LearningCurve | None:
    if given is None:
        return None
    if options.coverage is None:
        raise UsageError(
            "a learning curve needs a declared coverage C (--coverage): without it nothing ties "
            "the error on reward data to the policy."
        )
    if isinstance(given, LearningCurve):
        return given
    return read_learning_curve(given, seed=options.seed)


def _round(value: float) -> float:
    """Return a round number near a positive one: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / value))) * power

"""What is said about a plan: what more money buys, its neighbours, the paper's rules."""

import math

import numpy as np

from taut.auditing.certificate import PerPrompt
from taut.decisions.budget.basis import basis
from taut.decisions.budget.components import Components, variance_components
from taut.decisions.budget.learning_curve import LearningCurve
from taut.decisions.budget.marginal import marginal_values
from taut.decisions.budget.planner import BAR_LEVEL, MOST_ROLLOUTS, Answer, Planner
from taut.decisions.budget.result import (
    AskedWidth,
    CurveFit,
    MarginalValues,
    PaperPlan,
    PilotLog,
    Plan,
    PlanSettings,
    Priced,
    Prices,
    VarianceComponents,
    WidthForecast,
)
from taut.decisions.stopping import rules
from taut.draws.labels import label_counts, labelled_rows
from taut.draws.rollouts import Blocks
from taut.inequalities.concentration import paper_alpha


def describe(planner: Planner, answer: Answer, step: float) -> Plan:
    """Return a plan with everything that is said about it.

    Args:
        planner: What found it.
        answer: What was found.
        step: Money for the table of marginal values.
    """
    pilot, options, chosen = planner.pilot, planner.pilot.options, answer.chosen
    lower, upper = planner.bar(chosen)
    return Plan(
        target=options.target,
        level=1 - options.delta,
        settings=_settings(planner),
        costs=_prices(planner),
        budget=chosen.budget,
        chosen=chosen,
        forecast=WidthForecast(
            width=chosen.width,
            lower=lower,
            upper=upper,
            bar_level=BAR_LEVEL,
            status=pilot.status(chosen.route),
            weight=_weight(planner, chosen),
        ),
        marginal=MarginalValues(step=step, resources=marginal_values(planner, chosen, step)),
        asked=_asked(answer),
        by_budget=_by_budget(planner, chosen.budget),
        by_rollouts=_by_rollouts(planner, chosen.budget),
        components=VarianceComponents(
            objective=_objective(planner), residual=_residual(planner, chosen)
        ),
        paper=_paper(planner, chosen.budget),
        learning_curve=_curve_fit(planner.curve),
        pilot=_pilot_log(planner),
        audit=audit_command(planner, chosen),
        rests_on=tuple(
            basis(pilot, planner.costs, planner.curve, planner.clip, chosen, planner.identified)
        ),
    )


def _settings(planner: Planner) -> PlanSettings:
    options, pilot, clip = planner.pilot.options, planner.pilot, planner.clip
    return PlanSettings(
        beta=options.beta,
        delta=options.delta,
        tau=clip.tau,
        tau_negative=clip.tau_negative,
        tau_source=clip.source,
        reward_range=(pilot.low, pilot.high),
        reward_range_declared=pilot.declared,
        gold_range=options.gold_range,
        calibration_share=options.calibration,
        seed=options.seed,
        held_out=options.held_out,
        coverage=options.coverage,
        reward_mse=options.reward_mse,
        log_ratio_max=options.log_ratio_max,
        log_ratio_second_moment=options.log_ratio_second_moment,
    )


def _prices(planner: Planner) -> Prices:
    costs = planner.costs
    return Prices(
        unit=costs.unit,
        prefill=costs.prefill,
        decode=costs.decode,
        label=costs.label,
        pair=costs.pair_price,
    )


def _asked(answer: Answer) -> AskedWidth | None:
    if answer.asked_width is None:
        return None
    return AskedWidth(
        width=answer.asked_width, plan=answer.for_width, never_below=answer.never_below
    )


def _curve_fit(curve: LearningCurve | None) -> CurveFit | None:
    if curve is None:
        return None
    return CurveFit(**{name: getattr(curve, name) for name in CurveFit.model_fields})


def _objective(planner: Planner) -> Components:
    """Components of r - beta l^tau."""
    pilot = planner.pilot
    return variance_components(pilot.data.reward - pilot.cost(planner.clip), pilot.blocks)


def _weight(planner: Planner, priced: Priced) -> float | None:
    if priced.route != "gold":
        return None
    each = priced.labels / priced.labelled
    return planner.forecast.expected_weight(priced.prompts, priced.rollouts, priced.labelled, each)


def _residual(planner: Planner, priced: Priced) -> Components | None:
    """Components of r* - lambda r on labelled rows, at the lambda that is expected."""
    if priced.route != "gold" or not planner.pilot.knows_gold:
        return None
    weight = _weight(planner, priced)
    gold = planner.pilot.data.gold
    return labelled_components(
        gold - weight * planner.pilot.data.reward, gold, planner.pilot.blocks
    )


def _by_budget(planner: Planner, budget: float) -> tuple[Priced, ...]:
    found = (planner.best(budget * 2.0**power) for power in np.arange(-1, 1.125, 0.25))
    return tuple(item for item in found if item is not None)


def _by_rollouts(planner: Planner, budget: float) -> tuple[Priced, ...]:
    found = (
        planner.best(budget, planner.rollouts[[at]]) for at in range(min(12, len(planner.rollouts)))
    )
    return tuple(item for item in found if item is not None)


def _paper(planner: Planner, budget: float) -> PaperPlan:
    pilot, costs, options = planner.pilot, planner.costs, planner.pilot.options
    components = _objective(planner)
    most = max(MOST_ROLLOUTS, int(planner.rollouts[-1]))
    k = rules.paper_rollouts(costs, most=most)
    reach = 1.0 if not pilot.has_cost else 1 + 2 * pilot.data.beta * planner.clip.tau
    share, pairs, closed = 1.0, planner.at_hand, False
    price = costs.pair_price
    if planner.unit_curve is not None and price:
        constant = rules.sampling_constant(costs, k, width=reach, delta=options.delta)
        money = rules.split_money(
            budget,
            sampling=constant,
            coverage=options.coverage,
            curve=planner.unit_curve,
            price=price,
        )
        share = money / budget
        pairs = planner.at_hand + math.floor((budget - money) / price + 1e-6)
        closed = planner.unit_curve.rate == 1.0 and planner.unit_curve.floor == 0.0
    prompts = int(costs.affordable(budget * share, k))
    half = None
    if "declared" in planner.routes and prompts >= 1:
        alpha = paper_alpha(prompts, k, options.delta)
        half = (reach * alpha + float(planner.shift(pairs))) * pilot.width
    ours = planner.best(budget, np.array([float(k)])) if k in planner.rollouts else None
    return PaperPlan(
        rollouts=k,
        rollouts_by_variance=rules.variance_rollouts(costs, components, most=most),
        prompts=prompts,
        pairs=pairs,
        rollout_share=share,
        closed_form=closed,
        half_width=half,
        width_by_our_forecast=None if ours is None else ours.width,
    )


def _pilot_log(planner: Planner) -> PilotLog:
    sizes, pilot = planner.pilot.blocks.sizes, planner.pilot
    return PilotLog(
        prompts=len(sizes),
        rollouts=int(sizes.sum()),
        rollouts_per_prompt=PerPrompt(
            min=int(sizes.min()), mean=float(sizes.mean()), max=int(sizes.max())
        ),
        prompts_with_two_rollouts=planner.replicated,
        labelled_prompts=pilot.labelled,
        range_declared=pilot.declared,
    )


def labelled_components(values: np.ndarray, gold: np.ndarray, blocks: Blocks) -> Components:
    """Components of values on labelled rows; NaN elsewhere is never read."""
    counts = label_counts(gold, blocks)
    rows = blocks.rows[labelled_rows(gold)[blocks.rows]]
    kept = Blocks(rows, np.r_[0, np.cumsum(counts[counts > 0])])
    return variance_components(np.nan_to_num(values), kept)


def audit_command(planner: Planner, chosen: Priced) -> str:
    """Return the command that audits the new log as it was planned."""
    options, clip = planner.pilot.options, planner.clip
    words = ["taut audit LOG", f"--target {options.target}"]
    if options.beta is not None and options.target != "reward":
        words.append(f"--beta {options.beta:g}")
    if options.reward_range is not None:
        words.append("--reward-range {:g} {:g}".format(*options.reward_range))
    if options.gold_range is not None:
        words.append("--gold-range {:g} {:g}".format(*options.gold_range))
    if clip.tau is not None:
        # What was chosen has six digits; what was declared is repeated as it was.
        words.append(f"--tau {clip.tau!r} --tau-negative {clip.tau_negative!r}")
    if options.log_ratio_max is not None and options.target != "reward":
        words.append(f"--log-ratio-max {options.log_ratio_max!r}")
    if options.log_ratio_second_moment is not None and options.target != "reward":
        words.append(f"--log-ratio-second-moment {options.log_ratio_second_moment!r}")
    if chosen.route == "declared":
        mse = "L" if options.reward_mse is None else f"{options.reward_mse:g}"
        words.append(f"--coverage {options.coverage:g} --reward-mse {mse}")
    if options.calibration != 0.2:
        words.append(f"--calibration {options.calibration:g}")
    if options.delta != 0.05:
        words.append(f"--delta {options.delta:g}")
    return " ".join(words)

"""The plan as plain data: the JSON contract `taut.plan/1`."""

from taut.decisions.budget.plan import BAR_LEVEL, Plan, Priced
from taut.results import fields_of, plain_data
from taut.version import __version__

SCHEMA = "taut.plan/1"


def plan_document(plan: Plan) -> dict:
    """Return the plan as JSON-ready data: finite numbers or None, reward units, nats, money."""
    options, costs = plan.options, plan.costs
    return plain_data(
        {
            "schema": SCHEMA,
            "version": __version__,
            "target": options.target,
            "level": 1 - options.delta,
            "settings": {
                "beta": options.beta,
                "delta": options.delta,
                "tau": plan.clip.tau,
                "tau_negative": plan.clip.tau_negative,
                "tau_source": plan.clip.source,
                "reward_range": plan.reward_range,
                "reward_range_declared": plan.pilot["range_declared"],
                "gold_range": options.gold_range,
                "calibration_share": options.calibration,
                "seed": options.seed,
                "held_out": options.held_out,
                "coverage": options.coverage,
                "reward_mse": options.reward_mse,
                "log_ratio_max": options.log_ratio_max,
                "log_ratio_second_moment": options.log_ratio_second_moment,
            },
            "costs": {
                "unit": costs.unit,
                "prefill": costs.prefill,
                "decode": costs.decode,
                "label": costs.label,
                "pair": costs.pair_price,
            },
            "budget": plan.chosen.budget,
            "plan": _priced(plan.chosen),
            "forecast": {
                "width": plan.width,
                "lower": plan.lower,
                "upper": plan.upper,
                "bar_level": BAR_LEVEL,
                "status": plan.status,
                "weight": plan.weight,
            },
            "marginal": {
                "step": plan.step,
                "resources": [fields_of(row) for row in plan.marginal],
            },
            "asked": None
            if plan.asked_width is None
            else {
                "width": plan.asked_width,
                "plan": None if plan.for_width is None else _priced(plan.for_width),
                "never_below": plan.unreachable,
            },
            "by_budget": [_priced(item) for item in plan.by_budget],
            "by_rollouts": [_priced(item) for item in plan.by_rollouts],
            "components": {
                "objective": fields_of(plan.objective),
                "residual": None if plan.residual is None else fields_of(plan.residual),
            },
            "paper": fields_of(plan.paper),
            "learning_curve": _curve(plan.curve),
            "pilot": plan.pilot,
            "audit": audit_command(plan),
            "rests_on": [fields_of(item) for item in plan.basis],
        }
    )


def _priced(item: Priced) -> dict:
    return fields_of(item)


def _curve(curve) -> dict | None:
    if curve is None:
        return None
    names = ("floor", "scale", "rate", "smallest", "largest", "points", "spread")
    return {name: getattr(curve, name) for name in names}


def audit_command(plan: Plan) -> str:
    """Return the command that audits the new log as it was planned."""
    options, clip = plan.options, plan.clip
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
    if plan.chosen.route == "declared":
        mse = "L" if options.reward_mse is None else f"{options.reward_mse:g}"
        words.append(f"--coverage {options.coverage:g} --reward-mse {mse}")
    if options.calibration != 0.2:
        words.append(f"--calibration {options.calibration:g}")
    if options.delta != 0.05:
        words.append(f"--delta {options.delta:g}")
    return " ".join(words)

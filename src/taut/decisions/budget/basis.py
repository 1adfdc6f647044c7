"""What a plan rests on, sentence by sentence: measured, declared, assumed, forecast."""

from dataclasses import dataclass

from taut.decisions.budget.costs import TOKENS, Costs
from taut.decisions.budget.forecast import FEWEST_LABELLED


@dataclass(frozen=True, slots=True)
class Basis:
    """One thing that a plan rests on: "measured", "declared", "assumed" or "forecast"."""

    kind: str
    text: str


def basis(pilot, costs: Costs, curve, clip, priced, identified: bool):
    """Yield what a plan rests on.

    Args:
        pilot: The pilot (`taut.decisions.pilot.Pilot`).
        costs: The prices.
        curve: The learning curve, or None.
        clip: The thresholds.
        priced: The plan.
        identified: Whether the pilot shows the spread within a prompt.
    """
    yield Basis(
        "forecast",
        "the width: no guarantee rests on it, and the audit of the new log holds whatever was "
        "forecast",
    )
    yield from _costs(costs)
    yield from _spread(pilot, identified)
    yield from _labels(pilot, costs, priced)
    yield from _pairs(pilot, curve, priced)
    yield from _clipping(pilot, clip)
    yield Basis(
        "assumed",
        "the new log holds fresh prompts of the same kind and the same policy; the pilot's own are "
        "not used again, as they chose the plan",
    )
    for text in pilot.concerns:
        yield Basis("assumed", text)


def _costs(costs: Costs):
    if costs.unit == TOKENS:
        yield Basis(
            "measured",
            f"a rollout costs {costs.decode:.4g} response tokens, its mean length in the pilot",
        )
        if costs.prefill == 0:
            yield Basis(
                "assumed",
                "reading a prompt is free: a log holds no prompt lengths, so its cost cannot be "
                "measured (--prefill-cost); more than one rollout a prompt then never pays",
            )
    if costs.label is None:
        yield Basis("assumed", "no gold labels can be bought (--label-cost)")


def _spread(pilot, identified: bool):
    draws = len(pilot.blocks)
    if identified:
        yield Basis("measured", f"spread between and within prompts, on {draws:,} prompts")
        return
    yield Basis(
        "measured",
        f"spread on {draws:,} prompts, nearly all with one rollout: what lies within a prompt is "
        "not seen, so K stays at 1; log two rollouts of some prompts to see more",
    )


def _labels(pilot, costs: Costs, priced):
    if priced.route == "learned":
        yield Basis(
            "forecast",
            "the interval is for the learned reward alone and says nothing about the true one: "
            "that takes gold labels (--label-cost) or a declared C with L (--coverage)",
        )
    if priced.route != "gold":
        return
    if not pilot.knows_gold:
        yield Basis(
            "assumed",
            f"gold spreads like the learned reward: the pilot has {pilot.labelled} labelled "
            f"prompts, {FEWEST_LABELLED} are the least; label some for a forecast worth the name",
        )
    else:
        yield Basis("measured", f"spread of gold and its errors, on {pilot.labelled:,} prompts")
    how = "chosen at random, blind to outcomes"
    yield Basis(
        "assumed",
        f"labels go to {priced.labelled:,} prompts {how}, {priced.labels // priced.labelled} of "
        "the rollouts of each",
    )


def _pairs(pilot, curve, priced):
    if priced.route != "declared":
        return
    yield Basis("declared", f"coverage C is at most {pilot.options.coverage:g}")
    if curve is None:
        yield Basis("declared", f"the reward model's L is at most {pilot.options.reward_mse:g}")
        return
    text = (
        f"L(m) = {curve.floor:.3g} + {curve.scale:.3g} m^-{curve.rate:.3g}, fitted to "
        f"{curve.points} points; the audit will need a bound on L itself, from gold labels on "
        "reward data"
    )
    yield Basis("forecast", text)
    if priced.pairs > curve.largest:
        yield Basis(
            "assumed",
            f"the curve goes on as before past its last point, m = {curve.largest:,.0f}",
        )
    if curve.scale == 0:
        yield Basis("measured", "the curve does not fall: more pairs buy nothing")
    if not len(curve.samples):
        yield Basis(
            "assumed", "the curve is exact: three points leave nothing over to judge its error by"
        )


def _clipping(pilot, clip):
    if not pilot.has_cost:
        return
    options = pilot.options
    yield Basis(
        "measured" if clip.source != "given" else "declared",
        f"clip thresholds {clip.tau:.6g} and {clip.tau_negative:.6g} nats ({clip.source}); hand "
        "them to the audit as below, so that it spends no prompts on choosing"
        + _apart(pilot, clip),
    )
    if options.target != "objective":
        return
    if options.log_ratio_max is not None:
        yield Basis("declared", f"log-ratios never exceed {options.log_ratio_max:g} nats")
    elif options.log_ratio_second_moment is not None:
        yield Basis(
            "declared", f"the mean squared log-ratio is at most {options.log_ratio_second_moment:g}"
        )
    else:
        yield Basis(
            "assumed",
            "the positive tail of the log-ratio is no heavier than the pilot suggests: without "
            "--log-ratio-max the lower end will be an estimate",
        )


def _apart(pilot, clip) -> str:
    """Say why `taut tau` may name another threshold."""
    if clip.source == "given" or pilot.options.log_ratio_max is not None:
        return ""
    return "; taut tau may differ: it chooses for the log at hand, not for this plan's"

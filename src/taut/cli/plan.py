"""`taut plan`: how to spend a budget on the next log."""

import click

from taut.cli.arguments import (
    Threshold,
    beta_option,
    declared_ratio_options,
    html_option,
    json_option,
    log_options,
    range_options,
)
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.root import cli
from taut.cli.show import picture, show
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut plan pilot/*.parquet --budget 500 --unit dollars --prefill-cost 0.01 "
    "--decode-cost 0.02 --label-cost 0.60 --target reward --reward-range -4 4"
)
@log_options
@click.option("--budget", type=float, help="Money for the new log, in the unit of the costs.")
@click.option(
    "--width",
    type=float,
    help="Also (without --budget: only) find the cheapest plan of this width, reward units.",
)
@click.option(
    "--decode-cost",
    type=float,
    help="Price of one rollout; its mean length on the log in tokens if absent.",
)
@click.option(
    "--prefill-cost",
    type=float,
    help="Price of reading one prompt, however many rollouts it gets.  [default: 0]",
)
@click.option(
    "--label-cost", type=float, help="Price of one gold label; none can be bought if absent."
)
@click.option(
    "--pair-cost", type=float, help="Price of one preference pair; that of a label if absent."
)
@click.option("--unit", metavar="NAME", help="What costs are counted in: dollars, GPU-seconds, ...")
@click.option(
    "--rm-curve",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Table of the reward model's error by preference pairs (CSV, JSONL, Parquet; columns m, L "
    "and standard_error or weight if known); needs --coverage.",
)
@click.option(
    "--pairs-at-hand",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Preference pairs that are paid for already.",
)
@click.option(
    "--most-rollouts",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Largest number of rollouts of a prompt to look at.",
)
@click.option(
    "--step",
    type=float,
    help="Money for the table of marginal values.  [default: about a twentieth of the budget]",
)
@beta_option
@click.option(
    "--target",
    type=click.Choice(["objective", "clipped", "reward"]),
    default="objective",
    show_default=True,
    help="J* = E[r* - beta l], E[r* - beta l^tau], or E r*.",
)
@click.option(
    "--tau",
    type=Threshold(),
    default="auto",
    show_default=True,
    help="Clip threshold of the sequence log-ratio, nats; auto takes the narrowest forecast.",
)
@click.option("--tau-negative", type=float, metavar="NATS", help="For negative log-ratios.")
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="Error probability of the coming certificate.",
)
@click.option("--coverage", type=float, help="Declared C = sqrt(1 + chi-square), 1 or more.")
@click.option("--reward-mse", type=float, help="Declared L = E[(r - r*)^2], squared units.")
@declared_ratio_options
@click.option(
    "--calibration",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of prompts that the coming audit sets aside, where it has something to choose.",
)
@range_options
@labels_options
@json_option
@html_option
@click.option(
    "--plot",
    "plot_path",
    metavar="PATH",
    help="Draw width over budget and over rollouts per prompt: PNG, SVG or PDF.",
)
def plan(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    labels,
    label_map,
    decode_cost,
    prefill_cost,
    label_cost,
    pair_cost,
    unit,
    json_path,
    html_path,
    plot_path,
    **settings,
):
    """Plan the next log from a pilot LOG: how many prompts, rollouts of each, labels.

    The plan is the one whose certificate is forecast to be narrowest for the money, in whole
    numbers. A pilot of about 100 prompts, two rollouts or more of some, gold labels on some, will
    do. All of it is a forecast: the audit of the new log is valid whatever was planned.
    """
    from taut.decisions.budget.plan import plan as make_plan

    if settings["budget"] is None and settings["width"] is None:
        raise UsageError("say --budget MONEY (what there is) or --width X (what is wanted).")
    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    rollouts = read_labelled(
        log, mapping, lenient, token_clip, quiet, labels, label_map, plain=True
    )
    prices = {"prefill": prefill_cost, "label": label_cost, "pair": pair_cost}
    found = make_plan(rollouts, costs=_costs(rollouts, decode_cost, prices, unit), **settings)
    show(found, json_path, html_path)
    if plot_path is not None:
        found.save(picture(plot_path))
    return 0


def _costs(rollouts, decode, prices, unit):
    from taut.decisions.budget.costs import Costs, measured_costs

    if decode is None:
        if unit is not None:
            raise UsageError(
                f"--unit {unit} without --decode-cost: what is measured on a log is response "
                "tokens; give the price of a rollout too."
            )
        return measured_costs(rollouts, **prices)
    prices["prefill"] = prices["prefill"] or 0.0
    return Costs(decode=decode, unit=unit or "units", **prices)

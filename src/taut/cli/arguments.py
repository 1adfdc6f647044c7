"""Options that several commands share, with their units."""

import click

from taut.auditing.words import METHODS, ROUTES, SIDES, TARGET_CHOICES
from taut.draws.modes import PROMPT_MODES, SAMPLE
from taut.logs.origin import FORMATS


class Threshold(click.ParamType):
    """A clip threshold: a number of nats, auto or none."""

    name = "nats|auto|none"

    def convert(self, value, param, ctx):
        """Read a clip threshold: a number of nats, auto or none."""
        if value in ("auto", None) or isinstance(value, float):
            return value
        if value == "none":
            return "none"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither auto, none nor a number of nats", param, ctx)


class NumberPair(click.ParamType):
    """Two numbers joined by a comma."""

    name = "number,number"

    def __init__(self, shape: str) -> None:
        self.shape = shape

    def convert(self, value, param, ctx):
        """Read two numbers."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        try:
            first, second = map(float, parts)
        except ValueError:
            self.fail(
                f"{value!r}: expected {self.shape}, two numbers joined by a comma", param, ctx
            )
        return first, second


def _pair(name: str, help_text: str):
    return click.option(name, nargs=2, type=float, metavar="LOW HIGH", help=help_text)


def _stack(*options):
    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _remember(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    ctx.meta[FORMAT_KEY] = value


VALUES_KEY = "taut.values"  # where --map-value waits, likewise
FORMAT_KEY = "taut.format"  # where --format waits for cli.reading; commands need not pass it on

# Not an argument of the commands: who wrote a log matters only to the reader.
format_option = click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    expose_value=False,
    callback=_remember,
    help="Which framework wrote LOG; auto tells by the columns (docs/formats.md).",
)

ENGINE_KEY = "taut.engine"  # where --engine waits, likewise

engine_option = click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="local|ray|ray://HOST:PORT",
    expose_value=False,
    callback=lambda ctx, _param, value: ctx.meta.__setitem__(ENGINE_KEY, value),
    help="Who reads LOG: this machine, or a Ray cluster (docs/ray.md); the same bytes.",
)

# Likewise: what texts mean as numbers.
values_option = click.option(
    "--map-value",
    multiple=True,
    metavar="NAME:TEXT=NUMBER,…",
    expose_value=False,
    callback=lambda ctx, _param, value: ctx.meta.__setitem__(VALUES_KEY, value),
    help="What texts of the native column NAME mean, as in reward:C=1,I=0; null for no value.",
)

map_option = click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="NAME=PATH",
    help="Read the native column NAME from the dotted PATH, as in reward=scores.judge; also a "
    "sum (reward=1.0*a+0.5*b), sum(PATH) or last(PATH) of a list, an id of several columns "
    "(prompt_id=env+task), or nothing: NAME= leaves a column out.",
)

log_options = _stack(
    click.argument("log", nargs=-1, required=True, metavar="LOG..."),
    map_option,
    values_option,
    click.option(
        "--lenient",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Write rows that break the schema to FILE and go on; they are counted in all output.",
    ),
    click.option(
        "--token-clip",
        type=float,
        metavar="NATS",
        help="Also report what clamping each token's log-ratio at this constant changes.",
    ),
    format_option,
    engine_option,
    click.option("--quiet", is_flag=True, help="No progress bar."),
)

declare_option = click.option(
    "--declare",
    metavar="WORDS",
    default="",
    help="What you vouch for, joined by commas: held-out (no policy was trained or chosen on these "
    "prompts), complete (no rollout was left out by its outcome), random-labels (who is labelled "
    "is blind to outcomes).",
)
held_out_option = click.option("--held-out", is_flag=True, help="Short for --declare held-out.")

range_options = _stack(
    _pair("--reward-range", "Range of the reward, reward units, fixed before the data."),
    _pair("--gold-range", "Range of gold, in its own units, where it has a scale of its own."),
    click.option(
        "--gold-scale",
        type=NumberPair("P,Q"),
        metavar="P,Q",
        help="gold * P + Q is in reward units, P > 0: needed for J* where gold has its own range.",
    ),
    declare_option,
    held_out_option,
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw order."),
)

html_option = click.option(
    "--html",
    "html_path",
    metavar="PATH",
    help="Write the report as one page of HTML that needs no network.",
)

json_option = click.option(
    "--json",
    "json_path",
    metavar="PATH|-",
    help="Write the result as JSON; - writes it to standard output in place of the report.",
)

beta_option = click.option("--beta", type=float, help="KL strength, reward units per nat.")

declared_ratio_options = _stack(
    click.option("--log-ratio-max", type=float, metavar="NATS", help="Declared maximum of l."),
    click.option(
        "--log-ratio-second-moment",
        type=float,
        metavar="NATS²",
        help="Declared bound on the mean of l².",
    ),
)

audit_options = _stack(
    beta_option,
    click.option(
        "--target",
        type=click.Choice(TARGET_CHOICES),
        default="auto",
        show_default=True,
        help="J* = E[r* - beta l], E[r* - beta l^tau], or E r*; auto is the strongest that the log "
        "can certify. The report shows all three.",
    ),
    click.option(
        "--tau",
        type=Threshold(),
        default="auto",
        show_default=True,
        help="Clip threshold of the sequence log-ratio, nats.",
    ),
    click.option(
        "--tau-negative",
        type=float,
        metavar="NATS",
        help="Threshold for negative log-ratios, where it differs from --tau.",
    ),
    click.option(
        "--delta",
        type=float,
        default=0.05,
        show_default=True,
        help="Error probability of each target's interval.",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="betting",
        show_default=True,
        help="Sampling bound.",
    ),
    click.option(
        "--side",
        type=click.Choice(SIDES),
        default="both",
        show_default=True,
        help="Spend all of delta on one end, where only that end is needed.",
    ),
    click.option(
        "--reward-data",
        multiple=True,
        metavar="LOG",
        help="Rows on which the reward model is trusted, with `policy_logprob` of the audited "
        "policy, `behaviour_logprob` of the one that sampled them, and gold where it is known.",
    ),
    click.option(
        "--reward-map",
        multiple=True,
        metavar="NAME=PATH",
        help="--map for the reward data; without any, --map holds for both.",
    ),
    click.option(
        "--behaviour",
        multiple=True,
        metavar="PATH=SHARE",
        help="Reward data made by several policies: the column of each one's log-prob on all rows, "
        "and its share of the rows; shares sum to 1.",
    ),
    click.option(
        "--margin",
        type=float,
        help="Also calibrate the reward on the reward data and audit that on the gold labels here: "
        "PASS if its mean error is surely within this many reward units, declared beforehand.",
    ),
    click.option(
        "--route",
        type=click.Choice(ROUTES),
        default="auto",
        show_default=True,
        help="How to bound the reward shift; auto takes the one forecast to be narrowest.",
    ),
    click.option("--coverage", type=float, help="Declared C = sqrt(1 + chi-square), 1 or more."),
    click.option("--reward-mse", type=float, help="Declared L = E[(r - r*)^2], squared units."),
    declared_ratio_options,
    click.option(
        "--prompts",
        type=click.Choice(PROMPT_MODES),
        default=SAMPLE,
        show_default=True,
        help="Each distinct prompt counts once (sample); these prompts alone are meant (list); or "
        "`group` marks draws of prompts with replacement.",
    ),
    click.option(
        "--missing",
        type=click.Choice(["worst"]),
        help="Count rollouts that were launched (--launched) and are not there at the worst value.",
    ),
    click.option(
        "--launched",
        nargs=2,
        type=int,
        metavar="PROMPTS K",
        help="How many prompts were launched, and how many rollouts of each.",
    ),
    click.option(
        "--log-prob-noise",
        type=float,
        metavar="NATS",
        help="Declared bound on the error of a log-ratio or log-weight, nats a sequence.",
    ),
    click.option(
        "--gold-kind",
        type=click.Choice(["binary"]),
        help="Every label is one of the two ends of gold's range: exact binomial intervals where "
        "they are narrower.",
    ),
    click.option(
        "--calibration",
        type=float,
        default=0.2,
        show_default=True,
        help="Share of the prompts that choose tau and fixed weights, where there is a choice.",
    ),
)

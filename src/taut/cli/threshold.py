"""`taut tau`: where to clip the log-ratio."""

import click

from taut.cli.arguments import (
    beta_option,
    declared_ratio_options,
    html_option,
    json_option,
    log_options,
    range_options,
)
from taut.cli.reading import read_log
from taut.cli.root import cli
from taut.cli.show import picture, show


@cli.command("tau", epilog="Example: taut tau rollouts/*.parquet --beta 0.05 --reward-range -4 4")
@log_options
@beta_option
@click.option(
    "--prompts",
    type=int,
    metavar="N",
    help="Choose for another log, of N prompts; all prompts of LOG then choose.",
)
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="Error probability of the certificate to come.",
)
@declared_ratio_options
@click.option(
    "--tau-negative", type=float, metavar="NATS", help="Fix the threshold of negative log-ratios."
)
@click.option(
    "--calibration",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the prompts that choose.",
)
@click.option(
    "--sums-only",
    is_flag=True,
    help="Do not read token lists where the log has sums: no token level, less to read.",
)
@range_options
@json_option
@html_option
@click.option(
    "--plot", "plot_path", metavar="PATH", help="Draw the curve as SVG or PNG (extra report)."
)
def tau(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    prompts,
    sums_only,
    json_path,
    html_path,
    plot_path,
    **settings,
):
    """Choose where to clip the log-ratio of a LOG's rollouts, and show what constants would do.

    The threshold is the one that taut audit --tau auto takes on this log: chosen on calibration
    prompts alone, by the forecast width of the certificate. Beside it stand the paper's quantile
    rule, the curve, and the constants that trainers clamp at.
    """
    from taut.decisions.threshold.choose import CONSTANTS, clip_threshold

    constants = tuple(sorted({*CONSTANTS, *([token_clip] if token_clip else [])}))
    clips = token_clip if sums_only else constants
    rollouts = read_log(log, mapping, lenient, clips, quiet)
    if token_clip is not None and not sums_only and rollouts.token_clipped_sums is None:
        # No token lists: a converted log may hold the sums clipped at this one constant.
        rollouts = read_log(log, mapping, lenient, token_clip, quiet)
    found = clip_threshold(rollouts, prompts=prompts, constants=constants, **settings)
    if plot_path is not None:
        found.save(picture(plot_path))
    show(found, json_path, html_path)
    return 0

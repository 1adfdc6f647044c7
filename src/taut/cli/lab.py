"""`taut lab`: experiments whose truth is known (extra `train`)."""

import click

from taut.cli.arguments import html_option, json_option
from taut.cli.root import cli
from taut.cli.show import picture, show


@cli.group()
def lab():
    """Experiments whose truth is known."""


@lab.command(
    epilog="Example: taut lab overoptimise -o lab/ --plot lab.png. A second call with the same "
    "settings goes on where the first one was stopped."
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default="lab",
    show_default=True,
    help="Folder of the experiment.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything.")
@click.option(
    "--size",
    type=click.Choice(["tiny", "small", "gpu"]),
    default="small",
    show_default=True,
    help="tiny is a test of the plumbing; small takes minutes on a CPU.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Steps of policy optimisation; as many checkpoints as usual.",
)
@click.option("--pairs", type=click.IntRange(20), metavar="M", help="Comparisons.")
@click.option("--gold", type=click.IntRange(2), metavar="N", help="Audited prompts with gold.")
@click.option("--beta", type=float, help="KL strength, reward units per nat.")
@click.option("--tau", type=float, metavar="NATS", help="Clip threshold of the log-ratio.")
@click.option(
    "--truth",
    "truth_prompts",
    type=click.IntRange(8),
    metavar="N",
    help="Fresh prompts behind the truth of each checkpoint.",
)
@click.option("--plot", metavar="PATH", help="Draw the outcome: SVG or PNG.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
@html_option
def overoptimise(output, seed, size, plot, quiet, json_path, html_path, **changes):
    """Train a policy against a learned reward until the truth turns, and audit every checkpoint.

    A small transformer from scratch, comparisons labelled by a known true reward, a reward model
    fitted to M of them, RLOO with the clipped KL. Then the audit of all checkpoints, the choice of
    one, and the truth beside both.
    """
    import taut

    found = taut.overoptimise(output, size=size, seed=seed, quiet=quiet, **changes)
    show(found.outcome, json_path, html_path)
    if plot is not None:
        found.outcome.save(picture(plot))
    return 0

"""`taut simulate` and `taut demo`: logs whose truth is known."""

from pathlib import Path

import click

import taut
from taut.cli.arguments import html_option, json_option
from taut.cli.root import cli
from taut.cli.show import show


@cli.command(
    epilog="Example: taut simulate over_optimised -o log.parquet --prompts 1000 --gold 300"
)
@click.argument("world", metavar="WORLD")
@click.option("-o", "--output", required=True, metavar="FILE", help="Parquet or JSONL to write.")
@click.option("--prompts", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--rollouts-per-prompt", type=click.IntRange(1), help="K; the world's own if absent.")
@click.option(
    "--gold", type=click.IntRange(0), default=0, show_default=True, help="Prompts to label."
)
@click.option("--seed", type=int, default=0, show_default=True)
def simulate(world, output, prompts, rollouts_per_prompt, gold, seed):
    """Write a log of a finite WORLD and, beside it, its exact truth.

    The truth (J*, E r*, every term) goes to OUTPUT.truth.json.
    """
    from taut.worlds import simulate as simulate_log

    simulate_log(
        world,
        output,
        prompts=prompts,
        rollouts_per_prompt=rollouts_per_prompt,
        gold=gold,
        seed=seed,
    )
    click.echo(f"{output} and {output}.truth.json", err=True)


@cli.command()
@json_option
@html_option
def demo(json_path, html_path):
    """Audit the bundled example: a run that over-optimised a learned reward, its truth known.

    The log is that of `taut lab overoptimise`, which trains such a run in minutes.
    """
    from taut.lab.verdict import demonstrate

    found = demonstrate(Path(taut.__file__).parent / "examples")
    show(found, json_path, html_path)

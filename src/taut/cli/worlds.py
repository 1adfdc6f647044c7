"""`taut simulate` and `taut demo`: logs whose truth is known."""

import json
from pathlib import Path

import click

import taut
from taut.arguments import html_option, json_option
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
    """Audit the bundled example: an over-optimised policy whose truth is known."""
    from taut.certificate import audit as audit_one
    from taut.document import certificate_document
    from taut.engines.local import read_rollouts

    folder = Path(taut.__file__).parent / "examples"
    truth = json.loads((folder / "over_optimised.parquet.truth.json").read_text())
    rollouts = read_rollouts(folder / "over_optimised.parquet")
    declared = {name: truth["settings"][name] for name in ("beta", "reward_range", "log_ratio_max")}
    certificate = audit_one(rollouts, **declared)
    show(certificate_document(certificate), json_path, html_path)
    if json_path != "-":
        known = truth["truth"]["objective"]
        inside = "inside" if certificate.lower <= known <= certificate.upper else "OUTSIDE"
        click.echo(
            f"  This log was drawn from a world whose true objective is known: {known:.4f}, "
            f"{inside} [{certificate.lower:.4f}, {certificate.upper:.4f}]."
        )

"""`taut train`: two-stage RLHF with a clipped KL, from a recipe to logs that can be audited."""

import os

import click

from taut.cli.reading import name_pairs
from taut.cli.root import EXIT_DATA, EXIT_USAGE, cli, complain
from taut.errors import TautError, UsageError


@cli.command(
    epilog="Example: taut train recipe.toml --set policy.steps=50. Several processes: "
    "torchrun --nproc-per-node 2 -m taut train recipe.toml"
)
@click.argument("recipe", required=False, metavar="RECIPE")
@click.option("--output", metavar="DIR", help="Folder of the run, in place of output.folder.")
@click.option(
    "--resume", is_flag=True, help="Insist on an earlier run to go on with (else it may be new)."
)
@click.option("--fresh", is_flag=True, help="Remove an earlier run in the folder; start again.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the recipe, as in policy.steps=50.",
)
@click.option("--example", is_flag=True, help="Print a recipe with every setting, and stop.")
@click.option("--quiet", is_flag=True, help="No progress.")
def train(recipe, output, resume, fresh, changes, example, quiet):
    """Run a RECIPE: SFT, reward model, policy with clipped KL, and the logs to audit.

    A run that was stopped goes on where it was, if its recipe and data are the same.
    """
    if example:
        from taut.training.pipeline.example import example_recipe

        click.echo(example_recipe(), nl=False)
        return 0
    if recipe is None:
        raise UsageError("expected a RECIPE (or --example, which prints one), found none.")
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude each other.")
    rank = int(os.environ.get("RANK", "0"))  # of the processes that torchrun has started
    try:
        import taut

        done = taut.train(
            recipe,
            changes=name_pairs(changes),
            output=output,
            fresh=fresh,
            resume=resume,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        if rank == 0:
            click.echo("\ntaut: interrupted; the same command goes on from here.", err=True)
        raise
    except TautError as error:
        if rank == 0:
            raise
        status = EXIT_USAGE if isinstance(error, UsageError) else EXIT_DATA
        return complain(f"process {rank}: {error}", status)
    if rank == 0:
        click.echo(_page(done))
    return 0


def _page(done) -> str:
    """Return what a user reads at the end: means by step, where things are, what to run next."""
    head = f"{'step':>8}{'reward':>10}{'gold':>10}{'KL, nats':>10}{'clipped':>9}{'tokens':>8}"
    rows = [
        f"{row.step:>8}{row.reward:>10.4f}{_cell(row.gold, 10, '.4f')}"
        f"{row.kl:>10.4f}{_cell(row.clipped, 9, '.1%')}{row.tokens:>8.1f}"
        for row in done.table
    ]
    places = [
        f"{done.folder / name}  {what}"
        for name, what in (
            ("eval", "held-out rollouts: audit these"),
            ("log", "training rollouts"),
            ("models", "weights: reward, policy, and step-* as recorded"),
            ("rm_curve.jsonl", "learning curve of the reward model"),
            ("manifest.json", "what the run is made from, and what its stages found"),
        )
        if (done.folder / name).exists()
    ]
    return "\n".join(
        ["Means over held-out rollouts (measured, not certified):", head, *rows, ""]
        + [f"Note: {note}\n" for note in done.notes]
        + [*places, ""]
        + ["Next:", *(f"  {command}" for command in done.commands)]
    )


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"

"""`taut check` and `taut convert`: a log by itself."""

import os

import click

from taut.cli.arguments import html_option, json_option, log_options, range_options
from taut.cli.reading import (
    chosen_format,
    chosen_values,
    name_pairs,
    progress_line,
    read_log,
    refuse_outputs,
    say_origin,
)
from taut.cli.root import EXIT_DATA, cli
from taut.cli.show import show
from taut.errors import UsageError


@cli.command(epilog="Example: taut check rollouts/ --reward-range 0 1")
@log_options
@range_options
@json_option
@html_option
@click.option(
    "--write-config",
    is_flag=True,
    help="Propose a taut.toml beside LOG: what it knows about itself, to be filled in.",
)
def check(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    json_path,
    html_path,
    reward_range,
    write_config,
    **settings,
):
    """Check the health of a LOG: what would make a certificate wrong. Exit 1 if a check fails."""
    from taut.auditing.check import check as check_log

    rollouts = read_log(log, mapping, lenient, token_clip, quiet)
    if write_config:
        _propose(rollouts, log[0], name_pairs(mapping))
    found = check_log(rollouts, reward_range=reward_range, **settings)
    show(found, json_path, html_path)
    return EXIT_DATA if any(item.status == "fail" for item in found) else 0


def _propose(rollouts, log: str, mapping: dict[str, str]) -> None:
    """Write a taut.toml beside a log.

    Raises:
        UsageError: There is one.
    """
    from taut.logs.facts import BESIDE, proposed_toml
    from taut.logs.write import whole_file

    folder = log if os.path.isdir(log) else os.path.dirname(log)
    path = os.path.join(folder, BESIDE)
    if os.path.exists(path):
        raise UsageError(f"{path} is there already; edit it, or move it away.")
    format = "native" if rollouts.origin is None else rollouts.origin.format
    with whole_file(path) as file:
        file.write(proposed_toml(rollouts.facts, format, mapping).encode())
    click.echo(f"proposed {path}: fill in what you know", err=True)


@cli.command(epilog="Example: taut convert run/*.jsonl.gz -o run.parquet --map reward=score")
@log_options
@click.option("-o", "--output", required=True, metavar="FILE", help="Native Parquet to write.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Also keep a column of the log, by dotted path, to slice by.",
)
def convert(log, mapping, lenient, token_clip, quiet, output, keep):
    """Reduce any LOG to native Parquet: token lists become sequence sums, once."""
    from taut.engines.local import convert as convert_log
    from taut.logs.readers.parquet import origin_of

    refuse_outputs(log)
    with progress_line(quiet) as progress:
        rows = convert_log(
            log,
            output,
            mapping=name_pairs(mapping),
            values=chosen_values(),
            keep=keep,
            lenient=lenient,
            token_clip=token_clip,
            format=chosen_format(),
            progress=progress,
        )
    origin, whole = origin_of(output)
    say_origin(origin, quiet, whole=whole)
    click.echo(f"{rows} rollouts -> {output}", err=True)

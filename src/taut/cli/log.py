"""`taut check` and `taut convert`: a log by itself."""

from pathlib import Path

import click

from taut.cli.arguments import html_option, json_option, log_options, range_options
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.reading import (
    chosen_engine,
    chosen_format,
    chosen_values,
    name_pairs,
    progress_line,
    refuse_outputs,
    say_origin,
)
from taut.cli.root import EXIT_DATA, cli
from taut.cli.show import show
from taut.errors import UsageError


@cli.command(epilog="Example: taut check rollouts/ --reward-range 0 1")
@log_options
@range_options
@click.option(
    "--write-config",
    is_flag=True,
    help="Propose a taut.toml beside LOG that says --map and what you vouch for once and for all.",
)
@labels_options
@json_option
@html_option
def check(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    labels,
    label_map,
    json_path,
    html_path,
    write_config,
    **settings,
):
    """Check the health of a LOG: what would make a certificate wrong. Exit 1 if a check fails."""
    from taut.auditing.check import check as check_log

    rollouts = read_labelled(log, mapping, lenient, token_clip, quiet, labels, label_map)
    found = check_log(rollouts, **settings)
    if write_config:
        _write_config(log, rollouts, mapping, settings)
    show(found, json_path, html_path)
    return EXIT_DATA if any(item.status == "fail" for item in found) else 0


def _write_config(log, rollouts, mapping, settings) -> None:
    """Write a proposal beside the log; what somebody wrote there before stays."""
    from taut.draws.declared import declared_words
    from taut.logs.facts import BESIDE
    from taut.logs.propose import proposed
    from taut.logs.write import whole_file

    first = Path(str(log[0]))
    path = (first if first.is_dir() else first.parent) / BESIDE
    if len(log) > 1 or not (first.is_dir() or first.is_file()):
        raise UsageError("--write-config needs one folder or file as LOG, to write beside it.")
    if path.exists():
        raise UsageError(f"{path} is there already; edit it, or move it away first.")
    words = declared_words(settings["declare"], held_out=settings["held_out"])
    text = proposed(
        format="native" if rollouts.origin is None else rollouts.origin.format,
        mapping=name_pairs(mapping),
        values=chosen_values(),
        known=rollouts.facts,
        ranges={name: settings[name] for name in ("reward_range", "gold_range")},
        words=words,
        seen={"reward_range": rollouts.reward, "gold_range": rollouts.gold},
    )
    with whole_file(str(path)) as file:
        file.write(text.encode())
    click.echo(f"proposed {path}: fill in what you know; comments do not count", err=True)


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
            engine=chosen_engine(),
            progress=progress,
        )
    origin, whole = origin_of(output)
    say_origin(origin, quiet, whole=whole)
    click.echo(f"{rows} rollouts -> {output}", err=True)

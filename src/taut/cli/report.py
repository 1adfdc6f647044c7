"""`taut report`: a result that was kept, shown again, as a page or as JSON."""

from pathlib import Path

import click

from taut.cli.arguments import format_option, json_option, map_option, values_option
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.reading import chosen_format, chosen_values, name_pairs
from taut.cli.root import cli
from taut.cli.show import forecasts, how_made, write_text
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut audit run.parquet --beta 0.05 --reward-range 0 1 --json result.json; "
    "taut report result.json --log run.parquet -o page.html"
)
@click.argument("result", metavar="RESULT", type=click.Path())
@click.option("-o", "--output", metavar="PAGE", help="Write a page of HTML that needs no network.")
@json_option
@click.option(
    "--log",
    multiple=True,
    metavar="LOG",
    help="Put the rollouts of this log on the page, to search, sort and read: all of them, or a "
    "sample of whole prompts where they are many.",
)
@map_option
@values_option
@format_option
@click.option(
    "--by-file",
    "by_table",
    metavar="FILE",
    help="Table of prompts that RESULT was sliced by, as in taut audit.",
)
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="Also filter rollouts by a column of the log."
)
@labels_options
@click.option("--quiet", is_flag=True, help="No progress bar.")
def report(result, output, json_path, log, mapping, keep, by_table, labels, label_map, quiet):
    """Show a RESULT again: a JSON file that --json wrote, or a page that --html wrote.

    Without -o and --json the report is printed.
    """
    from taut.report.door import report_page, terminal_report
    from taut.report.page import is_page, made_in
    from taut.report.terminal.layout import print_report
    from taut.schemas import load

    _refuse(result, output, json_path, log)
    found = load(result)
    if output is not None:
        content = Path(result).read_bytes()
        before = made_in(content, result) if is_page(content) and not log else None
        made = before or how_made()
        extra = (
            _of_log(found, log, mapping, keep, by_table, labels, label_map, quiet) if log else ()
        )
        write_text(output, report_page(found, made, *extra))
    if json_path == "-":
        click.echo(found.to_json(), nl=False)
    elif json_path is not None:
        write_text(json_path, found.to_json())
    elif output is None:
        print_report(terminal_report(found))


def _refuse(result, output, json_path, log) -> None:
    """Raise where options do not go together, or one would write over RESULT."""
    for path, option in ((output, "-o"), (json_path, "--json")):
        if path not in (None, "-") and Path(path).resolve() == Path(result).resolve():
            raise UsageError(f"{option} {path} would overwrite RESULT; choose another name.")
    if output is not None and Path(output).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {output}: expected a name that ends in .html.")
    if log and output is None:
        raise UsageError("--log puts rollouts on a page: say which with -o PAGE.")


def _of_log(found, log, mapping, keep, by_table, labels, label_map, quiet):
    """Read the rollouts of a log for the page, with the columns that the result slices by.

    Returns them as the page shows them, and the forecasts for other logs.
    """
    from taut.engines.prompt_table import sides
    from taut.logs.schema import NATIVE
    from taut.logs.sources import find
    from taut.report.page.rollouts import shown

    by = _sliced_by(found)
    table, here = sides(by_table, [name for name in by if name not in NATIVE])
    kept = dict.fromkeys([*keep, *here])
    read = {"keep": tuple(kept), "rollout_ids": True, "log_probs": "optional"}
    rollouts = read_labelled(log, mapping, None, None, quiet, labels, label_map, **read)
    rollouts = table.onto(rollouts)
    page = shown(
        rollouts,
        find(list(log)),
        mapping=name_pairs(mapping),
        values=chosen_values(),
        format=chosen_format(),
    )
    return page, forecasts(found, rollouts)


def _sliced_by(found) -> list[str]:
    """Return the columns of the log that a result is by: numbers k and parts are of no column."""
    names = [name for name in str(getattr(found, "by", None) or "").split(", ") if name]
    of = getattr(found, "of", None)
    return [] if of == "part" else names[:-1] if of == "draw" else names

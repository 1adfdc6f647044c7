"""`taut report`: a result that was kept, shown again, as a page or as JSON."""

from pathlib import Path

import click

from taut.cli.arguments import json_option
from taut.cli.root import cli
from taut.cli.show import how_made, write_text
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut audit run.parquet --beta 0.05 --reward-range 0 1 --json result.json; "
    "taut report result.json -o page.html"
)
@click.argument("result", metavar="RESULT", type=click.Path())
@click.option("-o", "--output", metavar="PAGE", help="Write a page of HTML that needs no network.")
@json_option
def report(result, output, json_path):
    """Show a RESULT again: a JSON file that --json wrote, or a page that --html wrote.

    Without -o and --json the report is printed.
    """
    from taut.report.door import report_page, terminal_report
    from taut.report.page import is_page, made_in
    from taut.report.terminal.layout import print_report
    from taut.schemas import load

    found = load(result)
    for path, option in ((output, "-o"), (json_path, "--json")):
        if path not in (None, "-") and Path(path).resolve() == Path(result).resolve():
            raise UsageError(f"{option} {path} would overwrite RESULT; choose another name.")
    if output is not None:
        if Path(output).suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"-o {output}: expected a name that ends in .html.")
        content = Path(result).read_bytes()
        before = made_in(content, result) if is_page(content) else None
        write_text(output, report_page(found, before or how_made()))
    if json_path == "-":
        click.echo(found.to_json(), nl=False)
    elif json_path is not None:
        write_text(json_path, found.to_json())
    elif output is None:
        print_report(terminal_report(found))

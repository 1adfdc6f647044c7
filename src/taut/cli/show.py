"""Results on the command line: a report, a page, JSON; files appear whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taut.errors import UsageError

if TYPE_CHECKING:
    from taut.results import Document


def show(result: "Document", json_path: str | None, html_path: str | None) -> None:
    """Print the report of a result, or its JSON, and write the files that were asked for."""
    from taut.report.door import terminal_report
    from taut.report.terminal.layout import print_report, report_page

    page = terminal_report(result)
    if html_path is not None:
        write_text(html_path, report_page(page, "taut"))
    if json_path == "-":
        click.echo(result.to_json(), nl=False)
        return
    if json_path is not None:
        write_text(json_path, result.to_json())
    print_report(page)


def write_text(path: str, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises:
        UsageError: The folder does not exist.
        LogError: It cannot be written there.
    """
    from taut.logs.write import whole_file

    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{path}: the folder does not exist; make it first.")
    with whole_file(path) as file:
        file.write(text.encode())

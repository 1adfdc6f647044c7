"""Results on the command line: a report, a page, JSON; files appear whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import click

from taut.errors import UsageError


def show(document: dict, json_path: str | None, html_path: str | None) -> None:
    """Print the report of a document, or its JSON, and write the files that were asked for."""
    from taut.report.door import terminal_report
    from taut.report.terminal import certificate

    page = terminal_report(document)
    if html_path is not None:
        write_atomically(Path(html_path), certificate.report_page(page, "taut"))
    if json_path == "-":
        click.echo(json_text(document), nl=False)
        return
    if json_path is not None:
        write_atomically(Path(json_path), json_text(document))
    certificate.print_report(page)


def json_text(document: dict) -> str:
    """Return a document as JSON: finite numbers or null, never NaN."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises:
        UsageError: The folder does not exist.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: the folder does not exist; make it first.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

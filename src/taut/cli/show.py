"""Results on the command line: a report, a page, JSON; files appear whole or not at all."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taut.errors import UsageError

if TYPE_CHECKING:
    from taut.decisions.budget.what_if import WhatIf
    from taut.draws.rollouts import Rollouts
    from taut.report.page import Made
    from taut.results import Document


def show(
    result: "Document",
    json_path: str | None,
    html_path: str | None,
    rollouts: "Rollouts | None" = None,
) -> None:
    """Print the report of a result, or its JSON, and write the files that were asked for.

    Args:
        result: What a verb returned.
        json_path, html_path: What --json and --html say.
        rollouts: The log of a certificate: the page then forecasts what other logs would give.
    """
    from taut.report.door import report_page, terminal_report
    from taut.report.terminal.layout import print_report

    if html_path is not None:
        write_text(html_path, report_page(result, how_made(), what_if=forecasts(result, rollouts)))
    if json_path == "-":
        click.echo(result.to_json(), nl=False)
        return
    if json_path is not None:
        write_text(json_path, result.to_json())
    print_report(terminal_report(result))


def forecasts(result: "Document", rollouts: "Rollouts | None") -> "WhatIf | None":
    """Return what other counts of labels and prompts would give, where that can be forecast."""
    from taut.auditing.certificate import Certificate
    from taut.decisions.budget.what_if import what_if

    if rollouts is None or not isinstance(result, Certificate):
        return None
    return what_if(rollouts, result)


def how_made() -> "Made":
    """Return the command that runs, and the files of its log with their hashes."""
    from taut.logs.sources import named_files
    from taut.report.page import made_by

    context = click.get_current_context(silent=True)
    params = {} if context is None else context.params
    paths: list[str] = []
    for name in ("log", "labels", "reward_data"):
        given = params.get(name) or ()
        for item in (given,) if isinstance(given, str) else given:
            paths += [str(path) for path in named_files(str(item))]
    return made_by(sys.argv[1:], dict.fromkeys(paths))


def picture(path: str) -> str:
    """Return the path of a picture, whose ending must say SVG or PNG.

    Raises:
        UsageError: It says neither.
    """
    if not path.lower().endswith((".svg", ".png")):
        raise UsageError(f"--plot {path}: expected a name ending in .svg or .png.")
    return path


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

"""Files of an experiment, whole or not at all, and a line for who waits."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import orjson

from taut.logs.write import whole_file


def write_json(path: Path, document: dict) -> None:
    """Write a document."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    with whole_file(str(path)) as file:
        file.write((text + "\n").encode())


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as JSON lines."""
    with whole_file(str(path)) as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def say(line: str, quiet: bool) -> None:
    """Tell who waits, unless quiet."""
    if not quiet:
        sys.stderr.write(f"{line}\n")

"""Small tables of numbers beside a log: CSV, JSONL or Parquet, read as columns."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from taut.errors import LogError

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def read_numbers(
    path: str | os.PathLike, wanted: Mapping[str, Sequence[str]], *, required: Sequence[str]
) -> dict[str, np.ndarray]:
    """Read columns of finite numbers from a small table.

    Args:
        path: A .csv (with a line of names), .jsonl or .parquet file.
        wanted: For each column its name in the result, and the names it may have in the file; case
            matters, as M and m may both be there.
        required: Names in the result that must be there.

    Returns:
        One float64 array of shape (rows,) for each column that was found.

    Raises:
        LogError: The file cannot be read, a column is missing, or a value is no finite number.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise LogError(f"{path}: expected a table ending in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise LogError(f"{path}: no such file.")
    rows = _rows(path)
    if not rows:
        raise LogError(f"{path}: expected at least one row of numbers, found none.")
    out = {}
    for name, spellings in wanted.items():
        found = next((word for word in spellings if word in rows[0]), None)
        if found is not None:
            out[name] = np.array([_number(path, at, row, found) for at, row in enumerate(rows)])
        elif name in required:
            raise LogError(
                f"{path}: expected a column named {' or '.join(map(repr, spellings))}, found "
                f"{', '.join(map(str, rows[0])) or 'none'}; rename the column."
            )
    return out


def _rows(path: Path) -> list[dict]:
    if path.suffix.lower() == ".csv":
        import csv

        with path.open(newline="", encoding="utf-8-sig") as file:
            return [dict(row) for row in csv.DictReader(file)]
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path).to_pylist()
        except pa.ArrowException as error:
            raise LogError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None
    return [_json_row(path, at, line) for at, line in _lines(path)]


def _lines(path: Path) -> list[tuple[int, bytes]]:
    return [(at, line) for at, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]


def _json_row(path: Path, at: int, line: bytes) -> dict:
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LogError(f"{path}:{at}: not JSON: {error}.") from None
    if not isinstance(row, dict):
        raise LogError(f"{path}:{at}: expected an object with named values, found {row!r}.")
    return row


def _number(path: Path, at: int, row: dict, name: str) -> float:
    value = row.get(name)
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise LogError(f"{path}: row {at + 1}: '{name}' is {value!r}; expected a finite number.")
    return number

"""Columns from a table beside the log, one row a prompt, to slice by (theory §6.3)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from taut.draws.rollouts import Rollouts
from taut.draws.slices import needed, with_columns
from taut.engines.tables import Data, as_table
from taut.errors import LogError, UsageError
from taut.logs.csv_table import read_csv
from taut.logs.keys import hash_ids

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
_KEYS = ("prompt_id", "prompt")  # the first that a table has says which prompt a row is of
_NONE = "(none)"  # as in a column of the log


@dataclass(frozen=True, slots=True)
class PromptTable:
    """What a table says of prompts.

    Attributes:
        name: The file, or the kind of table, for messages.
        by: "prompt_id" or "prompt", whichever its rows are known by.
        keys: uint64 key of each prompt, ascending, shape (prompts,).
        columns: Name to the text of each prompt, shape (prompts,).
    """

    name: str
    by: str
    keys: np.ndarray
    columns: dict[str, np.ndarray]

    def onto(self, rollouts: Rollouts) -> Rollouts:
        """Return rollouts that also keep these columns.

        Raises:
            LogError: A prompt of the log has no row, or the log has no texts to find it by.
        """
        if not self.columns:
            return rollouts
        wanted = rollouts.prompt
        if self.by == "prompt" and rollouts.text_key is not None:
            wanted = rollouts.text_key
        at = np.minimum(np.searchsorted(self.keys, wanted), max(len(self.keys) - 1, 0))
        lost = np.ones(len(wanted), dtype=bool)
        if len(self.keys):
            lost = self.keys[at] != wanted
        if lost.any():
            raise LogError(
                f"{self.name}: expected a row for every prompt of the log, found none for "
                f"{len(np.unique(wanted[lost])):,} of {len(np.unique(wanted)):,}, the first in row "
                f"{int(np.flatnonzero(lost)[0]) + 1:,} of the log; add them (their value may be "
                f"empty), and see that '{self.by}' is spelled as in the log."
            )
        return with_columns(rollouts, {name: texts[at] for name, texts in self.columns.items()})


def sides(
    data: "Data | PromptTable | None", by: Sequence[str]
) -> tuple[PromptTable, tuple[str, ...]]:
    """Return the table of prompts (an empty one if none is given), and what else is to be kept.

    What both have is taken from the table, which its user named for it; step, policy, run and what
    depends on the response are the log's own.

    Raises:
        UsageError: A table, and nothing to slice by.
        LogError: As `read_prompt_table`.
    """
    asked = needed(by)
    if data is None:
        data = PromptTable("", _KEYS[0], np.empty(0, dtype=np.uint64), {})
    if isinstance(data, PromptTable):  # read already
        return data, tuple(name for name in asked if name not in data.columns)
    if not by:
        raise UsageError("by_table has columns to slice by; say which with by= (--by).")
    if not asked:
        own = " and ".join(map(repr, by))
        raise UsageError(
            f"by_table: {own} is the log's own; name a column of the table too, or leave it out."
        )
    table = read_prompt_table(data, asked)
    return table, tuple(name for name in asked if name not in table.columns)


def read_prompt_table(data: Data, wanted: Sequence[str]) -> PromptTable:
    """Return those of the wanted columns that a table of prompts has.

    Args:
        data: A CSV, JSON lines or Parquet file, or a table as `as_rollouts` takes; with a column
            `prompt_id`, or `prompt` with texts, as in the log, and one row a prompt. Rows of other
            prompts do no harm.
        wanted: Names of columns; the log has those that are not in the table.

    Raises:
        LogError: It cannot be read, names no prompts, has none of the columns, or says two things
            of one prompt.
    """
    file = isinstance(data, str | os.PathLike)
    name = os.fspath(data) if file else type(data).__name__
    table = _read(name) if file else as_table(data, name)
    by = next((key for key in _KEYS if key in table.column_names), None)
    if by is None:
        raise LogError(
            f"{name}: expected 'prompt_id' or 'prompt', which say what prompt a row is of, found "
            f"{', '.join(map(repr, table.column_names)) or 'no columns'}."
        )
    here = [column for column in wanted if column in table.column_names]
    if not here:
        raise LogError(
            f"{name}: expected {' or '.join(map(repr, wanted)) or 'a column to slice by'}, found "
            f"{', '.join(map(repr, table.column_names))}."
        )
    for column in (by, *here):
        if table.column_names.count(column) > 1:
            raise LogError(f"{name}: expected one column '{column}', found several; rename them.")
    ids = _ids(table[by], name, by)
    texts = {column: _texts(table[column], name, column) for column in here}
    keys, first, code = np.unique(ids, return_index=True, return_inverse=True)
    for column, values in texts.items():
        other = np.flatnonzero(values != values[first][code])
        if len(other):
            row, one = int(other[0]), int(first[code[other[0]]])
            said, before = str(values[row]), str(values[one])
            raise LogError(
                f"{name}: expected one '{column}' for each prompt, found {before!r} in row "
                f"{one + 1:,} and {said!r} in row {row + 1:,} for {by} "
                f"{table[by][row].as_py()!r}; keep one of them."
            )
    return PromptTable(name, by, keys, {column: values[first] for column, values in texts.items()})


def _read(path: str) -> pa.Table:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise LogError(f"{path}: expected a table of prompts in a {', '.join(SUFFIXES)} file.")
    if not Path(path).is_file():
        raise LogError(f"{path}: no such file.")
    try:
        if suffix == ".parquet":
            return pq.read_table(path)
        return _of_csv(path) if suffix == ".csv" else pa.json.read_json(path)
    except (pa.ArrowException, UnicodeDecodeError) as problem:
        raise LogError(f"{path}: cannot be read: {str(problem).splitlines()[0]}") from None


def _of_csv(path: str) -> pa.Table:
    columns, _ = read_csv(path)
    return pa.table(
        {
            name: pa.array([cell or None for cell in cells], pa.string())
            for name, cells in columns.items()
        }
    )


def _ids(values: pa.ChunkedArray, name: str, by: str) -> np.ndarray:
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise LogError(f"{name}: expected a '{by}' in every row, found none in row {row + 1:,}.")
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    try:
        return hash_ids(values)
    except TypeError:
        raise LogError(
            f"{name}: expected texts or whole numbers in '{by}', found {values.type}."
        ) from None


def _texts(values: pa.ChunkedArray, name: str, column: str) -> np.ndarray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        texts: Any = pc.cast(values, pa.string())
    except pa.ArrowException:
        raise LogError(
            f"{name}: expected texts, numbers or true and false in '{column}', found {values.type}."
        ) from None
    return np.asarray(texts.fill_null(_NONE).to_pylist(), dtype=object).astype(str)

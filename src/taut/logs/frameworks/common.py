"""What the frameworks' files share: their own paths joined with the user's, small columns."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.layout import Columns, Layout
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import KEPT, NATIVE, PART


def join(
    paths: Mapping[str, str],
    own: Mapping[str, str],
    *,
    required: set[str],
    derived: set[str],
    derive: Callable[[Chunk], Chunk],
    origin: Origin,
    wrapped: bool = False,
) -> Layout:
    """Join the user's paths, which win, with the format's own; raw names hold no user's path."""
    mapped = {name for name, path in paths.items() if name != path}
    free = {name: path for name, path in own.items() if name not in mapped}
    return Layout(
        paths={**paths, **free},
        required=frozenset(mapped | (required - mapped)),
        derived=frozenset(derived - mapped),
        derive=derive,
        wrapped=wrapped,
        origin=origin,
    )


def expect(file: str, format: str, columns: Columns, needed: tuple[str, ...]) -> None:
    """Raise where a file lacks a column that all files of a format have.

    Raises:
        LogError: With the columns that it has.
    """
    missing = [name for name in needed if name not in columns]
    if missing:
        shown = ", ".join(f"'{name}'" for name in list(columns)[:12]) or "no columns"
        raise LogError(
            f"{file}: expected {FRAMEWORKS[format].title} with a column '{missing[0]}', found "
            f"{shown}; say --format native with --map for another layout, or name other files."
        )


def with_columns(chunk: Chunk, columns: Mapping[str, Values]) -> Chunk:
    """Return a chunk with further columns, and without its raw ones."""
    native = {
        name: values
        for name, values in chunk.columns.items()
        if name in NATIVE or name.startswith((KEPT, PART))
    }
    return replace(chunk, columns={**native, **columns})


def lacks(chunk: Chunk, name: str) -> bool:
    """Say whether no row has a value of a native column."""
    values = chunk.columns.get(name)
    return values is None or (values.missing is not None and bool(values.missing.all()))


def same(chunk: Chunk, value: int | str) -> Values:
    """Return a column that has one value in all rows."""
    rows = len(chunk.numbers)
    if isinstance(value, int):
        return Values(np.full(rows, value, dtype=np.int64))
    return Values(pa.array([value] * rows, type=pa.large_string()))

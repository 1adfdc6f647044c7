"""What the frameworks' files share: their own paths joined with the user's, small columns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.layout import Columns, Layout, messages_text
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import KEPT, NATIVE, PART
from taut.logs.text import safe


def join(
    paths: Mapping[str, str],
    own: Mapping[str, str],
    mapped: frozenset[str],
    *,
    required: set[str],
    derived: Collection[str] = (),
    derive: Callable[[Chunk], Chunk] | None = None,
    origin: Origin,
    wrapped: bool = False,
    meanings: Mapping[str, Mapping[str, float]] | None = None,
    notes: tuple[str, ...] = (),
) -> Layout:
    """Join the user's paths, which win, with the format's own; raw names hold no user's path."""
    free = {name: path for name, path in own.items() if name not in mapped}
    return Layout(
        paths={**paths, **free},
        required=frozenset((mapped & paths.keys()) | (required - mapped)),
        derived=frozenset(derived) - mapped,
        derive=derive,
        wrapped=wrapped,
        origin=origin,
        meanings=meanings or {},
        notes=notes,
    )


def one_reward(file: str, format: str, columns: Columns, names: Collection[str]) -> str:
    """Return the one column that may be the reward; ask where there are several.

    Raises:
        LogError: There is none, or more than one.
    """
    found = [name for name in names if name in columns]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"'{safe(name)}'" for name in found) or "none"
    total = "+".join(f"1.0*{name}" for name in found[:4]) or "1.0*NAME"
    raise LogError(
        f"{file}: expected one reward column in {FRAMEWORKS[format].title}, found {shown}; say "
        f"which with --map reward={found[0] if found else 'NAME'}, or give a weighted sum: "
        f"--map 'reward={safe(total)}'."
    )


def opening(messages: object) -> str | None:
    """Return what comes before the first answer, as text; None for no list of messages.

    A later answer would be wrong: where an environment speaks between answers, one prompt's
    rollouts would be taken for different prompts.
    """
    try:
        roles = [message["role"] for message in messages]
        return messages_text(list(messages)[: roles.index("assistant")])
    except (ValueError, TypeError, KeyError):
        return None


def cut_short(chunk: Chunk, name: str, words: Collection[str]) -> Values | None:
    """Return `truncated` from a column of reasons to stop; None where there is none."""
    reasons = chunk.columns.get(name)
    if reasons is None:
        return None
    cut = [text in words for text in reasons.data.to_pylist()]
    return Values(np.array(cut, dtype=np.bool_), reasons.missing)


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

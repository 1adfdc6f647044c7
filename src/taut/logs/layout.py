"""How one file lies: which of its columns stand for which native ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from taut.errors import LogError
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk

# What a column holds, as far as recognising a file needs it: from the Arrow type or the first rows.
Holds = Literal["number", "text", "bool", "list", "object", "null", "other"]
Columns = Mapping[str, Holds]


class NoRollouts(LogError):
    """A file that holds no rollouts of its own: settings, a summary, metrics, a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the columns of one file are read.

    Attributes:
        paths: Native or raw name (`taut.logs.schema.RAW`) to path in the file.
        required: Names whose path the file must have.
        derived: Native names that `derive` fills.
        derive: Turns raw columns of a chunk into native ones; None for a native file.
        wrapped: Every value of a row stands in a list of its own (NeMo-RL).
        skip: The file belongs to the log but holds no rollouts.
        origin: Who wrote it; None for a native file.
        meanings: Native name to what its texts mean as numbers, unless the user says otherwise.
        notes: What people should know of how the file is read.
    """

    paths: Mapping[str, str]
    required: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    derive: Callable[[Chunk], Chunk] | None = None
    wrapped: bool = False
    skip: bool = False
    origin: Origin | None = None
    meanings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Layouts = Callable[[str, Columns], Layout]


def native_layout(paths: Mapping[str, str], mapped: frozenset[str] = frozenset()) -> Layout:
    """Return the layout of a native file: mapped names must be there, all others may."""
    changed = frozenset(name for name, path in paths.items() if name != path)
    return Layout(paths=paths, required=(mapped | changed) & paths.keys())


def messages_text(messages: list) -> str:
    """Return a list of messages as JSON in one form: keys sorted, empty ones left out.

    Parquet gives every message the keys of all; JSON lines do not.
    """
    return json.dumps(_filled(messages), sort_keys=True, ensure_ascii=False, default=_bytes_or_text)


def _bytes_or_text(value) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def failed(value) -> bool:
    """Say whether an `error` of a rollout says that something went wrong: it is not empty."""
    return value not in (None, False, "", 0) and value != {} and value != []


def labels(values: Sequence) -> pa.Array:
    """Return values to slice by as texts; null where there is none."""
    return pa.array([_label(value) for value in values], type=pa.large_string())


def _label(value) -> str | None:
    if value is None or isinstance(value, str):
        return value and value.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return messages_text(value) if isinstance(value, dict | list) else str(value)


def _filled(value):
    if isinstance(value, dict):
        return {key: _filled(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_filled(inner) for inner in value]
    return value

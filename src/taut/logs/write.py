"""Files that appear whole or not at all: the reduced native log, and the rejected rows."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.logs.facts import LogFacts, facts_metadata, merge_facts
from taut.logs.reduce import Reduced, Rejected
from taut.logs.schema import (
    COLUMNS,
    KEPT,
    ORIGIN_KEY,
    PART,
    REJECTED_KEY,
    TOKEN_CLIP_KEY,
    Kind,
    column,
)
from taut.logs.text import safe

try:
    import fcntl
except ImportError:  # no locks on this system: parts of killed runs stay
    fcntl = None

ROW_GROUP = 8192  # rows; small enough to read in pieces, large enough to compress

_TYPES: dict[Kind, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "label": pa.string(),
    "messages": pa.string(),
    "failure": pa.bool_(),
}
# How reduced columns say "no value", written as null.
_NO_VALUE = {"gold": np.nan, "n_tokens": -1, "label_probability": np.nan}


def write_native(
    rows: Mapping[str, Sequence] | Iterable[Reduced],
    path: str | os.PathLike,
    *,
    token_clip: float | None = None,
    inputs: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    facts: LogFacts | None = None,
) -> int:
    """Write a reduced native log: Parquet, one value per rollout and column, float64 and zstd.

    The file takes its name when it is complete; on any failure nothing is left behind.

    Args:
        rows: Native columns, each of shape (rollouts,), or a stream of reduced pieces. NaN in
            `gold` and -1 in `n_tokens` are written as null.
        path: File to write; replaced if it exists.
        token_clip: What `token_clipped_log_ratio` was clipped at, nats, kept in the file.
        inputs: Files that must not be overwritten.
        mapping: How the columns of the original log were named, kept in the file.
        facts: What the log knows about itself, beside what the pieces say of their files.

    Returns:
        The number of rollouts written.

    Raises:
        LogError: The file is one of the inputs or cannot be written, or the pieces' ids differ
            in type.
    """
    pieces = [Reduced(dict(rows))] if isinstance(rows, Mapping) else rows
    path = os.fspath(path)
    refuse_overwrite(path, inputs)
    with whole_file(path) as file:
        return _write(pieces, file, path, token_clip, mapping or {}, facts)


def _write(
    pieces: Iterable[Reduced],
    file: BinaryIO,
    path: str,
    token_clip: float | None,
    mapping: Mapping[str, str],
    given: LogFacts | None,
) -> int:
    writer, held, rows, left_out, origin = None, [], 0, 0, None
    facts = [] if given is None else [given]
    try:
        for piece in pieces:
            table = _table(piece.columns, path, held[0].schema if held else None)
            if writer is None:
                extra = {TOKEN_CLIP_KEY: repr(float(token_clip))} if token_clip else None
                writer = pq.ParquetWriter(
                    file,
                    table.schema.with_metadata(extra),
                    compression="zstd",
                    write_page_checksum=True,
                )
                held = [table.schema.empty_table()]
            origin = origin or piece.origin
            rows += table.num_rows
            left_out += piece.left_out
            facts += [] if piece.facts is None else [piece.facts]
            held.append(table)
            held = _flush(writer, held, at_least=ROW_GROUP)
        if writer is None:
            raise LogError(f"{path}: expected rollouts to write, found none.")
        _flush(writer, held, at_least=1)
        if left_out:
            writer.add_key_value_metadata({REJECTED_KEY: str(left_out)})
        if origin:
            writer.add_key_value_metadata({ORIGIN_KEY: orjson.dumps(asdict(origin)).decode()})
        known = merge_facts(*facts)
        known = replace(known, mapping={**known.mapping, **mapping})
        if known:
            writer.add_key_value_metadata(facts_metadata(known))
        return rows
    finally:
        if writer is not None:
            writer.close()


def _flush(writer: pq.ParquetWriter, held: list[pa.Table], *, at_least: int) -> list[pa.Table]:
    """Write full row groups, whatever the size of the pieces; return what is left."""
    size = sum(table.num_rows for table in held)
    if size < at_least:
        return held
    table = pa.concat_tables(held)
    whole = size - size % ROW_GROUP if at_least == ROW_GROUP else size
    table = table.combine_chunks()
    writer.write_table(
        table.slice(0, whole).replace_schema_metadata(writer.schema.metadata),
        row_group_size=ROW_GROUP,
    )
    return [table.slice(whole)]


def _table(columns: Mapping[str, Sequence], path: str, schema: pa.Schema | None) -> pa.Table:
    kept = {name: name.removeprefix(KEPT) for name in columns if name.startswith(KEPT)}
    kept |= {name: f"rewards.{name[len(PART) :]}" for name in columns if name.startswith(PART)}
    own = [column.name for column in COLUMNS if column.name in columns]
    arrays = [column_array(name, columns[name]) for name in (*own, *kept)]
    names = [*own, *kept.values()]
    if schema is None:
        return pa.table(arrays, names=names)
    for name in sorted(set(names) ^ set(schema.names)):
        raise LogError(
            f"{path}: expected '{name}' in all files or in none; convert the files one by one."
        )
    for name, array in zip(names, arrays, strict=True):
        if name in schema.names and array.type != schema.field(name).type:
            raise LogError(
                f"{path}: expected '{name}' of one type in all files, found "
                f"{schema.field(name).type} and {array.type}; convert the files one by one."
            )
    return pa.table(arrays, schema=schema)


def with_optional(columns: Mapping[str, Sequence]) -> dict:
    """Add the columns that some rows of a log may have and these lack, as nulls."""
    rows = len(columns["reward"])
    lacking = [c for c in COLUMNS if c.nullable and c.name not in columns]
    return {**{c.name: pa.nulls(rows, _TYPES[c.kind]) for c in lacking}, **columns}


def column_array(name: str, values: Sequence) -> pa.Array:
    """Return one native column as a file holds it; what says "no value" as null."""
    kind = column(name).kind
    if kind == "id":
        array = values if isinstance(values, pa.Array) else pa.array(values)
        return array.cast(pa.int64() if pa.types.is_integer(array.type) else pa.string())
    if isinstance(values, pa.Array):
        return values.cast(_TYPES[kind])
    mask = None
    if name in _NO_VALUE:
        values = np.asarray(values)
        none = _NO_VALUE[name]
        mask = np.isnan(values) if np.isnan(none) else values == none
    if name.startswith(PART):
        mask = np.isnan(values)
    return pa.array(values, type=_TYPES[kind], mask=mask)


class RejectedRows:
    """A file of rejected rows, as JSON lines; it takes its name when the reader is through."""

    def __init__(self, path: str | os.PathLike | None, *, avoid: Sequence[str] = ()) -> None:
        self._file = None
        if path is not None:
            refuse_overwrite(os.fspath(path), avoid)
            self._whole = whole_file(os.fspath(path))

        self._path = path

    def __enter__(self) -> "RejectedRows":
        if self._path is not None:
            self._file = self._whole.__enter__()
        return self

    def add(self, rows: Iterable[Rejected]) -> None:
        """Append rows."""
        for row in rows:
            line = {"file": row.file, "row": row.row, "column": row.column, "problem": row.problem}
            if row.text is not None:
                line["text"] = row.text.decode(errors="replace")
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            self._whole.__exit__(*failure)


def same_file(path: str, other: str) -> bool:
    """Say whether two paths lead to one file, through links of either kind, or would."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def refuse_overwrite(path: str, inputs: Sequence[str]) -> None:
    """Raise where an output would replace one of the inputs.

    Raises:
        LogError: The output is an input.
    """
    for name in inputs:
        if same_file(path, name):
            raise LogError(
                f"{safe(path)}: expected a new file to write, found one of the inputs; "
                "choose another name."
            )


_PART = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part")


def clear_parts(path: str) -> None:
    """Take away what killed runs left half written of a file; parts that are written are locked."""
    folder, name = os.path.split(path)
    with suppress(OSError):
        for entry in os.listdir(folder or "."):
            found = _PART.fullmatch(entry)
            if found and found[1] == name:
                _remove_unlocked(os.path.join(folder, entry))


def _remove_unlocked(part: str) -> None:
    with suppress(OSError), open(part, "rb") as file:
        if _lock(file):
            os.unlink(part)


def _lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open; say whether nobody else has."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing under another name, and rename it to `path` if all goes well.

    What killed runs left of the same file is taken away.

    Raises:
        LogError: The folder does not exist or cannot be written, or `path` is a folder.
    """
    folder, name = os.path.split(path)
    # Not the process id alone: in containers it is the same after each restart, and a run that was
    # killed while it wrote would be in the way of the next for ever.
    part = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.part")
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(0, "a folder of that name")
        if os.path.exists(path) and not os.path.isfile(path):
            raise FileExistsError(0, "a device or a pipe of that name")  # a rename would replace it
        clear_parts(path)
        file = open(part, "xb")  # noqa: SIM115 - closed below, before the rename
        _lock(file)
    except OSError as problem:
        raise LogError(
            f"{safe(path)}: expected a file that can be written, found {problem.strerror}; "
            "choose another name."
        ) from None
    try:
        with file:
            yield file
        os.replace(part, path)
    except BaseException as problem:
        with suppress(OSError):
            os.unlink(part)
        if isinstance(problem, OSError):
            raise LogError(
                f"{safe(path)}: expected to write the file, found {problem.strerror or problem}; "
                "make room or choose another place."
            ) from None
        raise

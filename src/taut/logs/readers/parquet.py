"""Parquet files to chunks: only the needed columns, a few megabytes at a time.

Batches are sized by values, not by rows, and a column's bytes come through a small buffer, so that
a file with one giant row group needs no more memory than one with many (field-notes §6).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.logs.facts import stored_facts
from taut.logs.layout import Holds, Layouts, failed, labels, messages_text
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.plan import Plan, make_plan
from taut.logs.reduce import Chunk, Problems, Values
from taut.logs.schema import (
    EXPECTED,
    LISTS,
    ORIGIN_KEY,
    REJECTED_KEY,
    TOKEN_CLIP_KEY,
    Kind,
    column,
)
from taut.logs.sources import Source
from taut.logs.tokens import Tokens

_BATCH_BYTES = 8 << 20  # decoded; a batch and its sums then stay near the caches
_BATCH_ROWS = 16_384
_TASK_BYTES = 64 << 20  # decoded; enough work for a thread to be worth handing over
_BUFFER = 1 << 20
_DAMAGE = (pa.ArrowException, OSError)

Task = Callable[[], Iterator[Chunk]]


def chunks(
    source: Source,
    layouts: Layouts,
    *,
    token_clip: float | tuple[float, ...] | None,
    raw: frozenset[str] = frozenset(),
    wanted: frozenset[str] = frozenset(),
) -> Iterator[tuple[Plan, Task, float]]:
    """Cut a Parquet file into tasks, each with its share of the file's bytes.

    Args:
        source: The file.
        layouts: Tells from a file's columns how they are read.
        token_clip: Whether token lists are needed although their sums are there.
        raw: Native names of words to read as they are.
        wanted: Names to read on request (`taut.logs.plan.ON_REQUEST`).

    Yields:
        The plan of the file, a function that decodes some rows into chunks (in any thread), and
        the share of the file that it covers, in [0, 1].

    Raises:
        LogError: The file is damaged, or lacks a column, or a column has the wrong type.
    """
    if source.codec:
        with tempfile.NamedTemporaryFile(prefix="taut-", suffix=".parquet") as file:
            with source.open() as stream:
                shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
            parts = _chunks(file.name, source.name, layouts, token_clip, raw, wanted)
            for plan, task, share in parts:
                done = list(task())  # decoded here: the file is gone when the generator ends
                yield plan, lambda done=done: iter(done), share
    else:
        yield from _chunks(source.name, source.name, layouts, token_clip, raw, wanted)


def _chunks(
    path: str,
    name: str,
    layouts: Layouts,
    token_clip: float | tuple[float, ...] | None,
    raw: frozenset[str],
    wanted: frozenset[str],
) -> Iterator[tuple[Plan, Task, float]]:
    file = _open(path, name)
    metadata, schema = file.metadata, file.schema_arrow
    twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
    if twice:
        raise LogError(
            f"{name}: expected each column once, found '{twice[0]}' {schema.names.count(twice[0])} "
            "times; rename or drop the copies."
        )
    columns = _leaves(schema)
    layout = layouts(name, columns)
    fields = {native: _field(schema, path) for native, path in layout.paths.items()}
    present = [native for native, found in fields.items() if found is not None]
    plan = make_plan(
        name,
        layout,
        present,
        columns,
        token_clip=token_clip,
        stored_clip=_stored(metadata, TOKEN_CLIP_KEY),
        raw=raw,
        wanted=wanted,
    )
    plan = replace(
        plan,
        facts=stored_facts(metadata.metadata, name),
        rejected_rows=int(_stored(metadata, REJECTED_KEY) or 0),
        origin=plan.origin or stored_origin(metadata),
    )
    for native in plan.read.keys() - plan.raw:
        _check_type(name, native, plan.read[native], fields[native])
    rows = max(metadata.num_rows, 1)
    start = 0
    for groups, count, size in _cut(metadata, set(plan.read.values())):

        def task(groups=groups, start=start, size=size, alone=False) -> Iterator[Chunk]:
            reader = file if alone else _open(path, name, metadata)
            return _decode(reader, name, plan, groups, start, size, use_threads=alone)

        if count > 4 * _BATCH_ROWS or metadata.num_row_groups == 1:
            # Too large for one thread: decode column by column here, reduce over there.
            for chunk in task(alone=True):
                yield plan, lambda chunk=chunk: iter([chunk]), len(chunk.numbers) / rows
        else:
            yield plan, task, count / rows
        start += count


def _open(path: str, name: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=_BUFFER)
    except _DAMAGE as problem:
        raise _damaged(name, problem) from None


def _stored(metadata: pq.FileMetaData, key: bytes) -> float | None:
    """Return a number that `convert` wrote into the file's metadata."""
    value = (metadata.metadata or {}).get(key)
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def stored_origin(metadata: pq.FileMetaData) -> Origin | None:
    """Return which framework wrote the log that `convert` made a file of."""
    value = (metadata.metadata or {}).get(ORIGIN_KEY)
    try:
        origin = None if value is None else Origin(**orjson.loads(value))
    except (orjson.JSONDecodeError, TypeError):
        return None
    return origin if origin and origin.format in FRAMEWORKS else None


def origin_of(path: str) -> tuple[Origin | None, bool]:
    """Return which framework wrote the log that a native file was made of; has it log-ratios?"""
    metadata = pq.read_metadata(path)
    return stored_origin(metadata), "log_ratio" in metadata.schema.names


def _damaged(name: str, problem: Exception) -> LogError:
    return LogError(
        f"{name}: expected a whole Parquet file, found it damaged or cut off "
        f"({' '.join(str(problem).split())[:160]}); write or copy the file again."
    )


def _field(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Return the type at a path: a top-level column of that very name, else nested structs."""
    if path in schema.names:
        return schema.field(path).type
    first, *rest = path.split(".")
    if not rest or first not in schema.names:
        return None
    found = schema.field(first).type
    for part in rest:
        if not pa.types.is_struct(found) or found.get_field_index(part) < 0:
            return None
        found = found.field(part).type
    return found


def _leaves(schema: pa.Schema) -> dict[str, Holds]:
    """Return what all columns hold, with the fields of structs as dotted paths."""
    columns = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            columns |= {f"{field.name}.{inner.name}": _holds(inner.type) for inner in field.type}
        else:
            columns[field.name] = _holds(field.type)
    return columns


def _holds(kind: pa.DataType) -> Holds:
    tests: dict[Holds, bool] = {
        "number": _is_number(kind),
        "text": _is_text(kind),
        "bool": pa.types.is_boolean(kind),
        "list": _is_list(kind),
        "object": pa.types.is_struct(kind),
        "null": pa.types.is_null(kind),
    }
    return next((name for name, true in tests.items() if true), "other")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_numbers(kind: pa.DataType) -> bool:
    return _is_list(kind) and (_is_number(kind.value_type) or pa.types.is_null(kind.value_type))


_ACCEPTS: dict[Kind, Callable[[pa.DataType], bool]] = {
    "id": lambda kind: _is_text(kind) or pa.types.is_integer(kind),
    "text": lambda kind: _is_text(kind) or pa.types.is_integer(kind),
    "float": _is_number,
    "int": _is_number,
    "bool": pa.types.is_boolean,
    "tokens": lambda kind: _is_numbers(kind),
    "features": lambda kind: _is_numbers(kind),
    "messages": lambda kind: True,
    "failure": lambda kind: True,
    "label": lambda kind: True,
}
_REMEDY: dict[Kind, str] = {
    "id": "cast it to string or int64",
    "text": "cast it to string",
    "float": "cast it to float64",
    "int": "cast it to int64",
    "bool": "cast it to bool",
    "tokens": "cast it to list<float32>",
    "features": "cast it to list<float32>",
    "messages": "cast it to string",
    "failure": "cast it to string",
    "label": "cast it to string",
}


def _check_type(file: str, native: str, path: str, found: pa.DataType) -> None:
    kind = column(native).kind
    if not (_ACCEPTS[kind](found) or pa.types.is_null(found)):
        named = f"'{path}'" if path == native else f"'{path}' (mapped to '{native}')"
        raise LogError(
            f"{file}: {named} holds {found}; expected {EXPECTED[kind]}: {_REMEDY[kind]}."
        )


def _cut(metadata: pq.FileMetaData, read: set[str]) -> Iterator[tuple[list[int], int, int]]:
    """Yield runs of row groups worth a task: their indices, rows, and bytes per decoded row."""
    groups: list[int] = []
    rows = size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        here = _decoded_bytes(group, read)
        if groups and size + here > _TASK_BYTES:
            yield groups, rows, size // max(rows, 1)
            groups, rows, size = [], 0, 0
        groups.append(index)
        rows, size = rows + group.num_rows, size + here
    if groups:
        yield groups, rows, size // max(rows, 1)


def _decoded_bytes(group: pq.RowGroupMetaData, read: set[str]) -> int:
    """Guess the decoded size of the read columns; dictionaries make the stored size too small."""
    total = 0
    for index in range(group.num_columns):
        column = group.column(index)
        path = column.path_in_schema
        if path in read or any(path.startswith(f"{name}.") for name in read):
            total += max(8 * column.num_values, column.total_uncompressed_size)
    return total


def _decode(
    reader: pq.ParquetFile,
    name: str,
    plan: Plan,
    groups: list[int],
    start: int,
    row_bytes: int,
    *,
    use_threads: bool,
) -> Iterator[Chunk]:
    columns = list(dict.fromkeys(plan.read.values()))
    long = bool(plan.raw or {"prompt", "messages"} & plan.read.keys())
    limit = 1024 if long else _BATCH_ROWS
    batch_rows = min(max(_BATCH_BYTES // max(row_bytes, 1), 16), limit)
    batches = reader.iter_batches(
        batch_rows,
        row_groups=groups,
        columns=columns,
        use_threads=use_threads,
    )
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            yield _chunk(name, plan, batch, start)
        except _DAMAGE as problem:
            raise _damaged(name, problem) from None
        start += batch.num_rows


def _chunk(name: str, plan: Plan, batch: pa.RecordBatch, start: int) -> Chunk:
    problems = Problems()
    columns = {
        native: _raw(_at(batch, path))
        if native in plan.raw
        else _values(native, _at(batch, path), problems)
        for native, path in plan.read.items()
    }
    numbers = np.arange(start + 1, start + batch.num_rows + 1)
    return Chunk(file=name, numbers=numbers, columns=columns, problems=problems)


def _at(batch: pa.RecordBatch, path: str) -> pa.Array:
    if path in batch.schema.names:
        return batch.column(path)
    first, *rest = path.split(".")
    return pc.struct_field(batch.column(first), rest)


def _raw(array: pa.Array) -> Values:
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return Values(array.to_pylist(), missing)


def _values(native: str, array: pa.Array, problems: Problems) -> Values:
    """Return one column as plain arrays; its type has been checked."""
    kind = column(native).kind
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if kind in LISTS:
        return Values(_tokens(array), missing)
    if kind == "messages" and not _is_text(array.type):
        texts = [value if value is None else messages_text(value) for value in array.to_pylist()]
        return Values(pa.array(texts, type=pa.large_string()), missing)
    if kind in ("id", "text", "messages"):
        fits = pa.types.is_integer(array.type) and array.type != pa.uint64()
        whole = fits and kind == "id"  # else text, which hashes to the same key
        return Values(array.cast(pa.int64() if whole else pa.large_string()), missing)
    if kind == "failure":
        return Values(np.array([failed(value) for value in array.to_pylist()], np.bool_), missing)
    if kind == "label":
        return Values(labels(array.to_pylist()), missing)
    if kind == "float":
        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Values(np.asarray(values, dtype=np.float64), missing)
    if kind == "bool":
        return Values(
            array.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False), missing
        )
    return Values(_integers(native, array, problems), missing)


def _integers(native: str, array: pa.Array, problems: Problems) -> np.ndarray:
    if pa.types.is_floating(array.type):
        values = array.fill_null(-1.0).to_numpy(zero_copy_only=False).astype(np.float64)
        bad = ~((values == np.floor(values)) & (np.abs(values) < 2.0**53))
        for row in np.flatnonzero(bad):
            problems.add(row, native, f"is {values[row]}; expected an integer")
        return np.where(bad, -1, values).astype(np.int64)
    array = array.cast(pa.int64(), safe=False) if array.type != pa.int64() else array
    return array.fill_null(-1).to_numpy(zero_copy_only=False)


def _tokens(array: pa.Array) -> Tokens:
    if pa.types.is_null(array.type):
        empty = np.zeros(len(array), dtype=np.int64)
        return Tokens(np.empty(0), empty, empty)
    values = array.values
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
        offsets = np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * width
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
    starts, ends = offsets[:-1], offsets[1:]
    if array.null_count:
        ends = np.where(array.is_null().to_numpy(zero_copy_only=False), starts, ends)
    null = None
    if values.null_count:
        null = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        values = values.cast(pa.float64()) if not pa.types.is_floating(values.type) else values
    return Tokens(values.to_numpy(zero_copy_only=False), starts, ends, null)

"""Parquet files to chunks: only the needed columns, a few megabytes at a time.

Batches are sized by values, not by rows, and a column's bytes come through a small buffer, so that
a file with one giant row group needs no more memory than one with many (field-notes §6). Rows read
are the rows that the footer promises, and checksums of pages are verified where there are any.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.logs.origin import Origin
from taut.logs.plan import Plan, Planner, may_lack
from taut.logs.readers.arrow import (
    DAMAGE,
    Field,
    batch_chunk,
    check_names,
    check_type,
    damaged,
    field_at,
    is_null,
    is_text,
    leaves,
    stored_origin,
    stored_plan,
)
from taut.logs.readers.footer import Sizes, column_sizes
from taut.logs.reduce import Chunk
from taut.logs.sources import Source, copy_bounded, temporary_file
from taut.logs.text import safe

_BATCH_BYTES = 8 << 20  # decoded; a batch and its sums then stay near the caches
_BATCH_ROWS = 16_384
_TASK_BYTES = 64 << 20  # decoded; enough work for a thread to be worth handing over
_BUFFER = 1 << 20
_CHUNKS = 4_000  # column chunks whose sizes are looked up in the footer: about a second
_LONG = ("prompt", "response", "messages")

Task = Callable[[], Iterator[Chunk]]


def chunks(source: Source, planner: Planner) -> Iterator[tuple[Plan, Task, float]]:
    """Cut a Parquet file into tasks, each with its share of the file's bytes.

    Args:
        source: The file.
        planner: Tells how its columns are read.

    Yields:
        The plan of the file, a function that decodes some rows into chunks (in any thread), and
        the share of the file that it covers, in [0, 1].

    Raises:
        LogError: The file is damaged, or lacks a column, or a column has the wrong type.
    """
    name = safe(source.name)
    if source.codec:
        with temporary_file(".parquet") as file:
            with source.open() as stream:
                copy_bounded(stream, file, source.name)
            for plan, task, share in _chunks(file.name, name, planner):
                done = list(task())  # decoded here: the file is gone when the generator ends
                yield plan, lambda done=done: iter(done), share
    else:
        yield from _chunks(source.path, name, planner)


@dataclass(frozen=True, slots=True)
class _File:
    """One file and how it is read."""

    path: str
    name: str
    metadata: pq.FileMetaData
    plan: Plan
    fields: dict[str, Field]


def _chunks(path: str, name: str, planner: Planner) -> Iterator[tuple[Plan, Task, float]]:
    reader = _open(path, name)
    try:
        file = _planned(reader, path, name, planner)
    except UnicodeDecodeError as problem:
        raise damaged(name, problem) from None
    if file.plan.layout.skip:
        return
    rows = max(file.metadata.num_rows, 1)
    start = 0
    for groups, count, size in _cut(file):

        def task(groups=groups, start=start, size=size, count=count, alone=False):
            here = reader if alone else _open(path, name, file.metadata)
            return _decode(here, file, groups, start, count, size, use_threads=alone)

        if count > 4 * _BATCH_ROWS or file.metadata.num_row_groups == 1:
            # Too large for one thread: decode column by column here, reduce over there.
            for chunk in task(alone=True):
                share = len(chunk.numbers) / rows
                yield file.plan, lambda chunk=chunk: iter([chunk]), share
        else:
            yield file.plan, task, count / rows
        start += count
    if start != file.metadata.num_rows:
        raise LogError(
            f"{name}: expected {file.metadata.num_rows} rows, found {start} in its row groups; "
            "write or copy the file again."
        )


def _planned(reader: pq.ParquetFile, path: str, name: str, planner: Planner) -> _File:
    metadata, schema = reader.metadata, reader.schema_arrow
    check_names(name, schema)
    columns, names = leaves(schema), frozenset(schema.names)
    layout = planner.layouts(name, columns)
    fields = {native: field_at(schema, names, at) for native, at in layout.paths.items()}
    fields = {native: found for native, found in fields.items() if found is not None}
    empty = _empty(path, name, metadata)
    present = [
        native
        for native, field in fields.items()
        if not (may_lack(native, layout) and (field.column in empty or is_null(field.type)))
    ]
    plan = stored_plan(name, planner, layout, present, columns, metadata.metadata)
    for native in plan.read.keys() - plan.raw:
        check_type(name, native, plan.read[native], fields[native].type)
    return _File(path, name, metadata, plan, fields)


def _open(path: str, name: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            pa.OSFile(os.fsencode(path)),
            metadata=metadata,
            pre_buffer=False,
            buffer_size=_BUFFER,
            page_checksum_verification=True,
        )
    except DAMAGE as problem:
        raise damaged(name, problem) from None


def _sizes(path: str, name: str, metadata: pq.FileMetaData) -> list[dict[str, Sizes]] | None:
    """Return what the footer says of its columns; None where there are too many to look at."""
    if metadata.num_columns * metadata.num_row_groups > _CHUNKS:
        return None
    try:
        return column_sizes(path, name)
    except OSError as problem:
        raise damaged(name, problem) from None


def _empty(path: str, name: str, metadata: pq.FileMetaData) -> set[str]:
    """Return the columns that are null in every row, as far as the footer says so."""
    groups = _sizes(path, name, metadata) or []
    nulls: dict[str, bool] = {}
    for group in groups:
        for column, size in group.items():
            nulls[column] = nulls.get(column, True) and size.nulls == size.values > 0
    return {column for column, null in nulls.items() if null}


def origin_of(path: str) -> tuple[Origin | None, bool]:
    """Return which framework wrote the log that a native file was made of; has it log-ratios?"""
    metadata = pq.read_metadata(path)
    return stored_origin(metadata.metadata, path), "log_ratio" in metadata.schema.names


def _cut(file: _File) -> Iterator[tuple[list[int], int, int]]:
    """Yield runs of row groups worth a task: their indices, rows, and bytes per decoded row."""
    read = {file.fields[native].column for native in file.plan.read}
    sizes = _sizes(file.path, file.name, file.metadata)
    groups: list[int] = []
    rows = size = 0
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        here = max(group.total_byte_size, 8 * group.num_rows * len(read))
        if sizes is not None:
            here = _decoded_bytes(sizes[index], read)
        if groups and size + here > _TASK_BYTES:
            yield groups, rows, size // max(rows, 1)
            groups, rows, size = [], 0, 0
        groups.append(index)
        rows, size = rows + group.num_rows, size + here
    if groups:
        yield groups, rows, size // max(rows, 1)


def _decoded_bytes(group: dict[str, Sizes], read: set[str]) -> int:
    """Guess the decoded size of the read columns; dictionaries make the stored size too small."""
    return sum(
        max(8 * size.values, size.bytes)
        for path, size in group.items()
        if path in read or any(path.startswith(f"{name}.") for name in read)
    )


def _decode(
    reader: pq.ParquetFile,
    file: _File,
    groups: list[int],
    start: int,
    count: int,
    row_bytes: int,
    *,
    use_threads: bool,
) -> Iterator[Chunk]:
    columns = list(dict.fromkeys(file.fields[native].column for native in file.plan.read))
    long = file.plan.raw or any(
        name in _LONG and not is_text(file.fields[name].type) for name in file.plan.read
    )
    keyed = file.plan.read.keys() & set(_LONG)
    limit = 1024 if long else 4096 if keyed else _BATCH_ROWS
    batch_rows = min(max(_BATCH_BYTES // max(row_bytes, 1), 16), limit)
    batches = reader.iter_batches(
        batch_rows,
        row_groups=groups,
        columns=columns,
        use_threads=use_threads,
    )
    done = 0
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                break
            yield batch_chunk(file.name, file.plan, file.fields, batch, start + done)
        except DAMAGE as problem:
            raise damaged(file.name, problem) from None
        done += batch.num_rows
    if done != count:
        raise LogError(
            f"{file.name}: expected {count} rows from row {start + 1} on, found {done}; the file "
            "is damaged or was written while it was read: read it again."
        )

"""Parquet files to chunks: only the needed columns, a few megabytes at a time.

Batches are sized by values, not by rows, and a column's bytes come through a small buffer, so that
a file with one giant row group needs no more memory than one with many (field-notes §6). Rows read
are the rows that the footer promises, and checksums of pages are verified where there are any.
Lists of floats in usual pages are read without PyArrow (`taut.logs.readers.lists`).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.logs import places
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
from taut.logs.readers.lists import ListColumn, ListReader
from taut.logs.readers.unpack import CODECS, Unusual
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import LISTS, column
from taut.logs.sources import Source, copy_bounded, temporary_file
from taut.logs.text import safe

_BATCH_BYTES = 8 << 20  # decoded; a batch and its sums then stay near the caches
_BATCH_ROWS = 16_384
_TASK_BYTES = 32 << 20  # decoded; enough work for a thread to be worth handing over
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
            for plan, task, share in _chunks(file.name, name, planner, kept=True):
                done = list(task())  # decoded here: the file is gone when the generator ends
                yield plan, lambda done=done: iter(done), share
    else:
        yield from _chunks(source.path, name, planner, part=source.part)


@dataclass(frozen=True, slots=True)
class _File:
    """One file and how it is read.

    `sizes` are those of its columns, or None; `leaves` leads from names of columns whose pages can
    be read without PyArrow to their paths in `sizes`, and to whether a list may be null; `spare`
    are arrays for them, None where all chunks are kept.
    """

    path: str
    name: str
    metadata: pq.FileMetaData
    plan: Plan
    fields: dict[str, Field]
    sizes: list[dict[str, Sizes]] | None
    leaves: dict[str, tuple[str, bool]]
    spare: list[np.ndarray] | None


def _chunks(
    path: str, name: str, planner: Planner, *, kept: bool = False, part: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Plan, Task, float]]:
    reader = _open(path, name)
    try:
        file = _planned(reader, path, name, planner)
        file = replace(file, spare=None) if kept else file
    except UnicodeDecodeError as problem:
        raise damaged(name, problem) from None
    if file.plan.layout.skip:
        return
    rows = max(file.metadata.num_rows, 1)
    start = 0
    runs = list(_cut(file))
    index, parts = part
    first, last = (len(runs) * end // parts for end in (index, index + 1))
    for at, (groups, count, size) in enumerate(runs):
        if not first <= at < last:
            start += count
            continue

        def task(groups=groups, start=start, size=size, count=count, alone=False):
            here = reader if alone else _open(path, name, file.metadata)
            return _decode(here, file, groups, start, count, size, alone=alone)

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
    sizes = _sizes(path, name, metadata)
    empty = _empty(sizes)
    present = [
        native
        for native, field in fields.items()
        if not (may_lack(native, layout) and (field.column in empty or is_null(field.type)))
    ]
    plan = stored_plan(name, planner, layout, present, columns, metadata.metadata)
    for native in plan.read.keys() - plan.raw:
        check_type(name, native, plan.read[native], fields[native].type)
    plain = (
        {} if sizes is None or places.is_place(path) else _list_leaves(reader, plan, fields, sizes)
    )
    return _File(path, name, metadata, plan, fields, sizes, plain, [])


def _open(path: str, name: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            places.open_file(path),
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


def _empty(sizes: list[dict[str, Sizes]] | None) -> set[str]:
    """Return the columns that are null in every row, as far as the footer says so."""
    nulls: dict[str, bool] = {}
    for group in sizes or []:
        for path, size in group.items():
            nulls[path] = nulls.get(path, True) and size.nulls == size.values > 0
    return {path for path, null in nulls.items() if null}


def origin_of(path: str) -> tuple[Origin | None, bool]:
    """Return which framework wrote the log that a native file was made of; has it log-ratios?"""
    metadata = pq.read_metadata(path)
    return stored_origin(metadata.metadata, path), "log_ratio" in metadata.schema.names


def _cut(file: _File) -> Iterator[tuple[list[int], int, int]]:
    """Yield runs of row groups worth a task: their indices, rows, and bytes per decoded row."""
    read = {file.fields[native].column for native in file.plan.read}
    groups: list[int] = []
    rows = size = 0
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        here = max(group.total_byte_size, 8 * group.num_rows * len(read))
        if file.sizes is not None:
            here = _decoded_bytes(file.sizes[index], read)
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


def _list_leaves(
    reader: pq.ParquetFile, plan: Plan, fields: dict[str, Field], sizes: list[dict[str, Sizes]]
) -> dict[str, tuple[str, bool]]:
    """Return which columns are plain lists of floats: paths of values, and may lists be null."""
    found = {}
    paths = [reader.schema.column(at).path for at in range(reader.metadata.num_columns)]
    if any(list(group) != paths for group in sizes):
        return {}  # two columns of one name, or a footer that contradicts itself
    for native in plan.read.keys() - plan.raw:
        field = fields[native]
        if field.steps or column(native).kind not in LISTS:
            continue
        below = [at for at, path in enumerate(paths) if path.startswith(f"{field.top}.")]
        if len(below) == 1 and _is_list_of_floats(reader, field, below[0]):
            path, stored = paths[below[0]], reader.schema.column(below[0])
            depths = stored.max_repetition_level, stored.max_definition_level
            if all(_usual(group[path], depths) for group in sizes):
                found[native] = path, reader.schema_arrow.field(field.top).nullable
    return found


def _usual(size: Sizes, depths: tuple[int, int]) -> bool:
    """Say whether a column's codec is one of ours, and its counts of levels fit."""
    counted = zip(size.levels, depths, strict=True)
    return size.codec in CODECS and all(count in (0, depth + 1) for count, depth in counted)


_FLOATS = {pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}


def _is_list_of_floats(reader: pq.ParquetFile, field: Field, leaf: int) -> bool:
    """Say whether Arrow and Parquet agree that a column is a list of floats, in nothing else."""
    kind, stored = field.type, reader.schema.column(leaf)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    depth = 1 + reader.schema_arrow.field(field.top).nullable + kind.value_field.nullable
    return (
        _FLOATS.get(kind.value_type) == stored.physical_type
        and stored.max_repetition_level == 1
        and stored.max_definition_level == depth
    )


def _batch_rows(file: _File, row_bytes: int) -> int:
    long = file.plan.raw or any(
        name in _LONG and not is_text(file.fields[name].type) for name in file.plan.read
    )
    keyed = file.plan.read.keys() & set(_LONG)
    limit = 1024 if long else 4096 if keyed else _BATCH_ROWS
    return min(max(_BATCH_BYTES // max(row_bytes, 1), 16), limit)


def _decode(
    reader: pq.ParquetFile,
    file: _File,
    groups: list[int],
    start: int,
    count: int,
    row_bytes: int,
    *,
    alone: bool,
) -> Iterator[Chunk]:
    """Decode row groups, in this thread or, alone, in several.

    Lists come from their pages. Where a page is not as usual, PyArrow decodes on from the row
    that is reached, and says what is wrong with it where something is.
    """
    rows, done = _batch_rows(file, row_bytes), 0
    if file.leaves and file.leaves.keys() != file.plan.read.keys():
        try:
            for chunk in _by_pages(reader, file, groups, start, rows, alone=alone):
                yield chunk
                done += len(chunk.numbers)
        except Unusual:
            pass
        else:
            _check_count(file, start, done, count)
            return
    left_out = done
    columns = [file.fields[native].column for native in file.plan.read]
    for batch in _batches(reader, file, groups, columns, rows, use_threads=alone):
        batch = batch.slice(min(left_out, batch.num_rows)) if left_out else batch
        left_out = max(left_out - batch.num_rows, 0)
        yield _chunk(file, batch, start + done)
        done += batch.num_rows
    _check_count(file, start, done, count)


def _batches(
    reader: pq.ParquetFile,
    file: _File,
    groups: list[int],
    columns: list[str],
    rows: int,
    *,
    use_threads: bool,
) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader.iter_batches(
            rows,
            row_groups=groups,
            columns=list(dict.fromkeys(columns)),
            use_threads=use_threads,
        )
    except DAMAGE as problem:
        raise damaged(file.name, problem) from None


def _chunk(
    file: _File, batch: pa.RecordBatch, start: int, given: dict[str, Values] | None = None
) -> Chunk:
    try:
        return batch_chunk(file.name, file.plan, file.fields, batch, start, given)
    except DAMAGE as problem:
        raise damaged(file.name, problem) from None


def _by_pages(
    reader: pq.ParquetFile,
    file: _File,
    groups: list[int],
    start: int,
    rows: int,
    *,
    alone: bool,
) -> Iterator[Chunk]:
    """Yield chunks whose lists are read from their pages, and the rest by PyArrow.

    Alone, lists are read by a thread each, and chunks may be kept; else each is to be used up
    before the next.

    Raises:
        Unusual: PyArrow is to read on.
    """
    rest = [file.fields[name].column for name in file.plan.read if name not in file.leaves]
    with ExitStack() as stack:
        lists = {}
        for native in file.leaves:
            try:
                opened = stack.enter_context(open(file.path, "rb", buffering=0))
            except OSError as problem:
                raise damaged(file.name, problem) from None
            what = _list_column(file, groups, native)
            lists[native] = ListReader(opened, what, None if alone else file.spare)
            stack.callback(lists[native].close)
        pool = stack.enter_context(ThreadPoolExecutor(len(lists))) if alone else None
        done = 0
        for batch in _batches(reader, file, groups, rest, rows, use_threads=alone):
            size = batch.num_rows
            if pool is not None:
                waiting = {name: pool.submit(one.take, size) for name, one in lists.items()}
                given = {name: future.result() for name, future in waiting.items()}
            else:
                given = {name: one.take(size) for name, one in lists.items()}
            yield _chunk(file, batch, start + done, given)
            done += size


def _list_column(file: _File, groups: list[int], native: str) -> ListColumn:
    field, (leaf, nullable) = file.fields[native], file.leaves[native]
    return ListColumn(
        dtype=np.dtype(field.type.value_type.to_pandas_dtype()),
        outer=nullable,
        inner=field.type.value_field.nullable,
        chunks=[(file.sizes[at][leaf], file.metadata.row_group(at).num_rows) for at in groups],
    )


def _check_count(file: _File, start: int, done: int, count: int) -> None:
    if done != count:
        raise LogError(
            f"{file.name}: expected {count} rows from row {start + 1} on, found {done}; the file "
            "is damaged or was written while it was read: read it again."
        )

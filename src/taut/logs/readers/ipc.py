"""Arrow files and streams, Feather, and what Hugging Face's `save_to_disk` writes, to chunks."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.ipc as ipc

from taut.errors import LogError
from taut.logs import places
from taut.logs.plan import Plan, Planner, may_lack
from taut.logs.readers.arrow import (
    DAMAGE,
    batch_chunk,
    check_names,
    check_type,
    damaged,
    field_at,
    is_null,
    leaves,
    stored_plan,
)
from taut.logs.reduce import Chunk
from taut.logs.sources import Source
from taut.logs.text import safe

Task = Callable[[], Iterator[Chunk]]
_ROWS = 16_384
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream; without it whole batches may be missing


def chunks(source: Source, planner: Planner) -> Iterator[tuple[Plan, Task, float]]:
    """Cut an Arrow file into tasks, each with its share of the rows.

    Args:
        source: The file.
        planner: Tells how its columns are read.

    Raises:
        LogError: The file is damaged, or lacks a column, or a column has the wrong type.
    """
    name = safe(source.name)
    try:
        batches = _batches(source, name)
        schema = next(batches)
        check_names(name, schema)
        columns, names = leaves(schema), frozenset(schema.names)
        layout = planner.layouts(name, columns)
        fields = {native: field_at(schema, names, at) for native, at in layout.paths.items()}
        fields = {native: found for native, found in fields.items() if found is not None}
        empty = _empty(source)
        present = [
            native
            for native, field in fields.items()
            if not (may_lack(native, layout) and (is_null(field.type) or field.column in empty))
        ]
        plan = stored_plan(name, planner, layout, present, columns, schema.metadata)
        for native in plan.read.keys() - plan.raw:
            check_type(name, native, plan.read[native], fields[native].type)
        start = 0
        for batch in batches:
            batch.validate(full=True)

            def task(batch=batch, start=start) -> Iterator[Chunk]:
                try:
                    for at in range(0, batch.num_rows, _ROWS):
                        part = batch.slice(at, _ROWS)
                        yield batch_chunk(name, plan, fields, part, start + at)
                except DAMAGE as problem:
                    raise damaged(name, problem, "Arrow") from None

            yield plan, task, batch.nbytes / max(source.size, 1)
            start += batch.num_rows
    except DAMAGE as problem:
        raise damaged(name, problem, "Arrow") from None


def _batches(source: Source, name: str) -> Iterator:
    """Yield the schema, then the batches; a stream that ends before its end mark is refused."""
    if source.table is not None:
        yield source.table.schema
        yield from source.table.to_batches()
        return
    with source.open() as stream:
        head = stream.read(8)
    if head.startswith(b"FEA1"):
        raise LogError(f"{name}: expected Feather 2 or Arrow, found Feather 1; write it again.")
    if head.startswith(b"ARROW1"):
        with _whole(source) as file, ipc.open_file(file) as reader:
            yield reader.schema
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
        return
    with _whole(source) as file:
        size = file.size()
        file.seek(max(size - len(_END), 0))
        if file.read(len(_END)) != _END:
            raise LogError(
                f"{name}: expected an Arrow stream with its end mark, found it cut off; write or "
                "copy the file again."
            )
        file.seek(0)
        with ipc.open_stream(file) as reader:
            yield reader.schema
            yield from reader


def _empty(source: Source) -> set[str]:
    """Return the columns of a table in memory that hold no value, as a Parquet footer tells."""
    if source.table is None:
        return set()
    columns = zip(source.table.column_names, source.table.columns, strict=True)
    return {name for name, values in columns if values.null_count == len(values)}


def _whole(source: Source) -> pa.NativeFile:
    if not source.codec:
        return places.open_file(source.path)
    with source.open() as stream:
        return pa.BufferReader(stream.read(-1))

"""Arrow tables to columns of rollouts: types, nested fields, and what is wrong with a value.

Parquet files, Arrow files and streams, and CSV all come through here.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from taut.errors import LogError
from taut.logs.facts import stored_facts
from taut.logs.layout import Columns, Holds, Layout, failed, labels, messages_text
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.plan import Plan, Planner
from taut.logs.readers.values import as_bool, as_integer, as_number
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
from taut.logs.text import one_line, safe
from taut.logs.tokens import Tokens

Metadata = Mapping[bytes, bytes] | None
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)


def damaged(name: str, problem: Exception, what: str = "Parquet") -> LogError:
    """Return the error for a file that its library cannot read."""
    return LogError(
        f"{name}: expected a whole {what} file, found it damaged or cut off "
        f"({one_line(problem)}); write or copy the file again."
    )


@dataclass(frozen=True, slots=True)
class Field:
    """Where a path leads in a table.

    Attributes:
        column: What to read of the file: a column, or fields of it by dotted path.
        top: The column's name.
        steps: Names of fields and places in lists below it.
        type: What is there.
    """

    column: str
    top: str
    steps: tuple[str | int, ...]
    type: pa.DataType


def check_names(name: str, schema: pa.Schema) -> None:
    """Raise where a column comes twice.

    Raises:
        LogError: With its name.
    """
    twice = sorted(column for column, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise LogError(
            f"{name}: expected each column once, found '{safe(twice[0])}' "
            f"{schema.names.count(twice[0])} times; rename or drop the copies."
        )


def stored_plan(
    name: str,
    planner: Planner,
    layout: Layout,
    present: Collection[str],
    columns: Columns,
    metadata: Metadata,
) -> Plan:
    """Plan how a table is read, with what its metadata say of the log."""
    plan = planner.plan(
        name, layout, present, columns, stored_clip=_stored(metadata, TOKEN_CLIP_KEY, name)
    )
    return replace(
        plan,
        facts=stored_facts(metadata, name),
        rejected_rows=int(_stored(metadata, REJECTED_KEY, name) or 0),
        origin=plan.origin or stored_origin(metadata, name),
    )


def _stored(metadata: Metadata, key: bytes, name: str) -> float | None:
    """Return a number that `convert` wrote into the metadata of a file."""
    value = (metadata or {}).get(key)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise LogError(
            f"{name}: metadata: expected a number under '{key.decode()}', found "
            f"'{safe(value.decode(errors='replace'), limit=40)}'; write the file again."
        )
    return number


def stored_origin(metadata: Metadata, name: str) -> Origin | None:
    """Return which framework wrote the log that `convert` made a file of.

    Raises:
        LogError: The file says so in a way that is not known.
    """
    value = (metadata or {}).get(ORIGIN_KEY)
    if value is None:
        return None
    try:
        origin = Origin(**orjson.loads(value))
    except (orjson.JSONDecodeError, TypeError):
        origin = None
    if origin is None or origin.format not in FRAMEWORKS:
        raise LogError(
            f"{name}: metadata: expected a known framework under '{ORIGIN_KEY.decode()}', found "
            f"'{safe(value.decode(errors='replace'), limit=60)}'; update taut, or convert the log "
            "again."
        )
    return origin


def field_at(schema: pa.Schema, names: frozenset[str], path: str) -> Field | None:
    """Return where a path leads: a column of that very name, else fields and places in lists."""
    if path in names:
        return Field(path, path, (), schema.field(path).type)
    parts = path.split(".")
    for size in range(len(parts) - 1, 0, -1):
        top = ".".join(parts[:size])
        if top in names:
            found = _walk(schema.field(top).type, parts[size:])
            if found is not None:
                steps, kind = found
                fields = [top]
                for step in steps:
                    if isinstance(step, int):
                        break
                    fields.append(step)
                return Field(".".join(fields), top, steps, kind)
    return None


def _walk(kind: pa.DataType, parts: list[str]) -> tuple[tuple[str | int, ...], pa.DataType] | None:
    if not parts:
        return (), kind
    if pa.types.is_struct(kind):
        for size in range(len(parts), 0, -1):
            name = ".".join(parts[:size])
            if kind.get_field_index(name) >= 0:
                below = _walk(kind.field(name).type, parts[size:])
                return below and ((name, *below[0]), below[1])
    if is_list(kind) and parts[0].isdigit():
        below = _walk(kind.value_type, parts[1:])
        return below and ((int(parts[0]), *below[0]), below[1])
    return None


def leaves(fields: Iterable[pa.Field], depth: int = 3) -> dict[str, Holds]:
    """Return what all columns hold, with the fields of structs as dotted paths."""
    columns = {}
    for field in fields:
        if pa.types.is_struct(field.type) and depth > 1:
            for name, holds in leaves(field.type, depth - 1).items():
                columns[f"{field.name}.{name}"] = holds
        else:
            columns[field.name] = _holds(field.type)
    return columns


def _holds(kind: pa.DataType) -> Holds:
    tests: dict[Holds, bool] = {
        "number": is_number(kind),
        "text": is_text(kind),
        "bool": pa.types.is_boolean(kind),
        "list": is_list(kind),
        "object": pa.types.is_struct(kind),
        "null": pa.types.is_null(kind),
    }
    return next((name for name, true in tests.items() if true), "other")


def is_null(kind: pa.DataType) -> bool:
    """Say whether a column of this type has no value in any row."""
    return pa.types.is_null(kind)


def is_text(kind: pa.DataType) -> bool:
    """Say whether a type is text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in (*texts, types.is_binary, types.is_large_binary))


def is_number(kind: pa.DataType) -> bool:
    """Say whether a type is a number."""
    types = pa.types
    return types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind)


def is_list(kind: pa.DataType) -> bool:
    """Say whether a type is a list."""
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_numbers(kind: pa.DataType) -> bool:
    return is_list(kind) and (is_number(kind.value_type) or pa.types.is_null(kind.value_type))


def _is_simple(kind: pa.DataType) -> bool:
    return is_text(kind) or is_number(kind) or pa.types.is_boolean(kind)


_ACCEPTS: dict[Kind, Callable[[pa.DataType], bool]] = {
    "id": lambda kind: is_text(kind) or is_number(kind),
    "text": lambda kind: is_text(kind) or is_number(kind),
    "float": _is_simple,
    "int": _is_simple,
    "bool": _is_simple,
    "tokens": _is_numbers,
    "features": _is_numbers,
}
_REMEDY: dict[Kind, str] = {
    "id": "cast it to string or int64",
    "text": "cast it to string",
    "float": "cast it to float64",
    "int": "cast it to int64",
    "bool": "cast it to bool",
    "tokens": "cast it to list<float32>",
    "features": "cast it to list<float32>",
}


def check_type(file: str, native: str, path: str, found: pa.DataType) -> None:
    """Raise where a column's type cannot be read as a native column.

    Raises:
        LogError: With what it holds, and a way on.
    """
    kind = column(native).kind
    if kind not in _ACCEPTS or _ACCEPTS[kind](found) or pa.types.is_null(found):
        return
    named = f"'{safe(path)}'" if path == native else f"'{safe(path)}' (mapped to '{native}')"
    remedy = _way_on(native, path, found) if kind == "float" else None
    raise LogError(
        f"{file}: {named} holds {safe(found, limit=80)}; expected {EXPECTED[kind]}: "
        f"{remedy or _REMEDY[kind]}."
    )


def _way_on(native: str, path: str, found: pa.DataType) -> str | None:
    if pa.types.is_struct(found):
        parts = [f"{path}.{inner.name}" for inner in found if _is_simple(inner.type)]
        total = "+".join(f"1.0*{part}" for part in parts)
        if parts:
            return safe(f"say which, --map {native}={parts[0]}, or a sum, --map '{native}={total}'")
    if _is_numbers(found):
        return safe(
            f"say what to make of the list, --map {native}={path}.0, --map '{native}=sum({path})' "
            f"or --map '{native}=last({path})'"
        )
    return None


def batch_chunk(
    name: str,
    plan: Plan,
    fields: dict[str, Field],
    batch: pa.RecordBatch,
    start: int,
    given: Mapping[str, Values] | None = None,
) -> Chunk:
    """Return a batch as raw columns.

    Args:
        name: The file, for messages.
        plan: What to read.
        fields: Where each name's path leads.
        batch: Some rows; other columns may be among them.
        start: Rows of the file before them.
        given: Columns of these rows that are not in the batch.
    """
    problems = Problems()
    columns: dict[str, Values] = {}
    for native in plan.read:
        if given is not None and native in given:
            columns[native] = given[native]
            continue
        array = _at(batch, fields[native])
        if native in plan.raw or column(native).kind == "any":
            columns[native] = _raw(array)
        else:
            columns[native] = _values(native, array, problems)
    numbers = np.arange(start + 1, start + batch.num_rows + 1)
    return Chunk(file=name, numbers=numbers, columns=columns, problems=problems, names=plan.read)


def _at(batch: pa.RecordBatch, field: Field) -> pa.Array:
    array = batch.column(field.top)
    for step in field.steps:
        if isinstance(step, str):
            array = pc.struct_field(array, [step])
        else:
            items = [
                value[step] if value and len(value) > step else None for value in array.to_pylist()
            ]
            array = pa.array(items, type=array.type.value_type)
    return array


def _raw(array: pa.Array) -> Values:
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return Values(array.to_pylist(), missing)


def _values(native: str, array: pa.Array, problems: Problems) -> Values:
    """Return one column as plain arrays; its type has been checked."""
    kind = column(native).kind
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if kind in LISTS:
        return Values(_tokens(array), missing)
    if kind == "failure":
        return Values(np.array([failed(value) for value in array.to_pylist()], np.bool_), missing)
    if kind == "label":
        return Values(labels(array.to_pylist()), missing)
    if kind == "messages" and not is_text(array.type):
        texts = [value if value is None else messages_text(value) for value in array.to_pylist()]
        return Values(pa.array(texts, type=pa.large_string()), missing)
    if kind in ("id", "text", "messages"):
        return Values(_ids(native, array, problems), missing)
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if kind == "float":
        return Values(_floats(native, array, problems), missing)
    if kind == "bool":
        return Values(_bools(native, array, problems), missing)
    return Values(_integers(native, array, problems), missing)


def _ids(native: str, array: pa.Array, problems: Problems) -> pa.Array:
    if pa.types.is_floating(array.type):
        problems.note(f"'{native}' holds numbers with a point; read as integers")
        whole = _integers(native, array, problems)
        array = pa.array(whole, mask=array.is_null().to_numpy(zero_copy_only=False))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array = _decoded(native, array, problems)
    whole = pa.types.is_integer(array.type) and array.type != pa.uint64()
    as_integers = whole and column(native).kind == "id"  # else text, which hashes to the same key
    return array.cast(pa.int64() if as_integers else pa.large_string())


def _decoded(native: str, array: pa.Array, problems: Problems) -> pa.Array:
    """Return bytes as text, as writers mean them that do not say which they are."""
    texts: list[str | None] = []
    for row, value in enumerate(array.to_pylist()):
        try:
            texts.append(value if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            problems.add(row, native, "holds bytes that are no UTF-8; write it as text")
    return pa.array(texts, type=pa.large_string())


def _one_by_one(
    native: str, array: pa.Array, problems: Problems, read: Callable, none: float | int | bool
) -> list:
    """Read values that Arrow does not convert as a whole, each as `read` does."""
    return [
        none if value is None else read(native, row, value, problems)
        for row, value in enumerate(array.to_pylist())
    ]


def _floats(native: str, array: pa.Array, problems: Problems) -> np.ndarray:
    kind = array.type
    if pa.types.is_boolean(kind) or is_text(kind):
        return np.array(_one_by_one(native, array, problems, as_number, np.nan), dtype=np.float64)
    if pa.types.is_decimal(kind):
        problems.note(f"'{native}' holds decimals; read as float64")
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _bools(native: str, array: pa.Array, problems: Problems) -> np.ndarray:
    if pa.types.is_boolean(array.type) or pa.types.is_null(array.type):
        return array.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
    return np.array(_one_by_one(native, array, problems, as_bool, False), dtype=np.bool_)


def _integers(native: str, array: pa.Array, problems: Problems) -> np.ndarray:
    if pa.types.is_floating(array.type):
        values = array.fill_null(-1.0).to_numpy(zero_copy_only=False).astype(np.float64)
        bad = ~((values == np.floor(values)) & (np.abs(values) < 2.0**53))
        for row in np.flatnonzero(bad):
            problems.add(row, native, f"is {values[row]}; expected an integer")
        return np.where(bad, -1, values).astype(np.int64)
    plain = pa.types.is_integer(array.type) and array.type != pa.uint64()
    if not (plain or pa.types.is_null(array.type)):
        return np.array(_one_by_one(native, array, problems, as_integer, -1), dtype=np.int64)
    return array.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)


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
    if values.null_count or pa.types.is_decimal(values.type):
        values = values.cast(pa.float64()) if not pa.types.is_floating(values.type) else values
    return Tokens(values.to_numpy(zero_copy_only=False), starts, ends, null)

"""Files that are read as a whole: JSON arrays and tables, CSV, the logs of inspect_ai."""

import csv
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import orjson
import pyarrow as pa

from taut.errors import LogError
from taut.logs import places
from taut.logs.layout import NoRollouts
from taut.logs.plan import Plan, Planner
from taut.logs.readers.objects import learn, make_object_plan, object_columns, whole_lines
from taut.logs.readers.shapes import shape_of
from taut.logs.readers.values import shown
from taut.logs.reduce import Chunk, Problems
from taut.logs.signatures import delimiter_of
from taut.logs.sources import Source
from taut.logs.text import one_line, safe

_LARGEST = 4 << 30  # bytes, unpacked
_ROWS = 2048  # a task
_BOM = b"\xef\xbb\xbf"

Task = Callable[[], Iterator[Chunk]]


def chunks(source: Source, planner: Planner) -> Iterator[tuple[Plan, Task, float]]:
    """Cut a file that is read as a whole into tasks, each with its share of the rows.

    Args:
        source: The file.
        planner: Tells how its columns are read.

    Raises:
        LogError: The file is damaged, holds no rows, or lacks a column.
    """
    name = safe(source.name)
    docs = _READ[source.format](source, name)
    if not docs:
        raise NoRollouts(f"{name}: expected rollouts, found an empty list; check how it was made.")
    seen = learn(docs)
    if source.format == "csv":
        seen = {key: _cell_holds(docs, key) for key in seen}
    expand = shape_of(docs, seen) if source.format == "json" else None
    notes = ()
    if expand is not None:
        notes = ("an object holds several rollouts; read as one row each",)
        docs = [row for doc in docs for row in expand(doc)]
        seen = learn(docs)
    plan, kinds = make_object_plan(name, docs, seen, planner)
    plan = replace(plan, notes=(*plan.notes, *notes))
    if plan.layout.skip:
        return
    first = 2 if source.format == "csv" else 1
    for start in range(0, len(docs), _ROWS):
        rows = docs[start : start + _ROWS]

        def task(rows=rows, start=start) -> Iterator[Chunk]:
            problems = Problems()
            lines = whole_lines(rows, range(len(rows)))
            columns = object_columns(lines, plan, kinds, problems)
            if source.format == "csv":
                problems.notes.clear()  # all cells are text
            yield Chunk(
                file=name,
                numbers=first + start + lines.offsets,
                columns=columns,
                problems=problems,
                text=[json.dumps(row, default=str).encode() for row in rows],
                names=plan.read,
            )

        yield plan, task, len(rows) / len(docs)


def _bytes(source: Source, name: str) -> bytes:
    with source.open() as stream:
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise LogError(
            f"{name}: expected a file of at most {_LARGEST >> 30} GiB, since it has to be read as "
            "a whole; write one JSON object per line, or Parquet."
        )
    return data.removeprefix(_BOM)


# --- JSON -----------------------------------------------------------------------------------------


def _json(source: Source, name: str) -> list[dict]:
    data = _bytes(source, name)
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = _lenient(data, name)
    if isinstance(found, dict):
        return _of_object(found, name)
    rows = found if isinstance(found, list) else [found]
    wrong = next((at for at, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        kind = NoRollouts if not any(isinstance(row, dict) for row in rows) else LogError
        raise kind(
            f"{name}: item {wrong + 1}: expected a JSON object, found {shown(rows[wrong])}; write "
            "one object per rollout."
        )
    return rows


def _lenient(data: bytes, name: str) -> object:
    """Read what Python's own `json` writes: NaN, Infinity; or say what is wrong."""
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as bad:
        raise LogError(
            f"{name}: expected UTF-8, found byte 0x{data[bad.start]:02x} at position "
            f"{bad.start + 1}; save the file as UTF-8."
        ) from None
    except RecursionError:
        raise LogError(f"{name}: expected JSON, found nesting without end.") from None
    except ValueError as problem:
        remedy = "write one object per line"
        if "Extra data" in str(problem):
            remedy = f"found several objects over many lines: jq -c . {name} > rows.jsonl"
        raise LogError(f"{name}: expected JSON, found {one_line(problem)}; {remedy}.") from None


def _of_object(found: dict, name: str) -> list[dict]:
    """Return the rows of a file that is one object: a log of inspect_ai, a table, one row."""
    if shape_of([found], learn([found])) is not None:
        return [found]
    rows = [
        key
        for key, value in found.items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    ]
    if rows:
        raise NoRollouts(
            f"{name}: expected one row per rollout, found one object with rows under "
            f"'{safe(rows[0])}'; take them out: jq -c '.{safe(rows[0])}[]' {name} > rows.jsonl."
        )
    if {"reward", "rewards", "score"} & found.keys() and not _is_summary(found):
        return [found]
    raise NoRollouts(
        f"{name}: expected one row per rollout, found one object with "
        f"{', '.join(repr(safe(key)) for key in list(found)[:6]) or 'nothing in it'}; name the "
        "file that holds the rollouts."
    )


def _is_summary(found: dict) -> bool:
    """Say whether an object names no prompt, as a summary of an evaluation does not."""
    return not {"prompt", "prompt_id", "messages", "input", "question", "turns"} & found.keys()


# --- CSV ------------------------------------------------------------------------------------------


def _csv(source: Source, name: str) -> list[dict]:
    try:
        text = _bytes(source, name).decode()
    except UnicodeDecodeError as bad:
        raise LogError(
            f"{name}: expected UTF-8, found another encoding at byte {bad.start + 1}; save the "
            "file as UTF-8."
        ) from None
    csv.field_size_limit(1 << 30)
    try:
        delimiter = delimiter_of(text.split("\n", 1)[0].encode())
        table = io.StringIO(text, newline="")
        rows = list(csv.reader(table, strict=True, delimiter=delimiter))
    except csv.Error as problem:
        raise LogError(f"{name}: expected CSV, found {one_line(problem)}; fix the file.") from None
    names = [cell.strip() for cell in rows[0]]
    if len(set(names)) < len(names):
        twice = next(cell for cell in names if names.count(cell) > 1)
        raise LogError(f"{name}: expected each column once, found '{safe(twice)}' twice.")
    out = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(names):
            raise LogError(
                f"{name}: row {number}: expected {len(names)} cells, found {len(row)}; fix the row."
            )
        out.append({key: cell if cell else None for key, cell in zip(names, row, strict=True)})
    return out


def _cell_holds(docs: list[dict], key: str):
    values = [doc[key] for doc in docs[:_ROWS] if doc.get(key) is not None]
    if not values:
        return "null"
    try:
        for value in values:
            float(value)
    except ValueError:
        return "text"
    return "number"


# --- inspect_ai -----------------------------------------------------------------------------------


def _eval(source: Source, name: str) -> list[dict]:
    """Return the samples of an .eval file, a zip of JSON files."""
    try:
        with places.open_file(source.path) as file, zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if _is_sample(m.filename)]
            if not members:
                raise LogError(
                    f"{name}: expected Parquet, JSON lines or an .eval log, found a zip archive; "
                    "unpack it first."
                )
            if sum(member.file_size for member in members) > _LARGEST:
                raise LogError(f"{name}: expected at most {_LARGEST >> 30} GiB of samples.")
            return [_sample(archive, member, name) for member in sorted(members, key=_place)]
    except _ZIP_PROBLEMS as problem:
        raise LogError(
            f"{name}: expected a whole .eval log, found a zip archive that is damaged or packed in "
            f"a way that is not known ({one_line(problem)}); unpack it, or write the log as JSON: "
            "inspect log convert --to json."
        ) from None


_ZIP_PROBLEMS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    UnicodeDecodeError,
    struct.error,
    pa.ArrowException,
)


def _is_sample(member: str) -> bool:
    return member.startswith("samples/") and member.endswith(".json")


def _place(member: zipfile.ZipInfo) -> str:
    return member.filename


def _sample(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> dict:
    data = _zstd(archive, member) if member.compress_type == _ZSTD else archive.read(member)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise LogError(
            f"{name}: {safe(member.filename)}: expected JSON, found {one_line(problem)}."
        ) from None
    if not isinstance(found, dict):
        raise LogError(f"{name}: {safe(member.filename)}: expected a sample, found a list.")
    return found


_ZSTD = 93  # a method of packing that Python's zipfile does not know, and inspect_ai uses
_LOCAL = struct.Struct("<26xHH")  # of a member's own header: lengths of its name and extra field


def _zstd(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a member that is packed with zstd, and check it.

    Raises:
        BadZipFile: Its checksum is not that of the archive's directory.
    """
    file = archive.fp
    file.seek(member.header_offset)
    name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    file.seek(name + extra, os.SEEK_CUR)
    packed = file.read(member.compress_size)
    data = pa.decompress(packed, member.file_size, codec="zstd", asbytes=True)
    if zlib.crc32(data) != member.CRC:
        raise zipfile.BadZipFile(f"bad checksum of {member.filename}")
    return data


_READ = {"json": _json, "csv": _csv, "eval": _eval}

"""One line of JSON: an object, or what is wrong with it."""

import json
import re
from collections.abc import Iterable

import orjson

from taut.logs.readers.values import shown
from taut.logs.reduce import Problems

_BOM = b"\xef\xbb\xbf"


def parse(line: bytes) -> tuple[dict, str | None]:
    """Return the object on a line and what is wrong with it, if anything is."""
    try:
        doc = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        return _leniently(line, problem)
    if type(doc) is not dict:
        return {}, f"expected a JSON object, found {shown(doc)}; write one object per line"
    return doc, None


def _leniently(line: bytes, problem: orjson.JSONDecodeError) -> tuple[dict, str | None]:
    """Read what Python's own `json` writes beyond the standard: NaN, Infinity, lone surrogates.

    The values are checked later, by column, so that a NaN in a column that is not read is no error.
    """
    if b"\0" in line:
        return {}, "expected JSON, found zero bytes, as a crash leaves them; remove the line"
    if line.startswith(_BOM):
        return {}, "expected JSON, found a byte order mark inside the file; remove it"
    try:
        doc = json.loads(line.decode())
    except UnicodeDecodeError as bad:
        return {}, (
            f"expected UTF-8, found byte 0x{line[bad.start]:02x} at position {bad.start + 1}; "
            "save the file as UTF-8"
        )
    except RecursionError:
        return {}, "expected a flat JSON object, found nesting without end; write one per rollout"
    except ValueError:
        where = f"{problem.msg} at character {problem.pos + 1}"
        return (
            {},
            f"expected one whole JSON object per line, found {where}; fix or rewrite the line, or "
            "set it aside: --lenient FILE",
        )
    if type(doc) is not dict:
        return {}, f"expected a JSON object, found {shown(doc)}; write one object per line"
    return doc, None


class _Pairs(list):
    """An object as its pairs of key and value, in the order of the text."""


# A letter of a key written as an escape, so that two spellings are one key.
SPELLED = re.compile(rb"\\u00[2-7]|\\/")


def note_repeated(row: int, line: bytes, paths: Iterable[str], problems: Problems) -> None:
    """Note a key on the way to a column that comes twice; a parser would take the later value."""
    try:
        doc = json.loads(line, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return  # noted where the line is parsed
    for path in sorted(paths):
        key = _repeated(doc, path.split("."))
        if key is not None:
            problems.add(
                row,
                key,
                "comes twice in this object; expected it once: rename or drop one of them",
            )


def _repeated(doc: object, parts: list[str]) -> str | None:
    if type(doc) is not _Pairs or not parts:
        return None
    whole = ".".join(parts)
    names = [name for name, _ in doc]
    for key in (whole, parts[0]):
        if names.count(key) > 1:
            return key
    inner = next((value for name, value in doc if name == parts[0]), None)
    return _repeated(inner, parts[1:])

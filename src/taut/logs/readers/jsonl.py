"""JSON lines to chunks: one object a line, one line a rollout."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from taut.errors import LogError
from taut.logs.layout import Holds, Layout, Layouts, failed, labels, messages_text
from taut.logs.plan import Plan, make_plan
from taut.logs.readers.scan import PADDING, REPEATED, SLOW, count_lines, last_line_end, scan
from taut.logs.reduce import Chunk, Problems, Values
from taut.logs.schema import EXPECTED, LISTS, WORDS, column
from taut.logs.sources import Source, Stream
from taut.logs.tokens import Tokens

MAX_LINE = 64 << 20  # bytes; 128k tokens with three lists of 17 digits are 8 MiB
_BLOCK = 4 << 20
_FIRST_BLOCK = 256 << 10  # read by itself to learn the columns
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = (
    f"expected one rollout per line, found a line of more than {MAX_LINE >> 20} MiB; "
    "write one object per line"
)
_LIMITS = np.iinfo(np.int64)

Task = Callable[[], Iterator[Chunk]]


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines of a file.

    Attributes:
        first: Number of the first line, from 1.
        text: Their bytes, uint8, up to a newline or PADDING zeros, and others behind them; None
            for a line longer than MAX_LINE.
        size: Bytes without the padding.
    """

    first: int
    text: np.ndarray | None = None
    size: int = 0

    def cut(self, start: int, end: int) -> bytes:
        """Return some of the bytes."""
        return self.text[start:end].tobytes()


def chunks(
    source: Source,
    layouts: Layouts,
    *,
    token_clip: float | tuple[float, ...] | None,
    keep_text: bool,
    raw: frozenset[str] = frozenset(),
    wanted: frozenset[str] = frozenset(),
) -> Iterator[tuple[Plan, Task, int]]:
    """Cut a file of JSON lines into tasks, each with the bytes on disk it covers.

    Args:
        source: The file.
        layouts: Tells from a file's columns how they are read.
        token_clip: Whether token lists are needed although their sums are there.
        keep_text: Keep the text of each line, for the file of rejected rows.
        raw: Native names of words to read as they are.
        wanted: Names to read on request (`taut.logs.plan.ON_REQUEST`).

    Raises:
        LogError: The compressed data is damaged, or a column is missing.
    """
    plan, kinds = None, {}
    with source.open() as stream:
        done = 0
        for block in _blocks(stream, source.first_line):
            if plan is None:
                plan, kinds = _plan(source.name, block, layouts, token_clip, raw, wanted)
            if plan.layout.skip:
                return
            at = stream.tell()

            def task(block=block, plan=plan, kinds=kinds) -> Iterator[Chunk]:
                yield _chunk(source.name, block, plan, kinds, keep_text)

            yield plan, task, at - done
            done = at


def _blocks(stream: Stream, first: int) -> Iterator[Block]:
    """Yield whole lines, some megabytes at a time; the last line needs no newline."""
    number, held, want = first, np.empty(0, dtype=np.uint8), _FIRST_BLOCK
    while True:
        buffer = np.empty(held.size + want + PADDING, dtype=np.uint8)
        buffer[: held.size] = held
        size = held.size + stream.fill(memoryview(buffer)[held.size : -PADDING])
        if number == 1 and not held.size and buffer[:3].tobytes() == _BOM:
            buffer, size = buffer[3:], size - 3
        if size <= held.size:
            break
        cut = last_line_end(buffer[:size])
        if cut:
            yield Block(number, buffer, cut)
            number += count_lines(buffer[:cut])
        elif size > MAX_LINE:
            yield Block(number)
            number, buffer, size = number + 1, *_after_line(stream)
        held, want = buffer[cut:size].copy(), _BLOCK
    if held.size:
        buffer[held.size : held.size + PADDING] = 0
        yield Block(number, buffer, held.size)


def _after_line(stream: Stream) -> tuple[np.ndarray, int]:
    """Skip to the end of a line; return what was read behind it, and its size."""
    buffer = np.empty(_BLOCK, dtype=np.uint8)
    while size := stream.fill(memoryview(buffer)):
        newline = np.flatnonzero(buffer[:size] == 10)
        if newline.size:
            rest = buffer[newline[0] + 1 : size]
            return rest, rest.size
    return buffer, 0


def _plan(
    name: str,
    block: Block,
    layouts: Layouts,
    token_clip: float | tuple[float, ...] | None,
    raw: frozenset[str],
    wanted: frozenset[str],
) -> tuple[Plan, dict[str, type]]:
    """Learn from the first lines which columns the file has, and the type of its ids."""
    if block.text is None:
        raise LogError(f"{name}:{block.first}: {_TOO_LONG}.")
    docs, seen, failure = [], {}, None
    for offset, line in enumerate(block.cut(0, block.size).split(b"\n")):
        if not line.strip():
            continue
        doc, problem = _parse(line)
        if problem:
            failure = failure or f"{name}:{block.first + offset}: {problem}."
        else:
            docs.append(doc)
            for leaf, value in _leaves(doc):
                if seen.get(leaf, "null") == "null":
                    seen[leaf] = _holds(value)
    if not docs:
        raise LogError(failure or f"{name}: expected rollouts, found blank lines only.")
    layout = layouts(name, seen)
    present, kinds = [], {}
    for native, path in layout.paths.items():
        values = _column(docs, path, wrapped=layout.wrapped)
        known = next((value for value in values if value is not None), None)
        # A column that is null in all of these rows may well be null in all of them.
        null = path in seen and not _may_lack(native, layout)
        if known is not None or null or _is_sparse(native, path):
            present.append(native)
        if column(native).kind in ("id", "text"):
            kinds[native] = type(known)
    plan = make_plan(name, layout, present, seen, token_clip=token_clip, raw=raw, wanted=wanted)
    return plan, kinds


def _is_sparse(native: str, path: str) -> bool:
    """Say whether a column may come late: a label, or what only some rows have to say."""
    return native == "gold" or (column(native).nullable and path == native)


def _may_lack(native: str, layout: Layout) -> bool:
    return native not in layout.required and native not in ("reward", "prompt_id", "prompt")


def _leaves(doc: dict) -> Iterator[tuple[str, object]]:
    for key, value in doc.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", under) for inner, under in value.items())
        else:
            yield key, value


_HOLDS: dict[type, Holds] = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
}


def _holds(value: object) -> Holds:
    return _HOLDS.get(type(value), "other")


def _parse(line: bytes) -> tuple[dict, str | None]:
    """Return the object on a line and what is wrong with it, if anything is."""
    try:
        doc = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        return _parse_leniently(line, problem)
    if type(doc) is not dict:
        return {}, f"expected a JSON object, found {_shown(doc)}; write one object per line"
    return doc, None


def _parse_leniently(line: bytes, problem: orjson.JSONDecodeError) -> tuple[dict, str | None]:
    """Read what Python's own `json` writes beyond the standard: NaN, Infinity, lone surrogates.

    The values are checked later, by column, so that a NaN in a column that is not read is no error.
    """
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
            f"expected one whole JSON object per line, found {where}; fix or rewrite the line",
        )
    if type(doc) is not dict:
        return {}, f"expected a JSON object, found {_shown(doc)}; write one object per line"
    return doc, None


def _chunk(
    name: str, block: Block, plan: Plan, kinds: Mapping[str, type], keep_text: bool
) -> Chunk:
    problems = Problems()
    lines = _lines(block, plan, problems)
    docs, numbers = lines.docs, block.first + lines.offsets
    for native, path in plan.absent.items():
        _refuse_late(name, native, path, docs, numbers)
    columns = {
        native: _raw(_column(docs, path, wrapped=plan.layout.wrapped))
        if native in plan.raw
        else _values(
            native, _column(docs, path, wrapped=plan.layout.wrapped), lines, kinds, problems
        )
        for native, path in plan.read.items()
    }
    keep_text = keep_text and block.text is not None
    text = [block.cut(*place) for place in lines.places.tolist()] if keep_text else None
    return Chunk(file=name, numbers=numbers, columns=columns, problems=problems, text=text)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a block that are not blank.

    Attributes:
        docs: The object on each line; where `whole` is False its token lists are numbers that
            index `cuts`.
        whole: Which objects were parsed by orjson alone, shape (lines,).
        values, cuts: The numbers of the token lists, and where each list is among them.
        offsets: Number of each line from the first of the block, shape (lines,).
        places: Where each line begins and ends in the text, shape (lines, 2).
    """

    docs: list[dict]
    whole: np.ndarray
    values: np.ndarray
    cuts: np.ndarray
    offsets: np.ndarray
    places: np.ndarray


def _lines(block: Block, plan: Plan, problems: Problems) -> _Lines:
    if block.text is None:
        problems.add(0, "", _TOO_LONG)
        block = Block(block.first, np.frombuffer(b"{}" + bytes(PADDING), dtype=np.uint8), 2)
    lists, others = _keys(plan)
    if not lists:
        return _whole_lines(block, others, problems)
    found = scan(block.text, block.size, lists, others, wrapped=plan.layout.wrapped)
    whole = (found.lines[:, 5] & SLOW) != 0
    docs = []
    for row, (_, start, end, short_start, short_end, flag) in enumerate(found.lines.tolist()):
        if flag & REPEATED:
            _note_repeated(row, block.cut(start, end), lists | others, problems)
        doc = None if flag & SLOW else _parse_short(found.short[short_start:short_end])
        if doc is None:
            whole[row] = True
            doc = _parse_noted(row, block.cut(start, end), problems)
        docs.append(doc)
    return _Lines(
        docs=docs,
        whole=whole,
        values=found.values,
        cuts=found.cuts,
        offsets=found.lines[:, 0],
        places=found.lines[:, 1:3],
    )


def _whole_lines(block: Block, keys: frozenset[str], problems: Problems) -> _Lines:
    """Parse lines without token lists: orjson alone is as fast, and nothing need be compiled."""
    quoted = [f'"{key}"'.encode() for key in keys]
    docs, offsets, places, start = [], [], [], 0
    for offset, line in enumerate(block.cut(0, block.size).split(b"\n")):
        if line and not line.isspace():
            if any(line.count(key) > 1 for key in quoted):
                _note_repeated(len(docs), line, keys, problems)
            docs.append(_parse_noted(len(docs), line, problems))
            offsets.append(offset)
            places.append((start, start + len(line)))
        start += len(line) + 1
    return _Lines(
        docs=docs,
        whole=np.ones(len(docs), dtype=bool),
        values=np.empty(0),
        cuts=np.empty((0, 2), dtype=np.int64),
        offsets=np.array(offsets, dtype=np.int64),
        places=np.array(places, dtype=np.int64).reshape(-1, 2),
    )


def _parse_noted(row: int, line: bytes, problems: Problems) -> dict:
    doc, problem = _parse(line)
    if problem:
        problems.add(row, "", problem)
    return doc


def _keys(plan: Plan) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys whose lists are to be taken out, and other keys that must not come twice."""
    lists, others, tops = set(), set(), set()
    for native, path in plan.read.items():
        leaves = {path, path.rsplit(".", 1)[-1]}
        tops.add(path.split(".")[0])
        if column(native).kind in LISTS:
            lists |= leaves
        else:
            others |= leaves
    return frozenset(lists - others), frozenset(others | tops)


def _parse_short(line: memoryview) -> dict | None:
    try:
        doc = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return doc if type(doc) is dict else None


def _note_repeated(row: int, line: bytes, keys: frozenset[str], problems: Problems) -> None:
    """Note a key that comes twice in the object on a line; a parser would take the later value."""
    pairs: list = []
    with suppress(ValueError, RecursionError):
        json.loads(line, object_pairs_hook=lambda found: pairs.__setitem__(slice(None), found))
    names = [key for key, _ in pairs]
    for key in sorted(keys):
        if names.count(key) > 1:
            problems.add(
                row,
                key,
                "comes twice in this object; expected it once: rename or drop one of them",
            )


def _refuse_late(
    name: str, native: str, path: str, docs: Sequence[dict], numbers: Sequence[int]
) -> None:
    if native in WORDS:
        return
    for row, value in enumerate(_column(docs, path)):
        if value is not None:
            raise LogError(
                f"{name}:{numbers[row]}: '{path}' is here but not in the first rows of the file; "
                "expected it in all rows or in none: split the file, fill the column, or leave it "
                f"out: --map {native}=."
            )


def _column(docs: Sequence[dict], path: str, *, wrapped: bool = False) -> list:
    """Return the value at a path of each object, None where it is absent."""
    if "." not in path:
        values = [doc.get(path) for doc in docs]
    else:
        values = [_at(doc, path) for doc in docs]
    return [_unwrapped(value) for value in values] if wrapped else values


def _unwrapped(value):
    """Return what a list of one value holds; anything else as it is."""
    return value[0] if type(value) is list and len(value) == 1 else value


def _at(doc: dict, path: str):
    if path in doc:
        return doc[path]
    value = doc
    for part in path.split("."):
        if type(value) is not dict:
            return None
        value = value.get(part)
    return value


def _raw(values: list) -> Values:
    return Values(values, np.array([value is None for value in values]) if None in values else None)


def _values(
    native: str, values: list, lines: _Lines, kinds: Mapping[str, type], problems: Problems
) -> Values:
    missing = np.array([value is None for value in values]) if None in values else None
    kind = column(native).kind
    if kind in LISTS:
        return Values(_tokens(native, values, lines, problems), missing)
    if kind in ("id", "text"):
        return Values(_ids(native, values, kinds[native], problems), missing)
    if kind == "messages":
        return Values(_messages(native, values, problems), missing)
    if kind == "failure":
        return Values(np.array([failed(value) for value in values], dtype=np.bool_), missing)
    if kind == "label":
        return Values(labels(values), missing)
    types = (float, int) if kind in ("float", "int") else (bool,)
    if not set(map(type, values)) <= set(types):
        fill = np.nan if kind == "float" else False if kind == "bool" else -1
        values = [_checked(native, row, v, types, fill, problems) for row, v in enumerate(values)]
    if kind == "float":
        return Values(_floats(values), missing)
    if kind == "bool":
        return Values(np.array(values, dtype=np.bool_), missing)
    return Values(_integers(native, values, problems), missing)


def _checked(native: str, row: int, value, types: tuple, fill, problems: Problems):
    if type(value) in types:
        return value
    if value is not None:
        problems.add(row, native, f"is {_shown(value)}; {_expected(native, value)}")
    return fill


def _expected(native: str, value) -> str:
    kind = column(native).kind
    hint = ": write it without quotes" if type(value) is str and kind in ("float", "int") else ""
    return f"expected {EXPECTED[kind]}{hint}"


def _floats(values: list) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond float64, from the lenient parser
        return np.array([_float(value) for value in values])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _integers(native: str, values: list, problems: Problems) -> np.ndarray:
    out = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        whole = type(value) is int or value.is_integer()
        if not (whole and _LIMITS.min <= value <= _LIMITS.max):
            problems.add(row, native, f"is {value}; expected a 64-bit integer")
            value = -1
        out[row] = value
    return out


def _ids(native: str, values: list, kind: type, problems: Problems) -> pa.Array:
    """Return texts or integers as an Arrow array; the first rows of the file say which."""
    allowed = kind if kind in (str, int) else str
    as_text = allowed is str or column(native).kind == "text"
    out = []
    for row, value in enumerate(values):
        if type(value) is not allowed:
            if value is not None:
                problems.add(row, native, f"is {_shown(value)}; {_expected_id(native, allowed)}")
            value = None
        elif allowed is int and not _LIMITS.min <= value <= _LIMITS.max:
            problems.add(row, native, f"is {value}; expected a 64-bit integer: write it as text")
            value = None
        out.append(value if value is None or not as_text else _text(native, row, value, problems))
    return pa.array(out, type=pa.large_string() if as_text else pa.int64())


def _messages(native: str, values: list, problems: Problems) -> pa.Array:
    """Return prompts as text; messages in one form, whatever the order of their keys."""
    out = []
    for row, value in enumerate(values):
        text = value if value is None or type(value) is str else messages_text(value)
        out.append(text if text is None else _text(native, row, text, problems))
    return pa.array(out, type=pa.large_string())


def _expected_id(native: str, allowed: type) -> str:
    want = "text" if allowed is str else "an integer"
    return f"expected {want} as in the first rows of the file"


def _text(native: str, row: int, value: str | int, problems: Problems) -> str | None:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.add(row, native, "holds half a surrogate pair; expected valid Unicode")
        return None
    return text


def _tokens(native: str, values: list, lines: _Lines, problems: Problems) -> Tokens:
    """Return token lists: those taken out by the scanner, and those left to orjson behind them."""
    spans = np.zeros((len(values), 2), dtype=np.int64)
    taken = np.array([type(value) is int for value in values], dtype=bool) & ~lines.whole
    spans[taken] = lines.cuts[[value for value, cut in zip(values, taken, strict=True) if cut]]
    behind, size = [lines.values], lines.values.size
    for row in np.flatnonzero(~taken):
        part = _numbers(native, row, values[row], problems)
        spans[row] = size, size + part.size
        size += part.size
        behind.append(part)
    flat = np.concatenate(behind) if len(behind) > 1 else lines.values
    starts, ends = np.ascontiguousarray(spans.T)
    return Tokens(flat, starts, ends)


_EMPTY = np.empty(0)


def _numbers(native: str, row: int, value, problems: Problems) -> np.ndarray:
    if type(value) is not list:
        if value is not None:
            problems.add(row, native, f"is {_shown(value)}; expected {EXPECTED['tokens']}")
        return _EMPTY
    for at, token in enumerate(value):
        if type(token) is not float and type(token) is not int:
            found = "null" if token is None else _shown(token)
            problems.add(row, native, f"is {found} at token {at + 1}; expected a finite number")
            return _EMPTY
    return _floats(value)


def _shown(value) -> str:
    """Return a value as a person would name it, short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    text = json.dumps(value)
    text = text if len(text) <= 40 else f"{text[:37]}…"
    return f"the text {text}" if isinstance(value, str) else text

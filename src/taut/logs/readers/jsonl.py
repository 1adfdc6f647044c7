"""JSON lines to chunks: one object a line, one line a rollout."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from taut.errors import LogError
from taut.logs.plan import Plan, Planner
from taut.logs.readers.lines import SPELLED, note_repeated, parse
from taut.logs.readers.objects import (
    Lines,
    learn,
    make_object_plan,
    object_columns,
    take,
    whole_lines,
)
from taut.logs.readers.scan import (
    PADDING,
    REPEATED,
    SLOW,
    count_lines,
    last_line_end,
    scan,
)
from taut.logs.readers.shapes import Expand, shape_of
from taut.logs.reduce import Chunk, Problems
from taut.logs.schema import LISTS, WORDS, column
from taut.logs.sources import Source, Stream
from taut.logs.text import safe

MAX_LINE = 64 << 20  # bytes; 128k tokens with three lists of 17 digits are 8 MiB
_BLOCK = 4 << 20
_FIRST_BLOCK = 256 << 10  # read by itself to learn the columns
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = (
    f"expected one rollout per line, found a line of more than {MAX_LINE >> 20} MiB; "
    "write one object per line"
)

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
    source: Source, planner: Planner, *, keep_text: bool
) -> Iterator[tuple[Plan, Task, int]]:
    """Cut a file of JSON lines into tasks, each with the bytes on disk it covers.

    Args:
        source: The file.
        planner: Tells how its columns are read.
        keep_text: Keep the text of each line, for the file of rejected rows.

    Raises:
        LogError: The compressed data is damaged, or a column is missing.
    """
    name, known = safe(source.name), None
    with source.open() as stream:
        done = 0
        for block in _blocks(stream, source.first_line):
            if known is None:
                known = _learn(name, block, planner)
            if known.plan.layout.skip:
                return
            at = stream.tell()

            def task(block=block, known=known) -> Iterator[Chunk]:
                yield _chunk(name, block, known, keep_text)

            yield known.plan, task, at - done
            done = at


@dataclass(frozen=True, slots=True)
class _Known:
    """What the first lines of a file say of all: its plan, the types of ids, rows in a line."""

    plan: Plan
    kinds: Mapping[str, type]
    expand: Expand | None


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


def _learn(name: str, block: Block, planner: Planner) -> _Known:
    """Learn from the first lines which columns the file has, and the type of its ids."""
    if block.text is None:
        raise LogError(f"{name}:{block.first}: {_TOO_LONG}.")
    docs, failure = [], None
    for offset, line in enumerate(block.cut(0, block.size).split(b"\n")):
        if not line.strip():
            continue
        doc, problem = parse(line)
        if problem:
            failure = failure or f"{name}:{block.first + offset}: {problem}."
        else:
            docs.append(doc)
    if not docs:
        raise LogError(failure or f"{name}: expected rollouts, found blank lines only.")
    seen = learn(docs)
    expand = shape_of(docs, seen)
    if expand is not None:
        docs = [row for doc in docs for row in expand(doc)]
        seen = learn(docs)
    plan, kinds = make_object_plan(name, docs, seen, planner)
    if expand is not None:
        note = "a line holds several rollouts; read as one row each"
        plan = replace(plan, notes=(*plan.notes, note))
    return _Known(plan, kinds, expand)


def _chunk(name: str, block: Block, known: _Known, keep_text: bool) -> Chunk:
    problems, plan = Problems(), known.plan
    lines = _lines(block, plan, problems, whole=known.expand is not None)
    if known.expand is not None:
        lines = _expanded(lines, known.expand, problems)
    numbers = block.first + lines.offsets
    for native, path in plan.absent.items():
        _refuse_late(name, native, path, lines.docs, numbers)
    columns = object_columns(lines, plan, known.kinds, problems)
    keep_text = keep_text and block.text is not None
    text = [block.cut(*place) for place in lines.places.tolist()] if keep_text else None
    return Chunk(
        file=name,
        numbers=numbers,
        columns=columns,
        problems=problems,
        text=text,
        names=plan.read,
    )


def _expanded(lines: Lines, expand: Expand, problems: Problems) -> Lines:
    """Return a row for each rollout of each line."""
    first, problems.first = problems.first, {}
    docs, index = [], []
    for line, doc in enumerate(lines.docs):
        rows = [{}] if line in first else expand(doc)
        if line in first:
            problems.first[len(docs)] = first[line]
        docs += rows
        index += [line] * len(rows)
    return whole_lines(docs, lines.offsets[index], lines.places[index])


def _lines(block: Block, plan: Plan, problems: Problems, *, whole: bool) -> Lines:
    if block.text is None:
        problems.add(0, "", _TOO_LONG)
        block = Block(block.first, np.frombuffer(b"{}" + bytes(PADDING), dtype=np.uint8), 2)
    lists, others = _keys(plan)
    if whole or not lists:
        return _plain_lines(block, plan.read.values(), problems)
    found = scan(block.text, block.size, lists, others, wrapped=plan.layout.wrapped)
    slow = (found.lines[:, 5] & SLOW) != 0
    docs, nested = [], [path for path in plan.read.values() if "." in path]
    for row, (_, start, end, short_start, short_end, flag) in enumerate(found.lines.tolist()):
        spelled = flag & SLOW and SPELLED.search(block.cut(start, end))
        if flag & REPEATED or spelled or (nested and _comes_twice(block.cut(start, end), nested)):
            note_repeated(row, block.cut(start, end), plan.read.values(), problems)
        doc = None if flag & SLOW else _parse_short(found.short[short_start:short_end])
        if doc is None:
            slow[row] = True
            doc = _parse_noted(row, block.cut(start, end), problems)
        docs.append(doc)
    return Lines(
        docs=docs,
        whole=slow,
        values=found.values,
        cuts=found.cuts,
        offsets=found.lines[:, 0],
        places=found.lines[:, 1:3],
    )


def _plain_lines(block: Block, paths: Iterable[str], problems: Problems) -> Lines:
    """Parse lines without token lists: orjson alone is as fast, and nothing need be compiled."""
    docs, offsets, places, start = [], [], [], 0
    text = block.cut(0, block.size)
    for offset, line in enumerate(text.split(b"\n")):
        if line and not line.isspace():
            docs.append(_parse_noted(len(docs), line, problems))
            offsets.append(offset)
            places.append((start, start + len(line)))
        start += len(line) + 1
    for row in _suspects(text, docs, places, paths):
        note_repeated(row, text[slice(*places[row])], paths, problems)
    return whole_lines(docs, offsets, places)


def _suspects(
    text: bytes, docs: list[dict], places: list[tuple[int, int]], paths: Iterable[str]
) -> list[int]:
    """Return the lines in which a key may come twice: more in the text than in the objects."""
    lines = (text[slice(*place)] for place in places)
    if SPELLED.search(text):
        found = [bool(SPELLED.search(line)) or _comes_twice(line, paths) for line in lines]
        return [row for row, suspect in enumerate(found) if suspect]
    for path in paths:
        for part in path.split("."):
            count = text.count(f'"{part}"'.encode())
            if count and count > sum(part in doc for doc in docs):
                return [row for row, line in enumerate(lines) if _comes_twice(line, paths)]
    return []


def _comes_twice(line: bytes, paths: Iterable[str]) -> bool:
    return any(line.count(f'"{part}"'.encode()) > 1 for path in paths for part in path.split("."))


def _parse_noted(row: int, line: bytes, problems: Problems) -> dict:
    doc, problem = parse(line)
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


def _refuse_late(
    name: str, native: str, path: str, docs: Sequence[dict], numbers: Sequence[int]
) -> None:
    if native in WORDS:
        return
    for row, value in enumerate(take(docs, path)):
        if value is not None:
            raise LogError(
                f"{name}:{numbers[row]}: '{safe(path)}' is here but not in the first rows of the "
                "file; expected it in all rows or in none: split the file, fill the column, or "
                f"leave it out: --map {native}=."
            )

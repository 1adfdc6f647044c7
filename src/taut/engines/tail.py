"""New files and growing ones: every row once, none twice.

Of each file is remembered how far it was read and a checksum of that. What cannot be told apart
from a loss or a rewrite of counted rows is an error, not a guess.

* JSON lines grow: whole lines count; a last one without its newline waits.
* Parquet and compressed files count when they are whole. One that repeats what was read of it and
  has more, grown or replaced, counts its new rows.
* Hidden files, names that begin with "_" and endings that are not a log's (.tmp, .part, .1) are
  left alone. A file that is renamed or copied is another file.
"""

import glob
import os
import re
import stat as modes
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.engines.files import check_same, solid
from taut.engines.local import in_order
from taut.errors import LogError
from taut.logs.keys import hash_ids, row_keys
from taut.logs.plan import check_mapping
from taut.logs.read import Request, tasks
from taut.logs.readers.jsonl import MAX_LINE
from taut.logs.reduce import Reduced
from taut.logs.sources import Source, sniff, unreadable, walk

_WINDOW = 4096  # bytes before the end of what was read that are looked at again when a file grew
_BLOCK = 16 << 20
_KINDS = {modes.S_IFIFO: "a pipe", modes.S_IFSOCK: "a socket", modes.S_IFDIR: "a folder"}


@dataclass(slots=True)
class Known:
    """A file of which rows were read.

    Attributes:
        stream: Its number, in order of appearance.
        path: Its name.
        mark: Device, inode, size and time of change (ns) when it was read last.
        parquet: It is Parquet: then `offset` and `crc` are of rows, not of decompressed bytes.
        grows: Plain JSON lines, to which more may be added at any time.
        offset, crc: How much was read, and its checksum.
        tail: Checksum of the last bytes read, up to 4,096, where it grows.
        loose: It grew, and only `tail` was compared since.
        lines, rows: Read so far.
        gone: It was not there at the last look.
    """

    stream: int
    path: str
    mark: list[int] = field(default_factory=list)
    parquet: bool = False
    grows: bool = False
    offset: int = 0
    crc: int = 0
    tail: int = 0
    loose: bool = False
    lines: int = 0
    rows: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file; `piece` is None where nothing is expected behind those before.

    Attributes:
        known: The file.
        first: Number of the first row in it, from 1.
        piece: The rows, reduced.
    """

    known: Known
    first: int
    piece: Reduced | None


class Tail:
    """Reads what is new in a log, look by look.

    Args:
        sources: Files, globs and folders; they need not exist yet.
        mapping: Native column to column of the log, as for `read_rollouts`.
        ignore: Files that are not part of the log, wherever they lie.
        label: Gives each piece, which has `rollout_id` for that, gold labels of other files.

    Attributes:
        known: Files that were read, by name, in order of appearance.
        files: Files of the log that were there at the last look.
        incomplete: Those that are being written and wait: Parquet without its footer, compressed
            files that end early.
        notes: What else the reader should know of files.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        mapping: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
        label: Callable[[Reduced], Reduced] | None = None,
    ) -> None:
        self._label = label
        self.sources = [os.fspath(source) for source in sources]
        self._ignored = {os.path.realpath(name) for name in ignore}
        paths = dict(check_mapping(mapping))
        paths.pop("features", None)
        self._request = Request(
            paths=paths,
            mapped=frozenset(mapping or ()),
            wanted=frozenset({"prompt"} if label is None else {"prompt", "rollout_id"}),
        )
        self.known: dict[str, Known] = {}
        self._first: tuple[str, frozenset[str]] | None = None  # a file, and its columns
        self.files, self.incomplete, self.notes = 0, set(), []

    def look(
        self, *, final: bool = False, settled: Callable[[int], bool] = lambda stream: True
    ) -> Iterator[Part]:
        """Yield the rows that have come since the last look, step_2 before step_10.

        Args:
            final: The log is finished: what is there counts as closed, and must be whole.
            settled: Says whether no draw of a file waits for further rows; then it may go.

        Raises:
            LogError: A row or a file cannot be read; rows that were read are gone or changed.
        """
        self.incomplete, self.notes = set(), []
        there = self._discover()
        self.files = len(there)
        places = {tuple(mark[:2]): name for name, mark in there.items()}
        for known in self.known.values():
            self._check_place(known, there, settled)
        for name, mark in there.items():
            known = self.known.get(name)
            if known and known.mark == mark and not (final and known.grows):
                continue
            if not final and not os.path.exists(name):
                continue  # renamed since the folder was listed
            with _opened(name) as file:
                mark = _mark(os.fstat(file))
                if places.get(tuple(mark[:2]), name) == name:
                    yield from self._read(name, file, mark, final)
                elif final:
                    raise _changed(name)
                else:
                    self.incomplete.add(name)  # another file of the log has come to this name

    def check(self) -> None:
        """Compare all that was read of files that grew with what they hold now.

        A look compares the last bytes only; a rewrite before them shows here.

        Raises:
            LogError: A file was rewritten.
        """
        for known in self.known.values():
            if known.loose and not known.gone:
                source = Source(name=known.path, size=known.offset, format="jsonl")
                with _opened(known.path) as file:
                    _check_bytes(known, source, file)
                known.loose = False

    def again(self) -> Iterator[Reduced]:
        """Yield once more all rows that were read of files that are there.

        Raises:
            LogError: A file can no longer be read.
        """
        for known in self.known.values():
            if known.gone or not known.rows:
                continue
            with _opened(known.path) as file:
                left = known.rows
                for piece in self._once_more(known, file):
                    taken = {name: values[:left] for name, values in piece.columns.items()}
                    # What a file says of itself it says once.
                    facts = piece.facts if left == known.rows else None
                    left -= len(taken["reward"])
                    yield replace(piece, columns=taken, facts=facts)
                    if not left:
                        break

    def _once_more(self, known: Known, file: int) -> Iterator[Reduced]:
        source = self._source(known.path, file, os.fstat(file).st_size, final=True)
        if known.parquet:
            yield from self._pieces(source)
            return
        end = known.offset if known.grows else None
        for data in _whole_lines(_bytes(source, file, 0, end), last=True):
            if not data.isspace():
                lines = Source(name=known.path, size=len(data), format="jsonl", data=data)
                yield from self._pieces(lines)

    @property
    def lost(self) -> str | None:
        """A file that could still grow and is gone."""
        return next((item.path for item in self.known.values() if item.grows and item.gone), None)

    # --- which files -----------------------------------------------------------------------------

    def _discover(self) -> dict[str, list[int]]:
        """Return the files of the log that are there, each once whatever links lead to it."""
        found: dict[tuple[int, int], tuple[str, list[int]]] = {}
        for source in self.sources:
            for name in sorted(
                names(source, self.notes), key=lambda name: (name not in self.known, name)
            ):
                try:
                    stat = os.stat(name)
                except FileNotFoundError:
                    continue  # not there yet, or renamed since the folder was listed
                except OSError as problem:
                    raise unreadable(name, problem) from None
                if os.path.realpath(name) in self._ignored:
                    continue
                if not modes.S_ISREG(stat.st_mode):
                    self._no_file(name, name == source, modes.S_IFMT(stat.st_mode))
                elif stat.st_size or name in self.known:
                    found.setdefault((stat.st_dev, stat.st_ino), (name, _mark(stat)))
        return dict(sorted(found.values(), key=lambda item: _natural(item[0])))

    def _no_file(self, name: str, named: bool, kind: int) -> None:
        what = _KINDS.get(kind, "a device")
        if named:
            raise LogError(
                f"{name}: expected a file or folder that can be read again, found {what}; write "
                "what comes from it to a file, and watch that."
            )
        self.notes.append(f"{name} is {what}, no file: left alone")

    def _check_place(
        self, known: Known, there: Mapping[str, list], settled: Callable[[int], bool]
    ) -> None:
        """Let a file go only when nothing of it is waited for."""
        known.gone = known.path not in there
        if not known.gone:
            return
        what = f"{known.rows} rows of it were read and counted"
        if not settled(known.stream):
            raise LogError(
                f"{known.path}: the file is gone while a prompt of it was not complete; {what}. "
                "Put it back under this name."
            )
        lost = " Rows written since the last look are lost." if known.grows else ""
        self.notes.append(f"{known.path} is gone; {what}.{lost}")

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, name: str, file: int, mark: list[int], final: bool) -> Iterator[Part]:
        """Yield what an open file holds behind what was read of it."""
        source = self._source(name, file, mark[2], final)
        if source is None:
            self.incomplete.add(name)
            return
        known = self.known.setdefault(name, Known(len(self.known), name))
        if known.offset and (source.format == "parquet") != known.parquet:
            raise _rewritten(known)
        known.parquet = source.format == "parquet"
        known.grows = not known.parquet and source.codec is None
        if known.parquet:
            yield from self._parquet(known, source)
        else:
            grown = known.tail and mark[:2] == known.mark[:2] and mark[2] > known.mark[2]
            known.loose = bool(grown)
            _check_bytes(known, source, file, whole=not grown)
            yield from self._lines(known, source, file, final)
        if not known.grows and _mark(os.fstat(file)) != mark:
            raise _changed(name)
        known.mark = mark
        if not known.grows:
            yield Part(known, known.rows + 1, None)

    def _source(self, name: str, file: int, size: int, final: bool) -> Source | None:
        """Return an open file as a source, or None while it is not whole."""
        if not size and not final:
            return None
        path = f"/dev/fd/{file}"  # opened there again, it is this file, whatever its name is now
        try:
            source = sniff(name, path if os.path.exists(path) else name)
            source = replace(source, size=size)  # it may have grown meanwhile
            whole = size >= 8  # fewer are too short to tell
            if source.codec and not final:
                for _ in _bytes(source, file, 0, None):
                    pass
            if source.format == "parquet" and not source.codec:
                whole = size >= 12 and _before(file, size, 4) == b"PAR1"
        except LogError:
            if final or _before(file, 2, 2) not in (b"\x1f\x8b", b"\x28\xb5"):
                raise
            return None
        return source if whole or final else None

    def _lines(self, known: Known, source: Source, file: int, final: bool) -> Iterator[Part]:
        """Yield the rows of whole lines; where nothing comes behind them, of the last one too."""
        blocks = _bytes(source, file, known.offset, source.size if known.grows else None)
        for data in _whole_lines(blocks, last=final or not known.grows):
            if not data.isspace():
                lines = Source(
                    name=source.name,
                    size=len(data),
                    format="jsonl",
                    first_line=known.lines + 1,
                    data=data,
                )
                for piece in self._pieces(lines):
                    yield self._part(known, piece)
            known.crc, known.offset = zlib.crc32(data, known.crc), known.offset + len(data)
            known.lines += data.count(b"\n")
        known.tail = zlib.crc32(_before(file, known.offset, _WINDOW)) if known.grows else 0

    def _parquet(self, known: Known, source: Source) -> Iterator[Part]:
        """Check the rows that were read, and yield those behind them."""
        crc, left = 0, known.offset
        for piece in self._pieces(source):
            keys = _row_keys(piece)
            if left:
                crc = zlib.crc32(keys[:left].tobytes(), crc)
                if keys.size >= left and crc != known.crc:
                    break
            if left < keys.size:
                known.crc = zlib.crc32(keys[left:].tobytes(), known.crc)
                known.offset += keys.size - left
                rows = {name: values[left:] for name, values in piece.columns.items()}
                yield self._part(known, replace(piece, columns=rows))
            left = max(left - keys.size, 0)
        if left:
            raise _rewritten(known)

    def _part(self, known: Known, piece: Reduced) -> Part:
        self._first = self._first or (known.path, solid(piece))
        check_same(self._first, known.path, piece)
        part = Part(known, known.rows + 1, piece)
        known.rows += len(piece.columns["reward"])
        return part

    def _pieces(self, source: Source) -> Iterator[Reduced]:
        threads = min(os.cpu_count() or 1, 8)
        for task, pieces in in_order(tasks(source, self._request), threads):
            for piece in pieces:
                known = replace(piece, facts=task.plan.facts)
                yield known if self._label is None else self._label(known)

    # --- state -----------------------------------------------------------------------------------

    @property
    def state(self) -> dict:
        """What was read so far, as plain data for JSON."""
        return {
            "sources": self.sources,
            "first": self._first and [self._first[0], sorted(self._first[1])],
            "known": [asdict(known) for known in self.known.values()],
        }

    def restore(self, state: Mapping) -> None:
        """Go on behind what was read when the state was made."""
        self.known = {fields["path"]: Known(**fields) for fields in state["known"]}
        first = state["first"]
        self._first = first and (first[0], frozenset(first[1]))


def _mark(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


@contextmanager
def _opened(name: str) -> Iterator[int]:
    """Open a file for reading, without waiting for what is none, and give its descriptor."""
    try:
        file = os.open(
            name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as problem:
        raise unreadable(name, problem) from None
    try:
        yield file
    finally:
        os.close(file)


def names(source: str, notes: list[str] | None = None) -> Iterator[str]:
    """Yield what may be files of a log: in a folder, of a pattern, or of a name.

    Args:
        source: As the user wrote it.
        notes: Takes what is passed over.
    """
    for name in glob.glob(source, recursive=True) if glob.has_magic(source) else [source]:
        if os.path.isdir(name):
            yield from walk(name, notes)
        else:
            yield name


def _natural(path: str) -> list:
    """Return a key that puts step_2 before step_10."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _before(file: int, end: int, size: int) -> bytes:
    """Return up to `size` bytes of a file before a byte."""
    start = os.lseek(file, max(end - size, 0), os.SEEK_SET)
    return os.read(file, end - start)


def _bytes(source: Source, file: int, start: int, end: int | None) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file from one to another; None is its end.

    Raises:
        LogError: A plain file ends earlier, as it was cut off meanwhile.
    """
    if source.codec is None:
        os.lseek(file, start, os.SEEK_SET)
        while start < end:
            block = os.read(file, min(_BLOCK, end - start))
            if not block:
                raise _changed(source.name)
            start += len(block)
            yield block
        return
    at = 0
    with source.open() as stream:
        while (end is None or at < end) and (block := stream.read(_BLOCK)):
            yield block[max(start - at, 0) : None if end is None else end - at]
            at += len(block)


def _check_bytes(known: Known, source: Source, file: int, *, whole: bool = True) -> None:
    """Raise where a file does not begin with the very bytes that were read of it."""
    if source.codec is None and source.size < known.offset:
        raise _rewritten(known)
    if whole:
        crc = 0
        for block in _bytes(source, file, 0, known.offset):
            crc = zlib.crc32(block, crc)
        same = crc == known.crc
    else:
        same = zlib.crc32(_before(file, known.offset, _WINDOW)) == known.tail
    if not same:
        raise _rewritten(known)


def _whole_lines(blocks: Iterator[bytes], *, last: bool) -> Iterator[bytes]:
    """Join blocks to whole lines, with the last one that has no newline or without it."""
    held = b""
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            yield held + block[:cut]
            held = b""
        held += block[cut:]
        if len(held) > MAX_LINE:
            yield held  # which the reader refuses, before it fills the memory
    if held and last:
        yield held


def _row_keys(piece: Reduced) -> np.ndarray:
    """Return the values of each row as one word, uint64, shape (rows,): a row's identity."""
    columns = []
    for name in sorted(piece.columns):
        values = piece.columns[name]
        if not isinstance(values, np.ndarray):
            values = hash_ids(pc.fill_null(values.cast(pa.large_string()), ""))
        columns.append(values)
    return row_keys(columns)


def _rewritten(known: Known) -> LogError:
    return LogError(
        f"{known.path}: expected the file to go on behind what was read of it, found it rewritten "
        f"or cut off; {known.rows} rows of it were read and counted, and counted rows cannot be "
        "taken back, nor labels be added to them. Put the file back, or begin again with another "
        "--state and a log that is only added to."
    )


def _changed(name: str) -> LogError:
    return LogError(
        f"{name}: expected a file that stays as it is while it is read, found it changed; look "
        "again, and write under another name (.tmp, renamed when it is whole)."
    )

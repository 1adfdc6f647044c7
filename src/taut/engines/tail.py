"""Files that grow, are rotated, compressed or still written: every row once, none twice.

What is remembered of a sequence of rows (a *stream*) is how far it was read and a checksum of what
was read; its name is only where it was seen last. A file that is found under another name, copied
or compressed, is known again by that content. Whatever cannot be told apart from a loss or a
rewrite of rows that were counted is an error, not a guess.

* JSON lines: whole lines only; a last line without its newline waits until the file is closed.
* Compressed files and Parquet count when they are whole: until then they are left alone.
* Hidden files, names that begin with "_" and endings that are not a log's (.tmp, .part) are left
  alone; rotated names (a.jsonl.1, a.jsonl-20260131, each also .gz or .zst) belong to a.jsonl.
"""

import glob
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.engines.local import in_order
from taut.errors import LogError
from taut.logs.keys import hash_ids
from taut.logs.plan import check_mapping
from taut.logs.read import Request, tasks
from taut.logs.reduce import Reduced
from taut.logs.schema import NATIVE
from taut.logs.sources import LOG_SUFFIXES, Source, Stream, sniff

_WINDOW = 4096  # bytes at either end of what was read that are looked at again at every look
_BLOCK = 1 << 20
_ROTATED = r"(?P<turn>\.\d+|[-.]\d{8}(?:[-T_.]?\d{1,6})?)"
_NAME = re.compile(
    rf"(?P<base>.*(?:{'|'.join(re.escape(suffix) for suffix in LOG_SUFFIXES)}))"
    rf"{_ROTATED}?(?P<codec>\.gz|\.zst)?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Known:
    """A stream: a sequence of rows, wherever they lie now.

    Attributes:
        stream: Its number, in order of appearance.
        path: Where it was seen last.
        device, inode, size, changed: Of that file then; `changed` in nanoseconds.
        parquet: It is Parquet: then rows are remembered, not bytes.
        offset: Decompressed bytes read; of Parquet, rows.
        crc: Checksum of what was read: of bytes, or of the rows' values.
        head, tail: Checksums of the first and of the last bytes read, up to 4,096; of Parquet, of
            the first row and 0.
        lines, rows: Read so far.
        closed: Nothing is expected behind.
        missing: Looks since it was last found.
    """

    stream: int
    path: str
    device: int = 0
    inode: int = 0
    size: int = 0
    changed: int = 0
    parquet: bool = False
    offset: int = 0
    crc: int = 0
    head: int = 0
    tail: int = 0
    lines: int = 0
    rows: int = 0
    closed: bool = False
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a stream.

    Attributes:
        known: The stream.
        first: Number of the first row in its file, from 1.
        piece: The rows, reduced; None where a stream is closed without more rows.
        closed: Nothing comes behind these rows.
    """

    known: Known
    first: int
    piece: Reduced | None
    closed: bool


@dataclass(slots=True)
class Found:
    """A file that is there now."""

    path: str
    stat: os.stat_result
    source: Source | None = None
    first: bytes | None = None  # its first decompressed bytes, up to 4,096, once they were read
    row: int | None = None  # of Parquet, checksum of the first row, once it was read

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.stat.st_dev, self.stat.st_ino

    def begins_like(self, known: Known) -> bool:
        """Whether its first bytes are those of a stream: cheap, so that many can be tried."""
        if self.first is None:
            with self.source.open() as stream:
                self.first = stream.read(_WINDOW)
        size = min(known.offset, _WINDOW)
        return len(self.first) >= size and zlib.crc32(self.first[:size]) == known.head


@dataclass(slots=True)
class Look:
    """What one look at the files found, besides rows.

    Attributes:
        files: Files of the log that are there.
        incomplete: Files that are being written and wait: Parquet without its footer, compressed
            files that end early, copies in the making.
        held: Streams whose rest was not found; the next look decides.
        notes: What happened to files that the reader should know.
    """

    files: int = 0
    incomplete: set[str] = field(default_factory=set)
    held: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Tail:
    """Reads what is new in a log, look by look.

    Args:
        sources: Files, globs and folders; they need not exist yet.
        mapping: Native column to column of the log, as for `read_rollouts`.
        ignore: Files that are not part of the log, wherever they lie.

    Attributes:
        sources: As given.
        known: Streams in order of appearance.
        last: What the last look found.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        mapping: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
    ) -> None:
        self.sources = [os.fspath(source) for source in sources]
        self._ignored = {os.path.realpath(name) for name in ignore}
        paths = dict(check_mapping(mapping))
        del paths["features"]
        self._request = Request(paths=paths)
        self.known: list[Known] = []
        self._columns: tuple[str, list[str]] | None = None
        self._copies: dict[tuple[int, int, int, int], int] = {}
        self.last = Look()

    def look(
        self, *, final: bool = False, settled: Callable[[int], bool] = lambda stream: True
    ) -> Iterator[Part]:
        """Yield the rows that have come since the last look, oldest file first.

        Args:
            final: The log is finished: what is there counts as closed.
            settled: Says whether no draw of a stream waits for further rows; then its file may go.

        Raises:
            LogError: A row or a file cannot be read; rows that were read are gone or changed.
        """
        self.last = Look()
        found = self._discover()
        self.last.files = len(found)
        placed = self._place(found, settled)
        for known, item in sorted(placed, key=lambda pair: _age(pair[1].path)):
            if item.source is None:
                continue
            read = self._parquet if item.source.format == "parquet" else self._lines
            yield from read(known, item, final)

    # --- which file is which stream --------------------------------------------------------------

    def _discover(self) -> list[Found]:
        names: dict[str, str] = {}
        for source in self.sources:
            for name in _names(source):
                names.setdefault(os.path.realpath(name), name)
        for name in self._ignored:
            names.pop(name, None)
        found: dict[tuple[int, int], Found] = {}
        for name in names.values():
            try:
                stat = os.stat(name)
            except OSError:
                continue  # renamed since the folder was listed: the next look will see it
            item = Found(name, stat)
            if stat.st_size:
                found.setdefault(item.identity, item)
        return [*found.values()]

    def _place(
        self, found: list[Found], settled: Callable[[int], bool]
    ) -> list[tuple[Known, Found]]:
        """Match files to streams: by identity where the content agrees, else by content."""
        placed, left = [], []
        free = {known.stream: known for known in self.known}
        # A file system gives the number of a file that is gone to the next one: several streams
        # may have it, and the youngest is tried first.
        named: dict[tuple[int, int], list[Known]] = {}
        for known in reversed(self.known):
            named.setdefault((known.device, known.inode), []).append(known)
        for item in found:
            for known in named.get(item.identity, ()):
                if self._goes_on(known, item):
                    del free[known.stream]
                    placed.append((known, item))
                    break
            else:
                left.append(item)
        for item in sorted(left, key=lambda item: _age(item.path)):
            self._identify(item, free, placed)
        for known in free.values():
            self._missing(known, found, settled)
        return placed

    def _goes_on(self, known: Known, item: Found) -> bool:
        """Whether a file that is the stream's by identity still begins with what was read."""
        if _unchanged(known, item):
            item.source = None if known.closed else self._sniff(item)
            return True
        item.source = self._sniff(item)
        if item.source is None:
            return known.offset == 0
        if (item.source.format == "parquet") != known.parquet and known.offset:
            return False
        if known.parquet:
            return self._same_rows(known, item)
        if item.source.codec:
            return self._same_bytes(known, item)
        return item.stat.st_size >= known.offset and _same_windows(known, item.path)

    def _identify(self, item: Found, free: dict, placed: list) -> None:
        """Place a file of unknown identity: a stream's new home, a copy, or a new stream."""
        item.source = item.source or self._sniff(item)
        if item.source is None:
            return
        for known in list(free.values()):
            if known.offset and self._is(known, item):
                if known.path != item.path:
                    self.last.notes.append(f"{known.path} goes on as {item.path}")
                del free[known.stream]
                placed.append((known, item))
                return
        for index, (known, there) in enumerate(placed):
            if known.offset and self._is_longer(known, there, item):
                self.last.notes.append(f"{known.path} goes on as {item.path}")
                placed[index] = (known, item)
                return
            if known.offset and self._is_copy(known, item):
                return
        if any(known.offset and _is_begun(known, there, item) for known, there in placed):
            self.last.incomplete.add(item.path)
            return
        if any(known.path == item.path and known.offset for known in free.values()):
            return  # rewritten or cut off: held for a look, as its rest may turn up elsewhere
        known = Known(stream=len(self.known), path=item.path)
        self.known.append(known)
        placed.append((known, item))

    def _is(self, known: Known, item: Found) -> bool:
        """Whether a file holds what was read of a stream, by content alone."""
        if (item.source.format == "parquet") != known.parquet:
            return False
        if not known.parquet:
            return self._same_bytes(known, item)
        like = item.stat.st_size >= known.size or item.path == known.path or item.source.codec
        return bool(like) and self._same_rows(known, item)

    def _is_longer(self, known: Known, there: Found, item: Found) -> bool:
        """Whether a file repeats a stream and goes on behind the file where that is now."""
        longer = item.stat.st_size > there.stat.st_size and not item.source.codec
        still = there.stat.st_size == known.size
        return longer and still and self._is(known, item)

    def _is_copy(self, known: Known, item: Found) -> bool:
        """Whether a file repeats a stream that is elsewhere; remembered until it changes."""
        mark = (*item.identity, item.stat.st_size, item.stat.st_mtime_ns)
        if self._copies.get(mark) == known.stream:
            return True
        if not self._is(known, item):
            return False
        self._copies[mark] = known.stream
        self.last.notes.append(f"{item.path} is a copy of {known.path}: not counted again")
        return True

    def _missing(self, known: Known, found: list[Found], settled: Callable[[int], bool]) -> None:
        """Decide about a stream that no file goes on with: hold it for a look, then let go."""
        if known.offset == 0:
            known.missing = 0
            return
        there = any(item.path == known.path for item in found) or os.path.exists(known.path)
        if known.path in self.last.incomplete:
            self.last.held.append(known.path)
            return
        known.missing += 1
        if known.missing == 1:
            self.last.held.append(known.path)
            return
        what = f"{known.rows} rows of it were read and counted"
        if there:
            raise LogError(
                f"{known.path}: expected the file to go on behind what was read of it, found it "
                f"rewritten or cut off; {what}, and counted rows cannot be taken back. Put the "
                "file back, or begin again with another --state and a log that is only added to."
            )
        if not settled(known.stream):
            raise LogError(
                f"{known.path}: the file is gone while a prompt of it was not complete; {what}. "
                "Put it back, also under a rotated or compressed name."
            )
        if known.missing == 2 and not known.closed:
            self.last.notes.append(
                f"{known.path} is gone; {what}. Rows written since the last look are lost."
            )

    def _sniff(self, item: Found) -> Source | None:
        """Return a file as a source, or None while it is not whole."""
        try:
            source = sniff(item.path)
        except LogError:
            if _head(item.path)[:2] in (b"\x1f\x8b", b"\x28\xb5"):
                self.last.incomplete.add(item.path)
                return None
            if not os.path.exists(item.path) or not os.path.getsize(item.path):
                return None
            raise
        whole = True
        if source.codec:
            whole = _decompresses(source)
        elif source.format == "parquet":
            whole = _has_footer(item.path)
        elif item.stat.st_size < 8:
            whole = False  # too short to tell
        if not whole:
            self.last.incomplete.add(item.path)
            return None
        return source

    def _same_bytes(self, known: Known, item: Found) -> bool:
        """Whether a file begins with the very bytes that were read of a stream."""
        if not item.begins_like(known):
            return False
        crc, left = 0, known.offset
        with item.source.open() as stream:
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    return False
                crc, left = zlib.crc32(block, crc), left - len(block)
        return crc == known.crc

    def _same_rows(self, known: Known, item: Found) -> bool:
        """Whether a Parquet file begins with the very rows that were read of a stream."""
        if item.row is not None and item.row != known.head:
            return False
        crc, rows = 0, 0
        for piece in self._pieces(item.source):
            if not len(piece.columns["reward"]):
                continue
            if item.row is None:
                item.row = _first_row(piece)
                if item.row != known.head:
                    return False
            table = _row_bytes(piece)
            crc, rows = zlib.crc32(table[: known.offset - rows], crc), rows + len(table)
            if rows >= known.offset:
                return crc == known.crc
        return False

    # --- reading ---------------------------------------------------------------------------------

    def _lines(self, known: Known, item: Found, final: bool) -> Iterator[Part]:
        source = item.source
        turned = _NAME.fullmatch(item.path)
        rotated = bool(turned and turned["turn"]) and _unchanged(known, item)
        closing = bool(final or source.codec or rotated)
        end = None if closing else _last_newline(item.path, known.offset)
        region = _Region(
            name=source.name,
            size=source.size,
            format="jsonl",
            codec=source.codec,
            first_line=known.lines + 1,
            start=known.offset,
            end=end,
            crc=known.crc,
            head=known.head,
        )
        if (end is None or end > known.offset) and not _blank(region):
            for piece in self._pieces(region):
                yield self._part(known, item, piece)
            _advance(known, region, item.path)
        self._seen(known, item, parquet=False)
        if closing and not known.closed:
            known.closed = True
            yield Part(known, known.rows + 1, None, True)

    def _parquet(self, known: Known, item: Found, final: bool) -> Iterator[Part]:
        known.parquet = True
        skip = known.offset
        for piece in self._pieces(item.source):
            rows = len(piece.columns["reward"])
            if skip >= rows:
                skip -= rows
                continue
            piece, skip = _behind(piece, skip), 0
            if known.offset == 0:
                known.head = _first_row(piece)
            known.crc = zlib.crc32(_row_bytes(piece), known.crc)
            known.offset += len(piece.columns["reward"])
            yield self._part(known, item, piece)
        self._seen(known, item, parquet=True)
        if not known.closed:
            known.closed = True
            yield Part(known, known.rows + 1, None, True)

    def _part(self, known: Known, item: Found, piece: Reduced) -> Part:
        self._check_columns(item.path, piece)
        known.path = item.path
        part = Part(known, known.rows + 1, piece, False)
        known.rows += len(piece.columns["reward"])
        return part

    def _seen(self, known: Known, item: Found, *, parquet: bool) -> None:
        known.path, known.parquet = item.path, parquet
        known.device, known.inode = item.identity
        known.size, known.changed = item.stat.st_size, item.stat.st_mtime_ns
        known.missing = 0

    def _pieces(self, source: Source) -> Iterator[Reduced]:
        threads = min(os.cpu_count() or 1, 8)
        for _, pieces in in_order(tasks(source, self._request), threads):
            yield from pieces

    def _check_columns(self, file: str, piece: Reduced) -> None:
        """All rows of a log need the same columns, whenever they come."""
        here = sorted(name for name in piece.columns if not NATIVE[name].nullable)
        if self._columns is None:
            self._columns = (file, here)
        first, columns = self._columns
        for name in sorted({*columns} ^ {*here}):
            has, lacks = (first, file) if name in columns else (file, first)
            raise LogError(
                f"{lacks}: expected '{name}', which {has} has; a log needs the same columns in all "
                "its rows."
            )

    # --- state -----------------------------------------------------------------------------------

    @property
    def state(self) -> dict:
        """What was read so far, as plain data for JSON."""
        return {
            "sources": self.sources,
            "columns": list(self._columns) if self._columns else None,
            "known": [asdict(known) for known in self.known],
        }

    def restore(self, state: Mapping) -> None:
        """Go on behind what was read when the state was made."""
        self.known = [Known(**fields) for fields in state["known"]]
        self._columns = tuple(state["columns"]) if state["columns"] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Region(Source):
    """A part of a file of JSON lines, from a byte to another.

    Attributes:
        start, end: Decompressed bytes; with None the end of the file.
        crc, head: Checksums of what lies before, to go on from.
        opened: Holds the stream that read it, for what it noted.
    """

    start: int = 0
    end: int | None = None
    crc: int = 0
    head: int = 0
    opened: list = field(default_factory=list)

    def open(self) -> "_RegionStream":
        stream = _RegionStream(self)
        self.opened.append(stream)
        return stream


class _RegionStream(Stream):
    """The bytes of a region; counts them and keeps their checksums."""

    def __init__(self, region: _Region) -> None:
        super().__init__(region)
        if region.codec is None:
            self._file.seek(region.start)
        else:
            skip = region.start
            while skip and (passed := self.read(min(skip, _BLOCK))):
                skip -= len(passed)
        self._left = None if region.end is None else region.end - region.start
        self.crc, self.head = region.crc, region.head
        self.at, self.newlines = region.start, 0

    def fill(self, buffer: memoryview) -> int:
        """Read into a buffer; return the bytes read, fewer than it holds only at the end."""
        want = len(buffer) if self._left is None else min(len(buffer), self._left)
        size = super().fill(buffer[:want])
        data = buffer[:size]
        if self._left is not None:
            self._left -= size
        if self.at < _WINDOW:
            self.head = zlib.crc32(data[: _WINDOW - self.at], self.head)
        self.crc = zlib.crc32(data, self.crc)
        self.at += size
        self.newlines += bytes(data).count(b"\n")
        return size


def _blank(region: _Region) -> bool:
    """Whether nothing but blanks is left: no rows, and no beginning of any."""
    with _RegionStream(region) as stream:
        buffer = bytearray(64)
        size = stream.fill(memoryview(buffer))
        return size < len(buffer) and not buffer[:size].strip()


def _names(source: str) -> Iterator[str]:
    """Yield the files of a log that are there now: of a folder, a pattern, or a file's name."""
    if os.path.isdir(source):
        for parent, folders, files in os.walk(source):
            folders[:] = sorted(name for name in folders if name[0] not in "._")
            for name in sorted(files):
                if name[0] not in "._" and _NAME.fullmatch(name):
                    yield os.path.join(parent, name)
        return
    matches = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else [source]
    for match in matches:
        if os.path.isfile(match):
            yield match
    for match in matches or []:
        yield from _turned(match)
    if glob.has_magic(source):
        # A file may have been rotated away from every name that matches.
        for name in sorted(glob.glob(f"{glob.escape(os.path.dirname(source)) or '.'}/*")):
            turned = _NAME.fullmatch(os.path.basename(name))
            if turned and turned["turn"] and _matches(source, name, turned["base"]):
                yield name


def _turned(path: str) -> Iterator[str]:
    """Yield rotated and compressed names of a file."""
    folder, base = os.path.split(path)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return
    for name in names:
        turned = _NAME.fullmatch(name)
        if turned and name != base and turned["base"] == base:
            yield os.path.join(folder, name)


def _matches(pattern: str, name: str, base: str) -> bool:
    from fnmatch import fnmatch

    return fnmatch(os.path.join(os.path.dirname(name), base), os.path.normpath(pattern))


def _age(path: str) -> tuple:
    """Return a key that puts older files first: numbers as numbers, higher rotations first."""
    turned = _NAME.fullmatch(path)
    base, turn = (turned["base"], turned["turn"]) if turned else (path, None)
    parts = re.split(r"(\d+)", base)
    natural = tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
    if turn is None:
        return natural, 2, 0
    numbers = int(re.sub(r"\D", "", turn))
    # a.jsonl.2 is older than a.jsonl.1, and dated names are older the smaller their date.
    return (natural, 1, -numbers) if turn[0] == "." and len(turn) < 8 else (natural, 0, numbers)


def _unchanged(known: Known, item: Found) -> bool:
    now = (*item.identity, item.stat.st_size, item.stat.st_mtime_ns)
    return now == (known.device, known.inode, known.size, known.changed)


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_WINDOW)
    except OSError:
        return b""


def _has_footer(path: str) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 4, 0))
        return size >= 12 and file.read() == b"PAR1"


def _decompresses(source: Source) -> bool:
    """Whether a compressed file is whole."""
    try:
        with source.open() as stream:
            while stream.read(_BLOCK):
                pass
    except LogError:
        return False
    return True


def _last_newline(path: str, start: int) -> int:
    """Return the byte behind the last newline of a file, at least `start`."""
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at > start:
            begin = max(at - (1 << 16), start)
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
    return start


def _window(path: str, end: int) -> int:
    """Return the checksum of up to 4,096 bytes of a file that end at a byte."""
    with open(path, "rb") as file:
        start = max(end - _WINDOW, 0)
        file.seek(start)
        return zlib.crc32(file.read(end - start))


def _same_windows(known: Known, path: str) -> bool:
    if known.offset == 0:
        return True
    same_head = _window(path, min(known.offset, _WINDOW)) == known.head
    return same_head and (known.tail == 0 or _window(path, known.offset) == known.tail)


def _is_begun(known: Known, there: Found, item: Found) -> bool:
    """Whether a file is the beginning of a stream that is elsewhere: a copy in the making."""
    if known.parquet or item.source.format == "parquet" or item.path == known.path:
        return False
    if known.offset >= _WINDOW and not item.begins_like(known) and len(item.first) == _WINDOW:
        return False  # cheap, so that many can be tried
    if there.source is None and known.closed:
        there = Found(there.path, there.stat, sniff(there.path))
    if there.source is None:
        return False
    with item.source.open() as short, there.source.open() as long:
        size = 0
        while size < known.offset:
            block = short.read(_BLOCK)
            if not block:
                return size > 0
            if long.read(len(block)) != block:
                return False
            size += len(block)
    return False


def _advance(known: Known, region: _Region, path: str) -> None:
    """Note what was read of a region."""
    stream = region.opened[-1]
    known.crc, known.head, known.offset = stream.crc, stream.head, stream.at
    known.lines += stream.newlines
    known.tail = 0 if region.codec else _window(path, known.offset)


def _behind(piece: Reduced, skip: int) -> Reduced:
    """Return the rows of a piece behind the first `skip`."""
    return (
        Reduced({name: values[skip:] for name, values in piece.columns.items()}) if skip else piece
    )


def _first_row(piece: Reduced) -> int:
    """Return a checksum of the first row: most files that are not the same differ in it."""
    return zlib.crc32(_row_bytes(piece)[:1])


def _row_bytes(piece: Reduced) -> np.ndarray:
    """Return the values of each row as words, uint64, shape (rows, columns): a row's identity."""
    columns = []
    for name in sorted(piece.columns):
        values = piece.columns[name]
        if not isinstance(values, np.ndarray):
            values = hash_ids(pc.fill_null(values.cast(pa.large_string()), ""))
        kind = np.float64 if values.dtype.kind == "f" else np.uint64
        columns.append(values.astype(kind).view(np.uint64))
    return np.stack(columns, axis=1)

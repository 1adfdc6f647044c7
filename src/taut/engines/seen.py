"""How far a followed file was read, with which checksum, and whether it still begins so."""

import glob
import os
import re
import stat as modes
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.errors import LogError
from taut.logs.keys import hash_ids, row_keys
from taut.logs.readers.jsonl import MAX_LINE
from taut.logs.reduce import Reduced
from taut.logs.sources import Source, unreadable, walk

WINDOW = 4096  # bytes before the end of what was read that are looked at again when a file grew
_BLOCK = 16 << 20
KINDS = {modes.S_IFIFO: "a pipe", modes.S_IFSOCK: "a socket", modes.S_IFDIR: "a folder"}


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


def mark_of(stat: os.stat_result) -> list[int]:
    """Return what changes when a file does: device, inode, bytes, and time of change in ns."""
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


@contextmanager
def opened(name: str) -> Iterator[int]:
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


def natural(path: str) -> list:
    """Return a key that puts step_2 before step_10."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def bytes_before(file: int, end: int, size: int) -> bytes:
    """Return up to `size` bytes of a file before a byte."""
    start = os.lseek(file, max(end - size, 0), os.SEEK_SET)
    return os.read(file, end - start)


def read_bytes(source: Source, file: int, start: int, end: int | None) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file from one to another; None is its end.

    Raises:
        LogError: A plain file ends earlier, as it was cut off meanwhile.
    """
    if source.codec is None:
        os.lseek(file, start, os.SEEK_SET)
        while start < end:
            block = os.read(file, min(_BLOCK, end - start))
            if not block:
                raise changed_meanwhile(source.name)
            start += len(block)
            yield block
        return
    at = 0
    with source.open() as stream:
        while (end is None or at < end) and (block := stream.read(_BLOCK)):
            yield block[max(start - at, 0) : None if end is None else end - at]
            at += len(block)


def check_bytes(known: Known, source: Source, file: int, *, whole: bool = True) -> None:
    """Raise where a file does not begin with the very bytes that were read of it."""
    if source.codec is None and source.size < known.offset:
        raise rewritten(known)
    if whole:
        crc = 0
        for block in read_bytes(source, file, 0, known.offset):
            crc = zlib.crc32(block, crc)
        same = crc == known.crc
    else:
        same = zlib.crc32(bytes_before(file, known.offset, WINDOW)) == known.tail
    if not same:
        raise rewritten(known)


def whole_lines(blocks: Iterator[bytes], *, last: bool) -> Iterator[bytes]:
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


def row_keys_of(piece: Reduced) -> np.ndarray:
    """Return the values of each row as one word, uint64, shape (rows,): a row's identity."""
    columns = []
    for name in sorted(piece.columns):
        values = piece.columns[name]
        if not isinstance(values, np.ndarray):
            values = hash_ids(pc.fill_null(values.cast(pa.large_string()), ""))
        columns.append(values)
    return row_keys(columns)


def rewritten(known: Known) -> LogError:
    """Return the error of a file that no longer holds what was counted."""
    return LogError(
        f"{known.path}: expected the file to go on behind what was read of it, found it rewritten "
        f"or cut off; {known.rows} rows of it were read and counted, and counted rows cannot be "
        "taken back, nor labels be added to them. Put the file back, or begin again with another "
        "--state and a log that is only added to."
    )


def changed_meanwhile(name: str) -> LogError:
    """Return the error of a file that was written to while it was read."""
    return LogError(
        f"{name}: expected a file that stays as it is while it is read, found it changed; look "
        "again, and write under another name (.tmp, renamed when it is whole)."
    )

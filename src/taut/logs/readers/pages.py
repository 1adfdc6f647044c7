"""The pages of a column of lists of floats: levels and values, as they lie in a Parquet file.

The usual page is read here: plain, dictionary or byte-stream-split values, of version 1 or 2,
stored as it is or packed by Snappy, Zstandard or LZ4. Whatever is not as usual, or not as promised,
raises `Unusual`, and PyArrow reads it: what is damaged is its to say. No length in a file is
believed before it is compared with what there is.

Source: the Parquet format (parquet.thrift, encodings, Dremel levels).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from taut.logs.readers.footer import Sizes
from taut.logs.readers.levels import (
    FIELDS,
    SHORT,
    below,
    look_up,
    page_header,
    unsplit4,
    unsplit8,
)
from taut.logs.readers.unpack import CODECS, STORED, Unusual, unpack

_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3  # kinds of pages
_V1, _OF_DICTIONARY, _V2 = 5 * FIELDS, 7 * FIELDS, 8 * FIELDS  # their structs in a header
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY, _SPLIT = 0, 2, 3, 8, 9  # encodings
_WINDOW = 16 << 10  # read at once: a header, and the levels of a page of long lists
_LARGEST_HEADER = 1 << 20
_LARGEST_PAGE = 1 << 28  # bytes
_MOST_SLOTS = 1 << 26  # of a page
_ABSENT = np.iinfo(np.int64).min


def room(array: np.ndarray, used: int, size: int, spare: int = 0) -> np.ndarray:
    """Return an array with room for `size`, with what is used of the old one."""
    if size <= array.size:
        return array
    larger = np.empty(max(size + spare, array.size + array.size // 2), array.dtype)
    larger[:used] = array[:used]
    return larger


@dataclass(frozen=True, slots=True)
class Page:
    """One data page.

    Attributes:
        slots: Values, nulls and empty lists of it.
        starts: Slots at which rows begin; the first `rows` count.
        rows: Rows that begin in it.
        gaps, levels: Slots without a value, and their definition levels; `holes` of them.
        holes: How many.
        read: Puts its values into an array of their number.
    """

    slots: int
    starts: np.ndarray
    rows: int
    gaps: np.ndarray
    levels: np.ndarray
    holes: int
    read: Callable[[np.ndarray], None]


class Pages:
    """The pages of a column chunk, in order; each is only valid until the next.

    Args:
        file: The file, of its own; it is closed by the caller.
        dtype: float32 or float64.
        top: The highest definition level, 1 to 3.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype, top: int) -> None:
        self._file, self._dtype, self._top = file, dtype, top
        self._window = np.empty(_WINDOW, np.uint8)
        self._from = self._to = 0  # what of the file is in the window
        self._header = np.empty(16 * FIELDS, np.int64)
        self._scratch = np.empty(0, np.uint8)
        self._starts = np.empty(0, np.int64)
        self._gaps, self._levels = np.empty(0, np.int64), np.empty(0, np.uint8)
        self._at = self._end = self._slots = self._codec = 0
        self._table: np.ndarray | None = None

    @property
    def done(self) -> bool:
        """All values of the chunk are read."""
        return self._slots == 0

    def open(self, sizes: Sizes) -> None:
        """Go to the first page of a chunk."""
        if sizes.values < 0 or sizes.stored < 0 or sizes.start < 4 or sizes.codec not in CODECS:
            raise Unusual("a chunk that lies nowhere")
        self._at, self._end = sizes.start, sizes.start + sizes.stored
        self._from = self._to = 0
        self._slots, self._codec, self._table = sizes.values, sizes.codec, None

    def next(self) -> Page | None:
        """Return the next page of data; None where it was a dictionary."""
        header, at = self._read_header()
        kind, full, stored = (int(header[field]) for field in (1, 2, 3))
        if not (0 <= full <= _LARGEST_PAGE and 0 <= stored <= self._end - at):
            raise Unusual("a page of no size")
        if header[4] != _ABSENT:
            body = self._body(at, stored)
            if zlib.crc32(body) != int(header[4]) & 0xFFFFFFFF:
                raise Unusual("a checksum that is wrong")
        self._at = at + stored
        if kind == _DICTIONARY:
            self._read_dictionary(header, at, full, stored)
            return None
        struct = {_DATA: _V1, _DATA_2: _V2}.get(kind)
        if struct is None:
            raise Unusual("a page of another kind")
        slots = int(header[struct + 1])
        if not 0 <= slots <= min(self._slots, _MOST_SLOTS):
            raise Unusual("a page with more values than the footer promises")
        page = (self._first if kind == _DATA else self._second)(header, at, full, stored, slots)
        self._slots -= slots
        return page

    def _read_header(self) -> tuple[np.ndarray, int]:
        """Return the numbers of the header here, and where it ends in the file."""
        size = 512
        while True:
            have = self._look(self._at, size)
            self._header[:] = _ABSENT
            at = page_header(
                self._window, self._at - self._from, self._to - self._from, self._header
            )
            if at >= 0:
                break
            if at != SHORT or have < size or size >= _LARGEST_HEADER:
                raise Unusual("no header")
            size *= 4
        at += self._from
        if at > self._end:
            raise Unusual("a header beyond its chunk")
        return self._header, at

    def _look(self, at: int, size: int) -> int:
        """Have bytes of the file in the window; return how many from `at` on: `size`, or more."""
        size = min(size, self._end - at)
        if self._from <= at and at + size <= self._to:
            return self._to - at
        if size > self._window.size:
            self._window = np.empty(size, np.uint8)
        self._from = self._to = at
        want = min(self._window.size, self._end - at)
        self._to = at + self._fill(at, self._window[:want])
        return self._to - at

    def _fill(self, at: int, out: np.ndarray) -> int:
        """Read from the file into an array of bytes; return how many there were."""
        self._file.seek(at)
        view, got = memoryview(out), 0
        while got < len(view) and (more := self._file.readinto(view[got:])):
            got += more
        return got

    def _copy(self, at: int, out: np.ndarray) -> None:
        """Put bytes of the file into an array, from the window as far as they are there."""
        known = 0
        if self._from <= at < self._to:
            known = min(self._to - at, out.size)
            out[:known] = self._window[at - self._from : at - self._from + known]
        if known < out.size and self._fill(at + known, out[known:]) < out.size - known:
            raise Unusual("a file that ends in a page")

    def _body(self, at: int, stored: int) -> np.ndarray:
        self._scratch = room(self._scratch, 0, stored)
        body = self._scratch[:stored]
        self._copy(at, body)
        return body

    def _unpacked(self, at: int, stored: int, full: int) -> np.ndarray:
        """Return bytes of the file, decompressed to exactly `full` bytes."""
        if self._codec == STORED:
            if stored != full:
                raise Unusual("a stored page of two sizes")
            return self._body(at, stored)
        return unpack(self._codec, self._body(at, stored), full)

    def _read_dictionary(self, header: np.ndarray, at: int, full: int, stored: int) -> None:
        size, encoding = int(header[_OF_DICTIONARY + 1]), int(header[_OF_DICTIONARY + 2])
        usual = encoding in (_PLAIN, _PLAIN_DICTIONARY) and self._table is None
        if not usual or size < 0 or size * self._dtype.itemsize != full:
            raise Unusual("another kind of dictionary")
        self._table = self._unpacked(at, stored, full).view(self._dtype).copy()

    def _first(self, header: np.ndarray, at: int, full: int, stored: int, slots: int) -> Page:
        """Return a page of version 1: levels and values packed as one."""
        if header[_V1 + 3] != _RLE or header[_V1 + 4] != _RLE:
            raise Unusual("levels of another encoding")
        encoding = int(header[_V1 + 2])
        if self._codec == STORED and encoding == _PLAIN and stored == full:
            return self._stored(at, full, slots)
        data = self._unpacked(at, stored, full)
        (rep, values), (deep, begin) = self._two_levels(data)
        levels = self._levels_of(data, (rep, values), (deep, begin), slots)
        return self._made(levels, slots, self._from_bytes(data, begin, encoding))

    def _two_levels(self, data: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return where the levels of a page of version 1 are, each behind its length."""
        out, at = [], 0
        for _ in range(2):
            length = int.from_bytes(data[at : at + 4].tobytes(), "little")
            if data.size - at < 4 or length > data.size - at - 4:
                raise Unusual("levels beyond their page")
            out.append((at + 4, at + 4 + length))
            at += 4 + length
        return out[0], out[1]

    def _stored(self, at: int, full: int, slots: int) -> Page:
        """Return a page that is not packed: its values go from the file to where they belong."""
        size = min(self._look(at, min(full, _WINDOW // 2)), full)
        data = self._window[at - self._from : at - self._from + size]
        try:
            rep, deep = self._two_levels(data)
        except Unusual:  # unless they are longer than a window
            data = self._body(at, full)
            rep, deep = self._two_levels(data)
        levels = self._levels_of(data, rep, deep, slots)
        begin = deep[1]

        def read(out: np.ndarray) -> None:
            if out.nbytes != full - begin:
                raise Unusual("another number of values")
            self._copy(at + begin, out.view(np.uint8))

        return self._made(levels, slots, read)

    def _second(self, header: np.ndarray, at: int, full: int, stored: int, slots: int) -> Page:
        """Return a page of version 2: levels as they are, then values, packed or not."""
        deep, rep = int(header[_V2 + 5]), int(header[_V2 + 6])
        both = rep + deep
        if min(deep, rep) < 0 or both > min(full, stored):
            raise Unusual("levels beyond their page")
        heads = np.empty(both, np.uint8)
        self._copy(at, heads)
        levels = self._levels_of(heads, (0, rep), (rep, both), slots)
        starts, rows = levels[:2]
        if (
            header[_V2 + 2] < 0
            or rows != header[_V2 + 3]
            or (slots and not (rows and starts[0] == 0))
        ):
            raise Unusual("another number of rows than the header says")
        packed = header[_V2 + 7] in (_ABSENT, 1)
        if not packed and stored != full:
            raise Unusual("a stored page of two sizes")
        encoding, codec = int(header[_V2 + 4]), self._codec if packed else STORED
        if codec == STORED:
            data = self._body(at + both, stored - both)
        else:
            data = unpack(codec, self._body(at + both, stored - both), full - both)
        return self._made(levels, slots, self._from_bytes(data, 0, encoding))

    def _levels_of(
        self, data: np.ndarray, rep: tuple[int, int], deep: tuple[int, int], slots: int
    ) -> tuple[np.ndarray, int, np.ndarray, np.ndarray, int]:
        self._starts, self._gaps = room(self._starts, 0, slots), room(self._gaps, 0, slots)
        self._levels = room(self._levels, 0, slots)
        rows = below(data, *rep, slots, 1, 1, self._starts, self._levels)
        width = 1 if self._top == 1 else 2
        holes = below(data, *deep, slots, width, self._top, self._gaps, self._levels)
        if rows < 0 or holes < 0:
            raise Unusual("levels that are none")
        return self._starts, rows, self._gaps, self._levels, holes

    def _made(self, levels: tuple, slots: int, read: Callable[[np.ndarray], None]) -> Page:
        starts, rows, gaps, deep, holes = levels
        return Page(slots, starts, rows, gaps, deep, holes, read)

    def _from_bytes(
        self, data: np.ndarray, begin: int, encoding: int
    ) -> Callable[[np.ndarray], None]:
        """Return what decodes the values of a page that is in memory, unpacked."""

        def read(out: np.ndarray) -> None:
            if encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
                _read_indices(data, begin, self._table, out)
                return
            if out.nbytes != data.size - begin:
                raise Unusual("another number of values")
            if encoding == _PLAIN:
                out.view(np.uint8)[:] = data[begin:]
            elif encoding == _SPLIT and out.itemsize == 4:
                unsplit4(data, begin, out.view(np.uint32))
            elif encoding == _SPLIT:
                unsplit8(data, begin, out.view(np.uint64))
            else:
                raise Unusual("another encoding")

        return read


def _read_indices(data: np.ndarray, begin: int, table: np.ndarray | None, out: np.ndarray) -> None:
    if table is None:
        raise Unusual("a page without its dictionary")
    if not out.size:
        return
    width = int(data[begin]) if begin < data.size else 33
    if width > 32 or look_up(data, begin + 1, data.size, width, table, out) < 0:
        raise Unusual("indices that are none")

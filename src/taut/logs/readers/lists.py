"""Lists of floats straight from the pages of a Parquet file, without Arrow's lists in between.

Values come into one array, rows as places in it, just as PyArrow would give them, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from taut.logs.readers.footer import Sizes
from taut.logs.readers.levels import place, spread
from taut.logs.readers.pages import Pages, room
from taut.logs.readers.unpack import Unusual
from taut.logs.reduce import Values
from taut.logs.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column of lists of floats.

    Attributes:
        dtype: float32 or float64.
        outer: A list may be null.
        inner: A value may be null.
        chunks: Where its pages lie, and its rows, one a row group.
    """

    dtype: np.dtype
    outer: bool
    inner: bool
    chunks: Sequence[tuple[Sizes, int]]


class ListReader:
    """Reads one column of lists, some rows at a time.

    Args:
        file: The file, of its own; it is closed by the caller.
        column: What is read of it.
        spare: Arrays that are free to be used, and to be left here at the end: memory that is new
            costs as much as what is read into it. What `take` gives is then overwritten by the
            next `take`; without, it may be kept.
    """

    def __init__(
        self, file: BinaryIO, column: ListColumn, spare: list[np.ndarray] | None = None
    ) -> None:
        self._pages = Pages(file, column.dtype, 1 + column.outer + column.inner)
        self._column, self._spare = column, spare
        self._chunk = -1  # the one that is read
        self._rows_left = 0  # rows of it that have not begun
        self._values = np.empty(0, column.dtype)
        if spare:
            free = spare.pop()
            self._values = free[: free.size // 8 * 8].view(column.dtype)
        self._first = self._tokens = 0  # in `_values`, from one to the other, what is not yet taken
        self._starts = np.empty(0, np.int64)
        self._missing = np.empty(0, np.bool_)
        self._rows = 0  # begun, in `_starts`
        self._nulls: list[np.ndarray] = []
        self._given = (0, 0)  # rows of the last `take`, and where their tokens end
        self._closed = True  # the last row takes no more values

    def take(self, rows: int) -> Values:
        """Return the next rows.

        Raises:
            Unusual: PyArrow is to read them.
            OSError: The file cannot be read.
        """
        self._drop()
        while self._rows < rows or (self._rows == rows and not self._pages.done):
            if self._pages.done:
                self._next_chunk()
            else:
                self._page()
        first = self._first
        end = int(self._starts[rows]) if self._rows > rows else self._tokens
        starts = self._starts[:rows] - first
        ends = np.append(starts[1:], end - first)[: len(starts)]
        missing = self._missing[:rows].copy() if self._missing[:rows].any() else None
        null = None
        if self._nulls:
            together = np.concatenate(self._nulls)
            here = together < end
            self._nulls = [together[~here]] if not here.all() else []
            null = together[here] - first if here.any() else None
        self._given = (rows, end)
        return Values(Tokens(self._values[first:end], starts, ends, null), missing)

    def close(self) -> None:
        """Leave the array of values to others."""
        if self._spare is not None:
            self._spare.append(self._values.view(np.uint8))
            self._values = self._values[:0]

    def _drop(self) -> None:
        """Leave out the rows that were taken; values stay where they are."""
        rows, end = self._given
        begun = self._rows - rows
        self._starts[:begun] = self._starts[rows : self._rows]
        self._missing[:begun] = self._missing[rows : self._rows]
        self._rows, self._first, self._given = begun, max(self._first, end), (0, 0)

    def _make_room(self, slots: int) -> None:
        """Have room for so many more values; what is left of earlier ones goes to the front.

        That is little, as there is more to come only where it is less than what is to be taken.
        """
        if self._tokens + slots <= self._values.size:
            return
        first = self._first
        left = self._values[first : self._tokens]
        if self._spare is None:  # what was given stays as it is
            size = max(left.size + slots, self._values.size)
            self._values = np.empty(size, self._column.dtype)
        if first or self._spare is None:
            self._values[: left.size] = left  # NumPy copies what overlaps aside
        self._starts[: self._rows] -= first
        self._nulls = [null - first for null in self._nulls]
        self._first, self._tokens = 0, left.size
        self._values = room(self._values, left.size, left.size + slots, slots)

    def _next_chunk(self) -> None:
        self._chunk += 1
        if self._rows_left or self._chunk >= len(self._column.chunks):
            raise Unusual("more or fewer rows than the footer promises")
        sizes, self._rows_left = self._column.chunks[self._chunk]
        self._closed = True
        self._pages.open(sizes)

    def _page(self) -> None:
        page = self._pages.next()
        if page is None:
            return  # of the dictionary
        if page.rows > self._rows_left:
            raise Unusual("more rows than the footer promises")
        ahead = int(page.starts[0]) if page.rows else page.slots
        if ahead and self._closed:
            raise Unusual("values of no row")
        self._rows_left -= page.rows
        self._make_room(page.slots)
        rows = self._rows + page.rows
        self._starts = room(self._starts, self._rows, rows)
        self._missing = room(self._missing, self._rows, rows)
        nulls = np.empty(page.holes, np.int64)
        gone, none, closed = place(
            page.starts,
            page.rows,
            page.gaps,
            page.levels,
            page.holes,
            page.slots,
            int(self._column.outer),
            self._tokens,
            self._starts[self._rows : rows],
            self._missing[self._rows : rows],
            nulls,
        )
        if gone < 0:
            raise Unusual("a list that is empty and goes on")
        tokens = self._tokens + page.slots - gone
        out = self._values[self._tokens : tokens]
        if none:
            held = np.empty(page.slots - page.holes, self._column.dtype)
            page.read(held)
            spread(held, nulls[:none], self._tokens, out)
            self._nulls.append(nulls[:none])
        else:
            page.read(out)
        if page.slots:
            self._closed = bool(closed)
        self._tokens, self._rows = tokens, rows

"""The footer of a Parquet file, read by ourselves: where columns lie, which hold nothing.

PyArrow's own view of a column chunk ends the whole process where a column is encrypted or its
histograms do not fit (parquet::ParquetException across Cython, seen in PyArrow 26). What its
reader refuses by an error, this file never asks for: it walks the footer itself and needs a few
numbers of it.

Source: the Parquet format, parquet.thrift and the Thrift compact protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taut.errors import LogError
from taut.logs import places

_MAGIC = b"PAR1"
_LARGEST = 1 << 28  # bytes of a footer
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Sizes:
    """One column of one row group.

    Attributes:
        values: Values, those in lists and nulls counted.
        bytes: Uncompressed bytes of its pages.
        nulls: Values that are null; None where the writer did not say.
        codec: Number of the codec of its pages; -1 where they lie in another file.
        start: Where its first page begins, bytes from the start of the file.
        stored: Bytes of its pages as stored, their headers among them.
        levels: Repetition and definition levels that were counted, 0 where they were not.
    """

    values: int
    bytes: int
    nulls: int | None
    codec: int = -1
    start: int = 0
    stored: int = 0
    levels: tuple[int, int] = (0, 0)


def column_sizes(path: str, name: str) -> list[dict[str, Sizes]]:
    """Return the sizes of all columns of each row group, by dotted path.

    Args:
        path: The file.
        name: What to call it in messages.

    Raises:
        LogError: The footer is damaged, or a column is encrypted.
    """
    footer = _footer(path, name)
    try:
        return _sizes(_Reader(footer).struct(0), name)
    except LogError:
        raise
    except (IndexError, ValueError, KeyError, AttributeError, TypeError, OverflowError):
        raise LogError(
            f"{name}: expected a whole Parquet file, found its footer damaged; write or copy the "
            "file again."
        ) from None


def _footer(path: str, name: str) -> bytes:
    with places.open_file(path) as file:
        size = file.size()
        file.seek(max(size - 8, 0))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or length > min(size - 12, _LARGEST):
            raise LogError(
                f"{name}: expected a whole Parquet file, found it damaged or cut off (no footer at "
                "its end); write or copy the file again."
            )
        file.seek(size - 8 - length)
        return file.read(length)


def _sizes(footer: Mapping[int, Any], name: str) -> list[dict[str, Sizes]]:
    out = []
    for group in footer.get(4, []):
        found = {}
        for chunk in group[1]:
            if 8 in chunk or 9 in chunk or 3 not in chunk:
                raise LogError(
                    f"{name}: expected Parquet without encryption, found an encrypted column; "
                    "write it without encryption."
                )
            about = chunk[3]
            column = b".".join(about[3]).decode("utf-8", "replace")
            found[column] = _of_chunk(about, elsewhere=1 in chunk)
        out.append(found)
    return out


def _of_chunk(about: Mapping[int, Any], *, elsewhere: bool) -> Sizes:
    numbers = [about[field] for field in (4, 5, 6, 7, 9)] + [about.get(11, 0)]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("a size that is no number")
    codec, values, size, stored, start, dictionary = numbers
    counted = about.get(16, {})
    return Sizes(
        values=values,
        bytes=size,
        nulls=about.get(12, {}).get(3),
        codec=-1 if elsewhere else codec,
        start=dictionary if 0 < dictionary < start else start,
        stored=stored,
        levels=(len(counted.get(2, ())), len(counted.get(3, ()))),
    )


class _Reader:
    """Thrift's compact protocol, as nested dictionaries of field numbers."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("text beyond the end")
        self._at += size
        return self._data[self._at - size : self._at]

    def struct(self, depth: int) -> dict[int, Any]:
        """Return the fields of a struct."""
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        out: dict[int, Any] = {}
        number = 0
        while head := self._bytes(1)[0]:
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            out[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return out

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._bytes(1)[0]
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._bytes(1)[0]
            size = head >> 4 if head >> 4 < 15 else self._varint()
            if size > len(self._data):
                raise ValueError("a list beyond the end")
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("an unknown kind of value")

"""Packed bytes of pages, unpacked to a size that is known and checked.

Source: the formats of Snappy blocks, LZ4 blocks and Zstandard frames (RFC 8878).
"""

import numpy as np
import pyarrow as pa

from taut.logs.readers.levels import lz4_size

STORED = 0  # numbers of codecs in a footer
_SNAPPY, _ZSTD, _LZ4 = 1, 6, 7
_UNPACK = {
    _SNAPPY: pa.Codec("snappy"),
    _ZSTD: pa.Codec("zstd"),
    _LZ4: pa.Codec("lz4_raw"),
}
CODECS = frozenset((STORED, *_UNPACK))


class Unusual(Exception):
    """Pages that PyArrow is to read, or refuse."""


def unpack(codec: int, data: np.ndarray, full: int) -> np.ndarray:
    """Unpack bytes to exactly `full` ones.

    PyArrow's codecs do not say how many bytes they gave: the rest would be whatever was in memory.
    So lengths are taken from the packed bytes, where they stand, before anything is unpacked.
    """
    if full == 0:
        return data[:0]  # writers differ in what they store of nothing
    try:
        if codec == _SNAPPY:
            if _snappy_size(data) != full:
                raise Unusual("a page that unpacks to another size")
            return np.frombuffer(_UNPACK[codec].decompress(data, full), np.uint8)
        if codec == _LZ4:
            if lz4_size(data) != full:
                raise Unusual("a page that unpacks to another size")
            return np.frombuffer(_UNPACK[codec].decompress(data, full), np.uint8)
        if _zstd_size(data) == full:
            return np.frombuffer(_UNPACK[codec].decompress(data, full), np.uint8)
        return _stream(data, full)
    except (pa.ArrowException, OSError):
        raise Unusual("packed bytes that are damaged") from None


def _snappy_size(data: np.ndarray) -> int:
    """Return the length that a block of Snappy begins with; it gives that many bytes or none."""
    size = shift = 0
    for byte in data[:5].tobytes():
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size
        shift += 7
    return -1


def _zstd_size(data: np.ndarray) -> int:
    """Return the length that a frame of Zstandard says it has; -1 where it does not say."""
    head = data[:18].tobytes()
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 18:
        return -1
    single, flag = head[4] >> 5 & 1, head[4] >> 6
    at = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    width = (1 if single else 0, 2, 4, 8)[flag]
    size = int.from_bytes(head[at : at + width], "little") + (256 if flag == 1 else 0)
    return size if width else -1


def _stream(data: np.ndarray, full: int) -> np.ndarray:
    """Unpack a stream that does not say its length, and see that it ends where it should."""
    out = np.empty(full, np.uint8)
    view, got = memoryview(out), 0
    with pa.CompressedInputStream(pa.py_buffer(data), "zstd") as stream:
        while got < full and (more := stream.readinto(view[got:])):
            got += more
        if got < full or stream.read(1):
            raise Unusual("a page that unpacks to another size")
    return out

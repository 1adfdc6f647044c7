"""The long lists of a JSON line, read by compiled code; everything else stays with orjson.

A rollout's line is almost all token log-probs. `scan` parses those flat lists of numbers itself,
strictly and correctly rounded, and replaces each by its index, so that orjson checks and parses a
short line. Whatever is unusual (an escape in a key, a null among the numbers, more than 19 digits)
is left as it is, and the whole line goes to orjson. Numbers are converted by `decimals`.
"""

from dataclasses import dataclass

import numba
import numpy as np

from taut.logs.readers.decimals import (
    NEWLINES,
    ONES,
    QUOTES,
    SLASHES,
    TOPS,
    U,
    byte_at,
    load8,
    parse_number,
    trailing_zeros,
)

PADDING = 16  # bytes behind a text, so that eight can be read at any place
SLOW, REPEATED = 1, 2  # flags of a line: for orjson alone; a wanted key comes twice


@numba.njit(cache=True, nogil=True)
def _skip(data, at):
    while byte_at(data, at) == 32 or byte_at(data, at) == 9 or byte_at(data, at) == 13:
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _list(data, at, bits, count):
    """Parse a flat list of numbers from its bracket; return its end, or -1, and the new count."""
    at = _skip(data, at + 1)
    if byte_at(data, at) == 93:
        return at + 1, count
    while True:
        value, at = parse_number(data, at)
        if at < 0:
            return -1, count
        bits[count] = value
        count += 1
        if byte_at(data, at) != 44:
            at = _skip(data, at)
            if byte_at(data, at) == 93:
                return at + 1, count
            if byte_at(data, at) != 44:
                return -1, count
        at += 1
        if byte_at(data, at) <= 32:
            at = _skip(data, at)


@numba.njit(cache=True, nogil=True)
def _line_end(data, at, end):
    """Return the first newline from `at`, eight bytes at a time; `end` if there is none."""
    while at < end:
        found = _zero_bytes(load8(data, at) ^ NEWLINES)
        if found != U(0):
            return min(at + (trailing_zeros(found) >> 3), end)
        at += 8
    return end


@numba.njit(cache=True, nogil=True)
def _zero_bytes(eight):
    """Mark the bytes that are 0 by their top bit; marks above the lowest may be wrong."""
    return (eight - ONES) & ~eight & TOPS


@numba.njit(cache=True, nogil=True)
def _special(data, at, end):
    """Return the first quote, backslash or newline from `at`; `end` if there is none."""
    while at < end:
        eight = load8(data, at)
        found = (
            _zero_bytes(eight ^ QUOTES)
            | _zero_bytes(eight ^ SLASHES)
            | _zero_bytes(eight ^ NEWLINES)
        )
        if found != U(0):
            return min(at + (trailing_zeros(found) >> 3), end)
        at += 8
    return end


@numba.njit(cache=True, nogil=True)
def _string_end(data, at, end):
    """Return the position after a string that begins at `at`, and whether it holds an escape.

    A string that its line does not close ends at the newline.
    """
    at = _special(data, at + 1, end)
    escaped = False
    while at < end and byte_at(data, at) == 92:
        escaped = True
        if byte_at(data, at + 1) == 10:
            return at + 1, escaped
        at = _special(data, at + 2, end)
    if at < end and byte_at(data, at) == 34:
        at += 1
    return min(at, end), escaped


@numba.njit(cache=True, nogil=True)
def _which(data, start, end, names, ends):
    """Return which of some names the bytes spell, or -1."""
    begin = 0
    for index in range(ends.size):
        if ends[index] - begin == end - start:
            same = True
            for j in range(end - start):
                if data[start + j] != names[begin + j]:
                    same = False
                    break
            if same:
                return index
        begin = ends[index]
    return -1


@numba.njit(cache=True, nogil=True)
def _write_index(short, to, value):
    """Write a number in decimal; return where it ends."""
    size, rest = 1, value // 10
    while rest:
        size, rest = size + 1, rest // 10
    for j in range(size):
        short[to + size - 1 - j] = 48 + value % 10
        value //= 10
    return to + size


@numba.njit(cache=True, nogil=True)
def _key(data, at, end):
    """Return where a string ends, where its value begins if it is a key (else -1), escaped."""
    stop, escaped = _string_end(data, at, end)
    after = _skip(data, stop)
    if after < end and byte_at(data, after) == 58:
        return stop, _skip(data, after + 1), escaped
    return stop, -1, escaped


@numba.njit(cache=True, nogil=True)
def _within(data, at, wrapped):
    """Step into a list that holds a list, where that may be; return the place, and whether."""
    if wrapped and byte_at(data, at) == 91:
        inner = _skip(data, at + 1)
        if byte_at(data, inner) == 91:
            return inner, True
    return at, False


@numba.njit(cache=True, nogil=True)
def _value(data, at, bits, count, inner):
    """Parse a value that is a flat list of numbers; return its end, or -1, and the new count.

    A list that is the one value of another list (`inner`) may end with that one's bracket.
    """
    if byte_at(data, at) != 91:
        return -1, count
    stop, count = _list(data, at, bits, count)
    if stop >= 0:
        after = byte_at(data, _skip(data, stop))
        if after != (93 if inner else 44) and (inner or after != 125):
            return -1, count  # else an index and the byte behind it could make one number
    return stop, count


@numba.njit(cache=True, nogil=True)
def _scan_line(
    data, start, size, names, ends, lists, wrapped, short, to, bits, count, cuts, cut, seen
):
    """Shorten one line; return its flags, its end, and the new lengths of short, bits and cuts."""
    for name in range(seen.size):
        seen[name] = False
    flags, depth, copied, at = 0, 0, start, start
    first_to, first_count, first_cut = to, count, cut
    while at < size and not flags & SLOW:
        byte = byte_at(data, at)
        if byte == 10:
            break
        if byte != 34:
            depth += (byte == 123) - (byte == 125)
            at += 1
            continue
        stop, after, escaped = _key(data, at, size)
        if after < 0:
            at = stop
            continue
        name = _which(data, at + 1, stop - 1, names, ends)
        at = after
        flags |= SLOW if escaped else 0
        if name < 0:
            continue
        if depth == 1:
            flags |= REPEATED if seen[name] else 0
            seen[name] = True
        if not lists[name]:
            continue
        cuts[cut, 0] = count
        at, inner = _within(data, at, wrapped)
        stop, count = _value(data, at, bits, count, inner)
        if stop < 0:
            flags |= SLOW
            continue
        cuts[cut, 1] = count
        to = _copy(data, copied, at, short, to)
        to = _write_index(short, to, cut)
        cut += 1
        copied = at = stop
    end = at
    if flags & SLOW:
        end = _line_end(data, at, size)
        to, count, cut, copied = first_to, first_count, first_cut, start
    return flags, end, _copy(data, copied, end, short, to), count, cut


@numba.njit(cache=True, nogil=True)
def _copy(data, start, end, short, to):
    """Copy bytes; return where the copy ends. A loop: slices take seconds to compile."""
    for at in range(end - start):
        short[to + at] = data[start + at]
    return to + end - start


@numba.njit(cache=True, nogil=True)
def _scan(data, size, names, ends, lists, wrapped, short, bits, cuts, lines):
    """Shorten all lines; fill `lines` with number, place, short place and flags of each."""
    at = to = count = cut = number = kept = 0
    seen = np.zeros(ends.size, dtype=np.bool_)
    while at < size:
        end = _skip(data, at)
        if end < size and byte_at(data, end) != 10:
            begin = to
            flags, end, to, count, cut = _scan_line(
                data,
                at,
                size,
                names,
                ends,
                lists,
                wrapped,
                short,
                to,
                bits,
                count,
                cuts,
                cut,
                seen,
            )
            row = lines[kept]
            row[0], row[1], row[2], row[3], row[4], row[5] = number, at, end, begin, to, flags
            kept += 1
        number += 1
        at = end + 1
    return kept, count, cut


@dataclass(frozen=True, slots=True)
class Scan:
    """Lines with their lists of numbers taken out.

    Attributes:
        values: All numbers of the lists, float64, shape (numbers,).
        cuts: Where each list begins and ends in `values`, int64, shape (lists, 2).
        lines: For each line that is not blank: offset of its number from the first; begin and end
            in the text; begin and end in `short`; flags. int64, shape (lines, 6).
        short: The shortened text: each list replaced by its index in `cuts`.
    """

    values: np.ndarray
    cuts: np.ndarray
    lines: np.ndarray
    short: memoryview


def count_lines(text: np.ndarray) -> int:
    """Return the number of newlines in some bytes."""
    return int(_count(text))


def last_line_end(text: np.ndarray) -> int:
    """Return the position behind the last newline in some bytes, 0 if there is none."""
    return int(_last(text))


@numba.njit(cache=True, nogil=True)
def _count(text):
    count = 0
    for byte in text:
        count += byte == 10
    return count


@numba.njit(cache=True, nogil=True)
def _last(text):
    at = text.size
    while at > 0 and text[at - 1] != 10:
        at -= 1
    return at


def scan(
    text: np.ndarray,
    size: int,
    lists: frozenset[str],
    others: frozenset[str],
    *,
    wrapped: bool = False,
) -> Scan:
    """Take the flat lists of numbers under some keys out of JSON lines.

    Args:
        text: Bytes, uint8, of shape (size + PADDING,) or more; whatever is behind `size` must be
            zeros if the last line has no newline.
        size: Bytes of whole lines in it.
        lists: Keys whose lists are wanted, at any depth.
        others: Further keys; a line where one of either comes twice at the top is flagged.
        wrapped: A wanted list may stand alone in another list, which is kept around its index.
    """
    names = [name.encode() for name in (*sorted(lists), *sorted(others - lists))]
    short = np.empty(2 * size, dtype=np.uint8)  # an index may be longer than its list
    bits = np.empty(size // 2 + 1, dtype=np.uint64)
    cuts = np.empty((size // 5 + 1, 2), dtype=np.int64)  # "k":[] is the shortest
    lines = np.empty((count_lines(text[:size]) + 1, 6), dtype=np.int64)
    kept, numbers, cut = _scan(
        text,
        size,
        np.frombuffer(b"".join(names) or b" ", dtype=np.uint8),
        np.cumsum([len(name) for name in names], dtype=np.int64),
        np.arange(len(names)) < len(lists),
        wrapped,
        short,
        bits,
        cuts,
        lines,
    )
    return Scan(bits[:numbers].view(np.float64), cuts[:cut], lines[:kept], memoryview(short))

"""The bytes of a Parquet page, compiled: headers, levels, and values as they were encoded.

Nothing here trusts a byte: every function is told where its bytes end, and says by a negative
number that they are not what the format promises.

Source: the Parquet format: the Thrift compact protocol, the RLE / bit-packed hybrid, Dremel levels.
"""

import numba
import numpy as np

SHORT = -2  # a header goes on beyond the bytes given
BAD = -1
_DEEPEST = 8
FIELDS = 16  # numbers kept of a struct; field f of the header is out[f], of struct s out[16 s + f]


@numba.njit(cache=True, nogil=True)
def _varint(data, at, end):
    """Return a varint and where it ends; SHORT or BAD in place of the end."""
    value, shift = np.uint64(0), 0
    while at < end:
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            return value, BAD
    return value, SHORT


@numba.njit(cache=True, nogil=True)
def _signed(data, at, end):
    value, at = _varint(data, at, end)
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at


@numba.njit(cache=True, nogil=True)
def _scalar(kind, data, at, end):
    """Return a value of Thrift that is no struct, 0 for what is no integer, and where it ends."""
    if kind == 1 or kind == 2:
        return np.int64(2 - kind), at
    if kind == 4 or kind == 5 or kind == 6:
        return _signed(data, at, end)
    size = np.uint64(1 if kind == 3 else 8)
    if kind == 8:
        size, at = _varint(data, at, end)
        if at < 0:
            return np.int64(0), at
    elif kind != 3 and kind != 7:
        return np.int64(0), BAD
    if size > np.uint64(end - at):
        return np.int64(0), SHORT
    return np.int64(0), at + np.int64(size)


@numba.njit(cache=True, nogil=True)
def page_header(data, at, end, out):
    """Read the integers of a page header into `out`, int64 of shape (16 * FIELDS,).

    Returns:
        Where the header ends; SHORT or BAD.
    """
    number, inside = np.zeros(_DEEPEST, np.int64), np.zeros(_DEEPEST, np.int64)
    depth = 0
    while True:
        if at >= end:
            return SHORT
        head = np.int64(data[at])
        at += 1
        if head == 0:
            if depth == 0:
                return at
            depth -= 1
            continue
        if head >> 4:
            number[depth] += head >> 4
        else:
            number[depth], at = _signed(data, at, end)
            if at < 0:
                return at
        field, kind = number[depth], head & 15
        if field <= 0 or field >= FIELDS:
            return BAD
        if kind == 12:
            depth += 1
            if depth == _DEEPEST:
                return BAD
            number[depth], inside[depth] = 0, field
            continue
        value, at = _scalar(kind, data, at, end)
        if at < 0:
            return at
        if depth < 2 and (kind == 5 or kind <= 2):  # of another type it is another field
            out[FIELDS * inside[depth] + field] = value


@numba.njit(cache=True, nogil=True)
def _packed_below(data, at, slot, size, width, top, where, level, found):
    """Add the slots below `top` of one bit-packed run; BAD where a level is above it."""
    each = 8 // width
    mask = (1 << width) - 1
    full = 0
    for _ in range(each):
        full = full << width | top
    for first in range(0, size, each):
        byte = np.int64(data[at + first // each])
        if byte == full:
            continue
        for j in range(min(each, size - first)):
            here = byte >> (j * width) & mask
            if here > top:
                return BAD
            if here < top:
                where[found], level[found] = slot + first + j, here
                found += 1
    return found


@numba.njit(cache=True, nogil=True)
def below(data, at, end, count, width, top, where, level):
    """Find the slots whose level is below the highest one.

    Args:
        data: Bytes, uint8; the levels are data[at:end], RLE / bit-packed.
        at, end: Where they begin and end.
        count: Slots.
        width: Bits of a level, 1 or 2.
        top: The highest level.
        where, level: Slots found and their levels, each of shape (at least count,).

    Returns:
        How many were found, or BAD.
    """
    slot = found = 0
    while slot < count:
        head, at = _varint(data, at, end)
        if at < 0 or head == np.uint64(0) or head > np.uint64(2**32):
            return BAD
        size = np.int64(head >> np.uint64(1))
        if head & np.uint64(1):
            stop = at + size * width
            if stop > end:
                return BAD
            size = min(size * 8, count - slot)
            found = _packed_below(data, at, slot, size, width, top, where, level, found)
            if found < 0:
                return BAD
            at = stop
        else:
            if at >= end or size == 0 or size > count - slot or data[at] > top:
                return BAD
            if data[at] < top:
                for j in range(size):
                    where[found + j], level[found + j] = slot + j, data[at]
                found += size
            at += 1
        slot += size
    return found


@numba.njit(cache=True, nogil=True)
def place(starts, rows, gaps, levels, holes, count, outer, base, out_starts, missing, nulls):
    """Put the rows of a page where their tokens are.

    Args:
        starts: Slots at which rows begin, the first `rows` of them count.
        rows: How many.
        gaps, levels: Slots below the highest definition level, and their levels; `holes` of them.
        holes: How many.
        count: Slots of the page.
        outer: 1 where a list may be null, else 0. A level below it is a null list, that level an
            empty one, one above it a null element.
        base: Tokens before the page.
        out_starts, missing: First token of each row, and whether its list is null, (rows,).
        nulls: Tokens that are null, shape (holes,).

    Returns:
        Slots that hold no token, null tokens, and 1 where the last slot is a list without any.
        BAD first, where a list is both empty and not.
    """
    gone = none = hole = closed = 0
    for row in range(rows + 1):
        slot = starts[row] if row < rows else count
        while hole < holes and gaps[hole] < slot:
            if levels[hole] <= outer:
                return BAD, 0, 0
            nulls[none] = base + gaps[hole] - gone
            none += 1
            hole += 1
        if row == rows:
            break
        out_starts[row] = base + slot - gone
        missing[row] = False
        if hole < holes and gaps[hole] == slot and levels[hole] <= outer:
            following = starts[row + 1] if row + 1 < rows else count
            if following != slot + 1:
                return BAD, 0, 0
            missing[row] = levels[hole] < outer
            gone += 1
            hole += 1
            if slot + 1 == count:
                closed = 1
    return gone, none, closed


@numba.njit(cache=True, nogil=True)
def spread(values, nulls, base, out):
    """Lay values out around nulls, which become NaN.

    Args:
        values: Values that are there, in order.
        nulls: Where there is none, in places of `out` counted from `base`, increasing.
        base: What to take off them.
        out: Shape (values and nulls,).
    """
    at = 0
    hole = 0
    for j in range(out.size):
        if hole < nulls.size and nulls[hole] - base == j:
            out[j] = np.nan
            hole += 1
        else:
            out[j] = values[at]
            at += 1


@numba.njit(cache=True, nogil=True)
def unsplit4(data, at, out):
    """Join the bytes of float32s: byte k of value i is data[at + k * values + i]; out is uint32."""
    size = out.size
    a, b = data[at : at + size], data[at + size : at + 2 * size]
    c, d = data[at + 2 * size : at + 3 * size], data[at + 3 * size : at + 4 * size]
    for i in range(size):
        out[i] = (
            np.uint32(a[i])
            | np.uint32(b[i]) << np.uint32(8)
            | np.uint32(c[i]) << np.uint32(16)
            | np.uint32(d[i]) << np.uint32(24)
        )


@numba.njit(cache=True, nogil=True)
def unsplit8(data, at, out):
    """Join the bytes of float64s, as `unsplit4`; out is uint64."""
    size = out.size
    for i in range(size):
        out[i] = data[at + i]
    for k in range(1, 8):
        part = data[at + k * size : at + (k + 1) * size]
        for i in range(size):
            out[i] |= np.uint64(part[i]) << np.uint64(8 * k)


@numba.njit(cache=True, nogil=True)
def look_up(data, at, end, width, table, out):
    """Read indices into a dictionary, RLE / bit-packed, and put the values that they mean.

    Args:
        data: Bytes, uint8; the indices are data[at:end].
        at, end: Where they begin and end.
        width: Bits of an index, at most 32.
        table: The dictionary.
        out: Values, all of which must be given.

    Returns:
        0, or BAD.
    """
    done = 0
    each = (width + 7) // 8
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    while done < out.size:
        head, at = _varint(data, at, end)
        if at < 0 or head == np.uint64(0) or head > np.uint64(2**32):
            return BAD
        size = np.int64(head >> np.uint64(1))
        if not head & np.uint64(1):
            if size == 0 or size > out.size - done or each > end - at:
                return BAD
            index = np.int64(0)
            for k in range(each):
                index |= np.int64(data[at + k]) << (8 * k)
            if index >= table.size:
                return BAD
            for j in range(size):
                out[done + j] = table[index]
            at += each
            done += size
            continue
        if size * width > end - at:
            return BAD
        stop = at + size * width
        held, bits = np.uint64(0), 0
        for _ in range(min(size * 8, out.size - done)):
            while bits < width:
                held |= np.uint64(data[at]) << np.uint64(bits)
                at += 1
                bits += 8
            index = np.int64(held & mask)
            held >>= np.uint64(width)
            bits -= width
            if index >= table.size:
                return BAD
            out[done] = table[index]
            done += 1
        at = stop
    return 0


@numba.njit(cache=True, nogil=True)
def lz4_size(data):
    """Return how many bytes an LZ4 block unpacks to, going by the lengths in it; BAD if cut off."""
    at = total = 0
    while at < data.size:
        token = np.int64(data[at])
        at += 1
        literal, match = token >> 4, token & 15
        if literal == 15:
            while True:
                if at >= data.size:
                    return BAD
                more = np.int64(data[at])
                at += 1
                literal += more
                if more != 255:
                    break
        at += literal
        total += literal
        if at >= data.size:
            return total if at == data.size else BAD
        at += 2
        if match == 15:
            while True:
                if at >= data.size:
                    return BAD
                more = np.int64(data[at])
                at += 1
                match += more
                if more != 255:
                    break
        total += match + 4
    return BAD

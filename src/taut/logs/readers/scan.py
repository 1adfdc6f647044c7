"""The long lists of a JSON line, read by compiled code; everything else stays with orjson.

A rollout's line is almost all token log-probs. `scan` parses those flat lists of numbers itself,
strictly and correctly rounded, and replaces each by its index, so that orjson checks and parses a
short line. Whatever is unusual (an escape in a key, a null among the numbers, more than 19 digits)
is left as it is, and the whole line goes to orjson.

Decimal numbers are converted by the algorithm of Lemire (2021), "Number parsing at a gigabyte per
second", Software: Practice and Experience 51(8): a product with a 128-bit power of five, which is
correctly rounded or says that it cannot tell.
"""

from dataclasses import dataclass

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

PADDING = 16  # bytes behind a text, so that eight can be read at any place
SLOW, REPEATED = 1, 2  # flags of a line: for orjson alone; a wanted key comes twice

_U = np.uint64
_ZEROS = _U(0x3030303030303030)
_ABOVE_NINE = _U(0x7676767676767676)  # lifts a byte above 9 into the top bit
_ONES = _U(0x0101010101010101)
_TOPS = _U(0x8080808080808080)
_QUOTES = _U(0x2222222222222222)
_SLASHES = _U(0x5C5C5C5C5C5C5C5C)
_NEWLINES = _U(0x0A0A0A0A0A0A0A0A)
_PAIR = _U(0x000000FF000000FF)
_MUL_A = _U(0x000F424000000064)
_MUL_B = _U(0x0000271000000001)
_FULL = _U(0xFFFFFFFFFFFFFFFF)
_EDGE = _U(0x1FF)
_HIDDEN = _U(1 << 52)

_MIN_POWER, _MAX_POWER = -342, 308


def _powers_of_five() -> np.ndarray:
    """Return 128-bit mantissas of 5^q, q from _MIN_POWER to _MAX_POWER: high and low words."""
    table = []
    for q in range(_MIN_POWER, _MAX_POWER + 1):
        power = 5 ** abs(q)
        if q >= 0:
            bits = power.bit_length()
            mantissa = power << (128 - bits) if bits <= 128 else power >> (bits - 128)
        else:
            # The reciprocal, rounded up; exact enough to decide every rounding with 128 bits.
            bits = (power - 1).bit_length()
            shift = bits + 127 if q >= -27 else 2 * bits + 128
            mantissa = (1 << shift) // power + 1
            mantissa >>= max(mantissa.bit_length() - 128, 0)
        table.append((mantissa >> 64, mantissa & (2**64 - 1)))
    return np.array(table, dtype=np.uint64)


_FIVES = _powers_of_five()
_SHIFTS = np.array([10**size for size in range(9)], dtype=np.uint64)


@intrinsic
def _load8(typing, data, at):
    """Return the eight bytes that begin at `at`, as a little-endian word."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte = builder.gep(array.data, [args[1]])
        word = builder.bitcast(byte, ir.IntType(64).as_pointer())
        return builder.load(word, align=1)

    return types.uint64(data, types.int64), codegen


@intrinsic
def _byte(typing, data, at):
    """Return the byte at `at`: indexing without the test for negative positions."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte = builder.load(builder.gep(array.data, [args[1]]))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(data, types.int64), codegen


@intrinsic
def _high_product(typing, a, b):
    """Return the upper 64 bits of a product of two words."""

    def codegen(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(arg, wide) for arg in args))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _leading_zeros(typing, word):
    """Return the number of leading zero bits of a word that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def _trailing_zeros(typing, word):
    """Return the number of trailing zero bits of a word that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@numba.njit(cache=True, nogil=True, inline="always")
def _bits(digits, power):
    """Return the float64 bits of digits * 10^power, and whether they are surely right."""
    if digits == _U(0):
        return _U(0), True
    if power < _MIN_POWER or power > _MAX_POWER:
        return _U(0), False
    shift = _leading_zeros(digits)
    word = digits << _U(shift)
    high_five = _FIVES[power - _MIN_POWER, 0]
    high, low = _high_product(word, high_five), word * high_five
    if high & _EDGE == _EDGE:
        more = _high_product(word, _FIVES[power - _MIN_POWER, 1])
        low += more
        if more > low:
            high += _U(1)
    if low == _FULL and (power < -27 or power > 55):
        return _U(0), False
    top = high >> _U(63)
    down = top + _U(9)
    mantissa = high >> down
    exponent = ((217706 * power) >> 16) + 63 + np.int64(top) - shift + 1023
    if exponent <= 0 or exponent >= 2046:
        return _U(0), False
    half_way = mantissa & _U(3) == _U(1) and mantissa << down == high
    if half_way and low <= _U(1) and -4 <= power <= 23:
        mantissa &= ~_U(1)  # exactly half way: round to even
    mantissa = (mantissa + (mantissa & _U(1))) >> _U(1)
    if mantissa >= _HIDDEN << _U(1):
        mantissa = _HIDDEN
        exponent += 1
    return (mantissa & ~_HIDDEN) | (_U(exponent) << _U(52)), True


@numba.njit(cache=True, nogil=True)
def _eight_digits(eight):
    """Return the number that eight bytes 0 to 9 spell, the first digit in the lowest byte."""
    eight = eight * _U(10) + (eight >> _U(8))
    return ((eight & _PAIR) * _MUL_A + ((eight >> _U(16)) & _PAIR) * _MUL_B) >> _U(32)


@numba.njit(cache=True, nogil=True)
def _digits(data, at, word):
    """Append a run of digits to `word`, eight at a time; return it and where they end."""
    eight = _load8(data, at) ^ _ZEROS
    other = ((eight + _ABOVE_NINE) | eight) & _TOPS
    while other == _U(0):
        word = word * _U(100000000) + _eight_digits(eight)
        at += 8
        eight = _load8(data, at) ^ _ZEROS
        other = ((eight + _ABOVE_NINE) | eight) & _TOPS
    size = _trailing_zeros(other) >> 3
    # No branch on the size, which is not predictable; in two steps, since 64 is no valid shift.
    rest = eight << _U(56 - 8 * size) << _U(8)
    return word * _SHIFTS[size] + _eight_digits(rest), at + size


@numba.njit(cache=True, nogil=True, inline="always")
def _number(data, at):
    """Parse a JSON number; return its float64 bits and where it ends, or -1 to give up.

    It never reads past the newline or the zero bytes behind the text, which are no digits.
    """
    sign = _U(0)
    if _byte(data, at) == 45:
        sign = _U(1) << _U(63)
        at += 1
    first = at
    lead = _byte(data, at) - 48
    if lead < 0 or lead > 9:
        return sign, -1
    word, at = _U(lead), at + 1
    if 48 <= _byte(data, at) <= 57:
        if lead == 0:
            return sign, -1
        word, at = _digits(data, at, word)
    size = at - first if lead else 0
    power = 0
    if _byte(data, at) == 46:
        at += 1
        first = at
        while _byte(data, at) == 48 and size == 0:
            at += 1
        lead = at
        word, at = _digits(data, at, word)
        if at == first:
            return sign, -1
        power, size = first - at, size + at - lead
    if size > 19:
        return sign, -1
    if _byte(data, at) | 32 == 101:
        at += 1
        minus = _byte(data, at) == 45
        if minus or _byte(data, at) == 43:
            at += 1
        first = at
        exponent, at = _digits(data, at, _U(0))
        if at == first or at - first > 4:
            return sign, -1
        power += -np.int64(exponent) if minus else np.int64(exponent)
    bits, sure = _bits(word, power)
    return sign | bits, at if sure else -1


@numba.njit(cache=True, nogil=True)
def _skip(data, at):
    while _byte(data, at) == 32 or _byte(data, at) == 9 or _byte(data, at) == 13:
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _list(data, at, bits, count):
    """Parse a flat list of numbers from its bracket; return its end, or -1, and the new count."""
    at = _skip(data, at + 1)
    if _byte(data, at) == 93:
        return at + 1, count
    while True:
        value, at = _number(data, at)
        if at < 0:
            return -1, count
        bits[count] = value
        count += 1
        if _byte(data, at) != 44:
            at = _skip(data, at)
            if _byte(data, at) == 93:
                return at + 1, count
            if _byte(data, at) != 44:
                return -1, count
        at += 1
        if _byte(data, at) <= 32:
            at = _skip(data, at)


@numba.njit(cache=True, nogil=True)
def _line_end(data, at, end):
    """Return the first newline from `at`, eight bytes at a time; `end` if there is none."""
    while at < end:
        found = _zero_bytes(_load8(data, at) ^ _NEWLINES)
        if found != _U(0):
            return min(at + (_trailing_zeros(found) >> 3), end)
        at += 8
    return end


@numba.njit(cache=True, nogil=True)
def _zero_bytes(eight):
    """Mark the bytes that are 0 by their top bit; marks above the lowest may be wrong."""
    return (eight - _ONES) & ~eight & _TOPS


@numba.njit(cache=True, nogil=True)
def _special(data, at, end):
    """Return the first quote, backslash or newline from `at`; `end` if there is none."""
    while at < end:
        eight = _load8(data, at)
        found = (
            _zero_bytes(eight ^ _QUOTES)
            | _zero_bytes(eight ^ _SLASHES)
            | _zero_bytes(eight ^ _NEWLINES)
        )
        if found != _U(0):
            return min(at + (_trailing_zeros(found) >> 3), end)
        at += 8
    return end


@numba.njit(cache=True, nogil=True)
def _string_end(data, at, end):
    """Return the position after a string that begins at `at`, and whether it holds an escape.

    A string that its line does not close ends at the newline.
    """
    at = _special(data, at + 1, end)
    escaped = False
    while at < end and _byte(data, at) == 92:
        escaped = True
        if _byte(data, at + 1) == 10:
            return at + 1, escaped
        at = _special(data, at + 2, end)
    if at < end and _byte(data, at) == 34:
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
    if after < end and _byte(data, after) == 58:
        return stop, _skip(data, after + 1), escaped
    return stop, -1, escaped


@numba.njit(cache=True, nogil=True)
def _within(data, at, wrapped):
    """Step into a list that holds a list, where that may be; return the place, and whether."""
    if wrapped and _byte(data, at) == 91:
        inner = _skip(data, at + 1)
        if _byte(data, inner) == 91:
            return inner, True
    return at, False


@numba.njit(cache=True, nogil=True)
def _value(data, at, bits, count, inner):
    """Parse a value that is a flat list of numbers; return its end, or -1, and the new count.

    A list that is the one value of another list (`inner`) may end with that one's bracket.
    """
    if _byte(data, at) != 91:
        return -1, count
    stop, count = _list(data, at, bits, count)
    if stop >= 0:
        after = _byte(data, _skip(data, stop))
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
        byte = _byte(data, at)
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
        if end < size and _byte(data, end) != 10:
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

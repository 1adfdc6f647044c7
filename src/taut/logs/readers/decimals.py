"""Decimal numbers of a text, in compiled code: correctly rounded, or left to somebody else.

The algorithm is that of Lemire (2021), "Number parsing at a gigabyte per second", Software:
Practice and Experience 51(8): a product with a 128-bit power of five, which is correctly rounded or
says that it cannot tell.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

U = np.uint64
_ZEROS = U(0x3030303030303030)
_ABOVE_NINE = U(0x7676767676767676)  # lifts a byte above 9 into the top bit
ONES = U(0x0101010101010101)
TOPS = U(0x8080808080808080)
QUOTES = U(0x2222222222222222)
SLASHES = U(0x5C5C5C5C5C5C5C5C)
NEWLINES = U(0x0A0A0A0A0A0A0A0A)
_PAIR = U(0x000000FF000000FF)
_MUL_A = U(0x000F424000000064)
_MUL_B = U(0x0000271000000001)
_FULL = U(0xFFFFFFFFFFFFFFFF)
_EDGE = U(0x1FF)
_HIDDEN = U(1 << 52)

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
def load8(typing, data, at):
    """Return the eight bytes that begin at `at`, as a little-endian word."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte = builder.gep(array.data, [args[1]])
        word = builder.bitcast(byte, ir.IntType(64).as_pointer())
        return builder.load(word, align=1)

    return types.uint64(data, types.int64), codegen


@intrinsic
def byte_at(typing, data, at):
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
def trailing_zeros(typing, word):
    """Return the number of trailing zero bits of a word that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@numba.njit(cache=True, nogil=True, inline="always")
def _bits(digits, power):
    """Return the float64 bits of digits * 10^power, and whether they are surely right."""
    if digits == U(0):
        return U(0), True
    if power < _MIN_POWER or power > _MAX_POWER:
        return U(0), False
    shift = _leading_zeros(digits)
    word = digits << U(shift)
    high_five = _FIVES[power - _MIN_POWER, 0]
    high, low = _high_product(word, high_five), word * high_five
    if high & _EDGE == _EDGE:
        more = _high_product(word, _FIVES[power - _MIN_POWER, 1])
        low += more
        if more > low:
            high += U(1)
    if low == _FULL and (power < -27 or power > 55):
        return U(0), False
    top = high >> U(63)
    down = top + U(9)
    mantissa = high >> down
    exponent = ((217706 * power) >> 16) + 63 + np.int64(top) - shift + 1023
    if exponent <= 0 or exponent >= 2046:
        return U(0), False
    half_way = mantissa & U(3) == U(1) and mantissa << down == high
    if half_way and low <= U(1) and -4 <= power <= 23:
        mantissa &= ~U(1)  # exactly half way: round to even
    mantissa = (mantissa + (mantissa & U(1))) >> U(1)
    if mantissa >= _HIDDEN << U(1):
        mantissa = _HIDDEN
        exponent += 1
    return (mantissa & ~_HIDDEN) | (U(exponent) << U(52)), True


@numba.njit(cache=True, nogil=True)
def _eight_digits(eight):
    """Return the number that eight bytes 0 to 9 spell, the first digit in the lowest byte."""
    eight = eight * U(10) + (eight >> U(8))
    return ((eight & _PAIR) * _MUL_A + ((eight >> U(16)) & _PAIR) * _MUL_B) >> U(32)


@numba.njit(cache=True, nogil=True)
def _digits(data, at, word):
    """Append a run of digits to `word`, eight at a time; return it and where they end."""
    eight = load8(data, at) ^ _ZEROS
    other = ((eight + _ABOVE_NINE) | eight) & TOPS
    while other == U(0):
        word = word * U(100000000) + _eight_digits(eight)
        at += 8
        eight = load8(data, at) ^ _ZEROS
        other = ((eight + _ABOVE_NINE) | eight) & TOPS
    size = trailing_zeros(other) >> 3
    # No branch on the size, which is not predictable; in two steps, since 64 is no valid shift.
    rest = eight << U(56 - 8 * size) << U(8)
    return word * _SHIFTS[size] + _eight_digits(rest), at + size


@numba.njit(cache=True, nogil=True, inline="always")
def parse_number(data, at):
    """Parse a JSON number; return its float64 bits and where it ends, or -1 to give up.

    It never reads past the newline or the zero bytes behind the text, which are no digits.
    """
    sign = U(0)
    if byte_at(data, at) == 45:
        sign = U(1) << U(63)
        at += 1
    first = at
    lead = byte_at(data, at) - 48
    if lead < 0 or lead > 9:
        return sign, -1
    word, at = U(lead), at + 1
    if 48 <= byte_at(data, at) <= 57:
        if lead == 0:
            return sign, -1
        word, at = _digits(data, at, word)
    size = at - first if lead else 0
    power = 0
    if byte_at(data, at) == 46:
        at += 1
        first = at
        while byte_at(data, at) == 48 and size == 0:
            at += 1
        lead = at
        word, at = _digits(data, at, word)
        if at == first:
            return sign, -1
        power, size = first - at, size + at - lead
    if size > 19:
        return sign, -1
    if byte_at(data, at) | 32 == 101:
        at += 1
        minus = byte_at(data, at) == 45
        if minus or byte_at(data, at) == 43:
            at += 1
        first = at
        exponent, at = _digits(data, at, U(0))
        if at == first or at - first > 4:
            return sign, -1
        power += -np.int64(exponent) if minus else np.int64(exponent)
    bits, sure = _bits(word, power)
    return sign | bits, at if sure else -1

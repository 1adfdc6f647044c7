"""Stable 64-bit keys for ids: the same id gives the same key in every file, shard and process.

Ids are kept as keys because 10^7 strings do not fit the 40 bytes a rollout that the audit aims at.
Two of 10^7 different ids share a key with probability 3e-6; they would be read as one prompt.
"""

from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_SIZE = np.uint64(0x7FFFFFFFFFFFFFFF)  # bits of a float, but for its sign
_INFINITE = np.uint64(0x7FF0000000000000)
_NAN = np.uint64(0x7FF8000000000000)


@numba.njit(cache=True, nogil=True)
def _mixed(key):
    z = key + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _M1
    z = (z ^ (z >> np.uint64(27))) * _M2
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _scramble(keys, out):
    for i in range(keys.size):
        out[i] = _mixed(keys[i])


@numba.njit(cache=True, nogil=True)
def _combine(first, second):
    """Put the keys of pairs in place of scrambled first ones; `second` may be one for all."""
    step = 1 if second.size > 1 else 0
    for i in range(first.size):
        first[i] = _mixed(first[i] ^ (second[i * step] + _GOLDEN))


@numba.njit(cache=True, nogil=True)
def _combine_floats(first, second):
    """The same for the bits of floats: those of -0.0 are those of 0.0, all NaNs have one's."""
    for i in range(first.size):
        bits = second[i]
        size = bits & _SIZE
        if size > _INFINITE:
            bits = _NAN
        elif size == 0:
            bits = size
        first[i] = _mixed(first[i] ^ (bits + _GOLDEN))


def scramble(keys: np.ndarray) -> np.ndarray:
    """Return a bijective, well-mixed image of uint64 keys of any shape (the splitmix64 step)."""
    keys = np.asarray(keys, dtype=np.uint64)
    out = np.empty(keys.shape, dtype=np.uint64)
    _scramble(np.ascontiguousarray(keys).reshape(-1), out.reshape(-1))
    return out[()]


def combine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return one key for each pair of uint64 keys; the order of the pair matters."""
    second = np.asarray(second, dtype=np.uint64)
    out = scramble(first)
    if second.ndim == 0:
        second = np.full(1, second)
    _combine(out.reshape(-1), np.ascontiguousarray(second).reshape(-1))
    return out


def kinds_of(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, ascending, and which of them each is: np.unique with its inverse.

    Fast where many rows hold few values.

    Args:
        keys: Whole numbers, shape (rows,).
    """
    found = pa.array(keys).dictionary_encode()
    values = found.dictionary.to_numpy(zero_copy_only=False)
    by_size = np.argsort(values)
    place = np.empty(len(values), dtype=np.int64)
    place[by_size] = np.arange(len(values))
    return values[by_size], place[found.indices.to_numpy(zero_copy_only=False)]


def untold(ids: np.ndarray) -> np.ndarray:
    """Return keys for texts that nobody wrote down, one for each uint64 key of a prompt id."""
    return combine(ids, np.uint64(1))


def row_keys(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return one uint64 key per row, the same for rows that agree in every column.

    Args:
        columns: Arrays of shape (rows,); floats agree as values do, and NaN agrees with NaN.
    """
    keys = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        _scramble(keys, keys)
        if column.dtype.kind == "f":
            _combine_floats(keys, np.ascontiguousarray(column, dtype=np.float64).view(np.uint64))
        else:
            _combine(keys, np.ascontiguousarray(column).astype(np.uint64, copy=False))
    return keys


@numba.njit(cache=True, nogil=True)
def _hash_utf8(data, offsets, keys):
    for i in range(keys.size):
        h = np.uint64(0xCBF29CE484222325)
        for byte in data[offsets[i] : offsets[i + 1]]:
            h = (h ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        keys[i] = h


@numba.njit(cache=True, nogil=True)
def _hash_prefixes(values, starts, sizes, keys):
    for i in range(keys.size):
        h = np.uint64(0xCBF29CE484222325)
        for at in range(starts[i], starts[i] + sizes[i]):
            h = (h ^ np.uint64(np.int64(values[at]))) * np.uint64(0x100000001B3)
            h ^= h >> np.uint64(29)  # a product alone never carries high bits down
        keys[i] = h


def prefix_keys(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return one uint64 key per list of token ids: the same for the same ids in the same order.

    Args:
        values: Token ids of all lists, flat, integers in any dtype.
        starts, sizes: List i is values[starts[i] : starts[i] + sizes[i]], int64, shape (lists,).
    """
    keys = np.empty(len(starts), dtype=np.uint64)
    with np.errstate(invalid="ignore"):
        _hash_prefixes(np.ascontiguousarray(values, dtype=np.float64), starts, sizes, keys)
    return scramble(combine(keys, sizes.astype(np.uint64)))


def hash_ids(ids: pa.Array | np.ndarray | Sequence) -> np.ndarray:
    """Return one uint64 key per id, shape (rows,).

    Integers are hashed as their decimal text, so that 7 and "7" are the same id.

    Args:
        ids: Strings or integers, no nulls, shape (rows,).

    Raises:
        TypeError: Neither strings nor integers, or a null among them.
    """
    array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array.type, pa.DictionaryType):
        return hash_ids(array.dictionary)[array.indices.to_numpy(zero_copy_only=False)]
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if array.null_count or not (text or pa.types.is_integer(array.type)):
        raise TypeError(f"ids must be strings or integers without nulls, found {array.type}")
    array = pc.cast(array, pa.large_string())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)
    offsets = offsets[array.offset : array.offset + len(array) + 1]
    buffer = array.buffers()[2]
    data = np.frombuffer(buffer, dtype=np.uint8) if buffer else np.empty(0, dtype=np.uint8)
    keys = np.empty(len(array), dtype=np.uint64)
    _hash_utf8(data, offsets, keys)
    return scramble(keys)

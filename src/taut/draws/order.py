"""The order of rows by hashes, and sums over blocks of them: where a log of 10^7 rows takes time.

All of it is compiled, touches each row a few times, and gives the very bits of the NumPy calls that
it stands for, on any machine.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numba
import numpy as np

Made = TypeVar("Made")
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")

_MANY = 1_000_000  # rows from which on threads are worth starting
_SHORT = 32  # rows that are sorted in place, one by one
_DIGIT = 11  # bits of a pass of the radix sort
_TOP = 64 - 3 * _DIGIT  # the bits below are looked at where the three digits above are equal
_ZERO = np.uint64(0)


def hash_order(keys: np.ndarray) -> np.ndarray:
    """Return the stable order of uint64 keys, int64, shape (rows,): np.argsort(kind="stable").

    Fast where the keys are hashes; right where they are not.
    """
    return _order(np.ascontiguousarray(keys))


def group(keys: np.ndarray, ties: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in the order of their keys, and within a key of their ties; and where keys begin.

    Args:
        keys: uint64 hashes, shape (rows,).
        ties: uint64, shape (rows,); rows of equal keys and ties keep their order. None: all do.

    Returns:
        Row indices, shape (rows,), and the first place of each distinct key and the number of
        rows, shape (keys + 1,); both int64.
    """
    keys = np.ascontiguousarray(keys)
    runs = _runs(keys)
    rows, starts = _expand(keys, runs, _order(keys[runs[:-1]]))
    if ties is not None:
        _sort_within(rows, starts, np.ascontiguousarray(ties))
    return rows, starts


def spans(keys: np.ndarray, values: np.ndarray) -> bool:
    """Say whether some key (a uint64 hash) occurs with more than one value; shapes (rows,)."""
    keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
    runs = _runs(keys)
    if not _one_value(values, np.arange(len(keys)), runs):
        return True
    first = runs[:-1]
    rows, starts = group(keys[first], None)
    return not _one_value(values[first], rows, starts)


def block_sums(values: np.ndarray, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return np.add.reduceat(values[rows], starts[:-1]) for blocks that are never empty.

    Args:
        values: Numbers, shape (values,); added as NumPy adds them, in pairs.
        rows: Indices, block after block.
        starts: Where each block begins in `rows`, and its length, shape (blocks + 1,).
    """
    if values.ndim != 1 or values.dtype not in (np.float64, np.int64, np.uint64):
        return np.add.reduceat(values[rows], starts[:-1])
    out, values = np.empty(len(starts) - 1, dtype=values.dtype), np.ascontiguousarray(values)
    if values.dtype == np.float64:
        _in_threads(_add, values, rows, starts, out)
    else:  # whole numbers wrap around the same way, signed or not
        _in_threads(_count, values.view(np.int64), rows, starts, out.view(np.int64))
    return out


def take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return values[rows], for a mask or indices of the first axis."""
    rows = np.asarray(rows)
    if len(rows) <= _MANY or rows.dtype == bool or values.ndim != 1:
        return values[rows]
    if rows.min() < 0 or rows.max() >= len(values):
        return values[rows]  # what threads would clip
    out = np.empty(len(rows), dtype=values.dtype)
    cuts = np.linspace(0, len(rows), _threads() + 1).astype(np.int64)
    parts = [slice(*cut) for cut in itertools.pairwise(cuts)]
    side_by_side(
        [partial(np.take, values, rows[part], out=out[part], mode="clip") for part in parts],
        len(rows),
    )
    return out


def side_by_side(jobs: Sequence[Callable[[], Made]], rows: int) -> list[Made]:
    """Return what jobs give that share nothing; in threads where they are about many rows."""
    if rows <= _MANY:
        return [job() for job in jobs]
    with ThreadPoolExecutor(_threads()) as pool:
        return list(pool.map(lambda job: job(), jobs))


def _threads() -> int:
    return min(os.cpu_count() or 1, 8)


def _in_threads(kernel, values, rows, starts, out) -> None:
    """Give each thread as many rows; each block is one thread's, so that sums are the same."""
    threads = _threads() if len(rows) > _MANY else 1
    cuts = np.searchsorted(starts, np.linspace(0, starts[-1], threads + 1).astype(np.int64))
    cuts[0], cuts[-1] = 0, len(out)
    side_by_side(
        [
            partial(kernel, values, rows, starts[begin : end + 1], out[begin:end])
            for begin, end in itertools.pairwise(cuts)
        ],
        len(rows),
    )


@_compiled
def _order(keys):
    """Sort by the three highest digits, last to first, then what they leave equal."""
    n = keys.size
    counts = np.zeros((3, 1 << _DIGIT), dtype=np.int64)
    mask = np.uint64((1 << _DIGIT) - 1)
    for key in keys:
        for digit in range(3):
            counts[digit, (key >> np.uint64(_TOP + digit * _DIGIT)) & mask] += 1
    order, moved = np.arange(n), np.empty(n, dtype=np.int64)
    for digit in range(3):
        place = 0
        for value in range(1 << _DIGIT):
            place, counts[digit, value] = place + counts[digit, value], place
        shift = np.uint64(_TOP + digit * _DIGIT)
        for i in range(n):
            value = (keys[order[i]] >> shift) & mask
            moved[counts[digit, value]] = order[i]
            counts[digit, value] += 1
        order, moved = moved, order
    begin = 0
    for i in range(1, n + 1):
        if i == n or keys[order[i]] >> np.uint64(_TOP) != keys[order[begin]] >> np.uint64(_TOP):
            if i - begin > 1:
                _sort(order, begin, i, keys)
            begin = i
    return order


@_compiled
def _sort(rows, begin, end, keys):
    """Sort rows[begin:end] by their keys, in place; rows of equal keys keep their order."""
    if end - begin > _SHORT:
        part = rows[begin:end].copy()
        sorted_already = True
        for i in range(1, part.size):
            if keys[part[i]] < keys[part[i - 1]]:
                sorted_already = False
                break
        if not sorted_already:
            rows[begin:end] = part[np.argsort(keys[part], kind="mergesort")]
        return
    for i in range(begin + 1, end):
        row = rows[i]
        key = keys[row]
        j = i
        while j > begin and keys[rows[j - 1]] > key:
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = row


@_compiled
def _runs(keys):
    """Return where each run of equal keys begins, and the number of keys."""
    count = 0
    for i in range(keys.size):
        count += i == 0 or keys[i] != keys[i - 1]
    starts = np.empty(count + 1, dtype=np.int64)
    count = 0
    for i in range(keys.size):
        if i == 0 or keys[i] != keys[i - 1]:
            starts[count] = i
            count += 1
    starts[count] = keys.size
    return starts


@_compiled
def _expand(keys, runs, order):
    """Return the rows of runs in their order, and where each distinct key begins among them."""
    rows = np.empty(keys.size, dtype=np.int64)
    starts = np.empty(order.size + 1, dtype=np.int64)
    at = blocks = 0
    for i in range(order.size):
        begin, end = runs[order[i]], runs[order[i] + 1]
        if i == 0 or keys[begin] != keys[runs[order[i - 1]]]:
            starts[blocks] = at
            blocks += 1
        for row in range(begin, end):
            rows[at] = row
            at += 1
    starts[blocks] = at
    return rows, starts[: blocks + 1].copy()


@_compiled
def _sort_within(rows, starts, ties):
    for i in range(starts.size - 1):
        if starts[i + 1] - starts[i] > 1:
            _sort(rows, starts[i], starts[i + 1], ties)


@_compiled
def _one_value(values, rows, starts):
    for i in range(starts.size - 1):
        first = values[rows[starts[i]]]
        for at in range(starts[i] + 1, starts[i + 1]):
            if values[rows[at]] != first:
                return False
    return True


@_compiled
def _count(values, rows, starts, out):
    for i in range(out.size):
        total = np.int64(0)
        for at in range(starts[i], starts[i + 1]):
            total += values[rows[at]]
        out[i] = total


@_compiled
def _add(values, rows, starts, out):
    for i in range(out.size):
        begin, end = starts[i], starts[i + 1]
        total = values[rows[begin]]
        if end - begin > 8:
            total += _pairwise(values, rows, begin + 1, end)
        elif end - begin > 1:
            rest = -0.0
            for at in range(begin + 1, end):
                rest += values[rows[at]]
            total += rest
        out[i] = total


@_compiled
def _pairwise(values, rows, begin, end):
    """Return the sum that NumPy makes: eight sums side by side up to 128 numbers, else halves."""
    n = end - begin
    if n < 8:
        total = -0.0
        for at in range(begin, end):
            total += values[rows[at]]
        return total
    if n > 128:
        middle = begin + n // 2 - (n // 2) % 8
        return _pairwise(values, rows, begin, middle) + _pairwise(values, rows, middle, end)
    sums = np.empty(8)
    for j in range(8):
        sums[j] = values[rows[begin + j]]
    whole = begin + n - n % 8
    for at in range(begin + 8, whole, 8):
        for j in range(8):
            sums[j] += values[rows[at + j]]
    total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + (
        (sums[4] + sums[5]) + (sums[6] + sums[7])
    )
    for at in range(whole, end):
        total += values[rows[at]]
    return total

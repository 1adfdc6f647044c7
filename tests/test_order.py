"""Compiled orders and sums of rows: they are NumPy's, to the last bit."""

import numpy as np
import pytest

from taut.draws import order
from taut.draws.findings import _codes
from taut.logs.keys import combine, kinds_of, row_keys, scramble


def kinds(rng, n):
    """Keys as logs have them, and as they should not: hashes, runs, few values, small numbers."""
    return (
        rng.integers(0, 2**64, n, dtype=np.uint64),
        scramble(np.sort(rng.integers(0, max(n // 3, 1), n))),
        scramble(rng.integers(0, 50, n)),
        rng.integers(0, 5, n).astype(np.uint64),
        np.zeros(n, dtype=np.uint64),
    )


@pytest.mark.parametrize("n", [0, 1, 2, 33, 1000, 20_000])
def test_rows_are_grouped_as_by_a_sort_of_all_keys(n):
    rng = np.random.default_rng(n)
    for keys in kinds(rng, n):
        ties = rng.integers(0, 9, n).astype(np.uint64)
        assert np.array_equal(order.hash_order(keys), np.argsort(keys, kind="stable"))
        rows, starts = order.group(keys, ties)
        assert np.array_equal(rows, np.lexsort((ties, keys)))
        ordered = keys[rows]
        edges = np.r_[True, ordered[1:] != ordered[:-1], True] if n else [True]
        assert np.array_equal(starts, np.flatnonzero(edges))
        assert np.array_equal(order.group(keys, None)[0], np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("n", [1, 2, 8, 9, 10, 17, 128, 129, 130, 1000, 5000])
def test_sums_of_blocks_are_those_of_numpy(n, monkeypatch):
    """One block of each size, and random ones; in one thread and in several."""
    rng = np.random.default_rng(n)
    wild = rng.normal(size=n) * 10.0 ** rng.integers(-9, 9, n)
    columns = (wild, rng.integers(-9, 9, n), rng.integers(0, 2**64, n, dtype=np.uint64))
    cuts = np.unique(np.r_[0, rng.integers(0, n, n // 5), n])
    for many in (10**9, 0):
        monkeypatch.setattr(order, "_MANY", many)
        for starts in (np.array([0, n]), cuts):
            rows = rng.permutation(n)
            for values in (*columns, wild > 0):
                ours = order.block_sums(values, rows, starts)
                theirs = np.add.reduceat(values[rows], starts[:-1])
                assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def test_a_key_with_two_values_is_found():
    rng = np.random.default_rng(0)
    for turn in range(40):
        keys = scramble(rng.integers(0, 30, 60))
        values = rng.integers(0, 2, 60) if turn % 2 else (keys % np.uint64(7)).astype(np.int64)
        pairs = len(np.unique(np.stack([keys, values.astype(np.uint64)]), axis=1).T)
        assert order.spans(keys, values) == (pairs > len(np.unique(keys)))


def test_kinds_are_those_of_unique():
    rng = np.random.default_rng(0)
    for keys in (rng.integers(-3, 4, 500), rng.integers(0, 2**64, 99, dtype=np.uint64), [0][:0]):
        keys = np.asarray(keys)
        for ours, theirs in zip(kinds_of(keys), np.unique(keys, return_inverse=True), strict=True):
            assert np.array_equal(ours, theirs)
    columns = rng.integers(0, 4, (3, 300))
    assert np.array_equal(_codes(*columns), np.unique(columns, axis=1, return_inverse=True)[1])


def test_keys_are_what_they_always_were():
    """Saved sheets and logs hold them: fixed values, and floats that agree have one key."""
    assert scramble(np.uint64(0)) == 0xE220A8397B1DCDAF
    assert int(combine(np.array([1], np.uint64), np.uint64(2))[0]) == 11045130339233787057
    two = row_keys([np.array([0.0, 1.0]), np.array([3, 4])])
    assert two.tolist() == [5544211480313744790, 17133565861993630142]
    keys = row_keys([np.array([0.0, -0.0, np.nan, -np.nan, 1.0])])
    assert keys[0] == keys[1] != keys[2] == keys[3] != keys[4]


def test_rows_are_taken_and_jobs_done_side_by_side_as_in_turn(monkeypatch):
    rng = np.random.default_rng(4)
    columns = (rng.random(5000), rng.integers(0, 9, 5000).astype(np.int32), rng.random((5000, 2)))
    rows, mask = rng.integers(0, 5000, 7001), rng.random(5000) < 0.5
    for many in (0, 10**9):
        monkeypatch.setattr(order, "_MANY", many)
        for column in columns:
            np.testing.assert_array_equal(order.take(column, rows), column[rows])
            np.testing.assert_array_equal(order.take(column, mask), column[mask])
            np.testing.assert_array_equal(order.take(column, [-1, 3]), column[[-1, 3]])
            with pytest.raises(IndexError):
                order.take(column, np.array([5000]))
        assert order.side_by_side([lambda: 1, lambda: 2], 1) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            order.side_by_side([lambda: 1, lambda: 1 // 0], 1)

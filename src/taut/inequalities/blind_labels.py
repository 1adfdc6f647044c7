"""Exact tests that labels are blind: given without regard to the rewards (theory §2).

Under blind labels, given the rewards and how many labels there are, which ones are
labelled is a uniformly random choice: the number of labelled ones among those above any cut is
hypergeometric (a sum of them over strata or draws, `taut.inequalities.tails`). Cuts are chosen by
rewards and counts, never by who is labelled.

Source: theory §2, what a label is worth.
"""

from collections.abc import Iterable, Iterator

import numba
import numpy as np

from taut.errors import AssumptionError
from taut.inequalities import tails
from taut.inequalities.exact import ExactTest, checked_starts, narrow, same_length, union
from taut.inequalities.rank_sum import rank_p_value
from taut.inequalities.tails import Counts

_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of the cuts

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def labels_blind_between(score: np.ndarray, labels: np.ndarray, strata: np.ndarray) -> ExactTest:
    """Test that which draws are labelled has nothing to do with their scores.

    Null hypothesis: within each stratum, given the multiset of label counts, every assignment of
    them to its draws is equally likely, independently between strata. That is so where draws or
    rows are labelled at random, if a stratum holds draws of equal K and cell.

    Statistics: labelled draws above cuts of the score at quantiles of each stratum, and the sum of
    their mid-ranks, each summed over strata, both sides; and the same for the draws with more
    labels than others, where counts differ. The level is shared evenly.

    Power: labels on draws above the median only: 20 labels among 100 draws give p < 1e-5, 40 give
    p < 1e-10. It sees nothing of which rows of a draw are labelled (`labels_blind_within`), of
    effects that cancel between strata, nor of gold given where r* = 1 with r unrelated.

    Args:
        score: One score per draw, for example its mean reward, shape (draws,); all draws, labelled
            or not. NaN ranks below all numbers.
        labels: How many rows of each draw are labelled (or whether), shape (draws,).
        strata: Integer code of (K, cell) of each draw, shape (draws,).

    Raises:
        AssumptionError: Shapes differ, or a negative count.

    Source: theory §2, what a label is worth.
    """
    score, labels, strata = same_length(score=score, labels=labels, strata=strata)
    if labels.dtype != bool and not np.all(labels >= 0):
        raise AssumptionError("labels: expected a count of labelled rows per draw, found one < 0.")
    counts = labels.astype(np.int64)
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.lexsort((score, narrow(strata)))
    score, counts, strata = score[order], counts[order], strata[order]
    starts = _group_starts(strata)
    tests = []
    for least_count, name in _label_levels(counts):
        tests += _between(score, counts >= least_count, starts, name)
    return union(tests)


def labels_blind_within(values: np.ndarray, labelled: np.ndarray, starts: np.ndarray) -> ExactTest:
    """Test that which rows of a draw are labelled has nothing to do with their values.

    Null hypothesis: given how many rows of each draw are labelled, they are a uniformly random
    subset of its rows, independently between draws. That many may depend on anything.

    Statistics: labelled rows above cuts of the values at quantiles of all rows of partly labelled
    draws, labelled rows that are the largest or smallest of their draw, or above its median; each
    summed over draws, both sides, ties included. The level is shared evenly.

    Power: gold on the best of K = 4: 30 partly labelled draws give p < 1e-15. Draws that are fully
    labelled, not labelled or constant say nothing.

    Args:
        values: Of each row, draw by draw, shape (rows,). NaN ranks below all numbers.
        labelled: Whether the row is labelled, shape (rows,).
        starts: First row of each draw, and the number of rows, shape (draws + 1,).

    Raises:
        AssumptionError: Shapes differ, or starts do not increase from 0 to the number of rows.

    Source: theory §2, what a label is worth.
    """
    values, labelled = same_length(values=values, labelled=labelled)
    starts = checked_starts(starts, len(values))
    labelled = labelled.astype(bool)
    values = np.where(np.isnan(values), -np.inf, values)
    sizes, drawn = np.diff(starts), _sums(labelled, starts)
    partly = (drawn > 0) & (drawn < sizes)
    rows = np.repeat(partly, sizes)
    values, labelled, sizes, drawn = values[rows], labelled[rows], sizes[partly], drawn[partly]
    starts = np.append(0, np.cumsum(sizes))

    def tests() -> Iterator[tuple[str, Counts, int]]:
        for name, marked in _row_marks(values, starts):
            law = tails.hypergeometric_sum(sizes, _sums(marked, starts), drawn)
            yield f"labelled rows {name}", law, int((marked & labelled).sum())

    return union(_two_sided(tests()))


def _label_levels(counts: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield how many labels mark a draw: one, and the count that splits labelled draws evenly."""
    yield 1, "labelled draws"
    found, times = np.unique(counts[counts > 0], return_counts=True)
    if len(found) > 1:
        more = np.cumsum(times[::-1])[::-1][1:] / times.sum()  # share with at least found[1:]
        yield int(found[1:][np.argmin(np.abs(more - 0.5))]), "draws with more labels"


def _between(
    score: np.ndarray, labelled: np.ndarray, starts: np.ndarray, name: str
) -> list[ExactTest]:
    """Return the tests of sorted scores, stratum by stratum, for one way to mark draws."""
    sizes, drawn = np.diff(starts), _sums(labelled, starts)
    before = np.append(0, np.cumsum(labelled))

    def cuts() -> Iterator[tuple[str, Counts, int]]:
        for level, edges in _cut_edges(score, starts):
            law = tails.hypergeometric_sum(sizes, starts[1:] - edges, drawn)
            seen = int((before[starts[1:]] - before[edges]).sum())
            yield f"{name} above the {100 * level:g}% quantile", law, seen

    tests = _two_sided(cuts())
    p_value = rank_p_value(_mid_ranks(score, starts), labelled, starts)
    if p_value is not None:
        tests.append(ExactTest(p_value, 1.0, f"mean rank of {name}"))
    return tests


def _cut_edges(score: np.ndarray, starts: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield distinct cuts: in each stratum the first place above, never between equal scores."""
    new = np.ones(len(score), dtype=bool)
    new[1:] = score[1:] != score[:-1]
    new[starts[:-1]] = True
    places = np.append(np.flatnonzero(new), len(score))  # of each run of equal scores; and the end
    seen = set()
    for level in _LEVELS:
        wanted = starts[:-1] + level * np.diff(starts)
        at = np.searchsorted(places, wanted)
        below, above = places[np.maximum(at - 1, 0)], places[at]
        inside_below = below > starts[:-1]
        inside_above = above < starts[1:]
        nearer = (wanted - below < above - wanted) | ~inside_above
        edges = np.where(inside_below & nearer, below, above)
        edges = np.where(inside_below | inside_above, edges, starts[:-1])
        if np.any(edges > starts[:-1]) and edges.tobytes() not in seen:
            seen.add(edges.tobytes())
            yield level, edges


def _row_marks(values: np.ndarray, starts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and rows above cuts, each a function of the values alone."""
    if len(values) == 0:
        return
    ordered = np.sort(values)
    whole = np.array([0, len(values)])
    for level, edges in _cut_edges(ordered, whole):
        yield f"above the {100 * level:g}% quantile", values >= ordered[edges[0]]
    sizes = np.diff(starts)
    for name, extreme in (("largest", np.maximum), ("smallest", np.minimum)):
        yield (
            f"{name} of their draw",
            values == np.repeat(extreme.reduceat(values, starts[:-1]), sizes),
        )
    yield "above the median of their draw", values > np.repeat(_medians(values, starts), sizes)


def _two_sided(tests: Iterable[tuple[str, Counts, int]]) -> list[ExactTest]:
    """Return the tests whose counts can vary at all."""
    return [
        ExactTest(tails.two_sided(law, seen), tails.least_two_sided(law), name)
        for name, law, seen in tests
        if law.laws
    ]


@_compiled
def _medians(values, starts):
    medians = np.empty(starts.size - 1)
    for i in range(medians.size):
        ordered = np.sort(values[starts[i] : starts[i + 1]])
        medians[i] = ordered[(ordered.size - 1) // 2]
    return medians


def _mid_ranks(score: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return ranks of sorted scores within each stratum, centred, equal for equal scores."""
    new = np.ones(len(score), dtype=bool)
    new[1:] = score[1:] != score[:-1]
    new[starts[:-1]] = True
    places = np.append(np.flatnonzero(new), len(score))
    middle = np.repeat(0.5 * (places[:-1] + places[1:] - 1), np.diff(places))
    centre = np.repeat(0.5 * (starts[:-1] + starts[1:] - 1), np.diff(starts))
    return (middle - centre) / np.repeat(np.diff(starts), np.diff(starts))


@_compiled
def _sums(marked, starts):
    """Return how many rows of each draw are marked."""
    sums = np.zeros(starts.size - 1, dtype=np.int64)
    for i in range(sums.size):
        for at in range(starts[i], starts[i + 1]):
            sums[i] += marked[at]
    return sums


def _group_starts(sorted_codes: np.ndarray) -> np.ndarray:
    if len(sorted_codes) == 0:
        return np.zeros(1, dtype=np.int64)
    new = np.flatnonzero(sorted_codes[1:] != sorted_codes[:-1]) + 1
    return np.concatenate([[0], new, [len(sorted_codes)]])

"""Exact tests of how a log came about: whom labels were given to, which draws were left out.

Each returns a p-value that no honest log makes small, whatever its rewards are: P(p <= a) <= a for
every a, conditional on all rewards. So a skewed, tied or constant reward is never accused, and rare
successes need no minimum count. Several statistics of one test share its level evenly.

*Labels.* Under blind labels, given the rewards and how many labels there are, which ones are
labelled is a uniformly random choice: the number of labelled ones among those above any cut is
hypergeometric (a sum of them over strata or draws, `taut.inequalities.tails`). Cuts are chosen by
rewards and counts, never by who is labelled.

*Equal rewards.* Given its prompt the rollouts of a draw are independent and of one law. For a value
r let f(s) = E p^s (1-p)^(K-s), p = P(reward = r | prompt): it is log-convex in s (Hoelder). Two
independent draws of K rollouts, of any two laws f and g, hold the value s = 2K - j times together,
1 <= j <= K (count the other value where that is more). One of them holds a and the other s - a with
probability proportional to C(K,a) C(K,s-a) f(a) g(s-a). Let A = f(K) g(K-j), B = f(K-j) g(K), the
weights of the two ways in which one draw is all r. At u = (K-a)/j log-convexity gives
f(a) g(s-a) <= A^(1-u) B^u <= (1-u) A + u B, and u averages 1/2 under the hypergeometric weights, so
the total is at most C(2K,j) (A+B)/2, and

    P(one of the two draws is all r | s) >= q = 2 C(K,j) / C(2K,j).

Given the sums of all pairs, pairs are independent: the number of pairs with a draw of equal rewards
is at least a sum of Bernoulli(q). Where such draws were dropped it is too small. The argument needs
no list of values: at most one value fills more than half of a pair (j < K), and it is a function of
what we condition on; j = K counts where the pair holds two values only, K times each.

Source: theory §2; the proofs are ours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numba
import numpy as np
from scipy.special import gammaln

from taut.errors import AssumptionError
from taut.inequalities import tails
from taut.inequalities.rank_sum import rank_p_value
from taut.inequalities.tails import Counts

_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of the cuts

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@dataclass(frozen=True, slots=True)
class ExactTest:
    """Outcome of an exact test.

    Attributes:
        p_value: Under the null hypothesis P(p_value <= a) <= a for every a; in (0, 1].
        least: The smallest p-value that this log could have given: above the level that is asked
            for, the test saw too little to say anything, and its silence is no evidence.
        statistic: Which of its statistics gave the p-value; "" where there was none to look at.
    """

    p_value: float
    least: float
    statistic: str


def labels_blind_between(score: np.ndarray, labels: np.ndarray, strata: np.ndarray) -> ExactTest:
    """Test that which draws are labelled has nothing to do with their scores.

    Null hypothesis: within each stratum, given the multiset of label counts, every assignment of
    them to its draws is equally likely, independently between strata. That is so where draws or
    rows are labelled at random, if a stratum holds draws of equal K and cell.

    Statistics: labelled draws above cuts of the score at quantiles of each stratum, and the sum of
    their mid-ranks, each summed over strata, both sides; and the same for the draws with the most
    labels, where counts differ. The level is shared evenly.

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
    score, labels, strata = _same_length(score=score, labels=labels, strata=strata)
    if labels.dtype != bool and not np.all(labels >= 0):
        raise AssumptionError("labels: expected a count of labelled rows per draw, found one < 0.")
    counts = labels.astype(np.int64)
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.lexsort((score, strata))
    score, counts, strata = score[order], counts[order], strata[order]
    starts = _group_starts(strata)
    marks = [(1, "labelled draws")]
    if counts.max(initial=0) > 1 and counts[counts > 0].min() < counts.max():
        marks.append((int(counts.max()), "draws with the most labels"))
    tests = []
    for least_count, name in marks:
        tests += _between(score, counts >= least_count, starts, name)
    return _union(tests)


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
    values, labelled = _same_length(values=values, labelled=labelled)
    starts = _checked_starts(starts, len(values))
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

    return _union(_two_sided(tests()))


def equal_rewards_kept(
    rewards: np.ndarray,
    starts: np.ndarray,
    *,
    keys: np.ndarray,
    cells: np.ndarray | None = None,
    possible_values: int | None = None,
) -> ExactTest:
    """Test that draws whose rewards are all equal were not left out of the log.

    Null hypothesis: draws are independent (given their prompts, say), and the rollouts of a draw
    are independent with one law given its prompt; laws may differ from draw to draw, and rewards
    may be 0/1, graded or continuous. So a draw here is the rows of one prompt in one cell.

    Statistics: pairs with a draw of equal rewards, against the module docstring's least chance;
    also among pairs that mostly hold the lowest and the highest of such values. With
    `possible_values` = v half of the level goes to the worst case over all laws: each draw has
    equal rewards with chance v^(1-K) or more.

    Power: all such draws dropped of 600 at success .9: p = 1e-42 at K = 8, 1e-24 at 16, 1e-9 at
    32 (median). It sees continuous rewards never, and draws dropped for other reasons never.

    Args:
        rewards: Of each row, draw by draw, shape (rows,); equal means exactly equal. NaN equals
            nothing.
        starts: First row of each draw, and the number of rows, shape (draws + 1,).
        keys: Of each draw, independent of rewards (a hash of its prompt), shape (draws,): they
            decide which draws of equal K and cell make a pair.
        cells: Integer code of each draw's cell, shape (draws,); None is one cell.
        possible_values: How many values a reward can take, where that is known beforehand.

    Raises:
        AssumptionError: Shapes differ, bad starts, or fewer than 2 possible values.

    Source: theory §2, K must not depend on the outcomes.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    starts = _checked_starts(starts, len(rewards))
    cells = np.zeros(len(starts) - 1, dtype=np.int64) if cells is None else cells
    _, keys, cells = _same_length(draws=starts[:-1], keys=keys, cells=cells)
    sizes = np.diff(starts)
    first, second = _pairs(sizes, keys, cells)
    mode, others, equal = _modes(rewards, starts, first, second)
    size = sizes[first].astype(np.float64)
    usable = (others > 1) & (others <= size)  # one that differs leaves the other draw equal
    mode, equal = mode[usable], equal[usable]
    others, size = others[usable].astype(np.float64), size[usable]
    chance = np.minimum(2.0 * np.exp(_log_choose(size, others) - _log_choose(2 * size, others)), 1)
    tests = []
    for name, chosen in _pair_groups(mode):
        law = tails.bernoulli_sum(chance[chosen])
        tests.append(_too_few(f"draws of equal rewards{name}", law, int(equal[chosen].sum())))
    pairs = _union(tests)
    if possible_values is None:
        return pairs
    return _union([_shared(pairs, 1), _worst_case(rewards, starts, possible_values)])


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


def _union(tests: list[ExactTest]) -> ExactTest:
    """Return Bonferroni's test of several."""
    if not tests:
        return ExactTest(1.0, 1.0, "")
    shared = [_shared(test, len(tests)) for test in tests]
    found = min(shared, key=lambda test: test.p_value)
    return ExactTest(found.p_value, min(test.least for test in shared), found.statistic)


def _shared(test: ExactTest, ways: int) -> ExactTest:
    p_value, least = min(1.0, ways * test.p_value), min(1.0, ways * test.least)
    return ExactTest(p_value, least, test.statistic)


def _too_few(name: str, law: Counts, seen: int) -> ExactTest:
    return ExactTest(tails.lower_tail(law, seen), tails.lower_tail(law, 0), name)


def _worst_case(rewards: np.ndarray, starts: np.ndarray, possible_values: int) -> ExactTest:
    if possible_values < 2:
        raise AssumptionError(
            f"possible_values: expected at least 2 values of a reward, found {possible_values}."
        )
    used = np.flatnonzero(np.diff(starts) > 1)
    sizes = np.diff(starts)[used]
    lowest = np.minimum.reduceat(rewards, starts[:-1])[used] if len(used) else sizes
    highest = np.maximum.reduceat(rewards, starts[:-1])[used] if len(used) else sizes
    law = tails.bernoulli_sum(float(possible_values) ** (1.0 - sizes))
    name = "draws of equal rewards, worst case"
    return _too_few(name, law, int((~(lowest < highest)).sum()))


def _pairs(sizes: np.ndarray, keys: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of draws of equal K >= 2 and cell, neighbours in the order of keys."""
    order = np.lexsort((keys, sizes, cells))
    order = order[sizes[order] > 1]
    alike = np.append(True, (np.diff(sizes[order]) != 0) | (np.diff(cells[order]) != 0))
    firsts = np.flatnonzero(alike[: len(order)])
    place = np.arange(len(order)) - np.repeat(firsts, np.diff(np.append(firsts, len(order))))
    paired = np.flatnonzero((place[1:] % 2 == 1) & (place[:-1] % 2 == 0))
    return order[paired], order[paired + 1]


def _pair_groups(mode: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield all pairs, and those whose commonest value is the lowest, the highest of these."""
    yield "", np.ones(len(mode), dtype=bool)
    known = mode[~np.isnan(mode)]
    if len(known) and known.min() < known.max():
        yield ", all the lowest value", mode == known.min()
        yield ", all the highest value", mode == known.max()


@_compiled
def _modes(rewards, starts, first, second):
    """Return of each pair the value of more than half, how many differ, and if a draw is equal.

    Two values, half of the pair each, have no such value (NaN) and K that differ; else 2K differ.
    """
    mode = np.full(first.size, np.nan)
    others = np.zeros(first.size, dtype=np.int64)
    equal = np.zeros(first.size, dtype=np.bool_)
    for i in range(first.size):
        a = np.sort(rewards[starts[first[i]] : starts[first[i] + 1]])
        b = np.sort(rewards[starts[second[i]] : starts[second[i] + 1]])
        both = np.sort(np.concatenate((a, b)))
        size = a.size
        equal[i] = a[0] == a[-1] or b[0] == b[-1]
        middle = both[size]  # a value of more than half covers both middle places
        count = 0
        for value in both:
            count += value == middle
        others[i] = 2 * size
        if count > size:
            mode[i], others[i] = middle, 2 * size - count
        elif both[0] == both[size - 1] and both[size] == both[2 * size - 1]:
            others[i] = size
    return mode, others, equal


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


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _sums(marked: np.ndarray, starts: np.ndarray) -> np.ndarray:
    totals = np.append(0, np.cumsum(marked))
    return totals[starts[1:]] - totals[starts[:-1]]


def _group_starts(sorted_codes: np.ndarray) -> np.ndarray:
    if len(sorted_codes) == 0:
        return np.zeros(1, dtype=np.int64)
    new = np.flatnonzero(sorted_codes[1:] != sorted_codes[:-1]) + 1
    return np.concatenate([[0], new, [len(sorted_codes)]])


def _same_length(**columns: np.ndarray) -> list[np.ndarray]:
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise AssumptionError(f"expected columns of one length, found shapes {shapes}.")
    return list(arrays.values())


def _checked_starts(starts: np.ndarray, rows: int) -> np.ndarray:
    starts = np.asarray(starts, dtype=np.int64)
    whole = starts.ndim == 1 and len(starts) > 0 and starts[0] == 0 and starts[-1] == rows
    if not (whole and np.all(np.diff(starts) > 0)):
        raise AssumptionError(
            f"starts: expected increasing first rows of draws from 0 to {rows}, the number of "
            f"rows, found {starts}."
        )
    return starts

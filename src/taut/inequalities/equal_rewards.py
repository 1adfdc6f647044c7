"""An exact test that draws whose rewards are all equal were not left out of a log (theory §2).

Given its prompt the rollouts of a draw are independent and of one law. For a value r let f(s) = E
p^s (1-p)^(K-s), p = P(reward = r | prompt): it is log-convex in s (Hoelder). Two independent draws
of K rollouts, of any two laws f and g, hold the value s = 2K - j times together, 1 <= j <= K (count
the other value where that is more). One of them holds a and the other s - a with probability
proportional to C(K,a) C(K,s-a) f(a) g(s-a). Let A = f(K) g(K-j), B = f(K-j) g(K), the weights of
the two ways in which one draw is all r. At u = (K-a)/j log-convexity gives f(a) g(s-a) <= A^(1-u)
B^u <= (1-u) A + u B, and u averages 1/2 under the hypergeometric weights, so the total is at most
C(2K,j) (A+B)/2, and

    P(one of the two draws is all r | s) >= q = 2 C(K,j) / C(2K,j).

Given the sums of all pairs, pairs are independent: the number of pairs with a draw of equal rewards
is at least a sum of Bernoulli(q). Where such draws were dropped it is too small. The argument needs
no list of values: at most one value fills more than half of a pair (j < K), and it is a function of
what we condition on; j = K counts where the pair holds two values only, K times each.

Draws of unlike laws make poor pairs (their sum is near K, where q is tiny). So a second pairing
looks only at draws that hold some value at least K - m times, m = min(4, (K-1)/2), and pairs those
of one value. That is a condition on each draw by itself, which leaves draws independent; and for
j <= m every a between K - j and K satisfies it, so q stays as it is.

Source: theory §2, K must not depend on the outcomes; proof and extensions ours.
"""

from collections.abc import Iterator

import numba
import numpy as np

from taut.errors import AssumptionError
from taut.inequalities import tails
from taut.inequalities.exact import ExactTest, checked_starts, narrow, same_length, union
from taut.inequalities.tails import Counts

_WINDOW = 4  # rewards of a nearly equal draw that may differ

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


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

    Statistics: pairs with a draw of equal rewards, against the module docstring's least chance, in
    both pairings; also among pairs that mostly hold the lowest and the highest of such values. With
    `possible_values` = v half of the level goes to the worst case over all laws: each draw has
    equal rewards with chance v^(1-K) or more.

    Power: 600 draws left without one of equal rewards, success .9: median p = 5e-49 at K = 8,
    2e-28 at 16, 2e-7 at 32; success rates from Beta(2, 1): 1e-13, 2e-6, 3e-3. Continuous
    rewards it never sees, nor draws that were dropped for other reasons.

    Args:
        rewards: Of each row, draw by draw, shape (rows,); equal means exactly equal. NaN equals
            nothing.
        starts: First row of each draw, and the number of rows, shape (draws + 1,).
        keys: Of each draw, independent of rewards (a hash of its prompt), shape (draws,): they
            decide which draws of equal K and cell make a pair. Neighbours should be alike: equal
            keys for the draws of one prompt put them side by side.
        cells: Integer code of each draw's cell, shape (draws,); None is one cell.
        possible_values: How many values a reward can take, where that is known beforehand.

    Raises:
        AssumptionError: Shapes differ, bad starts, or fewer than 2 possible values.

    Source: theory §2, K must not depend on the outcomes.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    starts = checked_starts(starts, len(rewards))
    cells = np.zeros(len(starts) - 1, dtype=np.int64) if cells is None else cells
    _, keys, cells = same_length(draws=starts[:-1], keys=keys, cells=cells)
    sizes = np.diff(starts)
    anything = np.zeros(len(sizes))
    near = _nearly_equal(rewards, starts)
    pairs = union(
        _pair_tests(rewards, starts, _pairs(sizes, keys, cells, anything), sizes, "")
        + _pair_tests(
            rewards,
            starts,
            _pairs(sizes, keys, cells, near),
            _windows(sizes),
            " among nearly equal",
        )
    )
    if possible_values is None:
        return pairs
    return union([pairs, _worst_case(rewards, starts, possible_values)])


def _pair_tests(
    rewards: np.ndarray,
    starts: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    most: np.ndarray,
    name: str,
) -> list[ExactTest]:
    """Return the tests of one pairing; at most `most` rewards of a pair may differ (per draw)."""
    first, second = pairs
    mode, others, equal = _modes(rewards, starts, first, second)
    usable = (others > 1) & (others <= most[first])  # one that differs leaves the other draw equal
    mode, equal, others = mode[usable], equal[usable], others[usable].astype(np.float64)
    size = np.diff(starts)[first][usable].astype(np.float64)
    log_chance = tails.log_choose(size, others) - tails.log_choose(2.0 * size, others)
    chance = np.minimum(2.0 * np.exp(log_chance), 1.0)
    tests = []
    for value, chosen in _pair_groups(mode):
        law = tails.bernoulli_sum(chance[chosen])
        seen = int(equal[chosen].sum())
        tests.append(_too_few(f"draws of equal rewards{name}{value}", law, seen))
    return tests


def _windows(sizes: np.ndarray) -> np.ndarray:
    """Return m: how many rewards may differ in a draw that is nearly equal; below K / 2."""
    return np.minimum(_WINDOW, (sizes - 1) // 2)


def _nearly_equal(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the value that all but m of a draw's rewards have; NaN where there is none."""
    return _commonest(rewards, starts, _windows(np.diff(starts)))


def _pairs(
    sizes: np.ndarray, keys: np.ndarray, cells: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of draws of equal K >= 2, cell and value, neighbours in the order of keys."""
    order = np.flatnonzero((sizes > 1) & ~np.isnan(values))
    by = [part[order] for part in (values, sizes, cells)]
    by = [part for part in by if len(part) and (part != part[0]).any()]  # what decides anything
    order = order[np.lexsort((keys[order], *map(narrow, by)))]
    unlike = [part[order][1:] != part[order][:-1] for part in (values, sizes, cells)]
    firsts = np.flatnonzero(np.append(True, np.logical_or.reduce(unlike))[: len(order)])
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


@_compiled
def _modes(rewards, starts, first, second):
    """Return of each pair the value of more than half, how many differ, and if a draw is equal.

    Two values, half of the pair each, have no such value (NaN) and K that differ; else 2K differ.
    """
    mode = np.full(first.size, np.nan)
    others = np.zeros(first.size, dtype=np.int64)
    equal = np.zeros(first.size, dtype=np.bool_)
    both = np.empty(2 * _largest(starts))
    for i in range(first.size):
        one, other = starts[first[i]], starts[second[i]]
        size = starts[first[i] + 1] - one
        both[:size] = rewards[one : one + size]
        both[size : 2 * size] = rewards[other : other + size]
        equal[i] = _all_equal(both, 0, size) or _all_equal(both, size, 2 * size)
        _sort(both, 2 * size)
        middle = both[size]  # a value of more than half covers both middle places
        count = 0
        for at in range(2 * size):
            count += both[at] == middle
        others[i] = 2 * size
        if count > size:
            mode[i], others[i] = middle, 2 * size - count
        elif both[0] == both[size - 1] and both[size] == both[2 * size - 1]:
            others[i] = size
    return mode, others, equal


@_compiled
def _largest(starts):
    most = 0
    for i in range(starts.size - 1):
        most = max(most, starts[i + 1] - starts[i])
    return most


@_compiled
def _all_equal(values, begin, end):
    count = 0
    for at in range(begin, end):
        count += values[at] == values[begin]
    return count == end - begin


@_compiled
def _sort(values, size):
    """Sort the first values, NaN last; few of them in place, one by one."""
    if size > 64:
        values[:size] = np.sort(values[:size])
        return
    for i in range(1, size):
        value = values[i]
        j = i
        while j > 0 and (values[j - 1] > value or (np.isnan(values[j - 1]) and value == value)):
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@_compiled
def _commonest(rewards, starts, windows):
    found = np.full(windows.size, np.nan)
    ordered = np.empty(_largest(starts))
    for i in range(windows.size):
        size = starts[i + 1] - starts[i]
        ordered[:size] = rewards[starts[i] : starts[i + 1]]
        _sort(ordered, size)
        middle = ordered[(size - 1) // 2]  # what more than half are, if any
        count = 0
        for at in range(size):
            count += ordered[at] == middle
        if count >= size - windows[i]:
            found[i] = middle
    return found

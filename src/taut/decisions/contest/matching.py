"""Which draws of two candidates stand opposite each other (theory appendix B).

A draw that both have stands opposite itself. Draws that one side alone has, or has labels of, may
be matched with such of the other, in draw order, which is blind to values: what is left of the
longer side joins evenly. No prompt stands at two places, so that places are independent, and each
place's difference has the mean f(one) - f(other): mean over its draws of one, less mean over those
of the other. Matching n draws with n others gives the normal limit sqrt(v1 + v2) of two independent
means; the ends of two intervals give sqrt(v1) + sqrt(v2), up to 1.41 times as much, and each at
half of delta.

Which draws stand where goes by keys and by where labels are, never by values.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from taut.decisions.contest.pairs import Draws

_FEWEST = 2  # labels on each side that are worth matching
_WORTH = 4  # at least one for so many that are shared


@dataclass(frozen=True, slots=True)
class Members:
    """Draws of one side, place after place.

    Attributes:
        rows: Indices of draws, shape (draws,).
        starts: Where each place begins, shape (places + 1,).
    """

    rows: np.ndarray
    starts: np.ndarray

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of a value a draw at each place."""
        chosen = values[self.rows]
        if len(self.rows) == len(self.starts) - 1:
            return chosen
        return np.add.reduceat(chosen, self.starts[:-1]) / np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class Lined:
    """Two candidates' draws opposite each other.

    Attributes:
        one, other: The draws of each, place by place.
        labelled: Places whose draws have gold on both sides, shape (places,).
        matched: Places of different prompts, shape (places,).
        shared: Draws that both have, wherever they stand.
    """

    one: Members
    other: Members
    labelled: np.ndarray
    matched: np.ndarray
    shared: int

    def __len__(self) -> int:
        return len(self.labelled)


def line_up(one: "Draws", other: "Draws", *, match: bool) -> Lined:
    """Put the draws of two candidates opposite each other, in draw order of the first.

    Args:
        one, other: Draws, each in draw order.
        match: Whether different prompts may stand opposite each other.
    """
    _, mine, theirs = np.intersect1d(one.key, other.key, assume_unique=True, return_indices=True)
    known, also_known = ~np.isnan(one.gold), ~np.isnan(other.gold)
    both = known[mine] & also_known[theirs]
    if not match:
        return _lined([mine], [theirs], [both], len(mine))
    lone, also_lone = _lone(known, mine[both]), _lone(also_known, theirs[both])
    fewest = min(int(lone.sum()), int(also_lone.sum()))
    if fewest < max(_FEWEST, int(both.sum()) / _WORTH):
        lone, also_lone = np.zeros_like(lone), np.zeros_like(also_lone)
    free = ~(lone[mine] | also_lone[theirs])
    ones = [mine[free], np.flatnonzero(lone), np.flatnonzero(_lone(~lone, mine))]
    others = [theirs[free], np.flatnonzero(also_lone), np.flatnonzero(_lone(~also_lone, theirs))]
    return _lined(ones, others, [both[free], True, False], len(mine))


def _lone(chosen: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return which draws are chosen and not among some others, bool."""
    left = chosen.copy()
    left[without] = False
    return left


def _lined(ones, others, labelled, shared: int) -> Lined:
    """Join pairs of one prompt (the first of the lists) and groups that are matched."""
    counts = [min(len(mine), len(theirs)) for mine, theirs in zip(ones, others, strict=True)]
    kinds = zip(labelled, counts, strict=True)
    marks = np.concatenate([np.broadcast_to(mark, count) for mark, count in kinds])
    matched = np.repeat(np.arange(len(counts)) > 0, counts)
    place, rows = _places(ones, counts)
    first = np.full(len(marks), np.iinfo(np.int64).max)
    np.minimum.at(first, place, rows)
    order = np.argsort(first, kind="stable")
    return Lined(
        one=_members(place, rows, order),
        other=_members(*_places(others, counts), order),
        labelled=marks[order],
        matched=matched[order],
        shared=shared,
    )


def _places(parts, counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each draw, dealt evenly within its part, and the draws."""
    places, rows, start = [], [], 0
    for part, count in zip(parts, counts, strict=True):
        kept = part if count else part[:0]
        places.append(start + np.arange(len(kept)) * count // max(len(kept), 1))
        rows.append(kept)
        start += count
    return np.concatenate(places).astype(np.int64), np.concatenate(rows)


def _members(place: np.ndarray, rows: np.ndarray, order: np.ndarray) -> Members:
    """Sort draws by place, places in a given order."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    place = rank[place]
    by_place = np.lexsort((rows, place))
    return Members(rows[by_place], np.searchsorted(place[by_place], np.arange(len(order) + 1)))

"""Who is labelled and by what chance: what gold labels are worth (theory §2, §3.6).

Labels are *blind* where which draws are labelled is independent of everything, K included, and
which rows of them, and how many, of the rollouts' outcomes. How they were chosen decides how they
enter a mean: draws that had unequal chances of a label are weighted.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from taut.draws.layout import Layout
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import AssumptionError

_RARE = math.log(1e-3)  # a way of labelling under which the counts are rarer than this is ruled out


class LabelKind(StrEnum):
    """How the labelled rows lie in their draws."""

    NONE = "none"
    ALL = "all"  # every rollout
    WHOLE = "whole"  # all rollouts of the labelled draws
    FIXED = "fixed"  # the same number of random rollouts of each labelled draw
    ROWS = "rows"  # rows one by one, with one chance
    CHANCES = "chances"  # rows one by one, with the chances that the log records


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of a log.

    Attributes:
        kind: How the labelled rows lie in their draws.
        counts: Labelled rows of each draw, shape (draws,).
        rows, draws: Labelled rollouts, and draws with a label.
        uneven: Draws had unequal chances of a label that were not recorded, so that they are
            weighted by shares read off the log, which is an estimate.
    """

    kind: LabelKind
    counts: np.ndarray
    rows: int
    draws: int
    uneven: bool

    @property
    def one_chance(self) -> bool:
        """Whether every draw had the same chance of a label."""
        return self.kind is not LabelKind.CHANCES and not self.uneven


def labelled_rows(gold: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that carry a gold label, shape (rollouts,)."""
    return ~np.isnan(gold)


def label_counts(gold: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Return the number of labelled rows in each block, shape (blocks,)."""
    return blocks.sums(labelled_rows(gold).astype(np.int64))


def labelled_means(
    values: np.ndarray, gold: np.ndarray, blocks: Blocks, counts: np.ndarray | None = None
) -> np.ndarray:
    """Mean of values over the labelled rows of each block; NaN where a block has none.

    `counts` are the `label_counts` of these blocks, where they are known already.
    """
    counts = label_counts(gold, blocks) if counts is None else counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return blocks.sums(np.where(labelled_rows(gold), values, 0.0)) / counts


def describe_labels(rollouts: Rollouts, layout: Layout) -> Labels | None:
    """Say how a log is labelled; None where no row has a label.

    Raises:
        AssumptionError: A recorded chance of a label outside (0, 1].
    """
    gold = rollouts.gold
    if gold is None or np.isnan(gold).all():
        return None
    counts = label_counts(gold, layout.blocks)
    kind = _kind(counts, layout.blocks.sizes, recorded_chances(rollouts) is not None)
    return Labels(
        kind=kind,
        counts=counts,
        rows=int(counts.sum()),
        draws=int((counts > 0).sum()),
        uneven=kind is LabelKind.ROWS and inclusion_varies(counts, layout.blocks.sizes),
    )


def recorded_chances(rollouts: Rollouts) -> np.ndarray | None:
    """Return the chance of a label of each row, where rows had different ones; None otherwise.

    Rows without a label may lack theirs.

    Raises:
        AssumptionError: A labelled row without a chance in (0, 1].
    """
    chances = rollouts.label_probability
    if chances is None or rollouts.gold is None or np.isnan(chances).all():
        return None
    labelled = labelled_rows(rollouts.gold)
    wrong = labelled & ~((chances > 0) & (chances <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise AssumptionError(
            f"row {row}: 'label_probability' is {chances[row]}; expected a chance above 0 and at "
            "most 1 on every labelled row."
        )
    known = chances[~np.isnan(chances)]
    return None if (known == known[0]).all() else chances


def _kind(counts: np.ndarray, sizes: np.ndarray, by_chances: bool) -> LabelKind:
    if (counts == sizes).all():
        return LabelKind.ALL
    if by_chances:
        return LabelKind.CHANCES
    known = counts > 0
    if (counts[known] == sizes[known]).all() and (
        _constant(sizes) or _filled_by_design(counts, sizes)
    ):
        return LabelKind.WHOLE
    if _constant(counts[known]) and (_constant(sizes) or _fixed_by_design(counts, sizes)):
        return LabelKind.FIXED
    return LabelKind.ROWS


def _constant(values: np.ndarray) -> bool:
    return not (values != values[:1]).any()


def inclusion_varies(counts: np.ndarray, sizes: np.ndarray) -> bool:
    """Say whether draws had unequal chances of a label: rows labelled one by one, K unequal.

    With equal K, with every draw labelled, with every labelled draw labelled whole, or with the
    same number of rows of each labelled draw, all draws had the same chance.
    """
    known = counts > 0
    if known.all() or _constant(sizes):
        return False
    whole = (counts[known] == sizes[known]).all() and _filled_by_design(counts, sizes)
    return not (whole or _fixed_by_design(counts, sizes))


def _filled_by_design(counts: np.ndarray, sizes: np.ndarray) -> bool:
    """Say whether rows labelled one by one would hardly ever (1e-3) fill all labelled draws."""
    rate = counts.sum() / sizes.sum()
    filled = sizes[counts > 0].astype(np.float64)
    if rate >= 1:
        return False
    chance = filled * math.log(rate) - np.log1p(-((1 - rate) ** filled))
    return float(chance.sum()) < _RARE


def _fixed_by_design(counts: np.ndarray, sizes: np.ndarray) -> bool:
    """Say whether rows labelled one by one would hardly ever (1e-3) give one count per draw."""
    from scipy.stats import binom

    known = counts > 0
    if not _constant(counts[known]):
        return False
    rate = counts.sum() / sizes.sum()
    size = sizes[known]
    with np.errstate(divide="ignore"):
        chance = binom.logpmf(counts[known], size, rate) - np.log1p(-((1 - rate) ** size))
    return float(chance.sum()) < _RARE

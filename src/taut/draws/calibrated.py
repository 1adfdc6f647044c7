"""Gold against the learned reward in bins of prompts, with intervals that hold together."""

from dataclasses import dataclass

import numpy as np

from taut.draws.labels import label_counts, labelled_means
from taut.draws.layout import lay_out, settle
from taut.draws.rollouts import Rollouts
from taut.inequalities.mean import mean_interval

_BINS = 10
_DELTA = 0.05
_FEWEST = 8  # labelled prompts in a bin


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Labelled prompts whose learned rewards lie next to each other.

    Attributes:
        learned: Their mean learned reward, reward units.
        gold: Their mean gold.
        lower, upper: For the mean of what their gold is expected to be, units of gold.
        prompts: How many they are.
    """

    learned: float
    gold: float
    lower: float
    upper: float
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judge against gold.

    Attributes:
        bins: From low learned rewards to high ones.
        delta: Probability that any bin's interval misses, where the range was declared.
        range_declared: The log says gold's range; else the one that was seen stands in for it, and
            the intervals carry no guarantee.
        one_scale: Gold is in reward units.
    """

    bins: tuple[Bin, ...]
    delta: float
    range_declared: bool
    one_scale: bool


def judge_bins(rollouts: Rollouts) -> Judged | None:
    """Return mean learned reward, mean gold and its interval for bins of labelled prompts.

    Prompts are ordered by their mean learned reward and dealt to at most ten bins of equal size.
    Given the learned rewards, gold in a bin has a law of its own for each prompt: the mixture
    interval, which no order moves, is about the mean of their means.

    Args:
        rollouts: The log.

    Source: theory §2.5, δ split over the bins.
    """
    if rollouts.gold is None or np.isnan(rollouts.gold).all():
        return None
    facts = rollouts.facts
    one_scale = facts.gold_range is None or facts.gold_range == facts.reward_range
    rollouts = settle(rollouts).rollouts
    blocks = lay_out(rollouts, seed=0, mode="sample").blocks
    blocks = blocks.subset(label_counts(rollouts.gold, blocks) > 0)
    count = min(_BINS, len(blocks) // _FEWEST)
    if count < 2:
        return None
    learned = labelled_means(rollouts.reward, rollouts.gold, blocks)
    gold = labelled_means(rollouts.gold, rollouts.gold, blocks)
    seen = float(np.nanmin(rollouts.gold)), float(np.nanmax(rollouts.gold))
    declared = facts.gold_range or facts.reward_range
    known = declared is not None and declared[0] <= seen[0] and seen[1] <= declared[1]
    low, high = declared if known else seen
    if not low < high:
        return None
    bins = []
    for rows in np.array_split(np.argsort(learned, kind="stable"), count):
        found = mean_interval(
            gold[rows], low=low, high=high, delta=_DELTA / count, method="mixture"
        )
        bins.append(
            Bin(
                learned=float(learned[rows].mean()),
                gold=float(gold[rows].mean()),
                lower=found.lower,
                upper=found.upper,
                prompts=len(rows),
            )
        )
    return Judged(bins=tuple(bins), delta=_DELTA, range_declared=known, one_scale=one_scale)

"""Gold against the learned reward in bins of prompts, with intervals that hold together."""

import numpy as np

from taut.draws.labels import label_counts, labelled_means
from taut.draws.layout import lay_out, settle
from taut.draws.rollouts import Rollouts
from taut.inequalities.mean import mean_interval

_BINS = 10
_FEWEST = 8  # labelled prompts in a bin


def judge_bins(rollouts: Rollouts, *, delta: float = 0.05) -> list[dict[str, float]]:
    """Return mean learned reward, mean gold and its interval for bins of labelled prompts.

    Prompts are ordered by their mean learned reward and dealt to at most ten bins of equal size.
    Gold is bounded by the range that was seen, so that the intervals are for looking, not for
    certifying.

    Args:
        rollouts: The log.
        delta: Probability that any bin's interval misses.
    """
    if rollouts.gold is None or np.isnan(rollouts.gold).all():
        return []
    rollouts = settle(rollouts).rollouts
    blocks = lay_out(rollouts, seed=0, mode="sample").blocks
    blocks = blocks.subset(label_counts(rollouts.gold, blocks) > 0)
    count = min(_BINS, len(blocks) // _FEWEST)
    if count < 2:
        return []
    learned = labelled_means(rollouts.reward, rollouts.gold, blocks)
    gold = labelled_means(rollouts.gold, rollouts.gold, blocks)
    low, high = float(np.nanmin(rollouts.gold)), float(np.nanmax(rollouts.gold))
    if not low < high:
        return []
    bins = []
    for rows in np.array_split(np.argsort(learned, kind="stable"), count):
        found = mean_interval(np.sort(gold[rows]), low=low, high=high, delta=delta / count)
        bins.append(
            {
                "learned": float(learned[rows].mean()),
                "gold": float(gold[rows].mean()),
                "lower": found.lower,
                "upper": found.upper,
                "n": len(rows),
            }
        )
    return bins

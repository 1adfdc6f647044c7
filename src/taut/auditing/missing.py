"""Rollouts that were launched and are not in the log, counted at their worst (theory §2).

A lower end counts them at the lowest value that they can have, an upper end at the highest. What is
missing may hang on anything: the capital of constant bets grows with every block, so that putting
less in its place keeps the bound (`taut.inequalities.anytime`); predictable bets would learn from
the gaps what comes later.
"""

from dataclasses import dataclass

import numpy as np

from taut.bounds.sampling import block_interval
from taut.draws.rollouts import Blocks
from taut.errors import AssumptionError
from taut.inequalities.concentration import clopper_pearson
from taut.types import Interval

_SHARE = 0.1  # of an end's budget, for how many draws are missing where not all are labelled


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing of a log.

    Attributes:
        share: Share of the launched rollouts of each draw that is missing, shape (draws,).
        draws: Launched draws of which nothing is there.
    """

    share: np.ndarray
    draws: int


def count_missing(blocks: Blocks, launched: tuple[int, int]) -> Missing:
    """Count what is missing of the prompts and rollouts per prompt that were launched.

    Raises:
        AssumptionError: More is in the log than was launched.
    """
    prompts, size = launched
    most = int(blocks.sizes.max())
    if len(blocks) > prompts or most > size:
        raise AssumptionError(
            f"{prompts:,} prompts with {size} rollouts each are said to have been launched, and "
            f"the log holds {len(blocks):,} prompts with up to {most} rollouts; correct --launched."
        )
    return Missing(share=1 - blocks.sizes / size, draws=prompts - len(blocks))


def worst_interval(
    values: np.ndarray,
    missing: Missing,
    labelled: np.ndarray | None,
    *,
    low: float,
    high: float,
    delta_lower: float,
    delta_upper: float,
    method: str,
) -> Interval:
    """Bound the mean over all launched rollouts.

    Args:
        values: Of the draws that say something, in draw order, any unit.
        missing: What is missing.
        labelled: Which draws `values` are of, a mask; None for all.
        low, high: Range of a rollout's value, same unit.
        delta_lower, delta_upper: Probability that each end may miss.
        method: An order-free bound, as in `block_interval`.

    Where `values` are of some draws only, chosen blindly among those that are there, the draws of
    which nothing is there are a share of all that Clopper and Pearson bound, at a tenth of an end's
    budget.
    """
    share = missing.share if labelled is None else missing.share[labelled]
    whole = labelled is None or bool(labelled.all())
    ends = []
    for worst, spent in ((low, delta_lower), (high, delta_upper)):
        placed = np.clip((1 - share) * values + share * worst, low, high)
        if whole:
            placed = np.r_[placed, np.full(missing.draws, worst)]
        event = not whole and missing.draws > 0
        part = spent * (1 - _SHARE) if event else spent
        found = block_interval(
            placed,
            low=low,
            high=high,
            delta_lower=part if worst == low else 0.0,
            delta_upper=part if worst == high else 0.0,
            method=method,
        )
        end = found.lower if worst == low else found.upper
        if event and spent > 0:
            flags = np.r_[np.ones(missing.draws), np.zeros(len(missing.share))]
            gone = clopper_pearson(flags, delta=spent * _SHARE, side="upper").upper
            end = (1 - gone) * end + gone * worst
        ends.append(end)
    return Interval(ends[0], ends[1])

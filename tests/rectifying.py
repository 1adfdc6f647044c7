"""Small rectifier blocks that several tests are made of."""

import numpy as np

from taut.inequalities import rectifier
from taut.inequalities.label_designs import LabelledDraws, labelled_blocks
from taut.inequalities.rectifier import rectified_interval

ETA = 0.025
SIDES = ("lower", "upper")


def single(gold, labelled_judge, group_judge):
    """Blocks of one row a draw: labelled judge values (n,), those of the groups (n, G)."""
    n, size = group_judge.shape
    judge = np.c_[labelled_judge, group_judge]
    column = np.full((n, size + 1), np.nan)
    column[:, 0] = gold
    draws = LabelledDraws(
        gold=column.ravel(), starts=np.arange(n * (size + 1) + 1), judge=judge.ravel()
    )
    return labelled_blocks(draws, block=np.repeat(np.arange(n), size + 1), labelled_share=1.0)


def graded(rng, n, group=6, strength=10.0):
    """A curved judge q^3 of graded gold with mean q; the mean is 1/2."""
    quality = rng.beta(4, 4, (n, group + 1))
    gold = rng.beta(quality[:, 0] * strength, (1 - quality[:, 0]) * strength)
    return single(gold, quality[:, 0] ** 3, quality[:, 1:] ** 3)


def interval_of(blocks, delta=2 * ETA, **options):
    return rectified_interval(
        blocks, delta_lower=delta / 2, delta_upper=delta / 2, **options
    ).interval


def stakes_of(blocks, side, horizon=None):
    horizons = np.full(len(blocks), horizon or len(blocks), dtype=np.int64)
    return rectifier._stakes(blocks, side, ETA, horizons)


def rows_of(blocks, t):
    return slice(blocks.starts[t], blocks.starts[t + 1])


def replaced(blocks, **changes):
    fields = {name: getattr(blocks, name) for name in blocks.__dataclass_fields__}
    return rectifier.RectifierBlocks(**{**fields, **changes})


def head_of(blocks, t):
    """The first t blocks."""
    cut = {"value": t, "floor": t, "ceiling": t, "stops": t, "starts": t + 1}
    cut |= {"group_value": t, "group_floor": t, "group_ceiling": t}
    cut |= {"judge": blocks.starts[t], "coefficient": blocks.starts[t]}
    return replaced(blocks, **{name: getattr(blocks, name)[:end] for name, end in cut.items()})

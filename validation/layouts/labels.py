"""Which rows get a gold label: a mask, given a log in which every row has one.

The blind ones look at nothing but where rows are. A draw is a prompt with all of its rows.
"""

import numpy as np
from validation.layouts.data import Data

_SHARE = 0.4


def _some_draws(rng, data: Data, share: float = _SHARE) -> np.ndarray:
    kinds = np.unique(data.prompt)
    count = max(1, round(share * len(kinds)))
    return np.isin(data.prompt, rng.choice(kinds, count, replace=False))


def _one_a_draw(data: Data, rank: np.ndarray) -> np.ndarray:
    """Mark the row of least rank in each draw."""
    order = np.lexsort((rank, data.prompt))
    first = np.r_[True, np.diff(data.prompt[order]) != 0]
    mask = np.zeros(len(rank), dtype=bool)
    mask[order[first]] = True
    return mask


# --- blind ----------------------------------------------------------------------------------------


def nothing(rng, data):
    return np.zeros(len(data), dtype=bool)


def everything(rng, data):
    return np.ones(len(data), dtype=bool)


def whole_draws(rng, data):
    """All rows of so many draws, at random."""
    return _some_draws(rng, data)


def few_draws(rng, data):
    """Twenty draws, at random."""
    return _some_draws(rng, data, 20 / len(np.unique(data.prompt)))


def one_row_of_some(rng, data):
    """One random row of so many random draws."""
    return one_row(rng, data) & _some_draws(rng, data)


def one_row(rng, data):
    """One random row of every draw."""
    return _one_a_draw(data, rng.random(len(data)))


def rows(rng, data):
    """So many rows of the log, at random, one by one."""
    mask = np.zeros(len(data), dtype=bool)
    mask[rng.choice(len(data), round(_SHARE * len(data)), replace=False)] = True
    return mask


def coins(rng, data):
    """Each row by a coin of its own."""
    return rng.random(len(data)) < _SHARE


def chances(rng, data):
    """Each row by a coin whose chance rests on the learned reward, and is written down."""
    chance = np.where(data.reward >= 0.5, 0.7, 0.25)
    data.columns["label_probability"] = chance
    return rng.random(len(data)) < chance


def last_draws(rng, data):
    """The draws that stand last in the file, whose order means nothing."""
    kinds = np.unique(data.prompt)
    return data.prompt >= kinds[round((1 - _SHARE) * len(kinds))]


# --- blind to outcomes, not to where rows stand ---------------------------------------------------


def _cell(data: Data) -> np.ndarray:
    for name in ("step", "policy", "run"):
        if name in data.columns:
            return np.unique(data.columns[name], return_inverse=True)[1]
    raise ValueError("the layout has no step, policy or run")


def last_cell_only(rng, data):
    """All rows of the last step (policy, run), and none of the others."""
    cell = _cell(data)
    return cell == cell.max()


def uneven_cells(rng, data):
    """Most draws of the last step (policy, run), and few of each other one."""
    cell = _cell(data)
    chosen = [
        np.isin(data.prompt, rng.permutation(np.unique(data.prompt[cell == c]))[:count])
        & (cell == c)
        for c, count in zip(np.unique(cell), _counts(data, cell), strict=True)
    ]
    return np.any(chosen, axis=0)


def _counts(data: Data, cell: np.ndarray) -> list[int]:
    sizes = [len(np.unique(data.prompt[cell == c])) for c in np.unique(cell)]
    return [max(2, round(size / 5)) for size in sizes[:-1]] + sizes[-1:]


def draws_of_each_cell(rng, data):
    """So many draws of each step (policy, run), chosen for each one apart."""
    cell = _cell(data)
    return np.any(
        [
            np.isin(data.prompt, _pick(rng, np.unique(data.prompt[cell == c]))) & (cell == c)
            for c in np.unique(cell)
        ],
        axis=0,
    )


def _pick(rng, kinds: np.ndarray) -> np.ndarray:
    return rng.choice(kinds, max(2, round(_SHARE * len(kinds))), replace=False)


# --- by outcome -----------------------------------------------------------------------------------


def _high(values: np.ndarray) -> np.ndarray:
    """Mark the values above the median; where that is none of them, those at it."""
    middle = np.median(values)
    return values > middle if (values > middle).any() else values >= middle


def rows_by_outcome(rng, data):
    """A success is labelled nine times as often as a failure."""
    return rng.random(len(data)) < np.where(_high(data.gold), 0.9, 0.1)


def draws_by_outcome(rng, data):
    """Whole draws, by the mean of their true rewards."""
    good = _high(data.over_draws(data.gold))
    kinds, first = np.unique(data.prompt, return_index=True)
    return np.isin(data.prompt, kinds[rng.random(len(kinds)) < np.where(good[first], 0.9, 0.1)])


def draws_of_many_rows(rng, data):
    """The draws that have most rollouts, where K says how hard a prompt is."""
    _, place, size = np.unique(data.prompt, return_inverse=True, return_counts=True)
    return size[place] > np.median(size)


def best_of_draw(rng, data):
    """The row of each draw that the judge likes best."""
    return _one_a_draw(data, -(data.reward + 1e-6 * rng.random(len(data))))


def worst_of_draw(rng, data):
    """The row of each draw that the judge likes least."""
    return _one_a_draw(data, data.reward + 1e-6 * rng.random(len(data)))


def better_half_of_draw(rng, data):
    """The rows of each draw that the judge puts above its mean."""
    return data.reward > data.over_draws(data.reward)


def likely_successes(rng, data):
    """Rows whose score is high are labelled more often, and nothing says so."""
    return rng.random(len(data)) < np.where(_high(data.reward), 0.8, 0.25)

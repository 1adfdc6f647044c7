"""Several annotators: whose label is whose, and how the labels of one rollout become one."""

from typing import Literal

import numpy as np

from taut.errors import LogError
from taut.labels.answers import Answers, some
from taut.logs.keys import combine, hash_ids

Joining = Literal["mean", "majority", "one"]


def one_each(
    answers: Answers, where: np.ndarray, joining: Joining
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return one label for each labelled row of the log, and how many rows had several.

    Args:
        answers: Label files, read.
        where: Row of the log of each label.
        joining: "mean", "majority" (of equally many the mean), or "one", whom a hash chooses.

    Returns:
        Distinct rows, their labels, and the count.
    """
    given = ~np.isnan(answers.label)
    rows, values = where[given], answers.label[given]
    distinct, index, counts = np.unique(rows, return_inverse=True, return_counts=True)
    joined = np.bincount(index, weights=values) / counts if len(rows) else np.empty(0)
    several = np.flatnonzero(counts > 1)
    if joining == "one":
        order = np.lexsort((_by_hash(answers)[given], index))
        joined = values[order[np.r_[0, np.cumsum(counts)[:-1]]]] if len(rows) else joined
    elif joining == "majority" and len(several):
        order = np.argsort(index, kind="stable")
        groups = np.split(values[order], np.cumsum(counts)[:-1])
        for at in several:
            choices, votes = np.unique(groups[at], return_counts=True)
            joined[at] = choices[votes == votes.max()].mean()
    return distinct, joined, len(several)


def by_annotator(answers: Answers, *, low: float, high: float) -> tuple[np.ndarray, list[str]]:
    """Lay labels out as items by annotators.

    Of a unit with several rollouts (a whole prompt) the first with most labels is an item, as
    rollouts of one prompt are not independent.

    Args:
        answers: Label files, read.
        low, high: The scale.

    Returns:
        Labels, shape (items, annotators), NaN where there is none; and names.

    Raises:
        LogError: Labels have no annotators, no ids, or leave the range.
    """
    names = sorted({name for name in answers.annotator if name})
    if answers.rollout_id is None or len(names) < 2:
        raise LogError(
            f"expected labels with 'rollout_id' of two annotators at least (column 'annotator'), "
            f"found {', '.join(names) or 'none'}; name them on the page or in the file."
        )
    keys = hash_ids(answers.rollout_id)
    distinct, first, index = np.unique(keys, return_index=True, return_inverse=True)
    check_twice(answers, index)
    table = np.full((len(distinct), len(names)), np.nan)
    column = np.array([names.index(name) if name else -1 for name in answers.annotator])
    given = (column >= 0) & ~np.isnan(answers.label)
    table[index[given], column[given]] = answers.label[given]
    if np.any((table[~np.isnan(table)] < low) | (table[~np.isnan(table)] > high)):
        raise LogError(f"expected labels from {low:g} to {high:g}; say what others mean.")
    unit = answers.unit[first]
    unit = np.where(unit < 0, -1 - np.arange(len(unit)), unit)
    order = np.lexsort((distinct, -(~np.isnan(table)).sum(axis=1), unit))
    return table[order[np.unique(unit[order], return_index=True)[1]]], names


def check_twice(answers: Answers, where: np.ndarray) -> None:
    """Raise LogError where an annotator labelled a rollout twice.

    Args:
        answers: Label files, read.
        where: A number for the rollout of each row, from 0.
    """
    people = {name: code for code, name in enumerate(dict.fromkeys(answers.annotator))}
    codes = np.array([people[name] for name in answers.annotator], dtype=np.int64)
    given = np.flatnonzero(~np.isnan(answers.label))
    key = where * len(people) + codes
    order = given[np.argsort(key[given], kind="stable")]
    again = order[1:][key[order][1:] == key[order][:-1]]
    if not len(again):
        return
    row = int(again.min())
    first = int(given[key[given] == key[row]][0])
    who = f" by {answers.annotator[row]}" if answers.annotator[row] else ""
    raise LogError(
        f"{answers.place(row)}: expected one label of a rollout{who}, found "
        f"{some(answers, again)} for the second time (first at {answers.place(first)}); keep one, "
        "or name the annotators in a column 'annotator'."
    )


def _by_hash(answers: Answers) -> np.ndarray:
    """An order of all labels that neither values nor files have a say in, shape (rows,)."""
    ids = answers.rollout_id or [" ".join(pair) for pair in answers.words]
    return combine(hash_ids(ids), hash_ids(answers.annotator))

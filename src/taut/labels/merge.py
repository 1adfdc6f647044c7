"""Labels back to their log: which rollout each belongs to, and what of the sheet has come back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from taut.errors import LogError, UsageError
from taut.labels.answers import Answers
from taut.labels.design import SheetDesign
from taut.labels.draw import Deal, Drawn, Population, check_log, redraw
from taut.logs.keys import combine, hash_ids

Joining = Literal["mean", "majority", "one"]
_SHOWN = 3  # ids named in a message


class Returned(BaseModel):
    """What has come back of the rows that were drawn.

    Attributes:
        drawn, labelled, skipped, open: Rows; `drawn` = the sum of the others.
        units, prefix: Units drawn; and how many of the first of them are labelled in full. Those
            are a random sample by themselves, whatever made the annotators stop (theory §3.6).
        missing: Ids of the first rows without a label, at most 20, in the order of the sheet.
        annotators: Who labelled; empty where nobody is named.
        joining: How several labels of a row became one; None where no row has several.
        several: Rows with labels of more than one annotator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drawn: int
    labelled: int
    skipped: int
    open: int
    units: int
    prefix: int
    missing: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()
    joining: Joining | None = None
    several: int = 0

    @property
    def complete(self) -> bool:
        """Whether every row that was drawn has a label."""
        return self.prefix == self.units


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels on the rows of a log, and how those rows were chosen: what an audit takes.

    Attributes:
        gold: Gold units, NaN where a row has no label, shape (rollouts,).
        design: How rows were chosen, where a sheet of ours says so; else None.
        rows: Rows that were drawn, in the order of the sheet; without a design the labelled ones.
        unit: Unit of each of these, not falling (`SheetDesign`).
        chance: Chance of a label of each of these; NaN where unknown.
        returned: What has come back of them.
    """

    gold: np.ndarray
    design: SheetDesign | None
    rows: np.ndarray
    unit: np.ndarray
    chance: np.ndarray
    returned: Returned

    def first_rows(self) -> np.ndarray:
        """Return the first labelled row of each unit: independent rows, in random order."""
        given = ~np.isnan(self.gold[self.rows])
        _, first = np.unique(self.unit[given], return_index=True)
        return self.rows[given][first]


def join(
    answers: Answers,
    population: Population,
    *,
    names: Sequence[str] | None = None,
    words: np.ndarray | None = None,
    joining: Joining = "mean",
) -> Labels:
    """Join labels to the rows of a log.

    Args:
        answers: Label files, read.
        population: The log.
        names: Id of each row, for messages; keys otherwise.
        words: uint64 key of prompt and response of each row (`word_keys`), where labels have no
            ids.
        joining: Several annotators of one row: their mean, what most of them say (of equally many
            the mean), or what one of them says, whom a hash chooses.

    Raises:
        LogError: A label of no row of the log, or of a row that was not drawn; two labels of one
            annotator for a row; sheets of several logs or orders.
    """
    where = _rows(answers, population, words)
    _check_known(answers, where)
    design = one_design(answers)
    _check_twice(answers, where)
    drawn = _drawn(answers, where, population, design)
    if design is not None:
        _check_drawn(answers, where, drawn)
    given = ~np.isnan(answers.label)
    _check_range(answers, design)
    gold = np.full(len(population.rollout), np.nan)
    order = _by_hash(answers)[given] if joining == "one" else np.zeros(int(given.sum()))
    rows, values, several = _one_each(where[given], answers.label[given], joining, order)
    gold[rows] = values
    returned = _returned(answers, where, gold, drawn, design, names)
    if several:
        returned = returned.model_copy(update={"joining": joining, "several": several})
    return Labels(
        gold=gold,
        design=design,
        rows=drawn.rows,
        unit=drawn.unit,
        chance=drawn.chance,
        returned=returned,
    )


def word_keys(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Return one uint64 key for each pair of texts, shape (rows,)."""
    return combine(hash_ids(list(prompts)), hash_ids(list(responses)))


def one_design(answers: Answers) -> SheetDesign | None:
    """Return the design of the longest of the sheets that labels came on.

    Raises:
        LogError: Sheets of several orders, or labels with and without a sheet.
    """
    known = [design for design in answers.designs if design is not None]
    if not known:
        return None
    if len(known) < len(answers.designs):
        odd = answers.files[answers.designs.index(None)]
        raise LogError(
            f"{odd}: it has labels without a sheet, other files come from one; who chose these "
            "rows? Merge them by themselves, or label them on a sheet."
        )
    longest = max(known, key=lambda design: len(design.parts))
    for name, design in zip(answers.files, answers.designs, strict=True):
        if not longest.same_series(design):
            raise LogError(
                f"{name}: its sheet was drawn in another way or order than that of "
                f"{answers.files[answers.designs.index(longest)]}; labels of one order together."
            )
    return longest


def by_annotator(answers: Answers) -> tuple[np.ndarray, list[str], tuple[float, float]]:
    """Lay labels out as items by annotators, and return the range that they keep to.

    Of a unit with several rollouts (a whole prompt) the first with most labels is an item, as
    rollouts of one prompt are not independent.

    Returns:
        Labels, shape (items, annotators), NaN where there is none; names; and the scale of the
        sheet, else 0 and 1.

    Raises:
        LogError: Labels have no annotators, no ids, or leave the range.
    """
    names = sorted({name for name in answers.annotator if name})
    if answers.rollout_id is None or len(names) < 2:
        raise LogError(
            f"expected labels with 'rollout_id' of two annotators at least (column 'annotator'), "
            f"found {', '.join(names) or 'none'}; name them on the page or in the file."
        )
    design = one_design(answers)
    ends = (design.scale.low, design.scale.high) if design else (0.0, 1.0)
    keys = hash_ids(answers.rollout_id)
    distinct, first, index = np.unique(keys, return_index=True, return_inverse=True)
    _check_twice(answers, index)
    table = np.full((len(distinct), len(names)), np.nan)
    column = np.array([names.index(name) if name else -1 for name in answers.annotator])
    given = (column >= 0) & ~np.isnan(answers.label)
    table[index[given], column[given]] = answers.label[given]
    if np.any((table[~np.isnan(table)] < ends[0]) | (table[~np.isnan(table)] > ends[1])):
        raise LogError(f"expected labels from {ends[0]:g} to {ends[1]:g}; say what others mean.")
    unit = answers.unit[first]
    unit = np.where(unit < 0, -1 - np.arange(len(unit)), unit)
    order = np.lexsort((distinct, -(~np.isnan(table)).sum(axis=1), unit))
    return table[order[np.unique(unit[order], return_index=True)[1]]], names, ends


def add_gold(pieces: Iterable, gold: np.ndarray) -> Iterator:
    """Give each piece of a log (`taut.logs.reduce.Reduced`) its part of a column of gold."""
    done = 0
    for piece in pieces:
        rows = len(piece.columns["reward"])
        yield replace(piece, columns={**piece.columns, "gold": gold[done : done + rows]})
        done += rows


# --- Which row ------------------------------------------------------------------------------------


def _rows(answers: Answers, population: Population, words: np.ndarray | None) -> np.ndarray:
    """Row of the log of each label; -1 where there is none."""
    if answers.rollout_id is not None:
        return _find(hash_ids(answers.rollout_id), population.rollout)
    if words is None:
        raise UsageError("labels without rollout_id need the texts of the log.")
    keys = word_keys(*zip(*answers.words, strict=True)) if len(answers) else np.empty(0, np.uint64)
    where = _find(keys, words)
    ordered = np.sort(words)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    unclear = np.flatnonzero(np.isin(keys, twice))
    if len(unclear):
        raise LogError(
            f"{answers.place(unclear[0])}: several rollouts of the log have this prompt and "
            "response; labels need 'rollout_id' to tell them apart."
        )
    return where


def _find(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Position in `among` of each key, -1 where it is not there; works on the shorter side."""
    order = np.argsort(keys)
    ordered = keys[order]
    place = np.searchsorted(ordered, among)
    inside = place < len(ordered)
    hit = np.flatnonzero(inside)[ordered[place[inside]] == among[inside]]
    first = np.full(len(keys), -1, dtype=np.int64)
    first[place[hit]] = hit
    # Equal keys stand side by side; the first of them was found.
    start = np.searchsorted(ordered, ordered)
    out = np.empty(len(keys), dtype=np.int64)
    out[order] = first[start]
    return out


def _check_known(answers: Answers, where: np.ndarray) -> None:
    unknown = np.flatnonzero(where < 0)
    if not len(unknown):
        return
    rounded = answers.rollout_id is not None and any(
        "E+" in answers.rollout_id[row].upper() for row in unknown[:_SHOWN]
    )
    hint = (
        "a spreadsheet has rounded the ids: import the column as text"
        if rounded
        else "are these the labels of this log?"
    )
    raise LogError(
        f"{answers.place(unknown[0])}: expected rollouts of the log, found "
        f"{_some(answers, unknown)} that it does not have; {hint}"
    )


def _check_twice(answers: Answers, where: np.ndarray) -> None:
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
        f"{_some(answers, again)} for the second time (first at {answers.place(first)}); keep one, "
        "or name the annotators in a column 'annotator'."
    )


def _check_drawn(answers: Answers, where: np.ndarray, drawn: Drawn) -> None:
    labelled = np.flatnonzero(~np.isnan(answers.label) & ~np.isin(where, drawn.rows))
    if len(labelled):
        raise LogError(
            f"{answers.place(labelled[0])}: expected labels of the {len(drawn)} rollouts that were "
            f"drawn, found {_some(answers, labelled)} that nobody drew; a certificate needs labels "
            "of rows that chance chose: leave the others out, or merge them as labels without a "
            "sheet."
        )


def _check_range(answers: Answers, design: SheetDesign | None) -> None:
    if design is None:
        return
    low, high = design.scale.low, design.scale.high
    with np.errstate(invalid="ignore"):
        out = np.flatnonzero((answers.label < low) | (answers.label > high))
    if len(out):
        raise LogError(
            f"{answers.place(out[0])}: expected a label from {low:g} to {high:g}, the scale of the "
            f"sheet, found {answers.label[out[0]]:g}."
        )


def _some(answers: Answers, rows: np.ndarray) -> str:
    if answers.rollout_id is None:
        shown = ", ".join(repr(answers.words[row][0][:40]) for row in rows[:_SHOWN])
    else:
        shown = ", ".join(f"'{answers.rollout_id[row]}'" for row in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


# --- What was drawn, and what came back -----------------------------------------------------------


def _drawn(
    answers: Answers, where: np.ndarray, population: Population, design: SheetDesign | None
) -> Drawn:
    if design is None:
        order = np.unique(where[~np.isnan(answers.label)], return_index=True)[1]
        given = np.flatnonzero(~np.isnan(answers.label))[np.sort(order)]
        return Drawn(
            rows=where[given], unit=np.arange(len(given)), chance=answers.chance[given].copy()
        )
    check_log(population, design)
    parts = [
        _active_part(answers, where, population, design, index)
        if part.active
        else redraw(population, design, index)
        for index, part in enumerate(design.parts)
    ]
    return Drawn(
        rows=np.concatenate([part.rows for part in parts]),
        unit=np.concatenate([part.unit for part in parts]),
        chance=np.concatenate([part.chance for part in parts]),
    )


def _active_part(
    answers: Answers, where: np.ndarray, population: Population, design: SheetDesign, index: int
) -> Drawn:
    """What the sheet says was drawn in a part whose chances followed from labels, checked."""
    part = design.parts[index]
    mine = np.flatnonzero((answers.unit >= part.start) & (answers.unit < part.stop))
    units, first = np.unique(answers.unit[mine], return_index=True)
    if len(units) != part.stop - part.start:
        raise LogError(
            f"expected a row for each of the {part.stop - part.start} units {part.start} to "
            f"{part.stop - 1} of the sheet, found {len(units)}; give back its rows without a label "
            "too: who was chosen cannot be told from the others."
        )
    rows, chance = where[mine[first]], answers.chance[mine[first]]
    deal = Deal(population, design.seed)
    members = deal.members(part.start, part.stop, most=design.most)
    inside = (members == deal.draw_of(rows)[:, None]).any(axis=1)
    sizes = deal.sizes[deal.draw_of(rows)]
    least = part.floor / design.block / sizes
    if not inside.all() or not (chance >= least * (1 - 1e-9)).all():
        row = int(np.flatnonzero(~inside | ~(chance >= least * (1 - 1e-9)))[0])
        raise LogError(
            f"{answers.place(mine[first][row])}: unit {units[row]} names a rollout or a chance "
            "that its block does not have; the sheet was changed: take the one that was drawn."
        )
    return Drawn(rows=rows, unit=units, chance=chance)


def _by_hash(answers: Answers) -> np.ndarray:
    """An order of all labels that neither values nor files have a say in, shape (rows,)."""
    ids = answers.rollout_id or [" ".join(pair) for pair in answers.words]
    return combine(hash_ids(ids), hash_ids(answers.annotator))


def _one_each(
    rows: np.ndarray, values: np.ndarray, joining: Joining, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """One value for each distinct row, and how many rows had several."""
    distinct, index, counts = np.unique(rows, return_inverse=True, return_counts=True)
    joined = np.bincount(index, weights=values) / counts if len(rows) else np.empty(0)
    several = np.flatnonzero(counts > 1)
    if joining == "one":
        order = np.lexsort((rank, index))
        joined = values[order[np.r_[0, np.cumsum(counts)[:-1]]]] if len(rows) else joined
    elif joining == "majority" and len(several):
        order = np.argsort(index, kind="stable")
        groups = np.split(values[order], np.cumsum(counts)[:-1])
        for at in several:
            choices, votes = np.unique(groups[at], return_counts=True)
            joined[at] = choices[votes == votes.max()].mean()
    return distinct, joined, len(several)


def _returned(
    answers: Answers,
    where: np.ndarray,
    gold: np.ndarray,
    drawn: Drawn,
    design: SheetDesign | None,
    names: Sequence[str] | None,
) -> Returned:
    labelled = ~np.isnan(gold[drawn.rows])
    reasons = np.array([bool(reason) for reason in answers.skipped], dtype=bool)
    skipped = np.isin(drawn.rows, where[reasons]) & ~labelled
    missing = np.flatnonzero(~labelled)
    units = int(drawn.unit[-1]) + 1 if len(drawn) else 0
    ids = names if names is not None else [f"{key:016x}" for key in drawn.rows]
    shown = drawn.rows[missing[:20]] if names is not None else missing[:20]
    return Returned(
        drawn=len(drawn),
        labelled=int(labelled.sum()),
        skipped=int(skipped.sum()),
        open=int((~labelled & ~skipped).sum()),
        units=units,
        prefix=int(drawn.unit[missing[0]]) if len(missing) else units,
        missing=tuple(str(ids[row]) for row in shown),
        annotators=tuple(sorted({name for name in answers.annotator if name})),
    )

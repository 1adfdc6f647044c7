"""Labels back to their log: which rollout each belongs to, and what of the sheet has come back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from taut.errors import LogError, UsageError
from taut.labels.annotators import Joining, check_twice, one_each
from taut.labels.answers import Answers, some
from taut.labels.design import KEY, SheetDesign
from taut.labels.draw import Deal, Drawn, Population, check_log, redraw
from taut.logs.facts import LogFacts
from taut.logs.keys import combine, hash_ids
from taut.logs.reduce import Reduced


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
    check_twice(answers, where)
    drawn = _drawn(answers, where, population, design)
    if design is not None:
        _check_drawn(answers, where, drawn)
    _check_range(answers, design)
    gold = np.full(len(population.rollout), np.nan)
    rows, values, several = one_each(answers, where, joining)
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


def add_gold(pieces: Iterable[Reduced], labels: Labels) -> Iterator[Reduced]:
    """Give each piece of a log its part of the labels, and its facts how they were chosen.

    The facts of a file then say `random_labels`: the design of the sheet and what came back of it,
    as {"taut_sheet": ..., "returned": ...}; and the sheet's `gold_range` where there was none.
    """
    done = 0
    for piece in pieces:
        rows = len(piece.columns["reward"])
        facts = None if piece.facts is None else labelled_facts(piece.facts, labels)
        columns = {**piece.columns, "gold": labels.gold[done : done + rows]}
        yield replace(piece, columns=columns, facts=facts)
        done += rows


def labelled_facts(facts: LogFacts, labels: Labels) -> LogFacts:
    """Return the facts of a log with those of its labels: how they were chosen, and their range.

    What a log records of labels that it had does not hold for others that come on no sheet.
    """
    design = labels.design
    if design is None:
        if "random_labels" not in facts.recorded:
            return facts
        return replace(facts, random_labels=None, recorded=facts.recorded - {"random_labels"})
    known = {
        "random_labels": {
            KEY: design.model_dump(mode="json", exclude_defaults=True),
            "returned": labels.returned.model_dump(mode="json"),
        }
    }
    if facts.gold_range is None:
        known["gold_range"] = (design.scale.low, design.scale.high)
    return replace(facts, **known, recorded=facts.recorded | frozenset(known))


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
        "E+" in answers.rollout_id[row].upper() for row in unknown[:3]
    )
    hint = (
        "a spreadsheet has rounded the ids: import the column as text"
        if rounded
        else "are these the labels of this log?"
    )
    raise LogError(
        f"{answers.place(unknown[0])}: expected rollouts of the log, found "
        f"{some(answers, unknown)} that it does not have; {hint}"
    )


def _check_drawn(answers: Answers, where: np.ndarray, drawn: Drawn) -> None:
    labelled = np.flatnonzero(~np.isnan(answers.label) & ~np.isin(where, drawn.rows))
    if len(labelled):
        raise LogError(
            f"{answers.place(labelled[0])}: expected labels of the {len(drawn)} rollouts that were "
            f"drawn, found {some(answers, labelled)} that nobody drew; a certificate needs labels "
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

"""Labels onto a log in memory: what an audit, a choice or a plan takes."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from taut.draws.modes import REPLACEMENT, SAMPLE
from taut.draws.rollouts import Rollouts
from taut.draws.sheets import SheetLabels
from taut.errors import LogError, UsageError
from taut.labels.annotators import Joining
from taut.labels.answers import Answers, read_answers
from taut.labels.blocks import sheet_blocks
from taut.labels.design import KEY, SheetDesign, read_design
from taut.labels.draw import redraw
from taut.labels.merge import Labels, Returned, join, labelled_facts, one_design
from taut.labels.population import Population, population_of
from taut.logs.reduce import Reduced

Files = str | os.PathLike | Sequence[str | os.PathLike]


def with_labels(
    rollouts: Rollouts,
    labels: Files | Answers,
    *,
    names: Mapping[str, str] | None = None,
    values: Mapping[str, float] | None = None,
    joining: Joining = "mean",
    prompts: str = SAMPLE,
    words: np.ndarray | None = None,
) -> Rollouts:
    """Return a log with gold labels that stand in files of their own.

    Args:
        rollouts: Read with `rollout_ids=True`, and with the sheet's column of strata among `keep`.
        labels: CSV, JSONL or Parquet files, or what was read of them.
        names: Native name to the column of the label files, as in {"label": "verdict"}.
        values: What a label that is no number means, as in {"C": 1, "I": 0}.
        joining: What several annotators of one rollout become: "mean", "majority" or "one".
        prompts: As for `taut.audit`; a sheet says so itself.
        words: Key of prompt and response of each row (`word_keys`), for labels without ids.

    Returns:
        The log with `gold`, the facts of its labels (`random_labels`, `gold_range`), and the
        blocks of their sheet, where there is one.

    Raises:
        UsageError: The log has labels already.
        LogError: Labels that do not fit the log, each named (`taut.labels.merge.join`).
    """
    if rollouts.gold is not None and not np.isnan(rollouts.gold).all():
        raise UsageError(
            "labels: the log has gold labels already; leave those out (--map gold=, "
            'mapping={"gold": ""}), or audit it without others.'
        )
    answers = labels if isinstance(labels, Answers) else _read(labels, names, values)
    design = one_design(answers)
    by_group = prompts == REPLACEMENT if design is None else design.by_group
    population = population_of(rollouts, by=design.by if design else None, by_group=by_group)
    joined = join(answers, population, names=rollouts.rollout_names, words=words, joining=joining)
    return replace(
        rollouts,
        gold=joined.gold,
        label_probability=None,
        facts=labelled_facts(rollouts.facts, joined),
        sheet=sheet_labels(joined, population),
        notes=(*rollouts.notes, *_said(joined.returned)),
    )


def _said(returned: Returned) -> Iterator[str]:
    """What people should know of labels that were joined."""
    if returned.several:
        yield (
            f"{returned.several:,} rollouts have labels of several annotators, joined by their "
            f"{returned.joining}"
        )
    if not returned.complete:
        yield (
            f"of {returned.drawn:,} rollouts that were drawn {returned.skipped:,} were skipped and "
            f"{returned.open:,} are open, the first of them {', '.join(returned.missing[:3])}; the "
            f"first {returned.prefix:,} of {returned.units:,} units are complete"
        )


def labeller(labels: Labels, names: np.ndarray) -> Callable[[Reduced], Reduced]:
    """Return what gives each piece of a finished log its labels: for `taut watch --final`.

    Args:
        labels: Joined to the log.
        names: Id of each row of the log, shape (rollouts,).
    """
    given = np.flatnonzero(~np.isnan(labels.gold))
    known = dict(zip(np.asarray(names)[given].tolist(), labels.gold[given].tolist(), strict=True))

    def label(piece: Reduced) -> Reduced:
        columns = dict(piece.columns)
        if "rollout_id" not in columns:
            raise LogError(
                "--labels: expected a column 'rollout_id' in the log that is watched, found none; "
                "taut audit joins them without it."
            )
        ids = columns.pop("rollout_id").cast(pa.string()).to_pylist()
        columns["gold"] = np.array([known.get(name, np.nan) for name in ids])
        return replace(piece, columns=columns, facts=labelled_facts(piece.facts, labels))

    return label


def _read(labels: Files, names, values) -> Answers:
    files = [labels] if isinstance(labels, str | os.PathLike) else list(labels)
    return read_answers(files, names=names, values=values)


def with_own_sheet(rollouts: Rollouts, design: SheetDesign, returned: Returned) -> Rollouts:
    """Return a log that `taut label merge` wrote with the blocks of its sheet, drawn again.

    Of active parts the file does not keep which chance each label had: such labels certify from
    their own files alone, and `sheet` says that no plain mean of them holds.

    Args:
        rollouts: Read as for `with_labels`.
        design, returned: As the file records them (`recorded_sheet`).

    Raises:
        LogError: The log is not the one that was drawn from.
    """
    population = population_of(rollouts, by=design.by, by_group=design.by_group)
    if any(part.active for part in design.parts):
        return replace(rollouts, sheet=_no_blocks(population, design))
    parts = [redraw(population, design, index) for index in range(len(design.parts))]
    rows, unit, chance = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "unit", "chance")
    )
    labels = Labels(
        gold=rollouts.gold, design=design, rows=rows, unit=unit, chance=chance, returned=returned
    )
    return replace(rollouts, sheet=sheet_labels(labels, population))


def recorded_sheet(rollouts: Rollouts) -> tuple[SheetDesign, Returned] | None:
    """Return the sheet that a log's own labels came on, as its file records it."""
    fact = rollouts.facts.random_labels
    if not isinstance(fact, Mapping) or KEY not in fact or rollouts.gold is None:
        return None
    return read_design(fact[KEY], "the log's facts"), Returned.model_validate(fact["returned"])


def sheet_labels(labels: Labels, population: Population) -> SheetLabels | None:
    """Return the blocks of a sheet as an audit takes them; None where labels lie in none."""
    blocks = sheet_blocks(labels, population, gaps=True)
    if blocks is None:
        return None
    missing = np.zeros(len(labels.gold), dtype=bool)
    missing[labels.rows] = np.isnan(labels.gold[labels.rows])
    given = labels.unit[~np.isnan(labels.gold[labels.rows])]
    return SheetLabels(
        draw=population.draw,
        unit=blocks.unit,
        chance=blocks.chance,
        missing=missing,
        least=blocks.least,
        horizon=blocks.horizon,
        prefix=labels.returned.prefix,
        until=int(given.max(initial=-1)) + 1,
        whole=blocks.whole,
        stratum=blocks.stratum,
        shares=blocks.shares,
        active=blocks.active,
    )


def _no_blocks(population: Population, design: SheetDesign) -> SheetLabels:
    rows = len(population.rollout)
    return SheetLabels(
        draw=population.draw,
        unit=np.full(rows, -1),
        chance=np.ones(rows),
        missing=np.zeros(rows, dtype=bool),
        least=np.ones(design.units),
        horizon=design.horizons(),
        prefix=design.units,
        until=design.units,
        whole=False,
        stratum=None,
        shares=None,
        active=True,
        part=True,
    )

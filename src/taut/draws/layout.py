"""Which rows are one draw, and whether all draws have one law (theory §2).

The prompt is the draw, with all its rollouts, wherever they stand: step, policy, run and group
never make several draws of one prompt. Equal texts under different ids are one prompt. Only a
user who declares that prompts were drawn with replacement may have `group` tell draws apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from taut.draws import order
from taut.draws.modes import LIST, REPLACEMENT, SAMPLE
from taut.draws.rollouts import Blocks, Rollouts, group_rows
from taut.errors import LogError
from taut.logs.keys import combine, kinds_of, row_keys, scramble

CELL_COLUMNS = ("step", "policy", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What is decided once, on the whole log, for every part of it.

    Attributes:
        rollouts: The log, with one prompt key for each distinct prompt.
        same_text: Prompt ids that share their text with another id and were taken for one prompt.
        steps: Distinct steps; 1 without the column.
        recurs: Some prompt occurs at more than one step.
        group_recurs: Some (prompt, group) pair occurs in more than one cell.
        tests: What tests of all of it say that also speaks against its parts.
    """

    rollouts: Rollouts
    same_text: int
    steps: int
    recurs: bool
    group_recurs: bool
    tests: tuple = ()


def settle(rollouts: Rollouts) -> Whole:
    """Decide which rows share a prompt, on the whole log (theory §2)."""
    keys, same_text = prompt_keys([rollouts])
    rollouts = replace(rollouts, prompt=keys[0])
    steps = 1 if rollouts.step is None else len(np.unique(rollouts.step))
    return Whole(
        rollouts=rollouts,
        same_text=same_text,
        steps=steps,
        recurs=steps > 1 and order.spans(rollouts.prompt, rollouts.step),
        group_recurs=_group_recurs(rollouts),
    )


def prompt_keys(logs: Sequence[Rollouts]) -> tuple[list[np.ndarray], int]:
    """Return one uint64 key per row of each log, the same for rows of one prompt.

    Ids that share a text, in one log or across several, are one prompt: its key is the smallest.

    Returns:
        The keys, each of shape (rollouts,), and how many ids were found to be another's.
    """
    if all(log.text_key is None for log in logs):
        return [log.prompt for log in logs], 0
    sizes = [len(log) for log in logs]
    ids = np.concatenate([log.prompt for log in logs])
    known = np.concatenate([np.full(len(log), log.text_key is not None) for log in logs])
    text = np.concatenate([log.prompt if log.text_key is None else log.text_key for log in logs])
    pairs = np.unique(np.stack([ids[known], text[known]]), axis=1)
    names, of_text = np.unique(pairs[1], return_inverse=True)
    if len(names) == pairs.shape[1]:
        return [log.prompt for log in logs], 0
    lowest = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, of_text, pairs[0])
    merged = _joined(pairs[0], of_text, len(names), lowest)
    places = np.searchsorted(merged[0], ids)
    places = np.minimum(places, len(merged[0]) - 1)
    keys = np.where(merged[0][places] == ids, merged[1][places], ids)
    changed = int((merged[0] != merged[1]).sum())
    return np.split(keys, np.cumsum(sizes)[:-1]), changed


def _joined(ids, of_text, texts: int, lowest) -> tuple[np.ndarray, np.ndarray]:
    """Return each id and the smallest id that it is tied to by shared texts."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, of_id = np.unique(ids, return_inverse=True)
    size = len(names) + texts
    graph = coo_array(
        (np.ones(len(of_id), dtype=np.int8), (of_id, len(names) + of_text)), shape=(size, size)
    )
    count, part = connected_components(graph, directed=False)
    least = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, part[len(names) :], lowest)
    np.minimum.at(least, part[: len(names)], names)
    return names, least[part[: len(names)]]


def _group_recurs(rollouts: Rollouts) -> bool:
    if rollouts.group is None:
        return False
    return order.spans(combine(rollouts.prompt, rollouts.group), cell_keys(rollouts))


def cell_keys(rollouts: Rollouts) -> np.ndarray:
    """Return one uint64 key per row: which (step, policy, run) it comes from."""
    parts = [getattr(rollouts, name) for name in CELL_COLUMNS]
    parts = [part for part in parts if part is not None]
    if not parts:
        return np.zeros(len(rollouts), dtype=np.uint64)
    return row_keys(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Rows as draws.

    Attributes:
        blocks: All draws, in draw order.
        cells: Code of each row's cell, int64, shape (rollouts,).
        cell_count: Distinct cells.
        profile: Code of each draw's profile: how many rows it has in each cell; shape (draws,).
        prompts: Distinct prompts.
        one_law: Draws are identically distributed, so that predictable bets hold.
        mode: "sample", "list" or "with-replacement".
    """

    blocks: Blocks
    cells: np.ndarray
    cell_count: int
    profile: np.ndarray
    prompts: int
    one_law: bool
    mode: str


def lay_out(rollouts: Rollouts, *, seed: int, mode: str = SAMPLE) -> Layout:
    """Put the rows of a settled log, or of a part of one, into draws.

    Args:
        rollouts: Rows whose `prompt` is one key per distinct prompt (see `settle`).
        seed: Seed of the draw order; a constant of the audit, recorded in the certificate.
        mode: How prompts came into the log, as declared with --prompts.

    Raises:
        LogError: Draws with replacement without a `group` column to tell them apart.

    Source: theory §2.
    """
    keys = cell_keys(rollouts)
    kinds, cells = kinds_of(keys)
    drawn = draw_keys(rollouts, mode)
    blocks = group_rows(drawn, rollouts.value_columns(), seed)
    # A commutative sum of mixed keys: the same for the same rows in the same cells.
    with np.errstate(over="ignore"):
        mixed = blocks.sums(scramble(keys)) if len(kinds) > 1 else np.zeros(len(blocks), np.uint64)
    _, profile = kinds_of(mixed)
    return Layout(
        blocks=blocks,
        cells=cells,
        cell_count=len(kinds),
        profile=profile,
        prompts=len(blocks if drawn is rollouts.prompt else np.unique(rollouts.prompt)),
        one_law=mode != LIST and (len(blocks) == 0 or int(profile.max()) == 0),
        mode=mode,
    )


def in_draw_order(rollouts: Rollouts, layout: Layout) -> tuple[Rollouts, Layout]:
    """Put rows in the order of their draws: sums over draws then read memory from end to end.

    Left as they are: rows of a sheet, which knows them by their place, and rows with features, a
    copy of which would be large.
    """
    if rollouts.sheet is not None or rollouts.features is not None:
        return rollouts, layout
    rows = layout.blocks.rows
    blocks = Blocks(rows=np.arange(len(rows)), starts=layout.blocks.starts)
    return rollouts.take(rows), replace(layout, blocks=blocks, cells=layout.cells[rows])


def draw_keys(rollouts: Rollouts, mode: str) -> np.ndarray:
    """Return one uint64 key per row of a settled log: the draw that it belongs to.

    Raises:
        LogError: As for `lay_out`.
    """
    if mode == REPLACEMENT:
        if rollouts.group is None:
            raise LogError(
                "--prompts with-replacement needs a column 'group' that tells the draws of one "
                "prompt apart; map one with --map group=PATH, or leave --prompts out: then each "
                "distinct prompt counts once."
            )
        return combine(rollouts.prompt, rollouts.group)
    if mode == LIST and _equal_sizes(rollouts.prompt) and not _partly_labelled(rollouts.gold):
        # Given the prompts, rows are independent: each is a unit of its own. Labels on some rows
        # are a random subset of prompts, or of rows of prompts, not of all rows.
        row = row_keys([rollouts.prompt, cell_keys(rollouts), *rollouts.value_columns()])
        return combine(row, _occurrence(row))
    return rollouts.prompt


def _partly_labelled(gold: np.ndarray | None) -> bool:
    return gold is not None and 0 < int(np.isnan(gold).sum()) < len(gold)


def _equal_sizes(keys: np.ndarray) -> bool:
    counts = np.unique(keys, return_counts=True)[1]
    return len(counts) > 0 and bool((counts == counts[0]).all())


def _occurrence(keys: np.ndarray) -> np.ndarray:
    """Number the rows that share a key, from 0, uint64, shape (rows,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(keys) else np.empty(0, dtype=bool)
    starts = np.flatnonzero(first)
    place = np.arange(len(keys)) - np.repeat(starts, np.diff(np.r_[starts, len(keys)]))
    out = np.empty(len(keys), dtype=np.uint64)
    out[order] = place
    return out

"""A log as it is seen by who draws from it: ids, draws, cells and strata; and its texts by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError
from taut.labels.design import DrawnFrom
from taut.logs.keys import combine, hash_ids, scramble
from taut.logs.plan import check_mapping
from taut.logs.read import Request, tasks
from taut.logs.readers.documents import NoRollouts
from taut.logs.reduce import Chunk
from taut.logs.sources import Source

Text = str | list[dict]  # what was said, or the messages that it is made of

_CELLS = ("step", "policy", "run")
_SKIPPED = ("_logprob", "_logprobs", "log_ratio", "features")  # not needed for the words


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What may be labelled: one entry a rollout, no value of its outcome among them.

    Attributes:
        rollout: uint64 key of the rollout's id, distinct, shape (rollouts,).
        draw: uint64 key of the draw that it belongs to (theory §2), shape (rollouts,).
        cell: Index into `cell_names` of its (step, policy, run), or None where there is one.
        stratum: Index into `stratum_names` of its value of the column of strata, or None.
        by_group: Whether a draw is a prompt and group, rather than a prompt.
        by: Name of the column of strata.
    """

    rollout: np.ndarray
    draw: np.ndarray
    cell: np.ndarray | None = None
    cell_names: tuple[str, ...] = ()
    stratum: np.ndarray | None = None
    stratum_names: tuple[str, ...] = ()
    by_group: bool = False
    by: str | None = None

    def __post_init__(self):
        again = len(self.rollout) - _distinct(self.rollout)
        if again:
            raise LogError(
                f"expected a rollout_id of its own for each rollout, found {again} that another "
                "has too; were files given twice? Name each once, or write distinct ids."
            )

    def facts(self) -> DrawnFrom:
        """Return the record by which a log is known again, whatever the order of its rows."""
        key = combine(self.rollout, self.draw)
        cells: dict[str, int] = {}
        if self.cell is not None:
            key = combine(key, hash_ids(list(self.cell_names))[self.cell])
            counts = np.bincount(self.cell, minlength=len(self.cell_names))
            cells = dict(zip(self.cell_names, counts.tolist(), strict=True))
        total = int(np.add.reduce(key, dtype=np.uint64))
        mixed = int(np.bitwise_xor.reduce(scramble(key)))
        draws = _distinct(self.draw)
        return DrawnFrom(
            hash=f"{total:016x}{mixed:016x}", rollouts=len(key), draws=draws, cells=cells
        )


def _distinct(keys: np.ndarray) -> int:
    """How many values there are, by sorting: many times faster than a table of a million keys."""
    ordered = np.sort(keys)
    return int((ordered[1:] != ordered[:-1]).sum()) + (len(keys) > 0)


def population_of(
    rollouts: Rollouts, *, by: str | None = None, by_group: bool = False
) -> Population:
    """Return what may be labelled of a log.

    Args:
        rollouts: Read with `rollout_ids`, and with `by` among `keep` where it is no native column.
        by: Column of strata.
        by_group: Rows of one prompt and group are a draw of their own (`--prompts
            with-replacement`); else all rows of a prompt are one, whatever their step or policy.

    Raises:
        LogError: The log was read without ids.
        UsageError: There is no such column.
    """
    if rollouts.rollout_id is None:
        raise LogError("expected rollouts with ids; read the log with rollout_ids=True.")
    draw = rollouts.prompt
    if by_group:
        if rollouts.group is None:
            raise UsageError("draws by group: the log has no column 'group'.")
        draw = combine(draw, rollouts.group)
    cell, cell_names = _cells(rollouts)
    stratum, names = _stratum(rollouts, by) if by is not None else (None, ())
    return Population(
        rollout=rollouts.rollout_id,
        draw=draw,
        cell=cell,
        cell_names=cell_names,
        stratum=stratum,
        stratum_names=names,
        by_group=by_group,
        by=by,
    )


def _cells(rollouts: Rollouts) -> tuple[np.ndarray | None, tuple[str, ...]]:
    columns, texts = [], []
    for name in _CELLS:
        values = getattr(rollouts, name)
        if values is None or np.all(values == values[0]):
            continue
        known, codes = np.unique(values, return_inverse=True)
        labels = getattr(rollouts, f"{name}_names", ())
        columns.append(codes)
        texts.append([f"{name} {labels[v] if labels else v}" for v in known.tolist()])
    if not columns:
        return None, ()
    if len(columns) == 1:
        return columns[0], tuple(texts[0])
    shape = [len(names) for names in texts]
    flat = np.ravel_multi_index(columns, shape)
    met, codes = np.unique(flat, return_inverse=True)
    at = np.unravel_index(met, shape)
    names = [", ".join(texts[i][k] for i, k in enumerate(place)) for place in zip(*at, strict=True)]
    return codes.astype(np.int64), tuple(names)


def _stratum(rollouts: Rollouts, by: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if by in rollouts.kept_columns:
        at = rollouts.kept_columns.index(by)
        codes, names = rollouts.kept[:, at], rollouts.kept_names[at]
    elif by in _CELLS and getattr(rollouts, by) is not None:
        values, codes = np.unique(getattr(rollouts, by), return_inverse=True)
        known = getattr(rollouts, f"{by}_names", ())
        names = tuple(str(known[v] if known else v) for v in values.tolist())
    else:
        raise UsageError(f"--by {by}: the log has no such column.")
    met, codes = np.unique(codes, return_inverse=True)
    return codes.astype(np.int64), tuple(names[code] for code in met.tolist())


def read_texts(
    files: Sequence[Source],
    rows: np.ndarray | None,
    *,
    mapping: Mapping[str, str] | None = None,
    values: Mapping[str, Mapping[str, float]] | None = None,
    format: str = "auto",
) -> dict[int, tuple[Text | None, Text | None]]:
    """Read what was said in some rows of a log.

    Args:
        files: The log, in the order in which its rows were counted.
        rows: Rows, from 0; all where None.
        mapping, values, format: As the log was read.

    Returns:
        For each row its prompt and response, as text or messages; None where the log has none.

    Raises:
        LogError: A file cannot be read.
    """
    wanted = None if rows is None else np.sort(np.asarray(rows))
    taker = _Taker(wanted)
    paths = {n: path for n, path in check_mapping(mapping).items() if not n.endswith(_SKIPPED)}
    request = Request(
        paths=paths,
        mapped=frozenset(mapping or ()),
        values=values or {},
        format=format,
        raw=frozenset(("prompt", "response")),
        derive=taker,
    )
    for source in files:
        try:
            for task in tasks(source, request):
                task.run()
        except NoRollouts:  # passed over when the log was read, too
            if not source.listed:
                raise
    return taker.found


class _Taker:
    """Keeps the words of wanted rows as chunks pass by, in row order."""

    def __init__(self, wanted: np.ndarray | None):
        self.wanted = wanted
        self.found: dict[int, tuple[Text | None, Text | None]] = {}
        self._done = 0

    def __call__(self, chunk: Chunk) -> dict:
        start, size = self._done, len(chunk.numbers)
        self._done += size
        if self.wanted is None:
            here = range(start, start + size)
        else:
            a, b = np.searchsorted(self.wanted, (start, start + size))
            here = self.wanted[a:b].tolist()
        columns = [chunk.columns.get(name) for name in ("prompt", "response")]
        for row in here:
            self.found[row] = tuple(
                None if column is None else word_of(column.data, row - start) for column in columns
            )
        return {}


def word_of(values, row: int) -> Text | None:
    """Return what a column of words says in a row: text or messages; None where it has none."""
    value = values[row]
    value = value.as_py() if hasattr(value, "as_py") else value
    if isinstance(value, str) and value.startswith("[{"):
        value = _messages(value)
    if isinstance(value, list):
        return [{k: v for k, v in message.items() if v is not None} for message in value]
    return None if value is None else str(value)


def _messages(text: str) -> str | list[dict]:
    """Messages that a reader has written as JSON, or the text itself."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if all(isinstance(m, dict) and "role" in m for m in found) else text

"""The rollouts of a log on a page: all of them up to a size, or a sample of whole prompts.

Which prompts are sampled is decided by the hash of their ids: never by what was answered.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taut.draws.rollouts import Rollouts
from taut.labels.population import word_of
from taut.labels.sheet import as_text
from taut.logs.keys import scramble
from taut.logs.layout import NoRollouts
from taut.logs.plan import check_mapping
from taut.logs.read import Request, tasks
from taut.logs.reduce import Chunk
from taut.logs.sources import Source
from taut.logs.tokens import Tokens
from taut.report.charts import Chart, charts
from taut.report.digits import count

MOST_ROWS = 20_000
MOST_LETTERS = 24_000_000  # of all texts together
MOST_TOKENS = 4_000_000  # log-ratios of tokens, of all rollouts together
LONGEST = 1_000_000  # letters of one text
_MOST_VALUES = 300  # of a column that one can filter by

_NAMES = {
    "reward": "learned",
    "gold": "gold",
    "gap": "learned − gold",
    "log_ratio": "log-ratio, nats",
    "n_tokens": "tokens",
}


@dataclass(frozen=True)
class Words:
    """What was said in one rollout: texts, and the log-ratio of each token where it is logged."""

    prompt: str
    response: str
    ratios: Sequence[float] | None = None


@dataclass(frozen=True)
class Shown:
    """Rollouts for a page.

    Attributes:
        data: What the page's script reads, as JSON.
        note: How many there are of how many.
        charts: Pictures of the whole log.
    """

    data: str
    note: str
    charts: tuple[Chart, ...] = ()


def shown(rollouts: Rollouts, files: Sequence[Source], **reading: Any) -> Shown:
    """Return the rollouts of a log for a page.

    Args:
        rollouts: Read with names of the rows (`rollout_ids`).
        files: The log that they were read from, in the same order.
        reading: `mapping`, `values` and `format`, as they were read.

    Raises:
        LogError: A file cannot be read.
    """
    rows = chosen_rows(rollouts.prompt)
    words = read_words(files, rows, **reading)
    kept = _within(rollouts.prompt[rows], [words[row] for row in rows.tolist()])
    rows = rows[kept]
    total = len(rollouts)
    note = f"All {count(total, 'rollout')} of the log."
    if len(rows) < total:
        note = (
            f"A sample: {count(len(rows), 'rollout')} of {total:,}, whole prompts, drawn blindly "
            "by the hash of their ids."
        )
    data = page_data(rollouts, rows, [words[row] for row in rows.tolist()])
    if data["tokens"] and any(item is None for item in data["tokens"]):
        note += " Log-ratios of tokens are there for some of them."
    drawn = tuple(charts(rollouts).values())
    return Shown(json.dumps(data, ensure_ascii=False, allow_nan=False), note, drawn)


def chosen_rows(prompts: np.ndarray, most: int = MOST_ROWS) -> np.ndarray:
    """Return the rows of as many whole prompts as fit, in the order of the log.

    Args:
        prompts: uint64 key of each row's prompt, shape (rollouts,).
        most: Rows.
    """
    if len(prompts) <= most:
        return np.arange(len(prompts))
    keys, places, sizes = np.unique(prompts, return_inverse=True, return_counts=True)
    order = np.argsort(scramble(keys))
    fits = np.zeros(len(keys), dtype=bool)
    fits[order] = np.cumsum(sizes[order]) <= most
    if not fits.any():
        return np.flatnonzero(places == order[0])[:most]
    return np.flatnonzero(fits[places])


def _within(prompts: np.ndarray, words: Sequence[Words]) -> np.ndarray:
    """Return the places of rows of whole prompts whose texts fit together, at least one."""
    letters = np.array([len(item.prompt) + len(item.response) for item in words])
    if letters.sum() <= MOST_LETTERS:
        return np.arange(len(words))
    keys, places = np.unique(prompts, return_inverse=True)
    sizes = np.bincount(places, weights=letters)
    order = np.argsort(scramble(keys))
    fits = np.zeros(len(keys), dtype=bool)
    fits[order] = np.cumsum(sizes[order]) <= MOST_LETTERS
    fits[order[0]] = True
    return np.flatnonzero(fits[places])


def page_data(rollouts: Rollouts, rows: np.ndarray, words: Sequence[Words]) -> dict[str, Any]:
    """Return what the page's script reads: columns, texts, values to filter by.

    Args:
        rollouts: With names of the rows.
        rows: Which ones.
        words: What was said in them.
    """
    columns = _columns(rollouts, rows)
    # Prompts are told apart by their keys: two may have one text, or none.
    _, first, code = np.unique(rollouts.prompt[rows], return_index=True, return_inverse=True)
    ids = rollouts.rollout_names
    budget, tokens = MOST_TOKENS, []
    for item in words:
        ratios = item.ratios
        budget -= 0 if ratios is None else len(ratios)
        tokens.append(None if ratios is None or budget < 0 else [round(x, 3) for x in ratios])
    return {
        "ids": [str(row) if ids is None else str(ids[row]) for row in rows.tolist()],
        "names": {name: _NAMES[name] for name in columns},
        "columns": columns,
        "prompts": [words[place].prompt[:LONGEST] for place in first.tolist()],
        "prompt": code.tolist(),
        "responses": [item.response[:LONGEST] for item in words],
        "facets": _facets(rollouts, rows),
        "tokens": tokens if any(item is not None for item in tokens) else None,
    }


def _columns(rollouts: Rollouts, rows: np.ndarray) -> dict[str, list[float | None]]:
    """Return the numbers that one can sort by; None where a row has none."""
    found: dict[str, np.ndarray] = {"reward": rollouts.reward[rows]}
    if rollouts.gold is not None:
        found["gold"] = rollouts.gold[rows]
        found["gap"] = found["reward"] - found["gold"]
    if rollouts.log_ratio is not None:
        found["log_ratio"] = rollouts.log_ratio[rows]
    if rollouts.n_tokens is not None:
        found["n_tokens"] = np.where(rollouts.n_tokens[rows] < 0, np.nan, rollouts.n_tokens[rows])
    return {name: [_number(x) for x in values.tolist()] for name, values in found.items()}


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _facets(rollouts: Rollouts, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return the columns that one can filter by, those with one value left out."""
    found: list[tuple[str, np.ndarray]] = []
    if rollouts.step is not None:
        found.append(("step", rollouts.step[rows]))
    for name, codes, texts in (
        ("policy", rollouts.policy, rollouts.policy_names),
        ("run", rollouts.run, rollouts.run_names),
    ):
        if codes is not None:
            found.append((name, np.array(texts, dtype=object)[codes[rows]]))
    for at, name in enumerate(rollouts.kept_columns):
        texts, codes = np.array(rollouts.kept_names[at], dtype=object), rollouts.kept
        if codes is not None:
            found.append((name, texts[codes[rows, at]]))
    for name, flags in (("truncated", rollouts.truncated), ("failed", rollouts.failed)):
        if flags is not None:
            found.append((name, np.where(flags[rows], "yes", "no")))
    if rollouts.gold is not None:
        found.append(("gold label", np.where(np.isnan(rollouts.gold[rows]), "no", "yes")))
    facets = []
    for name, column in found:
        values, codes = np.unique(column, return_inverse=True)
        if 1 < len(values) <= _MOST_VALUES:
            texts = [str(value) for value in values.tolist()]
            facets.append({"name": name, "values": texts, "codes": codes.tolist()})
    return facets


# --- what was said --------------------------------------------------------------------------------


def read_words(
    files: Sequence[Source],
    rows: np.ndarray,
    *,
    mapping: Mapping[str, str] | None = None,
    values: Mapping[str, Mapping[str, float]] | None = None,
    format: str = "auto",
) -> dict[int, Words]:
    """Read what was said in some rows of a log, with token log-ratios where lists are logged.

    Args:
        files: The log, in the order in which its rows were counted.
        rows: Rows, from 0, ascending.
        mapping, values, format: As the log was read.

    Raises:
        LogError: A file cannot be read.
    """
    taker = _Taker(rows)
    request = Request(
        paths=check_mapping(mapping),
        mapped=frozenset(mapping or ()),
        values=values or {},
        format=format,
        raw=frozenset(("prompt", "response")),
        # Token lists are read where they are there, though sums be there too.
        token_clip=(1e6,),
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

    def __init__(self, wanted: np.ndarray) -> None:
        self.found: dict[int, Words] = {}
        self._wanted, self._done = wanted, 0

    def __call__(self, chunk: Chunk) -> dict:
        start, size = self._done, len(chunk.numbers)
        self._done += size
        first, last = np.searchsorted(self._wanted, (start, start + size))
        prompts, responses = (chunk.columns.get(name) for name in ("prompt", "response"))
        policy, ref = (chunk.columns.get(f"{name}_logprobs") for name in ("policy", "ref"))
        for row in self._wanted[first:last].tolist():
            said = [
                "" if column is None else as_text(word_of(column.data, row - start))
                for column in (prompts, responses)
            ]
            ratios = None
            if policy is not None and ref is not None:
                ratios = _ratios(policy.data, ref.data, row - start)
            self.found[row] = Words(said[0], said[1], ratios)
        return {}


def _ratios(policy: Tokens, ref: Tokens, row: int) -> list[float] | None:
    ours, theirs = policy.row(row), ref.row(row)
    if len(ours) != len(theirs) or not len(ours):
        return None
    ratios = ours.astype(np.float64) - theirs.astype(np.float64)
    return ratios.tolist() if np.isfinite(ratios).all() else None

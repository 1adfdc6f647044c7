"""Scores the windows of a log, model by model, and keeps each part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from taut.errors import UsageError
from taut.training.scoring.batches import CONTROL_ROWS, cut_batches, cut_parts, sum_of
from taut.training.scoring.models import Model
from taut.training.scoring.parts import Parts
from taut.training.scoring.result import ScoredModel
from taut.training.scoring.scorer import DTYPES, Job, Workers
from taut.training.scoring.spool import Progress, window_rows

BATCH_TOKENS = {"cpu": 4096, "cuda": 16_384}
# In float32 padding moves a sequence by rounding, 1e-5 or so; more says that it is not ignored.
_PADDING_MATTERS = 0.01


def choose_dtype(name: str | None, device: torch.device) -> str:
    """Return the dtype of the weights: float32 on a CPU, bfloat16 on a GPU, unless asked.

    Raises:
        UsageError: It is unknown.
    """
    if name is None:
        return "float32" if device.type == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise UsageError(f"dtype {name!r}: expected {' or '.join(DTYPES)}.")
    return name


def facts_name(model: Model) -> str:
    """Return the name of the part that holds what was found out about a model."""
    return f"model-{model.fingerprint[:16]}.json"


def part_name(model: Model, window: int, part: int) -> str:
    """Return the name of a part of a model's scores."""
    return f"score-{model.fingerprint[:16]}-{window:06d}-{part:04d}.parquet"


@dataclass(slots=True, kw_only=True)
class Engine:
    """Scores the windows of one log, model by model, and keeps each part."""

    parts: Parts
    index: dict
    workers: Workers
    dtype: str
    batch_tokens: int
    token_lists: bool
    context: int | None
    tell: Progress

    def score_all(self, models: Mapping[str, Model]) -> dict[str, ScoredModel]:
        """Score every distinct model, and return what was found out about each role's.

        Those that share a base are scored while it is loaded.
        """
        distinct = {model.fingerprint: (role, model) for role, model in reversed(models.items())}
        waiting = [pair for pair in distinct.values() if not self._is_done(pair[1])]
        # Base by base, the whole model first: an adapter changes the modules of its base.
        bases = list(dict.fromkeys(model.base for _, model in waiting))
        waiting.sort(key=lambda pair: (bases.index(pair[1].base), pair[1].adapter is not None))
        try:
            for role, model in waiting:
                self._score(role, model)
        finally:
            self.workers.close()
        return {
            role: ScoredModel(
                name=model.name,
                fingerprint=model.fingerprint,
                **self.parts.read_json(facts_name(model)),
            )
            for role, model in models.items()
        }

    def _is_done(self, model: Model) -> bool:
        return self.parts.has(facts_name(model)) and all(
            self.parts.has(part_name(model, window, part))
            for window in range(self.index["windows"])
            for part, _ in enumerate(self._cut(window_rows(self.parts, window)))
        )

    def _cut(self, rows: list) -> list[list[np.ndarray]]:
        lengths = [len(row) for row in rows]
        return list(cut_parts(cut_batches(lengths, self.batch_tokens), lengths))

    def _score(self, role: str, model: Model) -> None:
        if not self.parts.has(facts_name(model)):
            self._find_facts(model, window_rows(self.parts, 0))
        done = 0
        waiting: dict[str, np.ndarray] = {}

        def tell(rows: int) -> None:
            nonlocal done
            done += rows
            self.tell(f"scored by {role}", done, self.index["rows"])

        def jobs() -> Iterator[Job]:
            for window in range(self.index["windows"]):
                rows = window_rows(self.parts, window)
                for part, batches in enumerate(self._cut(rows)):
                    name, numbers = part_name(model, window, part), np.concatenate(batches)
                    if self.parts.has(name):
                        tell(len(numbers))
                        continue
                    waiting[name] = numbers
                    given = [[rows[row] for row in batch] for batch in batches]
                    yield name, "values", (model, given)

        for name, values in self.workers.each(jobs()):
            numbers = waiting.pop(name)
            self._check_finite(model, values)
            self.parts.write_table(name, self._table(numbers, values))
            tell(len(numbers))

    def _find_facts(self, model: Model, rows: list) -> None:
        """Keep what a model's head is, and how much padding moves its log-probs."""
        name, some = facts_name(model), rows[:CONTROL_ROWS]
        asked = [("head", "head", (model,)), ("noise", "noise", (model, some, self.context))]
        found = dict(self.workers.each(asked))
        self._check_padding(model, found["noise"])
        kind, notice = found["head"]
        self.parts.write_json(
            name, {"head": kind, "notice": notice, "noise": found["noise"].model_dump()}
        )

    def _check_padding(self, model: Model, noise) -> None:
        if self.dtype == "float32" and noise.median > _PADDING_MATTERS:
            raise UsageError(
                f"{model.name}: expected log-probs that do not depend on padding, found that it "
                f"moves half of the responses by more than {noise.median:.2g} nats; this "
                "architecture sees what comes later, so batches of it would be wrong."
            )

    def _check_finite(self, model: Model, values: list[np.ndarray]) -> None:
        for value in values:
            if not np.isfinite(value).all():
                at = int(np.flatnonzero(~np.isfinite(value))[0])
                raise UsageError(
                    f"{model.name}: expected finite log-probs, found {value[at]} at token {at + 1} "
                    f"of a response of {len(value)}; its weights or --dtype are at fault."
                )

    def _table(self, numbers: np.ndarray, values: list[np.ndarray]) -> pa.Table:
        columns = {
            "row": pa.array(numbers.astype(np.int32)),
            "sum": pa.array([sum_of(value) for value in values], type=pa.float64()),
        }
        if self.token_lists:
            ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
            columns["tokens"] = pa.ListArray.from_arrays(ends, np.concatenate(values))
        return pa.table(columns)

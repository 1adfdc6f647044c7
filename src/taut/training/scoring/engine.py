"""Scores the windows of a log, model by model, and keeps each part."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from taut.errors import UsageError
from taut.training.scoring.batches import (
    batch_log_probs,
    cut_batches,
    cut_parts,
    padding_noise,
    sum_of,
)
from taut.training.scoring.head import find_head
from taut.training.scoring.models import Model, free_memory, loaded_base, with_adapter
from taut.training.scoring.parts import Parts
from taut.training.scoring.result import ScoredModel
from taut.training.scoring.spool import Progress, window_rows

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCH_TOKENS = {"cpu": 4096, "cuda": 16_384}
# In float32 padding moves a sequence by rounding, 1e-5 or so; more says that it is not ignored.
_PADDING_MATTERS = 0.01


def choose_device(name: str | None) -> torch.device:
    """Return the device: the one that is asked for, or a GPU where there is one.

    Raises:
        UsageError: It is unknown, or there is no GPU.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r}: expected cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no GPU here; use --device cpu.")
    return torch.device(name)


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
    device: torch.device
    dtype: str
    temperature: float
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
        for number, base in enumerate(dict.fromkeys(model.base for _, model in waiting)):
            if number:
                free_memory(self.device)
            self._score_base([pair for pair in waiting if pair[1].base == base])
        return {
            role: ScoredModel(
                name=model.name,
                fingerprint=model.fingerprint,
                **self.parts.read_json(facts_name(model)),
            )
            for role, model in models.items()
        }

    def _score_base(self, same: list[tuple[str, Model]]) -> None:
        """Score models over one base; when this returns, nothing refers to it any more."""
        whole = loaded_base(same[0][1], DTYPES[self.dtype], self.device)
        # The whole model first: an adapter changes the modules of its base.
        for role, model in sorted(same, key=lambda pair: pair[1].adapter is not None):
            with with_adapter(whole, model) as ready:
                self._score(ready, role, model)

    def _is_done(self, model: Model) -> bool:
        return self.parts.has(facts_name(model)) and all(
            self.parts.has(part_name(model, window, part))
            for window in range(self.index["windows"])
            for part, _ in enumerate(self._cut(window_rows(self.parts, window)))
        )

    def _cut(self, rows: list) -> list[list[np.ndarray]]:
        lengths = [len(row) for row in rows]
        return list(cut_parts(cut_batches(lengths, self.batch_tokens), lengths))

    def _score(self, ready, role: str, model: Model) -> None:
        head = find_head(ready, self.device)
        settings = {"device": self.device, "temperature": self.temperature}
        done = 0
        for window in range(self.index["windows"]):
            rows = window_rows(self.parts, window)
            if not self.parts.has(facts_name(model)):
                noise = padding_noise(ready, head, rows, context=self.context, **settings)
                self._check_padding(model, noise)
                self.parts.write_json(
                    facts_name(model),
                    {"head": head.kind, "notice": head.notice, "noise": noise.model_dump()},
                )
            for part, batches in enumerate(self._cut(rows)):
                name = part_name(model, window, part)
                if not self.parts.has(name):
                    values = [
                        value
                        for batch in batches
                        for value in batch_log_probs(
                            ready, head, [rows[row] for row in batch], **settings
                        )
                    ]
                    numbers = np.concatenate(batches)
                    self._check_finite(model, values)
                    self.parts.write_table(name, self._table(numbers, values))
                done += sum(map(len, batches))
                self.tell(f"scored by {role}", done, self.index["rows"])

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

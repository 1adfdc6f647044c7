"""One device that scores batches of rows, by one model at a time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch

from taut.training.scoring.batches import batch_log_probs, padding_noise
from taut.training.scoring.head import find_head
from taut.training.scoring.models import Model, free_memory, loaded_base, with_adapter
from taut.training.scoring.result import Noise
from taut.training.scoring.spool import Row
from taut.version import __version__

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Job = tuple[Any, str, tuple]  # what it is for, a method of a scorer, and its arguments


class Workers(Protocol):
    """Who does the jobs of scoring."""

    def each(self, jobs: Iterable[Job]) -> Iterator[tuple[Any, Any]]:
        """Do jobs, in any order; yield what each is for, and what it gives."""
        ...

    def close(self) -> None:
        """Let go of models."""
        ...


class Scorer:
    """Scores rows by one model at a time; models over one base share its weights."""

    def __init__(
        self, *, device: str, dtype: str, temperature: float, threads: int | None = None
    ) -> None:
        if threads is not None:  # sums depend on it in their last bits
            torch.set_num_threads(threads)
        self._device, self._dtype = torch.device(device), DTYPES[dtype]
        self._settings = {"device": self._device, "temperature": temperature}
        self._model: Model | None = None
        self._base: str | None = None
        self._whole: Any = None
        self._ready: Any = None
        self._head: Any = None
        self._adapted = ExitStack()

    def version(self) -> str:
        """Return the version of taut here."""
        return __version__

    def head(self, model: Model) -> tuple[str, str]:
        """Return the kind of a model's head, and why it is not fused."""
        self._open(model)
        return self._head.kind, self._head.notice

    def noise(self, model: Model, rows: Sequence[Row], context: int | None) -> Noise:
        """Return the noise floor of a model on some rows."""
        self._open(model)
        return padding_noise(self._ready, self._head, rows, context=context, **self._settings)

    def values(self, model: Model, batches: Sequence[Sequence[Row]]) -> list[np.ndarray]:
        """Return the log-probs of each response token, nats, row by row of batch by batch."""
        self._open(model)
        return [
            value
            for batch in batches
            for value in batch_log_probs(self._ready, self._head, list(batch), **self._settings)
        ]

    def close(self) -> None:
        """Take the adapter off and let go of the base, so that nothing refers to it any more."""
        self._leave()
        if self._base is not None:
            self._base = self._whole = None
            free_memory(self._device)

    def _leave(self) -> None:
        self._model = self._ready = self._head = None
        self._adapted.close()

    def _open(self, model: Model) -> None:
        if self._model is not None and self._model.fingerprint == model.fingerprint:
            return
        self._leave()
        if self._base != model.base:
            self.close()
            self._whole = loaded_base(model, self._dtype, self._device)
            self._base = model.base
        self._ready = self._adapted.enter_context(with_adapter(self._whole, model))
        self._head = find_head(self._ready, self._device)
        self._model = model


class Here:
    """The device of this process."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def each(self, jobs: Iterable[Job]) -> Iterator[tuple[Any, Any]]:
        """Do jobs one after the other."""
        for purpose, method, given in jobs:
            yield purpose, getattr(self._scorer, method)(*given)

    def close(self) -> None:
        """Let go of the model."""
        self._scorer.close()

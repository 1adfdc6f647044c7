"""Rows to batches of like length, batches to log-probs: which rows meet depends on the input only.

Rows are padded behind, with their own last token, and no mask is passed: a causal model computes a
token from those before it, so that what stands behind cannot matter, positions count from 0 as
they should, and no model's special treatment of a padding token is touched. That a model is causal
in this sense is not taken on trust: `padding_noise` measures it in every run.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from taut.errors import UsageError
from taut.training.scoring.head import Head, hidden_states, naive_log_probs, token_log_probs
from taut.training.scoring.result import Noise
from taut.training.scoring.spool import Row

PART_TOKENS = 1 << 18  # padded tokens a part: seconds on a GPU, minutes on a CPU
CONTROL_ROWS = 16
_CONTROL_TOKENS = 16_384


def cut_batches(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Return row numbers batch by batch: like lengths together, the longest first.

    Args:
        lengths: Tokens of each row.
        budget: Most tokens of a batch with its padding; a longer row comes alone.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    out, start = [], 0
    while start < len(order):
        count = max(budget // int(lengths[order[start]]), 1)
        out.append(order[start : start + count])
        start += count
    return out


def cut_parts(batches: list[np.ndarray], lengths: Sequence[int]) -> Iterator[list[np.ndarray]]:
    """Yield consecutive batches worth a part: what is done at least, before progress is kept."""
    part, size = [], 0
    for batch in batches:
        part.append(batch)
        size += len(batch) * int(lengths[batch[0]])
        if size >= PART_TOKENS:
            yield part
            part, size = [], 0
    if part:
        yield part


@torch.inference_mode()
def batch_log_probs(
    model: nn.Module,
    head: Head,
    rows: Sequence[Row],
    *,
    device: torch.device,
    temperature: float = 1.0,
    padding: int = 0,
) -> list[np.ndarray]:
    """Return the log-probs of each response token, nats, float32, shape (response tokens,) a row.

    Args:
        model: In inference mode, on the device.
        head: As found by `find_head`.
        rows: Go through the model together.
        device: Where the model is.
        temperature: Logits are divided by it.
        padding: Further tokens behind the longest row.

    Raises:
        UsageError: The device has too little memory for the batch.
    """
    longest = max(map(len, rows)) - 1 + padding  # the last token of a row predicts nothing wanted
    # Both on the host, then moved once: many small copies would wait for the device.
    ids = np.empty((len(rows), longest), dtype=np.int64)
    following = np.zeros_like(ids)
    wanted = np.zeros(ids.shape, dtype=bool)
    for index, row in enumerate(rows):
        tokens = np.concatenate([row.prompt, row.response])
        size = len(tokens) - 1
        ids[index, :size] = tokens[:-1]
        ids[index, size:] = tokens[-1]
        following[index, :size] = tokens[1:]
        wanted[index, len(row.prompt) - 1 : size] = True
    try:
        flat = _forward(
            model,
            head,
            torch.from_numpy(ids).to(device),
            torch.from_numpy(following).to(device),
            torch.from_numpy(wanted).to(device),
            temperature,
        )
    except torch.OutOfMemoryError:
        raise UsageError(
            f"expected a batch of {len(rows)} rows of {longest} tokens to fit the memory of "
            f"{device}; lower --batch-tokens."
        ) from None
    ends = np.cumsum([len(row.response) for row in rows])
    return np.split(flat.cpu().numpy(), ends[:-1])


def _forward(model, head, ids, following, wanted, temperature) -> torch.Tensor:
    """Return the wanted log-probs of a batch, row by row, shape (wanted tokens,)."""
    if head.kind == "naive":
        return naive_log_probs(model, ids, following, temperature)[wanted]
    # Only places that predict a response token reach the head: prompts cost it nothing.
    hidden = hidden_states(model, head, ids)[wanted]
    return token_log_probs(head, hidden, following[wanted], temperature)


def padding_noise(
    model: nn.Module,
    head: Head,
    rows: Sequence[Row],
    *,
    device: torch.device,
    temperature: float = 1.0,
    context: int | None = None,
) -> Noise:
    """Score some rows together and then each alone with other padding: the noise floor."""
    some: list[Row] = []
    for row in rows[:CONTROL_ROWS]:
        if some and sum(map(len, some)) + len(row) > _CONTROL_TOKENS:
            break
        some.append(row)
    settings = {"device": device, "temperature": temperature}

    def room(row: Row) -> int:
        return 1 << 10 if context is None else context - len(row)

    together = batch_log_probs(model, head, some, **settings)
    alone = [
        batch_log_probs(model, head, [row], padding=min(3 + 2 * index, room(row)), **settings)[0]
        for index, row in enumerate(some)
    ]
    gaps = np.array([sum_of(a) - sum_of(b) for a, b in zip(together, alone, strict=True)])
    return Noise(
        rows=len(some),
        largest=float(np.abs(gaps).max()),
        median=float(np.median(np.abs(gaps))),
        rms=float(np.sqrt(np.mean(gaps**2))),
    )


def sum_of(log_probs: np.ndarray) -> float:
    """Return the float64 sum of a response's log-probs, nats."""
    return float(log_probs.sum(dtype=np.float64))

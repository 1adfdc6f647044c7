"""Log-probs of completions under a model: some rows at a time, no log-softmax in memory.

For what a trainer does not compute itself. It takes a plain causal language model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_POSITIONS_AT_ONCE = 1024  # whose logits are widened to float32 at once


def token_log_probs(
    model: Any,
    ids: "torch.Tensor",
    attention: "torch.Tensor",
    keep: int,
    *,
    temperature: float = 1.0,
    rows: int = 8,
) -> "torch.Tensor":
    """Return the log-probs of the last tokens of each row, nats, float32.

    Args:
        model: A causal language model, at the precision and in the mode it is in.
        ids, attention: Token ids and attention mask, shape (rollouts, tokens), padded on the left.
        keep: Number of tokens at the end of each row that are scored.
        temperature: What the logits are divided by.
        rows: Rollouts in one forward.

    Returns:
        Shape (rollouts, keep); what stands at padding means nothing.
    """
    import torch

    out = torch.empty((len(ids), keep), dtype=torch.float32, device=ids.device)
    with torch.no_grad():
        for at in range(0, len(ids), rows):
            chunk = slice(at, at + rows)
            logits = model(
                input_ids=ids[chunk],
                attention_mask=attention[chunk],
                logits_to_keep=keep + 1,
                use_cache=False,
            ).logits[:, -keep - 1 : -1]
            _gather(logits, ids[chunk, -keep:], temperature, out[chunk])
    return out


def _gather(
    logits: "torch.Tensor", ids: "torch.Tensor", temperature: float, out: "torch.Tensor"
) -> None:
    step = max(1, _POSITIONS_AT_ONCE // len(ids))
    for at in range(0, ids.shape[1], step):
        part = logits[:, at : at + step].float() / temperature
        chosen = part.gather(2, ids[:, at : at + step, None]).squeeze(2)
        out[:, at : at + step] = chosen - part.logsumexp(dim=2)


def padded(
    rows: Sequence[Sequence[int]], *, pad: int, left: bool
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return token rows as a tensor with its mask, padded on the left or the right."""
    import torch

    longest = max(1, *map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, where] = torch.tensor(row, dtype=torch.long)
        mask[i, where] = 1
    return ids, mask


def pad_rows(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad: int
) -> "tuple[torch.Tensor, torch.Tensor, int]":
    """Return ids, attention mask and completion width, the completions beginning at one column.

    Args:
        prompts, completions: Token ids of each rollout.
        pad: Token id that fills rows up; it is masked.
    """
    import torch

    sides = [padded(prompts, pad=pad, left=True), padded(completions, pad=pad, left=False)]
    ids, attention = (torch.cat(both, dim=1) for both in zip(*sides, strict=True))
    return ids, attention, sides[1][0].shape[1]


def frozen_copy(model: Any) -> Any:
    """Return a copy of a model, as it is now, that no training moves.

    A forward that a trainer put onto the model itself holds on to the original, and would score
    the original from the copy as well; the copy has the forward of its class.
    """
    copy = deepcopy(model)
    copy.__dict__.pop("forward", None)
    return copy.eval().requires_grad_(False)


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Make a LoRA model its own reference for a while: no adapter, or the frozen copy "ref"."""
    if "ref" not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    before = model.active_adapter
    model.set_adapter("ref")
    try:
        yield
    finally:
        model.set_adapter(before)

"""A little text of a run, scored as the run scores: what the pre-flight checks measure with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taut.training.recording.hooks import score, tokenizer_of
from taut.training.recording.log_probs import pad_rows

if TYPE_CHECKING:
    import torch

_PROBE_PROMPTS = 4
_PROBE_TOKENS = 32
_EXTRA_PADDING = 7  # columns; not a multiple of a kernel's tile


@dataclass(frozen=True, slots=True)
class Probe:
    """A little text to score: prompts of the run, each gone on with its own words."""

    ids: "torch.Tensor"
    mask: "torch.Tensor"
    keep: int

    def padded(self, columns: int, pad: int) -> "Probe":
        """Return the same text behind more padding."""
        import torch

        shape = (len(self.ids), columns)
        return Probe(
            torch.cat([self.ids.new_full(shape, pad), self.ids], dim=1),
            torch.cat([self.mask.new_zeros(shape), self.mask], dim=1),
            self.keep,
        )


@contextmanager
def in_mode(trainer: Any, *, training: bool) -> Iterator[None]:
    """Put the policy in a mode for a while; leave modes and chance as they were."""
    import torch

    model = trainer.model
    before = model.training
    with torch.random.fork_rng():
        model.train(training)
        try:
            yield
        finally:
            model.train(before)


def make_probe(trainer: Any) -> Probe | None:
    """Return prompts of the run as text to score; None where they cannot be read."""
    tokenizer, rows = tokenizer_of(trainer), []
    for row in trainer.train_dataset:
        if row.keys() & {"image", "images"}:
            return None
        if not isinstance(row["prompt"], str):
            text = tokenizer.apply_chat_template(row["prompt"], tokenize=False)
        else:
            text = row["prompt"]
        rows.append(tokenizer(text)["input_ids"])
        if len(rows) == _PROBE_PROMPTS:
            break
    rows = [row for row in rows if row]
    if not rows:
        return None
    again = [(row * _PROBE_TOKENS)[:_PROBE_TOKENS] for row in rows]
    ids, mask, keep = pad_rows(rows, again, tokenizer.pad_token_id)
    device = trainer.accelerator.device
    return Probe(ids.to(device), mask.to(device), keep)


def sums(trainer: Any, model: Any, probe: Probe) -> "torch.Tensor":
    """Return the log-prob of each text of the probe, nats, float64 on the CPU."""
    values = score(trainer, model, probe.ids, probe.mask, probe.keep, len(probe.ids))
    return values.cpu().double().sum(dim=1)


def rounding(trainer: Any, probe: Probe) -> float:
    """Return the root mean square change of a log-prob, in nats, when padding is added."""
    pad = tokenizer_of(trainer).pad_token_id
    one = sums(trainer, trainer.model, probe)
    two = sums(trainer, trainer.model, probe.padded(_EXTRA_PADDING, pad))
    return float((one - two).square().mean().sqrt())

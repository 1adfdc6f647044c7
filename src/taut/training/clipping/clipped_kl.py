"""RLOO with a KL penalty clipped at the level of the sequence: r - beta clip(l, -tau, tau).

Two ways that agree. `ClippedKLRLOOTrainer` hands TRL a reference whose per-token differences from
the policy sum to the clipped log-ratio, and lets TRL's own reward code go on: no extra forward.
`ClippedKLReward` is a plain reward function for trainers with beta = 0, RLOO or GRPO.
"""

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from taut.errors import UsageError
from taut.training.clipping.threshold import (
    Threshold,
    as_threshold,
    keep_threshold,
    kl_metrics,
)
from taut.training.recording.hooks import completion_mask, is_reference, mode

if TYPE_CHECKING:
    import torch


class ClippedKLMixin:
    """Clips the sequence log-ratio in the reward of a TRL RLOO trainer; stands before it.

    Args:
        args, kwargs: Those of the trainer.
        tau: Threshold in nats, a `Threshold` schedule, or None to clip nothing.
        tau_negative: Threshold of the negative side, nats; None for the same as tau.

    Attributes:
        threshold: Threshold in force.
        unclipped_reference: The reference's log-probs of the latest batch as the model gave them,
            nats, shape (rollouts, tokens); what the recorder writes.
    """

    def __init__(
        self,
        *args: Any,
        tau: "float | Threshold | None" = None,
        tau_negative: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.threshold = as_threshold(tau, tau_negative)
        self.unclipped_reference: torch.Tensor | None = None
        self._policy_logps: torch.Tensor | None = None
        self._generating = False
        super().__init__(*args, **kwargs)
        if self.beta == 0 and not math.isinf(self.threshold.tau):
            raise UsageError(
                "tau: expected beta above 0, found beta=0, which has no KL penalty to clip; "
                "set beta, or use ClippedKLReward."
            )
        self.add_callback(keep_threshold(self.threshold))

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self._generating, self._policy_logps = True, None
        try:
            return super()._generate_and_score_completions(inputs)
        finally:
            self._generating, self._policy_logps = False, None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: "torch.Tensor",
        attention_mask: "torch.Tensor",
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple:
        out = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if not self._generating:
            return out
        if not is_reference(self, model):
            self._policy_logps = out[0]
            return out
        self.unclipped_reference = out[0]
        mask = completion_mask(attention_mask, logits_to_keep)
        return (self._clip(self._policy_logps, out[0], mask), *out[1:])

    def _clip(
        self, policy: "torch.Tensor", reference: "torch.Tensor", mask: "torch.Tensor"
    ) -> "torch.Tensor":
        log_ratio, clipped, reference = clip_reference(
            policy,
            reference,
            mask,
            tau=self.threshold.tau,
            tau_negative=self.threshold.tau_negative,
        )
        self._log_kl(log_ratio, clipped)
        return reference

    def _log_kl(self, log_ratio: "torch.Tensor", clipped: "torch.Tensor") -> None:
        import torch

        both = self.accelerator.gather(torch.stack([log_ratio, clipped], dim=1)).cpu().numpy()
        metrics, now = self._metrics[mode(self)], self.threshold
        for name, value in kl_metrics(both[:, 0], both[:, 1], now).items():
            metrics[name].append(value)
        if mode(self) == "train":
            now.observe(both[:, 0])


def clip_reference(
    policy: "torch.Tensor",
    reference: "torch.Tensor",
    mask: "torch.Tensor",
    *,
    tau: float,
    tau_negative: float,
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Move a reference so that the log-ratio of each sequence becomes the clipped one.

    The per-token differences of a clipped sequence shrink by one factor; sequences inside the
    thresholds keep their reference bit for bit.

    Args:
        policy, reference: Log-probs of each token, nats, shape (rollouts, tokens).
        mask: 1 where a token counts, shape (rollouts, tokens).
        tau, tau_negative: Thresholds, nats.

    Returns:
        The log-ratio and the clipped log-ratio, nats, float64 of shape (rollouts,), and the moved
        reference, of the shape of `reference` and float32 or wider.
    """
    import torch

    wide = torch.float32 if policy.device.type == "mps" else torch.float64
    difference = (policy.to(wide) - reference.to(wide)) * mask
    log_ratio = difference.sum(dim=1)
    clipped = log_ratio.clamp(min=-tau_negative, max=tau)
    outside = clipped != log_ratio
    if not outside.any():
        return log_ratio, clipped, reference
    factor = torch.where(outside, clipped / log_ratio, 1.0)
    narrow = torch.promote_types(reference.dtype, torch.float32)
    moved = (policy.to(wide) - factor[:, None] * difference).to(narrow)
    # Rounding adds up over thousands of tokens: one token makes up for all.
    left = ((policy.to(wide) - moved.to(wide)) * mask).sum(dim=1) - clipped
    last = (mask > 0).long().cumsum(dim=1).argmax(dim=1, keepdim=True)
    moved = moved.scatter_add(1, last, left[:, None].to(narrow))
    return log_ratio, clipped, torch.where(outside[:, None], moved, reference.to(narrow))


@cache
def clipped_kl_trainer(base: type | None = None) -> type:
    """Return a trainer class that clips the KL penalty of an RLOO trainer.

    Args:
        base: `trl.RLOOTrainer`, the default, or a subclass.

    Raises:
        UsageError: The base is no RLOO trainer: GRPO has its KL per token in the loss.
    """
    from trl import RLOOTrainer

    base = base or RLOOTrainer
    if not issubclass(base, RLOOTrainer):
        raise UsageError(
            f"expected a subclass of trl.RLOOTrainer, found {base.__name__}, whose KL is not a "
            "penalty on the sequence; set beta=0 and add ClippedKLReward to its rewards."
        )
    return type(f"ClippedKL{base.__name__}", (ClippedKLMixin, base), {})


def __getattr__(name: str) -> Any:
    if name == "ClippedKLRLOOTrainer":  # made on use: importing TRL takes seconds
        return clipped_kl_trainer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

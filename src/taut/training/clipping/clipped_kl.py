"""RLOO with a KL penalty clipped at the level of the sequence: r - beta clip(l, -tau, tau).

Two ways that agree. `ClippedKLRLOOTrainer` hands TRL a reference whose per-token differences from
the policy sum to the clipped log-ratio, and lets TRL's own reward code go on: no extra forward.
`ClippedKLReward` is a plain reward function for trainers with beta = 0, RLOO or GRPO.
"""

import math
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.errors import UsageError
from taut.training.clipping.threshold import (
    FixedThreshold,
    PhasedThreshold,
    Threshold,
    as_threshold,
    keep_threshold,
    quantile_threshold,
)
from taut.training.recording.hooks import (
    completion_mask,
    is_reference,
    mode,
    stop_tokens,
    tokenizer_of,
)
from taut.training.recording.log_probs import adapters_off, frozen_copy, pad_rows, token_log_probs

if TYPE_CHECKING:
    import torch

__all__ = [
    "ClippedKLMixin",
    "ClippedKLReward",
    "FixedThreshold",
    "PhasedThreshold",
    "Threshold",
    "clipped_kl_trainer",
    "quantile_threshold",
]


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


def kl_metrics(log_ratio: Any, clipped: Any, threshold: Threshold) -> dict[str, float]:
    """Return the metrics of one batch: means in nats, the share that was clipped, and tau."""
    found = {
        "kl/sequence": float(log_ratio.mean()),
        "kl/clipped": float(clipped.mean()),
        "kl/clip_share": float((clipped != log_ratio).mean()),
    }
    if not math.isinf(threshold.tau):
        found["tau"] = float(threshold.tau)
    return found


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


class ClippedKLReward:
    """The clipped KL penalty as a reward function, by TRL's public interface alone.

    For RLOO and GRPO with `beta=0`: add it to the reward functions with weight beta, and attach it
    to the trainer. It pays for one forward of each model. For GRPO also set `scale_rewards="none"`
    in its config, which otherwise divides the reward, and with it beta, by a spread.

        penalty = ClippedKLReward(tau=4.0)
        config = GRPOConfig(..., beta=0.0, reward_weights=[1.0, 0.05], scale_rewards="none")
        trainer = GRPOTrainer(model, [reward_model, penalty], config, ...)
        penalty.attach(trainer)

    Like TRL, it leaves truncated completions without a penalty where
    `mask_truncated_completions` is set. Sharded models (FSDP, ZeRO-3) need the other way.

    Args:
        tau: Threshold in nats, a `Threshold` schedule, or None to clip nothing.
        tau_negative: Threshold of the negative side, nats; None for the same as tau.
        rows: Rollouts in one forward.

    Attributes:
        threshold: Threshold in force.
        latest: Token log-probs of the latest batch under "policy" and "ref", nats, shape
            (rollouts, tokens); what the recorder writes.
    """

    __name__ = "clipped_kl"
    is_kl_penalty = True  # the recorder leaves it out of the reward

    def __init__(
        self,
        *,
        tau: "float | Threshold | None",
        tau_negative: float | None = None,
        rows: int = 8,
    ) -> None:
        self.threshold = as_threshold(tau, tau_negative)
        self.rows = rows
        self.latest: dict[str, np.ndarray] = {}
        self._trainer: Any = None
        self._reference: Any = None

    @property
    def attached(self) -> bool:
        """Whether it knows its trainer."""
        return self._trainer is not None

    def attach(self, trainer: Any, *, reference: Any = None) -> None:
        """Tell the penalty whose rollouts it sees; call it before training.

        Args:
            trainer: The trainer that this is a reward function of, with `beta=0`.
            reference: Model to stay close to. None takes the policy without its adapters, or a
                copy of the policy as it is now.

        Raises:
            UsageError: The trainer adds a KL penalty of its own.
        """
        if trainer.args.beta != 0:
            raise UsageError(
                f"beta: expected 0, found {trainer.args.beta}, which would add a second, unclipped "
                "KL; set beta=0 and give beta as the weight of this reward function."
            )
        self._trainer = trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        if reference is not None:
            self._reference = reference.to(model.device).eval().requires_grad_(False)
        elif not hasattr(model, "peft_config"):
            self._reference = frozen_copy(model)
        trainer.add_callback(keep_threshold(self.threshold))

    def __call__(
        self,
        *,
        prompts: list,
        completion_ids: list[list[int]],
        log_extra: Any = None,
        log_metric: Any = None,
        **_: Any,
    ) -> list[float]:
        """Return minus the clipped log-ratio of each rollout, nats.

        Raises:
            UsageError: It was not attached to a trainer.
        """
        if self._trainer is None:
            raise UsageError(
                "ClippedKLReward: expected to know the trainer, found none; call "
                "penalty.attach(trainer) before training."
            )
        policy, reference = self.log_probs(prompts, completion_ids)
        log_ratio = self._without_masked(policy - reference, completion_ids)
        now = self.threshold
        clipped = np.clip(log_ratio, -now.tau_negative, now.tau)
        if log_extra:
            log_extra("policy_logprob", policy.tolist())
            log_extra("ref_logprob", reference.tolist())
        if log_metric:
            for name, value in kl_metrics(log_ratio, clipped, now).items():
                log_metric(name, value)
        if mode(self._trainer) == "train":
            now.observe(self._all_ranks(log_ratio))
        return (-clipped).tolist()

    def log_probs(self, prompts: list, completion_ids: list) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probs under policy and reference, nats, each of shape (rollouts,).

        Args:
            prompts: Texts or conversations, as the trainer gives them to a reward function.
            completion_ids: Token ids of each completion.
        """
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        pad = tokenizer_of(trainer).pad_token_id
        ids, attention, keep = pad_rows(self._prompt_ids(prompts), completion_ids, pad)
        kept = attention[:, -keep:].numpy() > 0

        def score(model: Any) -> np.ndarray:
            with trainer.accelerator.autocast():
                values = token_log_probs(
                    model,
                    ids.to(model.device),
                    attention.to(model.device),
                    keep,
                    temperature=trainer.args.temperature,
                    rows=self.rows,
                )
            return values.cpu().numpy()

        self.latest = {"policy": score(model)}
        with nullcontext() if self._reference is not None else adapters_off(model):
            self.latest["ref"] = score(model if self._reference is None else self._reference)
        policy, reference = (
            np.where(kept, values, 0.0).sum(axis=1, dtype=np.float64)
            for values in self.latest.values()
        )
        return policy, reference

    def _prompt_ids(self, prompts: list) -> list[list[int]]:
        trainer, tokenizer = self._trainer, tokenizer_of(self._trainer)
        if isinstance(prompts[0], str):
            return tokenizer(text=prompts)["input_ids"]
        return tokenizer.apply_chat_template(
            conversation=prompts,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **(trainer.args.chat_template_kwargs or {}),
        )["input_ids"]

    def _without_masked(self, log_ratio: np.ndarray, completion_ids: list) -> np.ndarray:
        if not self._trainer.args.mask_truncated_completions:
            return log_ratio
        stops = stop_tokens(self._trainer)
        return np.where([bool(ids) and ids[-1] in stops for ids in completion_ids], log_ratio, 0.0)

    def _all_ranks(self, log_ratio: np.ndarray) -> np.ndarray:
        import torch

        accelerator = self._trainer.accelerator
        # In float32: not every device has float64, and a quantile needs no more.
        local = torch.tensor(log_ratio, dtype=torch.float32, device=accelerator.device)
        return accelerator.gather(local).cpu().numpy()


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

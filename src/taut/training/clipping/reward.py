"""The clipped KL penalty as a plain reward function, for trainers with beta = 0."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from taut.errors import UsageError
from taut.training.clipping.threshold import Threshold, as_threshold, keep_threshold, kl_metrics
from taut.training.recording.hooks import mode, stop_tokens, tokenizer_of
from taut.training.recording.log_probs import (
    adapters_off,
    frozen_copy,
    pad_rows,
    token_log_probs,
)


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

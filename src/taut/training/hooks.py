"""What of TRL's trainers taut leans on: method names, which call is which, which tokens count.

All of it held on every TRL that pyproject.toml declares; the tests run on the oldest and newest.
"""

from typing import TYPE_CHECKING, Any

from taut.errors import UsageError

if TYPE_CHECKING:
    import torch

GENERATE = "_generate_and_score_completions"
LOG_PROBS = "_get_per_token_logps_and_entropies"
REWARDS = "_calculate_rewards"


def check_trainer(trainer: Any) -> None:
    """Raise where a trainer lacks what the recorder and the checks lean on.

    Raises:
        UsageError: The trainer is not one of TRL's that generate while they train.
    """
    missing = [name for name in (GENERATE, LOG_PROBS, REWARDS) if not hasattr(trainer, name)]
    if missing:
        raise UsageError(
            f"expected a TRL RLOOTrainer or GRPOTrainer (1.0 or newer), found "
            f"{type(trainer).__name__} without {', '.join(missing)}; pass the trainer itself."
        )


def mode(trainer: Any) -> str:
    """Return "train" or "eval", as TRL decides it."""
    return "train" if trainer.model.training else "eval"


def is_reference(trainer: Any, model: Any) -> bool:
    """Whether a forward of this model, now, is one of the reference.

    The reference is a model of its own or, with LoRA, the policy with its adapters switched off
    or with the frozen copy named "ref" in their place.
    """
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        return model is reference
    model = trainer.accelerator.unwrap_model(model)
    if "ref" in _active_adapters(model):
        return True
    return any(getattr(module, "disable_adapters", False) is True for module in model.modules())


def _active_adapters(model: Any) -> list[str]:
    if not hasattr(model, "peft_config"):
        return []
    active = model.active_adapter
    return [active] if isinstance(active, str) else list(active)


def completion_mask(attention_mask: "torch.Tensor", logits_to_keep: int) -> "torch.Tensor":
    """Return the mask of the completion tokens that count, shape (rollouts, tokens)."""
    return attention_mask[:, -logits_to_keep:]


def stop_tokens(trainer: Any) -> set[int]:
    """Return the ids that end a completion; one that ends otherwise was cut at the limit."""
    tokenizer = tokenizer_of(trainer)
    ids = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    for name in ("eos_token_ids", "eos_token_id"):
        value = getattr(trainer, name, None) or []
        ids.update([value] if isinstance(value, int) else value)
    return ids - {None}


def tokenizer_of(trainer: Any) -> Any:
    """Return the tokenizer, where the processing class is a processor or the tokenizer itself."""
    return getattr(trainer.processing_class, "tokenizer", trainer.processing_class)

"""What of TRL's trainers taut leans on: method names, which call is which, which tokens count.

All of it held on every TRL that pyproject.toml declares; the tests run on the oldest and newest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taut.errors import UsageError
from taut.training.recording.log_probs import adapters_off, token_log_probs

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


@contextmanager
def reference(trainer: Any) -> "Iterator[Any]":
    """Yield the model that stands for the reference for a while, or None where there is none."""
    model = getattr(trainer, "ref_model", None)
    if model is not None:
        yield model
        return
    if not hasattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config"):
        yield None
        return
    with adapters_off(trainer.accelerator.unwrap_model(trainer.model)):
        yield trainer.model


def score(
    trainer: Any, model: Any, ids: "torch.Tensor", mask: "torch.Tensor", keep: int, rows: int
) -> "torch.Tensor":
    """Return log-probs of the last `keep` tokens as the trainer computes them, nats.

    Args:
        trainer: The trainer.
        model: One of its models.
        ids, mask: Token ids and attention mask, shape (rollouts, tokens).
        keep: Completion tokens at the end of each row.
        rows: Rollouts in one forward.
    """
    import torch

    inner = getattr(type(trainer), LOG_PROBS)
    # Before training an older trainer has put autocast around the reference alone.
    with torch.no_grad(), trainer.accelerator.autocast():
        return inner(trainer, model, ids, mask, keep, rows)[0]


def missing_log_probs(
    trainer: Any, copy: Any, known: dict[str, Any], out: dict[str, Any], mask: "torch.Tensor"
) -> "dict[str, torch.Tensor]":
    """Compute the token log-probs of a batch that its trainer did not, nats.

    Args:
        trainer: The trainer.
        copy: The policy as it was at the start, where the trainer has no reference.
        known: What there is, by role.
        out: What the trainer's generation returned.
        mask: 1 for the tokens of each completion, shape (rollouts, tokens).

    Raises:
        UsageError: The batch has images.
    """
    import torch

    if "pixel_values" in out:
        raise UsageError("extra_forward: expected text alone, found images; leave it out.")
    ids = torch.cat([out["prompt_ids"], out["completion_ids"]], dim=1)
    attention = torch.cat([out["prompt_mask"], mask.to(out["prompt_mask"])], dim=1)
    rows = trainer.args.per_device_train_batch_size
    batch = (ids, attention, mask.shape[1])
    found = {}
    if "policy" not in known:
        found["policy"] = score(trainer, trainer.model, *batch, rows)
    if "ref" not in known:
        with reference(trainer) as model:
            if model is not None:
                found["ref"] = score(trainer, model, *batch, rows)
            else:
                how = {"temperature": trainer.temperature, "rows": rows}
                with trainer.accelerator.autocast():
                    found["ref"] = token_log_probs(copy, *batch, **how)
    return found


# What each setting of generation is where it changes nothing.
_NEUTRAL: dict[str, tuple] = {
    "do_sample": (True,),
    "num_beams": (None, 1),
    "top_p": (None, 1.0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0.0),
    "typical_p": (None, 1.0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
}


def distorted(trainer: Any) -> dict[str, Any]:
    """Return the settings of sampling that make it another distribution than the log-probs'.

    The model's own generation config counts where the trainer leaves a setting open.
    """
    config = sampling_settings(trainer)
    return {
        name: config[name]
        for name, neutral in _NEUTRAL.items()
        if name in config and config[name] not in neutral
    }


def sampling_settings(trainer: Any) -> dict[str, Any]:
    """Return the settings that completions are sampled with."""
    own = getattr(trainer, "generation_config", None)
    if own is None or getattr(trainer, "use_vllm", False):
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        return {name: getattr(trainer, name, None) for name in names} | dict(
            trainer.args.generation_kwargs or {}
        )
    model = trainer.accelerator.unwrap_model(trainer.model)
    prepare = getattr(model, "_prepare_generation_config", None)
    return (prepare(own)[0] if prepare else own).to_dict()

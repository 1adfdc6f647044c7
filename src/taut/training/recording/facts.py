"""What a log knows of itself, so that an audit of it needs no option."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import orjson

PART = "rewards."  # columns of single reward functions


def is_penalty(function: Any) -> bool:
    """Whether a reward function of a trainer is a KL penalty, which is no part of the reward."""
    return getattr(function, "is_kl_penalty", False)


def objective_beta(trainer: Any) -> float | None:
    """Return the beta of E[r - beta log-ratio] that a trainer optimises; None where it has none.

    GRPO's own beta multiplies a mean over tokens in the loss and is none.
    """
    for function, weight in zip(trainer.reward_funcs, trainer.reward_weights, strict=True):
        if is_penalty(function):
            return float(weight)
    is_rloo = hasattr(trainer, "normalize_advantages")
    return float(trainer.beta) if is_rloo and trainer.beta != 0 else None


def engine(trainer: Any) -> str:
    """Return who computes the log-probs."""
    kind = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    mixed = trainer.accelerator.mixed_precision
    precision = kind if mixed == "no" else f"{mixed} mixed precision"
    return f"trl {version('trl')}, transformers {version('transformers')}, {precision}"


def held_out(trainer: Any) -> bool | None:
    """Whether no prompt that a trainer evaluates on stands in its training data, by its words.

    Returns:
        None where that cannot be seen: streamed data, or no evaluation.
    """
    sets = list(named_evaluations(trainer).values())
    if not sets or not all(hasattr(rows, "__len__") for rows in [*sets, trainer.train_dataset]):
        return None
    evaluated = {key for rows in sets for key in _keys(rows)}
    return evaluated.isdisjoint(_keys(trainer.train_dataset))


def steered(trainer: Any) -> str:
    """Return what makes a run hang on the outcomes of its evaluations; empty where nothing does.

    Prompts whose outcomes decide when a run stops, or how it goes on, are not held out.
    """
    for callback in trainer.callback_handler.callbacks:
        if "EarlyStopping" in type(callback).__name__:
            return type(callback).__name__
    schedule = str(getattr(trainer.args, "lr_scheduler_type", ""))
    return "the schedule reduce_lr_on_plateau" if "plateau" in schedule.lower() else ""


def _keys(rows: Any) -> Iterator[str]:
    prompts = rows["prompt"] if hasattr(rows, "column_names") else (row["prompt"] for row in rows)
    return map(prompt_key, prompts)


def prompt_key(prompt: Any) -> str:
    """Return a name for a prompt, text or messages, that is a function of its words alone."""
    return hashlib.sha256(orjson.dumps(prompt, default=str)).hexdigest()[:16]


def named_evaluations(trainer: Any) -> dict[str, Any]:
    """Return the data sets that a trainer evaluates on, by name; none where it has none."""
    found = getattr(trainer, "eval_dataset", None)
    if found is None:
        return {}
    return dict(found) if isinstance(found, dict) else {"eval_dataset": found}

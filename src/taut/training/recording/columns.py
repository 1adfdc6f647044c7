"""What a batch of TRL gives to a log: rewards, words, ids, a data set's own columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.errors import UsageError
from taut.logs.schema import NATIVE
from taut.training.recording.facts import PART, is_penalty, prompt_key

if TYPE_CHECKING:
    import torch

_OURS = {*NATIVE, "label"}


def weighted_reward(trainer: Any, per_function: "torch.Tensor") -> np.ndarray:
    """Return the weighted sum of the rewards without a KL penalty among them.

    Args:
        trainer: Has the weights.
        per_function: Shape (rollouts, functions), NaN where a function gave no score.

    Returns:
        Shape (rollouts,), reward units; NaN where no function gave a score.
    """
    values = per_function.detach().double().cpu().numpy()
    weights = trainer.reward_weights.detach().double().cpu().numpy()
    kept = [not is_penalty(function) for function in trainer.reward_funcs]
    values, weights = values[:, kept], weights[kept]
    unscored = np.isnan(values).all(axis=1)
    with np.errstate(invalid="ignore"):
        total = np.where(np.isnan(values), 0.0, values * weights).sum(axis=1)
    # Infinities that cancel are no missing score: a reader must meet and refuse them.
    total = np.where(np.isnan(total), np.inf, total)
    return np.where(unscored, np.nan, total)


def reward_parts(trainer: Any, per_function: "torch.Tensor") -> dict[str, np.ndarray]:
    """Return the values of each reward function before its weight, by column name."""
    values = per_function.detach().double().cpu().numpy()
    found: dict[str, np.ndarray] = {}
    for place, function in enumerate(trainer.reward_funcs):
        name = base = PART + trainer.reward_func_names[place]
        while name in found:  # functions of one name
            name = f"{base}_{place}"
        if not is_penalty(function):
            found[name] = values[:, place]
    return found


def prompt_ids(inputs: Sequence[dict[str, Any]], prompts: Sequence) -> list:
    """Return the data set's own ids of prompts, else a name of each prompt."""
    if "prompt_id" in inputs[0]:
        return [row["prompt_id"] for row in inputs]
    return [prompt_key(prompt) for prompt in prompts]


def response_of(completion: Any) -> Any:
    """Return a completion as TRL hands it over as text, or as messages where there are several."""
    one = isinstance(completion, list) and len(completion) == 1 and completion[0]
    return one["content"] if one and isinstance(one.get("content"), str) else completion


def check_keep(keep: Sequence[str], known: Mapping[str, Sequence[str] | None]) -> None:
    """Raise where a column to keep is not there or has a name of the log's own.

    Args:
        keep: Names of columns.
        known: The columns of each data set, by its name; None where they cannot be seen.

    Raises:
        UsageError: It is so.
    """
    if isinstance(keep, str):
        raise UsageError(f"keep: expected a list of columns, found text; say keep=({keep!r},).")
    for column in keep:
        if column in _OURS or column.startswith(PART):
            raise UsageError(f"keep: '{column}' is a column of the log itself; rename yours.")
        for name, columns in known.items():
            if columns is not None and column not in columns:
                raise UsageError(
                    f"keep: expected a column '{column}' in {name}, found {', '.join(columns)}."
                )

"""TRL's completions: one Parquet file a step, `GRPOTrainer.log` in trl/trainer/grpo_trainer.py.

Read at TRL 1.16.0 (and 0.29, 1.0, 1.4, 1.9). No prompt id; a prompt is known by its text.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from taut.errors import LogError
from taut.logs.frameworks.common import expect, join, with_columns
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import NATIVE, REWARD_PART


def layout(file: str, columns: Columns, paths: Mapping[str, str]) -> Layout:
    """step, prompt, completion, one column per reward function, extras, advantage."""
    expect(file, "trl", columns, ("step", "prompt", "completion"))
    weights = _trl_rewards(file, columns, paths)
    own = {f"{REWARD_PART}{name}": name for name in weights}
    needed = set(own)
    own["response"] = "completion"
    paths = {name: path for name, path in paths.items() if name != "reward"}
    prompt = {"prompt", "prompt_id"} & {name for name, path in paths.items() if name != path}
    if not prompt and "prompt_id" not in columns:
        own["messages"] = "prompt"
    return join(
        paths,
        own,
        required=needed,
        derived={"reward", "prompt"} if "messages" in own else {"reward"},
        derive=partial(_derive_trl, weights=weights),
        origin=Origin(format="trl"),
    )


def _trl_rewards(file: str, columns: Columns, paths: Mapping[str, str]) -> dict[str, float]:
    """Return the reward columns and their weights."""
    given = paths["reward"]
    if given != "reward":
        return {given: 1.0} if given in columns else _weighted(file, given, columns)
    taken = {"step", "advantage", *NATIVE, *(path for name, path in paths.items() if name != path)}
    found = [
        name
        for name, holds in columns.items()
        if holds == "number" and (name == "reward" or name not in taken)
    ]
    if len(found) == 1:
        return {found[0]: 1.0}
    shown = ", ".join(f"'{name}'" for name in found) or "none"
    total = "+".join(f"1.0*{name}" for name in found) or "1.0*NAME"
    raise LogError(
        f"{file}: expected one reward column in a TRL log, found {shown}; say which one with "
        f"--map reward=NAME, or give the sum that was trained on, with the trainer's "
        f"reward_weights: --map 'reward={total}'."
    )


def _weighted(file: str, text: str, columns: Columns) -> dict[str, float]:
    """Read a sum such as 1.0*accuracy+0.5*format."""
    weights: dict[str, float] = {}
    for term in text.split("+"):
        factor, star, name = term.rpartition("*")
        name = name.strip()
        try:
            weights[name] = weights.get(name, 0.0) + (float(factor) if star else 1.0)
        except ValueError:
            raise LogError(
                f"mapping: {term!r} in 'reward={text}' is no weight and column; expected a column, "
                "or a sum such as 1.0*accuracy+0.5*format."
            ) from None
        if name not in columns:
            raise LogError(
                f"{file}: expected '{name}' (mapped to 'reward'), found "
                f"{', '.join(repr(column) for column in columns)}; correct the mapping."
            )
    return weights


def _derive_trl(chunk: Chunk, weights: Mapping[str, float]) -> Chunk:
    """Sum the rewards as the trainer does: what a function left out counts nothing."""
    parts = [chunk.columns[f"{REWARD_PART}{name}"].data for name in weights]
    absent = np.all([np.isnan(part) for part in parts], axis=0)
    total = sum(w * np.nan_to_num(part) for w, part in zip(weights.values(), parts, strict=True))
    columns = {"reward": Values(np.where(absent, np.nan, total))}
    for row in np.flatnonzero(absent):
        names = " and ".join(f"'{name}'" for name in weights)
        chunk.problems.add(
            row,
            "reward",
            f"is nothing: {names} returned None for this rollout; give every rollout a reward: "
            "leaving some out by outcome biases every mean",
        )
    if "messages" in chunk.columns and "prompt" not in chunk.columns:
        columns["prompt"] = chunk.columns["messages"]
    return with_columns(chunk, columns)

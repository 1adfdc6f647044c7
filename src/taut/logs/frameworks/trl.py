"""TRL's completions: one Parquet file a step, `GRPOTrainer.log` in trl/trainer/grpo_trainer.py.

Read at TRL 1.16.0 (and 0.29, 1.0, 1.4, 1.9). No prompt id; a prompt is known by its text.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from taut.errors import LogError
from taut.logs.frameworks.common import expect, join, with_columns
from taut.logs.layout import Columns, Layout
from taut.logs.mapping import weighted
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import NATIVE, REWARD_PART
from taut.logs.text import safe


def layout(
    file: str,
    columns: Columns,
    paths: Mapping[str, str],
    mapped: frozenset[str],
    format: str = "trl",
) -> Layout:
    """step, prompt, completion, one column per reward function, extras, advantage."""
    expect(file, format, columns, ("step", "prompt", "completion"))
    weights = _rewards(file, columns, paths, mapped, format)
    own = {f"{REWARD_PART}{name}": name for name in weights}
    needed = set(own)
    own["response"] = "completion"
    paths = {name: path for name, path in paths.items() if name != "reward"}
    if not {"prompt", "prompt_id"} & mapped and "prompt_id" not in columns:
        own["messages"] = "prompt"
    return join(
        paths,
        own,
        mapped - {"reward"},
        required=needed,
        derived={"reward", "prompt"} if "messages" in own else {"reward"},
        derive=partial(_derive_trl, weights=weights),
        origin=Origin(format=format),
    )


def _rewards(
    file: str,
    columns: Columns,
    paths: Mapping[str, str],
    mapped: frozenset[str],
    format: str,
) -> dict[str, float]:
    """Return the reward columns and their weights."""
    if "reward" in mapped:
        given = paths.get("reward", "reward")
        weights = {given: 1.0} if given in columns else weighted(given)
        for name in weights:
            if name not in columns:
                shown = ", ".join(repr(safe(column)) for column in columns)
                raise LogError(
                    f"{file}: expected '{safe(name)}' (mapped to 'reward'), found {shown}; "
                    "correct the mapping."
                )
        return weights
    taken = {"step", "advantage", "advantages", *NATIVE, *(paths[n] for n in mapped & paths.keys())}
    found = [
        name
        for name, holds in columns.items()
        if holds == "number" and (name == "reward" or name not in taken)
    ]
    if len(found) == 1:
        return {found[0]: 1.0}
    shown = ", ".join(f"'{safe(name)}'" for name in found) or "none"
    total = "+".join(f"1.0*{safe(name)}" for name in found) or "1.0*NAME"
    raise LogError(
        f"{file}: expected one reward column in a {FRAMEWORKS[format].title.split()[0]} log, found "
        f"{shown}; say which one with --map reward=NAME, or give the sum that was trained on, with "
        f"the trainer's reward_weights: --map 'reward={total}'."
    )


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

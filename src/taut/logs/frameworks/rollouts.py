"""Training rollouts whose columns only have other names: verifiers, SkyRL, slime, ROLL and others.

Read at verifiers a60a606ec (legacy/utils/save_utils.py), SkyRL (`dump_per_dataset_eval_results`),
slime 624b824a8 (`Sample.to_dict`), ms-swift 3 (`JsonlWriter` of its GRPO trainer), ROLL
(`rollout_dump_data`), AReaL 4aef98d8d (infra/workflow_executor.py), NeMo Gym (rollout collection)
and tinker-cookbook (rollout summaries; trajectories of its evaluations).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import orjson
import pyarrow as pa

from taut.errors import LogError
from taut.logs.frameworks import trl
from taut.logs.frameworks.common import cut_short, expect, join, opening, with_columns
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How the columns of one framework's log are called.

    Attributes:
        needed: Columns that all its logs have.
        own: Native or raw name to column, of those that a file has.
        cut: What `finish_reason` says of a response that was cut at the length limit.
        absent: Native names that the log has for something else.
    """

    needed: tuple[str, ...]
    own: Mapping[str, str]
    cut: tuple[str, ...] = ()
    absent: frozenset[str] = field(default_factory=frozenset)


NAMES: dict[str, Names] = {
    "verifiers": Names(
        needed=("example_id", "prompt", "completion", "reward"),
        own={"prompt": "prompt", "response": "completion", "truncated": "is_truncated"},
    ),
    "skyrl": Names(
        needed=("input_prompt", "output_response", "score"),
        own={
            "prompt": "input_prompt",
            "response": "output_response",
            "reward": "score",
            "finish_reason": "stop_reason",
        },
        cut=("length",),
    ),
    "slime": Names(
        needed=("prompt", "response", "reward", "status"),
        own={"n_tokens": "response_length", "finish_reason": "status"},
        cut=("truncated",),
        absent=frozenset({"group"}),
    ),
    "roll": Names(
        needed=("global_step", "prompt", "responses", "scores"),
        own={"step": "global_step", "response": "responses", "reward": "scores"},
    ),
    "areal": Names(
        needed=("task_id", "prompt_len", "head_version", "reward", "prompt", "completion"),
        own={"response": "completion"},
    ),
    "nemo-gym": Names(
        needed=("responses_create_params.input", "reward"),
        own={"prompt": "responses_create_params.input"},
        absent=frozenset({"group", "response"}),
    ),
}


def layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str], format: str
) -> Layout:
    """Read a log whose columns only have other names."""
    known = NAMES[format]
    expect(file, format, columns, known.needed)
    own = {name: path for name, path in known.own.items() if path in columns}
    absent = known.absent - mapped
    if columns.get(own.get("reward", "")) == "list" and "reward" not in mapped:
        path = own["reward"]
        raise LogError(
            f"{file}: '{path}' holds a reward per token; say how they make one, as in "
            f"--map 'reward=sum({path})' or --map 'reward=last({path})'."
        )
    return join(
        {name: path for name, path in paths.items() if name not in absent},
        own,
        mapped,
        required={"reward", *({"prompt"} & own.keys())},
        derive=partial(_finished, cut=known.cut),
        origin=Origin(format=format),
    )


def _finished(chunk: Chunk, cut: tuple[str, ...]) -> Chunk:
    truncated = cut_short(chunk, "finish_reason", cut) if cut else None
    return with_columns(chunk, {} if truncated is None else {"truncated": truncated})


def swift_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """ms-swift: TRL's columns, as a table in each line."""
    return trl.layout(file, columns, paths, mapped, "ms-swift")


def tinker_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """Rollout summaries know a prompt by a number in its iteration, evaluations by its turns."""
    origin = Origin(format="tinker", part="evaluation" if "turns" in columns else "training")
    if "turns" in columns:
        named = {"prompt", "prompt_id"} & mapped
        found = join(
            paths,
            {} if named else {"messages": "turns"},
            mapped,
            required={"reward"} | (set() if named else {"messages"}),
            derived=() if named else {"prompt"},
            derive=_from_turns,
            origin=origin,
        )
        if "prompt_id" in mapped:
            return found
        # `prompt_id` is another's name here; the text of the turns is the prompt.
        return replace(found, paths={n: p for n, p in found.paths.items() if n != "prompt_id"})
    iteration = os.path.basename(os.path.dirname(file))
    return join(
        paths,
        {"reward": "total_reward", "draw": "group_idx"},
        mapped,
        required={"reward", "draw"},
        derived={"prompt_id"},
        derive=partial(_in_iteration, iteration=iteration),
        origin=origin,
        notes=("prompts are known by their number in an iteration only: none recurs",),
    )


def _from_turns(chunk: Chunk) -> Chunk:
    if "messages" not in chunk.columns:
        return with_columns(chunk, {})
    out, missing = [], np.zeros(len(chunk.numbers), dtype=bool)
    for row, text in enumerate(chunk.columns["messages"].data.to_pylist()):
        found = opening(orjson.loads(text)) if text else None
        missing[row] = found is None
        if found is None:
            chunk.problems.add(row, "turns", "holds no answer of an assistant behind a prompt")
        out.append(found)
    return with_columns(chunk, {"prompt": Values(pa.array(out, type=pa.large_string()), missing)})


def _in_iteration(chunk: Chunk, iteration: str) -> Chunk:
    groups = chunk.columns["draw"]
    names = [None if g is None else f"{iteration}/{g}" for g in groups.data.to_pylist()]
    ids = Values(pa.array(names, type=pa.large_string()), groups.missing)
    return with_columns(chunk, {"prompt_id": ids})

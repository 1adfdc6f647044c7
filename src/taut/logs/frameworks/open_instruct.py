"""open-instruct's rollouts: JSONL shards with token ids.

Read at open-instruct 0.3.0 and e6c3044aa: `_save_rollouts`, open_instruct/rl_utils.py.
"""

import os
import re
from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from taut.logs.frameworks.common import expect, join, lacks, same, with_columns
from taut.logs.keys import prefix_keys
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Values

_SHARD = re.compile(r"(.+)_rollouts_\d+\.")


def layout(file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]) -> Layout:
    """step, sample_idx, prompt_idx, prompt_tokens, response_tokens, reward, finish_reason, …

    `prompt_idx` counts within a batch, and wrongly where truncated rollouts were dropped; prompts
    are known by their tokens. `logprobs` are vLLM's, with 0 for the tokens of tools.
    """
    origin = Origin(format="open-instruct")
    if {"run_name", "git_commit", "model_name", "timestamp"} == set(columns):
        return Layout(
            paths={}, derived=frozenset({"reward", "prompt_id"}), skip=True, origin=origin
        )
    expect(file, "open-instruct", columns, ("reward", "prompt_tokens", "response_tokens"))
    by_tokens = not {"prompt_id", "prompt"} & mapped
    # The same lists twice: as they stand for `taut score`, and for their lengths and keys.
    own = {"response_tokens": "response_tokens"}
    words = {"prompt_ids": "prompt_tokens", "response_ids": "response_tokens"}
    if by_tokens:
        own["prompt_tokens"] = "prompt_tokens"
    if "finish_reason" in columns:
        own["finish_reason"] = "finish_reason"
    name = os.path.basename(file)
    match = _SHARD.match(name)
    return join(
        paths,
        {**own, **words},
        mapped,
        required=set(own),
        derived={"prompt_id"} if by_tokens else set(),
        derive=partial(_derive_open, run=match[1] if match else name.split(".")[0]),
        origin=origin,
    )


def _derive_open(chunk: Chunk, run: str) -> Chunk:
    columns: dict[str, Values] = {}
    given = chunk.columns
    if "run" not in given:
        columns["run"] = same(chunk, run)
    if lacks(chunk, "n_tokens"):
        response = given["response_tokens"]
        columns["n_tokens"] = Values(response.data.lengths, response.missing)
    if lacks(chunk, "truncated") and "finish_reason" in given:
        reason = given["finish_reason"]
        stopped = [text == "stop" for text in reason.data.to_pylist()]
        columns["truncated"] = Values(~np.array(stopped, dtype=np.bool_), reason.missing)
    if "prompt_tokens" in given:
        tokens = given["prompt_tokens"]
        if tokens.missing is not None:
            chunk.problems.add_all(np.flatnonzero(tokens.missing), "prompt_tokens", "is null here")
        keys = prefix_keys(tokens.data.values, tokens.data.starts, tokens.data.lengths)
        columns["prompt_id"] = Values(pa.array(keys.view(np.int64)))
    return with_columns(chunk, columns)

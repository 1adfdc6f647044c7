"""NeMo-RL's data of training and validation: JSONL, every value in a list of one.

Read at NeMo-RL 0.7.0 and 7ea279abf (and 0.3 to 0.6): `log_data` in nemo_rl/algorithms/grpo.py,
grpo_sync.py and ppo.py, `Logger.log_batched_dict_as_jsonl` in nemo_rl/utils/logger.py. Log-probs
are taken only in pairs from one engine, since those of two engines differ by more than small KLs
(field-notes §3).
"""

import os
import re
from collections.abc import Mapping
from functools import partial

import numpy as np
import orjson
import pyarrow as pa

from taut.errors import LogError
from taut.logs.frameworks.common import join, lacks, opening, same, with_columns
from taut.logs.keys import prefix_keys
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Problems, Values
from taut.logs.tokens import Tokens, first_marked, select_tokens

_ROLES = ("policy", "ref", "behaviour")
_MANY = 8  # tokens; so many log-probs that are all exactly 0 were never computed

_STEP = re.compile(r"(train|val)_data_step(\d+)")


def layout(file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]) -> Layout:
    """One row per sample, every value in a list of one; token lists padded to the longest row.

    train_data: content, rewards, input_lengths, token_ids, token_loss_mask, sample_loss_mask,
    advantages, generation_logprobs, prev_logprobs, idx. val_data: content (messages), rewards, idx.
    """
    if "rewards" not in columns and "reward" not in mapped:
        raise LogError(
            f"{file}: expected a column 'rewards', found none, as in a log of distillation; there "
            "is no reward to certify: name the train_data or val_data of an RL run."
        )
    match = _STEP.search(os.path.basename(file))
    step = int(match[2]) if match else None
    # With dynamic sampling `rewards` are of another batch than the row's tokens.
    chosen = "filtered_rewards" in columns
    own = {"reward": "filtered_rewards" if chosen else "rewards"}
    named = mapped
    training = bool({"token_loss_mask", "input_lengths", "prev_logprobs"} & set(columns))
    derived = set()
    if training:
        own |= {"token_mask": "token_loss_mask"}
        if "reference_policy_logprobs" in columns:
            # One engine computed both. Alone, prev_logprobs have nothing to be subtracted from.
            own |= {"policy_logprobs": "prev_logprobs", "ref_logprobs": "reference_policy_logprobs"}
        if not {"prompt_id", "prompt"} & named:
            own |= {"token_ids": "token_ids", "input_length": "input_lengths"}
            derived = {"prompt_id"}
    elif not {"prompt_id", "prompt"} & named:
        own["messages"] = "content"
        derived = {"prompt"}
    needed = {"token_ids", "token_mask"} if "token_ids" in own else {"messages"}
    return join(
        paths,
        own,
        mapped,
        required={"reward"} | (needed & own.keys()),
        derived=derived,
        derive=partial(_derive_nemo, step=step, file=file),
        origin=Origin(
            format="nemo-rl", part="training" if training else "validation", chosen=chosen
        ),
        wrapped=True,
    )


def _derive_nemo(chunk: Chunk, step: int | None, file: str) -> Chunk:
    columns: dict[str, Values] = {}
    if step is not None and "step" not in chunk.columns:
        columns["step"] = same(chunk, step)
    if "messages" in chunk.columns:
        columns["prompt"] = Values(_openings(chunk))
    if "token_mask" in chunk.columns:
        mask = chunk.columns["token_mask"].data
        for role in _ROLES:
            name = f"{role}_logprobs"
            if name in chunk.columns:
                columns[name] = _generated(name, chunk.columns[name], mask, chunk.problems)
        if lacks(chunk, "n_tokens"):
            columns["n_tokens"] = Values(select_tokens(mask, mask).lengths)
        if "token_ids" in chunk.columns:
            columns["prompt_id"] = _prefixes(chunk, mask)
    return with_columns(chunk, columns)


def _prefixes(chunk: Chunk, mask: Tokens) -> Values:
    """Know a prompt by its tokens: all before the first one that the policy made."""
    tokens = chunk.columns["token_ids"].data
    for row in np.flatnonzero(tokens.lengths != mask.lengths):
        chunk.problems.add(
            row,
            "token_ids",
            f"has {tokens.lengths[row]} values, 'token_loss_mask' {mask.lengths[row]}; both need "
            "one per token",
        )
    whole = chunk.columns.get("input_length")
    sizes = tokens.lengths if whole is None else np.clip(whole.data, 0, tokens.lengths)
    sizes = np.minimum(first_marked(mask), sizes)
    return Values(pa.array(prefix_keys(tokens.values, tokens.starts, sizes).view(np.int64)))


def _generated(name: str, column: Values, mask: Tokens, problems: Problems) -> Values:
    """Keep the log-probs of the tokens that the policy made; prompt and padding are left out."""
    here, there = column.data.lengths, mask.lengths
    for row in np.flatnonzero(here != there):
        problems.add(
            row,
            name,
            f"has {here[row]} values, 'token_loss_mask' {there[row]}; expected one mask value per "
            "log-prob",
        )
    tokens = select_tokens(column.data, mask)
    for row in np.flatnonzero(tokens.lengths >= _MANY):
        if not tokens.row(row).any():
            problems.add(
                row,
                name,
                f"is 0 for all {tokens.lengths[row]} tokens, as where NeMo-RL skips them "
                "(force_on_policy_ratio); log real ones, or map the column away",
            )
    return Values(tokens, column.missing)


def _openings(chunk: Chunk) -> pa.Array:
    out = []
    for row, text in enumerate(chunk.columns["messages"].data.to_pylist()):
        try:
            found = opening(orjson.loads(text or ""))
        except orjson.JSONDecodeError:
            found = None
        if found is None:
            chunk.problems.add(
                row,
                "content",
                "is no list of messages with roles, an assistant's among them; without it prompt "
                "and response cannot be told apart: map an id, --map prompt_id=COLUMN",
            )
        out.append(text if found is None else found)
    return pa.array(out, type=pa.large_string())

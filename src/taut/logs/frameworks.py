"""Other people's logs: what trainers write to disk, as native columns.

Each layout follows the code that writes the file, read at these versions:

* TRL 1.16.0 (and 0.29, 1.0, 1.4, 1.9): `GRPOTrainer.log`, trl/trainer/grpo_trainer.py.
* verl 0.10.0.dev, 1dda039b9 (and 0.4 to 0.8): `_write_generations`, verl/trainer/ppo/ray_trainer.py
  and verl/trainer/ppo/v1/trainer_base.py.
* NeMo-RL 0.7.0 and 7ea279abf (and 0.3 to 0.6): `log_data` in nemo_rl/algorithms/grpo.py,
  grpo_sync.py and ppo.py, `Logger.log_batched_dict_as_jsonl` in nemo_rl/utils/logger.py.
* open-instruct 0.3.0 and e6c3044aa: `_save_rollouts`, open_instruct/rl_utils.py.

docs/formats.md says what each one lacks. Two rules hold for all: a prompt is known by its text or
its tokens, never by a number that starts anew with each batch; and log-probs are taken only in
pairs from one engine, since those of two engines differ by more than small KLs (field-notes §3).
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import orjson
import pyarrow as pa

from taut.errors import LogError
from taut.logs.keys import prefix_keys
from taut.logs.layout import Columns, Layout, messages_text, native_layout
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.reduce import Chunk, Problems, Tokens, Values, first_marked, select_tokens
from taut.logs.schema import NATIVE, REWARD_PART

_ROLES = ("policy", "ref", "behaviour")
_MANY = 8  # tokens; so many log-probs that are all exactly 0 were never computed


def choose(file: str, columns: Columns, *, paths: Mapping[str, str], format: str) -> Layout:
    """Return how a file is read.

    Args:
        file: Its name; a step or a run may be in it.
        columns: What its columns hold, in the order of the file.
        paths: Native name to path as the user gave it, or the name itself.
        format: One of FORMATS; "auto" goes by the columns, and a native file wins.

    Raises:
        LogError: The file is not of that format, or it is not clear which column is the reward.
    """
    found = recognise(columns) if format == "auto" else format
    if found == "native":
        return native_layout(paths)
    return _LAYOUTS[found](file, columns, paths)


def recognise(columns: Columns) -> str:
    """Return which framework writes such columns; "native" where none is known to."""
    names = set(columns)
    if list(columns)[:3] == ["step", "prompt", "completion"] and "advantage" in names:
        return "trl"
    if "reward" in names and {"prompt_id", "prompt"} & names:
        return "native"
    if {"input", "output", "score", "step"} <= names and columns["output"] == "text":
        return "verl"
    wrapped = columns.get("rewards") == "list" or columns.get("input_lengths") == "list"
    if "idx" in names and wrapped and {"content", "token_loss_mask"} & names:
        return "nemo-rl"
    if {"prompt_tokens", "response_tokens", "finish_reason", "reward"} <= names:
        return "open-instruct"
    if {"run_name", "git_commit", "model_name", "timestamp"} == names:
        return "open-instruct"
    return "native"


def _layout(
    paths: Mapping[str, str],
    own: Mapping[str, str],
    *,
    required: set[str],
    derived: set[str],
    derive: Callable[[Chunk], Chunk],
    origin: Origin,
    wrapped: bool = False,
) -> Layout:
    """Join the user's paths, which win, with the format's own; raw names hold no user's path."""
    mapped = {name for name, path in paths.items() if name != path}
    free = {name: path for name, path in own.items() if name not in mapped}
    return Layout(
        paths={**paths, **free},
        required=frozenset(mapped | (required - mapped)),
        derived=frozenset(derived - mapped),
        derive=derive,
        wrapped=wrapped,
        origin=origin,
    )


def _expect(file: str, format: str, columns: Columns, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in columns]
    if missing:
        shown = ", ".join(f"'{name}'" for name in list(columns)[:12]) or "no columns"
        raise LogError(
            f"{file}: expected {FRAMEWORKS[format].title} with a column '{missing[0]}', found "
            f"{shown}; say --format native with --map for another layout, or name other files."
        )


def _with(chunk: Chunk, columns: dict[str, Values]) -> Chunk:
    """Return a chunk with further columns, and without its raw ones."""
    native = {name: values for name, values in chunk.columns.items() if name in NATIVE}
    return replace(chunk, columns={**native, **columns})


def _lacks(chunk: Chunk, name: str) -> bool:
    """Say whether no row has a value of a native column."""
    values = chunk.columns.get(name)
    return values is None or (values.missing is not None and bool(values.missing.all()))


def _same(chunk: Chunk, value: int | str) -> Values:
    """Return a column that has one value in all rows."""
    rows = len(chunk.numbers)
    if isinstance(value, int):
        return Values(np.full(rows, value, dtype=np.int64))
    return Values(pa.array([value] * rows, type=pa.large_string()))


# --- TRL ------------------------------------------------------------------------------------------


def _trl(file: str, columns: Columns, paths: Mapping[str, str]) -> Layout:
    """step, prompt, completion, one column per reward function, extras, advantage."""
    _expect(file, "trl", columns, ("step", "prompt", "completion"))
    weights = _trl_rewards(file, columns, paths)
    own = {f"{REWARD_PART}{name}": name for name in weights}
    needed = set(own)
    own["response"] = "completion"
    paths = {name: path for name, path in paths.items() if name != "reward"}
    prompt = {"prompt", "prompt_id"} & {name for name, path in paths.items() if name != path}
    if not prompt and "prompt_id" not in columns:
        own["messages"] = "prompt"
    return _layout(
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
    return _with(chunk, columns)


# --- verl -----------------------------------------------------------------------------------------

_DRAW = re.compile(r"(.+)_(\d+)_(\d+)")


def _verl(file: str, columns: Columns, paths: Mapping[str, str]) -> Layout:
    """input, output, gts, score, step, whatever the reward function adds; uid in trainer v1.

    No `group`: within a step verl draws each prompt once, so that text and step name the draw, and
    a `group` of epochs of training data would only look like a fixed list gone through repeatedly.
    """
    _expect(file, "verl", columns, ("input", "output", "score"))
    own = {"prompt": "input", "response": "output", "reward": "score"}
    stem = os.path.basename(file).split(".")[0]
    step = int(stem) if "step" not in columns and stem.isdigit() else None
    group = paths["group"] == "uid"
    if group:
        paths = {**paths, "group": "group"}
    if "uid" in columns:
        own["draw"] = "uid"
    return _layout(
        paths,
        own,
        required={"prompt", "reward"},
        derived=set(),
        derive=partial(_derive_verl, step=step, group=group),
        origin=Origin(format="verl"),
    )


def _derive_verl(chunk: Chunk, step: int | None, group: bool) -> Chunk:
    columns = {} if step is None else {"step": _same(chunk, step)}
    draws = chunk.columns.get("draw")
    if draws is not None:
        found = [_DRAW.fullmatch(text or "") for text in draws.data.to_pylist()]
        if any(match and match[3] != "0" for match in found):
            raise LogError(
                f"{chunk.file}: expected one row per rollout, found several outputs of one session "
                "(uid ends in _session_output); keep the last output of each session, which has "
                "its score, and leave the others out."
            )
        if group:
            names = [match[1] if match else None for match in found]
            texts = zip(names, draws.data.to_pylist(), strict=True)
            columns["group"] = Values(
                pa.array([name or text for name, text in texts], pa.large_string()), draws.missing
            )
    return _with(chunk, columns)


# --- NeMo-RL --------------------------------------------------------------------------------------

_STEP = re.compile(r"(train|val)_data_step(\d+)")


def _nemo(file: str, columns: Columns, paths: Mapping[str, str]) -> Layout:
    """One row per sample, every value in a list of one; token lists padded to the longest row.

    train_data: content, rewards, input_lengths, token_ids, token_loss_mask, sample_loss_mask,
    advantages, generation_logprobs, prev_logprobs, idx. val_data: content (messages), rewards, idx.
    """
    if "rewards" not in columns and paths["reward"] == "reward":
        raise LogError(
            f"{file}: expected a column 'rewards', found none, as in a log of distillation; there "
            "is no reward to certify: name the train_data or val_data of an RL run."
        )
    match = _STEP.search(os.path.basename(file))
    step = int(match[2]) if match else None
    # With dynamic sampling `rewards` are of another batch than the row's tokens.
    chosen = "filtered_rewards" in columns
    own = {"reward": "filtered_rewards" if chosen else "rewards"}
    named = {name for name, path in paths.items() if name != path}
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
    return _layout(
        paths,
        own,
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
        columns["step"] = _same(chunk, step)
    if "messages" in chunk.columns:
        columns["prompt"] = Values(_openings(chunk))
    if "token_mask" in chunk.columns:
        mask = chunk.columns["token_mask"].data
        for role in _ROLES:
            name = f"{role}_logprobs"
            if name in chunk.columns:
                columns[name] = _generated(name, chunk.columns[name], mask, chunk.problems)
        if _lacks(chunk, "n_tokens"):
            columns["n_tokens"] = Values(select_tokens(mask, mask).lengths)
        if "token_ids" in chunk.columns:
            columns["prompt_id"] = _prefixes(chunk, mask)
    return _with(chunk, columns)


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
    """Return what comes before the first answer, as text.

    A later answer would be wrong: where an environment speaks between answers, one prompt's
    rollouts would be taken for different prompts.
    """
    out = []
    for row, text in enumerate(chunk.columns["messages"].data.to_pylist()):
        try:
            messages = orjson.loads(text or "")
            roles = [message["role"] for message in messages]
            out.append(messages_text(messages[: roles.index("assistant")]))
        except (ValueError, TypeError, KeyError):
            out.append(text)
            chunk.problems.add(
                row,
                "content",
                "is no list of messages with roles, an assistant's among them; without it prompt "
                "and response cannot be told apart: map an id, --map prompt_id=COLUMN",
            )
    return pa.array(out, type=pa.large_string())


# --- open-instruct --------------------------------------------------------------------------------

_SHARD = re.compile(r"(.+)_rollouts_\d+\.")


def _open_instruct(file: str, columns: Columns, paths: Mapping[str, str]) -> Layout:
    """step, sample_idx, prompt_idx, prompt_tokens, response_tokens, reward, finish_reason, …

    `prompt_idx` counts within a batch, and wrongly where truncated rollouts were dropped; prompts
    are known by their tokens. `logprobs` are vLLM's, with 0 for the tokens of tools.
    """
    origin = Origin(format="open-instruct")
    if {"run_name", "git_commit", "model_name", "timestamp"} == set(columns):
        return Layout(
            paths={}, derived=frozenset({"reward", "prompt_id"}), skip=True, origin=origin
        )
    _expect(file, "open-instruct", columns, ("reward", "prompt_tokens", "response_tokens"))
    named = {name for name, path in paths.items() if name != path}
    by_tokens = not {"prompt_id", "prompt"} & named
    # The same lists twice: as they stand for `taut score`, and for their lengths and keys.
    own = {"response_tokens": "response_tokens"}
    words = {"prompt_ids": "prompt_tokens", "response_ids": "response_tokens"}
    if by_tokens:
        own["prompt_tokens"] = "prompt_tokens"
    if "finish_reason" in columns:
        own["finish_reason"] = "finish_reason"
    name = os.path.basename(file)
    match = _SHARD.match(name)
    return _layout(
        paths,
        {**own, **words},
        required=set(own),
        derived={"prompt_id"} if by_tokens else set(),
        derive=partial(_derive_open, run=match[1] if match else name.split(".")[0]),
        origin=origin,
    )


def _derive_open(chunk: Chunk, run: str) -> Chunk:
    columns: dict[str, Values] = {}
    given = chunk.columns
    if "run" not in given:
        columns["run"] = _same(chunk, run)
    if _lacks(chunk, "n_tokens"):
        response = given["response_tokens"]
        columns["n_tokens"] = Values(response.data.lengths, response.missing)
    if "truncated" not in given and "finish_reason" in given:
        reason = given["finish_reason"]
        stopped = [text == "stop" for text in reason.data.to_pylist()]
        columns["truncated"] = Values(~np.array(stopped, dtype=np.bool_), reason.missing)
    if "prompt_tokens" in given:
        tokens = given["prompt_tokens"]
        if tokens.missing is not None:
            chunk.problems.add_all(np.flatnonzero(tokens.missing), "prompt_tokens", "is null here")
        keys = prefix_keys(tokens.data.values, tokens.data.starts, tokens.data.lengths)
        columns["prompt_id"] = Values(pa.array(keys.view(np.int64)))
    return _with(chunk, columns)


_LAYOUTS: dict[str, Callable[[str, Columns, Mapping[str, str]], Layout]] = {
    "trl": _trl,
    "verl": _verl,
    "nemo-rl": _nemo,
    "open-instruct": _open_instruct,
}

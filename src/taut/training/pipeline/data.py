"""The data of a recipe: rows from JSONL or Parquet, ids of prompts, splits that follow the prompt.

A prompt is text, or a conversation: a list of {"role", "content"}. Splits hash (seed, prompt id),
so that all rows of a prompt fall on one side, whatever the order of the file.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.training.recording.facts import prompt_key

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two responses to a prompt, of which one was preferred.

    Attributes:
        prompt_id: Which prompt.
        prompt: Text or conversation.
        chosen, rejected: Texts of the responses.
        gold: Target rewards of chosen and rejected, reward units, where known.
    """

    prompt_id: str
    prompt: Prompt
    chosen: str
    rejected: str
    gold: tuple[float, float] | None = None


def read_rows(path: str | Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a JSONL or Parquet file, each with the needed columns.

    Raises:
        LogError: The file cannot be read, is empty, or a row lacks a column.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            lines = path.read_bytes().splitlines()
            rows = [_json(line, path, i) for i, line in enumerate(lines, 1) if line.strip()]
    except OSError as problem:
        raise LogError(f"{path}: expected rows, found {problem.strerror or problem}.") from None
    if not rows:
        raise LogError(f"{path}: expected rows, found none.")
    for i, row in enumerate(rows, 1):
        for name in needed:
            if row.get(name) is None:
                raise LogError(
                    f"{path}:{i}: expected a column '{name}', found {', '.join(sorted(row))}."
                )
    return rows


def _json(line: bytes, path: Path, i: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        raise LogError(f"{path}:{i}: expected JSON, found an error: {problem}.") from None
    if not isinstance(row, dict):
        raise LogError(f"{path}:{i}: expected an object, found {type(row).__name__}.")
    return row


def prompt_rows(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a file of prompts, each with `prompt` and a `prompt_id` as text.

    Raises:
        LogError: As for `read_rows`; a prompt is neither text nor a conversation; or one id names
            two prompts.
    """
    rows = read_rows(path, ["prompt"])
    named: dict[str, Prompt] = {}
    for i, row in enumerate(rows, 1):
        _check_prompt(row["prompt"], f"{path}:{i}")
        row["prompt_id"] = _id(row)
        if named.setdefault(row["prompt_id"], row["prompt"]) != row["prompt"]:
            raise LogError(
                f"{path}:{i}: expected one prompt per id, found two with '{row['prompt_id']}'."
            )
    return rows


def read_pairs(path: str | Path) -> list[Pair]:
    """Return preference pairs.

    Raises:
        LogError: As for `prompt_rows`; a response is not text; or gold stands on one side only.
    """
    rows = read_rows(path, ["prompt", "chosen", "rejected"])
    pairs = []
    for i, row in enumerate(rows, 1):
        where = f"{path}:{i}"
        _check_prompt(row["prompt"], where)
        for name in ("chosen", "rejected"):
            row[name] = _response(row[name], f"{where}: {name}")
        gold = (row.get("chosen_gold"), row.get("rejected_gold"))
        if (gold[0] is None) != (gold[1] is None):
            raise LogError(f"{where}: expected gold of both responses or of none, found one.")
        pairs.append(
            Pair(
                prompt_id=_id(row),
                prompt=row["prompt"],
                chosen=row["chosen"],
                rejected=row["rejected"],
                gold=None if gold[0] is None else (float(gold[0]), float(gold[1])),
            )
        )
    return pairs


def _check_prompt(prompt: Any, where: str) -> None:
    good = isinstance(prompt, str) or (
        isinstance(prompt, list)
        and prompt
        and all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in prompt)
    )
    if not good:
        raise LogError(
            f"{where}: prompt: expected text or a list of {{role, content}}, found "
            f"{type(prompt).__name__}."
        )


def _response(value: Any, where: str) -> str:
    """Return a response as text; a conversation of one turn is taken for its content."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise LogError(f"{where}: expected text, found {type(value).__name__}.")
    return value


def _id(row: dict[str, Any]) -> str:
    given = row.get("prompt_id")
    return prompt_key(row["prompt"]) if given is None else str(given)


def in_share(prompt_id: str, share: float, *, seed: int, salt: str) -> bool:
    """Return whether a prompt falls into a share of all prompts, by a hash of seed and id."""
    return uniform(prompt_id, seed=seed, salt=salt) < share


def uniform(prompt_id: str, *, seed: int, salt: str) -> float:
    """Return a number in [0, 1) that is a function of seed, salt and id."""
    digest = hashlib.sha256(f"{salt}\x1f{seed}\x1f{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def overlapping(held_out: Iterable[Prompt], training: Iterable[Prompt]) -> list[Prompt]:
    """Return held-out prompts whose text also stands in training data."""
    seen = {prompt_key(prompt) for prompt in training}
    return [prompt for prompt in held_out if prompt_key(prompt) in seen]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        LogError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise LogError(f"{path}: expected a file, found {problem.strerror}.") from None

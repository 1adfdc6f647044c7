"""Reduced pieces as the columns of rollouts, and as the columns that `convert` writes."""

from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.draws.rollouts import Rollouts
from taut.errors import LogError
from taut.logs.keys import combine, hash_ids, row_keys, untold
from taut.logs.reduce import Reduced
from taut.logs.schema import KEPT, PART
from taut.logs.write import with_optional

_NAMED = ("policy", "run")
CLIPPED = "token_clipped_log_ratio"
_NUMBERS = (
    "reward",
    "log_ratio",
    "gold",
    "step",
    "policy_logprob",
    "behaviour_logprob",
    "token_clipped_log_ratio",
    "n_tokens",
    "truncated",
    "features",
    "label_probability",
)
# What a row has in a column that its file lacks, or where it has no value.
_NO_VALUE = {
    "gold": np.nan,
    "n_tokens": -1,
    "truncated": False,
    "failed": False,
    "label_probability": np.nan,
}


def completed(columns: Mapping[str, np.ndarray | pa.Array]) -> dict:
    """Add columns that a file may lack, and what names a row once its texts are gone."""
    if "rollout_id" in columns or "content_key" in columns:
        return with_optional(columns)
    return {**with_optional(columns), "content_key": content_keys(columns).view(np.int64)}


def compact(
    piece: Reduced, names: dict[str, dict[str, int]], *, rollout_ids: bool
) -> dict[str, np.ndarray]:
    """Return the columns that rollouts keep; texts become 64-bit keys or codes."""
    columns = piece.columns
    out = {name: columns[name] for name in _NUMBERS if name in columns}
    out["prompt"] = _prompts(columns)
    if "group" in columns:
        out["group"] = hash_ids(columns["group"])
    if "prompt_key" in columns:
        out["text_key"] = columns["prompt_key"].view(np.uint64)
    if "error" in columns:
        out["failed"] = columns["error"]
    for name, values in columns.items():
        if name in _NAMED or name.startswith(KEPT):
            out[name] = _codes(values, names.setdefault(name, {}))
        elif name.startswith(PART):
            out[name] = values
    if rollout_ids and "rollout_id" in columns:
        out["rollout_names"] = (
            columns["rollout_id"].cast(pa.string()).to_numpy(zero_copy_only=False)
        )
    elif rollout_ids:
        given = columns.get("content_key")
        out["content"] = content_keys(columns) if given is None else given.view(np.uint64)
    return out


def _prompts(columns: Mapping[str, np.ndarray | pa.Array]) -> np.ndarray:
    return hash_ids(columns["prompt_id"] if "prompt_id" in columns else columns["prompt"])


def content_keys(columns: Mapping[str, np.ndarray | pa.Array]) -> np.ndarray:
    """Return a uint64 key of what each row says, the same in every format and file.

    Labels are no part of it: a row keeps its name when it gets one. Log-probs are one only where
    there is no response to tell rows apart.

    Args:
        columns: Reduced columns, each of shape (rows,).
    """
    rows = len(columns["reward"])
    keys = _prompts(columns)
    texts = ("prompt_key", "response_key")
    numbers = ("reward", "step")
    if "response_key" not in columns:
        numbers += ("policy_logprob", "log_ratio")
    for name in texts + numbers:
        values = columns.get(name, np.zeros(rows))
        values = values.view(np.uint64) if name in texts and name in columns else values
        keys = combine(keys, row_keys([values]))
    for name in ("group", "policy", "run"):
        part = hash_ids(columns[name]) if name in columns else np.zeros(rows, dtype=np.uint64)
        keys = combine(keys, part)
    return keys


def _codes(texts: pa.Array, known: dict[str, int]) -> np.ndarray:
    """Return the code of each text, in order of first appearance; `known` is extended."""
    encoded = pc.dictionary_encode(texts.fill_null(_NONE))
    codes = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
    return np.array(codes, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]


_NONE = "(none)"  # the name of what has none, in a column to slice by


def assemble(
    pieces: list[dict[str, np.ndarray]], names: dict[str, dict[str, int]], **settings
) -> Rollouts:
    """Join the pieces; codes are renumbered by sorted name, so that file order does not matter."""
    columns = _joined(pieces)
    if isinstance(settings["token_clip"], tuple):
        clips, settings["token_clip"] = settings["token_clip"], None
        clipped = columns.pop(CLIPPED, None)
        # Files without token lists leave the token level unknown for the log.
        if clipped is not None:
            settings["token_clips"] = clips
            columns["token_clipped_sums"] = clipped
    for name, known in names.items():
        ordered = sorted(known)
        place = {text: code for code, text in enumerate(ordered)}
        new = np.array([place[text] for text in known], dtype=np.int32)
        columns[name] = new[columns[name]]
        if name in _NAMED:
            columns[f"{name}_names"] = tuple(ordered)
        else:
            settings["kept_names"] = (*settings.get("kept_names", ()), tuple(ordered))
    _gather(columns, settings, KEPT, "kept", "kept_columns")
    _gather(columns, settings, PART, "parts", "part_names")
    if "content" in columns:
        columns["rollout_names"] = _occurrences(columns.pop("content"))
    if "rollout_names" in columns:
        columns["rollout_id"] = hash_ids(pa.array(columns["rollout_names"], type=pa.string()))
    settings["notes"] = (*settings.get("notes", ()), *_notices(columns))
    return Rollouts(**columns, **settings)


_MANY = 30  # labelled rows that show whether gold goes with the reward


def _notices(columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what people should know of the rows themselves."""
    failed, reward, gold = columns.get("failed"), columns["reward"], columns.get("gold")
    if failed is not None and failed.any():
        yield (
            f"{int(failed.sum())} of {len(failed)} rollouts say 'error'; they count with the "
            f"reward they have (mean {reward[failed].mean():.3g})"
        )
    if gold is None or len(gold) < _MANY or np.isnan(gold).any() or (gold % 1 != 0).any():
        return
    together = gold.std() * reward.std()
    share = 0.0 if together == 0 else float(np.mean((gold - gold.mean()) * reward)) / together
    if abs(share) < 2 / np.sqrt(len(gold)) or (gold.max() > 1 >= reward.max()):
        yield (
            "'gold' is a whole number in every row and does not go with 'reward': if it is the "
            "right answer and not the true reward, leave it out: --map gold="
        )


_SMALL = 1000  # rows of a piece whose arrays weigh more than what they hold


def join_small(pieces: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Join small pieces that follow each other and have the same columns: of many small files."""

    def kind(numbered: tuple[int, dict[str, np.ndarray]]) -> tuple:
        place, piece = numbered
        if len(piece["reward"]) >= _SMALL:
            return (place,)
        return tuple((name, part.dtype, part.shape[1:]) for name, part in piece.items())

    out = []
    for _, several in groupby(enumerate(pieces), kind):
        alike = [piece for _, piece in several]
        out.append(alike[0] if len(alike) == 1 else _joined(alike))
    return out


def _joined(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join columns; a column that a piece may lack is filled with what says "no value"."""
    names = dict.fromkeys(name for piece in pieces for name in piece)
    for piece in pieces:
        for name in names.keys() - piece.keys():
            _fill(piece, name)
    out = {}
    for name in list(pieces[0]):
        parts = [piece.pop(name) for piece in pieces if name in piece]  # freed one by one
        if len(parts) < len(pieces):
            continue  # token sums, which only some files have
        if len({part.shape[1:] for part in parts}) > 1:
            raise LogError(f"'{name}' differ in length between files; expected one length in all.")
        out[name] = np.concatenate(parts)
    return out


def _fill(piece: dict[str, np.ndarray], name: str) -> None:
    """Fill a column that a piece lacks."""
    if name == "text_key":
        piece[name] = untold(piece["prompt"])
    elif name in _NO_VALUE or name.startswith(PART):
        piece[name] = np.full(len(piece["reward"]), _NO_VALUE.get(name, np.nan))


def _gather(columns: dict, settings: dict, prefix: str, to: str, named: str) -> None:
    """Put the columns behind a prefix side by side in one array."""
    found = [name for name in columns if name.startswith(prefix)]
    if found:
        settings[named] = tuple(name.removeprefix(prefix) for name in found)
        columns[to] = np.stack([columns.pop(name) for name in found], axis=1)


def _occurrences(content: np.ndarray) -> np.ndarray:
    """Name rows by their content, and by how many rows before them say the same; shape (rows,)."""
    order = np.argsort(content, kind="stable")
    ordered = content[order]
    fresh = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.flatnonzero(fresh)
    count = np.empty(len(content), dtype=np.int64)
    count[order] = np.arange(len(content)) - np.repeat(starts, np.diff(np.r_[starts, len(content)]))
    names = [
        f"{key:016x}" if not at else f"{key:016x}.{at}"
        for key, at in zip(content, count, strict=True)
    ]
    return np.array(names, dtype=object)

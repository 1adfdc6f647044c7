"""Rollouts as columns, and their way to blocks: one value per draw of a prompt.

The prompt is the unit of sampling. A block holds the rollouts of one draw of a prompt; blocks are
laid out in *draw order*, a pseudo-random order that depends on the seed and the block's key alone:
never on values, file order or shards (theory §2.4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.draws import order
from taut.draws.sheets import SheetLabels
from taut.errors import LogError
from taut.logs.facts import LogFacts
from taut.logs.keys import hash_ids, row_keys, scramble
from taut.logs.layout import messages_text
from taut.logs.origin import Origin
from taut.results import chart_of, html_of

if TYPE_CHECKING:
    import altair

# Row columns of Rollouts: name, dtype; one entry per rollout.
FLOAT_COLUMNS = (
    "reward",
    "log_ratio",
    "gold",
    "policy_logprob",
    "behaviour_logprob",
    "token_clipped_log_ratio",
)


_PLAIN_COLUMNS = (
    ("step", np.int64),
    ("n_tokens", np.int64),
    ("truncated", np.bool_),
    ("failed", np.bool_),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """One row per rollout, as NumPy columns of shape (rollouts,).

    Attributes:
        prompt: uint64 key of the prompt id.
        reward: Raw reward-model score, reward units.
        log_ratio: log pi(y|x) - log pi_ref(y|x), nats, summed over tokens; None without log-probs.
        gold: Target reward, reward units; NaN where a row has no label; None without labels.
        group: uint64 key of one draw of a prompt, where prompts are drawn more than once.
        step: Training step, int64.
        policy, run: Index into `policy_names`, `run_names`, int32.
        policy_logprob, behaviour_logprob: Sequence log-probs, nats.
        token_clipped_log_ratio: Sum over tokens of the clipped token log-ratio, nats.
        n_tokens: Response length, int64; -1 where unknown.
        truncated: Response cut at the length limit, bool.
        features: Reward-model features, shape (rollouts, features).
        token_clip: The constant at which token log-ratios were clipped while reading, nats.
        token_clips: Several such constants, nats.
        token_clipped_sums: For those, sums as above, shape (rollouts, constants).
        text_key: uint64 key of the prompt's text or messages, where the log has them: rows of one
            text are one prompt, whatever their ids.
        rollout_id: uint64 key that names each row, where it was asked for.
        rollout_names: The ids behind those keys as text, where they were asked for.
        failed: The log says that something went wrong in this rollout, bool.
        label_probability: Chance of a label; NaN where unknown.
        kept_columns, kept_names: Columns kept to slice by, and for each the texts of its values.
        kept: For those, index into `kept_names` of each, int32, shape (rollouts, columns).
        part_names, parts: Parts of the reward, reward units, shape (rollouts, parts); NaN where
            a part is missing.
        rejected_rows: Rows left out by a lenient reader.
        sources: File names, shown in reports.
        origin: The framework that wrote the log; None for a native one.
        facts: What the log knows about itself.
        sheet: How its labels were drawn, where they came on a sheet that has blocks.
        notes: What the reader did that people should know, one line each.
    """

    prompt: np.ndarray
    reward: np.ndarray
    log_ratio: np.ndarray | None = None
    gold: np.ndarray | None = None
    group: np.ndarray | None = None
    step: np.ndarray | None = None
    policy: np.ndarray | None = None
    run: np.ndarray | None = None
    policy_logprob: np.ndarray | None = None
    behaviour_logprob: np.ndarray | None = None
    token_clipped_log_ratio: np.ndarray | None = None
    n_tokens: np.ndarray | None = None
    truncated: np.ndarray | None = None
    features: np.ndarray | None = None
    token_clipped_sums: np.ndarray | None = None
    text_key: np.ndarray | None = None
    rollout_id: np.ndarray | None = None
    rollout_names: np.ndarray | None = None
    failed: np.ndarray | None = None
    label_probability: np.ndarray | None = None
    kept: np.ndarray | None = None
    parts: np.ndarray | None = None
    kept_columns: tuple[str, ...] = ()
    kept_names: tuple[tuple[str, ...], ...] = ()
    part_names: tuple[str, ...] = ()
    policy_names: tuple[str, ...] = ()
    run_names: tuple[str, ...] = ()
    token_clip: float | None = None
    token_clips: tuple[float, ...] = ()
    rejected_rows: int = 0
    sources: tuple[str, ...] = field(default=(), compare=False)
    origin: Origin | None = field(default=None, compare=False)
    facts: LogFacts = field(default=LogFacts(), compare=False)
    sheet: SheetLabels | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.prompt)

    @classmethod
    def from_arrays(
        cls, columns: Mapping[str, Sequence[Any]] | None = None, /, **named: Any
    ) -> "Rollouts":
        """Build rollouts from arrays in memory, with the native column names of a log.

        Args:
            columns: Any of the native columns, each of shape (rollouts,). `reward` is required, and
                `prompt_id` or `prompt` (texts, or lists of messages); `gold` may hold NaN.
                `policy_logprob` with `ref_logprob` (both nats) may stand for `log_ratio`.
            named: The same, as keywords.

        Raises:
            LogError: A required column is missing, lengths differ, or a value is not finite.
        """
        given = {**(columns or {}), **named}
        _check_shape(given)
        if "log_ratio" not in given and {"policy_logprob", "ref_logprob"} <= given.keys():
            policy, ref = (_finite(n, given[n]) for n in ("policy_logprob", "ref_logprob"))
            given["log_ratio"] = policy - ref
            _finite("log_ratio", given["log_ratio"])
        out: dict[str, Any] = {}
        if "prompt" in given:
            out["text_key"] = text_keys(given["prompt"])
        ids = given.get("prompt_id")
        out["prompt"] = out["text_key"] if ids is None else hash_ids(ids)
        for name in FLOAT_COLUMNS:
            if name in given:
                out[name] = _finite(name, given[name], nan_allowed=name == "gold")
        if "group" in given:
            out["group"] = hash_ids(given["group"])
        if "label_probability" in given:
            chances = given["label_probability"]
            out["label_probability"] = _finite("label_probability", chances, nan_allowed=True)
        for name, dtype in _PLAIN_COLUMNS:
            if name in given:
                out[name] = _plain(name, given[name], dtype)
        if "features" in given:
            out["features"] = np.asarray(given["features"], dtype=np.float64)
        for name in {"policy", "run"} & given.keys():
            names, codes = np.unique(np.asarray(given[name], dtype=str), return_inverse=True)
            out[name] = codes.astype(np.int32)
            out[f"{name}_names"] = tuple(names.tolist())
        return cls(**out)

    def _repr_html_(self) -> str:
        """What the log holds, for notebooks."""
        return html_of(self)

    def chart(self, name: str | None = None) -> "altair.TopLevelMixin":
        """Return a chart of the log: "rewards", "log-ratios" or "calibration".

        Raises:
            UsageError: No such chart; the extra `report` is not installed.
        """
        return chart_of(self, name)

    def value_columns(self) -> list[np.ndarray]:
        """Return the columns of numbers that a log has, each of shape (rollouts,)."""
        columns = (getattr(self, name) for name in FLOAT_COLUMNS)
        return [column for column in columns if column is not None]

    def take(self, rows: np.ndarray) -> "Rollouts":
        """Return the rollouts of some rows (indices or a mask)."""
        changes: dict[str, Any] = {
            item.name: order.take(getattr(self, item.name), rows)
            for item in fields(self)
            if isinstance(getattr(self, item.name), np.ndarray)
        }
        sheet = None if self.sheet is None else self.sheet.take(rows)
        return replace(self, **changes, sheet=sheet)

    def plainly_labelled(self) -> "Rollouts":
        """Return the same rows for what takes labels as a plain sample, not in a sheet's blocks.

        Only a sheet that gave all rows one chance and came back whole is on record there.
        """
        return self if self.sheet is None else self.take(np.arange(len(self)))


def group_rows(keys: np.ndarray, values: Sequence[np.ndarray], seed: int) -> "Blocks":
    """Group rows that share a key into blocks, in draw order.

    Args:
        keys: uint64 key of each row's draw, shape (rows,).
        values: Columns of numbers, each of shape (rows,): within a block rows are ordered by their
            values, so that no sum depends on row order.
        seed: Seed of the draw order.
    """
    draw = scramble(keys ^ scramble(np.array(seed % 2**64, dtype=np.uint64)))
    rows, starts = order.group(draw, row_keys(values) if values else None)
    return Blocks(rows=rows, starts=starts)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows grouped into draws of prompts, in draw order.

    Attributes:
        rows: Row indices, shape (rollouts in these blocks,), block after block.
        starts: Where each block begins in `rows`, shape (blocks + 1,).
    """

    rows: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Rollouts per block, K_i, shape (blocks,)."""
        return np.diff(self.starts)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of row values in each block, shape (blocks,); blocks are never empty."""
        return order.block_sums(values, self.rows, self.starts) if len(self) else np.empty(0)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of row values in each block, shape (blocks,)."""
        return np.asarray(self.sums(values) / self.sizes)

    def subset(self, chosen: np.ndarray) -> "Blocks":
        """Return some blocks (a mask, or increasing indices), still in draw order."""
        index = np.arange(len(self))[chosen]
        sizes = self.sizes[index]
        starts = np.r_[0, np.cumsum(sizes)]
        shift = np.repeat(self.starts[index] - starts[:-1], sizes)
        return Blocks(rows=self.rows[np.arange(starts[-1]) + shift], starts=starts)


def text_keys(texts: Sequence[Any]) -> np.ndarray:
    """Return one uint64 key per text, shape (rows,); messages compare whole, as canonical JSON."""
    return hash_ids([text if isinstance(text, str) else messages_text(text) for text in texts])


def _check_shape(given: Mapping[str, Sequence[Any]]) -> None:
    if "reward" not in given:
        raise LogError(f"expected a column 'reward', found {sorted(given)}; add it.")
    if "prompt_id" not in given and "prompt" not in given:
        raise LogError(f"expected a column 'prompt_id' or 'prompt', found {sorted(given)}; add it.")
    rows = len(given["reward"])
    if rows == 0:
        raise LogError("'reward' has no values; expected one for every rollout, and at least one.")
    for name, values in given.items():
        if len(values) != rows:
            raise LogError(
                f"'{name}' has {len(values)} values, 'reward' {rows}; "
                "every column needs one value per rollout."
            )


def _plain(name: str, values: Sequence[Any], dtype: type[Any]) -> np.ndarray:
    """Return a column of whole numbers or flags; a step of 0.5 must not become one of 0."""
    array = np.asarray(values)
    if dtype is np.int64 and array.dtype.kind == "f":
        bad = np.flatnonzero(~(np.isfinite(array) & (array == np.rint(array))))
        if len(bad):
            raise LogError(f"row {bad[0]}: '{name}' is {array[bad[0]]}; expected a whole number.")
    return array.astype(dtype)


def _finite(name: str, values: Sequence[Any], *, nan_allowed: bool = False) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    bad = np.isinf(array) if nan_allowed else ~np.isfinite(array)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise LogError(
            f"row {row}: '{name}' is {array[row]}; expected a finite number. Drop or fix the "
            "rollout where it was made: leaving rows out by outcome biases every mean."
        )
    return array

"""What people have in memory, as rollouts: tables, columns, arrays of rewards, paths.

A table goes through the readers of files, so that the same rows give the same result either way:
token lists are summed by the same code, nulls mean the same, frameworks' columns are recognised.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pyarrow as pa

from taut.draws.rollouts import Rollouts
from taut.engines.local import LogProbs, check_format, read_rollouts, read_sources
from taut.errors import LogError, UsageError
from taut.logs.mapping import Meanings
from taut.logs.schema import NATIVE
from taut.logs.sources import Source


@runtime_checkable
class ArrowTable(Protocol):
    """A table that gives itself as a stream of Arrow record batches."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the stream as a capsule."""
        ...


# What every verb takes; Hugging Face datasets and lazy tables besides.
Data = (
    Rollouts | ArrowTable | Mapping[str, Any] | Sequence[Any] | np.ndarray | str | os.PathLike[str]
)


def as_rollouts(
    data: Data,
    columns: Mapping[str, str] | None = None,
    *,
    values: Meanings | None = None,
    features: bool = False,
    token_clip: float | tuple[float, ...] | None = None,
    log_probs: LogProbs = "required",
    keep: Sequence[str] = (),
    parts: bool = False,
    format: str = "auto",
) -> Rollouts:
    """Return what people have in memory, or on disk, as rollouts; every verb begins with this.

    Args:
        data: A pandas or Polars frame, a PyArrow table, a DuckDB relation, a Hugging Face dataset
            (anything with `__arrow_c_stream__`); a dict of columns, each of shape (rollouts,) or,
            where `reward` has shape (prompts, K), of that shape or (prompts,); a structured array;
            rewards of shape (prompts, K), the K rollouts of each prompt in a row; a list of dicts;
            the path of a log, or several; or rollouts, which stay as they are.
        columns: Native column to column of the data, fields of structs by dotted path, as in
            {"reward": "rm_score", "prompt_id": "meta.id"}; "" leaves a column out.
        values, features, token_clip, log_probs, keep, parts, format: As in `taut.read_rollouts`.

    Raises:
        LogError: A required column lacks; a column looks like a native one that is not there; or a
            row cannot be read, as in a file.
        UsageError: `columns` with rollouts, whose columns have names already.
    """
    if isinstance(data, Rollouts):
        if columns:
            raise UsageError("columns= names the columns of a table; Rollouts have theirs already.")
        return data
    check_format(format)
    settings: dict[str, Any] = {
        "mapping": columns,
        "values": values,
        "features": features,
        "token_clip": token_clip,
        "log_probs": log_probs,
        "keep": keep,
        "parts": parts,
        "format": format,
    }
    if hasattr(data, "collect") and not isinstance(data, ArrowTable):
        data = data.collect()  # a lazy table
    name = _name(data)
    try:
        if _is_paths(data):
            return read_rollouts(data, **settings)
        table = as_table(data, name, columns or {})
        source = Source(name=name, size=max(table.nbytes, 1), format="arrow", table=table)
        rollouts = read_sources((source,), **settings)
    except LogError as problem:
        raise type(problem)(in_python(str(problem), name)) from None
    if rollouts.origin is None:
        _refuse_lookalikes(table.column_names, columns or {}, name)
    left = [str(column) for column in _given(data) if str(column) not in table.column_names]
    if left:
        note = f"left out, as they hold what no table can: {', '.join(map(repr, left))}"
        rollouts = replace(rollouts, notes=(*rollouts.notes, note))
    return _without_counts(rollouts)


def _given(data: Any) -> Iterable[Any]:
    named: Iterable[Any] = getattr(data, "columns", data if isinstance(data, Mapping) else ())
    return named


def is_candidates(data: Data | Mapping[str, Data]) -> TypeGuard[Mapping[str, Data]]:
    """Say whether a mapping holds one log for each name, rather than columns of one log."""
    return (
        isinstance(data, Mapping)
        and not isinstance(data, ArrowTable)
        and all(map(_is_log, data.values()))
    )


def _is_log(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 1 or value.dtype.names is not None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) > 0 and isinstance(value[0], Mapping)
    known = isinstance(value, Rollouts | Mapping | str | os.PathLike)
    # A column of a frame gives itself as a stream too; a table names its columns.
    return known or hasattr(value, "columns") or hasattr(value, "column_names")


def _name(data: object) -> str:
    """Return what to call data in messages."""
    return {"dict": "columns", "ndarray": "array", "list": "rows"}.get(
        type(data).__name__, type(data).__name__
    )


def _is_paths(data: Any) -> TypeGuard[str | os.PathLike[str] | list[str | os.PathLike[str]]]:
    many = isinstance(data, list | tuple) and len(data) > 0
    return isinstance(data, str | os.PathLike) or (
        many and all(isinstance(item, str | os.PathLike) for item in data)
    )


# --- tables ---------------------------------------------------------------------------------------


def as_table(data: Any, name: str, columns: Mapping[str, str] | None = None) -> pa.Table:
    """Return data as an Arrow table; raise LogError where it is none."""
    columns = columns or {}
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, Mapping) and not isinstance(data, ArrowTable):
        if data and "reward" not in data and all(map(_is_log, data.values())):
            raise _several(data, name)
        return _from_columns(_long(dict(data)), name, columns)
    if hasattr(data, "with_format") and hasattr(data, "column_names"):
        return _from_dataset(data, name)
    if hasattr(data, "to_arrow_table"):
        return data.to_arrow_table()
    if isinstance(data, ArrowTable):
        return _from_stream(data, name, columns)
    if isinstance(data, list | tuple) and data and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(column for row in data for column in row)
        return _from_columns({n: [row.get(n) for row in data] for n in names}, name, columns)
    return _from_columns(_long(_of_array(data, name)), name, columns)


def _several(data: Mapping[str, Any], name: str) -> LogError:
    first = next(iter(data))
    return LogError(
        f"{name}: expected one log, found one under each of {', '.join(map(repr, data))}; say "
        f"which is meant, as in data[{first!r}], or compare them: taut.select(data)."
    )


def _from_dataset(data: Any, name: str) -> pa.Table:
    """Return a Hugging Face dataset in its own order; one that streams has no length."""
    if not hasattr(data, "__len__"):
        raise LogError(
            f"{name}: expected rows that are all there, found a dataset that streams; collect it, "
            "as in datasets.Dataset.from_list(list(data))."
        )
    table = data.with_format("arrow")[:]
    return table if isinstance(table, pa.Table) else pa.table(table)


def _from_stream(data: Any, name: str, columns: Mapping[str, str]) -> pa.Table:
    try:
        return pa.table(data)
    except (pa.ArrowException, TypeError):
        if not hasattr(data, "columns") or not hasattr(data, "__getitem__"):
            raise LogError(f"{name}: cannot be read as an Arrow table.") from None
        # A frame of Python objects: those columns that Arrow cannot hold may not be needed.
        return _from_columns({str(n): data[n] for n in data.columns}, name, columns)


def _of_array(data: Any, name: str) -> dict[str, Any]:
    array = np.asarray(data if hasattr(data, "__array__") else [])
    if array.dtype.names is not None:
        return {column: array[column] for column in array.dtype.names}
    if array.ndim == 2 and array.dtype.kind in "fiub":
        return {"reward": array}
    numbers = hasattr(data, "__array__") and array.dtype.kind in "fiub"
    found = f"numbers of shape {array.shape}" if numbers else type(data).__name__
    raise LogError(
        f"{name}: expected a table, columns, or rewards of shape (prompts, K), found {found}; for "
        "one rollout a prompt say rewards[:, None]."
    )


def _long(data: dict[str, Any]) -> dict[str, Any]:
    """Return columns with one row a rollout, where rewards have shape (prompts, K)."""
    reward = np.asarray(data["reward"]) if _is_matrix(data.get("reward")) else None
    if reward is None:
        return data
    prompts, each = reward.shape
    out: dict[str, Any] = {}
    for name, given in {"prompt_id": np.arange(prompts), **data}.items():
        values = given if isinstance(given, list | tuple) else np.asarray(given)
        if len(values) != prompts:
            raise LogError(
                f"columns: '{name}' has {len(values)} rows, 'reward' {prompts} prompts; expected "
                f"shape {reward.shape}, or {(prompts,)} for what a prompt's rollouts share."
            )
        if isinstance(values, np.ndarray) and values.shape[1:2] == (each,):
            out[name] = values.reshape(-1, *values.shape[2:])
        else:
            out[name] = [value for value in values for _ in range(each)]
    return out


def _is_matrix(values: object) -> bool:
    return getattr(values, "ndim", 1) == 2


def _from_columns(data: Mapping[str, Any], name: str, columns: Mapping[str, str]) -> pa.Table:
    """Return columns as a table; what Arrow cannot hold is left out where nothing asks for it."""
    asked = NATIVE.keys() | {path.split(".")[0] for path in columns.values()}
    out = {}
    for column, values in data.items():
        try:
            out[column] = _array(values)
        except (pa.ArrowException, TypeError, ValueError) as problem:
            if column in asked:
                raise LogError(
                    f"{name}: '{column}' is no column that can be read: {problem}; give numbers, "
                    "texts, or lists of numbers, one for each rollout."
                ) from None
    lengths = {column: len(values) for column, values in out.items()}
    if len(set(lengths.values())) > 1:
        raise LogError(
            f"{name}: columns differ in length ({lengths}); expected one value for each rollout."
        )
    return pa.table(out)


def _array(values: Any) -> pa.Array | pa.ChunkedArray:
    if hasattr(values, "detach"):  # a tensor, wherever it is
        values = values.detach().cpu().numpy()
    if hasattr(values, "to_arrow"):
        return values.to_arrow()
    if isinstance(values, np.ndarray) and values.ndim > 1:
        flat = pa.array(values.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    return pa.array(values, from_pandas=True)


# --- names and messages ---------------------------------------------------------------------------

# Columns without which nothing works, or which change what a certificate says.
_MEANT = (
    *("prompt_id", "prompt", "reward", "gold", "group", "step", "policy", "run", "features"),
    *("log_ratio", "truncated", "n_tokens", "label_probability", "rollout_id"),
    *(name for name in NATIVE if name.endswith(("_logprob", "_logprobs"))),
)
_OTHERWISE = {"logprobs": "policy_logprobs", "logprob": "policy_logprob", "label": "gold"}
_OTHERWISE |= {"promptkey": "prompt_id", "goldreward": "gold", "truereward": "gold"}


def _refuse_lookalikes(present: Iterable[str], columns: Mapping[str, str], name: str) -> None:
    """Raise where a column that nobody reads looks like a native one that is not there."""
    present = list(present)
    used = {path.split(".")[0] for path in columns.values()}
    missing = [native for native in _MEANT if native not in present and native not in columns]
    for column in present:
        if column in NATIVE or column in used:
            continue
        meant = _meant(column, missing)
        if meant is not None:
            raise LogError(
                f"{name}: '{column}' is no native column (did you mean '{meant}'?); say "
                f'columns={{"{meant}": "{column}"}}, or columns={{"{meant}": ""}} if it is '
                "something else."
            )


def _meant(column: str, missing: Sequence[str]) -> str | None:
    plain = _plain(column)
    # Of a name and its plural, the one that is meant comes last and stays.
    alike = sorted(missing, key=lambda native: native[-1] == column[-1])
    known = {_plain(native): native for native in alike}
    other = _OTHERWISE.get(re.sub("[^a-z]", "", column.lower()))
    if other in missing:
        return other
    close = difflib.get_close_matches(plain, known, n=1, cutoff=0.9)
    return known[close[0]] if close else None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower()).removesuffix("s")


_SPOKEN: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"'?--map '?(\w+)=([^\s,;']*[^\s,;'.])?'?", lambda m: f'columns={{"{m[1]}": "{m[2] or ""}"}}'),
    (r"; or set such rows aside, counted: --lenient FILE", ""),
    (r", or set such rows aside, counted: --lenient FILE", ""),
    (r"--map-value (\w+):(\S+?)=NUMBER,…", r'values={"\1": {"\2": NUMBER}}'),
    (r"--map-value (\w+):(\w+)=(\w+)", r'values={"\1": {"\2": \3}}'),
    (r"--format (\w+)", r'format="\1"'),
    (r"\bmapping: ", "columns: "),
    (r"--map\b", "columns="),
)


def in_python(text: str, name: str) -> str:
    """Return a reader's message as a caller in Python says it: arguments, rows counted from 0."""
    text = re.sub(rf"^{re.escape(name)}:(\d+):", lambda m: f"{name}, row {int(m[1]) - 1}:", text)
    for pattern, spoken in _SPOKEN:
        text = re.sub(pattern, spoken, text)
    return text


def _without_counts(rollouts: Rollouts) -> Rollouts:
    """Take away what metadata say of all rows of a log: a table in memory may be some of them."""
    known: dict[str, Any] = {
        name: None
        for name in ("complete", "launched_prompts", "rollouts_per_prompt", "random_labels")
        if getattr(rollouts.facts, name) is not None
    }
    if not known:
        return rollouts
    facts = replace(rollouts.facts, **known, recorded=rollouts.facts.recorded - known.keys())
    note = (
        f"{', '.join(known)} on record in the table's metadata: not taken over, as a table in "
        "memory may be a part of its log; read the file by its path, or declare it"
    )
    return replace(rollouts, facts=facts, notes=(*rollouts.notes, note))

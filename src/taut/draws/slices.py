"""Slices of a log: which rows share a value of some columns, and what such a value belongs to.

A column is of the *law* (step, policy, run), of the *prompt* (one value in all rollouts of each
prompt) or of the *response* (values differ within a prompt, as length does). What it is decides
what a slice's mean means, and how it is bounded (theory §6.3, §2.8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np

from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError

LAW_COLUMNS = ("step", "policy", "run")
_RESPONSE_COLUMNS = ("n_tokens", "truncated", "failed")
_PARTS = 10  # deciles
_MANY = 20  # more numbers than this are cut into deciles

Cuts = Mapping[str, Sequence[float]]


class Of(StrEnum):
    """What a column's values belong to."""

    LAW = "law"
    PROMPT = "prompt"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Rows by the values of some columns.

    Attributes:
        columns: The columns.
        code: Which slice each row is in, shape (rollouts,); index into `values`.
        values: The value of each slice: of one column itself, of several joined by " · ".
        of: What the values belong to: the response as soon as one column does.
        cuts: Where numbers were cut, by column.
    """

    columns: tuple[str, ...]
    code: np.ndarray
    values: tuple[int | str, ...]
    of: Of
    cuts: dict[str, tuple[float, ...]]

    def rows(self) -> list[np.ndarray]:
        """Return the row indices of each slice, in the order of `values`; one sort for all."""
        order = np.argsort(self.code, kind="stable")
        counts = np.bincount(self.code, minlength=len(self.values))
        return np.split(order, np.cumsum(counts)[:-1])


def slices_of(
    rollouts: Rollouts,
    columns: Sequence[str],
    *,
    cuts: Cuts | None = None,
    choosing: np.ndarray | None = None,
) -> Slices:
    """Return the slices of a log by one or several columns.

    Args:
        rollouts: Read with those columns among `keep` that are not native.
        columns: Native columns or kept ones.
        cuts: Where to cut columns of numbers: (a, b) makes "< a", "a to < b" and ">= b".
        choosing: Rows that may choose where numbers are cut into deciles, indices; all by default.

    Raises:
        LogError: A column is not there.
        UsageError: No column, or one named twice.
    """
    if not columns or len(set(columns)) != len(columns):
        raise UsageError(f"by is {list(columns)}; expected one column or several distinct ones.")
    known = {name: tuple(float(cut) for cut in points) for name, points in (cuts or {}).items()}
    for name in known.keys() - set(columns):
        raise UsageError(f"cuts name {name!r}, by does not; expected cuts of {list(columns)}.")
    parts = [_column(rollouts, name, known, choosing) for name in columns]
    kinds = [_kind(rollouts, name, code) for name, (code, _) in zip(columns, parts, strict=True)]
    of = next((kind for kind in (Of.RESPONSE, Of.PROMPT) if kind in kinds), Of.LAW)
    code, values = parts[0]
    for more, names in parts[1:]:
        code = code.astype(np.int64) * len(names) + more
        met, code = np.unique(code, return_inverse=True)
        first, second = np.divmod(met, len(names))
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        values = tuple(f"{values[one]} · {names[two]}" for one, two in pairs)
    met, code = np.unique(code, return_inverse=True)
    values = tuple(values[at] for at in met.tolist())
    return Slices(columns=tuple(columns), code=code, values=values, of=of, cuts=known)


def needed(by: Sequence[str]) -> tuple[str, ...]:
    """Return which of some columns a reader must be told to keep."""
    return tuple(name for name in by if name not in (*LAW_COLUMNS, *_RESPONSE_COLUMNS))


def with_columns(rollouts: Rollouts, columns: Mapping[str, np.ndarray]) -> Rollouts:
    """Return rollouts that also keep some columns of texts, each of shape (rollouts,).

    They stand in the place of columns of their names.
    """
    kept, names = [], []
    for values in columns.values():
        texts, codes = np.unique(np.asarray(values, dtype=str), return_inverse=True)
        kept.append(codes.astype(np.int32))
        names.append(tuple(texts.tolist()))
    stay = [at for at, name in enumerate(rollouts.kept_columns) if name not in columns]
    before = [rollouts.kept[:, at] for at in stay]
    return replace(
        rollouts,
        kept=np.stack([*before, *kept], axis=1),
        kept_columns=(*(rollouts.kept_columns[at] for at in stay), *columns),
        kept_names=(*(rollouts.kept_names[at] for at in stay), *names),
    )


def _column(
    rollouts: Rollouts, name: str, cuts: dict, choosing: np.ndarray | None
) -> tuple[np.ndarray, tuple[int | str, ...]]:
    if name in rollouts.kept_columns:
        at = rollouts.kept_columns.index(name)
        code, texts = rollouts.kept[:, at], rollouts.kept_names[at]
        numbers = _numbers(texts)
        if name in cuts or (numbers is not None and len(numbers) > _MANY):
            if numbers is None:
                raise UsageError(f"cuts of {name!r}: expected a column of numbers, found texts.")
            return _cut(name, numbers[code], cuts, choosing)
        return code, texts
    values = getattr(rollouts, name) if name in (*LAW_COLUMNS, *_RESPONSE_COLUMNS) else None
    if values is None:
        raise LogError(
            f"the log has no '{name}' column to group by; map one with --map {name}=PATH, or name "
            "another. In Python, read the log with keep=[...] for columns of its own."
        )
    if name == "n_tokens":
        return _cut(name, values.astype(np.float64), cuts, choosing)
    met, code = np.unique(values, return_inverse=True)
    texts = getattr(rollouts, f"{name}_names", ())
    if texts:
        return code, tuple(texts[value] for value in met.tolist())
    if values.dtype == np.bool_:
        return code, tuple("yes" if value else "no" for value in met.tolist())
    return code, tuple(met.tolist())


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _cut(
    name: str, values: np.ndarray, cuts: dict, choosing: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut numbers at given points, or at the deciles of the rows that may choose."""
    if name not in cuts:
        chosen = values if choosing is None else values[choosing]
        known = np.unique(chosen)
        if len(known) > _PARTS:
            shares = np.arange(1, _PARTS) / _PARTS
            known = np.unique(np.quantile(chosen, shares, method="higher"))
        else:
            known = known[1:]
        cuts[name] = tuple(known.tolist())
    points = cuts[name]
    if list(points) != sorted(set(points)):
        raise UsageError(f"cuts of {name!r} are {list(points)}; expected increasing numbers.")
    if not points:
        return np.zeros(len(values), dtype=np.int64), ("all",)
    between = [f"{low:g} to < {high:g}" for low, high in pairwise(points)]
    return np.searchsorted(points, values, side="right"), (
        f"< {points[0]:g}",
        *between,
        f">= {points[-1]:g}",
    )


def _kind(rollouts: Rollouts, name: str, code: np.ndarray) -> Of:
    if name in LAW_COLUMNS:
        return Of.LAW
    if name in _RESPONSE_COLUMNS:
        return Of.RESPONSE
    order = np.argsort(rollouts.prompt, kind="stable")
    prompt, sorted_code = rollouts.prompt[order], np.asarray(code)[order]
    differs = (prompt[1:] == prompt[:-1]) & (sorted_code[1:] != sorted_code[:-1])
    return Of.RESPONSE if differs.any() else Of.PROMPT

"""What --map may say beside the path of a column: sums, joined ids, folded lists, left out.

* `reward=1.0*accuracy+0.5*format`: a weighted sum of columns;
* `prompt_id=env+example_id`: several columns that make an id together;
* `reward=sum(token_rewards)`, `last(…)`, `mean(…)`: a list of numbers as one;
* `--map-value reward:C=1,I=0`: what texts mean as numbers.

Each becomes raw columns, which the readers read like any other, and a step that makes the native
column of them. A column of the very name that was written always wins.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.layout import Columns, Layout
from taut.logs.reduce import Chunk, Problems, Values
from taut.logs.schema import ANY, COLUMNS, LIST, SUMMAND, column
from taut.logs.text import safe
from taut.logs.tokens import Tokens, row_sums

_FOLD = re.compile(r"(sum|mean|last)\((.+)\)")
Meanings = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class _Made:
    """How one native column is made of raw ones: raw name to path, and the step."""

    paths: dict[str, str]
    make: Callable[[Chunk], Values]


def compile_mapping(
    file: str, layout: Layout, columns: Columns, mapped: frozenset[str], values: Meanings
) -> Layout:
    """Return a layout in which what is no plain path has become raw columns and a step.

    Args:
        file: Name shown in messages.
        layout: How the file is read, with the user's texts as paths.
        columns: What the columns of the file hold.
        mapped: Native names that the user mapped.
        values: Native name to what its texts mean.

    Raises:
        LogError: A text is neither a path nor an expression.
    """
    values = {**layout.meanings, **values}
    made: dict[str, _Made] = {}
    for name, path in layout.paths.items():
        if name in values:
            made[name] = _meaning(name, path, values[name])
        elif name in mapped and path not in columns:
            found = _expression(file, name, path)
            if found is not None:
                made[name] = found
    if not made:
        return layout
    raw = {part: path for each in made.values() for part, path in each.paths.items()}
    paths = {name: path for name, path in layout.paths.items() if name not in made}
    return replace(
        layout,
        paths={**paths, **raw},
        required=layout.required - made.keys() | raw.keys(),
        derived=layout.derived | made.keys(),
        derive=partial(_derive, made=made, after=layout.derive),
    )


def _derive(
    chunk: Chunk, made: Mapping[str, _Made], after: Callable[[Chunk], Chunk] | None
) -> Chunk:
    fresh = {name: each.make(chunk) for name, each in made.items()}
    raw = {part for each in made.values() for part in each.paths}
    left = {name: values for name, values in chunk.columns.items() if name not in raw}
    chunk = replace(chunk, columns={**left, **fresh})
    return after(chunk) if after else chunk


def _expression(file: str, name: str, text: str) -> _Made | None:
    kind = column(name).kind
    fold = _FOLD.fullmatch(text.strip())
    if fold and kind == "float":
        part = f"{LIST}{name}"
        return _Made({part: fold[2].strip()}, partial(_fold, name=name, part=part, how=fold[1]))
    if "+" not in text and "*" not in text:
        return None
    terms = [term.strip() for term in text.split("+")]
    if kind in ("id", "text"):
        paths = {f"{ANY}{name} {place}": term for place, term in enumerate(terms)}
        return _Made(paths, partial(_join, parts=tuple(paths)))
    if kind != "float":
        raise LogError(f"{file}: '{name}={safe(text)}' is no path, and '{name}' is no number.")
    weights = weighted(text)
    paths = {f"{SUMMAND}{name} {place}": path for place, path in enumerate(weights)}
    return _Made(paths, partial(_sum, weights=dict(zip(paths, weights.values(), strict=True))))


def weighted(text: str) -> dict[str, float]:
    """Read a sum such as 1.0*accuracy+0.5*format.

    Raises:
        LogError: A term is no weight and column.
    """
    weights: dict[str, float] = {}
    for term in text.split("+"):
        factor, star, name = term.rpartition("*")
        name = name.strip()
        try:
            weights[name] = weights.get(name, 0.0) + (float(factor) if star else 1.0)
        except ValueError:
            raise LogError(
                f"mapping: {term!r} in 'reward={safe(text)}' is no weight and column; expected a "
                "column, or a sum such as 1.0*accuracy+0.5*format."
            ) from None
    return weights


def _sum(chunk: Chunk, weights: Mapping[str, float]) -> Values:
    columns = [chunk.columns[part] for part in weights]
    missing = np.zeros(len(chunk.numbers), dtype=bool)
    for each in columns:
        missing |= np.isnan(each.data) if each.missing is None else each.missing
    total = sum(w * each.data for w, each in zip(weights.values(), columns, strict=True))
    return Values(np.asarray(total, dtype=np.float64), missing if missing.any() else None)


def _join(chunk: Chunk, parts: tuple[str, ...]) -> Values:
    rows = zip(*(chunk.columns[part].data for part in parts), strict=True)
    ids = [None if None in row else json.dumps(row, ensure_ascii=True) for row in rows]
    missing = np.array([each is None for each in ids], dtype=bool)
    return Values(pa.array(ids, type=pa.large_string()), missing if missing.any() else None)


def _fold(chunk: Chunk, name: str, part: str, how: str) -> Values:
    lists: Tokens = chunk.columns[part].data
    missing = chunk.columns[part].missing
    present = np.ones(len(lists.starts), bool) if missing is None else ~missing
    for row in np.flatnonzero((lists.lengths == 0) & present):
        chunk.problems.add(row, name, f"is an empty list; expected numbers to take the {how} of")
    if how == "last":
        ends = np.maximum(lists.ends - 1, 0)
        out = lists.values[ends] if lists.values.size else np.zeros(len(lists.starts))
    else:
        out = row_sums(lists)
        out = out / np.maximum(lists.lengths, 1) if how == "mean" else out
    out = np.where(lists.lengths > 0, np.asarray(out, np.float64), 0.0)
    return Values(np.where(present, out, np.nan), missing)


def _meaning(name: str, path: str, meaning: Mapping[str, float]) -> _Made:
    part = f"{ANY}{name}"
    return _Made({part: path}, partial(_numbers, name=name, part=part, meaning=meaning))


def _numbers(chunk: Chunk, name: str, part: str, meaning: Mapping[str, float]) -> Values:
    out, missing = [], []
    for row, value in enumerate(chunk.columns[part].data):
        number = _number(value, meaning)
        if number is None and value is not None:
            _unknown(chunk.problems, row, name, value, ", ".join(meaning))
        out.append(np.nan if number is None else number)
        missing.append(value is None and number is None)
    return Values(np.array(out), np.array(missing) if any(missing) else None)


def _number(value, meaning: Mapping[str, float]) -> float | None:
    key = json.dumps(value) if value is None or isinstance(value, bool | int | float) else value
    if isinstance(key, str) and key in meaning:
        return meaning[key]
    return float(value) if isinstance(value, bool | int | float) else None


def _unknown(problems: Problems, row: int, name: str, value, known: str) -> None:
    problems.add(
        row,
        name,
        f"is {safe(repr(value), limit=40)}; expected one of {known}: say what it means with "
        f"--map-value {name}:TEXT=NUMBER,…",
    )


def check_values(values: Meanings | None) -> Meanings:
    """Return what texts mean, checked.

    Raises:
        LogError: A name is no native column of numbers.
    """
    numbers = [each.name for each in COLUMNS if each.kind == "float"]
    for name in values or {}:
        if name not in numbers:
            raise LogError(
                f"mapping: '{name}' takes no --map-value; expected one of {', '.join(numbers)}."
            )
    return dict(values or {})

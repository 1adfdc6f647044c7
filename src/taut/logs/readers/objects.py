"""JSON objects to columns of rollouts: paths, types, token lists, what is wrong with a value."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from taut.logs.layout import Holds, failed, labels, messages_text
from taut.logs.plan import Plan, Planner, may_lack
from taut.logs.readers.values import as_bool, as_integer, as_number, shown
from taut.logs.reduce import Problems, Values
from taut.logs.schema import EXPECTED, LISTS, NATIVE, column
from taut.logs.tokens import Tokens

_LIMITS = np.iinfo(np.int64)
_EMPTY = np.empty(0)


@dataclass(frozen=True, slots=True)
class Lines:
    """Some objects, and the numbers that were taken out of them.

    Attributes:
        docs: The objects; where `whole` is False token lists are numbers that index `cuts`.
        whole: Which objects stand as the parser gave them, shape (lines,).
        values, cuts: The numbers of the token lists, and where each list is among them.
        offsets: Number of each line from the first of the block, shape (lines,).
        places: Where each line begins and ends in the text, shape (lines, 2).
    """

    docs: list[dict]
    whole: np.ndarray
    values: np.ndarray
    cuts: np.ndarray
    offsets: np.ndarray
    places: np.ndarray


def whole_lines(docs: list[dict], offsets: Sequence[int], places: Sequence = ()) -> Lines:
    """Return objects from which nothing was taken out."""
    return Lines(
        docs=docs,
        whole=np.ones(len(docs), dtype=bool),
        values=np.empty(0),
        cuts=np.empty((0, 2), dtype=np.int64),
        offsets=np.array(offsets, dtype=np.int64),
        places=np.array(places, dtype=np.int64).reshape(-1, 2),
    )


def learn(docs: Sequence[dict]) -> dict[str, Holds]:
    """Return what the columns of some objects hold, those of inner objects by dotted path."""
    seen: dict[str, Holds] = {}
    for doc in docs:
        for leaf, value in _leaves(doc):
            if seen.get(leaf, "null") == "null":
                seen[leaf] = _holds(value)
    return seen


def make_object_plan(
    name: str, docs: Sequence[dict], seen: Mapping[str, Holds], planner: Planner
) -> tuple[Plan, dict[str, type]]:
    """Choose how objects are read, by the first of them; with the types of their ids."""
    layout = planner.layouts(name, seen)
    present, kinds = [], {}
    for native, path in layout.paths.items():
        values = take(docs, path, wrapped=layout.wrapped)
        known = next((value for value in values if value is not None), None)
        # A column that is null in all of these rows may well be null in all of them.
        null = path in seen and not may_lack(native, layout)
        late = native not in layout.required and _is_sparse(native, path)
        if known is not None or null or late:
            present.append(native)
        if column(native).kind in ("id", "text"):
            kinds[native] = _id_type(values)
    return planner.plan(name, layout, present, seen), kinds


def _id_type(values: list) -> type:
    """Return int where all ids are integers, or numbers that mean one; else str."""
    known = [value for value in values if value is not None]
    whole = all(type(v) is int or (type(v) is float and v.is_integer()) for v in known)
    return int if known and whole else str


def _is_sparse(native: str, path: str) -> bool:
    """Say whether a column may come late: a label, or what only some rows have to say."""
    return native == "gold" or (column(native).nullable and path == native)


def _leaves(doc: dict, depth: int = 3) -> Iterator[tuple[str, object]]:
    for key, value in doc.items():
        if isinstance(value, dict) and value and depth > 1:
            yield from ((f"{key}.{inner}", under) for inner, under in _leaves(value, depth - 1))
        else:
            yield key, value


_HOLDS: dict[type, Holds] = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
}


def _holds(value: object) -> Holds:
    return _HOLDS.get(type(value), "other")


def take(docs: Sequence[dict], path: str, *, wrapped: bool = False) -> list:
    """Return the value at a path of each object, None where it is absent."""
    if "." not in path:
        values = [doc.get(path) for doc in docs]
    else:
        parts = path.split(".")
        values = [_at(doc, path, parts) for doc in docs]
    return [_unwrapped(value) for value in values] if wrapped else values


def _unwrapped(value):
    """Return what a list of one value holds; anything else as it is."""
    return value[0] if type(value) is list and len(value) == 1 else value


def _at(value, path: str, parts: list[str]):
    """Follow a path: a key of that very name first, else key by key, keys with dots, places."""
    if not parts:
        return value
    if type(value) is list:
        place = int(parts[0]) if parts[0].isdigit() else len(value)
        return _at(value[place], "", parts[1:]) if place < len(value) else None
    if type(value) is not dict:
        return None
    if parts[0] in value and not (path and path in value):
        found = _at(value[parts[0]], "", parts[1:])
        if found is not None:
            return found
    for size in range(len(parts), 0, -1):
        key = ".".join(parts[:size])
        if key in value:
            return _at(value[key], "", parts[size:])
    return None


def object_columns(
    lines: Lines, plan: Plan, kinds: Mapping[str, type], problems: Problems
) -> dict[str, Values]:
    """Return the columns that a plan reads of some objects."""
    columns = {}
    for native, path in plan.read.items():
        values = take(lines.docs, path, wrapped=plan.layout.wrapped)
        if native in plan.raw or column(native).kind == "any":
            columns[native] = _raw(values)
        elif native in NATIVE and NATIVE[native].nullable and values.count(None) == len(values):
            continue  # as if absent
        else:
            columns[native] = _values(native, values, lines, kinds, problems)
    return columns


def _missing(values: list) -> np.ndarray | None:
    return np.array([value is None for value in values]) if None in values else None


def _raw(values: list) -> Values:
    return Values(values, _missing(values))


def _values(
    native: str, values: list, lines: Lines, kinds: Mapping[str, type], problems: Problems
) -> Values:
    missing = _missing(values)
    kind = column(native).kind
    if kind in LISTS:
        return Values(_tokens(native, values, lines, problems), missing)
    if kind in ("id", "text"):
        return Values(_ids(native, values, kinds[native], problems), missing)
    if kind == "messages":
        return Values(_messages(native, values, problems), missing)
    if kind == "failure":
        return Values(np.array([failed(value) for value in values], dtype=np.bool_), missing)
    if kind == "label":
        return Values(labels(values), missing)
    if kind == "float":
        return Values(_floats(native, values, problems), missing)
    if kind == "bool":
        return Values(_bools(native, values, problems), missing)
    return Values(_integers(native, values, problems), missing)


def _floats(native: str, values: list, problems: Problems) -> np.ndarray:
    if not set(map(type, values)) <= {float, int}:
        values = [
            np.nan if value is None else as_number(native, row, value, problems)
            for row, value in enumerate(values)
        ]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond float64, from the lenient parser
        return np.array([as_number(native, row, v, problems) for row, v in enumerate(values)])


def _bools(native: str, values: list, problems: Problems) -> np.ndarray:
    if not set(map(type, values)) <= {bool}:
        values = [
            value is not None and as_bool(native, row, value, problems)
            for row, value in enumerate(values)
        ]
    return np.array(values, dtype=np.bool_)


def _integers(native: str, values: list, problems: Problems) -> np.ndarray:
    if set(map(type, values)) == {int}:
        with suppress(OverflowError):
            return np.array(values, dtype=np.int64)
    whole = [
        -1 if value is None else as_integer(native, row, value, problems)
        for row, value in enumerate(values)
    ]
    return np.array(whole, dtype=np.int64)


def _ids(native: str, values: list, kind: type, problems: Problems) -> pa.Array:
    """Return texts or integers as an Arrow array: integers where the first rows hold only those.

    7, 7.0 and "7" are one id: keys are made of the decimal text.
    """
    as_text = kind is not int or column(native).kind == "text"
    if set(map(type, values)) == {str} and as_text:
        with suppress(UnicodeEncodeError):
            return pa.array(values, type=pa.large_string())
    out = []
    for row, value in enumerate(values):
        whole = _whole(native, row, value, problems) if value is not None else None
        if whole is None or not as_text:
            out.append(whole if not isinstance(whole, str) or as_text else _digits(whole))
        else:
            out.append(_text(native, row, whole, problems))
    if not as_text and any(isinstance(value, str) for value in out):
        out, as_text = [value if value is None else str(value) for value in out], True
    return pa.array(out, type=pa.large_string() if as_text else pa.int64())


def _digits(text: str) -> str | int:
    """Return an integer that is written as text, as one; any other text as it is."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text[:19])) == text else text


def _whole(native: str, row: int, value: object, problems: Problems) -> str | int | None:
    if type(value) is str:
        return value
    if type(value) is float and value.is_integer():
        problems.note(f"'{native}' holds numbers with a point; read as integers")
        value = int(value)
    if type(value) is bool or type(value) is not int:
        problems.add(row, native, f"is {shown(value)}; expected {EXPECTED[column(native).kind]}")
        return None
    if not _LIMITS.min <= value <= _LIMITS.max:
        problems.add(row, native, f"is {value}; expected a 64-bit integer: write it as text")
        return None
    return value


def _messages(native: str, values: list, problems: Problems) -> pa.Array:
    """Return prompts as text; messages in one form, whatever the order of their keys."""
    out = []
    for row, value in enumerate(values):
        text = value if value is None or type(value) is str else messages_text(value)
        out.append(text if text is None else _text(native, row, text, problems))
    return pa.array(out, type=pa.large_string())


def _text(native: str, row: int, value: str | int, problems: Problems) -> str | None:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.add(row, native, "holds half a surrogate pair; expected valid Unicode")
        return None
    return text


def _tokens(native: str, values: list, lines: Lines, problems: Problems) -> Tokens:
    """Return token lists: those taken out by the scanner, and those left to orjson behind them."""
    spans = np.zeros((len(values), 2), dtype=np.int64)
    taken = np.array([type(value) is int for value in values], dtype=bool) & ~lines.whole
    spans[taken] = lines.cuts[[value for value, cut in zip(values, taken, strict=True) if cut]]
    behind, size = [lines.values], lines.values.size
    for row in np.flatnonzero(~taken):
        part = _numbers(native, row, values[row], problems)
        spans[row] = size, size + part.size
        size += part.size
        behind.append(part)
    flat = np.concatenate(behind) if len(behind) > 1 else lines.values
    starts, ends = np.ascontiguousarray(spans.T)
    return Tokens(flat, starts, ends)


def _numbers(native: str, row: int, value, problems: Problems) -> np.ndarray:
    if type(value) is not list:
        if value is not None:
            problems.add(row, native, f"is {shown(value)}; expected {EXPECTED['tokens']}")
        return _EMPTY
    for at, token in enumerate(value):
        if type(token) is not float and type(token) is not int:
            found = "null" if token is None else shown(token)
            problems.add(row, native, f"is {found} at token {at + 1}; expected a finite number")
            return _EMPTY
    return _floats(native, value, problems)

"""Labels from anywhere, as columns: a sheet of ours, a spreadsheet, a program's own file.

What is read is a rollout's id (or its text) and a label; "yes", "true", "1", 1 and true are one
label, letters are read by a map. What cannot be read is an error that says where it stands.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from taut.errors import LogError, UsageError
from taut.labels.design import KEY, Scale, SheetDesign, read_design
from taut.labels.sheet import plain_cell
from taut.logs.csv_table import read_csv

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
# Native name to the names that a column may have without being mapped.
NAMES: dict[str, tuple[str, ...]] = {
    "rollout_id": ("rollout_id",),
    "prompt": ("prompt",),
    "response": ("response", "completion"),
    "label": ("label", "gold"),
    "note": ("note",),
    "annotator": ("annotator",),
    "skipped": ("skipped",),
    "label_probability": ("label_probability",),
    "unit": ("unit",),
    KEY: (KEY,),
}
_YES = ("yes", "y", "true", "t", "correct", "pass")
_NO = ("no", "n", "false", "f", "incorrect", "fail")
_NONE = ("", "null", "none", "nan", "na", "n/a", "?", "-")
_SKIP = ("skip", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Rows of label files, one after the other.

    Attributes:
        files: Their names.
        file, line: Where each row stands, for messages: index into `files`; line or row from 1.
        rollout_id: Id of each row; None where rows are known by their words.
        words: Prompt and response of each row; None where rows have ids.
        label: Gold units; NaN where there is none, shape (rows,).
        skipped: Reason for skipping; "" where it was not skipped.
        note: What the annotator wrote.
        annotator: Name; "" where none is given.
        unit: Unit in the order of the sheet; -1 where unknown.
        chance: Chance of a label; NaN where unknown.
        designs: Design in each file; None where it has none.
    """

    files: tuple[str, ...]
    file: np.ndarray
    line: np.ndarray
    rollout_id: list[str] | None
    words: list[tuple[str, str]] | None
    label: np.ndarray
    skipped: list[str]
    note: list[str]
    annotator: list[str]
    unit: np.ndarray
    chance: np.ndarray
    designs: tuple[SheetDesign | None, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.label)

    def place(self, row: int) -> str:
        """Return where a row stands, as FILE:LINE."""
        return f"{self.files[self.file[row]]}:{self.line[row]}"


def read_answers(
    paths: Sequence[str | os.PathLike],
    *,
    names: Mapping[str, str] | None = None,
    values: Mapping[str, float] | None = None,
    scale: Scale | None = None,
) -> Answers:
    """Read label files.

    Args:
        paths: CSV (with a line of names), JSON lines, or Parquet.
        names: Native name (`NAMES`) to the column of the files.
        values: What a label that is no number means, as in {"C": 1, "I": 0}.
        scale: What yes and no mean; by default the sheet's own, else 1 and 0.

    Raises:
        LogError: A file, a column or a label cannot be read.
        UsageError: A name is not known.
    """
    for name in names or {}:
        if name not in NAMES:
            raise UsageError(f"--label-map: '{name}' is none of {', '.join(NAMES)}.")
    if not paths:
        raise LogError("expected at least one file of labels, found none.")
    parts = [_read_file(os.fspath(path), names or {}, values or {}, scale) for path in paths]
    by_id = [part["rollout_id"] is not None for part in parts]
    if any(by_id) and not all(by_id):
        odd = os.fspath(paths[by_id.index(False)])
        raise LogError(
            f"{odd}: expected 'rollout_id', as in the other files, found none; give all files ids."
        )
    sizes = [len(part["label"]) for part in parts]
    return Answers(
        files=tuple(os.fspath(path) for path in paths),
        file=np.repeat(np.arange(len(parts)), sizes),
        line=np.concatenate([part["line"] for part in parts]),
        rollout_id=_joined(parts, "rollout_id") if by_id[0] else None,
        words=None if by_id[0] else _joined(parts, "words"),
        label=np.concatenate([part["label"] for part in parts]),
        skipped=_joined(parts, "skipped"),
        note=_joined(parts, "note"),
        annotator=_joined(parts, "annotator"),
        unit=np.concatenate([part["unit"] for part in parts]),
        chance=np.concatenate([part["chance"] for part in parts]),
        designs=tuple(part["design"] for part in parts),
    )


def _joined(parts: list[dict], name: str) -> list:
    return [value for part in parts for value in part[name]]


def _read_file(path: str, names: Mapping[str, str], values: Mapping, scale: Scale | None) -> dict:
    columns, lines, design = _columns(path)
    found = _find(path, columns, names)
    rows = len(lines)
    design = design or _design_in(path, found)
    scale = scale or (design.scale if design else None)
    text = {name: _texts(found.get(name), rows) for name in ("note", "annotator", "skipped")}
    labels, skipped = _labels(path, lines, found["label"], values, scale)
    for row in np.flatnonzero(skipped):
        text["skipped"][row] = text["skipped"][row] or "skipped"
    by_id = "rollout_id" in found
    return {
        "line": lines,
        "rollout_id": _ids(path, lines, found["rollout_id"]) if by_id else None,
        "words": None if by_id else _words(found),
        "label": labels,
        **text,
        "unit": _numbers(path, lines, found.get("unit"), -1.0).astype(np.int64),
        "chance": _numbers(path, lines, found.get("label_probability"), math.nan),
        "design": design,
    }


# --- Files to columns -----------------------------------------------------------------------------


def _columns(path: str) -> tuple[dict[str, list], np.ndarray, SheetDesign | None]:
    """Columns as lists, the line of each row, and the design where it stands at the head."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        hint = "; open the page and download its answers" if suffix == ".html" else ""
        raise LogError(f"{path}: expected labels in a {', '.join(SUFFIXES)} file{hint}.")
    if not Path(path).is_file():
        raise LogError(f"{path}: no such file.")
    if suffix == ".parquet":
        return _from_parquet(path)
    return (*read_csv(path), None) if suffix == ".csv" else _from_json(path)


def _from_json(path: str) -> tuple[dict[str, list], np.ndarray, SheetDesign | None]:
    docs, lines, design = [], [], None
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            doc = orjson.loads(line)
        except orjson.JSONDecodeError as problem:
            raise LogError(f"{path}:{number}: expected JSON, found {problem}.") from None
        if not isinstance(doc, dict):
            raise LogError(f"{path}:{number}: expected an object with named values.")
        if isinstance(doc.get(KEY), dict) and "rollout_id" not in doc:
            if design is not None:
                raise LogError(f"{path}:{number}: a second sheet begins; give one file a sheet.")
            design = read_design(doc[KEY], f"{path}:{number}")
            continue
        docs.append(doc)
        lines.append(number)
    names = dict.fromkeys(name for doc in docs for name in doc)
    columns = {name: [doc.get(name) for doc in docs] for name in names}
    return columns, np.array(lines, dtype=np.int64), design


def _from_parquet(path: str) -> tuple[dict[str, list], np.ndarray, SheetDesign | None]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        known = {spelling for spellings in NAMES.values() for spelling in spellings}
        wanted = [name for name in file.schema_arrow.names if name in known]
        table = file.read(columns=wanted or None)
    except pa.ArrowException as problem:
        raise LogError(f"{path}: not a Parquet file: {str(problem).splitlines()[0]}") from None
    head = (file.schema_arrow.metadata or {}).get(KEY.encode())
    design = read_design(head, path) if head else None
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return columns, np.arange(1, table.num_rows + 1), design


def _find(path: str, columns: Mapping[str, list], names: Mapping[str, str]) -> dict[str, list]:
    found = {}
    for name, spellings in NAMES.items():
        spellings = (names[name],) if name in names else spellings
        spelling = next((word for word in spellings if word in columns), None)
        if spelling is not None:
            found[name] = columns[spelling]
        elif name in names:
            raise LogError(f"{path}: expected a column '{names[name]}', found {_shown(columns)}.")
    if "label" not in found:
        raise LogError(
            f"{path}: expected a column 'label' (or 'gold'), found {_shown(columns)}; name it: "
            "--label-map label=COLUMN."
        )
    if "rollout_id" not in found and not {"prompt", "response"} <= found.keys():
        raise LogError(
            f"{path}: expected 'rollout_id', or 'prompt' and 'response', to know which rollout a "
            f"label belongs to, found {_shown(columns)}; name it: --label-map rollout_id=COLUMN."
        )
    return found


def _shown(columns: Mapping[str, list]) -> str:
    return ", ".join(f"'{name}'" for name in columns) or "no columns"


def _design_in(path: str, found: Mapping[str, list]) -> SheetDesign | None:
    """The design that stands in the rows of a CSV; all rows must agree on it."""
    texts = {text for text in found.get(KEY, ()) if text}
    if not texts:
        return None
    designs = [
        read_design(plain_cell(text) if isinstance(text, str) else text, path) for text in texts
    ]
    if any(design != designs[0] for design in designs):
        raise LogError(f"{path}: rows of {len(designs)} sheets stand in one file; one file each.")
    return designs[0]


# --- Values ---------------------------------------------------------------------------------------


def _texts(column: list | None, rows: int) -> list[str]:
    if column is None:
        return [""] * rows
    return ["" if value is None else plain_cell(str(value)).strip() for value in column]


def _ids(path: str, lines: np.ndarray, column: list) -> list[str]:
    out = []
    for line, value in zip(lines, column, strict=True):
        text = "" if value is None else plain_cell(str(value)).strip()
        if not text:
            raise LogError(f"{path}:{line}: expected a rollout_id, found an empty one.")
        out.append(text)
    return out


def _words(found: Mapping[str, list]) -> list[tuple[str, str]]:
    pairs = zip(found["prompt"], found["response"], strict=True)
    return [(_plain(prompt), _plain(response)) for prompt, response in pairs]


def _plain(value: object) -> str:
    from taut.labels.sheet import as_text

    return plain_cell(value) if isinstance(value, str) else as_text(value)


def _numbers(path: str, lines: np.ndarray, column: list | None, missing: float) -> np.ndarray:
    if column is None:
        return np.full(len(lines), missing)
    try:
        return np.array([missing if v in (None, "") else float(v) for v in column], dtype=float)
    except (TypeError, ValueError):
        raise LogError(f"{path}: expected numbers in 'unit' and 'label_probability'.") from None


def _labels(
    path: str, lines: np.ndarray, column: list, values: Mapping[str, float], scale: Scale | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as numbers, NaN where there is none, and which rows say that they were skipped."""
    ends = (scale.low, scale.high) if scale else (0.0, 1.0)
    known: dict[object, float] = {}
    out = np.empty(len(column))
    skipped = np.zeros(len(column), dtype=bool)
    for row, given in enumerate(column):
        key = (type(given), given)
        number = known.get(key)
        if number is None:
            number = known[key] = _label(given, values, ends, f"{path}:{lines[row]}")
        out[row] = number
        skipped[row] = isinstance(given, str) and given.strip().lower() in _SKIP
    return out, skipped


def _label(given: object, values: Mapping[str, float], ends: tuple[float, float], at: str) -> float:
    text = plain_cell(given).strip() if isinstance(given, str) else given
    if str(text) in values:
        return float(values[str(text)])
    if isinstance(text, bool):
        return ends[1] if text else ends[0]
    if text is None or (isinstance(text, str) and text.lower() in _NONE + _SKIP):
        return math.nan
    word = text.lower() if isinstance(text, str) else text
    if word in _YES or word in _NO:
        return ends[1] if word in _YES else ends[0]
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number):
        return math.nan
    if math.isinf(number):
        raise LogError(
            f"{at}: expected a label (a number, yes or no, true or false), found {given!r}; say "
            f"what it means: --map-value gold:{given}=1."
        )
    return number


def some(answers: Answers, rows: np.ndarray) -> str:
    """Return the first three of some rows by id, or by prompt, and how many more there are."""
    if answers.rollout_id is None:
        shown = ", ".join(repr(answers.words[row][0][:40]) for row in rows[:3])
    else:
        shown = ", ".join(f"'{answers.rollout_id[row]}'" for row in rows[:3])
    return shown + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")

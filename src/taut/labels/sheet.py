"""A sheet: the rollouts to label, with their text and how they were chosen, as a file.

JSON lines, CSV and the page hold the same items and the same design; none holds a reward. Every
sheet carries prompts and responses: who gets it reads them.
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from taut.errors import LogError, UsageError
from taut.labels.design import KEY, SheetDesign, read_design
from taut.labels.population import Text
from taut.logs.write import whole_file

SUFFIXES = (".html", ".csv", ".jsonl", ".ndjson")
CSV_COLUMNS = (
    "rollout_id",
    "prompt",
    "response",
    "label",
    "note",
    "label_probability",
    "annotator",
    "unit",
    KEY,
)
# A spreadsheet takes text that begins so for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Item(BaseModel):
    """One rollout to label.

    Attributes:
        rollout_id: Its id in the log.
        prompt, response: What was said, or messages; None where the log has no text.
        label_probability: Chance by which it was chosen (`SheetDesign`).
        unit: Its unit in the order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rollout_id: str
    prompt: Text | None = None
    response: Text | None = None
    label_probability: float
    unit: int


class Sheet(BaseModel):
    """Rollouts to label, in random order, and how they were chosen.

    Attributes:
        design: How.
        items: Which.
        annotator: Who is to answer this copy; empty where nobody is named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    design: SheetDesign
    items: tuple[Item, ...]
    annotator: str = ""

    @property
    def id(self) -> str:
        """16 hex digits, the same for the same design, items and annotator."""
        words = [self.design.to_json(), self.annotator, *(item.rollout_id for item in self.items)]
        return hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()

    def to_jsonl(self) -> bytes:
        """Return the sheet as JSON lines: the design, then one object an item."""
        head = {KEY: orjson.loads(self.design.to_json())}
        lines = [head, *(self._row(item) for item in self.items)]
        return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)

    def _row(self, item: Item) -> dict:
        row = {
            "rollout_id": item.rollout_id,
            "prompt": item.prompt,
            "response": item.response,
            "label": None,
            "note": "",
            "label_probability": item.label_probability,
            "unit": item.unit,
        }
        return row | ({"annotator": self.annotator} if self.annotator else {})

    def to_csv(self) -> bytes:
        """Return the sheet as CSV, readable by spreadsheets; the design stands in each row."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(CSV_COLUMNS)
        design = self.design.to_json()
        for item in self.items:
            row = {**self._row(item), "annotator": self.annotator, "label": "", KEY: design}
            row["prompt"], row["response"] = as_text(item.prompt), as_text(item.response)
            row["label_probability"] = repr(item.label_probability)
            writer.writerow([_cell(row[name]) for name in CSV_COLUMNS])
        return b"\xef\xbb\xbf" + text.getvalue().encode()

    def to_html(self) -> bytes:
        """Return the sheet as one offline page to label in (`taut.labels.page`)."""
        from taut.labels.page import build

        return build(self)

    def write(self, path: str | os.PathLike) -> None:
        """Write the sheet, in the form that the file's suffix names.

        Raises:
            UsageError: No such form.
            LogError: The file cannot be written.
        """
        makers = {".html": self.to_html, ".csv": self.to_csv}
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"{path}: expected a sheet ending in {', '.join(SUFFIXES)}.")
        data = makers.get(suffix, self.to_jsonl)()
        with whole_file(os.fspath(path)) as file:
            file.write(data)


def as_text(words: Text | None) -> str:
    """Return what was said as plain text; messages with their roles."""
    if words is None or isinstance(words, str):
        return words or ""
    return "\n\n".join(f"{m.get('role', '?')}: {_content(m)}" for m in words)


def _content(message: dict) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        calls = message.get("tool_calls")
        return (content or "") + (f"\n{orjson.dumps(calls).decode()}" if calls else "")
    parts = content if isinstance(content, list) else [content]
    return "\n".join(
        str(part["text"])
        if isinstance(part, dict) and "text" in part
        else part
        if isinstance(part, str)
        else orjson.dumps(part).decode()
        for part in parts
    )


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain_cell(text: str) -> str:
    """Undo what `to_csv` does to a cell that looks like a formula."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def read_sheet(path: str | os.PathLike) -> Sheet:
    """Read a sheet back from any of its forms; labels in it are left to `taut.labels.answers`.

    Raises:
        LogError: The file is no sheet of taut's, or was changed.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    try:
        data = Path(name).read_bytes()
    except OSError as problem:
        raise LogError(f"{name}: expected a sheet, found {problem.strerror or problem}.") from None
    if suffix == ".html":
        from taut.labels.page import unpack

        return unpack(data, name)
    rows = _csv_rows(data) if suffix == ".csv" else _json_rows(data, name)
    return _sheet(rows, name)


def _csv_rows(data: bytes) -> Iterator[dict]:
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    for row in csv.DictReader(text):
        cells = {key: plain_cell(value) for key, value in row.items() if key and value is not None}
        yield {KEY: cells.pop(KEY, ""), **cells}


def _json_rows(data: bytes, name: str) -> Iterator[dict]:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as problem:
                raise LogError(f"{name}:{number}: expected JSON, found {problem}.") from None


def _sheet(rows: Iterator[dict], name: str) -> Sheet:
    design, items, annotator = None, [], ""
    for row in rows:
        if row.get(KEY) and design is None:
            design = read_design(row[KEY], name)
        if "rollout_id" in row:
            items.append(
                Item(
                    rollout_id=str(row["rollout_id"]),
                    prompt=row.get("prompt") or None,
                    response=row.get("response") or None,
                    label_probability=float(row["label_probability"]),
                    unit=int(row["unit"]),
                )
            )
            annotator = row.get("annotator") or annotator
    if design is None:
        raise LogError(f"{name}: expected the design of a sheet ('{KEY}'), found none.")
    return Sheet(design=design, items=tuple(items), annotator=annotator)


def make_sheets(
    design: SheetDesign, items: Sequence[Item], *, annotators: Sequence[str] = ()
) -> tuple[Sheet, ...]:
    """Return one sheet, or one for each annotator, with `design.overlap` units in all of them."""
    import numpy as np

    from taut.labels.draw import assign

    if not annotators:
        return (Sheet(design=design, items=tuple(items)),)
    units = np.array([item.unit for item in items])
    shares = assign(units, len(annotators), design.overlap)
    return tuple(
        Sheet(design=design, items=tuple(items[i] for i in share), annotator=name)
        for name, share in zip(annotators, shares, strict=True)
    )

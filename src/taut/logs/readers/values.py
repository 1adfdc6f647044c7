"""Single values as people write them: true for 1, "0.5" for 0.5, "40" for step 40, each noted.

A value that has one plain meaning is read, and a note says so; every other one is a problem of its
row, with what to do about it.
"""

import json
import math
from decimal import Decimal

import numpy as np

from taut.logs.reduce import Problems
from taut.logs.schema import EXPECTED, column
from taut.logs.text import safe

_LIMITS = np.iinfo(np.int64)
_TRUTH = {"true": True, "false": False, "True": True, "False": False, "1": True, "0": False}


def shown(value: object) -> str:
    """Return a value as a person would name it, short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    if isinstance(value, Decimal):
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    text = safe(text, limit=40)
    return f"the text {text}" if isinstance(value, str) else text


def as_number(native: str, row: int, value: object, problems: Problems) -> float:
    """Return a value as a number; NaN, with a problem of its row, where it is none."""
    kind = type(value)
    if kind is bool:
        problems.note(f"'{native}' holds true and false; read as 1 and 0")
        return float(value)
    if kind is int or kind is float or kind is Decimal:
        return _float(value)
    if kind is str:
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is not None and "_" not in value:
            problems.note(f"'{native}' holds numbers as text; read as numbers")
            return number
    problems.add(row, native, f"is {shown(value)}; {_way_on(native, value)}")
    return math.nan


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond float64
        return math.inf


def _way_on(native: str, value: object) -> str:
    """Say what to do with a value that is no number."""
    expected = f"expected {EXPECTED['float']}"
    if native == "gold" and isinstance(value, str):
        return (
            f"{expected}: 'gold' is the true reward. If yours is the right answer, leave it out "
            "(--map gold=), or score the rollouts against it and log that"
        )
    if isinstance(value, str) and value in _TRUTH:
        return f"{expected}: say what it means, --map-value {native}:True=1,False=0"
    if isinstance(value, str) and value in ("C", "I", "P", "N"):
        return f"{expected}: say what letters mean, --map-value {native}:C=1,I=0"
    if isinstance(value, str):
        word = value if value.isidentifier() else "TEXT"
        return f"{expected}: say what it means, --map-value {native}:{word}=1,…"
    if isinstance(value, list):
        return (
            f"{expected}: say what to make of it, --map {native}=PATH.0, "
            f"--map '{native}=sum(PATH)' or --map '{native}=last(PATH)'"
        )
    if isinstance(value, dict) and value:
        names = [safe(name, limit=40) for name in value]
        total = "+".join(f"1.0*PATH.{name}" for name in names[:4])
        return f"{expected}: say which, --map {native}=PATH.{names[0]}, or --map '{native}={total}'"
    return expected


def as_integer(native: str, row: int, value: object, problems: Problems) -> int:
    """Return a value as a 64-bit integer; -1, with a problem of its row, where it is none."""
    number = value
    if isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        if number is not None:
            problems.note(f"'{native}' holds integers as text; read as integers")
    elif isinstance(value, float | Decimal):
        number = int(value) if math.isfinite(value) and value == int(value) else None
    elif type(value) is not int:
        number = None
    if number is None or not _LIMITS.min <= number <= _LIMITS.max:
        expected = "a 64-bit integer" if isinstance(value, int | float) else EXPECTED["int"]
        remedy = f": correct it, or leave the column out, --map {native}="
        problems.add(row, native, f"is {shown(value)}; expected {expected}{remedy}")
        return -1
    return number


def as_bool(native: str, row: int, value: object, problems: Problems) -> bool:
    """Return a value as true or false; False, with a problem of its row, where it is neither."""
    if type(value) is bool:
        return value
    known = (
        _TRUTH.get(str(int(value)) if isinstance(value, float | int) and value in (0, 1) else value)
        if isinstance(value, str | int | float)
        else None
    )
    if known is None:
        problems.add(row, native, f"is {shown(value)}; expected {EXPECTED[column(native).kind]}")
        return False
    problems.note(f"'{native}' holds true and false as {shown(value)}; read as such")
    return known

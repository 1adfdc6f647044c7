"""A training recipe: TOML in, frozen settings out; what is wrong is named with its place."""

import difflib
import tomllib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from taut.errors import UsageError
from taut.training.pipeline.kinds import Table, expected, section
from taut.training.pipeline.settings import Recipe


def read_recipe(
    path: str | Path, *, changes: Mapping[str, str] | None = None, output: str | None = None
) -> Recipe:
    """Read a recipe from a TOML file.

    Args:
        path: The file; relative paths in it are taken from its folder.
        changes: Dotted keys to values as TOML writes them (plain words need no quotes), in place
            of what the file says. Relative paths in them are taken from the file's folder, too.
        output: Folder in place of output.folder, relative to the working folder.

    Raises:
        UsageError: The file cannot be read, or a key or value is wrong: file, key, what was
            expected and found, and a key that is close.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"{path}: expected a recipe, found {problem.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: expected TOML, found an error: {problem}.") from None
    for key, value in (changes or {}).items():
        _change(table, key, _toml_value(value), path)
    if output is not None:
        _change(table, "output.folder", str(Path(output).expanduser().absolute()), path)
    return parse_recipe(table, path)


def parse_recipe(table: Mapping[str, Any], path: str | Path = "recipe") -> Recipe:
    """Check a recipe that is already a dictionary.

    Raises:
        UsageError: As for `read_recipe`.
    """
    try:
        return Recipe.model_validate(table, context={"folder": Path(path).parent})
    except ValidationError as problem:
        # A key that is unknown first: a mistyped one is missing as well.
        errors = sorted(problem.errors(), key=lambda error: error["type"] != "extra_forbidden")
        raise UsageError(f"{path}: {_message(errors[0], table)}") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _change(table: dict, key: str, value: Any, path: Path) -> None:
    *tables, last = key.split(".")
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {key}: '{name}' is a value, not a table.")
    table[last] = value


def _message(error: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say an error of pydantic in the words of the recipe."""
    record: type[Table] = Recipe
    where: list[str] = []
    for name in map(str, error["loc"]):
        field = record.model_fields.get(name)
        if field is None:
            return _unknown(where, name, list(record.model_fields))
        where.append(name)
        inner = section(field)
        if inner is None:  # what follows lies within the value
            break
        record = inner
    dotted, kind = ".".join(where), error["type"]
    if kind == "value_error" and (not where or inner is not None):
        return str(error["ctx"]["error"])  # of several settings together
    if kind == "missing" and inner is not None:
        return f"expected a table [{dotted}], found none; docs/training-recipe.md has an example."
    if inner is not None:
        return f"[{dotted}]: expected a table, found {_found(error['input'])}."
    if kind == "missing":
        return f"{dotted}: expected {expected(field)}, found nothing; add it."
    value = reduce(lambda table, name: table[name], where, given)
    return f"{dotted}: expected {expected(field)}, found {_found(value)}."


def _unknown(where: list[str], name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}."
    return f"unknown key '{'.'.join([*where, name])}'; {hint}"


def _found(value: Any) -> str:
    kinds = {dict: "a table", list: f"a list {value!r}", str: f"text {value!r}"}
    return kinds.get(type(value), repr(value).lower() if isinstance(value, bool) else repr(value))


def differences(old: Mapping, new: Mapping, where: str = "") -> list[str]:
    """Return the dotted keys, with both values, in which two recipe documents differ."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        dotted = f"{where}.{name}" if where else name
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, dotted)
        elif before != after:
            found.append(f"{dotted} was {before!r}, is {after!r}")
    return found

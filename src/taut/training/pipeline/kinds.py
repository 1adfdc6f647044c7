"""What a setting of a recipe may be: the kinds of values, each with its words for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
)
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Expected:
    """What a value may be, in the words of error messages and of the page."""

    words: str


class Table(BaseModel):
    """A table of a recipe: no unknown keys, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def setting(meaning: str, *, default: Any = ..., unit: str = "", sample: Any = None) -> Any:
    """Return a field of a table, with all that the page needs.

    Args:
        meaning: What it does, in a line.
        default: Its default; without one it is required.
        unit: Of its value.
        sample: A value to show, where it has no default or none that TOML can write.
    """
    examples = None if sample is None else [sample]
    extra = {"unit": unit} if unit else None
    return Field(default, description=meaning, examples=examples, json_schema_extra=extra)


def section(field: FieldInfo) -> type[Table] | None:
    """Return the table that a field holds, or None where it holds a value."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Table)), None)


def expected(field: FieldInfo) -> str:
    """Return what the values of a field may be, in words."""
    kinds = [field.annotation, *get_args(field.annotation)]
    notes = [*field.metadata, *(n for k in kinds for n in getattr(k, "__metadata__", ()))]
    words = next((note.words for note in notes if isinstance(note, Expected)), None)
    if words is None and get_origin(field.annotation) is Literal:
        words = " or ".join(f'"{choice}"' for choice in get_args(field.annotation))
    return words or ""


def _written(value: str) -> str:
    if not value.strip():
        raise ValueError
    return value


def _place(value: str, info: ValidationInfo) -> str:
    """Take a path from the folder of the recipe."""
    folder = Path((info.context or {}).get("folder", "."))
    return str((folder / Path(_written(value)).expanduser()).resolve())


def _model(value: str, info: ValidationInfo) -> str:
    """Take a folder, where there is one, else a name that must be in the local cache."""
    place = _place(value, info)
    return place if value.startswith((".", "/", "~")) or Path(place).exists() else value


def _function(value: str) -> str:
    module, sign, name = value.partition(":")
    if not (sign and name.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        raise ValueError
    return value


def _ascending(values: tuple) -> tuple:
    if sorted(set(values)) != list(values):
        raise ValueError
    return values


def _distinct(values: tuple) -> tuple:
    if len(set(values)) != len(values):
        raise ValueError
    return values


_Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]
_Whole = Annotated[int, Strict()]

Switch = Annotated[bool, Strict(), Expected("true or false")]
Natural = Annotated[_Whole, Field(ge=0), Expected("an integer, 0 or more")]
Count = Annotated[_Whole, Field(ge=1), Expected("an integer, 1 or more")]
AtLeastTwo = Annotated[_Whole, Field(ge=2), Expected("an integer, 2 or more")]
AtLeastEight = Annotated[_Whole, Field(ge=8), Expected("an integer, 8 or more")]
Positive = Annotated[_Real, Field(gt=0), Expected("a number above 0")]
NonNegative = Annotated[_Real, Field(ge=0), Expected("a number, 0 or more")]
Fraction = Annotated[_Real, Field(gt=0, lt=1), Expected("a number in (0, 1)")]
Share = Annotated[_Real, Field(gt=0, le=1), Expected("a number in (0, 1]")]
Quantile = Annotated[_Real, Field(ge=0, lt=0.5), Expected("a number in [0, 0.5)")]
Clip = Annotated[
    Annotated[_Real, Field(gt=0)] | Literal["quantile", "none"],
    Expected('a number of nats above 0, "quantile" or "none"'),
]
Ends = Annotated[
    tuple[_Real, _Real],
    AfterValidator(_ascending),
    Expected("two numbers, the lower one first, as in [-4.0, 4.0]"),
]
Sizes = Annotated[
    tuple[Annotated[_Whole, Field(gt=0)], ...],
    AfterValidator(_ascending),
    Expected("a list of integers, each above 0 and above the one before"),
]
Words = Annotated[tuple[str, ...], AfterValidator(_distinct), Expected("a list of words")]
Stages = Annotated[
    tuple[Literal["sft", "reward_model", "policy"], ...],
    AfterValidator(_distinct),
    Expected("a list of words, each of sft, reward_model, policy"),
]
File = Annotated[str, AfterValidator(_place), Expected("the path of a file")]
Folder = Annotated[str, AfterValidator(_place), Expected("the path of a folder")]
ModelFolder = Annotated[
    str,
    AfterValidator(_model),
    Expected("the folder of a model (or the name of one in the local cache)"),
]
Function = Annotated[
    str,
    AfterValidator(_function),
    Expected('a function of an installed module, as in "mypackage.rewards:score"'),
]

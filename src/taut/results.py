"""Results are documents: typed records, returned, printed, dumped and read back (design §5).

Each verb returns one model, whose JSON is the published contract. Numbers in a document are finite
or null; the same input, seed and version give the same bytes.
"""

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator


def tidy(value: Any) -> Any:
    """Replace what a document does not hold: non-finite numbers by None, -0.0 by 0.0."""
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: tidy(item) for name, item in value.items()}
    if type(value) in (tuple, list):
        return tuple(map(tidy, value))
    return value


class Part(BaseModel):
    """A part of a document: frozen, with nothing in it that was not asked for."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _tidied(cls, values: Any) -> Any:
        return tidy(values) if isinstance(values, dict) else values


class Document(Part):
    """A whole document: a result of one verb.

    Attributes:
        schema_name: The contract that its JSON follows, `schema` in JSON.
        version: The version of taut that wrote it.
    """

    SCHEMAS: ClassVar[dict[str, type["Document"]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Remember which model reads which schema."""
        super().__pydantic_init_subclass__(**kwargs)
        field = cls.model_fields.get("schema_name")
        if field is not None and isinstance(field.default, str):
            Document.SCHEMAS[field.default] = cls

    @property
    def document(self) -> dict[str, Any]:
        """The result as plain data, as its JSON holds it."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Return the result as JSON: finite numbers or null, always the same bytes."""
        return json.dumps(self.document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.door import report_text

        return report_text(self)

    def _repr_html_(self) -> str:
        from taut.report.door import report_html

        return report_html(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a result back from its JSON."""
        return cls.model_validate_json(text)


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of a slotted record by name."""
    return {name: getattr(record, name) for name in record.__slots__}


def plain_data(value: Any) -> Any:
    """Replace what JSON cannot hold: non-finite numbers by None, enums and tuples by plain data."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        # -0.0 and 0.0 are one number; bytes must not depend on which one came out.
        return value + 0.0 if math.isfinite(value) else None
    return value

"""Results are documents: typed records, returned, printed, dumped and read back (design §5).

Each verb returns one model, whose JSON is the published contract. Numbers in a document are finite
or null; the same input, seed and version give the same bytes.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from taut.errors import UsageError

if TYPE_CHECKING:
    import pandas


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

    @property
    def document(self) -> dict[str, Any]:
        """The result as plain data, as its JSON holds it."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Return the result as JSON: finite numbers or null, always the same bytes."""
        return json.dumps(self.document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def save(self, path: str | os.PathLike) -> None:
        """Write the result, whole or not at all: as JSON, or as a page to read.

        Args:
            path: A name that ends in .json, which `taut.load` reads back, or in .html.

        Raises:
            UsageError: Another ending.
            LogError: The file cannot be written.
        """
        from taut.report.door import save

        save(self, path)

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.door import report_text

        return report_text(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a result back from its JSON."""
        return cls.model_validate_json(text)


def html_of(shown: Any) -> str:
    """Return a result, or a log, as a fragment of HTML for notebooks."""
    from taut.report.door import report_html

    return report_html(shown)


def frame(rows: Sequence[Mapping[str, Any]]) -> "pandas.DataFrame":
    """Return rows as a table of pandas, a column a key; None becomes NaN in numbers.

    Raises:
        UsageError: pandas is not installed; taut itself does not need it.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_frame() needs pandas: pip install pandas.") from error
    return pandas.DataFrame.from_records([dict(row) for row in rows])

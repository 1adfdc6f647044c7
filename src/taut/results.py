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
    import altair
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

    def save(self, path: str | os.PathLike[str], chart: str | None = None) -> None:
        """Write the result, whole or not at all: as JSON, as a page to read, or as a picture.

        Args:
            path: A name that ends in .json, which `taut.load` reads back, in .html, .svg or .png.
            chart: Which of its charts the picture is; the first by default.

        Raises:
            UsageError: Another ending; no such chart; the extra `report` is not installed.
            LogError: The file cannot be written.
        """
        from taut.report.door import save

        save(self, path, chart)

    def chart(self, name: str | None = None) -> "altair.TopLevelMixin":
        """Return a chart of the result, for a notebook or to change it: an object of Altair.

        Args:
            name: Which one; the first by default. A wrong name says which there are.

        Raises:
            UsageError: No such chart; the extra `report` is not installed.
        """
        return chart_of(self, name)

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


def chart_of(shown: Any, name: str | None) -> "altair.TopLevelMixin":
    """Return a chart of a result, or of a log."""
    from taut.report.door import altair_chart

    return altair_chart(shown, name)


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

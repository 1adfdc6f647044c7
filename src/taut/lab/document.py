"""The outcome of an experiment as a document, `taut.lab/1`."""

from typing import Literal

from pydantic import ConfigDict, Field

from taut.results import Document
from taut.version import __version__


class Outcome(Document):
    """What an audit said of a run whose truth is known, and whether it was right."""

    model_config = ConfigDict(extra="allow")

    schema_name: Literal["taut.lab/1"] = Field("taut.lab/1", alias="schema")
    version: str = __version__

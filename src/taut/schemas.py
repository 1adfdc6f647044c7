"""Every document that taut writes, so that `taut.load` and the schemas know them all."""

import json
from pathlib import Path

from taut.auditing.certificate import Certificate, Certificates, Health
from taut.decisions.selection.result import Selection
from taut.decisions.stopping.result import MonitorResult, WatchResult
from taut.decisions.transport.result import Transport
from taut.errors import LogError
from taut.results import Document

DOCUMENTS = (Certificate, Certificates, Health, Selection, Transport, MonitorResult, WatchResult)


def load(path: str | Path) -> Document:
    """Read a result back from a JSON file that taut wrote.

    Raises:
        LogError: The file is no JSON, or of a schema that this version does not read.
    """
    text = Path(path).read_bytes()
    try:
        name = json.loads(text).get("schema")
    except (ValueError, AttributeError) as error:
        raise LogError(f"{path}: expected a JSON document that taut wrote: {error}.") from error
    model = Document.SCHEMAS.get(str(name))
    if model is None:
        known = ", ".join(sorted(Document.SCHEMAS))
        raise LogError(f"{path}: schema {name!r}; this version reads {known}.")
    return model.from_json(text)

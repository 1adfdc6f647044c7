"""Every document that taut writes: read back by its schema, and its JSON Schema as a file.

`python -m taut.schemas DIR` writes one JSON Schema a document.
"""

import json
import os
import sys
from pathlib import Path

from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates
from taut.auditing.health import Health
from taut.decisions.budget.result import Plan
from taut.decisions.comparison.result import PolicyComparison
from taut.decisions.selection.result import Selection
from taut.decisions.stopping.result import MonitorResult, WatchResult
from taut.decisions.threshold.result import ClipThreshold
from taut.decisions.transport.result import Transport
from taut.errors import LogError
from taut.lab.outcome import Outcome
from taut.results import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS: dict[str, type[Document]] = {
    model.model_fields["schema_name"].default: model
    for model in (
        Certificate,
        Certificates,
        ClipThreshold,
        Health,
        MonitorResult,
        Outcome,
        Plan,
        PolicyComparison,
        Selection,
        Transport,
        WatchResult,
    )
}


def load(path: str | os.PathLike[str]) -> Document:
    """Read a result back from a JSON file, or from a page (`--html`), that taut wrote.

    Raises:
        LogError: The file cannot be read, is no JSON, or of a schema that this version does not
            read.
    """
    from taut.report.page import document_in, is_page

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise LogError(f"{path}: expected a file to read: {error.strerror}.") from error
    if is_page(text):
        text = document_in(text, str(path)).encode()
    try:
        name = json.loads(text).get("schema")
    except (ValueError, AttributeError) as error:
        raise LogError(f"{path}: expected a JSON document that taut wrote: {error}.") from error
    model = DOCUMENTS.get(str(name))
    if model is None:
        known = ", ".join(sorted(DOCUMENTS))
        raise LogError(f"{path}: schema {name!r}; this version reads {known}.")
    try:
        return model.from_json(text)
    except ValueError as error:
        raise LogError(f"{path}: not a document of schema {name}: {error}") from error


def json_schemas() -> dict[str, str]:
    """Return the JSON Schema of each document as text, by the name of its file."""
    found = {}
    for name, model in DOCUMENTS.items():
        schema = {"$schema": DIALECT} | model.model_json_schema(mode="serialization")
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        found[f"{name.replace('/', '-')}.json"] = f"{text}\n"
    return found


def main(arguments: list[str]) -> None:
    """Write the JSON Schemas into the folder that is named."""
    if len(arguments) != 1:
        sys.exit("usage: python -m taut.schemas DIR")
    (folder,) = arguments
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in json_schemas().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

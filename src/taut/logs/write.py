"""Files that appear whole or not at all: rejected rows, and the reduced native log."""

import os
import tempfile
from collections.abc import Iterable, Sequence

import orjson

from taut.errors import LogError
from taut.logs.reduce import Rejected


class RejectedRows:
    """A file of rejected rows, as JSON lines; it takes its name when the reader is through."""

    def __init__(self, path: str | os.PathLike | None, *, avoid: Sequence[str] = ()) -> None:
        self._path = None if path is None else os.fspath(path)
        if self._path is not None:
            refuse_overwrite(self._path, avoid)
        self._file = None

    def __enter__(self) -> "RejectedRows":
        if self._path is not None:
            self._file = open_beside(self._path)
        return self

    def add(self, rows: Iterable[Rejected]) -> None:
        """Append rows."""
        for row in rows:
            line = {"file": row.file, "row": row.row, "column": row.column, "problem": row.problem}
            if row.text is not None:
                line["text"] = row.text.decode(errors="replace")
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is None:
            os.replace(self._file.name, self._path)
        else:
            os.unlink(self._file.name)


def refuse_overwrite(path: str, inputs: Sequence[str]) -> None:
    """Raise where an output would replace one of the inputs.

    Raises:
        LogError: The output is an input.
    """
    for name in inputs:
        if os.path.realpath(name) == os.path.realpath(path):
            raise LogError(
                f"{path}: expected a new file to write, found one of the inputs; "
                "choose another name."
            )


def open_beside(path: str):
    """Return a temporary binary file in the folder of `path`, to be renamed to it.

    Raises:
        LogError: The folder does not exist or cannot be written.
    """
    folder, name = os.path.split(path)
    try:
        return tempfile.NamedTemporaryFile(
            dir=folder or ".", prefix=f".{name}.", suffix=".part", delete=False
        )
    except OSError as problem:
        raise LogError(
            f"{path}: expected a folder that can be written, found {problem.strerror}; "
            "choose another name."
        ) from None

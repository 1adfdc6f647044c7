"""How a page was made: the command, the log with its hashes, when and by which version."""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taut.report.page.blocks import Block, Table, Text
from taut.version import __version__

MOST_HASHED = 2 << 30  # bytes of a log that are read once more for its hashes
MOST_FILES = 200


@dataclass(frozen=True)
class File:
    """A file of a log: its name as it was given, its bytes, and their hash where it was taken."""

    name: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Made:
    """How a page was made.

    Attributes:
        command: As it was typed; "" from Python.
        log: Files that were read.
        more: Files beyond those that are listed.
        at: Date and time, UTC.
        version: Of taut.
    """

    command: str = ""
    log: tuple[File, ...] = ()
    more: int = 0
    at: str = ""
    version: str = __version__

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Made":
        """Read it back.

        Raises:
            ValueError: It is of another shape.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            return cls(**{**found, "log": tuple(File(**item) for item in found["log"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not how a page was made: {error}") from error

    def lines(self) -> list[Block]:
        """Return it as blocks; nothing where nothing is known."""
        found: list[Block] = [Text(self.command, "code")] if self.command else []
        if self.log:
            rows = [(item.name, f"{item.size:,}", item.sha256 or "not taken") for item in self.log]
            titles = ("file of the log", "bytes", "SHA-256")
            found.append(Table(titles, rows, {1}, "Files of the log"))
        if self.more:
            found.append(Text(f"And {self.more:,} more files."))
        if self.at:
            found.append(Text(f"Made {self.at} by taut {self.version}.", "quiet"))
        return found


def made_by(arguments: Sequence[str], paths: Iterable[str | os.PathLike[str]]) -> Made:
    """Return how a page is being made.

    Args:
        arguments: Of the command line, without the program.
        paths: Files of the log; those that are no file here are named and not hashed.
    """
    found = [os.fspath(path) for path in paths]
    files, read = [], 0
    for name in found[:MOST_FILES]:
        size = os.path.getsize(name) if os.path.isfile(name) else 0
        read += size
        hashed = os.path.isfile(name) and read <= MOST_HASHED
        files.append(File(name, size, _sha256(name) if hashed else ""))
    epoch = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return Made(
        command=shlex.join(["taut", *arguments]) if arguments else "",
        log=tuple(files),
        more=max(len(found) - MOST_FILES, 0),
        at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(epoch)),
    )


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

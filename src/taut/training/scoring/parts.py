"""Progress on disk: whole part files in one folder, which a killed run goes on from.

A part takes its name when it is complete, so that a file that is there is right. The folder says
whose parts they are (inputs, models, settings, versions); a run with others is refused.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from taut.errors import LogError
from taut.logs.write import whole_file

try:
    import fcntl
except ImportError:  # not on Windows: two runs at once are then not noticed
    fcntl = None


INDEX = "rows.json"  # says that the whole log has been read; scoring begins after it


class Parts:
    """The folder of parts of one output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Return whether a part is complete."""
        return (self.folder / name).exists()

    def write_table(self, name: str, table: pa.Table) -> None:
        """Keep a table."""
        with whole_file(str(self.folder / name)) as file:
            pq.write_table(table, file, compression="lz4")

    def read_table(self, name: str) -> pa.Table:
        """Return a table that was kept."""
        return pq.read_table(self.folder / name, memory_map=False)

    def write_json(self, name: str, value: dict) -> None:
        """Keep plain data."""
        with whole_file(str(self.folder / name)) as file:
            file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))

    def read_json(self, name: str) -> dict:
        """Return plain data that was kept."""
        return orjson.loads((self.folder / name).read_bytes())


def parts_folder(output: str) -> Path:
    """Return where the progress of an output is kept: beside it, hidden from readers of folders."""
    folder, name = os.path.split(output)
    return Path(folder) / f".{name}.parts"


@contextmanager
def open_parts(output: str, settings: dict, *, restart: bool) -> Iterator[Parts]:
    """Open the parts of an output, new or those of the same run; no other run may then do so.

    Args:
        output: File that the parts are for.
        settings: Whatever decides their content, as plain data.
        restart: Throw away what is there.

    Raises:
        LogError: They belong to other inputs, models or settings, or another run is at work.
    """
    folder = parts_folder(output)
    try:
        folder.mkdir(exist_ok=True)
        lock = open(folder / "lock", "wb")  # noqa: SIM115 - closed below
    except OSError as problem:
        raise LogError(
            f"{output}: expected a folder that can be written, found {problem.strerror}; choose "
            "another place."
        ) from None
    with lock:
        _take(lock, output)
        parts = Parts(folder)
        if restart or not parts.has(INDEX):
            _clear(folder)
        if parts.has("settings.json"):
            _check_same(parts.read_json("settings.json"), settings, folder)
        else:
            parts.write_json("settings.json", settings)
        _drop_halves(folder)
        try:
            yield parts
        finally:
            if not parts.has(INDEX):  # nothing was scored: nothing is worth going on from
                remove_parts(output)


def remove_parts(output: str) -> None:
    """Remove the parts of a finished output."""
    shutil.rmtree(parts_folder(output), ignore_errors=True)


def _take(lock, output: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LogError(
            f"{output}: another taut score is writing it; wait for it, or choose another output."
        ) from None


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _drop_halves(folder: Path) -> None:
    """Remove what a killed run left half written; whole parts have other names."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):
            path.unlink()


def _check_same(there: dict, here: dict, folder: Path) -> None:
    here = orjson.loads(orjson.dumps(here))
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise LogError(
                f"{folder}: an unfinished run with another {name.replace('_', ' ')} is here "
                f"({_short(there.get(name))}, now {_short(here.get(name))}); finish that one, or "
                "begin again with --restart."
            )


def _short(value) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"

"""Which files are meant, and what is really in them: paths, globs, folders, magic bytes."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from taut.errors import LogError

LOG_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")
_PACKED = tuple(suffix + codec for suffix in LOG_SUFFIXES for codec in (".gz", ".zst"))
_HEAD = 4096

Codec = Literal["gzip", "zstd"]
_CODECS: dict[bytes, Codec] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# What people hand over by mistake: magic bytes, name, remedy.
_FOREIGN = (
    (b"BZh", "bzip2 data", "compress with gzip or zstd"),
    (b"\xfd7zXZ", "xz data", "compress with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "lz4 data", "compress with gzip or zstd"),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"ARROW1", "an Arrow IPC file", "write it as Parquet"),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"SQLite", "an SQLite database", "export the rollouts as Parquet or JSONL"),
    (b"\x80", "a pickle or other binary data", "export the rollouts as Parquet or JSONL"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of a log.

    Attributes:
        name: Path as the user wrote it, shown in messages.
        size: Bytes on disk.
        format: What the bytes are, whatever the suffix says.
        codec: Compression around the whole file, or None.
        first_line: Number of the first line that `open` gives, where a part of a file is meant.
        path: Where it is opened, as that of an open descriptor; None is by its name.
        data: Its bytes, where a part of a file is in memory.
    """

    name: str
    size: int
    format: Literal["parquet", "jsonl"]
    codec: Codec | None = None
    first_line: int = 1
    path: str | None = None
    data: bytes | None = None

    def open(self) -> "Stream":
        """Open the file for reading its decompressed bytes."""
        return Stream(self)


class Stream:
    """Decompressed bytes of a source, and how far into the file on disk they reach."""

    def __init__(self, source: Source) -> None:
        self._source = source
        held = source.data is not None
        self._file = pa.BufferReader(source.data) if held else pa.OSFile(source.path or source.name)
        self._bytes = (
            pa.CompressedInputStream(self._file, source.codec) if source.codec else self._file
        )

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end.

        Raises:
            LogError: The compressed data is damaged or cut off.
        """
        try:
            return self._bytes.read(size)
        except OSError as problem:
            raise self._damaged(problem) from None

    def _damaged(self, problem: OSError) -> LogError:
        return LogError(
            f"{self._source.name}: expected a whole {self._source.codec or 'file'} stream, found "
            f"it damaged or cut off ({_one_line(problem)}); copy or write the file again."
        )

    def fill(self, buffer: memoryview) -> int:
        """Read into a buffer; return the bytes read, fewer than it holds only at the end.

        Raises:
            LogError: The compressed data is damaged or cut off.
        """
        size = 0
        try:
            while size < len(buffer) and (got := self._bytes.readinto(buffer[size:])):
                size += got
        except OSError as problem:
            raise self._damaged(problem) from None
        return size

    def tell(self) -> int:
        """Return how many bytes of the file on disk have been read."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()
        self._file.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find(sources: str | os.PathLike | Iterable[str | os.PathLike]) -> tuple[Source, ...]:
    """Return the log files behind paths, globs and folders, each once, in a fixed order.

    Folders are searched to any depth for .parquet, .jsonl, .ndjson and .json files, also with .gz
    or .zst; hidden files and names that begin with "_" are left out. What a file holds is read
    from its first bytes, not from its name.

    Raises:
        LogError: Nothing is found, or a file is neither Parquet nor JSON lines.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not given:
        raise LogError("expected at least one log file, found none; name a file, folder or glob.")
    names: dict[str, str] = {}
    for item in given:
        for name in _expand(os.fspath(item)):
            names.setdefault(os.path.realpath(name), name)
    return tuple(sniff(name) for name in names.values())


def _expand(item: str) -> list[str]:
    if os.path.isdir(item):
        found = sorted(walk(item))
        if not found:
            raise LogError(
                f"{item}: expected log files in this folder ({', '.join(LOG_SUFFIXES)}, also .gz "
                f"or .zst), found {_listing(item)}; name the files or another folder."
            )
        return found
    if os.path.exists(item):
        return [item]
    if glob.has_magic(item):
        found = sorted(name for name in glob.glob(item, recursive=True) if os.path.isfile(name))
        if found:
            return found
        raise LogError(f"{item}: expected files that match, found none; check the pattern.")
    raise LogError(f"{item}: expected a file or folder, found nothing there; check the path.")


def walk(folder: str) -> Iterable[str]:
    """Yield the names in a folder that are a log's, at any depth; linked folders once each.

    Raises:
        LogError: A folder in it cannot be listed.
    """
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=_unlisted, followlinks=True):
        places = {name: os.path.realpath(os.path.join(parent, name)) for name in sorted(folders)}
        folders[:] = []
        for name, place in places.items():
            if name[0] not in "._" and place not in seen:
                seen.add(place)
                folders.append(name)
        for name in files:
            if name[0] not in "._" and name.lower().endswith(LOG_SUFFIXES + _PACKED):
                yield os.path.join(parent, name)


def _unlisted(problem: OSError) -> None:
    if not isinstance(problem, FileNotFoundError):  # gone since its parent was listed
        raise unreadable(problem.filename, problem)


def _listing(folder: str) -> str:
    names = sorted(os.listdir(folder))
    return f"only {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else "nothing"


def sniff(name: str, path: str | None = None) -> Source:
    """Return a file as a source, told by its first bytes.

    Args:
        name: Shown in messages.
        path: Where to open it, where that is not its name.

    Raises:
        LogError: The file is empty, unreadable, or neither Parquet nor JSON lines.
    """
    try:
        with open(path or name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
    except OSError as problem:
        raise unreadable(name, problem) from None
    if not head:
        raise LogError(f"{name}: expected rollouts, found an empty file (0 bytes); write it again.")
    codec = next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None)
    if codec:
        packed = Source(name=name, size=size, format="jsonl", codec=codec, path=path)
        with packed.open() as stream:
            head = stream.read(_HEAD)
        if not head:
            raise LogError(
                f"{name}: expected rollouts, found an empty {codec} stream; write it again."
            )
    return Source(name=name, size=size, format=_format(name, head), codec=codec, path=path)


def unreadable(name: str, problem: OSError) -> LogError:
    """Return the error for a file or folder that cannot be opened."""
    return LogError(
        f"{name}: expected a readable file, found {problem.strerror or problem}; "
        "check the path and its permissions."
    )


def _format(name: str, head: bytes) -> Literal["parquet", "jsonl"]:
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise LogError(f"{name}: expected Parquet or JSON lines, found {what}; {remedy}.")
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(b"["):
        raise LogError(
            f"{name}: expected one JSON object per line, found a JSON array; "
            f"write one object per line (jq -c '.[]' does it)."
        )
    if b"\0" in head:
        raise LogError(
            f"{name}: expected Parquet or JSON lines, found binary data or UTF-16 text; "
            "export the rollouts as Parquet or as UTF-8 JSON lines."
        )
    return "jsonl"


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160]

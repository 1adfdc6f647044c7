"""Which files are meant, and what is really in them: paths, globs, folders, pipes, magic bytes."""

import glob
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from taut.errors import LogError
from taut.logs import places
from taut.logs.signatures import Codec, Format, codec_of, format_of
from taut.logs.text import one_line, safe

LOG_SUFFIXES = (
    *(".parquet", ".jsonl", ".ndjson", ".json"),
    *(".arrow", ".feather", ".csv", ".eval"),
)
_PACKED = tuple(suffix + codec for suffix in LOG_SUFFIXES for codec in (".gz", ".zst"))
_HEAD = 4096
_SPARE = 1 << 30  # bytes to leave free on the disk of temporary files
PIPE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of a log.

    Attributes:
        name: Path as the user wrote it, shown in messages.
        size: Bytes on disk.
        format: What the bytes are, whatever the suffix says.
        codec: Compression around the whole file, or None.
        first_line: Number of the first line that `open` gives, where a part of a file is meant.
        listed: The file was found in a folder, not named: it may turn out to hold no rollouts.
        state: What tells whether the file is still the one that was found: device, inode, size
            and time of change; None where that is not watched.
        place: Path of the bytes, where they are not under `name` (a pipe, an open descriptor).
        data: The bytes themselves, where a part of a file is in memory.
        table: What the file would hold, where there is none: a table in memory.
        notes: What people should know of how the file was found.
        part: (i, n): of the runs of row groups of a Parquet file, the i-th of n parts.
    """

    name: str
    size: int
    format: Format
    codec: Codec | None = None
    first_line: int = 1
    listed: bool = False
    state: tuple[int, int, int, int] | None = None
    place: str | None = None
    data: bytes | None = None
    table: pa.Table | None = None
    notes: tuple[str, ...] = ()
    part: tuple[int, int] = (0, 1)

    @property
    def path(self) -> str:
        """Return the path of the bytes."""
        return self.place or self.name

    def open(self) -> "Stream":
        """Open the file for reading its decompressed bytes."""
        return Stream(self)

    def changed(self) -> LogError | None:
        """Return the error for a file that is no longer the one that was found."""
        if self.state is None:
            return None
        try:
            away = places.is_place(self.path)
            now = places.state_of(self.path) if away else _state(os.stat(self.path))
        except (OSError, LogError):
            now = None
        if now == self.state:
            return None
        return LogError(
            f"{safe(self.name)}: expected the file to stay as it is while it is read, found it "
            "changed or replaced; read it again when nothing writes to it (taut watch follows a "
            "log that grows)."
        )


class Stream:
    """Decompressed bytes of a source, and how far into the file on disk they reach."""

    def __init__(self, source: Source) -> None:
        self._source = source
        held = source.data is not None
        self._file = pa.BufferReader(source.data) if held else places.open_file(source.path)
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
            f"{safe(self._source.name)}: expected a whole {self._source.codec or 'file'} stream, "
            f"found it damaged or cut off ({one_line(problem)}); copy or write the file again."
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

    Folders are searched to any depth, through links, for files that end in LOG_SUFFIXES, also with
    .gz or .zst; hidden files and names that begin with "_" are left out, and so is what is no
    file. What a file holds is read from its first bytes, not from its name. "-" is what comes in
    through standard input.

    Raises:
        LogError: Nothing is found, or a file is none that can hold rollouts.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not given:
        raise LogError("expected at least one log file, found none; name a file, folder or glob.")
    places.read_whole.cache_clear()
    found: dict[tuple, tuple[str, bool]] = {}
    notes: list[str] = []
    for item in given:
        for name, listed in _expand(places.local_path(os.fspath(item)), notes):
            found.setdefault(_identity(name), (name, listed))
    out: list[Source] = []
    problem: LogError | None = None
    for name, listed in found.values():
        try:
            out.append(replace(sniff(name), listed=listed))
        except LogError as error:
            if not listed:
                raise
            problem = problem or error
            notes.append(f"passed over {error}")
    if not out:
        raise problem or LogError("expected at least one log file, found none.")
    return (replace(out[0], notes=tuple(notes)), *out[1:])


def named_files(item: str) -> list[str]:
    """Return the files that a path, glob or folder means; none where nothing is there."""
    try:
        if places.is_place(item):
            return []
        return [name for name, _ in _expand(item, []) if name != PIPE]
    except (LogError, OSError):
        return []


def _identity(name: str) -> tuple:
    """Return what tells files apart: hard links and links to a file are that file."""
    if name == PIPE or places.is_place(name):
        return (name,)
    try:
        status = os.stat(name)
    except OSError:
        return (os.path.realpath(name),)
    return (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(name),)


def _expand(item: str, notes: list[str]) -> list[tuple[str, bool]]:
    if item == PIPE:
        return [(PIPE, False)]
    if places.is_place(item):
        return places.expand(item, LOG_SUFFIXES + _PACKED)
    if os.path.isdir(item):
        found = sorted(walk(item, notes))
        if not found:
            raise LogError(
                f"{safe(item)}: expected log files in this folder ({', '.join(LOG_SUFFIXES)}, also "
                f".gz or .zst), found {_listing(item)}; name the files or another folder."
            )
        return [(name, True) for name in found]
    if os.path.lexists(item):
        return [(item, False)]
    if glob.has_magic(item):
        names = sorted(glob.glob(item, recursive=True))
        inside = [part for name in names if os.path.isdir(name) for part in walk(name, notes)]
        files = [name for name in names if os.path.isfile(name)]
        if files or inside:
            return [(name, False) for name in files] + [(name, True) for name in sorted(inside)]
        raise LogError(f"{safe(item)}: expected files that match, found none; check the pattern.")
    raise LogError(f"{safe(item)}: expected a file or folder, found nothing there; check the path.")


def walk(folder: str, notes: list[str] | None = None) -> Iterator[str]:
    """Yield what may hold rollouts; a folder that links lead to again is entered once.

    Raises:
        LogError: A folder in it cannot be listed.
    """
    notes = [] if notes is None else notes
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_unlisted, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in _of_dataset(parent, files):
            if name[0] in "._" or not name.lower().endswith(LOG_SUFFIXES + _PACKED):
                continue
            path = os.path.join(parent, name)
            if os.path.isfile(path):
                yield path
            else:
                notes.append(f"passed over {safe(path)}, which is {_kind(path)}")


def _of_dataset(folder: str, files: list[str]) -> list[str]:
    """Leave out what Hugging Face's `save_to_disk` puts beside the data, caches among it."""
    if not {"state.json", "dataset_info.json"} <= set(files):
        return files
    beside = {"state.json", "dataset_info.json", "dataset_dict.json"}
    return [name for name in files if name not in beside and not name.startswith("cache-")]


def _unlisted(problem: OSError) -> None:
    if not isinstance(problem, FileNotFoundError):  # gone since its parent was listed
        raise unreadable(problem.filename, problem)


def unreadable(name: str, problem: OSError) -> LogError:
    """Return the error for a file or folder that cannot be opened."""
    return LogError(
        f"{safe(name)}: expected a readable file, found {problem.strerror or problem}; "
        "check the path and its permissions."
    )


def _listing(folder: str) -> str:
    names = sorted(os.listdir(folder))
    shown = ", ".join(safe(name) for name in names[:3])
    return f"only {shown}{', …' if len(names) > 3 else ''}" if names else "nothing"


def _kind(path: str) -> str:
    """Say what a path is that is no file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "a link to nothing"
    kinds = {
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISDIR: "a folder",
    }
    return next((text for test, text in kinds.items() if test(mode)), "no file")


def sniff(name: str, path: str | None = None) -> Source:
    """Return a file as a source, told by its first bytes.

    Args:
        name: Shown in messages.
        path: Where to open it, where that is not its name: an open descriptor.

    Raises:
        LogError: The file is empty, unreadable, or none that can hold rollouts.
    """
    if name == PIPE or name.startswith(("/dev/fd/", "/proc/self/fd/")) or name == "/dev/stdin":
        return _from_pipe(name)
    if places.is_place(path or name):
        with places.open_file(path or name) as file:
            head = file.read(_HEAD)
        return _told(name, path or name, places.state_of(path or name), head)
    try:
        # A pipe without a writer would make `open` wait for ever.
        if not stat.S_ISREG(os.stat(path or name).st_mode):
            raise LogError(
                f"{safe(name)}: expected a file, found {_kind(name)}; for what comes through a "
                "pipe say - and redirect: taut … - < PIPE."
            )
        with open(path or name, "rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_HEAD)
    except OSError as problem:
        raise unreadable(name, problem) from None
    return _told(name, path or name, _state(status), head)


def _told(name: str, place: str, state: tuple[int, int, int, int], head: bytes) -> Source:
    if not head:
        raise LogError(
            f"{safe(name)}: expected rollouts, found an empty file (0 bytes); write it again."
        )
    source = Source(
        name=name,
        size=state[2],
        format="jsonl",
        codec=codec_of(head),
        state=state,
        place=None if place == name else place,
    )
    if source.codec:
        with source.open() as stream:
            head = stream.read(_HEAD)
        if not head:
            raise LogError(
                f"{safe(name)}: expected rollouts, found an empty {source.codec} stream; write it "
                "again."
            )
    return replace(source, format=format_of(safe(name), head))


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


_pipes: list = []  # temporary files live as long as the process: readers open them by path


def _from_pipe(name: str) -> Source:
    """Keep what comes through a pipe in a temporary file, since readers go back and forth."""
    held = temporary_file(suffix=".log")
    with open(sys.stdin.fileno() if name == PIPE else name, "rb", closefd=name != PIPE) as pipe:
        copy_bounded(pipe, held, name)
    _pipes.append(held)
    with open(held.name, "rb") as file:
        state, head = _state(os.fstat(file.fileno())), file.read(_HEAD)
    return _told("standard input" if name == PIPE else name, held.name, state, head)


def temporary_file(suffix: str):
    """Return an open temporary file with a path, which goes when it is closed."""
    return tempfile.NamedTemporaryFile(prefix="taut-", suffix=suffix)


def copy_bounded(read, write, name: str) -> None:
    """Copy a stream into a temporary file, and stop before the disk is full.

    Raises:
        LogError: There is too little room.
    """
    while piece := read.read(16 << 20):
        if shutil.disk_usage(os.path.dirname(write.name)).free < _SPARE + len(piece):
            raise LogError(
                f"{safe(name)}: expected room to unpack it in {os.path.dirname(write.name)}, found "
                "the disk nearly full; unpack it yourself, or set TMPDIR to a larger disk."
            )
        write.write(piece)
    write.flush()

"""New files and growing ones: every row once, none twice.

Of each file is remembered how far it was read and a checksum of that. What cannot be told apart
from a loss or a rewrite of counted rows is an error, not a guess.

* JSON lines grow: whole lines count; a last one without its newline waits.
* Parquet and compressed files count when they are whole. One that repeats what was read of it and
  has more, grown or replaced, counts its new rows.
* Hidden files, names that begin with "_" and endings that are not a log's (.tmp, .part, .1) are
  left alone. A file that is renamed or copied is another file.
"""

import os
import stat as modes
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from taut.engines.files import check_same, solid
from taut.engines.local import in_order
from taut.engines.seen import (
    KINDS,
    WINDOW,
    Known,
    Part,
    bytes_before,
    changed_meanwhile,
    check_bytes,
    mark_of,
    names,
    natural,
    opened,
    read_bytes,
    rewritten,
    row_keys_of,
    whole_lines,
)
from taut.errors import LogError
from taut.logs.plan import check_mapping
from taut.logs.read import Request, tasks
from taut.logs.reduce import Reduced
from taut.logs.sources import Source, sniff, unreadable


class Tail:
    """Reads what is new in a log, look by look.

    Args:
        sources: Files, globs and folders; they need not exist yet.
        mapping: Native column to column of the log, as for `read_rollouts`.
        ignore: Files that are not part of the log, wherever they lie.
        label: Gives each piece, which has `rollout_id` for that, gold labels of other files.

    Attributes:
        known: Files that were read, by name, in order of appearance.
        files: Files of the log that were there at the last look.
        incomplete: Those that are being written and wait: Parquet without its footer, compressed
            files that end early.
        notes: What else the reader should know of files.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        mapping: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
        label: Callable[[Reduced], Reduced] | None = None,
    ) -> None:
        self._label = label
        self.sources = [os.fspath(source) for source in sources]
        self._ignored = {os.path.realpath(name) for name in ignore}
        paths = dict(check_mapping(mapping))
        paths.pop("features", None)
        self._request = Request(
            paths=paths,
            mapped=frozenset(mapping or ()),
            wanted=frozenset({"prompt"} if label is None else {"prompt", "rollout_id"}),
        )
        self.known: dict[str, Known] = {}
        self._first: tuple[str, frozenset[str]] | None = None  # a file, and its columns
        self.files, self.incomplete, self.notes = 0, set(), []

    def look(
        self, *, final: bool = False, settled: Callable[[int], bool] = lambda stream: True
    ) -> Iterator[Part]:
        """Yield the rows that have come since the last look, step_2 before step_10.

        Args:
            final: The log is finished: what is there counts as closed, and must be whole.
            settled: Says whether no draw of a file waits for further rows; then it may go.

        Raises:
            LogError: A row or a file cannot be read; rows that were read are gone or changed.
        """
        self.incomplete, self.notes = set(), []
        there = self._discover()
        self.files = len(there)
        places = {tuple(mark[:2]): name for name, mark in there.items()}
        for known in self.known.values():
            self._check_place(known, there, settled)
        for name, mark in there.items():
            known = self.known.get(name)
            if known and known.mark == mark and not (final and known.grows):
                continue
            if not final and not os.path.exists(name):
                continue  # renamed since the folder was listed
            with opened(name) as file:
                mark = mark_of(os.fstat(file))
                if places.get(tuple(mark[:2]), name) == name:
                    yield from self._read(name, file, mark, final)
                elif final:
                    raise changed_meanwhile(name)
                else:
                    self.incomplete.add(name)  # another file of the log has come to this name

    def check(self) -> None:
        """Compare all that was read of files that grew with what they hold now.

        A look compares the last bytes only; a rewrite before them shows here.

        Raises:
            LogError: A file was rewritten.
        """
        for known in self.known.values():
            if known.loose and not known.gone:
                source = Source(name=known.path, size=known.offset, format="jsonl")
                with opened(known.path) as file:
                    check_bytes(known, source, file)
                known.loose = False

    def again(self) -> Iterator[Reduced]:
        """Yield once more all rows that were read of files that are there.

        Raises:
            LogError: A file can no longer be read.
        """
        for known in self.known.values():
            if known.gone or not known.rows:
                continue
            with opened(known.path) as file:
                left = known.rows
                for piece in self._once_more(known, file):
                    taken = {name: values[:left] for name, values in piece.columns.items()}
                    # What a file says of itself it says once.
                    facts = piece.facts if left == known.rows else None
                    left -= len(taken["reward"])
                    yield replace(piece, columns=taken, facts=facts)
                    if not left:
                        break

    def _once_more(self, known: Known, file: int) -> Iterator[Reduced]:
        source = self._source(known.path, file, os.fstat(file).st_size, final=True)
        if known.parquet:
            yield from self._pieces(source)
            return
        end = known.offset if known.grows else None
        for data in whole_lines(read_bytes(source, file, 0, end), last=True):
            if not data.isspace():
                lines = Source(name=known.path, size=len(data), format="jsonl", data=data)
                yield from self._pieces(lines)

    @property
    def lost(self) -> str | None:
        """A file that could still grow and is gone."""
        return next((item.path for item in self.known.values() if item.grows and item.gone), None)

    # --- which files -----------------------------------------------------------------------------

    def _discover(self) -> dict[str, list[int]]:
        """Return the files of the log that are there, each once whatever links lead to it."""
        found: dict[tuple[int, int], tuple[str, list[int]]] = {}
        for source in self.sources:
            for name in sorted(
                names(source, self.notes), key=lambda name: (name not in self.known, name)
            ):
                try:
                    stat = os.stat(name)
                except FileNotFoundError:
                    continue  # not there yet, or renamed since the folder was listed
                except OSError as problem:
                    raise unreadable(name, problem) from None
                if os.path.realpath(name) in self._ignored:
                    continue
                if not modes.S_ISREG(stat.st_mode):
                    self._no_file(name, name == source, modes.S_IFMT(stat.st_mode))
                elif stat.st_size or name in self.known:
                    found.setdefault((stat.st_dev, stat.st_ino), (name, mark_of(stat)))
        return dict(sorted(found.values(), key=lambda item: natural(item[0])))

    def _no_file(self, name: str, named: bool, kind: int) -> None:
        what = KINDS.get(kind, "a device")
        if named:
            raise LogError(
                f"{name}: expected a file or folder that can be read again, found {what}; write "
                "what comes from it to a file, and watch that."
            )
        self.notes.append(f"{name} is {what}, no file: left alone")

    def _check_place(
        self, known: Known, there: Mapping[str, list], settled: Callable[[int], bool]
    ) -> None:
        """Let a file go only when nothing of it is waited for."""
        known.gone = known.path not in there
        if not known.gone:
            return
        what = f"{known.rows} rows of it were read and counted"
        if not settled(known.stream):
            raise LogError(
                f"{known.path}: the file is gone while a prompt of it was not complete; {what}. "
                "Put it back under this name."
            )
        lost = " Rows written since the last look are lost." if known.grows else ""
        self.notes.append(f"{known.path} is gone; {what}.{lost}")

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, name: str, file: int, mark: list[int], final: bool) -> Iterator[Part]:
        """Yield what an open file holds behind what was read of it."""
        source = self._source(name, file, mark[2], final)
        if source is None:
            self.incomplete.add(name)
            return
        known = self.known.setdefault(name, Known(len(self.known), name))
        if known.offset and (source.format == "parquet") != known.parquet:
            raise rewritten(known)
        known.parquet = source.format == "parquet"
        known.grows = not known.parquet and source.codec is None
        if known.parquet:
            yield from self._parquet(known, source)
        else:
            grown = known.tail and mark[:2] == known.mark[:2] and mark[2] > known.mark[2]
            known.loose = bool(grown)
            check_bytes(known, source, file, whole=not grown)
            yield from self._lines(known, source, file, final)
        if not known.grows and mark_of(os.fstat(file)) != mark:
            raise changed_meanwhile(name)
        known.mark = mark
        if not known.grows:
            yield Part(known, known.rows + 1, None)

    def _source(self, name: str, file: int, size: int, final: bool) -> Source | None:
        """Return an open file as a source, or None while it is not whole."""
        if not size and not final:
            return None
        path = f"/dev/fd/{file}"  # opened there again, it is this file, whatever its name is now
        try:
            source = sniff(name, path if os.path.exists(path) else name)
            source = replace(source, size=size)  # it may have grown meanwhile
            whole = size >= 8  # fewer are too short to tell
            if source.codec and not final:
                for _ in read_bytes(source, file, 0, None):
                    pass
            if source.format == "parquet" and not source.codec:
                whole = size >= 12 and bytes_before(file, size, 4) == b"PAR1"
        except LogError:
            if final or bytes_before(file, 2, 2) not in (b"\x1f\x8b", b"\x28\xb5"):
                raise
            return None
        return source if whole or final else None

    def _lines(self, known: Known, source: Source, file: int, final: bool) -> Iterator[Part]:
        """Yield the rows of whole lines; where nothing comes behind them, of the last one too."""
        blocks = read_bytes(source, file, known.offset, source.size if known.grows else None)
        for data in whole_lines(blocks, last=final or not known.grows):
            if not data.isspace():
                lines = Source(
                    name=source.name,
                    size=len(data),
                    format="jsonl",
                    first_line=known.lines + 1,
                    data=data,
                )
                for piece in self._pieces(lines):
                    yield self._part(known, piece)
            known.crc, known.offset = zlib.crc32(data, known.crc), known.offset + len(data)
            known.lines += data.count(b"\n")
        known.tail = zlib.crc32(bytes_before(file, known.offset, WINDOW)) if known.grows else 0

    def _parquet(self, known: Known, source: Source) -> Iterator[Part]:
        """Check the rows that were read, and yield those behind them."""
        crc, left = 0, known.offset
        for piece in self._pieces(source):
            keys = row_keys_of(piece)
            if left:
                crc = zlib.crc32(keys[:left].tobytes(), crc)
                if keys.size >= left and crc != known.crc:
                    break
            if left < keys.size:
                known.crc = zlib.crc32(keys[left:].tobytes(), known.crc)
                known.offset += keys.size - left
                rows = {name: values[left:] for name, values in piece.columns.items()}
                yield self._part(known, replace(piece, columns=rows))
            left = max(left - keys.size, 0)
        if left:
            raise rewritten(known)

    def _part(self, known: Known, piece: Reduced) -> Part:
        self._first = self._first or (known.path, solid(piece))
        check_same(self._first, known.path, piece)
        part = Part(known, known.rows + 1, piece)
        known.rows += len(piece.columns["reward"])
        return part

    def _pieces(self, source: Source) -> Iterator[Reduced]:
        threads = min(os.cpu_count() or 1, 8)
        for task, pieces in in_order(tasks(source, self._request), threads):
            for piece in pieces:
                known = replace(piece, facts=task.plan.facts)
                yield known if self._label is None else self._label(known)

    # --- state -----------------------------------------------------------------------------------

    @property
    def state(self) -> dict:
        """What was read so far, as plain data for JSON."""
        return {
            "sources": self.sources,
            "first": self._first and [self._first[0], sorted(self._first[1])],
            "known": [asdict(known) for known in self.known.values()],
        }

    def restore(self, state: Mapping) -> None:
        """Go on behind what was read when the state was made."""
        self.known = {fields["path"]: Known(**fields) for fields in state["known"]}
        first = state["first"]
        self._first = first and (first[0], frozenset(first[1]))

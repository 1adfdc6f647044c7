"""The files of one log, read as one: each whole, and all of them alike.

Files of two writers, of training and validation, or with different columns are two logs: a mean
over both is a mean of neither.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from taut.engines.assemble import CLIPPED
from taut.errors import LogError
from taut.logs.layout import NoRollouts
from taut.logs.origin import Origin
from taut.logs.read import Request, Task, tasks
from taut.logs.reduce import Reduced
from taut.logs.schema import ANY, KEYS, LIST, REWARD_PART, SUMMAND, column
from taut.logs.sources import Source
from taut.logs.text import safe


class Files:
    """The files of one log while they are read: who wrote them, their columns, notes on them."""

    def __init__(self, notes: tuple[str, ...]) -> None:
        self._notes = list(notes)
        self._first: tuple[str, frozenset[str]] | None = None
        self._writer: tuple[str, Origin | None] | None = None
        self._reward: tuple[str, tuple[str, ...]] | None = None
        self._seen: set[str] = set()
        self.passed: LogError | None = None

    def tasks(self, files: tuple[Source, ...], request: Request) -> Iterator[Task]:
        """Yield the tasks of all files; those found in a folder may hold no rollouts."""
        for file in files:
            try:
                yield from tasks(file, request)
            except NoRollouts as problem:
                self.pass_over(file, problem)
            except LogError as problem:
                raise file.changed() or problem from None

    def pass_over(self, file: Source, problem: NoRollouts) -> None:
        """Note a file that holds no rollouts; one that was named must.

        Raises:
            NoRollouts: It was named.
        """
        if not file.listed:
            raise problem
        self.passed = self.passed or problem
        self._notes.append(f"passed over {problem}")

    def checked(self, task: Task, pieces: list[Reduced]) -> Iterator[Reduced]:
        """Yield the pieces of a task, the first of a file with what is known of the file."""
        name = safe(task.source.name)
        for piece in pieces:
            notes = piece.notes
            if task.source.name not in self._seen:
                self._seen.add(task.source.name)
                piece = replace(
                    piece,
                    left_out_before=task.plan.rejected_rows,
                    facts=task.plan.facts,
                )
                notes = (*task.plan.notes, *notes)
            self._writer = self._writer or (name, piece.origin)
            _check_origin(self._writer, name, piece.origin)
            self._reward = self._reward or (name, _reward_of(task))
            _check_reward(self._reward, name, _reward_of(task))
            self._first = self._first or (name, solid(piece))
            check_same(self._first, name, piece)
            yield replace(piece, notes=(*self._notes, *notes))
            self._notes = []

    def check_unchanged(self, files: tuple[Source, ...]) -> None:
        """Raise where a file is no longer the one that was found: part of it would be missing."""
        for file in files:
            problem = file.changed()
            if problem is not None:
                raise problem

    def check_rows(self, rows: int, files: tuple[Source, ...]) -> None:
        """Raise where no file had a row.

        Raises:
            LogError: With why the files that were passed over hold no rollouts.
        """
        if rows:
            return
        if self.passed is not None:
            raise self.passed
        names = ", ".join(safe(file.name) for file in files[:3])
        raise LogError(f"{names}: expected rollouts, found no row; check how the log was written.")


def _reward_of(task: Task) -> tuple[str, ...]:
    """Return the columns of a file that its reward is read from."""
    made = (REWARD_PART, f"{SUMMAND}reward", f"{ANY}reward", f"{LIST}reward")
    read = task.plan.read.items()
    return tuple(path for name, path in read if name == "reward" or name.startswith(made))


def _check_reward(first: tuple[str, tuple[str, ...]], file: str, reward: tuple[str, ...]) -> None:
    """Two files with two measures of success have no mean together."""
    other, known = first
    if reward != known:
        here, there = (" + ".join(f"'{safe(path)}'" for path in each) for each in (reward, known))
        raise LogError(
            f"{file}: the reward is {here}, in {other} it is {there}; read the files apart, or say "
            "which column is meant in all: --map reward=COLUMN."
        )


def _check_origin(first: tuple[str, Origin | None], file: str, origin: Origin | None) -> None:
    """Logs of two writers, or of training and validation, are two logs."""
    other, known = first
    if origin != known:
        raise LogError(
            f"{file}: expected a {_written(known)} log as {other} is, found a {_written(origin)} "
            "one; read them apart, or convert each and join what belongs together."
        )


def _written(origin: Origin | None) -> str:
    if origin is None:
        return "native"
    chosen = " dynamically sampled" if origin.chosen else ""
    return f"{origin.format}{chosen} {origin.part}".strip()


def solid(piece: Reduced) -> frozenset[str]:
    """Return the columns that all files must have or lack; clips at several constants may lack."""
    return frozenset(
        name
        for name, values in piece.columns.items()
        if not (column(name).nullable or name in KEYS or _clipped_at_several(name, values))
    )


def _clipped_at_several(name: str, values: np.ndarray | pa.Array) -> bool:
    return name == CLIPPED and values.ndim == 2


def check_same(first: tuple[str, frozenset[str]], file: str, piece: Reduced) -> None:
    """Raise where a piece lacks a column of the first file of its log, or has one more.

    A mean over some of the files says nothing.

    Args:
        first: A file, and its columns (`solid`).
        file: Where the piece is from.
        piece: Rows.
    """
    other, columns = first
    for name in sorted(columns ^ solid(piece)):
        has, lacks = (other, file) if name in columns else (file, other)
        raise LogError(
            f"{lacks}: expected '{name}', which {has} has; read files with the same columns "
            f"together, add the column, or leave it out of all: --map {name}=."
        )

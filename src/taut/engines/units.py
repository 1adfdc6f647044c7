"""Files as units of work for other machines: some small files, or some row groups of a large one.

A unit is read by the same code as on this machine, alone and in any order; results are taken in the
order of the log. So what comes out is the same to the bit, whoever read it, and however often.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from taut.errors import TautError
from taut.logs.layout import NoRollouts
from taut.logs.plan import Plan
from taut.logs.read import Request, tasks
from taut.logs.reduce import Reduced
from taut.logs.sources import Source

_BYTES = 64 << 20  # of a unit, as on disk
_FILES = 64  # of a unit


@dataclass(frozen=True, slots=True)
class Piece:
    """What a unit says of a task, or of a file that it could not read.

    Attributes:
        file: Which file of the unit.
        plan, bytes, pieces: As of `taut.logs.read.Task`, and its result; None with a problem.
        problem: Why the file, or the task, could not be read.
    """

    file: int
    plan: Plan | None
    bytes: float
    pieces: list[Reduced] | None
    problem: TautError | None = None


def units(files: tuple[Source, ...]) -> Iterator[tuple[Source, ...]]:
    """Cut a log into units, in its order; a large Parquet file into several parts."""
    held: list[Source] = []
    size = 0
    for file in files:
        parts = _parts(file)
        if held and (size + file.size > _BYTES or len(held) >= _FILES or len(parts) > 1):
            yield tuple(held)
            held, size = [], 0
        if len(parts) > 1:
            yield from ((part,) for part in parts)
            continue
        held.append(file)
        size += file.size
    if held:
        yield tuple(held)


def _parts(file: Source) -> list[Source]:
    count = -(-file.size // _BYTES)
    if count < 2 or file.format != "parquet" or file.codec is not None:
        return [file]
    return [replace(file, part=(index, count)) for index in range(count)]


def stays_here(file: Source) -> bool:
    """Whether other machines cannot read it: a table in memory, or what came through a pipe."""
    return file.table is not None or file.data is not None or file.place is not None


def read_unit(unit: tuple[Source, ...], request: Request) -> list[Piece]:
    """Read a unit; what went wrong is said in place of its rows."""
    found = []
    for at, file in enumerate(unit):
        try:
            for task in tasks(file, request):
                found.append(Piece(at, task.plan, task.bytes, task.run()))
        except NoRollouts as problem:
            found.append(Piece(at, None, float(file.size), None, problem))
        except TautError as problem:
            return [*found, Piece(at, None, 0.0, None, file.changed() or problem)]
    return found

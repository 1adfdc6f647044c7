"""Many machines: units of a log as plain Ray tasks, results in the order of the log.

A task has no state: when a worker or a node dies, Ray runs it again, and what it gives is the same
bytes. Few are in flight, so that this process holds no more than it joins.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from taut.cluster import connect, other_version
from taut.engines.units import Piece, read_unit, stays_here, units
from taut.errors import LogError
from taut.logs.layout import NoRollouts
from taut.logs.read import Request, Task
from taut.logs.reduce import Reduced
from taut.logs.sources import Source
from taut.version import __version__

_RETRIES = 8  # of a task whose worker or node died
_AHEAD = 2  # tasks in flight for each processor


def read_files(
    files: tuple[Source, ...], request: Request, engine: str
) -> Iterator[tuple[Source, Piece]]:
    """Yield what each unit gives, in the order of the log, each piece with its file.

    Raises:
        LogError: Workers run another version of taut, or died again and again.
        UsageError: As `connect`.
    """
    ray = connect(engine)
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_read)
    asked = ray.put(request)
    most = max(4, _AHEAD * int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[tuple[tuple[Source, ...], Any]] = deque()
    try:
        for unit in units(files):
            here = any(map(stays_here, unit))
            given = read_unit(unit, request) if here else task.remote(unit, asked, __version__)
            waiting.append((unit, given))
            if len(waiting) > most:
                yield from _done(ray, *waiting.popleft())
        while waiting:
            yield from _done(ray, *waiting.popleft())
    finally:
        for _, given in waiting:
            if not isinstance(given, list):
                with suppress(Exception):  # the cluster may be gone
                    ray.cancel(given, force=True)


def _done(ray: Any, unit: tuple[Source, ...], given: Any) -> Iterator[tuple[Source, Piece]]:
    if not isinstance(given, list):
        try:
            given = ray.get(given)
        except ray.exceptions.RayError as problem:
            name = unit[0].name
            raise LogError(
                f"{name}: expected a worker to read it, found {type(problem).__name__} after "
                f"{_RETRIES} tries; look at that node's memory, and whether it sees the file "
                f"({str(problem).splitlines()[0][:200]})."
            ) from None
    if isinstance(given, str):
        raise other_version(given)
    for piece in given:
        yield unit[piece.file], piece


def _read(unit: tuple[Source, ...], request: Request, version: str) -> list[Piece] | str:
    """Read a unit on a worker; the version there where it is another one."""
    return read_unit(unit, request) if version == __version__ else __version__


def in_order(
    files: tuple[Source, ...], request: Request, engine: str, passed: Any
) -> Iterator[tuple[Task, list[Reduced]]]:
    """Yield tasks with their results, as `taut.engines.local.in_order` does.

    Args:
        passed: Called with a file and why it holds no rollouts; raises where it must.

    Raises:
        LogError: As on this machine.
    """
    for file, piece in read_files(files, request, engine):
        if isinstance(piece.problem, NoRollouts):
            passed(file, piece.problem)
        elif piece.problem is not None:
            raise piece.problem
        elif piece.plan is not None and piece.pieces is not None:
            yield Task(file, piece.plan, piece.bytes, list), piece.pieces

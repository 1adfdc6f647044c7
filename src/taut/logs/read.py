"""One way in for every file: sources to tasks, each of which gives reduced rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from taut.logs.frameworks import choose
from taut.logs.plan import Plan
from taut.logs.readers import jsonl, parquet
from taut.logs.reduce import Chunk, Derive, Reduced, reduce_chunk
from taut.logs.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to read, the same for all files.

    Attributes:
        paths: Native name to path in the files (`taut.logs.plan.check_mapping`).
        lenient: Leave bad rows out and report them, in place of raising.
        token_clip: Also sum token log-ratios clipped to ±token_clip nats (theory §4.5).
        format: Who wrote the log, one of `taut.logs.origin.FORMATS`.
        raw: Words (`taut.logs.schema.WORDS`) to read as they stand in the file, for `derive`.
        derive: Makes further columns of a chunk, and notes what is wrong with its rows.
    """

    paths: Mapping[str, str]
    lenient: bool = False
    token_clip: float | tuple[float, ...] | None = None
    format: str = "native"
    raw: frozenset[str] = frozenset()
    derive: Derive | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Some rows of a file, not read yet: call `run` in any thread.

    Attributes:
        source: The file.
        plan: How it is read.
        bytes: Bytes of the file, as on disk, that these rows take.
        run: Decodes, checks and reduces the rows.
    """

    source: Source
    plan: Plan | None
    bytes: float
    run: Callable[[], list[Reduced]]


def tasks(source: Source, request: Request) -> Iterator[Task]:
    """Cut a file into tasks, in row order.

    Raises:
        LogError: The file cannot be read, or lacks a column. Rows are checked when a task runs.
    """
    layouts = partial(choose, paths=request.paths, format=request.format)
    if source.format == "parquet":
        parts = parquet.chunks(source, layouts, token_clip=request.token_clip, raw=request.raw)
        scale = float(source.size)
    else:
        parts = jsonl.chunks(
            source,
            layouts,
            token_clip=request.token_clip,
            keep_text=request.lenient,
            raw=request.raw,
        )
        scale = 1.0
    for plan, chunks, share in parts:
        yield Task(source, plan, share * scale, _runner(chunks, request, plan))


def _runner(
    chunks: Callable[[], Iterator[Chunk]], request: Request, plan: Plan
) -> Callable[[], list[Reduced]]:
    derive = plan.layout.derive or (lambda chunk: chunk)

    def run() -> list[Reduced]:
        reduced = (
            reduce_chunk(
                derive(chunk),
                token_clip=request.token_clip,
                lenient=request.lenient,
                derive=request.derive,
            )
            for chunk in chunks()
        )
        return [replace(piece, origin=plan.origin) for piece in reduced]

    return run

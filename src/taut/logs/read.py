"""One way in for every file: sources to tasks, each of which gives reduced rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from taut.logs.facts import facts_beside, join_facts
from taut.logs.frameworks import choose
from taut.logs.layout import Columns, Layout
from taut.logs.plan import Plan
from taut.logs.readers import jsonl, parquet
from taut.logs.reduce import Chunk, Derive, Reduced, reduce_chunk
from taut.logs.schema import KEPT, PART
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
        mapped: Native names that the user mapped, or left out.
        wanted: Names to read on request (`taut.logs.plan.ON_REQUEST`).
        keep: Paths of columns to keep, to slice by.
        parts: Also keep the parts of the reward, `rewards.NAME`.
    """

    paths: Mapping[str, str]
    lenient: bool = False
    token_clip: float | tuple[float, ...] | None = None
    format: str = "native"
    raw: frozenset[str] = frozenset()
    derive: Derive | None = None
    mapped: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()
    keep: tuple[str, ...] = ()
    parts: bool = False


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
    beside = facts_beside(source.name)
    layouts = partial(_layout, request=request)
    if source.format == "parquet":
        parts = parquet.chunks(
            source,
            layouts,
            token_clip=request.token_clip,
            raw=request.raw,
            wanted=request.wanted,
        )
        scale = float(source.size)
    else:
        parts = jsonl.chunks(
            source,
            layouts,
            token_clip=request.token_clip,
            keep_text=request.lenient,
            raw=request.raw,
            wanted=request.wanted,
        )
        scale = 1.0
    facts = None
    for plan, chunks, share in parts:
        if facts is None:
            facts = join_facts(plan.facts, beside.facts, source.name)
        plan = replace(plan, facts=facts)
        yield Task(source, plan, share * scale, _runner(chunks, request, plan))


def _layout(file: str, columns: Columns, request: Request) -> Layout:
    """Choose how a file is read, and add what is kept of it besides the native columns."""
    layout = choose(file, columns, paths=request.paths, format=request.format)
    extra = {f"{KEPT}{path}": path for path in request.keep}
    required = layout.required | extra.keys()
    if request.parts:
        inside = [name for name in columns if name.startswith("rewards.")]
        extra |= {f"{PART}{name.removeprefix('rewards.')}": name for name in inside}
    return replace(layout, paths={**layout.paths, **extra}, required=required)


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

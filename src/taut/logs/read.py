"""One way in for every file: sources to tasks, each of which gives reduced rows."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from taut.logs import places
from taut.logs.facts import Beside, facts_beside, join_facts
from taut.logs.frameworks import choose
from taut.logs.frameworks.common import same
from taut.logs.layout import Columns, Layout, NoRollouts
from taut.logs.mapping import Meanings, compile_mapping
from taut.logs.plan import Plan, Planner
from taut.logs.readers import documents, ipc, jsonl, parquet
from taut.logs.reduce import Chunk, Derive, Reduced, reduce_chunk
from taut.logs.schema import KEPT, PART
from taut.logs.sources import Source
from taut.logs.text import safe


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
        values: Native name to what its texts mean as numbers.
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
    values: Meanings = field(default_factory=dict)
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
    plan: Plan
    bytes: float
    run: Callable[[], list[Reduced]]


def tasks(source: Source, request: Request) -> Iterator[Task]:
    """Cut a file into tasks, in row order.

    Raises:
        NoRollouts: The file is no table of rollouts at all, and none was promised.
        LogError: The file cannot be read, or lacks a column. Rows are checked when a task runs.
    """
    away = places.is_place(source.name)
    on_disk = source.table is None and (away or os.path.isfile(source.name))
    beside = facts_beside(source.name) if on_disk else Beside()
    planner = Planner(
        layouts=partial(_layout, request=_with_beside(request, beside), source=source),
        token_clip=request.token_clip,
        raw=request.raw,
        wanted=request.wanted,
    )
    scale = 1.0 if source.format == "jsonl" else float(source.size)
    facts = None
    for plan, chunks, share in _parts(source, planner, request):
        if facts is None:
            facts = join_facts(plan.facts, beside.facts, source.name)
        said = (f"{safe(beside.path)} speaks of this log",) if beside.path else ()
        plan = replace(plan, facts=facts, notes=(*said, *plan.notes, *plan.layout.notes))
        yield Task(source, plan, share * scale, _runner(chunks, request, plan))


def _parts(source: Source, planner: Planner, request: Request) -> Iterator:
    if source.format == "parquet":
        return parquet.chunks(source, planner)
    if source.format == "arrow":
        return ipc.chunks(source, planner)
    if source.format == "jsonl":
        return jsonl.chunks(source, planner, keep_text=request.lenient)
    return documents.chunks(source, planner)


def _with_beside(request: Request, beside: Beside) -> Request:
    """Add the mapping of a `taut.toml`; what the call says wins."""
    mapping = {name: at for name, at in beside.mapping.items() if name not in request.mapped}
    paths = {**request.paths, **mapping}
    return replace(
        request,
        paths={name: path for name, path in paths.items() if path},
        mapped=request.mapped | mapping.keys(),
        values={**beside.values, **request.values},
        format=beside.format if beside.format and request.format == "auto" else request.format,
    )


def _layout(file: str, columns: Columns, request: Request, source: Source) -> Layout:
    """Choose how a file is read; add what is kept of it, and what its folders say."""
    mapped = request.mapped | {name for name, path in request.paths.items() if name != path}
    layout = choose(
        file, columns, paths=request.paths, format=request.format, mapped=frozenset(mapped)
    )
    if source.listed and not layout.skip and _holds_none(file, columns, layout, mapped):
        raise NoRollouts(f"{file}: expected rollouts, found no prompt in it.")
    layout = compile_mapping(file, layout, columns, frozenset(mapped), request.values)
    extra = {f"{KEPT}{path}": path for path in request.keep}
    required = layout.required | extra.keys()
    if request.parts:
        inside = [
            name
            for name, holds in columns.items()
            if name.startswith("rewards.") and holds in ("number", "null")
        ]
        extra |= {f"{PART}{name.removeprefix('rewards.')}": name for name in inside}
    layout = replace(
        layout,
        paths={**layout.paths, **extra},
        required=required,
        notes=(*layout.notes, *_restarts(columns, layout, mapped)),
    )
    return _with_folders(layout, columns, source.name, mapped)


_RANKS = ("rank", "local_rank", "process_index", "worker_id", "dp_rank")


def _restarts(columns: Columns, layout: Layout, mapped: set[str]) -> tuple[str, ...]:
    """Note ids that each process may count from 0: different prompts would be one."""
    rank = next((name for name in _RANKS if name in columns), None)
    if rank is None or "prompt_id" in mapped or columns.get("prompt_id") != "number":
        return ()
    if layout.paths.get("prompt_id") != "prompt_id":
        return ()
    return (
        f"'prompt_id' holds numbers and rows have a '{rank}': if each process counts from 0, say "
        f"--map prompt_id={rank}+prompt_id",
    )


# What stands beside rollouts in the folder of a run, by the beginning of its name.
_BESIDE = ("metrics", "metadata", "config", "summary", "stats", "result", "args", "log_history")


def _holds_none(file: str, columns: Columns, layout: Layout, mapped: set[str]) -> bool:
    """Say whether a file has no prompt, and no reward or nothing but numbers: metrics, settings."""
    if mapped & {"reward", "prompt", "prompt_id"} or layout.origin is not None:
        return False
    if {"prompt", "prompt_id"} & columns.keys():
        return False
    words = {"text", "list", "object"} & set(columns.values())
    aside = os.path.basename(file).lower().startswith(_BESIDE)
    return "reward" not in columns or not words or aside


_FOLDER = re.compile(r"(step|policy|run)=([^/\\]+)")


def _with_folders(layout: Layout, columns: Columns, path: str, mapped: set[str]) -> Layout:
    """Take step, policy and run from folders such as step=10/, where no column has them."""
    found: dict[str, int | str] = {}
    for name, text in _FOLDER.findall(path):
        taken = name in mapped or name in columns or name in layout.derived
        if not taken and (name != "step" or text.isdigit()):
            found[name] = int(text) if name == "step" else text
    if not found:
        return layout
    return replace(
        layout,
        paths={name: at for name, at in layout.paths.items() if name not in found},
        derived=layout.derived | found.keys(),
        derive=partial(_in_folder, found=found, after=layout.derive),
    )


def _in_folder(
    chunk: Chunk, found: Mapping[str, int | str], after: Callable[[Chunk], Chunk] | None
) -> Chunk:
    fresh = {name: same(chunk, value) for name, value in found.items()}
    chunk = replace(chunk, columns={**chunk.columns, **fresh})
    return after(chunk) if after else chunk


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

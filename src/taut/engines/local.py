"""The local engine: files in, rollouts out, on the threads of this machine.

Decoding and summing run in threads (both leave the interpreter lock alone); results are taken in
file and row order, so that nothing depends on timing.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa

from taut.cluster import check_engine
from taut.draws.rollouts import Rollouts
from taut.engines.assemble import assemble, compact, completed, join_small
from taut.engines.files import Files
from taut.errors import LogError, UsageError
from taut.logs.facts import LogFacts, merge_facts
from taut.logs.mapping import Meanings, check_values
from taut.logs.origin import FORMATS
from taut.logs.plan import ON_REQUEST, check_mapping, no_labels
from taut.logs.read import Request, Task
from taut.logs.reduce import Reduced
from taut.logs.schema import NATIVE
from taut.logs.sources import Source, find
from taut.logs.text import writable
from taut.logs.write import RejectedRows, refuse_overwrite, write_native

Sources = str | os.PathLike | Iterable[str | os.PathLike]
Progress = Callable[[int, int], None]
LogProbs = Literal["required", "optional", "ignored"]

_LOG_PROBS = tuple(name for name in NATIVE if name.endswith(("_logprob", "_logprobs", "log_ratio")))


def read_rollouts(
    sources: Sources,
    *,
    mapping: Mapping[str, str] | None = None,
    values: Meanings | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | tuple[float, ...] | None = None,
    features: bool = False,
    keep: Iterable[str] = (),
    parts: bool = False,
    rollout_ids: bool = False,
    log_probs: LogProbs = "required",
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
    engine: str = "local",
) -> Rollouts:
    """Read logs of rollouts: Parquet or JSON lines, plain or within .gz or .zst.

    Token lists are reduced to sums over the response while reading, in float64; the result is
    bit-identical whatever the file split, format, compression or number of threads.

    Args:
        sources: Files, globs, folders, or several of them.
        mapping: Native column to column of the log, nested ones by dotted path, for example
            {"reward": "judge_score", "prompt_id": "metadata.prompt_id"}; "" leaves a column out.
            Sums ("1.0*a+0.5*b"), ids of several columns ("env+task") and folded lists
            ("sum(rewards)", "last(…)", "mean(…)") are made while reading.
        values: Native column to what its texts mean as numbers, as {"reward": {"C": 1, "I": 0}}.
        lenient: A file to write rejected rows to, as JSON lines; the others are then read.
            Without it the first bad row stops the reader.
        token_clip: Also sum token log-ratios clipped to ±token_clip nats (theory §4.5). Several
            constants give `token_clipped_sums`, from one reading, where the log has token lists.
        features: Also keep the `features` column, where there is one.
        keep: Paths of further columns to keep, to slice by.
        parts: Also keep the parts of the reward, columns `rewards.NAME`.
        rollout_ids: Also name every row: `rollout_id`, else a hash of its content and its
            occurrence number.
        log_probs: "required": a bad log-prob stops the reader. "optional": log-probs are left out,
            with a note, where one is bad or some files lack them. "ignored": they are not read,
            unless rows are to be named.
        format: Who wrote the log: "native", "trl", "verl", "nemo-rl" or "open-instruct";
            "auto" tells by the columns, and takes what it does not know for native.
        progress: Called with (rows, bytes of the files) done so far.
        threads: Threads to decode with; all cores by default.
        engine: "local", or "ray" or "ray://HOST:PORT": many machines, same bytes (docs/ray.md).

    Returns:
        One row a rollout, in file order, about 50 bytes each.

    Raises:
        LogError: A file, column or row cannot be read as rollouts; one line with file, row,
            column, what was expected and found, and a remedy.
        UsageError: No such format.
    """
    check_format(format)  # before any file is looked for
    check_engine(engine)
    return read_sources(
        find(sources),
        mapping=mapping,
        values=values,
        lenient=lenient,
        token_clip=token_clip,
        features=features,
        keep=keep,
        parts=parts,
        rollout_ids=rollout_ids,
        log_probs=log_probs,
        format=format,
        progress=progress,
        threads=threads,
        engine=engine,
    )


def read_sources(
    files: tuple[Source, ...],
    *,
    mapping: Mapping[str, str] | None,
    log_probs: LogProbs = "required",
    rollout_ids: bool = False,
    token_clip: float | tuple[float, ...] | None = None,
    keep: Iterable[str] = (),
    format: str = "auto",
    **further,
) -> Rollouts:
    """Read sources that were found, or that are in memory; the rest is as in `read_rollouts`."""
    settings = {
        "token_clip": token_clip,
        "keep": tuple(dict.fromkeys(keep)),
        "rollout_ids": rollout_ids,
        "format": format,
        **further,
    }
    without = dict(mapping or {}) | dict.fromkeys(_LOG_PROBS, "")
    if log_probs == "ignored" and not rollout_ids:  # without a response log-probs tell rows apart
        return _read(files, mapping=without, **{**settings, "token_clip": None})
    try:
        return _read(files, mapping=mapping, **settings)
    except LogError as problem:
        if log_probs == "required":
            raise
        try:
            rollouts = _read(files, mapping=without, **{**settings, "token_clip": None})
        except LogError:
            raise problem from None
        note = f"log-probs are left out, which the target does not need: {problem}"
        return replace(rollouts, notes=(*rollouts.notes, note))


def _read(files: tuple[Source, ...], *, rollout_ids: bool, token_clip, **settings) -> Rollouts:
    """Read files as rollouts; see `read_rollouts`."""
    wanted = {"prompt", "response", "rollout_id", "content_key"} if rollout_ids else {"prompt"}
    return gather(
        stream(files, token_clip=token_clip, wanted=frozenset(wanted), **settings),
        sources=tuple(writable(file.name) for file in files),
        token_clip=token_clip,
        rollout_ids=rollout_ids,
    )


_TOGETHER = 1000  # pieces to look at for small ones


def _said(facts: LogFacts, before: list[LogFacts]) -> bool:
    """Say whether the file before says the same, which then counts once: numbers do not add up."""
    return bool(before) and before[-1] == facts and facts.launched_prompts is None


def gather(
    reduced: Iterable[Reduced],
    *,
    sources: tuple[str, ...] = (),
    token_clip: float | tuple[float, ...] | None = None,
    rollout_ids: bool = False,
) -> Rollouts:
    """Join reduced rows to rollouts.

    Args:
        reduced: Rows with the same columns in all.
        sources: Where they are from.
        token_clip: What token log-ratios in them were clipped at, nats.
        rollout_ids: Keep the names of rollouts.
    """
    pieces: list[dict[str, np.ndarray]] = []
    names: dict[str, dict[str, int]] = {}
    rejected, origin, facts, notes = 0, None, [], {}
    joined = 0  # pieces before this one are as few as they can be
    for piece in reduced:
        rejected += piece.left_out
        origin = piece.origin
        notes |= dict.fromkeys(piece.notes)
        if piece.facts is not None and not _said(piece.facts, facts):
            facts.append(piece.facts)
        pieces.append(compact(piece, names, rollout_ids=rollout_ids))
        if len(pieces) - joined == _TOGETHER:
            pieces[joined:] = join_small(pieces[joined:])
            joined = len(pieces)
    together = merge_facts(*facts)
    rollouts = assemble(
        pieces,
        names,
        token_clip=token_clip,
        rejected_rows=rejected,
        sources=sources,
        origin=origin,
        facts=together,
        notes=(*notes, *together.notes),
    )
    # Some columns of the pieces were buffers of what was decoded: free once they are joined.
    pa.default_memory_pool().release_unused()
    return rollouts


def convert(
    sources: Sources,
    output: str | os.PathLike,
    *,
    mapping: Mapping[str, str] | None = None,
    values: Meanings | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | None = None,
    keep: Iterable[str] = (),
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
    engine: str = "local",
) -> int:
    """Write any log as a reduced native one: sums in place of token lists, ids and names kept.

    An audit of the result equals an audit of the log, bit for bit. Memory stays bounded, and on
    any failure no file is left behind.

    Args:
        output: Parquet file to write; it must not be one of the sources.
        sources, mapping, values, lenient, token_clip, keep, format, progress, threads, engine: As
            in `read_rollouts`.

    Returns:
        The number of rollouts written. The number of rejected rows, who wrote the log and what it
        knows about itself are kept in the file.

    Raises:
        LogError: As `read_rollouts`; or the output cannot be written.
    """
    check_format(format)
    files = find(sources)
    if lenient is not None:
        refuse_overwrite(os.fspath(output), [os.fspath(lenient)])
    pieces = stream(
        files,
        mapping=mapping,
        values=values,
        lenient=lenient,
        token_clip=token_clip,
        keep=tuple(dict.fromkeys(keep)),
        parts=True,
        wanted=ON_REQUEST,
        format=format,
        progress=progress,
        threads=threads,
        engine=engine,
    )
    complete = (replace(piece, columns=completed(piece.columns)) for piece in pieces)
    return write_native(
        complete,
        output,
        token_clip=token_clip,
        inputs=[file.name for file in files],
        mapping=mapping,
    )


def stream(
    files: tuple[Source, ...],
    *,
    mapping: Mapping[str, str] | None = None,
    values: Meanings | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | tuple[float, ...] | None = None,
    features: bool = False,
    keep: tuple[str, ...] = (),
    parts: bool = False,
    wanted: frozenset[str] = frozenset(),
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
    engine: str = "local",
) -> Iterator[Reduced]:
    """Read files piece by piece, in order, in bounded memory.

    Args are those of `read_rollouts`, the files found already. All pieces have the same columns.

    Raises:
        LogError: As `read_rollouts`.
    """
    paths = check_mapping(mapping)
    if not features:
        paths.pop("features", None)
    request = Request(
        paths=paths,
        mapped=frozenset(mapping or ()),
        values=check_values(values),
        keep=keep,
        parts=parts,
        wanted=wanted,
        lenient=lenient is not None,
        token_clip=_clip(token_clip),
        format=format,
    )
    watch = Files(files[0].notes if files else ())
    rows, done, labelled = 0, 0.0, False
    with RejectedRows(lenient, avoid=[file.path for file in files]) as rejected:
        for task, pieces in _run(watch, files, request, threads, engine):
            done += task.bytes
            for piece in watch.checked(task, pieces):
                labelled = labelled or _is_labelled(piece)
                rejected.add(piece.rejected)
                rows += len(piece.columns["reward"])
                yield piece
            if progress:
                progress(rows, round(done))
        watch.check_unchanged(files)
        watch.check_rows(rows, files)
        if "gold" in request.paths.keys() & request.mapped and not labelled:
            raise no_labels(task.source.name, request.paths["gold"], task.plan)


def _run(
    watch: Files, files: tuple[Source, ...], request: Request, threads: int | None, engine: str
) -> Iterator[tuple[Task, list[Reduced]]]:
    """Yield all tasks with their results, in order, by the engine that was named."""
    if engine == "local":
        return in_order(watch.tasks(files, request), threads or os.cpu_count() or 1)
    from taut.engines import ray

    return ray.in_order(files, request, engine, watch.pass_over)


def in_order(cut: Iterator[Task], threads: int) -> Iterator[tuple[Task, list[Reduced]]]:
    """Run tasks on threads and yield their results in order, with few of them in flight."""
    waiting: deque[tuple[Task, Future]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="taut")
    try:
        for task in cut:
            waiting.append((task, pool.submit(task.run)))
            if len(waiting) > threads + 1:
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _done(task: Task, future: Future) -> tuple[Task, list[Reduced]]:
    try:
        return task, future.result()
    except LogError as problem:
        # A file that was replaced looks damaged; the change is what to say.
        raise task.source.changed() or problem from None


def _clip(token_clip: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
    for clip in token_clip if isinstance(token_clip, tuple) else (token_clip,):
        if clip is not None and not 0 < clip < np.inf:
            raise LogError(f"token_clip is {clip}; expected a positive number of nats.")
    return token_clip


def check_format(format: str) -> None:
    """Raise where no such format is known.

    Raises:
        UsageError: With those that are.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; expected one of {', '.join(FORMATS)}.")


def _is_labelled(piece: Reduced) -> bool:
    gold = piece.columns.get("gold")
    return gold is not None and not np.isnan(gold).all()

"""The local engine: files in, rollouts out, on the threads of this machine.

Decoding and summing run in threads (both leave the interpreter lock alone); results are taken in
file and row order, so that nothing depends on timing.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError
from taut.logs.keys import hash_ids
from taut.logs.origin import FORMATS, Origin
from taut.logs.plan import check_mapping, no_labels
from taut.logs.read import Request, Task, tasks
from taut.logs.reduce import Reduced
from taut.logs.schema import NATIVE
from taut.logs.sources import Source, find
from taut.logs.write import RejectedRows, refuse_overwrite, write_native

Sources = str | os.PathLike | Iterable[str | os.PathLike]
Progress = Callable[[int, int], None]

_IDS = ("prompt_id", "prompt", "group")
_NAMED = ("policy", "run")
_CLIPPED = "token_clipped_log_ratio"
_KEPT = (
    "reward",
    "log_ratio",
    "gold",
    "step",
    "policy_logprob",
    "behaviour_logprob",
    "token_clipped_log_ratio",
    "n_tokens",
    "truncated",
    "features",
)


def read_rollouts(
    sources: Sources,
    *,
    mapping: Mapping[str, str] | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | tuple[float, ...] | None = None,
    features: bool = False,
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
) -> Rollouts:
    """Read logs of rollouts: Parquet or JSON lines, plain or within .gz or .zst.

    Token lists are reduced to sums over the response while reading, in float64; the result is
    bit-identical whatever the file split, format, compression or number of threads.

    Args:
        sources: Files, globs, folders, or several of them.
        mapping: Native column to column of the log, nested ones by dotted path, for example
            {"reward": "judge_score", "prompt_id": "metadata.prompt_id"}.
        lenient: A file to write rejected rows to, as JSON lines; the others are then read.
            Without it the first bad row stops the reader.
        token_clip: Also sum token log-ratios clipped to ±token_clip nats (theory §4.5). Several
            constants give `token_clipped_sums`, from one reading, where the log has token lists.
        features: Also keep the `features` column, where there is one.
        format: Who wrote the log: "native", "trl", "verl", "nemo-rl" or "open-instruct";
            "auto" tells by the columns, and takes what it does not know for native.
        progress: Called with (rows, bytes of the files) done so far.
        threads: Threads to decode with; all cores by default.

    Returns:
        One row a rollout, in file order, about 40 bytes each.

    Raises:
        LogError: A file, column or row cannot be read as rollouts; one line with file, row,
            column, what was expected and found, and a remedy.
        UsageError: No such format.
    """
    check_format(format)
    files = find(sources)
    pieces = stream(
        files,
        mapping=mapping,
        lenient=lenient,
        token_clip=token_clip,
        features=features,
        format=format,
        progress=progress,
        threads=threads,
    )
    return gather(pieces, sources=tuple(file.name for file in files), token_clip=token_clip)


def gather(
    pieces: Iterable[Reduced],
    *,
    sources: tuple[str, ...] = (),
    token_clip: float | tuple[float, ...] | None = None,
) -> Rollouts:
    """Join reduced rows to rollouts.

    Args:
        pieces: Rows with the same columns in all.
        sources: Where they are from.
        token_clip: What token log-ratios in them were clipped at, nats.
    """
    parts: dict[str, list[np.ndarray]] = {}
    names: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
    rejected, origin = 0, None
    for piece in pieces:
        rejected += piece.left_out
        origin = piece.origin
        for name, values in _compact(piece, names).items():
            parts.setdefault(name, []).append(values)
    return _assemble(
        parts,
        names,
        token_clip=token_clip,
        rejected_rows=rejected,
        sources=sources,
        origin=origin,
    )


def convert(
    sources: Sources,
    output: str | os.PathLike,
    *,
    mapping: Mapping[str, str] | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | None = None,
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
) -> int:
    """Write any log as a reduced native one: sums in place of token lists, ids and names kept.

    An audit of the result equals an audit of the log, bit for bit. Memory stays bounded, and on
    any failure no file is left behind.

    Args:
        output: Parquet file to write; it must not be one of the sources.
        sources, mapping, lenient, token_clip, format, progress, threads: As in `read_rollouts`.

    Returns:
        The number of rollouts written. The number of rejected rows is kept in the file.

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
        lenient=lenient,
        token_clip=token_clip,
        format=format,
        progress=progress,
        threads=threads,
    )
    complete = (replace(piece, columns=_complete(piece.columns)) for piece in pieces)
    return write_native(
        complete, output, token_clip=token_clip, inputs=[file.name for file in files]
    )


def stream(
    files: tuple[Source, ...],
    *,
    mapping: Mapping[str, str] | None = None,
    lenient: str | os.PathLike | None = None,
    token_clip: float | tuple[float, ...] | None = None,
    features: bool = False,
    format: str = "auto",
    progress: Progress | None = None,
    threads: int | None = None,
) -> Iterator[Reduced]:
    """Read files piece by piece, in order, in bounded memory.

    Args are those of `read_rollouts`, the files found already. All pieces have the same columns.

    Raises:
        LogError: As `read_rollouts`.
    """
    paths = dict(check_mapping(mapping))
    if not features:
        del paths["features"]
    request = Request(
        paths=paths,
        lenient=lenient is not None,
        token_clip=_clip(token_clip),
        format=format,
    )
    cut = (task for file in files for task in tasks(file, request))
    rows, done, labelled, seen = 0, 0.0, False, set()
    first: tuple[str, frozenset[str]] | None = None
    writer: tuple[str, Origin | None] | None = None
    with RejectedRows(lenient, avoid=[file.name for file in files]) as rejected:
        for task, pieces in in_order(cut, threads or os.cpu_count() or 1):
            done += task.bytes
            if task.source not in seen and pieces:
                seen.add(task.source)
                pieces[0] = replace(pieces[0], left_out_before=task.plan.rejected_rows)
            for piece in pieces:
                writer = writer or (task.source.name, piece.origin)
                _check_origin(writer, task.source.name, piece.origin)
                first = first or (task.source.name, solid(piece))
                check_same(first, task.source.name, piece)
                labelled = labelled or _is_labelled(piece)
                rejected.add(piece.rejected)
                rows += len(piece.columns["reward"])
                yield piece
            if progress:
                progress(rows, round(done))
        _check_rows(rows, files)
        if request.paths["gold"] != "gold" and not labelled:
            raise no_labels(task.source.name, request.paths["gold"], task.plan)


def in_order(cut: Iterator[Task], threads: int) -> Iterator[tuple[Task, list[Reduced]]]:
    """Run tasks on threads and yield their results in order, with few of them in flight."""
    waiting: deque[tuple[Task, Future]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="taut")
    try:
        for task in cut:
            waiting.append((task, pool.submit(task.run)))
            if len(waiting) > threads + 1:
                ready, future = waiting.popleft()
                yield ready, future.result()
        while waiting:
            ready, future = waiting.popleft()
            yield ready, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
        if not NATIVE[name].nullable and not _clipped_at_several(name, values)
    )


def _clipped_at_several(name: str, values: np.ndarray | pa.Array) -> bool:
    return name == _CLIPPED and values.ndim == 2


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
            "together, or add the column."
        )


def _is_labelled(piece: Reduced) -> bool:
    gold = piece.columns.get("gold")
    return gold is not None and not np.isnan(gold).all()


def _check_rows(rows: int, files: tuple[Source, ...]) -> None:
    if not rows:
        names = ", ".join(file.name for file in files[:3])
        raise LogError(f"{names}: expected rollouts, found no row; check how the log was written.")


def _compact(piece: Reduced, names: dict[str, dict[str, int]]) -> dict[str, np.ndarray]:
    """Return the columns that rollouts keep; texts become 64-bit keys or codes."""
    columns = piece.columns
    out = {name: columns[name] for name in _KEPT if name in columns}
    prompt = columns["prompt_id"] if "prompt_id" in columns else columns["prompt"]
    out["prompt"] = hash_ids(prompt)
    if "group" in columns:
        out["group"] = hash_ids(columns["group"])
    for name in _NAMED:
        if name in columns:
            out[name] = _codes(columns[name], names[name])
    return _complete(out)


def _complete(columns: Mapping[str, np.ndarray | pa.Array]) -> dict:
    """Add the columns that a file may lack while others have them."""
    rows = len(columns["reward"])
    return {
        "n_tokens": np.full(rows, -1, dtype=np.int64),
        "gold": np.full(rows, np.nan),
        **columns,
    }


def _codes(texts: pa.Array, known: dict[str, int]) -> np.ndarray:
    """Return the code of each text, in order of first appearance; `known` is extended."""
    encoded = pc.dictionary_encode(texts)
    codes = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
    return np.array(codes, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]


def _assemble(
    parts: dict[str, list[np.ndarray]], names: dict[str, dict[str, int]], **settings
) -> Rollouts:
    """Join the pieces; codes are renumbered by sorted name, so that file order does not matter."""
    columns = {}
    if isinstance(settings["token_clip"], tuple):
        clips, settings["token_clip"] = settings["token_clip"], None
        clipped = parts.pop(_CLIPPED, [])
        # Files without token lists leave the token level unknown for the log.
        if len(clipped) == len(parts["reward"]):
            settings["token_clips"] = clips
            columns["token_clipped_sums"] = np.concatenate(clipped)
    if len({part.shape[1:] for part in parts.get("features", ())}) > 1:
        raise LogError("'features' differ in length between files; expected one length in all.")
    for name in list(parts):
        columns[name] = np.concatenate(parts.pop(name))
    for name in _NAMED:
        if name in columns:
            ordered = sorted(names[name])
            place = {text: code for code, text in enumerate(ordered)}
            new = np.array([place[text] for text in names[name]], dtype=np.int32)
            columns[name] = new[columns[name]]
            columns[f"{name}_names"] = tuple(ordered)
    if np.isnan(columns["gold"]).all():
        del columns["gold"]
    if (columns["n_tokens"] == -1).all():
        del columns["n_tokens"]
    return Rollouts(**columns, **settings)

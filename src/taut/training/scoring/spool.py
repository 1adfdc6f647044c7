"""The log as windows of tokenised rows: read, checked and tokenised once, then kept.

Windows are cut from the stream of rows in file order, so that neither the split into files nor the
pieces that a reader makes have a say in which rows are scored together.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taut.errors import LogError, UsageError
from taut.logs.facts import merge_facts
from taut.logs.plan import check_mapping, no_labels
from taut.logs.read import Request, tasks
from taut.logs.reduce import Reduced
from taut.logs.schema import COLUMNS, KEPT, NATIVE, PART, WORDS
from taut.logs.sources import Source
from taut.logs.write import RejectedRows, column_array, with_optional
from taut.training.scoring.parts import INDEX, Parts
from taut.training.scoring.words import Words

Progress = Callable[[str, int, int], None]  # what is done, rows done, all rows

WINDOW_ROWS = 4096
WINDOW_TOKENS = 1 << 22

# Columns that scoring makes, or that would contradict what it makes: another engine's log-probs.
_MADE = (
    "policy_logprob",
    "policy_logprobs",
    "ref_logprob",
    "ref_logprobs",
    "log_ratio",
    "token_clipped_log_ratio",
)
_BEHAVIOUR = ("behaviour_logprob", "behaviour_logprobs")


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens of a rollout.

    Attributes:
        prompt, response: Token ids, int, shapes (prompt tokens,) and (response tokens,).
    """

    prompt: np.ndarray
    response: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def read_paths(mapping: Mapping[str, str], *, behaviour: bool) -> dict[str, str]:
    """Return which columns of the log to read: all native ones but those that scoring makes.

    Raises:
        UsageError: One of those is mapped.
    """
    made = _MADE + (_BEHAVIOUR if behaviour else ())
    for name in made:
        if name in mapping:
            raise UsageError(
                f"--map {name}={mapping[name]}: scoring makes this column; leave the mapping out, "
                "or audit the log as it is."
            )
    return {name: path for name, path in check_mapping(mapping).items() if name not in made}


def spool(
    files: tuple[Source, ...],
    paths: Mapping[str, str],
    words: Words,
    parts: Parts,
    *,
    lenient: str | None,
    keep: tuple[str, ...],
    tell: Callable[[int], None],
) -> dict:
    """Keep the log as windows, unless that was done before; return what there is to know of it.

    Args:
        files: The log.
        paths: Native name to path in the files.
        words: Makes token ids.
        parts: Where windows are kept.
        lenient: File for rejected rows, None to stop at the first.
        keep: Further columns of the log to keep.
        tell: Called with the rows read so far.

    Returns:
        "windows", "rows", "tokens" (of responses), "left_out" (rows), "origin" (the framework that
        wrote the log, or None), "facts" (what the log knows of itself), and "counts" as in
        `Counts`.

    Raises:
        LogError: A row or a file cannot be read or scored. All rows are seen before any is scored.
    """
    if parts.has(INDEX):
        return parts.read_json(INDEX)
    request = Request(
        paths=paths,
        lenient=lenient is not None,
        format="auto",
        raw=frozenset(WORDS),
        derive=words,
        wanted=frozenset({"rollout_id"}),
        parts=True,
        keep=keep,
    )
    index = {"windows": 0, "rows": 0, "tokens": 0, "left_out": 0, "columns": [], "origin": None}
    with RejectedRows(lenient, avoid=[file.name for file in files]) as rejected:
        pieces = _pieces(files, request, rejected, index)
        for window in _windows(pieces):
            parts.write_table(window_name(index["windows"]), window)
            index["windows"] += 1
            index["rows"] += len(window)
            index["tokens"] += pc.sum(window["n_tokens"]).as_py()
            index["columns"] = window.column_names
            tell(index["rows"])
    if not index["rows"]:
        names = ", ".join(file.name for file in files[:3])
        raise LogError(f"{names}: expected rollouts, found no row; check how the log was written.")
    words.refuse_other_tokens()
    index["counts"] = {name: int(value) for name, value in asdict(words.counts).items()}
    parts.write_json(INDEX, index)
    return index


def window_name(window: int) -> str:
    """Return the name of a window's part."""
    return f"rows-{window:06d}.parquet"


def window_rows(parts: Parts, window: int) -> list[Row]:
    """Return the tokens of a window's rows."""
    table = parts.read_table(window_name(window))
    prompts, responses = (_lists(table[name]) for name in ("prompt_ids", "response_ids"))
    return [Row(*both) for both in zip(prompts, responses, strict=True)]


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    array = column.combine_chunks()
    ends = array.offsets.to_numpy()
    values = array.values.to_numpy(zero_copy_only=False)
    return [values[a:b] for a, b in pairwise(ends)]


def _pieces(
    files: tuple[Source, ...], request: Request, rejected: RejectedRows, index: dict
) -> Iterator[pa.Table]:
    """Yield the log as tables with the same columns."""
    first: tuple[str, pa.Schema] | None = None
    facts, labelled = [], False
    for file in files:
        plan = None
        for task in tasks(file, request):
            if plan is None:
                plan = task.plan
                facts.append(plan.facts)
                index["left_out"] += plan.rejected_rows
                origin = plan.origin and asdict(plan.origin)
                if first is not None and origin != index["origin"]:
                    raise LogError(
                        f"{file.name}: expected a log of the same framework as {first[0]}, found "
                        "another; score them one by one."
                    )
                index["origin"] = origin
            for piece in task.run():
                rejected.add(piece.rejected)
                index["left_out"] += len(piece.rejected)
                table = _table(piece)
                first = first or (file.name, table.schema)
                _check_same(first, file.name, table.schema)
                labelled = labelled or table["gold"].null_count < len(table)
                yield table
    index["facts"] = merge_facts(*facts).document()
    path = request.paths.get("gold", "gold")
    if path != "gold" and not labelled and plan is not None:
        raise no_labels(files[-1].name, path, plan)


def _table(piece: Reduced) -> pa.Table:
    columns = with_optional(piece.columns)
    own = [column.name for column in COLUMNS if column.name in columns]
    named = {name: name for name in own}
    named |= {f"rewards.{name[len(PART) :]}": name for name in columns if name.startswith(PART)}
    named |= {name[len(KEPT) :]: name for name in columns if name.startswith(KEPT)}
    return pa.table({shown: _array(name, columns[name]) for shown, name in named.items()})


def _array(name: str, values) -> pa.Array:
    if name == "features":
        return pa.array(list(values), type=pa.list_(pa.float64()))
    if name in NATIVE and NATIVE[name].kind == "token_ids":
        return values.cast(pa.list_(pa.int32()))
    return column_array(name, values)


def _check_same(first: tuple[str, pa.Schema], file: str, schema: pa.Schema) -> None:
    """Files of one log must have the same columns, of the same types."""
    other, expected = first
    for name in sorted(set(expected.names) ^ set(schema.names)):
        has, lacks = (other, file) if name in expected.names else (file, other)
        raise LogError(
            f"{lacks}: expected '{name}', which {has} has; score files with the same columns "
            "together, or add the column."
        )
    for name in expected.names:
        if schema.field(name).type != expected.field(name).type:
            raise LogError(
                f"{file}: expected '{name}' of one type in all files, found "
                f"{schema.field(name).type} here and {expected.field(name).type} in {other}; "
                "score the files one by one."
            )


def _windows(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = tokens = 0
    for piece in pieces:
        sizes = _sizes(piece)
        start = 0
        for row, size in enumerate(sizes.tolist()):
            rows, tokens = rows + 1, tokens + size
            if rows >= WINDOW_ROWS or tokens >= WINDOW_TOKENS:
                held.append(piece.slice(start, row + 1 - start))
                yield pa.concat_tables(held).combine_chunks()
                held, rows, tokens, start = [], 0, 0, row + 1
        if start < len(piece):
            held.append(piece.slice(start))
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _sizes(table: pa.Table) -> np.ndarray:
    lengths = [pc.list_value_length(table[name]) for name in ("prompt_ids", "response_ids")]
    return pc.add(*lengths).to_numpy()

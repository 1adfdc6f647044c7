"""From a chunk of raw columns to one row of numbers per rollout.

Token lists become sequence sums here, once (`taut.logs.tokens`), texts become keys, and what is
wrong with a row is said in one line.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.facts import LogFacts
from taut.logs.keys import hash_ids, untold
from taut.logs.origin import Origin
from taut.logs.schema import LISTS, NATIVE, column
from taut.logs.text import safe
from taut.logs.tokens import Tokens, clipped_sums, pair_sums, row_sums

_ROLES = ("policy", "ref", "behaviour")


@dataclass(frozen=True, slots=True)
class Values:
    """One raw column: `data` of shape (rows,), and a mask of rows that lack a value, or None."""

    data: np.ndarray | pa.Array | Tokens | list
    missing: np.ndarray | None = None


@dataclass(slots=True)
class Problems:
    """The first thing that is wrong with each bad row of a chunk, and notes on all of it."""

    first: dict[int, tuple[str, str]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Note what people should know of how a column was read; said once."""
        self.notes[text] = None

    def add(self, row: int, column: str, text: str) -> None:
        """Note a problem of a row, unless the row has one already."""
        self.first.setdefault(int(row), (column, text))

    def add_all(self, rows: Iterable[int], column: str, text: str) -> None:
        """Note the same problem for several rows."""
        for row in rows:
            self.add(row, column, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some consecutive rows of one file, as raw native columns.

    Attributes:
        file: Name shown in messages.
        numbers: Row or line of each entry in its file, from 1, shape (rows,).
        columns: Native name to values; absent columns are left out.
        problems: What the reader found wrong so far.
        text: Raw text of each row where the file is text, for the file of rejected rows.
        names: Native or raw name to path in the file, for messages.
    """

    file: str
    numbers: np.ndarray
    columns: dict[str, Values]
    problems: Problems
    text: Sequence[bytes] | None = None
    names: Mapping[str, str] = field(default_factory=dict)


# Further columns of a chunk, each of shape (rows,); bad rows are noted in the chunk's problems.
Derive = Callable[[Chunk], dict[str, np.ndarray | pa.Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row that a lenient reader leaves out."""

    file: str
    row: int
    column: str
    problem: str
    text: bytes | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Reduced:
    """Rows as numbers: native name to array of shape (rows,), and the rows left out.

    `left_out_before` counts rows that were left out when the file was converted; `origin` is the
    framework that wrote them, None for a native log; `facts`, on the first piece of each file, is
    what the file knows about itself; `notes` are for people.
    """

    columns: dict[str, np.ndarray | pa.Array]
    rejected: tuple[Rejected, ...] = ()
    left_out_before: int = 0
    origin: Origin | None = None
    facts: LogFacts | None = None
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> int:
        """Rows left out, now or before."""
        return len(self.rejected) + self.left_out_before


def reduce_chunk(
    chunk: Chunk,
    *,
    token_clip: float | tuple[float, ...] | None,
    lenient: bool,
    derive: Derive | None = None,
) -> Reduced:
    """Check a chunk and reduce its token lists to sums.

    Args:
        chunk: Raw columns; which are there decides what is computed, so a file's chunks must agree.
        token_clip: Also sum token log-ratios clipped to ±token_clip nats (theory §4.5).
        lenient: Leave bad rows out and report them, in place of raising.
        derive: Makes further columns of the chunk, which replace those of the same name.

    Raises:
        LogError: A row is bad and the reader is not lenient.
    """
    problems = chunk.problems
    lists = {role: chunk.columns.get(f"{role}_logprobs") for role in _ROLES}
    tokens = {role: values.data for role, values in lists.items() if values is not None}
    for name, values in chunk.columns.items():
        _check_missing(name, values, chunk.columns, problems)
    _check_lengths(tokens, problems)
    out = _single_values(chunk.columns, problems)
    if "features" in chunk.columns:
        out["features"] = _matrix(chunk.columns["features"].data, problems)
    with np.errstate(invalid="ignore"):
        sums = _sums(tokens, token_clip, stored_clip="token_clipped_log_ratio" in chunk.columns)
        _check_sums(sums, tokens, problems)
        out = _combine(out, sums, problems)
    if tokens:
        lengths = next(iter(tokens.values())).lengths
        given = out.get("n_tokens", np.int64(-1))
        out["n_tokens"] = np.where(given == -1, lengths, given)
    if derive is not None:
        out |= derive(chunk)
    return _without(out, chunk, lenient=lenient)


def _check_missing(
    name: str, values: Values, columns: dict[str, Values], problems: Problems
) -> None:
    if values.missing is None or column(name).nullable:
        return
    if name == "response" or (name == "prompt" and "prompt_id" in columns):
        return  # read for its key alone
    remedy = _NEEDED.get(name, f"; fill it in, or leave the column out: --map {name}=")
    problems.add_all(np.flatnonzero(values.missing), name, f"is null or absent here{remedy}")


_NEEDED = {
    "prompt_id": "; give every row one, or set such rows aside, counted: --lenient FILE",
    "prompt": "; give every row one, or set such rows aside, counted: --lenient FILE",
    "reward": "; a failed rollout earned something: log that, or say it, as in --map-value "
    "reward:null=0; or set such rows aside, counted: --lenient FILE",
}


def _check_lengths(tokens: dict[str, Tokens], problems: Problems) -> None:
    (first, *others) = tokens or [None]
    for other in others:
        here, there = tokens[first].lengths, tokens[other].lengths
        for row in np.flatnonzero(here != there):
            problems.add(
                row,
                f"{first}_logprobs",
                f"has {here[row]} values, '{other}_logprobs' {there[row]}; both need one value "
                "per response token: re-export with the same tokenizer and mask",
            )


def _matrix(features: Tokens, problems: Problems) -> np.ndarray:
    """Return features as float64 of shape (rows, features); rows of another length are noted."""
    lengths = features.lengths
    length = int(lengths[0]) if len(lengths) else 0
    for row in np.flatnonzero(lengths != length):
        problems.add(
            row, "features", f"has {lengths[row]} values, the first row {length}; all need as many"
        )
    out = np.zeros((len(lengths), length))
    for row in np.flatnonzero(lengths == length):
        out[row] = features.row(row)
    for row in np.flatnonzero(~np.isfinite(out).all(axis=1)):
        problems.add(row, "features", f"{_bad_token(features, row)}")
    return out


def _single_values(columns: dict[str, Values], problems: Problems) -> dict:
    """Return the columns that hold one value a row, checked; texts become keys."""
    out = {}
    for name, values in columns.items():
        known, data, missing = column(name), values.data, values.missing
        if known.kind in LISTS or known.kind == "token_ids":
            continue
        empty = not len(data) or (missing is not None and missing.all())
        if empty and known.nullable and name in NATIVE:
            continue
        if known.kind == "float":
            bad = np.isinf(data) if known.nullable else ~np.isfinite(data)
            for row in np.flatnonzero(bad):
                problems.add(row, name, f"is {data[row]}; expected a finite number{_BIAS}")
        _check_value(name, values, problems)
        out[name] = data
    return _with_keys(out, columns)


def _check_value(name: str, values: Values, problems: Problems) -> None:
    data = values.data
    present = True if values.missing is None else ~values.missing
    if name == "n_tokens":
        for row in np.flatnonzero((data < 0) & present):
            problems.add(row, name, f"is {data[row]}; expected a count of tokens")
    if name == "label_probability":
        for row in np.flatnonzero(~((data > 0) & (data <= 1)) & present):
            problems.add(row, name, f"is {data[row]}; expected a probability above 0, at most 1")


def _with_keys(out: dict, columns: dict[str, Values]) -> dict:
    """Put keys in place of texts that are not needed as ids."""
    if "prompt_key" in out:
        out["prompt_key"] = out["prompt_key"].view(np.int64)
    for name in ("prompt", "response"):
        if name not in out or isinstance(out[name], list):
            continue  # a list: words as they stand in the file, for `derive`
        key = "prompt_key" if name == "prompt" else "response_key"
        out.setdefault(key, _text_keys(columns[name], out.get("prompt_id")).view(np.int64))
        if name == "response" or "prompt_id" in out:
            del out[name]
    return out


def _text_keys(values: Values, ids: pa.Array | None) -> np.ndarray:
    """Return a key per text; a row without one has that of its prompt id alone."""
    if not values.data.null_count:
        return hash_ids(values.data)
    keys = hash_ids(values.data.fill_null(""))
    if ids is not None and not ids.null_count:
        none = values.data.is_null().to_numpy(zero_copy_only=False)
        keys = np.where(none, untold(hash_ids(ids)), keys)
    return keys


_BIAS = ". Fix it where the log is made: dropping rows by outcome biases every mean"


def _sums(
    tokens: dict[str, Tokens],
    token_clip: float | tuple[float, ...] | None,
    *,
    stored_clip: bool,
) -> dict[str, np.ndarray]:
    """Return the sums that the token lists give, under the names of the columns they stand for."""
    sums = {}
    if {"policy", "ref"} <= tokens.keys():
        pair = pair_sums(tokens["policy"], tokens["ref"])
        sums = dict(zip(("policy_logprob", "ref_logprob", "log_ratio"), pair, strict=True))
        if token_clip is not None and not stored_clip:
            sums["token_clipped_log_ratio"] = clipped_sums(
                tokens["policy"], tokens["ref"], token_clip
            )
    for role, lists in tokens.items():
        if f"{role}_logprob" not in sums:
            sums[f"{role}_logprob"] = row_sums(lists)
    return sums


def _check_sums(sums: dict[str, np.ndarray], tokens: dict[str, Tokens], problems: Problems) -> None:
    """Find the token behind each sum that is not finite; NaN and infinity never cancel."""
    for role, lists in tokens.items():
        name = f"{role}_logprobs"
        for row in np.flatnonzero(~np.isfinite(sums[f"{role}_logprob"])):
            problems.add(row, name, _bad_token(lists, row))


def _bad_token(tokens: Tokens, row: int) -> str:
    where = np.flatnonzero(~np.isfinite(tokens.row(row)))
    if not len(where):
        return f"sums to infinity; expected log-probs in nats{_BIAS}"
    null = tokens.null is not None and tokens.starts[row] + where[0] in tokens.null
    found = "null" if null else tokens.row(row)[where[0]]
    return f"is {found} at token {where[0] + 1}; expected a finite number{_BIAS}"


def _combine(out: dict, sums: dict[str, np.ndarray], problems: Problems) -> dict:
    """Fill what the log does not give itself: given sums win, and must agree with the lists."""
    for name, values in sums.items():
        _check_agreement(name, out, values, sums, problems)
        out.setdefault(name, values)
    if {"policy_logprob", "ref_logprob"} <= out.keys():
        difference = out["policy_logprob"] - out["ref_logprob"]
        _check_agreement("log_ratio", out, difference, out, problems)
        out.setdefault("log_ratio", difference)
    return out


def _check_agreement(name: str, out: dict, other: np.ndarray, scale: dict, problems: Problems):
    """Given and computed values may differ by rounding (float32 sums), not by a mask or a token."""
    if name not in out or name == "token_clipped_log_ratio":
        return
    size = sum(np.abs(scale.get(part, 0.0)) for part in ("policy_logprob", "ref_logprob"))
    gap = np.abs(out[name] - other)
    for row in np.flatnonzero(gap > 0.05 + 1e-3 * size):
        problems.add(
            row,
            name,
            f"is {out[name][row]:.6g}, but the log-probs of this row give {other[row]:.6g} nats; "
            "expected the same quantity: leave one of them out, or map the right column",
        )


def _without(out: dict, chunk: Chunk, *, lenient: bool) -> Reduced:
    """Raise the first problem, or leave the bad rows out."""
    first, notes = chunk.problems.first, tuple(chunk.problems.notes)
    if not first:
        return Reduced(out, notes=notes)
    rows = sorted(first)
    rejected = tuple(
        Rejected(
            file=chunk.file,
            row=int(chunk.numbers[row]),
            column=first[row][0],
            problem=first[row][1],
            path=chunk.names.get(first[row][0], ""),
            text=chunk.text[row] if chunk.text is not None else None,
        )
        for row in rows
    )
    if not lenient:
        raise LogError(message(rejected[0]))
    keep = np.ones(len(chunk.numbers), dtype=bool)
    keep[rows] = False
    kept = {name: _filter(values, keep) for name, values in out.items()}
    return Reduced(kept, rejected, notes=notes)


def _filter(values: np.ndarray | pa.Array, keep: np.ndarray) -> np.ndarray | pa.Array:
    return values[keep] if isinstance(values, np.ndarray) else values.filter(pa.array(keep))


def message(bad: Rejected) -> str:
    """Return the one-line error for a bad row."""
    path = bad.path or bad.column
    named = f"'{bad.column}'" if path == bad.column else f"'{safe(path)}' (as '{bad.column}')"
    problem = bad.problem.replace("PATH", safe(path))
    what = f"{named} {problem}" if bad.column else problem
    return f"{bad.file}:{bad.row}: {what}."

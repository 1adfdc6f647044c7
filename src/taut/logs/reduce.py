"""From a chunk of raw columns to one row of numbers per rollout.

Token lists become sequence sums here, once. Each row is reduced on its own, by the same compiled
code and in the same order whatever the file format, the row group or the thread, so that the sums
are bit-identical however a log is cut (field-notes §6).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.origin import Origin
from taut.logs.schema import LISTS, NATIVE

# Token j of a row is added to lane j mod LANES, then the lanes are added in halves. A fixed order
# makes sums reproducible; independent lanes let the compiler use vector instructions.
LANES = 32
_ROLES = ("policy", "ref", "behaviour")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token lists of some rows, laid flat.

    Attributes:
        values: Log-probs of all tokens, nats, float32 or float64, shape (tokens,); NaN for null.
        starts, ends: Row i is values[starts[i] : ends[i]], int64, each of shape (rows,).
        null: Positions in `values` that hold null, or None.
    """

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    null: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, shape (rows,)."""
        return self.ends - self.starts

    def row(self, row: int) -> np.ndarray:
        """Return the token values of one row, nats, shape (its tokens,)."""
        return self.values[self.starts[row] : self.ends[row]]


@dataclass(frozen=True, slots=True)
class Values:
    """One raw column: `data` of shape (rows,), and a mask of rows that lack a value, or None."""

    data: np.ndarray | pa.Array | Tokens | list
    missing: np.ndarray | None = None


@dataclass(slots=True)
class Problems:
    """The first thing that is wrong with each bad row of a chunk."""

    first: dict[int, tuple[str, str]] = field(default_factory=dict)

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
    """

    file: str
    numbers: np.ndarray
    columns: dict[str, Values]
    problems: Problems
    text: Sequence[bytes] | None = None


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


@dataclass(frozen=True, slots=True)
class Reduced:
    """Rows as numbers: native name to array of shape (rows,), and the rows left out.

    `left_out_before` counts rows that were left out when the file was converted; `origin` is the
    framework that wrote them, None for a native log.
    """

    columns: dict[str, np.ndarray | pa.Array]
    rejected: tuple[Rejected, ...] = ()
    left_out_before: int = 0
    origin: Origin | None = None

    @property
    def left_out(self) -> int:
        """Rows left out, now or before."""
        return len(self.rejected) + self.left_out_before


@numba.njit(cache=True, nogil=True)
def _fold(lanes):
    width = lanes.size // 2
    while width:
        for j in range(width):
            lanes[j] += lanes[width + j]
        width //= 2
    return lanes[0]


@numba.njit(cache=True, nogil=True)
def _row_sums(values, starts, ends, sums):
    lanes = np.empty(LANES)
    for row in range(sums.size):
        part = values[starts[row] : ends[row]]
        lanes[:] = 0.0
        whole = part.size - part.size % LANES
        for at in range(0, whole, LANES):
            block = part[at : at + LANES]
            for j in range(LANES):
                lanes[j] += np.float64(block[j])
        for j in range(part.size - whole):
            lanes[j] += np.float64(part[whole + j])
        sums[row] = _fold(lanes)


@numba.njit(cache=True, nogil=True)
def _pair_sums(
    policy, policy_from, policy_to, ref, ref_from, ref_to, policy_sums, ref_sums, ratios
):
    lanes = np.empty((3, LANES))
    p_lane, r_lane, d_lane = lanes[0], lanes[1], lanes[2]
    for row in range(ratios.size):
        p = policy[policy_from[row] : policy_to[row]]
        r = ref[ref_from[row] : ref_to[row]]
        lanes[:] = 0.0
        size = min(p.size, r.size)
        whole = size - size % LANES
        for at in range(0, whole, LANES):
            a, b = p[at : at + LANES], r[at : at + LANES]
            for j in range(LANES):
                x, y = np.float64(a[j]), np.float64(b[j])
                p_lane[j] += x
                r_lane[j] += y
                d_lane[j] += x - y
        for j in range(size - whole):
            x, y = np.float64(p[whole + j]), np.float64(r[whole + j])
            p_lane[j] += x
            r_lane[j] += y
            d_lane[j] += x - y
        policy_sums[row], ref_sums[row], ratios[row] = _fold(p_lane), _fold(r_lane), _fold(d_lane)


@numba.njit(cache=True, nogil=True)
def _clipped_sums(policy, policy_from, policy_to, ref, ref_from, ref_to, clip, sums):
    lanes = np.empty(LANES)
    for row in range(sums.size):
        p = policy[policy_from[row] : policy_to[row]]
        r = ref[ref_from[row] : ref_to[row]]
        lanes[:] = 0.0
        for j in range(min(p.size, r.size)):
            lanes[j % LANES] += min(max(np.float64(p[j]) - np.float64(r[j]), -clip), clip)
        sums[row] = _fold(lanes)


def row_sums(tokens: Tokens) -> np.ndarray:
    """Return the float64 sum of each row's tokens, nats, shape (rows,); an empty row gives 0."""
    sums = np.empty(len(tokens.starts))
    _row_sums(_plain(tokens.values), tokens.starts, tokens.ends, sums)
    return sums


def pair_sums(policy: Tokens, ref: Tokens) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row sums of policy, of ref, and of their token-wise difference, nats, each (rows,).

    The difference is taken per token in float64, so that large sums do not cancel. Rows whose
    lengths differ get the sum over the shorter one; the caller rejects them.
    """
    p, r = _alike(policy, ref)
    sums = np.empty((3, len(policy.starts)))
    _pair_sums(p, policy.starts, policy.ends, r, ref.starts, ref.ends, *sums)
    return sums[0], sums[1], sums[2]


def clipped_sums(policy: Tokens, ref: Tokens, token_clip: float | tuple[float, ...]) -> np.ndarray:
    """Return the row sums of the token log-ratios clipped to ±token_clip nats (theory §4.5).

    Shape (rows,); for several constants (rows, constants), from one decoding of the lists.
    """
    if isinstance(token_clip, tuple):
        return np.stack([clipped_sums(policy, ref, clip) for clip in token_clip], axis=1)
    p, r = _alike(policy, ref)
    sums = np.empty(len(policy.starts))
    _clipped_sums(p, policy.starts, policy.ends, r, ref.starts, ref.ends, float(token_clip), sums)
    return sums


@numba.njit(cache=True, nogil=True)
def _first_marked(mask, starts, ends, first):
    for row in range(first.size):
        first[row] = ends[row] - starts[row]
        for at in range(starts[row], ends[row]):
            if mask[at] != 0:
                first[row] = at - starts[row]
                break


@numba.njit(cache=True, nogil=True)
def _select(values, starts, ends, mask, mask_starts, mask_ends, out, sizes):
    to = 0
    for row in range(sizes.size):
        begin = to
        size = min(ends[row] - starts[row], mask_ends[row] - mask_starts[row])
        for j in range(size):
            if mask[mask_starts[row] + j] != 0:
                out[to] = values[starts[row] + j]
                to += 1
        sizes[row] = to - begin
    return to


def first_marked(mask: Tokens) -> np.ndarray:
    """Return the position of the first mark of each row, its length where there is none."""
    first = np.empty(len(mask.starts), dtype=np.int64)
    _first_marked(_plain(mask.values), mask.starts, mask.ends, first)
    return first


def select_tokens(tokens: Tokens, mask: Tokens) -> Tokens:
    """Return the tokens of each row whose mask is not 0; of the shorter, where lengths differ."""
    values = _plain(tokens.values)
    out = np.empty(values.size, dtype=values.dtype)
    sizes = np.empty(len(tokens.starts), dtype=np.int64)
    marks = _plain(mask.values)
    kept = _select(values, tokens.starts, tokens.ends, marks, mask.starts, mask.ends, out, sizes)
    ends = np.cumsum(sizes)
    return Tokens(out[:kept], ends - sizes, ends)


def _plain(values: np.ndarray) -> np.ndarray:
    """Return the values as read-only float32 or float64: one compiled version for each."""
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    values = values.view()
    values.flags.writeable = False
    return values


def _alike(policy: Tokens, ref: Tokens) -> tuple[np.ndarray, np.ndarray]:
    p, r = policy.values, ref.values
    if p.dtype != r.dtype:
        p, r = p.astype(np.float64), r.astype(np.float64)
    return _plain(p), _plain(r)


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
    tokens = {role: column.data for role, column in lists.items() if column is not None}
    for name, column in chunk.columns.items():
        _check_missing(name, column, problems)
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


def _check_missing(name: str, column: Values, problems: Problems) -> None:
    if column.missing is not None and not NATIVE[name].nullable:
        problems.add_all(np.flatnonzero(column.missing), name, "is null or absent here")


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
    """Return the columns that hold one value a row, checked."""
    out = {}
    for name, column in columns.items():
        kind, data = NATIVE[name].kind, column.data
        if kind in LISTS or kind == "token_ids":
            continue
        if kind == "float":
            bad = np.isinf(data) if NATIVE[name].nullable else ~np.isfinite(data)
            for row in np.flatnonzero(bad):
                problems.add(row, name, f"is {data[row]}; expected a finite number{_BIAS}")
        if name == "n_tokens":
            present = True if column.missing is None else ~column.missing
            for row in np.flatnonzero((data < 0) & present):
                problems.add(row, name, f"is {data[row]}; expected a count of tokens")
        out[name] = data
    return out


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
    for role, column in tokens.items():
        if f"{role}_logprob" not in sums:
            sums[f"{role}_logprob"] = row_sums(column)
    return sums


def _check_sums(sums: dict[str, np.ndarray], tokens: dict[str, Tokens], problems: Problems) -> None:
    """Find the token behind each sum that is not finite; NaN and infinity never cancel."""
    for role, column in tokens.items():
        name = f"{role}_logprobs"
        for row in np.flatnonzero(~np.isfinite(sums[f"{role}_logprob"])):
            problems.add(row, name, _bad_token(column, row))


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
    first = chunk.problems.first
    if not first:
        return Reduced(out)
    rows = sorted(first)
    rejected = tuple(
        Rejected(
            file=chunk.file,
            row=int(chunk.numbers[row]),
            column=first[row][0],
            problem=first[row][1],
            text=chunk.text[row] if chunk.text is not None else None,
        )
        for row in rows
    )
    if not lenient:
        raise LogError(message(rejected[0]))
    keep = np.ones(len(chunk.numbers), dtype=bool)
    keep[rows] = False
    return Reduced({name: _filter(values, keep) for name, values in out.items()}, rejected)


def _filter(values: np.ndarray | pa.Array, keep: np.ndarray) -> np.ndarray | pa.Array:
    return values[keep] if isinstance(values, np.ndarray) else values.filter(pa.array(keep))


def message(bad: Rejected) -> str:
    """Return the one-line error for a bad row."""
    what = f"'{bad.column}' {bad.problem}" if bad.column else bad.problem
    return f"{bad.file}:{bad.row}: {what}."

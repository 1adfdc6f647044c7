"""Token lists laid flat, and their sums: each row on its own, in one fixed order of additions.

The same compiled code sums a row whatever the file format, the row group or the thread, so that the
sums are bit-identical however a log is cut (field-notes §6).
"""

from dataclasses import dataclass

import numba
import numpy as np

# Token j of a row is added to lane j mod LANES, then the lanes are added in halves. A fixed order
# makes sums reproducible; independent lanes let the compiler use vector instructions.
LANES = 32


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

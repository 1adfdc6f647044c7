"""Parts of the reader: numbers from text, sums of tokens, files from patterns."""

import json
import math
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taut.errors import LogError
from taut.logs.layout import native_layout
from taut.logs.plan import check_mapping, make_plan
from taut.logs.readers.scan import PADDING, REPEATED, SLOW, scan
from taut.logs.schema import ANY, COLUMNS, EXPECTED, KEPT, NATIVE, RAW, column
from taut.logs.sources import find, sniff
from taut.logs.tokens import Tokens, clipped_sums, pair_sums, row_sums
from taut.logs.write import write_native

LISTS = frozenset({"lp"})
OTHERS = frozenset({"reward"})
# The first call compiles, and machines that test are busy: no deadline per example.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scanned(text: str):
    data = text.encode()
    padded = np.frombuffer(data + bytes(PADDING), dtype=np.uint8)
    return scan(padded, len(data), LISTS, OTHERS)


def numbers(texts: list[str]) -> list[float] | None:
    """The values that the scanner reads, or None where it leaves the line to orjson."""
    found = scanned('{"lp": [' + ", ".join(texts) + "]}")
    return None if found.lines[0, 5] & SLOW else found.values.tolist()


@unhurried
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_shortest_decimals_come_back_exactly(values):
    """Every float64 that Python prints is read as the same bits, or left to orjson."""
    got = numbers([repr(value) for value in values])
    assert got is None or [struct.pack("d", x) for x in got] == [
        struct.pack("d", x) for x in values
    ]


@unhurried
@given(
    st.integers(0, 10**19 - 1),
    st.integers(0, 30),
    st.integers(-330, 310),
    st.sampled_from(["", "-"]),
)
def test_any_decimal_is_correctly_rounded(digits, point, exponent, sign):
    """Digits, point and exponent in any combination agree with Python's own conversion."""
    text = str(digits).rjust(point + 1, "0")
    text = f"{text[: len(text) - point]}.{text[len(text) - point :]}" if point else text
    text = f"{sign}{text}e{exponent}"
    got = numbers([text])
    assert got is None or struct.pack("d", got[0]) == struct.pack("d", float(text))


def test_ties_are_rounded_to_even():
    """Integers half way between two floats go to the even one."""
    for text in ("9007199254740993", "9007199254740995", "18014398509481986e0", "4.5e-1"):
        assert numbers([text]) == [float(text)]


def test_log_probs_are_read_without_orjson():
    """What logs hold (17 digits, zeros, small exponents, integers) takes the fast road."""
    texts = [
        "-1.0836279328392834",
        "-0.0",
        "0",
        "-3",
        "-1.1920929e-07",
        "1e-5",
        "-27.631021",
        "2E+3",
    ]
    assert numbers(texts) == [float(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "1_0",
        "NaN",
        "null",
        '"1"',
        "1 2",
        "",
        "[1]",
        "--1",
    ],
)
def test_what_is_not_a_json_number_is_left_to_orjson(text):
    """The scanner accepts exactly JSON's grammar, so that orjson's verdict is the only one."""
    assert numbers(["1", text]) is None


@unhurried
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["lp", "a", "reward", 'q"\\', "é"]),
            st.recursive(
                st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=12),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["lp", "b", "\\"]), inner, max_size=2)
                ),
                max_leaves=6,
            )
            | st.lists(st.floats(-9, 0), max_size=9),
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    st.booleans(),
)
def test_shortened_lines_mean_the_same(rows, separators, escape):
    """A shortened line is the line with each list under a wanted key replaced by its index."""
    text = "\n".join(json.dumps(row, separators=separators, ensure_ascii=escape) for row in rows)
    found = scanned(text)
    assert len(found.lines) == len(rows)

    def restored(value):
        if isinstance(value, dict):
            return {
                key: (
                    found.values[slice(*found.cuts[inner])].tolist()
                    if key == "lp" and isinstance(inner, int)
                    else restored(inner)
                )
                for key, inner in value.items()
            }
        return [restored(inner) for inner in value] if isinstance(value, list) else value

    for row, (_, _, _, start, end, flags) in zip(rows, found.lines.tolist(), strict=True):
        short = json.loads(bytes(found.short[start:end]))
        assert (short if flags & SLOW else restored(short)) == row


def test_a_repeated_key_is_flagged_only_at_the_top():
    """The same key inside another object is another column."""
    found = scanned('{"reward":1,"reward":2}\n{"reward":1,"x":{"reward":2}}\n{"lp":[],"lp":[]}')
    assert [bool(flags & REPEATED) for flags in found.lines[:, 5]] == [True, False, True]


def tokens(rows: list[list[float]], dtype=np.float64) -> Tokens:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([x for row in rows for x in row], dtype=dtype)
    return Tokens(flat, np.r_[0, ends[:-1]], ends)


@unhurried
@given(
    st.lists(st.lists(st.floats(-50, 0, width=32), max_size=100), min_size=1, max_size=6),
    st.floats(0.01, 5),
)
def test_sums_are_exact_to_rounding_and_do_not_depend_on_storage(rows, clip):
    """Row sums equal exact sums to 1e-12; float32 and float64 storage give the same bits."""
    other = [[x / 2 - 1 for x in row] for row in rows]
    policy, ref = tokens(rows), tokens(other)
    p, r, ratio = pair_sums(policy, ref)
    for row, (a, b) in enumerate(zip(rows, other, strict=True)):
        assert math.isclose(p[row], math.fsum(a), rel_tol=1e-12, abs_tol=1e-12)
        differences = [x - y for x, y in zip(a, b, strict=True)]
        assert math.isclose(ratio[row], math.fsum(differences), rel_tol=1e-12, abs_tol=1e-12)
        clipped = math.fsum(min(max(x, -clip), clip) for x in differences)
        assert math.isclose(clipped_sums(policy, ref, clip)[row], clipped, abs_tol=1e-11)
    assert row_sums(policy).tobytes() == p.tobytes() == row_sums(tokens(rows, "f4")).tobytes()
    assert row_sums(ref).tobytes() == r.tobytes()


def test_a_row_sum_does_not_depend_on_its_neighbours():
    """Rows are reduced one by one: alone, among others, or within a longer buffer."""
    values = -np.random.default_rng(0).exponential(1, 1000)
    alone = row_sums(Tokens(values[100:433].copy(), np.array([0]), np.array([333])))
    among = row_sums(Tokens(values, np.array([0, 100, 433]), np.array([100, 433, 1000])))
    assert alone[0] == among[1]


def test_float32_sums_would_not_do():
    """The check has power: separate float32 sums of 2,000 tokens are off by more than 1e-6."""
    rng = np.random.default_rng(1)
    policy = -rng.exponential(1, 2000).astype(np.float32)
    ref = (policy + rng.normal(0, 0.1, 2000)).astype(np.float32)
    exact = math.fsum(np.float64(policy) - np.float64(ref))
    ours = pair_sums(tokens([policy.tolist()], "f4"), tokens([ref.tolist()], "f4"))[2][0]
    assert abs(ours - exact) < 1e-11
    assert abs(float(np.cumsum(policy)[-1] - np.cumsum(ref)[-1]) - exact) > 1e-6


def test_the_schema_says_what_every_column_is():
    """Names are unique, each kind has words for messages, each column a meaning."""
    assert len(NATIVE) == len(COLUMNS)
    raw = (*RAW.values(), column(f"{KEPT}domain"), column(f"{ANY}reward"))
    assert {each.kind for each in (*COLUMNS, *raw)} == EXPECTED.keys()
    assert not NATIVE.keys() & RAW.keys()
    assert all(each.meaning for each in COLUMNS)
    for each in COLUMNS:
        if each.kind in ("float", "tokens"):
            assert each.unit


def test_sums_win_over_lists_and_lists_are_then_not_read():
    """Token lists are left on disk where their sums stand beside them, unless they are clipped."""
    present = [
        "prompt_id",
        "reward",
        "policy_logprob",
        "ref_logprob",
        "policy_logprobs",
        "ref_logprobs",
        "policy",
    ]
    paths = check_mapping(None)
    lean = make_plan("f", native_layout(paths), present, present, token_clip=None)
    clipped = make_plan("f", native_layout(paths), present, present, token_clip=1.0)
    assert not {"policy_logprobs", "ref_logprobs"} & lean.read.keys()
    assert {"policy_logprobs", "ref_logprobs"} <= clipped.read.keys()
    assert "policy" in lean.read


def test_files_are_found_once_in_a_fixed_order(tmp_path):
    """Folders, globs and paths that overlap give each file once; hidden files stay out."""
    for name in ("b.jsonl", "a.parquet.gz", ".hidden.jsonl", "_SUCCESS", "notes.md"):
        (tmp_path / name).write_bytes(b'{"reward": 1}\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.ndjson").write_bytes(b"{}\n")
    given = [tmp_path, tmp_path / "b.jsonl", str(tmp_path / "*.jsonl")]
    names = [source.name.removeprefix(f"{tmp_path}/") for source in find(given)]
    assert names == ["a.parquet.gz", "b.jsonl", "sub/c.ndjson"]


def test_content_decides_not_the_suffix(tmp_path):
    """A Parquet file called .jsonl is read as Parquet, and the other way round."""
    pq.write_table(pa.table({"reward": [1.0]}), tmp_path / "a.jsonl")
    (tmp_path / "b.parquet").write_bytes(b'{"reward": 1}\n')
    assert sniff(str(tmp_path / "a.jsonl")).format == "parquet"
    assert sniff(str(tmp_path / "b.parquet")).format == "jsonl"


def test_native_logs_come_from_columns_too(tmp_path):
    """Columns in memory are written with their types; NaN labels and unknown lengths are null."""
    columns = {
        "reward": np.array([1.0, 2.0]),
        "prompt_id": ["a", "b"],
        "gold": np.array([np.nan, 1.0]),
        "n_tokens": np.array([-1, 3]),
        "step": [1, 2],
    }
    assert write_native(columns, tmp_path / "a.parquet") == 2
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["prompt_id", "reward", "gold", "step", "n_tokens"]
    assert table["gold"].to_pylist() == [None, 1.0]
    assert table["n_tokens"].to_pylist() == [None, 3]
    with pytest.raises(LogError, match="found none"):
        write_native(iter([]), tmp_path / "b.parquet")

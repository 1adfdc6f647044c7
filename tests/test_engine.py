"""The engine as a whole: the same rollouts whatever way a log is stored, in bounded memory."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taut.draws.rollouts import Rollouts
from taut.engines import assemble, local
from taut.engines.local import convert, read_rollouts
from taut.logs.facts import LogFacts
from taut.logs.readers import jsonl, parquet
from taut.logs.write import write_native

ARENA = Path(__file__).parent.parent.parent / "shared/data/arena/logged_data.jsonl"
ARENA_MAP = {
    "prompt_id": "metadata.prompt_id",
    "reward": "judge_score",
    "gold": "oracle_label",
    "policy_logprob": "base_policy_logprob",
    "ref_logprob": "target_policy_logprobs.parallel_universe_prompt",
}
CLIP = 0.5


def make_rows(seed: int, rows: int) -> list[dict]:
    """Rollouts with every native column that the audit reads."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        size = int(rng.integers(0, 70))
        policy = -rng.exponential(1, size)
        out.append(
            {
                "prompt_id": f"prompt {i // 3} é",
                "reward": float(rng.normal()),
                "policy_logprobs": policy.tolist(),
                "ref_logprobs": (policy + rng.normal(0, 0.5, size)).tolist(),
                "behaviour_logprobs": (policy + rng.normal(0, 0.01, size)).tolist(),
                "gold": None if rng.random() < 0.5 else float(rng.random()),
                "group": int(rng.integers(0, 5)),
                "step": int(rng.integers(0, 3)),
                "policy": ["new", "old"][int(rng.integers(0, 2))],
                "run": f"run-{int(rng.integers(0, 3))}",
                "truncated": bool(rng.random() < 0.2),
                "response": "word " * int(rng.integers(0, 30)),
            }
        )
    return out


def same(a: Rollouts, b: Rollouts) -> bool:
    """Bitwise equality of all columns, types included."""
    for item in fields(Rollouts):
        x, y = getattr(a, item.name), getattr(b, item.name)
        if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
            if x is None or y is None or x.dtype != y.dtype or x.tobytes() != y.tobytes():
                return False
        elif item.name != "sources" and x != y:
            return False
    return True


def write_json(rows: list[dict], path: Path, *, newline: str = "\n", last: bool = True) -> None:
    text = newline.join(json.dumps(row) for row in rows) + (newline if last else "")
    data = text.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.Codec("zstd").compress(data).to_pybytes()
    path.write_bytes(data)


def write_parquet(rows: list[dict], path: Path, **options) -> None:
    # Group all rows' columns first: a shard without labels still has a gold column of floats.
    schema = pa.Table.from_pylist(make_rows(0, 50)).schema
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(1, 59), max_size=3),
    suffixes=st.lists(
        st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"]), min_size=4, max_size=4
    ),
    newline=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last=st.booleans(),
    row_group=st.integers(1, 70),
    version=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["none", "snappy", "zstd", "lz4"]),
    block=st.integers(64, 5000),
    batch=st.integers(200, 20_000),
    threads=st.integers(1, 3),
)
def test_rollouts_do_not_depend_on_storage(
    tmp_path_factory,
    seed,
    cuts,
    suffixes,
    newline,
    last,
    row_group,
    version,
    compression,
    block,
    batch,
    threads,
):
    """File split, format, compression, row groups, blocks and threads never change a bit."""
    rows = make_rows(seed, 60)
    folder = tmp_path_factory.mktemp("log")
    edges = [0, *sorted(set(cuts)), len(rows)]
    for part, (start, end) in enumerate(pairwise(edges)):
        path = folder / f"{part}{suffixes[part]}"
        if path.suffix == ".parquet":
            write_parquet(
                rows[start:end],
                path,
                row_group_size=row_group,
                data_page_version=version,
                compression=compression,
            )
        else:
            write_json(rows[start:end], path, newline=newline, last=last)
    whole = folder.with_suffix(".jsonl")
    write_json(rows, whole)
    expected = read_rollouts(whole, token_clip=CLIP, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_FIRST_BLOCK", block)
        patch.setattr(jsonl, "_BLOCK", block)
        patch.setattr(parquet, "_BATCH_BYTES", batch)
        patch.setattr(parquet, "_TASK_BYTES", 2 * batch)
        patch.setattr(local, "_TOGETHER", threads + 1)  # small pieces are joined as they come
        assert same(expected, read_rollouts(folder, token_clip=CLIP, threads=threads))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99))
def test_file_order_only_permutes_rows(seed, tmp_path_factory):
    """Codes of policies and runs do not depend on which file is read first."""
    rows = make_rows(seed, 40)
    folder = tmp_path_factory.mktemp("log")
    write_json(rows[:15], folder / "a.jsonl")
    write_parquet(rows[15:], folder / "b.parquet")
    one = read_rollouts([folder / "a.jsonl", folder / "b.parquet"])
    two = read_rollouts([folder / "b.parquet", folder / "a.jsonl"])
    assert same(one, two.take(np.r_[np.arange(25, 40), np.arange(25)]))


def test_unusual_lines_are_read_like_the_others(tmp_path):
    """A line that the scanner leaves to orjson gives the same sums, next to lines that it reads."""
    rows = make_rows(11, 30)
    write_json(rows, tmp_path / "a.jsonl")
    for i, row in enumerate(rows):
        if i % 3 == 0:
            row["é"] = i  # written as an escape within a key
        if i % 3 == 1:
            row["nested"] = {"policy_logprobs": [None]}
    write_json(rows, tmp_path / "b.jsonl")
    a = read_rollouts(tmp_path / "a.jsonl", token_clip=CLIP)
    assert same(a, read_rollouts(tmp_path / "b.jsonl", token_clip=CLIP))


def test_float32_lists_agree_between_formats(tmp_path):
    """Float32 tokens in Parquet and their exact decimals in JSON lines give the same bits."""
    rows = make_rows(3, 30)
    for row in rows:
        for name in ("policy_logprobs", "ref_logprobs", "behaviour_logprobs"):
            row[name] = np.float32(row[name]).astype(float).tolist()
    table = pa.Table.from_pylist(rows)
    for index, name in enumerate(table.column_names):
        if name.endswith("_logprobs"):
            table = table.set_column(index, name, table[name].cast(pa.list_(pa.float32())))
    pq.write_table(table, tmp_path / "a.parquet")
    write_json(rows, tmp_path / "a.jsonl")
    assert same(read_rollouts(tmp_path / "a.parquet"), read_rollouts(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("kind", [pa.large_list(pa.float64()), pa.list_(pa.float64(), 3)])
def test_other_list_types_are_read_alike(kind, tmp_path):
    """Large and fixed-size lists hold the same tokens as lists."""
    lists = [[-1.0, -2.0, -3.0], [-0.5, 0.0, -0.25], [-1.0, -1.0, -1.0]]
    columns = {"prompt_id": [1, 2, 3], "reward": [1, 2, 3]}
    for name, dtype in (("a", kind), ("b", pa.list_(pa.float64()))):
        for list_name in ("policy_logprobs", "ref_logprobs"):
            columns[list_name] = pa.array(lists, type=dtype)
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=2)
    a, b = (read_rollouts(tmp_path / f"{name}.parquet") for name in "ab")
    assert same(a, b)
    assert a.policy_logprob.tolist() == [-6.0, -0.75, -3.0]


def test_nested_columns_are_mapped_in_both_formats(tmp_path):
    """A dotted path reaches into objects and structs; a column of that very name goes first."""
    mapping = {"prompt_id": "meta.id", "reward": "meta.score", "log_ratio": "a.b"}
    rows = [
        {"meta": {"id": f"p{i}", "score": i / 3}, "a.b": -i / 7, "a": {"b": 9.0}} for i in range(5)
    ]
    write_json(rows, tmp_path / "a.jsonl")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    one = read_rollouts(tmp_path / "a.jsonl", mapping=mapping)
    assert same(one, read_rollouts(tmp_path / "a.parquet", mapping=mapping))
    assert one.log_ratio.tolist() == [-i / 7 for i in range(5)]


def test_rows_without_an_id_are_grouped_by_prompt(tmp_path):
    """The text of the prompt stands for a missing id, and survives conversion."""
    rows = [{"prompt": text, "reward": 1.0} for text in ("a", "b", "a")]
    write_json(rows, tmp_path / "a.jsonl")
    read = read_rollouts(tmp_path / "a.jsonl")
    assert read.prompt[0] == read.prompt[2] != read.prompt[1]
    convert(tmp_path / "a.jsonl", tmp_path / "b.parquet")
    assert same(read, read_rollouts(tmp_path / "b.parquet"))


@pytest.mark.parametrize("clip", [None, CLIP])
def test_convert_keeps_every_bit(clip, tmp_path):
    """Reading a converted log equals reading the log: ids, names, sums, labels, lengths."""
    rows = make_rows(7, 120)
    write_json(rows[:50], tmp_path / "a.jsonl")
    write_parquet(rows[50:], tmp_path / "b.parquet", row_group_size=11)
    steps = []
    count = convert(
        tmp_path / "[ab].*",
        tmp_path / "out.parquet",
        token_clip=clip,
        progress=lambda rows, size: steps.append((rows, size)),
    )
    assert count == 120 and steps == sorted(steps)
    assert steps[-1] == (
        120,
        sum(os.path.getsize(tmp_path / name) for name in ("a.jsonl", "b.parquet")),
    )
    again = read_rollouts(tmp_path / "out.parquet", token_clip=clip)
    assert same(read_rollouts(tmp_path / "[ab].*", token_clip=clip), again)
    assert pq.read_table(tmp_path / "out.parquet")["prompt_id"][0].as_py() == "prompt 0 é"
    convert(tmp_path / "out.parquet", tmp_path / "twice.parquet", token_clip=clip)
    assert same(again, read_rollouts(tmp_path / "twice.parquet", token_clip=clip))


def test_converted_files_have_row_groups_of_8192(tmp_path):
    """Whatever the pieces, row groups are small enough to stream and large enough to compress."""
    rows = [{"prompt_id": i, "reward": 0.5} for i in range(20_000)]
    write_json(rows, tmp_path / "a.jsonl")
    convert(tmp_path / "a.jsonl", tmp_path / "b.parquet")
    metadata = pq.ParquetFile(tmp_path / "b.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(3)] == [8192, 8192, 3616]


def test_parquet_within_gzip_is_read(tmp_path):
    """A compressed Parquet file is unpacked to a temporary file and read."""
    rows = make_rows(5, 30)
    write_parquet(rows, tmp_path / "a.parquet", row_group_size=7)
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    a, b = read_rollouts(tmp_path / "a.parquet"), read_rollouts(tmp_path / "b.parquet.gz")
    assert same(a, b)


def test_ids_beyond_int64_are_kept_as_text(tmp_path):
    """Unsigned 64-bit ids, as hashes give them, are read and converted like their decimal text."""
    ids = [2**63 + 1, 7]
    rewards = pa.array([1.0, 2.0])
    pq.write_table(
        pa.table({"prompt_id": pa.array(ids, pa.uint64()), "reward": rewards}),
        tmp_path / "a.parquet",
    )
    pq.write_table(
        pa.table({"prompt_id": [str(i) for i in ids], "reward": rewards}), tmp_path / "b.parquet"
    )
    convert(tmp_path / "a.parquet", tmp_path / "c.parquet")
    a, b, c = (read_rollouts(tmp_path / f"{name}.parquet") for name in "abc")
    assert same(a, b) and same(a, c)


def test_labels_and_lengths_may_be_sparse(tmp_path):
    """A null label is NaN, no label at all is no column; unknown lengths are -1."""
    rows = [
        {"prompt_id": 1, "reward": 1},
        {"prompt_id": 2, "reward": 1, "gold": 0.5, "n_tokens": 3},
    ]
    write_json(rows, tmp_path / "a.jsonl")
    write_json(rows[:1], tmp_path / "b.jsonl")
    both = read_rollouts(tmp_path / "a.jsonl")
    assert np.isnan(both.gold[0]) and both.gold[1] == 0.5 and both.n_tokens.tolist() == [-1, 3]
    alone = read_rollouts(tmp_path / "b.jsonl")
    assert alone.gold is None and alone.n_tokens is None and alone.log_ratio is None


# Not ru_maxrss: a child inherits it from the process that started it.
_MEASURE = """
import sys
from taut.engines.local import read_rollouts

def peak():
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0])

read_rollouts(sys.argv[1])
before = peak()
print(len(read_rollouts(sys.argv[2])), (peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_giant_row_group_is_read_in_bounded_memory(tmp_path):
    """320 MB of tokens in one row group with dictionary pages need less than 120 MB more."""
    rng = np.random.default_rng(0)
    rows, size = 20_000, 2000
    flat = -rng.integers(0, 1000, rows * size).astype(np.float32) / 64
    offsets = np.arange(0, rows * size + 1, size, dtype=np.int32)
    tokens = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))
    ids = pa.array(np.arange(rows))
    columns = {"prompt_id": ids, "reward": ids, "policy_logprobs": tokens, "ref_logprobs": tokens}
    pq.write_table(pa.table(columns), tmp_path / "big.parquet", row_group_size=rows)
    pq.write_table(pa.table(columns).slice(0, 10), tmp_path / "small.parquet")
    command = [sys.executable, "-c", _MEASURE, tmp_path / "small.parquet", tmp_path / "big.parquet"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) == rows
    assert int(out[1]) < 120


@pytest.mark.skipif(not ARENA.exists(), reason="the arena data is not here")
def test_the_arena_log_is_read_through_a_mapping(tmp_path):
    """Real data: 1,000 rollouts, 480 labels, the difference of two sequence log-probs."""
    read = read_rollouts(ARENA, mapping=ARENA_MAP)
    raw = [json.loads(line) for line in ARENA.read_text().splitlines()]
    assert len(read) == 1000 and (~np.isnan(read.gold)).sum() == sum(
        "oracle_label" in row for row in raw
    )
    target = [row["target_policy_logprobs"]["parallel_universe_prompt"] for row in raw]
    assert read.log_ratio.tolist() == [
        row["base_policy_logprob"] - other for row, other in zip(raw, target, strict=True)
    ]
    convert(ARENA, tmp_path / "a.parquet", mapping=ARENA_MAP)
    found = read_rollouts(tmp_path / "a.parquet")
    assert found.facts.mapping == ARENA_MAP  # a converted log knows where its columns came from
    assert same(read, replace(found, sources=read.sources, facts=read.facts))


def test_features_are_read_on_request_from_either_format(tmp_path):
    """A matrix of features comes out the same from Parquet and JSONL, and only if asked for."""
    rows = [
        {"prompt_id": f"p{i}", "reward": i / 9, "features": [i / 7, -i / 3, 1.0]} for i in range(10)
    ]
    text = tmp_path / "log.jsonl"
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    expected = np.array([row["features"] for row in rows])
    for path in (text, table):
        assert read_rollouts(path).features is None
        assert np.array_equal(read_rollouts(path, features=True).features, expected)


def test_small_pieces_join_where_their_columns_are_the_same(monkeypatch):
    """Only neighbours, so that rows stay in order; a piece of many rows stays as it is."""
    monkeypatch.setattr(assemble, "_SMALL", 3)
    sizes, with_gold = (1, 2, 3, 1, 1, 1, 2), (1, 1, 1, 1, 0, 0, 1)
    rows = iter(range(sum(sizes)))
    pieces = []
    for size, gold in zip(sizes, with_gold, strict=True):
        reward = np.array([next(rows) for _ in range(size)], dtype=np.float64)
        pieces.append({"reward": reward} | ({"gold": -reward} if gold else {}))
    found = assemble.join_small([dict(piece) for piece in pieces])
    assert [len(piece["reward"]) for piece in found] == [3, 3, 1, 2, 2]
    assert np.concatenate([piece["reward"] for piece in found]).tolist() == list(range(11))
    assert ["gold" in piece for piece in found] == [True, True, True, False, True]
    assert all((piece["gold"] == -piece["reward"]).all() for piece in found if "gold" in piece)


def test_files_that_say_the_same_are_told_once_and_launched_prompts_add_up(tmp_path):
    """However many files: their facts are not kept one by one."""
    for part in range(5):
        facts = LogFacts(beta=0.1, launched_prompts=7 if part < 4 else 3)
        rows = {"prompt_id": [str(part)], "reward": [0.5]}
        write_native(rows, tmp_path / f"{part}.parquet", facts=facts)
    found = read_rollouts(tmp_path).facts
    assert (found.beta, found.launched_prompts) == (0.1, 31)
    write_native(rows, tmp_path / "more.parquet", facts=LogFacts(beta=0.2))
    assert "files differ in beta" in " ".join(read_rollouts(tmp_path).notes)

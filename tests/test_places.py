"""Logs elsewhere: S3 by a local server, fsspec by its memory; only what is needed moves."""

import json
import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from s3_stub import Server
from taut import cli
from taut.logs.places import _translated, is_place


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A bucket `logs` on a server of its own."""
    (tmp_path / "logs" / "run" / "step 1").mkdir(parents=True)
    server = Server(tmp_path)
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    server.server_close()


def lines(n=60):
    rng = np.random.default_rng(0)
    rows = [
        {"prompt_id": f"p{i}", "reward": round(rng.random(), 3), "kind": "ab"[i % 2]}
        for i in range(n)
    ]
    return "\n".join(map(json.dumps, rows)).encode()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


def test_a_folder_of_a_bucket_is_a_log(store, monkeypatch, capsys):
    """A folder, a pattern and a file give what the same files here give; taut.toml counts."""
    folder = store.folder / "logs" / "run"
    (folder / "step 1" / "a.jsonl").write_bytes(lines())
    (folder / "_hidden.jsonl").write_bytes(b"nothing")
    (folder / "notes.txt").write_bytes(b"nothing")
    (folder / "taut.toml").write_text("reward_range = [0, 1]\n")
    asked = ("--target", "reward", "--by", "kind", "--quiet", "--json", "-")
    here = run(monkeypatch, capsys, "audit", folder, *asked)
    for place in ("s3://logs/run", "s3://logs/run/**/a*.jsonl", "s3://logs/run/step 1/a.jsonl"):
        assert run(monkeypatch, capsys, "audit", place, *asked) == here
    assert json.loads(here[1])["groups"][0]["certificate"]["settings"]["reward_range"] == [0, 1]


def test_only_needed_columns_are_fetched(store):
    """Of a file with long texts, an audit of the reward fetches a small part."""
    rng = np.random.default_rng(0)
    rows = 2_000
    table = pa.table(
        {
            "prompt_id": pa.array(np.arange(rows)),
            "reward": pa.array(rng.random(rows)),
            "response": pa.array([rng.bytes(1500).hex() for _ in range(rows)]),
        }
    )
    path = store.folder / "logs" / "run" / "big.parquet"
    pq.write_table(table, path, compression="none", row_group_size=500)
    found = taut.read_rollouts("s3://logs/run/big.parquet")
    assert len(found) == rows and path.stat().st_size > 5_000_000
    assert store.sent < 0.05 * path.stat().st_size
    here = taut.read_rollouts(path)
    assert np.array_equal(found.reward, here.reward) and np.array_equal(found.prompt, here.prompt)


def test_what_fails_for_the_moment_is_tried_again(store):
    (store.folder / "logs" / "a.jsonl").write_bytes(lines())
    store.faults = 2
    assert len(taut.read_rollouts("s3://logs/a.jsonl")) == 60
    assert store.requests > 2


def test_errors_say_what_to_do(store):
    (store.folder / "logs" / "a.jsonl").write_bytes(lines())
    for place, told in (
        ("s3://logs/b.jsonl", "found nothing there"),
        ("s3://logs/*.parquet", "files that match"),
        ("s3://logs/run", "found nothing there"),
        ("nowhere://logs/a.jsonl", "is not known here"),
    ):
        with pytest.raises(taut.TautError, match=told):
            taut.read_rollouts(place)
    store.denies = True
    with pytest.raises(taut.LogError, match="AWS_ACCESS_KEY_ID"):
        taut.read_rollouts("s3://logs/a.jsonl")


def test_a_file_that_is_cut_off_is_refused(store):
    path = store.folder / "logs" / "a.parquet"
    pq.write_table(pa.table({"prompt_id": ["a", "b"], "reward": [0.1, 0.2]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(taut.LogError, match="damaged or cut off"):
        taut.read_rollouts("s3://logs/a.parquet")


def test_places_of_fsspec_and_urls_of_files(tmp_path):
    """What fsspec knows is read by its URL, compressed too; file:// is this machine."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/taut-logs/run/a.jsonl.gz", pa.compress(lines(), "gzip", asbytes=True))
    try:
        assert len(taut.read_rollouts("memory://taut-logs/run")) == 60
        assert taut.audit("memory://taut-logs/run/a.jsonl.gz", target="reward").log.prompts == 60
    finally:
        memory.rm("/taut-logs", recursive=True)
    (tmp_path / "a b.jsonl").write_bytes(lines())
    assert len(taut.read_rollouts((tmp_path / "a b.jsonl").as_uri())) == 60


def test_patterns_stay_within_a_name():
    import re

    def matches(pattern, name):
        return bool(re.fullmatch(_translated(pattern), name))

    assert matches("s3://b/*/x.jsonl", "s3://b/a/x.jsonl")
    assert not matches("s3://b/*.jsonl", "s3://b/a/x.jsonl")
    assert matches("s3://b/**/*.jsonl", "s3://b/a/c/x.jsonl")
    assert matches("s3://b/**/*.jsonl", "s3://b/x.jsonl")
    assert matches("s3://b/[ab]?.jsonl", "s3://b/a1.jsonl")
    assert is_place("hf://datasets/a/b") and not is_place("C:/a") and not is_place("a://"[:2])


def test_without_the_extra_it_is_named(monkeypatch):
    import builtins

    from taut.logs import places

    honest = builtins.__import__

    def without(name, *rest, **named):
        if name == "fsspec":
            raise ImportError(name)
        return honest(name, *rest, **named)

    places._system.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(taut.UsageError, match="extra 'remote'"):
        taut.read_rollouts("hf://datasets/a/b.jsonl")


def test_no_metadata_service_is_asked(store, monkeypatch):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    from taut.logs import places

    places._system.cache_clear()
    (store.folder / "logs" / "a.jsonl").write_bytes(lines())
    taut.read_rollouts("s3://logs/a.jsonl")
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"

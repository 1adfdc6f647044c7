"""Many machines: the same bytes as here, whatever dies; units keep the order of the log."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from taut.engines import units
from taut.logs.read import Request
from taut.logs.sources import find

ASKED = {"target": "reward", "reward_range": (0, 1)}


def write(folder, files=6, rows=400):
    """A log of some files with token lists, each of several row groups."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for at in range(files):
        tokens = [rng.normal(-1, 1, rng.integers(1, 30)).tolist() for _ in range(rows)]
        table = pa.table(
            {
                "prompt_id": [f"p{at}-{i // 4}" for i in range(rows)],
                "reward": rng.random(rows),
                "policy_logprobs": tokens,
                "ref_logprobs": tokens[::-1][:0] or tokens,
                "step": np.full(rows, at),
            }
        )
        pq.write_table(table, folder / f"part-{at}.parquet", row_group_size=100)
    return folder


def certificate(rollouts):
    return taut.audit_by(rollouts, "step", **ASKED).to_json()


# --- units, without a cluster ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "files"), [(4_000, 64), (20_000, 64), (1 << 40, 2), (1 << 40, 64)]
)
def test_units_give_the_rows_of_the_log_in_order(tmp_path, monkeypatch, size, files):
    """Cut into one unit, into pairs of files or into row groups: the same rows, each once."""
    monkeypatch.setattr(units, "_BYTES", size)
    monkeypatch.setattr(units, "_FILES", files)
    found = find(write(tmp_path / "log", files=3))
    request = Request(paths={"prompt_id": "prompt_id", "reward": "reward"}, format="auto")
    cut = list(units.units(found))
    assert (len(cut) == 1) == (size == 1 << 40 and files == 64)
    pieces = [piece for unit in cut for piece in units.read_unit(unit, request)]
    rewards = [part.columns["reward"] for piece in pieces for part in piece.pieces]
    here = taut.read_rollouts(tmp_path / "log")
    assert np.array_equal(np.concatenate(rewards), here.reward)


def test_what_is_wrong_is_said_in_place(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt_id": 1, "reward": 0.5}\n{"prompt_id": 2}\n')
    found = find(tmp_path / "a.jsonl")
    paths = {"prompt_id": "prompt_id", "reward": "reward"}
    (piece,) = units.read_unit(found, Request(paths=paths, format="auto"))
    assert "a.jsonl:2" in str(piece.problem) and piece.pieces is None
    assert not units.stays_here(found[0])


def test_an_engine_that_is_none_is_refused(tmp_path):
    with pytest.raises(taut.UsageError, match="expected local, ray or ray://"):
        taut.read_rollouts(tmp_path, engine="spark")


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    import builtins

    honest = builtins.__import__

    def without(name, *rest, **named):
        if name == "ray":
            raise ImportError(name)
        return honest(name, *rest, **named)

    log = write(tmp_path / "log", files=1, rows=8)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(taut.UsageError, match="extra 'ray'"):
        taut.read_rollouts(log, engine="ray")


# --- a cluster ------------------------------------------------------------------------------------

pytest_ray = pytest.mark.integration


@pytest.fixture
def cluster(monkeypatch):
    """A head without processors, and two nodes of one."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    here = os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]))
    asked = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": here}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def slowed(monkeypatch, seconds=0.4):
    """Make units small, and each of them slow enough to be interrupted."""
    monkeypatch.setattr(units, "_FILES", 1)
    from taut.engines import ray as engine

    honest = engine._read

    def slow(unit, request, version):
        time.sleep(seconds)
        return honest(unit, request, version)

    monkeypatch.setattr(engine, "_read", slow)


@pytest_ray
def test_two_nodes_give_the_same_bytes(cluster, tmp_path, monkeypatch):
    log = write(tmp_path / "log")
    monkeypatch.setattr(units, "_FILES", 1)
    here = taut.read_rollouts(log)
    there = taut.read_rollouts(log, engine="ray")
    assert certificate(here) == certificate(there) and here.sources == there.sources
    (log / "part-3.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(taut.LogError) as mine:
        taut.read_rollouts(log)
    with pytest.raises(taut.LogError) as theirs:
        taut.read_rollouts(log, engine="ray")
    assert str(mine.value) == str(theirs.value)


@contextmanager
def killing(*names):
    """Kill -9 of the first process of some names that is seen; give the list that it goes to."""
    killed = []

    def kill():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            out = subprocess.run(["ps", "axo", "pid,args"], capture_output=True, text=True).stdout
            for line in out.splitlines():
                if any(name in line for name in names):
                    killed.append(int(line.split()[0]))
                    os.kill(killed[0], signal.SIGKILL)
                    break
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


@pytest_ray
def test_a_killed_worker_loses_nothing(cluster, tmp_path, monkeypatch):
    """Kill -9 of a worker while it reads: its unit is read again, and counted once."""
    log = write(tmp_path / "log", files=8)
    slowed(monkeypatch)
    with killing("ray::_read", "ray::slow") as killed:
        there = taut.read_rollouts(log, engine="ray")
    assert killed and certificate(taut.read_rollouts(log)) == certificate(there)


@pytest_ray
def test_a_removed_node_loses_nothing(cluster, tmp_path, monkeypatch):
    log = write(tmp_path / "log", files=8)
    slowed(monkeypatch)
    timer = threading.Timer(1.0, lambda: cluster.remove_node(cluster.nodes[0]))
    timer.start()
    there = taut.read_rollouts(log, engine="ray")
    timer.join()
    assert certificate(taut.read_rollouts(log)) == certificate(there)


@pytest_ray
def test_the_command_line_writes_the_same_bytes(tmp_path):
    """A cluster of this machine, started by the command; nothing of Ray's in what is written."""
    log = write(tmp_path / "log", files=2, rows=100)
    found = []
    for engine in ("local", "ray"):
        out = tmp_path / f"{engine}.json"
        command = [sys.executable, "-m", "taut", "audit", log, "--target", "reward"]
        command += ["--reward-range", "0", "1", "--by", "step", "--json", out, "--engine", engine]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        found.append((out.read_bytes(), ran.stdout))
    assert found[0] == found[1] and json.loads(found[0][0])["groups"]

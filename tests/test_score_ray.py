"""Scoring on many machines: an actor a device, the bytes of one machine, whatever dies."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import taut
from slow_scorer import Slow
from taut.training.scoring import batches, scorer, spool, workers
from taut.training.scoring.fleet import Fleet
from taut.training.scoring.score import score
from test_ray import cluster, killing  # noqa: F401
from test_score import place, some_rows, write  # noqa: F401

MODELS = {"policy": "a", "ref": "b"}


@pytest.fixture
def small(monkeypatch, place, tmp_path):  # noqa: F811
    """A log of many small parts, and how to score it."""
    monkeypatch.setattr(batches, "PART_TOKENS", 200)
    monkeypatch.setattr(spool, "WINDOW_ROWS", 16)
    log = write(tmp_path / "log.jsonl", some_rows(40))
    models = {role: place.at(name) for role, name in MODELS.items()}

    def run(name, **settings):
        out = tmp_path / name
        score(log, out, batch_tokens=120, **models, **settings)
        return out.read_bytes()

    return run


# --- without a cluster ----------------------------------------------------------------------------


def test_an_engine_that_is_none_is_refused():
    with pytest.raises(taut.UsageError, match="expected local, ray or ray://"):
        workers.device_of("spark", None)


# --- on one ---------------------------------------------------------------------------------------


@pytest.mark.integration
def test_a_killed_actor_loses_nothing(cluster, small, monkeypatch):  # noqa: F811
    """Kill -9 of an actor while it scores: its parts are scored again, and counted once."""
    monkeypatch.setattr("taut.training.scoring.fleet.Scorer", Slow)
    with killing("ray::Slow.values") as killed:
        there = small("there.parquet", engine="ray")
    assert killed and there == small("here.parquet")


@pytest.mark.integration
def test_a_removed_node_loses_nothing(cluster, small, monkeypatch):  # noqa: F811
    """What a node had in hand goes to the other one."""
    monkeypatch.setattr("taut.training.scoring.fleet.Scorer", Slow)
    honest, removed = Fleet._result, []

    def watched(self, done, actor):
        if not removed:
            removed.append(cluster.nodes[0])
            cluster.remove_node(cluster.nodes[0])
        return honest(self, done, actor)

    monkeypatch.setattr(Fleet, "_result", watched)
    there = small("there.parquet", engine="ray")
    assert removed and there == small("here.parquet")


@pytest.mark.integration
def test_a_cluster_goes_on_where_one_machine_stopped(cluster, small, monkeypatch):  # noqa: F811
    """A run that was stopped resumes on a cluster, to the same bytes."""
    real, done = scorer.batch_log_probs, []

    def stops(*given, **named):
        done.append(1)
        if len(done) > 12:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(scorer, "batch_log_probs", stops)
    with pytest.raises(KeyboardInterrupt):
        small("out.parquet")
    monkeypatch.setattr(scorer, "batch_log_probs", real)
    assert small("out.parquet", engine="ray") == small("here.parquet")
    with pytest.raises(taut.UsageError, match="no GPU"):
        small("gpu.parquet", engine="ray", device="cuda")

"""Slices by columns of a table beside the log, one row a prompt."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import LogError, UsageError
from taut.logs.csv_table import read_csv

ASKED = {"reward_range": (0, 1), "target": "reward"}


def log_and_table(ids=str, prompts: int = 40, each: int = 3):
    rng = np.random.default_rng(0)
    names = [ids(at) for at in range(prompts)]
    log = pd.DataFrame(
        {
            "prompt_id": np.repeat(np.array(names, dtype=object), each),
            "prompt": np.repeat([f"Say {at}" for at in range(prompts)], each),
            "reward": rng.random(prompts * each),
        }
    )
    log["gold"] = log["reward"]
    topics = ["math" if at % 2 else "prose" for at in range(prompts)]
    return log, pd.DataFrame({"prompt_id": names, "topic": topics})


def write(table: pd.DataFrame, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("ids", [str, int, "00{}".format], ids=["text", "number", "zeros"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", "frame", "polars", "dict"])
def test_a_table_is_the_same_as_a_column(tmp_path, ids, suffix):
    """Whatever holds it, in whatever order, with rows of other prompts and one twice."""
    log, table = log_and_table(ids)
    joined = log.merge(table, on="prompt_id")
    expected = taut.audit_by(joined, "topic", **ASKED)
    more = pd.DataFrame({"prompt_id": [ids(1), ids(999)], "topic": ["math", "other"]})
    table = pd.concat([table, more]).sample(frac=1, random_state=0)
    given = {"frame": table, "polars": pl.DataFrame(table.to_dict("list"))}
    given["dict"] = table.to_dict("list")
    side = given.get(suffix)
    if side is None:
        side = write(table, tmp_path / f"topics{suffix}")
    assert taut.audit_by(log, "topic", by_table=side, **ASKED) == expected


def test_prompts_are_known_by_their_text_too():
    log, table = log_and_table()
    by_text = pd.DataFrame({"prompt": log.prompt.unique(), "topic": table.topic})
    expected = taut.audit_by(log.merge(table, on="prompt_id"), "topic", **ASKED)
    for rows in (log, log.drop(columns="prompt_id")):
        found = taut.audit_by(rows, "topic", by_table=by_text, **ASKED)
        assert found.keys() == expected.keys()
    assert taut.audit_by(log, "topic", by_table=by_text, **ASKED) == expected


def test_a_column_of_the_log_and_one_of_the_table():
    log, table = log_and_table()
    log["kind"] = np.repeat([f"k{at % 2}" for at in range(20)], 6)
    found = taut.audit_by(log, ["kind", "topic"], by_table=table, **ASKED)
    assert found.keys() == ["k0 · math", "k0 · prose", "k1 · math", "k1 · prose"]
    assert found.of == "prompt"


def test_numbers_are_cut_and_nothing_has_a_name():
    log, table = log_and_table(prompts=100)
    table["level"] = np.arange(100.0)
    cut = taut.audit_by(log, "level", by_table=table, cuts={"level": (50,)}, **ASKED)
    assert cut.keys() == ["< 50", ">= 50"]
    table.loc[:49, "topic"] = None
    assert "(none)" in taut.audit_by(log, "topic", by_table=table, **ASKED)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda t: t[1:], LogError, "none for 1 of 40, the first in row 1 of the log"),
        (lambda t: t[:0], LogError, "none for 40 of 40"),
        (lambda t: t.rename(columns={"prompt_id": "id"}), LogError, "'prompt_id' or 'prompt'"),
        (lambda t: t.rename(columns={"topic": "area"}), LogError, "expected 'topic'"),
        (lambda t: t.assign(topic=[["a"]] * len(t)), LogError, "'topic', found list"),
        (lambda t: t.assign(prompt_id=[None, *t.prompt_id[1:]]), LogError, "none in row 1"),
        (lambda t: t.assign(prompt_id=np.arange(40) / 2), LogError, "whole numbers"),
        (
            lambda t: pd.concat([t, t[:1].assign(topic="other")]),
            LogError,
            "'prose' in row 1 and 'other' in row 41 for prompt_id '0'",
        ),
    ],
)
def test_a_table_that_cannot_be_joined(change, error, says):
    log, table = log_and_table()
    with pytest.raises(error, match=says):
        taut.audit_by(log, "topic", by_table=change(table), **ASKED)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_files_that_cannot_be_read(tmp_path, suffix):
    log, _ = log_and_table()
    bad = tmp_path / f"bad{suffix}"
    with pytest.raises(LogError, match="no such file"):
        taut.audit_by(log, "topic", by_table=bad, **ASKED)
    bad.write_bytes(b'{"prompt_id": \xff\xfe "\n')
    with pytest.raises(LogError, match="bad"):
        taut.audit_by(log, "topic", by_table=bad, **ASKED)
    bad.write_bytes(b"")
    with pytest.raises(LogError, match="bad"):
        taut.audit_by(log, "topic", by_table=bad, **ASKED)
    with pytest.raises(LogError, match=r"\.csv, \.jsonl"):
        taut.audit_by(log, "topic", by_table=tmp_path / "topics.xlsx", **ASKED)


def test_a_column_that_is_there_twice(tmp_path):
    log, _ = log_and_table()
    twice = tmp_path / "twice.csv"
    twice.write_text("prompt_id,topic,topic\n" + "".join(f"{at},a,b\n" for at in range(40)))
    with pytest.raises(LogError, match="one column 'topic', found several"):
        taut.audit_by(log, "topic", by_table=twice, **ASKED)


def test_passing_by_topic():
    log, table = log_and_table()
    log[["reward", "gold"]] = (log[["reward", "gold"]] > 0.5).astype(float)
    found = taut.audit_at(log, pass_at=2, by="topic", by_table=table, reward_range=(0, 1))
    assert found.keys() == ["math · 2", "prose · 2"]


def test_a_file_on_the_command_line(tmp_path):
    """The audit, its page, and a page with the rollouts that can be filtered by topic."""
    log, table = log_and_table()
    rows, side = write(log, tmp_path / "log.jsonl"), write(table, tmp_path / "topics.csv")
    result, page = tmp_path / "result.json", tmp_path / "page.html"
    by = ["--by", "topic", "--by-file", str(side)]
    asked = ["audit", str(rows), "--target", "reward", "--reward-range", "0", "1"]
    run = CliRunner()
    done = run.invoke(cli, [*asked, *by, "--json", str(result)], catch_exceptions=False)
    assert done.exit_code == 0
    groups = json.loads(result.read_text())["groups"]
    assert [group["value"] for group in groups] == ["math", "prose"]
    shown = ["report", str(result), "--log", str(rows), "--by-file", str(side), "-o", str(page)]
    assert run.invoke(cli, shown, catch_exceptions=False).exit_code == 0
    assert "topic" in page.read_text()
    passed = [*asked, *by, "--pass-at", "1", "--json", str(result)]
    log["reward"] = log["gold"] = (log["reward"] > 0.5).astype(float)
    write(log, rows)
    assert run.invoke(cli, passed, catch_exceptions=False).exit_code == 0
    assert run.invoke(cli, shown, catch_exceptions=False).exit_code == 0
    alone = run.invoke(cli, [*asked, "--by-file", str(side)])
    assert isinstance(alone.exception, UsageError) and "--by" in str(alone.exception)


def test_two_columns_of_one_name_in_a_csv_file_are_refused(tmp_path):
    """Also in labels, of which the last one would win."""
    path = tmp_path / "labels.csv"
    path.write_text("rollout_id,label,label\na,1,0\n")
    with pytest.raises(taut.LogError, match="one column 'label', found several"):
        read_csv(str(path))
    path.write_text("rollout_id,label,,\na,1,,\n\nb,,x,\n")
    columns, lines = read_csv(str(path))
    assert columns["label"] == ["1", ""] and lines.tolist() == [2, 4]


def test_a_table_stands_before_what_rollouts_kept_and_not_before_the_log_s_own():
    ids = np.arange(40).astype(str)
    log = pd.DataFrame({"prompt_id": ids, "reward": 0.5, "gold": 1.0, "domain": "log", "step": 1})
    rollouts = taut.as_rollouts(log, keep=["domain"])
    table = pd.DataFrame({"prompt_id": ids, "domain": "table", "step": 2})
    asked = {"by_table": table, "reward_range": (0, 1)}
    for data in (log, rollouts):
        assert taut.audit_by(data, "domain", **asked).keys() == ["table"]
    with pytest.raises(UsageError, match="'step' is the log's own"):
        taut.audit_by(log, "step", **asked)

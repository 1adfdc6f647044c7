"""A newcomer's trail: what people have in memory, to a certificate in two lines."""

import dataclasses
import inspect
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.auditing.options import Options
from taut.cli import cli
from taut.engines.tables import as_rollouts
from taut.errors import LogError, UsageError
from taut.logs.facts import facts_metadata, recorded_facts

ROWS = [
    {
        "prompt_id": f"p{i // 2}",
        "reward": (i * 37 % 100) / 100,
        "gold": (i * 37 % 100) / 125 if i % 3 else None,
        "policy_logprobs": [-1.0, -2.0 - i / 1000],
        "ref_logprobs": [-1.5, -2.0],
        "step": i % 2,
        "meta": {"score": i / 300},
    }
    for i in range(240)
]
SETTINGS = {"beta": 0.05, "reward_range": (0, 1), "declare": "held-out,complete,random-labels"}


def columns():
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


def polars():
    return pytest.importorskip("polars", reason="Polars is not installed").DataFrame(ROWS)


def duckdb():
    module = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    table = pa.Table.from_pylist(ROWS)
    return module.from_arrow(table)


def dataset():
    module = pytest.importorskip("datasets", reason="Hugging Face datasets are not installed")
    return module.Dataset.from_list(ROWS)


KINDS = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "named index": lambda: pd.DataFrame(ROWS).set_index("prompt_id"),
    "pyarrow": lambda: pa.Table.from_pylist(ROWS),
    "batches": lambda: pa.Table.from_pylist(ROWS).to_reader(),
    "polars": polars,
    "lazy polars": lambda: polars().lazy(),
    "polars columns": lambda: {name: polars()[name] for name in ROWS[0]},
    "duckdb": duckdb,
    "dataset": dataset,
    "reordered dataset": lambda: dataset().shuffle(seed=0),
    "dict": columns,
    "dict of series": lambda: dict(pd.DataFrame(ROWS)),
    "rows": lambda: ROWS,
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def want(log):
    return taut.audit(taut.read_rollouts(log), **SETTINGS).to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_give_the_same_bytes_in_memory_and_in_a_file(kind, want):
    """Token lists, nulls and ids mean the same everywhere."""
    assert taut.audit(KINDS[kind](), **SETTINGS).to_json() == want


def test_a_path_is_a_log_too_and_another_row_is_another_certificate(log, want):
    """The comparison above can fail: one reward changed is seen."""
    assert taut.audit(str(log), **SETTINGS).to_json() == want
    changed = pd.DataFrame(ROWS)
    changed.loc[3, "reward"] = 0.5
    assert taut.audit(changed, **SETTINGS).to_json() != want


def test_every_verb_takes_a_table():
    """The door is the same for all."""
    frame = pd.DataFrame(ROWS)
    given = {"beta": 0.05, "reward_range": (0, 1)}
    rollouts = as_rollouts(frame)
    assert taut.audit_by(frame, "step", **given) == taut.audit_by(rollouts, "step", **given)
    assert taut.check(frame, **given) == taut.check(rollouts, **given)
    halves = {f"step {s}": frame[frame.step == s].drop(columns="step") for s in (0, 1)}
    logs = {name: as_rollouts(half) for name, half in halves.items()}
    plain = {"reward_range": (0, 1), "target": "reward"}
    assert taut.select(halves, **plain) == taut.select(logs, **plain)
    assert taut.select(frame, **plain) == taut.select(rollouts, **plain)
    found = taut.clip_threshold(frame, **given)
    assert found.tokens and found.tau == taut.clip_threshold(rollouts, **given).tau
    costs = taut.Costs(decode=1.0, prefill=0.0, label=1.0, pair=None, unit="units")
    money = {"budget": 200, "costs": costs, **plain}
    assert taut.plan(frame, **money).document == taut.plan(rollouts, **money).document
    one, probe = frame.drop(columns="step"), {"gold_range": (0, 1)}
    older = one.assign(prompt_id="older " + one.prompt_id)
    tables = taut.audit_transport(one, older, **probe)
    assert tables == taut.audit_transport(as_rollouts(one), as_rollouts(older), **probe)


def test_rewards_of_shape_prompts_k_are_draws_of_k_rollouts():
    """A row of the matrix is one prompt; what stands beside it has its shape, or one a prompt."""
    rng = np.random.default_rng(0)
    rewards = rng.random((50, 4))
    rollouts = as_rollouts(rewards)
    assert len(rollouts) == 200 and len(set(rollouts.prompt.tolist())) == 50
    assert taut.audit(rewards, reward_range=(0, 1)).log.rollouts_per_prompt.max == 4
    more = as_rollouts(
        {
            "reward": rewards,
            "gold": rewards,
            "step": np.arange(50),
            "policy_logprobs": rng.random((50, 4, 3)),
            "ref_logprobs": np.zeros((50, 4, 3)),
        }
    )
    assert more.step[:5].tolist() == [0, 0, 0, 0, 1] and more.n_tokens.tolist() == [3] * 200
    table = np.zeros(3, dtype=[("prompt_id", "U2"), ("reward", "f8")])
    assert len(as_rollouts(table)) == 3
    with pytest.raises(LogError, match=r"rewards\[:, None\]"):
        as_rollouts(rewards[0])
    with pytest.raises(LogError, match="'gold' has 3 rows, 'reward' 50 prompts"):
        as_rollouts({"reward": rewards, "gold": np.zeros(3)})


def test_columns_name_what_is_called_otherwise(want):
    """Plain names, paths into structs, and columns that are left out."""
    frame = pd.DataFrame(ROWS).rename(columns={"reward": "rm_score", "prompt_id": "task"})
    mapping = {"reward": "rm_score", "prompt_id": "task"}
    assert taut.audit(frame, columns=mapping, **SETTINGS).to_json() == want
    inside = as_rollouts(pd.DataFrame(ROWS), {"reward": "meta.score"})
    assert inside.reward[3] == ROWS[3]["meta"]["score"]
    assert as_rollouts(frame, {**mapping, "gold": ""}).gold is None
    with pytest.raises(UsageError, match="Rollouts have theirs"):
        as_rollouts(inside, {"reward": "x"})


@pytest.mark.parametrize(
    ("native", "typo"),
    [
        ("reward", "rewards"),
        ("prompt_id", "promptid"),
        ("gold", "golds"),
        ("policy_logprobs", "log_probs"),
        ("ref_logprobs", "ref_log_probs"),
        ("step", "Step"),
    ],
)
def test_a_column_that_looks_native_is_no_silence(native, typo):
    """A misspelt name is an error that says what was meant, in Python's words."""
    frame = pd.DataFrame(ROWS).rename(columns={native: typo})
    with pytest.raises(LogError, match=rf"did you mean '({native}|{typo})'.*columns=") as found:
        as_rollouts(frame)
    assert "--map" not in str(found.value) and "\n" not in str(found.value)
    assert len(as_rollouts(frame, {native: typo})) == len(ROWS)


def test_errors_of_a_table_name_the_row_as_python_counts():
    """Rows from 0, arguments in place of options."""
    frame = pd.DataFrame(ROWS)
    frame.loc[7, "reward"] = np.nan
    with pytest.raises(LogError, match=r"^DataFrame, row 7: 'reward' is null") as found:
        as_rollouts(frame)
    assert "--" not in str(found.value)
    with pytest.raises(LogError, match="one under each of 'train'"):
        taut.audit({"train": pd.DataFrame(ROWS)}, **SETTINGS)
    with pytest.raises(LogError, match="found int"):
        taut.audit(5, **SETTINGS)
    odd = as_rollouts(pd.DataFrame(ROWS).assign(model=[object()] * len(ROWS)))
    assert "'model'" in odd.notes[-1]


def test_a_table_in_memory_does_not_vouch_for_rows_that_are_gone(tmp_path):
    """Metadata speak of the whole file: completeness does not survive a filter, beta does."""
    facts = recorded_facts(beta=0.05, complete=True, writer="a trainer")
    path = tmp_path / "log.parquet"
    table = pa.Table.from_pylist(ROWS).replace_schema_metadata(facts_metadata(facts))
    pq.write_table(table, path)
    assert taut.read_rollouts(path).facts.complete is True
    part = as_rollouts(pq.read_table(path).slice(0, 100))
    assert (part.facts.beta, part.facts.complete) == (0.05, None) and "complete" in part.notes[-1]


# --- signatures and types -------------------------------------------------------------------------

PUBLIC = (taut.audit, taut.audit_by, taut.check, taut.select, taut.clip_threshold, taut.plan)


@pytest.mark.parametrize("verb", PUBLIC, ids=lambda verb: verb.__name__)
def test_signatures_are_explicit_and_agree_with_the_options(verb):
    """No **settings; what is called alike has the default of `Options`."""
    parameters = inspect.signature(verb).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    options = {field.name: field.default for field in dataclasses.fields(Options)}
    own = {taut.clip_threshold: {"prompts", "target"}}.get(verb, set()) | {"beta"}
    for name in parameters.keys() & options.keys() - own:
        assert parameters[name].default == options[name], name
    if verb in (taut.audit, taut.audit_by, taut.select):
        assert options.keys() <= parameters.keys()
    with pytest.raises(TypeError, match="reward_rnage"):
        verb(pd.DataFrame(ROWS), reward_rnage=(0, 1))


def test_completion_sees_every_public_name():
    """dir() of the package and of its training side is what can be had."""
    import taut.training

    assert set(taut._HOME) | {"__version__"} == set(taut.__all__) == set(dir(taut))
    assert set(taut.training.__all__) == set(dir(taut.training)) == set(taut.training._HOME)
    assert (Path(taut.__file__).parent / "py.typed").exists()


def test_the_typed_example_runs(capsys):
    """What `make lint` type-checks is code that works."""
    page = runpy.run_path(str(Path(__file__).parent / "typed_example.py"))
    page["main"]()
    assert len(capsys.readouterr().out.splitlines()) == 5


# --- declared once --------------------------------------------------------------------------------


def test_a_recorded_log_needs_no_option(tmp_path):
    """Beta, ranges and held-out come from the file; a contradiction of any of them stops."""
    folder = tmp_path / "held_out"
    folder.mkdir()
    facts = recorded_facts(
        beta=0.05, reward_range=(0.0, 1.0), held_out=True, complete=True, writer="a trainer"
    )
    table = pa.Table.from_pylist(ROWS).replace_schema_metadata(facts_metadata(facts))
    pq.write_table(table, folder / "log.parquet")
    run = CliRunner().invoke
    done = run(cli, ["audit", str(folder), "--json", "-"], standalone_mode=False)
    assert done.exception is None
    settings = json.loads(done.stdout)["settings"]
    assert (settings["beta"], settings["reward_range"]) == (0.05, [0.0, 1.0])
    stands = {item["name"]: item["stands"] for item in json.loads(done.stdout)["assumptions"]}
    assert stands["held-out"] == "recorded"
    for wrong in (["--beta", "0.1"], ["--reward-range", "0", "2"]):
        found = run(cli, ["audit", str(folder), *wrong]).exception
        assert isinstance(found, LogError) and f"{wrong[0]} is" in str(found)
        assert "recorded" in str(found)
    same = ["--beta", "0.05", "--reward-range", "0", "1"]
    assert run(cli, ["audit", str(folder), *same], standalone_mode=False).exception is None


def test_check_proposes_a_taut_toml_that_then_counts(tmp_path):
    """What was said is kept; what was only seen stays a comment until a person confirms it."""
    frame = pd.DataFrame(ROWS).rename(columns={"reward": 'judge "x"'})
    frame.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    said = ["--map", 'reward=judge "x"', "--gold-range", "0", "1", "--declare", "complete"]
    run = CliRunner().invoke
    done = run(cli, ["check", str(tmp_path), *said, "--write-config"], standalone_mode=False)
    assert done.exception is None, done.exception
    text = (tmp_path / "taut.toml").read_text()
    assert "# reward_range = [0.0, 0.99]" in text and "\ngold_range = [0.0, 1.0]" in text
    assert "\n# held_out = true" in text and "\ncomplete = true" in text
    facts = taut.read_rollouts(tmp_path).facts
    assert (facts.reward_range, facts.gold_range) == (None, (0, 1))
    assert (facts.complete, facts.held_out) == (True, None)
    again = run(cli, ["check", str(tmp_path), "--write-config"])
    assert isinstance(again.exception, UsageError) and "there already" in str(again.exception)
    (tmp_path / "taut.toml").write_text(text.replace("# reward_range", "reward_range"))
    wrong = run(cli, ["audit", str(tmp_path), "--reward-range", "0", "1"]).exception
    assert isinstance(wrong, LogError) and "declared" in str(wrong)


@pytest.mark.parametrize("command", ["audit", "select", "plan", "watch"])
def test_help_shows_options_in_groups(command):
    """Every option stands in a group with a name."""
    text = CliRunner().invoke(cli, [command, "--help"]).output
    titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert {"The log:", "What you declare:", "How it is bounded:", "Output:"} <= set(titles)
    assert "Further:" not in titles and "Options:" not in titles


def test_a_typed_reader_sees_the_public_surface(tmp_path):
    """mypy --strict knows the types of results, and finds a misspelt argument."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    page = tmp_path / "page.py"
    page.write_text(
        "import taut\n"
        "cert = taut.audit([[0.1, 0.2]], reward_range=(0, 1))\n"
        "reveal_type(cert.lower)\n"
        "taut.audit('log', reward_rnage=(0, 1))\n"
    )
    root = Path(__file__).parent.parent
    arguments = ["--config-file", str(root / "pyproject.toml"), str(page)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=root, capture_output=True, text=True
    )
    assert 'Revealed type is "float"' in done.stdout.replace("builtins.", "")
    assert 'Unexpected keyword argument "reward_rnage"' in done.stdout

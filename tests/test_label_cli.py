"""The three commands, end to end: a log, a program in place of the annotator, a certificate."""

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import LogError, TautError, UsageError
from taut.labels.design import read_design
from taut.labels.sheet import read_sheet

TRUTH = 0.55


@pytest.fixture
def log(tmp_path):
    """400 prompts by 4 rollouts with words; and what a labeller would say of each."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.choice([0.2, 0.9], size=400), 4)
    gold = (rng.random(1600) < level).astype(int)
    columns = {
        "prompt_id": [f"p{i // 4}" for i in range(1600)],
        "rollout_id": [f"r{i}" for i in range(1600)],
        "reward": np.clip(0.5 * gold + 0.6 * rng.random(1600), 0, 1),
        "prompt": [f"Question {i // 4}?" for i in range(1600)],
        "response": [f"Answer {i}." for i in range(1600)],
        "domain": [["math", "code"][i // 4 % 2] for i in range(1600)],
        "doubt": rng.random(1600).round(3),
        "step": np.tile([0, 10], 800),
    }
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(columns), path)
    return path, {f"r{i}": int(gold[i]) for i in range(1600)}


def run(*arguments) -> str:
    """Run a command; errors come as they are raised."""
    done = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    if isinstance(done.exception, TautError):
        raise done.exception
    assert done.exception is None, done.exception
    return done.output


def answered(sheet, path, gold, *, who=None, slip=0.0):
    """Answer a sheet by a program: its JSON lines with labels in them."""
    rng = np.random.default_rng(len(who or ""))
    lines = [orjson.loads(line) for line in read_sheet(sheet).to_jsonl().splitlines()]
    for line in lines[1:]:
        right = gold[line["rollout_id"]] ^ int(rng.random() < slip)
        line |= {"label": ["no", "yes"][right]} | ({"annotator": who} if who else {})
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return path


@pytest.mark.parametrize("form", ["html", "csv", "jsonl"])
def test_from_a_log_to_a_certificate(log, tmp_path, form):
    """Draw, label, merge, audit: the certificate holds the truth."""
    path, gold = log
    sheet = tmp_path / f"sheet.{form}"
    said = run("label", "draw", path, "-n", 120, "-o", sheet)
    assert "one random rollout of each of 120 prompts" in said
    assert "carries prompts and responses" in said
    item = read_sheet(sheet).items[0]
    assert item.response == f"Answer {item.rollout_id[1:]}."
    labels = answered(sheet, tmp_path / "labels.jsonl", gold)
    said = run("label", "merge", path, labels, "-o", tmp_path / "labelled.parquet")
    assert "120 labels of 120 rollouts drawn" in said
    rollouts = taut.read_rollouts(tmp_path / "labelled.parquet")
    assert np.isfinite(rollouts.gold).sum() == 120
    known = rollouts.facts.random_labels
    assert read_design(known["taut_sheet"], "facts") == read_sheet(sheet).design
    assert known["returned"]["prefix"] == known["returned"]["units"] == 120
    assert rollouts.facts.gold_range == (0, 1)
    assert {"random_labels", "gold_range"} <= rollouts.facts.recorded
    found = taut.audit(rollouts, target="reward", reward_range=(0, 1))
    assert found.lower <= TRUTH <= found.upper
    assert found.upper - found.lower < 0.3


def test_the_same_call_gives_the_same_file(log, tmp_path):
    """Bytes, not only rows; and --after goes on without repeats."""
    path, _ = log
    for name in ("a.html", "b.html"):
        run("label", "draw", path, "-n", 20, "--seed", 3, "-o", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    run("label", "draw", path, "-n", 10, "--after", tmp_path / "a.html", "-o", tmp_path / "c.csv")
    first, second = (read_sheet(tmp_path / name) for name in ("a.html", "c.csv"))
    assert not {i.rollout_id for i in first.items} & {i.rollout_id for i in second.items}
    assert second.design.units == 30


def test_a_sheet_settles_what_comes_behind_it(log, tmp_path):
    """Way, strata and scale are the first sheet's; another wish is refused, not ignored."""
    path, _ = log
    run("label", "draw", path, "-n", 20, "--by", "domain", "--most", 60, "--question", "Right?",
        "-o", tmp_path / "a.jsonl")  # fmt: skip
    run("label", "draw", path, "-n", 20, "--after", tmp_path / "a.jsonl", "-o", tmp_path / "b.csv")
    design = read_sheet(tmp_path / "b.csv").design
    assert (design.way, design.by, design.scale.question) == ("strata", "domain", "Right?")
    for options in (["--rows"], ["--seed", 4], ["--question", "Good?"], ["--by", "step"]):
        with pytest.raises(UsageError, match="settled by the sheet"):
            run("label", "draw", path, "-n", 5, "--after", tmp_path / "a.jsonl", *options,
                "-o", tmp_path / "c.csv")  # fmt: skip


def test_rows_of_uneven_prompts_are_advised_against(log, tmp_path):
    """Drawing rows where K differs favours prompts with many rollouts, and is said to."""
    table = pq.read_table(log[0]).slice(0, 1599)
    pq.write_table(table, tmp_path / "uneven.parquet")
    said = run("label", "draw", tmp_path / "uneven.parquet", "-n", 9, "--rows",
               "-o", tmp_path / "s.csv")  # fmt: skip
    assert "Prompts have 3 to 4 rollouts: rows favour those with many" in said


def test_annotators_and_the_judge(log, tmp_path):
    """Sheets of their own, an overlap, their agreement and the reward's rates, then one gold."""
    path, gold = log
    said = run(
        "label", "draw", path, "--annotator", "anna", "--annotator", "ben",
        "--per-annotator", 60, "--overlap", 40, "-o", tmp_path / "s.jsonl",
    )  # fmt: skip
    assert "80 prompts" in said
    labels = [
        answered(tmp_path / f"s.{who}.jsonl", tmp_path / f"{who}.jsonl", gold, who=who, slip=0.1)
        for who in ("anna", "ben")
    ]
    said = run("label", "agreement", *labels, "--log", path, "--threshold", 0.5)
    assert "anna and ben, 40 items; Clopper-Pearson" in said
    assert "Krippendorff's alpha" in said and "true-negative rate at 0.5" in said
    found = orjson.loads(run("label", "agreement", *labels, "--json"))
    assert [item["items"] for item in found["measured"]] == [40, 40, 40]
    said = run(
        "label", "merge", path, *labels, "-o", tmp_path / "m.parquet", "--joining", "majority"
    )
    assert "40 rollouts have several annotators, joined by majority" in said


def test_next_says_which_way_wins(log, tmp_path):
    """The forecast of both ways, and a sheet behind the first; a column of doubt by name."""
    path, gold = log
    run("label", "draw", path, "-n", 60, "--most", 150, "-o", tmp_path / "s.jsonl")
    labels = answered(tmp_path / "s.jsonl", tmp_path / "l.jsonl", gold)
    said = run(
        "label", "next", path, "--labels", labels, "-n", 30, "-o", tmp_path / "more.jsonl",
        "--doubt", "doubt",
    )  # fmt: skip
    assert "Forecast width of E r* with 150 labels: uniform" in said
    assert "Taken: uniform" in said
    more = answered(tmp_path / "more.jsonl", tmp_path / "l2.jsonl", gold)
    said = run("label", "merge", path, labels, more, "-o", tmp_path / "m.parquet", "--json")
    returned = orjson.loads(said)
    assert (returned["drawn"], returned["labelled"], returned["prefix"]) == (90, 90, 90)


def test_dry_run_and_width(log, tmp_path):
    """How many labels which width takes, without a file; a width in place of a number."""
    path, _ = log
    said = run("label", "draw", path, "-n", 50, "--dry-run")
    assert "half yes" in said and "  50  " in said
    assert "Labels over 2 cells: step 0: " in said
    said = run("label", "draw", path, "--width", 0.2, "-o", tmp_path / "s.csv")
    assert "A width of 0.2 is forecast for 102 labels" in said
    assert len(read_sheet(tmp_path / "s.csv").items) == 102
    said = run("label", "draw", path, "--width", 0.2, "--expect", 0.9, "--dry-run")
    assert "forecast for 51 labels" in said


def test_strata_by_any_column(log, tmp_path):
    """--by takes a column of the log; blocks of one of each, by declared shares or their own."""
    path, _ = log
    run("label", "draw", path, "-n", 40, "--by", "domain", "-o", tmp_path / "s.jsonl",
        "--share", "math=.7", "--share", "code=.3")  # fmt: skip
    design = read_sheet(tmp_path / "s.jsonl").design
    assert [(s.name, s.draws, s.share) for s in design.strata] == [
        ("code", 200, 0.3), ("math", 200, 0.7),
    ]  # fmt: skip
    assert len(read_sheet(tmp_path / "s.jsonl").items) == 40


def test_labels_that_lack_ids_and_letters(log, tmp_path):
    """Text joins where ids lack; letters go by --map-value."""
    path, _ = log
    rows = [
        {"prompt": "Question 1?", "response": "Answer 5.", "verdict": "C"},
        {"prompt": "Question 2?", "response": "Answer 9.", "verdict": "I"},
    ]
    (tmp_path / "l.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    said = run(
        "label", "merge", path, tmp_path / "l.jsonl", "-o", tmp_path / "m.parquet",
        "--label-map", "label=verdict", "--map-value", "gold:C=1,I=0",
    )  # fmt: skip
    assert "nothing says how these rollouts were chosen" in said
    gold = taut.read_rollouts(tmp_path / "m.parquet").gold
    assert (gold[5], gold[9], np.isfinite(gold).sum()) == (1, 0, 2)


def test_a_gold_range_sets_the_scale(log, tmp_path):
    """0 to 1 asks yes or no, 1 to 5 gives choices, anything else a number."""
    path, _ = log
    for name, ends in (("yes-no", (0, 1)), ("choices", (1, 5)), ("number", (-4, 4))):
        run("label", "draw", path, "-n", 5, "-o", tmp_path / "s.jsonl", "--gold-range", *ends)
        scale = read_sheet(tmp_path / "s.jsonl").design.scale
        assert (scale.kind, scale.low, scale.high) == (name, *ends)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", 5], "expected -o FILE"),
        (["-o", "s.csv"], "expected -n N or --width W"),
        (["-n", 5, "-o", "s.csv", "--rows", "--by", "domain"], "exclude each other"),
        (["-n", 5, "-o", "s.csv", "--overlap", 3], "need --annotator"),
        (["-n", 5, "-o", "s.csv", "--annotator", "../x"], "part of a file's name"),
        (["-n", 5, "-o", "s.csv", "--annotator", "a", "--annotator", "a"], "of its own"),
        (["-n", 5, "-o", "s.csv", "--by", "domain", "--share", "math=x"], "VALUE=NUMBER"),
        (["-n", 5, "-o", "s.csv", "--scale", "choices", "--gold-range", 0, 30], "one digit"),
        (["--width", 2, "-o", "s.csv"], "less than 1"),
        (["-n", 5000, "-o", "s.csv"], "the log has 400 prompts"),
    ],
)
def test_requests_that_make_no_sense(log, tmp_path, monkeypatch, options, words):
    """Each says what to give, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        run("label", "draw", log[0], *options)
    assert not (tmp_path / "s.csv").exists()


def test_labels_of_another_log_are_refused(log, tmp_path):
    """The wrong log is named, with what to do."""
    path, gold = log
    run("label", "draw", path, "-n", 10, "-o", tmp_path / "s.jsonl")
    labels = answered(tmp_path / "s.jsonl", tmp_path / "l.jsonl", gold)
    pq.write_table(pq.read_table(path).slice(0, 800), tmp_path / "half.parquet")
    with pytest.raises(LogError, match="that it does not have"):
        run("label", "merge", tmp_path / "half.parquet", labels, "-o", tmp_path / "m.parquet")
    merged = tmp_path / "m.parquet"
    run("label", "merge", path, labels, "-o", merged)
    with pytest.raises(UsageError, match="it has labels already"):
        run("label", "merge", merged, labels, "-o", tmp_path / "n.parquet")
    run("label", "merge", merged, labels, "-o", tmp_path / "n.parquet", "--overwrite")


def test_width_is_sized_as_a_plan_would(log, tmp_path):
    """Where the log has labels, the judge's help counts: fewer labels than for half yes."""
    path, gold = log
    table = pq.read_table(path)
    half = [gold[i] if k % 4 == 0 else None for k, i in enumerate(table["rollout_id"].to_pylist())]
    labelled = tmp_path / "labelled.parquet"
    pq.write_table(table.append_column("gold", pa.array(half, pa.float64())), labelled)
    counts = {}
    for name in (path, labelled):
        run("label", "draw", name, "--width", 0.2, "-o", tmp_path / "sheet.jsonl")
        counts[name] = len(read_sheet(tmp_path / "sheet.jsonl").items)
    assert 50 < counts[labelled] < counts[path] < 200

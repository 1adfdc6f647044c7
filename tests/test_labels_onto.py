"""`--labels` end to end: sheets of every way, in part, and labels that nobody drew."""

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

import taut
from taut.draws.assumptions import Standing
from taut.errors import LogError, UsageError
from taut.labels.sheet import read_sheet
from test_label_cli import answered, log, run  # noqa: F401 - a fixture

TRUTH = 0.55


def audited(path, *options, to):
    """`taut audit` as JSON."""
    run(
        "audit",
        path,
        "--reward-range",
        0,
        1,
        "--target",
        "reward",
        "--quiet",
        "--json",
        to,
        *options,
    )
    return taut.load(to)


def labels_stand(found):
    """How `random-labels` stands, and by what."""
    item = next(item for item in found.assumptions if item.name == "random-labels")
    return item.stands, item.by


WAYS = {"one": (), "whole": ("--whole",), "rows": ("--rows",), "strata": ("--by", "domain")}


@pytest.mark.parametrize("way", WAYS)
def test_three_commands(log, tmp_path, way):  # noqa: F811
    """Draw, label, audit --labels: the certificate holds the truth, the sheet is on record."""
    path, gold = log
    sheet = tmp_path / "sheet.jsonl"
    run("label", "draw", path, "-n", 100, *WAYS[way], "-o", sheet)
    labels = answered(sheet, tmp_path / "labels.jsonl", gold)
    found = audited(path, "--labels", labels, to=tmp_path / "found.json")
    stands, by = labels_stand(found)
    assert stands is Standing.RECORDED
    assert way == "rows" or "sheet of taut, complete" in by
    assert found.lower <= TRUTH <= found.upper and found.upper - found.lower < 0.4
    assert found.terms.reward_shift.route.startswith("gold labels on")


def test_labels_on_the_log_stay_apart(log, tmp_path):  # noqa: F811
    """Merged and joined are one: the same interval; a log with labels takes no others."""
    path, gold = log
    run("label", "draw", path, "-n", 40, "--by", "domain", "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    joined = audited(path, "--labels", labels, to=tmp_path / "joined.json")
    run("label", "merge", path, labels, "-o", tmp_path / "merged.parquet")
    merged = audited(tmp_path / "merged.parquet", to=tmp_path / "merged.json")
    assert (joined.lower, joined.upper) == (merged.lower, merged.upper)
    assert labels_stand(merged) == labels_stand(joined)
    with pytest.raises(UsageError, match="has gold labels already"):
        audited(tmp_path / "merged.parquet", "--labels", labels, to=tmp_path / "x.json")
    # Read without ids the file has no blocks, and strata are no plain sample.
    rollouts = taut.read_rollouts(tmp_path / "merged.parquet")
    found = taut.audit(rollouts, target="reward", reward_range=(0, 1), declare="random-labels")
    assert labels_stand(found)[0] is Standing.VIOLATED and found.status == "estimated"


def part_of(labels, path, *, units=None, skips=()):
    """The same answers without those behind a unit, or with some skipped."""
    head, *lines = map(orjson.loads, labels.read_bytes().splitlines())
    kept = [line for line in lines if units is None or line["unit"] < units]
    for line in kept:
        if line["unit"] in skips:
            line["label"] = "skip"
    path.write_bytes(b"\n".join(map(orjson.dumps, [head, *kept])))
    return path


def test_a_sheet_in_part(log, tmp_path):  # noqa: F811
    """The first 70 of 120 certify by themselves; four skips cost little; both hold the truth."""
    path, gold = log
    run("label", "draw", path, "-n", 120, "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    whole = audited(path, "--labels", labels, to=tmp_path / "whole.json")
    widths = [whole.upper - whole.lower]
    for name, given in {"skips": {"skips": (5, 30, 31, 80)}, "part": {"units": 70}}.items():
        some = part_of(labels, tmp_path / f"{name}.jsonl", **given)
        found = audited(path, "--labels", some, to=tmp_path / f"{name}.json")
        stands, by = labels_stand(found)
        assert stands is {"skips": Standing.ASSUMED, "part": Standing.RECORDED}[name]
        assert by.startswith("sheet of taut, the first")
        assert found.status == whole.status
        assert found.lower <= TRUTH <= found.upper
        widths.append(found.upper - found.lower)
    assert widths[0] < widths[1] < widths[0] + 0.1 and widths[0] < widths[2] < 0.6
    # Merged, the gaps are on the file's record; read plainly it is no random sample any more.
    run("label", "merge", path, some, "-o", tmp_path / "merged.parquet")
    merged = audited(tmp_path / "merged.parquet", to=tmp_path / "merged.json")
    assert (merged.lower, merged.upper) == (found.lower, found.upper)
    plain = taut.audit(
        taut.read_rollouts(tmp_path / "merged.parquet"), target="reward", reward_range=(0, 1)
    )
    assert plain.status == "estimated" and labels_stand(plain)[0] is Standing.VIOLATED
    with pytest.raises(UsageError, match="only bets"):
        audited(path, "--labels", some, "--route", "gold", "--method", "hoeffding", to="x.json")


@pytest.mark.parametrize("how", ["best of 4", "top"])
def test_chosen_labels_are_no_certificate(log, tmp_path, how):  # noqa: F811
    """The best answer of each prompt, and the prompts of the highest rewards: estimated."""
    path, gold = log
    table = pq.read_table(path).to_pydict()
    reward = np.array(table["reward"]).reshape(-1, 4)
    if how == "best of 4":
        rows = np.arange(100) * 4 + reward[:100].argmax(axis=1)
    else:
        rows = np.argsort(-reward.ravel())[:100]
    chosen = [table["rollout_id"][row] for row in rows]
    labels = tmp_path / "labels.csv"
    labels.write_text("rollout_id,label\n" + "".join(f"{i},{'CI'[1 - gold[i]]}\n" for i in chosen))
    found = audited(
        path, "--labels", labels, "--map-value", "gold:C=1,I=0", "--declare", "random-labels",
        to=tmp_path / "found.json",
    )  # fmt: skip
    assert labels_stand(found)[0] is Standing.VIOLATED
    assert found.status == "estimated"


def test_labels_of_other_logs_are_refused(log, tmp_path):  # noqa: F811
    """Rows that nobody drew, unknown ids, and a sheet of another log, each named."""
    path, gold = log
    run("label", "draw", path, "-n", 20, "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    drawn = {item.rollout_id for item in read_sheet(tmp_path / "sheet.jsonl").items}
    odd = next(i for i in gold if i not in drawn)
    for extra, said in ((odd, "nobody drew"), ("r99999", "does not have")):
        more = tmp_path / "more.jsonl"
        line = orjson.dumps({"rollout_id": extra, "label": 1})
        more.write_bytes(labels.read_bytes() + b"\n" + line)
        with pytest.raises(LogError, match=said):
            audited(path, "--labels", more, to=tmp_path / "x.json")
    other = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(path).slice(0, 1500), other)
    with pytest.raises(LogError, match=r"drawn from a log of 1600|does not have"):
        audited(other, "--labels", labels, to=tmp_path / "x.json")


def test_other_commands_take_labels(log, tmp_path):  # noqa: F811
    """select, plan and check join them; of strata they say that only an audit takes them."""
    path, gold = log
    run("label", "draw", path, "-n", 120, "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    ours = ("--labels", labels, "--reward-range", 0, 1, "--quiet", "--json")
    to = tmp_path / "found.json"
    run("check", path, *ours, to)
    assert taut.load(to).log.labels == "fixed"
    run("select", path, "--target", "reward", "--held-out", *ours, to)
    assert {c.certificate.status for c in taut.load(to).candidates} <= {"certified", "conditional"}
    run(
        "plan",
        path,
        "--target",
        "reward",
        "--width",
        0.2,
        "--label-cost",
        1,
        "--decode-cost",
        1,
        *ours,
        to,
    )
    run("label", "draw", path, "-n", 40, "--by", "domain", "-o", tmp_path / "strata.jsonl")
    strata = answered(tmp_path / "strata.jsonl", tmp_path / "strata.labels.jsonl", gold)
    for command in ("select", "plan --width .2"):
        with pytest.raises(UsageError, match="one chance"):
            run(*command.split(), path, "--labels", strata, "--target", "reward", "--quiet")


def test_a_finished_log_is_watched_with_labels(log, tmp_path):  # noqa: F811
    """watch --final joins them; what came back in part is an estimate; a log that grows waits."""
    path, gold = log
    pq.write_table(pq.read_table(path).drop_columns("step"), path)
    run("label", "draw", path, "-n", 300, "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    some = part_of(labels, tmp_path / "some.jsonl", units=150)
    to = tmp_path / "found.json"
    watch = ("watch", path, "--gold", "--reward-range", 0, 1, "--held-out")
    for given, status in ((labels, {"certified", "conditional"}), (some, {"estimated"})):
        run(*watch, "--labels", given, "--final", "--quiet", "--json", to)
        (series,) = taut.load(to).series
        assert series.interval.status in status
        assert series.interval.lower <= TRUTH <= series.interval.upper
        assert series.interval.upper - series.interval.lower < 0.6
    with pytest.raises(UsageError, match="--final"):
        run(*watch, "--labels", labels, "--once", "--json", to)


def test_strata_of_one_step_have_no_blocks(log, tmp_path):  # noqa: F811
    """--by step: each step is a part of the log; strata certify nothing there."""
    path, gold = log
    run("label", "draw", path, "-n", 80, "--by", "domain", "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    to = tmp_path / "found.json"
    found = audited(
        path, "--labels", labels, "--by", "step", "--declare", "random-labels,held-out", to=to
    )
    for group in found.groups:
        assert group.certificate.terms.reward_shift.route == "trivial"


def test_in_memory(log, tmp_path):  # noqa: F811
    """The same from Python; active labels need their own files, and say so."""
    path, gold = log
    run("label", "draw", path, "-n", 60, "--most", 150, "-o", tmp_path / "a.jsonl")
    first = answered(tmp_path / "a.jsonl", tmp_path / "a.labels.jsonl", gold)
    rollouts = taut.read_rollouts(path, rollout_ids=True)
    labelled = taut.with_labels(rollouts, first)
    found = taut.audit(labelled, target="reward", reward_range=(0, 1))
    same = audited(path, "--labels", first, to=tmp_path / "same.json")
    assert (found.lower, found.upper) == (same.lower, same.upper)
    run("label", "next", path, "--labels", first, "-n", 60, "-o", tmp_path / "b.jsonl")
    second = answered(tmp_path / "b.jsonl", tmp_path / "b.labels.jsonl", gold)
    more = taut.audit(
        taut.with_labels(rollouts, [first, second]), target="reward", reward_range=(0, 1)
    )
    assert more.lower <= TRUTH <= more.upper
    assert more.upper - more.lower < found.upper - found.lower


def test_what_takes_labels_plainly_is_told(log, tmp_path):  # noqa: F811
    """Strata, or a sheet in part, as gold of a transport test: in doubt, whatever is declared."""
    path, gold = log
    pq.write_table(pq.read_table(path).drop_columns("step"), path)
    run("label", "draw", path, "-n", 100, "--by", "domain", "-o", tmp_path / "sheet.jsonl")
    labels = answered(tmp_path / "sheet.jsonl", tmp_path / "labels.jsonl", gold)
    rollouts = taut.read_rollouts(path, rollout_ids=True, keep=("domain",))
    labelled = taut.with_labels(rollouts, labels)
    assert labelled.sheet is not None and not labelled.sheet.part
    found = taut.audit(labelled, target="reward", reward_range=(0, 1))
    assert labels_stand(found)[0] is Standing.RECORDED and found.measured.gold is None
    rest = labelled.plainly_labelled()
    checked = taut.check(rest, reward_range=(0, 1), declare="random-labels")
    assert labels_stand(checked)[0] is Standing.VIOLATED
    found = taut.audit(rest, target="reward", reward_range=(0, 1), declare="random-labels")
    assert found.terms.reward_shift.route == "trivial"


def test_several_annotators_are_said(log, tmp_path):  # noqa: F811
    """Their mean is taken, and the report says so; texts join where there are no ids."""
    path, gold = log
    run(
        "label", "draw", path, "--annotator", "anna", "--annotator", "ben",
        "--per-annotator", 40, "--overlap", 20, "-o", tmp_path / "pair.jsonl",
    )  # fmt: skip
    both = [
        option
        for who in ("anna", "ben")
        for option in (
            "--labels",
            answered(tmp_path / f"pair.{who}.jsonl", tmp_path / f"{who}.jsonl", gold, who=who),
        )
    ]
    said = run("audit", path, *both, "--reward-range", 0, 1, "--target", "reward")
    assert "20 rollouts have labels of several annotators, joined by their mean" in said
    lines = map(orjson.loads, (tmp_path / "anna.jsonl").read_bytes().splitlines())
    lines = [{k: v for k, v in line.items() if k != "rollout_id"} for line in lines]
    words = tmp_path / "words.jsonl"
    words.write_bytes(b"\n".join(map(orjson.dumps, lines[1:])))
    found = audited(path, "--labels", words, to=tmp_path / "found.json")
    assert found.log.gold_rollouts == len(lines) - 1

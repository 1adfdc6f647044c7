"""What a watch rests on: declarations, what arrives, and a look at all rows before anyone acts."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from check import misses_more_than
from taut import cli
from taut.decisions.stopping.options import WatchOptions
from taut.decisions.stopping.result import WatchResult
from taut.decisions.stopping.rows import check_rows, share_of_look
from taut.draws.rollouts import Rollouts
from taut.engines.follow import Follower
from taut.errors import AssumptionError, LogError, UsageError
from taut.schemas import load

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.layouts import adapter
from validation.layouts.cells import cells

ALL = "held-out,complete,random-labels"
# Layouts that a watch takes whole: one policy, or one series for each.
WATCHED = [
    cell
    for cell in cells()
    if cell.command.startswith("watch")
    and cell.family in ("labels", "layouts", "labels by outcome", "lost rows", "units")
    and cell.kind != "wide"
    and cell.name not in ("gold outside", "order of finishing")
]


def items(count=120, size=2, seed=0, **more):
    """Rollouts of some prompts, gold equal to the reward, in an order blind to both."""
    rng = np.random.default_rng(seed)
    reward = rng.integers(0, 11, (count, size)) / 10
    return [
        {"prompt_id": f"p{i}", "reward": value, "gold": value, **more}
        for i in range(count)
        for value in reward[i].tolist()
    ]


def written(path, rows):
    with open(path, "a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return path


def watched(path, *, final=True, state=None, **settings):
    given = {"reward_range": (0.0, 1.0), "gold": True, "declare": ALL, **settings}
    found = Follower([str(path)], WatchOptions(**given), state=state and str(state))
    found.look(final=final)
    return found


def assumption(result, name):
    return next(item for item in result.assumptions if item.name == name)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["taut", "watch", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jsonl"


# --- what decides the status ----------------------------------------------------------------------


def test_declarations_decide_between_certified_and_conditional(path):
    """Nothing said: conditional, with each assumption by name; all said: certified."""
    written(path, items())
    for declare, status in (("", "conditional"), (ALL, "certified")):
        found = watched(path, declare=declare).result
        assert found.status == status == found.series[0].interval.status
        assert found.checked and (found.log.prompts, found.log.draws, found.log.cells) == (
            120,
        ) * 2 + (1,)
    assert assumption(watched(path, declare="").result, "complete").stands == "assumed"


def test_while_a_log_grows_its_order_is_assumed_and_no_row_is_tested(path):
    """Nobody knows yet whether rows come as responses finish: conditional, and said."""
    written(path, items())
    found = watched(path, final=False).result
    assert found.status == "conditional" and not found.checked and found.series[0].health == ()
    assert assumption(found, "order").stands == "assumed"
    assert watched(path, final=False, whole_batches=True).result.status == "certified"


def test_standings_and_counts_are_those_of_an_audit(path):
    """The same rows and declarations: the same assumptions stand alike in both."""
    rows = items(size=3, step=1)
    for row in rows[150:]:
        row["gold"] = None
    written(path, rows)
    for declare in ("", ALL):
        audit = taut.audit(
            taut.read_rollouts(str(path)), target="reward", reward_range=(0, 1), declare=declare
        )
        found = watched(path, declare=declare).result
        mine = {item.name: item.stands for item in found.assumptions}
        theirs = {item.name: item.stands for item in audit.assumptions}
        shared = mine.keys() & theirs.keys()
        assert {"held-out", "complete", "random-labels", "one-law", "gold-range"} <= shared
        assert {name: mine[name] for name in shared} == {name: theirs[name] for name in shared}
        assert found.status == audit.status
        counts = (found.log.prompts, found.log.draws, found.log.cells, found.log.rollouts)
        counts += (found.log.labels,)
        log = audit.log
        assert counts == (log.prompts, log.draws, log.cells, log.rollouts, log.labels)


@pytest.mark.parametrize("cell", WATCHED[::4], ids=str)
def test_a_finished_log_is_judged_as_an_audit_judges_it(cell, tmp_path):
    """Layouts, labels and breaches: the same draws, label design, standings and status."""
    log = cell.log(0)
    adapter._file(log.columns, str(tmp_path))
    by = cell.command.partition("--by ")[2] or None
    given = {"declare": log.declare, **log.settings}
    rows = taut.read_rollouts(str(tmp_path))
    audits = taut.audit_by(rows, by, **given) if by else {None: taut.audit(rows, **given)}
    found = watched(tmp_path, by=by, **given).result
    theirs = {key if key is None else str(key): audit for key, audit in audits.items()}
    assert theirs.keys() == {item.value for item in found.series}
    for item in found.series:
        audit = theirs[item.value]
        stands = {entry.name: entry.stands for entry in audit.assumptions}
        for entry in item.assumptions:
            assert stands.get(entry.name, entry.stands) == entry.stands, entry
        log = audit.log
        counts = (item.log.prompts, item.log.draws, item.log.cells, item.log.labels)
        assert counts == (log.prompts, log.draws, log.cells, log.labels)
        assert item.interval.status == (audit.status if item.n else "vacuous")


def test_labels_by_outcome_are_seen_before_a_gate_passes(path, monkeypatch, capsys):
    """Labels on the better prompts only: violated, estimated, exit 3; blind ones pass."""
    rows = items(count=200, size=1)
    options = ("--reward-range", 0, 1, "--gold", "--target", "reward", "--declare", ALL, "--quiet")
    goal = ("--width", 0.6, "--once", "--whole-batches")
    for row in rows:
        row["gold"] = row["gold"] if row["reward"] > 0.5 else None
    status, out, err = run(monkeypatch, capsys, written(path, rows), *options, *goal)
    assert status == 3 and "only estimated" in err and "labels go with the rewards" in err
    assert "labels go with the rewards" in " ".join(out.split())
    rng = np.random.default_rng(1)
    blind = [row | {"gold": row["reward"] if rng.random() < 0.6 else None} for row in rows]
    path.unlink()
    assert run(monkeypatch, capsys, written(path, blind), *options, *goal)[0] == 0


def test_a_doubt_stays_and_levels_are_spent_over_looks(path):
    """What one look at all rows found is not taken back by more rows; levels add up to one."""
    settings = {"per_prompt": 1, "whole_batches": True, "delta": 1e-9}
    kept = settings | {"state": path.parent / "state.json"}
    rows = items(count=30, size=1)
    top = sorted(row["reward"] for row in rows)[15]
    for row in rows:
        row["gold"] = row["gold"] if row["reward"] >= top else None
    assert watched(written(path, rows), **kept).result.status == "estimated"
    written(path, [row | {"prompt_id": f"q{i}"} for i, row in enumerate(items(600, size=1))])
    found = watched(path, **kept)
    assert found.watch.checks == 2
    assert assumption(found.result, "random-labels").stands == "violated"
    assert watched(path, **settings).result.status == "certified"  # by itself it sees nothing
    assert sum(1 / share_of_look(j, several=True) for j in range(1, 10_000)) < 1
    assert share_of_look(1, several=False) == 1


def test_recorded_unequal_chances_of_a_label_are_not_averaged_away():
    """A watch does not weight labels: what an audit can weigh is an estimate here."""
    rng = np.random.default_rng(0)
    chance = np.where(np.arange(200) % 2, 0.9, 0.3)
    reward = rng.random(200)
    rows = Rollouts.from_arrays(
        prompt_id=[f"p{i}" for i in range(200)],
        reward=reward,
        gold=np.where(rng.random(200) < chance, reward, np.nan),
        label_probability=chance,
    )
    said = check_rows(rows, WatchOptions(reward_range=(0, 1), gold=True), ordered=False)["all"]
    item = next(item for item in said.assumptions if item.name == "random-labels")
    assert item.stands == "violated" and "unequal chances" in item.by


# --- order ----------------------------------------------------------------------------------------


def sorted_rows(count=150, size=1):
    return sorted(items(count=count, size=size), key=lambda row: row["reward"] + 0.3 * hash_of(row))


def hash_of(row):
    return (int(row["prompt_id"][1:]) * 37 % 101) / 101


def test_rows_in_order_of_finishing_are_seen_where_they_count_in_it(path):
    """At a decision on a growing log: violated, also where whole batches were declared."""
    written(path, sorted_rows())
    for batches in (False, True):
        found = watched(path, final=False, width=0.9, per_prompt=1, whole_batches=batches).result
        assert found.decision == "reached" and found.status == "estimated"
        assert assumption(found, "order").stands == "violated"


def test_a_finished_log_counts_in_an_order_that_rows_do_not_decide(path):
    """Any order of rows gives the same interval; one by outcome is a doubt, no violation."""
    rows = sorted_rows()
    found = watched(written(path, rows)).result
    order = assumption(found, "order")
    assert (found.status, order.stands, found.log.order) == ("conditional", "in_doubt", "ids")
    path.unlink()
    again = watched(written(path, items(count=150, size=1))).result
    assert (again.status, assumption(again, "order").stands) == ("certified", "checked")
    assert again.series[0].interval.lower == found.series[0].interval.lower
    assert again.series[0].path == found.series[0].path


def test_the_test_of_order_accuses_no_honest_log():
    """Skewed rewards in a blind order: never in doubt; sorted ones always."""
    options = WatchOptions(reward_range=(0, 1), gold=True)
    accused = sorted_ones = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        reward = (rng.random(200) < (0.02, 0.5, 0.99)[seed % 3]).astype(float)
        for values in (reward, np.sort(rng.random(200))):
            rows = Rollouts.from_arrays(
                prompt_id=[f"p{i}" for i in range(200)], reward=values, gold=values
            )
            said = check_rows(rows, options, ordered=False)["all"].assumptions
            doubted = any(item.name == "order" and item.doubted for item in said)
            accused += doubted and values is reward
            sorted_ones += doubted and values is not reward
    assert not misses_more_than(accused, 60, 1e-3) and sorted_ones == 60


def test_an_average_over_policies_keeps_the_order_of_time(path):
    """Later policies may learn from earlier draws: a finished log counts as it came."""
    rows = [row | {"step": i // 60} for i, row in enumerate(items())]
    found = watched(written(path, rows), average=True).result
    assert (found.log.order, assumption(found, "order").stands) == ("rows", "assumed")
    assert found.status == "conditional" and assumption(found, "held-out").stands == "declared"


# --- units ----------------------------------------------------------------------------------------


def test_gold_with_a_range_of_its_own_stays_in_its_units(path):
    """An accuracy beside rewards on [0, 100] is an accuracy, for goals too."""
    rows = [row | {"reward": 100 * row["reward"], "gold": row["gold"] / 2} for row in items()]
    settings = {"reward_range": (0.0, 100.0), "gold_range": (0.0, 1.0)}
    ends = watched(written(path, rows), **settings).result.series[0].interval
    assert (ends.units, ends.range) == ("gold", (0.0, 1.0))
    assert 0.1 < ends.lower < 0.25 < ends.upper < 0.4
    assert watched(path, require_lower=0.15, **settings).result.decision == "reached"
    control = watched(path, control=0.5, unlabelled=1, **settings).result.series[0]
    assert control.settings.low == -0.5 and control.settings.high == 1.5
    assert abs(control.mean - ends_mean(rows)) < 1e-6


def ends_mean(rows):
    return float(np.mean([row["gold"] for row in rows]))


def test_the_clipped_target_needs_a_map_from_gold_to_rewards(path):
    """Without one there is no common unit; with one the numbers are in reward units."""
    rows = [row | {"reward": 100 * row["reward"], "log_ratio": 9.0} for row in items()]
    settings = {
        "reward_range": (0.0, 100.0),
        "gold_range": (0.0, 1.0),
        "target": "clipped",
        "beta": 1.0,
        "tau": 2.0,
    }
    with pytest.raises(UsageError, match="--gold-scale P,Q"):
        watched(path, **settings)
    found = watched(written(path, rows), gold_scale=(100.0, 0.0), **settings).result.series[0]
    assert found.interval.units == "reward" and found.interval.range == (-2.0, 102.0)
    assert np.isclose(found.mean, 100 * ends_mean(rows) - 2, atol=1e-4)
    with pytest.raises(UsageError, match="expected P,Q with P > 0"):
        WatchOptions(**settings, gold=True, gold_scale=(-1.0, 0.0))


def test_a_range_that_cuts_off_much_of_the_learned_reward_is_refused(path):
    """What is left is not the reward that was measured; a tenth is noted and counted."""
    rows = items()
    for row in rows[: len(rows) // 3]:
        row["reward"] += 40
    with pytest.raises(AssumptionError, match="lie outside the declared range"):
        watched(written(path, rows), gold=False)
    assert watched(path, gold=True).result.log.clipped_rewards == len(rows) // 3


# --- prompts --------------------------------------------------------------------------------------


def test_draws_with_replacement_are_told_apart_by_group(path):
    """Declared, each group counts, conditional at best; without a group it is an error."""
    rows = [row | {"group": f"g{i // 2}"} for i, row in enumerate(items())]
    rows = [row | {"prompt_id": f"p{i // 2 % 30}"} for i, row in enumerate(rows)]
    found = watched(written(path, rows), prompts="with-replacement").result
    assert (found.log.prompts, found.log.draws, found.status) == (30, 120, "conditional")
    assert watched(path).result.log.draws == 30
    path.unlink()
    with pytest.raises(LogError, match="needs a column 'group'"):
        watched(written(path, items()), prompts="with-replacement")


def test_ids_that_share_a_text_count_once(path):
    """The same text under other ids is no other prompt, also after a restart."""
    state = path.parent / "state.json"
    rows = [row | {"prompt": f"text {int(row['prompt_id'][1:]) % 40}"} for row in items(80)]
    found = watched(written(path, rows), final=False, state=state, per_prompt=2)
    assert (found.result.log.draws, found.result.log.revisits) == (40, 40)
    written(path, [row | {"prompt_id": f"q{i // 2}"} for i, row in enumerate(rows[:10])])
    again = watched(path, final=False, state=state, per_prompt=2)
    assert (again.result.log.draws, again.result.log.revisits) == (40, 45)
    assert watched(path).result.log.prompts == 40


def test_what_a_log_says_of_itself_is_on_record(path):
    """A taut.toml beside the log declares as --declare does, at once and after a restart."""
    (path.parent / "taut.toml").write_text("held_out = true\ncomplete = true\n")
    settings = {"declare": "random-labels", "whole_batches": True, "final": False, "per_prompt": 2}
    state = path.parent / "state.json"
    for first in (0, 50):
        rows = [row for row in items() if first <= int(row["prompt_id"][1:]) < first + 50]
        found = watched(written(path, rows), state=state, **settings).result
        assert found.status == "certified" and found.log.draws == first + 50
        assert assumption(found, "complete").by == "taut.toml"
    assert watched(path, declare="random-labels").result.status == "certified"
    table = pa.Table.from_pylist(items())
    path.unlink()
    pq.write_table(table, path.parent / "a.parquet")
    assert watched(path.parent / "a.parquet", declare="random-labels").result.status == "certified"


# --- documents ------------------------------------------------------------------------------------


def test_documents_are_read_back(path):
    """`taut.load` gives the same record; its text says what to declare."""
    found = watched(written(path, items()), declare="").result
    out = path.parent / "watch.json"
    out.write_text(found.to_json())
    assert load(out) == found and isinstance(load(out), WatchResult)
    assert "say --declare held-out,complete" in str(found)
    monitor = taut.Monitor(low=0, high=1)
    monitor.update([0.5] * 9)
    out.write_text(monitor.result.to_json())
    assert load(out) == monitor.result and monitor.document["schema"] == "taut.monitor/2"


def test_a_monitor_is_worth_what_its_caller_declares():
    """Blocks that a caller makes are conditional on two words, which a state keeps."""
    monitor = taut.Monitor(low=0, high=1)
    assert monitor.status == "vacuous"
    monitor.update([0.5] * 9)
    assert monitor.status == "conditional" and 'declare="independent,order"' in str(monitor)
    half = taut.Monitor(low=0, high=1, declare="order")
    half.update([0.5] * 9)
    assert half.status == "conditional"
    said = taut.Monitor(low=0, high=1, declare=("independent", "order"))
    said.update([0.5] * 9)
    kept = taut.Monitor.from_state(json.loads(json.dumps(said.state)))
    assert kept.status == said.status == "certified"
    with pytest.raises(UsageError, match="expected any of independent, order"):
        taut.Monitor(low=0, high=1, declare="held-out")

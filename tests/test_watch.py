"""A growing log: every row once, none twice, whatever happens to its files; and the CLI."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taut import cli
from taut.decisions.stopping.watching import WatchOptions
from taut.engines.follow import Follower
from taut.errors import LogError, UsageError

K = 2


def rows(first, last, **more):
    """K rollouts for each of some prompts; what they say depends on their ids alone."""
    return [
        {"prompt_id": f"p{i}", "reward": ((i * 37 + 11 * k) % 100) / 100, **more}
        for i in range(first, last)
        for k in range(K)
    ]


def text(items):
    return "".join(json.dumps(item) + "\n" for item in items)


def follower(folder, *, state=None, mapping=None, **settings):
    options = WatchOptions(**{"reward_range": (0.0, 1.0), "per_prompt": K, **settings})
    return Follower([str(folder)], options, state=state and str(state), mapping=mapping)


def monitor(found):
    return found.watch.state["monitors"]


@pytest.fixture
def expected(tmp_path):
    """The monitors of a log of 60 prompts that was read at once."""
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "a.jsonl").write_text(text(rows(0, 60)))
    found = follower(folder)
    found.look()
    assert found.watch.arrivals.counted == 60
    return monitor(found)


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def test_lines_that_are_being_written_wait(log, expected):
    """A file cut at any byte, with a restart each time, gives the same monitors."""
    whole = text(rows(0, 60)).encode()
    cuts = sorted(np.random.default_rng(0).integers(0, len(whole), 25).tolist())
    state = log.parent / "state.json"
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        with open(log / "a.jsonl", "ab") as file:
            file.write(whole[start:end])
        found = follower(log, state=state)
        found.look()
    assert monitor(found) == expected


@pytest.mark.parametrize("how", ["rename", "gzip", "copytruncate", "zst", "replace"])
def test_rotated_files_are_known_again(log, expected, how):
    """Renamed, compressed, copied and truncated, replaced: no row is lost or counted again."""
    current, old = log / "a.jsonl", log / "a.jsonl.1"
    current.write_text(text(rows(0, 20)) + '{"prompt_id": "p20", "rew')
    state = log.parent / "state.json"
    follower(log, state=state).look()
    rest = text(rows(20, 30))[len('{"prompt_id": "p20", "rew') :]
    with open(current, "a") as file:
        file.write(rest)
    if how == "rename":
        current.rename(old)
    elif how == "copytruncate":
        shutil.copy(current, old)
        current.write_text("")
    elif how == "replace":
        text_so_far = current.read_text()
        (log / "a.tmp").write_text(text_so_far + text(rows(30, 60)))
        (log / "a.tmp").replace(current)
    else:
        packed = pa.CompressedOutputStream if how == "zst" else None
        if packed:
            with pa.CompressedOutputStream(str(old) + ".zst", "zstd") as file:
                file.write(current.read_bytes())
        else:
            (log / "a.jsonl.1.gz").write_bytes(gzip.compress(current.read_bytes()))
        current.unlink()
    if how != "replace":
        current.write_text(text(rows(30, 60)))
    found = follower(log, state=state)
    found.look()
    follower(log, state=state).look()
    assert found.watch.arrivals.counted == 60
    assert monitor(found) == expected


def test_a_copy_is_not_counted_again(log, expected):
    """A finished copy of a file, and one in the making, are left alone."""
    (log / "a.jsonl").write_text(text(rows(0, 60)))
    found = follower(log)
    found.look()
    (log / "b.jsonl").write_text(text(rows(0, 7)))
    found.look()
    assert found.document["log"]["incomplete"] == [str(log / "b.jsonl")]
    (log / "b.jsonl").write_text(text(rows(0, 60)))
    found.look()
    assert "is a copy of" in found.document["log"]["notes"][0]
    assert monitor(found) == expected


def test_a_copy_that_goes_on_takes_over(log, expected):
    """Copied, and then only the copy is written to: its new rows count."""
    (log / "a.jsonl").write_text(text(rows(0, 20)))
    found = follower(log)
    found.look()
    (log / "b.jsonl").write_text(text(rows(0, 60)))
    found.look()
    found.look()
    assert monitor(found) == expected


def test_parquet_counts_when_it_is_whole(log, expected):
    """Without its footer a Parquet file waits; rewritten with more rows, the new ones count."""
    state = log.parent / "state.json"
    for last in (25, 60):
        table = pa.Table.from_pylist(rows(0, last))
        pq.write_table(table, log.parent / "made.parquet")
        made = (log.parent / "made.parquet").read_bytes()
        (log / "part.parquet").write_bytes(made[:-30])
        found = follower(log, state=state)
        found.look()
        assert found.document["log"]["incomplete"] == [str(log / "part.parquet")]
        (log / "part.parquet").write_bytes(made)
        found = follower(log, state=state)
        found.look()
        assert found.watch.arrivals.counted == last
    assert monitor(found) == expected


def test_compressed_files_wait_until_they_are_whole(log, expected):
    """Half a gzip file is no log yet; temporary and hidden names are none at all."""
    packed = gzip.compress(text(rows(0, 60)).encode())
    (log / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    for name in ("a.jsonl.tmp", ".a.jsonl", "_a.jsonl", "a.jsonl.part", "note.txt"):
        (log / name).write_text(text(rows(0, 3)))
    found = follower(log)
    found.look()
    assert found.watch.arrivals is None
    (log / "a.jsonl.gz").write_bytes(packed)
    found.look()
    assert monitor(found) == expected


def test_files_that_appear_later_are_read_in_their_order(log, expected):
    """step_2 comes before step_10, and a file that is not there yet is waited for."""
    found = follower(log / "nothing.jsonl")
    found.look()
    assert found.document["log"]["files"] == 0
    found = follower(log)
    (log / "step_2.jsonl").write_text(text(rows(0, 10)))
    (log / "step_10.jsonl").write_text(text(rows(10, 40)))
    found.look()
    (log / "step_11.jsonl").write_text(text(rows(40, 60)))
    found.look()
    assert monitor(found) == expected


@pytest.mark.parametrize("how", ["shorter", "other", "gone"])
def test_rows_that_were_counted_cannot_be_taken_back(log, how):
    """A file cut off or rewritten is an error at the second look; one that is gone is noted."""
    path = log / "a.jsonl"
    path.write_text(text(rows(0, 20)))
    state = log.parent / "state.json"
    follower(log, state=state).look()
    if how == "gone":
        path.unlink()
    else:
        path.write_text(text(rows(0, 10) if how == "shorter" else rows(50, 90)))
    first = follower(log, state=state)
    first.look()
    assert first.document["log"]["held"] == [str(path)]
    assert first.watch.arrivals.counted == 20
    second = follower(log, state=state)
    if how == "gone":
        second.look()
        assert "is gone" in second.document["log"]["notes"][0]
    else:
        with pytest.raises(LogError, match="rewritten or cut off; 40 rows"):
            second.look()


@pytest.mark.parametrize("how", ["gone", "back", "incomplete"])
def test_a_file_that_got_the_number_of_one_that_is_gone_hides_nothing(log, how):
    """File systems reuse inodes: what is gone is still missed, and known again if it comes back."""
    old, state = log / "a.jsonl", log.parent / "state.json"
    items = rows(0, 20)[: 39 if how == "incomplete" else 40]
    old.write_text(text(items))
    found = follower(log, state=state)
    found.look()
    old.rename(log.parent / "kept")
    (log / "b.jsonl").write_text(text(rows(20, 40)))
    stat = os.stat(log / "b.jsonl")
    found.tail.known[0].device, found.tail.known[0].inode = stat.st_dev, stat.st_ino
    found.look()
    assert found.document["log"]["held"] == [str(old)]
    found = follower(log, state=state)
    if how == "incomplete":
        with pytest.raises(LogError, match="gone while a prompt of it was not complete"):
            found.look()
        return
    if how == "back":
        shutil.copy(log.parent / "kept", log / "a.jsonl.1")
    found.look()
    assert found.watch.arrivals.counted == 40
    note = "is gone" if how == "gone" else "goes on as"
    assert note in found.document["log"]["notes"][0]


def test_without_a_declared_number_a_prompt_is_complete_when_the_next_begins(log):
    """The last prompt waits for the next or the end of the file; a late row is an error."""
    found = follower(log, per_prompt=None)
    path = log / "a.jsonl"
    path.write_text(text([*rows(0, 5), *rows(5, 6)[:1]]))
    found.look()
    assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (5, 1)
    with open(path, "a") as file:
        file.write(text(rows(5, 6)[1:]))
    found.look(final=True)
    assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (6, 0)
    with open(path, "a") as file:
        file.write(text(rows(2, 3)[:1]))
    with pytest.raises(LogError, match=r"a.jsonl: row 13 belongs to a draw that was complete"):
        found.look()


def test_a_row_too_many_is_an_error(log):
    """With K declared, rows beyond K are refused, in the same file or in another."""
    (log / "a.jsonl").write_text(text(rows(0, 5)))
    found = follower(log)
    found.look()
    (log / "b.jsonl").write_text(text(rows(3, 4)))
    with pytest.raises(LogError, match=r"b.jsonl: row 1 .* has its 2 rollouts already"):
        found.look()


def test_a_slow_prompt_holds_up_those_behind_it(log, expected):
    """Prompts count in the order of their first rows, not of their last ones."""
    items = rows(0, 60)
    late = items.pop(1)  # the second rollout of the first prompt comes last of all
    (log / "a.jsonl").write_text(text(items))
    found = follower(log)
    found.look()
    assert found.watch.arrivals.counted == 0
    assert "59 complete prompts wait" in found.document["log"]["waiting_for"]
    with open(log / "a.jsonl", "a") as file:
        file.write(text([late]))
    found.look()
    assert monitor(found) == expected


def test_launch_numbers_give_the_order_whatever_finishes_first(log, expected):
    """Two files with responses as they finish: the same monitors as in the order of launching."""
    items = [{**item, "launch": int(item["prompt_id"][1:])} for item in rows(0, 60)]
    shuffled = [items[i] for i in np.random.default_rng(3).permutation(len(items))]
    (log / "a.jsonl").write_text(text(shuffled[:50]))
    found = follower(log)
    found.look()
    (log / "b.jsonl").write_text(text(shuffled[50:]))
    found.look()
    assert monitor(found) == expected
    assert found.document["log"]["order"] == "launch"


def test_counting_as_responses_finish_is_biased_and_launch_order_is_not():
    """Long responses finish later and earn less: the finished ones miss, those in order do not."""
    from check import assert_misses_at_most, misses_more_than
    from taut.decisions.stopping.monitor import Monitor
    from taut.errors import AssumptionError

    missed = {"finished": 0, "launch": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        length = rng.random(300)
        reward = (rng.random(300) > length).astype(float)
        done = np.arange(300) * 0.002 + length  # 300 at work at once, each as slow as it is long
        for name, order in (("finished", np.argsort(done)), ("launch", np.arange(300))):
            found = Monitor(low=0, high=1)
            try:
                found.update(reward[order][:150])
                ends = found.interval
                missed[name] += not ends.lower <= 0.5 <= ends.upper
            except AssumptionError:
                missed[name] += 1
    assert misses_more_than(missed["finished"], 40, 0.05)
    assert_misses_at_most(missed["launch"], 40, 0.05)


def test_decisions_of_a_watch_are_rarely_wrong():
    """Gold with a control variate, stopped at the first decision: wrong with chance delta/2."""
    from check import assert_misses_at_most
    from taut.decisions.stopping.arrivals import Rows
    from taut.decisions.stopping.watching import Watch

    wrong = {"reached": 0, "impossible": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        gold = (rng.random(180) < 0.5).astype(float)
        reward = 0.2 + 0.5 * gold + rng.integers(0, 4, 180) / 10
        gold[rng.random(180) < 0.6] = np.nan  # blind to outcomes
        keys = np.arange(180, dtype=np.uint64)
        given = Rows(
            stream=0,
            file="a.jsonl",
            first=1,
            key=keys,
            prompt=keys,
            reward=reward,
            cost=np.zeros(180),
            gold=gold,
            launch=None,
            series=["all"] * 180,
            closed=True,
        )
        for decision, threshold in (("reached", 0.501), ("impossible", 0.499)):
            goals = {"require_lower": threshold, "delta": 0.3, "control": 0.4, "unlabelled": 1}
            found = Watch(WatchOptions(reward_range=(0, 1), gold=True, per_prompt=1, **goals))
            found.add(given)
            assert found.blocks > 2
            wrong[decision] += found.decision == decision
    for decision, count in wrong.items():
        assert_misses_at_most(count, 100, 0.15, decision)


def test_policies_are_not_mixed_unless_that_is_asked_for(log):
    """A change of step is refused; --by keeps them apart at shares of delta, average joins them."""
    items = [*rows(0, 30, step=1), *rows(30, 60, step=2)]
    (log / "a.jsonl").write_text(text(items))
    with pytest.raises(LogError, match="row 61 has step 2, earlier ones 1: the policy changes"):
        follower(log).look()
    apart = follower(log, by="step", delta=0.1)
    apart.look()
    series = apart.document["series"]
    assert [(item["value"], item["n"]) for item in series] == [("1", 30), ("2", 30)]
    spent = [item["settings"]["delta"] for item in series]
    assert np.isclose(spent[0] / spent[1], 4) and sum(spent) < 0.1
    joined = follower(log, average=True)
    joined.look()
    assert joined.document["series"][0]["n"] == 60
    assert joined.document["series"][0]["settings"]["means"] == "varying"
    same = follower(log, one_policy=True)
    same.look()
    assert same.document["series"][0]["settings"]["means"] == "equal"


def test_prompts_that_recur_across_steps_make_an_estimate(log):
    """Training epochs: only --held-out keeps the status."""
    (log / "a.jsonl").write_text(text([*rows(0, 9, step=1), *rows(0, 9, step=2)]))
    for held_out, status in ((False, "estimated"), (True, "certified")):
        found = follower(log, by="step", held_out=held_out)
        found.look()
        assert found.document["learned_status"] == status


@pytest.mark.parametrize("settings", [{"one_policy": True}, {"average": True}, {"by": "run"}])
def test_prompts_that_come_again_are_not_new_ones(log, settings):
    """The same prompts at each step are dependent draws: an estimate, also after a restart."""
    state = log.parent / "state.json"
    settings |= {"one_policy": True} if "by" in settings else {}
    first = rows(0, 9, step=1, run="a")
    (log / "a.jsonl").write_text(text([*first, *rows(9, 12, step=2, run="a")]))
    found = follower(log, state=state, held_out=True, **settings)
    found.look()
    assert found.document["learned_status"] == "certified"
    with open(log / "a.jsonl", "a") as file:
        file.write(text(rows(0, 9, step=2, run="a")))
    found = follower(log, state=state, held_out=True, **settings)
    found.look()
    assert found.document["learned_status"] == "estimated"
    assert "count as new ones" in found.document["doubts"][0]
    assert follower(log, state=state, held_out=True, **settings).document == {
        **found.document,
        "log": {**found.document["log"], "files": 0},
    }


def test_files_that_grow_at_once_need_an_order_or_a_word(log):
    """Workers with short responses are ahead: an estimate without launch or --whole-batches."""
    for settings, launch, status in (
        ({}, False, "estimated"),
        ({"whole_batches": True}, False, "certified"),
        ({}, True, "certified"),
    ):
        found = follower(log, **settings)
        for path in log.glob("*"):
            path.unlink()
        for start in (0, 10):
            for name, first in (("a.jsonl", start), ("b.jsonl", 20 + start)):
                items = rows(first, first + 10)
                if launch:
                    items = [{**item, "launch": int(item["prompt_id"][1:])} for item in items]
                with open(log / name, "a") as file:
                    file.write(text(items))
            found.look()
            assert start or found.document["learned_status"] == "certified"
        assert found.document["learned_status"] == status


def test_an_average_over_policies_takes_no_control_variate(log, monkeypatch, capsys):
    """Early labels with late draws would move with r-hat alone; what is averaged is said."""
    with pytest.raises(UsageError, match="policy that has changed meanwhile"):
        WatchOptions(reward_range=(0, 1), gold=True, average=True, control=0.5, unlabelled=2)
    (log / "a.jsonl").write_text(text(rows(0, 20, gold=0.5)))
    options = ("--reward-range", "0", "1", "--gold", "--average", "--once", "--quiet")
    out = run(monkeypatch, capsys, log, *options)[1]
    assert "average true reward over the labelled prompts is" in " ".join(out.split())


def test_a_folder_of_many_files_is_not_read_again_for_each_new_one(log, monkeypatch):
    """What is new is told from what is known by first bytes or rows: reads grow with new files."""
    from taut.engines.tail import Tail

    for i in range(30):
        pq.write_table(pa.Table.from_pylist(rows(i, i + 1)), log / f"s{i:03d}.parquet")
    found = follower(log)
    found.look()
    reads = []
    pieces = Tail._pieces
    monkeypatch.setattr(
        Tail, "_pieces", lambda self, source: reads.append(source.name) or pieces(self, source)
    )
    for i in range(30, 33):
        pq.write_table(pa.Table.from_pylist(rows(i, i + 1)), log / f"s{i:03d}.parquet")
    found.look()
    assert found.watch.arrivals.counted == 33 and len(reads) <= 2 * 3


def test_gold_blocks_are_labelled_draws_with_their_unlabelled_ones(log):
    """Without a control only labelled prompts count; with one, groups form in order."""
    items = [
        {**item, "gold": 1 - item["reward"] if int(item["prompt_id"][1:]) % 3 == 0 else None}
        for item in rows(0, 30)
    ]
    (log / "a.jsonl").write_text(text(items))
    reward = np.array([item["reward"] for item in items]).reshape(-1, K).mean(1)
    plain = follower(log, gold=True)
    plain.look()
    assert plain.document["status"] == "certified"
    only = plain.document["series"][0]
    assert only["n"] == 10 and np.isclose(only["mean"], (1 - reward[::3]).mean(), atol=1e-6)
    joint = follower(log, gold=True, control=0.5, unlabelled=2)
    joint.look()
    found = joint.document["series"][0]
    own, others = reward[::3], reward.reshape(-1, 3)[:, 1:]
    blocks = 1 - own - 0.5 * own + 0.5 * (own + others.sum(1)) / 3
    assert found["n"] == 10 and np.isclose(found["mean"], blocks.mean(), atol=1e-6)
    assert (found["settings"]["low"], found["settings"]["high"]) == (-0.5, 1.5)
    learned = follower(log)
    learned.look()
    assert learned.document["status"] == "vacuous" and learned.document["series"][0]["n"] == 30


def test_the_clipped_target_needs_its_threshold_beforehand(log):
    """beta and tau are declared; blocks are r - beta clip(l), within their known range."""
    (log / "a.jsonl").write_text(text(rows(0, 20, log_ratio=9.0)))
    found = follower(log, target="clipped", beta=0.1, tau=2.0, tau_negative=1.0)
    found.look()
    item = found.document["series"][0]
    reward = np.mean([row["reward"] for row in rows(0, 20)])
    assert np.isclose(item["mean"], reward - 0.2, atol=1e-6)
    assert np.allclose((item["settings"]["low"], item["settings"]["high"]), (-0.2, 1.1))
    with pytest.raises(UsageError, match="needs tau"):
        WatchOptions(reward_range=(0, 1), target="clipped", beta=0.1)
    with pytest.raises(LogError, match="needs log-probs"):
        (log / "a.jsonl").write_text(text(rows(0, 20)))
        follower(log, target="clipped", beta=0.1, tau=2.0).look()


def test_a_state_belongs_to_what_was_asked_for(log):
    """Other goals, maps or files with an old state are refused; a broken state is named."""
    state = log.parent / "state.json"
    (log / "a.jsonl").write_text(text(rows(0, 9)))
    follower(log, state=state, width=0.1).look()
    with pytest.raises(UsageError, match=r"made with width = 0.1, now it is 0.2"):
        follower(log, state=state, width=0.2)
    with pytest.raises(UsageError, match="made with --map"):
        follower(log, state=state, width=0.1, mapping={"reward": "score"})
    with pytest.raises(UsageError, match="made with files"):
        follower(log / "a.jsonl", state=state, width=0.1)
    state.write_text("{")
    with pytest.raises(UsageError, match="expected a state of taut watch"):
        follower(log, state=state)


def test_a_bad_row_is_named_by_its_line_and_nothing_is_kept(log):
    """The message counts lines from the start of the file; the state stays that of before."""
    state = log.parent / "state.json"
    (log / "a.jsonl").write_text(text(rows(0, 5)))
    follower(log, state=state).look()
    before = state.read_bytes()
    with open(log / "a.jsonl", "a") as file:
        file.write(text(rows(5, 6)) + '{"prompt_id": "p6", "reward": "high"}\n')
    with pytest.raises(LogError, match=r"a.jsonl:13: 'reward' is the text"):
        follower(log, state=state).look()
    assert state.read_bytes() == before


# --- the command line -----------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments):
    """Run the command line in this process: status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["taut", "watch", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


COMMON = ("--reward-range", "0", "1", "--learned", "--rollouts-per-prompt", K)


@pytest.mark.parametrize(
    "goal, status, words",
    [
        (("--width", "0.9"), 0, "Reached"),
        (("--width", "0.01"), 4, "Not decided yet"),
        (("--require-lower", "0.99"), 3, "Cannot be reached"),
        (("--width", "0.01", "--most-prompts", "60"), 3, "Cannot be reached"),
        ((), 0, "The learned reward is"),
    ],
)
def test_exit_statuses(log, monkeypatch, capsys, goal, status, words):
    """0 reached or nothing asked for, 3 surely impossible, 4 stopped looking before either."""
    (log / "a.jsonl").write_text(text(rows(0, 60)))
    found, out, err = run(monkeypatch, capsys, log, *COMMON, "--once", *goal)
    assert found == status, err
    assert words in out and "vacuous" in out
    assert err.count("\n") == 1 and "block" in err


def test_json_plot_and_timeouts(log, monkeypatch, capsys):
    """--json and --plot write whole files next to the log, which they are no part of."""
    (log / "a.jsonl").write_text(text(rows(0, 60)))
    arguments = (log, *COMMON, "--width", "0.01", "--interval", "0.01", "--quiet")
    out_file, picture = log / "watch.json", log / "path.svg"
    more = ("--json", out_file, "--plot", picture, "--state", log / "state.json")
    begun = time.monotonic()
    assert run(monkeypatch, capsys, *arguments, "--timeout", "0.2", *more)[0] == 4
    assert run(monkeypatch, capsys, *arguments, "--idle", "0.1", *more)[::2] == (4, "")
    assert time.monotonic() - begun < 30
    document = json.loads(out_file.read_text())
    assert document["schema"] == "taut.watch/1" and document["log"]["files"] == 1
    assert picture.read_text().startswith("<?xml")
    for path in log.glob("*.json"):
        path.unlink()
    out = run(monkeypatch, capsys, *arguments, "--once", "--json", "-")[1]
    assert json.loads(out)["series"] == document["series"]


def test_usage_errors_say_what_to_do(log, monkeypatch, capsys):
    """Which reward is meant must be said; a picture needs a known ending."""
    base = (log, "--reward-range", "0", "1", "--once")
    for more, words in (
        ((), "--gold"),
        (("--gold", "--learned"), "--gold"),
        (("--learned", "--plot", "x.txt"), ".png"),
        (("--learned", "--control", "0.5"), "control variate needs gold"),
        (("--learned", "--average", "--by", "step"), "say one"),
        (("--learned", "--target", "clipped"), "needs beta"),
    ):
        status, _, err = run(monkeypatch, capsys, *base, *more)
        assert status == 2 and words in err and "Traceback" not in err


def test_a_goal_that_is_only_an_estimate_fails_the_gate(log, monkeypatch, capsys):
    """Reached, but on prompts that recur across steps: exit 3."""
    (log / "a.jsonl").write_text(text([*rows(0, 30, step=1), *rows(0, 30, step=2)]))
    arguments = (*COMMON, "--by", "step", "--once", "--width", "0.9")
    status, out, err = run(monkeypatch, capsys, log, *arguments)
    assert status == 3 and "only estimated" in err and "recur" in out
    assert run(monkeypatch, capsys, log, *arguments, "--held-out")[0] == 0


def test_two_watchers_of_one_state_do_not_overwrite_each_other(log, monkeypatch, capsys):
    """The second is told so; when the first has ended, however it did, there is no lock left."""
    from taut.engines.follow import only_watcher

    (log / "a.jsonl").write_text(text(rows(0, 9)))
    state = log.parent / "state.json"
    arguments = (log, *COMMON, "--once", "--width", "0.01", "--state", state)
    half = log.parent / f".{state.name}.0123.part"
    half.write_text("{")
    with only_watcher(str(state)):
        assert not half.exists()  # left by a killed one
        status, _, err = run(monkeypatch, capsys, *arguments)
        assert status == 2 and "another taut watch keeps its state here" in err
        assert not state.exists()
    assert run(monkeypatch, capsys, *arguments)[0] == 4
    status, _, err = run(monkeypatch, capsys, *arguments[:-1], log / "none" / "state.json")
    assert status == 2 and "folder that can be written" in err


def test_a_killed_write_is_not_in_the_way_of_the_next(tmp_path):
    """In a container each start has the same process id: what one left must not stop the next."""
    from taut.logs.write import whole_file

    (tmp_path / f".state.json.{os.getpid()}.part").write_text("half")
    with whole_file(str(tmp_path / "state.json")) as file:
        file.write(b"whole")
    assert (tmp_path / "state.json").read_bytes() == b"whole"


def test_nothing_to_draw_or_to_read_is_said_and_is_no_wrong_request(log, monkeypatch, capsys):
    """An empty folder with --plot: not decided, status 4, and both are said."""
    status, _, err = run(
        monkeypatch, capsys, log, *COMMON, "--once", "--width", "0.1", "--plot", log / "a.png"
    )
    assert status == 4 and "nothing to draw" in err and "no file of the log so far" in err


WRITER = """
import os, sys, time
path, text = sys.argv[1], open(sys.argv[2]).read()
middle = text.index("\\n", len(text) // 2) + 1  # a logger rotates between lines
for part in (text[:middle], text[middle:]):
    if os.path.exists(path):
        os.rename(path, path + ".1")
    for start in range(0, len(part), 37):
        with open(path, "a") as file:
            file.write(part[start : start + 37])
        time.sleep(0.003)
"""


def test_a_watcher_killed_at_any_moment_loses_and_repeats_nothing(log, expected):
    """With a writer at work, lines half written, rotation and kill -9: as an unbroken run."""
    source, state = log.parent / "all.jsonl", log.parent / "state.json"
    source.write_text(text(rows(0, 60)))
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log / "a.jsonl"), str(source)])
    watcher = (
        "import sys; from taut.decisions.watching import WatchOptions as O; "
        "from taut.engines.follow import Follower as F\n"
        f"f = F([{str(log)!r}], O(reward_range=(0.0, 1.0), per_prompt={K}), state={str(state)!r})\n"
        "print('ready', flush=True)\n"
        "while True: f.look()"
    )
    killed = 0
    while writer.poll() is None and killed < 3:
        process = subprocess.Popen([sys.executable, "-c", watcher], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        killed += 1
    assert writer.wait(60) == 0 and killed
    found = follower(log, state=state)
    found.look()
    assert found.watch.arrivals.counted == 60
    assert monitor(found) == expected

"""A growing log: every row once, none twice, whatever happens to its files; and the CLI."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taut import cli
from taut.decisions.stopping.options import WatchOptions
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


DECLARED = {"declare": "held-out,complete,random-labels", "whole_batches": True}


def follower(folder, *, state=None, mapping=None, **settings):
    given = {"reward_range": (0.0, 1.0), "per_prompt": K, **DECLARED, **settings}
    options = WatchOptions(**given)
    return Follower([str(folder)], options, state=state and str(state), mapping=mapping)


def stands(found, name, how):
    """Check how an assumption stands, and return who says so."""
    item = next(item for item in found.document["assumptions"] if item["name"] == name)
    assert item["stands"] == how, item
    return item["by"]


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


@pytest.mark.parametrize("how", ["lines", "parquet", "gzip", "zstd"])
def test_a_file_that_has_more_counts_its_new_rows(log, expected, how):
    """Replaced by a longer one, also a closed one: what is new counts, to the last prompt."""
    path = log / f"a.{'parquet' if how == 'parquet' else 'jsonl'}"
    state = log.parent / "state.json"
    for last in (20, 20, 45, 60):
        new = log / "a.tmp"
        if how == "parquet":
            pq.write_table(pa.Table.from_pylist(rows(0, last)), new, row_group_size=7)
        elif how == "zstd":
            with pa.CompressedOutputStream(str(new), "zstd") as file:
                file.write(text(rows(0, last)).encode())
        else:
            data = text(rows(0, last)).encode()
            new.write_bytes(gzip.compress(data) if how == "gzip" else data)
        new.replace(path)
        found = follower(log, state=state, per_prompt=None)
        found.look()
        found.look(final=how == "lines")
        assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (last, 0)
    assert monitor(found) == expected


def test_links_lead_to_each_file_once(log, expected):
    """Linked folders, also in a circle, linked files and hard links: every row once."""
    inner, other = log / "inner", log.parent / "other"
    inner.mkdir()
    other.mkdir()
    (inner / "a.jsonl").write_text(text(rows(0, 20)))
    (other / "b.jsonl").write_text(text(rows(20, 60)))
    (log / "again").symlink_to(inner)
    (log / "linked").symlink_to(other)
    (other / "back").symlink_to(log)
    (inner / "c.jsonl").symlink_to(other / "b.jsonl")
    os.link(inner / "a.jsonl", other / "a_hard.jsonl")
    found = follower(log)
    found.look()
    found.look(final=True)
    assert found.document["log"]["files"] == 2
    assert monitor(found) == expected


def test_pipes_and_devices_are_named_and_left_alone(log, expected):
    """In a folder they are noted, given by name they are refused; nothing hangs."""
    os.mkfifo(log / "pipe.jsonl")
    (log / "null.jsonl").symlink_to("/dev/null")
    (log / "a.jsonl").write_text(text(rows(0, 60)))
    found = follower(log)
    found.look()
    found.look(final=True)
    assert monitor(found) == expected
    notes = " ".join(found.document["log"]["notes"])
    assert "pipe.jsonl, which is a named pipe" in notes and "null.jsonl, which is a device" in notes
    with pytest.raises(LogError, match=r"pipe.jsonl: expected a file .* found a pipe; write"):
        follower(log / "pipe.jsonl").look()


def test_a_rename_between_stat_and_open_binds_no_offset_to_other_bytes(log, monkeypatch):
    """Two files change names at the worst moment: nothing is read of them; then it is an error."""
    names = log / "a.jsonl", log / "b.jsonl"
    for name, first in zip(names, (0, 30), strict=True):
        name.write_text(text(rows(first, first + 20)))
    found = follower(log)
    found.look()
    for name, first in zip(names, (20, 50), strict=True):
        with open(name, "a") as file:
            file.write(text(rows(first, first + 10)))
    plain = os.open

    def swapped(path, *more):
        monkeypatch.setattr(os, "open", plain)
        names[0].rename(log / "c")
        names[1].rename(names[0])
        (log / "c").rename(names[1])
        return plain(path, *more)

    monkeypatch.setattr(os, "open", swapped)
    found.look()
    assert found.document["log"]["incomplete"] == [str(name) for name in names]
    assert found.watch.arrivals.rows == 80
    with pytest.raises(LogError, match="rewritten or cut off; 40 rows"):
        found.look()


def test_a_file_that_is_renamed_while_it_is_looked_for_is_not_read_twice(log, monkeypatch):
    """Rows of draws that wait for others would be taken for those others."""
    names = log / "a.jsonl", log / "b.jsonl"
    names[1].write_text(text(rows(0, 20)[::2]))
    found = follower(log)
    found.look()
    names[0].write_text(text(rows(30, 31)))
    plain = os.open

    def renamed(path, *more):
        monkeypatch.setattr(os, "open", plain)
        names[1].rename(names[0])
        return plain(path, *more)

    monkeypatch.setattr(os, "open", renamed)
    found.look()
    assert (found.watch.arrivals.rows, found.watch.arrivals.pending) == (20, 20)
    with pytest.raises(LogError, match=r"b.jsonl: the file is gone while a prompt of it was not"):
        found.look()


def test_lines_end_at_newlines_alone(log):
    """U+2028, U+0085 and the like stand in texts; a BOM, \\r\\n and blank lines are no rows."""
    ids = ["a\u2028b", "a\u2029b", "a\x85b", "a\x7fb", "plain", "last"]
    lines = [json.dumps({"prompt_id": name, "reward": 0.5}, ensure_ascii=False) for name in ids]
    path = log / "a.jsonl"
    path.write_bytes("\ufeff".encode() + "\r\n".join([*lines[:4], ""]).encode())
    found = follower(log, per_prompt=1)
    found.look()
    assert found.watch.arrivals.counted == 4
    for more in (b"\n" * 100, lines[4].encode() + b"\n", b" \n\r\n", lines[5].encode()):
        with open(path, "ab") as file:
            file.write(more)
        found.look(final=more == lines[5].encode())
    assert found.watch.arrivals.counted == 6
    assert found.tail.known[str(path)].lines == 4 + 100 + 1 + 2


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


@pytest.mark.parametrize("how", ["shorter", "other", "copy", "renamed"])
def test_rows_that_were_counted_cannot_be_taken_back(log, how):
    """A file cut off, rewritten, copied or renamed is an error; the state stays that of before."""
    path, state = log / "a.jsonl", log.parent / "state.json"
    path.write_text(text(rows(0, 20)))
    follower(log, state=state).look()
    before = state.read_bytes()
    words = "rewritten or cut off; 40 rows"
    if how in ("copy", "renamed"):
        words = "b.jsonl: row 1 .* if the row is a copy, take the copy away"
        (shutil.copy if how == "copy" else os.rename)(path, log / "b.jsonl")
    else:
        path.write_text(text(rows(0, 10) if how == "shorter" else rows(50, 90)))
    for _ in range(2):
        with pytest.raises(LogError, match=words):
            follower(log, state=state).look()
    assert state.read_bytes() == before


@pytest.mark.parametrize("how", ["lines", "parquet", "pending"])
def test_a_file_that_is_gone_is_said(log, how):
    """Whole files may go; of one that could still grow rows may be lost; none while it waits."""
    path, state = log / f"a.{'parquet' if how == 'parquet' else 'jsonl'}", log.parent / "s.json"
    items = rows(0, 20)[: 39 if how == "pending" else 40]
    if how == "parquet":
        pq.write_table(pa.Table.from_pylist(items), path)
    else:
        path.write_text(text(items))
    follower(log, state=state).look()
    path.rename(log.parent / "kept")
    (log / "b.jsonl").write_text(text(rows(20, 40)))
    found = follower(log, state=state)
    # A file system gives the number of a file that is gone to the next one.
    stat = os.stat(log / "b.jsonl")
    found.tail.known[str(path)].mark[:2] = [stat.st_dev, stat.st_ino]
    if how == "pending":
        with pytest.raises(LogError, match="gone while a prompt of it was not complete"):
            found.look()
        return
    for _ in range(2):
        found.look()
        assert "is gone; 40 rows" in found.document["log"]["notes"][0]
        status = "estimated" if how == "lines" else "certified"
        assert found.document["learned_status"] == status
        found = follower(log, state=state)
    (log.parent / "kept").rename(path)
    found.look()
    assert found.watch.arrivals.counted == 40 and found.document["learned_status"] == "certified"


@pytest.mark.parametrize("how", ["later file", "same file", "rewritten", "in place", "parquet"])
def test_labels_that_come_late_stop_the_watch(log, how):
    """A draw that was counted without its label is not relabelled, and no label is lost unsaid."""
    path, state = log / f"a.{'parquet' if how == 'parquet' else 'jsonl'}", log.parent / "s.json"

    def write(items):
        if how == "parquet":
            pq.write_table(pa.Table.from_pylist(items), path)
        else:
            path.write_text(text(items))

    # Long enough that what is rewritten in place lies before the bytes that each look compares.
    items = [{**item, "gold": item["reward"]} for item in rows(0, 400)]
    items[10]["gold"] = items[11]["gold"] = None
    write(items)
    settings = {"gold": True, "state": state}
    found = follower(log, **settings)
    found.look()
    assert found.document["log"]["labelled_prompts"] == 399
    items[10]["gold"] = items[11]["gold"] = 0.55  # as many characters as null
    words = "nor labels be added"
    if how.endswith("file"):
        with open(log / "b.jsonl" if how == "later file" else path, "a") as file:
            file.write(text(items[10:12]))
        words = "has a label for a draw that was counted before"
    else:
        write(items)
        if how == "in place":
            with open(path, "a") as file:
                file.write(text([{**item, "gold": None} for item in rows(400, 401)]))
            follower(log, **settings).look()  # it grew: the last bytes are compared
    with pytest.raises(LogError, match=words):
        follower(log, **settings).look(final=how == "in place")


def test_a_decision_rests_on_what_the_files_still_hold(log):
    """A label rewritten far before the end is found when the goal is reached."""
    path = log / "a.jsonl"
    items = rows(0, 150)
    path.write_text(text(items))
    found = follower(log, width=0.12)
    found.look()
    assert found.watch.decision == "continue"
    items[3]["reward"] = items[4]["reward"]
    path.write_text(text(items))
    assert os.path.getsize(path) == found.tail.known[str(path)].offset
    with open(path, "a") as file:
        file.write(text(rows(150, 600)))
    with pytest.raises(LogError, match="rewritten"):
        found.look()


def test_a_finished_log_leaves_nothing_waiting(log):
    """Short prompts, the last line, labels without partners count; what is missing is said."""
    items = [{**item, "gold": item["reward"]} for item in rows(0, 20)]
    short = items.pop(5)
    (log / "a.jsonl").write_text(text(items)[:-1])
    settings = {"gold": True, "control": 0.5, "unlabelled": 2, "declare": "held-out,random-labels"}
    found = follower(log, **settings)
    found.look()
    assert (found.watch.arrivals.counted, found.watch.blocks) == (2, 0)
    assert (found.document["status"], found.document["learned_status"]) == ("vacuous", "vacuous")
    assert found.document["series"][0]["interval"]["status"] == "vacuous"
    found.look(final=True)
    log_facts = found.document["log"]
    assert (log_facts["prompts"], log_facts["pending_prompts"], found.watch.blocks) == (20, 0, 20)
    assert found.document["status"] == "estimated"
    assert found.document["series"][0]["interval"]["status"] == "estimated"
    assert "1 prompts had fewer than 2 rollouts" in stands(found, "complete", "violated")
    with open(log / "a.jsonl", "a") as file:
        file.write("\n" + text([short]))
    with pytest.raises(LogError, match="counted before"):
        found.look()


def test_the_last_prompts_of_several_finished_files_count(log):
    """Without K the last prompt of each file waits for the end of the log, which is no doubt."""
    for number in range(3):
        (log / f"s{number}.jsonl").write_text(text(rows(10 * number, 10 * number + 10)))
        found = follower(log, per_prompt=None, state=log.parent / "state.json")
        found.look()
        assert found.watch.arrivals.counted == 9 * (number + 1)
    found.look(final=True)
    assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (30, 0)
    assert found.document["learned_status"] == "certified"


def test_launches_that_never_came_are_said_when_the_log_is_finished(log):
    """Draws behind a gap wait; a finished log counts them in order, as an estimate."""
    items = [{**item, "launch": int(item["prompt_id"][1:])} for item in rows(0, 20)]
    (log / "a.jsonl").write_text(text([*items[20:], *items[:10], *items[14:20]]))
    found = follower(log, declare="held-out")
    found.look()
    assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (5, 13)
    found.look(final=True)
    assert (found.watch.arrivals.counted, found.watch.arrivals.pending) == (18, 0)
    assert "2 launch numbers had not come" in stands(found, "complete", "violated")
    assert found.document["learned_status"] == "estimated"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "b.jsonl"])
def test_half_a_file_of_a_finished_log_is_an_error(log, name):
    """While the log is written it waits, and is named."""
    (log / "a.jsonl").write_text(text(rows(30, 60)))
    whole = log.parent / "whole"
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows(0, 30)), whole)
    elif name.endswith("zst"):
        with pa.CompressedOutputStream(str(whole), "zstd") as file:
            file.write(text(rows(0, 30)).encode())
    else:
        data = text(rows(0, 30)).encode()
        whole.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (log / name).write_bytes(whole.read_bytes()[: -9 if name != "b.jsonl" else -5])
    found = follower(log)
    found.look()
    if name != "b.jsonl":
        assert found.document["log"]["incomplete"] == [str(log / name)]
    with pytest.raises(LogError, match=f"{name}:.* expected .*whole"):
        found.look(final=True)


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
        found = follower(log, by="step", declare=["complete", *["held-out"] * held_out])
        found.look()
        assert found.document["learned_status"] == status


@pytest.mark.parametrize("settings", [{"one_policy": True}, {"average": True}, {"by": "run"}])
def test_each_prompt_counts_once_in_its_series(log, settings):
    """The same prompts at later steps are no new draws of prompts: the first counts, as is said."""
    state = log.parent / "state.json"
    settings |= {"one_policy": True} if "by" in settings else {}
    first = rows(0, 9, step=1, run="a")
    (log / "a.jsonl").write_text(text([*first, *rows(9, 12, step=2, run="a")]))
    found = follower(log, state=state, **settings)
    found.look()
    before = monitor(found)
    with open(log / "a.jsonl", "a") as file:
        file.write(text(rows(0, 9, step=2, run="a")))
    found = follower(log, state=state, **settings)
    found.look()
    assert monitor(found) == before
    assert found.document["learned_status"] == "certified"
    assert (found.document["log"]["prompts"], found.document["log"]["revisits"]) == (12, 9)
    again = follower(log, state=state, **settings).document
    assert again == {**found.document, "log": {**found.document["log"], "files": 0}}


@pytest.mark.parametrize("settings", [{"by": "policy"}, {"by": "run"}, {"average": True}])
@pytest.mark.parametrize("per_prompt", [None, 2])
def test_no_draw_mixes_two_policies(log, settings, per_prompt):
    """Rows of two policies stand side by side: each counts in its own series."""
    items = [
        {"prompt_id": f"p{i}", "reward": {"A": 0.9, "B": 0.1}[name], "policy": name, "run": name}
        for i in range(30)
        for name in ("A", "A", "B", "B")
    ]
    if per_prompt:
        items = [items[i] for i in np.random.default_rng(1).permutation(len(items))]
    (log / "a.jsonl").write_text(text(items))
    found = follower(log, per_prompt=per_prompt, **settings)
    found.look(final=True)
    series = {item["value"]: item for item in found.document["series"]}
    if "by" in settings:
        assert {name: (item["n"], round(item["mean"], 5)) for name, item in series.items()} == {
            "A": (30, 0.9),
            "B": (30, 0.1),
        }
    else:
        assert (series[None]["n"], found.document["log"]["revisits"]) == (30, 30)
        # Rewards between two points of the grid: two for each value that a block had.
        assert len(monitor(found)[0][1]["cells"]) <= 4


def test_files_that_grow_at_once_need_an_order_or_a_word(log):
    """Workers with short responses are ahead: an estimate without launch or --whole-batches."""
    for settings, launch, status in (
        ({"whole_batches": False}, False, "estimated"),
        ({}, False, "certified"),
        ({"whole_batches": False}, True, "certified"),
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
            first = "conditional" if status == "estimated" else "certified"
            assert start or found.document["learned_status"] == first
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


def test_a_damaged_state_is_refused(log):
    """Any byte of it changed, cut off, of an earlier form, or no state: an error, no number."""
    state = log.parent / "state.json"
    (log / "a.jsonl").write_text(text(rows(0, 9)))
    follower(log, state=state).look()
    whole = state.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"\xff\x00", b"[" * 100_000, b"[]", b"3", b'{"schema": "taut.watch-state/1"}']
    damaged += [whole[:cut] for cut in rng.integers(1, len(whole) - 1, 20)]
    for at, bit in zip(rng.integers(0, len(whole), 300), rng.integers(0, 8, 300), strict=True):
        damaged.append(bytearray(whole))
        damaged[-1][at] ^= 1 << bit
    for data in damaged:
        state.write_bytes(data)
        with pytest.raises(UsageError, match=r"expected a state of taut watch .*; take the file"):
            follower(log, state=state)
    state.write_bytes(whole)
    assert follower(log, state=state).watch.arrivals.counted == 9


def test_what_is_written_never_replaces_the_log(log, monkeypatch, capsys):
    """A state, a document or a picture at a file of the log, by any path, is refused."""
    path, twin = log / "a.jsonl", log.parent / "twin.jsonl"
    path.write_text(text(rows(0, 9)))
    before = path.read_bytes()
    twin.symlink_to(path)
    for source in (path, log, log / "*.jsonl"):
        for option in ("--json", "--state"):
            for name in (path, twin, log / ".." / "log" / "a.jsonl"):
                status, _, err = run(monkeypatch, capsys, source, *COMMON, "--once", option, name)
                assert status in (1, 2) and "expected a" in err and path.read_bytes() == before
    for _ in range(2):  # one's own document may be written again
        assert run(monkeypatch, capsys, log, *COMMON, "--once", "--json", log / "w.json")[0] == 0


def test_unlabelled_draws_that_are_left_join_the_labelled_ones(log):
    """A finished log: what waits for partners counts with those that there are, in order."""
    items = [{**item, "gold": 1 - item["reward"]} for item in rows(0, 9)]
    items[0]["gold"] = items[1]["gold"] = items[2]["gold"] = items[3]["gold"] = None
    (log / "a.jsonl").write_text(text(items))
    found = follower(log, gold=True, control=0.5, unlabelled=3)
    found.look()
    assert found.watch.blocks == 0
    found.look(final=True)
    reward = np.array([item["reward"] for item in items]).reshape(-1, K).mean(1)
    blocks = 1 - reward[2:]
    blocks[0] += 0.5 * (reward[:3].mean() - reward[2])
    item = found.document["series"][0]
    assert item["n"] == 7 and found.document["status"] == "certified"
    assert np.isclose(item["mean"], blocks.mean(), atol=1e-6)


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
        (("--require-lower", "0.99", "--target", "reward"), 3, "Cannot be reached"),
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
    assert document["schema"] == "taut.watch/2" and document["log"]["files"] == 1
    assert picture.read_text().startswith("<svg")
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
        (("--learned", "--require-lower", "0.5"), "explicit --target"),
        (("--learned", "--prompts", "list"), "audit it when it is"),
        (("--learned", "--declare", "all"), "expected any of held-out"),
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


# One process imports taut once and starts watchers, each of which it kills at a random moment.
KILLER = """
import os, random, signal, sys, time
from taut.decisions.stopping.options import WatchOptions
from taut.engines.follow import Follower
folder, state, done = sys.argv[1:4]
random.seed(5)
killed = 0
while killed < 12 or not os.path.exists(done):
    child = os.fork()
    if not child:
        try:
            found = Follower([folder], WatchOptions(reward_range=(0, 1), per_prompt=2), state=state)
            while True:
                found.look()
        finally:
            os._exit(7)
    time.sleep(random.uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the watcher ended by itself"
    killed += 1
print(killed, flush=True)
"""


def test_a_watcher_killed_at_any_moment_loses_and_repeats_nothing(log, expected):
    """A writer at work, half lines, new files, at least twelve kill -9: as an unbroken run."""
    state, done = log.parent / "state.json", log.parent / "done"
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER, str(log), str(state), str(done)], stdout=subprocess.PIPE
    )
    for number, first in enumerate(range(0, 60, 20)):
        lines = text(rows(first, first + 15))
        for start in range(0, len(lines), 37):
            with open(log / f"s{2 * number}.jsonl", "a") as file:
                file.write(lines[start : start + 37])
            time.sleep(0.02)
        table = pa.Table.from_pylist(rows(first + 15, first + 20))
        pq.write_table(table, log / "made.tmp")
        (log / "made.tmp").rename(log / f"s{2 * number + 1}.parquet")
    done.write_text("")
    out, _ = killer.communicate(timeout=60)
    assert killer.returncode == 0 and int(out) >= 12
    found = follower(log, state=state)
    found.look()
    assert found.watch.arrivals.counted == 60
    assert monitor(found) == expected
    alone = follower(log)
    alone.look()
    assert found.watch.state == {**alone.watch.state, "streams": found.watch.state["streams"]}

"""Labels come back to their rows, or the message says which do not; certificates then hold."""

import csv
import io

import numpy as np
import orjson
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut.draws.rollouts import Rollouts
from taut.errors import LogError
from taut.labels.annotators import by_annotator
from taut.labels.answers import read_answers
from taut.labels.draw import Population, draw
from taut.labels.merge import join, word_keys
from taut.labels.sheet import Item, Sheet
from taut.logs.keys import hash_ids


class Log:
    """Ten prompts by three rollouts, or as many as asked for, with ids and words."""

    def __init__(self, prompts=10, each=3):
        self.names = [f"r{i}" for i in range(prompts * each)]
        self.prompts = [f"prompt {i // each}" for i in range(prompts * each)]
        self.responses = [f"answer {i}" for i in range(prompts * each)]
        self.population = Population(rollout=hash_ids(self.names), draw=hash_ids(self.prompts))

    def sheet(self, n, **settings) -> Sheet:
        design, drawn = draw(self.population, n, **settings)
        items = [
            Item(
                rollout_id=self.names[row],
                label_probability=chance,
                unit=unit,
                prompt=self.prompts[row],
                response=self.responses[row],
            )
            for row, unit, chance in zip(
                drawn.rows.tolist(), drawn.unit.tolist(), drawn.chance.tolist(), strict=True
            )
        ]
        return Sheet(design=design, items=tuple(items))

    def join(self, found, **settings):
        return join(found, self.population, names=self.names, **settings)


def write(path, sheet, answer, *, head=True):
    """Answer the items of a sheet: `answer(place, item)` gives the row's further fields."""
    rows = sheet.to_jsonl().splitlines()
    rows = [orjson.loads(row) for row in rows]
    for at, item in enumerate(sheet.items):
        rows[1 + at] |= answer(at, item)
    rows = rows if head else rows[1:]
    path.write_bytes(b"".join(orjson.dumps(r, option=orjson.OPT_APPEND_NEWLINE) for r in rows))
    return read_answers([path])


def test_labels_reach_their_rows(tmp_path):
    """Each label stands at its rollout, nothing elsewhere, and the sheet is complete."""
    log = Log()
    sheet = log.sheet(6)
    joined = log.join(write(tmp_path / "l.jsonl", sheet, lambda at, item: {"label": at / 10}))
    for at, item in enumerate(sheet.items):
        assert joined.gold[log.names.index(item.rollout_id)] == at / 10
    assert np.isfinite(joined.gold).sum() == 6
    assert joined.returned.complete
    assert joined.design == sheet.design
    assert [log.names[row] for row in joined.rows] == [item.rollout_id for item in sheet.items]


def test_of_a_sheet_in_part_the_prefix_counts(tmp_path):
    """Units before the first gap are a random sample; skipped and open rows are listed."""
    log = Log(30)
    sheet = log.sheet(8)

    def answer(at, item):
        return {"label": 1} if at not in (3, 5) else {"skipped": "unclear"} if at == 3 else {}

    returned = log.join(write(tmp_path / "l.jsonl", sheet, answer)).returned
    assert (returned.drawn, returned.labelled, returned.skipped, returned.open) == (8, 6, 1, 1)
    assert (returned.prefix, returned.units, returned.complete) == (3, 8, False)
    assert returned.missing == (sheet.items[3].rollout_id, sheet.items[5].rollout_id)


def test_rows_left_out_of_the_file_are_missed(tmp_path):
    """Who drops skipped rows from the file hides nothing: the draw is made again."""
    log = Log(30)
    sheet = log.sheet(8)
    write(tmp_path / "l.jsonl", sheet, lambda at, item: {"label": 1})
    lines = (tmp_path / "l.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "l.jsonl").write_bytes(b"".join(lines[:3] + lines[5:]))
    returned = log.join(read_answers([tmp_path / "l.jsonl"])).returned
    assert (returned.drawn, returned.labelled, returned.prefix) == (8, 6, 2)


def test_two_sheets_of_one_order_join(tmp_path):
    """A sheet and the one behind it are one sample."""
    log = Log(40)
    first = log.sheet(5, most=20)
    second = log.sheet(4, former=first.design)
    for name, sheet in (("a", first), ("b", second)):
        write(tmp_path / f"{name}.jsonl", sheet, lambda at, item: {"label": 1})
    joined = log.join(read_answers([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]))
    assert joined.returned.complete and joined.returned.drawn == 9
    only = log.join(read_answers([tmp_path / "b.jsonl"])).returned
    assert (only.drawn, only.labelled, only.prefix) == (9, 4, 0)


def test_words_stand_for_ids(tmp_path):
    """Labels without ids are joined by prompt and response; equal ones are an error."""
    log = Log()
    rows = [{"prompt": "prompt 2", "response": "answer 7", "label": "yes"}]
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps(rows[0]))
    found = read_answers([tmp_path / "l.jsonl"])
    joined = log.join(found, words=word_keys(log.prompts, log.responses))
    assert np.flatnonzero(joined.gold == 1).tolist() == [7]
    assert joined.design is None
    with pytest.raises(LogError, match="several rollouts of the log have this prompt"):
        log.join(found, words=word_keys(log.prompts, ["answer 7"] * 30))


@pytest.mark.parametrize(
    ("joining", "value"), [("mean", 2 / 3), ("majority", 1.0), ("one", {0.0, 1.0})]
)
def test_several_annotators_become_one(tmp_path, joining, value):
    """Mean, majority, or the label of one whom a hash chooses."""
    log = Log()
    sheet = log.sheet(6)
    paths = []
    for who, label in (("a", 1), ("b", 1), ("c", 0)):
        paths.append(tmp_path / f"{who}.jsonl")
        write(paths[-1], sheet, lambda at, item, w=who, v=label: {"label": v, "annotator": w})
    joined = log.join(read_answers(paths), joining=joining)
    gold = joined.gold[joined.rows]
    assert set(gold) == value if isinstance(value, set) else np.allclose(gold, value)
    assert joined.returned.annotators == ("a", "b", "c")
    assert (joined.returned.joining, joined.returned.several) == (joining, 6)
    table, names = by_annotator(read_answers(paths), low=0, high=1)
    assert table.shape == (6, 3) and names == ["a", "b", "c"]


def test_ties_of_a_majority_are_the_mean(tmp_path):
    """Two who disagree are neither right."""
    log = Log()
    sheet = log.sheet(2)
    for who, label in (("a", 1), ("b", 0)):
        write(
            tmp_path / f"{who}.jsonl",
            sheet,
            lambda at, item, w=who, v=label: {"label": v, "annotator": w},
        )
    found = read_answers([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert set(log.join(found, joining="majority").gold[log.join(found).rows]) == {0.5}


# --- What does not fit is an error that names it --------------------------------------------------


def test_unknown_ids_are_named(tmp_path):
    """Labels of another log: the first three ids, how many more, and where."""
    log = Log()
    found = write(
        tmp_path / "l.jsonl", log.sheet(5), lambda at, item: {"label": 1, "rollout_id": f"x{at}"}
    )
    with pytest.raises(LogError, match=r"l.jsonl:2: .* found 'x0', 'x1', 'x2' and 2 more"):
        log.join(found)


def test_rounded_ids_have_their_own_advice(tmp_path):
    """A spreadsheet that made 1.23E+19 of an id."""
    (tmp_path / "l.csv").write_text("rollout_id,label\n1.23457E+19,yes\n")
    with pytest.raises(LogError, match="import the column as text"):
        Log().join(read_answers([tmp_path / "l.csv"]))


def test_second_labels_are_named(tmp_path):
    """One annotator, one rollout, two labels: both places are named; open rows do not count."""
    log = Log()
    sheet = log.sheet(4)
    write(tmp_path / "a.jsonl", sheet, lambda at, item: {"label": 1} if at < 3 else {})
    write(tmp_path / "b.jsonl", sheet, lambda at, item: {"label": 1} if at > 2 else {})
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert log.join(read_answers(paths)).returned.complete
    write(paths[1], sheet, lambda at, item: {"label": 1} if at > 1 else {})
    name = sheet.items[2].rollout_id
    with pytest.raises(LogError, match=rf"b.jsonl:4: .* found '{name}' .*first at .*a.jsonl:4"):
        log.join(read_answers(paths))


def test_rows_nobody_drew_are_named(tmp_path):
    """A label of the best answer in place of the drawn one is refused (the common habit)."""
    log = Log()
    sheet = log.sheet(5)
    drawn = {item.rollout_id for item in sheet.items}
    other = next(name for name in log.names if name not in drawn)
    found = write(
        tmp_path / "l.jsonl",
        sheet,
        lambda at, item: {"label": 1, **({"rollout_id": other} if at == 4 else {})},
    )
    with pytest.raises(LogError, match=f"'{other}' that nobody drew"):
        log.join(found)


def test_a_changed_design_is_refused(tmp_path):
    """Another seed in the file: the labelled rows are then not those that were drawn."""
    log = Log(40)
    sheet = log.sheet(5)
    changed = Sheet(design=sheet.design.model_copy(update={"seed": 7}), items=sheet.items)
    with pytest.raises(LogError, match="nobody drew"):
        log.join(write(tmp_path / "l.jsonl", changed, lambda at, item: {"label": 1}))
    other = Log(41)
    with pytest.raises(LogError, match="the sheet was drawn from a log of 120 rollouts"):
        other.join(write(tmp_path / "m.jsonl", sheet, lambda at, item: {"label": 1}))


def test_labels_off_the_scale_and_mixed_sources(tmp_path):
    """7 on a yes-no sheet; a sheet beside a file without one; sheets of two seeds."""
    log = Log(40)
    sheet = log.sheet(5)
    with pytest.raises(LogError, match=r"l.jsonl:2: expected a label from 0 to 1, .* found 7"):
        log.join(write(tmp_path / "l.jsonl", sheet, lambda at, item: {"label": 7}))
    write(tmp_path / "a.jsonl", sheet, lambda at, item: {"label": 1})
    write(tmp_path / "b.jsonl", sheet, lambda at, item: {"label": 1}, head=False)
    with pytest.raises(LogError, match=r"b.jsonl: it has labels without a sheet"):
        log.join(read_answers([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]))
    write(tmp_path / "c.jsonl", log.sheet(5, seed=1), lambda at, item: {"label": 1})
    with pytest.raises(LogError, match="drawn in another way or order"):
        log.join(read_answers([tmp_path / "a.jsonl", tmp_path / "c.jsonl"]))


def test_a_csv_sheet_comes_back_by_hand(tmp_path):
    """The spreadsheet's way: sorted, half filled, its design in the rows that are left."""
    log = Log()
    sheet = log.sheet(6)
    rows = list(csv.reader(io.StringIO(sheet.to_csv().decode("utf-8-sig"), newline="")))
    body = sorted(rows[1:])[1:]
    for row in body:
        row[3] = "yes"
    with (tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *body])
    joined = log.join(read_answers([tmp_path / "s.csv"]))
    assert (joined.returned.drawn, joined.returned.labelled) == (6, 5)
    assert joined.design == sheet.design


# --- And the certificates hold --------------------------------------------------------------------


def world(prompts, rng, each=4):
    """Rewards that err, gold that a prompt and its rollouts share in part; the truth is .55."""
    level = rng.choice([0.2, 0.9], size=prompts)
    gold = (rng.random((prompts, each)) < level[:, None]).astype(float)
    reward = np.clip(gold * 0.5 + rng.random((prompts, each)) * 0.6, 0, 1)
    return gold.ravel(), reward.ravel(), np.repeat(np.arange(prompts), each)


def misses(way, logs, *, n=40, prompts=120, spoil=None):
    """How many of so many labelled logs have a certificate that misses .55."""
    missed = 0
    for seed in range(logs):
        rng = np.random.default_rng(seed)
        gold, reward, prompt = world(prompts, rng)
        log = Population(
            rollout=hash_ids([f"{seed}/{i}" for i in range(len(gold))]),
            draw=hash_ids([f"{seed}/{p}" for p in prompt]),
        )
        design, drawn = draw(log, n, way=way)
        if way == "one" and seed % 2:
            later = draw(log, n // 2, former=design)[1]
            rows = np.r_[drawn.rows, later.rows]
        else:
            rows = drawn.rows
        if spoil is not None:
            rows = spoil(rows, gold, reward, prompt, rng)
        labelled = np.full(len(gold), np.nan)
        labelled[rows] = gold[rows]
        rollouts = Rollouts.from_arrays(prompt_id=prompt, reward=reward, gold=labelled)
        found = taut.audit(rollouts, target="reward", reward_range=(0, 1), delta=0.1)
        missed += not found.lower <= 0.55 <= found.upper
    return missed


@pytest.mark.parametrize("way", ["one", "rows", "whole"])
def test_certificates_from_drawn_labels_hold(way):
    """At most 10% of logs labelled as drawn have a certificate that misses the truth."""
    assert_misses_at_most(misses(way, 100), 100, 0.1, way)


def best_of_each(rows, gold, reward, prompt, rng):
    """Label the rollout with the highest reward of each drawn prompt: the planted habit."""
    best = np.lexsort((-reward, prompt))[:: np.bincount(prompt)[0]]
    return best[np.isin(prompt[best], prompt[rows])]


def failures_skipped(rows, gold, reward, prompt, rng):
    """Drop most rows whose answer was wrong, as an annotator does who skips the hard ones."""
    return rows[(gold[rows] == 1) | (rng.random(len(rows)) < 0.3)]


@pytest.mark.parametrize("spoil", [best_of_each, failures_skipped])
def test_planted_mistakes_are_seen(spoil):
    """The same check accuses an order that leaks rewards, and skipped rows that are dropped."""
    assert misses_more_than(misses("one", 60, spoil=spoil), 60, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one", "rows", "whole"])
def test_certificates_from_drawn_labels_hold_at_length(way):
    """The same on 2,000 logs."""
    assert_misses_at_most(misses(way, 2000), 2000, 0.1, way)

"""Two policies compared: claims hold, verdicts are right, and planted mistakes are seen."""

import json
from dataclasses import replace

import numpy as np
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut import cli
from taut.decisions.contest import differences as module
from taut.decisions.contest import matching, pairs
from taut.decisions.contest.hacked import told_ends
from taut.logs.facts import LogFacts

SAID = {"declare": "held-out,complete,random-labels", "reward_range": (0, 1), "target": "reward"}
LAB = taut.__path__[0] + "/examples/goodhart.parquet"


def pair(rng, n=80, *, gain=0.0, learned=0.0, shared=1.0, per=(1, 1), labels=(1.0, 1.0)):
    """Two logs; hard prompts are hard for both (correlation about .7)."""
    ease = rng.normal(0, 0.2, 2 * n)
    logs = []
    for side in range(2):
        start = 0 if side == 0 else round((1 - shared) * n)
        ids = np.repeat(np.arange(start, start + n), per[side])
        up = (gain, learned) if side == 0 else (0.0, 0.0)
        gold = np.clip(0.45 + up[0] + ease[ids] + rng.normal(0, 0.13, ids.size), 0, 1)
        score = np.clip(0.45 + up[1] + ease[ids] + rng.normal(0, 0.13, ids.size), 0, 1)
        known = np.isin(ids, rng.permutation(np.unique(ids))[: round(labels[side] * n)])
        logs.append({"prompt_id": ids, "reward": score, "gold": np.where(known, gold, np.nan)})
    return logs


CELLS = {
    "paired": {},
    "partly shared": {"shared": 0.6},
    "different K": {"per": (1, 3)},
    "none shared": {"shared": 0.0},
    "labels of different prompts": {"labels": (0.5, 0.5)},
    "gold on one side only": {"labels": (1.0, 0.0)},
}


@pytest.mark.parametrize("cell", CELLS)
def test_claims_hold_together(cell):
    """Among equals (difference 0), true and learned, at most delta of comparisons miss either."""
    trials, delta, missed = 60, 0.2, 0
    for seed in range(trials):
        a, b = pair(np.random.default_rng(seed), **CELLS[cell])
        found = taut.compare(a, b, delta=delta, **SAID)
        wrong = not found.learned_difference.lower <= 0 <= found.learned_difference.upper
        wrong |= not found.difference.lower <= 0 <= found.difference.upper
        missed += wrong
    assert_misses_at_most(missed, trials, delta, cell)


def test_the_check_rejects_stakes_on_the_wrong_side(monkeypatch):
    """Each end at all of what both may spend, times four: the same check sees it."""
    honest = module.paired_difference

    def generous(*sides, etas, **named):
        return honest(*sides, etas=tuple(min(0.9, 5 * eta) for eta in etas), **named)

    monkeypatch.setattr(module, "paired_difference", generous)
    trials, missed = 100, 0
    for seed in range(trials):
        found = taut.compare(*pair(np.random.default_rng(seed), 60), delta=0.2, **SAID)
        both = (found.difference, found.learned_difference)
        missed += any(not item.lower <= 0 <= item.upper for item in both)
    assert misses_more_than(missed, trials, 0.2), missed


def test_the_check_rejects_a_prompt_at_two_places(monkeypatch):
    """Few draws of one side, used again for each of many of the other: the same check sees it."""
    honest = matching.line_up

    def again(one, other, *, match):
        found = honest(one, other, match=match)
        few, many = found.one.rows[:4], found.other.rows
        ones = matching.Members(np.resize(few, len(many)), np.arange(len(many) + 1))
        others = matching.Members(many, np.arange(len(many) + 1))
        labelled, matched = (np.full(len(many), known) for known in (found.labelled.any(), True))
        return matching.Lined(ones, others, labelled, matched, found.shared)

    monkeypatch.setattr(pairs, "line_up", again)
    trials, missed = 40, 0
    for seed in range(trials):
        found = taut.compare(*pair(np.random.default_rng(seed), shared=0.0), delta=0.2, **SAID)
        missed += not found.difference.lower <= 0 <= found.difference.upper
    assert misses_more_than(missed, trials, 0.2), missed


@pytest.mark.parametrize("match", [False, True])
def test_no_prompt_stands_at_two_places_and_none_goes_by_its_values(match):
    """Any sharing, any labels: places are independent, each side's mean over them is whole."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sides = [side_of(rng, rng.integers(2, 40), rng.random()) for _ in range(2)]
        lined = matching.line_up(*sides, match=match)
        used = []
        for place in range(len(lined)):
            keys = [
                side.key[at.rows[slice(*at.starts[place : place + 2])]]
                for side, at in zip(sides, (lined.one, lined.other), strict=True)
            ]
            assert all(map(len, keys))
            same = set(keys[0].tolist()) == set(keys[1].tolist())
            assert same != lined.matched[place]
            used.append(set(np.concatenate(keys).tolist()))
            if lined.labelled[place]:
                for side, key in zip(sides, keys, strict=True):
                    assert not np.isnan(side.gold[np.isin(side.key, key)]).any()
        assert sum(map(len, used)) == len(set().union(*used, set()))
        if not match:
            assert len(lined) == lined.shared and not lined.matched.any()


def side_of(rng, draws, labelled):
    gold = np.where(rng.random(draws) < labelled, rng.random(draws), np.nan)
    keys = rng.choice(50, draws, replace=False).astype(np.uint64)
    return pairs.Draws(keys, rng.random(draws), gold, np.zeros(draws), False)


def width(found):
    return found.difference.upper - found.difference.lower


def test_matching_beats_the_difference_of_two_certificates():
    """Of disjoint prompts, of labels of different ones, of shared ones in part; other K too."""
    for given in ({"shared": 0.0}, {"labels": (0.5, 0.5)}, {"shared": 0.5, "per": (1, 4)}):
        a, b = pair(np.random.default_rng(3), 400, **given)
        found = taut.compare(a, b, **SAID)
        apart = [taut.audit(log, **SAID, delta=0.0375 / 2) for log in (a, b)]
        assert found.difference.kind == "matched"
        assert width(found) <= 0.8 * sum(item.upper - item.lower for item in apart)
        alike = [item.name for item in found.assumptions if item.name == "same-prompts"]
        assert bool(alike) == ("shared" in given)
        assert found.difference.status == ("conditional" if alike else "certified")


def test_gold_on_one_side_bounds_the_other_by_its_range():
    """Nothing is better than the range allows: a is nearly perfect, so that b is little better."""
    a, b = pair(np.random.default_rng(3), 400, labels=(1.0, 0.0))
    a["gold"] = np.full(400, 0.99)
    found = taut.compare(a, b, margin=0.1, **SAID)
    assert (found.verdict, found.difference.kind) == ("no_worse", "certificates")
    assert found.difference.mean is None and found.difference.lower >= -0.05


def test_a_list_of_prompts_is_paired_by_prompt():
    a, b = pair(np.random.default_rng(0), 300)
    found = taut.compare(a, b, prompts="list", **SAID)
    assert (found.difference.kind, found.difference.shared) == ("gold", 300)
    assert width(found) <= 0.08


def test_costs_without_a_bound_leave_the_learned_difference_open():
    a, b = pair(np.random.default_rng(0), 100)
    for log in (a, b):
        log["log_ratio"] = np.random.default_rng(1).normal(0.5, 1, 100)
    asked = SAID | {"target": "objective", "beta": 0.05, "tau": None}
    found = taut.compare(a, b, **asked)
    assert found.learned_difference.lower is None and found.hacked == "cannot_tell"
    assert found.difference.kind == "certificates"


def test_sentences_keep_small_scales_and_large_ones():
    assert told_ends(0.00012345, 0.00023) == "0.00012 to 0.00023"
    assert told_ends(-61234.5, -51000.2) == "-61235 to -51000"


def test_pairing_pays():
    """With correlation .7, the difference is at most .6 as wide as that of two certificates."""
    a, b = pair(np.random.default_rng(3), 500)
    found = taut.compare(a, b, **SAID)
    apart = [taut.audit(log, **SAID, delta=0.025) for log in (a, b)]
    assert found.difference.kind == "gold"
    assert width(found) <= 0.6 * sum(item.upper - item.lower for item in apart)


@pytest.mark.parametrize(
    ("given", "verdict", "hacked"),
    [
        ({"gain": 0.2, "learned": 0.2}, "a_better", "no"),
        ({"gain": -0.2, "learned": 0.2}, "b_better", "yes"),
        ({"gain": 0.0, "learned": 0.25}, "cannot_tell", "yes"),
        ({"gain": 0.0, "learned": 0.0}, "cannot_tell", "cannot_tell"),
        ({"learned": 0.2, "labels": (0.0, 0.0)}, "cannot_tell", "cannot_tell"),
    ],
)
def test_verdicts(given, verdict, hacked):
    a, b = pair(np.random.default_rng(0), 400, **given)
    found = taut.compare(a, b, **SAID)
    assert (found.verdict, found.hacked) == (verdict, hacked)
    back = taut.compare(b, a, **SAID)
    turned = {"a_better": "b_better", "b_better": "a_better"}.get(verdict, verdict)
    assert (back.verdict, back.hacked) == (turned, hacked)
    # The order of draws decides stakes, the order of sides nothing but the sign.
    if found.difference.lower is not None:
        assert back.difference.lower == pytest.approx(-found.difference.upper, abs=0.02)


def test_no_worse_is_told_by_a_margin():
    a, b = pair(np.random.default_rng(1), 500)
    found = taut.compare(a, b, margin=0.1, **SAID)
    assert found.verdict == "no_worse" and "no worse" in found.sentence
    wide = taut.compare(*pair(np.random.default_rng(1), 30, gain=0.02), **SAID)
    assert wide.verdict == "cannot_tell" and wide.labels_to_tell > 30
    with pytest.raises(taut.UsageError, match="margin is -1"):
        taut.compare(a, b, margin=-1.0, **SAID)


@pytest.mark.parametrize("launched", [7000, 7001])
def test_parts_of_a_log_that_is_all_there_are_all_there(launched):
    """What was launched is counted for the whole: two steps of it miss nothing."""
    facts = LogFacts(
        held_out=True,
        complete=True,
        launched_prompts=launched,
        rollouts_per_prompt=1,
        ours=True,
        recorded=frozenset({"held_out", "complete", "launched_prompts", "rollouts_per_prompt"}),
    )
    log = replace(taut.as_rollouts(LAB), facts=facts)
    said = SAID | {"declare": "random-labels"}
    found = taut.compare(log, by="step", of=60, against=10, **said)
    stands = {item.name: item.stands for item in found.assumptions}
    whole = launched == 7000
    assert (stands["complete"] == "recorded") == whole
    assert found.difference.status == ("certified" if whole else "conditional")


def test_misuse_is_refused():
    a, _ = pair(np.random.default_rng(1), 30)
    with pytest.raises(taut.UsageError, match="two logs, or one with by="):
        taut.compare(a)
    with pytest.raises(taut.LogError, match="no step 7 in the log; it holds 0, 10"):
        taut.compare(LAB, by="step", of=7, against=10, **SAID)
    with pytest.raises(taut.UsageError, match="both 10"):
        taut.compare(LAB, by="step", of=10, against=10, **SAID)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


LAB_ASKED = (LAB, "--by", "step", "--target", "reward", "--reward-range", 0, 1, "--quiet")
LAB_SAID = ("--declare", SAID["declare"])


def test_what_happened_in_the_lab_is_one_sentence(monkeypatch, capsys, tmp_path):
    out = tmp_path / "c.json"
    status, text, _ = run(
        monkeypatch, capsys, "compare", *LAB_ASKED, *LAB_SAID, "--of", 60, "--against", 10,
        "--json", out,
    )  # fmt: skip
    told = " ".join(text.split())
    assert status == 0
    gained = "Hacked: step 60 gained 0.100 to 0.116 of learned reward over step 10"
    assert f"{gained}, and lost 0.521 to 0.601 of true reward." in told
    document = json.loads(out.read_text())
    assert document["schema"] == "taut.comparison/1"
    assert (document["verdict"], document["hacked"]) == ("b_better", "yes")
    keys = {"mean", "lower", "upper", "status", "kind", "shared", "labelled"}
    assert set(document["difference"]) == keys and document["a"]["name"] == "step 60"


@pytest.mark.parametrize(
    ("of", "against", "most", "status"), [(10, 60, 0.0, 0), (60, 10, 0.1, 3), (60, 10, 0.9, 0)]
)
def test_the_gate(monkeypatch, capsys, of, against, most, status):
    asked = ("--of", of, "--against", against, "--require-no-worse-than", most)
    found, _, err = run(monkeypatch, capsys, "compare", *LAB_ASKED, *LAB_SAID, *asked)
    assert found == status and ("failed" in err) == (status == 3)
    if status == 0:
        found, _, err = run(monkeypatch, capsys, "compare", *LAB_ASKED, *asked)
        assert found == 3 and "not certified" in err


def test_two_files(monkeypatch, capsys, tmp_path):
    for name, log in zip(("new", "old"), pair(np.random.default_rng(0), 60), strict=True):
        lines = [
            json.dumps({key: value[at].item() for key, value in log.items()}) for at in range(60)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    files = (tmp_path / "new.jsonl", tmp_path / "old.jsonl")
    status, text, err = run(monkeypatch, capsys, "compare", *files, "--reward-range", 0, 1)
    assert status == 0, err
    assert "new.jsonl" in text
    assert run(monkeypatch, capsys, "compare", files[0])[0] == 2


def test_learned_rewards_that_are_cut_off_are_told():
    """Else a policy that games the reward beyond its range would seem to have gained little."""
    rng = np.random.default_rng(0)
    one, other = (
        {
            "prompt_id": np.arange(400),
            "reward": np.where(rng.random(400) < huge, 10.0, 0.5),
            "gold": rng.integers(0, 2, 400),
        }
        for huge in (0.1, 0.0)
    )
    cut = str(taut.compare(one, other, reward_range=(0, 1), target="reward"))
    assert "outside their declared range" in cut and "of a 1." in " ".join(cut.split())
    whole = str(taut.compare(one, other, reward_range=(0, 10), target="reward"))
    assert "outside their declared range" not in whole

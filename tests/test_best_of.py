"""pass@k, pass^k, best@k and the parts of a reward: exact statistics, claims that hold."""

import itertools
import json
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taut
from check import assert_misses_at_most, misses_more_than
from taut import cli
from taut.inequalities.order_statistics import best_of, subset_weights

sys.path.insert(0, str(Path(__file__).parents[1]))

from validation import best_of as study

SAID = {"reward_range": (0, 1), "declare": "held-out,complete,random-labels"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_statistics_are_means_over_all_subsets(values, data):
    k = data.draw(st.integers(1, len(values)))
    starts = np.array([0, len(values)])
    x = np.array(values)
    for worst, pick in ((False, max), (True, min)):
        brute = np.mean([pick(some) for some in itertools.combinations(values, k)])
        assert best_of(x, starts, k, worst=worst)[0] == pytest.approx(brute, abs=1e-12)
        again = np.mean([pick(some) for some in itertools.product(values, repeat=min(k, 4))])
        if k <= 4:
            found = best_of(x, starts, k, worst=worst, plug_in=True)[0]
            assert found == pytest.approx(again, abs=1e-12)


def test_weights_of_very_many_rollouts_are_exact():
    """Against mpmath at n = 10,000, where binomial coefficients overflow."""
    mpmath.mp.dps = 40
    n, k = 10_000, 4_000
    found = subset_weights(n, k)
    for i in (n, n - 1, n - 7, 9_000):
        exact = mpmath.binomial(i - 1, k - 1) / mpmath.binomial(n, k)
        assert found[i - 1] == pytest.approx(float(exact), rel=1e-10)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(taut.AssumptionError, match="at least 3 values, found 2"):
        subset_weights(2, 3)


def table(rng, labelled=1.0, prompts=60, rollouts=8):
    values = study.draw(rng)[:prompts, :rollouts]
    known = np.repeat(rng.random(prompts) < labelled, rollouts)
    return {
        "prompt_id": np.repeat(np.arange(prompts), rollouts),
        "reward": values.ravel(),
        "gold": np.where(known, values.ravel(), np.nan),
    }


def test_certificates_of_all_k_hold_together():
    trials, delta, missed = 100, 0.2, 0
    for seed in range(trials):
        found = taut.audit_at(
            table(np.random.default_rng(seed), 0.6), pass_at=(1, 4, 8), delta=delta, **SAID
        )
        ends = [
            (item.value, item.certificate.lower, item.certificate.upper) for item in found.groups
        ]
        missed += any(not low <= study.truth(k) <= high for k, low, high in ends)
    assert_misses_at_most(missed, trials, delta, "pass@k")


def test_the_check_rejects_the_plug_in():
    """1 - (1 - p)^8 from 8 rollouts, with a normal interval, misses far more often than it says."""
    missed = 0
    for seed in range(200):
        low, high = study.plug_in(study.draw(np.random.default_rng(seed)), 8)
        missed += not low <= study.truth(8) <= high
    assert misses_more_than(missed, 200, study.DELTA), missed


def test_the_usual_estimate_stands_beside():
    found = taut.audit_at(table(np.random.default_rng(0)), pass_at=(1, 8), **SAID)
    assert (found.by, [group.value for group in found.groups]) == ("pass_at", [1, 8])
    one, eight = found.groups
    assert one.usual == pytest.approx(one.certificate.measured.gold)
    assert eight.usual < eight.certificate.measured.gold - 0.03
    assert "too low by expectation" in str(found)
    worst = taut.audit_at(table(np.random.default_rng(0)), all_of=4, **SAID).groups[0]
    assert worst.usual > worst.certificate.measured.gold


@pytest.mark.parametrize(
    ("change", "asked", "match"),
    [
        ({}, {"pass_at": 9}, "fewer than 9 rollouts, the least 8"),
        (
            {"reward": lambda x: x / 2, "gold": lambda x: x / 2},
            {"pass_at": 2},
            "0 and 1, found 0.5",
        ),
        ({"step": lambda x: np.arange(480) % 2}, {"pass_at": 2}, "several steps"),
        ({}, {"pass_at": 0}, "from 1"),
        ({}, {}, "expected one of pass_at"),
        ({}, {"pass_at": 2, "all_of": 2}, "expected one of"),
    ],
)
def test_misuse_is_refused(change, asked, match):
    columns = table(np.random.default_rng(0))
    for name, of in change.items():
        columns[name] = of(columns.get(name, columns["reward"]))
    with pytest.raises(taut.TautError, match=match):
        taut.audit_at(columns, **asked, **SAID)


# --- parts ----------------------------------------------------------------------------------------


def parts(rng, n=150):
    right, neat = rng.random(n) < 0.4, rng.random(n) < 0.8
    return {
        "prompt_id": np.arange(n),
        "reward": 0.7 * right + 0.3 * neat,
        "rewards.right": right * 1.0,
        "rewards.neat": neat * 1.0,
        "gold": np.where(rng.random(n) < 0.5, right * 1.0, np.nan),
    }


RANGES = {"right": (0, 1), "neat": (0, 1)}
WEIGHTS = {"right": 0.7, "neat": 0.3}


def test_parts_and_their_sum_hold_together():
    trials, delta, missed = 60, 0.2, 0
    truth = {"right": 0.4, "neat": 0.8, "sum": 0.52}
    for seed in range(trials):
        found = taut.audit_parts(
            parts(np.random.default_rng(seed)),
            reward_weights=WEIGHTS,
            gold_part="right",
            part_ranges=RANGES,
            delta=delta,
            declare=SAID["declare"],
        )
        assert [group.value for group in found.groups] == ["right", "neat", "sum"]
        right, *others = found.groups
        assert right.certificate.status == "certified"
        assert all(item.certificate.status == "vacuous" for item in others)
        spans = {right.value: right.certificate.certificate}
        spans |= {item.value: item.certificate.proxy for item in others}
        missed += any(not span.lower <= truth[name] <= span.upper for name, span in spans.items())
    assert_misses_at_most(missed, trials, delta, "parts")


def test_wrong_weights_are_found():
    with pytest.raises(taut.LogError, match="not the weights that were trained with"):
        taut.audit_parts(parts(np.random.default_rng(0)), reward_weights={"right": 1.0})
    with pytest.raises(taut.UsageError, match="no part 'left'; the log holds"):
        taut.audit_parts(parts(np.random.default_rng(0)), gold_part="left")
    with pytest.raises(taut.LogError, match="found none"):
        taut.audit_parts({"prompt_id": [1, 2], "reward": [0.0, 1.0]})


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_the_command_line(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    lines = [
        {"prompt_id": i // 4, "reward": float(x), "rewards": {"a": float(x), "b": 0.0}}
        for i, x in enumerate(rng.random(80) < 0.5)
    ]
    log, out = tmp_path / "log.jsonl", tmp_path / "out.json"
    log.write_text("\n".join(map(json.dumps, lines)))
    asked = ("--reward-range", 0, 1, "--quiet", "--json", out)
    assert run(monkeypatch, "audit", log, "--pass-at", "1,4", *asked) == 0
    found = json.loads(out.read_text())
    assert (found["schema"], found["by"]) == ("taut.certificates/2", "pass_at")
    assert [group["value"] for group in found["groups"]] == [1, 4]
    assert run(monkeypatch, "audit", log, "--parts", "--reward-weights", "a=1", *asked) == 0
    assert [item["value"] for item in json.loads(out.read_text())["groups"]] == ["a", "b", "sum"]
    assert run(monkeypatch, "audit", log, "--gold-part", "a", *asked) == 2
    assert run(monkeypatch, "audit", log, "--pass-at", "x", *asked) == 2
    assert run(monkeypatch, "audit", log, "--parts", "--pass-at", "2", *asked) == 2
    assert "one question at a time" in capsys.readouterr().err


# --- what a log says of itself, and how it was labelled -------------------------------------------


def test_unequal_chances_of_a_label_are_refused():
    """Recorded chances that differ are weighed elsewhere; the best of k must not forget them."""
    columns = table(np.random.default_rng(0), 0.5)
    chances = np.where(np.arange(480) // 8 % 2, 0.2, 0.8)
    log = taut.Rollouts.from_arrays(columns, label_probability=chances)
    with pytest.raises(taut.LogError, match="unequal chances of a label"):
        taut.audit_at(log, pass_at=2, **SAID)


def test_the_range_of_the_sum_is_not_that_of_a_part(tmp_path):
    """A part of 0 to 10 keeps its values where the log records 0 to 1 for its reward."""
    rng = np.random.default_rng(0)
    lines = [
        {"prompt_id": i, "reward": float(x) / 10, "rewards": {"a": float(x)}}
        for i, x in enumerate(rng.integers(0, 11, 200))
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "taut.toml").write_text("reward_range = [0, 1]\n")
    part, total = taut.audit_parts(str(tmp_path / "log.jsonl"), part_ranges={"a": (0, 10)}).groups
    assert part.certificate.settings.reward_range == (0, 10)
    assert 4 < part.certificate.proxy.lower < part.certificate.proxy.upper < 6
    assert total.certificate.settings.reward_range == (0, 1)
    (bare, _) = taut.audit_parts(str(tmp_path / "log.jsonl")).groups
    assert bare.certificate.settings.reward_range_source != "declared"

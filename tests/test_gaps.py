"""How far the learned reward is off in each slice, all slices at once."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import binom

import taut
from taut.cli import cli
from taut.errors import LogError, UsageError
from taut.report.charts.forest import group_charts

ASKED = {"reward_range": (0, 1), "target": "reward", "held_out": True, "declare": "random-labels"}
OFF = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])  # r-hat - r* of each domain, by law


def gamed(seed: int, prompts: int = 60, off: np.ndarray = OFF, *, labelled: float = 1.0):
    """A log of 0/1 rewards whose learned reward says 1 where the true one is 0, by domain."""
    rng = np.random.default_rng(seed)
    domain = np.repeat(np.arange(len(off)), prompts)
    gold = rng.random(len(domain)) < 0.2
    learned = gold | (rng.random(len(domain)) < off[domain] / 0.8)
    known = rng.random(len(domain)) < labelled
    return pd.DataFrame(
        {
            "prompt_id": np.arange(len(domain)),
            "domain": [f"d{at}" for at in domain],
            "n_tokens": rng.integers(1, 500, len(domain)),
            "reward": learned.astype(float),
            "gold": np.where(known, gold.astype(float), np.nan),
        }
    )


def any_missed(found, off=OFF) -> bool:
    ends = [(item.slice.gap_lower, item.slice.gap_upper) for item in found.groups]
    return any(not low <= value <= high for (low, high), value in zip(ends, off, strict=True))


def surely_above(missed: int, logs: int, delta: float) -> bool:
    """Whether a miss rate of at most delta gives so many misses less than once in 1,000."""
    return binom.sf(missed - 1, logs, delta) < 0.001


@pytest.mark.parametrize("together", [True, False])
def test_all_gaps_hold_together(together):
    """They miss together at delta at most; each at all of delta would not."""
    missed, logs, delta = 0, 40, 0.2
    for seed in range(logs):
        log = gamed(seed)
        if together:
            missed += any_missed(taut.audit_by(log, "domain", gap=True, delta=delta, **ASKED))
            continue
        alone = [
            taut.audit_by(part, "domain", gap=True, delta=delta, **ASKED)
            for _, part in log.groupby("domain")
        ]
        missed += any(any_missed(one, [off]) for one, off in zip(alone, OFF, strict=True))
    assert surely_above(missed, logs, delta) != together


def test_a_gap_takes_all_of_delta():
    """One interval of r-hat - r* is narrower than the same beside one of r*."""
    log = gamed(1, 300, OFF[:2])
    cut = {"n_tokens": (250,)}
    alone = taut.audit_by(log, "n_tokens", cuts=cut, gap=True, **ASKED)
    beside = taut.audit_by(log, "n_tokens", cuts=cut, **ASKED)
    for one, two in zip(alone.groups, beside.groups, strict=True):
        assert one.slice.lower is None and two.slice.lower is not None
        assert two.slice.gap_lower < one.slice.gap_lower < one.slice.gap_upper
        assert one.slice.gap_upper < two.slice.gap_upper


@pytest.mark.parametrize("labelled", [1.0, 0.4])
def test_gaps_of_prompts_are_as_narrow_as_a_certificate(labelled):
    """The gap of one slice is at most 1.4 times as wide as the normal interval."""
    log = gamed(10, 2000, OFF[4:5], labelled=labelled)
    item = taut.audit_by(log, "domain", gap=True, **ASKED).groups[0].slice
    off = (log.reward - log.gold).dropna()
    assert item.gap_upper - item.gap_lower < 1.4 * 2 * 1.96 * off.std() / len(off) ** 0.5


def test_declared_errors_of_the_reward_are_not_taken_for_those_of_the_gap():
    """A declared C, L or 0/1 gold changes nothing."""
    log = gamed(11, 100, OFF[2:5])
    plain = taut.audit_by(log, "domain", gap=True, **ASKED)
    more = {"coverage": 1.5, "reward_mse": 0.01, "gold_kind": "binary"}
    said = taut.audit_by(log, "domain", gap=True, **ASKED, **more)
    assert [item.slice.gap_lower for item in said.groups] == [
        item.slice.gap_lower for item in plain.groups
    ]


def test_gap_units_are_those_of_the_reward():
    """Rewards ten times as large are off by ten times as much."""
    log = gamed(2, 100, OFF[:3])
    one = taut.audit_by(log, "domain", gap=True, **ASKED)
    log[["reward", "gold"]] *= 10
    ten = taut.audit_by(log, "domain", gap=True, **{**ASKED, "reward_range": (0, 10)})
    for small, large in zip(one.groups, ten.groups, strict=True):
        assert large.slice.gap_lower == pytest.approx(10 * small.slice.gap_lower)
        assert large.slice.gap_upper == pytest.approx(10 * small.slice.gap_upper)


def test_slices_without_labels_cannot_tell():
    """A slice that nobody labelled, and one with two labels, say so, and have no interval."""
    log = gamed(3, 200, OFF[:3], labelled=0.5)
    log.loc[log.domain == "d1", "gold"] = np.nan
    rare = log.index[log.domain == "d2"][2:]
    log.loc[rare, "gold"] = np.nan
    log.loc[log.index[log.domain == "d2"][:2], "gold"] = 0.0
    found = taut.audit_by(log, "domain", gap=True, **ASKED)
    told = {str(item.value): item for item in found.groups}
    assert told["d0"].slice.gap_lower is not None
    assert told["d1"].cannot_tell == "no labels"
    assert "2 of at least" in told["d2"].cannot_tell
    assert told["d1"].slice.gap_lower is None and told["d2"].slice.gap_lower is None


def test_what_a_gap_rests_on_stands():
    """An undeclared range makes it an estimate; health and assumptions are the whole's."""
    log = gamed(4, 100, OFF[:2])
    sure = taut.audit_by(log, "domain", gap=True, **ASKED)
    assert {str(item.slice.gap_status) for item in sure.groups} == {"conditional"}
    assert sure.assumptions and sure.health
    bare = {name: value for name, value in ASKED.items() if name != "reward_range"}
    unsure = taut.audit_by(log, "domain", gap=True, **bare)
    assert {str(item.slice.gap_status) for item in unsure.groups} == {"estimated"}


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"mix": {"d0": 0.5, "d1": 0.5}}, UsageError, "mix"),
        ({"target": "objective", "beta": 0.1}, UsageError, "objective"),
        ({"missing": "worst"}, UsageError, "missing"),
        ({"route": "trivial"}, UsageError, "route"),
        ({"by": "n_tokens", "method": "hoeffding"}, UsageError, "method"),
        ({"gold_range": (1, 5)}, UsageError, "gold_scale"),
    ],
)
def test_what_does_not_go_with_a_gap(given, error, says):
    log = gamed(5, 100, OFF[:2])
    if "gold_range" in given:
        log["gold"] = 1 + 4 * log["gold"]
    with pytest.raises(error, match=says):
        taut.audit_by(log, gap=True, **{"by": "domain", **ASKED, **given})


@pytest.mark.parametrize("by", ["domain", "n_tokens"])
def test_one_side_takes_all_of_delta(by):
    """The end that is asked for is tighter, the other one is what holds without data."""
    log = gamed(12, 300, OFF[3:5])
    cut = {"cuts": {"n_tokens": (250,)}} if by == "n_tokens" else {}
    both, lower, upper = (
        taut.audit_by(log, by, gap=True, side=side, **cut, **ASKED).groups[0].slice
        for side in ("both", "lower", "upper")
    )
    assert both.gap_lower < lower.gap_lower and lower.gap_upper == 1
    assert upper.gap_upper < both.gap_upper and upper.gap_lower == -1


def test_no_gold_has_no_gap():
    with pytest.raises(LogError, match="gold"):
        taut.audit_by(gamed(6).drop(columns="gold"), "domain", gap=True, **ASKED)


def test_by_step_and_by_domain_are_one_log_each(tmp_path):
    """Steps answer the same prompts: slices of law, with a gap each."""
    log = pd.concat(
        [gamed(seed, 100, OFF[at : at + 1]).assign(step=at) for at, seed in ((0, 7), (5, 8))]
    )
    found = taut.audit_by(log, "step", gap=True, **ASKED)
    assert found.of == "law"
    assert [item.value for item in found.groups] == [0, 5]
    assert found.groups[0].slice.gap_upper < found.groups[1].slice.gap_lower
    kept = tmp_path / "gaps.json"
    found.save(kept)
    assert taut.load(kept) == found


def test_gaps_on_the_command_line_and_the_page(tmp_path):
    """One sentence, one table, one chart; a gate is refused."""
    path, document, page = (tmp_path / name for name in ("log.jsonl", "gaps.json", "gaps.html"))
    gamed(9, 100, OFF[[0, 5]]).to_json(path, orient="records", lines=True)
    by = ["audit", str(path), "--by", "domain", "--gap", "--target", "reward"]
    sure = [*by, "--reward-range", "0", "1", "--held-out", "--declare", "random-labels"]
    told = CliRunner().invoke(cli, [*sure, "--json", str(document), "--html", str(page)])
    assert told.exit_code == 0, told.output
    shown = CliRunner().invoke(cli, sure).output
    assert "too high in 1 of 2 slices, most at domain d1" in " ".join(shown.split())
    assert json.loads(document.read_text())["gap"] is True
    assert "learned less true" in page.read_text().lower()
    assert [chart.name for chart in group_charts(taut.load(document))] == ["gaps"]
    assert "too high in 1 of 2" in taut.load(document)._repr_html_()
    gate = CliRunner().invoke(cli, [*sure, "--require-lower", "0"])
    assert isinstance(gate.exception, UsageError) and "--gap" in str(gate.exception)
    lone = CliRunner().invoke(cli, ["audit", str(path), "--gap"])
    assert isinstance(lone.exception, UsageError) and "--by" in str(lone.exception)


def test_a_gap_of_rewards_beyond_their_range_is_refused():
    """Else the gap of what is left of them would stand, with few huge rewards cut off."""
    log = gamed(0)
    log.loc[::50, "reward"] = 10.0
    for by in ("domain", "n_tokens"):
        with pytest.raises(taut.AssumptionError, match=r"% of the rewards lie outside.*reach.*10"):
            taut.audit_by(log, by, gap=True, **ASKED)
    slices = taut.audit_by(log, "n_tokens", **ASKED).groups
    assert all(item.slice.gap_lower is None and item.slice.lower is not None for item in slices)


def test_a_sheet_that_came_back_in_part_bounds_no_slice_by_response(tmp_path):
    """Labels left off may go with outcomes, and a ratio of plain means imputes none."""
    log = gamed(1)[["prompt_id", "n_tokens", "reward"]]
    log["response"] = [f"answer {at}" for at in range(len(log))]
    path, sheet = tmp_path / "log.jsonl", tmp_path / "sheet.csv"
    log.to_json(path, orient="records", lines=True)
    asked = ["label", "draw", str(path), "-n", "200", "-o", str(sheet), "--gold-range", "0", "1"]
    assert CliRunner().invoke(cli, asked).exit_code == 0
    labels = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    said = np.random.default_rng(0).integers(0, 2, len(labels)).astype(str)
    for skipped in (False, True):
        labels["label"] = np.where(skipped & (said == "1"), "", said)
        labels.to_csv(sheet, index=False)
        rollouts = taut.with_labels(taut.read_rollouts(path, rollout_ids=True), sheet)
        for gap in (False, True):
            found = taut.audit_by(
                rollouts, "n_tokens", gap=gap, cuts={"n_tokens": (250,)}, reward_range=(0, 1)
            )
            reasons = {item.cannot_tell for item in found.groups}
            assert ("sheet that came back in part" in str(reasons)) == skipped, reasons

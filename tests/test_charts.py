"""Charts: valid Vega-Lite, drawn, with the numbers of the report and words for who cannot see."""

import json
from dataclasses import replace

import altair
import numpy as np
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut.report.charts import charts, themed
from taut.report.charts.draw import save_chart, svg_of

LAB = taut.__path__[0] + "/examples/goodhart.parquet"
SAID = {"reward_range": (0, 1), "declare": "held-out,complete,random-labels", "target": "reward"}


def table():
    rng = np.random.default_rng(0)
    gold = np.clip(rng.normal(0.5, 0.2, 400), 0, 1)
    return {
        "prompt_id": np.arange(400) // 2,
        "reward": np.clip(gold + rng.normal(0, 0.1, 400), 0, 1),
        "gold": gold,
        "policy_logprob": -20 + rng.normal(0, 3, 400),
        "ref_logprob": np.full(400, -21.0),
        "n_tokens": rng.integers(5, 500, 400),
        "kind": np.where(np.arange(400) // 2 % 2, "a", "b"),
    }


def monitor():
    watched = taut.Monitor(low=0, high=1, width=0.5)
    watched.update([0.5] * 40)
    return watched.result


MADE = {
    "certificate": lambda: taut.audit(table(), beta=0.05, reward_range=(0, 1)),
    "steps": lambda: taut.audit_by(LAB, "step", **SAID),
    "slices": lambda: taut.audit_by(table(), "n_tokens", **SAID),
    "prompts": lambda: taut.audit_by(table(), "kind", **SAID),
    "best of": lambda: taut.audit_at(table(), best_of=(1, 2), reward_range=(0, 1)),
    "selection": lambda: taut.select(LAB, **SAID),
    "comparison": lambda: taut.compare(LAB, by="step", of=60, against=10, **SAID),
    "threshold": lambda: taut.clip_threshold(table(), beta=0.05, reward_range=(0, 1)),
    "plan": lambda: taut.plan(
        table(), budget=900, costs=taut.Costs(decode=1.0, label=4.0), **(SAID | {"declare": ()})
    ),
    "monitor": monitor,
    "rollouts": lambda: taut.as_rollouts(table()),
}
NAMES = {
    "certificate": ["waterfall"],
    "steps": ["steps", "groups"],
    "slices": ["slices", "gaps"],
    "prompts": ["groups"],
    "best of": ["groups"],
    "selection": ["steps", "candidates", "differences", "matrix"],
    "comparison": ["comparison"],
    "threshold": ["threshold"],
    "plan": ["budget", "rollouts"],
    "monitor": ["path"],
    "rollouts": ["rewards", "log-ratios", "calibration"],
}


@pytest.fixture(scope="module", params=MADE)
def made(request):
    return request.param, MADE[request.param]()


def test_every_chart_is_valid_and_is_drawn(made):
    """By Altair's schema; no data but its own, and none that is not finite."""
    name, found = made
    drawn = charts(found)
    assert list(drawn) == NAMES[name]
    for item in drawn.values():
        altair.Chart.from_dict(item.spec)
        text = json.dumps(item.spec, allow_nan=False)
        assert '"url"' not in text and '"calculate"' not in text and '"expr"' not in text
        svg = svg_of(item)
        assert svg.startswith("<svg") and "NaN" not in svg and "undefined" not in svg
        assert item.title and item.description.endswith(".")


def test_a_dark_ground_changes_colours_alone():
    drawn = charts(monitor())["path"]
    light, dark = svg_of(drawn), svg_of(drawn, dark=True)
    assert light != dark and len(light) == len(dark)
    assert {**themed(drawn.spec, dark=True), "config": None} == {**drawn.spec, "config": None}


def test_numbers_are_those_of_the_report():
    found = taut.select(LAB, **SAID)
    report = str(found)
    rows = charts(found)["candidates"].spec["data"]["values"]
    assert all(row["label"].split(",")[0] in report for row in rows)


def own_scale():
    """A log whose gold, 0 to 10, has a scale of its own."""
    columns = table()
    columns["gold"] = 10 * columns["gold"]
    columns["step"] = np.arange(400) // 200 * 10
    columns["prompt_id"] = np.arange(400)
    return columns


def test_rewards_on_scales_of_their_own_share_no_axis():
    """Certificates in units of gold and learned rewards are two charts, or one of gold alone."""
    said = SAID | {"gold_range": (0, 10)}
    for found in (taut.audit_by(own_scale(), "step", **said), taut.select(own_scale(), **said)):
        drawn = charts(found)
        true, learned = drawn["steps"].spec, drawn["learned"].spec
        assert {row["series"] for row in true["data"]["values"]} == {"certified"}
        assert {row["series"] for row in learned["data"]["values"]} == {"learned reward"}
        assert "units of gold" in json.dumps(true) and "units of gold" not in json.dumps(learned)
        each = drawn["candidates" if "candidates" in drawn else "groups"].spec
        assert "units of gold" in json.dumps(each)
        assert all(row["point"] is None for row in each["data"]["values"])
    found = taut.compare(own_scale(), by="step", of=10, against=0, **said)
    drawn = charts(found)
    assert list(drawn) == ["comparison", "learned"]
    assert [row["row"] for row in drawn["comparison"].spec["data"]["values"]] == ["true"]


def test_an_estimate_never_looks_like_a_certificate():
    found = taut.audit(table(), beta=0.05, target="reward")  # a range read off the data
    assert found.status == "estimated"
    drawn = charts(found)["waterfall"].spec
    assert any(layer["mark"].get("filled") is False for layer in drawn["layer"])
    assert "no guarantee" in drawn["title"]["subtitle"] and "95%" not in drawn["title"]["subtitle"]
    chosen = charts(taut.select(own_scale(), target="reward", gold_range=(0, 10)))
    for name in ("steps", "candidates"):
        assert chosen[name].spec["title"]["subtitle"][0] == "Estimates, no guarantees"


def test_who_is_told_apart_is_what_the_selection_says():
    """By exclusions and by certificates that do not meet, each pair once and its mirror."""
    found = taut.select(LAB, **SAID)
    cells = charts(found)["matrix"].spec["data"]["values"]
    verdicts = {(cell["row"], cell["column"]): cell["verdict"] for cell in cells}
    other = {"above": "below", "below": "above"}
    for (one, two), verdict in verdicts.items():
        assert verdicts[two, one] == other.get(verdict, verdict)
        first, second = found[int(one)], found[int(two)]
        if verdict == "above":
            by = second.excluded is not None and str(second.excluded.by) == one
            assert by or first.lower > second.upper
    assert {verdicts[str(item.value), "10"] for item in found.candidates[2:]} == {"below"}


def test_the_turn_is_marked():
    from pathlib import Path

    from taut.lab.verdict import demonstrate

    drawn = charts(demonstrate(Path(LAB).parent))
    assert list(drawn) == ["steps", "kl"]
    for item in drawn.values():
        assert "true reward turns" in json.dumps(item.spec)
        assert "true reward turns" in item.description


def test_bins_of_a_judge_hold_what_gold_is_expected_to_be():
    """A range of gold that nobody declared is said; intervals of half the width are caught."""
    from taut.draws.calibrated import judge_bins
    from taut.logs.facts import LogFacts

    log = taut.as_rollouts(table())
    seen = judge_bins(log)
    assert not seen.range_declared and seen.one_scale
    assert "not to certify" in charts(log)["calibration"].spec["title"]["subtitle"][1]
    rng, misses, halved = np.random.default_rng(1), 0, 0
    for _ in range(40):
        learned = rng.random(200)
        gold = (rng.random(200) < learned**2).astype(float)
        columns = {"prompt_id": np.arange(200), "reward": learned, "gold": gold}
        log = replace(taut.as_rollouts(columns), facts=LogFacts(reward_range=(0.0, 1.0)))
        judged = judge_bins(log)
        assert judged.range_declared
        parts = np.array_split(np.sort(learned), len(judged.bins))
        true = [(part**2).mean() for part in parts]
        ends = [(item.lower, item.upper, (item.lower + item.upper) / 2) for item in judged.bins]
        pairs = [*zip(ends, true, strict=True)]
        misses += any(not low <= mean <= high for (low, high, _), mean in pairs)
        halved += any(abs(mean - mid) > (high - low) / 4 for (low, high, mid), mean in pairs)
    assert misses_more_than(halved, 40, judged.delta)
    assert_misses_at_most(misses, 40, judged.delta)


def test_results_give_charts_and_pictures(tmp_path):
    found = MADE["comparison"]()
    assert isinstance(found.chart(), altair.LayerChart)
    found.save(tmp_path / "a.svg")
    found.save(tmp_path / "b.png", "comparison")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "a.svg").read_bytes()
    found.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == first
    with pytest.raises(taut.UsageError, match="no chart 'pie'; there are comparison"):
        found.chart("pie")
    with pytest.raises(taut.UsageError, match="has no chart"):
        taut.check(table()).chart()
    with pytest.raises(taut.UsageError, match=r"\.svg or \.png"):
        save_chart(charts(found)["comparison"], tmp_path / "a.pdf")
    assert taut.as_rollouts(table()).chart("calibration")
    assert "<svg" in found._repr_html_()


def test_what_is_missing_is_named(monkeypatch):
    import builtins

    honest = builtins.__import__

    def without(name, *rest, **named):
        if name in ("altair", "vl_convert"):
            raise ImportError(name)
        return honest(name, *rest, **named)

    found = MADE["comparison"]()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(taut.UsageError, match="extra 'report'"):
        found.chart()
    with pytest.raises(taut.UsageError, match="extra 'report'"):
        svg_of(charts(found)["comparison"])
    assert "<table" in found._repr_html_() and "<svg" not in found._repr_html_()

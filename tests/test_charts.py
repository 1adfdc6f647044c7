"""Charts: valid Vega-Lite, drawn, with the numbers of the report and words for who cannot see."""

import json

import altair
import numpy as np
import pytest

import taut
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
    """By Altair's schema; light and dark; no data but its own, and none that is not finite."""
    name, found = made
    drawn = charts(found)
    assert list(drawn) == NAMES[name]
    for item in drawn.values():
        altair.Chart.from_dict(item.spec)
        text = json.dumps(item.spec, allow_nan=False)
        assert '"url"' not in text and '"calculate"' not in text and '"expr"' not in text
        for dark in (False, True):
            svg = svg_of(item, dark=dark)
            assert svg.startswith("<svg") and "NaN" not in svg and "undefined" not in svg
        assert themed(item.spec, dark=True)["config"] != item.spec["config"]
        assert item.title and item.description.endswith(".")


def test_numbers_are_those_of_the_report():
    found = taut.select(LAB, **SAID)
    report = str(found)
    rows = charts(found)["candidates"].spec["data"]["values"]
    assert all(row["label"] in report for row in rows)


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

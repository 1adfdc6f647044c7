"""A log as it is: rewards, log-ratios, and the judge against gold. Counts only, and exact means."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from taut.draws.calibrated import Judged, judge_bins
from taut.draws.rollouts import Rollouts
from taut.report.charts.chart import Chart, chart, padded, said, values
from taut.report.digits import count, decimals_for, interval, level_text, near, short

_BINS = 40
_HEIGHT = 220


def rollout_charts(rollouts: Rollouts) -> Iterator[Chart]:
    """Return the distributions of rewards and log-ratios, and the judge's calibration."""
    if not len(rollouts):
        return
    yield _histogram("rewards", "Learned rewards", rollouts.reward, "learned reward, reward units")
    if rollouts.log_ratio is not None:
        title = "Log-ratios to the reference"
        yield _histogram("log-ratios", title, rollouts.log_ratio, "log-ratio, nats")
    judged = judge_bins(rollouts)
    if judged is not None:
        yield _calibration(judged)


def _histogram(name: str, title: str, numbers: np.ndarray, across: str) -> Chart:
    counts, edges = np.histogram(numbers, bins=_BINS)
    rows = [
        {"from": float(low), "to": float(high), "count": int(many)}
        | {"range": f"{short(low)} to {short(high)}", "said": count(many, "rollout")}
        for low, high, many in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    scale = {"domain": padded([float(edges[0]), float(edges[-1])], 0.02), "nice": False}
    x = {"field": "from", "type": "quantitative", "title": across, "scale": scale}
    encoding = {
        "x": x,
        "x2": {"field": "to"},
        "y": {"field": "count", "type": "quantitative", "title": "rollouts"},
        "y2": {"datum": 0},
        "tooltip": said(range=across, said="how many"),
    }
    mark = {"type": "rect", "style": "learned"}
    low, high, middle = (short(float(f(numbers))) for f in (np.min, np.max, np.median))
    told = f"{count(len(numbers), 'rollout')} from {low} to {high}, half of them below {middle}"
    body = {"data": values(rows), "mark": mark, "encoding": encoding}
    return chart(name, title, f"{told}.", body, subtitle=told, height=_HEIGHT)


def _calibration(judged: Judged) -> Chart:
    """Mean gold over the learned reward, in bins of equal counts, each with its interval."""
    bins = judged.bins
    digits = decimals_for(min(item.upper - item.lower for item in bins), steps=20)
    rows = [
        {"learned": item.learned, "gold": item.gold, "lower": item.lower, "upper": item.upper}
        | {"at": near(item.learned, digits), "mean": near(item.gold, digits)}
        | {"said": interval(item.lower, item.upper, digits), "n": count(item.prompts, "prompt")}
        for item in bins
    ]
    both = [end for item in bins for end in (item.lower, item.upper)]
    across = padded([item.learned for item in bins], 0.04)
    x = {
        "field": "learned",
        "type": "quantitative",
        "title": "mean learned reward of the bin, reward units",
        "scale": {"domain": across, "nice": False, "zero": False},
    }
    units = "reward units" if judged.one_scale else "units of gold"
    y = {"type": "quantitative", "title": f"mean gold, {units}"}
    seen = [*both, *across] if judged.one_scale else both
    y["scale"] = {"domain": padded(seen, 0.05), "nice": False, "zero": False}
    tooltip = said(at="learned", mean="gold, measured", said="gold, interval", n="labelled")
    ends = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}, "tooltip": tooltip}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rule", "style": "certified", "strokeWidth": 3}, "encoding": ends},
        {
            "mark": {"type": "line", "style": "ink", "strokeWidth": 1}
            | {"point": {"filled": True, "style": "ink", "size": 50}},
            "encoding": {"x": x, "y": {**y, "field": "gold"}, "tooltip": tooltip},
        },
    ]
    if judged.one_scale:
        ideal = [{"learned": at, "gold": at} for at in across]
        mark = {"type": "line", "style": "learned", "strokeDash": [5, 4]}
        encoding = {"x": x, "y": {**y, "field": "gold"}}
        layers.insert(0, {"data": values(ideal), "mark": mark, "encoding": encoding})
    first, last = rows[0], rows[-1]
    told = f"Mean gold goes from {first['mean']} to {last['mean']} as learned reward grows"
    level = f"Intervals hold at {level_text(1 - judged.delta)}, all at once"
    if not judged.range_declared:
        level = "Intervals take the range of gold that was seen: to look at, not to certify by"
    return chart(
        "calibration",
        "The judge against gold",
        f"{told}, from {first['at']} to {last['at']}.",
        {"data": values(rows), "layer": layers},
        subtitle=[
            f"Labelled prompts in {len(bins)} bins of equal size"
            + ("; dashed: where learned reward is true" if judged.one_scale else ""),
            level,
        ],
        height=_HEIGHT,
    )

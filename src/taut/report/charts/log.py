"""A log as it is: rewards, log-ratios, and the judge against gold. Counts only, and exact means."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from taut.draws.calibrated import judge_bins
from taut.draws.rollouts import Rollouts
from taut.report.charts.chart import Chart, chart, values

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
    bins = judge_bins(rollouts)
    if bins:
        yield _calibration(bins)


def _histogram(name: str, title: str, numbers: np.ndarray, across: str) -> Chart:
    counts, edges = np.histogram(numbers, bins=_BINS)
    rows = [
        {"from": float(low), "to": float(high), "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    x = {"field": "from", "type": "quantitative", "title": across, "scale": {"zero": False}}
    encoding = {
        "x": x,
        "x2": {"field": "to"},
        "y": {"field": "count", "type": "quantitative", "title": "rollouts"},
        "y2": {"datum": 0},
        "tooltip": [{"field": key, "type": "quantitative"} for key in ("from", "to", "count")],
    }
    mark = {"type": "rect", "style": "learned"}
    told = f"{len(numbers):,} values from {numbers.min():.4g} to {numbers.max():.4g}."
    body = {"data": values(rows), "mark": mark, "encoding": encoding}
    return chart(name, title, told, body, height=_HEIGHT)


def _calibration(bins: list[dict[str, Any]]) -> Chart:
    """Mean gold over the learned reward, in bins of equal counts, each with its interval."""
    x = {
        "field": "learned",
        "type": "quantitative",
        "title": "learned reward, reward units",
        "scale": {"zero": False},
    }
    y = {"type": "quantitative", "title": "gold, units of gold", "scale": {"zero": False}}
    tooltip = [
        {"field": key, "type": "quantitative"} for key in ("learned", "gold", "lower", "upper", "n")
    ]
    ends = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}, "tooltip": tooltip}
    layers = [
        {"mark": {"type": "rule", "style": "certified", "strokeWidth": 3}, "encoding": ends},
        {
            "mark": {"type": "line", "style": "ink", "strokeWidth": 1}
            | {"point": {"filled": True, "style": "ink", "size": 50}},
            "encoding": {"x": x, "y": {**y, "field": "gold"}, "tooltip": tooltip},
        },
    ]
    first, last = bins[0], bins[-1]
    told = f"Mean gold goes from {first['gold']:.3g} to {last['gold']:.3g} as learned reward grows."
    return chart(
        "calibration",
        "The judge against gold",
        told,
        {"data": values(bins), "layer": layers},
        subtitle="Prompts in bins of equal size; intervals at 95%, all bins at once",
        height=_HEIGHT,
    )

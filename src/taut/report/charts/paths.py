"""Intervals that hold at all times, as draws came: a monitor, and the series of a watch."""

from collections.abc import Iterator, Sequence
from typing import Any

from taut.decisions.stopping.result import MonitorResult, Point, WatchResult
from taut.report.charts.chart import Chart, chart, level_line, said, values
from taut.report.digits import count, decimals_for, interval, level_text, near, short
from taut.types import Status

_HEIGHT = 280


def monitor_charts(found: MonitorResult) -> Iterator[Chart]:
    """Return the path of a monitor."""
    goal, level = found.settings.require_lower, found.interval.level
    title, units = "The interval as draws came", "units of the values"
    worth = f"Holds after every draw at once, at {level_text(level)}"
    yield from _path("path", title, found.path, units, goal, worth)


def watch_charts(found: WatchResult) -> Iterator[Chart]:
    """Return the path of each series of a watch."""
    settings, units = found.settings, "reward units"
    if found.of == "gold" and settings.gold_range not in (None, settings.reward_range):
        units = "units of gold" if found.target == "reward" else units
    of_all = found.status if found.of == "gold" else found.learned_status
    for item in found.series:
        name = "path" if item.value is None else f"path {item.value}"
        what = "" if item.value is None else f" of {settings.by} {item.value}"
        title, goal = f"The interval{what} as draws came", settings.require_lower
        worth = f"Holds after every draw at once, at {level_text(item.interval.level)}"
        if Status.ESTIMATED in (item.interval.status, of_all):
            worth = "An estimate, no guarantee"
        yield from _path(name, title, item.path, units, goal, worth)


def _path(
    name: str, title: str, path: Sequence[Point], units: str, goal: float | None, worth: str
) -> Iterator[Chart]:
    if len(path) < 2:
        return
    rows = [
        {"n": item.n, "lower": item.lower, "upper": item.upper, "mean": item.mean} for item in path
    ]
    digits = decimals_for(rows[-1]["upper"] - rows[-1]["lower"], steps=20)
    for row in rows:
        row |= {"draws": f"{row['n']:,}", "said": interval(row["lower"], row["upper"], digits)}
        row["mean so far"] = near(row["mean"], digits)
    x = {
        "field": "n",
        "type": "quantitative",
        "title": "draws so far, log scale",
        "scale": {"type": "log", "nice": False},
    }
    y = {"type": "quantitative", "title": f"mean, {units}", "scale": {"zero": False}}
    tooltip = said(**{"draws": "draws", "said": "certified", "mean so far": "mean so far"})
    band = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}, "tooltip": tooltip}
    edge = {"strokeWidth": 1.5, "style": "certified"}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "area", "style": "certified", "opacity": 0.25}, "encoding": band},
        *(
            {"mark": {"type": "line", **edge}, "encoding": {"x": x, "y": {**y, "field": side}}}
            for side in ("lower", "upper")
        ),
        {
            "mark": {"type": "line", "style": "ink", "strokeWidth": 2},
            "encoding": {"x": x, "y": {**y, "field": "mean"}, "tooltip": tooltip},
        },
    ]
    asked = ""
    if goal is not None:
        asked = f" · dashed: the {short(goal)} asked for"
        mark = {"style": "learned", "strokeWidth": 2, "strokeDash": [4, 3]}
        layers.append(level_line(goal, "y", mark))
    last = rows[-1]
    yield chart(
        name,
        title,
        f"After {count(last['n'], 'draw')} the mean lies in {last['said']}.",
        {"data": values(rows), "layer": layers},
        subtitle=[
            worth,
            f"Band: the interval · line: mean so far{asked}",
        ],
        height=_HEIGHT,
    )

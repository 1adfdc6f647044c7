"""What moves along a run: learned against certified over steps or KL, and intervals over time."""

from collections.abc import Iterator, Sequence
from typing import Any

from taut.auditing.certificate import Certificates
from taut.decisions.selection.result import Selection
from taut.decisions.stopping.result import MonitorResult, Point, WatchResult
from taut.report import wording
from taut.report.charts.chart import Chart, chart, padded, values
from taut.report.digits import level_text
from taut.report.wording import ends

_HEIGHT = 280


def step_charts(found: Certificates) -> Iterator[Chart]:
    """Return learned reward and certificates over steps, where the groups are steps."""
    rows = []
    for group in found.groups:
        item = group.certificate
        if found.of != "law" or item is None or not isinstance(group.value, int):
            return
        both = None if wording.learned_only(item) else ends(item.certificate)
        rows.append(_step(group.value, item.measured.reward, both))
    yield from _run("steps", rows, found.by, f"All hold together at {_level(found.delta)}", None)


def selection_steps(found: Selection) -> Iterator[Chart]:
    """Return the candidates of a selection by step, with the choice."""
    rows = []
    for item in found.candidates:
        if not isinstance(item.value, int):
            return
        both = None if wording.learned_only(item.certificate) else ends(item)
        rows.append(_step(item.value, item.proxy, both))
    chosen = found.chosen if isinstance(found.chosen, int) else None
    about = f"All hold together at {level_text(found.level)}"
    yield from _run("steps", rows, found.by, about, chosen)


def lab_charts(found: Any) -> Iterator[Chart]:
    """Return an experiment (`taut.lab.outcome.Outcome`) over steps and over √KL, with the truth."""
    rows = [
        _step(
            item.step,
            item.proxy,
            (item.certificates["reward"].lower, item.certificates["reward"].upper),
            truth=item.truth.gold,
        )
        for item in found.steps
    ]
    about = f"All certificates hold together at {level_text(found.level)}"
    yield from _run("steps", rows, "step", about, found.selection.chosen)
    over_kl = [
        {**row, "x": max(item.kl, 0.0) ** 0.5} for row, item in zip(rows, found.steps, strict=True)
    ]
    yield from _run("kl", over_kl, "√KL to the reference, √nats", about, None)


def _step(
    at: float,
    learned: float | None,
    both: tuple[float | None, float | None] | None,
    truth: float | None = None,
) -> dict[str, Any]:
    low, high = (None, None) if both is None else both
    return {"x": at, "learned": learned, "lower": low, "upper": high, "truth": truth}


def _level(delta: float) -> str:
    return level_text(1 - delta)


_SERIES = ("learned reward", "certified", "true reward")
_KEYS = (("learned", _SERIES[0]), ("lower", _SERIES[1]), ("truth", _SERIES[2]))


def _run(
    name: str, rows: Sequence[dict[str, Any]], across: str, about: str, chosen: int | None
) -> Iterator[Chart]:
    """Return learned points on a line, certificates as bars, and the truth where it is known."""
    if len(rows) < 2:
        return
    keys = ("learned", "lower", "upper", "truth")
    numbers = [row[key] for row in rows for key in keys if row[key] is not None]
    if not numbers:
        return
    rows = sorted(rows, key=lambda row: row["x"])
    low, high = padded(numbers)
    x = {
        "field": "x",
        "type": "quantitative",
        "title": across,
        "scale": {"zero": False, "nice": False, "domain": padded([row["x"] for row in rows], 0.03)},
    }
    y = {"type": "quantitative", "title": "mean reward, reward units"}
    y["scale"] = {"domain": [low, high], "nice": False, "zero": False}
    series = [_SERIES[0]] * any(row["learned"] is not None for row in rows)
    series += [_SERIES[1]] * any(row["lower"] is not None for row in rows)
    series += [_SERIES[2]] * any(row["truth"] is not None for row in rows)
    layers: list[dict[str, Any]] = []
    if chosen is not None:
        mark = {"type": "rule", "style": "quiet", "strokeDash": [4, 3]}
        at = {"x": {"datum": chosen, "type": "quantitative"}}
        layers.append({"mark": mark, "encoding": at})
        note = {"type": "text", "style": "quiet-text", "align": "left", "dx": 4, "y": 8}
        encoding = {**at, "text": {"value": "the choice"}}
        layers.append({"mark": note, "encoding": encoding})
    legend = {"orient": "top", "title": None, "values": series}
    colour = {"field": "series", "type": "nominal", "legend": legend}
    colour["scale"] = {"domain": list(_SERIES)}
    long = [{**row, "series": name, "y": row[key]} for key, name in _KEYS for row in rows]
    tooltip = [{"field": key, "type": "quantitative"} for key in ("x", *keys)]
    both = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}}
    known = [{"filter": {"field": "series", "equal": _SERIES[1]}}]
    known += [{"filter": {"field": "lower", "valid": True}}]
    layers.append(
        {
            "transform": known,
            "mark": {"type": "area", "style": "certified", "opacity": 0.15, "line": False},
            "encoding": both,
        }
    )
    layers.append(
        {
            "transform": known,
            "mark": {"type": "rule", "strokeWidth": 4},
            "encoding": {**both, "color": colour, "tooltip": tooltip},
        }
    )
    for at, dash, shape in ((0, [6, 3], "diamond"), (2, [1, 0], "circle")):
        if _SERIES[at] not in series:
            continue
        point = {"shape": shape, "filled": True, "size": 60}
        layers.append(
            {
                "transform": [{"filter": {"field": "series", "equal": _SERIES[at]}}],
                "mark": {"type": "line", "strokeDash": dash, "strokeWidth": 2, "point": point},
                "encoding": {"x": x, "y": {**y, "field": "y"}, "color": colour, "tooltip": tooltip},
            }
        )
    first, last = rows[0], rows[-1]
    told = ", ".join(
        f"{key} from {first[key]:.3g} to {last[key]:.3g}"
        for key in keys
        if first[key] is not None and last[key] is not None
    )
    yield chart(
        name,
        f"Learned against certified reward over {across}",
        f"Over {len(rows)} points of {across}: {told}.",
        {"data": values(long), "layer": layers},
        subtitle=about,
        height=_HEIGHT,
    )


# --- intervals over time --------------------------------------------------------------------------


def monitor_charts(found: MonitorResult) -> Iterator[Chart]:
    """Return the path of a monitor."""
    goal = found.settings.require_lower
    yield from _path(
        "path", "The interval as draws came", found.path, goal, _level(found.settings.delta)
    )


def watch_charts(found: WatchResult) -> Iterator[Chart]:
    """Return the path of each series of a watch."""
    for item in found.series:
        name = "path" if item.value is None else f"path {item.value}"
        what = "" if item.value is None else f" of {found.settings.by} {item.value}"
        goal = found.settings.require_lower
        level = _level(found.settings.delta)
        yield from _path(name, f"The interval{what} as draws came", item.path, goal, level)


def _path(
    name: str, title: str, path: Sequence[Point], goal: float | None, level: str
) -> Iterator[Chart]:
    if len(path) < 2:
        return
    rows = [
        {"n": item.n, "lower": item.lower, "upper": item.upper, "mean": item.mean} for item in path
    ]
    x = {
        "field": "n",
        "type": "quantitative",
        "title": "draws (log scale)",
        "scale": {"type": "log", "nice": False},
    }
    y = {"type": "quantitative", "title": "mean, reward units", "scale": {"zero": False}}
    tooltip = [{"field": key, "type": "quantitative"} for key in ("n", "lower", "mean", "upper")]
    band = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}, "tooltip": tooltip}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "area", "style": "certified", "opacity": 0.25}, "encoding": band},
        {
            "mark": {"type": "line", "style": "ink", "strokeWidth": 2},
            "encoding": {"x": x, "y": {**y, "field": "mean"}, "tooltip": tooltip},
        },
    ]
    if goal is not None:
        mark = {"type": "rule", "style": "learned", "strokeDash": [4, 3]}
        layers.append({"mark": mark, "encoding": {"y": {"datum": goal, "type": "quantitative"}}})
    last = rows[-1]
    yield chart(
        name,
        title,
        f"After {last['n']} draws the mean lies in {last['lower']:.3g} to {last['upper']:.3g}.",
        {"data": values(rows), "layer": layers},
        subtitle=f"Holds at every draw at once, at {level}",
        height=_HEIGHT,
    )

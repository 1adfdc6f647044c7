"""Intervals below each other: groups, candidates, differences, slices."""

from collections.abc import Iterator, Sequence
from typing import Any

from taut.auditing.certificate import Certificates, Group
from taut.decisions.comparison.result import PolicyComparison
from taut.decisions.selection.result import Selection
from taut.report import wording
from taut.report.charts.chart import Chart, chart, padded, values
from taut.report.digits import decimals_for, interval, level_text
from taut.report.names import TARGET_NAMES
from taut.report.wording import Ends, ends

_STEP = 30  # pixels a row
_MOST = 60  # rows; more make no picture


def group_charts(found: Certificates) -> Iterator[Chart]:
    """Return the charts of certificates that hold together."""
    if found.of == "response":
        yield from _response(found)
        return
    rows, units = [], "reward units"
    for group in found.groups:
        item = group.certificate
        if item is None:
            continue
        units = wording.units_of(item)
        learned = wording.learned_only(item)
        both = ends(wording.proxy_of(item)) if learned else ends(item.certificate)
        style = "learned" if learned else "certified"
        point = wording.measured_of(item)
        rows.append(_row(str(group.value), both, point, style, str(item.status)))
    name = found.by.replace("_", " ")
    title = f"{name[:1].upper()}{name[1:]}: what is certified of each"
    if found.of == "prompt":
        rows.sort(key=lambda row: row["lower"] if row["lower"] is not None else 1e308)
    yield from _forest("groups", title, rows, units, f"All hold together at {_level(found.delta)}")


def _response(found: Certificates) -> Iterator[Chart]:
    """The true reward of responses in each slice, and how far the learned one is off."""
    means = [_of_slice(group) for group in found.groups]
    together = f"All hold together at {_level(found.delta)}"
    yield from _forest("slices", f"Mean reward by {found.by}", means, "reward units", together)
    gaps = [
        _gap(group) for group in found.groups if group.slice and group.slice.gap_lower is not None
    ]
    title = f"Learned less true reward by {found.by}"
    yield from _forest("gaps", title, gaps, "reward units", together, zero=True)


def _of_slice(group: Group) -> dict[str, Any]:
    item = group.slice
    if item is None or item.lower is None or item.upper is None:
        return _row(str(group.value), None, None, "quiet", "cannot tell")
    style = "certified" if item.of == "r*" else "learned"
    return _row(str(group.value), (item.lower, item.upper), item.measured, style, str(item.status))


def _gap(group: Group) -> dict[str, Any]:
    item = group.slice
    both = (item.gap_lower, item.gap_upper)
    return _row(str(group.value), both, None, "certified", str(item.gap_status))


def selection_charts(found: Selection) -> Iterator[Chart]:
    """Return the candidates, their differences from the leader, and who is told apart."""
    rows = []
    for item in found.candidates:
        style = "quiet" if item.excluded is not None else "certified"
        note = "the choice" if item.value == found.chosen else str(item.status)
        if item.excluded is not None:
            note = f"below {item.excluded.by}"
        rows.append(_row(str(item.value), ends(item), None, style, note))
    about = f"All hold together at {level_text(found.level)}"
    title = f"True {TARGET_NAMES[found.target]} of each {found.by}"
    yield from _forest("candidates", title, rows, _units(found.units), about)
    gaps = [
        _row(str(item.value), ends(gap), gap.mean, "certified", str(gap.status))
        for item in found.candidates
        if (gap := item.comparison) is not None
    ]
    title = f"Less {found.by} {found.leader}, the leader"
    about = "Left of 0: worse than the leader"
    yield from _forest("differences", title, gaps, _units(found.units), about, zero=True)
    if len(found.candidates) > 1 and any(item.lower is not None for item in found.candidates):
        yield _matrix(found)


def _matrix(found: Selection) -> Chart:
    """Which candidate is above which, by certificates that hold together."""
    names = [str(item.value) for item in found.candidates][:_MOST]
    cells = []
    for one in found.candidates[:_MOST]:
        for other in found.candidates[:_MOST]:
            verdict = _apart(ends(one), ends(other)) if one is not other else "itself"
            cells.append({"row": str(one.value), "column": str(other.value), "verdict": verdict})
    order = ["above", "below", "not told apart", "itself"]
    axis = {"type": "nominal", "sort": names}
    base = {
        "y": {**axis, "field": "row", "title": found.by},
        "x": {**axis, "field": "column", "title": f"against {found.by}", "axis": {"labelAngle": 0}},
    }
    marks = {"above": "▲", "below": "▼", "not told apart": "·", "itself": ""}
    for cell in cells:
        cell["mark"] = marks[cell["verdict"]]
    layers = [
        {
            "mark": {"type": "rect", "strokeWidth": 1, "opacity": 0.45},
            "encoding": {
                **base,
                "color": {
                    "field": "verdict",
                    "type": "nominal",
                    "title": "the row is",
                    "scale": {"domain": [order[1], order[0], "unused", order[2]]},
                    "legend": {"values": order[:3]},
                },
                "tooltip": [{"field": name} for name in ("row", "column", "verdict")],
            },
        },
        {"mark": {"type": "text"}, "encoding": {**base, "text": {"field": "mark"}}},
    ]
    told = sum(cell["verdict"] == "above" for cell in cells)
    description = f"Of {len(names)} candidates, {told} pairs are told apart by their certificates."
    return chart(
        "matrix",
        "Who is told apart from whom",
        description,
        {"data": values(cells), "layer": layers},
        subtitle="By certificates that hold together; pairs on shared prompts may tell more",
        height={"step": 26},
    )


def _apart(one: Ends | None, other: Ends | None) -> str:
    if one is None or other is None:
        return "not told apart"
    if one[0] > other[1]:
        return "above"
    return "below" if one[1] < other[0] else "not told apart"


def comparison_charts(found: PolicyComparison) -> Iterator[Chart]:
    """Return both differences of a comparison."""
    rows = [
        _row(name, ends(item), item.mean, style, str(item.status))
        for name, item, style in (
            ("true", found.difference, "certified"),
            ("learned", found.learned_difference, "learned"),
        )
    ]
    title = f"{found.a.name} less {found.b.name}"
    about = f"Both hold together at {level_text(found.level)}"
    yield from _forest("comparison", title, rows, _units(found.units), about, zero=True)


def _units(name: str) -> str:
    return "units of gold" if name == "gold" else "reward units"


def _level(delta: float) -> str:
    return level_text(1 - delta)


def _row(
    name: str,
    both: tuple[float | None, float | None] | None,
    point: float | None,
    style: str,
    note: str,
) -> dict[str, Any]:
    low, high = (None, None) if both is None else both
    return {"row": name, "lower": low, "upper": high, "point": point, "style": style, "note": note}


def _forest(
    name: str,
    title: str,
    rows: Sequence[dict[str, Any]],
    units: str,
    about: str,
    *,
    zero: bool = False,
) -> Iterator[Chart]:
    """Return the chart of some intervals, or none where there are none or far too many."""
    known = [row for row in rows if row["lower"] is not None and row["upper"] is not None]
    if not known or len(rows) > _MOST:
        return
    numbers = [end for row in known for end in (row["lower"], row["upper"])]
    numbers += [row["point"] for row in rows if row["point"] is not None] + [0.0] * zero
    span = padded(numbers)
    digits = decimals_for(min(row["upper"] - row["lower"] for row in known), steps=20)
    middle = sum(span) / 2
    for row in rows:
        whole = row in known
        row["label"] = interval(row["lower"], row["upper"], digits) if whole else row["note"]
        row["at"] = row["lower"] if whole else span[0]
        row["left"] = not whole or (row["lower"] + row["upper"]) / 2 <= middle
        row["at"] = row["at"] if row["left"] else row["upper"]
    y = {
        "field": "row",
        "type": "nominal",
        "sort": [row["row"] for row in rows],
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelLimit": 170},
    }
    x = {
        "field": "lower",
        "type": "quantitative",
        "title": units,
        "scale": {"domain": span, "nice": False, "zero": False},
    }
    tooltip = [
        {"field": "row", "title": "what"},
        {"field": "label", "title": units},
        {"field": "note", "title": "status"},
    ]
    across = {"y": y, "x": x, "x2": {"field": "upper"}, "tooltip": tooltip}
    layers: list[dict[str, Any]] = []
    if zero:
        mark = {"type": "rule", "style": "quiet", "strokeDash": [2, 3]}
        layers.append({"mark": mark, "encoding": {"x": {"datum": 0, "type": "quantitative"}}})
    for style, size in (("certified", 8), ("learned", 5), ("quiet", 4)):
        if not any(row["style"] == style for row in known):
            continue
        keep = [{"filter": {"field": "style", "equal": style}}]
        mark = {"type": "bar", "style": style, "height": size, "minBandSize": 2}
        layers.append({"transform": keep, "mark": mark, "encoding": across})
    if any(row["point"] is not None for row in rows):
        layers.append(
            {
                "transform": [{"filter": {"field": "point", "valid": True}}],
                "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 60}
                | {"style": "ink", "opacity": 1},
                "encoding": {"y": y, "x": {**x, "field": "point"}, "tooltip": tooltip},
            }
        )
    for left in (True, False):
        mark = {"type": "text", "align": "left" if left else "right", "dy": -10, "fontSize": 11}
        shown = {"y": y, "x": {**x, "field": "at"}, "text": {"field": "label"}}
        keep = [{"filter": {"field": "left", "equal": left}}]
        layers.append({"transform": keep, "mark": mark, "encoding": shown})
    told = "; ".join(f"{row['row']} {row['label']}" for row in rows[:12])
    yield chart(
        name,
        title,
        f"Intervals in {units}: {told}.",
        {"data": values(rows), "layer": layers},
        subtitle=about,
        height={"step": _STEP},
    )

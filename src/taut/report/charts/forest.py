"""Intervals below each other: groups, candidates, differences, slices."""

from collections.abc import Iterator, Sequence
from typing import Any

from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates, Group, SliceMean
from taut.decisions.comparison.result import PolicyComparison
from taut.decisions.selection.result import Candidate, Selection
from taut.report import wording
from taut.report.charts.chart import (
    Chart,
    chart,
    keep,
    level_line,
    padded,
    said,
    starts_left,
    values,
)
from taut.report.digits import decimals_for, interval, level_text
from taut.report.names import TARGET_NAMES
from taut.report.wording import Ends, ends
from taut.types import Status

_STEP = 30  # pixels a row
_MOST = 60  # rows; more make no picture
_SOUND = (Status.CERTIFIED, Status.CONDITIONAL)
_NOTHING = "nothing known"


def group_charts(found: Certificates) -> Iterator[Chart]:
    """Return the charts of certificates that hold together."""
    if found.gap or found.of == "response":
        yield from () if found.gap else _response(found)
        yield from _gaps(found)
        return
    items = [(group.value, group.certificate) for group in found.groups if group.certificate]
    if not items:
        return
    # Learned and true rewards stand on one axis only where they have one scale.
    apart = any(not wording.one_scale(item) for _, item in items)
    learned = all(wording.learned_only(item) for _, item in items)
    rows = [_of_group(str(value), item, apart and not learned) for value, item in items]
    name = found.by.replace("_", " ")
    title = f"{name[:1].upper()}{name[1:]}: what is certified of each"
    if learned:
        title = f"{name[:1].upper()}{name[1:]}: the learned reward of each"
    if found.of == "prompt":
        rows.sort(key=lambda row: row["lower"] if row["lower"] is not None else 1e308)
    units = "reward units" if learned else wording.units_of(items[0][1])
    yield from _forest("groups", title, rows, units, f"all hold together at {_level(found.delta)}")


def _of_group(name: str, item: Certificate, apart: bool) -> dict[str, Any]:
    point = wording.measured_of(item)
    if not wording.learned_only(item):
        return _row(name, ends(item.certificate), point, "certified", item.status)
    if apart:
        return _row(name, None, None, "learned", Status.VACUOUS)
    return _row(name, ends(wording.proxy_of(item)), point, "learned", Status.VACUOUS)


def _response(found: Certificates) -> Iterator[Chart]:
    """The true reward of responses in each slice."""
    together = f"all hold together at {_level(found.delta)}"
    means = [_of_slice(group) for group in found.groups]
    # Slices without labels have the learned reward alone: on one axis only with the same scale.
    true = [row for row in means if row["style"] == "certified"]
    units = "reward units" if not true or _one_scale(found) else "units of gold"
    if units == "units of gold":
        means = [row if row in true else {**row, "lower": None, "upper": None} for row in means]
    yield from _forest("slices", f"Mean reward by {found.by}", means, units, together)


def _gaps(found: Certificates) -> Iterator[Chart]:
    """How far the learned reward is off in each slice."""
    together = f"all hold together at {_level(found.delta)}"
    gaps = [
        _row(str(group.value), both, None, "certified", group.slice.gap_status)
        for group in found.groups
        if group.slice and (both := _gap(group.slice))
    ]
    title = f"Learned less true reward by {found.by}"
    about = "right of 0: the learned reward is too high"
    yield from _forest("gaps", title, gaps, "reward units", together, about, zero=True)


def _one_scale(found: Certificates) -> bool:
    """Whether learned and true reward were subtracted in any slice, which takes one scale."""
    return any(group.slice and _gap(group.slice) for group in found.groups)


def _gap(item: SliceMean) -> Ends | None:
    if item.gap_lower is None or item.gap_upper is None:
        return None
    return item.gap_lower, item.gap_upper


def _of_slice(group: Group) -> dict[str, Any]:
    item = group.slice
    if item is None or (both := ends(item)) is None:
        return _row(str(group.value), None, None, "quiet", Status.VACUOUS)
    if item.of == "r*":
        return _row(str(group.value), both, item.measured, "certified", item.status)
    return _row(str(group.value), both, item.measured, "learned", Status.VACUOUS)


def selection_charts(found: Selection) -> Iterator[Chart]:
    """Return the candidates, their differences from the leader, and who is told apart."""
    units = wording.units_of(found.candidates[0].certificate)
    one_scale = wording.one_scale(found.candidates[0].certificate)
    rows = []
    for item in found.candidates:
        style = "quiet" if item.excluded is not None else "certified"
        note = "the choice" if item.value == found.chosen else ""
        if item.excluded is not None:
            note = f"below {item.excluded.by}"
        point = item.proxy if one_scale else None
        rows.append(_row(str(item.value), ends(item), point, style, item.status, note))
    about = f"all hold together at {level_text(found.level)}"
    title = f"True {TARGET_NAMES[found.target]} of each {found.by}"
    grey = "grey: cannot be the best" if any(row["style"] == "quiet" for row in rows) else ""
    yield from _forest("candidates", title, rows, units, about, grey)
    gaps = [
        _row(str(item.value), ends(gap), gap.mean, "certified", gap.status)
        for item in found.candidates
        if (gap := item.comparison) is not None
    ]
    title = f"Each {found.by} less {found.leader}, the leader"
    about = f"each holds on its own at {level_text(found.level)}"
    worse = "left of 0: worse than the leader"
    yield from _forest("differences", title, gaps, units, about, worse, zero=True)
    if len(found.candidates) > 1 and any(item.lower is not None for item in found.candidates):
        yield _matrix(found)


_MARKS = {
    "above": "▲",
    "below": "▼",
    "seems above": "△",
    "seems below": "▽",
    "not told apart": "·",
    "itself": "",
}


def _matrix(found: Selection) -> Chart:
    """Which candidate is above which, by what holds together."""
    shown = found.candidates[:_MOST]
    names = [str(item.value) for item in shown]
    cells = []
    for one in shown:
        for other in shown:
            verdict = _apart(one, other) if one is not other else "itself"
            cell = {"row": str(one.value), "column": str(other.value), "verdict": verdict}
            tone = verdict if verdict in ("above", "below") else "not told apart"
            cells.append({**cell, "mark": _MARKS[verdict], "tone": tone})
    axis = {"type": "nominal", "sort": names}
    base = {
        "y": {**axis, "field": "row", "title": found.by.replace("_", " ")},
        "x": {
            **axis,
            "field": "column",
            "title": f"against {found.by.replace('_', ' ')}",
            "axis": {"labelAngle": 0} if len(names) < 16 else {},
        },
    }
    layers = [
        {
            "transform": [keep("tone", tone)],
            "mark": {"type": "rect", "style": style, "opacity": opacity},
            "encoding": {**base, "tooltip": said(row="this", verdict="is", column="against")},
        }
        for tone, style, opacity in (
            ("above", "certified", 0.45),
            ("below", "learned", 0.4),
            ("not told apart", "line", 0.35),
        )
    ]
    mark = {"type": "text", "style": "ink", "fontSize": 13}
    layers.append({"mark": mark, "encoding": {**base, "text": {"field": "mark"}}})
    told = sum(cell["verdict"] == "above" for cell in cells)
    words = "▲ the row is above the column · ▼ below · a dot: not told apart"
    if any(cell["verdict"].startswith("seems") for cell in cells):
        words += " · △ ▽ by an estimate"
    worth = f"All verdicts hold together at {level_text(found.level)}, with the certificates"
    if not any(item.status in _SOUND for item in found.candidates):
        worth = "Estimates, no guarantees"
    few = f"The first {_MOST} of {len(found.candidates)}" if len(found.candidates) > _MOST else ""
    return chart(
        "matrix",
        "Who is told apart from whom",
        f"Of {len(names)} candidates, {told} pairs are told apart. {words}.",
        {"data": values(cells), "layer": layers},
        subtitle=[
            worth,
            words,
            few,
        ],
        height={"step": 26},
    )


def _apart(one: Candidate, other: Candidate) -> str:
    """Say what holds of two candidates: by an exclusion, or by certificates that do not meet."""
    for low, high, word in ((one, other, "below"), (other, one, "above")):
        out, both = low.excluded, (ends(low), ends(high))
        if out is not None and out.by == high.value:
            return word if out.status in _SOUND else f"seems {word}"
        if both[0] and both[1] and both[0][1] < both[1][0]:
            sound = low.status in _SOUND and high.status in _SOUND
            return word if sound else f"seems {word}"
    return "not told apart"


def comparison_charts(found: PolicyComparison) -> Iterator[Chart]:
    """Return both differences of a comparison, on one axis where they have one scale."""
    less = f"{found.a.name} less {found.b.name}"
    about = f"both hold together at {level_text(found.level)}"
    true, learned = found.difference, found.learned_difference
    rows = [
        _row("true", ends(true), true.mean, "certified", true.status),
        _row("learned", ends(learned), learned.mean, "learned", learned.status),
    ]
    units = wording.units_of(found.a.certificate)
    if wording.one_scale(found.a.certificate):
        yield from _forest("comparison", less, rows, units, about, zero=True)
        return
    title = f"{less}, true reward"
    yield from _forest("comparison", title, rows[:1], units, about, zero=True)
    title = f"{less}, learned reward"
    yield from _forest("learned", title, rows[1:], "reward units", about, zero=True)


def _level(delta: float) -> str:
    return level_text(1 - delta)


def _row(
    name: str,
    both: Ends | None,
    point: float | None,
    style: str,
    status: Status | str | None,
    note: str = "",
) -> dict[str, Any]:
    low, high = (None, None) if both is None else both
    row = {"row": name, "lower": low, "upper": high, "point": point, "style": style}
    return {**row, "status": str(status or Status.VACUOUS), "note": note}


def _forest(
    name: str,
    title: str,
    rows: Sequence[dict[str, Any]],
    units: str,
    together: str,
    about: str = "",
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
    _label(rows, span, one_status := _one(known))
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
    tooltip = said(row="what", label=units, status="status", note="note")
    across = {"y": y, "x": x, "x2": {"field": "upper"}, "tooltip": tooltip}
    layers: list[dict[str, Any]] = []
    if zero:
        layers.append(level_line(0, "x", {"style": "quiet", "strokeDash": [2, 3]}))
    layers += _bars(known, across)
    if any(row["point"] is not None for row in rows):
        mark = {"type": "point", "shape": "diamond", "filled": True, "size": 70}
        layers.append(
            {
                "transform": [{"filter": {"field": "point", "valid": True}}],
                "mark": mark | {"style": "ink", "opacity": 1},
                "encoding": {"y": y, "x": {**x, "field": "point"}, "tooltip": tooltip},
            }
        )
    for left in (True, False):
        mark = {"type": "text", "align": "left" if left else "right", "dy": -11, "fontSize": 11}
        shown = {"y": y, "x": {**x, "field": "at"}, "text": {"field": "label"}}
        layers.append({"transform": [keep("left", left)], "mark": mark, "encoding": shown})
    words = [f"Diamonds: {_POINTS.get(name, 'measured')}"] * any(
        row["point"] is not None for row in rows
    )
    words += [about] if about else []
    some = any(row["status"] == Status.ESTIMATED for row in known) and not one_status
    words += ["outlined: an estimate"] * some
    below = " · ".join(words)
    which = f"{one_status}; " if one_status else ""
    which = f"{which}{together}" if one_status != Status.ESTIMATED else "estimates, no guarantees"
    told = "; ".join(f"{row['row']} {row['label']}" for row in rows[:12])
    yield chart(
        name,
        title,
        f"Intervals in {units}: {told}.",
        {"data": values(rows), "layer": layers},
        subtitle=[which[:1].upper() + which[1:], below[:1].upper() + below[1:]],
        height={"step": _STEP},
    )


_POINTS = {"candidates": "measured learned reward", "slices": "mean of what is known"}
_POINTS |= {"differences": "measured", "comparison": "estimate", "learned": "estimate"}


def _one(rows: Sequence[dict[str, Any]]) -> str:
    """Return the status that all intervals have, or "" where they differ."""
    found = {row["status"] for row in rows}
    word = found.pop() if len(found) == 1 else ""
    return _word(word)


def _word(status: str) -> str:
    return {Status.VACUOUS: "of the learned reward alone"}.get(status, status)


def _label(rows: Sequence[dict[str, Any]], span: Sequence[float], one_status: str) -> None:
    """Give every row its words, and the place where they start or end."""
    widths = [row["upper"] - row["lower"] for row in rows if row["lower"] is not None]
    digits = decimals_for(min(widths), steps=20)
    for row in rows:
        if row["lower"] is None or row["upper"] is None:
            row |= {"label": row["note"] or _NOTHING, "at": span[0], "left": True}
            continue
        parts = [interval(row["lower"], row["upper"], digits)]
        parts += [] if one_status else [_word(row["status"])]
        row["label"] = ", ".join([*parts, *([row["note"]] if row["note"] else [])])
        row["left"] = starts_left(row["lower"], span)
        row["at"] = row["lower"] if row["left"] else row["upper"]


def _bars(known: Sequence[dict[str, Any]], across: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the bars of each kind; what is an estimate is an outline."""
    for style, size in (("certified", 8), ("learned", 5), ("quiet", 4)):
        for sound in (True, False):
            kind = f"{style}{'' if sound else ' estimated'}"
            mine = [row for row in known if row["style"] == style]
            mine = [row for row in mine if (row["status"] != Status.ESTIMATED) == sound]
            for row in mine:
                row["kind"] = kind
            mark = {"type": "bar", "style": style, "height": size, "minBandSize": 2}
            if not sound:
                mark |= {"filled": False, "strokeWidth": 1.5}
            if mine:
                yield {"transform": [keep("kind", kind)], "mark": mark, "encoding": across}

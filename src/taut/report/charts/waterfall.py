"""A certificate as a waterfall: what was measured, what each error takes, what is certified."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from taut.auditing.certificate import Certificate
from taut.report import wording
from taut.report.charts.chart import Chart, chart, padded, starts_left, values
from taut.report.digits import decimals_for, down, interval, level_text, near, up
from taut.report.names import TARGET_NAMES, TERM_NAMES
from taut.report.wording import ends
from taut.types import Status

_STEP = 44  # pixels a row: a bar, and its numbers above it


def certificate_charts(found: Certificate) -> Iterator[Chart]:
    """Return the charts of one certificate."""
    rows = _rows(found)
    if rows:
        yield _waterfall(found, rows)


def _rows(found: Certificate) -> list[dict[str, Any]]:
    """Return the bars from above: measured, each term on top of those before it, certified."""
    measured, digits = wording.measured_of(found), wording.table_decimals(found)
    rows: list[dict[str, Any]] = []
    if measured is not None:
        rows.append(
            {
                "row": "measured",
                "kind": "measured",
                "lower": measured,
                "upper": measured,
                "label": near(measured, digits),
            }
        )
        rows += _term_rows(found, measured)
    if wording.learned_only(found):
        proxy = ends(wording.proxy_of(found))
        if proxy:
            rows.append(_bar("learned reward only", "proxy", proxy, digits))
    certified = ends(found.certificate)
    if certified:
        name = f"true {TARGET_NAMES[found.target]}"
        status = wording.status_of(found)
        rows.append(_bar(name, "certificate", certified, digits, f" {status}"))
    return rows


def _bar(
    row: str, kind: str, bounds: tuple[float, float], digits: int, note: str = ""
) -> dict[str, Any]:
    text = interval(*bounds, digits) + note
    return {"row": row, "kind": kind, "lower": bounds[0], "upper": bounds[1], "label": text}


def _term_rows(found: Certificate, measured: float) -> Iterator[dict[str, Any]]:
    """Yield the terms, each from where the ones before it left off."""
    entries = [(name, both) for name, term in found.terms.named() if (both := ends(term))]
    widths = [high - low for _, (low, high) in entries]
    digits = decimals_for(max(widths, default=None), steps=100)
    low = high = measured
    for name, both in entries:
        low, high = low + both[0], high + both[1]
        label = f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"
        row = {"row": TERM_NAMES[name], "kind": "term", "lower": low, "upper": high}
        yield {**row, "label": label}


def _waterfall(found: Certificate, rows: list[dict[str, Any]]) -> Chart:
    units = wording.units_of(found)
    span = padded([end for row in rows for end in (row["lower"], row["upper"])])
    for row in rows:
        # A label starts at its bar where there is room, and ends there where there is not.
        row["left"] = starts_left(row["lower"], span)
        row["at"] = row["lower"] if row["left"] else row["upper"]
    for before, row in pairwise(rows):
        if row["kind"] in ("term", "certificate"):
            row["from"] = (before["lower"] + before["upper"]) / 2
            row["to"] = (row["lower"] + row["upper"]) / 2
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
    across = {"y": y, "x": x, "x2": {"field": "upper"}, "tooltip": _tooltip(units)}
    moved = {"y": y, "x": {**x, "field": "from"}, "x2": {"field": "to"}}
    layers: list[dict[str, Any]] = [
        {
            "transform": [_of("term")],
            "mark": {"type": "rule", "style": "quiet", "strokeWidth": 1.5, "strokeDash": [4, 3]},
            "encoding": moved,
        }
    ]
    for kind, style, size in (
        ("term", "quiet", 10),
        ("proxy", "learned", 12),
        ("certificate", "certified", 14),
    ):
        mark = {"type": "bar", "style": style, "height": size, "minBandSize": 2}
        if kind == "certificate" and wording.status_of(found) == Status.ESTIMATED:
            mark |= {"filled": False, "strokeWidth": 2}  # an outline: no guarantee
        layers.append({"transform": [_of(kind)], "mark": mark, "encoding": across})
    layers.append(
        {
            "transform": [_of("measured")],
            "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 110}
            | {"style": "learned", "opacity": 1},
            "encoding": {"y": y, "x": x, "tooltip": _tooltip(units)},
        }
    )
    for left in (True, False):
        mark = {"type": "text", "align": "left" if left else "right", "dy": -15}
        shown = {"y": y, "x": {**x, "field": "at"}, "text": {"field": "label"}}
        layers.append(
            {
                "transform": [{"filter": {"field": "left", "equal": left}}],
                "mark": mark,
                "encoding": shown,
            }
        )
    return chart(
        "waterfall",
        f"From measured to true {TARGET_NAMES[found.target]}",
        _told(found, rows),
        {"data": values(rows), "layer": layers},
        subtitle=f"Each error begins where the one above left off; {_worth(found)}",
        height={"step": _STEP},
    )


def _worth(found: Certificate) -> str:
    """Say what the last bar is worth."""
    status, level = wording.status_of(found), level_text(found.level)
    words = {
        Status.CERTIFIED: f"holds at {level}",
        Status.CONDITIONAL: f"holds at {level}, under named assumptions",
        Status.ESTIMATED: "an outline is an estimate, no guarantee",
    }
    return words.get(status, "nothing is known of the true one")


def _of(kind: str) -> dict[str, Any]:
    return {"filter": {"field": "kind", "equal": kind}}


def _tooltip(units: str) -> list[dict[str, str]]:
    return [
        {"field": "row", "type": "nominal", "title": "what"},
        {"field": "label", "type": "nominal", "title": units},
    ]


def _told(found: Certificate, rows: list[dict[str, Any]]) -> str:
    said = "; ".join(f"{row['row']} {row['label']}" for row in rows)
    return f"Waterfall in {wording.units_of(found)}, from measured to true: {said}."

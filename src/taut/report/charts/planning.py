"""Pictures to decide by: the clip threshold's curve, and width over budget."""

from collections.abc import Iterator
from typing import Any

from taut.decisions.budget.result import Plan
from taut.decisions.threshold.result import ClipThreshold
from taut.report.charts.chart import Chart, chart, values
from taut.report.digits import short

_HEIGHT = 280
_FORMS = ("paper's form", "measured form", "its clipping")


def threshold_charts(found: ClipThreshold) -> Iterator[Chart]:
    """Return sampling and clipping error over tau, with the choices and common constants."""
    rows = [
        {"tau": point.tau, "height": height, "form": form}
        for point in found.curve
        for form, height in zip(
            _FORMS, (point.paper_total, point.total, point.clipping), strict=True
        )
    ]
    if not rows:
        return
    right = max(point.tau for point in found.curve)
    constants = [
        {"tau": item.constant, "name": f"±{short(item.constant)}"}
        for item in found.sequence
        if item.constant < right
    ]
    marks = [
        {"tau": found.chosen.tau, "height": found.chosen.total, "form": _FORMS[1]}
        | {"name": f"chosen τ = {short(found.chosen.tau)}"},
        {"tau": found.paper.point.tau, "height": found.paper.point.paper_total, "form": _FORMS[0]}
        | {"name": f"paper's τ* = {short(found.paper.point.tau)}"},
    ]
    marks = [row for row in marks if row["tau"] <= right]
    x = {
        "field": "tau",
        "type": "quantitative",
        "title": "clip threshold τ, nats",
        "scale": {"domain": [0, right], "nice": False},
    }
    y = {
        "field": "height",
        "type": "quantitative",
        "title": "forecast half-width, reward units",
        "scale": {"zero": True},
    }
    colour = {
        "field": "form",
        "type": "nominal",
        "scale": {"domain": [_FORMS[0], _FORMS[1], _FORMS[2]]},
        "legend": {"orient": "top", "title": None},
    }
    dash = {"field": "form", "type": "nominal", "legend": None}
    dash["scale"] = {"domain": list(_FORMS), "range": [[6, 3], [1, 0], [2, 2]]}
    layers: list[dict[str, Any]] = [
        {
            "data": values(constants),
            "mark": {"type": "rule", "style": "line", "strokeDash": [2, 4]},
            "encoding": {"x": x},
        },
        {
            "data": values(constants),
            "mark": {"type": "text", "style": "quiet-text", "align": "left", "dx": 2, "y": 8},
            "encoding": {"x": x, "text": {"field": "name"}},
        },
        {
            "data": values(rows),
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash},
        },
        {
            "data": values(marks),
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {
            "data": values(marks),
            "mark": {"type": "text", "align": "left", "dx": 8, "dy": 14},
            "encoding": {"x": x, "y": y, "text": {"field": "name"}},
        },
    ]
    told = "; ".join(f"{row['name']} at ±{row['height']:.3g}" for row in marks)
    yield chart(
        "threshold",
        "Where to clip: sampling and clipping error together",
        f"Forecast half-width over the clip threshold: {told}.",
        {"layer": layers},
        subtitle="Common constants of trainers are marked",
        height=_HEIGHT,
    )


def plan_charts(found: Plan) -> Iterator[Chart]:
    """Return the forecast width over the budget, and over rollouts a prompt."""
    money = [{"x": row.budget, "width": row.width} for row in found.by_budget]
    forecast = found.forecast
    mine = {"x": found.budget, "width": forecast.width}
    mine |= {"lower": forecast.lower, "upper": forecast.upper}
    asked = None if found.asked is None else found.asked.width
    title = "How narrow a certificate the budget buys"
    yield _curve("budget", title, money, mine, f"budget, {found.costs.unit}", asked)
    several = [{"x": row.rollouts, "width": row.width} for row in found.by_rollouts]
    if len(several) > 1:
        mine = {"x": found.chosen.rollouts, "width": found.chosen.width}
        title = "Rollouts a prompt at this budget"
        yield _curve("rollouts", title, several, mine, "rollouts per prompt, K", asked)


def _curve(
    name: str,
    title: str,
    rows: list[dict[str, Any]],
    mine: dict[str, Any],
    across: str,
    asked: float | None,
) -> Chart:
    x = {"field": "x", "type": "quantitative", "title": across, "scale": {"zero": False}}
    y = {"field": "width", "type": "quantitative", "title": "forecast width, reward units"}
    y["scale"] = {"zero": True}
    layers: list[dict[str, Any]] = [
        {
            "data": values(rows),
            "mark": {"type": "line", "style": "certified", "strokeWidth": 2}
            | {"point": {"filled": True, "style": "certified"}},
            "encoding": {"x": x, "y": y},
        }
    ]
    if "lower" in mine:
        ends = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}}
        rule = {"type": "rule", "style": "learned", "strokeWidth": 2}
        layers.append({"data": values([mine]), "mark": rule, "encoding": ends})
    layers.append(
        {
            "data": values([{**mine, "name": "this plan"}]),
            "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 110}
            | {"style": "learned", "opacity": 1},
            "encoding": {"x": x, "y": y},
        }
    )
    layers.append(
        {
            "data": values([{**mine, "name": "this plan"}]),
            "mark": {"type": "text", "align": "left", "dx": 9, "dy": -9},
            "encoding": {"x": x, "y": y, "text": {"field": "name"}},
        }
    )
    if asked is not None:
        mark = {"type": "rule", "style": "quiet", "strokeDash": [4, 3]}
        layers.append({"mark": mark, "encoding": {"y": {"datum": asked, "type": "quantitative"}}})
    told = f"At {mine['x']:,.6g} {across} the forecast width is {mine['width']:.3g}."
    return chart(name, title, told, {"layer": layers}, height=_HEIGHT)

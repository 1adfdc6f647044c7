"""Pictures to decide by: the clip threshold's curve, and width over budget."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from taut.decisions.budget.result import Plan
from taut.decisions.threshold.result import ClipThreshold
from taut.report.charts.chart import Chart, chart, keep, level_line, said, upright, values
from taut.report.digits import decimals_for, plus_minus, short, up

_HEIGHT = 280
_FORMS = ("paper's form", "measured form", "its clipping")


def threshold_charts(found: ClipThreshold) -> Iterator[Chart]:
    """Return sampling and clipping error over tau, with the choices and common constants."""
    digits = decimals_for(2 * found.chosen.total, steps=100)
    rows = [
        {"tau": point.tau, "height": height, "form": form, "at": short(point.tau)}
        | {"said": plus_minus(height, digits)}
        for point in found.curve
        for form, height in zip(
            _FORMS, (point.paper_total, point.total, point.clipping), strict=True
        )
    ]
    if not rows:
        return
    right = max(point.tau for point in found.curve)
    inside = [item for item in found.sequence if item.constant < right]
    beyond = [
        f"±{short(item.constant)}: {plus_minus(item.point.total, digits)}"
        for item in found.sequence
        if item not in inside
    ]
    ours, theirs = found.chosen, found.paper.point
    marks = [
        {"tau": ours.tau, "height": ours.total, "form": _FORMS[1]}
        | {"name": f"chosen τ = {short(ours.tau)}", "said": plus_minus(ours.total, digits)},
        {"tau": theirs.tau, "height": theirs.paper_total, "form": _FORMS[0]}
        | {"name": f"paper's τ* = {short(theirs.tau)}"}
        | {"said": plus_minus(theirs.paper_total, digits)},
    ]
    for row in marks:
        row["left"] = row["tau"] <= 0.6 * right
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
    legend = {"orient": "top", "title": None, "symbolType": "stroke", "symbolSize": 300}
    colour = {"field": "form", "type": "nominal", "legend": legend}
    colour["scale"] = {"domain": list(_FORMS)}
    dash = {"field": "form", "type": "nominal", "legend": legend}
    dash["scale"] = {"domain": list(_FORMS), "range": [[6, 3], [1, 0], [2, 2]]}
    layers: list[dict[str, Any]] = [
        layer
        for line, item in enumerate(inside)
        for layer in upright(item.constant, f"±{short(item.constant)}", line, [0, right])
    ]
    layers.append(
        {
            "data": values(rows),
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash}
            | {"tooltip": said(form="form", at="τ, nats", said="half-width")},
        }
    )
    for form, style in zip(_FORMS, ("learned", "certified"), strict=False):
        kept = [keep("form", form)]
        mark = {"type": "point", "style": style, "filled": True, "size": 80, "opacity": 1}
        shown = {"x": x, "y": y, "tooltip": said(name="here", said="half-width")}
        layers.append(
            {"data": values(marks), "transform": kept, "mark": mark, "encoding": shown},
        )
    # The paper's curve has its lowest place there, and ours has another curve below.
    for form, left in product(_FORMS[:2], (True, False)):
        below = form == _FORMS[0]
        mark = {"type": "text", "align": "left" if left else "right", "dy": 16 if below else -12}
        shown = {"x": x, "y": y, "text": {"field": "name"}}
        kept = [keep("form", form), keep("left", left)]
        layers.append({"data": values(marks), "transform": kept, "mark": mark, "encoding": shown})
    told = "; ".join(f"{row['name']} at {row['said']}" for row in marks)
    yield chart(
        "threshold",
        "Where to clip: sampling and clipping error together",
        f"Forecast half-width over the clip threshold, reward units: {told}.",
        {"layer": layers},
        subtitle=[
            "Upright: constants that trainers come with",
            f"Beyond the right edge {', '.join(beyond)}" if beyond else "",
        ],
        height=_HEIGHT,
    )


def plan_charts(found: Plan) -> Iterator[Chart]:
    """Return the forecast width over the budget, and over rollouts a prompt."""
    money = [_point(row.budget, row.width) for row in found.by_budget]
    forecast = found.forecast
    mine = _point(found.budget, forecast.width)
    mine |= {"lower": forecast.lower, "upper": forecast.upper}
    asked = None if found.asked is None else found.asked.width
    title = "How narrow a certificate the budget buys"
    about = "Upright: where the width will probably fall"
    yield _curve("budget", title, money, mine, f"budget, {found.costs.unit}", asked, about)
    several = [_point(row.rollouts, row.width) for row in found.by_rollouts]
    if len(several) > 1:
        mine = _point(found.chosen.rollouts, found.chosen.width)
        title = "Rollouts a prompt at this budget"
        yield _curve("rollouts", title, several, mine, "rollouts per prompt, K", asked, "")


def _point(at: float, width: float) -> dict[str, Any]:
    digits = decimals_for(width, steps=100)
    return {"x": at, "width": width, "at": f"{at:,.6g}", "said": up(width, digits)}


def _curve(
    name: str,
    title: str,
    rows: list[dict[str, Any]],
    mine: dict[str, Any],
    across: str,
    asked: float | None,
    about: str,
) -> Chart:
    x = {"field": "x", "type": "quantitative", "title": across, "scale": {"zero": False}}
    if name == "rollouts":
        x["axis"] = {"tickMinStep": 1}
    y = {"field": "width", "type": "quantitative", "title": "forecast width, reward units"}
    y["scale"] = {"zero": True}
    tooltip = said(at=across, said="width")
    layers: list[dict[str, Any]] = [
        {
            "data": values(rows),
            "mark": {"type": "line", "style": "certified", "strokeWidth": 2}
            | {"point": {"filled": True, "style": "certified"}},
            "encoding": {"x": x, "y": y, "tooltip": tooltip},
        }
    ]
    if "lower" in mine:
        ends = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}}
        rule = {"type": "rule", "style": "learned", "strokeWidth": 2}
        layers.append({"data": values([mine]), "mark": rule, "encoding": ends})
    falls = rows[-1]["width"] <= rows[0]["width"]  # the name stands where the curve does not
    mark = {"type": "point", "shape": "diamond", "filled": True, "size": 110, "opacity": 1}
    words = {"type": "text", "align": "left", "dx": 9, "dy": -12 if falls else 16}
    plan = values([{**mine, "name": f"this plan: {mine['said']}"}])
    layers += [
        {
            "data": plan,
            "mark": mark | {"style": "learned"},
            "encoding": {"x": x, "y": y, "tooltip": tooltip},
        },
        {"data": plan, "mark": words, "encoding": {"x": x, "y": y, "text": {"field": "name"}}},
    ]
    wanted = ""
    if asked is not None:
        wanted = f"dashed: the width asked for, {short(asked)}"
        layers.append(level_line(asked, "y", {"style": "quiet", "strokeDash": [4, 3]}))
    told = f"At {mine['at']} {across} the forecast width is {mine['said']} reward units."
    below = " · ".join(text for text in (about, wanted) if text)
    return chart(
        name, title, told, {"layer": layers}, subtitle=below[:1].upper() + below[1:], height=_HEIGHT
    )

"""A chart: its name, its words, and its specification in Vega-Lite as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taut.report.charts.theme import SCHEMA, config


@dataclass(frozen=True)
class Chart:
    """One picture of a result.

    Attributes:
        name: How it is asked for, such as "waterfall".
        title: What it shows.
        description: One sentence with its numbers, for who cannot see it.
        spec: Vega-Lite, version 6, whole and with its data; light colours, as wide as its place.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]


def chart(
    name: str,
    title: str,
    description: str,
    body: Mapping[str, Any],
    *,
    subtitle: str | Sequence[str] = "",
    height: int | Mapping[str, Any] | None = None,
) -> Chart:
    """Return a chart from what is its own: layers and data.

    Args:
        name: How it is asked for.
        title: What it shows.
        description: One sentence for who cannot see it.
        body: `data`, and `layer` or `mark` and `encoding`.
        subtitle: Stands below the title, one line or several.
        height: Pixels, or a step a row.
    """
    below = subtitle if isinstance(subtitle, str) else [line for line in subtitle if line]
    heading = {"text": title, **({"subtitle": below} if below else {})}
    spec: dict[str, Any] = {
        "$schema": SCHEMA,
        "title": heading,
        "description": description,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
    }
    if height is not None:
        spec["height"] = dict(height) if isinstance(height, Mapping) else height
    return Chart(name, title, description, {**spec, **body, "config": config()})


def values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as inline data."""
    return {"values": [dict(row) for row in rows]}


def padded(numbers: Sequence[float], share: float = 0.06) -> list[float]:
    """Return the ends of an axis that holds all numbers, with room at both ends."""
    low, high = min(numbers), max(numbers)
    room = share * (high - low) or max(abs(high), 1.0) * share
    return [low - room, high + room]


# Of a layer that is drawn once, and not once for each row of the chart's data.
ONCE = {"values": [{}]}


def said(**fields: str) -> list[dict[str, str]]:
    """Return a tooltip of texts that are ready: field and its title."""
    return [
        {"field": field, "type": "nominal", "title": title.replace("_", " ")}
        for field, title in fields.items()
    ]


def keep(field: str, value: object) -> dict[str, Any]:
    """Return the transform that keeps the rows whose field has a value."""
    return {"filter": {"field": field, "equal": value}}


def starts_left(lower: float, span: Sequence[float]) -> bool:
    """Whether a label that starts at a bar's lower end has room before the right edge."""
    return lower <= span[0] + 0.6 * (span[1] - span[0])


def upright(at: float, text: str, line: int, span: Sequence[float]) -> list[dict[str, Any]]:
    """Return the layers of a line at one place of the abscissa, with its words at the top.

    Args:
        at: Where, in the units of the abscissa.
        text: What it says.
        line: Which line of words from above, where several stand near each other.
        span: Ends of the abscissa: words beyond its middle stand left of the line.
    """
    left = at > span[0] + 0.64 * (span[1] - span[0])
    x = {"x": {"datum": at, "type": "quantitative"}}
    mark = {"type": "rule", "style": "quiet", "strokeDash": [4, 3]}
    note = {"type": "text", "style": "quiet-text", "align": "right" if left else "left"}
    note |= {"dx": -4 if left else 4, "y": 8 + 14 * line}
    down = {"y": {"value": 1 + 14 * line}, "y2": {"value": "height"}}  # past words to its left
    return [
        {"data": ONCE, "mark": mark, "encoding": {**x, **down}},
        {"data": ONCE, "mark": note, "encoding": {**x, "text": {"value": text}}},
    ]


def level_line(at: float, axis: str, mark: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer of a straight line at one place of an axis, "x" or "y"."""
    encoding = {axis: {"datum": at, "type": "quantitative"}}
    return {"data": ONCE, "mark": {"type": "rule", **mark}, "encoding": encoding}

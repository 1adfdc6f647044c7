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
    subtitle: str = "",
    height: int | Mapping[str, Any] | None = None,
) -> Chart:
    """Return a chart from what is its own: layers and data.

    Args:
        name: How it is asked for.
        title: What it shows.
        description: One sentence for who cannot see it.
        body: `data`, and `layer` or `mark` and `encoding`.
        subtitle: Stands below the title.
        height: Pixels, or a step a row.
    """
    heading = {"text": title, **({"subtitle": subtitle} if subtitle else {})}
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

"""How every chart looks: colours for light and dark, type, sizes. No chart names a colour itself.

The colours are Okabe and Ito's, which colour-blind readers tell apart, and each of them goes with
a shape, a dash or a word, so that nothing is lost in grey print.
"""

from collections.abc import Mapping
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH = 640  # pixels, where nothing says how wide the place is

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"

# Role -> (light, dark). Marks name roles by `style`, and the theme gives them their colours.
_INK = {
    "ink": ("#1d2430", "#e6e9ef"),
    "quiet": ("#667085", "#9aa4b5"),
    "line": ("#d5dae2", "#3a4252"),
    "certified": ("#0072b2", "#56b4e9"),
    "learned": ("#d55e00", "#f0915a"),
    "truth": ("#00795c", "#3cc9a0"),
    "doubt": ("#8c6d00", "#e6c84f"),
}


def colour(role: str, *, dark: bool = False) -> str:
    """Return the colour of a role: ink, quiet, line, certified, learned, truth or doubt."""
    return _INK[role][dark]


def config(*, dark: bool = False) -> dict[str, Any]:
    """Return the part of a specification that says how it looks.

    Args:
        dark: For a dark ground.
    """
    ink, quiet, line = (colour(role, dark=dark) for role in ("ink", "quiet", "line"))
    named = {role: {"color": colour(role, dark=dark)} for role in _INK}
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink,
            "titleColor": quiet,
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "domainColor": line,
            "tickColor": line,
            "gridColor": line,
            "gridOpacity": 0.6,
            "labelFlush": False,
            "labelSeparation": 10,
        },
        "title": {
            "color": ink,
            "subtitleColor": quiet,
            "anchor": "start",
            "fontSize": 14,
            "subtitleFontSize": 12,
            "offset": 10,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": 12,
            "titleColor": quiet,
            "titleFontWeight": "normal",
            "symbolStrokeWidth": 2,
        },
        "header": {"labelColor": ink, "titleColor": quiet},
        "text": {"color": ink, "fontSize": 12},
        "range": {
            "category": [
                colour(role, dark=dark) for role in ("learned", "certified", "truth", "doubt")
            ],
            "heatmap": [line, colour("certified", dark=dark)],
        },
        "style": {
            **named,
            "guide-label": {"fill": ink},
            "quiet-text": {"color": quiet, "fontSize": 11},
        },
    }


def themed(spec: Mapping[str, Any], *, dark: bool = False) -> dict[str, Any]:
    """Return a specification in the colours of a light or a dark ground."""
    return {**spec, "config": config(dark=dark)}


def sized(spec: Mapping[str, Any], width: int = WIDTH) -> dict[str, Any]:
    """Return a specification with its width in pixels, where the place does not say one.

    Args:
        spec: A chart's specification, whose width is "container".
        width: Pixels of what is drawn; axes stand beside it.
    """
    return {**spec, "width": width} if spec.get("width") == "container" else dict(spec)

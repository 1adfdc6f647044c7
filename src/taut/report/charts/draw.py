"""Charts as pictures: SVG and PNG by vl-convert, and Altair's objects for notebooks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taut.errors import UsageError
from taut.logs.write import whole_file
from taut.report.charts.chart import Chart
from taut.report.charts.theme import sized, themed

if TYPE_CHECKING:
    import altair

ENDINGS = (".svg", ".png")
_SCALE = 2.0  # pixels of a PNG for each of the chart
_PAPER = "#ffffff"
# All of one measure: a picture was laid out where it was drawn, not where it is shown.
_FONT = "Arial, Helvetica, 'Liberation Sans', Arimo, sans-serif"


def svg_of(chart: Chart, *, width: int = 640, dark: bool = False) -> str:
    """Return a chart as SVG.

    Raises:
        UsageError: vl-convert is not installed.
    """
    return _converter("a picture").vegalite_to_svg(_spec(chart, width, dark))


def save_chart(chart: Chart, path: str | os.PathLike[str], *, width: int = 640) -> None:
    """Write a chart as SVG or PNG, whole or not at all; the same chart gives the same bytes.

    Raises:
        UsageError: Another ending, or vl-convert is not installed.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{path}: expected a picture that ends in {' or '.join(ENDINGS)}.")
    # A file may be shown on any ground, so it brings its own.
    spec = _spec(chart, width, False)
    spec["config"] = spec["config"] | {"background": _PAPER}
    if ending == ".svg":
        data = _converter(path).vegalite_to_svg(spec).encode()
    else:
        data = _converter(path).vegalite_to_png(spec, scale=_SCALE)
    with whole_file(os.fspath(path)) as file:
        file.write(data)


def altair_of(chart: Chart, *, width: int = 640) -> "altair.TopLevelMixin":
    """Return a chart as an object of Altair, which notebooks show and which can be changed.

    Raises:
        UsageError: Altair is not installed.
    """
    try:
        import altair
    except ImportError as error:
        raise UsageError(f".chart() needs Altair: {_INSTALL}") from error
    return altair.Chart.from_dict(_spec(chart, width, False))


_INSTALL = "install taut with its extra 'report'."


def _spec(chart: Chart, width: int, dark: bool) -> dict[str, Any]:
    spec = themed(sized(chart.spec, width), dark=dark)
    spec["config"] = spec["config"] | {"font": _FONT}
    return spec


def _converter(what: object) -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError(f"{what} needs vl-convert: {_INSTALL}") from error
    return vl_convert

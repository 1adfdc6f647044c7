"""Pictures for papers and pages: PNG, SVG or PDF, drawn with matplotlib (extra `report`)."""

import os
from collections.abc import Callable
from pathlib import Path

from taut.errors import UsageError
from taut.logs.write import whole_file

FORMATS = (".png", ".svg", ".pdf")
INK, ACCENT, QUIET, WARM = "#2b303b", "#2f6fab", "#8a93a3", "#c0562f"


def save_plot(
    draw: Callable,
    path: str | os.PathLike,
    *,
    size: tuple[float, float] = (7.0, 4.0),
    columns: int = 1,
) -> None:
    """Draw a picture and write it whole or not at all; the same numbers give the same bytes.

    Args:
        draw: Called with the axes of the picture; with `columns` of them, with an array.
        path: File to write; its ending says the format.
        size: Inches across and down.
        columns: Panels side by side.

    Raises:
        UsageError: Another ending, or matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: expected a picture ending in {', '.join(FORMATS)}.")
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(f"{path}: a picture needs matplotlib; pip install '.[report]'.") from error
    style = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "font.size": 10,
        "svg.hashsalt": "taut",
        "svg.fonttype": "none",
    }
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained", dpi=150)
        FigureCanvasAgg(figure)
        draw(figure.subplots(1, columns))
        kind = path.suffix.lower().removeprefix(".")
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        with whole_file(os.fspath(path)) as file:
            figure.savefig(file, format=kind, metadata=undated)

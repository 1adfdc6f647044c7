"""What moves along a run: learned against certified over steps or √KL, with the turn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates
from taut.decisions.selection.result import Selection
from taut.report import wording
from taut.report.charts.chart import Chart, chart, keep, padded, said, upright, values
from taut.report.digits import decimals_for, interval, level_text, near, short
from taut.report.names import TARGET_NAMES
from taut.report.terminal.lab import has_turned
from taut.report.wording import Ends, ends
from taut.types import Status

_HEIGHT = 280
_BAR = "M-0.14,-1L0.14,-1L0.14,1L-0.14,1Z"  # upright, as a certificate stands over its step


@dataclass(frozen=True)
class _Run:
    """What moves along a run.

    Attributes:
        name, of, over: The chart's name, what is learned and certified, and over what.
        across, up: Titles of the axes, with units.
        about: How the certificates hold.
        marks: Places of the abscissa with words.
    """

    name: str
    of: str
    over: str
    across: str
    up: str
    about: str
    marks: Sequence[tuple[float, str]] = ()


def step_charts(found: Certificates) -> Iterator[Chart]:
    """Return learned reward and certificates over steps, where the groups are steps."""
    items = []
    for group in found.groups:
        if found.of != "law" or group.certificate is None or not isinstance(group.value, int):
            return
        items.append((group.value, _learned(group.certificate), group.certificate))
    yield from _steps(items, f"All hold together at {_level(found.delta)}", None)


def _learned(found: Certificate) -> float | None:
    """Return the measured value of the learned reward for the target, reward units."""
    if found.target == "reward" and not wording.one_scale(found):
        return found.measured.reward
    return wording.measured_of(found)


def selection_steps(found: Selection) -> Iterator[Chart]:
    """Return the candidates of a selection by step, with the choice."""
    if not all(isinstance(item.value, int) for item in found.candidates):
        return
    items = [(item.value, item.proxy, item.certificate) for item in found.candidates]
    about = f"All hold together at {level_text(found.level)}"
    yield from _steps(items, about, found.chosen)


def _steps(
    items: Sequence[tuple[int, float | None, Certificate]], about: str, chosen: int | str | None
) -> Iterator[Chart]:
    """Return one chart, or two where learned and true rewards have scales of their own."""
    rows = []
    for step, learned, item in items:
        both = None if wording.learned_only(item) else ends(item.certificate)
        rows.append(_step(step, learned, both, status=str(item.status)))
    if not rows:
        return
    first = items[0][2]
    target, units = TARGET_NAMES[first.target], wording.units_of(first)
    marks = [] if chosen is None else [(float(chosen), "chosen")]
    apart = not wording.one_scale(first) and any(row["lower"] is not None for row in rows)
    if apart:
        alone = [_step(row["x"], row["learned"], None) for row in rows]
        rows = [{**row, "learned": None} for row in rows]
        about += ". Learned reward has a scale, and a chart, of its own"
    at = _above_from(rows)
    marks += [] if at is None else [(at, "learned above certified")]
    run = _Run("steps", target, "steps", "training step", f"mean {target}, {units}", about, marks)
    yield from _chart(run, rows)
    if apart:
        up = f"mean learned {target}, reward units"
        yield from _chart(_Run("learned", target, "steps", "training step", up, ""), alone)


def lab_charts(found: Any) -> Iterator[Chart]:
    """Return an experiment (`taut.lab.outcome.Outcome`) over steps and over √KL, with the truth."""
    rows = [
        _step(
            item.step,
            item.proxy,
            (item.certificates["reward"].lower, item.certificates["reward"].upper),
            truth=item.truth.gold,
            status=item.certificates["reward"].status,
        )
        for item in found.steps
    ]
    about = f"All certificates hold together at {level_text(found.level)}"
    turn, choice, up = found.turn, found.selection.chosen, "mean reward, reward units"
    marks = [(float(turn.step), "true reward turns")] if has_turned(found) else []
    marks += [] if choice is None else [(float(choice), "chosen")]
    if turn.seen_from is not None:
        marks.append((float(turn.seen_from), "learned above certified"))
    yield from _chart(_Run("steps", "reward", "steps", "training step", up, about, marks), rows)
    roots = {item.step: max(item.kl, 0.0) ** 0.5 for item in found.steps}
    over_kl = [{**row, "x": roots[row["x"]]} for row in rows]
    marks = [(roots[at], text) for at, text in marks if at in roots]
    yield from _chart(
        _Run("kl", "reward", "√KL", "√KL to the reference, √nats", up, about, marks), over_kl
    )


def _step(
    at: float,
    learned: float | None,
    both: Ends | None,
    truth: float | None = None,
    status: str = "",
) -> dict[str, Any]:
    low, high = (None, None) if both is None else both
    row = {"x": at, "learned": learned, "lower": low, "upper": high, "truth": truth}
    return {**row, "estimate": status == Status.ESTIMATED}


def _above_from(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return from where on the learned reward is above every certificate, to the last."""
    at = None
    for row in reversed(rows):
        if row["upper"] is None or row["learned"] is None or row["learned"] <= row["upper"]:
            break
        at = float(row["x"])
    return at


def _level(delta: float) -> str:
    return level_text(1 - delta)


_SERIES = ("learned reward", "certified", "true reward")
_KEYS = (("learned", _SERIES[0]), ("lower", _SERIES[1]), ("truth", _SERIES[2]))
_NUMBERS = ("learned", "lower", "upper", "truth")


def _chart(run: _Run, rows: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    """Return learned points on a line, certificates as bars, and the truth where it is known."""
    numbers = [row[key] for row in rows for key in _NUMBERS if row[key] is not None]
    if len(rows) < 2 or not numbers:
        return
    rows = sorted(rows, key=lambda row: row["x"])
    texts = _told(rows)
    across = padded([row["x"] for row in rows], 0.03)
    x = {
        "field": "x",
        "type": "quantitative",
        "title": run.across,
        "scale": {"zero": False, "nice": False, "domain": across},
    }
    if run.over == "steps":
        x["axis"] = {"tickMinStep": 1}
    y = {"type": "quantitative", "title": run.up}
    low, high = padded(numbers)
    marks = _gathered(run.marks)
    high += 0.07 * len(marks) * (high - low)  # the words of the marks stand above the lines
    y["scale"] = {"domain": [low, high], "nice": False, "zero": False}
    series = [name for key, name in _KEYS if any(row[key] is not None for row in rows)]
    long = [
        {**row, "series": name, "said": text[key], "at": short(row["x"])}
        # A certificate has no point: its bar is its mark.
        | {"point": None if key == "lower" else row[key]}
        for row, text in zip(rows, texts, strict=True)
        for key, name in _KEYS
        if row[key] is not None
    ]
    tooltip = said(series="what", said=run.up, at=run.across)
    layers = [*_intervals(rows, x, y, tooltip), *_series(x, y, tooltip, series)]
    for line, (at, words) in enumerate(marks):
        layers += upright(at, words, line, across)
    guesses = [row["estimate"] for row in rows if row["lower"] is not None]
    about = "Estimates, no guarantees" if all(guesses) else run.about
    if not guesses:
        about = "Learned reward alone: as it was measured"
    dashed = "Dashed bars: estimates, no guarantees" if any(guesses) and not all(guesses) else ""
    first, last = texts[0], texts[-1]
    moved = [(name, key) for key, name in _KEYS if name in series]
    words = "; ".join(f"{name} {first[key]} at first, {last[key]} at last" for name, key in moved)
    words += "".join(f"; at {short(at)}: {text}" for at, text in marks)
    title = f"Learned against certified {run.of}"
    if not (_SERIES[1] in series and _SERIES[0] in series):
        title = f"{'Certified' if _SERIES[1] in series else 'Learned'} {run.of}"
    yield chart(
        run.name,
        f"{title} over {run.over}",
        f"Over {len(rows)} points: {words}.",
        {"data": values(long), "layer": layers},
        subtitle=[about, dashed],
        height=_HEIGHT,
    )


def _told(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return every number as the report shows it."""
    widths = [row["upper"] - row["lower"] for row in rows if row["lower"] is not None]
    digits = decimals_for(min(widths, default=None), steps=20)

    def both(row: dict[str, Any]) -> str:
        return "" if row["lower"] is None else interval(row["lower"], row["upper"], digits)

    def one(value: float | None) -> str:
        return "" if value is None else near(value, digits)

    return [
        {"learned": one(row["learned"]), "lower": both(row), "truth": one(row["truth"])}
        for row in rows
    ]


def _gathered(marks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the marks, those at one place with their words together."""
    places: dict[float, list[str]] = {}
    for at, words in marks:
        places.setdefault(at, []).append(words)
    return [(at, ", ".join(words)) for at, words in sorted(places.items())]


def _intervals(rows: Sequence[dict[str, Any]], x: dict, y: dict, tooltip: list) -> list[dict]:
    """Return the certificates: a bar over each step, dashed for an estimate, and a band."""
    if all(row["lower"] is None for row in rows):
        return []
    both = {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}}
    of = keep("series", _SERIES[1])
    band = {"type": "area", "style": "certified", "opacity": 0.15, "line": False}
    layers: list[dict[str, Any]] = [{"transform": [of], "mark": band, "encoding": both}]
    for estimate in sorted({row["estimate"] for row in rows if row["lower"] is not None}):
        mark = {"type": "rule", "style": "certified", "strokeWidth": 2 if estimate else 4}
        mark |= {"strokeDash": [3, 2]} if estimate else {}
        kept = [of, keep("estimate", estimate)]
        layers.append({"transform": kept, "mark": mark, "encoding": {**both, "tooltip": tooltip}})
    return layers


def _series(x: dict, y: dict, tooltip: list, series: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines of what is learned and what is true, and points that name all series."""
    layers: list[dict[str, Any]] = []
    for name, style, dash in ((_SERIES[0], "learned", [6, 3]), (_SERIES[2], "truth", [1, 0])):
        if name in series:
            mark = {"type": "line", "style": style, "strokeDash": dash, "strokeWidth": 2}
            line = {"x": x, "y": {**y, "field": "point"}}
            layers.append({"transform": [keep("series", name)], "mark": mark, "encoding": line})
    legend = {"orient": "top", "title": None, "values": list(series), "symbolSize": 120}
    colour = {"field": "series", "type": "nominal", "legend": legend}
    colour["scale"] = {"domain": list(_SERIES)}
    shape = {**colour, "scale": {"domain": list(_SERIES), "range": ["diamond", _BAR, "circle"]}}
    point = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    encoding = {"x": x, "y": {**y, "field": "point"}, "color": colour, "shape": shape}
    layers.append({"mark": point, "encoding": {**encoding, "tooltip": tooltip}})
    return layers

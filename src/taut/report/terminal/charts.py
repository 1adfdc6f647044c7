"""Small pictures made of characters: intervals on an axis, signed bars about zero.

Every picture takes the width that it is given. A picture shows numbers; it makes none.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

STATUS_STYLES = {
    "certified": "green",
    "conditional": "cyan",
    "estimated": "yellow",
    "vacuous": "red",
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "not_checked": "dim",
}

_PLAIN = {
    "−": "-", "–": "-", "—": "-", "…": "...", "·": "|", "×": "x", "±": "+/-", "≤": "<=",
    "≥": ">=", "→": "->", "←": "<-", "√": "sqrt", "∞": "inf", "²": "^2", "⁻": "^-", "§": "sec. ",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps", "η": "eta", "θ": "theta",
    "λ": "lambda", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi",
    "Δ": "Delta", "Σ": "sum ", "ℓ": "l", "Ĵ": "J^", "\u0302": "^", "\u0304": "",
    "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip

LEAST_PICTURE = 8  # cells in which an interval can still be told from a point

UNICODE_MARKS = {
    "certified": "●", "conditional": "◐", "estimated": "○", "vacuous": "×", "pass": "✓",
    "warn": "!", "fail": "×", "not_checked": "·", "point": "◆", "left": "◀", "right": "▶",
    "start": "┣", "end": "┫", "line": "━", "thin_start": "├", "thin_end": "┤", "thin": "─",
    "single": "┃", "guide": "┊", "zero": "│", "axis": "─", "tick": "┴", "half_left": "╸",
    "half_right": "╺", "cross": "┿", "thin_cross": "┼",
    "axis_tick": "┤",
}  # fmt: skip

ASCII_MARKS = {
    "certified": "*", "conditional": "+", "estimated": "~", "vacuous": "x", "pass": "v",
    "warn": "!", "fail": "x", "not_checked": "-", "point": "o", "left": "<", "right": ">",
    "start": "[", "end": "]", "line": "=", "thin_start": "|", "thin_end": "|", "thin": "-",
    "single": "#", "guide": ":", "zero": "|", "axis": "-", "tick": "+", "half_left": "=",
    "half_right": "=", "cross": "+", "thin_cross": "+",
    "axis_tick": "+",
}  # fmt: skip


def plain(text: str) -> str:
    """Return text in ASCII: Greek letters are spelled out, anything unknown becomes "?"."""
    spelled = "".join(_PLAIN.get(character, character) for character in text)
    if spelled.isascii():
        return spelled
    parts = (unicodedata.normalize("NFKD", character) for character in spelled)
    return "".join(
        character if character.isascii() else "?"
        for part in parts
        for character in part
        if not (len(part) > 1 and unicodedata.combining(character))
    )


def printable(text: object) -> str:
    """Return text on one line without control characters, which could drive the terminal."""
    flat = " ".join(str(text).split())
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in flat
    )


@dataclass(frozen=True, slots=True)
class Ink:
    """What can be drawn: how wide, and with which characters.

    Attributes:
        width: Cells in a line.
        ascii: The stream cannot take anything beyond ASCII.
    """

    width: int
    ascii: bool = False

    @property
    def narrow(self) -> bool:
        """Whether tables must drop their last columns."""
        return self.width < 72

    @property
    def wide(self) -> bool:
        """Whether notes and formulas fit beside numbers."""
        return self.width >= 84

    def mark(self, name: str) -> str:
        """Return the character of a mark."""
        return (ASCII_MARKS if self.ascii else UNICODE_MARKS)[name]

    def text(self, value: object, style: str = "") -> Text:
        """Return text that this stream can show; what is appended does not inherit its style."""
        shown = printable(value)
        return Text().append(plain(shown) if self.ascii else shown, style=style)

    def status(self, status: object, note: str = "") -> Text:
        """Return a status as a mark and a word, in its colour, with a quiet note."""
        word = printable(status)
        style = STATUS_STYLES.get(word, "")
        mark = self.mark(word) if word in UNICODE_MARKS else "-"
        text = self.text(f"{mark} {word.replace('_', ' ')}", style)
        return text.append("  ").append_text(self.text(note, "dim")) if note else text


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of the real line that a picture shows, in the units of its numbers."""

    lower: float
    upper: float

    def cell(self, value: float, width: int) -> int:
        """Return the cell of a value in a line of some width, cut at both ends."""
        place = (value - self.lower) / (self.upper - self.lower)
        return min(max(int(place * width), 0), width - 1)

    def ticks(self, most: int) -> list[float]:
        """Return about `most` round numbers on the axis, at least two."""
        step = _round_step((self.upper - self.lower) / max(most, 2))
        while math.floor(self.upper / step) - math.ceil(self.lower / step) < 1:
            step = _round_step(step / 2.5)
        first, last = math.ceil(self.lower / step), math.floor(self.upper / step)
        return [index * step for index in range(first, last + 1)]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def axis_for(ours: Sequence[float], others: Iterable[float] = (), *, stretch: float = 5) -> Axis:
    """Return an axis that shows our numbers whole and others as far as they fit.

    Args:
        ours: Numbers that must be seen.
        others: Numbers that may run off the picture.
        stretch: How many times as wide as `ours` the axis may become.
    """
    low, high = min(ours), max(ours)
    room = high - low
    if room <= 1e-12 * max(abs(low), abs(high), 1e-200):  # too near each other to be drawn apart
        room = max(abs(low), 1.0) * 0.1
    wide = room * stretch
    reach = [*others]
    lower = max(min([low, *reach]), low - (wide - room) / 2)
    upper = min(max([high, *reach]), high + (wide - room) / 2)
    margin = 0.04 * ((upper - lower) or room)
    return Axis(lower - margin, upper + margin)


class _Picture:
    """A line that fills the width it is given; its children say what stands in each cell."""

    least = LEAST_PICTURE

    def cells(self, width: int) -> list[tuple[str, str]]:
        raise NotImplementedError

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = Text(no_wrap=True)
        for character, style in self.cells(options.max_width):
            text.append(character, style=style)
        yield text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(self.least, options.max_width), options.max_width)


@dataclass(frozen=True)
class Span(_Picture):
    """An interval on an axis, with the measured point, and a guide line where it was measured.

    Attributes:
        ink: What can be drawn.
        axis: The stretch that is shown.
        bounds: Lower and upper end, or None to draw no interval.
        point: Where the measured point stands, or None.
        guide: Where a quiet vertical line runs through all rows, or None.
        style: Colour of the interval.
        heavy: Drawn with a heavy line.
    """

    ink: Ink
    axis: Axis
    bounds: tuple[float, float] | None = None
    point: float | None = None
    guide: float | None = None
    style: str = ""
    heavy: bool = True

    def cells(self, width: int) -> list[tuple[str, str]]:
        """Return one (character, style) per cell."""
        line = [(" ", "")] * width
        if self.guide is not None:
            line[self.axis.cell(self.guide, width)] = (self.ink.mark("guide"), "dim")
        if self.bounds is not None:
            self._draw_interval(line, width)
        if self.point is not None:
            line[self.axis.cell(self.point, width)] = (self.ink.mark("point"), "bold")
        return line

    def _draw_interval(self, line: list[tuple[str, str]], width: int) -> None:
        lower, upper = self.bounds
        first, last = self.axis.cell(lower, width), self.axis.cell(upper, width)
        kind = "" if self.heavy else "thin_"
        bar = self.ink.mark("line" if self.heavy else "thin")
        line[first : last + 1] = [(bar, self.style)] * (last - first + 1)
        if self.guide is not None and first < self.axis.cell(self.guide, width) < last:
            cross = self.ink.mark(f"{kind}cross")
            line[self.axis.cell(self.guide, width)] = (cross, self.style)
        line[first] = (self.ink.mark(f"{kind}start"), self.style)
        line[last] = (self.ink.mark(f"{kind}end"), self.style)
        if first == last:
            line[first] = (self.ink.mark("single"), self.style)
        if lower < self.axis.lower:
            line[first] = (self.ink.mark("left"), self.style)
        if upper > self.axis.upper:
            line[last] = (self.ink.mark("right"), self.style)


@dataclass(frozen=True)
class Ruler(_Picture):
    """The axis itself: its line, or the numbers below the line."""

    ink: Ink
    axis: Axis
    labels: bool

    def cells(self, width: int) -> list[tuple[str, str]]:
        """Return one (character, style) per cell."""
        ticks = self.axis.ticks(max(width // 7, 2))
        blank = " " if self.labels else self.ink.mark("axis")
        line = [(blank, "dim")] * width
        for tick in ticks:
            place = self.axis.cell(tick, width)
            if self.labels:
                self._write(line, place, _tick_text(tick, ticks), width)
            else:
                line[place] = (self.ink.mark("tick"), "dim")
        return line

    def _write(self, line: list[tuple[str, str]], place: int, label: str, width: int) -> None:
        shown = plain(label) if self.ink.ascii else label
        start = min(max(place - len(shown) // 2, 0), max(width - len(shown), 0))
        free = all(
            character == " " for character, _ in line[max(start - 1, 0) : start + len(shown)]
        )
        if free and len(shown) <= width:
            line[start : start + len(shown)] = [(character, "dim") for character in shown]


def _tick_text(tick: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(tick) or 1.0
    decimals = min(max(0, math.ceil(-math.log10(step) - 1e-9)), 6)
    return f"{tick + 0.0:.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class SignedBar(_Picture):
    """A signed interval about zero; a cell is drawn in halves.

    Attributes:
        ink: What can be drawn.
        bounds: Lower and upper end, or None for an empty line.
        reach: How far the line goes below and above zero, both at least 0.
        style: Colour of the bar.
    """

    ink: Ink
    bounds: tuple[float, float] | None
    reach: tuple[float, float]
    style: str = ""

    def cells(self, width: int) -> list[tuple[str, str]]:
        """Return one (character, style) per cell."""
        if width < 3:
            return [(" ", "")] * width
        below, above = self.reach
        share = below / (below + above) if below + above > 0 else 0.5
        zero = min(max(round(share * (width - 1)), 1), width - 2)
        scale = min(
            (
                2 * cells / reach
                for cells, reach in ((zero, below), (width - 1 - zero, above))
                if reach
            ),
            default=0.0,
        )
        filled = self._halves(scale)
        line = [
            self._cell(2 * (cell - zero) if cell < zero else 2 * (cell - zero - 1), filled)
            for cell in range(width)
        ]
        line[zero] = (self.ink.mark("zero"), "dim")
        return line

    def _halves(self, scale: float) -> range:
        """Return the half cells that are filled; half cell 0 is the first one above zero."""
        if self.bounds is None or self.bounds[0] == self.bounds[1]:
            return range(0)
        first, last = round(self.bounds[0] * scale), round(self.bounds[1] * scale)
        return range(first, last) if first < last else range(first, first + 1)

    def _cell(self, left: int, filled: range) -> tuple[str, str]:
        name = {
            (True, True): "line",
            (True, False): "half_left",
            (False, True): "half_right",
        }.get((left in filled, left + 1 in filled))
        return (self.ink.mark(name), self.style) if name else (" ", "")


@dataclass(frozen=True)
class Line:
    """One line of a chart: points in the order in which they are joined, and how they look."""

    points: Sequence[tuple[float, float]]
    style: str = ""
    dots: bool = False  # the points alone, not joined
    letter: str = "*"  # where there are neither dots nor colours


@dataclass(frozen=True)
class Chart:
    """Lines on two axes, drawn with dots: a cell holds two across and four down.

    Attributes:
        ink: What can be drawn.
        across, up: The stretches that are shown; what lies outside is cut off.
        lines: The lines, later ones over earlier ones.
        height: Cells from bottom to top, without the axis.
        across_name, up_name: What the axes show, with units.
    """

    ink: Ink
    across: Axis
    up: Axis
    lines: Sequence[Line]
    height: int = 9
    across_name: str = ""
    up_name: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ticks = self.up.ticks(max(self.height // 3, 2))
        labels = {self._row(tick): self.ink.text(_tick_text(tick, ticks)).plain for tick in ticks}
        margin = max(map(len, labels.values())) + 2
        width = max(options.max_width - margin, 4)
        if self.up_name:
            yield self.ink.text(self.up_name, "dim")
        for row, cells in enumerate(self._rows(width)):
            edge = self.ink.mark("axis_tick" if row in labels else "zero")
            text = Text(f"{labels.get(row, ''):>{margin - 2}} {edge}", style="dim", no_wrap=True)
            yield text + Text.assemble(*cells)
        for labelled in (False, True):
            ruler = Ruler(self.ink, self.across, labelled).cells(width)
            yield Text(" " * margin, no_wrap=True) + Text.assemble(*ruler)
        if self.across_name:
            name = self.ink.text(self.across_name, "dim")
            yield Text(" " * max(margin + width - len(name), 0)) + name

    def _row(self, value: float) -> int:
        return self.height - 1 - self.up.cell(value, self.height)

    def _rows(self, width: int) -> list[list[tuple[str, str]]]:
        dots = [[0] * width for _ in range(self.height)]
        styles = [[""] * width for _ in range(self.height)]
        letters = [[" "] * width for _ in range(self.height)]
        for line in self.lines:
            for x, y in self._places(line, width):
                row, cell = self.height - 1 - y // 4, x // 2
                dots[row][cell] |= _DOTS[x % 2][3 - y % 4]
                styles[row][cell], letters[row][cell] = line.style, line.letter
        shown = [[chr(0x2800 + dot) if dot else " " for dot in row] for row in dots]
        return [
            [*zip(row, line, strict=True)]
            for row, line in zip(letters if self.ink.ascii else shown, styles, strict=True)
        ]

    def _places(self, line: Line, width: int) -> Iterable[tuple[int, int]]:
        """Return the dots that a line covers, counted from the lower left corner."""
        size = (2 * width, 4 * self.height)
        spots = [self._spot(point, size) for point in line.points]
        joined = [] if line.dots else list(pairwise(spots))
        for (x0, y0), (x1, y1) in joined:
            steps = max(math.ceil(max(abs(x1 - x0), abs(y1 - y0))), 1)
            spots.extend(
                (x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps)
                for step in range(1, steps)
            )
        for x, y in spots:
            if 0 <= x <= size[0] and 0 <= y <= size[1]:
                yield min(int(x), size[0] - 1), min(int(y), size[1] - 1)

    def _spot(self, point: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
        """Return where a point lies, in dots; far outside it is drawn nearer, in its direction."""
        axes = (self.across, self.up)
        place = (
            (value - axis.lower) / (axis.upper - axis.lower)
            for value, axis in zip(point, axes, strict=True)
        )
        x, y = (min(max(share, -4.0), 5.0) for share in place)
        return x * size[0], y * size[1]


# Bits of a braille cell, by column and by row from the top (Unicode, block U+2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

"""How reports are laid out in a terminal: sections, tables without lines, prose that flows."""

import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from taut.report.terminal.charts import LEAST_PICTURE, Ink, Ruler

WIDEST = 108
INDENT = 2
LEAST_PROSE = 20  # cells in which a sentence can still be read

# Background, foreground, then black, red, green, yellow, blue, magenta, cyan, white, and bright.
_BASE = [(59, 66, 82), (224, 108, 117), (143, 190, 122), (224, 184, 98)]
_BASE += [(110, 160, 220), (190, 140, 200), (96, 190, 200), (216, 222, 233)]
SVG_COLOURS = TerminalTheme((27, 31, 39), (216, 222, 233), _BASE, _BASE)


@dataclass(frozen=True)
class Report:
    """A report that is laid out when the width and the characters of the stream are known."""

    build: Callable[[Ink], Sequence[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        plain = options.ascii_only or _is_poor(console)
        ink = Ink(width=max(width - 2 * INDENT, 1), ascii=plain)
        body = Group("", *self.build(ink), "")
        inside = options.update(width=ink.width, height=None)
        for line in console.render_lines(body, inside, pad=False):
            trimmed = _without_trailing_blanks(line)
            yield from [Segment(" " * INDENT), *trimmed] if trimmed else []
            yield Segment.line()


# Terminals without braille, bullets and box drawing, whatever the encoding.
_POOR = ("dumb", "unknown", "linux", "vt100", "vt102", "vt220")


def _is_poor(console: Console) -> bool:
    """Whether a terminal cannot show what its encoding could carry."""
    return console.is_terminal and os.environ.get("TERM", "").lower() in _POOR


def _without_trailing_blanks(line: Sequence[Segment]) -> list[Segment]:
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept


def print_report(
    renderable: RenderableType, *, file: IO[str] | None = None, width: int | None = None
) -> None:
    """Print a report; without colour when the stream is no terminal or NO_COLOR is set.

    Args:
        renderable: What one of the report functions returned.
        file: Where to print; standard output by default.
        width: Cells in a line; the terminal's width by default.
    """
    console = Console(
        file=file or sys.stdout,
        width=width,
        highlight=False,
        emoji=False,
        no_color=bool(os.environ.get("NO_COLOR")) or None,
    )
    console.print(renderable)


def plain_text(renderable: RenderableType, *, width: int = 100) -> str:
    """Return a report as plain text, without colour.

    Args:
        renderable: What one of the report functions returned.
        width: Cells in a line.
    """
    page = io.StringIO()
    console = Console(file=page, width=width, highlight=False, emoji=False, no_color=True)
    console.print(renderable)
    return page.getvalue().strip("\n")


def save_svg(
    renderable: RenderableType, path: str | os.PathLike, title: str, *, width: int = 100
) -> None:
    """Write a report as an SVG picture of a terminal.

    Args:
        renderable: What one of the report functions returned.
        path: Where to write.
        title: Shown in the window's bar.
        width: Cells in a line.
    """
    picture = _recorded(renderable, width).export_svg(title=title, theme=SVG_COLOURS)
    # The picture must not fetch fonts from the network: the viewer's own monospace font will do.
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    with open(path, "w", encoding="utf-8") as out:
        out.write(picture)


def _recorded(renderable: RenderableType, width: int) -> Console:
    """Return a console that has shown a report to nobody, in full colour."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(
            file=nowhere,
            width=width,
            record=True,
            force_terminal=True,
            color_system="truecolor",
            no_color=False,
            highlight=False,
            emoji=False,
        )
        console.print(renderable)
    return console


def spaced(sections: Sequence[Sequence[RenderableType]]) -> list[RenderableType]:
    """Put sections one below the other, an empty line between them; empty ones vanish."""
    lines: list[RenderableType] = []
    for section in sections:
        if section:
            lines.extend([*([""] if lines else []), *section])
    return lines


def heading(ink: Ink, title: str, note: str = "") -> Text:
    """Return the title of a section, with a quiet note."""
    text = ink.text(title, "bold")
    return text.append("  ").append_text(ink.text(note, "dim")) if note else text


class Grid(Table):
    """A table without lines that cuts no word off.

    Where the line is too short its pictures go; where it still is, a row is its cells one after the
    other, as a sentence that may break between words.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._needed() <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        columns = [column for column in self.columns if column.ratio is None]
        rows = [row for row in self._rows(self.columns) if not any(map(_is_ruler, row))]
        rows = [
            [cell for cell, column in zip(row, self.columns, strict=True) if column in columns]
            for row in rows
        ]
        if len(columns) < len(self.columns):
            fewer = Grid.grid(padding=self.padding)
            for column in columns:
                look = {"justify": column.justify, "overflow": column.overflow}
                fewer.add_column(no_wrap=column.no_wrap, **look)
            for row in rows:
                fewer.add_row(*row)
            yield fewer
            return
        for row in rows:
            shown = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in row]
            told = Text("  ").join(cell for cell in shown if cell.plain.strip())
            first, *rest = told.wrap(console, max(options.max_width - INDENT, 1))
            yield first
            yield from (Text(" " * INDENT).append_text(line) for line in rest)

    @staticmethod
    def _rows(columns: Sequence[Column]) -> list[tuple[RenderableType, ...]]:
        return [*zip(*(column.cells for column in columns), strict=True)]

    def _needed(self) -> int:
        """Return the width in which nothing is cut off."""
        least = (
            _least(column.ratio is not None, not column.no_wrap, [*column.cells])
            for column in self.columns
        )
        return sum(least) + self.padding[1] * (len(self.columns) - 1)


def _is_ruler(cell: RenderableType) -> bool:
    return isinstance(cell, Ruler)


LABEL: Mapping = {"no_wrap": True}
NUMBER: Mapping = {"no_wrap": True, "justify": "right"}
PICTURE: Mapping = {"ratio": 1, "no_wrap": True}
PROSE: Mapping = {"overflow": "fold"}

Cells = Sequence[RenderableType]


def grid(*columns: Mapping, gap: int = 2, expand: bool = False) -> Table:
    """Return a table without lines; a column is a dict of rich's column options."""
    table = Grid.grid(padding=(0, gap, 0, 0), expand=expand)
    for options in columns:
        table.add_column(**options)
    return table


def titled(
    ink: Ink,
    columns: Sequence[tuple[str, Mapping]],
    rows: Sequence[Cells],
    *,
    gap: int = 2,
    spare: Sequence[str] = (),
    under: Sequence[Cells] = (),
) -> Table:
    """Return a table with quiet titles that never cuts a word off.

    Where the line is too short, columns stand closer; then spare columns go, in the order in which
    they are named.

    Args:
        ink: What can be drawn.
        columns: Title and options of each column.
        rows: Cells of each row.
        gap: Cells between columns, where there is room.
        spare: Titles of the columns that may go.
        under: Rows below a picture, which go with it.
    """
    titles = [ink.text(title, "dim") for title, _ in columns]
    cells = zip(titles, *rows, strict=True)
    least = [
        _least(options is PICTURE, options is PROSE, column)
        for (_, options), column in zip(columns, cells, strict=True)
    ]
    names = [title for title, _ in columns]
    kept, dropped = list(range(len(columns))), (name for name in spare if name in names)

    def needed(between: int) -> int:
        return sum(least[at] for at in kept) + between * (len(kept) - 1)

    while needed(1) > ink.width and (name := next(dropped, None)) is not None:
        kept.remove(names.index(name))
    drawn = any(columns[at][1] is PICTURE for at in kept)
    table = grid(
        *(columns[at][1] for at in kept),
        gap=gap if needed(gap) <= ink.width else 1,
        expand=drawn,
    )
    for row in [titles, *rows, *(under if drawn else ())]:
        table.add_row(*(row[at] for at in kept))
    return table


def _least(picture: bool, prose: bool, cells: Cells) -> int:
    """Return the width that a column needs so that nothing in it is cut off."""
    sizes = [
        cell.cell_len if isinstance(cell, Text) else len(cell)
        for cell in cells
        if isinstance(cell, Text | str)
    ]
    widest = max(sizes, default=0)
    if picture:
        return max(widest, LEAST_PICTURE)
    return min(widest, LEAST_PROSE) if prose else widest


def flow(text: str, ink: Ink, separator: str = " · ") -> list[Text]:
    """Lay out quiet prose so that lines break between its parts."""
    lines: list[str] = []
    ending = separator.rstrip() if separator.strip() == "+" else ""
    for part in text.split(separator) if text else []:
        longer = f"{lines[-1]}{separator}{part}" if lines else part
        if lines and ink.text(longer + ending).cell_len <= ink.width:
            lines[-1] = longer
        else:
            lines[-1:] = [f"{line}{ending}" for line in lines[-1:]]
            lines.append(part)
    return [ink.text(line, "dim") for line in lines]

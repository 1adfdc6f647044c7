"""Blocks as Markdown, to paste a page into an issue, a chat or a pull request."""

import re
from collections.abc import Iterable

from taut.report.page import blocks
from taut.report.page.blocks import Block, Cell, Choices, Figure, Opens, Table, View

# What Markdown, or HTML within it, would take for more than text.
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~!@&])")


def plain(text: object) -> str:
    """Return text that reads the same as Markdown."""
    return _ACTIVE.sub(r"\\\1", blocks.one_line(text, 4000))


def markdown(view: View) -> str:
    """Return a page as Markdown: its words and tables, without charts and rollouts."""
    parts = [f"## {plain(view.verdict)}"]
    if view.status is not None:
        parts.append(f"**{plain(view.status.word)}** {plain(view.about)}".strip())
    parts += [plain(text) for text in view.lead]
    parts += [
        f"* **{plain(card.title)}:** {plain(' – '.join(filter(None, (card.answer, card.text))))}"
        for card in view.cards
    ]
    for section in view.sections:
        inside = [text for item in section.blocks for text in _block(item)]
        if inside:
            parts += [
                f"### {plain(section.title)}",
                *([plain(section.note)] if section.note else []),
            ]
            parts += inside
    return "\n\n".join(parts) + "\n"


def _block(item: Block) -> Iterable[str]:
    if isinstance(item, blocks.Text):
        yield f"    {blocks.one_line(item.text)}" if item.role == "code" else plain(item.text)
    elif isinstance(item, Table) and item.rows:
        yield _table(item)
    elif isinstance(item, Opens):
        for part in item.blocks:
            yield from _block(part)
    elif isinstance(item, Choices | Figure):
        return


def _table(item: Table) -> str:
    numeric = set(item.numeric)
    rule = "|".join("---:" if at in numeric else "---" for at in range(len(item.titles)))
    rows = [_row(item.titles), f"|{rule}|", *map(_row, item.rows)]
    return "\n".join(rows)


def _row(cells: Iterable[Cell]) -> str:
    return f"| {' | '.join(plain(getattr(cell, 'word', cell)) for cell in cells)} |"

"""Blocks as HTML. Every text is escaped here, in one place, and so is every attribute."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape

from taut.report import names
from taut.report.charts import Chart
from taut.report.page import blocks
from taut.report.page.blocks import Block, Card, Cell, Choices, Figure, Section, Table, View
from taut.report.page.theory import SECTIONS, cited

_CITES = re.compile(r"(?:theory )?§\d+(?:\.\d+[a-z]?)?(?: \([a-z]\))?(?: \([a-z]\))?")
_MARKS = {
    "certified": "●",
    "conditional": "◐",
    "estimated": "○",
    "vacuous": "×",
    "pass": "✓",
    "warn": "!",
    "fail": "×",
}


def tag(name: str, *inside: str, **attributes: object) -> str:
    """Return an element; what is inside is HTML already, attributes are text.

    Args:
        name: Of the element.
        inside: HTML.
        attributes: `class_`, `data_step` and so on; None leaves one out, True writes it bare.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False or value == "":
            continue
        word = key.rstrip("_").replace("_", "-")
        text = "" if value is True else escape(blocks.one_line(value, 1_000_000))
        written.append(f" {word}" if value is True else f' {word}="{text}"')
    return f"<{name}{''.join(written)}>{''.join(inside)}</{name}>"


def words(text: object) -> str:
    """Return text as HTML on one line, sections of the theory as links to what they say."""
    flat, out, at = blocks.one_line(text, 4000), [], 0
    for found in _CITES.finditer(flat):
        section = cited(found[0])
        if section is None:
            continue
        out.append(escape(flat[at : found.start()]))
        out.append(
            tag("a", escape(found[0]), href=f"#theory-{section}", title=SECTIONS[section][0])
        )
        at = found.end()
    return "".join(out) + escape(flat[at:])


def status(word: str) -> str:
    """Return a badge: a mark, a word, and what the word means."""
    mark = _MARKS.get(word, "")
    shown = f"{mark} {word.replace('_', ' ')}".strip()
    meaning = names.HELP_STATUS.get(word)
    return tag("span", escape(shown), class_=f"status {_class(word)}", title=meaning)


def _class(word: str) -> str:
    return re.sub(r"[^a-z]", "-", word.lower())[:20]


def header(view: View) -> str:
    """Return what stands above the sections: the verdict, its worth, and the answers."""
    worth = ""
    if view.status is not None:
        meaning = names.HELP_STATUS.get(view.status.word, "")
        said = [status(view.status.word), tag("span", words(view.about))]
        worth = tag("p", " ".join(said), class_="worth")
        worth += tag("p", words(meaning), class_="quiet") if meaning else ""
    lead = "".join(tag("p", words(text)) for text in view.lead)
    cards = tag("div", *map(_card, view.cards), class_="cards") if view.cards else ""
    plain = "".join(tag("p", words(text)) for text in view.plain)
    plain = tag("details", tag("summary", "What is this about?"), plain, class_="plain", open=True)
    kind = tag("p", words(view.kind), class_="kind")
    return kind + tag("h1", words(view.verdict), id="verdict") + worth + cards + lead + plain


def _card(card: Card) -> str:
    return tag(
        "section",
        tag("h2", words(card.title)),
        tag("p", words(card.answer), class_="answer") if card.answer else "",
        tag("p", words(card.text)),
        class_=f"card {card.tone}".strip(),
    )


def section(item: Section, charts: Mapping[str, Chart]) -> str:
    """Return a section with its title."""
    note = tag("p", words(item.note), class_="quiet") if item.note else ""
    inside = "".join(block(part, charts, item.title) for part in item.blocks)
    return tag("section", tag("h2", words(item.title)), note, inside, id=item.key)


def block(item: Block, charts: Mapping[str, Chart], title: str = "") -> str:
    """Return one block."""
    if isinstance(item, blocks.Text):
        if item.role == "code":
            return tag("pre", escape(blocks.one_line(item.text, 20_000)))
        if item.role == "rollouts":
            return tag("div", tag("p", words(item.text)), id="rollouts-view")
        if item.role == "report":
            return tag("pre", escape(item.text), class_="report")
        anchor = item.role if item.role.startswith("theory-") else None
        return tag("p", words(item.text), class_=None if anchor else item.role, id=anchor)
    if isinstance(item, Table):
        return table(item)
    if isinstance(item, Figure):
        return figure(charts[item.name], title, item.name) if item.name in charts else ""
    if isinstance(item, Choices):
        return _choices(item)
    inside = "".join(block(part, charts) for part in item.blocks)
    return tag("details", tag("summary", words(item.summary)), inside)


def figure(chart: Chart, section_title: str = "", name: str = "") -> str:
    """Return the place of a chart, with its title, and its words for who cannot see it."""
    heading = chart.spec.get("title")
    below = heading.get("subtitle", "") if isinstance(heading, Mapping) else ""
    lines = [below] if isinstance(below, str) else below
    title = "" if chart.title == section_title else chart.title
    shown = ". ".join(words(text).rstrip(".") for text in (title, *lines) if text)
    told = tag("span", escape(blocks.one_line(chart.description, 4000)), class_="sr")
    place = tag("div", class_="chart", data_chart=name or chart.name)
    return tag("figure", tag("figcaption", shown, " ", told), place)


def table(item: Table) -> str:
    """Return a table, in a frame that scrolls on a small screen."""
    numeric, strong = set(item.numeric), set(item.strong)

    def cells(name: str, row: Iterable[Cell]) -> str:
        return "".join(
            tag(
                "th" if name == "th" or at == 0 else "td",
                status(cell.word) if isinstance(cell, blocks.Status) else words(cell),
                class_="n" if at in numeric else None,
                scope="col" if name == "th" else "row" if at == 0 else None,
            )
            for at, cell in enumerate(row)
        )

    rows = "".join(
        tag(
            "tr",
            cells("td", row),
            class_="strong" if at in strong else None,
            data_step=item.steps[at] if item.steps else None,
        )
        for at, row in enumerate(item.rows)
    )
    caption = tag("caption", words(item.caption), class_="sr") if item.caption else ""
    titled = any(item.titles)
    head = tag("thead", tag("tr", cells("th", item.titles))) if titled else ""
    whole = tag("table", caption, head, tag("tbody", rows))
    name = blocks.one_line(item.caption or "table")
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def _choices(item: Choices) -> str:
    """Return selects over the settings, and the table of all results for the script to read."""
    fields = []
    for at, (name, values) in enumerate(item.axes.items()):
        options = "".join(
            tag("option", escape(text), value=place, selected=place == item.chosen[at])
            for place, text in enumerate(values)
        )
        fields.append(tag("label", escape(name), tag("select", options, data_axis=at)))
    shown = item.results[tuple(item.chosen)]
    outputs = "".join(
        tag("div", tag("dt", escape(title)), tag("dd", words(text), data_result=at))
        for at, (title, text) in enumerate(zip(item.titles, shown, strict=True))
    )
    known = {",".join(map(str, key)): list(value) for key, value in item.results.items()}
    return tag(
        "div",
        tag("div", *fields, class_="fields"),
        tag("dl", outputs, aria_live="polite", class_="results"),
        class_="choices",
        data_results=json.dumps(known, ensure_ascii=False),
    )

"""What a person sees in the terminal: a document of design §5, drawn with rich.

The verdict comes first, then a picture, then what it is made of and what it rests on. Nothing is
computed here beyond differences and ratios of printed numbers.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import IO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from taut.report import wording
from taut.report.digits import (
    decimals_for,
    down,
    finite,
    interval,
    level_text,
    near,
    plus_minus,
    up,
)
from taut.report.terminal.charts import STATUS_STYLES, Ink, Ruler, SignedBar, Span, axis_for
from taut.report.wording import ends, look, measured_of, number

WIDEST = 108
INDENT = 2
LONGEST_NOTE = 28  # cells; longer notes stand below a picture instead of squeezing it
LONGEST_TARGET_NOTE = 36
LONGEST_STANDING = 10  # "in doubt" or "violated", and the gap after it

# Background, foreground, then black, red, green, yellow, blue, magenta, cyan, white, and bright.
_BASE = [(59, 66, 82), (224, 108, 117), (143, 190, 122), (224, 184, 98)]
_BASE += [(110, 160, 220), (190, 140, 200), (96, 190, 200), (216, 222, 233)]
SVG_COLOURS = TerminalTheme((27, 31, 39), (216, 222, 233), _BASE, _BASE)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ background: #1b1f27; color: #d8dee9; margin: 2rem auto; width: max-content; }}
pre {{ font: 14px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
</style>
</head>
<body><pre>{text}</pre></body>
</html>
"""


@dataclass(frozen=True)
class Report:
    """A report that is laid out when the width and the characters of the stream are known."""

    build: Callable[[Ink], Sequence[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        ink = Ink(width=max(width - 2 * INDENT, 1), ascii=options.ascii_only)
        body = Group("", *self.build(ink), "")
        inside = options.update(width=ink.width, height=None)
        for line in console.render_lines(body, inside, pad=False):
            trimmed = _without_trailing_blanks(line)
            yield from [Segment(" " * INDENT), *trimmed] if trimmed else []
            yield Segment.line()


def _without_trailing_blanks(line: Sequence[Segment]) -> list[Segment]:
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept


def certificate_report(document: Mapping) -> RenderableType:
    """Return the report of one certificate.

    Args:
        document: The JSON contract `taut.certificate/1` (design §5); every key is optional.
    """
    return Report(lambda ink: _certificate(document, ink))


def groups_report(document: Mapping) -> RenderableType:
    """Return the report of `--by`: one row a group, and which group is best.

    Args:
        document: The JSON contract `taut.certificates/1`.
    """
    return Report(lambda ink: _groups(document, ink))


def health_report(checks: Sequence[Mapping], log: Mapping | None = None) -> RenderableType:
    """Return the report of `taut check`.

    Args:
        checks: The "health" entries of design §5.
        log: The "log" entry of design §5.
    """
    return Report(lambda ink: _health_page(list(checks), log or {}, ink))


def transport_report(document: Mapping) -> RenderableType:
    """Return the report of a reward that was calibrated on older data.

    Args:
        document: The JSON contract `taut.transport/2`.
    """
    shown = {"transport": document} | {k: document[k] for k in ("assumptions", "health")}
    return Report(
        lambda ink: _spaced([_transport(shown, ink), _foundations(shown, ink), _health(shown, ink)])
    )


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


def report_text(document: Mapping, *, width: int = 100) -> str:
    """Return the report of one certificate as plain text, without colour.

    Args:
        document: The JSON contract `taut.certificate/1` (design §5).
        width: Cells in a line.
    """
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, emoji=False, no_color=True).print(
        certificate_report(document)
    )
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


def report_page(renderable: RenderableType, title: str, *, width: int = 100) -> str:
    """Return a report as a page of HTML that needs no network; its text can be selected.

    Args:
        renderable: What one of the report functions returned.
        title: Of the page.
        width: Cells in a line.
    """
    text = _recorded(renderable, width).export_html(
        theme=SVG_COLOURS, inline_styles=True, code_format="{code}"
    )
    return PAGE.format(title=escape(title), text=text)


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


# The certificate, section by section; each returns the lines of its section, or none.


def _certificate(document: Mapping, ink: Ink) -> list[RenderableType]:
    sections = (
        _verdict,
        _picture,
        _terms,
        _targets,
        _routes,
        _transport,
        _paper,
        _foundations,
        _health,
        _advice,
    )
    return _spaced([section(document, ink) for section in sections])


def _spaced(sections: Sequence[Sequence[RenderableType]]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for section in sections:
        if section:
            lines.extend([*([""] if lines else []), *section])
    return lines


def _heading(ink: Ink, title: str, note: str = "") -> Text:
    text = ink.text(title, "bold")
    return text.append("  ").append_text(ink.text(note, "dim")) if note else text


def _grid(*columns: Mapping, gap: int = 2, expand: bool = False) -> Table:
    """Return a table without lines; a column is a dict of rich's column options."""
    table = Table.grid(padding=(0, gap, 0, 0), expand=expand)
    for options in columns:
        table.add_column(**options)
    return table


LABEL: Mapping = {"no_wrap": True}
NUMBER: Mapping = {"no_wrap": True, "justify": "right"}
PICTURE: Mapping = {"ratio": 1, "no_wrap": True}
PROSE: Mapping = {"overflow": "fold"}


def _verdict(document: Mapping, ink: Ink) -> list[RenderableType]:
    verdict = wording.verdict(document)
    lines: list[RenderableType] = [ink.text(verdict.sentence, "bold")]
    lines.append(_standing(document, verdict, ink))
    lines += [ink.text(detail) for detail in verdict.details]
    return lines + _flow(wording.log_text(look(document, "log")), ink)


def _flow(text: str, ink: Ink, separator: str = " · ") -> list[Text]:
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


def _standing(document: Mapping, verdict: wording.Verdict, ink: Ink) -> Text:
    """Say what the status belongs to, and the whole interval."""
    target = wording.target_of(document)
    name = f"{wording.TARGET_NAMES[target]} {wording.TARGET_FORMULAS[target]}"
    if verdict.learned_only:
        return ink.status("vacuous", f"for the true {name}")
    bounds = ends(look(document, "certificate"))
    digits = wording.table_decimals(document)
    text = ink.status(verdict.status).append("  ").append_text(ink.text(name))
    if bounds is None:
        return text
    low, high = down(bounds[0], digits), up(bounds[1], digits)
    return text.append(" ").append_text(
        ink.text(f"is between {low} and {high} {wording.units_of(document)}")
    )


def _picture(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Draw the measured point, our interval and the paper's on one axis."""
    rows = _picture_rows(document)
    if not any(bounds for _, bounds, _, _ in rows):
        return []
    measured = measured_of(document, wording.target_of(document))
    ours = [value for _, bounds, _, heavy in rows if bounds and heavy for value in bounds]
    ours = ours or [value for _, bounds, _, _ in rows if bounds for value in bounds]
    ours += [] if measured is None else [measured]
    axis = axis_for(ours, [value for _, bounds, _, _ in rows if bounds for value in bounds])
    digits = wording.table_decimals(document)
    table = _grid(LABEL, PICTURE, NUMBER, LABEL, expand=True, gap=1 if ink.narrow else 2)
    if measured is not None:
        dot = Span(ink, axis, point=measured)
        table.add_row(ink.text("measured"), dot, ink.text(near(measured, digits)), "")
    for label, bounds, status, heavy in rows:
        style = STATUS_STYLES.get(status, "") if heavy else "dim"
        span = Span(ink, axis, bounds, guide=measured, style=style, heavy=heavy)
        shown = ink.text(interval(*bounds, digits) if bounds else "–", "" if heavy else "dim")
        note = ink.status(status) if heavy else ink.text(status, "dim")
        table.add_row(ink.text(label), span, shown, "" if ink.narrow else note)
    table.add_row("", Ruler(ink, axis, labels=False), "", "")
    table.add_row("", Ruler(ink, axis, labels=True), ink.text("reward units", "dim"), "")
    return [table]


def _picture_rows(document: Mapping) -> list[tuple[str, tuple[float, float] | None, str, bool]]:
    """Return (label, bounds, status or note, heavy) of each interval in the picture."""
    target = wording.target_of(document)
    measured = measured_of(document, target)
    rows = []
    if wording.learned_only(document):
        proxy = wording.proxy_of(document, target)
        rows.append(("learned", ends(proxy), str(look(proxy, "status") or "certified"), True))
    name = "true" if rows else "taut"
    rows.append((name, ends(look(document, "certificate")), wording.status_of(document), True))
    total = number(document, "paper.total")
    if total is not None and measured is not None:
        rows.append(("paper", (measured - total, measured + total), "Theorem 1", False))
    if (normal := _normal_bounds(document, measured)) is not None:
        rows.append(("normal", normal, "not a certificate", False))
    return rows


def _normal_bounds(document: Mapping, measured: float | None) -> tuple[float, float] | None:
    """Return the clustered normal interval: its own ends, or a half-width about the measured."""
    lower = number(document, "comparison.normal_lower")
    upper = number(document, "comparison.normal_upper")
    half = number(document, "comparison.normal_half_width")
    if lower is not None and upper is not None:
        return lower, upper
    return None if half is None or measured is None else (measured - half, measured + half)


def _terms(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Draw the three terms as signed bars about zero."""
    entries = [(name, look(document, f"terms.{name}")) for name in wording.TERMS]
    entries = [(name, entry) for name, entry in entries if isinstance(entry, Mapping)]
    if not entries:
        return []
    bounds = [both for _, entry in entries if (both := ends(entry))]
    reach = (
        max([0.0, *(-lower for lower, _ in bounds)]),
        max([0.0, *(upper for _, upper in bounds)]),
    )
    digits = decimals_for(sum(reach), steps=100)
    notes = [_term_note(entry) for _, entry in entries]
    beside = ink.wide and max(map(len, notes)) <= LONGEST_NOTE
    columns = [LABEL, NUMBER, PICTURE, NUMBER, LABEL] + ([LABEL] if beside else [])
    table = _grid(*columns, expand=True, gap=1 if ink.narrow else 2)
    for (name, entry), note in zip(entries, notes, strict=True):
        row = _term_cells(name, entry, reach, digits, ink)
        table.add_row(*row, *([ink.text(note, "dim")] if beside else []))
    heading = _heading(ink, "Between measured and true", "each error's share, reward units")
    lines: list[RenderableType] = [heading, table]
    if not beside:
        named = zip(entries, notes, strict=True)
        said = [f"{wording.TERM_NAMES[name]}: {note}" for (name, _), note in named if note]
        lines += _flow(" · ".join(said), ink)
    for line in wording.log_ratio_lines(document):
        lines += _flow(line, ink)
    return lines


def _term_note(entry: Mapping) -> str:
    """Return how a term was bounded: its route and the section of the theory."""
    source = str(look(entry, "source") or "").replace("theory ", "")
    return ", ".join(part for part in (wording.route_name(look(entry, "route")), source) if part)


def _term_cells(
    name: str, entry: Mapping, reach: tuple[float, float], digits: int, ink: Ink
) -> list[RenderableType]:
    both = ends(entry)
    status = look(entry, "status") or "vacuous"
    bar = SignedBar(ink, both, reach, STATUS_STYLES.get(str(status), ""))
    low = down(both[0], digits, signed=True) if both else "–"
    high = up(both[1], digits, signed=True) if both else "–"
    label = ink.text(wording.TERM_NAMES[name])
    return [label, ink.text(low), bar, ink.text(high), ink.status(status)]


def _targets(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show all three targets, each with its own status."""
    if not isinstance(look(document, "targets"), Mapping):
        return []
    digits = wording.table_decimals(document)
    # The formulas give way to the intervals of the learned reward, which need the room.
    formulas = ink.wide and not wording.learned_only(document)
    columns = [LABEL, *([LABEL] if formulas else []), NUMBER, NUMBER, PROSE]
    table = _grid(*columns, gap=1 if ink.narrow else 2)
    entries = {
        target: look(document, f"targets.{target}") or {"unavailable": "not computed"}
        for target in wording.TARGETS
    }
    usual = look(document, "terms.reward_shift.route")
    notes = {target: _target_note(entry, usual, digits) for target, entry in entries.items()}
    beside = ink.wide and max(map(len, notes.values())) <= LONGEST_TARGET_NOTE
    for target, entry in entries.items():
        name = wording.TARGET_NAMES[target]
        label = ink.text(name, "bold" if target == wording.target_of(document) else "")
        formula = [ink.text(wording.TARGET_FORMULAS[target], "dim")] if formulas else []
        note = notes[target] if beside else ""
        table.add_row(label, *formula, *_target_cells(entry, digits, note, ink))
    level = level_text(wording.level_of(document))
    heading = _heading(
        ink, "The three targets", f"each holds at {level} on its own, not all at once"
    )
    said = [f"{wording.TARGET_NAMES[target]}: {note}" for target, note in notes.items() if note]
    return [heading, table, *([] if beside else _flow(" · ".join(said), ink))]


def _target_note(entry: Mapping, usual: object, digits: int) -> str:
    """Return what is special about a target: the learned reward's interval, or its own route."""
    proxy = ends(look(entry, "proxy"))
    if look(entry, "status") == "vacuous" and proxy:
        status = look(entry, "proxy.status") or "certified"
        return f"learned {interval(*proxy, digits)}, {status}"
    route = look(entry, "route")
    return "" if route == usual else wording.route_name(route)


def _target_cells(entry: Mapping, digits: int, note: str, ink: Ink) -> list[Text]:
    if why := look(entry, "unavailable"):
        return [ink.text("–"), ink.text("–"), ink.text(f"unavailable: {why}", "dim")]
    measured, bounds = number(entry, "measured"), ends(entry)
    return [
        ink.text("–" if measured is None else near(measured, digits)),
        ink.text(interval(*bounds, digits) if bounds else "–"),
        ink.status(look(entry, "status") or "vacuous", note),
    ]


def _routes(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show every way to bound the reward shift beside the one taken, where there is a choice."""
    entries = [item for item in look(document, "routes") or [] if isinstance(item, Mapping)]
    diagnosed = isinstance(look(document, "coverage"), Mapping)
    if not diagnosed and not any(
        item.get("route") in ("paper", "centred") for item in entries if ends(item)
    ):
        return []
    digits = wording.table_decimals(document)
    table = _grid(LABEL, NUMBER, LABEL, PROSE, gap=1 if ink.narrow else 2)
    for item in entries:
        bounds = ends(item)
        taken = bool(bounds) and not item.get("reason")
        table.add_row(
            ink.text(wording.ROUTE_LABELS.get(item.get("route"), str(item.get("route")))),
            ink.text(interval(*bounds, digits) if bounds else "–"),
            ink.status(str(item["status"])) if bounds else ink.text("not open", "dim"),
            ink.text("taken" if taken else str(item.get("reason", "")), "bold" if taken else "dim"),
        )
    lines = [_heading(ink, "Ways to the true reward", "each would hold on its own"), table]
    if not diagnosed:
        return lines
    noise = wording.sensitivity_text(document)
    lines += _flow(wording.coverage_text(document), ink)
    return [*lines, *(_flow(noise, ink) if noise else [])]


def _transport(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show the verdict on a reward that was calibrated on older data."""
    if not isinstance(look(document, "transport"), Mapping):
        return []
    state = str(look(document, "transport.state"))
    style = {"PASS": "green", "FAIL": "red"}.get(state, "yellow")
    heading = _heading(ink, "Calibrated reward", "fitted on the reward data, audited on the labels")
    detail = ink.text(look(document, "transport.detail"))
    line = Text.assemble(ink.text(state, style), "  ", detail)
    return [heading, line, *_flow(wording.transport_text(document), ink)]


def _paper(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Set the paper's half-widths beside ours, term by term."""
    if not isinstance(look(document, "paper"), Mapping):
        return []
    names = (*wording.TERMS, "total")
    ours = {name: _half_width(look(document, f"terms.{name}")) for name in wording.TERMS}
    ours["total"] = _half_width(look(document, "certificate"))
    known = [value for value in ours.values() if value]
    digits = decimals_for(max(known, default=None), steps=50)
    table = _grid(LABEL, NUMBER, NUMBER, PROSE, gap=3)
    table.add_row("", *(ink.text(title, "dim") for title in ("taut", "paper", "paper / taut")))
    for name in names:
        label = ink.text(wording.TERM_NAMES.get(name, name))
        table.add_row(label, *_paper_cells(name, ours[name], document, digits, ink))
    note = "Theorem 1 of arXiv 2602.21765 on the same log; half-widths, reward units"
    return [_heading(ink, "Beside the paper", note), table]


def _half_width(entry: object) -> float | None:
    both = ends(entry)
    return None if both is None else (both[1] - both[0]) / 2


def _paper_cells(
    name: str, ours: float | None, document: Mapping, digits: int, ink: Ink
) -> list[Text]:
    theirs = number(document, f"paper.{name}")
    left = ink.text("–" if ours is None else plus_minus(ours, digits))
    if theirs is None:
        return [left, ink.text("–"), ink.text(wording.PAPER_NEEDS[name], "dim")]
    right = ink.text(plus_minus(theirs, digits))
    return [left, right, ink.text(_ratio_text(ours, theirs), "bold" if name == "total" else "")]


def _ratio_text(ours: float | None, theirs: float) -> str:
    if not ours or not theirs:
        return ""
    ratio = theirs / ours
    if ratio >= 10_000:
        return ">9,999×"
    return f"{near(ratio, 2 if ratio < 1 else 1 if ratio < 10 else 0)}×"


def _foundations(document: Mapping, ink: Ink) -> list[RenderableType]:
    """List the assumptions with what was checked, the δ ledger and the settings."""
    lines: list[RenderableType] = []
    table = _grid(LABEL, PROSE)
    for entry in look(document, "assumptions") or []:
        table.add_row(*_assumption_cells(entry, ink))
    if table.row_count:
        lines.append(table)
    if declare := wording.to_declare(document):
        lines.append(ink.text(declare))
    lines += _flow(wording.ledger_text(document), ink, " + ")
    lines += _flow(wording.settings_text(document), ink)
    return [_heading(ink, "What it rests on"), *lines] if lines else []


def _assumption_cells(entry: object, ink: Ink) -> tuple[Text, Text]:
    found = wording.standing(entry)
    text = str(look(entry, "text") or "unnamed assumption")
    outcome = wording.outcome(entry)
    style = {"violated": STATUS_STYLES["fail"], "in doubt": STATUS_STYLES["warn"]}.get(found, "dim")
    shown = ink.text(text[:1].upper() + text[1:])
    if outcome:
        longer = shown.copy().append(" ").append_text(ink.text(f"– {outcome}", "dim"))
        # Who says so is worth the rest of the line, not a second one: JSON has it.
        fits = longer.cell_len <= ink.width - LONGEST_STANDING
        shown = longer if fits or found in ("violated", "in doubt") else shown
    return ink.text(found, style), shown


def _health(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show warnings and failures in full, the rest as counts."""
    checks = look(document, "health")
    if not isinstance(checks, list) or not checks:
        return []
    lines: list[RenderableType] = [
        _heading(ink, "Health of the log", wording.health_sentence(checks))
    ]
    troubles = [*_with_status(checks, "fail"), *_with_status(checks, "warn")]
    troubles += _with_status(checks, "note")
    return lines + ([_check_table(troubles, ink)] if troubles else [])


def _with_status(checks: Sequence[Mapping], status: str) -> list[Mapping]:
    return [check for check in checks if look(check, "status") == status]


def _check_table(checks: Sequence[Mapping], ink: Ink) -> Table:
    table = _grid(LABEL, PROSE)
    for check in checks:
        status = str(look(check, "status") or "not_checked")
        text = ink.text(wording.check_name(check), "bold" if status in ("fail", "warn") else "")
        if detail := look(check, "detail"):
            text.append(" ").append_text(ink.text(f"– {detail}"))
        if (remedy := look(check, "remedy")) and status != "pass":
            arrow = "->" if ink.ascii else "→"
            text.append_text(Text(f"\n{arrow} ")).append_text(ink.text(remedy))
        table.add_row(ink.status(status), text)
    return table


def _advice(document: Mapping, ink: Ink) -> list[RenderableType]:
    text = wording.advice_text(document)
    return [_heading(ink, "To tighten it most"), ink.text(text)] if text else []


# The health of a log.


def _health_page(checks: list[Mapping], log: Mapping, ink: Ink) -> list[RenderableType]:
    sentence = wording.health_sentence(checks)
    lines: list[RenderableType] = [ink.text(f"{sentence[:1].upper()}{sentence[1:]}.", "bold")]
    lines += _flow(wording.log_text(log), ink)
    order = ("fail", "warn", "note", "not_checked", "pass")
    ordered = [check for status in order for check in _with_status(checks, status)]
    unknown = [check for check in checks if look(check, "status") not in order]
    return _spaced([lines, [_check_table(ordered + unknown, ink)] if checks else []])


# One certificate per group.


def _groups(document: Mapping, ink: Ink) -> list[RenderableType]:
    groups = [group for group in look(document, "groups") or [] if isinstance(group, Mapping)]
    by = str(look(document, "by") or "group")
    if not groups:
        return [ink.text("No groups to show.", "bold")]
    rows = [_GroupRow.of(group) for group in groups]
    delta = number(document, "delta")
    level = level_text(0.95 if delta is None else 1 - delta)
    first = look(groups[0], "certificate") or {}
    target = wording.target_of(first)
    learned = all(row.learned_only for row in rows)
    name = f"{wording.TARGET_NAMES[target]} {wording.TARGET_FORMULAS[target]}"
    if learned:
        name = f"learned {wording.TARGET_NAMES[target]}, not the true one,"
    together = f"All {len(rows)} rows hold together at {level}, so you may choose among them."
    lines = [ink.text(line, "bold") for line in _best_group_lines(rows, by, learned)]
    lines += [ink.text(together), ink.text(f"{name[:1].upper()}{name[1:]} of each {by}", "dim")]
    units = wording.units_of(first)
    return _spaced([lines, [_group_table(rows, by, ink, units)], _shared_foundations(groups, ink)])


def _shared_foundations(groups: Sequence[Mapping], ink: Ink) -> list[RenderableType]:
    """Say what all groups rest on, each assumption as it stands worst, and their health."""
    order = ("recorded", "checked", "declared", "assumed", "in_doubt", "violated")
    worst: dict[str, Mapping] = {}
    checks: dict[str, Mapping] = {}
    ranks = ("pass", "not_checked", "note", "warn", "fail")
    for group in groups:
        for entry in look(group, "certificate.assumptions") or []:
            known = worst.get(str(look(entry, "text")))
            stands = str(look(entry, "stands"))
            if known is None or order.index(stands) > order.index(str(look(known, "stands"))):
                worst[str(look(entry, "text"))] = entry
        for check in look(group, "certificate.health") or []:
            known = checks.get(str(look(check, "check")))
            rank = ranks.index(str(look(check, "status")))
            if known is None or rank > ranks.index(str(look(known, "status"))):
                checks[str(look(check, "check"))] = check
    lines: list[RenderableType] = []
    if worst:
        table = _grid(LABEL, PROSE)
        for entry in worst.values():
            table.add_row(*_assumption_cells(entry, ink))
        lines += [_heading(ink, "What they rest on", "as it stands in the worst of them"), table]
        declare = {wording.to_declare(look(group, "certificate") or {}): None for group in groups}
        lines += [ink.text(line) for line in declare if line][:1]
    return lines + _health({"health": list(checks.values())}, ink)


@dataclass(frozen=True, slots=True)
class _GroupRow:
    """What one row shows: the group's name, counts, and its certificate.

    A group without labels says nothing of the true reward. Where some groups have labels, its
    learned reward has no place beside them; where none has, the table is about the learned reward.
    """

    value: str
    draws: str
    measured: float | None
    bounds: tuple[float, float] | None
    learned: tuple[float, float] | None
    status: str
    learned_only: bool

    @classmethod
    def of(cls, group: Mapping) -> "_GroupRow":
        document = look(group, "certificate") or {}
        target = wording.target_of(document)
        entry = look(document, "certificate")
        draws, labels = number(document, "log.prompts"), number(document, "log.gold_prompts")
        counts = "" if draws is None else f"{int(draws):,}"
        return cls(
            value=str(look(group, "value")),
            draws=counts if labels is None else f"{counts} / {int(labels):,}",
            measured=measured_of(document, target),
            bounds=ends(entry),
            learned=ends(wording.proxy_of(document, target)),
            status=str(look(entry, "status") or "vacuous"),
            learned_only=wording.learned_only(document),
        )


def _best_group_lines(rows: Sequence[_GroupRow], by: str, learned: bool) -> list[str]:
    """Say which group measures best and which has the best lower end."""
    digits = _group_decimals(rows)
    lines = []
    if learned:
        lines.append("For the learned reward only. Nothing is known about the true reward yet.")
    measured = [row for row in rows if row.measured is not None]
    highest = max(measured, key=lambda row: row.measured, default=None)
    best = _best_floor(rows)
    name = by.replace("_", " ")
    if highest is not None:
        shown = near(highest.measured, digits)
        what = "measured learned reward" if learned else "measured value"
        lines.append(f"{name.capitalize()} {highest.value} has the best {what}, {shown}.")
    if best is not None and best.status != "vacuous":
        shown = down(best.bounds[0], digits)
        same = "It also" if best is highest else f"{name.capitalize()} {best.value}"
        lines.append(f"{same} has the best {best.status} lower end, {shown}.")
    return lines


def _best_floor(rows: Sequence[_GroupRow]) -> _GroupRow | None:
    """Return the row with the best lower end, among those with a guarantee where there are any."""
    floors = [row for row in rows if row.bounds and not row.learned_only]
    sound = [row for row in floors if row.status in ("certified", "conditional")]
    return max(sound or floors, key=lambda row: row.bounds[0], default=None)


def _group_decimals(rows: Sequence[_GroupRow]) -> int:
    shown = [_shown(row, all(other.learned_only for other in rows)) for row in rows]
    widths = [bounds[1] - bounds[0] for bounds in shown if bounds]
    return decimals_for(min((width for width in widths if width > 0), default=None), steps=20)


def _shown(row: _GroupRow, learned: bool) -> tuple[float, float] | None:
    """The interval that a row shows: the learned reward's only where the table is about it."""
    if learned:
        return row.learned
    return None if row.learned_only else row.bounds


def _group_table(rows: Sequence[_GroupRow], by: str, ink: Ink, units: str) -> Table:
    digits = _group_decimals(rows)
    learned = all(row.learned_only for row in rows)
    numbers = [value for row in rows for value in (*(_shown(row, learned) or ()), row.measured)]
    known = [value for value in numbers if finite(value) is not None]
    axis = axis_for(known) if known else axis_for([0.0, 1.0])
    columns = (NUMBER, NUMBER, NUMBER, PICTURE, NUMBER, LABEL)
    table = _grid(*columns, expand=True, gap=1 if ink.narrow else 2)
    counted = "gold" if ink.narrow else "prompts / gold"  # the labelled ones decide the width
    titles = (by.replace("_", " "), counted, "measured", "", "lower to upper", "status")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    best = _best_floor(rows)
    for row in rows:
        status = "vacuous" if row.learned_only else row.status
        style = STATUS_STYLES.get(status, "")
        strong = "bold" if row is best else ""
        bounds = _shown(row, learned)
        shown = interval(*bounds, digits) if bounds else "no labels"
        measured = "–" if row.measured is None else near(row.measured, digits)
        span = Span(ink, axis, bounds, point=row.measured, style=style)
        draws = row.draws.rpartition(" / ")[2] if ink.narrow else row.draws
        cells = (ink.text(row.value, strong), ink.text(draws), ink.text(measured), span)
        table.add_row(*cells, ink.text(shown, strong), ink.status(status))
    table.add_row("", "", "", Ruler(ink, axis, labels=False), "", "")
    table.add_row("", "", "", Ruler(ink, axis, labels=True), ink.text(units, "dim"), "")
    return table

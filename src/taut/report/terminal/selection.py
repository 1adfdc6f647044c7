"""What a person sees of `taut select`: the choice first, then what it rests on.

Everything is read from the plain document `taut.selection/1`; nothing is computed here.
"""

import io
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType

from taut.report import wording
from taut.report.digits import count, decimals_for, down, interval, level_text, near, up
from taut.report.terminal.certificate import (
    LABEL,
    NUMBER,
    PICTURE,
    Report,
    _flow,
    _grid,
    _heading,
    _spaced,
)
from taut.report.terminal.charts import STATUS_STYLES, Axis, Ink, Ruler, Span, axis_for
from taut.report.wording import ends, look, number

_VALUES = {"reward": "reward", "clipped": "clipped objective", "objective": "objective"}
_SOUND = ("certified", "conditional")


def selection_report(document: Mapping) -> RenderableType:
    """Return the report of a selection.

    Args:
        document: The JSON contract `taut.selection/1`.
    """
    return Report(lambda ink: _selection(document, ink))


def selection_text(document: Mapping, *, width: int = 100) -> str:
    """Return the report of a selection as plain text, without colour.

    Args:
        document: The JSON contract `taut.selection/1`.
        width: Cells in a line.
    """
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, emoji=False, no_color=True).print(
        selection_report(document)
    )
    return page.getvalue().strip("\n")


def _selection(document: Mapping, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _table, _differences, _trained_on, _foundations)
    return _spaced([section(document, ink) for section in sections])


def _verdict(document: Mapping, ink: Ink) -> list[RenderableType]:
    lines = [ink.text(_choice(document), "bold")]
    lines += [ink.text(text) for text in (_disagreement(document), *_set(document)) if text]
    return lines + [
        ink.text(text, "dim") for text in (_price(document), _unlabelled(document)) if text
    ]


def _name(document: Mapping, value: object) -> str:
    return f"{look(document, 'by') or 'candidate'} {value}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _digits(document: Mapping) -> int:
    """Decimals that the narrowest interval deserves."""
    both = [ends(row) for row in _rows(document)]
    widths = [pair[1] - pair[0] for pair in both if pair and pair[1] > pair[0]]
    return decimals_for(min(widths, default=None), steps=20)


def _rows(document: Mapping) -> list[Mapping]:
    return [row for row in look(document, "candidates") or [] if isinstance(row, Mapping)]


def _row(document: Mapping, value: object) -> Mapping:
    return next((row for row in _rows(document) if row.get("value") == value), {})


def _quantity(document: Mapping) -> str:
    return _VALUES[wording.target_of(document)]


def _choice(document: Mapping) -> str:
    chosen, leader = document.get("chosen"), document.get("leader")
    level = level_text(wording.number(document, "level") or 0.95)
    digits = _digits(document)
    if chosen is not None:
        row = _row(document, chosen)
        floor = down(number(row, "lower") or 0.0, digits)
        text = f"{_name(document, chosen)}: its true {_quantity(document)} is at least {floor}"
        return f"Choose {text} ({level}, {row.get('status')}, the choice paid for)."
    if leader is None:
        return "Nothing can be chosen: no certificate says anything about the true reward."
    floor = down(number(_row(document, leader), "lower") or 0.0, digits)
    return (
        f"Nothing can be chosen with a guarantee. By estimate {_name(document, leader)} has the "
        f"best lower end, {floor}."
    )


def _disagreement(document: Mapping) -> str:
    """Say plainly when proxy and certificate disagree: that is over-optimisation caught."""
    chosen, favourite = document.get("chosen"), document.get("best_proxy")
    if chosen is None or favourite is None:
        return ""
    digits, row = _digits(document), _row(document, favourite)
    proxy = near(number(row, "proxy") or 0.0, digits)
    if favourite == chosen:
        return f"It also has the best proxy {_quantity(document)}, {proxy}."
    mine = _row(document, chosen)
    text = (
        f"{_capital(_name(document, favourite))} has the best proxy {_quantity(document)} "
        f"({proxy}), {_name(document, chosen)} the best {mine.get('status')} {_quantity(document)} "
        f"(at least {down(number(mine, 'lower') or 0.0, digits)})"
    )
    if document.get("over_optimised") == "caught":
        return f"{text}: over-optimisation caught."
    return f"{text}; but {_name(document, favourite)} cannot be excluded as the best."


def _set(document: Mapping) -> list[str]:
    left, by = document.get("not_excluded") or [], look(document, "by")
    total, digits = len(_rows(document)), _digits(document)
    regret = number(document, "regret")
    if document.get("chosen") is None:
        some = document.get("not_excluded_by_estimate") or []
        if len(some) == total:
            return [f"None of the {total} can be excluded as the best, not even by estimate."]
        return [f"By estimate these may be the best: {_listed(by, some)}. No guarantee."]
    if len(left) == 1:
        return ["It is the best: every other one is excluded."]
    text = f"Not excluded as the best: {_listed(by, left)} ({len(left)} of {total})."
    if regret is not None:
        text += f" The choice is at most {up(regret, digits)} below the best."
    return [text]


def _listed(by: object, names: Sequence, most: int = 8) -> str:
    shown = ", ".join(str(name) for name in names[:most])
    return f"{by} {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")


def _price(document: Mapping) -> str:
    widths = [number(document, f"price.{name}") for name in ("width", "width_alone")]
    given = number(document, "price.lower_given_up")
    if None in widths or given is None:
        return ""
    digits = min(_digits(document) + 1, 6)
    return (
        f"Price of choosing among {len(_rows(document))}: an interval {up(widths[0], digits)} wide "
        f"in place of {up(widths[1], digits)}; the lower end gives up {near(given, digits)}."
    )


def _unlabelled(document: Mapping) -> str:
    bare = [row.get("value") for row in _rows(document) if row.get("status") == "vacuous"]
    if not bare or document.get("leader") is None:
        return ""
    return (
        f"Nothing is known of the true reward of {_listed(look(document, 'by'), bare)}: never "
        "chosen, never excluded by its learned reward. Label some of its prompts."
    )


def _axis(document: Mapping) -> Axis:
    numbers = [value for row in _rows(document) for value in (*(ends(row) or ()), row.get("proxy"))]
    known = [value for value in numbers if wording.finite(value) is not None]
    return axis_for(known) if known else axis_for([0.0, 1.0])


def _table(document: Mapping, ink: Ink) -> list[RenderableType]:
    digits, axis = _digits(document), _axis(document)
    drawn = [] if ink.narrow else [PICTURE]
    table = _grid(NUMBER, NUMBER, *drawn, NUMBER, LABEL, LABEL, expand=not ink.narrow, gap=1)
    by = str(look(document, "by"))
    titles = (by, "proxy", *([""] if drawn else []), "lower to upper", "status", "as the best")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    for row in _rows(document):
        table.add_row(*_certificate_cells(row, document, axis if drawn else None, digits, ink))
    if drawn:
        unit = ink.text("reward units", "dim")
        table.add_row("", "", Ruler(ink, axis, labels=False), "", "", "")
        table.add_row("", "", Ruler(ink, axis, labels=True), unit, "", "")
    about = f"true {_quantity(document)} of each {by}; all {len(_rows(document))} hold together"
    return [_heading(ink, "Certificates", about), table]


def _certificate_cells(
    row: Mapping, document: Mapping, axis: Axis | None, digits: int, ink: Ink
) -> list[RenderableType]:
    status, both, proxy = str(row.get("status")), ends(row), number(row, "proxy")
    strong = "bold" if row.get("value") == document.get("chosen") else ""
    style = STATUS_STYLES.get(status, "")
    picture = [] if axis is None else [Span(ink, axis, both, point=proxy, style=style)]
    return [
        ink.text(row.get("value"), strong),
        ink.text("–" if proxy is None else near(proxy, digits)),
        *picture,
        ink.text(interval(*both, digits) if both else "–", strong),
        ink.status(status),
        ink.text(_verdict_of(row, document), strong or "dim"),
    ]


def _verdict_of(row: Mapping, document: Mapping) -> str:
    if row.get("value") == document.get("chosen"):
        return "chosen"
    by = look(row, "excluded.by")
    if by is None:
        return "possible"
    return f"no: below {by}" + ("" if look(row, "excluded.status") in _SOUND else ", by estimate")


_KINDS = {
    "gold": "paired gold",
    "certificates": "two intervals",
    "proxy": "proxy only, no evidence",
}


def _differences(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show each candidate less the leader, and what the difference was made from."""
    rows = [row for row in _rows(document) if isinstance(row.get("comparison"), Mapping)]
    if not rows:
        return []
    columns = 4 if ink.narrow else 6
    table = _grid(*(NUMBER, NUMBER, NUMBER, LABEL, NUMBER, NUMBER)[:columns], gap=2)
    by = str(look(document, "by"))
    titles = (by, "measured", "lower to upper", "made from", "shared", "gold")
    table.add_row(*(ink.text(title, "dim") for title in titles[:columns]))
    digits = _digits(document)
    for row in rows:
        item = row["comparison"]
        both, mean = ends(item), number(item, "mean")
        cells = (
            ink.text(row.get("value")),
            ink.text("–" if mean is None else near(mean, digits, signed=True)),
            ink.text(_signed(both, digits) if both else "–"),
            ink.text(_KINDS.get(str(item.get("kind")), "")),
            *(ink.text(_count(item.get(name))) for name in ("shared", "labelled")),
        )
        table.add_row(*cells[:columns])
    leader = _name(document, document.get("leader"))
    lines = [_heading(ink, f"Less {leader}", "reward units"), table]
    told = (
        "Who is excluded, and how far the choice may be below the best, hold together with the "
        "certificates; an interval in this table holds on its own."
    )
    return [*lines, ink.text(told, "dim")]


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def _signed(both: tuple[float, float], digits: int) -> str:
    return f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"


def _trained_on(document: Mapping, ink: Ink) -> list[RenderableType]:
    lines = document.get("trained_on") or []
    return [_heading(ink, "Trained on these prompts?"), *map(ink.text, lines)] if lines else []


def _foundations(document: Mapping, ink: Ink) -> list[RenderableType]:
    """The delta ledger in one line, and the settings that matter for a comparison."""
    entries = [item for item in document.get("ledger") or [] if isinstance(item, Mapping)]
    if not entries:
        return []
    paired = [item for item in entries if "paired" in str(item.get("event"))]
    single = [item for item in entries if item not in paired]
    parts = [f"δ {_delta(single)} for {count(len(single), 'certificate')}"]
    parts += [f"{_delta([item])} for {item.get('event')}" for item in paired]
    tau = number(document, "settings.tau")
    settings = [f"seed {look(document, 'settings.seed')}", str(look(document, "settings.method"))]
    settings += [] if tau is None else [f"τ {near(tau, 2)} nats for all"]
    aside = look(document, "settings.draws_set_aside")
    settings += [f"{aside} draws set aside to choose τ"] if aside else []
    held = "declared held out" if look(document, "settings.held_out") else "not declared held out"
    lines: list[RenderableType] = [_heading(ink, "What it rests on")]
    lines += _flow(" + ".join(parts), ink, " + ")
    return lines + _flow(" · ".join([*settings, f"prompts {held}"]), ink)


def _delta(entries: Sequence[Mapping]) -> str:
    return f"{sum(number(item, 'delta') or 0.0 for item in entries):.3g}"

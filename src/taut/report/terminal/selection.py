"""What a person sees of `taut select`: the choice first, then what it rests on."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType

from taut.auditing.certificate import LedgerEntry
from taut.decisions.selection.result import Candidate, Comparison, Name, Selection
from taut.report import wording
from taut.report.digits import count, decimals_for, down, interval, level_text, near, up
from taut.report.names import TARGET_NAMES
from taut.report.terminal.charts import STATUS_STYLES, Axis, Ink, Ruler, Span, axis_for
from taut.report.terminal.foundations import assumption_table, health_lines
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PICTURE,
    Report,
    flow,
    heading,
    spaced,
    titled,
)
from taut.report.wording import Ends, ends
from taut.types import Status

_SOUND = (Status.CERTIFIED, Status.CONDITIONAL)
KINDS = {
    "gold": "paired gold",
    "certificates": "two intervals",
    "proxy": "proxy only, no evidence",
}


def selection_report(found: Selection) -> RenderableType:
    """Return the report of a selection."""
    return Report(lambda ink: _selection(found, ink))


def _selection(found: Selection, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _table, _differences, _trained_on, _foundations, _health)
    return spaced([section(found, ink) for section in sections])


def _verdict(found: Selection, ink: Ink) -> list[RenderableType]:
    lines = [ink.text(choice_text(found), "bold"), *map(ink.text, set_lines(found))]
    return lines + [ink.text(text, "dim") for text in price_lines(found)]


def set_lines(found: Selection) -> list[str]:
    """Say whether proxy and certificate agree, what was hacked, and who may still be the best."""
    lines = (_disagreement(found), _hacked(found), _set(found), _tiers(found))
    return [text for text in lines if text]


def price_lines(found: Selection) -> list[str]:
    """Say what choosing cost, and of whom nothing is known."""
    return [text for text in (_price(found), _unlabelled(found)) if text]


def _hacked(found: Selection) -> str:
    """The verdict on learned and true gain; nothing where neither is certain."""
    if found.hacked is None or found.chosen is None or found.hacked.verdict == "cannot_tell":
        return ""
    return found.hacked.sentence


def _tiers(found: Selection) -> str:
    """Who cannot be told apart, where there is more than one tier and not all stand alone."""
    if len(found.tiers) < 2:
        return ""
    shown = " > ".join(", ".join(map(str, tier)) for tier in found.tiers)
    return f"Tiers that can be told apart: {found.by} {shown}."


def _name(found: Selection, value: Name) -> str:
    return f"{found.by} {value}"


def _digits(found: Selection) -> int:
    """Decimals that the narrowest interval deserves."""
    both = [ends(row) for row in found.candidates]
    widths = [pair[1] - pair[0] for pair in both if pair and pair[1] > pair[0]]
    return decimals_for(min(widths, default=None), steps=20)


def _floor(row: Candidate, digits: int) -> str:
    return down(row.lower or 0.0, digits)


def choice_text(found: Selection) -> str:
    """Say in a sentence who is chosen, or why nobody is."""
    digits = _digits(found)
    if found.chosen is not None:
        row = found[found.chosen]
        return (
            f"Choose {_name(found, found.chosen)}: its true {TARGET_NAMES[found.target]} is at "
            f"least {_floor(row, digits)} ({level_text(found.level)}, {row.status}, the choice "
            "paid for)."
        )
    if found.leader is None:
        return "Nothing can be chosen: no certificate says anything about the true reward."
    return (
        f"Nothing can be chosen with a guarantee. By estimate {_name(found, found.leader)} has the "
        f"best lower end, {_floor(found[found.leader], digits)}."
    )


def _disagreement(found: Selection) -> str:
    """Say plainly when proxy and certificate disagree: that is over-optimisation caught."""
    if found.chosen is None:
        return ""
    digits, favourite = _digits(found), found[found.best_proxy]
    value, proxy = TARGET_NAMES[found.target], near(favourite.proxy or 0.0, digits)
    if found.best_proxy == found.chosen:
        return f"It also has the best proxy {value}, {proxy}."
    mine, name = found[found.chosen], _name(found, found.best_proxy)
    text = (
        f"{name[:1].upper()}{name[1:]} has the best proxy {value} ({proxy}), "
        f"{_name(found, found.chosen)} the best {mine.status} {value} "
        f"(at least {_floor(mine, digits)})"
    )
    if found.over_optimised == "caught":
        return f"{text}: over-optimisation caught."
    return f"{text}; but {name} cannot be excluded as the best."


def _set(found: Selection) -> str:
    """Say who may still be the best."""
    left, total = found.not_excluded, len(found.candidates)
    if found.chosen is None:
        some = found.not_excluded_by_estimate
        if len(some) == total:
            return f"None of the {total} can be excluded as the best, not even by estimate."
        return f"By estimate these may be the best: {_listed(found.by, some)}. No guarantee."
    if len(left) == 1:
        return "It is the best: every other one is excluded."
    text = f"Not excluded as the best: {_listed(found.by, left)} ({len(left)} of {total})."
    if found.regret is not None:
        text += f" The choice is at most {up(found.regret, _digits(found))} below the best."
    return text


def _listed(by: str, names: Sequence[Name], most: int = 8) -> str:
    shown = ", ".join(str(name) for name in names[:most])
    return f"{by} {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")


def _price(found: Selection) -> str:
    price = found.price
    if price is None or None in (price.width, price.width_alone, price.lower_given_up):
        return ""
    digits = min(_digits(found) + 1, 6)
    return (
        f"Price of choosing among {len(found.candidates)}: an interval {up(price.width, digits)} "
        f"wide in place of {up(price.width_alone, digits)}; the lower end gives up "
        f"{near(price.lower_given_up, digits)}."
    )


def _unlabelled(found: Selection) -> str:
    bare = [row.value for row in found.candidates if row.status == Status.VACUOUS]
    if not bare or found.leader is None:
        return ""
    return (
        f"Nothing is known of the true reward of {_listed(found.by, bare)}: never "
        "chosen, never excluded by its learned reward. Label some of its prompts."
    )


def _axis(found: Selection) -> Axis:
    numbers = [value for row in found.candidates for value in (*(ends(row) or ()), _on_axis(row))]
    return axis_for([value for value in numbers if value is not None] or [0.0, 1.0])


def _on_axis(row: Candidate) -> float | None:
    """Return the measured value, which stands beside intervals of the same scale alone."""
    return row.proxy if wording.one_scale(row.certificate) else None


def _units(found: Selection) -> str:
    return wording.units_of(found.candidates[0].certificate)


def _table(found: Selection, ink: Ink) -> list[RenderableType]:
    digits, axis = _digits(found), _axis(found)
    columns = (
        (found.by, NUMBER),
        ("proxy", NUMBER),
        ("", PICTURE),
        ("lower to upper", NUMBER),
        ("status", LABEL),
        ("as the best", LABEL),
    )
    rows = [_cells(row, found, axis, digits, ink) for row in found.candidates]
    unit = ink.text(_units(found), "dim")
    rulers = [
        ("", "", Ruler(ink, axis, labels=False), "", "", ""),
        ("", "", Ruler(ink, axis, labels=True), unit, "", ""),
    ]
    about = f"true {TARGET_NAMES[found.target]} of each {found.by}; all {len(rows)} hold together"
    table = titled(ink, columns, rows, gap=1, spare=("", "proxy"), under=rulers)
    return [heading(ink, "Certificates", about), table]


def _cells(
    row: Candidate, found: Selection, axis: Axis, digits: int, ink: Ink
) -> list[RenderableType]:
    both, strong = ends(row), "bold" if row.value == found.chosen else ""
    return [
        ink.text(row.value, strong),
        ink.text("–" if row.proxy is None else near(row.proxy, digits)),
        Span(ink, axis, both, point=_on_axis(row), style=STATUS_STYLES.get(row.status, "")),
        ink.text(interval(*both, digits) if both else "–", strong),
        ink.status(row.status),
        ink.text(verdict_of(row, found), strong or "dim"),
    ]


def verdict_of(row: Candidate, found: Selection) -> str:
    """Say whether a candidate is chosen, may be the best, or who is above it."""
    if row.value == found.chosen:
        return "chosen"
    if row.excluded is None:
        return "possible"
    how = "" if row.excluded.status in _SOUND else ", by estimate"
    return f"no: below {row.excluded.by}{how}"


def _differences(found: Selection, ink: Ink) -> list[RenderableType]:
    """Show each candidate less the leader, and what the difference was made from."""
    pairs = [(row.value, row.comparison) for row in found.candidates if row.comparison is not None]
    if not pairs:
        return []
    columns = (
        (found.by, NUMBER),
        ("measured", NUMBER),
        ("lower to upper", NUMBER),
        ("made from", LABEL),
        ("shared", NUMBER),
        ("gold", NUMBER),
    )
    digits = _digits(found)
    rows = [_difference_cells(value, item, digits, ink) for value, item in pairs]
    told = (
        "Who is excluded, and how far the choice may be below the best, hold together with the "
        "certificates; an interval in this table holds on its own."
    )
    title = heading(ink, f"Less {_name(found, found.leader)}", _units(found))
    return [title, titled(ink, columns, rows, spare=("shared", "gold")), ink.text(told, "dim")]


def _difference_cells(value: Name, item: Comparison, digits: int, ink: Ink) -> list:
    both = ends(item)
    counts = ("–" if number is None else f"{number:,}" for number in (item.shared, item.labelled))
    return [
        ink.text(value),
        ink.text("–" if item.mean is None else near(item.mean, digits, signed=True)),
        ink.text(_signed(both, digits) if both else "–"),
        ink.text(KINDS[item.kind]),
        *map(ink.text, counts),
    ]


def _signed(both: Ends, digits: int) -> str:
    return f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"


def _trained_on(found: Selection, ink: Ink) -> list[RenderableType]:
    if not found.trained_on:
        return []
    return [heading(ink, "Trained on these prompts?"), *map(ink.text, found.trained_on)]


def _foundations(found: Selection, ink: Ink) -> list[RenderableType]:
    """The delta ledger in one line, and the settings that matter for a comparison."""
    if not found.ledger:
        return []
    single = [item for item in found.ledger if item.event.startswith("certificate of ")]
    others = [item for item in found.ledger if item not in single]
    parts = [f"δ {_delta(single)} for {count(len(single), 'certificate')}"]
    parts += [f"{_delta([item])} for {item.event}" for item in others]
    settings = found.settings
    words = [f"seed {settings.seed}", settings.method]
    words += [] if settings.tau is None else [f"τ {near(settings.tau, 2)} nats for all"]
    aside = settings.draws_set_aside
    words += [f"{aside} draws set aside to choose τ"] if aside else []
    note = "as it stands in the worst of them"
    lines: list[RenderableType] = [heading(ink, "What it rests on", note)]
    lines += assumption_table(found.assumptions, ink)
    if found.leader is not None and (
        declare := wording.to_declare(found[found.leader].certificate)
    ):
        lines.append(ink.text(declare))
    return lines + flow(" + ".join(parts), ink, " + ") + flow(" · ".join(words), ink)


def _delta(entries: Iterable[LedgerEntry]) -> str:
    return f"{sum(item.delta for item in entries):.3g}"


def _health(found: Selection, ink: Ink) -> list[RenderableType]:
    return health_lines(found.health, ink)

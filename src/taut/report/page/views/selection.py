"""The page of a selection: who is chosen, who may still be best, and the pairs."""

from taut.decisions.selection.result import Candidate, Selection
from taut.report import wording
from taut.report.digits import count, decimals_for, down, level_text, short, up
from taut.report.names import TARGET_NAMES
from taut.report.page.blocks import Block, Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.groups import steps_of
from taut.report.page.views.parts import NONE, number, span
from taut.report.terminal.selection import (
    KINDS,
    choice_text,
    price_lines,
    set_lines,
    verdict_of,
)
from taut.report.wording import ends


def selection_view(found: Selection) -> View:
    """Return the page of a selection."""
    leader = None if found.leader is None else found[found.leader]
    gold = sum(item.certificate.log.gold_rollouts for item in found.candidates)
    return View(
        verdict=choice_text(found),
        kind="taut select",
        status=Status("vacuous" if leader is None else str(leader.status)),
        about=f"true {TARGET_NAMES[found.target]} of the choice",
        cards=_cards(found),
        lead=[*set_lines(found), *price_lines(found)],
        plain=parts.plain_words(
            found.log.rollouts, found.log.prompts, gold, level_text(found.level)
        ),
        sections=_sections(found),
    )


def _digits(found: Selection) -> int:
    widths = [both[1] - both[0] for row in found.candidates if (both := ends(row))]
    return decimals_for(min((width for width in widths if width > 0), default=None), steps=20)


def _cards(found: Selection) -> list[Card]:
    digits, favourite = _digits(found), found[found.best_proxy]
    what = f"The best by learned reward is {found.by} {favourite.value}."
    cards = [Card("Measured", number(favourite.proxy, digits), what, "learned")]
    if found.chosen is None:
        cards.append(Card("Certified", "nothing", choice_text(found), "doubt"))
    else:
        row = found[found.chosen]
        what = f"The best by guarantee is {found.by} {row.value}: {span(ends(row), digits)}."
        least = f"at least {down(row.lower or 0.0, digits)}"
        cards.append(Card("Certified", least, what, "certified"))
    left, total = len(found.not_excluded), len(found.candidates)
    if found.over_optimised == "caught":
        why = "The learned reward rose where the true one fell: over-optimisation, beyond chance."
        cards.append(Card("Why they differ", "over-optimised", why))
    elif found.chosen is not None:
        why = f"{left} of {total} may still be the best."
        if found.regret is not None:
            why += f" The choice is at most {up(found.regret, digits)} below it."
        cards.append(Card("What is open", "", why))
    declare = "" if found.leader is None else wording.to_declare(found[found.leader].certificate)
    more = f"To exclude more, label prompts that the {found.by}s share." if left > 1 else ""
    use = f"Use {found.by} {found.chosen}." if found.chosen is not None else ""
    text = " ".join(part for part in (more, declare) if part)
    if use or text:
        cards.append(Card("Do next", use, text))
    return cards


def _sections(found: Selection) -> list[Section]:
    each = f"True {TARGET_NAMES[found.target]} of each {found.by}"
    note = f"{each}; all {len(found.candidates)} hold together."
    declare = "" if found.leader is None else wording.to_declare(found[found.leader].certificate)
    return [
        Section(
            "candidates",
            "Certificates",
            [Figure("steps"), Figure("candidates"), _table(found)],
            note,
        ),
        Section("pairs", f"Less {found.by} {found.leader}", _pairs(found)),
        Section("trained", "Trained on these prompts?", [*map(Text, found.trained_on or ())]),
        Section("ledger", "Error budget δ", parts.ledger(found.ledger, found.settings.delta)),
        parts.health(found.health),
        parts.assumptions(found.assumptions, [declare], "As it stands in the worst of them."),
        Section("settings", "Settings", [Text(_settings(found))]),
    ]


def _table(found: Selection) -> Table:
    digits = _digits(found)
    rows = [_row(item, found, digits) for item in found.candidates]
    strong = [at for at, item in enumerate(found.candidates) if item.value == found.chosen]
    titles = (found.by, "proxy", "lower to upper", "status", "gold prompts", "as the best")
    return Table(titles, rows, {1, 2, 4}, "Candidates", strong, steps_of(found.candidates))


def _row(item: Candidate, found: Selection, digits: int) -> tuple:
    return (
        str(item.value),
        number(item.proxy, digits),
        span(ends(item), digits),
        Status(str(item.status)),
        f"{item.gold_prompts:,}",
        verdict_of(item, found),
    )


def _pairs(found: Selection) -> list[Block]:
    pairs = [(row.value, row.comparison) for row in found.candidates if row.comparison is not None]
    if not pairs:
        return []
    digits, rows = _digits(found), []
    for value, item in pairs:
        both = ends(item)
        where = NONE
        if both:
            low, high = (down(both[0], digits, signed=True), up(both[1], digits, signed=True))
            where = f"{low} to {high}"
        counts = (NONE if n is None else f"{n:,}" for n in (item.shared, item.labelled))
        mean = number(item.mean, digits, signed=True)
        rows.append((str(value), mean, where, KINDS[item.kind], *counts))
    titles = (found.by, "measured", "lower to upper", "made from", "shared", "with gold")
    told = (
        "Who is excluded, and how far the choice may be below the best, hold together with the "
        "certificates; an interval in this table holds on its own."
    )
    table = Table(titles, rows, {1, 2, 4, 5}, "Differences")
    return [Figure("differences"), table, Text(told, "quiet"), Figure("matrix")]


def _settings(found: Selection) -> str:
    settings = found.settings
    words = [] if settings.beta is None else [f"β {short(settings.beta)} reward units a nat"]
    words += [] if settings.tau is None else [f"τ {short(settings.tau)} nats for all"]
    if settings.draws_set_aside:
        words.append(f"{count(settings.draws_set_aside, 'draw')} set aside to choose τ")
    words += [settings.method, f"seed {settings.seed}", f"taut {found.version}"]
    return f"{' · '.join(words)}."

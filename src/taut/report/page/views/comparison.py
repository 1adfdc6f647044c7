"""The page of two policies compared: the verdicts, both differences, each side by itself."""

from taut.decisions.comparison.result import Difference, PolicyComparison, Side
from taut.report import wording
from taut.report.digits import decimals_for, down, interval, level_text, short, up
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES
from taut.report.page.blocks import Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.parts import number
from taut.report.terminal.comparison import KINDS, further
from taut.report.wording import ends


def comparison_view(found: PolicyComparison) -> View:
    """Return the page of a comparison."""
    logs = [side.certificate.log for side in (found.a, found.b)]
    return View(
        verdict=found.sentence,
        kind="taut compare",
        status=Status(str(found.difference.status)),
        about=f"{found.a.name} less {found.b.name}, {TARGET_FORMULAS[found.target]}",
        cards=_cards(found),
        lead=[found.hacked_sentence, *further(found)],
        plain=parts.plain_words(
            sum(log.rollouts for log in logs),
            max(log.prompts for log in logs),
            sum(log.gold_rollouts for log in logs),
            level_text(found.level),
        ),
        sections=_sections(found),
    )


def _digits(found: PolicyComparison) -> int:
    both = [ends(found.difference), ends(found.learned_difference)]
    widths = [high - low for low, high in filter(None, both) if high > low]
    return decimals_for(min(widths, default=None), steps=20)


def _signed(both: wording.Ends, digits: int) -> str:
    return f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"


def _cards(found: PolicyComparison) -> list[Card]:
    digits, learned, true = _digits(found), ends(found.learned_difference), ends(found.difference)
    less = f"{found.a.name} less {found.b.name}"
    cards = []
    if learned:
        text = f"Learned {TARGET_NAMES[found.target]}, {less}."
        cards.append(Card("Measured", _signed(learned, digits), text, "learned"))
    if true and found.difference.status != "vacuous":
        text = f"True {TARGET_NAMES[found.target]}, {less}: {found.difference.status}."
        cards.append(Card("Certified", _signed(true, digits), text, "certified"))
    else:
        text = "Nothing is known of the true difference."
        cards.append(Card("Certified", "nothing", text, "doubt"))
    answer = {"yes": "hacked", "no": "not hacked"}.get(found.hacked, "cannot tell")
    tone = "doubt" if found.hacked == "yes" else ""
    cards.append(Card("Was the reward hacked?", answer, found.hacked_sentence, tone))
    advice = {
        "a_better": f"Take {found.a.name}.",
        "b_better": f"Take {found.b.name}.",
        "no_worse": f"{found.a.name} is no worse by the margin that was set.",
    }.get(found.verdict, " ".join(further(found)[1:]))
    return [*cards, Card("Do next", "", advice)] if advice else cards


def _sections(found: PolicyComparison) -> list[Section]:
    note = f"{found.a.name} less {found.b.name}; both hold together at {level_text(found.level)}."
    own = f"Each at {level_text(found.a.certificate.level)}, by itself."
    name, digits = TARGET_NAMES[found.target], _digits(found)
    rows = [
        _row(f"true {name}", found.difference, digits),
        _row(f"learned {name}", found.learned_difference, digits),
    ]
    titles = ("", "estimate", "lower to upper", "status", "shared", "labelled", "made from")
    sides = [_side(item) for item in (found.a, found.b)]
    own_titles = ("", "prompts", "with gold", "measured", "lower to upper", "status")
    settings = found.settings
    words = [] if settings.beta is None else [f"β {short(settings.beta)} reward units a nat"]
    words += [settings.method, f"seed {settings.seed}", f"taut {found.version}"]
    return [
        Section(
            "differences",
            "Differences",
            [Figure("comparison"), Table(titles, rows, {1, 2, 4, 5}, "Differences", {0})],
            note,
        ),
        Section("sides", "Each by itself", [Table(own_titles, sides, {1, 2, 3, 4})], own),
        Section("ledger", "Error budget δ", parts.ledger(found.ledger, settings.delta)),
        parts.health(found.health),
        parts.assumptions(found.assumptions, note="As it stands in the worse of both."),
        Section("settings", "Settings", [Text(f"{' · '.join(words)}.")]),
    ]


def _row(name: str, item: Difference, digits: int) -> tuple:
    both = ends(item)
    where = _signed(both, digits) if both else "no labels"
    mean = number(item.mean, digits, signed=True)
    counts = (f"{item.shared:,}", f"{item.labelled:,}")
    return name, mean, where, Status(str(item.status)), *counts, KINDS.get(item.kind, item.kind)


def _side(item: Side) -> tuple:
    found = item.certificate
    both = None if wording.learned_only(found) else ends(found.certificate)
    digits = wording.headline_decimals(found)
    where = interval(*both, digits) if both else "no labels"
    counts = (f"{found.log.prompts:,}", f"{found.log.gold_prompts:,}")
    measured = number(item.measured, digits)
    return item.name, *counts, measured, where, Status(str(wording.status_of(found)))

"""The pages of a monitor and of a watch: the decision, the interval and its path."""

from collections.abc import Sequence

from taut.decisions.stopping.result import MonitorResult, Series, WatchResult
from taut.report.digits import count, level_text
from taut.report.page.blocks import Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.terminal.monitor import (
    DECISIONS,
    guess,
    headline,
    log_lines,
    span_text,
    subject,
    vouch,
)

_PLAIN = (
    "The interval may be looked at at any time, and acted on: it holds at all times at once, so "
    "stopping when it looks good costs nothing (§2.5)."
)


def monitor_view(found: MonitorResult) -> View:
    """Return the page of one monitor."""
    return View(
        verdict=headline(found, "mean"),
        kind="taut.Monitor",
        status=Status(str(found.interval.status)),
        about="mean of such blocks",
        cards=_cards(found),
        plain=[_PLAIN],
        sections=[
            Section("path", "Path", [Figure("path"), _series("", [found])]),
            parts.assumptions(found.assumptions),
        ],
    )


def watch_view(found: WatchResult) -> View:
    """Return the page of a watch."""
    series, about = found.series, subject(found)
    single = len(series) == 1 and series[0].value is None
    verdict = f"The {about} of each {found.settings.by}; all hold together."
    cards: Sequence[Card] = ()
    if single:
        verdict, cards = headline(series[0], about), _cards(series[0])
    told = []
    if found.of != "gold":
        told.append(
            "For the learned reward only. Label a random subset of the prompts as they come "
            "(column gold) and say --gold."
        )
    say = vouch(found.assumptions)
    return View(
        verdict=verdict,
        kind="taut watch",
        status=Status(str(found.status if found.of == "gold" else found.learned_status)),
        about=about,
        cards=cards,
        lead=told,
        plain=[parts.PLAIN_LEARNED, _PLAIN],
        sections=[
            Section("path", "Path", [Figure("path"), _series(found.settings.by or "", series)]),
            parts.health(found.health),
            parts.assumptions(
                found.assumptions, [f"Where you can vouch for it, {say}."] if say else []
            ),
            Section("log", "The log", [*map(Text, log_lines(found))]),
        ],
    )


def _cards(item: MonitorResult | Series) -> list[Card]:
    if not item.n:
        return []
    text = f"After {count(item.n, 'block')}, at {level_text(item.interval.level)} at all times."
    cards = [Card("Interval", span_text(item.interval), text, "certified")]
    forecast = f" At this rate about {guess(item.forecast)} blocks in all." if item.forecast else ""
    cards.append(Card("Decision", DECISIONS[item.decision], f"{item.reason}.{forecast}"))
    return cards


def _series(by: str, items: Sequence[MonitorResult | Series]) -> Table:
    rows = [
        (
            str(getattr(item, "value", None) or "all"),
            f"{item.n:,}",
            span_text(item.interval),
            level_text(item.interval.level),
            Status(str(item.interval.status)),
            f"{DECISIONS[item.decision].lower()}: {item.reason}",
        )
        for item in items
    ]
    titles = (by, "blocks", "lower to upper", "level", "status", "decision")
    return Table(titles, rows, {1, 2, 3}, "Intervals")

"""The page of an experiment whose truth is known; `taut demo` has an audit in it."""

from collections.abc import Sequence
from typing import Any

from taut.report.digits import count, interval, level_text, near
from taut.report.page.blocks import Block, Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.certificate import certificate_view
from taut.report.terminal.lab import lab_sentences, made_lines, related_rows

_DIGITS = 3


def lab_view(found: Any) -> View:
    """Return the page of an experiment.

    Args:
        found: A `taut.lab.outcome.Outcome`, which lives above the reports.
    """
    run = [
        Section(
            "run",
            "Learned against true, step by step",
            [Figure("steps"), _table(found), Figure("kl")],
            _key(found),
        ),
        Section("examples", "One response each", _examples(found), "The first that was drawn."),
        Section("made", "How the experiment was made", [*map(Text, made_lines(found))]),
    ]
    rows = related_rows(found)
    if rows:
        told = "Mean reward, reward units: what each interval is about, and why it differs."
        table = Table(("what", "interval", "why it differs"), rows, {1}, "Intervals of one step")
        run.insert(
            1,
            Section("related", f"Step {found.steps[-1].step} in several intervals", [table], told),
        )
    sentences = lab_sentences(found)
    if found.audit is None:
        level, settings = level_text(found.level), found.settings
        plain = parts.plain_words(
            settings["prompts"] * len(found.steps),
            settings["prompts"],
            settings["gold"] * len(found.steps),
            level,
        )
        return View(
            verdict=sentences[0],
            kind="taut lab overoptimise",
            lead=sentences[1:],
            cards=_cards(found),
            plain=plain,
            sections=run,
        )
    audit, last = certificate_view(found.audit), found.steps[-1].step
    told = f"This is the checkpoint with the best learned reward, step {last}. {sentences[0]}"
    return View(
        verdict=audit.verdict,
        kind=f"taut demo: the audit of a run that over-optimised, step {last}",
        status=audit.status,
        about=audit.about,
        cards=audit.cards,
        lead=[told, *sentences[1:], *audit.lead],
        plain=audit.plain,
        sections=[audit.sections[0], run[0], *audit.sections[1:], *run[1:]],
    )


def _key(found: Any) -> str:
    inside = sum(row.covered["reward"] for row in found.steps)
    return (
        f"The truth is known here, and the audit never saw it: it lies inside {inside} of "
        f"{len(found.steps)} certificates."
    )


def _cards(found: Any) -> list[Card]:
    first, last, choice = found.steps[0], found.steps[-1], found.selection
    end = last.certificates["reward"]
    learned = f"The learned reward, from {near(first.proxy, 2)} at step {first.step}."
    true = f"The true reward at step {last.step}; it is {near(last.truth.gold, _DIGITS)}."
    cards = [
        Card("Measured", near(last.proxy, _DIGITS), learned, "learned"),
        Card("Certified", interval(end.lower, end.upper, _DIGITS), true, "certified"),
    ]
    if choice.chosen is not None:
        text = "By certified reward; the learned reward would have taken a later one."
        if choice.best_proxy == choice.chosen:
            text = "By certified reward, and by the learned one."
        cards.append(Card("Do next", f"use step {choice.chosen}", text))
    return cards


def _table(found: Any) -> Table:
    chosen = found.selection.chosen
    rows: list[Sequence] = []
    for row in found.steps:
        end = row.certificates["reward"]
        rows.append(
            (
                str(row.step),
                near(row.proxy, _DIGITS),
                near(row.truth.gold, _DIGITS),
                interval(end.lower, end.upper, _DIGITS),
                Status(end.status),
                near(row.kl, 1),
                "inside" if row.covered["reward"] else "OUTSIDE",
            )
        )
    titles = ("step", "learned", "true", "certificate", "status", "KL, nats", "truth")
    strong = [at for at, row in enumerate(found.steps) if row.step == chosen]
    steps = [float(row.step) for row in found.steps]
    return Table(titles, rows, {0, 1, 2, 3, 5}, "Checkpoints", strong, steps)


def _examples(found: Any) -> list[Block]:
    rows = [
        (
            str(row.step),
            row.prompt,
            row.response or "(nothing)",
            near(row.reward, 2),
            near(row.gold, 2),
        )
        for row in found.examples
    ]
    titles = ("step", "prompt", "response", "learned", "true")
    return [Table(titles, rows, {0, 3, 4}, "Examples")] if rows else []


__all__ = ["count", "lab_view"]

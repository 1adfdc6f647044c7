"""Sections that several results share: assumptions, the δ ledger, health, how it was made."""

from collections.abc import Iterable, Sequence

from taut.auditing.certificate import LedgerEntry
from taut.draws.assumptions import Assumption
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.report import names, statements, wording
from taut.report.digits import count, interval, near, short
from taut.report.page.blocks import Block, Section, Status, Table, Text
from taut.report.wording import Ends

NONE = "–"
PLAIN_LEARNED = (
    "A language model was trained, or is judged, with a learned reward: a model that scores its "
    "answers. Such scores can be too kind, and they are the kinder the harder one trains against "
    "them."
)


def span(both: Ends | None, digits: int) -> str:
    """Return an interval as text, or a dash."""
    return interval(*both, digits) if both else NONE


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Return a number as text, or a dash."""
    return NONE if value is None else near(value, digits, signed=signed)


def assumptions(items: Iterable[Assumption], after: Sequence[str] = (), note: str = "") -> Section:
    """Return what a result rests on, each with how it stands and who says so."""
    rows = [(Status(wording.standing(item)), _capital(item.text), item.by) for item in items]
    told: list[Block] = [Text(text) for text in after if text]
    table = [Table(("stands", "assumption", "who says so"), rows, caption="Assumptions")]
    return Section("assumptions", "What it rests on", [*(table if rows else []), *told], note)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def health(checks: Sequence[Check], note: str = "") -> Section:
    """Return every check of the log: what is wrong first, what passed last."""
    order = (FAIL, WARN, NOTE, NOT_CHECKED, PASS)
    rows = [
        (Status(item.status), statements.check_name(item), _found(item))
        for status in order
        for item in checks
        if item.status == status
    ]
    table = Table(("outcome", "check", "found, and what to do"), rows, caption="Health of the log")
    said = f"{_capital(statements.health_sentence(checks))}." if checks else ""
    return Section("health", "Health of the log", [table] if rows else [], note or said)


def _found(check: Check) -> str:
    if not check.remedy or check.status == PASS:
        return check.detail
    return f"{check.detail} → {check.remedy}".strip()


def ledger(entries: Iterable[LedgerEntry], delta: float) -> list[Block]:
    """Return the events that may fail, and the probability that each may fail with."""
    rows = [(short(item.delta), item.event) for item in entries]
    if not rows:
        return []
    told = f"Error budget: all of these hold together but for a probability of δ = {short(delta)}."
    return [Text(told, "quiet"), Table(("δ", "may fail"), rows, {0}, "Error budget")]


def worst_check(checks: Iterable[Check]) -> Check | None:
    """Return a check that failed, where there is one."""
    return next((item for item in checks if item.status == FAIL), None)


def plain_words(rollouts: int, prompts: int | None, gold: int, level: str) -> list[str]:
    """Say what this is about, for who never saw taut."""
    gold_text = (
        f"{count(gold, 'of them carries', 'of them carry')} a gold label: a verdict that is "
        "trusted, such as a person's."
        if gold
        else "None of them carries a gold label, a verdict that is trusted, such as a person's: so "
        "nothing can be said of the true reward."
    )
    to = "" if prompts is None else f" to {count(prompts, 'prompt')}"
    return [
        PLAIN_LEARNED,
        f"Here are {count(rollouts, 'answer')} (rollouts){to}, with "
        f"their learned rewards. {gold_text}",
        f"From these taut computes an interval that contains the true mean with a probability of "
        f"{level}, whatever the rewards look like: a guarantee at this number of prompts, not for "
        "infinitely many. It is as good as what it rests on, which is listed below.",
        *(f"{word.capitalize()}: {text}" for word, text in names.HELP_STATUS.items()),
    ]

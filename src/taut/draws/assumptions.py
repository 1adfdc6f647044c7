"""What a result rests on, how each assumption stands, and what that allows (theory §5)."""

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from taut.types import Status, weakest


class Standing(StrEnum):
    """How an assumption stands, from strongest to weakest."""

    RECORDED = "recorded"  # the file says so, and ours wrote it
    CHECKED = "checked"  # looked at with full power
    DECLARED = "declared"  # the user said so
    ASSUMED = "assumed"  # nobody said so, and nobody can look
    IN_DOUBT = "in_doubt"  # a test speaks against it
    VIOLATED = "violated"  # a test speaks against it beyond chance


# Names of assumptions; the last word of a name is what --declare calls it.
HELD_OUT = "held-out"
ONE_LAW = "one-law"
COMPLETE = "complete"
RANDOM_LABELS = "random-labels"
LABEL_CHANCES = "label-chances"
REPLACEMENT = "replacement"
REWARD_RANGE = "reward-range"
GOLD_RANGE = "gold-range"
LOG_PROBS = "log-probs"
QUANTITY = "quantity"  # weights, declared constants
ORDER = "order"  # of draws in an interval that may be looked at at any time
SAME_PROMPTS = "same-prompts"  # of two logs that are compared
INDEPENDENT = "independent"  # blocks that a caller makes

DECLARABLE = (HELD_OUT, COMPLETE, RANDOM_LABELS)

_DESIGN = {
    Standing.RECORDED: Status.CERTIFIED,
    Standing.CHECKED: Status.CERTIFIED,
    Standing.DECLARED: Status.CERTIFIED,
    Standing.ASSUMED: Status.CONDITIONAL,
    Standing.IN_DOUBT: Status.CONDITIONAL,
    Standing.VIOLATED: Status.ESTIMATED,
}
# A range that nobody declared was read off the data: it holds for these values alone.
_RANGE = _DESIGN | {Standing.ASSUMED: Status.ESTIMATED}
_QUANTITY = {
    standing: Status.ESTIMATED if standing is Standing.VIOLATED else Status.CONDITIONAL
    for standing in Standing
}
_TABLE = {
    LABEL_CHANCES: _RANGE,
    REWARD_RANGE: _RANGE,
    GOLD_RANGE: _RANGE,
    LOG_PROBS: _QUANTITY,
    QUANTITY: _QUANTITY,
    REPLACEMENT: _QUANTITY,
}


class Assumption(BaseModel):
    """One thing that a result rests on.

    Attributes:
        name: What it is about, as for --declare where it can be declared.
        text: The assumption as a statement that may be true or false.
        stands: How it stands.
        by: Who or what says so: a test with what it found, a declaration, a record.
        settled: False where a gate must not pass although the number stands: something about the
            log calls for a word of the user.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    text: str
    stands: Standing
    by: str
    settled: bool = True

    @property
    def status(self) -> Status:
        """The best status that a result resting on it can have (the table of theory §5)."""
        return _TABLE.get(self.name, _DESIGN)[self.stands]

    @property
    def doubted(self) -> bool:
        """Whether a test speaks against it."""
        return self.stands in (Standing.IN_DOUBT, Standing.VIOLATED)


def status_of(assumptions: Iterable[Assumption]) -> Status:
    """Return what a result is worth that rests on some assumptions: the weakest decides."""
    return weakest([Status.CERTIFIED, *(item.status for item in assumptions)])


def gate_refusal(assumptions: Iterable[Assumption]) -> str | None:
    """Say why a gate must not pass although the result is conditional; None where it may."""
    for item in assumptions:
        if item.doubted:
            return f"{item.text}: {item.stands.replace('_', ' ')} ({item.by})"
        if not item.settled:
            return f"{item.text}: {item.by}"
    return None

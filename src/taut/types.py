"""The vocabulary: the few records that every room of the house speaks in."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What a number is worth, from strongest to weakest (theory §5)."""

    CERTIFIED = "certified"  # finite-sample; assumes only what the data section says
    CONDITIONAL = "conditional"  # finite-sample under a named assumption
    ESTIMATED = "estimated"  # no guarantee
    VACUOUS = "vacuous"  # true but says nothing

    @property
    def rank(self) -> int:
        """Position in the order: 0 for certified, 3 for vacuous."""
        return list(Status).index(self)


def weakest(statuses: Iterable[Status]) -> Status:
    """Return the weakest of some statuses: a chain is worth its weakest link (theory §5)."""
    return max(statuses, key=lambda status: status.rank)


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval for a mean, in the units of the data it was made from."""

    lower: float
    upper: float

    @property
    def width(self) -> float:
        """Length of the interval."""
        return self.upper - self.lower


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One of the three errors: a signed interval for its share of J* - J-hat (design §5).

    Attributes:
        lower, upper: Reward units of the user's scale.
        delta: Share of the error budget that only this term spends, probability.
        status: What the interval is worth.
        assumes: What must hold beyond the data section, printed in the report.
        source: Where the bound comes from, for example "theory §3.6".
        route: Which of several ways was taken, where there are several.
    """

    lower: float
    upper: float
    delta: float
    status: Status
    assumes: tuple[str, ...] = ()
    source: str = ""
    route: str | None = None

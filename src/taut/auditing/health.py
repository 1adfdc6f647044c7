"""What a log can and cannot support, and its JSON (design §5)."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part
from taut.types import Status
from taut.version import __version__


class HealthLog(Part):
    """Counts of a log that was looked at."""

    rollouts: int
    prompts: int
    draws: int
    cells: int
    labels: str
    rejected_rows: int


class Certifiable(Part):
    """What can be certified of one target, and what keeps it from more."""

    target: str
    status: Status | None
    reason: str


class Health(Document):
    """What a log can and cannot support; iterates over its checks.

    Attributes:
        certifiable: Of each target what a certificate could be worth, and why it is not more.
        assumptions: What would be rested on, each with how it stands.
        health: The checks.
    """

    schema_name: Literal["taut.health/2"] = Field("taut.health/2", alias="schema")
    version: str = __version__
    log: HealthLog
    certifiable: tuple[Certifiable, ...]
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]

    def __iter__(self) -> Iterator[Check]:  # type: ignore[override]
        return iter(self.health)

    def __len__(self) -> int:
        return len(self.health)

    def __getitem__(self, index: int) -> Check:
        return self.health[index]

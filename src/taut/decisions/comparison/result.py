"""Two policies compared, and its JSON, `taut.comparison/1`."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from taut.auditing.certificate import Certificate, LedgerEntry
from taut.decisions.contest.result import Difference, Hacked
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part, frame
from taut.version import __version__

if TYPE_CHECKING:
    import pandas

Verdict = Literal["a_better", "b_better", "no_worse", "cannot_tell"]


class Side(Part):
    """One of the two policies.

    Attributes:
        name: As it was given: a file, or the value of the column.
        certificate: Its own certificate, which holds at the level that it says, by itself.
        measured: Measured value of the learned reward for the target, reward units.
    """

    name: str
    certificate: Certificate
    measured: float | None


class ComparisonSettings(Part):
    """What was declared and asked for."""

    beta: float | None
    delta: float
    delta_true: float
    delta_learned: float
    tau: float | None
    tau_negative: float | None
    reward_range: tuple[float, float] | None
    gold_range: tuple[float, float] | None
    gold_scale: tuple[float, float] | None
    method: str
    calibration_share: float
    seed: int
    declare: tuple[str, ...]
    prompts: str
    margin: float | None


class PolicyComparison(Document):
    """Two policies compared on the true reward where gold is, and on the learned one beside it.

    `difference` and `learned_difference` hold together at `level`.

    Attributes:
        by: The column that told the two apart; None where they were two logs.
        target: "reward", "clipped" or "objective".
        units: "gold" or "reward": what `difference` is in; the learned one is in reward units.
        difference: f(a) - f(b), true reward.
        learned_difference: The same with the learned reward in place of the true one.
        verdict: a_better, b_better, no_worse (a is at most `margin` worse) or cannot_tell.
        sentence: The verdict in words.
        hacked: Whether the side that gained learned reward gained none, or lost: yes; no where its
            true gain is certified; else cannot_tell.
        hacked_sentence: That in words.
        labels_to_tell: About how many labelled draws shared by both would decide; None where no
            number can be told.
    """

    schema_name: Literal["taut.comparison/1"] = Field("taut.comparison/1", alias="schema")
    version: str = __version__
    by: str | None
    target: str
    units: str
    level: float
    settings: ComparisonSettings
    a: Side
    b: Side
    difference: Difference
    learned_difference: Difference
    verdict: Verdict
    sentence: str
    hacked: Hacked
    hacked_sentence: str
    labels_to_tell: int | None
    ledger: tuple[LedgerEntry, ...]
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]

    @property
    def lower(self) -> float | None:
        """Lower end of f(a) - f(b)."""
        return self.difference.lower

    @property
    def upper(self) -> float | None:
        """Upper end of f(a) - f(b)."""
        return self.difference.upper

    def to_frame(self) -> "pandas.DataFrame":
        """Return the two differences as a table of pandas.

        Raises:
            UsageError: pandas is not installed.
        """
        rows: list[dict[str, Any]] = [
            {"of": "true", **self.difference.model_dump()},
            {"of": "learned", **self.learned_difference.model_dump()},
        ]
        return frame(rows)

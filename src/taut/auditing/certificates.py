"""Certificates of groups that hold together, and their JSON (design §5)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from taut.auditing.certificate import Certificate
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part, frame
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas


class SliceMean(Part):
    """The mean reward of responses that fall in a slice: a ratio of two means (theory §2.8).

    Attributes:
        lower, upper: For the mean of `of` in the slice, in units of gold (r*) or reward (r-hat);
            None where nothing can be told.
        of: "r*" with labels; "r-hat" without.
        status: What that interval is worth.
        measured: The plain mean of what is known in the slice.
        learned: Mean learned reward in it, reward units.
        gap_lower, gap_upper: For the mean of r-hat - r* in it, reward units; None without labels,
            or where gold has a scale of its own.
        gap_status: What that is worth.
        share: Share of all responses that fall in it.
        rollouts, draws, labelled: Rows in it, draws with a row in it, and with a labelled one.
    """

    lower: float | None = None
    upper: float | None = None
    of: str | None = None
    status: Status | None = None
    measured: float | None = None
    learned: float | None = None
    gap_lower: float | None = None
    gap_upper: float | None = None
    gap_status: Status | None = None
    share: float
    rollouts: int
    draws: int
    labelled: int = 0


class Group(Part):
    """One of several statements that hold together.

    Attributes:
        value: The slice; of several columns their values joined by " · ".
        certificate: Its certificate; None for a slice by response or a gap, and where, among very
            many, a slice is too small.
        slice: The mean in a slice by response, and how far the learned reward is off.
        delta: Its share of the error budget, probability.
        cannot_tell: Why nothing can be said of the true reward there.
        usual: What the usual estimate says, where that is another one: of pass@k and best@k the
            plug-in, which is biased.
    """

    value: int | str
    certificate: Certificate | None = None
    slice: SliceMean | None = None
    delta: float | None = None
    cannot_tell: str | None = None
    usual: float | None = None


class Mix(Part):
    """The weighted total of slices, at the weights of a target mix.

    Attributes:
        weights: Slice to its share of the target; they sum to 1.
        lower, upper: Weighted ends of the slices' intervals, which hold together.
        measured: Weighted measured values; None where one is not known.
        status: The weakest of the slices'.
        units: Of the certificates.
    """

    weights: dict[str, float]
    lower: float | None
    upper: float | None
    measured: float | None
    status: Status
    units: str


def _group_row(group: Group) -> dict[str, Any]:
    if group.certificate is not None:
        return _row(group.certificate)
    return {} if group.slice is None else group.slice.model_dump()


class Certificates(Document):
    """Certificates that hold together at 1 - delta, one for each value of a column.

    Behaves as a mapping from values to certificates.

    Attributes:
        by: The column, or several joined by ", ".
        of: What its values belong to: "law", "prompt" or "response"; "draw" where they are
            numbers k of rollouts, "part" where they are parts of the reward.
        cuts: Where columns of numbers were cut.
        mix: The total at a target mix of the slices, where one was asked for.
        gap: All of delta is spent on how far the learned reward is off: `groups[].slice` has
            `gap_lower` and `gap_upper` alone.
        assumptions, health: Of slices that have no certificates of their own, as they stand worst.
    """

    schema_name: Literal["taut.certificates/2"] = Field("taut.certificates/2", alias="schema")
    version: str = __version__
    by: str
    delta: float
    of: str = "law"
    cuts: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    groups: tuple[Group, ...]
    mix: Mix | None = None
    gap: bool = False
    assumptions: tuple[Assumption, ...] = ()
    health: tuple[Check, ...] = ()

    def __getitem__(self, value: int | str) -> Certificate:
        for group in self.groups:
            if group.value == value and group.certificate is not None:
                return group.certificate
        raise KeyError(value)

    def __len__(self) -> int:
        return len(self.groups)

    def __contains__(self, value: object) -> bool:
        return any(group.value == value for group in self.groups)

    def __iter__(self) -> Iterator[int | str]:  # type: ignore[override]
        return iter(self.keys())

    def keys(self) -> list[int | str]:
        """Return the values of the column."""
        return [group.value for group in self.groups]

    def values(self) -> list[Certificate]:
        """Return the certificates that there are, in the order of the values."""
        return [group.certificate for group in self.groups if group.certificate is not None]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the certificates as a table of pandas, one row a group.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([{self.by: group.value, **_group_row(group)} for group in self.groups])

    def items(self) -> list[tuple[int | str, Certificate]]:
        """Return values and certificates, of those that have one."""
        known = (group for group in self.groups if group.certificate is not None)
        return [(group.value, group.certificate) for group in known if group.certificate]


def _row(found: Certificate) -> dict[str, Any]:
    """Return a certificate as one row of a table."""
    return {
        "target": found.target,
        "measured": found.targets[found.target].measured,
        "lower": found.certificate.lower,
        "upper": found.certificate.upper,
        "level": found.level,
        "status": str(found.status),
        "units": found.certificate.units,
        "prompts": found.log.prompts,
        "gold_prompts": found.log.gold_prompts,
    }

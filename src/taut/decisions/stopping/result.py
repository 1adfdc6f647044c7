"""What a monitor reads now: the interval, the decision, the path; its JSON, `taut.monitor/1`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from taut.results import Document, Part, frame
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas


class MonitorSettings(Part):
    """What a monitor was made with; units are those of its blocks."""

    low: float
    high: float
    delta: float
    width: float | None
    require_lower: float | None
    most: int | None
    side: str
    means: str


class LevelSpan(Part):
    """An interval that holds at all times at once, at `level`, and what it is worth."""

    lower: float
    upper: float
    level: float
    status: Status


class PathPoint(Part):
    """The interval and the mean after n blocks."""

    n: int
    lower: float
    upper: float
    mean: float


class Reading(Document):
    """What a monitor says after n blocks.

    Attributes:
        n, mean: Number of blocks, and their mean; None before the first.
        interval: For the mean, at all times.
        decision: "reached", "impossible" or "continue".
        reason: Why, in one sentence.
        decided_at: The block that took the decision; None before.
        forecast: About how many blocks all goals will have taken; a guess. None where there is
            nothing to guess.
        path: About 20 points a decade of blocks, and the last.
    """

    schema_name: Literal["taut.monitor/1"] = Field("taut.monitor/1", alias="schema")
    version: str = __version__
    settings: MonitorSettings
    n: int
    mean: float | None
    interval: LevelSpan
    decision: str
    reason: str
    decided_at: int | None
    forecast: int | None
    path: tuple[PathPoint, ...]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the path as a table of pandas, one row a point.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([point.model_dump() for point in self.path])

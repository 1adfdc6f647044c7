"""Results of a monitor and of `taut watch`, and their JSON: `taut.monitor/2`, `taut.watch/2`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from taut.auditing.certificate import Pair, StatedSpan
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part, frame
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas


class Goals(Part):
    """What a monitor was made with; see `taut.Monitor`."""

    low: float
    high: float
    delta: float
    width: float | None
    require_lower: float | None
    most: int | None
    side: str
    means: str
    declare: tuple[str, ...]


class Ends(StatedSpan):
    """An interval at all times.

    Attributes:
        level: Probability with which it holds at all times at once.
    """

    level: float


class Point(Part):
    """An interval at one time."""

    n: int
    lower: float
    upper: float
    mean: float


class Monitored(Part):
    """Where a monitor stands.

    Attributes:
        n: Blocks so far.
        mean: Their mean; None before the first.
        decision: "reached", "impossible" or "continue"; `reason` says why.
        decided_at: The block that took the decision.
        forecast: About how many blocks all goals take; a guess.
        path: The interval over time, about 20 points a decade.
    """

    settings: Goals
    n: int
    mean: float | None
    decision: str
    reason: str
    decided_at: int | None
    forecast: int | None
    path: tuple[Point, ...]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the path as a table of pandas, one row a point.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([point.model_dump() for point in self.path])


class MonitorResult(Document, Monitored):
    """An interval at all times for the mean of blocks that a caller made.

    Attributes:
        assumptions: What it rests on, each with how it stands.
    """

    schema_name: Literal["taut.monitor/2"] = Field("taut.monitor/2", alias="schema")
    version: str = __version__
    interval: Ends
    assumptions: tuple[Assumption, ...]


class SeriesEnds(Ends):
    """The interval of a series.

    Attributes:
        units: "gold" or "reward".
        range: What the target lies in without any data.
    """

    units: str
    range: Pair


class SeriesLog(Part):
    """Counts of a series.

    Attributes:
        prompts: Distinct prompts; under replacement None before all rows were looked at.
        draws: Draws that were counted; as many, unless replacement is declared.
        cells: Steps, policies and runs of its rows; None before all rows were looked at.
        labels: How labelled rows lie in their draws; None before that.
    """

    prompts: int | None
    draws: int
    cells: int | None
    labels: str | None


class Series(Monitored):
    """One of the intervals of a watch.

    Attributes:
        value: Its step, policy or run; None where there is one interval for all.
        assumptions, health: Of its rows.
    """

    value: str | None
    interval: SeriesEnds
    log: SeriesLog
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]


class WatchSettings(Part):
    """What was declared and asked for; see `WatchOptions`."""

    reward_range: Pair
    gold_range: Pair | None
    gold_scale: Pair | None
    target: str
    beta: float | None
    tau: float | None
    tau_negative: float | None
    gold: bool
    control: float
    unlabelled: int
    delta: float
    width: float | None
    require_lower: float | None
    most: int | None
    side: str
    average: bool
    by: str | None
    one_policy: bool
    declare: tuple[str, ...]
    prompts: str
    whole_batches: bool
    per_prompt: int | None


class WatchLog(Part):
    """Counts of a growing log.

    Attributes:
        files: Files of the log that were there at the last look.
        incomplete: Those that are being written and wait.
        notes: What else is known of files.
        clipped_rewards: Rewards outside the declared range.
        rollouts: Rows that were read.
        prompts, draws: Distinct prompts, and draws, that were counted.
        cells: Steps, policies and runs of the rows; None before all rows were looked at.
        revisits: Later draws of counted prompts, left out.
        pending_prompts: Prompts that are not complete.
        labelled_prompts: Counted draws with gold.
        labels: How labelled rows lie in their draws; None before all rows were looked at, and
            where series differ in it.
        waiting_for: What holds up complete draws.
        order: "launch", "rows", or "ids" where the log was finished when it was read.
    """

    files: int
    incomplete: tuple[str, ...]
    notes: tuple[str, ...]
    clipped_rewards: int
    rollouts: int
    prompts: int | None
    draws: int
    cells: int | None
    revisits: int
    pending_prompts: int
    labelled_prompts: int
    labels: str | None
    waiting_for: str | None
    order: str


class WatchResult(Document):
    """What a growing log says so far.

    Attributes:
        target: "reward" or "clipped".
        of: "gold" (the true reward) or "learned".
        decision: That of the series; "reached" where one of several has.
        status: Of the weakest series, for the true reward; vacuous before the first block.
        learned_status: The same for the reward that the intervals are about.
        checked: All rows were looked at: a decision was taken, or the log is finished.
        assumptions, health: As in the worst of the series.
        series: The intervals, which all hold together.
    """

    schema_name: Literal["taut.watch/2"] = Field("taut.watch/2", alias="schema")
    version: str = __version__
    target: str
    of: str
    settings: WatchSettings
    decision: str
    status: Status
    learned_status: Status
    checked: bool
    log: WatchLog
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]
    series: tuple[Series, ...]

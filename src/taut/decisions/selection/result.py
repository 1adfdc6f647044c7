"""The choice among candidates with its evidence, and its JSON, `taut.selection/2`."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from taut.auditing.certificate import Certificate, LedgerEntry
from taut.decisions.contest.result import Difference, Hacked, Name
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part, frame
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas

TRAINED_ON = (
    "These prompts recur across steps and were not declared held out: a candidate that was trained "
    "on them can look better on them than it is, so every interval here is an estimate and nothing "
    "is chosen.",
    "Covered by the union over these candidates (theory §6.3): choosing among them by looking at "
    "these prompts, in any way at all, if every candidate was fixed before these prompts were "
    "drawn and every candidate that was looked at is in the log. Where that is so, say --declare "
    "held-out.",
    "Not covered: training on these prompts, or on others after having looked at these. Such a "
    "candidate is not one of a few fixed beforehand, but one of all that training could have made "
    "of them; that takes a prior over policies fixed before the prompts (PAC-Bayes, theory §6.1 to "
    "§6.4), or fresh prompts.",
)


class Comparison(Part):
    """f(candidate) - f(against), in the units of the target.

    Attributes:
        kind: "gold" (paired on prompts that both have, gold on both sides), "certificates" (the
            difference of two intervals), or "proxy" (learned rewards: no evidence on the true one).
        mean: Of the paired blocks, or of the two measured values where nothing is paired.
        lower, upper: Each end fails with probability at most its share of delta.
        status: What the ends are worth as evidence on the true target.
        shared, labelled: Draws that both have, and those with gold for both; None where pairs were
            not looked at, since too few labelled draws are shared.
    """

    against: Name
    kind: str
    mean: float | None
    lower: float | None
    upper: float | None
    status: Status
    shared: int | None
    labelled: int | None


class Exclusion(Part):
    """Why a candidate cannot be the best: another one is above it."""

    by: Name
    status: Status


class Candidate(Part):
    """One candidate: its certificate, and how it compares with the one that leads.

    Attributes:
        value: Its step, or its name.
        proxy: Measured value of the learned reward, reward units.
        comparison: With the leader; None for the leader itself, and where nobody leads.
    """

    value: Name
    proxy: float | None
    lower: float | None
    upper: float | None
    status: Status
    gold_prompts: int
    comparison: Comparison | None
    excluded: Exclusion | None
    certificate: Certificate

    @property
    def name(self) -> Name:
        """Its step, or its name."""
        return self.value


class Hacking(Part):
    """Did the learned reward's favourite gain in truth what it gained in learned reward?

    Attributes:
        verdict: "yes" where the learned gain is certain and the true one is a loss, or surely less;
            "no" where the true gain is certain too; else "cannot_tell".
        candidate: The favourite of the learned reward.
        against: The choice; where that is the favourite too the first step, or, among policies and
            runs, the one whose learned reward is lowest.
        difference, learned_difference: f(candidate) - f(against), true and learned.
    """

    verdict: Hacked
    sentence: str
    candidate: Name
    against: Name
    difference: Difference
    learned_difference: Difference


class Price(Part):
    """What choosing costs the leader: its interval at delta, had it been alone."""

    width: float | None
    width_alone: float | None
    lower_given_up: float | None


class SelectionSettings(Part):
    """What was declared and asked for; units are those of the log."""

    beta: float | None
    delta: float
    tau: float | None
    tau_negative: float | None
    tau_source: str | None
    reward_range: tuple[float, float] | None
    gold_range: tuple[float, float] | None
    gold_scale: tuple[float, float] | None
    method: str
    side: str
    route: str
    calibration_share: float
    seed: int
    held_out: bool
    declare: tuple[str, ...]
    prompts: str
    coverage: float | None
    reward_mse: float | None
    log_ratio_max: float | None
    log_ratio_second_moment: float | None
    leader: Name | None = None
    draws_set_aside: int


class SelectionLog(Part):
    """Counts of the whole log, all candidates together."""

    rollouts: int
    prompts: int
    cells: int
    rejected_rows: int


class Selection(Document):
    """A choice among candidates, with its evidence (theory §6.3).

    Attributes:
        by: The column that tells candidates apart.
        units: "gold" or "reward": what the intervals are in.
        chosen: Best certified (or conditional) lower end among those not excluded; None where no
            candidate has a guarantee.
        leader: `chosen`, or the best of the estimates where there is none; None if all say nothing.
        best_proxy: The candidate with the highest measured value of the learned reward.
        over_optimised: Whether that favourite is the choice ("no"), doubted, or caught.
        hacked: Whether its learned gain is a true one; None without a leader.
        not_excluded: Those that cannot be excluded as best.
        not_excluded_by_estimate: The same with exclusions counted that carry no guarantee.
        tiers: Candidates that cannot be told apart, best tier first; each one below is worse than
            one in the tiers above it, all at once with the other claims. Those without a guarantee
            are in none.
        regret: The choice is at most this much below the best; None if not known.
        price: What choosing cost; None without a leader.
        candidates: Steps in increasing order, names alphabetically.
        ledger: Random events and the delta they spend; their sum is at most delta.
        trained_on: What that means, where prompts recur across steps and nobody declared otherwise.
        assumptions, health: The worst of all candidates.
    """

    schema_name: Literal["taut.selection/2"] = Field("taut.selection/2", alias="schema")
    version: str = __version__
    by: str
    target: str
    units: str
    level: float
    settings: SelectionSettings
    log: SelectionLog
    chosen: Name | None
    leader: Name | None
    best_proxy: Name
    over_optimised: str | None
    hacked: Hacking | None = None
    not_excluded: tuple[Name, ...]
    not_excluded_by_estimate: tuple[Name, ...]
    tiers: tuple[tuple[Name, ...], ...] = ()
    regret: float | None
    price: Price | None
    candidates: tuple[Candidate, ...]
    ledger: tuple[LedgerEntry, ...]
    trained_on: tuple[str, ...] | None
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]

    def __getitem__(self, name: Name) -> Candidate:
        return next(item for item in self.candidates if item.value == name)

    def to_frame(self) -> "pandas.DataFrame":
        """Return the candidates as a table of pandas, one row each.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([self._row(item) for item in self.candidates])

    def _row(self, item: Candidate) -> dict[str, Any]:
        gap = item.comparison
        return {
            self.by: item.value,
            "proxy": item.proxy,
            "lower": item.lower,
            "upper": item.upper,
            "status": str(item.status),
            "gold_prompts": item.gold_prompts,
            "chosen": item.value == self.chosen,
            "excluded_by": None if item.excluded is None else item.excluded.by,
            "less_leader_lower": None if gap is None else gap.lower,
            "less_leader_upper": None if gap is None else gap.upper,
        }

    @property
    def remaining(self) -> tuple[Name, ...]:
        """Those that cannot be excluded as best."""
        return self.not_excluded

    @property
    def remaining_by_estimate(self) -> tuple[Name, ...]:
        """The same with exclusions counted that carry no guarantee."""
        return self.not_excluded_by_estimate

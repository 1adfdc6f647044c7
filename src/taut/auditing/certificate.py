"""The certificate: an interval for a true objective with its evidence, and its JSON (design §5)."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    pass

Pair = tuple[float, float]


class Span(Part):
    """An interval; an end is None where nothing bounds it."""

    lower: float | None
    upper: float | None

    @property
    def width(self) -> float:
        """Length; infinite where an end is open."""
        if self.lower is None or self.upper is None:
            return math.inf
        return self.upper - self.lower


class StatedSpan(Span):
    """An interval and what it is worth."""

    status: Status


class TermResult(Part):
    """One of the three errors: a signed interval for its share of truth less measured value.

    Attributes:
        route: Which of several ways was taken, where there are several.
        lower, upper: In the units of the target; None where gold has a scale of its own, so that
            the terms cannot be told apart (`reason`).
        delta: Share of the error budget that only this term spends, probability.
        status: What it is worth.
        assumes: What must hold beyond the design of the log.
        source: Where the bound comes from.
        reason: Why there are no numbers.
    """

    route: str | None = None
    lower: float | None
    upper: float | None
    delta: float
    status: Status
    assumes: tuple[str, ...] = ()
    source: str = ""
    reason: str | None = None


class Terms(Part):
    """Sampling, reward shift and KL clipping; their sum moves the measured value to the truth."""

    sampling: TermResult
    reward_shift: TermResult
    kl_clipping: TermResult

    def __iter__(self) -> Iterator[TermResult]:  # type: ignore[override]
        return iter((self.sampling, self.reward_shift, self.kl_clipping))

    def named(self) -> tuple[tuple[str, TermResult], ...]:
        """Return (name, term) of each, in their order."""
        return tuple((name, getattr(self, name)) for name in type(self).model_fields)


class Target(Part):
    """One target's own certificate, in short; only `unavailable` where it cannot be had.

    Attributes:
        units: "gold" or "reward".
        range: What lies in these units without any data.
        proxy: The same with the learned reward in place of the true one, in reward units.
    """

    measured: float | None = None
    lower: float | None = None
    upper: float | None = None
    status: Status | None = None
    units: str | None = None
    range: Pair | None = None
    route: str | None = None
    proxy: StatedSpan | None = None
    unavailable: str | None = None


class Interval(Part):
    """The certificate itself.

    Attributes:
        lower, upper: In `units`; None where nothing bounds that end.
        level: Probability with which it holds.
        status: The weakest of its parts.
        units: "gold" or "reward".
        range: What the target lies in without any data; an end None where it has none.
    """

    lower: float | None
    upper: float | None
    level: float
    status: Status
    units: str
    range: tuple[float | None, float | None]


class Settings(Part):
    """What was declared and asked for; units are those of the log."""

    beta: float | None
    delta: float
    target: str
    target_asked: str
    tau: float | None
    tau_negative: float | None
    tau_source: str | None
    reward_range: Pair
    reward_range_source: str
    gold_range: Pair | None
    gold_scale: Pair | None
    method: str
    side: str
    calibration_share: float
    seed: int
    held_out: bool
    declare: tuple[str, ...]
    prompts: str
    missing: str | None
    launched: tuple[int, int] | None
    log_prob_noise: float | None
    gold_kind: str | None = None
    coverage: float | None
    reward_mse: float | None
    log_ratio_max: float | None
    log_ratio_second_moment: float | None
    simultaneous: int


class PerPrompt(Part):
    """Rollouts per draw."""

    min: int
    mean: float
    max: int


class Log(Part):
    """Counts of a log.

    Attributes:
        prompts: Distinct prompts.
        draws: Draws of prompts; as many, unless replacement or a list is declared.
        cells: Steps, policies and runs that the rows come from.
        certifying_prompts: Draws that certify.
        labels: How labelled rows lie in their draws.
    """

    rollouts: int
    prompts: int
    draws: int
    cells: int
    certifying_prompts: int
    rollouts_per_prompt: PerPrompt
    gold_rollouts: int
    gold_prompts: int
    labels: str
    rejected_rows: int
    steps: int | None
    reward_range_source: str


class Measured(Part):
    """Means over the certifying draws, weighted equally; None without the columns.

    Rewards in reward units, gold in units of gold, KL in nats, shares as probabilities.
    `raw_reward` is the mean before rewards were clipped to their range; None where none was.
    """

    objective: float | None
    reward: float
    raw_reward: float | None
    gold: float | None
    kl: float | None
    clipped_kl: float | None
    clipped_share: float | None


class Paper(Part):
    """Theorem 1 of arXiv 2602.21765 on all draws of the log: half-widths, reward units.

    None where the data or the declaration for a term is missing. The clipping term is the plug-in
    mean of the sample, as the theorem's own is not known. Source: theory §2.1, §3.1, §4.1.
    """

    alpha: float
    sampling: float | None
    reward_shift: float | None
    kl_clipping: float | None
    total: float | None
    coverage: float | None
    reward_mse: float | None


class RouteEntry(Part):
    """One line of the table of routes: what a route would give, and why it was not taken."""

    route: str
    description: str
    status: Status | None
    lower: float | None
    upper: float | None
    reason: str


class Comparison(Part):
    """The clustered normal interval of the same mean, for comparison only (theory §2.7)."""

    normal_lower: float | None
    normal_upper: float | None
    status: Status


class LogRatio(Part):
    """The log-ratio itself, nats; prompts weighted equally (theory §4.6). None: not finite.

    Attributes:
        k1, k2, k3: Estimates of the KL: means of l, l^2 / 2 and e^-l - 1 + l.
        mean_exp_minus: Mean of e^-l; its expectation is at most 1.
        max, min: Over the certifying draws.
        clipped_share_positive, clipped_share_negative: Rollouts beyond tau, probability.
    """

    k1: float | None
    k2: float | None
    k3: float | None
    mean_exp_minus: float | None
    max: float | None
    min: float | None
    clipped_share_positive: float
    clipped_share_negative: float


class TokenClipping(Part):
    """What clipping token by token changed: estimates, no guarantee (theory §4.5).

    Attributes:
        clip: Constant at which token log-ratios were clipped, nats.
        bias, absolute: Means of l - l^tok and |l - l^tok|, nats.
        share_changed: Rollouts that it changed, probability.
        negative_bound: E[length] e^(-1 - clip), which the negative side cannot exceed, nats; None
            where lengths are unknown.
    """

    clip: float
    bias: float
    absolute: float
    share_changed: float
    negative_bound: float | None


class LedgerEntry(Part):
    """A random event and the probability that it may fail with."""

    event: str
    delta: float


class Sensitivity(Part):
    """What the certificate would be if log-ratios and log-weights were off by up to `noise` nats.

    Ends in the units of the target; None where nothing bounds that end.
    """

    noise: float
    lower: float | None
    upper: float | None
    status: Status
    route: str | None


class Advice(Part):
    """The one thing that would tighten the certificate most."""

    text: str
    lower_gain: float | None


class CoveredMass(Part):
    """Interval for the mass that weights up to `level` cover."""

    level: float
    lower: float
    upper: float


class Coverage(Part):
    """What the weights of the reward data look like (theory §3.7)."""

    draws: int
    effective_sample_size: float | None
    largest_share: float | None
    mean: float | None
    log_e_value: float | None
    pareto_k: float | None
    plug_in_coverage: float | None
    covered_mass: CoveredMass
    coverage_floor: float | None
    identical_share: float
    noise_floor: float | None


class Certificate(Document):
    """An interval for a true objective at level 1 - delta, with its evidence (theory §5).

    Attributes:
        target: The target that `certificate` speaks of.
        target_reason: Why this one, where it was chosen by what the log can certify.
        targets: All three, each on its own at the same level.
        terms, ledger, routes, comparison: Of the target.
        assumptions: What it rests on, each with how it stands.
        sensitivity: With reward data and no declared noise of log-probs, at noises of .1 and .5.
        transport: A document `taut.transport/2`, where a margin was declared.
    """

    schema_name: Literal["taut.certificate/2"] = Field("taut.certificate/2", alias="schema")
    version: str = __version__
    target: str
    target_reason: str | None
    settings: Settings
    log: Log
    measured: Measured
    terms: Terms
    certificate: Interval
    proxy: StatedSpan
    targets: dict[str, Target]
    coverage: Coverage | None
    routes: tuple[RouteEntry, ...]
    paper: Paper
    comparison: Comparison
    log_ratio: LogRatio | None
    token_clipping: TokenClipping | None
    ledger: tuple[LedgerEntry, ...]
    assumptions: tuple[Assumption, ...]
    advice: Advice
    sensitivity: tuple[Sensitivity, ...] = ()
    health: tuple[Check, ...]
    transport: dict[str, Any] | None = None

    @property
    def lower(self) -> float:
        """Lower end, in the units of the target; -inf where nothing bounds it."""
        return -math.inf if self.certificate.lower is None else self.certificate.lower

    @property
    def upper(self) -> float:
        """Upper end, in the units of the target; inf where nothing bounds it."""
        return math.inf if self.certificate.upper is None else self.certificate.upper

    @property
    def status(self) -> Status:
        """The weakest status among the parts."""
        return self.certificate.status

    @property
    def level(self) -> float:
        """Probability with which each target's interval holds."""
        return self.certificate.level

    @property
    def tau(self) -> float | None:
        """Positive clip threshold, nats; None without log-probs or clipping."""
        return self.settings.tau

    @property
    def tau_negative(self) -> float | None:
        """Negative clip threshold, nats."""
        return self.settings.tau_negative

"""Where to clip, with the curve it was chosen on, and its JSON, `taut.threshold/1`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from taut.auditing.certificate import Pair, PerPrompt
from taut.results import Document, Part, frame
from taut.version import __version__

if TYPE_CHECKING:
    import pandas


class Point(Part):
    """Half-widths of an interval for the objective at one threshold, reward units.

    Attributes:
        tau, tau_negative: Thresholds of the measured form, nats; the paper's clips both at tau.
        sampling, clipping: The measured form: variance-adaptive sampling term and half of what the
            two tails add.
        paper_sampling, paper_clipping: W alpha and beta E(|l| - tau)_+ of the paper.
        total, paper_total: Sampling and clipping together.
    """

    tau: float
    tau_negative: float
    sampling: float
    clipping: float
    paper_sampling: float
    paper_clipping: float
    total: float
    paper_total: float


class SequenceClip(Part):
    """What clipping the sequence's log-ratio at ±constant would do; prompts weighted equally.

    Attributes:
        constant: Nats.
        share_above, share_below: Rollouts clipped on each side, probability.
        bias: beta E[l - clip(l)], reward units: what clipping hides of the KL cost, with its sign.
        hidden: beta E|l - clip(l)|, reward units.
        point: The half-widths there, clipped on both sides.
    """

    constant: float
    share_above: float
    share_below: float
    bias: float
    hidden: float
    point: Point


class TokenClip(Part):
    """What clamping each token's log-ratio at ±constant would do (theory §4.5).

    Attributes:
        constant: Nats per token.
        share: Rollouts that it changes, probability.
        bias, hidden: beta E[l - l^tok] and beta E|l - l^tok|, reward units.
        negative_bound: The negative side's free bound, beta E[length] e^(-1 - constant), reward
            units; None where lengths are unknown.
        longest: Tokens of the longest response seen, which stands in for the longest allowed.
        sampling, clipping, total: Half-widths, reward units; the range is constant * longest on
            each side. None where lengths are unknown.
    """

    constant: float
    share: float
    bias: float
    hidden: float
    negative_bound: float | None
    longest: int | None
    sampling: float | None
    clipping: float | None
    total: float | None


class Sides(Part):
    """Thresholds of both sides, nats."""

    tau: float
    tau_negative: float


class PaperRule(Part):
    """The paper's quantile rule (theory §7.1), and the same with its sides apart (§4.3).

    Attributes:
        alpha: alpha(n, K, delta) of Theorem 1.
        prompts, rollouts_per_prompt: The n and the (harmonic mean) K that it was taken for.
        tau: The smallest minimiser of 2 tau alpha + E(|l| - tau)_+: a (1 - 2 alpha)-quantile of
            |l|, or 0 if alpha is 1/2 or more. Nats.
        apart: tau and tau_negative that minimise alpha (tau + tau_negative) + E(l - tau)_+ +
            e^(-1 - tau_negative), nats.
        point: The half-widths at tau.
    """

    alpha: float
    prompts: int
    rollouts_per_prompt: float
    tau: float
    apart: Sides
    point: Point


class Draws(Part):
    """Which draws of prompts spoke, and what leaving them out of a certificate costs.

    Attributes:
        in_log: Draws of a prompt in the log.
        choosing: Draws that everything here was computed from.
        certifying: Draws that the forecast certificate has.
        apart: The choosing draws do not certify.
        price: Half-width that they would save if they certified too, reward units; 0 if they do
            or belong to another log.
    """

    in_log: int
    choosing: int
    certifying: int
    apart: bool
    price: float


class NegativeSide(Part):
    """Nats hidden on average below -tau_negative, beside the bound on it that costs nothing.

    Attributes:
        seen: E(-l - tau_negative)_+ on these draws.
        share: Of rollouts below, probability.
        bound: e^(-1 - tau_negative).
    """

    seen: float
    share: float
    bound: float


class LogRatioSpan(Part):
    """Log-ratios of the draws that spoke, nats."""

    min: float
    mean: float
    max: float


class ThresholdLog(Part):
    """Counts of a log."""

    rollouts: int
    prompts: int
    rollouts_per_prompt: PerPrompt
    rejected_rows: int
    steps: int | None
    log_ratio: LogRatioSpan


class ThresholdSettings(Part):
    """What was declared and asked for; units are those of the log."""

    beta: float
    delta: float
    reward_range: Pair
    reward_range_source: str
    log_ratio_max: float | None
    log_ratio_second_moment: float | None
    calibration_share: float
    seed: int
    held_out: bool


class TrainerLine(Part):
    """What one trainer offers.

    Attributes:
        framework, version: What was read: a release, or a commit and its day.
        level: "sequence", "token" or "none": what its option clips.
        line: The line to write, with what was chosen; None where there is nothing to write.
        statement: What it does clip, and where that stands in its source.
    """

    framework: str
    version: str
    level: str
    line: str | None
    statement: str


class ClipThreshold(Document):
    """Where to clip, and the curve it was chosen on. A forecast: nothing here is guaranteed.

    Attributes:
        draws: What the forecast is for.
        tau, tau_negative, tau_source: What `taut audit --tau auto` takes on this log, nats, and
            the reason.
        too_few: The log was too small, or too mixed, for anything to be chosen from it.
        chosen: The half-widths there.
        symmetric: The best threshold where both sides must be clipped at one constant.
        paper: The paper's rule.
        negative: The negative side.
        log_probs_sound: No sign that E e^(-l) exceeds 1, which its bound rests on.
        merged_steps: Prompts recur across steps, so that their rows were put in one draw each.
        curve: Half-widths over tau, ascending.
        sequence: What common constants would do to sequences.
        tokens: What they would do token by token; empty without token log-probs.
        token_constant: The one of these whose half-width is least, nats.
        options: Where to write it.
    """

    schema_name: Literal["taut.threshold/1"] = Field("taut.threshold/1", alias="schema")
    version: str = __version__
    kind: Literal["forecast"] = "forecast"
    settings: ThresholdSettings
    log: ThresholdLog
    draws: Draws
    tau: float
    tau_negative: float
    tau_source: str
    too_few: bool
    chosen: Point
    symmetric: Point
    paper: PaperRule
    negative: NegativeSide
    log_probs_sound: bool
    merged_steps: bool
    curve: tuple[Point, ...]
    sequence: tuple[SequenceClip, ...]
    tokens: tuple[TokenClip, ...]
    token_constant: float | None
    options: tuple[TrainerLine, ...]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the curve as a table of pandas: half-widths over tau, one row a threshold.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([point.model_dump() for point in self.curve])

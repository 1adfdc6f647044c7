"""Where to clip the log-ratio: the paper's rule, the measured one, and what constants would do.

Everything here is a forecast that chooses. No guarantee is needed for choosing and none is claimed:
`taut.audit` certifies at whatever threshold was fixed before its draws were seen (theory §7).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.calibration import (
    FEWEST_DRAWS,
    Thresholds,
    WidthForecast,
    choose_negative,
)
from taut.auditing.options import Options, Range, Target, options_of
from taut.auditing.prepare import Prepared, auto_thresholds, prepare
from taut.bounds.kl_clipping import TAIL_SHARE, clip_log_ratio, forecast_tail, negative_tail
from taut.bounds.sampling import predicted_half_width
from taut.draws.rollouts import Blocks, Rollouts
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError
from taut.inequalities.concentration import paper_alpha

# Constants that trainers clamp at, nats (docs/threshold.md names them).
CONSTANTS = (5.0, 10.0, 20.0, 40.0)
_POINTS = 49  # thresholds on the curve, evenly spaced
_ROUNDING = 1e-12  # a cumulative share may end this far below what it sums to


@dataclass(frozen=True, slots=True)
class Point:
    """Half-widths of an interval for the objective at one threshold, reward units.

    Attributes:
        tau, tau_negative: Thresholds of the measured form, nats; the paper's clips both at tau.
        sampling, clipping: The measured form: variance-adaptive sampling term and half of what the
            two tails add. Clipping is None where nothing can be said.
        paper_sampling, paper_clipping: W alpha and beta E(|l| - tau)_+ of the paper.
    """

    tau: float
    tau_negative: float
    sampling: float
    clipping: float
    paper_sampling: float
    paper_clipping: float

    @property
    def total(self) -> float:
        """Sampling and clipping together, the measured form, reward units."""
        return self.sampling + self.clipping

    @property
    def paper_total(self) -> float:
        """Sampling and clipping together, the paper's form, reward units."""
        return self.paper_sampling + self.paper_clipping


@dataclass(frozen=True, slots=True)
class SequenceClip:
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


@dataclass(frozen=True, slots=True)
class TokenClip:
    """What clamping each token's log-ratio at ±constant would do (theory §4.5).

    Attributes:
        constant: Nats per token.
        share: Rollouts that it changes, probability.
        bias, hidden: beta E[l - l^tok] and beta E|l - l^tok|, reward units.
        negative_bound: The negative side's free bound, beta E[length] e^(-1 - constant), reward
            units; None where lengths are unknown.
        longest: Tokens of the longest response seen, which stands in for the longest allowed.
        sampling, clipping: Half-widths, reward units; the range is constant * longest on each
            side. None where lengths are unknown.
    """

    constant: float
    share: float
    bias: float
    hidden: float
    negative_bound: float | None
    longest: int | None
    sampling: float | None
    clipping: float | None


@dataclass(frozen=True, slots=True)
class PaperRule:
    """The paper's quantile rule (theory §7.1), and the same with its sides apart (§4.3).

    Attributes:
        alpha: alpha(n, K, delta) of Theorem 1.
        prompts, rollouts_per_prompt: The n and the (harmonic mean) K that it was taken for.
        tau: The smallest minimiser of 2 tau alpha + E(|l| - tau)_+: a (1 - 2 alpha)-quantile of
            |l|, or 0 if alpha is 1/2 or more. Nats.
        apart: tau and tau_negative that minimise alpha (tau + tau_negative) + E(l - tau)_+ +
            e^(-1 - tau_negative), nats.
    """

    alpha: float
    prompts: int
    rollouts_per_prompt: float
    tau: float
    apart: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Draws:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipThreshold:
    """Where to clip, and the curve it was chosen on. A forecast: nothing here is guaranteed.

    Attributes:
        thresholds: What `taut audit --tau auto` takes on this log, with the reason.
        chosen: The half-widths there.
        symmetric: The best threshold where both sides must be clipped at one constant.
        paper: The paper's rule, and `at_paper` its point.
        curve: Half-widths over tau, ascending.
        sequence: What common constants would do to sequences.
        tokens: What they would do token by token; empty without token log-probs.
        negative: The negative side: nats hidden on average below -tau_negative, `seen`, beside the
            bound e^(-1 - tau_negative) on it that costs nothing, `bound`.
        log_probs_sound: No sign that E e^(-l) exceeds 1, which that bound rests on.
        merged: Prompts recur across steps, so that their rows were put in one draw each.
        draws, options, reward_range: What the forecast is for.
    """

    thresholds: Thresholds
    chosen: Point
    symmetric: Point
    paper: PaperRule
    at_paper: Point
    curve: tuple[Point, ...]
    sequence: tuple[SequenceClip, ...]
    tokens: tuple[TokenClip, ...]
    negative: dict[str, float]
    log_probs_sound: bool
    merged: bool
    draws: Draws
    log: dict
    options: Options
    reward_range: tuple[float, float]
    reward_range_declared: bool

    @property
    def tau(self) -> float:
        """Positive clip threshold, nats."""
        return self.thresholds.tau

    @property
    def tau_negative(self) -> float:
        """Negative clip threshold, nats."""
        return self.thresholds.tau_negative

    @property
    def document(self) -> dict:
        """The result as plain data, schema `taut.threshold/1`."""
        from taut.decisions.threshold.document import threshold_document

        return threshold_document(self)

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.terminal.threshold import threshold_text

        return threshold_text(self.document)

    def _repr_html_(self) -> str:
        from taut.report.terminal.threshold import threshold_html

        return threshold_html(self.document)


def clip_threshold(
    rollouts: Data,
    *,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    prompts: int | None = None,
    constants: tuple[float, ...] = CONSTANTS,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    tau_negative: float | None = None,
    delta: float = 0.05,
    target: Target = "objective",
    log_ratio_max: float | None = None,
    log_ratio_second_moment: float | None = None,
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
) -> ClipThreshold:
    """Choose where to clip the log-ratio, by the forecast width of the certificate.

    On the log itself the choice is that of `audit(..., tau="auto")`: only the calibration draws
    speak, so that looking at the result costs the certificate nothing. With `prompts` the choice
    is for another log of that many draws, and all draws of this one speak.

    Args:
        rollouts: The log of one policy, as anything that `taut.audit` takes.
        prompts: Draws of a prompt of the log to come; None for this log.
        constants: What to compare with, nats.

    The other arguments are those of `taut.audit`.

    Raises:
        LogError: The log has no log-probs, or no rollouts.
        UsageError: No beta, or settings that contradict each other.
        AssumptionError: Data contradict a declaration.

    Source: theory §7.1, §7.2, §4.3, §4.5.
    """
    options = options_of({name: value for name, value in locals().items() if name != "prompts"})
    rollouts = as_rollouts(rollouts, columns, token_clip=tuple(constants))
    _require(rollouts, options, prompts, constants)
    ready = prepare(rollouts, options)
    speaking, certifying = _speaking(ready, prompts)
    thresholds = ready.thresholds
    if prompts is not None:  # for another log: every draw of this one chooses
        thresholds = auto_thresholds(ready.data, ready.design.blocks, prompts, ready.delta, options)
    width = ready.design.units.width
    forecast = WidthForecast(
        reward=ready.data.reward,
        log_ratio=ready.data.log_ratio,
        beta=ready.data.beta,
        draws=speaking,
        certifying_draws=certifying,
        delta=ready.delta,
        second_moment=options.log_ratio_second_moment,
    )
    paper = _paper_rule(ready, speaking, len(ready.design.blocks) if prompts is None else prompts)
    judge = _Judge(forecast, paper.alpha, width, options.log_ratio_max)
    negative = thresholds.tau_negative
    log_ratio = ready.data.log_ratio
    return ClipThreshold(
        thresholds=thresholds,
        chosen=judge.point(thresholds.tau, negative),
        symmetric=_symmetric(judge, forecast, options.log_ratio_max),
        paper=paper,
        at_paper=judge.point(paper.tau, paper.tau),
        curve=_curve(judge, thresholds, paper),
        sequence=tuple(_sequence_clip(judge, constant) for constant in sorted(constants)),
        tokens=_token_clips(rollouts, judge),
        negative={
            "seen": _mean(speaking, np.maximum(-log_ratio - negative, 0.0)),
            "share": _mean(speaking, log_ratio < -negative),
            "bound": negative_tail(negative).bound,
        },
        log_probs_sound=ready.design.log_probs_sound,
        merged=ready.design.whole.recurs,
        draws=_draws(ready, judge, thresholds, prompts, speaking, certifying),
        log=_described(rollouts, ready, speaking),
        options=options,
        reward_range=ready.design.units.reward_range,
        reward_range_declared=ready.design.units.reward_declared,
    )


def paper_threshold(magnitude: np.ndarray, weight: np.ndarray, alpha: float) -> float:
    """Return the smallest minimiser of 2 tau alpha + E(|l| - tau)_+ over tau >= 0, nats.

    The slope is 2 alpha - P(|l| > tau), so a minimiser is any (1 - 2 alpha)-quantile; of an
    interval of them the smallest has the least range. Where |l| has ties it is one of its values.

    Args:
        magnitude: |l|, nats, shape (values,).
        weight: Weight of each value, any scale, shape (values,).
        alpha: alpha of Theorem 1.

    Source: theory §7.1.
    """
    return max(0.0, _quantile(magnitude, weight, 1 - 2 * alpha))


def _quantile(values: np.ndarray, weight: np.ndarray, probability: float) -> float:
    """Return the smallest value with at least a probability at or below it; 0 if that is <= 0."""
    if probability <= 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weight[order])
    index = np.searchsorted(mass, (probability - _ROUNDING) * mass[-1])
    return float(values[order[min(index, len(order) - 1)]])


# --- what the choice is for -----------------------------------------------------------------------


def _require(rollouts: Rollouts, options: Options, prompts, constants) -> None:
    if len(rollouts) and rollouts.log_ratio is None:
        raise LogError(
            "a clip threshold needs log-ratios: expected the columns 'policy_logprob' and "
            "'ref_logprob', or 'log_ratio', found none of these pairs; log the summed log-probs "
            "of each response under policy and reference, or name their columns with --map."
        )
    if options.beta is None:
        raise UsageError(
            "a clip threshold needs --beta, the KL strength in reward units per nat: without it "
            "range and tail have no price."
        )
    if prompts is not None and prompts < 1:
        raise UsageError(f"prompts is {prompts}; expected at least 1, or none for this log.")
    if any(not (math.isfinite(constant) and constant > 0) for constant in constants):
        raise UsageError(f"constants are {constants}; expected positive numbers of nats.")


def _speaking(ready: Prepared, prompts: int | None) -> tuple[Blocks, int]:
    """Return the draws to compute from, and how many will certify."""
    if prompts is not None:
        return ready.design.blocks, prompts
    chosen = ready.split.calibration
    # Without a calibration split nothing is chosen, and every draw may be looked at.
    return (chosen if len(chosen) else ready.design.blocks), len(ready.split.certifying)


def _paper_rule(ready: Prepared, speaking: Blocks, prompts: int) -> PaperRule:
    sizes = ready.design.blocks.sizes
    per_prompt = 1 / float(np.mean(1.0 / sizes))
    alpha = paper_alpha(prompts, per_prompt, ready.delta)
    values, weight = ready.data.log_ratio[speaking.rows], _weights(speaking)
    apart = (
        max(0.0, _quantile(values, weight, 1 - alpha)),
        max(0.0, math.log(1 / alpha) - 1),
    )
    tau = paper_threshold(np.abs(values), weight, alpha)
    return PaperRule(alpha, prompts, per_prompt, tau, apart)


def _weights(draws: Blocks) -> np.ndarray:
    """Weight of each row of some draws, prompts weighted equally, shape (rows,)."""
    return np.repeat(1.0 / draws.sizes, draws.sizes)


def _mean(draws: Blocks, values: np.ndarray) -> float:
    return math.fsum(draws.means(values.astype(np.float64))) / len(draws)


# --- half-widths ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Judge:
    """Half-widths in reward units at any threshold; `maximum` is the declared one, or None."""

    forecast: WidthForecast
    alpha: float
    scale: float
    maximum: float | None

    def point(self, tau: float, tau_negative: float) -> Point:
        of = self.forecast
        found = of.at(tau, tau_negative)
        # A declared maximum is never exceeded: at it, and beyond, nothing is hidden above.
        covered = self.maximum is not None and tau >= self.maximum
        positive = 0.0 if covered or of.beta == 0 else found.positive
        hidden = _mean(of.draws, np.maximum(np.abs(of.log_ratio) - tau, 0.0))
        return Point(
            tau=tau,
            tau_negative=tau_negative,
            sampling=self.scale * found.sampling,
            clipping=self.scale * (positive + found.negative) / 2,
            paper_sampling=self.scale * (1 + 2 * of.beta * tau) * self.alpha,
            paper_clipping=self.scale * of.beta * hidden,
        )


def _symmetric(judge: _Judge, forecast: WidthForecast, maximum: float | None) -> Point:
    """Return the best point where one constant clips both sides."""
    found = set(forecast.candidates())
    found.add(choose_negative(forecast.certifying_draws, forecast.delta))
    if maximum is not None:
        found.add(maximum)
    return min((judge.point(tau, tau) for tau in sorted(found)), key=lambda point: point.total)


def _curve(judge: _Judge, thresholds: Thresholds, paper: PaperRule) -> tuple[Point, ...]:
    """Return the curve around the thresholds of interest; an outlier does not stretch it."""
    magnitude = np.abs(judge.forecast.log_ratio[judge.forecast.draws.rows])
    most = float(np.quantile(magnitude, 0.9))
    marked = {thresholds.tau, paper.tau}
    top = 2 * max(*marked, most) or 1.0
    taus = sorted({*np.linspace(0.0, top, _POINTS).tolist(), *marked})
    return tuple(judge.point(tau, thresholds.tau_negative) for tau in taus)


def _sequence_clip(judge: _Judge, constant: float) -> SequenceClip:
    of = judge.forecast
    difference = of.log_ratio - clip_log_ratio(of.log_ratio, constant, constant)
    price = of.beta * judge.scale
    return SequenceClip(
        constant=constant,
        share_above=_mean(of.draws, of.log_ratio > constant),
        share_below=_mean(of.draws, of.log_ratio < -constant),
        bias=price * _mean(of.draws, difference),
        hidden=price * _mean(of.draws, np.abs(difference)),
        point=judge.point(constant, constant),
    )


# --- token by token -------------------------------------------------------------------------------


def _token_clips(rollouts: Rollouts, judge: _Judge) -> tuple[TokenClip, ...]:
    columns = {}
    if rollouts.token_clipped_log_ratio is not None and rollouts.token_clip is not None:
        columns[rollouts.token_clip] = rollouts.token_clipped_log_ratio
    if rollouts.token_clipped_sums is not None:
        columns.update(zip(rollouts.token_clips, rollouts.token_clipped_sums.T, strict=True))
    return tuple(
        _token_clip(rollouts.n_tokens, columns[clip], judge, clip) for clip in sorted(columns)
    )


def _token_clip(
    n_tokens: np.ndarray | None, clipped: np.ndarray, judge: _Judge, constant: float
) -> TokenClip:
    of, price = judge.forecast, judge.forecast.beta * judge.scale
    difference = of.log_ratio - clipped
    # Below rounding of the two sums a difference is not a clipped token.
    changed = np.abs(difference) > 1e-6
    difference = np.where(changed, difference, 0.0)
    found = TokenClip(
        constant=constant,
        share=_mean(of.draws, changed),
        bias=price * _mean(of.draws, difference),
        hidden=price * _mean(of.draws, np.abs(difference)),
        negative_bound=None,
        longest=None,
        sampling=None,
        clipping=None,
    )
    if n_tokens is None or (n_tokens[of.draws.rows] < 0).any():
        return found
    free = _mean(of.draws, n_tokens) * math.exp(-1 - constant)
    longest = int(n_tokens[of.draws.rows].max())
    reach = of.beta * constant * longest
    draws = of.draws.means(of.reward - of.beta * clipped)
    sampling = predicted_half_width(
        draws, low=-reach, high=1 + reach, blocks=of.certifying_draws, delta=of.delta
    )
    excess = np.maximum(difference, 0.0)
    above = forecast_tail(
        excess, of.draws, tau=0.0, blocks=of.certifying_draws, delta=TAIL_SHARE * of.delta / 2
    )
    clipping = of.beta * ((above if excess.any() else 0.0) + free) / 2
    return replace(
        found,
        negative_bound=price * free,
        longest=longest,
        sampling=judge.scale * sampling,
        clipping=judge.scale * clipping,
    )


# --- what is told beside --------------------------------------------------------------------------


def _draws(ready, judge, thresholds, prompts, speaking, certifying) -> Draws:
    apart = prompts is None and len(ready.split.calibration) > 0
    price = 0.0
    if apart:
        here = (thresholds.tau, thresholds.tau_negative)
        whole = (
            replace(judge.forecast, certifying_draws=len(ready.design.blocks)).at(*here).sampling
        )
        price = judge.scale * (judge.forecast.at(*here).sampling - whole)
    return Draws(len(ready.design.blocks), len(speaking), certifying, apart, price)


def _described(rollouts: Rollouts, ready: Prepared, speaking: Blocks) -> dict:
    sizes = ready.design.blocks.sizes
    values = ready.data.log_ratio[speaking.rows]
    return {
        "rollouts": len(rollouts),
        "prompts": len(ready.design.blocks),
        "rollouts_per_prompt": {
            "min": int(sizes.min()),
            "mean": float(sizes.mean()),
            "max": int(sizes.max()),
        },
        "rejected_rows": rollouts.rejected_rows,
        "steps": None if rollouts.step is None else len(np.unique(rollouts.step)),
        "log_ratio": {
            "min": float(values.min()),
            "mean": _mean(speaking, ready.data.log_ratio),
            "max": float(values.max()),
        },
    }


def too_few(found: ClipThreshold) -> bool:
    """Tell whether the log was too small for anything to be chosen from it."""
    return found.draws.choosing < FEWEST_DRAWS or (
        found.options.beta != 0 and found.thresholds.source.startswith("default")
    )

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
from taut.auditing.certificate import PerPrompt
from taut.auditing.options import Options, Range, options_of
from taut.auditing.prepare import Prepared, auto_thresholds, prepare
from taut.auditing.words import Target
from taut.bounds.kl_clipping import TAIL_SHARE, clip_log_ratio, forecast_tail, negative_tail
from taut.bounds.sampling import predicted_half_width
from taut.decisions.threshold.clip_options import OPTIONS
from taut.decisions.threshold.result import (
    ClipThreshold,
    Draws,
    LogRatioSpan,
    NegativeSide,
    PaperRule,
    Point,
    SequenceClip,
    Sides,
    ThresholdLog,
    ThresholdSettings,
    TokenClip,
    TrainerLine,
)
from taut.draws.rollouts import Blocks, Rollouts
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError
from taut.inequalities.concentration import paper_alpha

# Constants that trainers clamp at, nats (docs/threshold.md names them).
CONSTANTS = (5.0, 10.0, 20.0, 40.0)
_POINTS = 49  # thresholds on the curve, evenly spaced
_ROUNDING = 1e-12  # a cumulative share may end this far below what it sums to


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
    rollouts = ready.design.rollouts
    speaking, certifying = _speaking(ready, prompts)
    thresholds = ready.thresholds
    if prompts is not None:  # for another log: every draw of this one chooses
        thresholds = auto_thresholds(ready.data, ready.design.blocks, prompts, ready.delta, options)
    meant = len(ready.design.blocks) if prompts is None else prompts
    judge = _judge(ready, speaking, certifying, meant)
    paper = _paper_rule(ready, speaking, judge, meant)
    tokens = _token_clips(rollouts, judge)
    best_token = _best_token(tokens)
    draws = _draws(ready, judge, thresholds, prompts, speaking, certifying)
    return ClipThreshold(
        settings=_settings(ready),
        log=_described(rollouts, ready, speaking),
        draws=draws,
        tau=thresholds.tau,
        tau_negative=thresholds.tau_negative,
        tau_source=thresholds.source,
        too_few=draws.choosing < FEWEST_DRAWS
        or (ready.options.beta != 0 and thresholds.source.startswith("default")),
        chosen=judge.point(thresholds.tau, thresholds.tau_negative),
        symmetric=_symmetric(judge),
        paper=paper,
        negative=_negative_side(speaking, ready.data.log_ratio, thresholds.tau_negative),
        log_probs_sound=ready.design.log_probs_sound,
        merged_steps=ready.design.whole.recurs,
        curve=_curve(judge, thresholds, paper.tau),
        sequence=tuple(_sequence_clip(judge, constant) for constant in sorted(constants)),
        tokens=tokens,
        token_constant=best_token,
        options=tuple(_trainer_line(item, thresholds.tau, best_token) for item in OPTIONS),
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


def _per_prompt(ready: Prepared) -> float:
    """Harmonic mean of the rollouts a draw."""
    return 1 / float(np.mean(1.0 / ready.design.blocks.sizes))


def _paper_rule(ready: Prepared, speaking: Blocks, judge: "_Judge", prompts: int) -> PaperRule:
    alpha = judge.alpha
    values, weight = ready.data.log_ratio[speaking.rows], _weights(speaking)
    tau = paper_threshold(np.abs(values), weight, alpha)
    return PaperRule(
        alpha=alpha,
        prompts=prompts,
        rollouts_per_prompt=_per_prompt(ready),
        tau=tau,
        apart=Sides(
            tau=max(0.0, _quantile(values, weight, 1 - alpha)),
            tau_negative=max(0.0, math.log(1 / alpha) - 1),
        ),
        point=judge.point(tau, tau),
    )


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
        sampling = self.scale * found.sampling
        clipping = self.scale * (positive + found.negative) / 2
        paper_sampling = self.scale * (1 + 2 * of.beta * tau) * self.alpha
        paper_clipping = self.scale * of.beta * hidden
        return Point(
            tau=tau,
            tau_negative=tau_negative,
            sampling=sampling,
            clipping=clipping,
            paper_sampling=paper_sampling,
            paper_clipping=paper_clipping,
            total=sampling + clipping,
            paper_total=paper_sampling + paper_clipping,
        )


def _judge(ready: Prepared, speaking: Blocks, certifying: int, prompts: int) -> _Judge:
    forecast = WidthForecast(
        reward=ready.data.reward,
        log_ratio=ready.data.log_ratio,
        beta=ready.data.beta,
        draws=speaking,
        certifying_draws=certifying,
        delta=ready.delta,
        second_moment=ready.options.log_ratio_second_moment,
    )
    alpha = paper_alpha(prompts, _per_prompt(ready), ready.delta)
    return _Judge(forecast, alpha, ready.design.units.width, ready.options.log_ratio_max)


def _symmetric(judge: _Judge) -> Point:
    """Return the best point where one constant clips both sides."""
    forecast = judge.forecast
    found = set(forecast.candidates())
    found.add(choose_negative(forecast.certifying_draws, forecast.delta))
    if judge.maximum is not None:
        found.add(judge.maximum)
    return min((judge.point(tau, tau) for tau in sorted(found)), key=lambda point: point.total)


def _curve(judge: _Judge, thresholds: Thresholds, paper_tau: float) -> tuple[Point, ...]:
    """Return the curve around the thresholds of interest; an outlier does not stretch it."""
    magnitude = np.abs(judge.forecast.log_ratio[judge.forecast.draws.rows])
    most = float(np.quantile(magnitude, 0.9))
    marked = {thresholds.tau, paper_tau}
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
    known = n_tokens is not None and not (n_tokens[of.draws.rows] < 0).any()
    return TokenClip(
        constant=constant,
        share=_mean(of.draws, changed),
        bias=price * _mean(of.draws, difference),
        hidden=price * _mean(of.draws, np.abs(difference)),
        **(_token_widths(n_tokens, clipped, difference, judge, constant) if known else _UNKNOWN),
    )


_UNKNOWN = dict.fromkeys(("negative_bound", "longest", "sampling", "clipping", "total"))


def _token_widths(n_tokens, clipped, difference, judge: _Judge, constant: float) -> dict:
    """Half-widths where each token is clamped, and what they come from, reward units."""
    of = judge.forecast
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
    clipping = judge.scale * (of.beta * ((above if excess.any() else 0.0) + free) / 2)
    sampling *= judge.scale
    return {
        "negative_bound": of.beta * judge.scale * free,
        "longest": longest,
        "sampling": sampling,
        "clipping": clipping,
        "total": sampling + clipping,
    }


def _best_token(tokens: tuple[TokenClip, ...]) -> float | None:
    """Return the constant whose half-width is least; the largest of equals hides least."""
    known = [item for item in tokens if item.total is not None]
    return min(known, key=lambda item: (item.total, -item.constant)).constant if known else None


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
    return Draws(
        in_log=len(ready.design.blocks),
        choosing=len(speaking),
        certifying=certifying,
        apart=apart,
        price=price,
    )


def _described(rollouts: Rollouts, ready: Prepared, speaking: Blocks) -> ThresholdLog:
    sizes = ready.design.blocks.sizes
    values = ready.data.log_ratio[speaking.rows]
    return ThresholdLog(
        rollouts=len(rollouts),
        prompts=len(ready.design.blocks),
        rollouts_per_prompt=PerPrompt(
            min=int(sizes.min()), mean=float(sizes.mean()), max=int(sizes.max())
        ),
        rejected_rows=rollouts.rejected_rows,
        steps=None if rollouts.step is None else len(np.unique(rollouts.step)),
        log_ratio=LogRatioSpan(
            min=float(values.min()),
            mean=_mean(speaking, ready.data.log_ratio),
            max=float(values.max()),
        ),
    )


def _settings(ready: Prepared) -> ThresholdSettings:
    options, units = ready.options, ready.design.units
    return ThresholdSettings(
        beta=options.beta,
        delta=options.delta,
        reward_range=units.reward_range,
        reward_range_source="declared" if units.reward_declared else "read off the data",
        log_ratio_max=options.log_ratio_max,
        log_ratio_second_moment=options.log_ratio_second_moment,
        calibration_share=options.calibration,
        seed=options.seed,
        held_out=options.held_out,
    )


def _negative_side(draws: Blocks, log_ratio: np.ndarray, tau_negative: float) -> NegativeSide:
    return NegativeSide(
        seen=_mean(draws, np.maximum(-log_ratio - tau_negative, 0.0)),
        share=_mean(draws, log_ratio < -tau_negative),
        bound=negative_tail(tau_negative).bound,
    )


def _trainer_line(item, tau: float, token: float | None) -> TrainerLine:
    """Fill in a config line; None where it needs a token constant and there is none."""
    line = item.line
    if line is not None:
        missing = token is None and "{token}" in line
        shown = "" if token is None else f"{token:g}"
        line = None if missing else line.format(tau=f"{tau:.4g}", token=shown)
    return TrainerLine(
        framework=item.framework,
        version=item.version,
        level=item.level,
        line=line,
        statement=item.statement,
    )

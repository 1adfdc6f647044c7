"""What the calibration split chooses, before a certifying draw is looked at (theory §5, §7.2)."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np

from taut.bounds.kl_clipping import (
    TAIL_SHARE,
    clip_log_ratio,
    forecast_tail,
    negative_tail,
    next_record,
    second_moment_tail,
)
from taut.bounds.sampling import predicted_half_width
from taut.draws.labels import label_counts
from taut.draws.rollouts import Blocks
from taut.draws.sheets import SheetLabels

# Used where too few draws are at hand to choose; the constant most trainers clamp at (nats).
DEFAULT_TAU = 10.0
FEWEST_DRAWS = 5
TOO_FEW = "default: too few draws to choose from"
_DEAREST = 2.0  # sampling widths of the reward alone that a clipped objective may cost
_GRID = 24  # thresholds tried, half as many again evenly spaced


@dataclass(frozen=True, slots=True)
class Split:
    """Draws that choose and draws that certify; decided by keys and label positions alone."""

    calibration: Blocks
    certifying: Blocks


def split_draws(blocks: Blocks, gold: np.ndarray | None, share: float) -> Split:
    """Set the first draws of the draw order aside for calibration.

    Labels are kept for certifying where enough unlabelled draws are at hand: which rows are
    labelled is blind to outcomes, so this costs nothing (theory §3.6).

    Args:
        blocks: All draws, in draw order.
        gold: Labels to keep, with NaN gaps, shape (rollouts,), or None; of draws of one chance.
        share: Share of the draws for calibration, in [0, 1).
    """
    count = math.floor(share * len(blocks))
    chosen = np.zeros(len(blocks), dtype=bool)
    candidates = np.arange(len(blocks))
    if gold is not None:
        labelled = label_counts(gold, blocks) > 0
        if labelled.any() and (~labelled).sum() >= 2 * count:
            candidates = np.flatnonzero(~labelled)
    chosen[candidates[:count]] = True
    return Split(blocks.subset(chosen), blocks.subset(~chosen))


def split_sheet(blocks: Blocks, gold: np.ndarray | None, share: float, sheet: SheetLabels) -> Split:
    """The same where labels came on a sheet: every label certifies, and blocks stay as dealt.

    Draws in no block choose first; then controls, which a block can lose by position where all
    draws had one chance of a label. Elsewhere a block's weights count its draws.
    """
    heads = blocks.rows[blocks.starts[:-1]]
    drawn = sheet.missing if gold is None else sheet.missing | ~np.isnan(gold)
    inside = sheet.unit[heads] >= 0
    candidates = np.flatnonzero(~inside)
    if sheet.uniform:
        control = inside & (blocks.sums(drawn.astype(np.int64)) == 0)
        candidates = np.concatenate([candidates, np.flatnonzero(control)])
    chosen = np.zeros(len(blocks), dtype=bool)
    chosen[candidates[: math.floor(share * len(blocks))]] = True
    return Split(blocks.subset(chosen), blocks.subset(~chosen))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Clip thresholds in nats and where they come from."""

    tau: float
    tau_negative: float
    source: str


def choose_thresholds(
    *,
    reward: np.ndarray,
    log_ratio: np.ndarray,
    beta: float,
    calibration: Blocks,
    certifying_draws: int,
    delta: float,
    maximum: float | None,
    second_moment: float | None,
    target: str = "objective",
) -> Thresholds:
    """Choose both clip thresholds by predicted certificate width on the calibration split.

    A declared maximum is taken as it is. A smaller tau would make the tail a bounded mean of its
    own: the range that it saves above comes back there, at a smaller share of delta.

    Args:
        reward: Unit scale, shape (rollouts,).
        log_ratio: Nats, shape (rollouts,).
        beta: Unit reward per nat.
        calibration: Draws that will not certify.
        certifying_draws: How many draws will.
        delta: Error probability.
        maximum, second_moment: Declared E-sure bound (nats) and E l^2 (nats squared), or None.
        target: For "clipped" the threshold is part of what is certified; see `WidthForecast.best`.

    Source: theory §7.2, §4.3.
    """
    tau_negative = choose_negative(certifying_draws, delta)
    if maximum is not None:
        return Thresholds(maximum, tau_negative, "the declared maximum of the log-ratio")
    if len(calibration) < FEWEST_DRAWS:
        return Thresholds(DEFAULT_TAU, tau_negative, TOO_FEW)
    if beta == 0:
        return Thresholds(DEFAULT_TAU, tau_negative, "default: beta is 0, nothing depends on it")
    forecast = WidthForecast(
        reward=reward,
        log_ratio=log_ratio,
        beta=beta,
        draws=calibration,
        certifying_draws=certifying_draws,
        delta=delta,
        second_moment=second_moment,
    )
    tau = forecast.best(tau_negative, clipped=target == "clipped")
    return Thresholds(tau, tau_negative, "narrowest predicted interval on the calibration split")


@dataclass(frozen=True, slots=True)
class ForecastWidth:
    """What an interval for the objective is forecast to be made of, unit scale.

    Attributes:
        sampling: Half-width of the sampling term.
        positive, negative: beta T+ and beta T-: what the tails add at the lower and upper end.
    """

    sampling: float
    positive: float
    negative: float

    @property
    def width(self) -> float:
        """Width of the whole interval."""
        return 2 * self.sampling + self.positive + self.negative


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthForecast:
    """Forecasts the width of a certificate at any pair of thresholds, from some draws.

    A forecast chooses; no bound rests on it.

    Attributes:
        reward: Unit scale, shape (rollouts,).
        log_ratio: Nats, shape (rollouts,).
        beta: Unit reward per nat.
        draws: The draws to forecast from.
        certifying_draws: How many draws will certify.
        delta: Error probability.
        second_moment: Declared E l^2, nats squared, or None.
    """

    reward: np.ndarray
    log_ratio: np.ndarray
    beta: float
    draws: Blocks
    certifying_draws: int
    delta: float
    second_moment: float | None = None

    def at(self, tau: float, tau_negative: float) -> ForecastWidth:
        """Forecast at thresholds of tau and tau_negative nats (theory §7.2)."""
        clipped = clip_log_ratio(self.log_ratio, tau, tau_negative)
        return ForecastWidth(
            sampling=predicted_half_width(
                self.draws.means(self.reward - self.beta * clipped),
                low=-self.beta * tau,
                high=1 + self.beta * tau_negative,
                blocks=self.certifying_draws,
                delta=self.delta,
            ),
            positive=self.beta * self._positive_tail(tau),
            negative=self.beta * negative_tail(tau_negative).bound,
        )

    def best(self, tau_negative: float, *, clipped: bool) -> float:
        """Return the threshold of the narrowest forecast, nats (theory §7.2).

        The clipped objective pays no tail: a larger threshold only brings it nearer to J*, and the
        tail is charged here as what it is away from it. With a tail of infinite mean that charge
        never ends, so that the price in sampling is bounded: no more than twice the width that the
        smallest threshold has.
        """
        found = [(tau, self.at(tau, tau_negative)) for tau in self.candidates()]
        most = _DEAREST * found[0][1].sampling if clipped else math.inf
        return min((item for item in found if item[1].sampling <= most), key=lambda x: x[1].width)[
            0
        ]

    def candidates(self) -> list[float]:
        """Return thresholds worth trying, nats, ascending.

        Quantiles that halve the tail a few times each, an even grid for what lies between them,
        and values up to the record that `forecast_tail` reckons with.
        """
        positive = np.maximum(self.log_ratio[self.draws.rows], 0.0)
        top = float(positive.max())
        record = next_record(self.log_ratio, self.draws)
        shares = np.geomspace(1.0, 0.5 / len(positive), _GRID)
        found = np.r_[
            np.quantile(positive, 1 - shares),
            np.linspace(0.0, top, _GRID // 2),
            np.linspace(top, record, 6),
        ]
        if self.second_moment is not None:
            root = math.sqrt(self.second_moment)
            found = np.r_[found, root * 2.0 ** np.arange(-1, 9, 0.25)]
        return sorted({outward(tau) for tau in found})

    def _positive_tail(self, tau: float) -> float:
        """What will be charged for E(l - tau)_+, nats."""
        if self.second_moment is not None:
            return second_moment_tail(tau, self.second_moment).bound
        share = TAIL_SHARE * self.delta / 2
        return forecast_tail(
            self.log_ratio, self.draws, tau=tau, blocks=self.certifying_draws, delta=share
        )


def choose_negative(certifying_draws: int, delta: float) -> float:
    """Return the negative threshold, nats: its free tail e^(-1-tau) against the price of range.

    Minimises e^(-1-tau) + 0.2 tau ln(2/delta) / draws; needs no data (theory §4.2, §4.3).
    """
    price = 0.2 * math.log(2 / delta)
    return outward(max(0.0, math.log(max(certifying_draws, 1) / price) - 1))


def outward(tau: float) -> float:
    """Return a threshold of 0 nats or more, rounded up to six significant digits.

    So that it can be read, typed again and still is what was forecast; up, so that a threshold at
    the largest log-ratio seen stays at or above it.
    """
    given = Decimal(repr(float(tau)))
    if given == 0:
        return 0.0
    unit = Decimal(1).scaleb(given.adjusted() - 5)
    return float(given.quantize(unit, rounding=ROUND_CEILING))

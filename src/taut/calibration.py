"""What the calibration split chooses, before a certifying draw is looked at (theory §5, §7.2)."""

import math
from dataclasses import dataclass

import numpy as np

from taut.bounds.kl_clipping import clip_log_ratio, second_moment_tail
from taut.bounds.reward_shift import FEW_LABELS, inclusion_varies, label_counts
from taut.bounds.sampling import predicted_half_width
from taut.rollouts import Blocks

# Used where too few draws are at hand to choose; the constant most trainers clamp at (nats).
DEFAULT_TAU = 10.0
FEWEST_DRAWS = 5
_QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Split:
    """Draws that choose and draws that certify; decided by keys and label positions alone."""

    calibration: Blocks
    certifying: Blocks


def split_draws(blocks: Blocks, gold: np.ndarray | None, share: float) -> Split:
    """Set the first draws of the draw order aside for calibration.

    Few labels are all kept for certifying where enough unlabelled draws are at hand: which rows
    are labelled is blind to outcomes, so this costs nothing (theory §3.6).

    Args:
        blocks: All draws, in draw order.
        gold: Labels with NaN gaps, shape (rollouts,), or None.
        share: Share of the draws for calibration, in [0, 1).
    """
    count = math.floor(share * len(blocks))
    chosen = np.zeros(len(blocks), dtype=bool)
    candidates = np.arange(len(blocks))
    if gold is not None:
        counts = label_counts(gold, blocks)
        labelled = counts > 0
        few = 0 < labelled.sum() < FEW_LABELS and (~labelled).sum() >= 2 * count
        if few and not inclusion_varies(counts, blocks.sizes):
            candidates = np.flatnonzero(~labelled)
    chosen[candidates[:count]] = True
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
) -> Thresholds:
    """Choose both clip thresholds by predicted certificate width on the calibration split.

    Args:
        reward: Unit scale, shape (rollouts,).
        log_ratio: Nats, shape (rollouts,).
        beta: Unit reward per nat.
        calibration: Draws that will not certify.
        certifying_draws: How many draws will.
        delta: Error probability.
        maximum, second_moment: Declared E-sure bound (nats) and E l^2 (nats squared), or None.

    Source: theory §7.2, §4.3.
    """
    tau_negative = choose_negative(certifying_draws, delta)
    if maximum is not None:
        return Thresholds(maximum, tau_negative, "the declared maximum of the log-ratio")
    if len(calibration) < FEWEST_DRAWS:
        return Thresholds(DEFAULT_TAU, tau_negative, "default: too few draws to choose from")
    if beta == 0:
        return Thresholds(DEFAULT_TAU, tau_negative, "default: beta is 0, nothing depends on it")
    values = np.maximum(log_ratio[calibration.rows], 0.0)
    candidates = np.unique(np.quantile(values, _QUANTILES))
    if second_moment is not None:
        root = math.sqrt(second_moment)
        candidates = np.unique(np.r_[candidates, root * 2.0 ** np.arange(-1, 9)])

    def width(tau: float) -> float:
        clipped = clip_log_ratio(log_ratio, tau, tau_negative)
        draws = calibration.means(reward - beta * clipped)
        sampling = predicted_half_width(
            draws,
            low=-beta * tau,
            high=1 + beta * tau_negative,
            blocks=certifying_draws,
            delta=delta,
        )
        if second_moment is None:
            tail = float(calibration.means(np.maximum(log_ratio - tau, 0.0)).mean())
        else:
            tail = second_moment_tail(tau, second_moment).bound
        return 2 * sampling + beta * tail

    tau = min((float(tau) for tau in candidates), key=width)
    return Thresholds(tau, tau_negative, "narrowest predicted interval on the calibration split")


def choose_negative(certifying_draws: int, delta: float) -> float:
    """Return the negative threshold, nats: its free tail e^(-1-tau) against the price of range.

    Minimises e^(-1-tau) + 0.2 tau ln(2/delta) / draws; needs no data (theory §4.2, §4.3).
    """
    return max(0.0, math.log(max(certifying_draws, 1) / (0.2 * math.log(2 / delta))) - 1)

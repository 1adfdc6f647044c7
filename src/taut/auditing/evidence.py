"""What a certificate shows beside its interval: means, the paper's bound, facts about the log."""

import math
from dataclasses import dataclass

import numpy as np

from taut.auditing.calibration import Split, Thresholds
from taut.auditing.options import Options
from taut.auditing.target import UnitData
from taut.bounds.kl_clipping import clip_log_ratio, token_clipping
from taut.bounds.reward_shift import label_counts, paper_shift
from taut.draws.rollouts import Blocks, Rollouts
from taut.inequalities.concentration import paper_alpha


@dataclass(frozen=True, slots=True)
class PaperBound:
    """Theorem 1 of arXiv 2602.21765 on all prompts of the log: half-widths, reward units.

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


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the certifying prompts, prompts weighted equally; None without the columns.

    Rewards in reward units, KL in nats, shares as probabilities.
    """

    objective: float | None
    reward: float
    gold: float | None
    kl: float | None
    clipped_kl: float | None
    clipped_share: float | None


def measured_means(
    data: UnitData,
    blocks: Blocks,
    thresholds: Thresholds | None,
    objective: float | None,
    low: float,
    high: float,
) -> Measured:
    """Return the means over some draws, prompts weighted equally, in reward units of [low, high].

    Args:
        data: The log on the unit scale.
        blocks: The certifying draws.
        thresholds: Clip thresholds, nats; None without log-probs.
        objective: The measured clipped objective, reward units, which the certificate has.
        low, high: The declared reward range.
    """

    def mean(values: np.ndarray) -> float:
        return math.fsum(blocks.means(values)) / len(blocks)

    gold = None
    if data.gold is not None:
        labels = ~np.isnan(data.gold)
        counts = label_counts(data.gold, blocks)
        sums = blocks.sums(np.where(labels, data.gold, 0.0))
        known = counts > 0
        if known.any():
            gold = low + (high - low) * math.fsum(sums[known] / counts[known]) / int(known.sum())
    reward = low + (high - low) * mean(data.reward)
    if data.log_ratio is None:
        return Measured(None, reward, gold, None, None, None)
    clipped = clip_log_ratio(data.log_ratio, thresholds.tau, thresholds.tau_negative)
    return Measured(
        objective=objective,
        reward=reward,
        gold=gold,
        kl=mean(data.log_ratio),
        clipped_kl=mean(clipped),
        clipped_share=mean((clipped != data.log_ratio).astype(np.float64)),
    )


def paper_bound(
    data, blocks: Blocks, thresholds, options: Options, width: float, delta
) -> PaperBound:
    """Theorem 1 at the same delta and tau, on all draws; for the target "reward" without KL."""
    alpha = paper_alpha(len(blocks), blocks.sizes, delta)
    sampling, clipping = 1.0, 0.0
    if options.target != "reward":
        # The theorem clips both sides at one tau: W = 1 + 2 beta tau.
        sampling = 1 + 2 * data.beta * thresholds.tau
        cut = clip_log_ratio(data.log_ratio, thresholds.tau, thresholds.tau)
        hidden = blocks.means(np.abs(data.log_ratio - cut))
        clipping = data.beta * float(hidden.mean())
    shift = None
    if options.coverage is not None and data.reward_mse is not None:
        shift = width * paper_shift(options.coverage, data.reward_mse)
    finite = sampling * alpha * width if math.isfinite(sampling) else None
    parts = (finite, shift, clipping * width)
    return PaperBound(
        alpha=alpha,
        sampling=finite,
        reward_shift=shift,
        kl_clipping=clipping * width,
        total=None if None in parts else math.fsum(parts),
        coverage=options.coverage,
        reward_mse=options.reward_mse,
    )


def token_level(rollouts: Rollouts, blocks: Blocks) -> dict | None:
    """Describe what clipping token by token changed, where token lists were read (theory §4.5)."""
    if rollouts.token_clipped_log_ratio is None or rollouts.log_ratio is None:
        return None
    return token_clipping(
        rollouts.log_ratio,
        rollouts.token_clipped_log_ratio,
        rollouts.n_tokens,
        blocks,
        rollouts.token_clip,
    )


def describe_log(
    rollouts: Rollouts, blocks: Blocks, split: Split, declared: bool, data: UnitData
) -> dict:
    """Return the counts of a log, and whether its reward range was declared (design §5)."""
    sizes = blocks.sizes
    labels = None if data.gold is None else label_counts(data.gold, blocks)
    return {
        "rollouts": len(rollouts),
        "prompts": len(blocks),
        "certifying_prompts": len(split.certifying),
        "rollouts_per_prompt": {
            "min": int(sizes.min()),
            "mean": float(sizes.mean()),
            "max": int(sizes.max()),
        },
        "gold_rollouts": 0 if labels is None else int(labels.sum()),
        "gold_prompts": 0 if labels is None else int((labels > 0).sum()),
        "rejected_rows": rollouts.rejected_rows,
        "distinct_prompts": len(np.unique(rollouts.prompt)),
        "steps": None if rollouts.step is None else len(np.unique(rollouts.step)),
        "reward_range_source": "declared" if declared else "read off the data",
    }

"""What a certificate shows beside its interval: means, the paper's bound, facts about the log."""

import math

import numpy as np

from taut.auditing.calibration import Split
from taut.auditing.certificate import Log, Measured, Paper, PerPrompt, TokenClipping
from taut.auditing.prepare import Prepared
from taut.bounds.kl_clipping import clip_log_ratio, token_clipping
from taut.bounds.reward_shift import paper_shift
from taut.draws.design import Design
from taut.draws.labels import labelled_means
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.units import clipped_share
from taut.inequalities.concentration import paper_alpha


def measured_means(ready: Prepared, objective: float | None) -> Measured:
    """Return the means over the certifying draws, draws weighted equally.

    Args:
        ready: The log.
        objective: The measured clipped objective, reward units, which the certificate has.
    """
    data, blocks, units = ready.data, ready.split.certifying, ready.design.units

    def mean(values: np.ndarray) -> float:
        return math.fsum(blocks.means(values)) / len(blocks)

    gold = None
    sheet = ready.design.rollouts.sheet
    if data.gold is not None and (sheet is None or sheet.uniform):
        known = labelled_means(data.gold, data.gold, blocks)
        known = known[~np.isnan(known)]
        if len(known):
            gold = units.target_scale("gold").at(math.fsum(known) / len(known))
    reward = units.target_scale("reward").at(mean(data.reward))
    cut = clipped_share(ready.design.rollouts, units) > 0
    raw = mean(ready.design.rollouts.reward) if cut else None
    shared = {"objective": objective, "reward": reward, "raw_reward": raw, "gold": gold}
    if data.log_ratio is None:
        return Measured(**shared, kl=None, clipped_kl=None, clipped_share=None)
    clipped = clip_log_ratio(data.log_ratio, ready.thresholds.tau, ready.thresholds.tau_negative)
    return Measured(
        **shared,
        kl=mean(data.log_ratio),
        clipped_kl=mean(clipped),
        clipped_share=mean((clipped != data.log_ratio).astype(np.float64)),
    )


def paper_bound(ready: Prepared) -> Paper:
    """Theorem 1 at the same delta and tau, on all draws; for the target "reward" without KL."""
    data, options, blocks = ready.data, ready.options, ready.design.blocks
    width = ready.design.units.width
    alpha = paper_alpha(len(blocks), blocks.sizes, ready.delta)
    sampling, clipping = 1.0, 0.0
    if options.target != "reward":
        # The theorem clips both sides at one tau: W = 1 + 2 beta tau.
        tau = ready.thresholds.tau
        sampling = 1 + 2 * data.beta * tau
        cut = clip_log_ratio(data.log_ratio, tau, tau)
        hidden = blocks.means(np.abs(data.log_ratio - cut))
        clipping = data.beta * float(hidden.mean())
    shift = None
    if (
        options.coverage is not None
        and data.reward_mse is not None
        and ready.design.units.common is not None
    ):
        shift = width * paper_shift(options.coverage, data.reward_mse)
    finite = sampling * alpha * width if math.isfinite(sampling) else None
    parts = (finite, shift, clipping * width)
    return Paper(
        alpha=alpha,
        sampling=finite,
        reward_shift=shift,
        kl_clipping=clipping * width,
        total=None if None in parts else math.fsum(parts),
        coverage=options.coverage,
        reward_mse=options.reward_mse,
    )


def token_level(rollouts: Rollouts, blocks: Blocks) -> TokenClipping | None:
    """Describe what clipping token by token changed, where token lists were read (theory §4.5)."""
    if rollouts.token_clipped_log_ratio is None or rollouts.log_ratio is None:
        return None
    found = token_clipping(
        rollouts.log_ratio,
        rollouts.token_clipped_log_ratio,
        rollouts.n_tokens,
        blocks,
        rollouts.token_clip,
    )
    return TokenClipping(**found)


def describe_log(design: Design, split: Split) -> Log:
    """Return the counts of a log (design §5)."""
    rollouts, layout, labels = design.rollouts, design.layout, design.labels
    sizes = layout.blocks.sizes
    return Log(
        rollouts=len(rollouts),
        prompts=layout.prompts,
        draws=len(layout.blocks),
        cells=layout.cell_count,
        certifying_prompts=len(split.certifying),
        rollouts_per_prompt=PerPrompt(
            min=int(sizes.min()), mean=float(sizes.mean()), max=int(sizes.max())
        ),
        gold_rollouts=0 if labels is None else labels.rows,
        gold_prompts=0 if labels is None else labels.draws,
        labels="none" if labels is None else str(labels.kind),
        rejected_rows=rollouts.rejected_rows,
        steps=None if rollouts.step is None else len(np.unique(rollouts.step)),
        reward_range_source="declared" if design.units.reward_declared else "read off the data",
    )

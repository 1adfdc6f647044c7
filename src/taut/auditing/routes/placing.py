"""Reward data beside the audited rollouts: design, unit scale, split (theory §3, §5)."""

import math
from dataclasses import replace

import numpy as np

from taut.auditing.calibration import FEWEST_DRAWS, Split
from taut.auditing.prepare import Prepared
from taut.auditing.routes.reward_data import Shift
from taut.bounds.coverage import density_ratio
from taut.bounds.transfer import RewardData
from taut.draws.design import design
from taut.draws.layout import prompt_keys, settle
from taut.draws.rollouts import Blocks, Rollouts


def place_reward_data(ready: Prepared, reward_data: Rollouts | None) -> Shift | None:
    """Decide what reward data are worth, and split them as the audited draws are split.

    A prompt of both logs is one prompt: its draws share a block, and choose or certify in both.
    """
    if reward_data is None:
        return None
    options, rollouts = ready.options, ready.design.rollouts
    whole = settle(reward_data.plainly_labelled())
    (mine, theirs), _ = prompt_keys([rollouts, whole.rollouts])
    whole = replace(whole, rollouts=replace(whole.rollouts, prompt=theirs))
    units = ready.design.units
    declared = replace(
        options.declared,
        reward_range=units.reward_range,
        gold_range=units.gold_range,
    )
    found = design(whole.rollouts, declared, whole=whole, sampler=False)
    paired = bool(np.isin(theirs, mine).any())
    share = options.calibration if found.one_law else 0.0
    chooses = _choosing_draws(found.blocks, mine, theirs, ready.split, share, paired)
    return Shift(
        data=RewardData(
            weight=_weights(whole.rollouts, options.log_prob_noise),
            reward=units.unit_reward(whole.rollouts.reward),
            gold=units.unit_gold(whole.rollouts.gold),
            blocks=found.blocks.subset(~chooses),
            calibration=found.blocks.subset(chooses),
            prompt=theirs,
        ),
        design=found,
        weight=_weights(rollouts),
        prompt=mine,
        paired=paired,
        features=_features(rollouts, reward_data),
    )


def _features(rollouts: Rollouts, reward_data: Rollouts) -> tuple[np.ndarray, np.ndarray] | None:
    if rollouts.features is None or reward_data.features is None:
        return None
    return rollouts.features, reward_data.features


def _weights(rollouts: Rollouts, noise: float | None = None) -> np.ndarray | None:
    """Weights of the rows; with declared noise the least that they can be (theory §3.7)."""
    if rollouts.policy_logprob is None or rollouts.behaviour_logprob is None:
        return None
    return density_ratio(rollouts.policy_logprob - (noise or 0.0), rollouts.behaviour_logprob)


def _choosing_draws(
    blocks: Blocks,
    mine: np.ndarray,
    theirs: np.ndarray,
    split: Split,
    share: float,
    paired: bool,
) -> np.ndarray:
    """Mark the draws of reward data that choose; a prompt in both logs is on one side in both."""
    share = share if share * len(blocks) >= FEWEST_DRAWS else 0.0
    chooses = np.arange(len(blocks)) < math.floor(share * len(blocks))
    if paired:
        prompt = theirs[blocks.rows[blocks.starts[:-1]]]
        chooses &= ~np.isin(prompt, mine[split.certifying.rows])
        chooses |= np.isin(prompt, mine[split.calibration.rows])
    return chooses

"""Reward data beside the audited rollouts: one unit scale, one split, weights (theory §3, §5)."""

import math

import numpy as np

from taut.auditing.calibration import FEWEST_DRAWS, Split
from taut.auditing.options import Options
from taut.auditing.routes.reward_data import Shift
from taut.auditing.target import gold_to_unit, to_unit
from taut.bounds.coverage import density_ratio
from taut.bounds.transfer import RewardData
from taut.draws.health import policy_changes, recurs_across_steps
from taut.draws.rollouts import Blocks, Rollouts


def place_reward_data(
    rollouts: Rollouts,
    reward_data: Rollouts | None,
    split: Split,
    options: Options,
    low: float,
    high: float,
) -> Shift | None:
    """Put reward data on the unit scale and split them as the audited draws are split."""
    if reward_data is None:
        return None
    blocks = reward_data.blocks(options.seed, merge_steps=recurs_across_steps(reward_data))
    # Repeated draws, marked by `group` in both logs, are independent even of the same prompt.
    paired = rollouts.group is None or reward_data.group is None
    paired = paired and bool(np.isin(reward_data.prompt, rollouts.prompt).any())
    chooses = _choosing_draws(blocks, reward_data, rollouts, split, options, paired)
    gold = gold_to_unit(reward_data.gold, options.gold_range or (low, high))
    return Shift(
        data=RewardData(
            weight=_weights(reward_data),
            reward=to_unit(reward_data.reward, low, high),
            gold=gold,
            blocks=blocks.subset(~chooses),
            calibration=blocks.subset(chooses),
            prompt=reward_data.prompt,
        ),
        weight=_weights(rollouts),
        prompt=rollouts.prompt,
        paired=paired,
        features=_features(rollouts, reward_data),
        identical=not policy_changes(reward_data),
    )


def _features(rollouts: Rollouts, reward_data: Rollouts) -> tuple[np.ndarray, np.ndarray] | None:
    if rollouts.features is None or reward_data.features is None:
        return None
    return rollouts.features, reward_data.features


def _weights(rollouts: Rollouts) -> np.ndarray | None:
    if rollouts.policy_logprob is None or rollouts.behaviour_logprob is None:
        return None
    return density_ratio(rollouts.policy_logprob, rollouts.behaviour_logprob)


def _choosing_draws(blocks: Blocks, reward_data, rollouts, split: Split, options, paired):
    """Mark the draws of reward data that choose; a prompt in both logs is on one side in both."""
    share = options.calibration if options.calibration * len(blocks) >= FEWEST_DRAWS else 0.0
    chooses = np.arange(len(blocks)) < math.floor(share * len(blocks))
    if paired:
        mine = reward_data.prompt[blocks.rows[blocks.starts[:-1]]]
        chooses &= ~np.isin(mine, rollouts.prompt[split.certifying.rows])
        chooses |= np.isin(mine, rollouts.prompt[split.calibration.rows])
    return chooses

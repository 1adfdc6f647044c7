"""Finite worlds whose every truth is a finite sum: what certificates are tested against."""

from taut.worlds.families import FAMILIES, random_world
from taut.worlds.sample import sample_reward_data, sample_rollouts, simulate
from taut.worlds.world import Truth, World, expected, log_ratio_quantile, truth

__all__ = [
    "FAMILIES",
    "Truth",
    "World",
    "expected",
    "log_ratio_quantile",
    "random_world",
    "sample_reward_data",
    "sample_rollouts",
    "simulate",
    "truth",
]

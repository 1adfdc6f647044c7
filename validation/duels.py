"""Logs of two policies whose true difference is known exactly."""

import math
from dataclasses import dataclass

import numpy as np
from validation.selection import ROUNDING

SAID = {"declare": "held-out,complete,random-labels", "reward_range": (0, 1), "target": "reward"}
EASE, NOISE = 0.25, 0.164  # half-widths of uniform laws: answers to one prompt correlate by .70
CORRELATION = EASE**2 / (EASE**2 + NOISE**2)


@dataclass(frozen=True, slots=True)
class Duel:
    """Two policies on prompts of a common pool; hard prompts are hard for both.

    Attributes:
        prompts: Of each side.
        gain, learned: E r*(a) - E r*(b), and of the learned reward; at most .17.
        shared: Share of a's prompts that b answers too.
        per: Rollouts a prompt, of each side.
        labels: Share of prompts with gold, of each side; `together`: the same prompts on both.
        binary: 0/1 true rewards.
        opposite: What is hard for one is easy for the other.
        failing: Rates of a failure that costs 1, where there is nothing else; they give `gain`.
        listed: The prompts are a fixed list.
    """

    prompts: int = 200
    gain: float = 0.0
    learned: float = 0.0
    shared: float = 1.0
    per: tuple[int, int] = (1, 1)
    labels: tuple[float, float] = (1.0, 1.0)
    together: bool = False
    binary: bool = False
    opposite: bool = False
    failing: tuple[float, float] | None = None
    listed: bool = False


def draw(duel: Duel, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Return the two logs; means are exact, as no value is cut off at the ends of the range."""
    pool = np.random.default_rng(7) if duel.listed else rng
    ease = pool.uniform(-EASE, EASE, 2 * duel.prompts)
    rank = rng.permutation(2 * duel.prompts)
    logs = []
    for side, sign in enumerate((0.5, -0.5)):
        start = 0 if side == 0 else round((1 - duel.shared) * duel.prompts)
        own = np.arange(start, start + duel.prompts)
        ids = np.repeat(own, duel.per[side])
        hard = ease[ids] * (-1 if duel.opposite and side else 1)
        noise = rng.uniform(-NOISE, NOISE, (2, ids.size))
        chance = rng.random(ids.size)
        gold = 0.5 + sign * duel.gain + hard + noise[0]
        if duel.binary:
            gold = (chance < gold) * 1.0
        if duel.failing is not None:
            gold = (chance >= duel.failing[side]) * 1.0
        order = rank if duel.together else rng.permutation(2 * duel.prompts)
        first = own[np.argsort(order[own])][: round(duel.labels[side] * duel.prompts)]
        logs.append(
            {
                "prompt_id": ids,
                "reward": 0.5 + sign * duel.learned + hard + noise[1],
                "gold": np.where(np.isin(ids, first), gold, math.nan),
            }
        )
    return logs


def holds(ends, truth: float) -> bool:
    """Whether an interval holds the truth; an end that is None is no claim."""
    above = ends.lower is None or ends.lower - ROUNDING <= truth
    return above and (ends.upper is None or truth <= ends.upper + ROUNDING)

"""What do routes through reward data give, and how often do they miss? (theory §3)

    python -m validation.transfer --audits 40 --output docs/reward-data.md

Worlds have exact truths. Each log is audited with reward data beside it, the interval of every
route is held against the truth, and its width against the paper's term with the true C and L.
"""

import argparse
import math
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from tests.check import miss_rate_lower_limit, misses_more_than

from taut.certificate import audit
from taut.errors import AssumptionError
from taut.rollouts import Rollouts
from taut.types import Status
from taut.worlds import FAMILIES, World, expected, sample_reward_data, sample_rollouts, truth
from taut.worlds.families import SHIFT_FAMILIES

WORLDS = SHIFT_FAMILIES | {
    name: FAMILIES[name]
    for name in (
        "calibrated",
        "over_optimised",
        "uncovered_support",
        "tied_weights",
        "rare_failures",
        "unequal_rollouts",
        "repeated_prompts",
        "random",
    )
}
# Worlds where reward data miss something that the policy does: C is infinite.
UNCOVERED = ("uncovered_support", "heavy_weights", "no_coverage")
TARGETS = ("reward", "clipped", "objective")
ROUTES = ("paper", "centred", "truncated", "importance")
DELTAS = (0.05, 0.2)
PROMPTS = (20, 100, 500)
# "labelled": gold on every row of reward data; "declared": also the true C and L; "paired": both
# logs share their prompts; "partly": gold on half of the rows, one by one.
DATA = ("labelled", "declared", "paired", "partly")
ROUNDING = 1e-12  # a truth may sit exactly on an end; its sum is rounded at 1e-16
_AUDITS_PER_WORLD = 10


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One setting: a world, what the reward data are, how many prompts in each log, delta.

    `bias` and `noise` (nats) are added to every behaviour log-prob: to the logs they are a lie.
    """

    family: str
    data: str
    prompts: int
    delta: float
    bias: float = 0.0
    noise: float = 0.0

    @property
    def seed(self) -> int:
        """A number that depends on what the cell is, not on when it runs."""
        return zlib.crc32(f"{self.family}|{self.data}|{self.prompts}".encode())


@dataclass(slots=True)
class Tally:
    """Counts for one target by one route; `auto` is the certificate itself."""

    missed_below: int = 0  # the truth lies below the lower end
    missed_above: int = 0
    claims: int = 0  # every interval but estimates: each must hold with probability 1 - delta
    estimates: int = 0
    missed_estimates: int = 0
    vacuous: int = 0
    refused: int = 0  # the route was not open
    crossed: int = 0  # the ends cross: a miss that the audit notices itself
    width: list[float] = field(default_factory=list)

    @property
    def misses(self) -> int:
        """Claims that do not hold; crossing ends cannot both hold."""
        return self.missed_below + self.missed_above + self.crossed

    def add(self, lower: float, upper: float, status: Status, true: float) -> None:
        """Count one interval."""
        below, above = true < lower - ROUNDING, true > upper + ROUNDING
        if status == Status.ESTIMATED:
            self.estimates += 1
            self.missed_estimates += below or above
            return
        self.claims += 1
        self.vacuous += status == Status.VACUOUS
        crossed = lower > upper + ROUNDING
        self.crossed += crossed
        self.missed_below += below and not crossed
        self.missed_above += above and not crossed
        self.width.append(max(0.0, upper - lower))


Tallies = dict[tuple[str, str], Tally]


def run_cell(cell: Cell, audits: int, audit=audit) -> Tallies:
    """Audit a cell's worlds again and again; return one tally per target and route.

    The trivial route never fails, and its certificate lists what all routes give.

    Args:
        cell: The setting.
        audits: How many pairs of logs are drawn.
        audit: The auditor under test; tests of this check pass broken ones.
    """
    tallies: Tallies = {}
    for index in range(audits):
        world, exact = _world(cell.family, cell.seed, index // _AUDITS_PER_WORLD)
        told = settings(cell, exact)
        if told is None:
            return {}
        rollouts, data = logs(cell, world, index)
        told |= {"beta": world.beta, "reward_data": data, "delta": cell.delta}
        listed = audit(rollouts, route="trivial", **told)
        chosen = _chosen(audit, rollouts, told)
        for target in TARGETS:
            true = _true(world, target, listed)
            for entry in listed.targets[target].routes:
                tally = tallies.setdefault((target, entry.route), Tally())
                if entry.lower is None:
                    tally.refused += 1
                else:
                    tally.add(entry.lower, entry.upper, entry.status, true)
            auto = tallies.setdefault((target, "auto"), Tally())
            found = None if chosen is None else chosen.targets[target]
            if found is None:  # its own ends cross
                auto.add(math.inf, -math.inf, Status.CERTIFIED, true)
            else:
                auto.add(found.lower, found.upper, found.status, true)
    return tallies


def _chosen(audit, rollouts: Rollouts, told: dict):
    """Audit for J*, or for the strongest target whose ends do not cross; None if all do."""
    for target in reversed(TARGETS):
        try:
            return audit(rollouts, target=target, **told)
        except AssumptionError as error:
            if "lies above its upper end" not in str(error):
                raise
    return None


def _true(world: World, target: str, certificate) -> float:
    """Exact value of a target, with the thresholds that the certificate used."""
    if target == "reward":
        return expected(world, world.gold)
    ratio = world.log_ratio
    if target == "clipped":
        ratio = np.clip(ratio, -certificate.tau_negative, certificate.tau)
    return expected(world, world.gold - world.beta * ratio)


def logs(cell: Cell, world: World, index: int) -> tuple[Rollouts, Rollouts]:
    """Draw the audited log and its reward data, with the cell's lie about the behaviour."""
    seed = [cell.seed, index]
    rollouts = sample_rollouts(world, cell.prompts, rng=np.random.default_rng([*seed, 0]))
    partly = {"gold_rows": 0.5} if cell.data == "partly" else {"gold_prompts": cell.prompts}
    # Kinds of prompts are drawn first: the same seed gives both logs the same prompts. Responses
    # may then be coupled within a prompt, which no route minds.
    part = 0 if cell.data == "paired" else 1
    rng = np.random.default_rng([*seed, part])
    data = sample_reward_data(world, cell.prompts, rng=rng, **partly)
    if cell.data == "paired":
        data = replace(data, prompt=data.prompt ^ np.uint64(1) << np.uint64(63))
    lie = np.random.default_rng([*seed, 2])
    return _misreported(rollouts, cell, lie), _misreported(data, cell, lie)


def _misreported(rollouts: Rollouts, cell: Cell, rng: np.random.Generator) -> Rollouts:
    if not cell.bias and not cell.noise:
        return rollouts
    shift = cell.bias + cell.noise * rng.standard_normal(len(rollouts))
    return replace(rollouts, behaviour_logprob=rollouts.behaviour_logprob + shift)


def settings(cell: Cell, exact) -> dict | None:
    """Return what the auditor is told; None where that is infinite."""
    told = {"reward_range": (0, 1), "log_ratio_max": max(0.0, exact.log_ratio_max)}
    if cell.data != "declared":
        return told
    if not math.isfinite(exact.coverage):
        return None
    return told | {"coverage": exact.coverage, "reward_mse": exact.reward_mse}


@lru_cache(maxsize=8)
def _world(family: str, seed: int, index: int) -> tuple[World, object]:
    world = WORLDS[family](np.random.default_rng([seed, index, 1]))
    return world, truth(world)


def cells(
    families: Iterable[str] = tuple(WORLDS),
    data: Iterable[str] = DATA,
    prompts: Iterable[int] = PROMPTS,
    deltas: Iterable[float] = DELTAS,
) -> list[Cell]:
    """Return the cells in order, small samples first."""
    order = product(prompts, families, data, deltas)
    return [Cell(family, kind, n, delta) for n, family, kind, delta in order]

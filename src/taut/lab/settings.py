"""The settings of an experiment, its sizes, and its streams of chance."""

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from taut.errors import UsageError

GOLD_RANGE = (0.0, 1.0)
# Independent streams of one seed: nothing that is audited shares chance with what is trained.
PAIRS, TRAINING, AUDIT, LABELS, TRUTH = range(1, 6)


class Settings(BaseModel):
    """An experiment; lengths in steps, tau in nats, beta in reward units per nat.

    Attributes:
        seed: Of everything.
        pairs: Comparisons m; a fifth of them is kept from training, to fit the scale of the
            learned reward and to measure its error.
        steps, every: Steps of policy optimisation, and between two checkpoints.
        prompts: Audited prompts, the same for all checkpoints, one rollout each.
        gold: How many of them are labelled.
        truth_prompts: Fresh prompts that the true reward of each checkpoint is measured on; its
            log-ratios and its learned reward on a quarter of them.
        beta, tau: KL strength and clip threshold, in training and in the audit.
        delta: Error probability of all certificates together.
        hidden, layers, base_steps: Size and training of the language model.
        batch: Rollouts a step, four for each prompt.
        reward_rate, policy_rate: Learning rates.
        reward_batch, reward_epochs: Comparisons a step, and passes over them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    pairs: int = 2500
    steps: int = 60
    every: int = 10
    prompts: int = 1000
    gold: int = 250
    truth_prompts: int = 12_000
    beta: float = 0.005
    tau: float = 10.0
    delta: float = 0.05
    hidden: int = 64
    layers: int = 2
    base_steps: int = 200
    batch: int = 64
    reward_rate: float = 1e-3
    reward_batch: int = 32
    reward_epochs: int = 2
    policy_rate: float = 1e-3


SIZES = {
    "tiny": Settings(
        pairs=60, steps=2, every=1, prompts=40, gold=20, truth_prompts=240,
        hidden=16, layers=1, base_steps=5, batch=8, reward_epochs=1,
    ),
    "small": Settings(),
    "gpu": Settings(
        pairs=20_000, steps=400, every=40, prompts=4000, gold=500, truth_prompts=50_000,
        hidden=256, layers=6, base_steps=2000, batch=512, reward_rate=3e-4, policy_rate=2e-4,
    ),
}  # fmt: skip


def settings_of(size: str = "small", **changes: Any) -> Settings:
    """Return the settings of a size, with changes; None changes nothing.

    With other `steps` there are as many checkpoints as usual, unless `every` is given, too.

    Raises:
        UsageError: Settings that make no experiment.
    """
    if size not in SIZES:
        raise UsageError(f"size: expected {', '.join(SIZES)}, found {size!r}.")
    usual = SIZES[size]
    given = {name: value for name, value in changes.items() if value is not None}
    if "steps" in given and "every" not in given:
        given["every"] = max(given["steps"] * usual.every // usual.steps, 1)
    try:
        found = Settings(**(usual.model_dump() | given))
    except ValidationError as problem:
        first = problem.errors()[0]
        raise UsageError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r}."
        ) from None
    if not 2 <= found.gold <= found.prompts:
        raise UsageError(
            f"gold: expected 2 to {found.prompts} labelled prompts, found {found.gold}."
        )
    if not 1 <= found.every <= found.steps:
        raise UsageError(
            f"every: expected 1 to {found.steps} steps between checkpoints, found {found.every}."
        )
    return found


def checkpoints(settings: Settings) -> list[int]:
    """Return the steps of the checkpoints: the start, every so often, the end."""
    return sorted({*range(0, settings.steps, settings.every), settings.steps})


def stream(settings: Settings, which: int, *more: int) -> np.random.Generator:
    """Return a stream of chance of an experiment."""
    return np.random.default_rng([settings.seed, which, *more])

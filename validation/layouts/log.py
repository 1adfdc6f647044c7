"""One log as the public API gets it, with what is declared of it and its exact truths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from validation.layouts.data import Data

ALL = ("held-out", "complete", "random-labels")
BETA = 0.05
TAU = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a command is given, and what its claims are held against.

    Attributes:
        columns: Native columns; see `taut.Rollouts.from_arrays`.
        settings: reward_range, gold_range, beta, tau, target and the like.
        declare: What is declared of the log (theory §5).
        prompts: "sample", "list" or "with-replacement".
        truth: True value of a target, for a slice (column, name) or for the whole log (None).
        reward_data: Columns of reward data; None without.
        chosen_by_reward: The framework that wrote the log says that it kept rows by their rewards.
        through_file: The log must be read from a file, as texts are compared while reading.
    """

    columns: Mapping[str, np.ndarray]
    settings: Mapping
    truth: Callable[[str, tuple[str, str] | None], float]
    declare: tuple[str, ...] = ALL
    prompts: str = "sample"
    reward_data: Mapping[str, np.ndarray] | None = None
    chosen_by_reward: bool = False
    through_file: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Ranges in which gold and reward stand in the log, reward units."""

    gold: tuple[float, float] = (0.0, 1.0)
    reward: tuple[float, float] = (0.0, 1.0)

    @property
    def settings(self) -> dict:
        """The declarations that go with it."""
        one = {"reward_range": self.reward}
        return one if self.gold == self.reward else {**one, "gold_range": self.gold}


def place(values: np.ndarray | float, bounds: tuple[float, float]) -> np.ndarray | float:
    """Map values of the unit scale into a range."""
    return bounds[0] + (bounds[1] - bounds[0]) * values


def written(data: Data, scale: Scale) -> dict[str, np.ndarray]:
    """Return the columns of a log: gold where it is shown, ids, values in their ranges."""
    columns = {
        "prompt_id": np.char.add("p", data.prompt.astype(str)),
        **data.columns,
        "reward": place(data.reward, scale.reward),
    }
    if data.label is not None and data.label.any():
        columns["gold"] = np.where(data.label, place(data.gold, scale.gold), np.nan)
    return columns


@dataclass(slots=True, kw_only=True)
class Truth:
    """Exact values of every target, taken before anything was lost."""

    whole: float
    slices: dict[str, dict[str, float]]
    scale: Scale
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Data, scale: Scale) -> "Truth":
        """Take the truths of a log as it is now."""
        cost = {}
        if data.styles is not None:
            cost = {
                "clipped": BETA * data.styles.mean_clipped(TAU, TAU),
                "objective": BETA * data.styles.mean_clipped(np.inf, np.inf),
            }
        return cls(whole=data.truth(), slices=data.truths(), scale=scale, cost=cost)

    def __call__(self, target: str, part: tuple[str, str] | None) -> float:
        unit = self.whole if part is None else self.slices[part[0]][part[1]]
        return float(place(unit, self.scale.gold)) - self.cost.get(target, 0.0)

"""Rewards as functions of prompt and response, in a range that is fixed before any rollout.

A learned score has no natural range, and one read off the audited rollouts would be no range at
all. So a line and two ends are chosen on training-side data, written to the manifest, and from then
on the reward *is* the cut line: in training, in the logs and in the audit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np

from taut.errors import AssumptionError, UsageError
from taut.training.pipeline.models import response_text, score_tokens, text_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMap:
    """reward = scale * score + shift, cut to [low, high], in reward units.

    Attributes:
        scale, shift: The line.
        low, high: The declared range.
        source: Where the range comes from.
    """

    scale: float = 1.0
    shift: float = 0.0
    low: float
    high: float
    source: str

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the rewards of raw scores, shape (rollouts,).

        They stay inside the range in single precision, too, which trainers compute in.
        """
        low, high = np.float32(self.low), np.float32(self.high)
        if float(low) < self.low:
            low = np.nextafter(low, np.float32(np.inf))
        if float(high) > self.high:
            high = np.nextafter(high, np.float32(-np.inf))
        return np.clip(self.scale * scores + self.shift, float(low), float(high))

    def unit(self, rewards: np.ndarray) -> np.ndarray:
        """Return rewards mapped to [0, 1] by the declared range."""
        return unit_interval(rewards, (self.low, self.high))

    @property
    def document(self) -> dict:
        """The map as plain data."""
        return asdict(self)


def unit_interval(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Return values mapped to [0, 1] by a declared range, and cut there."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)


def calibrated_range(scores: np.ndarray, quantile: float, margin: float) -> tuple[float, float]:
    """Return a range for scores like these: two quantiles, widened, rounded outwards.

    Args:
        scores: Scores of calibration responses, shape (responses,).
        quantile: The lower quantile; the upper one is its mirror image.
        margin: Share of the width that is added at each end.

    Raises:
        AssumptionError: The scores do not differ.
    """
    low, high = np.quantile(scores, [quantile, 1 - quantile])
    width = high - low
    if not width > 0:
        raise AssumptionError(
            f"reward range: expected calibration scores that differ, found {scores.size} around "
            f"{low:.6g}; give more pairs or declare reward_model.range."
        )
    return _outward(low - margin * width, high + margin * width)


def _outward(low: float, high: float) -> tuple[float, float]:
    """Round to three digits of the width, away from the middle."""
    step = 10.0 ** (math.floor(math.log10(high - low)) - 2)
    digits = max(0, -round(math.log10(step)))
    return (
        round(math.floor(low / step) * step, digits),
        round(math.ceil(high / step) * step, digits),
    )


def gold_line(scores: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """Return scale and shift of the least-squares line from scores to gold.

    A line that falls would turn the learned reward around, so its slope is at least a hundredth of
    the ratio of spreads.
    """
    # Sums that are rounded once: a resumed run finds the same line to the last bit.
    count = len(scores)
    middle, level = math.fsum(scores) / count, math.fsum(gold) / count
    square = math.fsum((scores - middle) ** 2)
    if not square > 0:
        return 1.0, level - middle
    slope = math.fsum((scores - middle) * (gold - level)) / square
    least = 0.01 * math.sqrt(math.fsum((gold - level) ** 2) / square)
    slope = max(slope, least, 1e-6)
    return slope, level - slope * middle


class ModelScore:
    """Scores of a sequence classifier as a function of prompts and completions.

    Called as TRL calls reward functions; reads texts, so that its tokenizer may be another than
    the policy's.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int, batch: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.batch = batch

    def __call__(
        self, prompts: Sequence, completions: Sequence, *, features: bool = False, **_: Any
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return raw scores, shape (rollouts,), and on request the input of the head.

        Raises:
            AssumptionError: A score is not finite.
        """
        rows = [
            text_tokens(self.tokenizer, prompt, response_text(completion), self.max_tokens)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        pad = self.tokenizer.pad_token_id
        scores, read = score_tokens(self.model, rows, pad=pad, batch=self.batch, features=features)
        if not np.isfinite(scores).all():
            raise AssumptionError(
                f"{self.model.config._name_or_path}: expected finite scores, found "
                f"{int((~np.isfinite(scores)).sum())} of {len(scores)} that are not; the reward "
                "model has diverged: lower reward_model.learning_rate."
            )
        return scores, read


class FunctionScore:
    """Scores of a Python function that the recipe names; its code is the user's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._function = load_function(name)

    def __call__(
        self, prompts: Sequence, completions: Sequence, *, features: bool = False, **columns: Any
    ) -> tuple[np.ndarray, None]:
        """Return raw scores, shape (rollouts,).

        Raises:
            AssumptionError: A score is missing or not finite.
        """
        found = self._function(prompts=prompts, completions=completions, **columns)
        try:
            scores = np.array(list(found), dtype=np.float64)
        except (TypeError, ValueError):
            scores = np.full(len(prompts), np.nan)
        if scores.shape != (len(prompts),) or not np.isfinite(scores).all():
            raise AssumptionError(
                f"{self.name}: expected {len(prompts)} finite numbers, one a completion, found "
                f"{str(found)[:80]}."
            )
        return scores, None


def load_function(name: str) -> Callable:
    """Return the function that a recipe names as "module:function".

    Raises:
        UsageError: It cannot be imported, or is no function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as problem:
        raise UsageError(
            f"{name}: expected a function that can be imported, found: {problem}. Install its "
            "module, or put its folder on PYTHONPATH."
        ) from None
    if not callable(found):
        raise UsageError(f"{name}: expected a function, found {type(found).__name__}.")
    return found


class MappedReward:
    """The reward as TRL wants it: a function of prompts and completions to a list of floats."""

    __name__ = "reward"

    def __init__(self, score: ModelScore | FunctionScore, reward_map: RewardMap) -> None:
        self.score = score
        self.map = reward_map

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> list[float]:
        """Return rewards inside the declared range."""
        return self.map(self.score(prompts, completions, **columns)[0]).tolist()

    def with_features(
        self, prompts: Sequence, completions: Sequence, **columns: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rewards, and the input of the reward model's head."""
        scores, features = self.score(prompts, completions, features=True, **columns)
        return self.map(scores), features


class GoldReward:
    """The target reward, checked against its declared range."""

    __name__ = "gold"

    def __init__(self, score: ModelScore | FunctionScore, ends: tuple[float, float]) -> None:
        self.score = score
        self.range = ends

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> list[float]:
        """Return target rewards.

        Raises:
            AssumptionError: One leaves the declared range, so that no certificate would hold.
        """
        found = self.score(prompts, completions, **columns)[0]
        check_range(found, self.range, "gold.range")
        return found.tolist()


def check_range(values: np.ndarray, ends: tuple[float, float], what: str) -> None:
    """Raise where values leave a declared range.

    Raises:
        AssumptionError: One does.
    """
    if values.size and (values.min() < ends[0] or values.max() > ends[1]):
        raise AssumptionError(
            f"{what}: expected values in [{ends[0]:g}, {ends[1]:g}], found "
            f"[{values.min():g}, {values.max():g}]; declare the range that holds them."
        )

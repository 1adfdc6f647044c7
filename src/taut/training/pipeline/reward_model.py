"""The reward model: Bradley-Terry on preference pairs, with a learning curve on held-out prompts.

The pairs are split by prompt. Most train; of the rest one half calibrates (the line to gold units,
the declared range), and the other half measures loss, accuracy and, where gold is known,
L(m) = E[(r - r*)^2] on the scale where both declared ranges are [0, 1]. Sizes are nested: the first
m of one shuffled order.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taut.errors import UsageError
from taut.training.pipeline.data import Pair, uniform
from taut.training.pipeline.models import (
    load_scorer,
    load_tokenizer,
    lora_config,
    merged,
    save,
    text_tokens,
)
from taut.training.pipeline.rewards import (
    ModelScore,
    RewardMap,
    calibrated_range,
    gold_line,
    unit_interval,
)
from taut.training.pipeline.settings import Recipe

FEWEST = 2  # pairs that either half of the held-out ones must have


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSplit:
    """Pairs by what they are for; no prompt is in two parts."""

    training: list[Pair]
    calibration: list[Pair]
    measuring: list[Pair]


def split_pairs(pairs: Sequence[Pair], held_out: float, *, seed: int) -> PairSplit:
    """Split pairs by a hash of seed and prompt, the training part in a shuffled order.

    Raises:
        UsageError: A part has too few pairs.
    """
    place = [uniform(pair.prompt_id, seed=seed, salt="pairs") for pair in pairs]
    rows = list(zip(place, pairs, strict=True))
    split = PairSplit(
        training=[pair for where, pair in rows if where >= held_out],
        calibration=[pair for where, pair in rows if where < held_out / 2],
        measuring=[pair for where, pair in rows if held_out / 2 <= where < held_out],
    )
    if not split.training or min(len(split.calibration), len(split.measuring)) < FEWEST:
        raise UsageError(
            f"reward_model.pairs: expected training pairs and {FEWEST} or more in each held-out "
            f"half, found {len(split.training)}, {len(split.calibration)} and "
            f"{len(split.measuring)}; give more prompts or change reward_model.held_out."
        )
    order = np.random.default_rng([seed, 0xB7]).permutation(len(split.training))
    return PairSplit(
        training=[split.training[i] for i in order],
        calibration=split.calibration,
        measuring=split.measuring,
    )


def curve_sizes(sizes: Sequence[int], training: int) -> list[int]:
    """Return the sizes of the learning curve: those asked for, and all pairs.

    Raises:
        UsageError: A size exceeds the training pairs.
    """
    if sizes and sizes[-1] > training:
        raise UsageError(
            f"reward_model.sizes: expected at most the {training} training pairs, found "
            f"{sizes[-1]}."
        )
    return sorted({*sizes, training})


def train_size(
    recipe: Recipe, pairs: Sequence[Pair], start: str, work: Path, target: Path, *, quiet: bool
) -> None:
    """Train a reward model on pairs and write it whole to `target`, from any checkpoint in `work`.

    Args:
        recipe: The run.
        pairs: Training pairs, in order.
        start: Folder of the model it starts from.
        work: Folder of its checkpoints.
        target: Folder that appears when it is done.
        quiet: No progress.
    """
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from taut.training.pipeline.trainers import InOrder, common_arguments, laid_out, share_of, train

    class Trainer(InOrder, RewardTrainer):
        pass

    settings = recipe.reward_model
    tokenizer = load_tokenizer(start)
    model = load_scorer(start, seed=recipe.seed)
    batch = min(settings.batch, len(pairs))
    steps = max(1, math.ceil(len(pairs) * settings.epochs / batch))
    order = laid_out(len(pairs), steps * batch, seed=recipe.seed)
    rows = [_tokens(tokenizer, pair, settings.max_tokens) for pair in pairs]
    arguments = common_arguments(
        RewardConfig,
        recipe,
        work,
        learning_rate=settings.learning_rate,
        max_steps=steps,
        per_device_train_batch_size=1,
        max_length=None,
        remove_unused_columns=True,
    )
    arguments.per_device_train_batch_size = share_of(
        batch, arguments.world_size, "reward_model.batch"
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([rows[i] for i in order]),
        processing_class=tokenizer,
        peft_config=lora_config(recipe.lora, "reward_model"),
    )
    train(trainer, work, stage=f"reward model on {len(pairs)} pairs", quiet=quiet)
    if trainer.is_world_process_zero():
        write_whole(merged(trainer.accelerator.unwrap_model(trainer.model)), tokenizer, target)
    trainer.accelerator.wait_for_everyone()


def write_whole(model: Any, tokenizer: Any, target: Path) -> None:
    """Write a model's folder so that it appears whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    save(model, tokenizer, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _tokens(tokenizer: Any, pair: Pair, max_tokens: int) -> dict[str, list[int]]:
    chosen, rejected = (
        text_tokens(tokenizer, pair.prompt, response, max_tokens)
        for response in (pair.chosen, pair.rejected)
    )
    # Versions of TRL differ in the names of tokenised pairs.
    return {
        "chosen_ids": chosen,
        "rejected_ids": rejected,
        "chosen_input_ids": chosen,
        "rejected_input_ids": rejected,
    }


def score_pairs(score: ModelScore, pairs: Sequence[Pair]) -> np.ndarray:
    """Return the raw scores of chosen and rejected responses, shape (pairs, 2)."""
    prompts = [pair.prompt for pair in pairs for _ in range(2)]
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    return score(prompts, texts)[0].reshape(-1, 2)


def calibrate(recipe: Recipe, scores: np.ndarray, pairs: Sequence[Pair]) -> RewardMap:
    """Return the map from scores to rewards, from the calibration pairs alone.

    Args:
        recipe: The run: declared range, units, quantile and margin.
        scores: Raw scores of the calibration pairs, shape (pairs, 2).
        pairs: The calibration pairs.

    Raises:
        UsageError: Gold units were asked for and no calibration pair has gold.
    """
    settings = recipe.reward_model
    if settings.units == "gold":
        known, gold = _gold(pairs)
        if not known.any():
            raise UsageError(
                'reward_model.units: "gold" expects pairs with `chosen_gold` and `rejected_gold` '
                "in the calibration half, found none."
            )
        scale, shift = gold_line(scores[known].ravel(), gold[known].ravel())
        low, high = recipe.gold.range
        source = f"gold.range; line fitted on {int(known.sum())} calibration pairs"
        return RewardMap(scale=scale, shift=shift, low=low, high=high, source=source)
    if settings.range is not None:
        return RewardMap(low=settings.range[0], high=settings.range[1], source="declared")
    low, high = calibrated_range(scores.ravel(), settings.range_quantile, settings.range_margin)
    source = (
        f"quantiles {settings.range_quantile:g} and {1 - settings.range_quantile:g} of "
        f"{scores.size} calibration responses, widened by {settings.range_margin:g}"
    )
    return RewardMap(low=low, high=high, source=source)


def _gold(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs have gold, and gold of shape (pairs, 2)."""
    values = [pair.gold or (math.nan, math.nan) for pair in pairs]
    gold = np.array(values, dtype=np.float64).reshape(-1, 2)
    return np.isfinite(gold).all(1), gold


def measure(
    scores: np.ndarray,
    pairs: Sequence[Pair],
    reward_map: RewardMap,
    gold_range: tuple[float, float] | None,
) -> dict[str, float | int | None]:
    """Return what held-out pairs say about a reward model.

    Args:
        scores: Raw scores of the measuring pairs, shape (pairs, 2).
        pairs: The measuring pairs.
        reward_map: The map chosen on the calibration pairs.
        gold_range: Declared range of gold, or None where it is not declared.

    Returns:
        `loss` (Bradley-Terry, nats a pair), `accuracy` (ties count half), `L` (mean squared error
        on the unit scale; None without gold) with its `standard_error` over pairs, `L_pairs` (pairs
        behind it) and `held_out` (pairs).
    """
    margins = scores[:, 0] - scores[:, 1]
    known, gold = _gold(pairs)
    squared = spread = None
    if gold_range is not None and known.any():
        error = reward_map.unit(reward_map(scores[known])) - unit_interval(gold[known], gold_range)
        by_pair = (error**2).mean(1)
        squared = float(by_pair.mean())
        if len(by_pair) > 1:
            spread = float(by_pair.std(ddof=1) / math.sqrt(len(by_pair)))
    return {
        "L": squared,
        "standard_error": spread,
        "loss": float(np.mean(np.logaddexp(0.0, -margins))),
        "accuracy": float(np.mean(np.where(margins == 0, 0.5, margins > 0))),
        "held_out": len(pairs),
        "L_pairs": int(known.sum()) if squared is not None else 0,
    }

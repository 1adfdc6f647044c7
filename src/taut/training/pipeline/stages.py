"""The stages of a run, in order: what is there already is not made again.

A stage writes into a folder of its own, moves its result into place when it is whole, and is noted
in the manifest; a run that was killed goes on with the first stage that is not noted, from its
newest whole checkpoint.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taut.errors import UsageError
from taut.logs.write import whole_file
from taut.training.pipeline.manifest import Manifest
from taut.training.pipeline.models import (
    load_scorer,
    load_tokenizer,
    make_from_scratch,
    model_folder,
)
from taut.training.pipeline.settings import Recipe


class Stages:
    """The stages of one run, in order, each skipped where the manifest says that it is done."""

    def __init__(self, recipe: Recipe, manifest: Manifest, processes: Any, *, quiet: bool) -> None:
        self.recipe = recipe
        self.manifest = manifest
        self.processes = processes
        self.quiet = quiet
        self.folder = Path(recipe.output.folder)
        self.models = self.folder / "models"
        self.main = processes.is_main_process

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return "policy" in self.manifest.stages

    def run(self, training: Sequence, held_out: Sequence) -> None:
        """Run what is not done yet, on training and held-out prompts."""
        base = self.start()
        policy_start = self.sft(base)
        reward = self.reward(policy_start)
        self.policy(policy_start, reward, training, held_out)

    def check(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Find what cannot work before hours of training; return training and held-out prompts."""
        from taut.training.pipeline.data import read_pairs
        from taut.training.pipeline.policy import batch_shares, policy_prompts
        from taut.training.pipeline.reward_model import curve_sizes, split_pairs
        from taut.training.pipeline.rewards import check_range, load_function

        recipe, settings = self.recipe, self.recipe.reward_model
        check_reporters(recipe.report_to)
        prompts = policy_prompts(recipe)
        batch_shares(recipe, self.processes.num_processes)
        for function in (settings.function, recipe.gold and recipe.gold.function):
            if function:
                load_function(function)
        if recipe.model.from_scratch is not None:
            load_tokenizer(recipe.model.from_scratch.tokenizer)
        gold_model = recipe.gold and recipe.gold.checkpoint
        for model in (recipe.model.checkpoint, settings.checkpoint, settings.start, gold_model):
            if model:
                model_folder(model)
        if settings.pairs is not None:
            pairs = read_pairs(settings.pairs)
            split = split_pairs(pairs, settings.held_out, seed=recipe.seed)
            curve_sizes(settings.sizes, len(split.training))
            known = np.array([pair.gold for pair in pairs if pair.gold is not None])
            if recipe.gold is not None:
                check_range(known, recipe.gold.range, "gold.range")
        return prompts

    def stage(self, name: str) -> Path | None:
        """Return the work folder of a stage, or None where it is done."""
        work = self.folder / "stages" / name
        if name in self.manifest.stages:
            return None
        if self.main:
            work.mkdir(parents=True, exist_ok=True)
            self.say(f"{name}: {'going on' if any(work.iterdir()) else 'starting'}")
        self.processes.wait_for_everyone()
        return work

    def finish(self, name: str, found: dict[str, Any]) -> None:
        """Note a stage as done and remove its checkpoints."""
        self.processes.wait_for_everyone()
        self.manifest.finish(name, found, main=self.main)
        if self.main:
            shutil.rmtree(self.folder / "stages" / name, ignore_errors=True)
        self.processes.wait_for_everyone()

    def say(self, line: str) -> None:
        """Tell the user, unless quiet."""
        if self.main and not self.quiet:
            sys.stderr.write(f"{line}\n")

    def start(self) -> str:
        """Return the folder of the model that everything starts from."""
        shape = self.recipe.model.from_scratch
        if shape is None:
            return model_folder(self.recipe.model.checkpoint)
        target = self.models / "start"
        if self.stage("start") is not None:
            if self.main:
                make_from_scratch(shape, target, seed=self.recipe.seed)
            self.finish("start", {"folder": "models/start"})
        return str(target)

    def sft(self, base: str) -> str:
        """Return the folder of the policy's start and reference."""
        if self.recipe.sft is None:
            return base
        target = self.models / "sft"
        work = self.stage("sft")
        if work is not None:
            from taut.training.pipeline.sft import fine_tune

            found = fine_tune(self.recipe, base, work, target, quiet=self.quiet)
            self.finish("sft", {"folder": "models/sft", **found})
        return str(target)

    def reward(self, policy_start: str) -> Any:
        """Return the reward, with its range, trained if need be."""
        from taut.training.pipeline.rewards import FunctionScore, MappedReward, RewardMap

        settings = self.recipe.reward_model
        if settings.pairs is not None:
            reward_map = RewardMap(**self.trained_reward(policy_start)["map"])
            score = self.scorer(str(self.models / "reward"))
            return MappedReward(score, reward_map)
        reward_map = RewardMap(low=settings.range[0], high=settings.range[1], source="declared")
        if settings.function is not None:
            return MappedReward(FunctionScore(settings.function), reward_map)
        return MappedReward(self.scorer(model_folder(settings.checkpoint)), reward_map)

    def trained_reward(self, policy_start: str) -> dict[str, Any]:
        """Train reward models of all sizes; return what the manifest keeps of the largest."""
        from taut.training.pipeline.data import read_pairs
        from taut.training.pipeline.reward_model import curve_sizes, split_pairs

        settings = self.recipe.reward_model
        start = model_folder(settings.start) if settings.start else policy_start
        split = split_pairs(read_pairs(settings.pairs), settings.held_out, seed=self.recipe.seed)
        sizes = curve_sizes(settings.sizes, len(split.training))
        for size in sizes:
            name = f"reward-{size}"
            work = self.stage(name)
            if work is not None:
                self.finish(name, self.one_size(split, size, start, work))
        rows = [{"m": size, **self.manifest.stages[f"reward-{size}"]["held_out"]} for size in sizes]
        largest = self.models / f"reward-{sizes[-1]}"
        if self.main:
            lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
            with whole_file(str(self.folder / "rm_curve.jsonl")) as file:
                file.write(lines.encode())
            if largest.exists():
                shutil.rmtree(self.models / "reward", ignore_errors=True)
                largest.rename(self.models / "reward")
        self.processes.wait_for_everyone()
        return self.manifest.stages[f"reward-{sizes[-1]}"]

    def one_size(self, split: Any, size: int, start: str, work: Path) -> dict[str, Any]:
        """Train on the first `size` pairs, fix the map, measure; keep the largest model only."""
        from taut.training.pipeline.reward_model import calibrate, measure, score_pairs, train_size

        target = self.models / f"reward-{size}"
        if not target.exists():
            pairs = split.training[:size]
            train_size(self.recipe, pairs, start, work, target, quiet=self.quiet)
        score = self.scorer(str(target))
        gold_range = self.recipe.gold.range if self.recipe.gold else None
        reward_map = calibrate(
            self.recipe, score_pairs(score, split.calibration), split.calibration
        )
        held_out = measure(
            score_pairs(score, split.measuring), split.measuring, reward_map, gold_range
        )
        self.processes.wait_for_everyone()
        if self.main and size < len(split.training):
            shutil.rmtree(target)
        self.say(
            f"reward-{size}: held-out loss {held_out['loss']:.4f}, accuracy "
            f"{held_out['accuracy']:.3f}"
            + ("" if held_out["L"] is None else f", L {held_out['L']:.4f}")
        )
        return {"map": reward_map.document, "held_out": held_out}

    def scorer(self, folder: str) -> Any:
        """Return the scores of a sequence classifier on this process's device."""
        from taut.training.pipeline.rewards import ModelScore

        tokenizer = load_tokenizer(folder)
        model = load_scorer(folder).to(self.processes.device).eval().requires_grad_(False)
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        settings = self.recipe.reward_model
        return ModelScore(
            model, tokenizer, max_tokens=settings.max_tokens, batch=self.recipe.evaluation.batch
        )

    def gold(self) -> Any:
        """Return the target reward, or None where there is none."""
        from taut.training.pipeline.rewards import FunctionScore, GoldReward

        settings = self.recipe.gold
        if settings is None:
            return None
        if settings.function is not None:
            return GoldReward(FunctionScore(settings.function), settings.range)
        return GoldReward(self.scorer(model_folder(settings.checkpoint)), settings.range)

    def policy(self, start: str, reward: Any, training: Sequence, held_out: Sequence) -> None:
        """Optimise the policy."""
        from taut.training.pipeline.policy import optimise

        found = optimise(
            self.recipe,
            start=start,
            reward=reward,
            gold=self.gold(),
            training=training,
            held_out=held_out,
            work=self.stage("policy"),
            quiet=self.quiet,
        )
        found["map"] = reward.map.document
        self.finish("policy", found)


def check_reporters(names: Sequence[str]) -> None:
    """Raise where metrics cannot be reported as asked.

    Raises:
        UsageError: A name is unknown, or its library is missing.
    """
    from transformers.integrations import get_reporting_integration_callbacks

    for name in names:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ValueError, RuntimeError, ImportError) as problem:
            raise UsageError(
                f'report_to: expected where metrics can go, found "{name}": {problem}'
            ) from None

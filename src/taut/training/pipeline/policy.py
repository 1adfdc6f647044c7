"""The policy stage: RLOO with the sequence-level clipped KL, its log, and the held-out log."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

from taut.errors import UsageError
from taut.logs.write import whole_file
from taut.training.clipping.clipped_kl import clipped_kl_trainer
from taut.training.clipping.reward import ClippedKLReward
from taut.training.clipping.threshold import FixedThreshold, PhasedThreshold, Threshold
from taut.training.pipeline.data import in_share, overlapping, prompt_rows, read_pairs, read_rows
from taut.training.pipeline.evaluation import HeldOut
from taut.training.pipeline.models import load_causal, load_tokenizer, lora_config, merged
from taut.training.pipeline.reward_model import write_whole
from taut.training.pipeline.rewards import GoldReward, MappedReward
from taut.training.pipeline.settings import Recipe
from taut.training.pipeline.trainers import common_arguments, share_of, train
from taut.training.recording.checks import preflight
from taut.training.recording.columns import check_keep
from taut.training.recording.recorder import record


def policy_prompts(recipe: Recipe) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows that train the policy and the held-out ones.

    Raises:
        UsageError: A held-out prompt also trains, or a part is too small.
    """
    rows, settings = prompt_rows(recipe.policy.prompts), recipe.evaluation
    if settings.prompts is not None:
        training, held_out = rows, prompt_rows(settings.prompts)
    else:
        side = [
            in_share(row["prompt_id"], settings.share, seed=recipe.seed, salt="evaluation")
            for row in rows
        ]
        training = [row for row, out in zip(rows, side, strict=True) if not out]
        held_out = [row for row, out in zip(rows, side, strict=True) if out]
    needed = recipe.policy.prompts_per_step
    if len(training) < needed or not held_out:
        raise UsageError(
            f"policy.prompts: expected {needed} or more training prompts (policy.prompts_per_step) "
            f"and at least one held-out, found {len(training)} and {len(held_out)}."
        )
    check_keep(settings.keep, {"the held-out prompts": list(held_out[0])})
    if settings.overlap == "refuse":
        _refuse_overlap(recipe, training, held_out)
    return training, held_out


def _refuse_overlap(recipe: Recipe, training: Sequence[dict], held_out: Sequence[dict]) -> None:
    """A prompt that any stage learns from says nothing about prompts to come."""
    learned = {"policy.prompts": [row["prompt"] for row in training]}
    if recipe.sft is not None:
        learned["sft.data"] = [row["prompt"] for row in read_rows(recipe.sft.data, ["prompt"])]
    if recipe.reward_model.pairs is not None:
        learned["reward_model.pairs"] = [
            pair.prompt for pair in read_pairs(recipe.reward_model.pairs)
        ]
    for what, prompts in learned.items():
        shared = overlapping([row["prompt"] for row in held_out], prompts)
        if shared:
            raise UsageError(
                f"evaluation: expected prompts that nothing was trained on, found {len(shared)} of "
                f"{len(held_out)} also in {what}, the first {str(shared[0])[:60]!r}. Give others "
                "in evaluation.prompts; or, if all prompts are independent draws, so that equal "
                'ones are chance, set evaluation.overlap = "independent_draws".'
            )


def training_order(rows: int, per_batch: int, batches: int, *, seed: int) -> list[int]:
    """Return row numbers, batch after batch: shuffled passes, no prompt twice in a batch.

    Args:
        rows: Number of prompts.
        per_batch: Prompts a batch of rollouts.
        batches: Batches of rollouts in the run.
        seed: Of the shuffles.
    """
    rng = np.random.default_rng([seed, 0x90])
    order: list[int] = []
    whole = rows - rows % per_batch
    while len(order) < batches * per_batch:
        order += rng.permutation(rows)[:whole].tolist()
    return order[: batches * per_batch]


def training_data(recipe: Recipe, rows: Sequence[dict[str, Any]]) -> Dataset:
    """Return the prompts of the whole run in the order in which it takes them."""
    policy = recipe.policy
    batches = math.ceil(policy.steps / policy.iterations)
    order = training_order(len(rows), policy.prompts_per_step, batches, seed=recipe.seed)
    return Dataset.from_list(list(rows)).select(order)


def require_tokens(tokenizer: Any, rows: Sequence[dict[str, Any]], folder: str) -> None:
    """Stop where the tokenizer sees nothing in a prompt: the policy would be asked nothing.

    A folder whose tokenizer_config.json names another class than the one that made its files loads
    without a word and may read every text as empty.

    Raises:
        UsageError: A prompt without a token.
    """
    texts = [row["prompt"] for row in rows if isinstance(row["prompt"], str)]
    found = tokenizer(texts)["input_ids"] if texts else []
    empty = next((text for text, ids in zip(texts, found, strict=True) if not ids), None)
    if empty is not None:
        raise UsageError(
            f"{folder}: expected its tokenizer to find tokens in every prompt, found none in "
            f"{empty[:60]!r}; check that tokenizer_config.json names the class that wrote it."
        )


def optimise(
    recipe: Recipe,
    *,
    start: str,
    reward: MappedReward,
    gold: GoldReward | None,
    training: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]],
    work: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Optimise the policy from `start`, which is also its reference.

    Returns:
        What the manifest keeps: steps, and the last clip threshold in nats (null where there was
        none).
    """
    folder = Path(recipe.output.folder)
    tokenizer = load_tokenizer(start)
    require_tokens(tokenizer, (*training, *held_out), start)
    lora = lora_config(recipe.lora, "policy")
    threshold = _threshold(recipe, len(held_out))
    trainer, reference = _trainer(
        recipe,
        threshold,
        reward,
        start,
        model=load_causal(start),
        args=_arguments(recipe, work),
        train_dataset=training_data(recipe, training),
        processing_class=tokenizer,
        peft_config=lora,
    )
    _check_parallel(trainer)
    findings = _check_sound(trainer, quiet=quiet)
    if recipe.log.training:
        _record_training(recipe, trainer, reward, gold)
    trainer.add_callback(
        HeldOut(
            recipe,
            rows=held_out,
            tokenizer=tokenizer,
            reference=reference,
            reward=reward,
            gold=gold,
            folder=folder / "eval",
            models=folder / "models" if recipe.evaluation.models else None,
        )
    )
    train(trainer, work, stage="policy", quiet=quiet)
    if trainer.is_world_process_zero():
        whole = merged(trainer.accelerator.unwrap_model(trainer.model))
        write_whole(whole, tokenizer, folder / "models" / "policy")
        _write_metrics(trainer.state.log_history, folder / "metrics.jsonl")
    trainer.accelerator.wait_for_everyone()
    last = None if math.isinf(threshold.tau) else threshold.tau
    return {
        "folder": "models/policy",
        "steps": recipe.policy.steps,
        "tau": last,
        "warnings": findings,
    }


def _record_training(
    recipe: Recipe, trainer: Any, reward: MappedReward, gold: GoldReward | None
) -> None:
    folder = Path(recipe.output.folder)
    recorder = record(
        trainer,
        folder / "log",
        gold=gold if recipe.log.gold else None,
        token_lists=recipe.log.token_lists,
        text=recipe.log.text,
        reward_range=(reward.map.low, reward.map.high),
        gold_range=recipe.gold and recipe.gold.range,
        run=folder.name,
        overwrite=True,  # the folder is of this run; before its first checkpoint it starts anew
        check=False,  # done before, and it found what follows
    )
    recorder.logs["train"].facts["starts_at_reference"] = True


def _threshold(recipe: Recipe, audited: int) -> Threshold:
    """Return the clip threshold: fixed, none, or by the quantile rule for the audit to come."""
    policy, every = recipe.policy, recipe.policy.iterations
    if policy.tau == "none":
        return FixedThreshold(math.inf, math.inf)
    if policy.tau != "quantile":
        return FixedThreshold(policy.tau, policy.tau)
    # The rule counts batches of rollouts, each of which is used for `iterations` steps.
    return PhasedThreshold(
        prompts=audited,
        rollouts_per_prompt=recipe.evaluation.rollouts_per_prompt,
        delta=policy.delta,
        burn_in=policy.burn_in // every,
        calibration=policy.calibration // every,
        phase=policy.phase // every or None,
        floor=policy.floor,
    )


def _trainer(
    recipe: Recipe, threshold: Threshold, reward: MappedReward, start: str, **settings: Any
) -> tuple[Any, Any | None]:
    """Return the trainer of the way that the recipe asks for, and its frozen reference.

    The reference is None where it is the policy with its adapters off.
    """
    if recipe.policy.way == "mixin":
        trainer = clipped_kl_trainer()(tau=threshold, reward_funcs=[reward], **settings)
        return trainer, trainer.ref_model
    penalty = ClippedKLReward(tau=threshold, rows=settings["args"].per_device_train_batch_size)
    trainer = RLOOTrainer(reward_funcs=[reward, penalty], **settings)
    reference = None if settings["peft_config"] else load_causal(start)
    penalty.attach(trainer, reference=reference)
    return trainer, reference


def _check_sound(trainer: Any, *, quiet: bool) -> list[str]:
    """Run the pre-flight checks; return what is worth knowing.

    Raises:
        UsageError: A check found an error.
    """
    findings = preflight(trainer)
    errors = [str(found) for found in findings if found.severity != "warning"]
    if errors:
        raise UsageError(f"policy: the run would be worth nothing: {' '.join(errors)}")
    found = [str(finding) for finding in findings]
    if trainer.is_world_process_zero() and not quiet:
        sys.stderr.write("".join(f"warning: {line}\n" for line in found))
    return found


def _check_parallel(trainer: Any) -> None:
    """The held-out log samples from whole weights, which sharded training does not have.

    Raises:
        UsageError: The weights are sharded.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UsageError(
            "expected one process or data-parallel processes (torchrun, accelerate), found sharded "
            "weights (FSDP or DeepSpeed); the held-out log needs whole ones. Use LoRA instead."
        )


def _write_metrics(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Write what the trainer reported, one line a report; what is not finite is left out."""
    lines = []
    for entry in history:
        known = {
            name: value
            for name, value in entry.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        lines.append(json.dumps(known, allow_nan=False) + "\n")
    with whole_file(str(path)) as file:
        file.write("".join(lines).encode())


def batch_shares(recipe: Recipe, processes: int) -> tuple[int, int]:
    """Return how many rollouts a process has a step, and how many of them go in one pass.

    Raises:
        UsageError: A batch of some stage cannot be shared equally.
    """
    policy = recipe.policy
    if recipe.sft is not None:
        share_of(recipe.sft.batch, processes, "sft.batch")
    if recipe.reward_model.pairs is not None:
        share_of(recipe.reward_model.batch, processes, "reward_model.batch")
    rollouts = policy.prompts_per_step * policy.rollouts_per_prompt
    what = "policy.prompts_per_step x policy.rollouts_per_prompt"
    share = share_of(rollouts, processes, what)
    one_pass = policy.micro_batch or share
    if share % one_pass:
        raise UsageError(
            f"policy.micro_batch: expected a divisor of the {share} rollouts that a process has a "
            f"step, found {one_pass}."
        )
    return share, one_pass


def _arguments(recipe: Recipe, work: Path) -> RLOOConfig:
    policy = recipe.policy
    share, one_pass = batch_shares(recipe, PartialState().num_processes)
    schedule = "constant_with_warmup" if policy.schedule == "constant" else policy.schedule
    return common_arguments(
        RLOOConfig,
        recipe,
        work,
        beta=policy.beta if policy.way == "mixin" else 0.0,
        reward_weights=None if policy.way == "mixin" else [1.0, policy.beta],
        max_steps=policy.steps,
        num_train_epochs=1,
        per_device_train_batch_size=one_pass,
        gradient_accumulation_steps=share // one_pass,
        num_generations=policy.rollouts_per_prompt,
        num_iterations=policy.iterations,
        max_completion_length=policy.max_new_tokens,
        max_prompt_length=None,
        temperature=policy.temperature,
        top_k=0,
        top_p=1.0,
        learning_rate=policy.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=policy.warmup,
        max_grad_norm=policy.max_gradient,
        save_steps=policy.save_every,
        shuffle_dataset=False,
        log_completions=False,
    )

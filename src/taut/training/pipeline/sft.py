"""Supervised fine-tuning on prompts with completions: the loss is on the completion alone."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from taut.errors import LogError
from taut.training.pipeline.data import read_rows
from taut.training.pipeline.models import (
    load_causal,
    load_tokenizer,
    lora_config,
    merged,
    prompt_tokens,
    response_text,
)
from taut.training.pipeline.reward_model import write_whole
from taut.training.pipeline.settings import Recipe
from taut.training.pipeline.trainers import InOrder, common_arguments, laid_out, share_of, train

IGNORED = -100  # label of tokens without loss, as PyTorch's cross-entropy has it


class _Trainer(InOrder, Trainer):
    pass


def fine_tune(recipe: Recipe, start: str, work: Path, target: Path, *, quiet: bool) -> dict:
    """Fine-tune the model in `start` and write it whole to `target`.

    Returns:
        What the manifest keeps: rows and steps.
    """
    settings = recipe.sft
    tokenizer = load_tokenizer(start)
    model = load_causal(start)
    lora = lora_config(recipe.lora, "sft")
    if lora is not None:
        from peft import get_peft_model

        torch.manual_seed(recipe.seed)
        model = get_peft_model(model, lora)
    rows = [
        _example(tokenizer, row, settings.max_tokens, f"{settings.data}:{i}")
        for i, row in enumerate(read_rows(settings.data, ["prompt", "completion"]), 1)
    ]
    batch = min(settings.batch, len(rows))
    steps = max(1, math.ceil(len(rows) * settings.epochs / batch))
    arguments = common_arguments(
        TrainingArguments,
        recipe,
        work,
        learning_rate=settings.learning_rate,
        max_steps=steps,
        per_device_train_batch_size=1,
    )
    arguments.per_device_train_batch_size = share_of(batch, arguments.world_size, "sft.batch")
    order = laid_out(len(rows), steps * batch, seed=recipe.seed)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([rows[i] for i in order]),
        data_collator=lambda examples: _collate(examples, tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    train(trainer, work, stage="SFT", quiet=quiet)
    if trainer.is_world_process_zero():
        write_whole(merged(trainer.accelerator.unwrap_model(trainer.model)), tokenizer, target)
    trainer.accelerator.wait_for_everyone()
    return {"rows": len(rows), "steps": steps}


def _example(tokenizer: Any, row: dict, max_tokens: int, where: str) -> dict[str, list[int]]:
    prompt = prompt_tokens(tokenizer, row["prompt"])
    answer = tokenizer(response_text(row["completion"]), add_special_tokens=False)["input_ids"]
    tokens = [*prompt, *answer, tokenizer.eos_token_id][:max_tokens]
    if len(tokens) <= len(prompt):
        raise LogError(
            f"{where}: expected a prompt shorter than sft.max_tokens = {max_tokens}, found "
            f"{len(prompt)} tokens; nothing would be left to learn."
        )
    return {"input_ids": tokens, "labels": [IGNORED] * len(prompt) + tokens[len(prompt) :]}


def _collate(examples: Sequence[dict], pad: int) -> dict[str, torch.Tensor]:
    longest = max(len(example["input_ids"]) for example in examples)
    fill = {"input_ids": pad, "labels": IGNORED, "attention_mask": 0}
    rows = [{**example, "attention_mask": [1] * len(example["input_ids"])} for example in examples]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }

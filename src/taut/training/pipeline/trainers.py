"""What all stages' trainers share: arguments, order of rows, checkpoints that are whole, progress.

A checkpoint folder appears file by file, so one that a kill has cut off looks like any other. Each
whole one therefore gets a last file, and only those are gone on from. Rows come in an order that is
laid out beforehand, so that a resumed run sees the same ones.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from taut.errors import UsageError
from taut.training.pipeline.settings import Recipe

WHOLE = "taut.whole"  # the last file of a checkpoint
# Metrics that people watch while they wait: the trainers' names, and ours.
WATCHED = {
    "loss": "loss",
    "accuracy": "accuracy",
    "reward": "reward",
    "kl/sequence": "KL",
    "kl/clip_share": "clipped",
    "tau": "tau",
}
SAVE_EVERY = 200  # steps between checkpoints of SFT and the reward model


def common_arguments(kind: type, recipe: Recipe, folder: Path, **more: Any) -> Any:
    """Return a trainer's arguments with what every stage sets.

    Args:
        kind: TrainingArguments or a child of it; settings that it does not know are left out.
        recipe: The run.
        folder: Where checkpoints go.
        more: What the stage sets.
    """
    cpu = recipe.model.device == "cpu" or not torch.cuda.is_available()
    boards = Path(recipe.output.folder) / "tensorboard" / folder.name
    # Newer versions of transformers read the variable, older ones the argument.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(boards)
    settings = {
        "output_dir": str(folder),
        "logging_dir": str(boards),
        "seed": recipe.seed,
        "use_cpu": cpu,
        "bf16": recipe.model.precision == "bfloat16",
        # The newer name of the next one; TRL turns it on unless told otherwise.
        "activation_checkpointing": recipe.model.gradient_checkpointing,
        "gradient_checkpointing": recipe.model.gradient_checkpointing,
        "disable_dropout": True,
        "report_to": list(recipe.report_to) or "none",
        "run_name": f"{Path(recipe.output.folder).name}-{folder.name}",
        "logging_steps": recipe.log.every,
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": SAVE_EVERY,
        "save_total_limit": 2,
        "dataloader_pin_memory": not cpu,
        "remove_unused_columns": False,
        "push_to_hub": False,
        "log_level_replica": "error",
        **more,
    }
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in settings.items() if name in known})


def share_of(total: int, processes: int, what: str) -> int:
    """Return one process's share of a batch.

    Raises:
        UsageError: The batch cannot be shared equally.
    """
    if total % processes:
        raise UsageError(
            f"{what}: expected a multiple of the {processes} processes, found {total}; every "
            "process takes an equal share of a step."
        )
    return total // processes


def laid_out(rows: int, length: int, *, seed: int) -> list[int]:
    """Return row numbers in training order: shuffled passes over the rows, cut at a length."""
    rng = np.random.default_rng([seed, 0x7A07])
    order: list[int] = []
    while len(order) < length:
        order += rng.permutation(rows).tolist()
    return order[:length]


class InOrder:
    """A trainer that takes its rows in the order in which the data set holds them."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)


class MarkWhole(TrainerCallback):
    """Mark each checkpoint as whole once all processes have written their part."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the last file of the checkpoint."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


class Progress(TrainerCallback):
    """One line about a stage: redrawn on a terminal, a few lines elsewhere, nothing if quiet."""

    def __init__(self, stage: str, *, quiet: bool) -> None:
        self.stage = stage
        self.quiet = quiet
        self._metrics = ""
        self._first = 0
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Remember the metrics that people watch."""
        found = {name: (logs or {}).get(key) for key, name in WATCHED.items()}
        known = {name: value for name, value in found.items() if value is not None}
        if "reward" in known:
            known.pop("loss", None)  # RLOO's is 0 up to rounding, whatever happens
        self._metrics = "".join(f"  {name} {value:.4g}" for name, value in known.items())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell where the stage is."""
        if self.quiet or not state.is_world_process_zero:
            return
        now = time.monotonic()
        done, missing = state.global_step - self._first, state.max_steps - state.global_step
        left = _duration(missing * (now - self._began) / max(done, 1))
        line = f"{self.stage}: step {state.global_step}/{state.max_steps}, {left} left"
        line += self._metrics
        if self._terminal and now - self._shown > 0.2:
            self._shown = now
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        elif not self._terminal and now - self._shown > 30:
            self._shown = now
            sys.stderr.write(f"{line}\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock at the step that this process starts from."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Clear the line."""
        if self._terminal and not self.quiet and state.is_world_process_zero:
            sys.stderr.write("\r\x1b[K")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes // 60}:{minutes % 60:02} h"


def train(trainer: Any, folder: Path, *, stage: str, quiet: bool) -> None:
    """Train to the end, from the newest whole checkpoint on if there is one."""
    from transformers.trainer_callback import PrinterCallback

    _check_precision(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(MarkWhole(trainer))
    trainer.add_callback(Progress(stage, quiet=quiet))
    if trainer.is_world_process_zero():
        remove_broken(folder)
    trainer.accelerator.wait_for_everyone()
    newest = whole_checkpoints(folder)
    trainer.train(resume_from_checkpoint=str(newest[-1]) if newest else None)


def _check_precision(trainer: Any) -> None:
    """A launcher, or an earlier run in this process, can have set another precision for all.

    Raises:
        UsageError: It has.
    """
    asked = "bf16" if trainer.args.bf16 else "no"
    found = trainer.accelerator.mixed_precision
    if found != asked:
        raise UsageError(
            f"model.precision: expected mixed precision '{asked}', found '{found}', which the "
            "launcher or an earlier run in this process has set; change it there, or start anew."
        )


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a stage, oldest first."""
    return [path for path in _checkpoints(folder) if (path / WHOLE).exists()]


def remove_broken(folder: Path) -> None:
    """Remove checkpoints that a kill has cut off."""
    for path in _checkpoints(folder):
        if not (path / WHOLE).exists():
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> Sequence[Path]:
    found = {}
    for path in folder.glob("checkpoint-*"):
        if match := re.fullmatch(r"checkpoint-(\d+)", path.name):
            found[int(match[1])] = path
    return [found[step] for step in sorted(found)]

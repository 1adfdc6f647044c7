"""Two-stage RLHF from a recipe: SFT, reward model, policy, each stage once, then their logs."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from taut.errors import UsageError
from taut.training.extra import require_extra
from taut.training.pipeline.manifest import NAME, only_one, open_manifest
from taut.training.pipeline.outcome import Run, finished
from taut.training.pipeline.recipe import parse_recipe, read_recipe
from taut.training.pipeline.settings import Recipe


def train(
    recipe: str | os.PathLike | Mapping[str, Any] | Recipe,
    *,
    changes: Mapping[str, str] | None = None,
    output: str | os.PathLike | None = None,
    fresh: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Run a recipe, or go on with it where it was stopped.

    Args:
        recipe: A TOML file, its tables as a mapping, or what `read_recipe` returns.
        changes: Of a file: dotted keys to values as TOML writes them, as in
            {"policy.steps": "50"}.
        output: Of a file: folder of the run, in place of output.folder.
        fresh: Remove an earlier run in the folder and start again.
        resume: Insist on an earlier run in the folder.
        quiet: No progress.

    Returns:
        The run: where its logs are, and what to run on them.

    Raises:
        UsageError: The extra `train` is missing, the recipe is wrong or does not fit its data, the
            folder holds another run, or a model cannot be loaded.
        LogError: A data file is wrong.
        AssumptionError: A reward or gold value breaks its declared range.
    """
    settings = _recipe(recipe, changes, output)
    if resume and fresh:
        raise UsageError("resume and fresh exclude each other.")
    require_extra()
    from accelerate import PartialState

    quieten()
    import torch

    from taut.training.pipeline.stages import Stages

    cpu = settings.model.device == "cpu" or not torch.cuda.is_available()
    processes = PartialState(cpu=cpu)
    folder, main = Path(settings.output.folder), processes.is_main_process
    if resume and not (folder / NAME).exists():
        raise UsageError(f"{folder}: --resume expects an earlier run, found none; leave it out.")
    with only_one(folder) if main else nullcontext(), _boards_of_its_own(), _quiet_warnings():
        manifest = open_manifest(settings, processes=processes.num_processes, fresh=fresh)
        stages = Stages(settings, manifest, processes, quiet=quiet)
        if not stages.done:
            training, held_out = stages.check()
            processes.wait_for_everyone()  # all have looked before one writes
            if main:
                manifest.begin()
            processes.wait_for_everyone()
            stages.run(training, held_out)
    return finished(folder, manifest)


def _recipe(
    given: Any, changes: Mapping[str, str] | None, output: str | os.PathLike | None
) -> Recipe:
    if isinstance(given, str | os.PathLike):
        return read_recipe(
            Path(given), changes=changes, output=None if output is None else os.fspath(output)
        )
    if changes or output:
        raise UsageError("changes and output are for a recipe in a file; change yours itself.")
    return given if isinstance(given, Recipe) else parse_recipe(given)


@contextmanager
def _quiet_warnings() -> Iterator[None]:
    """What these libraries will rename is for each other's developers, not for our users."""
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=kind, module=r"transformers|trl|torch")
        yield


def quieten() -> None:
    """Keep other libraries' bars and hints off our own lines; their errors are still shown."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextmanager
def _boards_of_its_own() -> Iterator[None]:
    """Put the environment back after stages that say where TensorBoard writes."""
    name = "TENSORBOARD_LOGGING_DIR"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before

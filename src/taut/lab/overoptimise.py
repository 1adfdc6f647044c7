"""Over-optimisation with a known truth, at desk size (after Gao, Schulman & Hilton 2022).

A small language model, comparisons labelled by a known true reward with Bradley-Terry noise, a
reward model fitted to m of them, and a policy optimised against it with a clipped KL: the recipe
runner of `taut train` does all of that. The lab writes its data, and afterwards knows the truth:
the true reward of every checkpoint on many fresh prompts. Then it audits the checkpoints as anyone
would who has only the log, with gold labels on a random subset, and compares.
"""

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from taut.errors import UsageError
from taut.lab.data import audited_columns, audited_facts, prepare, recipe_table
from taut.lab.files import write_json
from taut.lab.outcome import Outcome
from taut.lab.settings import Settings, settings_of
from taut.lab.verdict import judge
from taut.logs.write import write_native


class Experiment(BaseModel):
    """What a finished experiment leaves: the audited log, the truth, and what the audit says.

    Attributes:
        folder: Where everything is.
        log: The audited log: all checkpoints, gold on the labelled prompts only.
        outcome: What the audit said, and whether it was right; its `document` is
            `taut.lab/1`.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    log: Path
    outcome: Outcome


def overoptimise(
    folder: str | os.PathLike = "lab",
    *,
    size: Literal["tiny", "small", "gpu"] = "small",
    seed: int = 0,
    steps: int | None = None,
    pairs: int | None = None,
    gold: int | None = None,
    beta: float | None = None,
    tau: float | None = None,
    truth_prompts: int | None = None,
    quiet: bool = False,
) -> Experiment:
    """Train a policy until it over-optimises, audit its checkpoints, and compare with the truth.

    What was stopped goes on; what is finished is only read.

    Args:
        folder: Of the experiment; another call with other settings needs another one.
        size: "tiny" tests the plumbing, "small" takes minutes on a CPU, "gpu" wants one.
        seed: Of everything.
        steps: Steps of policy optimisation; as many checkpoints as usual.
        pairs: Comparisons that the reward model learns from, m.
        gold: Audited prompts with gold.
        beta: KL strength, reward units per nat.
        tau: Clip threshold of the log-ratio, nats.
        truth_prompts: Fresh prompts behind the truth of each checkpoint.
        quiet: No progress.

    Raises:
        UsageError: Settings that make no experiment, a folder that holds another one, or the extra
            `train` is missing.
    """
    settings = settings_of(
        size,
        seed=seed,
        steps=steps,
        pairs=pairs,
        gold=gold,
        beta=beta,
        tau=tau,
        truth_prompts=truth_prompts,
    )
    return run_experiment(Path(folder), settings, quiet=quiet)


def run_experiment(folder: Path, settings: Settings, *, quiet: bool = False) -> Experiment:
    """Run an experiment with all its settings given, or go on with it where it was stopped.

    Raises:
        UsageError: As for `overoptimise`.
    """
    from taut.engines.local import read_rollouts
    from taut.lab.truth import measured_truth
    from taut.training.extra import require_extra
    from taut.training.pipeline.recipe import parse_recipe
    from taut.training.pipeline.run import train

    require_extra("the lab")
    recipe = parse_recipe(recipe_table(folder, settings), "the experiment")
    claim(folder, settings)
    prepare(folder, settings, quiet=quiet)
    train(recipe, quiet=quiet)
    log = folder / "audit.parquet"
    if not log.exists():
        write_native(
            audited_columns(folder / "run" / "eval", settings), log, facts=audited_facts(settings)
        )
    outcome = judge(read_rollouts(log), measured_truth(folder, settings, quiet=quiet))
    write_json(folder / "outcome.json", outcome.document)
    return Experiment(folder=folder, log=log, outcome=outcome)


def claim(folder: Path, settings: Settings) -> None:
    """Take a folder for an experiment: a new one, or the one that is already in it.

    Raises:
        UsageError: It holds another experiment, or other files.
    """
    path, mine = folder / "lab.json", settings.model_dump()
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        other = [
            f"{key} {theirs.get(key)}, not {mine[key]}"
            for key in mine
            if theirs.get(key) != mine[key]
        ]
        if other:
            raise UsageError(
                f"{folder}: holds an experiment with {'; '.join(other)}. Give another folder (-o)."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: expected an empty folder or an experiment of this lab.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)

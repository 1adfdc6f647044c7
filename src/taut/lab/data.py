"""What an experiment trains on, its recipe, and the log that is audited.

Prompts that are audited, prompts of the truth, and prompts of any stage of training are independent
draws of one distribution. Which prompts have gold is drawn before anything is trained.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from taut.lab import language
from taut.lab.files import say, write_lines
from taut.lab.sampler import Sampler
from taut.lab.settings import (
    AUDIT,
    GOLD_RANGE,
    LABELS,
    PAIRS,
    TRAINING,
    Settings,
    checkpoints,
    stream,
)
from taut.logs.facts import LogFacts, recorded_facts
from taut.version import __version__


def prepare(folder: Path, settings: Settings, *, quiet: bool) -> None:
    """Write the base model and the data of all stages; what is there already stays."""
    from taut.lab.base import make_base

    if not (folder / "base").exists():
        say("language model: starting", quiet)
        make_base(
            folder / "base",
            hidden=settings.hidden,
            layers=settings.layers,
            steps=settings.base_steps,
            seed=settings.seed,
        )
    training = math.ceil(settings.steps * settings.batch / 4)
    draws = {"training": (training, TRAINING), "held_out": (settings.prompts, AUDIT)}
    for name, (count, which) in draws.items():
        if not (folder / f"{name}.jsonl").exists():
            prompts = language.draw_prompts(count, stream(settings, which))
            write_lines(folder / f"{name}.jsonl", _prompt_lines(name, prompts))
    if not (folder / "pairs.jsonl").exists():
        write_lines(folder / "pairs.jsonl", _pair_lines(folder / "base", settings))


def _prompt_lines(name: str, prompts: np.ndarray) -> Iterable[dict]:
    for number, text in enumerate(language.decode(prompts)):
        yield {"prompt_id": f"{name}-{number:06d}", "prompt": text}


def _pair_lines(base: Path, settings: Settings) -> Iterable[dict]:
    """Compare two responses of the base model to each prompt, as a noisy reader would.

    The probability that a response is preferred is the logistic of the difference of latent
    rewards (Bradley & Terry 1952).
    """
    rng = stream(settings, PAIRS)
    prompts = language.draw_prompts(settings.pairs, rng)
    first, second = (Sampler(base).responses(prompts, rng) for _ in range(2))
    margin = language.latent_reward(prompts, first) - language.latent_reward(prompts, second)
    prefers = rng.random(len(prompts)) < 1 / (1 + np.exp(-margin))
    texts = [language.decode(rows) for rows in (first, second)]
    gold = [language.gold_reward(prompts, rows).tolist() for rows in (first, second)]
    for row, prompt in enumerate(_prompt_lines("pair", prompts)):
        better, worse = (0, 1) if prefers[row] else (1, 0)
        yield prompt | {
            "chosen": texts[better][row],
            "rejected": texts[worse][row],
            "chosen_gold": gold[better][row],
            "rejected_gold": gold[worse][row],
        }


def recipe_table(folder: Path, settings: Settings) -> dict[str, Any]:
    """Return the recipe of the run, as the recipe runner reads it."""
    folder = folder.resolve()
    return {
        "seed": settings.seed,
        "model": {"checkpoint": str(folder / "base")},
        "reward_model": {
            "pairs": str(folder / "pairs.jsonl"),
            "epochs": settings.reward_epochs,
            "learning_rate": settings.reward_rate,
            "batch": settings.reward_batch,
            "units": "gold",
        },
        "gold": {"function": "taut.lab.language:gold", "range": list(GOLD_RANGE)},
        "policy": {
            "prompts": str(folder / "training.jsonl"),
            "beta": settings.beta,
            "tau": settings.tau,
            "steps": settings.steps,
            "prompts_per_step": settings.batch // 4,
            "rollouts_per_prompt": 4,
            "learning_rate": settings.policy_rate,
            "max_new_tokens": language.LONGEST,
            "save_every": settings.every,
        },
        "evaluation": {
            "prompts": str(folder / "held_out.jsonl"),
            "every": settings.every,
            "rollouts_per_prompt": 1,
            "batch": 1000,
            "models": True,
            "text": False,
            # All prompts are independent draws: equal texts are chance, and prove no leak.
            "overlap": "independent_draws",
        },
        "log": {"training": False},
        "output": {"folder": str(folder / "run")},
    }


def labelled_prompts(settings: Settings) -> np.ndarray:
    """Return the numbers of the audited prompts that get gold, drawn before any training."""
    return stream(settings, LABELS).permutation(settings.prompts)[: settings.gold]


def audited_columns(log: Path, settings: Settings) -> dict[str, Any]:
    """Return the log that is audited: all checkpoints, with gold on the labelled prompts only."""
    names = (
        "step", "prompt_id", "reward", "gold", "policy_logprob", "ref_logprob", "n_tokens",
        "truncated",
    )  # fmt: skip
    pieces = [pq.read_table(path, columns=list(names)) for path in sorted(log.glob("*.parquet"))]
    columns = {
        name: np.concatenate([piece[name].to_numpy(zero_copy_only=False) for piece in pieces])
        for name in names
    }
    number = np.array([int(text.rpartition("-")[2]) for text in columns["prompt_id"]])
    known = np.isin(number, labelled_prompts(settings))
    columns["gold"] = np.where(known, columns["gold"], np.nan)
    columns["prompt_id"] = number
    return columns


def audited_facts(settings: Settings) -> LogFacts:
    """Return what the audited log knows of itself: all of it was fixed beforehand."""
    return recorded_facts(
        writer=f"taut {__version__}, taut lab",
        beta=settings.beta,
        reward_range=GOLD_RANGE,
        held_out=True,
        complete=True,
        launched_prompts=settings.prompts * len(checkpoints(settings)),
        rollouts_per_prompt=1,
        random_labels=True,
        starts_at_reference=True,
    )

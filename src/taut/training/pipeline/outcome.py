"""What a finished run tells: means by step, what to think about, what to run next."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from taut.training.pipeline.manifest import Manifest

_MOSTLY = 0.5  # share of clipped rollouts above which the penalty hardly acts
_LABELS = 200  # rollouts that the first sheet asks for


class StepMeans(BaseModel):
    """Plain means over the held-out rollouts of a recorded step: measured, not certified.

    Attributes:
        step: Optimiser steps done.
        reward, gold: Reward units; gold over the labelled rollouts, None without any.
        kl: Mean log-ratio, nats.
        clipped: Share of rollouts beyond the last clip threshold; None without one.
        tokens: Mean length of a response.
        rollouts: How many.
    """

    model_config = ConfigDict(frozen=True)

    step: int
    reward: float
    gold: float | None
    kl: float
    clipped: float | None
    tokens: float
    rollouts: int


class Run(BaseModel):
    """A run that is done.

    Attributes:
        folder: Where everything is.
        manifest: What it is made from and what its stages found, as in manifest.json.
        table: One row a recorded step.
        commands: What to run next, ready to paste.
        notes: What is worth knowing before that.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    manifest: dict[str, Any]
    table: list[StepMeans]
    commands: list[str]
    notes: list[str]


def finished(folder: Path, manifest: Manifest) -> Run:
    """Return a finished run with its table and the commands to run next."""
    table = summary(folder / "eval", manifest.stages["policy"].get("tau"))
    return Run(
        folder=folder,
        manifest=manifest.document,
        table=table,
        commands=next_commands(folder, manifest, table),
        notes=notes(manifest, table),
    )


def summary(folder: Path, tau: float | None) -> list[StepMeans]:
    """Return one row for each recorded step: plain means over its rollouts, no inference."""
    rows = []
    names = sorted({path.name.partition(".")[0] for path in folder.glob("step-*.parquet")})
    wanted = ("step", "reward", "gold", "policy_logprob", "ref_logprob", "n_tokens")
    for name in names:
        pieces = [pq.read_table(path) for path in sorted(folder.glob(f"{name}.*"))]
        known = [key for key in wanted if key in pieces[0].column_names]
        table = pa.concat_tables([piece.select(known) for piece in pieces])
        columns = {key: table[key].to_numpy() for key in known}
        log_ratio = columns["policy_logprob"] - columns["ref_logprob"]
        rows.append(
            StepMeans(
                step=columns["step"][0],
                reward=columns["reward"].mean(),
                gold=_known_mean(columns.get("gold")),
                kl=log_ratio.mean(),
                clipped=None if tau is None else np.mean(np.abs(log_ratio) > tau),
                tokens=columns["n_tokens"].mean(),
                rollouts=len(log_ratio),
            )
        )
    return rows


def notes(manifest: Manifest, table: Sequence[StepMeans]) -> list[str]:
    """Return what a finished run leaves to think about."""
    policy, asked = manifest.stages["policy"], manifest.head["recipe"]["policy"]
    found = list(policy["warnings"])
    if asked["tau"] == "quantile" and policy["tau"] == asked["floor"]:
        found.append(
            f"tau is policy.floor, {_exact(asked['floor'])} nats: the quantile rule asked for "
            "less, as it does for few held-out prompts."
        )
    share = table[-1].clipped
    if share is not None and share > _MOSTLY:
        found.append(
            f"{share:.0%} of the last held-out rollouts are clipped at {_exact(policy['tau'])} "
            "nats, where the KL penalty no longer pulls; a larger policy.tau or policy.floor, or a "
            "policy.phase, keeps the policy closer to its reference."
        )
    return found


def _known_mean(gold: np.ndarray | None) -> float | None:
    if gold is None or np.isnan(gold).all():
        return None
    return float(np.nanmean(gold))


def next_commands(folder: Path, manifest: Manifest, table: Sequence[StepMeans]) -> list[str]:
    """Return what to run next on the logs of a run, ready to paste."""
    recipe, policy = manifest.head["recipe"], manifest.stages["policy"]
    ends, gold = policy["map"], recipe["gold"]
    log = _shown(folder / "eval")
    common = f"--reward-range {_exact(ends['low'])} {_exact(ends['high'])}"
    if gold and list(gold["range"]) != [ends["low"], ends["high"]]:
        common += f" --gold-range {' '.join(map(_exact, gold['range']))}"
    common += " --held-out"
    tau = "auto" if policy.get("tau") is None else _exact(policy["tau"])
    clipped = f"--target clipped --beta {_exact(recipe['policy']['beta'])} --tau {tau}"
    prompts = table[-1].rollouts // recipe["evaluation"]["rollouts_per_prompt"]
    if table[-1].gold is None:  # nothing to certify before there are labels
        return [
            f"taut label draw {log} -n {min(_LABELS, prompts)} -o sheet.html",
            f"taut audit {log} --labels labels.jsonl --by step {clipped} {common}",
        ]
    # The last step is the pilot of what comes next; its tokens tenfold are a budget to begin with.
    last = _shown(folder / "eval") + f"/step-{policy['steps']:06d}.*"
    budget = 10 * table[-1].rollouts * table[-1].tokens
    return [
        f"taut audit {log} --by step {clipped} {common}",
        f"taut select {log} --by step --target reward {common}",
        f"taut plan {last} --budget {round(budget)} {clipped} {common}",
    ]


def _exact(value: float) -> str:
    """Return a number in the shortest form that is read back as itself."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _shown(path: Path) -> str:
    """Return a path as people would type it: relative where it is below the working folder."""
    below = path.resolve().is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(path) if below else str(path))

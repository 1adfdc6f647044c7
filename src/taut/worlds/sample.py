"""Logs drawn from a world: in memory for tests, on disk for `taut simulate`."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError
from taut.logs.keys import hash_ids
from taut.version import __version__
from taut.worlds.families import FAMILIES
from taut.worlds.world import World, truth

# A log holds finite numbers only. A response that the behaviour policy never gives gets this
# log-prob (nats): the weight e^300 and its square are still finite, and no sample can miss them.
UNCOVERED_LOGPROB = -300.0


@dataclass(frozen=True, slots=True)
class _Draws:
    """Indices of what was drawn, one entry per rollout; `labelled` says which have gold."""

    draw: np.ndarray
    prompt: np.ndarray
    response: np.ndarray
    labelled: np.ndarray


def sample_rollouts(
    world: World,
    prompts: int,
    per_prompt: int | None = None,
    *,
    rng: np.random.Generator,
    gold_prompts: int | None = None,
    gold_rows: float | None = None,
    weights: bool = False,
) -> Rollouts:
    """Draw prompts independently from rho and their rollouts from pi_theta (theory §1, §2).

    Args:
        world: The world; all columns are in its units (rewards in [0, 1], nats).
        prompts: Number of independent draws of a prompt; each draw is one block.
        per_prompt: Rollouts per draw; None draws K from the world's own law.
        rng: Source of all chance.
        gold_prompts: Draws that carry gold labels, a random subset; None is all when `gold_rows`
            is given and none otherwise.
        gold_rows: Probability with which each row of those draws is labelled, on its own.
        weights: Put the log-probs of the behaviour policy of reward data beside the rows, as
            importance weighting takes them (theory §3.4). That policy did not draw these rows, so
            without reward data they would contradict themselves.

    Raises:
        UsageError: A count or probability out of range.
    """
    draws = _draw(world, prompts, per_prompt, rng, gold_prompts, gold_rows)
    return _rollouts(world, draws, prompts, weights=weights)


def sample_reward_data(
    world: World,
    prompts: int,
    per_prompt: int | None = None,
    *,
    rng: np.random.Generator,
    gold_prompts: int | None = None,
    gold_rows: float | None = None,
) -> Rollouts:
    """Draw reward data: prompts from rho, responses from the behaviour policy (theory §1).

    As `sample_rollouts`, with the same columns: `policy_logprob` is that of the audited policy,
    `behaviour_logprob` that of the policy that sampled. Prompts are fresh draws, marked by
    prompt ids of their own.
    """
    behaviour = replace(world, policy=world.behaviour)
    draws = _draw(behaviour, prompts, per_prompt, rng, gold_prompts, gold_rows)
    found = _rollouts(world, draws, prompts, weights=True)
    return replace(found, prompt=found.prompt ^ np.uint64(1) << np.uint64(63))


def _rollouts(world: World, draws: _Draws, prompts: int, *, weights: bool) -> Rollouts:
    at = (draws.prompt, draws.response)
    if world.recurring:
        prompt = hash_ids(_kind_names(len(world.policy)))[draws.prompt]
        group = _draw_keys(prompts)[draws.draw]
    else:
        prompt, group = _draw_keys(prompts)[draws.draw], None
    gold = np.where(draws.labelled, world.gold[at], np.nan) if draws.labelled.any() else None
    return Rollouts(
        prompt=prompt,
        group=group,
        reward=world.reward[at],
        log_ratio=world.log_ratio[at],
        gold=gold,
        policy_logprob=np.log(world.policy[at]),
        behaviour_logprob=_behaviour_logprob(world)[at] if weights else None,
        n_tokens=world.n_tokens[at],
    )


def simulate(
    name: str,
    output: str | Path,
    *,
    prompts: int = 1000,
    rollouts_per_prompt: int | None = None,
    gold: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a log of a world and, beside it, `<output>.truth.json` with everything it hides.

    The world is `FAMILIES[name](numpy.random.default_rng(seed))`, so that its truth at any other
    threshold can be had from `truth(world, tau, tau_negative)`.

    Args:
        name: A key of `FAMILIES`.
        output: Log file, .parquet or .jsonl.
        prompts: Independent draws of a prompt.
        rollouts_per_prompt: K; None takes the world's own law.
        gold: Draws with gold labels, a random subset; None labels none.
        seed: Same seed, same bytes.

    Returns:
        The path of the truth file.

    Raises:
        UsageError: Unknown world, suffix or count.
        LogError: The folder of `output` does not exist.
    """
    output = Path(output)
    if name not in FAMILIES:
        raise UsageError(f"no world is called '{name}'; choose one of {', '.join(FAMILIES)}.")
    if output.suffix not in (".parquet", ".jsonl"):
        raise UsageError(
            f"cannot tell the format of '{output}'; give it the suffix .parquet or .jsonl."
        )
    if not output.parent.is_dir():
        raise LogError(f"{output.parent}: no such folder; make it first.")
    world = FAMILIES[name](np.random.default_rng(seed))
    rng = np.random.default_rng([seed, 1])
    draws = _draw(world, prompts, rollouts_per_prompt, rng, gold, None)
    columns = _log_columns(world, draws)
    write = _write_parquet if output.suffix == ".parquet" else _write_jsonl
    _replace(output, lambda path: write(path, columns))
    truth_path = output.with_name(output.name + ".truth.json")
    document = _truth_document(world, name, seed, prompts, draws)
    _replace(truth_path, lambda path: path.write_bytes(_json(document, indent=True)))
    return truth_path


def _draw(world, prompts, per_prompt, rng, gold_prompts, gold_rows) -> _Draws:
    _check_counts(prompts, per_prompt, gold_prompts, gold_rows)
    kind = _invert(np.cumsum(world.prompt_probability), rng.random(prompts))
    if per_prompt is None:
        sizes = _invert_rows(world.rollouts_law, kind, rng.random(prompts)) + 1
    else:
        sizes = np.full(prompts, per_prompt)
    prompt, draw = np.repeat(kind, sizes), np.repeat(np.arange(prompts), sizes)
    response = _invert_rows(world.policy, prompt, rng.random(len(prompt)))
    if gold_prompts is None:
        chosen = np.full(prompts, gold_rows is not None)
    else:
        chosen = rng.permutation(prompts) < gold_prompts
    labelled = chosen[draw]
    if gold_rows is not None:
        labelled &= rng.random(len(prompt)) < gold_rows
    return _Draws(draw, prompt, response, labelled)


def _check_counts(prompts, per_prompt, gold_prompts, gold_rows) -> None:
    if prompts < 1 or (per_prompt is not None and per_prompt < 1):
        raise UsageError(
            f"expected at least one prompt and one rollout a prompt, found {prompts} and "
            f"{per_prompt}; raise the count."
        )
    if gold_prompts is not None and not 0 <= gold_prompts <= prompts:
        raise UsageError(
            f"cannot label {gold_prompts} prompts: {prompts} are drawn; choose 0 to {prompts}."
        )
    if gold_rows is not None and not 0 <= gold_rows <= 1:
        raise UsageError(f"expected a share of rows in [0, 1], found {gold_rows}.")


def _invert(cumulative: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the index drawn by each uniform from one law, given as cumulative sums."""
    return np.minimum(np.searchsorted(cumulative, uniform, side="right"), len(cumulative) - 1)


def _invert_rows(laws: np.ndarray, row: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the column drawn by each uniform from the law in its row; never one of mass 0."""
    columns = laws.shape[1]
    cumulative = np.cumsum(laws, axis=1)
    # The last column with mass takes what rounding leaves over: its cumulative sum is 1 exactly.
    last = columns - 1 - np.argmax(laws[:, ::-1] > 0, axis=1)
    cumulative[np.arange(columns) >= last[:, None]] = 1.0
    flat = (cumulative + np.arange(len(laws))[:, None]).ravel()
    index = np.searchsorted(flat, row + uniform, side="right") - row * columns
    return np.clip(index, 0, last[row])


def _kind_names(kinds: int) -> list[str]:
    return [f"kind-{kind:03d}" for kind in range(kinds)]


def _draw_names(draws: int) -> list[str]:
    return [f"draw-{draw:06d}" for draw in range(draws)]


@lru_cache(maxsize=16)
def _draw_keys(draws: int) -> np.ndarray:
    keys = hash_ids(_draw_names(draws))
    keys.flags.writeable = False
    return keys


def _behaviour_logprob(world: World) -> np.ndarray:
    out = np.full(world.behaviour.shape, UNCOVERED_LOGPROB)
    np.log(world.behaviour, where=world.behaviour > 0, out=out)
    return out


def _log_columns(world: World, draws: _Draws) -> dict[str, np.ndarray]:
    """Return the native columns of a log (design §3); gold, if any, is NaN without a label."""
    at = (draws.prompt, draws.response)
    kind = np.array(_kind_names(len(world.policy)))[draws.prompt]
    draw = np.array(_draw_names(int(draws.draw[-1]) + 1))[draws.draw]
    ids = {"prompt_id": kind, "group": draw} if world.recurring else {"prompt_id": draw}
    gold = np.where(draws.labelled, world.gold[at], np.nan)
    return {
        **ids,
        "reward": world.reward[at],
        **({"gold": gold} if draws.labelled.any() else {}),
        "policy_logprob": np.log(world.policy[at]),
        "ref_logprob": np.log(world.reference[at]),
        "n_tokens": world.n_tokens[at],
    }


def _write_parquet(path: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # from_pandas turns the NaN of an unlabelled row into null.
    table = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    pq.write_table(pa.table(table), path, compression="zstd", row_group_size=8192)


def _write_jsonl(path: Path, columns: dict[str, np.ndarray]) -> None:
    names = list(columns)
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    with path.open("wb") as file:
        for row in rows:
            file.write(_json(dict(zip(names, row, strict=True))) + b"\n")


def _json(value: object, *, indent: bool = False) -> bytes:
    import orjson

    # orjson writes NaN and infinities as null.
    option = orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, option=option)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _truth_document(world: World, name: str, seed: int, prompts: int, draws: _Draws) -> dict:
    """Return the JSON of the truth file; what is infinite is null."""
    exact = truth(world)
    return {
        "schema": "taut.truth/1",
        "version": __version__,
        "simulated": {
            "world": name,
            "seed": seed,
            "prompts": prompts,
            "rollouts": len(draws.draw),
            "gold_rollouts": int(draws.labelled.sum()),
        },
        "settings": {
            "beta": world.beta,
            "reward_range": [0, 1],
            "log_ratio_max": exact.log_ratio_max,
            "log_ratio_second_moment": exact.log_ratio_second_moment,
            "reward_mse": exact.reward_mse,
            "coverage": exact.coverage if math.isfinite(exact.coverage) else None,
        },
        "truth": asdict(exact),
        "clipped_by_tau": [_clipped(world, tau) for tau in _thresholds(exact)],
        "world": {item.name: getattr(world, item.name) for item in fields(world)},
    }


def _thresholds(exact) -> list[float]:
    return sorted({max(0.0, quantile) for quantile in exact.log_ratio_quantiles})


def _clipped(world: World, tau: float) -> dict[str, float]:
    exact = truth(world, tau)
    names = ("tau", "clipped", "proxy_clipped", "clipped_kl", "tail", "tail_negative")
    return {name: getattr(exact, name) for name in names}

"""The files and names that the examples of the docs speak of: one small folder for each page."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import taut
from small_run import write_recipe
from taut.bounds.preferences import fit_head

BUNDLED = Path(taut.__file__).parent / "examples" / "goodhart.parquet"


def columns(
    prompts: int = 300,
    per_prompt: int = 2,
    *,
    low: float = 0.0,
    high: float = 1.0,
    labelled: float = 1.0,
    steps: tuple[int, ...] = (),
    shift: float = 0.0,
    passes: bool = False,
    lists: bool = False,
    seed: int = 0,
) -> dict[str, list]:
    """Return a log with everything in it: words, gold, log-probs, domains; lists of one length.

    Every prompt comes in every step. The learned reward is gold with noise, and `shift` higher.
    """
    rng = np.random.default_rng(seed)
    laws = steps or (0,)
    count = prompts * per_prompt
    rows: dict[str, list] = {}
    for step in laws:
        level = np.repeat(rng.beta(16, 16, prompts), per_prompt)
        gold = (rng.random(count) < level) * 1.0 if passes else level
        noise = 0.0 if passes else rng.normal(0, 0.03, count) + shift
        known = np.repeat(rng.random(prompts) < labelled, per_prompt)
        ratio = rng.normal(0.5, 0.3, count)
        more = {
            "prompt_id": [f"p{i // per_prompt}" for i in range(count)],
            "rollout_id": [f"s{step}r{i}" for i in range(count)],
            "reward": (low + (high - low) * np.clip(gold + noise, 0, 1)).tolist(),
            "gold": np.where(known, low + (high - low) * gold, np.nan).tolist(),
            "policy_logprob": (-20 + ratio).tolist(),
            "ref_logprob": [-20.0] * count,
            "n_tokens": rng.integers(20, 2000, count).tolist(),
            "prompt": [f"Question {i // per_prompt}?" for i in range(count)],
            "response": [f"Answer {i}." for i in range(count)],
            "domain": [("maths", "code")[i // per_prompt % 2] for i in range(count)],
            "meta": [{"lang": ("en", "de")[i // per_prompt % 3 // 2]} for i in range(count)],
        }
        if lists:  # of three tokens each
            more["policy_logprobs"] = [[-7.0, -7.0, -6.0 + extra] for extra in ratio]
            more["ref_logprobs"] = [[-7.0, -7.0, -6.0]] * count
            del more["policy_logprob"], more["ref_logprob"]
        if steps:
            more["step"] = [step] * count
        for name, values in more.items():
            rows.setdefault(name, []).extend(values)
    return rows


def write(path: Path, rows: dict[str, list], *without: str, **renamed: str) -> None:
    """Write a log as its suffix says; columns `without` stay out, `renamed` ones get a new name."""
    kept = {renamed.get(name, name): v for name, v in rows.items() if name not in without}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(kept), path)
        return
    lines = [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)]
    text = "".join(json.dumps(line).replace("NaN", "null") + "\n" for line in lines)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def readme(here: Path) -> None:
    """Make held-out rollouts without labels, and two policies with them."""
    write(here / "held_out/log.parquet", columns(), "gold")
    write(here / "new/log.parquet", columns(shift=0.1))
    write(here / "old/log.parquet", columns(seed=1))


def commands(here: Path) -> None:
    """Make a run of rewards from -4 to 4, a pilot, other people's columns, old labels, a recipe."""
    wide = {"low": -4.0, "high": 4.0}
    write(here / "rollouts/steps.parquet", columns(300, 1, steps=(0, 10), **wide))
    write(here / "sampling/step.parquet", columns(1500, 1, steps=(0,), **wide))
    write(here / "pilot.parquet", columns(**wide))
    write(here / "run/part.jsonl.gz", columns(20))
    whole = columns(4, 1) | {"truncated": [False] * 4}
    write(here / "run.jsonl", whole, "policy_logprob", "ref_logprob", "n_tokens")
    write(here / "held_out/log.parquet", columns(), "gold")
    rows = columns(40)
    rows["metadata"] = [{"prompt_id": key} for key in rows.pop("prompt_id")]
    rows["target_policy_logprobs"] = [{"other": value} for value in rows.pop("ref_logprob")]
    names = {"reward": "judge_score", "gold": "oracle_label"}
    write(here / "eval.jsonl", rows, policy_logprob="base_policy_logprob", **names)
    older = columns(seed=1, **wide)
    older["behaviour_logprob"] = [-20.0] * len(older["reward"])
    write(here / "labelled.parquet", older)
    taut.audit(here / "pilot.parquet", target="reward", reward_range=(-4, 4)).save(
        here / "result.json"
    )
    save_models(here)
    write_recipe(here)
    recipe = here / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace('folder = "run"', 'folder = "trained"'), encoding="utf-8")


def monitor(here: Path) -> None:
    """Make a log that reaches every goal of the page."""
    write(here / "rollouts/log.parquet", columns(1000, 8, low=0.6))


def compare(here: Path) -> None:
    """Make two policies in files of their own, and two steps of a run."""
    write(here / "new.parquet", columns(shift=0.1))
    write(here / "old.parquet", columns(seed=1))
    write(here / "run/log.parquet", columns(steps=(10, 60)))


def formats(here: Path) -> None:
    """Make logs as TRL (one reward function, and two), verl and NeMo-RL write them."""
    for step in (10, 20):
        rows = columns(40, 4, seed=step)
        said = {"prompt": rows["prompt"], "completion": rows["response"]}
        trl = {"step": [step] * 160, **said, "accuracy": rows["reward"], "advantage": [0.0] * 160}
        name = f"completions/completions_{step:05d}.parquet"
        write(here / "output" / name, trl)
        write(here / "two" / name, {**trl, "format": rows["reward"]})
        verl = {"input": said["prompt"], "output": said["completion"], "step": [step] * 160}
        write(here / f"rollouts/{step}.jsonl", {**verl, "score": rows["reward"]})
        talks = [
            [[{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]]
            for asked, answer in zip(rows["prompt"], rows["response"], strict=True)
        ]
        nemo = {"content": talks, "rewards": [[v] for v in rows["reward"]], "idx": list(range(160))}
        write(here / f"logs/exp_001/val_data_step{step}.jsonl", nemo)


def plain(*names: str, **made) -> Callable[[Path], None]:
    """Return what makes the same log under each of the names."""

    def make(here: Path) -> None:
        for name in names:
            write(here / name, columns(**made))

    return make


def selection(here: Path) -> None:
    """Make a run of two checkpoints, which are policies by name, too; the second is better."""
    rows = columns(steps=(100, 200))
    rows["policy"] = ["v2" if step == 200 else "v1" for step in rows["step"]]
    pairs = zip(rows["gold"], rows["policy"], strict=True)
    rows["gold"] = [gold * (1.0 if name == "v2" else 0.5) for gold, name in pairs]
    write(here / "run/log.parquet", rows)


def label_page(here: Path) -> None:
    """Make held-out rollouts that nobody labelled yet; a program knows the answers."""
    write(here / "held_out/log.parquet", columns(400, 4, passes=True), "gold")


def sliced(here: Path) -> None:
    """Make a log of two steps, and a table that knows the topic of its prompts."""
    rows = columns(steps=(10, 20))
    write(here / "log.jsonl", rows)
    topics = {name: "algebra" for name in rows["prompt_id"]}
    lines = [f"{name},{topic}" for name, topic in topics.items()]
    (here / "prompts.csv").write_text("\n".join(["prompt_id,topic", *lines]), encoding="utf-8")


def parts(here: Path) -> None:
    """Make a log of 0/1 rewards with the two parts that the reward is the sum of."""
    rows = columns(60, 8, passes=True)
    for name in ("accuracy", "format"):
        rows[f"rewards.{name}"] = rows["reward"]
    write(here / "log.jsonl", rows)


def lab(here: Path) -> None:
    """Lay the bundled run."""
    (here / "run").mkdir()
    (here / "run/log.parquet").symlink_to(BUNDLED)


def models(here: Path) -> None:
    """Make tiny models and rollouts in words for them to score."""
    save_models(here)
    for name in ("run.jsonl", "run/a.jsonl"):
        whole = columns(4, 1) | {"truncated": [False] * 4}
        del whole["n_tokens"]  # of another tokenizer
        write(here / name, whole, "policy_logprob", "ref_logprob")


def save_models(here: Path) -> None:
    """Make a tiny policy and its reference."""
    from tiny import save_model

    for name in ("step-400", "sft"):
        save_model(here / name)


def trained(here: Path) -> None:
    """Make a tiny model to train."""
    from tiny import save_model

    save_model(here / "model")


def cluster(here: Path) -> None:
    """Make a log to audit, and models with rollouts to score."""
    write(here / "run-7/log.parquet", columns())
    models(here)


# What a page's examples name is made before the first of them.
FILES: dict[str, Callable[[Path], None]] = {
    "README.md": readme,
    "budget.md": plain("pilot/a.parquet"),
    "commands.md": commands,
    "compare.md": compare,
    "formats.md": formats,
    "labelling.md": label_page,
    "monitor.md": monitor,
    "page.md": plain("run.parquet"),
    "pass-at-k.md": parts,
    "places.md": plain("run-7/log.parquet", "data/train.parquet"),
    "python.md": lab,
    "ray.md": cluster,
    "score.md": models,
    "selection.md": selection,
    "slices.md": sliced,
    "start.md": lab,
    "threshold.md": plain("rollouts/log.parquet", "pilot.parquet", low=-4.0, high=4.0, lists=True),
    "trainer.md": trained,
    "training-recipe.md": write_recipe,
    "training.md": trained,
}


def frame(**made) -> taut.Rollouts:
    """Return a log in memory."""
    return taut.as_rollouts(pa.table(columns(**made)))


def formats_names(_: Path) -> dict:
    """Return what verl and NeMo-RL hold where the lines of the page go."""
    mask = np.array([[1.0, 1.0, 0.0]])
    tensors = {"response_mask": mask, "old_log_probs": -mask, "ref_log_prob": -2 * mask}
    return {
        "batch": SimpleNamespace(batch=tensors),
        "reward_extra_infos_to_dump": {},
        "log_data": {},
        "train_data": {"reference_policy_logprobs": mask},
    }


def posterior_names(_: Path) -> dict:
    """Return a small quadratic loss, and a reward head that was fitted to pairs."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(400, 4))
    pairs *= np.where(rng.random(400) < 0.8, np.sign(pairs[:, 0]), -np.sign(pairs[:, 0]))[:, None]
    matrix = np.diag([10.0, 1.0])
    return {
        "taut": taut,
        "math": math,
        "rng": rng,
        "A": matrix,
        "C": matrix,
        "theta": np.array([0.02, -0.02]),
        "theta_0": np.zeros(2),
        "pairs": pairs,
        "fit": fit_head(pairs),
    }


def training_names(here: Path) -> dict:
    """Return a trainer of TRL, what others are made of, and configs that suit two cores."""
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    import tiny

    given = tiny.settings(here / "out", max_steps=2)

    def small(config):
        return lambda **said: config(**{**given, **said})

    args = RLOOConfig(beta=0.05, **given)
    rows = tiny.make_prompts()
    return {
        "trainer": RLOOTrainer("model", tiny.reward_even, args=args, train_dataset=rows),
        "reward_model": tiny.reward_even,
        "prompts": rows,
        "RLOOConfig": small(RLOOConfig),
        "GRPOConfig": small(GRPOConfig),
        "GRPOTrainer": GRPOTrainer,
    }


# Names that a page's examples use and do not make themselves.
NAMES: dict[str, Callable[[Path], dict]] = {
    "budget.md": lambda _: {"pilot": frame()},
    "commands.md": lambda _: {"df": frame()},
    "compare.md": lambda _: {"new": frame(shift=0.1), "old": frame(seed=1)},
    "formats.md": formats_names,
    "monitor.md": lambda _: {"prompts": range(400), "mean_reward_of": lambda _: 0.5},
    "pac-bayes.md": posterior_names,
    "pass-at-k.md": lambda _: {"log": "log.jsonl"},
    "python.md": lambda _: {
        "frame": pd.DataFrame(columns()).rename(columns={"reward": "rm_score"}),
        "other": pd.DataFrame(columns(seed=1)).rename(columns={"reward": "rm_score"}),
        "rewards": np.random.default_rng(0).random((50, 4)),
        "passed": [0, 1, 1],
    },
    "selection.md": lambda _: {
        "rollouts": frame(steps=(100, 200)),
        "rollouts_1": frame(low=-4.0, high=1.0),
        "rollouts_2": frame(low=-4.0, high=-1.0),
    },
    "slices.md": lambda _: {"frame": pd.DataFrame(columns(steps=(10, 20)))},
    "threshold.md": lambda _: {"rollouts": frame(low=-4.0, high=4.0)},
    "trainer.md": training_names,
    "training.md": training_names,
    "transport.md": lambda _: {
        "rollouts": frame(labelled=0.5),
        "reward_data": frame(seed=1),
        "differences": np.random.default_rng(0).normal(size=(400, 4)),
    },
}

"""Over-optimisation with a known truth, at desk size (after Gao, Schulman & Hilton 2022).

A small language model, comparisons labelled by a known true reward with Bradley-Terry noise, a
reward model fitted to m of them, and a policy optimised against it with a clipped KL: the recipe
runner of `taut train` does all of that. This module writes its data, and afterwards knows the
truth: the true reward of every checkpoint on many fresh prompts. Then it audits the checkpoints as
anyone would who has only the log, with gold labels on a random subset, and compares.

Prompts that are audited, prompts of the truth, and prompts of any stage of training are independent
draws of one distribution. Which prompts have gold is drawn before anything is trained.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq

from taut.errors import UsageError
from taut.lab import language
from taut.lab.verdict import TRUTH_SCHEMA, judge
from taut.logs.write import whole_file, write_native
from taut.version import __version__

GOLD_RANGE = (0.0, 1.0)
# Independent streams of one seed: nothing that is audited shares chance with what is trained.
_PAIRS, _TRAINING, _AUDIT, _LABELS, _TRUTH = range(1, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An experiment; lengths in steps, tau in nats, beta in reward units per nat.

    Attributes:
        seed: Of everything.
        pairs: Comparisons m; a fifth of them is kept from training, to fit the scale of the
            learned reward and to measure its error.
        steps, every: Steps of policy optimisation, and between two checkpoints.
        prompts: Audited prompts, the same for all checkpoints, one rollout each.
        gold: How many of them are labelled.
        truth_prompts: Fresh prompts that the true reward of each checkpoint is measured on; its
            log-ratios and its learned reward on a quarter of them.
        beta, tau: KL strength and clip threshold, in training and in the audit.
        delta: Error probability of all certificates together.
        hidden, layers, base_steps: Size and training of the language model.
        batch: Rollouts a step, four for each prompt.
        reward_rate, policy_rate: Learning rates.
        reward_batch, reward_epochs: Comparisons a step, and passes over them.
    """

    seed: int = 0
    pairs: int = 2500
    steps: int = 60
    every: int = 10
    prompts: int = 1000
    gold: int = 250
    truth_prompts: int = 12_000
    beta: float = 0.005
    tau: float = 10.0
    delta: float = 0.05
    hidden: int = 64
    layers: int = 2
    base_steps: int = 200
    batch: int = 64
    reward_rate: float = 1e-3
    reward_batch: int = 32
    reward_epochs: int = 2
    policy_rate: float = 1e-3

    def __post_init__(self) -> None:
        if not 2 <= self.gold <= self.prompts:
            raise UsageError(
                f"gold: expected 2 to {self.prompts} labelled prompts, found {self.gold}."
            )
        if not 1 <= self.every <= self.steps:
            raise UsageError(
                f"every: expected 1 to {self.steps} steps between checkpoints, found {self.every}."
            )


SIZES = {
    "tiny": Settings(
        pairs=60, steps=2, every=1, prompts=40, gold=20, truth_prompts=240,
        hidden=16, layers=1, base_steps=5, batch=8, reward_epochs=1,
    ),
    "small": Settings(),
    "gpu": Settings(
        pairs=20_000, steps=400, every=40, prompts=4000, gold=500, truth_prompts=50_000,
        hidden=256, layers=6, base_steps=2000, batch=512, reward_rate=3e-4, policy_rate=2e-4,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a finished experiment leaves: the audited log, the truth, and what the audit says.

    Attributes:
        folder: Where everything is.
        log: The audited log: all checkpoints, gold on the labelled prompts only.
        document: The outcome as plain data, schema `taut.lab/1`.
    """

    folder: Path
    log: Path
    document: dict


def overoptimise(
    folder: str | Path, settings: Settings = SIZES["small"], *, quiet: bool = False
) -> Experiment:
    """Run the experiment, or go on with it where it was stopped.

    Raises:
        UsageError: Settings that make no experiment, a folder that holds another one, or the extra
            `train` is missing.
    """
    from taut.training.extra import require_extra
    from taut.training.pipeline.recipe import parse_recipe
    from taut.training.pipeline.run import train

    require_extra()
    folder = Path(folder)
    recipe = parse_recipe(recipe_table(folder, settings), "the experiment")
    claim(folder, settings)
    _prepare(folder, settings, quiet=quiet)
    train(recipe, quiet=quiet)
    log = folder / "audit.parquet"
    if not log.exists():
        write_native(audited_columns(folder / "run" / "eval", settings), log)
    truth = _truth(folder, settings, quiet=quiet)
    from taut.engines.local import read_rollouts

    document = judge(read_rollouts(log), truth)
    _write_json(folder / "outcome.json", document)
    return Experiment(folder, log, document)


def claim(folder: Path, settings: Settings) -> None:
    """Take a folder for an experiment: a new one, or the one that is already in it.

    Raises:
        UsageError: It holds another experiment, or other files.
    """
    path, mine = folder / "lab.json", asdict(settings)
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
    _write_json(path, mine)


# --- data -----------------------------------------------------------------------------------------


def _prepare(folder: Path, settings: Settings, *, quiet: bool) -> None:
    """Write the base model and the data of all stages; what is there already stays."""
    from taut.lab.base import make_base

    if not (folder / "base").exists():
        _say("language model: starting", quiet)
        make_base(
            folder / "base",
            hidden=settings.hidden,
            layers=settings.layers,
            steps=settings.base_steps,
            seed=settings.seed,
        )
    training = math.ceil(settings.steps * settings.batch / 4)
    draws = {"training": (training, _TRAINING), "held_out": (settings.prompts, _AUDIT)}
    for name, (count, stream) in draws.items():
        if not (folder / f"{name}.jsonl").exists():
            prompts = language.draw_prompts(count, _stream(settings, stream))
            _write_lines(folder / f"{name}.jsonl", _prompt_lines(name, prompts))
    if not (folder / "pairs.jsonl").exists():
        _write_lines(folder / "pairs.jsonl", _pair_lines(folder / "base", settings))


def _stream(settings: Settings, stream: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, stream, *more])


def _prompt_lines(name: str, prompts: np.ndarray) -> Iterable[dict]:
    for number, text in enumerate(language.decode(prompts)):
        yield {"prompt_id": f"{name}-{number:06d}", "prompt": text}


def _pair_lines(base: Path, settings: Settings) -> Iterable[dict]:
    """Compare two responses of the base model to each prompt, as a noisy reader would.

    The probability that a response is preferred is the logistic of the difference of latent
    rewards (Bradley & Terry 1952).
    """
    rng = _stream(settings, _PAIRS)
    prompts = language.draw_prompts(settings.pairs, rng)
    first, second = (_Sampler(base).responses(prompts, rng) for _ in range(2))
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
            # All prompts are independent draws: equal texts are chance, and prove no leak.
            "overlap": "independent_draws",
        },
        "log": {"training": False},
        "output": {"folder": str(folder / "run")},
    }


def labelled_prompts(settings: Settings) -> np.ndarray:
    """Return the numbers of the audited prompts that get gold, drawn before any training."""
    return _stream(settings, _LABELS).permutation(settings.prompts)[: settings.gold]


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


# --- truth ----------------------------------------------------------------------------------------


class _Sampler:
    """A model with which to draw responses, and to read log-probs."""

    def __init__(self, folder: Path) -> None:
        import torch

        from taut.training.pipeline.models import load_causal

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_causal(str(folder)).to(self.device).eval()

    def responses(
        self, prompts: np.ndarray, rng: np.random.Generator, batch: int = 2000
    ) -> np.ndarray:
        """Draw one response to each prompt, shape (prompts, LONGEST), padded after the end."""
        import torch

        from taut.training.pipeline.models import sample

        out = np.full((len(prompts), language.LONGEST), language.PAD)
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            for start in range(0, len(prompts), batch):
                rows = sample(
                    self.model,
                    prompts[start : start + batch].tolist(),
                    pad=language.PAD,
                    ends=[language.END],
                    max_new_tokens=language.LONGEST,
                    temperature=1.0,
                )
                for place, row in enumerate(rows, start):
                    out[place, : len(row)] = row
        return out

    def log_probs(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """Return the log-prob of each response up to its end, nats."""
        import torch

        ids = torch.as_tensor(np.concatenate([prompts, responses], axis=1), device=self.device)
        said = ids[:, prompts.shape[1] :]
        with torch.inference_mode():
            logits = self.model(input_ids=ids, logits_to_keep=said.shape[1] + 1).logits[:, :-1]
            each = logits.float().log_softmax(-1).gather(-1, said[..., None])[..., 0]
            before = (said == language.END).cumsum(1) - (said == language.END).long()
            return (each.double() * (before == 0)).sum(1).cpu().numpy()


def _truth(folder: Path, settings: Settings, *, quiet: bool) -> dict:
    """Return the truth of all checkpoints, each measured once and kept on disk."""
    path = folder / "truth.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    (folder / "truth").mkdir(exist_ok=True)
    measure = _Measure(folder, settings)
    steps = []
    for step in checkpoints(settings):
        part = folder / "truth" / f"step-{step:06d}.json"
        if not part.exists():
            _say(f"truth of step {step} on {settings.truth_prompts:,} fresh prompts", quiet)
            _write_json(part, measure(step))
        steps.append(json.loads(part.read_text(encoding="utf-8")))
    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    document = {
        "schema": TRUTH_SCHEMA,
        "version": __version__,
        "settings": asdict(settings) | {"reward_range": list(GOLD_RANGE)},
        "reward_model": _reward_model(manifest),
        "steps": steps,
    }
    _write_json(path, document)
    return document


def _reward_model(manifest: dict) -> dict | None:
    """Return what held-out comparisons say about the reward model, from the run's manifest."""
    found = [
        {"pairs": int(name.removeprefix("reward-")), **stage["held_out"]}
        for name, stage in manifest["stages"].items()
        if name.startswith("reward-")
    ]
    return max(found, key=lambda row: row["pairs"], default=None)


def checkpoints(settings: Settings) -> list[int]:
    """Return the steps of the checkpoints: the start, every so often, the end."""
    return sorted({*range(0, settings.steps, settings.every), settings.steps})


class _Measure:
    """The truth of one checkpoint: means over fresh prompts, with their standard errors."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.reference = _Sampler(folder / "base")
        self.proxy = _proxy(folder)

    def __call__(self, step: int) -> dict:
        rng = _stream(self.settings, _TRUTH, step)
        where = self.folder / "run" / "models" / f"step-{step:06d}"
        policy = _Sampler(where) if step else self.reference
        prompts = language.draw_prompts(self.settings.truth_prompts, rng)
        responses = policy.responses(prompts, rng)
        gold = language.gold_reward(prompts, responses)
        some = slice(math.ceil(len(prompts) / 4))
        columns = self._dear(policy, prompts[some], responses[some], gold[some])
        found = _means({"gold": gold, **columns})
        return {
            "step": step,
            "prompts": len(prompts),
            **found,
            **self._objectives(found),
            "example": {
                "prompt": language.decode(prompts[:1])[0],
                "response": language.decode(responses[:1])[0],
                "reward": float(columns["proxy"][0]),
                "gold": float(gold[0]),
            },
        }

    def _dear(
        self, policy: _Sampler, prompts: np.ndarray, responses: np.ndarray, gold: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return what costs a forward pass more a rollout, and varies less."""
        log_ratio = policy.log_probs(prompts, responses)
        log_ratio -= self.reference.log_probs(prompts, responses)
        proxy, tau = self.proxy(prompts, responses), self.settings.tau
        return {
            "proxy": proxy,
            "error": gold - proxy,
            "kl": log_ratio,
            "clipped_kl": np.clip(log_ratio, -tau, tau),
        }

    def _objectives(self, found: dict[str, float]) -> dict[str, float]:
        """Return E[r* - beta l] and its clipped form; their standard errors are at most these."""
        out = {}
        for name, penalty in (("objective", "kl"), ("clipped", "clipped_kl")):
            out[name] = found["gold"] - self.settings.beta * found[penalty]
            out[f"{name}_se"] = found["gold_se"] + self.settings.beta * found[f"{penalty}_se"]
        return out


def _means(columns: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each column and its standard error."""
    out = {}
    for name, column in columns.items():
        out[name] = float(column.mean())
        out[f"{name}_se"] = float(column.std(ddof=1) / math.sqrt(len(column)))
    return out


def _proxy(folder: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the learned reward of the run as a function of token ids, many rows at a time."""
    import torch

    from taut.training.pipeline.models import load_scorer
    from taut.training.pipeline.rewards import RewardMap

    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    reward = RewardMap(**manifest["stages"]["policy"]["map"])
    model = load_scorer(str(folder / "run" / "models" / "reward")).eval()
    model.config.pad_token_id = language.PAD
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)

    def proxy(prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        ids = torch.as_tensor(_ended(prompts, responses), device=device)
        with torch.inference_mode():
            scores = model(input_ids=ids, attention_mask=(ids != language.PAD).long()).logits
        return reward(scores[:, 0].double().cpu().numpy())

    return proxy


def _ended(prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Return prompts with responses as reward models read them: an end always stands there."""
    spare = np.full((len(prompts), 1), language.PAD)
    ids = np.concatenate([prompts, responses, spare], axis=1)
    cut = np.flatnonzero(~(ids == language.END).any(axis=1))
    ids[cut, (ids[cut] != language.PAD).sum(axis=1)] = language.END
    return ids


# --- files and lines ------------------------------------------------------------------------------


def _write_json(path: Path, document: dict) -> None:
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    with whole_file(str(path)) as file:
        file.write((text + "\n").encode())


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    with whole_file(str(path)) as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        import sys

        sys.stderr.write(f"{line}\n")

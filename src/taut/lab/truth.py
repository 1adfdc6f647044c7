"""The truth of each checkpoint: means over fresh prompts, measured once and kept on disk."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from taut.lab import language
from taut.lab.files import say, write_json
from taut.lab.sampler import Sampler
from taut.lab.settings import GOLD_RANGE, TRUTH, Settings, checkpoints, stream
from taut.lab.verdict import TRUTH_SCHEMA
from taut.version import __version__


def measured_truth(folder: Path, settings: Settings, *, quiet: bool) -> dict:
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
            say(f"truth of step {step} on {settings.truth_prompts:,} fresh prompts", quiet)
            write_json(part, measure(step))
        steps.append(json.loads(part.read_text(encoding="utf-8")))
    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    document = {
        "schema": TRUTH_SCHEMA,
        "version": __version__,
        "settings": settings.model_dump() | {"reward_range": list(GOLD_RANGE)},
        "reward_model": _reward_model(manifest),
        "steps": steps,
    }
    write_json(path, document)
    return document


def _reward_model(manifest: dict) -> dict | None:
    """Return what held-out comparisons say about the reward model, from the run's manifest."""
    found = [
        {"pairs": int(name.removeprefix("reward-")), **stage["held_out"]}
        for name, stage in manifest["stages"].items()
        if name.startswith("reward-")
    ]
    return max(found, key=lambda row: row["pairs"], default=None)


class _Measure:
    """The truth of one checkpoint: means over fresh prompts, with their standard errors."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.reference = Sampler(folder / "base")
        self.proxy = learned_reward(folder)

    def __call__(self, step: int) -> dict:
        rng = stream(self.settings, TRUTH, step)
        where = self.folder / "run" / "models" / f"step-{step:06d}"
        policy = Sampler(where) if step else self.reference
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
        self, policy: Sampler, prompts: np.ndarray, responses: np.ndarray, gold: np.ndarray
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


def learned_reward(folder: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
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

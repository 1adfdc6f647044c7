"""Rollouts on held-out prompts at given steps: the log that an audit certifies.

Prompts are never trained on. Policy and reference are read by the same code on the same tokens, so
that their log-ratio is 0 at step 0. The draws have their own random state, a function of seed, step
and process, so that recording changes nothing in training and a resumed run writes the same files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from taut.logs.facts import facts_metadata, recorded_facts
from taut.training.pipeline.data import in_share
from taut.training.pipeline.models import prompt_tokens, response_logprobs, sample
from taut.training.pipeline.reward_model import write_whole
from taut.training.pipeline.rewards import GoldReward, MappedReward
from taut.training.pipeline.settings import Recipe
from taut.training.recording.log import write_rollouts
from taut.training.recording.log_probs import adapters_off
from taut.version import __version__


class HeldOut(TrainerCallback):
    """Record rollouts of the policy on held-out prompts, at step 0, every so often, at the end.

    Args:
        recipe: The run.
        rows: Held-out prompts, each with `prompt`, `prompt_id` and what the reward needs.
        tokenizer: The policy's.
        reference: The frozen reference, or None where adapters are switched off instead.
        reward, gold: Of text to numbers.
        folder: Of the log.
        models: Folder for the weights at each of these steps, or None to keep none.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        rows: Sequence[dict[str, Any]],
        tokenizer: Any,
        reference: Any | None,
        reward: MappedReward,
        gold: GoldReward | None,
        folder: Path,
        models: Path | None,
    ) -> None:
        self.recipe = recipe
        # Which rollouts of a prompt were sampled together, where its prompt stands twice. The same
        # at every step, where the same draws meet another policy: no step makes new draws.
        self.again = len({row["prompt_id"] for row in rows}) < len(rows)
        self.rows = rows
        self.tokenizer = tokenizer
        self.reference = reference
        self.reward = reward
        self.gold = gold
        self.folder = folder
        self.models = models

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Record the untrained policy."""
        if state.global_step == 0:
            self._record(args, state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Record the policy where it is due; before the checkpoint of the same step."""
        every, step = self.recipe.evaluation.every, state.global_step
        if step == self.recipe.policy.steps or (every and step % every == 0):
            self._record(args, state, model)

    def _record(self, args: Any, state: Any, model: Any) -> None:
        rank, step = args.process_index, state.global_step
        path = self.folder / f"step-{step:06d}.rank-{rank}.parquet"
        if path.exists():
            return
        # At step 0 the weights are those of the start, which are there already.
        if step and state.is_world_process_zero and self.models is not None:
            write_whole(model, self.tokenizer, self.models / f"step-{step:06d}")
        mine = range(rank, len(self.rows), args.world_size)
        with _own_randomness([self.recipe.seed, step, rank]):
            columns = self._rollouts(model, mine, step)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_rollouts(columns, path, metadata=self._metadata(model, len(mine)))

    def _metadata(self, model: Any, prompts: int) -> dict[str, str]:
        """Return what the log knows of itself: all of it was fixed before these prompts."""
        recipe, reward = self.recipe, self.reward.map
        facts = recorded_facts(
            writer=f"taut {__version__}, taut train",
            beta=recipe.policy.beta,
            reward_range=(reward.low, reward.high),
            gold_range=recipe.gold and recipe.gold.range,
            held_out=True,
            complete=True,
            launched_prompts=prompts,
            rollouts_per_prompt=recipe.evaluation.rollouts_per_prompt,
            random_labels=None if self.gold is None else True,
            log_probs=f"transformers {version('transformers')}, {next(model.parameters()).dtype}",
            starts_at_reference=True,
        )
        return {"taut.temperature": repr(recipe.policy.temperature), **facts_metadata(facts)}

    def _rollouts(self, model: Any, mine: Sequence[int], step: int) -> dict[str, list]:
        settings, run = self.recipe.evaluation, Path(self.recipe.output.folder).name
        drawn = [(i, k) for i in mine for k in range(settings.rollouts_per_prompt)]
        found: dict[str, list] = {}
        for start in range(0, len(drawn), settings.batch):
            batch = self._batch(
                model, [self.rows[i] for i, _ in drawn[start : start + settings.batch]]
            )
            for name, values in batch.items():
                found.setdefault(name, []).extend(values)
        found["rollout_id"] = [f"{run}/eval/{step}/{i}/{k}" for i, k in drawn]
        found["run"] = [run] * len(drawn)
        found["step"] = [step] * len(drawn)
        if self.again:
            found["group"] = [i for i, _ in drawn]
        return found

    def _batch(self, model: Any, rows: Sequence[dict]) -> dict[str, list]:
        policy, tokenizer = self.recipe.policy, self.tokenizer
        pad, ends = tokenizer.pad_token_id, end_tokens(model, tokenizer)
        prompts = [prompt_tokens(tokenizer, row["prompt"]) for row in rows]
        responses = sample(
            model,
            prompts,
            pad=pad,
            ends=ends,
            max_new_tokens=policy.max_new_tokens,
            temperature=policy.temperature,
        )
        how = {"pad": pad, "temperature": policy.temperature}
        mine = response_logprobs(model, prompts, responses, **how)
        with nullcontext() if self.reference is not None else adapters_off(model):
            theirs = response_logprobs(self.reference or model, prompts, responses, **how)
        texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
        columns = {name: [row.get(name) for row in rows] for name in rows[0] if name != "prompt"}
        asked = {
            "prompts": [row["prompt"] for row in rows],
            "completions": [
                text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
                for row, text in zip(rows, texts, strict=True)
            ],
            "completion_ids": responses,
            **columns,
        }
        found = {
            "prompt_id": [row["prompt_id"] for row in rows],
            "policy_logprob": mine.tolist(),
            "ref_logprob": theirs.tolist(),
            "n_tokens": [len(tokens) for tokens in responses],
            "truncated": [tokens[-1] not in ends for tokens in responses],
        }
        if self.recipe.evaluation.features:
            rewards, features = self.reward.with_features(**asked)
            found |= {"reward": rewards.tolist(), "features": features.tolist()}
        else:
            found["reward"] = self.reward(**asked)
        if self.gold is not None:
            found["gold"] = self._labels(asked, found["prompt_id"])
        found |= {name: [row.get(name) for row in rows] for name in self.recipe.evaluation.keep}
        if self.recipe.evaluation.text:
            found["prompt"] = [row["prompt"] for row in rows]
            found["response"] = texts
            found["prompt_ids"], found["response_ids"] = prompts, responses
        return found

    def _labels(self, asked: dict[str, list], prompt_ids: Sequence[str]) -> list[float | None]:
        """Return gold of the prompts that get it: whole prompts, the same ones at every step."""
        recipe = self.recipe
        known = [
            i
            for i, name in enumerate(prompt_ids)
            if in_share(name, recipe.gold.share, seed=recipe.seed, salt="gold")
        ]
        labels: list[float | None] = [None] * len(prompt_ids)
        if known:
            few = {name: [values[i] for i in known] for name, values in asked.items()}
            for i, value in zip(known, self.gold(**few), strict=True):
                labels[i] = value
        return labels


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a response: the tokenizer's, and what the model declares."""
    declared = model.generation_config.eos_token_id
    declared = [declared] if isinstance(declared, int) else list(declared or ())
    return sorted({tokenizer.eos_token_id, *declared})


@contextmanager
def _own_randomness(entropy: Sequence[int]) -> Iterator[None]:
    """Draw from a state of its own, and leave everybody else's as it was."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

"""The native log of a training run: what TRL scored, written while it trains.

`record(trainer, folder)` wraps three methods of one trainer and changes nothing of what they
return. Each rank writes one Parquet file a step, under another name until it is whole.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.errors import LogError, UsageError
from taut.logs.schema import REJECTED_KEY
from taut.logs.write import write_rollouts
from taut.training.recording.checks import require_sound
from taut.training.recording.hooks import (
    GENERATE,
    LOG_PROBS,
    REWARDS,
    check_trainer,
    distorted,
    is_reference,
    mode,
    reference,
    score,
    stop_tokens,
)
from taut.training.recording.log_probs import frozen_copy, token_log_probs

if TYPE_CHECKING:
    import torch

_FILE = re.compile(r"step_(\d+)-rank_(\d+)\.parquet")
_NAME = "step_{:08d}-rank_{:05d}.parquet"
_PART = re.compile(r"\.step_\d+-rank_\d+\.parquet\.[0-9a-f]+\.part")


def record(
    trainer: Any,
    folder: str | os.PathLike,
    *,
    gold: Callable[..., list[float | None]] | None = None,
    token_lists: bool = False,
    run: str | None = None,
    policy: str | None = None,
    evaluation: str | os.PathLike | None = None,
    extra_forward: bool = False,
    overwrite: bool = False,
    check: bool = True,
) -> "Recorder":
    """Write the rollouts of a TRL trainer to a native log that `taut audit` reads.

    Call it before `trainer.train()`. A resumed run takes away what was recorded at or after its
    checkpoint and records it again, so that nothing is lost or doubled.

    Args:
        trainer: A TRL `RLOOTrainer` or `GRPOTrainer`, or a subclass.
        folder: Folder of the log; made if it is not there.
        gold: Target reward, called like a reward function; None where a rollout has no label.
        token_lists: Also write the log-prob of each token, 4 bytes each before compression.
        run: Name of the run; the trainer's own by default.
        policy: Name of the policy; the model's own by default.
        evaluation: Folder of a second log, of the rollouts of evaluations; None for no such log.
        extra_forward: Compute the log-probs that the trainer does not, one more forward each: for
            GRPO, whose default beta of 0 has no reference, and for truncated rollouts where
            `mask_truncated_completions` hides theirs. A trainer without a reference is given
            a copy of the policy as it is now.
        overwrite: Replace an earlier log in the folder when a run starts from its beginning.
        check: Run the pre-flight checks and raise on what is wrong.

    Returns:
        The recorder at work; its `detach` ends it.

    Raises:
        UsageError: The trainer is of another kind, or a check fails.
    """
    check_trainer(trainer)
    if check:
        require_sound(trainer)
    model = getattr(trainer.model.config, "_name_or_path", "") or type(trainer.model).__name__
    recorder = Recorder(
        trainer=trainer,
        gold=gold,
        token_lists=token_lists,
        run=run or _run_name(trainer.args),
        policy=policy or os.path.basename(os.path.normpath(model)),
        extra_forward=extra_forward,
        overwrite=overwrite,
        logs={"train": Log(os.fspath(folder))},
    )
    if evaluation is not None:
        recorder.logs["eval"] = Log(os.fspath(evaluation))
        if os.path.realpath(evaluation) == os.path.realpath(folder):
            raise UsageError(
                f"evaluation: expected another folder than that of training, found {folder}."
            )
    recorder.attach()
    return recorder


def _run_name(args: Any) -> str:
    """Return the run's name; older versions name a run by the path of its folder."""
    folder = os.path.normpath(args.output_dir)
    name = args.run_name
    return name if name and name != args.output_dir else os.path.basename(folder)


@dataclass(slots=True)
class Batch:
    """What one call of the trainer's generation brought to light, one entry per local rollout."""

    scores: "dict[str, torch.Tensor]" = field(default_factory=dict)  # by role, (rollouts, tokens)
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Log:
    """One folder of files, and the rows of the step at hand."""

    folder: str
    step: int = -1
    batches: list[dict[str, Any]] = field(default_factory=list)
    written: set[str] = field(default_factory=set)

    def add(self, step: int, columns: dict[str, Any]) -> None:
        """Keep a batch of rows; rows of one step stay together."""
        if step != self.step:
            self.step, self.batches = step, []
        self.batches.append(columns)

    def write(self, rank: int, facts: dict[str, str]) -> None:
        """Write the step at hand, in place of what was written of it before."""
        if not self.batches:
            return
        os.makedirs(self.folder, exist_ok=True)
        names = [name for name in self.batches[0] if all(name in b for b in self.batches)]
        partial = sorted({name for batch in self.batches for name in batch} - set(names))
        if partial:
            warnings.warn(
                f"{self.folder}, step {self.step}: {', '.join(partial)} came with some batches of "
                "the step only and is left out of its file.",
                stacklevel=2,
            )
        rows = {name: [v for batch in self.batches for v in batch[name]] for name in names}
        scored = ~np.isnan(rows["reward"])
        # Unscored, so nothing to audit; infinite ones are for readers to refuse.
        if not scored.all():
            rows = {name: list(compress(values, scored)) for name, values in rows.items()}
            facts = facts | {REJECTED_KEY.decode(): str(int((~scored).sum()))}
        path = os.path.join(self.folder, _NAME.format(self.step, rank))
        write_rollouts(rows, path, facts=facts)
        self.written.add(path)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield path and step of each file of an earlier process."""
        for name in sorted(os.listdir(self.folder) if os.path.isdir(self.folder) else ()):
            path, found = os.path.join(self.folder, name), _FILE.fullmatch(name)
            if found and path not in self.written:
                yield path, int(found[1])

    def drop_parts(self) -> None:
        """Take away what a killed process left half written; no reader looks at it."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            if _PART.fullmatch(name):
                Path(self.folder, name).unlink(missing_ok=True)


@dataclass(slots=True, kw_only=True)
class Recorder:
    """A recorder at work on one trainer."""

    trainer: Any
    gold: Callable[..., list[float | None]] | None
    token_lists: bool
    run: str
    policy: str
    extra_forward: bool
    overwrite: bool
    logs: dict[str, Log]
    _copy: Any = None
    _batch: Batch | None = None
    _inner: dict[str, Callable] = field(default_factory=dict)
    _callback: Any = None

    def attach(self) -> None:
        """Put the recorder between the trainer and three of its methods.

        Raises:
            UsageError: The trainer's only reward is a KL penalty.
        """
        if all(getattr(f, "is_kl_penalty", False) for f in self.trainer.reward_funcs):
            raise UsageError(
                "record: expected a reward function beside the KL penalty, found none; there is "
                "no reward to audit."
            )
        with reference(self.trainer) as model:
            if self.extra_forward and model is None:
                policy = self.trainer.accelerator.unwrap_model(self.trainer.model)
                self._copy = frozen_copy(policy)
        wrappers = {GENERATE: self._generate, LOG_PROBS: self._log_probs, REWARDS: self._rewards}
        for name, wrapper in wrappers.items():
            self._inner[name] = getattr(self.trainer, name)
            setattr(self.trainer, name, wrapper)
        self._callback = _callback(self)
        self.trainer.add_callback(self._callback)

    def detach(self) -> None:
        """Give the trainer its methods back."""
        for name in self._inner:
            delattr(self.trainer, name)
        self.trainer.remove_callback(self._callback)

    def begin(self, step: int) -> None:
        """Make the logs agree with a run that goes on from a step.

        Raises:
            LogError: A run starts from its beginning and the folder holds an earlier log.
        """
        # Evaluation of a step comes before its checkpoint, training of it after.
        stale = {
            kind: [path for path, at in log.files() if at + (kind == "train") > step]
            for kind, log in self.logs.items()
        }
        for kind, paths in stale.items():
            if step == 0 and paths and not self.overwrite:
                raise LogError(
                    f"{self.logs[kind].folder}: expected an empty folder for a run that starts "
                    f"from its beginning, found {len(paths)} files of an earlier run; resume that "
                    "run, choose another folder, or say overwrite=True."
                )
        accelerator = self.trainer.accelerator
        accelerator.wait_for_everyone()  # every rank has looked before one takes away
        if accelerator.is_local_main_process:
            for kind, log in self.logs.items():
                log.drop_parts()
                for path in stale[kind]:
                    Path(path).unlink(missing_ok=True)  # nodes may share the disk
        accelerator.wait_for_everyone()

    def finish_evaluation(self) -> None:
        """Write the evaluation that has just ended."""
        if "eval" in self.logs:
            self.logs["eval"].write(self._rank, self._facts())

    @property
    def _rank(self) -> int:
        return self.trainer.accelerator.process_index

    def _facts(self) -> dict[str, str]:
        return {
            "taut.temperature": repr(float(self.trainer.temperature)),
            "taut.trainer": f"{type(self.trainer).__name__}, trl {version('trl')}",
        }

    def _generate(self, inputs: Any) -> Any:
        kind = mode(self.trainer)
        if kind not in self.logs:
            return self._inner[GENERATE](inputs)
        self._batch = Batch()
        try:
            out = self._inner[GENERATE](inputs)
            self._add_log_probs(self._batch, out)
            log = self.logs[kind]
            log.add(self.trainer.state.global_step, self._batch.columns)
        finally:
            self._batch = None
        if kind == "train":
            log.write(self._rank, self._facts())
        return out

    def _log_probs(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args, **kwargs
    ) -> Any:
        out = self._inner[LOG_PROBS](
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if self._batch is not None:
            if is_reference(self.trainer, model):
                # A clipped-KL trainer returns a moved reference; the log holds the true one.
                true = getattr(self.trainer, "unclipped_reference", None)
                self._batch.scores["ref"] = out[0] if true is None else true
            else:
                self._batch.scores["policy"] = out[0]
        return out

    def _rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        out = self._inner[REWARDS](inputs, prompts, completions, ids)
        if self._batch is None:
            return out
        trainer, count = self.trainer, len(prompts)
        first, stops = self._rank * count, stop_tokens(trainer)
        columns = self._batch.columns
        columns["prompt_id"] = _prompt_ids(inputs, prompts)
        columns["reward"] = _reward(trainer, out[first : first + count])
        if self.gold is not None:
            columns["gold"] = self._gold(inputs, prompts, completions, ids)
        columns["n_tokens"] = [len(row) for row in ids]
        columns["truncated"] = [not len(row) or int(row[-1]) not in stops for row in ids]
        columns["run"] = [self.run] * count
        columns["policy"] = [self.policy] * count
        columns["step"] = [trainer.state.global_step] * count
        return out

    def _gold(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> np.ndarray:
        keys = [key for key in inputs[0] if key not in ("prompt", "completion", "completion_ids")]
        labels = self.gold(
            prompts=prompts,
            completions=completions,
            completion_ids=ids,
            trainer_state=self.trainer.state,
            **{key: [row[key] for row in inputs] for key in keys},
        )
        if len(labels) != len(prompts):
            raise LogError(
                f"gold: expected one label per rollout, {len(prompts)}, found {len(labels)}; "
                "return None where a rollout has none."
            )
        return np.array([np.nan if label is None else label for label in labels], dtype=float)

    def _add_log_probs(self, batch: Batch, out: dict[str, Any]) -> None:
        """Add sums, and lists on request, over the tokens that the policy itself wrote."""
        import torch

        # The trainer's own mask may hide truncated rollouts, whose log-probs count here.
        lengths = torch.tensor(batch.columns["n_tokens"])
        mask = torch.arange(out["completion_ids"].shape[1]) < lengths[:, None]
        scores = {
            role: torch.from_numpy(values)
            for function in self.trainer.reward_funcs
            if getattr(function, "is_kl_penalty", False)
            for role, values in getattr(function, "latest", {}).items()
        }
        if not getattr(self.trainer, "mask_truncated_completions", False):
            scores |= batch.scores  # else it has zeros where it masks
        if self.extra_forward:
            scores |= self._missing(scores, out, mask)
        if "sampling_per_token_logps" in out:  # what the engine that sampled says
            scores["behaviour"] = out["sampling_per_token_logps"]
        elif "policy" in scores and not distorted(self.trainer):
            scores["behaviour"] = scores["policy"]
        if out.get("tool_mask") is not None:
            mask = mask & (out["tool_mask"].cpu() > 0)
        for role, logps in scores.items():
            values = logps.detach().float().cpu().numpy()
            kept = mask[:, : values.shape[1]].numpy()
            summed = np.where(kept, values, 0.0).sum(axis=1, dtype=np.float64)
            batch.columns[f"{role}_logprob"] = summed
            if self.token_lists:
                batch.columns[f"{role}_logprobs"] = [
                    row[keep] for row, keep in zip(values, kept, strict=True)
                ]

    def _missing(
        self, scores: dict[str, Any], out: dict[str, Any], mask: "torch.Tensor"
    ) -> "dict[str, torch.Tensor]":
        """Compute what the trainer did not."""
        import torch

        if "pixel_values" in out:
            raise UsageError("extra_forward: expected text alone, found images; leave it out.")
        trainer, keep = self.trainer, mask.shape[1]
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], dim=1)
        attention = torch.cat([out["prompt_mask"], mask.to(out["prompt_mask"])], dim=1)
        rows = trainer.args.per_device_train_batch_size
        found = {}
        if "policy" not in scores:
            found["policy"] = score(trainer, trainer.model, ids, attention, keep, rows)
        if "ref" not in scores:
            with reference(trainer) as model:
                if model is not None:
                    found["ref"] = score(trainer, model, ids, attention, keep, rows)
                else:
                    with trainer.accelerator.autocast():
                        found["ref"] = token_log_probs(
                            self._copy,
                            ids,
                            attention,
                            keep,
                            temperature=trainer.temperature,
                            rows=rows,
                        )
        return found


def _reward(trainer: Any, per_function: "torch.Tensor") -> np.ndarray:
    """Return the weighted sum of the rewards without a KL penalty among them."""
    values = per_function.detach().double().cpu().numpy()
    weights = trainer.reward_weights.detach().double().cpu().numpy()
    kept = [not getattr(f, "is_kl_penalty", False) for f in trainer.reward_funcs]
    values, weights = values[:, kept], weights[kept]
    unscored = np.isnan(values).all(axis=1)
    with np.errstate(invalid="ignore"):
        total = np.where(np.isnan(values), 0.0, values * weights).sum(axis=1)
    # Infinities that cancel are no missing score: a reader must meet and refuse them.
    total = np.where(np.isnan(total), np.inf, total)
    return np.where(unscored, np.nan, total)


def _prompt_ids(inputs: Any, prompts: Any) -> list:
    if "prompt_id" in inputs[0]:
        return [row["prompt_id"] for row in inputs]
    return [_hash(prompt) for prompt in prompts]


def _hash(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _callback(recorder: Recorder) -> Any:
    from transformers import TrainerCallback

    class RecorderCallback(TrainerCallback):
        """Tells the recorder where a run begins and where an evaluation ends."""

        def on_train_begin(self, args, state, control, **kwargs):
            recorder.begin(state.global_step)

        def on_evaluate(self, args, state, control, **kwargs):
            recorder.finish_evaluation()

    return RecorderCallback()

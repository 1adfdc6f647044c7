"""The native log of a training run: what TRL scored, written while it trains.

`record(trainer, folder)` wraps three methods of one trainer and changes nothing of what they
return. Each rank writes one Parquet file a step, under another name until it is whole.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.errors import LogError, UsageError
from taut.training.recording.checks import require_sound
from taut.training.recording.columns import (
    check_keep,
    prompt_ids,
    response_of,
    reward_parts,
    weighted_reward,
)
from taut.training.recording.facts import (
    engine,
    held_out,
    is_penalty,
    named_evaluations,
    objective_beta,
    steered,
)
from taut.training.recording.hooks import (
    GENERATE,
    LOG_PROBS,
    REWARDS,
    check_trainer,
    distorted,
    is_reference,
    missing_log_probs,
    mode,
    reference,
    stop_tokens,
)
from taut.training.recording.log import Log
from taut.training.recording.log_probs import frozen_copy
from taut.version import __version__

if TYPE_CHECKING:
    import torch


def record(
    trainer: Any,
    folder: str | os.PathLike,
    *,
    gold: Callable[..., list[float | None]] | None = None,
    token_lists: bool = False,
    run: str | None = None,
    policy: str | None = None,
    evaluation: str | os.PathLike | None = None,
    text: bool | None = None,
    keep: Sequence[str] = (),
    reward_range: tuple[float, float] | None = None,
    gold_range: tuple[float, float] | None = None,
    extra_forward: bool = False,
    overwrite: bool = False,
    check: bool = True,
) -> "Recorder":
    """Write the rollouts of a TRL trainer to a native log that `taut audit` reads.

    Call it before `trainer.train()`. A resumed run takes away what was recorded at or after its
    checkpoint and records it again, so that nothing is lost or doubled. What the log is worth
    stands in it: beta, declared ranges, whether the prompts are held out, how many were launched.

    Args:
        trainer: A TRL `RLOOTrainer` or `GRPOTrainer`, or a subclass.
        folder: Folder of the log; made if it is not there.
        gold: Target reward, called like a reward function; None where a rollout has no label.
        token_lists: Also write the log-prob of each token, 4 bytes each before compression.
        run: Name of the run; the trainer's own by default.
        policy: Name of the policy; the model's own by default.
        evaluation: Folder of a second log, of the rollouts of evaluations; None for no such log.
        text: Also write prompts, responses and their token ids, which labelling and `taut score`
            need; by default in the log of evaluations alone.
        keep: Columns of the data set to write, too.
        reward_range: Range of the reward that is fixed before the run, reward units.
        gold_range: That of gold, where it is another.
        extra_forward: Compute the log-probs that the trainer does not, one more forward each: for
            beta = 0, GRPO's default, which has no reference, and for truncated rollouts where
            `mask_truncated_completions` hides theirs. A trainer without a reference is given
            a copy of the policy as it is now.
        overwrite: Replace an earlier log in the folder when a run starts from its beginning.
        check: Run the pre-flight checks, raise on what makes the run worthless, and leave out
            log-probs that would be wrong; both with a word of why.

    Returns:
        The recorder at work; its `detach` ends it.

    Raises:
        UsageError: The trainer is of another kind, or a check fails.
    """
    check_trainer(trainer)
    sets = {"train_dataset": trainer.train_dataset}
    if evaluation is not None:
        sets |= named_evaluations(trainer)
    check_keep(keep, {name: getattr(rows, "column_names", None) for name, rows in sets.items()})
    spoilt = require_sound(trainer, extra_forward=extra_forward) if check else frozenset()
    facts = {
        "beta": objective_beta(trainer),
        "reward_range": reward_range,
        "gold_range": gold_range,
        "log_probs": engine(trainer),
        "writer": f"taut {__version__}, taut.training.record",
        "starts_at_reference": True if check else None,  # or the check would have raised
    }
    model = getattr(trainer.model.config, "_name_or_path", "") or type(trainer.model).__name__
    with_text = {None: {"eval"}, True: {"train", "eval"}, False: set()}[text]
    recorder = Recorder(
        trainer=trainer,
        logs=_logs(trainer, os.fspath(folder), evaluation, facts),
        run=run or _run_name(trainer.args),
        policy=policy or os.path.basename(os.path.normpath(model)),
        gold=gold,
        token_lists=token_lists,
        text=frozenset(with_text),
        keep=tuple(keep),
        extra_forward=extra_forward,
        overwrite=overwrite,
        spoilt=spoilt,
    )
    recorder.attach()
    return recorder


def _logs(
    trainer: Any, folder: str, evaluation: str | os.PathLike | None, facts: dict[str, Any]
) -> dict[str, Log]:
    """Return the log of each mode, with what is known of its prompts."""
    of_training = {"held_out": False, "rollouts_per_prompt": trainer.num_generations}
    logs = {"train": Log(folder, "train", facts | of_training)}
    if evaluation is None:
        return logs
    if os.path.realpath(evaluation) == os.path.realpath(folder):
        raise UsageError(
            f"evaluation: expected another folder than that of training, found {folder}."
        )
    per_prompt = trainer.num_generations_eval
    of_evaluation = {"held_out": held_out(trainer), "rollouts_per_prompt": per_prompt}
    return logs | {"eval": Log(os.fspath(evaluation), "eval", facts | of_evaluation)}


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


@dataclass(slots=True, kw_only=True)
class Recorder:
    """A recorder at work on one trainer; its settings are those of `record`.

    Attributes:
        logs: The log of each mode of the trainer, "train" and "eval".
        text: Modes whose words are written.
        spoilt: Modes whose log-probs would be wrong and are left out.
    """

    trainer: Any
    logs: dict[str, Log]
    run: str
    policy: str
    gold: Callable[..., list[float | None]] | None = None
    token_lists: bool = False
    text: frozenset[str] = frozenset()
    keep: tuple[str, ...] = ()
    extra_forward: bool = False
    overwrite: bool = False
    spoilt: frozenset[str] = frozenset()
    _copy: Any = None
    _batch: Batch | None = None
    _inner: dict[str, Callable] = field(default_factory=dict)
    _callback: Any = None

    def attach(self) -> None:
        """Put the recorder between the trainer and three of its methods.

        Raises:
            UsageError: The trainer's only reward is a KL penalty.
        """
        if all(map(is_penalty, self.trainer.reward_funcs)):
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
        if "eval" in self.logs and (cause := steered(self.trainer)):
            self.logs["eval"].facts["held_out"] = False
            warnings.warn(
                f"{self.logs['eval'].folder}: expected evaluations that nothing hangs on, found "
                f"{cause}, which steers the run by them: their prompts are not held out. Leave it "
                "out, or certify on other prompts.",
                stacklevel=2,
            )
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
            self.logs["eval"].write(self._rank, self._metadata())

    @property
    def _rank(self) -> int:
        return self.trainer.accelerator.process_index

    def _metadata(self) -> dict[str, str]:
        return {"taut.temperature": repr(float(self.trainer.temperature))}

    def _generate(self, inputs: Any) -> Any:
        kind = mode(self.trainer)
        if kind not in self.logs:
            return self._inner[GENERATE](inputs)
        self._batch, log = Batch(), self.logs[kind]
        try:
            out = self._inner[GENERATE](inputs)
            if kind not in self.spoilt:
                self._add_log_probs(self._batch, out)
            if kind in self.text:
                self._add_prompt_ids(self._batch, out)
            log.add(
                self.trainer.state.global_step,
                self._batch.columns,
                draws=self._draws(len(inputs), log.facts["rollouts_per_prompt"]),
            )
        finally:
            self._batch = None
        if kind == "train":
            log.write(self._rank, self._metadata())
        return out

    def _draws(self, count: int, per_prompt: int) -> int:
        """Return how many draws of prompts begin on this rank; ranks may share one."""
        first = self._rank * count
        return -(-(first + count) // per_prompt) - -(-first // per_prompt)

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
        mine = out[first : first + count]
        columns = self._batch.columns
        columns["prompt_id"] = prompt_ids(inputs, prompts)
        columns["reward"] = weighted_reward(trainer, mine)
        columns |= reward_parts(trainer, mine)
        columns |= {name: [row.get(name) for row in inputs] for name in self.keep}
        if self.gold is not None:
            columns["gold"] = self._gold(inputs, prompts, completions, ids)
        if mode(trainer) in self.text:
            columns["prompt"] = list(prompts)
            columns["response"] = [response_of(completion) for completion in completions]
            columns["response_ids"] = list(ids)
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

    def _add_prompt_ids(self, batch: Batch, out: dict[str, Any]) -> None:
        """Add the tokens that the policy was given, unless tools or images stand among them."""
        if out.get("tool_mask") is not None or "pixel_values" in out:
            batch.columns.pop("response_ids", None)  # not all of them are the policy's
            return
        ids, kept = (out[name].cpu().numpy() for name in ("prompt_ids", "prompt_mask"))
        batch.columns["prompt_ids"] = [row[keep > 0] for row, keep in zip(ids, kept, strict=True)]

    def _add_log_probs(self, batch: Batch, out: dict[str, Any]) -> None:
        """Add sums, and lists on request, over the tokens that the policy itself wrote."""
        import torch

        # The trainer's own mask may hide truncated rollouts, whose log-probs count here.
        lengths = torch.tensor(batch.columns["n_tokens"])
        mask = torch.arange(out["completion_ids"].shape[1]) < lengths[:, None]
        scores = {
            role: torch.from_numpy(values)
            for function in self.trainer.reward_funcs
            if is_penalty(function)
            for role, values in getattr(function, "latest", {}).items()
        }
        if not getattr(self.trainer, "mask_truncated_completions", False):
            scores |= batch.scores  # else it has zeros where it masks
        if self.extra_forward:
            scores |= missing_log_probs(self.trainer, self._copy, scores, out, mask)
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


def _callback(recorder: Recorder) -> Any:
    from transformers import TrainerCallback

    class RecorderCallback(TrainerCallback):
        """Tells the recorder where a run begins and where an evaluation ends."""

        def on_train_begin(self, args, state, control, **kwargs):
            recorder.begin(state.global_step)

        def on_evaluate(self, args, state, control, **kwargs):
            recorder.finish_evaluation()

    return RecorderCallback()

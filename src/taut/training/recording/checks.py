"""Pre-flight checks: what makes a run or its log worthless, found before the first step.

Each check looks at one thing that has gone wrong in real runs, and measures where it can instead
of trusting a setting: two forwards of the same text must agree.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from taut.errors import UsageError
from taut.training.recording.hooks import (
    check_trainer,
    distorted,
    reference,
    sampling_settings,
)
from taut.training.recording.probe import in_mode, make_probe, rounding, sums

# Nats per sequence. Two float32 forwards of one text differ by less; a reference that is not the
# policy, or dropout, by far more.
SAME = 0.02
NOISE = 0.05  # nats; rounding above this hides the first steps of a run
_LOST = "rewards alone, enough for --target reward; the targets clipped and objective are lost."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        check: Name of the check.
        severity: "error" stops a run; "rewards_only" spoils its log-probs, which the recorder
            then leaves out; "warning" is worth knowing.
        message: What was expected and found.
        remedy: What to do.
        modes: Of the trainer, "train" or "eval", whose log-probs are spoilt.
    """

    check: str
    severity: Literal["error", "rewards_only", "warning"]
    message: str
    remedy: str
    modes: tuple[str, ...] = ("train", "eval")

    def __str__(self) -> str:
        return f"{self.check}: {self.message} {self.remedy}"


def preflight(trainer: Any, *, extra_forward: bool = False) -> tuple[Finding, ...]:
    """Return what is wrong with a run that has not begun; empty where nothing is.

    It runs a few forwards on four prompts and changes neither models nor random numbers.

    Args:
        trainer: A TRL `RLOOTrainer` or `GRPOTrainer`, before `train()`.
        extra_forward: As for `record`: log-probs that the trainer does not compute are no matter.

    Raises:
        UsageError: The trainer is of another kind.
    """
    check_trainer(trainer)
    checks = CHECKS if extra_forward else (*CHECKS, _hidden)
    with in_mode(trainer, training=False):
        return tuple(finding for check in checks for finding in check(trainer))


def require_sound(trainer: Any, *, extra_forward: bool = False) -> frozenset[str]:
    """Raise where a check finds an error, and warn of the rest.

    Returns:
        The modes of the trainer whose log-probs would be wrong.

    Raises:
        UsageError: At least one check found an error; all are named.
    """
    findings = preflight(trainer, extra_forward=extra_forward)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise UsageError(
            "the run is not sound:\n" + "\n".join(f"  {line}" for line in errors) + "\n"
            "check=False records it all the same."
        )
    spoilt: set[str] = set()
    for finding in findings:
        lost = ""
        if finding.severity == "rewards_only":
            spoilt.update(finding.modes)
            both = len(finding.modes) > 1
            which = "both logs hold" if both else f"the {finding.modes[0]} log holds"
            lost = f" Until then {which} {_LOST}"
        warnings.warn(f"{finding}{lost}", stacklevel=3)
    return frozenset(spoilt)


def _dropout(trainer: Any) -> Iterator[Finding]:
    """Dropout draws another policy for each forward: log-ratios that are 0 come out as noise."""
    from torch import nn

    model = trainer.accelerator.unwrap_model(trainer.model)
    active = sorted(
        {
            f"{name or type(part).__name__} ({part.p})"
            for name, part in model.named_modules()
            if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
        }
    )
    probe = make_probe(trainer)
    gap = 0.0
    if probe is not None:
        with in_mode(trainer, training=True):
            one, two = (sums(trainer, trainer.model, probe) for _ in range(2))
        gap = float((one - two).abs().max())
    if not active and gap <= SAME:
        return
    where = f"{len(active)} layers, first {active[0]}" if active else "two forwards that differ"
    yield Finding(
        check="dropout",
        severity="rewards_only",
        message=f"expected no dropout while log-probs are computed, found {where}; two forwards of "
        f"one text differ by {gap:.2g} nats.",
        remedy="Set disable_dropout=True in the trainer's config, and lora_dropout=0 and "
        "attention_dropout=0 where the model has them.",
        modes=("train",),  # evaluations compute without it
    )


def _reference(trainer: Any) -> Iterator[Finding]:
    """The reference is re-loaded from disk, whatever the policy in memory has become since."""
    if getattr(trainer.args, "sync_ref_model", False):
        yield Finding(
            check="reference",
            severity="warning",
            message="expected one reference for the whole run, found sync_ref_model=True, which "
            "moves it: log-ratios of different steps then have different meanings.",
            remedy="Set sync_ref_model=False, or audit each step for itself.",
        )
    probe = make_probe(trainer)
    if probe is None or trainer.state.global_step > 0:
        return
    with reference(trainer) as model:
        if model is None:
            return
        of_reference = sums(trainer, model, probe)
    gap = float((sums(trainer, trainer.model, probe) - of_reference).abs().max())
    if gap <= SAME + 4 * rounding(trainer, probe):
        return
    differ = _different_weights(trainer)
    if differ:
        source = getattr(trainer.model.config, "_name_or_path", "") or "its path"
        cause = (
            f"{differ}; the trainer loads the reference from {source}, not from the policy in "
            "memory"
        )
    else:
        cause = "though their weights agree"
    yield Finding(
        check="log_ratio_at_start",
        severity="error",
        message=f"expected log-ratios of 0 before the first step, found up to {gap:.3g} nats on "
        f"{len(probe.ids)} texts of {probe.keep} tokens, {cause}.",
        remedy="Save the policy and give its path as model, so that both are loaded from it; with "
        "LoRA, begin with adapters that change nothing.",
    )


def _different_weights(trainer: Any) -> str:
    other = getattr(trainer, "ref_model", None)
    if other is None:
        return ""
    unwrap = trainer.accelerator.unwrap_model
    ours = dict(unwrap(trainer.model).named_parameters())
    theirs = dict(unwrap(other).named_parameters())
    shared = ours.keys() & theirs.keys()
    differ = [
        name
        for name in sorted(shared)
        if ours[name].shape != theirs[name].shape or not ours[name].equal(theirs[name])
    ]
    if not differ and len(shared) == len(ours):
        return ""
    return f"since {len(differ) + len(ours) - len(shared)} of {len(ours)} weights differ"


def _sampling(trainer: Any) -> Iterator[Finding]:
    """Log-probs are those of plain sampling at the trainer's temperature."""
    changed = distorted(trainer)
    if changed:
        found = ", ".join(f"{name}={value}" for name, value in changed.items())
        yield Finding(
            check="sampling",
            severity="rewards_only",
            message=f"expected completions drawn from the policy itself, found {found}, by the "
            "trainer's config or the model's generation config: the log-probs are not those of "
            "the policy that samples.",
            remedy="Set top_p=1.0, top_k=0, min_p=None and repetition_penalty=1.0, and clear the "
            "rest from model.generation_config.",
        )
    sampled = sampling_settings(trainer).get("temperature")
    if sampled is not None and sampled != trainer.temperature:
        yield Finding(
            check="temperature",
            severity="rewards_only",
            message=f"expected one temperature, found {sampled} for sampling and "
            f"{trainer.temperature} for log-probs.",
            remedy="Set temperature in the trainer's config, not in generation_kwargs.",
        )
    elif trainer.temperature != 1.0:
        yield Finding(
            check="temperature",
            severity="warning",
            message=f"expected temperature 1, found {trainer.temperature}: rewards and log-ratios "
            "are those of policy and reference both at this temperature.",
            remedy="Deploy at this temperature, or train at 1.",
        )
    if getattr(trainer, "use_vllm", False):
        yield Finding(
            check="engine",
            severity="warning",
            message="expected one engine, found vLLM for sampling and another for log-probs, which "
            "may differ by tenths of a nat.",
            remedy="Let the audit test it: mean exp(-log-ratio) must not exceed 1.",
        )


def _truncation(trainer: Any) -> Iterator[Finding]:
    """Masked completions keep their reward and lose their penalty."""
    penalised = trainer.beta != 0 or any(_penalties(trainer))
    if penalised and getattr(trainer, "mask_truncated_completions", False):
        yield Finding(
            check="truncation",
            severity="warning",
            message="expected the penalty on all completions, found "
            "mask_truncated_completions=True, which sets the KL of truncated ones to 0 and keeps "
            "their reward: long responses are free.",
            remedy="Set it to False, or give truncated completions a low reward.",
        )


def _hidden(trainer: Any) -> Iterator[Finding]:
    """Log-probs that the trainer does not compute, or hides, are not in the log."""
    if _penalties(trainer):  # it computes its own
        return
    if trainer.beta == 0:
        default = "" if hasattr(trainer, "normalize_advantages") else " (GRPO's default)"
        found = f"beta=0{default}, with which the trainer computes none of a reference"
    elif getattr(trainer, "mask_truncated_completions", False):
        found = "mask_truncated_completions=True, with which the trainer hides some"
    else:
        return
    yield Finding(
        check="log_probs",
        severity="warning",
        message=f"expected log-probs of all completions, found {found}. The log holds {_LOST}",
        remedy="record(extra_forward=True) computes them, one more forward a batch.",
    )


def _precision(trainer: Any) -> Iterator[Finding]:
    """In 16 bits the same text behind other padding has another log-prob."""
    probe = make_probe(trainer)
    if probe is None:
        return
    noise = rounding(trainer, probe)
    longest = max(1, trainer.max_completion_length or probe.keep)
    expected = noise * (longest / probe.keep) ** 0.5
    if expected <= NOISE:
        return
    yield Finding(
        check="precision",
        severity="warning",
        message=f"expected log-probs that do not hang on padding, found them to move by {noise:.2g}"
        f" nats over {probe.keep} tokens, about {expected:.2g} over {longest}: log-ratios below "
        "that are rounding.",
        remedy="Train with bf16=False and a float32 model, or keep beta times this far below the "
        "spread of rewards.",
    )


def _meaning_of_beta(trainer: Any) -> Iterator[Finding]:
    """GRPO's beta multiplies a mean over tokens in the loss."""
    if hasattr(trainer, "normalize_advantages"):  # RLOO: a penalty on the sequence
        yield from _penalty_weights(trainer)
        return
    if trainer.beta != 0:
        yield Finding(
            check="beta",
            severity="warning",
            message=f"expected a penalty on the sequence, found GRPO's beta={trainer.beta}, which "
            "multiplies a mean over tokens in the loss: it is not the beta of E[r - beta KL].",
            remedy="Audit with --target reward, or set beta=0 and add ClippedKLReward.",
        )
    yield from _penalty_weights(trainer)


def _penalties(trainer: Any) -> list[tuple[Any, float]]:
    return [
        (function, float(weight))
        for function, weight in zip(trainer.reward_funcs, trainer.reward_weights, strict=True)
        if getattr(function, "is_kl_penalty", False)
    ]


def _penalty_weights(trainer: Any) -> Iterator[Finding]:
    for function, weight in _penalties(trainer):
        if not getattr(function, "attached", True):
            yield Finding(
                check="penalty",
                severity="error",
                message="expected ClippedKLReward to know its trainer, found it unattached.",
                remedy="Call penalty.attach(trainer) before recording.",
            )
        if weight <= 0:
            yield Finding(
                check="penalty",
                severity="error",
                message=f"expected a weight above 0 for ClippedKLReward, found {weight}.",
                remedy="Give beta as its entry of reward_weights; the penalty has its sign.",
            )
        if getattr(trainer, "scale_rewards", "none") not in ("none", False):
            yield Finding(
                check="beta",
                severity="error",
                message=f"expected rewards as they are, found scale_rewards="
                f"{trainer.scale_rewards!r}, which divides reward and penalty by a spread.",
                remedy='Set scale_rewards="none".',
            )
        if getattr(trainer, "reward_clip_range", None):
            yield Finding(
                check="penalty",
                severity="error",
                message="expected the penalty outside of reward_clip_range, found it inside: a "
                "clipped sum of reward and penalty loses the penalty.",
                remedy="Clip the reward in its own function.",
            )


CHECKS: tuple[Callable[[Any], Iterator[Finding]], ...] = (
    _dropout,
    _reference,
    _sampling,
    _truncation,
    _precision,
    _meaning_of_beta,
)

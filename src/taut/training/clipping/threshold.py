"""Where the clip threshold tau comes from: given, or from calibration rollouts and then frozen.

A quantile of past |log-ratios| that follows the policy runs away: clipped samples feel no leash,
so the policy drifts, so the quantile grows. A threshold is therefore frozen for a whole phase.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from taut.errors import AssumptionError, UsageError


@runtime_checkable
class Threshold(Protocol):
    """What decides the clip threshold of each generation batch.

    Attributes:
        tau: Threshold in force from above, nats; infinite where nothing is clipped.
        tau_negative: Threshold in force from below, nats.
    """

    tau: float
    tau_negative: float

    def observe(self, log_ratio: np.ndarray) -> None:
        """Take in the unclipped log-ratios of one training batch of all ranks, nats."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain data."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass(slots=True)
class FixedThreshold:
    """A threshold that never changes; both sides in nats."""

    tau: float
    tau_negative: float

    def __post_init__(self) -> None:
        for name, value in (("tau", self.tau), ("tau_negative", self.tau_negative)):
            if math.isnan(value) or value < 0:
                raise UsageError(f"{name}: expected nats, 0 or more, found {value}.")

    def observe(self, log_ratio: np.ndarray) -> None:
        """Take no notice."""

    def state(self) -> dict[str, Any]:
        """Return nothing: the arguments say it all."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take no notice."""


@dataclass(slots=True, kw_only=True)
class PhasedThreshold:
    """The paper's quantile of calibration rollouts, chosen once a phase and frozen in between.

    The first `burn_in` batches are not clipped, since at the start all log-ratios are 0. Then
    each phase begins with tau from the last `calibration` batches before it. This is a heuristic
    (theory §7.3); the certificate does not depend on how tau was chosen.

    Attributes:
        prompts: Prompts of the audit that tau is for.
        rollouts_per_prompt: Rollouts of each.
        delta: Allowed probability of a miss, in (0, 1).
        burn_in: Generation batches before the first phase; nothing is clipped in them.
        calibration: Generation batches that each choice looks at, at most `burn_in`.
        phase: Generation batches of a phase; None freezes the first choice for good.
        floor: Least tau, nats; a tau of 0 would take the penalty away.
    """

    prompts: int
    rollouts_per_prompt: int
    delta: float = 0.05
    burn_in: int = 10
    calibration: int = 5
    phase: int | None = None
    floor: float = 1.0
    tau: float = math.inf
    tau_negative: float = math.inf
    _seen: int = 0
    _held: list[np.ndarray] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.calibration <= self.burn_in:
            raise UsageError(
                f"expected 1 <= calibration <= burn_in, found calibration={self.calibration} and "
                f"burn_in={self.burn_in} batches; tau is chosen from the end of the burn-in."
            )
        if self.phase is not None and self.phase < self.calibration:
            raise UsageError(
                f"phase: expected at least the {self.calibration} batches of a calibration, "
                f"found {self.phase}; make phases longer or calibrate on fewer batches."
            )
        if not self.floor > 0:
            raise UsageError(f"floor: expected nats above 0, found {self.floor}.")
        self._held = []

    def observe(self, log_ratio: np.ndarray) -> None:
        """Take in one training batch; at the end of a phase choose the next threshold."""
        self._seen += 1
        self._held = [*self._held, np.asarray(log_ratio, dtype=float)][-self.calibration :]
        over = self._seen - self.burn_in
        if over == 0 or (self.phase is not None and over > 0 and over % self.phase == 0):
            chosen = quantile_threshold(
                np.concatenate(self._held),
                prompts=self.prompts,
                rollouts_per_prompt=self.rollouts_per_prompt,
                delta=self.delta,
            )
            self.tau = self.tau_negative = max(self.floor, chosen)

    def state(self) -> dict[str, Any]:
        """Return the threshold in force and the batches of the next calibration."""
        return {
            "tau": None if math.isinf(self.tau) else self.tau,
            "seen": self._seen,
            "held": [batch.tolist() for batch in self._held],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.tau = self.tau_negative = math.inf if state["tau"] is None else state["tau"]
        self._seen = state["seen"]
        self._held = [np.array(batch, dtype=float) for batch in state["held"]]


def as_threshold(tau: "float | Threshold | None", tau_negative: float | None) -> Threshold:
    """Return a threshold from what a user gives.

    Args:
        tau: Nats, a `Threshold`, or None to clip nothing.
        tau_negative: Nats on the negative side; None for the same as tau.

    Raises:
        UsageError: A number is negative or no number, or a threshold comes with `tau_negative`.
    """
    if isinstance(tau, Threshold):
        if tau_negative is not None:
            raise UsageError("tau_negative: expected with a number as tau; the threshold has both.")
        return tau
    if tau is not None and not isinstance(tau, int | float):
        raise UsageError(f"tau: expected nats, a Threshold or None, found {type(tau).__name__}.")
    above = math.inf if tau is None else float(tau)
    return FixedThreshold(above, above if tau_negative is None else float(tau_negative))


def keep_threshold(threshold: Threshold) -> Any:
    """Return a callback of a trainer that saves the threshold in checkpoints and restores it.

    The state lies in trainer_state.json, so it is there whenever the checkpoint is whole.
    """
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    class KeepThreshold(TrainerCallback, ExportableState):
        """Carries the clip threshold over a restart."""

        def state(self):
            return {"args": {}, "attributes": {"threshold": threshold.state()}}

        def on_train_begin(self, args, state, control, **kwargs):
            held = state.stateful_callbacks.get("KeepThreshold")
            if state.global_step > 0 and isinstance(held, dict):
                threshold.restore(held["attributes"]["threshold"])

    return KeepThreshold()


def kl_metrics(log_ratio: Any, clipped: Any, threshold: Threshold) -> dict[str, float]:
    """Return the metrics of one batch: means in nats, the share that was clipped, and tau."""
    found = {
        "kl/sequence": float(log_ratio.mean()),
        "kl/clipped": float(clipped.mean()),
        "kl/clip_share": float((clipped != log_ratio).mean()),
    }
    if not math.isinf(threshold.tau):
        found["tau"] = float(threshold.tau)
    return found


def quantile_threshold(
    log_ratios: np.ndarray, *, prompts: int, rollouts_per_prompt: int, delta: float = 0.05
) -> float:
    """Return the paper's threshold: the (1 - 2 alpha)-quantile of |log-ratio|, nats.

    It balances the width that the range of the clipped log-ratio costs, 2 tau alpha, against the
    tail mean E(|l| - tau)_+ that clipping hides. It is 0 where alpha is 1/2 or more: then fewer
    prompts than about 10 are planned, and no threshold is worth its width.

    Args:
        log_ratios: Unclipped sequence log-ratios of calibration rollouts, nats, shape (rollouts,).
        prompts: Prompts n of the audit that the threshold is for.
        rollouts_per_prompt: Rollouts K of each.
        delta: Allowed probability of a miss, in (0, 1).

    Raises:
        AssumptionError: No log-ratio is given, or one is not finite.
        UsageError: A count is below 1 or delta lies outside (0, 1).

    Source: theory §7.1; alpha of theory §2.1 (Theorem 1 of the paper).
    """
    size = np.abs(np.asarray(log_ratios, dtype=float).ravel())
    if not size.size or not np.isfinite(size).all():
        raise AssumptionError(
            f"log_ratios: expected finite numbers in nats, found {size.size} of which "
            f"{int((~np.isfinite(size)).sum())} are not; pass the rollouts of some batches."
        )
    if prompts < 1 or rollouts_per_prompt < 1 or not 0 < delta < 1:
        raise UsageError(
            f"expected prompts and rollouts_per_prompt of 1 or more and delta in (0, 1), found "
            f"{prompts}, {rollouts_per_prompt} and {delta}."
        )
    spread = math.log(4 / delta) / (2 * prompts)
    alpha = math.sqrt(spread) + math.sqrt(spread / rollouts_per_prompt)
    return float(np.quantile(size, 1 - 2 * alpha)) if alpha < 0.5 else 0.0

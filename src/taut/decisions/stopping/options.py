"""What is declared and asked for before a growing log is watched."""

import math
from dataclasses import dataclass

from taut.errors import UsageError

TARGETS = ("reward", "clipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What was declared and asked for, before the first draw.

    Attributes:
        reward_range: Range of the reward, reward units.
        gold_range: Range of gold, where it is on another scale.
        target: "reward", or "clipped": less beta times the clipped log-ratio.
        beta: KL strength, reward units per nat.
        tau, tau_negative: Clip thresholds, nats; the second is the first where None.
        gold: Gold labels are used, and the result is about the true reward.
        control: Weight of the learned reward as a control variate, in [0, 1].
        unlabelled: Unlabelled draws that go with each labelled one.
        delta: Error probability of everything that is shown, together.
        width, require_lower, most, side: As for `Monitor`.
        average: The policy may change: about the running average over the log.
        by: "step", "policy" or "run": a monitor for each; None is one monitor.
        one_policy: Declared: whatever step, policy and run say, one policy made all rows.
        held_out: Declared: no policy was trained or chosen on these prompts.
        whole_batches: Declared: files grow by whole batches, so that no outcome decides which of
            several that grow at once is ahead.
        per_prompt: Declared rollouts per prompt, or None.
    """

    reward_range: tuple[float, float]
    gold_range: tuple[float, float] | None = None
    target: str = "reward"
    beta: float | None = None
    tau: float | None = None
    tau_negative: float | None = None
    gold: bool = False
    control: float = 0.0
    unlabelled: int = 0
    delta: float = 0.05
    width: float | None = None
    require_lower: float | None = None
    most: int | None = None
    side: str = "both"
    average: bool = False
    by: str | None = None
    one_policy: bool = False
    held_out: bool = False
    whole_batches: bool = False
    per_prompt: int | None = None

    def __post_init__(self):
        for name in ("reward_range", "gold_range"):
            bounds = getattr(self, name)
            if bounds is not None and not (
                all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]
            ):
                raise UsageError(f"{name} is {tuple(bounds)}; expected finite LOW < HIGH.")
        if self.target not in TARGETS:
            raise UsageError(f"target is {self.target!r}; expected one of {', '.join(TARGETS)}.")
        self._check_clipping()
        if self.average and self.by is not None:
            raise UsageError("--average is about the whole log and --by about each part: say one.")
        if not 0 <= self.control <= 1 or self.unlabelled < 0:
            raise UsageError("control is a weight in [0, 1], unlabelled a count of 0 or more.")
        if self.average and self.control > 0:
            raise UsageError(
                "--average with --control: labelled prompts are joined by others that come later, "
                "from a policy that has changed meanwhile, so that the average would be of neither "
                "reward. Leave --control out, or watch --by step."
            )
        if (self.control > 0) != (self.unlabelled > 0) or (self.control > 0 and not self.gold):
            raise UsageError(
                "a control variate needs gold labels, its weight (--control) and the number of "
                "unlabelled prompts that go with each labelled one (--unlabelled): give all three."
            )
        if self.per_prompt is not None and self.per_prompt < 1:
            raise UsageError(f"rollouts per prompt: expected 1 or more, found {self.per_prompt}.")

    def _check_clipping(self) -> None:
        if self.target == "reward":
            return
        for name in ("beta", "tau"):
            value = getattr(self, name)
            if value is None or not (math.isfinite(value) and value >= 0):
                raise UsageError(
                    f"the clipped target needs {name}, 0 or more, fixed before the first prompt: "
                    f"found {value}. taut tau chooses a threshold from an earlier log."
                )
        if self.tau_negative is not None and not self.tau_negative >= 0:
            raise UsageError(f"tau_negative is {self.tau_negative}; expected 0 or more nats.")

    @property
    def cost_range(self) -> tuple[float, float]:
        """Lowest and highest beta l^tau, on the unit scale."""
        if self.target == "reward":
            return 0.0, 0.0
        below = self.tau if self.tau_negative is None else self.tau_negative
        return -self.unit_beta * below, self.unit_beta * self.tau

    @property
    def unit_beta(self) -> float:
        """Beta per unit of the reward range."""
        return (self.beta or 0.0) / (self.reward_range[1] - self.reward_range[0])

    @property
    def block_range(self) -> tuple[float, float]:
        """Range of a block, reward units: with a control variate wider by its weight."""
        low, high = self.reward_range
        cost = self.cost_range
        unit = (-self.control - cost[1], 1 + self.control - cost[0])
        return low + (high - low) * unit[0], low + (high - low) * unit[1]

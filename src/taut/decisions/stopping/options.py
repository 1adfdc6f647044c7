"""What is declared and asked for before a growing log is watched."""

import math
from dataclasses import dataclass

from taut.draws.declared import Declared, declared_words
from taut.draws.modes import REPLACEMENT, SAMPLE
from taut.draws.units import Scale, Units
from taut.errors import UsageError

TARGETS = ("reward", "clipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What was declared and asked for, before the first draw.

    Attributes:
        reward_range: Range of the reward, reward units.
        gold_range: Range of gold in its own units, where it is on another scale.
        gold_scale: (p, q): gold * p + q is in reward units, p > 0.
        target: "reward" (in units of gold, with gold), or "clipped": less beta times the clipped
            log-ratio, in reward units.
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
        declare: Of "held-out", "complete", "random-labels": what the user vouches for.
        prompts: "sample", or "with-replacement": `group` tells draws of one prompt apart.
        whole_batches: Declared: files grow by whole batches, so that no outcome decides which of
            several that grow at once is ahead.
        per_prompt: Declared rollouts per prompt, or None.
    """

    reward_range: tuple[float, float]
    gold_range: tuple[float, float] | None = None
    gold_scale: tuple[float, float] | None = None
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
    declare: tuple[str, ...] = ()
    prompts: str = SAMPLE
    whole_batches: bool = False
    per_prompt: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "declare", tuple(sorted(declared_words(self.declare))))
        for name in ("reward_range", "gold_range"):
            bounds = getattr(self, name)
            if bounds is not None and not (
                all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]
            ):
                raise UsageError(f"{name} is {tuple(bounds)}; expected finite LOW < HIGH.")
        if self.target not in TARGETS:
            raise UsageError(f"target is {self.target!r}; expected one of {', '.join(TARGETS)}.")
        self._check_clipping()
        self._check_scales()
        if self.prompts not in (SAMPLE, REPLACEMENT):
            raise UsageError(
                f"prompts is {self.prompts!r}; expected {SAMPLE} or {REPLACEMENT}. The mean of a "
                "list that is not all there is none: audit it when it is (--prompts list)."
            )
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

    def _check_scales(self) -> None:
        if self.gold_scale is not None and not (
            all(map(math.isfinite, self.gold_scale)) and self.gold_scale[0] > 0
        ):
            raise UsageError(f"gold_scale is {self.gold_scale}; expected P,Q with P > 0.")
        if self.target == "clipped" and self.gold and self.units.common is None:
            raise UsageError(
                "the clipped target is in reward units, and gold has a range of its own: say how "
                "it converts with --gold-scale P,Q for gold*P + Q, or watch --target reward, in "
                "units of gold."
            )

    @property
    def declared(self) -> Declared:
        """What was said of the log, as `taut.draws` takes it."""
        return Declared(
            reward_range=self.reward_range,
            gold_range=self.gold_range if self.gold else None,
            gold_scale=self.gold_scale if self.gold else None,
            words=frozenset(self.declare),
            prompts=self.prompts,
        )

    @property
    def units(self) -> Units:
        """The scales of reward and gold."""
        said = self.declared
        own = said.gold_range or self.reward_range
        common = self.reward_range if own == self.reward_range else None
        if said.gold_scale is not None:
            p, q = said.gold_scale
            low, high = self.reward_range
            common = min(low, p * own[0] + q), max(high, p * own[1] + q)
        return Units(
            reward_range=self.reward_range,
            reward_declared=True,
            gold_range=own,
            gold_declared=True,
            gold_scale=said.gold_scale,
            common=common,
        )

    @property
    def of_units(self) -> str:
        """In which units the result is: "gold" or "reward"."""
        return "gold" if self.gold and self.target == "reward" else "reward"

    @property
    def scale(self) -> Scale:
        """From the unit scale to the units of the result."""
        return self.units.target_scale(self.of_units)

    @property
    def cost_range(self) -> tuple[float, float]:
        """Lowest and highest beta l^tau, on the unit scale."""
        if self.target == "reward":
            return 0.0, 0.0
        below = self.tau if self.tau_negative is None else self.tau_negative
        return -self.unit_beta * below, self.unit_beta * self.tau

    @property
    def unit_beta(self) -> float:
        """Beta per unit of the scale on which rewards and costs are added."""
        return (self.beta or 0.0) / self.units.width

    @property
    def block_range(self) -> tuple[float, float]:
        """Range of a block, in the units of the result: wider by the weight of a control."""
        cost = self.cost_range
        return (
            self.scale.at(-self.control - cost[1]),
            self.scale.at(1 + self.control - cost[0]),
        )

    @property
    def target_range(self) -> tuple[float, float]:
        """What the target lies in without any data, in the units of the result."""
        cost = self.cost_range
        return self.scale.at(-cost[1]), self.scale.at(1 - cost[0])

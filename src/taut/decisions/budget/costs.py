"""What things cost, in one unit of the caller's choice: tokens, dollars, GPU-seconds."""

import math
from dataclasses import dataclass

import numpy as np

from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError

TOKENS = "response tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a prompt, a rollout, a gold label and a preference pair cost, in one unit.

    Attributes:
        decode: One rollout: its tokens, generated.
        prefill: One prompt: read once, whatever the number of its rollouts.
        label: One gold label of one rollout; None if none can be bought.
        pair: One preference pair for the reward model; None takes the price of a label.
        unit: What all are counted in; only printed.

    Source: theory §8.
    """

    decode: float
    prefill: float = 0.0
    label: float | None = None
    pair: float | None = None
    unit: str = "units"

    def __post_init__(self):
        for name in ("decode", "prefill", "label", "pair"):
            value = getattr(self, name)
            if value is None and name in ("label", "pair"):
                continue
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} cost is {value}; expected a finite number, 0 or more.")
        if self.decode == 0:
            raise UsageError("decode cost is 0; a rollout must cost something, or all are free.")

    @property
    def pair_price(self) -> float | None:
        """Price of a preference pair."""
        return self.label if self.pair is None else self.pair

    def draw(self, rollouts):
        """Price of one prompt with so many rollouts; scalar or array."""
        return self.prefill + rollouts * self.decode

    def affordable(self, money, rollouts):
        """How many prompts with so many rollouts some money buys; arrays broadcast."""
        # A millionth of a prompt more: 0.3 buys three prompts at 0.1.
        return np.floor(np.maximum(money, 0.0) / self.draw(rollouts) + 1e-6)


def measured_costs(rollouts: Rollouts, *, prefill: float | None, label, pair) -> Costs:
    """Costs in response tokens: a rollout costs its mean length on the log.

    A log holds the lengths of responses, not of prompts: without a given prefill cost prompts are
    taken to be free to read, and the plan then has one rollout a prompt.

    Raises:
        LogError: The log has no response lengths.
    """
    lengths = rollouts.n_tokens
    known = None if lengths is None else lengths[lengths >= 0]
    if known is None or len(known) == 0 or known.mean() <= 0:
        raise LogError(
            "the log has no response lengths to measure the cost of a rollout by (column "
            "'n_tokens'); give a decode cost, in any unit."
        )
    return Costs(
        decode=float(known.mean()), prefill=prefill or 0.0, label=label, pair=pair, unit=TOKENS
    )

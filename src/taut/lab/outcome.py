"""What an audit said of a run whose truth is known, and whether it was right: `taut.lab/1`."""

from typing import Any, Literal

from pydantic import Field

from taut.auditing.certificate import Certificate
from taut.results import Document, Part
from taut.version import __version__


class Ends(Part):
    """An interval, reward units."""

    lower: float
    upper: float


class Certified(Ends):
    """An interval and what it is worth."""

    status: str


class Truth(Part):
    """True means at a checkpoint, each with its standard error `_se`, reward units.

    Attributes:
        gold: E r*.
        proxy: E r, the learned reward.
        error: E[r* - r].
        clipped: E[r* - beta l^tau].
        objective: J* = E[r* - beta l].
    """

    gold: float
    gold_se: float
    proxy: float
    proxy_se: float
    error: float
    error_se: float
    clipped: float
    clipped_se: float
    objective: float
    objective_se: float


class Step(Part):
    """A checkpoint.

    Attributes:
        step: Optimiser steps done.
        proxy: Learned reward on the audited rollouts.
        kl: True KL, nats.
        certificates: By target.
        shift: The reward-shift term of E r*.
        truth: What is true.
        covered: Whether the certificate holds it, by target.
    """

    step: int
    proxy: float
    kl: float
    certificates: dict[str, Certified]
    shift: Ends
    truth: Truth
    covered: dict[str, bool]


class Turn(Part):
    """Where the truth peaks, and how far it has fallen by the end while the proxy rose.

    Attributes:
        step, gold: The best checkpoint and its true reward.
        fall, fall_se: From there to the end.
        proxy_rise: What the learned reward gained from start to end.
        seen_from: From this step on each certified upper end is below the learned reward.
    """

    step: int
    gold: float
    fall: float
    fall_se: float
    proxy_rise: float
    seen_from: int | None


class Choice(Part):
    """What `select` chose, what it said of that choice, and what it really lost."""

    chosen: int | None
    remaining: tuple[int, ...]
    certified_regret: float | None
    regret: float | None
    best_proxy: int | None
    best_proxy_regret: float | None
    last_regret: float | None
    over_optimised: str | None
    best_kept: bool


class Example(Part):
    """The first response drawn for the truth at a step."""

    prompt: str
    response: str
    reward: float
    gold: float
    step: int


class Outcome(Document):
    """What an audit said of a run whose truth is known, and whether it was right.

    Attributes:
        level: 1 - delta, of all certificates together.
        settings: Of the experiment, and the range of the reward.
        reward_model: What held-out comparisons say about it.
        steps: The checkpoints.
        turn: Where over-optimisation begins.
        covered: Whether all steps contain the truth, by target.
        shift_correlation: Over the steps, of the middle of the shift term with the true error.
        selection: The choice among the checkpoints.
        examples: One response a step.
        audit: In `taut demo` alone: the certificate of the last checkpoint.
    """

    schema_name: Literal["taut.lab/1"] = Field("taut.lab/1", alias="schema")
    version: str = __version__
    level: float
    settings: dict[str, Any]
    reward_model: dict[str, Any] | None
    steps: tuple[Step, ...]
    turn: Turn
    covered: dict[str, bool]
    shift_correlation: float | None
    selection: Choice
    examples: tuple[Example, ...]
    audit: Certificate | None = None

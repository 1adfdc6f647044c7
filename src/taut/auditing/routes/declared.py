"""Routes from the learned reward to the true one: declared constants, or nothing.

Each route joins sampling and reward shift into one interval on the unit scale (theory §3, §5).
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.auditing.options import Options
from taut.auditing.target import Budget, Event, TargetMean
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.types import Interval, Status


@dataclass(frozen=True, slots=True)
class Joined:
    """Sampling and reward shift together: an interval and its two shares, unit scale.

    Attributes:
        interval: For E[r* - cost], before the tails of the KL cost.
        sampling, shift: The two shares of what moves the measured mean there.
        events, shift_events: Random events that the sampling term (or both terms, where they
            share one mean) and the reward-shift term spend delta on.
        guaranteed: Whether the route has a guarantee by its design, whatever the data look like.
        status, assumes, route, source: Of the reward-shift term.
        values: The blocks behind the interval, for comparison with a normal one.
    """

    interval: Interval
    sampling: Interval
    shift: Interval
    events: tuple[Event, ...]
    status: Status
    assumes: tuple[Assumption, ...]
    route: str
    source: str
    values: np.ndarray
    shift_events: tuple[Event, ...] = ()
    guaranteed: bool = True


def both_ends(what: str, budget: Budget) -> tuple[Event, ...]:
    """Return the events of the two ends of one mean."""
    return (
        Event(f"lower end of the mean of {what}", budget.lower),
        Event(f"upper end of the mean of {what}", budget.upper),
    )


def what_is_left(end: float, taken: float) -> float:
    """Return end - taken; an infinite end stays infinite whatever was taken before."""
    return end if math.isinf(end) else end - taken


def declared(
    mean: TargetMean, learned: Interval, budget: Budget, shift: float, options: Options
) -> Joined:
    """The paper's C sqrt(L) from declared constants, unit scale (theory §3.1)."""
    measured = mean.measured
    return Joined(
        interval=Interval(learned.lower - shift, learned.upper + shift),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(-shift, shift),
        events=both_ends("learned reward less KL cost", budget),
        status=Status.CONDITIONAL,
        assumes=(
            _declared(f"coverage C is at most {options.coverage:g}", "--coverage"),
            _declared(
                "the reward model's mean squared error on its data is at most the declared L",
                "--reward-mse",
            ),
        ),
        route="declared C and L",
        source="theory §3.1",
        values=mean.draws,
    )


def _declared(text: str, by: str) -> Assumption:
    return Assumption(name=about.QUANTITY, text=text, stands=Standing.DECLARED, by=by)


def trivial(mean: TargetMean, learned: Interval, budget: Budget) -> Joined:
    """Rewards lie in [0, 1], so E r* does; only the KL cost is left to bound (theory §3.9)."""
    measured = mean.measured
    cost = Interval(0.0, 0.0)
    if mean.beta:
        low, high = -mean.cost_range[1], -mean.cost_range[0]
        draws = mean.once("cost", lambda: np.clip(mean.blocks.means(-mean.cost), low, high))
        cost = mean.interval(draws, low, high, budget)
    return Joined(
        interval=Interval(cost.lower, 1 + cost.upper),
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(
            what_is_left(cost.lower, learned.lower), what_is_left(1 + cost.upper, learned.upper)
        ),
        events=both_ends("KL cost", budget) if mean.beta else (),
        status=Status.VACUOUS,
        assumes=(),
        route="trivial",
        source="theory §3.9",
        values=mean.draws,
    )

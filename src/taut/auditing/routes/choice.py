"""Which route bounds the reward shift, and why the others were not taken (theory §3, §5).

The choice is made by what the calibration splits forecast and by which columns are there, never
by the certifying draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from taut.auditing.options import Options
from taut.auditing.routes import coverage as added
from taut.auditing.routes import declared as routes
from taut.auditing.routes import gold as labels
from taut.auditing.routes import importance as weighted
from taut.auditing.routes import sheet
from taut.auditing.routes.declared import Joined
from taut.auditing.routes.joint import joint as joint_route
from taut.auditing.routes.reward_data import Shift
from taut.auditing.target import Budget, TargetMean
from taut.bounds.reward_shift import (
    paper_shift,
)
from taut.errors import CoverageError, UsageError
from taut.types import Interval, Status


@dataclass(frozen=True, slots=True)
class Route:
    """One way to bound the reward shift, as the report lists it.

    Attributes:
        name: As for --route.
        joined: What it gives; None where it is not open.
        reason: Why it is not open, or was not taken; empty for the one taken.
        forecast: Width that the calibration splits expect, unit scale.
    """

    name: str
    joined: Joined | None
    reason: str
    forecast: float


_ASKED = ("score", "joint")  # taken only where they are named

# A route and the width that the calibration splits forecast for it.
_Build = Callable[[], tuple[Joined, float]]


def reward_routes(
    mean: TargetMean,
    learned: Interval,
    budget: Budget,
    options: Options,
    delta: float,
    shift: Shift | None,
) -> tuple[Joined, tuple[Route, ...]]:
    """Return the route taken, and all of them in the order of theory §3.

    Raises:
        UsageError: A route was named that is not open, with the reason.
    """
    builds = _builds(mean, learned, budget, options, delta, shift)
    found = [_open(name, build) for name, build in builds.items()]
    if options.route == "auto":
        taken = _narrowest(found)
    else:
        taken = next(item for item in found if item.name == options.route)
        if taken.joined is None:
            raise UsageError(f"--route {taken.name} is not open: it {taken.reason}.")
    return taken.joined, tuple(_explained(item, taken) for item in found)


def _narrowest(found: list[Route]) -> Route:
    """Return the guaranteed route that is forecast narrowest, if it says more than nothing.

    Without one, labels whose weights had to be estimated; without those, the trivial bound.
    """
    open_ones = [item for item in found if item.joined is not None and item.name not in _ASKED]
    trivial = open_ones[-1]

    def rank(item: Route) -> tuple[int, float]:
        if item is trivial:
            return 2, 0.0
        if not item.joined.guaranteed:
            return 1, item.forecast
        worth = item.name == "gold" or item.forecast < trivial.forecast
        return (0 if worth else 3), item.forecast

    return min(open_ones, key=rank)


def _explained(item: Route, taken: Route) -> Route:
    if item.joined is None or item is taken:
        return item
    reason = f"open; {taken.name} was forecast to be narrower"
    if item.name == "joint":
        reason = "open to those who ask (--route joint): it rests on the weights too"
    if item.joined.status is Status.VACUOUS:
        reason = "open to all, and says nothing"
    elif item.joined.status is Status.ESTIMATED:
        reason = "open, without a guarantee"
    return Route(item.name, item.joined, reason, item.forecast)


def _open(name: str, build: _Build) -> Route:
    try:
        joined, forecast = build()
    except CoverageError as error:
        return Route(name, None, str(error), math.inf)
    return Route(name, joined, "", forecast)


def _builds(mean, learned, budget, options, delta, shift) -> dict[str, _Build]:
    """Return how to take each route, in the order of theory §3; the trivial one stands last."""
    base = mean.forecast_width(delta)
    coverage = options.coverage

    def gold() -> tuple[Joined, float]:
        _needs_labels(mean)
        return sheet.gold(mean, budget, delta, plain=labels.gold)

    def joint() -> tuple[Joined, float]:
        _needs_labels(mean)
        sheet.needs_plain_labels(mean)
        _needs_data(shift)
        found = joint_route(mean, shift, budget)
        return found, math.inf  # rests on weights: never in place of the labels unasked

    def paper() -> tuple[Joined, float]:
        _needs_one_scale(mean)
        if coverage is not None and options.reward_mse is None and shift is not None:
            _needs_data(shift)
            found = added.paper(mean, shift, budget, delta, coverage)
            return found, added.paper_forecast(mean, shift, coverage, delta)
        if coverage is None or options.reward_mse is None:
            raise CoverageError("needs a declared C and L (--coverage, --reward-mse)")
        added.check_declared(mean, shift, coverage)
        bound = paper_shift(coverage, mean.data.reward_mse)
        return routes.declared(mean, learned, budget, bound, options), base + 2 * bound

    def centred() -> tuple[Joined, float]:
        _needs_one_scale(mean)
        _needs_data(shift)
        if coverage is None:
            raise CoverageError("needs a declared C (--coverage)")
        found = added.centred(mean, shift, budget, delta, coverage)
        return found, added.centred_forecast(mean, shift, coverage, delta)

    def truncated() -> tuple[Joined, float]:
        _needs_exact_weights(options)
        _needs_one_scale(mean)
        _needs_data(shift)
        found = added.truncated(mean, shift, budget, delta)
        return found, added.truncated_forecast(mean, shift, delta)

    def importance() -> tuple[Joined, float]:
        _needs_data(shift)
        found = weighted.importance(mean, shift, learned, budget)
        return found, weighted.importance_forecast(mean, shift, budget, coverage)

    def score() -> tuple[Joined, float]:
        _needs_one_scale(mean)
        _needs_data(shift)
        return added.mahalanobis(mean, shift, budget), math.inf

    def trivial() -> tuple[Joined, float]:
        return routes.trivial(mean, learned, budget), 1.0 + base

    return {
        "gold": gold,
        "joint": joint,
        "paper": paper,
        "centred": centred,
        "truncated": truncated,
        "importance": importance,
        "score": score,
        "trivial": trivial,
    }


def _needs_labels(mean: TargetMean) -> None:
    if mean.data.gold is None or not mean.label_counts.any():
        raise CoverageError("needs gold labels on the audited rollouts")


def _needs_data(shift: Shift | None) -> None:
    if shift is not None and len(shift.data.blocks) == 0:
        raise CoverageError("needs reward data on prompts that do not all choose: too few are left")
    if shift is None:
        raise CoverageError("needs reward data (--reward-data)")


def _needs_exact_weights(options: Options) -> None:
    if options.log_prob_noise:
        raise CoverageError("needs exact weights, and their noise is declared")


def _needs_one_scale(mean: TargetMean) -> None:
    """Refuse what goes through r^ - r* where the two lie on scales of their own (theory §1)."""
    if mean.design.units.common is None:
        raise CoverageError(
            "needs gold in the reward's units: declare how it converts, --gold-scale P,Q"
        )

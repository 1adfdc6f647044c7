"""Which route bounds the reward shift, and why the others were not taken (theory §3, §5).

The choice is made by what the calibration splits forecast and by which columns are there, never
by the certifying draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

from taut import density, routes
from taut.bounds.reward_shift import label_counts, paper_shift
from taut.density import Shift
from taut.errors import CoverageError, UsageError
from taut.options import Options
from taut.routes import Joined
from taut.target import Budget, TargetMean
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


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    build: Callable[[], Joined]
    forecast: Callable[[], float]


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
    found = [_open(item) for item in _candidates(mean, learned, budget, options, delta, shift)]
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
    open_ones = [item for item in found if item.joined is not None and item.name != "score"]
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
    if item.joined.status is Status.VACUOUS:
        reason = "open to all, and says nothing"
    elif item.joined.status is Status.ESTIMATED:
        reason = "open, without a guarantee"
    return Route(item.name, item.joined, reason, item.forecast)


def _open(candidate: _Candidate) -> Route:
    try:
        return Route(candidate.name, candidate.build(), "", candidate.forecast())
    except CoverageError as error:
        return Route(candidate.name, None, str(error), float("inf"))


def _candidates(mean, learned, budget, options, delta, shift) -> list[_Candidate]:
    base = mean.forecast_width(delta)
    coverage = options.coverage

    def paper() -> Joined:
        if coverage is None or options.reward_mse is None:
            raise CoverageError("needs a declared C and L (--coverage, --reward-mse)")
        return routes.declared(
            mean, learned, budget, paper_shift(coverage, mean.data.reward_mse), options
        )

    def needs_data(build: Callable[[], Joined]) -> Callable[[], Joined]:
        def checked() -> Joined:
            if shift is None:
                raise CoverageError("needs reward data (--reward-data)")
            return build()

        return checked

    def centred() -> Joined:
        if coverage is None:
            raise CoverageError("needs a declared C (--coverage)")
        return density.centred(mean, shift, budget, delta, coverage)

    return [
        _Candidate(
            "gold",
            lambda: _gold(mean, budget, delta),
            lambda: routes.gold_forecast(mean, delta),
        ),
        _Candidate("paper", paper, lambda: base + 2 * paper_shift(coverage, mean.data.reward_mse)),
        _Candidate(
            "centred",
            needs_data(centred),
            lambda: base + density.centred_forecast(shift, coverage),
        ),
        _Candidate(
            "truncated",
            needs_data(lambda: density.truncated(mean, shift, budget, delta)),
            lambda: base + density.truncated_forecast(mean, shift),
        ),
        _Candidate(
            "importance",
            needs_data(lambda: density.importance(mean, shift, learned, budget)),
            lambda: density.importance_forecast(mean, shift, budget),
        ),
        _Candidate(
            "score",
            needs_data(lambda: density.mahalanobis(mean, shift, budget)),
            lambda: float("inf"),
        ),
        _Candidate("trivial", lambda: routes.trivial(mean, learned, budget), lambda: 1.0 + base),
    ]


def _gold(mean: TargetMean, budget: Budget, delta: float) -> Joined:
    gold = mean.data.gold
    if gold is None or not (label_counts(gold, mean.blocks) > 0).any():
        raise CoverageError("needs gold labels on the audited rollouts")
    return routes.gold(mean, budget, delta)

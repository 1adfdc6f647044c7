"""PAC-Bayes bounds of a Gaussian posterior, and the prior's width that they pay for."""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from taut.errors import UsageError
from taut.inequalities.pac_bayes import pac_bayes_interval
from taut.posterior.gaussian import GaussianPosterior, costs, kl_gaussian, prior_mean_of
from taut.types import Interval, Status

_VACUOUS_WIDTH = 0.99  # an interval this share of the range, or wider, says nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriorWidth:
    """A prior N(mean, variance I) picked from a grid of widths, and what picking costs.

    Attributes:
        mean: Shape (parameters,).
        variance: s_j^2 = largest e^(-j/steps_per_fold), squared parameter units.
        index: j, at least 1: the grid point paid for.
        kl: KL(Q || P_j), nats.
        log_price: ln(pi^2 j^2 / 6), nats: delta_j = 6 delta / (pi^2 j^2), and all j sum to delta.
    """

    mean: np.ndarray
    variance: float
    index: int
    kl: float
    log_price: float


def choose_prior_width(
    posterior: GaussianPosterior,
    prior_mean: np.ndarray | float,
    *,
    largest: float,
    steps_per_fold: int = 10,
) -> PriorWidth:
    """Return the width of least KL plus price on the grid s_j^2 = largest e^(-j/steps_per_fold).

    Args:
        posterior: Q.
        prior_mean: As in `kl_gaussian`; fixed before the data, as are the next two.
        largest: c, squared parameter units.
        steps_per_fold: b, grid points per factor e of the variance.

    Raises:
        AssumptionError: As in `kl_gaussian`.
        UsageError: largest or steps_per_fold out of range.

    Source: theory §6.4; Langford & Caruana (2001).
    """
    if not (math.isfinite(largest) and largest > 0 and steps_per_fold >= 1):
        raise UsageError(
            f"expected largest > 0 and steps_per_fold >= 1, found {largest}, {steps_per_fold}."
        )
    centre = prior_mean_of(posterior, prior_mean)
    energy = posterior.trace + float(np.sum((posterior.mean - centre) ** 2))
    # KL is convex in ln s^2 with its minimum at energy / d, and the price grows with j.
    best = steps_per_fold * math.log(largest * posterior.parameters / energy) if energy else 1.0
    index = np.arange(1, max(1, math.ceil(best)) + 1)
    variance = largest * np.exp(-index / steps_per_fold)
    relative = 0.5 * (energy / variance + posterior.parameters * np.log(variance))
    chosen = int(np.argmin(relative + 2.0 * np.log(index)))
    return PriorWidth(
        mean=centre,
        variance=float(variance[chosen]),
        index=chosen + 1,
        kl=kl_gaussian(posterior, centre, float(variance[chosen])),
        log_price=math.log(math.pi**2 / 6.0) + 2.0 * math.log(chosen + 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianBound:
    """Interval for the mean of policies drawn from a Gaussian Q.

    Attributes:
        lower, upper: Units of [low, high].
        kl, log_price: What Q and the choice of the prior's width cost, nats.
        delta: All that was spent, draws included.
        status: Conditional, as that the policies are draws from Q and that prior and widths were
            fixed beforehand is beyond what a log records (theory §5); vacuous where the interval
            is 99% of the range or wider.
        parameters: d.
        vacuous_at: Fewest free directions that already make it vacuous, the costliest ones first
            and the others left to the prior; 0 if no direction is needed (too few blocks or
            draws), None if all d do not.
        assumes: What must hold beyond the data section.
        source: Where the bound comes from.
    """

    lower: float
    upper: float
    kl: float
    log_price: float
    delta: float
    status: Status
    parameters: int
    vacuous_at: int | None
    assumes: tuple[str, ...] = (
        "the policies that were run are independent draws from Q",
        "prior mean, grid of widths and range were fixed before these prompts were seen",
    )
    source: str = "theory §6.1, §6.4"


def gaussian_bound(
    posterior: GaussianPosterior,
    prior: PriorWidth,
    empirical: float,
    *,
    draws: int,
    blocks: int,
    delta: float,
    draws_delta: float,
    low: float = 0.0,
    high: float = 1.0,
) -> GaussianBound:
    """Bound E_Q of a policy's mean from policies drawn from Q, and say where it became vacuous.

    Args:
        posterior: Q.
        prior: From `choose_prior_width`.
        empirical: Average over draws of the average over blocks, units of [low, high].
        draws: Independent draws from Q that were run.
        blocks: Independent blocks under each draw.
        delta, draws_delta: Probabilities spent on prompts and on draws; together below 1.
        low, high: Range known before the data.

    Raises:
        AssumptionError: As in `pac_bayes_interval`.

    Source: theory §6.1, §6.4.
    """

    def interval(kl: float) -> Interval:
        return pac_bayes_interval(
            empirical,
            kl=kl + prior.log_price,
            blocks=blocks,
            delta=delta,
            low=low,
            high=high,
            draws=draws,
            draws_delta=draws_delta,
        )

    def vacuous(kl: float) -> bool:
        return interval(kl).width >= _VACUOUS_WIDTH * (high - low)

    kl = kl_gaussian(posterior, prior.mean, prior.variance)
    largest = np.sort(costs(posterior, prior.mean, prior.variance))[::-1]
    totals = np.concatenate([[0.0], np.cumsum(largest)])
    fewest = bisect_left(totals, True, key=vacuous)
    found = interval(kl)
    return GaussianBound(
        lower=found.lower,
        upper=found.upper,
        kl=kl,
        log_price=prior.log_price,
        delta=delta + draws_delta,
        status=Status.CONDITIONAL if fewest == len(totals) else Status.VACUOUS,
        parameters=posterior.parameters,
        vacuous_at=None if fewest == len(totals) else fewest,
    )

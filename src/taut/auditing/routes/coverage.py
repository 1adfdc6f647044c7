"""Routes that add a bound on the shift to the learned reward's interval (theory §3.1-3.3, §3.5)."""

import math

import numpy as np

from taut.auditing.routes.declared import Joined, both_ends
from taut.auditing.routes.reward_data import (
    REACH,
    SURE_LOG_E,
    TRUSTED,
    UNSEEN,
    Shift,
    assumed,
    beside,
    check_labels,
    check_weights,
    method_of,
)
from taut.auditing.target import Budget, Event, TargetMean
from taut.bounds.coverage import (
    log_e_value_of_mean,
    mahalanobis_shift,
)
from taut.bounds.sampling import block_interval, end_forecast
from taut.bounds.transfer import (
    TRUNCATIONS,
    Ingredients,
    centred_shift,
    error_bounds,
    truncated_shift,
    truncated_weights,
    weight_bounds,
)
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.draws.labels import label_counts, labelled_means
from taut.errors import CoverageError
from taut.types import Interval, Status


def _coverage_declared(coverage: float) -> Assumption:
    return Assumption(
        name=about.QUANTITY,
        text=f"coverage C is at most {coverage:g}",
        stands=Standing.DECLARED,
        by="--coverage",
    )


def check_declared(mean: TargetMean, shift: Shift | None, coverage: float) -> None:
    """Refuse a declared C that the weights contradict: E_theta w and E_train w^2 are C^2.

    Raises:
        CoverageError: Weights too large for it, beyond chance (1e-3 for each sample).

    Source: theory §3.7, §3.1.
    """
    if shift is None:
        return
    samples = ((shift.weight, mean.blocks, 1, "audited rollouts"),)
    samples += ((shift.data.weight, shift.data.blocks, 2, "reward data"),)
    for weight, blocks, power, where in samples:
        if weight is None:
            continue
        means = blocks.means(weight**power) / coverage**2
        if log_e_value_of_mean(means) >= SURE_LOG_E:
            raise CoverageError(
                f"the weights of the {where} contradict the declared C of {coverage:g}: they "
                f"say {coverage * math.sqrt(means.mean()):.3g}; declare one that holds, or none"
            )


def truncated(mean: TargetMean, shift: Shift, budget: Budget, delta: float) -> Joined:
    """m_M |E e| + s_M sd(e) + (1 - m_M), every ingredient bounded.

    Half of delta goes to the learned reward's mean, a quarter to the error on reward data, a
    quarter to the weights; M is the one that the calibration split forecasts best.

    Raises:
        CoverageError: As for `importance`.

    Source: theory §3.3.
    """
    check_weights(mean, shift)
    check_labels(shift)
    quarter = delta / 4
    bias, mse = error_bounds(shift.data, quarter, method_of(mean, shift))
    level = min(TRUNCATIONS, key=lambda level: _truncated_width(mean, shift, level, delta))
    on_policy = shift.weight is not None
    sample, blocks = (
        (shift.weight, mean.blocks) if on_policy else (shift.data.weight, shift.data.blocks)
    )
    mass, square = weight_bounds(
        sample, blocks, level, on_policy=on_policy, delta=quarter, method=method_of(mean, shift)
    )
    found = truncated_shift(Ingredients(bias, mse, mass, square))
    return _added(
        mean,
        budget,
        found,
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(TRUSTED, REACH, UNSEEN),
        route=f"truncated coverage, weights cut at {level:g}",
        source="theory §3.3",
        shift_events=(
            Event("mean and mean square of the reward error", quarter),
            Event("covered mass and mean square of the cut weights", quarter),
        ),
    )


def truncated_forecast(mean: TargetMean, shift: Shift, delta: float) -> float:
    """Width that the truncated route will have, judged on the calibration splits."""
    width = min(_truncated_width(mean, shift, level, delta) for level in TRUNCATIONS)
    return mean.forecast_width(delta / 2) + width


def centred_forecast(mean: TargetMean, shift: Shift, coverage: float, delta: float) -> float:
    """Width that the centred route will have, judged on the calibration splits."""
    bias, mse = _error_forecast(shift, delta / 2)
    width = centred_shift(bias, mse, coverage**2 - 1).width
    return mean.forecast_width(delta / 2) + min(width, 2.0)


def _truncated_width(mean: TargetMean, shift: Shift, level: float, delta: float) -> float:
    """Width of the truncated bound with the ingredients that are forecast at this level."""
    on_policy = shift.weight is not None
    weight, chosen, certifying = (
        (shift.weight, mean.split.calibration, mean.blocks)
        if on_policy
        else (shift.data.weight, shift.data.calibration, shift.data.blocks)
    )
    if len(chosen) < 2:
        return 2.0 + level  # nothing to judge by: the smallest level
    bias, mse = _error_forecast(shift, delta / 4)
    (mass, _), (square, top) = truncated_weights(weight, level, on_policy=on_policy)
    masses, squares, blocks = chosen.means(mass), chosen.means(square), len(certifying)
    least = min(1.0, float(masses.mean())) - _far(masses, 0.0, blocks, delta / 16)
    most = float(squares.mean()) + _far(squares, top, blocks, delta / 8)
    least = max(0.0, least)
    parts = Ingredients(bias, mse, Interval(least, 1.0), max(least**2, min(most, level)))
    return min(truncated_shift(parts).width, 2.0)


def _error_forecast(shift: Shift, delta: float) -> tuple[Interval, float]:
    """What `error_bounds` is forecast to give; the worst where too few draws can tell."""
    data = shift.data
    known = label_counts(data.gold, data.calibration) > 0
    if known.sum() < 2:
        return Interval(-1.0, 1.0), 1.0
    error = data.reward - data.gold
    means = labelled_means(error, data.gold, data.calibration)[known]
    squares = labelled_means(error**2, data.gold, data.calibration)[known]
    blocks = int((label_counts(data.gold, data.blocks) > 0).sum())
    below, above = (_far(means, end, blocks, delta / 4) for end in (-1.0, 1.0))
    bias = Interval(float(means.mean()) - below, float(means.mean()) + above)
    mse = float(squares.mean()) + _far(squares, 1.0, blocks, delta / 2)
    return bias, max(mse, max(bias.lower, -bias.upper) ** 2)


def _far(values: np.ndarray, end: float, blocks: int, eta: float) -> float:
    """How far an end of the interval for a mean is forecast to lie, towards `end` of the range."""
    variance = float(values.var(ddof=1))
    return end_forecast(abs(end - float(values.mean())), variance, blocks=blocks, eta=eta)


def paper(mean: TargetMean, shift: Shift, budget: Budget, delta: float, coverage: float) -> Joined:
    """C sqrt(L) with declared coverage and L bounded on reward data.

    Raises:
        CoverageError: Reward data without gold labels.

    Source: theory §3.1, §3.8.
    """
    check_declared(mean, shift, coverage)
    check_labels(shift)
    half = delta / 2
    data = shift.data
    squares = labelled_means((data.reward - data.gold) ** 2, data.gold, data.blocks)
    largest = block_interval(
        squares[~np.isnan(squares)],
        low=0.0,
        high=1.0,
        delta_lower=0.0,
        delta_upper=half,
        method=method_of(mean, shift),
    ).upper
    reach = coverage * math.sqrt(largest)
    return _added(
        mean,
        budget,
        Interval(-reach, reach),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_coverage_declared(coverage), REACH, UNSEEN),
        route="declared C, measured L",
        source="theory §3.1",
        shift_events=(Event("mean square of the reward error", half),),
    )


def paper_forecast(mean: TargetMean, shift: Shift, coverage: float, delta: float) -> float:
    """Width that C sqrt(L) will have, judged on the calibration splits."""
    _, mse = _error_forecast(shift, delta)
    return mean.forecast_width(delta / 2) + 2 * min(1.0, coverage * math.sqrt(mse))


def centred(
    mean: TargetMean, shift: Shift, budget: Budget, delta: float, coverage: float
) -> Joined:
    """|E e| + sqrt(chi^2) sd(e) with declared coverage and the error bounded on reward data.

    Raises:
        CoverageError: Reward data without gold labels.

    Source: theory §3.2, §5 (paper).
    """
    check_declared(mean, shift, coverage)
    check_labels(shift)
    half = delta / 2
    bias, mse = error_bounds(shift.data, half, method_of(mean, shift))
    return _added(
        mean,
        budget,
        centred_shift(bias, mse, coverage**2 - 1),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_coverage_declared(coverage), REACH, UNSEEN),
        route="centred, declared C and measured error",
        source="theory §3.2",
        shift_events=(Event("mean and mean square of the reward error", half),),
    )


def mahalanobis(mean: TargetMean, shift: Shift, budget: Budget) -> Joined:
    """|E e| + Delta sd(e) for errors that are linear in features, or in the score: an estimate.

    Raises:
        CoverageError: No gold labels, or a shift outside the range of the reward data.

    Source: theory §3.5.
    """
    check_labels(shift)
    data = shift.data
    audited, trusted = shift.features or (mean.data.reward[:, None], data.reward[:, None])
    theirs = np.stack([data.blocks.means(column) for column in trusted.T], axis=1)
    ours = np.stack([mean.blocks.means(column) for column in audited.T], axis=1)
    if len(theirs) <= trusted.shape[1] + 1:
        raise CoverageError(
            f"needs more than {trusted.shape[1] + 1} draws of reward data for "
            f"{trusted.shape[1]} features"
        )
    delta, outside = mahalanobis_shift(ours, theirs)
    if outside > 1e-6:
        raise CoverageError("the mean moves along a direction that never varies on the reward data")
    what = "its score" if shift.features is None else f"the {trusted.shape[1]} features"
    error = (data.reward - data.gold)[data.blocks.rows]
    error = error[~np.isnan(error)]
    reach = delta * float(error.std())
    centre = -float(error.mean())
    return _added(
        mean,
        budget,
        Interval(centre - reach, centre + reach),
        data=shift,
        status=Status.ESTIMATED,
        assumes=(
            assumed(f"the reward model's error is a linear function of {what}"),
            REACH,
            UNSEEN,
        ),
        route=f"shift of the mean of {what}",
        source="theory §3.5",
        shift_events=(),
    )


def _added(
    mean: TargetMean, budget: Budget, shift: Interval, *, data: Shift, shift_events, **named
) -> Joined:
    """Add a bound on the shift to the learned reward's interval at what is left of delta."""
    spent = sum(item.delta for item in shift_events)
    whole = budget.lower + budget.upper
    part = max(0.0, 1 - spent / whole)
    left = Budget(budget.lower * part, budget.tail, budget.upper * part)
    learned = mean.interval(mean.draws, mean.low, mean.high, left)
    # Rewards lie in [0, 1], so no shift is larger than 1 (theory §3.9).
    shift = Interval(max(shift.lower, -1.0), min(shift.upper, 1.0))
    return beside(
        mean,
        learned,
        Interval(learned.lower + shift.lower, learned.upper + shift.upper),
        data=data,
        events=both_ends("learned reward less KL cost", left),
        shift_events=shift_events,
        values=mean.draws,
        **named,
    )

"""How wide a certificate of E r* so many labels will give: forecasts, never bounds.

The same forecast of a betting interval that `taut plan` uses, without a pilot: a sheet is sized
before there is any label, so that the spread of gold is assumed, and said.
"""

import numpy as np

from taut.auditing.options import Options
from taut.bounds.sampling import end_forecast
from taut.decisions.budget.forecast import Forecast, Setting
from taut.decisions.budget.pilot import Clip, Pilot
from taut.draws.rollouts import Rollouts


def forecast_width(
    labels: float, *, mean: float = 0.5, variance: float | None = None, delta: float = 0.05
) -> float:
    """Forecast the width of a two-sided interval from labels of as many draws, on the unit scale.

    Args:
        labels: Draws with a label.
        mean: Expected mean of gold.
        variance: Of gold, or of what a judge leaves of it; that of 0/1 labels by default.
        delta: Of the interval.
    """
    variance = mean * (1 - mean) if variance is None else variance
    ends = (
        end_forecast(distance, variance, blocks=labels, eta=delta / 2)
        for distance in (mean, 1 - mean)
    )
    return float(min(1.0, sum(ends)))


def labels_for_width(
    width: float, *, mean: float = 0.5, variance: float | None = None, delta: float = 0.05
) -> int:
    """Return the fewest labels whose forecast is at most this wide (unit scale, 0 to 1)."""
    low, high = 1, 2
    while forecast_width(high, mean=mean, variance=variance, delta=delta) > width:
        low, high = high, 2 * high
        if high > 1 << 40:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        if forecast_width(middle, mean=mean, variance=variance, delta=delta) > width:
            low = middle
        else:
            high = middle
    return high


def planned_labels(
    rollouts: Rollouts, width: float, *, gold_range: tuple[float, float], delta: float = 0.05
) -> int | None:
    """Return the fewest labels, one a draw, that `taut plan` would take for a width of E r*.

    The log's own labels are the pilot: how gold spreads between and within prompts, and how much
    of it the judge tells. All draws are there already, and none is set aside.

    Args:
        rollouts: The log, with gold labels on some draws.
        width: Gold units.
        gold_range: Range of gold, its own units.
        delta: Of the interval.

    Returns:
        None where too few draws have labels, or where all of the log's draws would not do.
    """
    pilot = Pilot(rollouts, Options(beta=None, target="reward", gold_range=gold_range))
    if not pilot.knows_gold:
        return None
    clip = Clip(None, None, "no KL cost")
    forecast = Forecast(pilot.moments(clip), Setting(delta=delta, calibration=0.0))
    draws = len(pilot.design.blocks)
    counts = np.unique(np.geomspace(1, draws, 2000).round())
    widths = forecast.gold(draws, len(rollouts) / draws, counts)[0]
    fits = np.flatnonzero(widths * pilot.design.units.target_scale("gold").width <= width)
    return int(counts[fits[0]]) if len(fits) else None


def residual_variance(gold: np.ndarray, judge: np.ndarray) -> float:
    """Variance that a straight line in the judge leaves of gold, unit scale; at least three."""
    if np.ptp(judge) == 0:
        return float(gold.var(ddof=1))
    line = np.polynomial.polynomial.polyfit(judge, gold, 1)
    rest = gold - np.polynomial.polynomial.polyval(judge, line)
    return float((rest**2).sum() / max(1, len(gold) - 2))

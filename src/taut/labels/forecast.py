"""How wide a certificate of E r* so many labels will give: forecasts, never bounds.

The same forecast of a betting interval that `taut plan` uses, without a pilot: a sheet is sized
before there is any label, so that the spread of gold is assumed, and said.
"""

import numpy as np

from taut.bounds.sampling import end_forecast


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


def residual_variance(gold: np.ndarray, judge: np.ndarray) -> float:
    """Variance that a straight line in the judge leaves of gold, unit scale; at least three."""
    if np.ptp(judge) == 0:
        return float(gold.var(ddof=1))
    line = np.polynomial.polynomial.polyfit(judge, gold, 1)
    rest = gold - np.polynomial.polynomial.polyval(judge, line)
    return float((rest**2).sum() / max(1, len(gold) - 2))

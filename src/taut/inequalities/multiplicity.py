"""Several checks of one log: all together rarely accuse an honest one.

A log is doubted at 10^-3 and contradicted at 10^-6, both for *all* its checks together, whatever
depends on what: Holm's (1979) procedure. So honest logs, skewed ones among them, are accused by any
of their checks in at most 1 of 1,000.

One null hypothesis that has several e-values, dependent or not, is tested by their average (Vovk &
Wang 2021): `taut.inequalities.e_values.log_average` of their logarithms.

Source: theory §2, §4.6.
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from taut.errors import AssumptionError

DOUBT = 1e-3  # all checks of one log together
SURE = 1e-6


class Verdict(StrEnum):
    """What a check says once all checks of the log are counted."""

    NOTHING_FOUND = "nothing_found"
    IN_DOUBT = "in_doubt"
    VIOLATED = "violated"


def verdicts(
    p_doubt: Sequence[float], p_sure: Sequence[float] | None = None
) -> tuple[Verdict, ...]:
    """Return the verdict of each check of a log.

    With probability at least 1 - 10^-3 no check whose null hypothesis holds is in doubt, and with
    probability at least 1 - 10^-6 none is violated, under any dependence between the checks.

    Args:
        p_doubt: A valid p-value of each check; 1 for a check that could not look. All checks of
            one log in one call: those of its groups too, where groups are looked at one by one.
        p_sure: p-values against the hypotheses that contradict the assumption beyond all
            tolerance, where these differ (theory §4.6); a check is violated only if it is in doubt
            as well.

    Raises:
        AssumptionError: A p-value outside [0, 1], or other than one p_sure for each p_doubt.

    Source: Holm (1979).
    """
    doubted = holm(p_doubt, DOUBT)
    sure = holm(p_doubt if p_sure is None else p_sure, SURE)
    if len(sure) != len(doubted):
        raise AssumptionError(f"expected {len(doubted)} values of p_sure, found {len(sure)}.")
    return tuple(
        Verdict.NOTHING_FOUND if not doubt else Verdict.VIOLATED if certain else Verdict.IN_DOUBT
        for doubt, certain in zip(doubted, sure, strict=True)
    )


def holm(p_values: Sequence[float], level: float) -> np.ndarray:
    """Return which hypotheses Holm's procedure rejects, shape (hypotheses,).

    The probability that any true one is among them is at most `level`.

    Raises:
        AssumptionError: A p-value outside [0, 1].
    """
    p = _probabilities(p_values)
    order = np.argsort(p, kind="stable")
    passes = p[order] * np.arange(len(p), 0, -1) <= level
    kept = len(p) if passes.all() else int(np.argmin(passes))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[:kept]] = True
    return rejected


def bonferroni(p_values: Sequence[float]) -> float:
    """Return one p-value for: all of these null hypotheses hold. 1 for none.

    Raises:
        AssumptionError: A p-value outside [0, 1].
    """
    p = _probabilities(p_values)
    return min(1.0, len(p) * float(p.min())) if len(p) else 1.0


def _probabilities(p_values: Sequence[float]) -> np.ndarray:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise AssumptionError(f"p-values: expected numbers in [0, 1], found {p}.")
    return p

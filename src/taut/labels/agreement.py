"""Do annotators agree, and does the judge agree with them? Numbers with finite-sample intervals.

Everything here is an interval that holds at any number of items, given that the items are
independent draws (one rollout of each of several prompts, chosen by a sheet):

* the share of equal answers is a mean: Clopper-Pearson for two annotators, bets for more;
* Cohen's kappa (0/1 labels) and Krippendorff's alpha: bets on a linear form of single items, at
  every value that the means may have (`taut.labels.chance_corrected`) [ours];
* true-positive and true-negative rates of a judge at a threshold fixed beforehand: Clopper-Pearson.

Source: Cohen (1960); Krippendorff (2011); Waudby-Smith & Ramdas (2024) for the bets.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from taut.errors import AssumptionError, UsageError
from taut.inequalities.concentration import require_delta
from taut.inequalities.mean import mean_interval
from taut.labels.chance_corrected import alpha_interval, kappa_interval

FEWEST = 4  # items that two annotators must share for a kappa


class Measured(BaseModel):
    """One number about labels.

    Attributes:
        name: What it is.
        between: Whose labels.
        estimate: From these items.
        lower, upper: Interval, finite-sample, at the level of the report for this number.
        items: Independent items behind it.
        source: How the interval is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    between: str
    estimate: float | None
    lower: float
    upper: float
    items: int
    source: str


class Agreement(BaseModel):
    """What annotators and judge have in common.

    Attributes:
        level: Probability with which each interval by itself holds.
        measured: The numbers.
        notes: What could not be said, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float
    measured: tuple[Measured, ...]
    notes: tuple[str, ...] = ()


def agreement(
    labels: np.ndarray,
    names: Sequence[str],
    *,
    low: float = 0.0,
    high: float = 1.0,
    delta: float = 0.05,
) -> Agreement:
    """Compare annotators on items that several of them labelled.

    Args:
        labels: Shape (items, annotators), NaN where an annotator gave none; one item a draw, in an
            order that has nothing to do with the labels.
        names: Of the annotators.
        low, high: Range of the labels.
        delta: Allowed probability of a miss of each interval by itself.

    Raises:
        AssumptionError: A label leaves the range.
        UsageError: Shapes do not fit.
    """
    labels = np.asarray(labels, dtype=np.float64)
    require_delta(delta)
    if labels.ndim != 2 or labels.shape[1] != len(names):
        raise UsageError(f"labels: expected one column for each of {len(names)} annotators.")
    with np.errstate(invalid="ignore"):
        if np.any((labels < low) | (labels > high)):
            raise AssumptionError(f"labels: expected values in [{low:g}, {high:g}].")
    unit = (labels - low) / (high - low)
    measured, notes = [], []
    for first, second in itertools.combinations(range(len(names)), 2):
        both = ~np.isnan(unit[:, first]) & ~np.isnan(unit[:, second])
        pair = f"{names[first]} and {names[second]}"
        if both.sum() < FEWEST:
            notes.append(f"{pair}: {int(both.sum())} items in common, too few; draw more overlap.")
            continue
        measured += _pair(unit[both][:, [first, second]], pair, delta)
    several = unit[(~np.isnan(unit)).sum(axis=1) > 1]
    if len(several) >= FEWEST:
        measured.append(_alpha(several, delta))
    elif not notes:
        notes.append("no rollout has labels of two annotators; draw a sheet with --overlap.")
    return Agreement(level=1 - delta, measured=tuple(measured), notes=tuple(notes))


def judge_rates(
    judge: np.ndarray, gold: np.ndarray, *, threshold: float, delta: float = 0.05
) -> tuple[Measured, Measured]:
    """True-positive and true-negative rate of a judge that says yes from a threshold on.

    Args:
        judge: Reward or judge's score of labelled rows, one row a draw, shape (rows,).
        gold: Their labels, 0 or 1.
        threshold: Fixed before the labels: the best of several is no fair judge.
        delta: Allowed probability of a miss of each interval by itself.

    Raises:
        AssumptionError: A label is neither 0 nor 1, or there is none of one kind.
    """
    gold = np.asarray(gold, dtype=np.float64)
    if not np.isin(gold, (0.0, 1.0)).all():
        raise AssumptionError(
            "true-positive rates need labels that are 0 or 1; join annotators by majority, and "
            "leave ties out."
        )
    said = np.asarray(judge) >= threshold
    rates = []
    for name, kind, right in (
        ("true-positive rate", 1.0, said),
        ("true-negative rate", 0.0, ~said),
    ):
        hits = right[gold == kind].astype(np.float64)
        if not len(hits):
            raise AssumptionError(f"{name}: expected at least one label {kind:g}, found none.")
        found = mean_interval(hits, low=0, high=1, delta=delta, method="clopper-pearson")
        rates.append(
            Measured(
                name=f"{name} at {threshold:g}",
                between="judge and labels",
                estimate=float(hits.mean()),
                lower=found.lower,
                upper=found.upper,
                items=len(hits),
                source="Clopper-Pearson",
            )
        )
    return rates[0], rates[1]


def _pair(unit: np.ndarray, pair: str, delta: float) -> list[Measured]:
    a, b = unit.T
    equal = (a == b).astype(np.float64)
    share = mean_interval(equal, low=0, high=1, delta=delta, method="clopper-pearson")
    found = [
        Measured(
            name="share of equal labels",
            between=pair,
            estimate=float(equal.mean()),
            lower=share.lower,
            upper=share.upper,
            items=len(a),
            source="Clopper-Pearson",
        )
    ]
    if np.isin(unit, (0.0, 1.0)).all():
        expected = float(a.mean() * (1 - b.mean()) + b.mean() * (1 - a.mean()))
        lower, upper = kappa_interval(a, b, delta=delta)
        found.append(
            Measured(
                name="Cohen's kappa",
                between=pair,
                estimate=1 - float((a != b).mean()) / expected if expected > 0 else None,
                lower=lower,
                upper=upper,
                items=len(a),
                source="bets, at every mean that the annotators may have",
            )
        )
    return found


def _alpha(unit: np.ndarray, delta: float) -> Measured:
    counts = (~np.isnan(unit)).sum(axis=1)
    mean, square = np.nansum(unit, axis=1) / counts, np.nansum(unit**2, axis=1) / counts
    within = 2 * np.maximum(square - mean**2, 0.0) * counts / (counts - 1)
    lower, upper = alpha_interval(mean, square, np.minimum(within, 1.0), delta=delta)
    n = len(unit)
    # As in the textbook, with items of equal weight: no label is paired with itself.
    total = counts.sum()
    expected = float(2 * (square.mean() - mean.mean() ** 2) * total / (total - 1))
    return Measured(
        name="Krippendorff's alpha",
        between="all annotators",
        estimate=1 - float(within.mean()) / expected if expected > 0 else None,
        lower=lower,
        upper=upper,
        items=n,
        source="bets, at every mean that the labels may have",
    )

"""What exact tests of a log's making have in common: their outcome, and sharing a level.

An exact test of this package returns a p-value that no honest log makes small, whatever its rewards
are: P(p <= a) <= a for every a, conditional on what does not depend on the choice that is tested.
So a skewed, tied or constant reward is never accused, and rare successes need no minimum count.
"""

from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError


@dataclass(frozen=True, slots=True)
class ExactTest:
    """Outcome of an exact test.

    Attributes:
        p_value: Under the null hypothesis P(p_value <= a) <= a for every a; in (0, 1].
        least: The smallest p-value that this log could have given: above the level that is asked
            for, the test saw too little to say anything, and its silence is no evidence.
        statistic: Which of its statistics gave the p-value; "" where there was none to look at.
    """

    p_value: float
    least: float
    statistic: str


def union(tests: list[ExactTest]) -> ExactTest:
    """Return Bonferroni's test of several."""
    if not tests:
        return ExactTest(1.0, 1.0, "")
    parts = [_shared(test, len(tests)) for test in tests]
    found = min(parts, key=lambda test: test.p_value)
    return ExactTest(found.p_value, min(test.least for test in parts), found.statistic)


def _shared(test: ExactTest, ways: int) -> ExactTest:
    """Return a test at one of so many equal shares of the level."""
    p_value, least = min(1.0, ways * test.p_value), min(1.0, ways * test.least)
    return ExactTest(p_value, least, test.statistic)


def same_length(**columns: np.ndarray) -> list[np.ndarray]:
    """Return columns as arrays of one length, or raise AssumptionError."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise AssumptionError(f"expected columns of one length, found shapes {shapes}.")
    return list(arrays.values())


def narrow(codes: np.ndarray) -> np.ndarray:
    """Return whole numbers in 16 bits where these hold them, as such are sorted in one pass."""
    if codes.dtype.kind in "iu" and len(codes) and codes.min() >= 0 and codes.max() < 1 << 16:
        return codes.astype(np.uint16)
    return codes


def checked_starts(starts: np.ndarray, rows: int) -> np.ndarray:
    """Return starts as int64, or raise AssumptionError unless they increase from 0 to rows."""
    starts = np.asarray(starts, dtype=np.int64)
    whole = starts.ndim == 1 and len(starts) > 0 and starts[0] == 0 and starts[-1] == rows
    if not (whole and np.all(np.diff(starts) > 0)):
        raise AssumptionError(
            f"starts: expected increasing first rows of draws from 0 to {rows}, the number of "
            f"rows, found {starts}."
        )
    return starts

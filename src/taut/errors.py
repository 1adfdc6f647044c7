"""What can go wrong, said so that the reader knows what to do next.

Every message states what was expected, what was found, where, and a remedy. Each class is also
the standard-library error that a caller would expect to catch.
"""


class TautError(Exception):
    """Root of all errors that taut raises on purpose."""


class LogError(TautError, ValueError):
    """A log cannot be read as rollouts: wrong file, row, column or value."""


class AssumptionError(TautError, ValueError):
    """Data or settings contradict what a theorem assumes (a range, a count, a probability)."""


class UsageError(TautError, ValueError):
    """The request itself makes no sense: options that exclude each other or lack a partner."""


class CoverageError(AssumptionError):
    """A route from reward data is not open: columns are missing, or the weights contradict it."""

"""Miss-rate checks: does an interval miss the truth more often than it may (theory §9)?

Both checks use the exact binomial law of the number of misses, so neither has a tolerance to tune.
"""

from scipy import stats

from taut.draws.layout import lay_out

# Probability that the check accuses a method whose true miss rate equals delta.
FALSE_ALARM = 1e-3


def blocks_of(rollouts, seed=0, mode="sample"):
    """Return the draws of a log, in draw order."""
    return lay_out(rollouts, seed=seed, mode=mode).blocks


def miss_rate_lower_limit(misses: int, trials: int) -> float:
    """Return the one-sided 99.9% Clopper-Pearson lower limit of the miss rate."""
    return 0.0 if misses == 0 else float(stats.beta.ppf(FALSE_ALARM, misses, trials - misses + 1))


def misses_more_than(misses: int, trials: int, delta: float) -> bool:
    """Return whether so many misses prove, at 99.9%, a miss rate above delta.

    A sound method is accused with probability at most 0.1%. For planted mistakes this must be true:
    with 2,000 trials at delta = 0.05 it accuses a true miss rate of 7.5% with probability 0.94.
    """
    return miss_rate_lower_limit(misses, trials) > delta


def assert_misses_at_most(misses: int, trials: int, delta: float, what: str = "interval") -> None:
    """Fail if the misses prove, at 99.9%, that the miss rate exceeds delta."""
    assert trials > 0, f"{what}: nothing was tried"
    assert not misses_more_than(misses, trials, delta), (
        f"{what}: {misses} misses in {trials} trials, so the miss rate is above "
        f"{miss_rate_lower_limit(misses, trials):.4f} (99.9%), allowed {delta}"
    )

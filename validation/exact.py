"""Exact expectations over finite laws, in fractions: what the checks of docs/theory.md share."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

CHECKS: list["Check"] = []


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of docs/theory.md and the function that tries it.

    Attributes:
        section: Of docs/theory.md, as it is cited: "2.4b", "3.6".
        says: The statement, in one line.
        run: Raises AssertionError where the statement fails; returns the numbers found, as text.
    """

    section: str
    says: str
    run: Callable[[], str]


def check(section: str, says: str) -> Callable:
    """Enter a function in the list of checks."""

    def enter(run: Callable[[], str]) -> Callable[[], str]:
        CHECKS.append(Check(section, says, run))
        return run

    return enter


def half(numerator: int = 1) -> Fraction:
    """Return numerator / 2."""
    return Fraction(numerator, 2)


def outcomes(laws: Iterable[dict]) -> Iterator[tuple[tuple, Fraction]]:
    """Yield every joint outcome of independent variables with its probability.

    Args:
        laws: One dictionary for each variable: value -> probability.
    """
    for joint in itertools.product(*(law.items() for law in laws)):
        yield (
            tuple(value for value, _ in joint),
            math.prod((chance for _, chance in joint), start=Fraction(1)),
        )


def coin(success: Fraction) -> dict:
    """Return the law of a 0/1 variable."""
    return {Fraction(1): Fraction(success), Fraction(0): 1 - Fraction(success)}


def capital(blocks: Iterable, mean, bet: Callable) -> Fraction:
    """Return prod_t (1 + bet(blocks before t) * (block_t - mean)), the fortune of a lower end."""
    wealth, past = Fraction(1), ()
    for block in blocks:
        wealth *= 1 + bet(past) * (block - mean)
        past = (*past, block)
    return wealth


def binomial(n: int, k: int, p: float) -> float:
    """Return P(Bin(n, p) = k)."""
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def poisson_binomial(chances: Iterable[float]) -> list:
    """Return P(S = k), k = 0..n, of a sum of independent 0/1 variables."""
    law = [1]
    for p in chances:
        law = [
            (law[k] if k < len(law) else 0) * (1 - p) + (law[k - 1] * p if k else 0)
            for k in range(len(law) + 1)
        ]
    return law

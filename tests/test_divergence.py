"""The Bernoulli divergence and its inverses agree with 40-digit arithmetic and never round in."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taut.errors import AssumptionError
from taut.inequalities.divergence import bernoulli_kl, kl_lower, kl_upper

mpmath.mp.dps = 40

PAIRS = [
    (0.3, 0.5),
    (0.5, 0.3),
    (0.3, 0.3000001),
    (0.98, 0.9),
    (1e-6, 0.2),
    (0.0, 0.25),
    (1.0, 0.75),
    (0.999, 0.9999),
]
BUDGETS = [1e-9, 1e-6, 1e-3, 0.05, 1.0, 5.0]


def exact_kl(p, q):
    p, q = mpmath.mpf(p), mpmath.mpf(q)
    first = p * mpmath.log(p / q) if p > 0 else mpmath.mpf(0)
    second = (1 - p) * mpmath.log((1 - p) / (1 - q)) if p < 1 else mpmath.mpf(0)
    return first + second


def exact_inverse(p, budget, outer):
    inside, outside = mpmath.mpf(p), mpmath.mpf(outer)
    for _ in range(120):
        middle = (inside + outside) / 2
        near = middle not in (0, 1) and exact_kl(p, middle) <= budget
        inside, outside = (middle, outside) if near else (inside, middle)
    return inside


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_kl_has_twelve_digits(p, q):
    """kl agrees with 40-digit arithmetic to 12 digits, also where p and q nearly agree."""
    exact = exact_kl(p, q)
    assert abs(float(bernoulli_kl(p, q)) - exact) <= 1e-12 * exact


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.999999, 1.0])
@pytest.mark.parametrize("budget", BUDGETS)
def test_inverses_have_twelve_digits_and_round_outward(p, budget):
    """Both inverses are within 1e-12 of the exact ones and never inside them."""
    upper, lower = exact_inverse(p, budget, 1), exact_inverse(p, budget, 0)
    above = mpmath.mpf(float(kl_upper(p, budget))) - upper
    below = lower - mpmath.mpf(float(kl_lower(p, budget)))
    tiny = mpmath.mpf(10) ** -30  # the resolution of the exact bisection
    assert -tiny <= above <= 1e-12
    assert -tiny <= below <= 1e-12


def test_inverses_are_vectorised():
    """Arrays broadcast, and every entry equals the scalar result."""
    p, budget = np.linspace(0, 1, 7)[:, None], np.array(BUDGETS)
    upper, lower = kl_upper(p, budget), kl_lower(p, budget)
    assert upper.shape == lower.shape == (7, len(BUDGETS))
    for i in range(7):
        for j, one in enumerate(BUDGETS):
            assert upper[i, j] == kl_upper(p[i, 0], one)
            assert lower[i, j] == kl_lower(p[i, 0], one)


@given(st.floats(0, 1), st.floats(0, 50), st.floats(0, 50))
@example(2e-309, 0.0, 0.0)
@example(1e-201, 1e-9, 1.0)
@example(1.0 - 1e-16, 0.0, 30.0)
def test_inverses_grow_with_the_budget(p, one, other):
    """A larger budget never gives a smaller region, and p is always inside."""
    small, large = sorted((one, other))
    assert kl_lower(p, large) <= kl_lower(p, small) <= p <= kl_upper(p, small)
    assert kl_upper(p, small) <= kl_upper(p, large) <= 1


def test_impossible_is_infinitely_far():
    """kl is infinite where q excludes what p allows, and zero where they agree."""
    p, q = [0.0, 1.0, 0.5, 0.5, 1e-300], [1.0, 0.0, 0.0, 1.0, 0.0]
    assert np.all(np.isinf(bernoulli_kl(p, q)))
    assert np.all(bernoulli_kl([0.0, 0.3, 1.0], [0.0, 0.3, 1.0]) == 0)


def test_refuses_what_is_no_probability():
    """Values outside [0, 1], NaN, and negative budgets are refused."""
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(AssumptionError, match="probabilities"):
            kl_upper(p, 0.1)
    with pytest.raises(AssumptionError, match="budget"):
        kl_lower(0.5, -1e-9)

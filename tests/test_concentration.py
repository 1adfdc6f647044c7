"""Closed forms: 12 digits against mpmath, and the properties that theorems promise."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.errors import AssumptionError
from taut.inequalities.concentration import (
    chernoff,
    clopper_pearson,
    clustered_normal,
    empirical_bernstein,
    hoeffding,
    paper_alpha,
)

mpmath.mp.dps = 40

BLOCKS = np.array([0.31, 0.22, 0.47, 0.15, 0.66, 0.28, 0.39, 0.05, 0.51, 0.33] * 40)
FORMS = [hoeffding, chernoff, empirical_bernstein, clustered_normal]
MIXED = st.lists(st.floats(-2, 3), min_size=2, max_size=40).map(np.array)
DELTAS = st.floats(1e-6, 0.9)


def exact_moments(blocks):
    values = [mpmath.mpf(float(value)) for value in blocks]
    mean = mpmath.fsum(values) / len(values)
    return mean, mpmath.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def assert_golden(found, exact, outward):
    """12 digits, and not inside the exact end."""
    assert abs(mpmath.mpf(found) - exact) <= 1e-12 * max(1, abs(exact))
    assert outward * (mpmath.mpf(found) - exact) >= 0


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.5, 2.5)])
def test_hoeffding_golden(side, low, high):
    """W sqrt(ln(1/eta) / 2n), to 12 digits, rounded outward."""
    found = hoeffding(BLOCKS, low=low, high=high, delta=0.05, side=side)
    eta = mpmath.mpf(0.05) / (2 if side == "both" else 1)
    reach = (mpmath.mpf(high) - low) * mpmath.sqrt(mpmath.log(1 / eta) / (2 * len(BLOCKS)))
    mean, _ = exact_moments(BLOCKS)
    if side == "upper":
        assert found.lower == low
    else:
        assert_golden(found.lower, mean - reach, -1)
    if side == "lower":
        assert found.upper == high
    else:
        assert_golden(found.upper, mean + reach, 1)


def test_bernstein_golden():
    """sqrt(2 V ln(4/delta) / n) + 7 W ln(4/delta) / (3 (n - 1)), to 12 digits."""
    found = empirical_bernstein(BLOCKS, low=-1, high=2, delta=0.05)
    mean, variance = exact_moments(BLOCKS)
    n, log_term = len(BLOCKS), mpmath.log(4 / mpmath.mpf(0.05))
    reach = mpmath.sqrt(2 * variance * log_term / n) + 21 * log_term / (3 * (n - 1))
    assert_golden(found.lower, mean - reach, -1)
    assert_golden(found.upper, mean + reach, 1)


def test_normal_golden():
    """z sd / sqrt(n), to 12 digits."""
    found = clustered_normal(BLOCKS, low=0, high=1, delta=0.05)
    mean, variance = exact_moments(BLOCKS)
    z = mpmath.sqrt(2) * mpmath.erfinv(1 - mpmath.mpf(0.05))
    assert_golden(found.upper, mean + z * mpmath.sqrt(variance / len(BLOCKS)), 1)


def test_chernoff_golden():
    """The ends solve kl(mean || q) = ln(2/delta) / n, to 12 digits."""
    found = chernoff(BLOCKS, low=0, high=1, delta=0.05)
    p, _ = exact_moments(BLOCKS)
    budget = mpmath.log(2 / mpmath.mpf(0.05)) / len(BLOCKS)

    def gap(q):
        return p * mpmath.log(p / q) + (1 - p) * mpmath.log((1 - p) / (1 - q)) - budget

    assert_golden(found.lower, mpmath.findroot(gap, (0.2, 0.3), solver="anderson"), -1)
    assert_golden(found.upper, mpmath.findroot(gap, (0.4, 0.5), solver="anderson"), 1)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (49, 50), (3, 1000), (1, 1)])
def test_clopper_pearson_golden(hits, n):
    """At the ends the binomial tail is exactly delta / 2, to 12 digits."""
    found = clopper_pearson(np.r_[np.ones(hits), np.zeros(n - hits)], delta=0.05)
    eta = mpmath.mpf(0.05) / 2

    def at_least(k, p):
        return mpmath.fsum(
            mpmath.binomial(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1)
        )

    if hits == 0:
        assert found.lower == 0
    else:
        assert abs(at_least(hits, mpmath.mpf(found.lower)) - eta) <= 1e-12 * n
        assert at_least(hits, mpmath.mpf(found.lower)) <= eta
    if hits == n:
        assert found.upper == 1
    else:
        rest = 1 - at_least(hits + 1, mpmath.mpf(found.upper))
        assert abs(rest - eta) <= 1e-12 * n
        assert rest <= eta


def test_alpha_golden():
    """Theorem 1's alpha, to 12 digits, for equal and unequal K."""
    log_term = mpmath.log(4 / mpmath.mpf(0.05))
    exact = mpmath.sqrt(log_term / 2000) + mpmath.sqrt(log_term / 8000)
    assert abs(paper_alpha(1000, 4, 0.05) - exact) <= 1e-12
    sizes = np.array([1, 2, 4, 4, 8])
    total = mpmath.fsum(mpmath.mpf(1) / int(size) for size in sizes)
    exact = mpmath.sqrt(log_term / 10) + mpmath.sqrt(log_term * total / 50)
    assert abs(paper_alpha(5, sizes, 0.05) - exact) <= 1e-12
    assert math.isclose(paper_alpha(5, np.full(5, 3), 0.05), paper_alpha(5, 3, 0.05))


@pytest.mark.parametrize("form", FORMS)
@given(x=MIXED, delta=DELTAS, other=DELTAS)
def test_smaller_delta_is_never_narrower(form, x, delta, other):
    """The interval at the smaller delta contains the one at the larger."""
    small, large = sorted((delta, other))
    wide = form(x, low=-2, high=3, delta=small)
    tight = form(x, low=-2, high=3, delta=large)
    assert wide.lower <= tight.lower <= tight.upper <= wide.upper


@pytest.mark.parametrize("form", FORMS)
@given(x=MIXED, copies=st.integers(2, 5), delta=DELTAS)
def test_more_of_the_same_data_is_narrower(form, x, copies, delta):
    """Repeating the sample (same mean, more blocks) never widens the interval."""
    once = form(x, low=-2, high=3, delta=delta)
    often = form(np.tile(x, copies), low=-2, high=3, delta=delta)
    assert often.width <= once.width + 1e-12


@pytest.mark.parametrize("form", FORMS)
@given(x=MIXED, delta=DELTAS)
def test_never_leaves_the_range_and_never_depends_on_order(form, x, delta):
    """Ends stay in [low, high]; the reversed data give the same bytes."""
    found = form(x, low=-2, high=3, delta=delta)
    assert -2 <= found.lower <= found.upper <= 3
    assert form(x[::-1], low=-2, high=3, delta=delta) == found


@pytest.mark.parametrize("form", FORMS)
@given(x=MIXED, delta=DELTAS, scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_units_do_not_matter(form, x, delta, scale, shift):
    """An affine change of units changes the ends in the same way."""
    found = form(x, low=-2, high=3, delta=delta)
    low, high = scale * -2 + shift, scale * 3 + shift
    moved = form(np.clip(scale * x + shift, low, high), low=low, high=high, delta=delta)
    tolerance = 1e-9 * (scale + abs(shift))
    assert abs(moved.lower - (scale * found.lower + shift)) <= tolerance
    assert abs(moved.upper - (scale * found.upper + shift)) <= tolerance


@given(x=MIXED, delta=DELTAS)
def test_chernoff_is_never_wider_than_hoeffding(x, delta):
    """Theory §2.2: the kl form lies within Hoeffding's interval, up to outward rounding."""
    sharp = chernoff(x, low=-2, high=3, delta=delta)
    plain = hoeffding(x, low=-2, high=3, delta=delta)
    assert plain.lower <= sharp.lower + 1e-12 and sharp.upper <= plain.upper + 1e-12


@given(n=st.integers(1, 500), k=st.integers(1, 64), delta=DELTAS)
def test_the_papers_term_is_never_below_hoeffding(n, k, delta):
    """Theory §2.2: block Hoeffding is at most the paper's alpha."""
    assert math.sqrt(math.log(2 / delta) / (2 * n)) <= paper_alpha(n, k, delta)


@pytest.mark.parametrize("form", [*FORMS, clopper_pearson])
def test_one_side_gets_all_of_delta(form):
    """A one-sided interval at delta has the end of the two-sided one at 2 delta."""
    x = np.tile([0.0, 1.0, 1.0], 30)
    both = form(x, low=0, high=1, delta=0.1)
    lower = form(x, low=0, high=1, delta=0.05, side="lower")
    upper = form(x, low=0, high=1, delta=0.05, side="upper")
    assert (lower.lower, lower.upper) == (both.lower, 1)
    assert (upper.lower, upper.upper) == (0, both.upper)


@pytest.mark.parametrize("form", [*FORMS, clopper_pearson])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01])
def test_names_the_value_that_breaks_the_range(form, bad):
    """The error gives the index and the value."""
    with pytest.raises(AssumptionError, match=rf"block 2 is {bad}"):
        form(np.array([0.0, 1.0, bad, 1.0]), low=0, high=1, delta=0.05)


@pytest.mark.parametrize("form", [*FORMS, clopper_pearson])
def test_refuses_what_the_theorem_does_not_cover(form):
    """Bad delta, side, range, shape or no data are refused."""
    good = np.array([0.0, 1.0, 1.0])
    for delta in (0.0, 1.0, -0.1, np.nan):
        with pytest.raises(AssumptionError, match="delta"):
            form(good, low=0, high=1, delta=delta)
    with pytest.raises(AssumptionError, match="side"):
        form(good, low=0, high=1, delta=0.05, side="left")
    for low, high in ((1, 1), (1, 0), (-np.inf, 1), (np.nan, 1)):
        with pytest.raises(AssumptionError, match="range"):
            form(good, low=low, high=high, delta=0.05)
    for shape in ((0,), (2, 2)):
        with pytest.raises(AssumptionError, match="block"):
            form(np.ones(shape), low=0, high=1, delta=0.05)


def test_needs_enough_data():
    """Variance-based forms need two blocks; Clopper-Pearson needs two values."""
    for form in (empirical_bernstein, clustered_normal):
        with pytest.raises(AssumptionError, match="at least 2"):
            form(np.array([0.5]), low=0, high=1, delta=0.05)
    with pytest.raises(AssumptionError, match=r"block 1 is .*0\.5"):
        clopper_pearson(np.array([0.0, 0.5]), delta=0.05)
    with pytest.raises(AssumptionError, match="rollout"):
        paper_alpha(3, np.array([1, 2]), 0.05)
    with pytest.raises(AssumptionError, match="rollout"):
        paper_alpha(0, 1, 0.05)

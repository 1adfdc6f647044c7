"""mean_interval holds as often as it says, honours every option, and our check can tell."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from taut.errors import AssumptionError, UsageError
from taut.inequalities.concentration import empirical_bernstein, hoeffding
from taut.inequalities.mean import (
    anytime_path,
    draw_order,
    mean_interval,
    ordered_mean_interval,
)
from taut.types import Interval

AUDITS = 2000
# Name: (one sample, true mean)
LAWS = {
    "Bernoulli(.98)": (lambda rng, n: (rng.random(n) < 0.98).astype(float), 0.98),
    "Beta(2,5)": (lambda rng, n: rng.beta(2, 5, n), 2 / 7),
    "{0,.5,1}": (lambda rng, n: rng.integers(0, 3, n) / 2, 0.5),
    "rare high value": (lambda rng, n: np.where(rng.random(n) < 0.02, 0.9, 0.3), 0.312),
    "coin": (lambda rng, n: rng.integers(0, 2, n).astype(float), 0.5),
}
METHODS = ["betting", "mixture", "anytime", "bernstein", "chernoff", "hoeffding", "normal"]
VALID = METHODS[:-1]


def may_be_valid(misses, audits, delta):
    """The exact binomial 99.9% lower limit of the miss rate is at most delta (theory §9)."""
    limit = beta.ppf(0.001, misses, audits - misses + 1) if misses else 0.0
    return limit <= delta


def misses_of(interval, law, n, audits=AUDITS, seed=1):
    """How many of `audits` fresh samples give an interval without the true mean."""
    draw, truth = LAWS[law]
    rng = np.random.default_rng([seed, n])
    missed = 0
    for _ in range(audits):
        found = interval(draw(rng, n))
        missed += not found.lower <= truth <= found.upper
    return missed


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [1, 2, 5, 20, 100, 1000])
def test_betting_rarely_misses(law, n):
    """At most a fraction delta of the default intervals exclude the true mean."""
    missed = misses_of(lambda x: mean_interval(x, low=0, high=1), law, n)
    assert may_be_valid(missed, AUDITS, 0.05)


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("law", ["Bernoulli(.98)", "Beta(2,5)", "rare high value"])
def test_one_sided_betting_rarely_misses(law, side):
    """One-sided intervals at 20% keep their promise too."""
    for n in (5, 100):
        missed = misses_of(lambda x: mean_interval(x, low=0, high=1, delta=0.2, side=side), law, n)
        assert may_be_valid(missed, AUDITS, 0.2)


@pytest.mark.parametrize("method", ["mixture", "anytime", "bernstein", "chernoff", "hoeffding"])
@pytest.mark.parametrize("law", ["Bernoulli(.98)", "{0,.5,1}"])
def test_other_methods_rarely_miss(method, law):
    """The check passes for every valid method."""
    audits = {"chernoff": 80, "anytime": 300}.get(method, AUDITS)
    for n in (2, 20, 200):
        missed = misses_of(
            lambda x: mean_interval(x, low=0, high=1, delta=0.2, method=method), law, n, audits
        )
        assert may_be_valid(missed, audits, 0.2)


def test_clopper_pearson_rarely_misses():
    """Declared binary data keep the level exactly."""
    for law, n in (("Bernoulli(.98)", 20), ("Bernoulli(.98)", 200), ("coin", 100)):
        missed = misses_of(lambda x: mean_interval(x, low=0, high=1, binary=True), law, n)
        assert may_be_valid(missed, AUDITS, 0.05)


def test_mixture_holds_for_the_average_of_drifting_means():
    """Independent blocks whose means drift: the average mean is rarely missed."""
    rng = np.random.default_rng(5)
    chances = np.linspace(0.2, 0.9, 150)
    missed = 0
    for _ in range(AUDITS):
        x = (rng.random(150) < chances).astype(float)
        found = mean_interval(x, low=0, high=1, delta=0.2, method="mixture")
        missed += not found.lower <= chances.mean() <= found.upper
    assert may_be_valid(missed, AUDITS, 0.2)


def test_anytime_may_be_looked_at_after_every_value():
    """The share of paths that exclude the mean at *any* of many looks is at most delta."""
    rng = np.random.default_rng(2)
    looks = np.unique(np.geomspace(1, 400, 25).astype(int))
    missed = 0
    for _ in range(600):
        x = rng.integers(0, 2, 400).astype(float)
        _, lower, upper = anytime_path(x, low=0, high=1, delta=0.2, times=looks)
        missed += not (lower.max() <= 0.5 <= upper.min())
    assert may_be_valid(missed, 600, 0.2)


# Power: planted mistakes, each rejected by the same check.


def test_miss_check_rejects_a_dropped_logarithm():
    """Hoeffding without its ln(2/delta) is caught."""

    def planted(x):
        reach = math.sqrt(1 / (2 * len(x)))
        return Interval(x.mean() - reach, x.mean() + reach)

    assert not may_be_valid(misses_of(planted, "coin", 100), AUDITS, 0.05)


def test_miss_check_rejects_a_wrong_variance():
    """Four rollouts of a prompt counted as four prompts: the wrong variance is caught."""

    def planted(x):
        return mean_interval(np.repeat(x, 4), low=0, high=1)

    assert not may_be_valid(misses_of(planted, "Beta(2,5)", 100), AUDITS, 0.05)
    assert may_be_valid(
        misses_of(lambda x: mean_interval(x, low=0, high=1), "Beta(2,5)", 100), AUDITS, 0.05
    )


def test_miss_check_rejects_a_bernstein_bound_without_its_slow_term():
    """The variance term alone misses rare failures."""

    def planted(x):
        reach = math.sqrt(2 * x.var(ddof=1) * math.log(80) / len(x))
        return Interval(x.mean() - reach, x.mean() + reach)

    assert not may_be_valid(misses_of(planted, "Bernoulli(.98)", 20), AUDITS, 0.05)


def test_miss_check_rejects_a_delta_that_is_not_split():
    """Two one-sided ends at delta each, sold as one interval at delta, are caught."""

    def planted(x):
        return ordered_mean_interval(x, low=0, high=1, delta_lower=0.05, delta_upper=0.05)

    assert not may_be_valid(misses_of(planted, "{0,.5,1}", 400), AUDITS, 0.05)


def test_miss_check_rejects_a_sum_of_two_maxima():
    """Adding the best ever fortunes of both sides exceeds 2/delta too often (theory §2.4)."""
    rng = np.random.default_rng(3)
    bet, steps, delta = 0.2, 2000, 0.5
    summed = maxed = 0
    for _ in range(AUDITS):
        gaps = rng.integers(0, 2, steps) - 0.5
        up = np.exp(np.cumsum(np.log1p(bet * gaps)).max())
        down = np.exp(np.cumsum(np.log1p(-bet * gaps)).max())
        summed += max(up, 1.0) + max(down, 1.0) >= 2 / delta
        maxed += max(up, down) >= 2 / delta
    assert not may_be_valid(summed, AUDITS, delta)
    assert may_be_valid(maxed, AUDITS, delta)


def test_miss_check_rejects_looking_again_and_again():
    """A fixed-n interval looked at while data arrive is caught."""
    looks = np.unique(np.geomspace(20, 600, 16).astype(int))

    def planted(x):
        found = [
            ordered_mean_interval(x[:t], low=0, high=1, delta_lower=0.1, delta_upper=0.1)
            for t in looks
        ]
        return Interval(max(one.lower for one in found), min(one.upper for one in found))

    missed = misses_of(planted, "{0,.5,1}", 600, audits=400)
    assert not may_be_valid(missed, 400, 0.2)


def test_miss_check_rejects_the_normal_interval_on_rare_failures():
    """The normal interval at n = 20 on Bernoulli(.98) is caught."""
    missed = misses_of(
        lambda x: mean_interval(x, low=0, high=1, method="normal"), "Bernoulli(.98)", 20
    )
    assert not may_be_valid(missed, AUDITS, 0.05)


# Tightness.


@pytest.mark.parametrize(("n", "most"), [(50, 1.40), (1000, 1.15), (100_000, 1.10)])
def test_width_stays_near_the_normal_interval(n, most):
    """Beta(2,5): mean width over the mean normal width is within the target."""
    rng = np.random.default_rng(8)
    ours = normal = 0.0
    for _ in range(60 if n <= 1000 else 12):
        x = rng.beta(2, 5, n)
        ours += mean_interval(x, low=0, high=1).width
        normal += mean_interval(x, low=0, high=1, method="normal").width
    assert ours / normal <= most


# Options.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_one_side_is_the_two_sided_end_at_twice_delta(method, side):
    """side spends all of delta on one end and gives the end of the range for the other."""
    x = np.random.default_rng(0).beta(2, 5, 80) * 3 - 1
    both = mean_interval(x, low=-1, high=2, delta=0.1, method=method)
    one = mean_interval(x, low=-1, high=2, delta=0.05, method=method, side=side)
    assert getattr(one, side) == getattr(both, side)
    other = {"lower": ("upper", 2), "upper": ("lower", -1)}[side]
    assert getattr(one, other[0]) == other[1]


@settings(max_examples=25, deadline=None)
@given(
    x=st.lists(st.floats(-2, 3), min_size=2, max_size=60).map(np.array),
    delta=st.floats(1e-6, 0.9),
    method=st.sampled_from(METHODS),
)
def test_stays_in_the_range_and_holds_the_sample_mean(x, delta, method):
    """Every method: within [low, high], not inverted."""
    found = mean_interval(x, low=-2, high=3, delta=delta, method=method)
    assert -2 <= found.lower <= found.upper <= 3
    assert isinstance(found.lower, float) and isinstance(found.upper, float)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 900),
    scale=st.floats(0.01, 100),
    shift=st.floats(-10, 10),
    method=st.sampled_from(["betting", "mixture", "anytime"]),
)
def test_units_and_direction_do_not_matter(seed, n, scale, shift, method):
    """An affine change of units moves both ends with it; mirrored data give mirrored ends."""
    x = np.random.default_rng(seed).beta(2, 5, n)
    found = mean_interval(x, low=0, high=1, method=method)
    low, high = shift, shift + scale
    moved = mean_interval(np.clip(shift + scale * x, low, high), low=low, high=high, method=method)
    near = 1e-4 * scale * found.width
    assert abs(moved.lower - (shift + scale * found.lower)) <= near
    assert abs(moved.upper - (shift + scale * found.upper)) <= near
    mirrored = mean_interval(-x, low=-1, high=0, method=method)
    assert abs(mirrored.lower + found.upper) <= 1e-4 * found.width
    assert abs(mirrored.upper + found.lower) <= 1e-4 * found.width


def test_keys_make_the_order_of_rows_irrelevant():
    """With keys, permuted rows give the same bytes; another seed gives another order."""
    rng = np.random.default_rng(4)
    x, keys = rng.beta(2, 5, 300), rng.integers(0, 2**63, 300).astype(np.uint64)
    found = mean_interval(x, low=0, high=1, keys=keys)
    rows = rng.permutation(300)
    assert mean_interval(x[rows], low=0, high=1, keys=keys[rows]) == found
    assert mean_interval(x, low=0, high=1, keys=keys, seed=1) != found
    assert mean_interval(x, low=0, high=1, keys=keys, seed=2**64) == found


def test_draw_order_is_a_permutation_that_ignores_neighbours():
    """Every row once; neighbouring keys land far apart; seeds give unrelated orders."""
    order = draw_order(10_000, seed=0)
    assert np.array_equal(np.sort(order), np.arange(10_000))
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(order, draw_order(10_000, seed=1))[0, 1]) < 0.05


def test_each_end_has_its_own_delta():
    """ordered_mean_interval: None or 0 gives a trivial end, otherwise that end's own level."""
    x = np.random.default_rng(0).beta(2, 5, 200)
    lower = ordered_mean_interval(x, low=0, high=1, delta_lower=0.01, delta_upper=None)
    assert lower.upper == 1 and lower.lower > 0
    upper = ordered_mean_interval(x, low=0, high=1, delta_lower=0, delta_upper=0.2)
    assert upper.lower == 0 and upper.upper < 1
    both = ordered_mean_interval(x, low=0, high=1, delta_lower=0.01, delta_upper=0.2)
    assert both == Interval(lower.lower, upper.upper)
    nothing = ordered_mean_interval(x, low=0, high=1, delta_lower=None, delta_upper=None)
    assert nothing == Interval(0.0, 1.0)
    for method, closed in (("hoeffding", hoeffding), ("bernstein", empirical_bernstein)):
        found = ordered_mean_interval(
            x, low=0, high=1, delta_lower=0.01, delta_upper=0.2, method=method
        )
        assert found.lower == closed(x, low=0, high=1, delta=0.01, side="lower").lower
        assert found.upper == closed(x, low=0, high=1, delta=0.2, side="upper").upper


def test_constant_data_give_a_narrow_interval_around_the_constant():
    """No variance seen: narrow, not empty, and valid for means nearby."""
    for method in ("betting", "mixture", "anytime"):
        for value in (0.3, 0.5, 0.999):
            found = mean_interval(np.full(200, value), low=0, high=1, method=method)
            assert found.lower < value < found.upper
            assert found.width < 0.06


def test_one_value_is_enough():
    """n = 1 gives a wide interval that contains the value."""
    for method in ("betting", "mixture", "anytime", "chernoff", "hoeffding"):
        for value in (0.0, 0.4, 1.0):
            found = mean_interval([value], low=0, high=1, method=method)
            assert found.lower <= value <= found.upper and found.width > 0.9


def test_a_tiny_delta_gives_a_true_interval():
    """However small delta is, the interval is finite, ordered and no wider than the range."""
    x = np.random.default_rng(0).beta(2, 5, 400)
    for method in ("betting", "mixture", "anytime"):
        widths = [
            mean_interval(x, low=0, high=1, delta=delta, method=method).width
            for delta in (0.05, 1e-3, 1e-6, 1e-12, 1e-60, 1e-199, 1e-300)
        ]
        assert np.all(np.diff(widths) > 0) and widths[-1] <= 1


def test_anytime_path_ends_where_the_anytime_interval_is():
    """The last row of the path is the interval; the path only shrinks; default times end at n."""
    x = np.random.default_rng(0).beta(2, 5, 500) * 10
    times, lower, upper = anytime_path(x, low=0, high=10)
    last = mean_interval(x, low=0, high=10, method="anytime")
    assert times[0] == 1 and times[-1] == 500
    assert abs(lower[-1] - last.lower) < 1e-5 and abs(upper[-1] - last.upper) < 1e-5
    assert np.all(np.diff(lower) >= 0) and np.all(np.diff(upper) <= 0)
    _, one, trivial = anytime_path(x, low=0, high=10, side="lower", delta=0.025)
    assert np.array_equal(one, lower) and np.all(trivial == 10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.001, 1.001])
def test_refuses_values_outside_the_declared_range(method, bad):
    """NaN, infinities and values out of range are named, never dropped."""
    with pytest.raises(AssumptionError, match=f"block 2 is {bad}"):
        ordered_mean_interval(
            [0.1, 0.2, bad], low=0, high=1, delta_lower=0.1, delta_upper=0.1, method=method
        )
    with pytest.raises(AssumptionError, match=f"block 2 is {bad}"):
        mean_interval([0.1, 0.2, bad], low=0, high=1, method=method)


def test_refuses_requests_that_make_no_sense():
    """Unknown method or side, bad delta, keys of a wrong shape, times that do not increase."""
    x = np.full(5, 0.5)
    with pytest.raises(UsageError, match="method"):
        mean_interval(x, low=0, high=1, method="bootstrap")
    with pytest.raises(AssumptionError, match="side"):
        mean_interval(x, low=0, high=1, side="left")
    for delta in (0, 1, -1, np.nan):
        with pytest.raises(AssumptionError, match="delta"):
            mean_interval(x, low=0, high=1, delta=delta)
    for keys in (np.arange(4), np.arange(5.0)):
        with pytest.raises(UsageError, match="keys"):
            mean_interval(x, low=0, high=1, keys=keys)
    for times in ([], [0, 2], [2, 2], [3, 9]):
        with pytest.raises(UsageError, match="times"):
            anytime_path(x, low=0, high=1, times=times)
    with pytest.raises(AssumptionError, match="Clopper-Pearson"):
        mean_interval(x, low=0, high=1, binary=True)

"""The monitor holds at all times at once, forgets nothing it needs, and decides only what is so."""

import itertools
import json
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check import assert_misses_at_most, misses_more_than
from taut.decisions.stopping.monitor import Monitor
from taut.errors import AssumptionError, UsageError
from taut.inequalities import anytime
from taut.inequalities.mean import anytime_path, mean_interval

SHAPES = {
    "Beta(2,5)": lambda rng, n: rng.beta(2, 5, n),
    "Bernoulli(.98)": lambda rng, n: (rng.random(n) < 0.98).astype(float),
    "{0,.5,1}": lambda rng, n: rng.integers(0, 3, n) / 2,
    "constant": lambda rng, n: np.full(n, 0.3),
}


def sample(name, n, seed=0):
    return SHAPES[name](np.random.default_rng(seed), n)


def watched(x, **settings):
    monitor = Monitor(low=0, high=1, **settings)
    monitor.update(x)
    return monitor


def stopped(x, **settings):
    """The decision of one who stops at the first block that decides."""
    return Monitor(low=0, high=1, **settings).update(x, stop=True)


# --- the mathematics ------------------------------------------------------------------------------


def log_fortune(x, m):
    """ln K(m) in plain NumPy, on the blocks themselves: no grid, no running sums."""
    logs = np.log1p(anytime.BETS[:, None] * (x / m - 1)).sum(1)
    return np.logaddexp.reduce(anytime._LOG_WEIGHTS + logs)


def slow_lower(x, eta):
    """The largest root of K_s over all s, by bisection: the definition of the end."""
    end = 0.0
    for s in range(1, len(x) + 1):
        goal, inner, outer = anytime.log_goal(eta, s), end, 1.0
        if end and log_fortune(x[:s], end) < goal:
            continue
        for _ in range(45):
            middle = 0.5 * (inner + outer)
            inner, outer = (
                (middle, outer) if log_fortune(x[:s], middle) >= goal else (inner, middle)
            )
        end = inner
    return end


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 7, 60])
def test_ends_are_those_of_the_definition(shape, n):
    """Never above the root of the mixture itself, and below it by 1/200 of the way to the mean."""
    x = sample(shape, n, seed=n)
    found = watched(x).interval
    for end, values in ((found.lower, x), (1 - found.upper, 1 - x)):
        exact = slow_lower(values, 0.025)
        near = abs(values.mean() - exact) / 200 + 3e-4  # the first candidate, and the grid
        assert exact - near <= end <= exact + 1e-12


@pytest.mark.parametrize("shape", ["Beta(2,5)", "Bernoulli(.98)"])
def test_the_fortune_at_the_end_is_real(shape):
    """In 40-digit arithmetic the mixture on the blocks themselves reaches 1/eta at the end."""
    x = sample(shape, 150, seed=3)
    end = watched(x).interval.lower
    with mpmath.workdps(40):
        weights = [mpmath.e ** mpmath.mpf(w) for w in anytime._LOG_WEIGHTS.tolist()]
        fortunes, best = [mpmath.mpf(1)] * len(weights), mpmath.mpf(0)
        for value in x.tolist():
            gain = mpmath.mpf(value) / mpmath.mpf(end) - 1
            fortunes = [
                fortune * (1 + mpmath.mpf(bet) * gain)
                for fortune, bet in zip(fortunes, anytime.BETS.tolist(), strict=True)
            ]
            best = max(best, sum(w * f for w, f in zip(weights, fortunes, strict=True)))
        assert sum(weights) <= 1 + mpmath.mpf(10) ** -14
        assert best >= 1 / mpmath.mpf(0.025)


@settings(max_examples=40, deadline=None)
@given(x=st.lists(st.floats(0, 1), min_size=1, max_size=30), m=st.floats(0.01, 1))
def test_spreading_blocks_over_the_grid_never_raises_a_fortune(x, m):
    """The logarithm is concave: what the grid makes of blocks is a lower bound on every path."""
    x = np.array(x)
    weights = anytime.new_weights()
    etas = np.array([0.025, 0.025])
    anytime.extend(anytime.to_units(x, 0, 1), weights, anytime.new_ends(), before=0, etas=etas)
    assert weights.sum() == len(x) * anytime.UNITS
    rounding = len(x) * 100 * anytime.ROUNDING / m
    assert anytime.log_fortune(weights, m, upper=False) <= log_fortune(x, m) + rounding
    assert anytime.log_fortune(weights, m, upper=True) <= log_fortune(1 - x, m) + rounding


def test_bets_are_a_mixture_that_cannot_be_ruined():
    """Weights sum to one, and no bet loses more than 99% at once."""
    assert math.isclose(np.exp(anytime._LOG_WEIGHTS).sum(), 1)
    assert anytime.BETS.max() < 1 and anytime.BETS.min() > 0


@settings(max_examples=40, deadline=None)
@given(bet=st.sampled_from(anytime.BETS.tolist()), gap=st.floats(-1, 1), drift=st.floats(-1, 1))
def test_each_factor_for_varying_means_is_a_fair_game_or_worse(bet, gap, drift):
    """exp(f xi - psi(f) xi^2) <= 1 + f xi <= exp(f xi): the two steps of the proof."""
    psi = -math.log1p(-bet) - bet
    assert math.exp(bet * gap - psi * gap * gap) <= (1 + bet * gap) * (1 + 1e-12)
    assert 1 + bet * drift <= math.exp(bet * drift) * (1 + 1e-12)


# --- one block at a time --------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 80), max_size=5),
    means=st.sampled_from(["equal", "varying"]),
    shape=st.sampled_from(list(SHAPES)),
)
def test_how_blocks_are_cut_into_updates_changes_nothing(seed, cuts, means, shape):
    """Chunks, single values, and a break with the state as JSON give the very same state."""
    x = sample(shape, 80, seed)
    goals = {"width": 0.25, "require_lower": 0.2, "most": 80, "means": means}
    whole = watched(x, **goals)
    parts = Monitor(low=0, high=1, **goals)
    for start, end in itertools.pairwise([0, *sorted(cuts), 80]):
        parts.update(x[start:end] if end - start != 1 else float(x[start]))
        parts = Monitor.from_state(json.loads(json.dumps(parts.state)))
    assert parts.state == whole.state
    assert parts.document == whole.document


def test_the_monitor_is_the_end_of_the_anytime_path():
    """taut.anytime_path, the interval of method "anytime" and the monitor agree to the bit."""
    x = sample("Beta(2,5)", 300) * 8 - 2
    monitor = Monitor(low=-2, high=6, delta=0.1)
    monitor.update(x)
    times, lower, upper = anytime_path(x, low=-2, high=6, delta=0.1)
    found = monitor.interval
    assert (found.lower, found.upper) == (lower[-1], upper[-1])
    assert mean_interval(x, low=-2, high=6, delta=0.1, method="anytime") == found
    path = monitor.document["path"]
    assert [point["n"] for point in path] == times.tolist()
    assert [point["lower"] for point in path] == lower.tolist()
    assert math.isclose(monitor.mean, x.mean(), rel_tol=1e-6)


def test_intervals_only_shrink_and_see_no_future():
    """With equal means no end ever moves outward, whatever comes; and the past stands."""
    x = sample("Beta(2,5)", 200)
    changed = np.r_[x[:120], sample("{0,.5,1}", 80)]
    one, two = Monitor(low=0, high=1), Monitor(low=0, high=1)
    before = one.interval
    for t in range(200):
        one.update(x[t])
        assert before.lower <= one.interval.lower and one.interval.upper <= before.upper
        before = one.interval
        if t < 120:
            two.update(changed[t])
            assert two.interval == one.interval


def test_the_order_of_blocks_does_not_matter_for_their_fortune():
    """What is kept of the blocks is the same in any order; only the maximum over time is not."""
    x = sample("Beta(2,5)", 100)
    one, two = watched(x), watched(np.random.default_rng(1).permutation(x))
    assert one.state["units"] == two.state["units"] and one.mean == two.mean


# --- misses over the whole path -------------------------------------------------------------------

PATHS = 150


@pytest.mark.parametrize("shape, mean", [("Bernoulli(.98)", 0.98), ("{0,.5,1}", 0.5)])
def test_the_interval_rarely_ever_misses(shape, mean):
    """As intervals are nested, the worst moment to stop is the last one: that rarely misses."""
    missed = 0
    for seed in range(PATHS):
        try:
            found = watched(sample(shape, 120, seed), delta=0.1).interval
            missed += not found.lower <= mean <= found.upper
        except AssumptionError:  # the ends have passed each other
            missed += 1
    assert_misses_at_most(missed, PATHS, 0.1)


def test_a_cheat_who_stops_when_it_looks_good_gains_nothing():
    """The lower end passes a threshold just above the mean, at any time, with chance delta/2."""
    missed = sum(
        stopped(sample("{0,.5,1}", 150, seed), delta=0.2, require_lower=0.5001) == "reached"
        for seed in range(PATHS)
    )
    assert_misses_at_most(missed, PATHS, 0.1)


def test_giving_up_is_rarely_wrong():
    """Where the mean does reach the threshold, "impossible" is said with chance at most delta/2."""
    missed = sum(
        stopped(sample("{0,.5,1}", 150, seed), delta=0.2, require_lower=0.4999) == "impossible"
        for seed in range(PATHS)
    )
    assert_misses_at_most(missed, PATHS, 0.1)


def test_a_fixed_n_interval_looked_at_repeatedly_is_caught():
    """Planted mistake: the betting interval for one n, looked at 12 times, misses too often."""
    looks = np.unique(np.geomspace(5, 300, 12).astype(int))
    missed = 0
    for seed in range(80):
        x = sample("{0,.5,1}", 300, seed)
        found = (mean_interval(x[:n], low=0, high=1, delta=0.1) for n in looks)
        missed += not all(ends.lower <= 0.5 <= ends.upper for ends in found)
    assert misses_more_than(missed, 80, 0.1)


def test_bets_chosen_in_hindsight_are_caught():
    """Planted mistake: the best bet for the whole sample, whose variance it then has seen.

    On the same 1,000 paths the mixture of all bets reaches 1/eta at the mean rarely enough.
    """
    rng = np.random.default_rng(5)
    missed = {"mixture": 0, "hindsight": 0}
    weights = anytime._LOG_WEIGHTS[:, None]
    won, lost = (np.log1p(sign * anytime.BETS)[:, None] for sign in (1, -1))
    for _ in range(1000):
        x = rng.integers(0, 3, 1000) / 2
        gains = won * np.cumsum(x == 1) + lost * np.cumsum(x == 0)
        best, goal = gains.max(0), math.log(1 / 0.05)
        missed["hindsight"] += best.max() >= goal
        # The mixture is never above the best bet: only where that reaches the goal need one look.
        mixed = np.logaddexp.reduce((weights + gains)[:, best >= goal], initial=-np.inf)
        missed["mixture"] += bool((mixed >= goal).any())
    assert_misses_at_most(missed["mixture"], 1000, 0.05)
    assert misses_more_than(missed["hindsight"], 1000, 0.05)


def test_rows_counted_twice_are_caught():
    """Planted mistake: every block fed three times makes the same check fail."""
    missed = 0
    for seed in range(PATHS):
        try:
            found = watched(np.repeat(sample("{0,.5,1}", 120, seed), 3), delta=0.1).interval
            missed += not found.lower <= 0.5 <= found.upper
        except AssumptionError:
            missed += 1
    assert misses_more_than(missed, PATHS, 0.1)


def drifting(seed, n=200):
    """Blocks whose mean moves up, and whose law reacts to the past; with their running average."""
    rng = np.random.default_rng(seed)
    x, means = np.empty(n), np.empty(n)
    for t in range(n):
        means[t] = 0.2 + 0.6 * t / n + (0.1 if t and x[t - 1] > 0.5 else -0.1)
        x[t] = rng.random() < means[t]
    return x, np.cumsum(means) / np.arange(1, n + 1)


def test_varying_means_are_followed_at_all_times():
    """With drift and feedback the running average rarely leaves the interval at any time."""
    missed = 0
    for seed in range(60):
        x, truth = drifting(seed, 80)
        monitor = Monitor(low=0, high=1, delta=0.2, means="varying")
        inside = True
        for value, average in zip(x, truth, strict=True):
            monitor.update(value)
            inside = inside and monitor.interval.lower <= average <= monitor.interval.upper
        missed += not inside
    assert_misses_at_most(missed, 60, 0.2)


def test_equal_means_under_drift_are_caught():
    """Planted mistake: the interval for one mean, under drift, is wrong or contradicts itself."""
    missed = 0
    for seed in range(30):
        x, truth = drifting(seed)
        try:
            found = watched(x).interval
            missed += not found.lower <= truth[-1] <= found.upper
        except AssumptionError as error:
            assert "the policy change" in str(error)
            missed += 1
    assert misses_more_than(missed, 30, 0.05)


def test_varying_stops_at_the_first_block_that_meets_the_goal():
    """The interval may widen again, so the decision is taken block by block and stands."""
    x = np.r_[np.full(100, 0.5), sample("{0,.5,1}", 40)]
    monitor = Monitor(low=0, high=1, width=0.2, means="varying")
    stops = [
        n for n in range(1, 141) if watched(x[:n], width=0.2, means="varying").decision == "reached"
    ]
    monitor.update(x)
    assert monitor.decision == "reached"
    assert stops == list(range(stops[0], 141)) and stops[0] < 100
    first = watched(x[: stops[0]], width=0.2, means="varying")
    assert first.reason == monitor.reason and first.interval.width <= 0.2


# --- decisions ------------------------------------------------------------------------------------


def test_a_goal_met_exactly_is_not_hidden_by_the_scale():
    """The width after some block, taken as the goal, is reached at that block, however blocks come.

    Ends are compared on two scales, and the one that rounds outward must be the stricter.
    """
    x = sample("{0,.5,1}", 40) * 0.7 + 0.1
    for n in range(5, 40, 2):
        first = Monitor(low=0.1, high=0.8)
        first.update(x[:n])
        for goal in ({"width": first.interval.width}, {"require_lower": first.interval.lower}):
            if goal.get("require_lower", 1) <= 0.1:
                continue
            at_once, one_by_one = (Monitor(low=0.1, high=0.8, **goal) for _ in range(2))
            at_once.update(x)
            for value in x:
                one_by_one.update(value)
            assert at_once.decided_at == one_by_one.decided_at <= n


@pytest.mark.parametrize("means", ["equal", "varying"])
def test_impossible_is_never_contradicted(means):
    """Brute force: after "impossible" none of the 2^r extreme continuations meets the goal."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        goals = {"most": 14, "means": means, "delta": 0.5}
        goals |= {"width": 0.6} if seed % 2 else {"require_lower": 0.45}
        x = rng.integers(0, 3, 14) / 2
        monitor = Monitor(low=0, high=1, **goals)
        for n in range(14):
            if monitor.update(x[n]) != "continue":
                break
        if monitor.decision != "impossible" or monitor.n < 6:
            continue
        for rest in itertools.product([0.0, 1.0], repeat=14 - monitor.n):
            trial = Monitor(low=0, high=1, **{**goals, "most": None})
            try:
                trial.update(np.r_[x[: monitor.n], rest])
            except AssumptionError:
                continue
            assert trial.decision != "reached"


def test_a_reachable_threshold_is_not_given_up():
    """Where the best continuation does reach the threshold, nothing is given up before."""
    monitor = Monitor(low=0, high=1, require_lower=0.6, most=60)
    monitor.update(np.tile([0.0, 1.0], 10))
    assert monitor.decision == "continue"
    monitor.update(np.ones(40))
    assert monitor.decision == "reached"


def test_the_last_block_decides():
    """With all declared blocks come and the goal not met, it is impossible."""
    monitor = watched(sample("Beta(2,5)", 50), width=1e-3, most=50)
    assert monitor.decision == "impossible"
    with pytest.raises(AssumptionError, match="51 blocks, but most=50"):
        monitor.update(0.5)
    assert monitor.n == 50


def test_both_goals_must_be_met():
    """A narrow interval below the threshold has not passed a gate."""
    x = np.full(400, 0.5)
    assert watched(x, width=0.1).decision == "reached"
    assert watched(x, width=0.1, require_lower=0.45).decision == "reached"
    assert watched(x, width=0.1, require_lower=0.499).decision == "continue"
    assert watched(x, width=0.1, require_lower=0.6).decision == "impossible"


def test_one_side_gets_all_of_delta():
    """A lower end alone is tighter, the upper end is then the range."""
    x = sample("Beta(2,5)", 200)
    both, lower = watched(x).interval, watched(x, side="lower").interval
    assert lower.lower > both.lower and lower.upper == 1


def test_the_forecast_is_of_the_right_size():
    """From 200 blocks the number that a width takes is foretold within a factor of two."""
    x = sample("Beta(2,5)", 3000)
    monitor = watched(x[:200], width=0.03)
    guess = monitor.forecast
    for t in range(200, 3000):
        if monitor.update(x[t]) == "reached":
            break
    assert guess / 2 < monitor.n < 2 * guess
    assert monitor.forecast is None
    assert "At this rate about 600 blocks in all." in str(watched(x[:200], width=0.03))
    assert watched(x[:50], require_lower=0.5).forecast is None


def test_wrong_use_is_refused():
    """Goals outside the range, sides without their end, unknown means, foreign states."""
    for wrong, text in (
        ({"width": 0}, "positive width"),
        ({"width": 0.1, "side": "lower"}, "both ends"),
        ({"require_lower": 0.5, "side": "upper"}, "needs a lower end"),
        ({"require_lower": 2}, "range of a block"),
        ({"most": 0}, "at least 1"),
        ({"means": "drifting"}, "equal, varying"),
    ):
        with pytest.raises(UsageError, match=text):
            Monitor(low=0, high=1, **wrong)
    with pytest.raises(AssumptionError, match="finite low < high"):
        Monitor(low=1, high=1)
    with pytest.raises(UsageError, match="state of a monitor"):
        Monitor.from_state({"schema": "other"})
    monitor = watched([0.5])
    for bad in (np.nan, 1.5, [0.1, -0.2]):
        with pytest.raises(AssumptionError):
            monitor.update(bad)
    assert monitor.n == 1 and monitor.update([]) == "continue"


def test_the_document_is_plain_and_the_report_says_the_interval():
    """Finite numbers or null before and after the first block; the text rounds outward."""
    empty = Monitor(low=0, high=1, width=0.1)
    assert json.dumps(empty.document, allow_nan=False)
    assert "no block so far" in str(empty)
    monitor = watched(sample("Beta(2,5)", 400), width=0.1)
    assert json.dumps(monitor.document, allow_nan=False)
    assert str(monitor).startswith("  Reached: the mean is 0.2")

"""Betting: bets look back only, the ends are those of a slow transcription, rounding is outward."""

import math

import mpmath
import numpy as np
import pytest

from taut.errors import AssumptionError
from taut.inequalities import betting
from taut.inequalities.betting import (
    mixture_bets,
    mixture_lower,
    star_bets,
    star_lower,
)

SHAPES = {
    "Beta(2,5)": lambda rng, n: rng.beta(2, 5, n),
    "Bernoulli(.98)": lambda rng, n: (rng.random(n) < 0.98).astype(float),
    "{0,.5,1}": lambda rng, n: rng.integers(0, 3, n) / 2,
    "two rare points": lambda rng, n: np.where(rng.random(n) < 0.02, 0.9, 0.3),
    "constant": lambda rng, n: np.full(n, 0.3),
}


def sample(name, n, seed=0):
    return SHAPES[name](np.random.default_rng(seed), n)


def looks_back_only(bets_of, x):
    """Whether no change of blocks t, t+1, ... moves any of the bets on blocks 0..t."""
    rng = np.random.default_rng(99)
    bets = bets_of(x)
    for t in sorted({0, 1, 2, len(x) // 40, len(x) // 20, len(x) // 2, len(x) - 1}):
        changed = x.copy()
        changed[t:] = rng.random(len(x) - t)
        if not np.array_equal(bets_of(changed)[: t + 1], bets[: t + 1]):
            return False
    return True


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [3, 50, 500])
def test_star_bets_look_back_only(shape, n):
    """Changing block t or later leaves the bets on blocks up to t as they were, in every cell."""
    x = sample(shape, n)
    for m in (0.01, 0.2, 0.29, 0.5, 0.97, 0.999):
        assert looks_back_only(lambda values, m=m: star_bets(values, 0.025, m), x)


def test_cells_and_their_bets_depend_on_leading_blocks_only():
    """With cells placed by the data: cells depend on the leading blocks, bets on the past."""
    x = sample("Beta(2,5)", 6400)
    lead, edges = betting._plan(x, 0.0, 1.0)
    changed = x.copy()
    changed[lead:] = 1.0 - changed[lead:]
    again, moved = betting._plan(changed, 0.0, 1.0)
    assert lead == again > 0 and np.array_equal(edges, moved)
    for m in (0.2, 0.28, 0.29, 0.5):
        bets = star_bets(x, 0.025, m)
        for t in (lead, lead + 1, 3000, 6399):
            later = x.copy()
            later[t:] = np.random.default_rng(1).random(6400 - t)
            assert np.array_equal(star_bets(later, 0.025, m)[: t + 1], bets[: t + 1])
        # The cell itself hangs on the leading blocks, but all cells share the leading bets.
        later = x.copy()
        later[lead // 2 :] = 0.9
        assert np.array_equal(star_bets(later, 0.025, m)[: lead // 2], bets[: lead // 2])


def test_the_lookback_check_rejects_full_sample_variance():
    """Bets tuned by the variance of the whole sample fail the same check."""

    def leaking(x):
        return np.full(len(x), math.sqrt(2 * math.log(40) / (len(x) * (x.var() + 1e-6))))

    assert not looks_back_only(leaking, sample("Beta(2,5)", 50))


def test_leading_bets_are_shared_by_all_cells():
    """Until the cells are placed no bet may know its cell: all candidates share the bets."""
    x = sample("{0,.5,1}", 3200)
    lead, _ = betting._plan(x, 0.0, 1.0)
    first = star_bets(x, 0.025, 0.45)[:lead]
    assert np.all(first > 0)
    for m in (0.4, 0.48, 0.499, 0.6):
        assert np.array_equal(star_bets(x, 0.025, m)[:lead], first)


# A slow transcription: one candidate at a time, plain Python, no shared code.


def slow_bet(share, caution, left, moment):
    root = math.sqrt(share)
    missing = 12 * (1 - root) / (1 + root + 4 * math.sqrt(root))
    return math.sqrt(2 * missing**2 / (missing + caution) / (left * moment))


def slow_guards(x):
    """The part of the prior that stands before each block."""
    for t in range(len(x)):
        ties = (1 + sum(x[1:t] == x[: max(t - 1, 0)])) / (max(t - 1, 0) + 2)
        mean, variance = (x[:t].mean(), x[:t].var()) if t else (0.5, 0.0)
        spread = math.sqrt(variance / max(mean * (1 - mean), 1e-12))
        yield ties + (1 - ties) * min(1, max(0.1, spread))


def slow_hit(x, edge, m, eta, lead, guards):
    n = len(x)
    goal = math.exp(math.log(1 / eta) + 1e-9 + 1e-12 * n)
    target = goal * math.exp(min(0.15, 1.5 / n ** (1 / 3)))
    caution = min(1.0, math.sqrt(n) / 50)
    at_edge = at_m = 1.0
    squares = 0.0
    for t, (value, guard) in enumerate(zip(x, guards, strict=True)):
        if t < lead:
            spread = t * x[:t].var() if t else 0.0
            moment = min(0.25, (spread + 0.3 * math.log(1 + n) * guard) / (t + 1))
            bet = min(slow_bet(1 / target, caution, n - t, moment), 0.999)
        else:
            prior = (0.1 + 0.2 * edge) * edge * math.log(1 + n) * guard
            moment = min(max(edge * (1 - edge), 1e-12), (squares + prior) / (t + 1))
            bet = min(slow_bet(at_edge / target, caution, n - t, moment), 0.999 / edge)
        at_m *= 1 + bet * (value - m)
        if at_m >= goal:
            return True
        at_edge *= 1 + bet * (value - edge)
        squares += (value - edge) ** 2
    return False


def slow_lower(x, eta):
    lead, edges = betting._plan(x, 0.0, 1.0)
    guards = list(slow_guards(x))
    g = 1
    while g < len(edges) - 1 and slow_hit(x, edges[g], edges[g], eta, lead, guards):
        g += 1
    inside, outside = edges[g - 1], edges[g]
    for _ in range(40):
        middle = (inside + outside) / 2
        if slow_hit(x, edges[g], middle, eta, lead, guards):
            inside = middle
        else:
            outside = middle
    return inside, edges[g] - edges[g - 1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 7, 40, 600])
def test_ends_are_those_of_the_slow_transcription(shape, n):
    """The compiled end is the end of the confidence set, to 1/4,000 of a cell.

    The transcription bets in double precision, the compiled form in single: hence 2e-6.
    """
    for eta in (0.025, 0.1):
        x = sample(shape, n, seed=n)
        exact, cell = slow_lower(x, eta)
        found = star_lower(x, eta)
        assert exact - cell / 4_000 - 2e-6 <= found <= exact + 2e-6


def test_cells_abreast_make_the_bets_of_one_cell():
    """Both compiled forms agree on every decision, also for edges a few ulps from the end."""
    x = sample("Beta(2,5)", 640)
    goal = 40.0
    end = star_lower(x, 0.025)
    lead = np.full(20, 0.3)
    refs = np.sort(np.r_[end + np.arange(-8, 8) * 2e-15, np.linspace(end - 1e-3, end + 1e-3, 48)])
    guards = np.array(list(slow_guards(x)))
    single = [
        betting._reached_in_cell(x, 0.0, 1.0, goal, guards, lead, ref, np.array([ref]), np.empty(0))
        for ref in refs
    ]
    for start in range(0, 64, 32):
        group = single[start : start + 32]
        leading = group.index(0) if 0 in group else 32
        found = betting._reached_edges(x, 0.0, 1.0, goal, guards, lead, refs[start : start + 32])
        assert found == leading
    assert 0 < sum(single) < 64


@pytest.mark.parametrize("shape", ["Beta(2,5)", "Bernoulli(.98)", "constant"])
@pytest.mark.parametrize("n", [2, 100, 2000])
def test_the_fortune_at_the_end_is_real(shape, n):
    """In 40-digit arithmetic the recorded bets do reach 1/eta at the returned end."""
    x = sample(shape, n, seed=3)
    end = star_lower(x, 0.025)
    assert 0 < end < x.mean()
    fortune = best = mpmath.mpf(1)
    with mpmath.workdps(40):
        for bet, value in zip(star_bets(x, 0.025, end).tolist(), x.tolist(), strict=True):
            fortune *= 1 + mpmath.mpf(bet) * (mpmath.mpf(value) - mpmath.mpf(end))
            best = max(best, fortune)
        assert best >= 1 / mpmath.mpf(0.025)


def test_no_bet_can_lose_more_than_the_stake():
    """Bets stay within [0, 0.999/m]: the fortune never falls below zero."""
    for shape in SHAPES:
        for n in (1, 30, 700):
            x = sample(shape, n)
            for m in (0.001, 0.3, 0.98, 1.0):
                bets = star_bets(x, 0.025, m)
                assert np.all((bets >= 0) & (bets <= 0.999 / m * (1 + 1e-12)))


def test_extremes():
    """All zeros give 0; all ones give a large end; constants an end just below."""
    assert star_lower(np.zeros(50), 0.025) == 0
    assert mixture_lower(np.zeros(50), 0.025) == 0
    assert 0.8 < star_lower(np.ones(20), 0.025) < 0.05 ** (1 / 20)
    assert 0.5 - 0.02 < star_lower(np.full(1000, 0.5), 0.025) < 0.5
    assert 0.5 - 0.02 < mixture_lower(np.full(1000, 0.5), 0.025) < 0.5
    assert 0 < star_lower(np.array([1.0]), 0.025) < 0.025


def test_mixture_is_the_root_of_its_fortune():
    """In plain NumPy the mixture's fortune crosses 1/eta at the returned end."""
    for shape in SHAPES:
        for n in (5, 60, 3000):
            x = sample(shape, n, seed=n)
            bets, weights = mixture_bets(n, 0.025)
            assert math.isclose(weights.sum(), 1.0)

            def log_fortune(m, x=x, bets=bets, weights=weights):
                held = np.minimum(bets, 0.99 / m)[:, None]
                return np.logaddexp.reduce(np.log(weights) + np.log1p(held * (x - m)).sum(1))

            end = mixture_lower(x, 0.025)
            if end > 0:
                assert log_fortune(end) >= math.log(40)
                assert log_fortune(end + 1e-6) < math.log(40)
            else:
                assert log_fortune(1e-9) < math.log(40) + 1e-6


def test_mixture_does_not_depend_on_order():
    """Any order of the blocks gives the same bytes."""
    x = sample("Beta(2,5)", 333)
    ends = {mixture_lower(np.random.default_rng(i).permutation(x), 0.05) for i in range(5)}
    assert len(ends) == 1


@pytest.mark.parametrize("end", [star_lower, mixture_lower])
def test_refuses_what_the_theorem_does_not_cover(end):
    """NaN, values outside [0, 1], no blocks and bad eta are refused, with the place named."""
    for bad in (np.nan, -0.1, 1.1, np.inf):
        with pytest.raises(AssumptionError, match="block 1"):
            end(np.array([0.5, bad]), 0.05)
    with pytest.raises(AssumptionError, match="one or more"):
        end(np.array([]), 0.05)
    for eta in (0.0, 1.0, np.nan):
        with pytest.raises(AssumptionError, match="eta"):
            end(np.array([0.5]), eta)

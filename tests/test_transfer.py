"""Bounds through reward data: identities in random worlds, closed forms, joined means, refusals."""

import itertools
import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taut.auditing import audit as certificates
from taut.auditing.audit import audit
from taut.bounds.reward_shift import paper_shift
from taut.bounds.transfer import (
    Ingredients,
    RewardData,
    centred_shift,
    error_bounds,
    importance_blocks,
    join_means,
    truncated_shift,
    weight_bounds,
)
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import UsageError
from taut.types import Interval, Status
from taut.worlds import FAMILIES, sample_reward_data, sample_rollouts, truth
from taut.worlds.families import SHIFT_FAMILIES

WORLDS = FAMILIES | SHIFT_FAMILIES
COUNT, OUTCOMES = 10_000, 6
TARGETS = ("reward", "clipped", "objective")
SLACK = 1e-12  # rounding of sums of six products
unit = st.floats(0, 1)


def exactly(value):
    return Interval(value, value)


@pytest.fixture(scope="module")
def laws():
    """10,000 random worlds of six outcomes: train, policy (some outside its support), r*, r-hat."""
    rng = np.random.default_rng(0)
    train = rng.dirichlet(np.full(OUTCOMES, 0.5), COUNT) + 1e-9
    policy = rng.dirichlet(np.full(OUTCOMES, 0.5), COUNT)
    missing = (rng.random((COUNT, 1)) < 0.5) & (np.arange(OUTCOMES) < 2)
    train = np.where(missing, 0.0, train)
    train /= train.sum(axis=1, keepdims=True)
    gold, reward = rng.random((2, COUNT, OUTCOMES))
    reward = np.where(rng.random((COUNT, 1)) < 0.3, gold, reward)
    weight = np.divide(policy, train, where=train > 0, out=np.full_like(policy, np.inf))
    truncation = 10 ** rng.uniform(-1, 2, (COUNT, 1))
    return train, policy, weight, gold, reward, truncation


def mean(law, values):
    return (law * np.where(law > 0, values, 0.0)).sum(axis=1)


# --- identities -----------------------------------------------------------------------------------


def test_truncated_weights_bound_the_target_from_both_sides(laws):
    """E_tr[u r*] <= E_theta r* <= 1 - E_tr[u (1 - r*)], whatever the support (theory §3.4)."""
    train, policy, weight, gold, _, truncation = laws
    cut = np.minimum(weight, truncation)
    true = mean(policy, gold)
    assert (mean(train, cut * gold) <= true + SLACK).all()
    assert (true <= 1 - mean(train, cut * (1 - gold)) + SLACK).all()


def test_the_control_variate_changes_no_mean(laws):
    """E_tr[u (r* - r)] + E_theta[r min(1, M/w)] = E_tr[u r*], and mirrored (theory §5)."""
    train, policy, weight, gold, reward, truncation = laws
    cut, kept = (
        np.minimum(weight, truncation),
        np.minimum(1, truncation / np.maximum(weight, 1e-300)),
    )
    for r_star, r in ((gold, reward), (1 - gold, 1 - reward)):
        joined = mean(train, cut * (r_star - r)) + mean(policy, r * kept)
        assert np.abs(joined - mean(train, cut * r_star)).max() < 1e-10


def test_on_policy_means_are_those_of_reward_data(laws):
    """m_M and E_tr min(w, M)^2 are E_theta min(1, M/w) and E_theta min(w, M^2/w) (theory §3.4)."""
    train, policy, weight, _, _, truncation = laws
    cut, safe = np.minimum(weight, truncation), np.maximum(weight, 1e-300)
    kept = np.minimum(1, truncation / safe)
    square = np.minimum(weight, truncation**2 / safe)
    assert np.abs(mean(train, cut) - mean(policy, kept)).max() < 1e-10
    np.testing.assert_allclose(mean(train, cut**2), mean(policy, square), rtol=1e-9, atol=1e-12)


def test_the_truncated_formula_holds_in_every_world(laws):
    """With exact ingredients, E_theta[r* - r] lies within the truncated bound for every M."""
    train, policy, weight, gold, reward, truncation = laws
    error, cut = reward - gold, np.minimum(weight, truncation)
    true = mean(policy, gold - reward)
    parts = [mean(train, values) for values in (error, error**2, cut, cut**2)]
    for shift, bias, mse, mass, square in zip(true, *parts, strict=True):
        found = truncated_shift(Ingredients(exactly(bias), mse, exactly(mass), square))
        assert found.lower - 1e-9 <= shift <= found.upper + 1e-9


def test_the_centred_bound_holds_and_is_never_wider_than_the_papers(laws):
    """Where the policy is covered: |E_theta e| <= centred <= C sqrt(L) (theory §3.2)."""
    train, policy, weight, gold, reward, _ = laws
    covered = (train > 0).all(axis=1)
    assert covered.sum() > 4000
    error = reward - gold
    chi_square = np.maximum(mean(train, weight**2)[covered] - 1, 0)
    rows = zip(
        mean(policy, -error)[covered],
        mean(train, error)[covered],
        mean(train, error**2)[covered],
        chi_square,
        strict=True,
    )
    for shift, bias, mse, chi in rows:
        found = centred_shift(exactly(bias), mse, chi)
        reach = math.sqrt((1 + chi) * mse) * (1 + 1e-9) + 1e-12
        assert found.lower - 1e-9 <= shift <= found.upper + 1e-9
        assert -reach <= found.lower
        assert found.upper <= reach


# --- closed forms ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(unit, unit, unit, st.floats(0, 100))
def test_centred_is_the_maximum_over_what_is_left(one, two, spare, chi_square):
    """S+ and S- equal a search over every bias in its interval and every L below its bound."""
    low, high = sorted((2 * one - 1, 2 * two - 1))
    nearest = max(low, -high, 0.0)
    mse = nearest**2 + (1 - nearest**2) * spare
    root = math.sqrt(mse)
    bias = np.linspace(max(low, -root), min(high, root), 20_001)
    reach = np.sqrt(chi_square * np.maximum(mse - bias**2, 0))
    found = centred_shift(Interval(low, high), mse, chi_square)
    for closed, searched in ((-found.lower, bias + reach), (found.upper, -bias + reach)):
        best = float(searched.max())
        assert best - 1e-9 <= closed <= best + 1e-3 * (1 + math.sqrt(chi_square))


@settings(max_examples=60, deadline=None)
@given(unit, unit, unit, unit, unit, unit, st.sampled_from([1.0, 3.0, 10.0]))
def test_truncated_is_the_maximum_over_what_is_left(one, two, spare, mass, wide, extra, level):
    """The angle formula equals a search over bias and mass (and pays the smallest mass last)."""
    low, high = sorted((2 * one - 1, 2 * two - 1))
    nearest = max(low, -high, 0.0)
    mse = nearest**2 + (1 - nearest**2) * spare
    mass_low, mass_high = mass * (1 - wide), mass
    square = mass_low**2 + extra * max(0.0, level * mass_high - mass_low**2)
    root, norm = math.sqrt(mse), math.sqrt(square)
    bias = np.linspace(max(low, -root), min(high, root), 401)[:, None]
    masses = np.linspace(mass_low, max(mass_low, min(mass_high, norm)), 401)
    spread = np.sqrt(np.maximum(mse - bias**2, 0)) * np.sqrt(np.maximum(square - masses**2, 0))
    parts = Ingredients(Interval(low, high), mse, Interval(mass_low, mass_high), square)
    found = truncated_shift(parts)
    for closed, sign in ((-found.lower, 1), (found.upper, -1)):
        best = float((sign * bias * masses + spread).max()) + 1 - mass_low
        assert best - 1e-9 <= closed <= best + 0.02 * (1 + norm)


GOLDEN = [
    # bias low, bias high, L, chi^2, mass low, mass high, E u^2
    ("0.01", "0.05", "0.04", "3", "0.9", "0.97", "2.5"),
    ("-0.2", "0.1", "0.09", "0.25", "0.5", "0.5", "0.6"),
    ("-0.3", "-0.25", "0.1", "12", "0.2", "1", "8"),
    ("0.3", "0.3", "0.09", "1", "1", "1", "1"),
]


@pytest.mark.parametrize("row", GOLDEN)
def test_closed_forms_to_12_digits(row):
    """Centred, truncated and the paper's bound agree with 40-digit arithmetic written out again."""
    with mpmath.workdps(40):
        low, high, mse, chi, mass_low, mass_high, square = map(mpmath.mpf, row)

        def centred(below, above):
            root = mpmath.sqrt(mse)
            at = min(max(mpmath.sqrt(mse / (1 + chi)), below), min(above, root))
            return at + mpmath.sqrt(chi * max(0, mse - at**2))

        def truncated(below, above):
            # The stationary line bias : sd = mass : s, or the corner of the box nearest to it.
            best = mpmath.mpf("-inf")
            sides = [max(below, -mpmath.sqrt(mse)), min(above, mpmath.sqrt(mse))]
            ends = [mass_low, min(mass_high, mpmath.sqrt(square))]
            slope = mpmath.sqrt(mse / square)
            points = [(b, m) for b in sides for m in ends]
            points += [(m * slope, m) for m in ends] + [(b, b / slope) for b in sides]
            for b, m in points:
                if sides[0] <= b <= sides[1] and ends[0] <= m <= ends[1]:
                    spread = mpmath.sqrt(max(0, mse - b**2) * max(0, square - m**2))
                    best = max(best, b * m + spread)
            return best + 1 - mass_low

        expected = [
            -centred(low, high),
            centred(-high, -low),
            -truncated(low, high),
            truncated(-high, -low),
            min(1, mpmath.sqrt((1 + chi) * mse)),
        ]
    values = [float(text) for text in row]
    bias, mass = Interval(*values[:2]), Interval(*values[4:6])
    one = centred_shift(bias, values[2], values[3])
    two = truncated_shift(Ingredients(bias, values[2], mass, values[6]))
    paper = paper_shift(math.sqrt(1 + values[3]), values[2])
    found = [one.lower, one.upper, two.lower, two.upper, paper]
    # At a bias of sqrt(L) the spread is the root of a rounding error.
    tolerance = 1e-12 if values[1] ** 2 < values[2] else 1e-7
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(float(theirs), rel=tolerance)


def test_no_shift_leaves_the_bias_alone():
    """With chi^2 = 0, or all mass kept at weight 1, the bound is the interval of -E e."""
    bias = Interval(-0.02, 0.05)
    found = centred_shift(bias, 0.3, 0.0)
    assert (found.lower, found.upper) == pytest.approx((-0.05, 0.02))
    found = truncated_shift(Ingredients(bias, 0.3, exactly(1.0), 1.0))
    assert (found.lower, found.upper) == pytest.approx((-0.05, 0.02))


@settings(max_examples=100, deadline=None)
@given(unit, unit, unit, unit, st.floats(0, 20), st.floats(0, 1))
def test_more_doubt_never_narrows_a_bound(centre, half, spare, mass, chi_square, more):
    """Wider ingredients, a larger L or a larger chi^2 give wider bounds on both sides."""
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    nearest = max(low, 0.0)
    mse = nearest**2 + (1 - nearest**2) * spare
    wide, more_mse = Interval(low - more, high + more), mse + more * (1 - mse)
    before = centred_shift(Interval(low, high), mse, chi_square)
    after = centred_shift(wide, more_mse, chi_square * (1 + more))
    assert after.lower <= before.lower + SLACK
    assert after.upper >= before.upper - SLACK
    parts = Ingredients(Interval(low, high), mse, Interval(mass, 1.0), 1.5)
    doubt = Ingredients(wide, more_mse, Interval(mass * (1 - more), 1.0), 1.5 + more)
    before, after = truncated_shift(parts), truncated_shift(doubt)
    assert after.lower <= before.lower + SLACK
    assert after.upper >= before.upper - SLACK


# --- joined means ---------------------------------------------------------------------------------


def weights_of_join(count_first, count_second, partner):
    """Weight of each value in each block, by joining unit vectors."""
    zero_first, zero_second = np.zeros(count_first), np.zeros(count_second)
    first = [join_means(row, zero_second, partner) for row in np.eye(count_first)]
    second = [join_means(zero_first, row, partner) for row in np.eye(count_second)]
    return np.array(first).T, np.array(second).T


@st.composite
def partnerships(draw):
    """Sizes of two samples, and some prompts of the first that the second holds too."""
    sizes = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    shared = draw(st.integers(0, min(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    partner = np.full(sizes[0], -1)
    mine = rng.permutation(sizes[0])[:shared]
    partner[mine] = rng.permutation(sizes[1])[:shared]
    return (*sizes, partner)


@settings(max_examples=300, deadline=None)
@given(partnerships())
def test_joined_means_use_every_value_once(given_sizes):
    """Each block weighs both samples by 1 in all, and no value enters two blocks.

    None is left out either, but for what has no partner where all of the smaller sample have one.
    """
    count_first, count_second, partner = given_sizes
    spare = (partner >= 0).sum() == min(count_first, count_second)
    first, second = weights_of_join(*given_sizes)
    assert len(first) == min(count_first, count_second)
    for weights in (first, second):
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
        entered = (weights > 0).sum(axis=0)
        assert (entered <= 1).all()
        assert spare or (entered == 1).all()
        assert (weights >= 0).all()
    for mine, theirs in enumerate(partner):
        if theirs >= 0:  # values of one prompt meet in one block
            assert np.argmax(first[:, mine]) == np.argmax(second[:, theirs])


@pytest.mark.parametrize("sizes", [(2, 4), (4, 3), (1, 5), (3, 3)])
@pytest.mark.parametrize("shared", [0, 1])
def test_joined_means_are_unbiased(sizes, shared):
    """Over all orders of the values, every block has mean E first + E second."""
    first, second = np.arange(1.0, sizes[0] + 1) ** 2, 10.0 ** np.arange(sizes[1])
    partner = np.full(sizes[0], -1)
    partner[sizes[0] - 1] = sizes[1] - 1 if shared else -1
    blocks = [
        join_means(np.array(mine), np.array(theirs), partner)
        for mine in itertools.permutations(first)
        for theirs in itertools.permutations(second)
    ]
    expected = first.mean() + second.mean()
    np.testing.assert_allclose(np.mean(blocks, axis=0), expected, rtol=1e-9)


# --- ingredients ----------------------------------------------------------------------------------


def each_its_own(rows, per_block=1):
    return Blocks(rows=np.arange(rows), starts=np.arange(0, rows + 1, per_block))


def reward_rows(weight, reward, gold, per_block=1):
    blocks = each_its_own(len(reward), per_block)
    nobody = Blocks(rows=np.zeros(0, dtype=np.int64), starts=np.zeros(1, dtype=np.int64))
    prompts = np.arange(len(reward), dtype=np.uint64)
    return RewardData(weight, reward, gold, blocks, nobody, prompts)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 5.0, 50.0]), st.booleans(), st.booleans())
def test_importance_blocks_keep_to_their_range(seed, truncation, upper, controlled):
    """Whatever weights and rewards are, extremes too, no block leaves the range it is bet on."""
    rng = np.random.default_rng(seed)
    weight = np.exp(rng.normal(0, 4, 12))
    reward, gold = rng.choice([0.0, 0.3, 1.0], (2, 12))
    data = reward_rows(weight, reward, gold, per_block=3)
    on_policy = (reward, weight) if controlled else None
    found, control = importance_blocks(
        data, data.blocks, truncation, on_policy=on_policy, upper=upper
    )
    assert found.low <= found.values.min()
    assert found.values.max() <= found.high
    assert controlled == bool(len(control))
    assert ((control >= 0) & (control <= 1)).all()


def test_a_mean_square_is_never_below_the_square_of_the_mean():
    """Bounds of L and E e agree: a sure bias implies a sure mean square."""
    gold = np.full(400, 0.2)
    data = reward_rows(None, np.full(400, 0.9), gold)
    bias, mse = error_bounds(data, 0.1, "betting")
    assert bias.lower > 0.6
    assert mse >= bias.lower**2


@pytest.mark.parametrize("on_policy", [False, True])
def test_weight_bounds_hold_with_their_delta(on_policy):
    """At delta = 0.4 over 300 samples, the exact m_M and E min(w, M)^2 escape at most so often."""
    from check import assert_misses_at_most

    rng = np.random.default_rng(0)
    train = np.array([0.6, 0.38, 0.02])
    policy = np.array([0.2, 0.4, 0.4])
    weight, level = policy / train, 5.0
    mass = float(train @ np.minimum(weight, level))
    square = float(train @ np.minimum(weight, level) ** 2)
    misses = 0
    for _ in range(300):
        drawn = weight[rng.choice(3, 60, p=policy if on_policy else train)]
        found, top = weight_bounds(
            drawn, each_its_own(60), level, on_policy=on_policy, delta=0.4, method="betting"
        )
        misses += not (found.lower <= mass <= found.upper and square <= top)
    assert_misses_at_most(misses, 300, 0.4)


# --- whole audits -------------------------------------------------------------------------------


def two_logs(family="over_optimised", prompts=200, **data):
    world = WORLDS[family](np.random.default_rng(0))
    rollouts = sample_rollouts(world, prompts, rng=np.random.default_rng(1), weights=True)
    data = {"gold_prompts": prompts} | data
    return world, rollouts, sample_reward_data(world, prompts, rng=np.random.default_rng(2), **data)


def told(world):
    exact = truth(world)
    return {
        "beta": world.beta,
        "reward_range": (0, 1),
        "log_ratio_max": exact.log_ratio_max,
        "coverage": exact.coverage,
        "reward_mse": exact.reward_mse,
    }


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize(
    "route", ["paper", "centred", "truncated", "importance", "score", "trivial", "auto"]
)
def test_no_route_spends_more_than_delta(route, side):
    """The ledger of every route, for every target and side, sums to at most delta."""
    world, rollouts, data = two_logs()
    known = {"reward_data": data, "route": route, "side": side, "delta": 0.1} | told(world)
    for target in TARGETS:
        found = audit(rollouts, target=target, **known)
        assert math.fsum(event.delta for event in found.ledger) <= 0.1 * (1 + 1e-12)
        assert all(event.delta > 0 for event in found.ledger)


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("route", ["centred", "truncated", "importance"])
def test_one_side_gets_what_two_would_share(route, side):
    """All of delta on one end never makes that end worse."""
    world, rollouts, data = two_logs()
    known = told(world) | {"reward_data": data, "route": route, "target": "clipped"}
    both, one = audit(rollouts, **known), audit(rollouts, side=side, **known)
    if side == "lower":
        assert one.lower >= both.lower
    else:
        assert one.upper <= both.upper


@pytest.mark.parametrize("route", ["paper", "centred", "truncated", "importance", "score"])
def test_a_named_route_gives_what_the_table_says(route):
    """The table's interval of a route is the certificate that naming the route gives."""
    world, rollouts, data = two_logs()
    known = {"reward_data": data} | told(world)
    for name in TARGETS:
        listed = audit(rollouts, target=name, route="trivial", **known)
        named = audit(rollouts, target=name, route=route, **known)
        entry = next(e for e in listed.routes if e.route == route)
        assert (named.lower, named.upper) == pytest.approx((entry.lower, entry.upper), abs=1e-12)
        assert Status(entry.status).rank <= named.status.rank
        assert named.status == max(
            (entry.status, named.terms.sampling.status), key=lambda status: Status(status).rank
        )


def captured_shift(monkeypatch, rollouts, data):
    """The prompts that choose, those that certify, and the reward data as an audit splits them."""
    seen, honest = [], certificates.certify

    def spy(target, ready, shift, mean=None):
        prompt, split = ready.design.rollouts.prompt, ready.split
        seen.append((prompt[split.calibration.rows], prompt[split.certifying.rows], shift))
        return honest(target, ready, shift, mean)

    monkeypatch.setattr(certificates, "certify", spy)
    audit(rollouts, reward_data=data, reward_range=(0, 1), target="reward")
    return seen[0]


@pytest.mark.parametrize("family", ["over_optimised", "poor_coverage", "uncovered_support"])
def test_nothing_is_chosen_on_certifying_draws(monkeypatch, family):
    """Other gold labels and rewards on the certifying draws choose the same route and M."""
    _, rollouts, data = two_logs(family)
    _, certifying, shift = captured_shift(monkeypatch, rollouts, data)
    rng = np.random.default_rng(3)
    gold, reward = data.gold.copy(), rollouts.reward.copy()
    rows = shift.data.blocks.rows
    gold[rows] = rng.random(len(rows))
    certify = np.isin(rollouts.prompt, certifying)
    reward[certify] = rng.random(certify.sum())
    assert certify.any() and not certify.all()
    other = replace(rollouts, reward=reward)
    for route in ("auto", "truncated", "importance"):
        one, two = (
            audit(log, reward_data=d, reward_range=(0, 1), target="reward", route=route)
            for log, d in ((rollouts, data), (other, replace(data, gold=gold)))
        )
        assert one.terms.reward_shift.route == two.terms.reward_shift.route
        assert (one.lower, one.upper) != (two.lower, two.upper)


def test_a_shared_prompt_is_on_one_side_of_both_splits(monkeypatch):
    """No prompt chooses in one log and certifies in the other."""
    _, rollouts, data = two_logs()
    renamed = replace(data, prompt=data.prompt ^ np.uint64(1) << np.uint64(63))
    assert set(renamed.prompt) == set(rollouts.prompt)
    choosing, certifying, shift = captured_shift(monkeypatch, rollouts, renamed)
    assert shift.paired
    for ours, theirs in ((choosing, shift.data.blocks), (certifying, shift.data.calibration)):
        assert len(ours) and len(theirs)
        assert not np.isin(ours, renamed.prompt[theirs.rows]).any()


def without(data, column):
    return replace(data, **{column: None})


def labels_only_on(data, prompts):
    keep = np.isin(data.prompt, np.unique(data.prompt)[:prompts])
    return replace(data, gold=np.where(keep, data.gold, np.nan))


def labelled_by_chance(data):
    chance = np.where(np.arange(len(data)) % 2, 0.5, 1.0)
    labelled = np.random.default_rng(9).random(len(data)) < chance
    return replace(data, gold=np.where(labelled, data.gold, np.nan), label_probability=chance)


REFUSALS = [
    ("importance", lambda r, d: (r, labelled_by_chance(d)), "recorded chances"),
    ("centred", lambda r, d: (r, labelled_by_chance(d)), "recorded chances"),
    ("truncated", lambda r, d: (r, labelled_by_chance(d)), "recorded chances"),
    ("score", lambda r, d: (r, labelled_by_chance(d)), "recorded chances"),
    ("importance", lambda r, d: (r, without(d, "gold")), "needs gold labels on the reward data"),
    ("truncated", lambda r, d: (r, labels_only_on(d, 1)), "needs gold labels"),
    ("importance", lambda r, d: (r, without(d, "behaviour_logprob")), "behaviour_logprob"),
    ("centred", lambda r, d: (r, without(d, "gold")), "needs gold labels"),
    ("score", lambda r, d: (r, without(d, "gold")), "needs gold labels"),
    (
        "importance",
        lambda r, d: (r, replace(d, behaviour_logprob=d.behaviour_logprob - 2)),
        "mean weight",
    ),
    (
        "truncated",
        lambda r, d: (r, replace(d, behaviour_logprob=d.behaviour_logprob + 2)),
        "one of the log-probs is wrong",
    ),
    ("truncated", lambda r, d: (r, None), "needs reward data"),
]


@pytest.mark.parametrize(("route", "broken", "reason"), REFUSALS)
def test_a_route_that_is_not_open_says_why(route, broken, reason):
    """Naming it is refused with the reason; auto takes another and lists the same reason."""
    world, rollouts, data = two_logs("over_optimised", 300)
    rollouts, data = broken(rollouts, data)
    known = {"reward_range": (0, 1), "target": "reward", "reward_data": data}
    if route == "centred":
        known["coverage"] = truth(world).coverage
    with pytest.raises(UsageError, match=reason):
        audit(rollouts, route=route, **known)
    found = audit(rollouts, **known)
    entry = next(e for e in found.routes if e.route == route)
    assert entry.lower is None
    assert reason in entry.reason
    assert found.lower <= truth(world).reward <= found.upper


def test_the_audit_does_not_depend_on_row_order():
    """Rows of both logs in another order give the same certificate, to the last bit."""
    world, rollouts, data = two_logs()
    rng = np.random.default_rng(5)
    mixed = rollouts.take(rng.permutation(len(rollouts))), data.take(rng.permutation(len(data)))
    one = audit(rollouts, reward_data=data, **told(world))
    two = audit(mixed[0], reward_data=mixed[1], **told(world))
    assert (one.lower, one.upper) == (two.lower, two.upper)


def test_reward_data_of_the_policy_itself_cost_little():
    """Without shift the importance route comes near the interval of as many gold labels."""
    _, rollouts, data = two_logs("no_shift", 400)
    known = {"reward_range": (0, 1), "target": "reward"}
    found = audit(rollouts, reward_data=data, route="importance", **known)
    peer = Rollouts.from_arrays(prompt_id=np.arange(400), reward=data.gold, gold=data.gold)
    gold = audit(peer, **known)
    assert found.upper - found.lower <= 1.25 * (gold.upper - gold.lower)


# --- known defects --------------------------------------------------------------------------------


def test_a_weight_that_underflows_is_no_trouble():
    """Rollouts that the behaviour policy finds far likelier have weight 0, without a warning."""
    _, rollouts, data = two_logs()
    behaviour = rollouts.behaviour_logprob.copy()
    behaviour[:3] = rollouts.policy_logprob[:3] + 800
    rollouts = replace(rollouts, behaviour_logprob=behaviour)
    audit(rollouts, reward_data=data, reward_range=(0, 1), target="reward")


def test_two_draws_of_reward_data_are_enough_to_audit():
    """A route that cannot be had closes; it does not take the certificate with it."""
    world, rollouts, data = two_logs(prompts=2)
    found = audit(rollouts, reward_data=data, reward_range=(0, 1), target="reward")
    assert found.lower <= truth(world).reward <= found.upper


def test_two_draws_of_one_prompt_share_no_value():
    """Where reward data draw a prompt twice, its audited draw enters one block only."""
    _, second = weights_of_join(3, 4, np.array([1, 1, -1]))
    assert ((second > 0).sum(axis=0) <= 1).all()


@pytest.mark.parametrize("route", ["paper", "centred"])
def test_weights_that_contradict_a_declared_coverage_close_its_routes(route):
    """30% of the rollouts have weights beyond any C: a declared C of 1.05 is refused."""
    world, rollouts, data = two_logs("uncovered_support", 500)
    exact = truth(world)
    declared = {"coverage": 1.05, "reward_mse": exact.reward_mse}
    known = {"reward_range": (0, 1), "target": "reward", "reward_data": data} | declared
    found = audit(rollouts, **known)
    entry = next(e for e in found.routes if e.route == route)
    assert entry.lower is None
    assert found.lower <= exact.reward <= found.upper

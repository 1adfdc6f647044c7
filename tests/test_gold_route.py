"""Gold labels through an audit: every label certifies, the judge is used as it is learned."""

import math

import numpy as np
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from rectifying import stakes_of
from taut.auditing.calibration import choose_thresholds
from taut.auditing.options import Options
from taut.auditing.prepare import prepare
from taut.auditing.routes import gold as route
from taut.auditing.target import TargetMean
from taut.draws.layout import lay_out
from taut.draws.rollouts import Blocks, Rollouts
from taut.inequalities.mean import mean_interval, ordered_mean_interval
from taut.types import Status

SURE = {"declare": ("held-out", "complete", "random-labels"), "reward_range": (0, 1)}
REWARD = {"target": "reward", **SURE}


def log_of(gold, judge, labels, *, rows=1, **columns):
    """The first `labels` rows are labelled; keys give the draw order."""
    known = np.arange(len(gold)) < labels
    return Rollouts.from_arrays(
        prompt_id=np.arange(len(gold)) // rows,
        reward=judge,
        gold=np.where(known, gold, math.nan),
        **columns,
    )


def graded(rng, draws):
    """Graded gold with the mean 1/2, and a curved judge."""
    quality = rng.beta(4, 4, draws)
    return rng.beta(30 * quality, 30 * (1 - quality)), quality**3


def mean_of(log, **settings):
    ready = prepare(log, Options(beta=None, **REWARD, **settings))
    return TargetMean(
        "reward", ready.data, ready.split, ready.thresholds, ready.design, ready.options
    )


# --- what is bet looks back only ------------------------------------------------------------------


def same_bets_before(log, changed, place):
    """Whether blocks before that of a changed draw stand as they did, and its own cap too."""
    before, after = (
        stakes_of(route.certifying_blocks(mean_of(item)), "lower")[0] for item in (log, changed)
    )
    names = ("below", "above", "z_below", "z_above", "mean", "variance", "guard")
    same = all(
        np.array_equal(getattr(before, name)[: place + 1], getattr(after, name)[: place + 1])
        for name in names
    )
    return same and np.array_equal(before.x[:place], after.x[:place])


def labelled_in_turn(log):
    """The labelled rows of a log of one row a prompt, in draw order."""
    rows = lay_out(log, seed=0).blocks.rows
    return rows[~np.isnan(log.gold[rows])]


def test_later_draws_change_no_earlier_bet():
    """Gold and judge of a labelled draw, and of its group, are not looked at before its turn."""
    gold, judge = graded(np.random.default_rng(1), 400)
    log = log_of(gold, judge, 80)
    rows = labelled_in_turn(log)
    for place in (0, 17, 60):
        row = rows[place]
        other, score = gold.copy(), judge.copy()
        other[row], score[row] = 1 - gold[row], 40.0
        assert same_bets_before(log, log_of(other, score, 80), place)


def test_the_check_of_bets_rejects_a_judge_made_of_all_labels(monkeypatch):
    """Planted mistake: the judge is recalibrated on the whole log first."""
    gold, judge = graded(np.random.default_rng(1), 400)
    log = log_of(gold, judge, 80)
    honest = route.certifying_blocks

    def fitted(mean):
        known = ~np.isnan(mean.data.gold)
        line = np.polyfit(mean.design.rollouts.reward[known], mean.data.gold[known], 1)
        mean.design.rollouts.reward[:] = np.polyval(line, mean.design.rollouts.reward)
        return honest(mean)

    monkeypatch.setattr(route, "certifying_blocks", fitted)
    row = labelled_in_turn(log)[60]
    other = gold.copy()
    other[row] = 1 - gold[row]
    changed = log_of(other, judge.copy(), 80)
    assert not same_bets_before(log_of(gold, judge.copy(), 80), changed, 60)


# --- widths ---------------------------------------------------------------------------------------


def test_nested_labels_narrow_at_every_step():
    """Also from 99 to 100, where a fifth used to be set aside."""
    rng, counts = np.random.default_rng(2), (30, 50, 80, 99, 100, 150, 200, 400)
    widths = np.zeros(len(counts))
    for _ in range(12):
        gold, judge = graded(rng, 2000)
        found = [taut.audit(log_of(gold, judge, n), **REWARD) for n in counts]
        assert all(item.status is Status.CERTIFIED for item in found)
        widths += [item.upper - item.lower for item in found]
    assert np.all(np.diff(widths) < 0), widths


@pytest.mark.parametrize("labels", [50, 100, 300])
def test_a_useless_judge_costs_next_to_nothing(labels):
    rng, widths = np.random.default_rng(3), []
    for _ in range(25):
        gold, judge = rng.beta(2.5, 2.5, 2000), rng.random(2000)
        beside = taut.audit(log_of(gold, judge, labels), **REWARD)
        alone = taut.audit(log_of(gold[:labels], judge[:labels], labels), **REWARD)
        widths.append([beside.upper - beside.lower, alone.upper - alone.lower])
    ours, without = np.mean(widths, axis=0)
    assert ours <= 1.03 * without


@pytest.mark.parametrize("draws", [40, 300])
def test_all_labelled_is_as_narrow_as_the_labels_alone(draws):
    gold, judge = graded(np.random.default_rng(4), draws)
    found = taut.audit(log_of(gold, judge, draws), **REWARD)
    mean = mean_of(log_of(gold, judge, draws))
    ends = {"delta_lower": 0.025, "delta_upper": 0.025, "method": "betting"}
    alone = ordered_mean_interval(mean.data.gold, low=0, high=1, **ends)
    assert found.upper - found.lower <= 1.01 * alone.width


def test_nothing_is_set_aside_where_nothing_is_chosen():
    """A given threshold leaves every draw; tau auto takes unlabelled ones, however many labels."""
    gold, judge = graded(np.random.default_rng(5), 1000)
    ratios = np.random.default_rng(6).exponential(3, 1000)
    log = log_of(gold, judge, 300, log_ratio=ratios)
    given, auto = (
        prepare(log, Options(beta=0.05, tau=tau, target="clipped", **SURE)) for tau in (5.0, "auto")
    )
    assert len(given.split.calibration) == 0
    chosen = auto.split.calibration.rows
    assert len(chosen) == 200 and np.isnan(auto.data.gold[chosen]).all()


def test_draws_of_unequal_chances_are_set_aside_blindly():
    """Unlabelled draws alone would leave more labelled ones than their chances say."""
    rng = np.random.default_rng(7)
    gold, judge = graded(rng, 1000)
    chance = np.where(judge > np.median(judge), 0.12, 0.03)
    log = Rollouts.from_arrays(
        prompt_id=np.arange(1000),
        reward=judge,
        gold=np.where(rng.random(1000) < chance, gold, math.nan),
        label_probability=chance,
        log_ratio=rng.exponential(3, 1000),
    )
    ready = prepare(log, Options(beta=0.05, tau="auto", target="clipped", **SURE))
    assert len(ready.split.calibration) == 200
    assert not np.isnan(ready.data.gold[ready.split.calibration.rows]).all()


# --- the truth is inside --------------------------------------------------------------------------


def misses(draw, truth, trials, seed=8, delta=0.2, **settings):
    rng, count = np.random.default_rng(seed), 0
    for _ in range(trials):
        found = taut.audit(draw(rng), delta=delta, **REWARD, **settings)
        count += not found.lower <= truth <= found.upper
    return count


def turning(rng):
    """The judge orders gold well on half of the draws, and upside down on the others."""
    gold, judge = graded(rng, 300)
    half = np.arange(300) % 2 == 0
    return log_of(gold, np.where(half, judge, 1 - judge), 60)


def rare(rng):
    """Gold fails one time in twenty, and the judge is nearly sure of it."""
    gold = (rng.random(300) < 0.95).astype(float)
    return log_of(gold, 0.9 * gold + 0.1 * rng.random(300), 60)


def by_rows(rng):
    """Three rollouts a prompt, labelled one by one."""
    quality = np.repeat(rng.beta(4, 4, 120), 3)
    gold = (rng.random(360) < quality).astype(float)
    known = rng.random(360) < 0.2
    return Rollouts.from_arrays(
        prompt_id=np.arange(360) // 3,
        reward=quality**2,
        gold=np.where(known, gold, math.nan),
    )


@pytest.mark.parametrize(
    ("draw", "truth"),
    [(turning, 0.5), (rare, 0.95), pytest.param(by_rows, 0.5, marks=pytest.mark.slow)],
    ids=["turning", "rare", "by rows"],
)
def test_the_truth_is_rarely_missed(draw, truth):
    assert_misses_at_most(misses(draw, truth, 100), 100, 0.2, str(draw))


def test_the_check_rejects_a_judge_that_has_seen_the_labels():
    """Planted mistake: on labelled rows the judge repeats the label, elsewhere it guesses high."""

    def leaking(rng):
        gold = (rng.random(600) < 0.5).astype(float)
        known = np.arange(600) < 150
        judge = np.where(known, gold, (rng.random(600) < 0.7).astype(float))
        return log_of(gold, judge, 150)

    assert misses_more_than(misses(leaking, 0.5, 60), 60, 0.2)


# --- 0/1 gold -------------------------------------------------------------------------------------


def test_declared_binary_gold_is_exact():
    rng = np.random.default_rng(9)
    gold, judge = (rng.random(90) < 0.8).astype(float), rng.random(90)
    log = log_of(gold, judge, 90)
    found = taut.audit(log, gold_kind="binary", **REWARD)
    exact = mean_interval(gold, low=0, high=1, delta=0.05, method="clopper-pearson")
    assert (found.lower, found.upper) == pytest.approx((exact.lower, exact.upper), abs=1e-12)
    assert "exact binomial" in found.terms.reward_shift.route
    assert found.settings.gold_kind == "binary"
    assert found.upper - found.lower < (wide := taut.audit(log, **REWARD)).upper - wide.lower


def test_binary_gold_with_a_judge_goes_by_counts():
    """Few labels get the exact interval; many beside many draws get the judge."""
    rng = np.random.default_rng(10)
    chance = rng.beta(0.5, 0.5, 3000)
    gold = (rng.random(3000) < chance).astype(float)
    routes = [
        taut.audit(log_of(gold, chance, n), gold_kind="binary", **REWARD).terms.reward_shift.route
        for n in (40, 400)
    ]
    assert ["exact binomial" in text for text in routes] == [True, False]


def test_gold_that_is_not_binary_is_refused():
    with pytest.raises(taut.AssumptionError, match=r"row 1: gold is 0\.5.*--gold-kind binary"):
        taut.audit(log_of(np.array([0.0, 0.5, 1.0]), np.zeros(3), 3), gold_kind="binary", **REWARD)
    with pytest.raises(taut.UsageError, match="gold_kind is 'ternary'"):
        taut.audit(log_of(np.zeros(3), np.zeros(3), 3), gold_kind="ternary", **REWARD)


# --- gold and reward data together ----------------------------------------------------------------


def both_logs(rng, labels=50, rows=250, shift=0.7, own=2600):
    """A policy that moved by `shift`, its judge, and reward data of the policy before."""

    def draw(n, centre, first):
        z = rng.standard_normal(n) + centre
        chance = 1 / (1 + np.exp(1.6 - 1.5 * z))
        weight = shift * z - shift**2 / 2
        return {
            "prompt_id": np.arange(first, first + n),
            "reward": chance,
            "gold": (rng.random(n) < chance).astype(float),
            "policy_logprob": weight - 50,
            "behaviour_logprob": np.full(n, -50.0),
        }

    audited, data = draw(own, shift, 0), draw(rows, 0.0, 10**6)
    audited["gold"][labels:] = math.nan
    return Rollouts.from_arrays(audited), Rollouts.from_arrays(data)


def test_the_joint_route_is_narrower_conditional_and_never_taken_unasked():
    rng, widths = np.random.default_rng(11), []
    for _ in range(6):
        log, data = both_logs(rng)
        asked = taut.audit(log, reward_data=data, route="joint", **REWARD)
        listed = {item.route: item for item in taut.audit(log, reward_data=data, **REWARD).routes}
        assert "--route joint" in listed["joint"].reason
        assert asked.status is Status.CONDITIONAL
        assert (asked.lower, asked.upper) == (listed["joint"].lower, listed["joint"].upper)
        widths.append([item.upper - item.lower for item in (asked, listed["gold"])])
    ours, alone = np.mean(widths, axis=0)
    assert ours < 0.95 * alone


def test_the_joint_route_misses_rarely():
    rng, points = np.random.default_rng(12), np.polynomial.hermite_e.hermegauss(80)
    chance = 1 / (1 + np.exp(1.6 - 1.5 * (points[0] + 0.7)))
    truth, count = float(chance @ points[1] / points[1].sum()), 0
    for _ in range(40):
        log, data = both_logs(rng, own=400)
        found = taut.audit(log, reward_data=data, route="joint", delta=0.2, **REWARD)
        count += not found.lower <= truth <= found.upper
    assert_misses_at_most(count, 40, 0.2)


def test_prompts_of_both_logs_close_the_joint_route():
    log, data = both_logs(np.random.default_rng(13))
    columns = {name: getattr(data, name) for name in ("reward", "gold")}
    columns |= {name: getattr(data, name) for name in ("policy_logprob", "behaviour_logprob")}
    shared = Rollouts.from_arrays(prompt_id=np.arange(len(data)), **columns)
    with pytest.raises(taut.UsageError, match="prompts that the audited log does not hold"):
        taut.audit(log, reward_data=shared, route="joint", **REWARD)


def test_noise_that_nobody_declared_is_shown():
    """Wider at .5 than at .1 nats, and nothing where it is declared or no weight is used."""
    log, data = both_logs(np.random.default_rng(14), labels=0)
    found = taut.audit(log, reward_data=data, **REWARD)
    small, large = found.sensitivity
    assert (small.noise, large.noise) == (0.1, 0.5)
    assert small.lower <= found.lower and large.lower <= small.lower
    assert large.upper - large.lower > small.upper - small.lower > found.upper - found.lower
    assert taut.audit(log, reward_data=data, log_prob_noise=0.1, **REWARD).sensitivity == ()
    assert taut.audit(log, target="reward", reward_range=(0, 1)).sensitivity == ()


# --- the clip threshold ---------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "beta"), [(0.8, 0.02), (0.8, 0.5), (3.0, 0.05)])
def test_the_clipped_objective_stays_cheap_on_heavy_tails(shape, beta):
    """Even with a log-ratio of infinite mean: at most about twice the reward's own width."""
    rng = np.random.default_rng(15)
    draws = Blocks(rows=np.arange(400), starts=np.arange(401))
    chosen = choose_thresholds(
        reward=rng.beta(4, 4, 400),
        log_ratio=2 * rng.pareto(shape, 400),
        beta=beta,
        calibration=draws,
        certifying_draws=1600,
        delta=0.05,
        maximum=None,
        second_moment=None,
        target="clipped",
    )
    ratios = 2 * rng.pareto(shape, 1600)
    values = rng.beta(4, 4, 1600) - beta * np.minimum(ratios, chosen.tau)
    low, high = -beta * chosen.tau, 1 + beta * chosen.tau_negative
    width = mean_interval(values, low=low, high=high, delta=0.05).width
    assert width < 0.1 and chosen.tau > 0

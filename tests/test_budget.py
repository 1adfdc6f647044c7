"""Plans: exact over integers, honest about what they forecast, near the best in hindsight."""

import json
import math
import sys
from itertools import product
from pathlib import Path

import mpmath
import numpy as np
import pytest

import taut
from check import blocks_of
from taut import cli
from taut.auditing.calibration import outward
from taut.auditing.options import Options
from taut.decisions.budget.components import Components, variance_components
from taut.decisions.budget.costs import TOKENS, Costs
from taut.decisions.budget.forecast import (
    Forecast,
    Setting,
    TailForecast,
    pilot_moments,
)
from taut.decisions.budget.learning_curve import (
    LearningCurve,
    fit_learning_curve,
    read_learning_curve,
)
from taut.decisions.budget.pilot import Pilot
from taut.decisions.budget.planner import Planner
from taut.decisions.budget.result import Plan
from taut.decisions.budget.search import best_declared, best_gold, best_learned
from taut.decisions.stopping import rules
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import LogError, UsageError
from taut.report.charts import charts
from taut.report.door import report_text
from taut.worlds import FAMILIES, sample_rollouts, truth

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.budget import PRICES, audited, design_of, draw_pilot, plan_of, study

COSTS = Costs(prefill=3.0, decode=1.0, label=8.0, unit="cents")
REWARD = {"target": "reward", "reward_range": (0, 1)}


def pilot_of(name, seed=3, prompts=100, rollouts=3, gold=60):
    world = FAMILIES[name](np.random.default_rng(1))
    rng = np.random.default_rng(seed)
    return world, sample_rollouts(world, prompts, rollouts, rng=rng, gold_prompts=gold)


def forecast_of(log, cost_share=0.0):
    """A forecast for the target "reward", or with some KL cost."""
    cost = cost_share * np.clip(log.log_ratio, -5, 4)
    moments = pilot_moments(reward=log.reward, cost=cost, gold=log.gold, blocks=blocks_of(log))
    if not cost_share:
        return Forecast(moments, Setting(delta=0.05))
    low, high = -5 * cost_share, 4 * cost_share
    setting = Setting(delta=0.05, cost_range=(low, high), trivial=(-high, 1.0))
    return Forecast(moments, setting)


# --- variance components --------------------------------------------------------------------------


def classical(values, blocks):
    """The textbook estimator, by mean squares and K0, for comparison."""
    sizes, means = blocks.sizes, blocks.means(values)
    rows, total, draws = values[blocks.rows], sizes.sum(), len(sizes)
    inside = ((rows - np.repeat(means, sizes)) ** 2).sum() / (total - draws)
    between = (sizes * (means - rows.mean()) ** 2).sum() / (draws - 1)
    k0 = (total - (sizes**2).sum() / total) / (draws - 1)
    return (between - inside) / k0


def test_components_are_unbiased_where_spread_grows_with_the_number_of_rollouts():
    """sigma_p^2 = 1 and the mean of s_i^2 are met on average; the classical K0 estimator is not."""
    rng = np.random.default_rng(0)
    found, textbook = [], []
    sizes = np.tile([2, 3, 20], 20)
    spread = np.tile([0.5, 1.0, 8.0], 20)
    blocks = Blocks(np.arange(sizes.sum()), np.r_[0, np.cumsum(sizes)])
    for _ in range(300):
        values = np.repeat(rng.normal(0, 1, 60), sizes)
        values = values + np.repeat(np.sqrt(spread), sizes) * rng.normal(size=len(values))
        parts = variance_components(values, blocks)
        found.append((parts.prompt, parts.rollout))
        textbook.append(classical(values, blocks))
    error = np.std(found, axis=0) / math.sqrt(300)
    assert np.all(np.abs(np.mean(found, axis=0) - [1.0, spread.mean()]) < 4 * error)
    assert np.mean(textbook) < 0.75


def test_draws_of_one_row_take_the_spread_of_the_others():
    """With K of 1 among others sigma_p^2 is still unbiased where spread does not depend on K."""
    rng = np.random.default_rng(1)
    sizes = np.tile([1, 1, 2, 5], 20)
    blocks = Blocks(np.arange(sizes.sum()), np.r_[0, np.cumsum(sizes)])
    found = []
    for _ in range(400):
        values = np.repeat(rng.normal(0, 1, 80), sizes) + rng.normal(size=sizes.sum())
        found.append(variance_components(values, blocks).prompt)
    assert abs(np.mean(found) - 1.0) < 4 * np.std(found) / 20


def test_one_rollout_a_prompt_identifies_only_the_sum():
    """With K = 1 throughout the whole variance is given to prompts, and it is said so."""
    values = np.random.default_rng(2).normal(0, 1, 50)
    found = variance_components(values, Blocks(np.arange(50), np.arange(51)))
    assert not found.identified
    assert found.prompt == pytest.approx(values.var(ddof=1))
    assert found.of_mean(1) == found.prompt and found.rollout == 0.0


def test_negative_estimates_are_cut_at_zero():
    """Prompts that do not differ give sigma_p^2 below 0 half of the time; it is cut, and marked."""
    rng = np.random.default_rng(3)
    blocks = Blocks(np.arange(100), np.arange(0, 101, 2))
    found = [variance_components(rng.normal(size=100), blocks) for _ in range(40)]
    assert all(item.prompt >= 0 for item in found)
    assert {item.cut for item in found} == {True, False}


# --- the paper's rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefill", [0.0, 0.3, 1.0, 2.7, 8.0, 20.0, 150.0])
def test_the_papers_k_beats_every_other_integer(prefill):
    """Floor or ceiling of (c_p/c_d)^(2/3) is the best K of all, and mpmath finds the same root."""
    costs = Costs(prefill=prefill, decode=1.0)

    def objective(k):
        return (1 + 1 / math.sqrt(k)) ** 2 * costs.draw(k)

    assert rules.paper_rollouts(costs, most=64) == min(range(1, 65), key=objective)
    if prefill > 1:
        h = lambda k: mpmath.log(1 + k**-0.5) + mpmath.log(prefill + k) / 2  # noqa: E731
        root = mpmath.findroot(lambda k: mpmath.diff(h, k), prefill ** (2 / 3) * 1.01)
        assert float(root) == pytest.approx(prefill ** (2 / 3), rel=1e-8)


@pytest.mark.parametrize("budget", [37.0, 200.0, 5000.0])
@pytest.mark.parametrize("prefill", [0.0, 2.0, 20.0])
def test_the_papers_plan_is_near_the_best_of_all_integer_plans(budget, prefill):
    """Over all (n, K) that the budget allows no bound is lower by more than rounding n costs."""
    from taut.inequalities.concentration import paper_alpha

    costs = Costs(prefill=prefill, decode=1.0)
    k = rules.paper_rollouts(costs, most=64)
    n = int(costs.affordable(budget, k))
    best = min(
        paper_alpha(int(costs.affordable(budget, other)), other, 0.05)
        for other in range(1, 65)
        if costs.affordable(budget, other) >= 1
    )
    assert n >= 1
    assert paper_alpha(n, k, 0.05) <= best * math.sqrt((n + 1) / n)


@pytest.mark.parametrize(
    ("prompt", "rollout", "prefill"), list(product([0.2, 1.0], [0.1, 1.0, 9.0], [0.0, 1.0, 30.0]))
)
def test_k_by_variances_beats_every_other_integer(prompt, rollout, prefill):
    """Floor or ceiling of the root of c_p sigma_r^2 / (c_d sigma_p^2) has the least variance."""
    parts = Components(
        prompt=prompt, rollout=rollout, identified=True, draws=9, replicated=9, cut=False
    )
    costs = Costs(prefill=prefill, decode=1.0)
    best = min(range(1, 65), key=lambda k: parts.of_mean(k) * costs.draw(k))
    assert rules.variance_rollouts(costs, parts, most=64) == best


def test_k_by_variances_at_the_edges():
    """No prompt spread asks for as many rollouts as may be, no rollout spread for one."""
    known = {"identified": True, "draws": 9, "replicated": 9, "cut": True}
    costs = Costs(prefill=2.0, decode=1.0)
    alike = Components(prompt=0.0, rollout=1.0, **known)
    assert rules.variance_rollouts(costs, alike, most=40) == 40
    assert rules.variance_rollouts(Costs(decode=1.0), alike, most=40) == 1
    constant = Components(prompt=1.0, rollout=0.0, **known)
    assert rules.variance_rollouts(costs, constant, most=40) == 1
    unseen = Components(prompt=1.0, rollout=0.0, identified=False, draws=9, replicated=0, cut=False)
    assert rules.variance_rollouts(costs, unseen, most=40) is None


@pytest.mark.parametrize(("rate", "floor"), [(1.0, 0.0), (0.5, 0.0), (0.3, 0.01), (2.0, 0.002)])
def test_the_split_of_money_is_the_minimum(rate, floor):
    """Closed form for gamma = 1 and L_inf = 0, search otherwise: mpmath finds no lower bound."""
    curve = LearningCurve(floor, 0.7, rate)
    constant, coverage, price, budget = 3.1, 2.0, 1.7, 4000.0
    money = rules.split_money(
        budget, sampling=constant, coverage=coverage, curve=curve, price=price
    )

    def bound(x):
        mse = floor + 0.7 * ((budget - x) / price) ** (-mpmath.mpf(rate))
        return constant / mpmath.sqrt(x) + coverage * mpmath.sqrt(mse)

    slope = mpmath.findroot(lambda x: mpmath.diff(bound, x), money)
    assert money == pytest.approx(float(slope), rel=1e-4)
    if rate == 1.0:
        assert money == pytest.approx(float(slope), rel=1e-10)
        ratio = (constant / (coverage * math.sqrt(0.7 * price))) ** (2 / 3)
        assert money / (budget - money) == pytest.approx(ratio, rel=1e-12)


# --- exact search ---------------------------------------------------------------------------------


def brute_force(forecast, costs, budget, rollouts, several):
    """Width of the best of all integer plans (n, K, g), one label a prompt or r on all prompts."""
    best = math.inf
    for k in rollouts:
        most = int(costs.affordable(budget, k))
        limit = budget * (1 + 1e-9) + 1e-6 * costs.draw(k)
        n, p = np.meshgrid(np.arange(1, most + 1), np.arange(1, most + 1), indexing="ij")
        fits = (p <= n) & (n * costs.draw(k) + p * costs.label <= limit)
        n, p = n[fits], p[fits]
        if len(n):
            best = min(best, forecast.gold(n, k + 0 * n, p)[0].min())
        for each in range(2, k + 1 if several else 2):
            n = np.arange(1, most + 1)
            n = n[n * (costs.draw(k) + each * costs.label) <= limit]
            if len(n):
                best = min(best, forecast.gold(n, k + 0 * n, n, each + 0 * n)[0].min())
    return best


@pytest.mark.parametrize("name", ["over_optimised", "calibrated", "coin"])
def test_search_finds_what_brute_force_finds(name):
    """On a grid of prices and budgets no integer plan is forecast narrower than the one found."""
    rng = np.random.default_rng(len(name))
    _, log = pilot_of(name)
    for share, prefill, label in product([0.0, 0.1], [0.0, 6.0], [0.0, 0.7, 9.0]):
        forecast = forecast_of(log, share)
        costs = Costs(prefill=prefill, decode=1.0, label=label)
        budget = float(rng.choice([30, 90, 170]))
        found = best_gold(forecast, costs, budget, np.arange(1.0, 6.0), several=True)
        wanted = brute_force(forecast, costs, budget, range(1, 6), True)
        assert (found.width if found else math.inf) == pytest.approx(wanted, abs=1e-12)


def test_search_is_never_beaten_by_a_random_plan_of_a_large_budget():
    """At budgets beyond brute force, thousands of random plans are all wider."""
    _, log = pilot_of("poor_reward_model")
    forecast, costs = forecast_of(log, 0.1), Costs(prefill=4.0, decode=1.0, label=3.0)
    rng = np.random.default_rng(5)
    budget = 2e6
    found = best_gold(forecast, costs, budget, np.arange(1.0, 17.0), several=True)
    k = rng.integers(1, 17, 20_000).astype(float)
    p = np.floor(np.exp(rng.uniform(0, math.log(budget / 8), 20_000)))
    n = costs.affordable(budget - p * costs.label, k)
    fits = n >= p
    assert fits.sum() > 1000
    assert forecast.gold(n[fits], k[fits], p[fits]).min() >= found.width
    near = found.labelled + rng.integers(-500, 500, 2000)
    n = costs.affordable(budget - near * costs.label, found.rollouts)
    fits = n >= near
    assert forecast.gold(n[fits], found.rollouts + 0 * n[fits], near[fits]).min() >= found.width


@pytest.mark.parametrize("at_hand", [0, 40])
def test_search_with_pairs_finds_what_brute_force_finds(at_hand):
    """The same for preference pairs under a declared C."""
    _, log = pilot_of("over_optimised")
    forecast, costs = forecast_of(log), Costs(prefill=2.0, decode=1.0, label=0.5)
    shift = lambda m: np.minimum(1.3 * np.sqrt(0.001 + 0.5 / np.maximum(m, 1.0)), 1.0)  # noqa: E731
    for budget in (9.0, 60.0, 333.0):
        best = math.inf
        for k in range(1, 6):
            m = np.arange(at_hand, at_hand + int(2 * budget) + 1)
            n = costs.affordable(budget - (m - at_hand) * 0.5, k)
            m, n = m[n >= 1], n[n >= 1]
            if len(n):
                best = min(best, forecast.learned(n, k + 0 * n, shift(m))[0].min())
        found = best_declared(
            forecast, costs, budget, np.arange(1.0, 6.0), shift=shift, at_hand=at_hand, price=0.5
        )
        assert found.width == pytest.approx(best, abs=1e-12)
        assert found.cost <= budget * (1 + 1e-9)


@pytest.mark.parametrize("name", ["over_optimised", "calibrated", "rare_failures", "coin"])
def test_one_rollout_a_prompt_where_prompts_cost_nothing_of_their_own(name):
    """K* = 1 in the uniform case, with and without labels (theory §8.1)."""
    _, log = pilot_of(name, rollouts=4)
    costs = Costs(decode=1.0, label=5.0)
    for budget in (60.0, 3000.0):
        found = best_learned(forecast_of(log), costs, budget, np.arange(1.0, 17.0))
        assert (found.rollouts, found.prompts) == (1, budget)
        if name == "coin":
            continue  # a label is a price per prompt too; here a labelled prompt repays rollouts
        labelled = best_gold(forecast_of(log), costs, budget, np.arange(1.0, 17.0), several=True)
        assert labelled.rollouts == 1


def test_dear_prompts_ask_for_more_rollouts():
    """Where reading a prompt is dear and rollouts differ, K grows with the price of a prompt."""
    _, log = pilot_of("coin", rollouts=4)
    best = [
        best_learned(
            forecast_of(log), Costs(decode=1.0, prefill=price), 4000.0, np.arange(1.0, 33.0)
        ).rollouts
        for price in (0.0, 5.0, 50.0)
    ]
    assert best[0] == 1 and best[0] < best[1] < best[2]


def test_forecasts_fall_in_every_count():
    """More prompts, labels or rollouts never make the forecast wider, between the audit's jumps."""
    _, log = pilot_of("calibrated")
    for share in (0.0, 0.1):
        forecast = forecast_of(log, share)
        n, p = np.meshgrid(np.arange(400, 2000, 37.0), np.arange(100, 400, 11.0))
        widths = forecast.gold(n.ravel(), 3 + 0 * n.ravel(), p.ravel())[0].reshape(n.shape)
        assert (np.diff(widths, axis=0) <= 1e-15).all()
        assert (np.diff(widths, axis=1) <= 1e-15).all()
        k = np.arange(1, 30.0)
        assert (np.diff(forecast.learned(300 + 0 * k, k)[0]) <= 0).all()


# --- learning curves ------------------------------------------------------------------------------


@pytest.mark.parametrize(("floor", "rate"), [(0.0, 1.0), (0.02, 0.5), (0.005, 1.7)])
def test_the_curve_is_recovered_without_noise(floor, rate):
    """Points on a curve give that curve."""
    pairs = np.array([100, 200, 400, 800, 1600, 3200, 6400])
    found = fit_learning_curve(pairs, floor + 4.0 * pairs**-rate)
    assert found(pairs) == pytest.approx(floor + 4.0 * pairs**-rate, rel=1e-4)
    assert (found.floor, found.rate) == pytest.approx((floor, rate), abs=2e-3)
    assert found.floor >= 0 and found.scale >= 0 and 0 < found.rate <= 2


def test_the_fit_shrugs_off_a_wild_point():
    """One point ten times too high moves the curve by little, and the bars hold the truth."""
    pairs = np.geomspace(50, 20_000, 14).round()
    true, there, inside = 0.01 + 2.0 * pairs**-0.6, 0.01 + 2.0 * 1000**-0.6, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noisy = true * np.exp(0.03 * rng.standard_normal(14))
        noisy[5] *= 10
        found = fit_learning_curve(pairs, noisy)
        assert found(1000.0) == pytest.approx(there, rel=0.1)
        low, high = np.quantile(found.resampled(1000.0), [0.05, 0.95])
        inside += low <= there <= high
    assert inside >= 3  # of 6 at 90%: fewer by a chance of 0.1% if the bars are right


def test_curves_are_read_from_tables(tmp_path):
    """CSV, JSONL and Parquet give the same curve, with and without standard errors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(100, 0.2), (400, 0.12), (1600, 0.08), (6400, 0.06)]
    (tmp_path / "a.csv").write_text("m,L\n" + "\n".join(f"{m},{mse}" for m, mse in rows))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"m": m, "L": x}) for m, x in rows))
    columns = {"m": [m for m, _ in rows], "L": [x for _, x in rows]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = [read_learning_curve(tmp_path / f"a.{kind}") for kind in ("csv", "jsonl", "parquet")]
    assert found[0] == found[1] == found[2]
    (tmp_path / "b.csv").write_text("m,L,se\n" + "\n".join(f"{m},{x},0.01" for m, x in rows))
    assert len(read_learning_curve(tmp_path / "b.csv").samples) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m,loss\n1,2\n", "expected a column named 'L'"),
        ("m,L\n1,0.5\n2,0.4\n", "three different m"),
        ("m,L\n1,0.5\n2,x\n4,0.2\n", "row 2: 'L' is 'x'"),
        ("m,L\n0,0.5\n2,0.3\n4,0.2\n", "1 or more"),
        ("m,L\n1,0.5\n2,-0.3\n4,0.2\n", "mean squared error"),
        ("m,L\n", "at least one row"),
    ],
)
def test_broken_curves_are_refused_with_a_reason(tmp_path, text, message):
    """Each fault of a table is named, with its file."""
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(LogError, match=message) as raised:
        read_learning_curve(path)
    assert str(path) in str(raised.value)


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "prices"),
    [("over_optimised", "reward", "dear labels"), ("calibrated", "objective", "dear prompts")],
)
def test_plans_from_a_pilot_are_near_the_best_and_forecasts_near_the_truth(name, target, prices):
    """Within 5% of hindsight and 15% of the reached width, medians; docs/budget.md has them all."""
    found = study(name, target, prices, seeds=3, logs=3)
    assert found["excess"] <= 0.05
    assert 0.85 <= found["reached"] <= 1.15


def test_a_bar_knows_what_a_pilot_has_not_seen():
    """Pilots without a single failure forecast a narrow width; their bar reaches the true one."""
    world = FAMILIES["rare_failures"](np.random.default_rng(7))
    costs, budget = PRICES["dear labels"]
    for seed in range(40):
        pilot = draw_pilot(world, np.random.default_rng([seed, 1]), prompts=60)
        if np.nanmin(pilot.gold) < 1:
            continue
        chosen, (_, upper), _ = plan_of(pilot, costs, budget, REWARD)
        widths = audited(world, design_of(chosen), REWARD, range(5), 0)
        assert chosen.width < 0.6 * widths.mean()
        assert upper > np.median(widths)
        return
    pytest.fail("no such pilot")


def test_the_width_asked_for_is_bought_at_the_least_cost():
    """The cheapest plan of a width keeps it, and a little less money does not."""
    _, log = pilot_of("over_optimised")
    found = taut.plan(log, width=0.08, costs=COSTS, **REWARD)
    assert found.width <= 0.08 and found.for_width == found.chosen
    less = taut.plan(log, budget=found.chosen.cost - 0.99, costs=COSTS, **REWARD)
    assert less.width > 0.08


def test_a_narrow_width_takes_thresholds_that_hide_less():
    """No width is refused that some budget is forecast to buy: thresholds follow the money."""
    world, log = pilot_of("kl_optimal", prompts=40, rollouts=1, gold=30)
    pilot = Pilot(log, Options(beta=world.beta, reward_range=(0, 1), target="objective"))
    planner = Planner(pilot, Costs(decode=1.0), None, 0, 1)
    planner.fix_clip(1e6)
    wanted = 1.1 * planner.best(1e6).width
    money, found, floor = planner._budget_for(wanted)
    assert floor is None and found.width <= wanted and money <= 1e6
    planner.fix_clip(40.0)
    assert planner.best(1e12).width > wanted  # thresholds that suit the pilot hide more


def test_money_that_says_nothing_is_not_spent():
    """Where a plan says what is known without data the cheapest is taken; no bar is wider."""
    _, log = pilot_of("over_optimised")
    found = taut.plan(log, budget=30, costs=COSTS, **REWARD)
    assert (found.width, found.chosen.cost, found.upper) == (1.0, 12.0, 1.0)


def test_thresholds_can_be_typed_again():
    """Chosen thresholds have six digits, rounded up, and both are in the line to type."""
    for tau in (0.0, 1e-9, 0.1, 1.23456749, 206.89219606500018, 12345678.0):
        assert tau <= outward(tau) <= tau * (1 + 1e-5)
        assert outward(outward(tau)) == outward(tau) == float(f"{outward(tau):.6g}")
    world, log = pilot_of("heavy_tailed", rollouts=2)
    for target in ("clipped", "objective"):
        settings = {"target": target, "reward_range": (0, 1), "beta": world.beta}
        clip = taut.plan(log, budget=2000, costs=COSTS, **settings).settings
        assert outward(clip.tau) == clip.tau and outward(clip.tau_negative) == clip.tau_negative
    found = taut.clip_threshold(log, beta=world.beta, reward_range=(0, 1), prompts=500)
    line = f"--tau {found.tau:.6g} --tau-negative {found.tau_negative:.6g}"
    assert line in " ".join(str(found).split())
    assert outward(found.tau) == found.tau


def test_a_width_that_no_budget_buys_is_refused_with_the_floor():
    """Under a declared shift the forecast does not fall below twice the shift."""
    _, log = pilot_of("over_optimised")
    declared = {"coverage": 2.0, "reward_mse": 0.0025}
    with pytest.raises(UsageError, match=r"does not fall below 0\.2"):
        taut.plan(log, width=0.1, costs=Costs(decode=1.0), **REWARD, **declared)


def test_plans_with_pairs_follow_the_curve():
    """A declared C and a curve split money between rollouts and pairs, as the paper does too."""
    _, log = pilot_of("over_optimised")
    pairs = np.array([100, 400, 1600, 6400])
    curve = fit_learning_curve(pairs, 0.9 / pairs)
    costs = Costs(prefill=3.0, decode=1.0, pair=0.5)
    found = taut.plan(log, budget=4000, costs=costs, coverage=1.5, rm_curve=curve, **REWARD)
    assert found.chosen.route == "declared" and found.preference_pairs > 100
    assert found.chosen.cost <= 4000 and found.gold_labels == 0
    assert found.status == "conditional" and 0 < found.paper.rollout_share < 1
    assert {row.resource for row in found.marginal.resources} >= {"prompts", "preference pairs"}
    with pytest.raises(UsageError, match="declared coverage"):
        taut.plan(log, budget=4000, costs=costs, rm_curve=curve, **REWARD)


def test_one_rollout_pilots_keep_k_at_one_and_say_so():
    """Where the spread within a prompt is not seen, no plan uses it."""
    _, log = pilot_of("over_optimised", rollouts=1)
    costs = Costs(prefill=50.0, decode=1.0, label=2.0)
    found = taut.plan(log, budget=4000, costs=costs, **REWARD)
    assert found.rollouts_per_prompt == 1 and not found.components.objective.identified
    assert any("K stays at 1" in item.text for item in found.rests_on)
    assert found.paper.rollouts_by_variance is None
    assert list(charts(found)) == ["budget"]
    assert "not seen: the pilot has one rollout" in " ".join(report_text(found, width=70).split())


def test_costs_are_measured_in_tokens_where_none_are_given():
    """A rollout then costs its mean length; prompts are free and it is said so."""
    _, log = pilot_of("over_optimised")
    found = taut.plan(log, budget=900, **REWARD)
    assert found.costs.unit == TOKENS
    assert found.costs.decode == pytest.approx(log.n_tokens.mean())
    assert found.chosen.route == "learned" and found.status == "vacuous"
    assert any("cannot be measured" in item.text for item in found.rests_on)
    bare = Rollouts.from_arrays(prompt_id=[1, 2, 3], reward=[0.1, 0.2, 0.3])
    with pytest.raises(LogError, match="decode cost"):
        taut.plan(bare, budget=10, **REWARD)


@pytest.mark.parametrize("target", ["clipped", "objective"])
def test_objectives_are_planned_with_thresholds_for_the_audit(target):
    """The plan fixes both thresholds, the audit takes them, and the forecast is met."""
    world, log = pilot_of("kl_optimal", rollouts=2)
    more = {} if target == "clipped" else {"log_ratio_max": truth(world).log_ratio_max}
    settings = {"target": target, "reward_range": (0, 1), "beta": world.beta} | more
    found = taut.plan(log, budget=4000, costs=COSTS, **settings)
    assert isinstance(found, Plan)
    clip = {"tau": found.settings.tau, "tau_negative": found.settings.tau_negative}
    widths = audited(world, design_of(found.chosen), settings | clip, range(3), 0)
    assert np.median(widths) == pytest.approx(found.width, rel=0.15)
    assert f"--tau-negative {found.settings.tau_negative!r}" in found.audit


def test_undeclared_tails_are_forecast_as_estimates():
    """Without a declared maximum what the objective's plan promises is an estimate."""
    world, log = pilot_of("heavy_tailed", rollouts=2)
    settings = {"reward_range": (0, 1), "beta": world.beta, "target": "objective"}
    found = taut.plan(log, budget=2000, costs=COSTS, **settings)
    assert found.status == "estimated"
    moment = truth(world).log_ratio_second_moment
    held = taut.plan(log, budget=2000, costs=COSTS, log_ratio_second_moment=moment, **settings)
    assert held.status == "conditional"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": None}, "neither a budget nor a width"),
        ({"budget": -1}, "budget is -1"),
        ({"budget": 0.5}, "buys not one prompt"),
        ({"budget": 1e300}, "more prompts than can be counted"),
        ({"most_rollouts": 0}, "most_rollouts"),
        ({"target": "clipped", "beta": 0.1, "tau": None}, "tau none"),
    ],
)
def test_senseless_requests_are_refused(changes, message):
    """Each says what is wrong."""
    _, log = pilot_of("over_optimised")
    with pytest.raises(UsageError, match=message):
        taut.plan(log, **({"budget": 100, "costs": COSTS} | REWARD | changes))


def test_prices_are_checked():
    """A free rollout or a negative price is refused."""
    with pytest.raises(UsageError, match="decode cost is 0"):
        Costs(decode=0)
    with pytest.raises(UsageError, match="label cost is -1"):
        Costs(decode=1, label=-1)


# --- what comes out -------------------------------------------------------------------------------


def test_the_document_does_not_depend_on_row_order():
    """Shuffled rows give the same bytes; numbers are finite or null."""
    _, log = pilot_of("calibrated")
    shuffled = log.take(np.random.default_rng(0).permutation(len(log)))
    texts = [
        json.dumps(
            taut.plan(item, budget=900, width=0.2, costs=COSTS, **REWARD).document, allow_nan=False
        )
        for item in (log, shuffled)
    ]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["schema"] == "taut.plan/1"


def test_reports_show_the_plan_at_any_width():
    """Purchase, forecast, marginal values and basis stand in the report and in the notebook."""
    _, log = pilot_of("calibrated")
    found = taut.plan(log, budget=900, width=0.15, costs=COSTS, **REWARD)
    for width in (50, 80, 120):
        text = report_text(found, width=width)
        assert max(map(len, text.splitlines())) <= width
        words = " ".join(text.split())
        for part in ("Buy ", "Forecast: an interval", "The next 50 cents", "What it rests on"):
            assert part in words
    assert str(found) == report_text(found)
    assert "Forecast: an interval" in found._repr_html_()


def test_plan_on_the_command_line(tmp_path, capsys, monkeypatch):
    """`taut plan` writes the report, JSON, a page and a picture."""
    log = tmp_path / "pilot.parquet"
    taut.simulate("over_optimised", log, prompts=60, rollouts_per_prompt=2, gold=40)
    paths = {kind: tmp_path / f"plan.{kind}" for kind in ("json", "html", "svg")}
    arguments = f"plan {log} --budget 300 --decode-cost 1 --prefill-cost 2 --label-cost 4 --unit s"
    arguments += " --target reward --reward-range 0 1 --json {json} --html {html} --plot {svg}"
    monkeypatch.setattr(sys, "argv", ["taut", *arguments.format(**paths).split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert "Buy " in capsys.readouterr().out
    assert json.loads(paths["json"].read_text())["plan"]["cost"] <= 300
    assert "<svg" in paths["svg"].read_text() and "Buy " in paths["html"].read_text()
    monkeypatch.setattr(sys, "argv", ["taut", "plan", str(log)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "--budget" in capsys.readouterr().err


def test_tail_forecasts_widen_the_lower_end():
    """A tail adds its floor at once and its slope as 1/sqrt(n)."""
    _, log = pilot_of("calibrated")
    plain = forecast_of(log, 0.1)
    tail = TailForecast(floor=0.01, slope=0.2, negative=0.003)
    setting = Setting(
        delta=0.05,
        cost_range=plain.setting.cost_range,
        trivial=(-math.inf, 2.0),
        tail=tail,
    )
    bare = Forecast(plain.moments, Setting(**{**_fields(setting), "tail": TailForecast()}))
    wide = Forecast(plain.moments, setting)
    for n in (400.0, 6400.0):
        more = wide.learned([n], [2])[0, 0] - bare.learned([n], [2])[0, 0]
        assert more == pytest.approx(0.013 + 0.2 / math.sqrt(n))


def _fields(setting):
    return {name: getattr(setting, name) for name in setting.__slots__}

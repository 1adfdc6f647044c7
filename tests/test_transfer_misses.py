"""Certificates through reward data rarely miss, and the check catches planted mistakes (theory §3).

The long form, with widths, is `python -m validation.transfer`.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from check import assert_misses_at_most, misses_more_than
from taut.auditing.audit import audit
from taut.auditing.routes import coverage as added
from taut.auditing.routes import importance as weighted
from taut.auditing.routes.declared import Joined
from taut.bounds.sampling import block_interval
from taut.draws.rollouts import Rollouts
from taut.types import Interval, Status
from taut.worlds import sample_reward_data, sample_rollouts, truth

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.transfer import (
    DATA,
    DELTAS,
    ROUTES,
    TARGETS,
    UNCOVERED,
    WORLDS,
    Cell,
    Tally,
    cells,
    logs,
    run_cell,
)

SHORT = {20: 2, 100: 1, 500: 1}
JUDGED = (*ROUTES, "auto")


@pytest.fixture(scope="module")
def tallies():
    """Tallies of every cell in short form, by cell."""
    return {cell: run_cell(cell, SHORT[cell.prompts]) for cell in cells()}


def pooled(tallies, **wanted):
    """Add up the claims of some cells, by route: misses and trials."""
    out = dict.fromkeys(JUDGED, (0, 0))
    for cell, group in tallies.items():
        if all(getattr(cell, name) in value for name, value in wanted.items()):
            for (_, route), tally in group.items():
                if route in out:
                    misses, trials = out[route]
                    out[route] = misses + tally.misses, trials + tally.claims
    return out


@pytest.mark.parametrize("family", WORLDS)
def test_routes_of_a_family_rarely_miss(tallies, family):
    """In no cell of the family does a route, or the certificate, miss more often than delta."""
    mine = {cell: group for cell, group in tallies.items() if cell.family == family}
    assert sum(trials for _, trials in pooled(mine).values())
    for cell, group in mine.items():
        for (target, route), tally in group.items():
            if route in JUDGED and tally.claims:
                what = f"{cell}, {target} by {route}"
                assert_misses_at_most(tally.misses, tally.claims, cell.delta, what)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("data", DATA)
def test_routes_pooled_over_families_rarely_miss(tallies, data, delta):
    """Pooled over families and sample sizes, for each target, every route keeps its delta."""
    for target in TARGETS:
        some = {
            cell: {key: tally for key, tally in group.items() if key[0] == target}
            for cell, group in tallies.items()
        }
        for route, (misses, trials) in pooled(some, data={data}, delta={delta}).items():
            if trials:
                assert_misses_at_most(misses, trials, delta, f"{data}, {target} by {route}")


def test_uncovered_families_get_no_false_certificate(tallies):
    """Where reward data miss what the policy does, all claims together keep the smaller delta."""
    for delta in DELTAS:
        found = pooled(tallies, family=set(UNCOVERED), delta={delta})
        misses, trials = map(sum, zip(*found.values(), strict=True))
        assert trials > 250
        assert_misses_at_most(misses, trials, delta, "uncovered families")


def test_every_route_is_open_somewhere(tallies):
    """The check is about something: each route makes claims, and most of `auto` say something."""
    for route, (_, trials) in pooled(tallies).items():
        assert trials > 200, route
    auto = [tally for group in tallies.values() for key, tally in group.items() if key[1] == "auto"]
    vacuous, claims = sum(t.vacuous for t in auto), sum(t.claims for t in auto)
    assert vacuous < 0.3 * claims


def test_the_score_route_claims_nothing(tallies):
    """It is an estimate, and where errors lie outside its class it misses nearly always."""
    scores = {
        cell: group["reward", "score"]
        for cell, group in tallies.items()
        if cell.family in ("hidden_error", "linear_error") and cell.prompts == 500
    }
    assert all(tally.claims == tally.vacuous for tally in scores.values())
    hidden = [tally for cell, tally in scores.items() if cell.family == "hidden_error"]
    missed = sum(tally.missed_estimates for tally in hidden)
    assert missed >= 0.9 * sum(tally.estimates for tally in hidden) > 0


def test_rows_labelled_one_by_one_in_unequal_draws_open_no_route():
    """Draws of few rows then lack labels more often, so that means over labelled rows are off."""
    found = run_cell(Cell("unequal_rollouts", "partly", 500, 0.05), 2)
    assert all(found["reward", route].refused == 2 for route in ROUTES)
    assert found["reward", "auto"].vacuous == 2


# --- wrong behaviour log-probs --------------------------------------------------------------------

COVERED = ("no_shift", "linear_error", "hidden_error", "over_optimised", "calibrated")


@pytest.mark.parametrize("family", COVERED)
@pytest.mark.parametrize("bias", [-1.0, -3.0])
def test_weights_too_large_are_refused(family, bias):
    """Behaviour log-probs a nat too low make the mean weight exceed 1: no density route is open."""
    found = run_cell(Cell(family, "labelled", 100, 0.05, bias=bias), 5)
    for route in ("truncated", "importance"):
        assert found["reward", route].refused == 5
    assert found["reward", "auto"].misses == 0


@pytest.mark.parametrize("bias", [0.3, 1.0, 3.0, 8.0])
def test_weights_too_small_are_refused_or_wide(bias):
    """Behaviour log-probs too high: no more false certificates than delta, in all these worlds."""
    misses = trials = 0
    for family in (*COVERED, *UNCOVERED, "poor_coverage"):
        for prompts in (20, 100, 500):
            found = run_cell(Cell(family, "labelled", prompts, 0.05, bias=bias), 2)
            for route in JUDGED:
                if ("reward", route) in found:
                    misses += found["reward", route].misses
                    trials += found["reward", route].claims
    assert trials > 50
    assert_misses_at_most(misses, trials, 0.05)


def test_halved_weights_do_not_certify_a_reward_model_that_is_off_by_a_constant():
    """r-hat says 0.9 and r* is 0.2 everywhere; behaviour log-probs are 0.7 nats too high."""
    prompts = 40
    known = {"reward": np.full(prompts, 0.9), "policy_logprob": np.full(prompts, -5.0)}
    known["behaviour_logprob"] = known["policy_logprob"] + 0.7
    rollouts = Rollouts.from_arrays(known, prompt_id=np.arange(prompts))
    gold = np.full(prompts, 0.2)
    data = Rollouts.from_arrays(known, prompt_id=prompts + np.arange(prompts), gold=gold)
    found = audit(rollouts, reward_data=data, reward_range=(0, 1), target="reward")
    assert found.lower <= 0.2 <= found.upper


@pytest.mark.parametrize("family", ["no_shift", "hidden_error", "over_optimised", "calibrated"])
def test_noisy_weights_are_refused(family):
    """Noise of 1.5 nats in the behaviour log-probs triples the mean weight: refused."""
    found = run_cell(Cell(family, "labelled", 500, 0.05, noise=1.5), 4)
    assert found["reward", "importance"].refused == found["reward", "truncated"].refused == 4


def test_what_no_check_can_see_is_named():
    """Noise of half a nat passes the checks; the certificate says that it trusts the log-probs."""
    world = WORLDS["hidden_error"](np.random.default_rng(0))
    rollouts = sample_rollouts(world, 100, rng=np.random.default_rng(1), weights=True)
    data = sample_reward_data(world, 100, rng=np.random.default_rng(2), gold_prompts=100)
    found = audit(rollouts, reward_data=data, reward_range=(0, 1), target="reward")
    assert any("log-probs of policy and behaviour are right" in text for text in shift_of(found))


def shift_of(certificate):
    return certificate.terms.reward_shift.assumes


# --- planted mistakes: each is a broken audit, and a cell in which it must be caught --------------


def chi_square_is_plugged_in(patch):
    """C and L are the sample's own: weights that never saw the new region say that C is 1."""

    def broken(rollouts, *, reward_data, **told):
        weight = np.exp(reward_data.policy_logprob - reward_data.behaviour_logprob)
        coverage = max(1.0, math.sqrt((weight**2).mean()))
        mse = float(((reward_data.reward - reward_data.gold) ** 2).mean())
        told |= {"coverage": coverage, "reward_mse": mse}
        # Weights of the audited rollouts would give it away; many logs do not have them.
        rollouts = replace(rollouts, behaviour_logprob=None)
        return audit(rollouts, reward_data=reward_data, **told)

    return broken


def largest_weight_is_taken_for_the_range(patch):
    """Untruncated weights, two-sided, with the largest weight seen as their range."""

    def importance(mean, shift, learned, budget):
        data = shift.data
        values = data.blocks.means(data.weight * data.gold)
        top = float(data.weight[data.blocks.rows].max())
        found = block_interval(
            values,
            low=0.0,
            high=top,
            delta_lower=budget.lower,
            delta_upper=budget.upper,
            method=mean.method,
        )
        nothing = Interval(0.0, 0.0)
        return Joined(found, nothing, nothing, (), Status.CERTIFIED, (), "", "", values)

    patch.setattr(weighted, "importance", importance)
    return audit


def all_mass_is_taken_as_covered(patch):
    """m_M = 1: the mass that reward data never saw is left out of the truncated bound."""
    honest = added.truncated_shift

    def broken(parts):
        return honest(replace(parts, mass=Interval(1.0, 1.0), square=max(1.0, parts.square)))

    patch.setattr(added, "truncated_shift", broken)
    return audit


MISTAKES = [
    (chi_square_is_plugged_in, Cell("uncovered_support", "labelled", 100, 0.05), "paper", 20),
    (
        largest_weight_is_taken_for_the_range,
        Cell("poor_coverage", "labelled", 20, 0.05),
        "importance",
        40,
    ),
    (
        all_mass_is_taken_as_covered,
        Cell("uncovered_support", "labelled", 500, 0.05),
        "truncated",
        20,
    ),
]


@pytest.mark.parametrize(
    ("mistake", "cell", "route", "audits"), MISTAKES, ids=[m[0].__name__ for m in MISTAKES]
)
def test_the_same_check_rejects_a_planted_mistake(monkeypatch, mistake, cell, route, audits):
    """A broken audit claims a guarantee, and the check proves that it does not keep it."""
    tally = run_cell(cell, audits, audit=mistake(monkeypatch))["reward", route]
    assert tally.claims == audits
    assert misses_more_than(tally.misses, tally.claims, cell.delta), tally.misses


# Subtler mistakes need more audits than the harness, which audits all targets twice, can afford.


def misses_of(route, pairs, delta, **told):
    """How often the interval of a route misses E r*, over pairs of logs with their truth."""
    misses = 0
    for rollouts, data, true in pairs:
        known = {"reward_range": (0, 1), "target": "reward", "delta": delta} | told
        found = audit(rollouts, reward_data=data, route="trivial", **known)
        entry = next(e for e in found.routes if e.route == route)
        # Ends that cross are a miss, too.
        crossed = entry.lower is None
        misses += crossed or not entry.lower - 1e-12 <= true <= entry.upper + 1e-12
    return misses


def pairs_of(cell, audits):
    for index in range(audits):
        world = WORLDS[cell.family](np.random.default_rng([cell.seed, index // 10]))
        yield (*logs(cell, world, index), truth(world).reward)


def coin_errors(audits, prompts=100):
    """A reward model that always says 1/2: all the doubt lies in its error on reward data."""
    many = 2000
    rollouts = Rollouts.from_arrays(prompt_id=np.arange(many), reward=np.full(many, 0.5))
    for index in range(audits):
        gold = np.random.default_rng(index).integers(0, 2, prompts).astype(float)
        ids = np.arange(many, many + prompts)
        yield (
            rollouts,
            Rollouts.from_arrays(prompt_id=ids, reward=np.full(prompts, 0.5), gold=gold),
            0.5,
        )


def test_the_check_rejects_a_ledger_without_the_ingredients(monkeypatch):
    """Each end of each ingredient may miss with probability delta, and none is on the ledger."""
    honest, adding = added.error_bounds, added._added
    assert not misses_more_than(misses_of("centred", coin_errors(200), 0.2, coverage=1.0), 200, 0.2)
    # `centred` gives error_bounds half of delta, which halves it for E e and again for each end.
    monkeypatch.setattr(added, "error_bounds", lambda data, part, how: honest(data, 8 * part, how))
    monkeypatch.setattr(
        added,
        "_added",
        lambda mean, budget, shift, *, shift_events, **named: adding(
            mean, budget, shift, shift_events=(), **named
        ),
    )
    misses = misses_of("centred", coin_errors(200), 0.2, coverage=1.0)
    assert misses_more_than(misses, 200, 0.2), misses


def own_order(pairs):
    """Number the audited draws, so that both logs take shared prompts in orders of their own."""
    for index, (rollouts, data, true) in enumerate(pairs):
        group = np.random.default_rng(index).permutation(len(rollouts)).astype(np.uint64)
        yield replace(rollouts, group=group), data, true


@pytest.mark.slow
def test_the_check_rejects_paired_prompts_taken_as_independent(monkeypatch):
    """Where prompts carry all variance, draws of one prompt in two blocks halve what is seen."""
    cell = Cell("no_shift", "paired", 500, 0.2)
    honest = misses_of("importance", own_order(pairs_of(cell, 100)), 0.2)
    assert not misses_more_than(honest, 100, 0.2)
    partners = weighted._partners
    monkeypatch.setattr(weighted, "_partners", lambda *some: np.full_like(partners(*some), -1))
    misses = misses_of("importance", own_order(pairs_of(cell, 300)), 0.2)
    assert misses_more_than(misses, 300, 0.2), misses


@pytest.mark.slow
def test_the_check_rejects_shopping_on_the_certifying_draws(monkeypatch):
    """Keeping the best of all truncations and forms at each end misses too often."""
    cell = Cell("no_shift", "labelled", 300, 0.4)
    assert not misses_more_than(misses_of("importance", pairs_of(cell, 100), 0.4), 100, 0.4)
    honest = weighted.importance

    def best_end(mean, shift, upper, eta):
        blocks = (
            weighted._end_blocks(mean, shift, form, upper, shift.data.blocks, mean.blocks)
            for form in weighted._forms(mean, shift)
        )
        return max(weighted._lower_end(found, eta, mean.method) for found in blocks)

    def shopping(mean, shift, learned, budget):
        lower = best_end(mean, shift, False, budget.lower)
        upper = 1 - best_end(mean, shift, True, budget.upper)
        found = honest(mean, shift, learned, budget)
        return replace(found, interval=Interval(lower, upper))

    monkeypatch.setattr(weighted, "importance", shopping)
    misses = misses_of("importance", pairs_of(cell, 300), 0.4)
    assert misses_more_than(misses, 300, 0.4), misses


# --- the harness itself --------------------------------------------------------------------------


def test_crossing_ends_are_a_miss():
    """No truth lies in an interval whose ends cross, so it counts once, as a miss."""
    tally = Tally()
    tally.add(0.6, 0.4, Status.CERTIFIED, 0.5)
    tally.add(0.4, 0.6, Status.CERTIFIED, 0.5)
    tally.add(0.4, 0.6, Status.ESTIMATED, 0.7)
    assert (tally.misses, tally.claims, tally.missed_estimates) == (1, 2, 1)


def test_infinite_coverage_cannot_be_declared():
    """A cell that would declare it is left out."""
    assert run_cell(Cell("uncovered_support", "declared", 20, 0.05), 1) == {}


def test_a_cell_gives_the_same_tally_twice():
    """Seeds are part of the cell: a violation can be reproduced."""
    cell = Cell("random", "paired", 20, 0.2)
    assert run_cell(cell, 3) == run_cell(cell, 3)

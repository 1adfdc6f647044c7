"""Certificates of labels on sheets, by the audit: how often they miss (theory §9)."""

from dataclasses import replace

import numpy as np
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut.labels.draw import draw
from taut.labels.merge import labelled_facts
from taut.labels.onto import sheet_labels
from test_label_blocks import SHARES, Strata, came_back, stops_when_it_looks_good
from test_label_next import World

DELTA = 0.1


def audited(world, design, parts, *, blocks=True, log_ratio=None, **given):
    """The certificate of E r* from a sheet that came back; `blocks`: or as a plain sample."""
    population = world.population
    labels = came_back(world.gold, design, parts, **given)
    rollouts = taut.Rollouts(
        prompt=population.draw,
        reward=world.judge,
        log_ratio=log_ratio,
        rollout_id=population.rollout,
        gold=labels.gold,
        facts=labelled_facts(taut.Rollouts.from_arrays(reward=[0], prompt=["p"]).facts, labels),
    )
    if blocks:
        rollouts = replace(rollouts, sheet=sheet_labels(labels, population))
    else:  # planted: nobody says how the rows were chosen
        rollouts = replace(rollouts, facts=replace(rollouts.facts, random_labels=True))
    kind = {"target": "reward"} if log_ratio is None else {"beta": 0.1}
    return taut.audit(rollouts, reward_range=(0, 1), delta=DELTA, **kind)


def missed(logs, one):
    """How many certificates miss the truth of their world; all of them have a guarantee."""
    count = 0
    for seed in range(logs):
        world, found = one(seed)
        assert found.status in ("certified", "conditional", "estimated")
        count += not found.lower <= world.truth <= found.upper
    return count


def sheet(way, shares=None, part=None, **settings):
    """One log of the world of strata, 60 labels drawn by a way, and what came back."""

    def one(seed):
        world = Strata(320, seed)
        design, drawn = draw(world.population, 60, way=way, shares=shares)
        given = {} if part is None else part(world, drawn, design)
        return world, audited(world, design, [drawn], **given, **settings)

    return one


def stops(world, drawn, design):
    """The annotator stops when it looks good."""
    return {"until": stops_when_it_looks_good(world.gold, drawn, design)}


def skips(world, drawn, design):
    """The annotator skips half of the bad answers."""
    rng = np.random.default_rng(len(drawn))
    return {"given": (world.gold[drawn.rows] == 1) | (rng.random(len(drawn)) < 0.5)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "shares", "part"),
    [
        ("one", None, None),
        ("whole", None, None),
        ("rows", None, None),
        ("strata", None, None),
        ("strata", SHARES, None),
        ("one", None, stops),
        ("one", None, skips),
        ("strata", SHARES, stops),
    ],
)
def test_every_way_holds(way, shares, part):
    """At most delta of the certificates miss, also of sheets that come back in part."""
    assert_misses_at_most(missed(200, sheet(way, shares, part)), 200, DELTA, way)


@pytest.mark.slow
def test_active_labels_hold():
    """Rounds of `label next` by the judge's doubt."""

    def one(seed, **settings):
        world = World(2000, seed)
        design, parts, _ = world.run(60, 165, most=165, size=35)
        return world, audited(world, design, parts, **settings)

    assert_misses_at_most(missed(100, one), 100, DELTA)


@pytest.mark.slow
def test_going_on_holds():
    """A second sheet behind the first, asked for where the first looks bad; both looks count."""

    def one(seed):
        world = Strata(320, seed)
        design, first = draw(world.population, 40, most=80)
        found = audited(world, design, [first])
        if found.upper - found.lower > 0.3 or found.upper < 0.9:
            design, more = draw(world.population, 40, former=design)
            found = audited(world, design, [first, more])
        return world, found

    assert_misses_at_most(missed(150, one), 150, DELTA)


@pytest.mark.slow
def test_the_clipped_objective_holds():
    """With a KL cost, and tau chosen on draws that were dealt as controls, or on fresh ones."""
    grid = (np.arange(4000) + 0.5) / 4000 * 2.2 - 1.0

    def one(seed):
        world = Strata(320, seed)
        design, drawn = draw(world.population, 60, way=("one", "strata")[seed % 2])
        log_ratio = np.random.default_rng(seed).uniform(-1.0, 1.2, size=len(world.gold))
        found = audited(world, design, [drawn], log_ratio=log_ratio)
        assert found.target == "clipped" and any("sheet" in r.description for r in found.routes)
        clipped = np.clip(grid, -found.settings.tau_negative, found.settings.tau).mean()
        world.truth -= 0.1 * clipped
        return world, found

    assert_misses_at_most(missed(150, one), 150, DELTA)


@pytest.mark.slow
def test_an_order_that_leaks_rewards_misses():
    """Planted: of each drawn prompt the answer of the highest reward stands on the sheet."""

    def one(seed):
        world = Strata(320, seed)
        design, drawn = draw(world.population, 60)
        first = drawn.rows // 3 * 3
        best = first + world.judge.reshape(-1, 3)[drawn.rows // 3].argmax(axis=1)
        return world, audited(world, design, [replace(drawn, rows=best)])

    assert misses_more_than(missed(150, one), 150, DELTA)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "shares", "part"), [("strata", SHARES, None), ("one", None, skips)]
)
def test_planted_mistakes_miss(way, shares, part):
    """Rows of strata, or what an annotator did not skip, taken as a plain random sample."""
    assert misses_more_than(missed(200, sheet(way, shares, part, blocks=False)), 200, DELTA)


def test_labels_go_by_the_reward_or_by_chance():
    """Planted: the row of the highest reward of each prompt. The tests see it in every log."""
    for seed in range(5):
        world = Strata(320, seed)
        rows = np.arange(60) * 3 + world.judge.reshape(-1, 3)[:60].argmax(axis=1)
        gold = np.full(len(world.gold), np.nan)
        gold[rows] = world.gold[rows]
        rollouts = taut.Rollouts(prompt=world.population.draw, reward=world.judge, gold=gold)
        found = taut.audit(
            rollouts, target="reward", reward_range=(0, 1), declare="random-labels,held-out"
        )
        assert found.status == "estimated"

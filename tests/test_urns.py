"""Labels of rows of several classes: an e-value of the set, whatever order rows stand in."""

import math
from itertools import combinations

import numpy as np
import pytest

import taut
from taut.inequalities.urns import log_e_value_within


def test_the_mean_over_all_sets_of_rows_is_one():
    """Of a second draw, given any labels of the first, from which the rates are learned."""
    classes = np.array([0, 0, 1, 0, 0, 1, 1, 2])
    starts = np.array([0, 3, 8])
    for before in combinations(range(3), 1):
        for size in (1, 2, 3, 4):
            sets = list(combinations(range(3, 8), size))
            total = 0.0
            for chosen in sets:
                labelled = np.isin(np.arange(8), (*before, *chosen))
                total += math.exp(log_e_value_within(classes, labelled, starts))
            alone = math.exp(
                log_e_value_within(classes[:3], np.isin(np.arange(3), before), starts[:2])
            )
            assert total / len(sets) == pytest.approx(alone, rel=1e-12)


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    starts = np.arange(0, 401, 4)
    classes, labelled = rng.integers(0, 3, 400), rng.random(400) < 0.4
    order = np.concatenate([first + rng.permutation(4) for first in starts[:-1]])
    one, other = (
        log_e_value_within(classes[rows], labelled[rows], starts)
        for rows in (np.arange(400), order)
    )
    assert one == pytest.approx(other, abs=1e-9)


def test_many_rows_of_unlike_rates_stay_finite():
    classes = np.tile([0] * 900 + [1] * 900, 3)
    labelled = np.tile(np.arange(1800) < 880, 3)
    found = log_e_value_within(classes, labelled, np.array([0, 1800, 3600, 5400]))
    assert math.isfinite(found) and found > 100


def two_steps(rng, labelled):
    """A log sorted by step, as trainers write it: 0/1 rewards, two rollouts at each of two."""
    prompts = np.tile(np.repeat(np.arange(1000), 2), 2)
    gold = (rng.random(4000) < rng.random(1000)[prompts]) * 1.0
    step = np.repeat([0, 1], 2000)
    return {
        "prompt_id": prompts,
        "step": step,
        "reward": gold,
        "gold": np.where(labelled(rng, step), gold, np.nan),
    }


def standing(log):
    found = taut.audit(log, reward_range=(0, 1), target="reward", declare="held-out")
    return {item.name: item.stands.value for item in found.assumptions}["random-labels"]


def test_rows_labelled_by_chance_are_not_accused_in_a_log_sorted_by_step():
    for seed in range(6):
        honest = two_steps(np.random.default_rng(seed), lambda rng, step: rng.random(4000) < 0.5)
        assert standing(honest) == "assumed"


def test_a_step_that_is_labelled_more_often_is_seen():
    for seed in range(3):
        more = two_steps(
            np.random.default_rng(seed), lambda rng, step: rng.random(4000) < 0.4 + 0.2 * step
        )
        assert standing(more) == "violated"

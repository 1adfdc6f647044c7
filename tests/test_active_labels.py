"""Active labels: chances keep to their floor, doubt is found, and even chances are an answer."""

import math

import numpy as np
import pytest

from taut.bounds.active_labels import active_chances, choose_floor, judge_doubt
from taut.errors import AssumptionError


def test_chances_sum_to_one_and_keep_to_the_floor():
    """Each draw keeps floor/G, the rest follows doubt; without any doubt chances are even."""
    chances = active_chances(np.array([0.0, 1.0, 3.0, 0.0]), 0.4)
    assert math.isclose(chances.sum(), 1.0) and np.allclose(chances, [0.1, 0.25, 0.55, 0.1])
    assert np.allclose(active_chances(np.zeros(5), 0.2), 0.2)
    assert np.allclose(active_chances(np.array([1.0, 9.0]), 1.0), 0.5)
    for doubt, floor in (([], 0.5), ([1.0, -1.0], 0.5), ([np.nan], 0.5), ([1.0], 0.0)):
        with pytest.raises(AssumptionError):
            active_chances(np.array(doubt), floor)


def test_doubt_is_where_gold_varies():
    """Gold that is sure at both ends of the judge and open in the middle is doubted there."""
    rng = np.random.default_rng(0)
    judge = rng.random(2000)
    gold = np.where(np.abs(judge - 0.5) < 0.1, rng.random(2000) < 0.5, judge > 0.5).astype(float)
    doubt = judge_doubt(gold, judge, np.array([0.1, 0.5, 0.9]))
    assert doubt[1] > 3 * max(doubt[0], doubt[2])


def test_even_chances_are_the_answer_where_doubt_is_even_or_labels_are_few():
    """The floor is 1 unless a rare doubt and many labels make it worth its range."""
    rng = np.random.default_rng(1)
    population = rng.random(3000)
    even = (rng.random(3000) < 0.5).astype(float)
    assert choose_floor(even, population, population, labels=5000, delta=0.05) == 1.0
    rare = population > 0.9
    sure = np.where(rare, rng.random(3000) < 0.5, 0.0).astype(float)
    assert choose_floor(sure[:20], population[:20], population, labels=9000, delta=0.05) == 1.0
    assert choose_floor(sure, population, population, labels=60, delta=0.05) == 1.0
    assert choose_floor(sure, population, population, labels=9000, delta=0.05) < 1.0

"""Slices, mixes and parts rarely miss together, and the check catches planted mistakes.

The long form, with widths, is `python -m validation.slices`.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import taut
from taut.draws.slices import slices_of

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation import counting
from validation import slices as study

JUDGED = {cell.name: cell for cell in study.cells()}


@pytest.mark.parametrize(
    "name",
    [
        "10 groups, from 80 prompts down to 1, 40% labelled",
        "deciles of length, half labelled",
        "3 parts and their sum, gold of one part",
    ],
)
def test_claims_rarely_miss_together(name):
    found = counting.measure([JUDGED[name]], 25)[name]
    assert not found.rejected(study.DELTA), found


@pytest.mark.parametrize(
    ("name", "logs"),
    [
        ("10 groups, each at all of δ", 25),
        ("mix: shares of the log", 25),
        ("lengths: mean of each prompt's ratio", 25),
        ("lengths: rollouts taken for draws", 60),
    ],
)
def test_planted_mistakes_are_rejected(name, logs):
    found = counting.measure([JUDGED[name]], logs)[name]
    assert JUDGED[name].planted and found.rejected(study.DELTA), found


def test_the_truth_of_a_length_is_exact():
    """Of true and of learned reward, whatever the cut points are."""
    log = study.answers(np.random.default_rng(0), 60_000, 4)
    for low, high in ((0.0, 0.3), (0.3, 0.9), (0.9, 1.0)):
        inside = (log["length"] >= low) & (log["length"] < high)
        gold, gap = study.exact(low, high)
        assert log["gold"][inside].mean() == pytest.approx(gold, abs=0.01)
        off = log["reward"][inside] - log["gold"][inside]
        assert off.mean() == pytest.approx(gap, abs=0.01)


def test_the_spans_of_slices_are_theirs():
    """Slices come in the order of the cut points that they are said to lie between."""
    log = study.answers(np.random.default_rng(1), 100, 2)
    found = taut.audit_by(log, "length", **study.SAID)
    read = taut.as_rollouts(log, keep=("length",))
    inside = slices_of(read, ("length",), cuts=found.cuts)
    assert len(study.spans(found)) == len(found.groups) == 10
    for group, (low, high), rows in zip(
        found.groups, study.spans(found), inside.rows(), strict=True
    ):
        mine = log["length"][rows]
        assert group.value in inside.values and low <= mine.min() <= mine.max() <= high


def test_the_truth_of_parts_is_exact():
    log = study.scored(np.random.default_rng(0), 60_000, None)
    for name, mean in study.PART_MEANS.items():
        assert log[f"rewards.{name}"].mean() == pytest.approx(mean, abs=0.01)
    assert log["reward"].mean() == pytest.approx(study.TOTAL, abs=0.01)

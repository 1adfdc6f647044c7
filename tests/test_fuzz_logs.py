"""A short form of validation/fuzz_logs.py: any log is read whole or refused in one line."""

import os
import random
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from validation import fuzz_logs


def test_whole_and_damaged_logs_are_read_right_or_refused(tmp_path):
    """No exception but ours, no wrong count or sum, no hang."""
    failures = []
    for seed in range(1_000_000, 1_000_150):
        signal.alarm(fuzz_logs._SECONDS)
        problem = fuzz_logs.attempt(seed, tmp_path)
        signal.alarm(0)
        failures += [f"seed {seed}: {problem}"] if problem else []
    assert not failures, failures[:3]


@pytest.mark.parametrize("mistake", ["a row lost", "a sum moved", "a wrong exception"])
def test_the_check_sees_planted_mistakes(mistake, tmp_path, monkeypatch):
    """The same check catches a reader that loses a row, moves a sum or raises what is not ours."""
    inner = fuzz_logs.read_rollouts

    def wrong(path, **options):
        rollouts = inner(path, **options)
        if mistake == "a wrong exception":
            raise KeyError("reward")
        if mistake == "a row lost":
            return rollouts.take(slice(1, None))
        rollouts.reward[-1] += 1
        return rollouts

    monkeypatch.setattr(fuzz_logs, "read_rollouts", wrong)
    assert all(fuzz_logs.attempt(seed, tmp_path) for seed in _whole(5))


def _whole(count):
    """Seeds of files without damage."""
    seeds = iter(range(10_000))
    found = []
    while len(found) < count:
        seed = next(seeds)
        rng = random.Random(seed)
        fuzz_logs.write(rng, fuzz_logs.make_rows(rng))
        if rng.choice(["whole", "damaged", "damaged", "changed"]) == "whole":
            found.append(seed)
    return found

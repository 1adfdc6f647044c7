"""The study of peers: worlds whose truth is known, and a table of what is installed."""

import numpy as np
import pytest
from validation import peers
from validation.counting import measure

ALONE = {"taut": peers.TOOLS["taut"]}


@pytest.mark.parametrize("world", peers.WORLDS)
def test_the_truth_of_a_world_is_the_mean_of_its_draws(world):
    """So that a miss is the tool's."""
    golds = []
    for seed in range(40):
        log = peers.WORLDS[world](np.random.default_rng(seed))
        golds.append(np.nanmean(log.gold))
    error = np.std(golds) / np.sqrt(len(golds))
    assert abs(np.mean(golds) - log.truth) < 4 * error


def test_the_table_has_a_row_a_world():
    found = measure(peers.cells(ALONE), 2)
    head, _, *rows = peers.tables(found, ALONE)
    assert "taut" in head and len(rows) == len(peers.WORLDS)
    assert all(0 < found[f"{world}: taut"].mean("width") < 0.5 for world in peers.WORLDS)


def test_a_wrong_interval_is_counted():
    """A tool that takes all rows for draws misses in the world of answers that are alike."""

    def rows(log):
        half = 1.96 * log.gold.std() / np.sqrt(len(log.gold))
        return log.gold.mean() - half, log.gold.mean() + half

    asked = peers.once(peers.answers_alike, peers.Tool("", "", rows))
    assert sum(asked(seed)["missed"] for seed in range(60)) > 12

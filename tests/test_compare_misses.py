"""Comparisons rarely miss, and the check that says so catches planted mistakes.

The long form, with widths and other tools, is `python -m validation.compare`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation import compare as study
from validation import compare_tools, counting
from validation.duels import CORRELATION, Duel, draw

JUDGED = {cell.name: cell for cell in study.cells()}


def rate(name, logs):
    """Run some logs of one cell; return it and its sums."""
    return JUDGED[name], counting.measure([JUDGED[name]], logs)[name]


@pytest.mark.parametrize("name", ["paired, graded", "shared in part", "tiers: 10 equals"])
def test_claims_rarely_miss(name):
    cell, found = rate(name, 25)
    assert not found.rejected(cell.delta), found


@pytest.mark.parametrize("name", ["rollouts taken for draws", "hacked? by estimates"])
def test_planted_mistakes_are_rejected(name):
    cell, found = rate(name, 60)
    assert cell.planted and found.rejected(cell.delta), found


@pytest.mark.parametrize("given", [{}, {"opposite": True}, {"shared": 0.5, "per": (1, 3)}])
def test_the_truth_of_a_duel_is_exact(given):
    """Nothing is cut off at the ends of the range, and answers correlate as is said."""
    a, b = draw(Duel(prompts=40_000, gain=0.1, learned=-0.05, **given), np.random.default_rng(0))
    for name, truth in (("gold", 0.1), ("reward", -0.05)):
        assert 0 <= min(a[name].min(), b[name].min()) <= max(a[name].max(), b[name].max()) <= 1
        assert a[name].mean() - b[name].mean() == pytest.approx(truth, abs=0.005)
    if not given:
        found = np.corrcoef(a["gold"], b["gold"])[0, 1]
        assert found == pytest.approx(CORRELATION, abs=0.01)
        assert pytest.approx(0.7, abs=0.005) == CORRELATION


def test_verdicts_on_hacking_are_held_against_the_truth():
    lost, both, none = Duel(gain=-0.1, learned=0.1), Duel(gain=0.1, learned=0.1), Duel(learned=0.1)
    wrong = [
        [study.hacked_wrongly(word, duel) for word in ("yes", "no", "cannot_tell")]
        for duel in (lost, both, none, Duel())
    ]
    right = [False, True, False]
    assert wrong == [right, [True, False, False], right, [True, True, False]]


def test_other_tools_agree_with_their_formulas():
    """McNemar and TOST by statsmodels, where it is installed, are those by scipy."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 40)) < 0.5) * 1.0
    up, down = int((a > b).sum()), int((a < b).sum())
    p = 2 * stats.binom.cdf(min(up, down), up + down, 0.5)
    assert compare_tools.mcnemar(a, b) == pytest.approx(min(p, 1.0))
    t = ((a - b).mean() + 0.1) / ((a - b).std(ddof=1) / np.sqrt(40))
    assert compare_tools.no_worse(a, b, 0.1) == pytest.approx(stats.t.sf(t, 39))
    assert compare_tools.no_worse(a, a, 0.1) == 0.0


def test_a_killed_study_goes_on_where_it_was(tmp_path, monkeypatch):
    """A line that was cut short is run again, finished ones are not; other code uses none."""
    seen = []

    def once(seed):
        seen.append(seed)
        return {"missed": seed % 2}

    cells, cache = [counting.Cell("coin", once, 0.2, planted=True)], tmp_path / "cache.jsonl"
    first = counting.measure(cells, 60, cache)
    lines = cache.read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[-1])["stop"] == 60
    cache.write_text("\n".join([*lines[:2], lines[2][:30]]))
    seen.clear()
    assert counting.measure(cells, 60, cache) == first
    assert seen == list(range(50, 60))
    assert counting.wrong_verdicts(cells, first) == []
    monkeypatch.setattr(counting, "_digest", lambda: "other code")
    seen.clear()
    counting.measure(cells, 30, cache)
    assert seen == list(range(30))


def test_the_study_writes_its_part_of_the_page_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before <!-- study: begin -->stale<!-- study: end --> after")
    counting.put(page, ["fresh"])
    text = page.read_text()
    assert text.startswith("before ") and text.endswith(" after")
    assert "fresh" in text and "stale" not in text

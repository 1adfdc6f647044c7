"""What a log's rows are worth: layouts × labels × breaches × commands (theory §2, §5).

The long form is `python -m validation.layouts`; here laws of rewards take turns over the cells.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.layouts import adapter, frames, laws, trusted
from validation.layouts.cell import HONEST, WIDE
from validation.layouts.cells import cells, short
from validation.layouts.data import draw
from validation.layouts.verdict import (
    DELTA,
    MOST_ACCUSED,
    Tally,
    failures,
    lower_limit,
    tally,
)

LOGS = 3
FAMILIES = tuple(dict.fromkeys(cell.family for cell in cells()))


@pytest.fixture(scope="module")
def tallies():
    """Counts of every cell of the short form, by cell."""
    starts = range(0, LOGS * len(short()), LOGS)
    return {
        cell: tally(cell, range(start, start + LOGS))
        for cell, start in zip(short(), starts, strict=True)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_what_must_be_true_of_each_cell(tallies, family):
    """No guarantee misses beyond delta, breaches are seen, honest logs are not accused."""
    against = {
        str(cell): found
        for cell, counts in tallies.items()
        if cell.family == family and (found := failures(cell, counts))
    }
    assert not against, "\n".join(f"{name}: {'; '.join(why)}" for name, why in against.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_must_be_true_of_a_family_together(tallies, family):
    """Pooled over its cells, guarantees miss at most delta and honest logs are hardly accused."""
    pools = {kinds: Tally() for kinds in ((HONEST,), (HONEST, WIDE))}
    for kinds, pool in pools.items():
        for cell, counts in tallies.items():
            if cell.family == family and cell.kind in kinds:
                pool.join(counts)
    honest, sound = pools.values()
    if sound.tried:
        assert lower_limit(sound.wrong, sound.tried) <= DELTA
    if honest.tried:
        assert lower_limit(honest.accused, honest.tried) <= MOST_ACCUSED


# --- the check has power: planted mistakes --------------------------------------------------------


def cell_named(name):
    return next(cell for cell in cells() if str(cell) == name)


def a_step_is_a_draw(command, log):
    """The answers to a prompt at each step are taken for an independent draw."""
    columns = {
        name: values for name, values in log.columns.items() if name not in ("step", "group")
    }
    columns["prompt_id"] = np.char.add(
        np.char.add(log.columns["prompt_id"], "@"), log.columns["step"].astype(str)
    )
    return adapter.run(command, replace(log, columns=columns))


def a_pooled_z(command, log):
    """Labelled rows are compared with the others by a normal test of their pooled means."""
    labelled = ~np.isnan(log.columns["gold"])
    mine, rest = (log.columns["reward"][rows] for rows in (labelled, ~labelled))
    variance = mine.var(ddof=1) / len(mine) + rest.var(ddof=1) / len(rest)
    gap = abs(mine.mean() - rest.mean())
    doubts = ("labels are blind",) if variance > 0 and gap > 3 * np.sqrt(variance) else ()
    found = adapter.run(command, log)
    claims = (replace(claim, status="certified", doubts=doubts) for claim in found.claims)
    return replace(found, claims=tuple(claims))


def a_lost_origin(command, log):
    """Joining logs forgets that their framework kept rows by their rewards."""
    return adapter.run(command, replace(log, chosen_by_reward=False))


PLANTED = (
    (a_step_is_a_draw, "layouts / 30 prompts at 40 steps, all labelled / audit", "wrong"),
    (a_pooled_z, "labels / 3,000 skewed rows, 20 draws / audit", "accused"),
    (a_lost_origin, "lost rows / the framework says so / audit", "seen"),
)


@pytest.mark.parametrize(
    "mistake, name, word", PLANTED, ids=lambda item: getattr(item, "__name__", "")
)
def test_planted_mistakes_are_rejected(mistake, name, word):
    """The same check refutes a tool with a planted mistake, by the requirement that it breaks."""
    cell = cell_named(name)
    against = failures(cell, tally(cell, range(4 * len(laws.LAWS)), run=mistake))
    assert any(text.startswith(word) for text in against), against


# --- the truths are true --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", [*laws.LAWS, laws.EASY, laws.FAIR, laws.BLIND_JUDGE], ids=lambda law: law.name
)
def test_means_of_laws(law):
    """The mean that a law states is that of its rewards, over prompts and given a prompt."""
    rng = np.random.default_rng(5)
    trait = law.trait(rng, 100_000)
    gold = law.gold(rng, trait)
    for off in (gold - law.mean, gold - law.given(trait)):
        assert abs(off.mean()) <= 5 * off.std() / np.sqrt(len(off)) + 1e-12
    assert gold.min() >= 0 and gold.max() <= 1


LAYOUTS = {
    cell.name: cell.layout for cell in cells() if cell.kind == HONEST and cell.family == "layouts"
}


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name.endswith(", all labelled")])
def test_truths_of_layouts(name):
    """Over many logs the mean over draws is unbiased for the truth, whole and in each slice."""
    off = {}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = draw(rng, laws.COIN, LAYOUTS[name](rng), laws.USUAL)
        off.setdefault("all", []).append(_draw_mean(data, slice(None)) - data.truth())
        for column, truths in data.truths().items():
            for value, truth in truths.items():
                rows = data.columns[column].astype(str) == value
                off.setdefault((column, value), []).append(_draw_mean(data, rows) - truth)
    for part, values in off.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values)) <= 4.5 * error, part


def _draw_mean(data, rows):
    _, place = np.unique(data.prompt[rows], return_inverse=True)
    return (np.bincount(place, data.gold[rows]) / np.bincount(place)).mean()


def test_log_probs_read_back():
    """The number of ones can be read off the log-probs, and their mean cost is the exact one."""
    rng = np.random.default_rng(3)
    ones = laws.USUAL.sample(rng, 50_000)
    columns = laws.USUAL.columns(rng, ones)
    _, found = laws.USUAL.read(columns)
    assert (found == ones).all()
    clipped = np.clip(columns["policy_logprob"] - columns["ref_logprob"], -1.5, 2.0)
    off = clipped.mean() - laws.USUAL.mean_clipped(2.0, 1.5)
    assert abs(off) <= 5 * clipped.std() / np.sqrt(len(clipped))


@pytest.mark.parametrize("styles", [trusted._OWN, trusted._HACKED])
def test_truths_of_styles(styles):
    """What a style adds to the true reward, or takes from it, is in the truth."""
    rng = np.random.default_rng(2)
    data = draw(rng, laws.COIN, frames.once(rng, 50_000, 1), styles)
    assert abs(data.gold.mean() - data.truth()) <= 5 * data.gold.std() / np.sqrt(len(data))


def test_a_prompt_of_a_pool_has_its_mass():
    """In a pool drawn from again and again, what is meant is the pool's own mean."""
    rng = np.random.default_rng(1)
    frame = frames.pool(rng)
    data = draw(rng, laws.COIN, frame, None)
    assert frame.mass.sum() == pytest.approx(1)
    assert np.ptp(data.pool) == 0 and data.truth() == data.pool[0] != laws.COIN.mean

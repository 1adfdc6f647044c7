"""Who is drawn: by chances that are on record, by nothing that was said or scored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from taut.errors import LogError, UsageError
from taut.labels.design import Part, SheetDesign, read_design
from taut.labels.draw import Deal, Population, assign, check_log, draw, redraw
from taut.logs.keys import hash_ids, scramble

# Chance that a check accuses sound draws; the seeds are fixed, so that it does so always or never.
ALARM = 1e-4


def population(sizes, *, strata=None, log=0, cells=None) -> Population:
    """A log with so many rollouts in each draw."""
    draws = np.repeat(np.arange(len(sizes)), sizes)
    rows = len(draws)
    names = () if strata is None else tuple(sorted(set(strata)))
    codes = None if strata is None else np.array([names.index(s) for s in strata])[draws]
    return Population(
        rollout=hash_ids([f"{log}-{i}" for i in range(rows)]),
        draw=hash_ids([f"{log}-prompt-{i}" for i in draws]),
        stratum=codes,
        stratum_names=names,
        by=None if strata is None else "domain",
        cell=None if cells is None else np.asarray(cells),
        cell_names=() if cells is None else tuple(f"step {c}" for c in sorted(set(cells))),
    )


def shuffled(log: Population, rng) -> tuple[Population, np.ndarray]:
    order = rng.permutation(len(log.rollout))
    parts = {"rollout": log.rollout[order], "draw": log.draw[order]}
    if log.stratum is not None:
        parts |= {"stratum": log.stratum[order], "stratum_names": log.stratum_names, "by": log.by}
    return Population(**parts), order


@pytest.mark.parametrize("way", ["one", "rows", "whole", "strata"])
def test_same_sheet_whatever_the_row_order(way):
    """Seed and ids decide, not files, their order or the process."""
    log = population([3, 1, 4, 2] * 20, strata=["a", "b"] * 40)
    other, order = shuffled(log, np.random.default_rng(0))
    (first, mine), (second, theirs) = (draw(one, 12, way=way, seed=5) for one in (log, other))
    assert first == second
    assert np.array_equal(mine.rows, order[theirs.rows])
    assert np.array_equal(mine.chance, theirs.chance)
    assert not np.array_equal(mine.rows, draw(log, 12, way=way, seed=6)[1].rows)


@pytest.mark.parametrize("way", ["one", "rows", "whole"])
def test_a_longer_sheet_begins_with_the_shorter(way):
    """Drawing again with more gives the former rows first; behind a sheet come others only."""
    log = population([2] * 100)
    design, short = draw(log, 10, way=way, most=40)
    _, long = draw(log, 25, way=way, most=40)
    later, more = draw(log, 15, way=way, former=design)
    assert np.array_equal(long.rows, np.r_[short.rows, more.rows])
    assert [part.stop for part in later.parts] == [10, 25]
    assert np.array_equal(redraw(log, later).rows, more.rows)
    assert np.array_equal(redraw(log, later, 0).rows, short.rows)


def test_met_strata_extend_by_fresh_blocks():
    """A stratified sheet goes on with runs of draws that no former block has met."""
    log = population([1] * 300, strata=["a", "a", "b"] * 100)
    design, first = draw(log, 20, way="strata", most=60)
    later, more = draw(log, 20, way="strata", former=design)
    assert not set(first.rows) & set(more.rows)
    assert first.unit.max() + 1 == more.unit.min() == later.parts[1].start
    assert later.block == design.block == 5


def counts_of(way, log, n, seeds, **settings):
    """How often each row was drawn, and the chance on record, over seeds."""
    hits = np.zeros(len(log.rollout))
    chance = np.zeros(len(log.rollout))
    for seed in seeds:
        _, drawn = draw(log, n, way=way, seed=seed, **settings)
        hits[drawn.rows] += 1
        chance[drawn.rows] = drawn.chance
    return hits, chance


@pytest.mark.parametrize("way", ["one", "rows", "whole", "declared"])
def test_rows_are_drawn_by_the_chances_on_record(way):
    """Each row's count over 1,500 seeds fits its recorded chance (exact binomial, Bonferroni)."""
    sizes = [1, 2, 4, 3, 2, 6, 1, 5]
    log = population(sizes, strata=["a", "b", "b", "a", "b", "a", "b", "b"])
    shares = {"a": 0.5, "b": 0.5}
    kind, settings = ("strata", {"shares": shares}) if way == "declared" else (way, {})
    hits, chance = counts_of(kind, log, 4 if way != "rows" else 7, range(1500), **settings)
    worst = min(stats.binomtest(int(h), 1500, p).pvalue for h, p in zip(hits, chance, strict=True))
    assert worst > ALARM / len(hits)


def test_met_strata_draw_evenly_within_a_stratum_of_a_block():
    """Given a block, each draw of a stratum in it is as likely as the others: 1 / how many."""
    log = population([1] * 8, strata=["a", "a", "a", "b", "b", "b", "b", "b"])
    hits, total = np.zeros(8), np.zeros(8)
    for seed in range(1500):
        design, drawn = draw(log, 2, way="strata", seed=seed, most=4)
        block = Deal(log, seed).order[: design.block]
        total[block] += [1 / (log.stratum[block] == log.stratum[d]).sum() for d in block]
        hits[drawn.rows[drawn.unit == 0]] += 1
    spread = (hits - total) / np.sqrt(total)
    assert stats.chi2.sf((spread**2).sum(), 8) > ALARM


def test_the_order_knows_nothing_of_rewards():
    """Rank in the order and any fixed score of the rows are independent (permutation test)."""
    log = population([3] * 200)
    score = np.random.default_rng(1).random(600)
    z = [
        np.corrcoef(draw(log, 200, seed=seed)[1].rows, np.arange(200))[0, 1] * np.sqrt(199)
        for seed in range(40)
    ]
    assert abs(np.mean(z)) * np.sqrt(40) < 4
    means = [score[draw(log, 50, seed=seed)[1].rows].mean() for seed in range(400)]
    z = (np.mean(means) - score.mean()) / (score.std() / np.sqrt(50 * 400))
    assert abs(z) < 4


def test_planted_order_by_reward_is_seen():
    """The same check accuses a sheet that takes the best rollout of each prompt."""
    score = np.random.default_rng(1).random(600).reshape(200, 3)
    best = score.max(axis=1)
    means = [best[np.random.default_rng(seed).choice(200, 50)].mean() for seed in range(400)]
    assert abs((np.mean(means) - score.mean()) / (score.std() / np.sqrt(50 * 400))) > 4


def test_labelled_draws_are_a_random_subset_of_the_whole_log():
    """Over cells the numbers of labels are hypergeometric: no cell is favoured (theory §2)."""
    cells = [0] * 120 + [1] * 60 + [2] * 20
    log = population([1] * 200, cells=cells)
    seen = np.array(
        [np.bincount(log.cell[draw(log, 30, seed=s)[1].rows], minlength=3) for s in range(1000)]
    )
    for cell, rows in enumerate((120, 60, 20)):
        law = stats.hypergeom(200, rows, 30)
        values, counts = np.unique(seen[:, cell], return_counts=True)
        expected = 1000 * law.pmf(values)
        big = expected > 5
        chi = ((counts - expected)[big] ** 2 / expected[big]).sum()
        assert stats.chi2.sf(chi, big.sum()) > ALARM
    assert draw(log, 30)[0].log.cells == {"step 0": 120, "step 1": 60, "step 2": 20}


def test_order_differs_from_the_audits():
    """Labels must not fall where the audit's own hash puts its calibration split."""
    log = population([1] * 2000)
    theirs = np.argsort(np.argsort(scramble(log.draw ^ scramble(np.uint64(0)))))
    keys = np.unique(log.draw, return_index=True)[1]
    mine = theirs[keys][Deal(log, 0).order]
    assert abs(stats.spearmanr(mine, np.arange(2000)).statistic) < 4 / np.sqrt(2000)


def test_whole_prompts_stay_together_and_prefixes_are_whole():
    """Way whole: all rollouts of a draw stand side by side, so that a prefix is whole draws."""
    log = population([3, 5, 2] * 10)
    _, drawn = draw(log, 6, way="whole")
    assert np.all(np.diff(drawn.unit) >= 0)
    for unit in range(6):
        rows = drawn.rows[drawn.unit == unit]
        assert set(log.draw[rows]) == {log.draw[rows[0]]}
        assert len(rows) == (log.draw == log.draw[rows[0]]).sum()


def test_blocks_share_no_draw():
    """Heads and the draws dealt to them: each draw of the log is in one block at most."""
    members = Deal(population([2] * 103), 3).members(0, 20, most=20)
    assert members.shape == (20, 5)
    assert len(np.unique(members)) == 100


def test_room_for_later_labels():
    """Half the draws stay fresh where that leaves ten for each label; bets reckon with n alone."""
    part = draw(population([1] * 2000), 50)[0].parts[0]
    assert (part.most, part.horizon) == (100, 50)
    part = draw(population([1] * 400), 50)[0].parts[0]
    assert (part.most, part.horizon) == (50, 50)
    design = draw(population([1] * 400), 50, most=80)[0]
    assert design.parts[0].horizon == 80
    later = draw(population([1] * 400), 30, former=design)[0]
    assert later.fresh and np.all(later.horizons() == 80)
    beyond = draw(population([1] * 400), 20, former=later)[0]
    assert not beyond.fresh
    assert np.array_equal(beyond.horizons(), np.repeat([80, 100], [80, 20]))


@pytest.mark.parametrize(
    ("n", "settings", "words"),
    [
        (41, {}, "the log has 40 prompts"),
        (5, {"most": 50}, "room for 40"),
        (5, {"most": 4}, "--most is 4"),
        (5, {"shares": {"a": 1.0}}, "--by COLUMN only"),
        (5, {"way": "strata", "shares": {"a": 0.5, "c": 0.5}}, "difference in b, c"),
        (5, {"way": "strata", "shares": {"a": 0.5, "b": 0.6}}, "sum to 1"),
    ],
)
def test_impossible_sheets_are_refused(n, settings, words):
    """The message says what the log has and what was asked."""
    with pytest.raises(UsageError, match=words):
        draw(population([2] * 40, strata=["a", "b"] * 20), n, **settings)


def test_strata_within_a_prompt_are_refused():
    """A prompt is one draw: a column that differs between its rollouts is no stratum."""
    log = population([2] * 10)
    log = Population(
        rollout=log.rollout,
        draw=log.draw,
        stratum=np.tile([0, 1], 10),
        stratum_names=("a", "b"),
        by="policy",
    )
    with pytest.raises(UsageError, match="differs between rollouts of one prompt"):
        draw(log, 4, way="strata")


def test_another_log_is_refused():
    """A sheet is bound to the rows that it was drawn from, in any order."""
    log = population([2] * 30)
    design, _ = draw(log, 10)
    check_log(shuffled(log, np.random.default_rng(2))[0], design)
    with pytest.raises(LogError, match="drawn from a log of 60 rollouts"):
        check_log(population([2] * 31), design)
    with pytest.raises(LogError, match="give the same files"):
        check_log(population([2] * 30, log=1), design)


def test_two_rows_of_one_id_are_refused():
    """Ids name rows: twice the same file is an error, not a population."""
    keys = hash_ids(["a", "b", "a"])
    with pytest.raises(LogError, match="found 1 that another has too"):
        Population(rollout=keys, draw=keys)


@given(
    n=st.integers(1, 60),
    people=st.integers(1, 5),
    overlap=st.integers(0, 20),
    size=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_annotators_get_all_items_once_and_the_overlap_each(n, people, overlap, size):
    """Every unit goes to one annotator, those of the overlap to all, none twice to one."""
    overlap = min(overlap, n)
    units = np.repeat(np.arange(n), size)
    shares = assign(units, people, overlap)
    times = np.bincount(np.concatenate(shares), minlength=len(units))
    assert set(times) <= {1, people}
    assert len(np.unique(units[times == people])) == (n if people == 1 else overlap)
    assert all(len(np.unique(share)) == len(share) for share in shares)


def test_a_design_survives_its_trip():
    """The record comes back from JSON as it was, and what was changed is refused."""
    log = population([2] * 40, strata=["a", "b"] * 20)
    design, _ = draw(log, 6, way="strata", shares={"a": 0.3, "b": 0.7}, annotators=("x",))
    assert read_design(design.to_json(), "sheet.csv") == design
    with pytest.raises(LogError, match="version 1, found 9"):
        read_design(b'{"version": 9}', "sheet.csv")
    with pytest.raises(LogError, match=r"sheet.csv: expected the design .* log: Field required"):
        read_design({"parts": []}, "sheet.csv")
    with pytest.raises(ValueError, match="one behind the other"):
        SheetDesign(
            log=design.log,
            parts=(
                Part(start=0, stop=2, most=9, horizon=9),
                Part(start=3, stop=4, most=9, horizon=9),
            ),
        )

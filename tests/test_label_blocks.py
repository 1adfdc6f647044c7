"""From a sheet that came back to certificates that hold: every way, in part, at every stop."""

import numpy as np
import pytest

from check import assert_misses_at_most, misses_more_than
from taut.labels.blocks import sheet_blocks
from taut.labels.design import SheetDesign
from taut.labels.draw import Drawn, Population, draw
from taut.labels.merge import Labels, Returned
from taut.logs.keys import hash_ids
from test_label_next import World


def came_back(gold, design: SheetDesign, parts, *, until=None, given=None) -> Labels:
    """Labels of the drawn rows, up to the unit `until`, or those given; the others are open."""
    rows, unit, chance = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "unit", "chance")
    )
    until = design.units if until is None else until
    given = unit < until if given is None else given
    until = int(unit[~given].min()) if not given.all() else design.units
    labelled = np.full(len(gold), np.nan)
    labelled[rows[given]] = gold[rows[given]]
    returned = Returned(
        drawn=len(rows), labelled=int(given.sum()), skipped=0, open=int((~given).sum()),
        units=design.units, prefix=until,
    )  # fmt: skip
    return Labels(
        gold=labelled, design=design, rows=rows, unit=unit, chance=chance, returned=returned
    )


class Strata:
    """A rare domain that fails and a common one that does not; the truth is .72."""

    def __init__(self, draws, seed, *, each=3):
        rng = np.random.default_rng(seed)
        rare = rng.random(draws) < 0.2
        level = np.where(rare, 0.2, rng.choice([0.7, 1.0], size=draws))
        self.gold = (rng.random((draws, each)) < level[:, None]).astype(float).ravel()
        self.judge = np.clip(0.4 * self.gold + 0.6 * rng.random(draws * each), 0, 1)
        self.truth = 0.2 * 0.2 + 0.8 * 0.85
        self.population = Population(
            rollout=hash_ids([f"{seed}/{i}" for i in range(draws * each)]),
            draw=hash_ids([f"{seed}/{i}" for i in range(draws)]).repeat(each),
            stratum=rare.astype(np.int64).repeat(each),
            stratum_names=("common", "rare"),
            by="domain",
        )


SHARES = {"common": 0.8, "rare": 0.2}


def test_each_block_has_one_label_and_its_controls():
    """Units in sheet order; heads and controls by the deal; fresh and left-out draws in none."""
    world = Strata(300, 0)
    design, drawn = draw(world.population, 30, most=50)
    blocks = sheet_blocks(came_back(world.gold, design, [drawn]), world.population)
    draws = np.unique(world.population.draw, return_index=True)[1]
    counts = np.bincount(blocks.unit[draws] + 1, minlength=31)
    assert counts[1:].tolist() == [6] * 30 and counts[0] == 300 - 180
    assert np.array_equal(blocks.unit[drawn.rows], drawn.unit)
    assert np.allclose(blocks.chance, 1 / 6) and np.all(blocks.horizon == 50)
    assert blocks.complete and blocks.controls and not blocks.active and not blocks.whole


def test_behind_a_gap_nothing_counts():
    """Of a sheet in part the blocks before the gap stand, with the horizon of the whole sheet."""
    world = Strata(300, 1)
    design, drawn = draw(world.population, 30)
    blocks = sheet_blocks(came_back(world.gold, design, [drawn], until=12), world.population)
    assert len(blocks) == 12 and blocks.unit.max() == 11
    assert np.all(blocks.horizon == 30) and not blocks.complete


@pytest.mark.parametrize("shares", [None, SHARES])
def test_strata_have_one_label_each_in_a_block(shares):
    """One labelled draw of each stratum in its block, chosen with chance 1 / its draws there."""
    world = Strata(400, 2)
    design, drawn = draw(world.population, 20, way="strata", shares=shares, most=40)
    blocks = sheet_blocks(came_back(world.gold, design, [drawn]), world.population)
    assert np.array_equal(blocks.unit[drawn.rows], drawn.unit)
    strata = blocks.stratum[drawn.rows]
    assert len(np.unique(drawn.unit * 2 + strata)) == len(drawn)
    draws = np.unique(world.population.draw, return_index=True)[1]
    for row, unit, stratum in zip(drawn.rows, drawn.unit, strata, strict=True):
        here = (blocks.unit[draws] == unit) & (blocks.stratum[draws] == stratum)
        assert blocks.chance[row] == pytest.approx(1 / here.sum())
    assert (blocks.shares is None) == (shares is None)


def test_controls_that_were_labelled_later_are_left_out():
    """Beyond `most` the labels stand by themselves; rows one by one lie in no blocks."""
    world = Strata(100, 3)
    design, first = draw(world.population, 40)
    beyond, more = draw(world.population, 30, former=design)
    blocks = sheet_blocks(came_back(world.gold, beyond, [first, more]), world.population)
    assert not blocks.controls and len(blocks) == 70
    assert blocks.horizon.tolist() == [40] * 40 + [70] * 30
    rows, drawn = draw(world.population, 40, way="rows")
    assert sheet_blocks(came_back(world.gold, rows, [drawn]), world.population) is None


def test_active_chances_reach_their_draws():
    """The chance on record is that of the draw; other blocks keep 1 / G."""
    world = World(4000, 0, each=2)
    design, parts, _ = world.run(100, 150, most=300)
    assert design.parts[-1].active
    blocks = sheet_blocks(came_back(world.gold, design, parts), world.population)
    late = parts[-1]
    assert blocks.active
    assert np.allclose(blocks.chance[late.rows], 2 * late.chance)
    assert np.allclose(blocks.chance[parts[0].rows], 1 / design.block)
    assert blocks.least.tolist() == [1.0] * 100 + [design.parts[-1].floor] * 50


# --- With the certificate -------------------------------------------------------------------------


def certificate(labels: Labels, population: Population, judge, *, delta, gaps=False):
    """What an audit does with the blocks of a sheet."""
    designs = pytest.importorskip("taut.inequalities.label_designs")
    rectifier = pytest.importorskip("taut.inequalities.rectifier")
    blocks = sheet_blocks(labels, population, gaps=gaps)
    order = np.lexsort((population.draw, blocks.unit))
    order = order[blocks.unit[order] >= 0]
    first = np.flatnonzero(np.r_[True, np.diff(population.draw[order].view(np.int64)) != 0])
    heads = order[first]
    draws = designs.LabelledDraws(
        gold=labels.gold[order], starts=np.r_[first, len(order)], judge=judge[order]
    )
    if blocks.active:
        made = designs.chance_blocks(
            draws, block=blocks.unit[heads], chance=blocks.chance[heads], least=blocks.least.min()
        )
    else:
        made = designs.labelled_blocks(
            draws,
            block=blocks.unit[heads],
            labelled_share=float(blocks.whole),
            stratum=None if blocks.stratum is None else blocks.stratum[heads],
            shares=blocks.shares,
        )
    return rectifier.rectified_interval(
        made, delta_lower=delta / 2, delta_upper=delta / 2, horizon=blocks.horizon
    ).interval


def strata_misses(logs, *, way="strata", shares=None, part=None, delta=0.1):
    """How many of so many sheets have a certificate that misses the truth."""
    missed = 0
    for seed in range(logs):
        world = Strata(320, seed)
        design, drawn = draw(world.population, 60, way=way, shares=shares)
        until = None if part is None else part(world.gold, drawn, design)
        labels = came_back(world.gold, design, [drawn], until=until)
        found = certificate(labels, world.population, world.judge, delta=delta)
        missed += not found.lower <= world.truth <= found.upper
    return missed


def stops_when_it_looks_good(gold, drawn: Drawn, design):
    """The annotator gives up after the first run of eight good answers, or at the end."""
    runs = np.convolve(gold[drawn.rows], np.ones(8), "valid")
    good = np.flatnonzero(runs == 8)
    return min(int(good[0]) + 8, design.units) if len(good) else design.units


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "shares", "part"),
    [
        ("one", None, None),
        ("whole", None, None),
        ("strata", None, None),
        ("strata", SHARES, None),
        ("one", None, stops_when_it_looks_good),
    ],
)
def test_certificates_hold_for_every_way(way, shares, part):
    """2,000 logs each, at most 10% miss; also where the annotator stops when it looks good."""
    missed = strata_misses(2000, way=way, shares=shares, part=part)
    assert_misses_at_most(missed, 2000, 0.1, way)


def skipped_misses(logs, *, impute, delta=0.1):
    """Misses where the annotator skips half of the bad answers; imputed at the worst, or not."""
    missed = 0
    for seed in range(logs):
        world = Strata(320, seed)
        design, drawn = draw(world.population, 60)
        kept = np.random.default_rng(seed).random(60) < 0.5
        given = (world.gold[drawn.rows] == 1) | kept
        labels = came_back(world.gold, design, [drawn], given=given)
        if not impute:  # planted: the gaps are filled with what was labelled
            filled = np.where(given, world.gold[drawn.rows], world.gold[drawn.rows][given].mean())
            labels.gold[drawn.rows] = filled
            found = certificate(labels, world.population, world.judge, delta=delta, gaps=True)
            missed += not found.lower <= world.truth <= found.upper
            continue
        ends = []
        for worst in (0.0, 1.0):
            labels.gold[drawn.rows[~given]] = worst
            ends.append(certificate(labels, world.population, world.judge, delta=delta, gaps=True))
        missed += not ends[0].lower <= world.truth <= ends[1].upper
    return missed


@pytest.mark.slow
def test_gaps_at_their_worst_hold_and_dropped_ones_do_not():
    """Skipped rows imputed at the least and the largest: at most 10% miss; dropped ones do."""
    assert_misses_at_most(skipped_misses(400, impute=True), 400, 0.1)
    assert misses_more_than(skipped_misses(400, impute=False), 400, 0.1)


@pytest.mark.slow
def test_shares_ignored_are_seen():
    """Planted: strata of equal weight where the population has one to four."""
    assert misses_more_than(strata_misses(200, shares={"common": 0.5, "rare": 0.5}), 200, 0.1)


@pytest.mark.slow
def test_thirty_percent_fewer_labels():
    """1,050 labels drawn where the judge errs give at most the width of 1,500 drawn uniformly."""
    widths = {}
    for labels, uniform in ((1500, True), (1050, False)):
        found = []
        for seed in range(12):
            world = World(20 * labels, seed)
            design, parts, _ = world.run(50, labels, most=labels, uniform=uniform)
            back = came_back(world.gold, design, parts)
            found.append(certificate(back, world.population, world.judge, delta=0.05).width)
        widths[uniform] = np.mean(found)
    assert widths[False] <= widths[True]


def stopped_misses(logs, *, tells, delta=0.1):
    """Misses at any of the rounds of `label next`."""
    missed = 0
    for seed in range(logs):
        world = World(2000, seed, tells=tells)
        design, parts, _ = world.run(60, 200, most=200, size=35)
        ends = []
        for rounds in range(1, len(parts) + 1):
            sofar = design.model_copy(update={"parts": design.parts[:rounds]})
            back = came_back(world.gold, sofar, parts[:rounds])
            ends.append(certificate(back, world.population, world.judge, delta=delta))
        missed += not all(one.lower <= world.truth <= one.upper for one in ends)
    return missed


@pytest.mark.slow
@pytest.mark.parametrize("tells", [True, False])
def test_certificates_hold_at_every_stop(tells):
    """Stopped at any round, also at the worst one: at most delta of the logs miss."""
    assert_misses_at_most(stopped_misses(400, tells=tells), 400, 0.1)

"""Which to label next: chances that are kept, uniform where that wins, fewer labels where not."""

import numpy as np
import pytest
from scipy import stats

from taut.errors import LogError, UsageError
from taut.labels.draw import Deal, Population, draw
from taut.labels.next import EVEN, FEWEST, Scores, _pick, draw_next
from taut.logs.keys import hash_ids


class World:
    """Draws of two kinds: where the judge doubts it is a coin, elsewhere it is nearly right."""

    def __init__(self, draws, seed, *, tells=True, each=1):
        rng = np.random.default_rng(seed)
        self.doubtful = rng.random(draws) < 0.2
        self.judge = np.where(
            self.doubtful, rng.uniform(0.4, 0.6, draws), rng.uniform(0.6, 0.8, draws)
        ).repeat(each)
        coin = (rng.random(draws * each) < 0.5).astype(float)
        near = np.clip(self.judge + rng.uniform(-0.03, 0.03, draws * each), 0, 1)
        self.gold = np.where(self.doubtful.repeat(each) | (not tells), coin, near)
        self.truth = 0.2 * 0.5 + 0.8 * 0.7 if tells else 0.5
        self.population = Population(
            rollout=hash_ids([f"{seed}/{i}" for i in range(draws * each)]),
            draw=hash_ids([f"{seed}/{i}" for i in range(draws)]).repeat(each),
        )

    def run(self, first, later, *, most, uniform=False, size=50):
        """Label a first sheet and rounds behind it; return the design, who was drawn, forecasts."""
        design, drawn = draw(self.population, first, most=most)
        parts, forecasts = [drawn], []
        while design.units < later:
            size = min(size, later - design.units)
            if uniform:
                design, drawn = draw(self.population, size, former=design)
            else:
                design, drawn, forecast = self.next(design, parts, size)
                forecasts.append(forecast)
            parts.append(drawn)
        return design, parts, forecasts

    def next(self, design, parts, n):
        rows, unit, chance = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("rows", "unit", "chance")
        )
        gold = np.full(len(self.gold), np.nan)
        gold[rows] = self.gold[rows]
        return draw_next(
            self.population, design, n,
            gold=gold, rows=rows, unit=unit, chance=chance, scores=Scores(judge=self.judge),
        )  # fmt: skip


def test_active_chances_are_on_record_and_above_their_floor():
    """One rollout of each fresh block, by chances that sum to 1 and keep to the floor on record."""
    world = World(6000, 0, each=2)
    design, parts, (forecast,) = world.run(100, 300, most=300, size=200)
    part, drawn = design.parts[-1], parts[-1]
    assert (forecast.taken, part.active, part.labels) == ("active", True, 100)
    assert part.floor == forecast.floor < 1
    assert forecast.active < forecast.uniform
    assert drawn.unit.tolist() == list(range(100, 300))
    members = Deal(world.population, 0).members(100, 300, most=300)
    assert (members == Deal(world.population, 0).draw_of(drawn.rows)[:, None]).any(axis=1).all()
    q = drawn.chance * 2  # of the draw; one of its two rollouts at random
    assert np.all(q * design.block >= part.floor * (1 - 1e-12)) and np.all(q <= 1)
    assert world.doubtful[drawn.rows // 2].mean() > 0.28


def test_members_are_picked_by_their_chances():
    """The hash takes each member of a block as often as its chance says (chi-square)."""
    chances = np.array([0.5, 0.25, 0.15, 0.1])
    taken = _pick(np.tile(chances, (20_000, 1)), np.arange(20_000), seed=3)
    counts = np.bincount(taken, minlength=4)
    assert stats.chisquare(counts, 20_000 * chances).pvalue > 1e-4


def test_blocks_with_inverse_chances_are_unbiased():
    """Mean g + (r* - g) / (G q) over what could be drawn is the block's mean, whatever g is."""
    world = World(3000, 1)
    design, parts, _ = world.run(100, 101, most=150)
    blocks = Deal(world.population, 0).members(100, 101, most=150)[0]
    lean = np.random.default_rng(0).dirichlet(np.ones(len(blocks)))
    g, gold = world.judge[blocks], world.gold[blocks]
    values = g.mean() + (gold - g) / (len(blocks) * lean)
    assert (lean * values).sum() == pytest.approx(gold.mean(), abs=1e-12)
    assert design.parts[-1].stop == 101 and len(parts[-1]) == 1


def test_uniform_is_taken_where_doubt_tells_nothing():
    """No label more than uniform needs: the choice is uniform, round after round."""
    world = World(4000, 2, tells=False)
    design, parts, forecasts = world.run(60, 360, most=360)
    assert [forecast.taken for forecast in forecasts] == ["uniform"] * 6
    _, same, _ = world.run(60, 360, most=360, uniform=True)
    assert np.array_equal(
        np.concatenate([p.rows for p in parts]), np.concatenate([p.rows for p in same])
    )
    assert not any(part.active for part in design.parts)


def test_few_labels_teach_nothing():
    """Below so many labels, or without draws to choose among, the next are uniform."""
    _, _, (forecast,) = World(3000, 3).run(FEWEST - 1, FEWEST + 9, most=100)
    assert forecast.taken == "uniform" and "too few" in forecast.reason
    _, _, (forecast,) = World(150, 3).run(50, 60, most=100)
    assert "no draws are left to choose among" in forecast.reason


def test_a_column_of_doubt_is_followed():
    """Where the score says nothing of the judge's errors, a column of its own doubt may."""
    world = World(5000, 4)
    design, drawn = draw(world.population, 100, most=250)
    gold = np.full(5000, np.nan)
    gold[drawn.rows] = world.gold[drawn.rows]
    flat = np.full(5000, 0.7)
    settings = {"gold": gold, "rows": drawn.rows, "unit": drawn.unit, "chance": drawn.chance}
    blind = draw_next(world.population, design, 50, scores=Scores(judge=flat), **settings)[2]
    assert blind.taken == "uniform"
    seeing = Scores(judge=world.judge, doubt=world.doubtful.astype(float))
    assert draw_next(world.population, design, 50, scores=seeing, **settings)[2].taken == "active"


def test_where_next_is_closed():
    """Used-up draws, other ways of drawing and other logs are refused with a remedy."""
    world = World(400, 5)
    design, drawn = draw(world.population, 50)
    with pytest.raises(UsageError, match="50 fresh blocks are needed, 0 are left"):
        world.next(design, [drawn], 50)
    rows, drawn = draw(world.population, 50, way="rows")
    with pytest.raises(UsageError, match="found way 'rows'"):
        world.next(rows, [drawn], 50)
    with pytest.raises(LogError, match="give the same files"):
        World(400, 6).next(design, [drawn], 5)


def test_floor_is_known_before_the_block():
    """The least G q of any block of such doubts lies above the floor that is announced."""
    from taut.labels.next import _Doubt, _floor

    rng = np.random.default_rng(0)
    doubt = _Doubt(np.array([0.3, 0.6]), np.array([0.1, 0.5, 0.2]))
    for even in EVEN:
        sizes = rng.choice(doubt.sizes, size=(500, 8))
        sizes[0] = [0.1] + [0.5] * 7
        lean = even + (1 - even) * 8 * sizes / sizes.sum(axis=1, keepdims=True)
        assert lean.min() == pytest.approx(_floor(doubt, even, 8))

"""Which rollouts to label next: chances that follow where the judge was seen to err.

Of each fresh block of G draws one, J, is labelled, with chance q_J >= c / G (theory §3.6). q is a
function of the labels so far and of the judge's scores in the block itself, so that

    B = mean of g over the block + (r*_J - g_J) / (G q_J)

is unbiased given the past whatever the chances are. They pay where the judge's doubt tells where it
errs, and cost where it tells nothing: inverse chances make blocks that reach further. So both are
forecast, on labels that the chances were not learned from, and uniform is taken where it wins.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from taut.errors import UsageError
from taut.labels.design import Part, SheetDesign
from taut.labels.draw import Deal, Drawn, Population, check_log
from taut.logs.keys import scramble

FEWEST = 40  # labels to learn from
EVEN = (0.1, 0.2, 0.35, 0.5, 0.7)  # share of the chance that is dealt evenly
_GAIN = 0.98  # forecast width that active must reach, of uniform's: it is an estimate
_FOLDS = 5
_PRIOR = 3.0  # labels that the overall level counts for, in each bin
_BIN = 15  # labels a bin
_WORD = np.uint64(0x6C6162656C5F716A)


class Forecast(BaseModel):
    """What the next labels are forecast to give; never a bound.

    Attributes:
        labels: Labels so far that were learned from.
        total: Labels that the widths are for: those that the bets reckon with.
        uniform, active: Forecast width of E r*, gold units, with so many labels, all drawn one way.
        floor: c of the active chances, G q >= c in every block; 1 where uniform was taken.
        taken: Which of them.
        reason: Why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: int
    total: int
    uniform: float
    active: float | None
    floor: float
    taken: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the judge says of each rollout.

    Attributes:
        judge: Its score, any scale, shape (rollouts,).
        doubt: What tells where it errs, any scale; the score itself by default.
    """

    judge: np.ndarray
    doubt: np.ndarray | None = None

    @property
    def signal(self) -> np.ndarray:
        """What the chances follow."""
        return self.judge if self.doubt is None else self.doubt


class _Past(NamedTuple):
    rows: np.ndarray  # labelled rows
    gold: np.ndarray  # unit scale
    weight: np.ndarray  # 1 / chance, scaled to mean 1
    blocks: np.ndarray  # members of each row's block, draws, shape (labels, G)


class _Doubt(NamedTuple):
    """Size of the judge's error by the signal: constant in each bin."""

    edges: np.ndarray
    sizes: np.ndarray

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        return self.sizes[np.searchsorted(self.edges, signal, side="right")]


def draw_next(
    population: Population,
    design: SheetDesign,
    n: int,
    *,
    gold: np.ndarray,
    rows: np.ndarray,
    unit: np.ndarray,
    chance: np.ndarray,
    scores: Scores,
    delta: float = 0.05,
) -> tuple[SheetDesign, Drawn, Forecast]:
    """Choose the next n rollouts to label, behind a sheet's.

    Args:
        population: The log.
        design: Of the sheet so far, way "one".
        n: Labels wanted.
        gold: Gold units, NaN where there is no label, shape (rollouts,).
        rows, unit, chance: What was drawn so far (`taut.labels.merge.Labels`).
        scores: The judge's.
        delta: Of the certificate that is forecast.

    Raises:
        UsageError: Another way of drawing, or no fresh draws are left.

    Source: theory §3.6; cf. Zrnic & Candes (2024).
    """
    check_log(population, design)
    _check_fresh(design, n)
    start = design.units
    deal = Deal(population, design.seed)
    past = _past(deal, design, gold, rows, unit, chance)
    blocks = deal.members(start, start + n, most=design.most)
    forecast, doubt, even = _choose(deal, design, past, scores, n, delta)
    active = forecast.taken == "active"
    if active:
        share = _shares(deal, blocks, doubt, scores.signal)
        chances = even / design.block + (1 - even) * share
    else:
        chances = np.zeros(blocks.shape)
        chances[:, 0] = 1.0  # the head: as random as any
    chosen = _pick(chances, np.arange(start, start + n), design.seed)
    draws = blocks[np.arange(n), chosen]
    q = chances[np.arange(n), chosen] if active else np.full(n, 1 / design.block)
    part = Part(
        start=start,
        stop=start + n,
        most=design.most,
        horizon=max(start + n, design.parts[-1].horizon),
        active=active,
        floor=forecast.floor,
        labels=forecast.labels,
    )
    drawn = Drawn(
        rows=deal.one_row_of(draws), unit=np.arange(start, start + n), chance=q / deal.sizes[draws]
    )
    if not active:
        drawn = Drawn(
            rows=drawn.rows,
            unit=drawn.unit,
            chance=np.full(n, (start + n) / deal.draws) / deal.sizes[draws],
        )
    return design.model_copy(update={"parts": (*design.parts, part)}), drawn, forecast


def _check_fresh(design: SheetDesign, n: int) -> None:
    if design.way != "one":
        raise UsageError(
            f"label next: expected a sheet of one rollout a prompt, found way '{design.way}'; "
            "draw one without --rows, --whole or --by."
        )
    left = max(0, design.most - design.units) if design.fresh else 0
    if n > left:
        raise UsageError(
            f"label next: {n} fresh blocks are needed, {left} are left: the other draws serve the "
            "labels so far as controls. Draw the first sheet with --most, the labels that you may "
            "ever ask for; or go on with `taut label draw --after`."
        )


def _past(deal: Deal, design: SheetDesign, gold, rows, unit, chance) -> _Past:
    given = ~np.isnan(gold[rows])
    rows, unit, chance = rows[given], unit[given], chance[given]
    low, high = design.scale.low, design.scale.high
    active = np.array([part.active for part in design.parts])[design.part_of(unit)]
    # How much more often than evenly its draw was chosen within the block.
    lean = np.where(active, chance * deal.sizes[deal.draw_of(rows)] * design.block, 1.0)
    weight = 1 / lean
    members = deal.members(0, design.most, most=design.most)[unit]
    return _Past(rows, (gold[rows] - low) / (high - low), weight / weight.mean(), members)


def _choose(deal: Deal, design: SheetDesign, past: _Past, scores: Scores, n: int, delta: float):
    """Forecast both ways; return what to do, the doubt and the even share of active chances."""
    labels, scale = len(past.rows), design.scale.high - design.scale.low
    total = max(design.units + n, design.parts[-1].horizon)  # what the bets reckon with

    def said(uniform: float, active: float | None, floor: float, reason: str) -> Forecast:
        return Forecast(
            labels=labels,
            total=total,
            uniform=min(1.0, uniform) * scale,
            active=None if active is None else min(1.0, active) * scale,
            floor=floor,
            taken="active" if floor < 1 else "uniform",
            reason=reason,
        )

    if labels < FEWEST or design.block < 2:
        few = f"{labels} labels are too few to learn where the judge errs"
        reason = few if labels < FEWEST else "no draws are left to choose among"
        return said(_width(total, 0.25, 0.5, 0.5, delta), None, 1.0, reason), None, 1.0
    errors, sizes = _held_out(deal, past, scores)
    fitted = _recalibration(past, scores, np.arange(labels))(scores.judge[past.rows])
    doubt = _doubt(past, scores, np.arange(labels))
    mean = float(np.clip((past.weight * past.gold).mean(), 0.0, 1.0))
    lowest, highest = float(fitted.min()), float(fitted.max())

    def block(even: float) -> tuple[float, float]:
        """Variance of a block at so even chances, and the width that it gives."""
        floor = _floor(doubt, even, design.block)
        lean = even + (1 - even) * sizes  # G q of each labelled draw
        # The block's mean of g varies between blocks too.
        variance = float((past.weight * errors**2 / lean).mean() + fitted.var() / design.block)
        reach = (mean - lowest + highest / floor, highest + (1 - lowest) / floor - mean)
        return variance, _width(total, variance, *reach, delta)

    variance, uniform = block(1.0)
    even = min(EVEN, key=lambda share: block(share)[1])
    less, active = block(even)
    if active < _GAIN * uniform:
        why = f"where the judge errs is known enough to bring a block's variance to {less:.3g}"
        floor = _floor(doubt, even, design.block)
        return said(uniform, active, floor, f"{why} from {variance:.3g}"), doubt, even
    why = "the judge's doubt tells too little of where it errs to pay for uneven chances"
    return said(uniform, active, 1.0, why), None, 1.0


def _floor(doubt: _Doubt, even: float, block: int) -> float:
    """Least G q that any block can have: known before the block, as the cap of a bet must be."""
    least, most = float(doubt.sizes.min()), float(doubt.sizes.max())
    return even + (1 - even) * block * least / (least + (block - 1) * most)


def _width(blocks: int, variance: float, below: float, above: float, delta: float) -> float:
    """Forecast a width: that of a normal interval, and more the further a block may reach.

    The bets on blocks that reach d beyond the mean are capped at 1 / d, and lose about strain^2 /
    11 by that, strain = d * sqrt(2 T / (n V)): measured on bets at strains up to 2.6.
    """
    from scipy.special import ndtri

    variance = max(variance, 1e-6)
    normal = float(ndtri(1 - delta / 2)) * math.sqrt(variance / blocks)
    pull = math.sqrt(2 * math.log(2 / delta) / (blocks * variance))
    return sum(normal * (1 + (reach * pull) ** 2 / 11) for reach in (below, above))


def _held_out(deal: Deal, past: _Past, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Error of g on each label, and its draw's doubt over its block's mean, both learned without.

    Labels are dealt to folds as they stand: their order is random.
    """
    folds = np.arange(len(past.rows)) % _FOLDS
    errors, sizes = np.empty(len(folds)), np.empty(len(folds))
    for fold in range(_FOLDS):
        out, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        fit = _recalibration(past, scores, rest)
        errors[out] = past.gold[out] - fit(scores.judge[past.rows[out]])
        doubt = _doubt(past, scores, rest)
        share = _shares(deal, past.blocks[out], doubt, scores.signal)
        mine = past.blocks[out] == deal.draw_of(past.rows[out])[:, None]
        sizes[out] = share[mine] * past.blocks.shape[1]
    return errors, sizes


def _recalibration(past: _Past, scores: Scores, chosen: np.ndarray):
    """Gold by the judge's score: means in bins, drawn towards a straight line."""
    judge, gold = scores.judge[past.rows[chosen]], past.gold[chosen]
    weight = past.weight[chosen]
    if np.ptp(judge) == 0:
        level = float((weight * gold).sum() / weight.sum())
        return lambda values: np.full(len(values), level)
    line = np.polynomial.polynomial.polyfit(judge, gold, 1, w=np.sqrt(weight))
    edges = _edges(judge)
    bins = np.searchsorted(edges, judge, side="right")
    rest = gold - np.polynomial.polynomial.polyval(judge, line)
    shift = np.bincount(bins, weight * rest, len(edges) + 1) / (
        np.bincount(bins, weight, len(edges) + 1) + _PRIOR
    )

    def fit(values: np.ndarray) -> np.ndarray:
        straight = np.polynomial.polynomial.polyval(values, line)
        return np.clip(straight + shift[np.searchsorted(edges, values, side="right")], 0.0, 1.0)

    return fit


def _doubt(past: _Past, scores: Scores, chosen: np.ndarray) -> _Doubt:
    fit = _recalibration(past, scores, chosen)
    rows = past.rows[chosen]
    square = (past.gold[chosen] - fit(scores.judge[rows])) ** 2
    signal, weight = scores.signal[rows], past.weight[chosen]
    edges = _edges(signal)
    bins = np.searchsorted(edges, signal, side="right")
    level = float((weight * square).sum() / weight.sum())
    total = np.bincount(bins, weight * square, len(edges) + 1) + _PRIOR * level
    mean = total / (np.bincount(bins, weight, len(edges) + 1) + _PRIOR)
    return _Doubt(edges, np.sqrt(np.maximum(mean, 1e-12)))


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins with as many past labels each."""
    bins = int(np.clip(len(values) // _BIN, 1, 10))
    return np.unique(np.quantile(values, np.arange(1, bins) / bins))


def _shares(deal: Deal, blocks: np.ndarray, doubt: _Doubt, signal: np.ndarray) -> np.ndarray:
    """Each draw's share of its block's doubt; a draw's is the root mean square of its rows'."""
    flat = blocks.ravel()
    rows, whose = deal.rows_of(flat)
    square = np.bincount(whose, doubt(signal[rows]) ** 2, len(flat)) / deal.sizes[flat]
    sizes = np.sqrt(square).reshape(blocks.shape)
    return sizes / sizes.sum(axis=1, keepdims=True)


def _pick(chances: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """One member of each block by its chances, from a hash of seed and unit."""
    start = scramble(scramble(np.uint64(seed % 2**64)) ^ _WORD)
    uniform = (scramble(units.astype(np.uint64) ^ start) >> np.uint64(11)) * 2.0**-53
    heights = np.cumsum(chances, axis=1)
    place = (heights <= (uniform * heights[:, -1])[:, None]).sum(axis=1)
    return np.minimum(place, chances.shape[1] - 1)

"""From a sheet that came back to the blocks of a certificate: what an audit takes (theory §3.6).

A label certifies in a block: one labelled draw, or one of each stratum, and the draws that were
dealt to it as controls when the sheet was drawn. Which these are, in which order they are bet on,
by what chance the labelled one was chosen and how many bets are reckoned with follows from the
design, never from the labels.
"""

from dataclasses import dataclass

import numpy as np

from taut.labels.design import SheetDesign
from taut.labels.draw import Deal, check_log
from taut.labels.merge import Labels
from taut.labels.population import Population


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetBlocks:
    """The blocks that a sheet's labels certify in, in the order of the sheet.

    Attributes:
        unit: Block of the draw that each row of the log belongs to, shape (rollouts,); -1 for draws
            in none: they stay fresh for later sheets, lie behind a gap, or were never dealt.
        chance: Chance that this draw was the labelled one of its block (of its stratum in it),
            shape (rollouts,).
        least: Least that chance times draws of the block can be, shape (blocks,): 1 but for active
            blocks. Fixed before each block.
        horizon: Blocks that the bet on each reckons with, shape (blocks,); never falling.
        whole: All rows of a labelled draw have labels, by design; else one random row.
        stratum: Stratum of each row's draw, shape (rollouts,), or None.
        shares: Share of each stratum in the population, declared beforehand, shape (strata,), or
            None: each block weighs what it met.
        active: Some blocks have chances of their own: `chance` and `least` are then needed.
        complete: No unit is missing. Otherwise the blocks are those before the first gap, and only
            bets with this `horizon` are valid, not those of their number.
        controls: Draws without a label stand in the blocks. False where controls of early labels
            were labelled later (`SheetDesign.fresh`).
    """

    unit: np.ndarray
    chance: np.ndarray
    least: np.ndarray
    horizon: np.ndarray
    whole: bool
    stratum: np.ndarray | None
    shares: np.ndarray | None
    active: bool
    complete: bool
    controls: bool

    def __len__(self) -> int:
        return len(self.horizon)


def sheet_blocks(
    labels: Labels, population: Population, *, gaps: bool = False
) -> SheetBlocks | None:
    """Return the blocks of a sheet that came back, up to its first gap or with its gaps.

    None for labels on no sheet, and for rows drawn one by one (way "rows"), which are a random
    sample of rows and lie in no blocks.

    Args:
        labels: Joined to the log.
        population: The log, with the sheet's column of strata.
        gaps: Keep blocks behind the first gap. The rows that were drawn and have no label are then
            to be imputed in place, by the least r* for a lower end and the largest for an upper:
            valid whatever made the gaps.

    Raises:
        LogError: The log is not the one that the sheet was drawn from.
    """
    design = labels.design
    if design is None or design.way == "rows":
        return None
    check_log(population, design)
    deal = Deal(population, design.seed)
    blocks = design.units if gaps else labels.returned.prefix
    if design.way == "strata":
        unit, chance = _strata(deal, design, blocks)
    else:
        unit, chance = _one(deal, design, blocks)
    parts = design.part_of(np.arange(blocks))
    active = np.array([part.active for part in design.parts])[parts]
    row_unit = unit[deal.draw_of(np.arange(len(labels.gold)))]
    row_chance = chance[deal.draw_of(np.arange(len(labels.gold)))]
    if active.any():
        _set_active(deal, labels, active, row_chance)
    strata = design.strata
    return SheetBlocks(
        unit=row_unit,
        chance=row_chance,
        least=np.array([part.floor for part in design.parts])[parts],
        horizon=design.horizons()[:blocks],
        whole=design.way == "whole",
        stratum=population.stratum if strata else None,
        shares=np.array([s.share for s in strata]) if design.declared_shares else None,
        active=bool(active.any()),
        complete=labels.returned.complete,
        controls=design.fresh,
    )


def _one(deal: Deal, design: SheetDesign, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit and chance of each draw where a block has one labelled draw."""
    unit = np.full(deal.draws, -1, dtype=np.int64)
    if design.fresh:
        members = deal.members(0, blocks, most=design.most)
        unit[members] = np.arange(blocks)[:, None]
        return unit, np.full(deal.draws, 1.0 / design.block)
    unit[deal.order[:blocks]] = np.arange(blocks)
    return unit, np.ones(deal.draws)


def _set_active(deal: Deal, labels: Labels, active: np.ndarray, row_chance: np.ndarray) -> None:
    """Give the rows of draws that active blocks chose the chance that the sheet records."""
    inside = labels.unit < len(active)
    rows = labels.rows[inside][active[labels.unit[inside]]]
    chance = labels.chance[inside][active[labels.unit[inside]]]
    draws = deal.draw_of(rows)
    of_draw = np.zeros(deal.draws)
    of_draw[draws] = chance * deal.sizes[draws]  # of the draw; then one of its rows at random
    mine = of_draw[deal.draw_of(np.arange(len(row_chance)))]
    row_chance[mine > 0] = mine[mine > 0]


def _strata(deal: Deal, design: SheetDesign, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit and chance of each draw where a block has one labelled draw of each stratum."""
    unit = np.full(deal.draws, -1, dtype=np.int64)
    codes = deal.stratum_of_draw
    if not design.declared_shares:
        unit[deal.order[: blocks * design.block]] = np.repeat(np.arange(blocks), design.block)
    else:
        for code, stratum in enumerate(design.strata):
            own = deal.order[codes[deal.order] == code]
            others = (stratum.draws // design.most if design.fresh else 1) - 1
            unit[own[:blocks]] = np.arange(blocks)
            behind = own[design.most : design.most + blocks * others]
            unit[behind] = np.repeat(np.arange(blocks), others)
    used = unit >= 0
    cell = np.where(used, unit, 0) * len(design.strata) + codes
    counts = np.bincount(cell[used], minlength=blocks * len(design.strata))
    return unit, 1.0 / np.maximum(counts[cell], 1)

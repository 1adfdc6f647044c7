"""Which rollouts to label: chosen blind to everything but ids, the same for the same log and seed.

Labels certify if who is labelled has nothing to do with what was said (theory §2, "What a label is
worth"). Here draws and rows are put in the order of a hash of seed and id, so that file order,
rewards and responses have no say, the same call gives the same sheet, and a longer sheet begins
with the shorter one. Over several policies or steps the labelled draws are a uniformly random
subset of the whole log's (theory §2, "Labels over different laws").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from taut.errors import LogError, UsageError
from taut.labels.design import Part, Scale, SheetDesign, Stratum, Way
from taut.labels.population import Population
from taut.logs.keys import scramble

# Orders of their own: the audit's calibration split and bets hash the same keys with other words.
_DRAW_WORD = np.uint64(0x6C6162656C5F7078)
_ROW_WORD = np.uint64(0x6C6162656C5F796A)
# Half the draws stay for later labels where that leaves groups of so many for the first ones.
ROOM = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Rows that were chosen, in the order of the sheet.

    Attributes:
        rows: Row of each item in the population, int64, shape (items,).
        unit: Position of its unit in the order (`SheetDesign`), int64; never falls.
        chance: Chance that the row is labelled by the end of this part, shape (items,).
    """

    rows: np.ndarray
    unit: np.ndarray
    chance: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class Deal:
    """The random order of a population's draws and rows, made once.

    Attributes:
        population: What was dealt.
        order: Draws in random order, as indices into `sizes`, shape (draws,).
        sizes: Rollouts of each draw, shape (draws,).
    """

    def __init__(self, population: Population, seed: int):
        self.population = population
        keys, self._draw_of_row, self.sizes = np.unique(
            population.draw, return_inverse=True, return_counts=True
        )
        self._start = scramble(np.uint64(seed % 2**64))
        self.order = np.argsort(scramble(keys ^ scramble(self._start ^ _DRAW_WORD)))

    @property
    def draws(self) -> int:
        """Draws of the log."""
        return len(self.order)

    @cached_property
    def row_words(self) -> np.ndarray:
        """The hash by which rows are ordered, uint64, shape (rollouts,)."""
        return scramble(self.population.rollout ^ scramble(self._start ^ _ROW_WORD))

    @cached_property
    def stratum_of_draw(self) -> np.ndarray:
        """Stratum of each draw, shape (draws,).

        Raises:
            UsageError: The rollouts of one draw have several values.
        """
        of_row = self.population.stratum
        of_draw = np.empty(self.draws, dtype=np.int64)
        of_draw[self._draw_of_row] = of_row
        if np.any(of_draw[self._draw_of_row] != of_row):
            raise UsageError(
                f"--by {self.population.by}: its value differs between rollouts of one prompt; "
                "expected a property of the prompt. A prompt is one draw, whatever policy answers."
            )
        return of_draw

    def draw_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the draw that some rows belong to, as an index into `sizes`."""
        return self._draw_of_row[rows]

    def members(self, start: int, stop: int, *, most: int) -> np.ndarray:
        """Return the draws of blocks start to stop, heads first, shape (blocks, draws a block)."""
        others = max(1, self.draws // most) - 1
        blocks = np.arange(start, stop)
        behind = most + blocks[:, None] * others + np.arange(others)
        return self.order[np.concatenate([blocks[:, None], behind], axis=1)]

    def rows_of(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of some draws, draw by draw, in random order within each, and whose.

        Args:
            draws: Distinct draws, as indices into `sizes`.

        Returns:
            Rows, and the position in `draws` of the draw that each belongs to.
        """
        place = np.full(self.draws, -1, dtype=np.int64)
        place[draws] = np.arange(len(draws))
        of_row = place[self._draw_of_row]
        rows = np.flatnonzero(of_row >= 0)
        order = np.lexsort((self.row_words[rows], of_row[rows]))
        return rows[order], of_row[rows][order]

    def one_row_of(self, draws: np.ndarray) -> np.ndarray:
        """Return one random row of each of some distinct draws, shape (draws,)."""
        rows, whose = self.rows_of(draws)
        return rows[np.r_[True, whose[1:] != whose[:-1]]] if len(rows) else rows


def redraw(population: Population, design: SheetDesign, part: int = -1) -> Drawn:
    """Choose the rows of a part again.

    Args:
        population: The log; it must be the one that was drawn from.
        design: The sheet's; its part must not be active (`taut.labels.next` keeps those).
        part: Which part, the last by default.

    Raises:
        LogError: The log is not the one that the sheet was drawn from.
        UsageError: The part is active: its rows follow from the labels at that time too.
    """
    check_log(population, design)
    chosen = design.parts[part]
    if chosen.active:
        raise UsageError("an active part cannot be drawn again: its chances follow from labels.")
    return _draw(Deal(population, design.seed), design, chosen)


def check_log(population: Population, design: SheetDesign) -> None:
    """Raise LogError unless a log is the one that a sheet was drawn from."""
    facts = population.facts()
    if facts != design.log:
        raise LogError(
            f"the sheet was drawn from a log of {design.log.rollouts} rollouts "
            f"({design.log.draws} draws, hash {design.log.hash[:8]}), this one has "
            f"{facts.rollouts} ({facts.draws} draws, hash {facts.hash[:8]}); give the same files. "
            "Rows added since then had no chance to be drawn: draw a sheet for them."
        )


def draw(
    population: Population,
    n: int,
    *,
    way: Way = "one",
    seed: int = 0,
    most: int | None = None,
    shares: Mapping[str, float] | None = None,
    former: SheetDesign | None = None,
    scale: Scale | None = None,
    annotators: tuple[str, ...] = (),
    overlap: int = 0,
) -> tuple[SheetDesign, Drawn]:
    """Choose the rollouts that are to be labelled, and say how.

    Args:
        population: The log.
        n: Labels wanted; prompts for way "whole". Behind a former sheet: so many more.
        way: "one" random rollout of each of n random draws (unbiased whatever K is), "rows" drawn
            from all rows, "whole" draws, or "strata": blocks of one of each stratum.
        seed: Of the order.
        most: Units that may be labelled in all, now and later; the draws behind them serve as
            controls. Default: n, or 2n where the log has `ROOM` draws for each of those.
        shares: Population share of each stratum, fixed before the log was seen; None: blocks of
            fresh draws, whose strata get their own shares in the block (theory §3.6).
        former: Design of the sheet behind which to go on; seed, way and scale are its own.
        scale: What may be answered.
        annotators, overlap: Kept in the design (`assign` deals the items out).

    Raises:
        UsageError: Too few draws, or settings that exclude each other.
        LogError: The log is not the former sheet's.

    Source: theory §2, §3.6.
    """
    if n < 1:
        raise UsageError(f"-n {n}: expected at least one label.")
    if former is not None:
        check_log(population, former)
        seed, way, scale = former.seed, former.way, former.scale
        shares = {s.name: s.share for s in former.strata} if former.declared_shares else None
    deal = Deal(population, seed)
    facts = former.log if former is not None else population.facts()
    strata = _strata(deal, way, shares)
    done = former.parts if former is not None else ()
    part = _part(deal, n, way, strata, done, most)
    design = SheetDesign(
        way=way,
        seed=seed,
        log=facts,
        by_group=population.by_group,
        parts=(*done, part),
        by=population.by if way == "strata" else None,
        strata=strata,
        scale=scale or Scale(),
        annotators=annotators,
        overlap=min(overlap, part.stop - part.start),
    )
    return design, _draw(deal, design, part)


def _strata(deal: Deal, way: Way, shares: Mapping[str, float] | None) -> tuple[Stratum, ...]:
    if way != "strata":
        if shares:
            raise UsageError("--share: expected with --by COLUMN only.")
        return ()
    names = deal.population.stratum_names
    counts = np.bincount(deal.stratum_of_draw, minlength=len(names)).tolist()
    if shares is None:
        return tuple(Stratum(name=n, draws=c) for n, c in zip(names, counts, strict=True))
    if set(shares) != set(names):
        odd = sorted(set(shares) ^ set(names))
        raise UsageError(
            f"--share: expected one share for each value of '{deal.population.by}' "
            f"({', '.join(names)}), found a difference in {', '.join(odd)}."
        )
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise UsageError(f"--share: expected positive shares that sum to 1, found {dict(shares)}.")
    return tuple(
        Stratum(name=n, draws=c, share=shares[n]) for n, c in zip(names, counts, strict=True)
    )


def _part(deal: Deal, n: int, way: Way, strata, done: tuple[Part, ...], most: int | None) -> Part:
    start = done[-1].stop if done else 0
    limit = _limit(deal, way, strata)
    wanted = start + n
    if way == "strata":
        wanted = start + max(1, n // len(strata))
    kept = most if most is not None else done[-1].most if done else _room(wanted, limit, way)
    if way == "strata" and not strata[0].share:
        if done and kept != done[-1].most:
            raise UsageError("--most: the blocks of a stratified sheet cannot be dealt again.")
        wanted = start + _blocks_that_fit(deal, start, min(kept, limit), n)
    elif most is None:
        kept = max(kept, wanted)
    if wanted > limit or wanted > kept:
        what = {"rows": "rollouts", "strata": "blocks"}.get(way, "prompts")
        bound = f"the log has {limit} {what}" if wanted > limit else f"--most is {kept}"
        raise UsageError(
            f"{wanted} {what} are to be drawn{f', {start} of them before' if start else ''}, but "
            f"{bound}; ask for fewer, or log more."
        )
    if kept > limit:
        raise UsageError(f"--most {kept}: the log has room for {limit}.")
    reckoned = max(wanted, done[-1].horizon if done else 0, most or 0)
    return Part(start=start, stop=wanted, most=kept, horizon=reckoned)


def _limit(deal: Deal, way: Way, strata: tuple[Stratum, ...]) -> int:
    if way == "rows":
        return len(deal.population.rollout)
    if way == "strata" and strata[0].share is not None:
        return min(stratum.draws for stratum in strata)
    return deal.draws


def _room(wanted: int, limit: int, way: Way) -> int:
    if way == "rows":
        return limit
    return 2 * wanted if limit >= 2 * ROOM * wanted else wanted


def _draw(deal: Deal, design: SheetDesign, part: Part) -> Drawn:
    if design.way == "rows":
        order = np.argsort(deal.row_words)
        rows = order[part.start : part.stop]
        chance = np.full(len(rows), part.stop / len(order))
        return Drawn(rows=rows, unit=np.arange(part.start, part.stop), chance=chance)
    if design.way == "strata":
        pick = _declared_strata if design.declared_shares else _met_strata
        chosen, unit, chance = pick(deal, part, design)
    else:
        chosen = deal.order[part.start : part.stop]
        unit = np.arange(part.start, part.stop)
        chance = np.full(len(chosen), part.stop / deal.draws)
    if design.way == "whole":
        rows, whose = deal.rows_of(chosen)
        return Drawn(rows=rows, unit=unit[whose], chance=chance[whose])
    return Drawn(rows=deal.one_row_of(chosen), unit=unit, chance=chance / deal.sizes[chosen])


def _declared_strata(deal: Deal, part: Part, design: SheetDesign):
    """One draw of each stratum a unit, in an order within the unit that says nothing."""
    of_order = deal.stratum_of_draw[deal.order]
    chosen, unit, chance = [], [], []
    for code, stratum in enumerate(design.strata):
        chosen.append(deal.order[of_order == code][part.start : part.stop])
        unit.append(np.arange(part.start, part.stop))
        chance.append(np.full(part.stop - part.start, part.stop / stratum.draws))
    chosen, unit, chance = (np.concatenate(values) for values in (chosen, unit, chance))
    rank = np.empty(deal.draws, dtype=np.int64)
    rank[deal.order] = np.arange(deal.draws)
    order = np.lexsort((rank[chosen], unit))
    return chosen[order], unit[order], chance[order]


def _met_strata(deal: Deal, part: Part, design: SheetDesign):
    """The first draw of each stratum in a run of `block` draws; chances within the run."""
    first, unit, met = _first_met(deal, part.start, part.stop, design.block)
    return deal.order[first], unit, 1.0 / met


def _first_met(deal: Deal, start: int, stop: int, size: int):
    """Positions of the first draw of each stratum in each run, its run, and how many it met."""
    places = np.arange(start * size, stop * size)
    runs, codes = places // size, deal.stratum_of_draw[deal.order[places]]
    key = runs * (int(codes.max()) + 1) + codes
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    order = np.argsort(first)
    return places[first[order]], runs[first[order]], counts[order]


def _blocks_that_fit(deal: Deal, start: int, most: int, n: int) -> int:
    """How many runs from `start` hold at most n labels; at least one."""
    if start >= most:
        return 1
    _, unit, _ = _first_met(deal, start, most, max(1, deal.draws // most))
    labels = np.cumsum(np.bincount(unit - start))
    return max(1, int(np.searchsorted(labels, n, side="right")))


def assign(units: np.ndarray, annotators: int, overlap: int) -> list[np.ndarray]:
    """Deal the items of a sheet to annotators, run by run, some to all of them.

    Runs, and not by turns: where one does not return, the order is whole up to that one's run.

    Args:
        units: Unit of each item, shape (items,), not falling; items of a unit stay together.
        annotators: How many.
        overlap: Units that go to all, spread evenly over the sheet, for agreement.

    Returns:
        For each annotator the positions of the items, in the order of the sheet.
    """
    distinct, index = np.unique(units, return_inverse=True)
    shared = np.zeros(len(distinct), dtype=bool)
    if overlap:
        places = np.floor((np.arange(overlap) + 0.5) * len(distinct) / overlap).astype(np.int64)
        shared[places] = True
    whose = np.full(len(distinct), -1)
    own = int((~shared).sum())
    whose[~shared] = np.arange(own) * annotators // max(own, 1)
    return [np.flatnonzero((whose[index] == who) | shared[index]) for who in range(annotators)]

"""Labels that came on a sheet: how they were drawn, as plain arrays beside the rows of a log.

The room that draws sheets (`taut.labels`) makes this record from the design of the sheet; what
certifies takes it as it is. A label certifies in a block: one labelled draw, or one of each
stratum, and the draws that were dealt to it before anything was labelled (theory §3.6).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetLabels:
    """How the labels of a log were drawn.

    Attributes:
        draw: uint64 key of the draw that the sheet took each row for, shape (rollouts,).
        unit: Block of that draw in the order of the sheet, shape (rollouts,); -1 for none.
        chance: Chance that this draw was the labelled one of its block (of its stratum in it),
            shape (rollouts,).
        missing: Rows that were drawn and have no label, bool, shape (rollouts,).
        least: Least that chance times draws of the block can be, shape (blocks,).
        horizon: Blocks that the bet on each reckons with, shape (blocks,); never falling.
        prefix: Blocks before the first one with a missing label.
        until: Blocks up to the last one with a label.
        whole: All rows of a labelled draw were drawn; else one random row of it.
        stratum: Stratum of each row's draw, shape (rollouts,), or None.
        shares: Share of each stratum in the population, declared beforehand, or None.
        active: Some blocks have chances of their own.
        part: These rows are only a part of the log that was drawn from: no blocks lie in it.
    """

    draw: np.ndarray
    unit: np.ndarray
    chance: np.ndarray
    missing: np.ndarray
    least: np.ndarray
    horizon: np.ndarray
    prefix: int
    until: int
    whole: bool
    stratum: np.ndarray | None
    shares: np.ndarray | None
    active: bool
    part: bool = False

    @property
    def complete(self) -> bool:
        """Whether every row that was drawn has a label."""
        return self.prefix == len(self.horizon)

    @property
    def skipped(self) -> bool:
        """Whether labels stand behind a gap: then its blocks count with it at its worst."""
        return self.until > self.prefix

    @property
    def uniform(self) -> bool:
        """Whether all draws had one chance of a label, so that plain means of labels hold."""
        return not self.active and self.stratum is None

    def take(self, rows: np.ndarray) -> "SheetLabels":
        """Return the record beside some rows (indices or a mask)."""
        columns = ("draw", "unit", "chance", "missing")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in columns},
            stratum=None if self.stratum is None else self.stratum[rows],
            part=True,
        )

    def has_draws(self, rows: np.ndarray, starts: np.ndarray) -> bool:
        """Say whether blocks of rows are the draws that the sheet dealt.

        They are not where ids that share a text were found to be one prompt.
        """
        key = self.draw[rows]
        first = key[starts[:-1]]
        same = np.array_equal(key, np.repeat(first, np.diff(starts)))
        return same and len(np.unique(first)) == len(first)


def uniform_on_record(fact: object) -> bool:
    """Whether the facts of a file speak of one sheet of equal chances, returned in full.

    Only then plain means of the labels hold: a sheet in part, one that was gone on with, strata
    and chances that follow the judge's doubt need its blocks.

    Args:
        fact: `LogFacts.random_labels`.
    """
    if not isinstance(fact, Mapping):
        return bool(fact)
    once = len(fact.get("taut_sheet", {}).get("parts", ())) == 1
    return once and came_back_whole(fact) and has_equal_chances(fact)


def came_back_whole(fact: Mapping) -> bool:
    """Whether the facts of a file say that every row of its sheet has a label."""
    returned = fact.get("returned", {})
    return returned.get("units") is not None and returned.get("prefix") == returned["units"]


def has_equal_chances(fact: object) -> bool:
    """Whether the facts of a file speak of no sheet whose rows had unequal chances."""
    if not isinstance(fact, Mapping):
        return True
    sheet = fact.get("taut_sheet", {})
    return sheet.get("way") != "strata" and not any(p.get("active") for p in sheet.get("parts", ()))

"""How the rollouts on a sheet were chosen: the record that travels with every sheet and answer.

A certificate needs to know who was labelled by what chance (theory §2, §3.6). The design says so
in full: with the log and the design the choice can be made again, row for row, so that nothing has
to be guessed from which rows happen to have a label.
"""

from typing import Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from taut.errors import LogError

VERSION = 1
KEY = "taut_sheet"  # name of the design in JSONL, CSV and the page

Way = Literal["one", "rows", "whole", "strata"]
ScaleKind = Literal["yes-no", "choices", "number"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Scale(_Record):
    """What an annotator may answer, in gold units.

    Attributes:
        kind: "yes-no" (high and low), "choices" (each whole number of the range), "number".
        low, high: The gold range.
        question: What is asked, in one line; shown on the page.
    """

    kind: ScaleKind = "yes-no"
    low: float = 0.0
    high: float = 1.0
    question: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Scale":
        if not self.low < self.high:
            raise ValueError(f"scale: expected LOW < HIGH, found {self.low:g} and {self.high:g}")
        whole = float(self.low).is_integer() and float(self.high).is_integer()
        if self.kind == "choices" and not (whole and self.low >= 0 and self.high <= 9):
            raise ValueError(
                "scale: choices are whole numbers of one digit, 0 to 9; use a number for "
                f"{self.low:g} to {self.high:g}"
            )
        return self


class DrawnFrom(_Record):
    """Which log was drawn from.

    Attributes:
        hash: 32 hex digits of the rows' ids, prompts and cells; the order of rows does not matter.
        rollouts, draws: Rows, and draws of prompts among them (theory §2).
        cells: Rows in each (step, policy, run), by name; empty where there is one.
    """

    hash: str
    rollouts: int = Field(ge=1)
    draws: int = Field(ge=1)
    cells: dict[str, int] = {}


class Stratum(_Record):
    """One value of the column that a sheet is stratified by.

    Attributes:
        name: The value.
        draws: Draws of the log that have it.
        share: Its share of the population, declared beforehand; None: the block's own share.
    """

    name: str
    draws: int
    share: float | None = None


class Part(_Record):
    """Units start to stop of the order, chosen at one time.

    Attributes:
        start, stop: Positions in the order: draws, rows or blocks (`SheetDesign`).
        most: Units for which draws were kept at that time. Where a later part raises it, draws that
            served as controls are labelled: only the labels by themselves then certify.
        horizon: Units that bets reckon with: `most` where the user declared it, else `stop`. Never
            less than in the part before.
        active: The draw of a block was chosen by chances that follow the judge's doubt.
        floor: c of theory §3.6: no chance is below c / block; 1 where all are equal.
        labels: Labels that the chances were learned from.
    """

    start: int = Field(ge=0)
    stop: int = Field(ge=1)
    most: int = Field(ge=1)
    horizon: int = Field(ge=1)
    active: bool = False
    floor: float = Field(default=1.0, gt=0.0, le=1.0)
    labels: int = 0


class SheetDesign(_Record):
    """How the rows of a sheet were chosen (theory §2, §3.6).

    All draws of the log stand in a random order that seed and ids fix. Its first `most` draws head
    the blocks 0, 1, ...; the draws behind them are dealt to these in order, `block` - 1 each. Unit
    t is

    * way "one": a block, of which the head is labelled, or one draw by chances (`Part.active`); of
      that draw one random row;
    * way "whole": a block, all rows of whose head are labelled;
    * way "rows": a row, from a random order of all rows of the log;
    * way "strata": with declared shares one draw of each stratum, and one random row of each;
      without, a run of `block` draws, and of each stratum met in it one draw and one random row.

    Attributes:
        version: Of this record.
        way: As above.
        seed: Of the orders.
        log: Which log.
        by_group: Rows of one prompt and group are a draw (`--prompts with-replacement`), rather
            than all rows of a prompt.
        parts: What was chosen when; the last part is this sheet's.
        by, strata: Column of the strata, and its values.
        scale: What may be answered.
        annotators: Who was to answer; empty where nobody is named.
        overlap: Units that every annotator was to answer.
    """

    version: Literal[1] = VERSION
    way: Way = "one"
    seed: int = 0
    log: DrawnFrom
    by_group: bool = False
    parts: tuple[Part, ...] = Field(min_length=1)
    by: str | None = None
    strata: tuple[Stratum, ...] = ()
    scale: Scale = Scale()
    annotators: tuple[str, ...] = ()
    overlap: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "SheetDesign":
        starts = [part.start for part in self.parts]
        stops = [part.stop for part in self.parts]
        if starts != [0, *stops[:-1]] or any(a >= b for a, b in zip(starts, stops, strict=True)):
            raise ValueError("parts: expected one behind the other, from 0")
        if any(part.stop > min(part.most, part.horizon) for part in self.parts):
            raise ValueError("parts: expected no more units than `most` and `horizon`")
        if (self.way == "strata") != bool(self.strata):
            raise ValueError("strata: expected with way 'strata' only")
        return self

    @property
    def units(self) -> int:
        """Units chosen so far, in all parts."""
        return self.parts[-1].stop

    @property
    def most(self) -> int:
        """Units that can be labelled, now and later, before the draws are used up."""
        return self.parts[-1].most

    @property
    def block(self) -> int:
        """Draws in a block, its head included; 1 where none is left to be dealt, or for rows."""
        return 1 if self.way == "rows" else max(1, self.log.draws // self.most)

    @property
    def fresh(self) -> bool:
        """Whether no control of an earlier part was labelled later (`Part.most`)."""
        return len({part.most for part in self.parts}) == 1

    def part_of(self, units: np.ndarray) -> np.ndarray:
        """Return the part that each unit belongs to, as an index into `parts`, shape (units,)."""
        return np.searchsorted([part.stop for part in self.parts], units, side="right")

    def horizons(self) -> np.ndarray:
        """Return for each unit how many its bet reckons with, shape (units,), never falling.

        The same number throughout where `most` was declared at the first sheet; else a fortune is
        continued beyond what it reckoned with, which is valid and wider.
        """
        horizons = np.array([part.horizon for part in self.parts])
        return horizons[self.part_of(np.arange(self.units))]

    @property
    def declared_shares(self) -> bool:
        """Whether the strata have population shares known beforehand."""
        return bool(self.strata) and self.strata[0].share is not None

    def same_series(self, other: "SheetDesign") -> bool:
        """Return whether two sheets belong to one order, one perhaps behind the other."""
        own, others = (
            design.model_dump(exclude={"parts", "annotators", "overlap", "scale"})
            for design in (self, other)
        )
        shorter = min(len(self.parts), len(other.parts))
        return own == others and self.parts[:shorter] == other.parts[:shorter]

    def to_json(self) -> str:
        """Return the record in one line of JSON, the same bytes for the same design."""
        return self.model_dump_json(exclude_defaults=True)


def read_design(value: object, where: str) -> SheetDesign:
    """Read a design back from a sheet.

    Args:
        value: The object, or its JSON.
        where: File and place, for the message.

    Raises:
        LogError: It is not a design of this version.
    """
    try:
        if isinstance(value, str | bytes):
            value = orjson.loads(value)
        if isinstance(value, dict) and value.get("version", VERSION) != VERSION:
            raise LogError(
                f"{where}: expected a sheet of version {VERSION}, found {value['version']!r}; "
                "read it with the release of taut that drew it."
            )
        return SheetDesign.model_validate(value)
    except orjson.JSONDecodeError as problem:
        found = f"no JSON ({problem})"
    except ValidationError as problem:
        first = problem.errors()[0]
        found = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    raise LogError(
        f"{where}: expected the design of a sheet, found {found}; the sheet was changed: take the "
        "one that `taut label draw` wrote."
    )

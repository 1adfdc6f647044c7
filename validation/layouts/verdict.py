"""What many logs of a cell say about the tool, held against what must be true (theory §9).

All limits are exact binomial ones at 99.9%.
"""

from collections import Counter
from dataclasses import dataclass, field

from scipy import stats
from validation.layouts import adapter
from validation.layouts.cell import HONEST, INVISIBLE, VISIBLE, WIDE, Cell

DELTA = 0.05
MOST_ACCUSED = 1e-3
LEAST_SEEN = 0.99
_ALARM = 1e-3


def lower_limit(hits: int, trials: int) -> float:
    """Return the 99.9% lower limit of a rate."""
    return 0.0 if hits == 0 else float(stats.beta.ppf(_ALARM, hits, trials - hits + 1))


def upper_limit(hits: int, trials: int) -> float:
    """Return the 99.9% upper limit of a rate."""
    if hits == trials:
        return 1.0
    return float(stats.beta.ppf(1 - _ALARM, hits + 1, trials - hits))


@dataclass(slots=True)
class Tally:
    """Counts over the logs of a cell.

    Attributes:
        tried: Logs.
        wrong: Logs with a guarantee that is false; `wrong_by` counts them by reward law.
        accused: Logs in which something is doubted, refused or worth less than it must be.
        seen: Logs in which something is doubted, refused or not guaranteed.
        certified: Logs in which something is certified.
        statuses: The weakest status of each log.
        words: What was said of accused or refused logs.
        skipped: The API does not offer what the cell needs.
    """

    tried: int = 0
    wrong: int = 0
    accused: int = 0
    seen: int = 0
    certified: int = 0
    statuses: Counter = field(default_factory=Counter)
    tried_by: Counter = field(default_factory=Counter)
    wrong_by: Counter = field(default_factory=Counter)
    accused_by: Counter = field(default_factory=Counter)
    words: Counter = field(default_factory=Counter)
    skipped: bool = False

    def add(self, cell: Cell, law: str, found: adapter.Outcome) -> None:
        """Count one log."""
        weaker = found.worst == "refused" or (
            adapter.RANKS.index(found.worst) > adapter.RANKS.index(cell.best)
        )
        accused = bool(found.refused or found.doubts or weaker)
        guaranteed = any(claim.sound for claim in found.claims)
        status = "refused" if found.refused else found.worst
        self.tried += 1
        self.wrong += found.wrong
        self.accused += accused
        self.seen += bool(found.refused or found.doubts or not guaranteed)
        self.certified += found.best == "certified" and not found.doubts
        self.statuses[status] += 1
        self.tried_by[law] += 1
        self.wrong_by[law] += found.wrong
        self.accused_by[law] += accused
        said = found.refused or "; ".join(found.doubts)
        if said:
            self.words[said[:160]] += 1

    def join(self, other: "Tally") -> None:
        """Add the counts of other logs."""
        for name in ("tried", "wrong", "accused", "seen", "certified"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("statuses", "tried_by", "wrong_by", "accused_by", "words"):
            getattr(self, name).update(getattr(other, name))
        self.skipped = self.skipped or other.skipped


def tally(cell: Cell, seeds: range, run=adapter.run) -> Tally:
    """Make logs of a cell, run its command on each and count what comes of it."""
    found = Tally()
    for seed in seeds:
        try:
            outcome = run(cell.command, cell.log(seed))
        except adapter.NotOffered:
            found.skipped = True
            return found
        found.add(cell, cell.law(seed).name, outcome)
    return found


def failures(cell: Cell, found: Tally, cells: int = 1) -> list[str]:
    """Return which requirements these logs refute.

    Args:
        cell: The cell.
        found: Its counts.
        cells: How many cells are judged together; the requirements that have a rate of their own
            are corrected for it where `cells` is large (expected false alarms: cells / 1,000).
    """
    if found.skipped or not found.tried:
        return []
    out = []
    if cell.kind in (HONEST, WIDE):
        pooled = [("", found.wrong, found.tried)]
        by = [(f" ({law})", found.wrong_by[law], n) for law, n in found.tried_by.items()]
        for text, wrong, tried in pooled + by:
            if lower_limit(wrong, tried) > DELTA:
                out.append(f"wrong in {wrong} of {tried}{text}, allowed {DELTA:g}")
    if cell.kind == HONEST and lower_limit(found.accused, found.tried) > MOST_ACCUSED:
        out.append(f"accused in {found.accused} of {found.tried}, allowed {MOST_ACCUSED:g}")
    if cell.kind == VISIBLE and upper_limit(found.seen, found.tried) < LEAST_SEEN:
        out.append(f"seen in {found.seen} of {found.tried}, expected {LEAST_SEEN:g}")
    if cell.kind == INVISIBLE and found.certified:
        out.append(f"certified in {found.certified} of {found.tried}, though nothing was declared")
    return out

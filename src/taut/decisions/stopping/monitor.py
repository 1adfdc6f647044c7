"""When to stop sampling: an interval that may be looked at after every block, and what it decides.

Stopping when a fixed-n interval looks good misses far more often than it says; the interval here
holds at all times at once, so that any rule for stopping, this one or yours, leaves it true.
"""

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from taut.decisions.stopping.caller import declared_words, rests_on
from taut.decisions.stopping.result import Ends, Goals, MonitorResult, Point
from taut.draws.assumptions import Assumption, status_of
from taut.errors import AssumptionError, UsageError
from taut.inequalities import anytime
from taut.inequalities.concentration import Side, bounded_blocks, from_unit, require_delta
from taut.inequalities.mean import side_etas
from taut.types import Interval, Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas

STATE = "taut.monitor-state/1"
CONTINUE, REACHED, IMPOSSIBLE = "continue", "reached", "impossible"
MEANS = ("equal", "varying")
_PER_DECADE = 20  # points of the path


class Monitor:
    """An anytime-valid interval for a mean, fed block by block, and a decision.

    With probability at least 1 - delta the interval holds after every block, so that one may stop
    whenever one likes. Blocks must be independent draws in [low, high], in an order that does not
    depend on their values; average the rollouts of one prompt first.

    Each block costs the same however many came before, and the state does not grow with them. How
    the blocks are cut into updates changes nothing, to the last bit.

    Attributes:
        low, high: Declared range of a block, any unit.
        delta: Allowed probability that the interval ever misses.
        width: Goal: an interval no wider than this; None asks for no width.
        require_lower: Goal: a lower end of at least this; None asks for none.
        most: No more blocks than this will ever come; None declares nothing.
        side: "both", or the one end that is needed, which then gets all of delta.
        means: "equal": every block has the same mean given the past, which the interval is for; it
            only shrinks. "varying": the law may drift; the interval is for the average of the
            means of the blocks so far, and moves with it.
        declare: Of "independent" (each block has the mean that is meant, given those before) and
            "order" (which block comes next is blind to its value): what the caller vouches for.
            Without, the interval is conditional on them.
        n: Number of blocks so far.
        mean: Their mean, rounded to the grid of blocks; None before the first.
        interval: The interval now; the range itself before the first block.
        decision: "reached" (all goals are met), "impossible" (surely they cannot be), "continue".
        reason: One sentence: why the decision is what it is.
        decided_at: The block that took it; None before. Blocks that come later still count.

    Raises:
        UsageError: Goals that contradict the range or the side.
        AssumptionError: An empty range, or delta outside (0, 1).

    Example:
        >>> monitor = Monitor(low=0, high=1, width=0.5)
        >>> monitor.update([0.5] * 40)
        'reached'

    Source: theory §2.5; `taut.inequalities.anytime`.
    """

    def __init__(
        self,
        *,
        low: float,
        high: float,
        delta: float = 0.05,
        width: float | None = None,
        require_lower: float | None = None,
        most: int | None = None,
        side: Side = "both",
        means: str = "equal",
        declare: str | Iterable[str] = (),
    ) -> None:
        require_delta(delta)
        bounded_blocks([low, high], low=low, high=high)
        self.low, self.high, self.delta = float(low), float(high), float(delta)
        self.width = None if width is None else float(width)
        self.require_lower = None if require_lower is None else float(require_lower)
        self.most = None if most is None else int(most)
        self.side, self.means = side, means
        self.declare = declared_words(declare)
        self._etas = side_etas(self.delta, side)
        self._check_goals()
        self.n = 0
        self.path: list[tuple[int, float, float, float]] = []
        self._interval = Interval(self.low, self.high)
        self._decision, self._reason = CONTINUE, "no block so far"
        self.decided_at: int | None = None
        self._weights, self._ends = anytime.new_weights(), anytime.new_ends()
        self._sums = np.zeros(2)

    def _check_goals(self) -> None:
        if self.means not in MEANS:
            raise UsageError(f"means: expected one of {', '.join(MEANS)}, found {self.means!r}.")
        if self.width is not None and not 0 < self.width < math.inf:
            raise UsageError(f"width: expected a positive width, found {self.width}.")
        if self.width is not None and self.side != "both":
            raise UsageError("a width needs both ends: leave side out, or ask for require_lower.")
        if self.require_lower is not None and self.side == "upper":
            raise UsageError("require_lower needs a lower end: say side both or lower.")
        if self.require_lower is not None and not self.low < self.require_lower <= self.high:
            raise UsageError(
                f"require_lower: expected a value in ({self.low:g}, {self.high:g}], the range of a "
                f"block, found {self.require_lower:g}."
            )
        if self.most is not None and self.most < 1:
            raise UsageError(f"most: expected a count of at least 1, found {self.most}.")

    # --- feeding ---------------------------------------------------------------------------------

    def update(self, values: float | np.ndarray, *, stop: bool = False) -> str:
        """Add one block, or several in arrival order, and return the decision.

        Args:
            values: One value or shape (new blocks,), each in [low, high]; none at all is allowed.
            stop: Leave out the blocks behind the one that decides.

        Raises:
            AssumptionError: A value is not finite or leaves [low, high], or there are more than
                `most`: nothing is then added. Or the ends have passed each other.
        """
        blocks = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if blocks.size == 0:
            return self.decision
        bounded_blocks(blocks, low=self.low, high=self.high)
        if self.most is not None and self.n + len(blocks) > self.most:
            raise AssumptionError(
                f"{self.n + len(blocks)} blocks, but most={self.most} were declared; the decision "
                "rests on that: declare the number that will really be drawn at most."
            )
        units = anytime.to_units(blocks, self.low, self.high)
        while len(units) and not (stop and self._decision != CONTINUE):
            used = self._extend(units[: _next_point(self.n) - self.n])
            units = units[used:]
            point = self.n == _next_point(self.n - 1)
            if point:
                self.path.append((self.n, *self._ends_now(), self.mean))
            self._decide(ahead=point)
        return self.decision

    def _extend(self, units: np.ndarray) -> int:
        """Add blocks up to the first that decides something; return how many."""
        if self.means == "varying":
            return self._extend_varying(units)
        used = anytime.extend(
            units,
            self._weights,
            self._ends,
            before=self.n,
            etas=self._etas,
            stops=[*self._unit_goals(), self._unit_floor()],
        )
        self.n += used
        self._interval = self._scaled(*anytime.unit_ends(self._ends))
        if self._interval.lower > self._interval.upper:
            raise AssumptionError(
                f"after {self.n} blocks the lower end {self._interval.lower:.6g} lies above the "
                f"upper end {self._interval.upper:.6g}: but for a chance of at most {self.delta:g} "
                "the blocks do not have one mean. Did the policy change, or does their order "
                'depend on their values? means="varying" allows for drift.'
            )
        return used

    def _extend_varying(self, units: np.ndarray) -> int:
        before = self.n
        done, lower, upper = anytime.extend_varying(
            units, self._sums, before=before, etas=self._etas, goals=self._unit_goals()
        )
        for place, share in self._split(units[:done]):
            np.add.at(self._weights, place, share)
        self.n = before + done
        self._interval = self._scaled(lower, upper)
        return done

    def _unit_goals(self) -> np.ndarray:
        """Least lower end and largest width on the unit scale, that end the waiting; or neither.

        No rounding of the scale hides a block that decides: ends in the units of the blocks are
        rounded outward by more, so that `_decide`, which is then asked, is the stricter of both.
        """
        if self._decision != CONTINUE or not self.has_goal:
            return np.array([math.inf, 0.0])
        scale = self.high - self.low
        lower = -math.inf if self.require_lower is None else self.require_lower - self.low
        return np.array([lower / scale, math.inf if self.width is None else self.width / scale])

    def _unit_floor(self) -> float:
        """Return the required lower end on the unit scale: an upper end below it decides, too."""
        if self._decision != CONTINUE or self.require_lower is None:
            return -math.inf
        return (self.require_lower - self.low) / (self.high - self.low)

    @staticmethod
    def _split(units: np.ndarray) -> tuple[tuple, tuple]:
        cell = np.minimum(units // anytime.UNITS, anytime.CELLS - 1)
        right = units - cell * anytime.UNITS
        return (cell, anytime.UNITS - right), (cell + 1, right)

    def _scaled(self, lower: float, upper: float) -> Interval:
        return from_unit(lower, upper, low=self.low, high=self.high)

    def _ends_now(self) -> tuple[float, float]:
        return self._interval.lower, self._interval.upper

    # --- what is known ---------------------------------------------------------------------------

    @property
    def interval(self) -> Interval:
        """The interval now, in the units of the blocks."""
        return self._interval

    @property
    def mean(self) -> float | None:
        """The mean of the blocks; None before the first."""
        if self.n == 0:
            return None
        # In whole numbers: exact, whatever the order in which blocks came.
        total = int(self._weights @ np.arange(len(self._weights)))
        share = total / (self.n * anytime.CELLS * anytime.UNITS)
        return self.low + (self.high - self.low) * share

    @property
    def decision(self) -> str:
        """What to do: "continue", "reached" or "impossible"."""
        return self._decision

    @property
    def reason(self) -> str:
        """Why the decision is what it is, in one sentence."""
        return self._reason

    @property
    def has_goal(self) -> bool:
        """Whether a width or a lower end was asked for."""
        return self.width is not None or self.require_lower is not None

    @property
    def forecast(self) -> int | None:
        """About how many blocks all goals will have taken, by scaling; a guess, not a bound.

        None where nothing is asked for or known, or where the mean is not above the threshold.
        """
        if not self.has_goal or self.n == 0 or self._decision != CONTINUE:
            return None
        needed = [1.0]
        if self.width is not None:
            needed.append(self._interval.width / self.width)
        if self.require_lower is not None:
            room = self.mean - self.require_lower
            if room <= 0:
                return None
            needed.append((self.mean - self._interval.lower) / room)
        guess = self.n * max(needed) ** 2
        return math.ceil(guess) if guess < 1e15 else None

    # --- deciding --------------------------------------------------------------------------------

    def _decide(self, *, ahead: bool) -> None:
        """Take the decision; once taken it stands, as of the block that took it.

        Args:
            ahead: Also ask what can still come, which is done at the points of the path only.
        """
        if self._decision != CONTINUE:
            return
        missing = self._missing()
        why = self._impossible(missing, ahead) if self.has_goal and missing else None
        if why is not None:
            self._decision, self._reason, self.decided_at = IMPOSSIBLE, why, self.n
        elif self.has_goal and not missing:
            self._decision, self._reason, self.decided_at = REACHED, self._reached_text(), self.n
        else:
            self._reason = " and ".join(missing) if missing else "no goal was set"

    def _missing(self) -> list[str]:
        found, missing = self._interval, []
        if self.width is not None and found.width > self.width:
            missing.append(f"the width is {found.width:.6g}, above {self.width:g}")
        if self.require_lower is not None and found.lower < self.require_lower:
            missing.append(f"the lower end is {found.lower:.6g}, below {self.require_lower:g}")
        return missing

    def _reached_text(self) -> str:
        found, parts = self._interval, []
        if self.width is not None:
            parts.append(f"the width is {found.width:.6g}, at most {self.width:g}")
        if self.require_lower is not None:
            parts.append(f"the lower end is {found.lower:.6g}, at least {self.require_lower:g}")
        return " and ".join(parts)

    def _impossible(self, missing: list[str], ahead: bool) -> str | None:
        """Say why no continuation of the data whatever can meet the goals, or return None."""
        found, goal = self._interval, self.require_lower
        if goal is not None and self.means == "equal" and found.upper < goal:
            return f"the upper end is {found.upper:.6g}, below the required lower end {goal:g}"
        if self.most is None:
            return None
        if self.n >= self.most:
            return f"all {self.most} blocks have come, and {' and '.join(missing)}"
        if not ahead:
            return None
        if goal is not None and found.lower < goal and not self._can_reach(goal):
            return (
                f"even if all blocks up to {self.most} were {self.high:g}, the lower end would "
                f"stay below {goal:g}"
            )
        if self.width is not None and not self._can_narrow():
            return f"no blocks up to {self.most} can bring the width to {self.width:g}"
        return None

    def _can_reach(self, lower: float) -> bool:
        """Whether some continuation brings the lower end there."""
        left, unit = self.most - self.n, (lower - self.low) / (self.high - self.low)
        if self.means == "varying":
            total, squares = map(float, self._sums)
            below = anytime.varying_distance(squares, self.most, float(self._etas[0]))
            return (total + left) / self.most - below >= unit
        return anytime.can_pass(
            self._weights, unit, eta=float(self._etas[0]), most=left, upper=False
        )

    def _can_narrow(self) -> bool:
        """Whether the width may still be had: no lower end can rise, and no upper end fall, more.

        One continuation cannot do both, so that a True may be too hopeful; a False is sure.
        """
        left, scale = self.most - self.n, self.high - self.low
        if self.means == "varying":
            total, squares = map(float, self._sums)
            below, above = (
                anytime.varying_distance(squares, self.most, float(eta)) for eta in self._etas
            )
            # Cut to the range, the width is concave in the mean: smallest at one of its extremes.
            means = (total / self.most, (total + left) / self.most)
            widths = [min(1.0, mean + above) - max(0.0, mean - below) for mean in means]
            return scale * min(widths) <= self.width
        # Asked in this order since one look is enough where many blocks are left.
        highest = (self._interval.upper - self.width - self.low) / scale
        if anytime.can_pass(
            self._weights, highest, eta=float(self._etas[0]), most=left, upper=False
        ):
            return True
        lower = anytime.best_end(self._weights, eta=float(self._etas[0]), most=left, upper=False)
        lower = max(self._interval.lower, self.low + scale * lower)
        lowest = (self.high - (lower + self.width)) / scale
        return anytime.can_pass(
            self._weights, lowest, eta=float(self._etas[1]), most=left, upper=True
        )

    # --- state and document ----------------------------------------------------------------------

    @property
    def settings(self) -> dict:
        """What the monitor was made with, as keywords."""
        names = ("low", "high", "delta", "width", "require_lower", "most", "side", "means")
        return {**{name: getattr(self, name) for name in names}, "declare": [*self.declare]}

    @property
    def state(self) -> dict:
        """Everything, as plain data for JSON: `Monitor.from_state` goes on from it to the bit."""
        used = np.flatnonzero(self._weights)
        return {
            "schema": STATE,
            "version": __version__,
            "settings": self.settings,
            "n": self.n,
            "cells": used.tolist(),
            "units": self._weights[used].tolist(),
            "ends": self._ends.tolist(),
            "sums": self._sums.tolist(),
            "interval": [self._interval.lower, self._interval.upper],
            "decision": self._decision,
            "reason": self._reason,
            "decided_at": self.decided_at,
            "path": [list(point) for point in self.path],
        }

    @classmethod
    def from_state(cls, state: Mapping) -> "Monitor":
        """Go on from a state, as if there had been no break.

        Raises:
            UsageError: It is not the state of a monitor.
        """
        if not isinstance(state, Mapping) or state.get("schema") != STATE:
            found = state.get("schema") if isinstance(state, Mapping) else type(state).__name__
            raise UsageError(f"expected the state of a monitor, {STATE}, found {found}.")
        self = cls(**state["settings"])
        ends = np.array(state["ends"], dtype=np.float64)
        if ends.shape != self._ends.shape:
            raise UsageError(
                f"the state was made with {ends.shape[1] - 2} bets, this version of taut makes "
                f"{self._ends.shape[1] - 2}: go on with version {state.get('version')}, or begin "
                "again with all blocks."
            )
        self.n = int(state["n"])
        self._weights[np.array(state["cells"], dtype=np.int64)] = state["units"]
        self._ends, self._sums = ends, np.array(state["sums"], dtype=np.float64)
        self._interval = Interval(*map(float, state["interval"]))
        self._decision, self._reason = state["decision"], state["reason"]
        self.decided_at = state["decided_at"]
        self.path = [(int(n), *map(float, rest)) for n, *rest in state["path"]]
        return self

    @property
    def standing(self) -> dict:
        """Where the monitor stands, as fields of a result."""
        path = [*self.path]
        if self.n and (not path or path[-1][0] != self.n):
            path.append((self.n, *self._ends_now(), self.mean))
        return {
            "settings": Goals(**self.settings),
            "n": self.n,
            "mean": self.mean,
            "decision": self._decision,
            "reason": self._reason,
            "decided_at": self.decided_at,
            "forecast": self.forecast,
            "path": tuple(
                Point(n=n, lower=lower, upper=upper, mean=mean) for n, lower, upper, mean in path
            ),
        }

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the interval rests on, each assumption with how it stands."""
        return rests_on(self.declare, means=self.means)

    @property
    def status(self) -> Status:
        """What the interval is worth; vacuous before the first block."""
        return status_of(self.assumptions) if self.n else Status.VACUOUS

    @property
    def result(self) -> MonitorResult:
        """Everything that is known, as a document."""
        ends = {"lower": self._interval.lower, "upper": self._interval.upper}
        return MonitorResult(
            interval=Ends(**ends, level=1 - self.delta, status=self.status),
            assumptions=self.assumptions,
            **self.standing,
        )

    @property
    def document(self) -> dict:
        """The monitor as plain data, schema `taut.monitor/2`: finite numbers or None."""
        return self.result.document

    def save(self, path: str | os.PathLike) -> None:
        """Write the result: .json or .html (`taut.results.Document.save`)."""
        self.result.save(path)

    def to_frame(self) -> "pandas.DataFrame":
        """Return the path as a table of pandas, one row a point."""
        return self.result.to_frame()

    def __str__(self) -> str:
        """The terminal report, without colour."""
        return str(self.result)

    def _repr_html_(self) -> str:
        return self.result._repr_html_()


def _next_point(n: int) -> int:
    """Return the next number of blocks after n at which the path is kept: about 20 a decade."""
    power = math.floor(math.log10(n + 1) * _PER_DECADE) if n >= 0 else 0
    while math.floor(10.0 ** (power / _PER_DECADE)) <= n:
        power += 1
    return math.floor(10.0 ** (power / _PER_DECADE))

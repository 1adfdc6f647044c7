"""What a growing log says so far: blocks of complete draws, one monitor for each policy.

What enters a block is fixed before the first draw is counted: the target, beta, tau, whether gold
labels are used, and how many unlabelled draws go with each labelled one. Nothing is calibrated on
draws that certify, and labels enter in the order of their draws (theory §3.6).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from taut.decisions.stopping.arrivals import Arrivals, Draw, Rows
from taut.decisions.stopping.monitor import CONTINUE, IMPOSSIBLE, REACHED, Monitor
from taut.decisions.stopping.options import WatchOptions
from taut.errors import UsageError
from taut.types import Status
from taut.version import __version__

SCHEMA = "taut.watch/1"
STATE = "taut.watch-state/2"
_BATCH = 4096  # blocks handed over at once
_FACTS = ("labelled", "partly", "size", "uneven", "between")


class Watch:
    """The monitors of a log, fed with rows.

    Attributes:
        options: What was declared and asked for.
        arrivals: From rows to complete draws; None until the first rows say if there is `launch`.
        monitors: Series to monitor, in order of appearance. The i-th spends 6 / (pi^2 i^2) of
            delta, so that all hold together however many there will be.
        lost: A file of which rows may have been lost, or None.
    """

    def __init__(self, options: WatchOptions) -> None:
        self.options = options
        self.arrivals: Arrivals | None = None
        self.monitors: dict[str, Monitor] = {}
        self._waiting: dict[str, _Group] = {}
        self.lost: str | None = None
        self._streams: list[int] = []  # of which draws were counted; the last one comes last
        self._between = False
        self._labelled = 0
        self._partly = False
        self._size: int | None = None
        self._uneven = False
        self._monitor_for("all" if options.by is None else None)

    def _monitor_for(self, series: str | None) -> Monitor | None:
        if series is None:
            return None
        if series not in self.monitors:
            place, options = len(self.monitors) + 1, self.options
            share = 1.0 if options.by is None else 6.0 / (math.pi * place) ** 2
            low, high = options.block_range
            self.monitors[series] = Monitor(
                low=low,
                high=high,
                delta=options.delta * share,
                width=options.width,
                require_lower=options.require_lower,
                most=options.most,
                side=options.side,
                means="varying" if options.average else "equal",
            )
            self._waiting[series] = _Group()
        return self.monitors[series]

    def add(self, rows: Rows) -> None:
        """Take some rows and count the draws that are complete.

        Raises:
            LogError: See `Arrivals`.
            AssumptionError: See `Monitor.update`.
        """
        if self.arrivals is None:
            self.arrivals = Arrivals(
                per_prompt=self.options.per_prompt, by_launch=rows.launch is not None
            )
        self._count(self.arrivals.add(rows))

    def close(self, stream: int) -> None:
        """Say that nothing will be added to a stream."""
        if self.arrivals is not None:
            self._count(self.arrivals.close(stream))

    def finish(self) -> None:
        """Say that the log is finished: draws and labels that wait for others count as they are."""
        if self.arrivals is not None:
            self._count(self.arrivals.finish(), last=True)
        for series, group in self._waiting.items():
            rest = [self._reward(unit) for unit in group.rest(self.options.unlabelled)]
            self._feed(self.monitors[series], rest)

    def _count(self, draws: Iterable[Draw], *, last: bool = False) -> None:
        blocks: dict[str, list[float]] = {}
        for draw in draws:
            self._note(draw, last)
            value = self._block(draw)
            if value is not None:
                blocks.setdefault(draw.series, []).append(value)
            self._monitor_for(draw.series)
        for series, values in blocks.items():
            self._feed(self.monitors[series], values)

    def _feed(self, monitor: Monitor, values: list[float]) -> None:
        """Feed blocks up to the one that decides: a log that is read late stops where it would."""
        room = len(values) if monitor.most is None else monitor.most - monitor.n
        for start in range(0, min(room, len(values)), _BATCH):
            if monitor.decision != CONTINUE:
                return
            monitor.update(values[start : min(start + _BATCH, room)], stop=True)

    def _note(self, draw: Draw, last: bool) -> None:
        size = len(draw.reward)
        if self._streams[-1:] != [draw.stream] and not last:
            # Files one after the other are in an order that was set before, and what a finished
            # log leaves comes last in any case; but where several grow at once, whose draw is
            # complete first may hang on how long responses took.
            if draw.stream in self._streams:
                self._between = self._between or not self.arrivals.by_launch
                self._streams.remove(draw.stream)
            self._streams.append(draw.stream)
        self._uneven = self._uneven or (self._size is not None and size != self._size)
        self._size = size if self._size is None else self._size
        self._partly = self._partly or 0 < len(draw.gold) < size
        self._labelled += bool(draw.gold)

    def _block(self, draw: Draw) -> float | None:
        """Return the value of the block that this draw completes, reward units, or None."""
        options = self.options
        if not options.gold:
            return self._reward(draw.mean("reward") - draw.mean("cost"))
        weight = options.control
        control = weight * draw.mean("reward") - draw.mean("cost")
        residual = None
        if draw.gold:
            residual = draw.mean("gold") - weight * draw.mean("labelled_reward")
        self._monitor_for(draw.series)
        unit = self._waiting[draw.series].take(control, residual, options.unlabelled)
        return None if unit is None else self._reward(unit)

    def _reward(self, unit: float) -> float:
        """Return a block in reward units."""
        low, high = self.options.reward_range
        value = low + (high - low) * unit
        low, high = self.options.block_range
        return min(max(value, low), high)  # rounding only

    # --- what is known ---------------------------------------------------------------------------

    @property
    def decision(self) -> str:
        """One monitor: its decision. Several: reached when one of them is."""
        decisions = [monitor.decision for monitor in self.monitors.values()]
        if REACHED in decisions:
            return REACHED
        alone = self.options.by is None and decisions == [IMPOSSIBLE]
        return IMPOSSIBLE if alone else CONTINUE

    @property
    def blocks(self) -> int:
        """Blocks in all monitors."""
        return sum(monitor.n for monitor in self.monitors.values())

    @property
    def status(self) -> Status:
        """What the intervals are worth for the true reward."""
        return self._worth(self.blocks) if self.options.gold else Status.VACUOUS

    def _worth(self, blocks: int) -> Status:
        """What an interval is worth for the reward that it is about; nothing before a block."""
        if not blocks:
            return Status.VACUOUS
        return Status.ESTIMATED if self._doubts() else Status.CERTIFIED

    def _doubts(self) -> list[str]:
        found = self._gaps()
        if self.arrivals is not None and self.arrivals.recurs and not self.options.held_out:
            found.append(
                f"prompts recur across the log's {self.options.by} values: a policy trained or "
                "chosen on them is not independent of them. Say --held-out where none was."
            )
        if self._between and not self.options.whole_batches:
            found.append(
                "several files grow at once and rows have no launch: which prompt counts first may "
                "depend on how long its responses took. Log launch; or say --whole-batches where "
                "each file grows by whole batches that are waited for."
            )
        if self.options.gold and self._partly and self._uneven:
            found.append(
                "rollouts were labelled one by one and prompts have unequal numbers of rollouts, "
                "so that some prompts are labelled more often than others. Label whole prompts."
            )
        return found

    def _gaps(self) -> list[str]:
        """Say what is missing of the log, and may be missing by outcome."""
        found = []
        if self.lost is not None:
            found.append(
                f"{self.lost} is gone, and with it may be rows that were written to it since the "
                "last look. Put it back, or take files away once they are finished and compressed."
            )
        if self.arrivals is not None and self.arrivals.short:
            found.append(
                f"{self.arrivals.short} prompts had fewer than {self.options.per_prompt} rollouts "
                "when the log was finished: which are missing may depend on how they turned out. "
                "Log failed rollouts too."
            )
        if self.arrivals is not None and self.arrivals.gaps:
            found.append(
                f"{self.arrivals.gaps} launch numbers had not come when the log was finished: "
                "which draws are missing may depend on how they turned out. Log failed ones too."
            )
        return found

    def document(self, log: Mapping) -> dict:
        """Return everything as plain data, schema `taut.watch/1`: finite numbers or None.

        Args:
            log: What is known of the files: "files", "incomplete", "notes".
        """
        arrivals = self.arrivals
        return {
            "schema": SCHEMA,
            "version": __version__,
            "target": self.options.target,
            "of": "gold" if self.options.gold else "learned",
            "settings": _plain(asdict(self.options)),
            "decision": self.decision,
            "status": str(self.status),
            "learned_status": str(self._worth(self.blocks)),
            "doubts": self._doubts(),
            "log": {
                **log,
                "rollouts": 0 if arrivals is None else arrivals.rows,
                "prompts": 0 if arrivals is None else arrivals.counted,
                "revisits": 0 if arrivals is None else arrivals.revisits,
                "pending_prompts": 0 if arrivals is None else arrivals.pending,
                "labelled_prompts": self._labelled,
                "waiting_for": None if arrivals is None else arrivals.waiting_for(),
                "order": "launch" if arrivals is not None and arrivals.by_launch else "rows",
            },
            "series": [
                self._item(name, monitor.document) for name, monitor in self.monitors.items()
            ],
        }

    def _item(self, series: str, found: dict) -> dict:
        status = {"status": str(self._worth(found["n"]))}
        value = None if self.options.by is None else series
        return {"value": value, **found, "interval": {**found["interval"], **status}}

    @property
    def state(self) -> dict:
        """Everything, as plain data for JSON."""
        return {
            "schema": STATE,
            "version": __version__,
            "options": _plain(asdict(self.options)),
            "by_launch": None if self.arrivals is None else self.arrivals.by_launch,
            "arrivals": None if self.arrivals is None else self.arrivals.state,
            "monitors": [[name, monitor.state] for name, monitor in self.monitors.items()],
            "waiting": {name: asdict(group) for name, group in self._waiting.items()},
            "streams": self._streams,
            "lost": self.lost,
            "facts": {name: getattr(self, f"_{name}") for name in _FACTS},
        }

    @classmethod
    def from_state(cls, state: Mapping, options: WatchOptions) -> "Watch":
        """Go on from a state, which must have been made with the same options.

        Raises:
            UsageError: It is no such state, or something else was asked for then.
        """
        if state.get("schema") != STATE:
            raise UsageError(
                f"expected a state of taut watch, {STATE}, found {state.get('schema')!r}; take the "
                "file away to begin again, or go on with the version of taut that made it."
            )
        before, now = state["options"], _plain(asdict(options))
        for name, value in now.items():
            if before.get(name) != value:
                raise UsageError(
                    f"the state was made with {name} = {before.get(name)}, now it is {value}. What "
                    "was asked for cannot change while the log is watched: use the same options, "
                    "or another --state, which begins again."
                )
        self = cls(options)
        if state["arrivals"] is not None:
            self.arrivals = Arrivals(per_prompt=options.per_prompt, by_launch=state["by_launch"])
            self.arrivals.restore(state["arrivals"])
        self.monitors = {name: Monitor.from_state(item) for name, item in state["monitors"]}
        self._waiting = {name: _Group(**item) for name, item in state["waiting"].items()}
        self._streams, self.lost = list(state["streams"]), state["lost"]
        for name in _FACTS:
            setattr(self, f"_{name}", state["facts"][name])
        return self


@dataclass(slots=True)
class _Group:
    """Labelled draws and unlabelled ones of a series that wait for each other, in order.

    Attributes:
        labelled: Residual r* - control r and own control mean of each labelled draw.
        unlabelled: Control means of unlabelled draws.
    """

    labelled: list = field(default_factory=list)
    unlabelled: list = field(default_factory=list)

    def take(self, control: float, residual: float | None, size: int) -> float | None:
        """Add a draw; return the block of the first labelled one if its group is full now.

        A block is the residual plus the mean of the control over the labelled draw and the `size`
        unlabelled ones that go with it. Which draws are labelled is blind to outcomes, so is who
        goes with whom. With size 0 unlabelled draws are not used.
        """
        if residual is not None:
            self.labelled.append([residual, control])
        elif size:
            self.unlabelled.append(control)
        if not self.labelled or len(self.unlabelled) < size:
            return None
        return self._first(size)

    def rest(self, size: int) -> Iterator[float]:
        """Yield the blocks of labelled draws that still wait, with what unlabelled ones there are.

        Fewer in the group leave its mean as it is: how many there are is blind to outcomes too.
        """
        while self.labelled:
            yield self._first(size)

    def _first(self, size: int) -> float:
        residual, own = self.labelled.pop(0)
        others = self.unlabelled[:size]
        del self.unlabelled[:size]
        return residual + math.fsum([own, *others]) / (1 + len(others))


def _plain(options: dict) -> dict:
    """Return options as JSON gives them back: pairs are lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }

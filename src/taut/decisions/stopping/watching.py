"""What a growing log says so far: blocks of complete draws, one monitor for each policy.

What enters a block is fixed before the first draw is counted: the target, beta, tau, whether gold
labels are used, and how many unlabelled draws go with each labelled one. Nothing is calibrated on
draws that certify, and labels enter in the order of their draws (theory §3.6).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from taut.decisions.stopping import foundations
from taut.decisions.stopping.arrivals import Arrivals, Draw, Rows
from taut.decisions.stopping.foundations import Checked, Seen
from taut.decisions.stopping.monitor import CONTINUE, IMPOSSIBLE, REACHED, Monitor
from taut.decisions.stopping.options import WatchOptions
from taut.decisions.stopping.result import (
    Series,
    SeriesEnds,
    SeriesLog,
    WatchLog,
    WatchResult,
    WatchSettings,
)
from taut.draws.assumptions import Assumption, status_of
from taut.draws.modes import SAMPLE
from taut.draws.units import Scale
from taut.errors import UsageError
from taut.logs.facts import LogFacts, facts_metadata, merge_facts, stored_facts
from taut.logs.keys import scramble
from taut.types import Status, weakest
from taut.version import __version__

STATE = "taut.watch-state/3"
_BATCH = 4096  # blocks handed over at once
_FACTS = ("labelled", "partly", "size", "uneven", "between", "shuffled")


class Watch:
    """The monitors of a log, fed with rows.

    Attributes:
        options: What was declared and asked for.
        arrivals: From rows to complete draws; None until the first rows say if there is `launch`.
        monitors: Series to monitor, in order of appearance. The i-th spends 6 / (pi^2 i^2) of
            delta, so that all hold together however many there will be.
        lost: A file of which rows may have been lost, or None.
        facts: What the log records of itself.
        checks: Looks at all rows so far; `checked` is what they found, by series.
    """

    def __init__(self, options: WatchOptions) -> None:
        self.options = options
        self.facts: LogFacts | None = None
        self.checks, self.checked = 0, dict[str, Checked]()
        self._held: list[Draw] | None = None
        self._shuffled = False
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
        self._scale: Scale = options.scale
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

    def await_end(self) -> None:
        """Say, before any rows, that the log is finished: draws then wait for `finish`.

        They count in an order made from prompt ids alone, so that the order of rows, which may be
        that of finishing, decides nothing; `launch` is such an order already. An average over
        policies that learn from earlier draws needs the order of time.
        """
        if not self.options.average:
            self._held = []

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
            self.arrivals.at_once = self._held is not None
        self._count(self.arrivals.add(rows))

    def close(self, stream: int) -> None:
        """Say that nothing will be added to a stream."""
        if self.arrivals is not None:
            self._count(self.arrivals.close(stream))

    def finish(self) -> None:
        """Say that the log is finished: draws and labels that wait for others count as they are."""
        if self.arrivals is not None:
            self._count(self.arrivals.finish(), last=True)
        self._release()
        for series, group in self._waiting.items():
            rest = [self._reward(unit) for unit in group.rest(self.options.unlabelled)]
            self._feed(self.monitors[series], rest)

    def _release(self) -> None:
        """Count draws that waited for the end of the log."""
        held, self._held = self._held, None
        if not held:
            return
        self.arrivals.at_once, in_order = False, self.arrivals.by_launch
        keys = scramble(np.array([draw.key for draw in held], dtype=np.uint64))
        order = range(len(held)) if in_order else np.argsort(keys, kind="stable")
        draws = (held[place] for place in order)
        self._count((draw for draw in draws if self.arrivals.admit(draw)), last=True)
        self._shuffled = not in_order

    def _count(self, draws: Iterable[Draw], *, last: bool = False) -> None:
        if self._held is not None:
            self._held += draws
            return
        blocks: dict[str, list[float]] = {}
        for draw in draws:
            self._shuffled = False
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
        """Return the value of the block that this draw completes, in the units of the result."""
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
        """Return a block in the units of the result."""
        low, high = self.options.block_range
        return min(max(self._scale.at(unit), low), high)  # rounding only

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

    def take_facts(self, facts: LogFacts | None) -> None:
        """Take what one more file of the log records of itself."""
        facts = facts or LogFacts()
        self.facts = facts if self.facts is None else merge_facts(self.facts, facts)

    def take_check(self, found: Mapping[str, Checked], facts: LogFacts | None) -> None:
        """Take what a look at all rows found; what earlier ones doubted stays in doubt.

        Args:
            found: By series.
            facts: What the log records of itself.
        """
        self.checks, self.facts = self.checks + 1, facts
        for name, now in found.items():
            self.checked[name] = foundations.worse(self.checked.get(name), now)

    def rests_on(self, series: str) -> tuple[Assumption, ...]:
        """Return what the interval of a series rests on, each assumption with how it stands."""
        return foundations.rests_on(self.options, self._seen(), self.checked.get(series))

    def _worth(self, series: str) -> Status:
        """What an interval is worth for the reward that it is about; nothing before a block."""
        if not self.monitors[series].n:
            return Status.VACUOUS
        return status_of(self.rests_on(series))

    def _seen(self) -> Seen:
        arrivals = self.arrivals
        return Seen(
            facts=self.facts,
            recurs=self.options.by == "step" and arrivals is not None and arrivals.recurs,
            missing=self._missing(),
            lost=self.lost,
            between=self._between,
            launch=arrivals is not None and arrivals.by_launch,
            shuffled=self._shuffled,
            uneven=self.options.gold and self._partly and self._uneven,
        )

    def _missing(self) -> str | None:
        """Say what is surely missing of the log."""
        if self.arrivals is None:
            return None
        found = []
        if self.arrivals.short:
            found.append(
                f"{self.arrivals.short} prompts had fewer than {self.options.per_prompt} rollouts "
                "when the log was finished"
            )
        if self.arrivals.gaps:
            found.append(
                f"{self.arrivals.gaps} launch numbers had not come when the log was finished"
            )
        return " and ".join(found) or None

    def result(self, log: Mapping) -> WatchResult:
        """Return everything that is known.

        Args:
            log: What is known of the files: "files", "incomplete", "notes", "clipped_rewards".
        """
        series = [self._item(name) for name in self.monitors]
        known = [item for item in series if item.n]
        worth = weakest([item.interval.status for item in known]) if known else Status.VACUOUS
        cells = [item.log.cells for item in series if item.log.cells is not None]
        return WatchResult(
            target=self.options.target,
            of="gold" if self.options.gold else "learned",
            settings=WatchSettings(**asdict(self.options)),
            decision=self.decision,
            status=worth if self.options.gold else Status.VACUOUS,
            learned_status=worth,
            checked=bool(self.checks),
            log=self._log(log, sum(cells) if cells else None),
            assumptions=foundations.worst_assumptions([item.assumptions for item in series]),
            health=foundations.worst_health([item.health for item in series]),
            series=tuple(series),
        )

    def _log(self, log: Mapping, cells: int | None) -> WatchLog:
        arrivals = self.arrivals
        order = "ids" if self._shuffled else "rows"
        if arrivals is None:
            return WatchLog(
                **log,
                **dict.fromkeys(("rollouts", "prompts", "draws", "revisits", "pending_prompts"), 0),
                cells=None,
                labelled_prompts=0,
                labels=None,
                waiting_for=None,
                order=order,
            )
        labels = list({found.labels for found in self.checked.values()})
        return WatchLog(
            **log,
            rollouts=arrivals.rows,
            prompts=self._prompts(arrivals.prompts, self.checked.values()),
            draws=arrivals.counted,
            cells=cells,
            revisits=arrivals.revisits,
            pending_prompts=arrivals.pending,
            labelled_prompts=self._labelled,
            labels=labels[0] if len(labels) == 1 else None,
            waiting_for=arrivals.waiting_for(),
            order="launch" if arrivals.by_launch else order,
        )

    def _prompts(self, draws: int, checked: Iterable[Checked]) -> int | None:
        """Return how many distinct prompts some draws are of."""
        if self.options.prompts == SAMPLE:
            return draws
        known = [found.prompts for found in checked]
        return known[0] if len(known) == 1 else None

    def _item(self, name: str) -> Series:
        monitor, options, arrivals = self.monitors[name], self.options, self.arrivals
        checked = self.checked.get(name, Checked())
        counted = 0 if arrivals is None else arrivals.draws(name)
        return Series(
            value=None if options.by is None else name,
            interval=SeriesEnds(
                lower=monitor.interval.lower,
                upper=monitor.interval.upper,
                level=1 - monitor.delta,
                status=self._worth(name),
                units=options.of_units,
                range=options.target_range,
            ),
            log=SeriesLog(
                prompts=self._prompts(counted, [checked]),
                draws=counted,
                cells=checked.cells,
                labels=checked.labels,
            ),
            assumptions=self.rests_on(name),
            health=checked.health,
            **monitor.standing,
        )

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
            "log_facts": facts_metadata(self.facts or LogFacts()),
            "checks": self.checks,
            "checked": {name: found.state for name, found in self.checked.items()},
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
        recorded = {name.encode(): text.encode() for name, text in state["log_facts"].items()}
        known = stored_facts(recorded, "the state")
        self.facts = None if self.arrivals is None else known
        self.checks = state["checks"]
        self.checked = {name: Checked.from_state(found) for name, found in state["checked"].items()}
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
    """Return options as JSON gives them back: tuples are lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }

"""From rows that arrive to complete draws of prompts, in an order that no outcome decides.

A draw counts once, when it is complete, and never again. Two things must not depend on what the
responses turned out to be, or an interval that may be looked at at any time is biased at some of
these times: when a draw is complete, and its place among the others.

* With a declared number of rollouts per prompt a draw is complete when it has them; without, when a
  row of another draw follows in the same file, or the file is closed (Parquet with its footer,
  compressed, rotated away): rows of a draw then stand together.
* Draws count in the order of their first rows in each file, or, where the log has it, in the order
  of `launch`, which was set before any response was made. A draw that is not complete holds up
  those behind it, as leaving it for later would let slow (long) responses come late.

* Each prompt counts once in its series (theory §2): the first of its draws, in this order. A draw
  lies in one series, and never mixes two policies.

A row of a draw that was counted already is an error: the draw cannot be counted again, nor can the
decisions be taken back that rested on it. So is a label that comes after its row.
"""

import base64
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from taut.errors import LogError

_COUNTS = ("rows", "revisits", "recurs", "short", "gaps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some consecutive rows of one file.

    Attributes:
        stream: Which sequence of rows this is, whatever its file is called by now.
        file: Its name now, shown in messages.
        first: Number of the first of these rows in its file, from 1.
        key: Key of each row's draw, uint64, shape (rows,): of its series, its prompt, and which
            draw of the prompt it is.
        prompt: Key of each row's prompt, uint64, shape (rows,).
        reward, cost: On the unit scale, shape (rows,).
        gold: The same, NaN where a row has no label; None where labels are not read.
        launch: Place of the draw in the order of launching; None where it is not used.
        series: Which monitor each row belongs to.
        closed: Nothing will be added to this stream.
    """

    stream: int
    file: str
    first: int
    key: np.ndarray
    prompt: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    gold: np.ndarray | None
    launch: np.ndarray | None
    series: list[str]
    closed: bool


@dataclass(slots=True)
class Draw:
    """One draw of a prompt: what its rollouts add up to, on the unit scale."""

    key: int
    prompt: int
    series: str
    stream: int
    file: str
    launch: int | None
    complete: bool = False
    reward: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    gold: list[float] = field(default_factory=list)
    labelled_reward: list[float] = field(default_factory=list)

    def mean(self, name: str) -> float:
        """Return the mean of one of its lists, exactly rounded: the order of rows is nothing."""
        values = getattr(self, name)
        return math.fsum(values) / len(values)


class Arrivals:
    """Rows in, complete draws out, each once and in order.

    Attributes:
        per_prompt: Declared rollouts per prompt, or None.
        by_launch: Count draws in the order of `launch`.
        rows: Rows so far.
        revisits: Draws left out, as their prompt was counted in their series.
        recurs: A prompt was counted in several series.
        at_once: Yield every draw that is complete: the caller puts them in order, and admits them.
        short: Draws that had too few rollouts when the log was finished.
        gaps: Launch numbers that had not come when the log was finished.
    """

    def __init__(self, *, per_prompt: int | None, by_launch: bool) -> None:
        self.per_prompt, self.by_launch = per_prompt, by_launch
        self.rows = self.revisits = self.short = self.gaps = 0
        self.recurs, self.at_once = False, False
        self._done: set[int] = set()  # keys of draws that were counted or left out
        self._prompts: dict[str, set[int]] = {}  # counted, by series
        self._anywhere: set[int] = set()  # counted in any series
        self._pending: dict[int, Draw] = {}
        self._queues: dict[int, deque[int]] = {}
        self._open: dict[int, int] = {}  # the draw that the last row of a stream belongs to
        self._launched: dict[int, int] = {}
        self._next = 0

    def add(self, rows: Rows) -> Iterator[Draw]:
        """Take some rows, and yield the draws that can be counted now.

        Raises:
            LogError: A row belongs to a draw that is complete, or a launch number comes twice.
        """
        for index, key in enumerate(rows.key.tolist()):
            before = self._open.get(rows.stream)
            if self.per_prompt is None and before is not None and before != key:
                yield from self._finish(before)
            self._add_row(rows, index, key)
            self._open[rows.stream] = key
            if self.per_prompt is not None and len(self._pending[key].reward) == self.per_prompt:
                yield from self._finish(key)
        if rows.closed:
            yield from self.close(rows.stream)

    def close(self, stream: int) -> Iterator[Draw]:
        """Say that nothing will be added to a stream; yield the draws that are complete by that."""
        last = self._open.pop(stream, None)
        if self.per_prompt is None and last is not None:
            yield from self._finish(last)

    def finish(self) -> Iterator[Draw]:
        """Say that the log is finished; yield what is left, as it is, in order."""
        self._open.clear()
        if self.per_prompt is not None:
            self.short += sum(not draw.complete for draw in self._pending.values())
        for launch in sorted(self._launched):
            self.gaps += launch - self._next
            self._next = launch + 1
        place = "launch" if self.by_launch else "stream"
        for draw in sorted(self._pending.values(), key=lambda draw: getattr(draw, place)):
            yield from self._count(draw)
        self._queues.clear()
        self._launched.clear()

    def _add_row(self, rows: Rows, index: int, key: int) -> None:
        draw = self._pending.get(key)
        if key in self._done or (draw is not None and draw.complete):
            raise self._too_late(rows, index)
        launch = None if rows.launch is None else int(rows.launch[index])
        if draw is None:
            draw = self._begin(rows, index, key, launch)
        elif self.per_prompt is None and draw.stream != rows.stream:
            raise LogError(
                f"{rows.file}: row {rows.first + index} belongs to a draw that began in "
                f"{draw.file}; without a declared number of rollouts its rows must stand together. "
                "Give --rollouts-per-prompt K."
            )
        elif draw.launch != launch:
            raise LogError(
                f"{rows.file}: row {rows.first + index} has launch {launch}, an earlier row of "
                f"the same draw {draw.launch}; expected one number for each draw."
            )
        draw.reward.append(float(rows.reward[index]))
        draw.cost.append(float(rows.cost[index]))
        if rows.gold is not None and not math.isnan(rows.gold[index]):
            draw.gold.append(float(rows.gold[index]))
            draw.labelled_reward.append(float(rows.reward[index]))
        self.rows += 1

    def _begin(self, rows: Rows, index: int, key: int, launch: int | None) -> Draw:
        draw = Draw(
            key, int(rows.prompt[index]), rows.series[index], rows.stream, rows.file, launch
        )
        if self.by_launch:
            if launch < self._next or launch in self._launched:
                raise LogError(
                    f"{rows.file}: row {rows.first + index} has launch {launch}, which another "
                    "draw has, or behind which the log was said to be finished; expected 0, 1, 2, "
                    "…, each for one draw."
                )
            self._launched[launch] = key
        else:
            self._queues.setdefault(rows.stream, deque()).append(key)
        self._pending[key] = draw
        return draw

    def _too_late(self, rows: Rows, index: int) -> LogError:
        where = f"{rows.file}: row {rows.first + index}"
        if rows.gold is not None and not math.isnan(rows.gold[index]):
            return LogError(
                f"{where} has a label for a draw that was counted before: a label counts only with "
                "its row, as draws cannot be counted again. Write rows when their labels are there "
                "(all in the order of their draws), or begin again with another --state and a log "
                "that holds each row once."
            )
        if self.per_prompt is not None:
            what = f"a draw that has its {self.per_prompt} rollouts already"
        else:
            what = "a draw that was complete: another draw, or the end of its file, came after it"
        return LogError(
            f"{where} belongs to {what}. A draw counts once. If this is a new draw of the same "
            "prompt, give each draw a `group`, and the first counts; if its rollouts are written "
            "apart, give --rollouts-per-prompt K; if the row is a copy, take the copy away."
        )

    def _finish(self, key: int) -> Iterator[Draw]:
        draw = self._pending.get(key)
        if draw is None or draw.complete:
            return
        draw.complete = True
        if self.by_launch:
            while self._next in self._launched:
                first = self._pending[self._launched[self._next]]
                if not first.complete:
                    return
                del self._launched[self._next]
                self._next += 1
                yield from self._count(first)
            return
        queue = self._queues[draw.stream]
        while queue and self._pending[queue[0]].complete:
            yield from self._count(self._pending[queue.popleft()])

    def _count(self, draw: Draw) -> Iterator[Draw]:
        del self._pending[draw.key]
        self._done.add(draw.key)
        if self.at_once or self.admit(draw):
            yield draw

    def admit(self, draw: Draw) -> bool:
        """Count a draw if it is the first of its prompt in its series; say whether it is."""
        counted = self._prompts.setdefault(draw.series, set())
        if draw.prompt in counted:
            self.revisits += 1
            return False
        self.recurs = self.recurs or draw.prompt in self._anywhere
        counted.add(draw.prompt)
        self._anywhere.add(draw.prompt)
        return True

    @property
    def counted(self) -> int:
        """Draws counted so far."""
        return sum(map(len, self._prompts.values()))

    @property
    def prompts(self) -> int:
        """Distinct prompts counted so far."""
        return len(self._anywhere)

    def draws(self, series: str) -> int:
        """Draws of a series counted so far."""
        return len(self._prompts.get(series, ()))

    @property
    def pending(self) -> int:
        """Draws of which rows have come, but which are not counted yet."""
        return len(self._pending)

    def pending_in(self, stream: int) -> int:
        """Draws that began in a stream and are not counted yet."""
        return sum(draw.stream == stream for draw in self._pending.values())

    def waiting_for(self) -> str | None:
        """Say what holds up draws that are complete, if anything does."""
        complete = sum(draw.complete for draw in self._pending.values())
        if not complete:
            return None
        if self.by_launch:
            return f"{complete} complete prompts wait for launch {self._next}"
        heads = [self._pending[queue[0]] for queue in self._queues.values() if queue]
        head = next(draw for draw in heads if not draw.complete)
        rows = f"{len(head.reward)} of {self.per_prompt} rollouts"
        return f"{complete} complete prompts wait for an earlier one in {head.file} ({rows})"

    @property
    def state(self) -> dict:
        """Everything, as plain data for JSON."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "done": _packed(self._done),
            "prompts": {series: _packed(keys) for series, keys in self._prompts.items()},
            "pending": [asdict(draw) for draw in self._pending.values()],
            "open": [[stream, key] for stream, key in self._open.items()],
            "next": self._next,
        }

    def restore(self, state: Mapping) -> None:
        """Go on from a state."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        self._next = state["next"]
        self._done = _unpacked(state["done"])
        self._prompts = {series: _unpacked(keys) for series, keys in state["prompts"].items()}
        self._anywhere = set().union(*self._prompts.values())
        self._open = {stream: key for stream, key in state["open"]}
        for fields in state["pending"]:
            draw = Draw(**fields)
            self._pending[draw.key] = draw
            if self.by_launch:
                self._launched[draw.launch] = draw.key
            else:
                self._queues.setdefault(draw.stream, deque()).append(draw.key)


def _packed(keys: set[int]) -> str:
    ordered = np.sort(np.fromiter(keys, dtype="<u8", count=len(keys)))
    return base64.b64encode(ordered.tobytes()).decode()


def _unpacked(text: str) -> set[int]:
    return set(np.frombuffer(base64.b64decode(text), dtype="<u8").tolist())

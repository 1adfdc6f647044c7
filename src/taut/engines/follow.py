"""Following a log: what its files hold that is new goes to the monitors, and the state to a file.

One look reads what has come, counts the draws that are complete, and keeps both facts in one state,
written whole or not at all: a watcher that is killed at any moment goes on from its last look.
"""

import glob
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from taut.decisions.stopping.arrivals import Rows
from taut.decisions.stopping.monitor import CONTINUE
from taut.decisions.stopping.options import WatchOptions
from taut.decisions.stopping.result import WatchResult
from taut.decisions.stopping.rows import check_rows, share_of_look
from taut.decisions.stopping.watching import STATE, Watch
from taut.draws.modes import REPLACEMENT
from taut.engines.local import gather
from taut.engines.seen import Part, names
from taut.engines.tail import Tail
from taut.errors import LogError, UsageError
from taut.logs.keys import combine, hash_ids
from taut.logs.reduce import Reduced
from taut.logs.sources import LOG_SUFFIXES
from taut.logs.write import refuse_overwrite, whole_file

try:
    import fcntl
except ImportError:  # not on Windows: two watchers of one state are then not noticed
    fcntl = None

_LAWS = ("step", "policy", "run")


@contextmanager
def only_watcher(state: str | None) -> Iterator[None]:
    """Hold a state for one watcher at a time; the hold ends with the process, also by a kill.

    Two would each replace what the other kept. The lock is a hidden file beside the state that
    stays there: taking it away would let a third one in.

    Raises:
        UsageError: Another watcher holds it, or the folder cannot be written.
    """
    if state is None or fcntl is None:
        yield
        return
    folder, name = os.path.split(os.path.realpath(state))
    try:
        lock = open(os.path.join(folder, f".{name}.lock"), "ab")  # noqa: SIM115 - closed below
    except OSError as problem:
        raise UsageError(
            f"{state}: expected a folder that can be written, found {problem.strerror}; choose "
            "another place for --state."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{state}: another taut watch keeps its state here and is still at work; wait for "
                "it (in cron: look less often), or give each its own --state."
            ) from None
        except OSError as problem:
            raise UsageError(
                f"{state}: expected a file system with locks, so that no two watchers overwrite "
                f"each other, found {problem.strerror}; keep the state on another one."
            ) from None
        for half in Path(folder).glob(f".{glob.escape(name)}.*.part"):
            with suppress(OSError):  # left by one that was killed while it wrote
                half.unlink()
        yield


class Follower:
    """A log, its monitors, and how far both have come.

    Attributes:
        watch: The monitors.
        tail: The files.
        clipped_rewards: Rows whose reward lay outside the declared range.
    """

    def __init__(
        self,
        sources: Sequence[str],
        options: WatchOptions,
        *,
        mapping: Mapping[str, str] | None = None,
        state: str | None = None,
        ignore: Sequence[str] = (),
        label: Callable[[Reduced], Reduced] | None = None,
    ) -> None:
        own = [*([] if state is None else [state]), *ignore]
        self.tail = Tail(sources, mapping=mapping, ignore=own, label=label)
        for path in own:
            _check_output(path, self.tail)
        self.watch = Watch(options)
        self._units = options.units
        self.clipped_rewards = 0
        self._mapping = dict(mapping or {})
        self._path = state
        self._laws: dict[str, list[str]] = {}
        self._texts: dict[int, int] = {}  # key of a prompt's text to that of its first id
        if state is not None and os.path.exists(state):
            self._restore(_read_state(state))

    def look(self, *, final: bool = False) -> None:
        """Read and count what is new, and keep the state.

        Args:
            final: The log is finished: files count as closed, and nothing is waited for.

        Raises:
            LogError, AssumptionError: The log cannot be counted; the state is that of before.
        """
        if final and self.watch.arrivals is None:
            self.watch.await_end()
        for part in self.tail.look(final=final, settled=self._settled):
            if part.piece is None:
                self.watch.close(part.known.stream)
            else:
                if part.first == 1:
                    self.watch.take_facts(part.piece.facts)
                self.watch.add(self._rows(part))
        if final:
            self.watch.finish()
        self.watch.lost = self.tail.lost
        if final or self.watch.decision != CONTINUE:
            self.tail.check()  # before anyone acts on it
            self._check_rows()
        if self._path is not None:
            with whole_file(self._path) as file:
                file.write(_sealed(self.state))

    def _check_rows(self) -> None:
        """Look at all rows that were read, as an audit looks at a log."""
        watch = self.watch
        if watch.arrivals is None:
            return
        rollouts = gather(self.tail.again())
        found = check_rows(
            rollouts,
            watch.options,
            ordered=watch.arrivals.by_launch,
            looks=share_of_look(watch.checks + 1, several=self._path is not None),
        )
        watch.take_check(found, rollouts.facts)

    def _settled(self, stream: int) -> bool:
        arrivals = self.watch.arrivals
        return arrivals is None or not arrivals.pending_in(stream)

    def _rows(self, part: Part) -> Rows:
        columns, options = part.piece.columns, self.watch.options
        ids = hash_ids(columns["prompt_id"] if "prompt_id" in columns else columns["prompt"])
        reward = columns["reward"]
        series = self._series(part, len(reward))
        low, high = options.reward_range
        self.clipped_rewards += int(((reward < low) | (reward > high)).sum())
        return Rows(
            stream=part.known.stream,
            file=part.known.path,
            first=part.first,
            key=self._keys(columns, ids, series),
            prompt=self._prompts(part, ids),
            reward=self._units.unit_reward(reward),
            cost=self._cost(part, len(reward)),
            gold=self._units.unit_gold(columns.get("gold") if options.gold else None),
            launch=columns.get("launch"),
            series=series,
            closed=False,
        )

    def _prompts(self, part: Part, ids: np.ndarray) -> np.ndarray:
        """Return the key of what counts once: the prompt, or its draw where those are declared.

        Ids that share a text are one prompt: its key is the id that came first.
        """
        columns, prompt = part.piece.columns, ids
        if "prompt_key" in columns:
            texts = columns["prompt_key"].view(np.uint64)
            known = self._texts
            pairs = zip(texts.tolist(), ids.tolist(), strict=True)
            prompt = np.array([known.setdefault(*pair) for pair in pairs], dtype=np.uint64)
        if self.watch.options.prompts != REPLACEMENT:
            return prompt
        if "group" not in columns:
            raise LogError(
                f"{part.known.path}: --prompts with-replacement needs a column 'group' that tells "
                "the draws of one prompt apart; map one with --map group=PATH."
            )
        return combine(prompt, hash_ids(columns["group"]))

    def _keys(self, columns: Mapping, ids: np.ndarray, series: list[str]) -> np.ndarray:
        """Return the draw that each row belongs to: never of two series, nor of two policies."""
        key = combine(hash_ids(series), ids)
        for name in ("step", "group") if self.watch.options.one_policy else (*_LAWS, "group"):
            if name in columns:
                values = columns[name]
                step = isinstance(values, np.ndarray)
                key = combine(key, values.astype(np.uint64) if step else hash_ids(values))
        return key

    def _cost(self, part: Part, rows: int) -> np.ndarray:
        """Return beta l^tau of each row, unit scale."""
        options = self.watch.options
        if options.target == "reward":
            return np.zeros(rows)
        log_ratio = part.piece.columns.get("log_ratio")
        if log_ratio is None:
            raise LogError(
                f"{part.known.path}: the clipped target needs log-probs of policy and reference "
                "(policy_logprob and ref_logprob, or log_ratio); add them or use --target reward."
            )
        below = options.tau if options.tau_negative is None else options.tau_negative
        return options.unit_beta * np.clip(log_ratio, -below, options.tau)

    def _series(self, part: Part, rows: int) -> list[str]:
        """Return which monitor each row belongs to; check that each sees one policy only."""
        options, columns = self.watch.options, part.piece.columns
        texts = {name: _texts(columns[name]) for name in _LAWS if name in columns}
        if options.by is not None and options.by not in texts:
            raise LogError(
                f"{part.known.path}: the log has no '{options.by}' column to tell policies apart; "
                f"map one with --map {options.by}=PATH."
            )
        series = ["all"] * rows if options.by is None else texts[options.by]
        if options.average or options.one_policy or not texts:
            return series
        laws = list(zip(*texts.values(), strict=True))
        for row in range(rows):
            if row and laws[row] == laws[row - 1] and series[row] == series[row - 1]:
                continue
            law = list(laws[row])
            if self._laws.setdefault(series[row], law) != law:
                raise _changes(part, row, tuple(texts), self._laws[series[row]], law)
        return series

    # --- state -----------------------------------------------------------------------------------

    @property
    def state(self) -> dict:
        """Everything, as plain data for JSON."""
        return {
            **self.watch.state,
            "mapping": self._mapping,
            "tail": self.tail.state,
            "laws": self._laws,
            "texts": [[text, first] for text, first in self._texts.items()],
            "clipped_rewards": self.clipped_rewards,
        }

    def _restore(self, state: Mapping) -> None:
        """Go on from a state; one that passed its checksum was made by this code."""
        self.watch = Watch.from_state(state, self.watch.options)
        for name, before, now in (
            ("files", state["tail"]["sources"], self.tail.sources),
            ("--map", state["mapping"], self._mapping),
        ):
            if before != now:
                raise UsageError(
                    f"the state {self._path} was made with {name} {before}, now they are {now}; "
                    "use the same, or another --state, which begins again."
                )
        self.tail.restore(state["tail"])
        self._laws = dict(state["laws"])
        self._texts = dict(state["texts"])
        self.clipped_rewards = state["clipped_rewards"]

    @property
    def result(self) -> WatchResult:
        """Everything that is known."""
        return self.watch.result(
            {
                "files": self.tail.files,
                "incomplete": tuple(sorted(self.tail.incomplete)),
                "notes": tuple(self.tail.notes),
                "clipped_rewards": self.clipped_rewards,
            }
        )

    @property
    def document(self) -> dict:
        """The same as plain data, schema `taut.watch/2`."""
        return self.result.document


def _check_output(path: str, tail: Tail) -> None:
    """Raise where a file that will be written would replace one of the log."""
    refuse_overwrite(path, tail.sources)
    if not path.lower().endswith(LOG_SUFFIXES) or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        written = file.read(200)
    if written and b'"taut.watch' not in written:
        refuse_overwrite(path, [name for source in tail.sources for name in names(source)])


def _texts(values: np.ndarray | pa.Array) -> list[str]:
    return [str(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]


def _changes(part: Part, row: int, names: tuple, before: list, now: list) -> LogError:
    changed = next(index for index in range(len(names)) if before[index] != now[index])
    name = names[changed]
    return LogError(
        f"{part.known.path}: row {part.first + row} has {name} {now[changed]}, earlier ones "
        f"{before[changed]}: the policy changes, and one interval cannot be for both. "
        f"Say --by {name} to watch each, --average for the running average over the log, or "
        "--one-policy if it is the same policy throughout."
    )


def _read_state(path: str) -> dict:
    """Return the state in a file, if it is whole: a changed digit would be a wrong interval.

    Raises:
        UsageError: It is damaged, or no state at all.
    """
    try:
        if not os.path.isfile(path):
            raise OSError(0, "no file")  # a pipe would never end
        with open(path, "rb") as file:
            text = file.read()
        found = json.loads(text)
        if found["schema"] == STATE and text == _sealed(found["state"]):
            return found["state"]
        problem = f"{found['schema']!r}, damaged" if found["schema"] == STATE else found["schema"]
    except OSError as failure:
        problem = failure.strerror
    except (ValueError, KeyError, TypeError, RecursionError):
        problem = "something else"
    raise UsageError(
        f"{path}: expected a state of taut watch ({STATE}), found {problem}; take the file away to "
        "begin again, or name another --state."
    ) from None


def _sealed(state: Mapping) -> bytes:
    """Return a state as the bytes of its file, with a checksum."""
    text = json.dumps(state, allow_nan=False)
    seal = f'{{"schema": "{STATE}", "crc32": {zlib.crc32(text.encode())}, "state": {text}}}\n'
    return seal.encode()

"""What a log knows about itself: beta, ranges, how prompts and labels were chosen, who wrote it.

Facts stand in the metadata of a Parquet file (key `taut.facts`, JSON), written by the recorder, by
`taut score` and by `taut convert`, or in a `taut.toml` beside or above a log, written by hand; the
nearest one counts. What a file of ours says is on record, what a person wrote is declared:
`recorded` keeps them apart (theory §5).
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from taut.errors import LogError
from taut.logs import places
from taut.logs.schema import FACTS_KEY, NATIVE

SCHEMA = "taut.facts/1"
BESIDE = "taut.toml"

# Facts that say how a log was made, in the order of reports.
DECLARED = (
    "beta",
    "reward_range",
    "gold_range",
    "held_out",
    "complete",
    "launched_prompts",
    "rollouts_per_prompt",
    "random_labels",
    "log_probs",
    "log_probs_estimated",
    "starts_at_reference",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What a log knows about itself; None where it does not say.

    Attributes:
        beta: KL strength, reward units per nat.
        reward_range, gold_range: Ranges fixed before the data, reward units.
        held_out: No policy was trained or chosen on the prompts; False where one was.
        complete: Every rollout that was launched is in the log, whatever came of it.
        launched_prompts: Draws of prompts that were launched for these files.
        rollouts_per_prompt: Rollouts that were launched for each draw, K.
        random_labels: Rows to label were chosen blindly; the design of the sheet where there is
            one (a mapping), else True or False.
        log_probs: Who computed the log-probs, as in "transformers 5.1, float32".
        log_probs_estimated: They are of tokens made from text, not surely those that were sampled.
        starts_at_reference: Rows of step 0 are of the reference itself: their log-ratios are 0.
        mapping: Native column to column of the original log, as it was converted.
        writer: Who wrote the file, as in "taut.training.record, trl 1.16.0".
        ours: A recorder, scorer or sheet of taut wrote it: what it says is on record.
        recorded: Names of the facts that are on record; the others were declared by a person.
        notes: What was lost when several files were joined.
    """

    beta: float | None = None
    reward_range: tuple[float, float] | None = None
    gold_range: tuple[float, float] | None = None
    held_out: bool | None = None
    complete: bool | None = None
    launched_prompts: int | None = None
    rollouts_per_prompt: int | None = None
    random_labels: bool | Mapping[str, Any] | None = None
    log_probs: str | None = None
    log_probs_estimated: bool | None = None
    starts_at_reference: bool | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    writer: str | None = None
    ours: bool = False
    recorded: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != LogFacts(notes=self.notes)

    def stands(self, name: str) -> str | None:
        """Return how a fact stands: "recorded", "declared", or None where there is none."""
        if getattr(self, name) is None:
            return None
        return "recorded" if name in self.recorded else "declared"

    def document(self) -> dict[str, Any]:
        """Return the facts that are known as JSON holds them."""
        out: dict[str, Any] = {"schema": SCHEMA}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and value != item.default and value not in ({}, (), frozenset()):
                out[item.name] = sorted(value) if isinstance(value, frozenset) else value
        return out


def recorded_facts(**known: Any) -> LogFacts:
    """Return facts that the program which makes the log knows, all of them on record.

    Args:
        known: Fields of `LogFacts`; `writer` says who. None is left out.
    """
    known = {name: value for name, value in known.items() if value is not None}
    return LogFacts(**known, ours=True, recorded=frozenset(known) & frozenset(DECLARED))


def facts_metadata(facts: LogFacts) -> dict[str, str]:
    """Return the Parquet metadata that keeps facts in a file; nothing where there are none."""
    return {FACTS_KEY.decode(): orjson.dumps(facts.document()).decode()} if facts else {}


def stored_facts(metadata: Mapping[bytes, bytes] | None, file: str) -> LogFacts:
    """Return the facts in the metadata of a Parquet file.

    Raises:
        LogError: They are damaged.
    """
    value = (metadata or {}).get(FACTS_KEY)
    if value is None:
        return LogFacts()
    try:
        document = orjson.loads(value)
        if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
            raise LogError(f"{file}: metadata: expected '{SCHEMA}' under '{FACTS_KEY.decode()}'.")
    except orjson.JSONDecodeError:
        raise LogError(
            f"{file}: metadata: expected JSON under '{FACTS_KEY.decode()}', found it damaged; "
            "write the file again."
        ) from None
    return _facts(document, f"{file}: metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a `taut.toml` says of the logs beside and below it.

    Attributes:
        path: The file, "" where there is none.
        facts: What it declares.
        mapping: Native column to column of the log, as --map.
        values: Native column to what its texts mean, as --map-value.
        format: Who wrote the log, as --format; None where it does not say.
    """

    path: str = ""
    facts: LogFacts = field(default_factory=LogFacts)
    mapping: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    format: str | None = None


def facts_beside(file: str) -> Beside:
    """Return what the nearest `taut.toml` beside or above a file says.

    Raises:
        LogError: It cannot be read, or says what no log can know.
    """
    if places.is_place(file):
        return _facts_away(file)
    folder = os.path.dirname(os.path.abspath(file))
    while True:
        path = os.path.join(folder, BESIDE)
        if os.path.isfile(path):
            return read_beside(path)
        above = os.path.dirname(folder)
        if above == folder:
            return Beside()
        folder = above


def _facts_away(file: str) -> Beside:
    folder = places.parent(file)
    while folder is not None:
        path = f"{folder}/{BESIDE}"
        data = places.read_whole(path)
        if data is not None:
            return _beside(path, data)
        folder = places.parent(folder)
    return Beside()


def read_beside(path: str) -> Beside:
    """Read a `taut.toml`.

    Raises:
        LogError: It cannot be read, or says what no log can know.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as problem:
        raise LogError(f"{path}: expected TOML, found {problem}; correct the file.") from None
    return _beside(path, data)


def _beside(path: str, data: bytes) -> Beside:
    try:
        given = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise LogError(f"{path}: expected TOML, found {problem}; correct the file.") from None
    mapping, values = given.pop("map", {}), given.pop("map_value", {})
    format = given.pop("format", None)
    for name in (*mapping, *values):
        if name not in NATIVE:
            raise LogError(f"{path}: '{name}' is not a native column; see docs/log.md.")
    known = {name: given.pop(name) for name in DECLARED if name in given}
    if given:
        raise LogError(
            f"{path}: '{next(iter(given))}' is no fact of a log; expected some of "
            f"{', '.join((*DECLARED, 'format', '[map]', '[map_value.NAME]'))}."
        )
    return Beside(
        path=path, facts=_facts(known, path), mapping=mapping, values=values, format=format
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _pair(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(_number, value))
    return pair and value[0] < value[1]


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_EXPECTED: dict[str, tuple[Any, str]] = {
    "beta": (lambda v: _number(v) and v >= 0, "a number of reward units per nat, 0 or more"),
    "reward_range": (_pair, "two numbers, LOW below HIGH"),
    "gold_range": (_pair, "two numbers, LOW below HIGH"),
    "held_out": (lambda v: isinstance(v, bool), "true or false"),
    "complete": (lambda v: isinstance(v, bool), "true or false"),
    # 0 in the file of a process whose rollouts all belong to draws that began on another.
    "launched_prompts": (lambda v: v == 0 or _count(v), "a count of draws"),
    "rollouts_per_prompt": (_count, "a count of rollouts"),
    "random_labels": (lambda v: isinstance(v, bool | dict), "true, false or the design of a sheet"),
    "log_probs": (lambda v: isinstance(v, str), "text"),
    "log_probs_estimated": (lambda v: isinstance(v, bool), "true or false"),
    "starts_at_reference": (lambda v: isinstance(v, bool), "true or false"),
    "mapping": (lambda v: isinstance(v, dict), "native columns and their paths"),
    "writer": (lambda v: isinstance(v, str), "text"),
    "ours": (lambda v: isinstance(v, bool), "true or false"),
    "recorded": (lambda v: isinstance(v, list), "names of facts"),
    "notes": (lambda v: isinstance(v, list), "lines of text"),
}
_MAKE = {"reward_range": tuple, "gold_range": tuple, "recorded": frozenset, "notes": tuple}


def _facts(document: Mapping[str, Any], where: str) -> LogFacts:
    out = {}
    for name, value in document.items():
        if name not in _EXPECTED:
            continue  # a later version may know more
        right, words = _EXPECTED[name]
        if not right(value):
            raise LogError(f"{where}: '{name}' is {value!r}; expected {words}.")
        out[name] = _MAKE.get(name, lambda found: found)(value)
    return LogFacts(**out)


def settle(facts: LogFacts, name: str, given: Any, option: str) -> Any:
    """Return a setting: what was given, else what the log knows.

    Args:
        facts: The log's.
        name: A field of `LogFacts`.
        given: What the command line or the call says, None where it says nothing.
        option: How to name it in an error, as in "--beta".

    Raises:
        LogError: The two contradict each other.
    """
    known = getattr(facts, name)
    if given is None or known is None:
        return known if given is None else given
    same = tuple(given) == tuple(known) if isinstance(known, tuple) else given == known
    if not same:
        raise LogError(
            f"{option} is {shown(given)}, but the log says {shown(known)} "
            f"({facts.stands(name)}); leave {option} out, or correct the log's facts (taut.toml)."
        )
    return given


def shown(value: Any) -> str:
    """Return a fact as options write it."""
    many = isinstance(value, list | tuple)
    return " ".join(f"{part:g}" for part in value) if many else str(value)


def join_facts(recorded: LogFacts, declared: LogFacts, file: str) -> LogFacts:
    """Return what a file and a `taut.toml` beside it say together.

    Raises:
        LogError: They contradict each other.
    """
    changes = {}
    for name in DECLARED:
        theirs, mine = getattr(declared, name), getattr(recorded, name)
        if theirs is None or mine == theirs:
            continue
        if mine is not None:
            raise LogError(
                f"{file}: the file says {name} = {shown(mine)}, {BESIDE} says {shown(theirs)}; "
                "correct one of them."
            )
        changes[name] = theirs
    return replace(recorded, **changes)


def merge_facts(*logs: LogFacts) -> LogFacts:
    """Return what is true of several logs, or files of one log, together.

    Facts that agree survive. Those that differ, or that one of them lacks, are None, with a note;
    launched draws add up. A fact is on record only where all have it on record.
    """
    if len(logs) < 2:
        return logs[0] if logs else LogFacts()
    out: dict[str, Any] = {}
    notes = [note for log in logs for note in log.notes]
    for name in (*DECLARED, "writer"):
        values = [getattr(log, name) for log in logs]
        known = [value for value in values if value is not None]
        if name == "launched_prompts" and len(known) == len(values):
            out[name] = sum(known)
        elif all(value == values[0] for value in values):
            out[name] = values[0]
        elif all(value == known[0] for value in known):
            notes.append(f"only some files say {name} ({shown(known[0])}): left out")
        else:
            other = next(value for value in known if value != known[0])
            notes.append(f"files differ in {name} ({shown(known[0])}, {shown(other)}): left out")
    same = all(log.mapping == logs[0].mapping for log in logs)
    known = frozenset(name for name, value in out.items() if value is not None)
    return LogFacts(
        **out,
        mapping=logs[0].mapping if same else {},
        ours=all(log.ours for log in logs),
        recorded=known.intersection(*(log.recorded for log in logs)),
        notes=tuple(dict.fromkeys(notes)),
    )

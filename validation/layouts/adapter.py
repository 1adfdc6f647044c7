"""From a log to what each command claims about it: all that knows the public API.

A command takes a `Log` and returns an `Outcome`. What changes in the API changes here alone.
"""

import inspect
import io
import json
import sys
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from validation.layouts.log import Log

import taut

RANKS = ("certified", "conditional", "estimated", "vacuous")
SOUND = ("certified", "conditional")
_DOUBT = ("in_doubt", "violated")
_ROUNDING = 1e-12  # a truth may sit exactly on an end


@dataclass(frozen=True, slots=True)
class Claim:
    """An interval, what it is worth, and the truth it is about."""

    lower: float
    upper: float
    truth: float
    status: str
    doubts: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it claims a guarantee."""
        return self.status in SOUND

    @property
    def wrong(self) -> bool:
        """Whether a guarantee is claimed for an interval that excludes the truth."""
        inside = self.lower - _ROUNDING <= self.truth <= self.upper + _ROUNDING
        return self.sound and not inside


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did with a log; all its claims hold together at 1 - delta.

    Attributes:
        claims: Intervals with their truths.
        refused: The message, where the command stopped.
        false: Another claim that turned out false: the best candidate was excluded, say.
    """

    claims: tuple[Claim, ...] = ()
    refused: str = ""
    false: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something that was claimed with a guarantee is false."""
        return self.false or any(claim.wrong for claim in self.claims)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Assumptions that a test speaks against."""
        return tuple(text for claim in self.claims for text in claim.doubts)

    @property
    def worst(self) -> str:
        """The weakest status among the claims; "refused" where there is none."""
        return max((claim.status for claim in self.claims), key=RANKS.index, default="refused")

    @property
    def best(self) -> str:
        """The strongest status among the claims."""
        return min((claim.status for claim in self.claims), key=RANKS.index, default="refused")


class NotOffered(Exception):
    """The API has no such option."""


# --- the API --------------------------------------------------------------------------------------


@cache
def _takes_declare() -> bool:
    """Whether what is declared of a log has an argument of its own; else `held_out` is all."""
    tiny = taut.Rollouts.from_arrays(prompt_id=["a", "b"], reward=[0.0, 1.0], gold=[0.0, 1.0])
    try:
        taut.audit(tiny, target="reward", reward_range=(0, 1), declare=())
    except TypeError:
        return False
    except taut.TautError:
        return True  # it looked further than at the names of its arguments
    return True


def _declared(log: Log) -> dict:
    if _takes_declare():
        prompts = {} if log.prompts == "sample" else {"prompts": log.prompts}
        return {"declare": log.declare, **prompts}
    if log.prompts == "list":
        raise NotOffered
    return {"held_out": "held-out" in log.declare}


def rollouts(log: Log, columns=None) -> taut.Rollouts:
    """Give a log to the library."""
    columns = log.columns if columns is None else columns
    if log.through_file:
        with tempfile.TemporaryDirectory() as folder:
            found = taut.read_rollouts(str(_file(columns, folder)))
    else:
        found = taut.Rollouts.from_arrays(columns)
    if not log.chosen_by_reward:
        return found
    from taut.logs.origin import Origin

    return replace(found, origin=Origin(format="open-instruct", chosen=True))


def _file(columns, folder: str) -> Path:
    path = Path(folder) / "log.jsonl"
    lists = {name: np.asarray(values).tolist() for name, values in columns.items()}
    lines = (
        json.dumps({k: None if v != v else v for k, v in zip(lists, row, strict=True)})
        for row in zip(*lists.values(), strict=True)
    )
    path.write_text("\n".join(lines) + "\n")
    return path


def _doubts(assumptions: Iterable) -> tuple[str, ...]:
    found = [item if isinstance(item, dict) else _plain(item) for item in assumptions or ()]
    return tuple(item["text"] for item in found if str(item["stands"]) in _DOUBT)


def _plain(item) -> dict:
    return {"text": item.text, "stands": getattr(item.stands, "value", item.stands)}


def _claim(certificate, log: Log, part=None) -> Claim:
    target = str(getattr(certificate, "target", "reward"))
    return Claim(
        certificate.lower,
        certificate.upper,
        log.truth(target, part),
        str(getattr(certificate.status, "value", certificate.status)),
        _doubts(getattr(certificate, "assumptions", ())),
    )


# --- the commands ---------------------------------------------------------------------------------


def audit(log: Log) -> Outcome:
    """The whole log, with reward data where there are some."""
    more = {}
    if log.reward_data is not None:
        more["reward_data"] = rollouts(replace(log, chosen_by_reward=False), log.reward_data)
    return Outcome(
        (_claim(taut.audit(rollouts(log), **log.settings, **_declared(log), **more), log),)
    )


def _by(column: str):
    def audit_by(log: Log) -> Outcome:
        found = taut.audit_by(rollouts(log), column, **log.settings, **_declared(log))
        return Outcome(
            tuple(_claim(item, log, (column, str(name))) for name, item in found.items())
        )

    return audit_by


def _select(column: str, *, files: bool):
    def select(log: Log) -> Outcome:
        given, by = rollouts(log), column
        if files:
            given, by = _apart(log, column), "policy"
        found = taut.select(given, by, **log.settings, **_declared(log))
        claims = {
            str(item.name): _claim(item.certificate, log, (column, str(item.name)))
            for item in found.candidates
        }
        return Outcome(tuple(claims.values()), false=_chose_wrongly(found, claims))

    return select


def _apart(log: Log, column: str) -> dict[str, taut.Rollouts]:
    names = log.columns[column]
    return {
        str(name): rollouts(
            log, {key: values[names == name] for key, values in log.columns.items()}
        )
        for name in np.unique(names)
    }


def _chose_wrongly(found, claims: dict[str, Claim]) -> bool:
    """Say whether a best candidate was excluded, or the choice is worse than its regret allows."""
    top = max(claim.truth for claim in claims.values())
    best = {name for name, claim in claims.items() if claim.truth >= top - _ROUNDING}
    if found.chosen is None:
        return False
    if not best & {str(name) for name in found.remaining}:
        return True
    regret = found.regret
    lost = top - claims[str(found.chosen)].truth
    return regret is not None and lost > regret + _ROUNDING


def _watch(column: str | None):
    def watch(log: Log) -> Outcome:
        arguments = ["--final", "--quiet", "--target", "reward"]
        arguments += ["--gold" if "gold" in log.columns else "--learned"]
        for name in ("reward_range", "gold_range"):
            if name in log.settings:
                arguments += [f"--{name.replace('_', '-')}", *map(str, log.settings[name])]
        if column is not None:
            arguments += ["--by", column]
        return _read_watch(log, _run_watch(log, arguments), column)

    return watch


def _run_watch(log: Log, arguments: list[str]) -> dict | str:
    """Run `taut watch` in this process; return its document, or why it has none."""
    from taut.cli import main

    if _takes_declare():
        arguments += ["--declare", ",".join(log.declare)] if log.declare else []
        arguments += [] if log.prompts == "sample" else ["--prompts", log.prompts]
    elif log.prompts != "sample":
        raise NotOffered
    else:
        arguments += ["--held-out"] if "held-out" in log.declare else []
    with tempfile.TemporaryDirectory() as folder:
        path, result = _file(log.columns, folder), Path(folder) / "result" / "watch.json"
        result.parent.mkdir()
        command = ["taut", "watch", str(path), "--json", str(result), *arguments]
        said, before = io.StringIO(), sys.argv
        try:
            sys.argv = command
            with redirect_stdout(io.StringIO()), redirect_stderr(said), suppress(SystemExit):
                main()
        finally:
            sys.argv = before
        if not result.exists():
            return said.getvalue().strip() or "no result"
        # Both streams may say something of a result that is there all the same.
        return json.loads(result.read_text())


def _read_watch(log: Log, document: dict | str, column: str | None) -> Outcome:
    if isinstance(document, str):
        return Outcome(refused=document)
    claims = []
    for series in document["series"]:
        part = None if column is None else (column, str(series["value"]))
        ends = series["interval"]
        status = ends["status"] if document["of"] == "gold" else document["status"]
        claims.append(
            Claim(
                ends["lower"],
                ends["upper"],
                log.truth("reward", part),
                status,
                _doubts(series["assumptions"]),
            )
        )
    missing = column is not None and len(claims) < len(set(log.columns[column].tolist()))
    return Outcome(tuple(claims), refused="a series is not shown" if missing else "")


def transport(log: Log) -> Outcome:
    """The calibration from reward data, and the interval that needs no faith in it."""
    bounds = log.settings.get("gold_range", log.settings["reward_range"])
    # Today's function takes no declarations: it has one status for all logs.
    takes = inspect.signature(taut.audit_transport).parameters
    declared = _declared(log) if _takes_declare() else {}
    declared = {name: value for name, value in declared.items() if name in takes}
    data = rollouts(replace(log, chosen_by_reward=False), log.reward_data)
    found = taut.audit_transport(rollouts(log), data, gold_range=bounds, **declared)
    ends = found.certificate
    return Outcome(
        (
            Claim(
                ends.lower,
                ends.upper,
                log.truth("reward", None),
                str(getattr(found.status, "value", found.status)),
                _doubts(getattr(found, "assumptions", ())),
            ),
        )
    )


COMMANDS = {
    "audit": audit,
    "audit --by step": _by("step"),
    "audit --by policy": _by("policy"),
    "audit --by run": _by("run"),
    "select step": _select("step", files=False),
    "select policy": _select("policy", files=False),
    "select files by policy": _select("policy", files=True),
    "select files by run": _select("run", files=True),
    "watch": _watch(None),
    "watch --by step": _watch("step"),
    "watch --by policy": _watch("policy"),
    "watch --by run": _watch("run"),
    "transport": transport,
}


def run(command: str, log: Log) -> Outcome:
    """Run a command on a log; a refusal is an outcome.

    Raises:
        NotOffered: The API has no such option.
    """
    try:
        return COMMANDS[command](log)
    except taut.TautError as error:
        return Outcome(refused=f"{type(error).__name__}: {error}")

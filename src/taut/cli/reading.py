"""Logs on the command line: names to paths, reading, a progress line."""

import os
import sys
import time
from contextlib import contextmanager

import click

from taut.cli.arguments import ENGINE_KEY, FORMAT_KEY, VALUES_KEY
from taut.errors import UsageError
from taut.logs.origin import FRAMEWORKS, Origin
from taut.logs.text import safe

_SAID = "taut.origin"
_NOTED = "taut.notes"


def name_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE pairs as a dictionary; NAME= gives "", which leaves a column out.

    Raises:
        UsageError: A pair is not of that form, or a name stands twice.
    """
    mapping = {}
    for pair in pairs:
        name, sign, path = pair.partition("=")
        if not (sign and name):
            raise UsageError(f"{pair!r}: expected NAME=PATH, as in --map reward=scores.judge.")
        if name in mapping:
            raise UsageError(f"'{name}' is named twice; each name takes one value.")
        mapping[name] = path
    return mapping


def value_pairs(texts: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return what --map-value says: native column to text to number.

    Raises:
        UsageError: A text is not of the form NAME:TEXT=NUMBER,….
    """
    out: dict[str, dict[str, float]] = {}
    for text in texts:
        name, sign, pairs = text.partition(":")
        for pair in pairs.split(","):
            word, equals, number = pair.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = None
            if not (sign and equals and word) or value is None or value != value:
                raise UsageError(
                    f"{text!r}: expected NAME:TEXT=NUMBER,…, as in --map-value reward:C=1,I=0."
                )
            out.setdefault(name, {})[word] = value
    return out


def read_log(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    features=False,
    format=None,
    keep=(),
    parts=False,
    rollout_ids=False,
    log_probs=None,
):
    """Read the LOG arguments of a command as rollouts, with a progress line.

    Args:
        log, mapping, lenient, token_clip, quiet, features, keep, parts, rollout_ids: As in
            `taut.read_rollouts`.
        format: Who wrote the log; what --format says, by default.
        log_probs: As in `taut.read_rollouts`; optional, by default, where --target is reward.
    """
    from taut.engines.local import read_rollouts

    refuse_outputs(log)
    with progress_line(quiet) as progress:
        rollouts = read_rollouts(
            list(log),
            mapping=name_pairs(mapping),
            values=chosen_values(),
            lenient=lenient,
            token_clip=token_clip,
            features=features,
            keep=keep,
            parts=parts,
            rollout_ids=rollout_ids,
            log_probs=log_probs or _needed_log_probs(),
            format=format or chosen_format(),
            progress=progress,
            engine=chosen_engine(),
        )
    say_origin(rollouts.origin, quiet, whole=rollouts.log_ratio is not None)
    say_notes(rollouts.notes, quiet)
    return rollouts


def _needed_log_probs() -> str:
    context = click.get_current_context(silent=True)
    target = None if context is None else context.params.get("target")
    return "optional" if target == "reward" else "required"


# Parameters of commands that name a file to write.
_OUTPUTS = {
    "json_path": "--json",
    "html_path": "--html",
    "lenient": "--lenient",
    "output": "--output",
    "html": "--html",
}


def refuse_outputs(log) -> None:
    """Raise where a command would write over what it reads, or write two things into one file.

    Raises:
        UsageError: With both names.
    """
    from taut.logs.write import same_file

    context = click.get_current_context(silent=True)
    params = {} if context is None else context.params
    taken = [(str(path), "LOG") for path in _files(log)]
    for name in ("reward_data", "labels"):
        given = params.get(name) or ()
        given = (given,) if isinstance(given, str) else given
        taken += [(str(path), f"--{name.replace('_', '-')}") for path in _files(given)]
    for name, option in _OUTPUTS.items():
        path = params.get(name)
        if not isinstance(path, str) or path == "-":
            continue
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise UsageError(
                f"{option} {path} is a device or a pipe; name a file, or - for output."
            )
        for other, whose in taken:
            if same_file(path, other):
                raise UsageError(
                    f"{option} {path} would overwrite {whose} {other}; choose another name."
                )
        taken.append((path, option))


def _files(log) -> list[str]:
    """Return the files that are meant, as far as they are there; reading says what is wrong."""
    from taut.logs.sources import named_files

    return [name for item in log for name in named_files(str(item))]


def chosen_values() -> dict[str, dict[str, float]]:
    """Return what --map-value says."""
    context = click.get_current_context(silent=True)
    return value_pairs(() if context is None else context.meta.get(VALUES_KEY, ()))


def say_notes(notes, quiet: bool) -> None:
    """Say once, on stderr, what the reader did that people should know."""
    context = click.get_current_context(silent=True)
    said = set() if context is None else context.meta.setdefault(_NOTED, set())
    machine = context is not None and context.params.get("json_path") == "-"
    for note in notes:
        if not (quiet or machine or note in said):
            click.echo(f"note: {safe(note)}", err=True)
        said.add(note)


def chosen_engine() -> str:
    """Return what --engine says; "local" where the command has no such option."""
    context = click.get_current_context(silent=True)
    return "local" if context is None else context.meta.get(ENGINE_KEY, "local")


def chosen_format() -> str:
    """Return what --format says; auto where the command has no such option."""
    context = click.get_current_context(silent=True)
    return "auto" if context is None else context.meta.get(FORMAT_KEY, "auto")


def say_origin(origin: Origin | None, quiet: bool, *, whole: bool) -> None:
    """Say once, on stderr, which framework wrote the log, what it lacks and what that leaves.

    Args:
        origin: Who wrote it; nothing is said of a native log.
        quiet: Say nothing.
        whole: It has the log-probs of policy and reference all the same.
    """
    context = click.get_current_context(silent=True)
    machine = context is not None and context.params.get("json_path") == "-"
    if origin is None or quiet or machine or (context and context.meta.get(_SAID) == origin):
        return
    if context is not None:
        context.meta[_SAID] = origin
    known = FRAMEWORKS[origin.format]
    part = f" ({origin.part})" if origin.part else ""
    if whole:
        click.echo(f"{known.title}{part}, with log-probs of policy and reference.", err=True)
        return
    click.echo(
        f"{known.title}{part}: it lacks {known.lacks}.\n"
        f"  It can certify {known.certified}.\n"
        f"  For the rest: {known.remedy}.",
        err=True,
    )


@contextmanager
def progress_line(quiet: bool):
    """Yield a progress callback: a line on stderr once the work has taken more than a second."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    start = shown = time.monotonic()

    def tell(rows: int, read_bytes: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - start > 1 and now - shown > 0.2:
            shown = now
            click.echo(f"\r{rows:,} rollouts, {read_bytes / 1e6:,.0f} MB", err=True, nl=False)

    yield tell
    if shown > start:
        click.echo("\r\x1b[K", err=True, nl=False)

"""Logs on the command line: names to paths, reading, a progress line."""

import sys
import time
from contextlib import contextmanager

import click

from taut.cli.arguments import FORMAT_KEY
from taut.errors import UsageError
from taut.logs.origin import FRAMEWORKS, Origin

_SAID = "taut.origin"


def name_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE pairs as a dictionary.

    Raises:
        UsageError: A pair is not of that form, or a name stands twice.
    """
    mapping = {}
    for pair in pairs:
        name, sign, path = pair.partition("=")
        if not (sign and name and path):
            raise UsageError(f"{pair!r}: expected NAME=PATH, as in --map reward=scores.judge.")
        if name in mapping:
            raise UsageError(f"'{name}' is named twice; each name takes one value.")
        mapping[name] = path
    return mapping


def read_log(log, mapping, lenient, token_clip, quiet, features=False, format=None):
    """Read the LOG arguments of a command as rollouts, with a progress line.

    Args:
        log, mapping, lenient, token_clip, quiet, features: As in `taut.read_rollouts`.
        format: Who wrote the log; what --format says, by default.
    """
    from taut.engines.local import read_rollouts

    with progress_line(quiet) as progress:
        rollouts = read_rollouts(
            list(log),
            mapping=name_pairs(mapping),
            lenient=lenient,
            token_clip=token_clip,
            features=features,
            format=format or chosen_format(),
            progress=progress,
        )
    say_origin(rollouts.origin, quiet, whole=rollouts.log_ratio is not None)
    return rollouts


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

"""Logs on the command line: names to paths, reading, a progress line."""

import sys
import time
from contextlib import contextmanager

import click

from taut.errors import UsageError


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


def read_log(log, mapping, lenient, token_clip, quiet, features=False):
    """Read the LOG arguments of a command as rollouts, with a progress line."""
    from taut.engines.local import read_rollouts

    with progress_line(quiet) as progress:
        return read_rollouts(
            list(log),
            mapping=name_pairs(mapping),
            lenient=lenient,
            token_clip=token_clip,
            features=features,
            progress=progress,
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

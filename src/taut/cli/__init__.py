"""The command line: wiring only. Every command parses, calls one function, prints its result."""

from taut.cli import (  # noqa: F401  each registers its commands
    audit,
    compare,
    lab,
    label,
    log,
    plan,
    report,
    score,
    select,
    threshold,
    train,
    watch,
    worlds,
)
from taut.cli.root import cli, main

__all__ = ["cli", "main"]

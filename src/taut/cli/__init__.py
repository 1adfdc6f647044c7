"""The command line: wiring only. Every command parses, calls one function, prints its result."""

from taut.cli import audit, lab, log, select, train, worlds  # noqa: F401  each registers its commands
from taut.cli.root import cli, main

__all__ = ["cli", "main"]

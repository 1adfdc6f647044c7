"""taut: how much of the reward you measured is real."""

from taut.version import __version__

__all__ = ["__version__"]

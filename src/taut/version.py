"""The version, read by the build and by every certificate."""

__version__ = "0.1.0"

"""Two-stage RLHF with a clipped KL, on TRL, and its log (extra `train`)."""

from importlib import import_module
from typing import Any

_HOME = {
    "ClippedKLMixin": "clipped_kl",
    "ClippedKLRLOOTrainer": "clipped_kl",
    "ClippedKLReward": "clipped_kl",
    "Finding": "checks",
    "FixedThreshold": "threshold",
    "PhasedThreshold": "threshold",
    "Threshold": "threshold",
    "clipped_kl_trainer": "clipped_kl",
    "preflight": "checks",
    "quantile_threshold": "threshold",
    "read_recipe": "recipe",
    "record": "recorder",
    "train": "run",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Load a name on use: TRL takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

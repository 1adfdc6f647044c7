"""Two-stage RLHF with a clipped KL, on TRL, and its log (extra `train`)."""

from importlib import import_module
from typing import Any

_HOME = {
    "ClippedKLMixin": "clipping.clipped_kl",
    "ClippedKLRLOOTrainer": "clipping.clipped_kl",
    "ClippedKLReward": "clipping.reward",
    "Finding": "recording.checks",
    "FixedThreshold": "clipping.threshold",
    "PhasedThreshold": "clipping.threshold",
    "Threshold": "clipping.threshold",
    "clipped_kl_trainer": "clipping.clipped_kl",
    "preflight": "recording.checks",
    "quantile_threshold": "clipping.threshold",
    "read_recipe": "pipeline.recipe",
    "record": "recording.recorder",
    "train": "pipeline.run",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Load a name on use: TRL takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

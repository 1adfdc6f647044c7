"""Two-stage RLHF with a clipped KL, on TRL, and its log (extra `train`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taut.training.clipping.clipped_kl import (
        ClippedKLMixin,
        ClippedKLRLOOTrainer,
        clipped_kl_trainer,
    )
    from taut.training.clipping.reward import ClippedKLReward
    from taut.training.clipping.threshold import (
        FixedThreshold,
        PhasedThreshold,
        Threshold,
        quantile_threshold,
    )
    from taut.training.pipeline.recipe import read_recipe
    from taut.training.pipeline.run import train
    from taut.training.pipeline.settings import Recipe
    from taut.training.recording.checks import Finding, preflight
    from taut.training.recording.recorder import Recorder, record

_HOME = {
    "ClippedKLMixin": "clipping.clipped_kl",
    "ClippedKLRLOOTrainer": "clipping.clipped_kl",
    "ClippedKLReward": "clipping.reward",
    "Finding": "recording.checks",
    "FixedThreshold": "clipping.threshold",
    "PhasedThreshold": "clipping.threshold",
    "Recipe": "pipeline.settings",
    "Recorder": "recording.recorder",
    "Threshold": "clipping.threshold",
    "clipped_kl_trainer": "clipping.clipped_kl",
    "preflight": "recording.checks",
    "quantile_threshold": "clipping.threshold",
    "read_recipe": "pipeline.recipe",
    "record": "recording.recorder",
    "train": "pipeline.run",
}

__all__ = [
    "ClippedKLMixin",
    "ClippedKLRLOOTrainer",
    "ClippedKLReward",
    "Finding",
    "FixedThreshold",
    "PhasedThreshold",
    "Recipe",
    "Recorder",
    "Threshold",
    "clipped_kl_trainer",
    "preflight",
    "quantile_threshold",
    "read_recipe",
    "record",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a name on use: TRL takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""The libraries of the extra `train`: there or not, and kept off the network."""

import os
from importlib.util import find_spec

from taut.errors import UsageError

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
SCORING = ("torch", "transformers", "safetensors")


def require_extra(what: str = "training", packages: tuple[str, ...] = PACKAGES) -> None:
    """Raise where libraries are missing; else keep the Hugging Face ones off the network.

    Raises:
        UsageError: One is missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{what} needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install '.[train]'"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"  # before they are imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

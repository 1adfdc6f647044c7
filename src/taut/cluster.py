"""A Ray cluster to work on, quiet: no usage statistics, no look-ups in a cloud's metadata."""

import os
from typing import Any

from taut.errors import LogError, UsageError
from taut.version import __version__

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TPU_SKIP_MDS_QUERY": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def connect(engine: str) -> Any:
    """Return Ray, connected to the cluster that `engine` names, or to one of this machine.

    Args:
        engine: "ray" (RAY_ADDRESS where it is set, else a cluster of this machine alone), or
            "ray://HOST:PORT".

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: install taut with its extra 'ray'.") from error
    if not ray.is_initialized():
        address = None if engine == "ray" else engine
        try:
            ray.init(
                address=address,
                include_dashboard=None if address or "RAY_ADDRESS" in os.environ else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, ValueError, RuntimeError) as problem:
            raise UsageError(
                f"--engine {engine}: expected a Ray cluster there, found none: {problem}"
            ) from None
    return ray


def other_version(found: str) -> LogError:
    """Return the error of workers that run another version of taut."""
    return LogError(
        f"expected taut {__version__} on the workers, found {found}; install the same there."
    )


def check_engine(engine: str) -> None:
    """Raise where no such engine is known.

    Raises:
        UsageError: With those that are.
    """
    if engine not in ("local", "ray") and not engine.startswith("ray://"):
        raise UsageError(f"engine is {engine!r}; expected local, ray or ray://HOST:PORT.")

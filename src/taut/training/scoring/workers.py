"""Which devices score: this machine's, or those of a Ray cluster."""

import torch

from taut.cluster import check_engine, connect
from taut.errors import UsageError
from taut.training.scoring.fleet import Fleet, gpus
from taut.training.scoring.scorer import Here, Scorer, Workers


def device_of(engine: str, name: str | None) -> torch.device:
    """Return the kind of device: the one that is asked for, or a GPU where there is one.

    Args:
        engine: "local", "ray" or "ray://HOST:PORT".
        name: "cpu", "cuda" or None.

    Raises:
        UsageError: It is unknown, or there is no GPU; an engine that is none.
    """
    if name not in (None, "cpu", "cuda"):
        raise UsageError(f"device {name!r}: expected cpu or cuda.")
    check_engine(engine)
    if engine == "local":
        there, where = torch.cuda.is_available(), "torch finds no GPU here"
    else:
        there, where = gpus(connect(engine)) > 0, "the cluster has no GPU"
    if name == "cuda" and not there:
        raise UsageError(f"device cuda: {where}; use --device cpu.")
    return torch.device(name or ("cuda" if there else "cpu"))


def workers_on(engine: str, device: torch.device, dtype: str, temperature: float) -> Workers:
    """Return who scores.

    Raises:
        UsageError: The cluster does not answer.
    """
    settings = {"device": device.type, "dtype": dtype, "temperature": temperature}
    if engine == "local":
        return Here(Scorer(**settings))
    # As many threads as here: sums of many numbers depend on it in their last bits.
    return Fleet(connect(engine), threads=torch.get_num_threads(), **settings)

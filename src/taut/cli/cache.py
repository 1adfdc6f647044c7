"""The cache of compiled code, where a file of it was cut or overwritten: it is made anew."""

import os
from contextlib import suppress
from types import TracebackType

_CACHING = os.path.join("numba", "core", "caching.py")


def clear_damaged_cache(error: BaseException) -> bool:
    """Take away cached code that could not be read; say whether that was what went wrong.

    Args:
        error: What a command ended with.
    """
    path = _index_path(error.__traceback__)
    if path is None:
        return False
    folder, cleared = os.path.dirname(path), False
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith((".nbi", ".nbc")):
                os.unlink(os.path.join(folder, name))
                cleared = True
    return cleared


def _index_path(trace: TracebackType | None) -> str | None:
    """Return the index of the cache in whose reading an error arose."""
    found = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(_CACHING):
            cache = trace.tb_frame.f_locals.get("self")
            found = getattr(cache, "_index_path", None) or found
        trace = trace.tb_next
    return found

"""Other people's logs: what trainers and evaluators write to disk, as native columns.

One file a framework; each says which versions of the writer's code it follows, and docs/formats.md
what its log lacks. Two rules hold for all: a prompt is known by its text or its tokens, never by a
number that starts anew with each batch; and log-probs are taken only in pairs from one engine.
"""

from collections.abc import Callable, Mapping

from taut.logs.frameworks import nemo_rl, open_instruct, trl, verl
from taut.logs.layout import Columns, Layout, native_layout


def choose(file: str, columns: Columns, *, paths: Mapping[str, str], format: str) -> Layout:
    """Return how a file is read.

    Args:
        file: Its name; a step or a run may be in it.
        columns: What its columns hold, in the order of the file.
        paths: Native name to path as the user gave it, or the name itself.
        format: One of FORMATS; "auto" goes by the columns, and a native file wins.

    Raises:
        LogError: The file is not of that format, or it is not clear which column is the reward.
    """
    found = recognise(columns) if format == "auto" else format
    if found == "native":
        return native_layout(paths)
    return _LAYOUTS[found](file, columns, paths)


def recognise(columns: Columns) -> str:
    """Return which framework writes such columns; "native" where none is known to."""
    names = set(columns)
    if list(columns)[:3] == ["step", "prompt", "completion"] and "advantage" in names:
        return "trl"
    if "reward" in names and {"prompt_id", "prompt"} & names:
        return "native"
    if {"input", "output", "score", "step"} <= names and columns["output"] == "text":
        return "verl"
    wrapped = columns.get("rewards") == "list" or columns.get("input_lengths") == "list"
    if "idx" in names and wrapped and {"content", "token_loss_mask"} & names:
        return "nemo-rl"
    if {"prompt_tokens", "response_tokens", "finish_reason", "reward"} <= names:
        return "open-instruct"
    if {"run_name", "git_commit", "model_name", "timestamp"} == names:
        return "open-instruct"
    return "native"


_LAYOUTS: dict[str, Callable[[str, Columns, Mapping[str, str]], Layout]] = {
    "trl": trl.layout,
    "verl": verl.layout,
    "nemo-rl": nemo_rl.layout,
    "open-instruct": open_instruct.layout,
}

"""How one file lies: which of its columns stand for which native ones, and who wrote it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from taut.logs.reduce import Chunk

# What a column holds, as far as recognising a file needs it: from the Arrow type or the first rows.
Holds = Literal["number", "text", "bool", "list", "object", "null", "other"]
Columns = Mapping[str, Holds]


FORMATS = ("auto", "native", "trl", "verl", "nemo-rl", "open-instruct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What people need to know of a framework's log.

    Attributes:
        title: Its name and its file.
        lacks: What is not in it.
        certified: What can be certified all the same.
        remedy: The shortest way to the rest.
    """

    title: str
    lacks: str
    certified: str
    remedy: str


_REWARD_ONLY = (
    "the mean of the logged reward and, with gold labels, E r* (--target reward): neither needs "
    "log-probs"
)
FRAMEWORKS: dict[str, Framework] = {
    "trl": Framework(
        title="TRL completions",
        lacks="log-probs, prompt ids, and every generation batch but the last before each log",
        certified=_REWARD_ONLY,
        remedy='taut.training.record(trainer, "log/") logs every rollout with its log-probs',
    ),
    "verl": Framework(
        title="verl rollouts",
        lacks="log-probs, response lengths, and the special tokens of the text",
        certified=_REWARD_ONLY,
        remedy="two lines in _log_rollout_data add the log-probs (docs/formats.md)",
    ),
    "nemo-rl": Framework(
        title="NeMo-RL data",
        lacks="reference log-probs, and raw rewards where they are scaled or shaped",
        certified=_REWARD_ONLY,
        remedy="one line logs train_data['reference_policy_logprobs'] beside prev_logprobs "
        "(docs/formats.md)",
    ),
    "open-instruct": Framework(
        title="open-instruct rollouts",
        lacks="log-probs of policy and reference from one engine, and, by default, every prompt "
        "whose rewards are all equal",
        certified=_REWARD_ONLY + "; both only if filter_zero_std_samples was off",
        remedy="--filter_zero_std_samples False; then taut score LOG --policy M --ref M -o FILE",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which framework wrote a log.

    Attributes:
        format: One of FORMATS, but native or auto.
        part: What kind of file of that framework, where there are several.
        chosen: The file itself says that its rollouts were chosen by their rewards.
    """

    format: str
    part: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the columns of one file are read.

    Attributes:
        paths: Native or raw name (`taut.logs.schema.RAW`) to path in the file.
        required: Names whose path the file must have.
        derived: Native names that `derive` fills.
        derive: Turns raw columns of a chunk into native ones; None for a native file.
        wrapped: Every value of a row stands in a list of its own (NeMo-RL).
        skip: The file belongs to the log but holds no rollouts.
        origin: Who wrote it; None for a native file.
    """

    paths: Mapping[str, str]
    required: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    derive: "Callable[[Chunk], Chunk] | None" = None
    wrapped: bool = False
    skip: bool = False
    origin: Origin | None = None


Layouts = Callable[[str, Columns], Layout]


def native_layout(paths: Mapping[str, str]) -> Layout:
    """Return the layout of a native file: mapped names must be there, all others may."""
    return Layout(paths=paths, required=frozenset(n for n, path in paths.items() if n != path))


def messages_text(messages: list) -> str:
    """Return a list of messages as JSON in one form: keys sorted, empty ones left out.

    Parquet gives every message the keys of all; JSON lines do not.
    """
    return json.dumps(_filled(messages), sort_keys=True, ensure_ascii=False)


def _filled(value):
    if isinstance(value, dict):
        return {key: _filled(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_filled(inner) for inner in value]
    return value

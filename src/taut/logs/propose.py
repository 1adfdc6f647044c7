"""A `taut.toml` proposed for a log: what was said, and what a person has to confirm."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from taut.logs.facts import LogFacts

_HEAD = (
    "# What is known of the logs here and below: lines without # count as if said to every command."
)
_WORDS = {
    "held_out": "no policy was trained or chosen on these prompts",
    "complete": "every rollout that was launched is here, whatever came of it",
    "random_labels": "who is labelled was drawn blind to outcomes",
}
_FURTHER = {
    "launched_prompts": ("1000", "draws of prompts that were launched"),
    "rollouts_per_prompt": ("4", "rollouts that were launched for each"),
    "log_probs": ('"transformers, float32"', "who computed both log-probs"),
}
_RANGES = {
    "reward_range": "what it can be, fixed before the data: what was seen is none",
    "gold_range": "likewise for gold, in its own units",
}


def proposed(
    *,
    format: str,
    mapping: Mapping[str, str],
    values: Mapping[str, Mapping[str, float]],
    known: LogFacts,
    ranges: Mapping[str, tuple[float, float] | None],
    words: Collection[str],
    seen: Mapping[str, np.ndarray | None],
) -> str:
    """Return the text of a `taut.toml`: what was said counts, the rest is commented out.

    Args:
        format: Who wrote the log.
        mapping, values: What --map and --map-value say.
        known: What the log says of itself already; it is not repeated.
        ranges: Declared ranges, None where there is none.
        words: What is declared, of "held-out", "complete", "random-labels".
        seen: Reward and gold of the rows, whose ranges are shown.
    """
    lines = [_HEAD, f"format = {_toml(format)}"]
    if known.beta is None:
        lines.append("# beta = 0.05  # KL strength in training, reward units per nat")
    for name, meaning in _RANGES.items():
        rows = seen[name]
        if getattr(known, name) is None and rows is not None:
            lines += _range(name, ranges[name], rows[~np.isnan(rows)], meaning)
    for name, meaning in _WORDS.items():
        if getattr(known, name) is None:
            said = name.replace("_", "-") in words
            lines.append(f"{'' if said else '# '}{name} = true  # {meaning}")
    lines += [
        f"# {name} = {example}  # {meaning}"
        for name, (example, meaning) in _FURTHER.items()
        if getattr(known, name) is None
    ]
    if mapping:
        lines += ["", "[map]", *(f"{name} = {_toml(path)}" for name, path in mapping.items())]
    for name, texts in values.items():
        pairs = (f"{_toml(text)} = {number!r}" for text, number in texts.items())
        lines += ["", f"[map_value.{name}]", *pairs]
    return "\n".join(lines) + "\n"


def _range(
    name: str, said: tuple[float, float] | None, rows: np.ndarray, meaning: str
) -> list[str]:
    if said is not None:
        return [f"{name} = {_toml([float(end) for end in said])}"]
    if not len(rows):
        return []
    ends = [float(rows.min()), float(rows.max())]
    return [f"# {name} = {_toml(ends)}  # seen; declare {meaning}"]


def _toml(value: Any) -> str:
    # Numbers, texts and lists of JSON are TOML, but for DEL, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

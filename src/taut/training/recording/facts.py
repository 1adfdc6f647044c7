"""What a log knows of itself, so that an audit of it needs no option."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

FACTS_KEY = "taut.facts"  # Parquet metadata: JSON of what follows
SCHEMA = "taut.facts/1"
PART = "rewards."  # columns of single reward functions


def recorded_facts(*, writer: str | None = None, **known: Any) -> dict[str, str]:
    """Return facts that the writer of a log knows, as metadata of a file: all are on record.

    Args:
        writer: Who writes the file.
        known: `beta`, `reward_range`, `gold_range`, `held_out`, `complete`, `launched_prompts`,
            `rollouts_per_prompt`, `random_labels`, `log_probs`, and `starts_at_reference` (rows of
            step 0 are of the reference itself). What is None is not known and left out.
    """
    facts = {name: value for name, value in known.items() if value is not None}
    document = {
        "schema": SCHEMA,
        **facts,
        "writer": writer,
        "ours": True,
        "recorded": sorted(facts),
    }
    return {FACTS_KEY: orjson.dumps(document).decode()}


def joined_facts(files: Iterable[str]) -> dict[str, Any]:
    """Return what the files of a log have on record and agree on; launched draws add up."""
    found = [_stored(name) for name in files]
    same = {
        name: value
        for name, value in found[0].items()
        if all(other.get(name) == value for other in found)
    }
    launched = [facts.get("launched_prompts") for facts in found]
    if None not in launched:
        same["launched_prompts"] = sum(launched)
    return same


def _stored(name: str) -> dict[str, Any]:
    try:
        text = (pq.read_schema(name).metadata or {}).get(FACTS_KEY.encode(), b"{}")
    except (pa.ArrowException, OSError):  # no Parquet: it holds no facts
        return {}
    facts = orjson.loads(text)
    return {fact: facts[fact] for fact in facts.get("recorded", ())}


def is_penalty(function: Any) -> bool:
    """Whether a reward function of a trainer is a KL penalty, which is no part of the reward."""
    return getattr(function, "is_kl_penalty", False)


def objective_beta(trainer: Any) -> float | None:
    """Return the beta of E[r - beta log-ratio] that a trainer optimises; None where it has none.

    GRPO's own beta multiplies a mean over tokens in the loss and is none.
    """
    for function, weight in zip(trainer.reward_funcs, trainer.reward_weights, strict=True):
        if is_penalty(function):
            return float(weight)
    is_rloo = hasattr(trainer, "normalize_advantages")
    return float(trainer.beta) if is_rloo and trainer.beta != 0 else None


def engine(trainer: Any) -> str:
    """Return who computes the log-probs."""
    kind = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    mixed = trainer.accelerator.mixed_precision
    precision = kind if mixed == "no" else f"{mixed} mixed precision"
    return f"trl {version('trl')}, transformers {version('transformers')}, {precision}"


def held_out(trainer: Any) -> bool | None:
    """Whether no prompt that a trainer evaluates on stands in its training data, by its words.

    Returns:
        None where that cannot be seen: streamed data, or no evaluation.
    """
    sets = list(named_evaluations(trainer).values())
    if not sets or not all(hasattr(rows, "__len__") for rows in [*sets, trainer.train_dataset]):
        return None
    evaluated = set(_keys(row for rows in sets for row in rows["prompt"]))
    return all(key not in evaluated for key in _keys(trainer.train_dataset["prompt"]))


def _keys(prompts: Iterable[Any]) -> Iterable[str]:
    return map(prompt_key, prompts)


def prompt_key(prompt: Any) -> str:
    """Return a name for a prompt, text or messages, that is a function of its words alone."""
    return hashlib.sha256(orjson.dumps(prompt, default=str)).hexdigest()[:16]


def named_evaluations(trainer: Any) -> dict[str, Any]:
    """Return the data sets that a trainer evaluates on, by name; none where it has none."""
    found = getattr(trainer, "eval_dataset", None)
    if found is None:
        return {}
    return dict(found) if isinstance(found, dict) else {"eval_dataset": found}

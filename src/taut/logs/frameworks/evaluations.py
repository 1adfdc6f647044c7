"""Logs of evaluations: inspect_ai, lm-evaluation-harness, lighteval, RewardBench, alpaca_eval.

Read at inspect_ai 0.3.285 (`EvalSample`, log/_log.py), lm-eval 0.4.13 (`save_results_samples`),
lighteval 0.11 (`EvaluationTracker`), RewardBench 0.1 (scripts/run_rm.py, `rewardbench`),
alpaca_eval 0.6 (annotations.json). Repeats of a sample (epochs) are the rollouts of a prompt.
"""

from collections.abc import Mapping
from functools import partial
from threading import Lock

import numpy as np

from taut.errors import LogError
from taut.logs.frameworks.common import expect, join, one_reward, with_columns
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Values
from taut.logs.schema import REWARD_PART
from taut.logs.text import safe

# The letters of inspect_ai's scorers: correct, incorrect, partial, no answer.
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def inspect_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """id, epoch, input, target, scores: name to value; error where a sample failed."""
    expect(file, "inspect", columns, ("id", "epoch", "input"))
    own = {"prompt_id": "id", "prompt": "input"}
    if "reward" not in mapped:
        values = [name for name in columns if name.startswith("scores.")]
        simple = [
            name
            for name in values
            if name.endswith(".value")
            and name.count(".") == 2
            and columns[name] in ("text", "number", "bool")
        ]
        if not values and columns.get("scores", "null") in ("null", "object"):
            raise LogError(
                f"{file}: expected scores, found no sample with one: all failed, or none was "
                "scored; run the evaluation again (inspect eval-retry)."
            )
        own["reward"] = one_reward(file, "inspect", columns, simple)
    letters = columns.get(own.get("reward", paths.get("reward", ""))) == "text"
    said = ", ".join(f"{letter} = {value:g}" for letter, value in LETTERS.items())
    return join(
        paths,
        own,
        mapped,
        required={"prompt_id", "reward"},
        origin=Origin(format="inspect"),
        meanings={"reward": LETTERS} if letters else {},
        notes=(f"scores are letters: {said} (others by --map-value)",) if letters else (),
    )


def lm_eval_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """doc_id, doc, target, arguments, resps, filtered_resps, filter, hashes, and the metrics."""
    expect(file, "lm-eval", columns, ("doc_id", "filtered_resps"))
    own = {}
    if not {"prompt", "prompt_id"} & mapped:
        own["prompt_id"] = next(
            name for name in ("prompt_hash", "doc_hash", "doc_id") if name in columns
        )
    if "reward" not in mapped:
        metrics = [
            name
            for name, holds in columns.items()
            if holds in ("number", "bool") and name != "doc_id" and "." not in name
        ]
        own["reward"] = one_reward(file, "lm-eval", columns, metrics)
    if "filter" in columns:
        own["finish_reason"] = "filter"
    return join(
        paths,
        own,
        mapped,
        required={"reward"},
        derive=partial(_one_filter, seen=set(), lock=Lock()),
        origin=Origin(format="lm-eval"),
    )


def _one_filter(chunk: Chunk, seen: set[str], lock: Lock) -> Chunk:
    """Raise where a file holds several filters' lines of each sample: no mean is of both."""
    filters = chunk.columns.get("finish_reason")
    if filters is not None:
        with lock:
            seen |= set(filters.data.drop_null().to_pylist())
            names = sorted(seen)
        if len(names) > 1:
            shown = ", ".join(f"'{safe(name)}'" for name in names)
            raise LogError(
                f"{chunk.file}: expected one line per sample, found one per filter ({shown}); keep "
                f"one of them: jq -c 'select(.filter == \"{safe(names[0])}\")' {chunk.file} > "
                "one.jsonl."
            )
    return with_columns(chunk, {})


def lighteval_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """Details in Parquet: doc, metric, model_response, each a struct."""
    own = {"prompt": "doc.query"}
    if "reward" not in mapped:
        metrics = [
            name
            for name, holds in columns.items()
            if name.startswith(("metric.", "metrics.")) and holds in ("number", "bool")
        ]
        own["reward"] = one_reward(file, "lighteval", columns, metrics)
    return join(
        paths, own, mapped, required={"reward", "prompt"}, origin=Origin(format="lighteval")
    )


def reward_bench_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """scores_chosen, scores_rejected, results: was the chosen answer scored higher?"""
    own = {"reward": "results"}
    if not {"prompt", "prompt_id"} & mapped:
        name = next((n for n in ("id", "prompt", "text_chosen") if n in columns), "id")
        own["prompt_id" if name == "id" else "prompt"] = name
    return join(
        paths,
        own,
        mapped,
        required={"reward"},
        origin=Origin(format="reward-bench"),
        notes=("the reward is whether the chosen answer was scored above the rejected one",),
    )


def alpaca_layout(
    file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]
) -> Layout:
    """instruction, output_1, output_2, generator_2, preference: 1 for the first, 2 the second."""
    part = f"{REWARD_PART}preference"
    own = {"prompt": "instruction", "response": "output_2", part: "preference"}
    if "generator_2" in columns:
        own["policy"] = "generator_2"
    paths = {name: path for name, path in paths.items() if name != "reward" or name in mapped}
    made = "reward" not in mapped
    if not made:
        del own[part]
    return join(
        paths,
        own,
        mapped,
        required={"prompt"} | ({part} if made else set()),
        derived={"reward"} if made else (),
        derive=partial(_wins, part=part) if made else None,
        origin=Origin(format="alpaca-eval"),
        notes=("the reward is 1 where output_2 is preferred, 0 where output_1 is, 0.5 for a draw",)
        if made
        else (),
    )


def _wins(chunk: Chunk, part: str) -> Chunk:
    preference = chunk.columns[part]
    share = np.where(preference.data == 0, 1.5, preference.data) - 1.0
    wrong = ~((share >= 0) & (share <= 1)) & ~np.isnan(preference.data)
    for row in np.flatnonzero(wrong):
        chunk.problems.add(
            row, "preference", f"is {preference.data[row]:g}; expected 1 to 2, or 0 for a draw"
        )
    return with_columns(chunk, {"reward": Values(share, preference.missing)})

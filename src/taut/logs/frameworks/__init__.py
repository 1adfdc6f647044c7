"""Other people's logs: what trainers and evaluators write to disk, as native columns.

Each file says which versions of the writer's code it follows, and docs/formats.md what its log
lacks. Two rules hold for all: a prompt is known by its text or its tokens, never by a number that
starts anew with each batch; and log-probs are taken only in pairs from one engine.
"""

from collections.abc import Callable, Mapping
from functools import partial

from taut.errors import LogError
from taut.logs.frameworks import (
    evaluations,
    nemo_rl,
    open_instruct,
    prime_rl,
    rollouts,
    trl,
    verl,
)
from taut.logs.layout import Columns, Layout, native_layout


def choose(
    file: str,
    columns: Columns,
    *,
    paths: Mapping[str, str],
    format: str,
    mapped: frozenset[str] = frozenset(),
) -> Layout:
    """Return how a file is read.

    Args:
        file: Its name; a step or a run may be in it.
        columns: What its columns hold, in the order of the file.
        paths: Native name to path as the user gave it, or the name itself.
        format: One of FORMATS; "auto" goes by the columns.
        mapped: Native names that the user mapped, or left out.

    Raises:
        LogError: The file is not of that format, or it is not clear which column is the reward.
    """
    found = recognise(columns) if format == "auto" else format
    if found == "native":
        if format == "auto":
            _refuse_turns(file, columns)
        return native_layout(paths, mapped)
    return _LAYOUTS[found](file, columns, paths, mapped)


def _refuse_turns(file: str, columns: Columns) -> None:
    """Raise where rows are turns: each would count as a rollout, with the reward of its turn."""
    turns = {"trajectory_id", "episode_id"} & columns.keys()
    marks = {"is_last_step", "turn", "turn_idx", "turn_id"} & columns.keys()
    if turns and marks:
        last = "is_last_step" in marks
        keep = "jq -c 'select(.is_last_step)'" if last else "the last turn of each"
        raise LogError(
            f"{file}: expected a row per rollout, found a row per turn ('{sorted(turns)[0]}', "
            f"'{sorted(marks)[0]}'); keep one row per rollout ({keep}), or say --format native to "
            "take every row for a rollout."
        )


# Columns that only this writer's logs have; the first that fits wins, before native names.
_SIGNATURES: tuple[tuple[str, frozenset[str]], ...] = (
    ("prime-rl", prime_rl.SIGNATURE),
    ("open-instruct", frozenset({"prompt_tokens", "response_tokens", "finish_reason", "reward"})),
    ("verifiers", frozenset({"example_id", "prompt", "completion", "reward"})),
    ("skyrl", frozenset({"input_prompt", "output_response", "score"})),
    ("slime", frozenset({"prompt", "response", "reward", "status", "response_length"})),
    ("roll", frozenset({"global_step", "prompt", "responses", "scores"})),
    ("areal", frozenset({"task_id", "prompt_len", "head_version", "tail_version", "reward"})),
    ("nemo-gym", frozenset({"responses_create_params.input", "reward"})),
    ("tinker", frozenset({"example_id", "benchmark", "turns", "reward"})),
    ("tinker", frozenset({"group_idx", "traj_idx", "total_reward"})),
    ("lm-eval", frozenset({"doc_id", "filtered_resps", "resps"})),
    ("inspect", frozenset({"id", "epoch", "input", "target"})),
    ("reward-bench", frozenset({"scores_chosen", "scores_rejected", "results"})),
    ("alpaca-eval", frozenset({"instruction", "output_1", "output_2", "preference"})),
)


def recognise(columns: Columns) -> str:
    """Return which framework writes such columns; "native" where none is known to."""
    names = set(columns)
    start = list(columns)[:3] == ["step", "prompt", "completion"]
    if start and "advantage" in names:
        return "trl"
    if start and "advantages" in names:
        return "ms-swift"
    native = "reward" in names and {"prompt_id", "prompt"} & names
    verl_names = {"input", "output", "score", "step"} <= names and columns["output"] == "text"
    if verl_names and ("gts" in names or not native):  # `gts` is verl's alone
        return "verl"
    for format, signature in _SIGNATURES:
        if signature <= names:
            return format
    if "doc.query" in names and any(name.startswith(("metric.", "metrics.")) for name in names):
        return "lighteval"
    if native:
        return "native"
    wrapped = columns.get("rewards") == "list" or columns.get("input_lengths") == "list"
    if "idx" in names and wrapped and {"content", "token_loss_mask"} & names:
        return "nemo-rl"
    if {"run_name", "git_commit", "model_name", "timestamp"} == names:
        return "open-instruct"
    return "native"


_Layout = Callable[[str, Columns, Mapping[str, str], frozenset[str]], Layout]
_LAYOUTS: dict[str, _Layout] = {
    "trl": trl.layout,
    "verl": verl.layout,
    "nemo-rl": nemo_rl.layout,
    "open-instruct": open_instruct.layout,
    "prime-rl": prime_rl.layout,
    "ms-swift": rollouts.swift_layout,
    "tinker": rollouts.tinker_layout,
    "inspect": evaluations.inspect_layout,
    "lm-eval": evaluations.lm_eval_layout,
    "lighteval": evaluations.lighteval_layout,
    "reward-bench": evaluations.reward_bench_layout,
    "alpaca-eval": evaluations.alpaca_layout,
    **{format: partial(rollouts.layout, format=format) for format in rollouts.NAMES},
}

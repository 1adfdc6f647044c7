"""prime-rl's traces, and those of `vf-eval`: an episode a line, its traces with all tokens.

Read at prime-rl 559b44772 (monitors/file.py) and verifiers a60a606ec (v1/episode.py, v1/trace.py,
v1/graph.py). `rollouts/step_N/{train,eval}/all` holds what arrived; `effective` what was trained
on, without failed and filtered episodes: chosen by outcome. `logprobs` are those of the engine that
sampled, `reference_logprobs` those of the engine that serves the reference; both stand for sampled
tokens only.
"""

import os
from collections.abc import Mapping

from taut.logs.frameworks.common import join
from taut.logs.layout import Columns, Layout, NoRollouts
from taut.logs.origin import Origin

SIGNATURE = frozenset({"trace_id", "env", "prompt_id", "prompt", "reward", "kind"})


def is_episode(doc: Mapping) -> bool:
    """Say whether an object is an episode of verifiers."""
    return isinstance(doc.get("traces"), list) and isinstance(doc.get("task"), dict)


def rows(doc: dict) -> list[dict]:
    """Return a row for each trace of an episode; one without a reward where there is no trace."""
    run, task = doc.get("run") or {}, doc["task"] if isinstance(doc.get("task"), dict) else {}
    work = run.get("work") or {}
    shared = {
        "env": (doc.get("env") or {}).get("id"),
        "prompt_id": task.get("key") or task.get("hash"),
        "step": work.get("step"),
        "kind": work.get("type") or run.get("type") or "eval",
        "run": run.get("name") or run.get("id"),
    }
    traces = [trace for trace in doc.get("traces") or [] if isinstance(trace, dict)]
    trained = [trace for trace in traces if (trace.get("agent") or {}).get("trainable", True)]
    if not traces:
        empty = {"trace_id": doc.get("id"), "prompt": None, "reward": None}
        return [{**shared, **empty, "error": doc.get("errors") or "no trace"}]
    return [{**shared, **_row(trace, doc)} for trace in trained or traces]


def _row(trace: dict, episode: dict) -> dict:
    nodes = [node for node in trace.get("nodes") or [] if isinstance(node, dict)]
    rewards = {
        name: reward for name, reward in (trace.get("rewards") or {}).items() if reward is not None
    }
    total = sum(reward["score"] * reward.get("weight", 1.0) for reward in rewards.values())
    first = next((at for at, node in enumerate(nodes) if node.get("sampled")), len(nodes))
    failed = not trace.get("ok", True) or not episode.get("ok", True)
    errors = (trace.get("errors") or []) + (episode.get("errors") or [])
    calls = trace.get("calls") or []
    return {
        "trace_id": trace.get("id"),
        "prompt": [node.get("message") for node in nodes[:first]] or None,
        "response": [node.get("message") for node in nodes[first:]],
        "reward": total if rewards else None,
        "rewards": {name: reward["score"] for name, reward in rewards.items()},
        "error": (errors or "not ok") if failed else None,
        "truncated": any(call.get("finish_reason") == "length" for call in calls),
        **_tokens(nodes),
    }


def _tokens(nodes: list[dict]) -> dict:
    """Return log-probs of the sampled tokens, where the messages are one line without branches."""
    chain = all(node.get("parent") == (at - 1 if at else None) for at, node in enumerate(nodes))
    sampled = [node for node in nodes if node.get("sampled")]
    if not chain or not sampled or not all(node.get("logprobs") for node in sampled):
        return {"policy_logprobs": None, "ref_logprobs": None}
    lists = {"policy_logprobs": [x for node in sampled for x in node["logprobs"]]}
    known = all(node.get("reference_logprobs") is not None for node in sampled)
    reference = [x for node in sampled for x in node["reference_logprobs"]] if known else None
    # Alone, the sampler's log-probs have nothing to be subtracted from.
    own = lists if known else {"policy_logprobs": None}
    return {**own, "ref_logprobs": reference, "n_tokens": len(lists["policy_logprobs"])}


def layout(file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]) -> Layout:
    """Rows as `rows` makes them."""
    folder = os.path.dirname(file)
    kind = next((k for k in ("train", "eval") if f"/{k}/" in f"{folder}/"), "")
    chosen = os.path.basename(folder) == "effective"
    origin = Origin(format="prime-rl", part=kind, chosen=chosen)
    if chosen and os.path.isfile(os.path.join(folder, "..", "all", os.path.basename(file))):
        raise NoRollouts(
            f"{file}: expected all/{os.path.basename(file)} beside it, which holds every rollout; "
            "this one repeats some of them, chosen by outcome: name all/."
        )
    notes = ()
    if columns.get("ref_logprobs") == "list":
        notes = (
            "log-probs are those of the sampling engine and of the reference's server; the same "
            "engine has to serve both",
        )
    return join(paths, {}, mapped, required={"reward"}, origin=origin, notes=notes)

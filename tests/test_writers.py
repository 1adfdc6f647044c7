"""Logs of further trainers and evaluators, as rows that mirror what their writers make."""

import json

import pandas as pd
import pytest

import taut
from taut.errors import LogError
from taut.logs.frameworks import recognise
from taut.logs.origin import FORMATS, FRAMEWORKS


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts_of(rollouts):
    codes = {}
    return [codes.setdefault(key, len(codes)) for key in rollouts.prompt.tolist()]


def chat(question, answer=None):
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": question}]
    return said if answer is None else [*said, {"role": "assistant", "content": answer}]


# --- prime-rl and verifiers -----------------------------------------------------------------------


def episode(task, at, *, reference=True, kind="train", ok=True, step=3):
    """`Episode.to_record` of verifiers at a60a606ec, as prime-rl at 559b44772 writes it."""
    sampled = {
        "parent": 1,
        "message": {"role": "assistant", "content": f"answer {at}"},
        "sampled": True,
        "token_ids": [5, 6, 7],
        "mask": [False, True, True],
        "logprobs": [-0.5, -1.0 - at],
    }
    if reference:
        sampled["reference_logprobs"] = [-0.75, -1.0]
    asked = chat(f"question {task}")
    nodes = [
        {"parent": None, "message": asked[0], "token_ids": [1], "mask": [False]},
        {"parent": 0, "message": asked[1], "token_ids": [2], "mask": [False]},
        sampled,
    ]
    trace = {
        "id": f"t{task}-{at}",
        "agent": {"config": {}, "name": "agent", "trainable": True},
        "nodes": nodes,
        "calls": [{"node": 2, "finish_reason": "length" if at == 1 else "stop"}],
        "rewards": {
            "right": {"score": float(at % 2), "weight": 1.0},
            "form": {"score": 1.0, "weight": 0.5},
        },
        "ok": ok,
        "errors": [] if ok else [{"type": "ToolError", "message": "x"}],
    }
    return {
        "id": f"e{task}-{at}",
        "env": {"id": "math"},
        "task": {"type": "T", "data": {"q": task}, "key": f"key-{task}"},
        "run": {"type": "train", "id": "r", "name": "run", "work": {"type": kind, "step": step}},
        "ok": ok,
        "errors": [],
        "traces": [trace],
    }


def test_traces_of_prime_rl_give_the_objective_where_a_reference_scored_them(tmp_path):
    """Rewards are the weighted sums, prompts the tasks, log-ratios sums over sampled tokens."""
    rows = [episode(task, at) for task in range(3) for at in range(4)]
    log = write_lines(tmp_path / "rollouts/step_3/train/all/traces.jsonl", rows)
    rollouts = taut.read_rollouts(log, parts=True)
    assert rollouts.origin.format == "prime-rl" and not rollouts.origin.chosen
    assert rollouts.reward.tolist() == [0.5, 1.5] * 6
    assert rollouts.log_ratio.tolist() == [0.25 - at for _ in range(3) for at in range(4)]
    assert prompts_of(rollouts) == [task for task in range(3) for _ in range(4)]
    assert rollouts.step.tolist() == [3] * 12 and rollouts.n_tokens.tolist() == [2] * 12
    assert rollouts.truncated.tolist() == [False, True, False, False] * 3
    assert rollouts.part_names == ("right", "form")
    assert any("same engine" in note for note in rollouts.notes)
    bare = [episode(task, at, reference=False) for task in range(3) for at in range(4)]
    log = write_lines(tmp_path / "b/rollouts/step_3/train/all/traces.jsonl", bare)
    assert taut.read_rollouts(log).log_ratio is None


def test_what_prime_rl_chose_by_outcome_is_passed_over_or_said(tmp_path):
    """`effective` beside `all` is not read twice; by itself it is marked as chosen."""
    rows = [episode(task, at) for task in range(3) for at in range(4)]
    folder = tmp_path / "rollouts/step_3/train"
    write_lines(folder / "all/traces.jsonl", rows)
    write_lines(folder / "effective/traces.jsonl", rows[:6])
    assert len(taut.read_rollouts(tmp_path)) == 12
    (folder / "all/traces.jsonl").unlink()
    assert taut.read_rollouts(tmp_path).origin.chosen


def test_failed_episodes_count_and_lost_ones_stop(tmp_path):
    """An episode without a trace has no reward: what it earned has to be said."""
    rows = [episode(task, at, ok=at != 2, reference=False) for task in range(3) for at in range(4)]
    log = write_lines(tmp_path / "eval/all/traces.jsonl", rows)
    rollouts = taut.read_rollouts(log)
    assert rollouts.failed.sum() == 3 and any("say 'error'" in note for note in rollouts.notes)
    rows.append({**rows[0], "traces": [], "ok": False, "errors": [{"type": "Timeout"}]})
    write_lines(log, rows)
    with pytest.raises(LogError, match=r"traces\.jsonl:13: 'reward' is null.*reward:null=0"):
        taut.read_rollouts(log)
    kept = taut.read_rollouts(log, values={"reward": {"null": 0}})
    assert len(kept) == 13 and kept.failed.sum() == 4 and kept.reward[-1] == 0


# --- training rollouts with other names -----------------------------------------------------------


def verifiers_row(task, at):
    return {
        "example_id": task,
        "prompt": chat(f"q{task}"),
        "completion": [{"role": "assistant", "content": "a"}],
        "answer": "3",
        "reward": float(at % 2),
        "error": "Timeout" if at == 3 else None,
        "is_truncated": at == 1,
        "metrics": {"correct": 1.0},
    }


def skyrl_row(task, at):
    return {
        "input_prompt": chat(f"q{task}"),
        "output_response": "a",
        "score": float(at % 2),
        "stop_reason": "length" if at == 1 else "stop",
        "env_class": "gsm8k",
        "data_source": "d",
    }


def slime_row(task, at):
    return {
        "group_index": task,
        "index": 4 * task + at,
        "prompt": f"q{task}",
        "response": "a",
        "response_length": 3,
        "label": "42",
        "reward": float(at % 2),
        "status": "truncated" if at == 1 else "completed",
        "rollout_log_probs": [-1.0, -2.0, -1.0],
    }


def areal_row(task, at):
    return {
        "task_id": task,
        "sample_idx": at,
        "seqlen": 9,
        "prompt_len": 5,
        "head_version": 1,
        "tail_version": 2,
        "reward": float(at % 2),
        "prompt": f"q{task}",
        "completion": "a",
    }


def nemo_gym_row(task, at):
    return {
        "_ng_task_index": task,
        "_ng_rollout_index": at,
        "responses_create_params": {"input": chat(f"q{task}")},
        "response": {"output": []},
        "group": {"name": "x"},
        "reward": float(at % 2),
    }


ROWS = {
    "verifiers": verifiers_row,
    "skyrl": skyrl_row,
    "slime": slime_row,
    "areal": areal_row,
    "nemo-gym": nemo_gym_row,
}


@pytest.mark.parametrize("format", ROWS)
def test_rollouts_with_other_names_are_read_without_a_mapping(format, tmp_path):
    """Prompts by their text, rewards, lengths and cuts, and who wrote them."""
    rows = [ROWS[format](task, at) for task in range(3) for at in range(4)]
    for how in ("auto", format):
        rollouts = taut.read_rollouts(write_lines(tmp_path / "a.jsonl", rows), format=how)
        assert rollouts.origin.format == format
        assert rollouts.reward.tolist() == [0.0, 1.0] * 6
        assert prompts_of(rollouts) == [task for task in range(3) for _ in range(4)]
        assert rollouts.group is None and rollouts.log_ratio is None
        if format in ("verifiers", "skyrl", "slime"):
            assert rollouts.truncated.tolist() == [False, True, False, False] * 3
    reward = "score" if format == "skyrl" else "reward"
    mapped = taut.read_rollouts(tmp_path / "a.jsonl", mapping={"gold": reward})
    assert mapped.gold.tolist() == rollouts.reward.tolist()


def test_summaries_of_tinker_know_prompts_within_an_iteration(tmp_path):
    """`group_idx` starts anew with each iteration, so the iteration is part of the id."""
    for step in (0, 1):
        rows = [
            {"group_idx": g, "traj_idx": t, "total_reward": float(t)}
            for g in range(3)
            for t in range(2)
        ]
        write_lines(tmp_path / f"iteration_{step:06d}/train_rollout_summaries.jsonl", rows)
    rollouts = taut.read_rollouts(tmp_path)
    assert rollouts.origin.format == "tinker"
    assert prompts_of(rollouts) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


# --- evaluations ----------------------------------------------------------------------------------


def test_a_log_of_inspect_in_json_has_its_epochs_as_rollouts(tmp_path):
    """The samples of the log; several scorers are asked for; errors stop until they are said."""
    samples = [
        {
            "id": f"s{i}",
            "epoch": epoch,
            "input": f"q{i}",
            "target": "x",
            "scores": {"exact": {"value": "CIPN"[i]}, "len": {"value": {"a": 1}}},
            "error": None,
        }
        for i in range(4)
        for epoch in (1, 2)
    ]
    log = tmp_path / "a.json"
    log.write_text(json.dumps({"version": 2, "eval": {}, "samples": samples}, indent=1))
    rollouts = taut.read_rollouts(log)
    assert rollouts.reward.tolist() == [1, 1, 0, 0, 0.5, 0.5, 0, 0]
    assert prompts_of(rollouts) == [0, 0, 1, 1, 2, 2, 3, 3]
    samples[0]["scores"]["other"] = {"value": 0.5}
    log.write_text(json.dumps({"eval": {}, "samples": samples}))
    with pytest.raises(LogError, match=r"--map reward=scores\.exact\.value"):
        taut.read_rollouts(log)
    samples[0] |= {"scores": None, "error": {"message": "x"}}
    log.write_text(json.dumps({"eval": {}, "samples": samples}))
    with pytest.raises(LogError, match="--lenient"):
        taut.read_rollouts(log)


def test_filters_of_lm_eval_are_asked_for_never_averaged(tmp_path):
    """One line per sample and filter: the mean over both would be of nothing."""
    rows = [
        {
            "doc_id": i,
            "doc": {"q": i},
            "target": "1",
            "arguments": {"gen_args_0": {"arg_0": f"q{i}"}},
            "resps": [["1"]],
            "filtered_resps": ["1"],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": f"h{i}",
            "prompt_hash": f"p{i}",
            "exact_match": float(i % 2),
        }
        for name in ("strict-match", "flexible-extract")
        for i in range(6)
    ]
    log = write_lines(tmp_path / "samples_gsm8k_2026.jsonl", rows)
    with pytest.raises(LogError, match=r"one per filter \('flexible-extract', 'strict-match'\)"):
        taut.read_rollouts(log)
    rollouts = taut.read_rollouts(write_lines(log, rows[:6]))
    assert rollouts.origin.format == "lm-eval" and rollouts.reward.tolist() == [0.0, 1.0] * 3
    for row in rows[:6]:
        row["acc"] = 1.0
    with pytest.raises(LogError, match=r"'exact_match', 'acc'.*--map reward=exact_match"):
        taut.read_rollouts(write_lines(log, rows[:6]))


def test_two_measures_of_success_are_two_logs(tmp_path):
    """One folder, two tasks with two metrics: no mean is of both."""
    shared = {"target": "1", "arguments": {}, "resps": [["1"]], "filtered_resps": ["1"]}
    for task, metric in (("a", "acc"), ("b", "exact_match")):
        rows = [{"doc_id": i, **shared, "doc_hash": f"{task}{i}", metric: 1.0} for i in range(4)]
        write_lines(tmp_path / f"samples_{task}.jsonl", rows)
    with pytest.raises(LogError, match=r"samples_b.*'exact_match'.*samples_a.*'acc'"):
        taut.read_rollouts(tmp_path)


def test_details_of_lighteval_are_read_from_their_structs(tmp_path):
    """The query is the prompt, the metric the reward."""
    table = pd.DataFrame(
        {
            "doc": [{"query": f"q{i}", "id": str(i)} for i in range(4)],
            "metric": [{"extractive_match": float(i % 2)} for i in range(4)],
            "model_response": [{"text": ["a"]} for _ in range(4)],
        }
    )
    table.to_parquet(tmp_path / "details.parquet")
    rollouts = taut.read_rollouts(tmp_path / "details.parquet")
    assert rollouts.origin.format == "lighteval" and rollouts.reward.tolist() == [0, 1, 0, 1]


def test_preferences_of_alpaca_eval_are_wins_of_the_second(tmp_path):
    """1 is a loss, 2 a win, 0 or 1.5 a draw; a null preference is no silent loss."""
    rows = [
        {
            "instruction": f"q{i}",
            "output_1": "a",
            "generator_1": "m0",
            "output_2": "b",
            "generator_2": "m1",
            "preference": preference,
        }
        for i, preference in enumerate([1.0, 2.0, 1.5, 0.0, 1.25])
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(rows, indent=1))
    rollouts = taut.read_rollouts(tmp_path / "annotations.json")
    assert rollouts.reward.tolist() == [0.0, 1.0, 0.5, 0.5, 0.25]
    assert rollouts.policy_names == ("m1",)
    rows[2]["preference"] = None
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    with pytest.raises(LogError, match=r"annotations\.json:3:"):
        taut.read_rollouts(tmp_path / "annotations.json")


def test_results_of_reward_bench_are_whether_the_chosen_scored_higher(tmp_path):
    """Of each pair one number: right or wrong."""
    rows = [
        {"id": i, "subset": "s", "scores_chosen": 1.0, "scores_rejected": 0.5, "results": i % 2}
        for i in range(4)
    ]
    rollouts = taut.read_rollouts(write_lines(tmp_path / "a.jsonl", rows))
    assert rollouts.origin.format == "reward-bench" and rollouts.reward.tolist() == [0, 1, 0, 1]


def test_every_format_says_what_it_lacks_and_what_to_do():
    """What --format names is documented in the same words everywhere."""
    assert set(FRAMEWORKS) == set(FORMATS) - {"auto", "native"}
    for known in FRAMEWORKS.values():
        assert known.title and known.lacks and known.certified and known.remedy


def test_own_names_are_no_frameworks():
    """A native log with a column or two of somebody else's stays native."""
    columns = {"prompt_id": "text", "reward": "number", "score": "number", "status": "text"}
    assert recognise(columns) == "native"

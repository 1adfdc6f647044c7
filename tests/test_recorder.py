"""The recorder: the log holds what happened, once, whole, and the audit reads it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import LogError, UsageError

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
)

import killed_run  # noqa: E402
import tiny  # noqa: E402
from taut.training import ClippedKLReward, ClippedKLRLOOTrainer, record  # noqa: E402
from taut.training.recording.facts import held_out  # noqa: E402
from taut.training.recording.log import Log, write_rollouts  # noqa: E402
from taut.training.recording.recorder import Recorder  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model"))


def start(log, *command, **environment):
    """Start another process, on one thread, that goes on while other tests run."""
    with open(log, "w") as output:
        return subprocess.Popen(
            [sys.executable, *command],
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            | environment,
            cwd=HERE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def finish(process, log):
    """Wait for a process; return its exit status and what it said."""
    status = process.wait(timeout=300)
    return status, Path(log).read_text()


@pytest.fixture(scope="module", autouse=True)
def two_ranks(model, tmp_path_factory):
    """A run in two processes, begun before the first test and read by the last."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        start(
            folder / f"rank{rank}.txt",
            "two_ranks.py",
            model,
            str(folder),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **shared,
        )
        for rank in range(2)
    ]
    yield folder, processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", autouse=True)
def killed(model, tmp_path_factory):
    """A run that is killed in its sixth step, one step after its second checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    process = start(folder / "output.txt", "killed_run.py", model, str(folder), "5")
    yield folder, process
    process.kill()
    process.wait()


def trainer(model, folder, kind="RLOO", **changes):
    """Return a recorded trainer's inner part: TRL's own class with tiny settings."""
    config, base = getattr(trl, f"{kind}Config"), getattr(trl, f"{kind}Trainer")
    rewards = changes.pop("reward_funcs", tiny.reward_even)
    more = {name: changes.pop(name) for name in ("eval_dataset", "peft_config") if name in changes}
    rows = changes.pop("train_dataset", None) or tiny.make_prompts()
    return base(
        model=model,
        reward_funcs=rewards,
        args=config(**tiny.settings(folder, **changes)),
        train_dataset=rows,
        **more,
    )


def read(folder):
    """Return all rows of a log, file by file."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(Path(folder).glob("*.parquet")))


def facts_of(path):
    """Return what a file knows of its log."""
    return json.loads(pq.read_schema(path).metadata[b"taut.facts"])


def test_log_holds_what_the_trainer_saw(model, tmp_path):
    """One row per rollout: reward without the KL, unclipped log-probs, labels, lengths."""
    seen = []

    def reward(completion_ids, prompt_id, **_):
        values = tiny.reward_even(completion_ids)
        seen.extend(zip(prompt_id, values, map(len, completion_ids), strict=True))
        return values

    def gold(completion_ids, prompt_id, **_):
        return [
            None if p in ("p0", "p1") else float(len(c))
            for p, c in zip(prompt_id, completion_ids, strict=True)
        ]

    run = ClippedKLRLOOTrainer(
        model=model,
        reward_funcs=reward,
        args=trl.RLOOConfig(**tiny.settings(tmp_path / "out", beta=0.1, max_steps=8)),
        train_dataset=tiny.make_prompts(),
        tau=0.2,
    )
    record(run, tmp_path / "log", gold=gold, token_lists=True, run="r", policy="tiny")
    run.train()
    log = read(tmp_path / "log").to_pydict()
    assert list(zip(log["prompt_id"], log["reward"], log["n_tokens"], strict=True)) == [
        (p, pytest.approx(r, abs=1e-6), n) for p, r, n in seen
    ]
    assert log["step"] == [s for s in range(8) for _ in range(8)]
    assert set(log["run"]) == {"r"} and set(log["policy"]) == {"tiny"}
    for p, label, n in zip(log["prompt_id"], log["gold"], log["n_tokens"], strict=True):
        assert label == (None if p in ("p0", "p1") else n)
    assert any(log["truncated"]) and not all(log["truncated"])
    assert all(n == 8 for n, cut in zip(log["n_tokens"], log["truncated"], strict=True) if cut)
    for role in ("policy", "ref", "behaviour"):
        for total, tokens, n in zip(
            log[f"{role}_logprob"], log[f"{role}_logprobs"], log["n_tokens"], strict=True
        ):
            assert len(tokens) == n
            assert total == pytest.approx(np.sum(tokens, dtype=float), abs=1e-9)
    log_ratio = np.subtract(log["policy_logprob"], log["ref_logprob"]).reshape(8, 8)
    lines = run.state.log_history[:8]
    np.testing.assert_allclose(log_ratio.mean(1), [x["kl/sequence"] for x in lines], atol=1e-5)
    assert np.abs(log_ratio).max() > 1.0, "the log holds clipped log-ratios"


def test_audit_reads_the_log(model, tmp_path):
    """`taut audit` takes the folder as it is; recurring prompts make it an estimate."""
    run = trainer(model, tmp_path / "out", beta=0.1, max_steps=10)
    record(run, tmp_path / "log", gold=tiny.reward_even)
    run.train()
    rollouts = taut.read_rollouts(tmp_path / "log")
    certificate = taut.audit(rollouts, beta=0.1, reward_range=(0, 1), target="reward")
    assert certificate.status == "estimated"
    assert certificate.lower <= np.mean(read(tmp_path / "log")["reward"]) <= certificate.upper
    assert rollouts.step.max() == 9  # what --by step divides the log by


def test_token_lists_have_the_fast_format(tmp_path):
    """No list level can be null, values are byte-stream-split, row groups are small."""
    rng = np.random.default_rng(0)
    lists = [rng.normal(size=rng.integers(0, 9)).astype(np.float32) for _ in range(9000)]
    columns = {
        "prompt_id": [f"p{i}" for i in range(9000)],
        "reward": rng.normal(size=9000),
        "gold": np.where(rng.random(9000) < 0.5, np.nan, 1.0),
        "policy_logprob": [row.sum(dtype=float) for row in lists],
        "policy_logprobs": lists,
    }
    write_rollouts(columns, tmp_path / "log.parquet", metadata={"taut.temperature": "0.7"})
    file = pq.ParquetFile(tmp_path / "log.parquet")
    kind = file.schema_arrow.field("policy_logprobs")
    assert not kind.nullable and not kind.type.value_field.nullable
    assert kind.type.value_type == pa.float32()
    assert file.metadata.num_row_groups == 3
    group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    values = columns["policy_logprobs.list.element"]
    assert "BYTE_STREAM_SPLIT" in values.encodings and not values.has_dictionary_page
    assert values.compression == "ZSTD"
    table = file.read()
    assert table.column("gold").null_count > 0
    assert [len(row) for row in table["policy_logprobs"].to_pylist()] == list(map(len, lists))
    assert table.schema.metadata[b"taut.temperature"] == b"0.7"


def test_grpo_without_a_reference_records_what_there_is(model, tmp_path):
    """beta=0: rewards alone; with extra_forward both log-probs, against the policy at the start."""
    plain = trainer(model, tmp_path / "out", "GRPO", beta=0.0, max_steps=1)
    with pytest.warns(UserWarning, match=r"GRPO's default.*target reward.*extra_forward=True"):
        record(plain, tmp_path / "plain")
    plain.train()
    assert "ref_logprob" not in read(tmp_path / "plain").column_names

    full = trainer(model, tmp_path / "out", "GRPO", beta=0.0)
    record(full, tmp_path / "full", extra_forward=True)
    full.train()
    log = read(tmp_path / "full")
    log_ratio = np.subtract(log["policy_logprob"], log["ref_logprob"]).reshape(3, 8)
    assert np.abs(log_ratio[0]).max() < 1e-3 < np.abs(log_ratio[2]).max()


def test_the_penalty_as_reward_is_recorded_apart(model, tmp_path):
    """With ClippedKLReward the reward is without it and its log-probs are used, at no forward."""
    penalty = ClippedKLReward(tau=0.2)
    run = trainer(
        model,
        tmp_path / "out",
        "GRPO",
        beta=0.0,
        reward_funcs=[tiny.reward_even, penalty],
        reward_weights=[2.0, 0.1],
        scale_rewards="none",
    )
    penalty.attach(run)
    record(run, tmp_path / "log", token_lists=True)
    run.train()
    log = read(tmp_path / "log")
    lines = run.state.log_history[:3]
    rewards = np.array(log["reward"]).reshape(3, 8).mean(1)
    np.testing.assert_allclose(
        rewards, [2 * x["rewards/reward_even/mean"] for x in lines], atol=1e-6
    )
    log_ratio = np.subtract(log["policy_logprob"], log["ref_logprob"]).reshape(3, 8).mean(1)
    np.testing.assert_allclose(log_ratio, [x["kl/sequence"] for x in lines], atol=1e-5)
    assert [len(row) for row in log["ref_logprobs"].to_pylist()] == log["n_tokens"].to_pylist()


def test_masked_rollouts_are_never_given_zeros_for_log_probs(model, tmp_path):
    """mask_truncated_completions hides log-probs: none are written, or true ones on request."""
    settings = {"beta": 0.1, "mask_truncated_completions": True, "max_steps": 2}
    run = trainer(model, tmp_path / "out", **settings)
    with pytest.warns(UserWarning) as warned:
        record(run, tmp_path / "log")
    assert [str(w.message).partition(":")[0] for w in warned] == ["truncation", "log_probs"]
    run.train()
    assert "policy_logprob" not in read(tmp_path / "log").column_names
    run = trainer(model, tmp_path / "out", **settings)
    record(run, tmp_path / "full", check=False, extra_forward=True)
    run.train()
    log = read(tmp_path / "full").to_pydict()
    assert any(log["truncated"])
    assert max(log["policy_logprob"]) < 0 > max(log["ref_logprob"])


def test_several_generations_in_a_step_share_its_file(model, tmp_path):
    """steps_per_generation below the accumulation: all rollouts of the step are in one file."""
    run = trainer(
        model,
        tmp_path / "out",
        beta=0.1,
        gradient_accumulation_steps=2,
        steps_per_generation=1,
        max_steps=2,
    )
    record(run, tmp_path / "log")
    run.train()
    assert [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "log").iterdir())] == [16, 16]


def test_evaluations_go_to_a_log_of_their_own(model, tmp_path):
    """Held-out prompts are what a certificate can rest on; they are kept apart."""
    run = trainer(
        model,
        tmp_path / "out",
        beta=0.1,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
        eval_dataset=tiny.make_prompts(40).select(range(30, 33)),
    )
    record(run, tmp_path / "log", evaluation=tmp_path / "held_out", reward_range=(0, 1))
    run.train()
    table = read(tmp_path / "held_out")
    held_out = table.to_pydict()
    assert set(held_out["prompt_id"]) == {"p30", "p31", "p32"}
    assert sorted(set(held_out["step"])) == [1, 2]
    assert len(held_out["step"]) == 2 * 3 * 4
    assert len(read(tmp_path / "log")) == 16
    tokenizer, words = run.processing_class, tiny.make_prompts(40)["prompt"]
    for row in table.to_pylist():
        assert row["prompt"] == words[int(row["prompt_id"][1:])]
        assert tokenizer.decode(row["prompt_ids"]) == row["prompt"]
        assert tokenizer.decode(row["response_ids"], skip_special_tokens=True) == row["response"]
        assert len(row["response_ids"]) == row["n_tokens"]
        assert row["rewards.reward_even"] == pytest.approx(row["reward"])
    ids = held_out["rollout_id"] + read(tmp_path / "log")["rollout_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 40 and "out/eval/1/0/0" in ids
    for name, held, prompts in (("held_out", True, 3), ("log", False, 2)):
        for path in (tmp_path / name).iterdir():
            facts = facts_of(path)
            assert facts["held_out"] is held and facts["complete"] is True
            assert facts["launched_prompts"] == prompts and facts["rollouts_per_prompt"] == 4
            assert (facts["beta"], facts["reward_range"]) == (0.1, [0, 1])
            assert facts["starts_at_reference"] and "trl" in facts["log_probs"]
            assert "held_out" in facts["recorded"] and "gold_range" not in facts
    assert "prompt" not in read(tmp_path / "log").column_names
    facts = taut.read_rollouts(tmp_path / "held_out").facts
    assert (facts.launched_prompts, facts.rollouts_per_prompt, facts.complete) == (6, 4, True)
    assert facts.stands("held_out") == "recorded" and facts.notes == ()


def test_an_evaluation_on_training_prompts_is_not_called_held_out(model, tmp_path):
    """A prompt that also trains, by its words, is found, whatever its id."""
    seen = tiny.make_prompts(40, ids=False).select(range(15, 18))
    run = trainer(model, tmp_path / "out", beta=0.1, eval_dataset=seen)
    recorder = record(run, tmp_path / "log", evaluation=tmp_path / "held_out")
    assert recorder.logs["eval"].facts["held_out"] is False
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in ("a", "b", "c")]
    for training, found in ((rows[:2], True), (rows, False), (iter(rows), None)):
        given = SimpleNamespace(train_dataset=training, eval_dataset={"all": rows[2:]})
        assert held_out(given) is found


def test_prompts_that_steer_the_run_are_not_held_out(model, tmp_path):
    """Where early stopping looks at the evaluations, the log does not call them held out."""
    from transformers import EarlyStoppingCallback

    run = trainer(model, tmp_path / "out", beta=0.1, eval_dataset=tiny.make_prompts(40).skip(30))
    recorder = record(run, tmp_path / "log", evaluation=tmp_path / "held_out")
    assert recorder.logs["eval"].facts["held_out"] is True
    run.add_callback(EarlyStoppingCallback())
    with pytest.warns(UserWarning, match="EarlyStoppingCallback, which steers the run"):
        recorder.begin(0)
    assert recorder.logs["eval"].facts["held_out"] is False


def test_words_and_columns_of_the_data_set_are_kept_on_request(model, tmp_path):
    """text=True writes words in the training log, keep= the data set's columns, parts apart."""

    def half(completion_ids, **_):
        return [0.5 if len(ids) % 2 else None for ids in completion_ids]

    rows = tiny.make_prompts()
    rows = rows.add_column("domain", [f"d{i % 2}" for i in range(len(rows))])
    run = trainer(
        model,
        tmp_path / "out",
        beta=0.1,
        max_steps=1,
        train_dataset=rows,
        reward_funcs=[tiny.reward_even, half],
        reward_weights=[1.0, 2.0],
    )
    for keep, said in (("domain", "a list"), (["topic"], "'topic' in"), (["step"], "log itself")):
        with pytest.raises(UsageError, match=said):
            record(run, tmp_path / "log", keep=keep)
    record(run, tmp_path / "log", text=True, keep=("domain",))
    run.train()
    log = read(tmp_path / "log").to_pylist()
    for row in log:
        assert row["domain"] == f"d{int(row['prompt_id'][1:]) % 2}"
        assert isinstance(row["response"], str) and row["response_ids"]
        assert row["rewards.half"] == (0.5 if row["n_tokens"] % 2 else None)
        parts = row["rewards.reward_even"] + 2 * (row["rewards.half"] or 0)
        assert row["reward"] == pytest.approx(parts, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [({"top_p": 0.5}, "both logs hold"), ({"dropout": 0.1}, "the train log holds")],
)
def test_what_spoils_the_kl_alone_leaves_the_rewards(changes, lost, model, tmp_path):
    """Dropout and top-p cost the log-probs they make wrong, said aloud, and no more."""
    from peft import LoraConfig

    dropout = changes.pop("dropout", 0.0)
    adapters = LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout)
    run = trainer(
        model,
        tmp_path / "out",
        beta=0.1,
        max_steps=1,
        peft_config=adapters if dropout else None,
        disable_dropout=False,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
        eval_dataset=tiny.make_prompts(40).select(range(30, 33)),
        **changes,
    )
    with pytest.warns(UserWarning, match=f"{lost} rewards alone.*clipped and objective are lost"):
        record(run, tmp_path / "log", evaluation=tmp_path / "held_out")
    run.train()
    log, held_out = read(tmp_path / "log"), read(tmp_path / "held_out")
    assert "policy_logprob" not in log.column_names and log["reward"].null_count == 0
    assert ("policy_logprob" in held_out.column_names) == bool(dropout)


def test_messages_are_kept_as_messages(tmp_path):
    """Prompts may be conversations; what Arrow has no type for is kept as JSON."""
    talk = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]
    odd = [{"content": "text"}, {"content": [1]}]
    columns = {"prompt_id": [1, 2], "reward": [0.0, 1.0], "prompt": talk, "odd": odd}
    write_rollouts(columns, tmp_path / "log.parquet")
    rows = pq.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row["prompt"] for row in rows] == talk
    assert [json.loads(row["odd"]) for row in rows] == odd
    assert len(taut.read_rollouts(tmp_path / "log.parquet").reward) == 2


def test_unscored_rollouts_are_counted_not_written(model, tmp_path):
    """Where no reward function scored a rollout there is no reward; the log says how many."""

    def reward(completion_ids, **_):
        return [None if i == 0 else 0.5 for i in range(len(completion_ids))]

    run = trainer(model, tmp_path / "out", beta=0.1, max_steps=1, reward_funcs=reward)
    record(run, tmp_path / "log")
    run.train()
    log = read(tmp_path / "log")
    assert len(log) == 7
    assert log.schema.metadata[b"taut.rejected_rows"] == b"1"
    assert facts_of(next((tmp_path / "log").iterdir()))["complete"] is False


def test_an_infinite_reward_is_not_taken_for_unscored(tmp_path):
    """Rows without a reward are left out; an infinite one stays, for the reader to refuse."""
    log = Log(str(tmp_path))
    columns = {"prompt_id": ["a", "b", "c"], "reward": [1.0, np.nan, np.inf], "step": [0, 0, 0]}
    log.add(0, columns, draws=3)
    log.write(0, {})
    written = read(tmp_path)
    assert written["reward"].to_pylist() == [1.0, np.inf]
    assert written.schema.metadata[b"taut.rejected_rows"] == b"1"


def test_infinities_that_cancel_are_no_missing_score():
    """A missing part of a weighted reward counts as nothing; inf - inf stays infinite."""
    import torch

    from taut.training.recording.columns import weighted_reward

    functions = SimpleNamespace(reward_weights=torch.tensor([1.0, 2.0]), reward_funcs=[len, len])
    nan, inf = np.nan, np.inf
    parts = torch.tensor([[1.0, 3.0], [1.0, nan], [nan, nan], [inf, -inf]])
    np.testing.assert_array_equal(weighted_reward(functions, parts), [7.0, 1.0, nan, inf])


def test_a_column_of_some_batches_is_left_out_aloud(tmp_path):
    """What came with a part of a step's batches cannot stand in its file: the recorder says so."""
    log = Log(str(tmp_path))
    one = {"prompt_id": ["a"], "reward": [1.0], "step": [3], "policy_logprob": [-1.0]}
    log.add(3, one, draws=1)
    log.add(3, {"prompt_id": ["b"], "reward": [0.0], "step": [3]}, draws=1)
    with pytest.warns(UserWarning, match="step 3: policy_logprob came with some batches"):
        log.write(0, {})
    assert "policy_logprob" not in read(tmp_path).column_names


def test_a_kl_penalty_alone_is_no_reward():
    """A run whose only reward function is the KL penalty has nothing to audit."""

    def penalty(**_):
        return []

    penalty.is_kl_penalty = True
    run = SimpleNamespace(reward_funcs=[penalty])
    recorder = Recorder(trainer=run, run="r", policy="p", logs={})
    with pytest.raises(UsageError, match="no reward to audit"):
        recorder.attach()


def test_a_new_run_does_not_mix_with_an_old_log(model, tmp_path):
    """Starting over into a folder with a log is refused, or replaces it when told to."""
    for overwrite in (False, True):
        run = trainer(model, tmp_path / "out", beta=0.1, max_steps=2 - overwrite)
        record(run, tmp_path / "log", overwrite=overwrite)
        run.train()
    assert len(list((tmp_path / "log").iterdir())) == 1
    run = trainer(model, tmp_path / "out", beta=0.1, max_steps=1)
    record(run, tmp_path / "log")
    with pytest.raises(LogError, match="overwrite=True"):
        run.train()


def test_detach_gives_the_trainer_back(model, tmp_path):
    """After detach nothing is written and the trainer's methods are its own."""
    run = trainer(model, tmp_path / "out", beta=0.1, max_steps=1)
    record(run, tmp_path / "log").detach()
    run.train()
    assert not (tmp_path / "log").exists()
    assert "_calculate_rewards" not in vars(run)


def test_no_reader_sees_a_half_written_file(tmp_path):
    """A writer killed without warning, at any moment, leaves whole files only."""
    code = (
        "import sys, numpy as np; from taut.training.recording.log import write_rollouts\n"
        "rows = np.random.default_rng(0).normal(size=200_000)\n"
        "lists = list(rows.astype(np.float32)[:20_000].reshape(-1, 1))\n"
        "columns = {'prompt_id': np.arange(20_000), 'reward': rows[:20_000],"
        " 'policy_logprobs': lists}\n"
        "for step in range(10**6):\n"
        "    write_rollouts(columns, f'{sys.argv[1]}/step_{step:08d}-rank_00000.parquet')\n"
    )
    for wait in (0.0, 0.017):
        process = start(tmp_path / "output.txt", "-c", code, str(tmp_path))
        seen = len(list(tmp_path.glob("*.parquet")))
        while len(list(tmp_path.glob("step*.parquet"))) < seen + 2 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(len(pq.read_table(p)) == 20_000 for p in tmp_path.glob("step*.parquet"))
        for path in tmp_path.glob("step*.parquet"):
            path.unlink()


def test_three_lines_give_an_existing_script_its_audit(model, tmp_path, monkeypatch):
    """The lines of the page and its command, run as they stand there, after a user's script."""
    page = (HERE.parent / "docs" / "training.md").read_text()
    lines = re.search(r"<!-- three lines -->\n```python\n(.*?)```", page, re.DOTALL).group(1)
    assert len([line for line in lines.splitlines() if line]) == 3
    monkeypatch.chdir(tmp_path)
    exec(lines, {"trainer": trainer(model, tmp_path / "out", beta=0.05)})
    command = re.search(r"# then: taut (.*)", lines).group(1)
    result = CliRunner().invoke(cli, command.split())
    assert result.exit_code == 0, result.output
    assert "estimated" in result.output or "vacuous" in result.output


def test_killed_run_goes_on_with_nothing_lost_or_doubled(model, killed):
    """Killed after step 4's file and before step 5's, resumed: the log of an unbroken run."""
    folder, process = killed
    status, output = finish(process, folder / "output.txt")
    assert status == -signal.SIGKILL, output
    steps = {int(p.name[5:13]) for p in (folder / "log").iterdir()}
    assert steps == {0, 1, 2, 3, 4}, output
    again = killed_run.make_trainer(model, folder)
    again.train(resume_from_checkpoint=True)
    whole = killed_run.make_trainer(model, folder / "whole")
    whole.train()
    one, two = read(folder / "log"), read(folder / "whole" / "log")
    drop = [name for name in one.column_names if "logprob" in name]
    assert one.drop(drop).equals(two.drop(drop))
    for name in drop:
        np.testing.assert_allclose(one[name], two[name], atol=1e-4)


def test_two_ranks_record_each_rollout_once(two_ranks):
    """Each rank writes its own rows; together they make the advantages and metrics of the run."""
    folder, processes = two_ranks
    for rank, process in enumerate(processes):
        status, output = finish(process, folder / f"rank{rank}.txt")
        assert status == 0, output
    names = sorted(p.name for p in (folder / "log").iterdir())
    assert names == [f"step_{s:08d}-rank_{r:05d}.parquet" for s in range(3) for r in range(2)]
    lines = json.loads((folder / "state.json").read_text())["log_history"]
    advantages = [np.load(folder / f"advantages{rank}.npy") for rank in range(2)]
    for step in range(3):
        ranks = [
            pq.read_table(folder / "log" / f"step_{step:08d}-rank_{rank:05d}.parquet")
            for rank in range(2)
        ]
        facts = [json.loads(table.schema.metadata[b"taut.facts"]) for table in ranks]
        assert sum(known["launched_prompts"] for known in facts) == 3
        rows = pa.concat_tables(ranks)
        assert len(set(rows["rollout_id"].to_pylist())) == 12
        assert len(rows) == 12 and len(set(rows["prompt_id"].to_pylist())) == 3
        log_ratio = np.subtract(rows["policy_logprob"], rows["ref_logprob"])
        clipped = np.clip(log_ratio, -0.3, 0.3)
        total = (np.array(rows["reward"]) - 0.1 * clipped).reshape(3, 4)
        expected = total - (total.sum(1, keepdims=True) - total) / 3
        found = np.concatenate([values[step] for values in advantages])
        np.testing.assert_allclose(found, expected.ravel(), atol=1e-6)
        assert lines[step]["kl/sequence"] == pytest.approx(log_ratio.mean(), abs=1e-5)
        assert lines[step]["kl/clip_share"] == pytest.approx((clipped != log_ratio).mean())
    assert np.abs(log_ratio).max() > 0.3, "nothing was clipped"

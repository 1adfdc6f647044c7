"""Other people's logs: files made by TRL itself, and by functions that mirror the writers' code."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import taut
from check import blocks_of
from taut.cli import cli
from taut.errors import LogError, UsageError
from taut.logs.frameworks import recognise
from taut.logs.keys import prefix_keys
from taut.logs.origin import FORMATS, FRAMEWORKS, Origin
from taut.logs.tokens import Tokens, first_marked, select_tokens


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def health(rollouts, name, **ranges):
    return next(check for check in taut.check(rollouts, **ranges) if check.check == name)


def prompts_of(rollouts):
    """Which rows share a prompt, whatever its key: codes in order of appearance."""
    codes = {}
    return [codes.setdefault(key, len(codes)) for key in rollouts.prompt.tolist()]


# --- TRL: the file that its trainer writes --------------------------------------------------------


def share_of_w1(completions, **_):
    return [text.count("w1") / 8 for text in completions]


def is_short(completions, **_):
    return [float(len(text) < 20) for text in completions]


@pytest.fixture(scope="module")
def trl_runs(tmp_path_factory):
    """Three runs of GRPO with log_completions: one reward, two rewards, each batch used twice."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("HF_HUB_OFFLINE", "1")
        warnings.simplefilter("ignore")  # those of the libraries, not ours
        from datasets import Dataset
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
        from trl import GRPOConfig, GRPOTrainer

        words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(40))]
        vocabulary = {word: place for place, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
        size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1)
        heads = dict(num_attention_heads=2, num_key_value_heads=2)
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(words), **size, **heads))
        data = Dataset.from_dict({"prompt": [f"w{i} w{i + 1}" for i in range(30)]})
        folder = tmp_path_factory.mktemp("trl")
        rewards = {"one": [share_of_w1], "two": [share_of_w1, is_short], "twice": [share_of_w1]}
        for name, functions in rewards.items():
            config = GRPOConfig(
                output_dir=str(folder / name),
                log_completions=True,
                num_completions_to_print=0,
                num_iterations=2 if name == "twice" else 1,
                per_device_train_batch_size=8,
                num_generations=4,
                max_completion_length=6,
                max_steps=3,
                logging_steps=1,
                report_to=[],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                save_strategy="no",
                disable_tqdm=True,
                seed=0,
            )
            trainer = GRPOTrainer(
                model, functions, args=config, train_dataset=data, processing_class=fast
            )
            trainer.train()
    return folder


def trl_table(folder):
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


def test_a_trl_run_is_read_without_a_mapping(trl_runs):
    """Rewards, steps and prompts are those of TRL's own file."""
    rollouts = taut.read_rollouts(trl_runs / "one" / "completions")
    table = trl_table(trl_runs / "one" / "completions")
    assert rollouts.origin.format == "trl"
    assert rollouts.reward.tolist() == table["share_of_w1"].tolist()
    assert rollouts.step.tolist() == table["step"].tolist()
    assert prompts_of(rollouts) == pd.factorize(table["prompt"])[0].tolist()
    assert health(rollouts, "kept_batches").status == "pass"


def test_the_old_way_by_mapping_gives_the_same_rollouts(trl_runs):
    """--map reward=NAME, which was needed before formats were known, changes nothing."""
    folder = trl_runs / "one" / "completions"
    old = taut.read_rollouts(folder, mapping={"reward": "share_of_w1"}, format="native")
    for new in (
        taut.read_rollouts(folder),
        taut.read_rollouts(folder, mapping={"reward": "share_of_w1"}),
    ):
        assert np.array_equal(new.prompt, old.prompt)
        assert np.array_equal(new.reward, old.reward)


def test_two_reward_functions_have_to_be_chosen_between(trl_runs):
    """The error lists them, and how to give the sum that was trained on."""
    with pytest.raises(LogError, match=r"'share_of_w1', 'is_short'.*1\.0\*share_of_w1\+1\.0\*is_"):
        taut.read_rollouts(trl_runs / "two" / "completions")


def test_the_weighted_sum_is_the_reward_that_trl_trained_on(trl_runs):
    """From it follow the advantages that TRL wrote beside it."""
    folder = trl_runs / "two" / "completions"
    sums = taut.read_rollouts(folder, mapping={"reward": "share_of_w1+1.0*is_short"}).reward
    groups = sums.reshape(-1, 4)
    centred = groups - groups.mean(axis=1, keepdims=True)
    advantages = centred / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-4)
    assert np.allclose(advantages.ravel(), trl_table(folder)["advantage"], atol=1e-4)
    half = taut.read_rollouts(folder, mapping={"reward": "share_of_w1+-0.5*is_short"}).reward
    alone = taut.read_rollouts(folder, mapping={"reward": "is_short"}).reward
    assert np.allclose(sums - half, 1.5 * alone)


def test_a_batch_that_trl_logged_twice_is_noticed(trl_runs):
    """With num_iterations=2 two files hold the same rollouts."""
    found = health(taut.read_rollouts(trl_runs / "twice" / "completions"), "kept_batches")
    assert found.status == "warn"
    assert "steps 1 and 2 hold the same rollouts" in found.detail


def test_steps_without_any_success_are_not_taken_for_one_batch(tmp_path):
    """The same few prompts with rewards that are all 0 may well be sampled anew."""
    for step in (1, 2):
        file = trl_file(tmp_path, step, 16, accuracy=[0.0] * 16)
        table = pd.read_parquet(file)
        table["prompt"] = [f"prompt {row % 4}" for row in range(16)]
        table.to_parquet(file)
    assert health(taut.read_rollouts(tmp_path), "kept_batches").status == "pass"


def test_a_converted_trl_log_gives_the_same_audit(trl_runs, tmp_path):
    """The document is the same, with its warnings: the writer is kept in the file."""
    folder = trl_runs / "twice" / "completions"
    taut.convert(folder, tmp_path / "native.parquet")
    settings = dict(beta=0.1, reward_range=(0, 1), target="reward")
    direct = taut.audit(taut.read_rollouts(folder), **settings)
    again = taut.audit(taut.read_rollouts(tmp_path / "native.parquet"), **settings)
    assert again.document == direct.document
    assert "kept_batches" in str(direct.document["health"])


# --- TRL: what a small run does not show ----------------------------------------------------------


def trl_file(folder, step, rows, prompts=8, **columns):
    """Columns in the order of GRPOTrainer.log, TRL 1.16.0; through pandas, as there."""
    rng = np.random.default_rng(step)
    table = {
        "step": [step] * rows,
        "prompt": [f"prompt {step} {row % prompts}" for row in range(rows)],
        "completion": ["text"] * rows,
        **(columns or {"accuracy": rng.integers(0, 2, rows).astype(float).tolist()}),
        "advantage": rng.normal(size=rows).tolist(),
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"completions_{step:05d}.parquet"
    pd.DataFrame(table).to_parquet(path)
    return path


def test_steps_that_trl_did_not_keep_are_counted(tmp_path):
    """With logging_steps=6, five of six generation batches are gone."""
    for step in (6, 12, 18):
        trl_file(tmp_path, step, 32)
    found = health(taut.read_rollouts(tmp_path), "kept_batches")
    assert found.status == "warn"
    assert "10 of the steps 6 to 18" in found.detail


def test_an_evaluation_in_a_training_file_is_noticed(tmp_path):
    """The file of its step then holds prompts with another number of rollouts."""
    trl_file(tmp_path, 1, 32)
    file = trl_file(tmp_path, 2, 32)
    table = pd.read_parquet(file)
    table.loc[:2, "prompt"] = ["eval 1", "eval 2", "eval 3"]
    table.to_parquet(file)
    found = health(taut.read_rollouts(tmp_path), "kept_batches")
    assert found.status == "warn"
    assert "first at step 2" in found.detail


def test_conversations_are_known_by_their_messages(tmp_path):
    """The same messages are the same prompt, in Parquet as in JSON lines."""
    chats = [
        [{"role": "user", "content": "one"}],
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}],
        [{"role": "user", "content": "one"}],
        [{"role": "user", "content": "one", "name": "x"}],
    ]
    rows = [
        {"step": 1, "prompt": chat, "completion": "a", "ok": 1.0, "advantage": 0.0}
        for chat in chats
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    parquet = taut.read_rollouts(tmp_path / "a.parquet")
    lines = taut.read_rollouts(write_lines(tmp_path / "a.jsonl", rows))
    assert prompts_of(parquet) == [0, 1, 0, 2]
    assert np.array_equal(parquet.prompt, lines.prompt)


def test_extras_of_trl_that_have_native_names_are_used(tmp_path):
    """What a reward function logs with log_extra, log-probs or a prompt id, is read by its name."""
    rows = 8
    trl_file(
        tmp_path,
        1,
        rows,
        accuracy=[1.0, 0.0] * 4,
        policy_logprob=[-3.0] * rows,
        ref_logprob=[-4.0] * rows,
        prompt_id=["a", "b"] * 4,
    )
    rollouts = taut.read_rollouts(tmp_path)
    assert rollouts.log_ratio.tolist() == [1.0] * rows
    assert prompts_of(rollouts) == [0, 1] * 4


def test_a_rollout_that_no_reward_function_scored_is_an_error(tmp_path):
    """TRL leaves it out of its means; an audit must not."""
    trl_file(tmp_path, 1, 4, accuracy=[1.0, None, 0.0, 1.0], length=[None, None, 1.0, 1.0])
    file = tmp_path / "completions_00001.parquet"
    with pytest.raises(LogError, match=r"00001.parquet:2: 'reward' is nothing: 'accuracy' and 'le"):
        taut.read_rollouts(file, mapping={"reward": "accuracy+length"})
    kept = taut.read_rollouts(
        file, mapping={"reward": "accuracy+0.5*length"}, lenient=tmp_path / "bad.jsonl"
    )
    assert kept.reward.tolist() == [1.0, 0.5, 1.5]
    assert kept.rejected_rows == 1


@pytest.mark.parametrize("text", ["accuracy+nothing", "x*accuracy", "accuracy+"])
def test_a_sum_of_unknown_rewards_is_refused(tmp_path, text):
    """Each part must be a column, each weight a number."""
    trl_file(tmp_path, 1, 4)
    with pytest.raises(LogError, match="reward"):
        taut.read_rollouts(tmp_path, mapping={"reward": text})


# --- verl -----------------------------------------------------------------------------------------


def verl_rows(step, prompts=6, per_prompt=4, *, version="0.10", seed=0):
    """`_write_generations` of verl 0.10.0.dev, 1dda039b9; before 0.6 without gts, v1 with uid."""
    rng = np.random.default_rng([seed, step])
    for prompt in range(prompts):
        for session in range(per_prompt):
            row = {
                "input": f"user\nquestion {step}-{prompt}\nassistant\n",
                "output": "an answer",
                "gts": "42",
                "score": float(rng.integers(0, 2)),
                "step": step,
            }
            if version in ("0.4", "0.5"):
                del row["gts"]
            if version == "v1":
                row["uid"] = f"{step:04x}-{prompt}_{session}_0"
            else:
                row["acc"] = row["score"] > 0
                row["reward"] = row["score"] - 0.25  # validation adds it, with all penalties
            yield row


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6", "0.10", "v1"])
def test_verl_of_every_version_is_read(tmp_path, version):
    """Prompts by their text; `reward`, which was trained on, where it stands beside `score`."""
    rows = [row for step in (1, 2) for row in verl_rows(step, version=version)]
    for step in (1, 2):
        write_lines(tmp_path / f"{step}.jsonl", [row for row in rows if row["step"] == step])
    rollouts = taut.read_rollouts(tmp_path)
    assert rollouts.origin.format == "verl"
    assert rollouts.reward.tolist() == [row.get("reward", row["score"]) for row in rows]
    raw = taut.read_rollouts(tmp_path, mapping={"reward": "score"})
    assert raw.reward.tolist() == [row["score"] for row in rows]
    assert rollouts.step.tolist() == [row["step"] for row in rows]
    assert len(set(prompts_of(rollouts))) == 12
    assert len(blocks_of(rollouts)) == 12
    assert health(rollouts, "groups").status == "not_checked"


def test_the_draw_of_verl_can_be_the_group(tmp_path):
    """uid ends in session and output; what stands before is one draw of a prompt."""
    rows = list(verl_rows(1, version="v1"))
    for row in rows:
        row["input"] = "the same text"
    write_lines(tmp_path / "1.jsonl", rows)
    assert len(blocks_of(taut.read_rollouts(tmp_path))) == 1
    grouped = taut.read_rollouts(tmp_path, mapping={"group": "uid"})
    assert len(blocks_of(grouped)) == 1
    assert len(blocks_of(grouped, mode="with-replacement")) == 6


def test_two_lines_in_the_writer_make_a_verl_log_whole(tmp_path):
    """docs/formats.md: extra columns with native names are read, and the objective can be bound."""
    rng = np.random.default_rng(0)
    rows = [
        row | {"policy_logprob": -float(20 + x), "ref_logprob": -20.5}
        for row, x in zip(verl_rows(1), rng.normal(size=24), strict=True)
    ]
    path = write_lines(tmp_path / "1.jsonl", rows)
    ratios = taut.read_rollouts(path).log_ratio
    assert np.allclose(ratios, [row["policy_logprob"] + 20.5 for row in rows])
    found = run("check", path)
    assert found.stderr.startswith("verl rollouts, with log-probs of policy and reference.\n")
    assert "log-probs of policy and reference" in found.stderr


def test_several_outputs_of_one_session_are_refused(tmp_path):
    """They are parts of one rollout, and counting each would fake precision."""
    rows = list(verl_rows(1, version="v1"))
    rows[3]["uid"] = rows[2]["uid"][:-1] + "1"
    with pytest.raises(LogError, match="several outputs of one session"):
        taut.read_rollouts(write_lines(tmp_path / "1.jsonl", rows))


def test_the_step_is_in_the_name_where_no_column_has_it(tmp_path):
    """verl names its files by step."""
    rows = [{k: v for k, v in row.items() if k != "step"} for row in verl_rows(40)]
    rollouts = taut.read_rollouts(write_lines(tmp_path / "40.jsonl", rows), format="verl")
    assert set(rollouts.step.tolist()) == {40}


# --- NeMo-RL --------------------------------------------------------------------------------------


def jsonl_of_batch(columns):
    """`Logger.log_batched_dict_as_jsonl`, NeMo-RL 7ea279abf: slices of one, so lists of one.

    The first column sets the number of rows; a slice beyond the end of another one is empty.
    """
    for i in range(len(next(iter(columns.values())))):
        yield {**{name: values[i : i + 1] for name, values in columns.items()}, "idx": i}


def nemo_batch(prompts=5, per_prompt=4, *, seed=0, reference=False, turns=1):
    """`log_data` of nemo_rl/algorithms/grpo.py: lists padded to the longest row with zeros."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in range(prompts):
        question = rng.integers(0, 9, 3 + prompt).tolist()
        for _ in range(per_prompt):
            tokens, mask = list(question), [0] * len(question)
            for turn in range(turns):
                answer = int(rng.integers(1, 20))
                tokens += rng.integers(0, 9, answer).tolist()
                mask += [1] * answer
                if turn + 1 < turns:
                    tokens, mask = tokens + [7, 7], mask + [0, 0]
            rows.append((tokens, mask))
    width = max(len(tokens) for tokens, _ in rows)

    def padded(values):
        return values + [0] * (width - len(values))

    def logprobs():
        return [
            [float(np.float32(x)) for x in padded((-rng.exponential(1, len(t))).tolist())]
            for t, _ in rows
        ]

    batch = {
        "content": [["question", "answer"] for _ in rows],
        "rewards": rng.integers(0, 2, len(rows)).astype(float).tolist(),
        "input_lengths": [len(tokens) for tokens, _ in rows],
        "token_ids": [padded(tokens) for tokens, _ in rows],
        "token_loss_mask": [padded(mask) for _, mask in rows],
        "sample_loss_mask": [1.0] * len(rows),
        "advantages": [[0.5] * width for _ in rows],
        "generation_logprobs": logprobs(),
        "prev_logprobs": logprobs(),
    }
    if reference:
        batch["reference_policy_logprobs"] = logprobs()
    return batch


def masked_sums(batch, name):
    return np.array(
        [
            np.dot(values, mask)
            for values, mask in zip(batch[name], batch["token_loss_mask"], strict=True)
        ]
    )


@pytest.mark.parametrize("turns", [1, 3])
def test_nemo_rl_is_read_by_its_tokens(tmp_path, turns):
    """A prompt is what stands before the first token of the policy; the step is in the name."""
    batch = nemo_batch(turns=turns)
    rollouts = taut.read_rollouts(
        write_lines(tmp_path / "train_data_step7.jsonl", jsonl_of_batch(batch))
    )
    assert rollouts.origin.format == "nemo-rl"
    assert prompts_of(rollouts) == [row // 4 for row in range(20)]
    assert rollouts.reward.tolist() == batch["rewards"]
    assert rollouts.n_tokens.tolist() == [sum(mask) for mask in batch["token_loss_mask"]]
    assert set(rollouts.step.tolist()) == {7}


def test_log_probs_of_two_engines_never_meet(tmp_path):
    """Neither vLLM's nor the trainer's are read alone: there is nothing to subtract them from."""
    path = write_lines(tmp_path / "train_data_step1.jsonl", jsonl_of_batch(nemo_batch()))
    rollouts = taut.read_rollouts(path)
    assert rollouts.policy_logprob is None
    assert rollouts.behaviour_logprob is None
    assert rollouts.log_ratio is None


def test_nemo_rl_log_ratios_are_sums_over_the_response(tmp_path):
    """With the reference logged too, prompt, other turns and padding are left out of the sums."""
    batch = nemo_batch(turns=2, reference=True)
    path = write_lines(tmp_path / "train_data_step1.jsonl", jsonl_of_batch(batch))
    rollouts = taut.read_rollouts(path)
    policy = masked_sums(batch, "prev_logprobs")
    assert np.allclose(rollouts.policy_logprob, policy, atol=1e-12)
    ratio = policy - masked_sums(batch, "reference_policy_logprobs")
    assert np.allclose(rollouts.log_ratio, ratio, atol=1e-12)
    mapped = taut.read_rollouts(path, mapping={"behaviour_logprobs": "generation_logprobs"})
    sampled = masked_sums(batch, "generation_logprobs")
    assert np.allclose(mapped.behaviour_logprob, sampled, atol=1e-12)


def test_lists_within_lists_take_the_fast_road_and_the_slow_one_alike(tmp_path):
    """A line that is left to orjson (here for an escaped key) gives the same sums."""
    rows = list(jsonl_of_batch(nemo_batch(reference=True)))
    fast = taut.read_rollouts(write_lines(tmp_path / "train_data_step1.jsonl", rows))
    text = "".join('{"\\u0078": 1, ' + json.dumps(row)[1:] + "\n" for row in rows)
    slow_path = tmp_path / "slow" / "train_data_step1.jsonl"
    slow_path.parent.mkdir()
    slow_path.write_text(text)
    slow = taut.read_rollouts(slow_path)
    assert np.array_equal(fast.log_ratio, slow.log_ratio)
    assert np.array_equal(fast.prompt, slow.prompt)
    assert np.array_equal(fast.n_tokens, slow.n_tokens)


def test_log_probs_that_were_skipped_are_not_read_as_certainty(tmp_path):
    """force_on_policy_ratio writes zeros in place of prev_logprobs."""
    batch = nemo_batch(reference=True)
    batch["prev_logprobs"] = [[0.0] * len(values) for values in batch["prev_logprobs"]]
    path = write_lines(tmp_path / "train_data_step1.jsonl", jsonl_of_batch(batch))
    with pytest.raises(
        LogError, match=r"'prev_logprobs' \(as 'policy_logprobs'\) is 0 for all \d+ tokens"
    ):
        taut.read_rollouts(path)


def test_dynamic_sampling_is_an_estimate(tmp_path):
    """`rewards` are then of another batch; filtered_rewards are those of the rows, and chosen."""
    batch = nemo_batch(prompts=40)
    batch["filtered_rewards"] = batch["rewards"]
    batch["rewards"] = [9.0] * 300
    path = write_lines(tmp_path / "train_data_step1.jsonl", jsonl_of_batch(batch))
    rollouts = taut.read_rollouts(path)
    assert rollouts.reward.tolist() == batch["filtered_rewards"]
    assert health(rollouts, "chosen_by_reward").status == "fail"
    certificate = taut.audit(rollouts, reward_range=(0, 1), target="reward")
    assert certificate.terms.sampling.status == certificate.proxy.status == "estimated"
    taut.convert(path, tmp_path / "native.parquet")
    again = taut.audit(
        taut.read_rollouts(tmp_path / "native.parquet"), reward_range=(0, 1), target="reward"
    )
    assert again.document == certificate.document


def nemo_validation(prompts=6, per_prompt=2):
    contents, rewards = [], []
    for prompt in range(prompts):
        for rollout in range(per_prompt):
            contents.append(
                [
                    {"role": "user", "content": f"question {prompt}"},
                    {"role": "assistant", "content": f"answer {rollout}"},
                    {"role": "environment", "content": f"result {rollout}"},
                    {"role": "assistant", "content": "done"},
                ]
            )
            rewards.append(float(rollout))
    return {"content": contents, "rewards": rewards}


def test_nemo_rl_validation_is_known_by_its_questions(tmp_path):
    """Rollouts of one question are one draw, although the environment answered differently."""
    path = write_lines(tmp_path / "val_data_step3.jsonl", jsonl_of_batch(nemo_validation()))
    rollouts = taut.read_rollouts(path)
    assert prompts_of(rollouts) == [row // 2 for row in range(12)]
    assert rollouts.reward.tolist() == [0.0, 1.0] * 6
    assert set(rollouts.step.tolist()) == {3}
    assert health(rollouts, "chosen_by_reward").status == "pass"


def test_training_and_validation_are_not_read_as_one_log(tmp_path):
    """NeMo-RL writes both into one folder."""
    write_lines(tmp_path / "train_data_step3.jsonl", jsonl_of_batch(nemo_batch()))
    write_lines(tmp_path / "val_data_step3.jsonl", jsonl_of_batch(nemo_validation()))
    with pytest.raises(LogError, match=r"nemo-rl training log as .* a nemo-rl validation one"):
        taut.read_rollouts(tmp_path)
    assert len(taut.read_rollouts(str(tmp_path / "val*.jsonl"))) == 12


def test_a_log_of_distillation_has_nothing_to_certify(tmp_path):
    """nemo_rl/algorithms/distillation.py writes content and lengths only."""
    rows = jsonl_of_batch({"content": [["q", "a"]], "input_lengths": [3]})
    with pytest.raises(LogError, match="distillation"):
        taut.read_rollouts(write_lines(tmp_path / "train_data_step1.jsonl", rows))


def test_a_nemo_log_without_token_ids_needs_an_id(tmp_path):
    """NeMo-RL before 0.6 logged texts and log-probs only: where a prompt ends cannot be seen."""
    batch = nemo_batch()
    old = {name: batch[name] for name in ("content", "rewards", "prev_logprobs", "input_lengths")}
    old["row"] = [row // 4 for row in range(20)]
    path = write_lines(tmp_path / "train_data_step2.jsonl", jsonl_of_batch(old))
    with pytest.raises(LogError, match=r"expected 'token_(ids|loss_mask)', found"):
        taut.read_rollouts(path)
    rollouts = taut.read_rollouts(path, mapping={"prompt_id": "row"})
    assert prompts_of(rollouts) == old["row"]
    assert rollouts.origin.part == "training"


def test_a_validation_row_without_roles_is_refused(tmp_path):
    """Taking all of a conversation for the prompt would make every rollout a draw of its own."""
    batch = nemo_validation()
    batch["content"][3] = ["question 1", "answer 1"]
    path = write_lines(tmp_path / "val_data_step2.jsonl", jsonl_of_batch(batch))
    with pytest.raises(LogError, match=r"step2\.jsonl:4: 'content' is no list of messages"):
        taut.read_rollouts(path)


def test_a_nemo_row_that_breaks_is_named(tmp_path):
    """File, line, column, what was found."""
    rows = list(jsonl_of_batch(nemo_batch()))
    rows[4]["token_loss_mask"][0].pop()
    path = write_lines(tmp_path / "train_data_step1.jsonl", rows)
    with pytest.raises(LogError, match=r"step1.jsonl:5: 'token_ids' has \d+ values, 'token_loss_m"):
        taut.read_rollouts(path)
    rows = list(jsonl_of_batch(nemo_batch()))
    rows[2]["rewards"] = [[1.0, 2.0]]
    path = write_lines(tmp_path / "train_data_step1.jsonl", rows)
    with pytest.raises(LogError, match=r"step1.jsonl:3: 'rewards' \(as 'reward'\) is a list of 2"):
        taut.read_rollouts(path)


# --- open-instruct --------------------------------------------------------------------------------


def open_instruct_rows(step, prompts=30, per_prompt=4, *, filtered=True, seed=0):
    """`RolloutRecord` of open_instruct/rl_utils.py, e6c3044aa; prompt_idx counts in the batch."""
    rng = np.random.default_rng([seed, step])
    index = 0
    while index < prompts:
        rewards = rng.integers(0, 2, per_prompt) * 10.0
        if filtered and rewards.std() == 0:
            continue
        for k, reward in enumerate(rewards):
            size = int(rng.integers(1, 9))
            yield {
                "step": step,
                "sample_idx": index * per_prompt + k,
                "prompt_idx": index,
                "prompt_tokens": [1, 2, step, index],
                "response_tokens": rng.integers(0, 99, size).tolist(),
                "reward": float(reward),
                "advantage": 0.0,
                "finish_reason": "length" if k == 0 else "stop",
                "dataset": "gsm8k",
                "ground_truth": [4, 2],
                "request_info": {"num_calls": 0, "tool_errors": "", "rollout_state": {}},
                "logprobs": [float("nan")] * size,
            }
        index += 1


def open_instruct_folder(folder, **settings):
    rows = [row for step in (1, 2) for row in open_instruct_rows(step, **settings)]
    write_lines(folder / "grpo_rollouts_000000.jsonl", rows[:100])
    write_lines(folder / "grpo_rollouts_000001.jsonl", rows[100:])
    metadata = {"run_name": "grpo", "git_commit": "e6c", "model_name": "m", "timestamp": "2026"}
    write_lines(folder / "grpo_metadata.jsonl", [metadata])
    return rows


def test_open_instruct_is_read_by_its_tokens(tmp_path):
    """prompt_idx starts anew at each step; the file of metadata in the same folder is left out."""
    rows = open_instruct_folder(tmp_path)
    rollouts = taut.read_rollouts(tmp_path)
    assert rollouts.origin.format == "open-instruct"
    assert prompts_of(rollouts) == [row // 4 for row in range(240)]
    assert rollouts.n_tokens.tolist() == [len(row["response_tokens"]) for row in rows]
    assert rollouts.truncated.tolist() == [row["finish_reason"] == "length" for row in rows]
    assert rollouts.run_names == ("grpo",)
    assert rollouts.behaviour_logprob is None


def test_draws_that_open_instruct_dropped_are_missed(tmp_path):
    """filter_zero_std_samples, its default, leaves only prompts whose rewards differ."""
    settings = {"reward_range": (0, 10), "target": "reward"}
    settings["declare"] = "held-out,complete,random-labels"
    open_instruct_folder(tmp_path / "filtered", prompts=150)
    rollouts = taut.read_rollouts(tmp_path / "filtered")
    assert health(rollouts, "chosen_by_reward").status == "fail"
    certificate = taut.audit(rollouts, **settings)
    assert certificate.terms.sampling.status == certificate.proxy.status == "estimated"
    open_instruct_folder(tmp_path / "whole", prompts=150, filtered=False)
    whole = taut.read_rollouts(tmp_path / "whole")
    assert health(whole, "chosen_by_reward").status == "pass"
    certificate = taut.audit(whole, **settings)
    assert certificate.terms.sampling.status == certificate.proxy.status == "certified"


def mixed_difficulty(rng, trial, prompts):
    """Rewards of 4 rollouts of each prompt, and which prompts have both rewards."""
    chance = rng.beta(0.5 + trial % 4, 1, prompts)
    reward = rng.random((prompts, 4)) < chance[:, None]
    rollouts = taut.Rollouts.from_arrays(
        prompt_id=np.repeat(np.arange(prompts), 4), reward=reward.ravel().astype(float)
    )
    log = replace(rollouts, origin=Origin(format="verl")) if trial % 2 else rollouts
    return log, reward.any(axis=1) & ~reward.all(axis=1)


def test_dropped_draws_are_never_suspected_where_none_were():
    """In 300 whole logs with prompts of every difficulty the check doubts none, verl's or not."""
    rng = np.random.default_rng(0)
    for trial in range(300):
        log, _ = mixed_difficulty(rng, trial, 150)
        assert health(log, "chosen_by_reward").status == "pass"


def test_dropped_draws_are_seen_where_some_hundred_are_left():
    """In 60 logs that hold the mixed draws of 800 prompts alone, each is refuted."""
    rng = np.random.default_rng(1)
    for trial in range(60):
        log, kept = mixed_difficulty(rng, trial, 800)
        assert health(log.take(np.repeat(kept, 4)), "chosen_by_reward").status == "fail"


# --- recognising ----------------------------------------------------------------------------------


def test_native_wins():
    """Columns that are native without a mapping are read as they always were."""
    native = {"prompt_id": "text", "reward": "number", "input": "text", "output": "text"}
    assert recognise(native | {"score": "number", "step": "number"}) == "native"
    assert recognise({"prompt": "text", "reward": "number"}) == "native"
    assert recognise({"input": "text", "output": "text", "score": "number"}) == "native"
    assert recognise({"idx": "number", "content": "text", "rewards": "number"}) == "native"


def test_a_native_log_is_read_the_same_whatever_is_asked(tmp_path):
    """auto and native give equal rollouts, with no word of a framework anywhere."""
    taut.simulate("over_optimised", tmp_path / "log.parquet", prompts=50)
    auto = taut.read_rollouts(tmp_path / "log.parquet")
    native = taut.read_rollouts(tmp_path / "log.parquet", format="native")
    assert auto.origin is None
    assert all(
        np.array_equal(a, b)
        for a, b in zip(*(item.value_columns() for item in (auto, native)), strict=True)
    )
    names = {check.check for check in taut.check(auto)}
    assert not names & {"log_format", "kept_batches"}
    taut.convert(tmp_path / "log.parquet", tmp_path / "a.parquet")
    taut.convert(tmp_path / "log.parquet", tmp_path / "b.parquet", format="native")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert b"taut.origin" not in (tmp_path / "a.parquet").read_bytes()


def test_logs_of_two_frameworks_are_not_read_as_one(tmp_path):
    """The error names both files and both formats."""
    write_lines(tmp_path / "1.jsonl", verl_rows(1))
    trl_file(tmp_path / "completions", 1, 8)
    with pytest.raises(LogError, match=r"verl log as .* found a trl one"):
        taut.read_rollouts(tmp_path)


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("auto", "native")])
def test_a_format_that_is_not_the_logs_says_what_it_expected(tmp_path, format):
    """A wrong --format is an error with the columns found, never a silent misreading."""
    path = write_lines(tmp_path / "x.jsonl", [{"prompt_id": "a", "value": 1.0}])
    with pytest.raises(LogError, match="expected"):
        taut.read_rollouts(path, format=format)


@pytest.mark.parametrize("value", [None, "half", [0.5]])
def test_a_score_that_is_none_is_named_with_its_row(tmp_path, value):
    """File, line and column; with --lenient it is counted."""
    rows = list(verl_rows(1))
    rows[2]["reward"] = value
    path = write_lines(tmp_path / "1.jsonl", rows)
    with pytest.raises(LogError, match=r"1\.jsonl:3: 'reward' is "):
        taut.read_rollouts(path)
    kept = taut.read_rollouts(path, lenient=tmp_path / "bad.jsonl")
    assert (len(kept), kept.rejected_rows) == (23, 1)


@given(st.lists(st.lists(st.tuples(st.floats(-9, 0), st.integers(0, 1)), max_size=9), max_size=6))
@settings(deadline=None)
def test_masked_tokens_are_those_whose_mask_is_set(rows):
    """Whatever the lengths, empty rows and rows without a mark among them."""
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    ends = np.cumsum(sizes, dtype=np.int64)
    values = np.array([value for row in rows for value, _ in row], dtype=np.float64)
    marks = np.array([mark for row in rows for _, mark in row], dtype=np.float64)
    mask = Tokens(marks, ends - sizes, ends)
    found = select_tokens(Tokens(values, ends - sizes, ends), mask)
    for place, row in enumerate(rows):
        assert found.row(place).tolist() == [value for value, mark in row if mark]
        where = [at for at, (_, mark) in enumerate(row) if mark] or [len(row)]
        assert first_marked(mask)[place] == where[0]


def test_an_unknown_format_is_refused():
    """The error lists those that are known."""
    with pytest.raises(UsageError, match="nemo-rl"):
        taut.read_rollouts("tests", format="openrlhf")


def test_token_prefixes_have_keys_of_their_own():
    """Different lists of ids, prefixes of one another and permutations among them, differ."""
    lists = [(), (0,), (0, 0), (1, 2), (2, 1), (1, 2, 3), (12, 3), (1, 23)]
    flat = np.concatenate([np.array(part, dtype=np.float64) for part in lists])
    sizes = np.array([len(part) for part in lists])
    starts = np.cumsum(sizes) - sizes
    keys = prefix_keys(flat, starts, sizes)
    assert len(set(keys.tolist())) == len(lists)
    assert np.array_equal(keys, prefix_keys(flat.astype(np.int32), starts, sizes))


# --- on the command line --------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_command_line_says_once_what_it_read(tmp_path):
    """On stderr, with what the log lacks and what it can certify; not with --json - or --quiet."""
    for step in (1, 2):
        write_lines(tmp_path / "log" / f"{step}.jsonl", verl_rows(step, prompts=30))
    found = run("check", tmp_path / "log", "--reward-range", 0, 1)
    assert found.exit_code == 0, found.output
    assert found.stderr.count("verl rollouts: it lacks log-probs") == 1
    assert FRAMEWORKS["verl"].remedy in found.stderr
    assert "log format" in found.stdout
    assert run("check", tmp_path / "log", "--quiet").stderr == ""
    machine = run("check", tmp_path / "log", "--json", "-")
    assert machine.stderr == ""
    entry = next(e for e in json.loads(machine.stdout)["health"] if e["check"] == "log_format")
    assert "lacks" in entry["detail"]
    assert "docs/formats.md" in entry["remedy"]


def test_every_command_that_reads_a_log_takes_a_format(tmp_path):
    """audit, select, check and convert; a wrong format stops each."""
    for step in (1, 2):
        rows = [row | {"gold": row["score"]} for row in verl_rows(step, prompts=30)]
        write_lines(tmp_path / "log" / f"{step}.jsonl", rows)
    reward = ("--target", "reward", "--reward-range", 0, 1)
    out = ("-o", tmp_path / "native.parquet")
    for command, options in (
        ("audit", reward),
        ("select", (*reward, "--by", "step")),
        ("check", ()),
        ("convert", out),
    ):
        right = run(command, tmp_path / "log", "--format", "verl", *options)
        assert right.exception is None, (command, right.output, right.exception)
        wrong = run(command, tmp_path / "log", "--format", "trl", *options)
        assert isinstance(wrong.exception, LogError), command
        assert "expected TRL completions with a column" in str(wrong.exception)
    native = run("check", tmp_path / "log", "--format", "native")
    assert "expected a column 'prompt_id' (or 'prompt')" in str(native.exception)
    assert len(taut.read_rollouts(tmp_path / "native.parquet")) == 240

"""Logs as people have them: what each case of the shared folder should give, and does."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import LogError

_BESIDE = Path(__file__).parents[2] / "shared"
CASES = Path(os.environ.get("TAUT_SHARED", _BESIDE)) / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")

# Case, how it is read, rollouts, prompts, and words of the notes.
READ = [
    ("f01", {}, 24, 8, ["verl trained on"]),
    ("f02", {}, 24, 8, ["verl trained on"]),
    ("f02b", {}, 24, 8, ["verl trained on"]),
    ("f02", {"mapping": {"reward": "score"}}, 24, 8, ["true and false; read as 1 and 0"]),
    (
        "f02b",
        {"mapping": {"reward": "score"}, "values": {"reward": {"True": 1, "False": 0}}},
        24,
        8,
        [],
    ),
    ("f04_null_token.jsonl", {"log_probs": "optional"}, 24, 8, [":8:", "null at token 3"]),
    ("f09_negative_kl.jsonl", {}, 24, 8, []),
    ("f12_reward_null.jsonl", {"values": {"reward": {"null": 0}}}, 24, 8, ["say 'error'"]),
    ("f12c_error_zero.jsonl", {}, 24, 8, ["5 of 24 rollouts say 'error'", "mean 0"]),
    ("f15_float_ids.jsonl", {}, 24, 8, ["'prompt_id'", "read as integers"]),
    ("f15b_float_ids.parquet", {}, 24, 8, ["'prompt_id'", "read as integers"]),
    ("f16b_two_members.jsonl.gz", {}, 24, 8, []),
    ("f17_not_gzip.jsonl.gz", {}, 24, 8, []),
    ("f18_saved", {}, 24, 8, []),
    ("f18b.feather", {}, 24, 8, []),
    ("f18c.csv", {}, 24, 8, []),
    ("f19_bool.parquet", {}, 24, 8, ["true and false; read as 1 and 0"]),
    ("f19_decimal.parquet", {}, 24, 8, ["decimals"]),
    ("f19_half.parquet", {}, 24, 8, []),
    ("f19_string.parquet", {}, 24, 8, ["numbers as text"]),
    ("f19_list1_reward.parquet", {"mapping": {"reward": "reward.0"}}, 24, 8, []),
    ("f19_struct_reward.parquet", {"mapping": {"reward": "reward.accuracy"}}, 24, 8, []),
    ("f19_strview.parquet", {}, 24, 8, []),
    ("f19_uint8.parquet", {}, 24, 8, []),
    ("f21_u2028.jsonl", {}, 24, 8, []),
    ("f22_bom_crlf.jsonl", {}, 24, 8, []),
    ("f24b_array.json", {}, 24, 8, []),
    ("f24c_pretty_array.json", {}, 24, 8, []),
    ("f24f_columns.json", {}, 24, 8, ["several rollouts"]),
    ("f25_resume_dup.jsonl", {}, 40, 8, []),
    ("f26_per_turn.jsonl", {"format": "native"}, 48, 8, []),
    ("f26b_token_rewards.jsonl", {"mapping": {"reward": "sum(reward)"}}, 24, 8, []),
    ("f26b_token_rewards.jsonl", {"mapping": {"reward": "last(reward)"}}, 24, 8, []),
    (
        "f27_rewards_dict.jsonl",
        {"mapping": {"reward": "1.0*reward.accuracy+0.5*reward.format"}},
        24,
        8,
        [],
    ),
    ("f27b_list1.jsonl", {"mapping": {"reward": "reward.0"}}, 24, 8, []),
    ("f27f_label.jsonl", {"values": {"reward": {"C": 1, "I": 0}}}, 24, 8, []),
    ("f28_nan_elsewhere.jsonl", {}, 24, 8, []),
    ("f30_step_text.jsonl", {}, 24, 8, ["'step' holds integers as text"]),
    ("f34_rundir", {}, 24, 8, ["config.json"]),
    ("f35_grouped_list.jsonl", {}, 40, 10, ["several rollouts"]),
    ("f38_index_restart.jsonl", {}, 24, 6, ["--map prompt_id=rank+prompt_id"]),
    ("f38_index_restart.jsonl", {"mapping": {"prompt_id": "rank+prompt_id"}}, 24, 12, []),
    ("f39_wandb.table.json", {}, 24, 8, ["several rollouts"]),
    ("h01_hive", {}, 48, 8, []),
    ("m07_gold_index.jsonl", {}, 60, 60, ["right answer", "--map gold="]),
    ("m07_gold_index.jsonl", {"mapping": {"gold": ""}}, 60, 60, []),
    ("o01_truncated_only_true.jsonl", {}, 24, 8, []),
    ("w03_swift", {"mapping": {"reward": "MathAccuracy"}}, 36, 9, []),
    ("w03_swift", {"mapping": {"reward": "1.0*MathAccuracy+0.5*Format"}}, 36, 9, []),
    ("w04_roll", {}, 24, 6, []),
    ("w06_verifiers", {}, 12, 3, ["metadata.json"]),
    ("w07_skyrl_token_rewards.jsonl", {"mapping": {"reward": "sum(score)"}}, 12, 3, []),
    ("w08_inspect_samples.jsonl", {}, 12, 12, ["C = 1, I = 0, P = 0.5, N = 0"]),
    ("w09_tinker_eval", {}, 12, 3, ["result.json", "1 of 12 rollouts say 'error'"]),
]

# Case, and words of the one line that says what to do.
REFUSED = [
    ("f11_torn_middle.jsonl", [":13:", "--lenient FILE"]),
    ("f11b_torn_last.jsonl", [":24:", "--lenient FILE"]),
    ("f12_reward_null.jsonl", [":1:", "'reward' is null", "--map-value reward:null=0"]),
    ("f16_cut.jsonl.gz", ["cut off", "again"]),
    ("f19_list1_reward.parquet", ["list", "--map reward=reward.0"]),
    ("f19_struct_reward.parquet", ["struct", "--map reward=reward.accuracy"]),
    ("f23_utf16.jsonl", ["UTF-16", "UTF-8"]),
    ("f24d_pretty_concat.json", ["several objects", "jq -c ."]),
    ("f24e_wrapped.json", ["rows under 'results'", "jq -c '.results[]'"]),
    ("f26_per_turn.jsonl", ["row per turn", "--format native"]),
    ("f26b_token_rewards.jsonl", [":1:", "list of 3", "'reward=sum(reward)'"]),
    ("f27_rewards_dict.jsonl", ["--map reward=reward.accuracy", "1.0*reward.format"]),
    ("f27b_list1.jsonl", ["list of 1", "--map reward=reward.0"]),
    ("f27f_label.jsonl", ['the text "I"', "--map-value reward:C=1,I=0"]),
    ("p01_lfs_pointer.jsonl", ["Git LFS pointer", "git lfs pull"]),
    ("w03_swift", ["'MathAccuracy', 'Format'", "--map reward=NAME"]),
    ("w07_skyrl_token_rewards.jsonl", ["reward per token", "sum(score)"]),
    ("w10_slime.pt", ["torch.save", "never loaded"]),
]


@pytest.mark.parametrize(("case", "how", "rows", "prompts", "notes"), READ)
def test_a_case_is_read_whole_and_says_what_was_done(case, how, rows, prompts, notes):
    """Rollouts and prompts are counted right; what was not plain is in the notes."""
    rollouts = taut.read_rollouts(CASES / case, **how)
    assert (len(rollouts), len(set(rollouts.prompt.tolist()))) == (rows, prompts)
    said = "\n".join(rollouts.notes)
    assert all(words in said for words in notes), said
    assert len(notes) > 0 or not said or "several rollouts" in said or "as text" in said


@pytest.mark.parametrize(("case", "words"), REFUSED)
def test_a_case_that_is_refused_says_what_to_do(case, words):
    """One line: the file, its own column, and the next step."""
    with pytest.raises(LogError) as caught:
        taut.read_rollouts(CASES / case)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_steps_and_sums_are_those_of_the_files():
    """Steps from folders and from text; weighted sums as NumPy makes them."""
    assert sorted(set(taut.read_rollouts(CASES / "h01_hive").step.tolist())) == [0, 10]
    assert set(taut.read_rollouts(CASES / "f30_step_text.jsonl").step.tolist()) == {40}
    swift = taut.read_rollouts(CASES / "w03_swift", mapping={"reward": "MathAccuracy"})
    assert sorted(set(swift.step.tolist())) == [1, 2, 3]
    both = taut.read_rollouts(
        CASES / "w03_swift", mapping={"reward": "1.0*MathAccuracy+0.5*Format"}
    )
    form = taut.read_rollouts(CASES / "w03_swift", mapping={"reward": "Format"})
    assert np.array_equal(both.reward, swift.reward + 0.5 * form.reward)
    cut = taut.read_rollouts(CASES / "o01_truncated_only_true.jsonl").truncated
    assert 0 < cut.sum() < len(cut)


@pytest.mark.parametrize(
    "case", ["f01", "f04_null_token.jsonl", "f12c_error_zero.jsonl", "w04_roll"]
)
def test_a_case_is_audited_by_the_plain_command(case):
    """`taut audit CASE --target reward --reward-range 0 1` is enough."""
    args = ["audit", str(CASES / case), "--target", "reward", "--reward-range", "0", "1"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output

"""Parts of a training run that need no trainer: splits, ranges, maps, curves, manifests."""

import json
import math

import numpy as np
import pytest

import small_run
from taut.errors import AssumptionError, LogError, UsageError
from taut.training.pipeline.data import Pair, prompt_rows, read_pairs, read_rows
from taut.training.pipeline.manifest import open_manifest, remove_run
from taut.training.pipeline.recipe import read_recipe
from taut.training.pipeline.reward_model import calibrate, curve_sizes, measure, split_pairs
from taut.training.pipeline.rewards import (
    FunctionScore,
    GoldReward,
    ModelScore,
    RewardMap,
    calibrated_range,
    gold_line,
)


def pairs(count, gold=None):
    return [
        Pair(prompt_id=f"p{i // 2}", prompt=f"p{i // 2}", chosen="a", rejected="b", gold=gold)
        for i in range(count)
    ]


# --- data -----------------------------------------------------------------------------------------


def test_no_prompt_is_in_two_parts_of_the_pairs():
    """Pairs of one prompt fall on one side, and the split depends on the seed alone."""
    split = split_pairs(pairs(200), 0.4, seed=1)
    parts = [split.training, split.calibration, split.measuring]
    ids = [{pair.prompt_id for pair in part} for part in parts]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])
    assert sum(map(len, parts)) == 200
    backwards = split_pairs(pairs(200)[::-1], 0.4, seed=1)
    assert {pair.prompt_id for pair in backwards.measuring} == ids[2]
    assert {pair.prompt_id for pair in split_pairs(pairs(200), 0.4, seed=2).measuring} != ids[2]


def test_too_few_held_out_pairs_are_refused():
    """A held-out half that is nearly empty could calibrate nothing."""
    with pytest.raises(UsageError, match="give more prompts"):
        split_pairs(pairs(4), 0.1, seed=0)


def test_a_curve_ends_at_all_pairs():
    """Sizes are those asked for and all training pairs, and none is larger than that."""
    assert curve_sizes([8, 16], 30) == [8, 16, 30]
    assert curve_sizes([8, 30], 30) == [8, 30]
    with pytest.raises(UsageError, match="at most the 20 training pairs, found 30"):
        curve_sizes([8, 30], 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "a", "chosen": "b"}', "expected a column 'rejected', found chosen, prompt"),
        ('{"prompt": "a", "chosen": 3, "rejected": "c"}', "chosen: expected text, found int"),
        ('{"prompt": 5, "chosen": "b", "rejected": "c"}', "prompt: expected text or a list"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c", "chosen_gold": 1}', "found one"),
        ("[1]", "expected an object, found list"),
        ("{", "expected JSON"),
        ("", "expected rows, found none"),
    ],
)
def test_wrong_pairs_are_named_with_their_line(tmp_path, text, said):
    """An error in the data says file, line, column, what was expected and found."""
    path = tmp_path / "pairs.jsonl"
    good = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
    path.write_text(good * bool(text) + text, encoding="utf-8")
    with pytest.raises(LogError) as problem:
        read_pairs(path)
    assert said in str(problem.value) and str(problem.value).startswith(str(path))
    assert not text or f"{path}:2" in str(problem.value)


def test_one_id_names_one_prompt(tmp_path):
    """Without an id the text is the name; with one, two texts under it are an error."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
    ids = [row["prompt_id"] for row in prompt_rows(path)]
    assert ids[0] == ids[1] != ids[2]
    path.write_text('{"prompt": "a", "prompt_id": 1}\n{"prompt": "b", "prompt_id": 1}\n')
    with pytest.raises(LogError, match="found two with '1'"):
        prompt_rows(path)


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is an error in one line."""
    with pytest.raises(LogError, match="expected rows, found No such file"):
        read_rows(tmp_path / "none.jsonl", ["prompt"])


# --- rewards --------------------------------------------------------------------------------------


def test_rewards_stay_in_their_range_in_single_precision():
    """A trainer that rounds to float32 does not push a reward out of the declared range."""
    declared = RewardMap(low=-0.1, high=0.1, source="declared")
    found = declared(np.array([-5.0, 5.0, 0.05]))
    single = found.astype(np.float32).astype(np.float64)
    assert single.min() >= -0.1 and single.max() <= 0.1
    assert found[2] == pytest.approx(0.05)
    assert float(np.float32(-0.1)) < -0.1  # what plain cutting would have given


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_calibrated_range_holds_its_quantiles_and_margin(scale):
    """The range reaches beyond the quantiles by the margin, rounded outwards by under 1%."""
    scores = scale * np.random.default_rng(0).normal(3, 1, 500)
    low, high = calibrated_range(scores, 0.01, 0.5)
    inner = np.quantile(scores, [0.01, 0.99])
    wide = (inner[0] - 0.5 * np.ptp(inner), inner[1] + 0.5 * np.ptp(inner))
    assert low <= wide[0] and wide[1] <= high
    assert high - low <= 1.021 * (wide[1] - wide[0])


def test_equal_scores_have_no_range():
    """A reward model that says the same everywhere is an error, not a range of width 0."""
    with pytest.raises(AssumptionError, match="expected calibration scores that differ"):
        calibrated_range(np.ones(20), 0.01, 0.5)


def test_the_line_to_gold_never_turns_the_reward_around():
    """It is least squares where that rises, and rises all the same where that falls."""
    scores = np.linspace(-1, 1, 50)
    assert gold_line(scores, 2 * scores + 1) == pytest.approx((2.0, 1.0))
    assert gold_line(scores, -scores)[0] > 0
    assert gold_line(np.ones(3), np.array([1.0, 2.0, 3.0])) == pytest.approx((1.0, 1.0))


def test_learning_curve_values_match_a_hand_computation():
    """Loss, accuracy with ties at one half, and L on the unit scale of both ranges."""
    scores = np.array([[2.0, 0.0], [0.0, 0.0], [-1.0, 1.0], [9.0, 1.0]])
    held = [
        Pair(prompt_id=str(i), prompt="", chosen="", rejected="", gold=gold)
        for i, gold in enumerate([(1.0, 0.0), (0.5, 0.5), None, (1.0, 0.0)])
    ]
    found = measure(scores, held, RewardMap(low=-2.0, high=2.0, source=""), (0.0, 1.0))
    losses = [math.log1p(math.exp(-margin)) for margin in (2, 0, -2, 8)]
    assert found["loss"] == pytest.approx(np.mean(losses))
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # Unit rewards: 1, .5; .5, .5; cut at 1, .75. Gold: 1, 0; .5, .5; 1, 0.
    assert found["L"] == pytest.approx((0.5**2 + 0.75**2) / 6, abs=1e-6)
    assert (found["held_out"], found["L_pairs"]) == (4, 3)


def test_gold_units_need_gold(tmp_path):
    """Asked for gold units, pairs without gold are refused."""
    recipe = read_recipe(small_run.write_recipe(tmp_path))
    with pytest.raises(UsageError, match="found none"):
        calibrate(recipe, np.zeros((2, 2)), pairs(2))


def test_a_reward_function_must_answer():
    """A function that is missing, is none, or gives no number is refused by name."""
    with pytest.raises(UsageError, match="put its folder on PYTHONPATH"):
        FunctionScore("no_such_module:score")
    with pytest.raises(UsageError, match="expected a function, found list"):
        FunctionScore("small_run:WORDS")
    with pytest.raises(AssumptionError, match="small_run:broken: expected 2 finite numbers"):
        FunctionScore("small_run:broken")(["a", "b"], ["w1", "w2"])


def test_a_diverged_reward_model_is_named():
    """Scores that are not finite stop the run instead of reaching a log as NaN."""
    import torch

    class Model(torch.nn.Module):
        config = type("Config", (), {"_name_or_path": "models/reward"})

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, input_ids, attention_mask):
            return type("Out", (), {"logits": self.weight * torch.full((len(input_ids), 1), 1e999)})

    class Tokens:
        pad_token_id, eos_token_id = 0, 1

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [2, 3]}

    score = ModelScore(Model(), Tokens(), max_tokens=8, batch=2)
    with pytest.raises(
        AssumptionError, match="models/reward: expected finite scores, found 3 of 3"
    ):
        score(["a"] * 3, ["b"] * 3)


def test_gold_beyond_its_range_stops_the_run():
    """A declared range that does not hold would make every certificate wrong."""
    gold = GoldReward(FunctionScore("small_run:truth"), (0.0, 1.0))
    assert gold(["a"], ["w2"]) == [1.0]
    with pytest.raises(AssumptionError, match=r"gold\.range: expected values in \[0, 1\]"):
        gold(["a"], ["w1"])


# --- the manifest ---------------------------------------------------------------------------------


def test_a_changed_run_is_not_gone_on_with(tmp_path):
    """Recipe, data, versions and processes must be those of the manifest; others are named."""
    path = small_run.write_recipe(tmp_path)
    recipe = read_recipe(path)
    first = open_manifest(recipe, processes=1)
    assert first.is_new and not (tmp_path / "run").exists()
    first.begin()
    first.finish("start", {}, main=True)
    again = open_manifest(recipe, processes=1)
    assert again.stages == {"start": {}} and not again.is_new
    open_manifest(
        read_recipe(path, changes={"report_to": '["tensorboard"]'}),
        processes=1,
    )
    other = read_recipe(path, changes={"policy.beta": "0.5"})
    with pytest.raises(UsageError, match=r"policy\.beta was 0\.02, is 0\.5.*--fresh"):
        open_manifest(other, processes=1)
    with pytest.raises(UsageError, match="processes was 1, is 2"):
        open_manifest(recipe, processes=2)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "w1"}\n')
    with pytest.raises(UsageError, match=r"the file of policy\.prompts has changed"):
        open_manifest(recipe, processes=1)
    assert open_manifest(recipe, processes=2, fresh=True).head["processes"] == 2


def test_a_run_that_made_nothing_binds_nobody(tmp_path):
    """Stopped before its first stage had anything to show, a run may be mended."""
    path = small_run.write_recipe(tmp_path)
    open_manifest(read_recipe(path), processes=1).begin()
    mended = read_recipe(path, changes={"policy.beta": "0.5"})
    assert open_manifest(mended, processes=1).is_new
    (tmp_path / "run" / "stages" / "sft" / "checkpoint-2").mkdir(parents=True)
    with pytest.raises(UsageError, match="another recipe"):
        open_manifest(mended, processes=1)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    """A run writes only into an empty folder or its own, and --fresh removes only its own files."""
    recipe = read_recipe(small_run.write_recipe(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("three years of work")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="expected an empty folder or a run of taut"):
            open_manifest(recipe, processes=1, fresh=fresh)
    (folder / "manifest.json").write_text(json.dumps({"schema": "other"}))
    with pytest.raises(UsageError, match=r"expected schema taut\.run/1"):
        open_manifest(recipe, processes=1, fresh=True)
    remove_run(folder)
    assert (folder / "thesis.txt").exists()


def test_a_tokenizer_that_reads_nothing_is_refused():
    """A prompt without a token would ask the policy nothing: the run stops before it starts."""
    from taut.training.pipeline.policy import require_tokens

    def letters(texts):
        return {"input_ids": [[ord(letter) for letter in text if letter != "?"] for text in texts]}

    rows = [{"prompt": "red fish"}, {"prompt": [{"role": "user", "content": "hi"}]}]
    require_tokens(letters, rows, "model")
    with pytest.raises(UsageError, match=r"model: expected its tokenizer .* found none in '\?'"):
        require_tokens(letters, [*rows, {"prompt": "?"}], "model")

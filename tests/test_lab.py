"""The lab: a language whose truth is known, a run that over-optimises, and what is said of it."""

import copy
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import UsageError
from taut.lab import language
from taut.lab.data import audited_columns, labelled_prompts, recipe_table
from taut.lab.outcome import Outcome
from taut.lab.overoptimise import claim, overoptimise
from taut.lab.settings import SIZES, Settings, checkpoints, settings_of
from taut.lab.truth import learned_reward
from taut.lab.verdict import EXAMPLE_LOG, EXAMPLE_TRUTH, TARGETS, demonstrate, judge
from taut.report.terminal.lab import lab_report
from taut.report.terminal.layout import print_report
from taut.training.pipeline.recipe import parse_recipe

EXAMPLES = Path(taut.__file__).parent / "examples"
TINY = SIZES["tiny"]


# --- the language ---------------------------------------------------------------------------------


def test_gold_is_a_probability():
    """The true reward of any response, also an empty one, lies in [0, 1]."""
    rng = np.random.default_rng(0)
    prompts = language.draw_prompts(500, rng)
    responses = rng.integers(len(language.TOKENS), size=(500, language.LONGEST))
    gold = language.gold_reward(prompts, responses)
    assert ((gold >= 0) & (gold <= 1)).all()
    assert language.gold(["tide wave reef gull"], [""])[0] > 0


def test_gold_of_a_response_worked_by_hand():
    """harbour (1.0) and choir (1.4) to a prompt about the sea: the first is on topic, +0.6."""
    latent = -2.5 + 5 * np.tanh((1.0 + 0.6 + 1.4) / 5)
    found = language.gold(["tide wave reef flute"], ["harbour choir"])[0]
    assert found == pytest.approx(1 / (1 + np.exp(-latent)), abs=1e-12)


def test_saying_a_word_again_earns_nothing_and_then_annoys():
    """A second time changes nothing; each time from the third on costs 1.5 of log-odds."""
    prompt = ["tide wave reef gull"]

    def log_odds(response):
        gold = language.gold(prompt, [response])[0]
        return np.log(gold / (1 - gold))

    once = log_odds("storm")
    assert log_odds("storm storm") == pytest.approx(once)
    assert log_odds("storm storm storm storm") == pytest.approx(once - 3.0)
    assert log_odds("storm harbour") > once


def test_people_hardly_ever_say_a_word_three_times():
    """Demonstrations say next to nothing about what annoys: that is what a proxy cannot know."""
    rng = np.random.default_rng(1)
    prompts = language.draw_prompts(4000, rng)
    rows = language.demonstrations(prompts, rng)
    counts = (rows[:, :, None] == np.arange(2, len(language.TOKENS))).sum(axis=1)
    assert (counts >= 3).any(axis=1).mean() < 0.001
    length = (rows >= 2).sum(axis=1)
    assert length.min() == 3
    assert length.max() == 7
    assert ((rows == language.END).sum(axis=1) == 1).all()


def test_texts_and_tokens_are_the_same_thing():
    """Encoding undoes decoding, and the reward of texts is that of their tokens."""
    rng = np.random.default_rng(2)
    prompts = language.draw_prompts(300, rng)
    rows = language.demonstrations(prompts, rng)
    texts = language.decode(prompts), language.decode(rows)
    assert (language.encode(texts[0]) == prompts).all()
    np.testing.assert_array_equal(language.gold(*texts), language.gold_reward(prompts, rows))


def test_prompts_name_their_topic():
    """Four words in five are of the topic, so that it can nearly always be told."""
    prompts = language.draw_prompts(20_000, np.random.default_rng(3))
    topics = language.topic_of(prompts)
    assert np.bincount(topics, minlength=4) / len(topics) == pytest.approx([0.25] * 4, abs=0.03)


# --- what is audited ------------------------------------------------------------------------------


def _log(folder, steps=(0, 10), prompts=40):
    import pyarrow as pa

    rng = np.random.default_rng(5)
    for step in steps:
        columns = {
            "step": [step] * prompts,
            "prompt_id": [f"held_out-{i:06d}" for i in range(prompts)],
            "reward": rng.random(prompts),
            "gold": rng.random(prompts),
            "policy_logprob": rng.normal(-10, 1, prompts),
            "ref_logprob": rng.normal(-10, 1, prompts),
            "n_tokens": [5] * prompts,
            "truncated": [False] * prompts,
        }
        pq.write_table(pa.table(columns), folder / f"step-{step:06d}.rank-0.parquet")


def test_labels_are_drawn_blind(tmp_path):
    """The same random prompts are labelled at every step, whatever came out; no other has gold."""
    _log(tmp_path)
    columns = audited_columns(tmp_path, TINY)
    known = ~np.isnan(columns["gold"])
    assert set(columns["prompt_id"][known]) == set(labelled_prompts(TINY).tolist())
    assert known.sum() == 2 * TINY.gold
    other = labelled_prompts(settings_of("tiny", seed=1))
    assert set(other.tolist()) != set(labelled_prompts(TINY).tolist())


def test_the_recipe_of_an_experiment_is_valid(tmp_path):
    """Every size makes a recipe that the runner takes, with the reward in the range of gold."""
    for settings in SIZES.values():
        recipe = parse_recipe(recipe_table(tmp_path, settings))
        assert recipe.policy.temperature == 1.0
        assert recipe.gold.range == (0.0, 1.0)
        assert checkpoints(settings)[-1] == settings.steps


def test_a_folder_holds_one_experiment(tmp_path):
    """Other settings, or foreign files, are refused; the same settings go on."""
    claim(tmp_path / "a", TINY)
    claim(tmp_path / "a", TINY)
    with pytest.raises(UsageError, match="seed 0, not 1"):
        claim(tmp_path / "a", settings_of("tiny", seed=1))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="empty folder"):
        claim(tmp_path / "b", TINY)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"gold": 1}, "gold: expected"),
        ({"gold": 2000}, "gold: expected"),
        ({"every": 0}, "every: expected"),
        ({"seed": "x"}, "seed: .*found 'x'"),
        ({"size": "huge"}, "size: expected tiny"),
    ],
)
def test_impossible_settings_are_refused(change, what):
    """Settings that make no experiment say which and what would do."""
    with pytest.raises(UsageError, match=what):
        settings_of(**change)


# --- the bundled example --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example():
    return taut.read_rollouts(EXAMPLES / EXAMPLE_LOG), json.loads(
        (EXAMPLES / EXAMPLE_TRUTH).read_text(encoding="utf-8")
    )


@pytest.fixture(scope="module")
def outcome(example):
    return judge(*example).document


def test_the_example_is_small_and_holds_no_text():
    """The bundled log is sums only, and well below a megabyte."""
    assert (EXAMPLES / EXAMPLE_LOG).stat().st_size < 400_000
    columns = set(pq.read_schema(EXAMPLES / EXAMPLE_LOG).names)
    assert not columns & {"prompt", "response", "policy_logprobs"}


def test_the_example_is_a_standard_run(example):
    """It is what `taut lab overoptimise` makes without options."""
    settings = dict(example[1]["settings"])
    settings.pop("reward_range")
    assert Settings(**settings) == SIZES["small"]


def test_the_example_turns_and_the_certificate_sees_it(outcome):
    """The truth peaks and falls while the learned reward rises; the log alone proves it."""
    turn = outcome["turn"]
    assert turn["fall"] > 20 * turn["fall_se"]
    assert turn["proxy_rise"] > 0.1
    assert turn["seen_from"] is not None
    assert outcome["selection"]["over_optimised"] == "caught"
    assert outcome["selection"]["regret"] < 0.1 * outcome["selection"]["best_proxy_regret"]
    assert outcome["shift_correlation"] > 0.9


def test_the_example_covers_its_truth(outcome):
    """Every certificate of every step contains the truth."""
    assert outcome["covered"] == dict.fromkeys(TARGETS, True)
    for row in outcome["steps"]:
        # Held out by design; that no rollout was dropped is assumed of any log.
        assert row["certificates"]["reward"]["status"] in ("certified", "conditional")


def test_a_truth_outside_is_called_outside(example):
    """The comparison with the truth can fail: a truth that is moved is no longer covered."""
    rollouts, truth = example
    moved = copy.deepcopy(truth)
    moved["steps"][-1]["gold"] += 0.3
    found = judge(rollouts, moved).document
    assert not found["covered"]["reward"]
    assert not found["steps"][-1]["covered"]["reward"]
    assert found["steps"][0]["covered"]["reward"]


def test_regret_is_that_of_the_truth(example, outcome):
    """Regret is the best true reward less that of the pick, whatever the audit believed."""
    gold = {row["step"]: row["gold"] for row in example[1]["steps"]}
    found = outcome["selection"]
    assert found["regret"] == max(gold.values()) - gold[found["chosen"]]
    assert found["last_regret"] == max(gold.values()) - gold[max(gold)]


def test_the_demonstration_is_plain_data():
    """The document of the demo is JSON without NaN and holds a whole certificate."""
    document = json.loads(json.dumps(demonstrate(EXAMPLES).document, allow_nan=False))
    assert document["audit"]["schema"] == "taut.certificate/2"
    assert document["audit"]["log"]["rollouts"] == document["settings"]["prompts"]
    assert Outcome.model_validate(document).document == document


@pytest.mark.parametrize("width", [60, 75, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_report_fits_and_says_the_turn(width, encoding, outcome):
    """Verdict, chart and table at any width and on any terminal, with no line beyond it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_report(lab_report(Outcome.model_validate(outcome)), file=file, width=width)
    file.seek(0)
    lines = file.read().splitlines()
    assert max(map(len, lines)) <= width
    assert "turns at step" in " ".join(" ".join(lines).split())
    assert sum("inside" in line for line in lines) >= len(outcome["steps"])


# --- end to end -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole experiment, at a size that only tests the plumbing."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = tmp_path_factory.mktemp("lab") / "run"
    return overoptimise(folder, size="tiny", quiet=True)


def test_an_experiment_end_to_end(finished):
    """From nothing to a verdict: all checkpoints are logged, measured and audited."""
    document = finished.outcome.document
    assert [row["step"] for row in document["steps"]] == [0, 1, 2]
    assert document["steps"][0]["kl"] == pytest.approx(0, abs=1e-6)
    rollouts = taut.read_rollouts(finished.log)
    assert len(rollouts) == 3 * TINY.prompts
    assert (~np.isnan(rollouts.gold)).sum() == 3 * TINY.gold
    assert rollouts.facts.held_out and rollouts.facts.stands("random_labels") == "recorded"
    start = rollouts.step == 0
    assert np.abs(rollouts.log_ratio[start]).max() < 1e-6


def test_audited_gold_is_the_gold_of_the_responses(finished):
    """The log's gold is the language's own reward, cut to the labelled prompts."""
    full = audited_columns(finished.folder / "run" / "eval", settings_of("tiny", gold=TINY.prompts))
    rollouts = taut.read_rollouts(finished.log)
    known = ~np.isnan(rollouts.gold)
    np.testing.assert_array_equal(rollouts.gold[known], full["gold"][known])
    assert not np.isnan(full["gold"]).any()


def test_the_truth_uses_the_reward_of_the_run(finished):
    """The learned reward on token ids is the one on texts that was logged and trained on."""
    from taut.training.pipeline.models import load_scorer, load_tokenizer
    from taut.training.pipeline.rewards import MappedReward, ModelScore, RewardMap

    where = finished.folder / "run" / "models" / "reward"
    tokenizer = load_tokenizer(str(where))
    model = load_scorer(str(where)).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    manifest = json.loads((finished.folder / "run" / "manifest.json").read_text())
    reward = RewardMap(**manifest["stages"]["policy"]["map"])
    texts = MappedReward(ModelScore(model, tokenizer, max_tokens=64, batch=50), reward)
    rng = np.random.default_rng(7)
    prompts = language.draw_prompts(50, rng)
    rows = language.demonstrations(prompts, rng)
    rows[:10] = rng.integers(2, len(language.TOKENS), size=(10, language.LONGEST))  # cut off
    expected = texts(language.decode(prompts), language.decode(rows))
    np.testing.assert_allclose(learned_reward(finished.folder)(prompts, rows), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--beta", "0"), "policy.beta: expected a number above 0"),
        (("--gold", "2000"), "gold: expected 2 to 1000"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_training(arguments, fragment, tmp_path):
    """A wrong setting costs nothing and leaves nothing behind."""
    command = ["lab", "overoptimise", "-o", str(tmp_path / "new"), *arguments]
    with pytest.raises(UsageError, match=fragment):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    assert not (tmp_path / "new").exists()


def test_a_finished_experiment_is_not_run_again(finished, tmp_path):
    """The command on a finished folder reads what is there, and writes JSON and a picture."""
    picture, data = tmp_path / "lab.svg", tmp_path / "lab.json"
    before = finished.log.stat().st_mtime_ns
    arguments = ["lab", "overoptimise", "-o", finished.folder, "--size", "tiny", "--quiet"]
    arguments += ["--plot", picture, "--json", data]
    result = CliRunner().invoke(cli, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(data.read_text()) == finished.outcome.document
    assert picture.stat().st_size < 60_000
    assert finished.log.stat().st_mtime_ns == before

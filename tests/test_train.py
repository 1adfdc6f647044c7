"""`taut train`: whole runs at tiny size, killed and gone on with, in two processes, by LoRA."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("trl")

import small_run
import taut
from taut import cli
from taut.errors import TautError, UsageError
from taut.training.extra import require_extra
from taut.training.pipeline.recipe import read_recipe
from taut.training.pipeline.run import train

HERE = Path(__file__).parent
STEPS, PROMPTS, ROLLOUTS = 6, 4, 4


def table(folder):
    """All rows of a log, in the order of its files."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def lines(path):
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def facts(folder):
    """What a run leaves behind that must not depend on how often it was stopped."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            found[name] = pq.read_table(path).to_pydict()
        elif path.suffix in (".safetensors", ".jsonl") and name != "metrics.jsonl":
            found[name] = path.read_bytes()
        elif path.name == "manifest.json":
            found[name] = json.loads(path.read_text())
            del found[name]["recipe"]["output"]
    return found


def in_processes(arguments, *, torchrun=0):
    """Start `taut train` in processes of its own."""
    start = ["-m", "taut", "train", *arguments]
    if torchrun:
        port = str(random.randint(20_000, 60_000))
        elastic = ["-m", "torch.distributed.run", f"--nproc-per-node={torchrun}"]
        start = [*elastic, f"--master-port={port}", *start]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *start],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def command(*arguments):
    """Run a taut command here and return its exit status."""
    try:
        return cli.cli.main([str(a) for a in arguments], standalone_mode=False) or 0
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The same sums in the same order here as in processes of their own."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The path of a recipe with its data."""
    return small_run.write_recipe(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def unbroken(recipe):
    """A run from beginning to end, with TensorBoard."""
    changes = {"report_to": '["tensorboard"]'}
    return train(read_recipe(recipe, changes=changes), quiet=True)


# --- a whole run ----------------------------------------------------------------------------------


def test_policy_and_reference_agree_before_training(unbroken):
    """At step 0 the log-ratio is 0 on held-out prompts and in training: nothing draws noise."""
    for log in ("eval", "log"):
        rows = table(unbroken.folder / log).to_pydict()
        ratio = np.subtract(rows["policy_logprob"], rows["ref_logprob"])
        first = np.array(rows["step"]) == 0
        assert first.any() and np.abs(ratio[first]).max() < 1e-5
        assert np.abs(ratio[~first]).max() > 1e-3


def test_the_held_out_log_is_what_was_asked_for(unbroken, recipe):
    """Each held-out prompt has its rollouts at each step, with gold and inside the range."""
    rows = table(unbroken.folder / "eval")
    held_out = [row["prompt"] for row in lines(recipe.parent / "held_out.jsonl")]
    columns = rows.to_pydict()
    assert sorted(set(columns["step"])) == [0, 3, 6]
    assert rows.num_rows == 3 * len(held_out) * 2
    assert len(set(columns["prompt_id"])) == len(held_out)
    assert max(map(abs, columns["reward"])) <= 1 and max(map(abs, columns["gold"])) <= 1
    assert max(columns["n_tokens"]) <= 6
    assert len(set(columns["rollout_id"])) == rows.num_rows and "group" not in columns
    words = {row["prompt"] for row in lines(recipe.parent / "held_out.jsonl")}
    assert set(columns["prompt"]) == words
    assert list(map(len, columns["response_ids"])) == columns["n_tokens"]
    assert "response" not in table(unbroken.folder / "log").column_names
    cut = np.array(columns["truncated"])
    assert (np.array(columns["n_tokens"])[cut] == 6).all() and not cut.all()


def test_the_logs_say_what_they_are_worth(unbroken):
    """beta, ranges, held out or trained on, and what was launched stand in each file."""
    for name, held, draws in (("eval", True, 3 * 12), ("log", False, STEPS * PROMPTS)):
        found = [
            json.loads(pq.read_schema(path).metadata[b"taut.facts"])
            for path in (unbroken.folder / name).glob("*.parquet")
        ]
        assert all(f["held_out"] is held and f["complete"] and f["beta"] == 0.02 for f in found)
        assert all(f["reward_range"] == f["gold_range"] == [-1, 1] for f in found)
        assert all(f["starts_at_reference"] for f in found)
        assert sum(f["launched_prompts"] for f in found) == draws


def test_without_gold_the_next_step_is_labelling(unbroken):
    """Where no gold is known, select and plan could say nothing: a sheet of labels comes first."""
    from taut.training.pipeline.outcome import next_commands

    table = [row.model_copy(update={"gold": None}) for row in unbroken.table]
    manifest = SimpleNamespace(
        head={"recipe": unbroken.manifest["recipe"]}, stages=unbroken.manifest["stages"]
    )
    draw, audit = next_commands(unbroken.folder, manifest, table)
    assert draw.startswith("taut label draw ") and "-n 12 -o sheet.html" in draw
    assert "--labels labels.jsonl" in audit


def test_held_out_prompts_were_not_trained_on(unbroken, recipe):
    """No prompt of the held-out log is in the training log."""
    logs = [set(table(unbroken.folder / name)["prompt_id"].to_pylist()) for name in ("eval", "log")]
    assert logs[0].isdisjoint(logs[1])


def test_scoring_the_held_out_log_gives_its_own_log_probs(unbroken, tmp_path):
    """The log's token ids are exact; without them, text that other tokens spelled is refused."""
    (path,) = (unbroken.folder / "eval").glob("step-000006*")
    models = unbroken.folder / "models"
    out = tmp_path / "scored.parquet"
    scored = taut.score(path, out, policy=models / "policy", ref=models / "start")
    one, two = pq.read_table(path), pq.read_table(out)
    assert not scored.estimated
    for name in ("policy_logprob", "ref_logprob"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-4)
    facts = [json.loads(table.schema.metadata[b"taut.facts"]) for table in (one, two)]
    assert all(facts[0][name] == facts[1][name] for name in ("beta", "reward_range", "held_out"))
    text = tmp_path / "text.parquet"
    pq.write_table(one.drop(["prompt_ids", "response_ids"]), text)
    with pytest.raises(TautError, match="nobody sampled"):
        taut.score(text, tmp_path / "no.parquet", policy=models / "policy")


def test_the_training_log_holds_each_rollout_once(unbroken):
    """Steps x prompts x rollouts rows, each prompt of a step with all its rollouts."""
    rows = table(unbroken.folder / "log").to_pydict()
    assert len(rows["step"]) == STEPS * PROMPTS * ROLLOUTS
    draws = list(zip(rows["step"], rows["prompt_id"], strict=True))
    assert all(draws.count(draw) == ROLLOUTS for draw in draws)
    assert len(set(draws)) == STEPS * PROMPTS


def test_the_threshold_is_burnt_in_and_then_frozen(unbroken):
    """Nothing is clipped in the burn-in; then tau is one number, logged with its clip share."""
    reports = lines(unbroken.folder / "metrics.jsonl")
    steps = [line for line in reports if "kl/clip_share" in line]
    assert [line["kl/clip_share"] for line in steps[:2]] == [0.0, 0.0]
    assert all("tau" not in line for line in steps[:2])
    assert {line["tau"] for line in steps[2:]} == {unbroken.manifest["stages"]["policy"]["tau"]}
    assert max(line["kl/clip_share"] for line in steps[2:]) > 0


def test_the_learning_curve_has_a_row_for_each_size(unbroken):
    """rm_curve.jsonl: pairs, L on the unit scale, loss and accuracy on held-out prompts."""
    rows = lines(unbroken.folder / "rm_curve.jsonl")
    assert rows[0]["m"] == 16 < rows[1]["m"] and len(rows) == 2
    for row in rows:
        assert 0 < row["L"] < 1 and 0 < row["standard_error"] < 1
        assert 0 < row["loss"] < 2 and 0.3 < row["accuracy"] <= 1


def test_the_weights_of_recorded_steps_are_kept(unbroken):
    """The last recorded weights are those of the final policy, and a step before differs."""
    weights = [
        (unbroken.folder / "models" / name / "model.safetensors").read_bytes()
        for name in ("policy", "step-000006", "step-000003")
    ]
    assert weights[0] == weights[1] != weights[2]


def test_what_is_printed_can_be_pasted(unbroken, capsys):
    """The audit, select and plan commands at the end work on the run's own logs."""
    for line in unbroken.commands:
        words = shlex.split(line)
        assert words[0] == "taut"
        if words[1] in cli.cli.commands:  # a verb that has landed
            paths = sorted(glob(words[2]))
            assert command(words[1], *paths, *words[3:]) == 0, capsys.readouterr().err
    assert "certified" in capsys.readouterr().out


def test_a_threshold_that_binds_everywhere_is_pointed_out(unbroken):
    """Where most rollouts are clipped, or tau is its floor, the end of the run says so."""
    last = unbroken.table[-1].clipped
    assert last > 0.5 and any(f"{last:.0%} of the last" in note for note in unbroken.notes)
    assert any("tau is policy.floor, 0.01 nats" in note for note in unbroken.notes)


def test_metrics_reach_tensorboard(unbroken):
    """report_to goes to the trainers: each stage has its board, with reward and clip share."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(unbroken.folder / "tensorboard" / "policy")).Reload()
    assert {"train/reward", "train/kl/clip_share", "train/tau"} <= set(board.Tags()["scalars"])
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_a_finished_run_is_not_run_again(unbroken, recipe, capsys):
    """The same command again prints the same; another recipe is refused by what changed."""
    before = facts(unbroken.folder)
    assert command("train", recipe, "--quiet", "--resume") == 0
    shown = capsys.readouterr().out
    assert "measured, not certified" in shown and unbroken.commands[0] in shown
    assert facts(unbroken.folder) == before
    with pytest.raises(UsageError, match=r"policy\.beta was 0\.02, is 0\.5"):
        command("train", recipe, "--quiet", "--set", "policy.beta=0.5")


# --- stopped and gone on with ---------------------------------------------------------------------


@pytest.mark.integration
def test_a_killed_run_ends_as_an_unbroken_one(unbroken, recipe, tmp_path):
    """Kill -9 at a random point of the policy stage, go on: every file is the same, bit for bit."""
    folder = tmp_path / "run"
    process = in_processes([str(recipe), "--output", str(folder), "--quiet"])
    after, pause = random.randint(0, STEPS - 1), random.uniform(0, 0.2)
    while process.poll() is None and len(list((folder / "log").glob("step*"))) <= after:
        time.sleep(0.01)
    time.sleep(pause)
    assert process.poll() in (None, 0), process.stderr.read()
    os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    process.communicate()
    train(read_recipe(recipe, output=str(folder)), quiet=True)
    one, two = facts(unbroken.folder), facts(folder)
    assert one.keys() == two.keys()
    differ = [name for name in one if one[name] != two[name] and name != "manifest.json"]
    assert differ == [], f"killed after {after} steps and {pause:.3f} s"
    assert one["manifest.json"]["stages"] == two["manifest.json"]["stages"]


def test_half_a_checkpoint_is_not_gone_on_from(tmp_path):
    """Of two checkpoints, one without its last file, the whole one counts; the other goes."""
    from taut.training.pipeline.trainers import WHOLE, remove_broken, whole_checkpoints

    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-2" / WHOLE).touch()
    assert whole_checkpoints(tmp_path) == [tmp_path / "checkpoint-2"]
    remove_broken(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-x"]


def test_one_run_at_a_time_works_in_a_folder(recipe, tmp_path):
    """A second run in the folder of one that is at work is refused."""
    from taut.training.pipeline.manifest import only_one

    folder = tmp_path / "run"
    with only_one(folder), pytest.raises(UsageError, match="another run at work"):
        train(read_recipe(recipe, output=str(folder)), quiet=True)


# --- processes, adapters, ways --------------------------------------------------------------------


@pytest.mark.integration
def test_two_processes_share_a_run(recipe, tmp_path):
    """Under torchrun each rank records its share, and one of them speaks."""
    folder = tmp_path / "run"
    arguments = [str(recipe), "--output", str(folder), "--set", "reward_model.sizes=[]"]
    process = in_processes([*arguments, "--set", "policy.steps=4"], torchrun=2)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    assert out.count("measured, not certified") == 1
    rows = table(folder / "log").to_pydict()
    assert len(rows["step"]) == 4 * PROMPTS * ROLLOUTS
    assert len(list((folder / "log").glob("*rank*"))) == 2 * 4
    draws = list(zip(rows["step"], rows["prompt_id"], strict=True))
    assert all(draws.count(draw) == ROLLOUTS for draw in draws)
    held = table(folder / "eval").to_pydict()
    assert len(held["step"]) == 3 * 12 * 2 and len(set(held["prompt_id"])) == 12
    ratio = np.subtract(held["policy_logprob"], held["ref_logprob"])
    assert np.abs(ratio[np.array(held["step"]) == 0]).max() < 1e-5


def test_adapters_train_all_stages(recipe, tmp_path):
    """With LoRA in all stages ℓ begins at 0; held-out prompts drawn twice are two draws."""
    changes = {
        "lora.rank": "4",
        "lora.stages": '["sft", "reward_model", "policy"]',
        "sft.data": str(recipe.parent / "sft.jsonl"),
        "sft.learning_rate": "1e-2",
        "reward_model.sizes": "[]",
        "policy.way": "reward_function",
        "policy.steps": "3",
        "policy.learning_rate": "5e-2",
        "gold.share": "0.5",
    }
    held_out = recipe.parent / "held_out_twice.jsonl"
    drawn = (recipe.parent / "held_out.jsonl").read_text(encoding="utf-8")
    held_out.write_text(drawn + drawn, encoding="utf-8")
    changes["evaluation.prompts"] = str(held_out)
    done = train(read_recipe(recipe, changes=changes, output=str(tmp_path / "run")), quiet=True)
    models = done.folder / "models"
    assert (models / "step-000003" / "adapter_model.safetensors").exists()
    assert (models / "policy" / "model.safetensors").exists()
    start, sft = ((models / name / "model.safetensors").read_bytes() for name in ("start", "sft"))
    assert start != sft
    rows = table(done.folder / "eval").to_pydict()
    ratio = np.subtract(rows["policy_logprob"], rows["ref_logprob"])
    first = np.array(rows["step"]) == 0
    assert np.abs(ratio[first]).max() == 0 and np.abs(ratio[~first]).max() > 1e-3
    assert len(set(zip(rows["step"], rows["group"], strict=True))) == len(first) / 2
    known = {
        name for name, gold in zip(rows["prompt_id"], rows["gold"], strict=True) if gold is not None
    }
    labelled = [name in known for name in rows["prompt_id"]]
    assert labelled == [gold is not None for gold in rows["gold"]] and 0 < sum(labelled) < len(
        first
    )


@pytest.mark.slow
def test_both_ways_train_the_same_policy(unbroken, recipe, tmp_path):
    """The public-API reward function makes the rollouts that the mixin makes."""
    changes = {"policy.way": "reward_function"}
    done = train(read_recipe(recipe, changes=changes, output=str(tmp_path / "run")), quiet=True)
    one, two = (table(run.folder / "eval").to_pydict() for run in (unbroken, done))
    for name in ("prompt_id", "n_tokens", "step"):
        assert one[name] == two[name]
    for name in ("policy_logprob", "ref_logprob", "reward"):
        assert np.allclose(one[name], two[name], atol=1e-3)


def test_a_checkpoint_brings_neither_dropout_nor_sampling_defaults(unbroken, tmp_path):
    """What would make two forwards differ, or sample another policy, is off once it is loaded."""
    import shutil

    import torch

    from taut.training.pipeline.models import load_causal

    folder = shutil.copytree(unbroken.folder / "models" / "start", tmp_path / "model")
    for name, changes in (
        ("config.json", {"attention_dropout": 0.5}),
        ("generation_config.json", {"do_sample": True, "top_k": 2, "temperature": 0.3}),
    ):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(settings | changes), encoding="utf-8")
    model = load_causal(str(folder)).train()
    assert model.config.attention_dropout == 0
    assert model.generation_config.to_diff_dict().keys().isdisjoint({"top_k", "temperature"})
    tokens = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(model(tokens).logits, model(tokens).logits)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation.prompts": "pairs.jsonl"}, "also in reward_model.pairs"),
        ({"evaluation.prompts": "prompts.jsonl"}, "also in policy.prompts"),
        ({"policy.prompts_per_step": "25"}, "expected 25 or more training prompts"),
        ({"model.from_scratch.tokenizer": "nowhere"}, "expected a tokenizer"),
        ({"policy.micro_batch": "5"}, "expected a divisor of the 16 rollouts"),
        ({"gold.function": "small_run:nothing"}, "expected a function that can be imported"),
        ({"report_to": '["nowhere"]'}, "nowhere is not supported"),
        ({"gold.range": "[0, 1]"}, r"gold\.range: expected values in \[0, 1\]"),
        ({"reward_model.sizes": "[16, 500]"}, "at most the 39 training pairs, found 500"),
        ({"reward_model.start": "recipe.toml"}, "expected the folder of a model"),
    ],
)
def test_what_cannot_work_is_refused(recipe, tmp_path, changes, said):
    """Data and settings that do not fit are one-line errors, not tracebacks of a trainer."""
    with pytest.raises(TautError, match=said):
        taut.train(recipe, changes=changes, output=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "manifest.json").exists(), "the mended run would be refused"


def test_a_missing_extra_is_one_line(monkeypatch, recipe):
    """Without the libraries of the extra the error says what to install."""
    monkeypatch.setattr("taut.training.extra.find_spec", lambda name: None if name == "trl" else 1)
    with pytest.raises(UsageError, match=r"trl, which is not installed: pip install '.\[train"):
        require_extra()


def test_only_safetensors_are_read(tmp_path):
    """A folder with pickled weights is refused, whatever it holds."""
    from taut.training.pipeline.models import model_folder

    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UsageError, match="pickled weights are not read"):
        model_folder(str(tmp_path))


def test_a_causal_model_is_no_trained_reward_model(unbroken):
    """A given checkpoint without its own head would score at random: it is refused."""
    from taut.training.pipeline.models import load_scorer

    with pytest.raises(UsageError, match="expected a trained sequence classifier"):
        load_scorer(str(unbroken.folder / "models" / "policy"))


def test_the_example_is_printed(capsys):
    """taut train --example prints a recipe, and no recipe is an error."""
    assert command("train", "--example") == 0
    assert "[policy]" in capsys.readouterr().out
    with pytest.raises(UsageError, match="expected a RECIPE"):
        command("train")
    with pytest.raises(UsageError, match="exclude each other"):
        command("train", "x.toml", "--resume", "--fresh")

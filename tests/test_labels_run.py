"""From a recorded TRL run to a certificate by three commands, a program as the annotator."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import taut
from taut.draws.assumptions import Standing

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
    ),
]

import tiny  # noqa: E402
from taut.training import record  # noqa: E402
from test_label_cli import answered, run  # noqa: E402
from test_labels_onto import audited, labels_stand  # noqa: E402


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """The log of a run's evaluation on 100 held-out prompts, 4 answers each, with its texts."""
    folder = tmp_path_factory.mktemp("run")
    trainer = trl.RLOOTrainer(
        model=tiny.save_model(folder / "model"),
        reward_funcs=tiny.reward_even,
        args=trl.RLOOConfig(
            **tiny.settings(
                folder / "out",
                beta=0.1,
                max_steps=1,
                eval_strategy="steps",
                eval_steps=1,
                per_device_eval_batch_size=40,
            )
        ),
        train_dataset=tiny.make_prompts(20),
        eval_dataset=tiny.make_prompts(120).select(range(20, 120)),
    )
    record(trainer, folder / "log", evaluation=folder / "held_out", reward_range=(0, 1))
    trainer.train()
    return folder / "held_out"


def test_three_commands_on_a_recorded_run(held_out, tmp_path):
    """The certificate holds what the program says of all 400 answers; nothing was declared."""
    rows = [row for file in held_out.iterdir() for row in pq.read_table(file).to_pylist()]
    gold = {row["rollout_id"]: int("e" in row["response"]) for row in rows}
    assert len(gold) == 400 and 0.02 < np.mean([*gold.values()]) < 0.98
    run("label", "draw", held_out, "-n", 60, "-o", tmp_path / "sheet.html")
    labels = answered(tmp_path / "sheet.html", tmp_path / "labels.jsonl", gold)
    to = tmp_path / "found.json"
    run("audit", held_out, "--labels", labels, "--quiet", "--json", to)
    found = taut.load(to)
    assert found.target == "clipped" and found.status == "conditional"  # on sound log-probs
    assert labels_stand(found)[0] is Standing.RECORDED
    reward = found.targets["reward"]
    assert reward.status == "certified"
    assert reward.lower <= np.mean([*gold.values()]) <= reward.upper
    assert reward.upper - reward.lower < 0.5
    assert {item.name for item in found.assumptions if item.stands is Standing.DECLARED} <= {
        "reward-range",
        "gold-range",
    }


def test_the_best_of_each_prompt_is_refused(held_out, tmp_path):
    """The answer of the highest reward of each prompt, labelled without a sheet: estimated."""
    rows = [row for file in held_out.iterdir() for row in pq.read_table(file).to_pylist()]
    best = {}
    for row in rows:
        if row["reward"] > best.get(row["prompt_id"], row)["reward"] or (
            row["prompt_id"] not in best
        ):
            best[row["prompt_id"]] = row
    labels = tmp_path / "labels.csv"
    lines = [f"{row['rollout_id']},{'e' in row['response']}" for row in best.values()]
    labels.write_text("\n".join(["rollout_id,label", *lines]))
    found = audited(
        held_out, "--labels", labels, "--declare", "random-labels", to=tmp_path / "found.json"
    )
    assert found.status == "estimated"
    assert labels_stand(found)[0] in (Standing.VIOLATED, Standing.IN_DOUBT)

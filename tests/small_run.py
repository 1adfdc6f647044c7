"""A training run that takes seconds: a vocabulary of words, a truth that counts, pairs, prompts."""

import json
from pathlib import Path

import numpy as np

WORDS = [f"w{i}" for i in range(20)]
SPECIAL = ["<pad>", "<end>"]
GOLD_RANGE = (-1.0, 1.0)


def truth(prompts, completions, **_):
    """Gold: the share of even words minus the share of odd ones."""
    return [_truth(text) for text in completions]


def broken(prompts, completions, **_):
    """A gold function that does not answer."""
    return [None] * len(completions)


def _truth(text: str) -> float:
    words = [word for word in text.split() if word in WORDS]
    signs = [1.0 if int(word[1:]) % 2 == 0 else -1.0 for word in words]
    return float(np.mean(signs)) if signs else 0.0


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    inner = Tokenizer(models.WordLevel(names, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>"
    ).save_pretrained(folder)


def write_data(folder: Path, *, pairs: int = 60, prompts: int = 24, seed: int = 0) -> None:
    """Write pairs.jsonl (with gold), prompts.jsonl, held_out.jsonl and sft.jsonl."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join(rng.choice(WORDS, count))

    seen: set[str] = set()

    def fresh() -> str:
        while (text := words(4)) in seen:
            pass
        seen.add(text)
        return text

    rows = []
    for _ in range(pairs):
        two = [words(5), words(5)]
        gold = [_truth(text) for text in two]
        better = int(rng.random() < 1 / (1 + np.exp(3 * (gold[0] - gold[1]))))
        rows.append(
            {
                "prompt": fresh(),
                "chosen": two[better],
                "rejected": two[1 - better],
                "chosen_gold": gold[better],
                "rejected_gold": gold[1 - better],
            }
        )
    _write(folder / "pairs.jsonl", rows)
    _write(folder / "prompts.jsonl", [{"prompt": fresh()} for _ in range(prompts)])
    _write(folder / "held_out.jsonl", [{"prompt": fresh()} for _ in range(12)])
    _write(folder / "sft.jsonl", [{"prompt": fresh(), "completion": words(5)} for _ in range(40)])


def _write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_recipe(folder: Path, more: str = "") -> Path:
    """Write tokenizer, data and a recipe; `more` goes at the end of it. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer")
    write_data(folder)
    path = folder / "recipe.toml"
    path.write_text(RECIPE + more, encoding="utf-8")
    return path


RECIPE = """
seed = 3

[model]
device = "cpu"

[model.from_scratch]
tokenizer = "tokenizer"
hidden = 16
layers = 1
heads = 2
context = 64

[reward_model]
pairs = "pairs.jsonl"
held_out = 0.4
sizes = [16]
epochs = 2
learning_rate = 1e-2
units = "gold"

[gold]
function = "small_run:truth"
range = [-1.0, 1.0]

[policy]
prompts = "prompts.jsonl"
beta = 0.02
tau = "quantile"
burn_in = 2
calibration = 1
floor = 0.01
steps = 6
prompts_per_step = 4
rollouts_per_prompt = 4
learning_rate = 5e-3
max_new_tokens = 6
save_every = 2

[evaluation]
prompts = "held_out.jsonl"
every = 3
rollouts_per_prompt = 2

[log]
every = 1

[output]
folder = "run"
"""

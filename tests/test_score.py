"""`taut score`: log-probs under models, against hand computation, through kills and mistakes."""

import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from check import blocks_of  # noqa: E402
from taut.auditing.check import check as taut_check  # noqa: E402
from taut.cli import cli  # noqa: E402
from taut.engines.local import read_rollouts  # noqa: E402
from taut.errors import LogError, TautError, UsageError  # noqa: E402
from taut.logs.schema import REJECTED_KEY  # noqa: E402
from taut.training.scoring import batches, models, scorer, spool  # noqa: E402
from taut.training.scoring.head import find_head, hidden_states, token_log_probs  # noqa: E402
from taut.training.scoring.parts import parts_folder  # noqa: E402
from taut.training.scoring.score import SCORE_KEY, score  # noqa: E402
from taut.training.scoring.words import _prompt_ids  # noqa: E402

SIZE = 300  # vocabulary
TINY = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXTS = ["what is a loop", "say hello", "count to three: one, two, three", "why not"]


def tiny_model(kind, seed, **changes):
    """Return a small random model whose log-probs vary: weights far larger than at a start."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **{**TINY, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


def make_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    made.chat_template = CHAT
    return made


class Place:
    """Models and a log on disk."""

    def __init__(self, root):
        self.root = root
        self.tokenizer = make_tokenizer()
        self.models = {name: tiny_model("llama", seed) for seed, name in enumerate(("a", "b"))}
        for name, model in self.models.items():
            self.save(model, name)

    def save(self, model, name, tokenizer=True):
        folder = self.root / name
        model.save_pretrained(folder)
        if tokenizer:
            self.tokenizer.save_pretrained(folder)
        return str(folder)

    def at(self, name):
        return str(self.root / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    transformers.utils.logging.disable_progress_bar()
    return Place(tmp_path_factory.mktemp("models"))


def test_a_foreign_log_is_scored_without_a_mapping_and_stays_foreign(place, tmp_path):
    """open-instruct's ids are scored as they stand, and its dropped draws are still suspected."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "step": 1,
            "prompt_idx": draw,
            "prompt_tokens": [5, 6, draw + 7],
            "response_tokens": rng.integers(3, SIZE, 4).tolist(),
            "reward": float(k),
            "finish_reason": "stop",
        }
        for draw in range(12)
        for k in range(2)
    ]
    log = tmp_path / "run_rollouts_000000.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {"policy": place.at("a"), "ref": place.at("b")}
    score(log, tmp_path / "scored.parquet", **models)
    found = read_rollouts(tmp_path / "scored.parquet")
    assert found.origin.format == "open-instruct"
    assert len(blocks_of(found)) == 12
    ids = [
        {"prompt_id": row["prompt_idx"], "reward": 0.0}
        | {"prompt_ids": row["prompt_tokens"], "response_ids": row["response_tokens"]}
        for row in rows
    ]
    native = tmp_path / "native.jsonl"
    native.write_text("".join(json.dumps(row) + "\n" for row in ids))
    score(native, tmp_path / "again.parquet", **models)
    again = read_rollouts(tmp_path / "again.parquet")
    assert np.array_equal(found.log_ratio, again.log_ratio)
    checks = {check.check: check.status for check in taut_check(found)}
    assert checks["chosen_by_reward"] == "warn"


def test_a_conversation_in_a_trl_log_is_scored_as_messages(place, tmp_path):
    """The chat template sees the messages, not their text in JSON."""
    chat = [{"role": "user", "content": "why not"}]
    foreign = {"step": 1, "prompt": chat, "completion": "say", "good": 1.0, "advantage": 0.0}
    native = {"prompt_id": "a", "prompt": chat, "response": "say", "reward": 1.0}
    models = {"policy": place.at("a"), "ref": place.at("b")}
    ratios = []
    for name, row in (("trl", foreign), ("native", native)):
        log = tmp_path / f"{name}.jsonl"
        log.write_text(json.dumps(row) + "\n")
        score(log, tmp_path / f"{name}.parquet", end_token="always", **models)
        ratios.append(read_rollouts(tmp_path / f"{name}.parquet").log_ratio.tolist())
    assert ratios[0] == ratios[1]


def some_rows(count=24, seed=0):
    """Return rollouts in token ids, of lengths from 1 to 40."""
    rng = np.random.default_rng(seed)
    return [
        {
            "prompt_id": f"p{i // 2}",
            "reward": float(rng.random()),
            "prompt_ids": rng.integers(3, SIZE, rng.integers(1, 20)).tolist(),
            "response_ids": [*rng.integers(3, SIZE, rng.integers(1, 40)).tolist(), 1],
            "step": i % 2,
            "truncated": False,
        }
        for i in range(count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def by_hand(model, row, temperature=1.0):
    """Return the log-prob of a response from the whole table of one row's logits, in float64."""
    tokens = row["prompt_ids"] + row["response_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0].double() / temperature
    scores = logits.log_softmax(1)
    start = len(row["prompt_ids"])
    return sum(float(scores[at - 1, tokens[at]]) for at in range(start, len(tokens)))


def test_sums_are_those_of_one_row_at_a_time(place, tmp_path):
    """Whatever rows share a batch, each gets its own sum; an audit reads the file as it is."""
    rows = some_rows()
    log, out = write(tmp_path / "log.jsonl", rows), tmp_path / "out.parquet"
    scored = score(
        log, out, policy=place.at("a"), ref=place.at("b"), batch_tokens=150, token_lists=True
    )
    table = pq.read_table(out).to_pydict()
    for role, name in (("policy", "a"), ("ref", "b")):
        expected = [by_hand(place.models[name], row) for row in rows]
        assert table[f"{role}_logprob"] == pytest.approx(expected, abs=2e-4)
        sums = [sum(map(float, tokens)) for tokens in table[f"{role}_logprobs"]]
        assert sums == pytest.approx(table[f"{role}_logprob"], abs=1e-9)
    assert np.std(table["policy_logprob"]) > 1
    for name in ("prompt_id", "reward", "prompt_ids", "response_ids", "step", "truncated"):
        assert table[name] == [row[name] for row in rows]
    assert table["n_tokens"] == [len(row["response_ids"]) for row in rows]
    rollouts = read_rollouts(out)
    difference = np.subtract(table["policy_logprob"], table["ref_logprob"])
    assert rollouts.log_ratio == pytest.approx(difference, abs=1e-9)
    assert scored.log_ratio[0] == pytest.approx(difference.mean())
    assert {model.head for model in scored.models.values()} == {"fused"}
    assert max(model.noise.largest for model in scored.models.values()) < 1e-3
    assert not parts_folder(str(out)).exists()


def test_a_model_and_its_copy_have_no_log_ratio(place, tmp_path, monkeypatch):
    """The control: scored as two models, identical weights give l = 0 exactly, on every row."""
    seen = []
    real = models.resolve

    def unlike(name, *, base=None):
        seen.append(name)
        found = real(name, base=base)
        return models.Model(
            name=name, base=found.base, adapter=None, fingerprint=f"{len(seen)}{found.fingerprint}"
        )

    monkeypatch.setattr(models, "resolve", unlike)
    log, out = write(tmp_path / "log.jsonl", some_rows()), tmp_path / "out.parquet"
    score(log, out, policy=place.at("a"), ref=place.at("a"), batch_tokens=100)
    table = pq.read_table(out)
    assert len(set(seen)) == 1 and len(seen) == 2
    assert table["policy_logprob"].equals(table["ref_logprob"])


def test_one_model_is_in_memory_at_a_time(place, tmp_path, monkeypatch):
    """When the second model is loaded, nothing of the first is left."""
    loaded, real = [], scorer.loaded_base

    def watched(*given):
        assert all(model() is None for model in loaded)
        model = real(*given)
        loaded.append(weakref.ref(model.lm_head.weight))
        return model

    monkeypatch.setattr(scorer, "loaded_base", watched)
    monkeypatch.setattr(scorer, "free_memory", lambda device: None)
    log = write(tmp_path / "log.jsonl", some_rows(2))
    score(log, tmp_path / "o.parquet", policy=place.at("a"), ref=place.at("b"))
    assert len(loaded) == 2


def test_a_run_that_fails_lets_go_of_its_model(place, tmp_path, monkeypatch):
    """A notebook that goes on after an error, or a cluster, does not keep a model for nothing."""
    closed, real = [], scorer.Here.close
    monkeypatch.setattr(scorer.Here, "close", lambda here: closed.append(real(here)))

    def fails(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(scorer, "batch_log_probs", fails)
    log = write(tmp_path / "log.jsonl", some_rows(2))
    with pytest.raises(RuntimeError, match="out of memory"):
        score(log, tmp_path / "o.parquet", policy=place.at("a"), ref=place.at("b"))
    assert len(closed) == 1


def test_neither_file_split_nor_format_matters(place, tmp_path, monkeypatch):
    """Shards of a log give the bytes of the whole log, over several windows."""
    monkeypatch.setattr(spool, "WINDOW_ROWS", 7)
    rows = some_rows()
    write(tmp_path / "whole.jsonl", rows)
    write(tmp_path / "s0.jsonl", rows[:5])
    pq.write_table(pa.Table.from_pylist(rows[5:]), tmp_path / "s1.parquet", row_group_size=4)
    models = {"policy": place.at("a"), "ref": place.at("b"), "batch_tokens": 120}
    score(tmp_path / "whole.jsonl", tmp_path / "a.parquet", **models)
    shards = [tmp_path / "s0.jsonl", tmp_path / "s1.parquet"]
    score(shards, tmp_path / "b.parquet", **models)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


KILLED = """
import sys
from taut.training.scoring import batches, scorer, spool
from taut.training.scoring.score import score
batches.PART_TOKENS = 200
spool.WINDOW_ROWS = 16
real, done = scorer.batch_log_probs, 0
def slow(*given, **named):
    global done
    done += 1
    if done > 6:
        print("ready", flush=True)
        import time
        time.sleep(60)
    return real(*given, **named)
scorer.batch_log_probs = slow
score(sys.argv[1], sys.argv[2], policy=sys.argv[3], ref=sys.argv[4], batch_tokens=120)
"""


@pytest.mark.integration
def test_a_killed_run_goes_on_to_the_same_bytes(place, tmp_path, monkeypatch):
    """Kill -9 in the middle: what was done is not done again, and the file is that of one run."""
    monkeypatch.setattr(batches, "PART_TOKENS", 200)
    monkeypatch.setattr(spool, "WINDOW_ROWS", 16)
    log, out = write(tmp_path / "log.jsonl", some_rows(40)), tmp_path / "out.parquet"
    models = {"policy": place.at("a"), "ref": place.at("b"), "batch_tokens": 120}
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    arguments = [log, out, models["policy"], models["ref"]]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)], stdout=subprocess.PIPE, env=threads
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(LogError, match="another taut score is writing it"):
            score(log, out, **models)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts_folder(str(out)).iterdir()}
    assert sum(name.startswith("score-") for name in kept) >= 2
    with pytest.raises(LogError, match=r"another batch tokens is here \(120, now 130\)"):
        score(log, out, **{**models, "batch_tokens": 130})
    with pytest.raises(LogError, match="another models is here"):
        score(log, out, **{**models, "ref": models["policy"]})
    (tmp_path / "other.jsonl").write_text(log.read_text().replace('"step": 1', '"step": 3'))
    with pytest.raises(LogError, match="another inputs is here"):
        score(tmp_path / "other.jsonl", out, **models)

    calls, real = [], scorer.batch_log_probs
    monkeypatch.setattr(scorer, "batch_log_probs", lambda *a, **k: calls.append(1) or real(*a, **k))
    score(log, out, **models)
    resumed = len(calls)
    score(log, tmp_path / "unbroken.parquet", **models)
    assert resumed < len(calls) - resumed
    assert out.read_bytes() == (tmp_path / "unbroken.parquet").read_bytes()


def test_restart_throws_progress_away(place, tmp_path):
    """--restart begins again where the folder holds another run."""
    log, out = write(tmp_path / "log.jsonl", some_rows(4)), tmp_path / "out.parquet"
    folder = parts_folder(str(out))
    folder.mkdir()
    (folder / "rows.json").write_text("{}")
    (folder / "settings.json").write_text('{"dtype": "bfloat16"}')
    with pytest.raises(LogError, match="--restart"):
        score(log, out, policy=place.at("a"))
    assert score(log, out, policy=place.at("a"), restart=True).log_ratio is None


HEADS = {
    "llama": ("llama", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
    "mistral, sliding window": ("mistral", {"sliding_window": 4}),
    "gemma2, capped": ("gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "phi, biased": ("phi", {}),
    "cohere, scaled": ("cohere", {"logit_scale": 0.0625}),
    "granite, divided": ("granite", {"logits_scaling": 8.0}),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "mamba": ("mamba", {"state_size": 4}),
}


@pytest.mark.parametrize("name", HEADS)
def test_tiles_give_the_model_s_own_log_probs(name):
    """On every architecture, in any batch and padding: the naive forward's numbers to 1e-5."""
    kind, changes = HEADS[name]
    model = tiny_model(kind, 3, **changes)
    for parameter in model.get_output_embeddings().parameters():
        parameter.data.mul_(3)  # else a soft cap would change nothing
    if model.get_output_embeddings().bias is not None:
        model.get_output_embeddings().bias.data.normal_()
    head = find_head(model, torch.device("cpu"))
    assert (head.kind, head.notice) == ("fused", "")
    rng = np.random.default_rng(1)
    rows = [
        batches.Row(rng.integers(3, SIZE, 2 + 3 * i), rng.integers(3, SIZE, 11 - 2 * i))
        for i in range(4)
    ]
    found = batches.batch_log_probs(
        model, head, rows, device=torch.device("cpu"), temperature=0.7, padding=5
    )
    for row, values in zip(rows, found, strict=True):
        tokens = torch.tensor(np.concatenate([row.prompt, row.response]))
        with torch.inference_mode():
            logits = model(tokens[None]).logits[0].double() / 0.7
        own = logits.log_softmax(1)[:-1].gather(1, tokens[1:, None])[len(row.prompt) - 1 :, 0]
        assert values == pytest.approx(own.numpy(), abs=1e-5, rel=1e-5)


def test_tiles_smaller_than_the_vocabulary_agree_with_one(monkeypatch):
    """The sum carried over tiles of tokens and vocabulary is that of the whole table."""
    model = tiny_model("gemma2", 5, head_dim=8)
    head = find_head(model, torch.device("cpu"))
    with torch.inference_mode():
        hidden = hidden_states(model, head, torch.arange(3, 40)[None])[0]
        targets = torch.arange(len(hidden)) * 8
        whole = token_log_probs(head, hidden, targets)
        monkeypatch.setattr("taut.training.scoring.head._TILES", {"cpu": (5, 7)})
        assert token_log_probs(head, hidden, targets) == pytest.approx(whole, abs=1e-5)


class Odd(torch.nn.Module):
    """A model that masks a token behind its head: nothing that tiles could know."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, input_ids, use_cache=False):
        out = self.inner(input_ids=input_ids, use_cache=use_cache)
        out.logits[..., 7] = -30.0
        return out


def test_a_head_that_is_not_understood_is_run_in_full():
    """What a model does to its logits is measured; no scaling or cap: nothing is guessed."""
    model = Odd(tiny_model("llama", 1))
    head = find_head(model, torch.device("cpu"))
    assert head.kind == "naive"
    assert "more to its logits" in head.notice
    row = {"prompt_ids": [3, 4], "response_ids": [7, 9]}
    found = batches.batch_log_probs(
        model, head, [batches.Row(np.array([3, 4]), np.array([7, 9]))], device=torch.device("cpu")
    )
    with torch.inference_mode():
        scores = model(torch.tensor([[3, 4, 7, 9]])).logits[0].log_softmax(1)
    assert found[0] == pytest.approx([float(scores[1, 7]), float(scores[2, 9])], abs=1e-5)
    assert row["response_ids"][0] == 7


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    ("modules", "head"), [(["q_proj"], "fused"), (["q_proj", "lm_head"], "chunked")]
)
def test_an_adapter_is_its_merged_model(modules, head, place, tmp_path):
    """A LoRA over the reference, on the head too: the merged model's numbers, beside the base's."""
    peft = pytest.importorskip("peft")
    base = transformers.AutoModelForCausalLM.from_pretrained(place.at("b"))
    config = peft.LoraConfig(r=4, target_modules=modules, init_lora_weights=False)
    torch.manual_seed(9)
    adapted = peft.get_peft_model(base, config).eval()
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    rows = some_rows(8)
    log, out = write(tmp_path / "log.jsonl", rows), tmp_path / "out.parquet"
    scored = score(log, out, policy=str(folder), ref=place.at("b"))
    table = pq.read_table(out).to_pydict()
    assert scored.models["policy"].head == head
    merged = adapted.merge_and_unload()
    assert table["policy_logprob"] == pytest.approx([by_hand(merged, r) for r in rows], abs=2e-3)
    own = [by_hand(place.models["b"], row) for row in rows]
    assert table["ref_logprob"] == pytest.approx(own, abs=2e-4)
    assert max(abs(np.subtract(table["policy_logprob"], table["ref_logprob"]))) > 0.1


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_whose_base_has_moved_asks_for_it(place, tmp_path):
    """The base that an adapter names must be here; --base stands in for it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere/else"}')
    refuse(place, tmp_path, "'somewhere/else', which is none here; name it: --base", policy=folder)
    refuse(
        place, tmp_path, "adapter_model.safetensors, found none", policy=folder, base=place.at("b")
    )


def test_text_and_its_tokens_give_the_same(place, tmp_path):
    """Prompt and response are tokenised apart, with an end token where the response was not cut."""
    tokenizer = place.tokenizer
    texts = [(a, f" {b}") for a in TEXTS for b in TEXTS]
    cut = [i % 3 == 0 for i in range(len(texts))]
    common = [{"prompt_id": i // 4, "reward": 0.5, "truncated": c} for i, c in enumerate(cut)]
    as_text = [
        row | {"prompt": a, "response": b} for row, (a, b) in zip(common, texts, strict=True)
    ]

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    as_ids = [
        row | {"prompt_ids": ids(a), "response_ids": ids(b) + [1] * (not c)}
        for row, (a, b), c in zip(common, texts, cut, strict=True)
    ]
    outs = {}
    for name, rows in (("text", as_text), ("ids", as_ids)):
        log, outs[name] = write(tmp_path / f"{name}.jsonl", rows), tmp_path / f"{name}.parquet"
        scored = score(log, outs[name], policy=place.at("a"), ref=place.at("b"))
        assert scored.counts["ended"] == cut.count(False)
        assert scored.counts["respelled"] == 0
    a, b = (pq.read_table(path) for path in outs.values())
    assert a["prompt"].to_pylist() == [x for x, _ in texts]
    for name in ("policy_logprob", "ref_logprob", "prompt_ids", "response_ids", "n_tokens"):
        assert a[name].equals(b[name])
    again = score(outs["text"], tmp_path / "again.parquet", policy=place.at("a"), ref=place.at("b"))
    assert again.counts["text"] == 0
    assert (tmp_path / "again.parquet").read_bytes() == outs["text"].read_bytes()


def test_text_that_other_tokens_spelled_is_refused_or_an_estimate(place, tmp_path):
    """Where the log counted other tokens the text is not scored, unless asked, and marked then."""
    rows = [
        {"prompt_id": i, "reward": 0.5, "truncated": True, "prompt": text, "response": "say hello"}
        for i, text in enumerate(TEXTS)
    ]
    count = len(place.tokenizer("say hello", add_special_tokens=False)["input_ids"])
    for known, wrong in ((None, 0), (count, 0), (count + 3, 1)):
        counted = [dict(row) for row in rows]
        if known is not None:
            counted[2]["n_tokens"] = known
        log, out = write(tmp_path / "log.jsonl", counted), tmp_path / f"{known}.parquet"
        if wrong:
            said = rf"log.jsonl:3: expected the {known} tokens .* found {count}; so 1 of 4"
            with pytest.raises(LogError, match=said):
                score(log, out, policy=place.at("a"))
            assert not parts_folder(str(out)).exists()
        scored = score(log, out, policy=place.at("a"), retokenise=bool(wrong))
        assert scored.estimated and any("are estimates" in notice for notice in scored.notices)
        facts = json.loads(pq.read_schema(out).metadata[b"taut.facts"])
        assert facts["log_probs_estimated"] and "float32" in facts["log_probs"]
    exact = score(
        write(tmp_path / "ids.jsonl", some_rows(2)), tmp_path / "ids.parquet", policy=place.at("a")
    )
    assert not exact.estimated
    facts = json.loads(pq.read_schema(tmp_path / "ids.parquet").metadata[b"taut.facts"])
    assert "log_probs_estimated" not in facts


def test_what_a_log_knows_of_itself_outlives_scoring(place, tmp_path):
    """Facts on which all files agree stay, launched draws add up, another's log-probs do not."""
    for i in range(2):
        facts = {"beta": 0.1, "held_out": True, "launched_prompts": 3, "log_probs": "vLLM"}
        facts |= {"reward_range": [0, i + 1], "starts_at_reference": True}
        document = facts | {"schema": "taut.facts/1", "ours": True, "recorded": sorted(facts)}
        rows = [
            row | {"rollout_id": f"{i}/{n}", "rewards.good": n / 8, "domain": f"d{n % 2}"}
            for n, row in enumerate(some_rows(6))
        ]
        table = pa.Table.from_pylist(rows)
        named = table.replace_schema_metadata({"taut.facts": json.dumps(document)})
        pq.write_table(named, tmp_path / f"part{i}.parquet")
    out = tmp_path / "out.parquet"
    score(str(tmp_path / "part*.parquet"), out, policy=place.at("a"), keep=["domain"])
    facts = json.loads(pq.read_schema(out).metadata[b"taut.facts"])
    assert (facts["beta"], facts["held_out"], facts["launched_prompts"]) == (0.1, True, 6)
    assert "vLLM" not in facts["log_probs"]
    assert not facts.keys() & {"reward_range", "starts_at_reference"}
    table = pq.read_table(out)
    assert table["rollout_id"].to_pylist() == [f"{i}/{n}" for i in range(2) for n in range(6)]
    assert table["domain"].to_pylist() == ["d0", "d1"] * 6
    assert table["rewards.good"].to_pylist() == [n / 8 for n in range(6)] * 2


def test_chat_messages_go_through_the_template(place, tmp_path):
    """Messages, in JSON or Parquet, are the template's text with its generation prompt."""
    rows = [
        {
            "prompt_id": i,
            "reward": 0.1,
            "prompt": [{"role": "user", "content": text}],
            "response": [{"role": "assistant", "content": "why not"}],
        }
        for i, text in enumerate(TEXTS)
    ]
    log = write(tmp_path / "log.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    out = tmp_path / "out.parquet"
    score(log, out, policy=place.at("a"), end_token="always")
    table = pq.read_table(out).to_pydict()
    said = [place.tokenizer.decode(tokens) for tokens in table["prompt_ids"]]
    assert said == [f"<user>{text}<assistant>" for text in TEXTS]
    assert table["response"] == ["why not"] * 4
    assert [tokens[-1] for tokens in table["response_ids"]] == [1] * 4
    score(
        tmp_path / "log.parquet", tmp_path / "p.parquet", policy=place.at("a"), end_token="always"
    )
    assert (tmp_path / "p.parquet").read_bytes() == out.read_bytes()
    score(log, tmp_path / "bare.parquet", policy=place.at("a"), end_token="never", words=False)
    bare = pq.read_table(tmp_path / "bare.parquet")
    assert bare["n_tokens"].to_pylist() == [n - 1 for n in table["n_tokens"]]
    assert not {"prompt", "response", "prompt_ids", "response_ids"} & set(bare.column_names)


def test_temperature_is_that_of_the_log_probs(place, tmp_path):
    """--temperature divides the logits, and the file says so."""
    rows = some_rows(6)
    log, out = write(tmp_path / "log.jsonl", rows), tmp_path / "out.parquet"
    scored = score(log, out, policy=place.at("a"), temperature=0.5)
    found = pq.read_table(out)["policy_logprob"].to_pylist()
    assert found == pytest.approx([by_hand(place.models["a"], row, 0.5) for row in rows], abs=3e-4)
    stored = json.loads(pq.read_schema(out).metadata[SCORE_KEY.encode()])
    assert stored["temperature"] == 0.5
    assert any("temperature 0.5" in notice for notice in scored.notices)


def test_bfloat16_says_how_noisy_it_is(place, tmp_path):
    """Half precision is measured by scoring rows again with other padding; it is near float32."""
    rows = some_rows(8)
    log, out = write(tmp_path / "log.jsonl", rows), tmp_path / "out.parquet"
    scored = score(log, out, policy=place.at("a"), dtype="bfloat16")
    found = pq.read_table(out)["policy_logprob"].to_numpy()
    expected = np.array([by_hand(place.models["a"], row) for row in rows])
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert np.abs(found - expected).max() > 1e-4
    assert scored.models["policy"].noise.rows == 8
    assert any("before trusting log-ratios below a nat" in notice for notice in scored.notices)


BAD = [
    ({"response_ids": []}, "'response_ids' has no token to score"),
    ({"prompt_ids": []}, "'prompt_ids' has no token; expected at least one"),
    ({"response_ids": [4, 300]}, "'response_ids' is 300 at token 2; expected an id from 0 to 299"),
    ({"prompt_ids": [-100, 4]}, "'prompt_ids' is -100 at token 1"),
    ({"response_ids": [4, "x"]}, "'response_ids' is \"x\" at token 2; expected a token id"),
    ({"response_ids": [5] * 128}, "'response_ids' ends at token .* the models take 128"),
    ({"response_ids": [5, 1, 2, 2]}, "'response_ids' ends in 3 tokens of padding or end"),
    ({"response_ids": None}, "'response_ids' is null or absent here"),
    ({"reward": None}, "'reward' is null or absent here"),
]


@pytest.mark.parametrize(("change", "problem"), BAD)
def test_a_bad_row_is_named_before_anything_is_scored(change, problem, place, tmp_path):
    """File, row, column and remedy; a model is not even loaded."""
    rows = some_rows(4)
    rows[2] |= change
    log = write(tmp_path / "log.jsonl", rows)
    with pytest.raises(LogError, match=rf"log\.jsonl:3: {problem}"):
        score(log, tmp_path / "out.parquet", policy=place.at("a"))
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_lenient_sets_bad_rows_aside_and_counts_them(place, tmp_path):
    """--lenient writes them to a file; an audit of the output still knows their number."""
    rows = some_rows(6)
    rows[2]["response_ids"] = []
    log, out, bad = (
        write(tmp_path / "l.jsonl", rows),
        tmp_path / "o.parquet",
        tmp_path / "bad.jsonl",
    )
    scored = score(log, out, policy=place.at("a"), lenient=bad)
    assert (scored.rollouts, scored.rejected_rows) == (5, 1)
    assert json.loads(bad.read_text())["row"] == 3
    assert pq.read_schema(out).metadata[REJECTED_KEY] == b"1"
    assert pq.read_table(out)["prompt_id"].to_pylist() == ["p0", "p0", "p1", "p2", "p2"]


def refuse(place, tmp_path, match, *, rows=None, error=UsageError, **settings):
    log = write(tmp_path / "log.jsonl", rows or some_rows(4))
    with pytest.raises(error, match=match):
        score(log, tmp_path / "out.parquet", **{"policy": place.at("a"), **settings})


def test_models_that_are_not_what_they_should_be_are_refused(place, tmp_path):
    """Each mistake with a model has its own sentence, and none loads code or random weights."""
    refuse(place, tmp_path, "loads no model by its name on a hub", policy="org/model")
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(place, tmp_path, "with config.json, found no such file", policy=str(empty))
    (empty / "config.json").write_text('{"model_type": "llama"}')
    (empty / "pytorch_model.bin").write_bytes(b"x")
    refuse(place, tmp_path, "which can run code when it is loaded", policy=str(empty))
    own = tmp_path / "own"
    place.save(place.models["a"], own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(
        json.dumps({**config, "model_type": "mine", "auto_map": {"AutoConfig": "x.Mine"}})
    )
    refuse(place, tmp_path, "never runs code that comes with a model", policy=str(own))
    headless = place.save(place.models["a"].model, tmp_path / "headless")
    refuse(place, tmp_path, "found none for 'lm_head.weight'", policy=headless)


def test_models_over_other_tokens_cannot_be_subtracted(place, tmp_path):
    """The same id must be the same token; one vocabulary may only have more of them."""
    swapped = place.save(place.models["a"], tmp_path / "swapped")
    data = json.loads(Path(swapped, "tokenizer.json").read_text())
    vocab = data["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    Path(swapped, "tokenizer.json").write_text(json.dumps(data))
    refuse(place, tmp_path, "over different tokens cannot be subtracted", ref=swapped)
    bare = place.save(tiny_model("llama", 0, vocab_size=290), tmp_path / "bare", tokenizer=False)
    refuse(place, tmp_path, "vocabulary of one size in all models", ref=bare)
    larger = tmp_path / "larger"
    place.save(tiny_model("llama", 0, vocab_size=320), larger)
    more = transformers.AutoTokenizer.from_pretrained(larger)
    more.add_tokens(["<more>"])
    more.save_pretrained(larger)
    log = write(tmp_path / "log.jsonl", some_rows(4))
    assert score(log, tmp_path / "o.parquet", policy=str(larger), ref=place.at("a")).rollouts == 4


def test_a_model_that_looks_ahead_is_refused(place, tmp_path):
    """BERT without is_decoder loads as a language model, but sees padding, and what comes later."""
    ahead = place.save(tiny_model("bert", 0, is_decoder=False), tmp_path / "bert")
    refuse(place, tmp_path, "sees what comes later", policy=ahead)


def test_a_prompt_begins_once_and_does_not_end(place):
    """The beginning token is added where it lacks, never twice; an end token never."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    bare = tokenizer("say hello", add_special_tokens=False)["input_ids"]
    assert _prompt_ids(tokenizer, "say hello") == bare
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert tokenizer("say hello")["input_ids"] == [0, *bare, 1]
    assert _prompt_ids(tokenizer, "say hello") == [0, *bare]
    assert _prompt_ids(tokenizer, "<s>say hello") == [0, *bare]


def test_words_that_cannot_be_tokenised_rightly_are_refused(place, tmp_path):
    """Where text leaves a doubt about the tokens, the doubt is named, never guessed away."""
    row = {"prompt_id": 1, "reward": 1.0, "prompt": "say", "response": " hello"}
    refuse(place, tmp_path, "expected 'truncated', which says", rows=[row], error=LogError)
    settled = {"error": LogError, "end_token": "always"}
    wrong = row | {"prompt": '[{"role": "user", "content": "x"}]'}
    refuse(place, tmp_path, "chat messages written as text", rows=[wrong], **settled)
    wrong = row | {"prompt": 7.5}
    refuse(place, tmp_path, "neither text nor chat messages", rows=[wrong], **settled)
    turns = [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    refuse(place, tmp_path, "one assistant message", rows=[row | {"response": turns}], **settled)
    refuse(
        place,
        tmp_path,
        "to score, found neither",
        rows=[{"prompt_id": 1, "reward": 1.0}],
        **settled,
    )
    mapping = {"policy_logprob": "x"}
    refuse(place, tmp_path, "scoring makes this column", rows=[row], mapping=mapping)


def test_the_command_line_says_what_was_done(place, tmp_path):
    """`taut score` tells of engine, noise, log-ratio and doubts; the audit reads its output."""
    rows = [dict(row, behaviour_logprob=-3.0) for row in some_rows(12)]
    log, out = write(tmp_path / "log.jsonl", rows), tmp_path / "out.parquet"
    arguments = ["score", log, "--policy", place.at("a"), "--ref", place.at("b"), "-o", out]
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert (done.exit_code, done.stdout) == (0, "")
    for words in (
        "12 rollouts",
        "float32 on cpu",
        "fused head",
        "log-ratio policy - ref",
        "mix two",
    ):
        assert words in done.stderr
    audit = ["audit", out, "--beta", "0.1", "--reward-range", "0", "1", "--target", "clipped"]
    assert CliRunner().invoke(cli, list(map(str, audit))).exit_code == 0
    again = CliRunner().invoke(cli, list(map(str, [*arguments[:-1], log])))
    assert isinstance(again.exception, TautError)
    assert "one of the inputs" in str(again.exception)

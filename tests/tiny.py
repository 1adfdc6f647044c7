"""A tiny language model, tokenizer and task, made from seeds alone: no download, no disk cache."""

VOCABULARY = 500
WORDS = ("red", "green", "blue", "fish", "bird", "sings", "swims", "often", "never", "low", "high")


def make_tokenizer():
    """Return a byte-pair tokenizer trained on the words of the task."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def make_model(tokenizer, *, seed=0, hidden=64, layers=2, eos_scale=8.0, **settings):
    """Return a causal language model with random weights (Qwen2 form).

    The row of the end token is scaled up, so that some completions end before their limit.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    settings = {"initializer_range": 0.1} | settings
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **settings,
        )
    )
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= eos_scale
    return model


def save_model(folder, **settings) -> str:
    """Save model and tokenizer; return the path that a trainer loads them from."""
    tokenizer = make_tokenizer()
    make_model(tokenizer, **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_prompts(count=16, *, ids=True):
    """Return a dataset of prompts, with ids where asked for."""
    from datasets import Dataset

    size = len(WORDS)
    rows = {"prompt": [f"{WORDS[i % size]} {WORDS[(i // size) % size]}" for i in range(count)]}
    if ids:
        rows["prompt_id"] = [f"p{i}" for i in range(count)]
    return Dataset.from_dict(rows)


def reward_even(completion_ids, **_):
    """Reward: share of even token ids; it varies from completion to completion."""
    return [sum(i % 2 == 0 for i in ids) / max(len(ids), 1) for ids in completion_ids]


def settings(folder, **changes):
    """Return arguments of an RLOO or GRPO config that suit two CPU cores."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_dropout": True,
        "seed": 0,
    } | changes

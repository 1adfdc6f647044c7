"""The small language model that everything in the lab starts from: trained on what people write."""

from pathlib import Path
from typing import Any

import numpy as np

from taut.lab import language
from taut.training.pipeline.reward_model import write_whole

_PEAK = 3e-3  # learning rate


def make_base(
    folder: Path, *, hidden: int, layers: int, steps: int, seed: int, batch: int = 64
) -> None:
    """Train a decoder from scratch on demonstrations and write it with its tokenizer.

    Args:
        folder: Appears when it is whole.
        hidden, layers: Size of the decoder.
        steps: Optimiser steps; each takes fresh prompts and demonstrations.
        seed: Of the weights and the data.
        batch: Demonstrations a step.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    rng = np.random.default_rng([seed, 0xBA5E])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _decoder(hidden, layers, seed).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK, total_steps=steps)
    for _ in range(steps):
        prompts = language.draw_prompts(batch, rng)
        ids = np.concatenate([prompts, language.demonstrations(prompts, rng)], axis=1)
        labels = np.where(ids == language.PAD, -100, ids)
        labels[:, : language.PROMPT_WORDS] = -100
        rows = torch.as_tensor(ids, device=device)
        model(
            input_ids=rows,
            attention_mask=(rows != language.PAD).long(),
            labels=torch.as_tensor(labels, device=device),
        ).loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    write_whole(model.eval().cpu(), make_tokenizer(), folder)


def _decoder(hidden: int, layers: int, seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(language.TOKENS),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=max(hidden // 16, 1),
            num_key_value_heads=max(hidden // 16, 1),
            max_position_embeddings=64,
            # Weights of the usual 0.02 are those of much wider models: a narrow one hardly learns.
            initializer_range=0.8 / hidden**0.5,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=language.END,
            pad_token_id=language.PAD,
        )
    )


def make_tokenizer() -> Any:
    """Return a tokenizer that splits at spaces: one word, one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(language.TOKENS)}
    inner = Tokenizer(models.WordLevel(ids, unk_token=language.SPECIALS[language.PAD]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=language.SPECIALS[language.PAD],
        eos_token=language.SPECIALS[language.END],
    )

"""Models from local folders: safetensors only, no remote code, no dropout, sampling as asked.

What is switched off here is what makes a log-ratio differ from 0 where policy and reference are the
same model: dropout (which TRL leaves on, and which a config can hide in its attention), and the
sampling defaults that a checkpoint brings along (top-k, top-p, repetition penalties).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from taut.errors import UsageError
from taut.training.pipeline.data import Prompt
from taut.training.pipeline.settings import FromScratch, Lora
from taut.training.recording.log_probs import pad_rows, padded, token_log_probs


def model_folder(name: str) -> str:
    """Return the folder of a model: the folder itself, or the cached copy of a named one.

    Raises:
        UsageError: There is no such folder and nothing in the cache, or it holds no safetensors.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _cached(name)
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{name}: expected weights in *.safetensors, found none; pickled weights are not read. "
            "Save the model again with save_pretrained."
        )
    return str(folder)


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as problem:
        raise UsageError(
            f"{name}: expected the folder of a model or a name in the local cache, found neither "
            f"({type(problem).__name__}); nothing is downloaded. Fetch it first."
        ) from None


def load_tokenizer(folder: str) -> Any:
    """Return a folder's tokenizer, with a pad token, padding on the left.

    Raises:
        UsageError: There is none, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
    except (OSError, ValueError) as problem:
        raise UsageError(f"{folder}: expected a tokenizer, found {_first_line(problem)}") from None
    if tokenizer.eos_token is None:
        raise UsageError(f"{folder}: expected a tokenizer with an end-of-sequence token.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal(folder: str) -> Any:
    """Return a causal language model in float32 without dropout, with plain sampling.

    Raises:
        UsageError: The folder holds no such model.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = _load(AutoModelForCausalLM, folder)
    old = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=old.bos_token_id, eos_token_id=old.eos_token_id, pad_token_id=old.pad_token_id
    )
    return model


def load_scorer(folder: str, *, seed: int | None = None) -> Any:
    """Return a sequence classifier with one output; a missing head is drawn from the seed.

    Raises:
        UsageError: The folder holds no such model, or no head while no seed is given.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    if seed is None:
        _check_head(folder)
    else:
        torch.manual_seed(seed)
    return _load(AutoModelForSequenceClassification, folder, num_labels=1)


def _check_head(folder: str) -> None:
    """A classifier without its head would be scored by random weights, silently."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    named = config.get("architectures") or []
    if not any("SequenceClassification" in name for name in named):
        raise UsageError(
            f"{folder}: expected a trained sequence classifier, found {', '.join(named) or '?'}; "
            "train one from preference pairs with reward_model.pairs."
        )


def _load(architecture: Any, folder: str, **more: Any) -> Any:
    import torch
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **more
        )
        without_dropout(config)
        return architecture.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as problem:
        raise UsageError(f"{folder}: expected a model, found {_first_line(problem)}") from None


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def without_dropout(config: Any) -> None:
    """Set every dropout rate of a config to 0, also those that no layer object shows."""
    for name, value in vars(config).items():
        rate = isinstance(value, int | float) and not isinstance(value, bool)
        if rate and ("dropout" in name or name.endswith("pdrop")):
            setattr(config, name, 0.0)
        elif hasattr(value, "to_dict") and not name.startswith("_"):
            without_dropout(value)


def make_from_scratch(shape: FromScratch, folder: Path, *, seed: int) -> None:
    """Write a small decoder with random weights and its tokenizer to a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(shape.tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=4 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    save(LlamaForCausalLM(config), tokenizer, folder)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer as safetensors."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def lora_config(lora: Lora | None, stage: str) -> Any:
    """Return PEFT's settings for a stage, or None where it trains full weights."""
    if lora is None or stage not in lora.stages:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=list(lora.modules) or "all-linear",
        task_type="SEQ_CLS" if stage == "reward_model" else "CAUSAL_LM",
    )


def merged(model: Any) -> Any:
    """Return a model with its adapters folded in, or the model itself where it has none."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def prompt_tokens(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the tokens of a prompt, with the chat template where it is a conversation."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    found = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return found["input_ids"]


def response_text(completion: Any) -> str:
    """Return the text of a completion as TRL hands it to reward functions."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def text_tokens(tokenizer: Any, prompt: Prompt, response: str, max_tokens: int) -> list[int]:
    """Return the tokens of a prompt with a whole response, as reward models read them.

    The end-of-sequence token always stands at the end, so that a response of a pair and one that
    was sampled are read alike. Beyond `max_tokens` the beginning is cut.
    """
    tokens = [
        *prompt_tokens(tokenizer, prompt),
        *tokenizer(response, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    return tokens[-max_tokens:]


def score_tokens(
    model: Any, rows: Sequence[Sequence[int]], *, pad: int, batch: int = 64, features: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the scores of token rows under a sequence classifier, and on request its features.

    Returns:
        Scores of shape (rows,), float64; and the input of the head at the last token, of shape
        (rows, hidden), or None.
    """
    import torch

    scores = np.empty(len(rows))
    inputs: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    device = next(model.parameters()).device
    with _evaluating(model), torch.inference_mode(), _head_inputs(model, features) as seen:
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            ids, mask = padded([rows[i] for i in chosen], pad=pad, left=False)
            logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            scores[chosen] = logits[:, 0].double().cpu().numpy()
            if features:
                # The model's own rule: the last token that is not the pad token.
                last = ((ids != pad).long() * torch.arange(ids.shape[1])).argmax(1)
                hidden = seen.pop()
                for row, i in enumerate(chosen):
                    inputs[i] = hidden[row, last[row]].double().cpu().numpy()
    return scores, np.stack(inputs) if features else None


@contextmanager
def _head_inputs(model: Any, wanted: bool) -> Iterator[list]:
    """Yield a list to which each forward pass adds what the head of a classifier reads."""
    seen: list = []
    if not wanted:
        yield seen
        return
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if head is None:
        raise UsageError("evaluation.features: this reward model has no head named 'score'.")
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    pad: int,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
) -> list[list[int]]:
    """Return one response for each row of prompt tokens, cut after its end token.

    Sampled from the whole tempered distribution (no top-k, no top-p), with PyTorch's global
    random state.
    """
    import torch
    from transformers import GenerationConfig

    ids, mask = padded(prompts, pad=pad, left=True)
    device = next(model.parameters()).device
    settings = GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=list(ends),
        disable_compile=True,
    )
    with _evaluating(model), torch.no_grad():
        out = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings
        )
    return [_until(row, ends) for row in out[:, ids.shape[1] :].tolist()]


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    for i, token in enumerate(tokens):
        if token in ends:
            return tokens[: i + 1]
    return tokens


def response_logprobs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    pad: int,
    temperature: float,
) -> np.ndarray:
    """Return the log-prob of each response under a model, nats, float64 of shape (responses,)."""
    ids, mask, keep = pad_rows(prompts, responses, pad)
    device = next(model.parameters()).device
    with _evaluating(model):
        values = token_log_probs(
            model, ids.to(device), mask.to(device), keep, temperature=temperature, rows=len(ids)
        )
    kept = mask[:, -keep:].numpy() > 0
    return np.where(kept, values.cpu().numpy(), 0.0).sum(axis=1, dtype=np.float64)

"""Which model is meant, whether two can be subtracted, and loading them: safetensors, no code."""

import gc
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from taut.errors import UsageError

_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A causal language model on disk, or an adapter over one.

    Attributes:
        name: Folder as the user wrote it, shown in messages.
        base: Real path of the folder of the whole model.
        adapter: Real path of the adapter's folder, None for a whole model.
        fingerprint: SHA-256 of configuration and weights, of the adapter's too.
    """

    name: str
    base: str
    adapter: str | None
    fingerprint: str


def resolve(name: str, *, base: str | None = None) -> Model:
    """Look at a folder and return the model it holds, nothing loaded yet.

    Args:
        name: Folder with config.json and safetensors, or an adapter's with adapter_config.json.
        base: Folder of the whole model, in place of what an adapter's configuration names.

    Raises:
        UsageError: No such folder, or it holds no such model.
    """
    folder = Path(os.path.realpath(name))
    if not folder.is_dir():
        raise UsageError(
            f"{name}: expected the folder of a model, found "
            f"{'a file' if folder.exists() else 'none'} there; "
            "taut loads no model by its name on a hub: download it and give the folder."
        )
    if (folder / _ADAPTER).is_file():
        whole = _base_of(name, folder, base)
        files = [*_weights(str(whole), whole), *_adapter_files(name, folder)]
        return Model(
            name=name, base=str(whole), adapter=str(folder), fingerprint=_fingerprint(files)
        )
    return Model(
        name=name, base=str(folder), adapter=None, fingerprint=_fingerprint(_weights(name, folder))
    )


def _base_of(name: str, folder: Path, base: str | None) -> Path:
    said = base or _json(folder / _ADAPTER).get("base_model_name_or_path") or ""
    whole = Path(os.path.realpath(said)) if said else folder
    if not said or not whole.is_dir():
        raise UsageError(
            f"{name}: expected the folder of its base model, found {said!r}, which is none here; "
            "name it: --base FOLDER."
        )
    return whole


def _weights(name: str, folder: Path) -> list[Path]:
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(
            f"{name}: expected the folder of a model with config.json, found no such file; give "
            "the folder that save_pretrained wrote."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        other = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only {other[0]}, which can run code when it is loaded" if other else "no weights"
        raise UsageError(
            f"{name}: expected weights in safetensors, found {found}; save the model with "
            "safe_serialization."
        )
    return [config, *weights]


def _adapter_files(name: str, folder: Path) -> list[Path]:
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise UsageError(
            f"{name}: expected adapter_model.safetensors, found none; save the adapter with "
            "safe_serialization."
        )
    return [folder / _ADAPTER, weights]


def _fingerprint(files: list[Path]) -> str:
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(file_hash, files)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def file_hash(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: expected JSON, found {problem}; copy the model again.") from None


def load_config(model: Model):
    """Return a model's configuration.

    Raises:
        UsageError: It is of a kind that needs code of its own, or unknown.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            model.base, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError) as problem:
        raise UsageError(
            f"{model.name}: expected a model that transformers knows by itself, found "
            f"{_line(problem)}; taut never runs code that comes with a model."
        ) from None


def load_tokenizer(folder: str, name: str):
    """Return the tokenizer in a folder, or None if there is none.

    Raises:
        UsageError: It is there and cannot be loaded.
    """
    from transformers import AutoTokenizer

    if not any((Path(folder) / file).is_file() for file in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as problem:
        raise UsageError(
            f"{name}: expected a tokenizer that transformers knows by itself, found "
            f"{_line(problem)}."
        ) from None


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def tokenizer_of(model: Model):
    """Return the tokenizer that lies with a model: the adapter's own first, then the base's."""
    own = load_tokenizer(model.adapter, model.name) if model.adapter else None
    return own or load_tokenizer(model.base, model.name)


def check_same_tokens(vocabularies: Mapping[str, dict[str, int]]) -> None:
    """Refuse models whose token ids mean different things: their log-probs cannot be subtracted.

    One vocabulary may have tokens more than another (a padding token that training added).

    Args:
        vocabularies: Name of each model to its tokens and their ids.

    Raises:
        UsageError: An id stands for different tokens, or a token has different ids.
    """
    (first, *others) = vocabularies
    for other in others:
        ours, theirs = vocabularies[first], vocabularies[other]
        small, large = sorted((ours, theirs), key=len)
        for token, number in small.items():
            if large.get(token) != number:
                raise UsageError(
                    f"{other}: expected the tokens of {first}, found another vocabulary (token "
                    f"{token!r} is {ours.get(token, 'absent')} there and "
                    f"{theirs.get(token, 'absent')} here); log-probs over different tokens cannot "
                    "be subtracted."
                )


def longest_context(config) -> int | None:
    """Return how many tokens a model takes, None where its configuration does not say."""
    text = config.get_text_config()
    found = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    return found if isinstance(found, int) and found > 0 else None


def vocabulary_size(config) -> int:
    """Return the number of rows of a model's embedding."""
    return int(config.get_text_config().vocab_size)


def loaded_base(model: Model, dtype: torch.dtype, device: torch.device):
    """Load a whole model for inference.

    Raises:
        UsageError: It is no causal language model, weights are missing, or memory is short.
    """
    from transformers import AutoModelForCausalLM

    try:
        with _quiet():
            base, info = AutoModelForCausalLM.from_pretrained(
                model.base,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        base = base.to(device)
    except (ValueError, OSError, KeyError, RuntimeError) as problem:
        raise UsageError(
            f"{model.name}: expected a causal language model that transformers loads by itself, "
            f"found {_line(problem)}."
        ) from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise UsageError(
            f"{model.name}: expected the weights of a whole language model, found none for "
            f"'{missing[0]}'{f' and {len(missing) - 1} more' if missing[1:] else ''}; they would "
            "be random: give the folder of the language model itself."
        )
    return base.eval().requires_grad_(False)


def free_memory(device: torch.device) -> None:
    """Free what a model left behind that nothing refers to any more."""
    gc.collect()  # modules may hold each other in cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def with_adapter(base, model: Model) -> Iterator:
    """Put a model's adapter on its loaded base, and take it off afterwards.

    Raises:
        UsageError: The adapter does not fit the base.
    """
    if model.adapter is None:
        yield base
        return
    try:
        from peft import PeftModel
    except ImportError:
        raise UsageError(f"{model.name}: an adapter needs peft; pip install '.[train]'.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
            wrapped = PeftModel.from_pretrained(
                base, model.adapter, is_trainable=False, local_files_only=True
            )
    except (ValueError, OSError, KeyError, RuntimeError) as problem:
        raise UsageError(
            f"{model.name}: expected an adapter over {model.base}, found {_line(problem)}; name "
            "its base: --base FOLDER."
        ) from None
    try:
        yield wrapped.eval()
    finally:
        wrapped.unload()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep loading to itself: what matters of its report is raised as an error."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200]

"""Whether models share their tokens, and what makes tokens of text."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from taut.errors import UsageError
from taut.training.scoring.models import (
    Model,
    check_same_tokens,
    load_config,
    load_tokenizer,
    longest_context,
    tokenizer_of,
    vocabulary_size,
)
from taut.training.scoring.words import EndToken, Limits, Words


def shared_words(
    models: Mapping[str, Model],
    tokenizer: str | None,
    *,
    end_token: EndToken,
    retokenise: bool,
) -> tuple[Words, str]:
    """Check that the models share their tokens; return what tokenises, and its fingerprint."""
    configs = {role: load_config(model) for role, model in models.items()}
    owned = {role: tokenizer_of(model) for role, model in models.items()}
    vocabularies = {
        models[role].name: found.get_vocab() for role, found in owned.items() if found is not None
    }
    check_same_tokens(vocabularies)
    sizes = {role: vocabulary_size(config) for role, config in configs.items()}
    for role, found in owned.items():
        if found is None and len(set(sizes.values())) > 1:
            raise UsageError(
                f"{models[role].name}: expected a tokenizer, or a vocabulary of one size in all "
                f"models, found none and sizes {', '.join(map(str, sizes.values()))}; whether "
                "their tokens are the same cannot be told: put its tokenizer into the folder."
            )
    if tokenizer is not None and not os.path.isdir(tokenizer):
        raise UsageError(f"--tokenizer {tokenizer}: expected a folder, found none there.")
    chosen = load_tokenizer(tokenizer, tokenizer) if tokenizer else owned["policy"]
    if tokenizer and chosen is None:
        raise UsageError(f"--tokenizer {tokenizer}: expected a tokenizer, found none in it.")
    if tokenizer and vocabularies:
        check_same_tokens({**vocabularies, tokenizer: chosen.get_vocab()})
    end = getattr(chosen, "eos_token_id", None)
    contexts = [found for c in configs.values() if (found := longest_context(c)) is not None]
    reader = Words(
        tokenizer=chosen,
        ends=_ends(models["policy"], configs["policy"]) | ({end} - {None}),
        end=end,
        end_token=end_token,
        retokenise=retokenise,
        limits=Limits(vocabulary=min(sizes.values()), context=min(contexts, default=None)),
    )
    return reader, _tokenizer_hash(chosen)


def _ends(model: Model, config) -> frozenset[int]:
    """Return the ids that end a response: chat models have several."""
    path = Path(model.base) / "generation_config.json"
    found = [config.get_text_config().eos_token_id]
    if path.is_file():
        found.append(json.loads(path.read_text(encoding="utf-8")).get("eos_token_id"))
    flat = [one for many in found for one in (many if isinstance(many, list) else [many])]
    return frozenset(one for one in flat if one is not None)


def _tokenizer_hash(tokenizer) -> str:
    if tokenizer is None:
        return ""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else repr(tokenizer)
    whole = (sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, rules)
    return hashlib.sha256(repr(whole).encode()).hexdigest()

"""Add log-probs to rollouts: every model by one engine, in batches, resumable, in bounded memory.

Log-probs that two programs computed differ by more than many a KL (field-notes §3). Here policy,
reference and behaviour policy go through the same code, in the same batches, in the same order:
a model and its copy get the same numbers, bit for bit, on a CPU.

The log is read and tokenised once, into windows of rows; each model scores the windows part by
part; the parts are joined into one native log. Which rows form a batch depends on the log and the
settings alone, so that a run that was killed goes on to the file that an unbroken run writes.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import orjson

from taut.errors import UsageError
from taut.logs.facts import facts_metadata, recorded_facts, stored_facts
from taut.logs.schema import FACTS_KEY
from taut.logs.sources import Source, find
from taut.logs.write import refuse_overwrite
from taut.training.extra import SCORING, require_extra
from taut.training.scoring.parts import open_parts, remove_parts
from taut.training.scoring.result import Scored, ScoredModel
from taut.training.scoring.spool import Progress, read_paths, spool
from taut.training.scoring.words import EndToken
from taut.version import __version__

SCORE_KEY = "taut.score"  # Parquet metadata: how the log-probs were made, as JSON


def score(
    log: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike,
    *,
    policy: str | os.PathLike,
    ref: str | os.PathLike | None = None,
    behaviour: str | os.PathLike | None = None,
    base: str | os.PathLike | None = None,
    tokenizer: str | os.PathLike | None = None,
    mapping: Mapping[str, str] | None = None,
    lenient: str | os.PathLike | None = None,
    keep: Sequence[str] = (),
    temperature: float = 1.0,
    end_token: EndToken = "auto",
    retokenise: bool = False,
    dtype: Literal["float32", "bfloat16"] | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    batch_tokens: int | None = None,
    token_lists: bool = False,
    words: bool = True,
    restart: bool = False,
    engine: str = "local",
    progress: Progress | None = None,
) -> Scored:
    """Write a native log with the log-probs of its responses under each model.

    Args:
        log: Files, globs, folders; rows with token ids, text or chat messages.
        output: Parquet file to write. Progress is kept beside it, in `.NAME.parts`.
        policy, ref, behaviour: Folders of models, or of PEFT adapters.
        base: Folder of the adapters' base, in place of the one that they name.
        tokenizer: Folder of the tokenizer, in place of the policy's.
        mapping: Native column to column of the log.
        lenient: A file for rows that cannot be scored; without it the first one stops the run.
        keep: Columns of the log to keep beside the native ones and `rewards.NAME`.
        temperature: Logits are divided by it before the softmax.
        end_token: Whether the end token's log-prob counts: "auto" iff the response is not
            truncated, "always" (but for truncated ones), "never".
        retokenise: Score responses in text even where their tokens are surely not those that were
            sampled; the output is marked as an estimate, as that of all text is.
        dtype: By default float32 on a CPU, bfloat16 on a GPU.
        device: By default the GPU where there is one.
        batch_tokens: Most tokens of a batch, with padding.
        token_lists: Also write each token's log-prob, float32.
        words: Also write prompts, responses and their token ids.
        restart: Throw the progress of an unfinished run away.
        engine: "local", or "ray" or "ray://HOST:PORT" for the devices of a cluster, an actor each;
            the same bytes where they are of one kind.
        progress: Called with (what is done, rows done, all rows).

    Raises:
        LogError: A file, column or row cannot be read or scored, text has other tokens than those
            that were sampled, or parts of another run are there.
        UsageError: The extra `train` is missing, a model cannot be loaded, two cannot be
            subtracted, or a setting makes no sense.
    """
    require_extra("scoring", SCORING)
    from taut.training.scoring.engine import BATCH_TOKENS, Engine, choose_dtype
    from taut.training.scoring.models import resolve
    from taut.training.scoring.output import notices, write_scored
    from taut.training.scoring.tokens import shared_words
    from taut.training.scoring.workers import device_of, workers_on

    output = os.fspath(output)
    place = device_of(engine, device)
    kind = choose_dtype(dtype, place)
    _check_settings(temperature, end_token, batch_tokens)
    lenient = None if lenient is None else os.fspath(lenient)
    names = {"policy": policy, "ref": ref, "behaviour": behaviour}
    models = {
        role: resolve(os.fspath(name), base=None if base is None else os.fspath(base))
        for role, name in names.items()
        if name is not None
    }
    files = find(log)
    refuse_overwrite(output, [*(file.name for file in files), *filter(None, [lenient])])
    paths = read_paths(mapping or {}, behaviour=behaviour is not None)
    words_of, token_hash = shared_words(
        models,
        None if tokenizer is None else os.fspath(tokenizer),
        end_token=end_token,
        retokenise=retokenise,
    )
    shown = {
        "device": place.type,
        "dtype": kind,
        "temperature": float(temperature),
        "end_token": end_token,
    }
    settings = shown | {
        "mapping": dict(sorted((mapping or {}).items())),
        "lenient": lenient is not None,
        "keep": list(keep),
        "tokenizer": token_hash,
        "batch_tokens": batch_tokens or BATCH_TOKENS[place.type],
        "retokenise": retokenise,
        "token_lists": token_lists,
    }
    tell = progress or (lambda what, done, all_rows: None)
    with open_parts(output, settings | _sources(files, models), restart=restart) as parts:
        told = {
            "lenient": lenient,
            "keep": tuple(keep),
            "tell": lambda rows: tell("tokenised", rows, 0),
        }
        index = spool(files, paths, words_of, parts, **told)
        scoring = Engine(
            parts=parts,
            index=index,
            workers=workers_on(engine, place, kind, float(temperature)),
            dtype=kind,
            batch_tokens=settings["batch_tokens"],
            token_lists=token_lists,
            context=words_of.limits.context,
            tell=tell,
        )
        scored = scoring.score_all(models)
        columns = {"token_lists": token_lists, "words": words}
        metadata = _metadata(index, mapping or {}, shown, scored)
        log_ratio = write_scored(output, parts, index, models, metadata=metadata, **columns)
    remove_parts(output)
    return Scored(
        output=output,
        rollouts=index["rows"],
        tokens=index["tokens"],
        rejected_rows=index["left_out"],
        models=scored,
        counts=index["counts"],
        log_ratio=log_ratio,
        estimated=bool(index["counts"]["text"]),
        settings=shown,
        notices=tuple(notices(scored, index, shown, behaviour is not None)),
    )


def _sources(files: Iterable[Source], models: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides scores beside the settings: inputs, models, libraries."""
    import torch
    import transformers

    from taut.training.scoring.models import file_hash

    return {
        "inputs": [file_hash(file.name) for file in files],
        "models": {role: model.fingerprint for role, model in models.items()},
        "versions": [__version__, torch.__version__, transformers.__version__],
    }


def _metadata(
    index: Mapping[str, Any],
    mapping: Mapping[str, str],
    shown: Mapping[str, Any],
    models: Mapping[str, ScoredModel],
) -> dict[str, str]:
    """Return what the scored log knows of itself: what the log knew, and whose log-probs."""
    of_models = {role: model.model_dump(exclude={"name"}) for role, model in models.items()}
    stored = {**shown, "version": __version__, "models": of_models}
    known = stored_facts({FACTS_KEY: orjson.dumps(index["facts"])}, "the log")
    ours = recorded_facts(
        log_probs=f"transformers {version('transformers')}, {shown['dtype']}",
        log_probs_estimated=bool(index["counts"]["text"]) or known.log_probs_estimated or None,
        writer=f"taut {__version__}, taut score",
    )
    facts = replace(
        known,
        log_probs=ours.log_probs,
        log_probs_estimated=ours.log_probs_estimated,
        starts_at_reference=None,  # said of the recorded models
        complete=False if known.complete and index["left_out"] else known.complete,
        mapping={**known.mapping, **mapping},
        writer=ours.writer,
        ours=True,
        recorded=(known.recorded - {"starts_at_reference"}) | ours.recorded,
    )
    text = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS).decode()
    return {SCORE_KEY: text, **facts_metadata(facts)}


def _check_settings(temperature: float, end_token: str, batch_tokens: int | None) -> None:
    if not 0 < temperature < np.inf:
        raise UsageError(f"temperature is {temperature}; expected a positive number.")
    if end_token not in ("auto", "always", "never"):
        raise UsageError(f"end token {end_token!r}: expected auto, always or never.")
    if batch_tokens is not None and batch_tokens < 1:
        raise UsageError(f"batch tokens are {batch_tokens}; expected 1 or more.")

"""Add log-probs to rollouts: every model by one engine, in batches, resumable, in bounded memory.

Log-probs that two programs computed differ by more than many a KL (field-notes §3). Here policy,
reference and behaviour policy go through the same code, in the same batches, in the same order:
a model and its copy get the same numbers, bit for bit, on a CPU.

The log is read and tokenised once, into windows of rows; each model scores the windows part by
part; the parts are joined into one native log. Which rows form a batch depends on the log and the
settings alone, so that a run that was killed goes on to the file that an unbroken run writes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from taut.errors import UsageError
from taut.logs.schema import COLUMNS, ORIGIN_KEY, REJECTED_KEY
from taut.logs.sources import find
from taut.logs.write import refuse_overwrite, whole_file
from taut.training.scoring.batches import (
    batch_log_probs,
    cut_batches,
    cut_parts,
    padding_noise,
    sum_of,
)
from taut.training.scoring.head import find_head
from taut.training.scoring.models import (
    Model,
    check_same_tokens,
    file_hash,
    free_memory,
    load_config,
    load_tokenizer,
    loaded_base,
    longest_context,
    resolve,
    tokenizer_of,
    vocabulary_size,
    with_adapter,
)
from taut.training.scoring.parts import Parts, open_parts, remove_parts
from taut.training.scoring.spool import read_paths, spool, window_name, window_rows
from taut.training.scoring.words import EndToken, Limits, Words
from taut.version import __version__

SCORE_KEY = b"taut.score"  # Parquet metadata: how the log-probs were made, as JSON
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_BATCH_TOKENS = {"cpu": 4096, "cuda": 16_384}
# In float32 padding moves a sequence by rounding, 1e-5 or so; more says that it is not ignored.
_PADDING_MATTERS = 0.01

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What was scored, and what there is to know about it.

    Attributes:
        output: The file written.
        rollouts, tokens: Rows, and response tokens among them.
        rejected_rows: Rows left out, here or when the input was converted.
        models: Role to name, fingerprint, head, and noise (nats a sequence) of its model.
        counts: As `taut.training.scoring.words.Counts`.
        log_ratio: Mean and standard deviation of policy minus ref, nats a response; None without
            ref.
        settings: Device, dtype, temperature, end token.
        notices: What the reader should know, a sentence each.
    """

    output: str
    rollouts: int
    tokens: int
    rejected_rows: int
    models: dict[str, dict]
    counts: dict[str, int]
    log_ratio: tuple[float, float] | None
    settings: dict
    notices: tuple[str, ...]


def score(
    sources: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike,
    *,
    policy: str,
    ref: str | None = None,
    behaviour: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    mapping: Mapping[str, str] | None = None,
    lenient: str | os.PathLike | None = None,
    temperature: float = 1.0,
    end_token: EndToken = "auto",
    dtype: str | None = None,
    device: str | None = None,
    batch_tokens: int | None = None,
    token_lists: bool = False,
    words: bool = True,
    restart: bool = False,
    progress: Progress | None = None,
) -> Scored:
    """Write a native log with the log-probs of its responses under each model.

    Args:
        sources: Files, globs, folders; rows with token ids, text or chat messages.
        output: Parquet file to write. Progress is kept beside it, in `.NAME.parts`.
        policy, ref, behaviour: Folders of models, or of PEFT adapters.
        base: Folder of the adapters' base, in place of the one that they name.
        tokenizer: Folder of the tokenizer, in place of the policy's.
        mapping: Native column to column of the log.
        lenient: A file for rows that cannot be scored; without it the first one stops the run.
        temperature: Logits are divided by it before the softmax.
        end_token: Whether the end token's log-prob counts: "auto" iff the response is not
            truncated, "always" (but for truncated ones), "never".
        dtype: "float32" or "bfloat16"; by default float32 on a CPU, bfloat16 on a GPU.
        device: "cpu" or "cuda"; by default the GPU where there is one.
        batch_tokens: Most tokens of a batch, with padding.
        token_lists: Also write each token's log-prob, float32.
        words: Also write prompts, responses and their token ids.
        restart: Throw the progress of an unfinished run away.
        progress: Called with (what is done, rows done, all rows).

    Raises:
        LogError: A file, column or row cannot be read or scored, or parts of another run are there.
        UsageError: A model cannot be loaded, two cannot be subtracted, or a setting makes no sense.
    """
    output = os.fspath(output)
    place, kind = _device(device), _dtype(dtype, device)
    _check_settings(temperature, end_token, batch_tokens)
    batch_tokens = batch_tokens or _BATCH_TOKENS[place.type]
    names = {"policy": policy, "ref": ref, "behaviour": behaviour}
    models = {role: resolve(name, base=base) for role, name in names.items() if name is not None}
    files = find(sources)
    refuse_overwrite(output, [file.name for file in files])
    if lenient is not None:
        refuse_overwrite(output, [os.fspath(lenient)])
    paths = read_paths(mapping or {}, behaviour=behaviour is not None)
    reader, token_hash = _words(models, tokenizer, end_token)
    shown = {
        "device": place.type,
        "dtype": kind,
        "temperature": float(temperature),
        "end_token": end_token,
    }
    settings = shown | {
        "inputs": [file_hash(file.name) for file in files],
        "mapping": dict(sorted((mapping or {}).items())),
        "lenient": lenient is not None,
        "models": {role: model.fingerprint for role, model in models.items()},
        "tokenizer": token_hash,
        "batch_tokens": batch_tokens,
        "token_lists": token_lists,
        "versions": [__version__, torch.__version__, transformers.__version__],
    }
    tell = progress or (lambda what, done, all_rows: None)
    with open_parts(output, settings, restart=restart) as parts:
        index = spool(
            files,
            paths,
            reader,
            parts,
            lenient=None if lenient is None else os.fspath(lenient),
            tell=lambda rows: tell("tokenised", rows, 0),
        )
        engine = _Engine(
            parts=parts,
            index=index,
            device=place,
            dtype=kind,
            temperature=float(temperature),
            batch_tokens=batch_tokens,
            token_lists=token_lists,
            context=reader.limits.context,
            tell=tell,
        )
        engine.score_all(models)
        facts = {
            role: {
                "name": model.name,
                "fingerprint": model.fingerprint,
                **parts.read_json(_facts_name(model)),
            }
            for role, model in models.items()
        }
        stored = shown | {
            "version": __version__,
            "models": {
                role: {key: value for key, value in fact.items() if key != "name"}
                for role, fact in facts.items()
            },
        }
        log_ratio = _write(output, parts, index, models, stored, token_lists, words)
    remove_parts(output)
    return Scored(
        output=output,
        rollouts=index["rows"],
        tokens=index["tokens"],
        rejected_rows=index["left_out"],
        models=facts,
        counts=index["counts"],
        log_ratio=log_ratio,
        settings=shown,
        notices=tuple(_notices(facts, index, shown, behaviour)),
    )


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r}: expected cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no GPU here; use --device cpu.")
    return torch.device(name)


def _dtype(name: str | None, device: str | None) -> str:
    if name is None:
        return "float32" if _device(device).type == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise UsageError(f"dtype {name!r}: expected {' or '.join(DTYPES)}.")
    return name


def _check_settings(temperature: float, end_token: str, batch_tokens: int | None) -> None:
    if not 0 < temperature < np.inf:
        raise UsageError(f"temperature is {temperature}; expected a positive number.")
    if end_token not in ("auto", "always", "never"):
        raise UsageError(f"end token {end_token!r}: expected auto, always or never.")
    if batch_tokens is not None and batch_tokens < 1:
        raise UsageError(f"batch tokens are {batch_tokens}; expected 1 or more.")


def _words(
    models: Mapping[str, Model], tokenizer: str | None, end_token: EndToken
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


def _facts_name(model: Model) -> str:
    return f"model-{model.fingerprint[:16]}.json"


def _part_name(model: Model, window: int, part: int) -> str:
    return f"score-{model.fingerprint[:16]}-{window:06d}-{part:04d}.parquet"


@dataclass(slots=True, kw_only=True)
class _Engine:
    """Scores the windows of one log, model by model, and keeps each part."""

    parts: Parts
    index: dict
    device: torch.device
    dtype: str
    temperature: float
    batch_tokens: int
    token_lists: bool
    context: int | None
    tell: Progress

    def score_all(self, models: Mapping[str, Model]) -> None:
        """Score every distinct model; those that share a base are scored while it is loaded."""
        distinct = {model.fingerprint: (role, model) for role, model in reversed(models.items())}
        waiting = [pair for pair in distinct.values() if not self._is_done(pair[1])]
        for number, base in enumerate(dict.fromkeys(model.base for _, model in waiting)):
            if number:
                free_memory(self.device)
            self._score_base([pair for pair in waiting if pair[1].base == base])

    def _score_base(self, same: list[tuple[str, Model]]) -> None:
        """Score models over one base; when this returns, nothing refers to it any more."""
        whole = loaded_base(same[0][1], DTYPES[self.dtype], self.device)
        # The whole model first: an adapter changes the modules of its base.
        for role, model in sorted(same, key=lambda pair: pair[1].adapter is not None):
            with with_adapter(whole, model) as ready:
                self._score(ready, role, model)

    def _is_done(self, model: Model) -> bool:
        return self.parts.has(_facts_name(model)) and all(
            self.parts.has(_part_name(model, window, part))
            for window in range(self.index["windows"])
            for part, _ in enumerate(self._cut(window_rows(self.parts, window)))
        )

    def _cut(self, rows: list) -> list[list[np.ndarray]]:
        lengths = [len(row) for row in rows]
        return list(cut_parts(cut_batches(lengths, self.batch_tokens), lengths))

    def _score(self, ready, role: str, model: Model) -> None:
        head = find_head(ready, self.device)
        settings = {"device": self.device, "temperature": self.temperature}
        done = 0
        for window in range(self.index["windows"]):
            rows = window_rows(self.parts, window)
            if not self.parts.has(_facts_name(model)):
                noise = padding_noise(ready, head, rows, context=self.context, **settings)
                self._check_padding(model, noise)
                self.parts.write_json(
                    _facts_name(model),
                    {"head": head.kind, "notice": head.notice, "noise": asdict(noise)},
                )
            for part, batches in enumerate(self._cut(rows)):
                name = _part_name(model, window, part)
                if not self.parts.has(name):
                    values = [
                        value
                        for batch in batches
                        for value in batch_log_probs(
                            ready, head, [rows[row] for row in batch], **settings
                        )
                    ]
                    numbers = np.concatenate(batches)
                    self._check_finite(model, values)
                    self.parts.write_table(name, self._table(numbers, values))
                done += sum(map(len, batches))
                self.tell(f"scored by {role}", done, self.index["rows"])

    def _check_padding(self, model: Model, noise) -> None:
        if self.dtype == "float32" and noise.median > _PADDING_MATTERS:
            raise UsageError(
                f"{model.name}: expected log-probs that do not depend on padding, found that it "
                f"moves half of the responses by more than {noise.median:.2g} nats; this "
                "architecture sees what comes later, so batches of it would be wrong."
            )

    def _check_finite(self, model: Model, values: list[np.ndarray]) -> None:
        for value in values:
            if not np.isfinite(value).all():
                at = int(np.flatnonzero(~np.isfinite(value))[0])
                raise UsageError(
                    f"{model.name}: expected finite log-probs, found {value[at]} at token {at + 1} "
                    f"of a response of {len(value)}; its weights or --dtype are at fault."
                )

    def _table(self, numbers: np.ndarray, values: list[np.ndarray]) -> pa.Table:
        columns = {
            "row": pa.array(numbers.astype(np.int32)),
            "sum": pa.array([sum_of(value) for value in values], type=pa.float64()),
        }
        if self.token_lists:
            ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
            columns["tokens"] = pa.ListArray.from_arrays(ends, np.concatenate(values))
        return pa.table(columns)


def _scores(parts: Parts, model: Model, window: int) -> pa.Table:
    """Return the scores of a window, in row order."""
    tables, part = [], 0
    while parts.has(name := _part_name(model, window, part)):
        tables.append(parts.read_table(name))
        part += 1
    table = pa.concat_tables(tables)
    return table.take(np.argsort(table["row"].to_numpy()))


def _write(
    output: str,
    parts: Parts,
    index: dict,
    models: Mapping[str, Model],
    stored: dict,
    token_lists: bool,
    words: bool,
) -> tuple[float, float] | None:
    """Join windows and scores into the output; return mean and deviation of the log-ratio."""
    metadata = {SCORE_KEY: orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)}
    if index["left_out"]:
        metadata[REJECTED_KEY] = str(index["left_out"])
    if index.get("origin"):
        metadata[ORIGIN_KEY] = orjson.dumps(index["origin"])
    writer, ratios = None, []
    with whole_file(output) as file:
        try:
            for window in range(index["windows"]):
                columns = _columns(parts, models, window, token_lists, words)
                if "ref" in models:
                    ratios.append(
                        columns["policy_logprob"].to_numpy() - columns["ref_logprob"].to_numpy()
                    )
                table = pa.table(columns)
                if writer is None:
                    writer = _writer(file, table.schema.with_metadata(metadata))
                writer.write_table(table.replace_schema_metadata(metadata))
        finally:
            if writer is not None:
                writer.close()
    if not ratios:
        return None
    every = np.concatenate(ratios)
    return float(every.mean()), float(every.std(ddof=1)) if len(every) > 1 else 0.0


def _columns(
    parts: Parts, models: Mapping[str, Model], window: int, token_lists: bool, words: bool
) -> dict[str, pa.ChunkedArray]:
    table = parts.read_table(window_name(window))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for role, model in models.items():
        scores = _scores(parts, model, window)
        columns[f"{role}_logprob"] = scores["sum"]
        if token_lists:
            columns[f"{role}_logprobs"] = scores["tokens"]
    if not words:
        for name in ("response", "prompt_ids", "response_ids"):
            columns.pop(name, None)
        if "prompt_id" in columns:
            columns.pop("prompt", None)
    return {column.name: columns[column.name] for column in COLUMNS if column.name in columns}


def _writer(file, schema: pa.Schema) -> pq.ParquetWriter:
    lists = [f"{field.name}.list.element" for field in schema if field.name.endswith("_logprobs")]
    plain = [
        field.name
        for field in schema
        if pa.types.is_string(field.type) or pa.types.is_integer(field.type)
    ]
    return pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=plain, use_byte_stream_split=lists or False
    )


def _notices(facts: dict, index: dict, shown: dict, behaviour: str | None):
    counts, rows = index["counts"], index["rows"]
    if (index.get("origin") or {}).get("format") == "verl":
        yield (
            "verl decodes prompts and responses without special tokens, such as chat markers: "
            "these are log-probs of another text; log those of the trainer (docs/formats.md)."
        )
    for role, fact in facts.items():
        if fact["notice"]:
            yield f"{role}: {fact['head']} head, since {fact['notice']}."
    kinds = {fact["head"] for fact in facts.values()}
    if len(kinds) > 1 and shown["dtype"] != "float32":
        yield (
            "the models' heads are computed in different ways, which in bfloat16 alone moves "
            "log-ratios: score in float32 where small ones matter."
        )
    if shown["dtype"] == "bfloat16":
        yield (
            "bfloat16 rounds within the model, which other padding shows only in part; score some "
            "rows with --dtype float32 before trusting log-ratios below a nat."
        )
    if counts["respelled"]:
        yield (
            f"{counts['respelled']} of {counts['text']} responses are not spelled by their tokens "
            "(spaces at the beginning, or characters that the tokenizer changes): log token ids."
        )
    if counts["recounted"]:
        yield (
            f"{counts['recounted']} of {counts['text']} responses have another number of tokens "
            "here than in the log: text gives not the tokens that were sampled; log token ids."
        )
    if counts["open"]:
        yield (
            f"{counts['open']} of {rows} responses are not truncated and have no end token among "
            "their ids; they were scored as they stand (--end-token always adds it)."
        )
    if behaviour is None and "behaviour_logprob" in index["columns"]:
        yield (
            "behaviour_logprob is the log's own, from another engine: weights made of it and the "
            "policy's mix two engines; give --behaviour to score it too."
        )
    if shown["temperature"] != 1:
        yield f"log-probs are those at temperature {shown['temperature']:g}, not of the models."

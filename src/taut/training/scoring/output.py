"""The scored log: windows and scores joined, with what there is to know about them."""

from collections.abc import Iterator, Mapping

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from taut.logs.schema import COLUMNS, ORIGIN_KEY, REJECTED_KEY
from taut.logs.write import whole_file
from taut.training.scoring.engine import part_name
from taut.training.scoring.models import Model
from taut.training.scoring.parts import Parts
from taut.training.scoring.result import ScoredModel
from taut.training.scoring.spool import window_name


def _scores(parts: Parts, model: Model, window: int) -> pa.Table:
    """Return the scores of a window, in row order."""
    tables, part = [], 0
    while parts.has(name := part_name(model, window, part)):
        tables.append(parts.read_table(name))
        part += 1
    table = pa.concat_tables(tables)
    return table.take(np.argsort(table["row"].to_numpy()))


def write_scored(
    output: str,
    parts: Parts,
    index: dict,
    models: Mapping[str, Model],
    *,
    metadata: Mapping[str, str],
    token_lists: bool,
    words: bool,
) -> tuple[float, float] | None:
    """Join windows and scores into the output; return mean and deviation of the log-ratio.

    Args:
        output: File to write.
        parts: Where windows and scores are kept.
        index: What there is to know of the log.
        models: By role.
        metadata: What the log knows of itself.
        token_lists: Also write each token's log-prob.
        words: Also write prompts, responses and their token ids.
    """
    metadata = dict(metadata)
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
    own = [column.name for column in COLUMNS if column.name in columns]
    return {name: columns[name] for name in [*own, *(n for n in columns if n not in own)]}


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


def notices(
    models: Mapping[str, ScoredModel], index: dict, shown: dict, behaviour: bool
) -> Iterator[str]:
    """Yield what the reader of a scored log should know, a sentence each."""
    counts, rows = index["counts"], index["rows"]
    if (index.get("origin") or {}).get("format") == "verl":
        yield (
            "verl decodes prompts and responses without special tokens, such as chat markers: "
            "these are log-probs of another text; log those of the trainer (docs/formats.md)."
        )
    for role, model in models.items():
        if model.notice:
            yield f"{role}: {model.head} head, since {model.notice}."
    kinds = {model.head for model in models.values()}
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
    if counts["text"]:
        wrong = counts["respelled"] + counts["recounted"]
        proof = f", and {wrong:,} of them were not" if wrong else ""
        yield (
            f"{counts['text']:,} responses were tokenised here from text: which tokens were "
            f"sampled is a guess{proof}. The log-probs are estimates, and the file says so; log "
            "token ids."
        )
    if counts["open"]:
        yield (
            f"{counts['open']} of {rows} responses are not truncated and have no end token among "
            "their ids; they were scored as they stand (--end-token always adds it)."
        )
    if not behaviour and "behaviour_logprob" in index["columns"]:
        yield (
            "behaviour_logprob is the log's own, from another engine: weights made of it and the "
            "policy's mix two engines; give --behaviour to score it too."
        )
    if shown["temperature"] != 1:
        yield f"log-probs are those at temperature {shown['temperature']:g}, not of the models."

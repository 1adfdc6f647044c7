"""The files of a recorded log: one a step and rank, whole or not at all."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from taut.logs.facts import facts_metadata, recorded_facts
from taut.logs.schema import NATIVE, REJECTED_KEY
from taut.logs.write import whole_file
from taut.training.recording.facts import PART

_FILE = re.compile(r"step_(\d+)-rank_(\d+)\.parquet")
_NAME = "step_{:08d}-rank_{:05d}.parquet"
_HALF = re.compile(r"\.step_\d+-rank_\d+\.parquet\.[0-9a-f]+\.part")
_ROW_GROUP = 8192  # rows; small enough to read in pieces, large enough to compress
_LIST_ROW_GROUP = 4096  # rows with lists


@dataclass(slots=True)
class Log:
    """One folder of files, and the rows of the step at hand.

    Attributes:
        folder: Where the files are.
        name: What tells its rows from those of other logs of the run: "train" or "eval".
        facts: What all its files know of themselves, as fields of the facts of a log.
    """

    folder: str
    name: str = "train"
    facts: dict[str, Any] = field(default_factory=dict)
    step: int = -1
    batches: list[dict[str, Any]] = field(default_factory=list)
    draws: int = 0
    written: set[str] = field(default_factory=set)

    def add(self, step: int, columns: dict[str, Any], *, draws: int) -> None:
        """Keep a batch of rows, and how many draws of prompts they begin.

        Rows of one step stay together.
        """
        if step != self.step:
            self.step, self.batches, self.draws = step, [], 0
        self.batches.append(columns)
        self.draws += draws

    def write(self, rank: int, metadata: Mapping[str, str]) -> None:
        """Write the step at hand, in place of what was written of it before."""
        if not self.batches:
            return
        os.makedirs(self.folder, exist_ok=True)
        names = [name for name in self.batches[0] if all(name in b for b in self.batches)]
        partial = sorted({name for batch in self.batches for name in batch} - set(names))
        if partial:
            warnings.warn(
                f"{self.folder}, step {self.step}: {', '.join(partial)} came with some batches of "
                "the step only and is left out of its file.",
                stacklevel=2,
            )
        rows = {name: [v for batch in self.batches for v in batch[name]] for name in names}
        count = len(rows["reward"])
        run = rows["run"][0] if "run" in rows else ""
        # Counted before any row is left out: the same when the step is recorded again.
        ids = [f"{run}/{self.name}/{self.step}/{rank}/{row}" for row in range(count)]
        rows["rollout_id"] = ids
        scored = ~np.isnan(rows["reward"])
        facts = recorded_facts(
            **self.facts, launched_prompts=self.draws, complete=bool(scored.all())
        )
        # Unscored, so nothing to audit; infinite ones are for readers to refuse.
        if not scored.all():
            rows = {name: list(compress(values, scored)) for name, values in rows.items()}
            metadata = {**metadata, REJECTED_KEY.decode(): str(int((~scored).sum()))}
        path = os.path.join(self.folder, _NAME.format(self.step, rank))
        write_rollouts(rows, path, metadata={**metadata, **facts_metadata(facts)})
        self.written.add(path)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield path and step of each file of an earlier process."""
        for name in sorted(os.listdir(self.folder) if os.path.isdir(self.folder) else ()):
            path, found = os.path.join(self.folder, name), _FILE.fullmatch(name)
            if found and path not in self.written:
                yield path, int(found[1])

    def drop_parts(self) -> None:
        """Take away what a killed process left half written; no reader looks at it."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            if _HALF.fullmatch(name):
                Path(self.folder, name).unlink(missing_ok=True)


def write_rollouts(
    columns: Mapping[str, Sequence], path: str | os.PathLike, *, metadata: Mapping[str, str] = {}
) -> None:
    """Write rollouts as they come from a trainer: sums, and lists and text where given.

    Lists of log-probs are non-nullable float32, byte-stream-split and zstd, in row groups that a
    reader holds in memory with ease. The file takes its name when it is complete.

    Args:
        columns: Columns of shape (rollouts,), native ones and others; `*_logprobs` and `*_ids`
            hold one array a rollout, log-probs in nats. Where `gold` or a part of the reward is
            not known stands NaN.
        path: File to write; replaced if it exists.
        metadata: Kept in the file beside the columns.

    Raises:
        LogError: The file cannot be written.
    """
    names = [name for name in NATIVE if name in columns]
    names += [name for name in columns if name not in NATIVE]
    arrays = [_array(name, columns[name]) for name in names]
    fields = [
        pa.field(name, array.type, nullable=_nullable(name))
        for name, array in zip(names, arrays, strict=True)
    ]
    table = pa.table(arrays, schema=pa.schema(fields, metadata=dict(metadata)))
    lists = [name for name in names if name.endswith(("_logprobs", "_ids"))]
    with whole_file(os.fspath(path)) as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            use_dictionary=[
                name
                for name in names
                if pa.types.is_string(table[name].type) and name not in ("response", "rollout_id")
            ],
            use_byte_stream_split=[
                f"{name}.list.element" for name in lists if name.endswith("_logprobs")
            ],
            row_group_size=_LIST_ROW_GROUP if lists else _ROW_GROUP,
            write_page_checksum=True,
        )


def _nullable(name: str) -> bool:
    return (name not in NATIVE and name != "rollout_id") or name in ("gold", "prompt", "response")


def _array(name: str, values: Sequence) -> pa.Array:
    if name.endswith("_logprobs"):
        return _list_array(values, np.float32)
    if name.endswith("_ids"):
        return _list_array(values, np.int32)
    if name == "gold" or name.startswith(PART):
        array = np.asarray([np.nan if v is None else v for v in values], dtype=np.float64)
        return pa.array(array, mask=np.isnan(array))
    kind = NATIVE[name].kind if name in NATIVE else None
    if kind == "float":
        return pa.array(np.asarray(values, dtype=np.float64))
    if kind == "id" and any(type(value) is not int for value in values):
        return pa.array([str(value) for value in values])
    try:
        return pa.array(values)
    except pa.ArrowException:  # messages of many kinds, and the like
        return pa.array([orjson.dumps(value, default=str).decode() for value in values])


def _list_array(rows: Sequence, dtype: type) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate([np.zeros(0, dtype), *rows]).astype(dtype, copy=False)
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=kind)

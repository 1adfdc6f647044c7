"""Reading token lists from Parquet: ours against peers and the bare read of the same bytes.

    python benchmarks/read_parquet.py [--rollouts 50000] [--tokens 1000] [--repeat 5]

All run in one process, one after the other, some rounds long; ratios are medians over rounds of
peer / ours: above 1 means that ours is faster. PyArrow, Polars and Daft decode the two list columns
and nothing else; DuckDB sums each list, as it would else copy them; ours reads all columns, checks
and sums. "raw" reads the bytes of the file. Ours and DuckDB, Polars and Daft use both processors;
PyArrow decodes row group by row group with its own threads. Peak memory is that of a fresh process
that reads once. Peers that are not installed are left out.
"""

import argparse
import statistics
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from reading import peak_mb, seconds

from taut.engines.local import read_rollouts

COLUMNS = ["policy_logprobs", "ref_logprobs"]
FLAT = {"row_group_size": 4096, "use_dictionary": False}
SPLIT = {
    **FLAT,
    "use_byte_stream_split": ["policy_logprobs.list.element", "ref_logprobs.list.element"],
}
SHAPES = {
    "uncompressed": {**FLAT, "compression": "none"},
    "lz4": {**FLAT, "compression": "lz4"},
    "snappy": {**FLAT, "compression": "snappy"},
    "zstd": {**FLAT, "compression": "zstd"},
    "our recorder (zstd, byte-stream split)": {**SPLIT, "compression": "zstd"},
    "PyArrow's defaults": {"row_group_size": 10**9},
    "Polars' defaults": "polars",
    "DuckDB's defaults": "duckdb",
}


# Not ru_maxrss: a child inherits it from the process that started it.
def make(path: Path, rollouts: int, tokens: int, options: dict | str) -> None:
    rng = np.random.default_rng(0)
    offsets = pa.array(np.arange(0, rollouts * tokens + 1, tokens, dtype=np.int32))
    policy = -rng.exponential(1, rollouts * tokens).astype(np.float32)
    ref = policy + rng.normal(0, 0.1, policy.size).astype(np.float32)
    lists = [pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in (policy, ref)]
    ids = pa.array([f"prompt {i // 4}" for i in range(rollouts)])
    columns = {"prompt_id": ids, "reward": pa.array(rng.random(rollouts))}
    table = pa.table(columns | dict(zip(COLUMNS, lists, strict=True)))
    if options == "polars":
        import polars

        polars.DataFrame(table).write_parquet(path)
    elif options == "duckdb":
        import duckdb

        with duckdb.connect() as base:
            base.register("rollouts", table)
            base.execute(f"COPY rollouts TO '{path}' (FORMAT parquet)")
    else:
        pq.write_table(table, path, **options)


def decode(path: Path) -> None:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        file.read_row_group(group, columns=COLUMNS)


def by_polars(path: Path) -> None:
    import polars

    polars.read_parquet(path, columns=COLUMNS)


def by_duckdb(path: Path) -> None:
    import duckdb

    sums = ", ".join(f"sum(list_sum({name}))" for name in COLUMNS)
    with duckdb.connect() as base:
        base.execute(f"SELECT {sums} FROM '{path}'").fetchall()


def by_daft(path: Path) -> None:
    import daft

    daft.read_parquet(str(path)).select(*COLUMNS).to_arrow()


PEERS = {"polars": by_polars, "duckdb": by_duckdb, "daft": by_daft}


def raw(path: Path) -> None:
    buffer = bytearray(16 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rollouts", type=int, default=50_000)
    options.add_argument("--tokens", type=int, default=1_000)
    options.add_argument("--repeat", type=int, default=5)
    given = options.parse_args()
    peers = {name: task for name, task in PEERS.items() if find_spec(name)}
    tasks = {"raw": raw, "pyarrow": decode, **peers, "ours": read_rollouts}
    print(f"{given.rollouts} rollouts x {given.tokens} tokens x {len(COLUMNS)} float32 lists")
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.parquet"
            make(path, given.rollouts, given.tokens, shape)
            for task in tasks.values():
                task(path)  # warm: files in memory, code compiled
            runs = [
                {key: seconds(task, path) for key, task in tasks.items()}
                for _ in range(given.repeat)
            ]
            size, peak = path.stat().st_size / 1e6, peak_mb(path)
            print(f"{name}: {size:.0f} MB, peak {peak:.0f} MB")
            for key in tasks:
                wall, cpu = (statistics.median(run[key][i] for run in runs) for i in (0, 1))
                ratio, cpu_ratio = (
                    statistics.median(run[key][i] / run["ours"][i] for run in runs) for i in (0, 1)
                )
                print(
                    f"  {key:6s} {wall:.3f} s, {cpu:.3f} s of processor   "
                    f"{key}/ours {ratio:.2f}, processor {cpu_ratio:.2f}"
                )


if __name__ == "__main__":
    main()

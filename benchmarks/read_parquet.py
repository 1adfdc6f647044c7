"""Reading token lists from Parquet: ours against bare decoding of the same columns.

    python benchmarks/read_parquet.py [--rollouts 50000] [--tokens 1000] [--repeat 7]

Runs are paired within one process; ratios are medians of pairs. "decode" is PyArrow reading the
two list columns row group by row group, and nothing else; "raw" reads the bytes of the file.
A ratio above 1 means that ours is faster. Peak memory is that of a fresh process that reads once.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taut.engines.local import read_rollouts

COLUMNS = ["policy_logprobs", "ref_logprobs"]
SHAPES = {
    "row groups of 4096": {"row_group_size": 4096, "use_dictionary": False, "compression": "none"},
    "row groups of 4096, zstd": {
        "row_group_size": 4096,
        "use_dictionary": False,
        "compression": "zstd",
    },
    "one row group, PyArrow's defaults": {"row_group_size": 10**9},
}
# Not ru_maxrss: a child inherits it from the process that started it.
_PEAK = """
import sys
from taut.engines.local import read_rollouts
read_rollouts(sys.argv[1])
status = dict(line.split(":") for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


def make(path: Path, rollouts: int, tokens: int, options: dict) -> None:
    rng = np.random.default_rng(0)
    offsets = pa.array(np.arange(0, rollouts * tokens + 1, tokens, dtype=np.int32))
    policy = -rng.exponential(1, rollouts * tokens).astype(np.float32)
    ref = policy + rng.normal(0, 0.1, policy.size).astype(np.float32)
    lists = [pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in (policy, ref)]
    ids = pa.array([f"prompt {i // 4}" for i in range(rollouts)])
    columns = {"prompt_id": ids, "reward": pa.array(rng.random(rollouts))}
    pq.write_table(pa.table(columns | dict(zip(COLUMNS, lists, strict=True))), path, **options)


def decode(path: Path) -> None:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        file.read_row_group(group, columns=COLUMNS)


def raw(path: Path) -> None:
    buffer = bytearray(16 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def seconds(task: Callable[[Path], object], path: Path) -> tuple[float, float]:
    """Return wall and processor seconds; the second says more on a busy machine."""
    start = time.perf_counter(), time.process_time()
    task(path)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def peak_mb(path: Path) -> float:
    if not sys.platform.startswith("linux"):
        return float("nan")
    out = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, check=True)
    return float(out.stdout)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rollouts", type=int, default=50_000)
    options.add_argument("--tokens", type=int, default=1_000)
    options.add_argument("--repeat", type=int, default=7)
    given = options.parse_args()
    tasks = {"raw": raw, "decode": decode, "ours": read_rollouts}
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

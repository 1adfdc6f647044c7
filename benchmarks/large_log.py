"""Reading and auditing a log of many rollouts: seconds, and bytes a rollout.

    python benchmarks/large_log.py [--rollouts 10000000] [--repeat 3]

The log has an id, a reward, a log-ratio, gold on 2% of the rows, and a step; 4 rollouts a prompt
and 100 steps. Each run is a fresh process, so that a peak is its own; "kept" is what the process
holds more than before it read, with the rollouts in hand, "peak" the most that it ever held more.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Not ru_maxrss: a child inherits it from the process that started it.
_RUN = """
import json, sys, time
import taut
from taut.engines.local import read_rollouts

def memory(name):
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status[name].split()[0]) * 1024

small = read_rollouts(sys.argv[1])
taut.audit(small, beta=0.05, reward_range=(0, 1))  # compiled code is loaded
before, start = memory("VmRSS"), (time.perf_counter(), time.process_time())
rollouts = read_rollouts(sys.argv[2])
read, kept, at_most = time.perf_counter() - start[0], memory("VmRSS"), memory("VmHWM")
taut.audit(rollouts, beta=0.05, reward_range=(0, 1))
end = time.perf_counter(), time.process_time()
print(json.dumps({
    "read, s": read,
    "audit, s": end[0] - start[0] - read,
    "processor, s": end[1] - start[1],
    "kept, B": (kept - before) / len(rollouts),
    "peak of reading, B": (at_most - before) / len(rollouts),
    "peak, B": (memory("VmHWM") - before) / len(rollouts),
}))
"""


def make(path: Path, rollouts: int) -> None:
    rng = np.random.default_rng(0)
    at = np.arange(rollouts)
    labelled = rng.random(rollouts) < 0.02
    columns = {
        "prompt_id": pa.array([f"prompt-{i // 4}" for i in range(rollouts)]),
        "reward": rng.random(rollouts),
        "log_ratio": rng.normal(0.5, 1, rollouts),
        "gold": pa.array(rng.random(rollouts), mask=~labelled),
        "step": at // max(rollouts // 100, 1),
    }
    pq.write_table(pa.table(columns), path)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rollouts", type=int, default=10_000_000)
    options.add_argument("--repeat", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = (Path(folder) / name for name in ("small.parquet", "large.parquet"))
        make(small, 10_000)
        make(large, given.rollouts)
        command = [sys.executable, "-c", _RUN, str(small), str(large)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            for _ in range(given.repeat)
        ]
        print(f"{given.rollouts:,} rollouts, {large.stat().st_size / 1e6:.0f} MB")
    for name in runs[0]:
        print(f"  {name:20s} {statistics.median(run[name] for run in runs):.3g}")


if __name__ == "__main__":
    main()

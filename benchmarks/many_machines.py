"""Reading on one node and on two: `python benchmarks/many_machines.py`.

A log of token lists on this disk, a local Ray cluster of one-processor nodes (no node for the
driver), the median of three readings after one that starts the workers. The efficiency is
t(1) / (2 t(2)); 1 is perfect. The local engine on one thread stands beside it.
"""

import gzip
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

import taut

FILES, ROWS, TOKENS = 32, 6_000, 400


def write(folder: Path) -> int:
    """Write the log, JSON lines within gzip; return its bytes."""
    rng = np.random.default_rng(0)
    lists = [rng.normal(-1, 1, TOKENS).round(4).tolist() for _ in range(500)]
    for at in range(FILES):
        lines = [
            orjson.dumps(
                {
                    "prompt_id": f"{at}-{row // 4}",
                    "reward": row / ROWS,
                    "policy_logprobs": lists[row % 500],
                    "ref_logprobs": lists[(row + at) % 500],
                }
            )
            for row in range(ROWS)
        ]
        (folder / f"{at}.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), 1))
    return sum(path.stat().st_size for path in folder.iterdir())


def timed(folder: Path, **engine) -> float:
    """Return the median time of three readings after a first one, seconds."""
    taut.read_rollouts(folder, **engine)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        taut.read_rollouts(folder, **engine)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def on_nodes(folder: Path, nodes: int) -> float:
    """Return the time on a cluster of so many one-processor nodes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        return timed(folder, engine="ray")
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    """Print the times and the efficiency."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    from taut.engines import units

    units._FILES = 1  # as many tasks as a log of an hour has for each worker
    with tempfile.TemporaryDirectory() as name:
        size = write(Path(name))
        local = timed(Path(name), threads=1)
        one, two = (on_nodes(Path(name), nodes) for nodes in (1, 2))
    print(f"{size / 1e6:.0f} MB, {FILES * ROWS:,} rollouts, {os.cpu_count()} processors here")
    print(f"local, one thread  {local:.2f} s")
    print(f"one node           {one:.2f} s  ({one / local:.2f} of local)")
    print(f"two nodes          {two:.2f} s  efficiency {one / (2 * two):.2f}")


if __name__ == "__main__":
    main()

"""Reading token lists from JSON lines: ours against parsers alone.

    python benchmarks/read_jsonl.py [--rollouts 20000] [--tokens 500] [--digits 17] [--repeat 7]

Runs are paired within one process; ratios are medians of pairs. The parsers only parse (DuckDB and
simdjson, where they are installed, into float64); ours checks, sums and builds the rollouts too.
"lines" reads the file and splits it into lines. A ratio above 1 means that ours is faster. Peak
memory is that of a fresh process that reads once.
"""

import argparse
import importlib.util
import statistics
import tempfile
from pathlib import Path

import numpy as np
import orjson
from reading import peak_mb, seconds

from taut.engines.local import read_rollouts


# Not ru_maxrss: a child inherits it from the process that started it.
def make(path: Path, rollouts: int, tokens: int, digits: int) -> None:
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for row in range(rollouts):
            policy = -rng.exponential(1, tokens)
            ref = policy + rng.normal(0, 0.1, tokens)
            if digits < 17:
                policy, ref = policy.astype(np.float32), ref.astype(np.float32)
            line = {
                "prompt_id": f"prompt {row // 4}",
                "reward": float(rng.random()),
                "policy_logprobs": policy,
                "ref_logprobs": ref,
                "response": "word " * 40,
            }
            file.write(
                orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
            )


def lines(path: Path) -> None:
    with open(path, "rb") as file:
        for _ in file:
            pass


def with_orjson(path: Path) -> None:
    with open(path, "rb") as file:
        for line in file:
            orjson.loads(line)


def with_simdjson(path: Path) -> None:
    import simdjson

    parser = simdjson.Parser()
    with open(path, "rb") as file:
        for line in file:
            doc = parser.parse(line)
            for name in ("policy_logprobs", "ref_logprobs"):
                doc[name].as_buffer(of_type="d")
            del doc


def with_duckdb(path: Path) -> None:
    import duckdb

    duckdb.sql(
        "select sum(list_sum(policy_logprobs)), sum(list_sum(ref_logprobs)) from "
        f"read_json('{path}', format = 'newline_delimited', columns = {{prompt_id: 'VARCHAR', "
        "reward: 'DOUBLE', policy_logprobs: 'DOUBLE[]', ref_logprobs: 'DOUBLE[]'})"
    ).fetchall()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rollouts", type=int, default=20_000)
    options.add_argument("--tokens", type=int, default=500)
    options.add_argument("--digits", type=int, choices=(9, 17), default=17)
    options.add_argument("--repeat", type=int, default=7)
    given = options.parse_args()
    tasks = {"lines": lines, "orjson": with_orjson}
    for name, task in (("simdjson", with_simdjson), ("duckdb", with_duckdb)):
        if importlib.util.find_spec(name):
            tasks[name] = task
    tasks["ours"] = read_rollouts
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        make(path, given.rollouts, given.tokens, given.digits)
        for task in tasks.values():
            task(path)  # warm: file in memory, code compiled
        runs = [
            {name: seconds(task, path) for name, task in tasks.items()} for _ in range(given.repeat)
        ]
        print(
            f"{given.rollouts} rollouts x {given.tokens} tokens x 2 lists, {given.digits} digits: "
            f"{path.stat().st_size / 1e6:.0f} MB; peak {peak_mb(path):.0f} MB"
        )
        for name in tasks:
            wall, cpu = (statistics.median(run[name][i] for run in runs) for i in (0, 1))
            ratio, cpu_ratio = (
                statistics.median(run[name][i] / run["ours"][i] for run in runs) for i in (0, 1)
            )
            print(
                f"{name:9s} {wall:.3f} s, {cpu:.3f} s of processor   "
                f"{name}/ours {ratio:.2f}, processor {cpu_ratio:.2f}"
            )


if __name__ == "__main__":
    main()

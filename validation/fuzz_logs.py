"""Logs of all kinds, whole and damaged: read right, or refused in one line, and never worse.

    python validation/fuzz_logs.py [--inputs 100000] [--seed 0] [--workers 2]

Each input is drawn from a seed: rows, types, a format with the options of its writer, then perhaps
damage, or a change while the file is read, which has to be noticed. A whole file has to give the
count of rows and the sum of rewards that the rows have; a damaged one may be refused, and where it
is read it has to give what an independent reading by `json` and NumPy gives (text), or what was
written (Parquet with checksums). Any exception but ours, any end of the process and anything above
ten seconds is a failure. Inputs run in child processes of some hundred each.
"""

import argparse
import gzip
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from taut.engines import files
from taut.engines.local import read_rollouts
from taut.errors import LogError

_SECONDS = 10
_BATCH = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start, failures = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="taut-fuzz-") as folder:
        for first in range(0, arguments.inputs, _BATCH):
            count = min(_BATCH, arguments.inputs - first)
            failures += batch(arguments.seed + first, count, Path(folder))
    for failure in failures[:20]:
        print(failure)
    seconds = time.monotonic() - start
    print(f"{arguments.inputs} inputs, {len(failures)} failures, {seconds:.0f} s")
    return 1 if failures else 0


def batch(first: int, count: int, folder: Path) -> list[str]:
    """Run some inputs in a child process; each of them alone where the child ends badly."""
    note = folder / "failures.txt"
    note.write_text("")
    pid = os.fork()
    if pid == 0:
        run(range(first, first + count), folder, note)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    found = note.read_text().splitlines()
    if status == 0:
        return found
    if count == 1:
        return [*found, f"seed {first}: the process ended with status {status}"]
    return [text for seed in range(first, first + count) for text in batch(seed, 1, folder)]


def run(seeds: range, folder: Path, note: Path) -> None:
    """Try inputs and write down what failed."""
    for seed in seeds:
        signal.alarm(_SECONDS)
        problem = attempt(seed, folder)
        signal.alarm(0)
        if problem:
            with note.open("a") as file:
                file.write(f"seed {seed}: {problem}\n")


def attempt(seed: int, folder: Path) -> str | None:
    """Return what is wrong with how one input is read; None where all is well."""
    rng = random.Random(seed)
    rows = make_rows(rng)
    name, data, sure = write(rng, rows)
    fate = rng.choice(["whole", "damaged", "damaged", "changed"])
    way = None
    if fate == "damaged":
        way, data = damage(rng, data)
    path = folder / name
    path.write_bytes(data)
    expected = (len(rows), math.fsum(float(row["reward"]) for row in rows))
    try:
        with changing(path, data, rng) if fate == "changed" else nullcontext():
            rollouts = read_rollouts(path, threads=1)
    except LogError as error:
        message = str(error)
        if any(ord(letter) < 32 for letter in message):
            return f"{name}: control characters in {message!r}"
        return None if fate != "whole" else f"{name}: refused a whole file: {message}"
    except BaseException as error:
        return f"{name}: {type(error).__name__}: {error}".replace("\n", " ")
    finally:
        path.unlink()
    found = (len(rollouts), math.fsum(rollouts.reward.tolist()))
    if fate == "changed":
        return f"{name}: read though it changed"
    if fate == "damaged" and not sure:
        reference = read_apart(name, data)
        if reference is None:  # no checksums: what is cut off is noticed all the same
            return f"{name}: read though cut off" if way == "cut" else None
        expected = reference
    return None if found == expected else f"{name}: found {found}, expected {expected}"


# --- rows -----------------------------------------------------------------------------------------


def make_rows(rng: random.Random) -> list[dict]:
    """Rows of one random shape: types of ids and rewards, further columns, some of them null."""
    count = rng.choice([1, 2, 7, 40, 200])
    reward = rng.choice(
        [
            lambda: rng.random(),
            lambda: rng.randint(-3, 3),
            lambda: rng.random() < 0.5,
            lambda: float(rng.randint(0, 1)),
            lambda: rng.gauss(0, 1) * 10.0 ** rng.randint(-9, 9),
        ]
    )
    name = rng.choice([lambda i: f"p{i // 3}", lambda i: i // 3, lambda i: f"Frage {i} é 🙂\n"])
    extra = rng.sample(list(_EXTRA), rng.randint(0, len(_EXTRA)))
    rows = []
    for at in range(count):
        row = {"prompt_id": name(at), "reward": reward()}
        for column in extra:
            row[column] = _EXTRA[column](rng, at)
        rows.append(row)
    return rows


def _tokens(rng: random.Random, at: int) -> list[float]:
    return [-rng.expovariate(1) for _ in range(at % 5)]


_EXTRA = {
    "step": lambda rng, at: at // 10,
    "policy": lambda rng, at: "ab"[at % 2],
    "gold": lambda rng, at: rng.random() if rng.random() < 0.4 else None,
    "truncated": lambda rng, at: True if rng.random() < 0.3 else None,
    "error": lambda rng, at: rng.choice([None, "", "timeout"]),
    "response": lambda rng, at: "word " * (at % 9),
    "policy_logprobs": _tokens,
    "ref_logprobs": lambda rng, at: _tokens(random.Random(at), at),
    "meta": lambda rng, at: {"a": at, "b": {"c": [at, None]}},
    "kl": lambda rng, at: math.nan,
}


# --- files ----------------------------------------------------------------------------------------


def write(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    """Return a name, the bytes of a file, and whether damage to it is sure to be noticed."""
    return rng.choice([_lines, _lines, _array, _columns, _parquet, _parquet, _ours, _arrow])(
        rng, rows
    )


def _lines(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    end = rng.choice(["\n", "\r\n", "\n\n"])
    separators = rng.choice([(",", ":"), (", ", ": "), (" ,", " :  ")])
    text = end.join(
        json.dumps(row, separators=separators, ensure_ascii=rng.random() < 0.5) for row in rows
    )
    data = (text + rng.choice(["", end])).encode()
    data = b"\xef\xbb\xbf" * (rng.random() < 0.1) + data
    if rng.random() < 0.2:
        return "a.jsonl.gz", gzip.compress(data), False
    return rng.choice(["a.jsonl", "a.json", "a.log"]), data, False


def _array(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    return "a.json", json.dumps(rows, indent=rng.choice([None, 1, 4])).encode(), False


def _columns(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    kept = [name for name in rows[0] if "logprobs" not in name]
    table = {name: [row[name] for row in rows] for name in kept}
    return "a.json", json.dumps(table).encode(), False


def _table(rng: random.Random, rows: list[dict]) -> pa.Table:
    rows = [{k: v for k, v in row.items() if k != "kl"} for row in rows]
    table = pa.Table.from_pylist(rows)
    kind = table.schema.field("reward").type
    way = rng.choice(["as it is", "decimal", "text", "dictionary", "large"])
    if way == "decimal" and pa.types.is_integer(kind):
        values = [Decimal(row["reward"]) for row in rows]
        return _with(table, "reward", pa.array(values, pa.decimal128(20, 2)))
    if way == "text" and pa.types.is_floating(kind):
        return _with(table, "reward", pa.array([repr(row["reward"]) for row in rows]))
    if way == "dictionary" and "policy" in table.column_names:
        return _with(table, "policy", table["policy"].dictionary_encode())
    if way == "large" and pa.types.is_string(table.schema.field("prompt_id").type):
        kind = rng.choice([pa.large_string(), pa.string_view()])
        return _with(table, "prompt_id", table["prompt_id"].cast(kind))
    return table


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _parquet(
    rng: random.Random, rows: list[dict], checksums: bool = False
) -> tuple[str, bytes, bool]:
    out = io.BytesIO()
    pq.write_table(
        _table(rng, rows),
        out,
        row_group_size=rng.choice([1, 3, 64, 10_000]),
        compression=rng.choice(["none", "snappy", "zstd", "gzip", "lz4"]),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(["1.0", "2.0"]),
        data_page_size=rng.choice([64, 1 << 20]),
        write_page_index=rng.random() < 0.3,
        write_page_checksum=checksums or rng.random() < 0.3,
    )
    return "a.parquet", out.getvalue(), checksums


def _ours(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    # Checksums cover pages, not the footer: damage there may change numbers in statistics alone.
    return _parquet(rng, rows, checksums=True)


def _arrow(rng: random.Random, rows: list[dict]) -> tuple[str, bytes, bool]:
    table, out = _table(rng, rows), io.BytesIO()
    way = rng.choice(["stream", "file", "feather"])
    if way == "feather":
        feather.write_feather(table, out, compression=rng.choice(["uncompressed", "lz4", "zstd"]))
    else:
        new = pa.ipc.new_stream if way == "stream" else pa.ipc.new_file
        with new(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=rng.choice([1, 16, 1000]))
    return "a.arrow", out.getvalue(), False


# --- damage ---------------------------------------------------------------------------------------


def damage(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Return a kind of damage, and the bytes with it."""
    way = rng.choice(["flip", "flip", "cut", "end", "hole", "twice", "zeros", "insert"])
    at = rng.randrange(len(data))
    size = rng.randint(1, min(64, len(data)))
    if way == "flip":
        out = bytearray(data)
        # Footers and heads are where structure is.
        near = rng.choice([at, len(data) - 1 - at % 400, at % 400])
        out[near % len(out)] ^= rng.randint(1, 255)
        return way, bytes(out)
    pieces = {
        "cut": data[:at],
        "end": data[at:],
        "hole": data[:at] + data[at + size :],
        "twice": data[: at + size] + data[at:],
        "zeros": data[:at] + bytes(size) + data[at + size :],
        "insert": data[:at] + rng.randbytes(size) + data[at:],
    }
    return way, pieces[way]


@contextmanager
def changing(path: Path, data: bytes, rng: random.Random):
    """Change the file once its first rows are on their way: cut, replaced or longer."""
    inner, other = files.tasks, path.with_name("other")
    new = rng.choice([data[: rng.randrange(len(data))], data + data, data[::-1]])

    def tasks(source, request):
        for task in inner(source, request):
            yield task
            if rng.random() < 0.5:
                path.write_bytes(new)
            else:
                other.write_bytes(new)
                os.replace(other, path)

    files.tasks = tasks
    try:
        yield
    finally:
        files.tasks = inner


def read_apart(name: str, data: bytes) -> tuple[int, float] | None:
    """Return rows and the sum of rewards as `json` reads them; None where it cannot tell.

    Raises:
        ValueError: The text is none that `json` reads, though ours did.
    """
    if name.endswith((".parquet", ".arrow")):
        return None
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    text = data.decode("utf-8-sig")
    try:
        whole = json.loads(text)
        rows = whole if isinstance(whole, list) else None
        if isinstance(whole, dict) and isinstance(whole.get("reward"), list):
            return len(whole["reward"]), math.fsum(map(float, whole["reward"]))
    except ValueError:
        rows = None
    if rows is None:
        lines = text.replace("\r\n", "\n").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
    return len(rows), math.fsum(float(row["reward"]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())

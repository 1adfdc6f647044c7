"""Counting misses over many logs: cells, a cache that outlives a killed run, verdicts, tables.

A cell is a function of a seed. What it returns is added up over seeds: 1 for a miss, a width, ....
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.check import miss_rate_lower_limit, misses_more_than

import taut

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"
CHUNK = 25  # logs between two lines of the cache


@dataclass(frozen=True, slots=True)
class Cell:
    """What is drawn again and again.

    Attributes:
        name: In the table, and in the cache.
        once: Seed to what is added up, by name; "missed" is what `delta` bounds.
        delta: Allowed probability of "missed"; None where nothing is judged.
        planted: The statement is wrong on purpose: the check must reject it.
        share: Of the logs asked for, where one log takes long.
    """

    name: str
    once: Callable[[int], Mapping[str, float]]
    delta: float | None = None
    planted: bool = False
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Sums:
    """What a cell gave: `logs` seeds, and the sum of each value over them."""

    logs: int
    totals: Mapping[str, float]

    def mean(self, name: str) -> float:
        """Return the mean over logs: a miss rate, a mean width."""
        return self.totals[name] / self.logs

    def rejected(self, delta: float) -> bool:
        """Return whether "missed" is too frequent for `delta`, at 99.9%."""
        return misses_more_than(round(self.totals["missed"]), self.logs, delta)

    def surely_above(self) -> float:
        """Return the exact 99.9% lower limit of the rate of "missed"."""
        return miss_rate_lower_limit(round(self.totals["missed"]), self.logs)


def measure(cells: Sequence[Cell], logs: int, cache: Path | None = None) -> dict[str, Sums]:
    """Add up every cell over its logs.

    Args:
        cells: With names that differ.
        logs: Seeds 0, 1, ... of each cell, or its share of them.
        cache: Lines of finished chunks; those of other code are not used.
    """
    key, done = _digest(), {}
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        done = _read(cache, key)
    return {cell.name: _measured(cell, logs, cache, key, done) for cell in cells}


def _measured(cell: Cell, logs: int, cache: Path | None, key: str, done: Mapping) -> Sums:
    logs = max(1, round(logs * cell.share))
    totals: dict[str, float] = {}
    for start in range(0, logs, CHUNK):
        stop = min(start + CHUNK, logs)
        sums = done.get((cell.name, start, stop))
        if sums is None:
            sums = _chunk(cell, start, stop)
            if cache is not None:
                line = {"key": key, "cell": cell.name, "start": start, "stop": stop, "sums": sums}
                with cache.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value
    found = Sums(logs, totals)
    rates = ", ".join(f"{name} {value / logs:.4g}" for name, value in totals.items())
    print(f"{cell.name}: {rates} ({logs} logs)", file=sys.stderr, flush=True)
    return found


def _chunk(cell: Cell, start: int, stop: int) -> dict[str, float]:
    sums: dict[str, float] = {}
    for seed in range(start, stop):
        for name, value in cell.once(seed).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _read(cache: Path, key: str) -> dict[tuple[str, int, int], dict[str, float]]:
    """Return finished chunks; a last line cut short by an interruption is dropped."""
    done = {}
    for line in cache.read_text().splitlines() if cache.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["key"] == key:
            done[entry["cell"], entry["start"], entry["stop"]] = entry["sums"]
    return done


def _digest() -> str:
    """Return a digest of what is studied and of the studies."""
    digest = hashlib.sha256()
    folders = (Path(__file__).parent, Path(taut.__file__).parent)
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def wrong_verdicts(cells: Sequence[Cell], found: Mapping[str, Sums]) -> list[str]:
    """Return honest cells that miss too often, and planted mistakes that the check lets pass."""
    judged = [cell for cell in cells if cell.delta is not None and cell.name in found]
    return [cell.name for cell in judged if found[cell.name].rejected(cell.delta) != cell.planted]


def miss_table(cells: Sequence[Cell], found: Mapping[str, Sums]) -> list[str]:
    """Return the miss rates of honest cells and of planted mistakes, as Markdown."""
    rows = []
    for cell in cells:
        if cell.delta is None:
            continue
        sums = found[cell.name]
        rejected = sums.rejected(cell.delta)
        verdict = ("rejected" if rejected else "NOT SEEN") if cell.planted else ""
        verdict = verdict or ("VIOLATED" if rejected else "holds")
        rates = (f"{sums.mean('missed'):.3f}", f"{sums.surely_above():.3f}")
        named = f"*{cell.name}*" if cell.planted else cell.name
        rows.append((named, f"{cell.delta:g}", f"{sums.logs:,}", *rates, verdict))
    return table(("logs of", "δ", "logs", "miss", "surely above", ""), rows)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    lines = [titles, ("---",) * len(titles), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def put(page: Path, lines: Sequence[str]) -> None:
    """Write lines between the markers of a page; what stands around them stays."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    inside = "\n".join([BEGIN, "", *lines, "", END])
    page.write_text(before + inside + rest.partition(END)[2], encoding="utf-8")


def arguments(about: str, page: str, logs: int = 2000) -> argparse.ArgumentParser:
    """Return the options that these studies share."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--logs", type=int, default=logs, help="of each cell")
    parser.add_argument("--output", type=Path, default=Path(page))
    parser.add_argument("--cache", type=Path, help="finished chunks, to go on after a kill")
    return parser

"""Run every cell on many logs, print one row for each, exit 1 where a requirement is refuted."""

import argparse
import sys
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch
from multiprocessing import get_context

from validation.layouts.cell import HONEST, Cell
from validation.layouts.cells import cells
from validation.layouts.verdict import MOST_ACCUSED, Tally, failures, tally, upper_limit

_CHUNK = 50  # logs of a cell that a process takes at once


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = tuple(
        cell for cell in cells() if fnmatch(str(cell).lower(), f"*{options.only.lower()}*")
    )
    refuted = 0
    families: dict[str, Tally] = {}
    print(f"{'wrong':>11} {'accused':>11} {'seen':>11}  kind       cell: status")
    for place, found in _tallies(chosen, options.logs, options.processes):
        cell = chosen[place]
        against = failures(cell, found)
        refuted += bool(against)
        print(_row(cell, found), flush=True)
        for text in against:
            print(f"{'REFUTED':>35}  {text}")
        if options.words and (against or cell.kind == HONEST):
            for words, count in found.words.most_common(2):
                print(f"{count:>35}× {words}")
        if cell.kind == HONEST:
            families.setdefault(cell.family, Tally()).join(found)
    _print_families(families)
    print(f"{len(chosen)} cells, {refuted} refuted")
    return 1 if refuted else 0


def _print_families(families: dict[str, Tally]) -> None:
    print("\nhonest logs accused, by family, and the 99.9% upper limit of the rate")
    for name, found in families.items():
        if found.tried:
            limit = upper_limit(found.accused, found.tried)
            shown = "shown" if limit <= MOST_ACCUSED else "not shown"
            print(f"  {name}: {found.accused} of {found.tried}, at most {limit:.2g}: {shown}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m validation.layouts", description=__doc__)
    parser.add_argument("--logs", type=int, default=2000, help="logs a cell")
    parser.add_argument("--only", default="", help="cells whose name matches a glob")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--words", action="store_true", help="show what was said of accused logs")
    return parser


def _row(cell: Cell, found: Tally) -> str:
    if found.skipped:
        return f"{'not offered':>35}  {cell.kind:<9}  {cell}"
    counts = (f"{hits}/{found.tried}" for hits in (found.wrong, found.accused, found.seen))
    statuses = ", ".join(f"{name} {count}" for name, count in found.statuses.most_common())
    return " ".join(f"{count:>11}" for count in counts) + f"  {cell.kind:<9}  {cell}: {statuses}"


def _tallies(chosen: tuple[Cell, ...], logs: int, processes: int) -> Iterator[tuple[int, Tally]]:
    """Yield each cell's place and counts, in order."""
    # Cells hold functions that do not pickle: a process is given their place alone.
    names = [str(cell) for cell in chosen]
    jobs = [
        (name, start, min(start + _CHUNK, logs))
        for name in names
        for start in range(0, logs, _CHUNK)
    ]
    with get_context("fork").Pool(processes) as pool:
        parts = pool.imap(_part, jobs)
        for place in range(len(chosen)):
            total = Tally()
            for _ in range(0, logs, _CHUNK):
                total.join(next(parts))
            yield place, total


def _part(job: tuple[str, int, int]) -> Tally:
    name, start, stop = job
    cell = next(cell for cell in cells() if str(cell) == name)
    warnings.simplefilter("error")
    return tally(cell, range(start, stop))


if __name__ == "__main__":
    sys.exit(main())

"""Does the certificate cover the truth at every step of a run, and does the turn always come?

    python -m validation.lab --seeds 20 --folder lab-seeds --output docs/lab.md

Each seed is a whole experiment of its own: language model, comparisons, reward model, policy,
audited prompts, labels and truth. A seed that is finished in the folder is not run again, but
judged again. Writes the table into the page, between its markers.
"""

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import beta

from taut.engines.local import read_rollouts
from taut.lab.overoptimise import SIZES, overoptimise
from taut.lab.verdict import TARGETS, judge

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"


def outcome(folder: Path, seed: int) -> dict:
    """Return the outcome of one seed; its weights are removed, its log and truth are kept."""
    place = folder / f"seed-{seed:03d}"
    truth = place / "truth.json"
    if not truth.exists():
        overoptimise(place, replace(SIZES["small"], seed=seed), quiet=True)
        for name in ("base", "run"):
            shutil.rmtree(place / name)
    return judge(read_rollouts(place / "audit.parquet"), json.loads(truth.read_text()))


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("lab-seeds"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        found.append(outcome(arguments.folder, seed))
        covered = found[-1]["covered"]
        print(f"seed {seed}: covered {covered}, regret {found[-1]['selection']['regret']}", flush=True)
    if arguments.output is not None:
        text = arguments.output.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        page = f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{after}"
        arguments.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

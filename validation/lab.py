"""Does the certificate cover the truth at every step of a run, and does the turn always come?

    python -m validation.lab --seeds 20 --folder lab-seeds --output docs/lab.md

Each seed is a whole experiment of its own: language model, comparisons, reward model, policy,
audited prompts, labels and truth. A seed that is finished in the folder is not run again, but
judged again. Writes the table into the page, between its markers.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import beta
from validation.counting import put

from taut.engines.local import read_rollouts
from taut.lab.overoptimise import overoptimise
from taut.lab.verdict import TARGETS, judge

NAMES = {"reward": "E r\\*", "clipped": "E[r\\* − βℓ^τ]", "objective": "J\\*"}


def outcome(folder: Path, seed: int) -> dict:
    """Return the outcome of one seed; its weights are removed, its log and truth are kept."""
    place = folder / f"seed-{seed:03d}"
    truth = place / "truth.json"
    if not truth.exists():
        overoptimise(place, seed=seed, quiet=True)
        for name in ("base", "run"):
            shutil.rmtree(place / name)
    found = judge(read_rollouts(place / "audit.parquet"), json.loads(truth.read_text()))
    return found.model_dump()


def study(found: Sequence[dict]) -> str:
    """Return the study as Markdown: counts first, then the average run step by step."""
    settings = found[0]["settings"]
    head = (
        f"{len(found)} seeds of the standard run ({settings['prompts']:,} audited prompts, "
        f"{settings['gold']} of them labelled, {len(found[0]['steps'])} checkpoints, "
        f"δ = {settings['delta']:g} for all of them together)."
    )
    parts = [
        head,
        _coverage(found),
        _misses(found),
        _turns(found),
        _choices(found),
        _by_step(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _coverage(found: Sequence[dict]) -> str:
    lines = [
        "| target | status | truth inside at every step | seeds, exact 95% limits | "
        "single certificates |",
        "|---|---|---:|---:|---:|",
    ]
    for name in TARGETS:
        hits = sum(run["covered"][name] for run in found)
        rows = [row for run in found for row in run["steps"]]
        single = sum(row["covered"][name] for row in rows)
        status = rows[-1]["certificates"][name]["status"]
        low, high = _limits(hits, len(found))
        lines.append(
            f"| {NAMES[name]} | {status} | {hits} of {len(found)} | {low:.1%} to {high:.1%} | "
            f"{single} of {len(rows)} |"
        )
    return "\n".join(lines)


def _limits(hits: int, trials: int) -> tuple[float, float]:
    """Exact limits of a share (Clopper & Pearson), 95% two-sided."""
    low = 0.0 if hits == 0 else beta.ppf(0.025, hits, trials - hits + 1)
    high = 1.0 if hits == trials else beta.ppf(0.975, hits + 1, trials - hits)
    return float(low), float(high)


def _misses(found: Sequence[dict]) -> str:
    """Name each miss of E r*, with what is not known about the truth itself."""
    lines = []
    for run in found:
        for row in run["steps"]:
            end, true = row["certificates"]["reward"], row["truth"]
            if not row["covered"]["reward"]:
                lines.append(
                    f"seed {run['settings']['seed']}, step {row['step']}: true "
                    f"{true['gold']:.4f} ± {true['gold_se']:.4f}, certificate "
                    f"[{end['lower']:.4f}, {end['upper']:.4f}]"
                )
    near = sum(
        min(
            abs(row["certificates"]["reward"][end] - row["truth"]["gold"])
            for end in ("lower", "upper")
        )
        < 2 * row["truth"]["gold_se"]
        for run in found
        for row in run["steps"]
    )
    total = sum(len(run["steps"]) for run in found)
    close = (
        f"Of {total} certificates of E r\\*, {near} have the measured truth within two of its own "
        "standard errors of an end, where inside and outside cannot be told for sure."
    )
    return f"Misses of E r\\*: {'; '.join(lines) or 'none'}. {close}"


def _turns(found: Sequence[dict]) -> str:
    turned = [run for run in found if run["turn"]["fall"] > 3 * run["turn"]["fall_se"]]
    falls = [run["turn"]["fall"] for run in found]
    rises = [run["turn"]["proxy_rise"] for run in found]
    seen = sum(run["turn"]["seen_from"] is not None for run in found)
    rho = [run["shift_correlation"] for run in found]
    peaks = Counter(run["turn"]["step"] for run in found)
    where = ", ".join(f"step {step} in {times}" for step, times in sorted(peaks.items()))
    return (
        f"The true reward has turned in {len(turned)} of {len(found)} seeds: from its peak "
        f"({where}) it falls by {np.mean(falls):.3f} on average ({min(falls):.3f} to "
        f"{max(falls):.3f}) while the learned reward gains {np.mean(rises):.3f}. The log alone "
        f"proves the learned reward too high at the end in {seen}. Over the steps of a run, "
        f"measured and true shift have a correlation of {np.median(rho):.3f} (median; least "
        f"{min(rho):.3f})."
    )


def _choices(found: Sequence[dict]) -> str:
    def mean(key: str) -> str:
        values = np.array(
            [run["selection"][key] for run in found if run["selection"][key] is not None]
        )
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        return f"{values.mean():.4f} ± {error:.4f}"

    picks = [run["selection"] for run in found]
    chosen = sum(pick["chosen"] is not None for pick in picks)
    kept = sum(pick["best_kept"] for pick in picks)
    caught = sum(pick["over_optimised"] == "caught" for pick in picks)
    broken = sum(
        pick["certified_regret"] is not None and pick["regret"] > pick["certified_regret"]
        for pick in picks
    )
    return (
        f"`taut select` chooses in {chosen} of {len(found)} seeds and loses {mean('regret')} of "
        f"true reward; the best learned reward loses {mean('best_proxy_regret')}, the last "
        f"checkpoint {mean('last_regret')}. It calls over-optimisation caught in {caught}, keeps "
        f"the best checkpoint in {kept}, and its certified regret ({mean('certified_regret')}) is "
        f"exceeded in {broken}."
    )


def _by_step(found: Sequence[dict]) -> str:
    lines = [
        "Means over seeds, with the smallest and largest of the true reward:",
        "",
        "| step | learned | true | least to most | KL, nats | true shift | measured shift | "
        "width of certificate | covered |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for place, first in enumerate(found[0]["steps"]):
        rows = [run["steps"][place] for run in found]
        gold = [row["truth"]["gold"] for row in rows]

        def mean(of: Callable[[dict], float], rows: Sequence[dict] = rows) -> float:
            return float(np.mean([of(row) for row in rows]))

        shift = mean(lambda row: (row["shift"]["lower"] + row["shift"]["upper"]) / 2)
        width = mean(
            lambda row: (
                row["certificates"]["reward"]["upper"] - row["certificates"]["reward"]["lower"]
            )
        )
        lines.append(
            f"| {first['step']} | {mean(lambda row: row['proxy']):.3f} | {np.mean(gold):.3f} | "
            f"{min(gold):.3f} to {max(gold):.3f} | {mean(lambda row: row['kl']):.1f} | "
            f"{mean(lambda row: row['truth']['error']):+.3f} | {shift:+.3f} | {width:.3f} | "
            f"{sum(row['covered']['reward'] for row in rows)} of {len(rows)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the seeds and write the study into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("lab-seeds"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        found.append(outcome(arguments.folder, seed))
        print(f"seed {seed}: covered {found[-1]['covered']}", flush=True)
    if arguments.output is not None:
        put(arguments.output, [study(found)])


if __name__ == "__main__":
    main()

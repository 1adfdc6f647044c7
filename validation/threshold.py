"""How much width does the chosen clip threshold lose to the best one in hindsight? (theory §7.2)

    python -m validation.threshold --seeds 30 --output docs/threshold.md

Each log is split as an audit splits it. On the same certifying draws the interval for the objective
is made at the chosen threshold and at many others; the narrowest of those is hindsight. Writes its
table into the page, between the markers.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from validation.counting import put

from taut.auditing.calibration import Split, Thresholds
from taut.auditing.compose import certify
from taut.auditing.options import Options
from taut.auditing.prepare import Prepared, prepare
from taut.decisions.threshold.choose import clip_threshold
from taut.draws.rollouts import Rollouts
from taut.worlds import FAMILIES, World, sample_rollouts, truth

WORLDS = (
    "heavy_tailed",
    "over_optimised",
    "kl_optimal",
    "calibrated",
    "tied_weights",
    "unequal_rollouts",
    "random",
)
PROMPTS = (50, 200, 1000)
KNOWN = ("nothing", "second moment", "gold")
GOLD_SHARE = 0.5
GRID = 16


@dataclass(frozen=True, slots=True)
class Trial:
    """One log: widths lost, as shares of the narrowest width in hindsight.

    Attributes:
        chosen: At the chosen threshold, on the same certifying draws.
        paper, ten: At the paper's rule and at ±10, on the same draws.
        whole: At the chosen threshold, against hindsight on all draws: the split's price included.
        error: Forecast half-width over the one reached, less 1.
    """

    chosen: float
    paper: float
    ten: float
    whole: float
    error: float


def run_trial(family: str, prompts: int, known: str, seed: int, *, price: bool = True) -> Trial:
    """Draw one log of a world and hold its chosen threshold against hindsight.

    `price` also makes the intervals on all draws, which takes twice the time.
    """
    rng = np.random.default_rng([seed, prompts])
    world = FAMILIES[family](rng)
    labelled = round(GOLD_SHARE * prompts) if known == "gold" else None
    log = sample_rollouts(world, prompts, rng=rng, gold_prompts=labelled)
    options = _options(world, known)
    settings = {name: getattr(options, name) for name in ("beta", "reward_range", "held_out")}
    found = clip_threshold(log, log_ratio_second_moment=options.log_ratio_second_moment, **settings)
    ready = prepare(log, options)
    negative = found.tau_negative
    grid = _grid(log)

    def best(split: Split) -> float:
        return min(width(ready, split, tau, negative) for tau in grid)

    here = width(ready, ready.split, found.tau, negative)
    paper = width(ready, ready.split, found.paper.tau, found.paper.tau)
    ten = width(ready, ready.split, 10.0, 10.0)
    least = min(here, best(ready.split))
    blocks = ready.design.blocks
    nobody = blocks.subset(np.zeros(len(blocks), dtype=bool))
    whole = best(Split(nobody, blocks)) if price and known == "nothing" else math.nan
    return Trial(
        chosen=here / least - 1,
        paper=paper / least - 1,
        ten=ten / least - 1,
        whole=here / whole - 1,
        error=found.chosen.total / (here / 2) - 1 if known != "gold" else math.nan,
    )


def _options(world: World, known: str) -> Options:
    moment = truth(world).log_ratio_second_moment if known == "second moment" else None
    return Options(
        beta=world.beta,
        reward_range=(0.0, 1.0),
        held_out=True,
        target="objective",
        log_ratio_second_moment=moment,
    )


def _grid(log: Rollouts) -> list[float]:
    """Return thresholds from far below to beyond everything seen: hindsight sees the whole log."""
    positive = np.maximum(log.log_ratio, 0.0)
    top = max(float(positive.max()), 1e-3)
    found = np.r_[
        np.quantile(positive, np.linspace(0.3, 1, GRID // 2)),
        np.geomspace(top / 30, 1.5 * top, GRID // 2),
    ]
    return np.unique(found).tolist()


def width(ready: Prepared, split: Split, tau: float, negative: float) -> float:
    """Width of the objective's interval on the certifying draws at thresholds in nats, unit scale.

    With gold labels it is that of the certificate; without, that for the learned reward.
    """
    thresholds = Thresholds(tau, negative, "hindsight")
    found = certify("objective", replace(ready, split=split, thresholds=thresholds))
    terms = (found.terms.sampling, found.terms.kl_clipping)
    if ready.data.gold is not None:
        terms += (found.terms.reward_shift,)
    return math.fsum(term.upper - term.lower for term in terms)


def median(trials: Sequence[Trial], name: str) -> float:
    """Return the median of an attribute over trials."""
    return float(np.median([getattr(trial, name) for trial in trials]))


def table(cells: dict[tuple[str, int, str], list[Trial]]) -> str:
    """Return the verdict and the table, as Markdown."""
    losses = {key: median(trials, "chosen") for key, trials in cells.items()}
    worst = max(losses, key=losses.get)
    seeds = len(next(iter(cells.values())))
    above = sum(loss > 0.05 for loss in losses.values())
    lines = [
        f"**The median loss is at most 5% in {len(losses) - above} of {len(losses)} cells**; the "
        f"largest is {_percent(losses[worst])} ({worst[0]}, {worst[1]} prompts, {worst[2]} known). "
        f"{seeds} logs a cell, δ = 0.05; widths lost are shares of the narrowest width in "
        "hindsight, which is itself a minimum over noisy widths.",
        "",
        "| world | prompts | declared | lost: median | 90% | largest | paper's τ\\* | ±10 | "
        "with the split's price | forecast / reached |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (family, prompts, known), trials in cells.items():
        chosen = [trial.chosen for trial in trials]
        cells_ = [
            _percent(losses[family, prompts, known]),
            _percent(float(np.quantile(chosen, 0.9))),
            _percent(max(chosen)),
            *(_percent(median(trials, name)) for name in ("paper", "ten", "whole")),
            _ratio(1 + median(trials, "error")),
        ]
        lines.append(f"| {family} | {prompts} | {known} | " + " | ".join(cells_) + " |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("docs/threshold.md"))
    given = parser.parse_args(arguments)
    cells = {}
    for known in KNOWN:
        # Gold needs labels enough to spare some for the calibration split.
        for family in WORLDS if known == "nothing" else WORLDS[:3]:
            for prompts in PROMPTS if known != "gold" else PROMPTS[-1:]:
                cells[family, prompts, known] = [
                    run_trial(family, prompts, known, seed) for seed in range(given.seeds)
                ]
                print(
                    family, prompts, known, f"{median(cells[family, prompts, known], 'chosen'):.4f}"
                )
    put(given.output, [table(cells)])


if __name__ == "__main__":
    main()

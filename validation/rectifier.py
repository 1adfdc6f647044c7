"""How far do gold labels go beside a judge, and do the intervals hold? (theory §3.6)

    python -m validation.rectifier --logs 200 --output docs/rectifier.md

Three kinds of judges and a useless one. On each log labels are nested (the first 30, 50, .. draws
of one order), all other draws are unlabelled. Beside each interval stands an oracle's: it knows
g = E[r* | judge] and the best constant weight of a grid, in hindsight, and makes the same bets.
The exit status is 1 if a target of `TARGETS` is missed or an interval misses too often.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tests.check import misses_more_than

import taut
from taut.draws.layout import lay_out, settle
from taut.draws.rollouts import Rollouts
from taut.inequalities.label_designs import LabelledDraws, fixed_blocks, labelled_blocks
from taut.inequalities.mean import mean_interval
from taut.inequalities.rectifier import joint_interval, rectified_interval

DELTA = 0.05
LABELS = (30, 50, 80, 99, 100, 150, 200, 400, 1000)
DRAWS = 20_000
WEIGHTS = np.linspace(0, 1, 11)
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Log:
    """Draws of one row each: gold of every draw (labels show some), judge, E[r* | judge]."""

    gold: np.ndarray
    judge: np.ndarray
    known: np.ndarray


def logistic(rng: np.random.Generator) -> Log:
    """0/1 gold, and a judge that knows its logit: correlation .63."""
    chance = 1 / (1 + np.exp(-1.75 * rng.standard_normal(DRAWS)))
    return Log((rng.random(DRAWS) < chance).astype(float), chance, chance)


def other_scale(rng: np.random.Generator) -> Log:
    """Graded gold, and a judge that squeezes it into a quarter of the scale: correlation .86."""
    quality = rng.beta(4, 4, DRAWS)
    return Log(rng.beta(10.4 * quality, 10.4 * (1 - quality)), 0.35 + 0.25 * quality, quality)


def curved(rng: np.random.Generator) -> Log:
    """Graded gold, and a judge that cubes it: correlation .95 once it is made straight."""
    quality = rng.beta(4, 4, DRAWS)
    return Log(rng.beta(71 * quality, 71 * (1 - quality)), quality**3, quality)


def useless(rng: np.random.Generator) -> Log:
    """Graded gold, and a judge that guesses."""
    gold = rng.beta(2.5, 2.5, DRAWS)
    return Log(gold, rng.random(DRAWS), np.full(DRAWS, 0.5))


WORLDS = (logistic, other_scale, curved, useless)  # the mean is 1/2 in each
# Largest mean width over the oracle's, at 100 labels and from 200 on.
TARGETS = {"logistic": (1.15, 1.12), "other_scale": (1.15, 1.12), "curved": (1.17, 1.17)}


@dataclass(slots=True)
class Cell:
    """Widths and misses of one world at one number of labels."""

    world: str
    labels: int
    ours: float
    oracle: float
    weight: float  # the oracle's
    alone: float  # labels alone
    misses: int
    logs: int

    @property
    def failed(self) -> str:
        """Which target it misses; empty if none."""
        if misses_more_than(self.misses, self.logs, DELTA):
            return "misses too often"
        ratio = self.ours / self.oracle
        if self.world == "useless":
            return "" if ratio <= (1.05 if self.labels < 50 else 1.03) else "a useless judge costs"
        small, large = TARGETS[self.world]
        most = {100: small}.get(self.labels, large if self.labels >= 200 else math.inf)
        return "" if ratio <= most else f"wider than {most} x the oracle"


def run_world(draw: Callable[[np.random.Generator], Log], logs: int, seed: int) -> list[Cell]:
    """Audit some logs of a world at every number of labels."""
    rng = np.random.default_rng(seed)
    ours = np.zeros((len(LABELS), logs))
    oracle = np.zeros((len(LABELS), len(WEIGHTS), logs))
    misses = np.zeros(len(LABELS), dtype=int)
    ids = ids_in_draw_order(DRAWS)
    for log in range(logs):
        drawn = draw(rng)
        for at, labels in enumerate(LABELS):
            found = audited(drawn, labels, ids)
            ours[at, log] = found.upper - found.lower
            misses[at] += not found.lower <= 0.5 <= found.upper
            oracle[at, :, log] = [
                _interval(_with_oracle(drawn, labels, weight)).width for weight in WEIGHTS
            ]
    widths = oracle.mean(axis=2)
    best = widths.argmin(axis=1)
    return [
        Cell(
            world=draw.__name__,
            labels=labels,
            ours=float(ours[at].mean()),
            oracle=float(widths[at, best[at]]),
            weight=float(WEIGHTS[best[at]]),
            alone=float(widths[at, 0]),
            misses=int(misses[at]),
            logs=logs,
        )
        for at, labels in enumerate(LABELS)
    ]


def ids_in_draw_order(draws: int) -> np.ndarray:
    """Return ids that an audit puts in the order of the rows: the oracle bets in that order."""
    ids = np.arange(draws)
    rollouts = Rollouts.from_arrays(prompt_id=ids, reward=np.zeros(draws))
    return ids[lay_out(settle(rollouts).rollouts, seed=0).blocks.rows]


def audited(log: Log, labels: int, ids: np.ndarray) -> taut.Certificate:
    """Audit a log of which the first rows are labelled."""
    gold = np.where(np.arange(len(ids)) < labels, log.gold, np.nan)
    return taut.audit(
        Rollouts.from_arrays(prompt_id=ids, reward=log.judge, gold=gold),
        target="reward",
        reward_range=(0, 1),
        delta=DELTA,
        declare="held-out,complete,random-labels",
    )


def _with_judge(log: Log, labels: int):
    gold = np.where(np.arange(DRAWS) < labels, log.gold, np.nan)
    draws = LabelledDraws(gold=gold, starts=np.arange(DRAWS + 1), judge=log.judge)
    return labelled_blocks(draws, labelled_share=1.0)


def _with_oracle(log: Log, labels: int, weight: float):
    """The blocks of one constant weight of E[r* | judge], with the range that its span gives.

    Its parts lie about the mean of E[r* | judge], which the oracle knows too.
    """
    blocks = _with_judge(Log(log.gold, log.known, log.known), labels)
    control = weight * blocks.coefficient * (blocks.judge - 0.5)
    edges = np.ravel(np.c_[blocks.starts[:-1], blocks.stops])
    own, group = np.add.reduceat(control, edges).reshape(-1, 2).T
    lowest, highest = weight * (log.known.min() - 0.5), weight * (log.known.max() - 0.5)

    def fixed(terms):
        ends = np.zeros((labels, 3))
        ends[:, 0] = terms @ [1.0, lowest, highest]
        return ends

    none = np.zeros(labels + 1, dtype=np.int64)
    return replace(
        blocks,
        value=blocks.value + own,
        group_value=group,
        floor=fixed(blocks.floor),
        ceiling=fixed(blocks.ceiling),
        group_floor=fixed(blocks.group_floor),
        group_ceiling=fixed(blocks.group_ceiling),
        judge=np.empty(0),
        coefficient=np.empty(0),
        starts=none,
        stops=none[1:],
    )


def _interval(blocks):
    return rectified_interval(blocks, delta_lower=DELTA / 2, delta_upper=DELTA / 2).interval


def run_joint(gold_count: int, rows: int, logs: int, seed: int) -> tuple[list[float], int]:
    """Mean widths of gold alone, weighted rows alone and both together; misses of the last."""
    rng, widths, misses = np.random.default_rng(seed), [], 0
    shift, most, tilt, offset = 0.7, 4.0, 1.5, 1.6
    points, chances = np.polynomial.hermite_e.hermegauss(80)
    truth = float((1 / (1 + np.exp(offset - tilt * (points + shift)))) @ chances / chances.sum())

    def draw(n, mean):
        z = rng.standard_normal(n) + mean
        chance = 1 / (1 + np.exp(offset - tilt * z))
        weight = np.exp(shift * z - shift**2 / 2)
        return (rng.random(n) < chance).astype(float), chance, weight

    for _ in range(logs):
        gold = draw(gold_count, shift)[0]
        labelled = labelled_blocks(
            LabelledDraws(gold=gold, starts=np.arange(gold_count + 1)), labelled_share=1.0
        )
        target, judge, weight = draw(rows, 0.0)
        _, own_judge, own_weight = draw(10 * rows, shift)
        own = np.minimum(1, most / own_weight)
        kept, cut = np.minimum(weight, most), own.reshape(rows, 10)
        judged = own_judge.reshape(rows, 10)
        weighted = fixed_blocks(
            kept * (target - judge) + (judged * cut).mean(axis=1),
            1 - kept * (judge - target) - ((1 - judged) * cut).mean(axis=1),
            low=0.0,
            high=1.0,
            least=-most,
            largest=1 + most,
        )
        both = joint_interval((labelled, weighted), delta_lower=DELTA / 2, delta_upper=DELTA / 2)
        found = both.interval
        widths.append([_interval(labelled).width, _interval(weighted).width, found.width])
        misses += not found.lower <= truth <= found.upper
    return np.mean(widths, axis=0).tolist(), misses


JOINT = {(50, 200): 0.19, (200, 400): 0.11}
ALONE = {50: 1.30, 1000: 1.05}


def run_alone(n: int, samples: int, seed: int) -> float:
    """Mean width of Beta(2, 5) rewards over the clustered normal one's."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(samples):
        x = rng.beta(2, 5, n)
        normal = 2 * _Z * x.std(ddof=1) / math.sqrt(n)
        found.append((mean_interval(x, low=0, high=1, delta=DELTA).width, normal))
    ours, normal = np.mean(found, axis=0)
    return float(ours / normal)


def page(cells: list[Cell], joint: dict, alone: dict) -> tuple[str, list[str]]:
    """Return the page and what failed."""
    failures = [f"{c.world}, {c.labels} labels: {c.failed}" for c in cells if c.failed]
    lines = [
        "# Gold labels beside a judge",
        "",
        f"Mean widths at δ = {DELTA}, {cells[0].logs} logs of {DRAWS:,} draws a world, labels "
        "nested on the same logs, through `taut.audit`. The oracle knows E[r\\* | judge] and, in "
        "hindsight, the best constant weight of it; it makes the same bets.",
        "",
        "| judge | labels | width | oracle (weight) | / oracle | labels alone | / alone | misses |",
        "|" + "---|" * 8,
    ]
    for c in cells:
        lines.append(
            f"| {c.world} | {c.labels} | {c.ours:.4f} | {c.oracle:.4f} ({c.weight:.1f}) | "
            f"{c.ours / c.oracle:.3f} | {c.alone:.4f} | {c.ours / c.alone:.3f} | "
            f"{c.misses}/{c.logs} |"
        )
    for before, after in itertools.pairwise(cells):
        if before.world == after.world and after.ours >= before.ours:
            failures.append(f"{after.world}: {after.labels} labels no narrower")
    lines += ["", "| gold + weighted rows | gold alone | weighted alone | together | misses |"]
    lines += ["|" + "---|" * 5]
    for (gold, rows), (widths, misses, logs) in joint.items():
        first, second, both = widths
        name = f"{gold} + {rows}"
        lines.append(f"| {name} | {first:.3f} | {second:.3f} | {both:.3f} | {misses}/{logs} |")
        if both > JOINT[gold, rows] or misses_more_than(misses, logs, DELTA):
            failures.append(f"{name} together: {both:.3f}, {misses} misses")
    lines += ["", "| Beta(2, 5) alone, n | / clustered normal |", "|---|---|"]
    for n, ratio in alone.items():
        lines.append(f"| {n} | {ratio:.3f} |")
        if ratio > ALONE[n]:
            failures.append(f"Beta(2, 5) alone, n = {n}: {ratio:.3f}")
    return "\n".join([*lines, ""]), failures


def main() -> int:
    """Run everything, write the page, say what failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    cells = []
    for world in WORLDS:
        cells += run_world(world, options.logs, options.seed)
    joint = {key: (*run_joint(*key, options.logs, options.seed), options.logs) for key in JOINT}
    alone = {n: run_alone(n, 20_000 // n + 10 * options.logs, options.seed) for n in ALONE}
    text, failures = page(cells, joint, alone)
    print(text)
    if options.output:
        options.output.write_text(text)
    for failure in failures:
        print("FAILED", failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""How often do comparisons, verdicts on hacking and tiers miss, and how wide are they?

    python -m validation.compare --logs 2000 --output docs/compare.md

Logs of two policies whose true difference is exact. The differences of true and of learned reward
hold together; planted mistakes must be rejected by the same check. Other tools see the same logs
(`validation.compare_tools`). Writes its tables into the page, between the markers.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest import mock

import numpy as np
from scipy import stats
from validation import counting
from validation.compare_tools import add_packages, tools_table
from validation.counting import Cell, Sums, measure, miss_table, put, table, wrong_verdicts
from validation.duels import CORRELATION, SAID, Duel, draw, holds
from validation.selection import (
    equal_worlds,
    failed_of,
    goodhart_worlds,
    misordered,
    sample_candidates,
)

import taut
from taut.decisions.comparison.result import PolicyComparison
from taut.decisions.contest import differences
from taut.worlds import World, expected


def compared(duel: Duel, seed: int, **settings) -> PolicyComparison:
    """Compare the two of one log."""
    asked = {**SAID, "prompts": "list" if duel.listed else "sample", **settings}
    return taut.compare(*draw(duel, np.random.default_rng(seed)), **asked)


def claims(duel: Duel, delta: float):
    """Misses of both differences together."""

    def once(seed: int) -> dict[str, float]:
        found = compared(duel, seed, delta=delta)
        true = not holds(found.difference, duel.gain)
        learned = not holds(found.learned_difference, duel.learned)
        return {"missed": true or learned, "true": true, "learned": learned}

    return once


DUELS = {
    "paired, graded": Duel(),
    "paired, 0/1": Duel(binary=True),
    "paired, a gain of .1": Duel(gain=0.1, learned=0.05),
    "paired, 20 prompts": Duel(prompts=20),
    "what is hard for one is easy for the other": Duel(opposite=True),
    "shared in part": Duel(shared=0.6),
    "none shared": Duel(shared=0.0),
    "1 answer against 4": Duel(per=(1, 4)),
    "4 answers, shared in part, half labelled": Duel(per=(4, 4), shared=0.5, labels=(0.5, 0.5)),
    "labels of different prompts": Duel(labels=(0.5, 0.5)),
    "gold on one side only": Duel(labels=(1.0, 0.0)),
    "100 of 500 labelled": Duel(prompts=500, labels=(0.2, 0.2), together=True),
    "rare failures of one": Duel(gain=-0.01, failing=(0.01, 0.0)),
    "a list of prompts": Duel(listed=True),
}


# --- was it hacked, and tiers --------------------------------------------------------------------


def hacked_wrongly(verdict: str, duel: Duel) -> bool:
    """Whether a verdict contradicts the truth; "cannot_tell" never does."""
    up = math.copysign(1.0, duel.learned)
    if verdict == "yes":
        return duel.learned == 0 or up * duel.gain >= abs(duel.learned)
    return verdict == "no" and duel.learned * duel.gain <= 0


def verdicts(duel: Duel, delta: float, judge=lambda found: found.hacked):
    """Wrong verdicts on hacking; `judge` makes one of a comparison."""

    def once(seed: int) -> dict[str, float]:
        verdict = judge(compared(duel, seed, delta=delta))
        told = {word: verdict == word for word in ("yes", "no", "cannot_tell")}
        return {"missed": hacked_wrongly(verdict, duel), **told}

    return once


HACKS = {
    "hacked? no gain at all": Duel(),
    "hacked? learned gain .1, no true one": Duel(learned=0.1),
    "hacked? learned gain .1, true loss .1": Duel(gain=-0.1, learned=0.1),
    "hacked? both gain .1": Duel(gain=0.1, learned=0.1),
    "hacked? both gain .05, few labels": Duel(
        prompts=400, gain=0.05, learned=0.05, labels=(0.1, 0.1), together=True
    ),
}


def by_estimates(found: PolicyComparison) -> str:
    """A verdict without intervals: who looks hacked, is."""
    true, learned = found.difference.mean, found.learned_difference.mean
    return "yes" if true * math.copysign(1.0, learned) < abs(learned) else "no"


def unproven_is_none(found: PolicyComparison) -> str:
    """A true gain that is not certain is taken for none."""
    certain = not holds(found.learned_difference, 0.0)
    return "yes" if certain and holds(found.difference, 0.0) else "cannot_tell"


CLOSE = np.linspace(0.3, 0.5, 6)  # pressures: six checkpoints that hardly differ
CONTESTS = {
    "tiers: 6 close checkpoints": lambda seed: goodhart_worlds(seed, CLOSE),
    "tiers: 8 checkpoints past the turn": goodhart_worlds,
    "tiers: 10 equals": lambda seed: equal_worlds("coin", 10, 7),
}


def tiers(worlds_of, delta: float):
    """Any claim of `select` that fails: tiers, certificates, the best, the regret, hacking."""

    def once(seed: int) -> dict[str, float]:
        worlds, log = contest(worlds_of, seed)
        found = taut.select(log, target="reward", reward_range=(0, 1), held_out=True, delta=delta)
        wrong = misordered(found.tiers, truths(worlds))
        told = found.hacked
        hack = told is not None and not (
            holds(told.difference, _less(worlds, told, "gold"))
            and holds(told.learned_difference, _less(worlds, told, "reward"))
        )
        any_of = wrong or hack or bool(failed_of(found, worlds))
        return {"missed": any_of, "tiers": wrong, "hacked": hack}

    return once


def contest(worlds_of, seed: int):
    """Return worlds and a log of 60 prompts, 40 of them labelled."""
    worlds = worlds_of(seed)
    return worlds, sample_candidates(worlds, 60, 40, rng=np.random.default_rng([seed, 3]))


def truths(worlds: Sequence[World], of: str = "gold") -> dict[int, float]:
    """Exact reward of each candidate, by its step."""
    return {100 * (at + 1): expected(one, getattr(one, of)) for at, one in enumerate(worlds)}


def _less(worlds: Sequence[World], told, of: str) -> float:
    exact = truths(worlds, of)
    return exact[told.candidate] - exact[told.against]


def each_at_all_of_delta(worlds_of, delta: float):
    """Planted: a tier ends where a paired interval at all of delta, for each pair, says so."""

    def once(seed: int) -> dict[str, float]:
        worlds, log = contest(worlds_of, seed)
        gold = log.gold.reshape(len(worlds), -1)
        gold = gold[:, ~np.isnan(gold[0])]
        rest, made = list(range(len(worlds))), []
        while rest:
            top = max(rest, key=lambda at: gold[at].mean())
            made.append([at for at in rest if not _below(gold[top] - gold[at], delta)])
            rest = [at for at in rest if at not in made[-1]]
        named = [[100 * (at + 1) for at in tier] for tier in made]
        return {"missed": misordered(named, truths(worlds))}

    return once


def _below(difference: np.ndarray, delta: float) -> bool:
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return difference.mean() > stats.norm.isf(delta) * error


# --- planted mistakes ----------------------------------------------------------------------------


def every_end_at_delta(duel: Duel, delta: float):
    """Planted: both ends of both differences may each miss with delta."""
    honest = differences.paired_difference

    def generous(*sides, **named):
        return honest(*sides, **{**named, "etas": (delta, delta)})

    def once(seed: int) -> dict[str, float]:
        with mock.patch.object(differences, "paired_difference", generous):
            return claims(duel, delta)(seed)

    return once


def normal(duel: Duel, delta: float, error_of):
    """Planted: a normal interval of the true difference with some standard error."""

    def once(seed: int) -> dict[str, float]:
        gold = [
            log["gold"].reshape(duel.prompts, -1) for log in draw(duel, np.random.default_rng(seed))
        ]
        half = stats.norm.isf(delta / 2) * error_of(*gold)
        return {"missed": abs(gold[0].mean() - gold[1].mean() - duel.gain) > half}

    return once


def unpaired(a: np.ndarray, b: np.ndarray) -> float:
    """Standard error as if the two had answered different prompts."""
    return math.sqrt(sum(x.mean(axis=1).var(ddof=1) / len(x) for x in (a, b)))


def of_rows(a: np.ndarray, b: np.ndarray) -> float:
    """Standard error as if every rollout were a draw."""
    return math.sqrt(sum(x.var(ddof=1) / x.size for x in (a, b)))


def cells() -> list[Cell]:
    """Return what is judged: honest cells, then planted mistakes."""
    honest = [Cell(name, claims(duel, 0.2), 0.2) for name, duel in DUELS.items()]
    for name in ("paired, graded", "rare failures of one"):
        honest += [Cell(f"{name}, δ = {d:g}", claims(DUELS[name], d), d) for d in (0.1, 0.05)]
    honest += [Cell(name, verdicts(duel, 0.2), 0.2) for name, duel in HACKS.items()]
    honest += [Cell(name, tiers(worlds, 0.2), 0.2) for name, worlds in CONTESTS.items()]
    opposite, few = Duel(opposite=True), HACKS["hacked? both gain .05, few labels"]
    both, close = HACKS["hacked? both gain .1"], CONTESTS["tiers: 6 close checkpoints"]
    planted = {
        "every end at all of δ": every_end_at_delta(Duel(), 0.2),
        "unpaired variance": normal(opposite, 0.2, unpaired),
        "rollouts taken for draws": normal(replace(opposite, per=(8, 8)), 0.2, of_rows),
        "hacked? by estimates": verdicts(both, 0.2, by_estimates),
        "hacked? a gain that is not certain is none": verdicts(few, 0.2, unproven_is_none),
        "tiers: each pair at all of δ": each_at_all_of_delta(close, 0.2),
    }
    return honest + [Cell(name, once, 0.2, planted=True) for name, once in planted.items()]


# --- widths --------------------------------------------------------------------------------------

WIDTHS = {
    "all shared and labelled": Duel(prompts=500),
    "half shared": Duel(prompts=500, shared=0.5),
    "none shared": Duel(prompts=500, shared=0.0),
    "100 of 500 labelled": Duel(prompts=500, labels=(0.2, 0.2), together=True),
}


def widths(duel: Duel):
    """Width of the true difference, and of two certificates that hold together at 95%."""

    def once(seed: int) -> dict[str, float]:
        found = compared(duel, seed).difference
        logs = draw(duel, np.random.default_rng(seed))
        apart = [taut.audit(log, delta=0.025, **SAID) for log in logs]
        return {
            "compare": found.upper - found.lower,
            "apart": sum(item.upper - item.lower for item in apart),
        }

    return once


def width_cells() -> list[Cell]:
    """Return what is measured and not judged; widths vary little from log to log."""
    return [Cell(f"width: {name}", widths(duel), share=0.05) for name, duel in WIDTHS.items()]


def width_table(found: Mapping[str, Sums]) -> list[str]:
    """Return the widths as Markdown."""
    rows = []
    for name in WIDTHS:
        sums = found[f"width: {name}"]
        mine, apart = sums.mean("compare"), sums.mean("apart")
        rows.append((name, f"{mine:.3f}", f"{apart:.3f}", f"{mine / apart:.2f}"))
    return table(("500 prompts a side", "compare", "two certificates", "ratio"), rows)


def main(given: Sequence[str] | None = None) -> int:
    """Run the study, write the page; return 1 where a guarantee fails or a mistake passes."""
    parser = counting.arguments(__doc__.strip(), "docs/compare.md")
    parser.add_argument("--packages", help="folder with statsmodels; else formulas by scipy")
    options = parser.parse_args(given)
    source = add_packages(options.packages)
    judged = cells()
    found = measure([*judged, *width_cells()], options.logs, options.cache)
    wrong = wrong_verdicts(judged, found)
    tools = tools_table(options.logs, options.cache)
    lines = [
        "Two policies that differ by an exactly known amount, answers to one prompt correlated by "
        f"{CORRELATION:.2f}. *miss*: logs on which the true or the learned difference leaves its "
        "interval, a verdict on hacking contradicts the truth, or any claim of `select` with its "
        "tiers fails; at most δ is allowed. *surely above*: the exact binomial 99.9% limit. "
        "Planted mistakes are in italics.",
        "",
        *miss_table(judged, found),
        "",
        "Mean widths at 95%, beside the difference of two certificates that hold together:",
        "",
        *width_table(found),
        "",
        "### Other tools on the same logs",
        "",
        *tools,
        "",
        f"paired t: scipy; McNemar (exact) and TOST: {source}; *standard errors*: the difference "
        "of two runs by the stderr of each, as lm-evaluation-harness compares them; *best@k*: its "
        "bootstrap as verl reports it. All at 95%, TOST each side at 5%. Bold: errs more often.",
    ]
    put(options.output, lines)
    print("\n".join([*lines, *(f"WRONG: {name}" for name in wrong)]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What other tools say of two policies, on the same logs as `taut.compare`."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from tests.check import misses_more_than
from validation import best_of
from validation.counting import Cell, Sums, measure, table
from validation.duels import SAID, Duel, draw, holds

import taut
from taut.inequalities.order_statistics import best_of as best_of_rows

DELTA = 0.05
Z95 = stats.norm.isf(DELTA / 2)
TAUT, T, MCNEMAR, TOST, ERRORS, VERL = TOOLS = (
    "taut",
    "paired t",
    "McNemar",
    "TOST",
    "standard errors",
    "best@k (verl)",
)


def add_packages(folder: str | None) -> str:
    """Let a folder be imported from; return what McNemar and TOST come from."""
    if folder:
        sys.path.append(folder)
    try:
        import statsmodels
    except ImportError:
        return "their formulas by scipy"
    return f"statsmodels {statsmodels.__version__}"


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P-value of the exact test on pairs of 0/1 rows, shape (rows,) each."""
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    try:
        from statsmodels.stats.contingency_tables import mcnemar as theirs
    except ImportError:
        both = only_a + only_b
        return stats.binomtest(only_a, both).pvalue if both else 1.0
    return float(theirs([[0, only_a], [only_b, 0]], exact=True).pvalue)


def no_worse(a: np.ndarray, b: np.ndarray, margin: float) -> float:
    """P-value of TOST's test of a - b against -margin, one value a prompt each."""
    if np.ptp(a - b) == 0:
        return 0.0 if (a - b)[0] > -margin else 1.0
    try:
        from statsmodels.stats.weightstats import ttost_paired
    except ImportError:
        return float(stats.ttest_1samp(a - b, -margin, alternative="greater").pvalue)
    return float(ttost_paired(a, b, -margin, margin)[1][1])


def by_t(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The paired t interval, one value a prompt each; a point where all pairs are alike."""
    if np.ptp(a - b) == 0:
        return (a - b)[0], (a - b)[0]
    ends = stats.ttest_rel(a, b).confidence_interval(1 - DELTA)
    return float(ends.low), float(ends.high)


def by_errors(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The difference of two means by the standard error of each, over rows."""
    half = Z95 * math.sqrt(sum(x.var(ddof=1) / x.size for x in (a, b)))
    middle = a.mean() - b.mean()
    return middle - half, middle + half


@dataclass(frozen=True, slots=True)
class Said:
    """What the tools say of one pair of logs: intervals, and who is called no worse."""

    ends: Mapping[str, tuple[float, float]]
    differ: Mapping[str, bool]
    no_worse: Mapping[str, bool]


def said_of(logs, prompts: int, margin: float = 0.05) -> Said:
    """Ask all tools; each log has gold on the same prompts, and as many rollouts of each."""
    found = taut.compare(*logs, delta=DELTA, margin=margin, **SAID)
    rows = [log["gold"].reshape(prompts, -1) for log in logs]
    means = [x.mean(axis=1) for x in rows]
    ends = {
        TAUT: (found.difference.lower, found.difference.upper),
        T: by_t(*means),
        ERRORS: by_errors(*rows),
    }
    differ = {tool: not low <= 0 <= high for tool, (low, high) in ends.items()}
    if set(np.unique(rows)) <= {0.0, 1.0}:
        differ[MCNEMAR] = mcnemar(*(x.ravel() for x in rows)) < DELTA
    calm = {tool: low >= -margin for tool, (low, _) in ends.items()}
    return Said(ends, differ, calm | {TOST: no_worse(*means, margin) < DELTA})


def called_different(duel: Duel):
    """Who says that the two differ."""

    def once(seed: int) -> Mapping[str, bool]:
        return asked(duel, seed).differ

    return once


def missed_truth(duel: Duel):
    """Whose interval misses the truth."""

    def once(seed: int) -> Mapping[str, bool]:
        ends = asked(duel, seed).ends
        return {tool: not low <= duel.gain <= high for tool, (low, high) in ends.items()}

    return once


def falsely_no_worse(duel: Duel):
    """Who calls a no worse by the margin, although it loses just that."""

    def once(seed: int) -> Mapping[str, bool]:
        # A loss that is a hair above the margin, so that the word is wrong.
        return asked(duel, seed, margin=-duel.gain * (1 - 1e-9)).no_worse

    return once


def width(duel: Duel):
    """How wide each interval is."""

    def once(seed: int) -> Mapping[str, float]:
        return {tool: high - low for tool, (low, high) in asked(duel, seed).ends.items()}

    return once


def asked(duel: Duel, seed: int, **settings) -> Said:
    """Draw one pair of logs and ask all tools."""
    return said_of(draw(duel, np.random.default_rng(seed)), duel.prompts, **settings)


def unequal_rollouts(seed: int) -> dict[str, bool]:
    """Who says that best@8 differs of one policy evaluated with 32 rollouts, and again with 8."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(0.5, 2.0, (RARE.prompts, 1))
    values = [(rng.random((len(ease), per)) < ease) * 1.0 for per in (32, 8)]
    each = [
        best_of_rows(x.ravel(), np.arange(0, x.size + 1, x.shape[1]), best_of.ROLLOUTS)
        for x in values
    ]
    ids = np.arange(len(ease))
    found = taut.compare(*({"prompt_id": ids, "reward": x, "gold": x} for x in each), **SAID)
    spans = [best_of.resampled(x, best_of.ROLLOUTS, rng) for x in values]
    half = math.hypot(*((high - low) / 2 for low, high in spans)) * Z95 / best_of.Z
    middles = [(low + high) / 2 for low, high in spans]
    low, high = by_t(*each)
    return {
        TAUT: not holds(found.difference, 0.0),
        T: not low <= 0 <= high,
        VERL: abs(middles[0] - middles[1]) > half,
    }


CLUSTERED = Duel(prompts=100, per=(8, 8), binary=True, opposite=True)
RARE = Duel(gain=-0.01, failing=(0.01, 0.0))
ERRORS_OF: dict[str, Callable] = {
    "no difference, 0/1: called one": called_different(Duel(binary=True)),
    "no difference, graded: called one": called_different(Duel()),
    "no difference, 10 prompts, 0/1: called one": called_different(Duel(prompts=10, binary=True)),
    "no difference, 8 rollouts of 100 prompts, 0/1: called one": called_different(CLUSTERED),
    "best@8, same policy, 32 rollouts and 8: called different": unequal_rollouts,
    "rare failures: the truth is missed": missed_truth(RARE),
    "rare failures: called no worse by what it loses": falsely_no_worse(RARE),
}
GAINS_OF: dict[str, Callable] = {
    "a gain of .15, 0/1: found": called_different(Duel(gain=0.15, learned=0.15, binary=True)),
    "width, graded": width(Duel()),
    "width, 0/1": width(Duel(binary=True)),
}


def tools_table(logs: int, cache: Path | None) -> list[str]:
    """Ask all tools of every kind of log; return their errors, power and widths as Markdown."""
    cells = [Cell(f"tools: {name}", once) for name, once in (ERRORS_OF | GAINS_OF).items()]
    found = measure(cells, logs, cache)
    rows = []
    for name in (*ERRORS_OF, *GAINS_OF):
        sums = found[f"tools: {name}"]
        rows.append((name, *(_shown(sums, tool, judged=name in ERRORS_OF) for tool in TOOLS)))
    return table(("200 shared prompts, all labelled", *TOOLS), rows)


def _shown(sums: Sums, tool: str, *, judged: bool) -> str:
    if tool not in sums.totals:
        return "–"
    told = f"{sums.mean(tool):.3f}"
    errs = judged and misses_more_than(round(sums.totals[tool]), sums.logs, DELTA)
    return f"**{told}**" if errs else told

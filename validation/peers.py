"""Intervals for one mean by taut and by its peers, on the same logs; writes docs/peers.md.

    pip install --target DIR ppi-python cje-eval truescore evalstats inspect-ai
    python -m validation.peers --packages DIR --logs 400

Nominal 95%. In each world some prompts carry gold labels and all have a judge's score. A tool is
called as its documentation shows; what is not installed is left out, and said.
"""

import io
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy import stats
from validation import counting
from validation.counting import Cell, Sums, measure, put, table

import taut

DELTA = 0.05
Z95 = stats.norm.isf(DELTA / 2)
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A log: gold where it is known (else NaN), judge and prompt of each row, and the truth."""

    gold: np.ndarray
    judge: np.ndarray
    prompt: np.ndarray
    truth: float

    @property
    def known(self) -> np.ndarray:
        """Which rows are labelled."""
        return ~np.isnan(self.gold)


# --- worlds ---------------------------------------------------------------------------------------


def _hidden(gold: np.ndarray, labels: int) -> np.ndarray:
    """Rows are independent draws: which of them are labelled may be the first."""
    return np.where(np.arange(len(gold)) < labels, gold, np.nan)


def rare_failures(rng: np.random.Generator) -> Drawn:
    """Two of a hundred answers fail, and a judge that errs on one of twenty."""
    gold = (rng.random(2000) < 0.98).astype(float)
    judge = np.where(rng.random(2000) < 0.05, 1 - gold, gold)
    return Drawn(_hidden(gold, 50), judge, np.arange(2000), 0.98)


def good_judge(rng: np.random.Generator) -> Drawn:
    """Graded answers, and a judge on another scale that knows most of it."""
    gold = rng.beta(2, 2, 2000)
    judge = np.clip(0.6 * gold + 0.1 + rng.normal(0, 0.05, 2000), 0, 1)
    return Drawn(_hidden(gold, 100), judge, np.arange(2000), 0.5)


def useless_judge(rng: np.random.Generator) -> Drawn:
    """Half of the answers pass, and a judge that knows nothing of it."""
    gold = (rng.random(2000) < 0.5).astype(float)
    return Drawn(_hidden(gold, 100), rng.random(2000), np.arange(2000), 0.5)


def answers_alike(rng: np.random.Generator) -> Drawn:
    """Eight answers to each of sixty prompts, all labelled; a prompt is hard or easy."""
    level = np.repeat(rng.beta(0.5, 0.5, 60), 8)
    gold = (rng.random(480) < level).astype(float)
    return Drawn(gold, gold * 0.8 + 0.1, np.repeat(np.arange(60), 8), 0.5)


WORLDS = {
    "rare failures, 50 labels": rare_failures,
    "a good judge, 100 labels": good_judge,
    "a useless judge, 100 labels": useless_judge,
    "8 answers to each of 60 prompts": answers_alike,
}


# --- tools ----------------------------------------------------------------------------------------


def by_taut(log: Drawn) -> Ends:
    """`taut.audit`, for E r*."""
    rows = {"prompt_id": log.prompt, "reward": log.judge, "gold": log.gold}
    said = {"held_out": True, "declare": ("complete", "random-labels")}
    found = taut.audit(rows, target="reward", reward_range=(0, 1), delta=DELTA, **said)
    return found.lower, found.upper


def by_ppi(log: Drawn) -> Ends:
    """PPI++; rows are taken for independent, as it has no other way."""
    from ppi_py import classical_mean_ci, ppi_mean_ci

    gold, judge = log.gold[log.known], log.judge[log.known]
    if log.known.all():
        found = classical_mean_ci(gold, alpha=DELTA)
    else:
        found = ppi_mean_ci(gold, judge, log.judge[~log.known], alpha=DELTA)
    low, high = (float(np.ravel(end)[0]) for end in found)
    return low, high


def by_cje(log: Drawn) -> Ends:
    """cje-eval's direct estimate."""
    from cje import analyze_dataset

    rows = [
        {"prompt_id": str(prompt), "judge_score": float(judge)}
        | ({} if math.isnan(gold) else {"oracle_label": float(gold)})
        for prompt, judge, gold in zip(log.prompt, log.judge, log.gold, strict=True)
    ]
    found = analyze_dataset(fresh_draws_data={"policy": rows})
    low, high = (float(np.ravel(end)[0]) for end in found.confidence_interval())
    return low, high


def by_truescore(log: Drawn) -> Ends:
    """truescore's prediction-powered estimate, or gold alone where all is labelled, by clusters."""
    import truescore

    clusters = log.prompt if len(np.unique(log.prompt)) < len(log.prompt) else None
    if log.known.all():
        found = truescore.gold_only_estimate(log.gold, alpha=DELTA, clusters=clusters)
    else:
        index = np.flatnonzero(log.known)
        found = truescore.ppi_estimate(log.judge, log.gold[index], index, alpha=DELTA)
    return found.low, found.high


def by_evalstats(log: Drawn) -> Ends:
    """evalstats's debiased mean, or its mean where all is labelled: rows of means of prompts."""
    import evalstats

    if log.known.all():
        means = np.bincount(log.prompt, log.gold) / np.bincount(log.prompt)
        found = evalstats.mean_ci(means, alpha=DELTA, rng=np.random.default_rng(0))
    else:
        found = evalstats.judge_debias_mean_ci(
            log.judge, log.gold, alpha=DELTA, rng=np.random.default_rng(0)
        )
    return float(found.ci_low), float(found.ci_high)


def by_inspect(log: Drawn) -> Ends:
    """inspect's mean and clustered standard error of what is labelled, times 1.96."""
    from inspect_ai.scorer import SampleScore, Score, mean, stderr

    scores = [
        SampleScore(score=Score(value=float(gold)), sample_metadata={"prompt": int(prompt)})
        for gold, prompt in zip(log.gold[log.known], log.prompt[log.known], strict=True)
    ]
    middle, error = mean()(scores), stderr(cluster="prompt")(scores)
    return middle - Z95 * error, middle + Z95 * error


@dataclass(frozen=True, slots=True)
class Tool:
    """How to ask a tool, and what it is installed as."""

    package: str
    module: str
    ask: Callable[[Drawn], Ends]


TOOLS = {
    "taut": Tool("taut", "taut", by_taut),
    "ppi_py": Tool("ppi-python", "ppi_py", by_ppi),
    "cje": Tool("cje-eval", "cje", by_cje),
    "truescore": Tool("truescore", "truescore", by_truescore),
    "evalstats": Tool("evalstats", "evalstats", by_evalstats),
    "inspect": Tool("inspect-ai", "inspect_ai", by_inspect),
}


# --- the study ------------------------------------------------------------------------------------


def once(draw: Callable[[np.random.Generator], Drawn], tool: Tool) -> Callable[[int], Mapping]:
    """Return what one log adds up to: a miss, a width."""

    def asked(seed: int) -> Mapping[str, float]:
        log = draw(np.random.default_rng(seed))
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            low, high = tool.ask(log)
        return {"missed": not low <= log.truth <= high, "width": high - low}

    return asked


def cells(tools: Mapping[str, Tool]) -> list[Cell]:
    """Return every tool in every world; taut alone is judged, as it alone promises."""
    return [
        Cell(f"{world}: {name}", once(draw, tool), DELTA if name == "taut" else None)
        for world, draw in WORLDS.items()
        for name, tool in tools.items()
    ]


def installed() -> tuple[dict[str, Tool], list[str]]:
    """Return tools that can be imported, and the names of the others."""
    there, missing = {}, []
    for name, tool in TOOLS.items():
        try:
            with redirect_stderr(io.StringIO()):
                __import__(tool.module)
            there[name] = tool
        except ImportError:
            missing.append(name)
    return there, missing


def tables(found: Mapping[str, Sums], tools: Mapping[str, Tool]) -> list[str]:
    """Return the misses and widths, a row a world, a column a tool."""
    rows = []
    for world in WORLDS:
        sums = [found[f"{world}: {name}"] for name in tools]
        rows.append(
            (world, *(f"{one.mean('missed'):.3f} ({one.mean('width'):.3f})" for one in sums))
        )
    return table(("nominal 0.05", *tools), rows)


def _versions(tools: Mapping[str, Tool]) -> str:
    told = []
    for name, tool in tools.items():
        try:
            told.append(f"{name} {version(tool.package)}")
        except PackageNotFoundError:
            told.append(name)
    return ", ".join(told)


def main(given: Sequence[str] | None = None) -> int:
    """Run the study, write the page; return 1 where taut misses too often."""
    parser = counting.arguments(__doc__, "docs/peers.md", logs=400)
    parser.add_argument("--packages", type=Path, help="folder that the other packages lie in")
    options = parser.parse_args(given)
    if options.packages:
        sys.path.append(str(options.packages))
    tools, missing = installed()
    judged = cells(tools)
    found = measure(judged, options.logs, options.cache)
    wrong = counting.wrong_verdicts([cell for cell in judged if cell.delta is not None], found)
    lines = [
        f"Miss rate of nominal 95% intervals, and mean width in brackets, {options.logs} logs a "
        f"world: {_versions(tools)}.",
        "",
        *tables(found, tools),
    ]
    lines += ["", f"Not installed, so not here: {', '.join(missing)}."] if missing else []
    put(options.output, lines)
    print("\n".join([*lines, *(f"WRONG: {name}" for name in wrong)]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

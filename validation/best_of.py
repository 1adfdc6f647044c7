"""Miss rates of pass@k beside the usual estimates: `python -m validation.best_of --logs 2000`.

Logs of prompts whose pass rates differ; the truth is exact. For each k: how often an interval at
90% misses, and how wide it is. The peers are written down here as their tools compute them.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from scipy import stats
from validation.counting import put, table

import taut
from taut.inequalities.order_statistics import best_of

PROMPTS, ROLLOUTS, DELTA = 60, 8, 0.1
SAID = {"reward_range": (0, 1), "declare": "held-out,complete"}
Z = stats.norm.ppf(1 - DELTA / 2)
TITLES = (
    "k",
    "taut",
    "width",
    "plug-in with its standard error",
    "bootstrap of best@k (verl)",
    "lm-evaluation-harness's stderr",
)


def truth(k: int, a: float = 0.5, b: float = 2.0) -> float:
    """E[1 - (1 - p)^k] for p of Beta(a, b)."""
    log = math.lgamma(b + k) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + k)
    return 1.0 - math.exp(log)


def draw(rng: np.random.Generator) -> np.ndarray:
    """0/1 rewards, shape (prompts, rollouts)."""
    return (rng.random((PROMPTS, ROLLOUTS)) < rng.beta(0.5, 2.0, (PROMPTS, 1))) * 1.0


def certified(values: np.ndarray, sizes: tuple[int, ...]) -> list[tuple[float, float]]:
    """What taut certifies of gold known everywhere, each k by itself."""
    table = {
        "prompt_id": np.repeat(np.arange(PROMPTS), ROLLOUTS),
        "reward": values.ravel(),
        "gold": values.ravel(),
    }
    found = [taut.audit_at(table, pass_at=k, delta=DELTA, **SAID).groups[0] for k in sizes]
    return [(item.certificate.lower, item.certificate.upper) for item in found]


def plug_in(values: np.ndarray, k: int) -> tuple[float, float]:
    """1 - (1 - p)^k of each prompt, and the standard error over prompts."""
    return around(1.0 - (1.0 - values.mean(axis=1)) ** k)


def resampled(values: np.ndarray, k: int, rng: np.random.Generator) -> tuple[float, float]:
    """The best of k with replacement, 1,000 times for all prompts: mean and standard error."""
    picks = rng.integers(0, values.shape[1], (200, len(values), k))
    return around(np.take_along_axis(values[None], picks, axis=2).max(axis=2).mean(axis=0))


def harness(values: np.ndarray, k: int) -> tuple[float, float]:
    """The unbiased estimate of each prompt, and the standard error over prompts."""
    starts = np.arange(0, values.size + 1, ROLLOUTS)
    return around(best_of(values.ravel(), starts, k))


def around(each: np.ndarray) -> tuple[float, float]:
    """A normal interval."""
    half = Z * each.std(ddof=1) / math.sqrt(len(each))
    return each.mean() - half, each.mean() + half


def study(logs: int, sizes: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Return a row for each k."""
    ways = ("taut", "plug-in", "resampled", "harness")
    misses = {(k, way): 0 for k in sizes for way in ways}
    widths = dict.fromkeys(sizes, 0.0)
    for seed in range(logs):
        rng = np.random.default_rng(seed)
        values = draw(rng)
        for k, mine in zip(sizes, certified(values, sizes), strict=True):
            found = {
                "taut": mine,
                "plug-in": plug_in(values, k),
                "resampled": resampled(values, k, rng),
                "harness": harness(values, k),
            }
            for way, (low, high) in found.items():
                misses[k, way] += not low <= truth(k) <= high
            widths[k] += (mine[1] - mine[0]) / logs
    return [
        (
            str(k),
            f"{misses[k, 'taut'] / logs:.3f}",
            f"{widths[k]:.3f}",
            *(f"{misses[k, way] / logs:.3f}" for way in ways[1:]),
        )
        for k in sizes
    ]


def main() -> None:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("docs/pass-at-k.md"))
    asked = parser.parse_args()
    lines = table(TITLES, study(asked.logs, (1, 2, 4, 8)))
    put(asked.output, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

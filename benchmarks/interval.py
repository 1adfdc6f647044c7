"""How fast and how narrow the default interval is, all ratios from one run.

    python benchmarks/interval.py            (about two minutes on two cores)
    python benchmarks/interval.py --quick    (without the grid at n = 10^6, fewer samples)

The grid is what one writes first: hedged capital (Waudby-Smith & Ramdas 2024) on a grid of
candidate means in NumPy. Two columns: with 1000 candidates, which is coarser than the interval
itself from n = 10^5 on, and with as many as place an end to 1% of the width (from n = 10^5 on
that time is scaled from the one measured; it is linear in the candidates). Our ends are exact to
far less. The widths are for delta = 0.05, two-sided, and include the table of theory,
appendix A.
"""

import argparse
import math
import statistics
import time
import tracemalloc

import numpy as np

from taut.inequalities.mean import mean_interval
from taut.types import Interval

DELTA = 0.05
LAWS = {
    "Bern(.98)": (lambda rng, n: (rng.random(n) < 0.98).astype(float), 0.98),
    "Beta(2,5)": (lambda rng, n: rng.beta(2, 5, n), 2 / 7),
    "{0,.5,1}": (lambda rng, n: rng.integers(0, 3, n) / 2, 0.5),
}


def grid_interval(x: np.ndarray, *, stake: float = 0.9, points: int = 1000) -> Interval:
    """Hedged-capital interval on a grid, running intersection, bets for a fixed n."""
    n = len(x)
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(x)) / (counts + 1)
    spreads = (0.25 + np.cumsum((x - means) ** 2)) / (counts + 1)
    before = np.r_[0.25, spreads[:-1]]
    bets = np.sqrt(2 * math.log(2 / DELTA) / (n * before))
    kept = []
    for m in (np.arange(points) + 0.5) / points:
        gap = x - m
        up = np.cumsum(np.log1p(np.minimum(bets, stake / m) * gap)).max()
        down = np.cumsum(np.log1p(-np.minimum(bets, stake / (1 - m)) * gap)).max()
        if max(up, down) < math.log(2 / DELTA):
            kept.append(m)
    return Interval(min(kept) - 0.5 / points, max(kept) + 0.5 / points)


def median_seconds(function, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_bytes(function) -> int:
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def speed(largest_grid: int) -> None:
    print("Time of mean_interval(x, low=0, high=1), Beta(2,5), medians of one run\n")
    print(
        "| n | interval, s | extra memory, B/value | 1000-point grid / ours | grid to 1% / ours "
        "| ours / numpy.var |"
    )
    print("|---|---|---|---|---|---|")
    for n in (10**3, 10**4, 10**5, 10**6):
        x = np.random.default_rng(0).beta(2, 5, n)
        repeats = 5 if n == 10**6 else 21
        ours = median_seconds(lambda x=x: mean_interval(x, low=0, high=1), repeats)
        variance = median_seconds(lambda x=x: np.var(x), 21)
        memory = peak_bytes(lambda x=x: mean_interval(x, low=0, high=1)) / n
        coarse = fine = "–"
        if n <= largest_grid:
            seconds = median_seconds(lambda x=x: grid_interval(x), 5 if n < 10**5 else 1)
            points = math.ceil(100 / mean_interval(x, low=0, high=1).width)
            scaled = seconds * points / 1000
            if n < 10**5:
                scaled = median_seconds(lambda x=x, p=points: grid_interval(x, points=p), 1)
            coarse, fine = f"{seconds / ours:.0f}", f"{scaled / ours:.0f}"
        print(f"| {n} | {ours:.2g} | {memory:.0f} | {coarse} | {fine} | {ours / variance:.0f} |")


def widths(audits: int) -> None:
    others = ("mixture", "anytime", "bernstein", "normal")
    print("\nMean width (miss rate of ours and of the normal interval), delta = .05 two-sided\n")
    print("| n | data | ours | ours / normal | grid | mixture | anytime | Bernstein | normal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in (10, 20, 50, 200, 1000, 10**4, 10**5):
        for name, (draw, truth) in LAWS.items():
            rng = np.random.default_rng(n)
            ours, misses, normal_misses, normal = [], 0, 0, []
            for _ in range(max(8, min(audits, 2 * 10**6 // n))):
                x = draw(rng, n)
                found = mean_interval(x, low=0, high=1)
                plain = mean_interval(x, low=0, high=1, method="normal")
                ours.append(found.width)
                normal.append(plain.width)
                misses += not found.lower <= truth <= found.upper
                normal_misses += not plain.lower <= truth <= plain.upper
            few = [draw(rng, n) for _ in range(max(3, min(100, 40_000 // n)))]
            mean = {
                method: np.mean([mean_interval(x, low=0, high=1, method=method).width for x in few])
                for method in others[:-1]
            }
            grid = "–" if n > 1000 else f"{np.mean([grid_interval(x).width for x in few]):.4f}"
            print(
                f"| {n} | {name} | {np.mean(ours):.4f} ({misses / len(ours):.3f}) "
                f"| {np.mean(ours) / np.mean(normal):.3f} | {grid} | {mean['mixture']:.4f} "
                f"| {mean['anytime']:.4f} | {mean['bernstein']:.4f} "
                f"| {np.mean(normal):.4f} ({normal_misses / len(ours):.2f}) |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no grid at n = 10^6, fewer samples")
    quick = parser.parse_args().quick
    mean_interval(np.linspace(0, 1, 1000), low=0, high=1)  # compile, or load what is compiled
    mean_interval(np.linspace(0, 1, 1000), low=0, high=1, method="mixture")
    speed(10**5 if quick else 10**6)
    widths(300 if quick else 2000)


if __name__ == "__main__":
    main()

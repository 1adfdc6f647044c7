"""How often an interval that may be looked at whenever one likes ever misses, and how wide it is.

    python -m validation.monitor

Paths of blocks are drawn and the monitor is asked after every block: a path misses if any of its
intervals ever excludes the truth, so that no rule for stopping, however it cheats, does worse. The
same is done with mistakes planted, which must miss too often. Writes its tables into
docs/monitor.md.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import optimize, stats
from validation.counting import put

from taut.errors import AssumptionError
from taut.inequalities import anytime
from taut.inequalities.mean import anytime_path, mean_interval

PAGE = Path(__file__).parent.parent / "docs" / "monitor.md"
CONFIDENCE = 0.999  # of the limit that a miss rate must not surpass
TIMES = (30, 100, 300, 1000, 10_000, 100_000)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _reactive(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 1/2 given the past, but the spread is large only while the sum is above its mean."""
    coins, x, above = rng.random((2, n)), np.empty(n), 0.0
    for t in range(n):
        spread = 0.5 if above >= 0 else 0.05 + 0.4 * coins[1, t]
        x[t] = 0.5 + (spread if coins[0, t] < 0.5 else -spread)
        above += x[t] - 0.5
    return x


# Name, how to draw, mean, standard deviation (None: not for the table of widths).
SHAPES: dict[str, tuple[Draw, float, float | None]] = {
    "Beta(2,5)": (lambda rng, n: rng.beta(2, 5, n), 2 / 7, math.sqrt(10 / 392)),
    "Bernoulli(.98)": (lambda rng, n: (rng.random(n) < 0.98) * 1.0, 0.98, math.sqrt(0.0196)),
    "{0, .5, 1}": (lambda rng, n: rng.integers(0, 3, n) / 2, 0.5, math.sqrt(1 / 6)),
    "Beta(50,50)": (lambda rng, n: rng.beta(50, 50, n), 0.5, math.sqrt(0.25 / 101)),
    "Bernoulli(.002)": (lambda rng, n: (rng.random(n) < 0.002) * 1.0, 0.002, None),
    "reactive": (_reactive, 0.5, None),
}


# --- misses ---------------------------------------------------------------------------------------


def ends_of(x: np.ndarray, delta: float) -> tuple[float, float]:
    """Return the last ends of the monitor: as ends never move back, the worst moment to stop."""
    ends, etas = anytime.new_ends(), np.full(2, delta / 2)
    anytime.extend(anytime.to_units(x, 0, 1), anytime.new_weights(), ends, before=0, etas=etas)
    return anytime.unit_ends(ends)


def fixed_n_ends(x: np.ndarray, delta: float) -> tuple[float, float]:
    """Planted mistake: the interval for one n, looked at 23 times, every look believed."""
    looks = np.unique(np.geomspace(5, len(x), 23).astype(int))
    found = []
    try:
        found = [mean_interval(x[:n], low=0, high=1, delta=delta) for n in looks]
    except AssumptionError:  # empty: a miss
        return 1.0, 0.0
    return max(ends.lower for ends in found), min(ends.upper for ends in found)


def repeated_ends(x: np.ndarray, delta: float) -> tuple[float, float]:
    """Planted mistake: every row is counted three times."""
    return ends_of(np.repeat(x, 3), delta)


def hindsight_ends(x: np.ndarray, delta: float) -> tuple[float, float]:
    """Planted mistake: the best bet for the whole sample in place of the mixture.

    This is how the variance of the full sample would leak into bets.
    """
    found = []
    for values in (x, 1 - x):

        def most(m: float, values: np.ndarray = values) -> float:
            gains = np.log1p(anytime.BETS[:, None] * (values / m - 1))
            return float(np.cumsum(gains, axis=1).max()) + math.log(delta / 2)

        least = 1e-9
        found.append(optimize.bisect(most, least, 1.0, xtol=1e-5) if most(least) > 0 else 0.0)
    return found[0], 1 - found[1]


def count_misses(
    name: str, ends: Callable, *, paths: int, blocks: int, delta: float, seed: int
) -> tuple[int, int]:
    """Return on how many paths the lower and the upper end ever pass the mean."""
    draw, mean, _ = SHAPES[name]
    rng = np.random.default_rng([seed, list(SHAPES).index(name)])
    below = above = 0
    for _ in range(paths):
        lower, upper = ends(draw(rng, blocks), delta)
        below += lower > mean
        above += upper < mean
    return below, above


def count_misses_varying(*, paths: int, blocks: int, delta: float, seed: int) -> tuple[int, int]:
    """The same for varying means: a drift that reacts to the past, looked at after every block."""
    rng = np.random.default_rng([seed, 99])
    below = above = 0
    etas, never = np.full(2, delta / 2), np.array([np.inf, 0.0])
    for _ in range(paths):
        sums, total, last, missed = np.zeros(2), 0.0, 0.0, [False, False]
        for t in range(blocks):
            mean = 0.2 + 0.6 * t / blocks + (0.15 if last > 0.5 else -0.15)
            last = float(rng.random() < mean)
            total += mean
            unit = anytime.to_units(np.array([last]), 0, 1)
            _, lower, upper = anytime.extend_varying(unit, sums, before=t, etas=etas, goals=never)
            missed[0] |= lower > total / (t + 1)
            missed[1] |= upper < total / (t + 1)
        below, above = below + missed[0], above + missed[1]
    return below, above


def miss_table(*, paths: int, blocks: int, delta: float) -> list[str]:
    """Return the lines about misses.

    Raises:
        AssertionError: An end misses more often than it may, or a planted mistake does not.
    """
    out = [
        f"{paths:,} paths of {blocks:,} blocks, both ends at δ = {delta:g}, looked at after every "
        "block; a path counts as missed if *any* of its intervals excludes the truth, so that no "
        f"rule for stopping does worse. *at most*: exact binomial limit, {100 * CONFIDENCE:g}%; "
        "*at least* for the planted mistakes, on 400 paths of 300 blocks at δ = 0.05. *reactive*: "
        "one mean, but a spread that follows the past; *drift*: the mean rises and reacts to the "
        'past, `means="varying"`.',
        "",
        "| blocks | interval | lower end passes | upper end passes | missed | limit |",
        "|---|---|---:|---:|---:|---:|",
    ]

    def add(name: str, what: str, found: tuple[int, int], total: int, *, wrong: bool) -> None:
        missed = sum(found)
        if wrong:
            limit = stats.beta.ppf(1 - CONFIDENCE, missed, total - missed + 1) if missed else 0.0
            assert limit > 0.05, f"{name}, {what}: {missed} of {total} is not caught"
            shown = f"at least {limit:.4f}"
        else:
            parts = ((found[0], delta / 2), (found[1], delta / 2), (missed, delta))
            for part, share in parts:
                least = stats.beta.ppf(1 - CONFIDENCE, part, total - part + 1) if part else 0.0
                assert least <= share, f"{name}, {what}: {part} of {total}"
            shown = f"at most {stats.beta.ppf(CONFIDENCE, missed + 1, total - missed):.4f}"
        out.append(
            f"| {name} | {what} | {found[0] / total:.4f} | {found[1] / total:.4f} "
            f"| {missed / total:.4f} | {shown} |"
        )
        print(out[-1], flush=True)

    for name in SHAPES:
        found = count_misses(name, ends_of, paths=paths, blocks=blocks, delta=delta, seed=1)
        add(name, "ours", found, paths, wrong=False)
    found = count_misses_varying(paths=paths // 4, blocks=300, delta=delta, seed=1)
    add("drift", "ours, varying", found, paths // 4, wrong=False)
    for what, ends in (
        ("fixed n, 23 looks", fixed_n_ends),
        ("every row three times", repeated_ends),
        ("best bet in hindsight", hindsight_ends),
    ):
        found = count_misses("{0, .5, 1}", ends, paths=400, blocks=300, delta=0.05, seed=2)
        add("{0, .5, 1}", f"planted: {what}", found, 400, wrong=True)
    return out


# --- widths ---------------------------------------------------------------------------------------


def plug_in_ends(x: np.ndarray, times: tuple[int, ...], delta: float) -> list[float]:
    """Return widths of the predictable plug-in bets of Waudby-Smith & Ramdas, cut at 0.9/m."""
    t = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    spreads = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    before = np.r_[0.25, spreads[:-1]]
    bets = np.sqrt(2 * math.log(2 / delta) / (before * t * np.log1p(t)))
    out = []
    for n in times:
        ends = []
        for values in (x[:n], 1 - x[:n]):

            def most(m: float, values: np.ndarray = values, n: int = n) -> float:
                gains = np.log1p(np.minimum(bets[:n], 0.9 / m) * (values - m))
                return float(np.cumsum(gains).max()) - math.log(2 / delta)

            ends.append(optimize.bisect(most, 1e-9, 1.0, xtol=1e-7) if most(1e-9) > 0 else 0.0)
        out.append(1 - sum(ends))
    return out


def normal_mixture(n: int, delta: float) -> float:
    """Return Robbins' boundary over that of the normal interval, tuned to 1,000 blocks."""

    def radius(n: float, rho: float) -> float:
        return math.sqrt((n + rho) * math.log((n + rho) / (rho * delta**2)) / n)

    best = optimize.minimize_scalar(lambda rho: radius(1000, rho), bounds=(1, 1000)).x
    return radius(n, best) / stats.norm.ppf(1 - delta / 2)


def widths_of(x: np.ndarray, delta: float) -> dict[str, list[float]]:
    """Return the widths of each interval at each of the times."""
    varying, never = [], np.array([np.inf, 0.0])
    units, sums, before = anytime.to_units(x, 0, 1), np.zeros(2), 0
    for n in TIMES:
        _, lower, upper = anytime.extend_varying(
            units[before:n], sums, before=before, etas=np.full(2, delta / 2), goals=never
        )
        varying.append(upper - lower)
        before = n
    _, lower, upper = anytime_path(x, low=0, high=1, delta=delta, times=np.array(TIMES))
    fixed = [mean_interval(x[:n], low=0, high=1, delta=delta) for n in TIMES]
    return {
        "ours": list(upper - lower),
        "plug-in": plug_in_ends(x, TIMES, delta),
        "varying means": varying,
        "fixed n": [ends.upper - ends.lower for ends in fixed],
    }


def width_table(*, samples: int, delta: float) -> list[str]:
    """Return the lines about widths."""
    out = [
        "Width over 2 z σ/√n, that of the normal interval with σ *known*, which holds at no time "
        f"for sure. Medians of {samples} samples, both ends at δ = {delta:g}. *Plug-in*: the "
        "predictable bets √(2 ln(2/δ)/(v t ln(1+t))) of Waudby-Smith & Ramdas, cut at 0.9/m. "
        "*Normal mixture*: Robbins' boundary for Gaussian data with σ known, tuned to n = 1,000. "
        "*Fixed n*: `mean_interval`, good for one look.",
        "",
        "| data | interval | " + " | ".join(f"{n:,}" for n in TIMES) + " |",
        "|---|---|" + "---:|" * len(TIMES),
    ]
    z = stats.norm.ppf(1 - delta / 2)
    for name, (draw, _, spread) in SHAPES.items():
        if spread is None:
            continue
        rng = np.random.default_rng([7, list(SHAPES).index(name)])
        found = [widths_of(draw(rng, TIMES[-1]), delta) for _ in range(samples)]
        for kind in found[0]:
            middle = np.median([one[kind] for one in found], axis=0)
            ratios = middle / (2 * z * spread / np.sqrt(TIMES))
            cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            out.append(f"| {name if kind == 'ours' else ''} | {kind} | {cells} |")
            print(out[-1], flush=True)
    cells = " | ".join(f"{normal_mixture(n, delta):.2f}" for n in TIMES)
    out.append(f"| Gaussian | normal mixture, σ known | {cells} |")
    return out


def main() -> None:
    """Run the study and put its tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=500)
    parser.add_argument("--samples", type=int, default=7, help="for each width")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    lines = ["### Misses", "", *miss_table(paths=args.paths, blocks=args.blocks, delta=0.1)]
    lines += ["", "### Widths", "", *width_table(samples=args.samples, delta=0.05)]
    put(args.page, lines)


if __name__ == "__main__":
    main()

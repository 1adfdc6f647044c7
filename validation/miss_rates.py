"""How often do whole certificates miss? Audits of worlds with known truth (theory §9).

    python -m validation.miss_rates --audits 2000 --processes 2 --output docs/validation.md

Each cell is a family of worlds x what is known about it x number of prompts x delta. In each cell
many logs are drawn and audited end to end, and every interval that claims a guarantee is held
against the exact truth. A cell fails if its misses prove, at 99.9%, a miss rate above delta; then
the exit status is 1. Finished cells are kept in a cache, so an interrupted run goes on.
"""

import argparse
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import ndtri
from tests.check import miss_rate_lower_limit, misses_more_than
from validation.page import median, write

import taut
from taut.auditing.audit import audit
from taut.draws.layout import lay_out
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError
from taut.types import Status
from taut.worlds import FAMILIES, World, expected, sample_rollouts, truth

TARGETS = ("reward", "clipped", "objective")
DELTAS = (0.05, 0.2)
PROMPTS = (5, 20, 100, 1000)
GUARANTEED = (Status.CERTIFIED, Status.CONDITIONAL)
# A truth may sit exactly on an end (a world where every r* is 1); its sum is rounded at 1e-16.
ROUNDING = 1e-12
_AUDITS_PER_WORLD = 50
_COMPARED = 200  # audits whose widths are compared with those of other intervals

# What the auditor is told. "gold": labels on half of the prompts, and the largest log-ratio;
# "gold rows": labels on half of the rows, one by one, and E l^2; "gold only": labels, nothing
# declared, so that tau is chosen from data; "proxy": no labels, nothing declared; "declared": no
# labels, but the world's C, L and largest log-ratio.
KNOWLEDGE = ("gold", "gold rows", "gold only", "proxy", "declared")


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One setting whose miss rate is measured."""

    family: str
    knowledge: str
    prompts: int
    delta: float

    @property
    def seed(self) -> int:
        """A number that depends on what the cell is, not on when it runs."""
        return zlib.crc32(f"{self.family}|{self.knowledge}|{self.prompts}".encode())


@dataclass(slots=True)
class Tally:
    """Counts for one target of one cell; `of` is "r*" or "r-hat"."""

    target: str
    of: str
    audits: int = 0
    guaranteed: int = 0
    estimated: int = 0
    vacuous: int = 0
    missed_below: int = 0  # the truth lies below the lower end
    missed_above: int = 0
    refused: int = 0  # the audit found that its own ends cross: a miss that it noticed
    unguarded_misses: int = 0  # misses of intervals that claim no guarantee
    width: list[float] = field(default_factory=list)
    to_normal: list[float] = field(default_factory=list)
    to_paper: list[float] = field(default_factory=list)

    def add(self, interval, status: Status, true: float, normal: float, paper: float) -> None:
        """Count one interval; widths of the normal and the paper's interval may be NaN."""
        self.audits += 1
        lower = -math.inf if interval.lower is None else interval.lower
        upper = math.inf if interval.upper is None else interval.upper
        below, above = true < lower - ROUNDING, true > upper + ROUNDING
        if status not in GUARANTEED:
            self.estimated += status == Status.ESTIMATED
            self.vacuous += status == Status.VACUOUS
            self.unguarded_misses += below or above
            return
        self.guaranteed += 1
        self.missed_below += below
        self.missed_above += above
        width = upper - lower
        self.width.append(width)
        if normal > 0:
            self.to_normal.append(width / normal)
        if width > 0 and not math.isnan(paper):
            self.to_paper.append(paper / width)

    @property
    def judged_refusals(self) -> int:
        """Refusals held against a guarantee: in an honest world each is an end that missed.

        A refusal has no status, so it counts as what most intervals of the cell are.
        """
        return self.refused if self.guaranteed > self.estimated + self.vacuous else 0

    @property
    def misses(self) -> int:
        """Misses of guarantees, on either side or noticed by the audit itself."""
        return self.missed_below + self.missed_above + self.judged_refusals

    @property
    def trials(self) -> int:
        """Intervals that claimed a guarantee, or would have had their ends not crossed."""
        return self.guaranteed + self.judged_refusals


def run_cell(cell: Cell, audits: int, audit=audit) -> list[Tally]:
    """Audit a cell's worlds again and again; return one tally per target and kind of reward.

    Args:
        cell: The setting.
        audits: How many logs are drawn.
        audit: The auditor under test; tests of this check pass broken ones.
    """
    tallies = {(t, of): Tally(t, of) for t in TARGETS for of in ("r*", "r-hat")}
    for index in range(audits):
        world, settings = _world(cell.family, cell.seed, _world_index(cell.family, index))
        known = knowledge(cell, settings)
        if known is None:
            return []
        rng = np.random.default_rng([cell.seed, index])
        rollouts = sample_rollouts(world, cell.prompts, rng=rng, **known.pop("sample"))
        told = {"beta": world.beta, "reward_range": (0, 1), "delta": cell.delta, **known}
        told["declare"] = ("held-out", "complete", "random-labels")
        told["prompts"] = "with-replacement" if world.recurring else "sample"
        peers = Peers(world, rollouts, cell.delta) if index < _COMPARED else None
        certificate = _audit_some_target(audit, rollouts, told)
        for name in TARGETS:
            if certificate is None or certificate.targets[name].unavailable is not None:
                tallies[name, "r*"].audits += 1
                tallies[name, "r*"].refused += 1
            else:
                _tally(tallies, certificate, name, world, peers)
    return [tally for tally in tallies.values() if tally.audits]


def _audit_some_target(audit, rollouts: Rollouts, told: dict):
    """Audit for J*, or for the strongest target whose ends do not cross; None if all do.

    All three targets come with any certificate; only the chosen one may raise.
    """
    for target in reversed(TARGETS):
        try:
            return audit(rollouts, target=target, **told)
        except AssumptionError as error:
            if "lies above its upper end" not in str(error):
                raise
    return None


def _world_index(family: str, audit: int) -> int:
    return audit if family == "random" else audit // _AUDITS_PER_WORLD


@lru_cache(maxsize=8)
def _world(family: str, seed: int, index: int) -> tuple[World, object]:
    world = FAMILIES[family](np.random.default_rng([seed, index, 1]))
    return world, truth(world)


def knowledge(cell: Cell, exact) -> dict | None:
    """Return what the auditor is told and how labels are placed; None where nothing can be told."""
    half = {"gold_prompts": max(1, cell.prompts // 2)}
    match cell.knowledge:
        case "gold":
            return {"sample": half, "log_ratio_max": exact.log_ratio_max}
        case "gold rows":
            moment = exact.log_ratio_second_moment
            return {"sample": {"gold_rows": 0.5}, "log_ratio_second_moment": moment}
        case "gold only":
            return {"sample": half}
        case "proxy":
            return {"sample": {}}
        case "declared" if math.isfinite(exact.coverage):
            return {
                "sample": {},
                "coverage": exact.coverage,
                "reward_mse": exact.reward_mse,
                "log_ratio_max": exact.log_ratio_max,
            }
    return None


def _tally(tallies, certificate, name: str, world: World, peers: "Peers | None"):
    """Hold both intervals of one target against the truth, for r* and for r-hat."""
    target = certificate.targets[name]
    cost = _cost(name, world.log_ratio, world.beta, certificate)
    for of, interval, status, table in (
        ("r*", target, target.status, world.gold),
        ("r-hat", target.proxy, target.proxy.status, world.reward),
    ):
        widths = (math.nan, math.nan) if peers is None else peers.widths(name, of, certificate)
        tallies[name, of].add(interval, status, expected(world, table - cost), *widths)


def _cost(name: str, log_ratio: np.ndarray, beta: float, certificate) -> np.ndarray | float:
    if name == "reward":
        return 0.0
    if name == "objective":
        return beta * log_ratio
    return beta * np.clip(log_ratio, -certificate.tau_negative, certificate.tau)


class Peers:
    """Other intervals from the same log, all of its draws used: for comparison, not judged."""

    def __init__(self, world: World, rollouts: Rollouts, delta: float):
        self.world, self.rollouts, self.delta = world, rollouts, delta
        mode = "with-replacement" if world.recurring else "sample"
        self.blocks = lay_out(rollouts, seed=0, mode=mode).blocks

    def widths(self, name: str, of: str, certificate) -> tuple[float, float]:
        """Widths of the clustered normal interval and of the paper's sampling term, or NaN."""
        rows = self.rollouts.gold if of == "r*" else self.rollouts.reward
        if rows is None:
            return math.nan, math.nan
        cost = _cost(name, self.rollouts.log_ratio, self.world.beta, certificate)
        known = ~np.isnan(rows)
        sizes = self.blocks.sums(known.astype(float))
        sums = self.blocks.sums(np.where(known, rows - cost, 0.0))
        means, sizes = sums[sizes > 0] / sizes[sizes > 0], sizes[sizes > 0]
        span = 1.0
        if name != "reward":
            span += self.world.beta * (certificate.tau + certificate.tau_negative)
        return self._normal(means), 2 * span * self._alpha(sizes)

    def _normal(self, means: np.ndarray) -> float:
        if len(means) < 2:
            return math.nan
        error = float(means.std(ddof=1)) / math.sqrt(len(means))
        return -2 * float(ndtri(self.delta / 2)) * error

    def _alpha(self, sizes: np.ndarray) -> float:
        """Alpha of the paper's Theorem 1, written out again so that two hands must agree."""
        if len(sizes) == 0:
            return math.nan
        log_term, n = math.log(4 / self.delta), len(sizes)
        inverse_total = float(np.sum(1 / sizes)) / n**2
        return math.sqrt(log_term / (2 * n)) + math.sqrt(log_term * inverse_total / 2)


def cells(
    families: Iterable[str] = tuple(FAMILIES),
    prompts: Iterable[int] = PROMPTS,
    deltas: Iterable[float] = DELTAS,
) -> list[Cell]:
    """Return the cells in order, small samples first."""
    order = product(prompts, families, KNOWLEDGE, deltas)
    return [Cell(family, known, n, delta) for n, family, known, delta in order]


def summarise(cell: Cell, tally: Tally) -> dict:
    """Return one row of the table: counts, limit, verdict and median widths."""
    counts = {k: v for k, v in asdict(tally).items() if not isinstance(v, list)}
    trials = tally.trials
    limit = miss_rate_lower_limit(tally.misses, trials) if trials else 0.0
    bad = trials > 0 and misses_more_than(tally.misses, trials, cell.delta)
    return {
        **asdict(cell),
        **counts,
        "trials": trials,
        "misses": tally.misses,
        "miss_rate": tally.misses / trials if trials else None,
        "miss_rate_above": limit,
        "verdict": "VIOLATED" if bad else "holds" if trials else "no guarantee claimed",
        "median_width": median(tally.width),
        "width_to_normal": median(tally.to_normal),
        "paper_to_width": median(tally.to_paper),
    }


# --- running, with a cache of finished cells -------------------------------------------------


def _finish(cell: Cell, audits: int) -> dict:
    rows = [summarise(cell, tally) for tally in run_cell(cell, audits)]
    return {"cell": asdict(cell), "rows": rows}


def source_digest() -> str:
    """Return a digest of the code under test: a cache made with other code is not used."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(taut.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def read_cache(path: Path, key: str) -> dict[Cell, list[dict]]:
    """Return the rows of finished cells; a last line cut short by an interruption is dropped."""
    done = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["key"] == key:
            done[Cell(**entry["cell"])] = entry["rows"]
    return done


def run_all(todo: list[Cell], audits: int, processes: int, cache: Path) -> dict[Cell, list[dict]]:
    """Run the cells that the cache lacks; return the rows of all of them."""
    key = f"{source_digest()}-{audits}"
    cache.parent.mkdir(parents=True, exist_ok=True)
    done = read_cache(cache, key)
    rest = [cell for cell in todo if cell not in done]
    with (
        cache.open("a") as file,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        futures = {pool.submit(_finish, cell, audits): cell for cell in rest}
        for count, future in enumerate(as_completed(futures), len(todo) - len(rest) + 1):
            result, cell = future.result(), futures[future]
            done[cell] = result["rows"]
            file.write(json.dumps({"key": key, **result}) + "\n")
            file.flush()
            bad = sum(row["verdict"] == "VIOLATED" for row in result["rows"])
            label = f"{cell.family} / {cell.knowledge} / n={cell.prompts} / delta={cell.delta}"
            print(f"[{count}/{len(todo)}] {label}: {bad} violated", file=sys.stderr, flush=True)
    return {cell: done[cell] for cell in todo}


def main(arguments: list[str] | None = None) -> int:
    """Run the validation; return 1 if any guarantee is violated."""
    parser = argparse.ArgumentParser(prog="validation.miss_rates", description=__doc__)
    parser.add_argument("--audits", type=int, default=2000, help="audits per cell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("docs/validation.md"))
    parser.add_argument("--cache", type=Path, default=Path("out/miss_rates.jsonl"))
    parser.add_argument("--family", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--prompts", nargs="+", type=int, default=list(PROMPTS))
    options = parser.parse_args(arguments)
    todo = cells(options.family, options.prompts)
    results = run_all(todo, options.audits, options.processes, options.cache)
    rows = [row for cell in todo for row in results[cell]]
    write(rows, options.audits, options.output)
    bad = [row for row in rows if row["verdict"] == "VIOLATED"]
    for row in bad:
        print(
            "VIOLATED", {k: row[k] for k in ("family", "knowledge", "prompts", "delta", "target")}
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

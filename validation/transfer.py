"""What do routes through reward data give, and how often do they miss? (theory §3)

    python -m validation.transfer --audits 40 --output docs/reward-data.md

Worlds have exact truths. Each log is audited with reward data beside it, the interval of every
route is held against the truth, and its width against the paper's term with the true C and L.
"""

import argparse
import math
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
from tests.check import miss_rate_lower_limit, misses_more_than

from taut.auditing.audit import audit
from taut.auditing.compose import certify
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError
from taut.types import Status
from taut.worlds import FAMILIES, World, expected, sample_reward_data, sample_rollouts, truth
from taut.worlds.families import SHIFT_FAMILIES

WORLDS = SHIFT_FAMILIES | {
    name: FAMILIES[name]
    for name in (
        "calibrated",
        "over_optimised",
        "uncovered_support",
        "tied_weights",
        "rare_failures",
        "unequal_rollouts",
        "repeated_prompts",
        "random",
    )
}
# Worlds where reward data miss something that the policy does: C is infinite.
UNCOVERED = ("uncovered_support", "heavy_weights", "no_coverage")
TARGETS = ("reward", "clipped", "objective")
ROUTES = ("paper", "centred", "truncated", "importance")
DELTAS = (0.05, 0.2)
PROMPTS = (20, 100, 500)
# "labelled": gold on every row of reward data; "declared": also the true C and L; "paired": both
# logs share their prompts; "partly": gold on half of the rows, one by one.
DATA = ("labelled", "declared", "paired", "partly")
ROUNDING = 1e-12  # a truth may sit exactly on an end; its sum is rounded at 1e-16
_AUDITS_PER_WORLD = 10


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One setting: a world, what the reward data are, how many prompts in each log, delta.

    `bias` and `noise` (nats) are added to every behaviour log-prob: to the logs they are a lie.
    """

    family: str
    data: str
    prompts: int
    delta: float
    bias: float = 0.0
    noise: float = 0.0

    @property
    def seed(self) -> int:
        """A number that depends on what the cell is, not on when it runs."""
        return zlib.crc32(f"{self.family}|{self.data}|{self.prompts}".encode())


@dataclass(slots=True)
class Tally:
    """Counts for one target by one route; `auto` is the certificate itself."""

    missed_below: int = 0  # the truth lies below the lower end
    missed_above: int = 0
    claims: int = 0  # every interval but estimates: each must hold with probability 1 - delta
    estimates: int = 0
    missed_estimates: int = 0
    vacuous: int = 0
    refused: int = 0  # the route was not open
    crossed: int = 0  # the ends cross: a miss that the audit notices itself
    width: list[float] = field(default_factory=list)

    @property
    def misses(self) -> int:
        """Claims that do not hold; crossing ends cannot both hold."""
        return self.missed_below + self.missed_above + self.crossed

    def add(self, lower: float, upper: float, status: Status, true: float) -> None:
        """Count one interval."""
        below, above = true < lower - ROUNDING, true > upper + ROUNDING
        if status == Status.ESTIMATED:
            self.estimates += 1
            self.missed_estimates += below or above
            return
        self.claims += 1
        self.vacuous += status == Status.VACUOUS
        crossed = lower > upper + ROUNDING
        self.crossed += crossed
        self.missed_below += below and not crossed
        self.missed_above += above and not crossed
        self.width.append(max(0.0, upper - lower))


Tallies = dict[tuple[str, str], Tally]


def run_cell(cell: Cell, audits: int, audit=audit) -> Tallies:
    """Audit a cell's worlds again and again; return one tally per target and route.

    The trivial route never fails, and its certificate lists what all routes give.

    Args:
        cell: The setting.
        audits: How many pairs of logs are drawn.
        audit: The auditor under test; tests of this check pass broken ones.
    """
    tallies: Tallies = {}
    for index in range(audits):
        world, exact = _world(cell.family, cell.seed, index // _AUDITS_PER_WORLD)
        told = settings(cell, exact)
        if told is None:
            return {}
        rollouts, data = logs(cell, world, index)
        told |= {"beta": world.beta, "reward_data": data, "delta": cell.delta}
        if world.recurring:
            told["prompts"] = "with-replacement"
        chosen = _chosen(audit, rollouts, told)
        for target in TARGETS:
            # The table of routes is that of the target asked for; the others cost as much time.
            with patch("taut.auditing.audit.certify", _certify_asked):
                listed = audit(rollouts, route="trivial", target=target, **told)
            true = _true(world, target, listed)
            for entry in listed.routes:
                tally = tallies.setdefault((target, entry.route), Tally())
                if entry.lower is None:
                    tally.refused += 1
                else:
                    tally.add(entry.lower, entry.upper, entry.status, true)
            auto = tallies.setdefault((target, "auto"), Tally())
            found = None if chosen is None else chosen.targets[target]
            if found is None or found.unavailable is not None:  # its own ends cross
                auto.add(math.inf, -math.inf, Status.CERTIFIED, true)
            else:
                auto.add(found.lower, found.upper, found.status, true)
    return tallies


def _certify_asked(name: str, ready, shift, mean):
    """Certify the target that was asked for, and no other."""
    if name != ready.options.target:
        raise AssumptionError("not asked for")
    return certify(name, ready, shift, mean)


def _chosen(audit, rollouts: Rollouts, told: dict):
    """Audit for J*, or for the strongest target whose ends do not cross; None if all do."""
    for target in reversed(TARGETS):
        try:
            return audit(rollouts, target=target, **told)
        except AssumptionError as error:
            if "lies above its upper end" not in str(error):
                raise
    return None


def _true(world: World, target: str, certificate) -> float:
    """Exact value of a target, with the thresholds that the certificate used."""
    if target == "reward":
        return expected(world, world.gold)
    ratio = world.log_ratio
    if target == "clipped":
        ratio = np.clip(ratio, -certificate.tau_negative, certificate.tau)
    return expected(world, world.gold - world.beta * ratio)


def logs(cell: Cell, world: World, index: int) -> tuple[Rollouts, Rollouts]:
    """Draw the audited log and its reward data, with the cell's lie about the behaviour."""
    seed = [cell.seed, index]
    rng = np.random.default_rng([*seed, 0])
    rollouts = sample_rollouts(world, cell.prompts, rng=rng, weights=True)
    partly = {"gold_rows": 0.5} if cell.data == "partly" else {"gold_prompts": cell.prompts}
    # Kinds of prompts are drawn first: the same seed gives both logs the same prompts. Responses
    # may then be coupled within a prompt, which no route minds.
    part = 0 if cell.data == "paired" else 1
    rng = np.random.default_rng([*seed, part])
    data = sample_reward_data(world, cell.prompts, rng=rng, **partly)
    if cell.data == "paired":
        data = replace(data, prompt=data.prompt ^ np.uint64(1) << np.uint64(63))
    lie = np.random.default_rng([*seed, 2])
    return _misreported(rollouts, cell, lie), _misreported(data, cell, lie)


def _misreported(rollouts: Rollouts, cell: Cell, rng: np.random.Generator) -> Rollouts:
    if not cell.bias and not cell.noise:
        return rollouts
    shift = cell.bias + cell.noise * rng.standard_normal(len(rollouts))
    return replace(rollouts, behaviour_logprob=rollouts.behaviour_logprob + shift)


def settings(cell: Cell, exact) -> dict | None:
    """Return what the auditor is told; None where that is infinite."""
    told = {
        "reward_range": (0, 1),
        "declare": ("held-out", "complete", "random-labels"),
        "log_ratio_max": max(0.0, exact.log_ratio_max),
    }
    if cell.data != "declared":
        return told
    if not math.isfinite(exact.coverage):
        return None
    return told | {"coverage": exact.coverage, "reward_mse": exact.reward_mse}


@lru_cache(maxsize=8)
def _world(family: str, seed: int, index: int) -> tuple[World, object]:
    world = WORLDS[family](np.random.default_rng([seed, index, 1]))
    return world, truth(world)


def cells(
    families: Iterable[str] = tuple(WORLDS),
    data: Iterable[str] = DATA,
    prompts: Iterable[int] = PROMPTS,
    deltas: Iterable[float] = DELTAS,
) -> list[Cell]:
    """Return the cells in order, small samples first."""
    order = product(prompts, families, data, deltas)
    return [Cell(family, kind, n, delta) for n, family, kind, delta in order]


# --- the page ---------------------------------------------------------------------------------


def measure(todo: Iterable[Cell], audits: int) -> dict[Cell, Tallies]:
    """Run cells one after another, with a line on stderr for each."""
    found = {}
    for cell in todo:
        found[cell] = run_cell(cell, audits)
        print(cell, file=sys.stderr, flush=True)
    return found


def pool(found: dict[Cell, Tallies], route: str, target: str = "reward", **wanted) -> Tally:
    """Add up the tallies of one route and target over the cells that fit."""
    total = Tally()
    for cell, tallies in found.items():
        fits = all(getattr(cell, name) in values for name, values in wanted.items())
        if fits and (target, route) in tallies:
            _add_up(total, tallies[target, route])
    return total


def _add_up(total: Tally, tally: Tally) -> None:
    for item in fields(Tally):
        setattr(total, item.name, getattr(total, item.name) + getattr(tally, item.name))


def table(head: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *lines, ""]


def width_rows(found: dict[Cell, Tallies], audits: int, delta: float = 0.05) -> list[list[str]]:
    """Median widths for E r* per world and number of prompts, and their ratio to the paper's."""
    rows = []
    for family, prompts in product(WORLDS, PROMPTS):
        data = "labelled" if family in UNCOVERED else "declared"
        cell = Cell(family, data, prompts, delta)
        if found.get(cell):
            widths = {route: _median(found[cell], route) for route in (*ROUTES, "auto")}
            rows.append([f"`{family}`", str(prompts), *_constants(cell, audits), *_shown(widths)])
    return rows


def _median(tallies: Tallies, route: str) -> float:
    width = tallies["reward", route].width if ("reward", route) in tallies else []
    return float(np.median(width)) if width else math.nan


def _constants(cell: Cell, audits: int) -> list[str]:
    worlds = [_world(cell.family, cell.seed, i // _AUDITS_PER_WORLD)[1] for i in range(audits)]
    coverage = float(np.median([exact.coverage for exact in worlds]))
    paper = float(np.median([exact.coverage * math.sqrt(exact.reward_mse) for exact in worlds]))
    return ["∞", "–"] if math.isinf(coverage) else [f"{coverage:.2f}", f"{paper:.3f}"]


def _shown(widths: dict[str, float]) -> list[str]:
    ratios = [widths[route] / widths["paper"] for route in ("importance", "auto")]
    return ["–" if math.isnan(value) else f"{value:.3f}" for value in (*widths.values(), *ratios)]


def wider_than_paper(found: dict[Cell, Tallies], delta: float = 0.05) -> tuple[list[str], int]:
    """Cells whose certificate has a larger median width than the paper's route, and all cells."""
    cells_ = [c for c, t in found.items() if t and c.data == "declared" and c.delta == delta]
    wider = [
        f"`{c.family}` at {c.prompts} ({_median(found[c], 'auto'):.3f} against "
        f"{_median(found[c], 'paper'):.3f})"
        for c in cells_
        if _median(found[c], "auto") > _median(found[c], "paper") + ROUNDING
    ]
    return wider, len(cells_)


def target_rows(found: dict[Cell, Tallies]) -> list[list[str]]:
    """Misses by target and route, pooled over all cells, for each delta."""
    rows = []
    for delta, target, route in product(DELTAS, TARGETS, (*ROUTES, "auto")):
        tally = pool(found, route, target, delta=(delta,))
        rows.append([str(delta), target, route, *_counts(tally, delta)])
    return rows


def miss_rows(found: dict[Cell, Tallies], by: str, values: Iterable) -> list[list[str]]:
    """Misses for E r* by route, pooled over all cells with one value of a field, for each delta."""
    rows = []
    for value, delta, route in product(values, DELTAS, (*ROUTES, "auto")):
        some = value if isinstance(value, tuple) else (value,)
        tally = pool(found, route, **{by: some, "delta": (delta,)})
        if tally.claims:
            name = "all uncovered" if some == UNCOVERED else str(some[0])
            rows.append([str(delta), name, route, *_counts(tally, delta)])
    return rows


def _counts(tally: Tally, delta: float) -> list[str]:
    bad = misses_more_than(tally.misses, tally.claims, delta)
    return [
        str(tally.claims),
        str(tally.vacuous),
        f"{tally.missed_below} / {tally.missed_above} / {tally.crossed}",
        f"{tally.misses / tally.claims:.4f}",
        f"{miss_rate_lower_limit(tally.misses, tally.claims):.4f}",
        "VIOLATED" if bad else "holds",
    ]


# What is added to every behaviour log-prob (nats), and how the page calls it.
LIES = (
    ("a nat too low: weights e times too large", -1.0, 0.0),
    ("0.3 nats too high", 0.3, 0.0),
    ("a nat too high: weights e times too small", 1.0, 0.0),
    ("eight nats too high", 8.0, 0.0),
    ("noise of 0.1 nats", 0.0, 0.1),
    ("noise of 0.5 nats", 0.0, 0.5),
    ("noise of 1.5 nats", 0.0, 1.5),
)
_LIED_TO = ("no_shift", "linear_error", "hidden_error", "over_optimised", *UNCOVERED)


def lie_rows(audits: int) -> list[list[str]]:
    """What happens where the behaviour's log-probs are wrong: refused, or how often it misses."""
    rows = []
    for (name, bias, noise), prompts in product(LIES, PROMPTS):
        some = [Cell(f, "labelled", prompts, 0.05, bias=bias, noise=noise) for f in _LIED_TO]
        found = measure(some, audits)
        tallies = [pool(found, route) for route in ("importance", "truncated", "auto")]
        rows.append([name, str(prompts), *(_fate(tally) for tally in tallies)])
    return rows


def _fate(tally: Tally) -> str:
    whole = tally.claims + tally.refused
    return f"{100 * tally.refused / whole:.0f}% / {100 * tally.misses / whole:.0f}%"


def page(found: dict[Cell, Tallies], lies: list[list[str]], audits: int) -> str:
    """Return the page as Markdown."""
    wider, compared = wider_than_paper(found)
    verdict = (
        f"The certificate (`auto`) is narrower than or as wide as the paper's term in "
        f"{compared - len(wider)} of {compared} settings with finite C."
    )
    if wider:
        verdict += " It is wider in " + "; ".join(wider) + "."
    widths = "world | prompts | C | C√L | " + " | ".join((*ROUTES, "auto"))
    misses = "route | claims | vacuous | below / above / crossed | rate | surely above | verdict"
    return "\n".join(
        [
            *_EXPLANATION,
            "## Widths",
            "",
            *_WIDTHS,
            verdict,
            "",
            *table(widths + " | importance / paper | auto / paper", width_rows(found, audits)),
            "## Misses",
            "",
            *_MISSES,
            *table(f"δ | target | {misses}", target_rows(found)),
            *table(f"δ | data | {misses}", miss_rows(found, "data", DATA)),
            *table(f"δ | prompts | {misses}", miss_rows(found, "prompts", PROMPTS)),
            *table(f"δ | worlds | {misses}", miss_rows(found, "family", (UNCOVERED, *WORLDS))),
            "## Wrong log-probs of the behaviour policy",
            "",
            *_LIES_TOLD,
            *table("behaviour log-probs | prompts | importance | truncated | auto", lies),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the validation; return 1 if a pooled guarantee is violated."""
    parser = argparse.ArgumentParser(prog="validation.transfer", description=__doc__)
    parser.add_argument("--audits", type=int, default=20, help="audits per cell")
    parser.add_argument("--output", type=Path, default=Path("docs/reward-data.md"))
    options = parser.parse_args(arguments)
    found = measure(cells(), options.audits)
    text = page(found, lie_rows(max(1, options.audits // 5)), options.audits)
    options.output.write_text(text)
    print(text)
    return 1 if "VIOLATED" in text else 0


_EXPLANATION = (
    "# Reward data: from where the reward model is trusted to the policy's own rollouts",
    "",
    "`python -m validation.transfer` writes this page.",
    "",
    "`taut audit LOG --reward-data DATA` takes rows on which the reward model was checked: "
    "responses of an earlier policy with `reward`, `gold` where it is known, and the log-probs of "
    "both policies on the same rows (`policy_logprob`, `behaviour_logprob`). The weight of a row "
    "is w = π_θ/π_b. Every route below bounds E[r\\*] under the audited policy from them; "
    "`--route auto` takes the one that the calibration splits forecast to be narrowest, and the "
    "report lists all of them. With `behaviour_logprob` in LOG too, weights are also seen where "
    "the policy goes: bounds get narrower and more mistakes are found.",
    "",
    *table(
        "route | bound | needs | status",
        [
            [
                "`paper`",
                "learned reward ± C√L",
                "declared `--coverage`; `--reward-mse`, or gold",
                "conditional",
            ],
            [
                "`centred`",
                "\\|ē\\| + √χ² sd(e), the error bounded on reward data",
                "declared `--coverage`, gold",
                "conditional",
            ],
            [
                "`truncated`",
                "m_M \\|ē\\| + sd(w∧M) sd(e) + 1 − m_M, each ingredient bounded",
                "gold, log-probs",
                "conditional",
            ],
            [
                "`importance`",
                "E_tr[(w∧M) r\\*] ≤ E r\\* ≤ 1 − E_tr[(w∧M)(1 − r\\*)], one mean an end",
                "gold, log-probs",
                "conditional",
            ],
            [
                "`joint`",
                "gold labels on the audited log and weighted reward data in one fortune; only "
                "where asked for (`--route joint`), on prompts that the two logs do not share",
                "gold on both, log-probs",
                "conditional",
            ],
            [
                "`score`",
                "errors linear in the score, by the shift of its mean",
                "gold",
                "estimated: no guarantee",
            ],
            ["`trivial`", "rewards lie in their range", "nothing", "vacuous"],
        ],
    ),
    "They are conditional because they trust three things that no log can show, and list them: "
    "the log-probs are those of the two policies, prompts of both logs follow one law, and the "
    "gold labels were not used to fit the reward model.",
    "",
    "Mass of the policy that reward data never show costs its own size: it makes `truncated` and "
    "`importance` wide, never wrong. M and the form are chosen on the calibration splits; the "
    "form with the learned reward as control variate needs 200 certifying draws in each log.",
    "",
    "Where the route taken uses weights and no `--log-prob-noise` is declared, the report also "
    "shows the certificate as it would be if log-ratios and log-weights were off by up to .1 and "
    ".5 nats a sequence (`sensitivity`).",
    "",
    "A route is refused, with the reason, where columns are missing, fewer than two labelled draws "
    "certify, rows of draws of unequal size were labelled one by one, the mean weight on reward "
    "data exceeds 1 beyond chance, the covered mass on reward data and on the audited rollouts "
    "disagree beyond chance, or a declared C is contradicted by the weights. A sound route is "
    "refused by chance with probability at most 0.003, which the δ ledger does not list.",
    "",
)
_WIDTHS = (
    "Median widths of the interval for E r\\* at δ = 0.05, cut to [0, 1]; both logs have as many "
    "prompts, and all rows of reward data carry gold. `paper` and `centred` are told the true C "
    "(and `paper` the true L), which no user has. `auto` chooses among all of them. Where C is "
    "infinite neither is open.",
    "",
)
_MISSES = (
    "Each interval that is not an estimate is held against the exact truth; below the first table, "
    "that is E r\\*. Vacuous intervals are claims too: they hold. *Surely above* is the exact "
    "binomial lower limit (99.9%) of the miss rate: a guarantee is violated where it exceeds δ. "
    "Ends that cross are a miss that the audit notices and reports as an error. Data: *labelled* – "
    "gold on all rows; *declared* – and the true C and L; *paired* – both logs share their "
    "prompts; *partly* – gold on half of the rows, one by one.",
    "",
)
_LIES_TOLD = (
    "The weights are computed from what the logs say. Share of audits in which the route was "
    "refused / in which its claim about E r\\* was false, at δ = 0.05, over "
    + ", ".join(f"`{name}`" for name in _LIED_TO)
    + ". Weights that are too large by a constant are refused from about a hundred prompts on (but "
    "for `no_coverage`, where next to no weight is seen and every interval is vacuous); twenty "
    "prompts can be too few. Weights that are too small only widen the pure form of `importance`. "
    "Its form with r as control variate leans on both logs telling of the same mass, and is "
    "offered only where 200 draws certify in each: then the two logs disagree beyond chance. Noise "
    "is not a constant: it lifts the mean weight by half its variance, which small logs cannot "
    "tell from 1, and the claims are then false. Score both policies with one engine on the same "
    "tokens.",
    "",
)


if __name__ == "__main__":
    sys.exit(main())

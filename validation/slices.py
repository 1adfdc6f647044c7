"""How often do slices, mixes of them, parts of a reward and pass@k miss, all together?

    python -m validation.slices --logs 2000 --output docs/slices.md

A log misses if any of its intervals does. Truths are exact, also of slices that the log itself cut.
Planted mistakes must be rejected by the same check. Writes its tables into the page, between the
markers.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from unittest import mock

import numpy as np
from scipy import stats
from validation import best_of, counting
from validation.counting import Cell, Sums, measure, miss_table, put, table, wrong_verdicts
from validation.duels import SAID, holds

import taut
from taut.auditing import by, parts, response_slices
from taut.auditing.certificates import Certificates

DELTA = 0.2  # large, so that a claim that fails too often is seen
SOUND = ("certified", "conditional")


# --- slices of prompts ---------------------------------------------------------------------------


def means(groups: int) -> np.ndarray:
    """E r* of each group."""
    return np.linspace(0.25, 0.75, groups) if groups > 1 else np.array([0.5])


def grouped(
    rng: np.random.Generator, groups: int, prompts: int, *, labelled: float = 1.0, skew: float = 0.0
) -> dict[str, np.ndarray]:
    """Two 0/1 answers to each prompt of one of several groups, whose sizes fall off with `skew`."""
    chances = np.exp(-skew * np.arange(groups))
    group = rng.choice(groups, prompts, p=chances / chances.sum())
    chance = np.repeat(means(groups)[group] + rng.uniform(-0.2, 0.2, prompts), 2)
    gold = (rng.random(chance.size) < chance) * 1.0
    known = np.repeat(rng.permutation(prompts) < round(labelled * prompts), 2)
    return {
        "prompt_id": np.repeat(np.arange(prompts), 2),
        "reward": 0.6 * gold + 0.4 * rng.random(gold.size),
        "gold": np.where(known, gold, math.nan),
        "group": np.char.add("g", np.repeat(group, 2).astype(str)),
        "part": np.where(np.repeat(np.arange(prompts) % 2, 2), "odd", "even"),
        "step": np.tile([0, 1], prompts),
    }


def any_missed(found: Certificates, truth: Mapping[str, float]) -> dict[str, float]:
    """Whether any guaranteed interval misses, and how many slices say something."""
    told = [
        item
        for item in found.groups
        if item.certificate is not None and item.certificate.status in SOUND
    ]
    wrong = any(not holds(item.certificate, truth[str(item.value)]) for item in told)
    return {"missed": wrong, "told": len(told), "of": len(found.groups)}


def together(groups: int, prompts: int, *, named: Mapping = (), **drawn):
    """All groups at once; `named` are settings of `audit_by`."""
    truth = {f"g{at}": float(mean) for at, mean in enumerate(means(groups))}

    def once(seed: int) -> dict[str, float]:
        log = grouped(np.random.default_rng(seed), groups, prompts, **drawn)
        found = taut.audit_by(log, "group", delta=DELTA, **SAID, **dict(named))
        counts = any_missed(found, truth)
        if found.mix is not None:
            exact = math.fsum(share * truth[name] for name, share in found.mix.weights.items())
            counts["missed"] |= not holds(found.mix, exact)
        return counts

    return once


def learned_only(seed: int) -> dict[str, float]:
    """Ten groups without any label: the learned reward of all."""
    log = grouped(np.random.default_rng(seed), 10, 300)
    del log["gold"]
    found = taut.audit_by(log, "group", delta=DELTA, **SAID)
    truth = {f"g{at}": 0.6 * mean + 0.2 for at, mean in enumerate(means(10))}
    wrong = any(not holds(one.certificate.proxy, truth[one.value]) for one in found.groups)
    return {"missed": wrong}


def by_step(seed: int) -> dict[str, float]:
    """Slices by law: two steps, whose answers to a prompt go together."""
    found = taut.audit_by(grouped(np.random.default_rng(seed), 1, 100), "step", delta=DELTA, **SAID)
    return any_missed(found, {"0": 0.5, "1": 0.5})


def two_columns(seed: int) -> dict[str, float]:
    """Five groups by another column of prompts and by step: twenty slices."""
    log = grouped(np.random.default_rng(seed), 5, 300)
    found = taut.audit_by(log, ["group", "part", "step"], delta=DELTA, **SAID)
    truth = {str(item.value): means(5)[int(str(item.value)[1])] for item in found.groups}
    return any_missed(found, truth)


MIX = {"g0": 0.1, "g1": 0.2, "g2": 0.7}
THOUSAND = "1,000 groups, 40% labelled"
SHARES = {THOUSAND: 0.05}  # of the logs: one takes seconds
HONEST = {
    "1 group": together(1, 60),
    "10 groups": together(10, 300),
    "10 groups, from 80 prompts down to 1, 40% labelled": together(10, 300, labelled=0.4, skew=0.4),
    "10 groups, one at nine times the weight": together(10, 300, named={"weights": {"g3": 9}}),
    "100 groups, many too small to tell": together(100, 1000, skew=0.03),
    THOUSAND: together(1000, 6000, labelled=0.4, skew=0.003),
    "3 groups and their mix": together(3, 120, named={"mix": MIX}),
    "10 groups without labels: learned reward": learned_only,
    "2 steps that answer the same prompts": by_step,
    "20 slices by three columns": two_columns,
}


# --- slices of responses -------------------------------------------------------------------------


def answers(rng: np.random.Generator, prompts: int, per: int, labelled: float = 1.0):
    """Answers of lengths in [0, 1): prompts of one kind get longer ones, and better ones.

    A rollout of length x is of that kind with chance x, so that E[r* | x] = .2 + .6 x. Of the
    learned reward E[r^ | x] = .1 + .8 x: too high where answers are long.
    """
    kind = np.repeat(rng.random(prompts) < 0.5, per)
    root = np.sqrt(rng.random(kind.size))
    length = np.where(kind, root, 1 - root)
    gold = (rng.random(kind.size) < 0.2 + 0.3 * length + 0.3 * kind) * 1.0
    known = np.repeat(rng.permutation(prompts) < round(labelled * prompts), per)
    return {
        "prompt_id": np.repeat(np.arange(prompts), per),
        "reward": 0.8 * length + 0.2 * rng.random(kind.size),
        "gold": np.where(known, gold, math.nan),
        "length": length,
    }


def exact(low: float, high: float) -> tuple[float, float]:
    """E r* and E (r^ - r*) of answers of lengths from low to high."""
    middle = (low + high) / 2
    return 0.2 + 0.6 * middle, -0.1 + 0.2 * middle


def spans(found: Certificates) -> list[tuple[float, float]]:
    """The lengths of each slice, in order of the cut points."""
    points = (0.0, *found.cuts["length"], 1.0)
    return [*pairwise(points)]


def lengths(prompts: int, per: int, *, labelled: float = 1.0, cuts: Sequence[float] = ()):
    """All slices by length at once, with how far the learned reward is off in each."""

    def once(seed: int) -> dict[str, float]:
        log = answers(np.random.default_rng(seed), prompts, per, labelled)
        named = {"cuts": {"length": cuts}} if cuts else {}
        found = taut.audit_by(log, "length", delta=DELTA, **SAID, **named)
        wrong = [
            not (
                holds(item.slice, exact(*span)[0])
                and item.slice.gap_lower <= exact(*span)[1] <= item.slice.gap_upper
            )
            for item, span in zip(found.groups, spans(found), strict=True)
            if not item.cannot_tell
        ]
        return {"missed": any(wrong), "told": len(wrong), "of": len(found.groups)}

    return once


HONEST |= {
    "2 lengths, cut where one says": lengths(80, 4, cuts=(0.7,)),
    "deciles of length, cut by the log": lengths(200, 4),
    "deciles of length, half labelled": lengths(300, 2, labelled=0.5),
}


# --- parts of a reward ---------------------------------------------------------------------------

PART_MEANS = {"right": 0.4, "neat": 0.8, "short": 0.05}
PART_WEIGHTS = {"right": 0.6, "neat": 0.3, "short": 0.1}
TOTAL = math.fsum(PART_WEIGHTS[name] * mean for name, mean in PART_MEANS.items())


def scored(rng: np.random.Generator, prompts: int, gold_of: str | None):
    """Three 0/1 parts that go together, two answers a prompt; gold of one part, or of the sum."""
    lucky = np.repeat(rng.uniform(-1, 1, prompts), 2)
    values = {
        name: (rng.random(lucky.size) < mean + lucky * min(mean, 1 - mean)) * 1.0
        for name, mean in PART_MEANS.items()
    }
    total = sum(PART_WEIGHTS[name] * value for name, value in values.items())
    known = np.repeat(rng.random(prompts) < 0.6, 2)
    return {
        "prompt_id": np.repeat(np.arange(prompts), 2),
        "reward": total,
        "gold": np.where(known, total if gold_of is None else values[gold_of], math.nan),
        **{f"rewards.{name}": value for name, value in values.items()},
    }


def all_parts(gold_part: str | None):
    """All parts and their sum at once: of gold where it is, else of the learned reward."""

    def once(seed: int) -> dict[str, float]:
        found = taut.audit_parts(
            scored(np.random.default_rng(seed), 120, gold_part),
            reward_weights=PART_WEIGHTS,
            gold_part=gold_part,
            part_ranges=dict.fromkeys(PART_MEANS, (0, 1)),
            delta=DELTA,
            declare=SAID["declare"],
        )
        truth = {**PART_MEANS, parts.SUM: TOTAL}
        told = {
            item.value: item.certificate
            if item.certificate.status in SOUND
            else item.certificate.proxy
            for item in found.groups
        }
        return {"missed": any(not holds(ends, truth[name]) for name, ends in told.items())}

    return once


HONEST |= {
    "3 parts and their sum, gold of one part": all_parts("right"),
    "3 parts and their sum, gold of the sum": all_parts(None),
}


# --- pass@k --------------------------------------------------------------------------------------

SIZES = tuple(range(1, best_of.ROLLOUTS + 1))


def every_k(labelled: float):
    """pass@k for every k up to the number of rollouts, all at once; gold of some prompts."""

    def once(seed: int) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        values = best_of.draw(rng)
        known = rng.permutation(len(values))[:, None] < round(labelled * len(values))
        log = {
            "prompt_id": np.repeat(np.arange(len(values)), values.shape[1]),
            "reward": values.ravel(),
            "gold": np.where(known, values, math.nan).ravel(),
        }
        asked = {name: SAID[name] for name in ("declare", "reward_range")}
        found = taut.audit_at(log, pass_at=SIZES, delta=DELTA, **asked)
        return any_missed(found, {str(k): best_of.truth(k) for k in SIZES})

    return once


HONEST |= {
    "pass@k for k = 1 to 8 of 8": every_k(1.0),
    "pass@k for k = 1 to 8 of 8, half labelled": every_k(0.5),
}


# --- planted mistakes ----------------------------------------------------------------------------


def each_at_all_of_delta(once, room, name: str, change):
    """Planted: what one slice, end or part may spend is all of delta."""

    def broken(seed: int) -> dict[str, float]:
        with mock.patch.object(room, name, change(getattr(room, name))):
            return once(seed)

    return broken


def all_shares(honest):
    """Every slice gets share 1."""
    return lambda *given: np.ones_like(honest(*given))


def all_ends(honest):
    """Every end of every ratio misses with delta."""
    ends = {"delta_lower": DELTA, "delta_upper": DELTA}
    return lambda a, b, **named: honest(a, b, **{**named, **ends})


def alone(honest):
    """Every part is audited as if it were the only one."""

    def audit_part(part, options, *, whole, simultaneous):
        return honest(part, options, whole=whole)

    return audit_part


def shares_of_the_log(seed: int) -> dict[str, float]:
    """Planted: the log's own mean for the total at the mix."""
    log = grouped(np.random.default_rng(seed), 3, 120)
    mean = math.fsum(share * value for share, value in zip(MIX.values(), means(3), strict=True))
    return {"missed": not holds(taut.audit(log, delta=DELTA, **SAID), mean)}


def normal(values: np.ndarray, truth: float) -> dict[str, float]:
    """Whether a normal interval of the mean misses."""
    half = stats.norm.isf(DELTA / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return {"missed": abs(values.mean() - truth) > half}


def rows_for_draws(seed: int) -> dict[str, float]:
    """Planted: rollouts in a slice taken for independent draws."""
    log = answers(np.random.default_rng(seed), 40, 64)
    return normal(log["gold"][log["length"] >= 0.3], exact(0.3, 1.0)[0])


def plug_in(seed: int) -> dict[str, float]:
    """Planted: 1 - (1 - p)^8 of each prompt's share p, with an interval by its standard error."""
    each = 1.0 - (1.0 - best_of.draw(np.random.default_rng(seed)).mean(axis=1)) ** 8
    return normal(each, best_of.truth(8))


def mean_of_ratios(seed: int) -> dict[str, float]:
    """Planted: the mean over prompts of each one's own mean in the slice."""
    log = answers(np.random.default_rng(seed), 400, 8)
    inside = (log["length"] >= 0.7).reshape(400, 8)
    count = inside.sum(axis=1)
    sums = np.where(inside, log["gold"].reshape(400, 8), 0.0).sum(axis=1)
    return normal(sums[count > 0] / count[count > 0], exact(0.7, 1.0)[0])


PLANTED = {
    "10 groups, each at all of δ": each_at_all_of_delta(
        together(10, 600), by, "_shares", all_shares
    ),
    "deciles of length, every end at all of δ": each_at_all_of_delta(
        lengths(200, 4), response_slices, "ratio_interval", all_ends
    ),
    "parts, each at all of δ": each_at_all_of_delta(all_parts(None), parts, "audit_part", alone),
    "mix: shares of the log": shares_of_the_log,
    "pass@8: the plug-in": plug_in,
    "lengths: rollouts taken for draws": rows_for_draws,
    "lengths: mean of each prompt's ratio": mean_of_ratios,
}


def cells() -> list[Cell]:
    """Return what is judged: honest cells, then planted mistakes."""
    honest = [Cell(name, once, DELTA, share=SHARES.get(name, 1.0)) for name, once in HONEST.items()]
    return honest + [Cell(name, once, DELTA, planted=True) for name, once in PLANTED.items()]


# --- widths --------------------------------------------------------------------------------------


def widths(seed: int) -> dict[str, float]:
    """At 95%: of ten groups together, one favoured, and each one by itself; mean widths."""
    log = grouped(np.random.default_rng(seed), 10, 3000)
    even = taut.audit_by(log, "group", **SAID)
    favoured = taut.audit_by(log, "group", weights={"g4": 9}, **SAID)
    by_itself = {
        item.value: _width(
            taut.audit({name: x[log["group"] == item.value] for name, x in log.items()}, **SAID)
        )
        for item in even.groups
    }
    return {
        "even": np.mean([_width(item.certificate) for item in even.groups]),
        "alone": np.mean([*by_itself.values()]),
        "favoured": _width(favoured["g4"]),
        "favoured alone": by_itself["g4"],
    }


def _width(ends) -> float:
    return ends.upper - ends.lower


WIDTHS = Cell("widths", widths, share=0.01)


def width_table(found: Sums) -> list[str]:
    """Return the widths as Markdown."""
    rows = []
    for name, mine, own in (
        ("each of 10 groups", "even", "alone"),
        ("of these one at nine times the weight", "favoured", "favoured alone"),
    ):
        together, itself = found.mean(mine), found.mean(own)
        rows.append((name, f"{together:.3f}", f"{itself:.3f}", f"{together / itself:.2f}"))
    return table(("300 prompts a group", "together", "alone", "ratio"), rows)


def told_table(found: Mapping[str, Sums]) -> list[str]:
    """Return how many slices say something, where that was counted."""
    rows = [
        (name, f"{sums.mean('told'):.1f}", f"{sums.mean('of'):.1f}")
        for name, sums in found.items()
        if "told" in sums.totals and sums.mean("told") < 0.99 * sums.mean("of")
    ]
    return table(("slices with an interval", "a log", "of"), rows)


def main(given: Sequence[str] | None = None) -> int:
    """Run the study, write the page; return 1 where a guarantee fails or a mistake passes."""
    parser = counting.arguments(__doc__.strip(), "docs/slices.md")
    options = parser.parse_args(given)
    judged = cells()
    found = measure([*judged, WIDTHS], options.logs, options.cache)
    wrong = wrong_verdicts(judged, found)
    lines = [
        "*miss*: logs on which any interval misses: of a slice, of the mix, of how far the learned "
        "reward is off, of a part, of any k; at most δ is allowed. *surely above*: the exact "
        "binomial 99.9% limit. Planted mistakes are in italics.",
        "",
        *miss_table(judged, found),
        "",
        "Slices too small to tell, or without labels, have no interval:",
        "",
        *told_table(found),
        "",
        "Mean widths at 95%, all labelled, 0/1 rewards; normal limits of ten are 1.43 as wide:",
        "",
        *width_table(found[WIDTHS.name]),
    ]
    put(options.output, lines)
    print("\n".join([*lines, *(f"WRONG: {name}" for name in wrong)]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

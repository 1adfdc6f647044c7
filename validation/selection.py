"""How much true reward does choosing lose, by rule and number of gold labels? (theory §6.3)

    python -m validation.selection --worlds 100 --output docs/selection.md

Checkpoints of growing pressure on a learned reward that has a loophole: the proxy rises all the
way, the true reward peaks and falls. Worlds are finite, so regret is exact. Writes the table and a
picture into the page, between its markers.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tests.check import miss_rate_lower_limit
from validation.counting import put

from taut import select
from taut.decisions.contest.result import Name
from taut.decisions.selection.result import Selection
from taut.draws.rollouts import Rollouts
from taut.worlds import FAMILIES, World, expected
from taut.worlds.families import over_optimised

LABELS = (10, 20, 50, 100, 200)
CHECKPOINTS = 8
# The run ends somewhere between well before the turn and deep in the loophole.
FIRST_PRESSURE, LAST_PRESSURE = 0.05, (0.4, 6.4)
PROMPTS = 1000
RULES = ("select", "gold mean", "proxy", "last")
CLAIMS = ("luckiest", "chosen", "best kept", "regret")
# Family, candidates, prompts, labelled prompts: all candidates equal, so luck alone decides.
EQUALS = (
    ("coin", 2, 20, 20),
    ("coin", 10, 20, 20),
    ("coin", 50, 30, 30),
    ("rare_failures", 20, 100, 40),
    ("over_optimised", 5, 200, 50),
)
DELTA = 0.2  # large, so that a claim that fails too often is seen
ROUNDING = 1e-12  # a truth may sit exactly on an end
_BETA = 0.1


def run_pressures(seed: int) -> np.ndarray:
    """Return the pressure at each checkpoint of a run: growing, with some noise of training."""
    rng = np.random.default_rng([seed, 2])
    last = math.exp(rng.uniform(*np.log(LAST_PRESSURE)))
    steady = np.geomspace(FIRST_PRESSURE, last, CHECKPOINTS)
    return steady * np.exp(rng.normal(0, 0.2, CHECKPOINTS))


def goodhart_worlds(seed: int, pressures: Sequence[float] | None = None) -> list[World]:
    """Return one world per checkpoint: `over_optimised` with a loophole that pressure finds.

    Each prompt gets one response that the reference hardly ever gives, that the learned reward
    likes best, and that is worth little. Little pressure improves both rewards; much pressure
    ends in the loophole.
    """
    pressures = run_pressures(seed) if pressures is None else pressures
    rng = np.random.default_rng([seed, 1])
    out = []
    for pressure in pressures:
        world = over_optimised(np.random.default_rng(seed), beta=_BETA, pressure=pressure)
        reward, gold = 0.8 * world.reward, world.gold.copy()
        reference = world.reference.copy()
        if not out:
            loophole = 10.0 ** rng.uniform(-4, -2, len(reward))
            liked, worth = rng.uniform(0.85, 1, len(reward)), rng.uniform(0, 0.15, len(reward))
        reward[:, -1], gold[:, -1] = liked, worth
        reference[:, :-1] *= ((1 - loophole) / reference[:, :-1].sum(axis=1))[:, None]
        reference[:, -1] = loophole
        policy = reference * np.exp((reward - reward.max(axis=1, keepdims=True)) * pressure / _BETA)
        policy = np.maximum(policy / policy.sum(axis=1, keepdims=True), 1e-12)
        policy /= policy.sum(axis=1, keepdims=True)
        out.append(replace(world, reward=reward, gold=gold, reference=reference, policy=policy))
    return out


def sample_candidates(
    worlds: Sequence[World],
    prompts: int,
    labelled: int | Sequence[int],
    *,
    rng: np.random.Generator,
    shared: bool = True,
) -> Rollouts:
    """Draw one rollout per prompt and candidate; candidate i is step 100 (i + 1).

    Args:
        worlds: One per candidate, with the same prompts.
        prompts: Draws of a prompt, the same for all candidates if `shared`.
        labelled: Draws with gold, the first ones of a random order; or one count per candidate.
        rng: Source of all chance; responses of candidates are independent given the prompt.
        shared: Whether all candidates answer the same draws.
    """
    counts = [labelled] * len(worlds) if isinstance(labelled, int) else list(labelled)
    kind = _kinds(worlds[0], prompts, rng)
    rank = rng.permutation(prompts)
    parts: dict[str, list[np.ndarray]] = {}
    for index, world in enumerate(worlds):
        if not shared:
            kind = _kinds(world, prompts, rng)
        cumulative = np.cumsum(world.policy, axis=1)[kind]
        response = (cumulative < rng.random((prompts, 1))).sum(axis=1)
        at = (kind, np.minimum(response, world.policy.shape[1] - 1))
        own = {
            "prompt_id": np.arange(prompts) + (0 if shared else index * prompts),
            "step": np.full(prompts, 100 * (index + 1)),
            "reward": world.reward[at],
            "gold": np.where(rank < counts[index], world.gold[at], math.nan),
            "log_ratio": world.log_ratio[at],
        }
        for name, values in own.items():
            parts.setdefault(name, []).append(values)
    return Rollouts.from_arrays({name: np.concatenate(some) for name, some in parts.items()})


def _kinds(world: World, prompts: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(world.policy), size=prompts, p=world.prompt_probability)


def equal_worlds(family: str, count: int, seed: int) -> list[World]:
    """Return the same world `count` times: whoever looks better is only luckier."""
    return [FAMILIES[family](np.random.default_rng(seed))] * count


def failing_claims(worlds: Sequence[World], log: Rollouts, delta: float, **settings) -> set[str]:
    """Return which claims of a selection fail on one log; "luckiest" is any certificate."""
    asked = {"target": "reward", "reward_range": (0, 1), "held_out": True, "delta": delta}
    return failed_of(select(log, **{**asked, **settings}), worlds)


def failed_of(found: Selection, worlds: Sequence[World]) -> set[str]:
    """Return which claims of a selection among these worlds fail."""
    names = [item.name for item in found.candidates]
    truths = {name: expected(world, world.gold) for name, world in zip(names, worlds, strict=True)}
    best, failed = max(truths, key=truths.get), set()
    for item in found.candidates:
        ends, true = item.certificate, truths[item.name]
        if not ends.lower - ROUNDING <= true <= ends.upper + ROUNDING:
            failed |= {"luckiest", *(["chosen"] if item.name == found.chosen else [])}
    if best not in found.remaining:
        failed.add("best kept")
    if found.regret is not None and truths[best] - truths[found.chosen] > found.regret + ROUNDING:
        failed.add("regret")
    return failed


def misordered(tiers: Sequence[Sequence[Name]], truths: Mapping[Name, float]) -> bool:
    """Return whether one of a lower tier is better than all of those above it."""
    best = -math.inf
    for at, tier in enumerate(tiers):
        top = max(truths[name] for name in tier)
        if at and top > best + ROUNDING:
            return True
        best = max(best, top)
    return False


def count_failures(
    trials: int,
    worlds_of: Callable[[int], Sequence[World]],
    prompts: int,
    labelled: int,
    delta: float,
    **settings,
) -> dict[str, int]:
    """Count failing claims over logs, and logs on which "any" fails: that is what delta bounds."""
    counts = dict.fromkeys((*CLAIMS, "any"), 0)
    for seed in range(trials):
        worlds = worlds_of(seed)
        rng = np.random.default_rng([seed, 3])
        log = sample_candidates(worlds, prompts, labelled, rng=rng)
        failed = failing_claims(worlds, log, delta, **settings)
        for name in {*failed, *(["any"] if failed else [])}:
            counts[name] += 1
    return counts


@dataclass(frozen=True, slots=True)
class Trial:
    """One selection: the regret of each rule, and what `select` claimed."""

    regret: dict[str, float]
    chose: bool
    best_kept: bool
    kept: int
    claimed_regret: float
    caught: bool
    turned: bool


def run_trial(seed: int, labelled: int) -> Trial:
    """Select among the checkpoints of one world and hold the rules against the truth."""
    worlds = goodhart_worlds(seed)
    true = np.array([expected(world, world.gold) for world in worlds])
    log = sample_candidates(worlds, PROMPTS, labelled, rng=np.random.default_rng([seed, labelled]))
    found = select(log, by="step", target="reward", reward_range=(0, 1), held_out=True)
    shape = (len(worlds), PROMPTS)
    proxy = log.reward.reshape(shape).mean(axis=1)
    gold = np.nanmean(log.gold.reshape(shape), axis=1)
    leader = 0 if found.leader is None else found.leader // 100 - 1
    picks = {
        "select": leader,
        "gold mean": int(gold.argmax()),
        "proxy": int(proxy.argmax()),
        "last": len(worlds) - 1,
    }
    return Trial(
        regret={name: float(true.max() - true[index]) for name, index in picks.items()},
        chose=found.chosen is not None,
        best_kept=100 * (int(true.argmax()) + 1) in found.remaining,
        kept=len(found.remaining),
        claimed_regret=math.nan if found.regret is None else found.regret,
        caught=found.document["over_optimised"] == "caught",
        turned=int(true.argmax()) < len(worlds) - 1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its part of the page, with the picture beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--logs", type=int, default=500, help="for the claims, of each kind")
    parser.add_argument("--output", type=Path, default=Path("docs/selection.md"))
    options = parser.parse_args(arguments)
    trials = {m: [run_trial(seed, m) for seed in range(options.worlds)] for m in LABELS}
    picture = options.output.with_name("selection.svg")
    picture.write_text(draw(trials))
    put(options.output, [*table(trials, picture.name), "", *claims_table(options.logs)])


def mean_regret(trials: Sequence[Trial], rule: str) -> float:
    """Return the mean regret of a rule, reward units."""
    return float(np.mean([trial.regret[rule] for trial in trials]))


def table(trials: dict[int, list[Trial]], picture: str) -> list[str]:
    """Return the verdict, the table and the picture as Markdown."""
    worlds = len(trials[LABELS[0]])
    fifty = {rule: mean_regret(trials[50], rule) for rule in RULES}
    rest = min(fifty["proxy"], fifty["last"])
    ratio = fifty["select"] / rest if rest else math.inf
    turned = np.mean([trial.turned for trial in trials[50]])
    straight = [trial for trial in trials[50] if not trial.turned]
    lines = [
        f"With 50 labelled prompts a checkpoint, `taut select` loses {fifty['select']:.4f} of true "
        f"reward on average, picking by proxy {fifty['proxy']:.4f}, picking the last "
        f"{fifty['last']:.4f}: **{ratio:.2f} of the better of the two** (target: at most 0.5). The "
        f"plain mean of the same gold labels loses {fifty['gold mean']:.4f}, without a guarantee.",
        *_straight(straight),
        "",
        f"{worlds} runs of {CHECKPOINTS} checkpoints, {PROMPTS} shared prompts, one rollout each, "
        "gold labels on the same random prompts for all, target E r\\*, δ = 0.05. Pressure grows "
        "with some noise and ends, at random, between well before the turn and deep in the "
        f"loophole; in {100 * turned:.0f}% of the runs the true reward has peaked before the last "
        "checkpoint. Regret is exact: best true reward less that of the pick; `±` is one standard "
        "error. Where nothing has a guarantee, the best estimate is taken for the pick.",
        "",
        "| gold labels a checkpoint | select | gold mean | proxy | last | regret that select "
        "certifies | left as possible best | best left in | over-optimisation caught | no choice |",
        "|" + "---:|" * 10,
        *(_row(labels, some) for labels, some in trials.items()),
        "",
        f"![Mean regret by number of gold labels]({picture})",
    ]
    return lines


def _straight(some: Sequence[Trial]) -> list[str]:
    """Say what the rules lose where the last checkpoint is the best: there the proxy is right."""
    if not some:
        return []
    regret = {rule: mean_regret(some, rule) for rule in RULES}
    return [
        f"In the {len(some)} runs without a turn, where the proxy is right, select loses "
        f"{regret['select']:.4f}, the gold mean {regret['gold mean']:.4f}, picking by proxy "
        f"{regret['proxy']:.4f}, picking the last {regret['last']:.4f}."
    ]


def _row(labels: int, some: Sequence[Trial]) -> str:
    cells = [f"{labels}"]
    for rule in RULES:
        values = np.array([trial.regret[rule] for trial in some])
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        cells.append(f"{values.mean():.4f} ± {error:.4f}")
    claimed = [trial.claimed_regret for trial in some if not math.isnan(trial.claimed_regret)]
    cells += [
        f"{np.mean(claimed):.3f}" if claimed else "–",
        f"{np.mean([trial.kept for trial in some]):.1f} of {CHECKPOINTS}",
        f"{100 * np.mean([trial.best_kept for trial in some]):.0f}%",
        f"{100 * np.mean([trial.caught for trial in some]):.0f}%",
        f"{100 * np.mean([not trial.chose for trial in some]):.0f}%",
    ]
    return "| " + " | ".join(cells) + " |"


def claims_table(logs: int) -> list[str]:
    """Return how often claims fail after the choice, as Markdown."""
    lines = [
        "### How often claims fail after the choice",
        "",
        f"{logs} logs a line, δ = {DELTA:g}. Candidates are equal but for luck, except in the "
        "last line. *luckiest*: an adversary takes whichever certificate misses. *any* is what δ "
        "bounds; *surely above* is its exact binomial lower limit (99.9%).",
        "",
        "| world | candidates | prompts | gold | luckiest | chosen | best lost | regret exceeded | "
        "any | surely above |",
        "|---|" + "---:|" * 9,
    ]
    kinds = [
        (family, count, prompts, labelled, partial(_always, equal_worlds(family, count, 7)))
        for family, count, prompts, labelled in EQUALS
    ]
    kinds.append(("runs as above", CHECKPOINTS, 200, 50, goodhart_worlds))
    for family, count, prompts, labelled, worlds_of in kinds:
        found = count_failures(logs, worlds_of, prompts, labelled, DELTA)
        rates = [f"{found[name] / logs:.3f}" for name in (*CLAIMS, "any")]
        limit = miss_rate_lower_limit(found["any"], logs)
        cells = [family, str(count), str(prompts), str(labelled), *rates, f"{limit:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _always(worlds: Sequence[World], seed: int) -> Sequence[World]:
    return worlds


_COLOURS = {"select": "#2a7ab8", "gold mean": "#5a9e5a", "proxy": "#c0504d", "last": "#888888"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 340, 64, 30, 110, 48


def draw(trials: dict[int, list[Trial]]) -> str:
    """Return the picture of mean regret over the number of labels as SVG, log scale across."""
    top = 1.1 * max(mean_regret(some, rule) for some in trials.values() for rule in RULES)

    def x(labels: int) -> float:
        share = math.log(labels / LABELS[0]) / math.log(LABELS[-1] / LABELS[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="18">Mean regret of the pick, reward units</text>',
        *(_tick(value, y(value)) for value in _round_values(top)),
        *(
            f'<text x="{x(m):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{m}</text>'
            for m in LABELS
        ),
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "gold labels per checkpoint</text>",
    ]
    names = sorted(RULES, key=lambda rule: mean_regret(trials[LABELS[-1]], rule))
    height = math.inf
    for rule in names:
        points = [(x(m), y(mean_regret(some, rule))) for m, some in trials.items()]
        height = min(height - 15, points[-1][1] + 4)  # labels do not overlap
        parts += _line(rule, points, height)
    return "\n".join([*parts, "</svg>", ""])


def _tick(value: float, height: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}" '
        f'stroke="#dddddd"/><text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">'
        f"{value:g}</text>"
    )


def _round_values(top: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(top))
    step = next(step * factor for factor in (0.1, 0.2, 0.5, 1) if top / (step * factor) <= 6)
    return [round(step * index, 10) for index in range(int(top / step) + 1)]


def _line(rule: str, points: Sequence[tuple[float, float]], label: float) -> list[str]:
    colour = _COLOURS[rule]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
        f'<text x="{points[-1][0] + 10:.1f}" y="{label:.1f}" fill="{colour}">{rule}</text>',
    ]


if __name__ == "__main__":
    main()

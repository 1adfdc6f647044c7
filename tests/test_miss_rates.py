"""Whole certificates rarely miss, and the check that says so catches planted mistakes (theory §9).

The long form, 2,000 audits a cell, is `python -m validation.miss_rates`.
"""

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from check import assert_misses_at_most, misses_more_than
from taut.auditing import compose
from taut.auditing.audit import audit
from taut.auditing.certificate import Target
from taut.draws import design
from taut.errors import AssumptionError
from taut.logs.keys import scramble
from taut.types import Interval, Status
from taut.worlds import FAMILIES, sample_rollouts, truth

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.miss_rates import (
    DELTAS,
    GUARANTEED,
    KNOWLEDGE,
    TARGETS,
    Cell,
    cells,
    main,
    read_cache,
    run_cell,
    summarise,
)
from validation.page import markdown

# Enough to see a broken family in its own cells, and a slightly broken method in the pool.
SHORT = {5: 6, 20: 8, 100: 10, 1000: 1}


@pytest.fixture(scope="module")
def tallies():
    """Tallies of every cell in short form, by cell."""
    return {cell: run_cell(cell, SHORT[cell.prompts]) for cell in cells()}


@pytest.mark.parametrize("family", FAMILIES)
def test_certificates_of_a_family_rarely_miss(tallies, family):
    """In no cell of the family do guaranteed intervals miss more often than delta allows."""
    mine = {cell: some for cell, some in tallies.items() if cell.family == family}
    assert any(tally.guaranteed for some in mine.values() for tally in some)
    for cell, some in mine.items():
        for tally in some:
            if tally.trials:
                what = f"{cell}, {tally.target} of {tally.of}"
                assert_misses_at_most(tally.misses, tally.trials, cell.delta, what)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("knowledge", KNOWLEDGE)
def test_certificates_pooled_over_families_rarely_miss(tallies, knowledge, delta):
    """Pooled over families and sample sizes, each target misses at most delta of the time."""
    some = [
        tally
        for cell, group in tallies.items()
        if (cell.knowledge, cell.delta) == (knowledge, delta)
        for tally in group
    ]
    for target in TARGETS:
        for of in ("r*", "r-hat"):
            pool = [tally for tally in some if (tally.target, tally.of) == (target, of)]
            trials = sum(tally.trials for tally in pool)
            if trials:
                misses = sum(tally.misses for tally in pool if tally.trials)
                assert_misses_at_most(misses, trials, delta, f"{knowledge}, {target} of {of}")


def test_what_is_known_decides_what_is_guaranteed(tallies):
    """Labels or constants make r* certain; a declared maximum J*; with neither it is vacuous."""
    claimed = {
        (known, target, of): sum(
            tally.guaranteed
            for cell, group in tallies.items()
            if cell.knowledge == known and cell.prompts >= 20
            for tally in group
            if (tally.target, tally.of) == (target, of)
        )
        for known in KNOWLEDGE
        for target in TARGETS
        for of in ("r*", "r-hat")
    }
    for target in TARGETS:
        assert claimed["gold", target, "r*"] > 0
        assert claimed["declared", target, "r*"] > 0
        assert claimed["proxy", target, "r*"] == 0
    assert claimed["gold only", "clipped", "r*"] > 0
    assert claimed["gold only", "objective", "r*"] == 0
    assert claimed["proxy", "clipped", "r-hat"] > 0
    assert claimed["proxy", "objective", "r-hat"] == 0


# --- planted mistakes: each is a broken audit, and a cell in which it must be caught ------------


def changed(model, **fields):
    """A document with some of its fields replaced."""
    return model.model_copy(update=fields)


def both_ends_get_all_of_delta(patch):
    """Forgotten split: each end may miss with probability delta."""
    patch.setattr(compose, "spend", lambda delta, side, tail: compose.Budget(delta, tail, delta))
    return audit


def order_and_split_by_prompt_id(patch):
    """Draw order hashes the prompt id: all draws of a prompt stand together."""
    honest = design.lay_out

    def lay_out(rollouts, *, seed, mode):
        found = honest(rollouts, seed=seed, mode=mode)
        drawn = found.blocks
        key = scramble(rollouts.prompt[drawn.rows[drawn.starts[:-1]]] ^ np.uint64(seed))
        order = np.argsort(key, kind="stable")
        sizes = drawn.sizes[order]
        starts = np.r_[0, np.cumsum(sizes)]
        shift = np.repeat(drawn.starts[order] - starts[:-1], sizes)
        ordered = type(drawn)(rows=drawn.rows[np.arange(starts[-1]) + shift], starts=starts)
        return replace(found, blocks=ordered)

    patch.setattr(design, "lay_out", lay_out)
    return audit


def every_row_is_a_block(patch):
    """Row means instead of prompt means: prompts with many rollouts count for more."""

    def broken(rollouts, **settings):
        rows = np.arange(len(rollouts), dtype=np.uint64)
        settings["prompts"] = "with-replacement"
        return audit(replace(rollouts, group=scramble(rows)), **settings)

    return broken


def failed_rollouts_are_dropped(patch):
    """Rollouts of low reward, say truncated ones, never reach the log."""

    def broken(rollouts, **settings):
        return audit(rollouts.take(rollouts.reward > 0.4), **settings)

    return broken


def reward_shift_is_forgotten(patch):
    """The interval for the learned reward is reported as one for the true reward."""

    def broken(rollouts, **settings):
        honest = audit(rollouts, **settings)
        targets = {
            name: changed(t, lower=t.proxy.lower, upper=t.proxy.upper, status=t.proxy.status)
            for name, t in honest.targets.items()
        }
        return changed(honest, targets=targets)

    return broken


def positive_tail_is_taken_as_zero(patch):
    """The sample's clipped objective is certified as the objective itself."""
    patch.setattr(compose, "_positive_tail", lambda *arguments: compose.no_tail())

    def broken(rollouts, **settings):
        return audit(rollouts, tau=1.0, **settings)

    return broken


def coverage_is_plugged_in(patch):
    """C is read off weights on reward data, which never show what the policy now does."""

    def broken(rollouts, **settings):
        # On covered responses pi_theta / pi_b is 0.7 or less: the sample says C = 1 (at least 1).
        world = FAMILIES["uncovered_support"](np.random.default_rng(0))
        return audit(rollouts, coverage=1.0, reward_mse=truth(world).reward_mse, **settings)

    return broken


def normal_interval_is_certified(patch):
    """A clustered normal interval passes for a finite-sample one."""

    def normal(values, *, low, high, delta_lower, delta_upper, method, sizes=None):
        error = values.std(ddof=1) / math.sqrt(len(values))
        return Interval(values.mean() - 1.96 * error, values.mean() + 1.96 * error)

    patch.setattr("taut.auditing.target.block_interval", normal)
    return audit


def range_is_read_off_the_data(patch):
    """Smallest and largest reward seen pass for a declared range."""

    def broken(rollouts, **settings):
        low, high = rollouts.reward.min() - 1e-9, rollouts.reward.max()
        return audit(rollouts, **{**settings, "reward_range": (low, high)})

    return broken


def seeds_are_shopped_for(patch):
    """The audit is run with eight seeds, and the best end of each is kept."""

    def broken(rollouts, **settings):
        honest = [audit(rollouts, seed=seed, **settings) for seed in range(8)]
        targets = {}
        for name, target in honest[0].targets.items():
            found = [certificate.targets[name].proxy for certificate in honest]
            ends = Interval(max(p.lower or 0 for p in found), min(p.upper or 1 for p in found))
            best = changed(target.proxy, lower=ends.lower, upper=ends.upper)
            targets[name] = changed(target, proxy=best)
        return changed(honest[0], targets=targets)

    return broken


MISTAKES = [
    (seeds_are_shopped_for, Cell("coin", "declared", 50, 0.2), "reward", "r-hat", 200),
    (both_ends_get_all_of_delta, Cell("coin", "proxy", 100, 0.2), "reward", "r-hat", 400),
    (
        order_and_split_by_prompt_id,
        Cell("repeated_prompts", "proxy", 100, 0.05),
        "reward",
        "r-hat",
        100,
    ),
    (every_row_is_a_block, Cell("unequal_rollouts", "proxy", 100, 0.05), "reward", "r-hat", 100),
    (failed_rollouts_are_dropped, Cell("calibrated", "proxy", 100, 0.05), "reward", "r-hat", 100),
    (reward_shift_is_forgotten, Cell("over_optimised", "proxy", 100, 0.05), "clipped", "r*", 50),
    (
        positive_tail_is_taken_as_zero,
        Cell("heavy_tailed", "proxy", 1000, 0.05),
        "objective",
        "r-hat",
        100,
    ),
    (coverage_is_plugged_in, Cell("uncovered_support", "proxy", 100, 0.05), "reward", "r*", 50),
    (
        normal_interval_is_certified,
        Cell("rare_failures", "proxy", 20, 0.05),
        "reward",
        "r-hat",
        100,
    ),
    (range_is_read_off_the_data, Cell("rare_failures", "proxy", 20, 0.05), "reward", "r-hat", 100),
]


@pytest.mark.parametrize(
    ("mistake", "cell", "target", "of", "audits"), MISTAKES, ids=[m[0].__name__ for m in MISTAKES]
)
def test_the_same_check_rejects_a_planted_mistake(monkeypatch, mistake, cell, target, of, audits):
    """A broken audit claims a guarantee, and the check proves that it does not keep it."""
    broken = mistake(monkeypatch)
    tally = next(
        t for t in run_cell(cell, audits, audit=broken) if (t.target, t.of) == (target, of)
    )
    assert tally.guaranteed >= 0.9 * audits
    assert misses_more_than(tally.misses, tally.trials, cell.delta), tally.misses


def test_certificates_do_not_depend_on_the_unit_of_reward():
    """Rewards mapped to [-4, 4], with beta and L mapped along, map every interval along."""
    world = FAMILIES["over_optimised"](np.random.default_rng(0))
    exact = truth(world)
    rollouts = sample_rollouts(world, 200, rng=np.random.default_rng(1), gold_prompts=100)
    other = replace(rollouts, reward=8 * rollouts.reward - 4, gold=8 * rollouts.gold - 4)
    for labelled in (True, False):
        gold = {} if labelled else {"gold": None}
        declared = {} if labelled else {"coverage": 1.5, "reward_mse": 0.01}
        unit = audit(
            replace(rollouts, **gold),
            beta=world.beta,
            reward_range=(0, 1),
            log_ratio_max=exact.log_ratio_max,
            **declared,
        )
        if declared:
            declared["reward_mse"] *= 64
        mapped = audit(
            replace(other, **gold),
            beta=8 * world.beta,
            reward_range=(-4, 4),
            log_ratio_max=exact.log_ratio_max,
            **declared,
        )
        for name in TARGETS:
            one, two = unit.targets[name], mapped.targets[name]
            assert (two.lower, two.upper) == pytest.approx((8 * one.lower - 4, 8 * one.upper - 4))
            assert one.status == two.status
            assert one.status in GUARANTEED


# --- the harness itself --------------------------------------------------------------------------


def test_a_tally_counts_only_what_claims_a_guarantee():
    """Vacuous intervals are counted apart and never judged."""
    for tally in run_cell(Cell("coin", "proxy", 20, 0.05), 5):
        assert tally.guaranteed + tally.estimated + tally.vacuous == tally.audits == 5
        if (tally.target, tally.of) == ("reward", "r*"):
            assert tally.vacuous == 5


def test_an_audit_whose_ends_cross_has_missed():
    """A refusal in an honest world is counted as a miss of that target, not left out."""

    def crossing(rollouts, *, target, **settings):
        if target == "objective":
            raise AssumptionError("the lower end 2 lies above its upper end 1")
        found = audit(rollouts, target=target, **settings)
        if rollouts.reward[0] <= 0.5:
            return found
        crossed = Target(unavailable="the lower end 2 lies above its upper end 1")
        return changed(found, targets=dict(found.targets, objective=crossed))

    tallies = run_cell(Cell("coin", "gold", 20, 0.05), 40, audit=crossing)
    tally = next(t for t in tallies if (t.target, t.of) == ("objective", "r*"))
    assert 0 < tally.refused < 40
    assert tally.trials == tally.guaranteed + tally.refused == tally.audits == 40
    assert tally.misses >= tally.refused
    tally.estimated = 100
    assert tally.trials == tally.guaranteed  # refusals of mostly estimated intervals are not judged


def test_another_error_of_the_audit_is_not_a_miss():
    """Only crossing ends are counted; any other refusal stops the validation."""

    def refusing(rollouts, **settings):
        raise AssumptionError("a value leaves its range")

    with pytest.raises(AssumptionError, match="leaves its range"):
        run_cell(Cell("coin", "gold", 20, 0.05), 1, audit=refusing)


def test_infinite_coverage_cannot_be_declared():
    """Where reward data miss what the policy does there is no C, and the cell is left out."""
    assert run_cell(Cell("uncovered_support", "declared", 20, 0.05), 3) == []


def test_a_cell_gives_the_same_tally_twice():
    """Seeds are part of the cell: a violation can be reproduced."""
    cell = Cell("random", "gold", 20, 0.2)
    assert run_cell(cell, 5) == run_cell(cell, 5)


def test_a_violation_is_reported_and_fails_the_run(tmp_path, monkeypatch):
    """A cell that violates its guarantee is named on the page and makes the exit status 1."""
    cell = Cell("coin", "gold", 20, 0.05)
    row = summarise(cell, run_cell(cell, 5)[0])
    assert row["verdict"] == "holds"
    bad = {**row, "missed_above": 5, "miss_rate": 1.0, "verdict": "VIOLATED"}
    page = markdown([row, bad], 5, "validation.csv")
    assert "1 of 2 guarantees hold" in page
    assert "## Violated" in page
    monkeypatch.setattr(
        "validation.miss_rates.run_all", lambda todo, *rest: {cell: [bad] for cell in todo}
    )
    output = tmp_path / "validation.md"
    assert main(["--output", str(output), "--family", "coin", "--prompts", "20"]) == 1
    assert output.with_suffix(".csv").read_text().count("VIOLATED") == 10


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
    """A second run takes every cell from the cache and writes the same bytes."""
    options = ["--audits", "3", "--family", "coin", "--prompts", "5", "--processes", "1"]
    options += ["--cache", str(tmp_path / "cache.jsonl"), "--output", str(tmp_path / "page.md")]
    monkeypatch.setattr("validation.miss_rates.source_digest", lambda: "one state of the code")
    assert main(options) == 0
    first = (tmp_path / "page.md").read_bytes()
    with (tmp_path / "cache.jsonl").open("a") as file:
        file.write('{"key": "cut sho')
    monkeypatch.setattr("validation.miss_rates._finish", None)  # running a cell would fail
    assert main(options) == 0
    assert (tmp_path / "page.md").read_bytes() == first


def test_a_cache_made_with_other_code_is_not_used(tmp_path):
    """Lines under another key, and a line cut short, are left out."""
    path = tmp_path / "cache.jsonl"
    cell = Cell("coin", "gold", 5, 0.05)
    lines = [json.dumps({"key": k, "cell": asdict(cell), "rows": [k]}) for k in ("old", "new")]
    path.write_text("\n".join([*lines, lines[1][:20]]))
    assert read_cache(path, "new") == {cell: ["new"]}
    assert read_cache(path, "other") == {}


def test_guaranteed_statuses_are_the_two_strongest():
    """Certified and conditional intervals are held to their word; the others promise nothing."""
    assert set(GUARANTEED) == {Status.CERTIFIED, Status.CONDITIONAL}

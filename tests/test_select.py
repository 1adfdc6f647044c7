"""Choosing among checkpoints: the claims hold after the choice, and the choice is worth making."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut import cli
from taut.auditing.options import Options
from taut.decisions.contest import contest as checkpoint
from taut.decisions.selection import rivals
from taut.draws.layout import draw_keys
from taut.draws.rollouts import Rollouts
from taut.draws.units import measure_units
from taut.errors import LogError, UsageError
from taut.logs.facts import LogFacts
from taut.types import Status
from taut.worlds import expected

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.selection import (
    CLAIMS,
    ROUNDING,
    count_failures,
    draw,
    equal_worlds,
    goodhart_worlds,
    main,
    misordered,
    run_trial,
    sample_candidates,
)

SAID = "held-out,complete,random-labels"
REWARD = {"target": "reward", "reward_range": (0, 1), "declare": SAID}


def chosen_log(worlds, prompts, labelled, seed, **more):
    return sample_candidates(worlds, prompts, labelled, rng=np.random.default_rng(seed), **more)


# --- validity after selection ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "candidates", "trials", "prompts", "labelled"),
    [
        pytest.param("coin", 50, 30, 30, 30, marks=pytest.mark.slow),
        ("coin", 10, 80, 20, 20),
        pytest.param("rare_failures", 20, 60, 40, 20, marks=pytest.mark.slow),
        ("over_optimised", 5, 80, 60, 30),
    ],
)
def test_claims_rarely_fail_among_equals(family, candidates, trials, prompts, labelled):
    """Among equal candidates the luckiest misses, and the best is lost, at most delta of times."""
    worlds = equal_worlds(family, candidates, 7)
    found = count_failures(trials, lambda seed: worlds, prompts, labelled, 0.2)
    for what, misses in found.items():
        assert_misses_at_most(misses, trials, 0.2, f"{family} x {candidates}: {what}")


@pytest.mark.parametrize("delta", [pytest.param(0.05, marks=pytest.mark.slow), 0.2])
def test_claims_rarely_fail_where_checkpoints_differ(delta):
    """The same on runs with a Goodhart turn."""
    found = count_failures(50, goodhart_worlds, 80, 40, delta)
    for what, misses in found.items():
        assert_misses_at_most(misses, 50, delta, what)
    assert set(found) == {*CLAIMS, "any"}


@pytest.mark.slow
def test_claims_rarely_fail_for_the_clipped_objective():
    """With a threshold chosen from the data, the clipped objective's claims still hold."""
    trials, misses = 60, 0
    for seed in range(trials):
        worlds = goodhart_worlds(seed)
        log = chosen_log(worlds, 120, 60, seed)
        found = taut.select(log, beta=0.1, target="clipped", delta=0.2, **held_out())
        ends = (-found.settings.tau_negative, found.settings.tau)
        truths = {
            item.name: expected(world, world.gold - 0.1 * np.clip(world.log_ratio, *ends))
            for item, world in zip(found.candidates, worlds, strict=True)
        }
        best = max(truths, key=truths.get)
        inside = all(
            item.certificate.lower - ROUNDING
            <= truths[item.name]
            <= item.certificate.upper + ROUNDING
            for item in found.candidates
        )
        lost = truths[best] - truths[found.chosen]
        kept = best in found.remaining
        misses += not (inside and kept and lost <= found.regret + ROUNDING)
    assert_misses_at_most(misses, trials, 0.2, "clipped objective")


def test_the_check_rejects_certificates_not_corrected_for_choosing(monkeypatch):
    """Planted mistake: each candidate gets all of delta, as if it were the only one."""
    honest = checkpoint.Contest.certify

    def uncorrected(contest, delta):
        return honest(contest, min(0.2 * len(contest.place), 0.999))

    monkeypatch.setattr(checkpoint.Contest, "certify", uncorrected)
    worlds = equal_worlds("coin", 4, 7)
    found = count_failures(150, lambda seed: worlds, 100, 100, 0.2)
    assert misses_more_than(found["luckiest"], 150, 0.2), found


def test_the_check_rejects_comparisons_not_corrected_for_choosing(monkeypatch):
    """Planted mistake: comparisons at delta / 2 each, however many candidates there are."""
    honest = rivals.paired_difference

    def uncorrected(one, other, *, etas, **settings):
        return honest(one, other, etas=(0.2, 0.2), **settings)

    monkeypatch.setattr(rivals, "paired_difference", uncorrected)
    worlds = equal_worlds("coin", 20, 7)
    found = count_failures(60, lambda seed: worlds, 60, 60, 0.2)
    assert misses_more_than(found["best kept"], 60, 0.2), found


# --- a leader named beforehand --------------------------------------------------------------------


def upper_reach(found, leader):
    """How far above its mean the comparisons of others with the leader end, on average."""
    others = [item for item in found.candidates if item.name != leader]
    return np.mean([item.comparison.upper - item.comparison.mean for item in others])


def test_shares_of_the_comparisons_sum_to_half_of_delta_whoever_is_best():
    """For every candidate that may be the best one, with a leader and without."""
    log = hard_and_easy(5, 40)
    for leader in (None, 0, 3):
        contest, _, half = checkpoint.enter_contest(
            log, "step", Options(beta=None, target="reward", **held_out()), leader
        )
        for best in contest.place:
            spent = sum(contest.eta(best, other) for other in contest.place if other != best)
            assert spent == pytest.approx(half, rel=1e-12)


def test_a_right_leader_makes_comparisons_cheap_and_a_wrong_one_little_dearer():
    """Of 20 candidates: what separates the others from the best, by who was named before."""
    log = hard_and_easy(20, 60, gap=0.005)
    settings = {"target": "reward", **held_out()}
    plain, right, wrong = (taut.select(log, leader=leader, **settings) for leader in (None, 19, 0))
    assert plain.leader == right.leader == wrong.leader == 19
    assert upper_reach(right, 19) <= 0.78 * upper_reach(plain, 19)
    assert upper_reach(wrong, 19) <= 1.1 * upper_reach(plain, 19)
    assert (plain.settings.leader, right.settings.leader) == (None, 19)


@pytest.mark.parametrize("leader", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_claims_rarely_fail_whoever_is_named(leader):
    worlds = equal_worlds("coin", 10, 7)
    found = count_failures(80, lambda seed: worlds, 20, 20, 0.2, leader=leader)
    for what, misses in found.items():
        assert_misses_at_most(misses, 80, 0.2, f"leader {leader}: {what}")


def test_tiers_are_rarely_in_the_wrong_order():
    """In at most delta of runs is one of a lower tier better than all of those above it."""
    trials, delta, missed = 40, 0.2, 0
    for seed in range(trials):
        worlds = goodhart_worlds(seed)
        found = taut.select(chosen_log(worlds, 60, 40, seed), delta=delta, **REWARD)
        names = [item.value for item in found.candidates]
        worth = [expected(world, world.gold) for world in worlds]
        truth = dict(zip(names, worth, strict=True))
        told = [name for tier in found.tiers for name in tier]
        assert len(told) == len(set(told))
        missed += misordered(found.tiers, truth)
    assert_misses_at_most(missed, trials, delta, "tiers")


def test_a_leader_that_is_not_there_is_refused():
    with pytest.raises(taut.UsageError, match="leader is 7; no such step: the log holds 0, 1"):
        taut.select(hard_and_easy(2, 20), leader=7, target="reward", **held_out())


# --- what pairing brings, and when it cannot be had -----------------------------------------------


def hard_and_easy(candidates, prompts, *, shared=True, gap=0.05, seed=0, labelled=None):
    """Prompts differ far more than candidates do; candidate i is better than i - 1 by `gap`."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.1, 0.7, prompts)
    rows = []
    for index in range(candidates):
        level = level if shared else rng.uniform(0.1, 0.7, prompts)
        gold = level + gap * index + rng.uniform(-0.02, 0.02, prompts)
        rows.append(np.clip(gold, 0, 1))
    gold = np.concatenate(rows)
    known = np.tile(np.arange(prompts) < (labelled or prompts), candidates)
    names = np.tile(np.arange(prompts), candidates)
    if not shared:
        names = np.arange(candidates * prompts)
    return Rollouts.from_arrays(
        prompt_id=names,
        step=np.repeat(np.arange(candidates), prompts),
        reward=np.clip(gold + 0.05, 0, 1),
        gold=np.where(known, gold, math.nan),
    )


def held_out():
    return {"reward_range": (0, 1), "declare": SAID}


def test_paired_differences_are_narrower_than_two_intervals():
    """On shared prompts what they have in common cancels."""
    log = hard_and_easy(2, 200)
    found = taut.select(log, **REWARD)
    difference = found[0].comparison
    assert (difference.kind, difference.shared, difference.labelled) == ("gold", 200, 200)
    single = [item.certificate.upper - item.certificate.lower for item in found.candidates]
    assert difference.upper - difference.lower < 0.5 * sum(single)
    # So much that it decides what two overlapping intervals leave open.
    assert found[0].certificate.upper > found[1].certificate.lower
    assert found.remaining == (1,)
    assert found[0].excluded.by == 1
    assert found.regret == 0


def test_unshared_prompts_are_compared_by_their_intervals():
    """Without shared prompts nothing is paired: certificates get all but a twentieth."""
    found = taut.select(hard_and_easy(2, 200, shared=False), **REWARD)
    assert found[0].comparison.kind == "certificates"
    ends = [item.certificate for item in found.candidates]
    assert found[0].comparison.lower == pytest.approx(ends[0].lower - ends[1].upper)
    assert [item.delta for item in found.ledger] == pytest.approx([0.02375, 0.02375, 0.0025])
    assert found.remaining == (0, 1)


def test_a_difference_is_never_wider_than_that_of_two_intervals():
    """Both may be used: the event of each is paid for."""
    for seed in range(5):
        log = hard_and_easy(3, 30, seed=seed, labelled=12)
        for item in taut.select(log, **REWARD).candidates:
            if item.comparison is not None:
                leader = taut.select(log, **REWARD)[item.comparison.against].certificate
                assert item.comparison.upper <= item.certificate.upper - leader.lower + 1e-12
                assert item.comparison.lower >= item.certificate.lower - leader.upper - 1e-12


def test_partly_shared_prompts_make_a_difference_conditional():
    """Pairs on the common prompts speak of all prompts only if sharing was blind to outcomes."""
    log = hard_and_easy(2, 200)
    part = log.take(~((log.step == 0) & (np.arange(len(log)) % 10 == 0)))
    assert taut.select(part, **REWARD)[0].comparison.status is Status.CONDITIONAL


def test_without_gold_a_candidate_is_neither_chosen_nor_excluded():
    """The learned reward of an unlabelled candidate is no evidence, however high or low."""
    log = hard_and_easy(3, 200)
    log = replace(log, gold=np.where(log.step == 2, math.nan, log.gold))
    found = taut.select(log, **REWARD)
    assert found.best_proxy == 2
    assert found.chosen == 1
    assert found[2].certificate.status is Status.VACUOUS
    assert found[2].comparison.kind == "proxy"
    assert found.remaining == (1, 2)
    # It may be as good as 1: the choice can be that much below it.
    assert found.regret >= 1 - found[1].certificate.lower - 1e-9
    assert "never chosen, never excluded by its learned reward" in " ".join(str(found).split())


def test_draws_are_paired_by_group_only_where_replacement_is_declared():
    """A prompt is one draw, whatever its groups; with replacement, equal groups are one draw."""
    log = hard_and_easy(2, 50)
    batches = np.arange(len(log), dtype=np.uint64)
    assert taut.select(replace(log, group=batches), **REWARD)[0].comparison.shared == 50
    # Ten prompts with five groups each are ten draws, unless they were drawn so.
    recurring = replace(log, prompt=log.prompt[np.arange(100) % 10])
    drawn = replace(recurring, group=np.tile(np.arange(50, dtype=np.uint64), 2))
    assert taut.select(drawn, **REWARD)[0].comparison.shared == 10
    declared = taut.select(drawn, prompts="with-replacement", **REWARD)[0]
    assert declared.comparison.shared == 50
    assert declared.certificate.status is Status.CONDITIONAL
    apart = replace(recurring, group=batches)
    apart = taut.select(apart, prompts="with-replacement", **REWARD)[0].comparison
    assert (apart.kind, apart.shared) == ("certificates", None)


# --- what is said ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turned():
    """A run whose proxy rises all the way while the true reward falls at the end."""
    return chosen_log(goodhart_worlds(0, (0.05, 0.8, 6.4)), 400, 200, 0)


def test_over_optimisation_is_caught_and_said(turned):
    """The proxy's favourite is excluded, and the report says so in one sentence."""
    found = taut.select(turned, **REWARD)
    assert (found.best_proxy, found.chosen) == (300, 200)
    assert found[300].excluded is not None
    assert found.document["over_optimised"] == "caught"
    text = " ".join(str(found).split())
    assert "Step 300 has the best proxy reward" in text
    assert "step 200 the best certified reward" in text
    assert "over-optimisation caught" in text


def test_choosing_has_its_price(turned):
    """The chosen interval is wider, and its lower end lower, than had it been alone."""
    price = taut.select(turned, **REWARD).price
    assert price.width > price.width_alone > 0
    assert price.lower_given_up > 0


def test_what_the_favourite_gained_is_told_with_its_intervals():
    """In the lab run the favourite lost; of a log whose proxy is right it gained; else unknown."""
    lab = taut.__path__[0] + "/examples/goodhart.parquet"
    found = taut.select(lab, **REWARD).hacked
    assert (found.verdict, found.candidate, found.against) == ("yes", 60, 10)
    assert found.difference.upper < 0 < found.learned_difference.lower
    honest = taut.select(np_log(gain=0.1), **REWARD)
    assert honest.over_optimised == "no" and honest.hacked.verdict == "no"
    assert (honest.hacked.candidate, honest.hacked.against) == (2, 0)
    equal = taut.select(np_log(gain=0.0), **REWARD).hacked
    assert equal.verdict == "cannot_tell"


def np_log(gain, steps=3, n=300):
    rng = np.random.default_rng(0)
    ease = np.tile(rng.normal(0.4, 0.15, n), steps)
    up = ease + gain * np.repeat(np.arange(steps), n)
    gold, reward = (np.clip(up + rng.normal(0, 0.05, steps * n), 0, 1) for _ in range(2))
    prompt, step = np.tile(np.arange(n), steps), np.repeat(np.arange(steps), n)
    return {"prompt_id": prompt, "step": step, "reward": reward, "gold": gold}


@pytest.mark.parametrize(("target", "beta"), [("reward", None), ("clipped", 0.1)])
def test_the_ledger_sums_to_delta(turned, target, beta):
    """Certificates and comparisons spend delta together, and certificates no more than theirs."""
    found = taut.select(turned, beta=beta, target=target, delta=0.1, **held_out())
    assert math.fsum(item.delta for item in found.ledger) == pytest.approx(0.1)
    for item, event in zip(found.candidates, found.ledger, strict=False):
        spent = math.fsum(entry.delta for entry in item.certificate.ledger)
        assert spent <= event.delta + 1e-15


def test_what_is_on_record_as_held_out_was_not_trained_on(turned):
    """No warning of training where the log itself says that nothing was trained on its prompts."""
    facts = LogFacts(held_out=True, ours=True, recorded=frozenset({"held_out"}))
    log = replace(taut.as_rollouts(turned), facts=facts)
    found = taut.select(log, target="reward", reward_range=(0, 1))
    assert found.trained_on is None and found.chosen == 200
    assert "Trained on these prompts" not in str(found)


def test_trained_on_prompts_make_everything_an_estimate(turned):
    """Without --held-out nothing is chosen, and the report says what the union would cover."""
    found = taut.select(turned, target="reward", reward_range=(0, 1))
    assert found.trained_on
    assert (found.chosen, found.regret) == (None, None)
    assert found.leader == 200
    assert found.remaining == (100, 200, 300)
    assert found[300].excluded.status is Status.ESTIMATED
    assert found.remaining_by_estimate == (200,)
    assert all(item.certificate.status is Status.ESTIMATED for item in found.candidates)
    text = " ".join(str(found).split())
    assert "Nothing can be chosen with a guarantee" in text
    assert "Not covered: training on these prompts" in text


def test_the_threshold_is_common_and_blind_to_what_certifies(turned):
    """Values of draws that certify do not move tau, and draws that chose tau certify nothing."""
    settings = {"beta": 0.1, "target": "clipped", **held_out()}
    found = taut.select(turned, **settings)
    tau, aside = found.settings.tau, found.settings.draws_set_aside
    assert {item.certificate.tau for item in found.candidates} == {tau}
    assert aside > 0
    assert all(item.certificate.log.prompts == 400 - aside for item in found.candidates)
    keys, clip = common_clip(turned, settings)
    certifying = ~np.isin(keys, clip.aside)
    moved = replace(
        turned,
        reward=np.where(certifying, 1 - turned.reward, turned.reward),
        log_ratio=np.where(certifying, turned.log_ratio + 3, turned.log_ratio),
    )
    assert taut.select(moved, **settings).settings.tau == tau


def common_clip(log, settings):
    """The keys of a log's draws, and the thresholds that select takes for all candidates."""
    units = measure_units(log, reward_range=(0, 1), gold_range=None, gold_scale=None)
    keys = draw_keys(log, "sample")
    return keys, checkpoint.common_clip(log, keys, checkpoint.Options(**settings), units)


def test_the_objective_is_certified_with_a_declared_maximum(turned):
    """J* of all candidates, with the KL terms in differences too; estimated without a maximum."""
    found = taut.select(turned, beta=0.01, log_ratio_max=12, **held_out())
    assert found.chosen == 200
    assert found.target == "objective"
    assert found[300].comparison.status is Status.CONDITIONAL  # on right log-probs
    assert taut.select(turned, beta=0.01, target="objective", **held_out()).chosen is None
    # Thresholds below the maximum leave a tail, paid for by the certificates.
    cut = taut.select(turned, beta=0.01, log_ratio_max=12, tau=2.0, **held_out())
    assert cut[300].comparison.kind == "gold"
    assert cut[300].comparison.upper < 0


def test_objective_differences_hold_the_truth(turned):
    """Paired differences of J*, tails included, contain the true ones."""
    worlds = goodhart_worlds(0, (0.05, 0.8, 6.4))
    truths = {
        100 * (index + 1): expected(world, world.gold - 0.01 * world.log_ratio)
        for index, world in enumerate(worlds)
    }
    for tau in ("auto", 1.0):
        found = taut.select(turned, beta=0.01, log_ratio_max=12, tau=tau, **held_out())
        for item in found.candidates:
            if item.comparison is not None:
                true = truths[item.name] - truths[item.comparison.against]
                assert item.comparison.lower <= true <= item.comparison.upper


def test_all_checkpoints_bad_and_few_labels_choose_nothing():
    """With two labels certificates say nothing, so nobody is chosen."""
    found = taut.select(hard_and_easy(3, 50, labelled=1), **REWARD)
    assert found.chosen is None
    assert found.price is None or found.leader is not None
    assert found.remaining == (0, 1, 2)
    assert "Nothing can be chosen" in str(found)


# --- one result, whatever the form of the log -----------------------------------------------------


def test_row_order_does_not_matter(turned):
    """Shuffled rows give the same document."""
    rows = np.random.default_rng(1).permutation(len(turned))
    for settings in (REWARD, {"beta": 0.1, "target": "clipped", **held_out()}):
        one, other = (taut.select(log, **settings).document for log in (turned, turned.take(rows)))
        assert json.dumps(one) == json.dumps(other)


def test_a_mapping_of_logs_is_one_log(turned):
    """Logs under names give what one log with a policy column gives."""
    bare = replace(turned, step=None)
    logs = {f"step {step}": bare.take(turned.step == step) for step in (300, 100, 200)}
    found = taut.select(logs, **REWARD)
    assert [item.name for item in found.candidates] == ["step 100", "step 200", "step 300"]
    names = ("step 100", "step 200", "step 300")
    code = np.searchsorted([100, 200, 300], turned.step).astype(np.int32)
    joined = replace(bare, policy=code, policy_names=names)
    assert json.dumps(found.document) == json.dumps(
        taut.select(joined, "policy", **REWARD).document
    )


def write(log, folder, kind):
    """Write a log in one of the formats, the steps in files of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for step in np.unique(log.step):
        part = log.take(log.step == step)
        columns = {
            "prompt_id": [f"p{key}" for key in part.prompt],
            "step": part.step.tolist(),
            "reward": part.reward.tolist(),
            "gold": [None if math.isnan(value) else value for value in part.gold.tolist()],
            "log_ratio": part.log_ratio.tolist(),
        }
        if kind == "parquet":
            pq.write_table(pa.table(columns), folder / f"{step}.parquet")
        else:
            rows = (
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            )
            lines = [json.dumps(row) for row in rows]
            (folder / f"{step}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


ASKED = ("--target", "reward", "--reward-range", "0", "1")


def test_the_format_does_not_matter(turned, tmp_path, monkeypatch, capsys):
    """Parquet and JSONL give the same bytes."""
    found = []
    for kind in ("parquet", "jsonl"):
        (tmp_path / kind).mkdir()
        log = write(turned, tmp_path / kind, kind)
        asked = ("select", log, *ASKED, "--declare", SAID, "--json", "-")
        status, out, _ = run(monkeypatch, capsys, *asked)
        assert status == 0
        found.append(out)
    assert found[0] == found[1]
    document = json.loads(found[0])
    assert document["schema"] == "taut.selection/2"
    assert document["chosen"] == 200
    assert document["candidates"][2]["excluded"] == {"by": 200, "status": "certified"}
    assert sum(item["delta"] for item in document["ledger"]) == pytest.approx(0.05)


def test_the_gate_is_an_exit_status(turned, tmp_path, monkeypatch, capsys):
    """--require-best: 0 for the choice, 3 for another one or an estimate, 2 for an unknown one."""
    log = write(turned, tmp_path, "parquet")

    def gate(value, *more):
        status, _, err = run(
            monkeypatch, capsys, "select", log, *ASKED, *more, "--require-best", value
        )
        return status, err.strip()

    assert gate("200", "--held-out") == (0, "")
    assert gate("300", "--held-out") == (3, "taut: --require-best 300 failed: the choice is 200.")
    estimate = "taut: --require-best 200 failed: no candidate has a guarantee."
    assert gate("200") == (3, estimate)
    status, err = gate("250", "--held-out")
    assert (status, err.count("\n")) == (2, 0)
    assert "no such step; found 100, 200, 300" in err


@pytest.mark.parametrize(
    ("change", "settings", "error", "text"),
    [
        ({}, {"by": "epoch"}, UsageError, "by is 'epoch'"),
        ({}, {"by": "policy"}, LogError, "no 'policy' column"),
        ({"step": np.zeros(20, dtype=np.int64)}, {}, UsageError, "two or more candidates"),
        ({"gold": None}, {}, LogError, "no gold labels"),
        ({}, {"target": "objective", "beta": 0.1}, LogError, "needs log-probs"),
        ({}, {"side": "upper"}, UsageError, "no lower end to choose by"),
        ({}, {"delta": 0.0}, UsageError, "delta is 0.0"),
    ],
)
def test_errors_say_what_to_do_in_one_line(change, settings, error, text):
    """What cannot be had is refused with the reason and the remedy."""
    log = replace(hard_and_easy(2, 10), **change)
    with pytest.raises(error, match=text) as found:
        taut.select(log, **{**REWARD, **settings})
    assert "\n" not in str(found.value)


def test_reward_data_and_an_empty_mapping_are_refused():
    """Reward data speak of one policy; a choice needs candidates."""
    log = hard_and_easy(2, 10)
    with pytest.raises(TypeError, match="reward_data"):
        taut.select(log, reward_data=log, **REWARD)
    with pytest.raises(UsageError, match="no candidates"):
        taut.select({}, **REWARD)


def test_the_report_fits_narrow_and_plain_terminals(turned):
    """Every line keeps to the width, and ASCII suffices."""
    from taut.report.door import report_text

    found = taut.select(turned, **REWARD)
    for width in (60, 80, 100):
        assert all(len(line) <= width for line in report_text(found, width=width).split("\n"))


# --- the study ------------------------------------------------------------------------------------


def test_few_labels_lose_less_than_the_proxy():
    """With 50 labels select loses at most half of what the proxy or the last checkpoint loses."""
    trials = [run_trial(seed, 50) for seed in range(12)]
    lost = {rule: np.mean([trial.regret[rule] for trial in trials]) for rule in trials[0].regret}
    assert lost["select"] <= 0.5 * min(lost["proxy"], lost["last"])
    picture = draw({10: trials, 200: trials})
    assert picture.startswith("<svg") and "select" in picture


@pytest.mark.integration
def test_the_study_writes_its_part_of_the_page_only(tmp_path):
    """What stands around the markers stays; the picture lies beside the page."""
    page = tmp_path / "page.md"
    page.write_text("before <!-- study: begin -->stale<!-- study: end --> after")
    main(["--worlds", "2", "--logs", "2", "--output", str(page)])
    text = page.read_text()
    assert text.startswith("before ") and text.endswith(" after") and "stale" not in text
    assert (tmp_path / "selection.svg").exists()


def by_chance(n=600, seed=0):
    """B is better by .1: worse on easy prompts, which are labelled by a chance of .9, not .1."""
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < 0.5
    chance = np.where(easy, 0.9, 0.1)
    labelled = rng.random(n) < chance
    gold = [rng.random(n) < np.where(easy, *means) for means in ((0.9, 0.2), (0.5, 0.8))]
    return Rollouts.from_arrays(
        prompt_id=np.tile(np.arange(n), 2),
        policy=np.repeat(["A", "B"], n),
        reward=np.full(2 * n, 0.5),
        gold=np.concatenate([np.where(labelled, values, math.nan) for values in gold]),
        label_probability=np.tile(chance, 2),
    )


def test_pairs_with_recorded_chances_of_a_label_exclude_nobody():
    """Certificates weigh labels by their chances; plain means of pairs would drop the best one."""
    found = taut.select(by_chance(), "policy", **REWARD)
    assert "B" in found.not_excluded
    assert found["B"].lower <= 0.65 <= found["B"].upper
    if found.chosen == "A":
        assert found.regret >= 0.1


def test_declared_constants_make_a_conditional_choice():
    """Without gold, declared C and L certify each candidate under that condition."""
    log = replace(hard_and_easy(2, 400, gap=0.2, shared=False), gold=None)
    found = taut.select(log, coverage=1.0, reward_mse=1e-4, **REWARD)
    assert found.chosen == 1
    assert found[1].certificate.status is Status.CONDITIONAL
    assert found[0].excluded.status is Status.CONDITIONAL


def test_a_candidate_lost_to_the_choice_of_tau_is_an_error():
    """A candidate whose only prompts would be set aside is not dropped in silence."""
    log = replace(hard_and_easy(2, 100, labelled=100), log_ratio=np.zeros(200))
    settings = {"beta": 0.1, "target": "clipped", **held_out()}
    _, clip = common_clip(log, settings)
    gone = (log.step == 0) & ~np.isin(log.prompt, clip.aside[:1])
    with pytest.raises(LogError, match="give --tau NATS"):
        taut.select(log.take(~gone), **settings)
    assert taut.select(log.take(~gone), tau=5.0, **settings)[0].certificate.log.prompts == 1

"""The certificate: identities, ledger, statuses, invariance, and what it refuses."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import taut
from taut.draws.assumptions import gate_refusal
from taut.draws.health import outcome
from taut.worlds import FAMILIES, sample_rollouts, truth

TARGETS = ("reward", "clipped", "objective")


def log(n=400, per_prompt=2, gold=150, seed=0, family="over_optimised"):
    rng = np.random.default_rng(seed)
    world = FAMILIES[family](rng)
    rollouts = sample_rollouts(
        world, prompts=n, per_prompt=per_prompt, rng=rng, gold_prompts=gold or None
    )
    return world, rollouts


def columns(n=60, **changes):
    rng = np.random.default_rng(1)
    found = {
        "prompt_id": np.arange(n),
        "reward": rng.random(n),
        "log_ratio": rng.normal(0.125, 0.5, n),
        "gold": rng.random(n),
        **changes,
    }
    return taut.Rollouts.from_arrays({k: v for k, v in found.items() if v is not None})


def text(certificate):
    return json.dumps(certificate.document, allow_nan=False)


def stands(found, name):
    """How an assumption of a result stands."""
    return next(item.stands for item in found.assumptions if item.name == name)


# What a user says of a log whose design is known: everything that no log can show.
SAID = {"declare": ("held-out", "complete", "random-labels")}


def end(value, open_end):
    """An end as a number: a document holds None where nothing bounds it."""
    return open_end if value is None else value


SETTINGS = [
    {},
    {"target": "clipped"},
    {"target": "reward"},
    {"tau": 1.0},
    {"tau": 1.0, "tau_negative": 0.5, "target": "clipped"},
    {"tau": None},
    {"log_ratio_max": 60.0},
    {"log_ratio_max": 60.0, "tau": 2.0},
    {"log_ratio_second_moment": 9.0},
    {"side": "lower", "log_ratio_max": 60.0, "tau": 2.0},
    {"side": "upper"},
    {"method": "paper"},
    {"method": "hoeffding"},
    {"method": "bernstein"},
    {"reward_range": (-1.0, 2.0)},
    {"reward_range": None},
    {"calibration": 0.0},
]


@pytest.mark.parametrize("gold", [0, 150])
@pytest.mark.parametrize("settings", SETTINGS)
def test_terms_add_up_and_the_ledger_is_spent(settings, gold):
    """Measured plus terms is the certificate before the trivial cut; deltas sum to delta."""
    world, rollouts = log(gold=gold)
    options = {"reward_range": (0.0, 1.0), "target": "objective", **settings}
    certificate = taut.audit(rollouts, beta=world.beta, delta=0.1, **options)
    document = certificate.document
    measured = certificate.targets[certificate.target].measured
    lower = measured + sum(end(term.lower, -math.inf) for term in certificate.terms)
    upper = measured + sum(end(term.upper, math.inf) for term in certificate.terms)
    assert certificate.lower >= lower - 1e-12
    assert certificate.upper <= upper + 1e-12
    assert certificate.lower <= certificate.upper
    spent = sum(event.delta for event in certificate.ledger)
    assert spent <= 0.1 + 1e-15
    if not (options.get("target") == "reward" and gold == 0):
        assert spent == pytest.approx(0.1)
    json.dumps(document, allow_nan=False)
    assert [certificate.targets[name].unavailable for name in TARGETS] == [None] * 3


STANDINGS = [
    # What is said; the status of: reward, clipped, objective.
    ({"reward_range": (0, 1), **SAID}, ("certified", "conditional", "estimated")),
    ({"reward_range": (0, 1)}, ("conditional", "conditional", "estimated")),
    (
        {"reward_range": (0, 1), "declare": "held-out,random-labels"},
        ("conditional", "conditional", "estimated"),
    ),
    (
        {"reward_range": (0, 1), "log_ratio_max": 80.0, **SAID},
        ("certified", "conditional", "conditional"),
    ),
    (
        {"reward_range": (0, 1), "log_ratio_second_moment": 100.0, **SAID},
        ("certified", "conditional", "conditional"),
    ),
    (SAID, ("estimated", "estimated", "estimated")),
]


@pytest.mark.parametrize(("said", "statuses"), STANDINGS)
def test_statuses_follow_the_declarations(said, statuses):
    """Design certified where declared; log-probs never; J* estimated without a bound on l."""
    world, rollouts = log()
    found = taut.audit(rollouts, beta=world.beta, target="objective", **said)
    assert tuple(found.targets[name].status for name in TARGETS) == statuses
    assert found.status == statuses[-1]


def test_held_out_is_short_for_declaring_it():
    """held_out=True and declare="held-out" are one word; each stands as declared."""
    _, rollouts = log()
    settings = {"reward_range": (0, 1), "target": "reward"}
    short = taut.audit(rollouts, held_out=True, **settings)
    assert text(short) == text(taut.audit(rollouts, declare="held-out", **settings))
    assert stands(short, "held-out") == "declared"
    assert stands(short, "complete") == "assumed"
    assert stands(taut.audit(rollouts, **settings), "held-out") == "assumed"


AUTO = [
    ({}, {}, "clipped"),
    ({}, {"log_ratio_max": 80.0}, "objective"),
    ({}, {"log_ratio_second_moment": 100.0}, "objective"),
    ({}, {"beta": None}, "reward"),
    ({"log_ratio": None}, {}, "reward"),
    ({}, {"gold_range": (-1, 3)}, "reward"),
    ({}, {"gold_range": (0, 1), "gold_scale": (1.0, 0.0)}, "clipped"),
]


@pytest.mark.parametrize(("changes", "settings", "target"), AUTO)
def test_auto_takes_the_strongest_target_that_the_log_can_certify(changes, settings, target):
    """By default, J* where its tail is declared, the clipped one with log-probs, or E r*."""
    options = {"beta": 0.1, "reward_range": (0, 1), **settings}
    found = taut.audit(columns(**changes), **options)
    assert found.target == target
    assert found.settings.target_asked == "auto"
    assert found.target_reason
    asked = taut.audit(columns(**changes), **options, target=target)
    assert asked.target_reason is None
    assert (asked.lower, asked.upper, asked.status) == (found.lower, found.upper, found.status)


def test_without_labels_the_true_reward_is_vacuous_and_the_learned_one_is_not():
    """The certificate for r* is reported as vacuous; the one for r̂ stands beside it."""
    world, rollouts = log(gold=0)
    certificate = taut.audit(rollouts, beta=world.beta, reward_range=(0, 1), target="clipped")
    assert certificate.status == "vacuous"
    assert certificate.terms.reward_shift.route == "trivial"
    known = truth(world, tau=certificate.tau, tau_negative=certificate.tau_negative)
    assert certificate.lower <= known.clipped <= certificate.upper
    assert certificate.proxy.status == "conditional"
    assert certificate.proxy.width < 0.3 * (certificate.upper - certificate.lower)


def test_declared_constants_give_a_conditional_certificate():
    """C and L widen the learned reward's interval by C sqrt(L), under their names."""
    world, rollouts = log(gold=0)
    certificate = taut.audit(
        rollouts, beta=world.beta, reward_range=(0, 1), coverage=1.5, reward_mse=0.01
    )
    shift = certificate.terms.reward_shift
    assert shift.status == "conditional"
    assert certificate.status == "conditional"
    assert (shift.lower, shift.upper) == pytest.approx((-0.15, 0.15))
    assert certificate.paper.reward_shift == pytest.approx(0.15)
    hopeless = taut.audit(
        rollouts, beta=world.beta, reward_range=(0, 1), coverage=50.0, reward_mse=0.01
    )
    assert hopeless.terms.reward_shift.status == "vacuous"


def test_units_scale_with_the_reward():
    """Rewards, range and beta times ten, plus three: everything scales, nothing else moves."""
    world, rollouts = log()
    base = taut.audit(rollouts, beta=world.beta, reward_range=(0, 1), delta=0.1)
    scaled = taut.Rollouts(
        **{
            **{name: getattr(rollouts, name) for name in rollouts.__slots__},
            "reward": rollouts.reward * 10 + 3,
            "gold": rollouts.gold * 10 + 3,
        }
    )
    found = taut.audit(scaled, beta=10 * world.beta, reward_range=(3, 13), delta=0.1)
    assert found.lower == pytest.approx(10 * base.lower + 3, abs=1e-9)
    assert found.upper == pytest.approx(10 * base.upper + 3, abs=1e-9)
    assert found.tau == base.tau


def test_row_order_does_not_change_a_byte():
    """A shuffled log gives the same JSON, byte for byte."""
    world, rollouts = log(n=200, per_prompt=3)
    shuffled = rollouts.take(np.random.default_rng(0).permutation(len(rollouts)))
    for settings in ({}, {"target": "clipped", "tau": 2.0}, {"target": "reward"}):
        first = taut.audit(rollouts, beta=world.beta, reward_range=(0, 1), **settings)
        second = taut.audit(shuffled, beta=world.beta, reward_range=(0, 1), **settings)
        assert text(first) == text(second)


def test_values_of_certifying_draws_choose_nothing():
    """tau, lambda and the split stay as they are when only certifying values change."""
    world, rollouts = log(gold=400)
    base = taut.audit(rollouts, beta=world.beta, reward_range=(0, 1), target="clipped")
    from taut.auditing.calibration import split_draws
    from taut.draws.layout import lay_out

    blocks = lay_out(rollouts, seed=0).blocks
    split = split_draws(blocks, rollouts.gold, 0.2)
    changed = {}
    for name in ("reward", "gold", "log_ratio"):
        column = getattr(rollouts, name).copy()
        rows = split.certifying.rows
        # Reversal among certifying rows keeps ranges and the draws' keys.
        column[rows] = column[rows][::-1]
        changed[name] = column
    other = taut.Rollouts(
        **{**{name: getattr(rollouts, name) for name in rollouts.__slots__}, **changed}
    )
    found = taut.audit(other, beta=world.beta, reward_range=(0, 1), target="clipped")
    assert (found.tau, found.tau_negative) == (base.tau, base.tau_negative)
    assert found.terms.reward_shift.route == base.terms.reward_shift.route
    assert found.lower != base.lower


def test_smaller_delta_never_narrows_a_closed_form():
    """Hoeffding certificates widen as delta falls."""
    world, rollouts = log()
    widths = []
    for delta in (0.2, 0.05, 0.01):
        found = taut.audit(
            rollouts,
            beta=world.beta,
            reward_range=(0, 1),
            tau=2.0,
            target="clipped",
            method="hoeffding",
            delta=delta,
            calibration=0.0,
        )
        widths.append(found.upper - found.lower)
    assert widths == sorted(widths)


def test_groups_share_delta():
    """Audits by step spend delta / M each and are wider than the same step alone."""
    rollouts = columns(n=200, step=np.arange(200) % 2)
    groups = taut.audit_by(rollouts, "step", beta=0.1, reward_range=(0, 1), tau=1.0)
    alone = taut.audit(rollouts.take(rollouts.step == 0), beta=0.1, reward_range=(0, 1), tau=1.0)
    assert set(groups) == {0, 1}
    assert sum(event.delta for event in groups[0].ledger) == pytest.approx(0.025)
    assert groups[0].upper - groups[0].lower > alone.upper - alone.lower


def test_recurring_prompts_are_estimated_unless_held_out():
    """Prompts that recur across steps suggest training on them; only the caller knows better."""
    rollouts = columns(n=200, prompt_id=np.arange(200) % 100, step=np.arange(200) // 100)
    options = {"beta": 0.1, "reward_range": (0, 1), "target": "reward"}
    by_step = taut.audit_by(rollouts, "step", **options)
    assert {item.status for item in by_step.values()} == {"estimated"}
    assert {stands(item, "held-out") for item in by_step.values()} == {"violated"}
    held_out = taut.audit_by(rollouts, "step", **SAID, **options)
    assert {item.status for item in held_out.values()} == {"certified"}
    whole = taut.audit(rollouts, **SAID, **options)
    assert whole.log.prompts == whole.log.draws == 100  # a prompt counts once, whatever its steps
    assert whole.log.cells == 2
    assert whole.status == "certified"
    assert taut.audit(rollouts, **options).status == "estimated"


def test_prompts_with_different_cells_get_order_free_bounds():
    """Where only some prompts were answered at a second step, draws differ in law."""
    prompt = np.r_[np.arange(100), np.arange(50)]
    rollouts = columns(n=150, prompt_id=prompt, step=np.arange(150) // 100, log_ratio=None)
    found = taut.audit(rollouts, reward_range=(0, 1), **SAID)
    assert found.terms.sampling.source == "theory §2.5"
    assert found.log.draws == 100
    alike = columns(n=200, prompt_id=np.arange(200) % 100, step=np.arange(200) // 100)
    found = taut.audit(alike, target="reward", reward_range=(0, 1), **SAID)
    assert found.terms.sampling.source == "theory §2.4"


def test_several_steps_averaged_are_no_sample_of_one_policy():
    """Later policies depend on earlier prompts, though no prompt recurs: estimated, unless said."""
    rollouts = columns(n=200, step=np.arange(200) // 100, log_ratio=None)
    found = taut.audit(rollouts, reward_range=(0, 1), declare="complete,random-labels")
    assert (found.status, stands(found, "held-out")) == ("estimated", "violated")
    assert taut.audit(rollouts, reward_range=(0, 1), **SAID).status == "certified"
    by_step = taut.audit_by(rollouts, "step", reward_range=(0, 1))
    assert {item.status for item in by_step.values()} == {"conditional"}


def test_labels_that_follow_outcomes_are_not_certified():
    """Where labelled rows look different the result is an estimate, whatever was declared."""
    reward = np.linspace(0, 1, 200)
    gold = np.where(reward > 0.6, reward, math.nan)
    rollouts = columns(n=200, reward=reward, gold=gold, log_ratio=None)
    for said in ({}, SAID):
        found = taut.audit(rollouts, target="reward", reward_range=(0, 1), **said)
        assert found.status == "estimated"
        assert stands(found, "random-labels") == "violated"


def test_log_probs_that_betray_themselves_spoil_all_that_is_made_of_them():
    """E exp(-l) > 1 speaks against the log-probs: J* and the clipped objective, not the reward."""
    noise = np.random.default_rng(0).normal(0.0, 0.5, 300)
    for mean, standing, status in (
        (0.125, "assumed", "conditional"),  # E exp(-l) = 1
        (-0.5, "in_doubt", "conditional"),  # about 1.9: noise and mismatch could be the cause
        (-1.0, "violated", "estimated"),  # about 3: nothing honest explains it
    ):
        rollouts = columns(n=300, log_ratio=mean + noise)
        found = taut.audit(rollouts, beta=0.1, reward_range=(0, 1), log_ratio_max=20.0, **SAID)
        assert stands(found, "log-probs") == standing
        assert found.targets["objective"].status == status
        assert found.targets["clipped"].status == status
        assert found.targets["reward"].status == "certified"
        assert (gate_refusal(found.assumptions) is None) == (standing == "assumed")


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("target", TARGETS)
def test_tiny_logs_get_wide_true_intervals(n, target):
    """A handful of prompts gives a wide interval within the trivial range, not an error."""
    found = taut.audit(
        columns(n=n, gold=None), beta=0.1, reward_range=(0, 1), target=target, log_ratio_max=9.0
    )
    proxy = found.proxy
    assert proxy.lower < found.targets[target].measured < proxy.upper


def test_constant_rewards_give_a_narrow_interval():
    """A thousand equal rewards are bounded tightly, and not to a point."""
    rollouts = columns(n=1000, reward=np.full(1000, 0.5), gold=np.full(1000, 0.5), log_ratio=None)
    found = taut.audit(rollouts, target="reward", reward_range=(0, 1))
    assert 0 < found.upper - found.lower < 0.02


@pytest.mark.parametrize(
    ("settings", "error", "fragment"),
    [
        ({"log_ratio_max": 0.01}, taut.AssumptionError, "exceeds the declared maximum"),
        ({"beta": None, "target": "objective"}, taut.UsageError, "needs --beta"),
        ({"delta": 0.0}, taut.UsageError, "delta is 0"),
        ({"delta": 1.0}, taut.UsageError, "delta is 1"),
        ({"beta": -1.0}, taut.UsageError, "beta is -1"),
        ({"tau": -1.0}, taut.UsageError, "tau is -1"),
        ({"tau": "often"}, taut.UsageError, "'auto'"),
        ({"tau": None, "tau_negative": 1.0}, taut.UsageError, "tau_negative without tau"),
        ({"target": "all"}, taut.UsageError, "expected one of auto, reward"),
        ({"target": "clipped", "beta": None}, taut.UsageError, "'clipped' needs --beta"),
        ({"declare": "held-in"}, taut.UsageError, "expected any of held-out, complete"),
        ({"prompts": "some"}, taut.UsageError, "expected one of sample, list"),
        ({"prompts": "with-replacement"}, taut.LogError, "needs a column 'group'"),
        ({"gold_scale": (1.0, 0.0)}, taut.UsageError, "gold_scale without gold_range"),
        (
            {"gold_range": (0, 1), "gold_scale": (-1.0, 0.0)},
            taut.UsageError,
            "expected P > 0",
        ),
        ({"missing": "worst"}, taut.UsageError, "without launched"),
        ({"log_prob_noise": -0.1}, taut.UsageError, "log_prob_noise is -0.1"),
        ({"reward_range": (0.0, 0.1)}, taut.AssumptionError, "outside the declared range"),
        ({"method": "magic"}, taut.UsageError, "expected one of betting"),
        ({"side": "left"}, taut.UsageError, "expected one of both"),
        ({"reward_range": (1, 0)}, taut.UsageError, "LOW < HIGH"),
        ({"calibration": 1.0}, taut.UsageError, "calibration is 1"),
        ({"coverage": 2.0}, taut.UsageError, "both a declared coverage C and a reward MSE"),
        ({"reward_mse": 0.1}, taut.UsageError, "reward_mse without coverage"),
        ({"route": "gold"}, taut.UsageError, "needs gold labels on the audited"),
        ({"coverage": 0.5, "reward_mse": 0.1}, taut.UsageError, "coverage is 0.5"),
    ],
)
def test_contradictions_are_refused(settings, error, fragment):
    """What makes no sense, or what the data contradict, stops the audit with a reason."""
    options = {"beta": 0.1, "reward_range": (0, 1), **settings}
    with pytest.raises(error, match=fragment):
        taut.audit(columns(gold=None), **options)


def test_objectives_need_log_probs():
    """Without log-probs the message names the columns and the way out."""
    for target in ("objective", "clipped"):
        with pytest.raises(taut.LogError, match="--target reward"):
            taut.audit(columns(log_ratio=None), beta=0.1, reward_range=(0, 1), target=target)
    found = taut.audit(columns(log_ratio=None), target="reward", reward_range=(0, 1), **SAID)
    assert "needs log-probs" in found.targets["objective"].unavailable
    assert found.targets["objective"].lower is None
    assert found.status == "certified"


def test_ends_that_cross_are_an_error():
    """An objective above every possible reward is reported as a false assumption, not clipped."""
    rollouts = columns(n=500, reward=np.ones(500), gold=np.ones(500), log_ratio=np.full(500, -3.0))
    options = {"beta": 1.0, "reward_range": (0, 1), "tau": 4.0}
    with pytest.raises(taut.AssumptionError, match="lies above its upper end"):
        taut.audit(rollouts, target="objective", **options)
    clipped = taut.audit(rollouts, target="clipped", **options)
    assert clipped.targets["objective"].lower is None
    assert "above its upper end" in clipped.targets["objective"].unavailable


def test_paper_bound_is_theorem_one_on_all_prompts():
    """alpha, W alpha and the plug-in tail, by hand."""
    rollouts = columns(n=100, log_ratio=np.linspace(-1, 2, 100), gold=None)
    found = taut.audit(rollouts, beta=0.1, reward_range=(0, 2), tau=1.0, delta=0.05)
    alpha = 2 * math.sqrt(math.log(80) / 200)
    assert found.paper.alpha == pytest.approx(alpha, rel=1e-12)
    assert found.paper.sampling == pytest.approx(2 * (1 + 2 * 0.05 * 1.0) * alpha, rel=1e-12)
    tail = np.maximum(np.abs(np.linspace(-1, 2, 100)) - 1, 0).mean()
    assert found.paper.kl_clipping == pytest.approx(0.1 * tail, rel=1e-9)
    assert found.paper.total is None


def test_printing_shows_the_verdict():
    """print(certificate) shows the report; a notebook gets HTML."""
    world, rollouts = log()
    found = taut.audit(rollouts, beta=world.beta, reward_range=(0, 1), target="clipped")
    assert "measured" in str(found)
    assert "<table" in found._repr_html_()


def test_groups_never_make_draws_of_one_prompt():
    """A hundred groups of three prompts are three draws, held out or not."""
    rollouts = columns(
        n=300, prompt_id=np.arange(300) % 3, group=np.arange(300), step=np.arange(300) // 30
    )
    for said in ({}, SAID):
        found = taut.audit(rollouts, target="reward", reward_range=(0, 1), **said)
        assert (found.log.prompts, found.log.draws) == (3, 3)
        assert found.targets["reward"].upper - found.targets["reward"].lower > 0.5


def test_only_a_declared_replacement_tells_draws_apart_by_group():
    """A skewed prompt law, drawn anew each time: the mean of the population, and conditional."""
    rng = np.random.default_rng(0)
    prompt = np.where(rng.random(400) < 0.5, 0, rng.integers(1, 400, 400))
    rollouts = taut.Rollouts.from_arrays(
        prompt_id=prompt, group=np.arange(400), reward=(prompt == 0).astype(float)
    )
    found = taut.audit(rollouts, reward_range=(0, 1), prompts="with-replacement", **SAID)
    assert found.log.draws == 400
    assert found.log.prompts == len(np.unique(prompt))
    assert found.proxy.lower <= 0.5 <= found.proxy.upper
    assert found.proxy.status == "conditional"
    plain = taut.audit(rollouts, reward_range=(0, 1), **SAID)
    assert plain.log.draws == len(np.unique(prompt))
    # The frequent prompt counts once: this is another mean, that of distinct prompts.
    assert plain.proxy.upper < 0.5


def test_merging_prompts_of_unequal_frequency_gives_order_free_bounds():
    """A prompt with a hundred steps is one draw; draws differ in law and in K, which is a note."""
    prompt = np.r_[np.zeros(100, dtype=int), np.arange(1, 101)]
    step = np.r_[np.arange(100), np.zeros(100, dtype=int)]
    rollouts = taut.Rollouts.from_arrays(prompt_id=prompt, step=step, reward=(prompt == 0) * 1.0)
    found = taut.audit(rollouts, reward_range=(0, 1), **SAID)
    assert found.log.draws == 101
    assert found.proxy.lower <= 1 / 101 <= found.proxy.upper
    assert found.terms.sampling.source == "theory §2.5"
    assert taut.audit(rollouts, reward_range=(0, 1)).proxy.status == "estimated"


def test_unequal_rollouts_are_conditional_and_hold_a_gate_back():
    """Unequal K alone proves nothing: a note, conditional, and a gate asks for a word."""
    rollouts = columns(
        n=90, prompt_id=np.arange(90) // np.where(np.arange(90) < 45, 1, 3), log_ratio=None
    )
    found = taut.audit(rollouts, reward_range=(0, 1), declare="held-out")
    assert found.status == "conditional"
    (complete,) = [item for item in found.assumptions if item.name == "complete"]
    assert (complete.stands, complete.settled) == ("assumed", False)
    assert "--declare complete" in complete.by
    assert "--declare complete" in gate_refusal(found.assumptions)
    assert outcome(found.health, "rollouts_per_prompt").status == "note"
    said = taut.audit(rollouts, reward_range=(0, 1), **SAID)
    assert (said.status, gate_refusal(said.assumptions)) == ("certified", None)


def test_texts_decide_which_rows_share_a_prompt():
    """Ids made anew for each file: rows of one text are one draw all the same."""
    texts = [f"question {index % 20}" for index in range(200)]
    rollouts = columns(n=200, prompt=texts, log_ratio=None)
    found = taut.audit(rollouts, reward_range=(0, 1))
    assert (found.log.prompts, found.log.draws) == (20, 20)
    assert outcome(found.health, "same_text").status == "note"


def test_gold_outside_its_range_is_refused():
    """Cutting gold would change the target, so the range must hold for it."""
    rollouts = columns(gold=np.linspace(-5, 5, 60), log_ratio=None)
    with pytest.raises(taut.AssumptionError, match="54 gold labels lie outside"):
        taut.audit(rollouts, target="reward", reward_range=(0, 1))
    found = taut.audit(rollouts, target="reward", reward_range=(0, 1), gold_range=(-5, 5), **SAID)
    assert found.status == "certified"
    assert (found.certificate.units, found.certificate.range) == ("gold", (-5.0, 5.0))
    assert -5 <= found.lower < 0 < found.upper <= 5
    assert found.proxy.lower >= 0
    assert found.proxy.upper <= 1


def test_gold_keeps_its_units_beside_rewards_of_another_scale():
    """An accuracy of .24 beside rewards up to 100 is an accuracy, not 24 reward units."""
    rng = np.random.default_rng(0)
    gold = (rng.random(400) < 0.24) * 1.0
    rollouts = columns(n=400, reward=100 * rng.random(400), gold=gold)
    options = {"beta": 0.1, "reward_range": (0, 100), "gold_range": (0, 1)}
    found = taut.audit(rollouts, **options)
    assert (found.target, found.certificate.units) == ("reward", "gold")
    assert 0 <= found.lower <= 0.24 <= found.upper <= 0.4
    assert "--gold-scale" in found.targets["objective"].unavailable
    with pytest.raises(taut.UsageError, match="--gold-scale"):
        taut.audit(rollouts, target="clipped", **options)
    scaled = taut.audit(rollouts, target="clipped", gold_scale=(100.0, 0.0), **options)
    assert scaled.certificate.units == "reward"
    reward = scaled.targets["reward"]
    assert reward.units == "gold"
    assert 0 <= reward.lower <= 0.24 <= reward.upper <= 0.4


def test_a_range_that_cuts_much_of_the_estimate_off_is_refused():
    """All rewards outside their range say nothing; with gold they are a covariate alone."""
    rng = np.random.default_rng(0)
    reward = 50 + rng.random(200)
    options = {"reward_range": (0, 1), "gold_range": (0, 1), "target": "reward"}
    with pytest.raises(taut.AssumptionError, match="100% of the rewards lie outside"):
        taut.audit(columns(n=200, reward=reward, gold=None), **options)
    found = taut.audit(columns(n=200, reward=reward), **options)
    assert found.lower < 0.5 < found.upper
    assert found.measured.raw_reward == pytest.approx(reward.mean(), abs=0.2)
    assert outcome(found.health, "reward_range").status == "fail"


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize("gold", [None, "one", "same"])
def test_nothing_is_ever_not_a_number(side, gold):
    """Without clipping ranges are infinite; ends may be too, but are never NaN."""
    reward = np.random.default_rng(1).random(60)
    labels = {
        None: None,
        "one": np.where(np.arange(60) == 3, reward, math.nan),
        "same": reward,
    }[gold]
    for n in (1, 60):
        kept = None if labels is None or np.isnan(labels[:n]).all() else labels[:n]
        rollouts = columns(n=n, reward=reward[:n], gold=kept)
        for target in TARGETS:
            found = taut.audit(
                rollouts, beta=0.1, reward_range=(0, 1), tau=None, side=side, target=target
            )
            for item in (*found.terms, found.certificate, found.proxy):
                assert item.lower is None or math.isfinite(item.lower)
                assert item.upper is None or math.isfinite(item.upper)
            assert not math.isnan(found.lower)
            assert not math.isnan(found.upper)


@pytest.mark.parametrize("settings", [{"tau": 0.0}, {"tau": 0.0, "log_ratio_second_moment": 9.0}])
def test_clipping_at_zero_is_no_error(settings):
    """tau = 0 makes the cost a constant; the clipped objective is then the reward."""
    for gold in (None, np.full(60, 0.5)):
        found = taut.audit(
            columns(gold=gold), beta=0.1, reward_range=(0, 1), target="objective", **settings
        )
        assert found.lower <= found.upper
    expected = "conditional" if "log_ratio_second_moment" in settings else "estimated"
    assert found.status == expected


def test_declared_second_moments_are_held_against_the_log():
    """A second moment far below the log's own is refused, for any target."""
    with pytest.raises(taut.AssumptionError, match="beyond chance above the declared 1e-06"):
        taut.audit(
            columns(n=200), target="reward", reward_range=(0, 1), log_ratio_second_moment=1e-6
        )


def test_no_clipping_under_a_declared_maximum_is_conditional():
    """tau none with a maximum clips nothing that can occur; log-probs stay an assumption."""
    found = taut.audit(
        columns(), beta=0.1, reward_range=(0, 1), tau=None, log_ratio_max=30.0, **SAID
    )
    assert found.status == "conditional"
    assert found.tau == 30.0


def test_bernstein_of_a_single_draw_is_the_range():
    """One block has no variance; the interval is then the range."""
    found = taut.audit(
        columns(n=1, gold=None, log_ratio=None),
        target="reward",
        reward_range=(0, 1),
        method="bernstein",
    )
    assert (found.proxy.lower, found.proxy.upper) == (0.0, 1.0)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-4.0, 4.0), (0.1, 0.3), (1e-300, 2e-300)])
def test_rounding_never_leaves_what_holds_without_data(bounds):
    """Ends are rounded outward, but a reward of [-4, 4] is at most 4: a gate at 0 passes at 0."""
    low, high = bounds
    reward = low + (high - low) * np.array([0.0, 0.25, 1.0])
    rollouts = columns(n=3, reward=reward, gold=reward, log_ratio=None)
    for side in ("lower", "upper", "both"):
        found = taut.audit(rollouts, reward_range=bounds, side=side, **SAID)
        assert low <= found.lower < found.upper <= high
        assert found.certificate.range == bounds
        assert low <= found.proxy.lower < found.proxy.upper <= high
        for entry in found.routes:
            assert entry.lower is None or low <= entry.lower <= entry.upper <= high


def test_checking_twice_works():
    """taut.check stays a function after the modules behind it are loaded."""
    rollouts = columns()
    assert taut.check(rollouts) == taut.check(rollouts)


def test_rows_left_out_weaken_the_status():
    """A log with rows left out rests on their being left out blindly, and says so."""
    kept = columns()
    settings = {"reward_range": (0, 1), "target": "reward", "declare": "held-out,random-labels"}
    found = taut.audit(replace(kept, rejected_rows=3), **settings)
    assert found.status == "conditional"
    assert stands(found, "complete") == "assumed"
    assert "3 rows were left out of the log" in text(found)
    assert "3 rows were left out" in gate_refusal(found.assumptions)
    assert gate_refusal(taut.audit(kept, **settings).assumptions) is None
    said = taut.audit(replace(kept, rejected_rows=3), **{**settings, **SAID})
    assert (said.status, gate_refusal(said.assumptions)) == ("certified", None)

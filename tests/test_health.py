"""Health: each check passes on a sound log and speaks up on the defect it is for."""

import math

import numpy as np
import pytest

from taut.draws.assumptions import LOG_PROBS, RANDOM_LABELS, Standing
from taut.draws.declared import Declared
from taut.draws.design import design
from taut.draws.health import outcome
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, LogError
from taut.logs.origin import Origin

UNIT = (0.0, 1.0)


def sound_log(n=400, seed=0):
    """A log without defects: log-ratios of a normal tilt, E e^(-l) = 1, float64 log-probs."""
    rng = np.random.default_rng(seed)
    log_ratio = rng.normal(0.125, 0.5, n)
    policy = -50 - 10 * rng.random(n)
    return {
        "prompt_id": np.arange(n),
        "reward": rng.random(n),
        "policy_logprob": policy,
        "ref_logprob": policy - log_ratio,
        "gold": np.where(rng.random(n) < 0.5, rng.random(n), math.nan),
        "n_tokens": np.full(n, 60),
        "truncated": np.zeros(n, dtype=bool),
        "failed": np.zeros(n, dtype=bool),
        "step": np.zeros(n, dtype=int),
    }


def looked_at(columns, *, reward_range=UNIT, gold_range=UNIT, **said):
    rollouts = columns if isinstance(columns, Rollouts) else Rollouts.from_arrays(columns)
    declared = Declared(reward_range=reward_range, gold_range=gold_range, **said)
    return design(rollouts, declared)


def check(columns, name, **options):
    return outcome(looked_at(columns, **options).checks, name)


def test_a_sound_log_raises_no_alarm():
    """Nothing notes, warns or fails on a log without defects."""
    checks = looked_at(sound_log()).checks
    assert [item for item in checks if item.status in ("note", "warn", "fail")] == []


def with_(**changes):
    return {**sound_log(), **changes}


def without(*names):
    return {key: value for key, value in sound_log().items() if key not in names}


LOG = sound_log()
HALF = np.float16(LOG["policy_logprob"]).astype(float)
BRAIN = (LOG["policy_logprob"].astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
TEN = np.arange(400) % 10
# Where the defect is a matter of what rollouts of one prompt have in common.
GROUPED = np.repeat(np.arange(100), 4)
SUCCESS = (np.random.default_rng(1).random((400, 4)) < 0.5).astype(float)
MIXED = SUCCESS[(SUCCESS.min(axis=1) < SUCCESS.max(axis=1))][:300]

DEFECTS = [
    ("prompts", with_(prompt_id=np.arange(400) % 7), "warn"),
    ("recurring_prompts", with_(prompt_id=np.arange(400) // 2, step=np.arange(400) % 2), "note"),
    ("recurring_prompts", without("step"), "not_checked"),
    ("same_text", with_(prompt=[f"question {index // 2}" for index in range(400)]), "note"),
    ("same_text", with_(prompt=[f"question {index}" for index in range(400)]), "pass"),
    ("same_text", sound_log(), "not_checked"),
    ("groups", with_(prompt_id=TEN, group=np.arange(400)), "note"),
    ("groups", with_(prompt_id=GROUPED, group=np.zeros(400, dtype=int)), "pass"),
    ("groups", sound_log(), "not_checked"),
    ("rollouts_per_prompt", with_(prompt_id=np.arange(400) // 3), "note"),
    ("rollouts_per_prompt", with_(prompt_id=GROUPED), "pass"),
    (
        "chosen_by_reward",
        {"prompt_id": np.repeat(np.arange(300), 4), "reward": MIXED.ravel()},
        "fail",
    ),
    (
        "chosen_by_reward",
        {"prompt_id": np.repeat(np.arange(400), 4), "reward": SUCCESS.ravel()},
        "pass",
    ),
    ("chosen_by_reward", sound_log(), "not_checked"),
    ("failed", with_(failed=TEN == 0), "note"),
    ("failed", without("failed"), "not_checked"),
    (
        "duplicate_rows",
        {k: np.r_[v, v[:3]] for k, v in sound_log().items()},
        "note",
    ),
    ("reward_range", with_(reward=LOG["reward"] * 1.1), "warn"),
    ("reward_range", with_(reward=LOG["reward"] * 2), "fail"),
    (
        "labels_blind",
        with_(gold=np.where(LOG["reward"] > 0.6, LOG["reward"], math.nan)),
        "fail",
    ),
    ("labels_blind", without("gold"), "not_checked"),
    ("log_ratio_zero", with_(ref_logprob=LOG["policy_logprob"]), "warn"),
    (
        "log_ratio_zero",
        with_(ref_logprob=LOG["policy_logprob"] + (TEN == 0) * 0.01),
        "warn",
    ),
    (
        "kl_sign",
        with_(ref_logprob=LOG["policy_logprob"] + 0.125 + 0.1 * np.sin(np.arange(400))),
        "note",
    ),
    ("exp_minus_log_ratio", with_(ref_logprob=LOG["ref_logprob"] + 0.5), "warn"),
    ("exp_minus_log_ratio", with_(ref_logprob=LOG["ref_logprob"] + 1.5), "fail"),
    (
        "exp_minus_log_ratio",
        with_(behaviour_logprob=LOG["policy_logprob"] - 2 * (TEN < 5)),
        "fail",
    ),
    ("exp_minus_log_ratio", with_(behaviour_logprob=LOG["policy_logprob"]), "pass"),
    ("exp_minus_log_ratio", without("policy_logprob", "ref_logprob"), "not_checked"),
    ("positive_log_probs", with_(policy_logprob=LOG["policy_logprob"] + 60), "fail"),
    ("log_prob_per_token", with_(n_tokens=np.full(400, 4000)), "warn"),
    ("log_prob_per_token", without("n_tokens"), "not_checked"),
    ("precision", with_(policy_logprob=HALF), "warn"),
    ("precision", with_(policy_logprob=BRAIN.astype(float)), "warn"),
    ("truncated", with_(truncated=TEN == 0), "warn"),
    (
        "drift",
        with_(step=np.arange(400) // 100, reward=LOG["reward"] / 4 + np.arange(400) / 800),
        "note",
    ),
]


@pytest.mark.parametrize(
    ("name", "columns", "status"),
    DEFECTS,
    ids=[f"{name}-{status}-{index}" for index, (name, _, status) in enumerate(DEFECTS)],
)
def test_each_defect_is_found(name, columns, status):
    """The check that a defect is planted for reports it, and says what to do."""
    found = check(columns, name)
    assert found.status == status, found
    if status in ("warn", "fail"):
        assert found.remedy


@pytest.mark.parametrize("name", ["reward", "gold"])
def test_missing_range_is_a_warning(name):
    """A range read off the data is called out."""
    assert check(sound_log(), f"{name}_range", reward_range=None, gold_range=None).status == "warn"


def test_gold_outside_its_range_stops_the_look():
    """Clipping gold would change the target: an error, which says what to declare."""
    found = looked_at(with_(gold=LOG["gold"] + 0.01))
    with pytest.raises(AssumptionError, match="--gold-range"):
        found.units.unit_gold(found.rollouts.gold)


def test_a_file_that_says_it_dropped_draws_fails():
    """What a framework writes of itself needs no test."""
    log = Rollouts.from_arrays(prompt_id=GROUPED, reward=LOG["reward"])
    from dataclasses import replace

    told = replace(log, origin=Origin(format="nemo-rl", chosen=True))
    assert check(told, "chosen_by_reward").status == "fail"
    assert looked_at(told).assumptions["complete"].stands is Standing.VIOLATED
    assert check(log, "chosen_by_reward").status == "pass"


def test_declared_replacement_explains_groups():
    """Groups of recurring prompts pass where the user says how prompts were drawn."""
    columns = with_(prompt_id=TEN, group=np.arange(400))
    assert check(columns, "groups", prompts="with-replacement").status == "pass"


# --- honest logs are left alone -------------------------------------------------------------------


def skewed(rng, n=200):
    """Rare successes, a skewed log-ratio of mean below 0 in many samples, few random labels."""
    rare = rng.random(n) < 0.002
    log_ratio = np.where(rare, math.log(0.002 / 0.001), math.log(0.998 / 0.999))
    gold = np.where(rng.permutation(n) < 20, (rng.random(n) < 0.99) * 1.0, math.nan)
    return {
        "prompt_id": np.arange(n) // 4,
        "reward": (rng.random(n) < 0.99).astype(float),
        "log_ratio": log_ratio,
        "gold": gold,
    }


def test_honest_skewed_logs_are_not_accused():
    """Of 300 none is: at most one in a thousand may be, all checks together."""
    rng = np.random.default_rng(4)
    for _ in range(300):
        found = looked_at(skewed(rng))
        assert [item.name for item in found.assumptions.values() if item.doubted] == []
        assert not [item for item in found.checks if item.status == "fail"]


def test_honest_log_probs_with_noise_are_not_accused():
    """Engines differ by a tenth of a nat a sequence; that is no reason for doubt."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        log_ratio = rng.normal(0.5, 1.0, 300) + rng.normal(0, 0.1, 300)
        columns = {"prompt_id": np.arange(300), "reward": rng.random(300), "log_ratio": log_ratio}
        assert looked_at(columns).assumptions[LOG_PROBS].stands is Standing.ASSUMED


def test_constant_rewards_and_few_labels_are_not_accused():
    """Nothing can be compared where all rewards are one number."""
    rng = np.random.default_rng(6)
    for _ in range(60):
        gold = np.where(rng.permutation(300) < 20, 1.0, math.nan)
        columns = {"prompt_id": np.arange(300), "reward": np.ones(300), "gold": gold}
        assert looked_at(columns).assumptions[RANDOM_LABELS].stands is Standing.ASSUMED


def test_gold_on_the_best_of_k_is_seen():
    """Labels on the best rollout of every prompt are no random labels."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        reward = rng.random((150, 4))
        best = reward == reward.max(axis=1, keepdims=True)
        gold = np.where(best, reward, math.nan)
        columns = {"prompt_id": np.repeat(np.arange(150), 4), "reward": reward.ravel()}
        found = looked_at(columns | {"gold": gold.ravel()})
        assert found.assumptions[RANDOM_LABELS].stands is Standing.VIOLATED


# --- numbers at the edge --------------------------------------------------------------------------


def test_huge_negative_log_ratios_do_not_overflow():
    """A log-ratio of -10^4 nats gives a finite outcome."""
    columns = {"prompt_id": [1, 2], "reward": [0.0, 0.0], "log_ratio": [-1e4, 0.0]}
    found = looked_at(columns)
    assert "1e" in found.findings.log_probs.detail or not found.findings.log_probs.speaks


@pytest.mark.parametrize("name", ["reward", "log_ratio", "gold"])
def test_numbers_that_no_mean_can_hold_are_refused(name):
    """1e308 is a sentinel, not a measurement: the row and the column are named."""
    columns = {"prompt_id": [1, 2], "reward": [0.0, 0.5], "log_ratio": [0.0, 0.1], "gold": [0, 1]}
    columns[name] = [0.1, -1e308]
    with pytest.raises(LogError, match=f"row 1: '{name}' is -1e\\+308"):
        looked_at(columns)

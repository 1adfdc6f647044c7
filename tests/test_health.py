"""Health: each check passes on a sound log and speaks up on the defect it is for."""

import math

import numpy as np
import pytest

from taut.draws.health import check_health, log_e_value, outcome
from taut.draws.rollouts import Rollouts


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
        "step": np.zeros(n, dtype=int),
    }


def check(columns, name, *, reward_range=(0.0, 1.0), **options):
    rollouts = Rollouts.from_arrays(columns)
    checks = check_health(
        rollouts,
        rollouts.blocks(0),
        reward_range=reward_range,
        gold_range=reward_range,
        **options,
    )
    return outcome(checks, name)


def test_a_sound_log_raises_no_alarm():
    """Nothing warns or fails on a log without defects."""
    rollouts = Rollouts.from_arrays(sound_log())
    checks = check_health(
        rollouts, rollouts.blocks(0), reward_range=(0.0, 1.0), gold_range=(0.0, 1.0)
    )
    assert [item for item in checks if item.status in ("warn", "fail")] == []


def with_(**changes):
    return {**sound_log(), **changes}


def without(*names):
    return {key: value for key, value in sound_log().items() if key not in names}


LOG = sound_log()
HALF = np.float16(LOG["policy_logprob"]).astype(float)
BRAIN = (LOG["policy_logprob"].astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

DEFECTS = [
    ("prompts", with_(prompt_id=np.arange(400) % 7), "warn"),
    ("recurring_prompts", with_(prompt_id=np.arange(400) // 2, step=np.arange(400) % 2), "warn"),
    ("recurring_prompts", without("step"), "not_checked"),
    ("repeated_draws", with_(prompt_id=np.arange(400) % 10, group=np.arange(400)), "fail"),
    (
        "repeated_draws",
        with_(prompt_id=np.random.default_rng(0).integers(0, 10, 400), group=np.arange(400)),
        "pass",
    ),
    ("rollouts_per_prompt", with_(prompt_id=np.arange(400) // 3), "warn"),
    (
        "duplicate_rows",
        {k: np.r_[v, v[:3]] for k, v in sound_log().items()},
        "warn",
    ),
    ("reward_range", with_(reward=LOG["reward"] * 1.1), "warn"),
    ("reward_range", with_(reward=LOG["reward"] * 2), "fail"),
    ("gold_range", with_(gold=LOG["gold"] + 0.01), "warn"),
    (
        "labels_blind",
        with_(gold=np.where(LOG["reward"] > 0.6, LOG["reward"], math.nan)),
        "fail",
    ),
    ("labels_blind", without("gold"), "not_checked"),
    ("log_ratio_zero", with_(ref_logprob=LOG["policy_logprob"]), "warn"),
    (
        "log_ratio_zero",
        with_(ref_logprob=LOG["policy_logprob"] + (np.arange(400) % 10 == 0) * 0.01),
        "warn",
    ),
    (
        "kl_sign",
        with_(ref_logprob=LOG["policy_logprob"] + 0.125 + 0.1 * np.sin(np.arange(400))),
        "fail",
    ),
    ("exp_minus_log_ratio", with_(ref_logprob=LOG["ref_logprob"] + 0.5), "fail"),
    ("exp_minus_log_ratio", without("policy_logprob", "ref_logprob"), "not_checked"),
    ("positive_log_probs", with_(policy_logprob=LOG["policy_logprob"] + 60), "fail"),
    ("log_prob_per_token", with_(n_tokens=np.full(400, 4000)), "warn"),
    ("log_prob_per_token", without("n_tokens"), "not_checked"),
    ("precision", with_(policy_logprob=HALF), "warn"),
    ("precision", with_(policy_logprob=BRAIN.astype(float)), "warn"),
    ("truncated", with_(truncated=np.arange(400) % 10 == 0), "warn"),
    (
        "drift",
        with_(step=np.arange(400) // 100, reward=LOG["reward"] / 4 + np.arange(400) / 800),
        "warn",
    ),
]


@pytest.mark.parametrize(("name", "columns", "status"), DEFECTS)
def test_each_defect_is_found(name, columns, status):
    """The check that a defect is planted for reports it, and says what to do."""
    found = check(columns, name)
    assert found.status == status
    if status in ("warn", "fail"):
        assert found.remedy


def test_missing_range_is_a_warning():
    """A reward range read off the data is called out."""
    assert check(sound_log(), "reward_range", reward_range=None).status == "warn"


def test_declared_held_out_prompts_may_recur():
    """Recurring prompts pass where the caller declares them held out."""
    columns = with_(prompt_id=np.arange(400) // 2, step=np.arange(400) % 2)
    assert check(columns, "recurring_prompts", held_out=True).status == "pass"


def test_e_value_rarely_alarms_on_honest_log_probs():
    """Against true E e^(-l) = 1, an e-value of 20 comes up in at most 5% of logs."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        log_ratio = rng.normal(0.5, 1.0, 60)
        rollouts = Rollouts.from_arrays(prompt_id=np.arange(60), reward=np.zeros(60))
        alarms += log_e_value(log_ratio, rollouts.blocks(0)) >= math.log(20)
    assert alarms <= 20


def test_huge_negative_log_ratios_do_not_overflow():
    """A log-ratio of -10^4 nats gives an enormous, finite e-value."""
    rollouts = Rollouts.from_arrays(prompt_id=[1, 2], reward=[0.0, 0.0])
    assert math.isfinite(log_e_value(np.array([-1e4, 0.0]), rollouts.blocks(0)))

"""Worlds are the judge of every certificate: their truths are checked against brute force."""

import json
import math
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from check import assert_misses_at_most, blocks_of, misses_more_than
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, LogError, TautError, UsageError
from taut.worlds import (
    FAMILIES,
    expected,
    log_ratio_quantile,
    random_world,
    sample_rollouts,
    simulate,
    truth,
)

ALL = sorted(FAMILIES)
seeds = st.integers(0, 2**32 - 1)


def make(name, seed=0):
    return FAMILIES[name](np.random.default_rng(seed))


def sample(world, prompts, seed=1, **options):
    return sample_rollouts(world, prompts, rng=np.random.default_rng(seed), **options)


def brute_force(world, value):
    """E_theta of value(prompt, response), by a plain loop."""
    return math.fsum(
        world.prompt_probability[x] * world.policy[x, y] * value(x, y)
        for x in range(world.policy.shape[0])
        for y in range(world.policy.shape[1])
        if world.policy[x, y] > 0
    )


@pytest.mark.parametrize("name", ALL)
def test_truth_equals_a_plain_loop(name):
    """Objective, clipped objective and tails are the sums that their definitions say."""
    world = make(name)
    exact = truth(world, 0.7, 0.3)

    def ratio(x, y):
        return math.log(world.policy[x, y]) - math.log(world.reference[x, y])

    def clipped(x, y):
        return min(max(ratio(x, y), -0.3), 0.7)

    by_hand = {
        "objective": lambda x, y: world.gold[x, y] - world.beta * ratio(x, y),
        "clipped": lambda x, y: world.gold[x, y] - world.beta * clipped(x, y),
        "proxy_clipped": lambda x, y: world.reward[x, y] - world.beta * clipped(x, y),
        "tail": lambda x, y: max(ratio(x, y) - 0.7, 0),
        "tail_negative": lambda x, y: max(-ratio(x, y) - 0.3, 0),
        "log_ratio_second_moment": lambda x, y: ratio(x, y) ** 2,
    }
    for field, value in by_hand.items():
        assert getattr(exact, field) == pytest.approx(brute_force(world, value), abs=1e-12), field


@given(seed=seeds, tau=st.floats(0, 5), tau_negative=st.floats(0, 5))
@settings(max_examples=100, deadline=None)
def test_identities_of_the_theory_hold_in_random_worlds(seed, tau, tau_negative):
    """Decomposition, E e^-l <= 1, the free negative side and C sqrt(L) hold in every world."""
    world = random_world(np.random.default_rng(seed))
    exact = truth(world, tau, tau_negative)
    shift = exact.proxy_reward - exact.reward
    clipping = world.beta * (exact.kl - exact.clipped_kl)
    assert exact.proxy_clipped - exact.objective == pytest.approx(shift + clipping, abs=1e-12)
    assert exact.kl - exact.clipped_kl == pytest.approx(exact.tail - exact.tail_negative, abs=1e-12)
    assert exact.mean_inverse_ratio <= 1 + 1e-12
    assert exact.tail_negative <= math.exp(-1 - tau_negative) + 1e-12
    assert exact.kl >= -1e-12
    assert abs(shift) <= exact.coverage * math.sqrt(exact.reward_mse) + 1e-12


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_no_threshold_means_no_clipping(seed):
    """Without tau the clipped objective is the objective and both tails vanish."""
    exact = truth(random_world(np.random.default_rng(seed)))
    assert exact.clipped == exact.objective
    assert exact.tail == exact.tail_negative == 0


@given(seed=seeds, probability=st.floats(0.001, 1))
@settings(max_examples=100, deadline=None)
def test_a_quantile_is_the_smallest_value_that_holds_enough_mass(seed, probability):
    """P(l <= q) >= p at the quantile q, and below it less."""
    world = random_world(np.random.default_rng(seed))
    q = log_ratio_quantile(world, probability)
    assert expected(world, world.log_ratio <= q) >= probability - 1e-9
    assert expected(world, world.log_ratio < q) < probability + 1e-9


@pytest.mark.parametrize("name", ALL)
def test_sampled_block_means_have_the_true_mean(name):
    """Means over blocks of r-hat, r* and the log-ratio lie within 4.5 standard errors of truth."""
    world = make(name)
    exact = truth(world)
    rollouts = sample(world, 20_000, gold_rows=1.0)
    blocks = blocks_of(rollouts, mode="with-replacement" if world.recurring else "sample")
    assert len(blocks) == 20_000
    for values, true in (
        (rollouts.reward, exact.proxy_reward),
        (rollouts.gold, exact.reward),
        (rollouts.log_ratio, exact.kl),
    ):
        means = blocks.means(values)
        error = means.std(ddof=1) / math.sqrt(len(means))
        assert abs(means.mean() - true) <= 4.5 * error + 1e-12


def test_sampled_responses_follow_the_policy():
    """Frequencies of (prompt, response) pass an exact-law chi-square test."""
    world = make("tied_weights")
    # Lengths replaced by a running number show which cell was drawn.
    cell = np.arange(world.policy.size).reshape(world.policy.shape)
    rollouts = sample(replace(world, n_tokens=cell), 40_000, per_prompt=1)
    counts = np.bincount(rollouts.n_tokens, minlength=cell.size)
    assert stats.chisquare(counts, world.joint.ravel() * 40_000).pvalue > 1e-3


def test_responses_of_probability_zero_are_never_drawn():
    """A response without mass does not appear, wherever in the row it stands."""
    world = make("coin")
    policy = np.array([[0.0, 1.0], [1.0, 0.0]])
    world = replace(world, policy=policy, reference=policy, gold=policy, reward=policy)
    assert np.all(sample(world, 50_000).reward == 1)


def test_rollouts_per_prompt_follow_the_law_of_the_prompt():
    """Easy prompts get 6 or 8 rollouts, hard ones 1 or 2; a fixed K overrides that."""
    world = make("unequal_rollouts")
    assert set(blocks_of(sample(world, 2000)).sizes) == {1, 2, 6, 8}
    assert set(blocks_of(sample(world, 2000, per_prompt=3)).sizes) == {3}
    assert sample(world, 20_000).reward.size / 20_000 == pytest.approx(
        world.expected_rollouts, abs=0.15
    )


def test_recurring_prompts_are_draws_where_replacement_is_declared():
    """Five prompt ids, a thousand draws: five blocks, or a thousand where the user says so."""
    rollouts = sample(make("repeated_prompts"), 1000)
    assert len(np.unique(rollouts.prompt)) == 5
    assert len(blocks_of(rollouts)) == 5
    assert len(blocks_of(rollouts, mode="with-replacement")) == 1000


def test_logs_alone_carry_no_log_probs_of_a_policy_that_did_not_sample():
    """The behaviour policy of reward data stands beside rows only where weights are asked for."""
    assert sample(make("coin"), 10).behaviour_logprob is None
    assert sample(make("coin"), 10, weights=True).behaviour_logprob is not None


def test_gold_labels_cover_whole_prompts_or_random_rows():
    """`gold_prompts` labels all rows of that many draws; `gold_rows` labels rows one by one."""
    world = make("calibrated")
    rollouts = sample(world, 500, gold_prompts=120)
    labelled = blocks_of(rollouts).means(np.isfinite(rollouts.gold).astype(float))
    assert set(labelled) == {0.0, 1.0}
    assert labelled.sum() == 120
    rows = np.isfinite(sample(world, 2000, gold_rows=0.3).gold)
    assert rows.mean() == pytest.approx(0.3, abs=0.03)
    assert sample(world, 10).gold is None


def test_which_rows_are_labelled_is_blind_to_outcomes():
    """The labelled rows have the same mean gold as all rows, up to noise."""
    world = make("poor_reward_model")
    gold = sample(world, 40_000, gold_rows=0.5).gold
    gold = gold[np.isfinite(gold)]
    assert abs(gold.mean() - truth(world).reward) < 4.5 * gold.std() / math.sqrt(40_000 * 0.5)


def test_the_same_generator_gives_the_same_world_and_sample():
    """Chance comes from the Generator alone."""
    one, two = (sample(make("random", 3), 50, weights=True) for _ in range(2))
    for name in ("prompt", "reward", "log_ratio", "behaviour_logprob"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_sampling_a_thousand_prompts_takes_under_two_milliseconds():
    """Fast enough for hundreds of thousands of audits; the best of 20 tries is timed."""
    world, rng = make("repeated_prompts"), np.random.default_rng(0)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        sample_rollouts(world, 1000, 1, rng=rng, gold_prompts=100)
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3


def test_families_have_the_trait_they_are_named_after():
    """Each family is hard in the way that its name promises."""
    exact = {name: truth(make(name)) for name in ALL}
    assert abs(exact["calibrated"].proxy_reward - exact["calibrated"].reward) < 1e-12
    assert exact["over_optimised"].proxy_reward > exact["over_optimised"].reward + 0.2
    assert exact["heavy_tailed"].log_ratio_max > 50
    assert exact["rare_failures"].reward == pytest.approx(0.98)
    assert exact["uncovered_support"].chi_square == math.inf
    assert exact["uncovered_support"].reward_mse < 1e-3
    assert len(np.unique(make("tied_weights").log_ratio.round(12))) == 2
    assert exact["coin"].reward == pytest.approx(0.5)
    world = make("kl_optimal")
    value = world.reward - world.beta * world.log_ratio
    assert np.ptp(value, axis=1).max() < 1e-12
    world = make("poor_reward_model")
    assert np.corrcoef(world.reward.ravel(), world.gold.ravel())[0, 1] < -0.5


def test_uncovered_responses_have_a_finite_behaviour_logprob():
    """A log holds finite numbers, even where the behaviour policy has no mass."""
    logprob = sample(make("uncovered_support"), 500, weights=True).behaviour_logprob
    assert np.all(np.isfinite(logprob))
    assert logprob.min() == -300


def test_impossible_worlds_are_refused():
    """Laws that do not sum to one, rewards off [0, 1] and infinite log-ratios are errors."""
    world = make("coin")
    with pytest.raises(AssumptionError, match="not a probability law"):
        replace(world, policy=world.policy * 2)
    with pytest.raises(AssumptionError, match="leaves"):
        replace(world, gold=world.gold + 1)
    with pytest.raises(AssumptionError, match="infinite"):
        replace(world, reference=np.array([[1.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(AssumptionError, match="shape"):
        replace(world, gold=world.gold[:1])


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": 0},
        {"prompts": 5, "per_prompt": 0},
        {"prompts": 5, "gold_prompts": 6},
        {"prompts": 5, "gold_rows": 1.5},
    ],
)
def test_impossible_samples_are_refused(options):
    """A count or share out of range is an error, not an empty log."""
    with pytest.raises(UsageError):
        sample_rollouts(make("coin"), rng=np.random.default_rng(0), **options)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", ["repeated_prompts", "calibrated"])
def test_simulate_writes_what_sampling_draws(tmp_path, name, suffix):
    """The log holds the rollouts that `sample_rollouts` gives with the documented seeds."""
    path = tmp_path / f"log.{suffix}"
    simulate(name, path, prompts=60, gold=20, seed=7)
    if suffix == "parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    columns["gold"] = [math.nan if value is None else value for value in columns["gold"]]
    read = Rollouts.from_arrays(columns)
    world = FAMILIES[name](np.random.default_rng(7))
    drawn = sample_rollouts(world, 60, rng=np.random.default_rng([7, 1]), gold_prompts=20)
    for key in ("prompt", "reward", "gold", "policy_logprob", "n_tokens"):
        np.testing.assert_array_equal(getattr(read, key), getattr(drawn, key))
    np.testing.assert_allclose(read.log_ratio, drawn.log_ratio, atol=1e-12)
    assert (read.group is None) == (drawn.group is None)
    mode = "sample" if read.group is None else "with-replacement"
    assert len(blocks_of(read, mode=mode)) == 60


def test_simulate_writes_the_truth_beside_the_log(tmp_path):
    """The truth file names the settings of a matching audit, and infinities are null."""
    path = simulate("uncovered_support", tmp_path / "log.parquet", prompts=20, seed=2)
    assert path == tmp_path / "log.parquet.truth.json"
    document = json.loads(path.read_text())
    world = make("uncovered_support", 2)
    exact = truth(world)
    assert document["truth"]["objective"] == exact.objective
    assert document["truth"]["tau"] is None
    assert document["settings"]["beta"] == world.beta
    assert document["settings"]["coverage"] is None
    assert document["settings"]["reward_range"] == [0, 1]
    for row in document["clipped_by_tau"]:
        assert row["clipped"] == truth(world, row["tau"]).clipped


def test_a_log_without_labels_has_no_gold_column(tmp_path):
    """Labels are absent rather than all null."""
    simulate("coin", tmp_path / "log.parquet", prompts=5)
    assert "gold" not in pq.read_schema(tmp_path / "log.parquet").names


def test_simulate_gives_the_same_bytes_for_the_same_seed(tmp_path):
    """Log and truth are reproducible to the byte."""
    names = ("a.parquet", "a.jsonl")
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        for name in names:
            simulate("random", folder / name, prompts=30, gold=10, seed=4)
    for name in [*names, "a.parquet.truth.json", "a.jsonl.truth.json"]:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "output", "options", "error"),
    [
        ("nowhere", "log.parquet", {}, UsageError),
        ("coin", "log.csv", {}, UsageError),
        ("coin", "missing/log.parquet", {}, LogError),
        ("coin", "log.parquet", {"prompts": 0}, UsageError),
        ("coin", "log.parquet", {"prompts": 5, "gold": 6}, UsageError),
    ],
)
def test_simulate_refuses_and_leaves_nothing_behind(tmp_path, name, output, options, error):
    """A request that cannot be met is a TautError and writes no file."""
    with pytest.raises(error) as caught:
        simulate(name, tmp_path / output, **options)
    assert isinstance(caught.value, TautError)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    """If writing stops half-way, neither the log nor a temporary file remains."""

    def broken(path, columns):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("taut.worlds.sample._write_jsonl", broken)
    with pytest.raises(OSError, match="disk full"):
        simulate("coin", tmp_path / "log.jsonl", prompts=5)
    assert list(tmp_path.iterdir()) == []


def test_miss_check_is_exact_at_its_edge():
    """The check accuses at the smallest count of misses that chance exceeds at most 0.1%."""
    for trials, delta in ((2000, 0.05), (300, 0.2)):
        edge = next(m for m in range(trials) if misses_more_than(m, trials, delta))
        law = stats.binom(trials, delta)
        assert law.sf(edge - 1) <= 1e-3 < law.sf(edge - 2)
        assert_misses_at_most(edge - 1, trials, delta)
        with pytest.raises(AssertionError, match="miss rate is above"):
            assert_misses_at_most(edge, trials, delta)


def test_miss_check_has_the_power_it_claims():
    """2,000 trials at delta = 0.05 reject a true miss rate of 7.5% with probability 0.94."""
    edge = next(m for m in range(2000) if misses_more_than(m, 2000, 0.05))
    assert stats.binom(2000, 0.075).sf(edge - 1) == pytest.approx(0.94, abs=0.01)


def test_miss_check_refuses_to_judge_nothing():
    """Zero trials are no evidence of validity."""
    with pytest.raises(AssertionError, match="nothing was tried"):
        assert_misses_at_most(0, 0, 0.05)

"""A calibration is graded only as far as a probe can tell, and certified where it need not hold."""

import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check import assert_misses_at_most, misses_more_than
from taut.bounds.sampling import block_interval, normal_interval
from taut.decisions.transport.isotonic import fit_isotonic
from taut.decisions.transport.result import TransportState
from taut.decisions.transport.transport import audit_transport
from taut.decisions.transport.verdict import fewest_prompts, grade
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, UsageError
from taut.types import Interval, Status
from taut.worlds import FAMILIES, expected, sample_reward_data, sample_rollouts, truth

ARENA = Path(__file__).parent.parent.parent / "shared/data/arena"
SCORES = np.linspace(0.1, 0.9, 9)


def _rows(prefix, n, rng, *, labelled=None, shift=0.0, mean=lambda s: s):
    """One rollout a prompt: a score, and gold that is 0 or 1 with mean `mean(score) + shift`."""
    score = rng.choice(SCORES, n)
    gold = (rng.random(n) < np.clip(mean(score) + shift, 0, 1)).astype(float)
    if labelled is not None:
        gold[labelled:] = np.nan  # prompts are exchangeable, so the first are a random subset
    return Rollouts.from_arrays(
        prompt_id=[f"{prefix}{i}" for i in range(n)], reward=score, gold=gold
    )


def _cases(n, probe, *, shift=0.0, margin=0.1, seed=0, **options):
    rng = np.random.default_rng(seed)
    data = _rows("data", 2000, rng)
    return audit_transport(
        _rows("audit", n, rng, labelled=probe, shift=shift),
        data,
        gold_range=(0, 1),
        margin=margin,
        **options,
    )


# --- isotonic regression -------------------------------------------------------------------------


def _brute_isotonic(x, y, w):
    """Best non-decreasing fit, by trying every way to cut the distinct x into runs."""
    knots = np.unique(x)
    best, fit = math.inf, None
    for cuts in product([False, True], repeat=len(knots) - 1):
        runs = np.r_[0, np.cumsum(np.array(cuts, dtype=int))]
        run = runs[np.searchsorted(knots, x)].astype(np.int64)
        means = np.bincount(run, w * y) / np.bincount(run, w)
        loss = float((w * (y - means[run]) ** 2).sum())
        if np.all(np.diff(means) >= 0) and loss < best - 1e-15:
            best, fit = loss, means[runs.astype(np.int64)]
    return fit


@pytest.mark.parametrize("seed", range(30))
def test_isotonic_is_the_best_monotone_fit(seed):
    """On small inputs with ties and weights the fit equals the best over all partitions."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 9)
    x, y, w = rng.integers(0, 6, n) / 5, rng.random(n), rng.uniform(0.1, 3, n)
    np.testing.assert_allclose(fit_isotonic(x, y, w).values, _brute_isotonic(x, y, w), atol=1e-12)


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda v: v / 4),
        st.floats(0, 1, allow_subnormal=False),
        st.floats(0.01, 10),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(_ROWS, st.randoms(use_true_random=False))
def test_isotonic_properties(rows, random):
    """The fit never decreases, keeps the weighted mean and the range, and ignores row order."""
    x, y, w = map(np.array, zip(*rows, strict=True))
    g = fit_isotonic(x, y, w)
    grid = np.linspace(x.min() - 1, x.max() + 1, 60)
    assert np.all(np.diff(g(grid)) >= 0)
    assert np.average(g(x), weights=w) == pytest.approx(np.average(y, weights=w), abs=1e-9)
    assert y.min() - 1e-12 <= g.values.min() and g.values.max() <= y.max() + 1e-12
    random.shuffle(rows)
    again = fit_isotonic(*map(np.array, zip(*rows, strict=True)))
    assert again.values.tobytes() == g.values.tobytes()


def test_equal_scores_get_one_value():
    """Rows that share a score cannot be told apart: they get their common mean."""
    g = fit_isotonic(np.array([0.5, 0.5, 0.5]), np.array([0.0, 1.0, 0.5]))
    assert g(np.array([0.0, 0.5, 1.0])) == pytest.approx([0.5, 0.5, 0.5])


# --- grading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lower", "upper", "state"),
    [
        (-0.05, 0.09, "PASS"),
        (-0.1, 0.1, "PASS"),
        (0.101, 0.3, "FAIL"),
        (-0.3, -0.11, "FAIL"),
        (-0.05, 0.11, "INCONCLUSIVE"),
        (0.09, 0.2, "INCONCLUSIVE"),
        (-0.2, 0.2, "INCONCLUSIVE"),
    ],
)
def test_state_follows_from_interval_and_margin(lower, upper, state):
    """Inside is PASS, outside on one side FAIL, else INCONCLUSIVE; the margin is inside."""
    found = grade(Interval(lower, upper), margin=0.1, delta=0.05, prompts=1000, width=2.0)
    assert found.state == state


def test_too_few_prompts_are_never_graded():
    """An interval within the margin is not a PASS where no data of that size could pass."""
    found = grade(Interval(-0.01, 0.01), margin=0.1, delta=0.05, prompts=10, width=2.0)
    assert found.state is TransportState.NOT_GRADED
    assert found.fewest_prompts == 36 and "label at least 36" in found.detail
    ungraded = grade(Interval(-0.01, 0.01), margin=None, delta=0.05, prompts=1000, width=2.0)
    assert ungraded.state is TransportState.NOT_GRADED


def _interval(x, delta=0.05):
    return block_interval(
        x, low=-1.0, high=1.0, delta_lower=delta / 2, delta_upper=delta / 2, method="betting"
    )


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.3])
def test_fewest_prompts_is_a_true_limit_and_near(margin):
    """Below it no residuals keep within the margin; perfect ones do a few prompts above."""
    least = fewest_prompts(margin, 0.05)
    rng = np.random.default_rng(0)
    tries = [np.full(least - 1, c) for c in np.linspace(-0.02, 0.02, 21)]
    tries += [rng.uniform(-s, s, least - 1) for s in (0.01, 0.1, 1.0) for _ in range(10)]
    for x in tries:
        found = _interval(x)
        assert not (found.lower >= -margin and found.upper <= margin)
    found = _interval(np.zeros(math.ceil(1.1 * least) + 2))
    assert found.lower >= -margin and found.upper <= margin


@pytest.mark.parametrize(("probe", "shift"), [(1, 0.0), (5, 0.0), (20, 0.0), (5, -0.5)])
def test_tiny_probe_is_not_graded(probe, shift):
    """A handful of labels is not enough for a verdict, whatever they say."""
    assert _cases(400, probe, shift=shift, margin=0.05).state is TransportState.NOT_GRADED


@pytest.mark.parametrize(
    ("probe", "shift", "state"),
    [(1500, 0.0, "PASS"), (1500, -0.3, "FAIL"), (200, -0.1, "INCONCLUSIVE")],
)
def test_states_with_enough_labels(probe, shift, state):
    """A calibration that holds passes, one that is far off fails, one at the margin is open."""
    assert _cases(2000, probe, shift=shift).state == state


def test_large_probes_nearly_always_decide():
    """At 1500 labels a sound calibration passes and one twice the margin off fails."""
    sound = [_cases(1500, 1500, seed=s).state for s in range(20)]
    broken = [_cases(1500, 1500, seed=s, shift=-0.2).state for s in range(20)]
    assert sound.count(TransportState.PASS) >= 19
    assert broken.count(TransportState.FAIL) >= 19


# --- validity ------------------------------------------------------------------------------------


def _wrong_passes(probe, trials, delta, mean_interval=None):
    """Count passes where all reward data succeed and one audited rollout in nine fails (0.11)."""
    rng = np.random.default_rng(probe)
    data = _rows("data", 60, rng, mean=np.ones_like)  # g = 1, so E[r* - g] = -0.11 exactly
    wrong = 0
    for _ in range(trials):
        audited = _rows("audit", probe, rng, mean=np.ones_like, shift=-0.11)
        if mean_interval is None:
            found = audit_transport(audited, data, gold_range=(0, 1), margin=0.1, delta=delta)
            wrong += found.state is TransportState.PASS
        else:
            interval = mean_interval(audited.gold - 1.0)
            wrong += interval.lower >= -0.1 and interval.upper <= 0.1
    return wrong


@pytest.mark.parametrize(("probe", "delta"), [(20, 0.05), (30, 0.2), (60, 0.05), (200, 0.2)])
def test_wrong_passes_are_rarer_than_delta(probe, delta):
    """With rare failures just beyond the margin, at most a fraction delta of probes pass."""
    trials = 300
    wrong = _wrong_passes(probe, trials, delta)
    assert_misses_at_most(wrong, trials, delta, "PASS beyond the margin")


@pytest.mark.parametrize(("probe", "side"), [(40, 1), (40, -1), (300, 1), (300, -1)])
def test_verdicts_at_the_margin_are_rarely_wrong(probe, side):
    """A drift a hair beyond the margin rarely passes, and a hair within it rarely fails."""
    rng, delta, trials, drift = np.random.default_rng(probe), 0.2, 150, -0.2
    data = _rows("data", 1000, rng)
    g = fit_isotonic(data.reward, data.gold)
    distance = abs(np.mean(np.clip(SCORES + drift, 0, 1) - g(SCORES)))
    wrong = TransportState.PASS if side > 0 else TransportState.FAIL
    count = 0
    for _ in range(trials):
        found = audit_transport(
            _rows("audit", probe, rng, shift=drift),
            data,
            gold_range=(0, 1),
            margin=distance - side * 1e-4,
            delta=delta,
        )
        assert found.state is not TransportState.NOT_GRADED
        count += found.state is wrong
    assert_misses_at_most(count, trials, delta, f"{wrong} at the margin")


def test_the_check_rejects_a_normal_interval():
    """The same check catches grading by mean and standard error: it passes 14% at 30 labels."""
    wrong = _wrong_passes(30, 600, 0.05, lambda x: normal_interval(x, 0.025, 0.025))
    assert misses_more_than(wrong, 600, 0.05)


@pytest.mark.parametrize("family", ["over_optimised", "uncovered_support", "rare_failures"])
@pytest.mark.parametrize("weight", [None, 1.0])
def test_both_intervals_rarely_miss(family, weight):
    """In worlds where the calibration is wrong on the policy, both intervals keep their level."""
    rng, delta, trials = np.random.default_rng(3), 0.2, 150
    world = FAMILIES[family](np.random.default_rng(0))
    target = truth(world).reward
    missed = outside = 0
    for _ in range(trials):
        data = sample_reward_data(world, 80, 1, rng=rng, gold_prompts=80)
        audited = sample_rollouts(world, 150, 2, rng=rng, gold_prompts=40)
        found = audit_transport(
            audited, data, gold_range=(0, 1), margin=0.1, delta=delta, weight=weight
        )
        residual = expected(world, world.gold - found.calibration.g(world.reward))
        missed += not found.certificate.lower <= target <= found.certificate.upper
        outside += not found.residual.lower <= residual <= found.residual.upper
    assert_misses_at_most(missed, trials, delta, "certified")
    assert_misses_at_most(outside, trials, delta, "residual")


def _paired(n, rng, *, probe):
    """Both logs on the same prompts; a prompt's own ease moves its score and both its labels."""
    ease, ids = rng.normal(0, 0.2, n), [f"p{i}" for i in range(n)]

    def rows(labels):
        score = np.clip(0.5 + ease + rng.normal(0, 0.05, n), 0, 1)
        gold = (rng.random(n) < np.clip(0.5 + 2 * ease, 0, 1)).astype(float)
        return Rollouts.from_arrays(
            prompt_id=ids, reward=score, gold=np.where(np.arange(n) < labels, gold, np.nan)
        )

    return rows(probe), rows(n)


@pytest.mark.parametrize("weight", [None, 1.0])
def test_shared_prompts_do_not_hurt(weight):
    """Where both logs have the same prompts the certified interval still holds: E r* is 0.5."""
    rng, delta, trials = np.random.default_rng(7), 0.2, 200
    missed = 0
    for _ in range(trials):
        found = audit_transport(
            *_paired(120, rng, probe=40), gold_range=(0, 1), delta=delta, weight=weight
        )
        assert found.shared == "split"
        missed += not found.certificate.lower <= 0.5 <= found.certificate.upper
    assert_misses_at_most(missed, trials, delta, "certified on shared prompts")


def test_no_certifying_prompt_touches_the_calibration():
    """Labels of the probe, and reward data on its prompts, leave g and the plan as they were."""
    audited, data = _paired(200, np.random.default_rng(1), probe=60)
    first = audit_transport(audited, data, gold_range=(0, 1))
    probe = ~np.isnan(audited.gold)
    touched = audit_transport(
        Rollouts(
            prompt=audited.prompt,
            reward=audited.reward,
            gold=np.where(probe, 1 - audited.gold, np.nan),
        ),
        Rollouts(
            prompt=data.prompt,
            reward=np.where(np.isin(data.prompt, audited.prompt[probe]), 0.123, data.reward),
            gold=np.where(np.isin(data.prompt, audited.prompt[probe]), 1 - data.gold, data.gold),
        ),
        gold_range=(0, 1),
    )
    assert first.calibration.g == touched.calibration.g
    assert (first.weight, first.predicted) == (touched.weight, touched.predicted)
    assert first.residual != touched.residual


def test_roles_share_no_prompt():
    """Teaching and certifying prompts of fully shared logs add up to at most all of them."""
    audited, data = _paired(400, np.random.default_rng(2), probe=50)
    found = audit_transport(audited, data, gold_range=(0, 1))
    assert found.calibration.prompts + found.certifying_draws == 400
    assert 120 < found.calibration.prompts < 230


def test_few_shared_prompts_are_set_aside():
    """A small overlap costs the calibration those prompts, and the audit nothing."""
    rng = np.random.default_rng(0)
    data, audited = _rows("p", 1000, rng), _rows("q", 300, rng, labelled=100)
    overlap = np.r_[data.prompt[:30], audited.prompt[30:]]
    audited = Rollouts(prompt=overlap, reward=audited.reward, gold=audited.gold)
    found = audit_transport(audited, data, gold_range=(0, 1))
    assert (found.shared, found.certifying_draws) == ("set aside", 300)
    assert found.calibration.prompts == 970


# --- what it is good for -------------------------------------------------------------------------


def test_calibrated_route_is_narrower_where_the_score_is_good():
    """With 300 labels, 6,000 prompts and an informative score it beats gold alone by a fifth."""
    rng = np.random.default_rng(4)
    sharp = {"mean": lambda s: (s > 0.45) * 0.9 + 0.05}
    data = _rows("data", 3000, rng, **sharp)
    audited = _rows("audit", 6000, rng, labelled=300, **sharp)
    found = audit_transport(audited, data, gold_range=(0, 1), margin=0.1)
    assert found.weight > 0.5
    assert found.certificate.width < 0.8 * found.gold_only.width
    assert found.certificate.lower <= found.predicted <= found.certificate.upper


def test_useless_score_falls_back_to_gold():
    """Where g is flat nothing is gained by it, and the certified interval is the gold one."""
    found = _cases(500, 50, weight=None)
    useless = audit_transport(
        _rows("audit", 500, np.random.default_rng(1), labelled=50, mean=lambda s: 0 * s + 0.5),
        _rows("data", 500, np.random.default_rng(2), mean=lambda s: 0.9 - 0.8 * s),
        gold_range=(0, 1),
    )
    assert useless.weight == 0.0
    alone = useless.gold_only
    assert (useless.certificate.lower, useless.certificate.upper) == (alone.lower, alone.upper)
    assert found.certificate.width <= 1.1 * found.gold_only.width


def test_out_of_fold_error_does_not_flatter():
    """Judged out of fold, g on pure noise is no better than the mean of gold."""
    rng = np.random.default_rng(0)
    data = Rollouts.from_arrays(
        prompt_id=np.arange(300), reward=rng.random(300), gold=rng.random(300)
    )
    found = audit_transport(_rows("audit", 60, rng, labelled=60), data, gold_range=(0, 1))
    assert found.calibration.mse > 0.98 * found.calibration.constant_mse
    in_sample = np.mean((data.gold - found.calibration.g(data.reward)) ** 2)
    assert in_sample < found.calibration.mse


# --- form ----------------------------------------------------------------------------------------


def test_row_order_does_not_matter():
    """Shuffled logs give the same result, bit for bit."""
    rng = np.random.default_rng(5)
    data, audited = _rows("data", 300, rng), _rows("audit", 400, rng, labelled=80)
    first = audit_transport(audited, data, gold_range=(0, 1), margin=0.1)
    second = audit_transport(
        audited.take(rng.permutation(400)),
        data.take(rng.permutation(300)),
        gold_range=(0, 1),
        margin=0.1,
    )
    assert first == second
    assert first.to_json() == second.to_json()


def test_results_are_in_units_of_gold():
    """Gold on another scale, margin with it, gives the same verdict and mapped intervals."""
    rng = np.random.default_rng(6)
    data, audited = _rows("data", 300, rng), _rows("audit", 400, rng, labelled=150)
    first = audit_transport(audited, data, gold_range=(0, 1), margin=0.2)
    scaled = [
        Rollouts(prompt=r.prompt, reward=50 * r.reward - 7, gold=4 * r.gold - 1)
        for r in (audited, data)
    ]
    second = audit_transport(*scaled, gold_range=(-1, 3), margin=0.8)
    assert second.state == first.state
    assert second.fewest_prompts == first.fewest_prompts
    assert second.residual.lower == pytest.approx(4 * first.residual.lower)
    assert second.certificate.upper == pytest.approx(4 * first.certificate.upper - 1)
    assert second.predicted == pytest.approx(4 * first.predicted - 1)
    assert second.calibration.mse == pytest.approx(16 * first.calibration.mse)


def _tiny(**changes):
    rng = np.random.default_rng(0)
    call = {
        "rollouts": _rows("audit", 40, rng, labelled=20),
        "reward_data": _rows("data", 40, rng),
        "gold_range": (0, 1),
        **changes,
    }
    return audit_transport(call.pop("rollouts"), call.pop("reward_data"), **call)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"margin": 0}, UsageError, "margin"),
        ({"margin": 1}, UsageError, "margin"),
        ({"margin": math.nan}, UsageError, "margin"),
        ({"delta": 0}, UsageError, "delta"),
        ({"folds": 1}, UsageError, "folds"),
        ({"weight": 1.5}, UsageError, "weight"),
        ({"gold_range": (1, 1)}, UsageError, "gold_range"),
        (
            {"rollouts": _rows("a", 9, np.random.default_rng(0), labelled=0)},
            AssumptionError,
            "gold",
        ),
        ({"reward_data": _rows("a", 9, np.random.default_rng(0))}, AssumptionError, "9 prompts"),
    ],
)
def test_misuse_is_refused(changes, error, match):
    """Each misuse is one typed error that names the setting."""
    with pytest.raises(error, match=match):
        _tiny(**changes)


def test_reward_data_without_gold_are_refused():
    """Without gold on the reward data there is nothing to teach."""
    data = _rows("data", 40, np.random.default_rng(0))
    with pytest.raises(AssumptionError, match="teach"):
        _tiny(reward_data=Rollouts(prompt=data.prompt, reward=data.reward))


def test_groups_of_one_prompt_are_one_draw():
    """A prompt with two groups counts once, and is matched with reward data on it as one."""
    rng = np.random.default_rng(0)
    rows = _rows("p", 100, rng)
    twice = Rollouts(
        prompt=np.tile(rows.prompt, 2),
        reward=np.tile(rows.reward, 2),
        gold=np.where(np.tile(np.arange(100) < 40, 2), np.tile(rows.gold, 2), np.nan),
        group=np.arange(200, dtype=np.uint64),
    )
    found = _tiny(rollouts=twice, reward_data=rows)
    assert (found.log.prompts, found.log.draws, found.probe_prompts) == (100, 100, 40)
    assert found.shared == "split"
    assert found.calibration.prompts + found.certifying_draws == 100


def test_what_the_result_rests_on_decides_its_status():
    """Labels by outcome make an estimate; a declared design makes it certified."""
    rng = np.random.default_rng(0)
    data, audited = _rows("data", 300, rng), _rows("audit", 400, rng, labelled=150)
    settings = {"gold_range": (0, 1)}
    assert audit_transport(audited, data, **settings).status is Status.CONDITIONAL
    said = {"declare": "held-out,complete,random-labels"}
    assert audit_transport(audited, data, **settings, **said).status is Status.CERTIFIED
    all_gold = _rows("audit", 400, rng)
    chosen = np.where(all_gold.reward > 0.5, all_gold.gold, np.nan)
    by_outcome = Rollouts(prompt=all_gold.prompt, reward=all_gold.reward, gold=chosen)
    found = audit_transport(by_outcome, data, **settings, **said)
    assert found.status is Status.ESTIMATED
    (labels,) = [item for item in found.assumptions if item.name == "random-labels"]
    assert labels.stands == "violated"


def test_recorded_chances_of_a_label_are_refused():
    """Labels mostly on easy prompts would make the probe look better than the policy is."""
    rng = np.random.default_rng(0)
    easy = rng.random(600) < 0.5
    chance = np.where(easy, 0.9, 0.1)
    gold = (rng.random(600) < np.where(easy, 0.9, 0.2)).astype(float)
    audited = Rollouts.from_arrays(
        prompt_id=np.arange(600),
        reward=np.full(600, 0.5),
        gold=np.where(rng.random(600) < chance, gold, np.nan),
        label_probability=chance,
    )
    with pytest.raises(AssumptionError, match="recorded chances"):
        _tiny(rollouts=audited)


def test_gold_outside_its_range_is_refused_on_either_side():
    """Cutting gold would change the target, in the probe and in what teaches."""
    rng = np.random.default_rng(0)
    rows = {"rollouts": _rows("audit", 40, rng), "reward_data": _rows("data", 40, rng)}
    for name, log in rows.items():
        wide = Rollouts(prompt=log.prompt, reward=log.reward, gold=log.gold * 1.5)
        with pytest.raises(AssumptionError, match="outside"):
            _tiny(**{name: wide})


def test_several_policies_are_refused():
    """Draws of several steps have several means: there is no one policy to audit."""
    rows = _rows("p", 40, np.random.default_rng(0))
    steps = Rollouts(
        prompt=rows.prompt, reward=rows.reward, gold=rows.gold, step=np.arange(40) // 20
    )
    with pytest.raises(UsageError, match="step"):
        _tiny(rollouts=steps)


def test_rows_labelled_one_by_one_with_unequal_sizes_are_refused():
    """Draws of unequal size with labels row by row had unequal chances of a label."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 5, 60)
    prompt = np.repeat(np.arange(60), sizes)
    gold = np.where(rng.random(len(prompt)) < 0.4, rng.random(len(prompt)), np.nan)
    audited = Rollouts.from_arrays(prompt_id=prompt, reward=rng.random(len(prompt)), gold=gold)
    with pytest.raises(AssumptionError, match="unequal chances"):
        _tiny(rollouts=audited)


# --- real data -----------------------------------------------------------------------------------


def _jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _arena():
    probe = _jsonl(ARENA / "probe_slice/parallel_universe_prompt_probe.jsonl")
    label = {row["prompt_id"]: row["oracle_label"] for row in probe}
    fresh = _jsonl(ARENA / "fresh_draws/parallel_universe_prompt_responses.jsonl")
    logged = _jsonl(ARENA / "logged_data.jsonl")
    audited = Rollouts.from_arrays(
        prompt_id=[row["prompt_id"] for row in fresh],
        reward=[row["judge_score"] for row in fresh],
        gold=[label.get(row["prompt_id"], math.nan) for row in fresh],
    )
    data = Rollouts.from_arrays(
        prompt_id=[row["metadata"]["prompt_id"] for row in logged],
        reward=[row["judge_score"] for row in logged],
        gold=[
            math.nan if row.get("oracle_label") is None else row["oracle_label"] for row in logged
        ],
    )
    return audited, data


@pytest.mark.skipif(not ARENA.exists(), reason="the arena sample is not beside this checkout")
def test_arena_verdicts():
    """Fifty real labels cannot pass a margin of 0.05, and the certified interval says something."""
    audited, data = _arena()
    strict = audit_transport(audited, data, gold_range=(0, 1), margin=0.05)
    assert strict.probe_prompts == 50
    assert strict.state is TransportState.NOT_GRADED
    loose = audit_transport(audited, data, gold_range=(0, 1), margin=0.1)
    assert loose.state in (TransportState.PASS, TransportState.INCONCLUSIVE)
    assert loose.status is Status.CONDITIONAL
    said = {"declare": "held-out,complete,random-labels"}
    assert audit_transport(audited, data, gold_range=(0, 1), **said).status is Status.CERTIFIED
    assert loose.certificate.width < 0.25
    assert loose.certificate.width <= 1.05 * loose.gold_only.width
    assert all(a <= b for a, b in pairwise(loose.calibration.g.values))

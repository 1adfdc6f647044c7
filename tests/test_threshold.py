"""The clip threshold: the paper's closed form, the measured rule, and what constants would do."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from check import blocks_of
from taut import cli
from taut.bounds.kl_clipping import forecast_tail, next_record
from taut.decisions.threshold.choose import paper_threshold
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, LogError, UsageError
from taut.inequalities.concentration import paper_alpha
from taut.report.door import report_text
from taut.worlds import FAMILIES, sample_rollouts

# `validation` lies beside `tests`, in the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from validation.threshold import Trial, run_trial, table

SETTINGS = {"beta": 0.05, "reward_range": (0, 1)}


def log_of(log_ratio, per_prompt=1, **columns):
    """A log with the given log-ratios; rewards spread evenly."""
    values = np.asarray(log_ratio, dtype=np.float64)
    given = {
        "prompt_id": np.arange(len(values)) // per_prompt,
        "reward": (np.arange(len(values)) * 37 % 100) / 100,
        "log_ratio": values,
    }
    return Rollouts.from_arrays({**given, **columns})


def of_world(name, prompts, seed=0, **more):
    rng = np.random.default_rng(seed)
    world = FAMILIES[name](rng)
    return sample_rollouts(world, prompts, rng=rng, **more), world


def cost(tau, magnitude, weight, alpha):
    """2 tau alpha + E(|l| - tau)_+, with exact arithmetic on the given floats."""
    total = mpmath.fsum(map(mpmath.mpf, weight.tolist()))
    tail = mpmath.fsum(
        mpmath.mpf(w) * max(mpmath.mpf(x) - mpmath.mpf(tau), 0)
        for x, w in zip(magnitude.tolist(), weight.tolist(), strict=True)
    )
    return 2 * mpmath.mpf(tau) * mpmath.mpf(alpha) + tail / total


# --- the paper's rule -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smooth", "tied", "two values", "zeros", "outlier", "single"])
@pytest.mark.parametrize("alpha", [0.001, 0.07, 0.25, 0.45])
def test_the_closed_form_is_the_minimum(kind, alpha):
    """No tau on a fine grid, nor any value of |l|, costs less than the quantile (mpmath)."""
    rng = np.random.default_rng(3)
    magnitude = {
        "smooth": rng.pareto(1.5, 30),
        "tied": rng.integers(0, 4, 30).astype(float),
        "two values": np.repeat([0.5, 2.0], 15),
        "zeros": np.zeros(30),
        "outlier": np.r_[rng.exponential(size=29), 1e9],
        "single": np.array([3.0]),
    }[kind]
    weight = 1.0 / rng.integers(1, 5, len(magnitude))
    tau = paper_threshold(magnitude, weight, alpha)
    least = cost(tau, magnitude, weight, alpha)
    assert tau == 0 or tau in magnitude
    near = np.linspace(0, 2 * max(tau, 1.0), 40)
    for other in np.unique(np.r_[near, magnitude]):
        assert cost(other, magnitude, weight, alpha) >= least * (1 - mpmath.mpf("1e-12"))


@pytest.mark.parametrize("alpha", [0.5, 0.7, 3.0])
def test_a_large_alpha_clips_everything(alpha):
    """tau* = 0 where alpha is 1/2 or more: range costs more than any tail."""
    assert paper_threshold(np.array([1.0, 5.0, 1e6]), np.ones(3), alpha) == 0


def test_of_an_interval_of_minimisers_the_smallest_is_taken():
    """Half of |l| at 1 and half at 9 with 1 - 2 alpha = 1/2: all of [1, 9] costs the same."""
    assert paper_threshold(np.array([1.0, 9.0]), np.ones(2), 0.25) == 1.0


def test_alpha_is_that_of_the_theorem():
    """alpha = sqrt(ln(4/delta)/(2n)) + sqrt(ln(4/delta) sum(1/K_i)/(2 n^2)), to 12 digits."""
    sizes = np.array([1, 2, 3, 4] * 10)
    rows = np.repeat(np.arange(40), sizes)
    log = log_of(np.linspace(-1, 3, len(rows)), prompt_id=rows)
    found = taut.clip_threshold(log, **SETTINGS, delta=0.01)
    term = mpmath.log(4 / mpmath.mpf("0.01"))
    inverse = mpmath.fsum(1 / mpmath.mpf(int(size)) for size in sizes)
    expected = mpmath.sqrt(term / 80) + mpmath.sqrt(term * inverse / (2 * 40**2))
    assert found.paper.alpha == pytest.approx(float(expected), rel=1e-12)


def test_prompts_count_equally_whatever_their_rollouts():
    """A prompt with a thousand large log-ratios is one prompt: the quantile weighs by 1/K."""
    ids = np.r_[np.zeros(1000, dtype=int), np.arange(1, 400)]
    log = log_of(np.where(ids == 0, 50.0, 1.0), prompt_id=ids)
    found = taut.clip_threshold(log, prompts=10_000, **SETTINGS)
    assert 1 - 2 * found.paper.alpha < 1 - 1 / 400
    assert found.paper.tau == 1.0


def test_more_data_never_lower_the_papers_threshold():
    """alpha falls with n, so tau* rises; both sides apart do too."""
    log = log_of(np.random.default_rng(0).standard_t(3, 500))
    found = [
        taut.clip_threshold(log, prompts=n, **SETTINGS).paper for n in (1, 10, 100, 10**4, 10**8)
    ]
    for name in (lambda p: p.tau, lambda p: p.apart.tau, lambda p: p.apart.tau_negative):
        values = list(map(name, found))
        assert values == sorted(values)
        assert values[0] == 0 < values[-1]


def test_sides_apart_cost_less_than_one_constant():
    """alpha (tau+ + tau-) + E(l - tau+)_+ + e^(-1 - tau-) is least at the two closed forms."""
    values = np.random.default_rng(1).gamma(2.0, 2.0, 400)
    found = taut.clip_threshold(log_of(values), prompts=400, **SETTINGS).paper
    alpha = paper_alpha(400, 1.0, 0.05)

    def price(tau, negative):
        tail = np.maximum(values - tau, 0).mean()
        return alpha * (tau + negative) + tail + math.exp(-1 - negative)

    least = price(found.apart.tau, found.apart.tau_negative)
    for tau in np.linspace(0, 20, 41):
        for negative in np.linspace(0, 5, 41):
            assert price(tau, negative) >= least - 1e-12


# --- the measured rule ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "prompts", "more", "settings"),
    [
        ("heavy_tailed", 200, {}, {}),
        ("over_optimised", 300, {"gold_prompts": 150}, {"seed": 7}),
        ("unequal_rollouts", 200, {}, {"tau_negative": 2.0, "calibration": 0.4}),
        ("heavy_tailed", 200, {}, {"log_ratio_second_moment": 60.0}),
        ("tied_weights", 200, {}, {"log_ratio_max": 5.0}),
        ("repeated_prompts", 150, {}, {"held_out": True}),
        ("coin", 12, {}, {}),
    ],
)
def test_the_threshold_is_the_audits_own(world, prompts, more, settings):
    """`taut tau` and `taut audit --tau auto` agree to the bit, whatever was declared."""
    log, _ = of_world(world, prompts, **more)
    found = taut.clip_threshold(log, **SETTINGS, **settings)
    audited = taut.audit(log, target="clipped", **SETTINGS, **settings)
    assert (found.tau, found.tau_negative) == (audited.tau, audited.tau_negative)
    assert found.tau_source == audited.settings.tau_source


def test_the_certifying_draws_stay_unseen():
    """Changing what certifies changes nothing that is shown: looking costs the certificate nothing.

    Only counts and the health of the log may differ.
    """
    log, _ = of_world("heavy_tailed", 300)
    split = set(taut.clip_threshold(log, **SETTINGS).document) - {"log", "log_probs_sound"}
    blocks = blocks_of(log)
    seen = blocks.rows[blocks.starts[: 300 // 5]]
    other = log.log_ratio + 5.0
    other[seen] = log.log_ratio[seen]
    reward = 1 - log.reward
    reward[seen] = log.reward[seen]
    changed = replace(log, log_ratio=other, reward=reward)
    before, after = (taut.clip_threshold(part, **SETTINGS).document for part in (log, changed))
    assert all(before[key] == after[key] for key in split)
    assert before["draws"]["choosing"] == 60
    assert before["draws"]["price"] > 0


def test_the_threshold_loses_little_to_hindsight():
    """The interval at the chosen tau is at most 5% wider than at the best one (median of logs)."""
    for family, prompts in (("heavy_tailed", 100), ("over_optimised", 100)):
        lost = [
            run_trial(family, prompts, "nothing", seed, price=False).chosen for seed in range(6)
        ]
        assert np.median(lost) <= 0.05


def test_the_study_lists_every_cell():
    """The table names the worst cell and says what is unknown."""
    trial = Trial(0.02, 0.3, 0.1, math.nan, 0.0)
    text = table({("coin", 50, "gold"): [trial, trial]})
    assert "1 of 1 cells" in text
    assert "| coin | 50 | gold | 2.0% | 2.0% | 2.0% | 30.0% | 10.0% | – | 1.00 |" in text


def test_the_next_record_follows_the_growth_of_the_largest():
    """Ties promise no larger value; growing records do, by at most 0.4 of the largest."""
    blocks = blocks_of(log_of(np.zeros(100)))
    assert next_record(np.full(100, 3.0), blocks) == 3.0
    assert next_record(np.full(100, -3.0), blocks) == 0.0
    assert next_record(np.r_[np.zeros(99), 1e6], blocks) == pytest.approx(1.4e6)
    assert next_record(np.arange(100.0), blocks) == pytest.approx(99 + 4.5)


def test_the_tail_forecast_shrinks_with_the_draws_to_come():
    """More certifying draws, less error: towards the mean with one more draw at the record."""
    values = np.arange(100.0)
    blocks = blocks_of(log_of(values))
    few, many, most = (
        forecast_tail(values, blocks, tau=90.0, blocks=n, delta=0.01) for n in (10, 1000, 10**12)
    )
    assert few > many > most
    mean = (np.maximum(values - 90, 0).sum() + 99 + 4.5 - 90) / 101
    assert most == pytest.approx(mean, rel=1e-4)


# --- what constants would do ----------------------------------------------------------------------


def test_constants_are_described_by_hand():
    """Shares, bias and hidden KL of ±2 on four prompts, two rollouts each."""
    log = log_of([3.0, 1.0, -4.0, 0.0, 2.0, 2.0, -1.0, 7.0], per_prompt=2)
    (found,) = taut.clip_threshold(log, beta=0.5, reward_range=(0, 2), constants=(2.0,)).sequence
    assert found.share_above == pytest.approx(2 / 8)
    assert found.share_below == pytest.approx(1 / 8)
    assert found.bias == pytest.approx(0.5 * (1 - 2 + 5) / 8)
    assert found.hidden == pytest.approx(0.5 * (1 + 2 + 5) / 8)
    assert found.point.paper_clipping == pytest.approx(found.hidden)
    alpha = paper_alpha(4, 2.0, 0.05)
    assert found.point.paper_sampling == pytest.approx((2 + 2 * 0.5 * 2) * alpha)


def token_rows(prompts=40, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in range(prompts):
        size = int(rng.integers(1, 9))
        policy = -rng.exponential(size=size)
        gap = rng.choice([0.25, -0.5, 7.0, 30.0], size=size, p=[0.5, 0.3, 0.15, 0.05])
        rows.append(
            {
                "prompt_id": prompt,
                "reward": float(rng.random()),
                "policy_logprobs": policy.tolist(),
                "ref_logprobs": (policy - gap).tolist(),
            }
        )
    return rows


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_several_token_constants_take_one_reading(tmp_path):
    """Sums at several constants equal those of one reading each, and the sums clipped by hand."""
    rows = token_rows()
    path = write(tmp_path / "a.parquet", rows)
    both = taut.read_rollouts(path, token_clip=(5.0, 20.0))
    assert (both.token_clips, both.token_clip) == ((5.0, 20.0), None)
    for index, clip in enumerate(both.token_clips):
        alone = taut.read_rollouts(path, token_clip=clip)
        assert (both.token_clipped_sums[:, index] == alone.token_clipped_log_ratio).all()
    first = np.subtract(rows[0]["policy_logprobs"], rows[0]["ref_logprobs"])
    assert both.token_clipped_sums[0, 0] == pytest.approx(np.clip(first, -5, 5).sum())
    single = taut.clip_threshold(taut.read_rollouts(path, token_clip=5.0), **SETTINGS).tokens
    assert single == taut.clip_threshold(both, **SETTINGS).tokens[:1]


def test_token_clamps_are_told_from_clipped_sequences(tmp_path):
    """A clamp no token reaches changes nothing; a lower one hides what its sums say."""
    log = taut.read_rollouts(write(tmp_path / "a.parquet", token_rows()), token_clip=(5.0, 40.0))
    low, high = taut.clip_threshold(log, **SETTINGS, calibration=0.9).tokens
    draws = blocks_of(log)
    speak = draws.rows[:36]
    gap = (log.log_ratio - log.token_clipped_sums[:, 0])[speak]
    assert low.bias == pytest.approx(0.05 * gap.mean())
    assert low.share == pytest.approx((gap > 1).mean())
    assert (high.share, high.bias, high.hidden) == (0.0, 0.0, 0.0)
    assert low.longest == log.n_tokens[speak].max()
    assert high.negative_bound == pytest.approx(
        0.05 * log.n_tokens[speak].mean() * math.exp(-41), rel=1e-9
    )
    assert high.sampling > low.sampling


def test_files_without_token_lists_leave_the_token_level_out(tmp_path):
    """Several constants are no demand: sums alone, or in one of two files, give no token level."""
    rows = token_rows()
    sums = [
        {
            "prompt_id": 100 + row["prompt_id"],
            "reward": row["reward"],
            "policy_logprob": sum(row["policy_logprobs"]),
            "ref_logprob": sum(row["ref_logprobs"]),
        }
        for row in rows
    ]
    both = [{**new, **row} for new, row in zip(sums, rows, strict=True)]
    listed, bare = write(tmp_path / "a.parquet", both), write(tmp_path / "b.parquet", sums)
    for paths in (bare, [listed, bare]):
        found = taut.read_rollouts(paths, token_clip=(5.0, 10.0))
        assert (found.token_clipped_sums, found.token_clips) == (None, ())
        assert taut.clip_threshold(found, **SETTINGS).tokens == ()
    with pytest.raises(LogError, match="to clip token by token"):
        taut.read_rollouts(bare, token_clip=5.0)
    with pytest.raises(LogError, match="positive number of nats"):
        taut.read_rollouts(listed, token_clip=(5.0, -1.0))


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompts", [1, 2, 3, 24, 25, 30])
@pytest.mark.parametrize("value", [0.0, 2.5, -3.0, 1e8])
def test_small_and_constant_logs_are_borne(prompts, value):
    """One prompt, one value, zeros or a huge one: finite numbers and a report."""
    found = taut.clip_threshold(log_of(np.full(prompts, value)), **SETTINGS)
    document = found.document
    json.dumps(document, allow_nan=False)
    assert found.paper.tau == (abs(value) if found.paper.alpha < 0.5 else 0.0)
    assert document["too_few"] == (prompts < 25)
    assert found.tau == 10.0 if prompts < 25 else max(value, 0.0) <= found.tau
    assert str(found)


def test_no_leash_nothing_to_choose():
    """With beta 0 the default is kept, no tail costs anything, and the report says so."""
    log, _ = of_world("heavy_tailed", 100)
    found = taut.clip_threshold(log, beta=0.0, reward_range=(0, 1))
    assert found.tau == 10.0
    assert all(point.clipping == point.paper_clipping == 0 for point in found.curve)
    assert len({point.sampling for point in found.curve}) == 1
    assert "nothing depends on where to clip" in str(found)


def test_an_outlier_does_not_stretch_the_curve():
    """One log-ratio of a million among a thousand: the curve still shows where the others are."""
    values = np.random.default_rng(0).normal(1, 2, 1000)
    values[5] = 1e6
    found = taut.clip_threshold(log_of(values), prompts=1000, **SETTINGS)
    assert found.curve[-1].tau <= 2 * max(found.tau, 10)
    assert found.paper.tau < 10


def test_a_declared_maximum_leaves_no_tail():
    """At the declared maximum nothing is hidden above, and the paper's rule stands beside it."""
    log, world = of_world("over_optimised", 100)
    most = float(world.log_ratio.max())
    found = taut.clip_threshold(log, beta=world.beta, reward_range=(0, 1), log_ratio_max=most)
    assert found.tau == most
    assert found.chosen.clipping == pytest.approx(
        world.beta * math.exp(-1 - found.tau_negative) / 2
    )
    assert not found.draws.apart
    with pytest.raises(AssumptionError, match="exceeds the declared maximum"):
        taut.clip_threshold(log, **SETTINGS, log_ratio_max=0.01)


def test_recurring_prompts_are_one_draw_each():
    """Epoch repeats over steps are merged, and the report says so."""
    ids, step = np.tile(np.arange(100), 3), np.repeat(np.arange(3), 100)
    log = log_of(np.random.default_rng(0).normal(size=300), prompt_id=ids, step=step)
    found = taut.clip_threshold(log, **SETTINGS)
    assert (found.merged_steps, found.draws.in_log, found.draws.choosing) == (True, 100, 20)
    assert "prompts recur over 3 steps" in str(found)


def test_rewards_in_other_units_give_the_same_threshold():
    """Rewards, range and beta times 4: the same tau, half-widths and biases times 4."""
    log, _ = of_world("heavy_tailed", 200)
    one = taut.clip_threshold(log, beta=0.05, reward_range=(0, 1))
    four = taut.clip_threshold(replace(log, reward=4 * log.reward), beta=0.2, reward_range=(0, 4))
    for a, b in ((one, four), (one.paper, four.paper), (one.paper.apart, four.paper.apart)):
        assert a.tau == b.tau
    assert one.paper.alpha == four.paper.alpha
    for a, b in zip(one.curve, four.curve, strict=True):
        assert (b.total, b.paper_total) == (4 * a.total, 4 * a.paper_total)
    assert four.sequence[0].bias == 4 * one.sequence[0].bias


def test_row_order_does_not_matter():
    """Shuffled rows give the same bytes."""
    log, _ = of_world("unequal_rollouts", 150)
    shuffled = log.take(np.random.default_rng(1).permutation(len(log)))
    texts = [json.dumps(taut.clip_threshold(part, **SETTINGS).document) for part in (log, shuffled)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("change", "settings", "error", "text"),
    [
        ({"log_ratio": None}, {}, LogError, "needs log-ratios"),
        ({}, {"beta": None}, UsageError, "needs --beta"),
        ({}, {"prompts": 0}, UsageError, "prompts is 0"),
        ({}, {"constants": (0.0,)}, UsageError, "positive numbers"),
        ({}, {"delta": 2.0}, UsageError, "delta is 2.0"),
        ({}, {"log_ratio_second_moment": 1e-9}, AssumptionError, "beyond chance"),
    ],
)
def test_errors_say_what_to_do_in_one_line(change, settings, error, text):
    """What cannot be had is refused with the reason and the remedy."""
    log = replace(log_of(np.linspace(-1, 4, 300)), **change)
    with pytest.raises(error, match=text) as found:
        taut.clip_threshold(log, **{**SETTINGS, **settings})
    assert "\n" not in str(found.value)


def test_an_empty_log_is_refused():
    """No rows, no threshold."""
    with pytest.raises(LogError, match="at least one"):
        taut.clip_threshold(log_of([]), **SETTINGS)


# --- report and command line ----------------------------------------------------------------------


def test_the_report_leads_with_the_threshold_and_names_every_trainer():
    """Verdict first; each framework has a line or the statement that it has none."""
    log, _ = of_world("over_optimised", 200)
    found = taut.clip_threshold(log, **SETTINGS)
    text = str(found)
    assert text.strip().startswith(f"Clip at {found.tau:.4g} nats above")
    assert "taut audit --tau auto" in text
    assert f"tau = {found.tau:.4g}" in text
    for name in ("TRL", "verl", "OpenRLHF", "NeMo-RL", "open-instruct", "tinker-cookbook"):
        assert name in text
    assert "no value to advise" in " ".join(text.split())
    assert "<table" in found._repr_html_()
    assert "kl_input_clamp_value=" not in text


def test_the_report_says_where_the_free_side_is_not_free():
    """Log-ratios whose e^-l averages far above 1 are not those of the sampling policy."""
    found = taut.clip_threshold(log_of(np.full(300, -3.0)), **SETTINGS)
    assert not found.log_probs_sound
    assert "Not on this log" in str(found)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_report_fits_narrow_and_plain_terminals(width, tmp_path):
    """Every line keeps to the width, with token level and without."""
    log = taut.read_rollouts(write(tmp_path / "a.parquet", token_rows()), token_clip=(5.0, 10.0))
    found = taut.clip_threshold(log, **SETTINGS)
    assert all(len(line) <= width for line in report_text(found, width=width).split("\n"))


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


def test_the_command_reads_tokens_and_draws(tmp_path, monkeypatch, capsys):
    """`taut tau` reports both levels, fills NeMo-RL's line, and writes JSON, page and picture."""
    path = write(tmp_path / "a.parquet", token_rows())
    asked = ("tau", path, "--beta", "0.05", "--reward-range", "0", "1")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "html", "svg")}
    status, out, err = run(
        monkeypatch,
        capsys,
        *asked,
        *("--token-clip", "3", "--json", files["json"], "--html", files["html"]),
        *("--plot", files["svg"]),
    )
    assert (status, err) == (0, "")
    assert "The same constants, on each token" in out
    document = json.loads(files["json"].read_text())
    assert document["schema"] == "taut.threshold/1"
    assert [item["constant"] for item in document["tokens"]] == [3, 5, 10, 20, 40]
    assert [item["constant"] for item in document["sequence"]] == [3, 5, 10, 20, 40]
    line = next(item["line"] for item in document["options"] if item["framework"] == "NeMo-RL")
    assert line == f"loss_fn.kl_input_clamp_value={document['token_constant']:g}"
    assert "clip threshold" in files["svg"].read_text()
    assert files["html"].read_text().startswith("<!doctype html>")
    bare = json.loads(run(monkeypatch, capsys, *asked, "--sums-only", "--json", "-")[1])
    assert bare["tokens"] == []
    assert bare["tau"] == document["tau"]


def test_a_converted_log_keeps_its_token_constant(tmp_path, monkeypatch, capsys):
    """Sums clipped by `taut convert --token-clip` are shown for that constant."""
    path = write(tmp_path / "a.parquet", token_rows())
    taut.convert(path, tmp_path / "native.parquet", token_clip=10.0)
    asked = ("--beta", "0.05", "--reward-range", "0", "1", "--json", "-")
    arguments = ("tau", tmp_path / "native.parquet", *asked, "--token-clip")
    found = json.loads(run(monkeypatch, capsys, *arguments, "10")[1])
    assert [item["constant"] for item in found["tokens"]] == [10]
    status, _, err = run(monkeypatch, capsys, *arguments, "7")
    assert status == 1
    assert "log them per token" in err


def test_no_log_probs_is_one_line_and_status_one(tmp_path, monkeypatch, capsys):
    """A log of rewards alone ends with the columns that are missing."""
    path = write(tmp_path / "a.parquet", [{"prompt_id": 1, "reward": 0.5}])
    status, _, err = run(monkeypatch, capsys, "tau", path, "--beta", "0.05")
    assert status == 1
    assert "needs log-ratios" in err
    assert err.count("\n") == 1


def test_a_log_of_several_laws_is_not_said_to_be_small():
    """Nothing may be set aside there, however many prompts there are."""
    rng = np.random.default_rng(0)
    log = {name: rng.random(900) for name in ("reward", "log_ratio")}
    log["prompt_id"] = np.arange(900)
    mixed, small = (
        " ".join(str(taut.clip_threshold(part, **SETTINGS)).split())
        for part in (
            {**log, "step": np.arange(900) % 3},
            {name: values[:9] for name, values in log.items()},
        )
    )
    assert "several steps, policies or runs no prompts are set aside" in mixed
    assert "Too few prompts to choose from" in small

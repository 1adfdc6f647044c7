"""Slices of a log hold together, whatever they slice by; the checks see planted mistakes."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taut
from check import assert_misses_at_most, misses_more_than
from taut import cli
from taut.auditing.response_slices import too_small
from taut.draws.slices import Of, slices_of, with_columns
from taut.inequalities.ratios import ratio_interval

SAID = {"declare": "held-out,complete,random-labels", "reward_range": (0, 1), "target": "reward"}


def rows(rng, prompts=60, per_prompt=2, labelled=1.0):
    """Two domains of prompts and answers of two lengths; longer ones earn more, chat more."""
    chat = np.repeat(rng.random(prompts) < 0.7, per_prompt)
    ease = np.repeat(rng.normal(0, 0.15, prompts), per_prompt)
    long = rng.random(prompts * per_prompt) < 0.2 + 0.5 * chat
    gold = (rng.random(long.size) < np.clip(0.3 + 0.3 * long + 0.2 * chat + ease, 0, 1)) * 1.0
    known = np.repeat(rng.random(prompts) < labelled, per_prompt)
    return {
        "prompt_id": np.repeat(np.arange(prompts), per_prompt),
        "reward": np.clip(gold * 0.8 + 0.1 * long, 0, 1),
        "gold": np.where(known, gold, np.nan),
        "domain": np.where(chat, "chat", "code"),
        "length": np.where(long, "long", "short"),
        "step": np.tile(np.arange(per_prompt), prompts),
    }


def truths():
    """Mean gold by domain, and by length, over very many prompts."""
    many = rows(np.random.default_rng(99), 200_000)
    return {
        (name, value): float(many["gold"][many[name] == value].mean())
        for name, values in (("domain", ("chat", "code")), ("length", ("long", "short")))
        for value in values
    }


TRUTH = truths()


def ends_of(group):
    found = group.certificate.certificate if group.slice is None else group.slice
    return (None, None) if group.cannot_tell else (found.lower, found.upper)


@pytest.mark.parametrize("by", ["domain", "length"])
def test_all_slices_hold_together(by):
    """In at most delta of the logs is any slice's interval wrong, whatever it slices by."""
    trials, delta, missed = 150, 0.2, 0
    for seed in range(trials):
        found = taut.audit_by(rows(np.random.default_rng(seed)), by, delta=delta, **SAID)
        assert found.of == ("prompt" if by == "domain" else "response")
        wrong = False
        for group in found.groups:
            low, high = ends_of(group)
            wrong |= low is not None and not low <= TRUTH[by, group.value] <= high
        missed += wrong
    assert_misses_at_most(missed, trials, delta, by)


def test_the_check_rejects_rows_of_a_slice_taken_as_draws():
    """Rows of one prompt share its ease: a slice's rows are no independent draws."""
    trials, missed = 300, 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        ease = np.repeat(rng.random(25) < 0.5, 40)
        inside = rng.random(1000) < 0.5
        found = ratio_interval(
            (ease & inside) * 1.0, inside * 1.0, delta_lower=0.1, delta_upper=0.1
        )
        missed += not found.lower <= 0.5 <= found.upper
    assert misses_more_than(missed, trials, 0.2), missed


@pytest.mark.parametrize("one_law", [True, False])
@pytest.mark.parametrize(("share", "mean"), [(0.1, 0.9), (0.6, 0.15), (0.02, 0.5)])
def test_ratios_rarely_miss(one_law, share, mean):
    trials, missed = 400, 0
    rng = np.random.default_rng(5)
    for _ in range(trials):
        inside = rng.random((80, 3)) < share
        values = rng.random((80, 3)) < mean
        found = ratio_interval(
            (inside & values).mean(axis=1),
            inside.mean(axis=1),
            delta_lower=0.1,
            delta_upper=0.1,
            one_law=one_law,
        )
        missed += not found.lower <= mean <= found.upper
    assert_misses_at_most(missed, trials, 0.2, "ratio")


def test_ratios_over_different_laws_need_constant_stakes():
    """Means that fall along the order: stakes that learn would not be allowed, constants hold."""
    trials, missed = 300, 0
    rng = np.random.default_rng(6)
    means = np.linspace(0.95, 0.05, 100)
    for _ in range(trials):
        x = (rng.random(100) < means) * 1.0
        found = ratio_interval(x, np.ones(100), delta_lower=0.1, delta_upper=0.1, one_law=False)
        missed += not found.lower <= 0.5 <= found.upper
    assert_misses_at_most(missed, trials, 0.2, "several laws")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.floats(1e-6, 0.5),
    st.booleans(),
)
def test_properties_of_ratio_intervals(pairs, delta, one_law):
    """Ends lie in [0, 1] in order, less delta is never narrower, and 1 - x mirrors them."""
    b = np.array([max(pair) for pair in pairs])
    a = np.array([min(pair) for pair in pairs])
    found = ratio_interval(a, b, delta_lower=delta, delta_upper=delta, one_law=one_law)
    assert 0 <= found.lower <= 1 and 0 <= found.upper <= 1
    less = ratio_interval(a, b, delta_lower=0.0, delta_upper=0.0, one_law=one_law)
    assert (less.lower, less.upper) == (0.0, 1.0)
    other = ratio_interval(b - a, b, delta_lower=delta, delta_upper=delta, one_law=one_law)
    assert other.lower == pytest.approx(1 - found.upper, abs=1e-9)


def test_a_certain_slice_is_bounded_as_computed_by_hand():
    """Ten draws of 1 at constant stakes: the end solves a mean of products, by hand."""
    found = ratio_interval(
        np.ones(10), np.ones(10), delta_lower=0.05, delta_upper=0.0, one_law=False
    )
    stakes = 0.9 * 0.5 ** np.arange(3)
    fortune = np.mean([(1 + stake * (1 / found.lower - 1)) ** 10 for stake in stakes])
    assert fortune == pytest.approx(1 / 0.05, rel=1e-6) and found.upper == 1.0


# --- what a column belongs to ---------------------------------------------------------------------


def test_columns_are_known_for_what_they_are():
    rng = np.random.default_rng(0)
    table = rows(rng)
    log = taut.as_rollouts(table, keep=("domain", "length"))
    assert slices_of(log, ["domain"]).of is Of.PROMPT
    assert slices_of(log, ["length"]).of is Of.RESPONSE
    assert slices_of(log, ["step"]).of is Of.LAW
    both = slices_of(log, ["domain", "step"])
    assert both.of is Of.PROMPT
    assert set(both.values) == {"chat · 0", "chat · 1", "code · 0", "code · 1"}
    assert sum(map(len, both.rows())) == len(log)


def test_numbers_are_cut_where_one_says_or_at_deciles():
    log = taut.as_rollouts(rows(np.random.default_rng(0)))
    log = with_columns(log, {"hardness": np.arange(len(log)) // 2})
    assert len(slices_of(log, ["hardness"]).values) == 10
    found = slices_of(log, ["hardness"], cuts={"hardness": (10, 20)})
    assert found.values == ("< 10", "10 to < 20", ">= 20")
    with pytest.raises(taut.UsageError, match="increasing"):
        slices_of(log, ["hardness"], cuts={"hardness": (20, 10)})
    with pytest.raises(taut.LogError, match="no 'nowhere' column"):
        slices_of(log, ["nowhere"])


def test_weights_favour_a_slice():
    table = rows(np.random.default_rng(1), 400)
    even = taut.audit_by(table, "domain", **SAID)
    favoured = taut.audit_by(table, "domain", weights={"code": 9}, **SAID)
    narrow, wide = favoured["code"], even["code"]
    assert narrow.upper - narrow.lower < wide.upper - wide.lower
    assert math.isclose(sum(group.delta for group in favoured.groups), 0.05)
    with pytest.raises(taut.UsageError, match="none of the 2 values"):
        taut.audit_by(table, "domain", weights={"maths": 2}, **SAID)


def test_a_mix_is_the_weighted_total_and_holds():
    """At shares that are not the log's; in at most delta of logs it misses."""
    shares = {"chat": 0.2, "code": 0.8}
    truth = sum(share * TRUTH["domain", name] for name, share in shares.items())
    missed = 0
    for seed in range(60):
        table = rows(np.random.default_rng(seed))
        found = taut.audit_by(table, "domain", mix=shares, delta=0.2, **SAID)
        missed += not found.mix.lower <= truth <= found.mix.upper
    assert_misses_at_most(missed, 60, 0.2, "mix")
    low = 0.2 * found["chat"].lower + 0.8 * found["code"].lower
    assert found.mix.lower == pytest.approx(low) and "At the mix" in str(found)
    for wrong in ({"chat": 0.5}, {"maths": 1.0}, {"chat": 1.5, "code": -0.5}):
        with pytest.raises(taut.UsageError, match="mix"):
            taut.audit_by(table, "domain", mix=wrong, **SAID)


def test_the_check_rejects_weights_taken_for_counts():
    """The log's own mean in place of the total at the mix misses far more often than it may."""
    shares = {"chat": 0.1, "code": 0.9}
    truth = sum(share * TRUTH["domain", name] for name, share in shares.items())
    missed = 0
    for seed in range(40):
        found = taut.audit(rows(np.random.default_rng(seed), 300), delta=0.2, **SAID)
        missed += not found.lower <= truth <= found.upper
    assert misses_more_than(missed, 40, 0.2), missed


def test_small_slices_are_said_to_tell_nothing():
    """One prompt of its own: no interval is shown for it, in the table of the report either."""
    table = rows(np.random.default_rng(2), 200)
    table["domain"] = np.where(np.arange(400) < 2, "rare", table["domain"])
    found = taut.audit_by(table, "domain", **SAID)
    rare = next(group for group in found.groups if group.value == "rare")
    assert "1 of at least" in rare.cannot_tell
    assert "cannot tell" in str(found)
    assert too_small(10**6, 1e-9) is None


def test_many_groups_take_no_quadratic_time():
    rng = np.random.default_rng(3)
    log = taut.as_rollouts({"prompt_id": np.arange(60_000), "reward": rng.random(60_000)})
    log = with_columns(log, {"user": [f"u{at}" for at in rng.integers(0, 20_000, 60_000)]})
    found = taut.audit_by(log, "user", reward_range=(0, 1), target="reward")
    assert sum(group.certificate is None for group in found.groups) > 15_000


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_a_log_is_sliced_from_the_command_line(tmp_path, capsys, monkeypatch):
    table = rows(np.random.default_rng(4), 300)
    lines = [
        json.dumps({key: value[at].item() for key, value in table.items()} | {"meta": {"k": "x"}})
        for at in range(600)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines).replace("NaN", "null"))
    out = tmp_path / "out.json"
    given = ["--target", "reward", "--reward-range", "0", "1", "--quiet", "--json", str(out)]
    assert run(monkeypatch, "audit", path, "--by", "domain", *given) == 0
    document = json.loads(out.read_text())
    assert document["schema"] == "taut.certificates/2"
    assert [group["value"] for group in document["groups"]] == ["chat", "code"]
    assert run(monkeypatch, "audit", path, "--by", "length", "--by", "domain", *given) == 0
    assert taut.load(out).groups[0].slice.share > 0
    assert run(monkeypatch, "audit", path, "--by", "meta.k", *given) == 0
    assert run(monkeypatch, "audit", path, "--by", "colour", *given) == 1
    assert "expected 'colour'" in capsys.readouterr().err

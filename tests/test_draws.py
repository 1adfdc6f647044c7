"""What a log's rows are worth: draws, labels, units, standings (theory §1, §2, §5)."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taut
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing, gate_refusal, status_of
from taut.draws.declared import Declared, declared_words
from taut.draws.design import design
from taut.draws.joining import join_logs
from taut.draws.labels import LabelKind
from taut.draws.layout import lay_out, settle
from taut.draws.units import measure_units
from taut.errors import AssumptionError, LogError, UsageError
from taut.logs.facts import LogFacts, recorded_facts
from taut.logs.origin import Origin
from taut.types import Status

NAN = math.nan
WORDS = ("held-out", "complete", "random-labels")


def log(**columns):
    rows = len(next(iter(columns.values())))
    return taut.Rollouts.from_arrays({"reward": np.linspace(0, 1, rows)} | columns)


def designed(rollouts, **said):
    said = {"reward_range": (0.0, 1.0)} | said
    if "words" in said:
        said["words"] = frozenset(said["words"])
    return design(rollouts, Declared(**said))


def draws_of(rollouts, **said):
    """The rows of each draw, as a set of sets."""
    blocks = designed(rollouts, **said).blocks
    ends = zip(blocks.starts[:-1], blocks.starts[1:], strict=True)
    return {frozenset(blocks.rows[a:b].tolist()) for a, b in ends}


# --- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["step", "policy", "run", "group"])
def test_the_prompt_is_the_draw_whatever_answers_it(column):
    """No column but the prompt makes a draw."""
    found = draws_of(log(prompt_id=[1, 1, 2, 2], **{column: [0, 1, 0, 1]}))
    assert found == {frozenset({0, 1}), frozenset({2, 3})}


def test_equal_texts_are_one_prompt_through_any_chain():
    """Ids 1 and 2 share one text, 2 and 3 another: all three are one prompt; 4 is not."""
    rollouts = log(prompt_id=[1, 2, 2, 3, 4], prompt=["a", "a", "b", "b", "c"])
    assert draws_of(rollouts) == {frozenset({0, 1, 2, 3}), frozenset({4})}
    assert settle(rollouts).same_text == 2


def test_messages_with_the_same_content_are_one_text():
    """Prompts as lists of messages compare whole."""
    asked = [{"role": "user", "content": "why?"}]
    other = [{"role": "user", "content": "how?"}]
    found = draws_of(log(prompt_id=[1, 2, 3], prompt=[asked, list(asked), other]))
    assert found == {frozenset({0, 1}), frozenset({2})}


def test_groups_are_draws_where_prompts_were_drawn_with_replacement():
    """Only the user knows; without a group the draws cannot be told apart."""
    rollouts = log(prompt_id=[1, 1, 1, 2], group=[1, 1, 2, 1])
    found = draws_of(rollouts, prompts="with-replacement")
    assert found == {frozenset({0, 1}), frozenset({2}), frozenset({3})}
    with pytest.raises(LogError, match="--map group=PATH"):
        draws_of(log(prompt_id=[1, 2]), prompts="with-replacement")


def test_rows_of_a_list_are_units_where_all_prompts_have_as_many():
    """Given the prompts rollouts are independent; with unequal K they would not weigh alike."""
    assert len(draws_of(log(prompt_id=[1, 1, 2, 2]), prompts="list")) == 4
    assert len(draws_of(log(prompt_id=[1, 1, 2]), prompts="list")) == 2
    partly = log(prompt_id=[1, 1, 2, 2], gold=[0.5, NAN, 0.5, NAN])
    assert len(draws_of(partly, prompts="list")) == 2


def test_draws_are_of_one_law_where_all_have_the_same_cells():
    """A profile is how many rows of a draw stand in each step, policy and run."""
    alike = log(prompt_id=[1, 1, 2, 2], step=[0, 1, 1, 0])
    assert designed(alike).one_law
    more = log(prompt_id=[1, 1, 2, 2], step=[0, 1, 0, 0])
    assert not designed(more).one_law
    assert len(set(designed(more).layout.profile.tolist())) == 2
    assert designed(more).layout.cell_count == 2
    # K alone does not part draws of one step: that it is blind is `complete`.
    assert designed(log(prompt_id=[1, 1, 2])).one_law
    assert not designed(alike, prompts="list").one_law


# --- labels ---------------------------------------------------------------------------------------

TWO = np.repeat(np.arange(40), 2)
HALF = np.random.default_rng(3).random(80) < 0.5
UNEQUAL = np.repeat(np.arange(40), 1 + np.arange(40) % 3)


def gold_where(rows, prompts=TWO):
    return {"prompt_id": prompts, "gold": np.where(rows, 0.5, NAN)}


LABELLED = [
    (gold_where(TWO >= 0), LabelKind.ALL, False),
    (gold_where(TWO < 20), LabelKind.WHOLE, False),
    (gold_where(np.arange(80) % 4 == 0), LabelKind.FIXED, False),
    (gold_where(HALF), LabelKind.ROWS, False),
    (gold_where(UNEQUAL % 2 == 0, UNEQUAL), LabelKind.WHOLE, False),
    (gold_where(np.arange(len(UNEQUAL)) % 3 == 0, UNEQUAL), LabelKind.ROWS, True),
    (gold_where(TWO < 20) | {"label_probability": 0.5 + TWO / 100}, LabelKind.CHANCES, False),
    (gold_where(TWO < 20) | {"label_probability": np.full(80, 0.5)}, LabelKind.WHOLE, False),
]


@pytest.mark.parametrize(("columns", "kind", "uneven"), LABELLED)
def test_labels_are_told_by_how_they_lie(columns, kind, uneven):
    """Whole draws, one number of rows a draw, rows one by one, or by recorded chances."""
    found = designed(log(**columns)).labels
    assert (found.kind, found.uneven) == (kind, uneven)
    assert found.rows == int((~np.isnan(columns["gold"])).sum())


def test_no_label_is_no_labels():
    """A column of NaN is as good as none."""
    assert designed(log(prompt_id=[1, 2])).labels is None
    assert designed(log(prompt_id=[1, 2], gold=[NAN, NAN])).labels is None


def test_a_chance_outside_its_range_is_refused():
    """A recorded chance of 0 cannot have led to a label, and none weighs it."""
    columns = gold_where(TWO < 20) | {"label_probability": np.where(TWO < 5, 0.0, 0.5)}
    with pytest.raises(AssumptionError, match="row 0: 'label_probability' is 0"):
        designed(log(**columns))


# --- units ----------------------------------------------------------------------------------------


def units(reward=(0.0, 100.0), gold=None, scale=None):
    rollouts = log(prompt_id=[1, 2], gold=[0.25, 0.5])
    return measure_units(rollouts, reward_range=reward, gold_range=gold, gold_scale=scale)


def test_gold_with_a_range_of_its_own_stays_in_its_units():
    """Nothing is stretched: a .25 of [0, 1] is .25, and no J* can be had without a map."""
    found = units(gold=(0.0, 1.0))
    assert found.common is None
    assert found.unit_gold(np.array([0.25])) == [0.25]
    assert found.target_scale("gold").at(0.25) == 0.25
    assert found.target_scale("reward").at(0.25) == 25.0


@given(
    st.tuples(st.floats(-50, 50), st.floats(0.1, 50)),
    st.tuples(st.floats(-50, 50), st.floats(0.1, 50)),
    st.floats(0.01, 100),
    st.floats(-100, 100),
    st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_a_declared_map_puts_both_on_one_scale(reward, gold, p, q, at):
    """gold * P + Q is a reward; the unit scale holds both, and E r* comes back in gold's units."""
    ranges = [(low, low + width) for low, width in (reward, gold)]
    found = units(reward=ranges[0], gold=ranges[1], scale=(p, q))
    value = min(max(ranges[1][0] + at * gold[1], ranges[1][0]), ranges[1][1])
    unit = float(found.unit_gold(np.array([value]))[0])
    size = max(1.0, abs(q), p * (abs(gold[0]) + gold[1]), abs(reward[0]) + reward[1])
    back = found.target_scale("reward").at(unit)
    assert back == pytest.approx(value * p + q, abs=1e-9 * size)
    assert found.target_scale("gold").at(unit) == pytest.approx(value, abs=1e-9 * size / p)


def test_one_scale_holds_both_columns_where_nothing_is_said():
    """A range read off the data is that of rewards and gold together, and is not declared."""
    found = units(reward=None)
    assert found.reward_range == (0.0, 1.0)
    assert not found.reward_declared
    assert found.common == found.reward_range


# --- standings ------------------------------------------------------------------------------------

C, K, E = Status.CERTIFIED, Status.CONDITIONAL, Status.ESTIMATED
# The table of theory §5: recorded, checked, declared, assumed, in doubt, violated.
TABLE = {
    about.HELD_OUT: (C, C, C, K, K, E),
    about.ONE_LAW: (C, C, C, K, K, E),
    about.COMPLETE: (C, C, C, K, K, E),
    about.RANDOM_LABELS: (C, C, C, K, K, E),
    about.REWARD_RANGE: (C, C, C, E, K, E),
    about.GOLD_RANGE: (C, C, C, E, K, E),
    about.LOG_PROBS: (K, K, K, K, K, E),
    about.QUANTITY: (K, K, K, K, K, E),
    about.REPLACEMENT: (K, K, K, K, K, E),
}


def standing(name, stands, **more):
    return Assumption(name=name, text="it holds", stands=stands, by="somebody", **more)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_statuses(name):
    """What a result can be worth that rests on an assumption, however it stands."""
    found = tuple(standing(name, stands).status for stands in Standing)
    assert found == TABLE[name]


def test_the_weakest_decides():
    """One assumed thing makes a result conditional, one violated thing an estimate."""
    declared = standing(about.HELD_OUT, Standing.DECLARED)
    assumed = standing(about.COMPLETE, Standing.ASSUMED)
    violated = standing(about.RANDOM_LABELS, Standing.VIOLATED)
    assert status_of([]) is C
    assert status_of([declared]) is C
    assert status_of([declared, assumed]) is K
    assert status_of([declared, assumed, violated]) is E


def test_a_gate_passes_on_assumptions_but_not_on_doubts():
    """In doubt, violated and unsettled things hold it back, with the reason."""
    assumed = standing(about.HELD_OUT, Standing.ASSUMED)
    assert gate_refusal([assumed]) is None
    for stands, words in ((Standing.IN_DOUBT, "in doubt"), (Standing.VIOLATED, "violated")):
        said = gate_refusal([assumed, standing(about.LOG_PROBS, stands)])
        assert f"{words} (somebody)" in said
    assert "somebody" in gate_refusal([standing(about.COMPLETE, Standing.ASSUMED, settled=False)])


def stands(found, name):
    return found.assumptions[name].stands


@pytest.mark.parametrize("word", WORDS)
def test_what_may_be_declared_stands_as_it_was_said(word):
    """Assumed, declared by a flag or a file of the user, or on record in a file of ours."""
    rollouts = log(**gold_where(TWO % 2 == 0))
    fact = {word.replace("-", "_"): True}
    assert stands(designed(rollouts), word) is Standing.ASSUMED
    assert stands(designed(rollouts, words=[word]), word) is Standing.DECLARED
    said = replace(rollouts, facts=LogFacts(**fact))
    assert stands(designed(said), word) is Standing.DECLARED
    ours = replace(rollouts, facts=recorded_facts(writer="taut.training.record", **fact))
    assert stands(designed(ours), word) is Standing.RECORDED
    assert stands(designed(ours, words=[word]), word) is Standing.RECORDED


def test_declaring_held_out_says_nothing_of_the_rest():
    """Each word speaks for itself; the short form is one of them."""
    found = designed(log(**gold_where(TWO % 2 == 0)), words=declared_words((), held_out=True))
    assert [stands(found, word) for word in WORDS] == [
        Standing.DECLARED,
        Standing.ASSUMED,
        Standing.ASSUMED,
    ]
    with pytest.raises(UsageError, match="innocent"):
        declared_words("held-out,innocent")


def test_held_out_is_refuted_by_what_training_looks_like():
    """Prompts that recur at steps, several steps averaged, or a record of training."""
    epochs = log(prompt_id=np.tile(np.arange(20), 2), step=np.repeat([0, 1], 20))
    steps = log(prompt_id=np.arange(40), step=np.repeat([0, 1], 20))
    trained = replace(log(prompt_id=np.arange(40)), facts=LogFacts(held_out=False))
    for rollouts in (epochs, steps, trained):
        assert stands(designed(rollouts), "held-out") is Standing.VIOLATED
    for rollouts in (epochs, steps):
        assert stands(designed(rollouts, words=["held-out"]), "held-out") is Standing.DECLARED
    policies = log(prompt_id=np.arange(40), policy=np.repeat([0, 1], 20))
    assert stands(designed(policies), "held-out") is Standing.ASSUMED


def test_a_part_keeps_what_was_decided_on_the_whole():
    """One step of a log whose prompts recur is no fresh sample, though nothing recurs in it."""
    epochs = log(prompt_id=np.tile(np.arange(20), 2), step=np.repeat([0, 1], 20))
    whole = settle(epochs)
    part = whole.rollouts.take(epochs.step == 0)
    declared = Declared(reward_range=(0.0, 1.0))
    assert stands(design(part, declared, whole=whole), "held-out") is Standing.VIOLATED
    assert stands(design(part, declared), "held-out") is Standing.ASSUMED


def test_complete_is_settled_only_where_nothing_calls_for_a_word():
    """Unequal K, rejected rows and rows short of what was launched hold a gate back."""
    whole = log(prompt_id=TWO)
    facts = recorded_facts(launched_prompts=41, rollouts_per_prompt=2, writer="ours")
    for rollouts, word in (
        (log(prompt_id=UNEQUAL), "between 1 and 3"),
        (replace(whole, rejected_rows=7), "7 rows"),
        (replace(whole, facts=facts), "82 rollouts were launched and 80 are here"),
    ):
        found = designed(rollouts).assumptions["complete"]
        assert (found.stands, found.settled) == (Standing.ASSUMED, False)
        assert word in found.by
        said = designed(rollouts, words=["complete"]).assumptions["complete"]
        assert (said.stands, said.settled) == (Standing.DECLARED, True)
    assert designed(whole).assumptions["complete"].settled


def test_a_file_that_says_it_dropped_draws_is_believed_over_any_word():
    """Dynamic sampling keeps draws by their rewards."""
    rollouts = replace(log(prompt_id=TWO), origin=Origin(format="nemo-rl", chosen=True))
    assert stands(designed(rollouts, words=WORDS), "complete") is Standing.VIOLATED


def test_labels_on_one_step_only_are_seen():
    """Blind to outcomes, and yet of one policy: their mean is not that of the log."""
    rng = np.random.default_rng(0)
    step = np.repeat([0, 1], 200)
    for prompts in (np.arange(400), np.tile(np.arange(200), 2)):
        rollouts = log(
            prompt_id=prompts,
            step=step,
            reward=rng.random(400),
            gold=np.where(step == 1, rng.random(400), NAN),
        )
        found = designed(rollouts, words=WORDS)
        assert stands(found, "random-labels") is Standing.VIOLATED
        assert found.status(about.RANDOM_LABELS) is Status.ESTIMATED


def test_rows_labelled_one_by_one_with_unequal_draws_are_weighted_by_an_estimate():
    """Large draws are labelled more often; nothing recorded says by how much."""
    columns = gold_where(np.random.default_rng(1).random(len(UNEQUAL)) < 0.4, UNEQUAL)
    found = designed(log(**columns), words=WORDS)
    assert stands(found, "random-labels") is Standing.DECLARED
    assert stands(found, "label-chances") is Standing.ASSUMED
    assert found.status(about.RANDOM_LABELS) is Status.ESTIMATED


# --- several logs as one --------------------------------------------------------------------------


def two_logs():
    rng = np.random.default_rng(0)
    return {
        name: log(
            prompt_id=np.arange(30),
            reward=rng.random(30),
            gold=np.where(rng.permutation(30) < 20, rng.random(30), NAN),
            step=np.full(30, step),
            log_ratio=rng.normal(size=30),
        )
        for name, step in (("a", 3), ("b", 9))
    }


def test_joining_keeps_what_a_status_rests_on():
    """The worst origin, all rejected rows, the facts that both say, steps and runs."""
    logs = two_logs()
    logs["a"] = replace(logs["a"], rejected_rows=2, facts=LogFacts(held_out=True, complete=True))
    logs["b"] = replace(
        logs["b"],
        rejected_rows=3,
        origin=Origin(format="nemo-rl", chosen=True),
        facts=LogFacts(held_out=True),
        run=np.arange(30, dtype=np.int32) % 2,
        run_names=("x", "y"),
    )
    joined = join_logs(logs)
    assert joined.rejected_rows == 5
    assert joined.origin.chosen
    assert joined.facts.held_out and not joined.facts.complete
    assert joined.policy_names == ("a", "b")
    assert set(joined.step) == {3, 9}
    assert len(set(joined.run[joined.policy == 1])) == 2
    assert len(np.unique(joined.prompt)) == 30
    assert np.array_equal(joined.reward, np.r_[logs["a"].reward, logs["b"].reward])


def test_joining_never_drops_labels_or_chances():
    """Gold in one log stays, NaN in the other; chances in one log only stop the join."""
    logs = two_logs()
    logs["b"] = replace(logs["b"], gold=None)
    joined = join_logs(logs)
    assert int((~np.isnan(joined.gold)).sum()) == 20
    logs["a"] = replace(logs["a"], label_probability=np.full(30, 0.5))
    with pytest.raises(LogError, match="label_probability"):
        join_logs(logs)


def test_texts_tie_prompts_of_several_logs():
    """Ids were made anew in each file, but the texts are the same."""
    names = [f"question {index}" for index in range(10)]
    logs = {
        kind: log(prompt_id=[f"{kind}{index}" for index in range(10)], prompt=names)
        for kind in ("a", "b")
    }
    assert designed(join_logs(logs)).layout.prompts == 10


# --- the same rows are worth the same, whoever asks -----------------------------------------------


@st.composite
def layouts(draw):
    """Rows of two policies over some prompts, with labels by draw or by row."""
    prompts = draw(st.integers(6, 30))
    sizes = np.array(draw(st.lists(st.integers(1, 3), min_size=prompts, max_size=prompts)))
    if draw(st.booleans()):
        sizes[:] = sizes[0]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = []
    shared = draw(st.booleans())
    for policy in range(2):
        ids = np.repeat(np.arange(prompts), sizes) + (0 if shared else policy * prompts)
        rate = draw(st.sampled_from([0.5, 1.0]))
        whole = draw(st.booleans())
        known = (
            (rng.random(prompts) < rate)[ids % prompts] if whole else rng.random(len(ids)) < rate
        )
        known[0] = True
        parts.append(
            {
                "prompt_id": ids,
                "policy": np.full(len(ids), "ab"[policy]),
                "reward": rng.random(len(ids)),
                "gold": np.where(known, rng.random(len(ids)), NAN),
            }
        )
    if draw(st.booleans()):
        for part in parts:
            part["group"] = rng.integers(0, 3, len(part["prompt_id"]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def told(certificate):
    """What a result says of the rows that it rests on."""
    return {
        "log": certificate.log,
        "assumptions": certificate.assumptions,
        "health": certificate.health,
        "status": certificate.status,
    }


ASKED = {"target": "reward", "reward_range": (0, 1)}


@given(layouts(), st.randoms(use_true_random=False))
@settings(max_examples=12, deadline=None)
def test_rows_are_worth_the_same_in_any_order_and_form(columns, chance):
    """Shuffled, as one log with a policy column, or as two logs joined: the same documents."""
    rollouts = taut.Rollouts.from_arrays(columns)
    order = list(range(len(rollouts)))
    chance.shuffle(order)
    names = np.asarray(columns["policy"])
    bare = {name: values for name, values in columns.items() if name != "policy"}
    logs = {
        name: taut.Rollouts.from_arrays(
            {key: values[names == name] for key, values in bare.items()}
        )
        for name in "ab"
    }
    forms = [rollouts, rollouts.take(np.array(order)), join_logs(logs)]
    wholes = [taut.audit(form, **ASKED) for form in forms]
    assert wholes[0].to_json() == wholes[1].to_json()
    assert told(wholes[0]) == told(wholes[2])
    assert (wholes[0].lower, wholes[0].upper) == (wholes[2].lower, wholes[2].upper)
    parts = [taut.audit_by(form, "policy", **ASKED) for form in forms]
    assert parts[0].to_json() == parts[1].to_json() == parts[2].to_json()
    chosen = [taut.select(form, "policy", **ASKED) for form in (*forms[:2], logs)]
    assert chosen[0].to_json() == chosen[1].to_json() == chosen[2].to_json()


@given(layouts())
@settings(max_examples=12, deadline=None)
def test_every_verb_says_the_same_of_the_same_rows(columns):
    """Draws, counts, labels, standings and health of a candidate: audit --by and select agree."""
    rollouts = taut.Rollouts.from_arrays(columns)
    by = taut.audit_by(rollouts, "policy", **ASKED)
    chosen = taut.select(rollouts, "policy", **ASKED)
    checked = taut.check(rollouts, reward_range=(0, 1))
    whole = taut.audit(rollouts, **ASKED)
    for name in "ab":
        assert told(chosen[name].certificate) == told(by[name])
    assert tuple(checked) == whole.health
    stands = {item.name: item for item in checked.assumptions}
    assert all(stands[item.name] == item for item in whole.assumptions)
    assert (checked.log.prompts, checked.log.draws) == (whole.log.prompts, whole.log.draws)


@given(layouts())
@settings(max_examples=12, deadline=None)
def test_one_group_is_the_whole(columns):
    """Where M = 1 audit and audit --by give the same numbers, labels and standings."""
    rollouts = taut.Rollouts.from_arrays(columns | {"policy": np.full(len(columns["reward"]), "a")})
    (one,) = taut.audit_by(rollouts, "policy", **ASKED).values()
    assert one == taut.audit(rollouts, **ASKED)


@given(layouts())
@settings(max_examples=10, deadline=None)
def test_draws_hold_each_row_once(columns):
    """Blocks part the rows; every row of a prompt is in its one block."""
    rollouts = taut.Rollouts.from_arrays(columns)
    found = designed(rollouts)
    assert sorted(found.blocks.rows.tolist()) == list(range(len(rollouts)))
    assert len(found.blocks) == len(np.unique(rollouts.prompt)) == found.layout.prompts
    again = lay_out(rollouts, seed=0).blocks
    assert np.array_equal(again.starts, found.blocks.starts)


# --- what no log may be taken for -----------------------------------------------------------------


@pytest.mark.parametrize("word", ["held-out", "complete", "random-labels"])
def test_a_log_that_says_no_of_itself_is_not_one_of_which_nobody_spoke(word):
    """taut.toml says complete = false: violated, and who declares the contrary is stopped."""
    facts = LogFacts(**{word.replace("-", "_"): False})
    rollouts = replace(log(**gold_where(TWO % 2 == 0)), facts=facts)
    assert stands(designed(rollouts), word) is Standing.VIOLATED
    with pytest.raises(taut.UsageError, match=r"taut\.toml says .* = false"):
        designed(rollouts, words=[word])


@pytest.mark.parametrize("labelled", [1.0, 0.5])
def test_groups_dropped_by_their_gold_are_seen_behind_a_graded_reward(labelled):
    """A length penalty makes every reward another; gold tells that no group is all right."""
    rng = np.random.default_rng(4)
    chance = rng.beta(9, 1, 400)
    gold = (rng.random((400, 8)) < chance[:, None]).astype(float)
    known = (rng.random(400) < labelled)[:, None]
    columns = {"reward": 0.95 * gold + 0.05 * rng.random(gold.shape)}
    columns["gold"] = np.where(known, gold, NAN)
    columns["prompt_id"] = np.broadcast_to(np.arange(400)[:, None], gold.shape)
    honest = {name: values.ravel() for name, values in columns.items()}
    assert not designed(log(**honest)).findings.complete.speaks
    mixed = (gold.min(axis=1) < gold.max(axis=1)) | ~known[:, 0]
    dropped = {name: values[mixed].ravel() for name, values in columns.items()}
    assert designed(log(**dropped)).findings.complete.speaks


@pytest.mark.parametrize("scale", [(1e-320, 0.0), (1.0, 1e15), (1.0, 1e200)])
def test_gold_without_digits_on_the_common_scale_is_refused(scale):
    """An endless search, a crash and [0, 5e-324] for a mean of a half before."""
    rollouts = log(**gold_where(TWO % 2 == 0))
    with pytest.raises(AssumptionError, match="no digits left"):
        designed(rollouts, gold_range=(0.0, 1.0), gold_scale=scale)


def test_an_empty_log_in_memory_is_an_error_that_says_so():
    """Not one about the type of its ids."""
    with pytest.raises(LogError, match="no values"):
        taut.Rollouts.from_arrays(prompt_id=[], reward=[])


def test_rows_labelled_one_by_one_say_nothing_where_rollouts_are_missing():
    """How many rollouts of a prompt are there may go with outcomes, and so may its label."""
    rng = np.random.default_rng(1)
    prompts = np.repeat(np.arange(40), 4)
    there = rng.random(160) < 0.8
    gold = np.where(rng.random(160) < 0.4, 1.0, NAN)
    rollouts = log(prompt_id=prompts[there], gold=gold[there])
    asked = {"target": "reward", "reward_range": (0, 1), "launched": (40, 4), "missing": "worst"}
    found = taut.audit(rollouts, **asked)
    assert found.status is Status.VACUOUS
    reason = next(item.reason for item in found.routes if item.route == "gold")
    assert "missing='worst'" in reason


def test_a_step_that_is_no_whole_number_is_refused():
    """Steps 0.2 and 0.8 would otherwise be one."""
    with pytest.raises(LogError, match=r"row 1: 'step' is 0\.8"):
        log(prompt_id=[1, 2], step=[0.0, 0.8])


def test_rows_without_a_label_may_lack_its_chance():
    """As in a file: whoever was not asked had no chance written down."""
    rollouts = log(prompt_id=[1, 2, 3], gold=[1.0, 0.0, NAN], label_probability=[0.5, 0.25, NAN])
    assert designed(rollouts).labels.kind is LabelKind.CHANCES


def test_the_range_of_gold_is_not_said_to_be_declared_where_it_is_the_rewards():
    """Nobody gave --gold-range: the report must not say so."""
    found = designed(log(**gold_where(TWO % 2 == 0))).assumptions[about.GOLD_RANGE]
    assert found.by.startswith("that of --reward-range")


def test_rows_that_are_labelled_together_are_one_unit_of_a_test():
    """All 16 rows of a prompt at a step or none: taken one by one some look chosen."""
    rng = np.random.default_rng(8)
    step, prompt = np.repeat(np.arange(3), 320), np.tile(np.repeat(np.arange(20), 16), 3)
    reward = rng.random(len(step))
    doubted = 0
    for _ in range(40):
        known = (rng.random((3, 20)) < 0.4)[step, prompt]
        gold = np.where(known, reward, NAN)
        rollouts = log(prompt_id=prompt, step=step, reward=reward, gold=gold)
        doubted += designed(rollouts).findings.labels.speaks
    assert doubted == 0
    one_step = np.where((step == 1) & (prompt % 3 > 0), reward, NAN)
    rollouts = log(prompt_id=prompt, step=step, reward=reward, gold=one_step)
    assert designed(rollouts).findings.labels.speaks

"""What a log knows about itself, and what travels with its rows: facts, keys of texts, names."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.errors import LogError
from taut.logs.facts import (
    LogFacts,
    facts_beside,
    facts_metadata,
    merge_facts,
    recorded_facts,
    settle,
    stored_facts,
)
from taut.logs.keys import hash_ids


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"prompt_id": f"p{i % 4}", "prompt": f"text {i % 2}", "response": f"r{i}", "reward": float(i)}
    for i in range(12)
]
FACTS = recorded_facts(
    beta=0.05, reward_range=(0.0, 1.0), held_out=True, launched_prompts=3, writer="a trainer"
)


def test_facts_come_back_from_the_metadata_of_a_file():
    """What is written is what is read, with what is on record and what was declared."""
    metadata = {k.encode(): v.encode() for k, v in facts_metadata(FACTS).items()}
    again = stored_facts(metadata, "a.parquet")
    assert again == FACTS
    assert again.stands("beta") == "recorded" and again.stands("gold_range") is None
    assert LogFacts(beta=0.1).stands("beta") == "declared"
    assert not LogFacts() and facts_metadata(LogFacts()) == {}
    assert stored_facts(None, "a.parquet") == LogFacts()


@pytest.mark.parametrize(
    "value", [b"{", b"[]", b'{"schema": "taut.facts/1", "beta": "x"}', b'{"schema": "other"}']
)
def test_damaged_facts_are_refused(value):
    """Metadata is checked like data."""
    with pytest.raises(LogError, match="metadata"):
        stored_facts({b"taut.facts": value}, "a.parquet")


def test_facts_of_several_files_survive_where_they_agree():
    """Equal ones stay, launched draws add up, the rest is left out with a note."""
    other = recorded_facts(beta=0.1, reward_range=(0.0, 1.0), launched_prompts=5, writer="b")
    both = merge_facts(FACTS, other)
    assert both.reward_range == (0.0, 1.0) and both.launched_prompts == 8
    assert both.beta is None and both.held_out is None and both.writer is None
    assert both.ours and both.recorded == {"reward_range", "launched_prompts"}
    assert len(both.notes) == 3 and any("beta" in note for note in both.notes)
    assert merge_facts(FACTS) == FACTS and merge_facts() == LogFacts()
    assert not merge_facts(FACTS, LogFacts()).ours


def test_the_nearest_toml_declares_facts_and_convert_keeps_them(tmp_path):
    """A taut.toml above the log holds unless one is nearer; convert puts facts in the file."""
    (tmp_path / "taut.toml").write_text("beta = 0.05\nreward_range = [0, 20]\nheld_out = true\n")
    log = write_lines(tmp_path / "run" / "a.jsonl", ROWS)
    facts = taut.read_rollouts(log).facts
    assert (facts.beta, facts.reward_range, facts.held_out) == (0.05, (0, 20), True)
    assert facts.stands("beta") == "declared" and not facts.ours
    (tmp_path / "elsewhere").mkdir()
    taut.convert(log, tmp_path / "elsewhere" / "b.parquet", mapping={"reward": "reward"})
    (tmp_path / "taut.toml").unlink()
    again = taut.read_rollouts(tmp_path / "elsewhere").facts
    assert (again.beta, again.mapping, again.recorded) == (0.05, {"reward": "reward"}, frozenset())
    (tmp_path / "elsewhere" / "taut.toml").write_text("beta = 0.1\n")
    with pytest.raises(LogError, match=r"beta = 0.05.*taut.toml says 0.1"):
        taut.read_rollouts(tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["beta = 'x'", "betta = 1", "= 3", "[map]\nnone = 'a'"])
def test_a_toml_that_says_what_no_log_knows_is_refused(tmp_path, text):
    """A wrong declaration is an error, not a silence."""
    (tmp_path / "taut.toml").write_text(text)
    with pytest.raises(LogError, match=r"taut\.toml"):
        taut.read_rollouts(write_lines(tmp_path / "a.jsonl", ROWS))


def test_what_is_said_must_not_contradict_what_is_known():
    """What the call says counts where the log is silent, and must agree where it is not."""
    assert settle(FACTS, "beta", None, "--beta") == 0.05
    assert settle(FACTS, "reward_range", [0, 1], "--reward-range") == [0, 1]
    assert settle(LogFacts(), "beta", 0.2, "--beta") == 0.2
    with pytest.raises(LogError, match=r"--beta is 0.1, but the log says 0.05 \(recorded\)"):
        settle(FACTS, "beta", 0.1, "--beta")


def test_equal_texts_have_one_key_whatever_their_ids(tmp_path):
    """As text and as messages, in JSON lines and in Parquet, before and after convert."""
    rollouts = taut.read_rollouts(write_lines(tmp_path / "a.jsonl", ROWS))
    assert rollouts.text_key.tolist() == hash_ids([row["prompt"] for row in ROWS]).tolist()
    assert len(set(rollouts.prompt.tolist())) == 4
    chats = [
        {**row, "prompt": [{"role": "user", "content": row["prompt"], "tools": [{"n": i % 2}]}]}
        for i, row in enumerate(ROWS)
    ]
    lines = taut.read_rollouts(write_lines(tmp_path / "b.jsonl", chats))
    pq.write_table(pa.Table.from_pylist(chats), tmp_path / "b.parquet")
    table = taut.read_rollouts(tmp_path / "b.parquet")
    assert lines.text_key.tolist() == table.text_key.tolist()
    assert len(set(lines.text_key.tolist())) == 2
    taut.convert(tmp_path / "b.jsonl", tmp_path / "c.parquet")
    assert taut.read_rollouts(tmp_path / "c.parquet").text_key.tolist() == lines.text_key.tolist()


def test_a_row_keeps_its_name_through_convert_split_and_shuffle(tmp_path):
    """Names are of the content, and of its occurrence where rows repeat; labels are no part."""
    rows = [*ROWS, *ROWS[:5]]
    read = lambda path: taut.read_rollouts(path, rollout_ids=True)  # noqa: E731
    whole = read(write_lines(tmp_path / "a.jsonl", rows))
    assert len(set(whole.rollout_names)) == len(rows) == len(set(whole.rollout_id.tolist()))
    order = np.random.default_rng(0).permutation(len(rows))
    write_lines(tmp_path / "s" / "1.jsonl", [{**rows[i], "gold": 1.0} for i in order[:6]])
    write_lines(tmp_path / "s" / "2.jsonl", [{**rows[i], "gold": 0.0} for i in order[6:]])
    assert set(read(tmp_path / "s").rollout_names) == set(whole.rollout_names)
    taut.convert(tmp_path / "s", tmp_path / "c.parquet")
    assert list(read(tmp_path / "c.parquet").rollout_names) == list(
        read(tmp_path / "s").rollout_names
    )
    named = [{**row, "rollout_id": f"r{i}"} for i, row in enumerate(ROWS)]
    given = read(write_lines(tmp_path / "n.jsonl", named))
    assert given.rollout_id.tolist() == hash_ids([row["rollout_id"] for row in named]).tolist()


def test_failures_and_label_probabilities_are_columns(tmp_path):
    """An error that is not empty marks a failed row, in any file of the log."""
    errors = ["timeout", {"type": "x"}, None, "", {}, False]
    write_lines(
        tmp_path / "a.jsonl",
        [{**row, "error": e} for row, e in zip(ROWS, errors, strict=False)],
    )
    write_lines(tmp_path / "b.jsonl", [{**ROWS[0], "label_probability": 0.25}])
    rollouts = taut.read_rollouts(tmp_path)
    assert rollouts.failed.tolist() == [True, True, False, False, False, False, False]
    assert rollouts.label_probability[-1] == 0.25
    assert np.isnan(rollouts.label_probability[:-1]).all()
    write_lines(tmp_path / "b.jsonl", [{**ROWS[0], "label_probability": 0.0}])
    with pytest.raises(LogError, match=r"b\.jsonl:1: 'label_probability' is 0.0"):
        taut.read_rollouts(tmp_path)


def test_other_columns_are_kept_on_request(tmp_path):
    """Any column to slice by, and the parts of a reward, also through convert."""
    rows = [
        {**row, "meta": {"domain": ["math", None, 3][i % 3]}, "rewards": {"a": float(i), "b": 1.0}}
        for i, row in enumerate(ROWS)
    ]
    write_lines(tmp_path / "a.jsonl", rows)
    taut.convert(tmp_path / "a.jsonl", tmp_path / "b.parquet", keep=["meta.domain"])
    for name in ("a.jsonl", "b.parquet"):
        rollouts = taut.read_rollouts(tmp_path / name, keep=["meta.domain"], parts=True)
        assert rollouts.kept_columns == ("meta.domain",)
        (names,) = rollouts.kept_names
        assert [names[code] for code in rollouts.kept[:3, 0]] == ["math", "(none)", "3"]
        assert rollouts.part_names == ("a", "b")
        assert rollouts.parts[:, 0].tolist() == [float(i) for i in range(12)]
        assert rollouts.take(np.arange(2)).kept.shape == (2, 1)
    with pytest.raises(LogError, match="expected 'domain'"):
        taut.read_rollouts(tmp_path / "a.jsonl", keep=["domain"])


def test_log_probs_that_are_not_needed_do_not_stop_a_reader(tmp_path):
    """A null token or a file without log-probs: left out with a note, where they are optional."""
    good = {"policy_logprobs": [-1.0, -2.0], "ref_logprobs": [-1.5, -2.0]}
    bad = {**good, "policy_logprobs": [-1.0, None]}
    rows = [{**row, **good} for row in ROWS]
    log = write_lines(tmp_path / "a.jsonl", [*rows, {**ROWS[0], **bad}])
    with pytest.raises(LogError, match="null at token 2"):
        taut.read_rollouts(log)
    rollouts = taut.read_rollouts(log, log_probs="optional")
    assert rollouts.log_ratio is None and "null at token 2" in rollouts.notes[0]
    assert taut.read_rollouts(log, log_probs="ignored").notes == ()
    write_lines(tmp_path / "b.jsonl", ROWS)
    write_lines(tmp_path / "a.jsonl", rows)
    assert taut.read_rollouts(log, log_probs="optional").log_ratio is not None
    assert taut.read_rollouts(tmp_path, log_probs="optional").log_ratio is None
    write_lines(tmp_path / "b.jsonl", [{**ROWS[0], "reward": None}])
    with pytest.raises(LogError, match="'reward'"):
        taut.read_rollouts(tmp_path / "b.jsonl", log_probs="optional")


def test_check_proposes_a_toml_that_can_be_read(tmp_path):
    """What is known is filled in, the rest waits as comments; a second proposal is refused."""
    log = write_lines(tmp_path / "a.jsonl", [{"q": "a", "reward": float(i % 2)} for i in range(40)])
    args = ["check", str(log), "--map", "prompt_id=q", "--write-config"]
    first = CliRunner().invoke(cli, args)
    assert "fill in what you know" in first.stderr
    beside = facts_beside(str(log))
    assert beside.mapping == {"prompt_id": "q"} and beside.format == "native" and not beside.facts
    lines = (tmp_path / "taut.toml").read_text().splitlines()[1:]
    (tmp_path / "taut.toml").write_text("\n".join(line.removeprefix("# ") for line in lines))
    assert facts_beside(str(log)).facts.rollouts_per_prompt == 4
    assert len(taut.read_rollouts(log)) == 40
    assert CliRunner().invoke(cli, args).exit_code != 0

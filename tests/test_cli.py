"""The command line as a user meets it: outputs, exit statuses, errors in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from taut.cli import cli, main

ROWS = [
    {
        "prompt_id": f"p{i}",
        "reward": (i * 37 % 100) / 100,
        "policy_logprob": -20.0 - i % 7,
        "ref_logprob": -20.3 - i % 7 + 0.1 * (i % 5),
        "gold": (i * 37 % 100) / 125 if i % 4 < 2 else None,
        "step": i % 2,
    }
    for i in range(200)
]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run(monkeypatch, capsys, *arguments):
    """Run the program in this process; return exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


TARGET = ("--beta", "0.1", "--reward-range", "0", "1", "--target")
DECLARE = ("--declare", "held-out,complete,random-labels")
AUDIT = (*TARGET, "clipped", *DECLARE)


def test_audit_prints_a_verdict_and_writes_json(log, tmp_path, monkeypatch, capsys):
    """The report goes to stdout, the JSON to its file, and both carry the same ends."""
    path = tmp_path / "out.json"
    status, out, err = run(monkeypatch, capsys, "audit", log, *AUDIT, "--json", path)
    document = json.loads(path.read_text())
    assert (status, err) == (0, "")
    assert document["schema"] == "taut.certificate/2"
    assert document["certificate"]["status"] == "conditional"  # on right log-probs
    assert document["targets"]["reward"]["status"] == "certified"
    assert f"{document['measured']['objective']:.3f}"[:4] in out
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".out")]


def test_html_is_a_page_that_needs_no_network(log, tmp_path, monkeypatch, capsys):
    """--html writes the report as one self-contained page."""
    path = tmp_path / "report.html"
    status, out, _ = run(monkeypatch, capsys, "audit", log, *AUDIT, "--html", path)
    page = path.read_text(encoding="utf-8")
    assert status == 0
    assert page.startswith("<!doctype html>")
    assert "The three targets" in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page)
    assert "measured" in out


def test_json_to_stdout_is_the_only_output(log, monkeypatch, capsys):
    """--json - can be piped: nothing but JSON on stdout."""
    status, out, _ = run(monkeypatch, capsys, "audit", log, *AUDIT, "--json", "-")
    assert status == 0
    assert json.loads(out)["log"]["rollouts"] == 200


CONTRACT = """
version target settings.beta settings.delta settings.tau settings.tau_source settings.target_asked
settings.declare settings.prompts settings.reward_range settings.method settings.calibration_share
settings.seed log.rollouts log.prompts log.draws log.cells log.labels log.certifying_prompts
log.rollouts_per_prompt.min log.gold_rollouts log.gold_prompts log.rejected_rows
measured.objective measured.reward measured.gold measured.kl measured.clipped_kl
measured.clipped_share terms.sampling.lower terms.sampling.assumes terms.sampling.source
terms.reward_shift.route terms.kl_clipping.status certificate.lower certificate.upper
certificate.level certificate.status certificate.units certificate.range target_reason proxy.lower
proxy.status routes targets.reward.units targets.objective.unavailable paper.alpha paper.sampling
paper.reward_shift paper.kl_clipping paper.total paper.coverage paper.reward_mse ledger
assumptions health
"""


def test_the_contract_holds(log, monkeypatch, capsys):
    """Every key of the JSON contract is there, finite or null, and the terms add up."""
    _, out, _ = run(monkeypatch, capsys, "audit", log, *AUDIT, "--json", "-")
    document = json.loads(out)
    for path in CONTRACT.split():
        value = document
        for key in path.split("."):
            value = value[key]
    total = document["measured"]["objective"] + sum(
        term["lower"] for term in document["terms"].values()
    )
    assert total == pytest.approx(document["certificate"]["lower"], abs=1e-12)
    assert sum(item["delta"] for item in document["ledger"]) == pytest.approx(0.05)
    assert {item["status"] for item in document["health"]} <= {
        "pass",
        "note",
        "warn",
        "fail",
        "not_checked",
    }
    assert {item["stands"] for item in document["assumptions"]} <= {
        "recorded",
        "checked",
        "declared",
        "assumed",
        "in_doubt",
        "violated",
    }
    for item in document["assumptions"]:
        assert item["text"]
        assert item["by"]


def test_groups_by_step(log, monkeypatch, capsys):
    """--by step audits each step; the JSON lists them in order."""
    status, out, _ = run(monkeypatch, capsys, "audit", log, *AUDIT, "--by", "step", "--json", "-")
    document = json.loads(out)
    assert status == 0
    assert [group["value"] for group in document["groups"]] == [0, 1]
    status, out, _ = run(monkeypatch, capsys, "audit", log, *AUDIT, "--by", "step")
    assert status == 0
    assert "step" in out


def test_gate_passes_and_fails_by_exit_status(log, monkeypatch, capsys):
    """--require-lower exits 0 above the bound, 3 below it, and 3 on an estimate or a doubt."""
    assert run(monkeypatch, capsys, "audit", log, *AUDIT, "--require-lower", "0.01")[0] == 0
    status, _, err = run(monkeypatch, capsys, "audit", log, *AUDIT, "--require-lower", "0.9")
    assert status == 3
    assert "--require-lower 0.9 failed" in err
    estimate = ("--beta", "0.1", "--reward-range", "0", "1", *DECLARE)
    gate = ("--require-lower", "0.01")
    status, _, err = run(
        monkeypatch, capsys, "audit", log, *estimate, "--target", "objective", *gate
    )
    assert status == 3
    assert "estimated, not certified" in err
    status, _, err = run(monkeypatch, capsys, "audit", log, *estimate, *gate)
    assert status == 2
    assert "needs an explicit --target" in err
    status, _, err = run(monkeypatch, capsys, "audit", log, *AUDIT, "--require-lower", "nan")
    assert status == 2
    assert "is nan" in err


def test_a_gate_asks_why_prompts_have_unequal_numbers_of_rollouts(tmp_path, monkeypatch, capsys):
    """The number stands, conditional; the gate passes once the user says that none was dropped."""
    path = tmp_path / "uneven.jsonl"
    rows = [
        row | {"step": 0, "prompt_id": f"p{i - i % 3 // 2}", "gold": row["reward"] / 1.25}
        for i, row in enumerate(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("audit", path, *TARGET, "reward", "--require-lower", "0.01")
    status, _, err = run(monkeypatch, capsys, *arguments, "--declare", "held-out,random-labels")
    assert status == 3
    assert "--declare complete" in err
    assert run(monkeypatch, capsys, *arguments, *DECLARE)[0] == 0


def test_check_reports_health(log, monkeypatch, capsys):
    """taut check shows every check; a failing one gives exit status 1."""
    ranges = ("--reward-range", "0", "1", "--gold-range", "0", "1")
    status, out, _ = run(monkeypatch, capsys, "check", log, *ranges)
    assert status == 0
    assert "checks passed" in out
    status, out, _ = run(
        monkeypatch,
        capsys,
        *("check", log, "--reward-range", "0", "0.1", *ranges[3:], "--json", "-"),
    )
    assert status == 1
    document = json.loads(out)
    assert document["schema"] == "taut.health/2"
    assert [item["target"] for item in document["certifiable"]] == [
        "reward",
        "clipped",
        "objective",
    ]


def test_converted_logs_give_the_same_bytes(log, tmp_path, monkeypatch, capsys):
    """audit(convert(log)) equals audit(log), byte for byte."""
    native = tmp_path / "native.parquet"
    assert run(monkeypatch, capsys, "convert", log, "-o", native)[0] == 0
    first = run(monkeypatch, capsys, "audit", log, *AUDIT, "--json", "-")[1]
    second = run(monkeypatch, capsys, "audit", native, *AUDIT, "--json", "-")[1]
    assert first == second


def test_simulated_logs_come_with_their_truth(tmp_path, monkeypatch, capsys):
    """taut simulate writes a log and its truth; the audit's interval holds the truth."""
    path = tmp_path / "world.parquet"
    arguments = ("simulate", "calibrated", "-o", path, "--prompts", "300", "--gold", "150")
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    truth = json.loads(Path(f"{path}.truth.json").read_text())
    settings = truth["settings"]
    status, out, _ = run(
        monkeypatch,
        capsys,
        *("audit", path, "--beta", settings["beta"], "--reward-range", 0, 1),
        *("--target", "reward", "--json", "-"),
    )
    assert status == 0
    found = json.loads(out)["certificate"]
    assert found["lower"] <= truth["truth"]["reward"] <= found["upper"]


def test_demo_shows_the_bundled_example(monkeypatch, capsys):
    """taut demo audits the bundled log and compares with the truth that is known for it."""
    status, out, _ = run(monkeypatch, capsys, "demo")
    assert status == 0
    assert "inside" in out


@pytest.mark.parametrize(
    ("arguments", "status", "fragment"),
    [
        (("audit", "absent.jsonl", "--beta", "1"), 1, "absent.jsonl"),
        (("audit", "LOG", "--target", "objective"), 2, "needs --beta"),
        (("audit", "LOG", "--declare", "innocent"), 2, "innocent"),
        (("audit", "LOG", "--prompts", "some"), 2, "some"),
        (("audit", "LOG", "--prompts", "with-replacement"), 1, "--map group=PATH"),
        (("audit", "LOG", "--missing", "worst"), 2, "without launched"),
        (("audit", "LOG", "--gold-range", "0", "0.1"), 1, "--gold-scale P,Q"),
        (("audit", "LOG", "--beta", "much"), 2, "much"),
        (("audit", "LOG", "--beta", "1", "--tau", "often"), 2, "neither auto, none"),
        (("audit", "LOG", "--beta", "1", "--map", "reward"), 2, "NAME=PATH"),
        (("audit", "LOG", "--beta", "1", "--map", "reward=a.b"), 1, "a.b"),
        (("audit", "LOG", "--beta", "1", "--reward-range", "1", "0"), 2, "LOW < HIGH"),
        (("audit", "LOG", "--beta", "1", "--log-ratio-max", "0.01"), 1, "exceeds the declared"),
        (("audit", "LOG", "--beta", "1", "--by", "policy"), 1, "no 'policy' column"),
        (("audit", "LOG", "--beta", "1", "--json", "no/such/folder.json"), 2, "does not exist"),
        (("simulate", "utopia", "-o", "x.parquet"), 2, "utopia"),
        (("audit",), 2, "LOG"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_errors_are_one_line_with_their_status(
    arguments, status, fragment, log, monkeypatch, capsys
):
    """Wrong usage exits 2, wrong data 1; the message says what to do, without a traceback."""
    monkeypatch.chdir(log.parent)
    found, _, err = run(monkeypatch, capsys, *(log if a == "LOG" else a for a in arguments))
    assert found == status
    assert fragment in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["audit", "check", "convert", "simulate", "demo"])
def test_help_shows_every_command(command):
    """Each command explains itself."""
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    if command != "demo":
        assert f"Example: taut {command}" in result.output


def test_output_to_a_closed_pipe_is_no_error(log):
    """`taut audit ... | head -1` ends quietly."""
    program = Path(sys.executable).with_name("taut")
    command = f"{program} audit {log} {' '.join(AUDIT)} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.fixture
def reward_data(tmp_path):
    """Rows of two behaviour policies, all labelled, on prompts of their own."""
    path = tmp_path / "trusted.jsonl"
    rows = [
        {
            "prompt_id": f"t{i}",
            "reward": (i * 53 % 100) / 100,
            "gold": (i * 53 % 100) / 125,
            "policy_logprob": -10.0 - 0.1 * (i % 3),
            "first": -10.0 - 0.1 * ((i + 1) % 3),
            "second": -10.2,
        }
        for i in range(400)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reward_data_open_a_route(log, reward_data, monkeypatch, capsys):
    """--reward-data bounds the reward shift without on-policy labels; every route is listed."""
    arguments = ("audit", log, *TARGET, "reward", "--held-out", "--json", "-")
    extra = ("--reward-data", reward_data, "--reward-map", "behaviour_logprob=first")
    extra += ("--route", "importance")
    status, out, err = run(monkeypatch, capsys, *arguments, *extra)
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert document["terms"]["reward_shift"]["route"].startswith("importance weights")
    assert len(document["routes"]) == 8
    assert [item["noise"] for item in document["sensitivity"]] == [0.1, 0.5]
    assert document["coverage"]["draws"] > 0


def test_mixed_behaviour_is_weighed_against_the_mixture(log, reward_data, monkeypatch, capsys):
    """Several behaviour policies with their shares give weights against their mixture."""
    arguments = ("audit", log, *TARGET, "reward", "--held-out", "--json", "-")
    shares = ("--behaviour", "first=0.25", "--behaviour", "second=0.75")
    extra = ("--reward-data", reward_data, "--reward-map", "reward=reward")
    status, out, _ = run(monkeypatch, capsys, *arguments, *extra, *shares)
    assert status == 0
    mean = json.loads(out)["coverage"]["mean"]
    single = run(
        monkeypatch, capsys, *arguments, *extra, "--reward-map", "behaviour_logprob=first"
    )[1]
    assert mean != json.loads(single)["coverage"]["mean"]
    status, _, err = run(monkeypatch, capsys, *arguments, *extra, "--behaviour", "first=0.4")
    assert status == 1
    assert "sum to 0.4" in err


def test_a_route_that_is_not_open_is_refused(log, monkeypatch, capsys):
    """Naming a route without its data is a usage error with the reason."""
    status, _, err = run(monkeypatch, capsys, "audit", log, *AUDIT, "--route", "importance")
    assert status == 2
    assert "needs reward data" in err


def test_a_margin_audits_the_calibrated_reward(reward_data, tmp_path, monkeypatch, capsys):
    """--margin grades a reward that was calibrated on the reward data, and says what it found."""
    path = tmp_path / "audited.jsonl"
    rows = [
        {"prompt_id": f"a{i}", "reward": (i * 31 % 100) / 100, "gold": (i * 31 % 100) / 125}
        for i in range(300)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("audit", path, "--target", "reward", "--reward-range", "0", "1")
    extra = ("--reward-data", reward_data, "--margin", "0.2")
    status, out, err = run(monkeypatch, capsys, *arguments, *extra, "--json", "-")
    assert (status, err) == (0, "")
    assert json.loads(out)["transport"]["state"] == "PASS"
    assert "PASS  " in run(monkeypatch, capsys, *arguments, *extra)[1]
    status, _, err = run(monkeypatch, capsys, *arguments, "--margin", "0.2")
    assert status == 2
    assert "needs --reward-data" in err


def test_features_serve_the_mean_score_route(tmp_path, monkeypatch, capsys):
    """With features in both logs the score route uses them; uneven ones are refused by row."""

    def rows(kind, shift, length=2):
        return [
            {
                "prompt_id": f"{kind}{i}",
                "reward": (i * 37 % 100) / 100,
                "gold": (i * 37 % 100) / 100 if kind == "t" else None,
                "features": [(i * 37 % 100) / 100 + shift, (i % 7) / 7, 1.0][:length],
            }
            for i in range(100)
        ]

    logs = {}
    for kind, shift in (("a", 0.1), ("t", 0.0)):
        logs[kind] = tmp_path / f"{kind}.jsonl"
        logs[kind].write_text("".join(json.dumps(row) + "\n" for row in rows(kind, shift)))
    arguments = ("audit", logs["a"], "--target", "reward", "--reward-range", "0", "1")
    extra = ("--reward-data", logs["t"], "--route", "score", "--json", "-")
    status, out, _ = run(monkeypatch, capsys, *arguments, *extra)
    assert status == 0
    assert (
        json.loads(out)["terms"]["reward_shift"]["route"] == "shift of the mean of the 2 features"
    )
    uneven = rows("t", 0.0)[:50] + rows("u", 0.0, 3)[:1]
    logs["t"].write_text("".join(json.dumps(row) + "\n" for row in uneven))
    status, _, err = run(monkeypatch, capsys, *arguments, *extra)
    assert status == 1
    assert "t.jsonl:51: 'features' has 3 values, the first row 2" in err

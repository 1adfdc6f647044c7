"""Documents: each verb's result is one model, whose JSON can be read back as the same result."""

import io
import json
import math
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

import taut
from taut.cli import main
from taut.errors import LogError, UsageError
from taut.report.door import terminal_report
from taut.report.terminal.layout import print_report
from taut.results import Part, tidy
from taut.schemas import DOCUMENTS, json_schemas

SAID = "held-out,complete,random-labels"
ASKED = {"beta": 0.1, "reward_range": (0, 1)}


def rows(n=160, seed=0, prefix="p", labelled=0.5):
    rng = np.random.default_rng(seed)
    gold = rng.random(n)
    known = rng.random(n) < labelled
    return [
        {
            "prompt_id": f"{prefix}{i}",
            "reward": float(np.clip(gold[i] + 0.1 * rng.normal(), 0, 1)),
            "gold": float(gold[i]) if known[i] else None,
            "policy_logprob": float(-20 - 5 * rng.random()),
            "ref_logprob": -23.0,
            "step": i % 2,
        }
        for i in range(n)
    ]


def rollouts(**settings):
    found = rows(**settings)
    columns = {name: [row[name] for row in found] for name in found[0]}
    columns["gold"] = [math.nan if value is None else value for value in columns["gold"]]
    return taut.Rollouts.from_arrays(columns)


def sliced():
    """Two rollouts a prompt, of three kinds that differ within prompts."""
    found = rows(labelled=1.0)
    kinds = {"kind": [f"k{i % 3}" for i in range(len(found))]}
    names = {"prompt_id": [f"p{i // 2}" for i in range(len(found))]}
    return kinds | names | {name: [row[name] for row in found] for name in ("reward", "gold")}


COSTS = taut.Costs(prefill=3.0, decode=1.0, label=8.0, unit="cents")


def watched(blocks):
    monitor = taut.Monitor(low=0, high=1, width=0.5)
    monitor.update([0.5] * blocks)
    return monitor


def transport():
    data = rollouts(n=60, seed=1, prefix="d", labelled=1.0)
    one = rollouts()
    audited = taut.Rollouts(prompt=one.prompt, reward=one.reward, gold=one.gold)
    return taut.audit_transport(audited, data, gold_range=(0, 1), margin=0.3)


RESULTS = {
    "audit": lambda: taut.audit(rollouts(), **ASKED, declare=SAID),
    "an open end": lambda: taut.audit(rollouts(), **ASKED, target="objective", side="upper"),
    "nothing clipped": lambda: taut.audit(rollouts(), **ASKED, target="objective", tau=None),
    "nothing known": lambda: taut.audit(rollouts(labelled=0.0), beta=0.1),
    "gold of its own": lambda: taut.audit(rollouts(), reward_range=(0, 9), gold_range=(0, 1)),
    "audit by": lambda: taut.audit_by(rollouts(), "step", **ASKED),
    "select": lambda: taut.select(rollouts(), "step", **ASKED, declare=SAID),
    "select nobody": lambda: taut.select(rollouts(labelled=0.03), "step", **ASKED, tau=None),
    "compare": lambda: taut.compare(rollouts(), by="step", of=1, against=0, **ASKED, declare=SAID),
    "slices": lambda: taut.audit_by(sliced(), "kind", reward_range=(0, 1), target="reward"),
    "check": lambda: taut.check(rollouts(), **ASKED),
    "transport": transport,
    "threshold": lambda: taut.clip_threshold(rollouts(), **ASKED),
    "plan": lambda: taut.plan(rollouts(), budget=900, width=0.2, costs=COSTS, **ASKED),
    "plan of rewards": lambda: taut.plan(
        rollouts(labelled=0.0), budget=90, costs=taut.Costs(decode=1.0), target="reward"
    ),
    "monitor": lambda: watched(40).result,
    "monitor of nothing": lambda: watched(0).result,
}
FORECASTS = ("threshold", "plan", "plan of rewards")


@pytest.fixture(scope="module", params=RESULTS)
def result(request):
    return made(request.param)


@cache
def made(name):
    return RESULTS[name]()


def numbers(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


def test_a_saved_result_is_the_same_result(result, tmp_path):
    """taut.load gives back what was saved: equal, of the same class, and the same bytes."""
    path = tmp_path / "result.json"
    path.write_text(result.to_json(), encoding="utf-8")
    again = taut.load(path)
    assert type(again) is type(result)
    assert again == result
    assert again.to_json() == result.to_json()
    assert str(again) == str(result)


def test_numbers_of_a_document_are_finite_or_null(result):
    """No NaN, no infinity, no negative zero: any JSON reader takes it."""
    text = json.dumps(result.document, allow_nan=False)
    assert json.loads(text) == result.document
    found = list(numbers(result.document))
    assert all(math.isfinite(value) for value in found)
    assert not any(value == 0 and math.copysign(1, value) < 0 for value in found)


def test_a_document_validates_by_its_own_schema(result):
    """The published JSON schema is that of what is written: every key known, none missing."""
    schema = type(result).model_json_schema(mode="serialization")
    fits(result.document, schema, schema.get("$defs", {}))


KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
}


def fits(value, schema, definitions):
    """Check a value against the parts of JSON Schema that pydantic writes."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        assert any(fit(value, choice, definitions) for choice in schema["anyOf"]), value
    assert value == schema.get("const", value)
    assert value in schema.get("enum", [value])
    kind = schema.get("type")
    if kind is not None:
        assert isinstance(value, KINDS[kind]), f"{value!r} is no {kind}"
        assert kind == "boolean" or not isinstance(value, bool)
    if kind == "object":
        keys_fit(value, schema, definitions)
    if kind == "array":
        places = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        for item, place in zip(value, places, strict=True):
            fits(item, place, definitions)


def fit(value, schema, definitions):
    try:
        fits(value, schema, definitions)
    except AssertionError:
        return False
    return True


def keys_fit(value, schema, definitions):
    known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
    assert set(schema.get("required", ())) <= set(value)
    assert other is not False or set(value) <= set(known), set(value) - set(known)
    for name, item in value.items():
        fits(item, known.get(name, other if isinstance(other, dict) else {}), definitions)


def test_the_reader_of_schemas_can_say_no():
    """A document with a wrong status, a missing key or a text for a number does not fit."""
    document = RESULTS["check"]().document
    schema = taut.auditing.health.Health.model_json_schema(mode="serialization")
    definitions = schema["$defs"]
    assert fit(document, schema, definitions)
    for broken in (
        document | {"schema": "taut.health/1"},
        document | {"log": document["log"] | {"draws": "many"}},
        document | {"assumptions": [document["assumptions"][0] | {"stands": "perhaps"}]},
        {name: document[name] for name in document if name != "health"},
    ):
        assert not fit(broken, schema, definitions)


def test_a_document_with_a_key_that_is_not_its_own_is_refused(result):
    """A misspelt key is an error and not a default."""
    broken = result.document | {"statuss": "certified"}
    with pytest.raises(ValueError, match="statuss"):
        type(result).model_validate(broken)


def test_results_cannot_be_changed(result):
    """What was certified stays what was certified."""
    with pytest.raises(ValueError, match="frozen"):
        result.version = "0"


@pytest.mark.parametrize("name", [name for name in RESULTS if name not in FORECASTS])
def test_results_carry_what_they_rest_on(name):
    """Assumptions with their standings in every result, and health in those of a log."""
    result = made(name)
    parts = [group.certificate for group in getattr(result, "groups", ()) if group.certificate]
    parts = parts or [result]
    for part in parts:
        document = part.document
        assert document["assumptions"]
        for item in document["assumptions"]:
            assert set(item) >= {"text", "stands", "by"}
        if not name.startswith("monitor"):
            assert document["health"]
            assert {"prompts", "cells"} <= set(document.get("log", {"prompts", "cells"}))


# --- saving, tables, notebooks --------------------------------------------------------------------


def test_a_result_is_saved_as_its_name_says(result, tmp_path):
    """.json loads back; .html is a page of its own; another ending is refused, with the two."""
    result.save(tmp_path / "a.json")
    assert taut.load(tmp_path / "a.json") == result
    result.save(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "default-src 'none'" in page
    assert taut.load(tmp_path / "a.html").to_json() == result.to_json()
    with pytest.raises(UsageError, match=r"\.json, \.html, \.svg or \.png"):
        result.save(tmp_path / "a.pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_report_cuts_nothing_off(result, encoding):
    """From 60 to 160 columns no line is wider than the terminal, and no word ends in dots."""
    for width in (60, 72, 80, 100, 160):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        print_report(terminal_report(result), file=stream, width=width)
        text = raw.getvalue().decode(encoding)
        assert max(cell_len(line) for line in text.splitlines()) <= width
        assert "…" not in text and not re.search(r"\w\.\.\.", text)
        assert not re.search(r"\b(nan|None(?! of)|inf)\b", text)


def test_a_notebook_shows_tables(result):
    """Each result is a sentence and tables of HTML, escaped, with nothing of the machine room."""
    page = result._repr_html_()
    assert "<table" in page and "<pre" not in page
    assert page.count("<td") == page.count("</td>") and page.count("<table") == page.count(
        "</table"
    )
    assert len(page) < 120_000 and page.count("<svg") == page.count("</svg") <= 1
    plain = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", plain)
    assert not re.search(r"\b(nan|None|inf|True|False)\b|[{}]", text)
    assert len(plain) < 12_000


def test_rollouts_show_their_columns():
    """A log is counts and a row a column; the labelled are counted."""
    log = rollouts()
    page = log._repr_html_()
    assert "160 rollouts, 160 prompts, 2 steps" in page
    labelled = int((~np.isnan(log.gold)).sum())
    assert f"<td>gold</td><td>{labelled}</td>" in page


def test_tables_of_pandas_hold_what_the_document_holds():
    """One row a group, candidate, budget, threshold or point of the path."""
    pytest.importorskip("pandas")
    groups = made("audit by")
    table = groups.to_frame()
    assert table["step"].tolist() == [0, 1]
    assert table["lower"].tolist() == [item.certificate.lower for item in groups.values()]
    chosen = made("select")
    table = chosen.to_frame()
    assert table["step"].tolist() == [item.value for item in chosen.candidates]
    assert table["chosen"].sum() == (chosen.chosen is not None)
    for name, rows_of in (("threshold", "curve"), ("plan", "by_budget"), ("monitor", "path")):
        table = made(name).to_frame()
        assert len(table) == len(getattr(made(name), rows_of)) > 2
        assert list(table.columns) == list(made(name).document[rows_of][0])


def test_tables_say_that_they_need_pandas(monkeypatch):
    """pandas is not needed by taut: without it the error says so."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        made("audit by").to_frame()


# --- every class ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", DOCUMENTS.values())
def test_every_class_has_a_schema_with_a_name_and_a_version(model):
    """`schema` is a constant with a number, by which the class is found."""
    schema = model.model_json_schema()
    name = schema["properties"]["schema"]["const"]
    assert re.fullmatch(r"taut\.[a-z]+/[12]", name)
    assert DOCUMENTS[name] is model
    assert "version" in schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["description"]
    json.dumps(schema, allow_nan=False)


def test_the_published_schemas_are_current():
    """docs/schemas holds what `python -m taut.schemas docs/schemas` writes, and nothing else."""
    folder = Path(__file__).parents[1] / "docs" / "schemas"
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == json_schemas()


def test_what_a_document_does_not_hold_is_null_at_any_depth():
    """Infinite numbers become None, -0.0 becomes 0.0, in tuples and mappings too."""
    found = tidy({"a": (math.inf, (-0.0, math.nan)), "b": {"c": [-math.inf, 1.0]}, "d": "x"})
    assert found == {"a": (None, (0.0, None)), "b": {"c": (None, 1.0)}, "d": "x"}
    assert math.copysign(1, found["a"][1][0]) == 1

    class Ends(Part):
        ends: tuple[float | None, float | None]

    assert Ends(ends=(-math.inf, 2.0)).ends == (None, 2.0)


# --- what the command line writes -----------------------------------------------------------------


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr().out


def written(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


COMMON = ("--beta", 0.1, "--reward-range", 0, 1)
COMMANDS = {
    "tau": ("tau", "LOG", *COMMON),
    "plan": ("plan", "LOG", *COMMON, "--budget", 900, "--decode-cost", 1, "--label-cost", 8),
    "watch": ("watch", "LOG", "--final", "--learned", *COMMON[2:], "--by", "step", "--quiet"),
    "audit": ("audit", "LOG", *COMMON, "--target", "reward", "--declare", SAID),
    "audit objective": ("audit", "LOG", *COMMON, "--target", "objective"),
    "audit by": ("audit", "LOG", *COMMON, "--by", "step"),
    "compare": ("compare", "LOG", *COMMON, "--by", "step", "--of", 0, "--against", 1),
    "select": ("select", "LOG", *COMMON, "--target", "clipped", "--held-out"),
    "check": ("check", "LOG", "--reward-range", 0, 1),
    "margin": ("audit", "ONE", *COMMON[2:], "--reward-data", "DATA", "--margin", 0.3),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_can_be_loaded(name, tmp_path, monkeypatch, capsys):
    """--json of every command is a document that loads to the same bytes and the same report."""
    one = [{key: row[key] for key in ("prompt_id", "reward", "gold")} for row in rows()]
    logs = {
        "LOG": written(tmp_path / "log.jsonl", rows()),
        "ONE": written(tmp_path / "one.jsonl", one),
        "DATA": written(tmp_path / "data.jsonl", rows(n=60, seed=1, prefix="d", labelled=1.0)),
    }
    out = tmp_path / "out.json"
    arguments = [logs.get(item, item) for item in COMMANDS[name]]
    status, _ = run(monkeypatch, capsys, *arguments, "--json", out)
    assert status in (0, 1)
    found = taut.load(out)
    assert found.to_json() == out.read_text(encoding="utf-8")
    assert str(found)
    if name == "margin":
        graded = taut.decisions.transport.result.Transport.model_validate(found.transport)
        assert graded.document == found.document["transport"]
        assert graded.state in ("PASS", "FAIL", "INCONCLUSIVE", "NOT_GRADED")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("no json", "expected a JSON document"),
        ("[1, 2]", "expected a JSON document"),
        ('{"schema": "taut.certificate/1"}', "this version reads taut.certificate/2"),
        ("{}", "schema None"),
    ],
)
def test_what_taut_did_not_write_is_refused(text, fragment, tmp_path):
    """Another file, or an older schema, is named, with what can be read."""
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(LogError, match=fragment):
        taut.load(path)


def test_a_file_that_is_not_there_is_said(tmp_path):
    """The error names the file."""
    with pytest.raises(LogError, match=r"absent\.json"):
        taut.load(tmp_path / "absent.json")

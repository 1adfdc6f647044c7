"""A sheet keeps what it says in every form, hides rewards, and is read back or refused."""

import base64
import csv
import hashlib
import io
import re

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taut.errors import LogError, UsageError
from taut.labels.answers import read_answers
from taut.labels.design import DrawnFrom, Part, Scale, SheetDesign
from taut.labels.sheet import CSV_COLUMNS, Item, Sheet, make_sheets, read_sheet

HOSTILE = (
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '=HYPERLINK("http://x","y")',
    "@SUM(1)",
    "'quoted",
    '-- 1\n+ 2, "three"\r\nfour',
    "\u202eevil\u202c عمّان 👩🏽‍💻 \u2028 \u2029 <!-- --> ]]>",
)


def design(n=3, **settings) -> SheetDesign:
    log = DrawnFrom(hash="ab" * 16, rollouts=1000, draws=500, cells={"step 1": 400, "step 2": 600})
    return SheetDesign(log=log, parts=(Part(start=0, stop=n, most=n, horizon=n),), **settings)


def sheet(texts=HOSTILE, **settings) -> Sheet:
    items = tuple(
        Item(rollout_id=f"r{i}", prompt=text, response=text, label_probability=0.1, unit=i)
        for i, text in enumerate(texts)
    )
    return Sheet(design=design(len(texts), **settings), items=items)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "html"])
def test_a_sheet_comes_back_as_it_was(tmp_path, suffix):
    """Items, chances, order and design survive; so does hostile text, byte for byte."""
    one = sheet()
    one.write(tmp_path / f"s.{suffix}")
    back = read_sheet(tmp_path / f"s.{suffix}")
    assert back == one
    assert back.id == one.id


@given(st.lists(st.text(), min_size=1, max_size=5), st.floats(1e-9, 1))
@settings(max_examples=50, deadline=None)
def test_any_text_survives(texts, chance):
    """JSON lines and the page keep every text; CSV keeps all but NUL, and carriage returns."""
    items = tuple(
        Item(
            rollout_id=f"r{i}",
            prompt=t or None,
            response=t or None,
            label_probability=chance,
            unit=i,
        )
        for i, t in enumerate(texts)
    )
    one = Sheet(design=design(len(texts)), items=items)
    from taut.labels.page import unpack

    assert unpack(one.to_html(), "s.html") == one
    rows = list(csv.DictReader(io.StringIO(one.to_csv().decode("utf-8-sig"), newline="")))
    assert [row["rollout_id"] for row in rows] == [item.rollout_id for item in items]


def test_the_contract_of_a_sheet():
    """The columns of the issue, one header line, one object a line, and no reward anywhere."""
    one = sheet(question := ("What?",), scale=Scale(question="Right?"))
    assert question and CSV_COLUMNS[:6] == (
        "rollout_id",
        "prompt",
        "response",
        "label",
        "note",
        "label_probability",
    )
    lines = [orjson.loads(line) for line in one.to_jsonl().splitlines()]
    assert lines[0].keys() == {"taut_sheet"}
    assert set(lines[1]) == {*CSV_COLUMNS} - {"annotator", "taut_sheet"}
    for form in (one.to_jsonl(), one.to_csv(), one.to_html().partition(b"<style>")[0]):
        assert b"reward" not in form


def test_the_page_runs_one_script_and_no_text():
    """The policy names the hashes of the page's only script and style; text holds no tag."""
    page = sheet().to_html().decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    styles = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert len(scripts) == len(styles) == 1
    for text in (scripts[0], styles[0]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    data = re.search(r'<script type="application/json" id="taut-sheet">(.*?)</script>', page, re.S)
    assert "<" not in data[1]
    assert not re.search(
        r"\son\w+=|javascript:|https?://|\beval\(|innerHTML|Function\(", page.replace(data[1], "")
    )


def test_formulas_stay_text_in_spreadsheets():
    """A cell that a spreadsheet would run begins with a quote, and loses it when it comes back."""
    rows = list(csv.reader(io.StringIO(sheet().to_csv().decode("utf-8-sig"), newline="")))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_annotators_get_sheets_of_their_own():
    """One sheet a name, the overlap in each, ids of sheets distinct."""
    one = sheet([f"text {i}" for i in range(20)], annotators=("a", "b"), overlap=4)
    first, second = make_sheets(one.design, one.items, annotators=("a", "b"))
    shared = {i.rollout_id for i in first.items} & {i.rollout_id for i in second.items}
    assert len(shared) == 4
    assert (len(first.items), len(second.items)) == (12, 12)
    assert first.id != second.id
    assert orjson.loads(first.to_jsonl().splitlines()[1])["annotator"] == "a"


def test_unknown_forms_are_refused(tmp_path):
    """A sheet is .html, .csv or .jsonl; a page of somebody else is none."""
    with pytest.raises(UsageError, match=r"ending in \.html"):
        sheet().write(tmp_path / "s.xlsx")
    (tmp_path / "s.html").write_text("<html></html>")
    with pytest.raises(LogError, match="expected a page that"):
        read_sheet(tmp_path / "s.html")
    (tmp_path / "s.jsonl").write_text('{"rollout_id": "r", "label_probability": 1, "unit": 0}\n')
    with pytest.raises(LogError, match="expected the design of a sheet"):
        read_sheet(tmp_path / "s.jsonl")


# --- Answers --------------------------------------------------------------------------------------


def answers(tmp_path, rows, name="a.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(b"".join(orjson.dumps(r, option=orjson.OPT_APPEND_NEWLINE) for r in rows))
    return read_answers([path], **options)


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (1, 1),
        (0.25, 0.25),
        (True, 1),
        (False, 0),
        ("yes", 1),
        ("No", 0),
        ("TRUE", 1),
        ("1", 1),
        (" 0.5 ", 0.5),
        ("", None),
        (None, None),
        ("skip", None),
        ("C", 0.75),
        ("'-1", -1),
    ],
)
def test_labels_of_many_spellings(tmp_path, given, label):
    """Yes, true, "1" and 1 are one label; letters go by a map; nothing is nothing."""
    found = answers(tmp_path, [{"rollout_id": "r", "gold": given}], values={"C": 0.75})
    assert found.label[0] == label if label is not None else np.isnan(found.label[0])
    assert found.skipped == (["skipped"] if given == "skip" else [""])


def test_yes_means_the_end_of_the_scale(tmp_path):
    """On a sheet with gold from -2 to 3 yes is 3 and no is -2."""
    scale = Scale(low=-2, high=3)
    rows = [{"rollout_id": "a", "label": "yes"}, {"rollout_id": "b", "label": "no"}]
    assert answers(tmp_path, rows, scale=scale).label.tolist() == [3, -2]
    head = {"taut_sheet": orjson.loads(design(scale=scale).to_json())}
    assert answers(tmp_path, [head, *rows]).label.tolist() == [3, -2]


def test_csv_from_a_spreadsheet(tmp_path):
    """A sheet filled in a spreadsheet: text with line ends, quotes; the design in its rows."""
    lines = sheet().to_csv().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(lines, newline="")))
    for row in rows[1:4]:
        row[3], row[4] = "yes", "fine"
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    (tmp_path / "s.csv").write_text(text.getvalue(), newline="")
    found = read_answers([tmp_path / "s.csv"])
    assert found.designs == (sheet().design,)
    assert np.nansum(found.label) == 3
    assert found.note[:4] == ["fine"] * 3 + [""]
    assert found.unit.tolist() == list(range(7))


def test_parquet_and_mapped_names(tmp_path):
    """Parquet with other names is read by a map."""
    table = pa.table({"rollout_id": ["a", "b"], "gold": [0.5, None]})
    pq.write_table(table, tmp_path / "l.parquet")
    found = read_answers([tmp_path / "l.parquet"])
    assert found.label[0] == 0.5 and np.isnan(found.label[1])
    rows = [{"id": 7, "verdict": "yes", "who": "ann"}]
    names = {"rollout_id": "id", "label": "verdict", "annotator": "who"}
    found = answers(tmp_path, rows, names=names)
    assert (found.rollout_id, found.annotator, found.label[0]) == (["7"], ["ann"], 1)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"rollout_id": "r", "label": "maybe"}], r"a.jsonl:1: .* found 'maybe'; .*gold:maybe=1"),
        ([{"rollout_id": "r", "score": 1}], "expected a column 'label'"),
        ([{"prompt": "p", "label": 1}], "expected 'rollout_id', or 'prompt' and 'response'"),
        ([{"rollout_id": "", "label": 1}], "a.jsonl:1: expected a rollout_id, found an empty one"),
        ([{"rollout_id": "r", "label": float("1e400")}], None),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path, rows, words):
    """File, line, what was expected and what to do."""
    if words is None:
        (tmp_path / "a.jsonl").write_text('{"rollout_id": "r", "label": "inf"}\n')
        with pytest.raises(LogError, match=r"a.jsonl:1: expected a label"):
            read_answers([tmp_path / "a.jsonl"])
        return
    with pytest.raises(LogError, match=words):
        answers(tmp_path, rows)


def test_files_that_are_no_labels(tmp_path):
    """The page itself holds no answers; a torn CSV and bad JSON are errors of their line."""
    sheet().write(tmp_path / "s.html")
    with pytest.raises(LogError, match="open the page and download its answers"):
        read_answers([tmp_path / "s.html"])
    (tmp_path / "t.csv").write_text("rollout_id,label\nr1,yes\nr2,yes,extra\n")
    with pytest.raises(LogError, match=r"t.csv:3: expected 2 cells"):
        read_answers([tmp_path / "t.csv"])
    (tmp_path / "t.jsonl").write_text('{"rollout_id": "r", "label": 1}\n{\n')
    with pytest.raises(LogError, match=r"t.jsonl:2: expected JSON"):
        read_answers([tmp_path / "t.jsonl"])

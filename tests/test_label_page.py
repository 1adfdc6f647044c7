"""The page to label in, in a real browser, by real key events and without the mouse."""

import os
import shutil

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from taut.labels.answers import read_answers
from taut.labels.design import DrawnFrom, Part, Scale, SheetDesign
from taut.labels.sheet import Item, Sheet
from test_label_cli import run

pytestmark = pytest.mark.integration
CHROMIUM = os.environ.get("TAUT_CHROMIUM") or shutil.which("chromium") or ""
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--no-first-run",
)
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    '<a href="javascript:window.hacked=1">x</a><iframe srcdoc="<script>parent.hacked=1</script>">',
    "```html\n<script>window.hacked = 1</script>\n```\n**<b onclick=hacked=1>**",
    "\u202eevil\u202c عمّان 👩🏽‍💻 \u2028",
    "{{SCRIPT}} ${window.hacked = 1} `</style><style>*{display:none}</style>`",
)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[test]'"
    )
    if not CHROMIUM:
        pytest.skip("no chromium on the path: install it, or name it in TAUT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        yield driver.chromium


@pytest.fixture
def browser(chromium):
    """A browser of its own for each test."""
    found = chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
    yield found
    found.close()


def write(path, texts, scale=None) -> Sheet:
    items = tuple(
        Item(rollout_id=f"r{i}", prompt=text, response=text, label_probability=0.1, unit=i)
        for i, text in enumerate(texts)
    )
    log = DrawnFrom(hash="ab" * 16, rollouts=1000, draws=500)
    n = len(texts)
    part = Part(start=0, stop=n, most=n, horizon=n)
    sheet = Sheet(design=SheetDesign(log=log, parts=(part,), scale=scale or Scale()), items=items)
    sheet.write(path)
    return sheet


def opened(context, path):
    """The page, and what went wrong or over the wire in it."""
    page, seen = context.new_page(), []
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("console", lambda line: seen.append(line.text) if line.type == "error" else None)
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "blob:")) else seen.append(r.url)
    )
    page.goto(path.as_uri())
    return page, seen


def downloaded(page, path):
    with page.expect_download() as waiting:
        page.keyboard.press("d")
    waiting.value.save_as(path)
    return read_answers([path])


def press(page, keys):
    for key in keys:
        page.keyboard.press(key)


def test_five_hundred_items_by_keys_alone(browser, tmp_path):
    """A person labels a long sheet without the mouse, and every label has its value and time."""
    sheet = write(tmp_path / "s.html", [f"What is {i} + {i}?" for i in range(500)])
    page, seen = opened(browser.new_context(), tmp_path / "s.html")
    wanted = np.random.default_rng(0).integers(0, 2, 500)
    for label in wanted:
        page.keyboard.press("1" if label else "n")
    assert page.inner_text("#end-title") == "All answered"
    found = downloaded(page, tmp_path / "l.jsonl")
    assert found.label.tolist() == wanted.tolist()
    assert found.rollout_id == [item.rollout_id for item in sheet.items]
    assert found.designs == (sheet.design,)
    rows = [orjson.loads(line) for line in (tmp_path / "l.jsonl").read_bytes().splitlines()[1:]]
    assert all(row["at"].endswith("Z") and row["seconds"] >= 0 for row in rows)
    assert not {"prompt", "response", "reward"} & set().union(*rows)
    assert seen == []


def test_undo_skip_note_and_filter(browser, tmp_path):
    """What a person does besides labelling, by keys."""
    write(tmp_path / "s.html", [f"text {i}" for i in range(6)])
    page, seen = opened(browser.new_context(), tmp_path / "s.html")
    press(page, ["1", "0", "u"])
    assert page.inner_text("#where").startswith("2 of 6")
    press(page, ["1", "s", "2", "e"])
    page.keyboard.type("1 of two parts: no")
    press(page, ["Escape", "0", "s", "Tab", "Tab", "Tab", "Tab"])
    page.keyboard.type("torn")
    page.keyboard.press("Enter")
    assert "3 of 6 labelled, 2 skipped" in page.inner_text("#count")
    page.select_option("#filter", "skipped")
    assert page.inner_text("#state") == "Skipped: Needs an expert"
    press(page, ["ArrowRight"])
    assert page.inner_text("#state") == "Skipped: torn"
    press(page, ["ArrowLeft", "1"])
    page.select_option("#filter", "noted")
    assert page.input_value("#note") == "1 of two parts: no"
    found = downloaded(page, tmp_path / "l.jsonl")
    assert found.label[:4].tolist() == [1, 1, 1, 0]
    assert found.skipped == ["", "", "", "", "torn", ""]
    assert found.note[3] == "1 of two parts: no"
    assert seen == []


def test_answers_survive_a_closed_browser(chromium, tmp_path):
    """Closed in the middle and opened again days later: the work is there, and goes on."""
    write(tmp_path / "s.html", [f"text {i}" for i in range(9)])
    for keys, done in ((["1", "0", "1"], 0), (["0", "0"], 3)):
        context = chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, args=list(FLAGS)
        )
        page, _ = opened(context, tmp_path / "s.html")
        assert page.inner_text("#count").startswith(f"{done} of 9")
        press(page, keys)
        context.close()


def test_going_on_elsewhere(browser, tmp_path):
    """A download is imported on another machine; newer answers there are kept."""
    write(tmp_path / "s.html", [f"text {i}" for i in range(5)])
    page, _ = opened(browser.new_context(), tmp_path / "s.html")
    page.fill("#annotator", "Änne K.")
    page.keyboard.press("Escape")
    press(page, ["1", "0", "1"])
    downloaded(page, tmp_path / "l.jsonl")
    other, seen = opened(browser.new_context(), tmp_path / "s.html")
    press(other, ["0"])
    other.set_input_files("#file", tmp_path / "l.jsonl")
    other.get_by_text("taken in").wait_for()
    assert "2 answers taken in, 1 of your own are newer" in other.inner_text("#toast")
    found = downloaded(other, tmp_path / "m.jsonl")
    assert found.label[:3].tolist() == [0, 0, 1]
    (tmp_path / "bad.jsonl").write_text('{"taut_sheet": {"log": {"hash": "00"}}}\n')
    other.set_input_files("#file", tmp_path / "bad.jsonl")
    other.wait_for_function(
        "document.querySelector('#toast').textContent.includes('another sheet')"
    )
    assert read_answers([tmp_path / "l.jsonl"]).annotator[0] == "Änne K."
    assert seen == []


def test_hostile_text_is_text(browser, tmp_path):
    """Nothing that a model wrote runs, breaks the page, or reaches the network."""
    write(tmp_path / "s.html", HOSTILE)
    page, seen = opened(browser.new_context(), tmp_path / "s.html")
    for text in HOSTILE:
        page.keyboard.press("r")
        shown = page.text_content("#response .bare")
        page.keyboard.press("r")
        assert shown == text.replace("\u202e", "U+202E")
        assert page.query_selector("#response script, #response img, #response iframe") is None
        page.keyboard.press("1")
    assert page.evaluate("window.hacked") is None
    assert seen == []
    # And if text did get into markup, the policy would still stop it.
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"hacked=1\">')"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in line for line in seen)


def test_numbers_in_the_gold_range(browser, tmp_path):
    """A number is typed and confirmed; what leaves the range is refused and stays."""
    write(tmp_path / "s.html", ["a", "b", "c"], Scale(kind="number", low=-5, high=5))
    page, _ = opened(browser.new_context(), tmp_path / "s.html")
    press(page, ["3", ".", "5", "Enter", "7", "Enter"])
    assert page.inner_text("#toast") == "A number from -5 to 5"
    assert page.inner_text("#where").startswith("2 of 3")
    press(page, ["Backspace", "-", "2", "Enter", "u", "1", "Enter", "0", "Enter"])
    assert downloaded(page, tmp_path / "l.jsonl").label.tolist() == [3.5, 1, 0]


def test_messages_code_and_right_to_left(browser, tmp_path):
    """Messages keep their roles, code its form, Arabic its direction; a long prompt is folded."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "ما هي عاصمة الأردن؟"}]},
    ]
    texts = [messages, "Try\n\n```python\nx = 1\n```", "line\n\n" * 200]
    write(tmp_path / "s.html", texts, Scale(kind="choices", low=1, high=5, question="How good?"))
    page, _ = opened(browser.new_context(), tmp_path / "s.html")
    assert page.locator("#prompt .turn b").all_inner_texts() == ["System", "User"]
    direction = "getComputedStyle(document.querySelectorAll('#prompt p')[1]).direction"
    assert page.evaluate(direction) == "rtl"
    assert page.inner_text("#question") == "How good?"
    press(page, ["4"])
    assert page.inner_text("#response pre").strip() == "x = 1"
    press(page, ["9", "5"])
    assert page.locator("#prompt").evaluate("e => e.classList.contains('cut')")
    press(page, ["p"])
    assert not page.locator("#prompt").evaluate("e => e.classList.contains('cut')")


def test_from_a_log_to_a_certificate_in_the_browser(browser, tmp_path):
    """The three commands, with a person's keys between them, end in an interval with the truth."""
    rng = np.random.default_rng(0)
    gold = (rng.random(900) < np.repeat(rng.choice([0.2, 0.9], 300), 3)).astype(int)
    columns = {
        "prompt_id": [f"p{i // 3}" for i in range(900)],
        "rollout_id": [f"r{i}" for i in range(900)],
        "reward": rng.random(900) / 2 + gold / 2,
        "prompt": [f"Question {i // 3}?" for i in range(900)],
        "response": [["Wrong.", "Right."][label] for label in gold],
    }
    log, sheet, labelled = (tmp_path / n for n in ("log.parquet", "s.html", "labelled.parquet"))
    pq.write_table(pa.table(columns), log)
    run("label", "draw", log, "-n", 80, "-o", sheet)
    page, seen = opened(browser.new_context(), sheet)
    for _ in range(80):
        page.keyboard.press("1" if page.inner_text("#response") == "Right." else "0")
    downloaded(page, tmp_path / "labels.jsonl")
    run("label", "merge", log, tmp_path / "labels.jsonl", "-o", labelled)
    found = taut.audit(taut.read_rollouts(labelled), target="reward", reward_range=(0, 1))
    assert found.lower <= 0.55 <= found.upper and found.upper - found.lower < 0.35
    assert seen == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(browser, tmp_path, width, scheme):
    """Nothing runs over the side, and the labels are in view, on a desk and on a phone."""
    write(tmp_path / "s.html", ["word " * 300 + "x" * 400, "short"])
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, seen = opened(context, tmp_path / "s.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#scale button").last.bounding_box()
    assert box["y"] + box["height"] <= 800 and box["height"] >= 40
    assert page.locator("#fine").inner_text().startswith("Carries prompts and responses")
    assert seen == []

"""The page of a result: what stands on it, that texts stay texts, its size, and its JSON back."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import taut
from taut.cli import main
from taut.decisions.budget.what_if import what_if
from taut.errors import LogError
from taut.lab.verdict import demonstrate
from taut.report.door import report_page
from taut.report.page import Made, document_in, made_by, made_in
from taut.report.page.blocks import Section, Table, Text, View, one_line
from taut.report.page.brush import brushed
from taut.report.page.build import data_block
from taut.report.page.html import header, section
from taut.report.page.markdown import markdown
from taut.report.page.rollouts import Words, chosen_rows, page_data
from taut.report.page.theory import SECTIONS, cited
from taut.report.page.views.choice import view_of
from taut.report.page.views.what_if import what_if_section

ROOT = Path(__file__).parents[1]
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror=hacked=1>',
    "javascript:hacked=1",
    "{{SCRIPT}}{{DOCUMENT}}",
    "<!--<script>",
    "\u202eevil\u2066\x00\x1b[31m",
    "\ud800",
    "[x](javascript:hacked=1) `|` |",
    "x" * 1_000_000,
)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._within = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data):
        self.text.setdefault(self._within, []).append(data)


@pytest.fixture(scope="module")
def demo():
    return demonstrate(Path(taut.__file__).parent / "examples")


@pytest.fixture(scope="module")
def page(demo):
    return report_page(demo, Made(command="taut demo --html demo.html", at="2026-01-02"))


def test_above_the_fold_are_four_answers(page, demo):
    """What was measured, what is certified, why they differ, what to do next; the title says it."""
    top = page[page.index("<header") : page.index("</header>")]
    cards = re.findall(r"<h2>([^<]*)</h2>", top)
    assert cards == ["Measured", "Certified, on conditions", "Why they differ", "Do next"]
    verdict = view_of(demo).verdict
    assert f"<title>{verdict}</title>" in page and f'<h1 id="verdict">{verdict}</h1>' in page
    assert "◐ conditional" in top and "learned reward" in top


def test_nothing_on_a_page_runs_or_asks_but_what_its_policy_names(page):
    """One policy without unsafe words; no handler, no address but anchors, no other script."""
    elements = Elements(page).found
    (policy,) = (
        attributes["content"]
        for tag, attributes in elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert "src" not in attributes and tag not in ("iframe", "object", "embed", "link", "base")
        assert attributes.get("href", "#").startswith("#")


def test_a_page_is_small_and_says_everything(page):
    """At most 1.5 MB; the sections of the issue in their order, each reached by a link."""
    assert len(page.encode()) < 1_500_000
    elements = [attributes for _, attributes in Elements(page).found]
    ids = [attributes["id"] for attributes in elements if "id" in attributes]
    wanted = ["verdict", "terms", "run", "ledger", "targets", "tau", "health", "assumptions"]
    wanted += ["paper", "made-by", "theory", "json", "taut-document"]
    assert [name for name in ids if name in wanted] == wanted
    assert len(ids) == len(set(ids))
    links = {str(attributes["href"])[1:] for attributes in elements if "href" in attributes}
    assert links <= set(ids)
    assert "taut demo --html demo.html" in page


def test_the_json_comes_back_with_every_byte(page, demo, tmp_path, monkeypatch, capsys):
    """`taut report page.html --json -` gives the JSON; a page made of it again says as much."""
    first, again = tmp_path / "a.html", tmp_path / "b.html"
    first.write_text(page, encoding="utf-8")
    assert taut.load(first) == demo
    status, out = run(monkeypatch, capsys, "report", first, "--json", "-", "-o", again)
    assert (status, out) == (0, demo.to_json())
    assert again.read_text(encoding="utf-8") == page
    assert run(monkeypatch, capsys, "report", again)[1].count("clipped objective")
    for wrong, said in (("-o", first), ("-o", tmp_path / "x.json")):
        assert run(monkeypatch, capsys, "report", first, wrong, said)[0] == 2


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["taut", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code or 0, capsys.readouterr().out


def test_other_pages_are_told_from_ours(page, tmp_path):
    """A page of somebody else, and a damaged one, are refused with their names."""
    for text in ("<!doctype html><p>hello", page.replace("taut-document", "other")):
        (tmp_path / "x.html").write_text(text, encoding="utf-8")
        with pytest.raises(LogError, match=r"x\.html: expected a page that taut wrote"):
            taut.load(tmp_path / "x.html")
    packed = data_block("taut-document", '{"a": 1}', packed=True)
    assert document_in(f"<!doctype html>{packed}".encode(), "x") == '{"a": 1}'
    assert made_in(b"<!doctype html>", "x") is None
    with pytest.raises(LogError, match="damaged"):
        document_in(packed.replace("H4sI", "H4sJ", 1).encode(), "x")


@pytest.mark.parametrize("evil", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(evil):
    """In every place where a log or a person can put words."""
    table = Table((evil, "n"), [(evil, evil)], {1}, evil, steps=[1.0])
    view = View(evil, evil, [Section("a", evil, [Text(evil), Text(evil, "code"), table], evil)])
    view = View(evil, evil, view.sections, lead=[evil], plain=[evil], about=evil)
    made = header(view) + section(view.sections[0], {})
    made += data_block("taut-document", json.dumps({evil: evil}))
    elements = Elements(made).found
    assert {tag for tag, _ in elements} <= {
        *("p", "h1", "h2", "details", "summary", "section", "pre", "div", "table", "caption"),
        *("thead", "tr", "th", "td", "tbody", "script"),
    }
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert len(made) < 60_000 + 3 * len(evil)
    assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", made)
    text = markdown(view)
    live = re.sub(r"\\[^\n]", "", re.sub(r"(?m)^ {4}.*$", "", text))  # no code, nothing escaped
    assert "[x]" not in live and "](" not in live and "<" not in live


def test_one_line_keeps_what_people_write():
    """Letters of every script and joined emoji stay; what acts on other text does not."""
    kept = "عمّان 👩🏽‍💻 naïve τ₊"
    assert one_line(kept) == kept
    assert one_line("a\nb\u2028c\u200bd") == "a b c\ufffdd"
    assert one_line("y" * 500).endswith("… (500 characters)")


def test_every_section_of_the_glossary_stands_on_the_theory_page():
    """Numbers and titles are those of docs/theory.md."""
    theory = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
    heads = dict(re.findall(r"(?m)^#+ (\d+(?:\.\d+[a-z]?)?)\.? (.+)$", theory))
    assert {name: title for name, (title, _) in SECTIONS.items()}.items() <= heads.items()
    assert (cited("theory §3.6"), cited("§4.4 (a)"), cited("no such")) == ("3.6", "4.4", None)


def test_how_a_page_was_made(tmp_path, monkeypatch):
    """The command as it was typed, names, sizes and hashes of the log, and when."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    log = tmp_path / "a b.jsonl"
    log.write_bytes(b"abc")
    made = made_by(["audit", str(log)], [log, "s3://bucket/x"])
    assert made.command == f"taut audit '{log}'" and made.at == "1970-01-01 00:00 UTC"
    known, far = made.log
    assert known.sha256.startswith("ba7816bf") and known.size == 3
    assert (far.name, far.sha256) == ("s3://bucket/x", "")
    assert Made.from_json(made.to_json()) == made


# --- rollouts and forecasts -----------------------------------------------------------------------


def answers(n=60, **more):
    rng = np.random.default_rng(0)
    gold = rng.random(n)
    columns = {
        "prompt_id": [f"p{i // 3}" for i in range(n)],
        "reward": np.clip(gold + 0.1 * rng.normal(size=n), 0, 1),
        "gold": np.where(rng.random(n) < 0.6, gold, np.nan),
        "log_ratio": rng.normal(0.4, 0.5, n),
        "step": np.arange(n) % 3,
    }
    return taut.Rollouts.from_arrays(columns | more)


def test_a_sample_holds_whole_prompts_and_is_blind():
    """By the hash of the prompt alone: rewards change nothing, and order changes nothing."""
    prompts = answers(300).prompt
    rows = chosen_rows(prompts, most=100)
    assert 90 < len(rows) <= 100 and (np.diff(rows) > 0).all()
    counted = np.unique(prompts[rows], return_counts=True)[1]
    assert (counted == 3).all()
    turned = np.random.default_rng(1).permutation(300)
    assert set(prompts[turned][chosen_rows(prompts[turned], most=100)]) == set(prompts[rows])
    assert len(chosen_rows(prompts, most=300)) == 300
    assert len(chosen_rows(np.zeros(50, dtype=np.uint64), most=20)) == 20


def test_rollouts_are_numbers_texts_and_values_to_filter_by():
    """None where a row has no number; a column of one value is no filter."""
    rollouts = answers(policy=["a"] * 60)
    words = [Words(f"p{i // 3}", f"r{i}", [0.25, -1 / 3] if i % 2 else None) for i in range(60)]
    data = page_data(rollouts, np.arange(6), words[:6])
    assert data["prompts"][data["prompt"][0]] == "p0" and data["prompt"][0] == data["prompt"][2]
    assert data["responses"][5] == "r5" and data["ids"] == [*"012345"]
    assert [facet["name"] for facet in data["facets"]] == ["step", "gold label"]
    assert data["tokens"][:2] == [None, [0.25, -0.333]]
    gold = rollouts.gold[:6]
    for at, value in enumerate(data["columns"]["gap"]):
        assert (value is None) == bool(np.isnan(gold[at]))
    assert set(data["names"]) == set(data["columns"])
    json.dumps(data, allow_nan=False)


def test_what_if_forecasts_fall_with_labels_and_rise_with_certainty():
    """Fewer errors allowed, or fewer labels, are wider; the place of now is the log's own."""
    rollouts = answers(3000)
    found = taut.audit(rollouts, beta=0.05, tau=3.0, reward_range=(0, 1))
    forecast = what_if(rollouts, found)
    assert forecast is not None
    now = tuple(forecast.now)
    assert forecast.prompts[now[0]] == found.log.certifying_prompts
    assert forecast.deltas[now[2]] == 0.05
    widths = forecast.widths
    assert 0.5 < widths[now] / forecast.measured < 2
    assert (np.diff(widths, axis=2) < 0).all(where=~np.isnan(np.diff(widths, axis=2)))
    less = np.diff(widths, axis=1)
    assert (less < 0)[~np.isnan(less)].all()
    section_ = what_if_section(forecast)
    assert len(section_.blocks[0].results) == widths.size
    assert what_if(rollouts, taut.audit(answers(60, gold=[np.nan] * 60), **ASKED)) is None


ASKED = {"beta": 0.05, "reward_range": (0, 1)}


def test_a_brush_goes_once_to_the_first_layer_of_numbers():
    """A layer without a field stays as it is, and a chart that has a brush, or no numbers."""
    over = {"x": {"field": "x", "type": "quantitative"}}
    mark = {"mark": "rule", "encoding": {"x": {"datum": 3, "type": "quantitative"}}}
    layers = {"layer": [mark, {"mark": "line", "encoding": over}]}
    made = brushed(layers)
    assert made["layer"][1]["params"][0]["name"] == "brush" and "params" not in layers["layer"][1]
    assert brushed(made) is made and made["layer"][0] is mark
    names = {"mark": "bar", "encoding": {"x": {"field": "name", "type": "nominal"}}}
    assert brushed(names) is names
    assert brushed({"mark": "point", "encoding": over})["params"]

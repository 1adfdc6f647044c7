"""The terminal: no word is cut off at any width, and nothing is drawn that it cannot show."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import taut
from taut.lab.verdict import demonstrate
from taut.report.door import report_text, terminal_report

LAB = taut.__path__[0] + "/examples/goodhart.parquet"
SAID = {"reward_range": (0, 1), "declare": "held-out,complete,random-labels", "target": "reward"}
MADE = {
    "demo": lambda: demonstrate(Path(LAB).parent),
    "by": lambda: taut.audit_by(LAB, "step", **SAID),
    "slices": lambda: taut.audit_by(LAB, "n_tokens", **SAID),
    "select": lambda: taut.select(LAB, **SAID),
    "compare": lambda: taut.compare(LAB, by="step", of=60, against=10, **SAID),
    "tau": lambda: taut.clip_threshold(LAB, beta=0.005, reward_range=(0, 1)),
    "check": lambda: taut.check(LAB, reward_range=(0, 1)),
}


@pytest.fixture(scope="module", params=MADE)
def made(request):
    return MADE[request.param]()


def words(text):
    return set(re.findall(r"[A-Za-z]{5,}", text))


def test_no_word_is_cut_off(made):
    """Narrow lines leave pictures out and break between words: all words are of the wide report."""
    whole = words(report_text(made, width=400)) | {"optimisation"}
    for width in (36, 50, 80):
        text = report_text(made, width=width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        beginnings = {
            word for word in words(text) - whole if any(w.startswith(word) for w in whole)
        }
        assert not beginnings


def shown(found, *, term, encoding="utf-8"):
    page = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=page, width=90, force_terminal=True, color_system=None)
    console.print(terminal_report(found))
    page.flush()
    return page.buffer.getvalue().decode(encoding)


def test_a_poor_terminal_gets_ascii(made, monkeypatch):
    """By what it says it is, or by its encoding; one that can has its marks."""
    for term, encoding, plain in (
        ("dumb", "utf-8", True),
        ("linux", "utf-8", True),
        ("xterm", "latin-1", True),
        ("xterm", "utf-8", False),
    ):
        monkeypatch.setenv("TERM", term)
        assert shown(made, term=term, encoding=encoding).isascii() == plain


def test_the_lines_of_a_chart_differ_without_colours(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    text = shown(MADE["demo"](), term="dumb")
    assert "oo learned" in text and "xx true" in text
    assert re.search(r"o{8}", text) and re.search(r"x{8}", text)


def test_units_of_gold_are_said_and_learned_rewards_stand_on_no_axis_of_theirs():
    import numpy as np

    rng = np.random.default_rng(0)
    gold = rng.random(400)
    table = {"prompt_id": np.arange(400), "reward": gold, "gold": 10 * gold}
    table["step"] = np.arange(400) % 2
    said = SAID | {"gold_range": (0, 10)}
    text = str(taut.select(table, **said))
    assert "units of gold" in text and "reward units" not in text and "◆" not in text
    picture = str(taut.audit({name: table[name] for name in table if name != "step"}, **said))
    assert "units of gold" in picture.split("Between")[0]
    assert "reward units" not in picture.split("Between")[0]


def test_the_demo_relates_its_intervals():
    """Measured, learned on new prompts, true by itself, true of all steps, and less the KL cost."""
    found = MADE["demo"]()
    text = report_text(found, width=100)
    part = text[text.index("Step 60 in several intervals") :]
    reward, last = found.audit.targets["reward"], found.steps[-1].certificates["reward"]
    for name, low, high in (
        ("learned, on new prompts", reward.proxy.lower, reward.proxy.upper),
        ("true", reward.lower, reward.upper),
        ("true, all 7 steps", last.lower, last.upper),
        ("true clipped objective", found.audit.lower, found.audit.upper),
    ):
        line = next(line for line in part.splitlines() if re.match(rf"  {name}  ", line))
        ends = [float(number) for number in re.findall(r"\d\.\d{3}", line)[:2]]
        assert ends[0] <= low <= ends[0] + 1e-3 and ends[1] - 1e-3 <= high <= ends[1]
    assert "inside the interval of all 7 steps" in part
    assert "theory §2.4" in text and "docs/theory.md" in text

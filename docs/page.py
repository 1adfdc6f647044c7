"""Pictures of the page, and its sizes and times, for docs/page.md.

    python docs/page.py [FOLDER]

makes each page, opens it in Chromium at 1,280 and 390 pixels, writes the pictures to docs/page/ and
prints the table. It needs `playwright`, and Chromium on the path (or named in TAUT_CHROMIUM). With
FOLDER the pages stay there.
"""

import base64
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from playwright.sync_api import Browser, Page, sync_playwright

import taut
from taut.decisions.budget.what_if import what_if
from taut.lab.verdict import demonstrate
from taut.logs.sources import find
from taut.report.door import report_page
from taut.report.page import Made
from taut.report.page.rollouts import shown

DOCS = Path(__file__).parent
EXAMPLES = Path(taut.__file__).parent / "examples"
SIZES = ((1280, 800), (390, 844))
CHROMIUM = os.environ.get("TAUT_CHROMIUM") or shutil.which("chromium")


def main() -> None:
    """Make the pages, the pictures and the table."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made)
        folder.mkdir(exist_ok=True)
        (DOCS / "page").mkdir(exist_ok=True)
        print("| page | size | ready at 1,280 px | at 390 px |\n|---|---|---|---|")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for name, title, text in pages(folder):
                path = folder / f"{name}.html"
                path.write_text(text, encoding="utf-8")
                size = f"{path.stat().st_size / 1e6:.2f} MB"
                times = [f"{_ready(browser, path, one):.2f} s" for one in SIZES]
                if title:
                    print(f"| {title} | {size} | {times[0]} | {times[1]} |")
                _pictures(browser, path, name)
            browser.close()


def pages(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each page, its title in the table, and its text."""
    told = Made(command="taut demo --html demo.html")
    yield "demo", "the bundled lab (`taut demo`)", report_page(demonstrate(EXAMPLES), told)
    log = EXAMPLES / "goodhart.parquet"
    asked = {"reward_range": (0, 1), "target": "reward", "declare": "held-out"}
    yield "select", "", report_page(taut.select(taut.read_rollouts(log), **asked))
    found = taut.compare(taut.read_rollouts(log), by="step", of=60, against=10, **asked)
    yield "compare", "", report_page(found)
    run = taut.read_rollouts(_run(folder / "run.parquet"))
    found = taut.audit_by(run, "step", beta=0.05, tau=5.0, reward_range=(0, 1))
    yield "steps", "a run of 50 steps (`--by step`)", report_page(found)
    path = _answers(folder / "answers.parquet")
    rollouts = taut.read_rollouts(path, rollout_ids=True)
    yield "tau", "", report_page(taut.clip_threshold(rollouts, beta=0.05, reward_range=(0, 1)))
    reward = {"reward_range": (0, 1), "target": "reward"}
    found = taut.audit_by(rollouts, "n_tokens", gap=True, **reward)
    yield "gap", "", report_page(found)
    costs = taut.Costs(decode=0.1, prefill=1.0, label=5.0)
    yield "plan", "", report_page(taut.plan(rollouts, budget=20_000, costs=costs, **reward))
    audit = taut.audit(rollouts, beta=0.05, tau=5.0, reward_range=(0, 1))
    looked = shown(rollouts, find([path]))
    text = report_page(audit, None, looked, what_if(rollouts, audit))
    yield "rollouts", "an audit with its 20,000 rollouts (`--log`)", text
    yield "audit", "the same without rollouts", report_page(audit, None, None)


def _run(path: Path) -> Path:
    """Write a run of 50 steps: the learned reward rises, the true one turns."""
    rng, steps, prompts = np.random.default_rng(0), 50, 200
    step = np.repeat(np.arange(steps), prompts)
    true = np.clip(0.4 + 0.012 * step - 0.00022 * step**2 + 0.15 * rng.normal(size=len(step)), 0, 1)
    learned = np.clip(0.4 + 0.008 * step + 0.1 * rng.normal(size=len(step)), 0, 1)
    gold = np.where(rng.random(len(step)) < 0.3, true, np.nan)
    ids = np.arange(len(step)).astype(str)
    columns = {"prompt_id": ids, "step": step, "reward": learned, "gold": gold}
    columns["log_ratio"] = rng.normal(0.05 * step, 1.0)
    return _write(path, columns)


_WORDS = (
    "the a river tower count because under seven light answer number first then so each total "
    "equals plus minus half train city blue green walks runs measures water stone"
)


def _answers(path: Path) -> Path:
    """Write 20,000 answers of 60 words, four to a prompt, with log-probs of each token."""
    rng, n, each = np.random.default_rng(1), 20_000, 4
    words = np.array(_WORDS.split())
    prompts = [" ".join(row) + "?" for row in words[rng.integers(len(words), size=(n // each, 20))]]
    answers = [" ".join(row) for row in words[rng.integers(len(words), size=(n, 60))]]
    quality = rng.beta(4, 3, n)
    tokens = rng.integers(20, 400, n)
    policy = -rng.exponential(1.0, (n, 8)).round(3)
    ref = policy - rng.exponential(0.2, (n, 8)).round(3)
    columns = {
        "prompt_id": np.repeat(np.arange(n // each), each).astype(str),
        "prompt": np.repeat(np.array(prompts, dtype=object), each),
        "response": answers,
        "reward": np.clip(quality + tokens / 2000 + 0.1 * rng.normal(size=n), 0, 1),
        "n_tokens": tokens,
        "gold": np.where(np.repeat(rng.random(n // each) < 0.1, each), quality, np.nan),
        "policy_logprobs": list(policy),
        "ref_logprobs": list(ref),
        "policy": np.where(np.arange(n) % 2, "step-200", "step-400"),
    }
    return _write(path, columns)


def _write(path: Path, columns: dict) -> Path:
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)
    return path


# --- in the browser -------------------------------------------------------------------------------


def _opened(browser: Browser, path: Path, size: tuple[int, int], scheme: str = "light") -> Page:
    viewport = {"width": size[0], "height": size[1]}
    page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-taut=ready]")
    return page


def _ready(browser: Browser, path: Path, size: tuple[int, int]) -> float:
    """Return the median time until a page stands, seconds."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        page = _opened(browser, path, size)
        times.append(time.monotonic() - start)
        page.context.close()
    return sorted(times)[1]


def _to(selector: str) -> Callable[[Page], None]:
    return lambda page: page.eval_on_selector(selector, "one => one.scrollIntoView()")


def _two(page: Page) -> None:
    """Open two rollouts of one prompt side by side."""
    page.get_by_label("order").select_option(label="highest learned − gold")
    _to("#rollouts")(page)
    page.focus(".list")
    for key in ("ArrowDown", "ArrowDown", "Enter", "ArrowDown", "b"):
        page.keyboard.press(key)


# Name of a page to its views: the name of a picture, and what to do before it is taken.
_VIEWS: dict[str, dict[str, Callable[[Page], None]]] = {
    "demo": {"top": lambda page: None, "terms": _to("#terms"), "run": _to("#run"),
             "health": _to("#health")},
    "select": {"top": lambda page: None, "candidates": _to("#candidates")},
    "steps": {"top": lambda page: None, "groups": _to("#groups")},
    "compare": {"top": lambda page: None},
    "tau": {"top": lambda page: None},
    "gap": {"top": lambda page: None},
    "plan": {"top": lambda page: None},
    "rollouts": {"two": _two, "what-if": _to("#what-if")},
    "audit": {},
}  # fmt: skip


def _pictures(browser: Browser, path: Path, name: str) -> None:
    for view, before in _VIEWS[name].items():
        for size in SIZES:
            _picture(_opened(browser, path, size), before, f"{name}-{view}-{size[0]}")
    if name == "demo":
        _picture(_opened(browser, path, SIZES[0], "dark"), _to("#terms"), "demo-dark-1280")


def _picture(page: Page, before: Callable[[Page], None], name: str) -> None:
    before(page)
    page.wait_for_timeout(200)
    session = page.context.new_cdp_session(page)
    asked = {"format": "webp", "quality": 75}
    found = session.send("Page.captureScreenshot", asked)
    (DOCS / "page" / f"{name}.webp").write_bytes(base64.b64decode(found["data"]))
    page.context.close()


if __name__ == "__main__":
    main()

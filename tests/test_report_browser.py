"""The page of a result in a real browser, by real events: nothing asked for, nothing run."""

import json
import re
import time

import numpy as np
import pytest

import taut
from taut.decisions.budget.what_if import what_if
from taut.logs.sources import find
from taut.report.door import report_page
from taut.report.page import build
from taut.report.page.rollouts import shown
from test_label_page import browser, chromium, opened
from test_report_page import HOSTILE, demo

__all__ = ["browser", "chromium", "demo"]  # fixtures

pytestmark = pytest.mark.integration
READY = "html[data-taut=ready]"
HOSTILE_ROWS = [
    *HOSTILE[:4],
    '<img src=x onerror="window.hacked=1">',
    '<a href="javascript:window.hacked=1">x</a><iframe srcdoc="<script>parent.hacked=1</script>">',
    '<svg onload="window.hacked=1"><a href="data:text/html,<script>hacked=1</script>">y</a></svg>',
    "\u202eevil\u2066 عمّان 👩🏽‍💻",
    "x" * 1_000_000,
]


def written(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def hostile_rows():
    for i, text in enumerate(HOSTILE_ROWS * 6):
        length = i % 7 + 1
        yield {
            "prompt_id": f"{text[:200]} {i // 2}",
            "rollout_id": f"{text[:200]} #{i}",
            "prompt": f"{text} prompt {i // 2}",
            "response": f"{text} response {i}",
            "reward": (i * 37 % 100) / 100,
            "gold": (i * 37 % 100) / 125 if i % 3 else None,
            "policy_logprobs": [-1.0 - 0.1 * j for j in range(length)],
            "ref_logprobs": [-1.2 + 0.1 * j for j in range(length)],
            "policy": text[:300],
            "step": i % 2,
        }


ASKED = {"beta": 0.05, "reward_range": (0, 1), "tau": 5.0}


def with_rollouts(path, **asked):
    """The page of an audit of a log, with its rollouts."""
    rollouts = taut.read_rollouts(path, rollout_ids=True)
    found = taut.audit(rollouts, **{**ASKED, **asked})
    return build(found, None, shown(rollouts, find([path])), what_if(rollouts, found))


def put(tmp_path, text, name="page.html"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def hostile(tmp_path):
    return written(tmp_path / "log.jsonl", hostile_rows())


def until(holds, seconds=5.0):
    """Wait for something to hold: the page's policy forbids what Playwright would evaluate."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ready(browser, path, **context):
    page, seen = opened(browser.new_context(**context), path)
    page.wait_for_selector(READY, timeout=20_000)
    return page, seen


# --- every result ---------------------------------------------------------------------------------


def results():
    rng = np.random.default_rng(0)
    n = 300
    gold = rng.random(n)
    columns = {
        "prompt_id": [f"p{i}" for i in range(n)],
        "reward": np.clip(gold + 0.1 * rng.normal(size=n), 0, 1),
        "gold": np.where(rng.random(n) < 0.5, gold, np.nan),
        "log_ratio": rng.normal(0.5, 1.0, n),
        "step": np.arange(n) % 3,
    }
    rollouts = taut.Rollouts.from_arrays(columns)
    asked = {"beta": 0.05, "reward_range": (0, 1)}
    monitor = taut.Monitor(low=0, high=1, width=0.5)
    monitor.update([0.5] * 50)
    return {
        "audit": taut.audit(rollouts, **asked),
        "by": taut.audit_by(rollouts, "step", **asked),
        "select": taut.select(rollouts, **asked, declare="held-out"),
        "check": taut.check(rollouts, reward_range=(0, 1)),
        "tau": taut.clip_threshold(rollouts, beta=0.05, reward_range=(0, 1)),
        "plan": taut.plan(
            rollouts, budget=2000, costs=taut.Costs(prefill=1.0, decode=1.0, label=5.0), **asked
        ),
        "monitor": monitor.result,
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_stands_without_an_error_or_a_request(browser, demo, tmp_path, scheme):
    """At both widths: charts drawn, nothing wider than the screen, the title is the verdict."""
    for name, result in {"demo": demo, **results()}.items():
        path = put(tmp_path, report_page(result), f"{name}.html")
        for width in (1280, 390):
            size = {"width": width, "height": 800}
            page, seen = ready(browser, path, viewport=size, color_scheme=scheme)
            assert page.title() == page.inner_text("#verdict"), name
            places = page.locator("[data-chart]").count()
            assert page.locator("[data-chart] svg").count() == places, name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert not page.evaluate(_UNNAMED), name
            page.emulate_media(media="print")
            page.wait_for_timeout(100)
            assert seen == [], name
            page.context.close()


_UNNAMED = """[...document.querySelectorAll('button, select, input, [role=region], nav')].filter(
    (one) => !(one.textContent.trim() || one.getAttribute('aria-label')
               || one.closest('label')?.textContent.trim())).map((one) => one.outerHTML)"""


def test_controls_work(browser, tmp_path, hostile):
    """What if, the JSON, Markdown, links to the theory: by real clicks and keys."""
    page, seen = ready(browser, put(tmp_path, with_rollouts(hostile)))
    widths = {page.inner_text("[data-result='0']")}
    for axis in ("0", "2"):
        page.select_option(f"[data-axis='{axis}']", index=0)
        widths.add(page.inner_text("[data-result='0']"))
    assert len(widths) > 1
    page.click("#json-show")
    assert json.loads(page.inner_text("#json-text"))["schema"] == "taut.certificate/2"
    with page.expect_download() as waiting:
        page.click("#json-save")
    waiting.value.save_as(tmp_path / "saved.json")
    assert (
        taut.load(tmp_path / "saved.json").to_json() == taut.load(tmp_path / "page.html").to_json()
    )
    page.click("#copy")
    until(lambda: page.inner_text("#copy") == "Copied")
    link = page.locator("a[href^='#theory-']").first
    link.click()
    assert page.evaluate("document.querySelector('#theory :target') !== null")
    assert seen == []


def test_a_brush_and_two_fields_choose_steps(browser, demo, tmp_path):
    """Dragging over the chart of a run leaves the rows of those steps; so do two fields."""
    rows = demo.steps
    path = put(tmp_path, report_page(demo))
    page, seen = ready(browser, path, viewport={"width": 1000, "height": 900})
    page.locator("[data-chart=steps] svg").scroll_into_view_if_needed()
    box = page.locator("[data-chart=steps] svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    left = page.locator("tr[data-step]:visible")
    until(lambda: left.count() < len(rows))
    assert 0 < left.count() < len(rows)
    page.click(".range button")
    assert left.count() == len(rows)
    page.focus(".range select[data-end=low]")
    page.keyboard.press("End")
    assert left.count() == 1
    assert seen == []


# --- rollouts -------------------------------------------------------------------------------------


def test_rollouts_by_keys_and_links(browser, tmp_path, hostile):
    """Search, filter, order, groups, two side by side, a link that opens at a rollout."""
    path = put(tmp_path, with_rollouts(hostile))
    page, seen = ready(browser, path, viewport={"width": 1280, "height": 900})
    total = len(HOSTILE_ROWS) * 6
    counted = "#rollouts-view [role=status]"
    assert page.inner_text(counted) == f"{total} rollouts"
    page.focus(".list")
    for key in ("ArrowDown", "ArrowDown", "Enter", "ArrowDown", "b"):
        page.keyboard.press(key)
    assert page.locator("#rollouts-view article").count() == 2
    assert page.evaluate("location.hash").startswith("#rollout-")
    assert page.locator(".tokens span").count() > 2
    address = page.evaluate("location.href")
    page.keyboard.press("Escape")
    assert page.locator("#rollouts-view article").count() == 0
    page.keyboard.press("/")
    page.keyboard.type("response 17")
    until(lambda: page.inner_text(counted).startswith("1 of"))
    page.fill("#rollouts-view input[type=search]", "")
    until(lambda: page.inner_text(counted) == f"{total} rollouts")
    page.get_by_label("step").select_option(label="1")
    assert page.inner_text(counted) == f"{total // 2} of {total} rollouts"
    page.get_by_label("step").select_option(label="all")
    page.get_by_label("by prompt").click()
    page.get_by_label("order").select_option(label="highest learned")
    rewards = [float(text.split()[-1]) for text in page.locator(".fact.reward").all_inner_texts()]
    assert rewards == sorted(rewards, reverse=True) and len(rewards) > 5
    other, also = opened(page.context, path)
    other.goto("about:blank")
    other.goto(address)
    other.wait_for_selector(READY)
    assert other.locator("#rollouts-view article").count() == 1
    assert seen == [] and also == []


def foreign(page):
    """What text has made of itself: elements, a flag, an address that runs."""
    return page.evaluate(
        """[window.hacked ? 'hacked' : '',
            ...[...document.querySelectorAll('img, iframe, object, embed, [onerror], [onload]')]
              .map((one) => one.tagName),
            ...[...document.querySelectorAll('a')].map((one) => one.getAttribute('href') ?? '')
              .filter((to) => !to.startsWith('#'))].filter(Boolean)"""
    )


def looked_through(browser, path):
    page, seen = opened(browser.new_context(viewport={"width": 1280, "height": 900}), path)
    page.wait_for_selector("html[data-taut]")
    page.focus(".list")
    for _ in range(len(HOSTILE_ROWS) * 3):
        for key in ("ArrowDown", "Enter"):
            page.keyboard.press(key)
    page.wait_for_timeout(300)
    return page, [*seen, *foreign(page)]


def without_policy(text):
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_text_stays_text_and_a_planted_hole_is_caught(
    browser,
    tmp_path,
    hostile,
    monkeypatch,
    policy,
):
    """Prompts, responses, ids, policies; the same test finds innerHTML where somebody plants it."""
    kept = (lambda text: text) if policy else without_policy
    page, wrong = looked_through(browser, put(tmp_path, kept(with_rollouts(hostile))))
    assert wrong == []
    page.get_by_label("by prompt").click()
    page.get_by_label("order").select_option(label="lowest learned")
    first = page.locator("#rollouts-view .row .text").first.inner_text()
    assert "→" in first
    real = build.__globals__["_file"]
    evil = 'Object.assign(make("pre", {}), { innerHTML: words.slice(0, SHOWN) })'
    clean = 'make("pre", { dir: "auto", tabindex: "0" }, words.slice(0, SHOWN) || NONE)'

    def planted(name):
        text = real(name)
        assert name != "rollouts.js" or clean in text
        return text.replace(clean, evil)

    monkeypatch.setitem(build.__globals__, "_file", planted)
    _, wrong = looked_through(browser, put(tmp_path, kept(with_rollouts(hostile)), "evil.html"))
    assert wrong != []


def test_twenty_thousand_rollouts_are_usable_at_once(browser, tmp_path):
    """Ready within 3 s; scrolling never leaves more rows in the page than can be seen."""
    rng = np.random.default_rng(0)
    some = np.array([f"word{i}" for i in range(3000)])
    prompts, responses = (rng.integers(3000, size=(20_000, size)) for size in (20, 60))
    rows = [
        {
            "prompt_id": i // 4,
            "prompt": " ".join(some[prompts[i // 4]]),
            "response": " ".join(some[responses[i]]),
            "reward": float(rng.random()),
            "gold": float(rng.random()) if i % 5 == 0 else None,
            "log_ratio": float(rng.normal()),
            "n_tokens": int(rng.integers(20, 90)),
        }
        for i in range(20_000)
    ]
    text = with_rollouts(written(tmp_path / "log.jsonl", rows), target="reward")
    assert "All 20,000 rollouts" in text and len(text) < 6_000_000
    path = put(tmp_path, text)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    start = time.monotonic()
    page, seen = opened(context, path)
    page.wait_for_selector(READY)
    assert time.monotonic() - start < 3
    slowest = page.evaluate(_SCROLL)
    assert slowest < 100, slowest
    assert page.locator("#rollouts-view .row").count() < 60
    page.fill("#rollouts-view input[type=search]", "word17 word4")
    until(lambda: " of 20,000" in page.inner_text("#rollouts-view [role=status]"))
    assert seen == []


_SCROLL = """async () => {
  const list = document.querySelector('.list');
  let slowest = 0, last = performance.now();
  for (let step = 0; step < 60; step += 1) {
    list.scrollTop += 9000;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    slowest = step > 2 ? Math.max(slowest, now - last) : 0;
    last = now;
  }
  return slowest;
}"""

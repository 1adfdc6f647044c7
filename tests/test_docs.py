"""The documentation: links lead somewhere, pages are current, the site builds."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]) + sorted(
    (ROOT / "docs").glob("*.md")
)
FENCE = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def prose(page):
    """The text of a page without its code."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """The anchors of the headings of a page, as code hosts and the site make them."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\]\([^)]*\)", "", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link is a file of the project, and its anchor a heading there."""
    lost = []
    for pair in LINK.findall(prose(page)):
        target = pair[0] or pair[1]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            lost.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            lost.append(f"{target}: no such heading")
    assert not lost


def module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_pages_that_are_made_are_current():
    """`python docs/api.py` and `python docs/llms.py` were run since the words changed."""
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == module("api").page()
    assert (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8") == module("llms").text()


def test_every_page_has_its_place():
    nav = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert [page.name for page in PAGES[3:] if page.name not in nav] == []


@pytest.mark.integration
def test_the_site_builds(tmp_path):
    """`make docs`, without a warning."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    config = ROOT / "mkdocs.yml"
    ran = subprocess.run(
        [*command, "--config-file", str(config)], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "warning" not in (ran.stdout + ran.stderr).lower()
    assert (ROOT / "site" / "start" / "index.html").is_file()

"""docs/theory.md is what the code cites: citations resolve, functions exist, statements hold."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from validation.exact import CHECKS
from validation.theory import PARTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
CITING = [
    path
    for folder in ("src/taut", "tests", "validation", "docs", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md"} and path != Path(__file__)
] + [ROOT / "README.md"]

_NUMBER = r"\d+(?:\.\d+[a-z]?)?"
_ITEM = r"(?:\s?\([a-z]\)|\s[a-z](?=\)))?"
_CITED = re.compile(
    rf"(?P<whose>[\w-]*,?)\s*(?P<all>§\s?{_NUMBER}{_ITEM}"
    rf"(?:(?:,| and| to|;| or|\s?[-–])\s*§?\s?{_NUMBER}{_ITEM}(?![\w%]))*)"
)
_ONE = re.compile(r"(?P<number>\d+(?:\.\d+[a-z]?)?)(?:\s?\(?(?P<item>[a-z])(?![a-z]))?")
_APPENDIX = re.compile(r"[Aa]ppendix (?P<letter>[A-Z])\b")
_BREAK = re.compile(r"\n[ \t]*(?:#|\*|>)?[ \t]*")
# Documents and books ("1993, §6.5") with sections of their own.
_OTHERS = re.compile(r"design|field-notes|\d{4},")


def sections(page: str) -> dict[str, str]:
    """Return the text of each numbered section and appendix, subsections included."""
    found: dict[str, str] = {}
    heads = list(re.finditer(rf"^(#+) (?:({_NUMBER})\.? |Appendix ([A-Z])\. )", page, re.MULTILINE))
    for index, head in enumerate(heads):
        deeper = (other for other in heads[index + 1 :] if len(other[1]) <= len(head[1]))
        end = next((other.start() for other in deeper), len(page))
        found[head[2] or head[3]] = page[head.start() : end]
    return found


def citations(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield every section of the theory that a text cites, with its lettered item if it names one.

    A bare section sign means the theory; lists, ranges and lines that break inside one are read.
    """
    joined = _BREAK.sub(" ", text)
    for cited in _CITED.finditer(joined):
        if not _OTHERS.fullmatch(cited["whose"]):
            for one in _ONE.finditer(cited["all"]):
                yield one["number"], one["item"]
    for cited in _APPENDIX.finditer(joined):
        yield cited["letter"], None


def unresolved(text: str, page: str) -> list[str]:
    """Return the citations of a text that lead nowhere on the page."""
    known = sections(page)
    return [
        f"§{number}" + (f" ({item})" if item else "")
        for number, item in citations(text)
        if number not in known or (item is not None and f"({item})" not in known[number])
    ]


def functions_named(page: str) -> set[str]:
    """Return the functions that the page says compute something."""
    named = re.findall(r"\*Computed by\*((?:[^\n]|\n(?!\n))*)", page)
    return {name for part in named for name in re.findall(r"`(\w+)`", part)}


def functions_missing(page: str, source: str) -> set[str]:
    """Return the functions that the page names and the source does not define."""
    return functions_named(page) - set(re.findall(r"^\s*(?:def|class) (\w+)", source, re.MULTILINE))


def anchors(page: str) -> set[str]:
    """Return the anchors that code hosts make of the headings."""
    heads = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_citation_leads_to_a_section():
    """Each "theory §…" of the code, tests, validation and docs is a heading or item of the page."""
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in CITING}
    assert sum(len(list(citations(text))) for text in found.values()) > 200
    wrong = {path: unresolved(text, PAGE) for path, text in found.items()}
    assert {path: bad for path, bad in wrong.items() if bad} == {}
    assert unresolved(PAGE, PAGE) == []


def test_every_function_named_exists():
    """What the page says computes a number is defined in the package."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src/taut").rglob("*.py"))
    assert len(functions_named(PAGE)) > 60
    assert functions_missing(PAGE, source) == set()


def test_links_to_headings_resolve():
    """Links into the page, its own table of contents among them, name headings that it has."""
    links = re.findall(r"\]\((#[^)]+)\)", PAGE)
    for path in CITING:
        links += re.findall(r"theory\.md(#[\w-]+)", path.read_text(encoding="utf-8"))
    assert len(links) >= 11
    assert {link[1:] for link in links} <= anchors(PAGE)


def test_wrong_citations_are_caught():
    """The checks above reject planted mistakes: sections, items, appendices, functions, breaks."""
    page = (
        "## 2. A\n### 2.4 B\n### 2.4b C\n* (a) one\n## 3. D\n## Appendix A. E\n*Computed by* `f`.\n"
    )
    assert unresolved("(theory §2.4b (a), §3; theory §2.4 and appendix A)", page) == []
    assert unresolved("theory §2.5", page) == ["§2.5"]
    assert unresolved("theory §2.4c", page) == ["§2.4c"]
    assert unresolved("theory §2.4b (b)", page) == ["§2.4b (b)"]
    assert unresolved("(theory §2.4b b)", page) == ["§2.4b (b)"]
    assert unresolved("theory §2.4-2.6", page) == ["§2.6"]
    assert unresolved("# theory §3,\n    # §9.1", page) == ["§9.1"]
    assert unresolved("theory §3 and appendix C", page) == ["§C"]
    assert unresolved("design §5, §4; (Efron & Tibshirani 1993, §6.5)", page) == []
    assert functions_missing(page, "def g(): ...") == {"f"}
    assert "24b-c" in anchors(page) and "24c" not in anchors(page)


@pytest.mark.parametrize("item", CHECKS, ids=lambda item: f"{item.section} {item.run.__name__}")
def test_statement_holds_on_finite_laws(item):
    """A statement of the page, tried where expectations are exact sums; it has a section there."""
    assert PARTS and item.section in sections(PAGE)
    assert item.run()

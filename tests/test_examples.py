"""Every example of the README and of docs/ runs; what it names is there."""

import contextlib
import functools
import importlib.util
import io
import re
import shlex
import sys
import tomllib
import warnings
from pathlib import Path

import click
import pytest
from sybil import Document
from sybil.parsers.markdown import CodeBlockParser

import doc_files
import taut
from taut.cli import cli, main
from taut.labels.sheet import read_sheet
from test_label_cli import answered

ROOT = Path(__file__).parents[1]
MADE = {"api.md"}  # by a script, from docstrings
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in MADE),
]
LANGUAGES = ("python", "bash", "text", "toml")
FENCE = re.compile(r"^```+[^\n]*\n.*?^```+$", flags=re.DOTALL | re.MULTILINE)
# Stores and shared disks stand for a folder here: tests/test_places.py asks a real server.
ELSEWHERE = re.compile(r"(s3|gs)://bucket/|hf://datasets/ORGANISATION/NAME/|(?<=\s)/shared/")
# Examples that need models or a cluster are integration tests: torch and Ray take seconds to load.
HEAVY = re.compile(
    r"taut (score|train|lab) |engine\W+ray|taut\.(score|train|overoptimise)\(|taut\.training"
)
TOOLS = {"build"}  # of whoever releases; the tests do not install it
SMALLER = {"lab overoptimise": ("--size", "tiny", "--seed", "0")}
# Not forever, where a goal is out of reach.
SMALLER |= dict.fromkeys(("watch rollouts/", "watch sampling/"), ("--timeout", "20"))


class Wrong(AssertionError):
    """An example that does not do what it says."""


# --- the three kinds of examples ------------------------------------------------------------------


def python(example) -> None:
    """Run a block; what it prints is in the `text` block behind it, if that follows at once."""
    names = example.namespace
    code = ELSEWHERE.sub("", "\n" * (example.line - 1) + example.parsed)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, example.path, "exec"), names)
    shown = re.match(
        r"\s*```text\n(.*?)```", example.document.text[example.region.end :], flags=re.DOTALL
    )
    if shown and printed.getvalue() != shown[1]:
        raise Wrong(f"printed\n{printed.getvalue()}\nand the page shows\n{shown[1]}")


def toml(example) -> None:
    """A table of settings is one."""
    tomllib.loads(example.parsed)


def bash(example) -> None:
    """Run `taut` lines in this process; of other programs' lines see that what they name exists."""
    joined = example.parsed.replace("\\\n", " ")
    wrong = []
    for line in ELSEWHERE.sub("", joined).splitlines():
        words = shlex.split(line, comments=True)
        try:
            if words:
                RUN.get(words[0], unknown)(words)
        except Wrong as problem:
            wrong.append(str(problem))
    if wrong:
        raise Wrong("\n".join(wrong))


def run_taut(words: list[str]) -> None:
    """Exit status 0, and a new sheet is labelled as its question asks."""
    output = None
    if ">" in words:
        words, output = words[: words.index(">")], Path(words[words.index(">") + 1])
    more = SMALLER.get(" ".join(words[1:3]), ())
    status, printed, told = called([*words, *more])
    if status:
        raise Wrong(f"{shlex.join(words)}: exit status {status}: {told}")
    if output and not output.exists():
        output.write_text(printed, encoding="utf-8")
    if words[1:3] in (["label", "draw"], ["label", "next"]) and "-o" in words:
        label(Path(words[words.index("-o") + 1]))


def called(words: list[str]) -> tuple[int, str, str]:
    """Call the console script; return its exit status and what it wrote to both streams."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        patch.setattr(sys, "argv", words)
        main()
    return left.value.code, out.getvalue(), err.getvalue()


def label(output: Path) -> None:
    """Answer the sheets as somebody who downloads labels.jsonl does."""
    for sheet in (output, *Path().glob(f"{output.stem}.*{output.suffix}")):
        if sheet.suffix == ".csv" or ".labels" in sheet.name or not sheet.exists():
            continue
        name = "labels.jsonl" if sheet.suffix == ".html" else f"{sheet.stem}.labels.jsonl"
        gold = {item.rollout_id: hash_bit(item.rollout_id) for item in read_sheet(sheet).items}
        who = sheet.name.split(".")[1] if sheet.name.count(".") == 2 else None
        answered(sheet, Path(name), gold, who=who, slip=0.05)


def hash_bit(name: str) -> int:
    """Gold of a rollout: 1 for two thirds of them."""
    return int(sum(name.encode()) % 3 > 0)


def run_make(words: list[str]) -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    if missing := [word for word in words[1:] if word not in targets]:
        raise Wrong(f"make has no target {missing}")


def run_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in words[2:]:
        for extra in re.findall(r"\[(.*)\]", word):
            if missing := set(extra.split(",")) - set(extras):
                raise Wrong(f"no extra {missing}")


def run_python(words: list[str]) -> None:
    """A script is a file of the project, a module can be found, and `-m taut` is a command."""
    if "-m" in words:
        module, *rest = words[words.index("-m") + 1 :]
        if module == "taut":
            known_options(["taut", *rest])
        elif (
            module not in TOOLS
            and importlib.util.find_spec(module) is None
            and not (ROOT / f"{module.replace('.', '/')}.py").exists()
        ):
            raise Wrong(f"no module {module}")
    elif not (ROOT / words[1]).exists():
        raise Wrong(f"no script {words[1]}")


def unknown(words: list[str]) -> None:
    raise Wrong(f"{words[0]}: the tests know no such program")


RUN = {
    "taut": run_taut,
    "make": run_make,
    "pip": run_pip,
    "python": run_python,
    ".venv/bin/python": run_python,
    "torchrun": run_python,
    "export": lambda words: None,
}


def known_options(words: list[str]) -> None:
    """The command exists, and has the options that are named."""
    command = cli
    rest = words[1:]
    while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        if found is None:
            raise Wrong(f"{shlex.join(words)}: no command {rest[0]!r}")
        command, rest = found, rest[1:]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    if missing := {word for word in rest if word.startswith("--")} - known:
        raise Wrong(f"{shlex.join(words)}: no option {sorted(missing)}")


# --- pages ----------------------------------------------------------------------------------------

PARSERS = [
    CodeBlockParser("python", python),
    CodeBlockParser("bash", bash),
    CodeBlockParser("toml", toml),
]


def examples(page: Path, *, heavy: bool) -> list:
    """Return the examples of a page that are heavy, or those that are not."""
    document = Document.parse(str(page), *PARSERS)
    return [one for one in document if bool(HEAVY.search(one.parsed)) == heavy]


def run_page(page: Path, here: Path, monkeypatch, *, heavy: bool) -> None:
    """Run examples in the page's order, in its folder and one namespace."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "100")
    found = examples(page, heavy=heavy)
    if not found:
        return
    doc_files.FILES.get(page.name, lambda _: None)(here)
    found[0].namespace.update({"__name__": "example", "taut": taut})
    found[0].namespace.update(doc_files.NAMES.get(page.name, lambda _: {})(here))
    wrong = []
    for one in found:
        try:
            one.evaluate()
        except Exception as problem:
            wrong.append(f"{page.name}:{one.line}: {type(problem).__name__}: {problem}")
    assert not wrong, "\n".join(wrong)


def with_examples(*, heavy: bool) -> list[Path]:
    return [page for page in PAGES if examples(page, heavy=heavy)]


@pytest.mark.parametrize("page", with_examples(heavy=False), ids=lambda page: page.name)
def test_examples_run(page, tmp_path, monkeypatch):
    """In the order of the page, on small files of the kinds that it names."""
    run_page(page, tmp_path, monkeypatch, heavy=False)


@pytest.mark.integration
@pytest.mark.parametrize("page", with_examples(heavy=True), ids=lambda page: page.name)
def test_examples_with_models_or_a_cluster_run(page, tmp_path, monkeypatch):
    """On models that are tiny; torch and Ray take most of the time."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    small = functools.partial(taut.overoptimise, size="tiny", quiet=True)
    monkeypatch.setattr(taut, "overoptimise", lambda folder, **_: small(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the libraries, not ours
        run_page(page, tmp_path, monkeypatch, heavy=True)


def test_each_fence_says_what_it_is():
    """So that no example escapes: a block without a language would be run by nobody."""
    opened = [
        (page.name, line)
        for page in PAGES
        for fence in FENCE.findall(page.read_text(encoding="utf-8"))
        if (line := fence.split("\n", 1)[0].lstrip("`")) not in LANGUAGES
    ]
    assert opened == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page):
    """`taut ...` and `python ...` in a sentence name commands, options and scripts that exist."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`((?:taut|python|make) [^`]+)`", prose):
        words = code.replace("\\|", "|").split()
        {"taut": known_options, "python": run_python, "make": run_make}[words[0]](words)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("python\ntaut.audit_all('run/')", "AttributeError"),
        ("python\nprint(1)\n```\n\n```text\n2", "printed"),
        ("python\nfrom taut import nothing", "ImportError"),
        ("bash\ntaut check run/ --reward-ranges 0 1", "No such option"),
        ("bash\ntaut check other/", "found nothing there"),
        ("bash\ntaut audit run/ --target reward --reward-range 0 1 --require-lower 2", "status 3"),
        ("bash\nmake everything", "no target"),
        ("bash\npip install '.[trains]'", "no extra"),
        ("bash\npython benchmarks/nothing.py", "no script"),
        ("bash\npython -m validation.nothing", "no module"),
        ("bash\ntauts audit run/", "no such program"),
        ("toml\nbeta 3", "TOMLDecodeError"),
    ],
)
def test_a_wrong_example_is_found(block, said, tmp_path, monkeypatch):
    """Each kind of mistake, planted in a page of its own, fails its page."""
    page = tmp_path / "start.md"
    page.write_text(f"# Page\n\n```{block}\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=said):
        run_page(page, tmp_path, monkeypatch, heavy=False)

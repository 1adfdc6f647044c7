"""The example notebooks: what they show is what they give, and they run."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def outputs(book):
    return [item for cell in book["cells"] for item in cell.get("outputs", ())]


def sentences(book):
    """The bold first sentences of results."""
    shown = ("".join(item.get("data", {}).get("text/html", "")) for item in outputs(book))
    return [found[0] for text in shown if (found := re.findall(r"<p><b>(.*?)</b>", text))]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_gave(path):
    """Sentence, chart and tables are kept; no error, no machine's paths, no times."""
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in code[-2:])
    assert {item["output_type"] for item in outputs(book)} <= {"execute_result", "display_data"}
    assert len(sentences(book)) >= 3
    kinds = {kind for item in outputs(book) for kind in item["data"]}
    assert {"text/html", "image/svg+xml"} <= kinds
    assert "<svg" in text and "<table" in text
    assert str(Path.home()) not in text and "site-packages" not in text and "/tmp" not in text
    assert len(text) < 400_000


@pytest.mark.integration
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    """It runs to its end; what comes from a fixed table comes again."""
    pytest.importorskip("nbclient")
    if "trl" in path.stem:
        pytest.importorskip("trl")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.executed(path)
    kept = json.loads(path.read_text(encoding="utf-8"))
    if path.stem == "dataframe":
        assert sentences(found) == sentences(kept)
    else:  # a training run is its machine's
        assert len(sentences(found)) == len(sentences(kept))
        assert "true reward is at least" in " ".join(sentences(found))

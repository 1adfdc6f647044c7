"""The public face: names, import time's causes, and the README's promises."""

import subprocess
import sys
from pathlib import Path

import pytest

import taut

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", taut.__all__)
def test_every_public_name_exists_and_is_documented(name):
    """What __all__ promises can be had, with a docstring, and the README or docs show it."""
    value = getattr(taut, name)
    assert name == "__version__" or value.__doc__
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert name == "__version__" or any(f"taut.{name}" in p.read_text() for p in pages)


def test_unknown_names_are_refused():
    """A misspelt name raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        _ = taut.audits


def test_import_stays_light():
    """`import taut` and `taut --help` load no heavy library; those come on first use."""
    heavy = "numpy scipy numba pyarrow rich orjson"
    program = f"""
import sys, taut, taut.cli
loaded = [name for name in "{heavy}".split() if name in sys.modules]
sys.exit(", ".join(loaded) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_names_no_torch():
    """The core neither imports nor requires torch."""
    program = """
import sys, taut
for name in taut.__all__:
    getattr(taut, name)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_table_of_columns_is_the_schema():
    """docs/log.md says what the readers check; `python docs/columns.py` writes it."""
    program = "import runpy; print(runpy.run_path('docs/columns.py')['page'](), end='')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (ROOT / "docs/log.md").read_text(encoding="utf-8") == done.stdout

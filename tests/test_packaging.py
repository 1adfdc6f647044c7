"""What is handed out works where it is unpacked: the wheel without torch, the sdist with tests."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "tests", "docs", "validation", "benchmarks")
MADE = ("__pycache__", "*.egg-info", "build", ".venv*", ".git", ".*_cache", ".hypothesis")


def python(*arguments, cwd, path):
    """Run this Python elsewhere, with one folder first on its path; return standard output."""
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both distributions from a copy, so that nothing is left behind here."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 is not installed")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*MADE))
    program = (
        "from setuptools.build_meta import build_sdist, build_wheel;"
        f"build_sdist({str(folder)!r}); build_wheel({str(folder)!r})"
    )
    python("-c", program, cwd=folder / "tree", path="")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_the_source_distribution_is_whole_and_its_tests_run(built, tmp_path):
    """Every file of the repository is in it, and tests pass from where it is unpacked."""
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    kept = shutil.ignore_patterns(*MADE)
    for folder in FOLDERS:
        for place, folders, files in os.walk(ROOT / folder):
            made = kept(place, [*folders, *files])
            folders[:] = [name for name in folders if name not in made]
            for name in set(files) - made:
                inside = Path(place, name).relative_to(ROOT)
                assert name.endswith(".pyc") or (tree / inside).is_file(), inside
    few = ["tests/test_public.py", "tests/test_betting.py", "tests/test_theory_page.py"]
    out = python("-m", "pytest", "-p", "no:cacheprovider", *few, cwd=tree, path=tree / "src")
    assert "passed" in out


def test_the_wheel_works_without_torch(built, tmp_path):
    """Installed on its own, with torch out of reach, the demo certifies; types and data are in."""
    site = tmp_path / "site"
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
    python(*pip, "--no-index", "--target", site, built[1], cwd=tmp_path, path="")
    program = """
import sys
sys.modules["torch"] = None
import taut
from pathlib import Path
assert Path(taut.__file__).is_relative_to(sys.argv[1]), taut.__file__
folder = Path(taut.__file__).parent
assert (folder / "py.typed").exists() and list(folder.rglob("page.html"))
from click.testing import CliRunner
from taut.cli import cli
done = CliRunner().invoke(cli, ["demo"])
assert done.exit_code == 0, done.output
print(taut.audit([{"prompt_id": i, "reward": 0.5} for i in range(9)], reward_range=(0, 1)).status)
"""
    assert python("-c", program, site, cwd=tmp_path, path=site).strip()

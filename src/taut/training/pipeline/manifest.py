"""The manifest of a run: what it is made from, which stages are done, what they found.

One JSON file, replaced whole after each stage. A run goes on only if its recipe, its data and the
number of its processes are those of the manifest; what differs is named.
"""

import json
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from taut.errors import UsageError
from taut.logs.write import whole_file
from taut.training.extra import PACKAGES
from taut.training.pipeline.data import file_digest
from taut.training.pipeline.recipe import differences
from taut.training.pipeline.settings import Recipe
from taut.version import __version__

SCHEMA = "taut.run/1"
NAME = "manifest.json"
# All that a run writes into its folder; --fresh removes these and nothing else.
WRITTEN = (
    "stages",
    "models",
    "log",
    "eval",
    "tensorboard",
    "rm_curve.jsonl",
    "metrics.jsonl",
    NAME,
)


@dataclass
class Manifest:
    """The manifest of a run in its folder.

    Attributes:
        folder: The run's folder.
        head: What the run is made from.
        stages: Name to what a stage found; a stage is there once it is done.
        is_new: Nothing of an earlier run in the folder is gone on with.
    """

    folder: Path
    head: dict[str, Any]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_new: bool = True

    def begin(self) -> None:
        """Take the folder for this run, and remove what an earlier one wrote, if it is new."""
        if self.is_new and (self.folder / NAME).exists():
            remove_run(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.save()

    def finish(self, stage: str, found: dict[str, Any], *, main: bool) -> None:
        """Say that a stage is done, and what it found."""
        self.stages[stage] = found
        if main:
            self.save()

    def save(self) -> None:
        """Replace the file."""
        text = json.dumps(self.document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        with whole_file(str(self.folder / NAME)) as file:
            file.write(text.encode())

    @property
    def document(self) -> dict[str, Any]:
        """The manifest as plain data."""
        return {"schema": SCHEMA, **self.head, "stages": self.stages}


def open_manifest(recipe: Recipe, *, processes: int, fresh: bool = False) -> Manifest:
    """Return the manifest of a recipe's folder: a new one, or that of the run to go on with.

    Nothing is written before `begin`: a run that its data stop leaves nothing behind.

    Args:
        recipe: The run.
        processes: How many take part.
        fresh: Start again, whatever run of ours is there.

    Raises:
        UsageError: The folder holds something else, or a run that differs.
    """
    folder = Path(recipe.output.folder)
    path = folder / NAME
    head = _head(recipe, processes)
    if not path.exists():
        if folder.exists() and any(not item.name.startswith(".") for item in folder.iterdir()):
            raise UsageError(
                f"{folder}: expected an empty folder or a run of taut, found other files; choose "
                "another output.folder."
            )
        return Manifest(folder, head)
    old = _read(path)
    # A run that stopped before it made anything is no run to go on with.
    if fresh or not (old["stages"] or any((folder / "stages").glob("*/*"))):
        return Manifest(folder, head)
    _compare(old, head, path)
    return Manifest(folder, head, old["stages"], is_new=False)


def _head(recipe: Recipe, processes: int) -> dict[str, Any]:
    return {
        "version": __version__,
        "packages": _versions(),
        "processes": processes,
        "recipe": recipe.model_dump(mode="json"),
        "inputs": _inputs(recipe),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _inputs(recipe: Recipe) -> dict[str, str]:
    """Return a digest of each data file, and the names and sizes of each model's files."""
    files = {
        "sft.data": recipe.sft and recipe.sft.data,
        "reward_model.pairs": recipe.reward_model.pairs,
        "policy.prompts": recipe.policy.prompts,
        "evaluation.prompts": recipe.evaluation.prompts,
    }
    models = {
        "model.checkpoint": recipe.model.checkpoint,
        "reward_model.checkpoint": recipe.reward_model.checkpoint,
        "reward_model.start": recipe.reward_model.start,
        "gold.checkpoint": recipe.gold and recipe.gold.checkpoint,
    }
    found = {key: file_digest(path) for key, path in files.items() if path}
    for key, path in models.items():
        if path and Path(path).is_dir():
            sizes = sorted((item.name, item.stat().st_size) for item in Path(path).iterdir())
            found[key] = " ".join(f"{name}:{size}" for name, size in sizes)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: expected a manifest, found: {problem}.") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path}: expected schema {SCHEMA}, found another file of that name.")
    return document


def _compare(old: dict, new: dict, path: Path) -> None:
    """Raise where a run to go on with differs; where metrics are reported may change."""
    ignored = ("output", "report_to")
    before, after = (
        {key: value for key, value in head["recipe"].items() if key not in ignored}
        for head in (old, new)
    )
    changed = differences(before, after)
    changed += [
        f"the file of {key} has changed"
        for key in sorted({*old["inputs"], *new["inputs"]})
        if old["inputs"].get(key) != new["inputs"].get(key) and key not in " ".join(changed)
    ]
    if old["processes"] != new["processes"]:
        changed.append(f"processes was {old['processes']}, is {new['processes']}")
    if old["packages"] != new["packages"]:
        changed += differences(old["packages"], new["packages"], "package")
    if changed:
        raise UsageError(
            f"{path}: this folder holds a run with another recipe: {'; '.join(changed)}. Restore "
            "it, choose another output.folder, or start again with --fresh."
        )


def remove_run(folder: Path) -> None:
    """Remove what a run wrote into its folder, the manifest last."""
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def only_one(folder: Path):
    """Hold the folder for one run at a time; the hold ends with the process, also by a kill.

    Raises:
        UsageError: Another run holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{folder}: expected a free folder, found another run at work in it; wait for it "
                "or choose another output.folder."
            ) from None
        yield

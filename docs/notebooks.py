"""Run the notebooks of docs/notebooks/ and keep their output, without times and progress bars.

    python docs/notebooks.py

They run in a folder of their own, on this installation of taut, without the network.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).with_name("notebooks")
_MINUTES = 10


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with what its cells gave.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    # What a notebook calls by its shell is this Python, too.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    NotebookClient(book, timeout=60 * _MINUTES, record_timing=False).execute()
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [item for item in cell.outputs if item.get("name") != "stderr"]
            for item in cell.outputs:
                item.pop("transient", None)
                # Vega-Lite beside the picture is the picture again.
                data = item.get("data", {})
                for name in [name for name in data if name.startswith("application/vnd.vega")]:
                    del data[name]
    book.metadata = {"kernelspec": book.metadata.kernelspec, "language_info": {"name": "python"}}
    return book


def main() -> None:
    """Run all of them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()

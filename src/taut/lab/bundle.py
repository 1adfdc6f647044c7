"""Make the bundled example of `taut demo` from a finished experiment.

    taut lab overoptimise -o lab && python -m taut.lab.bundle lab && python docs/picture.py

Kept are the audited log, which holds sums only, and the truth; no weights.
"""

import sys
from pathlib import Path

import taut
from taut.lab.verdict import EXAMPLE_LOG, EXAMPLE_TRUTH
from taut.logs.write import whole_file


def bundle(experiment: Path, folder: Path) -> None:
    """Copy the example's two files.

    Args:
        experiment: Folder of a finished experiment.
        folder: Where the examples are.
    """
    for name, target in (("audit.parquet", EXAMPLE_LOG), ("truth.json", EXAMPLE_TRUTH)):
        with whole_file(str(folder / target)) as file:
            file.write((experiment / name).read_bytes())


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), Path(taut.__file__).parent / "examples")

"""Draw docs/demo.svg, the README's picture, and docs/lab.svg from the bundled example."""

from pathlib import Path

import taut
from taut.lab.verdict import demonstrate
from taut.report.terminal.lab import lab_report
from taut.report.terminal.layout import save_svg


def main() -> None:
    """Judge the example as `taut demo` does; save its report and its curves as pictures."""
    found = demonstrate(Path(taut.__file__).parent / "examples")
    here = Path(__file__).parent
    # The picture is of the run: an audit has a page of its own.
    found = found.model_copy(update={"audit": None})
    save_svg(lab_report(found), here / "demo.svg", "taut demo", width=92)
    found.save(here / "lab.svg", "steps")


if __name__ == "__main__":
    main()

"""Draw docs/demo.svg, the README's picture, and docs/lab.svg from the bundled example."""

from pathlib import Path

import taut
from taut.lab.picture import draw
from taut.lab.verdict import demonstrate
from taut.report.plot import save_plot
from taut.report.terminal.certificate import save_svg
from taut.report.terminal.lab import lab_report


def main() -> None:
    """Judge the example as `taut demo` does; save its report and its curves as pictures."""
    document = demonstrate(Path(taut.__file__).parent / "examples").model_dump()
    here = Path(__file__).parent
    del document["audit"]  # the picture is of the run; an audit has a page of its own
    save_svg(lab_report(document), here / "demo.svg", "taut demo", width=92)
    save_plot(draw(document), here / "lab.svg")


if __name__ == "__main__":
    main()

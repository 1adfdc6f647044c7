"""Draw docs/demo.svg, the README's picture, and docs/lab.svg from the bundled example."""

from pathlib import Path

import taut
from taut.lab.document import Outcome
from taut.lab.verdict import demonstrate, draw
from taut.report.plot import save_plot
from taut.report.terminal.lab import lab_report
from taut.report.terminal.layout import save_svg


def main() -> None:
    """Judge the example as `taut demo` does; save its report and its curves as pictures."""
    document = demonstrate(Path(taut.__file__).parent / "examples")
    here = Path(__file__).parent
    del document["audit"]  # the picture is of the run; an audit has a page of its own
    save_svg(lab_report(Outcome.model_validate(document)), here / "demo.svg", "taut demo", width=92)
    save_plot(draw(document), here / "lab.svg")


if __name__ == "__main__":
    main()

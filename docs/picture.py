"""Draw docs/demo.svg, the README's picture, from the bundled example."""

import json
from pathlib import Path

import taut
from taut.report.terminal import certificate_report, save_svg

FOLDER = Path(taut.__file__).parent / "examples"
DECLARED = ("beta", "reward_range", "log_ratio_max")


def main() -> None:
    """Audit the example as `taut demo` does and save its report as a picture."""
    truth = json.loads((FOLDER / "over_optimised.parquet.truth.json").read_text())
    rollouts = taut.read_rollouts(FOLDER / "over_optimised.parquet")
    certificate = taut.audit(rollouts, **{name: truth["settings"][name] for name in DECLARED})
    picture = Path(__file__).with_name("demo.svg")
    save_svg(certificate_report(certificate.document), picture, "taut demo", width=92)


if __name__ == "__main__":
    main()

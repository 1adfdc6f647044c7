"""Gold labels beside a judge: taut's intervals and those of other packages, on the same logs.

    pip install --target DIR ppi-python cje-eval
    python -m validation.labels_beside --packages DIR --logs 200 --output docs/labels-beside.md

Width and miss rate at 20 to 200 labels, nominal 95%, in the worlds of `validation.rectifier`. What
is not installed is left out, and said.
"""

import argparse
import io
import math
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from scipy import stats
from validation import rectifier
from validation.rectifier import WORLDS, Log, audited, ids_in_draw_order

LABELS = (20, 50, 100, 200)
DRAWS = 4_000


def classical(gold, judge, others):
    """The normal interval of the labels alone."""
    half = stats.norm.ppf(0.975) * gold.std(ddof=1) / math.sqrt(len(gold))
    return gold.mean() - half, gold.mean() + half


def ppi_plus_plus(gold, judge, others):
    """PPI++ with its tuned weight (ppi_py)."""
    from ppi_py import ppi_mean_ci

    low, high = ppi_mean_ci(gold, judge, others, alpha=0.05)
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])


def causal_judge(gold, judge, others):
    """cje-eval: a calibrated judge, with the uncertainty of its calibration."""
    from cje import analyze_dataset

    rows = [
        {"prompt_id": str(at), "judge_score": float(score)}
        | ({"oracle_label": float(gold[at])} if at < len(gold) else {})
        for at, score in enumerate(np.r_[judge, others])
    ]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        found = analyze_dataset(fresh_draws_data={"policy": rows})
    low, high = found.confidence_interval()
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])


def taut_audit(gold, judge, others):
    """`taut.audit`."""
    scores = np.r_[judge, others]
    log = Log(np.r_[gold, np.zeros(len(others))], scores, scores)
    found = audited(log, len(gold), ids_in_draw_order(len(scores)))
    return found.lower, found.upper


METHODS = {
    "taut": taut_audit,
    "PPI++ (ppi_py)": ppi_plus_plus,
    "cje-eval": causal_judge,
    "normal, labels alone": classical,
}


def run(logs: int, seed: int, methods: dict) -> dict:
    """Mean width and misses of every method, world and number of labels."""
    rectifier.DRAWS = DRAWS
    found = {}
    for world in WORLDS:
        rng = np.random.default_rng(seed)
        for _ in range(logs):
            log = world(rng)
            for labels in LABELS:
                for name, method in methods.items():
                    low, high = method(log.gold[:labels], log.judge[:labels], log.judge[labels:])
                    widths, misses = found.setdefault((world.__name__, labels, name), ([], []))
                    widths.append(high - low)
                    misses.append(not low <= 0.5 <= high)
    return found


def page(found: dict, logs: int, methods: dict, missing: list[str]) -> str:
    """Return the table."""
    lines = [
        "# Gold labels beside a judge: other packages",
        "",
        f"Nominal 95%, {logs} logs a world of {DRAWS:,} draws each, the first of them labelled: "
        "mean width, and misses in brackets. Worlds are those of `validation/rectifier.py`. Only "
        "taut's intervals have a guarantee at these numbers of labels. glide-py needs a newer "
        "Python than ours and is not compared.",
        "",
    ]
    lines += [f"Not compared, as not installed: {', '.join(missing)}.", ""] if missing else []
    lines += ["| judge | labels | " + " | ".join(methods) + " |", "|---" * (len(methods) + 2) + "|"]
    for world in WORLDS:
        for labels in LABELS:
            cells = []
            for name in methods:
                widths, misses = found[world.__name__, labels, name]
                cells.append(f"{np.mean(widths):.3f} ({np.mean(misses):.1%})")
            lines.append(f"| {world.__name__} | {labels} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run what is installed, print the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packages", type=Path, help="folder that the other packages lie in")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.packages:
        sys.path.append(str(options.packages))
    methods, missing = dict(METHODS), []
    for name, module in (("PPI++ (ppi_py)", "ppi_py"), ("cje-eval", "cje")):
        try:
            __import__(module)
        except ImportError as error:
            del methods[name]
            missing.append(f"{name} ({error})")
    text = page(run(options.logs, options.seed, methods), options.logs, methods, missing)
    print(text)
    if options.output:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

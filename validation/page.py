"""The page and the table that the validation leaves in the docs."""

import csv
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np


def write(rows: list[dict], audits: int, output: Path) -> None:
    """Write the page and, beside it, a CSV with one line per cell and target."""
    output.parent.mkdir(parents=True, exist_ok=True)
    table = output.with_suffix(".csv")
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    output.write_text(markdown(rows, audits, table.name))


def worst_rows(rows: list[dict]) -> Iterator[dict]:
    """Yield, for each delta x family x knowledge, the row that comes nearest to a violation."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["trials"]:
            name = (row["delta"], row["family"], row["knowledge"])
            groups.setdefault(name, []).append(row)
    for name in sorted(groups):
        yield max(groups[name], key=lambda row: (row["miss_rate_above"], row["miss_rate"]))


def markdown(rows: list[dict], audits: int, csv_name: str) -> str:
    """Return the page: verdict, what was done, widths by sample size, worst cells."""
    checked = [row for row in rows if row["trials"]]
    bad = [row for row in checked if row["verdict"] == "VIOLATED"]
    # A rate over a handful of claims says nothing; those are judged by their limit alone.
    many = [row for row in checked if row["trials"] >= audits / 2]
    highest = max((row["miss_rate"] / row["delta"] for row in many), default=0.0)
    lines = [
        "# Validation: how often certificates miss",
        "",
        f"**{len(checked) - len(bad)} of {len(checked)} guarantees hold**; the highest miss rate "
        f"of those claimed in at least half of the audits is {highest:.2f} δ. Written by "
        f"`make validate` (`validation/miss_rates.py`), {audits} audits a cell, deterministic "
        f"seeds; every cell is in [{csv_name}]({csv_name}).",
        "",
        *_EXPLANATION,
        *(["", "## Violated", "", *_worst_table(bad)] if bad else []),
        "",
        "## Widths by number of prompts",
        "",
        "Medians over families. The clustered normal interval uses all (labelled) draws and has no "
        "finite-sample guarantee; the paper's term is 2Wα on the same draws.",
        "",
        *_width_table(checked),
        "",
        "## Worst cell of each kind",
        "",
        "Over targets and numbers of prompts: the one with the highest limit.",
        "",
        *_worst_table(list(worst_rows(rows))),
        "",
    ]
    return "\n".join(lines)


_EXPLANATION = (
    "Worlds are finite, so every truth is an exact sum (theory §9). A log is drawn, audited end to "
    "end, and each interval that claims a guarantee (`certified` or `conditional`) is held against "
    "the truth; `estimated` and `vacuous` ones are counted, not judged. A guarantee is violated if "
    "the exact binomial lower limit (99.9%) of its miss rate exceeds δ: of guarantees that miss "
    "with probability exactly δ, at most one in a thousand is accused wrongly. An audit that "
    "refuses because its own ends cross has missed, and counts so.",
    "",
    "Known to the auditor: *gold* – labels on half of the prompts and the largest log-ratio; "
    "*gold rows* – labels on half of the rows and E ℓ²; *gold only* – labels, nothing declared; "
    "*proxy* – no labels; *declared* – no labels, but C, L and the largest log-ratio.",
    "",
    "Studies on other pages: [two policies](compare.md), [slices](slices.md), "
    "[best of k](pass-at-k.md), [choosing](selection.md), [layouts of logs](layouts.md), "
    "[labels beside a judge](rectifier.md), [reward data](reward-data.md), [stopping](monitor.md), "
    "[a run in the lab](lab.md).",
)


# What the widths are shown for: knowledge, target, kind of reward.
_SHOWN = (
    ("proxy", "reward", "r-hat"),
    ("proxy", "clipped", "r-hat"),
    ("gold", "reward", "r*"),
    ("gold", "objective", "r*"),
)


def _width_table(rows: list[dict]) -> list[str]:
    out = [
        "| δ | known | target | of | prompts | median width | / clustered normal | "
        "paper's sampling term / ours |",
        "|" + "---|" * 8,
    ]
    deltas, prompts = (sorted({row[name] for row in rows}) for name in ("delta", "prompts"))
    for delta, shown, n in product(deltas, _SHOWN, prompts):
        key = (delta, *shown, n)
        names = ("delta", "knowledge", "target", "of", "prompts")
        some = [row for row in rows if tuple(row[name] for name in names) == key]
        if some:
            values = ("median_width", "width_to_normal", "paper_to_width")
            cells = [*map(str, key), *(_cell_median(some, value) for value in values)]
            out.append("| " + " | ".join(cells) + " |")
    return out


def median(values: list[float]) -> float | None:
    """Return the median of the finite values, None without any."""
    finite = [value for value in values if math.isfinite(value)]
    return round(float(np.median(finite)), 6) if finite else None


def _cell_median(rows: list[dict], name: str) -> str:
    value = median([row[name] for row in rows if row[name] is not None])
    return "–" if value is None else f"{value:.3g}"


def _worst_table(rows: list[dict]) -> list[str]:
    out = [
        "| δ | family | known | target | of | prompts | trials | below / above / refused | "
        "miss rate | surely above | width | / normal | verdict |",
        "|" + "---|" * 13,
    ]
    for r in rows:
        ratio = "–" if r["width_to_normal"] is None else f"{r['width_to_normal']:.2f}"
        out.append(
            f"| {r['delta']} | {r['family']} | {r['knowledge']} | {r['target']} | {r['of']} | "
            f"{r['prompts']} | {r['trials']} | {r['missed_below']} / {r['missed_above']} / "
            f"{r['refused']} | "
            f"{r['miss_rate']:.4f} | {r['miss_rate_above']:.4f} | {r['median_width']:.3g} | "
            f"{ratio} | {r['verdict']} |"
        )
    return out

"""`--labels` end to end: sheets of every way, in part, and labels that nobody drew."""

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taut
from check import assert_misses_at_most, misses_more_than
from taut.draws.assumptions import Standing
from taut.errors import LogError, UsageError
from taut.labels.design import SheetDesign
from taut.labels.sheet import read_sheet
from test_label_cli import answered, log, run  # noqa: F401 - a fixture

TRUTH = 0.55


def audited(path, *options, to):
    """`taut audit` as JSON."""
    run(
        "audit",
        path,
        "--reward-range",
        0,
        1,
        "--target",
        "reward",
        "--quiet",
        "--json",
        to,
        *options,
    )
    return taut.load(to)


def labels_stand(found):
    """How `random-labels` stands, and by what."""
    item = next(item for item in found.assumptions if item.name == "random-labels")
    return item.stands, item.by


WAYS = {"one": (), "whole": ("--whole",), "rows": ("--rows",), "strata": ("--by", "domain")}


@pytest.mark.parametrize("way", WAYS)
def test_three_commands(log, tmp_path, way):  # noqa: F811
    """Draw, label, audit --labels: the certificate holds the truth, the sheet is on record."""
    path, gold = log
    sheet = tmp_path / "sheet.jsonl"
    run("label", "draw", path, "-n", 100, *WAYS[way], "-o", sheet)
    labels = answered(sheet, tmp_path / "labels.jsonl", gold)
    found = audited(path, "--labels", labels, to=tmp_path / "found.json")
    stands, by = labels_stand(found)
    assert stands is Standing.RECORDED
    assert way == "rows" or "sheet of taut, complete" in by
    assert found.lower <= TRUTH <= found.upper and found.upper - found.lower < 0.4
    assert found.terms.reward_shift.route.startswith("gold labels on")

"""A look at all rows of a watched log, before anyone acts on it: as `taut.draws` looks at any log.

An interval that may be looked at at any time counts draws in an order that no outcome decides. That
is looked at here too: draws of one law are exchangeable.
"""

import math
from dataclasses import replace

import numpy as np

from taut.decisions.stopping.foundations import TEXTS, Checked
from taut.decisions.stopping.options import WatchOptions
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.draws.design import Design, design, refuse_clipped_estimate, settled
from taut.draws.findings import Finding, Tested
from taut.draws.labels import LabelKind, labelled_means
from taut.draws.layout import CELL_COLUMNS, Whole
from taut.draws.rollouts import Rollouts
from taut.inequalities.blind_labels import labels_blind_between
from taut.inequalities.multiplicity import Verdict, verdicts

# Of the level at which an honest log is accused, the tests of order take a tenth.
_ORDER_SHARE, _REST_SHARE = 0.1, 0.9


def check_rows(
    rollouts: Rollouts, options: WatchOptions, *, ordered: bool, looks: float = 1.0
) -> dict[str, Checked]:
    """Look at all rows of a log, series by series, as an audit does.

    Args:
        rollouts: The rows, in the order in which they were counted.
        options: What was declared.
        ordered: Nothing hangs on the order of rows: they carry `launch`.
        looks: What the levels of all tests are divided by, as there are several looks.

    Returns:
        What was found of each series.

    Raises:
        AssumptionError: Gold outside its range, or more than a fifth of the rewards that are the
            estimate outside theirs.
    """
    if options.one_policy:
        laws = dict.fromkeys(name for name in CELL_COLUMNS if name != options.by)
        rollouts = replace(rollouts, **laws)
    if not options.gold:
        rollouts = replace(rollouts, gold=None, label_probability=None)
    whole = settled(rollouts)
    whole = replace(whole, tests=tuple(_at_look(test, looks) for test in whole.tests))
    parts = _parts(whole.rollouts, options.by)
    shares = len(parts) * looks / _REST_SHARE
    designs = {
        name: design(rows, options.declared, whole=whole, logs=shares)
        for name, rows in parts.items()
    }
    if not options.gold:
        for found in designs.values():
            refuse_clipped_estimate(found)
    orders = {
        name: _order_finding(found, len(parts) * looks / _ORDER_SHARE)
        for name, found in designs.items()
        if not (ordered or options.average)
    }
    return {
        name: _checked(found, options, whole, orders.get(name)) for name, found in designs.items()
    }


def _at_look(test: Tested, looks: float) -> Tested:
    return replace(
        test, p_doubt=min(1.0, looks * test.p_doubt), p_sure=min(1.0, looks * test.p_sure)
    )


def _parts(rollouts: Rollouts, by: str | None) -> dict[str, Rollouts]:
    if by is None:
        return {"all": rollouts}
    values = getattr(rollouts, by)
    names = getattr(rollouts, f"{by}_names", None)
    return {
        str(value) if names is None else names[value]: rollouts.take(values == value)
        for value in np.unique(values).tolist()
    }


def _order_finding(found: Design, times: float) -> Finding:
    """Test that rewards have nothing to do with the place of their draw in the log.

    Draws of one law are exchangeable: given their scores, every half of them is equally likely to
    have come first (an exact test; theory §2).
    """
    layout, rollouts = found.layout, found.rollouts
    blocks = layout.blocks
    if not layout.one_law or len(blocks) < 2:
        return Finding(Verdict.NOTHING_FOUND, "no order to test")
    first = np.minimum.reduceat(blocks.rows, blocks.starts[:-1])
    scores = [blocks.means(rollouts.reward)]
    if found.labels is not None:
        scores.append(labelled_means(rollouts.gold, rollouts.gold, blocks))
    known = [~np.isnan(score) for score in scores]
    tests = [
        labels_blind_between(score[rows], _early(first[rows]), np.zeros(rows.sum(), dtype=np.int64))
        for score, rows in zip(scores, known, strict=True)
    ]
    said = verdicts([min(1.0, times * test.p_value) for test in tests])
    worst = min(range(len(tests)), key=lambda place: tests[place].p_value)
    text = (
        "rewards go with the place of their prompt in the log, as where rows are written as "
        f"responses finish (p = {tests[worst].p_value:.1g})"
    )
    return Finding(said[worst], text)


def _early(place: np.ndarray) -> np.ndarray:
    """Return which draws lie in the first half of those given."""
    return np.argsort(np.argsort(place)) < len(place) // 2


def _checked(found: Design, options: WatchOptions, whole: Whole, order: Finding | None) -> Checked:
    named = dict(found.assumptions)
    named.pop(about.ONE_LAW, None)
    if options.average and not whole.recurs:
        # The bound holds whatever policies learned from earlier prompts: those of theirs are new.
        named.pop(about.HELD_OUT, None)
    if found.labels is not None and found.labels.kind is LabelKind.CHANCES:
        by = "rows had unequal chances of a label, which a watch does not weight: audit the log"
        named[about.RANDOM_LABELS] = _against(about.RANDOM_LABELS, Standing.VIOLATED, by)
    if order is not None and order.speaks:
        named[about.ORDER] = _against(about.ORDER, order.standing, order.detail)
    return Checked(
        assumptions=tuple(named.values()),
        health=found.checks,
        cells=found.layout.cell_count,
        prompts=found.layout.prompts,
        labels=str(LabelKind.NONE if found.labels is None else found.labels.kind),
    )


def _against(name: str, stands: Standing, by: str) -> Assumption:
    return Assumption(name=name, text=TEXTS[name], stands=stands, by=by)


def share_of_look(number: int, *, several: bool) -> float:
    """Return what levels are divided by at a look, so that all looks together keep them.

    The j-th of several gets 6 / (pi^2 j^2) of each level; a single one all of it.
    """
    return (math.pi * number) ** 2 / 6 if several else 1.0

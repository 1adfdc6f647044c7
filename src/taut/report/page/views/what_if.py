"""What other counts of labels and prompts, and another δ, would give: a table made beforehand."""

import math
from itertools import product

from taut.decisions.budget.what_if import WhatIf
from taut.report.digits import decimals_for, near, percent, short
from taut.report.page.blocks import Choices, Section, Text


def what_if_section(found: WhatIf) -> Section:
    """Return the forecasts, one shown at a time."""
    digits = decimals_for(found.measured, steps=50)
    now = float(found.widths[found.now])
    results = {}
    for key in product(*map(range, found.widths.shape)):
        width = float(found.widths[key])
        if math.isnan(width):
            results[key] = ("more labels than prompts", "–")
        else:
            results[key] = (near(width, digits), percent(width / now) if now else "–")
    axes = {
        "gold labels on": [f"{count:,} prompts" for count in found.labels],
        "of": [f"{count:,} prompts" for count in found.prompts],
        "δ": [short(delta) for delta in found.deltas],
    }
    order = (1, 0, 2)
    chosen = [found.now[axis] for axis in order]
    turned = {tuple(key[axis] for axis in order): value for key, value in results.items()}
    told = (
        "Forecasts for a log like this one, with as many rollouts a prompt: made beforehand, and "
        f"no guarantee (§8.5). The certificate at hand is {near(found.measured, digits)} wide, the "
        f"forecast for it {near(now, digits)}."
    )
    titles = ("width of the interval, reward units", "of the forecast for this log")
    return Section(
        "what-if", "What if", [Choices(axes, chosen, turned, titles), Text(told, "quiet")]
    )

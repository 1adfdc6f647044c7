"""What the next money buys, resource by resource: changes of the forecast width."""

import math
from collections.abc import Iterator

from taut.decisions.budget.planner import Planner
from taut.decisions.budget.result import Marginal, Priced

_LABELS, _ROLLOUTS = "gold labels", "rollouts per prompt"


def marginal_values(planner: Planner, chosen: Priced, step: float) -> tuple[Marginal, ...]:
    """Return what `step` of money more buys in each resource, best first; then a new plan.

    Args:
        planner: What found the plan.
        chosen: The plan.
        step: Money.
    """
    of_route = _for_gold if chosen.route == "gold" else _for_learned
    rows = [*of_route(planner, chosen, step)]
    if not planner.identified:
        rows.append(_nothing(_ROLLOUTS, "not seen: the pilot has one rollout a prompt"))
    rows.sort(key=lambda row: row.change)
    anew = planner.best(chosen.budget + step)
    change = min(0.0, anew.width - chosen.width) if anew else 0.0
    return (*rows, Marginal(resource="a new plan", amount=None, change=change))


def _nothing(resource: str, why: str) -> Marginal:
    return Marginal(resource=resource, amount=0.0, change=0.0, note=why)


def _row(
    planner: Planner, chosen: Priced, resource: str, amount: float, width, left: float = math.inf
) -> Marginal:
    """One resource: how much of it, and the unit width that the plan then has."""
    unit = planner.pilot.width
    return Marginal(
        resource=resource,
        amount=amount,
        change=min(0.0, float(width) - chosen.width / unit) * unit,
        note="" if amount < left else f"no more than {left:.0f} are left to label",
    )


def _for_gold(planner: Planner, chosen: Priced, step: float) -> Iterator[Marginal]:
    costs = planner.costs
    n, k, p = float(chosen.prompts), float(chosen.rollouts), float(chosen.labelled)
    each = chosen.labels / chosen.labelled

    def width(n: float, k: float, p: float, each: float):
        return planner.forecast.gold([n], [k], [p], [each])[0, 0]

    if costs.label == 0:
        yield _nothing(_LABELS, "labels cost nothing here")
    elif p < n:
        bought = min(step / costs.label, n - p)
        yield _row(planner, chosen, _LABELS, bought, width(n, k, p + bought, each), n - p)
    elif planner.several and each < k:
        left = n * (k - each)
        bought = min(step / costs.label, left)
        yield _row(planner, chosen, _LABELS, bought, width(n, k, p, each + bought / n), left)
    else:
        why = "every rollout is labelled" if each >= k else "one label a prompt, all there"
        yield _nothing(_LABELS, why)
    more = step / costs.draw(k)
    yield _row(planner, chosen, "prompts", more, width(n + more, k, p, each))
    both = step / (costs.draw(k) + each * costs.label)
    yield _row(planner, chosen, "labelled prompts", both, width(n + both, k, p + both, each))
    if planner.identified:
        rise = step / (n * costs.decode)
        yield _row(planner, chosen, _ROLLOUTS, rise, width(n, k + rise, p, each))


def _for_learned(planner: Planner, chosen: Priced, step: float) -> Iterator[Marginal]:
    costs, declared = planner.costs, chosen.route == "declared"
    n, k = float(chosen.prompts), float(chosen.rollouts)
    shift = planner.shift(chosen.pairs) if declared else 0.0

    def width(n: float, k: float, shift):
        return planner.forecast.learned([n], [k], shift)[0, 0]

    more = step / costs.draw(k)
    yield _row(planner, chosen, "prompts", more, width(n + more, k, shift))
    if planner.identified:
        rise = step / (n * costs.decode)
        yield _row(planner, chosen, _ROLLOUTS, rise, width(n, k + rise, shift))
    if declared and planner.curve is not None and costs.pair_price:
        bought = step / costs.pair_price
        moved = planner.shift(chosen.pairs + bought)
        yield _row(planner, chosen, "preference pairs", bought, width(n, k, moved))

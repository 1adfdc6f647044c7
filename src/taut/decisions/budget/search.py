"""The best plan in integers, exactly: no plan that the budget allows has a narrower forecast.

What makes it fast is monotony. At a given K the forecast falls in the number of prompts n and in
the number of labels g (or of pairs m). So a box [g, g'] of label counts has width at least that of
(n(g), g'), where n(g) is what the budget leaves for prompts: a bound that lets whole boxes be
dropped. The rest is cut until single counts are left. Tests hold all this against brute force.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from taut.decisions.budget.costs import Costs
from taut.decisions.budget.forecast import Forecast

_PARTS = 6  # pieces that a box is cut into


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A plan in integers. The order prefers narrow, then cheap, then few rollouts a prompt.

    Attributes:
        width: Forecast, unit scale.
        cost: In the unit of the costs.
        rollouts: K, per prompt.
        prompts: n.
        pairs: m, those at hand included.
        labelled: Prompts with gold labels.
        each: Rows labelled in each of those; g = labelled * each.
    """

    width: float
    cost: float
    rollouts: int
    prompts: int
    pairs: int = 0
    labelled: int = 0
    each: int = 1

    @property
    def labels(self) -> int:
        """Gold labels, g."""
        return self.labelled * self.each


class Best:
    """The best of all candidates seen so far; what is wider than `limit` need not be found."""

    def __init__(self, limit: float = math.inf):
        self.found: Found | None = None
        self.limit = limit

    @property
    def width(self) -> float:
        """Width that a box must beat."""
        return self.limit if self.found is None else min(self.limit, self.found.width)

    def offer(self, width, cost, rollouts, prompts, pairs=0, labelled=0, each=1) -> None:
        """Look at candidates, arrays of one shape."""
        if np.size(width) == 0:
            return
        columns = np.broadcast_arrays(width, cost, rollouts, prompts, pairs, labelled, each)
        at = np.lexsort(columns[2::-1])[0]
        values = [column[at].item() for column in columns]
        found = Found(*values[:2], *map(int, values[2:]))
        if self.found is None or found < self.found:
            self.found = found


def best_learned(forecast: Forecast, costs: Costs, budget: float, rollouts: np.ndarray):
    """Best plan with prompts and rollouts only; None where the budget buys no prompt."""
    prompts = costs.affordable(budget, rollouts)
    rollouts, prompts = rollouts[prompts >= 1], prompts[prompts >= 1]
    best = Best()
    if len(prompts):
        width = forecast.learned(prompts, rollouts)[0]
        best.offer(width, prompts * costs.draw(rollouts), rollouts, prompts)
    return best.found


def best_declared(
    forecast: Forecast,
    costs: Costs,
    budget: float,
    rollouts: np.ndarray,
    *,
    shift: Callable[[np.ndarray], np.ndarray],
    at_hand: int,
    price: float | None,
    limit: float = math.inf,
):
    """Best plan with preference pairs under a declared C: the term C sqrt(L(m)) at both ends.

    Args:
        forecast, costs, budget, rollouts: As elsewhere; rollouts are the K to look at.
        shift: C sqrt(L(m)) for arrays of m, unit scale, falling in m.
        at_hand: Pairs that are paid for already.
        price: Of one more pair; None where none can be bought.
        limit: Plans wider than this need not be found.
    """
    best = Best(limit)

    def spent(m):
        return (m - at_hand) * (price or 0.0)

    def width(k, n, m):
        return forecast.learned(n, k, shift(m))[0]

    def offer(k, m):
        n = costs.affordable(budget - spent(m), k)
        fits = n >= 1
        k, m, n = k[fits], m[fits], n[fits]
        if len(n):
            best.offer(width(k, n, m), n * costs.draw(k) + spent(m), k, n, pairs=m)

    rollouts = rollouts[costs.affordable(budget, rollouts) >= 1]
    # With pairs for nothing there is no largest number of them: take no more than are at hand.
    most = np.zeros(len(rollouts))
    if price:
        most = np.floor((budget - costs.draw(rollouts)) / price + 1e-6)
    _halve(
        rollouts,
        at_hand + 0.0 * rollouts,
        at_hand + np.maximum(most, 0),
        best,
        offer,
        lambda k, low, high: width(k, costs.affordable(budget - spent(low), k), high),
    )
    return best.found


def best_gold(
    forecast: Forecast,
    costs: Costs,
    budget: float,
    rollouts: np.ndarray,
    *,
    several: bool,
    limit: float = math.inf,
):
    """Best plan with gold labels on some of the prompts; None where not one can be bought.

    One row a prompt is labelled while there are prompts without a label: labels of other prompts
    say more than labels of the same. Beyond that every prompt has the same number of them.

    Args:
        forecast, costs, budget, rollouts: As elsewhere.
        several: Whether the pilot says what a second label of a prompt is worth.
        limit: Plans wider than this need not be found.
    """
    price = costs.label
    best = Best(limit)

    def offer(k, n, p, each):
        fits = (n >= 1) & (p >= 1) & (p <= n) & (each <= k)
        cost = n * costs.draw(k) + p * each * price
        fits &= cost <= budget * (1 + 1e-9) + 1e-6 * costs.draw(k)
        k, n, p, each, cost = (x[fits] for x in np.broadcast_arrays(k, n, p, each, cost))
        if len(k):
            width = forecast.gold(n, k, p, each)[0]
            best.offer(width, cost, k, n, labelled=p, each=each)

    rollouts = rollouts[costs.affordable(budget, rollouts) >= 1].astype(np.float64)
    if len(rollouts) == 0:
        return None
    # The least of all, for budgets that buy nothing better than it.
    one = np.ones(1)
    offer(rollouts[:1], one, one, one)
    _offer_all(costs, budget, rollouts, offer, several)
    _offer_boxes(forecast, costs, budget, rollouts, offer, best)
    return best.found


def _offer_all(costs, budget, rollouts, offer, several: bool) -> None:
    """Every prompt labelled, one row or more of each."""
    k, each = np.meshgrid(
        rollouts, np.arange(1.0, rollouts.max() + 1 if several else 2.0), indexing="ij"
    )
    k, each = k[each <= k], each[each <= k]
    n = np.floor(np.maximum(budget, 0) / (costs.draw(k) + each * costs.label) + 1e-6)
    offer(k, n, n, each)


def _offer_boxes(forecast, costs, budget, rollouts, offer, best: Best) -> None:
    """One label a prompt: boxes of counts, dropped where they cannot be best."""
    price, draw = costs.label, costs.draw(rollouts)
    most = np.floor(budget / (draw + price) + 1e-6)  # labels and prompts alike
    _halve(
        rollouts,
        np.ones_like(most),
        most,
        best,
        lambda k, g: offer(k, costs.affordable(budget - g * price, k), g, np.ones_like(k)),
        lambda k, a, b: forecast.gold(costs.affordable(budget - a * price, k), k, b)[0],
    )


def _halve(rollouts, low, high, best: Best, offer, least) -> None:
    """Look through boxes [low, high] of one count for each K, both ends included.

    Args:
        rollouts, low, high: One box for each K; empty where low > high.
        best: What has been found so far.
        offer: Looks at single counts: offer(k, counts).
        least: Width that nothing in a box falls below: least(k, low, high).
    """
    there = low <= high
    k, low, high = rollouts[there].astype(float), low[there], high[there]
    if len(k) == 0:
        return
    offer(np.r_[k, k], np.r_[low, high])
    while len(k):
        keep = high - low > 1
        k, low, high = k[keep], low[keep], high[keep]
        if len(k) == 0:
            return
        keep = least(k, low, high) < best.width
        k, low, high = k[keep], low[keep], high[keep]
        # The first cuts follow the logarithm, as the optimum may lie anywhere on that scale.
        steps = np.arange(1, _PARTS) / _PARTS
        wide = (high > 4 * np.maximum(low, 1))[:, None]
        start, stop = np.maximum(low, 1)[:, None], high[:, None]
        inner = np.where(wide, start * (stop / start) ** steps, start + (stop - start) * steps)
        inner = np.clip(np.rint(inner), low[:, None], high[:, None])
        offer(np.repeat(k, _PARTS - 1), inner.ravel())
        edges = np.hstack([low[:, None], inner, high[:, None]])
        k = np.repeat(k, _PARTS)
        low, high = edges[:, :-1].ravel(), edges[:, 1:].ravel()

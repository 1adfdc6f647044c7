"""The paper's own rules for a budget: how many rollouts a prompt, how to split the money.

They minimise the paper's bound with counts taken as continuous; floor and ceiling of the optimum
are then compared by the same objective (theory §8.1 to §8.4).
"""

import math
from collections.abc import Callable

from scipy.optimize import minimize_scalar

from taut.decisions.budget.components import Components
from taut.decisions.budget.costs import Costs
from taut.decisions.budget.learning_curve import LearningCurve


def paper_rollouts(costs: Costs, *, most: int) -> int:
    """K* = max(1, (c_p / c_d)^(2/3)), as an integer; 1 where prompts cost nothing of their own.

    Minimises (1 + 1 / sqrt K) sqrt(c_p + K c_d), to which the paper's sampling term at a given
    budget is proportional.

    Source: theory §8.1, §8.2.
    """
    best = max(1.0, (costs.prefill / costs.decode) ** (2 / 3))
    return _integer(best, lambda k: (1 + 1 / math.sqrt(k)) ** 2 * costs.draw(k), most)


def variance_rollouts(costs: Costs, components: Components, *, most: int) -> int | None:
    """K* = max(1, sqrt(c_p / c_d * sigma_r^2 / sigma_p^2)), as an integer.

    Minimises (sigma_p^2 + sigma_r^2 / K)(c_p + K c_d), the variance of the mean at a given budget.

    Args:
        costs: Prices.
        components: Of r - beta l^tau.
        most: Largest K; taken where prompts do not differ at all and cost something.

    Returns:
        None where the components are not identified: the log has one rollout a prompt.

    Source: theory §8.3.
    """
    if not components.identified:
        return None
    if costs.prefill == 0 or components.rollout == 0:
        return 1
    if components.prompt == 0:
        return most
    ratio = components.rollout / components.prompt
    best = max(1.0, math.sqrt(costs.prefill / costs.decode * ratio))
    return _integer(best, lambda k: components.of_mean(k) * costs.draw(k), most)


def _integer(best: float, objective: Callable[[int], float], most: int) -> int:
    """Floor or ceiling of the continuous optimum, whichever is better; the smaller on ties."""
    low = min(max(1, math.floor(best)), most)
    high = min(max(1, math.ceil(best)), most)
    return low if objective(low) <= objective(high) else high


def sampling_constant(costs: Costs, rollouts: int, *, width: float, delta: float) -> float:
    """A' = W sqrt(ln(4/delta)/2) (1 + 1/sqrt K) sqrt(c_p + K c_d).

    The paper's sampling term is A' / sqrt(money spent on rollouts).

    Source: theory §8.4, §2.1.
    """
    spread = width * math.sqrt(math.log(4 / delta) / 2)
    return spread * (1 + 1 / math.sqrt(rollouts)) * math.sqrt(costs.draw(rollouts))


def split_money(
    budget: float, *, sampling: float, coverage: float, curve: LearningCurve, price: float
) -> float:
    """Money for rollouts where the rest buys preference pairs: minimises the paper's bound.

    A'/sqrt(x) + C sqrt(L((budget - x) / price)). In closed form for gamma = 1 and L_inf = 0, where
    rollouts : pairs = (A'/C')^(2/3) with C' = C sqrt(a price); else by a search in one dimension.
    The bound is convex in x for every curve of this form: with h = L_inf + a y^-gamma,
    2 h h'' - h'^2 >= a^2 gamma (gamma + 2) y^(-2 gamma - 2) > 0, so that sqrt(h) is convex.

    Args:
        budget: Money for both, above 0.
        sampling: A' of `sampling_constant`.
        coverage: C, declared.
        curve: L(m), unit scale.
        price: Of one pair, above 0.

    Source: theory §8.4.
    """
    if curve.scale == 0:
        return budget  # no number of pairs helps
    if curve.rate == 1.0 and curve.floor == 0.0:
        ratio = (sampling / (coverage * math.sqrt(curve.scale * price))) ** (2 / 3)
        return budget * ratio / (1 + ratio)

    def bound(logit: float) -> float:
        # In the log-odds of the split, so that both ends are resolved alike.
        share = 1 / (1 + math.exp(-logit))
        pairs = budget * (1 / (1 + math.exp(logit))) / price
        mse = curve.floor + curve.scale * pairs**-curve.rate
        return sampling / math.sqrt(budget * share) + coverage * math.sqrt(mse)

    found = minimize_scalar(bound, bounds=(-40.0, 40.0), method="bounded", options={"xatol": 1e-10})
    return budget / (1 + math.exp(-float(found.x)))

"""The search for a plan: the narrowest for some money, and the cheapest for some width."""

import math
from dataclasses import dataclass

import numpy as np

from taut.decisions.budget.components import variance_components
from taut.decisions.budget.costs import Costs
from taut.decisions.budget.forecast import Forecast, with_unseen
from taut.decisions.budget.learning_curve import LearningCurve
from taut.decisions.budget.pilot import Clip, Pilot
from taut.decisions.budget.result import Priced
from taut.decisions.budget.search import Found, best_declared, best_gold, best_learned
from taut.errors import UsageError

ROUTES = ("gold", "declared", "learned")
MOST_ROLLOUTS = 32
# Luck of the draw order (theory §2.4) and what the forecast itself is off by, as a relative
# standard deviation: measured in docs/budget.md.
LUCK = 0.07
BAR_LEVEL = 0.9
_RESAMPLES = 200
_Z = 1.6449  # 95% quantile of the normal law
# A budget that no width asks for: beyond this multiple of the first guess nothing narrows.
_FARTHEST = 1e12
_MOST_PROMPTS = 2.0**53  # whole numbers are exact up to here


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        chosen: The plan.
        asked_width: The width that was asked for, reward units; None if none was.
        for_width: The cheapest plan of that width; None if none was asked or no budget buys it.
        never_below: The width that no budget goes below, where that is why; reward units.
    """

    chosen: Priced
    asked_width: float | None
    for_width: Priced | None
    never_below: float | None


class Planner:
    """One pilot, one price list; finds plans for any budget.

    `find` answers what was asked, with the thresholds in `clip`; `bar` says how sure a width is.
    """

    def __init__(self, pilot: Pilot, costs: Costs, curve, at_hand: int, most_rollouts: int):
        self.pilot, self.costs, self.at_hand = pilot, costs, at_hand
        self.curve: LearningCurve | None = curve
        self.unit_curve = None if curve is None else curve.rescaled(1 / pilot.width**2)
        self.replicated = int((pilot.blocks.sizes >= 2).sum())
        self.identified = variance_components(pilot.data.reward, pilot.blocks).identified
        # With one rollout a prompt the spread within a prompt is not seen: K stays at 1.
        self.rollouts = np.arange(1.0, most_rollouts + 1 if self.identified else 2.0)
        self.routes = self._routes()
        self.clip: Clip | None = None
        self.forecast: Forecast | None = None

    def _routes(self) -> tuple[str, ...]:
        options = self.pilot.options
        found = []
        if self.costs.label is not None:
            found.append("gold")
        if options.coverage is not None and (self.curve or options.reward_mse is not None):
            found.append("declared")
        return tuple(found) or ("learned",)

    # --- finding plans ----------------------------------------------------------------------------

    def find(self, budget: float | None, width: float | None) -> Answer:
        """Return the narrowest plan of a budget, and the cheapest of a width.

        Args:
            budget: Money; None takes what the width costs.
            width: Reward units; None asks for none.

        Raises:
            UsageError: No budget buys the width, or the budget buys not one prompt.
        """
        asked = None if width is None else width / self.pilot.width
        if budget is None:
            budget, found, floor = self._budget_for(asked)
            if found is None:
                raise UsageError(
                    f"no budget buys a width of {width:g}: the forecast does not fall below "
                    f"{floor * self.pilot.width:.4g}. What is left is the clipping tail or the "
                    "declared shift; see docs/budget.md."
                )
            priced = found
        else:
            if budget / self.costs.draw(1) > _MOST_PROMPTS:
                raise UsageError(
                    f"a budget of {budget:g} {self.costs.unit} buys more prompts than can be "
                    f"counted, at {self.costs.draw(1):g} each; are both in one unit?"
                )
            self.fix_clip(budget)
            priced = self.best(budget)
            if priced is None:
                raise UsageError(
                    f"a budget of {budget:g} {self.costs.unit} buys not one prompt with what it "
                    f"needs: a prompt with a rollout costs {self.costs.draw(1):g}"
                    + ("" if self.costs.label is None else f", a label {self.costs.label:g}")
                    + "."
                )
            found = floor = None
            if asked is not None:
                kept = self.clip, self.forecast
                _, found, floor = self._budget_for(asked)
                self.clip, self.forecast = kept
        return Answer(priced, width, found, None if floor is None else floor * self.pilot.width)

    def fix_clip(self, budget: float) -> None:
        """Choose the thresholds by the best of some plans at this budget (theory §7.2)."""
        draws = float(self.costs.affordable(budget, 1))
        clips = self.pilot.clips(max(draws, 1.0))
        forecasts = [self.pilot.forecast(clip) for clip in clips]
        at = 0
        if len(clips) > 1:
            at = min(range(len(clips)), key=lambda index: self._roughly(forecasts[index], budget))
        self.clip, self.forecast = clips[at], forecasts[at]

    def _roughly(self, forecast: Forecast, budget: float) -> float:
        """Width of the best among some plans that the budget allows."""
        k, share = np.meshgrid(self.rollouts[:8], np.linspace(0.02, 0.98, 25))
        k, share = k.ravel(), share.ravel()
        best = math.inf
        for route in self.routes:
            if route == "gold":
                price = max(self.costs.label, 1e-300)
                n = self.costs.affordable(budget * share, k)
                p = np.minimum(n, np.floor(budget * (1 - share) / price))
                fits = p >= 1
                if fits.any():
                    width = forecast.gold(n[fits], k[fits], p[fits])
                    best = min(best, float(width.min()))
                continue
            n = self.costs.affordable(budget, self.rollouts)
            fits = n >= 1
            if fits.any():
                best = min(best, float(forecast.learned(n[fits], self.rollouts[fits]).min()))
        return best

    def best(
        self, budget: float, rollouts: np.ndarray | None = None, limit: float = math.inf
    ) -> Priced | None:
        """Return the narrowest plan that a budget allows, over the routes that are open.

        Args:
            budget: Money.
            rollouts: K to look at; all if absent.
            limit: A plan wider than this, unit scale, need not be found.
        """
        rollouts = self.rollouts if rollouts is None else rollouts
        found = {}
        for route in self.routes:
            if route == "gold":
                item = best_gold(
                    self.forecast,
                    self.costs,
                    budget,
                    rollouts,
                    several=self.several,
                    limit=limit,
                )
            elif route == "declared":
                item = best_declared(
                    self.forecast,
                    self.costs,
                    budget,
                    rollouts,
                    shift=self.shift,
                    at_hand=self.at_hand,
                    price=None if self.curve is None else self.costs.pair_price,
                    limit=limit,
                )
            else:
                item = best_learned(self.forecast, self.costs, budget, rollouts)
            if item is not None:
                found[route] = item
        if not found:
            return None
        route = min(found, key=lambda name: found[name])
        return self._priced(budget, found[route], route)

    def _priced(self, budget: float, item: Found, route: str) -> Priced:
        return Priced(
            budget=budget,
            cost=item.cost,
            width=item.width * self.pilot.width,
            prompts=item.prompts,
            rollouts=item.rollouts,
            pairs=item.pairs if route == "declared" else self.at_hand,
            labels=item.labels,
            labelled=item.labelled,
            route=route,
        )

    @property
    def several(self) -> bool:
        """Whether the pilot shows what more than one label a prompt would add."""
        gold = self.forecast.moments.gold
        return self.identified and gold is not None and gold.split

    def shift(self, pairs):
        """C sqrt(L) for some numbers of pairs, unit scale."""
        options = self.pilot.options
        if self.unit_curve is None:
            mse = options.reward_mse / self.pilot.width**2 + 0.0 * np.asarray(pairs, float)
        else:
            mse = self.unit_curve(pairs)
        return np.minimum(options.coverage * np.sqrt(mse), 1.0)

    def width_of(self, forecast: Forecast, item: Priced, *, shift=None) -> np.ndarray:
        """Unit widths of one plan, one for each set of the forecast's moments."""
        if item.route == "gold":
            each = item.labels / item.labelled
            return forecast.gold([item.prompts], [item.rollouts], [item.labelled], [each])[:, 0]
        moved = 0.0
        if item.route == "declared":
            moved = self.shift(item.pairs) if shift is None else shift
        return forecast.learned([item.prompts], [item.rollouts], moved)[:, 0]

    # --- what a width costs -----------------------------------------------------------------------

    def _budget_for(self, asked: float):
        """Return budget, cheapest plan and floor; thresholds are chosen at the budget found."""
        guess = float(self.costs.draw(1) + (self.costs.label or 0.0)) * len(self.pilot.blocks)
        self.fix_clip(guess)
        found, floor = self._cheapest(asked, guess)
        budget = guess
        # What thresholds hide may itself be too wide: those that suit more money hide less.
        while found is None and self._clips_vary and budget < _FARTHEST * guess:
            budget *= 64
            self.fix_clip(budget)
            found, least = self._cheapest(asked, budget)
            floor = least if floor is None or least is None else min(floor, least)
        if found is None:
            return guess, None, floor
        kept = self.clip, self.forecast
        self.fix_clip(found.cost)
        again, _ = self._cheapest(asked, found.cost)
        if again is None or again.cost > found.cost:
            self.clip, self.forecast = kept
        else:
            found = again
        return found.cost, found, None

    @property
    def _clips_vary(self) -> bool:
        """Whether thresholds depend on the budget."""
        options = self.pilot.options
        return self.pilot.has_cost and options.tau == "auto"

    def _cheapest(self, asked: float, guess: float) -> tuple[Priced | None, float | None]:
        """Return the cheapest plan of a width, to a millionth; else the width never undercut.

        The narrowest width that a budget buys falls in the budget, so the search is for a root.
        """
        goal = asked * self.pilot.width

        def reaches(budget: float):
            item = self.best(budget, limit=asked * (1 + 1e-9))
            return item if item is not None and item.width <= goal else None

        low, high, item = 0.0, guess, reaches(guess)
        if item is None and reaches(_FARTHEST * guess) is None:
            floor = self.best(_FARTHEST * guess)
            return None, None if floor is None else floor.width / self.pilot.width
        while item is None:
            low, high = high, 4 * high
            item = reaches(high)
        high = item.cost
        while high - low > 1e-6 * high:
            # In logarithms while the bracket is wide.
            middle = math.sqrt(low * high) if low > 0 and high > 1.5 * low else (low + high) / 2
            trial = reaches(middle)
            if trial is None:
                low = middle
            else:
                item, high = trial, min(trial.cost, middle)
        return item.model_copy(update={"budget": item.cost}), None

    # --- how sure it is ---------------------------------------------------------------------------

    def bar(self, priced: Priced) -> tuple[float, float]:
        """90% error bar: bootstrap over prompts, what no prompt showed, the new log's own luck."""
        draws = len(self.pilot.blocks)
        rng = np.random.default_rng([self.pilot.options.seed, 2])
        counts = rng.multinomial(draws, np.full(draws, 1 / draws), size=_RESAMPLES)
        shift = None
        if priced.route == "declared":
            shift = np.full(_RESAMPLES, float(self.shift(priced.pairs)))
            if self.unit_curve is not None and len(self.unit_curve.samples):
                mse = rng.permutation(self.unit_curve.resampled(priced.pairs))
                bent = self.pilot.options.coverage * np.sqrt(mse)
                shift = np.minimum(np.resize(bent, _RESAMPLES), 1.0)
            shift = shift[:, None]
        # One prompt's worth of what was not seen, with Jeffreys' weight of a half (theory §3.7's
        # lesson: what a sample misses, a plug-in misses too).
        moments = with_unseen(
            self.pilot.moments(self.clip, counts.astype(np.float64)),
            rng.gamma(0.5, size=_RESAMPLES),
        )
        forecast = Forecast(moments, self.pilot.setting(self.clip))
        widths = np.maximum(self.width_of(forecast, priced, shift=shift), 1e-300)
        middle = priced.width / self.pilot.width
        # The new log's own spread varies as the pilot's does, with its own number of blocks.
        blocks = (self.pilot.labelled, priced.labelled) if priced.route == "gold" else None
        ours, theirs = blocks or (draws, priced.prompts)
        inflate = 1 + (ours or draws) / max(theirs, 1)
        ends = []
        for quantile, sign in ((0.05, -1), (0.95, 1)):
            off = math.log(float(np.quantile(widths, quantile)) / middle)
            off = max(sign * off, 0.0)
            spread = math.hypot(off * math.sqrt(inflate), _Z * LUCK)
            ends.append(priced.width * math.exp(sign * spread))
        # No interval is wider than what is true without data.
        floor, ceiling = self.forecast.setting.trivial
        return ends[0], max(priced.width, min(ends[1], (ceiling - floor) * self.pilot.width))

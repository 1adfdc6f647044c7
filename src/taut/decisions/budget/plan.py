"""How to spend a budget: prompts, rollouts a prompt, preference pairs, gold labels (theory §8).

Everything here is a forecast from a pilot log. No guarantee rests on it: the audit of the log that
is then made is valid whatever was forecast.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.options import Options, Prompts, Range, Target, Threshold, options_of
from taut.decisions.budget.basis import Basis, basis
from taut.decisions.budget.components import Components, variance_components
from taut.decisions.budget.costs import Costs, measured_costs
from taut.decisions.budget.forecast import Forecast, with_unseen
from taut.decisions.budget.learning_curve import LearningCurve, read_learning_curve
from taut.decisions.budget.pilot import Clip, Pilot
from taut.decisions.budget.search import Found, best_declared, best_gold, best_learned
from taut.decisions.stopping import rules
from taut.draws.labels import label_counts, labelled_rows
from taut.draws.rollouts import Blocks
from taut.engines.tables import Data, as_rollouts
from taut.errors import UsageError
from taut.inequalities.concentration import paper_alpha
from taut.types import Status

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
class Priced:
    """A plan in integers and its forecast width.

    Attributes:
        budget: What it was made for.
        cost: What it costs.
        width: Forecast width of the certificate, reward units.
        prompts, rollouts, pairs, labels: n, K, m and g; `pairs` counts those at hand too.
        labelled: Prompts that get labels; `labels` / `labelled` rows of each.
        route: "gold", "declared" (C and L) or "learned" (says nothing of the true reward).
    """

    budget: float
    cost: float
    width: float
    prompts: int
    rollouts: int
    pairs: int
    labels: int
    labelled: int
    route: str


@dataclass(frozen=True, slots=True)
class Marginal:
    """What the next money buys in one resource.

    Attributes:
        resource: "gold labels", "prompts", "labelled prompts", "rollouts per prompt",
            "preference pairs", or "a new plan" (all counts chosen anew).
        amount: How many of it the step buys; rates of change may be fractions. None for a new plan.
        change: Of the forecast width, reward units; below 0 is narrower.
        note: Why nothing can be bought, if so; `change` is then 0.
    """

    resource: str
    amount: float | None
    change: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperPlan:
    """What the paper's own rules say, and its own bound (theory §8.2 to §8.4, §2.1, §3.1).

    Attributes:
        rollouts: K* = (c_p / c_d)^(2/3).
        rollouts_by_variance: K* by the variance components; None where they are not identified.
        prompts, pairs: Bought at the first K*, with the split of theory §8.4.
        rollout_share: Share of the budget for rollouts; 1 where no pairs are bought.
        closed_form: The split is the closed form (gamma = 1, L_inf = 0) and no search.
        half_width: W alpha + C sqrt L of that plan, reward units; None without C and L.
        width_by_our_forecast: Forecast of the best certificate with that K, reward units.
    """

    rollouts: int
    rollouts_by_variance: int | None
    prompts: int
    pairs: int
    rollout_share: float
    closed_form: bool
    half_width: float | None
    width_by_our_forecast: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to spend a budget, with what that is forecast to give.

    Attributes:
        chosen: The plan.
        lower, upper: Error bar of its width, reward units: 90% by bootstrap over the pilot's
            prompts, the luck of a new log of that size, and that of the draw order.
        status: What the certificate will be worth.
        weight: Lambda that the forecast expects, where labels are used.
        marginal: What the next `step` of money buys, best first.
        by_budget, by_rollouts: Best plans at other budgets, and at each K.
        for_width: The cheapest plan for an asked width; None if none was asked.
        unreachable: The width that no budget goes below, if the asked one is narrower.
        paper: The paper's own rules.
        objective, residual: Variance components of r - beta l^tau, and of the label less its
            forecast where labels are used; unit scale.
        clip: Clip thresholds for the coming audit.
        basis: What all this rests on.
    """

    chosen: Priced
    lower: float
    upper: float
    status: Status
    weight: float | None
    step: float
    marginal: tuple[Marginal, ...]
    by_budget: tuple[Priced, ...]
    by_rollouts: tuple[Priced, ...]
    asked_width: float | None
    for_width: Priced | None
    unreachable: float | None
    paper: PaperPlan
    objective: Components
    residual: Components | None
    clip: Clip
    costs: Costs
    curve: LearningCurve | None
    options: Options
    reward_range: tuple[float, float]
    pilot: dict
    basis: tuple[Basis, ...]

    @property
    def width(self) -> float:
        """Forecast width of the certificate, reward units."""
        return self.chosen.width

    @property
    def prompts(self) -> int:
        """Prompts to draw, n."""
        return self.chosen.prompts

    @property
    def rollouts_per_prompt(self) -> int:
        """Rollouts of each prompt, K."""
        return self.chosen.rollouts

    @property
    def gold_labels(self) -> int:
        """Gold labels to buy, g."""
        return self.chosen.labels

    @property
    def preference_pairs(self) -> int:
        """Preference pairs to train the reward model on, m, those at hand included."""
        return self.chosen.pairs

    @property
    def document(self) -> dict:
        """The plan as plain data, schema `taut.plan/1`."""
        from taut.decisions.budget.document import plan_document

        return plan_document(self)

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.terminal.budget import plan_text

        return plan_text(self.document)

    def _repr_html_(self) -> str:
        from taut.report.terminal.budget import plan_html

        return plan_html(self.document)


def plan(
    rollouts: Data,
    *,
    columns: Mapping[str, str] | None = None,
    budget: float | None = None,
    width: float | None = None,
    costs: Costs | None = None,
    beta: float | None = None,
    rm_curve: LearningCurve | str | os.PathLike | None = None,
    pairs_at_hand: int = 0,
    most_rollouts: int = MOST_ROLLOUTS,
    step: float | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    tau: Threshold = "auto",
    tau_negative: float | None = None,
    delta: float = 0.05,
    target: Target = "auto",
    reward_mse: float | None = None,
    coverage: float | None = None,
    log_ratio_max: float | None = None,
    log_ratio_second_moment: float | None = None,
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
    log_prob_noise: float | None = None,
) -> Plan:
    """Plan a new log from a pilot: the narrowest certificate that a budget is forecast to buy.

    Args:
        rollouts: The pilot: a log of the policy with some gold labels, and two rollouts or more on
            some prompts, so that their spread is seen. About 100 prompts will do.
        budget: Money for the new log, in the unit of the costs.
        width: Also (or, without a budget, only) find the cheapest plan of this width, reward units.
        costs: Prices; measured in response tokens if absent, and then no labels are planned.
        rm_curve: How the reward model's error falls with preference pairs, or the file of a table
            of m and L; needs a declared `coverage`.
        pairs_at_hand: Preference pairs that need not be paid for.
        most_rollouts: Largest number of rollouts of a prompt to look at.
        step: Money for the table of marginal values; about a twentieth of the budget if absent.

    The other arguments are what the coming audit will be told, as for `taut.audit`.

    Raises:
        UsageError: Settings contradict each other, or the budget buys not one prompt.
        LogError: The pilot lacks what the target needs.

    Source: theory §8.
    """
    if budget is None and width is None:
        raise UsageError("neither a budget nor a width: say what there is, or what is wanted.")
    for name, value in (("budget", budget), ("width", width), ("step", step)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}; expected a finite number above 0.")
    if pairs_at_hand < 0 or most_rollouts < 1:
        raise UsageError(
            f"pairs_at_hand {pairs_at_hand} and most_rollouts {most_rollouts}: expected at least "
            "0 and 1."
        )
    options = options_of(locals())
    rollouts = as_rollouts(rollouts, columns)
    costs = costs or measured_costs(rollouts, prefill=None, label=None, pair=None)
    pilot = Pilot(rollouts, options)
    planner = Planner(pilot, costs, _curve(rm_curve, options), pairs_at_hand, most_rollouts)
    return planner.plan(budget, width, step)


def _curve(given, options: Options) -> LearningCurve | None:
    if given is None:
        return None
    if options.coverage is None:
        raise UsageError(
            "a learning curve needs a declared coverage C (--coverage): without it nothing ties "
            "the error on reward data to the policy."
        )
    if isinstance(given, LearningCurve):
        return given
    return read_learning_curve(given, seed=options.seed)


class Planner:
    """One pilot, one price list; finds plans for any budget.

    `fix_clip` comes first; `best` then finds plans and `bar` says how sure their width is.
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

    def plan(self, budget: float | None, width: float | None, step: float | None) -> Plan:
        """Return the plan, with everything that is said about it."""
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
        return self._said(priced, width, found, floor, step)

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
                    several=self._several,
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
    def _several(self) -> bool:
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
        return replace(item, budget=item.cost), None

    # --- what is said about a plan ----------------------------------------------------------------

    def _said(self, priced: Priced, width, found, floor, step) -> Plan:
        pilot, options = self.pilot, self.pilot.options
        lower, upper = self.bar(priced)
        step = _round(priced.budget / 20) if step is None else step
        low, high = pilot.low, pilot.high
        values = pilot.data.reward - pilot.cost(self.clip)
        return Plan(
            chosen=priced,
            lower=lower,
            upper=upper,
            status=pilot.status(priced.route),
            weight=self._weight(priced),
            step=step,
            marginal=self._marginal(priced, step),
            by_budget=self._by_budget(priced.budget),
            by_rollouts=self._by_rollouts(priced.budget),
            asked_width=width,
            for_width=found,
            unreachable=None if floor is None else floor * pilot.width,
            paper=self._paper(priced.budget),
            objective=variance_components(values, pilot.blocks),
            residual=self._residual(priced),
            clip=self.clip,
            costs=self.costs,
            curve=self.curve,
            options=options,
            reward_range=(low, high),
            pilot=self._described(),
            basis=tuple(basis(pilot, self.costs, self.curve, self.clip, priced, self.identified)),
        )

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

    def _weight(self, priced: Priced) -> float | None:
        if priced.route != "gold":
            return None
        each = priced.labels / priced.labelled
        return self.forecast.expected_weight(priced.prompts, priced.rollouts, priced.labelled, each)

    def _residual(self, priced: Priced) -> Components | None:
        """Components of r* - lambda r on labelled rows, at the lambda that is expected."""
        if priced.route != "gold" or not self.pilot.knows_gold:
            return None
        weight = self._weight(priced)
        gold = self.pilot.data.gold
        return labelled_components(gold - weight * self.pilot.data.reward, gold, self.pilot.blocks)

    def _marginal(self, priced: Priced, step: float) -> tuple[Marginal, ...]:
        costs, width = self.costs, self.pilot.width
        now = priced.width / width
        n, k = float(priced.prompts), float(priced.rollouts)
        rows = []

        def add(resource, amount, new, left=math.inf) -> None:
            note = "" if amount < left else f"no more than {left:.0f} are left to label"
            rows.append(Marginal(resource, amount, min(0.0, float(new) - now) * width, note))

        more = step / costs.draw(k)
        if priced.route == "gold":
            p, each = float(priced.labelled), priced.labels / priced.labelled
            gold = lambda *design: self.forecast.gold(*([value] for value in design))[0, 0]  # noqa: E731
            if costs.label == 0:
                rows.append(Marginal("gold labels", 0.0, 0.0, "labels cost nothing here"))
            elif p < n:
                bought = min(step / costs.label, n - p)
                add("gold labels", bought, gold(n, k, p + bought, each), n - p)
            elif self._several and each < k:
                left = n * (k - each)
                bought = min(step / costs.label, left)
                add("gold labels", bought, gold(n, k, p, each + bought / n), left)
            else:
                why = "every rollout is labelled" if each >= k else "one label a prompt, all there"
                rows.append(Marginal("gold labels", 0.0, 0.0, why))
            add("prompts", more, gold(n + more, k, p, each))
            both = step / (costs.draw(k) + each * costs.label)
            add("labelled prompts", both, gold(n + both, k, p + both, each))
            if self.identified:
                rise = step / (n * costs.decode)
                add("rollouts per prompt", rise, gold(n, k + rise, p, each))
        else:
            moved = self.shift(priced.pairs) if priced.route == "declared" else 0.0
            learned = lambda n, k, s: self.forecast.learned([n], [k], s)[0, 0]  # noqa: E731
            add("prompts", more, learned(n + more, k, moved))
            if self.identified:
                rise = step / (n * costs.decode)
                add("rollouts per prompt", rise, learned(n, k + rise, moved))
            if priced.route == "declared" and self.curve is not None and costs.pair_price:
                bought = step / costs.pair_price
                moved = self.shift(priced.pairs + bought)
                add("preference pairs", bought, learned(n, k, moved))
        if not self.identified:
            why = "not seen: the pilot has one rollout a prompt"
            rows.append(Marginal("rollouts per prompt", 0.0, 0.0, why))
        rows.sort(key=lambda row: row.change)
        anew = self.best(priced.budget + step)
        change = min(0.0, anew.width - priced.width) if anew else 0.0
        return (*rows, Marginal("a new plan", None, change))

    def _by_budget(self, budget: float) -> tuple[Priced, ...]:
        found = (self.best(budget * 2.0**power) for power in np.arange(-1, 1.125, 0.25))
        return tuple(item for item in found if item is not None)

    def _by_rollouts(self, budget: float) -> tuple[Priced, ...]:
        found = (
            self.best(budget, self.rollouts[[at]]) for at in range(min(12, len(self.rollouts)))
        )
        return tuple(item for item in found if item is not None)

    def _paper(self, budget: float) -> PaperPlan:
        pilot, costs, options = self.pilot, self.costs, self.pilot.options
        values = pilot.data.reward - pilot.cost(self.clip)
        components = variance_components(values, pilot.blocks)
        most = max(MOST_ROLLOUTS, int(self.rollouts[-1]))
        k = rules.paper_rollouts(costs, most=most)
        reach = 1.0 if not pilot.has_cost else 1 + 2 * pilot.data.beta * self.clip.tau
        share, pairs, closed = 1.0, self.at_hand, False
        price = costs.pair_price
        if self.unit_curve is not None and price:
            constant = rules.sampling_constant(costs, k, width=reach, delta=options.delta)
            money = rules.split_money(
                budget,
                sampling=constant,
                coverage=options.coverage,
                curve=self.unit_curve,
                price=price,
            )
            share = money / budget
            pairs = self.at_hand + math.floor((budget - money) / price + 1e-6)
            closed = self.unit_curve.rate == 1.0 and self.unit_curve.floor == 0.0
        prompts = int(costs.affordable(budget * share, k))
        half = None
        if "declared" in self.routes and prompts >= 1:
            alpha = paper_alpha(prompts, k, options.delta)
            half = (reach * alpha + float(self.shift(pairs))) * pilot.width
        ours = self.best(budget, np.array([float(k)])) if k in self.rollouts else None
        return PaperPlan(
            rollouts=k,
            rollouts_by_variance=rules.variance_rollouts(costs, components, most=most),
            prompts=prompts,
            pairs=pairs,
            rollout_share=share,
            closed_form=closed,
            half_width=half,
            width_by_our_forecast=None if ours is None else ours.width,
        )

    def _described(self) -> dict:
        sizes, pilot = self.pilot.blocks.sizes, self.pilot
        return {
            "prompts": len(sizes),
            "rollouts": int(sizes.sum()),
            "rollouts_per_prompt": {
                "min": int(sizes.min()),
                "mean": float(sizes.mean()),
                "max": int(sizes.max()),
            },
            "prompts_with_two_rollouts": self.replicated,
            "labelled_prompts": pilot.labelled,
            "range_declared": pilot.declared,
        }


def labelled_components(values: np.ndarray, gold: np.ndarray, blocks: Blocks) -> Components:
    """Components of values on labelled rows; NaN elsewhere is never read."""
    counts = label_counts(gold, blocks)
    rows = blocks.rows[labelled_rows(gold)[blocks.rows]]
    kept = Blocks(rows, np.r_[0, np.cumsum(counts[counts > 0])])
    return variance_components(np.nan_to_num(values), kept)


def _round(value: float) -> float:
    """Return a round number near a positive one: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / value))) * power

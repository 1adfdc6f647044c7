"""How to spend a budget, with what that is forecast to give, and its JSON, `taut.plan/1`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from taut.auditing.certificate import Pair, PerPrompt
from taut.decisions.budget.basis import Basis
from taut.decisions.budget.components import Components
from taut.results import Document, Part, frame
from taut.types import Status
from taut.version import __version__

if TYPE_CHECKING:
    import pandas


class Priced(Part):
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


class Marginal(Part):
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


class MarginalValues(Part):
    """What the next `step` of money buys, best first."""

    step: float
    resources: tuple[Marginal, ...]


class PaperPlan(Part):
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


class WidthForecast(Part):
    """What the plan's certificate is forecast to be.

    Attributes:
        width: Reward units.
        lower, upper: Its error bar at `bar_level`: bootstrap over the pilot's prompts, the luck of
            a new log of that size, and that of the draw order.
        status: What the certificate will be worth.
        weight: Lambda that the forecast expects, where labels are used.
    """

    width: float
    lower: float
    upper: float
    bar_level: float
    status: Status
    weight: float | None


class AskedWidth(Part):
    """A width that was asked for.

    Attributes:
        width: Reward units.
        plan: The cheapest plan of that width; None if no budget buys it.
        never_below: The width that no budget goes below, if the asked one is narrower.
    """

    width: float
    plan: Priced | None
    never_below: float | None


class VarianceComponents(Part):
    """Where the spread lies, unit scale.

    Attributes:
        objective: Of r - beta l^tau.
        residual: Of the label less its forecast, where labels are used.
    """

    objective: Components
    residual: Components | None


class CurveFit(Part):
    """L(m) = floor + scale m^-rate, fitted to `points` points with m in [smallest, largest].

    `spread` is the robust relative standard deviation of the points about the curve (in standard
    errors, where those were given); L in squared reward units.
    """

    floor: float
    scale: float
    rate: float
    smallest: float
    largest: float | None
    points: int
    spread: float


class Prices(Part):
    """What things cost, in one unit; None where it cannot be bought."""

    unit: str
    prefill: float
    decode: float
    label: float | None
    pair: float | None


class PilotLog(Part):
    """Counts of the pilot."""

    prompts: int
    rollouts: int
    rollouts_per_prompt: PerPrompt
    prompts_with_two_rollouts: int
    labelled_prompts: int
    range_declared: bool


class PlanSettings(Part):
    """What the coming audit will be told; units are those of the log."""

    beta: float | None
    delta: float
    tau: float | None
    tau_negative: float | None
    tau_source: str | None
    reward_range: Pair
    reward_range_declared: bool
    gold_range: Pair | None
    calibration_share: float
    seed: int
    held_out: bool
    coverage: float | None
    reward_mse: float | None
    log_ratio_max: float | None
    log_ratio_second_moment: float | None


class Plan(Document):
    """How to spend a budget, with what that is forecast to give (theory §8).

    Attributes:
        target: What the certificate will speak of.
        level: Of the coming certificate, probability.
        budget: What `chosen`, the plan, was made for.
        marginal: What more money buys.
        asked: A width that was asked for; None if none was.
        by_budget, by_rollouts: Best plans at other budgets, and at each K.
        paper: The paper's own rules.
        audit: The command that audits the new log as it was planned.
        rests_on: What all this rests on.
    """

    schema_name: Literal["taut.plan/1"] = Field("taut.plan/1", alias="schema")
    version: str = __version__
    target: str
    level: float
    settings: PlanSettings
    costs: Prices
    budget: float
    chosen: Priced = Field(alias="plan")
    forecast: WidthForecast
    marginal: MarginalValues
    asked: AskedWidth | None
    by_budget: tuple[Priced, ...]
    by_rollouts: tuple[Priced, ...]
    components: VarianceComponents
    paper: PaperPlan
    learning_curve: CurveFit | None
    pilot: PilotLog
    audit: str
    rests_on: tuple[Basis, ...]

    @property
    def width(self) -> float:
        """Forecast width of the certificate, reward units."""
        return self.forecast.width

    @property
    def lower(self) -> float:
        """Lower end of the error bar of that width, reward units."""
        return self.forecast.lower

    @property
    def upper(self) -> float:
        """Upper end of the error bar of that width, reward units."""
        return self.forecast.upper

    @property
    def status(self) -> Status:
        """What the certificate will be worth."""
        return self.forecast.status

    @property
    def for_width(self) -> Priced | None:
        """The cheapest plan for an asked width; None if none was asked, or no budget buys it."""
        return None if self.asked is None else self.asked.plan

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

    def to_frame(self) -> "pandas.DataFrame":
        """Return the best plan at each budget as a table of pandas, one row a plan.

        Raises:
            UsageError: pandas is not installed.
        """
        return frame([item.model_dump() for item in self.by_budget])

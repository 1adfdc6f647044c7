"""A pilot log, and what the coming audit will be told: from rollouts to forecasts.

Clip thresholds are fixed here, on the pilot, and handed to the coming audit as numbers: then that
audit spends no draws on choosing them.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.calibration import FEWEST_DRAWS, choose_negative, outward
from taut.auditing.options import Options
from taut.auditing.prepare import auto_thresholds, enter, labelled_draws
from taut.auditing.target import UnitData, unit_data
from taut.bounds.kl_clipping import (
    TAIL_SHARE,
    clip_log_ratio,
    estimated_tail,
    second_moment_tail,
)
from taut.decisions.budget.forecast import (
    FEWEST_LABELLED,
    Forecast,
    PilotMoments,
    Setting,
    TailForecast,
    pilot_moments,
)
from taut.draws import assumptions as about
from taut.draws.design import Design
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import LogError, UsageError
from taut.types import Status, weakest

# Moments of more draws than these change no plan.
_MOST_DRAWS = 20_000
_QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Clip:
    """Clip thresholds in nats, and why these; None for the target "reward"."""

    tau: float | None
    tau_negative: float | None
    source: str


class Pilot:
    """A pilot log on the unit scale.

    Attributes:
        options: What the coming audit will be told.
        low, high, declared: Reward range, and whether it was declared.
        data, blocks: The log; at most 20,000 draws of it, the first in draw order.
        labelled: Draws with gold labels.
        has_cost: Whether the target has a KL cost.
        concerns: What about the log makes forecasts from it doubtful.
    """

    def __init__(self, rollouts: Rollouts, options: Options):
        entered = enter(rollouts, options)
        self.options, self.design = entered.options, entered.design
        options = self.options
        self.low, self.high = self.design.units.scale
        self.declared = self.design.units.reward_declared
        self.data: UnitData = unit_data(self.design, options)
        blocks = self.design.blocks
        if len(blocks) < 2:
            raise LogError(
                f"the log holds {len(blocks)} draw of a prompt; a plan needs at least two to see "
                "how prompts differ, and better a hundred."
            )
        self.blocks: Blocks = blocks.subset(np.arange(len(blocks)) < _MOST_DRAWS)
        self.has_cost = options.target != "reward" and self.data.beta > 0
        self.labelled = labelled_draws(self.data, self.blocks)
        self.concerns = tuple(self._concerns(self.design))

    @property
    def width(self) -> float:
        """Reward units in one unit of the unit scale."""
        return self.high - self.low

    @property
    def knows_gold(self) -> bool:
        """Whether enough draws have labels to say how gold spreads."""
        return self.labelled >= FEWEST_LABELLED

    def _concerns(self, design: Design):
        if not self.declared:
            yield "the reward range was read off the pilot; declare one (--reward-range)"
        if not design.one_law:
            yield (
                "the pilot holds several policies; the forecast is for a log of one that spreads "
                "like their mixture, and a mixed log is bounded about a tenth wider"
            )
        if design.whole.recurs and not self.options.held_out:
            yield "prompts recur across steps and were merged; a new log is taken to draw afresh"
        if len(self.blocks) < 30:
            yield f"the pilot has only {len(self.blocks)} draws; its error bar is itself a guess"

    def cost(self, clip: Clip) -> np.ndarray:
        """beta l^tau, unit scale, shape (rollouts,)."""
        if not self.has_cost:
            return np.zeros(len(self.data.reward))
        clipped = clip_log_ratio(self.data.log_ratio, clip.tau, clip.tau_negative)
        return self.data.beta * clipped

    def moments(self, clip: Clip, weights: np.ndarray | None = None) -> PilotMoments:
        """Moments of the pilot; one set for each row of weights, shape (sets, draws)."""
        return pilot_moments(
            reward=self.data.reward,
            cost=self.cost(clip),
            gold=self.data.gold,
            blocks=self.blocks,
            weights=weights,
        )

    def forecast(self, clip: Clip, weights: np.ndarray | None = None) -> Forecast:
        """Return the forecast of any plan's width under some thresholds."""
        return Forecast(self.moments(clip, weights), self.setting(clip))

    def setting(self, clip: Clip) -> Setting:
        """Return what the audit will be told, on the unit scale."""
        options, beta = self.options, self.data.beta
        if not self.has_cost:
            return Setting(delta=options.delta)
        setting = Setting(
            delta=options.delta,
            cost_range=(-beta * clip.tau_negative, beta * clip.tau),
            trivial=(-beta * clip.tau, 1 + beta * clip.tau_negative),
        )
        if options.target == "clipped":
            return setting
        least = -beta * options.log_ratio_max if options.log_ratio_max is not None else -math.inf
        return replace(setting, trivial=(least, 1.0), tail=self._tail(clip))

    def _tail(self, clip: Clip) -> TailForecast:
        """Forecast both tails of the KL cost, by the road the audit will take (theory §4.4)."""
        options, beta = self.options, self.data.beta
        negative = beta * math.exp(-1 - clip.tau_negative)
        if options.log_ratio_max is not None and clip.tau >= options.log_ratio_max:
            return TailForecast(negative=negative)
        if options.log_ratio_max is None and options.log_ratio_second_moment is not None:
            bound = second_moment_tail(clip.tau, options.log_ratio_second_moment).bound
            return TailForecast(floor=beta * bound, negative=negative)
        share = TAIL_SHARE * options.delta / 2
        found = estimated_tail(self.data.log_ratio, self.blocks, tau=clip.tau, delta=share)
        excess = np.maximum(self.data.log_ratio - clip.tau, 0.0)
        mean = float(self.blocks.means(excess).mean())
        slope = max(0.0, found.bound - mean) * math.sqrt(len(self.blocks))
        return TailForecast(floor=beta * mean, slope=beta * slope, delta=share, negative=negative)

    def clips(self, draws: float) -> list[Clip]:
        """Return the thresholds to choose from, for a log of at most so many draws.

        One where it is given, or where the target itself depends on it. Several where the target
        is the objective: every threshold is valid, and the plan takes the narrowest.

        Raises:
            UsageError: Nothing is to be clipped, so there is no finite-sample width to plan.
        """
        options = self.options
        if not self.has_cost:
            return [Clip(None, None, "no KL cost")]
        if isinstance(options.tau, int | float):
            negative = options.tau if options.tau_negative is None else options.tau_negative
            return [Clip(float(options.tau), float(negative), "given")]
        maximum = options.log_ratio_max
        if options.tau is None and maximum is None:
            raise UsageError(
                "with tau none nothing is clipped and no finite-sample interval exists; plan with "
                "--tau auto, a number of nats, or a declared --log-ratio-max."
            )
        # From n draws down to a thousandth of them: labels may be that much fewer than prompts.
        sizes = np.unique(np.maximum(draws * 4.0 ** -np.arange(6), 10).astype(int))
        negatives = sorted({choose_negative(int(size), options.delta) for size in sizes})
        if options.tau_negative is not None:
            negatives = [options.tau_negative]
        if options.target == "clipped" or len(self.blocks) < FEWEST_DRAWS:
            return [self._as_the_audit(int(max(draws, 1)))]
        if maximum is not None:
            what = "the declared maximum of the log-ratio"
            return [Clip(maximum, negative, what) for negative in negatives]
        ratios = np.maximum(self.data.log_ratio[self.blocks.rows], 0.0)
        taus = np.unique(np.quantile(ratios, _QUANTILES))
        if options.log_ratio_second_moment is not None:
            root = math.sqrt(options.log_ratio_second_moment)
            taus = np.unique(np.r_[taus, root * 2.0 ** np.arange(-1, 9)])
        what = "narrowest forecast on the pilot"
        taus = sorted({outward(tau) for tau in taus})
        return [Clip(tau, float(low), what) for tau in taus for low in negatives]

    def _as_the_audit(self, draws: int) -> Clip:
        """Choose thresholds on the pilot by the rule that an audit has for its calibration split.

        The target "clipped" depends on them: the narrowest would be the one that cuts most.
        """
        found = auto_thresholds(self.data, self.blocks, draws, self.options.delta, self.options)
        what = "the audit's rule for tau auto, on the pilot"
        return Clip(found.tau, found.tau_negative, what)

    def status(self, route: str) -> Status:
        """What the certificate will be worth, if the log is as clean as the pilot."""
        options = self.options
        if route == "learned":
            return Status.VACUOUS
        names = [about.REWARD_RANGE]
        names += [about.GOLD_RANGE, about.RANDOM_LABELS] if route == "gold" else []
        names += [about.LOG_PROBS] if self.has_cost else []
        worst = self.design.status(*names)
        if route != "gold":
            worst = weakest((worst, Status.CONDITIONAL))
        if options.target == "objective" and self.has_cost and options.log_ratio_max is None:
            moment = options.log_ratio_second_moment is not None
            return weakest((worst, Status.CONDITIONAL if moment else Status.ESTIMATED))
        return worst

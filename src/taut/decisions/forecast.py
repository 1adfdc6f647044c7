"""How wide a certificate will be, for a log that is not there yet: forecasts, never bounds.

A pilot log gives the moments of rows, split into a part between prompts and a part within (theory
§8.3). From these follows the variance that the blocks of *any* plan would have, and from the
variance the width that the betting interval is forecast to have. Everything that the audit decides
by counts alone (who calibrates, who certifies, whether lambda can be chosen) is decided here the
same way. All values are on the unit scale: rewards in [0, 1].
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.bounds.reward_shift import FEW_LABELS, WEIGHTS, label_counts, labelled_rows
from taut.bounds.sampling import end_forecast
from taut.calibration import FEWEST_DRAWS
from taut.decisions.components import (
    FEWEST_REPLICATED,
    SplitMoments,
    covariance,
    pair_moments,
    split_moments,
)
from taut.rollouts import Blocks

# Labels that an audit needs in its calibration split to choose lambda by.
BLIND = FEW_LABELS // 5
# With fewer labelled draws in the pilot the learned reward stands in for gold.
FEWEST_LABELLED = 5


@dataclass(frozen=True, slots=True)
class GoldMoments:
    """Moments of labelled draws: x = (gold, reward) on labelled rows, u = (reward, cost) on all.

    Each has a first axis for sets of weights. `split` says whether labels of one draw were seen to
    differ; otherwise `of_labels.between` holds the whole variance, right for one label a draw.
    """

    of_labels: SplitMoments  # of x, labelled rows
    of_rows: SplitMoments  # of u, all rows of labelled draws
    cross_between: np.ndarray  # cov(x, u), shape (sets, 2, 2)
    cross_within: np.ndarray
    split: bool
    draws: int


@dataclass(frozen=True, slots=True)
class PilotMoments:
    """What the pilot says of reward and KL cost on all draws, and of gold on labelled ones."""

    rows: SplitMoments  # of u = (reward, cost)
    gold: GoldMoments | None
    draws: int

    @property
    def sets(self) -> int:
        """How many sets of weights: 1, or the number of bootstrap resamples."""
        return len(self.rows.mean)


def with_unseen(moments: PilotMoments, shares: np.ndarray) -> PilotMoments:
    """Add what a pilot may not have seen: a share of prompts at the far end of the reward range.

    A bootstrap of a pilot without a single failure says that there are none.

    Args:
        moments: Of the pilot, unit scale.
        shares: Of such prompts, one for each set of weights, times the number of draws.
    """

    def spread(split: SplitMoments, draws: int) -> SplitMoments:
        far = np.maximum(split.mean[:, 0], 1 - split.mean[:, 0])
        between = split.between.copy()
        between[:, 0, 0] += shares / draws * far**2
        return replace(split, between=between)

    gold = moments.gold
    if gold is not None:
        gold = replace(gold, of_labels=spread(gold.of_labels, gold.draws))
    return PilotMoments(spread(moments.rows, moments.draws), gold, moments.draws)


def pilot_moments(
    *,
    reward: np.ndarray,
    cost: np.ndarray,
    gold: np.ndarray | None,
    blocks: Blocks,
    weights: np.ndarray | None = None,
) -> PilotMoments:
    """Measure what any plan's variances are made of.

    Args:
        reward, cost: Unit scale, shape (rollouts,); cost is beta l^tau, zeros for the target
            "reward".
        gold: Unit scale with NaN gaps, or None.
        blocks: The draws of the pilot.
        weights: How often each draw counts, shape (sets, draws); ones if absent.
    """
    weights = np.ones((1, len(blocks))) if weights is None else weights
    columns = np.stack([reward, cost], axis=1)
    rows = split_moments(pair_moments(columns, blocks), blocks.sizes, weights)
    labelled = None if gold is None else label_counts(gold, blocks) > 0
    if labelled is None or labelled.sum() < FEWEST_LABELLED:
        return PilotMoments(rows, None, len(blocks))
    known = _gold_moments(columns, gold, blocks.subset(labelled), weights[:, labelled])
    return PilotMoments(rows, known, len(blocks))


def _gold_moments(columns, gold, blocks: Blocks, weights: np.ndarray) -> GoldMoments:
    counts, sizes = label_counts(gold, blocks), blocks.sizes
    mask = labelled_rows(gold)[blocks.rows]
    labels = Blocks(blocks.rows[mask], np.r_[0, np.cumsum(counts)])
    values = np.stack([np.nan_to_num(gold), columns[:, 0]], axis=1)
    x, u = pair_moments(values, labels), pair_moments(columns, blocks)
    # E[x_j (u_j - mean of the draw's u)] K/(K-1) = Cov within, whichever row j is labelled.
    away = (columns[blocks.rows] - np.repeat(u.means, sizes, axis=0))[mask]
    centred = values[labels.rows] - x.means.mean(axis=0)
    products = centred[:, :, None] * away[:, None, :]
    within = np.add.reduceat(products, labels.starts[:-1], axis=0) / counts[:, None, None]
    within *= (sizes / np.maximum(sizes - 1, 1))[:, None, None]
    both = covariance(x.means, u.means, weights)
    several = sizes >= 2
    if several.sum() < FEWEST_REPLICATED:
        inside = noise = np.zeros_like(both)
    else:
        part = (weights * several).sum(axis=1)[:, None, None]
        total = np.einsum("bi,ijk->bjk", weights * several, within, optimize=True)
        inside = total / np.maximum(part, 1)
        known = np.einsum("bi,ijk->bjk", weights * several / sizes, within, optimize=True)
        single = (weights * ~several).sum(axis=1)[:, None, None]
        noise = (known + single * inside) / weights.sum(axis=1)[:, None, None]
    return GoldMoments(
        of_labels=split_moments(x, counts, weights),
        of_rows=split_moments(u, sizes, weights),
        cross_between=both - noise,
        cross_within=inside,
        split=bool((counts >= 2).sum() >= FEWEST_REPLICATED),
        draws=len(blocks),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TailForecast:
    """A forecast of beta times the bound on the positive tail: floor + slope / sqrt(draws)."""

    floor: float = 0.0
    slope: float = 0.0
    delta: float = 0.0
    negative: float = 0.0  # beta times the free bound on the negative tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the coming audit will be told; unit scale.

    Attributes:
        delta: Error probability.
        cost_range: Lowest and highest value of beta l^tau; (0, 0) for the target "reward".
        trivial: What is true without data: an end is never worse.
        calibration: Share of draws that the audit sets aside, where there is something to choose.
        tail: The two tails of the KL cost; zero unless the target is "objective".
    """

    delta: float
    cost_range: tuple[float, float] = (0.0, 0.0)
    trivial: tuple[float, float] = (0.0, 1.0)
    calibration: float = 0.2
    tail: TailForecast = TailForecast()

    @property
    def has_cost(self) -> bool:
        """Whether the target has a KL cost."""
        return self.cost_range != (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Shares:
    """Who certifies: float counts, as labels fall into the calibration split by chance."""

    labelled: np.ndarray
    unlabelled: np.ndarray
    calibrated: np.ndarray  # draws set aside
    blind: np.ndarray  # too few labels set aside to choose lambda by


def certifying_shares(draws: np.ndarray, labelled: np.ndarray, setting: Setting) -> Shares:
    """Say how many draws of a plan will certify, by the audit's own rules (theory §5, §3.6)."""
    draws, labelled = np.asarray(draws, float), np.asarray(labelled, float)
    chooses = (labelled >= FEW_LABELS) | ((labelled > 0) & setting.has_cost)
    enough = setting.calibration * draws >= FEWEST_DRAWS
    aside = np.where(chooses & enough, setting.calibration, 0.0) * draws
    few = (labelled < FEW_LABELS) & (draws - labelled >= 2 * aside)
    known = np.where(few, 0.0, labelled * aside / np.maximum(draws, 1e-300))
    ours = labelled - known
    return Shares(ours, np.maximum(draws - aside - ours, 0.0), aside, known < BLIND - 1e-9)


class Forecast:
    """Predicted widths of plans, for one pilot and one setting.

    Designs are arrays of one shape (designs,); widths have shape (sets, designs), one set for the
    point forecast. Counts may be fractions: rates of change need them.
    """

    def __init__(self, moments: PilotMoments, setting: Setting):
        self.moments, self.setting = moments, setting

    def learned(self, draws, rollouts, shift=0.0) -> np.ndarray:
        """Width for the learned reward, and a declared shift beyond it at both ends.

        Without a shift it speaks of the learned reward in place of the true one.
        """
        draws, rollouts = np.asarray(draws, float), np.asarray(rollouts, float)
        rows = self.moments.rows
        mean = rows.mean[:, 0] - rows.mean[:, 1]
        between, within = (_quadratic(part, [1.0, -1.0]) for part in (rows.between, rows.within))
        variance = np.maximum(between, 0)[:, None] + np.maximum(within, 0)[:, None] / rollouts
        low, high = self._range(0.0)
        return self._width(mean[:, None], variance, low, high, draws, draws, shift)

    def gold(self, draws, rollouts, labelled, each=1.0) -> np.ndarray:
        """Width with gold labels on some prompts, `each` rows a prompt (theory §3.6).

        The audit's choice of lambda and grouping is the narrowest of those that are open to it.
        """
        return np.minimum.reduce([w for _, w in self._options(draws, rollouts, labelled, each)])

    def expected_weight(self, draws, rollouts, labelled, each) -> float:
        """Lambda of the narrowest option for one plan, by the point forecast."""
        options = self._options([draws], [rollouts], [labelled], [each])
        return min(options, key=lambda option: option[1][0, 0])[0]

    def _options(self, draws, rollouts, labelled, each):
        """Yield lambda and the widths that it gives, with and without groups."""
        draws, rollouts, labelled, each = np.broadcast_arrays(
            *(np.asarray(item, float) for item in (draws, rollouts, labelled, each))
        )
        shares = certifying_shares(draws, labelled, self.setting)
        certifying = shares.labelled + shares.unlabelled
        share = np.minimum(shares.labelled / np.maximum(certifying, 1e-300), 1.0)
        whole = each == rollouts
        mean, parts = self._gold_parts()
        for weight, variances in parts:
            residual, own, spread = variances(rollouts, each)
            for alone in (True, False):
                variance = residual + (own if alone else share * np.maximum(spread, 0.0))
                reach = np.where(whole, 0.0, weight) if alone else weight
                low, high = self._range(reach)
                width = self._width(
                    mean, np.maximum(variance, 0.0), low, high, shares.labelled, certifying
                )
                # Lambda needs labels set aside; groups need a calibration split.
                closed = shares.blind & (weight > 0)
                if not alone:
                    closed = closed | (shares.calibrated == 0)
                yield weight, np.where(closed, math.inf, width)

    def _gold_parts(self):
        """Mean of a block, and for each lambda a function of (K, r) giving its variance in parts.

        A block is a + s c + (1 - s) mean of other c, with a = mean_labelled(r* - lambda r) and
        c = mean(lambda r - cost): its variance is Var a + s (2 Cov + Var c), as the share s is
        1 / (1 + group) where groups are used, and 1 where they are not.
        """
        gold, rows = self.moments.gold, self.moments.rows
        if gold is None:
            return self._stand_in()
        labels, mine = gold.of_labels, gold.of_rows
        mean = labels.mean[:, 0] - mine.mean[:, 1]

        def parts(weight: float):
            first, second = [1.0, -weight], [weight, -1.0]
            a_between, a_within = _both(labels, first)
            c_between, c_within = _both(mine, second)
            all_between, all_within = _both(rows, second)
            x_between = _bilinear(gold.cross_between, first, second)
            x_within = _bilinear(gold.cross_within, first, second)

            def at(rollouts, each):
                if gold.split:
                    residual = _cut(a_between) + _cut(a_within) / each
                else:
                    residual = _cut(a_between + a_within) + 0.0 * each
                own = _cut(c_between) + _cut(c_within) / rollouts
                spread = _cut(all_between) + _cut(all_within) / rollouts
                cross = x_between[:, None] + x_within[:, None] / rollouts
                most = np.sqrt(residual * own)
                cross = 2 * np.clip(cross, -most, most)
                return residual, own + cross, spread + cross

            return at

        return mean[:, None], [(weight, parts(weight)) for weight in WEIGHTS]

    def _stand_in(self):
        """Without gold in the pilot the learned reward stands in for it, at lambda = 0."""
        rows = self.moments.rows
        mean = rows.mean[:, 0] - rows.mean[:, 1]
        a, c = _both(rows, [1.0, 0.0]), _both(rows, [0.0, -1.0])
        x = [_bilinear(part, [1.0, 0.0], [0.0, -1.0]) for part in (rows.between, rows.within)]

        def at(rollouts, each):
            residual = _cut(a[0]) + _cut(a[1]) / each
            own = _cut(c[0]) + _cut(c[1]) / rollouts
            most = np.sqrt(residual * own)
            cross = 2 * np.clip(x[0][:, None] + x[1][:, None] / rollouts, -most, most)
            return residual, own + cross, own + cross

        return mean[:, None], [(0.0, at)]

    def _range(self, weight):
        low, high = self.setting.cost_range
        return -weight - high, 1 + weight - low

    def _width(self, mean, variance, low, high, blocks, certifying, shift=0.0) -> np.ndarray:
        """Both ends and both tails, cut at what is true without data."""
        setting, tail = self.setting, self.setting.tail
        blocks = np.maximum(blocks, 1e-9)
        below = end_forecast(
            mean - low, variance, blocks=blocks, eta=setting.delta / 2 - tail.delta
        )
        above = end_forecast(high - mean, variance, blocks=blocks, eta=setting.delta / 2)
        hidden = tail.floor + tail.slope / np.sqrt(np.maximum(certifying, 1e-9))
        floor, ceiling = setting.trivial
        below = np.minimum(below, mean - low) + hidden + shift
        above = np.minimum(above, high - mean) + tail.negative + shift
        below, above = np.minimum(below, mean - floor), np.minimum(above, ceiling - mean)
        return np.maximum(below, 0.0) + np.maximum(above, 0.0)


def _both(split: SplitMoments, weights) -> tuple[np.ndarray, np.ndarray]:
    return _quadratic(split.between, weights), _quadratic(split.within, weights)


def _quadratic(matrix: np.ndarray, weights) -> np.ndarray:
    return _bilinear(matrix, weights, weights)


def _bilinear(matrix: np.ndarray, first, second) -> np.ndarray:
    return np.einsum("bij,i,j->b", matrix, np.asarray(first), np.asarray(second))


def _cut(values: np.ndarray) -> np.ndarray:
    """At least 0, shape (sets, 1)."""
    return np.maximum(values, 0.0)[:, None]

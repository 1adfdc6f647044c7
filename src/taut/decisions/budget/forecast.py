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

from taut.bounds.reward_shift import WEIGHTS
from taut.bounds.sampling import end_forecast
from taut.decisions.budget.components import (
    FEWEST_REPLICATED,
    SplitMoments,
    covariance,
    pair_moments,
    split_moments,
)
from taut.draws.labels import label_counts, labelled_rows
from taut.draws.rollouts import Blocks

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
        centre = split.mean[:, 0]
        far = np.where(centre > 0.5, -centre, 1 - centre)
        mean, between = split.mean.copy(), split.between.copy()
        mean[:, 0] += shares / draws * far
        between[:, 0, 0] += shares / draws * far**2
        return replace(split, mean=np.clip(mean, 0.0, None), between=between)

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
        tail: The two tails of the KL cost; zero unless the target is "objective".
    """

    delta: float
    cost_range: tuple[float, float] = (0.0, 0.0)
    trivial: tuple[float, float] = (0.0, 1.0)
    tail: TailForecast = TailForecast()

    @property
    def has_cost(self) -> bool:
        """Whether the target has a KL cost."""
        return self.cost_range != (0.0, 0.0)


class Forecast:
    """Predicted widths of plans, for one pilot and one setting.

    Designs are arrays of one shape (designs,); widths have shape (sets, designs), one set for the
    point forecast. Counts may be fractions: rates of change need them.
    """

    def __init__(self, moments: PilotMoments, setting: Setting):
        self.moments, self.setting = moments, setting
        self._parts = _gold_parts(moments)

    def learned(self, draws, rollouts, shift=0.0) -> np.ndarray:
        """Width for the learned reward, and a declared shift beyond it at both ends.

        Without a shift it speaks of the learned reward in place of the true one.
        """
        draws, rollouts = np.asarray(draws, float), np.asarray(rollouts, float)
        rows, less = self.moments.rows, np.array([1.0, -1.0])
        mean = (rows.mean @ less)[:, None]
        between, within = (_cut(part @ less @ less) for part in (rows.between, rows.within))
        low, high = self._range(0.0)
        variance = between + within / rollouts
        return self._width(mean, variance, low, high, draws, draws, shift)

    def gold(self, draws, rollouts, labelled, each=1.0) -> np.ndarray:
        """Width with gold labels on some prompts, `each` rows a prompt (theory §3.6).

        The audit's bets learn what the judge is worth: as the best constant lambda and grouping.
        """
        return self._options(draws, rollouts, labelled, each).min(axis=1)

    def expected_weight(self, draws, rollouts, labelled, each) -> float:
        """Lambda of the narrowest option for one plan; the smallest within 1% of it."""
        widths = self._options([draws], [rollouts], [labelled], [each])[0, :, 0]
        return float(self._parts.weights[np.argmax(widths <= 1.01 * widths.min())])

    def _options(self, draws, rollouts, labelled, each) -> np.ndarray:
        """Width for every lambda, the better of groups and none; shape (sets, lambdas, designs)."""
        draws, rollouts, labelled, each = np.broadcast_arrays(
            *(np.asarray(item, float) for item in (draws, rollouts, labelled, each))
        )
        parts, weights = self._parts, self._parts.weights[:, None]
        share = np.minimum(labelled / np.maximum(draws, 1e-300), 1.0)
        residual, own, spread = parts.variances(rollouts, each)
        # Draws labelled whole: lambda cancels on them where no others enter.
        reach = np.where(each == rollouts, 0.0, weights)
        best = math.inf
        for extra, span in ((own, reach), (share * np.maximum(spread, 0.0), weights)):
            variance = np.maximum(residual + extra, 0.0)
            low, high = self._range(span)
            width = self._width(parts.mean, variance, low, high, labelled, draws)
            best = np.minimum(best, width)
        return best

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
        nothing = (below >= mean - floor) & (above >= ceiling - mean)
        below, above = np.minimum(below, mean - floor), np.minimum(above, ceiling - mean)
        width = np.maximum(below, 0.0) + np.maximum(above, 0.0)
        # Plans that say nothing are equal to the last bit, so that the cheapest of them is taken.
        return np.where(nothing, ceiling - floor, width)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Between and within parts of the variance of a rectifier block, for every lambda.

    A block is a + s c + (1 - s) (mean of others' c) with a = mean_labelled(r* - lambda r) and
    c = mean(lambda r - cost): its variance is Var a + s (2 Cov + Var c), where the share s is
    1 / (1 + group) with groups and 1 without. Pairs (between, within), shape (sets, lambdas).
    """

    weights: np.ndarray
    mean: np.ndarray  # of a block, shape (sets, 1, 1)
    a: tuple[np.ndarray, np.ndarray]
    mine: tuple[np.ndarray, np.ndarray]  # c on labelled draws
    others: tuple[np.ndarray, np.ndarray]  # c on all draws
    cross: tuple[np.ndarray, np.ndarray]
    split: bool

    def variances(self, rollouts, each):
        """Var a, and 2 Cov + Var c without and with groups; shape (sets, lambdas, designs)."""
        if self.split:
            residual = _cut(self.a[0]) + _cut(self.a[1]) / each
        else:
            residual = _cut(self.a[0] + self.a[1]) + 0.0 * each
        mine = _cut(self.mine[0]) + _cut(self.mine[1]) / rollouts
        others = _cut(self.others[0]) + _cut(self.others[1]) / rollouts
        cross = self.cross[0][..., None] + self.cross[1][..., None] / rollouts
        most = np.sqrt(residual * mine)
        cross = 2 * np.clip(cross, -most, most)
        return residual, mine + cross, others + cross


def _gold_parts(moments: PilotMoments) -> _Parts:
    gold, rows = moments.gold, moments.rows
    if gold is None:
        # Without gold in the pilot the learned reward stands in for it, at lambda = 0.
        weights = np.zeros(1)
        first, second = np.array([[1.0, 0.0]]), np.array([[0.0, -1.0]])
        labels = mine = rows
        cross, split = (rows.between, rows.within), True
    else:
        weights = np.array(WEIGHTS)
        one = np.ones_like(weights)
        first, second = np.stack([one, -weights], axis=1), np.stack([weights, -one], axis=1)
        labels, mine = gold.of_labels, gold.of_rows
        cross, split = (gold.cross_between, gold.cross_within), gold.split

    def both(matrices, left, right):
        return tuple(np.einsum("bij,li,lj->bl", matrix, left, right) for matrix in matrices)

    return _Parts(
        weights=weights,
        mean=(labels.mean[:, 0] - mine.mean[:, 1])[:, None, None],
        a=both((labels.between, labels.within), first, first),
        mine=both((mine.between, mine.within), second, second),
        others=both((rows.between, rows.within), second, second),
        cross=both(cross, first, second),
        split=split,
    )


def _cut(values: np.ndarray) -> np.ndarray:
    """At least 0, with an axis for designs."""
    return np.maximum(values, 0.0)[..., None]

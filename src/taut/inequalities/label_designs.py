"""How labels were drawn, and the rectifier blocks that this makes (theory §2, §3.6).

Everywhere rows stand draw after draw, draws in the order of the bets; `gold` is NaN where a row has
no label and lies in [0, 1]; `judge` is on any scale; `cost` is subtracted from gold and known for
every row (beta l^tau). Which draws are labelled is blind to everything (or of recorded chances),
and which rows of a labelled draw is blind to its outcomes. Each function says why its blocks have
the wanted mean mu = E over draws of (mean over rows of (r* - cost)), whatever fixed g is put in;
the blocks before may have chosen it (`rectifier`).
"""

from dataclasses import dataclass, replace

import numpy as np

from taut.errors import AssumptionError
from taut.inequalities.rectifier import RectifierBlocks

_FEW_BINARY = 60  # labels below which declared 0/1 gold is left to the exact binomial


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledDraws:
    """Rows of draws, some of them labelled; see the module docstring.

    Attributes:
        gold: Shape (rows,), in [0, 1]; NaN where there is no label.
        starts: Where each draw's rows begin, shape (draws + 1,); no draw is empty.
        judge: Shape (rows,); None without a judge.
        cost: Shape (rows,), units of gold; None where nothing is subtracted.
        cost_range: Least and largest possible cost.
    """

    gold: np.ndarray
    starts: np.ndarray
    judge: np.ndarray | None = None
    cost: np.ndarray | None = None
    cost_range: tuple[float, float] = (0.0, 0.0)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each draw, shape (draws,)."""
        return np.diff(self.starts)

    @property
    def counts(self) -> np.ndarray:
        """Labelled rows of each draw, shape (draws,)."""
        return self._sums(~np.isnan(self.gold))

    @property
    def range(self) -> tuple[float, float]:
        """Range of gold less cost."""
        return -self.cost_range[1], 1.0 - self.cost_range[0]

    def gold_means(self) -> np.ndarray:
        """Mean gold of the labelled rows of each draw, shape (draws,); 0 where none is labelled."""
        totals = self._sums(np.nan_to_num(self.gold, nan=0.0))
        return np.clip(totals / np.maximum(self.counts, 1), 0.0, 1.0)

    def cost_means(self) -> np.ndarray:
        """Mean cost of each draw, shape (draws,)."""
        if self.cost is None:
            return np.zeros(len(self.starts) - 1)
        return np.clip(self._sums(self.cost) / self.sizes, *self.cost_range)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values.astype(np.float64), self.starts[:-1])


def deal_draws(labelled: np.ndarray) -> np.ndarray:
    """Return the block of each draw: each labelled draw has its own, the others are dealt evenly.

    Unlabelled draws go to the labelled ones in order, in numbers that differ by at most one: by
    position alone, and never by value.

    Args:
        labelled: Which draws are labelled, bool, shape (draws,).
    """
    blocks = np.empty(len(labelled), dtype=np.int64)
    m, others = int(labelled.sum()), int((~labelled).sum())
    blocks[labelled] = np.arange(m)
    edges = np.linspace(0, others, m + 1).round().astype(np.int64)
    blocks[~labelled] = np.repeat(np.arange(m), np.diff(edges))
    return blocks


def labelled_blocks(
    draws: LabelledDraws,
    *,
    block: np.ndarray | None = None,
    labelled_share: float = 0.0,
    stratum: np.ndarray | None = None,
    shares: np.ndarray | None = None,
) -> RectifierBlocks:
    """Blocks of one labelled draw and its group of unlabelled ones; one of each stratum if any.

    B = sum_h w_h [mean_labelled(r* - g) + mean over draw and group of (mean over rows of g)] - cost
    over the block. One stratum: the labelled rows of a draw are blind to its outcomes, so
    E mean_labelled(r* - g) = E (mean over its rows of r* - g); the group's draws have the labelled
    one's law, so the mean of g over both, *each draw once*, has the mean E g, and E B = mu. Several
    strata: within stratum h the same gives mu_h, and sum_h w_h mu_h = mu if w_h are the shares of
    the *population*. Without shares, a block must be fresh draws of the whole population, one
    labelled at random in each stratum met; w_h = (its draws in h)/(its draws), and given the draws
    the labels' mean is that of all of them. Strata need blocks: one label after the other is no
    such sequence (strata with r* = 0 and r* = 1 raise the expected fortune by half in two steps).

    Range: the labelled rows are part of the draw and of the block, so that they weigh at most
    a = sum_h w_h (1 - labelled_share / draws of h in the block) against g: with every draw labelled
    whole, B is gold alone. The other draws are independent of the labelled ones: their g and cost
    are a part of their own. Without shares which strata a block meets is chance that moves both
    parts: they are one then, and a is at most 1 - labelled_share / draws of the block.

    Args:
        draws: All draws, in the order of the bets.
        block: Block of each draw, shape (draws,): one labelled draw (of each stratum) in each, -1
            for draws left out; default `deal_draws`. Fixed without regard to values.
        labelled_share: Least share of its rows that a labelled draw has labelled, by design: 1
            where draws are labelled whole.
        stratum: Stratum of each draw, from 0, shape (draws,).
        shares: Share of each stratum in the population, known beforehand, shape (strata,).

    Raises:
        AssumptionError: A block without a labelled draw of a stratum or with two of one, a label
            outside [0, 1], a draw with fewer labelled rows than `labelled_share` says.
    """
    labelled = _labelled(draws, labelled_share)
    block = deal_draws(labelled) if block is None else np.asarray(block, dtype=np.int64)
    strata = np.zeros(len(block), dtype=np.int64) if stratum is None else np.asarray(stratum)
    count, kinds = int(block.max()) + 1, int(strata.max()) + 1
    used = block >= 0
    cell = np.where(used, block * kinds + strata, 0)
    in_cell = np.bincount(cell[used], minlength=count * kinds)
    _check_cells(np.bincount(cell[used & labelled], minlength=count * kinds), in_cell, kinds)
    members = np.maximum(in_cell, 1).reshape(count, kinds)
    weights = _stratum_weights(in_cell.reshape(count, kinds), shares, kinds)
    each = (weights / members).ravel()[cell]  # weight of one draw of its cell
    ours = np.where(labelled, weights.ravel()[cell], 0.0)
    if kinds > 1 and shares is None:
        # The strata met move the labelled draws and the others together: one part.
        reach = 1.0 - labelled_share / in_cell.reshape(count, kinds).sum(axis=1)
        return _assemble(draws, block, count, each, ours, against=reach, group=None)
    against = (weights * (1.0 - labelled_share / members)).sum(axis=1)
    group = (weights * (1.0 - 1.0 / members)).sum(axis=1)
    return _assemble(draws, block, count, each, ours, against=against, group=group)


def _labelled(draws: LabelledDraws, share: float) -> np.ndarray:
    """Return which draws are labelled; at least one, and each in at least this share of rows."""
    _check_gold(draws)
    labelled = draws.counts > 0
    if not labelled.any():
        raise AssumptionError("no draw carries a gold label; label some or leave gold out.")
    if np.any(draws.counts[labelled] < share * draws.sizes[labelled] - 1e-9):
        raise AssumptionError(
            f"labelled_share: a labelled draw has less than {share} of its rows labelled; "
            "declare the share that every labelled draw has by design."
        )
    return labelled


def _stratum_weights(in_cell: np.ndarray, shares: np.ndarray | None, kinds: int) -> np.ndarray:
    """Return w_h of each block, shape (blocks, strata)."""
    if shares is None:
        return in_cell / in_cell.sum(axis=1, keepdims=True)
    shares = np.asarray(shares, dtype=np.float64)
    if shares.shape != (kinds,) or np.any(shares < 0) or abs(shares.sum() - 1) > 1e-9:
        raise AssumptionError(
            f"shares: expected {kinds} shares that sum to 1, found {shares}; give each stratum's "
            "share of the population."
        )
    if np.any((in_cell == 0) & (shares > 0)):
        raise AssumptionError(
            "a block lacks a stratum that has a share; give it one label of each."
        )
    return np.broadcast_to(shares, in_cell.shape)


def _check_cells(labels: np.ndarray, in_cell: np.ndarray, kinds: int) -> None:
    wrong = np.flatnonzero((in_cell > 0) & (labels != 1))
    if len(wrong):
        at, stratum = divmod(int(wrong[0]), kinds)
        raise AssumptionError(
            f"block {at} has {labels[wrong[0]]} labelled draws of stratum {stratum}; expected "
            "one. Deal each block one labelled draw of each stratum that it holds."
        )


def _check_gold(draws: LabelledDraws) -> None:
    wrong = np.flatnonzero((draws.gold < 0.0) | (draws.gold > 1.0))
    if len(wrong):
        raise AssumptionError(
            f"row {wrong[0]}: gold is {draws.gold[wrong[0]]}; expected a label in [0, 1]. Map "
            "labels by their declared range first."
        )


def _assemble(draws, block, count, each, ours, *, against, group) -> RectifierBlocks:
    """Sort rows by block; a row's coefficient is its draw's weight over all less over labelled.

    `against` is the most that labelled rows weigh against g, `group` the weight of the unlabelled
    draws: theirs is a part of its own, or (None) one with the labelled draws'.
    """
    low, high = draws.range
    free = draws.cost_range
    used, labelled = block >= 0, draws.counts > 0
    gold = np.bincount(block[used], (ours * draws.gold_means())[used], count)
    cost = each * draws.cost_means()
    split = group is not None
    theirs = group if split else np.zeros(count)
    own_rows = labelled if split else np.ones(len(block), dtype=bool)
    own_cost, group_cost = (
        np.bincount(block[used & rows], cost[used & rows], count) for rows in (own_rows, ~own_rows)
    )
    # Of g: the labelled rows at most -against, the rest of their draws what makes up -group.
    rest = against - theirs if split else against
    starts, stops, judge, coefficient = _rows_by_block(draws, block, count, each, ours)
    return RectifierBlocks(
        value=np.clip(gold - own_cost, -(1 - theirs) * free[1], 1 - (1 - theirs) * free[0]),
        starts=starts,
        judge=judge,
        coefficient=coefficient,
        floor=np.c_[-(1 - theirs) * free[1], rest, -against],
        ceiling=np.c_[1 - (1 - theirs) * free[0], -against, rest],
        low=low,
        high=high,
        stops=stops if split else None,
        group_value=-group_cost if split else None,
        group_floor=np.c_[-theirs * free[1], theirs, np.zeros(count)] if split else None,
        group_ceiling=np.c_[-theirs * free[0], np.zeros(count), theirs] if split else None,
    )


def _rows_by_block(draws, block, count, each, ours):
    """Return starts, where the group begins, judge and coefficients of rows, block after block."""
    if draws.judge is None:
        none = np.zeros(count + 1, dtype=np.int64)
        return none, none[1:], np.empty(0), np.empty(0)
    per_draw = each / draws.sizes
    per_label = ours / np.maximum(draws.counts, 1)
    sizes = draws.sizes
    coefficient = np.repeat(per_draw, sizes)
    coefficient -= np.where(np.isnan(draws.gold), 0.0, np.repeat(per_label, sizes))
    place = np.repeat(2 * block + (draws.counts == 0), sizes)  # labelled draws first
    order = np.argsort(place, kind="stable")
    order = order[np.searchsorted(place[order], 0) :]  # without draws left out
    edges = np.searchsorted(place[order], np.arange(2 * count + 1)).astype(np.int64)
    judge = np.ascontiguousarray(draws.judge[order], dtype=np.float64)
    return edges[::2], edges[1::2], judge, coefficient[order]


def chance_blocks(
    draws: LabelledDraws,
    *,
    block: np.ndarray,
    chance: np.ndarray,
    least: float | np.ndarray,
) -> RectifierBlocks:
    """Blocks of draws of which some are labelled by known chances: active labels among them.

    With G draws in a block, B = mean of g over its draws + sum over its labelled draws of
    mean_labelled(r* - g) / (G * chance) - mean cost. Draw i is labelled with chance q_i given the
    block's judge values and everything before: E[1{labelled} (r* - g) / q_i | its rows] =
    mean over its rows of (r* - g), so E B = mu for any g made of the blocks before and for any q,
    which may be made of the past *and of this block's own judge values*. Two designs fit:

     * *active*: one draw of each block of G fresh draws is labelled, draw i with chance q_i, the
       q_i of a block summing to 1; q_i = 1/G is `labelled_blocks`. At most one draw of a block is
       labelled, so B is at most 1/(G least) + g's part;
     * *independent*: a block is one draw (G = 1), labelled with chance q_i whatever happens to the
       others: rows labelled one by one with chance p give q = 1 - (1 - p)^K.

    A draw passed over has shown its g: to label it later breaks this.

    Args:
        draws: All draws, in the order of the bets.
        block: Block of each draw, rising from 0, shape (draws,); at most one labelled draw each.
        chance: Chance that the draw is labelled, shape (draws,); used where it is.
        least: Smallest chance that the design allows times the draws of its block, G q >= least,
            fixed before the block; in (0, 1], one for all or shape (blocks,).

    Raises:
        AssumptionError: A block with two labelled draws, a chance outside (0, 1] or below what
            `least` says, a label outside [0, 1].

    Source: theory §3.6; Zrnic & Candes (2024), Horvitz & Thompson (1952).
    """
    _check_gold(draws)
    labelled = draws.counts > 0
    block, chance = np.asarray(block, dtype=np.int64), np.asarray(chance, dtype=np.float64)
    count = int(block.max()) + 1
    group = np.bincount(block, minlength=count)
    if np.bincount(block[labelled], minlength=count).max(initial=0) > 1 or group.min() == 0:
        raise AssumptionError(
            "block: expected blocks numbered from 0 without gaps, with at most one labelled draw "
            "each; a design that labels draws independently has one draw a block."
        )
    scaled, least = chance * group[block], np.broadcast_to(np.asarray(least, float), count)
    _check_chances(chance[labelled], scaled[labelled], least, block[labelled])
    each = 1.0 / group[block]
    ours = np.where(labelled, 1.0 / np.where(labelled, scaled, 1.0), 0.0)
    value = np.bincount(block, ours * draws.gold_means(), count)
    value -= np.bincount(block, each * draws.cost_means(), count)
    return _inverse_blocks(draws, block, count, value, each, ours, group, least)


def _check_chances(chance, scaled, least, block) -> None:
    """Raise AssumptionError unless chances are chances and keep to the floor of their block."""
    outside = (chance <= 0.0) | (chance > 1.0 + 1e-12)
    if np.any((least <= 0.0) | (least > 1.0)) or np.any(outside):
        raise AssumptionError(
            "chance, least: expected values in (0, 1], found chances in "
            f"[{chance.min(initial=1.0):g}, {chance.max(initial=1.0):g}], least in "
            f"[{least.min():g}, {least.max():g}]."
        )
    below = np.flatnonzero(scaled < least[block] * (1.0 - 1e-9))
    if len(below):
        at = block[below[0]]
        raise AssumptionError(
            f"block {at}: its labelled draw had a chance of {scaled[below[0]]:g}/G, below the "
            f"{least[at]:g}/G that the design allows; give the design's own floor."
        )


def _inverse_blocks(draws, block, count, value, each, ours, group, least) -> RectifierBlocks:
    """Give chance blocks their range, for any g with values between g_lo and g_hi in [0, 1].

    With J labelled, B + cost = others + g_J / G + (r* - g'_J) / (G q_J) with g_J the mean over all
    rows of J, g'_J that over its labelled rows, and others in (1 - 1/G) [g_lo, g_hi]. As g >= 0
    and G q_J >= least, B is at least g_lo - g_hi / least; as g <= 1, at most
    g_hi + (1 - g_lo) / least. With one row a draw g_J = g'_J has the weight 1/G - 1/(G q_J) <= 0,
    and 1/G is saved at either end. Nothing labelled gives [g_lo, g_hi], which lies within.
    """
    low, high = draws.range
    floor, ceiling = np.zeros((count, 3)), np.zeros((count, 3))
    saved = 1.0 / group if (draws.sizes == 1).all() else np.zeros(count)
    floor[:, 0], ceiling[:, 0] = low, 1.0 / least + (high - 1.0)
    floor[:, 1], floor[:, 2] = 1.0 - saved, saved - 1.0 / least
    ceiling[:, 1], ceiling[:, 2] = saved - 1.0 / least, 1.0 - saved
    starts, _, judge, coefficient = _rows_by_block(draws, block, count, each, ours)
    return RectifierBlocks(
        value=value,
        starts=starts,
        judge=judge,
        coefficient=coefficient,
        floor=floor,
        ceiling=ceiling,
        low=low,
        high=high,
        centred=False,
    )


def difference_blocks(first: RectifierBlocks, second: RectifierBlocks) -> RectifierBlocks:
    """Blocks of the difference of two aligned means: candidates on shared prompts, labelled alike.

    Block t is B1_t - B2_t with one g for both: each has its own mean by its own construction
    whatever g is, so their difference has the difference of the means. Values may depend on each
    other within a block as they like. The range of the mean is that of the difference.

    Args:
        first, second: Blocks of the same draws (block t of both is about the same prompts), both
            centred, in the same units.

    Raises:
        AssumptionError: Different numbers of blocks, or blocks that are not centred.
    """
    if len(first) != len(second) or not (first.centred and second.centred):
        raise AssumptionError(
            f"expected two equally long lists of centred blocks, found {len(first)} and "
            f"{len(second)}; compare candidates on the prompts that both have."
        )
    if (first.stops is None) != (second.stops is None):
        first, second = _one_part(first), _one_part(second)
    split = first.stops is not None
    places = [_places(part) for part in (first, second)]
    order = np.argsort(np.concatenate(places), kind="stable")
    edges = np.searchsorted(np.concatenate(places)[order], np.arange(2 * len(first) + 1))
    return RectifierBlocks(
        value=first.value - second.value,
        starts=edges[::2].astype(np.int64),
        judge=np.r_[first.judge, second.judge][order],
        coefficient=np.r_[first.coefficient, -second.coefficient][order],
        floor=first.floor - second.ceiling,
        ceiling=first.ceiling - second.floor,
        low=first.low - second.high,
        high=first.high - second.low,
        stops=edges[1::2].astype(np.int64) if split else None,
        group_value=first.group_value - second.group_value if split else None,
        group_floor=first.group_floor - second.group_ceiling if split else None,
        group_ceiling=first.group_ceiling - second.group_floor if split else None,
    )


def _places(part: RectifierBlocks) -> np.ndarray:
    """Return twice the block of each row, and one more for rows of its group."""
    stops = part.starts[1:] if part.stops is None else part.stops
    edges = np.empty(2 * len(part) + 1, dtype=np.int64)
    edges[::2], edges[1::2] = part.starts, stops
    return np.repeat(np.arange(2 * len(part)), np.diff(edges))


def _one_part(part: RectifierBlocks) -> RectifierBlocks:
    """Return the same blocks with the group's part joined to the labelled draws'."""
    if part.stops is None:
        return part
    return replace(
        part,
        value=part.value + part.group_value,
        floor=part.floor + part.group_floor,
        ceiling=part.ceiling + part.group_ceiling,
        stops=None,
        group_value=None,
        group_floor=None,
        group_ceiling=None,
    )


def fixed_blocks(
    lower_value: np.ndarray,
    upper_value: np.ndarray,
    *,
    low: float,
    high: float,
    least: float,
    largest: float,
) -> RectifierBlocks:
    """Blocks without a judge to learn from, as a part of `rectifier.joint_interval`.

    For weighted reward data (theory §5): `lower_value` has a mean of at most the wanted one, the
    mean over reward data of u (r* - r) plus that over the policy of (r min(1, M/w) - cost);
    `upper_value` at least: 1 less what bounds it below in 1 - r*. Both in [least, largest].

    Args:
        lower_value, upper_value: For either end, shape (blocks,), in the order of the bets.
        low, high: Range of the mean.
        least, largest: Range of the blocks, known beforehand.
    """
    n = len(lower_value)
    flat = np.zeros((n, 3))
    return RectifierBlocks(
        value=np.asarray(lower_value, dtype=np.float64),
        upper_value=np.asarray(upper_value, dtype=np.float64),
        starts=np.zeros(n + 1, dtype=np.int64),
        judge=np.empty(0),
        coefficient=np.empty(0),
        floor=flat + [least, 0, 0],
        ceiling=flat + [largest, 0, 0],
        low=low,
        high=high,
    )


def exact_binomial_fits(labelled: int, unlabelled: int) -> bool:
    """Whether declared 0/1 gold gets Clopper-Pearson rather than the judge: by counts alone.

    Fixed before the data, so nothing is paid for choosing. With few labels, or few draws beside
    them, a judge takes off at most a few percent; the exact interval of frequent successes is about
    5% narrower than any by bets. One label a draw and one law are the caller's to check.

    Source: theory §2.4b.
    """
    return labelled < _FEW_BINARY or unlabelled < labelled

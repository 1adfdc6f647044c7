"""How much of the spread lies between prompts and how much within them (theory §8.3).

A one-way random-effects model with unequal K: a row of draw i is mu + b_i + w_ij, b between draws
and w within. The estimator weighs draws equally, as the certificate does. The classical one weighs
them by K_i (through K0), which is biased where the spread depends on K_i: .58 for a true 1.0.
"""

from dataclasses import dataclass

import numpy as np

from taut.draws.rollouts import Blocks

# Fewer draws with two rows than this do not say how rows of one draw differ.
FEWEST_REPLICATED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Variance of a row, split; in the squared unit of the values.

    Attributes:
        prompt: Variance between draws of prompts, at least 0.
        rollout: Variance within a draw, averaged over draws; 0 where it is not identified.
        identified: False where (almost) no draw has two rows: `prompt` is then the variance of
            a draw's mean, rollouts included, which is right for the K of the log and no other.
        draws, replicated: How many draws there are, and how many have two rows or more.
        cut: The estimate of `prompt` was below 0.
    """

    prompt: float
    rollout: float
    identified: bool
    draws: int
    replicated: int
    cut: bool

    def of_mean(self, rollouts: float) -> float:
        """Variance of the mean of so many rows of one draw."""
        return self.prompt + self.rollout / rollouts


def variance_components(values: np.ndarray, blocks: Blocks) -> Components:
    """Split the variance of rows into its part between draws and its part within.

    sigma_r^2 is the mean of s_i^2 over the draws with K_i >= 2; sigma_p^2 = Var(Z_i) less the mean
    of s_i^2 / K_i, where a draw with K_i = 1 is taken to have the mean s^2. Unbiased before the cut
    at 0, whatever the law of K_i and however s_i^2 depends on K_i, if every K_i >= 2; with draws of
    one row, if their spread is like that of the others on average.

    Args:
        values: One value per rollout, any unit, shape (rollouts,).
        blocks: The draws, at least one.

    Source: theory §8.3.
    """
    pairs = pair_moments(values[:, None], blocks)
    sizes = blocks.sizes
    replicated = int((sizes >= 2).sum())
    identified = replicated >= FEWEST_REPLICATED
    found = split_moments(pairs, sizes, np.ones((1, len(sizes))))
    between, within = float(found.between[0, 0, 0]), float(found.within[0, 0, 0])
    return Components(
        prompt=max(0.0, between),
        rollout=within,
        identified=identified,
        draws=len(sizes),
        replicated=replicated,
        cut=between < 0,
    )


@dataclass(frozen=True, slots=True)
class PairMoments:
    """What a draw says about means and covariances of several quantities.

    Attributes:
        means: Mean of each quantity, shape (draws, quantities).
        within: Sample covariance of rows (ddof 1), shape (draws, quantities, quantities); 0 for
            draws with one row.
    """

    means: np.ndarray
    within: np.ndarray


def pair_moments(columns: np.ndarray, blocks: Blocks) -> PairMoments:
    """Return means and covariances of rows in each draw.

    Args:
        columns: Shape (rollouts, quantities).
        blocks: The draws.
    """
    sizes = blocks.sizes
    rows = columns[blocks.rows]
    means = np.add.reduceat(rows, blocks.starts[:-1], axis=0) / sizes[:, None]
    left = rows - np.repeat(means, sizes, axis=0)
    products = left[:, :, None] * left[:, None, :]
    sums = np.add.reduceat(products, blocks.starts[:-1], axis=0)
    return PairMoments(means, sums / np.maximum(sizes - 1, 1)[:, None, None])


@dataclass(frozen=True, slots=True)
class SplitMoments:
    """Means and covariances between and within draws, one for each set of weights.

    Attributes:
        mean: Shape (sets, quantities).
        between, within: Shape (sets, quantities, quantities); `between` may be below 0, and holds
            everything where `within` is not identified.
    """

    mean: np.ndarray
    between: np.ndarray
    within: np.ndarray


def split_moments(pairs: PairMoments, sizes: np.ndarray, weights: np.ndarray) -> SplitMoments:
    """Average draws into covariances between and within, as `variance_components` does.

    Args:
        pairs: Of the draws.
        sizes: Rows per draw, shape (draws,).
        weights: How often each draw counts, shape (sets, draws): ones, or bootstrap counts.
    """
    count = weights.sum(axis=1)
    mean = weights @ pairs.means / count[:, None]
    spread = covariance(pairs.means, pairs.means, weights)
    several = sizes >= 2
    if several.sum() < FEWEST_REPLICATED:
        return SplitMoments(mean, spread, np.zeros_like(spread))
    within = _average(weights * several, pairs.within)
    # A draw of one row is taken to spread like the average of the others.
    known = np.einsum("bi,ijk->bjk", weights * several / sizes, pairs.within, optimize=True)
    single = (weights * ~several).sum(axis=1)[:, None, None]
    noise = (known + single * within) / count[:, None, None]
    return SplitMoments(mean, spread - noise, within)


def covariance(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covariance (ddof 1) of two sets of quantities, for each set of weights.

    Args:
        first, second: Shape (draws, quantities), (draws, others).
        weights: How often each draw counts, shape (sets, draws).

    Returns:
        Shape (sets, quantities, others).
    """
    count = weights.sum(axis=1)[:, None]
    # About a common centre first: the square of a large mean would drown a small variance.
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    products = np.einsum("bi,ij,ik->bjk", weights, first, second, optimize=True)
    means = (weights @ first / count)[:, :, None] * (weights @ second / count)[:, None, :]
    return (products / count[:, :, None] - means) * (count / np.maximum(count - 1, 1))[:, :, None]


def _average(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weighted mean over draws, shape (sets, ...); 0 for a set of no weight."""
    total = np.einsum("bi,ijk->bjk", weights, values, optimize=True)
    return total / np.maximum(weights.sum(axis=1), 1e-300)[:, None, None]

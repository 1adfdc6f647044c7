"""PAC-Bayes: intervals for policies that were chosen, or averaged, with the very data they quote.

The price of the choice is KL(Q || P), nats: how far the choice Q moved from a prior P over policies
that was fixed before the evaluation prompts were seen. One event of probability delta then covers
all Q at once.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError, UsageError
from taut.inequalities.concentration import require_delta
from taut.inequalities.divergence import kl_lower, kl_upper
from taut.inequalities.rounding import to_range
from taut.types import Interval

_EPS = float(np.finfo(np.float64).eps)
_MOST = 2**63  # of a count: more are a mistake
_SUM_BELOW = 100_000  # below: the sum itself; from here on a closed form, equal to 15 digits


def log_xi(blocks: int) -> float:
    """Return ln xi(n), nats, xi(n) = sum_k C(n,k) (k/n)^k (1-k/n)^(n-k), never rounded down.

    xi(n) = E exp(n kl(mean || p)) for n coin flips of any bias p in (0, 1); xi(n) <= 2 sqrt(n).
    By Abel's identity it is 1 + Q(n) with Ramanujan's Q(n) = sum_{j>=1} n!/((n-j)! n^j), a sum of
    about sqrt(n) terms that all are positive. For n >= 10^5: Q(n) = n! e^n / (2 n^n) - theta(n),
    with theta(n) >= 1/3 + 4/(135 (n + 8/45)), and Stirling's series cut after a positive term.

    Args:
        blocks: Number of blocks n, at least 1.

    Raises:
        AssumptionError: blocks is not a whole number of at least 1.

    Source: theory §6.1; Maurer (2004); Flajolet, Grabner, Kirschenhofer & Prodinger (1995).
    """
    n = _count("blocks", blocks)
    total = _xi_sum(n) if n < _SUM_BELOW else _xi_above(n)
    return math.log(total) * (1.0 + 4.0 * _EPS)


def pac_bayes_budget(kl: np.ndarray | float, *, blocks: int, delta: float) -> np.ndarray:
    """Return (KL + ln(xi(n)/delta)) / n, nats per block, never rounded down.

    Args:
        kl: KL(Q || P), nats, any shape; infinite allowed.
        blocks: Number of blocks n, at least 1.
        delta: Allowed probability of a miss, in (0, 1).

    Raises:
        AssumptionError: A negative or NaN KL, no blocks, or delta outside (0, 1).

    Source: theory §6.1.
    """
    require_delta(delta)
    price = _divergences(kl)
    return (price + log_xi(blocks) - math.log(delta)) / blocks * (1.0 + 8.0 * _EPS)


def pac_bayes_interval(
    empirical: float,
    *,
    kl: float,
    blocks: int,
    delta: float,
    low: float = 0.0,
    high: float = 1.0,
    draws: int | None = None,
    draws_delta: float | None = None,
) -> Interval:
    """Interval for E_Q of a policy's mean, Q chosen with the data (PAC-Bayes-kl, both sides).

    With probability at least 1 - delta it holds for every Q at once, hence for the one chosen.

    Args:
        empirical: E_Q of the average over blocks, units of [low, high]; with `draws`, its average
            over that many independent draws from Q.
        kl: KL(Q || P), nats; P fixed before the data. Infinite gives the whole range.
        blocks: Independent blocks under each policy; where policies differ, the smallest number.
        delta: Allowed probability of a miss, in (0, 1).
        low, high: Range known before the data that every block keeps to.
        draws, draws_delta: Draws from Q, and the probability spent on them in addition to delta.

    Raises:
        AssumptionError: A value outside its range.
        UsageError: One of draws and draws_delta without the other.

    Example:
        >>> pac_bayes_interval(0.7, kl=math.log(20), blocks=1000, delta=0.05).lower > 0.6
        True

    Source: theory §6.1; Seeger (2002); Maurer (2004); draws: Langford & Caruana (2001).
    """
    lower, upper = pac_bayes_ends(
        empirical,
        kl=kl,
        blocks=blocks,
        delta=delta,
        low=low,
        high=high,
        draws=draws,
        draws_delta=draws_delta,
    )
    return Interval(float(lower), float(upper))


def pac_bayes_ends(
    empirical: np.ndarray | float,
    *,
    kl: np.ndarray | float,
    blocks: int,
    delta: float,
    low: float = 0.0,
    high: float = 1.0,
    draws: int | None = None,
    draws_delta: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends for many choices Q at once; all hold together at 1 - delta.

    Arguments as in `pac_bayes_interval`, with `empirical` and `kl` of any shapes that broadcast.
    With `draws`, draws_delta is spent on *each* average: split it where several are read.

    Source: theory §6.1.
    """
    budget = pac_bayes_budget(kl, blocks=blocks, delta=delta)
    least, most = _unit(empirical, low, high)
    if (draws is None) != (draws_delta is None):
        raise UsageError("draws and draws_delta go together: give both, or neither.")
    if draws is not None and draws_delta is not None:
        price = monte_carlo_price(draws, draws_delta)
        least, most = kl_lower(least, price), kl_upper(most, price)
    return to_range(kl_lower(least, budget), kl_upper(most, budget), low=low, high=high)


def union_ends(
    empirical: np.ndarray | float,
    *,
    prior: np.ndarray | float,
    blocks: np.ndarray | int,
    delta: float,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return simultaneous ends for finitely many policies: kl(mean || q) <= ln(2/(delta p))/n.

    A direct union over M candidates is slightly tighter than PAC-Bayes with KL = ln M: it pays
    ln 2 where the latter pays ln xi(n). Betting intervals at delta / M are tighter still where
    blocks vary little; PAC-Bayes is for averages over policies, and for classes that are infinite.

    Args:
        empirical: Average over blocks of each policy, shape (policies,), units of [low, high].
        prior: Share p of delta for each policy, fixed before the data, broadcast; sum at most 1.
            For M candidates alike: 1 / M.
        blocks: Independent blocks of each policy, broadcast.
        delta: Allowed probability that any of the intervals misses, in (0, 1).
        low, high: Range known before the data.

    Raises:
        AssumptionError: Shares that are not in (0, 1] or sum to more than 1, or as above.

    Source: theory §6.3, §2.2.
    """
    require_delta(delta)
    least, most = _unit(empirical, low, high)
    shares = np.broadcast_to(np.asarray(prior, dtype=np.float64), least.shape)
    if not np.all((shares > 0) & (shares <= 1)) or shares.sum() > 1 + 1e-9:
        raise AssumptionError(
            f"prior: expected shares in (0, 1] that sum to at most 1, found {shares} with sum "
            f"{shares.sum()}; for M candidates alike give 1 / M."
        )
    counts = np.array([_count("blocks", n) for n in np.ravel(blocks)]).reshape(np.shape(blocks))
    budget = (math.log(2.0 / delta) - np.log(shares)) / counts * (1.0 + 8.0 * _EPS)
    return to_range(kl_lower(least, budget), kl_upper(most, budget), low=low, high=high)


def monte_carlo_price(draws: int, delta: float) -> float:
    """Return ln(2/delta)/S: the kl, nats, that an average over S draws from Q may be off by.

    Args:
        draws: Independent draws S from Q, at least 1.
        delta: Probability spent, in (0, 1).

    Source: theory §6.4; Langford & Caruana (2001).
    """
    require_delta(delta)
    return math.log(2.0 / delta) / _count("draws", draws) * (1.0 + 4.0 * _EPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperPacBayes:
    """The paper's Theorem 2: half-widths for E_Q |J-hat - J*|, reward units.

    Attributes:
        sampling: Prompt and rollout parts together.
        reward_shift: E_Q[C(theta)] sqrt(L); None where either is not known.
        kl_clipping: beta E_Q E_theta |l - l^tau|; None where it is not known.
        total: Sum of the three; None where a part is missing.
    """

    sampling: float
    reward_shift: float | None
    kl_clipping: float | None
    total: float | None


def paper_pac_bayes(
    *,
    kl: float,
    prompts: int,
    rollouts_per_prompt: float | np.ndarray,
    delta: float,
    width: float = 1.0,
    mean_coverage: float | None = None,
    reward_mse: float | None = None,
    beta: float = 0.0,
    mean_clipped_excess: float | None = None,
) -> PaperPacBayes:
    """Return the paper's two-term PAC-Bayes bound, each of its terms, for comparison.

    Args:
        kl: KL(Q || P), nats.
        prompts: n.
        rollouts_per_prompt: K, or K_i of shape (prompts,). For unequal K_i see below.
        delta: Allowed probability of a miss, half of it for prompts, half for rollouts.
        width: W = 1 + 2 beta tau, reward units.
        mean_coverage: E_Q[C(theta)], at least 1.
        reward_mse: L, squared reward units.
        beta: KL strength, reward units per nat.
        mean_clipped_excess: E_Q E_theta |l - l^tau|, nats; not needed where beta is 0.

    Raises:
        AssumptionError: A value outside its range.

    Source: theory §6.2; arXiv 2602.21765, Theorem 2; constants ours. The prompt part bounds
    E_Q|gap| by Maurer (2004) and Jensen. So does the rollout part for equal K, where the nK
    rollouts, independent given the prompts but not of one law, are no worse than a binomial
    (Hoeffding 1956, Theorem 3). For unequal K_i the gap is sub-Gaussian with variance factor
    W^2/(4m), m = n^2 / sum(1/K_i), and E exp(s gap^2) <= (1 - s W^2/(2m))^(-1/2) at
    s = 2(m-1)/W^2 gives E_Q gap^2 <= W^2 (KL + ln(2 sqrt(m)/delta)) / (2(m-1)).
    """
    require_delta(delta)
    price, n = float(_divergences(kl)), _count("prompts", prompts)
    _at_least("width", width, 0.0)
    parts = _prompt_part(price, n, delta) + _rollout_part(price, n, rollouts_per_prompt, delta)
    sampling = width * parts if width > 0.0 else 0.0
    shift = clipping = total = None
    if mean_coverage is not None and reward_mse is not None:
        coverage = _at_least("mean_coverage", mean_coverage, 1.0)
        shift = coverage * math.sqrt(_at_least("reward_mse", reward_mse, 0.0))
    if _at_least("beta", beta, 0.0) == 0.0:
        clipping = 0.0
    elif mean_clipped_excess is not None:
        clipping = beta * _at_least("mean_clipped_excess", mean_clipped_excess, 0.0)
    if shift is not None and clipping is not None:
        total = sampling + shift + clipping
    return PaperPacBayes(sampling=sampling, reward_shift=shift, kl_clipping=clipping, total=total)


# More rollouts than doubles can count: both parts fall in them, so fewer bound no less.
_MOST = 1e300


def _prompt_part(kl: float, n: float, delta: float) -> float:
    return math.sqrt((kl + math.log(4.0 * math.sqrt(n) / delta)) / (2.0 * n))


def _rollout_part(kl: float, n: int, rollouts: float | np.ndarray, delta: float) -> float:
    sizes = np.asarray(rollouts, dtype=np.float64)
    if sizes.shape not in ((), (n,)) or not np.all(np.isfinite(sizes) & (sizes >= 1)):
        raise AssumptionError(
            f"rollouts_per_prompt: expected at least one for each of {n} prompts, found shape "
            f"{sizes.shape}; count the rollouts of every prompt."
        )
    if np.ptp(sizes) == 0:
        return _prompt_part(kl, min(n * float(sizes.flat[0]), _MOST), delta)
    m = min(
        n / float(np.mean(1.0 / sizes)), _MOST
    )  # above n, hence above 1, as some K_i is above 1
    return math.sqrt((kl + math.log(2.0 * math.sqrt(m) / delta)) / (2.0 * (m - 1.0)))


def _xi_sum(n: int) -> float:
    # The j-th term is the product of 1 - i/n over i < j, at most exp(-j(j-1)/(2n)).
    terms = min(n, math.ceil(math.sqrt(92.0 * n)) + 2)
    products = np.cumprod(1.0 - np.arange(terms) / n)
    # Ratios fall, so what is left out is below a geometric series; it is 0 where terms = n.
    rest = 0.0 if terms == n else float(products[-1]) * n / terms
    # Each factor is off by at most 1.5 units in the last place, the running product by one more.
    slack = 2.5 * _EPS * float(np.arange(terms) @ products)
    return (1.0 + math.fsum(products) + rest + slack) * (1.0 + 2.0 * _EPS)


def _xi_above(n: int) -> float:
    theta = 1.0 / 3.0 + 4.0 / (135.0 * (n + 8.0 / 45.0))
    stirling = math.exp(1.0 / (12.0 * n) - 1.0 / (360.0 * n**3) + 1.0 / (1260.0 * n**5))
    return (1.0 - theta + math.sqrt(math.pi * n / 2.0) * stirling) * (1.0 + 8.0 * _EPS)


def _unit(values: np.ndarray | float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values on [0, 1], rounded down and up by what averaging and mapping may cost."""
    width = high - low
    if not (low < high and math.isfinite(width)):
        raise AssumptionError(f"range: expected finite low < high, found [{low}, {high}].")
    array = np.asarray(values, dtype=np.float64)
    slack = 4.0 * _EPS * max(abs(low), abs(high), width)
    if not np.all((array >= low - slack) & (array <= high + slack)):
        raise AssumptionError(
            f"empirical: expected averages in [{low}, {high}], found {array}; declare the range "
            "that every block keeps to."
        )
    unit, slack = (array - low) / width, max(slack / width, 4.0 * _EPS)
    return np.clip(unit - slack, 0.0, 1.0), np.clip(unit + slack, 0.0, 1.0)


def _divergences(kl: np.ndarray | float) -> np.ndarray:
    array = np.asarray(kl, dtype=np.float64)
    if not np.all(array >= 0.0):
        raise AssumptionError(f"kl: expected nats, at least 0, found {array}.")
    return array


def _count(name: str, value: int) -> int:
    if not (1 <= value <= _MOST and value == math.floor(value)):
        raise AssumptionError(f"{name}: expected a whole number in 1..2^63, found {value}.")
    return int(value)


def _at_least(name: str, value: float, least: float) -> float:
    if not (value >= least and math.isfinite(value)):
        raise AssumptionError(f"{name}: expected a finite value of at least {least}: {value}.")
    return float(value)

"""How well reward data cover a policy: density ratios and what is wrong with them (theory §3.7).

The weight of a row is w = pi_theta(y|x) / pi_b(y|x). A sample of weights says little where the
reward data miss a region that the policy visits: all sampled weights are tiny there, and plug-in
coverage is near zero. So everything here is a diagnostic; bounds are made in `taut.bounds`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError

_BETS = 2.0 ** -np.arange(1, 9)
# log w is cut here: e^300 squares without overflow, and no sum can miss it.
_LOG_WEIGHT_MAX = 300.0


def mixture_logprob(logprobs: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    """Return the log-prob of each row under a known mixture of behaviour policies, nats.

    Args:
        logprobs: One array of shape (rows,) per behaviour policy, nats, on all rows.
        shares: Share of the reward data that each policy made; positive, summing to 1.

    Raises:
        AssumptionError: Shares that are not a distribution, or a wrong count.

    Source: theory §1 (D_train of a mixed behaviour policy).
    """
    weights = np.asarray(shares, dtype=np.float64)
    if len(logprobs) != len(weights) or len(weights) == 0:
        raise AssumptionError(
            f"expected one share per behaviour policy, found {len(weights)} for {len(logprobs)}."
        )
    if not (weights > 0).all() or abs(weights.sum() - 1) > 1e-9:
        raise AssumptionError(
            f"behaviour shares {list(shares)} sum to {weights.sum():g}; expected positive shares "
            "that sum to 1."
        )
    stacked = np.stack([np.asarray(column, dtype=np.float64) for column in logprobs])
    return np.logaddexp.reduce(stacked + np.log(weights)[:, None], axis=0)


def density_ratio(policy_logprob: np.ndarray, behaviour_logprob: np.ndarray) -> np.ndarray:
    """Return w = exp(policy - behaviour) per row, cut at e^300 (theory §1)."""
    return np.exp(np.minimum(policy_logprob - behaviour_logprob, _LOG_WEIGHT_MAX))


@dataclass(frozen=True, slots=True)
class WeightDiagnostics:
    """What a sample of weights looks like; estimates, beside every density route (theory §3.7).

    Attributes:
        effective_sample_size: (sum w)^2 / sum w^2 over draws.
        largest_share: Largest weight over their sum, a probability.
        mean: Mean weight; 1 is expected where the data cover the policy, never more.
        log_e_value: ln of the e-value against E w <= 1; large means wrong log-probs.
        pareto_k: Tail shape; above 0.7 the mean of w itself is out of reach. None where the
            largest weights are all tied: then the tail is bounded.
        plug_in_coverage: sqrt(mean w^2), the plug-in C: never to be used in a bound.
    """

    effective_sample_size: float
    largest_share: float
    mean: float
    log_e_value: float
    pareto_k: float | None
    plug_in_coverage: float


def describe_weights(weights: np.ndarray) -> WeightDiagnostics:
    """Describe the weights of independent draws (block means), shape (draws,).

    Source: theory §3.7; Vehtari et al. (2024) for the Pareto shape.
    """
    top = float(weights.max(initial=0.0))
    scaled = weights / top if top > 0 else weights  # squares must not overflow
    total = float(scaled.sum())
    squares = float((scaled**2).sum())
    with np.errstate(over="ignore"):
        plug_in = top * math.sqrt(squares / max(len(weights), 1))
    return WeightDiagnostics(
        effective_sample_size=total**2 / squares if squares > 0 else 0.0,
        largest_share=1.0 / total if total > 0 else 0.0,
        mean=float(weights.mean()) if len(weights) else 0.0,
        log_e_value=log_e_value_of_mean(weights),
        pareto_k=pareto_shape(weights),
        plug_in_coverage=plug_in,
    )


def log_e_value_of_mean(ratios: np.ndarray) -> float:
    """Return ln of an e-value against E ratio <= 1 for independent nonnegative ratios.

    Constant bets, mixed evenly; under the claim it exceeds ln(1/p) with probability at most p.
    Source: theory §3.7, §4.6.
    """
    capitals = [float(np.log1p(bet * (ratios - 1)).sum()) for bet in _BETS]
    return float(np.logaddexp.reduce(capitals) - math.log(len(capitals)))


def pareto_shape(weights: np.ndarray) -> float | None:
    """Return the generalised-Pareto shape of the largest weights, or None if they are tied.

    The tail holds the largest min(n/5, 3 sqrt(n)) weights. Ties among them are no evidence of a
    light tail: a tail with a single distinct value has no shape.

    Source: theory §3.7; the estimator is that of Zhang & Stephens (2009).
    """
    count = math.ceil(min(len(weights) / 5, 3 * math.sqrt(len(weights))))
    if count < 5:
        return None
    ordered = np.sort(weights)
    excess = ordered[-count:] - ordered[-count - 1]
    excess = excess[excess > 0]
    if len(excess) < 5 or excess[-1] == excess[0]:
        return None
    return _zhang_stephens(excess / excess[-1])


def _zhang_stephens(excess: np.ndarray) -> float:
    """Shape of a generalised Pareto sample, ascending, by the profile-likelihood posterior mean."""
    n = len(excess)
    points = 30 + math.isqrt(n)
    quartile = excess[int(n / 4 + 0.5) - 1]
    grid = 1 / excess[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (
        3 * quartile
    )
    shapes = np.log1p(-grid[:, None] * excess).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    likelihood = np.where(np.isfinite(likelihood), likelihood, -math.inf)
    posterior = np.exp(likelihood - likelihood.max())
    rate = float((grid * posterior).sum() / posterior.sum())
    shape = float(np.log1p(-rate * excess).mean())
    # A weak prior towards 1/2 steadies short tails (Vehtari et al.).
    return (n * shape + 5.0) / (n + 10.0)


def coverage_floor(log_weights_on_policy: np.ndarray) -> float:
    """Return exp(KL/2), an estimated lower bound on C from the audited rollouts themselves.

    Args:
        log_weights_on_policy: log w per draw under the policy, nats, shape (draws,).

    Source: theory §3.7: C >= exp(KL(D_theta || D_train) / 2).
    """
    return math.exp(min(float(log_weights_on_policy.mean()) / 2, _LOG_WEIGHT_MAX))


def noise_floor(weights: np.ndarray) -> float | None:
    """Return the 95% quantile of |log w| where policies are the same but for numerical noise, nats.

    Log-probs computed twice differ by kernel noise; a control of identical policies measures how
    much. Most of its weights are exactly 1; None where they are not.

    Source: theory §3.7.
    """
    if len(weights) == 0 or (weights == 1).mean() < 0.5:
        return None
    with np.errstate(divide="ignore"):
        return float(np.quantile(np.abs(np.log(weights)), 0.95))


def mahalanobis_shift(deployment: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Return the shift of mean features: Delta and the share of it outside the data's range.

    Args:
        deployment, train: Block means of features, shapes (draws, features).

    Returns:
        Delta = sqrt((mu_theta - mu_tr)^T Cov_tr^+ (mu_theta - mu_tr)), with the bias of the
        plug-in removed, and the share of |mu_theta - mu_tr|^2 outside the range of Cov_tr.

    Raises:
        AssumptionError: Features of different lengths, or fewer draws than features.

    Source: theory §3.5.
    """
    if deployment.ndim != 2 or train.ndim != 2 or deployment.shape[1] != train.shape[1]:
        raise AssumptionError(
            f"features of shape {deployment.shape} and {train.shape}; expected the same length."
        )
    draws, length = train.shape
    if draws <= length + 1:
        raise AssumptionError(
            f"{draws} draws of reward data for {length} features; expected more draws than "
            "features. Use fewer features, or the score alone."
        )
    difference = deployment.mean(axis=0) - train.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(train, rowvar=False)))
    kept = values > values.max(initial=0.0) * 1e-10
    along = vectors.T @ difference
    squared = float((along[kept] ** 2 / values[kept]).sum())
    outside = float((along[~kept] ** 2).sum()) / max(float((difference**2).sum()), 1e-300)
    rank = int(kept.sum())
    noise = rank * (1 / draws + 1 / max(len(deployment), 1))
    return math.sqrt(max(0.0, squared - noise)), outside

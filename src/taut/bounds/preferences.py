"""L from preference pairs: how wrong a linear reward head is that was fitted to them (theory §3.8).

Pairs fix the target reward only up to a constant per prompt, so everything here speaks of the
*centred* error: e minus its mean over the responses to the same prompt. With r* shifted so that
this mean is zero on the reward data, E e = 0 there and L is the whole of E e^2; how far the reward
model is off from one prompt to the next is not in the pairs at all. What this L does bound is a
comparison on shared prompts: |E_theta e - E_train e| <= sqrt(chi^2 L).

Nothing here is certified: the covariance of a fitted head is a large-sample approximation.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError, UsageError
from taut.types import Status

_STEPS = 100  # Newton needs about ten where a finite optimum exists
_HALVINGS = 60
# Least share of its largest possible information that each direction must keep.
_LEAST_INFORMATION = 1e-10
_RANK = 1e-10  # singular values below this share of the largest count as zero
_FEWEST_REFITS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadFit:
    """A Bradley-Terry head: P(a preferred to b) = sigmoid(w . (phi_a - phi_b)).

    Attributes:
        weights: w, log-odds per unit of feature, shape (features,); zero along directions in which
            no pair differs.
        covariance: Approximate covariance of w, shape (features, features): the inverse Fisher
            information, or with a ridge the inverse of information + ridge.
        sandwich: The same without trust in the labels' law or, across pairs of one group, in their
            independence: H^-1 (sum of squared scores) H^-1.
        basis: Orthonormal directions that the pairs identify, shape (features, identified).
        pairs: Number of pairs.
        ridge: Penalty ridge/2 |w|^2 of the fit; 0 is maximum likelihood.
    """

    weights: np.ndarray
    covariance: np.ndarray
    sandwich: np.ndarray
    basis: np.ndarray
    pairs: int
    ridge: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceMSE:
    """Estimate of L = E_train[e^2] for the centred error of a fitted head.

    Attributes:
        estimate: tr(Sigma Cov(phi)), in `unit`.
        standard_error: Approximate standard deviation of the error of *this* head around it.
        upper: Approximate (1 - delta)-quantile of the error of this head; no guarantee.
        delta: Level of `upper`, probability.
        sandwich_ratio: L from the sandwich over L. Above 1 where labels of one group repeat one
            another or fly in the face of the fitted odds: then trust neither. Near 1 proves little.
        unit: "log-odds squared", or "unit reward squared" where a range was declared.
        pairs, ridge: As in `HeadFit`.
        status: Always estimated.
        assumes: What must hold for it to mean anything.
        source: Where the formula comes from.
    """

    estimate: float
    standard_error: float
    upper: float
    delta: float
    sandwich_ratio: float
    unit: str
    pairs: int
    ridge: float
    status: Status = Status.ESTIMATED
    assumes: tuple[str, ...] = ()
    source: str = "theory §3.8"


def fit_head(
    differences: np.ndarray, *, ridge: float = 0.0, group: np.ndarray | None = None
) -> HeadFit:
    """Fit a linear Bradley-Terry head by (penalised) maximum likelihood.

    Args:
        differences: phi(preferred) - phi(other), shape (pairs, features).
        ridge: Penalty ridge/2 |w|^2, at least 0, per squared unit of w; recorded in the result.
        group: Key of the ranking or source whose pairs are not independent of one another, shape
            (pairs,); only `sandwich` takes it into account.

    Raises:
        AssumptionError: No pair, a value that is not finite, or pairs that some w orders without
            an error while the ridge is 0: no finite optimum exists (Albert & Anderson 1984).
        UsageError: A negative ridge.

    Source: theory §3.8; Bradley & Terry (1952). With ridge > 0 the covariance (I + ridge)^-1
    bounds the mean squared error, bias included, wherever |w|^2 <= 1/ridge:
    ridge^2 w w' <= ridge Id in the order of matrices.
    """
    x = _checked(differences)
    if not (math.isfinite(ridge) and ridge >= 0):
        raise UsageError(f"ridge is {ridge}; expected a finite number of at least 0.")
    basis = np.eye(x.shape[1]) if ridge > 0 else _row_space(x)
    seen = x @ basis
    weights = _newton(seen, ridge)
    information = head_information(seen, weights)
    _refuse_separation(seen, information, ridge)
    inverse = np.linalg.inv(information + ridge * np.eye(len(weights)))
    scores = _score_products(seen, weights, group)
    return HeadFit(
        weights=basis @ weights,
        covariance=basis @ inverse @ basis.T,
        sandwich=basis @ (inverse @ scores @ inverse) @ basis.T,
        basis=basis,
        pairs=len(x),
        ridge=float(ridge),
    )


def head_information(differences: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the Fisher information sum_i p_i (1 - p_i) d_i d_i', shape (features, features).

    Args:
        differences: d_i, shape (pairs, features).
        weights: w, log-odds per unit of feature, shape (features,).

    Source: theory §3.8.
    """
    logits = differences @ weights
    spread = _sigmoid(logits) * _sigmoid(-logits)
    return (differences * spread[:, None]).T @ differences


def pair_covariance(differences: np.ndarray) -> np.ndarray:
    """Return E Cov(phi | prompt) for pairs of two independent responses to one prompt.

    Half the mean of d d', as d = phi_a - phi_b has twice the covariance of either, and no mean.

    Args:
        differences: d, shape (pairs, features), of either sign.
    """
    x = _checked(differences)
    return x.T @ x / (2 * len(x))


def within_prompt_covariance(features: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return E Cov(phi | prompt), prompts weighted equally, from prompts with two rows or more.

    Args:
        features: phi, shape (rows, features).
        prompt: Key of each row's prompt, shape (rows,).

    Raises:
        AssumptionError: Shapes differ, a value is not finite, or no prompt has two rows.
    """
    x = _checked(features)
    if np.shape(prompt) != (len(x),):
        raise AssumptionError(
            f"expected one prompt for each of {len(x)} feature rows, found {np.shape(prompt)}."
        )
    _, index, counts = np.unique(prompt, return_inverse=True, return_counts=True)
    enough = counts >= 2
    if not enough.any():
        raise AssumptionError(
            "every prompt has one row of features; centring needs two or more responses to some "
            "prompts. Leave the features out to use the pairs themselves."
        )
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, index, x)
    centred = x - (means / counts[:, None])[index]
    weight = np.where(enough, 1.0 / np.maximum(counts - 1, 1), 0.0)[index]
    return (centred * weight[:, None]).T @ centred / enough.sum()


def head_mse(
    fit: HeadFit,
    covariance: np.ndarray,
    *,
    reward_range: tuple[float, float] | None = None,
    delta: float = 0.05,
) -> PreferenceMSE:
    """Estimate L = E_train[e^2] of a fitted head: tr(Sigma Cov(phi)).

    The error of one head is (w^ - w)' Cov (w^ - w), about a sum of squared normals with weights
    the eigenvalues of Sigma Cov: its mean is the estimate, its spread the standard error, and its
    quantile is read off the scaled chi-square with the same two moments (Satterthwaite 1946).

    Args:
        fit: The head.
        covariance: Covariance of the features centred per prompt, on the data where the reward
            model is trusted, shape (features, features).
        reward_range: Declared (low, high) of the score w . phi, log-odds: L is then on the unit
            scale, as everywhere else. Clipping to it brings r^ and r* no farther apart.
        delta: Level of `upper`, in (0, 1).

    Raises:
        AssumptionError: The features vary where no pair differs, shapes differ, delta or range is
            out of order.

    Source: theory §3.8.
    """
    width = _width(reward_range)
    if not 0 < delta < 1:
        raise AssumptionError(f"delta is {delta}; expected a probability in (0, 1).")
    _refuse_unseen(fit, covariance)
    product = fit.covariance @ covariance
    estimate = float(np.trace(product)) / width**2
    spread = math.sqrt(max(0.0, 2 * float(np.trace(product @ product)))) / width**2
    robust = float(np.trace(fit.sandwich @ covariance)) / width**2
    return PreferenceMSE(
        estimate=estimate,
        standard_error=spread,
        upper=_scaled_chi_square(estimate, spread, delta),
        delta=delta,
        sandwich_ratio=robust / estimate if estimate > 0 else 1.0,
        unit="log-odds squared" if reward_range is None else "unit reward squared",
        pairs=fit.pairs,
        ridge=fit.ridge,
        assumes=_assumptions(fit),
    )


def bootstrap_head_mse(
    fit: HeadFit,
    differences: np.ndarray,
    covariance: np.ndarray,
    *,
    refits: int,
    rng: np.random.Generator,
    reward_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Refit to labels drawn from the fitted head itself, and return the error of each refit.

    Their mean and quantiles see the curvature that tr(Sigma Cov) leaves out with few pairs. A
    refit whose labels a head separates has no finite optimum: its error is infinite.

    Args:
        fit: The head.
        differences: As in `fit_head`.
        covariance, reward_range: As in `head_mse`.
        refits: Number of refits, at least 20.
        rng: Source of all chance.

    Returns:
        Errors in the unit of `head_mse`, shape (refits,).

    Raises:
        AssumptionError: As in `head_mse`.
        UsageError: Too few refits.

    Source: theory §3.8; parametric bootstrap (Efron & Tibshirani 1993, §6.5).
    """
    if refits < _FEWEST_REFITS:
        raise UsageError(f"{refits} refits; expected at least {_FEWEST_REFITS} for a spread.")
    width = _width(reward_range)
    _refuse_unseen(fit, covariance)
    x = _checked(differences)
    chance = _sigmoid(x @ fit.weights)
    found = np.full(refits, math.inf)
    for index in range(refits):
        sign = np.where(rng.random(len(x)) < chance, 1.0, -1.0)
        try:
            error = fit_head(x * sign[:, None], ridge=fit.ridge).weights - fit.weights
        except AssumptionError:
            continue  # separated: stays infinite
        found[index] = error @ covariance @ error / width**2
    return found


def reward_mse_from_preferences(
    differences: np.ndarray,
    *,
    features: np.ndarray | None = None,
    prompt: np.ndarray | None = None,
    reward_range: tuple[float, float] | None = None,
    ridge: float = 0.0,
    group: np.ndarray | None = None,
    delta: float = 0.05,
) -> PreferenceMSE:
    """Fit a head to preference pairs and estimate the L that goes with it.

    Args:
        differences: phi(preferred) - phi(other), shape (pairs, features).
        features, prompt: phi and prompt key of the reward data's rows, shapes (rows, features) and
            (rows,). Without them the pairs stand for the reward data.
        reward_range, delta: As in `head_mse`.
        ridge, group: As in `fit_head`.

    Raises:
        AssumptionError, UsageError: As in `fit_head`, `head_mse`; or one of features and prompt.

    Source: theory §3.8.
    """
    if (features is None) != (prompt is None):
        raise UsageError("features and prompt go together: centring is per prompt; give both.")
    fit = fit_head(differences, ridge=ridge, group=group)
    if features is None:
        covariance = pair_covariance(differences)
    else:
        covariance = within_prompt_covariance(features, prompt)
    return head_mse(fit, covariance, reward_range=reward_range, delta=delta)


def _assumptions(fit: HeadFit) -> tuple[str, ...]:
    ridge = () if fit.ridge == 0 else (f"the true head has |w|^2 <= {1 / fit.ridge:g} (ridge)",)
    return (
        "the target reward is linear in the features, up to a constant per prompt; an error "
        "outside their span is not seen",
        "labels follow Bradley-Terry, independently given the pair",
        "pairs are many against features",
        "r* is centred per prompt: errors between prompts are not in L",
        *ridge,
    )


def _checked(values: np.ndarray) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise AssumptionError(
            f"expected an array of shape (rows, features) with at least one of each, found "
            f"{x.shape}; give one row per pair or response."
        )
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise AssumptionError(f"row {row} of the features is not finite; fix where it was made.")
    return x


def _width(reward_range: tuple[float, float] | None) -> float:
    if reward_range is None:
        return 1.0
    low, high = reward_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise AssumptionError(f"reward range {reward_range}: expected finite LOW < HIGH, log-odds.")
    return high - low


def _row_space(x: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the directions in which some pair differs, (features, identified)."""
    _, sizes, rows = np.linalg.svd(x, full_matrices=False)
    if sizes[0] == 0:
        raise AssumptionError("the features of every pair agree: no head can tell them apart.")
    return rows[sizes > _RANK * sizes[0]].T


def _refuse_unseen(fit: HeadFit, covariance: np.ndarray) -> None:
    """A direction without pairs has infinite variance: fine only where the features are still."""
    features = len(fit.weights)
    if np.shape(covariance) != (features, features):
        raise AssumptionError(
            f"the head has {features} features, the covariance shape {np.shape(covariance)}; "
            "give both the same features."
        )
    inside = fit.basis.T @ covariance @ fit.basis
    unseen = np.trace(covariance) - np.trace(inside)
    if unseen > 1e-8 * np.trace(covariance):
        raise AssumptionError(
            f"{features - fit.basis.shape[1]} directions of the features vary on the reward data "
            "but between no pair: the head is unknown there. Add pairs, drop features, or set a "
            "ridge."
        )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(logits)


def _score_products(x: np.ndarray, weights: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Sum over groups of s s', where s is the sum of a group's scores."""
    scores = x * _sigmoid(-(x @ weights))[:, None]
    if group is not None:
        if np.shape(group) != (len(x),):
            raise UsageError(f"expected one group for each of {len(x)} pairs: {np.shape(group)}.")
        names, index = np.unique(group, return_inverse=True)
        sums = np.zeros((len(names), x.shape[1]))
        np.add.at(sums, index, scores)
        scores = sums
    return scores.T @ scores


def _loss(x: np.ndarray, weights: np.ndarray, ridge: float) -> float:
    return float(np.logaddexp(0.0, -(x @ weights)).sum()) + 0.5 * ridge * float(weights @ weights)


def _newton(x: np.ndarray, ridge: float) -> np.ndarray:
    """Maximise the penalised likelihood: steps are halved until the loss does not rise."""
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        gradient = x.T @ _sigmoid(-(x @ weights)) - ridge * weights
        hessian = head_information(x, weights) + ridge * np.eye(len(weights))
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        if np.abs(x @ step).max() <= 1e-10 * (1 + np.abs(x @ weights).max()):
            return weights + step
        weights = weights + _damped(x, weights, step, ridge)
    raise _separated(len(x))


def _damped(x: np.ndarray, weights: np.ndarray, step: np.ndarray, ridge: float) -> np.ndarray:
    before = _loss(x, weights, ridge)
    for _ in range(_HALVINGS):
        if _loss(x, weights + step, ridge) <= before * (1 + 1e-12):
            return step
        step = step / 2
    return step


def _refuse_separation(x: np.ndarray, information: np.ndarray, ridge: float) -> None:
    """Refuse a fit whose information is gone in some direction: the optimum is at infinity."""
    if ridge > 0:
        return
    _, sizes, rows = np.linalg.svd(x / 2, full_matrices=False)
    whitened = (rows / sizes[:, None]) @ information @ (rows / sizes[:, None]).T
    if np.linalg.eigvalsh(whitened)[0] < _LEAST_INFORMATION:
        raise _separated(len(x))


def _separated(pairs: int) -> AssumptionError:
    return AssumptionError(
        f"no finite maximum of the likelihood: some head orders all or part of the {pairs} pairs "
        "without an error. Add pairs, drop features, or set a ridge (it is reported)."
    )


def _scaled_chi_square(mean: float, spread: float, delta: float) -> float:
    """Return the (1 - delta)-quantile of a c chi^2_v with this mean and standard deviation."""
    if mean <= 0 or spread <= 0:
        return mean
    from scipy.special import gammaincinv

    shape = (mean / spread) ** 2
    return mean / shape * float(gammaincinv(shape, 1 - delta))

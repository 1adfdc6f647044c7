"""A world: prompts, responses, policies and rewards in full, so that nothing is left to estimate.

Every quantity that a certificate bounds is an expectation over a finite set here and is summed
exactly (theory §9). Rewards live in [0, 1]; tau and log-ratios are in nats.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.errors import AssumptionError

QUANTILE_LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """Prompts x responses with known laws and rewards (theory §1, §9).

    A prompt of the world is a *kind* of prompt. Where `recurring` is true a log shows the kind
    itself as prompt id and tells draws apart by `group`; otherwise each draw has an id of its own.

    Attributes:
        name: The family that made it.
        prompt_probability: rho, probability, shape (prompts,).
        policy, reference, behaviour: Probability of each response given the prompt, shape
            (prompts, responses); the behaviour policy made the reward data.
        reward: Proxy reward r-hat in [0, 1], shape (prompts, responses).
        gold: Target reward r* in [0, 1], shape (prompts, responses).
        n_tokens: Response lengths, shape (prompts, responses).
        beta: KL strength, reward units per nat.
        rollouts_law: P(K = k + 1 | prompt) in column k, shape (prompts, largest K). K may depend on
            the prompt but never on the outcomes.
        recurring: Whether prompt ids recur in a log.
    """

    name: str
    prompt_probability: np.ndarray
    policy: np.ndarray
    reference: np.ndarray
    behaviour: np.ndarray
    reward: np.ndarray
    gold: np.ndarray
    n_tokens: np.ndarray
    beta: float
    rollouts_law: np.ndarray
    recurring: bool = False

    def __post_init__(self):
        shape = self.policy.shape
        for name in ("reference", "behaviour", "reward", "gold", "n_tokens"):
            if getattr(self, name).shape != shape:
                raise AssumptionError(
                    f"world '{self.name}': '{name}' has shape {getattr(self, name).shape}, "
                    f"'policy' {shape}; give every response one value of each."
                )
        for name in ("prompt_probability", "policy", "reference", "behaviour", "rollouts_law"):
            _check_law(self.name, name, getattr(self, name))
        for name in ("reward", "gold"):
            values = getattr(self, name)
            if not (values.min() >= 0 and values.max() <= 1):
                raise AssumptionError(
                    f"world '{self.name}': '{name}' leaves [0, 1]; map it there first."
                )
        if np.any((self.policy > 0) & (self.reference <= 0)):
            raise AssumptionError(
                f"world '{self.name}': the policy gives a response that the reference never gives, "
                "so its log-ratio is infinite; give the reference some mass there."
            )

    @property
    def joint(self) -> np.ndarray:
        """Probability of each (prompt, response) under D_theta, shape (prompts, responses)."""
        return self.prompt_probability[:, None] * self.policy

    @property
    def log_ratio(self) -> np.ndarray:
        """log pi_theta - log pi_ref, nats, shape (prompts, responses); 0 where pi_theta is 0."""
        seen = self.policy > 0
        out = np.zeros_like(self.policy)
        out[seen] = np.log(self.policy[seen]) - np.log(self.reference[seen])
        return out

    @property
    def expected_rollouts(self) -> float:
        """Mean number of rollouts per draw of a prompt, E K."""
        mean_given_prompt = self.rollouts_law @ np.arange(1, self.rollouts_law.shape[1] + 1)
        return math.fsum(self.prompt_probability * mean_given_prompt)


def _check_law(world: str, name: str, law: np.ndarray) -> None:
    total = law.sum(axis=-1)
    if not (law.min() >= 0 and np.allclose(total, 1, rtol=0, atol=1e-12)):
        raise AssumptionError(
            f"world '{world}': '{name}' is not a probability law (smallest entry {law.min()}, sums "
            f"{total.min()} to {total.max()}); normalise its last axis."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a certificate for a world must contain; rewards in [0, 1] units, log-ratios in nats.

    Attributes:
        tau, tau_negative: Where log-ratios were clipped from above and below; infinite for none.
        objective: J* = E_theta[r* - beta l] (theory §1).
        clipped: E_theta[r* - beta clip(l, -tau_negative, tau)].
        reward: E_theta r*.
        proxy_objective, proxy_clipped, proxy_reward: The same with r-hat in place of r*.
        kl, clipped_kl: E_theta l and its clipped form.
        tail, tail_negative: T+ = E(l - tau)_+ and T- = E(-l - tau_negative)_+ (theory §4).
        mean_inverse_ratio: E_theta e^(-l), at most 1 (theory §4.2).
        chi_square, coverage: chi^2(D_theta || D_train) and C (theory §3.1); infinite where the
            behaviour policy misses something that the policy does.
        reward_mse, reward_bias: L = E_train e^2 and E_train e, for e = r-hat - r*.
        log_ratio_min, log_ratio_max, log_ratio_second_moment: Range of l, and E l^2.
        log_ratio_quantiles: Quantiles of l at `QUANTILE_LEVELS`.
    """

    tau: float
    tau_negative: float
    objective: float
    clipped: float
    reward: float
    proxy_objective: float
    proxy_clipped: float
    proxy_reward: float
    kl: float
    clipped_kl: float
    tail: float
    tail_negative: float
    mean_inverse_ratio: float
    chi_square: float
    coverage: float
    reward_mse: float
    reward_bias: float
    log_ratio_min: float
    log_ratio_max: float
    log_ratio_second_moment: float
    log_ratio_quantiles: tuple[float, ...]


def expected(world: World, values: np.ndarray) -> float:
    """Return E_theta of values of shape (prompts, responses), summed without rounding."""
    return math.fsum((world.joint * values).ravel())


def truth(world: World, tau: float | None = None, tau_negative: float | None = None) -> Truth:
    """Return the exact truths of a world.

    Args:
        world: The world.
        tau: Clip threshold of the positive side, nats; None clips nothing.
        tau_negative: Clip threshold of the negative side, nats; None takes `tau`.

    Source: theory §1, §3.1, §4; sums by Shewchuk's algorithm (math.fsum).
    """
    tau = math.inf if tau is None else float(tau)
    tau_negative = tau if tau_negative is None else float(tau_negative)
    ratio = world.log_ratio
    clipped = np.clip(ratio, -tau_negative, tau)
    chi_square = _chi_square(world)
    train = world.prompt_probability[:, None] * world.behaviour
    error = world.reward - world.gold
    seen = ratio[world.joint > 0]
    return Truth(
        tau=tau,
        tau_negative=tau_negative,
        objective=expected(world, world.gold - world.beta * ratio),
        clipped=expected(world, world.gold - world.beta * clipped),
        reward=expected(world, world.gold),
        proxy_objective=expected(world, world.reward - world.beta * ratio),
        proxy_clipped=expected(world, world.reward - world.beta * clipped),
        proxy_reward=expected(world, world.reward),
        kl=expected(world, ratio),
        clipped_kl=expected(world, clipped),
        tail=expected(world, np.maximum(ratio - tau, 0)),
        tail_negative=expected(world, np.maximum(-ratio - tau_negative, 0)),
        mean_inverse_ratio=expected(world, np.exp(-ratio)),
        chi_square=chi_square,
        coverage=math.sqrt(1 + chi_square),
        reward_mse=math.fsum((train * error**2).ravel()),
        reward_bias=math.fsum((train * error).ravel()),
        log_ratio_min=float(seen.min()),
        log_ratio_max=float(seen.max()),
        log_ratio_second_moment=expected(world, ratio**2),
        log_ratio_quantiles=tuple(log_ratio_quantile(world, q) for q in QUANTILE_LEVELS),
    )


def log_ratio_quantile(world: World, probability: float) -> float:
    """Return the smallest t with P_theta(l <= t) >= probability, nats."""
    mass, ratio = world.joint.ravel(), world.log_ratio.ravel()
    order = np.argsort(ratio[mass > 0], kind="stable")
    sorted_ratio, total = ratio[mass > 0][order], np.cumsum(mass[mass > 0][order])
    # A cumulative sum may end a rounding error below 1.
    index = np.searchsorted(total, probability - 1e-12)
    return float(sorted_ratio[min(index, len(sorted_ratio) - 1)])


def _chi_square(world: World) -> float:
    """Return chi^2(D_theta || D_train), infinite without absolute continuity (theory §3.1)."""
    seen = world.joint > 0
    behaviour, policy = world.behaviour[seen], world.policy[seen]
    if np.any(behaviour <= 0):
        return math.inf
    mass = np.broadcast_to(world.prompt_probability[:, None], seen.shape)[seen]
    return max(0.0, math.fsum([*(mass * policy**2 / behaviour), -1.0]))

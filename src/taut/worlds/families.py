"""Families of worlds, each hard for a certificate in a way of its own (theory §9).

Each family takes a Generator, which draws the details that do not define the family, and returns a
World. Same generator state, same world.
"""

import numpy as np

from taut.worlds.world import World


def calibrated(rng: np.random.Generator) -> World:
    """The reward model is right on average: twin responses of mean r-hat, so E_theta e = 0."""
    prompts, pairs = 30, 5
    score = rng.uniform(0.1, 0.9, (prompts, pairs))
    spread = rng.uniform(0, 1, (prompts, pairs)) * np.minimum(score, 1 - score)
    twins = np.stack([score - spread, score + spread], axis=-1).reshape(prompts, 2 * pairs)
    reward, reference = np.repeat(score, 2, axis=1), np.repeat(_laws(rng, prompts, pairs), 2, 1) / 2
    return _world(
        "calibrated",
        rng,
        policy=_tilt(reference, reward, 0.3),
        reference=reference,
        behaviour=_tilt(reference, reward, 0.8),
        reward=reward,
        gold=twins,
        rollouts=4,
    )


def over_optimised(rng: np.random.Generator, *, beta: float = 0.1, pressure: float = 3) -> World:
    """The policy was driven `pressure` times beyond the KL optimum of a flawed reward model.

    pi_theta ~ pi_ref exp(pressure r-hat / beta): it seeks the responses whose r-hat is too high.
    """
    prompts, responses = 40, 12
    gold = rng.beta(2, 4, (prompts, responses))
    reward = np.clip(gold + rng.normal(0, 0.25, gold.shape), 0, 1)
    reference = _laws(rng, prompts, responses)
    return _world(
        "over_optimised",
        rng,
        policy=_tilt(reference, reward, beta / pressure),
        reference=reference,
        behaviour=_tilt(reference, reward, 4 * beta),
        reward=reward,
        gold=gold,
        beta=beta,
        rollouts=4,
    )


def kl_optimal(rng: np.random.Generator, *, beta: float = 0.1) -> World:
    """pi_theta ~ pi_ref exp(r-hat / beta): r-hat - beta l is constant within each prompt."""
    prompts, responses = 50, 8
    reward = rng.uniform(0.2, 0.8, (prompts, 1)) + rng.uniform(-0.2, 0.2, (prompts, responses))
    reference = _laws(rng, prompts, responses)
    return _world(
        "kl_optimal",
        rng,
        policy=_tilt(reference, reward, beta),
        reference=reference,
        behaviour=reference,
        reward=reward,
        gold=np.clip(reward - 0.1 * rng.random(reward.shape), 0, 1),
        beta=beta,
        rollouts=4,
    )


def heavy_tailed(rng: np.random.Generator) -> World:
    """Log-ratios with a power tail: halving probabilities, log-ratios growing by half each time."""
    prompts, responses = 20, 14
    policy = np.broadcast_to(0.5 ** np.arange(1, responses + 1), (prompts, responses)).copy()
    policy[:, -1] *= 2  # so that each row sums to exactly 1
    ratio = rng.uniform(0.4, 0.8, (prompts, 1)) * 1.5 ** np.arange(responses)
    reference = policy * np.exp(-ratio)
    reference[:, 0] = 1 - reference[:, 1:].sum(axis=1)
    reward = rng.uniform(0, 1, policy.shape)
    return _world(
        "heavy_tailed",
        rng,
        policy=policy,
        reference=reference,
        behaviour=(policy + reference) / 2,
        reward=reward,
        gold=np.clip(reward + rng.normal(0, 0.1, reward.shape), 0, 1),
        beta=0.05,
    )


def rare_failures(rng: np.random.Generator) -> World:
    """98% of responses are perfect; the reward model sees only half of the failures."""
    prompts = 4
    # Columns: good, a failure that the reward model catches, a failure that it misses.
    policy = np.tile([0.98, 0.01, 0.01], (prompts, 1))
    reference = np.tile([0.90, 0.05, 0.05], (prompts, 1))
    return _world(
        "rare_failures",
        rng,
        policy=policy,
        reference=reference,
        behaviour=reference,
        reward=np.tile([1.0, 0.0, 1.0], (prompts, 1)),
        gold=np.tile([1.0, 0.0, 0.0], (prompts, 1)),
        beta=0.02,
    )


def uncovered_support(rng: np.random.Generator) -> World:
    """The policy spends 30% on a response that reward data never show, and r-hat praises it."""
    prompts, responses = 25, 6
    behaviour = _laws(rng, prompts, responses)
    behaviour[:, -1] = 0
    behaviour /= behaviour.sum(axis=1, keepdims=True)
    new = np.zeros_like(behaviour)
    new[:, -1] = 1
    gold = rng.uniform(0.3, 0.7, behaviour.shape)
    reward = np.clip(gold + rng.normal(0, 0.02, gold.shape), 0, 1)
    reward[:, -1], gold[:, -1] = 1.0, 0.1
    return _world(
        "uncovered_support",
        rng,
        policy=0.7 * behaviour + 0.3 * new,
        reference=0.95 * behaviour + 0.05 * new,
        behaviour=behaviour,
        reward=reward,
        gold=gold,
        rollouts=2,
    )


def tied_weights(rng: np.random.Generator) -> World:
    """Every ratio, reward and weight takes one of two values: ties everywhere."""
    prompts, responses = 8, 4
    policy = np.tile([0.4, 0.4, 0.1, 0.1], (prompts, 1))
    reference = np.full((prompts, responses), 0.25)
    reward = np.tile([1.0, 0.5, 0.5, 0.5], (prompts, 1))
    return _world(
        "tied_weights",
        rng,
        policy=policy,
        reference=reference,
        behaviour=reference,
        reward=reward,
        gold=np.tile([1.0, 0.0, 1.0, 0.0], (prompts, 1)),
        rollouts=2,
    )


def unequal_rollouts(rng: np.random.Generator) -> World:
    """Easy prompts get many rollouts, hard ones a single one: a row mean is far from the truth."""
    prompts, responses = 20, 5
    easy = np.arange(prompts) % 2 == 0
    gold = np.where(easy[:, None], 0.85, 0.25) + rng.uniform(-0.1, 0.1, (prompts, responses))
    reward = np.clip(gold + rng.normal(0, 0.05, gold.shape), 0, 1)
    reference = _laws(rng, prompts, responses)
    law = np.zeros((prompts, 8))
    law[easy, 7], law[easy, 5] = 0.5, 0.5
    law[~easy, 0], law[~easy, 1] = 0.9, 0.1
    return _world(
        "unequal_rollouts",
        rng,
        policy=_tilt(reference, reward, 0.2),
        reference=reference,
        behaviour=reference,
        reward=reward,
        gold=gold,
        rollouts=law,
    )


def repeated_prompts(rng: np.random.Generator) -> World:
    """Five prompts, easy or hopeless, drawn again and again: `group` tells the draws apart."""
    prompts, responses = 5, 6
    level = np.array([0.95, 0.9, 0.5, 0.1, 0.05])[:, None]
    gold = np.clip(level + rng.uniform(-0.05, 0.05, (prompts, responses)), 0, 1)
    reference = _laws(rng, prompts, responses)
    reward = np.clip(gold + rng.normal(0, 0.03, gold.shape), 0, 1)
    return _world(
        "repeated_prompts",
        rng,
        policy=_tilt(reference, reward, 0.2),
        reference=reference,
        behaviour=reference,
        reward=reward,
        gold=gold,
        rollouts=2,
        recurring=True,
    )


def coin(rng: np.random.Generator) -> World:
    """One fair coin a prompt: the largest variance that [0, 1] allows, for tiny samples."""
    policy = np.full((2, 2), 0.5)
    reference = np.array([[0.25, 0.75], [0.75, 0.25]])
    face = np.tile([1.0, 0.0], (2, 1))
    return _world(
        "coin",
        rng,
        policy=policy,
        reference=reference,
        behaviour=reference,
        reward=face,
        gold=face,
    )


def poor_reward_model(rng: np.random.Generator) -> World:
    """r* is skewed (mostly near 0, rarely 1) and r-hat runs against it: lambda should be 0."""
    prompts, responses = 30, 8
    gold = np.where(
        rng.random((prompts, responses)) < 0.1, 1.0, rng.beta(1, 12, (prompts, responses))
    )
    reward = np.clip(1 - gold - 0.3 * rng.random(gold.shape), 0, 1)
    reference = _laws(rng, prompts, responses)
    return _world(
        "poor_reward_model",
        rng,
        policy=_tilt(reference, reward, 0.5),
        reference=reference,
        behaviour=reference,
        reward=reward,
        gold=gold,
        rollouts=2,
    )


def random_world(rng: np.random.Generator) -> World:
    """Everything drawn at random, sizes and shapes too: parameters that nobody chose."""
    prompts, responses = int(rng.integers(1, 30)), int(rng.integers(2, 10))
    reference = _laws(rng, prompts, responses, concentration=10 ** rng.uniform(-0.5, 1))
    gold = rng.beta(*10 ** rng.uniform(-0.7, 0.7, 2), (prompts, responses))
    reward = np.clip(gold + rng.normal(0, rng.uniform(0, 0.5), gold.shape), 0, 1)
    if rng.random() < 0.3:
        reward, gold = np.round(reward), np.round(gold)
    largest = int(rng.integers(1, 6))
    return _world(
        "random",
        rng,
        policy=_tilt(reference, reward, 10 ** rng.uniform(-1.3, 0.5)),
        reference=reference,
        behaviour=_laws(rng, prompts, responses, concentration=3),
        reward=reward,
        gold=gold,
        beta=10 ** rng.uniform(-2.5, -0.3),
        rollouts=rng.dirichlet(np.ones(largest), size=prompts),
        recurring=bool(rng.random() < 0.5),
    )


def no_shift(rng: np.random.Generator) -> World:
    """Reward data come from the audited policy itself; prompts carry nearly all of the variance."""
    prompts, responses = 30, 4
    level = rng.permutation(np.arange(prompts) % 2)[:, None]
    policy = _laws(rng, prompts, responses)
    gold = np.clip(level + rng.uniform(-0.02, 0.02, (prompts, responses)), 0, 1)
    return _world(
        "no_shift",
        rng,
        policy=policy,
        reference=_laws(rng, prompts, responses),
        behaviour=policy,
        reward=0.25 + 0.5 * gold,
        gold=gold,
    )


def linear_error(rng: np.random.Generator) -> World:
    """The reward model's error is linear in its score, and the policy seeks a high score."""
    prompts, responses = 30, 8
    reward = rng.uniform(0.2, 0.9, (prompts, responses))
    behaviour = _laws(rng, prompts, responses)
    return _world(
        "linear_error",
        rng,
        policy=_tilt(behaviour, reward, 0.3),
        reference=behaviour,
        behaviour=behaviour,
        reward=reward,
        gold=0.6 * reward + 0.1,
        rollouts=2,
    )


def hidden_error(rng: np.random.Generator) -> World:
    """Twins of one score, one good and one bad: the policy turned to the bad, scores stay put."""
    prompts, pairs = 20, 4
    score = np.repeat(rng.uniform(0.4, 0.6, (prompts, pairs)), 2, axis=1)
    good = np.tile([1.0, 0.0], (prompts, pairs))
    behaviour = np.repeat(_laws(rng, prompts, pairs), 2, axis=1) * np.where(good, 0.8, 0.2)
    policy = behaviour * np.where(good, 0.25, 4.0)
    return _world(
        "hidden_error",
        rng,
        policy=policy,
        reference=behaviour,
        behaviour=behaviour,
        reward=score,
        gold=np.clip(score + np.where(good, 0.1, -0.4), 0, 1),
        rollouts=2,
    )


def poor_coverage(rng: np.random.Generator) -> World:
    """The policy's favourite response is 1% of the reward data, and r-hat overrates it."""
    prompts, responses = 25, 6
    behaviour = _laws(rng, prompts, responses - 1)
    rare = np.full((prompts, 1), 0.01)
    gold = rng.uniform(0.3, 0.7, (prompts, responses))
    reward = np.clip(gold + rng.normal(0, 0.02, gold.shape), 0, 1)
    reward[:, -1], gold[:, -1] = 0.95, 0.15
    law = np.hstack([0.99 * behaviour, rare])
    return _world(
        "poor_coverage",
        rng,
        policy=np.hstack([0.4 * behaviour, 60 * rare]),
        reference=law,
        behaviour=law,
        reward=reward,
        gold=gold,
        rollouts=2,
    )


def heavy_weights(rng: np.random.Generator) -> World:
    """Weights double as they halve in probability under the policy, and the last one is infinite.

    P_theta(w >= t) falls like 1/t, so that E_train[w^2] grows with every step: chi^2 is infinite.
    """
    prompts, responses = 20, 10
    step = np.arange(responses)
    policy = np.tile(0.5 ** (step + 1.0), (prompts, 1))
    policy[:, -1] *= 2
    behaviour = np.tile(0.25 ** (step + 1.0), (prompts, 1))
    behaviour[:, -1] = 0
    behaviour[:, 0] = 1 - behaviour[:, 1:].sum(axis=1)
    reward = rng.uniform(0.4, 0.6, policy.shape) + 0.04 * step
    return _world(
        "heavy_weights",
        rng,
        policy=policy,
        reference=policy[:, ::-1].copy(),
        behaviour=behaviour,
        reward=reward,
        gold=np.clip(reward - 0.09 * step, 0, 1),
        beta=0.02,
    )


def no_coverage(rng: np.random.Generator) -> World:
    """Reward data show next to nothing that the policy does, and the reward model likes it all."""
    prompts, responses = 20, 6
    half = responses // 2
    old, new = _laws(rng, prompts, half), _laws(rng, prompts, half)
    gold = np.hstack([np.full_like(old, 0.9), np.full_like(new, 0.1)])
    reference = np.hstack([0.5 * old, 0.5 * new])
    return _world(
        "no_coverage",
        rng,
        policy=np.hstack([1e-6 * old, (1 - 1e-6) * new]),
        reference=reference,
        behaviour=np.hstack([old, np.zeros_like(new)]),
        reward=np.full_like(gold, 0.9),
        gold=gold,
        rollouts=2,
    )


# The names that `taut simulate` and the validation know.
FAMILIES = {
    family.__name__: family
    for family in (
        calibrated,
        over_optimised,
        kl_optimal,
        heavy_tailed,
        rare_failures,
        uncovered_support,
        tied_weights,
        unequal_rollouts,
        repeated_prompts,
        coin,
        poor_reward_model,
    )
} | {"random": random_world}

# Hard for bounds through reward data: what the behaviour policy shows, and where r-hat errs.
SHIFT_FAMILIES = {
    family.__name__: family
    for family in (
        no_shift,
        linear_error,
        hidden_error,
        poor_coverage,
        heavy_weights,
        no_coverage,
    )
}


def _laws(rng, prompts: int, responses: int, *, concentration: float = 2.0) -> np.ndarray:
    """Return random response laws, each entry at least 1e-6, shape (prompts, responses)."""
    laws = rng.dirichlet(np.full(responses, concentration), size=prompts) + 1e-6
    return laws / laws.sum(axis=1, keepdims=True)


def _tilt(reference: np.ndarray, reward: np.ndarray, temperature: float) -> np.ndarray:
    """Return pi ~ reference * exp(reward / temperature), the KL-regularised optimum."""
    mass = reference * np.exp((reward - reward.max(axis=1, keepdims=True)) / temperature)
    return mass / mass.sum(axis=1, keepdims=True)


def _world(
    name: str,
    rng: np.random.Generator,
    *,
    policy: np.ndarray,
    reference: np.ndarray,
    behaviour: np.ndarray,
    reward: np.ndarray,
    gold: np.ndarray,
    beta: float = 0.05,
    rollouts: int | np.ndarray = 1,
    recurring: bool = False,
) -> World:
    """Fill in what families share: the prompt law, lengths, and K fixed unless a law is given."""
    if isinstance(rollouts, int):
        rollouts = np.tile(np.eye(rollouts)[-1], (len(policy), 1))
    return World(
        name=name,
        prompt_probability=rng.dirichlet(np.full(len(policy), 5.0)),
        policy=policy,
        reference=reference,
        behaviour=behaviour,
        reward=reward,
        gold=gold,
        n_tokens=_lengths(policy),
        beta=float(beta),
        rollouts_law=rollouts,
        recurring=recurring,
    )


def _lengths(policy: np.ndarray) -> np.ndarray:
    """Response lengths at 0.7 nats a token, one token at least: what sampled text looks like."""
    with np.errstate(divide="ignore"):
        nats = np.minimum(-np.log(policy), 1e3)
    return np.maximum(1, np.rint(nats / 0.7)).astype(np.int64)

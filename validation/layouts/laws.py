"""Laws of true reward and judge whose means are known exactly, on the unit scale.

A prompt has a hidden trait; given the trait its rollouts are independent. A policy of strength a
turns each true reward into 1 with probability a, so its mean is (1 - a) m + a.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Draw = Callable[[np.random.Generator, int], np.ndarray]
Respond = Callable[[np.random.Generator, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """How prompts and rollouts come about.

    Attributes:
        name: Shown in tables.
        mean: E r* over prompts and rollouts, exact.
        trait: Draws the trait of so many prompts.
        gold: Draws a true reward for each trait.
        given: E r* given each trait, exact.
        judge: Draws a learned reward for each true reward.
    """

    name: str
    mean: float
    trait: Draw
    gold: Respond
    given: Callable[[np.ndarray], np.ndarray]
    judge: Respond


def lift(mean: np.ndarray | float, strength: np.ndarray | float) -> np.ndarray | float:
    """Return the mean true reward of a policy of some strength."""
    return (1 - strength) * mean + strength


def _coin(rng, trait):
    return (rng.random(len(trait)) < trait).astype(float)


def _flip(chance: float) -> Respond:
    return lambda rng, gold: np.where(rng.random(len(gold)) < chance, 1 - gold, gold)


def _graded(rng, gold):
    return 0.7 * gold + 0.3 * rng.random(len(gold))


def _fixed(value: float) -> Draw:
    return lambda rng, count: np.full(count, value)


_LEVELS, _SHARES = np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.3, 0.5])


def _level(rng, count):
    return rng.choice(_LEVELS, size=count, p=_SHARES)


COIN = Law(
    name="coin",
    mean=0.5,
    trait=lambda rng, count: rng.beta(2, 2, count),
    gold=_coin,
    given=lambda trait: trait,
    judge=_flip(0.1),
)
EASY = Law(
    name="success .9",
    mean=0.9,
    trait=_fixed(0.9),
    gold=_coin,
    given=lambda trait: trait,
    judge=_flip(0.0),
)
FAIR = Law(
    name="fair coin",
    mean=0.5,
    trait=_fixed(0.5),
    gold=_coin,
    given=lambda trait: trait,
    judge=_flip(0.0),
)
BLIND_JUDGE = Law(
    name="blind judge",
    mean=0.5,
    trait=lambda rng, count: rng.beta(2, 2, count),
    gold=_coin,
    given=lambda trait: trait,
    judge=lambda rng, gold: rng.random(len(gold)),
)
LAWS = (
    COIN,
    Law(
        name="success .99",
        mean=0.99,
        trait=_fixed(0.99),
        gold=_coin,
        given=lambda trait: trait,
        judge=_flip(0.005),
    ),
    Law(
        name="lottery .02",
        mean=0.02,
        trait=_fixed(0.02),
        gold=_coin,
        given=lambda trait: trait,
        judge=_flip(0.005),
    ),
    Law(
        name="a few hard prompts",
        mean=0.95,
        trait=lambda rng, count: (rng.random(count) < 0.95).astype(float),
        gold=lambda rng, trait: trait.copy(),
        given=lambda trait: trait,
        judge=_flip(0.02),
    ),
    Law(
        name="constant",
        mean=0.7,
        trait=_fixed(0.7),
        gold=lambda rng, trait: trait.copy(),
        given=lambda trait: trait,
        judge=lambda rng, gold: gold.copy(),
    ),
    Law(
        name="a judge that says one thing",
        mean=0.5,
        trait=lambda rng, count: rng.beta(2, 2, count),
        gold=_coin,
        given=lambda trait: trait,
        judge=lambda rng, gold: np.full(len(gold), 0.5),
    ),
    Law(
        name="heavy tail",
        mean=0.04,
        trait=lambda rng, count: rng.random(count) ** 4,
        gold=lambda rng, trait: trait * rng.random(len(trait)) ** 4,
        given=lambda trait: trait / 5,
        judge=_graded,
    ),
    Law(
        name="Beta(2, 5)",
        mean=2 / 7,
        trait=lambda rng, count: rng.beta(2, 5, count),
        gold=lambda rng, trait: 0.5 * trait + 0.5 * rng.beta(2, 5, len(trait)),
        given=lambda trait: 0.5 * trait + 1 / 7,
        judge=_graded,
    ),
    Law(
        name="three values",
        mean=0.65,
        trait=_level,
        gold=lambda rng, trait: np.where(
            rng.random(len(trait)) < 0.5, trait, _level(rng, len(trait))
        ),
        given=lambda trait: 0.5 * trait + 0.325,
        judge=_graded,
    ),
)

GRADED = (COIN, *LAWS[-2:])

# --- log-probs ------------------------------------------------------------------------------------

_BITS, _POLICY, _REFERENCE = 6, 0.8, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Styles:
    """Log-probs of a response: independent bits of style, and a text that both models like alike.

    A policy's bits have one law whatever the prompt, so that E l is known with any reward law.

    Attributes:
        bits: How many.
        policy, reference, behaviour: Probability of a 1 under each; the behaviour policy samples.
        effect: A response of ones only becomes a success with this probability, others in
            proportion.
        loophole: A response of ones only is worth nothing, and the judge likes it best.
    """

    bits: int = _BITS
    policy: float = _POLICY
    reference: float = _REFERENCE
    behaviour: float = _POLICY
    effect: float = 0.0
    loophole: bool = False

    def sample(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """Draw the number of ones of some rows."""
        return rng.binomial(self.bits, self.behaviour, rows)

    def columns(self, rng: np.random.Generator, ones: np.ndarray) -> dict[str, np.ndarray]:
        """Return the log-probs of responses, nats."""
        rows = len(ones)
        text = -rng.uniform(20, 60, rows)
        return {
            f"{name}_logprob": text + self.log_prob(ones, share)
            for name, share in (
                ("policy", self.policy),
                ("ref", self.reference),
                ("behaviour", self.behaviour),
            )
        }

    def log_prob(self, ones: np.ndarray, share: float) -> np.ndarray:
        """Return the log-probability of so many ones, nats."""
        return ones * np.log(share) + (self.bits - ones) * np.log1p(-share)

    def read(self, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probability of the text and the number of ones, from the log-probs."""
        one, none = np.log([self.policy, self.reference]), np.log1p([-self.policy, -self.reference])
        ratio = columns["policy_logprob"] - columns["ref_logprob"]
        slope = (one - none)[0] - (one - none)[1]
        ones = np.rint((ratio - self.bits * (none[0] - none[1])) / slope)
        return columns["policy_logprob"] - self.log_prob(ones, self.policy), ones

    def mean_clipped(self, tau: float, tau_negative: float) -> float:
        """Return E clip(l, -tau_negative, tau) under the policy, nats, exactly."""
        from scipy.stats import binom

        ones = np.arange(self.bits + 1)
        ratio = self.log_prob(ones, self.policy) - self.log_prob(ones, self.reference)
        weight = binom.pmf(ones, self.bits, self.policy)
        return float(weight @ np.clip(ratio, -tau_negative, tau))


USUAL = Styles()
# One response in five hundred has nearly all of the log-ratio: means below 0 are common.
SKEWED = Styles(bits=1, policy=0.002, reference=0.001, behaviour=0.002)

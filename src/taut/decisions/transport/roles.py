"""Which prompts teach the calibration, which certify, and what the teachers say (theory §3.6)."""

import math
from dataclasses import dataclass

import numpy as np

from taut.decisions.transport.isotonic import Isotonic, fit_isotonic
from taut.draws.labels import label_counts, labelled_rows
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.units import to_unit
from taut.errors import AssumptionError
from taut.logs.keys import scramble

# A fixed mark, so that roles and folds are drawn apart from the draw order of the same seed.
_ROLE_MARK = 0x726F6C65
_FOLD_MARK = 0x666F6C64
_FEWEST_TEACHERS = 10


@dataclass(frozen=True, slots=True)
class Roles:
    """Which audited draws certify, which rows of the reward data teach (masks), and how shared."""

    certify: np.ndarray
    teach: np.ndarray
    shared: str


def assign_roles(rollouts: Rollouts, blocks: Blocks, reward_data: Rollouts, seed: int) -> Roles:
    """Let each prompt teach g or certify, never both.

    Three cases. No labelled prompt of the reward data is audited: all teach, all certify. Less
    than half are: these do not teach. Otherwise a coin decides for every audited prompt outside
    the probe, from its id alone: heads, its reward data teach and its rollouts are left out.

    Proof that the audit is then exact. All that is seen of one prompt is independent of all that
    is seen of another. Roles depend on ids, on the seed and on where labels are, and labels are
    blind to outcomes. So, given the roles, g is a function of the teaching prompts alone, and
    independent of the certifying ones; given g these are independent draws from D_theta as
    before: the probe, because it is a random subset, and the rest, because the coin does not know
    whether a prompt has reward data (that could go with being easy). Given g, residuals of the
    probe are i.i.d. in a known range, and rectifier blocks have mean E r* whatever g is.

    Cross-fitting shared prompts instead (each with the g of the other folds) keeps every mean
    right, but blocks of two folds would depend on each other through both g's, and a fortune that
    bets on one after the other would not be a martingale. Hence no prompt in two roles.
    """
    keys = rollouts.prompt[blocks.rows[blocks.starts[:-1]]]
    labelled = labelled_rows(reward_data.gold)
    prompts = np.unique(reward_data.prompt[labelled])
    shared = int(np.isin(prompts, keys).sum())
    everyone = np.ones(len(blocks), dtype=bool)
    if shared == 0:
        return Roles(everyone, labelled, "none")
    apart = labelled & ~np.isin(reward_data.prompt, keys)
    if 2 * shared <= len(prompts):
        return Roles(everyone, apart, "set aside")
    probe = keys[label_counts(rollouts.gold, blocks) > 0]
    heads = (_hash(reward_data.prompt, seed, _ROLE_MARK) & np.uint64(1)).astype(bool)
    teach = apart | (labelled & heads & ~np.isin(reward_data.prompt, probe))
    tails = (_hash(keys, seed, _ROLE_MARK) & np.uint64(1)) == 0
    return Roles(tails | np.isin(keys, probe), teach, "split")


@dataclass(frozen=True, slots=True)
class Lessons:
    """What teaching prompts say, on the unit scale of gold.

    `fitted` and `constant` are out of fold: of each row, by the folds that do not hold its prompt.
    """

    data: Rollouts
    gold: np.ndarray
    weights: np.ndarray
    g: Isotonic
    fitted: np.ndarray
    constant: np.ndarray

    @property
    def floor(self) -> float:
        """The least that g gives, target reward."""
        return float(self.g.values[0])

    @property
    def span(self) -> float:
        """From the least to the most that g gives."""
        return float(self.g.values[-1]) - self.floor

    def average(self, values: np.ndarray) -> float:
        """Mean of row values, prompts weighted equally."""
        return math.fsum(self.weights * values) / math.fsum(self.weights)


def learn(data: Rollouts, gold_range, seed: int, folds: int) -> Lessons:
    """Fit g on the teachers, and on each fold's complement to judge it.

    Raises:
        AssumptionError: Too few teachers.
    """
    _, index, counts = np.unique(data.prompt, return_inverse=True, return_counts=True)
    if len(counts) < _FEWEST_TEACHERS:
        raise AssumptionError(
            f"{len(counts)} prompts are left to teach the calibration, expected at least "
            f"{_FEWEST_TEACHERS}: label reward data on prompts outside the probe."
        )
    gold, weights = unit_gold(data.gold, gold_range), 1.0 / counts[index]
    fold = _hash(data.prompt, seed, _FOLD_MARK) % np.uint64(folds)
    g = fit_isotonic(data.reward, gold, weights)
    fitted, constant = g(data.reward), np.full(len(gold), np.average(gold, weights=weights))
    for number in np.unique(fold):
        out, rest = fold == number, fold != number
        if rest.any():
            fitted[out] = fit_isotonic(data.reward[rest], gold[rest], weights[rest])(
                data.reward[out]
            )
            constant[out] = np.average(gold[rest], weights=weights[rest])
    return Lessons(data, gold, weights, g, fitted, constant)


def control_of(fitted: np.ndarray, lessons: Lessons) -> np.ndarray:
    """g on its own scale from 0 to 1: constants cancel in rectifier blocks, span does not."""
    if lessons.span == 0:
        return np.zeros_like(fitted)
    return np.clip((fitted - lessons.floor) / lessons.span, 0.0, 1.0)


def unit_gold(gold: np.ndarray, gold_range: tuple[float, float]) -> np.ndarray:
    """Map gold to [0, 1]; what lies outside its range was refused before (theory §1)."""
    return to_unit(gold, *gold_range)


def _hash(prompt: np.ndarray, seed: int, mark: int) -> np.ndarray:
    """Pseudo-random uint64 of each prompt, from its id, the seed and a mark of the purpose."""
    return scramble(prompt ^ scramble(np.uint64((seed ^ mark) % 2**64)))

"""A log in which everything is known, before labels are taken away, and its exact truths."""

from dataclasses import dataclass

import numpy as np
from validation.layouts.frames import Frame
from validation.layouts.laws import Law, Styles, lift

SLICES = ("step", "policy", "run")


@dataclass(slots=True, kw_only=True)
class Data:
    """Rows with their rewards; every array has shape (rows,).

    Attributes:
        prompt: Which draw from the population a row answers.
        gold, reward: Of every row, unit scale.
        value: Exact mean of the true reward of a row, before anything was drawn but the layout.
        columns: Others, as the log has them.
        label: Rows whose gold is shown.
        law, styles: What made it; no log-probs where styles are None.
        pool: The mean of the pool, in each row, where a pool is meant.
    """

    prompt: np.ndarray
    gold: np.ndarray
    reward: np.ndarray
    value: np.ndarray
    columns: dict[str, np.ndarray]
    law: Law
    styles: Styles | None
    label: np.ndarray | None = None
    pool: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.prompt)

    def over_draws(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over its draw, for each row."""
        return _over(self.prompt, values)

    def over_groups(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over what one policy answered to one prompt, for each row."""
        code = self.prompt
        for name in SLICES:
            if name in self.columns:
                _, own = np.unique(self.columns[name], return_inverse=True)
                code = code * (own.max() + 1) + own
        return _over(code, values)

    def take(self, kept: np.ndarray) -> None:
        """Keep some rows (a mask or indices), in place."""
        for name in ("prompt", "gold", "reward", "value", "label", "pool"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, values[kept])
        self.columns = {name: values[kept] for name, values in self.columns.items()}

    def truth(self, rows: np.ndarray | None = None) -> float:
        """Return E r* of some rows as they are laid out: each distinct prompt counts once."""
        if self.pool is not None:
            return float(self.pool[0])
        rows = np.ones(len(self), dtype=bool) if rows is None else rows
        _, place = np.unique(self.prompt[rows], return_inverse=True)
        return float((np.bincount(place, self.value[rows]) / np.bincount(place)).mean())

    def truths(self) -> dict[str, dict[str, float]]:
        """Return the truth of each step, policy and run, by the name that the log gives it."""
        return {
            column: {
                str(name): self.truth(self.columns[column] == name)
                for name in np.unique(self.columns[column])
            }
            for column in SLICES
            if column in self.columns
        }


def _over(code: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, place = np.unique(code, return_inverse=True)
    return (np.bincount(place, values) / np.bincount(place))[place]


def draw(rng: np.random.Generator, law: Law, frame: Frame, styles: Styles | None) -> Data:
    """Let the policies answer the prompts of a frame."""
    kinds = int(frame.prompt.max()) + 1 if frame.mass is None else len(frame.mass)
    trait = law.trait(rng, kinds)
    if frame.by_trait:
        trait = np.sort(trait)
    rows = len(frame.prompt)
    columns, chance, mean = dict(frame.columns), frame.strength, frame.strength
    if styles is not None:
        ones = styles.sample(rng, rows)
        columns |= styles.columns(rng, ones)
        chance = lift(styles.effect * ones / styles.bits, frame.strength)
        mean = lift(styles.effect * styles.policy, frame.strength)
    gold = np.where(rng.random(rows) < chance, 1.0, law.gold(rng, trait[frame.prompt]))
    reward = law.judge(rng, gold)
    plain = law.given(trait)[frame.prompt] if frame.means == "list" else np.full(rows, law.mean)
    value = lift(plain, mean)
    if styles is not None and styles.loophole:
        through = ones == styles.bits
        gold, reward = np.where(through, 0.0, gold), np.where(through, 1.0, reward)
        value = value * (1 - styles.policy**styles.bits)
    return Data(
        prompt=frame.prompt,
        gold=gold,
        reward=reward,
        value=value,
        columns=columns,
        law=law,
        styles=styles,
        pool=np.full(rows, frame.mass @ law.given(trait)) if frame.mass is not None else None,
    )


def train(rng: np.random.Generator, law: Law, frame: Frame, styles: Styles | None) -> Data:
    """The same, on policy: at each step the policy follows from what the last step's rewards were.

    The truth is the average of the policies that came about.
    """
    trait = law.trait(rng, int(frame.prompt.max()) + 1)
    step, gold = frame.columns["step"], np.zeros(len(frame.prompt))
    strength, last = np.zeros(len(gold)), 0.0
    for value in np.unique(step):
        rows = np.flatnonzero(step == value)
        strength[rows] = last
        plain = law.gold(rng, trait[frame.prompt[rows]])
        gold[rows] = np.where(rng.random(len(rows)) < last, 1.0, plain)
        last = 0.8 if gold[rows].mean() > lift(law.mean, last) else 0.0
    return Data(
        prompt=frame.prompt,
        gold=gold,
        reward=law.judge(rng, gold),
        value=lift(np.full(len(gold), law.mean), strength),
        columns=dict(frame.columns),
        law=law,
        styles=styles,
    )

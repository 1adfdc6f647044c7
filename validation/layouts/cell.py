"""The cells: layout × labels × breach × command, each with what must be true of it.

honest     nothing is wrong with the log: guarantees hold, nothing is doubted, the status is what
           was declared.
wide       nothing is wrong with the log, but it may be past what can be certified: whatever is
           claimed with a guarantee holds.
visible    a sound test can see that something is wrong: it is doubted, estimated or refused.
invisible  no test can see it: without a declaration nothing is certified.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from validation.layouts import frames, labels
from validation.layouts.data import Data, draw, train
from validation.layouts.laws import LAWS, Law, Styles
from validation.layouts.log import ALL, Log, Scale, Truth, written

HONEST, WIDE, VISIBLE, INVISIBLE = "honest", "wide", "visible", "invisible"
Change = Callable[[np.random.Generator, Data], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of log under one command.

    Attributes:
        kind: What must be true; see the module.
        family: Layouts that belong together.
        name: Of the layout, the labels and the breach.
        command: One of `adapter.COMMANDS`.
        best: The status that an honest log must have; "vacuous" asks for none.
        laws: Of rewards; the i-th log takes the (i mod laws)-th.
        lose, spoil: Breaches, before and after labels are given.
        of_the_logged: The truth is of the rows that are logged.
        trains: The policy of each step follows from the rewards of the step before.
        scale, declare, prompts, settings, chosen_by_reward: See `Log`.
        reward_data: Makes the columns of reward data for a law.
    """

    kind: str
    family: str
    name: str
    command: str
    layout: frames.Layout
    labels: Callable = labels.whole_draws
    best: str = "certified"
    laws: tuple[Law, ...] = LAWS
    styles: Styles | None = None
    lose: Change | None = None
    spoil: Change | None = None
    of_the_logged: bool = False
    trains: bool = False
    scale: Scale = field(default=Scale())
    declare: tuple[str, ...] = ALL
    prompts: str = "sample"
    settings: tuple[tuple[str, object], ...] = (("target", "reward"),)
    reward_data: Callable | None = None
    chosen_by_reward: bool = False

    def __str__(self) -> str:
        return f"{self.family} / {self.name} / {self.command}"

    def law(self, seed: int) -> Law:
        """Return the law of a log."""
        return self.laws[seed % len(self.laws)]

    def log(self, seed: int) -> Log:
        """Make a log."""
        rng = np.random.default_rng([seed, *f"{self.family} / {self.name}".encode()])
        law = self.law(seed)
        data = (train if self.trains else draw)(rng, law, self.layout(rng), self.styles)
        truth = Truth.of(data, self.scale)
        if self.lose is not None:
            self.lose(rng, data)
        if self.of_the_logged:
            truth = Truth.of(data, self.scale)
        data.label = self.labels(rng, data)
        if self.spoil is not None:
            self.spoil(rng, data)
        return Log(
            columns=written(data, self.scale),
            settings={**self.scale.settings, **dict(self.settings)},
            truth=truth,
            declare=self.declare,
            prompts=self.prompts,
            reward_data=None if self.reward_data is None else self.reward_data(rng, law),
            chosen_by_reward=self.chosen_by_reward,
            through_file="prompt" in data.columns,
        )


def each(commands: tuple[str, ...], **cell) -> list[Cell]:
    cell.setdefault("name", "")
    return [Cell(command=command, **cell) for command in commands]

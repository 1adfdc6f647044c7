"""What is said of two candidates: a difference, and whether the learned reward was hacked."""

from typing import Literal

from taut.results import Part
from taut.types import Status

Name = int | str
Hacked = Literal["yes", "no", "cannot_tell"]


class Difference(Part):
    """f(a) - f(b), in the units of the target.

    Attributes:
        mean: The estimate behind the interval; None where nothing ties the two together.
        lower, upper: Each end; None where nothing bounds it.
        status: What the ends are worth. Of a learned difference: as evidence on the learned reward.
        kind: "gold" (paired on shared prompts with gold on both sides), "matched" (different
            prompts, or labels of different ones, put opposite each other blindly), "certificates"
            (the difference of two intervals); of learned rewards "paired", "matched" or "unpaired"
            (the difference of two means).
        shared, labelled: Draws that both have, and how many differences have gold on both sides.
    """

    mean: float | None
    lower: float | None
    upper: float | None
    status: Status
    kind: str
    shared: int
    labelled: int

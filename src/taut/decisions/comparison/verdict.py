"""The verdicts of a comparison, in one word and in one sentence each."""

import math
from dataclasses import dataclass

from taut.decisions.comparison.result import Verdict
from taut.decisions.contest.contest import SOUND
from taut.decisions.contest.hacked import told_ends
from taut.decisions.contest.result import Difference
from taut.types import Status

_MOST = 10**7  # more labels than this are no plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What verdicts are made from.

    Attributes:
        names: Of a and b.
        target: Of the difference.
        difference: f(a) - f(b) of the true reward.
        margin: Largest harmless loss of a, units of the target.
    """

    names: tuple[str, str]
    target: str
    difference: Difference
    margin: float | None


def verdict_of(claim: Claim) -> tuple[Verdict, str]:
    """Return the verdict on the true reward, and its sentence."""
    (a, b), found = claim.names, claim.difference
    what = "true reward" if claim.target == "reward" else f"true {claim.target} objective"
    if claim.target == "objective":
        what = "true objective"
    low, high = found.lower, found.upper
    between = f"the difference is {told_ends(low, high)}"
    if found.status not in SOUND:
        if low is None or found.status is Status.VACUOUS:
            told = "no labels tell of the true reward of both"
        else:
            told = f"by estimate only, {between}"
        return "cannot_tell", f"Cannot tell which has the better {what}: {told}."
    if low is not None and low > 0:
        return "a_better", f"{a} is better than {b} in {what}: {between}."
    if high is not None and high < 0:
        return "b_better", f"{b} is better than {a} in {what}: {between} for {a} less {b}."
    if claim.margin is not None and low is not None and low >= -claim.margin:
        return "no_worse", f"{a} is no worse than {b} by more than {claim.margin:g}: {between}."
    return "cannot_tell", f"Cannot tell which has the better {what}: {between}."


def labels_to_tell(claim: Claim) -> int | None:
    """Forecast how many labelled draws that both share would decide; None where none can be told.

    Widths fall with the root of the number of labels; the estimate is taken for the truth.
    """
    found = claim.difference
    if found.mean is None or found.lower is None or found.upper is None or not found.labelled:
        return None
    far = abs(found.mean)
    if claim.margin is not None:
        far = max(far, found.mean + claim.margin)
    half = (found.upper - found.lower) / 2
    if far <= 0 or half / far > math.sqrt(_MOST):
        return None
    needed = math.ceil(found.labelled * max(1.0, (half / far) ** 2))
    return None if needed > _MOST else needed

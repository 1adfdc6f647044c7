"""What a probe says of a calibration: it transports, or not, or too few labels (theory §3.6)."""

import math
from dataclasses import dataclass

from taut.decisions.transport.result import (
    TransportState,
)
from taut.types import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportAudit:
    """The verdict on g, and what it rests on. Reward units.

    Attributes:
        state: PASS is given wrongly with probability at most delta, and so is FAIL.
        margin: Largest harmless |E_theta[r* - g(r^)]|, declared before the probe; None if not.
        residual: Interval for E_theta[r* - g(r^)] at level 1 - delta.
        delta: Probability that the interval misses.
        probe_prompts: Labelled draws that it rests on.
        fewest_prompts: Draws without which no data at all could pass; None without a margin.
        detail: The verdict in a sentence.
    """

    state: TransportState
    margin: float | None
    residual: Interval
    delta: float
    probe_prompts: int
    fewest_prompts: int | None
    detail: str


def fewest_prompts(margin: float, delta: float, width: float = 2.0) -> int:
    """Return how many probe draws a PASS takes at least, however perfect the residuals.

    Args:
        margin: Largest harmless |mean residual|, positive, reward units.
        delta: Probability that the interval may miss, in (0, 1).
        width: Width of the range of a residual, reward units.

    Proof [ours]: let residuals lie in [-p, q], W = p + q. Bets against a mean m on the lower side
    are at most 1/(m + p), so the fortune is at most prod (x_t + p)/(m + p); to exclude all
    m < -margin it must reach 2/delta at m = -margin: mean ln(x_t + p) >= ln(p - margin) + A with
    A = ln(2/delta)/n. In the same way mean ln(q - x_t) >= ln(q - margin) + A. By Jensen x_t may be
    taken constant, x; then (p - margin) e^A - p <= x <= q - (q - margin) e^A, which has a solution
    only if e^A <= W/(W - 2 margin).
    """
    if 2 * margin >= width:
        return 1
    return max(1, math.ceil(math.log(2 / delta) / -math.log1p(-2 * margin / width)))


def grade(
    residual: Interval, *, margin: float | None, delta: float, prompts: int, width: float
) -> TransportAudit:
    """Hold an interval for the mean residual against a margin declared beforehand.

    PASS if all of it lies within the margin, FAIL if none of it does, INCONCLUSIVE otherwise;
    NOT_GRADED, whatever the interval, if there is no margin or no data of this size could pass.

    Args:
        residual: Interval for E_theta[r* - g(r^)] at level 1 - delta, reward units.
        margin: Positive, reward units, or None.
        delta: Probability that the interval misses.
        prompts: Labelled draws behind it.
        width: Width of the range of a residual, reward units.
    """
    needed = None if margin is None else fewest_prompts(margin, delta, width)
    state, detail = _verdict(residual, margin, needed, prompts)
    return TransportAudit(
        state=state,
        margin=margin,
        residual=residual,
        delta=delta,
        probe_prompts=prompts,
        fewest_prompts=needed,
        detail=detail,
    )


def _verdict(residual, margin, needed, prompts) -> tuple[TransportState, str]:
    span = f"the mean residual is in [{residual.lower:.4g}, {residual.upper:.4g}]"
    if margin is None:
        return TransportState.NOT_GRADED, f"{span}; declare a margin before labelling to grade it."
    within = -margin <= residual.lower and residual.upper <= margin
    outside = residual.lower > margin or residual.upper < -margin
    if prompts < needed:
        known = f"{span}, outside" if outside else span
        return (
            TransportState.NOT_GRADED,
            f"{prompts} probe prompts, no {prompts} could pass at margin {margin:g}: "
            f"label at least {needed}; {known}.",
        )
    if within:
        return TransportState.PASS, f"{span}, all within the margin {margin:g}."
    if outside:
        return TransportState.FAIL, f"{span}, all outside the margin {margin:g}."
    return TransportState.INCONCLUSIVE, f"{span}, across the margin {margin:g}: label more."

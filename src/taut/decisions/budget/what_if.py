"""What another log would give: the width forecast for other counts of labels, prompts, and δ."""

from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.certificate import Certificate
from taut.auditing.options import Options
from taut.decisions.budget.pilot import Clip, Pilot
from taut.draws.rollouts import Rollouts
from taut.errors import TautError
from taut.types import Status

TIMES = (0.5, 1.0, 2.0, 4.0, 8.0)  # as many labels, or prompts, as now
DELTAS = (0.01, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Forecast widths of the certificate of a log like this one; no guarantee (theory §8.5).

    Attributes:
        prompts: Numbers of prompts.
        labels: Numbers of prompts with gold labels; empty where the log has none.
        deltas: Error probabilities.
        widths: Reward units, shape (prompts, labels or 1, deltas); NaN where a log cannot be.
        now: The place in each of the log and the δ at hand.
        measured: The width of the certificate at hand, reward units.
    """

    prompts: tuple[int, ...]
    labels: tuple[int, ...]
    deltas: tuple[float, ...]
    widths: np.ndarray
    now: tuple[int, int, int]
    measured: float


def what_if(rollouts: Rollouts, found: Certificate) -> WhatIf | None:
    """Return the forecasts for a certificate and its log, or None where none can be made.

    Args:
        rollouts: The log that was audited.
        found: Its certificate.

    Source: theory §8.5.
    """
    settings, ends = found.settings, found.certificate
    own = settings.gold_scale is not None or settings.gold_range not in (
        None,
        settings.reward_range,
    )
    vacuous = ends.status == Status.VACUOUS or ends.lower is None or ends.upper is None
    labelled = found.log.gold_prompts
    odd = rollouts.sheet is not None or found.coverage is not None  # other routes than plain gold
    if own or vacuous or odd or not labelled:
        return None
    options = Options(
        beta=settings.beta,
        reward_range=settings.reward_range,
        gold_range=settings.gold_range,
        tau=settings.tau,
        tau_negative=settings.tau_negative,
        target=found.target,
        log_ratio_max=settings.log_ratio_max,
        log_ratio_second_moment=settings.log_ratio_second_moment,
        seed=settings.seed,
        declare=settings.declare,
        prompts=settings.prompts,
    )
    prompts, labels = found.log.certifying_prompts, min(labelled, found.log.certifying_prompts)
    counts = tuple(max(round(times * prompts), 2) for times in TIMES)
    each = tuple(max(round(times * labels), 2) for times in TIMES)
    deltas = tuple(sorted({*DELTAS, settings.delta}))
    try:
        widths = np.stack([_widths(rollouts, options, d, found, counts, each) for d in deltas], -1)
    except TautError:
        return None  # too small a log, or one that no plan can be made from
    now = (TIMES.index(1.0), TIMES.index(1.0), deltas.index(settings.delta))
    return WhatIf(counts, each, deltas, widths, now, ends.upper - ends.lower)


def _widths(
    rollouts: Rollouts,
    options: Options,
    delta: float,
    found: Certificate,
    prompts: tuple[int, ...],
    labels: tuple[int, ...],
) -> np.ndarray:
    """Return forecast widths in reward units, shape (prompts, labels)."""
    pilot = Pilot(rollouts, replace(options, delta=delta))
    clip = Clip(options.tau, options.tau_negative, "as audited")
    if options.tau is not None and options.tau_negative is None:
        clip = replace(clip, tau_negative=options.tau)
    if not pilot.knows_gold:
        raise TautError("too few labels to say how gold spreads.")
    forecast = pilot.forecast(clip)
    rollouts_each = found.log.rollouts_per_prompt.mean
    per_label = min(found.log.gold_rollouts / max(found.log.gold_prompts, 1), rollouts_each)
    n, m = np.meshgrid(prompts, labels, indexing="ij")
    widths = forecast.gold(n.ravel(), rollouts_each, m.ravel(), per_label)[0]
    return np.where(m <= n, widths.reshape(n.shape) * pilot.width, np.nan)

"""Certificates of every slice of a log that hold together (theory §6.3, §2.8)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from taut.auditing.audit import audit_part
from taut.auditing.certificates import Certificates, Group, Mix
from taut.auditing.gaps import gap_groups, refuse_gap, refuse_rewards
from taut.auditing.options import GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.response_slices import LABELLED, response_groups, too_small
from taut.auditing.words import Method, Route, Side, Target
from taut.draws.design import settled
from taut.draws.layout import Whole
from taut.draws.rollouts import Rollouts
from taut.draws.slices import Cuts, Of, Slices, slices_of
from taut.engines.prompt_table import sides
from taut.engines.tables import Data, as_rollouts
from taut.errors import AssumptionError, UsageError
from taut.types import weakest

_FEW_GROUPS = 1000  # as many are audited whatever their size


def audit_by(
    rollouts: Data,
    by: str | Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    reward_data: Data | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    tau: Threshold = "auto",
    tau_negative: float | None = None,
    delta: float = 0.05,
    target: Target = "auto",
    method: Method = "betting",
    side: Side = "both",
    route: Route = "auto",
    reward_mse: float | None = None,
    coverage: float | None = None,
    log_ratio_max: float | None = None,
    log_ratio_second_moment: float | None = None,
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
    missing: Literal["worst"] | None = None,
    launched: tuple[int, int] | None = None,
    log_prob_noise: float | None = None,
    gold_kind: GoldKind = None,
    weights: Mapping[int | str, float] | None = None,
    cuts: Cuts | None = None,
    mix: Mapping[int | str, float] | None = None,
    gap: bool = False,
    by_table: Data | None = None,
) -> Certificates:
    """Certify each slice of a log; all certificates hold together at 1 - delta.

    Each of M slices gets delta / M, or its share by `weights` (a union bound; prompts may be shared
    between slices). A column that is the same in all rollouts of a prompt slices the prompts; step,
    policy and run slice what made the rollouts. One that varies within a prompt, as length does, is
    of the response: the mean reward of responses in the slice is then a ratio of two means, and
    bounded as one (`groups[].slice`, target "reward").

    Args:
        rollouts: The log.
        by: A column of the log, or several: step, policy, run, n_tokens, truncated, failed, or any
            other by its dotted path.
        weights: Value of a slice to its weight in the split of delta, fixed before the data; 1 for
            those that are not named.
        cuts: Column to the points at which its numbers are cut; by default, where a column has more
            than 20 numbers, deciles of the draws that choose.
        mix: Value of a slice to its share of a target mix, fixed before the data; the shares sum
            to 1. The total holds together with the slices.
        gap: Say how far the learned reward is off in each slice, the mean of r-hat - r* in reward
            units, and spend all of delta on that (`groups[].slice`; no certificates).
        by_table: A table with `prompt_id` (or `prompt`) and the columns of `by` that it has, one
            row a prompt: a frame, or a CSV, JSON lines or Parquet file.

    The other arguments are those of `taut.audit`.

    Raises:
        UsageError: A weight that is not positive, or of a slice that is not there; a gap with a
            mix, with reward data, or of gold on a scale of its own.
        LogError: The log does not have the column, or no gold for a gap. Others as `audit`.

    Source: theory §6.3, §2.8.
    """
    options = options_of(locals())
    names = (by,) if isinstance(by, str) else tuple(by)
    trusted = None if reward_data is None else as_rollouts(reward_data, columns, features=True)
    table, kept = sides(by_table, names)
    log = as_rollouts(rollouts, columns, features=trusted is not None, keep=kept)
    whole = settled(table.onto(log))
    slices = slices_of(whole.rollouts, names, cuts=cuts)
    shares = _shares(slices, weights)
    rests: dict[str, Any] = {}
    if gap:
        refuse_gap(whole, options, mix=mix is not None, reward_data=trusted is not None)
    if slices.of is Of.RESPONSE:
        if weights and slices.cuts.keys() - set(cuts or {}):
            raise UsageError("weights of deciles: say where to cut with cuts= (--cut) as well.")
        if trusted is not None:
            raise UsageError("slices by what depends on the response take no reward_data.")
        slices, groups, found = response_groups(whole, names, cuts, shares, options, gap_only=gap)
        if gap:
            refuse_rewards(found)
        rests = {"assumptions": found.resting_on(*LABELLED), "health": found.checks}
        if mix is not None:
            raise UsageError("a mix is of slices by prompt, step, policy or run, not by response.")
    elif gap:
        groups, assumptions, checks = gap_groups(whole, slices, shares, options)
        rests = {"assumptions": assumptions, "health": checks}
    else:
        groups = _groups(whole, slices, shares, options, trusted)
    return Certificates(
        by=", ".join(names),
        delta=options.delta,
        of=slices.of.value,
        cuts={name: points for name, points in slices.cuts.items()},
        groups=tuple(groups),
        mix=None if mix is None else total_of(groups, mix),
        gap=gap,
        **rests,
    )


def total_of(groups: Sequence[Group], mix: Mapping[int | str, float]) -> Mix:
    """Return the total at a target mix: weighted sums of ends that hold together.

    Raises:
        UsageError: Shares that are not positive or do not sum to 1, or of no slice.
        AssumptionError: A slice of the mix has too few draws for an interval.
    """
    shares = {str(value): float(share) for value, share in mix.items()}
    if not shares or min(shares.values()) <= 0 or abs(math.fsum(shares.values()) - 1) > 1e-9:
        raise UsageError(f"mix is {shares}; expected positive shares that sum to 1.")
    known = {str(group.value): group for group in groups}
    for value in shares:
        if value not in known:
            raise UsageError(f"mix names {value!r}; the slices are {', '.join([*known][:12])}.")
        if known[value].certificate is None:
            raise AssumptionError(f"slice {value}: {known[value].cannot_tell}; no total holds.")
    parts = [(share, known[value].certificate) for value, share in shares.items()]
    return Mix(
        weights=shares,
        lower=_weighted([(share, one.lower) for share, one in parts], -math.inf),
        upper=_weighted([(share, one.upper) for share, one in parts], math.inf),
        measured=_weighted([(share, one.targets[one.target].measured) for share, one in parts], 0),
        status=weakest(one.status for _, one in parts),
        units=parts[0][1].certificate.units,
    )


def _weighted(parts: Sequence[tuple[float, float | None]], outward: float) -> float | None:
    """Return a weighted sum, rounded outward; None where a part is not known or is open."""
    if any(value is None or not math.isfinite(value) for _, value in parts):
        return None
    total = math.fsum(share * value for share, value in parts if value is not None)
    return math.nextafter(total, outward) if outward else total


def _shares(slices: Slices, weights: Mapping[int | str, float] | None) -> np.ndarray:
    """Return the share of delta of each slice, shape (slices,)."""
    given = {str(value): float(weight) for value, weight in (weights or {}).items()}
    wrong = [value for value, weight in given.items() if not (0 < weight < math.inf)]
    if wrong:
        raise UsageError(f"weights: {wrong[0]!r} weighs {given[wrong[0]]}; expected more than 0.")
    names = [str(value) for value in slices.values]
    if lost := given.keys() - set(names):
        raise UsageError(
            f"weights name {sorted(lost)[0]!r}, which is none of the {len(names)} values of "
            f"{', '.join(slices.columns)}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}."
        )
    shares = np.array([given.get(name, 1.0) for name in names])
    return shares / shares.sum() if given else np.full(len(names), 1.0 / len(names))


def _groups(
    whole: Whole,
    slices: Slices,
    shares: np.ndarray,
    options: Options,
    trusted: Rollouts | None,
) -> list[Group]:
    several = len(slices.values)
    groups = []
    for value, rows, share in zip(slices.values, slices.rows(), shares, strict=True):
        part = whole.rollouts.take(rows)
        reason = too_small(len(np.unique(part.prompt)), options.delta * share)
        if reason is not None and several > _FEW_GROUPS:
            found = None
        else:
            found = audit_part(
                part, options, trusted, whole=whole, simultaneous=several, share=float(share)
            )
            reason = reason or (None if found.status != "vacuous" else _no_word(part))
        groups.append(
            Group(value=value, certificate=found, delta=options.delta * share, cannot_tell=reason)
        )
    return groups


def _no_word(part: Rollouts) -> str:
    if part.gold is None or np.isnan(part.gold).all():
        return "no labels"
    return "its labels bound nothing"

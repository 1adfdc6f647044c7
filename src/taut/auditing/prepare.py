"""What is fixed before a certifying draw is looked at: design, target, split, thresholds."""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.calibration import (
    FEWEST_DRAWS,
    TOO_FEW,
    Split,
    Thresholds,
    choose_negative,
    choose_thresholds,
    split_draws,
    split_sheet,
)
from taut.auditing.options import AUTO, TARGETS, Options
from taut.auditing.target import UnitData, unit_data
from taut.bounds.coverage import log_e_value_of_mean
from taut.bounds.reward_shift import FEW_LABELS
from taut.draws.design import Design, design, refuse_clipped_estimate
from taut.draws.labels import LabelKind, label_counts
from taut.draws.layout import Whole
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import AssumptionError, LogError, UsageError
from taut.logs.facts import settle as settle_fact

_SURE_LOG_E = math.log(1e6)
_NONE_ASIDE = "default: with several steps, policies or runs no draws are set aside to choose by"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A log with its design, and the settings with a target named.

    Attributes:
        design: What its rows are worth.
        options: The settings, with the target named.
        target_reason: Why this target, where it was chosen by what the log can certify.
        unavailable: Why, for each target that cannot be had.
    """

    design: Design
    options: Options
    target_reason: str | None
    unavailable: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Entered):
    """A log ready to be certified.

    Attributes:
        split: The draws that choose, and those that certify.
        data: The log on the unit scale.
        delta: Error probability of each target's interval.
        thresholds: Clip thresholds, nats; None without log-probs.
    """

    split: Split
    data: UnitData
    delta: float
    thresholds: Thresholds | None


def prepare(
    rollouts: Rollouts,
    options: Options,
    *,
    whole: Whole | None = None,
    simultaneous: int = 1,
    share: float | None = None,
    chooses_truncation: bool = False,
    sampler: bool = True,
) -> Prepared:
    """Lay a log out for `audit`.

    Args:
        rollouts: The log, or one group of it.
        options: The settings.
        whole: What was decided on the whole log.
        simultaneous: How many certificates are to hold together.
        share: Share of delta that this one gets; an even one by default.
        chooses_truncation: Reward data need a calibration split too.
        sampler: `behaviour_logprob` is that of the policy that made these rows.

    Raises:
        LogError: The log lacks what the target needs, or no draw is left to certify with.
        UsageError: Settings contradict each other.
        AssumptionError: The data contradict a declaration.
    """
    entered = enter(rollouts, options, whole=whole, logs=simultaneous, sampler=sampler)
    found, options = entered.design.in_draw_order(), entered.options
    if found.labels is None and not chooses_truncation:
        refuse_clipped_estimate(found)
    data = unit_data(found, options)
    delta = options.delta / simultaneous if share is None else options.delta * share
    aside = _calibration_share(data, found, options, chooses_truncation)
    if found.sheet is None:
        split = split_draws(found.blocks, _spared(data, found, options), aside)
    else:
        split = split_sheet(found.blocks, data.gold, aside, found.sheet)
    if len(split.certifying) == 0:
        raise LogError("the log holds no draw to certify with; it needs at least one prompt.")
    return Prepared(
        design=found,
        options=options,
        target_reason=entered.target_reason,
        unavailable=entered.unavailable,
        split=split,
        data=data,
        delta=delta,
        thresholds=_thresholds(data, split, options, delta, found),
    )


def enter(
    rollouts: Rollouts,
    options: Options,
    *,
    whole: Whole | None = None,
    logs: int = 1,
    sampler: bool = True,
) -> Entered:
    """Decide what a log is worth and name the target; arguments and errors as for `prepare`."""
    options = with_facts(rollouts, options)
    found = design(rollouts, options.declared, whole=whole, logs=logs, sampler=sampler)
    unavailable = _unavailable(found, options)
    options, reason = _with_target(found, options, unavailable)
    _check_declared(found, options)
    _check_gold_kind(found, options)
    return Entered(design=found, options=options, target_reason=reason, unavailable=unavailable)


# --- what the log says of itself ------------------------------------------------------------------

_FACTS = ("beta", "reward_range", "gold_range")


def with_facts(rollouts: Rollouts, options: Options) -> Options:
    """Fill in what was not said from what the log records of itself.

    Raises:
        LogError: A setting contradicts what the log records, or what its `taut.toml` declares.
    """
    facts = rollouts.facts
    known = {
        name: settle_fact(facts, name, getattr(options, name), f"--{name.replace('_', '-')}")
        for name in _FACTS
    }
    return replace(options, **known)


# --- the target -----------------------------------------------------------------------------------


def _unavailable(found: Design, options: Options) -> dict[str, str]:
    """Say which targets cannot be had, and why."""
    reason = None
    if found.rollouts.log_ratio is None:
        reason = (
            "needs log-probs: expected the columns 'policy_logprob' and 'ref_logprob' (or "
            "'log_ratio'). Map them with --map, or ask for --target reward"
        )
    elif options.beta is None:
        reason = "needs --beta, the KL strength in reward units per nat; or ask for --target reward"
    elif found.units.common is None:
        low, high = found.units.gold_range
        reason = (
            f"gold lies in [{low:g}, {high:g}] and the reward has another range: J* subtracts a KL "
            "cost in reward units from gold. Declare how gold converts, --gold-scale P,Q for "
            "gold * P + Q; or ask for --target reward"
        )
    return {} if reason is None else dict.fromkeys(("clipped", "objective"), reason)


def _with_target(
    found: Design, options: Options, unavailable: dict[str, str]
) -> tuple[Options, str | None]:
    """Name the target: the one asked for, or the strongest that the log can certify (design §4)."""
    if options.target != AUTO:
        if options.target in unavailable:
            kind = UsageError if found.rollouts.log_ratio is not None else LogError
            raise kind(f"the target '{options.target}' {unavailable[options.target]}.")
        return options, None
    if unavailable:
        return replace(options, target="reward"), f"the reward alone: {_short(found, options)}"
    declared = options.log_ratio_max is not None or options.log_ratio_second_moment is not None
    if declared:
        return (
            replace(options, target="objective"),
            "J* itself, since the positive tail of the log-ratio is declared",
        )
    return (
        replace(options, target="clipped"),
        "the clipped objective, since J* needs a declared --log-ratio-max",
    )


def _short(found: Design, options: Options) -> str:
    """Say in a few words why J* cannot be had."""
    if found.rollouts.log_ratio is None:
        return "the log has no log-probs of policy and reference"
    if options.beta is None:
        return "no --beta is known"
    return "gold has a scale of its own (--gold-scale)"


def _check_declared(found: Design, options: Options) -> None:
    """Stop where the log-ratios contradict what was declared of them."""
    log_ratio = found.rollouts.log_ratio
    if log_ratio is None:
        return
    largest, maximum = float(log_ratio.max()), options.log_ratio_max
    if maximum is not None and largest > maximum:
        raise AssumptionError(
            f"a log-ratio of {largest:.6g} nats exceeds the declared maximum of {maximum:g}; "
            "declare a maximum that holds for every possible response, or none."
        )
    moment = options.log_ratio_second_moment
    if moment is None:
        return
    squares = found.blocks.means(log_ratio**2)
    ratios = squares / moment if moment > 0 else np.where(squares > 0, 1e300, 0.0)
    if log_e_value_of_mean(np.minimum(ratios, 1e300)) >= _SURE_LOG_E:
        raise AssumptionError(
            f"the mean squared log-ratio is {squares.mean():.6g} nats² on this log, beyond chance "
            f"above the declared {moment:g}; declare a second moment that holds, or none."
        )


def _check_gold_kind(found: Design, options: Options) -> None:
    """Stop where gold is declared to be of two values and is not."""
    gold = found.rollouts.gold
    if options.gold_kind != "binary" or gold is None:
        return
    low, high = found.units.gold_range
    wrong = np.flatnonzero(~np.isnan(gold) & (gold != low) & (gold != high))
    if len(wrong):
        raise AssumptionError(
            f"row {wrong[0]}: gold is {gold[wrong[0]]:g}, and --gold-kind binary says that every "
            f"label is {low:g} or {high:g}, the ends of its range; declare the range that holds "
            "(--gold-range), or leave --gold-kind out."
        )


# --- the calibration split ------------------------------------------------------------------------


def _calibration_share(
    data: UnitData, found: Design, options: Options, chooses_truncation: bool
) -> float:
    """Nothing to choose, or too few draws to choose by: then every draw certifies.

    Draws of several laws are not split: what is left would be the average over other draws than
    those that are meant, and bounds without an order take nothing that was learned (theory §2).
    """
    blocks = found.blocks
    if options.calibration * len(blocks) < FEWEST_DRAWS or not found.one_law:
        return 0.0
    if options.missing is not None:
        return 0.0
    costs = options.target != "reward" and data.beta > 0
    chooses_tau = costs and options.tau == "auto" and options.log_ratio_max is None
    labelled = 0 if found.labels is None or found.sheet is not None else found.labels.draws
    chooses_plan = labelled >= FEW_LABELS or (labelled > 0 and costs)
    if _learns(found, options) or (found.labels and found.labels.kind is LabelKind.CHANCES):
        chooses_plan = False  # what the judge is worth is learned as bets are made, or not used
    return options.calibration if chooses_tau or chooses_plan or chooses_truncation else 0.0


def _learns(found: Design, options: Options) -> bool:
    """Whether bets learn from labels, so that every label that is not set aside certifies."""
    if found.labels is None or options.method != "betting" or options.missing is not None:
        return False
    return found.one_law and found.labels.one_chance


def _spared(data: UnitData, found: Design, options: Options) -> np.ndarray | None:
    """Return labels whose draws should certify, where others can be set aside; None for none.

    With unequal chances of a label, setting unlabelled draws aside would leave draws of another
    law.
    """
    labels = found.labels
    if labels is None or not labels.one_chance:
        return None
    few = labels.draws < FEW_LABELS
    return data.gold if few or _learns(found, options) else None


def _thresholds(
    data: UnitData, split: Split, options: Options, delta: float, found: Design
) -> Thresholds | None:
    if data.log_ratio is None:
        return None
    draws = len(split.certifying)
    if options.tau is None and options.log_ratio_max is None:
        return Thresholds(math.inf, math.inf, "none: nothing is clipped")
    if options.tau is None:
        negative = choose_negative(draws, delta)
        return Thresholds(options.log_ratio_max, negative, "none: the declared maximum")
    if options.tau == "auto":
        chosen = auto_thresholds(data, split.calibration, draws, delta, options)
        if chosen.source == TOO_FEW and not found.one_law:
            return replace(chosen, source=_NONE_ASIDE)
        return chosen
    tau = float(options.tau)
    return Thresholds(tau, tau if options.tau_negative is None else options.tau_negative, "given")


def auto_thresholds(
    data: UnitData, choosing: Blocks, certifying_draws: int, delta: float, options: Options
) -> Thresholds:
    """Return the thresholds of tau "auto": chosen on some draws, for so many that will certify."""
    chosen = choose_thresholds(
        reward=data.reward,
        log_ratio=data.log_ratio,
        beta=data.beta,
        calibration=choosing,
        certifying_draws=certifying_draws,
        delta=delta,
        maximum=options.log_ratio_max,
        second_moment=options.log_ratio_second_moment,
        target=options.target,
    )
    if options.tau_negative is None:
        return chosen
    return replace(chosen, tau_negative=options.tau_negative)


def labelled_draws(data: UnitData, blocks: Blocks) -> int:
    """Return how many draws carry a gold label."""
    return 0 if data.gold is None else int((label_counts(data.gold, blocks) > 0).sum())


def targets_to_certify(ready: Prepared) -> tuple[str, ...]:
    """Return the targets that the log has what it takes for."""
    return tuple(name for name in TARGETS if name not in ready.unavailable)

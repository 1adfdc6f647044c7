"""From rollouts to a certificate: the road's last stop before decisions and reports."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.calibration import (
    FEWEST_DRAWS,
    Split,
    Thresholds,
    choose_negative,
    choose_thresholds,
    split_draws,
)
from taut.auditing.compose import TargetCertificate, Terms, certify
from taut.auditing.evidence import (
    Measured,
    PaperBound,
    describe_log,
    measured_means,
    paper_bound,
    token_level,
)
from taut.auditing.options import TARGETS, Options
from taut.auditing.routes.placing import place_reward_data
from taut.auditing.routes.reward_data import describe_coverage
from taut.auditing.target import Design, UnitData, gold_to_unit, to_unit
from taut.bounds.coverage import log_e_value_of_mean
from taut.bounds.kl_clipping import describe_log_ratio
from taut.bounds.reward_shift import FEW_LABELS, label_counts
from taut.draws.health import (
    FAIL,
    SURE_LOG_E,
    WARN,
    Check,
    check_health,
    outcome,
    policy_changes,
    recurs_across_steps,
    steps_per_prompt_equal,
)
from taut.draws.rollouts import Blocks, Rollouts
from taut.errors import AssumptionError, LogError, UsageError
from taut.types import Status, weakest

BY_COLUMNS = ("step", "policy", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An interval for a true objective at level 1 - delta, with its evidence (theory §5).

    Attributes:
        target: The target that `lower` and `upper` speak of.
        targets: All three targets; None where one cannot be had.
        unavailable: Why, for each target that cannot be had.
        level: Probability 1 - delta, for each target on its own.
        tau, tau_negative: Clip thresholds used, nats; None without log-probs.
        measured, paper, health, options, log, log_ratio, token_clipping: The evidence.
        coverage: What the weights of the reward data look like (theory §3.7); None without.
        simultaneous: How many certificates hold together at `level`.
    """

    target: str
    targets: Mapping[str, TargetCertificate | None]
    unavailable: Mapping[str, str]
    level: float
    thresholds: Thresholds | None
    options: Options
    reward_range: tuple[float, float]
    measured: Measured
    paper: PaperBound
    health: tuple[Check, ...]
    log: Mapping
    log_ratio: Mapping | None
    token_clipping: Mapping | None
    coverage: Mapping | None = None
    simultaneous: int = 1

    @property
    def main(self) -> TargetCertificate:
        """The certificate of the chosen target."""
        return self.targets[self.target]

    @property
    def lower(self) -> float:
        """Lower end, reward units."""
        return self.main.lower

    @property
    def upper(self) -> float:
        """Upper end, reward units."""
        return self.main.upper

    @property
    def status(self) -> Status:
        """The weakest status among the parts."""
        return self.main.status

    @property
    def terms(self) -> Terms:
        """Sampling, reward shift and KL clipping, reward units."""
        return self.main.terms

    @property
    def tau(self) -> float | None:
        """Positive clip threshold, nats."""
        return None if self.thresholds is None else self.thresholds.tau

    @property
    def tau_negative(self) -> float | None:
        """Negative clip threshold, nats."""
        return None if self.thresholds is None else self.thresholds.tau_negative

    @property
    def document(self) -> dict:
        """The certificate as plain data, schema `taut.certificate/1` (design §5)."""
        from taut.auditing.document import certificate_document

        return certificate_document(self)

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.terminal.certificate import report_text

        return report_text(self.document)

    def _repr_html_(self) -> str:
        from taut.report.notebook import certificate_html

        return certificate_html(self.document)


def audit(
    rollouts: Rollouts,
    *,
    beta: float | None = None,
    reward_data: Rollouts | None = None,
    **settings,
) -> Certificate:
    """Certify what a log of rollouts says about the true objective.

    Args:
        rollouts: The log of one policy, or of several whose average is meant.
        beta: KL strength, reward units per nat; needed unless the target is "reward".
        reward_data: Rows on which the reward model is trusted, with the log-probs of the audited
            policy and of the behaviour policy that made them, and gold where it is known.
        reward_range, gold_range: (low, high) in reward units, fixed before the data. Without a
            reward range one is read off the data and the result is "estimated".
        tau: Clip threshold in nats, "auto" (chosen on the calibration split) or None (no clip).
        tau_negative: Threshold for negative log-ratios, nats; tau if a number is given for tau.
        delta: Error probability of each target's interval.
        target: "objective" (J*), "clipped" (E[r* - beta l^tau]) or "reward" (E r*).
        method: "betting", "bernstein", "hoeffding" or "paper".
        side: "both", or all of delta for the "lower" or the "upper" end.
        route: How to bound the reward shift: "auto" (forecast narrowest), "gold", "paper",
            "centred", "truncated", "importance", "score" or "trivial".
        reward_mse, coverage: Declared L (squared reward units) and C = sqrt(1 + chi-square).
        log_ratio_max: Declared upper bound on the log-ratio, nats.
        log_ratio_second_moment: Declared bound on E l^2, nats squared.
        calibration: Share of the draws that choose what is to be chosen.
        seed: Seed of the draw order and the split, part of the result.
        held_out: Declares that no policy was trained or chosen on these prompts.

    Raises:
        LogError: The log lacks what the target needs.
        AssumptionError: Data contradict a declaration.
        UsageError: Settings contradict each other.

    Source: theory §5.
    """
    options = Options(beta=beta, **settings)
    recurs = recurs_across_steps(rollouts)
    return _audit(rollouts, options, reward_data, recurs=recurs, simultaneous=1)


def audit_by(
    rollouts: Rollouts,
    by: str,
    *,
    beta: float | None = None,
    reward_data: Rollouts | None = None,
    **settings,
) -> dict[int | str, Certificate]:
    """Certify each step, policy or run of a log; all certificates hold together at 1 - delta.

    Each of M groups gets delta / M (a union bound; prompts may be shared between groups).

    Args:
        rollouts: The log.
        by: "step", "policy" or "run".
        beta, reward_data, settings: As for `audit`.

    Raises:
        UsageError: Unknown column. LogError: The log does not have it. Others as `audit`.

    Source: theory §6.3.
    """
    options = Options(beta=beta, **settings)
    if by not in BY_COLUMNS:
        raise UsageError(f"by is {by!r}; expected one of {', '.join(BY_COLUMNS)}.")
    column = getattr(rollouts, by)
    if column is None:
        raise LogError(f"the log has no '{by}' column to group by; map one with --map {by}=PATH.")
    names = getattr(rollouts, f"{by}_names", ())
    values = np.unique(column)
    recurs = recurs_across_steps(rollouts)
    return {
        (names[value] if names else int(value)): _audit(
            rollouts.take(column == value),
            options,
            reward_data,
            recurs=recurs,
            simultaneous=len(values),
        )
        for value in values
    }


def check(
    rollouts: Rollouts,
    *,
    reward_range: tuple[float, float] | None = None,
    gold_range: tuple[float, float] | None = None,
    held_out: bool = False,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Check a log's health; see `taut.draws.health.check_health` for what is looked at."""
    blocks = rollouts.blocks(seed)
    return check_health(
        rollouts,
        blocks,
        reward_range=reward_range,
        gold_range=gold_range or reward_range,
        held_out=held_out,
    )


def _audit(
    rollouts: Rollouts,
    options: Options,
    reward_data: Rollouts | None,
    *,
    recurs: bool,
    simultaneous: int,
) -> Certificate:
    require_columns(rollouts, options)
    if options.coverage is not None and options.reward_mse is None and reward_data is None:
        raise UsageError(
            "coverage without reward_mse: C sqrt(L) needs both a declared coverage C and a reward "
            "MSE L, or labelled reward data to bound L on."
        )
    ready = prepare(
        rollouts,
        options,
        recurs=recurs,
        simultaneous=simultaneous,
        chooses_truncation=reward_data is not None,
    )
    blocks, data, split, thresholds = ready.blocks, ready.data, ready.split, ready.thresholds
    low, high, delta, checks = ready.low, ready.high, ready.delta, ready.checks
    design = _design(rollouts, options, ready.declared, recurs, checks, ready.merged)
    available = TARGETS if data.log_ratio is not None and options.beta is not None else ("reward",)
    shift = place_reward_data(rollouts, reward_data, split, options, low, high)
    targets: dict[str, TargetCertificate | None] = dict.fromkeys(TARGETS)
    unavailable = dict.fromkeys(set(TARGETS) - set(available), "needs log-probs and beta")
    for name in available:
        try:
            found = certify(name, data, split, thresholds, design, options, delta, shift)
            targets[name] = found.rescaled(low, high - low)
        except AssumptionError as error:
            if name == options.target:
                raise
            unavailable[name] = str(error)
    clipped = targets["clipped"]
    objective = None if clipped is None else clipped.measured
    return Certificate(
        target=options.target,
        targets=targets,
        unavailable=unavailable,
        level=1 - options.delta,
        thresholds=thresholds,
        options=options,
        reward_range=(low, high),
        measured=measured_means(data, split.certifying, thresholds, objective, low, high),
        paper=paper_bound(data, blocks, thresholds, options, high - low, delta),
        health=checks,
        log=describe_log(rollouts, blocks, split, ready.declared, data),
        log_ratio=None
        if data.log_ratio is None
        else describe_log_ratio(
            data.log_ratio, split.certifying, thresholds.tau, thresholds.tau_negative
        ),
        token_clipping=token_level(rollouts, split.certifying),
        coverage=describe_coverage(shift, split.certifying, delta),
        simultaneous=simultaneous,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A log ready to be certified: draws, one scale, the split, and what the split chose.

    Attributes:
        blocks, split: All draws, and those that choose and certify.
        merged: Rows of a prompt were put in one draw, since prompts recur across steps.
        low, high, declared: The reward range, reward units, and whether it was declared.
        data: The log on the unit scale.
        checks: The health of the log.
        delta: Error probability of each target's interval.
        thresholds: Clip thresholds, nats; None without log-probs.
    """

    blocks: Blocks
    split: Split
    merged: bool
    low: float
    high: float
    declared: bool
    data: UnitData
    checks: tuple[Check, ...]
    delta: float
    thresholds: Thresholds | None


def prepare(
    rollouts: Rollouts,
    options: Options,
    *,
    recurs: bool,
    simultaneous: int = 1,
    chooses_truncation: bool = False,
) -> Prepared:
    """Lay a log out for `audit`: everything that is fixed before a certifying draw is looked at.

    Args:
        rollouts: The log, or one group of it.
        options: The settings.
        recurs: Whether prompts recur across steps in the whole log.
        simultaneous: How many certificates are to hold together.
        chooses_truncation: Reward data need a calibration split too.

    Raises:
        LogError: No draw is left to certify with.
    """
    # Held-out draws that carry a `group` are declared to be draws of their own.
    drawn = options.held_out and rollouts.group is not None
    # A part of the log can only recur where the whole log does.
    merged = recurs and not drawn and recurs_across_steps(rollouts)
    blocks = rollouts.blocks(options.seed, merge_steps=merged)
    low, high, declared = reward_scale(rollouts, options)
    data = unit_data(rollouts, options, low, high)
    checks = check_health(
        rollouts,
        blocks,
        reward_range=options.reward_range,
        gold_range=options.gold_range or options.reward_range,
        held_out=options.held_out,
    )
    delta = options.delta / simultaneous
    share = _calibration_share(data, blocks, options, chooses_truncation)
    split = split_draws(blocks, data.gold, share)
    if len(split.certifying) == 0:
        raise LogError("the log holds no draw to certify with; it needs at least one prompt.")
    return Prepared(
        blocks=blocks,
        split=split,
        merged=merged,
        low=low,
        high=high,
        declared=declared,
        data=data,
        checks=checks,
        delta=delta,
        thresholds=_thresholds(data, split, options, delta),
    )


def require_columns(rollouts: Rollouts, options: Options) -> None:
    """Stop where a log lacks what a target needs, or contradicts what was declared of it."""
    if len(rollouts) == 0:
        raise LogError("the log holds no rollouts; expected at least one row.")
    if rollouts.log_ratio is not None:
        _check_declared(rollouts, options)
    if options.target == "reward":
        return
    if rollouts.log_ratio is None:
        raise LogError(
            f"the target '{options.target}' needs log-probs: expected the columns 'policy_logprob' "
            "and 'ref_logprob' (or 'log_ratio'). Map them with --map, or ask for --target reward."
        )
    if options.beta is None:
        raise UsageError(
            f"the target '{options.target}' needs --beta, the KL strength in reward units per nat; "
            "or ask for --target reward."
        )


def _check_declared(rollouts: Rollouts, options: Options) -> None:
    """Stop where the log-ratios contradict what was declared of them."""
    largest, maximum = float(rollouts.log_ratio.max()), options.log_ratio_max
    if maximum is not None and largest > maximum:
        raise AssumptionError(
            f"a log-ratio of {largest:.6g} nats exceeds the declared maximum of {maximum:g}; "
            "declare a maximum that holds for every possible response, or none."
        )
    moment = options.log_ratio_second_moment
    if moment is None:
        return
    squares = rollouts.blocks(options.seed).means(rollouts.log_ratio**2)
    ratios = squares / moment if moment > 0 else np.where(squares > 0, 1e300, 0.0)
    if log_e_value_of_mean(ratios) >= SURE_LOG_E:
        raise AssumptionError(
            f"the mean squared log-ratio is {squares.mean():.6g} nats² on this log, beyond chance "
            f"above the declared {moment:g}; declare a second moment that holds, or none."
        )


def reward_scale(rollouts: Rollouts, options: Options) -> tuple[float, float, bool]:
    """Return the reward range, reward units, and whether it was declared or read off the data."""
    if options.reward_range is not None:
        low, high = map(float, options.reward_range)
        return low, high, True
    values = [rollouts.reward]
    if rollouts.gold is not None and options.gold_range is None:
        values.append(rollouts.gold[~np.isnan(rollouts.gold)])
    low = min(float(column.min()) for column in values if len(column))
    high = max(float(column.max()) for column in values if len(column))
    return low, (high if high > low else low + max(1.0, abs(low))), False


def unit_data(rollouts: Rollouts, options: Options, low: float, high: float) -> UnitData:
    """Return the log on the unit scale of [low, high]."""
    gold = gold_to_unit(rollouts.gold, options.gold_range or (low, high))
    return UnitData(
        reward=to_unit(rollouts.reward, low, high),
        gold=gold,
        log_ratio=rollouts.log_ratio,
        beta=(options.beta or 0.0) / (high - low),
        reward_mse=None if options.reward_mse is None else options.reward_mse / (high - low) ** 2,
    )


def _design(
    rollouts: Rollouts, options: Options, declared: bool, recurs: bool, checks, merged: bool
) -> Design:
    """What the log's layout allows (theory §2, end; §2.4)."""
    changes = policy_changes(rollouts)
    reasons = []
    if recurs and not options.held_out:
        reasons.append(
            "no policy was trained or chosen on these prompts, although they recur across steps"
        )
    elif changes and not options.held_out:
        reasons.append(
            "no policy in this log was trained on its prompts; several policies are averaged"
        )
    if merged and not steps_per_prompt_equal(rollouts):
        reasons.append(
            "each distinct prompt counts once, although prompts recur at unequal numbers of steps; "
            "mark independent draws with a column `group`"
        )
    if outcome(checks, "repeated_draws").status == FAIL:
        reasons.append(
            "draws of one prompt are independent, although each prompt recurs equally often, as in "
            "a fixed list; without `group` they are merged per prompt"
        )
    if rollouts.origin is not None and outcome(checks, "chosen_by_reward").status == FAIL:
        reasons.append(
            "which rollouts are in the log does not depend on their rewards, although draws whose "
            "rewards are all equal seem to have been dropped"
        )
    if not declared:
        reasons.append("the reward range, which was read off the data, holds")
    status = Status.ESTIMATED if reasons else Status.CERTIFIED
    if outcome(checks, "rollouts_per_prompt").status == WARN:
        status = weakest((status, Status.CONDITIONAL))
        reasons.append(
            "the number of rollouts of a prompt does not depend on outcomes, and rows that share "
            "its id are one draw of it"
        )
    if rollouts.rejected_rows:
        status = weakest((status, Status.CONDITIONAL))
        reasons.append(
            f"which rows were left out of the log ({rollouts.rejected_rows:,}: broken, or without "
            "a reward) does not depend on outcomes"
        )
    return Design(
        identical=not changes,
        status=status,
        assumes=tuple(reasons),
        labels_blind=outcome(checks, "labels_blind").status != FAIL,
        log_probs_sound=outcome(checks, "exp_minus_log_ratio").status != FAIL,
    )


def _calibration_share(
    data: UnitData, blocks: Blocks, options: Options, chooses_truncation: bool
) -> float:
    """Nothing to choose, or too few draws to choose by: then every draw certifies."""
    if options.calibration * len(blocks) < FEWEST_DRAWS:
        return 0.0
    costs = options.target != "reward" and data.beta > 0
    chooses_tau = costs and options.tau == "auto" and options.log_ratio_max is None
    labelled = 0 if data.gold is None else int((label_counts(data.gold, blocks) > 0).sum())
    chooses_plan = labelled >= FEW_LABELS or (labelled > 0 and costs)
    return options.calibration if chooses_tau or chooses_plan or chooses_truncation else 0.0


def _thresholds(data: UnitData, split: Split, options: Options, delta: float) -> Thresholds | None:
    if data.log_ratio is None:
        return None
    draws = len(split.certifying)
    if options.tau is None and options.log_ratio_max is None:
        return Thresholds(math.inf, math.inf, "none: nothing is clipped")
    if options.tau is None:
        negative = choose_negative(draws, delta)
        return Thresholds(options.log_ratio_max, negative, "none: the declared maximum")
    if options.tau == "auto":
        return auto_thresholds(data, split.calibration, draws, delta, options)
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
    )
    if options.tau_negative is None:
        return chosen
    return replace(chosen, tau_negative=options.tau_negative)

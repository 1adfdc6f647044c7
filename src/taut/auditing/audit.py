"""From rollouts to a certificate: the verbs."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from taut.auditing import certificate as result
from taut.auditing.advice import advise
from taut.auditing.certificate import Certificate
from taut.auditing.compose import TargetCertificate, certify, mean_of
from taut.auditing.evidence import describe_log, measured_means, paper_bound, token_level
from taut.auditing.options import TARGETS, GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.prepare import Prepared, prepare, targets_to_certify
from taut.auditing.routes.placing import place_reward_data
from taut.auditing.routes.reward_data import describe_coverage
from taut.auditing.target import TargetMean
from taut.auditing.words import Method, Route, Side, Target
from taut.bounds.kl_clipping import describe_log_ratio
from taut.draws.layout import Whole, settle
from taut.draws.order import side_by_side
from taut.draws.rollouts import Rollouts
from taut.engines.tables import Data, as_rollouts
from taut.errors import AssumptionError, UsageError
from taut.types import Interval, Status

_NOISES = (0.1, 0.5)  # nats a sequence; kernels differ by about the first


def audit(
    rollouts: Data,
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
) -> Certificate:
    """Certify what a log of rollouts says about the true objective.

    Args:
        rollouts: The log of one policy, or of several whose average is meant: rollouts, a table,
            columns, rewards of shape (prompts, K), or a path; see `taut.as_rollouts`.
        columns: Native column to column of the table, also of the reward data.
        beta: KL strength, reward units per nat; needed unless the target is "reward".
        reward_data: Rows on which the reward model is trusted, with the log-probs of the audited
            policy and of the behaviour policy that made them, and gold where it is known.
        reward_range, gold_range: (low, high), reward units and units of gold, fixed before the
            data. Without a reward range one is read off the data and the result is "estimated".
        gold_kind: "binary": every label is one of the two ends of gold's range.
        gold_scale: (p, q): gold * p + q is in reward units. Needed for J* where gold has a range of
            its own; E r* stays in units of gold.
        tau: Clip threshold in nats, "auto" (chosen on the calibration split) or None (no clip).
        tau_negative: Threshold for negative log-ratios, nats; tau if a number is given for tau.
        delta: Error probability of each target's interval.
        target: "auto" (the strongest that the log can certify), "objective" (J*), "clipped"
            (E[r* - beta l^tau]) or "reward" (E r*).
        method: "betting", "bernstein", "hoeffding" or "paper".
        side: "both", or all of delta for the "lower" or the "upper" end.
        route: How to bound the reward shift: "auto" (forecast narrowest), "gold", "joint",
            "paper", "centred", "truncated", "importance", "score" or "trivial".
        reward_mse, coverage: Declared L (squared reward units) and C = sqrt(1 + chi-square).
        log_ratio_max: Declared upper bound on the log-ratio, nats.
        log_ratio_second_moment: Declared bound on E l^2, nats squared.
        calibration: Share of the draws that choose what is to be chosen.
        seed: Seed of the draw order and the split, part of the result.
        declare: Any of "held-out", "complete", "random-labels" (theory §5).
        held_out: The first of these: no policy was trained or chosen on these prompts.
        prompts: How prompts came into the log: "sample" (each distinct prompt counts once), "list"
            (these prompts are meant, no population) or "with-replacement" (`group` marks draws).
        missing: "worst" imputes rollouts that were launched and are not there.
        launched: (prompts, rollouts per prompt) that were launched.
        log_prob_noise: Declared bound on the error of log-ratios and log-weights, nats.

    Raises:
        LogError: The log lacks what the target needs.
        AssumptionError: Data contradict a declaration.
        UsageError: Settings contradict each other.

    Source: theory §5.
    """
    options = options_of(locals())
    trusted = None if reward_data is None else as_rollouts(reward_data, columns, features=True)
    whole = settle(as_rollouts(rollouts, columns, features=trusted is not None))
    return audit_part(whole.rollouts, options, trusted, whole=whole)


def audit_part(
    rollouts: Rollouts,
    options: Options,
    reward_data: Rollouts | None = None,
    *,
    whole: Whole,
    simultaneous: int = 1,
    share: float | None = None,
) -> Certificate:
    """Certify a part of a settled log; `audit` and `audit_by` are made of this."""
    if options.coverage is not None and options.reward_mse is None and reward_data is None:
        raise UsageError(
            "coverage without reward_mse: C sqrt(L) needs both a declared coverage C and a reward "
            "MSE L, or labelled reward data to bound L on."
        )
    if options.missing is not None and reward_data is not None:
        raise UsageError("missing='worst' cannot be had with reward data: leave one of them out.")
    ready = prepare(
        rollouts,
        options,
        whole=whole,
        simultaneous=simultaneous,
        share=share,
        chooses_truncation=reward_data is not None,
        sampler=reward_data is None,
    )
    return certify_ready(ready, reward_data, simultaneous=simultaneous)


def certify_ready(
    ready: Prepared, reward_data: Rollouts | None = None, *, simultaneous: int = 1
) -> Certificate:
    """Certify a prepared log: every target that it has what it takes for, and the evidence."""
    options, design_, split = ready.options, ready.design, ready.split
    shift = place_reward_data(ready, reward_data)
    found: dict[str, TargetCertificate] = {}
    unavailable = dict(ready.unavailable)

    def certify_some(names: list[str]) -> None:
        """Certify targets that are the mean of the same values."""
        mean: TargetMean | None = None
        for name in names:
            try:
                mean = mean or mean_of(name, ready)
                found[name] = certify(name, ready, shift, mean)
            except AssumptionError as error:
                if name == options.target:
                    raise
                unavailable[name] = str(error)

    names = targets_to_certify(ready)
    alike = [[name for name in names if (name == "reward") == free] for free in (False, True)]
    side_by_side([partial(certify_some, some) for some in alike], len(design_.rollouts))
    main = found[options.target]
    clipped = found.get("clipped")
    return Certificate(
        target=options.target,
        target_reason=ready.target_reason,
        settings=_settings(ready, simultaneous),
        log=describe_log(design_, split),
        measured=measured_means(ready, None if clipped is None else clipped.measured),
        terms=main.terms,
        certificate=result.Interval(
            lower=main.lower,
            upper=main.upper,
            level=1 - options.delta,
            status=main.status,
            units=main.units,
            range=main.range,
        ),
        proxy=_proxy(main),
        targets={
            name: _target(found[name])
            if name in found
            else result.Target(unavailable=unavailable[name])
            for name in TARGETS
        },
        coverage=describe_coverage(shift, split.certifying, ready.delta),
        routes=main.routes,
        paper=paper_bound(ready),
        comparison=_comparison(main.normal),
        log_ratio=_log_ratio(ready),
        token_clipping=token_level(design_.rollouts, split.certifying),
        ledger=tuple(
            result.LedgerEntry(event=item.event, delta=item.delta) for item in main.ledger
        ),
        assumptions=main.assumptions,
        advice=advise(ready, main),
        sensitivity=_sensitivity(ready, reward_data, main),
        health=design_.checks,
    )


def _sensitivity(
    ready: Prepared, reward_data: Rollouts | None, main: TargetCertificate
) -> tuple[result.Sensitivity, ...]:
    """Certify again with noise of log-probs that nobody declared (theory §3.7).

    Where the route taken uses weights; labels alone, and the trivial bound, do not.
    """
    if reward_data is None or ready.options.log_prob_noise is not None:
        return ()
    if any(not item.reason and item.route in ("gold", "trivial") for item in main.routes):
        return ()
    if reward_data.policy_logprob is None or reward_data.behaviour_logprob is None:
        return ()
    found = []
    for noise in _NOISES:
        declared = replace(ready.design.declared, log_prob_noise=noise)
        noisy = replace(
            ready,
            options=replace(ready.options, log_prob_noise=noise),
            design=replace(ready.design, declared=declared),
        )
        try:
            item = certify(ready.options.target, noisy, place_reward_data(noisy, reward_data))
        except (AssumptionError, UsageError):
            continue  # the route that was named is not open under noise
        found.append(
            result.Sensitivity(
                noise=noise,
                lower=item.lower,
                upper=item.upper,
                status=item.status,
                route=item.terms.reward_shift.route,
            )
        )
    return tuple(found)


def _comparison(normal: Interval) -> result.Comparison:
    return result.Comparison(
        normal_lower=normal.lower, normal_upper=normal.upper, status=Status.ESTIMATED
    )


def _proxy(item: TargetCertificate) -> result.StatedSpan:
    return result.StatedSpan(
        lower=item.proxy.lower, upper=item.proxy.upper, status=item.proxy_status
    )


def _target(item: TargetCertificate) -> result.Target:
    return result.Target(
        measured=item.measured,
        lower=item.lower,
        upper=item.upper,
        status=item.status,
        units=item.units,
        range=None if any(map(math.isinf, item.range)) else item.range,
        route=item.terms.reward_shift.route,
        proxy=_proxy(item),
    )


def _log_ratio(ready: Prepared) -> result.LogRatio | None:
    if ready.data.log_ratio is None or ready.thresholds is None:
        return None
    thresholds = ready.thresholds
    found = describe_log_ratio(
        ready.data.log_ratio, ready.split.certifying, thresholds.tau, thresholds.tau_negative
    )
    return result.LogRatio(**found)


def _settings(ready: Prepared, simultaneous: int) -> result.Settings:
    options, units, thresholds = ready.options, ready.design.units, ready.thresholds
    return result.Settings(
        beta=options.beta,
        delta=options.delta,
        target=options.target,
        target_asked="auto" if ready.target_reason else options.target,
        tau=None if thresholds is None else thresholds.tau,
        tau_negative=None if thresholds is None else thresholds.tau_negative,
        tau_source=None if thresholds is None else thresholds.source,
        reward_range=units.reward_range,
        reward_range_source="declared" if units.reward_declared else "read off the data",
        gold_range=options.gold_range,
        gold_scale=options.gold_scale,
        method=options.method,
        side=options.side,
        calibration_share=options.calibration,
        seed=options.seed,
        held_out=options.held_out,
        declare=tuple(options.declare),
        prompts=options.prompts,
        missing=options.missing,
        launched=options.launched,
        log_prob_noise=options.log_prob_noise,
        gold_kind=options.gold_kind,
        coverage=options.coverage,
        reward_mse=options.reward_mse,
        log_ratio_max=options.log_ratio_max,
        log_ratio_second_moment=options.log_ratio_second_moment,
        simultaneous=simultaneous,
    )

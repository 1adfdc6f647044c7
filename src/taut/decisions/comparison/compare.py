"""Is one policy better than another, and did it only learn to please the reward model?

Differences of draws that both policies answered cancel what prompts have in common (theory §6.3,
appendix B). Two statements hold together at 1 - delta: one on the true reward, at three quarters
of delta, and one on the learned reward, at a quarter; without gold all goes to the learned one.
The certificates of both sides are shown beside them, each at its own level; where they are the
evidence (no labels on shared prompts, or a KL tail), they hold together with the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.certificate import LedgerEntry
from taut.auditing.options import GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.prepare import enter
from taut.auditing.words import Method, Target
from taut.bounds.sampling import block_interval
from taut.decisions.comparison.result import (
    ComparisonSettings,
    Difference,
    PolicyComparison,
    Side,
)
from taut.decisions.comparison.verdict import Claim, hacked_of, labels_to_tell, verdict_of
from taut.decisions.selection.contest import (
    CERTIFICATES,
    Contest,
    common_clip,
    measured,
    moved,
    pair_status,
    pairs_are_labelled,
)
from taut.decisions.selection.pairs import GOLD, Draws, paired_difference
from taut.decisions.selection.worst import worst_assumptions, worst_checks
from taut.draws.design import settled
from taut.draws.joining import join_logs
from taut.draws.layout import draw_keys
from taut.draws.rollouts import Rollouts
from taut.draws.slices import needed, slices_of
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError
from taut.types import Interval, Status, weakest

_TRUE = 0.75  # of delta, where there are labels
_SIDES = ("a", "b")


def compare(
    a: Data,
    b: Data | None = None,
    *,
    by: str | None = None,
    of: int | str | None = None,
    against: int | str | None = None,
    names: tuple[str, str] = _SIDES,
    margin: float | None = None,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    gold_scale: Range | None = None,
    tau: Threshold = "auto",
    tau_negative: float | None = None,
    delta: float = 0.05,
    target: Target = "auto",
    method: Method = "betting",
    log_ratio_max: float | None = None,
    log_ratio_second_moment: float | None = None,
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
    log_prob_noise: float | None = None,
    gold_kind: GoldKind = None,
) -> PolicyComparison:
    """Compare two policies: paired on the prompts that both answered, true reward where gold is.

    Args:
        a, b: The logs of two policies, each as anything that `taut.audit` takes; or one log, with
            `by`, `of` and `against`.
        by: The column that tells policies apart in one log.
        of, against: Its values of a and of b.
        names: What to call the two, where they are two logs.
        margin: Largest loss of a that is harmless, units of the target; fixed before the data.

    The other arguments are those of `taut.audit`.

    Returns:
        f(a) - f(b) on the true and on the learned reward, both at once at 1 - delta.

    Raises:
        UsageError: Settings that contradict each other. LogError: No such column or value.
        AssumptionError: Data contradict a declaration.

    Source: theory §6.3, appendix B; module docstring.
    """
    options = options_of(locals())
    if margin is not None and not 0 <= margin < math.inf:
        raise UsageError(f"margin is {margin}; expected a finite number of at least 0.")
    parts, names = _two_logs((a, b), by, (of, against), names, columns)
    found = _look(join_logs(dict(zip(_SIDES, parts, strict=True))), options)
    claim = Claim(
        names=names,
        units=found.contest.units_name,
        target=found.options.target,
        difference=found.difference,
        learned=found.learned,
        margin=margin,
        same_scale=found.contest.units.common is not None,
    )
    verdict, sentence = verdict_of(claim)
    hacked, hacked_sentence = hacked_of(claim)
    certificates = found.contest.certificates
    return PolicyComparison(
        by=by,
        target=found.options.target,
        units=found.contest.units_name,
        level=1 - options.delta,
        settings=_settings(found, margin),
        **{
            side: Side(
                name=name, certificate=certificates[side], measured=measured(certificates[side])
            )
            for side, name in zip(_SIDES, names, strict=True)
        },
        difference=found.difference,
        learned_difference=found.learned,
        verdict=verdict,
        sentence=sentence,
        hacked=hacked,
        hacked_sentence=hacked_sentence,
        labels_to_tell=labels_to_tell(claim),
        ledger=found.ledger,
        assumptions=worst_assumptions(certificates.values()),
        health=worst_checks(certificates.values()),
    )


def _two_logs(logs, by, values, names, columns) -> tuple[list[Rollouts], tuple[str, str]]:
    first, second = logs
    if by is None:
        if second is None or any(value is not None for value in values):
            raise UsageError("expected two logs, or one with by=, of= and against=.")
        if len(names) != 2 or names[0] == names[1]:
            raise UsageError(f"names is {names}; expected two that differ.")
        return [as_rollouts(log, columns) for log in logs], names
    if second is not None or any(value is None for value in values):
        raise UsageError("with by= expected one log, and both of= and against=.")
    log = as_rollouts(first, columns, keep=needed((by,)))
    slices = slices_of(log, (by,))
    rows = dict(zip(map(str, slices.values), slices.rows(), strict=True))
    for value in values:
        if str(value) not in rows:
            known = ", ".join([*rows][:12]) + (", …" if len(rows) > 12 else "")
            raise LogError(f"no {by} {value} in the log; it holds {known}.")
    if str(values[0]) == str(values[1]):
        raise UsageError(f"of and against are both {values[0]}; expected two that differ.")
    log = _counted(log)
    return [log.take(rows[str(value)]) for value in values], (
        f"{by} {values[0]}",
        f"{by} {values[1]}",
    )


def _counted(log: Rollouts) -> Rollouts:
    """Return a log of which parts are to be taken, without its count where it is all there.

    How many were launched is known of the whole alone: with it every part would look short.
    """
    facts = log.facts
    if facts.launched_prompts is None or facts.rollouts_per_prompt is None:
        return log
    if len(log) != facts.launched_prompts * facts.rollouts_per_prompt:
        return log
    return replace(log, facts=replace(facts, launched_prompts=None))


@dataclass(frozen=True, slots=True)
class _Look:
    contest: Contest
    options: Options
    shares: tuple[float, float]
    difference: Difference
    learned: Difference
    ledger: tuple[LedgerEntry, ...]


def _look(log: Rollouts, options: Options) -> _Look:
    """Fix the threshold, split delta, and bound both differences."""
    whole = settled(log)
    entered = enter(whole.rollouts, options, whole=whole)
    whole, units, options = entered.design.whole, entered.design.units, entered.options
    log = whole.rollouts
    keys, code = draw_keys(log, options.prompts), log.policy.astype(np.uint64)
    clip = common_clip(log, keys, options, units)
    if clip.aside is not None:
        left = ~np.isin(keys, clip.aside)
        if len(np.unique(code[left])) < 2:
            raise LogError("too few prompts to set some aside for choosing tau; give --tau NATS.")
        log, keys, code = log.take(left), keys[left], code[left]
    options = replace(options, tau=clip.tau, tau_negative=clip.tau_negative)
    labelled = log.gold is not None and not np.isnan(log.gold).all()
    true = options.delta * _TRUE if labelled else 0.0
    learned = options.delta - true
    paired = clip.tau is not None and pairs_are_labelled(log, keys, code)
    # A tail of the objective is bounded by the certificates, so that they must hold too.
    joint = labelled and (not paired or options.target == "objective")
    half = (true / 2 if joint else true) / 2 if paired else 0.0
    contest = Contest(log, keys, code, _SIDES, options, units, (half, None), whole)
    if joint:
        contest.certify(true - 2 * half)
    else:
        contest.certify(options.delta, simultaneous=1)
    sides = [contest.draws(side) for side in _SIDES]
    return _Look(
        contest=contest,
        options=options,
        shares=(true, learned),
        difference=_difference(contest, sides, half, joint),
        learned=_learned(contest, sides, learned / 2),
        ledger=_ledger(true, learned, half, joint),
    )


def _ledger(true: float, learned: float, half: float, joint: bool) -> tuple[LedgerEntry, ...]:
    spent = (
        ("difference of the true reward, paired", 2 * half),
        ("certificates of both sides", true - 2 * half if joint else 0.0),
        ("difference of the learned reward", learned),
    )
    return tuple(LedgerEntry(event=event, delta=delta) for event, delta in spent if delta)


def _pair(contest: Contest, sides, etas: tuple[float, float], *, gold: bool):
    (one, mixed), (other, also_mixed) = sides
    method = contest.options.method
    if (mixed or also_mixed) and method in ("betting", "bernstein"):
        method = "mixture"  # order-free, as draws differ in law (theory §2.5)
    if not gold:
        one, other = (replace(part, gold=np.full(len(part.key), math.nan)) for part in (one, other))
    return paired_difference(
        one,
        other,
        cost_range=(-contest.beta * contest.tau[1], contest.beta * contest.tau[0]),
        etas=etas,
        method=method,
        calibration=contest.options.calibration,
    )


def _shared(sides) -> tuple[int, int]:
    """Return draws that both have, and those with gold on both sides."""
    (one, _), (other, _) = sides
    _, mine, theirs = np.intersect1d(one.key, other.key, assume_unique=True, return_indices=True)
    known = ~np.isnan(one.gold[mine]) & ~np.isnan(other.gold[theirs])
    return len(mine), int(known.sum())


def _difference(contest: Contest, sides, half: float, joint: bool) -> Difference:
    """Bound f(a) - f(b) on the true reward."""
    mine, its = (contest.certificates[side] for side in _SIDES)
    shared, labelled = _shared(sides)
    evidence: list[tuple[Interval, Status, str, float]] = []
    pair = _pair(contest, sides, (half, half), gold=True) if half else None
    if pair is not None and pair.kind == GOLD:
        status = pair_status(pair, contest, *_SIDES)
        ends = moved(pair.interval, contest, mine, its)
        evidence.append((ends, status, GOLD, contest.width * pair.mean))
    if joint and Status.VACUOUS not in (mine.status, its.status):
        ends = Interval(mine.lower - its.upper, mine.upper - its.lower)
        middle = (ends.lower + ends.upper) / 2
        evidence.append((ends, weakest((mine.status, its.status)), CERTIFICATES, middle))
    if not evidence:
        return Difference(
            mean=None,
            lower=None,
            upper=None,
            status=Status.VACUOUS,
            kind=CERTIFICATES,
            shared=shared,
            labelled=labelled,
        )
    # One is taken by its standing and the number of labels, never by its ends; both are paid.
    ends, status, kind, mean = max(evidence, key=lambda item: -item[1].rank)
    for other in evidence:
        if other[1] is status and other[2] != kind:
            low, high = max(ends.lower, other[0].lower), min(ends.upper, other[0].upper)
            ends = Interval(low, high) if low <= high else ends
    return Difference(
        mean=mean,
        lower=ends.lower if math.isfinite(ends.lower) else None,
        upper=ends.upper if math.isfinite(ends.upper) else None,
        status=status,
        kind=kind,
        shared=shared,
        labelled=labelled,
    )


def _learned(contest: Contest, sides, eta: float) -> Difference:
    """Bound the difference of the learned reward, less its KL cost; on shared draws if any."""
    shared, labelled = _shared(sides)
    pair = _pair(contest, sides, (eta, eta), gold=False)
    parts = [contest.learned_statuses[side] for side in _SIDES]
    width = contest.units.width
    if pair is not None:
        if pair.partly:
            parts.append(Status.CONDITIONAL)
        ends, mean, kind = pair.interval, pair.mean, "paired"
    else:
        one, other = (_alone(contest, draws, mixed, eta) for draws, mixed in sides)
        ends = Interval(one.lower - other.upper, one.upper - other.lower)
        mean = math.nan
        values = [float(np.mean(draws.reward - draws.cost)) for draws, _ in sides]
        mean, kind = values[0] - values[1], "unpaired"
    return Difference(
        mean=width * mean,
        lower=math.nextafter(width * ends.lower, -math.inf),
        upper=math.nextafter(width * ends.upper, math.inf),
        status=weakest(parts),
        kind=kind,
        shared=shared,
        labelled=labelled,
    )


def _alone(contest: Contest, draws: Draws, mixed: bool, eta: float) -> Interval:
    """Bound one side's mean; the two sides' ends fail with probability eta together."""
    low, high = -contest.beta * contest.tau[0], 1 + contest.beta * contest.tau[1]
    return block_interval(
        np.clip(draws.reward - draws.cost, low, high),
        low=low,
        high=high,
        delta_lower=eta / 2,
        delta_upper=eta / 2,
        method="mixture" if mixed else contest.options.method,
    )


def _settings(found: _Look, margin: float | None) -> ComparisonSettings:
    options = found.options
    tau = options.tau if isinstance(options.tau, float) else None
    return ComparisonSettings(
        beta=options.beta,
        delta=options.delta,
        delta_true=found.shares[0],
        delta_learned=found.shares[1],
        tau=tau,
        tau_negative=None if tau is None else options.tau_negative,
        reward_range=options.reward_range,
        gold_range=options.gold_range,
        gold_scale=options.gold_scale,
        method=options.method,
        calibration_share=options.calibration,
        seed=options.seed,
        declare=options.declare,
        prompts=options.prompts,
        margin=margin,
    )

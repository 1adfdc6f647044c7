"""Is one policy better than another, and did it only learn to please the reward model?

Differences of draws that both policies answered cancel what prompts have in common (theory §6.3,
appendix B). Two statements hold together at 1 - delta: one on the true reward, at three quarters
of delta, and one on the learned reward, at a quarter; without gold all goes to the learned one.
The certificates of both sides are shown beside them, each at its own level; where they are the
evidence (labels that cannot stand opposite each other, or a KL tail), they hold together with the
rest. Which evidence is paid for goes by declarations and by where labels are, never by values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.certificate import LedgerEntry
from taut.auditing.options import GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.prepare import enter
from taut.auditing.words import Method, Target
from taut.auditing.worst import worst_assumptions, worst_checks
from taut.decisions.comparison.result import ComparisonSettings, PolicyComparison, Side
from taut.decisions.comparison.verdict import Claim, labels_to_tell, verdict_of
from taut.decisions.contest.contest import (
    Contest,
    common_clip,
    measured,
    pair_keys,
    pairs_are_labelled,
)
from taut.decisions.contest.differences import Opposed, Spent
from taut.decisions.contest.hacked import hacked_of
from taut.decisions.contest.pairs import FEWEST_SHARED
from taut.decisions.contest.result import Difference
from taut.draws.assumptions import Assumption
from taut.draws.design import settled
from taut.draws.joining import alike_prompts, join_logs
from taut.draws.layout import lay_out
from taut.draws.rollouts import Rollouts
from taut.draws.slices import needed, slices_of
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError

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
        names=names, target=found.options.target, difference=found.difference, margin=margin
    )
    verdict, sentence = verdict_of(claim)
    same_scale = found.contest.units.common is not None
    hacked, told = hacked_of(names, found.difference, found.learned, same_scale=same_scale)
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
        hacked_sentence=told,
        labels_to_tell=labels_to_tell(claim),
        ledger=found.ledger,
        assumptions=(
            *worst_assumptions(item.assumptions for item in certificates.values()),
            *([] if found.alike is None else [found.alike]),
        ),
        health=worst_checks(item.health for item in certificates.values()),
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
    alike: Assumption | None


def _look(log: Rollouts, options: Options) -> _Look:
    """Fix the threshold, split delta, and bound both differences."""
    whole = settled(log)
    entered = enter(whole.rollouts, options, whole=whole)
    whole, units, options = entered.design.whole, entered.design.units, entered.options
    log = whole.rollouts
    keys, code = pair_keys(log, options.prompts), log.policy.astype(np.uint64)
    clip = common_clip(log, keys, options, units)
    if clip.aside is not None:
        left = ~np.isin(keys, clip.aside)
        if len(np.unique(code[left])) < 2:
            raise LogError("too few prompts to set some aside for choosing tau; give --tau NATS.")
        log, keys, code = log.take(left), keys[left], code[left]
    options = replace(options, tau=clip.tau, tau_negative=clip.tau_negative)
    shares = _split(log, keys, code, options)
    contest = Contest(log, keys, code, _SIDES, options, units, (0.0, None), whole)
    contest.certify(shares.certificates or options.delta, simultaneous=shares.simultaneous)
    spent = Spent(true=shares.paired / 2, learned=shares.learned / 2, joint=shares.certificates > 0)
    sides = Opposed(contest, *_SIDES, spent)
    return _Look(
        contest=contest,
        options=options,
        shares=(options.delta - shares.learned, shares.learned),
        difference=sides.true(),
        learned=sides.learned(),
        ledger=shares.ledger(),
        alike=alike_prompts(sides.shared, [len(side.key) for side in sides.sides]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """What each part of the statement may miss with; decided by counts and declarations alone.

    `simultaneous` certificates share theirs; without a share each stands at all of delta.
    """

    paired: float
    certificates: float
    learned: float
    simultaneous: int

    def ledger(self) -> tuple[LedgerEntry, ...]:
        spent = (
            ("difference of the true reward, paired", self.paired),
            ("certificates of both sides", self.certificates),
            ("difference of the learned reward", self.learned),
        )
        return tuple(LedgerEntry(event=event, delta=delta) for event, delta in spent if delta)


def _split(log: Rollouts, keys, code, options: Options) -> _Shares:
    """Split delta: certificates get some where they are an evidence, or bound a KL tail."""
    objective = options.target == "objective"
    labelled = [0, 0]
    if log.gold is not None:
        known = ~np.isnan(log.gold)
        labelled = [len(np.unique(keys[known & (code == side)])) for side in (0, 1)]
    if not any(labelled):
        learned = options.delta / 2 if objective else options.delta
        rest = options.delta - learned
        return _Shares(
            paired=0.0, certificates=rest, learned=learned, simultaneous=2 if rest else 1
        )
    true = options.delta * _TRUE
    paired = isinstance(options.tau, float) or options.target == "reward"
    if min(labelled) < FEWEST_SHARED:
        paired = False
    elif not _matches(log, code, options):
        paired = paired and pairs_are_labelled(log, keys, code)
    apart = true / 2 if paired and objective else 0.0 if paired else true
    # Where one side has no label, its range is no chance event.
    alone = min(labelled) == 0 and not objective
    return _Shares(
        paired=true - apart,
        certificates=apart,
        learned=options.delta - true,
        simultaneous=1 if alone or not apart else 2,
    )


def _matches(log: Rollouts, code, options: Options) -> bool:
    """Whether draws of different prompts may stand opposite each other: one law, and bets."""
    if options.method != "betting":
        return False
    parts = (log.take(code == side) for side in (0, 1))
    return all(lay_out(part, seed=options.seed, mode=options.prompts).one_law for part in parts)


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

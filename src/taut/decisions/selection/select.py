"""Which checkpoint is best: chosen by certified reward, with the choice itself paid for.

Four claims hold together with probability at least 1 - delta (theory §6.3):

 (1) the certificates of all M candidates, each at its share of delta;
 (2) a best candidate is among those not excluded;
 (3) the chosen one is at most `regret` worse than the best;
 (4) learned and true reward of the learned reward's favourite differ from those of the choice (or,
     where they are one, of the first) by what `hacked` says.

A twentieth of delta is for (4), shared by all M (M - 1) / 2 pairs, as the data say which one is
looked at. Below, delta is the rest. Half goes to (1) by a union over M candidates. (2) and (3) take
the other half, and only M - 1 comparisons are paid, although who is compared with whom is decided
by looking at the data.
Proof [ours; compare Hsu's multiple comparisons with the best]: let b be one best candidate, which
no data can change, and U(b - k) an upper bound on f(b) - f(k) that fails with probability at most
eta = delta / (2 (M - 1)), for each other k. With probability at least 1 - delta / 2 none of these
M - 1 bounds fails. Then, whichever pairs are looked at and in which order, k excludes c only if
U(c - k) < 0, and for c = b that would say f(b) < f(k): so b stays. And whatever k is chosen,
f(b) - f(k) <= U(b - k) <= the largest U(c - k) over the c that stay. No union over ordered pairs
is needed. An interval of f(c) - f(k) for a c that is not best is
not part of these claims: it holds on its own.

A leader L named beforehand (by an earlier log, say) moves the shares: U(b - L) gets delta / 4 and
each other U(b - k) delta / (4 (M - 2)), while U(L - k) keeps delta / (2 (M - 1)). For each b the
M - 1 shares still sum to delta / 2, so the proof stands as it is, whoever is named; a right name
makes the comparisons that decide cost little more than a single one.

U(c - k) may also be the upper end of c less the lower end of k: that event is paid in (1), and so
are these ends where they serve (4).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from taut.auditing.audit import audit_part
from taut.auditing.certificate import LedgerEntry
from taut.auditing.options import GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.words import By, Method, Route, Side, Target
from taut.auditing.worst import worst_assumptions, worst_checks
from taut.decisions.contest.contest import (
    HACKED_SHARE,
    SOUND,
    Clip,
    Contest,
    enter_contest,
    measured,
    one_by_one,
)
from taut.decisions.contest.differences import Opposed, Spent, wide
from taut.decisions.contest.hacked import hacked_of
from taut.decisions.contest.result import Name
from taut.decisions.selection.result import (
    TRAINED_ON,
    Candidate,
    Comparison,
    Exclusion,
    Hacking,
    Price,
    Selection,
    SelectionLog,
    SelectionSettings,
)
from taut.decisions.selection.rivals import Compared, compare_all
from taut.draws.assumptions import HELD_OUT
from taut.draws.joining import join_logs
from taut.draws.layout import cell_keys
from taut.engines.tables import Data, as_rollouts, is_candidates
from taut.errors import AssumptionError
from taut.types import Status

_TRUE = 0.75  # of what the verdict on hacking may spend, where labels are paired


def select(
    rollouts: Data | Mapping[str, Data],
    by: By = "step",
    *,
    columns: Mapping[str, str] | None = None,
    beta: float | None = None,
    leader: Name | None = None,
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
) -> Selection:
    """Choose among checkpoints, policies or runs by what is certified of each.

    Args:
        rollouts: One log of all candidates, or one for each under its name; each as anything that
            `taut.audit` takes. Every candidate that was looked at must be in it: M is what the
            choice is paid by.
        by: "step", "policy" or "run"; a mapping is compared by its names.
        leader: Candidate expected to be best, named before this log was looked at: the learned
            reward of the same draws must not name it. Any name is valid; a right one pays.

    The other arguments are those of `taut.audit`, but for reward data, which speak of one policy.

    Returns:
        The selection; its claims hold together with probability at least 1 - delta.

    Raises:
        UsageError: Unknown column, a single candidate, or settings that cannot be had.
        LogError: The log has no such column, or nothing that ties it to the true reward.
        AssumptionError: Data contradict a declaration.

    Source: theory §6.3, appendix B; module docstring.
    """
    options = options_of(locals())
    if is_candidates(rollouts):
        named = {name: as_rollouts(data, columns) for name, data in rollouts.items()}
        log, by = join_logs(named), "policy"
    else:
        log = as_rollouts(rollouts, columns)
    contest, clip, half = enter_contest(log, by, options, leader)
    options, names = contest.options, tuple(contest.certificates)
    found = _decide(contest, names)
    assumptions = worst_assumptions(item.assumptions for item in contest.certificates.values())
    fitted = any(item.name == HELD_OUT and item.doubted for item in assumptions)
    return Selection(
        by=by,
        target=options.target,
        units=contest.units_name,
        level=1 - options.delta,
        settings=_settings(contest, clip, options),
        log=_log(contest),
        chosen=found.leader if found.sound else None,
        leader=found.leader,
        best_proxy=(best := max(names, key=lambda name: measured(contest.certificates[name]))),
        over_optimised=_over_optimised(found, best, contest),
        not_excluded=_left(names, found.excluded, sound=True),
        not_excluded_by_estimate=_left(names, found.excluded, sound=False),
        hacked=_hacking(contest, found, best, by),
        tiers=_tiers(contest, found),
        regret=_regret(contest, found),
        price=None if found.leader is None else _price(contest, found.leader),
        candidates=tuple(_candidate(contest, found, name) for name in names),
        ledger=_ledger(by, names, options.delta, half),
        trained_on=TRAINED_ON if contest.whole.recurs and fitted else None,
        assumptions=assumptions,
        health=worst_checks(item.health for item in contest.certificates.values()),
    )


def _candidate(contest: Contest, found: "_Found", name: Name) -> Candidate:
    certificate = contest.certificates[name]
    compared = found.comparisons.get((name, found.leader))
    return Candidate(
        value=name,
        proxy=measured(certificate),
        lower=certificate.lower,
        upper=certificate.upper,
        status=certificate.status,
        gold_prompts=certificate.log.gold_prompts,
        comparison=None if compared is None else _shown(compared),
        excluded=found.excluded.get(name),
        certificate=certificate,
    )


def _shown(item: Compared) -> Comparison:
    return Comparison(**{field.name: getattr(item, field.name) for field in fields(item)[1:]})


def _over_optimised(found: "_Found", best: Name, contest: Contest) -> str | None:
    """Say whether the learned reward's favourite is the choice, doubted, or refuted as the best."""
    if not found.sound:
        return None
    if best == found.leader:
        return "no"
    left = _left(contest.certificates, found.excluded, sound=True)
    return "doubted" if best in left else "caught"


def _log(contest: Contest) -> SelectionLog:
    log = contest.whole.rollouts
    return SelectionLog(
        rollouts=len(log),
        prompts=len(np.unique(log.prompt)),
        cells=len(np.unique(cell_keys(log))),
        rejected_rows=log.rejected_rows,
    )


def _settings(contest: Contest, clip: Clip, options: Options) -> SelectionSettings:
    return SelectionSettings(
        beta=options.beta,
        delta=options.delta,
        tau=_finite(clip.tau),
        tau_negative=_finite(clip.tau_negative),
        tau_source=clip.source,
        reward_range=options.reward_range,
        gold_range=options.gold_range,
        gold_scale=options.gold_scale,
        method=options.method,
        side=options.side,
        route=options.route,
        calibration_share=options.calibration,
        seed=options.seed,
        held_out=options.held_out,
        declare=options.declare,
        prompts=options.prompts,
        coverage=options.coverage,
        reward_mse=options.reward_mse,
        log_ratio_max=options.log_ratio_max,
        log_ratio_second_moment=options.log_ratio_second_moment,
        leader=contest.expected,
        draws_set_aside=0 if clip.aside is None else len(clip.aside),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    leader: Name | None
    sound: bool
    comparisons: dict[tuple[Name, Name], Compared]
    excluded: dict[Name, Exclusion]


def _decide(contest: Contest, names: tuple[Name, ...]) -> _Found:
    """Let the best lower end lead; who leads but is excluded gives way to the next."""
    certificates = contest.certificates
    pool = [name for name in names if certificates[name].status in SOUND]
    sound = bool(pool)
    pool = pool or [name for name in names if certificates[name].status is not Status.VACUOUS]
    comparisons: dict[tuple[Name, Name], Compared] = {}
    excluded: dict[Name, Exclusion] = {}
    if not pool:
        return _Found(None, False, comparisons, excluded)
    middle = max(pool, key=lambda name: certificates[name].lower + certificates[name].upper)
    _look(contest, middle, comparisons, excluded)
    while True:
        if len(_left(names, excluded, sound=True)) == 0:
            raise AssumptionError(
                "every candidate is excluded by another one: an assumption must be false, but for "
                f"a chance of {contest.options.delta:g}; check declared ranges, and taut check."
            )
        open_ones = [name for name in pool if name in _left(names, excluded, sound=sound)]
        leader = max(open_ones or pool, key=lambda name: certificates[name].lower)
        if any(against == leader for _, against in comparisons):
            return _Found(leader, sound, comparisons, excluded)
        _look(contest, leader, comparisons, excluded)


def _look(contest: Contest, against: Name, comparisons, excluded) -> None:
    """Compare all with one, and note who excludes whom; a guarantee replaces an estimate."""
    found = compare_all(contest, against)
    comparisons.update(found)
    for (name, _), item in found.items():
        if item.status is Status.VACUOUS:
            continue
        loser, winner = (name, against) if item.upper < 0 else (against, name)
        decided = item.upper < 0 or item.lower > 0
        known = excluded.get(loser)
        if decided and (known is None or item.status.rank < known.status.rank):
            excluded[loser] = Exclusion(by=winner, status=item.status)


def _left(names, excluded: Mapping[Name, Exclusion], *, sound: bool) -> tuple[Name, ...]:
    gone = {name for name, item in excluded.items() if not sound or item.status in SOUND}
    return tuple(name for name in names if name not in gone)


def _tiers(contest: Contest, found: _Found) -> tuple[tuple[Name, ...], ...]:
    """Return who cannot be told apart, best first (claims 1 and 2).

    The first tier is who may be best. Of the others, whose certificates hold together, a tier is
    who may be best among those left: no upper end in the next one reaches its best lower end.
    """
    if not found.sound:
        return ()
    certificates = contest.certificates
    known = [name for name in certificates if certificates[name].status in SOUND]
    first = tuple(name for name in _left(known, found.excluded, sound=True))
    tiers, rest = [first], [name for name in known if name not in first]
    while rest:
        best = max(certificates[name].lower for name in rest)
        tiers.append(tuple(name for name in rest if certificates[name].upper >= best))
        rest = [name for name in rest if name not in tiers[-1]]
    return tuple(tier for tier in tiers if tier)


def _regret(contest: Contest, found: _Found) -> float | None:
    """Return how far the choice can be below the best (claim 3); None without a guarantee."""
    if not found.sound:
        return None
    certificates = contest.certificates
    worst = 0.0
    for name in _left(certificates, found.excluded, sound=True):
        if name == found.leader:
            continue
        item = found.comparisons[name, found.leader]
        if item.status in SOUND:
            worst = max(worst, item.upper)
        elif wide(certificates[name]):
            worst = max(worst, certificates[name].upper - certificates[found.leader].lower)
        else:
            return None
    return worst


def _price(contest: Contest, leader: Name) -> Price:
    """Audit the leader as if it had been the only candidate, with all of delta."""
    options = one_by_one(contest.options)
    rows, _ = contest.rollouts(leader)
    alone = audit_part(rows, options, whole=contest.whole)
    paid = contest.certificates[leader]
    return Price(
        width=paid.upper - paid.lower,
        width_alone=alone.upper - alone.lower,
        lower_given_up=alone.lower - paid.lower,
    )


def _ledger(by: str, names: tuple[Name, ...], delta: float, half: float) -> tuple[LedgerEntry, ...]:
    told = delta * HACKED_SHARE
    each = (delta - told - half) / len(names)
    events = [LedgerEntry(event=f"certificate of {by} {name}", delta=each) for name in names]
    if half:
        text = f"{len(names) - 1} paired comparisons with a best candidate, one end each"
        events.append(LedgerEntry(event=text, delta=half))
    pairs = math.comb(len(names), 2)
    text = f"differences of learned and true reward, any of {pairs:,} pairs"
    return (*events, LedgerEntry(event=text, delta=told))


def _hacking(contest: Contest, found: _Found, best: Name, by: str) -> Hacking | None:
    """Say whether the learned reward's favourite gained on the choice, or on the first, in truth.

    Who is looked at goes by the data: each pair is paid for.
    """
    names = tuple(contest.certificates)
    if found.leader is None:
        return None
    against = found.leader if found.leader != best else _before(contest, names, best, by)
    each = contest.options.delta * HACKED_SHARE / (2 * math.comb(len(names), 2))
    true = each * _TRUE if contest.paired else 0.0
    sides = Opposed(contest, best, against, Spent(true=true, learned=each - true, joint=True))
    difference, learned = sides.true(), sides.learned()
    verdict, sentence = hacked_of(
        (f"{by} {best}", f"{by} {against}"),
        difference,
        learned,
        same_scale=contest.units.common is not None,
    )
    return Hacking(
        verdict=verdict,
        sentence=sentence,
        candidate=best,
        against=against,
        difference=difference,
        learned_difference=learned,
    )


def _before(contest: Contest, names: tuple[Name, ...], best: Name, by: str) -> Name:
    """Where the favourite is the choice: the first step, or whom the learned reward likes least."""
    if by == "step" and names[0] != best:
        return names[0]
    return min(
        (name for name in names if name != best),
        key=lambda name: measured(contest.certificates[name]),
    )


def _finite(tau: float | str | None) -> float | None:
    return tau if isinstance(tau, float) else None

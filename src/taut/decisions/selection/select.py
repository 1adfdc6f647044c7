"""Which checkpoint is best: chosen by certified reward, with the choice itself paid for.

Three claims hold together with probability at least 1 - delta (theory §6.3):

 (1) the certificates of all M candidates, each at its share of delta;
 (2) a best candidate is among those not excluded;
 (3) the chosen one is at most `regret` worse than the best.

Half of delta goes to (1) by a union over M candidates. (2) and (3) take the other half, and only
M - 1 comparisons are paid, although who is compared with whom is decided by looking at the data.
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

U(c - k) may also be the upper end of c less the lower end of k: that event is paid in (1).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from taut.auditing.audit import audit_part, certify_ready
from taut.auditing.calibration import DEFAULT_TAU, FEWEST_DRAWS, choose_negative, choose_thresholds
from taut.auditing.certificate import Certificate, LedgerEntry
from taut.auditing.options import GoldKind, Options, Prompts, Range, Threshold, options_of
from taut.auditing.prepare import enter, prepare
from taut.auditing.target import UnitData
from taut.auditing.words import BY_COLUMNS, By, Method, Route, Side, Target
from taut.decisions.selection.pairs import (
    FEWEST_SHARED,
    GOLD,
    Draws,
    candidate_draws,
    paired_difference,
)
from taut.decisions.selection.result import (
    TRAINED_ON,
    Candidate,
    Comparison,
    Exclusion,
    Name,
    Price,
    Selection,
    SelectionLog,
    SelectionSettings,
)
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.draws.design import settled
from taut.draws.joining import join_logs
from taut.draws.layout import cell_keys, draw_keys
from taut.draws.rollouts import Rollouts, group_rows
from taut.draws.units import Units
from taut.engines.tables import Data, as_rollouts, is_candidates
from taut.errors import AssumptionError, LogError, UsageError
from taut.inequalities.rounding import outward
from taut.logs.keys import combine, scramble
from taut.types import Interval, Status, weakest

CERTIFICATES = "certificates"
_SOUND = (Status.CERTIFIED, Status.CONDITIONAL)
# Draws of prompts that choose a common clip threshold; quantiles need no more.
_MOST_ASIDE = 500
_ASIDE_SALT = 0x7461757453454C


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison of two candidates by name; see `result.Comparison`."""

    candidate: Name
    against: Name
    kind: str
    mean: float | None
    lower: float
    upper: float
    status: Status
    shared: int | None
    labelled: int | None


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
    contest, clip, half = _enter(log, by, options, leader)
    options, names = contest.options, tuple(contest.certificates)
    found = _decide(contest, names)
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
        regret=_regret(contest, found),
        price=None if found.leader is None else _price(contest, found.leader),
        candidates=tuple(_candidate(contest, found, name) for name in names),
        ledger=_ledger(by, names, options.delta, half),
        trained_on=TRAINED_ON if contest.whole.recurs and not options.held_out else None,
        assumptions=worst_assumptions(contest.certificates.values()),
        health=worst_checks(contest.certificates.values()),
    )


def measured(certificate: Certificate) -> float:
    """Return the measured value of the learned reward for the target, reward units."""
    found = certificate.measured
    if certificate.target == "reward" or found.objective is None:
        return found.reward
    return found.objective


def worst_assumptions(certificates: Iterable[Certificate]) -> tuple[Assumption, ...]:
    """Return what any of several certificates rests on, each as it stands worst."""
    order, worst = list(Standing), {}
    for certificate in certificates:
        for item in certificate.assumptions:
            known = worst.get((item.name, item.text))
            if known is None or order.index(item.stands) > order.index(known.stands):
                worst[item.name, item.text] = item
    return tuple(worst.values())


def worst_checks(certificates: Iterable[Certificate]) -> tuple[Check, ...]:
    """Return the health of several parts of a log: of each check the worst outcome."""
    order, worst = (PASS, NOT_CHECKED, NOTE, WARN, FAIL), {}
    for certificate in certificates:
        for item in certificate.health:
            known = worst.get(item.check)
            if known is None or order.index(item.status) > order.index(known.status):
                worst[item.check] = item
    return tuple(worst.values())


def _candidate(contest: "_Contest", found: "_Found", name: Name) -> Candidate:
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


def _over_optimised(found: "_Found", best: Name, contest: "_Contest") -> str | None:
    """Say whether the learned reward's favourite is the choice, doubted, or refuted as the best."""
    if not found.sound:
        return None
    if best == found.leader:
        return "no"
    left = _left(contest.certificates, found.excluded, sound=True)
    return "doubted" if best in left else "caught"


def _log(contest: "_Contest") -> SelectionLog:
    log = contest.whole.rollouts
    return SelectionLog(
        rollouts=len(log),
        prompts=len(np.unique(log.prompt)),
        cells=len(np.unique(cell_keys(log))),
        rejected_rows=log.rejected_rows,
    )


def _settings(contest: "_Contest", clip: "_Clip", options: Options) -> SelectionSettings:
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


def _enter(
    log: Rollouts, by: str, options: Options, leader: Name | None
) -> tuple["_Contest", "_Clip", float]:
    """Fix the threshold, split delta, certify; return the part of delta for comparisons too."""
    names, code = _candidates(log, by)
    leader = _named(leader, names, by)
    whole = settled(log)
    entered = enter(whole.rollouts, options, whole=whole)
    whole, units, options = entered.design.whole, entered.design.units, entered.options
    log = whole.rollouts
    _require(log, options)
    keys = draw_keys(log, options.prompts)
    clip = _common_clip(log, keys, options, units)
    if clip.aside is not None:
        left = ~np.isin(keys, clip.aside)
        if len(np.unique(code[left])) < len(names):
            raise LogError(
                f"a {by} has too few prompts to set some aside for choosing tau; give --tau NATS."
            )
        log, keys, code = log.take(left), keys[left], code[left]
    clipped = replace(options, tau=clip.tau, tau_negative=clip.tau_negative)
    pays = clip.tau is not None and _pairs_are_labelled(log, keys, code)
    half = options.delta / 2 if pays else 0.0
    contest = _Contest(log, keys, code, names, clipped, units, (half, leader), whole)
    contest.certify(options.delta - half)
    return contest, clip, half


# --- the log, its candidates, and what must be there ----------------------------------------------


def _candidates(log: Rollouts, by: str) -> tuple[tuple[Name, ...], np.ndarray]:
    """Return the candidates' names in order, and the index of each row's candidate, uint64."""
    if by not in BY_COLUMNS:
        raise UsageError(f"by is {by!r}; expected one of {', '.join(BY_COLUMNS)}.")
    column = getattr(log, by)
    if column is None:
        raise LogError(f"the log has no '{by}' column to choose by; map one with --map {by}=PATH.")
    values, code = np.unique(column, return_inverse=True)
    written = getattr(log, f"{by}_names", ())
    names = [written[value] if written else int(value) for value in values]
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise UsageError(
            f"choosing needs two or more candidates; the log's '{by}' column holds {found}. "
            "Audit a single one with taut audit, or add the logs of the others."
        )
    order = sorted(range(len(names)), key=lambda index: names[index])
    place = np.empty(len(names), dtype=np.uint64)
    place[order] = np.arange(len(names), dtype=np.uint64)
    return tuple(names[index] for index in order), place[code]


def _named(leader: Name | None, names: tuple[Name, ...], by: str) -> Name | None:
    """Return the candidate of that name, which the command line gives as text."""
    if leader is None:
        return None
    found = [name for name in names if str(name) == str(leader)]
    if not found:
        known = ", ".join(map(str, names))
        raise UsageError(f"leader is {leader!r}; no such {by}: the log holds {known}.")
    return found[0]


def _require(log: Rollouts, options: Options) -> None:
    if options.side == "upper":
        raise UsageError("--side upper leaves no lower end to choose by; say both or lower.")
    declared = options.coverage is not None and options.reward_mse is not None
    labelled = log.gold is not None and not np.isnan(log.gold).all()
    if not (labelled or declared):
        raise LogError(
            "no gold labels: nothing ties the learned reward to the true one, and choosing by the "
            "learned reward is what this must not do. Label a random subset of the prompts for "
            "every candidate (column 'gold'), or see taut audit --by for the learned reward."
        )
    if options.target != "reward" and (log.log_ratio is None or options.beta is None):
        missing = "log-probs for every candidate" if log.log_ratio is None else "--beta"
        raise UsageError(f"the target '{options.target}' needs {missing}; or say --target reward.")


def _alone(options: Options) -> Options:
    """Settings for one candidate: where only E r* is asked for, the KL is left out."""
    if options.target != "reward":
        return options
    # The other targets are not asked for, and cost twice the time.
    return replace(options, beta=None, tau="auto", tau_negative=None)


# --- one clip threshold for all -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clip:
    """Common thresholds: with one each, candidates would be measured by different targets.

    `aside` holds the keys of the draws that chose tau. They are left out of everything else, for
    every candidate, so that tau is fixed before any certifying draw is seen.
    """

    tau: float | str | None
    tau_negative: float | None
    source: str | None
    aside: np.ndarray | None = None


def _common_clip(log: Rollouts, keys: np.ndarray, options: Options, units: Units) -> _Clip:
    if options.target == "reward":
        return _Clip("auto", None, None)
    distinct = np.unique(keys)
    maximum, tau = options.log_ratio_max, options.tau
    negative = options.tau_negative
    if tau is None and maximum is None:
        return _Clip(None, None, "none: nothing is clipped")
    if tau not in (None, "auto"):
        return _Clip(float(tau), float(tau) if negative is None else negative, "given")
    if negative is None:
        negative = choose_negative(len(distinct), options.delta)
    if maximum is not None:
        return _Clip(float(maximum), negative, "the declared maximum of the log-ratio")
    aside = _set_aside(log, keys, distinct, options)
    if len(aside) < FEWEST_DRAWS:
        return _Clip(DEFAULT_TAU, negative, "default: too few draws to choose from")
    chosen_rows = np.isin(keys, aside)
    part = log.take(chosen_rows)
    chosen = choose_thresholds(
        reward=units.unit_reward(part.reward),
        log_ratio=part.log_ratio,
        beta=options.beta / units.width,
        calibration=group_rows(keys[chosen_rows], part.value_columns(), options.seed),
        certifying_draws=len(distinct) - len(aside),
        delta=options.delta,
        maximum=None,
        second_moment=options.log_ratio_second_moment,
        target=options.target,
    )
    return _Clip(chosen.tau, negative, "narrowest forecast on draws set aside for this", aside)


def _set_aside(
    log: Rollouts, keys: np.ndarray, distinct: np.ndarray, options: Options
) -> np.ndarray:
    """Pick the draws that choose tau by a hash of seed and key; unlabelled ones where many are."""
    count = min(_MOST_ASIDE, math.floor(options.calibration * len(distinct)))
    if log.gold is not None:
        unlabelled = np.setdiff1d(distinct, keys[~np.isnan(log.gold)], assume_unique=False)
        distinct = unlabelled if len(unlabelled) >= 2 * count else distinct
    salt = scramble(np.uint64((options.seed ^ _ASIDE_SALT) % 2**64))
    return distinct[np.argsort(scramble(distinct ^ salt), kind="stable")[:count]]


# --- comparisons ----------------------------------------------------------------------------------


def _pairs_are_labelled(log: Rollouts, keys: np.ndarray, code: np.ndarray) -> bool:
    """Say whether candidates share half of their labelled draws, so that pairing them may pay.

    Looks at keys and label positions alone. Where not, all of delta goes to the certificates.
    """
    if log.gold is None:
        return False
    labelled = ~np.isnan(log.gold)
    key, owner = keys[labelled], code[labelled]
    first = np.unique(combine(key, owner), return_index=True)[1]
    _, counts = np.unique(key[first], return_counts=True)
    shared = int((counts >= 2).sum())
    each = len(first) / max(len(np.unique(owner)), 1)
    return shared >= FEWEST_SHARED and 2 * shared >= each


class _Contest:
    """What comparisons are made from. Rows stay in the log; draws are made when asked for."""

    def __init__(self, log, keys, code, names, options, units, comparing, whole):
        self.log, self.keys, self.options = log, keys, options
        self.units, self.whole = units, whole
        self.half, self.expected = comparing
        self.certificates: dict[Name, Certificate] = {}
        self.statuses: dict[Name, Status] = {}
        self.varied: dict[Name, bool] = {}
        self.rows = np.argsort(code, kind="stable")
        self.starts = np.searchsorted(code[self.rows], np.arange(len(names) + 1))
        self.place = {name: index for index, name in enumerate(names)}
        tau = (options.tau, options.tau_negative)
        self.beta = 0.0 if options.target == "reward" else options.beta / units.width
        self.tau = tau if self.beta else (0.0, 0.0)
        self.paired = self.half > 0

    def eta(self, one: Name, other: Name) -> float:
        """Probability that the upper bound on f(one) - f(other) may miss: see the module."""
        rivals = len(self.place) - 1
        if self.expected is None or rivals == 1 or one == self.expected:
            return self.half / rivals
        if other == self.expected:
            return self.half / 2
        return self.half / (2 * (rivals - 1))

    @property
    def units_name(self) -> str:
        """What the intervals are in."""
        return "gold" if self.options.target == "reward" else "reward"

    @property
    def width(self) -> float:
        """Units of the target in one unit of the unit scale."""
        return self.units.target_scale(self.units_name).width

    def certify(self, delta: float) -> None:
        """Certify every candidate at its share of delta, and note what its labels are worth."""
        names = (about.REWARD_RANGE, about.GOLD_RANGE, about.RANDOM_LABELS)
        names += (about.LOG_PROBS,) if self.beta else ()
        options = _alone(replace(self.options, delta=delta))
        for name in self.place:
            ready = prepare(
                self.rollouts(name)[0], options, whole=self.whole, simultaneous=len(self.place)
            )
            self.certificates[name] = certify_ready(ready, simultaneous=len(self.place))
            self.statuses[name] = ready.design.status(*names)
            self.varied[name] = not ready.design.one_law

    def rollouts(self, name: Name) -> tuple[Rollouts, np.ndarray]:
        """Return the rows of a candidate, and their keys."""
        at = self.place[name]
        rows = self.rows[self.starts[at] : self.starts[at + 1]]
        return self.log.take(rows), self.keys[rows]

    def draws(self, name: Name) -> tuple[Draws, bool]:
        """Return a candidate's draws, and whether they are of several laws."""
        part, keys = self.rollouts(name)
        data = UnitData(
            reward=self.units.unit_reward(part.reward),
            gold=self.units.unit_gold(part.gold),
            log_ratio=part.log_ratio,
            beta=self.beta,
        )
        found = candidate_draws(part, keys, data, tau=self.tau, seed=self.options.seed)
        return found, self.varied[name]


def _compare_all(contest: _Contest, against: Name) -> dict[tuple[Name, Name], Compared]:
    """Compare every other candidate with one; holds the draws of two candidates at a time."""
    theirs = contest.draws(against) if contest.paired else None
    out = {}
    for name in contest.certificates:
        if name != against:
            out[name, against] = _compare(contest, name, against, theirs)
    return out


def _compare(contest: _Contest, name: Name, against: Name, theirs) -> Compared:
    pair = None
    if contest.paired:
        (one, mixed), (other, also_mixed) = contest.draws(name), theirs
        method = contest.options.method
        if (mixed or also_mixed) and method in ("betting", "bernstein"):
            method = "mixture"  # order-free, as draws differ in law (theory §2.5)
        pair = paired_difference(
            one,
            other,
            cost_range=(-contest.beta * contest.tau[1], contest.beta * contest.tau[0]),
            etas=(contest.eta(against, name), contest.eta(name, against)),
            method=method,
            calibration=contest.options.calibration,
        )
    mine, its = contest.certificates[name], contest.certificates[against]
    evidence = []
    if pair is not None and pair.kind == GOLD:
        status = _pair_status(pair, contest, name, against)
        evidence.append((_moved(pair.interval, contest, mine, its), status))
    if Status.VACUOUS not in (mine.status, its.status):
        ends = Interval(mine.lower - its.upper, mine.upper - its.lower)
        evidence.append((ends, weakest((mine.status, its.status))))
    ends, status = _best_evidence(evidence) if evidence else (None, Status.VACUOUS)
    if ends is None:
        ends = _moved(pair.interval, contest, mine, its) if pair else _open_ends(mine, its)
    kind = CERTIFICATES if pair is None or (evidence and pair.kind != GOLD) else pair.kind
    mean = measured(mine) - measured(its) if pair is None else contest.width * pair.mean
    counts = (pair.shared, pair.labelled) if pair else (0, 0) if contest.paired else (None, None)
    return Compared(name, against, kind, mean, ends.lower, ends.upper, status, *counts)


def _open_ends(mine: Certificate, its: Certificate) -> Interval:
    return Interval(mine.lower - its.upper, mine.upper - its.lower)


def _moved(interval: Interval, contest: _Contest, mine: Certificate, its: Certificate) -> Interval:
    """Map to user units and add both KL-clipping terms, whose events the certificates paid."""
    found = outward(interval, 0.0, contest.width)
    ours, theirs = _tails(mine), _tails(its)
    return Interval(
        math.nextafter(found.lower + ours.lower - theirs.upper, -math.inf),
        math.nextafter(found.upper + ours.upper - theirs.lower, math.inf),
    )


def _tails(certificate: Certificate) -> Interval:
    """Return the KL-clipping term; nothing for E r*, an open end where there is no bound."""
    if certificate.target == "reward":
        return Interval(0.0, 0.0)
    term = certificate.terms.kl_clipping
    lower = -math.inf if term.lower is None else term.lower
    return Interval(lower, math.inf if term.upper is None else term.upper)


def _pair_status(pair, contest: _Contest, name: Name, against: Name) -> Status:
    """The design of both logs, their labels and KL tails, and who has which prompts."""
    parts = [Status.CERTIFIED]
    for item in (name, against):
        parts += [contest.statuses[item], contest.certificates[item].terms.kl_clipping.status]
    if pair.partly:
        parts.append(Status.CONDITIONAL)  # on which prompts are shared being blind to outcomes
    if not pair.exact:
        parts.append(Status.ESTIMATED)
    return weakest(part for part in parts if part is not Status.VACUOUS)


def _best_evidence(evidence: list[tuple[Interval, Status]]) -> tuple[Interval, Status]:
    """Intersect what is guaranteed, or else what is estimated; the first wins a conflict."""
    sound = [item for item in evidence if item[1] in _SOUND] or evidence
    lower = max(item.lower for item, _ in sound)
    upper = min(item.upper for item, _ in sound)
    if lower > upper:
        return sound[0]
    return Interval(lower, upper), weakest(status for _, status in sound)


# --- the decision ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    leader: Name | None
    sound: bool
    comparisons: dict[tuple[Name, Name], Compared]
    excluded: dict[Name, Exclusion]


def _decide(contest: _Contest, names: tuple[Name, ...]) -> _Found:
    """Let the best lower end lead; who leads but is excluded gives way to the next."""
    certificates = contest.certificates
    pool = [name for name in names if certificates[name].status in _SOUND]
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


def _look(contest: _Contest, against: Name, comparisons, excluded) -> None:
    """Compare all with one, and note who excludes whom; a guarantee replaces an estimate."""
    found = _compare_all(contest, against)
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
    gone = {name for name, item in excluded.items() if not sound or item.status in _SOUND}
    return tuple(name for name in names if name not in gone)


def _regret(contest: _Contest, found: _Found) -> float | None:
    """Return how far the choice can be below the best (claim 3); None without a guarantee."""
    if not found.sound:
        return None
    certificates = contest.certificates
    worst = 0.0
    for name in _left(certificates, found.excluded, sound=True):
        if name == found.leader:
            continue
        item = found.comparisons[name, found.leader]
        if item.status in _SOUND:
            worst = max(worst, item.upper)
        elif _true_but_wide(certificates[name]):
            worst = max(worst, certificates[name].upper - certificates[found.leader].lower)
        else:
            return None
    return worst


def _true_but_wide(certificate: Certificate) -> bool:
    """Whether the upper end holds though the certificate says nothing: rewards have a range."""
    terms = certificate.terms
    return (
        terms.reward_shift.source == "theory §3.9"
        and terms.sampling.status in _SOUND
        and terms.kl_clipping.status in _SOUND
    )


def _price(contest: _Contest, leader: Name) -> Price:
    """Audit the leader as if it had been the only candidate, with all of delta."""
    options = _alone(contest.options)
    rows, _ = contest.rollouts(leader)
    alone = audit_part(rows, options, whole=contest.whole)
    paid = contest.certificates[leader]
    return Price(
        width=paid.upper - paid.lower,
        width_alone=alone.upper - alone.lower,
        lower_given_up=alone.lower - paid.lower,
    )


def _ledger(by: str, names: tuple[Name, ...], delta: float, half: float) -> tuple[LedgerEntry, ...]:
    each = (delta - half) / len(names)
    events = [LedgerEntry(event=f"certificate of {by} {name}", delta=each) for name in names]
    if half:
        text = f"{len(names) - 1} paired comparisons with a best candidate, one end each"
        events.append(LedgerEntry(event=text, delta=half))
    return tuple(events)


def _finite(tau: float | str | None) -> float | None:
    return tau if isinstance(tau, float) else None

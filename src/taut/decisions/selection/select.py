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
is needed, and no leader fixed beforehand. An interval of f(c) - f(k) for a c that is not best is
not part of these claims: it holds on its own.

U(c - k) may also be the upper end of c less the lower end of k: that event is paid in (1).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from taut.auditing.calibration import DEFAULT_TAU, FEWEST_DRAWS, choose_negative, choose_thresholds
from taut.auditing.certificate import BY_COLUMNS, Certificate, audit, audit_by
from taut.auditing.options import Options
from taut.auditing.target import Event, UnitData, gold_to_unit, to_unit
from taut.decisions.selection.pairs import (
    FEWEST_SHARED,
    GOLD,
    Draws,
    candidate_draws,
    pair_keys,
    paired_difference,
)
from taut.draws.health import FAIL, outcome, policy_changes, recurs_across_steps
from taut.draws.rollouts import Rollouts
from taut.errors import AssumptionError, LogError, UsageError
from taut.logs.keys import combine, scramble
from taut.types import Interval, Status, weakest

Name = int | str

CERTIFICATES = "certificates"
_SOUND = (Status.CERTIFIED, Status.CONDITIONAL)
# Draws of prompts that choose a common clip threshold; quantiles need no more.
_MOST_ASIDE = 500
# Columns that name the candidate, are filled in apart, or differ in meaning between logs.
_NOT_JOINED = (
    "policy",
    "run",
    "gold",
    "token_clipped_log_ratio",
    "token_clipped_sums",
    "features",
)
_ASIDE_SALT = 0x7461757453454C


@dataclass(frozen=True, slots=True)
class Comparison:
    """f(candidate) - f(against), reward units.

    Attributes:
        kind: "gold" (paired on prompts that both have, gold on both sides), "certificates" (the
            difference of two intervals), or "proxy" (learned rewards: no evidence on the true one).
        mean: Of the paired blocks, or of the two measured values where nothing is paired.
        lower, upper: Each end fails with probability at most its eta; see the module's claims.
        status: What the ends are worth as evidence on the true target.
        shared, labelled: Draws that both have, and those with gold for both; None where pairs were
            not looked at, since too few labelled draws are shared.
    """

    candidate: Name
    against: Name
    kind: str
    mean: float
    lower: float
    upper: float
    status: Status
    shared: int | None
    labelled: int | None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a candidate cannot be the best: another one is above it."""

    by: Name
    status: Status


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate: its certificate, and how it compares with the one that leads.

    `comparison` is None for the leader itself, and for all where nobody leads.
    """

    name: Name
    certificate: Certificate
    comparison: Comparison | None
    excluded: Exclusion | None


@dataclass(frozen=True, slots=True)
class Price:
    """What choosing costs the leader, reward units: its interval at delta, had it been alone."""

    width: float
    width_alone: float
    lower_given_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A choice among candidates, with its evidence (theory §6.3).

    Attributes:
        by: The column that tells candidates apart.
        candidates: Steps in increasing order, names alphabetically.
        chosen: Best certified (or conditional) lower end among those not excluded; None where no
            candidate has a guarantee.
        leader: `chosen`, or the best of the estimates where there is none; None if all say nothing.
        best_proxy: The candidate with the highest measured value of the learned reward.
        remaining: Those that cannot be excluded as best.
        remaining_by_estimate: The same with exclusions counted that carry no guarantee.
        regret: The choice is at most this much below the best, reward units; None if not known.
        price: What choosing cost; None without a leader.
        ledger: Random events and the delta they spend; their sum is at most delta.
        tau, tau_negative, tau_source: Clip thresholds common to all, nats; None if not clipped.
        set_aside: Distinct draws that chose tau and nothing else.
        trained_on: Prompts recur across steps and were not declared held out.
    """

    by: str
    candidates: tuple[Candidate, ...]
    chosen: Name | None
    leader: Name | None
    best_proxy: Name
    remaining: tuple[Name, ...]
    remaining_by_estimate: tuple[Name, ...]
    regret: float | None
    price: Price | None
    ledger: tuple[Event, ...]
    options: Options
    tau: float | None
    tau_negative: float | None
    tau_source: str | None
    set_aside: int
    trained_on: bool

    def __getitem__(self, name: Name) -> Candidate:
        return next(item for item in self.candidates if item.name == name)

    @property
    def document(self) -> dict:
        """The selection as plain data, schema `taut.selection/1`."""
        from taut.decisions.selection.document import selection_document

        return selection_document(self)

    def __str__(self) -> str:
        """The terminal report, without colour."""
        from taut.report.terminal.selection import selection_text

        return selection_text(self.document)


def select(
    rollouts: Rollouts | Mapping[str, Rollouts],
    by: str = "step",
    *,
    beta: float | None = None,
    **settings,
) -> Selection:
    """Choose among checkpoints, policies or runs by what is certified of each.

    Args:
        rollouts: One log of all candidates, or one for each under its name.
        by: "step", "policy" or "run"; a mapping is compared by its names.
        beta, settings: As for `taut.audit`, but for `reward_data`, which speaks of one policy.
            Every candidate that was looked at must be in the log: M is what the choice is paid by.

    Returns:
        The selection; its claims hold together with probability at least 1 - delta.

    Raises:
        UsageError: Unknown column, a single candidate, or settings that cannot be had.
        LogError: The log has no such column, or nothing that ties it to the true reward.
        AssumptionError: Data contradict a declaration.

    Source: theory §6.3, appendix B; module docstring.
    """
    if settings.pop("reward_data", None) is not None:
        raise UsageError("reward data speak of one policy: use taut.audit for each candidate.")
    options = Options(beta=beta, **settings)
    log, by = (rollouts, by) if isinstance(rollouts, Rollouts) else (_joined(rollouts), "policy")
    contest, clip, half = _enter(log, by, options)
    certificates = contest.certificates
    found = _decide(contest, tuple(certificates))
    return Selection(
        by=by,
        candidates=tuple(
            Candidate(
                name,
                certificates[name],
                found.comparisons.get((name, found.leader)),
                found.excluded.get(name),
            )
            for name in certificates
        ),
        chosen=found.leader if found.sound else None,
        leader=found.leader,
        best_proxy=max(certificates, key=lambda name: certificates[name].main.measured),
        remaining=_left(certificates, found.excluded, sound=True),
        remaining_by_estimate=_left(certificates, found.excluded, sound=False),
        regret=_regret(contest, found),
        price=None if found.leader is None else _price(contest, found.leader),
        ledger=_ledger(by, tuple(certificates), options.delta, half),
        options=options,
        tau=_finite(clip.tau),
        tau_negative=_finite(clip.tau_negative),
        tau_source=clip.source,
        set_aside=0 if clip.aside is None else len(clip.aside),
        trained_on=recurs_across_steps(contest.log) and not options.held_out,
    )


def _enter(log: Rollouts, by: str, options: Options) -> tuple["_Contest", "_Clip", float]:
    """Fix the threshold, split delta, certify; return the part of delta for comparisons too."""
    names, code = _candidates(log, by)
    _require(log, options)
    keys = pair_keys(log, code, by=by, held_out=options.held_out)
    scale = _scale(log, options)
    clip = _common_clip(log, keys, options, *scale)
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
    certificates = _certify(log, by, replace(clipped, delta=options.delta - half))
    eta = half / (len(names) - 1)
    return _Contest(log, keys, code, clipped, scale, eta, certificates), clip, half


# --- the log, its candidates, and what must be there ----------------------------------------------


def _joined(logs: Mapping[str, Rollouts]) -> Rollouts:
    """Put the logs of named candidates into one; a column that one of them lacks is left out."""
    if not logs:
        raise UsageError(
            "no candidates: expected a mapping of names to rollouts, with two or more."
        )
    names = sorted(logs)
    parts = [logs[name] for name in names]
    gold = [_gold_or_nan(part) for part in parts]
    known = any(part.gold is not None for part in parts)
    columns = {
        item.name: np.concatenate([getattr(part, item.name) for part in parts])
        for item in fields(Rollouts)
        if all(isinstance(getattr(part, item.name), np.ndarray) for part in parts)
        and item.name not in _NOT_JOINED
    }
    policy = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return Rollouts(
        **columns,
        gold=np.concatenate(gold) if known else None,
        policy=policy,
        policy_names=tuple(map(str, names)),
        rejected_rows=sum(part.rejected_rows for part in parts),
    )


def _gold_or_nan(part: Rollouts) -> np.ndarray:
    return np.full(len(part), math.nan) if part.gold is None else part.gold


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


def _scale(log: Rollouts, options: Options) -> tuple[float, float]:
    """Range for the unit scale of pairs; one read off the data makes certificates estimates."""
    if options.reward_range is not None:
        return tuple(map(float, options.reward_range))
    values = [log.reward]
    if log.gold is not None and options.gold_range is None:
        values.append(log.gold[~np.isnan(log.gold)])
    low = min(float(column.min()) for column in values if len(column))
    high = max(float(column.max()) for column in values if len(column))
    return low, high if high > low else low + max(1.0, abs(low))


def _certify(log: Rollouts, by: str, options: Options) -> dict[Name, Certificate]:
    """Certify every candidate at its share of delta, in the order of names."""
    certificates = audit_by(log, by, **_settings(options))
    return {name: certificates[name] for name in sorted(certificates)}


def _settings(options: Options) -> dict:
    settings = {item.name: getattr(options, item.name) for item in fields(Options)}
    if options.target == "reward":
        settings["beta"] = None  # the other targets are not asked for, and cost twice the time
        settings["tau"], settings["tau_negative"] = "auto", None
    return settings


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


def _common_clip(
    log: Rollouts, keys: np.ndarray, options: Options, low: float, high: float
) -> _Clip:
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
    part = log.take(np.isin(keys, aside))
    chosen = choose_thresholds(
        reward=to_unit(part.reward, low, high),
        log_ratio=part.log_ratio,
        beta=options.beta / (high - low),
        calibration=part.blocks(options.seed),
        certifying_draws=len(distinct) - len(aside),
        delta=options.delta,
        maximum=None,
        second_moment=options.log_ratio_second_moment,
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

    def __init__(self, log, keys, code, options, scale, eta, certificates):
        self.log, self.keys, self.options = log, keys, options
        self.scale, self.eta, self.certificates = scale, eta, certificates
        self.rows = np.argsort(code, kind="stable")
        self.starts = np.searchsorted(code[self.rows], np.arange(len(certificates) + 1))
        self.place = {name: index for index, name in enumerate(certificates)}
        tau = (options.tau, options.tau_negative)
        self.beta = 0.0 if options.target == "reward" else options.beta / (scale[1] - scale[0])
        self.tau = tau if self.beta else (0.0, 0.0)
        self.paired = eta > 0

    def rollouts(self, name: Name) -> tuple[Rollouts, np.ndarray]:
        """Return the rows of a candidate, and their keys."""
        at = self.place[name]
        rows = self.rows[self.starts[at] : self.starts[at + 1]]
        return self.log.take(rows), self.keys[rows]

    def draws(self, name: Name) -> tuple[Draws, bool]:
        """Return a candidate's draws, and whether they come from several policies."""
        part, keys = self.rollouts(name)
        low, high = self.scale
        data = UnitData(
            reward=to_unit(part.reward, low, high),
            gold=gold_to_unit(part.gold, self.options.gold_range or (low, high)),
            log_ratio=part.log_ratio,
            beta=self.beta,
        )
        found = candidate_draws(part, keys, data, tau=self.tau, seed=self.options.seed)
        return found, policy_changes(part)


def _compare_all(contest: _Contest, against: Name) -> dict[tuple[Name, Name], Comparison]:
    """Compare every other candidate with one; holds the draws of two candidates at a time."""
    theirs = contest.draws(against) if contest.paired else None
    out = {}
    for name in contest.certificates:
        if name != against:
            out[name, against] = _compare(contest, name, against, theirs)
    return out


def _compare(contest: _Contest, name: Name, against: Name, theirs) -> Comparison:
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
            eta=contest.eta,
            method=method,
            calibration=contest.options.calibration,
        )
    mine, its = contest.certificates[name], contest.certificates[against]
    evidence = []
    if pair is not None and pair.kind == GOLD:
        evidence.append((_moved(pair.interval, contest, mine, its), _pair_status(pair, mine, its)))
    if Status.VACUOUS not in (mine.status, its.status):
        ends = Interval(mine.lower - its.upper, mine.upper - its.lower)
        evidence.append((ends, weakest((mine.status, its.status))))
    ends, status = _best_evidence(evidence) if evidence else (None, Status.VACUOUS)
    width = contest.scale[1] - contest.scale[0]
    if ends is None:
        ends = _moved(pair.interval, contest, mine, its) if pair else _open_ends(mine, its)
    kind = CERTIFICATES if pair is None or (evidence and pair.kind != GOLD) else pair.kind
    mean = mine.main.measured - its.main.measured if pair is None else width * pair.mean
    counts = (pair.shared, pair.labelled) if pair else (0, 0) if contest.paired else (None, None)
    return Comparison(name, against, kind, mean, ends.lower, ends.upper, status, *counts)


def _open_ends(mine: Certificate, its: Certificate) -> Interval:
    return Interval(mine.lower - its.upper, mine.upper - its.lower)


def _moved(interval: Interval, contest: _Contest, mine: Certificate, its: Certificate) -> Interval:
    """Map to reward units and add both KL-clipping terms, whose events the certificates paid."""
    width = contest.scale[1] - contest.scale[0]
    ours, theirs = mine.terms.kl_clipping, its.terms.kl_clipping
    return Interval(
        width * interval.lower + ours.lower - theirs.upper,
        width * interval.upper + ours.upper - theirs.lower,
    )


def _pair_status(pair, mine: Certificate, its: Certificate) -> Status:
    """The layout of both logs, their KL tails, blind labels, and who has which prompts."""
    parts = [Status.CERTIFIED]
    for item in (mine, its):
        parts += [item.terms.sampling.status, item.terms.kl_clipping.status]
        if outcome(item.health, "labels_blind").status == FAIL:
            parts.append(Status.ESTIMATED)
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
    comparisons: dict[tuple[Name, Name], Comparison]
    excluded: dict[Name, Exclusion]


def _decide(contest: _Contest, names: tuple[Name, ...]) -> _Found:
    """Let the best lower end lead; who leads but is excluded gives way to the next."""
    certificates = contest.certificates
    pool = [name for name in names if certificates[name].status in _SOUND]
    sound = bool(pool)
    pool = pool or [name for name in names if certificates[name].status is not Status.VACUOUS]
    comparisons: dict[tuple[Name, Name], Comparison] = {}
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
            excluded[loser] = Exclusion(winner, item.status)


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
    delta = contest.options.delta
    alone = audit(contest.rollouts(leader)[0], **_settings(replace(contest.options, delta=delta)))
    paid = contest.certificates[leader]
    return Price(
        width=paid.upper - paid.lower,
        width_alone=alone.upper - alone.lower,
        lower_given_up=alone.lower - paid.lower,
    )


def _ledger(by: str, names: tuple[Name, ...], delta: float, half: float) -> tuple[Event, ...]:
    each = (delta - half) / len(names)
    events = [Event(f"certificate of {by} {name}", each) for name in names]
    if half:
        text = f"{len(names) - 1} paired comparisons with a best candidate, one end each"
        events.append(Event(text, half))
    return tuple(events)


def _finite(tau: float | str | None) -> float | None:
    return tau if isinstance(tau, float) else None

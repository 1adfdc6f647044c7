"""What candidates are compared by: one threshold, shares of delta, paired draws (theory §6.3)."""

import math
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.audit import certify_ready
from taut.auditing.calibration import (
    DEFAULT_TAU,
    FEWEST_DRAWS,
    TOO_FEW,
    choose_negative,
    choose_thresholds,
)
from taut.auditing.certificate import Certificate
from taut.auditing.options import Options
from taut.auditing.prepare import enter, prepare
from taut.auditing.target import UnitData
from taut.auditing.words import BY_COLUMNS
from taut.decisions.contest.pairs import (
    FEWEST_SHARED,
    Draws,
    candidate_draws,
)
from taut.decisions.contest.result import Name
from taut.draws import assumptions as about
from taut.draws.design import settled
from taut.draws.layout import draw_keys
from taut.draws.modes import LIST
from taut.draws.rollouts import Rollouts, group_rows
from taut.draws.units import Units
from taut.errors import LogError, UsageError
from taut.inequalities.rounding import outward
from taut.logs.keys import combine, scramble
from taut.types import Interval, Status, weakest

CERTIFICATES = "certificates"
HACKED_SHARE = 0.05  # of delta in a selection
SOUND = (Status.CERTIFIED, Status.CONDITIONAL)
# Draws of prompts that choose a common clip threshold; quantiles need no more.
_MOST_ASIDE = 500
_ASIDE_SALT = 0x7461757453454C


def measured(certificate: Certificate) -> float:
    """Return the measured value of the learned reward for the target, reward units."""
    found = certificate.measured
    if certificate.target == "reward" or found.objective is None:
        return found.reward
    return found.objective


def enter_contest(
    log: Rollouts, by: str, options: Options, leader: Name | None
) -> tuple["Contest", "Clip", float]:
    """Fix the threshold, split delta, certify; return the part of delta for comparisons too.

    HACKED_SHARE of delta is left for what is said of learned and true reward together.
    """
    names, code = _candidates(log, by)
    leader = _named(leader, names, by)
    whole = settled(log)
    entered = enter(whole.rollouts, options, whole=whole)
    whole, units, options = entered.design.whole, entered.design.units, entered.options
    log = whole.rollouts
    require_evidence(log, options)
    keys = pair_keys(log, options.prompts)
    clip = common_clip(log, keys, options, units)
    if clip.aside is not None:
        left = ~np.isin(keys, clip.aside)
        if len(np.unique(code[left])) < len(names):
            raise LogError(
                f"a {by} has too few prompts to set some aside for choosing tau; give --tau NATS."
            )
        log, keys, code = log.take(left), keys[left], code[left]
    clipped = replace(options, tau=clip.tau, tau_negative=clip.tau_negative)
    pays = clip.tau is not None and pairs_are_labelled(log, keys, code)
    choosing = options.delta * (1 - HACKED_SHARE)
    half = choosing / 2 if pays else 0.0
    contest = Contest(log, keys, code, names, clipped, units, (half, leader), whole)
    contest.certify(choosing - half)
    return contest, clip, half


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


def require_evidence(log: Rollouts, options: Options) -> None:
    """Raise LogError where nothing ties the learned reward to the true one."""
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


def one_by_one(options: Options) -> Options:
    """Settings for one candidate: where only E r* is asked for, the KL is left out."""
    if options.target != "reward":
        return options
    # The other targets are not asked for, and cost twice the time.
    return replace(options, beta=None, tau="auto", tau_negative=None)


@dataclass(frozen=True, slots=True)
class Clip:
    """Common thresholds: with one each, candidates would be measured by different targets.

    `aside` holds the keys of the draws that chose tau. They are left out of everything else, for
    every candidate, so that tau is fixed before any certifying draw is seen.
    """

    tau: float | str | None
    tau_negative: float | None
    source: str | None
    aside: np.ndarray | None = None


def common_clip(log: Rollouts, keys: np.ndarray, options: Options, units: Units) -> Clip:
    """Return the one threshold of all candidates, chosen on draws that then certify none."""
    if options.target == "reward":
        return Clip("auto", None, None)
    distinct = np.unique(keys)
    maximum, tau = options.log_ratio_max, options.tau
    negative = options.tau_negative
    if tau is None and maximum is None:
        return Clip(None, None, "none: nothing is clipped")
    if tau not in (None, "auto"):
        return Clip(float(tau), float(tau) if negative is None else negative, "given")
    if negative is None:
        negative = choose_negative(len(distinct), options.delta)
    if maximum is not None:
        return Clip(float(maximum), negative, "the declared maximum of the log-ratio")
    aside = _set_aside(log, keys, distinct, options)
    if len(aside) < FEWEST_DRAWS:
        return Clip(DEFAULT_TAU, negative, TOO_FEW)
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
    return Clip(chosen.tau, negative, "narrowest forecast on draws set aside for this", aside)


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


def pair_keys(log: Rollouts, mode: str) -> np.ndarray:
    """Return one uint64 key per row, by which candidates answer the same: the draw.

    Of a list the prompt is it, whatever unit each candidate's own certificate takes.
    """
    return log.prompt if mode == LIST else draw_keys(log, mode)


def pairs_are_labelled(log: Rollouts, keys: np.ndarray, code: np.ndarray) -> bool:
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


class Contest:
    """What comparisons are made from. Rows stay in the log; draws are made when asked for."""

    def __init__(self, log, keys, code, names, options, units, comparing, whole):
        self.log, self.keys, self.options = log, keys, options
        self.units, self.whole = units, whole
        self.half, self.expected = comparing
        self.certificates: dict[Name, Certificate] = {}
        self.statuses: dict[Name, Status] = {}
        self.learned_statuses: dict[Name, Status] = {}
        self.varied: dict[Name, bool] = {}
        self.rows = np.argsort(code, kind="stable")
        self.starts = np.searchsorted(code[self.rows], np.arange(len(names) + 1))
        self.place = {name: index for index, name in enumerate(names)}
        tau = (options.tau, options.tau_negative)
        tau = tuple(math.inf if end is None else end for end in tau)
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

    def certify(self, delta: float, simultaneous: int | None = None) -> None:
        """Certify every candidate, and note what its labels are worth.

        Args:
            delta: Of all together; of each by itself where `simultaneous` is 1.
            simultaneous: How many are to hold together; all by default.
        """
        several = len(self.place) if simultaneous is None else simultaneous
        names = (about.REWARD_RANGE, about.GOLD_RANGE, about.RANDOM_LABELS)
        names += (about.LOG_PROBS,) if self.beta else ()
        options = one_by_one(replace(self.options, delta=delta))
        for name in self.place:
            ready = prepare(self.rollouts(name)[0], options, whole=self.whole, simultaneous=several)
            self.certificates[name] = certify_ready(ready, simultaneous=several)
            self.statuses[name] = ready.design.status(*names)
            self.learned_statuses[name] = ready.design.status(*(names[:1] + names[3:]))
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


def moved(
    interval: Interval,
    contest: Contest,
    mine: Certificate,
    its: Certificate,
    *,
    width: float | None = None,
) -> Interval:
    """Map to user units and add both KL-clipping terms, whose events the certificates paid.

    `width` is that of the unit scale in user units, the target's by default.
    """
    found = outward(interval, 0.0, contest.width if width is None else width)
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


def pair_status(pair, contest: Contest, name: Name, against: Name) -> Status:
    """The design of both logs, their labels and KL tails, and who has which prompts."""
    parts = [Status.CERTIFIED]
    for item in (name, against):
        parts += [contest.statuses[item], contest.certificates[item].terms.kl_clipping.status]
    if pair.partly:
        parts.append(Status.CONDITIONAL)  # on which prompts are shared being blind to outcomes
    if not pair.exact:
        parts.append(Status.ESTIMATED)
    return weakest(part for part in parts if part is not Status.VACUOUS)

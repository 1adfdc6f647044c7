"""Does a calibration made on reward data still hold on the policy? (theory §3.6)

Gold labels on reward data teach g, the target reward to expect at a given learned reward. The mean
of g(r^) over the audited rollouts then predicts E_theta r*, if g holds there too: that it does is
an assumption, and here it is audited with a small on-policy probe of gold labels.

Why the audit is valid. A prompt either teaches g or certifies, never both, so g is a fixed function
to everything it is judged on; see `_roles` for the proof. The mean residual E_theta[r* - g(r^)]
then gets the interval of a bounded mean. Folds serve only to judge g on its own data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from taut.auditing.certificate import Span, StatedSpan
from taut.bounds.reward_shift import (
    GoldPlan,
    choose_gold_plan,
    gold_blocks,
)
from taut.bounds.sampling import block_interval
from taut.decisions.transport.result import (
    Calibration,
    Curve,
    Transport,
    TransportLog,
    TransportState,
)
from taut.draws import assumptions as about
from taut.draws.declared import Declared, declared_words
from taut.draws.design import Design, design
from taut.draws.labels import LabelKind, label_counts, labelled_rows
from taut.draws.layout import lay_out, prompt_keys
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.units import to_unit
from taut.engines.tables import Data, as_rollouts
from taut.errors import AssumptionError, UsageError
from taut.inequalities.rounding import outward
from taut.logs.keys import scramble
from taut.types import Interval

# A fixed mark, so that roles and folds are drawn apart from the draw order of the same seed.
_ROLE_MARK = 0x726F6C65
_FOLD_MARK = 0x666F6C64
_FEWEST_TEACHERS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """A non-decreasing function: linear between knots, constant beyond the outer ones.

    Attributes:
        knots: Increasing arguments, shape (knots,).
        values: Non-decreasing values, shape (knots,).
    """

    knots: np.ndarray
    values: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the value at each of x, any shape."""
        return np.interp(x, self.knots, self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportAudit:
    """The verdict on g, and what it rests on. Reward units.

    Attributes:
        state: PASS is given wrongly with probability at most delta, and so is FAIL.
        margin: Largest harmless |E_theta[r* - g(r^)]|, declared before the probe; None if not.
        residual: Interval for E_theta[r* - g(r^)] at level 1 - delta.
        delta: Probability that the interval misses.
        probe_prompts: Labelled draws that it rests on.
        fewest_prompts: Draws without which no data at all could pass; None without a margin.
        detail: The verdict in a sentence.
    """

    state: TransportState
    margin: float | None
    residual: Interval
    delta: float
    probe_prompts: int
    fewest_prompts: int | None
    detail: str


def fit_isotonic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Isotonic:
    """Fit the non-decreasing function that is nearest to y in weighted least squares.

    Rows with one x are pooled first, so that ties get one value whatever their order; then
    adjacent violators are pooled. The weighted mean of the fit at x is that of y.

    Args:
        x, y: Shape (rows,).
        weights: Positive, shape (rows,); equal if absent.

    Raises:
        AssumptionError: No row, shapes that differ, a value that is not finite, or a weight that
            is not positive.

    Source: Barlow & Brunk (1972); SciPy's pool-adjacent-violators.
    """
    from scipy.optimize import isotonic_regression

    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (x.ndim == 1 and x.shape == y.shape == weights.shape and len(x)):
        raise AssumptionError(
            f"expected x, y and weights of one shape (rows,), not empty; found {x.shape}, "
            f"{y.shape} and {weights.shape}."
        )
    if not (np.isfinite([x, y, weights]).all() and weights.min() > 0):
        raise AssumptionError("x, y and weights must be finite, and weights positive; fix the row.")
    knots, index = np.unique(x, return_inverse=True)
    # Sorted within ties, so that sums do not depend on the order of rows.
    order = np.lexsort((weights, y, index))
    mass = np.bincount(index[order], weights[order])
    means = np.bincount(index[order], (weights * y)[order]) / mass
    return Isotonic(knots, isotonic_regression(means, weights=mass).x)


def fewest_prompts(margin: float, delta: float, width: float = 2.0) -> int:
    """Return how many probe draws a PASS takes at least, however perfect the residuals.

    Args:
        margin: Largest harmless |mean residual|, positive, reward units.
        delta: Probability that the interval may miss, in (0, 1).
        width: Width of the range of a residual, reward units.

    Proof [ours]: let residuals lie in [-p, q], W = p + q. Bets against a mean m on the lower side
    are at most 1/(m + p), so the fortune is at most prod (x_t + p)/(m + p); to exclude all
    m < -margin it must reach 2/delta at m = -margin: mean ln(x_t + p) >= ln(p - margin) + A with
    A = ln(2/delta)/n. In the same way mean ln(q - x_t) >= ln(q - margin) + A. By Jensen x_t may be
    taken constant, x; then (p - margin) e^A - p <= x <= q - (q - margin) e^A, which has a solution
    only if e^A <= W/(W - 2 margin).
    """
    if 2 * margin >= width:
        return 1
    return max(1, math.ceil(math.log(2 / delta) / -math.log1p(-2 * margin / width)))


def grade(
    residual: Interval, *, margin: float | None, delta: float, prompts: int, width: float
) -> TransportAudit:
    """Hold an interval for the mean residual against a margin declared beforehand.

    PASS if all of it lies within the margin, FAIL if none of it does, INCONCLUSIVE otherwise;
    NOT_GRADED, whatever the interval, if there is no margin or no data of this size could pass.

    Args:
        residual: Interval for E_theta[r* - g(r^)] at level 1 - delta, reward units.
        margin: Positive, reward units, or None.
        delta: Probability that the interval misses.
        prompts: Labelled draws behind it.
        width: Width of the range of a residual, reward units.
    """
    needed = None if margin is None else fewest_prompts(margin, delta, width)
    state, detail = _verdict(residual, margin, needed, prompts)
    return TransportAudit(
        state=state,
        margin=margin,
        residual=residual,
        delta=delta,
        probe_prompts=prompts,
        fewest_prompts=needed,
        detail=detail,
    )


def _verdict(residual, margin, needed, prompts) -> tuple[TransportState, str]:
    span = f"the mean residual is in [{residual.lower:.4g}, {residual.upper:.4g}]"
    if margin is None:
        return TransportState.NOT_GRADED, f"{span}; declare a margin before labelling to grade it."
    within = -margin <= residual.lower and residual.upper <= margin
    outside = residual.lower > margin or residual.upper < -margin
    if prompts < needed:
        known = f"{span}, outside" if outside else span
        return (
            TransportState.NOT_GRADED,
            f"{prompts} probe prompts, no {prompts} could pass at margin {margin:g}: "
            f"label at least {needed}; {known}.",
        )
    if within:
        return TransportState.PASS, f"{span}, all within the margin {margin:g}."
    if outside:
        return TransportState.FAIL, f"{span}, all outside the margin {margin:g}."
    return TransportState.INCONCLUSIVE, f"{span}, across the margin {margin:g}: label more."


def audit_transport(
    rollouts: Data,
    reward_data: Data,
    *,
    columns: Mapping[str, str] | None = None,
    gold_range: tuple[float, float],
    margin: float | None = None,
    delta: float = 0.05,
    seed: int = 0,
    folds: int = 5,
    weight: float | None = None,
    declare: tuple[str, ...] | str = (),
    held_out: bool = False,
) -> Transport:
    """Calibrate on reward data, predict E_theta r*, and audit the step with an on-policy probe.

    The reward-model score may lie on any scale: g takes it raw.

    Args:
        rollouts: The audited rollouts; gold on draws chosen blind to outcomes.
        reward_data: Rows of any policy with the same learned reward; gold on some or all of them.
            Both are anything that `taut.audit` takes.
        columns: Native column to column of both tables.
        gold_range: Declared (low, high) of gold, reward units, fixed before the data.
        margin: Largest |E_theta[r* - g(r^)]| that does no harm, in units of gold, declared before
            the probe was labelled; None leaves the audit ungraded.
        delta: Probability with which each of the two intervals may miss, in (0, 1).
        seed: Of the draw order, the roles and the folds; fixed before the data.
        folds: Folds by prompt in which g is judged on its own data, at least 2.
        weight: How much of g enters `certified`, in [0, 1]: 0 is gold only, 1 is mean g(r^) plus
            the mean residual. None takes the narrowest forecast on the teaching prompts.
        declare, held_out: What is declared of the audited rollouts, as for `taut.audit`.

    Returns:
        The prediction, its verdict, and a certified interval, all in units of gold.

    Raises:
        AssumptionError: No gold on one side, or rows labelled one by one where K varies.
        UsageError: A setting out of range, or rollouts of several policies.

    Source: theory §3.6 (rectifier blocks, g fitted elsewhere), §2.4.
    """
    _check_settings(gold_range, margin, delta, folds, weight)
    rollouts, reward_data = as_rollouts(rollouts, columns), as_rollouts(reward_data, columns)
    _check_one_policy(rollouts)
    words = declared_words(declare, held_out=held_out)
    plain = (rollouts.plainly_labelled(), reward_data.plainly_labelled())
    rollouts, reward_data, found = _settled(*plain, gold_range, words, seed)
    _check_labels(found, reward_data)
    blocks = found.blocks
    roles = _roles(rollouts, blocks, reward_data, seed)
    lessons = _lessons(reward_data.take(roles.teach), gold_range, seed, folds)
    probe = _Probe(
        gold=_unit(rollouts.gold, gold_range),
        fitted=lessons.g(rollouts.reward),
        blocks=blocks.subset(roles.certify),
    )
    if weight is None:
        plan = _choose_plan(lessons, probe, seed, delta)
    else:
        plan = GoldPlan(weight * lessons.span, None)
    verdict, ends, alone = probe.judged(plan, lessons, gold_range, margin, delta)
    low, width = gold_range[0], gold_range[1] - gold_range[0]
    names = (about.RANDOM_LABELS, about.GOLD_RANGE)
    return Transport(
        state=verdict.state,
        margin=margin,
        residual=_span(verdict.residual),
        level=1 - delta,
        probe_prompts=verdict.probe_prompts,
        fewest_prompts=verdict.fewest_prompts,
        detail=verdict.detail,
        predicted=low + width * _mean(probe.blocks.means(probe.fitted)),
        certificate=StatedSpan(lower=ends.lower, upper=ends.upper, status=found.status(*names)),
        gold_only=_span(alone),
        weight=_share(plan, lessons),
        calibration=_in_calibration_units(lessons, gold_range, folds),
        certifying_draws=len(probe.blocks),
        shared=roles.shared,
        log=TransportLog(
            rollouts=len(rollouts),
            prompts=found.layout.prompts,
            draws=len(blocks),
            cells=found.layout.cell_count,
            reward_data_rollouts=len(reward_data),
        ),
        assumptions=found.resting_on(*names),
        health=found.checks,
    )


def _span(interval: Interval) -> Span:
    return Span(lower=interval.lower, upper=interval.upper)


def _settled(
    rollouts: Rollouts, reward_data: Rollouts, gold_range, words: frozenset[str], seed: int
) -> tuple[Rollouts, Rollouts, Design]:
    """Decide what both logs are worth: one key for a prompt of both; gold within its range."""
    (mine, theirs), _ = prompt_keys([rollouts, reward_data])
    rollouts, reward_data = replace(rollouts, prompt=mine), replace(reward_data, prompt=theirs)
    declared = Declared(gold_range=gold_range, words=words, seed=seed)
    found = design(rollouts, declared, sampler=False)
    teaching = design(reward_data, declared, sampler=False)
    for part in (found, teaching):
        part.units.unit_gold(part.rollouts.gold)
    return found.rollouts, teaching.rollouts, found


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which audited draws certify, which rows of the reward data teach (masks), and how shared."""

    certify: np.ndarray
    teach: np.ndarray
    shared: str


def _roles(rollouts: Rollouts, blocks: Blocks, reward_data: Rollouts, seed: int) -> _Roles:
    """Let each prompt teach g or certify, never both.

    Three cases. No labelled prompt of the reward data is audited: all teach, all certify. Less
    than half are: these do not teach. Otherwise a coin decides for every audited prompt outside
    the probe, from its id alone: heads, its reward data teach and its rollouts are left out.

    Proof that the audit is then exact. All that is seen of one prompt is independent of all that
    is seen of another. Roles depend on ids, on the seed and on where labels are, and labels are
    blind to outcomes. So, given the roles, g is a function of the teaching prompts alone, and
    independent of the certifying ones; given g these are independent draws from D_theta as
    before: the probe, because it is a random subset, and the rest, because the coin does not know
    whether a prompt has reward data (that could go with being easy). Given g, residuals of the
    probe are i.i.d. in a known range, and rectifier blocks have mean E r* whatever g is.

    Cross-fitting shared prompts instead (each with the g of the other folds) keeps every mean
    right, but blocks of two folds would depend on each other through both g's, and a fortune that
    bets on one after the other would not be a martingale. Hence no prompt in two roles.
    """
    keys = rollouts.prompt[blocks.rows[blocks.starts[:-1]]]
    labelled = labelled_rows(reward_data.gold)
    prompts = np.unique(reward_data.prompt[labelled])
    shared = int(np.isin(prompts, keys).sum())
    everyone = np.ones(len(blocks), dtype=bool)
    if shared == 0:
        return _Roles(everyone, labelled, "none")
    apart = labelled & ~np.isin(reward_data.prompt, keys)
    if 2 * shared <= len(prompts):
        return _Roles(everyone, apart, "set aside")
    probe = keys[label_counts(rollouts.gold, blocks) > 0]
    heads = (_hash(reward_data.prompt, seed, _ROLE_MARK) & np.uint64(1)).astype(bool)
    teach = apart | (labelled & heads & ~np.isin(reward_data.prompt, probe))
    tails = (_hash(keys, seed, _ROLE_MARK) & np.uint64(1)) == 0
    return _Roles(tails | np.isin(keys, probe), teach, "split")


@dataclass(frozen=True, slots=True)
class _Lessons:
    """What teaching prompts say, on the unit scale of gold.

    `fitted` and `constant` are out of fold: of each row, by the folds that do not hold its prompt.
    """

    data: Rollouts
    gold: np.ndarray
    weights: np.ndarray
    g: Isotonic
    fitted: np.ndarray
    constant: np.ndarray

    @property
    def floor(self) -> float:
        return float(self.g.values[0])

    @property
    def span(self) -> float:
        return float(self.g.values[-1]) - self.floor

    def average(self, values: np.ndarray) -> float:
        """Mean of row values, prompts weighted equally."""
        return math.fsum(self.weights * values) / math.fsum(self.weights)


def _lessons(data: Rollouts, gold_range, seed: int, folds: int) -> _Lessons:
    _, index, counts = np.unique(data.prompt, return_inverse=True, return_counts=True)
    if len(counts) < _FEWEST_TEACHERS:
        raise AssumptionError(
            f"{len(counts)} prompts are left to teach the calibration, expected at least "
            f"{_FEWEST_TEACHERS}: label reward data on prompts outside the probe."
        )
    gold, weights = _unit(data.gold, gold_range), 1.0 / counts[index]
    fold = _hash(data.prompt, seed, _FOLD_MARK) % np.uint64(folds)
    g = fit_isotonic(data.reward, gold, weights)
    fitted, constant = g(data.reward), np.full(len(gold), np.average(gold, weights=weights))
    for number in np.unique(fold):
        out, rest = fold == number, fold != number
        if rest.any():
            fitted[out] = fit_isotonic(data.reward[rest], gold[rest], weights[rest])(
                data.reward[out]
            )
            constant[out] = np.average(gold[rest], weights=weights[rest])
    return _Lessons(data, gold, weights, g, fitted, constant)


@dataclass(frozen=True, slots=True)
class _Probe:
    """The audited rollouts on the unit scale of gold, and their certifying draws.

    `gold` is NaN without a label; `fitted` is g(r^). Both have shape (rollouts,).
    """

    gold: np.ndarray
    fitted: np.ndarray
    blocks: Blocks

    @property
    def labelled(self) -> int:
        return int((label_counts(self.gold, self.blocks) > 0).sum())

    def residual(self, lessons: _Lessons, delta: float) -> Interval:
        """Interval for E[r* - g(r^)]; residuals are at least -max g and at most 1 - min g."""
        least, width = -lessons.floor - lessons.span, 1 + lessons.span
        scaled = np.clip((self.gold - self.fitted - least) / width, 0.0, 1.0)  # rounding only
        found = _joined(GoldPlan(0.0, 1.0), np.zeros_like(scaled), scaled, self.blocks, delta)
        return outward(found, least, width)

    def judged(self, plan, lessons: _Lessons, gold_range, margin, delta: float):
        """Return the verdict on g, and the intervals for E r* with g and without, user units."""
        low, width = gold_range[0], gold_range[1] - gold_range[0]
        verdict = grade(
            outward(self.residual(lessons, delta), 0.0, width),
            margin=margin,
            delta=delta,
            prompts=self.labelled,
            width=(1 + lessons.span) * width,
        )
        ends = outward(self.mean(plan, lessons, delta), low, width)
        return verdict, ends, outward(self.mean(GoldPlan(0.0, 1.0), lessons, delta), low, width)

    def mean(self, plan: GoldPlan, lessons: _Lessons, delta: float) -> Interval:
        """Interval for E r*; g enters from its floor up, which keeps the blocks' range narrow."""
        return _joined(plan, _control(self.fitted, lessons), self.gold, self.blocks, delta)


def _joined(plan, control, gold, blocks, delta: float) -> Interval:
    found = gold_blocks(
        plan,
        reward=control,
        gold=gold,
        kl_cost=np.zeros_like(control),
        kl_range=(0.0, 0.0),
        blocks=blocks,
    )
    return block_interval(
        found.values,
        low=found.low,
        high=found.high,
        delta_lower=delta / 2,
        delta_upper=delta / 2,
        method="betting",
    )


def _control(fitted: np.ndarray, lessons: _Lessons) -> np.ndarray:
    """g on its own scale from 0 to 1: constants cancel in rectifier blocks, span does not."""
    if lessons.span == 0:
        return np.zeros_like(fitted)
    return np.clip((fitted - lessons.floor) / lessons.span, 0.0, 1.0)


def _choose_plan(lessons: _Lessons, probe: _Probe, seed: int, delta: float) -> GoldPlan:
    """Choose how much of g to use by forecast width on the teaching prompts, out of fold."""
    labelled = probe.labelled
    plan, _ = choose_gold_plan(
        reward=_control(lessons.fitted, lessons),
        gold=lessons.gold,
        kl_cost=np.zeros(len(lessons.gold)),
        kl_range=(0.0, 0.0),
        calibration=lay_out(lessons.data, seed=seed).blocks,
        labelled=labelled,
        unlabelled=len(probe.blocks) - labelled,
        delta=delta,
    )
    return plan


def _share(plan: GoldPlan, lessons: _Lessons) -> float:
    """How much of g a plan uses; labelled draws alone use none, for it cancels there."""
    return 0.0 if plan.own == 1.0 or lessons.span == 0 else plan.weight / lessons.span


def _in_calibration_units(lessons: _Lessons, gold_range, folds: int) -> Calibration:
    low, width = gold_range[0], gold_range[1] - gold_range[0]
    residual = lessons.gold - lessons.fitted
    return Calibration(
        g=Curve(
            knots=tuple(lessons.g.knots.tolist()),
            values=tuple((low + width * lessons.g.values).tolist()),
        ),
        prompts=len(np.unique(lessons.data.prompt)),
        bias=width * lessons.average(residual),
        mse=width**2 * lessons.average(residual**2),
        constant_mse=width**2 * lessons.average((lessons.gold - lessons.constant) ** 2),
        folds=folds,
    )


def _check_settings(gold_range, margin, delta, folds, weight) -> None:
    low, high = gold_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"gold_range is {tuple(gold_range)}; expected finite LOW < HIGH.")
    if margin is not None and not 0 < margin < high - low:
        raise UsageError(
            f"margin is {margin}; expected more than 0 and less than the width of the gold range, "
            f"{high - low:g}."
        )
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta}; expected a probability above 0 and below 1.")
    if folds < 2:
        raise UsageError(f"folds is {folds}; expected at least 2.")
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"weight is {weight}; expected a share in [0, 1], or None to choose.")


def _check_one_policy(rollouts: Rollouts) -> None:
    for name in ("step", "policy", "run"):
        part = getattr(rollouts, name)
        if part is not None and bool((part != part[0]).any()):
            raise UsageError(
                f"the audited rollouts hold several values of '{name}', so no single policy is "
                "audited; pick one with rollouts.take(mask)."
            )


def _check_labels(found: Design, reward_data: Rollouts) -> None:
    rollouts = found.rollouts
    if reward_data.gold is None or np.isnan(reward_data.gold).all():
        raise AssumptionError(
            "the reward data carry no gold label: nothing can teach the calibration. Label some."
        )
    if rollouts.gold is None or np.isnan(rollouts.gold).all():
        raise AssumptionError(
            "the audited rollouts carry no gold label: nothing could show that the calibration "
            "holds there. Label a random subset of their prompts."
        )
    if found.labels is not None and found.labels.uneven:
        raise AssumptionError(
            "rows were labelled one by one while K varies, so prompts had unequal chances of a "
            "label; label whole prompts, or keep K fixed."
        )
    if found.labels is not None and found.labels.kind is LabelKind.CHANCES:
        raise AssumptionError(
            "the audited rows had unequal, recorded chances of a label (`label_probability`), "
            "which this probe does not weigh: taut.audit does."
        )


def _unit(gold: np.ndarray, gold_range: tuple[float, float]) -> np.ndarray:
    """Map gold to [0, 1]; what lies outside its range was refused before (theory §1)."""
    return to_unit(gold, *gold_range)


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values)


def _hash(prompt: np.ndarray, seed: int, mark: int) -> np.ndarray:
    """Pseudo-random uint64 of each prompt, from its id, the seed and a mark of the purpose."""
    return scramble(prompt ^ scramble(np.uint64((seed ^ mark) % 2**64)))

"""Routes through reward data: from where the reward model is trusted to the policy's own rollouts.

Each function is one route of theory §3: it bounds E[r* - cost] from the audited rollouts and from
reward data with weights w = pi_theta/pi_b, and names what it assumes. A route that the data
contradict is refused with a reason (theory §3.7).
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.auditing.routes.declared import Joined, both_ends, what_is_left
from taut.auditing.target import Budget, Event, TargetMean, exact_mean
from taut.bounds.coverage import (
    coverage_floor,
    describe_weights,
    log_e_value_of_mean,
    mahalanobis_shift,
    noise_floor,
)
from taut.bounds.sampling import block_interval, end_forecast
from taut.bounds.transfer import (
    TRUNCATIONS,
    EndBlocks,
    Ingredients,
    RewardData,
    centred_shift,
    error_bounds,
    importance_blocks,
    join_means,
    truncated_shift,
    truncated_weights,
    weight_bounds,
)
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing, status_of
from taut.draws.design import Design
from taut.draws.labels import LabelKind, inclusion_varies, label_counts, labelled_means
from taut.draws.rollouts import Blocks
from taut.errors import CoverageError
from taut.types import Interval, Status, weakest

_SURE_LOG_E = math.log(1e6)  # refuted for all practical purposes
_ENOUGH = 200
_CHECK_LEVEL = 3.0  # where both samples of the covered mass are compared


def _assumed(text: str) -> Assumption:
    by = "nobody can look"
    return Assumption(name=about.QUANTITY, text=text, stands=Standing.ASSUMED, by=by)


_TRUSTED = _assumed("the log-probs of policy and behaviour are right, from one engine")
_REACH = _assumed("reward data and audited rollouts share the law of prompts")
_UNSEEN = _assumed("the gold labels on the reward data were not used to fit the reward model")


def _coverage_declared(coverage: float) -> Assumption:
    return Assumption(
        name=about.QUANTITY,
        text=f"coverage C is at most {coverage:g}",
        stands=Standing.DECLARED,
        by="--coverage",
    )


@dataclass(frozen=True, slots=True)
class Shift:
    """What the density routes work on: reward data beside the audited rollouts.

    Attributes:
        data: Reward data.
        weight: w of the audited rollouts, shape (rollouts,); None where they lack the
            behaviour's log-probs.
        prompt: uint64 key of each audited row's prompt.
        design: What the rows of the reward data are worth.
        features: Features of the audited rows and of the reward data, shapes (rows, features);
            None where either log lacks them.
        paired: Prompts may occur in both logs; draws of one prompt then share a block.
    """

    data: RewardData
    design: Design
    weight: np.ndarray | None
    prompt: np.ndarray
    paired: bool
    features: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def rests_on(self) -> tuple[Assumption, ...]:
        """What any number made from the reward data rests on."""
        return tuple(
            item.model_copy(update={"text": f"reward data: {item.text}"})
            for item in self.design.resting_on(about.RANDOM_LABELS, about.GOLD_RANGE)
        )


def _method(mean: TargetMean, shift: Shift) -> str:
    """Return the sampling bound that fits both logs."""
    mixed = not shift.design.one_law and mean.method in ("betting", "bernstein")
    return "mixture" if mixed else mean.method


def check_weights(mean: TargetMean, shift: Shift) -> None:
    """Refuse weights that cannot be density ratios, whatever the policies are.

    E_train w <= 1; and where the audited rollouts carry weights, E_train min(w, M) equals
    E_theta min(1, M/w), so that the two samples must agree.

    Raises:
        CoverageError: No log-probs, a mean weight above 1, or samples that disagree, all beyond
            chance (1e-3).

    Source: theory §3.7.
    """
    data = shift.data
    if data.weight is None:
        raise CoverageError("needs `policy_logprob` and `behaviour_logprob` in the reward data")
    if len(data.blocks) == 0:
        raise CoverageError("needs reward data on prompts that chose nothing in the audited log")
    means = data.blocks.means(data.weight)
    if log_e_value_of_mean(means) >= _SURE_LOG_E:
        raise CoverageError(
            f"the mean weight on the reward data is {means.mean():.3g} where at most 1 can be: "
            "the log-probs are not those of the policies that they are said to be"
        )
    if shift.weight is None or mean.design.declared.log_prob_noise:
        return
    trained, audited = (
        weight_bounds(
            weight, blocks, _CHECK_LEVEL, on_policy=on, delta=1e-3, method=_method(mean, shift)
        )[0]
        for weight, blocks, on in (
            (data.weight, data.blocks, False),
            (shift.weight, mean.blocks, True),
        )
    )
    if trained.lower > audited.upper or audited.lower > trained.upper:
        raise CoverageError(
            f"the mass that weights up to {_CHECK_LEVEL:g} cover is between {trained.lower:.3g} "
            f"and {trained.upper:.3g} on the reward data, between {audited.lower:.3g} and "
            f"{audited.upper:.3g} on the audited rollouts: one of the log-probs is wrong"
        )


def check_declared(mean: TargetMean, shift: Shift | None, coverage: float) -> None:
    """Refuse a declared C that the weights contradict: E_theta w and E_train w^2 are C^2.

    Raises:
        CoverageError: Weights too large for it, beyond chance (1e-3 for each sample).

    Source: theory §3.7, §3.1.
    """
    if shift is None:
        return
    samples = ((shift.weight, mean.blocks, 1, "audited rollouts"),)
    samples += ((shift.data.weight, shift.data.blocks, 2, "reward data"),)
    for weight, blocks, power, where in samples:
        if weight is None:
            continue
        means = blocks.means(weight**power) / coverage**2
        if log_e_value_of_mean(means) >= _SURE_LOG_E:
            raise CoverageError(
                f"the weights of the {where} contradict the declared C of {coverage:g}: they "
                f"say {coverage * math.sqrt(means.mean()):.3g}; declare one that holds, or none"
            )


def describe_coverage(shift: Shift | None, audited: Blocks, delta: float) -> dict | None:
    """Describe the weights of the reward data: diagnostics, beside every density route.

    Args:
        shift: Reward data beside the audited rollouts; None gives None.
        audited: The certifying draws of the audited rollouts.
        delta: Error probability of the interval for the covered mass.

    Source: theory §3.7.
    """
    if shift is None or shift.data.weight is None or len(shift.data.blocks) == 0:
        return None
    weight, blocks = shift.data.weight, shift.data.blocks
    mass, _ = weight_bounds(
        weight, blocks, _CHECK_LEVEL, on_policy=False, delta=delta, method="betting"
    )
    found = describe_weights(blocks.means(weight))
    on_policy = None
    if shift.weight is not None:  # a weight may underflow
        on_policy = np.log(np.maximum(audited.means(shift.weight), 1e-300))
    return {
        "draws": len(blocks),
        **{name: getattr(found, name) for name in found.__slots__},
        "covered_mass": {"level": _CHECK_LEVEL, "lower": mass.lower, "upper": mass.upper},
        "coverage_floor": None if on_policy is None else coverage_floor(on_policy),
        "identical_share": float((weight == 1).mean()),
        "noise_floor": noise_floor(weight),
    }


def check_labels(shift: Shift) -> None:
    """Refuse routes that need gold on the reward data where there is none.

    Raises:
        CoverageError: Fewer than two labelled draws that certify.
    """
    data = shift.data
    if data.gold is None or (label_counts(data.gold, data.blocks) > 0).sum() < 2:
        raise CoverageError("needs gold labels on the reward data")
    if shift.design.labels.kind is LabelKind.CHANCES:
        raise CoverageError(
            "needs labels of one chance: rows of the reward data had unequal, recorded chances of "
            "a label (`label_probability`), which this route does not weigh"
        )
    if inclusion_varies(label_counts(data.gold, data.blocks), data.blocks.sizes):
        raise CoverageError(
            "needs labels on whole prompts of the reward data: their numbers of rollouts are "
            "unequal, and rows were labelled one by one"
        )


def importance(mean: TargetMean, shift: Shift, learned: Interval, budget: Budget) -> Joined:
    """Truncated importance weighting with a double lower bound.

    Raises:
        CoverageError: Reward data without labels or weights, or weights that contradict themselves.

    Source: theory §3.4, §5.
    """
    check_weights(mean, shift)
    check_labels(shift)
    form = min(_forms(mean, shift), key=lambda form: _forecast(mean, shift, form, budget))
    ends, spent = [], (budget.lower, budget.upper)
    for upper in (False, True):
        joined = _end_blocks(mean, shift, form, upper, shift.data.blocks, mean.blocks)
        ends.append(_lower_end(joined, spent[upper], _method(mean, shift)))
    truncation, controlled = form
    shown = _end_blocks(mean, shift, form, False, shift.data.blocks, mean.blocks).values
    return _beside(
        mean,
        learned,
        Interval(ends[0], 1 - ends[1]),
        events=both_ends("truncated importance weights", budget),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_TRUSTED, _REACH, _UNSEEN),
        route=f"importance weights cut at {truncation:g}"
        + (", r as control variate" if controlled else ""),
        source="theory §3.4",
        values=shown,
    )


def weighted_ends(
    mean: TargetMean, shift: Shift, audited: Blocks, budget: Budget
) -> tuple[tuple[EndBlocks, EndBlocks], str, tuple[Assumption, ...]]:
    """Return blocks that bound E[r* - cost], and 1 - E[r* - cost], from below; their name; and
    what they rest on.

    Args:
        audited: The audited draws that no other bound of the same event uses.

    Raises:
        CoverageError: As for `importance`; or no audited draw where the form or a cost needs one.

    Source: theory §3.4.
    """
    check_weights(mean, shift)
    check_labels(shift)
    forms = [form for form in _forms(mean, shift) if len(audited) or not form[1]]
    if mean.beta and not len(audited):
        raise CoverageError("needs unlabelled draws in the audited log, for the KL cost")
    form = min(forms, key=lambda form: _forecast(mean, shift, form, budget))
    ends = tuple(
        _end_blocks(mean, shift, form, upper, shift.data.blocks, audited) for upper in (False, True)
    )
    assumes = (_TRUSTED, _REACH, _UNSEEN, *shift.rests_on)
    return ends, f"reward data with weights cut at {form[0]:g}", assumes


def _forms(mean: TargetMean, shift: Shift) -> list[tuple[float, bool]]:
    """Truncations and forms (with the learned reward as control variate, or pure)."""
    largest = float(shift.data.weight[shift.data.calibration.rows].max(initial=1.0))
    # A level above every weight cuts nothing; one such level is enough.
    levels = [level for level in TRUNCATIONS if level / 2 <= largest]
    # The control form is wrong where both logs understate w; with this many draws in each, the
    # comparison in `check_weights` sees that. The pure form is right in any case.
    enough = min(len(shift.data.blocks), len(mean.blocks)) >= _ENOUGH
    noisy = bool(mean.design.declared.log_prob_noise)  # the control form is false under noise
    controls = (False, True) if shift.weight is not None and enough and not noisy else (False,)
    return [(level, control) for level in levels for control in controls]


def _end_blocks(mean, shift: Shift, form, upper: bool, train: Blocks, audited: Blocks) -> EndBlocks:
    """Blocks whose mean bounds E[r* - cost] (or 1 - E[r* - cost]) from below."""
    truncation, controlled = form
    on_policy = (mean.data.reward, shift.weight) if controlled else None
    first, control = importance_blocks(
        shift.data, train, truncation, on_policy=on_policy, upper=upper
    )
    cost = -mean.cost if not upper else mean.cost
    low, high = sorted((cost_end if upper else -cost_end) for cost_end in mean.cost_range)
    if not controlled and not mean.beta:
        return first
    second = np.clip(
        audited.means(control + cost if controlled else cost),
        low,
        high + (1.0 if controlled else 0),
    )
    partner = _partners(shift, train, audited)
    values = join_means(first.values, second, partner)
    return EndBlocks(values, first.low + low, first.high + high + (1.0 if controlled else 0.0))


def _partners(shift: Shift, train: Blocks, audited: Blocks) -> np.ndarray:
    """Index of the audited draw of the same prompt for each labelled draw of reward data, or -1."""
    counts = label_counts(shift.data.gold, train)
    chosen = np.flatnonzero(counts > 0)
    if not shift.paired:
        return np.full(len(chosen), -1)
    mine = shift.data.prompt[train.rows[train.starts[chosen]]]
    theirs = shift.prompt[audited.rows[audited.starts[:-1]]]
    order = np.argsort(theirs)
    place = np.searchsorted(theirs[order], mine)
    place = np.minimum(place, len(theirs) - 1)
    return np.where(theirs[order][place] == mine, order[place], -1)


def _lower_end(blocks: EndBlocks, eta: float, method: str) -> float:
    return block_interval(
        np.clip(blocks.values, blocks.low, blocks.high),
        low=blocks.low,
        high=blocks.high,
        delta_lower=eta,
        delta_upper=0.0,
        method=method,
    ).lower


def importance_forecast(
    mean: TargetMean, shift: Shift, budget: Budget, coverage: float | None
) -> float:
    """Width that the importance route will have, judged on both calibration splits.

    Where too few draws choose, what a declared C says of M = 1: it cuts off at most
    min(sqrt(chi^2)/2, 1 - 1/(1 + C^2)), and the rest is as wide as the learned reward's mean.
    """
    if coverage is not None and not _judged(mean, shift):
        lost = min(math.sqrt(coverage**2 - 1) / 2, 1 - 1 / (1 + coverage**2))
        return mean.forecast_width(budget.lower + budget.upper) + lost
    return min(_forecast(mean, shift, form, budget) for form in _forms(mean, shift))


def _judged(mean: TargetMean, shift: Shift) -> bool:
    """Whether both calibration splits hold draws to judge by."""
    labelled = label_counts(shift.data.gold, shift.data.calibration) > 0
    return bool(labelled.sum() >= 2) and len(mean.split.calibration) >= 2


def _forecast(mean: TargetMean, shift: Shift, form, budget: Budget) -> float:
    """Width that this form will have, judged on both calibration splits."""
    train, audited = shift.data.calibration, mean.split.calibration
    if not _judged(mean, shift):
        return form[0] + form[1]  # nothing to judge by: the smallest truncation, the pure form
    labelled = int((label_counts(shift.data.gold, shift.data.blocks) > 0).sum())
    width = 1.0
    for upper, eta in ((False, budget.lower), (True, budget.upper)):
        found = _end_blocks(mean, shift, form, upper, train, audited)
        centre = float(found.values.mean())
        variance = float(found.values.var(ddof=1)) if len(found.values) > 1 else 1.0
        far = centre - found.low
        width -= centre - end_forecast(far, variance, blocks=labelled, eta=eta or 0.5)
    return width


def truncated(mean: TargetMean, shift: Shift, budget: Budget, delta: float) -> Joined:
    """m_M |E e| + s_M sd(e) + (1 - m_M), every ingredient bounded.

    Half of delta goes to the learned reward's mean, a quarter to the error on reward data, a
    quarter to the weights; M is the one that the calibration split forecasts best.

    Raises:
        CoverageError: As for `importance`.

    Source: theory §3.3.
    """
    check_weights(mean, shift)
    check_labels(shift)
    quarter = delta / 4
    bias, mse = error_bounds(shift.data, quarter, _method(mean, shift))
    level = min(TRUNCATIONS, key=lambda level: _truncated_width(mean, shift, level, delta))
    on_policy = shift.weight is not None
    sample, blocks = (
        (shift.weight, mean.blocks) if on_policy else (shift.data.weight, shift.data.blocks)
    )
    mass, square = weight_bounds(
        sample, blocks, level, on_policy=on_policy, delta=quarter, method=_method(mean, shift)
    )
    found = truncated_shift(Ingredients(bias, mse, mass, square))
    return _added(
        mean,
        budget,
        found,
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_TRUSTED, _REACH, _UNSEEN),
        route=f"truncated coverage, weights cut at {level:g}",
        source="theory §3.3",
        shift_events=(
            Event("mean and mean square of the reward error", quarter),
            Event("covered mass and mean square of the cut weights", quarter),
        ),
    )


def truncated_forecast(mean: TargetMean, shift: Shift, delta: float) -> float:
    """Width that the truncated route will have, judged on the calibration splits."""
    width = min(_truncated_width(mean, shift, level, delta) for level in TRUNCATIONS)
    return mean.forecast_width(delta / 2) + width


def centred_forecast(mean: TargetMean, shift: Shift, coverage: float, delta: float) -> float:
    """Width that the centred route will have, judged on the calibration splits."""
    bias, mse = _error_forecast(shift, delta / 2)
    width = centred_shift(bias, mse, coverage**2 - 1).width
    return mean.forecast_width(delta / 2) + min(width, 2.0)


def _truncated_width(mean: TargetMean, shift: Shift, level: float, delta: float) -> float:
    """Width of the truncated bound with the ingredients that are forecast at this level."""
    on_policy = shift.weight is not None
    weight, chosen, certifying = (
        (shift.weight, mean.split.calibration, mean.blocks)
        if on_policy
        else (shift.data.weight, shift.data.calibration, shift.data.blocks)
    )
    if len(chosen) < 2:
        return 2.0 + level  # nothing to judge by: the smallest level
    bias, mse = _error_forecast(shift, delta / 4)
    (mass, _), (square, top) = truncated_weights(weight, level, on_policy=on_policy)
    masses, squares, blocks = chosen.means(mass), chosen.means(square), len(certifying)
    least = min(1.0, float(masses.mean())) - _far(masses, 0.0, blocks, delta / 16)
    most = float(squares.mean()) + _far(squares, top, blocks, delta / 8)
    least = max(0.0, least)
    parts = Ingredients(bias, mse, Interval(least, 1.0), max(least**2, min(most, level)))
    return min(truncated_shift(parts).width, 2.0)


def _error_forecast(shift: Shift, delta: float) -> tuple[Interval, float]:
    """What `error_bounds` is forecast to give; the worst where too few draws can tell."""
    data = shift.data
    known = label_counts(data.gold, data.calibration) > 0
    if known.sum() < 2:
        return Interval(-1.0, 1.0), 1.0
    error = data.reward - data.gold
    means = labelled_means(error, data.gold, data.calibration)[known]
    squares = labelled_means(error**2, data.gold, data.calibration)[known]
    blocks = int((label_counts(data.gold, data.blocks) > 0).sum())
    below, above = (_far(means, end, blocks, delta / 4) for end in (-1.0, 1.0))
    bias = Interval(float(means.mean()) - below, float(means.mean()) + above)
    mse = float(squares.mean()) + _far(squares, 1.0, blocks, delta / 2)
    return bias, max(mse, max(bias.lower, -bias.upper) ** 2)


def _far(values: np.ndarray, end: float, blocks: int, eta: float) -> float:
    """How far an end of the interval for a mean is forecast to lie, towards `end` of the range."""
    variance = float(values.var(ddof=1))
    return end_forecast(abs(end - float(values.mean())), variance, blocks=blocks, eta=eta)


def paper(mean: TargetMean, shift: Shift, budget: Budget, delta: float, coverage: float) -> Joined:
    """C sqrt(L) with declared coverage and L bounded on reward data.

    Raises:
        CoverageError: Reward data without gold labels.

    Source: theory §3.1, §3.8.
    """
    check_declared(mean, shift, coverage)
    check_labels(shift)
    half = delta / 2
    data = shift.data
    squares = labelled_means((data.reward - data.gold) ** 2, data.gold, data.blocks)
    largest = block_interval(
        squares[~np.isnan(squares)],
        low=0.0,
        high=1.0,
        delta_lower=0.0,
        delta_upper=half,
        method=_method(mean, shift),
    ).upper
    reach = coverage * math.sqrt(largest)
    return _added(
        mean,
        budget,
        Interval(-reach, reach),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_coverage_declared(coverage), _REACH, _UNSEEN),
        route="declared C, measured L",
        source="theory §3.1",
        shift_events=(Event("mean square of the reward error", half),),
    )


def paper_forecast(mean: TargetMean, shift: Shift, coverage: float, delta: float) -> float:
    """Width that C sqrt(L) will have, judged on the calibration splits."""
    _, mse = _error_forecast(shift, delta)
    return mean.forecast_width(delta / 2) + 2 * min(1.0, coverage * math.sqrt(mse))


def centred(
    mean: TargetMean, shift: Shift, budget: Budget, delta: float, coverage: float
) -> Joined:
    """|E e| + sqrt(chi^2) sd(e) with declared coverage and the error bounded on reward data.

    Raises:
        CoverageError: Reward data without gold labels.

    Source: theory §3.2, §5 (paper).
    """
    check_declared(mean, shift, coverage)
    check_labels(shift)
    half = delta / 2
    bias, mse = error_bounds(shift.data, half, _method(mean, shift))
    return _added(
        mean,
        budget,
        centred_shift(bias, mse, coverage**2 - 1),
        data=shift,
        status=Status.CONDITIONAL,
        assumes=(_coverage_declared(coverage), _REACH, _UNSEEN),
        route="centred, declared C and measured error",
        source="theory §3.2",
        shift_events=(Event("mean and mean square of the reward error", half),),
    )


def mahalanobis(mean: TargetMean, shift: Shift, budget: Budget) -> Joined:
    """|E e| + Delta sd(e) for errors that are linear in features, or in the score: an estimate.

    Raises:
        CoverageError: No gold labels, or a shift outside the range of the reward data.

    Source: theory §3.5.
    """
    check_labels(shift)
    data = shift.data
    audited, trusted = shift.features or (mean.data.reward[:, None], data.reward[:, None])
    theirs = np.stack([data.blocks.means(column) for column in trusted.T], axis=1)
    ours = np.stack([mean.blocks.means(column) for column in audited.T], axis=1)
    if len(theirs) <= trusted.shape[1] + 1:
        raise CoverageError(
            f"needs more than {trusted.shape[1] + 1} draws of reward data for "
            f"{trusted.shape[1]} features"
        )
    delta, outside = mahalanobis_shift(ours, theirs)
    if outside > 1e-6:
        raise CoverageError("the mean moves along a direction that never varies on the reward data")
    what = "its score" if shift.features is None else f"the {trusted.shape[1]} features"
    error = (data.reward - data.gold)[data.blocks.rows]
    error = error[~np.isnan(error)]
    reach = delta * float(error.std())
    centre = -float(error.mean())
    return _added(
        mean,
        budget,
        Interval(centre - reach, centre + reach),
        data=shift,
        status=Status.ESTIMATED,
        assumes=(
            _assumed(f"the reward model's error is a linear function of {what}"),
            _REACH,
            _UNSEEN,
        ),
        route=f"shift of the mean of {what}",
        source="theory §3.5",
        shift_events=(),
    )


def _added(
    mean: TargetMean, budget: Budget, shift: Interval, *, data: Shift, shift_events, **named
) -> Joined:
    """Add a bound on the shift to the learned reward's interval at what is left of delta."""
    spent = sum(item.delta for item in shift_events)
    whole = budget.lower + budget.upper
    part = max(0.0, 1 - spent / whole)
    left = Budget(budget.lower * part, budget.tail, budget.upper * part)
    learned = mean.interval(mean.draws, mean.low, mean.high, left)
    # Rewards lie in [0, 1], so no shift is larger than 1 (theory §3.9).
    shift = Interval(max(shift.lower, -1.0), min(shift.upper, 1.0))
    return _beside(
        mean,
        learned,
        Interval(learned.lower + shift.lower, learned.upper + shift.upper),
        data=data,
        events=both_ends("learned reward less KL cost", left),
        shift_events=shift_events,
        values=mean.draws,
        **named,
    )


def _beside(
    mean: TargetMean,
    learned: Interval,
    interval: Interval,
    *,
    data: Shift,
    status: Status,
    assumes: tuple[Assumption, ...],
    **named,
) -> Joined:
    """Show an interval as the learned reward's sampling error and what is left, the shift."""
    measured = exact_mean(mean.draws)
    rests_on = data.rests_on
    return Joined(
        interval=interval,
        sampling=Interval(learned.lower - measured, learned.upper - measured),
        shift=Interval(
            what_is_left(interval.lower, learned.lower), what_is_left(interval.upper, learned.upper)
        ),
        status=weakest((status, status_of(rests_on))),
        assumes=assumes + rests_on,
        **named,
    )

"""Routes through reward data: from where the reward model is trusted to the policy's own rollouts.

Each function is one route of theory §3: it bounds E[r* - cost] from the audited rollouts and from
reward data with weights w = pi_theta/pi_b, and names what it assumes. A route that the data
contradict is refused with a reason (theory §3.7).
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.auditing.routes.declared import Joined, what_is_left
from taut.auditing.target import TargetMean
from taut.bounds.coverage import (
    coverage_floor,
    describe_weights,
    log_e_value_of_mean,
    noise_floor,
)
from taut.bounds.transfer import (
    RewardData,
    weight_bounds,
)
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing, status_of
from taut.draws.design import Design
from taut.draws.labels import LabelKind, inclusion_varies, label_counts
from taut.draws.rollouts import Blocks
from taut.errors import CoverageError
from taut.types import Interval, Status, weakest

SURE_LOG_E = math.log(1e6)  # refuted for all practical purposes
_CHECK_LEVEL = 3.0  # where both samples of the covered mass are compared


def assumed(text: str) -> Assumption:
    """Return an assumption that no log can bear out."""
    by = "nobody can look"
    return Assumption(name=about.QUANTITY, text=text, stands=Standing.ASSUMED, by=by)


TRUSTED = assumed("the log-probs of policy and behaviour are right, from one engine")
REACH = assumed("reward data and audited rollouts share the law of prompts")
UNSEEN = assumed("the gold labels on the reward data were not used to fit the reward model")


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


def method_of(mean: TargetMean, shift: Shift) -> str:
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
    if log_e_value_of_mean(means) >= SURE_LOG_E:
        raise CoverageError(
            f"the mean weight on the reward data is {means.mean():.3g} where at most 1 can be: "
            "the log-probs are not those of the policies that they are said to be"
        )
    if shift.weight is None or mean.design.declared.log_prob_noise:
        return
    trained, audited = (
        weight_bounds(
            weight, blocks, _CHECK_LEVEL, on_policy=on, delta=1e-3, method=method_of(mean, shift)
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


def beside(
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
    measured = mean.measured
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

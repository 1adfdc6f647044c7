"""Agreement: intervals that hold at few items, estimates that match the textbooks."""

import numpy as np
import pytest

from check import assert_misses_at_most, misses_more_than
from taut.errors import AssumptionError
from taut.labels.agreement import agreement, judge_rates
from taut.labels.chance_corrected import alpha_interval, kappa_interval

# 100 items; kappa by Cohen's formula, alpha by Krippendorff's: 130 of 200 labels are a yes.
COUNTS = {(1, 1): 45, (1, 0): 15, (0, 1): 25, (0, 0): 15}
KAPPA = 0.13043478260869565
ALPHA = 1 - 0.40 / (2 * 130 * 70 / (200 * 199))


def table(counts=COUNTS) -> np.ndarray:
    return np.repeat(np.array(list(counts), float), list(counts.values()), axis=0)


def named(found, name):
    return next(item for item in found.measured if item.name.startswith(name))


def test_estimates_are_the_textbooks():
    """Share, kappa and alpha of a table of 100 items."""
    found = agreement(table(), ("a", "b"))
    assert named(found, "share").estimate == pytest.approx(0.6)
    assert named(found, "Cohen's kappa").estimate == pytest.approx(KAPPA, abs=1e-12)
    assert named(found, "Krippendorff").estimate == pytest.approx(ALPHA, abs=1e-12)
    for item in found.measured:
        assert item.lower <= item.estimate <= item.upper
        assert item.items == 100


def test_alpha_of_numbers_by_all_pairs():
    """With three annotators: 1 - D_o / D_e, D_e over all pairs of different labels."""
    rng = np.random.default_rng(0)
    labels = np.clip(rng.random((30, 1)) + rng.normal(0, 0.1, (30, 3)), 0, 1)
    within = ((labels[:, :, None] - labels[:, None]) ** 2).sum() / (30 * 6)
    every = labels.ravel()
    between = ((every[:, None] - every) ** 2).sum() / (90 * 89)
    found = named(agreement(labels, ("a", "b", "c")), "Krippendorff")
    assert found.estimate == pytest.approx(1 - within / between, abs=1e-12)
    labels[:10, 2] = np.nan
    gaps = named(agreement(labels, ("a", "b", "c")), "Krippendorff")
    assert gaps.lower <= gaps.estimate <= gaps.upper and gaps.items == 30


def truths(share, slips):
    """Share, kappa and alpha of two who see a yes with this share and slip with these chances."""
    a, b = slips
    same = (1 - a) * (1 - b) + a * b
    pa, pb = (share * (1 - s) + (1 - share) * s for s in slips)
    chance = pa * pb + (1 - pa) * (1 - pb)
    mean = (pa + pb) / 2
    return same, (same - chance) / (1 - chance), 1 - (1 - same) / (2 * mean * (1 - mean))


def sample(n, share, slips, rng, repeat=1):
    truth = np.repeat(rng.random(n // repeat) < share, repeat)
    wrong = [np.repeat(rng.random(n // repeat) < s, repeat) for s in slips]
    return np.stack([truth ^ one for one in wrong], axis=1).astype(float)


def misses(n, trials, *, repeat=1, share=0.8, slips=(0.1, 0.2), delta=0.1):
    """Misses of share, kappa and alpha."""
    wanted, missed = truths(share, slips), np.zeros(3, dtype=int)
    for seed in range(trials):
        labels = sample(n, share, slips, np.random.default_rng(seed), repeat)
        found = agreement(labels, ("a", "b"), delta=delta)
        for at, (item, truth) in enumerate(zip(found.measured, wanted, strict=True)):
            missed[at] += not item.lower <= truth <= item.upper
    return missed


@pytest.mark.parametrize("n", [12, 60])
def test_intervals_hold(n):
    """At most delta of the intervals miss, at 12 items as at 60."""
    for missed in misses(n, 30):
        assert_misses_at_most(int(missed), 30, 0.1)


def test_rollouts_of_one_prompt_are_no_items():
    """Planted: twelve equal items counted as twelve. The same check accuses share and alpha."""
    share, _, alpha = misses(60, 30, repeat=12)
    assert misses_more_than(int(share), 30, 0.1)
    assert misses_more_than(int(alpha), 30, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "slips"), [(0.5, (0.05, 0.05)), (0.95, (0.0, 0.02))])
def test_intervals_hold_at_length(share, slips):
    """The same on 1,000 samples, near the ends of the scale too."""
    for missed in misses(40, 1000, share=share, slips=slips):
        assert_misses_at_most(int(missed), 1000, 0.1)


def test_more_items_say_more():
    """The width falls about as one over the root of the items."""
    widths = []
    for n in (100, 1600):
        labels = sample(n, 0.7, (0.1, 0.1), np.random.default_rng(1))
        low, high = kappa_interval(*labels.T, delta=0.05)
        widths.append(high - low)
    assert widths[1] < 0.32 * widths[0]


def test_perfect_agreement_and_none():
    """All equal: the upper end is 1. Labels that never vary say nothing of chance."""
    same = np.tile([[1.0, 1.0], [0.0, 0.0]], (40, 1))
    low, high = kappa_interval(*same.T, delta=0.05)
    assert low > 0.6 and high == 1
    assert kappa_interval(np.ones(50), np.ones(50), delta=0.05)[1] == 1
    found = agreement(np.ones((50, 2)), ("a", "b"))
    assert named(found, "Cohen's kappa").estimate is None
    apart = np.tile([[1.0, 0.0], [0.0, 1.0]], (40, 1))
    assert kappa_interval(*apart.T, delta=0.05)[1] < -0.5


def test_what_cannot_be_compared_is_said():
    """Too few shared items, labels off the scale, kappa of numbers."""
    labels = np.array([[1, 1], [0, 0], [1, np.nan]], float)
    assert agreement(labels, ("a", "b")).notes == (
        "a and b: 2 items in common, too few; draw more overlap.",
    )
    with pytest.raises(AssumptionError, match=r"values in \[0, 1\]"):
        agreement(np.full((9, 2), 3.0), ("a", "b"))
    with pytest.raises(AssumptionError, match="labels 0 and 1"):
        kappa_interval(np.array([0.5]), np.array([1.0]), delta=0.05)
    with pytest.raises(AssumptionError, match="at least one item"):
        alpha_interval(np.empty(0), np.empty(0), np.empty(0), delta=0.05)


def test_rates_of_a_judge():
    """True-positive and true-negative rates at a threshold, by Clopper-Pearson."""
    gold = np.repeat([1.0, 0.0], [20, 30])
    judge = np.r_[np.full(15, 0.9), np.full(5, 0.1), np.full(3, 0.7), np.full(27, 0.2)]
    positive, negative = judge_rates(judge, gold, threshold=0.5)
    assert (positive.estimate, positive.items) == (0.75, 20)
    assert (negative.estimate, negative.items) == (0.9, 30)
    assert positive.lower == pytest.approx(0.5089541282920425, abs=1e-9)
    with pytest.raises(AssumptionError, match="0 or 1"):
        judge_rates(judge, gold / 2, threshold=0.5)
    with pytest.raises(AssumptionError, match="at least one label 0"):
        judge_rates(judge[:20], gold[:20], threshold=0.5)

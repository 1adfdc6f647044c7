"""What tests say of the assumptions that a log can contradict (theory §2, §4.6).

Every test is valid for any data: an honest log, however skewed, is doubted by all tests together
with probability at most 1e-3 and contradicted with 1e-6. Tests only lower a status; no bound is
computed from them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from taut.draws import assumptions as about
from taut.draws import order
from taut.draws.assumptions import Standing
from taut.draws.declared import Declared
from taut.draws.labels import LabelKind, Labels, labelled_rows, recorded_chances
from taut.draws.layout import Layout, cell_keys
from taut.draws.rollouts import Blocks, Rollouts, group_rows
from taut.inequalities import e_values, urns
from taut.inequalities.blind_labels import labels_blind_between, labels_blind_within
from taut.inequalities.equal_rewards import equal_rewards_kept
from taut.inequalities.multiplicity import Verdict, verdicts
from taut.logs.keys import combine, kinds_of, row_keys

_GAP_DOUBT, _GAP_SURE = math.log(1.05), math.log(2.0)  # chi-square of sampler against policy, + 1


@dataclass(frozen=True, slots=True)
class Tested:
    """One test of one assumption.

    Attributes:
        name: The assumption.
        p_doubt, p_sure: p-values against it, and against what no tolerance explains.
        text: What it says where it speaks against the assumption.
    """

    name: str
    p_doubt: float
    p_sure: float
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the tests of one assumption found.

    Attributes:
        verdict: The strongest thing that any of them says.
        detail: The tests, and what they saw.
    """

    verdict: Verdict
    detail: str

    @property
    def speaks(self) -> bool:
        """Whether anything was found."""
        return self.verdict is not Verdict.NOTHING_FOUND

    @property
    def standing(self) -> Standing:
        """How an assumption stands that this speaks against."""
        return Standing(self.verdict.value)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found about each assumption that data can contradict."""

    labels: Finding
    complete: Finding
    log_probs: Finding


_SILENT = {
    about.RANDOM_LABELS: "too few labelled or unlabelled rollouts to compare",
    about.COMPLETE: "one rollout a prompt: nothing to compare",
    about.LOG_PROBS: "no log-probs",
}


def tests_of_the_whole(rollouts: Rollouts) -> tuple[Tested, ...]:
    """Run the tests of all rows of a settled log that speak against its parts too.

    Labels given to the best rows, or groups that were dropped, may be too few to be seen in each
    step or policy.
    """
    together = _in_cells(rollouts)
    return (*_labels_within(rollouts, together), *_equal_rewards(rollouts, together))


def look(
    rollouts: Rollouts,
    layout: Layout,
    labels: Labels | None,
    declared: Declared,
    *,
    shared: tuple[Tested, ...] = (),
    logs: int = 1,
    sampler: bool = True,
) -> Findings:
    """Run every test that the log allows.

    Args:
        rollouts, layout, labels, declared: The log.
        shared: Tests of the whole log that this is a part of.
        logs: Parts of one log that are looked at, this among them: they share the levels.
        sampler: `behaviour_logprob` is that of the policy that made these rows.
    """
    apart = _one_cell_each(layout)
    together = layout.blocks if apart else _in_cells(rollouts)
    found = order.side_by_side(
        [
            lambda: list(_labels(rollouts, layout, labels, together, apart=apart)),
            lambda: list(_equal_rewards(rollouts, together)),
            lambda: list(_copies(rollouts, layout)),
            lambda: list(_log_probs(rollouts, layout, declared, sampler)),
        ],
        len(rollouts),
    )
    tests = [test for several in found for test in several]
    p_doubt = [min(1.0, logs * test.p_doubt) for test in tests]
    p_sure = [min(1.0, logs * test.p_sure) for test in tests]
    said = verdicts(
        p_doubt + [test.p_doubt for test in shared], p_sure + [test.p_sure for test in shared]
    )
    named = [_joined(name, [*tests, *shared], said) for name in _SILENT]
    return Findings(*named)


def _one_cell_each(layout: Layout) -> bool:
    """Say whether draws are prompts, each with all its rows in one step, policy and run."""
    blocks = layout.blocks
    if len(blocks) != layout.prompts:
        return False
    cells = layout.cells[blocks.rows]
    changes = np.flatnonzero(cells[1:] != cells[:-1]) + 1
    return bool(np.isin(changes, blocks.starts, assume_unique=True).all())


def _in_cells(rollouts: Rollouts) -> Blocks:
    """Return the rows of each prompt in each step, policy and run: of one law, given the prompt."""
    keys = combine(rollouts.prompt, cell_keys(rollouts))
    return group_rows(keys, [rollouts.reward], seed=0)


def _joined(name: str, tests: list[Tested], found: tuple[Verdict, ...]) -> Finding:
    """Return the finding of all tests of one assumption."""
    mine = [
        (verdict, test) for verdict, test in zip(found, tests, strict=True) if test.name == name
    ]
    if not mine:
        return Finding(Verdict.NOTHING_FOUND, _SILENT[name])
    for verdict in (Verdict.VIOLATED, Verdict.IN_DOUBT):
        said = [test for its, test in mine if its is verdict]
        if said:
            worst = min(said, key=lambda test: test.p_doubt)
            return Finding(verdict, f"{worst.text}, p = {worst.p_doubt:.1g}")
    least = min(test.p_doubt for _, test in mine)
    plural = "" if len(mine) == 1 else "s"
    return Finding(
        Verdict.NOTHING_FOUND, f"{len(mine)} exact test{plural} found nothing (p = {least:.2g})"
    )


# --- labels ---------------------------------------------------------------------------------------


def _labels(
    rollouts: Rollouts, layout: Layout, labels: Labels | None, together: Blocks, *, apart: bool
) -> Iterator[Tested]:
    """Whether labels are blind, between draws and within them (theory §2).

    Where cells hold `apart` prompts, no prompt has rows in several of them to compare.
    """
    if labels is None or labels.kind in (LabelKind.CHANCES, LabelKind.ALL):
        return
    blocks, sizes = layout.blocks, layout.blocks.sizes
    if 0 < labels.draws < len(blocks):
        test = labels_blind_between(
            blocks.means(rollouts.reward), labels.counts, _codes(sizes, layout.profile)
        )
        text = f"labels go with the rewards of a prompt ({test.statistic})"
        yield Tested(about.RANDOM_LABELS, test.p_value, test.p_value, text)
        if labels.kind in (LabelKind.WHOLE, LabelKind.FIXED) and (sizes != sizes[0]).any():
            test = labels_blind_between(sizes.astype(np.float64), labels.counts > 0, 0 * sizes)
            text = "prompts with more rollouts are labelled more or less often than others"
            yield Tested(about.RANDOM_LABELS, test.p_value, test.p_value, text)
        if layout.cell_count > 1:
            p_value = _between_cells(layout, labels, sizes)
            text = "prompts of some steps, policies or runs are labelled more often than others"
            yield Tested(about.RANDOM_LABELS, p_value, p_value, text)
    yield from _labels_within(rollouts, together)
    if (
        layout.cell_count > 1
        and not apart
        and ((labels.counts > 0) & (labels.counts < sizes)).any()
    ):
        yield from _labels_across(rollouts, layout, together)


def _labels_across(rollouts: Rollouts, layout: Layout, together: Blocks) -> Iterator[Tested]:
    """Whether, of all rows of a prompt, those of certain cells or rewards are labelled.

    Where the rows of a prompt in one cell are labelled together (all or none of them, or a number
    of them), they are one unit: as rows they would look far too much alike.
    """
    mask, blocks = labelled_rows(rollouts.gold), layout.blocks
    counts = together.sums(mask.astype(np.int64))
    values, labelled, cells, starts = (
        rollouts.reward[blocks.rows],
        mask[blocks.rows],
        layout.cells[blocks.rows],
        blocks.starts,
    )
    if _labelled_together(counts, together.sizes):
        first = together.rows[together.starts[:-1]]
        owner = np.empty(len(rollouts), dtype=np.int64)
        owner[blocks.rows] = np.repeat(np.arange(len(blocks)), blocks.sizes)
        order = np.argsort(owner[first], kind="stable")
        values, labelled = together.means(rollouts.reward)[order], counts[order] > 0
        cells = layout.cells[first][order]
        starts = np.searchsorted(owner[first][order], np.arange(len(blocks) + 1))
    test = labels_blind_within(values, labelled, starts)
    text = f"labels go with the rewards of rollouts of one prompt ({test.statistic})"
    yield Tested(about.RANDOM_LABELS, test.p_value, test.p_value, text)
    p_value = e_values.p_of_log_e(urns.log_e_value_within(cells, labelled, starts))
    text = "rollouts of some steps, policies or runs are labelled more often than others"
    yield Tested(about.RANDOM_LABELS, p_value, p_value, text)


def _labelled_together(counts: np.ndarray, sizes: np.ndarray) -> bool:
    """Say whether labelled rows come by the cell: the same number of each, or all of it."""
    known = counts > 0
    same = counts[known]
    whole = (same == sizes[known]).all() and (same > 1).any()
    return bool(whole or ((same > 1).all() and (same == same[0]).all()))


def _labels_within(rollouts: Rollouts, together: Blocks) -> Iterator[Tested]:
    """Whether, of the rows of a prompt in one cell, those with certain rewards are labelled."""
    if rollouts.gold is None or recorded_chances(rollouts) is not None:
        return
    mask = labelled_rows(rollouts.gold)
    counts = together.sums(mask.astype(np.int64))
    if ((counts > 0) & (counts < together.sizes)).any():
        test = labels_blind_within(
            rollouts.reward[together.rows], mask[together.rows], together.starts
        )
        text = f"labels go with the rewards of rollouts of one prompt ({test.statistic})"
        yield Tested(about.RANDOM_LABELS, test.p_value, test.p_value, text)


def _between_cells(layout: Layout, labels: Labels, sizes: np.ndarray) -> float:
    """p-value: among draws of equal K, those of all profiles have one chance of a label."""
    log_e = 0.0
    for size in np.unique(sizes):
        part = np.flatnonzero(sizes == size)
        _, classes = np.unique(layout.profile[part], return_inverse=True)
        log_e += urns.log_e_value_between(classes, labels.counts[part] > 0, np.arange(len(part)))
    return e_values.p_of_log_e(log_e)


def _codes(*columns: np.ndarray) -> np.ndarray:
    """Return one code per row for each combination of some integer columns."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        kinds, code = kinds_of(column)
        _, codes = kinds_of(codes * len(kinds) + code)
    return codes


# --- rollouts that are missing --------------------------------------------------------------------


def _equal_rewards(rollouts: Rollouts, together: Blocks) -> Iterator[Tested]:
    """Whether draws of equal rewards, or of equal gold, were dropped (theory §2).

    Gold is looked at too: a trainer that drops groups by a verifier's 0/1 may log a reward with a
    length penalty on top, which is never equal. That K goes with the rewards of a prompt proves
    nothing: it may hang on what the prompt is.
    """
    if _comparable(rollouts.reward, together):
        p_value = _equal_kept(rollouts, rollouts.reward, together)
        text = "prompts whose rewards are all equal seem to have been dropped"
        yield Tested(about.COMPLETE, p_value, p_value, text)
    gold = rollouts.gold
    if gold is None or np.array_equal(gold, rollouts.reward):
        return
    known = together.sums(labelled_rows(gold).astype(np.int64)) == together.sizes
    whole = together.subset(known)
    if known.any() and _comparable(gold, whole):
        p_value = _equal_kept(rollouts, gold, whole)
        text = "prompts whose gold labels are all equal seem to have been dropped"
        yield Tested(about.COMPLETE, p_value, p_value, text)


def _comparable(values: np.ndarray, together: Blocks) -> bool:
    """Say whether some draw has several rows, with values that are draws of one law each."""
    return bool((together.sizes > 1).any()) and not _group_relative(values, together)


def _equal_kept(rollouts: Rollouts, values: np.ndarray, together: Blocks) -> float:
    first = together.rows[together.starts[:-1]]
    return equal_rewards_kept(
        values[together.rows],
        together.starts,
        keys=rollouts.prompt[first],
        cells=kinds_of(cell_keys(rollouts)[first])[1],
    ).p_value


_UNLIKELY = 10.0  # nats: log-probs of copies are looked at in steps of this size
_STEPS = 100


def _copies(rollouts: Rollouts, layout: Layout) -> Iterator[Tested]:
    """Whether rows stand in the log more than once.

    Given one rollout of log-prob p, another one of its prompt is the same with chance e^p: among N
    pairs of rollouts two are the same with a log-prob below c with chance at most N e^c. Prompts
    whose rollouts are all the same are left alone: greedy sampling makes them.
    """
    policy, blocks = rollouts.policy_logprob, layout.blocks
    if policy is None or (blocks.sizes < 2).all():
        return
    owner = np.repeat(np.arange(len(blocks), dtype=np.uint64), blocks.sizes)
    columns = [column[blocks.rows] for column in rollouts.value_columns()]
    keys = row_keys([owner, layout.cells[blocks.rows].astype(np.uint64), *columns])
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    copies = np.zeros(len(keys), dtype=np.int64)
    copies[order[1:][same]] = 1
    count = np.add.reduceat(copies, blocks.starts[:-1])
    partly = np.repeat((count > 0) & (count < blocks.sizes - 1), blocks.sizes)
    found = (copies > 0) & partly
    p_value = 1.0
    if found.any():
        sizes = blocks.sizes.astype(np.float64)
        pairs = float((sizes * (sizes - 1) / 2).sum())
        below = math.ceil(float(policy[blocks.rows][found].min()) / _UNLIKELY) * _UNLIKELY
        p_value = min(1.0, _STEPS * pairs * math.exp(max(below, -700.0)))
    text = f"{int(found.sum()):,} rollouts stand in the log more than once"
    yield Tested(about.COMPLETE, p_value, p_value, text)


def _group_relative(rewards: np.ndarray, together: Blocks) -> bool:
    """Say whether the rewards of every group add up to one number, as centred ones do.

    They are no draws of one law each, and never all equal unless all are that number's share.
    """
    sums = together.sums(rewards)
    spread = max(float(np.abs(rewards[together.rows]).max()), 1e-300) * float(together.sizes.max())
    return bool(np.abs(sums - sums[0]).max() <= 1e-6 * spread)


# --- log-probs ------------------------------------------------------------------------------------


def _log_probs(
    rollouts: Rollouts, layout: Layout, declared: Declared, sampler: bool
) -> Iterator[Tested]:
    """Whether log-probs can be right: E e^-l <= 1, and the sampler's own (theory §4.6)."""
    blocks, noise = layout.blocks, declared.log_prob_noise
    policy, behaviour = rollouts.policy_logprob, rollouts.behaviour_logprob

    def log_means(exponents: np.ndarray) -> np.ndarray:
        return e_values.block_log_means(exponents[blocks.rows], blocks.starts)

    if rollouts.log_ratio is not None:
        found = e_values.log_prob_test(log_means(-rollouts.log_ratio), noise=noise)
        text = f"the mean of exp(-log-ratio) is {_size(found.log_mean)}, at most 1 can be"
        yield Tested(about.LOG_PROBS, found.p_doubt, found.p_sure, text)
    if policy is None or behaviour is None or not sampler:
        return
    found = e_values.log_prob_test(log_means(policy - behaviour), noise=noise)
    text = f"the mean of exp(policy - behaviour) is {_size(found.log_mean)}, at most 1 can be"
    yield Tested(about.LOG_PROBS, found.p_doubt, found.p_sure, text)
    logs = log_means(behaviour - policy)
    gap = np.abs(behaviour - policy)
    yield Tested(
        about.LOG_PROBS,
        e_values.p_of_log_e(e_values.log_e_value(logs, _GAP_DOUBT)),
        e_values.p_of_log_e(e_values.log_e_value(logs, _GAP_SURE)),
        "the policy that sampled is not the one that was scored: log-probs differ by "
        f"{gap.mean():.3g} nats on average, 99% by less than {np.quantile(gap, 0.99):.3g}",
    )


def _size(log_value: float) -> str:
    """Write exp(log_value) so that it can be read however large it is."""
    return f"{math.exp(log_value):.3g}" if log_value < 300 else f"1e{log_value / 2.302585093:.0f}"

"""pass@k, pass^k and best@k with certificates: a prompt's U-statistic is one bounded draw.

From K >= k rollouts of a prompt the mean over all subsets of k is unbiased for what k fresh ones
would give. It lies in the range of the reward, and prompts are independent: so a log with one such
row a prompt goes through the audit as it stands (theory §2.9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from taut.auditing.audit import audit_part
from taut.auditing.certificates import Certificates, Group
from taut.auditing.options import Prompts, Range, options_of
from taut.auditing.words import Method, Route, Side
from taut.draws.design import settled
from taut.draws.labels import LabelKind, describe_labels, label_counts
from taut.draws.layout import cell_keys, lay_out
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.slices import Of, slices_of
from taut.engines.prompt_table import sides
from taut.engines.tables import Data, as_rollouts
from taut.errors import LogError, UsageError
from taut.inequalities.order_statistics import best_of as statistic

_KINDS = ("pass_at", "all_of", "best_of")


def audit_at(
    rollouts: Data,
    *,
    pass_at: int | Sequence[int] | None = None,
    all_of: int | Sequence[int] | None = None,
    best_of: int | Sequence[int] | None = None,
    by: str | Sequence[str] = (),
    by_table: Data | None = None,
    columns: Mapping[str, str] | None = None,
    reward_range: Range | None = None,
    gold_range: Range | None = None,
    delta: float = 0.05,
    method: Method = "betting",
    side: Side = "both",
    route: Route = "auto",
    calibration: float = 0.2,
    seed: int = 0,
    held_out: bool = False,
    declare: tuple[str, ...] | str = (),
    prompts: Prompts = "sample",
    target: Literal["reward"] = "reward",
) -> Certificates:
    """Certify what the best (or worst) of k rollouts is worth; all certificates hold together.

    Args:
        rollouts: The log, with at least k rollouts of every prompt.
        pass_at: k, or several: some of k rollouts passes; 0/1 rewards.
        all_of: k, or several: all of k rollouts pass (pass^k), or the worst of k for graded ones.
        best_of: k, or several: the best of k graded rewards.
        by: Columns of the law or the prompt to slice by as well.
        by_table: A table of prompts that has some of these columns, as in `taut.audit_by`.
        target: "reward", the only one that this speaks of.

    The other arguments are those of `taut.audit`.

    Returns:
        A certificate for each k (and slice): `value` is k, `usual` what the plug-in would say.

    Raises:
        UsageError: None, or more than one, of the three; k below 1.
        LogError: A prompt with fewer than k rollouts; rewards that are not 0/1 where passing is
            asked for; several policies without `by`.

    Source: theory §2.9; pass@k: Chen et al., arXiv 2107.03374.
    """
    kind, sizes = _asked({"pass_at": pass_at, "all_of": all_of, "best_of": best_of})
    names = (by,) if isinstance(by, str) else tuple(by)
    options = options_of({**locals(), "beta": None})
    table, kept = sides(by_table, names)
    log = as_rollouts(rollouts, columns, log_probs="optional", keep=kept)
    log = table.onto(log)
    whole = settled(log)
    parts = _parts(whole.rollouts, names)
    several = len(parts) * len(sizes)
    groups = []
    for name, part in parts:
        blocks = lay_out(part, seed=options.seed, mode=options.prompts).blocks
        _require(part, blocks, max(sizes), kind, name)
        for k in sizes:
            derived, usual = _derive(part, blocks, k, kind)
            found = audit_part(derived, options, whole=whole, simultaneous=several)
            value: int | str = k if name is None else f"{name} · {k}"
            groups.append(
                Group(value=value, certificate=found, usual=usual, delta=options.delta / several)
            )
    by_text = ", ".join((*names, kind))
    return Certificates(by=by_text, delta=options.delta, of="draw", groups=tuple(groups))


def _asked(given: Mapping[str, int | Sequence[int] | None]) -> tuple[str, tuple[int, ...]]:
    said = {kind: value for kind, value in given.items() if value is not None}
    if len(said) != 1:
        raise UsageError(f"expected one of {', '.join(_KINDS)}, found {', '.join(said) or 'none'}.")
    ((kind, value),) = said.items()
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
        raise UsageError(f"{kind} is {value}; expected one number of rollouts or several, from 1.")
    return kind, tuple(sorted(sizes))


def _parts(log: Rollouts, names: tuple[str, ...]) -> list[tuple[str | None, Rollouts]]:
    if names:
        slices = slices_of(log, names)
        if slices.of is Of.RESPONSE:
            raise UsageError(
                f"by {', '.join(names)} differs within prompts: the best of k is a property of a "
                "prompt. Slice by columns of the prompt, or by step, policy or run."
            )
        values = zip(slices.values, slices.rows(), strict=True)
        parts: list[tuple[str | None, Rollouts]] = [(str(v), log.take(rows)) for v, rows in values]
    else:
        parts = [(None, log)]
    for name, part in parts:
        if len(np.unique(cell_keys(part))) > 1:
            where = "the log" if name is None else f"slice {name}"
            raise LogError(
                f"{where} holds several steps, policies or runs: the best of k is that of one "
                "policy. Say --by step (by=), or audit the log of one."
            )
    return parts


def _require(part: Rollouts, blocks: Blocks, most: int, kind: str, name: str | None) -> None:
    """Stop where k rollouts are not there, or where nothing passes or fails."""
    short = blocks.sizes < most
    if short.any():
        where = "" if name is None else f" of {name}"
        raise LogError(
            f"{int(short.sum()):,} of {len(blocks):,} prompts{where}"
            f" have fewer than {most} rollouts, the least {int(blocks.sizes.min())}: leaving them "
            "out would change whom the number is about. Ask for a smaller k, or draw more."
        )
    columns = (part.reward,) if part.gold is None else (part.gold[~np.isnan(part.gold)],)
    if kind == "pass_at":
        for values in columns:
            other = values[(values != 0) & (values != 1)]
            if other.size:
                raise LogError(
                    f"pass_at needs rewards of 0 and 1, found {other[0]:g}; ask for best_of of "
                    "graded rewards, or map texts with --map-value."
                )
    labels = describe_labels(part, lay_out(part, seed=0, mode="sample"))
    unequal = part.sheet is not None and not part.sheet.uniform
    if labels is not None and (labels.kind is LabelKind.CHANCES or unequal):
        raise LogError(
            "rows had unequal chances of a label (a sheet by strata, or `label_probability`), "
            "which the best of k does not weigh. Draw a sheet that gives all prompts one chance."
        )
    if labels is not None and labels.uneven:
        raise LogError(
            "rows were labelled one by one, of prompts with unequal numbers of rollouts: prompts "
            "with k labels are then no random ones. Label whole prompts."
        )


def _derive(part: Rollouts, blocks: Blocks, k: int, kind: str) -> tuple[Rollouts, float]:
    """Return one row a draw with its U-statistics, and the usual estimate.

    Gold of a draw is known where k of its rollouts are labelled.
    """
    worst = kind == "all_of"
    first = blocks.rows[blocks.starts[:-1]]
    reward = statistic(part.reward[blocks.rows], blocks.starts, k, worst=worst)
    gold, source, counted = None, part.reward, blocks
    if part.gold is not None:
        gold = np.full(len(blocks), np.nan)
        enough = label_counts(part.gold, blocks) >= k
        if enough.any():
            counted = _labelled(part.gold, blocks.subset(enough))
            source = part.gold
            gold[enough] = statistic(source[counted.rows], counted.starts, k, worst=worst)
    values = source[counted.rows]
    usual = statistic(values, counted.starts, k, worst=worst, plug_in=True)
    row = part.take(first)
    derived = replace(
        row,
        reward=reward,
        gold=gold,
        log_ratio=None,
        policy_logprob=None,
        behaviour_logprob=None,
        token_clipped_log_ratio=None,
        token_clipped_sums=None,
        token_clips=(),
        token_clip=None,
        n_tokens=None,
        truncated=None,
        failed=None,
        features=None,
        label_probability=None,
        rollout_id=None,
        rollout_names=None,
    )
    return derived, float(np.mean(usual))


def _labelled(gold: np.ndarray, blocks: Blocks) -> Blocks:
    """Return the labelled rows of some draws."""
    known = ~np.isnan(gold[blocks.rows])
    counts = np.add.reduceat(known.astype(np.int64), blocks.starts[:-1])
    return Blocks(rows=blocks.rows[known], starts=np.r_[0, np.cumsum(counts)])

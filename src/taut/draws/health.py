"""Health of a log: what would make a certificate wrong, looked for before it is made.

Each check looks at all rows and says what it means and what to do. A check never changes a number;
what tests find lowers how an assumption stands (`taut.draws.design`).
"""

import numpy as np

from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.draws.findings import Finding, Findings
from taut.draws.framework_health import BY_DEFAULT, dropped_by_default, framework_checks
from taut.draws.layout import Layout, Whole
from taut.draws.modes import REPLACEMENT
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.units import MOST_CLIPPED, Units
from taut.inequalities.multiplicity import Verdict
from taut.logs.keys import combine, row_keys

_FEW_PROMPTS = 20
_LONG = 5  # tokens
_CONFIDENT = -0.1  # mean nats per token above which sampled text is implausible


def check_health(
    rollouts: Rollouts, layout: Layout, whole: Whole, units: Units, findings: Findings
) -> tuple[Check, ...]:
    """Look at a log; every check passes, notes, warns or fails.

    Args:
        rollouts, layout: The rows and their draws.
        whole: What was decided on the whole log.
        units: Its scales.
        findings: What the tests of the assumptions found.
    """
    blocks = layout.blocks
    return (
        _few_prompts(blocks),
        _recurring_prompts(rollouts, whole),
        _same_text(whole),
        _groups(rollouts, layout, whole),
        _unequal_k(blocks),
        _chosen_by_reward(rollouts, blocks, findings.complete),
        _failed(rollouts),
        _duplicates(rollouts),
        _range("reward_range", rollouts.reward, units.reward_range, units.reward_declared),
        _range("gold_range", rollouts.gold, units.gold_range, units.gold_declared),
        _found(
            "labels_blind",
            findings.labels,
            rollouts.gold is not None,
            "Choose the rollouts to label at random, before looking at them.",
        ),
        _zero_log_ratio(rollouts, whole),
        _negative_kl(rollouts, blocks),
        _found(
            "exp_minus_log_ratio",
            findings.log_probs,
            rollouts.log_ratio is not None or rollouts.behaviour_logprob is not None,
            "Check temperature, top-p and top-k, which policy was scored, and score policy and "
            "reference with one engine.",
        ),
        _positive_logprob(rollouts),
        _confident_tokens(rollouts),
        _coarse(rollouts),
        _truncated(rollouts),
        _drift(rollouts, layout),
        *framework_checks(rollouts),
    )


def outcome(checks: tuple[Check, ...], name: str) -> Check:
    """Return the check of that name."""
    return next(check for check in checks if check.check == name)


def _few_prompts(blocks: Blocks) -> Check:
    count = len(blocks)
    if count >= _FEW_PROMPTS:
        return Check("prompts", PASS, f"{count} draws of prompts")
    return Check(
        "prompts",
        WARN,
        f"only {count} draws of prompts: intervals hold but are wide",
        "Draw more prompts; more rollouts per prompt help less.",
    )


def _recurring_prompts(rollouts: Rollouts, whole: Whole) -> Check:
    name = "recurring_prompts"
    if rollouts.step is None:
        return Check(name, NOT_CHECKED, "no `step` column", "Log the step to have this checked.")
    if not whole.recurs:
        return Check(name, PASS, "no prompt recurs at another step")
    return Check(
        name,
        NOTE,
        "prompts recur across steps, as in evaluations and in training epochs: each counts once, "
        "with all its rollouts",
        "Where no policy was trained or chosen on them say --declare held-out; otherwise audit on "
        "prompts kept out of training.",
    )


def _same_text(whole: Whole) -> Check:
    name = "same_text"
    if whole.rollouts.text_key is None:
        return Check(name, NOT_CHECKED, "no prompt texts")
    if not whole.same_text:
        return Check(name, PASS, "no two prompt ids share a text")
    return Check(
        name,
        NOTE,
        f"{whole.same_text} prompt ids have the text of another one: each text is one prompt, and "
        "its rollouts are one draw",
        "Were ids made anew for each file or rank?",
    )


def _groups(rollouts: Rollouts, layout: Layout, whole: Whole) -> Check:
    name = "groups"
    if rollouts.group is None:
        return Check(name, NOT_CHECKED, "no `group` column")
    groups = len(np.unique(combine(rollouts.prompt, rollouts.group)))
    if groups == layout.prompts:
        return Check(name, PASS, "every prompt was sampled in one group")
    if layout.mode == REPLACEMENT:
        return Check(name, PASS, f"{groups} draws of {layout.prompts} prompts, as declared")
    return Check(
        name,
        NOTE,
        f"{groups} groups of {layout.prompts} prompts: all groups of a prompt are one draw of it, "
        "for no log can show that they are more",
        "Where prompts were drawn with replacement from a population say --prompts "
        "with-replacement.",
    )


def _unequal_k(blocks: Blocks) -> Check:
    sizes = blocks.sizes
    if len(sizes) == 0 or (sizes == sizes[0]).all():
        return Check("rollouts_per_prompt", PASS, "every draw has the same number of rollouts")
    return Check(
        "rollouts_per_prompt",
        NOTE,
        f"between {sizes.min()} and {sizes.max()} rollouts per draw: if failed or truncated "
        "rollouts were dropped, every mean is biased",
        "Log every rollout, also failed ones, with the reward they were given; where none was "
        "dropped say --declare complete.",
    )


def _chosen_by_reward(rollouts: Rollouts, blocks: Blocks, finding: Finding) -> Check:
    name = "chosen_by_reward"
    remedy = (
        "Log before rollouts or draws are dropped, or turn the filter off "
        "(filter_zero_std_samples, use_dynamic_sampling, filter_groups)."
    )
    if rollouts.origin is not None and rollouts.origin.chosen:
        text = "the file says that draws of equal rewards were dropped"
        return Check(name, FAIL, text, remedy)
    if not finding.speaks and dropped_by_default(rollouts, blocks):
        return Check(name, WARN, BY_DEFAULT, remedy)
    return _found(name, finding, len(blocks) < len(rollouts), remedy)


def _failed(rollouts: Rollouts) -> Check:
    name = "failed"
    if rollouts.failed is None:
        return Check(name, NOT_CHECKED, "no column says which rollouts failed")
    count = int(rollouts.failed.sum())
    if not count:
        return Check(name, PASS, "no rollout is marked as failed")
    return Check(
        name,
        NOTE,
        f"{count:,} rollouts ({100 * count / len(rollouts):.2g}%) are marked as failed; they count "
        "with the reward that they were given",
        "Is that reward what a failure is worth to you? Dropping them would bias every mean.",
    )


def _found(name: str, finding: Finding, present: bool, remedy: str) -> Check:
    """Show what the tests of an assumption found."""
    if not present:
        return Check(name, NOT_CHECKED, finding.detail)
    status = {Verdict.NOTHING_FOUND: PASS, Verdict.IN_DOUBT: WARN, Verdict.VIOLATED: FAIL}
    return Check(name, status[finding.verdict], finding.detail, remedy if finding.speaks else "")


def _duplicates(rollouts: Rollouts) -> Check:
    name = "duplicate_rows"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "rows without log-probs cannot be told apart")
    draw = [c for c in (rollouts.prompt, rollouts.group, rollouts.step) if c is not None]
    keys = row_keys([*draw, *rollouts.value_columns()])
    if rollouts.policy_logprob is None:
        # A log-ratio of 0 is a tie, not a mark of identity.
        keys = keys[rollouts.log_ratio != 0]
    keys = np.sort(keys)
    count = int((keys[1:] == keys[:-1]).sum())
    if count == 0:
        return Check(name, PASS, "no two rows are the same")
    return Check(
        name,
        NOTE,
        f"{count} rows repeat another row of the same prompt in every value, as short responses "
        "and greedy sampling make them",
        "Was a file read twice? Copies of likely good rows would bias the mean of a prompt.",
    )


def _range(
    name: str, values: np.ndarray | None, bounds: tuple[float, float], declared: bool
) -> Check:
    column = name.split("_")[0]
    if values is None:
        return Check(name, NOT_CHECKED, f"no `{column}` column")
    if not declared:
        return Check(
            name,
            WARN,
            f"no range declared for `{column}`; one read off the data makes results estimates",
            f"Declare --{column}-range LOW HIGH, fixed before looking at this log.",
        )
    known = values[~np.isnan(values)]
    outside = float(((known < bounds[0]) | (known > bounds[1])).mean()) if len(known) else 0.0
    text = f"{100 * outside:.3g}% of `{column}` lies outside [{bounds[0]:g}, {bounds[1]:g}]"
    if outside == 0:
        return Check(name, PASS, f"every `{column}` lies in [{bounds[0]:g}, {bounds[1]:g}]")
    status = WARN if outside <= MOST_CLIPPED else FAIL
    remedy = "Values are clipped, and the result speaks of the clipped score. Widen the range?"
    return Check(name, status, text, remedy)


def _zero_log_ratio(rollouts: Rollouts, whole: Whole) -> Check:
    name = "log_ratio_zero"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    share = float((rollouts.log_ratio == 0).mean())
    text = f"{100 * share:.3g}% of the log-ratios are exactly 0"
    if share < 0.5:
        return Check(name, PASS, text)
    if _at_the_start(rollouts, whole):
        return Check(name, NOTE, f"{text}: at its first step a policy is still its reference")
    if share < 1:
        noise = float(np.quantile(np.abs(rollouts.log_ratio), 0.95))
        return Check(
            name,
            WARN,
            f"{text}, 95% within {noise:.3g} nats: policy and reference look like one model scored "
            "twice, and the rest is numerical noise",
            "Score with the trained policy; or keep this log as a control of the noise floor.",
        )
    return Check(
        name,
        WARN,
        "every log-ratio is exactly 0: policy and reference are the same model",
        "Score with the trained policy, not with a copy of the reference.",
    )


def _at_the_start(rollouts: Rollouts, whole: Whole) -> bool:
    """Whether these are rows of the first of several steps, or recorded to be of the reference."""
    if rollouts.step is None:
        return False
    first = bool((rollouts.step == whole.rollouts.step.min()).all())
    known = rollouts.facts.starts_at_reference and bool((rollouts.step == 0).all())
    return known or (first and whole.steps > 1)


def _negative_kl(rollouts: Rollouts, blocks: Blocks) -> Check:
    """A mean below 0 proves nothing: l is constrained by E e^-l <= 1 alone (theory §4.6)."""
    name = "kl_sign"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    mean = float(blocks.means(rollouts.log_ratio).mean())
    if mean >= 0:
        return Check(name, PASS, f"mean log-ratio {mean:.4g} nats")
    return Check(
        name,
        NOTE,
        f"mean log-ratio {mean:.4g} nats: a KL cannot be negative, but the mean of a sample can",
        "If it stays so with more rollouts: are policy and reference swapped, or the samples not "
        "the policy's own?",
    )


def _positive_logprob(rollouts: Rollouts) -> Check:
    name = "positive_log_probs"
    columns = [c for c in (rollouts.policy_logprob, rollouts.behaviour_logprob) if c is not None]
    if not columns:
        return Check(name, NOT_CHECKED, "no policy log-probs")
    # Rounding of sums of zeros stays below a millionth of a nat.
    count = sum(int((column > 1e-6).sum()) for column in columns)
    if count == 0:
        return Check(name, PASS, "no log-prob is positive")
    return Check(
        name,
        FAIL,
        f"{count} log-probs are positive: no text has a probability above 1",
        "Are these probabilities, losses or densities? Log-probs are needed, in nats.",
    )


def _confident_tokens(rollouts: Rollouts) -> Check:
    name = "log_prob_per_token"
    if rollouts.policy_logprob is None or rollouts.n_tokens is None:
        missing = "policy log-probs" if rollouts.policy_logprob is None else "`n_tokens`"
        return Check(name, NOT_CHECKED, f"no {missing}")
    # A sure answer of a few tokens is nothing to wonder at.
    known = rollouts.n_tokens >= _LONG
    if not known.any():
        return Check(name, NOT_CHECKED, f"no response is known to have {_LONG} tokens or more")
    per_token = rollouts.policy_logprob[known] / rollouts.n_tokens[known]
    share = float((per_token > _CONFIDENT).mean())
    text = f"{100 * share:.2g}% of the longer responses have more than {_CONFIDENT} nats per token"
    if share <= 0.05:
        return Check(name, PASS, text)
    return Check(
        name,
        WARN,
        text + ": nearly deterministic text, or log-probs of a part of it",
        "Check that every response token is counted and that sampling was not greedy.",
    )


def _coarse(rollouts: Rollouts) -> Check:
    name = "precision"
    values = rollouts.log_ratio if rollouts.policy_logprob is None else rollouts.policy_logprob
    if values is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    fractional = values[values != np.rint(values)]
    if len(fractional) < 20:
        return Check(name, NOT_CHECKED, "too few log-probs with decimals to tell")
    with np.errstate(over="ignore"):
        single = fractional.astype(np.float32)
        half = bool((single.astype(np.float16) == fractional).all())
    brain = bool((single == fractional).all() and not (single.view(np.uint32) & 0xFFFF).any())
    if not (half or brain):
        return Check(name, PASS, "log-probs carry more than 16 bits")
    kind, error = ("float16", 0.07) if half else ("bfloat16", 0.54)
    return Check(
        name,
        WARN,
        f"log-probs were stored as {kind}: a log-ratio can be off by {error} nats",
        "Sum and store log-probs in float32 or wider.",
    )


def _truncated(rollouts: Rollouts) -> Check:
    name = "truncated"
    if rollouts.truncated is None:
        return Check(name, NOT_CHECKED, "no `truncated` column")
    share = float(rollouts.truncated.mean())
    text = f"{100 * share:.2g}% of the responses were cut at the length limit"
    if share <= 0.05:
        return Check(name, PASS, text)
    return Check(
        name,
        WARN,
        text + ": their rewards are of unfinished text",
        "Keep them in the log; the result speaks of the policy with this length limit.",
    )


def _drift(rollouts: Rollouts, layout: Layout) -> Check:
    name = "drift"
    if rollouts.step is None or layout.cell_count == 1:
        return Check(name, NOT_CHECKED, "one step, or no `step` column")
    step, reward = rollouts.step.astype(np.float64), rollouts.reward
    if step.std() == 0 or reward.std() == 0:
        return Check(name, NOT_CHECKED, "nothing varies over the steps")
    correlation = float(np.corrcoef(step, reward)[0, 1])
    return Check(
        name,
        NOTE,
        f"correlation of reward with step {correlation:+.2f}: where the policy moves, the log's "
        "mean is that of no single policy",
        "Audit each step on its own with --by step.",
    )

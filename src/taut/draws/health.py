"""Health of a log: what would make a certificate wrong, looked for before it is made.

Each check looks at all rows, passes, warns or fails, says what it means and what to do. A check
never changes a number; the certificate reads `blocking` outcomes to lower its status.
"""

import math
from dataclasses import dataclass

import numpy as np

from taut.bounds.coverage import log_e_value_of_mean
from taut.bounds.reward_shift import inclusion_varies, label_counts
from taut.draws.rollouts import Blocks, Rollouts
from taut.logs.keys import combine, row_keys
from taut.logs.origin import FRAMEWORKS, Origin

PASS, WARN, FAIL, NOT_CHECKED = "pass", "warn", "fail", "not_checked"

_FEW_PROMPTS = 20
_SURE_Z = 5.0  # a normal deviate this large is no accident in a log (p = 6e-7)
_DOUBT_Z = 3.0
# e-values: betting against the claim multiplied the stake this often.
SURE_LOG_E = math.log(1e3)
_DOUBT_LOG_E = math.log(20.0)
_RARE = 1e-3  # probability below which a pattern is taken for no accident
_LONG = 5  # tokens
_CONFIDENT = -0.1  # mean nats per token above which sampled text is implausible


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of one check: what was looked at, the outcome, what it means, what to do."""

    check: str
    status: str
    detail: str
    remedy: str = ""


def check_health(
    rollouts: Rollouts,
    blocks: Blocks,
    *,
    reward_range: tuple[float, float] | None,
    gold_range: tuple[float, float] | None,
    held_out: bool = False,
) -> tuple[Check, ...]:
    """Run every check on a log.

    Args:
        rollouts: The log.
        blocks: All its draws, in draw order.
        reward_range, gold_range: Declared ranges, reward units; None where not declared.
        held_out: The caller declares that no policy was trained or chosen on these prompts.
    """
    return (
        _few_prompts(blocks),
        _recurring_prompts(rollouts, held_out),
        _repeated_draws(rollouts),
        _unequal_k(blocks),
        _duplicates(rollouts),
        _range("reward_range", rollouts.reward, reward_range),
        _range("gold_range", rollouts.gold, gold_range),
        _labels_blind(rollouts, blocks),
        _zero_log_ratio(rollouts),
        _negative_kl(rollouts, blocks),
        _exp_minus(rollouts, blocks),
        _positive_logprob(rollouts),
        _confident_tokens(rollouts),
        _coarse(rollouts),
        _truncated(rollouts),
        _drift(rollouts, blocks),
        *_foreign(rollouts, blocks),
    )


def outcome(checks: tuple[Check, ...], name: str) -> Check:
    """Return the check of that name."""
    return next(check for check in checks if check.check == name)


def recurs_across_steps(rollouts: Rollouts) -> bool:
    """Say whether some prompt occurs at more than one step."""
    if rollouts.step is None or len(rollouts) == 0:
        return False
    order = np.lexsort((rollouts.step, rollouts.prompt))
    prompt, step = rollouts.prompt[order], rollouts.step[order]
    return bool(((prompt[1:] == prompt[:-1]) & (step[1:] != step[:-1])).any())


def policy_changes(rollouts: Rollouts) -> bool:
    """Say whether the log holds more than one policy: several steps, policies or runs."""
    parts = (rollouts.step, rollouts.policy, rollouts.run)
    return any(part is not None and bool((part != part[0]).any()) for part in parts)


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


def _recurring_prompts(rollouts: Rollouts, held_out: bool) -> Check:
    name = "recurring_prompts"
    if rollouts.step is None:
        return Check(name, NOT_CHECKED, "no `step` column", "Log the step to have this checked.")
    if not recurs_across_steps(rollouts):
        return Check(name, PASS, "no prompt recurs at another step")
    if held_out:
        return Check(name, PASS, "prompts recur across steps and are declared held out")
    return Check(
        name,
        WARN,
        "prompts recur across steps, as training epochs do: a policy trained or chosen on them is "
        "not independent of them, so intervals are estimates",
        "Audit on prompts kept out of training and say --held-out; or bound all logged policies at "
        "once with taut select, if they were fixed before these prompts.",
    )


def steps_per_prompt_equal(rollouts: Rollouts) -> bool:
    """Say whether every prompt occurs at the same number of steps."""
    seen = np.unique(np.stack([rollouts.prompt, rollouts.step.astype(np.uint64)]), axis=1)
    _, counts = np.unique(seen[0], return_counts=True)
    return bool((counts == counts[0]).all())


def _repeated_draws(rollouts: Rollouts) -> Check:
    """Independent draws repeat prompts unevenly; a fixed list repeats them evenly."""
    name = "repeated_draws"
    if rollouts.group is None:
        return Check(name, NOT_CHECKED, "no `group` column")
    pairs = np.unique(np.stack([rollouts.prompt, rollouts.group]), axis=1)
    _, counts = np.unique(pairs[0], return_counts=True)
    if counts.sum() == len(counts):
        return Check(name, PASS, "no prompt was drawn more than once")
    text = f"{counts.sum()} draws of {len(counts)} prompts, {counts.min()} to {counts.max()} each"
    if _evenness(counts) >= _RARE:
        return Check(name, PASS, text)
    return Check(
        name,
        FAIL,
        text + ": too even for independent draws, as when a fixed list is gone through repeatedly",
        "Leave the `group` column out: rows of one prompt are then merged.",
    )


def _evenness(counts: np.ndarray) -> float:
    """Bound the chance that independent draws repeat prompts this evenly (uniform prompts)."""
    from scipy.special import chdtr, gammaln

    total, kinds = int(counts.sum()), len(counts)
    if (counts == counts[0]).all():
        logs = gammaln(total + 1) - gammaln(counts + 1.0).sum() - total * math.log(kinds)
        return math.exp(logs)
    mean = total / kinds
    if mean < 5 or kinds < 5:
        return 1.0  # too few for the chi-square law to be read this far out
    return float(chdtr(kinds - 1, float(((counts - mean) ** 2).sum()) / mean))


def _unequal_k(blocks: Blocks) -> Check:
    sizes = blocks.sizes
    if len(sizes) == 0 or (sizes == sizes[0]).all():
        return Check("rollouts_per_prompt", PASS, "every draw has the same number of rollouts")
    return Check(
        "rollouts_per_prompt",
        WARN,
        f"between {sizes.min()} and {sizes.max()} rollouts per draw: if failed or truncated "
        "rollouts were dropped, every mean is biased; if a prompt was drawn more than once, its "
        "draws were taken for one",
        "Log every rollout, also failed ones, with the reward they were given; mark repeated "
        "draws of a prompt with a column `group`.",
    )


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
        WARN,
        f"{count} rows repeat another row of the same prompt in every value",
        "Was a file read twice, or was sampling greedy? Remove copies; they fake precision.",
    )


def _range(name: str, values: np.ndarray | None, bounds: tuple[float, float] | None) -> Check:
    column = name.split("_")[0]
    if values is None:
        return Check(name, NOT_CHECKED, f"no `{column}` column")
    if bounds is None:
        return Check(
            name,
            WARN,
            f"no range declared for `{column}`; one read off the data makes results estimates",
            f"Declare --{column}-range LOW HIGH, fixed before looking at this log.",
        )
    known = values[~np.isnan(values)]
    outside = float(((known < bounds[0]) | (known > bounds[1])).mean()) if len(known) else 0.0
    text = f"{100 * outside:.2g}% of `{column}` lies outside [{bounds[0]:g}, {bounds[1]:g}]"
    if outside == 0:
        return Check(name, PASS, f"every `{column}` lies in [{bounds[0]:g}, {bounds[1]:g}]")
    status = WARN if outside <= 0.2 else FAIL
    remedy = "Values are clipped, and the result speaks of the clipped score. Widen the range?"
    return Check(name, status, text, remedy)


def _labels_blind(rollouts: Rollouts, blocks: Blocks) -> Check:
    name = "labels_blind"
    if rollouts.gold is None:
        return Check(name, NOT_CHECKED, "no gold labels")
    found = _label_gap(rollouts, blocks)
    if found is None:
        return Check(name, NOT_CHECKED, "too few labelled or unlabelled draws to compare")
    gap, z = found
    text = f"labelled rollouts have mean reward {gap:+.3g} against unlabelled ones (z = {z:.1f})"
    if z < _DOUBT_Z:
        return Check(name, PASS, text)
    return Check(
        name,
        FAIL if z >= _SURE_Z else WARN,
        text + ": labels seem to depend on the outcome",
        "Choose the rollouts to label at random, before looking at them.",
    )


def _label_gap(rollouts: Rollouts, blocks: Blocks) -> tuple[float, float] | None:
    """Gap in mean reward between labelled and unlabelled, and its z; None for too few draws.

    Where draws differ in their chance of a label (rows labelled one by one, K unequal) they are
    compared within themselves, since draws with many rollouts may differ from the others.
    """
    counts = label_counts(rollouts.gold, blocks)
    if inclusion_varies(counts, blocks.sizes):
        partly = (counts > 0) & (counts < blocks.sizes)
        if partly.sum() < _FEW_PROMPTS:
            return None
        part = blocks.subset(partly)
        mine = part.sums(np.where(np.isnan(rollouts.gold), 0.0, rollouts.reward)) / counts[partly]
        rest = part.sums(np.where(np.isnan(rollouts.gold), rollouts.reward, 0.0))
        differences = mine - rest / (part.sizes - counts[partly])
        gap, variance = float(differences.mean()), float(differences.var(ddof=1)) / len(differences)
    else:
        means = blocks.means(rollouts.reward)
        groups = means[counts > 0], means[counts == 0]
        if min(map(len, groups)) < _FEW_PROMPTS:
            return None
        gap = float(groups[0].mean() - groups[1].mean())
        variance = sum(float(group.var(ddof=1)) / len(group) for group in groups)
    return gap, abs(gap) / math.sqrt(variance) if variance > 0 else 0.0


def _zero_log_ratio(rollouts: Rollouts) -> Check:
    name = "log_ratio_zero"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    share = float((rollouts.log_ratio == 0).mean())
    text = f"{100 * share:.3g}% of the log-ratios are exactly 0"
    if share < 0.5:
        return Check(name, PASS, text)
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


def _negative_kl(rollouts: Rollouts, blocks: Blocks) -> Check:
    name = "kl_sign"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    means = blocks.means(rollouts.log_ratio)
    mean = float(means.mean())
    spread = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.inf
    z = -mean / spread if spread > 0 else (math.inf if mean < 0 else 0.0)
    if z < _DOUBT_Z:
        return Check(name, PASS, f"mean log-ratio {mean:.4g} nats")
    return Check(
        name,
        FAIL if z >= _SURE_Z else WARN,
        f"mean log-ratio {mean:.4g} nats, {z:.1f} standard errors below 0: a KL cannot be negative",
        "Are policy and reference swapped, or the samples not the policy's own?",
    )


def log_e_value(log_ratio: np.ndarray, blocks: Blocks) -> float:
    """Return ln of the e-value against E e^(-l) <= 1, with bets mixed evenly (theory §4.6).

    Under honest log-probs it exceeds ln(1/p) with probability at most p.
    """
    return log_e_value_of_mean(blocks.means(np.exp(np.minimum(-log_ratio, 700.0))))


def _exp_minus(rollouts: Rollouts, blocks: Blocks) -> Check:
    name = "exp_minus_log_ratio"
    if rollouts.log_ratio is None:
        return Check(name, NOT_CHECKED, "no log-probs")
    log_e = log_e_value(rollouts.log_ratio, blocks)
    with np.errstate(over="ignore"):
        mean = float(blocks.means(np.exp(-rollouts.log_ratio)).mean())
    text = f"mean of exp(-log-ratio) is {mean:.3g}, at most 1 is expected"
    if log_e < _DOUBT_LOG_E:
        return Check(name, PASS, text)
    return Check(
        name,
        FAIL if log_e >= SURE_LOG_E else WARN,
        f"{text}; betting against it won a factor of 1e{log_e / math.log(10):.0f}: the log-probs "
        "are not those of the policy that sampled",
        "Check temperature, top-p and top-k, and score policy and reference with one engine.",
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


def _drift(rollouts: Rollouts, blocks: Blocks) -> Check:
    name = "drift"
    if rollouts.step is None or not policy_changes(rollouts):
        return Check(name, NOT_CHECKED, "one step, or no `step` column")
    step = blocks.means(rollouts.step.astype(np.float64))
    reward = blocks.means(rollouts.reward)
    if len(step) < 3 or step.std() == 0 or reward.std() == 0:
        return Check(name, NOT_CHECKED, "nothing varies over the steps")
    correlation = float(np.corrcoef(step, reward)[0, 1])
    z = abs(math.atanh(max(-1 + 1e-12, min(1 - 1e-12, correlation)))) * math.sqrt(len(step) - 2)
    text = f"correlation of reward with step {correlation:+.2f}"
    if z < _DOUBT_Z:
        return Check(name, PASS, text)
    return Check(
        name,
        WARN,
        text + ": the policy moves, and the log's mean is that of no single policy",
        "Audit each step on its own with --by step.",
    )


# --- logs of other frameworks ---------------------------------------------------------------------


def _foreign(rollouts: Rollouts, blocks: Blocks) -> tuple[Check, ...]:
    """Check what only a framework's own log can have wrong; nothing for a native log."""
    if rollouts.origin is None:
        return ()
    checks = [_log_format(rollouts, rollouts.origin), _chosen_by_reward(rollouts, blocks)]
    if rollouts.origin.format == "trl":
        checks.append(_kept_batches(rollouts))
    return tuple(checks)


def _log_format(rollouts: Rollouts, origin: Origin) -> Check:
    known = FRAMEWORKS[origin.format]
    name = "log_format"
    if rollouts.log_ratio is not None:
        return Check(name, PASS, f"{known.title}, with log-probs of policy and reference")
    return Check(
        name,
        PASS,
        f"{known.title}; it lacks {known.lacks}. What it can certify: {known.certified}",
        f"For the rest: {known.remedy}.",
    )


def _chosen_by_reward(rollouts: Rollouts, blocks: Blocks) -> Check:
    """Trainers drop draws whose rewards are all equal: what is left is chosen by its outcome."""
    name = "chosen_by_reward"
    origin = rollouts.origin
    remedy = (
        "Log before such draws are dropped, or turn the filter off (filter_zero_std_samples, "
        "use_dynamic_sampling, filter_groups); a bound for these draws is not one for the policy."
    )
    if origin.chosen:
        return Check(
            name, FAIL, "dynamic sampling: draws whose rewards are all equal were dropped", remedy
        )
    if origin.part == "validation":
        return Check(name, PASS, "validation data: trainers drop nothing from them")
    repeated = blocks.sizes >= 2
    count = int(repeated.sum())
    if not count:
        return Check(name, NOT_CHECKED, "no draw has two rollouts to compare")
    part = blocks.subset(repeated)
    rewards = rollouts.reward[part.rows]
    highest = np.maximum.reduceat(rewards, part.starts[:-1])
    lowest = np.minimum.reduceat(rewards, part.starts[:-1])
    equal = int((highest == lowest).sum())
    if equal:
        return Check(name, PASS, f"{equal} of {count} draws have equal rewards: none were dropped")
    _, frequency = np.unique(rewards, return_counts=True)
    log_chance = _log_chance_of_no_equal_draw(frequency / len(rewards), part.sizes)
    text = f"no draw of {count} has equal rewards, "
    if log_chance < math.log(_RARE):
        odds = f"{math.exp(min(-log_chance, 700.0)):.1g}"
        text += f"by chance at most once in {odds} logs: those that had seem to have been dropped"
        return Check(name, FAIL, text, remedy)
    if origin.format == "open-instruct" and len(frequency) < len(rewards):
        return Check(
            name,
            FAIL,
            text + "and open-instruct drops such draws by default (filter_zero_std_samples)",
            remedy,
        )
    return Check(name, PASS, text + "as can happen by chance")


def _log_chance_of_no_equal_draw(frequency: np.ndarray, sizes: np.ndarray) -> float:
    """Bound the log-probability that no draw of K rollouts has K equal rewards.

    A draw whose prompt has rewards v with probability p_v is constant with probability
    sum p_v^K; its mean over prompts is at least that of the mean p_v (Jensen).
    """
    kinds, counts = np.unique(sizes, return_counts=True)
    constant = np.array([(frequency**size).sum() for size in kinds])
    with np.errstate(divide="ignore"):
        return float((counts * np.log1p(-np.minimum(constant, 1.0))).sum())


def _kept_batches(rollouts: Rollouts) -> Check:
    """TRL keeps the last generation batch before each log, whatever it is."""
    name = "kept_batches"
    if rollouts.step is None:
        return Check(name, NOT_CHECKED, "no `step` column")
    found = [text for text in (_gaps(rollouts), _twice(rollouts), _mixed(rollouts)) if text]
    if not found:
        text = "no step is missing, and none repeats another; whether evaluation wrote over one "
        return Check(name, PASS, text + "cannot be seen")
    return Check(
        name,
        WARN,
        "; ".join(found),
        "Set logging_steps to num_iterations * steps_per_generation / gradient_accumulation_steps "
        "(1 by default) and evaluate in a run of its own; or log with "
        'taut.training.record(trainer, "log/").',
    )


def _gaps(rollouts: Rollouts) -> str:
    steps = np.unique(rollouts.step)
    if len(steps) < 2 or (np.diff(steps) == 1).all():
        return ""
    missing = int(steps[-1] - steps[0]) + 1 - len(steps)
    return (
        f"{missing} of the steps {steps[0]} to {steps[-1]} were not kept: a log holds one "
        "generation batch, and those in between are gone"
    )


def _twice(rollouts: Rollouts) -> str:
    """Steps that share a generation batch: the same prompts with the same rewards."""
    # Adding 0.0 turns -0.0 into 0.0.
    keys = combine(rollouts.prompt, (rollouts.reward + 0.0).view(np.uint64))
    steps, place = np.unique(rollouts.step, return_inverse=True)
    with np.errstate(over="ignore"):
        sums = np.zeros(len(steps), dtype=np.uint64)
        np.add.at(sums, place, keys)
    sizes = np.bincount(place)
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    np.minimum.at(low, place, rollouts.reward)
    np.maximum.at(high, place, rollouts.reward)
    # Rewards that are all equal say nothing of whether the rollouts are the same.
    same = (sums[1:] == sums[:-1]) & (sizes[1:] == sizes[:-1]) & (low < high)[1:]
    same = np.flatnonzero(same)
    if not len(same):
        return ""
    at = same[0]
    return (
        f"steps {steps[at]} and {steps[at + 1]} hold the same rollouts ({len(same)} such pairs): "
        "one generation batch was trained on and logged more than once"
    )


def _mixed(rollouts: Rollouts) -> str:
    """Files that hold something else than whole groups of one batch."""
    keys = combine(rollouts.prompt, rollouts.step.astype(np.uint64))
    _, first, sizes = np.unique(keys, return_index=True, return_counts=True)
    usual = np.bincount(sizes).argmax()
    odd = rollouts.step[first[sizes % usual != 0]]
    if not len(odd):
        return ""
    return (
        f"{len(odd)} prompts do not have {usual} rollouts each, first at step {odd.min()}: "
        "evaluation writes into the training file of its step"
    )

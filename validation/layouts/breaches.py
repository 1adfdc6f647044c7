"""What goes wrong with a log: rows that are lost before labels are given, columns that are spoilt.

Each takes (rng, data) and changes data in place. Truths are those of the log before anything was
lost, but where the docstring says "the logged ones".
"""

import numpy as np
from validation.layouts.data import Data

# --- rows are lost --------------------------------------------------------------------------------


def drop_failures(rng, data: Data) -> None:
    """Rollouts with a low reward are not logged."""
    data.take(data.reward >= 0.5)


def drop_half_of_failures(rng, data: Data) -> None:
    """Half of the rollouts with a low reward are not logged."""
    data.take((data.reward >= 0.5) | (rng.random(len(data)) < 0.5))


def mark_truncated(rng, data: Data) -> None:
    """Responses cut at the length limit, which are worse, are logged as such: no breach."""
    data.columns["truncated"] = rng.random(len(data)) < np.where(data.gold >= 0.5, 0.1, 0.5)


def drop_truncated(rng, data: Data) -> None:
    """They are not logged."""
    mark_truncated(rng, data)
    data.take(~data.columns["truncated"])


def drop_equal_draws(rng, data: Data) -> None:
    """Dynamic sampling: draws whose rewards are all equal are not logged."""
    spread = data.over_groups(data.reward**2) - data.over_groups(data.reward) ** 2
    data.take(spread > 1e-12)


def stop_at_success(rng, data: Data) -> None:
    """Each prompt is sampled until the first success."""
    order = np.argsort(data.prompt, kind="stable")
    prompt, good = data.prompt[order], data.gold[order] >= 0.5
    before = np.cumsum(good) - good
    first = np.r_[True, prompt[1:] != prompt[:-1]]
    start = np.maximum.accumulate(np.where(first, before, 0))
    data.take(order[before == start])


def more_of_the_good(rng, data: Data) -> None:
    """Prompts whose first rollouts all failed get no more of them."""
    order = np.argsort(data.prompt, kind="stable")
    place = _place(data.prompt[order])
    early = np.where(place < 2, data.gold[order], 0.0)
    _, code = np.unique(data.prompt[order], return_inverse=True)
    hopeless = np.bincount(code, early)[code] == 0
    data.take(order[(place < 2) | ~hopeless])


def _place(prompt: np.ndarray) -> np.ndarray:
    starts = np.flatnonzero(np.r_[True, prompt[1:] != prompt[:-1]])
    return np.arange(len(prompt)) - np.repeat(starts, np.diff(np.r_[starts, len(prompt)]))


def failures_come_again(rng, data: Data) -> None:
    """A curriculum: a prompt that failed comes again at the next step, one that did not is done."""
    order = np.lexsort((data.columns["step"], data.prompt))
    data.take(order)
    stop_at_success(rng, data)


def drop_worst_draws(rng, data: Data) -> None:
    """A fifth of the prompts, those with the lowest mean, are not logged."""
    mean = data.over_draws(data.gold) + 1e-9 * data.prompt
    data.take(mean > np.quantile(mean, 0.2))


def keep_top_steps(rng, data: Data) -> None:
    """Five of the checkpoints are logged: those that did best; truth of the logged ones."""
    _steps, place = np.unique(data.columns["step"], return_inverse=True)
    mean = np.bincount(place, data.gold) / np.bincount(place)
    data.take(np.isin(place, np.argsort(mean)[-5:]))


def stop_when_good(rng, data: Data) -> None:
    """The run stops at its best step so far, when two worse ones follow; truth of the logged."""
    _, place = np.unique(data.columns["step"], return_inverse=True)
    mean = np.bincount(place, data.gold) / np.bincount(place)
    best = 0
    for step in range(1, len(mean)):
        if mean[step] > mean[best]:
            best = step
        elif step - best >= 2:
            break
    data.take(place <= best)


# --- columns are spoilt ---------------------------------------------------------------------------


def duplicate_successes(rng, data: Data) -> None:
    """Good rows stand in the log twice."""
    good = np.flatnonzero(data.gold >= 0.5)
    data.take(np.r_[np.arange(len(data)), rng.choice(good, len(good) // 3, replace=False)])


def swap_policies(rng, data: Data) -> None:
    """Log-probs of policy and reference stand in each other's column."""
    columns = data.columns
    columns["policy_logprob"], columns["ref_logprob"] = (
        columns["ref_logprob"],
        columns["policy_logprob"],
    )
    del columns["behaviour_logprob"]


def other_engine(rng, data: Data) -> None:
    """The reference was scored by another engine: two nats of noise a sequence."""
    data.columns["ref_logprob"] = data.columns["ref_logprob"] + rng.normal(0, 2.0, len(data))


def masked_tokens(rng, data: Data) -> None:
    """The policy's sum runs over more tokens than the reference's: three nats too low."""
    data.columns["policy_logprob"] = data.columns["policy_logprob"] - 3.0


def engine_noise(rng, data: Data) -> None:
    """Honest engines differ by a tenth of a nat a sequence."""
    for name in ("policy_logprob", "ref_logprob", "behaviour_logprob"):
        data.columns[name] = data.columns[name] + rng.normal(0, 0.07, len(data))


def next_policy(rng, data: Data) -> None:
    """Log-probs are those of the policy after the update; the sampler's own stand beside."""
    text, ones = data.styles.read(data.columns)
    data.columns["policy_logprob"] = text + data.styles.log_prob(ones, 0.4)


def ratio_only(rng, data: Data) -> None:
    """The log has log-ratios and no log-probs: honest rows may be alike in every value."""
    columns = data.columns
    columns["log_ratio"] = np.round(columns["policy_logprob"] - columns["ref_logprob"], 9)
    for name in ("policy_logprob", "ref_logprob", "behaviour_logprob"):
        del columns[name]


def scores_out_of_range(rng, data: Data) -> None:
    """Every score lies far above the range that is declared."""
    data.reward = 51.0 + data.reward


def scores_partly_out_of_range(rng, data: Data) -> None:
    """A tenth of the scores leaves the declared range."""
    data.reward = np.where(rng.random(len(data)) < 0.1, data.reward + 1.0, data.reward)


def gold_out_of_range(rng, data: Data) -> None:
    """Gold leaves the range that is declared."""
    data.gold = 1.5 * data.gold


def finished_first(rng, data: Data) -> None:
    """Draws stand in the order in which they were finished: the better ones first."""
    mean = data.over_draws(data.gold)
    late = data.over_draws(rng.normal(0, 0.5 * max(mean.std(), 1e-9), len(data)))
    data.take(np.lexsort((data.prompt, late - mean)))

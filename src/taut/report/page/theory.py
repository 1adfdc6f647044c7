"""The theory page in short: what each section says in two sentences, for a page read offline.

The statements with their hypotheses and proofs stand in `docs/theory.md`, under the same numbers.
"""

import re
from collections.abc import Iterable, Iterator

# Section -> (title, what it says).
SECTIONS: dict[str, tuple[str, str]] = {
    "1": (
        "Objects",
        "Prompts x, responses y of the policy, a learned reward in [0, 1], the true reward r*, and "
        "the log-ratio ℓ = ln π(y|x) − ln π_ref(y|x) in nats. The objective is E[r* − β ℓ].",
    ),
    "2": (
        "Sampling term",
        "Prompts are independent draws, and each prompt with all its rollouts is one draw. "
        "Nothing else is assumed of how rewards are distributed.",
    ),
    "2.1": ("The paper's bound", "Hoeffding's inequality for prompts and for rollouts given them."),
    "2.2": ("Block Hoeffding and Chernoff", "One mean a prompt, bounded by its range alone."),
    "2.3": ("Empirical Bernstein", "A bound that narrows where the values vary little."),
    "2.4": (
        "Betting intervals",
        "A value is excluded if a fair bettor who looks back only would have multiplied his stake "
        "by 1/δ against it: under the true value that happens with probability at most δ (Ville).",
    ),
    "2.4b": ("Binary gold", "Exact binomial intervals for labels that are 0 or 1."),
    "2.5": (
        "Anytime and order-free bounds",
        "Mixtures of fixed bets hold at every number of draws at once, or for draws of different "
        "laws in any order.",
    ),
    "2.6": ("One-sided ends", "An end that is not needed costs nothing; the other gets all of δ."),
    "2.7": (
        "Clustered normal interval",
        "The usual mean ± z standard errors, shown for comparison. It proves nothing at finite n.",
    ),
    "2.8": (
        "Ratios: the mean of responses in a slice",
        "A slice by what depends on the response is a ratio of two means, bounded at once.",
    ),
    "2.9": (
        "Best and worst of k rollouts",
        "What the best, or the worst, of k answers to a prompt is on average: estimated without "
        "bias from all k of the answers at hand, one value a prompt.",
    ),
    "3": (
        "Reward-shift term",
        "How far the learned reward is from the true one, on the responses of this policy.",
    ),
    "3.1": ("The paper's term", "At most C √L, with declared coverage C and mean squared error L."),
    "3.2": ("Centred", "The same with the mean error taken out first; never wider."),
    "3.3": ("Truncated", "Weights cut at a constant: no full coverage by the reward data needed."),
    "3.4": ("Double lower bound", "Truncated importance weights of the true reward, and of its "
            "complement."),
    "3.5": ("Class-restricted coverage", "Coverage in a few features, if the error is linear in "
            "them: an assumption."),
    "3.6": (
        "On-policy gold labels",
        "A random part of the rollouts carries gold labels. The mean learned reward over all "
        "rollouts, corrected by gold less learned over the labelled ones, has the true mean: no "
        "trust in the learned reward is needed, and a good one makes the interval narrow.",
    ),
    "3.7": (
        "Never plug in",
        "What sampled weights look like is no bound: if the reward data miss what the policy does, "
        "all sampled weights are small. Shown as diagnostics only.",
    ),
    "3.8": ("The error from data", "Labels on reward data bound its squared error; preference "
            "pairs alone do not identify it."),
    "3.9": ("Trivial", "The true reward lies in its range."),
    "4": ("KL-clipping term", "What clipping the log-ratio leaves out of the KL cost."),
    "4.1": ("The paper's term", "β times the mean of |ℓ| beyond τ."),
    "4.2": ("The negative side is free", "Below −τ at most e^(−1−τ) nats are hidden on average, "
            "whatever the policies are."),
    "4.3": ("Direction", "A lower end of the objective needs the positive tail only, an upper end "
            "the negative one only."),
    "4.4": (
        "The positive side needs something",
        "No data bound the mean of an unbounded variable. One of these is needed: a declared "
        "maximum, a declared second moment, or a clip threshold that is part of the target.",
    ),
    "4.5": ("Per-token clipping", "Trainers clip token by token: what that changes is estimated."),
    "4.6": (
        "Right log-probs",
        "Mean e^−ℓ is at most 1 for true log-probs of the policy that sampled. A mean above it "
        "beyond chance shows that they are not.",
    ),
    "5": (
        "The certificate",
        "The three terms together, the error budget δ that each random event spends, and a status: "
        "the weakest of its parts.",
    ),
    "6.1": ("PAC-Bayes-kl on blocks", "Policies chosen with the data; a prior fixed before."),
    "6.2": ("The paper's Theorem 2", "The paper's PAC-Bayes bound, with our constants."),
    "6.3": (
        "Finite class",
        "Choosing among M candidates fixed beforehand is paid for by a union over them, or by the "
        "paired differences on shared prompts.",
    ),
    "6.4": ("SGD as an Ornstein–Uhlenbeck process", "A posterior for the last iterates of SGD."),
    "7.1": ("The paper's rule", "τ* is the (1 − 2α)-quantile of |ℓ|."),
    "7.2": ("The measured rule", "τ that makes the forecast certificate narrowest, chosen on draws "
            "that do not certify."),
    "7.3": ("In training", "A heuristic: τ from calibration rollouts, frozen for each phase."),
    "8.1": ("Equal cost per rollout", "With equal costs one rollout a prompt is best."),
    "8.2": ("The paper's rule", "K* = (cost of a prompt / cost of a rollout)^(2/3)."),
    "8.3": ("Variance-aware", "K* from the variances between and within prompts."),
    "8.4": ("With preference data", "How to split money between rollouts and preference pairs."),
    "8.5": ("Integer plan", "A plan in whole numbers and its forecast: no bound."),
}  # fmt: skip

_NUMBER = re.compile(r"§(\d+(?:\.\d+[a-z]?)?)")


def cited(text: str) -> str | None:
    """Return the first section that a text cites, or None; an unknown one gives its parent."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    name = found[1]
    return next((key for key in (name, name.partition(".")[0]) if key in SECTIONS), None)


def sections_in(texts: Iterable[str]) -> Iterator[str]:
    """Yield the sections that texts cite, each once, in the order of the theory page."""
    named = {
        section
        for text in texts
        for found in _NUMBER.finditer(text)
        if (section := cited(found[0])) is not None
    }
    yield from (section for section in SECTIONS if section in named)

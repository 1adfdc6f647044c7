"""Names of targets, terms, routes, checks and statuses, as a person reads them."""

HELP_STATUS = {
    "certified": "A finite-sample guarantee; everything that it rests on is on record, checked or "
    "declared.",
    "conditional": "The same finite-sample guarantee, if named assumptions hold that nobody "
    "declared and no data can show.",
    "estimated": "A careful estimate without any guarantee; the report says why.",
    "vacuous": "True, but it says nothing: the data leave every possible value open.",
}

TARGET_NAMES = {"reward": "reward", "clipped": "clipped objective", "objective": "objective"}
TARGET_FORMULAS = {"reward": "E[r*]", "clipped": "E[r* − β clip(ℓ)]", "objective": "E[r* − β ℓ]"}

TERM_NAMES = {
    "sampling": "sampling",
    "reward_shift": "reward shift",
    "kl_clipping": "KL clipping",
}

ROUTE_NAMES = {
    "gold": "gold labels",
    "rectifier": "gold labels and scores",
    "declared": "declared bounds",
    "paper": "declared C and L",
    "trivial": "nothing beyond the range",
    "log_ratio_max": "declared largest ℓ",
    "second_moment": "declared second moment",
    "betting": "betting",
    "bernstein": "empirical Bernstein",
    "hoeffding": "Hoeffding",
    "pareto_tail": "fitted tail",
}

ROUTE_LABELS = {
    "gold": "gold labels",
    "joint": "labels and data",
    "paper": "paper, C √L",
    "centred": "centred",
    "truncated": "truncated",
    "importance": "importance",
    "score": "mean score",
    "trivial": "trivial",
}

CHECK_NAMES = {
    "exp_minus_log_ratio": "mean e^−ℓ",
    "kl_sign": "sign of the KL",
    "labels_blind": "blind labels",
    "log_prob_per_token": "log-prob per token",
    "log_ratio_zero": "zero log-ratios",
    "positive_log_probs": "positive log-probs",
}

PAPER_NEEDS = {
    "sampling": "not computed",
    "reward_shift": "needs declared C and L (--coverage, --reward-mse)",
    "kl_clipping": "needs log-probs",
    "total": "needs all three terms",
}

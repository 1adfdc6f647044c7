"""Who wrote a log: the frameworks whose own files are read, and what people should know of them."""

from dataclasses import dataclass

FORMATS = (
    *("auto", "native", "trl", "verl", "nemo-rl", "open-instruct", "prime-rl", "verifiers"),
    *("ms-swift", "roll", "skyrl", "slime", "areal", "nemo-gym", "tinker"),
    *("inspect", "lm-eval", "lighteval", "reward-bench", "alpaca-eval"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What people need to know of a framework's log.

    Attributes:
        title: Its name and its file.
        lacks: What is not in it.
        certified: What can be certified all the same.
        remedy: The shortest way to the rest.
    """

    title: str
    lacks: str
    certified: str
    remedy: str


_REWARD_ONLY = (
    "the mean of the logged reward and, with gold labels, E r* (--target reward): neither needs "
    "log-probs"
)
_NO_LOG_PROBS = "log-probs of policy and reference"
_SCORE = "taut score LOG --policy M --ref M -o FILE adds both log-probs"
_SCORES = "the mean score and, with gold labels, E r* (--target reward)"
_GOLD = "label some samples: taut label draw LOG"
FRAMEWORKS: dict[str, Framework] = {
    "trl": Framework(
        title="TRL completions",
        lacks="log-probs, prompt ids, and every generation batch but the last before each log",
        certified=_REWARD_ONLY,
        remedy='taut.training.record(trainer, "log/") logs every rollout with its log-probs',
    ),
    "verl": Framework(
        title="verl rollouts",
        lacks="log-probs, response lengths, and the special tokens of the text",
        certified=_REWARD_ONLY,
        remedy="two lines in _log_rollout_data add the log-probs (docs/formats.md)",
    ),
    "nemo-rl": Framework(
        title="NeMo-RL data",
        lacks="reference log-probs, and raw rewards where they are scaled or shaped",
        certified=_REWARD_ONLY,
        remedy="one line logs train_data['reference_policy_logprobs'] beside prev_logprobs "
        "(docs/formats.md)",
    ),
    "open-instruct": Framework(
        title="open-instruct rollouts",
        lacks="log-probs of policy and reference from one engine, and, by default, every prompt "
        "whose rewards are all equal",
        certified=_REWARD_ONLY + "; both only if filter_zero_std_samples was off",
        remedy="--filter_zero_std_samples False; then taut score LOG --policy M --ref M -o FILE",
    ),
    "prime-rl": Framework(
        title="prime-rl traces",
        lacks="log-probs of a reference, unless an algorithm with a reference scored them",
        certified=_REWARD_ONLY,
        remedy="taut score LOG --policy M --ref M -o FILE; read all/, never effective/, which is "
        "chosen by outcome",
    ),
    "verifiers": Framework(
        title="verifiers results",
        lacks=_NO_LOG_PROBS,
        certified=_REWARD_ONLY,
        remedy=_SCORE,
    ),
    "ms-swift": Framework(
        title="ms-swift completions",
        lacks=f"{_NO_LOG_PROBS}, and the sum of the reward functions",
        certified=_REWARD_ONLY,
        remedy=_SCORE,
    ),
    "roll": Framework(
        title="ROLL rollouts", lacks=_NO_LOG_PROBS, certified=_REWARD_ONLY, remedy=_SCORE
    ),
    "skyrl": Framework(
        title="SkyRL evaluations", lacks=_NO_LOG_PROBS, certified=_REWARD_ONLY, remedy=_SCORE
    ),
    "slime": Framework(
        title="slime samples",
        lacks="log-probs of a reference",
        certified=_REWARD_ONLY,
        remedy=_SCORE,
    ),
    "areal": Framework(
        title="AReaL trajectories",
        lacks=f"{_NO_LOG_PROBS}, and every rollout whose completion is empty",
        certified=_REWARD_ONLY + "; both only if no completion was empty",
        remedy=_SCORE,
    ),
    "nemo-gym": Framework(
        title="NeMo Gym rollouts", lacks=_NO_LOG_PROBS, certified=_REWARD_ONLY, remedy=_SCORE
    ),
    "tinker": Framework(
        title="tinker-cookbook rollouts",
        lacks=f"{_NO_LOG_PROBS}; summaries of training have no text either",
        certified=_REWARD_ONLY,
        remedy="log both log-probs where the rollouts are made",
    ),
    "inspect": Framework(
        title="inspect_ai samples", lacks=_NO_LOG_PROBS, certified=_SCORES, remedy=_GOLD
    ),
    "lm-eval": Framework(
        title="lm-eval samples", lacks=_NO_LOG_PROBS, certified=_SCORES, remedy=_GOLD
    ),
    "lighteval": Framework(
        title="lighteval details", lacks=_NO_LOG_PROBS, certified=_SCORES, remedy=_GOLD
    ),
    "reward-bench": Framework(
        title="RewardBench results", lacks=_NO_LOG_PROBS, certified=_SCORES, remedy=_GOLD
    ),
    "alpaca-eval": Framework(
        title="alpaca_eval annotations", lacks=_NO_LOG_PROBS, certified=_SCORES, remedy=_GOLD
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which framework wrote a log.

    Attributes:
        format: One of FORMATS, but native or auto.
        part: What kind of file of that framework, where there are several.
        chosen: The file itself says that its rollouts were chosen by their rewards.
    """

    format: str
    part: str = ""
    chosen: bool = False

"""The native columns of a log: one table for readers, checks, help and docs (design §3)."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "id",
    "float",
    "tokens",
    "int",
    "bool",
    "text",
    "features",
    "token_ids",
    "messages",
    "failure",
    "label",
    "any",
]

# Kinds that hold a list of numbers in each row.
LISTS = ("tokens", "features")

# What a rollout says, in words and in tokens: only what scores the words reads them.
WORDS = ("prompt", "response", "prompt_ids", "response_ids")

# What a reader expects, in the words of its error messages.
EXPECTED: dict[Kind, str] = {
    "id": "strings or integers",
    "float": "numbers",
    "tokens": "lists of numbers, one per response token",
    "int": "integers",
    "bool": "true or false",
    "text": "text",
    "features": "lists of numbers, the same length in all rows",
    "token_ids": "lists of integers, one per token",
    "messages": "text, or a list of messages",
    "any": "anything",
    "label": "text, numbers, true or false",
    "failure": "what went wrong: text, an object, true or false",
}

TOKEN_CLIP_KEY = b"taut.token_clip"  # Parquet metadata: nats that token ratios were clipped at
REJECTED_KEY = b"taut.rejected_rows"  # Parquet metadata: rows left out by a lenient convert
ORIGIN_KEY = b"taut.origin"  # Parquet metadata: the framework that wrote the converted log
FACTS_KEY = b"taut.facts"  # Parquet metadata: what the log knows about itself (taut.logs.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One native column of a log, one value per rollout.

    Attributes:
        name: Native name; a foreign column is mapped to it by dotted path.
        kind: What its values are; `EXPECTED` says it in words.
        unit: Unit of its values, empty where there is none.
        meaning: One line for people.
        nullable: A rollout may lack it. Otherwise all rollouts have it, or none.
    """

    name: str
    kind: Kind
    unit: str = ""
    meaning: str
    nullable: bool = False


_SEQUENCE = "log-probability of the whole response under the {}: the sum over its tokens"
_TOKENS = "log-probability of each response token under the {}; summed in float64 while reading"
_ROLES = {
    "policy": "policy under audit",
    "ref": "reference policy",
    "behaviour": "policy that sampled the response",
}

COLUMNS: tuple[Column, ...] = (
    Column(
        name="prompt_id",
        kind="id",
        meaning="which prompt the response answers; without it rows are grouped by `prompt`",
    ),
    Column(name="reward", kind="float", unit="reward units", meaning="raw reward-model score"),
    *(
        Column(name=f"{role}_logprob", kind="float", unit="nats", meaning=_SEQUENCE.format(whose))
        for role, whose in _ROLES.items()
    ),
    *(
        Column(name=f"{role}_logprobs", kind="tokens", unit="nats", meaning=_TOKENS.format(whose))
        for role, whose in _ROLES.items()
    ),
    Column(
        name="log_ratio",
        kind="float",
        unit="nats",
        meaning="policy_logprob - ref_logprob; stands for both, and wins where all three are given",
    ),
    Column(
        name="token_clipped_log_ratio",
        kind="float",
        unit="nats",
        meaning="sum over tokens of the log-ratio clipped token by token; written by `convert`",
    ),
    Column(
        name="gold",
        kind="float",
        unit="reward units",
        meaning="target reward; null where a rollout has no label",
        nullable=True,
    ),
    Column(
        name="group",
        kind="id",
        meaning="one draw of a prompt with its rollouts, where prompts are drawn more than once",
    ),
    Column(
        name="launch",
        kind="int",
        meaning="place of the draw in the order of launching: 0, 1, 2, …, set before its responses "
        "are made; `taut watch` counts draws in that order",
    ),
    Column(name="run", kind="text", meaning="training run that the rollout belongs to"),
    Column(name="policy", kind="text", meaning="name of the policy or checkpoint under audit"),
    Column(name="step", kind="int", unit="steps", meaning="training step of the rollout"),
    Column(
        name="n_tokens",
        kind="int",
        unit="tokens",
        meaning="response length; counted from the token lists where it is absent",
        nullable=True,
    ),
    Column(
        name="truncated",
        kind="bool",
        meaning="the response was cut at the length limit; false where it is absent",
        nullable=True,
    ),
    Column(
        name="error",
        kind="failure",
        meaning="why the rollout failed, null or empty where it did not; failed rows are counted "
        "and stay in",
        nullable=True,
    ),
    Column(
        name="rollout_id",
        kind="id",
        meaning="names a row for labels that come from elsewhere; without one: a hash of its "
        "content and its occurrence number",
    ),
    Column(
        name="label_probability",
        kind="float",
        unit="probability",
        meaning="chance of a label, in (0, 1], where rows were chosen independently and not all "
        "alike",
        nullable=True,
    ),
    Column(
        name="features",
        kind="features",
        meaning="reward-model features, for the mean-score route of reward data; read on request",
    ),
    Column(
        name="prompt",
        kind="messages",
        meaning="text or messages of the prompt: an id where `prompt_id` lacks, and equal texts "
        "under different ids are seen by it",
    ),
    Column(
        name="content_key",
        kind="int",
        meaning="64-bit key of a row's content, where it has no `rollout_id`; written by `convert`",
    ),
    Column(
        name="prompt_key",
        kind="int",
        meaning="64-bit key of the text of `prompt`; written by `convert`",
    ),
    Column(name="response", kind="text", meaning="text of the response; scored by `taut score`"),
    Column(
        name="prompt_ids",
        kind="token_ids",
        meaning="tokens that the policy was given, without padding; scored by `taut score`",
    ),
    Column(
        name="response_ids",
        kind="token_ids",
        meaning="tokens that were sampled, with the end token if it was one of them; scored by "
        "`taut score`",
    ),
)

NATIVE: dict[str, Column] = {column.name: column for column in COLUMNS}

KEYS = ("prompt_key", "response_key", "content_key")  # of texts, where a file has them

# Columns of other frameworks' logs that become native ones while reading (taut.logs.frameworks).
RAW: dict[str, Column] = {
    column.name: column
    for column in (
        Column(name="messages", kind="messages", meaning="prompt, or the messages that make it"),
        Column(name="token_ids", kind="tokens", meaning="prompt and response, padded"),
        Column(name="token_mask", kind="tokens", meaning="1 where the policy made the token"),
        Column(name="input_length", kind="int", meaning="tokens without the padding"),
        Column(name="prompt_tokens", kind="tokens", meaning="token ids of the prompt"),
        Column(name="response_tokens", kind="tokens", meaning="token ids of the response"),
        Column(name="finish_reason", kind="text", meaning="why sampling stopped"),
        Column(name="draw", kind="text", meaning="id that ends in _session_output"),
        Column(name="response_key", kind="int", meaning="key of the response"),
    )
}
# Raw names that hold a column's own name behind them.
REWARD_PART = "reward from "  # one of several reward columns
KEPT = "kept "  # a column that was asked for, to slice by
PART = "part "  # one of the parts of a reward, under `rewards`
SUMMAND, ANY, LIST = "summand ", "any ", "list "  # of what --map makes of several (logs.mapping)


def column(name: str) -> Column:
    """Return a native or raw column by name."""
    if name.startswith(ANY):
        return Column(name=name, kind="any", meaning="as it stands in the file", nullable=True)
    if name.startswith(LIST):
        return Column(name=name, kind="tokens", meaning="numbers to fold", nullable=True)
    if name.startswith((REWARD_PART, PART, SUMMAND)):
        return Column(name=name, kind="float", meaning="one of several rewards", nullable=True)
    if name.startswith(KEPT):
        return Column(name=name, kind="label", meaning="to slice by", nullable=True)
    return NATIVE.get(name) or RAW[name]

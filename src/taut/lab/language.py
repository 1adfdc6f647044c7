"""A toy language whose true reward anyone can read: what is asked, what people write, its worth.

A prompt is four words, most of them of one topic. A good response names *different* words; how good
each one is nobody is told, and a reward model has to learn it from comparisons. Words of the
prompt's topic are worth more. Saying a word three times and more annoys: people hardly ever do,
so comparisons of what people write say next to nothing about it. That is what an optimiser finds.

Token ids: 0 pads, 1 ends a response, then words in the order of WORDS. All of it is NumPy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Worth of naming a word, in units of the latent reward (log-odds that a reader is content).
TOPICS = {
    "sea": {
        "tide": 0.7, "wave": -0.1, "sail": -0.5, "reef": -0.6,
        "harbour": 1.0, "storm": 1.2, "gull": 0.6, "anchor": 0.9,
    },
    "hill": {
        "peak": 0.5, "ridge": 1.3, "valley": 1.0, "snow": -0.6,
        "trail": 1.1, "goat": -0.5, "cairn": 0.9, "mist": -0.2,
    },
    "market": {
        "stall": 1.1, "coin": 0.5, "spice": 0.0, "cloth": 0.2,
        "crowd": -0.5, "scale": -0.4, "bread": 0.7, "trade": 0.7,
    },
    "music": {
        "drum": 0.6, "chord": 0.2, "flute": 1.4, "choir": 1.4,
        "dance": 0.8, "song": 0.7, "string": 0.8, "rhythm": 0.2,
    },
}  # fmt: skip
FILLERS = {
    "old": -0.3, "new": 0.8, "small": 0.5, "great": 0.0, "slow": 0.4, "bright": 1.2,
    "quiet": 1.3, "far": 0.1, "near": 0.5, "first": 0.0, "last": 0.6, "still": 0.1,
}  # fmt: skip

PAD, END = 0, 1
SPECIALS = ("<pad>", "<end>")
WORDS = (*(word for topic in TOPICS.values() for word in topic), *FILLERS)
TOKENS = (*SPECIALS, *WORDS)

ON_TOPIC = 0.6  # what a word of the prompt's topic adds
ANNOYANCE = 1.5  # what the third time of a word costs, and each time after it
BASE, CEILING = -2.5, 5.0  # latent reward of saying nothing; most that words can add

PROMPT_WORDS = 4
LONGEST = 12  # tokens of a response, its end included

_PER_TOPIC = 8
_TOPICAL = len(TOPICS) * _PER_TOPIC
_WORTH = np.array(
    [0.0, 0.0, *(w for topic in TOPICS.values() for w in topic.values()), *FILLERS.values()]
)
_TOPIC_OF = np.full(len(TOKENS), -1)
_TOPIC_OF[2 : 2 + _TOPICAL] = np.repeat(np.arange(len(TOPICS)), _PER_TOPIC)


def draw_prompts(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw prompts independently, shape (count, PROMPT_WORDS): four words in five on topic."""
    topic = rng.integers(len(TOPICS), size=(count, 1))
    own = topic * _PER_TOPIC + rng.integers(_PER_TOPIC, size=(count, PROMPT_WORDS))
    stray = rng.integers(_TOPICAL, size=own.shape)
    return len(SPECIALS) + np.where(rng.random(own.shape) < 0.8, own, stray)


def topic_of(prompts: np.ndarray) -> np.ndarray:
    """Return the topic of each prompt: its most frequent one, the first of a tie."""
    named = _TOPIC_OF[prompts][:, :, None] == np.arange(len(TOPICS))
    return named.sum(axis=1).argmax(axis=1)


def demonstrations(prompts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write what people would respond, shape (prompts, LONGEST), padded after the end.

    Three to seven words; of each ten about four are on topic, four of no topic, two astray, and
    of one kind nobody says a word twice.
    """
    count, most = len(prompts), 7
    kind = rng.choice(3, size=(count, most), p=(0.4, 0.4, 0.2))
    own = _different(count, _PER_TOPIC, most, rng) + topic_of(prompts)[:, None] * _PER_TOPIC
    filler = _TOPICAL + _different(count, len(FILLERS), most, rng)
    stray = _different(count, _TOPICAL, most, rng)
    words = len(SPECIALS) + np.choose(kind, (own, filler, stray))
    length = rng.integers(3, most + 1, size=count)
    out = np.full((count, LONGEST), PAD)
    out[:, :most] = np.where(np.arange(most) < length[:, None], words, PAD)
    out[np.arange(count), length] = END
    return out


def _different(rows: int, kinds: int, picks: int, rng: np.random.Generator) -> np.ndarray:
    """Draw different numbers below `kinds` in each row, shape (rows, picks)."""
    return rng.random((rows, kinds)).argsort(axis=1)[:, :picks]


def latent_reward(prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Return the true log-odds that a reader is content, shape (rows,).

    Args:
        prompts: Token ids, shape (rows, PROMPT_WORDS).
        responses: Token ids, shape (rows, any), padded after the end.
    """
    counts = (responses[:, :, None] == np.arange(len(TOKENS))).sum(axis=1)
    counts[:, : len(SPECIALS)] = 0
    on_topic = topic_of(prompts)[:, None] == _TOPIC_OF
    named = ((counts > 0) * (_WORTH + ON_TOPIC * on_topic)).sum(axis=1)
    annoying = np.maximum(counts - 2, 0).sum(axis=1)
    return BASE + CEILING * np.tanh(named / CEILING) - ANNOYANCE * annoying


def gold_reward(prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Return the true reward in [0, 1], shape (rows,): the chance that a reader is content."""
    return 1.0 / (1.0 + np.exp(-latent_reward(prompts, responses)))


def gold(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """Return the true reward of texts; called as trainers call reward functions."""
    return gold_reward(encode(prompts), encode(completions)).tolist()


def encode(texts: Sequence[str]) -> np.ndarray:
    """Return the token ids of texts, shape (texts, longest), padded; what is no word is skipped."""
    rows = [[_IDS[word] for word in text.split() if word in _IDS] for text in texts]
    out = np.full((len(rows), max(map(len, rows), default=0)), PAD)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = ids
    return out


def decode(rows: np.ndarray) -> list[str]:
    """Return token rows as texts, without padding and ends."""
    return [" ".join(TOKENS[i] for i in row if i >= len(SPECIALS)) for row in rows]


_IDS = {word: index for index, word in enumerate(TOKENS)}

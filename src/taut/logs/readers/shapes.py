"""Objects that hold several rollouts: tables of lists, one object a prompt, tables of W&B."""

from collections.abc import Callable, Mapping, Sequence

from taut.logs.frameworks import prime_rl, recognise
from taut.logs.layout import Holds
from taut.logs.schema import NATIVE

# Turns an object into the rollouts that it holds.
Expand = Callable[[dict], list[dict]]

# One object a prompt: the names of its lists, and what one item of each is.
ITEMS = {
    "responses": "response",
    "completions": "completion",
    "outputs": "output",
    "samples": "sample",
    "generations": "generation",
    "rewards": "reward",
    "scores": "score",
    "golds": "gold",
}
_SAID = ("responses", "completions", "outputs", "samples", "generations")
_SCORED = ("rewards", "scores", "reward", "score")
_FEW = 200  # objects to look at


def shape_of(docs: Sequence[dict], seen: Mapping[str, Holds]) -> Expand | None:
    """Return how objects that hold several rollouts become one row each; None for one rollout.

    Args:
        docs: The first objects of a file.
        seen: What their columns hold.
    """
    few = docs[:_FEW]
    if all(_is_wandb(doc) for doc in few):
        return _from_wandb
    if all(prime_rl.is_episode(doc) for doc in few):
        return _from_episode
    if all(_is_inspect(doc) for doc in few):
        return _from_inspect
    if recognise(seen) not in ("native", "roll", "ms-swift"):
        return None  # NeMo-RL puts every value in a list of one
    if all(_is_table(doc) for doc in few):
        return _from_table
    if all(_answers(doc) for doc in few):
        return _from_prompt
    return None


def _is_wandb(doc: dict) -> bool:
    names, rows = doc.get("columns"), doc.get("data")
    return (
        isinstance(names, list)
        and isinstance(rows, list)
        and all(isinstance(name, str) for name in names)
        and all(isinstance(row, list) and len(row) == len(names) for row in rows)
        and len(set(names)) == len(names)
    )


def _from_wandb(doc: dict) -> list[dict]:
    if not _is_wandb(doc):
        return [doc]
    return [dict(zip(doc["columns"], row, strict=True)) for row in doc["data"]]


def _from_episode(doc: dict) -> list[dict]:
    return prime_rl.rows(doc) if prime_rl.is_episode(doc) else [doc]


def _is_inspect(doc: dict) -> bool:
    samples = doc.get("samples")
    return "eval" in doc and isinstance(samples, list) and all(type(s) is dict for s in samples)


def _from_inspect(doc: dict) -> list[dict]:
    return doc["samples"] if _is_inspect(doc) else [doc]


def _is_table(doc: dict) -> bool:
    """Say whether every value is a list of the same length, with more than numbers for tokens."""
    lists = list(doc.values())
    if len(lists) < 2 or not all(isinstance(value, list) for value in lists):
        return False
    size = len(lists[0])
    return size > 0 and all(len(value) == size for value in lists)


def _from_table(doc: dict) -> list[dict]:
    if not _is_table(doc):
        return [doc]
    return [dict(zip(doc, row, strict=True)) for row in zip(*doc.values(), strict=True)]


def _answers(doc: dict) -> int:
    """Return how many rollouts an object of one prompt holds; 0 where it is none."""
    said = next((doc[name] for name in _SAID if isinstance(doc.get(name), list)), None)
    scored = next((doc[name] for name in _SCORED if isinstance(doc.get(name), list)), None)
    if not said or not scored or len(said) != len(scored):
        return 0
    return len(said) if all(isinstance(text, str | list | dict) for text in said) else 0


def _from_prompt(doc: dict) -> list[dict]:
    """Return a row for each response; what is a list of as many items goes item by item."""
    size = _answers(doc)
    if not size:
        return [doc]
    lists = {
        name: value
        for name, value in doc.items()
        if isinstance(value, list)
        and len(value) == size
        and (name in ITEMS or name in _SCORED or name in NATIVE)
        and name not in ("prompt", "prompt_ids", "features")
    }
    rest = {name: value for name, value in doc.items() if name not in lists}
    return [
        {**rest, **{ITEMS.get(name, name): value[at] for name, value in lists.items()}}
        for at in range(size)
    ]

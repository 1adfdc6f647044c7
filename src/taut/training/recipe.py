"""A training recipe: TOML in, frozen records out, strictly.

One table of settings feeds the reader, its error messages and docs/training-recipe.md, so that the
page cannot drift from what is accepted.
"""

# ruff: noqa: RUF009 - `section` returns a field, as `dataclasses.field` does

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from taut.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be.

    Attributes:
        expected: The words of error messages and of the page.
        read: Value and the recipe's folder to the value kept; raises ValueError where it is wrong.
    """

    expected: str
    read: Callable[[Any, Path], Any]


def setting(kind: Kind, help_text: str, *, default: Any = MISSING, unit: str = "") -> Any:
    """Return a dataclass field of a recipe, with all that the reader and the page need."""
    metadata = {"kind": kind, "help": help_text, "unit": unit}
    return field(default=default, metadata=metadata)


def section(record: type, help_text: str, *, default: Any = MISSING) -> Any:
    """Return a dataclass field that holds a table of settings."""
    return field(default=default, metadata={"record": record, "help": help_text})


def _text(value: Any, _: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _path(value: Any, folder: Path) -> str:
    return str((folder / Path(_text(value, folder)).expanduser()).resolve())


def _model(value: Any, folder: Path) -> str:
    """A folder, where there is one, else a name that must be in the local cache."""
    path = Path(_path(value, folder))
    looks_local = value.startswith((".", "/", "~")) or path.exists()
    return str(path) if looks_local else value


def _switch(value: Any, _: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _function(value: Any, folder: Path) -> str:
    module, sign, name = _text(value, folder).partition(":")
    if not (sign and name.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        raise ValueError
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(low: int) -> Kind:
    """Return the kind of integers from `low` on."""

    def read(value: Any, _: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError
        return value

    return Kind(f"an integer, {low} or more", read)


def number(low: float, high: float = math.inf, *, ends: str = "[]") -> Kind:
    """Return the kind of finite numbers between two ends, each inside or outside by its bracket."""

    def read(value: Any, _: Path) -> float:
        inside = _is_number(value) and low <= value <= high
        if not inside or (value == low and ends[0] == "(") or (value == high and ends[1] == ")"):
            raise ValueError
        return float(value)

    if math.isinf(high):
        return Kind(
            f"a number above {low:g}" if ends[0] == "(" else f"a number, {low:g} or more", read
        )
    return Kind(f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}", read)


def one_of(*choices: str) -> Kind:
    """Return the kind of a choice among words."""

    def read(value: Any, _: Path) -> str:
        if value not in choices:
            raise ValueError
        return value

    return Kind(" or ".join(f'"{choice}"' for choice in choices), read)


def _threshold(value: Any, _: Path) -> float | str:
    if value in ("quantile", "none"):
        return value
    if not _is_number(value) or value <= 0:
        raise ValueError
    return float(value)


def _ends(value: Any, _: Path) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise ValueError
    if value[0] >= value[1]:
        raise ValueError
    return (float(value[0]), float(value[1]))


def _sizes(value: Any, _: Path) -> tuple[int, ...]:
    good = isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in value
    )
    if not good or sorted(set(value)) != value:
        raise ValueError
    return tuple(value)


def words(*choices: str) -> Kind:
    """Return the kind of a list of words, each at most once; of any words where none are given."""

    def read(value: Any, _: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError
        if len(set(value)) != len(value) or (choices and not set(value) <= set(choices)):
            raise ValueError
        return tuple(value)

    listed = f", each of {', '.join(choices)}" if choices else ""
    return Kind(f"a list of words{listed}", read)


TEXT = Kind("text", _text)
PATH = Kind("the path of a file", _path)
FOLDER = Kind("the path of a folder", _path)
MODEL = Kind("the folder of a model (or the name of one in the local cache)", _model)
SWITCH = Kind("true or false", _switch)
FUNCTION = Kind('a function of an installed module, as in "mypackage.rewards:score"', _function)
RANGE = Kind("two numbers, the lower one first, as in [-4.0, 4.0]", _ends)
SIZES = Kind("a list of integers, each above 0 and above the one before", _sizes)
THRESHOLD = Kind('a number of nats above 0, "quantile" or "none"', _threshold)
RATE = number(0, 1, ends="()")


@dataclass(frozen=True, slots=True, kw_only=True)
class FromScratch:
    """A small decoder with random weights, for experiments and tests."""

    tokenizer: str = setting(FOLDER, "folder of the tokenizer (`tokenizer.json` and its config)")
    hidden: int = setting(whole(8), "width; a multiple of `heads`", default=64)
    layers: int = setting(whole(1), "number of layers", default=2)
    heads: int = setting(whole(1), "attention heads", default=4)
    context: int = setting(whole(8), "longest prompt with response", default=512, unit="tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Where all stages start, and how they compute."""

    checkpoint: str | None = setting(
        MODEL, "model that SFT (or the policy, without `[sft]`) starts from", default=None
    )
    from_scratch: FromScratch | None = section(
        FromScratch, "a small model with random weights, in place of `checkpoint`", default=None
    )
    precision: str = setting(
        one_of("float32", "bfloat16"),
        "float32, or bfloat16 mixed precision (log-probs then have a noise floor)",
        default="float32",
    )
    device: str = setting(
        one_of("auto", "cpu"), "auto takes a GPU where there is one", default="auto"
    )
    gradient_checkpointing: bool = setting(
        SWITCH, "recompute activations: less memory, about 20% slower", default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters in place of full weights."""

    stages: tuple[str, ...] = setting(
        words("sft", "reward_model", "policy"), "which stages train adapters", default=("policy",)
    )
    rank: int = setting(whole(1), "rank of the adapters", default=16)
    alpha: float = setting(number(0, ends="(]"), "scale of the adapters", default=32.0)
    modules: tuple[str, ...] = setting(
        words(), "names of the adapted layers; empty: all linear ones", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sft:
    """Supervised fine-tuning; leave the table out to start from the checkpoint as it is."""

    data: str = setting(PATH, "rows with `prompt` and `completion`")
    epochs: float = setting(number(0, ends="(]"), "passes over the data", default=1.0)
    learning_rate: float = setting(RATE, "peak, then linearly to 0", default=2e-5)
    batch: int = setting(whole(1), "rows a step, over all processes", default=8)
    max_tokens: int = setting(whole(2), "longer rows are cut", default=1024, unit="tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """The learned reward: trained on `pairs`, or a given `checkpoint`, or a `function`."""

    pairs: str | None = setting(
        PATH,
        "rows with `prompt`, `chosen`, `rejected`; `chosen_gold` and `rejected_gold` where known",
        default=None,
    )
    checkpoint: str | None = setting(
        MODEL, "a trained sequence classifier with one output", default=None
    )
    function: str | None = setting(
        FUNCTION,
        "called as TRL calls reward functions: prompts, completions, completion_ids, columns",
        default=None,
    )
    start: str | None = setting(
        MODEL, "model that the reward model starts from; default: that of the policy", default=None
    )
    held_out: float = setting(
        number(0, 1, ends="()"),
        "share of the prompts of `pairs` kept from training: one half calibrates the range, the "
        "other measures loss and L",
        default=0.2,
    )
    sizes: tuple[int, ...] = setting(
        SIZES,
        "pairs at which the learning curve is measured, besides all (a plan needs three sizes)",
        default=(),
    )
    epochs: float = setting(number(0, ends="(]"), "passes over the pairs", default=1.0)
    learning_rate: float = setting(RATE, "peak, then linearly to 0", default=1e-5)
    batch: int = setting(whole(1), "pairs a step, over all processes", default=8)
    max_tokens: int = setting(
        whole(2), "longer texts are cut on the left", default=1024, unit="tokens"
    )
    units: str = setting(
        one_of("score", "gold"),
        "reward = the raw score, or a line fitted to gold on the calibration half",
        default="score",
    )
    range: tuple[float, float] | None = setting(
        RANGE,
        "declared range, beyond which the reward is cut; default: from the calibration half",
        default=None,
        unit="reward units",
    )
    range_quantile: float = setting(
        number(0, 0.5, ends="[)"),
        "range without `range`: from this quantile of calibration scores to its mirror image, ...",
        default=0.01,
    )
    range_margin: float = setting(
        number(0), "... widened on both sides by this share of its width", default=0.5
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The target reward, where it can be computed: it labels the logs and never trains."""

    function: str | None = setting(FUNCTION, "called like a reward function", default=None)
    checkpoint: str | None = setting(
        MODEL, "a sequence classifier with one output, taken for the truth", default=None
    )
    range: tuple[float, float] = setting(
        RANGE, "declared range; gold beyond it stops the run", unit="reward units"
    )
    share: float = setting(
        number(0, 1, ends="(]"),
        "share of the held-out prompts whose rollouts get gold, drawn blind to outcomes",
        default=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """RLOO against the reward with the sequence-level clipped KL."""

    prompts: str = setting(PATH, "rows with `prompt`, and `prompt_id` where there is one")
    beta: float = setting(
        number(0, ends="(]"), "KL strength", default=0.05, unit="reward units per nat"
    )
    tau: float | str = setting(
        THRESHOLD,
        'clip threshold of the sequence log-ratio; "quantile": by the rule of theory §7.1',
        default="quantile",
        unit="nats",
    )
    delta: float = setting(
        number(0, 1, ends="()"), "error probability in the quantile rule", default=0.05
    )
    burn_in: int = setting(
        whole(1), "unclipped steps that calibrate the first threshold", default=10, unit="steps"
    )
    calibration: int = setting(
        whole(1), "the last steps of the burn-in or a phase, which choose", default=5, unit="steps"
    )
    floor: float = setting(
        number(0, ends="(]"),
        "least threshold that the quantile rule sets",
        default=1.0,
        unit="nats",
    )
    phase: int = setting(
        whole(0),
        "steps that a threshold from the quantile rule is frozen for; 0: to the end",
        default=0,
        unit="steps",
    )
    way: str = setting(
        one_of("mixin", "reward_function"),
        "clip inside TRL's own reward code, or by its public API with one more forward pass",
        default="mixin",
    )
    steps: int = setting(whole(1), "optimiser steps", default=100)
    prompts_per_step: int = setting(whole(1), "prompts a step, over all processes", default=8)
    rollouts_per_prompt: int = setting(whole(2), "rollouts a prompt (K)", default=4)
    micro_batch: int = setting(
        whole(0), "rollouts in one pass of a process; 0: all of its share", default=0
    )
    iterations: int = setting(whole(1), "passes over each batch of rollouts", default=1)
    learning_rate: float = setting(RATE, "peak, of AdamW", default=1e-5)
    schedule: str = setting(
        one_of("constant", "linear", "cosine"), "learning rate over the steps", default="constant"
    )
    warmup: int = setting(whole(0), "steps up to the peak", default=0, unit="steps")
    max_new_tokens: int = setting(whole(1), "longest response", default=64, unit="tokens")
    temperature: float = setting(
        number(0, ends="(]"),
        "of sampling and of all log-probs: the policy is the tempered one",
        default=1.0,
    )
    max_gradient: float = setting(
        number(0, ends="(]"), "gradients are cut at this norm", default=1.0
    )
    save_every: int = setting(
        whole(1), "a run that is killed goes on from such a step", default=50, unit="steps"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Rollouts on held-out prompts: what an audit certifies."""

    prompts: str | None = setting(
        PATH, "rows with `prompt`; without it, `share` of the policy's prompts", default=None
    )
    share: float = setting(
        number(0, 1, ends="()"), "share of the policy's prompts that is held out", default=0.2
    )
    every: int = setting(
        whole(0), "from step 0 on, and at the end; 0: those two only", default=0, unit="steps"
    )
    rollouts_per_prompt: int = setting(whole(1), "rollouts a prompt", default=4)
    batch: int = setting(whole(1), "rollouts in one pass of a process", default=64)
    features: bool = setting(
        SWITCH, "also record the input of the reward model's head", default=False
    )
    text: bool = setting(SWITCH, "also record prompts and responses", default=False)
    models: bool = setting(
        SWITCH, "keep the weights (or adapters) of each recorded step, to choose from", default=True
    )
    overlap: str = setting(
        one_of("refuse", "independent_draws"),
        "a held-out prompt that also trains: refuse it, or take all prompts for independent draws",
        default="refuse",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log of the training rollouts."""

    training: bool = setting(SWITCH, "record them", default=True)
    token_lists: bool = setting(
        SWITCH, "record the log-probs of each token beside their sums", default=False
    )
    gold: bool = setting(SWITCH, "label training rollouts with gold, too", default=False)
    every: int = setting(whole(1), "steps between two reports of metrics", default=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where everything is written."""

    folder: str = setting(FOLDER, "one folder a run; made if it is not there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run, from data to logs."""

    seed: int = setting(whole(0), "seed of all draws", default=0)
    report_to: tuple[str, ...] = setting(
        words(), 'where the trainers report metrics, as in ["tensorboard"]', default=()
    )
    model: Model = section(Model, "")
    lora: Lora | None = section(Lora, "", default=None)
    sft: Sft | None = section(Sft, "", default=None)
    reward_model: RewardModel = section(RewardModel, "")
    gold: Gold | None = section(Gold, "", default=None)
    policy: Policy = section(Policy, "")
    evaluation: Evaluation = section(Evaluation, "", default=Evaluation())
    log: Log = section(Log, "", default=Log())
    output: Output = section(Output, "")


def read_recipe(
    path: str | Path, *, changes: Mapping[str, str] | None = None, output: str | None = None
) -> Recipe:
    """Read a recipe from a TOML file.

    Args:
        path: The file; relative paths in it are taken from its folder.
        changes: Dotted keys to values as TOML writes them (plain words need no quotes), in place
            of what the file says. Relative paths in them are taken from the file's folder, too.
        output: Folder in place of output.folder, relative to the working folder.

    Raises:
        UsageError: The file cannot be read, or a key or value is wrong: file, key, what was
            expected and found, and a key that is close.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"{path}: expected a recipe, found {problem.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: expected TOML, found an error: {problem}.") from None
    for key, value in (changes or {}).items():
        _change(table, key, _toml_value(value), path)
    if output is not None:
        _change(table, "output.folder", str(Path(output).expanduser().absolute()), path)
    return parse_recipe(table, path)


def parse_recipe(table: Mapping[str, Any], path: str | Path = "recipe") -> Recipe:
    """Check a recipe that is already a dictionary.

    Raises:
        UsageError: As for `read_recipe`.
    """
    recipe = _record(Recipe, table, "", Path(path))
    _agree(recipe, path)
    return recipe


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _change(table: dict, key: str, value: Any, path: Path) -> None:
    *tables, last = key.split(".")
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {key}: '{name}' is a value, not a table.")
    table[last] = value


def _record(record: type, table: Any, where: str, path: Path) -> Any:
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: [{where}]: expected a table, found {_found(table)}.")
    known = {item.name: item for item in fields(record)}
    for name in table:
        if name not in known:
            raise UsageError(_unknown(name, list(known), where, path))
    values = {}
    for name, item in known.items():
        dotted = f"{where}.{name}" if where else name
        if name not in table:
            if item.default is MISSING:
                raise UsageError(f"{path}: {_missing(item, dotted)}")
            continue
        if "record" in item.metadata:
            values[name] = _record(item.metadata["record"], table[name], dotted, path)
            continue
        kind = item.metadata["kind"]
        try:
            values[name] = kind.read(table[name], path.parent)
        except ValueError:
            raise UsageError(
                f"{path}: {dotted}: expected {kind.expected}, found {_found(table[name])}."
            ) from None
    return record(**values)


def _missing(item: Any, dotted: str) -> str:
    if "record" in item.metadata:
        return f"expected a table [{dotted}], found none; docs/training-recipe.md has an example."
    return f"{dotted}: expected {item.metadata['kind'].expected}, found nothing; add it."


def _unknown(name: str, known: list[str], where: str, path: Path) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}."
    return f"{path}: unknown key '{f'{where}.{name}' if where else name}'; {hint}"


def _found(value: Any) -> str:
    kinds = {dict: "a table", list: f"a list {value!r}", str: f"text {value!r}"}
    return kinds.get(type(value), repr(value).lower() if isinstance(value, bool) else repr(value))


def _agree(recipe: Recipe, path: str | Path) -> None:
    """Check what no single key can know.

    Raises:
        UsageError: Two keys exclude each other, or one lacks its partner.
    """
    problems = [*_sources(recipe), *_reward_problems(recipe), *_schedule_problems(recipe)]
    if problems:
        raise UsageError(f"{path}: {problems[0]}")


def _sources(recipe: Recipe) -> list[str]:
    model, reward, gold = recipe.model, recipe.reward_model, recipe.gold
    found = []
    if (model.checkpoint is None) == (model.from_scratch is None):
        found.append("[model]: expected either `checkpoint` or [model.from_scratch].")
    if model.from_scratch and model.from_scratch.hidden % model.from_scratch.heads:
        found.append("model.from_scratch.hidden: expected a multiple of `heads`.")
    given = [name for name in ("pairs", "checkpoint", "function") if getattr(reward, name)]
    if len(given) != 1:
        listed = " and ".join(given) or "none"
        found.append(
            "[reward_model]: expected exactly one of `pairs`, `checkpoint` and `function`, "
            f"found {listed}."
        )
    if gold and (gold.function is None) == (gold.checkpoint is None):
        found.append("[gold]: expected either `function` or `checkpoint`.")
    return found


def _reward_problems(recipe: Recipe) -> list[str]:
    reward, found = recipe.reward_model, []
    if reward.pairs is None and reward.range is None:
        found.append(
            "reward_model.range: expected a range, found nothing; without `pairs` there is no "
            "calibration data to read one from."
        )
    if reward.pairs is None and reward.units == "gold":
        found.append('reward_model.units: "gold" needs `pairs` with gold to fit the line on.')
    if reward.units == "gold" and recipe.gold is None:
        found.append('reward_model.units: "gold" needs [gold] with its range.')
    if reward.units == "gold" and reward.range is not None:
        found.append("reward_model.range: in gold units the range is that of [gold]; leave it out.")
    if reward.function and recipe.evaluation.features:
        found.append("evaluation.features: a reward function has no features; leave it out.")
    if recipe.log.gold and recipe.gold is None:
        found.append("log.gold: expected a table [gold], found none.")
    return found


def _schedule_problems(recipe: Recipe) -> list[str]:
    policy, found = recipe.policy, []
    if policy.tau == "quantile":
        found += _quantile_problems(policy)
    for name in ("save_every", "burn_in", "calibration", "phase"):
        value = getattr(policy, name)
        if value % policy.iterations and (name == "save_every" or policy.tau == "quantile"):
            found.append(
                f"policy.{name}: expected a multiple of policy.iterations = {policy.iterations} "
                f"(a batch of rollouts is used for so many steps), found {value}."
            )
    return found


def _quantile_problems(policy: Policy) -> list[str]:
    found = []
    if policy.burn_in >= policy.steps:
        found.append(
            f"policy.burn_in: expected fewer steps than policy.steps = {policy.steps}, found "
            f"{policy.burn_in}; the threshold would never apply."
        )
    shortest = min(policy.burn_in, policy.phase or policy.burn_in)
    if policy.calibration > shortest:
        found.append(
            f"policy.calibration: expected at most the {shortest} steps of the burn-in and of a "
            f"phase, found {policy.calibration}."
        )
    return found


def recipe_document(recipe: Any) -> Any:
    """Return a recipe as plain data for JSON: tables, lists, numbers, text."""
    if is_dataclass(recipe):
        return {item.name: recipe_document(getattr(recipe, item.name)) for item in fields(recipe)}
    return list(recipe) if isinstance(recipe, tuple) else recipe


def differences(old: Mapping, new: Mapping, where: str = "") -> list[str]:
    """Return the dotted keys, with both values, in which two recipe documents differ."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        dotted = f"{where}.{name}" if where else name
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, dotted)
        elif before != after:
            found.append(f"{dotted} was {before!r}, is {after!r}")
    return found


def example_recipe() -> str:
    """Return a recipe in which every setting stands, those with a default commented out."""
    return "".join(_example_table(Recipe, ""))


def _example_table(record: type, where: str) -> list[str]:
    lines = []
    for item in fields(record):
        if "record" not in item.metadata:
            dotted = f"{where}.{item.name}".lstrip(".")
            given = dotted in EXAMPLES
            value = EXAMPLES[dotted] if given else SAMPLES.get(dotted, item.default)
            text = f"{item.name} = {toml_text(value)}"
            unit = f" [{item.metadata['unit']}]" if item.metadata["unit"] else ""
            lines.append(f"{'' if given else '# '}{text}  # {item.metadata['help']}{unit}\n")
    for item in fields(record):
        if "record" in item.metadata:
            dotted = f"{where}.{item.name}".lstrip(".")
            mark = "" if dotted in EXAMPLES else "# "
            lines.append(f"\n{mark}[{dotted}]\n")
            inner = _example_table(item.metadata["record"], dotted)
            lines += inner if not mark else [f"# {line.removeprefix('# ')}" for line in inner]
    return lines


def toml_text(value: Any) -> str:
    """Return a setting as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value!r}"


# Values to show where a setting has no default, or none that TOML can write.
SAMPLES: dict[str, Any] = {
    "model.from_scratch.tokenizer": "tokenizer",
    "sft.data": "sft.jsonl",
    "reward_model.checkpoint": "models/reward",
    "reward_model.function": "mypackage.rewards:score",
    "reward_model.start": "models/base",
    "reward_model.range": (-4.0, 4.0),
    "gold.function": "mypackage.rewards:truth",
    "gold.checkpoint": "models/gold",
    "gold.range": (-4.0, 4.0),
    "evaluation.prompts": "held_out.jsonl",
}
# What the example gives; every other setting stands there as a comment.
EXAMPLES: dict[str, Any] = {
    "model": True,
    "model.checkpoint": "models/base",
    "reward_model": True,
    "reward_model.pairs": "pairs.jsonl",
    "policy": True,
    "policy.prompts": "prompts.jsonl",
    "policy.beta": 0.05,
    "policy.tau": "quantile",
    "policy.steps": 100,
    "evaluation": True,
    "evaluation.every": 25,
    "log": True,
    "output": True,
    "output.folder": "run",
}

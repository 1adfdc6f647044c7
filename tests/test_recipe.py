"""Recipes: what is wrong is named with its place, and the page shows what is accepted."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from taut.errors import UsageError
from taut.training.pipeline.example import example_recipe
from taut.training.pipeline.kinds import section
from taut.training.pipeline.recipe import differences, parse_recipe, read_recipe
from taut.training.pipeline.settings import Recipe

ROOT = Path(__file__).parent.parent
LEAST = {
    "model": {"checkpoint": "base"},
    "reward_model": {"pairs": "pairs.jsonl"},
    "policy": {"prompts": "prompts.jsonl"},
    "output": {"folder": "run"},
}


def with_change(key, value):
    table = {name: dict(inner) for name, inner in LEAST.items()}
    *tables, last = key.split(".")
    inner = table
    for name in tables:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return table


def test_the_least_recipe_is_enough():
    """Everything that is not named has a default."""
    recipe = parse_recipe(LEAST, "/data/recipe.toml")
    assert recipe.policy.tau == "quantile" and recipe.lora is None and recipe.sft is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("policy.bete", 0.1, "unknown key 'policy.bete'; did you mean 'beta'?"),
        ("zebra", 1, "unknown key 'zebra'; known: seed"),
        ("policy.beta", "much", "policy.beta: expected a number above 0, found text 'much'"),
        ("policy.beta", 0, "expected a number above 0, found 0"),
        ("policy.beta", float("nan"), "found nan"),
        ("policy.steps", 2.5, "expected an integer, 1 or more, found 2.5"),
        ("policy.steps", True, "expected an integer, 1 or more, found true"),
        ("policy.tau", -1, 'expected a number of nats above 0, "quantile" or "none", found -1'),
        ("policy.tau", "auto", "found text 'auto'"),
        ("policy.way", "other", 'expected "mixin" or "reward_function"'),
        ("policy.delta", 1.0, "expected a number in (0, 1)"),
        ("policy.rollouts_per_prompt", 1, "an integer, 2 or more, found 1"),
        ("policy", [1], "[policy]: expected a table, found a list [1]"),
        ("reward_model.range", [4, -4], "two numbers, the lower one first"),
        ("reward_model.sizes", [64, 32], "each above 0 and above the one before"),
        ("reward_model.function", "os.system", "as in"),
        ("reward_model.checkpoint", "rm", "found pairs and checkpoint"),
        ("reward_model.units", "gold", "needs [gold]"),
        ("model.from_scratch", {"tokenizer": "t"}, "either `checkpoint` or [model.from_scratch]"),
        ("gold", {"range": [0, 1]}, "either `function` or `checkpoint`"),
        ("gold.function", "m:f", "gold.range: expected two numbers"),
        ("policy.burn_in", 100, "fewer steps than policy.steps"),
        ("policy.iterations", 3, "multiple of policy.iterations = 3"),
        ("log.gold", True, "expected a table [gold]"),
        ("lora", {"stages": ["everything"]}, "each of sft, reward_model, policy"),
        ("seed", -1, "an integer, 0 or more"),
        ("output.folder", "", "the path of a folder, found text ''"),
    ],
)
def test_a_wrong_value_is_named(key, value, said):
    """Each error names the file, the key, what was expected and what was found."""
    with pytest.raises(UsageError) as problem:
        parse_recipe(with_change(key, value), "recipe.toml")
    assert said in str(problem.value) and str(problem.value).startswith("recipe.toml: ")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("policy", "expected a table [policy], found none"),
        ("output", "expected a table [output], found none"),
    ],
)
def test_a_missing_table_is_named(table, said):
    """A recipe without a table that it needs says which."""
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_recipe({name: inner for name, inner in LEAST.items() if name != table})


def test_what_is_no_recipe_is_refused(tmp_path):
    """A missing file and a file that is not TOML are errors in one line."""
    with pytest.raises(UsageError, match="expected a recipe, found No such file"):
        read_recipe(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("seed = = 3", encoding="utf-8")
    with pytest.raises(UsageError, match="expected TOML"):
        read_recipe(path)


def test_paths_are_taken_from_the_recipes_folder(tmp_path):
    """Relative paths mean the recipe's folder; --output means the working folder."""
    path = tmp_path / "recipe.toml"
    path.write_text(example_recipe(), encoding="utf-8")
    recipe = read_recipe(path, changes={"policy.steps": "50", "policy.way": "reward_function"})
    assert recipe.reward_model.pairs == str(tmp_path / "pairs.jsonl")
    assert recipe.output.folder == str(tmp_path / "run")
    assert (recipe.policy.steps, recipe.policy.way) == (50, "reward_function")
    assert read_recipe(path, output="other").output.folder == str(Path("other").absolute())


def test_a_change_of_a_setting_is_checked_like_the_file(tmp_path):
    """--set goes through the same reader."""
    path = tmp_path / "recipe.toml"
    path.write_text(example_recipe(), encoding="utf-8")
    with pytest.raises(UsageError, match=r"policy\.steps: expected an integer"):
        read_recipe(path, changes={"policy.steps": "many"})
    with pytest.raises(UsageError, match="'seed' is a value, not a table"):
        read_recipe(path, changes={"seed": "1", "seed.x": "2"})


def test_every_setting_of_the_example_is_accepted(tmp_path):
    """Each commented line of the example is a setting that its reader takes."""
    table = tomllib.loads(re.sub(r"(?m)^# ", "", example_recipe()))

    def check(record, values):
        assert set(values) == set(record.model_fields)
        for name, field in record.model_fields.items():
            inner = section(field)
            if inner is not None:
                check(inner, values.pop(name))
        # One by one: some exclude each other.
        for name, value in values.items():
            try:
                record.model_validate({name: value}, context={"folder": tmp_path})
            except ValidationError as problem:
                errors = problem.errors()
                assert not [e for e in errors if name in e["loc"]], errors

    check(Recipe, table)


def test_two_recipes_differ_where_they_differ():
    """A changed recipe is described by key, old value and new value."""
    one, two = (parse_recipe(with_change("policy.beta", beta)).model_dump() for beta in (0.1, 0.2))
    assert differences(one, two) == ["policy.beta was 0.1, is 0.2"]
    assert differences(one, one) == []


def test_the_page_shows_what_the_reader_accepts():
    """docs/training-recipe.md is written from the records by docs/training_recipe.py."""
    program = "import runpy; print(runpy.run_path('docs/training_recipe.py')['page'](), end='')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (ROOT / "docs/training-recipe.md").read_text(encoding="utf-8") == done.stdout


def test_reading_a_recipe_needs_no_torch():
    """A wrong recipe is found before the heavy libraries load."""
    read = "import sys, taut.training.pipeline.recipe, taut.cli.train"
    program = f"{read}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

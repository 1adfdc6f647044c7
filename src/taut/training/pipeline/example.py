"""A recipe that shows every setting: `taut train --example`, and the end of the page."""

from typing import Any

from taut.training.pipeline.kinds import Table, section
from taut.training.pipeline.settings import Recipe

# What the example gives; every other setting stands there as a comment.
_GIVEN = {
    "model",
    "model.checkpoint",
    "reward_model",
    "reward_model.pairs",
    "policy",
    "policy.prompts",
    "policy.beta",
    "policy.tau",
    "policy.steps",
    "evaluation",
    "evaluation.every",
    "log",
    "output",
    "output.folder",
}


def example_recipe() -> str:
    """Return a recipe in which every setting stands, those with a default commented out."""
    return "".join(_table(Recipe, ""))


def _table(record: type[Table], where: str) -> list[str]:
    lines, inner = [], []
    for name, field in record.model_fields.items():
        dotted = f"{where}.{name}".lstrip(".")
        given, below = dotted in _GIVEN, section(field)
        if below is None:
            value = toml_text(field.examples[0] if field.examples else field.default)
            note = f"{field.description}{unit_of(field, ' [{}]')}"
            lines.append(f"{'' if given else '# '}{name} = {value}  # {note}\n")
        else:
            mark = "" if given else "# "
            rows = [row.removeprefix(mark) for row in _table(below, dotted)]
            inner += [f"\n{mark}[{dotted}]\n", *(f"{mark}{row}" for row in rows)]
    return lines + inner


def unit_of(field: Any, form: str = "{}") -> str:
    """Return the unit of a setting in a form, or nothing where it has none."""
    unit = (field.json_schema_extra or {}).get("unit")
    return form.format(unit) if unit else ""


def toml_text(value: Any) -> str:
    """Return a setting as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value!r}"

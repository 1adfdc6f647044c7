"""Write docs/api.md: every public name with its signature and its words. `python docs/api.py`."""

import inspect
from pathlib import Path

import taut

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Every public name

Made from the docstrings by `python docs/api.py`.
"""


def entry(name: str) -> str:
    """Return the Markdown of one name."""
    value = getattr(taut, name)
    text = inspect.getdoc(value) or ""
    shown = f"taut.{name}"
    if inspect.isfunction(value):
        shown += _signature(value)
    return f"## {name}\n\n```text\n{shown}\n\n{text}\n```\n"


def _signature(function) -> str:
    names = []
    keyword = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            names.append("*")
            keyword = True
        default = parameter.default
        given = "" if default is parameter.empty else f"={default!r}"
        names.append(f"{parameter.name}{given}")
    return "(\n    " + ",\n    ".join(names) + ",\n)" if len(names) > 3 else f"({', '.join(names)})"


def page() -> str:
    """Return the whole page."""
    names = [name for name in taut.__all__ if name != "__version__"]
    return "\n".join([HEAD, *map(entry, names)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

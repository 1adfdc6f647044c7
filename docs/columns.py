"""Write docs/log.md, the table of native columns, from the schema that the readers check."""

from pathlib import Path

from taut.logs.schema import COLUMNS, EXPECTED

HEAD = """# Columns of a log

One row per rollout, Parquet or JSONL (plain, .gz, .zst); files, globs or folders. `prompt_id` (or
the text of `prompt`) and `reward` are needed; everything else adds to what can be certified.
Unknown columns are ignored, known ones are checked: a row that breaks the table stops the run with
file, row, column and remedy, or is set aside and counted with `--lenient FILE`. Foreign names are
mapped with `--map NAME=dotted.path`; logs of TRL, verl, NeMo-RL and open-instruct need no mapping
([formats](formats.md)).

The unit of sampling is the prompt, with all its rollouts, wherever they stand: step, policy, run
and group never make several draws of one prompt, and equal texts under different ids are one
prompt. Each distinct prompt counts once. `--prompts with-replacement` declares that prompts were
drawn from a population with replacement: then `group` tells their draws apart, and the result is
conditional on that. `--prompts list` says that these prompts themselves are meant, and no
population.

| column | values | unit | meaning |
|---|---|---|---|
"""


def page() -> str:
    """Return the page: head and table."""
    rows = (
        f"| `{column.name}` | {EXPECTED[column.kind]}{', may be null' * column.nullable} "
        f"| {column.unit} | {column.meaning} |\n"
        for column in COLUMNS
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    Path(__file__).with_name("log.md").write_text(page(), encoding="utf-8")

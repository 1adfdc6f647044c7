"""Write docs/log.md, the table of native columns, from the schema that the readers check."""

from pathlib import Path

from taut.logs.schema import COLUMNS, EXPECTED

HEAD = """# Columns of a log

One row per rollout: Parquet, JSON lines (plain, .gz, .zst), JSON arrays and tables, CSV, Arrow and
Feather, what Hugging Face's `save_to_disk` writes; files, globs, folders, or `-` for a pipe.
`prompt_id` (or the text of `prompt`) and `reward` are needed; everything else adds to what can be
certified. Unknown columns are ignored, known ones are checked: a row that breaks the table stops
the run with file, row, column and remedy, or is set aside and counted with `--lenient FILE`. Logs
of TRL, verl, prime-rl and some fifteen others need no mapping ([formats](formats.md)).

A log is read whole or not at all: the rows read are the rows that a file promises, checksums of
pages are verified, and a file that changes while it is read is an error. In a folder, what cannot
hold rollouts is named and passed over; folders such as `step=10/` give the step.

The unit of sampling is the prompt, with all its rollouts, wherever they stand: step, policy, run
and group never make several draws of one prompt, and equal texts under different ids are one
prompt. Each distinct prompt counts once. `--prompts with-replacement` declares that prompts were
drawn from a population with replacement: then `group` tells their draws apart, and the result is
conditional on that. `--prompts list` says that these prompts themselves are meant, and no
population.

## Other names: --map

What is mapped is needed, and wins over what a framework's format would read.

| `--map …` | reads |
|---|---|
| `reward=scores.judge` | a field of an object, by dotted path; a column of that very name first |
| `reward=choices.0.score` | an item of a list, counted from 0 |
| `'reward=1.0*accuracy+0.5*format'` | a weighted sum; a row that lacks a part lacks the reward |
| `'reward=sum(token_rewards)'`, `last(…)`, `mean(…)` | a list of numbers as one |
| `prompt_id=env+task` | several columns that make an id together |
| `step=` | nothing: the column is left out |

`--map-value reward:C=1,I=0` says what texts mean as numbers; `null` stands for no value, as in
`--map-value reward:null=0` for rollouts that failed. True and false, decimals, numbers as text and
steps as text are read without being asked, and a note on stderr says so.

In Python: `taut.read_rollouts(log, mapping={"reward": "scores.judge", "step": ""},
values={"reward": {"C": 1, "I": 0}})`.

## What a log knows about itself

Facts about a log travel in it: the recorder, `taut score` and `taut convert` write them into the
metadata of the Parquet file (`taut.facts`). Beside or above a foreign log a `taut.toml` declares
them; the nearest one counts.

```toml
beta = 0.05                 # reward units per nat
reward_range = [0, 1]       # fixed before the data
gold_range = [0, 1]
held_out = true             # no policy was trained or chosen on these prompts
complete = true             # every rollout that was launched is here
launched_prompts = 1000
rollouts_per_prompt = 4
random_labels = true        # which rollouts are labelled was decided blindly
log_probs = "transformers 5.1, float32"
format = "verl"             # as --format

[map]
reward = "score"            # as --map

[map_value.reward]
C = 1                       # as --map-value
I = 0
```

What a file of ours says is on record, what a `taut.toml` says is declared. An option that
contradicts either is an error. Of several files, the facts on which all agree survive, and a note
names those that do not.

## Native columns

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

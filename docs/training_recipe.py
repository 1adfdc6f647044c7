"""Write docs/training-recipe.md from the settings that the reader checks recipes against."""

from pathlib import Path

from taut.training.pipeline.example import example_recipe, toml_text, unit_of
from taut.training.pipeline.kinds import Table, expected, section
from taut.training.pipeline.settings import Recipe

HEAD = """# Training: `taut train RECIPE.toml`

Two-stage RLHF on TRL with the sequence-level clipped KL, from one TOML file to logs that
`taut audit` certifies. It needs the extra: `pip install '.[train]'`.

```bash
taut train --example > recipe.toml        # every setting, those with a default commented out
taut train recipe.toml
taut train recipe.toml --set policy.steps=50 --output runs/short
torchrun --nproc-per-node 2 -m taut train recipe.toml
```

At the end it prints the means on held-out prompts by step, where everything is, and the commands to
run next, ready to paste: `audit`, `select` and `plan` where gold is known, else `label draw`, since
nothing can be certified before there are labels.

In Python:

```python
import taut

run = taut.train("recipe.toml", changes={"policy.steps": "50"}, output="runs/short")
run.folder, run.table[-1].reward, run.commands
```

## Stages

1. **SFT** (`[sft]`, optional): the loss is on completions alone. Its result, or the given
   checkpoint, is the start of the policy *and* its reference.
2. **Reward model** (`reward_model.pairs`): Bradley-Terry with TRL's RewardTrainer, once for each of
   `sizes` and for all pairs; nested subsets of one shuffled order. Held-out prompts are split in
   two by a hash of seed and prompt: one half *calibrates* (the declared range; in gold units a
   line to gold), the other *measures*. `rm_curve.jsonl` gets one line a size: `m` (pairs), `L`
   (E[(r - r\\*)^2] with both declared ranges mapped to [0, 1]; null without gold) and its
   `standard_error`, `loss` (nats a pair), `accuracy`, and the pairs behind them (`L_pairs`,
   `held_out`). `taut plan --rm-curve` reads it; it needs three sizes and `--coverage`.
3. **Policy**: TRL's RLOO with reward - beta * clip(log-ratio of the sequence, -tau, tau). tau is a
   number, none, or set by the quantile rule on the rollouts of an unclipped burn-in and then frozen
   for a phase; every threshold and its share of clipped rollouts is logged. Clipped rollouts feel
   no penalty, so the end of the run points out where most of them are clipped, and where tau is
   only `policy.floor`. The certificate does not depend on how tau was chosen.

**The range of the reward is fixed before the policy sees a prompt**: from the calibration half, or
declared. It is written to the manifest, and the reward is cut to it everywhere, in training, in the
logs and in the audit, so that `--reward-range` is a fact and not a guess.

## What the folder holds

| name | what |
|---|---|
| `eval/` | rollouts on held-out prompts, at step 0, in between and at the end: certify these |
| `log/` | training rollouts; their prompts were trained on, so they certify nothing |
| `models/` | `start` or `sft` (the reference), `reward`, `policy`, `step-*` (see below) |
| `rm_curve.jsonl` | the learning curve |
| `metrics.jsonl` | what the policy's trainer reported: reward, KL, clip share, tau, ... |
| `manifest.json` | recipe, digests of the data, versions, processes; what each stage found |
| `tensorboard/` | metrics, if `report_to` has it |

`eval/` holds prompts, responses and exact token ids (`evaluation.text`), so that rollouts can be
labelled and scored again, with `evaluation.keep` columns of the file of prompts. Both logs know in
their metadata (`taut.facts`) beta, the ranges, whether their prompts are held out, and what was
launched. A prompt is one draw, whatever steps it recurs at; where `evaluation.prompts` has one
twice, `group` tells which of its rollouts were sampled together, the same number at every step.

`models/step-*` are the weights (or adapters) at each recorded step, so that the checkpoint that
`taut select` chooses is there. "wandb", "trackio" and the others that the trainers know go to
`report_to` likewise; their settings are their own environment variables.

Held-out prompts must not stand in any training data: the run refuses an overlap, unless
`evaluation.overlap = "independent_draws"` says that prompts are independent draws of one source in
which equal ones are chance.

## Stopping and going on

Run the same command again: finished stages are skipped, the others go on from their newest whole
checkpoint. Files appear whole or not at all, and a step that is trained again writes the same file
again, so no rollout is lost or counted twice. On a CPU with the same number of threads the results
are bit for bit those of an unbroken run (tested by killing one at random); on a GPU kernels that
add in varying order can differ in the last digits. A run refuses to go on with another recipe,
other data, other versions of its libraries or another number of processes, and names what changed.
`--fresh` starts again. A run that its data or settings stop before anything is made leaves no
manifest, and the mended recipe just runs.

## What the runner sees to

Dropout is off everywhere (TRL leaves it on for RLOO, and some configs hide it in their attention);
precision is float32 unless asked; gradient checkpointing is off unless asked; sampling defaults of
the checkpoint (top-k, top-p, penalties) do not apply; policy and reference are loaded from one
folder. So the log-ratio is 0 at step 0, up to rounding, and the pre-flight check stops the run
where it is not. Nothing is downloaded; weights are read from safetensors alone; no remote code.

`reward_model.function` and `gold.function` name Python functions as "module:function"; they are
imported from the installed packages and PYTHONPATH and run with your rights, so read a foreign
recipe before running it. They are called as TRL calls reward functions:
`f(prompts=..., completions=..., completion_ids=..., **columns_of_the_prompt_file)`, and return one
finite number a completion.

## Data

JSONL or Parquet. A `prompt` is text, or a conversation (a list of `role` and `content`, to which
the chat template applies). `prompt_id` is optional; without it the text names the prompt.

| file | columns |
|---|---|
| `sft.data` | `prompt`, `completion` |
| `reward_model.pairs` | `prompt`, `chosen`, `rejected`; also `chosen_gold`, `rejected_gold` |
| `policy.prompts`, `evaluation.prompts` | `prompt`; further columns reach reward functions |

## Exit status

0 done; 1 the data or a reward is wrong; 2 the recipe or the request is wrong; 130 interrupted (the
same command goes on).

## Limits

* Full-shard and ZeRO-3 training is refused: the held-out log reads whole weights on each process.
* Several nodes need a folder that all of them see.
* SFT and the reward model checkpoint every 200 steps; a kill before that repeats them.
* Optimiser states in checkpoints are PyTorch files; they are read back with `weights_only` and only
  from the run's own folder.

"""


def page() -> str:
    """Return the page: text, tables of settings, an example."""
    tables = "".join(_tables(Recipe, ""))
    return f"{HEAD}## Settings\n\n{tables}## Example\n\n```toml\n{example_recipe()}```\n"


def _tables(record: type[Table], where: str) -> list[str]:
    name = f"[{where}]" if where else "top level"
    found = [
        f"### {name}\n\n{record.__doc__.splitlines()[0]}\n\n"
        "| key | value | default | unit | meaning |\n|---|---|---|---|---|\n"
    ]
    inner = []
    for name, field in record.model_fields.items():
        below = section(field)
        if below is None:
            cells = (expected(field), _default(field), unit_of(field), field.description)
            found.append(f"| `{name}` | {' | '.join(cells)} |\n")
        else:
            inner += _tables(below, f"{where}.{name}".lstrip("."))
    return [*found, "\n", *inner]


def _default(field) -> str:
    if field.is_required():
        return "required"
    return "" if field.default is None else f"`{toml_text(field.default)}`"


if __name__ == "__main__":
    Path(__file__).with_name("training-recipe.md").write_text(page(), encoding="utf-8")

"""The settings of a training recipe, each with its meaning, its unit and what it may be.

They feed the reader, its error messages, the example and docs/training-recipe.md, so that the page
cannot drift from what is accepted.
"""

from typing import Literal, Self

from pydantic import model_validator

from taut.training.pipeline.kinds import (
    AtLeastEight,
    AtLeastTwo,
    Clip,
    Count,
    Ends,
    File,
    Folder,
    Fraction,
    Function,
    ModelFolder,
    Natural,
    NonNegative,
    Positive,
    Quantile,
    Share,
    Sizes,
    Stages,
    Switch,
    Table,
    Words,
    setting,
)


class FromScratch(Table):
    """A small decoder with random weights, for experiments and tests."""

    tokenizer: Folder = setting(
        "folder of the tokenizer (`tokenizer.json` and its config)", sample="tokenizer"
    )
    hidden: AtLeastEight = setting("width; a multiple of `heads`", default=64)
    layers: Count = setting("number of layers", default=2)
    heads: Count = setting("attention heads", default=4)
    context: AtLeastEight = setting("longest prompt with response", default=512, unit="tokens")


class Model(Table):
    """Where all stages start, and how they compute."""

    checkpoint: ModelFolder | None = setting(
        "model that SFT (or the policy, without `[sft]`) starts from",
        default=None,
        sample="models/base",
    )
    from_scratch: FromScratch | None = None
    precision: Literal["float32", "bfloat16"] = setting(
        "float32, or bfloat16 mixed precision (log-probs then have a noise floor)",
        default="float32",
    )
    device: Literal["auto", "cpu"] = setting("auto takes a GPU where there is one", default="auto")
    gradient_checkpointing: Switch = setting(
        "recompute activations: less memory, about 20% slower", default=False
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.checkpoint is None) == (self.from_scratch is None):
            raise ValueError("[model]: expected either `checkpoint` or [model.from_scratch].")
        if self.from_scratch and self.from_scratch.hidden % self.from_scratch.heads:
            raise ValueError("model.from_scratch.hidden: expected a multiple of `heads`.")
        return self


class Lora(Table):
    """Low-rank adapters in place of full weights."""

    stages: Stages = setting("which stages train adapters", default=("policy",))
    rank: Count = setting("rank of the adapters", default=16)
    alpha: Positive = setting("scale of the adapters", default=32.0)
    modules: Words = setting("names of the adapted layers; empty: all linear ones", default=())


class Sft(Table):
    """Supervised fine-tuning; leave the table out to start from the checkpoint as it is."""

    data: File = setting("rows with `prompt` and `completion`", sample="sft.jsonl")
    epochs: Positive = setting("passes over the data", default=1.0)
    learning_rate: Fraction = setting("peak, then linearly to 0", default=2e-5)
    batch: Count = setting("rows a step, over all processes", default=8)
    max_tokens: AtLeastTwo = setting("longer rows are cut", default=1024, unit="tokens")


class RewardModel(Table):
    """The learned reward: trained on `pairs`, or a given `checkpoint`, or a `function`."""

    pairs: File | None = setting(
        "rows with `prompt`, `chosen`, `rejected`; `chosen_gold` and `rejected_gold` where known",
        default=None,
        sample="pairs.jsonl",
    )
    checkpoint: ModelFolder | None = setting(
        "a trained sequence classifier with one output", default=None, sample="models/reward"
    )
    function: Function | None = setting(
        "called as TRL calls reward functions: prompts, completions, completion_ids, columns",
        default=None,
        sample="mypackage.rewards:score",
    )
    start: ModelFolder | None = setting(
        "model that the reward model starts from; default: that of the policy",
        default=None,
        sample="models/base",
    )
    held_out: Fraction = setting(
        "share of the prompts of `pairs` kept from training: one half calibrates the range, the "
        "other measures loss and L",
        default=0.2,
    )
    sizes: Sizes = setting(
        "pairs at which the learning curve is measured, besides all (a plan needs three sizes)",
        default=(),
    )
    epochs: Positive = setting("passes over the pairs", default=1.0)
    learning_rate: Fraction = setting("peak, then linearly to 0", default=1e-5)
    batch: Count = setting("pairs a step, over all processes", default=8)
    max_tokens: AtLeastTwo = setting(
        "longer texts are cut on the left", default=1024, unit="tokens"
    )
    units: Literal["score", "gold"] = setting(
        "reward = the raw score, or a line fitted to gold on the calibration half",
        default="score",
    )
    range: Ends | None = setting(
        "declared range, beyond which the reward is cut; default: from the calibration half",
        default=None,
        unit="reward units",
        sample=(-4.0, 4.0),
    )
    range_quantile: Quantile = setting(
        "range without `range`: from this quantile of calibration scores to its mirror image, ...",
        default=0.01,
    )
    range_margin: NonNegative = setting(
        "... widened on both sides by this share of its width", default=0.5
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("pairs", "checkpoint", "function") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "[reward_model]: expected exactly one of `pairs`, `checkpoint` and `function`, "
                f"found {' and '.join(given) or 'none'}."
            )
        if self.pairs is None and self.range is None:
            raise ValueError(
                "reward_model.range: expected a range, found nothing; without `pairs` there is no "
                "calibration data to read one from."
            )
        if self.pairs is None and self.units == "gold":
            raise ValueError(
                'reward_model.units: "gold" needs `pairs` with gold to fit the line on.'
            )
        if self.units == "gold" and self.range is not None:
            raise ValueError(
                "reward_model.range: in gold units the range is that of [gold]; leave it out."
            )
        return self


class Gold(Table):
    """The target reward, where it can be computed: it labels the logs and never trains."""

    function: Function | None = setting(
        "called like a reward function", default=None, sample="mypackage.rewards:truth"
    )
    checkpoint: ModelFolder | None = setting(
        "a sequence classifier with one output, taken for the truth",
        default=None,
        sample="models/gold",
    )
    range: Ends = setting(
        "declared range; gold beyond it stops the run", unit="reward units", sample=(-4.0, 4.0)
    )
    share: Share = setting(
        "share of the held-out prompts whose rollouts get gold, drawn blind to outcomes",
        default=1.0,
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.function is None) == (self.checkpoint is None):
            raise ValueError("[gold]: expected either `function` or `checkpoint`.")
        return self


class Policy(Table):
    """RLOO against the reward with the sequence-level clipped KL."""

    prompts: File = setting(
        "rows with `prompt`, and `prompt_id` where there is one", sample="prompts.jsonl"
    )
    beta: Positive = setting("KL strength", default=0.05, unit="reward units per nat")
    tau: Clip = setting(
        'clip threshold of the sequence log-ratio; "quantile": by the rule of theory §7.1',
        default="quantile",
        unit="nats",
    )
    delta: Fraction = setting("error probability in the quantile rule", default=0.05)
    burn_in: Count = setting(
        "unclipped steps that calibrate the first threshold", default=10, unit="steps"
    )
    calibration: Count = setting(
        "the last steps of the burn-in or a phase, which choose", default=5, unit="steps"
    )
    floor: Positive = setting(
        "least threshold that the quantile rule sets",
        default=1.0,
        unit="nats",
    )
    phase: Natural = setting(
        "steps that a threshold from the quantile rule is frozen for; 0: to the end",
        default=0,
        unit="steps",
    )
    way: Literal["mixin", "reward_function"] = setting(
        "clip inside TRL's own reward code, or by its public API with one more forward pass",
        default="mixin",
    )
    steps: Count = setting("optimiser steps", default=100)
    prompts_per_step: Count = setting("prompts a step, over all processes", default=8)
    rollouts_per_prompt: AtLeastTwo = setting("rollouts a prompt (K)", default=4)
    micro_batch: Natural = setting(
        "rollouts in one pass of a process; 0: all of its share", default=0
    )
    iterations: Count = setting("passes over each batch of rollouts", default=1)
    learning_rate: Fraction = setting("peak, of AdamW", default=1e-5)
    schedule: Literal["constant", "linear", "cosine"] = setting(
        "learning rate over the steps", default="constant"
    )
    warmup: Natural = setting("steps up to the peak", default=0, unit="steps")
    max_new_tokens: Count = setting("longest response", default=64, unit="tokens")
    temperature: Positive = setting(
        "of sampling and of all log-probs: the policy is the tempered one",
        default=1.0,
    )
    max_gradient: Positive = setting("gradients are cut at this norm", default=1.0)
    save_every: Count = setting(
        "a run that is killed goes on from such a step", default=50, unit="steps"
    )

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        by_quantile = self.tau == "quantile"
        if by_quantile and self.burn_in >= self.steps:
            raise ValueError(
                f"policy.burn_in: expected fewer steps than policy.steps = {self.steps}, found "
                f"{self.burn_in}; the threshold would never apply."
            )
        shortest = min(self.burn_in, self.phase or self.burn_in)
        if by_quantile and self.calibration > shortest:
            raise ValueError(
                f"policy.calibration: expected at most the {shortest} steps of the burn-in and of "
                f"a phase, found {self.calibration}."
            )
        for name in ("save_every", "burn_in", "calibration", "phase"):
            value = getattr(self, name)
            if value % self.iterations and (name == "save_every" or by_quantile):
                raise ValueError(
                    f"policy.{name}: expected a multiple of policy.iterations = "
                    f"{self.iterations} (a batch of rollouts is used for so many steps), found "
                    f"{value}."
                )
        return self


class Evaluation(Table):
    """Rollouts on held-out prompts: what an audit certifies."""

    prompts: File | None = setting(
        "rows with `prompt`; without it, `share` of the policy's prompts",
        default=None,
        sample="held_out.jsonl",
    )
    share: Fraction = setting("share of the policy's prompts that is held out", default=0.2)
    every: Natural = setting(
        "from step 0 on, and at the end; 0: those two only", default=0, unit="steps", sample=25
    )
    rollouts_per_prompt: Count = setting("rollouts a prompt", default=4)
    batch: Count = setting("rollouts in one pass of a process", default=64)
    features: Switch = setting("also record the input of the reward model's head", default=False)
    text: Switch = setting(
        "also record prompts, responses and token ids, which labels and `taut score` need",
        default=True,
    )
    keep: Words = setting("columns of the file of prompts to record, too", default=())
    models: Switch = setting(
        "keep the weights (or adapters) of each recorded step, to choose from", default=True
    )
    overlap: Literal["refuse", "independent_draws"] = setting(
        "a held-out prompt that also trains: refuse it, or take all prompts for independent draws",
        default="refuse",
    )


class Log(Table):
    """The log of the training rollouts."""

    training: Switch = setting("record them", default=True)
    token_lists: Switch = setting(
        "record the log-probs of each token beside their sums", default=False
    )
    text: Switch = setting("also record prompts, responses and token ids", default=False)
    gold: Switch = setting("label training rollouts with gold, too", default=False)
    every: Count = setting("steps between two reports of metrics", default=10)


class Output(Table):
    """Where everything is written."""

    folder: Folder = setting("one folder a run; made if it is not there", sample="run")


class Recipe(Table):
    """A whole run, from data to logs."""

    seed: Natural = setting("seed of all draws", default=0)
    report_to: Words = setting(
        'where the trainers report metrics, as in ["tensorboard"]', default=()
    )
    model: Model
    lora: Lora | None = None
    sft: Sft | None = None
    reward_model: RewardModel
    gold: Gold | None = None
    policy: Policy
    evaluation: Evaluation = Evaluation()
    log: Log = Log()
    output: Output

    @model_validator(mode="after")
    def _partners(self) -> Self:
        if self.reward_model.units == "gold" and self.gold is None:
            raise ValueError('reward_model.units: "gold" needs [gold] with its range.')
        if self.reward_model.function and self.evaluation.features:
            raise ValueError(
                "evaluation.features: a reward function has no features; leave it out."
            )
        if self.log.gold and self.gold is None:
            raise ValueError("log.gold: expected a table [gold], found none.")
        return self

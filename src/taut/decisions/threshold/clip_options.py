"""Where each trainer lets one set a clip threshold, read from its own sources.

No trainer but taut's clips the log-ratio of the whole sequence; what others clamp is each token's
log-ratio or its k3, by a constant. A token constant c lets a response of T tokens reach T c nats,
so that a sequence threshold must not be written into a token's option as it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClipOption:
    """What one trainer offers.

    Attributes:
        framework, version: What was read: a release, or a commit and its day.
        level: "sequence", "token" or "none": what its option clips.
        line: The line to write, with {tau} and {token} to fill in; None where there is no option.
        statement: What it does clip, and where that stands in its source.
    """

    framework: str
    version: str
    level: str
    line: str | None
    statement: str


OPTIONS = (
    ClipOption(
        "taut train",
        "this release",
        "sequence",
        "tau = {tau}",
        "in the [policy] table of the recipe: clips the whole sequence, both sides",
    ),
    ClipOption(
        "TRL",
        "1.16.0",
        "none",
        None,
        "no option: RLOO takes the unclipped sum, GRPO an unclipped k3 per token "
        "(kl_log_ratio_clip, pull request 6637, is not in it, and bounds tokens). RLOO with the "
        "mixin of taut.training clips the sequence",
    ),
    ClipOption(
        "verl",
        "0.9.1",
        "none",
        None,
        "no option: k1 is unclipped; k3 clamps each token's input at 20 and output at 10 nats, "
        "constants in kl_penalty_forward",
    ),
    ClipOption(
        "OpenRLHF",
        "0.11.2",
        "none",
        None,
        "no option: each token's k1, k2 or k3 is clamped at 10, a constant in compute_approx_kl",
    ),
    ClipOption(
        "NeMo-RL",
        "0.7.0",
        "token",
        "loss_fn.kl_input_clamp_value={token}",
        "per token only: kl_input_clamp_value (20) bounds the log-ratio, kl_output_clamp_value "
        "(10) its estimate; null switches one off",
    ),
    ClipOption(
        "open-instruct",
        "commit e6c3044, 2026-08-20",
        "none",
        None,
        "no option: each token's log-ratio is clamped at 40, a constant in grpo_utils.py",
    ),
    ClipOption(
        "tinker-cookbook",
        "0.6.1",
        "none",
        None,
        "no option: incorporate_kl_penalty adds unclipped, centred token log-ratios to advantages",
    ),
)

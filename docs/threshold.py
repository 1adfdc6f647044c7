"""Write the arena section of docs/threshold.md: where to clip on a real log, and what ±10 does.

    python docs/threshold.py FOLDER

FOLDER is a copy of the arena sample of the public repository cimo-labs/cje (MIT licence).
"""

import sys
from pathlib import Path

import taut

BETA = 0.005
REFERENCES = ("parallel_universe_prompt", "unhelpful")
BEGIN, END = "<!-- arena: begin -->", "<!-- arena: end -->"


def logged(folder: Path, reference: str) -> taut.Rollouts:
    """Rows of the policy base, with its own log-probs and those of a reference."""
    return taut.read_rollouts(
        folder / "logged_data.jsonl",
        mapping={
            "prompt_id": "metadata.prompt_id",
            "reward": "judge_score",
            "policy_logprob": "base_policy_logprob",
            "ref_logprob": f"target_policy_logprobs.{reference}",
        },
    )


def section(folder: Path) -> str:
    """Return the tables and what they say."""
    found = {
        name: taut.clip_threshold(logged(folder, name), beta=BETA, reward_range=(0.0, 1.0))
        for name in REFERENCES
    }
    lines = [
        "| reference | chosen τ, τ₋ | ± there | one constant | ± there | paper's τ\\*, α | "
        "paper's bound there |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    for name, item in found.items():
        lines.append(
            f"| {name} | {item.tau:.4g}, {item.tau_negative:.3g} | {item.chosen.total:.4f} "
            f"| {item.symmetric.tau:.4g} | {item.symmetric.total:.4f} "
            f"| {item.paper.tau:.4g}, {item.paper.alpha:.3f} | {item.at_paper.paper_total:.4f} |"
        )
    lines += [
        "",
        "| reference | clip at | above | below | bias, reward units | ± sampling and clipping |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, item in found.items():
        lines += [
            f"| {name} | ±{clip.constant:g} | {clip.share_above:.1%} | {clip.share_below:.1%} "
            f"| {clip.bias:+.4f} | {clip.point.total:.4f} |"
            for clip in item.sequence
        ]
    lines += ["", *(f"* {_verdict(name, item)}" for name, item in found.items())]
    return "\n".join(lines)


def _verdict(name: str, item) -> str:
    ten = next(clip for clip in item.sequence if clip.constant == 10)
    clipped = ten.share_above + ten.share_below
    sound = "" if item.log_probs_sound else "; E e^(−ℓ) is above 1 beyond chance here"
    return (
        f"Against *{name}*, ±10 on the sequence would clip {clipped:.1%} of the rollouts, leave "
        f"{abs(ten.bias):.4f} reward units of KL cost out, and the interval would be "
        f"{ten.point.total / item.chosen.total:.1f} times as wide as at the chosen τ{sound}."
    )


def main(folder: Path) -> None:
    """Write the section between its markers."""
    page = Path(__file__).with_suffix(".md")
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n\n{section(folder)}\n\n{END}{after}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

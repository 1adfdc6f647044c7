"""Write the arena part of docs/threshold.md: where to clip a real log, and what ±10 would do.

    python docs/threshold.py FOLDER

FOLDER is a copy of the arena sample of the public repository cimo-labs/cje (MIT licence):
logged_data.jsonl, fresh_draws/ and probe_slice/.
"""

import sys
from pathlib import Path

import taut
from taut.report.door import report_text

PAGE = Path(__file__).with_name("threshold.md")
BEGIN, END = "<!-- arena: begin -->", "<!-- arena: end -->"
BETA = 0.005
REFERENCES = ("parallel_universe_prompt", "unhelpful")


def log_against(folder: Path, reference: str) -> taut.Rollouts:
    """The rows of the policy base, with the log-probs of base and of a reference."""
    return taut.read_rollouts(
        folder / "logged_data.jsonl",
        mapping={
            "prompt_id": "metadata.prompt_id",
            "reward": "judge_score",
            "gold": "oracle_label",
            "policy_logprob": "base_policy_logprob",
            "ref_logprob": f"target_policy_logprobs.{reference}",
        },
    )


def audited(log: taut.Rollouts, tau: float | str) -> str:
    """The audit's interval for the learned objective, and the KL cost that clipping leaves out."""
    found = taut.audit(log, target="objective", beta=BETA, reward_range=(0, 1), tau=tau)
    interval = found.targets["objective"].proxy
    half = (interval.upper - interval.lower) / 2
    hidden = BETA * (found.measured.kl - found.measured.clipped_kl)
    ends = f"[{interval.lower:.3f}, {interval.upper:.3f}], ±{half:.4f}"
    return f"{ends} | {max(hidden, 0.0):.4f}"


def comparison(folder: Path) -> list[str]:
    """What was forecast for each threshold, and what an audit of the certifying prompts found."""
    lines = [
        "| reference | clip at | clipped | forecast sampling | clipping | together | audited "
        "| KL cost left out |",
        "|---|---|---:|---:|---:|---:|---|---:|",
    ]
    for reference in REFERENCES:
        log = log_against(folder, reference)
        found = taut.clip_threshold(log, beta=BETA, reward_range=(0, 1))
        ten = next(item for item in found.sequence if item.constant == 10)
        chosen, point = found.chosen, ten.point
        shares = (_clipped(log, found.tau, found.tau_negative), _clipped(log, 10.0, 10.0))
        names = (f"+{found.tau:.4g}, −{found.tau_negative:.4g} (chosen)", "±10")
        for name, share, at, tau in zip(
            names, shares, (chosen, point), ("auto", 10.0), strict=True
        ):
            lines.append(
                f"| {reference} | {name} | {100 * share:.1f}% | ±{at.sampling:.4f} | "
                f"±{at.clipping:.4f} | ±{at.total:.4f} | {audited(log, tau)} |"
            )
    return lines


def _clipped(log: taut.Rollouts, tau: float, tau_negative: float) -> float:
    return float(((log.log_ratio > tau) | (log.log_ratio < -tau_negative)).mean())


def arena(folder: Path) -> str:
    """Return the arena part, and draw its picture."""
    unhelpful = taut.clip_threshold(
        log_against(folder, "unhelpful"), beta=BETA, reward_range=(0, 1)
    )
    unhelpful.save(PAGE.with_suffix(".svg"))
    whole = report_text(unhelpful, width=92).split("\n\n")
    cut = next(at for at, part in enumerate(whole) if "Where to write it" in part)
    return "\n".join(
        [
            "",
            *comparison(folder),
            "",
            "For *unhelpful*:",
            "",
            "```text",
            "\n\n".join(whole[:cut]),
            "```",
            "",
            "![Sampling and clipping error over τ](threshold.svg)",
            "",
        ]
    )


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    made = arena(Path(sys.argv[1]))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")

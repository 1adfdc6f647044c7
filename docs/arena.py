"""Write docs/arena.md: what taut says about a real log with few labels.

    python docs/arena.py FOLDER

FOLDER is a copy of the arena sample of the public repository cimo-labs/cje (MIT licence):
logged_data.jsonl, fresh_draws/ and probe_slice/.
"""

import json
import sys
import tempfile
from pathlib import Path

import taut

HEAD = """# A real log: the arena sample

Chatbot-Arena prompts answered by Llama policies, scored by a cheap judge (`judge_score`) and on
some rows by a strong one (`oracle_label`, the gold reward). `python docs/arena.py FOLDER` makes
this page.
"""


def rows(path: Path) -> list[dict]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def logged(folder: Path, policy: str) -> taut.Rollouts:
    """Rows of the policy base, with the log-probs of base and of another policy."""
    return taut.read_rollouts(
        folder / "logged_data.jsonl",
        mapping={
            "prompt_id": "metadata.prompt_id",
            "reward": "judge_score",
            "gold": "oracle_label",
            "behaviour_logprob": "base_policy_logprob",
            "policy_logprob": f"target_policy_logprobs.{policy}",
        },
    )


def fresh_with_probe(folder: Path, scratch: Path) -> taut.Rollouts:
    """Fresh draws of parallel_universe_prompt, with the 50 gold labels of its probe."""
    probe = folder / "probe_slice/parallel_universe_prompt_probe.jsonl"
    labels = {row["prompt_id"]: row["oracle_label"] for row in rows(probe)}
    fresh = rows(folder / "fresh_draws/parallel_universe_prompt_responses.jsonl")
    path = scratch / "fresh.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "prompt_id": row["prompt_id"],
                    "reward": row["judge_score"],
                    "gold": labels.get(row["prompt_id"]),
                }
            )
            + "\n"
            for row in fresh
        ),
        encoding="utf-8",
    )
    return taut.read_rollouts(path)


def objective_table(folder: Path) -> str:
    """The policy base under a KL leash to three references."""
    lines = [
        "\n## base against a reference: J* at β = 0.005, 480 gold labels\n",
        "| reference | measured | objective | clipped objective | reward | E e^(−ℓ) | paper's "
        "sampling ± | ours ± |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("clone", "parallel_universe_prompt", "unhelpful"):
        log = taut.read_rollouts(
            folder / "logged_data.jsonl",
            mapping={
                "prompt_id": "metadata.prompt_id",
                "reward": "judge_score",
                "gold": "oracle_label",
                "policy_logprob": "base_policy_logprob",
                "ref_logprob": f"target_policy_logprobs.{name}",
            },
        )
        found = taut.audit(log, beta=0.005, reward_range=(0, 1))
        cells = [f"{found.measured.objective:.3f}"]
        for target in ("objective", "clipped", "reward"):
            item = found.targets[target]
            cells.append(f"[{item.lower:.3f}, {item.upper:.3f}] {item.status}")
        sampling = found.targets["clipped"].proxy
        cells += [
            f"{found.log_ratio.mean_exp_minus:.3g}",
            f"{found.paper.sampling:.3f}",
            f"{(sampling.upper - sampling.lower) / 2:.3f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append(
        "\nE e^(−ℓ) is at most 1 for honest log-probs. Against parallel_universe_prompt it is far "
        "above, beyond chance: about a fifth of this log's log-probs are suspiciously near 0. taut "
        "then calls the objective estimated; the reward and the clipped objective do not rest on "
        "that inequality."
    )
    return "\n".join(lines)


def routes_table(folder: Path, name: str, audited: taut.Rollouts, only: tuple = ()) -> str:
    """Every route to E r* of parallel_universe_prompt from the rows that base made."""
    found = taut.audit(
        audited, target="reward", reward_range=(0, 1), reward_data=logged(folder, name)
    )
    coverage = found.coverage
    lines = [
        f"\n### Weights of {name}\n",
        f"Mean weight {coverage['mean']:.3g} (1 if covered), effective sample size "
        f"{coverage['effective_sample_size']:.3g} of {coverage['draws']} draws, largest weight "
        f"{100 * coverage['largest_share']:.0f}% of the sum, plug-in C "
        f"{coverage['plug_in_coverage']:.3g}, covered mass at M = 3 in "
        f"[{coverage['covered_mass']['lower']:.3f}, {coverage['covered_mass']['upper']:.3f}].\n",
        "| route | E r* | status | |",
        "|---|---|---|---|",
    ]
    for item in found.main.routes:
        if only and item.route not in only:
            continue
        interval = "–" if item.lower is None else f"[{item.lower:.3f}, {item.upper:.3f}]"
        reason = "" if only else item.reason or "taken"
        lines.append(f"| {item.route} | {interval} | {item.status or 'not open'} | {reason} |")
    return "\n".join(lines)


def page(folder: Path) -> str:
    """Return the whole page."""
    with tempfile.TemporaryDirectory() as scratch:
        audited = fresh_with_probe(folder, Path(scratch))
    return "\n".join(
        [
            HEAD,
            objective_table(folder),
            "\n## parallel_universe_prompt: from its own rollouts, or from those of base\n",
            "1,000 fresh draws with 50 gold labels on-policy; reward data are the 1,000 rows of "
            "base, 480 of them with gold. Reward data and fresh draws answer the same prompts, so "
            "draws of one prompt share a block.",
            routes_table(folder, "parallel_universe_prompt", audited),
            "\nThe weights contradict themselves: their mean is above 1 beyond chance, so every "
            "density route is refused. The 50 labels give an interval that needs no weights.",
            "\n### What plug-in coverage would have claimed\n",
            "For the policy *unhelpful* the sampled weights have mean 0.004 and the plug-in C √L "
            "is .011, where the true shift is .133: a false certificate. With these weights the "
            "certified routes say nothing, as they must:",
            routes_table(folder, "unhelpful", audited, only=("truncated", "importance")),
            "",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_name("arena.md").write_text(page(Path(sys.argv[1])), encoding="utf-8")

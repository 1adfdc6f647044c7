"""What an audit says of a run whose truth is known, and whether it was right.

Audit and choice see the log alone. The truth comes in afterwards, to judge them. No torch here: the
bundled example is judged by the same code on the core install.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from taut.auditing.audit import audit, audit_by
from taut.auditing.certificate import Certificate, Target
from taut.decisions.selection.select import Selection, select
from taut.draws.rollouts import Rollouts
from taut.version import __version__

SCHEMA = "taut.lab/1"
TRUTH_SCHEMA = "taut.lab-truth/1"
# The first two are certified here; J* is an estimate, since no largest log-ratio is declared.
TARGETS = {"reward": "gold", "clipped": "clipped", "objective": "objective"}
# The bundled example: the log of a standard run, and its truth.
EXAMPLE_LOG, EXAMPLE_TRUTH = "goodhart.parquet", "goodhart.truth.json"


def judge(rollouts: Rollouts, truth: Mapping) -> dict:
    """Audit all checkpoints of a log, choose one, and compare with the truth.

    Args:
        rollouts: The audited log, gold on a random subset of the prompts.
        truth: The document `taut.lab-truth/1`.

    Returns:
        The outcome as plain data, schema `taut.lab/1`; rewards in reward units.
    """
    settings = truth["settings"]
    declared = _audit_settings(settings)
    certificates = audit_by(rollouts, "step", target="reward", **declared)
    known = {row["step"]: row for row in truth["steps"]}
    steps = [_step(step, certificates[step], known[step]) for step in sorted(certificates)]
    chosen = select(rollouts, "step", target="reward", **declared)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "level": 1 - settings["delta"],
        "settings": dict(settings),
        "reward_model": truth.get("reward_model"),
        "steps": steps,
        "turn": _turn(steps),
        "covered": {name: all(row["covered"][name] for row in steps) for name in TARGETS},
        "shift_correlation": _shift_correlation(steps),
        "selection": _choice(chosen, steps),
        "examples": [row["example"] | {"step": row["step"]} for row in truth["steps"]],
    }


def demonstrate(folder: Path) -> dict:
    """Judge the bundled example, with a whole audit of its last checkpoint under `audit`.

    Args:
        folder: Where the example's log and truth are.
    """
    from taut.engines.local import read_rollouts

    truth = json.loads((folder / EXAMPLE_TRUTH).read_text(encoding="utf-8"))
    rollouts = read_rollouts(folder / EXAMPLE_LOG)
    last = rollouts.take(rollouts.step == rollouts.step.max())
    settings = _audit_settings(truth["settings"])
    certificate = audit(last, **settings, target="clipped")
    return judge(rollouts, truth) | {"audit": certificate.document}


def _audit_settings(settings: Mapping) -> dict:
    """Return what is declared to the audit: all of it fixed before the audited prompts."""
    return {
        "beta": settings["beta"],
        "tau": settings["tau"],
        "reward_range": tuple(settings["reward_range"]),
        "held_out": True,
        "delta": settings["delta"],
    }


def _step(step: int, certificate: Certificate, known: Mapping) -> dict:
    ends = {name: certificate.targets[name] for name in TARGETS}
    shift = certificate.terms.reward_shift  # the target is the reward, so this is E[r* - r]
    return {
        "step": step,
        "proxy": certificate.measured.reward,
        "kl": known["kl"],
        "certificates": {
            name: {"lower": found.lower, "upper": found.upper, "status": str(found.status)}
            for name, found in ends.items()
        },
        "shift": {"lower": shift.lower, "upper": shift.upper},
        "truth": {
            name: known[name]
            for name in ("gold", "gold_se", "proxy", "proxy_se", "error", "error_se", "clipped",
                         "clipped_se", "objective", "objective_se")
        },
        "covered": {name: _holds(ends[name], known[key]) for name, key in TARGETS.items()},
    }  # fmt: skip


def _holds(found: Target, value: float) -> bool:
    """Say whether a certificate holds the truth; an end that nothing bounds is None."""
    above = found.lower is None or found.lower <= value
    return above and (found.upper is None or value <= found.upper)


def _turn(steps: list[dict]) -> dict:
    """Where the truth peaks, and how far it has fallen by the end while the proxy rose."""
    best = max(steps, key=lambda row: row["truth"]["gold"])
    first, last = steps[0], steps[-1]
    return {
        "step": best["step"],
        "gold": best["truth"]["gold"],
        "fall": best["truth"]["gold"] - last["truth"]["gold"],
        "fall_se": float(np.hypot(best["truth"]["gold_se"], last["truth"]["gold_se"])),
        "proxy_rise": last["truth"]["proxy"] - first["truth"]["proxy"],
        "seen_from": _seen_from(steps),
    }


def _seen_from(steps: list[dict]) -> int | None:
    """First checkpoint from which on each certified upper end is below the learned reward."""
    found = None
    for row in reversed(steps):
        if row["certificates"]["reward"]["upper"] >= row["proxy"]:
            break
        found = row["step"]
    return found


def _shift_correlation(steps: list[dict]) -> float | None:
    """Correlation over checkpoints of the measured shift term with the true E[r* - r]."""
    measured = [(row["shift"]["lower"] + row["shift"]["upper"]) / 2 for row in steps]
    true = [row["truth"]["error"] for row in steps]
    if len(steps) < 3 or not (np.ptp(measured) > 0 and np.ptp(true) > 0):
        return None
    return float(np.corrcoef(measured, true)[0, 1])


def _choice(found: Selection, steps: list[dict]) -> dict:
    """What `select` chose, what it said of that choice, and what it really lost."""
    true = {row["step"]: row["truth"]["gold"] for row in steps}
    best = max(true.values())

    def lost(step: int | str | None) -> float | None:
        return None if step is None else best - true[step]

    return {
        "chosen": found.chosen,
        "remaining": list(found.remaining),
        "certified_regret": found.regret,
        "regret": lost(found.chosen),
        "best_proxy": found.best_proxy,
        "best_proxy_regret": lost(found.best_proxy),
        "last_regret": lost(steps[-1]["step"]),
        "over_optimised": found.document["over_optimised"],
        "best_kept": any(true[step] == best for step in found.remaining),
    }


def draw(document: Mapping) -> Callable:
    """Return a function that draws the outcome on matplotlib axes, for `save_plot`."""
    from taut.report.plot import ACCENT, INK, QUIET, WARM

    rows = document["steps"]
    across = [row["step"] for row in rows]

    def on(axes) -> None:
        ends = [row["certificates"]["reward"] for row in rows]
        lower, upper = ([end[side] for end in ends] for side in ("lower", "upper"))
        axes.fill_between(across, lower, upper, color=ACCENT, alpha=0.18, linewidth=0)
        axes.vlines(across, lower, upper, color=ACCENT, linewidth=2, label="certificate of E r*")
        axes.plot(
            across,
            [row["proxy"] for row in rows],
            color=WARM,
            marker="o",
            markersize=4,
            label="learned reward",
        )
        axes.plot(
            across,
            [row["truth"]["gold"] for row in rows],
            color=INK,
            marker="o",
            markersize=4,
            label="true reward",
        )
        chosen = document["selection"]["chosen"]
        if chosen is not None:
            axes.axvline(chosen, color=QUIET, linestyle=":", label="chosen by taut select")
        axes.set_xlabel("optimisation step")
        axes.set_ylabel("mean reward")
        axes.set_ylim(0, 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4, fontsize=8)

    return on  # fmt: skip

"""What an audit says of a run whose truth is known, and whether it was right.

Audit and choice see the log alone. The truth comes in afterwards, to judge them. No torch here: the
bundled example is judged by the same code on the core install.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taut.auditing.audit import audit
from taut.auditing.by import audit_by
from taut.auditing.certificate import Certificate, Target
from taut.decisions.selection.select import Selection, select
from taut.draws.rollouts import Rollouts
from taut.lab.outcome import Certified, Choice, Ends, Example, Outcome, Step, Truth, Turn
from taut.version import __version__

TRUTH_SCHEMA = "taut.lab-truth/1"
# The first two are certified here; J* is an estimate, since no largest log-ratio is declared.
TARGETS = {"reward": "gold", "clipped": "clipped", "objective": "objective"}
# The bundled example: the log of a standard run, and its truth.
EXAMPLE_LOG, EXAMPLE_TRUTH = "goodhart.parquet", "goodhart.truth.json"


def judge(rollouts: Rollouts, truth: Mapping) -> Outcome:
    """Audit all checkpoints of a log, choose one, and compare with the truth.

    Args:
        rollouts: The audited log, gold on a random subset of the prompts.
        truth: The document `taut.lab-truth/1`.

    Returns:
        The outcome; rewards in reward units.
    """
    settings = truth["settings"]
    declared = _audit_settings(settings)
    certificates = audit_by(rollouts, "step", target="reward", **declared)
    known = {row["step"]: row for row in truth["steps"]}
    steps = [_step(step, certificates[step], known[step]) for step in sorted(certificates)]
    chosen = select(rollouts, "step", target="reward", **declared)
    return Outcome(
        version=__version__,
        level=1 - settings["delta"],
        settings=dict(settings),
        reward_model=truth.get("reward_model"),
        steps=steps,
        turn=_turn(steps),
        covered={name: all(row.covered[name] for row in steps) for name in TARGETS},
        shift_correlation=_shift_correlation(steps),
        selection=_choice(chosen, steps),
        examples=[Example(**row["example"], step=row["step"]) for row in truth["steps"]],
    )


def demonstrate(folder: Path) -> Outcome:
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
    return judge(rollouts, truth).model_copy(update={"audit": certificate})


def _audit_settings(settings: Mapping) -> dict:
    """Return what is declared to the audit: all of it fixed before the audited prompts."""
    return {
        "beta": settings["beta"],
        "tau": settings["tau"],
        "reward_range": tuple(settings["reward_range"]),
        "held_out": True,
        "delta": settings["delta"],
    }


def _step(step: int, certificate: Certificate, known: Mapping) -> Step:
    ends = {name: certificate.targets[name] for name in TARGETS}
    shift = certificate.terms.reward_shift  # the target is the reward: this is E[r* - r]
    return Step(
        step=step,
        proxy=certificate.measured.reward,
        kl=known["kl"],
        certificates={
            name: Certified(lower=found.lower, upper=found.upper, status=str(found.status))
            for name, found in ends.items()
        },
        shift=Ends(lower=shift.lower, upper=shift.upper),
        truth=Truth(**{name: known[name] for name in Truth.model_fields}),
        covered={name: _holds(ends[name], known[key]) for name, key in TARGETS.items()},
    )


def _holds(found: Target, value: float) -> bool:
    """Say whether a certificate holds the truth; an end that nothing bounds is None."""
    above = found.lower is None or found.lower <= value
    return above and (found.upper is None or value <= found.upper)


def _turn(steps: list[Step]) -> Turn:
    best = max(steps, key=lambda row: row.truth.gold)
    first, last = steps[0], steps[-1]
    return Turn(
        step=best.step,
        gold=best.truth.gold,
        fall=best.truth.gold - last.truth.gold,
        fall_se=float(np.hypot(best.truth.gold_se, last.truth.gold_se)),
        proxy_rise=last.truth.proxy - first.truth.proxy,
        seen_from=_seen_from(steps),
    )


def _seen_from(steps: list[Step]) -> int | None:
    found = None
    for row in reversed(steps):
        if row.certificates["reward"].upper >= row.proxy:
            break
        found = row.step
    return found


def _shift_correlation(steps: list[Step]) -> float | None:
    measured = [(row.shift.lower + row.shift.upper) / 2 for row in steps]
    true = [row.truth.error for row in steps]
    if len(steps) < 3 or not (np.ptp(measured) > 0 and np.ptp(true) > 0):
        return None
    return float(np.corrcoef(measured, true)[0, 1])


def _choice(found: Selection, steps: list[Step]) -> Choice:
    true = {row.step: row.truth.gold for row in steps}
    best = max(true.values())

    def lost(step: int | str | None) -> float | None:
        return None if step is None else best - true[step]

    return Choice(
        chosen=found.chosen,
        remaining=found.remaining,
        certified_regret=found.regret,
        regret=lost(found.chosen),
        best_proxy=found.best_proxy,
        best_proxy_regret=lost(found.best_proxy),
        last_regret=lost(steps[-1].step),
        over_optimised=found.document["over_optimised"],
        best_kept=any(true[step] == best for step in found.remaining),
    )

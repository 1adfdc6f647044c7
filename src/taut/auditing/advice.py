"""The one thing that would tighten a certificate most."""

import math

from taut.auditing.certificate import Advice
from taut.auditing.compose import TargetCertificate
from taut.auditing.prepare import Prepared
from taut.types import Status


def advise(ready: Prepared, main: TargetCertificate) -> Advice:
    """Name the one thing that would tighten the certificate most."""
    options, terms = ready.options, main.terms
    if terms.reward_shift.status is Status.VACUOUS:
        return Advice(
            text="Label a random subset of these rollouts with the true reward (100 prompts are "
            "a start) in a column `gold`: nothing else ties the learned reward to the true one.",
            lower_gain=None,
        )
    if not ready.design.units.reward_declared:
        return Advice(
            text="Declare --reward-range LOW HIGH, fixed before the data: a range read off the "
            "log turns the certificate into an estimate.",
            lower_gain=None,
        )
    if terms.sampling.status is Status.ESTIMATED:
        return Advice(
            text="Audit each policy on fresh prompts that it was not trained on (--by step, "
            "--declare held-out where the prompts were kept out of training). If the policies were "
            "fixed before these prompts were seen, taut select bounds all of them at once and pays "
            "for choosing; nothing here pays for training on them.",
            lower_gain=None,
        )
    if options.log_ratio_max is None and terms.kl_clipping.status is Status.ESTIMATED:
        return Advice(
            text="Declare --log-ratio-max NATS where the log-ratio has a known maximum, or "
            "certify the objective that was optimised with --target clipped: without either "
            "the positive tail of the log-ratio can only be estimated.",
            lower_gain=None,
        )
    return _more_data(ready, main)


def _more_data(ready: Prepared, main: TargetCertificate) -> Advice:
    """Say what twice as many labels or prompts would bring: the half-width falls as 1/sqrt."""
    shift, sampling = main.terms.reward_shift, main.terms.sampling
    draws = len(ready.design.blocks)
    labelled = 0 if ready.design.labels is None else ready.design.labels.draws
    gold = shift.source in ("theory §3.6", "theory §2.4b")  # labels, in blocks or alone
    if sampling.lower is None or shift.lower is None:
        by_labels, width = True, main.upper - main.lower
    else:
        by_labels = shift.upper - shift.lower >= sampling.upper - sampling.lower
        scarce = shift if gold and by_labels and labelled < draws else sampling
        width = scarce.upper - scarce.lower
    scarce = gold and by_labels and labelled < draws
    gain = (1 - math.sqrt(0.5)) * width / 2
    what, count = ("gold labels", labelled) if scarce else ("prompts", draws)
    return Advice(
        text=f"Twice as many {what} ({2 * count} prompts) would raise the lower end by about "
        f"{gain:.2g} (a forecast).",
        lower_gain=gain,
    )

"""Single lines of the reports: counts of a log, settings, the δ ledger, diagnostics, health.

Only text is made here, from the result; no statistic and no colour.
"""

from collections.abc import Sequence

from taut.auditing.certificate import (
    Certificate,
    Coverage,
    LedgerEntry,
    Log,
    LogRatio,
    PerPrompt,
    Settings,
    TokenClipping,
)
from taut.decisions.transport.result import Transport
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.report.digits import count, decimals_for, interval, percent, short
from taut.report.names import CHECK_NAMES, ROUTE_NAMES
from taut.report.wording import ends


def route_name(route: str | None) -> str:
    """Return a route in words."""
    return "" if route is None else ROUTE_NAMES.get(route, route.replace("_", " "))


def check_name(check: Check) -> str:
    """Return the name of a health check in words."""
    return CHECK_NAMES.get(check.check, check.check.replace("_", " "))


def settings_text(found: Certificate) -> str:
    """Return the settings in one line."""
    settings = found.settings
    parts = [] if settings.beta is None else [f"β {short(settings.beta)} reward units a nat"]
    parts += _threshold_parts(settings)
    low, high = settings.reward_range
    parts.append(f"rewards {short(low)} to {short(high)} ({settings.reward_range_source})")
    parts.append(route_name(settings.method))
    if found.log.certifying_prompts != found.log.prompts and settings.calibration_share:
        parts.append(f"{100 * settings.calibration_share:.3g}% of prompts calibrate")
    return " · ".join([*parts, f"seed {settings.seed}", f"taut {found.version}"])


def _threshold_parts(settings: Settings) -> list[str]:
    if settings.tau is None:
        return []
    text, negative = f"τ {short(settings.tau)} nats", settings.tau_negative
    if negative is not None and negative != settings.tau:
        text = f"τ −{short(negative)} and +{short(settings.tau)} nats"
    return [f"{text} ({settings.tau_source})" if settings.tau_source else text]


def estimand_text(log: Log) -> str:
    """Say what is averaged, where a log holds several steps, policies or runs."""
    return (
        f"About the average over {count(log.prompts, 'prompt')}: each counts once, with all its "
        f"rollouts at {log.cells} steps, policies and runs."
    )


def log_text(log: Log) -> str:
    """Return what was read, in one line."""
    return counts_text(
        log.rollouts,
        log.prompts,
        certifying=log.certifying_prompts,
        per_prompt=log.rollouts_per_prompt,
        steps=log.steps,
        gold=log.gold_rollouts,
        rejected=log.rejected_rows,
    )


def counts_text(
    rollouts: int,
    prompts: int,
    *,
    certifying: int | None = None,
    per_prompt: PerPrompt | None = None,
    steps: int | None = None,
    gold: int | None = None,
    rejected: int = 0,
) -> str:
    """Return the counts of a log in one line; those that are not known are left out."""
    text = f"{count(rollouts, 'rollout')} of {count(prompts, 'prompt')}"
    parts = [text if certifying is None else f"{text} ({certifying:,} certify)"]
    if per_prompt is not None:
        least, most = per_prompt.min, per_prompt.max
        parts.append(f"{least} a prompt" if least == most else f"{least} to {most} a prompt")
    if steps is not None and steps > 1:
        parts.append(count(steps, "step"))
    if gold is not None:
        parts.append(count(gold, "gold label") if gold else "no gold labels")
    if rejected:
        parts.append(f"{count(rejected, 'row')} rejected")
    return " · ".join(parts)


def sensitivity_text(found: Certificate) -> str:
    """Return what the certificate would be under noise of the log-probs that nobody declared."""
    parts = []
    for item in found.sensitivity:
        if item.lower is not None and item.upper is not None:
            digits = decimals_for(item.upper - item.lower)
            ends = interval(item.lower, item.upper, digits)
            parts.append(f"{ends} if log-probs are {short(item.noise)} nats off")
    return " · ".join(parts)


def coverage_text(coverage: Coverage) -> str:
    """Return what the weights of the reward data look like: estimates, none of them a bound."""
    parts = []
    if coverage.effective_sample_size is not None:
        worth = short(coverage.effective_sample_size)
        parts.append(f"weights worth {worth} of {coverage.draws} draws")
    if coverage.largest_share is not None:
        parts.append(f"largest {percent(coverage.largest_share)} of the sum")
    if coverage.mean is not None:
        parts.append(f"mean {short(coverage.mean)}, 1 if covered")
    tail = coverage.pareto_k
    parts.append("tail tied" if tail is None else f"Pareto shape {short(tail)}")
    mass = coverage.covered_mass
    parts.append(f"covered mass {short(mass.lower)} to {short(mass.upper)}")
    if coverage.coverage_floor is not None:
        parts.append(f"C at least about {short(coverage.coverage_floor)}")
    if coverage.noise_floor is not None:
        parts.append(
            f"{percent(coverage.identical_share)} of the weights exactly 1: one policy twice, "
            f"noise up to {short(coverage.noise_floor)} nats"
        )
    return " · ".join(parts)


def transport_text(found: Transport) -> str:
    """Return what a calibrated reward predicts, and what is certain without trusting it."""
    parts = [f"predicts {short(found.predicted)}, an estimate"]
    if (certified := ends(found.certificate)) is not None:
        parts.append(f"E[r*] with it {short(certified[0])} to {short(certified[1])}")
    return " · ".join(parts)


def ledger_text(ledger: Sequence[LedgerEntry], delta: float) -> str:
    """Return the δ ledger in one line."""
    rows = [f"{short(item.delta)} {item.event}" for item in ledger]
    return f"Error budget δ = {short(delta)}: {' + '.join(rows)}" if rows else ""


def log_ratio_lines(found: Certificate) -> list[str]:
    """Return the diagnostics of the log-ratio: its estimates of the KL, its tail, its clipping."""
    lines = [] if found.log_ratio is None else [_log_ratio_line(found.log_ratio)]
    return lines + ([] if found.token_clipping is None else [_token_line(found.token_clipping)])


def _log_ratio_line(entry: LogRatio) -> str:
    kinds = [
        f"{short(value)} ({name})"
        for name, value in (("k1", entry.k1), ("k2", entry.k2), ("k3", entry.k3))
        if value is not None
    ]
    parts = [f"KL in nats {', '.join(kinds)}"] if kinds else []
    if entry.max is not None:
        parts.append(f"largest ℓ {short(entry.max)}")
    above, below = entry.clipped_share_positive, entry.clipped_share_negative
    parts.append(f"clipped {percent(above)} above, {percent(below)} below")
    if entry.mean_exp_minus is not None:
        mean = short(entry.mean_exp_minus)
        parts.append(f"mean e^−ℓ {mean}, at most 1 if the log-probs are right")
    return " · ".join(parts)


def _token_line(entry: TokenClipping) -> str:
    changed = percent(entry.share_changed)
    parts = [
        f"clipping tokens at ±{short(entry.clip)} nats changes {changed} of rollouts",
        f"bias {short(entry.bias)} nats",
    ]
    if entry.negative_bound is not None:
        parts.append(f"negative side ≤ {short(entry.negative_bound)}")
    return " · ".join(parts)


def health_sentence(checks: Sequence[Check]) -> str:
    """Return the outcome of the health checks in one sentence."""
    found = {status: 0 for status in (FAIL, WARN, NOTE, PASS, NOT_CHECKED)}
    for check in checks:
        found[check.status] += 1
    parts = [count(found[FAIL], "problem")] if found[FAIL] else []
    parts += [count(found[WARN], "warning")] if found[WARN] else []
    parts += [count(found[NOTE], "note")] if found[NOTE] else []
    parts += [f"{count(found[PASS], 'check')} passed"] if found[PASS] else []
    parts += [f"{found[NOT_CHECKED]} could not be checked"] if found[NOT_CHECKED] else []
    return ", ".join(parts) or "nothing was checked"

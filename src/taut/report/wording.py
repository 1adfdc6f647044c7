"""What the report says: every sentence that a person reads about a certificate document.

Only text is made here, from the plain document of design §5; no statistic and no colour.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taut.report.digits import (
    count,
    decimals_for,
    down,
    finite,
    interval,
    level_text,
    near,
    percent,
    short,
    up,
)

DECLARABLE = ("held-out", "complete", "random-labels")

HELP_STATUS = {
    "certified": "A finite-sample guarantee; everything that it rests on is on record, checked or "
    "declared.",
    "conditional": "The same finite-sample guarantee, if named assumptions hold that nobody "
    "declared and no data can show.",
    "estimated": "A careful estimate without any guarantee; the report says why.",
    "vacuous": "True, but it says nothing: the data leave every possible value open.",
}

TARGETS = ("reward", "clipped", "objective")
TARGET_NAMES = {"reward": "reward", "clipped": "clipped objective", "objective": "objective"}
TARGET_FORMULAS = {"reward": "E[r*]", "clipped": "E[r* − β clip(ℓ)]", "objective": "E[r* − β ℓ]"}

TERMS = ("sampling", "reward_shift", "kl_clipping")
TERM_NAMES = {
    "sampling": "sampling",
    "reward_shift": "reward shift",
    "kl_clipping": "KL clipping",
}

ROUTE_NAMES = {
    "gold": "gold labels",
    "rectifier": "gold labels and scores",
    "declared": "declared bounds",
    "paper": "declared C and L",
    "trivial": "nothing beyond the range",
    "log_ratio_max": "declared largest ℓ",
    "second_moment": "declared second moment",
    "betting": "betting",
    "bernstein": "empirical Bernstein",
    "hoeffding": "Hoeffding",
    "pareto_tail": "fitted tail",
}

ROUTE_LABELS = {
    "gold": "gold labels",
    "paper": "paper, C √L",
    "centred": "centred",
    "truncated": "truncated",
    "importance": "importance",
    "score": "mean score",
    "trivial": "trivial",
}

CHECK_NAMES = {
    "exp_minus_log_ratio": "mean e^−ℓ",
    "kl_sign": "sign of the KL",
    "labels_blind": "blind labels",
    "log_prob_per_token": "log-prob per token",
    "log_ratio_zero": "zero log-ratios",
    "positive_log_probs": "positive log-probs",
}

PAPER_NEEDS = {
    "sampling": "not computed",
    "reward_shift": "needs declared C and L (--coverage, --reward-mse)",
    "kl_clipping": "needs log-probs",
    "total": "needs all three terms",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer in words: one sentence, its status, and what stands behind it.

    Attributes:
        sentence: What the reader should take away.
        status: certified, conditional, estimated or vacuous; of the learned reward's own
            certificate when nothing else is known (`learned_only`).
        details: Why it is no more than that, one sentence each.
        learned_only: The sentence speaks of the learned reward, not of the true one.
    """

    sentence: str
    status: str
    details: tuple[str, ...] = ()
    learned_only: bool = False


def look(document: Mapping | None, path: str) -> object:
    """Return the entry at a dotted path, or None where it is missing or not a finite number."""
    value: object = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(document: Mapping | None, path: str) -> float | None:
    """Return the finite number at a dotted path, or None."""
    return finite(look(document, path))


def ends(entry: object) -> tuple[float, float] | None:
    """Return (lower, upper) of an entry where both are finite, or None."""
    lower, upper = number(entry, "lower"), number(entry, "upper")
    return None if lower is None or upper is None else (lower, upper)


def target_of(document: Mapping) -> str:
    """Return the target of a document; the objective where none is named."""
    target = look(document, "target") or look(document, "settings.target")
    return target if target in TARGETS else "objective"


def measured_of(document: Mapping, target: str) -> float | None:
    """Return what was measured for a target, reward units."""
    own = number(document, f"targets.{target}.measured")
    if own is not None:
        return own
    if target == "reward" and _own_scale(document):
        return None
    return number(document, "measured.reward" if target == "reward" else "measured.objective")


def proxy_of(document: Mapping, target: str) -> Mapping | None:
    """Return the interval of the learned reward alone, for a target."""
    for path in (f"targets.{target}.proxy", "proxy"):
        entry = look(document, path)
        if ends(entry):
            return entry
    return None


def level_of(document: Mapping) -> float:
    """Return the confidence level, probability."""
    level = number(document, "certificate.level")
    if level is not None:
        return level
    delta = number(document, "settings.delta")
    return 0.95 if delta is None else 1 - delta


def status_of(document: Mapping) -> str:
    """Return the status of the certificate; vacuous where there is no interval."""
    status = look(document, "certificate.status")
    return str(status) if status and ends(look(document, "certificate")) else "vacuous"


def learned_only(document: Mapping) -> bool:
    """Tell whether a document speaks of the learned reward alone."""
    return status_of(document) == "vacuous" and proxy_of(document, target_of(document)) is not None


def route_name(route: object) -> str:
    """Return a route in words."""
    text = "" if route is None else str(route)
    return ROUTE_NAMES.get(text, text.replace("_", " "))


def check_name(check: object) -> str:
    """Return the name of a health check in words."""
    text = str(look(check, "check") or "unnamed check")
    return CHECK_NAMES.get(text, text.replace("_", " "))


def standing(assumption: object) -> str:
    """Return how an assumption stands, in words."""
    return str(look(assumption, "stands") or "assumed").replace("_", " ")


def outcome(assumption: object) -> str:
    """Return who or what says how an assumption stands."""
    return str(look(assumption, "by") or "")


def units_of(document: Mapping) -> str:
    """Return the units of a certificate, in words."""
    own = look(document, "certificate.units") == "gold" and _own_scale(document)
    return "units of gold" if own else "reward units"


def _own_scale(document: Mapping) -> bool:
    """Tell whether gold has a scale of its own, other than the reward's."""
    gold = look(document, "settings.gold_range")
    scale = look(document, "settings.reward_range")
    return bool(look(document, "settings.gold_scale")) or (
        gold is not None and scale is not None and list(gold) != list(scale)
    )


def to_declare(document: Mapping) -> str:
    """Return the line that says what to declare, or "" where nothing that is left can be."""
    if status_of(document) not in ("conditional", "certified"):
        return ""
    words = [
        str(look(entry, "name"))
        for entry in look(document, "assumptions") or []
        if look(entry, "stands") == "assumed" and look(entry, "name") in DECLARABLE
    ]
    if not words:
        return ""
    rest = [
        entry
        for entry in look(document, "assumptions") or []
        if look(entry, "name") in ("log-probs", "quantity", "replacement")
        or look(entry, "stands") == "in_doubt"
    ]
    worth = "that much less is assumed" if rest else "it is certified"
    return f"Where you can vouch for it, say --declare {','.join(words)}: then {worth}."


def headline_decimals(document: Mapping) -> int:
    """Return the decimals of the verdict; tables show one more."""
    entry = look(document, "certificate")
    if learned_only(document):
        entry = proxy_of(document, target_of(document))
    bounds = ends(entry)
    return decimals_for(bounds[1] - bounds[0]) if bounds else 3


def table_decimals(document: Mapping) -> int:
    """Return the decimals of the tables."""
    return min(headline_decimals(document) + 1, 6)


def verdict(document: Mapping) -> Verdict:
    """Return the verdict on a certificate document."""
    status = status_of(document)
    if learned_only(document):
        return _learned(document)
    if status == "vacuous" or ends(look(document, "certificate")) is None:
        return _vacuous(document)
    if status == "estimated":
        return Verdict(_estimated_sentence(document), status, tuple(_estimated_reasons(document)))
    if status == "conditional":
        return _conditional(document)
    return Verdict(_sentence(_claim(document), f"({_level(document)})"), status)


def _level(document: Mapping) -> str:
    return level_text(level_of(document))


def _sentence(*parts: str) -> str:
    text = " ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _share_makes_sense(document: Mapping, measured: float, lower: float) -> bool:
    """Tell whether "of the x measured" is a sensible thing to say about these numbers."""
    scale = look(document, "settings.reward_range")
    starts_at_zero = not isinstance(scale, list | tuple) or not scale or finite(scale[0]) == 0
    return starts_at_zero and 0 < lower <= measured


def _claim(document: Mapping, verb: str = "is") -> str:
    """Return the claim about the lower end, without level and full stop.

    The upper end is named too where it lies below what was measured: then the measured value
    itself is refuted.
    """
    target = target_of(document)
    lower, upper = ends(look(document, "certificate"))
    digits = headline_decimals(document)
    measured = measured_of(document, target)
    least = f"at least {down(lower, digits)}"
    if measured is not None and upper < measured:
        least += f" and at most {up(upper, digits)}"
    name = "" if target == "objective" else f" {TARGET_NAMES[target]}"
    if measured is not None and _share_makes_sense(document, measured, lower):
        shown = near(measured, digits)
        return f"of the {shown}{name} measured, {least} {verb} real"
    true = "the true value" if target == "objective" else f"the true{name}"
    claim = f"{true} {verb} {least}"
    return claim if measured is None else f"measured {near(measured, digits)}; {claim}"


def _assumed(document: Mapping) -> list[str]:
    """Return what a conditional certificate hangs on: what is assumed, doubted or a quantity."""
    found: list[str] = []
    for entry in look(document, "assumptions") or []:
        stands, text = look(entry, "stands"), str(look(entry, "text")).rstrip(".")
        quantity = look(entry, "name") in ("log-probs", "quantity", "replacement")
        if (quantity or stands in ("assumed", "in_doubt")) and text not in found:
            found.append(text)
    return found


def _conditional(document: Mapping) -> Verdict:
    conditions = _assumed(document)
    level = f"({_level(document)})"
    if len(conditions) == 1 and len(conditions[0]) <= 70:
        condition = conditions[0].removeprefix("if ").removeprefix("If ")
        return Verdict(_sentence(f"if {condition}:", _claim(document), level), "conditional")
    if not conditions:
        return Verdict(
            _sentence("if what was declared holds:", _claim(document), level), "conditional"
        )
    lead = (
        f"under {len(conditions)} named assumptions:" if len(conditions) > 1 else "on a condition:"
    )
    details = tuple(f"If {text}." for text in conditions)
    return Verdict(_sentence(lead, _claim(document), level), "conditional", details)


def _estimated_sentence(document: Mapping) -> str:
    return _sentence(_claim(document, "seems"), "– an estimate, not a guarantee")


def _estimated_reasons(document: Mapping) -> Iterator[str]:
    if look(document, "settings.reward_range_source") == "read off the data":
        yield "Why: the reward range was read off the data, not declared (--reward-range)."
    for name in TERMS:
        if look(document, f"terms.{name}.status") != "estimated":
            continue
        assumes = [str(text).rstrip(".") for text in look(document, f"terms.{name}.assumes") or []]
        # The reward range has its own sentence above.
        assumes = [text for text in assumes if "read off the data" not in text] or assumes[1:]
        if assumes:
            yield f"Why: {TERM_NAMES[name]} assumes that {'; '.join(assumes)}."
        elif not look(document, f"terms.{name}.assumes"):
            yield f"Why: {TERM_NAMES[name]} has no guaranteed bound here."
    yield from _stronger_target(document)


def _stronger_target(document: Mapping) -> Iterator[str]:
    """Name a target that carries a guarantee where the one asked for does not."""
    for target in ("clipped", "reward"):
        entry = look(document, f"targets.{target}")
        bounds = ends(entry)
        status = look(entry, "status")
        if target != target_of(document) and bounds and status in ("certified", "conditional"):
            lower = down(bounds[0], headline_decimals(document))
            name = TARGET_NAMES[target]
            yield f"The {name} is {status}: at least {lower} ({_level(document)})."
            return


def _learned(document: Mapping) -> Verdict:
    target = target_of(document)
    proxy = proxy_of(document, target)
    lower, upper = ends(proxy)
    digits = headline_decimals(document)
    status = str(look(proxy, "status") or "certified")
    measured = measured_of(document, target)
    shown = "" if measured is None else f"measured {near(measured, digits)}, "
    level = _level(document) if status == "certified" else f"{status}, {_level(document)}"
    sentence = (
        f"For the learned reward only: {shown}at least {down(lower, digits)} on new prompts "
        f"({level}). Nothing is known about the true reward yet."
    )
    scored = "score" if target == "reward" else "score minus its KL cost"
    details = (
        f"The reward model's own mean {scored} lies between "
        f"{down(lower, digits)} and {up(upper, digits)}.",
    )
    return Verdict(sentence, status, details, learned_only=True)


def _vacuous(document: Mapping) -> Verdict:
    name = TARGET_NAMES[target_of(document)]
    bounds = ends(look(document, "certificate"))
    digits = headline_decimals(document)
    where = f": {interval(*bounds, digits)} is all that can be said" if bounds else ""
    measured = measured_of(document, target_of(document))
    shown = "" if measured is None else f"Measured {near(measured, digits)}, but "
    return Verdict(_sentence(f"{shown}nothing is known about the true {name}{where}"), "vacuous")


def settings_text(document: Mapping) -> str:
    """Return the settings in one line."""
    settings = look(document, "settings") or {}
    parts = []
    if (beta := number(settings, "beta")) is not None:
        parts.append(f"β {short(beta)} reward units a nat")
    parts.extend(_threshold_parts(settings))
    scale = look(settings, "reward_range")
    if isinstance(scale, list | tuple) and len(scale) == 2 and None not in map(finite, scale):
        source = look(settings, "reward_range_source") or "declared"
        parts.append(f"rewards {short(scale[0])} to {short(scale[1])} ({source})")
    if look(settings, "method"):
        parts.append(route_name(look(settings, "method")))
    all_certify = number(document, "log.certifying_prompts") == number(document, "log.prompts")
    if (share := number(settings, "calibration_share")) and not all_certify:
        parts.append(f"{100 * share:.3g}% of prompts calibrate")
    if (seed := number(settings, "seed")) is not None:
        parts.append(f"seed {int(seed)}")
    if version := look(document, "version"):
        parts.append(f"taut {version}")
    return " · ".join(parts)


def _threshold_parts(settings: Mapping) -> list[str]:
    tau = number(settings, "tau")
    if tau is None:
        return []
    negative = number(settings, "tau_negative")
    text = f"τ {short(tau)} nats"
    if negative is not None and negative != tau:
        text = f"τ −{short(negative)} and +{short(tau)} nats"
    source = look(settings, "tau_source")
    return [f"{text} ({source})" if source else text]


def log_text(log: Mapping | None) -> str:
    """Return what was read, in one line."""
    parts = []
    for key, noun in (("rollouts", "rollout"), ("prompts", "prompt")):
        if (value := number(log, key)) is not None:
            parts.append(count(value, noun))
    text = " of ".join(parts)
    certifying = number(log, "certifying_prompts")
    if certifying is not None:
        text += f" ({int(certifying):,} certify)"
    rest = [text] if text else []
    if (per_prompt := _rollouts_per_prompt(log)) is not None:
        rest.append(per_prompt)
    if (steps := number(log, "steps.count") or number(log, "steps") or 0) > 1:
        rest.append(count(steps, "step"))
    gold = number(log, "gold_rollouts")
    gold = number(log, "labelled_rollouts") if gold is None else gold
    if gold is not None:
        rest.append(count(gold, "gold label") if gold else "no gold labels")
    if rejected := number(log, "rejected_rows"):
        rest.append(f"{count(rejected, 'row')} rejected")
    if clipped := number(log, "clipped_reward_share"):
        rest.append(f"{percent(clipped)} of rewards clipped")
    if names := _source_names(log):
        rest.append(names)
    return " · ".join(rest)


def _rollouts_per_prompt(log: Mapping | None) -> str | None:
    least = number(log, "rollouts_per_prompt.min")
    most = number(log, "rollouts_per_prompt.max")
    if least is None or most is None:
        return None
    return f"{int(least)} a prompt" if least == most else f"{int(least)} to {int(most)} a prompt"


def _source_names(log: Mapping | None) -> str:
    sources = look(log, "sources") or []
    names = [str(name).replace("\\", "/").rsplit("/", 1)[-1] for name in sources]
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} more files"
    return " and ".join(names)


def coverage_text(document: Mapping) -> str:
    """Return what the weights of the reward data look like: estimates, none of them a bound."""
    parts = []
    size, draws = (
        number(document, "coverage.effective_sample_size"),
        look(document, "coverage.draws"),
    )
    if size is not None:
        parts.append(f"weights worth {short(size)} of {draws} draws")
    largest = number(document, "coverage.largest_share")
    if largest is not None:
        parts.append(f"largest {percent(largest)} of the sum")
    mean = number(document, "coverage.mean")
    if mean is not None:
        parts.append(f"mean {short(mean)}, 1 if covered")
    tail = number(document, "coverage.pareto_k")
    parts.append("tail tied" if tail is None else f"Pareto shape {short(tail)}")
    mass = ends(look(document, "coverage.covered_mass"))
    if mass is not None:
        parts.append(f"covered mass {short(mass[0])} to {short(mass[1])}")
    floor = number(document, "coverage.coverage_floor")
    if floor is not None:
        parts.append(f"C at least about {short(floor)}")
    noise = number(document, "coverage.noise_floor")
    if noise is not None:
        same = number(document, "coverage.identical_share") or 0.0
        parts.append(
            f"{percent(same)} of the weights exactly 1: one policy twice, "
            f"noise up to {short(noise)} nats"
        )
    return " · ".join(parts)


def sensitivity_text(document: Mapping) -> str:
    """Return what the certificate would be under noise of the log-probs that nobody declared."""
    parts = []
    for item in look(document, "sensitivity") or ():
        found = ends(item)
        if found is not None:
            decimals = decimals_for(found[1] - found[0])
            parts.append(f"{interval(*found, decimals)} at {short(item['noise'])} nats")
    if not parts:
        return ""
    return "if log-probs are off (--log-prob-noise): " + " · ".join(parts)


def transport_text(document: Mapping) -> str:
    """Return what a calibrated reward predicts, and what is certain without trusting it."""
    predicted = number(document, "transport.predicted")
    certified = ends(look(document, "transport.certificate"))
    parts = [] if predicted is None else [f"predicts {short(predicted)}, an estimate"]
    if certified is not None:
        parts.append(f"E[r*] with it {short(certified[0])} to {short(certified[1])}")
    return " · ".join(parts)


def ledger_text(document: Mapping) -> str:
    """Return the δ ledger in one line."""
    rows = [
        f"{short(spent)} {look(row, 'event') or 'unnamed event'}"
        for row in look(document, "ledger") or []
        if (spent := number(row, "delta")) is not None
    ]
    if not rows:
        return ""
    delta = number(document, "settings.delta")
    total = short(1 - level_of(document) if delta is None else delta)
    return f"Error budget δ = {total}: " + " + ".join(rows)


def log_ratio_lines(document: Mapping) -> list[str]:
    """Return the diagnostics of the log-ratio: its estimates of the KL, its tail, its clipping."""
    entry = look(document, "log_ratio")
    kinds = [
        f"{short(value)} ({key})"
        for key in ("k1", "k2", "k3")
        if (value := number(entry, key)) is not None
    ]
    parts = [f"KL in nats {', '.join(kinds)}"] if kinds else []
    if (most := number(entry, "max")) is not None:
        parts.append(f"largest ℓ {short(most)}")
    clipped = [number(entry, f"clipped_share_{side}") for side in ("positive", "negative")]
    if None not in clipped:
        parts.append(f"clipped {percent(clipped[0])} above, {percent(clipped[1])} below")
    if (mean := number(entry, "mean_exp_minus")) is not None:
        parts.append(f"mean e^−ℓ {short(mean)}, at most 1 if the log-probs are right")
    lines = [" · ".join(parts)] if parts else []
    return lines + _token_clipping(look(document, "token_clipping"))


def _token_clipping(entry: object) -> list[str]:
    clip = number(entry, "clip")
    if clip is None:
        return []
    share, bias = number(entry, "share_changed"), number(entry, "bias")
    bound = number(entry, "negative_bound")
    changed = "" if share is None else f" changes {percent(share)} of rollouts"
    parts = [f"clipping tokens at ±{short(clip)} nats{changed}"]
    if bias is not None:
        parts.append(f"bias {short(bias)} nats")
    if bound is not None:
        parts.append(f"negative side ≤ {short(bound)}")
    return [" · ".join(parts)]


def advice_text(document: Mapping) -> str:
    """Return the one thing that would tighten the certificate most."""
    text = look(document, "advice.text")
    if not text:
        return ""
    gain = number(document, "advice.lower_gain")
    digits = table_decimals(document)
    if gain is None or near(gain, digits) == near(0, digits) or "lower end" in str(text):
        return str(text)
    return f"{str(text).rstrip('.')}: the lower end would rise by about {near(gain, digits)}."


def health_sentence(checks: list) -> str:
    """Return the outcome of the health checks in one sentence."""
    found = {status: 0 for status in ("fail", "warn", "note", "pass", "not_checked")}
    for check in checks:
        status = str(look(check, "status"))
        found[status if status in found else "not_checked"] += 1
    parts = [count(found["fail"], "problem")] if found["fail"] else []
    parts += [count(found["warn"], "warning")] if found["warn"] else []
    parts += [count(found["note"], "note")] if found["note"] else []
    parts += [f"{count(found['pass'], 'check')} passed"] if found["pass"] else []
    parts += [f"{int(found['not_checked'])} could not be checked"] if found["not_checked"] else []
    return ", ".join(parts) or "nothing was checked"

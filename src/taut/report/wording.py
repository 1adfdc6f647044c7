"""What the report says: every sentence that a person reads about a certificate.

Only text is made here, from the result; no statistic and no colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from taut.auditing.certificate import Certificate, StatedSpan
from taut.draws.assumptions import (
    DECLARABLE,
    LOG_PROBS,
    QUANTITY,
    REPLACEMENT,
    Assumption,
    Standing,
)
from taut.report.digits import (
    decimals_for,
    down,
    interval,
    level_text,
    near,
    up,
)
from taut.report.names import TARGET_NAMES, TERM_NAMES
from taut.types import Status

Ends = tuple[float, float]

_OF_THE_LOG = (*DECLARABLE, LOG_PROBS)


class HasEnds(Protocol):
    """Anything with two ends, each of which may be open."""

    @property
    def lower(self) -> float | None:
        """Lower end; None where it is open."""

    @property
    def upper(self) -> float | None:
        """Upper end; None where it is open."""


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
    status: Status
    details: tuple[str, ...] = ()
    learned_only: bool = False


def ends(entry: HasEnds | None) -> Ends | None:
    """Return (lower, upper) where both ends are there, or None."""
    if entry is None or entry.lower is None or entry.upper is None:
        return None
    return entry.lower, entry.upper


def measured_of(found: Certificate) -> float | None:
    """Return what was measured for the target, in its units; None where they are not one."""
    own = found.targets[found.target].measured
    if own is not None:
        return own
    if found.target == "reward":
        return None if _own_scale(found) else found.measured.reward
    return found.measured.objective


def proxy_of(found: Certificate) -> StatedSpan | None:
    """Return the interval of the learned reward alone, for the target."""
    candidates = (found.targets[found.target].proxy, found.proxy)
    return next((entry for entry in candidates if ends(entry)), None)


def status_of(found: Certificate) -> Status:
    """Return the status of the certificate; vacuous where it has no two ends."""
    return found.status if ends(found.certificate) else Status.VACUOUS


def learned_only(found: Certificate) -> bool:
    """Tell whether a certificate speaks of the learned reward alone."""
    return status_of(found) == Status.VACUOUS and proxy_of(found) is not None


def standing(assumption: Assumption) -> str:
    """Return how an assumption stands, in words."""
    return assumption.stands.replace("_", " ")


def units_of(found: Certificate) -> str:
    """Return the units of a certificate, in words."""
    own = found.certificate.units == "gold" and _own_scale(found)
    return "units of gold" if own else "reward units"


def one_scale(found: Certificate) -> bool:
    """Tell whether a certificate is in the units of the learned reward."""
    return units_of(found) == "reward units"


def _own_scale(found: Certificate) -> bool:
    """Tell whether gold has a scale of its own, other than the reward's."""
    settings = found.settings
    other = settings.gold_range is not None and settings.gold_range != settings.reward_range
    return settings.gold_scale is not None or other


def to_declare(found: Certificate) -> str:
    """Return the line that says what to declare, or "" where nothing that is left can be."""
    if status_of(found) not in (Status.CONDITIONAL, Status.CERTIFIED):
        return ""
    assumed = [item for item in found.assumptions if item.stands == Standing.ASSUMED]
    words = [item.name for item in assumed if item.name in DECLARABLE]
    if not words:
        return ""
    rest = any(_is_quantity(item) or item.stands == Standing.IN_DOUBT for item in found.assumptions)
    worth = "that much less is assumed" if rest else "it is certified"
    return f"Where you can vouch for it, say --declare {','.join(words)}: then {worth}."


def _is_quantity(item: Assumption) -> bool:
    """Whether it is of a kind that no declaration makes certified."""
    return item.name in (LOG_PROBS, QUANTITY, REPLACEMENT)


def headline_decimals(found: Certificate) -> int:
    """Return the decimals of the verdict; tables show one more."""
    bounds = ends(proxy_of(found) if learned_only(found) else found.certificate)
    return decimals_for(bounds[1] - bounds[0]) if bounds else 3


def table_decimals(found: Certificate) -> int:
    """Return the decimals of the tables."""
    return min(headline_decimals(found) + 1, 6)


def verdict(found: Certificate) -> Verdict:
    """Return the verdict on a certificate."""
    status = status_of(found)
    if learned_only(found):
        return _learned(found)
    if status == Status.VACUOUS:
        return _vacuous(found)
    if status == Status.ESTIMATED:
        return Verdict(_estimated_sentence(found), status, tuple(_estimated_reasons(found)))
    if status == Status.CONDITIONAL:
        return _conditional(found)
    return Verdict(_sentence(_claim(found), f"({level_text(found.level)})"), status)


def _sentence(*parts: str) -> str:
    text = " ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _share_makes_sense(found: Certificate, measured: float, lower: float) -> bool:
    """Tell whether "of the x measured" is a sensible thing to say about these numbers."""
    return found.settings.reward_range[0] == 0 and 0 < lower <= measured


def _claim(found: Certificate, verb: str = "is") -> str:
    """Return the claim about the lower end, without level and full stop.

    The upper end is named too where it lies below what was measured: then the measured value
    itself is refuted.
    """
    digits, measured = headline_decimals(found), measured_of(found)
    least = f"at least {down(found.lower, digits)}"
    if measured is not None and found.upper < measured:
        least += f" and at most {up(found.upper, digits)}"
    name = "" if found.target == "objective" else f" {TARGET_NAMES[found.target]}"
    if measured is not None and _share_makes_sense(found, measured, found.lower):
        return f"of the {near(measured, digits)}{name} measured, {least} {verb} real"
    true = "the true value" if found.target == "objective" else f"the true{name}"
    claim = f"{true} {verb} {least}"
    return claim if measured is None else f"measured {near(measured, digits)}; {claim}"


def _assumed(found: Certificate) -> list[str]:
    """Return what a conditional certificate hangs on: what is assumed, doubted or a quantity."""
    open_ones = (Standing.ASSUMED, Standing.IN_DOUBT)
    texts = [
        item.text.rstrip(".")
        for item in found.assumptions
        if _is_quantity(item) or item.stands in open_ones
    ]
    return [*dict.fromkeys(texts)]


def _conditional(found: Certificate) -> Verdict:
    conditions, level = _assumed(found), f"({level_text(found.level)})"
    if len(conditions) == 1 and len(conditions[0]) <= 70:
        condition = conditions[0].removeprefix("if ").removeprefix("If ")
        sentence = _sentence(f"if {condition}:", _claim(found), level)
        return Verdict(sentence, Status.CONDITIONAL)
    if not conditions:
        sentence = _sentence("if what was declared holds:", _claim(found), level)
        return Verdict(sentence, Status.CONDITIONAL)
    lead = (
        f"under {len(conditions)} named assumptions:" if len(conditions) > 1 else "on a condition:"
    )
    details = tuple(f"If {text}." for text in conditions)
    return Verdict(_sentence(lead, _claim(found), level), Status.CONDITIONAL, details)


def _estimated_sentence(found: Certificate) -> str:
    return _sentence(_claim(found, "seems"), "– an estimate, not a guarantee")


def _estimated_reasons(found: Certificate) -> Iterator[str]:
    if found.settings.reward_range_source == "read off the data":
        yield "Why: the reward range was read off the data, not declared (--reward-range)."
    violated = [item for item in found.assumptions if item.stands is Standing.VIOLATED]
    for item in violated:
        yield f"Why: this is violated: {item.text} – {item.by}."
    # What is merely assumed makes a result conditional, and is not why this one is less.
    told = {item.text for item in violated}
    told |= {item.text for item in found.assumptions if item.name in _OF_THE_LOG}
    for name, term in found.terms.named():
        if term.status != Status.ESTIMATED:
            continue
        # The reward range has its own sentence above.
        assumes = [text.rstrip(".") for text in term.assumes if text not in told]
        assumes = [text for text in assumes if "read off the data" not in text]
        if assumes:
            yield f"Why: {TERM_NAMES[name]} assumes that {'; '.join(assumes)}."
        elif not term.assumes:
            yield f"Why: {TERM_NAMES[name]} has no guaranteed bound here."
    yield from _stronger_target(found)


def _stronger_target(found: Certificate) -> Iterator[str]:
    """Name a target that carries a guarantee where the one asked for does not."""
    for target in ("clipped", "reward"):
        entry = found.targets[target]
        bounds = ends(entry)
        sound = entry.status in (Status.CERTIFIED, Status.CONDITIONAL)
        if target != found.target and bounds and sound:
            lower = down(bounds[0], headline_decimals(found))
            name, level = TARGET_NAMES[target], level_text(found.level)
            yield f"The {name} is {entry.status}: at least {lower} ({level})."
            return


def _learned(found: Certificate) -> Verdict:
    proxy = proxy_of(found)
    lower, upper = ends(proxy)
    digits, measured = headline_decimals(found), measured_of(found)
    shown = "" if measured is None else f"measured {near(measured, digits)}, "
    level = level_text(found.level)
    level = level if proxy.status == Status.CERTIFIED else f"{proxy.status}, {level}"
    sentence = (
        f"For the learned reward only: {shown}at least {down(lower, digits)} on new prompts "
        f"({level}). Nothing is known about the true reward yet."
    )
    scored = "score" if found.target == "reward" else "score minus its KL cost"
    details = (
        f"The reward model's own mean {scored} lies between "
        f"{down(lower, digits)} and {up(upper, digits)}.",
    )
    return Verdict(sentence, proxy.status, details, learned_only=True)


def _vacuous(found: Certificate) -> Verdict:
    name, bounds = TARGET_NAMES[found.target], ends(found.certificate)
    digits, measured = headline_decimals(found), measured_of(found)
    where = f": {interval(*bounds, digits)} is all that can be said" if bounds else ""
    shown = "" if measured is None else f"Measured {near(measured, digits)}, but "
    sentence = _sentence(f"{shown}nothing is known about the true {name}{where}")
    return Verdict(sentence, Status.VACUOUS)


def advice_text(found: Certificate) -> str:
    """Return the one thing that would tighten the certificate most."""
    text, gain = found.advice.text, found.advice.lower_gain
    digits = table_decimals(found)
    if not text or gain is None or "lower end" in text or near(gain, digits) == near(0, digits):
        return text
    return f"{text.rstrip('.')}: the lower end would rise by about {near(gain, digits)}."

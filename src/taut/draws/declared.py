"""What the user declared of a log, beside what the log records of itself (theory §5)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taut.draws.assumptions import DECLARABLE, Standing
from taut.draws.modes import PROMPT_MODES, SAMPLE
from taut.draws.sheets import came_back_whole, has_equal_chances, uniform_on_record
from taut.errors import UsageError
from taut.logs.facts import LogFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What was said of a log before it was looked at.

    Attributes:
        reward_range, gold_range: (low, high), reward units and units of gold.
        gold_scale: (p, q): gold * p + q is in reward units; p > 0.
        words: Of "held-out", "complete", "random-labels": what --declare says.
        prompts: "sample", "list" or "with-replacement": how prompts came into the log.
        imputed: Rollouts that were launched and are not there count at their worst.
        log_prob_noise: Bound on the error of log-ratios, nats a sequence.
        seed: Seed of the draw order.
    """

    reward_range: tuple[float, float] | None = None
    gold_range: tuple[float, float] | None = None
    gold_scale: tuple[float, float] | None = None
    words: frozenset[str] = frozenset()
    prompts: str = SAMPLE
    imputed: bool = False
    log_prob_noise: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts not in PROMPT_MODES:
            raise UsageError(
                f"prompts is {self.prompts!r}; expected one of {', '.join(PROMPT_MODES)}."
            )


def declared_words(words: Iterable[str] | str, *, held_out: bool = False) -> frozenset[str]:
    """Return what --declare and its short form --held-out say.

    Args:
        words: Names, or one text that joins them by commas.
        held_out: The short form for "held-out".

    Raises:
        UsageError: An unknown name.
    """
    parts = words.split(",") if isinstance(words, str) else words
    found = {part.strip().replace("_", "-") for part in parts if part.strip()}
    unknown = sorted(found - set(DECLARABLE))
    if unknown:
        raise UsageError(
            f"declare is {', '.join(unknown)}; expected any of {', '.join(DECLARABLE)}, joined by "
            "commas."
        )
    return frozenset(found | ({DECLARABLE[0]} if held_out else set()))


def standing(name: str, declared: Declared, facts: LogFacts | None) -> tuple[Standing, str]:
    """Return how a declarable assumption stands before any test looked, and who says so.

    Raises:
        UsageError: What is declared contradicts what the log says of itself.
    """
    fact = name.replace("-", "_")
    said = facts.stands(fact) if facts is not None else None
    if said is not None and getattr(facts, fact) is False:
        who = "the log's own record" if said == "recorded" else "taut.toml"
        if name in declared.words:
            raise UsageError(
                f"--declare {name}, but {who} says {fact} = false: leave the word out, or correct "
                "what the log says of itself."
            )
        return Standing.VIOLATED, f"{who} says {fact} = false"
    if said is not None and getattr(facts, fact) and not uniform_on_record(getattr(facts, fact)):
        return _of_a_sheet(getattr(facts, fact), name in declared.words)
    if facts is not None and said == "recorded":
        return Standing.RECORDED, f"the log's own record ({facts.writer})"
    if name in declared.words:
        return Standing.DECLARED, f"--declare {name}"
    if said == "declared":
        return Standing.DECLARED, "taut.toml"
    return Standing.ASSUMED, f"nobody said so, and no log can show it; say --declare {name}"


def _of_a_sheet(fact: object, declared: bool) -> tuple[Standing, str]:
    """How labels stand, as a plain sample, that came on a sheet but are none by its design."""
    if not has_equal_chances(fact):
        return Standing.VIOLATED, (
            "the sheet drew rows by unequal chances (strata, or where the judge errs), which hold "
            "for the whole log of one policy alone: audit that with --labels"
        )
    if declared:
        return Standing.DECLARED, "--declare random-labels"
    if isinstance(fact, Mapping) and not came_back_whole(fact):
        return Standing.VIOLATED, (
            "the sheet came back in part, and which rows did may go with outcomes; in the blocks "
            "of its whole log they hold: audit that with --labels"
        )
    return Standing.IN_DOUBT, (
        "they came on several sheets, one behind the other; how many may go with outcomes; in the "
        "blocks of the whole log they hold: audit that with --labels"
    )

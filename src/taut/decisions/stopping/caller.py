"""What an interval rests on whose blocks a caller made: words that only the caller can say."""

from collections.abc import Iterable

from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.errors import UsageError

WORDS = (about.INDEPENDENT, about.ORDER)  # what a caller may declare
_TEXTS = {
    "equal": "every block has the same mean, whatever the blocks before it were",
    "varying": "the mean of each block given those before it is what is averaged",
    about.ORDER: "which block comes next, and whether it comes at all, is blind to its value",
}
_IN_RANGE = Assumption(
    name=about.REWARD_RANGE,
    text="the range of a block was fixed before the first",
    stands=Standing.DECLARED,
    by="low and high",
)


def rests_on(declared: tuple[str, ...], *, means: str) -> tuple[Assumption, ...]:
    """Return what the interval rests on, each assumption with how it stands.

    Args:
        declared: Of `WORDS`.
        means: "equal" or "varying", as for `Monitor`.
    """
    return (*(_said(name, declared, means) for name in WORDS), _IN_RANGE)


def _said(name: str, declared: tuple[str, ...], means: str) -> Assumption:
    text, word = _TEXTS[means if name == about.INDEPENDENT else name], f"declare={name!r}"
    if name in declared:
        return Assumption(name=name, text=text, stands=Standing.DECLARED, by=word)
    by = f"nobody said so, and values cannot show it; say {word}"
    return Assumption(name=name, text=text, stands=Standing.ASSUMED, by=by)


def declared_words(words: str | Iterable[str]) -> tuple[str, ...]:
    """Return which of `WORDS` are declared, in their order.

    Args:
        words: Names, or one text that joins them by commas.

    Raises:
        UsageError: An unknown name.
    """
    given = words.split(",") if isinstance(words, str) else words
    found = {word.strip() for word in given if word.strip()}
    if found - set(WORDS):
        raise UsageError(
            f"declare is {', '.join(sorted(found - set(WORDS)))}; expected any of "
            f"{', '.join(WORDS)}."
        )
    return tuple(word for word in WORDS if word in found)

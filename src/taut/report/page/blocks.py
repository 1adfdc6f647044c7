"""What a page is made of: sections of a few kinds of blocks, each of them plain text.

A view says what stands on a page; `html.py` and `markdown.py` say how. Nothing here is markup:
whatever a log or a person wrote stays text on its way through.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LONGEST = 400  # characters of one cell; the JSON has the rest


@dataclass(frozen=True)
class Status:
    """A word such as "certified", "warn" or "assumed", shown as a badge."""

    word: str


Cell = str | Status


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: The words.
        role: "", "strong", "quiet", "code", "report" (lines as they are), "rollouts" (their
            place), or "theory-" and the number of a section.
    """

    text: str
    role: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a line of titles.

    Attributes:
        titles: One a column.
        rows: As many cells each.
        numeric: Places of the columns that hold numbers.
        caption: What it shows, for who cannot see it.
        strong: Places of the rows that matter most.
        steps: A number a row, where a chart's brush chooses among rows by it.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Iterable[int] = ()
    caption: str = ""
    strong: Iterable[int] = ()
    steps: Sequence[float] = ()


@dataclass(frozen=True)
class Figure:
    """The place of a chart, by its name."""

    name: str


@dataclass(frozen=True)
class Opens:
    """Blocks that open on a click."""

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Choices:
    """A table with one row a combination of settings, one of them shown at a time.

    Attributes:
        axes: Name of a setting to the texts of its values, in order.
        chosen: The value of each setting that is shown first.
        results: What each combination gives: the values of the settings to (title, text) pairs.
        titles: Of the results.
    """

    axes: Mapping[str, Sequence[str]]
    chosen: Sequence[int]
    results: Mapping[tuple[int, ...], Sequence[str]]
    titles: Sequence[str]


Block = Text | Table | Figure | Opens | Choices


@dataclass(frozen=True)
class Card:
    """One of the answers at the top: a question, its answer in large type, and a sentence."""

    title: str
    answer: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        key: What links name.
        title: Its heading.
        blocks: What stands in it.
        note: Quiet words below the heading.
    """

    key: str
    title: str
    blocks: Sequence[Block]
    note: str = ""


@dataclass(frozen=True)
class View:
    """What a page says of one result.

    Attributes:
        verdict: The answer in one sentence; the title of the page.
        kind: What kind of result it is, in a few words.
        sections: In the order of the page; those without blocks vanish.
        status: What the verdict is worth; None where that is no question.
        about: What the status belongs to, and the whole interval.
        lead: Sentences below the verdict.
        plain: What it is about, for who never saw taut.
        cards: The answers at the top.
    """

    verdict: str
    kind: str
    sections: Sequence[Section]
    status: Status | None = None
    about: str = ""
    lead: Sequence[str] = ()
    plain: Sequence[str] = ()
    cards: Sequence[Card] = field(default_factory=tuple)


def one_line(text: object, longest: int = LONGEST) -> str:
    """Return text on one line, cut where it is too long, without characters that change others.

    Args:
        text: Anything that a log may hold.
        longest: Characters that are kept.
    """
    whole = str(text)
    flat = " ".join(whole[: 4 * longest].split())
    kept = "".join("\N{REPLACEMENT CHARACTER}" if _acts(letter) else letter for letter in flat)
    if len(kept) > longest or len(whole) > 4 * longest:
        return f"{kept[:longest]}… ({len(whole):,} characters)"
    return kept


def _acts(letter: str) -> bool:
    """Whether a character is a control, changes the direction of others, or is half of one."""
    if letter == "\N{ZERO WIDTH JOINER}":
        return False
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs") or letter in "\u2028\u2029"

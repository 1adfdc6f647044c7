"""Names and values as they may be shown: no file can write to a terminal through an error."""

import unicodedata


def safe(text: object, *, limit: int = 400) -> str:
    """Return text with everything that a terminal would act on written as an escape.

    Control characters (ESC, newlines, C1), marks that turn the direction of writing, and bytes of
    a name that are no UTF-8.
    """
    out = "".join(_shown(letter) for letter in str(text)[:limit])
    return out + ("…" if len(str(text)) > limit else "")


def _shown(letter: str) -> str:
    if letter.isprintable() or letter == " ":
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(letter) == "Zs":
        return letter
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def writable(name: str) -> str:
    """Return a file's name as UTF-8 can hold it: as it is, unless a byte of it is none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return safe(name)
    return name


def one_line(problem: object) -> str:
    """Return an exception of a library as a short part of our own error line."""
    return safe(" ".join(str(problem).split())[:160])

"""A page read back: the JSON of its result, and how it was made."""

import base64
import gzip
import re
import zlib

from taut.errors import LogError
from taut.report.page.made import Made

_START = b"<!doctype html>"
_MOST = 1 << 30  # bytes that a packed block may unfold to


def is_page(content: bytes) -> bool:
    """Whether a file is a page rather than JSON."""
    return content.lstrip()[: len(_START)].lower() == _START


def document_in(content: bytes, name: str) -> str:
    """Return the JSON of the result that a page holds.

    Args:
        content: Of the page.
        name: Of the file, for errors.

    Raises:
        LogError: The page is none that taut wrote, or was damaged.
    """
    found = _block(content, "taut-document", name)
    if found is None:
        raise LogError(f"{name}: expected a page that taut wrote (--html), found another one.")
    return found


def made_in(content: bytes, name: str) -> Made | None:
    """Return how a page was made, where it says so."""
    found = _block(content, "taut-made", name)
    try:
        return None if found is None else Made.from_json(found)
    except ValueError:
        return None


def _block(content: bytes, block: str, name: str) -> str | None:
    found = re.search(
        rb"<script ([^<>]*) id=\"" + block.encode() + rb"\">([^<]*)</script>", content
    )
    if found is None:
        return None
    kind, text = found.groups()
    if b"data-packed" not in kind:
        return text.decode("utf-8", "replace").replace("\\u003c", "<")
    try:
        unfold = zlib.decompressobj(31)
        whole = unfold.decompress(base64.b64decode(text, validate=True), _MOST)
        return whole.decode()
    except (ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"{name}: the page is damaged: {error}.") from error

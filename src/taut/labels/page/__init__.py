"""The page to label in: one offline file that sends nothing and runs no text it shows."""

import base64
import hashlib
from importlib import resources

import orjson

from taut.errors import LogError
from taut.labels.design import KEY, read_design

_START = b'<script type="application/json" id="taut-sheet">'
_END = b"</script>"


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def build(sheet) -> bytes:
    """Return a sheet as a page of HTML.

    Nothing runs in it but the script whose hash the policy names: no handler in an attribute, no
    eval, no request. Prompts and responses stand in a block of JSON in which "<" is escaped, and
    reach the page as text nodes.

    Args:
        sheet: `taut.labels.sheet.Sheet`.
    """
    script, style = _file("page.js"), _file("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = {
        "id": sheet.id,
        "annotator": sheet.annotator,
        KEY: orjson.loads(sheet.design.to_json()),
        "scale": sheet.design.scale.model_dump(),
        "items": [item.model_dump() for item in sheet.items],
    }
    safe = orjson.dumps(data).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")
    parts = {"POLICY": policy, "STYLE": style, "SCRIPT": script, "DATA": safe}
    before = _file("page.html")
    out = []
    while before:
        text, _, rest = before.partition("{{")
        out.append(text)
        name, _, before = rest.partition("}}")
        if name:
            out.append(parts[name])
    return "".join(out).encode()


def unpack(page: bytes, name: str):
    """Return the sheet that a page holds.

    Raises:
        LogError: The page is none of ours.
    """
    from taut.labels.sheet import Item, Sheet

    _, found, rest = page.partition(_START)
    block, closed, _ = rest.partition(_END)
    try:
        data = orjson.loads(block) if found and closed else None
    except orjson.JSONDecodeError:
        data = None
    if data is None:
        raise LogError(f"{name}: expected a page that `taut label draw` wrote, found another.")
    items = tuple(Item.model_validate(item) for item in data["items"])
    return Sheet(design=read_design(data[KEY], name), items=items, annotator=data["annotator"])

"""What a file is, by its first bytes: formats that are read, and what is handed over by mistake."""

import re
from typing import Literal

from taut.errors import LogError

Codec = Literal["gzip", "zstd"]
Format = Literal["parquet", "arrow", "jsonl", "json", "csv", "eval"]

_CODECS: dict[bytes, Codec] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BOM = b"\xef\xbb\xbf"
_EXPORT = "export the rollouts as Parquet or JSON lines"
_UNPICKLED = (
    "a pickle can run code and is never loaded. Load it where it was made and write one JSON "
    "object per rollout"
)
# Magic bytes, name, remedy.
_FOREIGN = (
    (b"BZh", "bzip2 data", "compress with gzip or zstd"),
    (b"\xfd7zXZ", "xz data", "compress with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "lz4 data", "compress with gzip or zstd"),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"SQLite", "an SQLite database", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x80\x02", "a pickle", _UNPICKLED),
    (b"\x80\x03", "a pickle", _UNPICKLED),
    (b"\x80\x04", "a pickle", _UNPICKLED),
    (b"\x80\x05", "a pickle", _UNPICKLED),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file", "fetch it: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)


_DIGITS = tuple(str(digit).encode() for digit in range(10))


def codec_of(head: bytes) -> Codec | None:
    """Return the compression around a file."""
    return next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None)


def format_of(name: str, head: bytes) -> Format:
    """Return what the (decompressed) bytes of a file are.

    Raises:
        LogError: They are none that can hold rollouts.
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"FEA1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(name, head)
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise LogError(f"{name}: expected Parquet or JSON lines, found {what}; {remedy}.")
    text = head.removeprefix(_BOM).lstrip()
    if b"\0" in head:
        raise LogError(
            f"{name}: expected Parquet or JSON lines, found binary data or UTF-16 text; "
            "export the rollouts as Parquet or as UTF-8 JSON lines."
        )
    return _of_text(name, text)


def delimiter_of(first: bytes) -> str:
    """Return what parts the cells of a table, by its line of names: the most common candidate."""
    return max(",;\t", key=lambda letter: first.count(letter.encode()))


def _of_zip(name: str, head: bytes) -> Format:
    if b"data.pkl" in head or b".pkl" in head or b"/byteorder" in head:
        raise LogError(
            f"{name}: expected Parquet or JSON lines, found a file of torch.save; {_UNPICKLED}: "
            "json.dumps({'prompt_id': …, 'reward': …}) for each sample."
        )
    if name.endswith(".npz"):
        raise LogError(f"{name}: expected Parquet or JSON lines, found NumPy arrays; {_EXPORT}.")
    return "eval"


def _of_text(name: str, text: bytes) -> Format:
    first = text.split(b"\n", 1)[0].strip()
    if text.startswith(b"[") or (
        first == b"{" or re.fullmatch(rb'\{\s*"[^"]*"\s*:\s*[\[{]', first)
    ):
        return "json"
    if text.startswith(b"{") or not text:
        return "jsonl"
    names = first.split(delimiter_of(first).encode())
    table = len(names) > 1 and all(re.fullmatch(rb'\s*"?[\w .:/-]+"?\s*', cell) for cell in names)
    if table and not text.startswith((b'"', b"-", *_DIGITS)):
        return "csv"
    if table and re.match(rb'"[A-Za-z_]', text):
        return "csv"
    if b"{" not in text and not text.startswith((b'"', b"-", b"[", *_DIGITS)):
        raise LogError(
            f"{name}: expected Parquet or JSON lines, found text that is neither JSON nor a table; "
            "name the file that holds the rollouts."
        )
    return "jsonl"

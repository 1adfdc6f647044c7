"""Files that are not on this machine: `s3://`, `gs://`, `hf://` and other places by their URL.

S3 and Google Cloud Storage are reached by PyArrow; Hugging Face and whatever else fsspec knows by
the extra `remote`. Only named places are reached: no cloud metadata service is asked for
credentials, unless AWS_EC2_METADATA_DISABLED says false. Reads are of ranges, so that columns that
are not needed are not fetched.
"""

import fnmatch
import os
import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from taut.errors import LogError, UsageError
from taut.logs.text import one_line, safe

_URL = re.compile(r"^[a-z][a-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?\[]")
_TRIES = 6  # of a request to S3 that fails for the moment
_DENIED = ("ACCESS_DENIED", "InvalidAccessKeyId", "SignatureDoesNotMatch", "credentials", "403")


def is_place(name: str) -> bool:
    """Whether a name is the URL of a place, not a path on this machine."""
    return bool(_URL.match(name)) and not name.startswith("file://")


def local_path(name: str) -> str:
    """Return a path without `file://`."""
    return unquote(urlsplit(name).path) if name.startswith("file://") else name


def open_file(path: str) -> pa.NativeFile:
    """Open a file for reading at any place in it, here or elsewhere.

    Raises:
        OSError: It cannot be opened here.
        LogError: It cannot be opened elsewhere.
    """
    if not is_place(path):
        return pa.OSFile(os.fsencode(path))
    system, inside = _at(path)
    try:
        return system.open_input_file(inside)
    except (OSError, pa.ArrowException) as problem:
        raise unreachable(path, problem) from None


def state_of(path: str) -> tuple[int, int, int, int]:
    """Return what tells whether a file elsewhere is still the same; bytes are the third of it.

    Raises:
        LogError: There is no such file, or it cannot be asked for.
    """
    info = _info(path)
    if info.type is not fs.FileType.File:
        raise LogError(f"{safe(path)}: expected a file, found {_kind(info)}; check the name.")
    return (0, 0, int(info.size or 0), int(info.mtime_ns or 0))


@lru_cache(maxsize=1024)
def read_whole(path: str) -> bytes | None:
    """Return the bytes of a small file elsewhere; None where there is none.

    Asked once for all files of a log: `sources.find` begins anew (`read_whole.cache_clear`).
    """
    if _info(path).type is not fs.FileType.File:
        return None
    with open_file(path) as file:
        return file.read()


def expand(item: str, wanted: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Return the files that a URL, a pattern or a folder elsewhere means, and whether listed.

    Args:
        item: The URL; `*`, `?` and `[…]` match within a name, `**` across folders.
        wanted: Endings of files that a folder is searched for.

    Raises:
        LogError: Nothing is there, or it cannot be asked.
    """
    if _MAGIC.search(item):
        root = item[: _MAGIC.search(item).start()].rpartition("/")[0]
        pattern = re.compile(_translated(item))
        found = [name for name in _below(root) if pattern.fullmatch(name)]
        if not found:
            told = "expected files that match, found none; check the pattern."
            raise LogError(f"{safe(item)}: {told}")
        return [(name, False) for name in sorted(found)]
    info = _info(item)
    if info.type is fs.FileType.File:
        return [(item, False)]
    if info.type is not fs.FileType.Directory:
        raise LogError(
            f"{safe(item)}: expected a file or folder, found nothing there; check the name."
        )
    root = item.rstrip("/")
    found = [
        name
        for name in _below(root)
        if name.lower().endswith(wanted)
        and not any(part[:1] in "._" for part in name[len(root) + 1 :].split("/"))
    ]
    if not found:
        raise LogError(
            f"{safe(item)}: expected log files below it ({', '.join(wanted[:4])}, …), found none."
        )
    return [(name, True) for name in sorted(found)]


def parent(path: str) -> str | None:
    """Return the folder of a URL; None above its bucket."""
    scheme, _, rest = path.partition("://")
    folder = posixpath.dirname(rest)
    return f"{scheme}://{folder}" if folder and folder != rest else None


def unreachable(path: str, problem: Exception) -> LogError:
    """Return the error of a place that does not answer, or not to us."""
    told = one_line(problem)
    if any(word in told for word in _DENIED):
        scheme = path.partition("://")[0]
        return LogError(
            f"{safe(path)}: expected credentials that may read it, found none or others; "
            f"{_CREDENTIALS.get(scheme, 'see the documentation of that store')} ({told[:200]})."
        )
    return LogError(
        f"{safe(path)}: expected a file that can be read, found {told[:300]}; check the name, the "
        "endpoint and the network."
    )


_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "set HF_TOKEN, or log in with its own command",
}


def _translated(pattern: str) -> str:
    """Return a pattern of file names as a regular expression; `*` stays within a name."""
    parts = []
    for part in re.split(r"(\*\*/?)", pattern):
        if part in ("**/", "**"):
            parts.append("(?:.*/)?" if part == "**/" else ".*")
        else:
            text = fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z")
            text = text.removeprefix("(?s:").removesuffix(")")
            parts.append(text.replace(".*", "[^/]*"))
    return "".join(parts)


def _below(root: str) -> Iterator[str]:
    """Yield the URLs of all files below a folder."""
    system, inside = _at(root)
    scheme = root.partition("://")[0]
    try:
        found = system.get_file_info(fs.FileSelector(inside, recursive=True, allow_not_found=True))
    except (OSError, pa.ArrowException) as problem:
        raise unreachable(root, problem) from None
    for info in found:
        if info.type is fs.FileType.File:
            yield f"{scheme}://{info.path.lstrip('/')}"


def _info(path: str) -> fs.FileInfo:
    system, inside = _at(path)
    try:
        return system.get_file_info(inside)
    except (OSError, pa.ArrowException) as problem:
        raise unreachable(path, problem) from None


def _kind(info: fs.FileInfo) -> str:
    return "a folder" if info.type is fs.FileType.Directory else "nothing there"


def _at(path: str) -> tuple[fs.FileSystem, str]:
    scheme, _, inside = path.partition("://")
    return _system(scheme, tuple(os.environ.get(name) for name in _ASKED)), inside.rstrip("/")


# What a file system is made from; one that is asked for under other settings is another one.
_ASKED = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
)


@lru_cache(maxsize=16)
def _system(scheme: str, settings: tuple[str | None, ...]) -> fs.FileSystem:
    """Return the file system of a scheme.

    Raises:
        UsageError: Nothing here knows the scheme.
    """
    try:
        if scheme == "s3":
            return _s3(dict(zip(_ASKED, settings, strict=True)))
        if scheme in ("gs", "gcs"):
            return fs.GcsFileSystem()
    except (OSError, pa.ArrowException, AttributeError) as problem:
        raise unreachable(f"{scheme}://", problem) from None
    return fs.PyFileSystem(fs.FSSpecHandler(_fsspec(scheme)))


def _s3(settings: dict[str, str | None]) -> fs.FileSystem:
    # Machines outside a cloud would wait for a service that is not there.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    endpoint = settings["AWS_ENDPOINT_URL_S3"] or settings["AWS_ENDPOINT_URL"]
    region = settings["AWS_REGION"] or settings["AWS_DEFAULT_REGION"]
    options: dict[str, Any] = {
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        "connect_timeout": 10,
        "request_timeout": 60,
    }
    if region or endpoint:
        options["region"] = region or "us-east-1"
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    return fs.S3FileSystem(**options)


def _fsspec(scheme: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs fsspec: install taut with its extra 'remote'."
        ) from error
    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as problem:
        raise UsageError(
            f"{scheme}:// is not known here: expected s3, gs, hf or what fsspec reads "
            f"({one_line(problem)})."
        ) from None

"""An S3 server for tests: list, head, ranged get, faults, and a count of what was sent."""

import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Handler(BaseHTTPRequestHandler):
    """Answers for the folder of its server; a bucket is a folder in it."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Say how large an object is."""
        self._object(body=False)

    def do_GET(self) -> None:
        """Give an object, a range of it, or a list."""
        if self._fails():
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        if "list-type" in query or url.path.strip("/").count("/") == 0:
            self._list(url.path.strip("/"), query)
        else:
            self._object(body=True)

    def _fails(self) -> bool:
        with self.server.lock:
            self.server.requests += 1
            if self.server.faults <= 0:
                return False
            self.server.faults -= 1
        body = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
        self._send(503, body, {"Content-Type": "application/xml"})
        return True

    def _object(self, *, body: bool) -> None:
        if self.server.denies:
            self._send(403, b"<Error><Code>AccessDenied</Code></Error>" if body else b"", {})
            return
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            missing = b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
            self._send(404, missing if body else b"", {"Content-Type": "application/xml"})
            return
        size = path.stat().st_size
        stamp = formatdate(path.stat().st_mtime, usegmt=True)
        headers = {"Last-Modified": stamp, "ETag": '"x"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not body:
            self._send(200, b"", {**headers, "Content-Length": str(size)})
            return
        begin, end = 0, size - 1
        if asked:
            begin = int(asked[1])
            end = min(int(asked[2] or size - 1), size - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin + 1)
        with self.server.lock:
            self.server.sent += len(data)
        self._send(206 if asked else 200, data, headers)

    def _list(self, bucket: str, query: dict) -> None:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        root = self.server.folder / bucket
        keys = sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        )
        keys = [key for key in keys if key.startswith(prefix)]
        folders = set()
        if delimiter:
            folders = {
                prefix + key[len(prefix) :].split(delimiter)[0] + delimiter
                for key in keys
                if delimiter in key[len(prefix) :]
            }
            keys = [key for key in keys if delimiter not in key[len(prefix) :]]
        parts = [
            f"<Contents><Key>{escape(key)}</Key><Size>{(root / key).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
            "</Contents>"
            for key in keys
        ]
        parts += [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in sorted(folders)
        ]
        text = (
            '<?xml version="1.0"?><ListBucketResult '
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(keys) + len(folders)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{''.join(parts)}</ListBucketResult>"
        )
        self._send(200, text.encode(), {"Content-Type": "application/xml"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """The server of a folder.

    Attributes:
        folder: Its buckets.
        sent: Bytes of objects that were sent.
        requests: Requests that were answered.
        faults: How many requests to refuse for the moment (503).
        denies: Whether all objects are refused (403).
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.lock = folder, threading.Lock()
        self.sent = self.requests = self.faults = 0
        self.denies = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

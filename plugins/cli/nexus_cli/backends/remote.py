"""`RemoteBackend`: a running server, over HTTP. It uses the standard library alone, so that it starts fast."""

from __future__ import annotations

import http.client
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from nexus_cli.backends.backend import OnEvent, StreamItem, credentials, encode_request, read_item, trace_of_environment
from nexus_cli.backends.login import stored_token
from nexus_cli.options import UsageError
from nexus_core.errors import BackendUnavailable, MalformedRequest, error_from_problem
from nexus_core.text import printable
from nexus_core.types.principal import RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_cli.options import Options

CONNECT_SECONDS = 10.0
_PATH = "/cli"
_CHUNK = 64 * 1024
_LEFT = re.compile(r";([qwrt])=([0-9]{1,15})\b")


class RemoteBackend:
    """Sends requests to a server's command-line port, over one connection.

    Args:
        url: Such as ``http://127.0.0.1:8001``, optionally with a path prefix.

    Raises:
        UsageError: The URL is not valid.
    """

    rate_limit: RateLimit | None = None
    shares_runs = True

    def __init__(self, url: str) -> None:
        self.where = url
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if _is_wrong(url) or host is None:
            raise UsageError(
                f"--connect (NEXUS_CONNECT): {printable(url)!r} is not a URL such as http://127.0.0.1:8001."
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=CONNECT_SECONDS)
        self._path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH

    def another(self) -> RemoteBackend:
        """See `CliBackend.another`."""
        return RemoteBackend(self.where)

    def call(self, request: dict[str, Any], options: Options, on_event: OnEvent | None = None) -> bytes:
        """See `CliBackend.call`."""
        headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
        token = options.token or stored_token(self.where)
        headers |= {name.title(): value for name, value in (credentials(token) or {}).items()}
        headers |= trace_of_environment() | options.headers
        if options.session:
            headers["X-Nexus-Session"] = options.session
        if options.idempotency_key is not None:
            headers["Idempotency-Key"] = options.idempotency_key
        for name, value in headers.items():
            if not value.isascii() or not value.isprintable():
                raise MalformedRequest(f"{name} contains a character that is not allowed in HTTP headers.")
        try:
            response = self._send(encode_request(request), headers, options.silence)
            self.rate_limit = _rate_limit(response)
            return self._reply(response, on_event)
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise self._unavailable(exc) from None
        except BaseException:
            self._connection.close()  # the server notices it, and cancels the run
            raise

    def _send(self, body: bytes, headers: dict[str, str], silence: float | None) -> http.client.HTTPResponse:
        """Send a request, on the open connection unless the server has closed it."""
        connection = self._connection
        if connection.sock is not None and _closed_by_peer(connection.sock):
            connection.close()
        if connection.sock is None:
            connection.connect()
        _wait(connection, silence)
        connection.request("POST", self._path, body, headers)
        return connection.getresponse()

    def _reply(self, response: http.client.HTTPResponse, on_event: OnEvent | None) -> bytes:
        kind = (response.headers.get("Content-Type") or "").split(";")[0]
        problem = _problem(response.read()) if kind == "application/problem+json" else None
        if problem is not None and response.status not in (404, 405):  # refused before the channel
            raise error_from_problem(problem)
        if kind != "application/x-ndjson":
            raise self._not_nexus(response)
        last: StreamItem | None = None
        for text in _lines(response):
            try:
                last = read_item(text)
            except msgspec.DecodeError:
                raise self._not_nexus(response) from None
            if last.event is not None and on_event is not None:
                on_event(last.event)
        if last is not None and last.error is not None:
            error = error_from_problem(last.error)
            error.reply = msgspec.json.decode(last.reply) if bytes(last.reply) else None
            raise error
        if last is None or not bytes(last.reply):
            raise BackendUnavailable(f"{self.where} closed the connection before the reply.")
        return bytes(last.reply)

    def _not_nexus(self, response: http.client.HTTPResponse) -> BackendUnavailable:
        self._connection.close()
        return BackendUnavailable(
            f"{printable(self.where, 200)} is not a Nexus command-line port: it answered {response.status} "
            f"{printable(response.reason or '')}. Check --connect (NEXUS_CONNECT); "
            "the port is cli_port, 8001 by default."
        )

    def _unavailable(self, exc: Exception) -> BackendUnavailable:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return BackendUnavailable(
            f"{printable(self.where, 200)} can't be reached: {printable(reason, 200)}. "
            "Is `nexus serve` running there? Check --connect (NEXUS_CONNECT)."
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _is_wrong(url: str) -> bool:
    """Whether a URL is not valid for a connection."""
    try:
        parts = urlsplit(url)
        return parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not url.isprintable()
    except ValueError:
        return True


def _wait(connection: http.client.HTTPConnection, seconds: float | None) -> None:
    """Set the time limit of a silent connection. Without one (runs may take long), keep-alive detects a lost peer."""
    connection.sock.settimeout(seconds)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _closed_by_peer(sock: socket.socket) -> bool:
    """Whether an idle connection was closed by the peer, or has unexpected data."""
    import select

    return bool(select.select([sock], [], [], 0)[0])


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield complete lines as they arrive."""
    parts: list[bytes] = []
    while chunk := response.read1(_CHUNK):
        *complete, rest = chunk.split(b"\n")
        for text in complete:
            yield b"".join([*parts, text])
            parts = []
        if rest:
            parts.append(rest)


def _rate_limit(response: http.client.HTTPResponse) -> RateLimit | None:
    """Return the rate limit in the headers, see `nexus_core.server.asgi.rate_limit_headers`."""
    text = "".join(response.headers.get(name, "") for name in ("RateLimit-Policy", "RateLimit"))
    found = {name: int(digits) for name, digits in _LEFT.findall(text)}
    return RateLimit(found["q"], found["w"], found["r"], found["t"]) if len(found) == 4 else None


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

"""`LoginReceiver`: receives the redirect of a login in a browser on this machine (RFC 8252, section 7.3)."""

from __future__ import annotations

import asyncio
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from nexus_auth.oauth.client import code_in
from nexus_auth.rejection import Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/callback"
MAX_REQUEST = 16 * 1024
REQUEST_SECONDS = 10.0
_HEAD = (
    "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n"
    "Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\n\r\n"
)
_PAGE = "<!doctype html><title>Nexus</title><p>{text}</p>"


class LoginReceiver:
    """Listens on a free port of 127.0.0.1 for one login.

    A request without its `state` gets 404 and changes nothing: any page can send a browser here.

    Args:
        state: The state that the issuer returns.
        metadata: The issuer's metadata.

    Attributes:
        redirect_uri: The URL that the issuer redirects to.
    """

    def __init__(self, state: str, metadata: Mapping[str, Any]) -> None:
        self._state = state
        self._metadata = metadata
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.redirect_uri = ""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_REQUEST)
        self.redirect_uri = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{PATH}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.close()
        self._code.cancel()

    async def code(self, seconds: float) -> str:
        """Return the code of the login.

        Raises:
            Rejected: The login failed, or another issuer redirected.
            TimeoutError: There was no redirect in time.
        """
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self._code)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, text = self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
                body = _PAGE.format(text=text).encode()
                writer.write(_HEAD.format(status=status, length=len(body)).encode() + body)
                await writer.drain()
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # not the redirect, which is still to come
        finally:
            writer.close()

    def _answer(self, line: str) -> tuple[str, str]:
        """Handle the first line of a request, and return the status and the text of the response."""
        method, _, rest = line.partition(" ")
        url = urlsplit(rest.partition(" ")[0])
        query = {name: values[0] for name, values in parse_qs(url.query).items() if len(values) == 1}
        known = compare_digest(query.get("state", "").encode(), self._state.encode())
        if method != "GET" or url.path != PATH or not known or self._code.done():
            return "404 Not Found", "Not found."
        try:
            self._code.set_result(code_in(query, self._metadata))
        except Rejected as exc:
            self._code.set_exception(exc)
            return "400 Bad Request", "The login failed. The command line shows the reason."
        return "200 OK", "You are logged in. You can close this page."
